//! Reading slices of a group's keys at a revision: the store, and over it what is evaluated and not yet applied.

use crate::base::limits::{
    COUNT_CORRECTIONS_MAX, READ_AHEAD_PAGES, READ_AHEAD_UNDER_WAY_MAX, SLICE_BYTES_MAX, SLICE_VISITS_MAX,
};
use crate::base::{GroupId, Revision};
use crate::group::Machine;
use crate::mvcc::{EventsQuery, EventsResume, Mvcc};
use crate::pages::Fault;

use super::core::{Core, Shard, Waiting, Walker};
use super::effects::Effect;
use super::messages::{Answer, Event, EventsRead, Leave, RangeRead, Read, Refusal, Ticket};
use super::reading::{self, Found, Reading, SLICE};
use super::slices::{hash_cost, hash_slice};

impl Core {
    /// Answers a slice now, or when the pages that it needs are there.
    pub(super) fn read(&mut self, group: GroupId, reading: Reading, effects: &mut Vec<Effect>) {
        let Some(place) = self.place(group) else {
            return self.answer(reading.ticket, Leave::Now, Answer::Refused(Refusal::NotLeader), effects);
        };
        if self.shards[place].wants_applied(&reading.read) {
            return self.shards[place].after_apply.push(reading);
        }
        if self.is_for_later(&reading.read) {
            return self.shards[place].sliced.push(Waiting::Read(reading));
        }
        self.read_on(place, reading, effects);
    }

    /// Whether reads have gathered so much in this round that this one waits for one of the next, or it lets others go first. Not so when
    /// a page has come that it waited for, which may be gone by then.
    pub(super) fn is_for_later(&self, read: &Read) -> bool {
        self.read_bytes_left == 0 && !matches!(read, Read::Get { .. }) || self.rests(read, self.now)
    }

    /// The next slice of a read.
    pub(super) fn read_on(&mut self, place: usize, mut reading: Reading, effects: &mut Vec<Effect>) {
        let shard = &mut self.shards[place];
        let outcome = slice(shard, &mut reading, self.board.compact_floor(), self.slices.allowance());
        self.slices.spend(std::mem::take(&mut reading.cost));
        let mut ahead = match &outcome {
            // While the answer is on its way, what the next slice will want is read.
            Ok(Some(answer)) => next_slice(&reading.read, answer).map_or(Vec::new(), |next| shard.ahead_of(&next, None, false)),
            Ok(None) | Err(_) => shard.ahead_of(&reading.read, reading.found.as_deref(), outcome.is_err()),
        };
        // A read that waits goes on when the last of them has come, and finds the others; if not, it faults again.
        let last = if outcome.is_err() { ahead.pop() } else { None };
        self.read_bytes_left = self.read_bytes_left.saturating_sub(weight(&reading.read, &outcome));
        for fault in ahead {
            shard.wait_for(fault, Waiting::Nobody, effects);
        }
        match outcome {
            Ok(Some(answer)) => self.answer(reading.ticket, Leave::Now, answer, effects),
            Ok(None) => shard.sliced.push(Waiting::Read(reading)),
            Err(fault) => shard.wait_for(last.unwrap_or(fault), Waiting::Read(reading), effects),
        }
    }

    /// Drops what fronts no longer want and what has not been evaluated or answered: all in one go through what waits.
    pub(super) fn drop_cancelled(&mut self, effects: &mut Vec<Effect>) {
        let cancelled = std::mem::take(&mut self.cancelled);
        for place in (0..self.shards.len()).filter(|_| !cancelled.is_empty()) {
            let shard = &mut self.shards[place];
            let mut dropped = Vec::new();
            let mut stays = |ticket: Ticket| {
                let is_cancelled = cancelled.contains(&ticket);
                dropped.extend(is_cancelled.then_some(ticket));
                !is_cancelled
            };
            shard.queue.retain(|write| stays(write.ticket));
            shard.after_apply.retain(|reading| stays(reading.ticket));
            for work in shard.waiting.values_mut().map(|awaited| &mut awaited.work).chain([&mut shard.sliced]) {
                work.retain(|waiting| waiting.ticket().is_none_or(&mut stays));
            }
            let walked = shard.walking.take_if(|walker| matches!(walker, Walker::Write(ticket) if cancelled.contains(ticket)));
            dropped.sort_unstable_by_key(|ticket| (ticket.front, ticket.number));
            for ticket in dropped {
                self.answer(ticket, Leave::Now, Answer::Refused(Refusal::Cancelled), effects);
            }
            if walked.is_some() {
                self.queued_writes(place, effects);
            }
        }
    }
}

/// The answer, or `None`: there is more to do for it, in the next round. `allowance`: what a hash may visit.
fn slice(shard: &Shard, reading: &mut Reading, compacted: Revision, allowance: u32) -> Result<Option<Answer>, Fault> {
    let view = shard.view();
    let Reading { read, found, cost, .. } = reading;
    Ok(Some(match read {
        Read::Get { key, at } => Answer::Got(view.get(key, reading::at(*at))?.map(|state| state.to_message(key.clone()))),
        Read::Range(range) => return Ok(reading::range(view, range, found)?.map(Answer::Range)),
        Read::Events(events) => shard.events_slice(events, compacted)?,
        Read::HashKept(query) => {
            let kept = reading::hash_kept(shard.mvcc(), *query, found)?;
            if query.at_compaction && kept.is_none() {
                *cost = hash_cost(SLICE_VISITS_MAX, 0);
            }
            return Ok(kept.map(Answer::HashKept));
        }
        Read::Hash { query, resume } => {
            let resume = resume.as_ref().and_then(EventsResume::decode);
            let chunk = shard.mvcc().hash_entries(*query, resume.as_ref(), hash_slice(*query, allowance))?;
            if query.at_compaction {
                *cost = hash_cost(chunk.visits, chunk.bytes);
            }
            Answer::Hash { entries: chunk.entries, resume: chunk.resume.map(|place| place.encode()) }
        }
        Read::Attached { lease, at: _, resume } => {
            let slice = view.attached(*lease, resume.as_deref(), SLICE)?;
            Answer::Attached { keys: slice.keys, resume: slice.resume }
        }
    }))
}

