//! The chief: what core 0 keeps for the whole member. It reads no clock and touches no shard; it answers with actions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::base::{CoreId, FrontId, GroupId, GroupSet, Instant, LeaseId, Mark, MemberId, Revision, Term};
use crate::config::AutoCompaction;
use crate::proto::etcdserverpb as pb;
use crate::raft::{Configuration, Election};
use crate::reign::{Board, Owner, Reign};
use crate::shard::{
    Answer, CompactionHash, CoreMessage, Effect, HoldId, Layout, Leave, Order, OwnStripe, Refusal, Ticket, ToFront,
};
use crate::state::Payload;

use super::auto_compaction::AutoCompactor;
use super::lessor::Lessor;
use super::operations::Operation;

/// Something that only core 0 itself can do.
#[derive(Debug)]
pub enum Action {
    /// Carry this out as an effect of the core.
    Effect(Effect),
    /// Append to group 0's log.
    Propose {
        /// How it counts.
        mark: Mark,
        /// What it says.
        payload: Payload,
    },
    /// Answer by what group 0 and the shards are at now: it leaves when all of that is stable (rule 3).
    AnswerByState {
        /// Whom.
        ticket: Ticket,
        /// The last revision taken.
        revision: Revision,
        /// What.
        answer: Answer,
    },
    /// Tell a core that it has heard of all leases there are.
    TellLeases(CoreId),
    /// Raise the serving revision, when everything before this is on the fronts' queues (rule 13).
    Serve(Revision),
    /// Write term and vote to the WAL; the election hears when it is on disk.
    PersistVote {
        /// The term.
        term: Term,
        /// For whom.
        vote: Option<MemberId>,
    },
}

/// What a chief is made of.
pub struct ChiefParts {
    /// The process's layout.
    pub layout: Layout,
    /// The board.
    pub board: Arc<Board>,
    /// The member's part in elections.
    pub election: Election,
    /// This member, as MemberList shows it.
    pub member: pb::Member,
    /// How long a new leader adds to every lease.
    pub election_timeout: std::time::Duration,
    /// What is compacted unasked.
    pub auto_compaction: AutoCompaction,
}

/// What the chief has counted since the start, for /metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChiefFigures {
    /// Leases that ran out.
    pub leases_expired: u64,
    /// Leaders that there have been.
    pub leader_changes: u64,
    /// Compactions that every group has finished.
    pub compactions: u64,
}

/// Election, coordinator, leases.
pub struct Chief {
    pub(super) layout: Layout,
    pub(super) board: Arc<Board>,
    pub(super) election: Election,
    pub(super) member: pb::Member,
    pub(super) election_timeout: std::time::Duration,
    pub(super) term: Term,
    pub(super) reign: Option<Arc<Reign>>,
    /// Whether requests are taken: every core has opened.
    pub(super) open: bool,
    pub(super) takeover: Takeover,
    pub(super) lessor: Lessor,
    pub(super) granting: BTreeSet<LeaseId>,
    /// Keep-alives of leases that are being revoked.
    pub(super) ending: HashMap<LeaseId, Vec<Ticket>>,
    /// Further revocations of leases that are being revoked.
    pub(super) revoking: HashMap<LeaseId, Vec<Ticket>>,
    /// Who waits for an entry of group 0 to be applied, in the order of proposing.
    pub(super) proposed: VecDeque<Waiter>,
    pub(super) operations: BTreeMap<HoldId, Operation>,
    /// Operations that wait for groups that others hold, first come first served.
    pub(super) queue: VecDeque<Operation>,
    pub(super) busy: GroupSet,
    pub(super) next_hold: u64,
    /// Revisions taken here that not every participant has adopted.
    pub(super) covering: BTreeSet<Revision>,
    /// The alarms of group 0's applied state.
    pub(super) alarms: BTreeSet<(MemberId, i32)>,
    /// The last compaction proposed; `None`: never.
    pub(super) compacted: Option<Revision>,
    /// The last compactions that took effect in this reign.
    pub(super) compactions: VecDeque<Compaction>,
    /// Physical compactions that wait for every group.
    pub(super) physical: Vec<(Revision, Ticket)>,
    pub(super) sliced: BTreeMap<GroupId, Revision>,
    /// The last compaction of this reign, until every group has it on disk.
    pub(super) finishing: Option<Revision>,
    pub(super) auto_compactor: AutoCompactor,
    pub(super) figures: ChiefFigures,
    pub(super) next_scan: Instant,
}

