//! Evaluating writes, and what happens when a quorum has them (architecture, section 2).

use std::sync::Arc;

use crate::base::limits::{SLICE_BYTES_MAX, SLICE_VISITS_MAX};
use crate::base::mutant::{self, Mutant};
use crate::base::{CoreId, GroupId, GroupSet, Index, Mark, Revision};
use crate::mvcc::Budget;
use crate::reign::{Owner, Reign};
use crate::state::evaluate::{self, Basis, Evaluated, Memo, Stop};
use crate::state::{Payload, apply, kv};

use super::answers;
use super::core::{AskedLeases, Core, InFlight, QueuedWrite, Shard, Waiting, Walker};
use super::effects::Effect;
use super::events::CoreMessage;
use super::messages::{Answer, Event, Leave, Refusal, ToFront, Write, WriteResponse};

/// How much one slice of evaluating looks at.
const SLICE: Budget = Budget { visits: SLICE_VISITS_MAX, bytes: SLICE_BYTES_MAX };

impl Core {
    /// A write that lies in one group: evaluated now, or when the hold on its group or another's walk in it ends.
    pub(super) fn write(&mut self, group: GroupId, write: QueuedWrite, effects: &mut Vec<Effect>) {
        let Some(place) = self.place(group) else {
            return self.refuse(&write, Refusal::NotLeader, effects);
        };
        if self.must_wait(place) {
            return self.shards[place].queue.push_back(write);
        }
        self.evaluate(place, write, effects);
    }

    /// Whether writes of this group wait: it is held, or somebody walks in it, or what is evaluated has come too far ahead of what is
    /// applied, or of the log's disk.
    fn must_wait(&self, place: usize) -> bool {
        let shard = &self.shards[place];
        let most = self.layout.checkpoints.unapplied_bytes_max();
        let unapplied = shard.overlay.bytes() as u64 >= most && shard.overlay.bytes_behind_oldest() as u64 >= most;
        shard.is_taken() || unapplied || self.log.is_behind()
    }

    /// The page that a write waited for is there, or its walk's turn has come.
    pub(super) fn write_again(&mut self, place: usize, write: QueuedWrite, effects: &mut Vec<Effect>) {
        let walked = self.shards[place].walking.take_if(|walker| *walker == Walker::Write(write.ticket)).is_some();
        match (self.must_wait(place), walked) {
            (true, true) => return self.shards[place].queue.push_front(write),
            (true, false) => return self.shards[place].queue.push_back(write),
            (false, _) => self.evaluate(place, write, effects),
        }
        self.queued_writes(place, effects);
    }

    /// Evaluates what waited for a hold or a walk to end, or for applying, as far as nothing else is in the way.
    pub(super) fn queued_writes(&mut self, place: usize, effects: &mut Vec<Effect>) {
        while !self.must_wait(place)
            && let Some(write) = self.shards[place].queue.pop_front()
        {
            self.evaluate(place, write, effects);
        }
    }

    fn evaluate(&mut self, place: usize, mut write: QueuedWrite, effects: &mut Vec<Effect>) {
        let reign = match self.reign_of(write.term) {
            Ok(reign) => reign,
            Err(refusal) => return self.refuse(&write, refusal, effects),
        };
        let with_prev = *write.with_prev.get_or_insert(self.board.previous_values_watches() > 0);
        let mut memo = std::mem::take(&mut write.memo);
        let outcome = self.with_basis(place, &reign, with_prev, |basis| match &write.write {
            Write::Put(put) => evaluate::put(basis, put),
            Write::Delete(delete) => evaluate::delete_range(basis, delete, &mut memo),
            Write::Txn(txn) => evaluate::txn(basis, txn, &mut memo),
        });
        write.memo = memo;
        match outcome {
            // A range delete of many keys finds them in slices; nothing else is evaluated in this group meanwhile.
            Err(Stop::Slice) => {
                let shard = &mut self.shards[place];
                shard.walking = Some(Walker::Write(write.ticket));
                shard.sliced.push(Waiting::Write(write));
            }
            Err(Stop::Fault(fault)) => {
                let shard = &mut self.shards[place];
                if write.memo.is_begun() {
                    shard.walking = Some(Walker::Write(write.ticket));
                }
                shard.wait_for(fault, Waiting::Write(write), effects);
            }
            Err(Stop::Refused { refusal: evaluate::Refusal::LeaseNotFound, .. })
                if write.told.is_none() && !mutant::on(Mutant::LeaseNotAsked) =>
            {
                self.ask_leases(AskedLeases::Write(self.shards[place].id(), write), effects);
            }
            Err(Stop::Refused { refusal, .. }) => {
                let leave = leave_without_revision(reign.after(), write.told);
                self.answer(write.ticket, leave, Answer::Refused(refusal.into()), effects);
            }
            Ok(evaluated) if evaluated.changes == 0 => {
                let revision = reign.after();
                let response = answers::settle(evaluated.answer, revision, revision);
                let answer = Answer::Write { revision, response };
                self.answer(write.ticket, Leave::Stable(revision), answer, effects);
            }
            Ok(evaluated) => {
                let bytes = kv::encoded_bytes_max(&evaluated.effects);
                if let Err(refusal) = self.admit(bytes) {
                    return self.refuse(&write, refusal, effects);
                }
                self.propose(place, &reign, &write, evaluated);
            }
        }
    }

