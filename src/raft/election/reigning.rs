//! Taking over and leading: heartbeats, reads confirmed, leadership handed on, standing down (rules 9, 10 and 14).

use crate::base::{GroupId, GroupSet, Instant, MemberId, Term};

use super::member::Role;
use super::patience::Patience;
use super::{Awaited, Effect, Election, ElectionBody, MergedLog};
use crate::raft::Configuration;

/// How far a takeover is.
#[derive(Debug)]
enum Phase {
    /// Logs of these groups are still being pulled.
    Pulling { groups: GroupSet, configuration: Configuration, logs: Vec<MergedLog> },
    /// The barriers are on their way.
    Barriers,
    /// The reign is open.
    Open,
}

/// What a leader, or one who takes over, keeps.
#[derive(Debug)]
pub(super) struct Leadership {
    phase: Phase,
    patience: Patience,
    /// The last heartbeat round begun; each number is used once in the term.
    round: u64,
    /// When each member was last heard in this term, and the highest round that it has acknowledged.
    heard: Vec<(MemberId, Instant, u64)>,
    since: Instant,
    /// Reads, and the round that confirms each.
    reads: Vec<(u64, u64)>,
}

impl Leadership {
    pub(super) fn taking_over(
        now: Instant,
        groups: GroupSet,
        configuration: Configuration,
        logs: Vec<MergedLog>,
    ) -> Leadership {
        Leadership {
            phase: Phase::Pulling { groups, configuration, logs },
            patience: Patience::default(),
            round: 0,
            heard: Vec::new(),
            since: now,
            reads: Vec::new(),
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    pub(super) fn take_reads(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.reads).into_iter().map(|(_, read)| read).collect()
    }

    fn heard_at(&self, member: MemberId) -> Instant {
        self.heard.iter().find(|(m, ..)| *m == member).map_or(self.since, |(_, at, _)| *at)
    }

    fn acknowledged(&self, member: MemberId) -> u64 {
        self.heard.iter().find(|(m, ..)| *m == member).map_or(0, |(_, _, round)| *round)
    }
}

impl Election {
    pub(super) fn pulled(&mut self, term: Term, group: GroupId, effects: &mut Vec<Effect>) {
        if term != self.term {
            return;
        }
        if let Role::Leading(Leadership { phase: Phase::Pulling { groups, .. }, .. }) = &mut self.role {
            *groups = groups.iter().filter(|g| *g != group).collect();
            self.take_over_when_pulled(effects);
        }
    }

    pub(super) fn take_over_when_pulled(&mut self, effects: &mut Vec<Effect>) {
        let Role::Leading(leadership) = &mut self.role else { return };
        if !matches!(&leadership.phase, Phase::Pulling { groups, .. } if groups.is_empty()) {
            return;
        }
        let Phase::Pulling { configuration, logs, .. } = std::mem::replace(&mut leadership.phase, Phase::Barriers) else {
            unreachable!("it was pulling a moment ago")
        };
        let (term, known_stable) = (self.term, self.known_stable);
        effects.push(Effect::TakeOver { term, known_stable, configuration, logs });
    }

    pub(super) fn barriers_durable(&mut self, term: Term, effects: &mut Vec<Effect>) {
        if term != self.term {
            return;
        }
        let Role::Leading(leadership) = &mut self.role else { return };
        assert!(matches!(leadership.phase, Phase::Barriers), "barriers follow the takeover, once");
        assert!(self.reign.is_none(), "the reign before has ended");
        leadership.phase = Phase::Open;
        self.reign = Some(term);
        effects.push(Effect::OpenReign { term });
        effects.push(Effect::LeaderIs { term, leader: Some(self.me) });
    }

    pub(super) fn tick_leading(&mut self, now: Instant, awaited: &[Awaited], effects: &mut Vec<Effect>) {
        let alone = self.stands_alone();
        let Role::Leading(leadership) = &mut self.role else { return };
        // Rule 10. A voter that is a quorum by itself has nobody to make way for: it would only answer "outcome unknown" and
        // elect itself again on the same slow disk.
        let stuck = leadership.patience.stands_still(now, self.election_timeout, awaited).is_some();
        let heard = |m: MemberId| m == self.me || now.since(leadership.heard_at(m)) < self.election_timeout;
        let deserted = !self.configuration.is_quorum(heard);
        if !alone && (stuck || deserted) {
            return self.stand_down(now, effects);
        }
        if now >= self.heartbeat_at {
            self.send_heartbeats(now, effects);
        }
    }

    /// Closes the reign and answers what waits, though no later term is known (rule 10).
    fn stand_down(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.give_up(effects);
        self.heard_at = now;
        self.rest(now);
        effects.push(Effect::LeaderIs { term: self.term, leader: None });
    }

    /// Begins a heartbeat round.
    pub(super) fn send_heartbeats(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.heartbeat_at = now + self.heartbeat_interval;
        let Role::Leading(leadership) = &mut self.role else { return };
        leadership.round += 1;
        let round = leadership.round;
        for member in self.configuration.members().filter(|&m| m != self.me) {
            self.say(member, ElectionBody::Heartbeat { round }, effects);
        }
    }

    pub(super) fn heartbeat_acknowledged(&mut self, now: Instant, from: MemberId, round: u64, effects: &mut Vec<Effect>) {
        let Role::Leading(leadership) = &mut self.role else { return };
        if round > leadership.round {
            return;
        }
        let known = leadership.heard.iter_mut().find(|(member, ..)| *member == from);
        match known {
            Some((_, at, acknowledged)) => (*at, *acknowledged) = (now, round.max(*acknowledged)),
            None => leadership.heard.push((from, now, round)),
        }
        self.confirm_reads(now, effects);
    }

    /// Rule 14: confirmed by a round begun after the read asked; one round for all that wait.
    pub(super) fn confirm_read(&mut self, now: Instant, read: u64, effects: &mut Vec<Effect>) {
        let alone = self.stands_alone();
        let Role::Leading(leadership) = &mut self.role else { return effects.push(Effect::ReadsRefused(vec![read])) };
        if !leadership.is_open() {
            return effects.push(Effect::ReadsRefused(vec![read]));
        }
        if alone {
            return effects.push(Effect::ReadsConfirmed(vec![read]));
        }
        let under_way = leadership.reads.first().is_some_and(|(round, _)| *round <= leadership.round);
        leadership.reads.push((leadership.round + 1, read));
        if !under_way {
            self.send_heartbeats(now, effects);
        }
    }

    fn confirm_reads(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Role::Leading(leadership) = &mut self.role else { return };
        let (me, latest) = (self.me, leadership.round);
        let confirmed = self.configuration.reached_by_quorum(|m| if m == me { latest } else { leadership.acknowledged(m) });
        let done = leadership.reads.partition_point(|(round, _)| *round <= confirmed);
        if done == 0 {
            return;
        }
        let reads = leadership.reads.drain(..done).map(|(_, read)| read).collect();
        effects.push(Effect::ReadsConfirmed(reads));
        // Those that asked during that round wait for one of their own.
        if leadership.reads.first().is_some_and(|(round, _)| *round > latest) {
            self.send_heartbeats(now, effects);
        }
    }

    /// Hands leadership on (thesis 3.10). The caller takes no revisions meanwhile, and has seen that `to` has all logs.
    pub(super) fn transfer(&mut self, to: MemberId, effects: &mut Vec<Effect>) {
        let open = matches!(&self.role, Role::Leading(leadership) if leadership.is_open());
        if open && to != self.me && self.configuration.is_voter(to) {
            self.say(to, ElectionBody::StandNow, effects);
        }
    }
}
