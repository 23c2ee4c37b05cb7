//! What a core asks of the world, as values. A pump, or the simulator, carries them out and reports what they ask to have reported.

use crate::base::{AlignedBuffer, CoreId, FrontId, GroupId};
use crate::pages::{Fault, PageWrite};
use crate::reign::Seat;
use crate::wal::SegmentName;

use super::events::CoreMessage;
use super::messages::ToFront;

/// Something to do.
#[derive(Debug)]
pub enum Effect {
    /// Queue this for a front.
    ToFront(FrontId, ToFront),
    /// Queue this for a core, this one included.
    ToCore(CoreId, CoreMessage),
    /// The stable revision rose: this seat waits for it (rule 2).
    Wake(Seat),
    /// Disk work.
    Disk(DiskEffect),
    /// Everything that a clean stop needs is on disk.
    Stopped,
    /// The member cannot go on: end the process with this line.
    Fatal(String),
}

/// Disk work; each but the last is reported when done, and one that fails ends the process, a full disk apart where that is said.
#[derive(Debug)]
pub enum DiskEffect {
    /// Write to a WAL segment, durable when reported: [`super::Event::WalWritten`], or [`super::Event::WalRefused`] when there is no
    /// space.
    WalWrite {
        /// Which segment.
        segment: SegmentName,
        /// Where, in whole blocks.
        offset: u64,
        /// What, and perhaps more behind it.
        buffer: AlignedBuffer,
        /// How much of the buffer.
        bytes: usize,
    },
    /// Make a segment ready: take over the file of `recycle`, or make and zero-fill a new one: [`super::Event::SegmentReady`], or
    /// [`super::Event::SegmentRefused`] when there is no space.
    WalPrepare {
        /// Its name.
        segment: SegmentName,
        /// A segment that nobody needs any more.
        recycle: Option<SegmentName>,
        /// Its length.
        bytes: u64,
        /// The file was made, with its space reserved, before the core started: open it.
        made: bool,
    },
    /// Read pages: [`super::Event::PageRead`].
    PageRead {
        /// Whose.
        group: GroupId,
        /// Which.
        fault: Fault,
    },
    /// Write pages, in any order: [`super::Event::CheckpointStepDone`] when all are written, or [`super::Event::CheckpointRefused`]
    /// when there is no space.
    PagesWrite {
        /// Whose.
        group: GroupId,
        /// What.
        writes: Vec<PageWrite>,
    },
    /// Make the writes durable: [`super::Event::CheckpointStepDone`].
    PagesSync {
        /// Whose.
        group: GroupId,
    },
    /// Write the meta page, durable when reported: [`super::Event::CheckpointStepDone`], or [`super::Event::CheckpointRefused`] when
    /// there is no space.
    MetaWrite {
        /// Whose.
        group: GroupId,
        /// What.
        write: PageWrite,
    },
    /// Set the length of a group's file: [`super::Event::CheckpointStepDone`].
    PagesLength {
        /// Whose.
        group: GroupId,
        /// Bytes.
        bytes: u64,
    },
    /// Remove a segment that nobody needs. Not reported.
    WalRemove {
        /// Which.
        segment: SegmentName,
    },
}
