//! A shard's part of the operations along a txn's path: first what it finds, then, with the operation numbers, what it does.

use bytes::Bytes;

use crate::base::{LeaseId, Revision};
use crate::mvcc::{At, Span};
use crate::proto::etcdserverpb::range_request::SortTarget;
use crate::proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, TxnRequest,
};
use crate::proto::mvccpb::KeyValue;
use crate::state::apply::Touched;
use crate::state::kv::{EFFECT_OVERHEAD_BYTES, Effect};

use super::answer::{OpAnswer, op_header};
use super::basis::{Basis, Memo, Refusal, Stop};
use super::draft::{Draft, Drafted};
use super::path::{FlatOp, Operations, Path, flatten};

/// A shard's part of a txn, evaluated but for its operation numbers.
#[derive(Debug)]
pub struct Part {
    ops: Vec<PartOp>,
    /// How many operations the whole path has.
    pub operations: usize,
}

#[derive(Debug)]
struct PartOp {
    index: usize,
    kind: PartKind,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all are puts")]
pub(super) enum PartKind {
    Put { key: Bytes, drafted: Drafted, event_prev: Option<KeyValue>, answer: PutResponse },
    Delete { span: Span, hits: Vec<Hit>, prev_kvs: Vec<KeyValue> },
    Range(RangeResponse),
}

/// A key that a delete finds alive.
#[derive(Debug)]
pub(super) struct Hit {
    key: Bytes,
    event_prev: Option<KeyValue>,
}

/// What a shard does in a txn, and what it answers.
#[derive(Debug)]
pub struct Finished {
    /// Its effects, in order.
    pub effects: Vec<Effect>,
    /// The keys that they change, in order.
    pub touched: Vec<Touched>,
    /// Its answers, each to the operation of this index along the path.
    pub answers: Vec<(usize, OpAnswer)>,
}

/// Evaluates this shard's part of the operations along `path`: those on its own keys, and its share of the range deletes. Gets of
/// single keys are answered; all other ranges are not, nor are keys of other shards.
///
/// Refuses what etcd's checks before execution refuse, and a put with ignore_value or ignore_lease of a key that an earlier
/// operation of the txn deletes: there etcd 3.7.1 passes the check, and then panics (docs/differences.md).
pub fn part(basis: &Basis<'_>, txn: &TxnRequest, path: &Path, memo: &mut Memo) -> Result<Part, Stop> {
    memo.begin(basis);
    part_of(basis, txn, path, memo)
}

/// As [`part`], in a call that has done walks before.
pub(super) fn part_of(basis: &Basis<'_>, txn: &TxnRequest, path: &Path, memo: &mut Memo) -> Result<Part, Stop> {
    let flat = flatten(txn, path);
    check(basis, &flat)?;
    let mut draft = Draft::new(basis);
    let mut ops = Vec::with_capacity(flat.len());
    for (index, op) in flat.iter().enumerate() {
        let last = index + 1 == flat.len();
        let kind = match op {
            FlatOp::Put(request) if (basis.is_local)(&request.key) => {
                // Behind all checks: those of other shards come first.
                let kind = draft.evaluate_put(request).map_err(at(flat.len() + index))?;
                if let PartKind::Put { key, drafted, .. } = &kind
                    && !last
                {
                    draft.put(key.clone(), drafted.clone());
                }
                kind
            }
            FlatOp::Delete(request) if !request.range_end.is_empty() || (basis.is_local)(&request.key) => {
                let kind = draft.evaluate_delete(request, memo)?;
                if let PartKind::Delete { hits, .. } = &kind
                    && !last
                {
                    hits.iter().for_each(|hit| draft.delete(hit.key.clone()));
                }
                kind
            }
            FlatOp::Range(request) if is_plain_get(request) && (basis.is_local)(&request.key) => {
                PartKind::Range(draft.evaluate_get(request)?)
            }
            FlatOp::Put(_) | FlatOp::Delete(_) | FlatOp::Range(_) => continue,
        };
        ops.push(PartOp { index, kind });
    }
    Ok(Part { ops, operations: flat.len() })
}

/// Whether it asks for one key, and not for revisions that may turn out to be the txn's own.
fn is_plain_get(request: &RangeRequest) -> bool {
    let bounds = [request.min_mod_revision, request.max_mod_revision, request.min_create_revision, request.max_create_revision];
    request.range_end.is_empty() && bounds == [0; 4]
}

fn at(operation: usize) -> impl Fn(Stop) -> Stop {
    move |stop| match stop {
        Stop::Refused { refusal, .. } => Stop::Refused { refusal, operation },
        other => other,
    }
}

/// What etcd checks before it executes a txn, against the state before it.
fn check(basis: &Basis<'_>, flat: &[FlatOp<'_>]) -> Result<(), Stop> {
    for (operation, op) in flat.iter().enumerate() {
        let refuse = |refusal| Err(Stop::Refused { refusal, operation });
        match op {
            FlatOp::Range(range) if range.revision == 0 => {}
            FlatOp::Range(range) if range.revision > basis.current.as_i64() => return refuse(Refusal::FutureRevision),
            FlatOp::Range(range) if range.revision < basis.compacted => return refuse(Refusal::Compacted),
            FlatOp::Put(put) if (basis.is_local)(&put.key) => {
                check_lease(basis, put).map_err(at(operation))?;
                let keeps = put.ignore_value || put.ignore_lease;
                if keeps && basis.view.newest_fields(&put.key)?.is_none() {
                    return refuse(Refusal::KeyNotFound);
                }
            }
            FlatOp::Range(_) | FlatOp::Put(_) | FlatOp::Delete(_) => {}
        }
    }
    Ok(())
}

