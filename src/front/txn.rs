//! Txns: which way they go, those that only read, and the answers put together from what was evaluated and what was read.

use bytes::Bytes;

use crate::base::{GroupId, GroupSet, KeyRange, Revision};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::request_op::Request as Op;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::mvccpb::KeyValue;
use crate::shard::messages::{At, OpResponse, WriteResponse};

use super::call::{CallId, Status, frame};
use super::config::Layout;
use super::errors;
use super::front::{Begun, Front, Stop};
use super::range::{Outcome, RangeJob};
use super::reads::Then;

/// Whether a txn goes no further than this front: etcd asks that every operation of both branches is a range, none nested.
pub fn is_read_only(r: &pb::TxnRequest) -> bool {
    r.success.iter().chain(&r.failure).all(|op| matches!(op.request, Some(Op::RequestRange(_))))
}

/// Where a txn that writes goes: its compares and writes choose, its ranges do not.
pub struct Route {
    /// The groups of its compares and of all its possible writes; one at least.
    pub groups: GroupSet,
    /// Whether something of its answer may have to be read after its revision is stable.
    pub reads_later: bool,
}

impl Route {
    /// The way of a txn.
    pub fn of(txn: &pb::TxnRequest, layout: &Layout) -> Route {
        let mut groups = GroupSet::EMPTY;
        let mut ranges = false;
        let mut prevs = false;
        Route::walk(txn, &mut |range| groups.0 |= layout.set_of(range).0);
        Route::looks(txn, &mut ranges, &mut prevs);
        if groups.is_empty() {
            // Nothing but ranges, in a nested txn: any shard can say which branches run.
            groups = GroupSet::of(GroupId(1));
        }
        Route { groups, reads_later: ranges || (prevs && groups.len() > 1) }
    }

    fn walk(txn: &pb::TxnRequest, touch: &mut impl FnMut(&KeyRange)) {
        for c in &txn.compare {
            touch(&KeyRange::of(&c.key, &c.range_end));
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(Op::RequestPut(r)) => touch(&KeyRange::of(&r.key, &Bytes::new())),
                Some(Op::RequestDeleteRange(r)) => touch(&KeyRange::of(&r.key, &r.range_end)),
                Some(Op::RequestTxn(r)) => Route::walk(r, touch),
                Some(Op::RequestRange(_)) | None => {}
            }
        }
    }

    fn looks(txn: &pb::TxnRequest, ranges: &mut bool, prevs: &mut bool) {
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(Op::RequestRange(_)) => *ranges = true,
                Some(Op::RequestPut(r)) => *prevs |= r.prev_kv,
                Some(Op::RequestDeleteRange(r)) => *prevs |= r.prev_kv,
                Some(Op::RequestTxn(r)) => Route::looks(r, ranges, prevs),
                None => {}
            }
        }
    }
}

impl Layout {
    /// The groups that can hold keys of `range`.
    pub fn set_of(&self, range: &KeyRange) -> GroupSet {
        match range.single() {
            Some(key) => GroupSet::of(self.of_key(key)),
            None => self.groups().collect(),
        }
    }
}

impl Front {
    // Txns that only read.

    pub(super) fn read_only_txn(&mut self, id: CallId, txn: pb::TxnRequest) -> Begun {
        let ops = || txn.success.iter().chain(&txn.failure);
        let serializable = ops().all(|op| matches!(&op.request, Some(Op::RequestRange(r)) if r.serializable));
        if !serializable {
            self.reign()?;
        }
        let revision = self.hold_current(id)?;
        let at = At::end_of(revision);
        let layout = &self.config.layout;
        let jobs: Vec<RangeJob> =
            txn.compare.iter().map(|c| RangeJob::whole(c.key.clone(), c.range_end.clone(), at, layout)).collect();
        for job in &jobs {
            self.free_for(job)?;
        }
        self.no_limit(id);
        self.start_reads(id, jobs, Then::Compare { txn: Box::new(txn), revision });
        Ok(())
    }

