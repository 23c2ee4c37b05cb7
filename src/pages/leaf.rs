//! Cells of leaves: a key, a value, a weight.
//!
//! ```text
//! 0 word u16: bits 0..11 inline bytes of the key; 12..14 weight 0, 1, 2, or 3: stands behind; 14 long value; 15 long key
//! 2 inline bytes of the value u16
//! 4 key | value | weight u32, if so | run of the key, if long | run of the value, if long
//! ```
//! A long key has its first [`KEY_PREFIX_BYTES`] here and all of it in its run; a long value its first [`VALUE_HEAD_BYTES`].

use super::page::{HEADER_BYTES, ROOM_BYTES, SLOT_BYTES, put_u16, put_u32, u16_at, u32_at};
use super::{PageId, PageRef, RunRef};
use crate::base::limits::PAGE_BYTES;

/// The longest key that stands in its cell.
pub(super) const KEY_INLINE_BYTES_MAX: usize = 640;
/// What a cell holds of a longer key.
pub(super) const KEY_PREFIX_BYTES: usize = 128;
/// What a cell holds at least of a value that does not stand in it.
pub const VALUE_HEAD_BYTES: usize = 48;
/// The longest cell: two always fit a page, so that a full page and one cell more always fit two.
pub(super) const CELL_BYTES_MAX: usize = ROOM_BYTES / 2 - SLOT_BYTES;
pub(super) const FIXED_BYTES: usize = 4;
pub(super) const RUN_BYTES: usize = 12;
const KEY_MASK: usize = 0x07FF;
const WEIGHT_SHIFT: usize = 12;
const WEIGHT_MASK: usize = 0x3000;
const WEIGHT_WIDE: usize = 3;
const WEIGHT_BYTES: usize = 4;
const LONG_VALUE: usize = 0x4000;
pub(super) const LONG_KEY: usize = 0x8000;

/// How a cell is laid out, before it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub key_inline: usize,
    pub value_inline: usize,
    pub long_key: bool,
    pub long_value: bool,
    pub wide_weight: bool,
    /// All of the cell.
    pub bytes: usize,
}

impl Shape {
    pub fn of(key_bytes: usize, value_bytes: usize, weight: u32) -> Shape {
        let long_key = key_bytes > KEY_INLINE_BYTES_MAX;
        let wide_weight = weight >= WEIGHT_WIDE as u32;
        let key_inline = if long_key { KEY_PREFIX_BYTES } else { key_bytes };
        // With room for a wide weight in any case, so that a change of weight never moves the value.
        let around = FIXED_BYTES + key_inline + if long_key { RUN_BYTES } else { 0 } + WEIGHT_BYTES;
        let long_value = around + value_bytes > CELL_BYTES_MAX;
        let around = if wide_weight { around } else { around - WEIGHT_BYTES };
        let value_inline = if long_value { VALUE_HEAD_BYTES } else { value_bytes };
        let bytes = around + value_inline + if long_value { RUN_BYTES } else { 0 };
        assert!(bytes <= CELL_BYTES_MAX, "a cell of {bytes} bytes");
        Shape { key_inline, value_inline, long_key, long_value, wide_weight, bytes }
    }
}

#[inline]
pub(super) fn cell_bytes(page: &[u8], at: usize) -> usize {
    let word = u16_at(page, at);
    FIXED_BYTES + (word & KEY_MASK) + u16_at(page, at + 2) + extras_bytes(word)
}

#[inline]
fn extras_bytes(word: usize) -> usize {
    let mut bytes = 0;
    if word & WEIGHT_MASK == WEIGHT_MASK {
        bytes += 4;
    }
    if word & LONG_KEY != 0 {
        bytes += RUN_BYTES;
    }
    if word & LONG_VALUE != 0 {
        bytes += RUN_BYTES;
    }
    bytes
}

/// The inline part of the key, and whether there is more of it.
#[inline]
pub(super) fn key(page: &[u8], at: usize) -> (&[u8], bool) {
    let word = u16_at(page, at);
    (&page[at + FIXED_BYTES..at + FIXED_BYTES + (word & KEY_MASK)], word & LONG_KEY != 0)
}

fn value_at(page: &[u8], at: usize) -> usize {
    at + FIXED_BYTES + (u16_at(page, at) & KEY_MASK)
}

/// The inline part of the value; all of it unless [`value_run`] says otherwise.
#[inline]
pub(super) fn value(page: &[u8], at: usize) -> &[u8] {
    let start = value_at(page, at);
    &page[start..start + u16_at(page, at + 2)]
}

fn extras_at(page: &[u8], at: usize) -> usize {
    value_at(page, at) + u16_at(page, at + 2)
}

#[inline]
pub(super) fn weight(page: &[u8], at: usize) -> u32 {
    let class = (u16_at(page, at) & WEIGHT_MASK) >> WEIGHT_SHIFT;
    if class == WEIGHT_WIDE { u32_at(page, extras_at(page, at)) } else { class as u32 }
}

