//! The page store: one file per group with several copy-on-write, checksummed B+trees in it. Sans-IO: pages that are not in
//! memory are [`Fault`]s for the caller to read, a [`Checkpoint`] is writes for the caller to do. This module knows no file, no
//! clock and no thread.
//!
//! ```text
//!  page 0   page 1     2 ...                                               file_bytes
//! ┌────────┬────────┬─────────────────────────────────────────────────────┐
//! │ meta   │ meta   │ leaves, branches, overflow runs, bitmaps, directories │
//! └────────┴────────┴─────────────────────────────────────────────────────┘
//!   even     odd checkpoints: roots of the trees, directories of the bitmaps, the caller's note
//!
//!  meta ──> root branch ──> branch ──> leaf ──> overflow run (a long value, or a long key)
//!           per child: page, its generation, number of entries below it, sum of their weights
//! ```
//!
//! Invariants:
//! - A page on disk is never changed in place. A change goes to a copy under another page id, and so does the path above it;
//!   the meta makes the copies count. Only pages born since the last checkpoint and the last pin are changed in place.
//! - If a page may be changed in place, so may all pages above it.
//! - A page is given out again only when the checkpoint that no longer reaches it is durable, and no pinned view reaches it.
//! - Whatever names a page also names the checkpoint that wrote it, so that a lost or misplaced write is damage, not old data.
//! - A call that returns a fault has changed nothing: everything it needs is in memory before the first change.
//! - The sums in a branch are those of the entries below; the bitmap on disk has exactly the pages that its meta reaches.
//! - Dirty pages stay in memory until a checkpoint has written them; clean ones may be evicted at any time.

mod ahead;
mod bits;
mod branch;
mod cache;
mod check;
mod checkpoint;
mod cursor;
mod damage;
mod defragment;
mod describe;
mod hints;
mod leaf;
mod meta;
mod name;
mod page;
mod put;
mod read;
mod remove;
mod space;
mod space_load;
mod store;
mod types;
mod usage;
mod write;

#[cfg(test)]
mod crash_test;
#[cfg(test)]
mod model_test;
#[cfg(test)]
mod store_test;
#[cfg(test)]
mod test_disk;

pub use cache::Tick;
pub use check::{CheckError, CheckReport, TreeReport, check};
pub use cursor::{Cursor, Item};
pub use damage::{Damage, What};
pub use describe::{CellDescription, MetaDescription, PageDescription, TreeDescription, describe};
pub use leaf::VALUE_HEAD_BYTES;
pub use name::{file_name, read_file_name};
pub use read::Reader;
pub use store::Store;
#[cfg(test)]
pub use types::Mutant;
pub use types::{Checkpoint, Entry, Fault, Head, Options, PageId, PageWrite, Progress, Sums, Tree, ViewId};

pub use usage::Usage;

use types::{Expect, PageRef, Root, RunRef};
