//! A group's log as its replica sees it: which entries there are, in which terms, and up to where they are on disk.
//!
//! ```text
//!   compacted | only their terms are known | in memory                        |
//!   ..........|............................|..................................|
//!           start                      released               persisted      last
//! ```
//!
//! Invariants: start <= released <= last; released <= what is applied; persisted <= last; terms and `counts_as` never fall along the
//! log, and a revision is higher than what every entry before it counts as (rule 3).

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;

use crate::base::{Entry, Index, Mark, Revision, Term};

/// A place in a log and the term of the entry there. Ordered as logs are compared: by term, then by index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Position {
    /// The term of the entry.
    pub term: Term,
    /// Its index.
    pub index: Index,
}

/// Entries from `first` to `last`, both included. Never empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Span {
    /// The index of the first entry.
    pub first: Index,
    /// The index of the last entry.
    pub last: Index,
}

impl Span {
    /// What lies above `above`, up to `last`.
    pub(super) fn between(above: Index, last: Index) -> Option<Span> {
        (above < last).then_some(Span { first: above.next(), last })
    }
}

/// What makes a sequence of entries from a disk or a peer no log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadLog {
    /// An entry has another index than the one before it plus one.
    Gap {
        /// The index that should come.
        expected: Index,
        /// The index that came.
        found: Index,
    },
    /// The term falls at this entry.
    TermFalls(Index),
    /// What the entries count as falls at this entry, or a revision comes twice.
    RevisionFalls(Index),
}

impl fmt::Display for BadLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadLog::Gap { expected, found } => write!(f, "entry {found} stands where entry {expected} belongs"),
            BadLog::TermFalls(index) => write!(f, "the term falls at entry {index}"),
            BadLog::RevisionFalls(index) => write!(f, "the revision falls at entry {index}"),
        }
    }
}

impl std::error::Error for BadLog {}

/// A group's log.
#[derive(Clone, Debug)]
pub struct Log {
    start: Position,
    /// The runs of equal terms above the start: the index that each begins at.
    runs: VecDeque<(Index, Term)>,
    released: Index,
    /// What the entry at `released`, or the last one before it that is known, counts as.
    released_counts_as: Revision,
    entries: VecDeque<Entry>,
    persisted: Index,
}

impl Log {
    /// An empty log of a new group.
    pub fn empty() -> Log {
        Log::starting(Position::default(), Revision::ZERO)
    }

    /// A log with nothing above `start`, whose entries up to there count as `counts_as` at most (as far as is known).
    pub fn starting(start: Position, counts_as: Revision) -> Log {
        Log {
            start,
            runs: VecDeque::new(),
            released: start.index,
            released_counts_as: counts_as,
            entries: VecDeque::new(),
            persisted: start.index,
        }
    }

    /// A log as it was read back from disk: `entries`, all of them on disk, above `start`.
    pub fn recovered(start: Position, counts_as: Revision, entries: Vec<Entry>) -> Result<Log, BadLog> {
        let mut log = Log::starting(start, counts_as);
        log.check(&entries)?;
        for entry in &entries {
            log.note_term(entry.index, entry.term);
        }
        log.entries = entries.into();
        log.persisted = log.last().index;
        Ok(log)
    }

    /// The last entry that is compacted, or before the first.
    pub const fn start(&self) -> Position {
        self.start
    }

    /// The last entry, or the start.
    pub fn last(&self) -> Position {
        let index = Index(self.released.0 + self.entries.len() as u64);
        let term = self.runs.back().map_or(self.start.term, |&(_, term)| term);
        Position { term, index }
    }

    /// Entries up to here are no longer in memory.
    pub const fn released(&self) -> Index {
        self.released
    }

    /// Entries up to here are on disk.
    pub const fn persisted(&self) -> Index {
        self.persisted
    }

    /// What the last entry counts as.
    pub fn counts_as(&self) -> Revision {
        self.entries.back().map_or(self.released_counts_as, |entry| entry.mark.counts_as())
    }