/// A compaction: from which to which revision; −1: from the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Compaction {
    pub(super) from: i64,
    pub(super) to: Revision,
}

/// Who waits for which entry of group 0.
pub(super) struct Waiter {
    pub(super) then: Then,
    pub(super) ticket: Option<Ticket>,
}

/// What follows when an entry of group 0 is applied.
pub(super) enum Then {
    /// Nothing beyond the answer that the waiter names.
    Answer(Answer),
    /// A lease is alive.
    Granted { id: LeaseId, ttl: i64 },
    /// A lease is gone, and its keys with it at this revision, if it had any.
    Revoked { id: LeaseId, revision: Option<Revision> },
    /// A compaction took effect.
    Compacted { compaction: Compaction, physical: bool, hash: Option<CompactionHash> },
    /// A compaction that nobody asked for took effect.
    AutoCompacted { compaction: Compaction },
    /// The members changed: the fronts are told.
    Members,
}

/// Where a takeover stands.
#[derive(Default)]
pub(super) struct Takeover {
    pub(super) known_stable: Revision,
    pub(super) configuration: Option<Configuration>,
    pub(super) ended: BTreeSet<CoreId>,
    pub(super) stripes: BTreeMap<GroupId, OwnStripe>,
    pub(super) barriers: BTreeSet<GroupId>,
    pub(super) opened: BTreeSet<CoreId>,
    pub(super) w_final: Revision,
}

impl Chief {
    /// A chief that has just been started.
    pub fn new(parts: ChiefParts) -> Chief {
        let ChiefParts { layout, board, election, member, election_timeout, auto_compaction } = parts;
        Chief {
            layout,
            board,
            election,
            member,
            election_timeout,
            term: Term(0),
            reign: None,
            open: false,
            takeover: Takeover::default(),
            lessor: Lessor::default(),
            granting: BTreeSet::new(),
            ending: HashMap::new(),
            revoking: HashMap::new(),
            proposed: VecDeque::new(),
            operations: BTreeMap::new(),
            queue: VecDeque::new(),
            busy: GroupSet::EMPTY,
            next_hold: 0,
            covering: BTreeSet::new(),
            alarms: BTreeSet::new(),
            compacted: None,
            compactions: VecDeque::new(),
            physical: Vec::new(),
            sliced: BTreeMap::new(),
            finishing: None,
            auto_compactor: AutoCompactor::new(auto_compaction),
            figures: ChiefFigures::default(),
            next_scan: Instant::ZERO,
        }
    }

    /// An order of a front.
    pub fn order(&mut self, now: Instant, ticket: Ticket, term: Term, order: Order, actions: &mut Vec<Action>) {
        let reign = match &self.reign {
            Some(reign) if self.open && reign.term() == term && !reign.is_closed() => reign.clone(),
            Some(_) | None => return self.answer_now(ticket, Answer::Refused(Refusal::NotLeader), actions),
        };
        let takes_room = matches!(order, Order::Write { .. } | Order::LeaseGrant { .. } | Order::LeaseRevoke { .. });
        if takes_room && self.board.is_short() {
            return self.answer_now(ticket, Answer::Refused(Refusal::DiskFull), actions);
        }
        match order {
            Order::Write { write, groups } => self.write(ticket, write, groups, actions),
            Order::LeaseGrant { id, ttl } => self.lease_grant(&reign, ticket, id, ttl, actions),
            Order::LeaseRevoke { id } => self.lease_revoke(&reign, ticket, id, actions),
            Order::LeaseKeepAlive { id } => self.lease_keep_alive(now, ticket, id, actions),
            Order::LeaseTimeToLive { id } => self.lease_time_to_live(now, &reign, ticket, id, actions),
            Order::LeaseLeases => {
                let leases = self.lessor.by_expiry().collect();
                self.answer_by_state(&reign, ticket, Answer::Leases(leases), actions);
            }
            Order::Compact { revision, physical } => self.compact(&reign, ticket, revision, physical, actions),
            Order::CompactionHash(hash) => self.compaction_hash(ticket, hash, actions),
            Order::Alarm(request) => self.alarm(&reign, ticket, &request, actions),
            Order::Defragment => {
                for core in self.cores() {
                    actions.push(Action::Effect(Effect::ToCore(core, CoreMessage::Defragment)));
                }
                self.answer_now(ticket, Answer::Done, actions);
            }
        }
    }

