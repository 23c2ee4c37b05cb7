//! Random requests over a few keys, so that they meet.

use bytes::Bytes;

use crate::base::Prng;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::compare::TargetUnion;
use crate::proto::etcdserverpb::request_op::Request as Op;

pub fn key(rng: &mut Prng) -> Bytes {
    let i = rng.below(24);
    Bytes::from(format!(
        "{}{}",
        (b'a' + (i / 6) as u8) as char,
        if i.is_multiple_of(6) { String::new() } else { (i % 6).to_string() }
    ))
}

pub fn range_end(rng: &mut Prng) -> Bytes {
    match rng.below(6) {
        0 | 1 => Bytes::new(),
        2 => Bytes::from_static(b"\0"),
        _ => key(rng),
    }
}

pub fn value(rng: &mut Prng) -> Bytes {
    Bytes::from(vec![b'0' + rng.below(8) as u8; rng.below(6) as usize])
}

pub fn revision(rng: &mut Prng, current: u64) -> i64 {
    match rng.below(8) {
        0..=4 => 0,
        5 => current as i64 + rng.below(3) as i64 - 1,
        6 => -(rng.below(3) as i64),
        _ => 1 + rng.below(current) as i64,
    }
}

fn some(rng: &mut Prng, n: u64, current: u64) -> i64 {
    if rng.chance(1, n) { rng.below(current + 2) as i64 } else { 0 }
}

pub fn range(rng: &mut Prng, current: u64) -> pb::RangeRequest {
    let filtered = rng.chance(1, 4);
    let filter = |rng: &mut Prng| if filtered { some(rng, 2, current) } else { 0 };
    pb::RangeRequest {
        key: key(rng),
        range_end: range_end(rng),
        limit: if rng.chance(1, 2) { rng.below(8) as i64 } else { 0 },
        revision: revision(rng, current),
        // Ties of other sorts have no order of their own; those are in a test with unique values.
        sort_order: rng.below(3) as i32,
        sort_target: if rng.chance(1, 3) { rng.below(5) as i32 } else { 0 },
        serializable: rng.chance(1, 4),
        keys_only: rng.chance(1, 5),
        count_only: rng.chance(1, 8),
        min_mod_revision: filter(rng),
        max_mod_revision: filter(rng),
        min_create_revision: filter(rng),
        max_create_revision: filter(rng),
    }
}

pub fn put(rng: &mut Prng) -> pb::PutRequest {
    let (ignore_value, ignore_lease) = (rng.chance(1, 8), rng.chance(1, 8));
    pb::PutRequest {
        key: key(rng),
        value: if ignore_value { Bytes::new() } else { value(rng) },
        lease: if ignore_lease { 0 } else { some(rng, 4, 3) },
        prev_kv: rng.chance(1, 3),
        ignore_value,
        ignore_lease,
    }
}

pub fn delete(rng: &mut Prng) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key(rng), range_end: range_end(rng), prev_kv: rng.chance(1, 2) }
}

fn compare(rng: &mut Prng, current: u64) -> pb::Compare {
    let number = rng.below(current + 1) as i64;
    let target = rng.below(5) as i32;
    let target_union = match target {
        0 => TargetUnion::Version(rng.below(3) as i64),
        1 => TargetUnion::CreateRevision(number),
        2 => TargetUnion::ModRevision(number),
        3 => TargetUnion::Value(value(rng)),
        _ => TargetUnion::Lease(rng.below(3) as i64),
    };
    pb::Compare {
        result: rng.below(4) as i32,
        target,
        key: key(rng),
        target_union: rng.chance(7, 8).then_some(target_union),
        range_end: if rng.chance(1, 4) { range_end(rng) } else { Bytes::new() },
    }
}

pub fn txn(rng: &mut Prng, current: u64, depth: u32, reads: bool) -> pb::TxnRequest {
    let branch = |rng: &mut Prng| -> Vec<pb::RequestOp> {
        (0..rng.below(4))
            .map(|_| {
                let request = match rng.below(8) {
                    _ if reads => Op::RequestRange(range(rng, current)),
                    0..=2 => Op::RequestRange(range(rng, current)),
                    3..=4 => Op::RequestPut(put(rng)),
                    5..=6 => Op::RequestDeleteRange(delete(rng)),
                    _ if depth > 0 => Op::RequestTxn(txn(rng, current, depth - 1, false)),
                    _ => Op::RequestPut(put(rng)),
                };
                pb::RequestOp { request: Some(request) }
            })
            .collect()
    };
    let (success, failure) = (branch(rng), branch(rng));
    let compares = if rng.chance(1, 2) { rng.below(3) } else { 0 };
    let compare = (0..compares).map(|_| compare(rng, current)).collect();
    pb::TxnRequest { compare, success, failure }
}