    /// The term of the entry at `index`; `None` below the start and above the end.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        if index < self.start.index || index > self.last().index {
            return None;
        }
        if let Some(&(first, term)) = self.runs.back()
            && first <= index
        {
            return Some(term);
        }
        let after = self.runs.partition_point(|&(first, _)| first <= index);
        Some(self.runs[after - 1].1)
    }

    /// The highest position at or below `index` whose term is `term` or lower: where a log that disagrees at (`term`, `index`)
    /// may agree with this one.
    pub(super) fn last_at_or_below(&self, term: Term, index: Index) -> Position {
        let mut index = index.min(self.last().index);
        while index > self.start.index {
            let found = self.term_at(index).expect("it lies in the log");
            if found <= term {
                return Position { term: found, index };
            }
            let run = self.runs.partition_point(|&(first, _)| first <= index) - 1;
            index = Index(self.runs[run].0.0 - 1);
        }
        self.start
    }

    /// The entry at `index`, if it is in memory.
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        let place = index.0.checked_sub(self.released.0 + 1)?;
        self.entries.get(place as usize)
    }

    /// The entries of `span`, which are in memory.
    pub fn entries(&self, span: Span) -> impl DoubleEndedIterator<Item = &Entry> + ExactSizeIterator {
        assert!(span.first > self.released, "entry {} is no longer in memory", span.first);
        let (from, to) = (span.first.0 - self.released.0 - 1, span.last.0 - self.released.0);
        self.entries.range(from as usize..to as usize)
    }

    /// Index and mark of every entry in memory, for merging (rules 8 and 9).
    pub fn marks(&self) -> impl Iterator<Item = (Index, Mark)> {
        self.entries.iter().map(|entry| (entry.index, entry.mark))
    }

    /// Appends an entry of the leader's own.
    #[inline]
    pub fn append(&mut self, term: Term, mark: Mark, payload: Bytes) -> Index {
        let last = self.last();
        assert!(term >= last.term, "a leader of term {term} follows an entry of term {}", last.term);
        assert!(follows(mark, self.counts_as()), "{mark:?} follows an entry that counts as {}", self.counts_as());
        let index = last.index.next();
        self.note_term(index, term);
        self.entries.push_back(Entry { term, index, mark, payload });
        index
    }

    /// Whether `entries` may come after the last one.
    pub(super) fn check(&self, entries: &[Entry]) -> Result<(), BadLog> {
        check_after(self.last(), self.counts_as(), entries)
    }

    /// Whether `entries` may come after the entry at `index`, which is not released.
    pub(super) fn check_after(&self, index: Index, entries: &[Entry]) -> Result<(), BadLog> {
        let term = self.term_at(index).expect("the entry before was found in the log");
        let counts_as = self.entry(index).map_or(self.released_counts_as, |entry| entry.mark.counts_as());
        check_after(Position { term, index }, counts_as, entries)
    }

    /// Appends entries of another log, which [`Log::check`] has passed.
    pub(super) fn extend(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            debug_assert_eq!(entry.index, self.last().index.next());
            self.note_term(entry.index, entry.term);
            self.entries.push_back(entry);
        }
    }

    /// Entries up to `index` are on disk.
    pub(super) fn persisted_up_to(&mut self, index: Index) {
        assert!(index <= self.last().index, "entry {index} is on disk but not in the log");
        self.persisted = self.persisted.max(index);
    }

    /// Takes the entries above `after` out of the log.
    pub(super) fn cut(&mut self, after: Index) {
        assert!(after >= self.released, "entry {} is applied and is to be cut", after.next());
        assert!(after <= self.last().index, "nothing is to be cut above {after}");
        self.entries.truncate((after.0 - self.released.0) as usize);
        while self.runs.back().is_some_and(|&(first, _)| first > after) {
            self.runs.pop_back();
        }
        self.persisted = self.persisted.min(after);
    }

    /// Drops the entries up to `upto` from memory; their terms stay known. They are applied here.
    pub(super) fn release(&mut self, upto: Index) {
        assert!(upto <= self.persisted, "entry {upto} is not on disk");
        let Some(count) = upto.0.checked_sub(self.released.0).filter(|&c| c > 0) else { return };
        let last = self.entries.drain(..count as usize).next_back().expect("the count is above 0");
        self.released_counts_as = last.mark.counts_as();
        self.released = upto;
    }

    /// Forgets the entries up to `upto`: a checkpoint holds what they did.
    pub(super) fn compact(&mut self, upto: Index) {
        if upto <= self.start.index {
            return;
        }
        self.release(upto);
        let term = self.term_at(upto).expect("what is compacted is in the log");
        self.start = Position { term, index: upto };
        while self.runs.len() > 1 && self.runs[1].0 <= upto.next() {
            self.runs.pop_front();
        }
        if upto == self.last().index {
            self.runs.clear();
        }
    }

    #[inline]
    fn note_term(&mut self, index: Index, term: Term) {
        let last = self.runs.back().map(|&(_, term)| term);
        if last != Some(term) {
            self.runs.push_back((index, term));
        }
    }
}

/// Whether an entry with `mark` may come after one that counts as `counts_as`.
fn follows(mark: Mark, counts_as: Revision) -> bool {
    match mark {
        Mark::Revision { revision, .. } => revision > counts_as,
        Mark::After(after) => after >= counts_as,
    }
}

fn check_after(mut last: Position, mut counts_as: Revision, entries: &[Entry]) -> Result<(), BadLog> {
    for entry in entries {
        if entry.index != last.index.next() {
            return Err(BadLog::Gap { expected: last.index.next(), found: entry.index });
        }
        if entry.term < last.term {
            return Err(BadLog::TermFalls(entry.index));
        }
        if !follows(entry.mark, counts_as) {
            return Err(BadLog::RevisionFalls(entry.index));
        }
        last = Position { term: entry.term, index: entry.index };
        counts_as = entry.mark.counts_as();
    }
    Ok(())
}