    /// What follows from the time that it is: elections, leases that have ended, compactions that are due.
    pub fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.election_tick(now, actions);
        if self.open && now >= self.next_scan {
            self.scan_leases(now, actions);
        }
        if self.open {
            self.auto_compact(now, actions);
        }
    }

    /// What has been counted.
    pub fn figures(&self) -> ChiefFigures {
        self.figures
    }

    /// When [`Chief::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let leases = self.lessor.next_expiry().filter(|_| self.open).map(|at| at.max(self.next_scan));
        let compaction = self.auto_compactor.next_deadline().filter(|_| self.open);
        let election = Some(self.election.next_deadline());
        [leases, compaction, election].into_iter().flatten().min()
    }

    pub(super) fn propose(
        &mut self,
        reign: &Reign,
        payload: Payload,
        ticket: Option<Ticket>,
        then: Then,
        actions: &mut Vec<Action>,
    ) {
        let mark = Mark::After(reign.after());
        self.propose_marked(mark, payload, ticket, then, actions);
    }

    pub(super) fn propose_marked(
        &mut self,
        mark: Mark,
        payload: Payload,
        ticket: Option<Ticket>,
        then: Then,
        actions: &mut Vec<Action>,
    ) {
        self.proposed.push_back(Waiter { then, ticket });
        actions.push(Action::Propose { mark, payload });
    }

    pub(super) fn answer(&self, ticket: Ticket, leave: Leave, answer: Answer, actions: &mut Vec<Action>) {
        let message = ToFront::Answer { ticket, term: self.term, leave, answer };
        actions.push(Action::Effect(Effect::ToFront(ticket.front, message)));
    }

    pub(super) fn answer_now(&self, ticket: Ticket, answer: Answer, actions: &mut Vec<Action>) {
        self.answer(ticket, Leave::Now, answer, actions);
    }

    /// An answer that rests on what group 0 and the shards are at now (rule 3).
    pub(super) fn answer_by_state(&self, reign: &Reign, ticket: Ticket, answer: Answer, actions: &mut Vec<Action>) {
        actions.push(Action::AnswerByState { ticket, revision: reign.after(), answer });
    }

    pub(super) fn to_core_of(&self, group: GroupId, message: CoreMessage, actions: &mut Vec<Action>) {
        actions.push(Action::Effect(Effect::ToCore(self.layout.core_of(group), message)));
    }

    pub(super) fn to_cores(&self, message: &CoreMessage, actions: &mut Vec<Action>) {
        for core in self.cores() {
            actions.push(Action::Effect(Effect::ToCore(core, message.clone())));
        }
    }

    pub(super) fn to_fronts(&self, message: impl Fn() -> ToFront, actions: &mut Vec<Action>) {
        for front in (0..self.layout.fronts).map(FrontId) {
            actions.push(Action::Effect(Effect::ToFront(front, message())));
        }
    }

    pub(super) fn cores(&self) -> impl Iterator<Item = CoreId> + use<> {
        (0..self.layout.cores).map(CoreId)
    }

    /// Raises the coordinator's slot to the lowest revision that it still covers (rules 2 and 4).
    pub(super) fn raise(&self, reign: &Reign, actions: &mut Vec<Action>) {
        if let Some(stable) = reign.raise(Owner::Coordinator, self.covering.first().copied()) {
            self.board.wake(self.term, stable, |seat| actions.push(Action::Effect(Effect::Wake(seat))));
        }
    }

    pub(super) fn data_groups(&self) -> impl Iterator<Item = GroupId> + use<> {
        (1..=self.layout.shards).map(GroupId)
    }
}
