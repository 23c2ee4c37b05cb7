//! What goes in and out of the page store: ids, faults, entries, writes.

use std::sync::Arc;

use super::page::Kind;
use crate::base::AlignedBuffer;
use crate::base::limits::PAGE_BYTES;

/// The place of a page in its file: page n starts at byte n * [`PAGE_BYTES`]. Pages 0 and 1 are the metas.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PageId(pub u32);

impl PageId {
    /// Where the page starts in the file, in bytes.
    pub const fn offset(self) -> u64 {
        self.0 as u64 * PAGE_BYTES as u64
    }
}

/// One of the trees of a store, `0..TREES_MAX`; what each is for is the caller's affair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tree(pub u8);

impl Tree {
    pub(super) const fn slot(self) -> usize {
        self.0 as usize
    }
}

/// A read view that was pinned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ViewId(pub(super) u64);

/// Pages that are needed and not in memory: read them from the file, [`install`](super::Store::install) them, and run the
/// call again. A call that returns a fault has changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The first page to read.
    pub first: PageId,
    /// How many pages to read, in one piece.
    pub pages: u32,
    pub(super) expect: Expect,
}

impl Fault {
    /// Where to read, in bytes from the start of the file.
    pub const fn offset(&self) -> u64 {
        self.first.offset()
    }

    /// How much to read, in bytes.
    pub const fn bytes(&self) -> usize {
        self.pages as usize * PAGE_BYTES
    }
}

/// What the reference that led to a page says about it; a page that says otherwise is damage (a lost or misplaced write).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Expect {
    /// Low bits of the checkpoint that wrote it.
    pub generation: u32,
    pub kind: Kind,
    pub level: u8,
    /// The checkpoint that was being filled when the fault was made.
    pub issued: u64,
}

/// How a store is to behave.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Memory for pages, of which cold ones take half at most. What may be dirty or waits is reckoned from it.
    pub cache_bytes: usize,
    /// The memory that pages may take while they are in use, at least that. Clean pages are evicted to stay below it; dirty pages may
    /// exceed it until the next checkpoint.
    pub hot_bytes: usize,
    /// A rule to break, to show that the tests see it.
    #[cfg(test)]
    pub mutant: Option<Mutant>,
}

impl Options {
    /// Options with this much memory for pages.
    pub const fn with_cache(cache_bytes: usize) -> Options {
        Options {
            cache_bytes,
            hot_bytes: cache_bytes,
            #[cfg(test)]
            mutant: None,
        }
    }
}

/// Rules of the page store that tests may switch off, by name. The crash and view tests must then fail.
#[cfg(test)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// "pinned page reused": pages that a read view may reach are given out again.
    PinnedPageReused,
    /// "pending page reused": pages freed since the last durable checkpoint are given out before the next one is durable.
    PendingPageReused,
}

/// What a key maps to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// The value, in one piece.
    pub value: &'a [u8],
    /// What the entry counts for in [`Store::weight`](super::Store::weight).
    pub weight: u32,
}

/// The beginning of a value, which is in the leaf even when the value is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head<'a> {
    /// The whole value, or at least its first [`VALUE_HEAD_BYTES`](super::VALUE_HEAD_BYTES).
    pub bytes: &'a [u8],
    /// The length of the whole value.
    pub value_bytes: usize,
    /// As in [`Entry`].
    pub weight: u32,
}

/// Entries and the sum of their weights, of a tree, a branch's child or a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sums {
    /// How many entries.
    pub entries: u64,
    /// The sum of their weights.
    pub weight: u64,
}

impl Sums {
    pub(super) fn add(&mut self, other: Sums) {
        // Saturating, because a walk of a damaged file adds up whatever stands there.
        self.entries = self.entries.saturating_add(other.entries);
        self.weight = self.weight.saturating_add(other.weight);
    }

    pub(super) fn plus(mut self, other: Sums) -> Sums {
        self.add(other);
        self
    }

    pub(super) fn minus(self, other: Sums) -> Sums {
        assert!(self.entries >= other.entries && self.weight >= other.weight, "sums fell below zero");
        Sums { entries: self.entries - other.entries, weight: self.weight - other.weight }
    }
}

/// Whole pages to be written at their place in the file.
#[derive(Clone, Debug)]
pub struct PageWrite {
    /// Where they go.
    pub first: PageId,
    /// What goes there. Shared with the cache, and not changed by it while it is.
    pub bytes: Arc<AlignedBuffer>,
}

impl PageWrite {
    /// Where to write, in bytes from the start of the file.
    pub const fn offset(&self) -> u64 {
        self.first.offset()
    }
}

/// How far a checkpoint has come.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Progress {
    /// Bytes of its pages that are on disk.
    pub written: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// A checkpoint that was begun. In this order: make the file `file_bytes` long if it is shorter; write everything that
/// [`checkpoint_writes`](super::Store::checkpoint_writes) hands out; fdatasync; write `meta`, synced; call
/// [`finish_checkpoint`](super::Store::finish_checkpoint); cut the file to `file_bytes` if it is longer.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// How many bytes of pages will be handed out.
    pub write_bytes: u64,
    /// What makes the checkpoint the current one.
    pub meta: PageWrite,
    /// The length that the file is to have.
    pub file_bytes: u64,
}

/// A page as a branch or the meta names it. No page: the empty tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct PageRef {
    pub page: PageId,
    /// Low bits of the checkpoint that writes it.
    pub generation: u32,
}

/// A run of overflow pages as a cell names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RunRef {
    pub at: PageRef,
    /// The length of what it holds.
    pub bytes: u32,
}

/// A tree as the meta names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Root {
    /// Page 0 when the tree is empty.
    pub at: PageRef,
    /// The level of the root page: 0 is a leaf.
    pub level: u8,
    pub sums: Sums,
}

impl Root {
    pub const EMPTY: Root =
        Root { at: PageRef { page: PageId(0), generation: 0 }, level: 0, sums: Sums { entries: 0, weight: 0 } };

    pub const fn is_empty(&self) -> bool {
        self.at.page.0 == 0
    }
}
