//! Requests over several shards: hold, decide, commit, let go (architecture, section 4; rule 4).
//!
//! ```text
//!   queued ──groups free──▶ holding ──all held──▶ decided: revision taken, parts sent ──all adopted──▶ gone
//!                                         └─────▶ nothing to change: released, answered ───────────────▶ gone
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::{GroupId, GroupSet, LeaseId, Mark, Revision};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{RequestOp, TxnRequest};
use crate::reign::{Owner, Reign};
use crate::shard::messages::OpResponse;
use crate::shard::{
    Answer, CoreMessage, Decision, Facts, HoldId, HoldPurpose, Leave, PartFacts, Refusal, Ticket, Write, WriteResponse, settle,
};
use crate::state::evaluate::{self, Answers, OpAnswer, Operations, Outcome, Path, combine, compares, decide};
use crate::state::{MetaEffect, Payload};

use super::chief::{Action, Chief, Then};

/// One request over several shards.
pub(super) struct Operation {
    id: HoldId,
    groups: GroupSet,
    ticket: Option<Ticket>,
    purpose: Arc<HoldPurpose>,
    held: BTreeMap<GroupId, Facts>,
    path: Option<Arc<Path>>,
    parts: BTreeMap<GroupId, PartFacts>,
    /// The operations of the txn that takes a revision, and the answers to them as they come in.
    answering: Option<(Operations, Answers)>,
    /// It took its revisions itself, and the coordinator's slot covers them; else it only names one that someone else took.
    takes: bool,
    /// The request was a single write and no txn.
    is_one_write: bool,
    /// The revisions taken, each with the groups that have not adopted it yet.
    adopting: BTreeMap<Revision, GroupSet>,
}

impl Operation {
    pub(super) fn new(id: HoldId, groups: GroupSet, ticket: Option<Ticket>, purpose: HoldPurpose) -> Operation {
        assert!(!groups.is_empty() && !groups.has(GroupId::META), "data groups are held, group 0 is the coordinator's own");
        Operation {
            id,
            groups,
            ticket,
            purpose: Arc::new(purpose),
            held: BTreeMap::new(),
            path: None,
            parts: BTreeMap::new(),
            answering: None,
            takes: false,
            is_one_write: false,
            adopting: BTreeMap::new(),
        }
    }
}

impl Operation {
    /// The operation numbers along the path, and which groups change something.
    fn number(&self) -> (Operations, GroupSet) {
        let mut changes = Vec::new();
        let mut written = GroupSet::EMPTY;
        for (&group, part) in &self.parts {
            let PartFacts::Changes(operations, of) = part else { unreachable!("a refused txn is not numbered") };
            changes.resize(*operations, 0u32);
            for &(place, count) in of {
                changes[place] += count;
                written = if count > 0 { written.with(group) } else { written };
            }
        }
        (Operations::of_changes(changes), written)
    }

    /// The whole answer, in the shape of the request.
    fn response(&mut self, before: Revision, this: Revision) -> WriteResponse {
        let HoldPurpose::Txn(txn) = &*self.purpose else { unreachable!("a revocation has an answer of its own") };
        let (operations, answers) = self.answering.take().expect("the answers have been gathered");
        let path = self.path.as_ref().expect("the path has been decided");
        let answer = answers.assemble(txn, path, &operations);
        match settle(evaluate::Answer::Txn(answer), before, this) {
            // A delete over several shards went as a txn of one operation.
            WriteResponse::Txn { mut responses, .. } if self.is_one_write => match responses.pop() {
                Some(OpResponse::Done(response)) => response,
                other => unreachable!("a write is answered by a write's answer, not {other:?}"),
            },
            response => response,
        }
    }
}

/// A txn of this one operation.
fn of_one(request: Request) -> TxnRequest {
    TxnRequest { compare: Vec::new(), success: vec![RequestOp { request: Some(request) }], failure: Vec::new() }
}

impl Chief {
    pub(super) fn new_hold(&mut self) -> HoldId {
        self.next_hold += 1;
        HoldId(self.next_hold)
    }

    pub(super) fn write(&mut self, ticket: Ticket, write: Write, groups: GroupSet, actions: &mut Vec<Action>) {
        let (txn, is_one_write) = match write {
            Write::Txn(txn) => (txn, false),
            Write::Delete(delete) => (of_one(Request::RequestDeleteRange(delete)), true),
            Write::Put(put) => (of_one(Request::RequestPut(put)), true),
        };
        let mut operation = Operation::new(self.new_hold(), groups, Some(ticket), HoldPurpose::Txn(txn));
        operation.is_one_write = is_one_write;
        self.begin(operation, actions);
    }

    /// Begins an operation as soon as nothing before it wants any of its groups.
    pub(super) fn begin(&mut self, operation: Operation, actions: &mut Vec<Action>) {
        self.queue.push_back(operation);
        self.begin_queued(actions);
    }

