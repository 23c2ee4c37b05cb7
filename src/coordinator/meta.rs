//! Group 0's other proposals, and what follows when they are applied: compaction, alarms.

use std::sync::Arc;

use crate::base::limits::COMPACTION_HASHES_MAX;
use crate::base::{GroupId, Instant, MemberId, Revision};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::reign::Reign;
use crate::shard::{Answer, CompactionHash, CoreMessage, Leave, Refusal, Ticket, ToFront};
use crate::state::{MetaEffect, MetaState, Payload};

use super::chief::{Action, Chief, Compaction, Then, Waiter};

impl Chief {
    /// etcd: a revision at or below the last compaction is Compacted, one above the current revision is yet to come.
    pub(super) fn compact(&mut self, reign: &Reign, ticket: Ticket, revision: i64, physical: bool, actions: &mut Vec<Action>) {
        let done = self.compacted.map_or(-1, Revision::as_i64);
        if revision <= done {
            return self.answer_by_state(reign, ticket, Answer::Refused(Refusal::Compacted), actions);
        }
        if revision > reign.stable().as_i64() {
            return self.answer_by_state(reign, ticket, Answer::Refused(Refusal::FutureRevision), actions);
        }
        let compaction = Compaction { from: done, to: Revision(revision.cast_unsigned()) };
        self.compacted = Some(compaction.to);
        let then = Then::Compacted { compaction, physical, hash: None };
        self.propose(reign, Payload::Compaction(compaction.to), Some(ticket), then, actions);
    }

    /// A front has hashed what its compaction goes through. It counts if no other compaction came between.
    pub(super) fn compaction_hash(&mut self, ticket: Ticket, hash: CompactionHash, actions: &mut Vec<Action>) {
        let hashed = Compaction { from: hash.query.compacted, to: hash.query.revision };
        let proposed = self.proposed.iter_mut().find_map(|waiter| match &mut waiter.then {
            Then::Compacted { compaction, hash, .. } if *compaction == hashed => Some(hash),
            _ => None,
        });
        if let Some(waits) = proposed {
            *waits = Some(hash);
        } else if self.compactions.contains(&hashed) {
            self.to_fronts(|| ToFront::CompactionHash(hash), actions);
        }
        self.answer_now(ticket, Answer::Done, actions);
    }

    /// A compaction was applied in group 0: every data group hears of it.
    fn took_effect(&mut self, compaction: Compaction, hash: Option<CompactionHash>, actions: &mut Vec<Action>) {
        self.spread_compaction(compaction.to, actions);
        if self.compactions.len() == COMPACTION_HASHES_MAX {
            self.compactions.pop_front();
        }
        self.compactions.push_back(compaction);
        if let Some(hash) = hash {
            self.to_fronts(|| ToFront::CompactionHash(hash), actions);
        }
    }

    /// Publishes group 0's alarms.
    pub(super) fn tell_alarms(&mut self, state: &MetaState, actions: &mut Vec<Action>) {
        self.alarms.clone_from(state.alarms());
        self.board.publish_alarms(alarm_bits(state));
        let alarms = self.alarms.iter().map(|&(member, alarm)| pb::AlarmMember { member_id: member.0, alarm });
        let alarms = Arc::new(alarms.collect::<Vec<_>>());
        self.to_fronts(|| ToFront::Alarms(alarms.clone()), actions);
    }

    /// Compacts when it is time to, as if a client had asked (etcd's auto-compaction).
    pub(super) fn auto_compact(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(reign) = self.reign.clone().filter(|reign| !reign.is_closed()) else { return };
        let Some(revision) = self.auto_compactor.tick(now, reign.stable()) else { return };
        if self.compacted.is_some_and(|done| revision <= done) {
            return self.auto_compactor.done(now);
        }
        let compaction = Compaction { from: self.compacted.map_or(-1, Revision::as_i64), to: revision };
        self.compacted = Some(revision);
        self.propose(&reign, Payload::Compaction(revision), None, Then::AutoCompacted { compaction }, actions);
    }