/// Writes another weight over the one there. It takes the same space.
pub(super) fn set_weight(page: &mut [u8], at: usize, weight: u32) {
    let word = u16_at(page, at);
    let wide = word & WEIGHT_MASK == WEIGHT_MASK;
    assert!(wide == (weight >= WEIGHT_WIDE as u32), "a weight of {weight} takes other space");
    if wide {
        let extras = extras_at(page, at);
        put_u32(page, extras, weight);
    } else {
        put_u16(page, at, (word & !WEIGHT_MASK) | ((weight as usize) << WEIGHT_SHIFT));
    }
}

/// Where the key is, when it is long.
pub(super) fn key_run(page: &[u8], at: usize) -> Option<RunRef> {
    let word = u16_at(page, at);
    (word & LONG_KEY != 0).then(|| {
        let wide = if word & WEIGHT_MASK == WEIGHT_MASK { 4 } else { 0 };
        run_at(page, extras_at(page, at) + wide)
    })
}

/// Where the value is, when it is long.
#[inline]
pub(super) fn value_run(page: &[u8], at: usize) -> Option<RunRef> {
    (u16_at(page, at) & LONG_VALUE != 0).then(|| run_at(page, at + cell_bytes(page, at) - RUN_BYTES))
}

pub(super) fn run_at(page: &[u8], at: usize) -> RunRef {
    RunRef { at: PageRef { page: PageId(u32_at(page, at)), generation: u32_at(page, at + 4) }, bytes: u32_at(page, at + 8) }
}

/// Writes other references over those there. The cell has the same runs.
pub(super) fn set_runs(page: &mut [u8], at: usize, key_run: Option<RunRef>, value_run: Option<RunRef>) {
    let end = at + cell_bytes(page, at);
    let value_run_bytes = if value_run.is_some() { RUN_BYTES } else { 0 };
    if let Some(run) = value_run {
        page[end - RUN_BYTES..end].copy_from_slice(&run_bytes(run));
    }
    if let Some(run) = key_run {
        page[end - value_run_bytes - RUN_BYTES..end - value_run_bytes].copy_from_slice(&run_bytes(run));
    }
}

pub(super) fn run_bytes(run: RunRef) -> [u8; RUN_BYTES] {
    let mut bytes = [0; RUN_BYTES];
    bytes[..4].copy_from_slice(&run.at.page.0.to_le_bytes());
    bytes[4..8].copy_from_slice(&run.at.generation.to_le_bytes());
    bytes[8..].copy_from_slice(&run.bytes.to_le_bytes());
    bytes
}

/// How many pages a run takes.
pub(super) fn run_pages(bytes: usize) -> u32 {
    (HEADER_BYTES + bytes).div_ceil(PAGE_BYTES) as u32
}

/// The shape that a cell takes with another weight: key and value stay where they are.
pub(super) fn reshape(page: &[u8], at: usize, weight: u32) -> Shape {
    let word = u16_at(page, at);
    let wide_weight = weight >= WEIGHT_WIDE as u32;
    let was_wide = word & WEIGHT_MASK == WEIGHT_MASK;
    Shape {
        key_inline: word & KEY_MASK,
        value_inline: u16_at(page, at + 2),
        long_key: word & LONG_KEY != 0,
        long_value: word & LONG_VALUE != 0,
        wide_weight,
        bytes: cell_bytes(page, at) + if wide_weight { 4 } else { 0 } - if was_wide { 4 } else { 0 },
    }
}

/// What the cell image is made of.
pub(super) struct Contents<'a> {
    /// All of the key.
    pub key: &'a [u8],
    pub key_run: Option<RunRef>,
    /// All of the value, in parts, or at least the part that stands in the cell.
    pub value: &'a [&'a [u8]],
    pub value_run: Option<RunRef>,
    pub weight: u32,
}

/// Writes the image of a cell into `out`.
pub(super) fn build(out: &mut Vec<u8>, shape: &Shape, contents: &Contents<'_>) {
    assert!(shape.long_key == contents.key_run.is_some() && shape.long_value == contents.value_run.is_some());
    out.clear();
    let class = (contents.weight as usize).min(WEIGHT_WIDE);
    let long = if shape.long_key { LONG_KEY } else { 0 } | if shape.long_value { LONG_VALUE } else { 0 };
    let word = shape.key_inline | (class << WEIGHT_SHIFT) | long;
    out.extend_from_slice(&(word as u16).to_le_bytes());
    out.extend_from_slice(&(shape.value_inline as u16).to_le_bytes());
    out.extend_from_slice(&contents.key[..shape.key_inline]);
    let mut left = shape.value_inline;
    for part in contents.value {
        let take = part.len().min(left);
        out.extend_from_slice(&part[..take]);
        left -= take;
    }
    if shape.wide_weight {
        out.extend_from_slice(&contents.weight.to_le_bytes());
    }
    for run in [contents.key_run, contents.value_run].into_iter().flatten() {
        out.extend_from_slice(&run_bytes(run));
    }
    assert!(left == 0 && out.len() == shape.bytes, "a cell of {} bytes where {} were planned", out.len(), shape.bytes);
}
