//! A core's part in an election and a takeover (rules 6, 7 and 9): freeze, report, cut, append barriers, open.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::mutant::{self, Mutant};
use crate::base::{CoreId, GroupId, Index, Revision, Term};
use crate::raft::Configuration;
use crate::reign::Reign;
use crate::state::Payload;

use super::core::{Core, Waiting};
use super::effects::Effect;
use super::events::{CoreMessage, OwnStripe};
use super::messages::{Answer, Leave, Refusal, Ticket};

impl Core {
    /// Moves to `term`: from now on nothing of a lower one is accepted, acknowledged or counted (rule 6).
    pub(super) fn freeze(&mut self, term: Term, effects: &mut Vec<Effect>) {
        if term < self.term {
            return;
        }
        self.term = term;
        self.serving = false;
        for shard in &mut self.shards {
            shard.replica.raft.freeze(term);
            shard.barrier = None;
        }
        self.unreported = true;
        self.report_if_settled(effects);
    }

    /// Rule 7: what the old reign made stable is committed here; everything of it that waits is told that the outcome is unknown.
    pub(super) fn end_reign(&mut self, term: Term, stable: Revision, effects: &mut Vec<Effect>) {
        if self.reign.take_if(|reign| reign.term() == term).is_none() {
            return;
        }
        self.known_stable = self.known_stable.max(stable);
        let mut unanswered: Vec<(Ticket, Refusal)> = Vec::new();
        for shard in &mut self.shards {
            shard.replica.raft.commit(stable);
            if let Some(held) = shard.held.take() {
                self.log.keep_promise(held.promised);
            }
            shard.walking = None;
            unanswered.extend(shard.in_flight.drain(..).filter_map(|f| Some((f.answer?.0, Refusal::LeaderChanged))));
            unanswered.extend(shard.queue.drain(..).map(|w| (w.ticket, Refusal::NotLeader)));
            for work in shard.waiting.values_mut().map(|awaited| &mut awaited.work).chain([&mut shard.sliced]) {
                work.retain_mut(|w| match w {
                    Waiting::Write(write) => {
                        unanswered.push((write.ticket, Refusal::NotLeader));
                        false
                    }
                    Waiting::Hold { .. } | Waiting::Part { .. } => false,
                    Waiting::Read(_)
                    | Waiting::Nobody
                    | Waiting::Apply
                    | Waiting::Ahead(_)
                    | Waiting::Slice
                    | Waiting::Defragment => true,
                });
            }
            shard.overlay.clear();
        }
        for (ticket, refusal) in unanswered {
            self.answer(ticket, Leave::Now, Answer::Refused(refusal), effects);
        }
        effects.push(Effect::ToCore(CoreId(0), CoreMessage::ReignEnded { core: self.id, term, stable }));
    }

    /// Reports where the logs end, once everything that was accepted is on disk.
    pub(super) fn report_if_settled(&mut self, effects: &mut Vec<Effect>) {
        let reports: Option<Vec<_>> = self.shards.iter().map(|s| s.replica.raft.report()).collect();
        if let Some(reports) = reports {
            self.unreported = false;
            let applied = self.shards.iter().map(|s| s.replica.applied_revision()).max().unwrap_or_default();
            let known_stable = self.known_stable.max(applied);
            let message = CoreMessage::Frozen { core: self.id, term: self.term, reports, known_stable };
            effects.push(Effect::ToCore(CoreId(0), message));
        }
    }

    pub(super) fn tell_stripes(&mut self, term: Term, effects: &mut Vec<Effect>) {
        if term != self.term {
            return;
        }
        let stripes = self.shards.iter().map(|shard| OwnStripe {
            group: shard.id(),
            applied: shard.replica.applied_revision(),
            marks: shard.replica.raft.log().marks().collect(),
            last: shard.replica.raft.log().last().index,
        });
        let message = CoreMessage::Stripes { core: self.id, term, stripes: stripes.collect() };
        effects.push(Effect::ToCore(CoreId(0), message));
    }

    /// Cuts the merged logs and appends the barriers (rule 9). Nothing commits in any group before all barriers are at a quorum.
    pub(super) fn cut(
        &mut self,
        term: Term,
        w_final: Revision,
        cuts: &[(GroupId, Index)],
        configuration: &Bytes,
        effects: &mut Vec<Effect>,
    ) {
        if term != self.term {
            return;
        }
        let newest = match Configuration::decode(configuration) {
            Ok(configuration) => configuration,
            Err(_) => return effects.push(Effect::Fatal("the takeover's configuration cannot be read".into())),
        };
        self.log.taken_over(cuts);
        for shard in &mut self.shards {
            let cut = cuts.iter().find(|(group, _)| *group == shard.replica.id());
            let &(_, after) = cut.expect("a takeover names every group");
            if !mutant::on(Mutant::CutSkipped) {
                shard.replica.raft.cut(after);
            }
            shard.replica.raft.lead(term);
            let payload = Payload::Barrier { term, configuration: configuration.clone() }.encode();
            let mark = crate::base::Mark::After(w_final);
            shard.barrier = Some(shard.replica.raft.propose_configuration(mark, payload, newest.clone()));
        }
    }

    /// Tells core 0 when a quorum has this group's barrier.
    pub(super) fn barrier_reached(&mut self, place: usize, effects: &mut Vec<Effect>) {
        let (term, shard) = (self.term, &mut self.shards[place]);
        let reached = shard.barrier.is_some_and(|barrier| shard.replica.raft.quorum_index() >= barrier);
        if reached {
            shard.barrier = None;
            let message = CoreMessage::BarrierAtQuorum { group: shard.replica.id(), term };
            effects.push(Effect::ToCore(CoreId(0), message));
        }
    }

    /// The reign is made: everything up to the barriers commits and is applied.
    pub(super) fn open(&mut self, reign: Arc<Reign>) {
        if reign.term() != self.term {
            return;
        }
        for shard in &self.shards {
            reign.publish_quorum_index(shard.replica.id(), shard.replica.raft.quorum_index());
        }
        self.reign = Some(reign);
    }

    /// Tells core 0, once, that everything up to the barriers is applied here.
    pub(super) fn serve_when_applied(&mut self, effects: &mut Vec<Effect>) {
        let Some(reign) = self.reign.as_ref().filter(|_| !self.serving) else { return };
        let applied = self.shards.iter().all(|s| {
            let raft = &s.replica.raft;
            let left_out = mutant::on(Mutant::OneBarrierMissing) && s.barrier.is_some_and(|at| raft.quorum_index() < at);
            s.replica.is_applied() && (left_out || raft.commit_index() == raft.log().last().index)
        });
        if applied {
            self.serving = true;
            let message = CoreMessage::Opened { core: self.id, term: reign.term() };
            effects.push(Effect::ToCore(CoreId(0), message));
        }
    }
}
