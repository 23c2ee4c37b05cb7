//! What recovery has read so far: term and vote, what was known, the groups' logs, and what pins which segment.

use std::collections::BTreeMap;

use crate::base::wire::Reader;
use crate::base::{ClusterId, GroupId, Index, MemberId, Term};

use super::damage::{Damage, What};
use super::header::{BatchKind, Known};
use super::ledger::Ledger;
use super::name::SegmentName;
use super::record::{self, RawRecord};
use super::recovery::{Checkpoint, Recovered};
use super::scan::Batch;
use super::state::StateBatch;
use super::stream::Stream;

/// Where a batch lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub segment: SegmentName,
    pub offset: usize,
    pub file_bytes: usize,
    /// The batch before it was read too, so everything must be as it left it.
    pub follows: bool,
}

impl Place {
    fn damage(self, what: What) -> Damage {
        Damage::at(self.segment, self.offset, what)
    }
}

#[derive(Debug)]
pub(super) struct Gathered {
    ids: Option<(ClusterId, MemberId)>,
    term: Term,
    vote: Option<MemberId>,
    known: Known,
    streams: BTreeMap<GroupId, Stream>,
    checkpoints: BTreeMap<GroupId, Checkpoint>,
    pub ledger: Ledger,
}

impl Gathered {
    pub(super) fn new(ids: Option<(ClusterId, MemberId)>, checkpoints: &[Checkpoint]) -> Gathered {
        let checkpoints: BTreeMap<GroupId, Checkpoint> = checkpoints.iter().map(|&c| (c.group, c)).collect();
        let streams = checkpoints.values().map(|c| (c.group, Stream::new(c.group, c.index))).collect();
        Gathered { ids, term: Term(0), vote: None, known: Known::default(), streams, checkpoints, ledger: Ledger::default() }
    }

    fn stream(&mut self, group: GroupId) -> &mut Stream {
        self.streams.entry(group).or_insert_with(|| Stream::new(group, Index::ZERO))
    }

    /// Takes in a sound batch.
    pub(super) fn batch(&mut self, batch: &Batch<'_>, place: Place) -> Result<(), Damage> {
        self.known = self.known.max(batch.header.known);
        match batch.header.kind {
            BatchKind::State => self.state(batch, place),
            BatchKind::Records => self.records(batch, place),
            BatchKind::Seal if batch.payload.is_empty() => Ok(()),
            BatchKind::Seal => Err(place.damage(What::Malformed)),
        }
    }

    fn state(&mut self, batch: &Batch<'_>, place: Place) -> Result<(), Damage> {
        let state = StateBatch::decode(batch.payload).map_err(|_| place.damage(What::Malformed))?;
        if place.segment.wal.core.0 >= state.cores {
            return Err(place.damage(What::Malformed));
        }
        let ids = (state.cluster, state.member);
        if *self.ids.get_or_insert(ids) != ids {
            return Err(place.damage(What::Foreign { cluster: ids.0, member: ids.1 }));
        }
        if (place.file_bytes as u64) < state.segment_bytes {
            let what = What::Truncated { bytes: place.file_bytes as u64 };
            return Err(Damage::at(place.segment, place.file_bytes, what));
        }
        self.vote(state.state.term, state.state.vote).map_err(|what| place.damage(what))?;
        for (start, &tail) in state.state.groups.iter().zip(&state.tails) {
            let stream = self.stream(start.group);
            stream.touch(place.segment, place.offset).map_err(|what| place.damage(what))?;
            stream.state(start, tail, place.follows).map_err(|what| place.damage(what))?;
        }
        Ok(())
    }

    fn records(&mut self, batch: &Batch<'_>, place: Place) -> Result<(), Damage> {
        let mut r = Reader::new(batch.payload);
        for _ in 0..batch.header.records {
            let record = record::decode(&mut r).map_err(|_| place.damage(What::Malformed))?;
            self.record(record, place).map_err(|what| place.damage(what))?;
        }
        if r.is_empty() { Ok(()) } else { Err(place.damage(What::Malformed)) }
    }

    /// What can be read of a torn batch: the harm of taking it for whole.
    #[cfg(test)]
    pub(super) fn torn_batch(&mut self, payload: &[u8], place: Place) {
        let mut r = Reader::new(payload);
        while let Ok(record) = record::decode(&mut r) {
            if self.record(record, place).is_err() {
                return;
            }
        }
    }

    fn record(&mut self, record: RawRecord<'_>, place: Place) -> Result<(), What> {
        let (group, pin) = match record {
            RawRecord::Vote { term, vote } => return self.vote(term, vote),
            RawRecord::Entry { group, term, index, mark, payload } => {
                let stream = self.stream(group);
                let replaces = index <= stream.last();
                stream.append(term, index, mark, payload)?;
                if replaces {
                    self.ledger.cut(group, Index(index.0 - 1));
                }
                (group, index)
            }
            RawRecord::Cut { group, after } => {
                self.stream(group).cut(after)?;
                self.ledger.cut(group, after);
                (group, after)
            }
            RawRecord::Snapshot { group, index, term } => {
                self.stream(group).snapshot(index, term);
                self.ledger.cut(group, Index::ZERO);
                (group, index)
            }
        };
        self.ledger.note(group, pin);
        self.stream(group).touch(place.segment, place.offset)
    }

    /// The newest term counts, and in it the vote. State batches of other cores may trail behind.
    fn vote(&mut self, term: Term, vote: Option<MemberId>) -> Result<(), What> {
        if term > self.term {
            (self.term, self.vote) = (term, vote);
        } else if term == self.term {
            if self.vote.is_some() && vote.is_some() && self.vote != vote {
                return Err(What::TwoVotes(term));
            }
            self.vote = self.vote.or(vote);
        }
        Ok(())
    }

    /// What was recovered, if every log is all there. Runs, ends and tails are for the caller to add.
    pub(super) fn finish(self) -> Result<Recovered, Damage> {
        let place_damage = |place: Option<(SegmentName, usize)>, what| match place {
            Some((segment, offset)) => Damage::at(segment, offset, what),
            None => Damage { file: None, offset: 0, what },
        };
        let meta_applied = self.known.meta_applied;
        let mut groups = Vec::with_capacity(self.streams.len());
        for (group, stream) in self.streams {
            if group == GroupId::META && stream.last() < meta_applied {
                let what = What::Behind { group, last: stream.last(), applied: meta_applied };
                return Err(place_damage(stream.place(), what));
            }
            let term = self.checkpoints.get(&group).map(|checkpoint| checkpoint.term);
            groups.push(stream.finish(term).map_err(|(place, what)| place_damage(place, what))?);
        }
        Ok(Recovered {
            ids: self.ids,
            term: self.term,
            vote: self.vote,
            known: self.known,
            groups,
            ledger: self.ledger,
            ..Recovered::default()
        })
    }
}
