//! What is wrong with a WAL, and where.

use std::fmt;

use crate::base::{BatchNumber, ClusterId, CoreId, GroupId, Index, MemberId, Term};

use super::name::{SegmentName, WalId};

/// A WAL that cannot be trusted: the member must not start on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file where it was noticed; `None` when no file is left to name.
    pub file: Option<SegmentName>,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub what: What,
}

impl Damage {
    pub(super) fn at(file: SegmentName, offset: usize, what: What) -> Damage {
        Damage { file: Some(file), offset: offset as u64, what }
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The file is shorter than it was made, empty, or not in whole blocks.
    Truncated {
        /// Its length.
        bytes: u64,
    },
    /// No sound header where a batch must begin.
    Header {
        /// Where the batch is that shows that one must be there.
        later: Later,
    },
    /// A batch whose content does not match its crc.
    Payload {
        /// Where the batch is that shows that it was written whole.
        later: Later,
    },
    /// A batch's number is not the one that comes next: batches are missing.
    BatchGap {
        /// The number that comes next.
        expected: BatchNumber,
        /// The number found.
        found: BatchNumber,
    },
    /// A batch that does not follow the one before it: the crcs do not chain.
    Chain,
    /// Sound crcs around content that no writer writes.
    Malformed,
    /// A segment that does not begin with a state batch, or a state batch elsewhere.
    StateMisplaced,
    /// A format that this build does not know.
    Format(u16),
    /// The segment is another member's.
    Foreign {
        /// The cluster that it names.
        cluster: ClusterId,
        /// The member that it names.
        member: MemberId,
    },
    /// A segment file is missing.
    MissingSegment,
    /// No file of a WAL of the newest run is there.
    MissingWal(WalId),
    /// A segment without a state batch where one must be.
    EmptySegment,
    /// A WAL of an earlier run does not reach the end that the next run recorded.
    EndNotReached {
        /// The last batch that was recorded.
        batch: BatchNumber,
    },
    /// The batch recorded as an earlier run's last is another one.
    EndDiffers,
    /// An entry's index does not follow the log.
    IndexGap {
        /// The group.
        group: GroupId,
        /// The last index before it.
        last: Index,
        /// The entry's index.
        found: Index,
    },
    /// An entry's term is below that of the entry before it.
    TermFell {
        /// The group.
        group: GroupId,
        /// The entry's index.
        index: Index,
    },
    /// A cut behind the end of the log.
    CutBeyond {
        /// The group.
        group: GroupId,
    },
    /// The log does not end where the state batch says.
    TailDiffers {
        /// The group.
        group: GroupId,
        /// The last index found.
        found: Index,
        /// The last index recorded.
        recorded: Index,
    },
    /// One group in the WALs of two cores of one run.
    TwoCores {
        /// The group.
        group: GroupId,
        /// The other core.
        other: CoreId,
    },
    /// Two votes in one term.
    TwoVotes(Term),
    /// Entries that the page store does not hold are in no segment.
    MissingEntries {
        /// The group.
        group: GroupId,
        /// The page store holds everything up to here.
        checkpoint: Index,
        /// The log goes on behind here.
        start: Index,
    },
    /// The log ends before what the page store holds, or before what was recorded as applied.
    Behind {
        /// The group.
        group: GroupId,
        /// The last index found.
        last: Index,
        /// The index applied.
        applied: Index,
    },
    /// The page store's last entry is another one than the log's at that index.
    CheckpointDiffers {
        /// The group.
        group: GroupId,
        /// The index.
        index: Index,
    },
    /// More files or groups than there can be.
    TooMany,
}

/// Where the evidence is that a damaged batch had been written whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Later {
    /// The file.
    pub file: SegmentName,
    /// The offset of a sound header.
    pub offset: u64,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.file {
            Some(file) => write!(f, "WAL segment {file} at offset {}: {}", self.offset, self.what),
            None => write!(f, "WAL: {}", self.what),
        }
    }
}

impl std::error::Error for Damage {}

impl fmt::Display for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a later batch stands in {} at offset {}", self.file, self.offset)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            What::Truncated { bytes } => write!(f, "the file is truncated: it has {bytes} bytes"),
            What::Header { later } => write!(f, "no sound batch header, though {later}"),
            What::Payload { later } => write!(f, "a batch's checksum does not match, though {later}"),
            What::BatchGap { expected, found } => write!(f, "batch {expected} is missing: the next one is {found}"),
            What::Chain => f.write_str("the batch does not follow the one before it"),
            What::Malformed => f.write_str("malformed content under a matching checksum"),
            What::StateMisplaced => f.write_str("a segment must begin with its one state batch"),
            What::Format(format) => write!(f, "unknown format version {format}"),
            What::Foreign { cluster, member } => write!(f, "written by member {:x} of cluster {:x}", member.0, cluster.0),
            What::MissingSegment => f.write_str("the segment is missing"),
            What::MissingWal(wal) => write!(f, "no segment {:016x}-{:04x}-*.wal is there", wal.run.0, wal.core.0),
            What::EmptySegment => f.write_str(
                "the segment has no state batch, and must have one: it was in use, or the segments before it are missing",
            ),
            What::EndNotReached { batch } => write!(f, "the log ends before batch {batch}, which a later run has read"),
            What::EndDiffers => f.write_str("the last batch is not the one that a later run has read"),
            What::IndexGap { group, last, found } => {
                write!(f, "entry {found} of group {group} does not follow its last entry, {last}")
            }
            What::TermFell { group, index } => {
                write!(f, "the term of entry {index} of group {group} is below its predecessor's")
            }
            What::CutBeyond { group } => write!(f, "a cut of group {group} behind the end of its log"),
            What::TailDiffers { group, found, recorded } => {
                write!(f, "the log of group {group} ends at {found} where {recorded} was recorded")
            }
            What::TwoCores { group, other } => write!(f, "group {group} is in the log of core {other} of the same run too"),
            What::TwoVotes(term) => write!(f, "two different votes in term {term}"),
            What::MissingEntries { group, checkpoint, start } => {
                write!(f, "entries of group {group} are missing: pages hold up to {checkpoint}, the log begins behind {start}")
            }
            What::Behind { group, last, applied } => {
                write!(f, "the log of group {group} ends at {last}, though {applied} was applied")
            }
            What::CheckpointDiffers { group, index } => {
                write!(f, "entry {index} of group {group} is not the one that its pages hold")
            }
            What::TooMany => f.write_str("more segments or ends than there can be"),
        }
    }
}
