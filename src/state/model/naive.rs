//! The model that tests compare with: one flat list of changes, and etcd's rules applied to it in the most direct way.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;

use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, ResponseHeader,
    ResponseOp, TxnRequest, TxnResponse,
};
use crate::proto::mvccpb::KeyValue;
use crate::state::evaluate::Refusal;

/// One change: main revision, sub-revision, key, and what was put (None: a tombstone).
#[derive(Clone, Debug)]
pub struct NaiveChange {
    pub main: i64,
    pub sub: i64,
    pub key: Bytes,
    pub put: Option<KeyValue>,
}

/// A naive store of one member with one shard.
pub struct Naive {
    /// Everything that ever happened, in order.
    pub changes: Vec<NaiveChange>,
    /// What compaction has left.
    pub stored: BTreeSet<(i64, i64)>,
    pub revision: i64,
    pub compacted: i64,
    pub leases: BTreeSet<i64>,
}

/// A read or write of a txn that has begun: how many changes it has made.
struct Run<'a> {
    naive: &'a mut Naive,
    changes: i64,
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

pub fn is_within(key: &[u8], first: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == first,
        [0] => key >= first,
        _ => key >= first && key < end,
    }
}

impl Naive {
    pub fn new() -> Naive {
        let (changes, stored, leases) = Default::default();
        Naive { changes, stored, revision: 1, compacted: -1, leases }
    }

    /// What lives at the end of revision `at`.
    pub fn state(&self, at: i64) -> BTreeMap<Bytes, KeyValue> {
        let mut state = BTreeMap::new();
        for change in self.changes.iter().take_while(|change| change.main <= at) {
            match &change.put {
                Some(kv) => state.insert(change.key.clone(), kv.clone()),
                None => state.remove(&change.key),
            };
        }
        state
    }

    pub fn range_kvs(&self, first: &[u8], end: &[u8], at: i64) -> Vec<KeyValue> {
        self.state(at).into_values().filter(|kv| is_within(&kv.key, first, end)).collect()
    }

    pub fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Refusal> {
        self.check_lease(request)?;
        if (request.ignore_value || request.ignore_lease) && self.range_kvs(&request.key, b"", self.revision).is_empty() {
            return Err(Refusal::KeyNotFound);
        }
        let mut run = Run { naive: self, changes: 0 };
        let response = run.put(request).expect("the key has been seen");
        run.end();
        Ok(response)
    }

