//! Random requests.

use bytes::Bytes;

use crate::proto::etcdserverpb::compare::TargetUnion;
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

use super::world::World;

impl World {
    pub(super) fn key(&mut self) -> Bytes {
        const KEYS: [&[u8]; 12] =
            [b"a", b"a\0", b"a\0\0", b"a\0\x01", b"ab", b"b", b"b\xFF", b"c", b"\0", b"\xFF\xFF", b"d", b"long"];
        let key = KEYS[self.rng.below(12) as usize];
        // One key is longer than the stack buffer of keys, and than what a page holds of a key.
        if key == b"long" { Bytes::from([key, &[b'x'; 1500]].concat()) } else { Bytes::from_static(key) }
    }

    pub(super) fn end(&mut self) -> Bytes {
        match self.rng.below(6) {
            0 => Bytes::from_static(b"\0"),
            1 | 2 => self.key(),
            _ => Bytes::new(),
        }
    }

    pub(super) fn value(&mut self) -> Bytes {
        let length = if self.rng.chance(1, 10) { self.rng.below(9000) } else { self.rng.below(60) };
        Bytes::from(vec![b'0' + self.rng.below(5) as u8; length as usize])
    }

    pub(super) fn put_request(&mut self) -> PutRequest {
        let ignore_value = self.rng.chance(1, 8);
        let ignore_lease = self.rng.chance(1, 8);
        PutRequest {
            key: self.key(),
            value: if ignore_value { Bytes::new() } else { self.value() },
            lease: if ignore_lease { 0 } else { [0, 0, 0, 1, 2, 1, 2, 9][self.rng.below(8) as usize] },
            prev_kv: self.rng.chance(1, 2),
            ignore_value,
            ignore_lease,
        }
    }

    pub(super) fn delete_request(&mut self) -> DeleteRangeRequest {
        DeleteRangeRequest { key: self.key(), range_end: self.end(), prev_kv: self.rng.chance(1, 2) }
    }

    pub(super) fn range_request(&mut self) -> RangeRequest {
        let revision = self.naive.revision + 1;
        RangeRequest {
            key: self.key(),
            range_end: self.end(),
            revision: if self.rng.chance(1, 4) { self.rng.below(revision as u64 + 2) as i64 - 1 } else { 0 },
            keys_only: self.rng.chance(1, 4),
            count_only: self.rng.chance(1, 8),
            min_mod_revision: if self.rng.chance(1, 8) { self.rng.below(revision as u64 + 2) as i64 } else { 0 },
            ..RangeRequest::default()
        }
    }

    pub(super) fn compare_request(&mut self) -> Compare {
        let number = self.rng.below(4) as i64;
        let revision = self.rng.below(self.naive.revision as u64 + 2) as i64;
        let target_union = match self.rng.below(6) {
            0 => TargetUnion::Version(number),
            1 => TargetUnion::CreateRevision(revision),
            2 => TargetUnion::ModRevision(revision),
            3 => TargetUnion::Value(self.value()),
            4 => TargetUnion::Lease(number),
            _ => TargetUnion::Version(0),
        };
        let target = match target_union {
            TargetUnion::Version(_) => 0,
            TargetUnion::CreateRevision(_) => 1,
            TargetUnion::ModRevision(_) => 2,
            TargetUnion::Value(_) => 3,
            TargetUnion::Lease(_) => 4,
        };
        let target_union = Some(target_union).filter(|_| !self.rng.chance(1, 10));
        Compare { result: self.rng.below(4) as i32, target, key: self.key(), range_end: self.end(), target_union }
    }

    pub(super) fn ops(&mut self, depth: u32) -> Vec<RequestOp> {
        let count = self.rng.below(4);
        let mut ops = Vec::new();
        for _ in 0..count {
            let request = match self.rng.below(8) {
                0..=2 => Request::RequestPut(self.put_request()),
                3 | 4 => Request::RequestDeleteRange(self.delete_request()),
                5 if depth < 3 => Request::RequestTxn(self.txn_request(depth + 1)),
                _ => Request::RequestRange(self.range_request()),
            };
            ops.push(RequestOp { request: Some(request) });
        }
        ops
    }

    pub(super) fn txn_request(&mut self, depth: u32) -> TxnRequest {
        let compare = (0..self.rng.below(3)).map(|_| self.compare_request()).collect();
        TxnRequest { compare, success: self.ops(depth), failure: self.ops(depth) }
    }
}
