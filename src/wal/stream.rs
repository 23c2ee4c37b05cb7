//! One group's log as recovery puts it together from batches of all runs.

use bytes::Bytes;

use crate::base::{CoreId, Entry, GroupId, Index, Mark, RunNumber, Term};

use super::damage::What;
use super::name::SegmentName;
use super::state::{GroupStart, GroupTail};

/// A group's log so far.
///
/// Invariants: the entries' indexes are contiguous, the first is `base + 1`, the last is `last`; no entry is at or below the
/// checkpoint.
#[derive(Debug)]
pub(super) struct Stream {
    group: GroupId,
    /// The page store holds everything up to here; such entries are followed but not kept.
    checkpoint: Index,
    base: Index,
    base_term: Option<Term>,
    /// The entries from the checkpoint to `base` are behind a snapshot.
    snapshot: bool,
    entries: Vec<Entry>,
    configuration: Bytes,
    /// The WAL of the newest run that has something of it.
    home: Option<(RunNumber, CoreId)>,
    /// The segment and offset where it was last made to begin anew, or last written.
    place: Option<(SegmentName, usize)>,
}

impl Stream {
    pub(super) fn new(group: GroupId, checkpoint: Index) -> Stream {
        Stream {
            group,
            checkpoint,
            base: Index::ZERO,
            base_term: None,
            snapshot: false,
            entries: Vec::new(),
            configuration: Bytes::new(),
            home: None,
            place: None,
        }
    }

    pub(super) fn last(&self) -> Index {
        Index(self.base.0 + self.entries.len() as u64)
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base {
            return self.base_term;
        }
        let place = index.0.checked_sub(self.base.0 + 1)?;
        self.entries.get(usize::try_from(place).ok()?).map(|entry| entry.term)
    }

    /// Where it was last made to begin anew, or last written.
    pub(super) fn place(&self) -> Option<(SegmentName, usize)> {
        self.place
    }

    /// A batch at this place names the group: in one run a group is on one core.
    pub(super) fn touch(&mut self, segment: SegmentName, offset: usize) -> Result<(), What> {
        let (run, core) = (segment.wal.run, segment.wal.core);
        if let Some((home_run, home_core)) = self.home
            && home_run == run
            && home_core != core
        {
            return Err(What::TwoCores { group: self.group, other: home_core });
        }
        self.home = Some((run, core));
        self.place = Some((segment, offset));
        Ok(())
    }

    /// The group as a state batch has it. `follows`: the segment before it was read too, so the log must be as recorded;
    /// otherwise entries may have been released in between, and whether they were is known at the end.
    pub(super) fn state(&mut self, start: &GroupStart, recorded: GroupTail, follows: bool) -> Result<(), What> {
        self.configuration = start.configuration.clone();
        let same_term = match (self.term_at(self.last()), recorded.last_term) {
            (Some(found), Some(recorded)) => found == recorded,
            _ => true,
        };
        if self.last() == recorded.last && same_term {
            return Ok(());
        }
        if follows {
            return Err(What::TailDiffers { group: self.group, found: self.last(), recorded: recorded.last });
        }
        self.begin(recorded.last, recorded.last_term);
        Ok(())
    }

    fn begin(&mut self, base: Index, term: Option<Term>) {
        self.entries.clear();
        (self.base, self.base_term) = (base, term);
        self.snapshot = false;
    }

    /// An entry, in its place: behind the last one, or instead of what the log has from there on.
    pub(super) fn append(&mut self, term: Term, index: Index, mark: Mark, payload: &[u8]) -> Result<(), What> {
        if index > self.last().next() {
            return Err(What::IndexGap { group: self.group, last: self.last(), found: index });
        }
        let before = Index(index.0 - 1);
        if before < self.last() {
            self.cut(before)?;
        }
        if self.term_at(before).is_some_and(|last| last > term) {
            return Err(What::TermFell { group: self.group, index });
        }
        if index <= self.checkpoint {
            assert!(self.entries.is_empty(), "no entry is kept below the checkpoint");
            (self.base, self.base_term) = (index, Some(term));
        } else {
            self.entries.push(Entry { term, index, mark, payload: Bytes::copy_from_slice(payload) });
        }
        Ok(())
    }

    pub(super) fn cut(&mut self, after: Index) -> Result<(), What> {
        if after > self.last() {
            return Err(What::CutBeyond { group: self.group });
        }
        match after.0.checked_sub(self.base.0) {
            Some(kept) => self.entries.truncate(usize::try_from(kept).unwrap_or(usize::MAX)),
            None => self.begin(after, None),
        }
        Ok(())
    }

    pub(super) fn snapshot(&mut self, index: Index, term: Term) {
        self.begin(index, Some(term));
        self.snapshot = true;
    }