pub(super) fn check_lease(basis: &Basis<'_>, put: &PutRequest) -> Result<(), Stop> {
    let lease = LeaseId(put.lease);
    if lease == LeaseId::NONE || (basis.lease_alive)(lease) {
        return Ok(());
    }
    Err(Stop::Refused { refusal: Refusal::LeaseNotFound, operation: 0 })
}

impl Draft<'_> {
    pub(super) fn evaluate_put(&self, request: &PutRequest) -> Result<PartKind, Stop> {
        let event_prevs = self.basis.event_prevs;
        let key = &request.key;
        let current = self.current(key, request.prev_kv || request.ignore_value || event_prevs)?;
        if current.is_none() && (request.ignore_value || request.ignore_lease) {
            return Err(Stop::Refused { refusal: Refusal::KeyNotFound, operation: 0 });
        }
        let kept = current.as_ref();
        let drafted = Drafted {
            create_revision: kept.and_then(|current| current.create_revision()),
            version: kept.map_or(0, |current| current.version()) + 1,
            lease: kept.filter(|_| request.ignore_lease).map_or(LeaseId(request.lease), |current| current.lease()),
            value: kept.filter(|_| request.ignore_value).map_or_else(|| request.value.clone(), |current| current.value()),
        };
        let prev_kv = kept.filter(|_| request.prev_kv).map(|current| current.to_message(key.clone()));
        let event_prev = if event_prevs { self.event_prev(key)? } else { None };
        let answer = PutResponse { header: op_header(true), prev_kv };
        Ok(PartKind::Put { key: key.clone(), drafted, event_prev, answer })
    }

    /// The key as it was before the txn.
    fn event_prev(&self, key: &Bytes) -> Result<Option<KeyValue>, Stop> {
        Ok(self.base(key, true)?.map(|state| state.to_message(key.clone())))
    }

    pub(super) fn evaluate_delete(&self, request: &DeleteRangeRequest, memo: &mut Memo) -> Result<PartKind, Stop> {
        let event_prevs = self.basis.event_prevs;
        let span = Span::of_request(&request.key, &request.range_end);
        let values = request.prev_kv || event_prevs;
        let mut hits = Vec::new();
        let mut prev_kvs = Vec::new();
        if let Span::Key(key) = &span {
            if let Some(current) = self.current(key, values)? {
                let event_prev = if event_prevs { self.event_prev(key)? } else { None };
                hits.push(Hit { key: key.clone(), event_prev });
                prev_kvs.extend(request.prev_kv.then(|| current.to_message(key.clone())));
            }
            return Ok(PartKind::Delete { span, hits, prev_kvs });
        }
        // What lived before the txn and was not touched by it, and what it has written, merged in the order of keys.
        let mut written = self.living(&span).peekable();
        let found = memo.gather(self.basis, &span, !values)?;
        let mut before = found.iter().filter(|kv| !self.knows(&kv.key)).peekable();
        loop {
            let from_draft = match (before.peek(), written.peek()) {
                (None, None) => break,
                (Some(kv), Some((key, _))) => **key < kv.key,
                (None, Some(_)) => true,
                (Some(_), None) => false,
            };
            if from_draft {
                let (key, drafted) = written.next().expect("it was peeked at");
                let event_prev = if event_prevs { self.event_prev(key)? } else { None };
                hits.push(Hit { key: key.clone(), event_prev });
                prev_kvs.extend(request.prev_kv.then(|| drafted.to_message(key.clone())));
            } else {
                let kv = before.next().expect("it was peeked at");
                hits.push(Hit { key: kv.key.clone(), event_prev: event_prevs.then(|| kv.clone()) });
                prev_kvs.extend(request.prev_kv.then(|| kv.clone()));
            }
        }
        Ok(PartKind::Delete { span, hits, prev_kvs })
    }

    /// A get of one key, which sees what the txn has written unless it asks for an older revision.
    fn evaluate_get(&self, request: &RangeRequest) -> Result<RangeResponse, Stop> {
        let key = request.key.clone();
        let kv = match u64::try_from(request.revision) {
            Ok(asked @ 1..) => self.basis.view.get(&key, At::end_of(Revision(asked)))?.map(|state| state.to_message(key)),
            _ => self.current(&key, true)?.map(|current| current.to_message(key)),
        };
        let count = i64::from(kv.is_some());
        let mut kvs: Vec<KeyValue> = kv.into_iter().filter(|_| !request.count_only).collect();
        for kv in kvs.iter_mut().filter(|_| request.keys_only) {
            kv.value = Bytes::new();
            // As etcd 3.7: it takes keys from its index, which has no leases, unless it needs the values to sort by.
            if request.sort_target != SortTarget::Value as i32 {
                kv.lease = 0;
            }
        }
        Ok(RangeResponse { header: None, kvs, more: false, count })
    }
}

