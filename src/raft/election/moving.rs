//! The way into a term: persist, freeze, end the old reign (rules 6, 7 and 11).

use crate::base::{CoreId, Instant, MemberId, Revision, Term};

use super::member::Role;
use super::{Effect, Election, ElectionBody, Vote};
use crate::raft::GroupReport;

/// A way into a term that is under way.
#[derive(Debug)]
pub(super) struct Move {
    /// Who gets the vote, if anyone does.
    vote: Option<MemberId>,
    /// Who leads the term, if that is known.
    pub(super) leader: Option<MemberId>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Term and vote are on their way to disk.
    Persisting,
    /// Cores that have not frozen yet, and what the others reported.
    Freezing { awaited: Vec<CoreId>, reports: Vec<GroupReport> },
    /// All cores froze; the reign that this member led is being ended.
    Ending { reports: Vec<GroupReport> },
}

/// What the cores reported when they froze in the term that the member is in.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) reports: Vec<GroupReport>,
}

impl Election {
    /// Enters `term`, or gives the vote in the one that it is in. Whatever is under way is superseded.
    pub(super) fn begin_move(
        &mut self,
        now: Instant,
        term: Term,
        vote: Option<MemberId>,
        leader: Option<MemberId>,
        effects: &mut Vec<Effect>,
    ) {
        assert!(term >= self.term, "the term does not fall");
        assert!(term > self.term || self.vote.is_none() || self.vote == vote, "one vote per term");
        self.give_up(effects);
        if term > self.term {
            effects.push(Effect::LeaderIs { term, leader: None });
        }
        self.term = term;
        self.vote = vote;
        self.moved = None;
        self.moving = Some(Move { vote, leader, stage: Stage::Persisting });
        if leader.is_some() {
            self.heard_at = now;
        }
        self.rest(now);
        effects.push(Effect::PersistVote { term, vote });
    }

    pub(super) fn vote_persisted(&mut self, now: Instant, term: Term, vote: Option<MemberId>, effects: &mut Vec<Effect>) {
        let awaited = self.core_count().collect();
        let Some(moving) = &mut self.moving else { return };
        if term != self.term || vote != moving.vote || !matches!(moving.stage, Stage::Persisting) {
            return;
        }
        moving.stage = Stage::Freezing { awaited, reports: Vec::new() };
        effects.push(Effect::FreezeCores { term });
        self.request_votes(now, effects);
    }

    pub(super) fn core_frozen(
        &mut self,
        now: Instant,
        term: Term,
        core: CoreId,
        reports: Vec<GroupReport>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(Move { stage: Stage::Freezing { awaited, reports: all }, .. }) = &mut self.moving else { return };
        if term != self.term || !awaited.contains(&core) {
            return;
        }
        awaited.retain(|&c| c != core);
        all.extend(reports);
        if !awaited.is_empty() {
            return;
        }
        let mut reports = std::mem::take(all);
        reports.sort_unstable_by_key(|report| report.group);
        assert!(reports.windows(2).all(|pair| pair[0].group < pair[1].group), "each group lives on one core");
        let Some(reign) = self.reign else { return self.finish_move(now, reports, effects) };
        // Rule 7: nothing of a later term is accepted, and no vote leaves, before the old reign has ended.
        self.moving.as_mut().expect("it is freezing").stage = Stage::Ending { reports };
        if !self.ending {
            self.ending = true;
            effects.push(Effect::EndReign { term: reign });
        }
    }

    pub(super) fn reign_ended(&mut self, now: Instant, term: Term, stable: Revision, effects: &mut Vec<Effect>) {
        assert_eq!(self.reign, Some(term), "a reign ends that was not open");
        assert!(self.ending, "a reign ends when it is told to");
        self.reign = None;
        self.ending = false;
        self.know_stable(stable);
        if let Some(Move { stage: Stage::Ending { reports }, .. }) = &mut self.moving {
            let reports = std::mem::take(reports);
            self.finish_move(now, reports, effects);
        }
    }

    /// The member is in the term: now it votes, counts its own vote, or follows.
    fn finish_move(&mut self, now: Instant, reports: Vec<GroupReport>, effects: &mut Vec<Effect>) {
        let Move { vote, leader, .. } = self.moving.take().expect("a move ends that began");
        self.moved = Some(Moved { reports });
        if let Some(leader) = leader {
            self.follow(leader, effects);
            return self.rest(now);
        }
        match vote {
            Some(candidate) if candidate == self.me => {
                self.rest(now);
                let own = self.own_vote();
                self.vote_received(now, candidate, own, effects);
            }
            Some(candidate) => {
                self.rest(now);
                let own = self.own_vote();
                self.say(candidate, ElectionBody::Vote(own), effects);
            }
            None => {}
        }
    }

    /// This member's vote: what its cores reported, and what it knows to be stable (rule 6).
    pub(super) fn own_vote(&self) -> Vote {
        let moved = self.moved.as_ref().expect("a vote leaves after all cores froze");
        assert!(self.reign.is_none(), "a vote leaves after the old reign has ended");
        Vote { known_stable: self.known_stable, reports: moved.reports.clone() }
    }

    /// Gives up whatever role the member has in its term.
    pub(super) fn give_up(&mut self, effects: &mut Vec<Effect>) {
        if let Role::Leading(leadership) = &mut self.role {
            let reads = leadership.take_reads();
            if !reads.is_empty() {
                effects.push(Effect::ReadsRefused(reads));
            }
            effects.push(Effect::CloseReign { term: self.term });
        }
        self.role = Role::Follower { leader: None };
    }
}
