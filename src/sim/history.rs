//! What has happened, by revision, and the checkers that hold every answer and every event to it.
//!
//! The *truth* of a revision is what the auditing watch showed of it first. From then on it must not change: not over crashes, not
//! for another watch. Answers wait until the truth of their revision is known; then they are compared with what a naive store would
//! have said.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::base::Instant;
use crate::proto::etcdserverpb as pb;
use crate::proto::mvccpb::{Event, KeyValue, event::EventType};

use super::leases::Lease;
use super::matching::pair_off;
use super::model::{self, Answered, Change, State, Write};

/// What a client asked and got; kept until it is checked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The write.
    pub write: Write,
    /// The highest revision that anyone had seen when it was asked.
    pub low: i64,
    /// In which run of the member.
    pub run: usize,
}

enum Check {
    Write { asked: Asked, answered: Answered },
    Range { request: pb::RangeRequest, response: pb::RangeResponse, low: i64 },
}

/// Everything known.
#[derive(Default)]
pub struct History {
    versions: BTreeMap<Bytes, Vec<(i64, Option<KeyValue>)>>,
    /// From revision 2 on.
    truth: Vec<Vec<Change>>,
    claimed: BTreeSet<i64>,
    waiting: BTreeMap<i64, Vec<Check>>,
    in_doubt: Vec<Asked>,
    /// What each run of the member that came to serve began with.
    begun: Vec<(usize, i64)>,
    /// The highest revision shown to anyone.
    pub shown: i64,
    /// The highest revision that a compaction was asked for, and answered for.
    pub compacting: i64,
    /// The highest revision that a compaction was answered for.
    pub compacted: i64,
    /// The hash of each revision, as of each compaction.
    hashes: BTreeMap<(i64, i64), u32>,
    /// All leases ever asked for.
    pub leases: BTreeMap<i64, Lease>,
}

impl History {
    /// Nothing yet.
    pub fn new() -> History {
        History { shown: 1, ..History::default() }
    }

    /// The last revision whose truth is known.
    pub fn top(&self) -> i64 {
        self.truth.len() as i64 + 1
    }

    /// All keys at a revision whose truth is known.
    pub fn state(&self, revision: i64) -> State {
        let mut state = State::new();
        for (key, versions) in &self.versions {
            let at = versions.partition_point(|(of, _)| *of <= revision);
            if let Some((_, Some(kv))) = at.checked_sub(1).map(|at| &versions[at]) {
                state.insert(key.clone(), kv.clone());
            }
        }
        state
    }

    /// The changes of a revision in an etcd range.
    pub fn changes(&self, revision: i64, first: &[u8], end: &[u8]) -> Vec<Change> {
        let all = &self.truth[revision as usize - 2];
        all.iter().filter(|change| model::is_within(&change.key, first, end)).cloned().collect()
    }

    /// The auditing watch shows a revision.
    pub fn audit(&mut self, revision: i64, events: &[Event]) -> Result<(), String> {
        let changes = events.iter().map(|event| change_of(revision, event)).collect::<Result<Vec<_>, _>>()?;
        self.shown = self.shown.max(revision);
        if revision <= self.top() {
            let known = &self.truth[revision as usize - 2];
            if *known != changes {
                return Err(format!("revision {revision} was shown as {known:?} and is now {changes:?}"));
            }
            return Ok(());
        }
        if revision != self.top() + 1 {
            return Err(format!("revision {revision} comes after {}", self.top()));
        }
        let before = self.state(revision - 1);
        for change in &changes {
            let prev = before.get(&change.key);
            match &change.kv {
                Some(kv) => {
                    let created = prev.map_or(revision, |prev| prev.create_revision);
                    let version = prev.map_or(1, |prev| prev.version + 1);
                    if (kv.create_revision, kv.version) != (created, version) {
                        return Err(format!("revision {revision} puts {kv:?} over {prev:?}"));
                    }
                }
                None if prev.is_none() => {
                    return Err(format!("revision {revision} deletes {:?}, which is not there", change.key));
                }
                None => {}
            }
            self.versions.entry(change.key.clone()).or_default().push((revision, change.kv.clone()));
        }
        self.truth.push(changes);
        let due = self.waiting.remove(&revision).unwrap_or_default();
        due.into_iter().try_for_each(|check| self.check(revision, check))
    }

    /// A revision has been seen by a client.
    fn show(&mut self, revision: i64, low: i64) -> Result<(), String> {
        if revision < low {
            return Err(format!("an answer is of revision {revision}, but {low} had been shown before it was asked"));
        }
        self.shown = self.shown.max(revision);
        Ok(())
    }

    /// A write is answered.
    pub fn written(&mut self, asked: Asked, revision: i64, answered: Answered) -> Result<(), String> {
        self.show(revision, asked.low + i64::from(answered.changes()))?;
        self.wait(revision, Check::Write { asked, answered })
    }

    /// A range is answered.
    pub fn ranged(&mut self, request: pb::RangeRequest, response: pb::RangeResponse, low: i64) -> Result<(), String> {
        let revision = response.header.as_ref().map_or(0, |h| h.revision);
        self.show(revision, low)?;
        self.wait(revision, Check::Range { request, response, low })
    }

    /// Some answer without content was of this revision.
    pub fn told(&mut self, revision: i64, low: i64) -> Result<(), String> {
        self.show(revision, low)
    }

