//! Standing for election: pre-votes, votes, and which logs are taken over (rules 6, 8 and 10).

use crate::base::{GroupId, Index, Instant, MemberId, Term};

use super::member::Role;
use super::reigning::Leadership;
use super::{Effect, Election, ElectionBody, ElectionMessage, MergedLog, Vote};
use crate::raft::{Configuration, GroupReport, Position};

/// A pre-candidate's question.
#[derive(Debug)]
pub(super) struct Campaign {
    granted: Vec<MemberId>,
}

/// A candidate's votes.
#[derive(Debug)]
pub(super) struct Candidacy {
    transfer: bool,
    votes: Vec<(MemberId, Vote)>,
}

/// What a quorum's votes decide.
struct Decision {
    configuration: Configuration,
    logs: Vec<MergedLog>,
}

impl Election {
    /// Asks whether it would be elected, if it may vote at all.
    pub(super) fn stand(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.rest(now);
        if !self.configuration.is_voter(self.me) {
            return;
        }
        if matches!(self.role, Role::Follower { leader: Some(_) }) {
            effects.push(Effect::LeaderIs { term: self.term, leader: None });
        }
        self.role = Role::PreCandidate(Campaign { granted: Vec::new() });
        let lasts: Vec<(GroupId, Index)> = self.logs.iter().map(|log| (log.group, log.last)).collect();
        for &voter in self.configuration.voters().iter().filter(|&&v| v != self.me) {
            let body = ElectionBody::PreVote { lasts: lasts.clone() };
            effects.push(Effect::Send { to: voter, message: ElectionMessage { term: self.term.next(), body } });
        }
        self.pre_vote_granted(now, self.me, self.term.next(), effects);
    }

    /// Answers a pre-candidate. Refused: while a leader is heard, without a working link for each group, and at first to one
    /// that would need a snapshot (rule 10).
    pub(super) fn asked_for_pre_vote(
        &mut self,
        now: Instant,
        from: MemberId,
        term: Term,
        lasts: &[(GroupId, Index)],
        effects: &mut Vec<Effect>,
    ) {
        let has = |group: GroupId| lasts.iter().find(|(g, _)| *g == group).map_or(Index::ZERO, |(_, last)| *last);
        let lags = self.logs.iter().any(|log| has(log.group) < log.start);
        let early = now.since(self.heard_at) < 2 * self.election_timeout;
        let refused = term <= self.term
            || self.hears_a_leader(now, from)
            || !self.links.contains(&from)
            || (lags && early)
            || from == self.me;
        if refused {
            return self.say(from, ElectionBody::PreVoteRefused, effects);
        }
        effects.push(Effect::Send { to: from, message: ElectionMessage { term, body: ElectionBody::PreVoteGranted } });
    }

    pub(super) fn pre_vote_granted(&mut self, now: Instant, from: MemberId, term: Term, effects: &mut Vec<Effect>) {
        let Role::PreCandidate(campaign) = &mut self.role else { return };
        if term != self.term.next() {
            return;
        }
        if !campaign.granted.contains(&from) {
            campaign.granted.push(from);
        }
        if self.configuration.is_quorum(|member| campaign.granted.contains(&member)) {
            self.become_candidate(now, false, effects);
        }
    }

    /// The leader makes way: no pre-vote is needed.
    pub(super) fn stand_now(&mut self, now: Instant, from: MemberId, effects: &mut Vec<Effect>) {
        let follows = matches!(self.role, Role::Follower { leader: Some(leader) } if leader == from);
        if follows && self.moving.is_none() && self.configuration.is_voter(self.me) {
            self.become_candidate(now, true, effects);
        }
    }

    fn become_candidate(&mut self, now: Instant, transfer: bool, effects: &mut Vec<Effect>) {
        let term = self.term.next();
        self.begin_move(now, term, Some(self.me), None, effects);
        self.role = Role::Candidate(Candidacy { transfer, votes: Vec::new() });
    }

    /// Asks everyone for a vote who may have one and has not given it, once the own vote is on disk.
    pub(super) fn request_votes(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Role::Candidate(candidacy) = &self.role else { return };
        self.heartbeat_at = now + self.heartbeat_interval;
        // Voters of a newer configuration, of which only another log knows, count too.
        let reported = candidacy.votes.iter().flat_map(|(_, vote)| &vote.reports).map(|report| &report.configuration);
        let known = std::iter::once(&self.configuration).chain(reported);
        let mut voters: Vec<MemberId> = known.flat_map(|c| c.voters()).copied().collect();
        voters.sort_unstable();
        voters.dedup();
        let transfer = candidacy.transfer;
        voters.retain(|&v| v != self.me && !candidacy.votes.iter().any(|(from, _)| *from == v));
        for voter in voters {
            self.say(voter, ElectionBody::RequestVote { transfer }, effects);
        }
    }

