//! Reading back what the WALs of all runs hold, one segment at a time.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use crate::base::limits::{WAL_ENDS_MAX, WAL_SEGMENTS_MAX, WAL_STATE_BYTES_MAX};
use crate::base::{BatchNumber, ClusterId, CoreId, GroupId, Index, MemberId, Revision, RunNumber, SegmentSequence, Term};

use super::cursor::Cursor;
use super::damage::{Damage, What};
use super::gather::Gathered;
use super::header::{BatchKind, Known};
use super::ledger::Ledger;
use super::name::{SegmentName, WalId};
use super::scan::{self, Found, Identity};
use super::state::{RunEnd, StateBatch};
use super::stream::RecoveredGroup;

/// What a group's page store holds, from its meta page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The group.
    pub group: GroupId,
    /// The last entry that is in it.
    pub index: Index,
    /// That entry's term.
    pub term: Term,
    /// The highest revision that is in it.
    pub revision: Revision,
}

/// What the caller knows beside the WAL.
#[derive(Clone, Debug, Default)]
pub struct RecoveryOptions {
    /// Whose WAL it must be; `None` accepts any, if it is one member's.
    pub ids: Option<(ClusterId, MemberId)>,
    /// What the page stores hold; a group without one holds nothing.
    pub checkpoints: Vec<Checkpoint>,
    /// Mutant "torn tail accepted": the records of a torn last batch are taken for written.
    #[cfg(test)]
    pub torn_tail_accepted: bool,
}

/// What recovery wants to read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The first [`WAL_STATE_BYTES_MAX`] bytes of this segment's file, or all when there are fewer.
    Head(SegmentName),
    /// The whole file.
    Whole(SegmentName),
}

impl Ask {
    /// Which file.
    pub fn segment(self) -> SegmentName {
        match self {
            Ask::Head(name) | Ask::Whole(name) => name,
        }
    }

    /// How many bytes from its start.
    pub fn bytes_max(self) -> usize {
        match self {
            Ask::Head(_) => WAL_STATE_BYTES_MAX,
            Ask::Whole(_) => usize::MAX,
        }
    }
}

/// A torn last batch that was cut: it was in flight when the process ended, and acknowledged to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutTail {
    /// The file.
    pub file: SegmentName,
    /// Where the batch begins.
    pub offset: u64,
    /// How long it would have been, as far as its header can be read.
    pub bytes: u64,
}

impl fmt::Display for CutTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "torn tail cut: WAL segment {} at offset {}, {} bytes", self.file, self.offset, self.bytes)
    }
}

/// What the WALs hold.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Whose WAL it is; `None` when there is none yet.
    pub ids: Option<(ClusterId, MemberId)>,
    /// The highest run that any file names: the next run's number is above it.
    pub run: RunNumber,
    /// The member's term.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<MemberId>,
    /// The highest of what headers say was known.
    pub known: Known,
    /// The groups' logs, by group: every group that the WAL or a checkpoint names.
    pub groups: Vec<RecoveredGroup>,
    /// All segments there are, and what pins them.
    pub ledger: Ledger,
    /// Where the WALs ended of which files are there: for the next run's writers.
    pub ends: Vec<RunEnd>,
    /// The torn tails that were cut.
    pub cut_tails: Vec<CutTail>,
}

/// Recovery of all WALs of a directory: answers to [`Recovery::ask`] go in through [`Recovery::feed`], until nothing is asked.
#[derive(Debug)]
pub struct Recovery {
    #[cfg(test)]
    torn_tail_accepted: bool,
    names: Vec<SegmentName>,
    phase: Phase,
    cursor: Option<Cursor>,
    unread: Vec<SegmentName>,
    gathered: Gathered,
    ends: Vec<RunEnd>,
    cut_tails: Vec<CutTail>,
}

#[derive(Debug)]
enum Phase {
    /// Looking for the newest run with a state batch: its list of ends bounds the WALs of earlier runs.
    Survey(VecDeque<SegmentName>),
    /// Reading every WAL to its end, in order of (run, core, sequence).
    Read(VecDeque<(SegmentName, Option<RunEnd>)>),
}

impl Recovery {
    /// Recovery of these segment files: all that the WAL directory holds.
    pub fn new(options: RecoveryOptions, mut names: Vec<SegmentName>) -> Result<Recovery, Damage> {
        names.sort_unstable();
        if names.len() > WAL_SEGMENTS_MAX {
            return Err(Damage { file: None, offset: 0, what: What::TooMany });
        }
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a directory holds a name once");
        let mut survey: Vec<SegmentName> = names.clone();
        survey.sort_unstable_by_key(|name| (std::cmp::Reverse(name.wal.run), name.sequence, name.wal.core));
        let mut recovery = Recovery {
            #[cfg(test)]
            torn_tail_accepted: options.torn_tail_accepted,
            names,
            phase: Phase::Survey(survey.into()),
            cursor: None,
            unread: Vec::new(),
            gathered: Gathered::new(options.ids, &options.checkpoints),
            ends: Vec::new(),
            cut_tails: Vec::new(),
        };
        if recovery.names.is_empty() {
            recovery.plan(None)?;
        }
        Ok(recovery)
    }

    /// What to read next; `None` when all has been read.
    pub fn ask(&self) -> Option<Ask> {
        match &self.phase {
            Phase::Survey(rest) => rest.front().copied().map(Ask::Head),
            Phase::Read(rest) => rest.front().map(|&(name, _)| Ask::Whole(name)),
        }
    }

