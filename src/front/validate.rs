//! What is wrong with a request whatever the state: etcd's checks of syntax, in its order, with its holes.
//!
//! Source: etcd 3.7.1, `server/etcdserver/api/v3rpc/key.go` and `server/etcdserver/v3_server.go`.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use hashbrown::HashSet;
use prost::Message;

use crate::base::limits::{LEASE_TTL_MAX, TXN_DEPTH_MAX};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::request_op::Request as Op;

use super::call::Status;
use super::errors;

/// What etcd's raft entry adds to a request: its header and the tag of the request's field.
const ENTRY_OVERHEAD_BYTES: usize = 14;
/// What etcd reckons for the metadata of a key, when it checks the quota.
const QUOTA_KEY_BYTES: u64 = 256;
/// What etcd reckons for a lease.
pub const QUOTA_LEASE_BYTES: u64 = 64;

/// Decodes a unary request; the values in it share the message's memory.
pub fn request<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|_| errors::undecodable_request())
}

/// Decodes a message of a stream.
pub fn stream_message<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|_| errors::undecodable_message())
}

/// Whether a request of `len` bytes makes a raft entry of etcd's that is over --max-request-bytes.
pub fn size(len: usize, request_bytes_max: usize) -> Result<(), Status> {
    let entry = len + ENTRY_OVERHEAD_BYTES + prost::length_delimiter_len(len);
    if entry > request_bytes_max { Err(errors::REQUEST_TOO_LARGE) } else { Ok(()) }
}

/// Range, alone or in a txn.
pub fn range(r: &pb::RangeRequest) -> Result<(), Status> {
    if r.key.is_empty() {
        return Err(errors::EMPTY_KEY);
    }
    if pb::range_request::SortOrder::try_from(r.sort_order).is_err()
        || pb::range_request::SortTarget::try_from(r.sort_target).is_err()
    {
        return Err(errors::INVALID_SORT_OPTION);
    }
    Ok(())
}

/// RangeStream.
pub fn range_stream(r: &pb::RangeRequest) -> Result<(), Status> {
    range(r)?;
    if !is_key_order(r) {
        return Err(errors::STREAM_NO_SORT);
    }
    if has_revision_filters(r) {
        return Err(errors::STREAM_NO_FILTERS);
    }
    Ok(())
}

/// Whether what the store gives in key order needs no sort, by what etcd asks before it reads (a target alone does not count here).
pub fn is_key_order(r: &pb::RangeRequest) -> bool {
    use pb::range_request::{SortOrder, SortTarget};
    r.sort_order == SortOrder::None as i32
        || (r.sort_target == SortTarget::Key as i32 && r.sort_order == SortOrder::Ascend as i32)
}

/// Whether any of the four filters by revision is set.
pub fn has_revision_filters(r: &pb::RangeRequest) -> bool {
    r.min_mod_revision != 0 || r.max_mod_revision != 0 || r.min_create_revision != 0 || r.max_create_revision != 0
}

/// Whether a Range asks for one key and all that there is of it.
pub fn is_get(r: &pb::RangeRequest) -> bool {
    r.range_end.is_empty() && !r.keys_only && !r.count_only && !has_revision_filters(r)
}

/// Put, alone or in a txn.
pub fn put(r: &pb::PutRequest) -> Result<(), Status> {
    if r.key.is_empty() {
        return Err(errors::EMPTY_KEY);
    }
    if r.ignore_value && !r.value.is_empty() {
        return Err(errors::VALUE_PROVIDED);
    }
    if r.ignore_lease && r.lease != 0 {
        return Err(errors::LEASE_PROVIDED);
    }
    Ok(())
}

/// DeleteRange, alone or in a txn.
pub fn delete(r: &pb::DeleteRangeRequest) -> Result<(), Status> {
    if r.key.is_empty() { Err(errors::EMPTY_KEY) } else { Ok(()) }
}

/// LeaseGrant. The TTL is refused by etcd's lessor, when the entry is applied, after what the size is refused for.
pub fn lease_grant(r: &pb::LeaseGrantRequest) -> Result<(), Status> {
    if r.ttl > LEASE_TTL_MAX { Err(errors::LEASE_TTL_TOO_LARGE) } else { Ok(()) }
}

/// Txn: every operation of both branches, the number of them, and that no key is changed twice.
pub fn txn(r: &pb::TxnRequest, ops_max: usize) -> Result<(), Status> {
    txn_ops(r, ops_max, TXN_DEPTH_MAX)?;
    changed_keys(&r.success)?;
    changed_keys(&r.failure)?;
    Ok(())
}