    pub(super) fn compares_read(
        &mut self,
        id: CallId,
        txn: pb::TxnRequest,
        revision: Revision,
        outcomes: impl Iterator<Item = Outcome>,
    ) {
        let succeeded = txn.compare.iter().zip(outcomes).all(|(c, outcome)| holds(c, &outcome.kvs));
        let branch = if succeeded { txn.success } else { txn.failure };
        let ranges = branch.into_iter().map(|op| match op.request {
            Some(Op::RequestRange(r)) => r,
            _ => unreachable!("it only reads"),
        });
        let mut jobs = Vec::new();
        for range in ranges {
            match self.branch_revision(id, range.revision, revision) {
                Ok(at) => jobs.push(RangeJob::new(range, At::end_of(at), &self.config.layout)),
                Err(status) => return self.finish(id, status),
            }
        }
        self.start_reads(id, jobs, Then::Chosen { revision, succeeded });
    }

    /// The revision that a range in a txn that only reads is read at. etcd's check here is not the one of a range alone: what is
    /// negative counts as compacted, once anything was.
    fn branch_revision(&mut self, id: CallId, asked: i64, current: Revision) -> Result<Revision, Status> {
        match u64::try_from(asked) {
            Ok(0) => Ok(current),
            Ok(asked) if asked > current.0 => Err(errors::FUTURE_REVISION),
            Ok(asked) if self.hold(id, Revision(asked)) => Ok(Revision(asked)),
            Err(_) if asked >= self.shared.compact_revision() => Ok(current),
            _ => Err(errors::COMPACTED),
        }
    }

    pub(super) fn branch_read(
        &mut self,
        id: CallId,
        revision: Revision,
        succeeded: bool,
        outcomes: impl Iterator<Item = Outcome>,
    ) {
        let responses: Vec<_> = outcomes.map(|o| wrap(Response::ResponseRange(range_response(o, revision)))).collect();
        self.counts.ranges += responses.len() as u64;
        self.counts.txns += u64::from(responses.len() > 1);
        let header = Some(self.header(revision));
        self.reply(id, frame(&pb::TxnResponse { header, succeeded, responses }));
    }

    // Txns that write.

    /// Keeps the revisions that a txn's ranges name: they are read after it.
    pub(super) fn hold_named(&mut self, id: CallId, txn: &pb::TxnRequest) -> Result<(), Stop> {
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(Op::RequestRange(r)) if r.revision > 0 => {
                    // A branch that is not taken may name what it likes: whether it is there is looked at by who evaluates.
                    let named = Revision(r.revision as u64);
                    if named <= self.shared.serving() {
                        let _kept = self.hold(id, named);
                    }
                }
                Some(Op::RequestTxn(r)) => self.hold_named(id, r)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// A txn was evaluated and is stable: reads what is missing of its answer.
    pub(super) fn txn_written(&mut self, id: CallId, revision: Revision, succeeded: bool, responses: Vec<OpResponse>) {
        let mut jobs = Vec::new();
        let read = Missing { revision, changes: changes(&responses), layout: &self.config.layout };
        read.jobs(&responses, &mut jobs);
        self.no_limit(id);
        self.start_reads(id, jobs, Then::Written { revision, succeeded, responses });
    }

    pub(super) fn txn_read(
        &mut self,
        id: CallId,
        revision: Revision,
        succeeded: bool,
        responses: Vec<OpResponse>,
        mut outcomes: impl Iterator<Item = Outcome>,
    ) {
        self.count(&responses);
        let before = if changes(&responses) { Revision(revision.0 - 1) } else { revision };
        let mut assembly = Assembly { at: before, changed: revision, outcomes: &mut outcomes };
        let responses = assembly.responses(responses);
        let header = Some(self.header(revision));
        self.reply(id, frame(&pb::TxnResponse { header, succeeded, responses }));
    }

    fn count(&mut self, responses: &[OpResponse]) {
        let done = Operations::of(responses);
        self.counts.ranges += done.ranges;
        self.counts.deletes += done.deletes;
        self.counts.txns += u64::from(done.ranges + done.deletes + done.puts > 1);
    }
}

/// How many operations a txn did, those of nested ones included.
#[derive(Default)]
struct Operations {
    ranges: u64,
    puts: u64,
    deletes: u64,
}

impl Operations {
    fn of(responses: &[OpResponse]) -> Operations {
        let mut sum = Operations::default();
        for response in responses {
            match response {
                OpResponse::Range(_) | OpResponse::ReadRange { .. } => sum.ranges += 1,
                OpResponse::ReadDelete { .. } | OpResponse::Done(WriteResponse::Delete { .. }) => sum.deletes += 1,
                OpResponse::ReadPrevious { .. } | OpResponse::Done(WriteResponse::Put { .. }) => sum.puts += 1,
                OpResponse::Done(WriteResponse::Txn { responses, .. }) => {
                    let nested = Operations::of(responses);
                    sum.ranges += nested.ranges;
                    sum.puts += nested.puts;
                    sum.deletes += nested.deletes;
                }
            }
        }
        sum
    }
}

/// What is missing of the answer of a txn, and where it is read.
struct Missing<'a> {
    revision: Revision,
    /// Whether the txn changed anything: else it took no revision, and reads all of the current one.
    changes: bool,
    layout: &'a Layout,
}