impl Part {
    /// How many changes each operation of this part makes here, by its index along the path; the others make none here.
    pub fn changes(&self) -> impl Iterator<Item = (usize, u32)> {
        self.ops.iter().map(|op| (op.index, op.kind.changes()))
    }

    /// At most so many bytes its effects take when they are encoded.
    pub fn encoded_bytes_max(&self) -> usize {
        self.ops.iter().map(|op| op.kind.encoded_bytes_max()).sum()
    }

    /// The effects and answers, with the operation numbers of the whole path.
    pub fn finish(self, operations: &Operations) -> Finished {
        let mut finished = Finished { effects: Vec::new(), touched: Vec::new(), answers: Vec::new() };
        for PartOp { index, kind } in self.ops {
            finished
                .answers
                .push((index, finish_op(kind, operations.before(index), &mut finished.effects, &mut finished.touched)));
        }
        finished
    }
}

impl PartKind {
    pub(super) fn changes(&self) -> u32 {
        match self {
            PartKind::Put { .. } => 1,
            PartKind::Delete { hits, .. } => u32::try_from(hits.len()).expect("fewer than 2^32 keys"),
            PartKind::Range(_) => 0,
        }
    }

    fn encoded_bytes_max(&self) -> usize {
        match self {
            PartKind::Put { key, drafted, .. } => EFFECT_OVERHEAD_BYTES + key.len() + drafted.value.len(),
            PartKind::Delete { span, .. } => EFFECT_OVERHEAD_BYTES + span.bytes(),
            PartKind::Range(_) => 0,
        }
    }
}

/// Appends what an operation does, with its number, and gives its answer.
pub(super) fn finish_op(kind: PartKind, operation: u32, effects: &mut Vec<Effect>, touched: &mut Vec<Touched>) -> OpAnswer {
    let effect = effects.len();
    match kind {
        PartKind::Put { key, drafted, event_prev, answer } => {
            touched.push(Touched { operation, key: key.clone(), effect, prev: event_prev });
            let Drafted { create_revision, version, lease, value } = drafted;
            effects.push(Effect::Put { operation, key, value, lease, create_revision, version });
            OpAnswer::Put(answer)
        }
        PartKind::Delete { span, hits, prev_kvs } => {
            let deleted = hits.len() as i64;
            let changes = |hit: Hit| Touched { operation, key: hit.key, effect, prev: hit.event_prev };
            touched.extend(hits.into_iter().map(changes));
            match span {
                _ if deleted == 0 => {}
                Span::Key(key) => effects.push(Effect::Delete { operation, key }),
                span => effects.push(Effect::DeleteRange { operation, span }),
            }
            OpAnswer::Delete(DeleteRangeResponse { header: op_header(operation > 0 || deleted > 0), deleted, prev_kvs })
        }
        PartKind::Range(mut answer) => {
            answer.header = op_header(operation > 0);
            OpAnswer::Range(answer)
        }
    }
}