fn txn_ops(r: &pb::TxnRequest, ops_max: usize, depth: usize) -> Result<(), Status> {
    let ops = r.compare.len().max(r.success.len()).max(r.failure.len());
    if ops > ops_max || depth == 0 {
        return Err(errors::TOO_MANY_OPS);
    }
    if r.compare.iter().any(|c| c.key.is_empty()) {
        return Err(errors::EMPTY_KEY);
    }
    for op in r.success.iter().chain(&r.failure) {
        match &op.request {
            Some(Op::RequestRange(r)) => range(r)?,
            Some(Op::RequestPut(r)) => put(r)?,
            Some(Op::RequestDeleteRange(r)) => delete(r)?,
            Some(Op::RequestTxn(r)) => txn_ops(r, ops_max - ops, depth - 1)?,
            None => return Err(errors::KEY_NOT_FOUND),
        }
    }
    Ok(())
}

/// The keys that a list of operations puts, and the ranges that it deletes, those of nested txns included.
#[derive(Default)]
struct Changed {
    puts: HashSet<Bytes>,
    deletes: Ranges,
}

impl Changed {
    fn put(&mut self, key: Bytes) -> Result<(), Status> {
        if self.deletes.contains(&key) || !self.puts.insert(key) { Err(errors::DUPLICATE_KEY) } else { Ok(()) }
    }

    /// The other branch of a nested txn may put what `then` puts: only one of them runs.
    fn put_else(&mut self, key: Bytes, then: &HashSet<Bytes>) -> Result<(), Status> {
        if (self.puts.contains(&key) && !then.contains(&key)) || self.deletes.contains(&key) {
            return Err(errors::DUPLICATE_KEY);
        }
        self.puts.insert(key);
        Ok(())
    }
}

/// etcd's `checkIntervals`. Its holes are kept: deletes of a nested txn count only for the nested txns after it and for the puts of this
/// level, and a delete whose range_end is one NUL byte counts as an empty range.
fn changed_keys(ops: &[pb::RequestOp]) -> Result<Changed, Status> {
    let mut changed = Changed::default();
    for op in ops {
        if let Some(Op::RequestDeleteRange(delete)) = &op.request {
            changed.deletes.insert(&delete.key, &delete.range_end);
        }
    }
    for op in ops {
        if let Some(Op::RequestTxn(txn)) = &op.request {
            let then = changed_keys(&txn.success)?;
            let other = changed_keys(&txn.failure)?;
            for key in &then.puts {
                changed.put(key.clone())?;
            }
            for key in other.puts {
                changed.put_else(key, &then.puts)?;
            }
            changed.deletes.append(then.deletes);
            changed.deletes.append(other.deletes);
        }
    }
    for op in ops {
        if let Some(Op::RequestPut(put)) = &op.request {
            changed.put(put.key.clone())?;
        }
    }
    Ok(changed)
}

/// Half-open ranges of keys, joined where they overlap.
#[derive(Default)]
struct Ranges {
    by_start: BTreeMap<Bytes, Bytes>,
}

impl Ranges {
    fn insert(&mut self, key: &Bytes, range_end: &Bytes) {
        let end = if range_end.is_empty() { after(key) } else { range_end.clone() };
        self.join(key.clone(), end);
    }

    fn join(&mut self, mut start: Bytes, mut end: Bytes) {
        if end <= start {
            return;
        }
        while let Some((at, reach)) = self.by_start.range::<Bytes, _>(..=&end).next_back() {
            if *reach < start {
                break;
            }
            let at = at.clone();
            let reach = self.by_start.remove(&at).expect("it was there just now");
            start = start.min(at);
            end = end.max(reach);
        }
        self.by_start.insert(start, end);
    }

    fn append(&mut self, other: Ranges) {
        for (start, end) in other.by_start {
            self.join(start, end);
        }
    }

    fn contains(&self, key: &Bytes) -> bool {
        self.by_start.range::<Bytes, _>(..=key).next_back().is_some_and(|(_, end)| end > key)
    }
}

/// The first key after `key`.
pub fn after(key: &Bytes) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

/// What etcd reckons that a put takes of the quota.
pub fn put_cost(r: &pb::PutRequest) -> u64 {
    QUOTA_KEY_BYTES + (r.key.len() + r.value.len()) as u64
}

/// What etcd reckons that a txn takes of the quota: its dearer branch.
pub fn txn_cost(r: &pb::TxnRequest) -> u64 {
    let branch = |ops: &[pb::RequestOp]| -> u64 {
        ops.iter()
            .map(|op| match &op.request {
                Some(Op::RequestPut(r)) => put_cost(r),
                Some(Op::RequestTxn(r)) => txn_cost(r),
                _ => 0,
            })
            .sum()
    };
    branch(&r.success).max(branch(&r.failure))
}

#[cfg(test)]
#[path = "validate_test.rs"]
mod tests;