    pub fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let mut run = Run { naive: self, changes: 0 };
        let response = run.delete_range(request);
        run.end();
        response
    }

    /// The keys of a lease go in one revision, in their order. Whether the lease itself is there is not this store's.
    pub fn revoke(&mut self, lease: i64) {
        let attached = self.state(i64::MAX).into_values().filter(|kv| kv.lease == lease);
        let keys: Vec<Bytes> = attached.map(|kv| kv.key).collect();
        let mut run = Run { naive: self, changes: 0 };
        keys.into_iter().for_each(|key| run.change(key, None));
        run.end();
    }

    /// The answer, the header's revision in it.
    pub fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
        let path = self.path(request);
        self.check(request, &mut path.iter())?;
        let before = self.changes.len();
        let mut run = Run { naive: self, changes: 0 };
        let response = run.txn(request, &mut path.iter());
        let changes = run.changes;
        match response {
            Some(mut response) => {
                run.end();
                response.header = header(self.revision);
                assert_eq!(self.changes.len(), before + changes as usize);
                Ok(response)
            }
            None => {
                // The hole of etcd 3.7.1: it would panic here.
                self.changes.truncate(before);
                Err(Refusal::KeyNotFound)
            }
        }
    }

    fn path(&self, txn: &TxnRequest) -> Vec<bool> {
        let succeeds = txn.compare.iter().all(|compare| self.compare(compare));
        let mut path = vec![succeeds];
        for op in if succeeds { &txn.success } else { &txn.failure } {
            if let Some(Request::RequestTxn(nested)) = &op.request {
                path.extend(self.path(nested));
            }
        }
        path
    }

    fn compare(&self, compare: &Compare) -> bool {
        let kvs = self.range_kvs(&compare.key, &compare.range_end, self.revision);
        if kvs.is_empty() {
            return compare.target() != CompareTarget::Value && compare_kv(compare, &KeyValue::default());
        }
        kvs.iter().all(|kv| compare_kv(compare, kv))
    }

    fn check_lease(&self, put: &PutRequest) -> Result<(), Refusal> {
        match put.lease == 0 || self.leases.contains(&put.lease) {
            true => Ok(()),
            false => Err(Refusal::LeaseNotFound),
        }
    }

    fn check(&self, txn: &TxnRequest, path: &mut std::slice::Iter<'_, bool>) -> Result<(), Refusal> {
        for op in if *path.next().unwrap() { &txn.success } else { &txn.failure } {
            match op.request.as_ref().unwrap() {
                Request::RequestRange(range) if range.revision == 0 => {}
                Request::RequestRange(range) if range.revision > self.revision => return Err(Refusal::FutureRevision),
                Request::RequestRange(range) if range.revision < self.compacted => return Err(Refusal::Compacted),
                Request::RequestPut(put) => {
                    self.check_lease(put)?;
                    let missing = || self.range_kvs(&put.key, b"", self.revision).is_empty();
                    if (put.ignore_value || put.ignore_lease) && missing() {
                        return Err(Refusal::KeyNotFound);
                    }
                }
                Request::RequestTxn(nested) => self.check(nested, path)?,
                Request::RequestRange(_) | Request::RequestDeleteRange(_) => {}
            }
        }
        Ok(())
    }

    /// The generations of each key: the changes up to and including each tombstone, and what comes after the last.
    fn generations(&self) -> BTreeMap<&Bytes, Vec<Vec<&NaiveChange>>> {
        let mut all: BTreeMap<&Bytes, Vec<Vec<&NaiveChange>>> = BTreeMap::new();
        for change in &self.changes {
            let generations = all.entry(&change.key).or_insert_with(|| vec![Vec::new()]);
            generations.last_mut().unwrap().push(change);
            if change.put.is_none() {
                generations.push(Vec::new());
            }
        }
        all
    }

    /// etcd's doCompact over all keys; `with_tombstones`: as compaction keeps, otherwise as HashKV does.
    fn available(&self, at: i64, with_tombstones: bool) -> BTreeSet<(i64, i64)> {
        let mut available = BTreeSet::new();
        for generations in self.generations().values() {
            let last = generations.len() - 1;
            let place = (0..last).find(|n| generations[*n].last().unwrap().main >= at).unwrap_or(last);
            let newest = generations[place].iter().rposition(|change| change.main <= at);
            if let Some(newest) = newest {
                let change = generations[place][newest];
                if with_tombstones || newest + 1 < generations[place].len() || place == last {
                    available.insert((change.main, change.sub));
                }
            }
        }
        available
    }

    /// Whether a revision holds a key that it deletes and then writes again: etcd's own compaction to it loses that key.
    pub fn is_holed(&self, revision: i64) -> bool {
        let of: Vec<&NaiveChange> = self.changes.iter().filter(|change| change.main == revision).collect();
        of.iter().any(|tombstone| {
            tombstone.put.is_none()
                && of.iter().any(|put| put.put.is_some() && put.key == tombstone.key && put.sub > tombstone.sub)
        })
    }

    pub fn compact(&mut self, at: i64) {
        assert!(!self.is_holed(at));
        self.compacted = at;
        let keep = self.available(at, true);
        self.stored.retain(|place| place.0 > at || keep.contains(place));
    }

    pub fn hash(&self, at: i64) -> u32 {
        let keep = self.available(at, false);
        let mut hash = crc32c::crc32c(b"key");
        for change in self.changes.iter().filter(|change| self.stored.contains(&(change.main, change.sub)) && change.main <= at)
        {
            if change.main <= self.compacted && !keep.is_empty() && !keep.contains(&(change.main, change.sub)) {
                continue;
            }
            if change.main == self.compacted && change.put.is_none() {
                continue;
            }
            let mut key = change.main.to_be_bytes().to_vec();
            key.push(b'_');
            key.extend(change.sub.to_be_bytes());
            let tombstone = KeyValue { key: change.key.clone(), ..KeyValue::default() };
            key.extend(change.put.is_none().then_some(b't'));
            hash = crc32c::crc32c_append(hash, &key);
            hash = crc32c::crc32c_append(hash, &change.put.as_ref().unwrap_or(&tombstone).encode_to_vec());
        }
        hash
    }
}

