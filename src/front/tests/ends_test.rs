//! How calls end that are not simply answered: reigns that end, deadlines, cancels, full queues, alarms.

use std::time::Duration;

use bytes::Bytes;

use crate::base::limits::{CREDITS_PER_CORE, PARKED_CALLS_MAX};
use crate::base::{Prng, Revision};
use crate::front::call::{CallId, CallOptions, Code, Method, Status};
use crate::front::errors;
use crate::proto::etcdserverpb as pb;

use super::requests;
use super::world::{World, config};

fn put(key: &str) -> pb::PutRequest {
    pb::PutRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() }
}

fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() }
}

fn status(world: &World, id: u64) -> Option<Status> {
    world.clients[&id].status.clone()
}

#[test]
fn what_waits_when_a_reign_ends_has_an_unknown_outcome() {
    for seed in 0..100 {
        let mut world = World::new(4, seed);
        let mut writes = Vec::new();
        for round in 0..4 {
            for i in 0..10 {
                writes.push(world.call(Method::Put, &put(&format!("k{i}"))));
                for _ in 0..world.rng.below(6) {
                    world.step();
                }
            }
            let before = world.cores.model.current;
            world.cores.end_reign();
            let kept = world.cores.model.current;
            assert!(kept <= before);
            world.pump();
            for &id in &writes {
                let client = &world.clients[&id];
                match &client.status {
                    Some(status) if status.is_ok() => {
                        let revision = client.message::<pb::PutResponse>(0).header.unwrap().revision;
                        assert!(revision <= kept as i64, "round {round}: what was answered is kept");
                    }
                    other => assert_eq!(*other, Some(errors::LEADER_CHANGED), "round {round}"),
                }
            }
            writes.clear();
            let parked = world.call(Method::Put, &put("parked"));
            world.settle();
            assert_eq!(status(&world, parked), None);
            world.cores.next_reign();
            world.settle();
            assert_eq!(status(&world, parked), Some(Status::OK));
        }
        assert_eq!(world.front.load().asked, 0);
    }
}

#[test]
fn calls_wait_for_the_first_reign_and_not_for_ever() {
    let mut world = World::leaderless(config(4, 2, 1), 1);
    let require = CallOptions { require_leader: true, ..Default::default() };
    let first = world.call(Method::Put, &put("k"));
    let patient = world.open_with(Method::Range, require.clone());
    world.send(patient, &get("k"));
    let bad = world.call(Method::Put, &put(""));
    let mut serializable = get("k");
    serializable.serializable = true;
    let local = world.call(Method::Range, &serializable);
    world.settle();
    assert_eq!((status(&world, first), status(&world, patient)), (None, None));
    assert_eq!(status(&world, bad), Some(errors::EMPTY_KEY), "what is wrong is wrong without a leader too");
    assert_eq!(status(&world, local), Some(Status::OK));
    world.pass(Duration::from_secs(6));
    assert_eq!(status(&world, first), None);
    world.pass(Duration::from_secs(2));
    assert_eq!(status(&world, first), Some(errors::TIMEOUT), "5 s and two election timeouts");
    let second = world.call(Method::Put, &put("k"));
    let reign = world.cores.reign.clone();
    world.front.core_message(world.now, crate::shard::messages::ToFront::Leading(reign));
    world.settle();
    assert_eq!(status(&world, second), Some(Status::OK));
    world.cores.end_reign();
    world.pump();
    let now = world.open_with(Method::Range, require);
    assert_eq!(status(&world, now), Some(errors::NO_LEADER), "once there was a leader, who wants one is told at once");
}

#[test]
fn what_waits_for_a_reign_is_bounded() {
    let mut world = World::leaderless(config(1, 1, 1), 1);
    for round in 0..3 {
        let large = pb::PutRequest { value: Bytes::from(vec![0; 1 << 20]), ..put("k") };
        let ids: Vec<u64> = (0..65).map(|_| world.call(Method::Put, &large)).collect();
        let refused = ids.iter().filter(|&&id| status(&world, id) == Some(errors::TOO_MANY_REQUESTS)).count();
        assert_eq!(refused, 2, "round {round}: 64 MiB, less the messages' own fields");
        world.pass(Duration::from_secs(8));
    }
    for _ in 0..PARKED_CALLS_MAX {
        world.call(Method::Put, &put("k"));
    }
    let more = world.call(Method::Put, &put("k"));
    assert_eq!(status(&world, more), Some(errors::TOO_MANY_REQUESTS));
    world.pass(Duration::from_secs(8));
    let again = world.call(Method::Put, &put("k"));
    assert_eq!(status(&world, again), None, "those that gave up make room");
}

#[test]
fn streams_that_want_a_leader_end_when_there_is_none_for_long() {
    let mut world = World::new(1, 1);
    let require = CallOptions { require_leader: true, ..Default::default() };
    let watch = world.open_with(Method::Watch, require.clone());
    let alive = world.open_with(Method::LeaseKeepAlive, require);
    let content = world.open(Method::Watch);
    world.cores.end_reign();
    world.pump();
    world.pass(Duration::from_millis(2900));
    assert_eq!((status(&world, watch), status(&world, alive)), (None, None));
    world.pass(Duration::from_millis(200));
    assert_eq!((status(&world, watch), status(&world, alive)), (Some(errors::NO_LEADER), Some(errors::NO_LEADER)));
    assert_eq!(status(&world, content), None);
}

