//! Reading slices of a group's keys at a revision: the store, and over it what is evaluated and not yet applied.

use bytes::Bytes;

use crate::base::limits::{
    COUNT_CORRECTIONS_MAX, COUNT_VISITS_MAX, READ_AHEAD_PAGES, READ_AHEAD_UNDER_WAY_MAX, SLICE_BYTES_MAX, SLICE_VISITS_MAX,
};
use crate::base::{GroupId, KeyRange, RangeEnd, Revision};
use crate::group::Machine;
use crate::mvcc::hash::{AnyKept, HashQuery};
use crate::mvcc::{At, Budget, EventsQuery, EventsResume, Filters, Mvcc, RangeQuery, Span, View};
use crate::pages::Fault;

use super::core::{Core, Shard, Waiting, Walker};
use super::effects::Effect;
use super::messages::{Answer, Event, EventsRead, Leave, RangeRead, RangeSlice, Read, Refusal, Ticket};

const SLICE: Budget = Budget { visits: SLICE_VISITS_MAX, bytes: SLICE_BYTES_MAX };
const COUNT: Budget = Budget { visits: COUNT_VISITS_MAX, bytes: usize::MAX };

impl Core {
    /// Answers a slice now, or when the pages that it needs are there.
    pub(super) fn read(&mut self, group: GroupId, ticket: Ticket, read: Read, effects: &mut Vec<Effect>) {
        let Some(place) = self.place(group) else {
            return self.answer(ticket, Leave::Now, Answer::Refused(Refusal::NotLeader), effects);
        };
        let shard = &mut self.shards[place];
        if shard.wants_applied(&read) {
            return shard.after_apply.push((ticket, read));
        }
        match slice(shard, &read, self.board.compact_floor()) {
            Ok(answer) => {
                // While it is on its way, what the next slice will want is read.
                if let Some(next) = next_slice(&read, &answer) {
                    for fault in shard.ahead_of(&next) {
                        shard.wait_for(fault, Waiting::Nobody, effects);
                    }
                }
                self.answer(ticket, Leave::Now, answer, effects);
            }
            Err(fault) => {
                let mut ahead = shard.ahead_of(&read);
                // It goes on when the last of them has come, and finds the others; if not, it faults again.
                let last = ahead.pop().unwrap_or(fault);
                for fault in ahead {
                    shard.wait_for(fault, Waiting::Nobody, effects);
                }
                shard.wait_for(last, Waiting::Read { ticket, read }, effects);
            }
        }
    }

    /// Drops what a front no longer wants and what has not been evaluated.
    pub(super) fn cancel(&mut self, ticket: Ticket, group: GroupId, effects: &mut Vec<Effect>) {
        if group == GroupId::META {
            return self.cancel_order(ticket, effects);
        }
        let Some(place) = self.place(group) else { return };
        let shard = &mut self.shards[place];
        let mut found = false;
        shard.queue.retain(|write| {
            found |= write.ticket == ticket;
            write.ticket != ticket
        });
        for work in shard.waiting.values_mut().map(|awaited| &mut awaited.work).chain([&mut shard.sliced]) {
            work.retain(|w| {
                let it = match w {
                    Waiting::Write(write) => write.ticket == ticket,
                    Waiting::Read { ticket: t, .. } => *t == ticket,
                    Waiting::Hold { .. } | Waiting::Part { .. } | Waiting::Nobody => false,
                    Waiting::Apply | Waiting::Ahead(_) | Waiting::Slice | Waiting::Defragment => false,
                };
                found |= it;
                !it
            });
        }
        if shard.walking.take_if(|walker| *walker == Walker::Write(ticket)).is_some() {
            self.queued_writes(place, effects);
        }
        if found {
            self.answer(ticket, Leave::Now, Answer::Refused(Refusal::Cancelled), effects);
        }
    }
}

fn slice(shard: &Shard, read: &Read, compacted: Revision) -> Result<Answer, Fault> {
    let view = shard.view();
    match read {
        Read::Get { key, at: place } => Ok(Answer::Got(view.get(key, at(*place))?.map(|state| state.to_message(key.clone())))),
        Read::Range(range) => range_slice(view, range),
        Read::Events(events) => shard.events_slice(events, compacted),
        Read::HashKept(query) => shard.hash_kept(*query),
        Read::Hash { query, resume } => {
            let resume = resume.as_ref().and_then(EventsResume::decode);
            let chunk = shard.mvcc().hash_entries(*query, resume.as_ref(), SLICE)?;
            Ok(Answer::Hash { entries: chunk.entries, resume: chunk.resume.map(|place| place.encode()) })
        }
        Read::Attached { lease, at: _, resume } => {
            let slice = view.attached(*lease, resume.as_deref(), SLICE)?;
            Ok(Answer::Attached { keys: slice.keys, resume: slice.resume })
        }
    }
}

/// The slice that will be asked for behind the one that was answered, if there is more and it takes pages one after the other.
fn next_slice(read: &Read, answer: &Answer) -> Option<Read> {
    match (read, answer) {
        (Read::Range(range), Answer::Range(slice)) if !range.count_only => {
            let limit = range.limit.saturating_sub(slice.kvs.len());
            Some(Read::Range(RangeRead { resume: Some(slice.resume.clone()?), limit, ..range.clone() })).filter(|_| limit > 0)
        }
        (Read::Hash { query, .. }, Answer::Hash { resume, .. }) => {
            Some(Read::Hash { query: *query, resume: Some(resume.clone()?) })
        }
        _ => None,
    }
}

