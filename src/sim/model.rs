//! What etcd does, in the most direct way: one map of keys, requests one after the other.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;

use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::mvccpb::KeyValue;

/// All keys at a revision.
pub type State = BTreeMap<Bytes, KeyValue>;

/// One change of one key: what it became, or that it is gone.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// `None`: deleted.
    pub kv: Option<KeyValue>,
}

/// A request that may write.
#[derive(Clone, Debug)]
pub enum Write {
    /// One put.
    Put(pb::PutRequest),
    /// One delete.
    Delete(pb::DeleteRangeRequest),
    /// A transaction.
    Txn(pb::TxnRequest),
}

/// What a write comes to.
#[derive(Clone, PartialEq, Debug)]
pub enum Answered {
    /// To a put.
    Put(pb::PutResponse),
    /// To a delete.
    Delete(pb::DeleteRangeResponse),
    /// To a transaction.
    Txn(pb::TxnResponse),
}

impl Answered {
    /// Whether something was changed, by what the answer says.
    pub fn changes(&self) -> bool {
        match self {
            Answered::Put(_) => true,
            Answered::Delete(delete) => delete.deleted > 0,
            Answered::Txn(txn) => txn.responses.iter().any(changes),
        }
    }

    /// Without headers, which are checked apart.
    pub fn without_headers(mut self) -> Answered {
        match &mut self {
            Answered::Put(put) => put.header = None,
            Answered::Delete(delete) => delete.header = None,
            Answered::Txn(txn) => strip(txn),
        }
        self
    }
}

fn changes(op: &pb::ResponseOp) -> bool {
    match &op.response {
        Some(Response::ResponsePut(_)) => true,
        Some(Response::ResponseDeleteRange(delete)) => delete.deleted > 0,
        Some(Response::ResponseTxn(txn)) => txn.responses.iter().any(changes),
        Some(Response::ResponseRange(_)) | None => false,
    }
}

fn strip(txn: &mut pb::TxnResponse) {
    txn.header = None;
    for op in &mut txn.responses {
        match &mut op.response {
            Some(Response::ResponsePut(put)) => put.header = None,
            Some(Response::ResponseDeleteRange(delete)) => delete.header = None,
            Some(Response::ResponseRange(range)) => range.header = None,
            Some(Response::ResponseTxn(nested)) => strip(nested),
            None => {}
        }
    }
}

/// Whether `key` is in an etcd range.
pub fn is_within(key: &[u8], first: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == first,
        [0] => key >= first,
        _ => key >= first && key < end,
    }
}

/// Runs `write` against `state`, which is that before `revision`: its changes in etcd's order, and the answer.
pub fn run(state: &State, revision: i64, write: &Write) -> (Vec<Change>, Answered) {
    let mut run = Run { state: state.clone(), revision, changes: Vec::new() };
    let answered = match write {
        Write::Put(put) => Answered::Put(run.put(put)),
        Write::Delete(delete) => Answered::Delete(run.delete(delete)),
        Write::Txn(txn) => Answered::Txn(run.txn(state, txn)),
    };
    (run.changes, answered)
}

/// A range over `state`, as etcd answers it, less its header.
pub fn range(state: &State, request: &pb::RangeRequest) -> pb::RangeResponse {
    let hits = state.values().filter(|kv| is_within(&kv.key, &request.key, &request.range_end));
    let mut kvs: Vec<KeyValue> = hits.cloned().collect();
    let count = kvs.len() as i64;
    if request.count_only {
        return pb::RangeResponse { count, ..pb::RangeResponse::default() };
    }
    let bounds = [request.min_mod_revision, request.max_mod_revision, request.min_create_revision, request.max_create_revision];
    let (target, order) = (request.sort_target(), request.sort_order());
    let limit = usize::try_from(request.limit).unwrap_or(0);
    // etcd takes key order for wanted where no other order is named, though it sorts by a target that is: the limit comes first.
    let by_key = order == SortOrder::None || (target, order) == (SortTarget::Key, SortOrder::Ascend);
    if by_key && limit > 0 && bounds == [0; 4] {
        kvs.truncate(limit + 1);
    }
    let within = |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
    kvs.retain(|kv| {
        within(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
            && within(kv.create_revision, request.min_create_revision, request.max_create_revision)
    });
    let by = |a: &KeyValue, b: &KeyValue| match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    };
    match order {
        SortOrder::Descend => kvs.sort_by(|a, b| by(b, a)),
        // A target alone means ascending.
        SortOrder::Ascend | SortOrder::None => kvs.sort_by(by),
    }
    let more = limit > 0 && kvs.len() > limit;
    if more {
        kvs.truncate(limit);
    }
    if request.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        // etcd's index answers without reading what is stored, and so without leases.
        if target != SortTarget::Value {
            kvs.iter_mut().for_each(|kv| kv.lease = 0);
        }
    }
    pb::RangeResponse { header: None, kvs, more, count }
}

