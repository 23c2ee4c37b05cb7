//! The write-ahead log: what one shard core has put on disk before anything was answered, and how it is read back (rules 12, 17, 18).
//!
//! Sans-IO: the writer hands out segment writes and takes back their buffers; recovery asks for files and is fed their bytes.
//!
//! ```text
//! directory   RUN-CORE-SEQUENCE.wal ...       one WAL per run and core; the next run never appends to an earlier one
//! WAL         segment 1, segment 2, ...       files of fixed length, zero-filled once, then renamed and reused as they are
//! segment     state │ batch │ batch │ ...     each from a block of its own, never rewritten; behind the last: zeros or stale bytes
//! batch       header (96 bytes) │ record │ record │ ... │ zeros up to the block
//! ```
//!
//! # Writing
//!
//! [`Writer::append`] encodes a record into the pending batch; [`Writer::seal`] makes it a write; [`Writer::written`] says that it is
//! on disk. A segment that is full is followed by the next one: [`Writer::needs_rotation`], [`Writer::rotate`]. The caller makes
//! segments ready ahead of time ([`Writer::wants_segment`]) and reuses or removes those that [`Writer::take_free`] names.
//!
//! The order that the caller keeps at a start:
//! 1. recover; the new run's number is above [`Recovered::run`];
//! 2. make the first segment of *every* core, and sync the directory, before any of them is written to;
//! 3. once each of them has its first state batch on disk: [`Ledger::carried_forward`] on [`Recovered::ledger`], whose segments may
//!    then become free as the page stores' checkpoints release them ([`Ledger::release`]).
//!
//! A segment is made under another name and renamed when it is whole; a free one may be renamed to the wanted name. The directory is
//! synced before the segment is provided.
//!
//! # Recovery: the decision table
//!
//! "Sound": the header's magic, format and crc, its (run, core, salt, sequence) and the payload's crc are right. "Later": a
//! sound header of the WAL, in the same segment behind the batch or at the head of a later segment.
//!
//! | found | in the newest run | in an earlier run, up to its recorded end |
//! | --- | --- | --- |
//! | a sound batch with the next number, chained to the one before | taken | taken |
//! | no sound batch, and nothing later | the end; signs of a header or batch: torn tail, cut and named ([`CutTail`]) | damage |
//! | no sound batch, and a later one | damage | damage |
//! | a sound batch with another number, or not chained | damage | damage |
//! | a segment without a sound state batch, nothing in it, and nothing later | the segment that stood ready, or a rotation that was torn | damage |
//! | the same, and a later segment in use | damage | damage |
//! | the first segment at hand is not the WAL's first, and has no state batch | damage | damage |
//! | a segment missing between others | damage | damage |
//! | the first segments missing | they were released: the groups' logs tell whether entries are missing | the same |
//! | no segment of a core | damage | released, as above |
//! | what stands behind the recorded end | | ignored |
//! | a file shorter than its state batch says | damage | damage |
//! | another member's ids; an unknown format in the first block | damage | damage |
//! | content that no writer writes, under a crc that is right | damage | damage |
//!
//! The newest run is the newest with a sound state batch; it records where each WAL of earlier runs ended ([`RunEnd`]). Files of a
//! still newer run hold nothing: it did not come to its first batch.
//!
//! Then each group's log, over all runs in order: indexes contiguous, terms never falling, an entry at an index that is there already
//! replacing the rest; at each state batch it must end where that says; in the end it must follow the page store's checkpoint without
//! a gap, reach it, and agree with its term. [`missing_revision`] checks V in all groups together.
//!
//! # What cannot be told
//!
//! A flipped bit in the last batch of a WAL looks like a torn write, until a later batch is there: a core that has been idle for
//! 100 ms writes one ([`Writer::seal_tail`]). Before that, V and the checkpoints may still give it away. Neither can the loss of a
//! WAL's last segments as a whole, when none stood ready behind them.
//!
//! # Invariants
//!
//! - One batch in flight; a batch starts on a block of its own and is never rewritten.
//! - A (run, core, sequence) is used once, so a stale batch in a reused file is never taken for a new one.
//! - Segments of a WAL become free in order, and only when the state batch of a later one is on disk.
//! - Lengths and counts read from disk are bounded before they are used; nothing read from disk is asserted.

mod buffer;
mod cursor;
mod damage;
mod gather;
mod header;
mod inspect;
mod ledger;
mod name;
mod record;
mod recovery;
mod revisions;
mod scan;
mod state;
mod stream;
mod writer;

#[cfg(test)]
mod garbage_test;
#[cfg(test)]
mod model_test;
#[cfg(test)]
mod recovery_test;
#[cfg(test)]
pub(crate) mod rig_test;
#[cfg(test)]
mod writer_test;

pub use damage::{Damage, Later, What};
pub use header::{BatchHeader, BatchKind, FORMAT, Known};
pub use inspect::{Content, Described, Sight, describe};
pub use ledger::{Ledger, SegmentUse};
pub use name::{SegmentName, WalId};
pub use record::Record;
pub use recovery::{Ask, Checkpoint, CutTail, Recovered, Recovery, RecoveryOptions, recover};
pub use revisions::missing_revision;
pub use state::{GroupStart, GroupTail, RunEnd, State, StateBatch};
pub use stream::RecoveredGroup;
pub use writer::{RecordNumber, SegmentWrite, Writer, WriterLimits, WriterOptions};
