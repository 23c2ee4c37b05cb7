//! One member's part in the election: its state, and which part handles which event.

use std::time::Duration;

use crate::base::{CoreId, Instant, MemberId, Prng, Revision, Term};

use super::campaign::{Campaign, Candidacy};
use super::moving::{Move, Moved};
use super::reigning::Leadership;
use super::{Effect, ElectionBody, ElectionMessage, Event, LogExtent};
use crate::raft::Configuration;

/// What an election starts from.
#[derive(Clone, Debug)]
pub struct Options {
    /// This member.
    pub me: MemberId,
    /// Its shard cores.
    pub cores: u16,
    /// The term on its disk; 0 on a new one.
    pub term: Term,
    /// Its vote in that term.
    pub vote: Option<MemberId>,
    /// What it would start a new cluster with; version 0 (rule 15).
    pub initial: Configuration,
    /// The newest configuration in its logs, if there is one.
    pub configuration: Option<Configuration>,
    /// How often a leader is heard.
    pub heartbeat_interval: Duration,
    /// How long nothing may be heard before someone else stands; a random part of the same length comes on top.
    pub election_timeout: Duration,
}

/// What the member is in its term.
#[derive(Debug)]
pub(super) enum Role {
    /// Follows the leader, once one is known.
    Follower { leader: Option<MemberId> },
    /// Asks whether it would be elected.
    PreCandidate(Campaign),
    /// Asks for votes.
    Candidate(Candidacy),
    /// Takes over or leads.
    Leading(Leadership),
}

/// One member's part in the election.
#[derive(Debug)]
pub struct Election {
    pub(super) me: MemberId,
    pub(super) cores: u16,
    pub(super) initial: Configuration,
    pub(super) configuration: Configuration,
    pub(super) heartbeat_interval: Duration,
    pub(super) election_timeout: Duration,
    pub(super) chance: Prng,
    pub(super) term: Term,
    pub(super) vote: Option<MemberId>,
    pub(super) role: Role,
    /// The way into the term, while it is under way.
    pub(super) moving: Option<Move>,
    /// What the cores reported when this term was entered, in this run of the process.
    pub(super) moved: Option<Moved>,
    /// The term of the reign that this member opened and that has not ended yet.
    pub(super) reign: Option<Term>,
    /// That reign is being ended.
    pub(super) ending: bool,
    pub(super) known_stable: Revision,
    pub(super) logs: Vec<LogExtent>,
    pub(super) links: Vec<MemberId>,
    /// When a leader was last heard, or the start.
    pub(super) heard_at: Instant,
    /// When this member stands for election, or stands anew.
    pub(super) deadline: Instant,
    pub(super) heartbeat_at: Instant,
}

impl Election {
    /// A member that has just started; [`Election::start`] sets it going.
    pub fn new(now: Instant, options: Options, chance: Prng) -> Election {
        let Options { me, cores, term, vote, initial, configuration, heartbeat_interval, election_timeout } = options;
        assert!(cores > 0, "a member has core 0 at least");
        assert!(heartbeat_interval < election_timeout, "a leader is heard several times per election timeout");
        Election {
            me,
            cores,
            configuration: configuration.unwrap_or_else(|| initial.clone()),
            initial,
            heartbeat_interval,
            election_timeout,
            chance,
            term,
            vote,
            role: Role::Follower { leader: None },
            moving: None,
            moved: None,
            reign: None,
            ending: false,
            known_stable: Revision::FIRST,
            logs: Vec::new(),
            links: Vec::new(),
            heard_at: now,
            deadline: now,
            heartbeat_at: now,
        }
    }

    /// Sets it going. A voter that is a quorum by itself stands at once; others wait to hear a leader first.
    pub fn start(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.rest(now);
        if self.stands_alone() {
            self.stand(now, effects);
        }
    }

    /// The term.
    pub const fn term(&self) -> Term {
        self.term
    }

    /// The leader of the term, if one is known; this member once its reign is open.
    pub fn leader(&self) -> Option<MemberId> {
        match &self.role {
            Role::Follower { leader } => *leader,
            Role::Leading(leadership) if leadership.is_open() => Some(self.me),
            _ => None,
        }
    }

    /// Whether this member leads and its reign is open.
    pub fn leads(&self) -> bool {
        self.leader() == Some(self.me)
    }

    /// When the next tick has something to do.
    pub fn next_deadline(&self) -> Instant {
        match &self.role {
            Role::Follower { .. } | Role::PreCandidate(_) => self.deadline,
            Role::Candidate(_) => self.deadline.min(self.heartbeat_at),
            Role::Leading(_) => self.heartbeat_at,
        }
    }