#[test]
fn deadlines_and_cancels_drop_what_is_queued() {
    let mut world = World::new(4, 3);
    let deadline = Some(world.now + Duration::from_millis(50));
    let late = world.open_with(Method::Put, CallOptions { deadline, ..Default::default() });
    world.send(late, &put("k"));
    let gone = world.call(Method::Put, &put("k"));
    let slow = world.call(Method::Put, &put("k"));
    world.front.cancel(CallId(gone));
    world.effects(None);
    world.pass(Duration::from_millis(60));
    assert_eq!(status(&world, late), Some(errors::DEADLINE_EXCEEDED));
    assert_eq!(status(&world, gone), None, "a call that is gone is told nothing");
    world.pass(Duration::from_secs(7));
    assert_eq!(status(&world, slow), Some(errors::TIMEOUT));
    world.settle();
    assert_eq!(world.cores.cancelled, 3);
    assert_eq!((world.front.load().calls, world.front.load().asked), (0, 0));
}

#[test]
fn reads_of_calls_that_are_gone_are_dropped() {
    let mut world = World::new(4, 3);
    let all = pb::RangeRequest { range_end: Bytes::from("\0"), limit: 5, ..get("a") };
    let read = world.call(Method::Range, &all);
    world.settle();
    assert_eq!((status(&world, read), world.cores.cancelled), (Some(Status::OK), 0), "what is answered is not cancelled");
    let key = world.call(Method::Range, &get("k"));
    let list = world.call(Method::Range, &all);
    let stream = world.call(Method::RangeStream, &all);
    let hash = world.call(Method::HashKV, &pb::HashKvRequest { revision: 0 });
    let deadline = Some(world.now + Duration::from_millis(50));
    let late = world.open_with(Method::Range, CallOptions { deadline, ..Default::default() });
    world.send(late, &all);
    [key, list, stream, hash].into_iter().for_each(|id| world.front.cancel(CallId(id)));
    world.effects(None);
    world.pass(Duration::from_millis(60));
    assert_eq!(status(&world, late), Some(errors::DEADLINE_EXCEEDED));
    world.settle();
    assert_eq!(world.cores.cancelled, 1 + 4 * 4, "one group for a key, four for each of the others");
    assert_eq!((world.front.load().calls, world.front.load().asked), (0, 0));
}

#[test]
fn what_waits_for_a_credit_when_its_call_ends_is_not_asked() {
    let mut world = World::new(1, 1);
    for _ in 0..CREDITS_PER_CORE - 1 {
        world.call(Method::Put, &put("k"));
    }
    let range = pb::RequestOp { request: Some(pb::request_op::Request::RequestRange(get("k"))) };
    let txn = pb::TxnRequest { success: vec![range; 5], ..Default::default() };
    let read = world.call(Method::Txn, &txn);
    assert_eq!(world.front.load().asked, CREDITS_PER_CORE + 4);
    world.front.cancel(CallId(read));
    world.effects(None);
    world.settle();
    assert_eq!((world.front.load().calls, world.front.load().asked), (0, 0));
    for _ in 0..CREDITS_PER_CORE {
        world.call(Method::Put, &put("k"));
    }
    let more = world.call(Method::Put, &put("k"));
    assert_eq!(status(&world, more), Some(errors::TOO_MANY_REQUESTS), "every credit has come back, and none twice");
}

#[test]
fn clients_that_go_away_at_any_moment_leave_nothing_behind() {
    for seed in 0..200 {
        let mut world = World::new([1, 4, 16][seed as usize % 3], seed);
        world.cores.checks_removed = false;
        let mut rng = Prng::new(seed);
        let mut open: Vec<u64> = Vec::new();
        for _ in 0..100 {
            let current = world.cores.model.current;
            let id = match rng.below(5) {
                0 => world.call(Method::Range, &requests::range(&mut rng, current)),
                1 => world.call(Method::Txn, &requests::txn(&mut rng, current, 2, false)),
                2 => world.call(Method::RangeStream, &pb::RangeRequest { range_end: Bytes::from("\0"), ..get("a") }),
                3 => world.call(Method::HashKV, &pb::HashKvRequest { revision: 0 }),
                _ => world.call(Method::DeleteRange, &requests::delete(&mut rng)),
            };
            open.push(id);
            for _ in 0..rng.below(8) {
                world.step();
            }
            if rng.chance(1, 3) {
                let id = open.swap_remove(rng.below(open.len() as u64) as usize);
                world.front.cancel(CallId(id));
                world.effects(None);
            }
        }
        world.settle();
        assert_eq!((world.front.load().calls, world.front.load().asked), (0, 0));
        assert_eq!(world.cores.board.lowest_read(), Revision::MAX);
    }
}

