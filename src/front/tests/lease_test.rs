//! Leases, and what Maintenance, Cluster and Health say.

use bytes::Bytes;

use crate::front::call::{Code, Method, Status};
use crate::front::errors;
use crate::proto::etcdserverpb as pb;
use crate::proto::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse};
use crate::shard::messages::ToFront;

use super::world::World;

fn grant(id: i64, ttl: i64) -> pb::LeaseGrantRequest {
    pb::LeaseGrantRequest { ttl, id }
}

#[test]
fn leases_are_granted_listed_looked_at_and_revoked() {
    let mut world = World::new(4, 1);
    let short: pb::LeaseGrantResponse = world.done(Method::LeaseGrant, &grant(7, -5)).only();
    assert_eq!((short.id, short.ttl, short.header), (7, 2, world.header(1)));
    let named: pb::LeaseGrantResponse = world.done(Method::LeaseGrant, &grant(0, 60)).only();
    assert!(named.id > 0 && named.ttl == 60);
    assert_eq!(world.done(Method::LeaseGrant, &grant(7, 60)).status, Some(errors::LEASE_EXISTS));
    assert_eq!(world.done(Method::LeaseGrant, &grant(8, 9_000_000_001)).status, Some(errors::LEASE_TTL_TOO_LARGE));
    for i in 0..9 {
        let put = pb::PutRequest { key: Bytes::from(format!("k{i}")), lease: named.id, ..Default::default() };
        world.done(Method::Put, &put).only::<pb::PutResponse>();
    }
    let ask = pb::LeaseTimeToLiveRequest { id: named.id, keys: true };
    let left: pb::LeaseTimeToLiveResponse = world.done(Method::LeaseTimeToLive, &ask).only();
    let keys: Vec<Bytes> = (0..9).map(|i| Bytes::from(format!("k{i}"))).collect();
    assert_eq!((left.ttl, left.granted_ttl, left.header), (59, 60, world.header(10)));
    assert_eq!(left.keys, keys);
    let ask = pb::LeaseTimeToLiveRequest { id: 99, keys: true };
    let left: pb::LeaseTimeToLiveResponse = world.done(Method::LeaseTimeToLive, &ask).only();
    assert_eq!((left.id, left.ttl, left.granted_ttl), (99, -1, 0));
    let all: pb::LeaseLeasesResponse = world.done(Method::LeaseLeases, &pb::LeaseLeasesRequest {}).only();
    assert_eq!(all.leases.len(), 2);
    world.done(Method::LeaseRevoke, &pb::LeaseRevokeRequest { id: 7 }).only::<pb::LeaseRevokeResponse>();
    let gone = world.done(Method::LeaseRevoke, &pb::LeaseRevokeRequest { id: 7 });
    assert_eq!(gone.status, Some(errors::LEASE_NOT_FOUND));
}

#[test]
fn a_stream_of_keep_alives_answers_in_order_and_ends_with_its_client() {
    let mut world = World::new(4, 1);
    world.done(Method::LeaseGrant, &grant(7, 60));
    let stream = world.open(Method::LeaseKeepAlive);
    for id in [7, 8, 7] {
        world.send(stream, &pb::LeaseKeepAliveRequest { id });
    }
    world.front.half_close(world.now, crate::front::CallId(stream));
    world.effects(None);
    assert_eq!(world.clients[&stream].status, None, "what was asked is answered first");
    world.settle();
    let client = &world.clients[&stream];
    let got: Vec<(i64, i64)> =
        (0..3).map(|at| client.message::<pb::LeaseKeepAliveResponse>(at)).map(|r| (r.id, r.ttl)).collect();
    assert_eq!(got, [(7, 60), (8, 0), (7, 60)]);
    assert_eq!(client.status, Some(Status::OK));
}

#[test]
fn keep_alives_wait_for_a_reign() {
    let mut world = World::new(1, 1);
    world.done(Method::LeaseGrant, &grant(7, 60));
    let stream = world.open(Method::LeaseKeepAlive);
    world.cores.end_reign();
    world.pump();
    world.send(stream, &pb::LeaseKeepAliveRequest { id: 7 });
    world.settle();
    assert!(world.clients[&stream].received.is_empty());
    world.cores.next_reign();
    world.settle();
    assert_eq!(world.clients[&stream].received.len(), 1);
}

