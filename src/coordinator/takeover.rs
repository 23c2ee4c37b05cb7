//! Driving the election and the takeover: what the election asks for becomes messages to the cores (rules 6 to 9).

use std::sync::Arc;

use crate::base::mutant::{self, Mutant};
use crate::base::{CoreId, GroupId, Instant, Revision, Term};
use crate::raft::GroupReport;
use crate::raft::merge::{Stripe, w_final};
use crate::raft::{Effect as ElectionEffect, Event as ElectionEvent};
use crate::reign::Reign;
use crate::shard::{CoreMessage, Effect, OwnStripe, ToFront};
use crate::state::{MetaEffect, MetaState, Payload};

use super::chief::{Action, Chief, Takeover, Then};

impl Chief {
    /// Sets the election going.
    pub fn start(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let mut effects = Vec::new();
        self.election.start(now, &mut effects);
        self.act(now, effects, actions);
    }

    pub(super) fn election_tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if now >= self.election.next_deadline() {
            self.elect(now, ElectionEvent::Tick { awaited: Vec::new() }, actions);
        }
    }

    /// Term and vote are on disk.
    pub fn vote_persisted(&mut self, now: Instant, term: Term, vote: Option<crate::base::MemberId>, actions: &mut Vec<Action>) {
        self.elect(now, ElectionEvent::VotePersisted { term, vote }, actions);
    }

    /// What the cores say to core 0.
    pub fn hear(&mut self, now: Instant, message: CoreMessage, state: &MetaState, actions: &mut Vec<Action>) {
        match message {
            CoreMessage::Frozen { core, term, reports, known_stable } => {
                self.frozen(now, core, term, reports, known_stable, actions)
            }
            CoreMessage::ReignEnded { core, term, stable } => self.reign_ended(now, core, term, stable, actions),
            CoreMessage::Stripes { core: _, term, stripes } => self.stripes(term, stripes, actions),
            CoreMessage::BarrierAtQuorum { group, term } => self.barrier_at_quorum(now, group, term, actions),
            CoreMessage::Opened { core, term } => self.opened(now, core, term, state, actions),
            CoreMessage::Held { id, group, facts } => self.held(id, group, facts, actions),
            CoreMessage::Evaluated { id, group, part } => self.evaluated(id, group, part, actions),
            CoreMessage::Adopted { id, group, revision, answers } => self.adopted(id, group, revision, answers, actions),
            CoreMessage::AskLeases(core) => actions.push(Action::TellLeases(core)),
            CoreMessage::Sliced { group, revision } => self.group_sliced(group, revision, actions),
            other => unreachable!("{other:?} is for a shard's core"),
        }
    }

    fn elect(&mut self, now: Instant, event: ElectionEvent, actions: &mut Vec<Action>) {
        let mut effects = Vec::new();
        self.election.step(now, event, &mut effects);
        self.act(now, effects, actions);
    }

    fn act(&mut self, now: Instant, effects: Vec<ElectionEffect>, actions: &mut Vec<Action>) {
        for effect in effects {
            match effect {
                ElectionEffect::PersistVote { term, vote } => actions.push(Action::PersistVote { term, vote }),
                ElectionEffect::FreezeCores { term } => {
                    self.open = false;
                    self.takeover = Takeover::default();
                    self.to_cores(&CoreMessage::Freeze(term), actions);
                }
                ElectionEffect::CloseReign { .. } => {
                    self.open = false;
                    if let Some(reign) = &self.reign {
                        reign.close();
                    }
                    self.drop_operations(actions);
                }
                ElectionEffect::EndReign { term } => {
                    let stable = self.reign.as_ref().map_or(Revision::ZERO, |reign| reign.stable());
                    self.to_cores(&CoreMessage::EndReign { term, stable }, actions);
                }
                ElectionEffect::TakeOver { term, known_stable, configuration, .. } => {
                    self.term = term;
                    self.takeover.known_stable = known_stable;
                    self.takeover.configuration = Some(configuration);
                    self.to_cores(&CoreMessage::AskStripes(term), actions);
                }
                ElectionEffect::OpenReign { term } => {
                    let groups = usize::from(self.layout.shards) + 1;
                    let reign = Arc::new(Reign::new(term, groups, self.takeover.w_final));
                    self.reign = Some(reign.clone());
                    self.to_cores(&CoreMessage::Open(reign), actions);
                }
                ElectionEffect::LeaderIs { term, leader } => {
                    self.figures.leader_changes += u64::from(leader.is_some());
                    tracing::info!(term = term.get(), leader = leader.map_or(0, |m| m.get()), "raft leader changed");
                }
                ElectionEffect::ReadsConfirmed(_) | ElectionEffect::ReadsRefused(_) => {}
                ElectionEffect::Send { .. } | ElectionEffect::Pull { .. } | ElectionEffect::BecomeFollower { .. } => {
                    unreachable!("a member that is the only voter has nobody to send to, pull from or follow")
                }
            }
        }
        let _ = now;
    }

    fn frozen(
        &mut self,
        now: Instant,
        core: CoreId,
        term: Term,
        reports: Vec<GroupReport>,
        known_stable: Revision,
        actions: &mut Vec<Action>,
    ) {
        self.elect(now, ElectionEvent::CoreFrozen { term, core, reports, known_stable }, actions);
    }

    /// A core has applied what the old reign made stable and dropped the rest (rule 7).
    fn reign_ended(&mut self, now: Instant, core: CoreId, term: Term, stable: Revision, actions: &mut Vec<Action>) {
        if self.reign.as_ref().is_none_or(|reign| reign.term() != term) || !self.takeover.ended.insert(core) {
            return;
        }
        if self.takeover.ended.len() < usize::from(self.layout.cores) {
            return;
        }
        self.reign = None;
        for front in 0..self.layout.fronts {
            let message = ToFront::Ended { term, stable };
            actions.push(Action::Effect(Effect::ToFront(crate::base::FrontId(front), message)));
        }
        self.elect(now, ElectionEvent::ReignEnded { term, stable }, actions);
    }

    /// When every group's stripe is known, W_final is computed, and every log is cut there (rule 9).
    fn stripes(&mut self, term: Term, stripes: Vec<OwnStripe>, actions: &mut Vec<Action>) {
        if term != self.term {
            return;
        }
        self.takeover.stripes.extend(stripes.into_iter().map(|stripe| (stripe.group, stripe)));
        if self.takeover.stripes.len() <= usize::from(self.layout.shards) {
            return;
        }
        let own: Vec<OwnStripe> = std::mem::take(&mut self.takeover.stripes).into_values().collect();
        let stripes: Vec<Stripe<'_>> =
            own.iter().map(|o| Stripe { group: o.group, applied: o.applied, marks: &o.marks }).collect();
        match w_final(self.takeover.known_stable, &stripes) {
            Err(damage) => {
                let line = format!("the logs are damaged: {damage}");
                actions.push(Action::Effect(Effect::Fatal(line)));
            }
            Ok(cuts) => {
                self.takeover.w_final = cuts.w_final;
                let configuration = self.takeover.configuration.as_ref().expect("the takeover began with it").encode();
                let cut_of = |group| cuts.cuts.iter().find(|c| c.group == group).map(|c| c.after);
                let after = own.iter().map(|o| (o.group, cut_of(o.group).unwrap_or(o.last))).collect();
                let cut = CoreMessage::Cut { term, w_final: cuts.w_final, cuts: Arc::new(after), configuration };
                self.to_cores(&cut, actions);
            }
        }
    }

    /// The reign is made when a quorum has the barrier of every group: nothing commits before that.
    fn barrier_at_quorum(&mut self, now: Instant, group: GroupId, term: Term, actions: &mut Vec<Action>) {
        if term != self.term {
            return;
        }
        self.takeover.barriers.insert(group);
        let missing = usize::from(mutant::on(Mutant::OneBarrierMissing));
        if self.takeover.barriers.len() + missing == usize::from(self.layout.shards) + 1 {
            self.elect(now, ElectionEvent::BarriersDurable { term }, actions);
        }
    }

    /// When every core has applied up to its barriers, the fronts hear of the reign, after the shards have the live leases.
    fn opened(&mut self, now: Instant, core: CoreId, term: Term, state: &MetaState, actions: &mut Vec<Action>) {
        if term != self.term || !self.takeover.opened.insert(core) {
            return;
        }
        if self.takeover.opened.len() < usize::from(self.layout.cores) {
            return;
        }
        let Some(reign) = self.reign.clone() else { return };
        self.lessor = super::lessor::Lessor::default();
        let from = now + self.election_timeout;
        for (&id, &ttl) in state.leases() {
            self.lessor.grant(from, id, ttl);
        }
        self.compacted = state.compact_revision();
        self.tell_alarms(state, actions);
        self.open = true;
        self.to_cores(&CoreMessage::LeasesAre(Arc::new(state.leases().keys().copied().collect())), actions);
        if let Some(revision) = self.compacted {
            self.board.raise_compact_floor(revision);
            self.to_cores(&CoreMessage::Compact { term, revision }, actions);
        }
        self.tell_members(state, actions);
        self.to_fronts(|| ToFront::Leading(reign.clone()), actions);
        actions.push(Action::Serve(reign.opened_at()));
        if state.members().all(|member| *member != self.member) {
            let record = prost::Message::encode_to_vec(&self.member);
            self.propose(&reign, Payload::Meta(MetaEffect::Member(record)), None, Then::Members, actions);
        }
    }

    /// Tells every front who the members are.
    pub(super) fn tell_members(&self, state: &MetaState, actions: &mut Vec<Action>) {
        let members = Arc::new(state.members().cloned().collect::<Vec<_>>());
        self.to_fronts(|| ToFront::Members(members.clone()), actions);
    }
}
