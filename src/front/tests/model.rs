//! etcd's store as a list of changes, and what etcd answers from it. Slow and plain: what the front is compared with.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::base::{KeyRange, Prng, Revision};
use crate::front::txn::holds;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::request_op::Request as Op;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::mvccpb::KeyValue;
use crate::shard::messages::{At, OpResponse, Refusal, WriteResponse};

/// One change of one key. A tombstone's `kv` has key and mod_revision alone.
#[derive(Clone, Debug)]
pub struct Change {
    pub revision: u64,
    pub operation: u32,
    pub tombstone: bool,
    pub kv: KeyValue,
    pub prev: Option<KeyValue>,
}

pub type State = BTreeMap<Bytes, KeyValue>;

/// The store.
pub struct Model {
    pub changes: Vec<Change>,
    pub current: u64,
    pub compacted: i64,
    pub leases: Vec<i64>,
}

/// A write as it was evaluated.
pub struct Evaluated {
    pub revision: u64,
    /// As a core says it.
    pub response: WriteResponse,
    /// As etcd answers it, headers of operations included.
    pub expected: Expected,
}

/// What etcd answers.
#[derive(Debug)]
pub enum Expected {
    Put(pb::PutResponse),
    Delete(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
}

impl Model {
    pub fn new() -> Model {
        Model { changes: Vec::new(), current: 1, compacted: -1, leases: Vec::new() }
    }

    pub fn state(&self, at: At) -> State {
        let seen = |c: &&Change| {
            (c.revision, u64::from(c.operation)) < (at.revision.0, u64::from(at.operations)) || {
                at.operations == u32::MAX && c.revision == at.revision.0
            }
        };
        let mut state = State::new();
        for change in self.changes.iter().filter(seen) {
            apply(&mut state, change);
        }
        state
    }

    pub fn state_at(&self, revision: u64) -> State {
        self.state(At::end_of(Revision(revision)))
    }

    pub fn put(&mut self, r: &pb::PutRequest) -> Result<Evaluated, Refusal> {
        let op = pb::RequestOp { request: Some(Op::RequestPut(r.clone())) };
        self.single(op, &mut Prng::new(0))
    }

    pub fn delete(&mut self, r: &pb::DeleteRangeRequest, rng: &mut Prng, several: bool) -> Result<Evaluated, Refusal> {
        let op = pb::RequestOp { request: Some(Op::RequestDeleteRange(r.clone())) };
        let mut evaluated = self.single(op, rng)?;
        if several && let WriteResponse::Delete { deleted, prevs } = &mut evaluated.response {
            // Core 0 makes a txn of it; or it leaves the previous values to be read.
            let (deleted, mut prevs) = (*deleted, std::mem::take(prevs));
            let request = r.clone();
            let read = OpResponse::ReadDelete { request, operations: 0, deleted };
            let txn = |op| WriteResponse::Txn { succeeded: true, responses: vec![op] };
            evaluated.response = match rng.below(3) {
                0 => txn(OpResponse::Done(WriteResponse::Delete { deleted, prevs })),
                1 => txn(read),
                _ => {
                    prevs.clear();
                    WriteResponse::Delete { deleted, prevs }
                }
            };
        }
        Ok(evaluated)
    }

    fn single(&mut self, op: pb::RequestOp, rng: &mut Prng) -> Result<Evaluated, Refusal> {
        let txn = pb::TxnRequest { success: vec![op], ..Default::default() };
        let evaluated = self.txn(&txn, rng, false)?;
        let WriteResponse::Txn { mut responses, .. } = evaluated.response else { unreachable!() };
        let OpResponse::Done(response) = responses.pop().unwrap() else { unreachable!() };
        let Expected::Txn(mut txn) = evaluated.expected else { unreachable!() };
        let expected = match txn.responses.pop().unwrap().response.unwrap() {
            Response::ResponsePut(r) => Expected::Put(r),
            Response::ResponseDeleteRange(r) => Expected::Delete(r),
            _ => unreachable!(),
        };
        Ok(Evaluated { revision: evaluated.revision, response, expected })
    }

    /// etcd's Txn. `rng` chooses what a core leaves to be read later; with `several` shards it must for previous values.
    pub fn txn(&mut self, r: &pb::TxnRequest, rng: &mut Prng, several: bool) -> Result<Evaluated, Refusal> {
        let before = self.state_at(self.current);
        let mut path = Vec::new();
        choose(r, &before, &mut path);
        self.check(r, &before, &mut path.iter())?;
        let mut run = Run { begin: self.current, state: before, changes: Vec::new(), rng, several, model: self };
        let (succeeded, responses, expected) = run.branch(r, &mut path.iter());
        let (changes, begin) = (run.changes, run.begin);
        let changed = !changes.is_empty();
        let revision = if changed { begin + 1 } else { begin };
        self.changes.extend(changes);
        self.current = revision;
        let response = WriteResponse::Txn { succeeded, responses };
        let header = Some(pb::ResponseHeader { revision: revision as i64, ..Default::default() });
        let expected = Expected::Txn(pb::TxnResponse { header, succeeded, responses: expected });
        Ok(Evaluated { revision, response, expected })
    }