    /// Takes the revision; from here on nothing may fail but the member (rule 1).
    fn propose(&mut self, place: usize, reign: &Arc<Reign>, write: &QueuedWrite, evaluated: Evaluated) {
        let with_prev = write.with_prev.expect("it is evaluated");
        let shard = &mut self.shards[place];
        let group = shard.id();
        let revision = reign.take(Owner::Group(group));
        let mark = Mark::Revision { revision, participants: GroupSet::of(group) };
        let Evaluated { effects: changes, touched, answer, .. } = evaluated;
        let response = answers::settle(answer, Revision(revision.0 - 1), revision);
        let answer = Some((write.ticket, Answer::Write { revision, response }));
        let bytes = shard.append_changes(mark, revision, &changes, touched, with_prev, answer);
        self.log.promise(bytes);
    }

    /// Runs `evaluate` against the newest state of a group; `event_prevs`: events get their previous values.
    pub(super) fn with_basis<R>(
        &self,
        place: usize,
        reign: &Reign,
        event_prevs: bool,
        evaluate: impl FnOnce(&Basis<'_>) -> R,
    ) -> R {
        let shard = &self.shards[place];
        let (group, shards) = (shard.id(), self.layout.shards);
        evaluate(&Basis {
            view: shard.view(),
            lease_alive: &|lease| self.live.contains(&lease),
            is_local: &|key| crate::base::group_of(key, shards) == group,
            current: reign.after(),
            compacted: self.board.compact_revision(),
            event_prevs,
            budget: SLICE,
        })
    }

    /// A lease that this core does not know may be on its way here: core 0's answer comes behind all that it told before, and what
    /// waits for it is evaluated again. Only then is the lease not there.
    pub(super) fn ask_leases(&mut self, what: AskedLeases, effects: &mut Vec<Effect>) {
        self.asked_leases.push_back(what);
        effects.push(Effect::ToCore(CoreId(0), CoreMessage::AskLeases(self.id)));
    }

    pub(super) fn leases_told(&mut self, meta: Index, effects: &mut Vec<Effect>) {
        match self.asked_leases.pop_front().expect("core 0 answers what was asked, in its order") {
            AskedLeases::Write(group, write) => self.write(group, QueuedWrite { told: Some(meta), ..write }, effects),
            AskedLeases::Part { id, group, path } => {
                self.part_told(id, group);
                self.evaluate_part(id, group, path, Memo::default(), effects);
            }
        }
    }

    pub(super) fn refuse(&self, write: &QueuedWrite, refusal: Refusal, effects: &mut Vec<Effect>) {
        self.answer(write.ticket, Leave::Now, Answer::Refused(refusal), effects);
    }

    /// More of a group's log is at a quorum: answers and events are queued; the slot is raised when they have left (rules 5 and 13).
    pub(super) fn quorum_reached(&mut self, place: usize, effects: &mut Vec<Effect>) {
        let term = self.term;
        let fronts = self.fronts();
        let shard = &mut self.shards[place];
        let group = shard.id();
        let quorum = shard.replica.raft.quorum_index();
        let mut events = Vec::new();
        while let Some(mut done) = shard.in_flight.pop_front_if(|f| f.index <= quorum) {
            events.append(&mut done.events);
            if let Some((ticket, answer)) = done.answer {
                let leave = Leave::Stable(done.revision);
                effects.push(Effect::ToFront(ticket.front, ToFront::Answer { ticket, term, leave, answer }));
            }
        }
        if !events.is_empty() {
            let last = self.layout.fronts - 1;
            for front in fronts {
                let events = if front.0 == last { std::mem::take(&mut events) } else { events.clone() };
                effects.push(Effect::ToFront(front, ToFront::Events { term: Some(term), group, events }));
            }
        }
        if mutant::on(Mutant::HubToldAfterSlot) {
            self.raise(place, effects);
        }
        self.raising |= 1 << place;
    }

    /// Raises the slots of the groups of which more is at a quorum. The caller has put all earlier effects on their queues, for
    /// whoever sees the slots raised (rule 13). Whether there were any.
    pub fn raise_slots(&mut self, effects: &mut Vec<Effect>) -> bool {
        if let Some(revision) = self.serves.take() {
            self.board.raise_serving(revision);
        }
        let raising = std::mem::take(&mut self.raising);
        for place in (0..self.shards.len()).filter(|place| raising & (1 << place) != 0) {
            self.raise(place, effects);
        }
        raising != 0
    }

    fn raise(&mut self, place: usize, effects: &mut Vec<Effect>) {
        let Some(reign) = self.reign.clone() else { return self.barrier_reached(place, effects) };
        // Frozen: the slot of the reign that is over is never raised again (rule 6).
        if reign.term() != self.term {
            return;
        }
        let shard = &mut self.shards[place];
        reign.publish_quorum_index(shard.id(), shard.replica.raft.quorum_index());
        let lowest = shard.replica.raft.lowest_without_quorum().filter(|_| !mutant::on(Mutant::SlotRaisedEarly));
        if let Some(stable) = reign.raise(Owner::Group(shard.id()), lowest) {
            self.wake_waiters(stable, effects);
        }
    }
}

/// Answers without a revision wait until everything they may rest on is stable: `meta` is the last entry of group 0, for what rests
/// on its state (rule 3).
pub(super) fn leave_without_revision(revision: Revision, meta: Option<Index>) -> Leave {
    match meta.filter(|_| !mutant::on(Mutant::MetaNotAwaited)) {
        Some(index) => Leave::StableAndMeta(revision, index),
        None => Leave::Stable(revision),
    }
}

impl Shard {
    /// Whether it is held, or somebody walks in it.
    fn is_taken(&self) -> bool {
        self.held.is_some() || self.walking.is_some()
    }