fn range_query(read: &RangeRead) -> RangeQuery {
    let filters = Filters {
        min_mod: read.mod_revisions.0,
        max_mod: read.mod_revisions.1,
        min_create: read.create_revisions.0,
        max_create: read.create_revisions.1,
    };
    RangeQuery { span: span(&read.range), limit: read.limit, keys_only: read.keys_only, filters }
}

fn range_slice(view: View<'_>, read: &RangeRead) -> Result<Answer, Fault> {
    let resume = read.resume.as_deref();
    let at = at(read.at);
    if read.count_only {
        let counted = view.count(at, &span(&read.range), resume, SLICE)?;
        return Ok(Answer::Range(RangeSlice { kvs: Vec::new(), count: counted.counted, resume: counted.resume }));
    }
    let query = range_query(read);
    let chunk = view.range(at, &query, resume, SLICE)?;
    // Only who asks for the whole count gets one: the front adds up what it gets.
    let mut count = if read.with_count { chunk.counted } else { 0 };
    let mut rest = chunk.resume.clone().filter(|_| read.with_count);
    while let Some(from) = rest {
        let counted = view.count(at, &query.span, Some(&from), COUNT)?;
        count += counted.counted;
        rest = counted.resume;
    }
    Ok(Answer::Range(RangeSlice { kvs: chunk.kvs, count, resume: chunk.resume }))
}

fn at(at: super::messages::At) -> At {
    At { revision: at.revision, operation_bound: at.operations }
}

fn span(range: &KeyRange) -> Span {
    match &range.end {
        RangeEnd::Single => Span::Key(range.from.clone()),
        RangeEnd::Before(end) => Span::Between(range.from.clone(), end.clone()),
        RangeEnd::Open => Span::From(range.from.clone()),
    }
}

impl Shard {
    fn mvcc(&self) -> &Mvcc {
        let Machine::Keys(mvcc) = &self.replica.machine else { unreachable!("group 0 has no keys") };
        mvcc
    }

    /// Whether a read waits until what it sees is applied: a hash is of that alone, and a count over much that is not would walk over
    /// every version, page after page, and keep applying from its turn.
    fn wants_applied(&self, read: &Read) -> bool {
        match read {
            Read::HashKept(query) => self.applied_through() < query.revision,
            Read::Range(range) if range.count_only || range.with_count => {
                self.overlay.len() > COUNT_CORRECTIONS_MAX && self.applied_through() < range.at.revision
            }
            _ => false,
        }
    }

    /// The pages that a read will come to and that are not in memory.
    fn ahead_of(&self, read: &Read) -> Vec<Fault> {
        if self.waiting.len() >= READ_AHEAD_UNDER_WAY_MAX {
            return Vec::new();
        }
        match read {
            Read::Range(range) if !range.count_only => {
                self.view().range_ahead(&range_query(range), range.resume.as_deref(), READ_AHEAD_PAGES)
            }
            Read::Hash { query, resume } => {
                let resume = resume.as_ref().and_then(EventsResume::decode);
                self.mvcc().hash_ahead(*query, resume.as_ref(), READ_AHEAD_PAGES)
            }
            Read::Get { .. } | Read::Range(_) | Read::Events(_) | Read::HashKept(_) | Read::Attached { .. } => Vec::new(),
        }
    }

    fn hash_kept(&self, query: HashQuery) -> Result<Answer, Fault> {
        let mut resume: Option<Bytes> = None;
        loop {
            match self.mvcc().any_kept(query, resume.as_deref(), Budget::UNLIMITED)? {
                AnyKept::Yes => return Ok(Answer::HashKept(true)),
                AnyKept::No => return Ok(Answer::HashKept(false)),
                AnyKept::From(key) => resume = Some(key),
            }
        }
    }

    /// Changes come from what is applied: a slice goes as far as this group has applied everything.
    fn events_slice(&self, read: &EventsRead, compacted: Revision) -> Result<Answer, Fault> {
        let to = read.to.min(self.applied_through());
        if to < read.from {
            return Ok(Answer::Events { events: Vec::new(), through: Revision(read.from.0 - 1), resume: None });
        }
        let query = EventsQuery { from: read.from, to, span: span(&read.range), with_prev: read.prev_kv, compacted };
        let resume = read.resume.as_ref().and_then(EventsResume::decode);
        let chunk = self.mvcc().events(&query, resume.as_ref(), SLICE)?;
        let through = chunk.resume.as_ref().map_or(to, |place| Revision(place.change.revision.0 - 1));
        let events = chunk.events.into_iter().map(|e| Event::of(e, read.prev_kv)).collect();
        Ok(Answer::Events { events, through, resume: chunk.resume.map(|place| place.encode()) })
    }

    /// Everything of this group up to here is applied, whatever it took or may take.
    pub(super) fn applied_through(&self) -> Revision {
        match self.replica.raft.log().entry(self.replica.applied().next()) {
            Some(entry) => Revision(entry.mark.counts_as().0 - u64::from(entry.mark.revision().is_some())),
            None => Revision::MAX,
        }
    }
}