    fn check(&self, r: &pb::TxnRequest, before: &State, path: &mut std::slice::Iter<'_, bool>) -> Result<(), Refusal> {
        let branch = if *path.next().unwrap() { &r.success } else { &r.failure };
        for op in branch {
            match op.request.as_ref().unwrap() {
                Op::RequestRange(r) if r.revision == 0 => {}
                Op::RequestRange(r) if r.revision > self.current as i64 => return Err(Refusal::FutureRevision),
                Op::RequestRange(r) if r.revision < self.compacted => return Err(Refusal::Compacted),
                Op::RequestRange(_) | Op::RequestDeleteRange(_) => {}
                Op::RequestPut(r) => {
                    if r.lease != 0 && !self.leases.contains(&r.lease) {
                        return Err(Refusal::LeaseNotFound);
                    }
                    if (r.ignore_value || r.ignore_lease) && !before.contains_key(&r.key) {
                        return Err(Refusal::KeyNotFound);
                    }
                }
                Op::RequestTxn(r) => self.check(r, before, path)?,
            }
        }
        Ok(())
    }

    /// What a watch of `range` sees from `from` on, revision by revision.
    pub fn history(&self, range: &KeyRange, from: u64) -> Vec<Change> {
        self.changes.iter().filter(|c| c.revision >= from && range.contains(&c.kv.key)).cloned().collect()
    }
}

fn apply(state: &mut State, change: &Change) {
    if change.tombstone {
        state.remove(&change.kv.key);
    } else {
        state.insert(change.kv.key.clone(), change.kv.clone());
    }
}

pub fn in_range<'a>(state: &'a State, key: &Bytes, end: &Bytes) -> impl Iterator<Item = &'a KeyValue> {
    let range = KeyRange::of(key, end);
    state.values().filter(move |kv| range.contains(&kv.key))
}

/// Which branch of each txn on the way runs, the nested ones of the branch taken included.
fn choose(r: &pb::TxnRequest, state: &State, path: &mut Vec<bool>) {
    let holds = r.compare.iter().all(|c| {
        let kvs: Vec<KeyValue> = in_range(state, &c.key, &c.range_end).cloned().collect();
        holds(c, &kvs)
    });
    path.push(holds);
    for op in if holds { &r.success } else { &r.failure } {
        if let Some(Op::RequestTxn(nested)) = &op.request {
            choose(nested, state, path);
        }
    }
}

/// etcd's Range over one state of the store, header apart.
pub fn range_of(r: &pb::RangeRequest, state: &State) -> pb::RangeResponse {
    let all: Vec<KeyValue> = in_range(state, &r.key, &r.range_end).cloned().collect();
    let count = all.len() as i64;
    if r.count_only {
        return pb::RangeResponse { count, ..Default::default() };
    }
    let order = SortOrder::try_from(r.sort_order).unwrap();
    let target = SortTarget::try_from(r.sort_target).unwrap();
    let default_order = order == SortOrder::None || (target == SortTarget::Key && order == SortOrder::Ascend);
    let filters =
        r.min_mod_revision != 0 || r.max_mod_revision != 0 || r.min_create_revision != 0 || r.max_create_revision != 0;
    let mut kvs = all;
    if default_order && !filters && r.limit > 0 {
        kvs.truncate(r.limit as usize + 1);
    }
    kvs.retain(|kv| {
        (r.max_mod_revision == 0 || kv.mod_revision <= r.max_mod_revision)
            && (r.min_mod_revision == 0 || kv.mod_revision >= r.min_mod_revision)
            && (r.max_create_revision == 0 || kv.create_revision <= r.max_create_revision)
            && (r.min_create_revision == 0 || kv.create_revision >= r.min_create_revision)
    });
    let fast_keys = r.keys_only && target != SortTarget::Value;
    let order = if target != SortTarget::Key && order == SortOrder::None { SortOrder::Ascend } else { order };
    let number = |kv: &KeyValue| match target {
        SortTarget::Version => kv.version,
        SortTarget::Create => kv.create_revision,
        SortTarget::Mod => kv.mod_revision,
        _ => 0,
    };
    let by = |a: &KeyValue, b: &KeyValue| match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Value => a.value.cmp(&b.value),
        _ => number(a).cmp(&number(b)),
    };
    match order {
        SortOrder::None => {}
        SortOrder::Ascend => kvs.sort_by(by),
        SortOrder::Descend => kvs.sort_by(|a, b| by(b, a)),
    }
    let more = r.limit > 0 && kvs.len() > r.limit as usize;
    if more {
        kvs.truncate(r.limit as usize);
    }
    for kv in &mut kvs {
        if r.keys_only {
            kv.value.clear();
        }
        if fast_keys {
            kv.lease = 0;
        }
    }
    pb::RangeResponse { header: None, kvs, more, count }
}