    /// The bytes that were asked for.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Damage> {
        match &mut self.phase {
            Phase::Survey(rest) => {
                let name = rest.pop_front().expect("it was asked for");
                let more = !rest.is_empty();
                let head = newest_state(name, bytes)?;
                if head.is_some() || !more {
                    self.plan(head)?;
                }
                Ok(())
            }
            Phase::Read(rest) => {
                let (name, end) = rest.pop_front().expect("it was asked for");
                self.segment(name, end, bytes)
            }
        }
    }

    fn segment(&mut self, name: SegmentName, end: Option<RunEnd>, bytes: &[u8]) -> Result<(), Damage> {
        if self.cursor.as_ref().is_some_and(|cursor| !cursor.reads(name)) {
            self.close()?;
        }
        let cursor = self.cursor.get_or_insert_with(|| Cursor::new(name, end));
        #[cfg(test)]
        {
            cursor.torn_tail_accepted = self.torn_tail_accepted;
        }
        self.gathered.ledger.open(name);
        cursor.segment(name, bytes, &mut self.gathered)
    }

    fn close(&mut self) -> Result<(), Damage> {
        if let Some(cursor) = self.cursor.take() {
            let (end, cut) = cursor.close()?;
            self.ends.push(end);
            self.cut_tails.extend(cut);
        }
        Ok(())
    }

    /// Decides what to read, from the newest run's first state batch, and whether every file is there.
    fn plan(&mut self, newest: Option<(WalId, StateBatch)>) -> Result<(), Damage> {
        let newest_run = newest.as_ref().map_or(RunNumber(0), |(wal, _)| wal.run);
        let mut wals: BTreeMap<WalId, Vec<SegmentName>> = BTreeMap::new();
        for &name in &self.names {
            wals.entry(name.wal).or_default().push(name);
        }
        let mut ends: BTreeMap<WalId, RunEnd> = BTreeMap::new();
        if let Some((wal, state)) = &newest {
            ends.extend(state.ends.iter().map(|&end| (end.wal, end)));
            for core in 0..state.cores {
                let expected = WalId { run: wal.run, core: CoreId(core) };
                if !wals.contains_key(&expected) {
                    return Err(Damage { file: None, offset: 0, what: What::MissingWal(expected) });
                }
            }
        }
        if wals.len() > WAL_ENDS_MAX {
            return Err(Damage { file: None, offset: 0, what: What::TooMany });
        }
        let mut read = VecDeque::new();
        for (wal, names) in wals {
            if wal.run >= newest_run {
                contiguous(&names)?;
                read.extend(names.into_iter().map(|name| (name, None)));
                continue;
            }
            let nothing = RunEnd { wal, sequence: SegmentSequence(0), batch: BatchNumber(0), crc: 0 };
            let end = ends.get(&wal).copied().unwrap_or(nothing);
            let (counting, ignored): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.sequence <= end.sequence);
            if let Some(last) = counting.last() {
                contiguous(&counting)?;
                if last.sequence != end.sequence {
                    return Err(Damage::at(last.next(), 0, What::MissingSegment));
                }
                read.extend(counting.into_iter().map(|name| (name, Some(end))));
            } else {
                self.ends.push(end);
            }
            self.unread.extend(ignored);
        }
        self.phase = Phase::Read(read);
        Ok(())
    }

    /// What was recovered, once nothing is asked any more.
    pub fn finish(mut self) -> Result<Recovered, Damage> {
        assert!(self.ask().is_none(), "everything that was asked for has been fed");
        self.close()?;
        let run = self.names.last().map_or(RunNumber(0), |name| name.wal.run);
        self.gathered.ledger.add_unneeded(&self.unread);
        let mut recovered = self.gathered.finish()?;
        recovered.run = run;
        recovered.ends = self.ends;
        recovered.cut_tails = self.cut_tails;
        Ok(recovered)
    }
}

/// The state batch at the head of a segment, if a sound one is there.
fn newest_state(name: SegmentName, head: &[u8]) -> Result<Option<(WalId, StateBatch)>, Damage> {
    match scan::read(head, 0, Identity { segment: name, salt: None }) {
        Found::Batch(batch) if batch.header.kind == BatchKind::State => {
            let state = StateBatch::decode(batch.payload).map_err(|_| Damage::at(name, 0, What::Malformed))?;
            Ok(Some((name.wal, state)))
        }
        Found::Format(format) => Err(Damage::at(name, 0, What::Format(format))),
        _ => Ok(None),
    }
}

fn contiguous(names: &[SegmentName]) -> Result<(), Damage> {
    match names.windows(2).find(|pair| pair[0].next() != pair[1]) {
        Some(gap) => Err(Damage::at(gap[0].next(), 0, What::MissingSegment)),
        None => Ok(()),
    }
}

/// Recovers from files that `read` gives: for tools that map files, and for tests.
pub fn recover<B: AsRef<[u8]>>(
    options: RecoveryOptions,
    names: Vec<SegmentName>,
    mut read: impl FnMut(SegmentName) -> B,
) -> Result<Recovered, Damage> {
    let mut recovery = Recovery::new(options, names)?;
    while let Some(ask) = recovery.ask() {
        let file = read(ask.segment());
        let bytes = file.as_ref();
        recovery.feed(&bytes[..bytes.len().min(ask.bytes_max())])?;
    }
    recovery.finish()
}