    /// A hash is answered: it is always the same, whoever is asked, and whatever became of the member in between.
    pub fn hashed(&mut self, asked: i64, response: &pb::HashKvResponse, low: i64) -> Result<(), String> {
        self.show(response.header.as_ref().map_or(0, |h| h.revision), low)?;
        let of = (response.hash_revision, response.compact_revision);
        let known = *self.hashes.entry(of).or_insert(response.hash);
        if known != response.hash || asked > 0 && asked != response.hash_revision {
            return Err(format!("the hash at {asked} is {response:?}, and was {known}"));
        }
        Ok(())
    }

    fn wait(&mut self, revision: i64, check: Check) -> Result<(), String> {
        if revision <= self.top() {
            return self.check(revision, check);
        }
        self.waiting.entry(revision).or_default().push(check);
        Ok(())
    }

    fn check(&mut self, revision: i64, check: Check) -> Result<(), String> {
        match check {
            Check::Write { asked, answered } if answered.changes() => {
                let (changes, would) = model::run(&self.state(revision - 1), revision, &asked.write);
                let truth = &self.truth[revision as usize - 2];
                if changes != *truth {
                    return Err(format!("{asked:?} was answered at revision {revision}, which is {truth:?}, not {changes:?}"));
                }
                let answered = answered.without_headers();
                if would != answered {
                    return Err(format!("{asked:?} was answered {answered:?} at revision {revision}, not {would:?}"));
                }
                if !self.claimed.insert(revision) {
                    return Err(format!("revision {revision} was given to two writes, {asked:?} is one"));
                }
                Ok(())
            }
            Check::Write { asked, answered } => {
                let answered = answered.without_headers();
                let fits = |at| {
                    let (changes, would) = model::run(&self.state(at), at + 1, &asked.write);
                    changes.is_empty() && would == answered
                };
                if (asked.low.max(1)..=revision).rev().any(fits) {
                    return Ok(());
                }
                Err(format!("{asked:?} was answered {answered:?} at revision {revision}: never so since {}", asked.low))
            }
            Check::Range { request, mut response, low } => {
                response.header = None;
                let at = if request.revision > 0 { request.revision } else { revision };
                let would = model::range(&self.state(at), &request);
                if would == response {
                    return Ok(());
                }
                Err(format!("{request:?} was answered {response:?} at revision {revision}, not {would:?} (asked after {low})"))
            }
        }
    }

    /// A write may have happened, or may not.
    pub fn doubt(&mut self, asked: Asked) {
        self.in_doubt.push(asked);
    }

    /// The member runs again, and this is what it came up with.
    pub fn run_begun(&mut self, run: usize, revision: i64) {
        self.begun.push((run, revision));
    }

    /// What the member came up with last.
    pub fn came_up_with(&self) -> i64 {
        self.begun.last().map_or(1, |&(_, revision)| revision)
    }

    /// Everything shown is known, and every revision was made by somebody.
    pub fn finish(&mut self, now: Instant) -> Result<(), String> {
        if let Some((revision, _)) = self.waiting.first_key_value() {
            return Err(format!("revision {revision} was answered and is gone: the last is {}", self.top()));
        }
        if self.shown > self.top() {
            return Err(format!("revision {} was shown and is gone: the last is {}", self.shown, self.top()));
        }
        self.was_made(now)
    }

    /// Every revision was made by somebody: the write that was answered with it, a write in doubt, or the end of a lease, and nobody
    /// made two.
    fn was_made(&self, now: Instant) -> Result<(), String> {
        let open: Vec<i64> = (2..=self.top()).filter(|revision| !self.claimed.contains(revision)).collect();
        let candidates: Vec<Vec<usize>> = open.iter().map(|&revision| self.makers(revision, now)).collect();
        pair_off(&candidates, self.in_doubt.len() + self.leases.len()).map_err(|at| {
            let truth = &self.truth[open[at] as usize - 2];
            format!("revision {} was made by nobody: {truth:?}", open[at])
        })
    }

    /// The writes in doubt that may have made a revision, by their places, and behind them the leases.
    fn makers(&self, revision: i64, now: Instant) -> Vec<usize> {
        let before = self.state(revision - 1);
        let truth = &self.truth[revision as usize - 2];
        let made = |asked: &Asked| {
            let last = self.begun.iter().find(|(run, _)| *run > asked.run).map_or(i64::MAX, |&(_, last)| last);
            asked.low < revision && revision <= last && model::run(&before, revision, &asked.write).0 == *truth
        };
        let writes = self.in_doubt.iter().enumerate().filter(|(_, asked)| made(asked)).map(|(at, _)| at);
        let ended = |id: i64, lease: &Lease| {
            let attached = before.values().filter(|kv| kv.lease == id).map(|kv| Change { key: kv.key.clone(), kv: None });
            lease.may_have_ended(now) && attached.eq(truth.iter().cloned())
        };
        let leases = self.leases.iter().enumerate().filter(|(_, (id, lease))| ended(**id, lease));
        writes.chain(leases.map(|(at, _)| self.in_doubt.len() + at)).collect()
    }
}

/// An event as a change; it must be of this revision.
pub fn change_of(revision: i64, event: &Event) -> Result<Change, String> {
    let Some(kv) = &event.kv else { return Err(format!("an event of revision {revision} has no key")) };
    if kv.mod_revision != revision {
        return Err(format!("an event among those of revision {revision} is of {}", kv.mod_revision));
    }
    let put = event.r#type() == EventType::Put;
    Ok(Change { key: kv.key.clone(), kv: put.then(|| kv.clone()) })
}