impl Missing<'_> {
    fn at(&self, operations: u32) -> At {
        if self.changes { At { revision: self.revision, operations } } else { At::end_of(self.revision) }
    }

    /// The jobs that read it, in order of the operations, nested ones included.
    fn jobs(&self, responses: &[OpResponse], jobs: &mut Vec<RangeJob>) {
        for response in responses {
            match response {
                OpResponse::Done(WriteResponse::Txn { responses, .. }) => self.jobs(responses, jobs),
                OpResponse::Done(_) | OpResponse::Range(_) => {}
                OpResponse::ReadRange { request, operations } => {
                    let at = match u64::try_from(request.revision) {
                        Ok(named) if named > 0 => At::end_of(Revision(named)),
                        _ => self.at(*operations),
                    };
                    jobs.push(RangeJob::new(request.clone(), at, self.layout));
                }
                OpResponse::ReadDelete { request, operations, .. } => {
                    if request.prev_kv {
                        let (key, range_end) = (request.key.clone(), request.range_end.clone());
                        jobs.push(RangeJob::whole(key, range_end, self.at(*operations), self.layout));
                    }
                }
                OpResponse::ReadPrevious { key, operations } => {
                    jobs.push(RangeJob::whole(key.clone(), Bytes::new(), self.at(*operations), self.layout));
                }
            }
        }
    }
}

/// Whether anything was changed by these operations.
fn changes(responses: &[OpResponse]) -> bool {
    responses.iter().any(|response| match response {
        OpResponse::Done(WriteResponse::Put { .. }) | OpResponse::ReadPrevious { .. } => true,
        OpResponse::Done(WriteResponse::Delete { deleted, .. }) | OpResponse::ReadDelete { deleted, .. } => *deleted > 0,
        OpResponse::Done(WriteResponse::Txn { responses, .. }) => changes(responses),
        OpResponse::Range(_) | OpResponse::ReadRange { .. } => false,
    })
}

/// Puts the answer of a txn together. Headers of operations say the revision alone: the txn's once something before has changed a key,
/// before that the one it began at.
struct Assembly<'a, I> {
    at: Revision,
    changed: Revision,
    outcomes: &'a mut I,
}