    /// The log, when it is all there: it goes on where the checkpoint ends, and reaches it.
    pub(super) fn finish(self, checkpoint_term: Option<Term>) -> Result<RecoveredGroup, (Option<(SegmentName, usize)>, What)> {
        let group = self.group;
        if self.base > self.checkpoint && !self.snapshot {
            let what = What::MissingEntries { group, checkpoint: self.checkpoint, start: self.base };
            return Err((self.place, what));
        }
        if self.last() < self.checkpoint {
            let what = What::Behind { group, last: self.last(), applied: self.checkpoint };
            return Err((self.place, what));
        }
        let term = self.term_at(self.checkpoint);
        if let (Some(found), Some(known)) = (term, checkpoint_term)
            && found != known
        {
            return Err((self.place, What::CheckpointDiffers { group, index: self.checkpoint }));
        }
        let start_term = self.base_term.or(checkpoint_term.filter(|_| self.base == self.checkpoint)).unwrap_or_default();
        Ok(RecoveredGroup {
            group,
            start: self.base,
            start_term,
            snapshot: self.base > self.checkpoint,
            configuration: self.configuration,
            entries: self.entries,
        })
    }
}

/// A group's log as recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredGroup {
    /// The group.
    pub group: GroupId,
    /// The index before the first of `entries`: the checkpoint's, or a snapshot's.
    pub start: Index,
    /// The term at `start`; 0 when `start` is 0.
    pub start_term: Term,
    /// A snapshot at `start` was taken over that the page store does not hold yet.
    pub snapshot: bool,
    /// The configuration in the group's newest state batch. Newer ones are in entries, or in what the checkpoint holds.
    pub configuration: Bytes,
    /// The entries above `start`, contiguous.
    pub entries: Vec<Entry>,
}

impl RecoveredGroup {
    /// Where its log ends, for the next run's writer.
    pub fn tail(&self) -> GroupTail {
        let (last, term) = self.entries.last().map_or((self.start, self.start_term), |entry| (entry.index, entry.term));
        GroupTail { group: self.group, last, last_term: (term != Term(0)).then_some(term) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Revision;

    fn stream(entries: u64, checkpoint: u64) -> Stream {
        let mut stream = Stream::new(GroupId(1), Index(checkpoint));
        for index in 1..=entries {
            stream.append(Term(1), Index(index), Mark::After(Revision(1)), b"x").expect("they follow each other");
        }
        stream
    }

    fn recorded(last: u64, term: u64) -> (GroupStart, GroupTail) {
        let (group, configuration) = (GroupId(1), Bytes::new());
        let start = GroupStart { group, start: Index(0), start_term: Term(0), configuration };
        (start, GroupTail { group, last: Index(last), last_term: Some(Term(term)) })
    }

    #[test]
    fn a_log_must_be_as_the_state_batch_behind_it_says() {
        let differs = |recorded| What::TailDiffers { group: GroupId(1), found: Index(5), recorded: Index(recorded) };
        let (start, tail) = recorded(5, 1);
        assert_eq!(stream(5, 0).state(&start, tail, true), Ok(()));
        for (last, term) in [(4, 1), (6, 1), (5, 2)] {
            let (start, tail) = recorded(last, term);
            assert_eq!(stream(5, 0).state(&start, tail, true), Err(differs(last)));
        }
    }

    #[test]
    fn entries_in_released_segments_are_missed_only_above_the_checkpoint() {
        let (start, tail) = recorded(9, 3);
        for (checkpoint, whole) in [(8, false), (9, true)] {
            let mut log = stream(5, checkpoint);
            log.state(&start, tail, false).expect("what was released is known at the end");
            log.append(Term(3), Index(10), Mark::After(Revision(1)), b"x").expect("it follows");
            assert_eq!(log.finish(None).is_ok(), whole);
        }
        // A cut may show that they were needed no more.
        let mut log = stream(5, 8);
        log.state(&start, tail, false).expect("what was released is known at the end");
        log.cut(Index(8)).expect("it is in the log");
        let recovered = log.finish(Some(Term(2))).expect("nothing above the checkpoint is missing");
        assert_eq!((recovered.start, recovered.start_term, recovered.entries.len()), (Index(8), Term(2), 0));
    }

    #[test]
    fn what_does_not_follow_is_refused() {
        let mark = Mark::After(Revision(1));
        let gap = What::IndexGap { group: GroupId(1), last: Index(5), found: Index(7) };
        assert_eq!(stream(5, 0).append(Term(1), Index(7), mark, b""), Err(gap));
        let fell = What::TermFell { group: GroupId(1), index: Index(6) };
        assert_eq!(stream(5, 0).append(Term(0), Index(6), mark, b""), Err(fell));
        assert_eq!(stream(5, 0).cut(Index(6)), Err(What::CutBeyond { group: GroupId(1) }));
    }
}
