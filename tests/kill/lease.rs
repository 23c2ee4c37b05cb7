//! The end of a lease with many keys: more bytes of keys than a batch of the log takes, deleted in one revision.

use bytes::Bytes;
use etcring::proto::etcdserverpb as pb;

use crate::support::grpc::{Client, LEASE_GRANT, LEASE_REVOKE, PUT, RANGE, block_on, bytes};
use crate::support::process::{Spec, TestDir};

const KEY_BYTES: usize = 64 << 10;
/// More than 16 MiB of keys.
const KEYS: usize = 300;
const LEASE: i64 = 7;

fn key(number: usize) -> Bytes {
    Bytes::from(format!("key-{number:0width$}", width = KEY_BYTES - 4))
}

/// How many keys live, and the revision.
async fn state(client: &Client) -> (i64, i64) {
    let all = pb::RangeRequest { key: bytes("\0"), range_end: bytes("\0"), count_only: true, ..Default::default() };
    let answer = client.must::<pb::RangeResponse>(RANGE, &all).await;
    (answer.count, answer.header.expect("a header").revision)
}

#[test]
fn a_lease_with_more_keys_than_a_batch_takes_is_revoked_in_one_revision() {
    let dir = TestDir::new("large-lease");
    let spec = Spec::new(dir.path()).with(&["--shards", "1"]);
    let mut member = spec.start();
    let before = block_on(async {
        let client = Client::connect(member.port).await.expect("a member that serves");
        client.must::<pb::LeaseGrantResponse>(LEASE_GRANT, &pb::LeaseGrantRequest { ttl: 1000, id: LEASE }).await;
        for number in 0..KEYS {
            let put = pb::PutRequest { key: key(number), lease: LEASE, ..Default::default() };
            client.must::<pb::PutResponse>(PUT, &put).await;
        }
        client.put("kept", b"without a lease").await;
        state(&client).await
    });
    assert_eq!(before.0, KEYS as i64 + 1);
    let after = block_on(async {
        let client = Client::connect(member.port).await.expect("a member that serves");
        client.must::<pb::LeaseRevokeResponse>(LEASE_REVOKE, &pb::LeaseRevokeRequest { id: LEASE }).await;
        state(&client).await
    });
    assert_eq!(after, (1, before.1 + 1));
    member.kill();
    let again = spec.start();
    assert_eq!(block_on(async { state(&Client::connect(again.port).await.expect("a member that serves")).await }), after);
}