#[test]
fn a_core_takes_no_more_than_its_credits() {
    let mut world = World::new(1, 1);
    for _ in 0..CREDITS_PER_CORE {
        world.call(Method::Put, &put("k"));
    }
    let more = world.call(Method::Put, &put("k"));
    assert_eq!(status(&world, more), Some(errors::TOO_MANY_REQUESTS));
    assert_eq!(errors::TOO_MANY_REQUESTS.code, Code::Unknown);
    let read = world.call(Method::Range, &get("k"));
    assert_eq!(status(&world, read), Some(errors::TOO_MANY_REQUESTS));
    for _ in 0..10 {
        world.cores.step();
    }
    world.pump();
    let again = world.call(Method::Put, &put("k"));
    assert_eq!(status(&world, again), None, "a credit came back");
}

#[test]
fn a_used_up_quota_raises_the_alarm_and_refuses() {
    let mut small = config(4, 2, 1);
    small.quota_bytes = 10_000;
    let mut world = World::with(small, 1);
    world.cores.board.publish_bytes(crate::base::GroupId(1), 9_740, 0);
    assert_eq!(world.done(Method::Put, &put("k")).status, Some(Status::OK));
    let large = pb::PutRequest { value: Bytes::from("v".repeat(10)), ..put("") };
    assert_eq!(world.done(Method::Put, &large).status, Some(errors::NO_SPACE), "the quota is looked at first");
    assert_eq!(world.cores.alarms.len(), 1);
    assert_eq!(world.done(Method::Put, &put("k")).status, Some(errors::NO_SPACE));
    assert_eq!(world.done(Method::LeaseGrant, &pb::LeaseGrantRequest { ttl: 9, id: 1 }).status, Some(errors::NO_SPACE));
    let delete = pb::DeleteRangeRequest { key: Bytes::from("k"), ..Default::default() };
    assert_eq!(world.done(Method::DeleteRange, &delete).status, Some(Status::OK));
    assert_eq!(world.done(Method::Range, &get("k")).status, Some(Status::OK));
    let line = format!("memberID:{} alarm:NOSPACE", super::world::MEMBER);
    assert_eq!(world.done(Method::Status, &pb::StatusRequest {}).only::<pb::StatusResponse>().errors, [line]);
    world.cores.board.publish_bytes(crate::base::GroupId(1), 100, 0);
    let disarm = pb::AlarmRequest { action: 2, member_id: super::world::MEMBER, alarm: 1 };
    let response: pb::AlarmResponse = world.done(Method::Alarm, &disarm).only();
    assert_eq!(response.alarms, [pb::AlarmMember { member_id: super::world::MEMBER, alarm: 1 }]);
    assert_eq!(world.done(Method::Put, &put("k")).status, Some(Status::OK));
}

#[test]
fn a_corrupt_store_is_read_and_not_changed() {
    let mut world = World::new(4, 1);
    world.done(Method::Alarm, &pb::AlarmRequest { action: 1, member_id: 7, alarm: 2 });
    let delete = pb::DeleteRangeRequest { key: Bytes::from("k"), ..Default::default() };
    let txn = pb::TxnRequest {
        success: vec![pb::RequestOp { request: Some(pb::request_op::Request::RequestDeleteRange(delete.clone())) }],
        ..Default::default()
    };
    assert_eq!(world.done(Method::Put, &put("k")).status, Some(errors::CORRUPT));
    assert_eq!(world.done(Method::DeleteRange, &delete).status, Some(errors::CORRUPT));
    assert_eq!(world.done(Method::Txn, &txn).status, Some(errors::CORRUPT));
    assert_eq!(world.done(Method::Compact, &pb::CompactionRequest::default()).status, Some(errors::CORRUPT));
    assert_eq!(world.done(Method::LeaseRevoke, &pb::LeaseRevokeRequest { id: 1 }).status, Some(errors::CORRUPT));
    assert_eq!(world.done(Method::Range, &get("k")).status, Some(Status::OK));
    assert_eq!(world.done(Method::Txn, &pb::TxnRequest::default()).status, Some(Status::OK));
}

#[test]
fn what_is_no_request_is_refused() {
    let mut world = World::new(1, 1);
    let garbage = world.open(Method::Put);
    world.send_raw(garbage, Bytes::from_static(b"\xff\xff\xff"));
    assert_eq!(status(&world, garbage), Some(errors::undecodable_request()));
    let stream = world.open(Method::Watch);
    world.send_raw(stream, Bytes::from_static(b"\xff\xff\xff"));
    assert_eq!(status(&world, stream), Some(errors::undecodable_message()));
    let version = Some(Bytes::from_static(b"\xff"));
    let odd = world.open_with(Method::Put, CallOptions { api_version: version, ..Default::default() });
    assert_eq!(status(&world, odd), Some(errors::INVALID_CLIENT_API_VERSION));
    let large = pb::PutRequest { value: Bytes::from(vec![0; 1_572_864]), ..put("k") };
    assert_eq!(world.done(Method::Put, &large).status, Some(errors::REQUEST_TOO_LARGE));
    let load = world.front.load();
    assert_eq!((load.calls, load.watch_streams), (0, 0));
}