    /// etcd's Alarm: what is asked for is answered at once; raising what is raised, and taking back what is not, change nothing.
    pub(super) fn alarm(&mut self, reign: &Reign, ticket: Ticket, request: &pb::AlarmRequest, actions: &mut Vec<Action>) {
        let alarm = (MemberId(request.member_id), request.alarm);
        let none = request.alarm == pb::AlarmType::None as i32;
        let is_raised = self.alarms.contains(&alarm);
        let now = match request.action() {
            AlarmAction::Get => self.alarms.iter().copied().filter(|(_, kind)| none || *kind == request.alarm).collect(),
            AlarmAction::Activate if none => Vec::new(),
            AlarmAction::Activate if is_raised => vec![alarm],
            AlarmAction::Deactivate if !is_raised => Vec::new(),
            AlarmAction::Activate | AlarmAction::Deactivate => {
                let raised = request.action() == AlarmAction::Activate;
                let payload = Payload::Meta(MetaEffect::Alarm { member: alarm.0, kind: alarm.1, raised });
                let then = Then::Answer(Answer::Alarms(vec![alarm]));
                return self.propose(reign, payload, Some(ticket), then, actions);
            }
        };
        self.answer_by_state(reign, ticket, Answer::Alarms(now), actions);
    }

    /// Group 0 has applied an entry that was proposed in this term.
    pub fn applied(&mut self, now: Instant, payload: &Payload, state: &MetaState, actions: &mut Vec<Action>) {
        if let Payload::Meta(MetaEffect::Alarm { .. }) = payload {
            self.tell_alarms(state, actions);
        }
        if matches!(payload, Payload::Barrier { .. }) || !self.open {
            return;
        }
        let Waiter { then, ticket } = self.proposed.pop_front().expect("every proposal of this term has its waiter");
        match then {
            Then::Members => self.tell_members(state, actions),
            Then::Answer(answer) => {
                if let Some(ticket) = ticket {
                    self.answer_now(ticket, answer, actions);
                }
            }
            Then::Granted { id, ttl } => self.granted(now, id, ttl, ticket, actions),
            Then::Revoked { id, revision } => {
                self.revoked(id, actions);
                if let Some(ticket) = ticket {
                    let stable = self.reign.as_ref().map_or(Revision::ZERO, |r| r.stable());
                    let revision = revision.unwrap_or(stable);
                    self.answer_now(ticket, Answer::Revoked { revision }, actions);
                }
            }
            Then::AutoCompacted { compaction } => {
                self.took_effect(compaction, None, actions);
                self.auto_compactor.done(now);
            }
            Then::Compacted { compaction, physical, hash } => {
                let revision = compaction.to;
                self.took_effect(compaction, hash, actions);
                match ticket {
                    Some(ticket) if physical => {
                        self.physical.push((revision, ticket));
                        self.to_cores(&CoreMessage::SettleCompaction(revision), actions);
                        self.answer_physical(actions);
                    }
                    Some(ticket) => self.answer_now(ticket, Answer::Compacted, actions),
                    None => {}
                }
            }
        }
    }

    /// Group 0 has a compaction: the shards get it.
    fn spread_compaction(&mut self, revision: Revision, actions: &mut Vec<Action>) {
        self.finishing = Some(revision);
        self.to_cores(&CoreMessage::Compact { term: self.term, revision }, actions);
    }

    /// A group has nothing removable left below `revision`, on disk: physical compactions wait for all of them.
    pub(super) fn group_sliced(&mut self, group: GroupId, revision: Revision, actions: &mut Vec<Action>) {
        let known = self.sliced.entry(group).or_default();
        *known = revision.max(*known);
        self.answer_physical(actions);
    }

    fn answer_physical(&mut self, actions: &mut Vec<Action>) {
        let done = self.data_groups().map(|g| self.sliced.get(&g).copied().unwrap_or_default()).min().unwrap_or_default();
        if let Some(revision) = self.finishing.take_if(|revision| *revision <= done) {
            self.figures.compactions += 1;
            tracing::info!("compact-revision" = revision.get(), "finished scheduled compaction");
        }
        for (revision, ticket) in std::mem::take(&mut self.physical) {
            if revision <= done {
                self.answer(ticket, Leave::Now, Answer::Compacted, actions);
            } else {
                self.physical.push((revision, ticket));
            }
        }
    }
}

/// The alarms as the board shows them: bit n stands for etcd's AlarmType n, whoever raised it.
fn alarm_bits(state: &MetaState) -> u64 {
    state.alarms().iter().fold(0, |bits, &(_, kind)| bits | 1u64.checked_shl(kind.cast_unsigned()).unwrap_or(0))
}