    fn begin_queued(&mut self, actions: &mut Vec<Action>) {
        let mut wanted = self.busy;
        for operation in std::mem::take(&mut self.queue) {
            let free = wanted.0 & operation.groups.0 == 0;
            wanted.0 |= operation.groups.0;
            if !free {
                self.queue.push_back(operation);
                continue;
            }
            self.busy.0 |= operation.groups.0;
            for group in operation.groups.iter() {
                let purpose = operation.purpose.clone();
                let hold = CoreMessage::Hold { id: operation.id, term: self.term, group, purpose };
                self.to_core_of(group, hold, actions);
            }
            self.operations.insert(operation.id, operation);
        }
    }

    /// A queued write that nobody waits for any more is dropped. A revocation is not: its lease counts as being revoked.
    pub fn cancel(&mut self, ticket: Ticket, actions: &mut Vec<Action>) {
        let before = self.queue.len();
        let is_dropped = |o: &Operation| o.ticket == Some(ticket) && matches!(*o.purpose, HoldPurpose::Txn(_));
        self.queue.retain(|operation| !is_dropped(operation));
        if self.queue.len() < before {
            self.answer_now(ticket, Answer::Refused(Refusal::Cancelled), actions);
        }
    }

    /// A group is held and says what the request meets there.
    pub(super) fn held(&mut self, id: HoldId, group: GroupId, facts: Facts, actions: &mut Vec<Action>) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        operation.held.insert(group, facts);
        let all: GroupSet = operation.held.keys().copied().collect();
        if all != operation.groups {
            return;
        }
        let Some(reign) = self.reign.clone() else { return };
        let purpose = operation.purpose.clone();
        match &*purpose {
            HoldPurpose::Txn(txn) => self.decide_path(id, txn, actions),
            HoldPurpose::Revoke(leases) => {
                let mut operation = self.take_operation(id);
                self.decide_revocations(&reign, &mut operation, leases, actions);
                self.keep(operation);
            }
        }
        self.begin_queued(actions);
    }

    /// Every compare is answered: the branches are chosen, and each shard evaluates its part of the operations along them.
    fn decide_path(&mut self, id: HoldId, txn: &TxnRequest, actions: &mut Vec<Action>) {
        let operation = self.operations.get_mut(&id).expect("it is being decided");
        let outcomes: Vec<&Vec<Option<Outcome>>> = operation.held.values().filter_map(Facts::outcomes).collect();
        let holds =
            compares(txn).into_iter().enumerate().map(|(place, of)| combine(of, outcomes.iter().filter_map(|o| o[place])));
        let path = Arc::new(decide(txn, &holds.collect::<Vec<bool>>()));
        operation.path = Some(path.clone());
        for group in operation.groups.iter().collect::<Vec<_>>() {
            self.to_core_of(group, CoreMessage::Evaluate { id, group, path: path.clone() }, actions);
        }
    }

    /// A shard has evaluated its part. When all have, the txn is refused, or changes nothing, or takes its revision.
    pub(super) fn evaluated(&mut self, id: HoldId, group: GroupId, part: PartFacts, actions: &mut Vec<Action>) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        operation.parts.insert(group, part);
        if operation.parts.len() < operation.groups.len() as usize {
            return;
        }
        let Some(reign) = self.reign.clone() else { return };
        let mut operation = self.take_operation(id);
        self.decide_txn(&reign, &mut operation, actions);
        self.keep(operation);
        self.begin_queued(actions);
    }

    fn take_operation(&mut self, id: HoldId) -> Operation {
        let operation = self.operations.remove(&id).expect("it is being decided");
        self.busy.0 &= !operation.groups.0;
        operation
    }

    /// An operation stays until every part is adopted.
    fn keep(&mut self, operation: Operation) {
        if !operation.adopting.is_empty() {
            self.operations.insert(operation.id, operation);
        }
    }

    fn decide_txn(&mut self, reign: &Reign, operation: &mut Operation, actions: &mut Vec<Action>) {
        let ticket = operation.ticket.expect("a txn has a front that asked for it");
        let refused = operation.parts.values().filter_map(PartFacts::refused).min_by_key(|(place, _)| *place);
        if let Some((_, refusal)) = refused {
            self.release(operation, operation.groups, actions);
            return self.answer_by_state(reign, ticket, Answer::Refused(refusal), actions);
        }
        let (operations, written) = operation.number();
        operation.answering = Some((operations.clone(), Answers::new(operations.len())));
        let revision = if !written.is_empty() {
            self.take(reign, operation, operation.groups)
        } else {
            // Nothing to take; the shards still give what their gets found.
            operation.adopting.insert(reign.after(), operation.groups);
            reign.after()
        };
        let decision = Decision::Txn(operations);
        self.commit(operation, revision, operation.groups, written, &decision, true, actions);
    }

    /// Deletes the keys of each lease in a revision of its own; a lease without keys goes without a revision (rule 3).
    fn decide_revocations(&mut self, reign: &Reign, operation: &mut Operation, leases: &[LeaseId], actions: &mut Vec<Action>) {
        let attached = |operation: &Operation, place: usize| -> GroupSet {
            let with_keys = operation.held.iter().filter(|(_, facts)| match facts {
                Facts::Attached(with_keys) => with_keys[place],
                Facts::Outcomes(_) => false,
            });
            with_keys.map(|(&group, _)| group).collect()
        };
        self.to_cores(&CoreMessage::LeasesGone(Arc::new(leases.to_vec())), actions);
        leases.iter().for_each(|&id| self.lessor.set_gone(id));
        for (place, &id) in leases.iter().enumerate() {
            let payload = Payload::Meta(MetaEffect::LeaseRevoke { id });
            let written = attached(operation, place);
            if written.is_empty() {
                let then = Then::Revoked { id, revision: None };
                self.propose(reign, payload, operation.ticket, then, actions);
                continue;
            }
            let participants = written.with(GroupId::META);
            let revision = self.take(reign, operation, written);
            let decision = Decision::Revoke { place };
            self.commit(operation, revision, written, participants, &decision, false, actions);
            // Group 0 is this thread's: its part is in its log and its slot at once.
            reign.adopt(Owner::Group(GroupId::META), revision);
            let then = Then::Revoked { id, revision: Some(revision) };
            self.propose_marked(Mark::Revision { revision, participants }, payload, operation.ticket, then, actions);
        }
        self.release(operation, operation.groups, actions);
    }

    /// Takes a revision for the coordinator; its slot covers it until `written` have adopted it.
    fn take(&mut self, reign: &Reign, operation: &mut Operation, written: GroupSet) -> Revision {
        let revision = reign.take(Owner::Coordinator);
        self.covering.insert(revision);
        operation.takes = true;
        operation.adopting.insert(revision, written);
        revision
    }

    #[allow(clippy::too_many_arguments, reason = "one message, spelled out")]
    fn commit(
        &self,
        operation: &Operation,
        revision: Revision,
        written: GroupSet,
        participants: GroupSet,
        decision: &Decision,
        last: bool,
        actions: &mut Vec<Action>,
    ) {
        for group in written.iter() {
            let decision = decision.clone();
            let part = CoreMessage::Commit { id: operation.id, term: self.term, group, revision, participants, decision, last };
            self.to_core_of(group, part, actions);
        }
    }

    fn release(&self, operation: &Operation, groups: GroupSet, actions: &mut Vec<Action>) {
        for group in groups.iter() {
            self.to_core_of(group, CoreMessage::Release { id: operation.id, group }, actions);
        }
    }

    /// A group has its part in its log and in its own slot. When all have, the answer is whole, and the coordinator's slot rises.
    pub(super) fn adopted(
        &mut self,
        id: HoldId,
        group: GroupId,
        revision: Revision,
        answers: Vec<(usize, OpAnswer)>,
        actions: &mut Vec<Action>,
    ) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        if let Some((_, all)) = &mut operation.answering {
            answers.into_iter().for_each(|(place, answer)| all.add(place, answer));
        }
        let rest = operation.adopting.get_mut(&revision).expect("a group adopts what it was given");
        rest.0 &= !GroupSet::of(group).0;
        if !rest.is_empty() {
            return;
        }
        operation.adopting.remove(&revision);
        let takes = operation.takes;
        if operation.adopting.is_empty() {
            let mut operation = self.operations.remove(&id).expect("it is there");
            if let (Some(ticket), true) = (operation.ticket, operation.answering.is_some()) {
                let before = if takes { Revision(revision.0 - 1) } else { revision };
                let response = operation.response(before, revision);
                self.answer(ticket, Leave::Stable(revision), Answer::Write { revision, response }, actions);
            }
        }
        // One that changed nothing names a revision that another operation may have taken, and that is covered for that one.
        if takes {
            assert!(self.covering.remove(&revision), "what the coordinator took is covered until all have adopted it");
        }
        if let Some(reign) = self.reign.clone() {
            self.raise(&reign, actions);
        }
    }

    /// The reign ended: what waits here is answered, what holds is forgotten (the shards let go by themselves).
    pub(super) fn drop_operations(&mut self, actions: &mut Vec<Action>) {
        let operations: Vec<Operation> = self.queue.drain(..).collect();
        let started = std::mem::take(&mut self.operations);
        for operation in operations.into_iter().chain(started.into_values().filter(|o| o.adopting.is_empty())) {
            if let Some(ticket) = operation.ticket {
                self.answer_now(ticket, Answer::Refused(Refusal::LeaderChanged), actions);
            }
        }
        for waiter in std::mem::take(&mut self.proposed) {
            if let Some(ticket) = waiter.ticket {
                self.answer_now(ticket, Answer::Refused(Refusal::LeaderChanged), actions);
            }
        }
        let revoking = std::mem::take(&mut self.revoking);
        for ticket in std::mem::take(&mut self.ending).into_values().chain(revoking.into_values()).flatten() {
            self.answer_now(ticket, Answer::Refused(Refusal::LeaderChanged), actions);
        }
        for (_, ticket) in std::mem::take(&mut self.physical) {
            self.answer_now(ticket, Answer::Refused(Refusal::LeaderChanged), actions);
        }
        self.auto_compactor.failed("etcdserver: leader changed");
        self.busy = GroupSet::EMPTY;
        self.covering.clear();
        self.granting.clear();
        self.compacted = None;
        self.finishing = None;
        self.compactions.clear();
    }
}

#[cfg(test)]
#[path = "operations_test.rs"]
mod tests;