impl<I: Iterator<Item = Outcome>> Assembly<'_, I> {
    fn responses(&mut self, responses: Vec<OpResponse>) -> Vec<pb::ResponseOp> {
        responses.into_iter().map(|r| wrap(self.response(r))).collect()
    }

    fn response(&mut self, response: OpResponse) -> Response {
        match response {
            OpResponse::Done(WriteResponse::Put { prev }) => self.put(prev),
            OpResponse::Done(WriteResponse::Delete { deleted, prevs }) => self.delete(deleted, prevs),
            OpResponse::Done(WriteResponse::Txn { succeeded, responses }) => {
                let responses = self.responses(responses);
                Response::ResponseTxn(pb::TxnResponse { header: Some(pb::ResponseHeader::default()), succeeded, responses })
            }
            OpResponse::Range(range) => Response::ResponseRange(pb::RangeResponse { header: inner(self.at), ..range }),
            OpResponse::ReadRange { .. } => {
                let outcome = self.read();
                Response::ResponseRange(range_response(outcome, self.at))
            }
            OpResponse::ReadDelete { request, deleted, .. } => {
                let prevs = if request.prev_kv { self.read().kvs } else { Vec::new() };
                self.delete(deleted, prevs)
            }
            OpResponse::ReadPrevious { .. } => {
                let prev = self.read().kvs.pop();
                self.put(prev)
            }
        }
    }

    fn put(&mut self, prev_kv: Option<KeyValue>) -> Response {
        self.at = self.changed;
        Response::ResponsePut(pb::PutResponse { header: inner(self.at), prev_kv })
    }

    fn delete(&mut self, deleted: i64, prev_kvs: Vec<KeyValue>) -> Response {
        if deleted > 0 {
            self.at = self.changed;
        }
        Response::ResponseDeleteRange(pb::DeleteRangeResponse { header: inner(self.at), deleted, prev_kvs })
    }

    fn read(&mut self) -> Outcome {
        self.outcomes.next().expect("a read for each answer that wants one")
    }
}

fn inner(revision: Revision) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision: revision.as_i64(), ..Default::default() })
}

fn range_response(outcome: Outcome, revision: Revision) -> pb::RangeResponse {
    pb::RangeResponse { header: inner(revision), kvs: outcome.kvs, more: outcome.more, count: outcome.count as i64 }
}

fn wrap(response: Response) -> pb::ResponseOp {
    pb::ResponseOp { response: Some(response) }
}

/// Whether a compare holds for the keys of its range (etcd's `applyCompare`).
pub fn holds(c: &pb::Compare, kvs: &[KeyValue]) -> bool {
    if kvs.is_empty() {
        // A value compare of a key that is not there never holds.
        return c.target != pb::compare::CompareTarget::Value as i32 && key_holds(c, &KeyValue::default());
    }
    kvs.iter().all(|kv| key_holds(c, kv))
}

fn key_holds(c: &pb::Compare, kv: &KeyValue) -> bool {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    use std::cmp::Ordering;
    let ordering = match (CompareTarget::try_from(c.target), &c.target_union) {
        (Ok(CompareTarget::Value), Some(TargetUnion::Value(value))) => kv.value.cmp(value),
        (Ok(CompareTarget::Value), _) => kv.value.as_ref().cmp(&[]),
        (Ok(CompareTarget::Version), Some(TargetUnion::Version(n))) => kv.version.cmp(n),
        (Ok(CompareTarget::Version), _) => kv.version.cmp(&0),
        (Ok(CompareTarget::Create), Some(TargetUnion::CreateRevision(n))) => kv.create_revision.cmp(n),
        (Ok(CompareTarget::Create), _) => kv.create_revision.cmp(&0),
        (Ok(CompareTarget::Mod), Some(TargetUnion::ModRevision(n))) => kv.mod_revision.cmp(n),
        (Ok(CompareTarget::Mod), _) => kv.mod_revision.cmp(&0),
        (Ok(CompareTarget::Lease), Some(TargetUnion::Lease(n))) => kv.lease.cmp(n),
        (Ok(CompareTarget::Lease), _) => kv.lease.cmp(&0),
        (Err(_), _) => Ordering::Equal,
    };
    match CompareResult::try_from(c.result) {
        Ok(CompareResult::Equal) => ordering == Ordering::Equal,
        Ok(CompareResult::NotEqual) => ordering != Ordering::Equal,
        Ok(CompareResult::Greater) => ordering == Ordering::Greater,
        Ok(CompareResult::Less) => ordering == Ordering::Less,
        Err(_) => true,
    }
}