    /// Appends decided changes: to the log, to the overlay, and as events on their way to the hubs. The bytes that the log is to promise.
    pub(super) fn append_changes(
        &mut self,
        mark: Mark,
        revision: Revision,
        changes: &[kv::Effect],
        touched: Vec<apply::Touched>,
        with_prev: bool,
        answer: Option<(super::messages::Ticket, Answer)>,
    ) -> usize {
        let bytes = kv::encoded_bytes_max(changes);
        self.proposed_bytes += bytes;
        let payload = Payload::encode_kv(changes);
        let changes = kv::decode(&payload.slice(1..)).expect("it has just been encoded");
        apply::enter(&mut self.overlay, revision, &changes, &touched);
        let events = apply::events(revision, &changes, touched).into_iter().map(|e| Event::of(e, with_prev)).collect();
        let index = self.replica.raft.propose(mark, payload);
        self.in_flight.push_back(InFlight { index, revision, events, answer });
        bytes
    }
}

impl From<evaluate::Refusal> for Refusal {
    fn from(refusal: evaluate::Refusal) -> Refusal {
        match refusal {
            evaluate::Refusal::LeaseNotFound => Refusal::LeaseNotFound,
            evaluate::Refusal::KeyNotFound => Refusal::KeyNotFound,
            evaluate::Refusal::Compacted => Refusal::Compacted,
            evaluate::Refusal::FutureRevision => Refusal::FutureRevision,
        }
    }
}

impl From<WriteResponse> for super::messages::OpResponse {
    fn from(response: WriteResponse) -> super::messages::OpResponse {
        super::messages::OpResponse::Done(response)
    }
}