#[test]
fn status_members_and_health_are_told() {
    let mut world = World::new(4, 1);
    world.put("k", "v");
    let status: pb::StatusResponse = world.done(Method::Status, &pb::StatusRequest {}).only();
    assert_eq!((status.version.as_str(), status.storage_version.as_str()), ("3.7.1", "3.7.0"));
    assert_eq!((status.leader, status.header, status.db_size_quota), (super::world::MEMBER, world.header(2), 2 << 30));
    assert!(status.errors.is_empty() && status.downgrade_info.is_some());
    let alarms = [(0, 1), (5, 2), (6, 9)].map(|(member_id, alarm)| pb::AlarmMember { member_id, alarm });
    world.front.core_message(world.now, ToFront::Alarms(std::sync::Arc::new(alarms.to_vec())));
    let status: pb::StatusResponse = world.done(Method::Status, &pb::StatusRequest {}).only();
    assert_eq!(status.errors, ["alarm:NOSPACE", "memberID:5 alarm:CORRUPT", "memberID:6 alarm:9"]);
    let member = pb::Member { id: 5, name: "default".to_owned(), ..Default::default() };
    world.front.core_message(world.now, ToFront::Members(std::sync::Arc::new(vec![member.clone()])));
    let list: pb::MemberListResponse = world.done(Method::MemberList, &pb::MemberListRequest { linearizable: true }).only();
    assert_eq!((list.members, list.header.unwrap().revision), (vec![member], 0));
    let defragmented: pb::DefragmentResponse = world.done(Method::Defragment, &pb::DefragmentRequest {}).only();
    assert_eq!(defragmented.header, None);
    let check = |service: &str| HealthCheckRequest { service: service.to_owned() };
    let health: HealthCheckResponse = world.done(Method::HealthCheck, &check("")).only();
    assert_eq!(health.status, 1);
    assert_eq!(world.done(Method::HealthCheck, &check("x")).status, Some(errors::UNKNOWN_SERVICE));
    let watch = world.call(Method::HealthWatch, &check("x"));
    assert_eq!((world.clients[&watch].received.len(), &world.clients[&watch].status), (1, &None));
    let lock = world.done(Method::Lock, &crate::proto::v3lockpb::LockRequest::default());
    assert_eq!(lock.status.as_ref().map(|s| s.code), Some(Code::Unimplemented));
}

#[test]
fn hashes_say_what_they_are_of() {
    let mut world = World::new(4, 1);
    for _ in 0..4 {
        world.put("k", "v");
    }
    let hash: pb::HashKvResponse = world.done(Method::HashKV, &pb::HashKvRequest { revision: 0 }).only();
    assert_eq!((hash.compact_revision, hash.hash_revision, hash.header), (-1, 5, world.header(5)));
    world.done(Method::Compact, &pb::CompactionRequest { revision: 3, physical: true });
    let hash: pb::HashKvResponse = world.done(Method::HashKV, &pb::HashKvRequest { revision: 4 }).only();
    assert_eq!((hash.compact_revision, hash.hash_revision), (3, 4));
    let hash: pb::HashKvResponse = world.done(Method::HashKV, &pb::HashKvRequest { revision: 3 }).only();
    assert_eq!((hash.compact_revision, hash.hash_revision, hash.header), (-1, 3, world.header(5)), "the compaction's own");
    world.done(Method::Compact, &pb::CompactionRequest { revision: 4, physical: false });
    let hash: pb::HashKvResponse = world.done(Method::HashKV, &pb::HashKvRequest { revision: 3 }).only();
    assert_eq!(hash.compact_revision, -1, "it outlives what it is of");
    let hash: pb::HashKvResponse = world.done(Method::HashKV, &pb::HashKvRequest { revision: 4 }).only();
    assert_eq!(hash.compact_revision, 3);
    let hash: pb::HashKvResponse = world.done(Method::HashKV, &pb::HashKvRequest { revision: -1 }).only();
    assert_eq!((hash.compact_revision, hash.hash_revision), (4, -1), "nothing is up to a negative revision");
    assert_eq!(world.done(Method::HashKV, &pb::HashKvRequest { revision: 2 }).status, Some(errors::COMPACTED));
    assert_eq!(world.done(Method::HashKV, &pb::HashKvRequest { revision: 9 }).status, Some(errors::FUTURE_REVISION));
    assert_eq!(world.cores.board.lowest_read(), crate::base::Revision::MAX);
}

#[test]
fn a_compaction_to_0_counts_once() {
    let mut world = World::new(4, 1);
    world.put("k", "v");
    world.done(Method::Compact, &pb::CompactionRequest { revision: 0, physical: true }).only::<pb::CompactionResponse>();
    let again = world.done(Method::Compact, &pb::CompactionRequest { revision: 0, physical: true });
    assert_eq!(again.status, Some(errors::COMPACTED));
    let hash: pb::HashKvResponse = world.done(Method::HashKV, &pb::HashKvRequest { revision: 2 }).only();
    assert_eq!((hash.compact_revision, hash.hash_revision), (0, 2));
    let hash: pb::HashKvResponse = world.done(Method::HashKV, &pb::HashKvRequest { revision: 0 }).only();
    assert_eq!((hash.compact_revision, hash.hash_revision), (-1, 0), "what that compaction left, as with etcd");
}