/// What a slice counts as, in bytes: what it found, or a whole one if it ended because it had looked at enough.
fn weight(read: &Read, outcome: &Result<Option<Answer>, Fault>) -> usize {
    match (read, outcome) {
        (_, Err(_)) => 0,
        (_, Ok(None)) => SLICE_BYTES_MAX,
        (Read::Range(range), Ok(Some(Answer::Range(slice)))) => {
            let enough = slice.resume.is_some() && slice.kvs.len() < range.limit;
            let found = || slice.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
            if enough { SLICE_BYTES_MAX } else { found() }
        }
        (_, Ok(Some(Answer::Got(Some(kv))))) => kv.value.len(),
        (_, Ok(Some(Answer::Events { resume: Some(_), .. } | Answer::Hash { resume: Some(_), .. }))) => SLICE_BYTES_MAX,
        (_, Ok(Some(Answer::Attached { resume: Some(_), .. }))) => SLICE_BYTES_MAX,
        (_, Ok(Some(_))) => 0,
    }
}

/// The slice that will be asked for behind the one that was answered, if there is more and it takes pages one after the other.
fn next_slice(read: &Read, answer: &Answer) -> Option<Read> {
    match (read, answer) {
        (Read::Range(range), Answer::Range(slice)) => {
            let limit = if range.count_only { usize::MAX } else { range.limit.saturating_sub(slice.kvs.len()) };
            Some(Read::Range(Box::new(RangeRead { resume: Some(slice.resume.clone()?), limit, ..(**range).clone() })))
                .filter(|_| limit > 0)
        }
        (Read::Hash { query, .. }, Answer::Hash { resume, .. }) => {
            Some(Read::Hash { query: *query, resume: Some(resume.clone()?) })
        }
        (Read::Events(events), Answer::Events { resume, .. }) => {
            Some(Read::Events(Box::new(EventsRead { resume: Some(resume.clone()?), ..(**events).clone() })))
        }
        _ => None,
    }
}

impl Shard {
    fn mvcc(&self) -> &Mvcc {
        let Machine::Keys(mvcc) = &self.replica.machine else { unreachable!("group 0 has no keys") };
        mvcc
    }

    /// Whether a read waits until what it sees is applied: a hash is of that alone, and a count over much that is not would walk over
    /// every version, and take the pages in memory from applying. Not so while a revision with many changes is applied, which may take
    /// long.
    fn wants_applied(&self, read: &Read) -> bool {
        match read {
            Read::HashKept(query) => self.applied_through() < query.revision,
            Read::Range(range) if range.count_only || range.with_count => {
                let many = self.overlay.len() > COUNT_CORRECTIONS_MAX && self.mvcc().is_whole();
                many && self.applied_through() < range.at.revision
            }
            _ => false,
        }
    }

    /// The pages that a read, which `waits` for one or not, will come to and that are not in memory.
    fn ahead_of(&self, read: &Read, found: Option<&Found>, waits: bool) -> Vec<Fault> {
        if self.waiting.len() >= READ_AHEAD_UNDER_WAY_MAX {
            return Vec::new();
        }
        match read {
            Read::Range(range) => reading::range_ahead(self.view(), range, found, waits),
            Read::Hash { query, resume } => {
                let resume = resume.as_ref().and_then(EventsResume::decode);
                self.mvcc().hash_ahead(*query, resume.as_ref(), READ_AHEAD_PAGES)
            }
            Read::Events(events) => {
                let (query, resume) = self.events_query(events, Revision::ZERO);
                self.mvcc().events_ahead(&query, resume.as_ref(), READ_AHEAD_PAGES)
            }
            Read::Get { .. } | Read::HashKept(_) | Read::Attached { .. } => Vec::new(),
        }
    }

    /// Changes come from what is applied: a slice goes as far as this group has applied everything.
    fn events_slice(&self, read: &EventsRead, compacted: Revision) -> Result<Answer, Fault> {
        let (query, resume) = self.events_query(read, compacted);
        let to = query.to;
        if to < read.from {
            return Ok(Answer::Events { events: Vec::new(), through: Revision(read.from.0 - 1), resume: None });
        }
        let chunk = self.mvcc().events(&query, resume.as_ref(), SLICE)?;
        let through = chunk.resume.as_ref().map_or(to, |place| Revision(place.change.revision.0 - 1));
        let events = chunk.events.into_iter().map(|e| Event::of(e, read.prev_kv)).collect();
        Ok(Answer::Events { events, through, resume: chunk.resume.map(|place| place.encode()) })
    }

    fn events_query(&self, read: &EventsRead, compacted: Revision) -> (EventsQuery, Option<EventsResume>) {
        let to = read.to.min(self.applied_through());
        let query = EventsQuery { from: read.from, to, span: reading::span(&read.range), with_prev: read.prev_kv, compacted };
        (query, read.resume.as_ref().and_then(EventsResume::decode))
    }

    /// Everything of this group up to here is applied, whatever it took or may take.
    pub(super) fn applied_through(&self) -> Revision {
        match self.replica.raft.log().entry(self.replica.applied().next()) {
            Some(entry) => Revision(entry.mark.counts_as().0 - u64::from(entry.mark.revision().is_some())),
            None => Revision::MAX,
        }
    }
}
