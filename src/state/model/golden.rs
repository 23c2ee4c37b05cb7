//! HashKV against a real etcd's answers.

use bytes::Bytes;
use prost::Message;

use crate::base::Revision;
use crate::mvcc::hash::HashQuery;
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};
use crate::proto::mvccpb::KeyValue;

use super::world::World;

/// Histories that a real etcd 3.7.1 has had, and the hashes that it answered: by HashKV, and, as kept from its compactions.
///
/// ```text
/// rev OP;OP...        one txn: p KEY VALUE LEASE, d KEY, r KEY END (a range), f KEY (from it on)
/// compact R
/// hash R C HASH       HashKV at R, compacted to C
/// cached R C HASH     HashKV at R, which answers with what was hashed when C was compacted to R
/// ```
const GOLDEN: [&str; 4] = [
    include_str!("../../../tests/data/hashkv-1.txt"),
    include_str!("../../../tests/data/hashkv-2.txt"),
    include_str!("../../../tests/data/hashkv-3.txt"),
    include_str!("../../../tests/data/hashkv-4.txt"),
];

fn golden_op(op: &'static str) -> RequestOp {
    let words: Vec<&'static str> = op.split(' ').collect();
    let bytes = |place: usize| Bytes::from_static(words[place].as_bytes());
    let delete = |range_end| DeleteRangeRequest { key: bytes(1), range_end, prev_kv: false };
    let request = match words[0] {
        "p" => {
            let lease = words[3].parse().unwrap();
            Request::RequestPut(PutRequest { key: bytes(1), value: bytes(2), lease, ..PutRequest::default() })
        }
        "d" => Request::RequestDeleteRange(delete(Bytes::new())),
        "r" => Request::RequestDeleteRange(delete(bytes(2))),
        "f" => Request::RequestDeleteRange(delete(Bytes::from_static(b"\0"))),
        other => panic!("{other}"),
    };
    RequestOp { request: Some(request) }
}

fn run_golden(history: &'static str, shards: usize) {
    let mut world = World::new(1, shards);
    let mut hashes = 0;
    let mut cached = None;
    for line in history.lines() {
        let (kind, rest) = line.split_once(' ').unwrap();
        let numbers: Vec<i64> = rest.split(' ').filter_map(|word| word.parse().ok()).collect();
        match kind {
            "rev" => {
                let success: Vec<RequestOp> = rest.split(';').map(golden_op).collect();
                for op in &success {
                    if let Some(Request::RequestPut(put)) = &op.request {
                        world.naive.leases.insert(put.lease);
                    }
                }
                world.run_txn(TxnRequest { success, ..TxnRequest::default() });
            }
            "compact" => {
                world.progress(true);
                let revision = Revision(numbers[0] as u64);
                let query = HashQuery { revision, compacted: world.naive.compacted, at_compaction: true };
                cached = Some((query, world.hash(query)));
                world.compact_to(numbers[0]);
            }
            "hash" | "cached" => {
                let revision = Revision(numbers[0] as u64);
                let query = HashQuery { revision, compacted: numbers[1], at_compaction: kind == "cached" };
                if query.at_compaction {
                    assert_eq!(cached.take(), Some((query, numbers[2] as u32)), "{line}, {shards} shards");
                    continue;
                }
                world.progress(true);
                assert_eq!(world.hash(query), numbers[2] as u32, "{line}, {shards} shards");
                hashes += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert!(hashes > 20);
}

#[test]
fn hashes_are_those_of_etcd() {
    for history in GOLDEN {
        for shards in [1, 3, 16] {
            run_golden(history, shards);
        }
    }
}

#[test]
fn a_key_deleted_and_written_in_the_hashed_revision_is_not_kept() {
    let txn = |ops: &'static str| TxnRequest { success: ops.split(';').map(golden_op).collect(), ..TxnRequest::default() };
    let kept = KeyValue {
        key: Bytes::from_static(b"a"),
        create_revision: 2,
        mod_revision: 2,
        version: 1,
        value: Bytes::from_static(b"1"),
        lease: 0,
    };
    let rewritten = KeyValue { key: Bytes::from_static(b"b"), create_revision: 3, mod_revision: 3, ..kept.clone() };
    let stored = |main: u8, sub: u8, kv: &KeyValue| {
        [&[0, 0, 0, 0, 0, 0, 0, main, b'_', 0, 0, 0, 0, 0, 0, 0, sub][..], &kv.encode_to_vec()].concat()
    };
    for shards in [1, 4] {
        let mut world = World::new(1, shards);
        world.run_txn(txn("p a 1 0;p b 1 0"));
        world.run_txn(txn("f b;p b 1 0"));
        world.run_txn(txn("p c 1 0"));
        world.progress(true);
        let at = |revision, compacted| HashQuery { revision: Revision(revision), compacted, at_compaction: false };
        // At the revision itself: the tombstone never counts, the put does not belong to the keep set.
        let expected = [b"key".to_vec(), stored(2, 0, &kept)].concat();
        assert_eq!(world.hash(at(3, 3)), crc32c::crc32c(&expected));
        // Later on it does.
        let written = KeyValue { key: Bytes::from_static(b"c"), create_revision: 4, mod_revision: 4, ..kept.clone() };
        let expected = [expected, stored(3, 1, &rewritten), stored(4, 0, &written)].concat();
        assert_eq!(world.hash(at(4, 3)), crc32c::crc32c(&expected));
    }
}