impl Run<'_> {
    /// What the run sees: everything, its own changes too.
    fn newest(&self, first: &[u8], end: &[u8]) -> Vec<KeyValue> {
        self.naive.range_kvs(first, end, i64::MAX)
    }

    fn current(&self) -> i64 {
        self.naive.revision + i64::from(self.changes > 0)
    }

    fn change(&mut self, key: Bytes, put: Option<KeyValue>) {
        let (main, sub) = (self.naive.revision + 1, self.changes);
        self.naive.changes.push(NaiveChange { main, sub, key, put });
        self.changes += 1;
    }

    fn end(self) {
        if self.changes > 0 {
            self.naive.revision += 1;
            let main = self.naive.revision;
            self.naive.stored.extend((0..self.changes).map(|sub| (main, sub)));
        }
    }

    fn put(&mut self, request: &PutRequest) -> Option<PutResponse> {
        let prev = self.newest(&request.key, b"").pop();
        if (request.ignore_value || request.ignore_lease) && prev.is_none() {
            return None;
        }
        let main = self.naive.revision + 1;
        let mut kv = KeyValue {
            key: request.key.clone(),
            create_revision: prev.as_ref().map_or(main, |prev| prev.create_revision),
            mod_revision: main,
            version: prev.as_ref().map_or(1, |prev| prev.version + 1),
            value: request.value.clone(),
            lease: request.lease,
        };
        if let Some(prev) = &prev {
            kv.value = if request.ignore_value { prev.value.clone() } else { kv.value };
            kv.lease = if request.ignore_lease { prev.lease } else { kv.lease };
        }
        self.change(request.key.clone(), Some(kv));
        Some(PutResponse { header: header(main), prev_kv: prev.filter(|_| request.prev_kv) })
    }

    fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let hits = self.newest(&request.key, &request.range_end);
        for hit in &hits {
            self.change(hit.key.clone(), None);
        }
        let deleted = hits.len() as i64;
        let prev_kvs = if request.prev_kv { hits } else { Vec::new() };
        DeleteRangeResponse { header: header(self.current()), deleted, prev_kvs }
    }

    fn range(&mut self, request: &RangeRequest) -> RangeResponse {
        let mut kvs = match request.revision {
            asked @ 1.. => self.naive.range_kvs(&request.key, &request.range_end, asked),
            _ => self.newest(&request.key, &request.range_end),
        };
        let count = kvs.len() as i64;
        if request.count_only {
            kvs.clear();
        }
        kvs.retain(|kv| request.min_mod_revision == 0 || kv.mod_revision >= request.min_mod_revision);
        if request.keys_only {
            for kv in &mut kvs {
                kv.value = Bytes::new();
                kv.lease = 0;
            }
        }
        RangeResponse { header: header(self.current()), kvs, more: false, count }
    }

    fn txn(&mut self, txn: &TxnRequest, path: &mut std::slice::Iter<'_, bool>) -> Option<TxnResponse> {
        let succeeded = *path.next().unwrap();
        let mut responses = Vec::new();
        for op in if succeeded { &txn.success } else { &txn.failure } {
            let response = match op.request.as_ref().unwrap() {
                Request::RequestRange(range) => Response::ResponseRange(self.range(range)),
                Request::RequestPut(put) => Response::ResponsePut(self.put(put)?),
                Request::RequestDeleteRange(delete) => Response::ResponseDeleteRange(self.delete_range(delete)),
                Request::RequestTxn(nested) => Response::ResponseTxn(self.txn(nested, path)?),
            };
            responses.push(ResponseOp { response: Some(response) });
        }
        Some(TxnResponse { header: Some(ResponseHeader::default()), succeeded, responses })
    }
}

fn compare_kv(compare: &Compare, kv: &KeyValue) -> bool {
    let order = match (compare.target(), &compare.target_union) {
        (CompareTarget::Value, Some(TargetUnion::Value(wanted))) => kv.value.cmp(wanted),
        (CompareTarget::Value, _) => kv.value.cmp(&Bytes::new()),
        (CompareTarget::Create, Some(TargetUnion::CreateRevision(wanted))) => kv.create_revision.cmp(wanted),
        (CompareTarget::Create, _) => kv.create_revision.cmp(&0),
        (CompareTarget::Mod, Some(TargetUnion::ModRevision(wanted))) => kv.mod_revision.cmp(wanted),
        (CompareTarget::Mod, _) => kv.mod_revision.cmp(&0),
        (CompareTarget::Version, Some(TargetUnion::Version(wanted))) => kv.version.cmp(wanted),
        (CompareTarget::Version, _) => kv.version.cmp(&0),
        (CompareTarget::Lease, Some(TargetUnion::Lease(wanted))) => kv.lease.cmp(wanted),
        (CompareTarget::Lease, _) => kv.lease.cmp(&0),
    };
    match compare.result() {
        CompareResult::Equal => order == Ordering::Equal,
        CompareResult::NotEqual => order != Ordering::Equal,
        CompareResult::Greater => order == Ordering::Greater,
        CompareResult::Less => order == Ordering::Less,
    }
}