    /// Answers a candidate: one vote per term, given when it is on disk and all cores froze (rule 6).
    pub(super) fn asked_for_vote(
        &mut self,
        now: Instant,
        from: MemberId,
        term: Term,
        transfer: bool,
        effects: &mut Vec<Effect>,
    ) {
        if term < self.term {
            return self.say(from, ElectionBody::VoteRefused, effects);
        }
        if term > self.term {
            // A leader that is heard is not deposed by one who does not hear it (thesis 4.2.3).
            if transfer || !self.hears_a_leader(now, from) {
                self.begin_move(now, term, Some(from), None, effects);
            }
            return;
        }
        let led = self.leader().is_some() || self.moving.as_ref().is_some_and(|m| m.leader.is_some());
        match self.vote {
            Some(vote) if vote == from && !led => {
                if self.moved.is_some() {
                    let own = self.own_vote();
                    self.say(from, ElectionBody::Vote(own), effects);
                } else if self.moving.is_none() {
                    // Given before this member restarted: its logs are reported anew.
                    self.begin_move(now, term, Some(from), None, effects);
                }
            }
            None if !led => self.begin_move(now, term, Some(from), None, effects),
            _ => self.say(from, ElectionBody::VoteRefused, effects),
        }
    }

    /// Counts a vote, the own one too, and takes over when there are enough.
    pub(super) fn vote_received(&mut self, now: Instant, from: MemberId, vote: Vote, effects: &mut Vec<Effect>) {
        let Role::Candidate(candidacy) = &mut self.role else { return };
        if !candidacy.votes.iter().any(|(member, _)| *member == from) {
            candidacy.votes.push((from, vote));
        }
        // The candidate's own logs are what is pulled into: nothing is decided before they stand still.
        if self.moved.is_none() {
            return;
        }
        let votes = std::mem::take(&mut candidacy.votes);
        let Some(decision) = self.decide(&votes) else {
            let Role::Candidate(candidacy) = &mut self.role else { unreachable!("deciding changes no role") };
            candidacy.votes = votes;
            return;
        };
        for (_, vote) in &votes {
            self.know_stable(vote.known_stable);
        }
        let Decision { configuration, logs } = decision;
        let pulls: Vec<MergedLog> = logs.iter().filter(|log| log.from != self.me).copied().collect();
        for MergedLog { group, from, last } in &pulls {
            effects.push(Effect::Pull { term: self.term, group: *group, from: *from, last: *last });
        }
        let groups = pulls.iter().map(|log| log.group).collect();
        self.configuration = configuration.clone();
        self.role = Role::Leading(Leadership::taking_over(now, groups, configuration, logs));
        self.send_heartbeats(now, effects);
        self.take_over_when_pulled(effects);
    }

    /// Which logs are taken over, if these votes are enough: for each group the one whose last entry has the highest (term,
    /// index); and the voters must be a quorum of the configuration in each log so chosen (rule 8).
    fn decide(&self, votes: &[(MemberId, Vote)]) -> Option<Decision> {
        let has_vote = |member| votes.iter().any(|(voter, _)| *voter == member);
        let mut logs = Vec::new();
        let mut newest: Option<&GroupReport> = None;
        for group in self.groups_of(votes) {
            let reports = votes.iter().filter_map(|(member, vote)| Some((*member, vote.report(group)?)));
            let best = reports.max_by_key(|(member, report)| (report.last, *member == self.me));
            let carries = best.map(|(_, report)| report).filter(|r| r.configuration.version > 0);
            if !carries.map_or(&self.initial, |r| &r.configuration).is_quorum(has_vote) {
                return None;
            }
            let age = |r: &GroupReport| (r.configuration.version, r.last.term);
            newest = newest.into_iter().chain(carries).max_by_key(|r| age(r));
            let chosen = best.filter(|(_, report)| report.last > Position::default());
            let (from, last) = chosen.map_or((self.me, Position::default()), |(member, report)| (member, report.last));
            logs.push(MergedLog { group, from, last });
        }
        // The first barriers of a new cluster carry the candidate's own (rule 15).
        let configuration = newest.map_or_else(|| self.initial.clone().with_version(1), |r| r.configuration.clone());
        Some(Decision { configuration, logs })
    }

    /// All groups of the cluster. The number never changes once a reign was open; before, the last attempt at opening one
    /// counts, and before the first the candidate's own choice.
    fn groups_of(&self, votes: &[(MemberId, Vote)]) -> impl Iterator<Item = GroupId> + use<> {
        let reports = votes.iter().flat_map(|(_, vote)| &vote.reports).filter(|r| r.configuration.version > 0);
        let latest = reports.max_by_key(|r| (r.last.term, r.configuration.version));
        latest.map_or(&self.initial, |r| &r.configuration).groups()
    }
}

impl Vote {
    fn report(&self, group: GroupId) -> Option<&GroupReport> {
        self.reports.iter().find(|report| report.group == group)
    }
}
