//! Cells of branches: a child, what it sums up to, and the lowest key that it may hold.
//!
//! ```text
//! 0 word u16: bits 0..11 inline bytes of the key; 15 long key
//! 2 child page u32 | 6 its generation u32 | 10 entries below it u64 | 18 sum of their weights u64
//! 26 key | run of the key, if long
//! ```
//! The key of a branch's first cell is empty: it holds whatever is below the second.

use super::leaf::{KEY_INLINE_BYTES_MAX, KEY_PREFIX_BYTES, LONG_KEY, RUN_BYTES, run_at, run_bytes};
use super::page::{put_u32, put_u64, u16_at, u32_at, u64_at};
use super::{PageId, PageRef, RunRef, Sums};

pub(super) const FIXED_BYTES: usize = 26;
const CHILD_AT: usize = 2;
const ENTRIES_AT: usize = 10;
const WEIGHT_AT: usize = 18;
const KEY_MASK: usize = 0x07FF;

/// A key between two pages, as a cell holds it: the whole of it, or its first bytes and a run of the branch's own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Separator {
    pub inline: Vec<u8>,
    pub run: Option<RunRef>,
}

impl Separator {
    /// The bytes of a cell with this key.
    pub fn cell_bytes(&self) -> usize {
        FIXED_BYTES + self.inline.len() + if self.run.is_some() { RUN_BYTES } else { 0 }
    }

    /// The inline part of a key of these bytes.
    pub fn inline_of(key: &[u8]) -> &[u8] {
        if key.len() > KEY_INLINE_BYTES_MAX { &key[..KEY_PREFIX_BYTES] } else { key }
    }
}

#[inline]
pub(super) fn cell_bytes(page: &[u8], at: usize) -> usize {
    let word = u16_at(page, at);
    FIXED_BYTES + (word & KEY_MASK) + if word & LONG_KEY != 0 { RUN_BYTES } else { 0 }
}

/// The inline part of the key, and whether there is more of it.
#[inline]
pub(super) fn key(page: &[u8], at: usize) -> (&[u8], bool) {
    let word = u16_at(page, at);
    (&page[at + FIXED_BYTES..at + FIXED_BYTES + (word & KEY_MASK)], word & LONG_KEY != 0)
}

/// Where the key is, when it is long.
pub(super) fn key_run(page: &[u8], at: usize) -> Option<RunRef> {
    let word = u16_at(page, at);
    (word & LONG_KEY != 0).then(|| run_at(page, at + FIXED_BYTES + (word & KEY_MASK)))
}

/// The key, as a separator.
pub(super) fn separator(page: &[u8], at: usize) -> Separator {
    Separator { inline: key(page, at).0.to_vec(), run: key_run(page, at) }
}

#[inline]
pub(super) fn child(page: &[u8], at: usize) -> PageRef {
    PageRef { page: PageId(u32_at(page, at + CHILD_AT)), generation: u32_at(page, at + CHILD_AT + 4) }
}

#[inline]
pub(super) fn set_child(page: &mut [u8], at: usize, child: PageRef) {
    put_u32(page, at + CHILD_AT, child.page.0);
    put_u32(page, at + CHILD_AT + 4, child.generation);
}

#[inline]
pub(super) fn sums(page: &[u8], at: usize) -> Sums {
    Sums { entries: u64_at(page, at + ENTRIES_AT), weight: u64_at(page, at + WEIGHT_AT) }
}

#[inline]
pub(super) fn set_sums(page: &mut [u8], at: usize, sums: Sums) {
    put_u64(page, at + ENTRIES_AT, sums.entries);
    put_u64(page, at + WEIGHT_AT, sums.weight);
}

/// Writes the image of a cell into `out`.
pub(super) fn build(out: &mut Vec<u8>, separator: &Separator, child: PageRef, sums: Sums) {
    out.clear();
    let long = if separator.run.is_some() { LONG_KEY } else { 0 };
    out.extend_from_slice(&((separator.inline.len() | long) as u16).to_le_bytes());
    out.extend_from_slice(&child.page.0.to_le_bytes());
    out.extend_from_slice(&child.generation.to_le_bytes());
    out.extend_from_slice(&sums.entries.to_le_bytes());
    out.extend_from_slice(&sums.weight.to_le_bytes());
    out.extend_from_slice(&separator.inline);
    if let Some(run) = separator.run {
        out.extend_from_slice(&run_bytes(run));
    }
}