/// A txn being run.
struct Run<'a> {
    begin: u64,
    state: State,
    changes: Vec<Change>,
    rng: &'a mut Prng,
    several: bool,
    model: &'a Model,
}

impl Run<'_> {
    fn branch(
        &mut self,
        r: &pb::TxnRequest,
        path: &mut std::slice::Iter<'_, bool>,
    ) -> (bool, Vec<OpResponse>, Vec<pb::ResponseOp>) {
        let succeeded = *path.next().unwrap();
        let (mut responses, mut expected) = (Vec::new(), Vec::new());
        for op in if succeeded { &r.success } else { &r.failure } {
            let (response, op) = match op.request.as_ref().unwrap() {
                Op::RequestRange(r) => self.range(r),
                Op::RequestPut(r) => self.put(r),
                Op::RequestDeleteRange(r) => self.delete(r),
                Op::RequestTxn(r) => {
                    let (succeeded, responses, expected) = self.branch(r, path);
                    let header = Some(pb::ResponseHeader::default());
                    let expected = pb::TxnResponse { header, succeeded, responses: expected };
                    (OpResponse::Done(WriteResponse::Txn { succeeded, responses }), Response::ResponseTxn(expected))
                }
            };
            responses.push(response);
            expected.push(pb::ResponseOp { response: Some(op) });
        }
        (succeeded, responses, expected)
    }

    fn header(&self) -> Option<pb::ResponseHeader> {
        let revision = if self.changes.is_empty() { self.begin } else { self.begin + 1 };
        Some(pb::ResponseHeader { revision: revision as i64, ..Default::default() })
    }

    fn change(&mut self, operation: u32, tombstone: bool, kv: KeyValue) {
        let prev = self.state.get(&kv.key).cloned();
        let change = Change { revision: self.begin + 1, operation, tombstone, kv, prev };
        apply(&mut self.state, &change);
        self.changes.push(change);
    }

    fn range(&mut self, r: &pb::RangeRequest) -> (OpResponse, Response) {
        let state = if r.revision > 0 { self.model.state_at(r.revision as u64) } else { self.state.clone() };
        let answer = range_of(r, &state);
        let response = if self.rng.chance(1, 2) {
            OpResponse::ReadRange { request: r.clone(), operations: self.changes.len() as u32 }
        } else {
            OpResponse::Range(answer.clone())
        };
        (response, Response::ResponseRange(pb::RangeResponse { header: self.header(), ..answer }))
    }

    fn put(&mut self, r: &pb::PutRequest) -> (OpResponse, Response) {
        let old = self.state.get(&r.key).cloned();
        let operations = self.changes.len() as u32;
        let revision = self.begin as i64 + 1;
        let kv = KeyValue {
            key: r.key.clone(),
            create_revision: old.as_ref().map_or(revision, |o| o.create_revision),
            mod_revision: revision,
            version: old.as_ref().map_or(0, |o| o.version) + 1,
            value: if r.ignore_value { old.clone().unwrap_or_default().value } else { r.value.clone() },
            lease: if r.ignore_lease { old.clone().unwrap_or_default().lease } else { r.lease },
        };
        self.change(operations, false, kv);
        let prev = old.filter(|_| r.prev_kv);
        let response = if self.several && r.prev_kv && self.rng.chance(1, 2) {
            OpResponse::ReadPrevious { key: r.key.clone(), operations }
        } else {
            OpResponse::Done(WriteResponse::Put { prev: prev.clone() })
        };
        (response, Response::ResponsePut(pb::PutResponse { header: self.header(), prev_kv: prev }))
    }

    fn delete(&mut self, r: &pb::DeleteRangeRequest) -> (OpResponse, Response) {
        let olds: Vec<KeyValue> = in_range(&self.state, &r.key, &r.range_end).cloned().collect();
        let operations = self.changes.len() as u32;
        let deleted = olds.len() as i64;
        for old in &olds {
            let kv = KeyValue { key: old.key.clone(), mod_revision: self.begin as i64 + 1, ..Default::default() };
            self.change(operations, true, kv);
        }
        let prevs = if r.prev_kv { olds } else { Vec::new() };
        let response = if self.several && self.rng.chance(1, 2) {
            OpResponse::ReadDelete { request: r.clone(), operations, deleted }
        } else {
            OpResponse::Done(WriteResponse::Delete { deleted, prevs: prevs.clone() })
        };
        let expected = pb::DeleteRangeResponse { header: self.header(), deleted, prev_kvs: prevs };
        (response, Response::ResponseDeleteRange(expected))
    }
}
