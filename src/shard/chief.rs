//! Core 0: what the chief asks for is carried out, and what concerns it is passed to it.

use crate::base::{GroupId, Index, Term};
use crate::coordinator::{Action, Chief};
use crate::group::{Applied, Machine};
use crate::state::MetaState;

use super::core::{Core, Shard};
use super::effects::Effect;
use super::events::CoreMessage;
use super::messages::{Answer, Leave, Order, Refusal, Ticket};
use super::writes::leave_without_revision;

impl Core {
    /// Sets the election going; the first thing that happens to core 0.
    pub fn start(&mut self, effects: &mut Vec<Effect>) {
        let now = self.now;
        self.with_chief(effects, |chief, _, actions| chief.start(now, actions));
    }

    pub(super) fn order(&mut self, ticket: Ticket, term: Term, order: Order, effects: &mut Vec<Effect>) {
        if self.chief.is_none() {
            return self.answer(ticket, Leave::Now, Answer::Refused(Refusal::NotLeader), effects);
        }
        let now = self.now;
        self.with_chief(effects, |chief, _, actions| chief.order(now, ticket, term, order, actions));
    }

    pub(super) fn cancel_order(&mut self, ticket: Ticket, effects: &mut Vec<Effect>) {
        self.with_chief(effects, |chief, _, actions| chief.cancel(ticket, actions));
    }

    pub(super) fn tell_chief(&mut self, message: CoreMessage, effects: &mut Vec<Effect>) {
        let now = self.now;
        self.with_chief(effects, |chief, state, actions| chief.hear(now, message, state, actions));
    }

    pub(super) fn tick_chief(&mut self, effects: &mut Vec<Effect>) {
        let now = self.now;
        if self.chief.as_ref().is_some_and(|chief| chief.next_deadline().is_some_and(|at| at <= now)) {
            self.with_chief(effects, |chief, _, actions| chief.tick(now, actions));
        }
    }

    /// Group 0 has applied an entry.
    pub(super) fn meta_applied(&mut self, entry: Applied, effects: &mut Vec<Effect>) {
        let now = self.now;
        let Some(payload) = entry.payload else { return };
        self.with_chief(effects, |chief, state, actions| chief.applied(now, &payload, state, actions));
    }

    /// Term and vote are on disk.
    pub(super) fn vote_written(&mut self, term: Term, vote: Option<crate::base::MemberId>, effects: &mut Vec<Effect>) {
        let now = self.now;
        self.with_chief(effects, |chief, _, actions| chief.vote_persisted(now, term, vote, actions));
    }

    fn with_chief(&mut self, effects: &mut Vec<Effect>, act: impl FnOnce(&mut Chief, &MetaState, &mut Vec<Action>)) {
        let Some(mut chief) = self.chief.take() else { return };
        let Some(Shard { replica, .. }) = self.shards.first() else { unreachable!("core 0 hosts group 0") };
        let Machine::Meta(state) = &replica.machine else { unreachable!("group 0 is the first on core 0") };
        let mut actions = Vec::new();
        act(&mut chief, state, &mut actions);
        self.chief = Some(chief);
        for action in actions {
            self.carry_out(action, effects);
        }
    }

    /// The last entry of group 0, stable or not.
    fn meta_last(&self) -> Index {
        self.shards[0].replica.raft.log().last().index
    }

    fn carry_out(&mut self, action: Action, effects: &mut Vec<Effect>) {
        match action {
            Action::Effect(effect) => effects.push(effect),
            Action::AnswerByState { ticket, revision, answer } => {
                let leave = leave_without_revision(revision, Some(self.meta_last()));
                self.answer(ticket, leave, answer, effects);
            }
            Action::TellLeases(core) => effects.push(Effect::ToCore(core, CoreMessage::LeasesTold(self.meta_last()))),
            Action::Serve(revision) => self.serves = Some(revision),
            Action::PersistVote { term, vote } => self.log.append_vote(term, vote),
            Action::Propose { mark, payload } => {
                let shard = &mut self.shards[0];
                assert_eq!(shard.id(), GroupId::META, "group 0 is the first on core 0");
                shard.replica.raft.propose(mark, payload.encode());
            }
        }
    }
}