struct Run {
    state: State,
    revision: i64,
    changes: Vec<Change>,
}

impl Run {
    fn put(&mut self, request: &pb::PutRequest) -> pb::PutResponse {
        let prev = self.state.get(&request.key).cloned();
        let kv = KeyValue {
            key: request.key.clone(),
            create_revision: prev.as_ref().map_or(self.revision, |prev| prev.create_revision),
            mod_revision: self.revision,
            version: prev.as_ref().map_or(1, |prev| prev.version + 1),
            value: request.value.clone(),
            lease: request.lease,
        };
        self.state.insert(kv.key.clone(), kv.clone());
        self.changes.push(Change { key: kv.key.clone(), kv: Some(kv) });
        pb::PutResponse { header: None, prev_kv: prev.filter(|_| request.prev_kv) }
    }

    fn delete(&mut self, request: &pb::DeleteRangeRequest) -> pb::DeleteRangeResponse {
        let hits = self.state.values().filter(|kv| is_within(&kv.key, &request.key, &request.range_end));
        let hits: Vec<KeyValue> = hits.cloned().collect();
        for hit in &hits {
            self.state.remove(&hit.key);
            self.changes.push(Change { key: hit.key.clone(), kv: None });
        }
        let deleted = hits.len() as i64;
        pb::DeleteRangeResponse { header: None, deleted, prev_kvs: if request.prev_kv { hits } else { Vec::new() } }
    }

    fn txn(&mut self, before: &State, txn: &pb::TxnRequest) -> pb::TxnResponse {
        let succeeded = txn.compare.iter().all(|compare| holds(before, compare));
        let mut responses = Vec::new();
        for op in if succeeded { &txn.success } else { &txn.failure } {
            let response = match op.request.as_ref().expect("the simulation makes whole requests") {
                Request::RequestRange(request) => Response::ResponseRange(range(&self.state, request)),
                Request::RequestPut(put) => Response::ResponsePut(self.put(put)),
                Request::RequestDeleteRange(delete) => Response::ResponseDeleteRange(self.delete(delete)),
                Request::RequestTxn(nested) => Response::ResponseTxn(self.txn(before, nested)),
            };
            responses.push(pb::ResponseOp { response: Some(response) });
        }
        pb::TxnResponse { header: None, succeeded, responses }
    }
}

fn holds(state: &State, compare: &pb::Compare) -> bool {
    let mut hits = state.values().filter(|kv| is_within(&kv.key, &compare.key, &compare.range_end)).peekable();
    if hits.peek().is_none() {
        return compare.target() != CompareTarget::Value && one_holds(compare, &KeyValue::default());
    }
    hits.all(|kv| one_holds(compare, kv))
}

fn one_holds(compare: &pb::Compare, kv: &KeyValue) -> bool {
    let order = match &compare.target_union {
        Some(TargetUnion::Value(wanted)) => kv.value.cmp(wanted),
        Some(TargetUnion::CreateRevision(wanted)) => kv.create_revision.cmp(wanted),
        Some(TargetUnion::ModRevision(wanted)) => kv.mod_revision.cmp(wanted),
        Some(TargetUnion::Version(wanted)) => kv.version.cmp(wanted),
        Some(TargetUnion::Lease(wanted)) => kv.lease.cmp(wanted),
        None => unreachable!("the simulation makes whole compares"),
    };
    match compare.result() {
        CompareResult::Equal => order == Ordering::Equal,
        CompareResult::NotEqual => order != Ordering::Equal,
        CompareResult::Greater => order == Ordering::Greater,
        CompareResult::Less => order == Ordering::Less,
    }
}