    /// Takes one event.
    pub fn step(&mut self, now: Instant, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Tick { awaited } => self.tick(now, &awaited, effects),
            Event::VotePersisted { term, vote } => self.vote_persisted(now, term, vote, effects),
            Event::CoreFrozen { term, core, reports, known_stable } => {
                self.know_stable(known_stable);
                self.core_frozen(now, term, core, reports, effects);
            }
            Event::ReignEnded { term, stable } => self.reign_ended(now, term, stable, effects),
            Event::Received { from, message } => self.received(now, from, message, effects),
            Event::LaterTerm { term, leader } => {
                if term > self.term {
                    self.begin_move(now, term, None, leader, effects);
                }
            }
            Event::Pulled { term, group } => self.pulled(term, group, effects),
            Event::BarriersDurable { term } => self.barriers_durable(term, effects),
            Event::KnownStable(revision) => self.know_stable(revision),
            Event::Configured(configuration) => self.configuration = configuration,
            Event::LinkChanged { peer, working } => self.link_changed(peer, working),
            Event::Logs(logs) => self.logs = logs,
            Event::ConfirmRead(read) => self.confirm_read(now, read, effects),
            Event::Transfer(to) => self.transfer(to, effects),
        }
    }

    fn tick(&mut self, now: Instant, awaited: &[super::Awaited], effects: &mut Vec<Effect>) {
        if matches!(self.role, Role::Leading(_)) {
            return self.tick_leading(now, awaited, effects);
        }
        // Who is still on the way into a term stands for none: its disk or its cores are slow, and would be in the next.
        if now >= self.deadline && self.moving.is_none() {
            self.stand(now, effects);
        } else if now >= self.heartbeat_at {
            self.request_votes(now, effects);
        }
    }

    fn received(&mut self, now: Instant, from: MemberId, message: ElectionMessage, effects: &mut Vec<Effect>) {
        let ElectionMessage { term, body } = message;
        match body {
            ElectionBody::PreVote { lasts } => return self.asked_for_pre_vote(now, from, term, &lasts, effects),
            ElectionBody::PreVoteGranted => return self.pre_vote_granted(now, from, term, effects),
            ElectionBody::RequestVote { transfer } => return self.asked_for_vote(now, from, term, transfer, effects),
            _ => {}
        }
        if term > self.term {
            let leader = matches!(body, ElectionBody::Heartbeat { .. }).then_some(from);
            return self.begin_move(now, term, None, leader, effects);
        }
        if term < self.term {
            // A leader that is heard no more by its own doing learns why.
            if matches!(body, ElectionBody::Heartbeat { .. }) {
                self.say(from, ElectionBody::HeartbeatAck { round: 0 }, effects);
            }
            return;
        }
        match body {
            ElectionBody::Vote(vote) => self.vote_received(now, from, vote, effects),
            ElectionBody::Heartbeat { round } => self.heartbeat(now, from, round, effects),
            ElectionBody::HeartbeatAck { round } => self.heartbeat_acknowledged(now, from, round, effects),
            ElectionBody::StandNow => self.stand_now(now, from, effects),
            ElectionBody::PreVoteRefused | ElectionBody::VoteRefused => {}
            ElectionBody::PreVote { .. } | ElectionBody::PreVoteGranted | ElectionBody::RequestVote { .. } => {
                unreachable!("handled above, whatever the term")
            }
        }
    }

    /// A heartbeat of this term's leader.
    fn heartbeat(&mut self, now: Instant, from: MemberId, round: u64, effects: &mut Vec<Effect>) {
        if let Role::Leading(_) = self.role {
            return;
        }
        if let Some(moving) = &mut self.moving {
            // Followed when the cores are there; until then nothing of the term is accepted (rule 11).
            moving.leader = Some(from);
            self.heard_at = now;
            return self.rest(now);
        }
        match self.role {
            Role::Follower { leader: Some(leader) } if leader != from => return,
            Role::Follower { leader: Some(_) } => {}
            _ => self.follow(from, effects),
        }
        self.heard_at = now;
        self.rest(now);
        self.say(from, ElectionBody::HeartbeatAck { round }, effects);
    }

    pub(super) fn follow(&mut self, leader: MemberId, effects: &mut Vec<Effect>) {
        assert_ne!(leader, self.me, "nobody follows itself");
        self.role = Role::Follower { leader: Some(leader) };
        effects.push(Effect::BecomeFollower { term: self.term, leader });
        effects.push(Effect::LeaderIs { term: self.term, leader: Some(leader) });
    }

    fn link_changed(&mut self, peer: MemberId, working: bool) {
        self.links.retain(|&p| p != peer);
        if working {
            self.links.push(peer);
        }
    }

    pub(super) fn know_stable(&mut self, revision: Revision) {
        self.known_stable = self.known_stable.max(revision);
    }

    /// Whether a leader is heard, other than `asks`, who no longer is one: this member itself, or one within an election
    /// timeout.
    pub(super) fn hears_a_leader(&self, now: Instant, asks: MemberId) -> bool {
        let moving_to = self.moving.as_ref().and_then(|m| m.leader);
        match &self.role {
            Role::Leading(_) => true,
            Role::Follower { leader: Some(leader) } => *leader != asks && now.since(self.heard_at) < self.election_timeout,
            _ => moving_to.is_some_and(|leader| leader != asks),
        }
    }

    /// Whether this member is a quorum by itself.
    pub(super) fn stands_alone(&self) -> bool {
        self.configuration.voters() == [self.me]
    }

    /// Waits for a leader, for a random while.
    pub(super) fn rest(&mut self, now: Instant) {
        let timeout = self.election_timeout.as_nanos() as u64;
        self.deadline = now + Duration::from_nanos(timeout + self.chance.below(timeout.max(1)));
    }

    pub(super) fn say(&self, to: MemberId, body: ElectionBody, effects: &mut Vec<Effect>) {
        effects.push(Effect::Send { to, message: ElectionMessage { term: self.term, body } });
    }

    pub(super) fn core_count(&self) -> impl Iterator<Item = CoreId> + use<> {
        (0..self.cores).map(CoreId)
    }
}

#[cfg(test)]
#[path = "member_test.rs"]
mod tests;
