//! Pages as bytes: the header that every page has, and the slotted layout of leaves and branches, searched and changed in place.
//!
//! ```text
//!  0 checksum u32 (CRC-32C of everything behind it)   16 kind u8      24 dead u16: bytes of removed cells
//!  4 page u32                                         17 level u8     26 last u16: slot of the last insertion
//!  8 generation u64                                   18 tree u8      28 extra u32: overflow: bytes held;
//!                                                     19 streak u8       leaf and branch: bytes shared by all keys
//! 20 cells u16    22 heap u16: where the lowest cell starts                  bitmap and directory: their place
//! 32 slots, in key order: where the cell starts u16, hint u32 ->        free        <- cells, downwards from the page's end
//! ```

use super::{PageId, What, branch, hints, leaf};
use crate::base::limits::PAGE_BYTES;

/// One page.
pub(super) type Page = [u8; PAGE_BYTES];

pub(super) const HEADER_BYTES: usize = 32;
/// What slots and cells share.
pub(super) const ROOM_BYTES: usize = PAGE_BYTES - HEADER_BYTES;
/// The bytes of a slot.
pub(super) const SLOT_BYTES: usize = 6;
const PAGE_AT: usize = 4;
const GENERATION_AT: usize = 8;
const KIND_AT: usize = 16;
const LEVEL_AT: usize = 17;
const TREE_AT: usize = 18;
const STREAK_AT: usize = 19;
const CELLS_AT: usize = 20;
const HEAP_AT: usize = 22;
const DEAD_AT: usize = 24;
const LAST_AT: usize = 26;
const EXTRA_AT: usize = 28;

/// What a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Leaf = 1,
    Branch = 2,
    Overflow = 3,
    Bitmap = 4,
    Directory = 5,
}

impl Kind {
    pub fn of(page: &[u8]) -> Option<Kind> {
        Some(match page[KIND_AT] {
            1 => Kind::Leaf,
            2 => Kind::Branch,
            3 => Kind::Overflow,
            4 => Kind::Bitmap,
            5 => Kind::Directory,
            _ => return None,
        })
    }
}

#[inline]
pub(super) fn u16_at(page: &[u8], at: usize) -> usize {
    u16::from_le_bytes([page[at], page[at + 1]]) as usize
}

#[inline]
pub(super) fn put_u16(page: &mut [u8], at: usize, value: usize) {
    assert!(value <= u16::MAX as usize);
    page[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
}

#[inline]
pub(super) fn u32_at(page: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(page[at..at + 4].try_into().expect("four bytes"))
}

#[inline]
pub(super) fn put_u32(page: &mut [u8], at: usize, value: u32) {
    page[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[inline]
pub(super) fn u64_at(page: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(page[at..at + 8].try_into().expect("eight bytes"))
}

#[inline]
pub(super) fn put_u64(page: &mut [u8], at: usize, value: u64) {
    page[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Writes the header of an empty page (or run) over what was there.
pub(super) fn init(page: &mut [u8], kind: Kind, level: u8, tree: u8, extra: u32) {
    page[..HEADER_BYTES].fill(0);
    page[KIND_AT] = kind as u8;
    page[LEVEL_AT] = level;
    page[TREE_AT] = tree;
    put_u16(page, HEAP_AT, PAGE_BYTES);
    put_u32(page, EXTRA_AT, extra);
}

/// Says which page this is, and which checkpoint will write it.
#[inline]
pub(super) fn set_place(page: &mut [u8], id: PageId, generation: u64) {
    put_u32(page, PAGE_AT, id.0);
    put_u64(page, GENERATION_AT, generation);
}

#[inline]
pub(super) fn id(page: &[u8]) -> PageId {
    PageId(u32_at(page, PAGE_AT))
}

#[inline]
pub(super) fn generation(page: &[u8]) -> u64 {
    u64_at(page, GENERATION_AT)
}

#[inline]
pub(super) fn level(page: &[u8]) -> u8 {
    page[LEVEL_AT]
}

#[inline]
pub(super) fn tree(page: &[u8]) -> u8 {
    page[TREE_AT]
}

#[inline]
pub(super) fn extra(page: &[u8]) -> u32 {
    u32_at(page, EXTRA_AT)
}

/// Computes the checksum of a page or run and stores it.
pub(super) fn seal(page: &mut [u8]) {
    let checksum = crc32c::crc32c(&page[PAGE_AT..]);
    put_u32(page, 0, checksum);
}

/// Whether the stored checksum is that of the contents.
pub(super) fn is_sealed(page: &[u8]) -> bool {
    u32_at(page, 0) == crc32c::crc32c(&page[PAGE_AT..])
}

/// How many cells the page has.
#[inline]
pub(super) fn cells(page: &[u8]) -> usize {
    u16_at(page, CELLS_AT)
}

/// Where the cell of `slot` starts.
#[inline]
pub(super) fn cell_at(page: &[u8], slot: usize) -> usize {
    u16_at(page, HEADER_BYTES + slot * SLOT_BYTES)
}

/// The bytes of the cell that starts at `at`.
#[inline]
pub(super) fn cell(page: &Page, at: usize) -> &[u8] {
    &page[at..at + cell_bytes(page, at)]
}

/// The length of the cell that starts at `at`.
#[inline]
pub(super) fn cell_bytes(page: &[u8], at: usize) -> usize {
    if page[KIND_AT] == Kind::Leaf as u8 { leaf::cell_bytes(page, at) } else { branch::cell_bytes(page, at) }
}

/// The key of `slot`, or the part of it that stands in its cell.
#[inline]
pub(super) fn key(page: &Page, slot: usize) -> &[u8] {
    let at = cell_at(page, slot);
    if page[KIND_AT] == Kind::Leaf as u8 { leaf::key(page, at).0 } else { branch::key(page, at).0 }
}

fn heap(page: &[u8]) -> usize {
    u16_at(page, HEAP_AT)
}

fn slots_end(page: &[u8]) -> usize {
    HEADER_BYTES + cells(page) * SLOT_BYTES
}

/// The bytes that new cells and their slots may take, once the page is compacted.
#[inline]
pub(super) fn room(page: &[u8]) -> usize {
    heap(page) - slots_end(page) + u16_at(page, DEAD_AT)
}

/// The bytes that cells and slots take.
pub(super) fn used(page: &[u8]) -> usize {
    ROOM_BYTES - room(page)
}

/// Puts a cell in before `slot`. There is room for it.
pub(super) fn insert(page: &mut Page, slot: usize, image: &[u8]) {
    insert_unhinted(page, slot, image);
    hints::admit(page, slot);
    note_insertion(page, slot);
}

/// Puts a cell in behind all others. [`finish`] comes after the last.
pub(super) fn push(page: &mut Page, image: &[u8]) {
    insert_unhinted(page, cells(page), image);
}

/// Completes a page that cells were pushed to.
pub(super) fn finish(page: &mut Page) {
    hints::rebuild(page);
    page[STREAK_AT] = 0;
    put_u16(page, LAST_AT, u16::MAX as usize);
}

fn insert_unhinted(page: &mut Page, slot: usize, image: &[u8]) {
    let count = cells(page);
    assert!(slot <= count, "slot {slot} of {count}");
    assert!(image.len() + SLOT_BYTES <= room(page), "no room for a cell of {} bytes", image.len());
    if heap(page) - slots_end(page) < image.len() + SLOT_BYTES {
        compact(page);
    }
    let at = heap(page) - image.len();
    page[at..at + image.len()].copy_from_slice(image);
    let slot_at = HEADER_BYTES + slot * SLOT_BYTES;
    page.copy_within(slot_at..HEADER_BYTES + count * SLOT_BYTES, slot_at + SLOT_BYTES);
    put_u16(page, slot_at, at);
    put_u16(page, HEAP_AT, at);
    put_u16(page, CELLS_AT, count + 1);
}

/// Takes the cell of `slot` out.
pub(super) fn remove(page: &mut Page, slot: usize) {
    let count = cells(page);
    assert!(slot < count, "slot {slot} of {count}");
    let at = cell_at(page, slot);
    drop_cell(page, at);
    let slot_at = HEADER_BYTES + slot * SLOT_BYTES;
    page.copy_within(slot_at + SLOT_BYTES..HEADER_BYTES + count * SLOT_BYTES, slot_at);
    put_u16(page, CELLS_AT, count - 1);
}

/// Puts another cell with the same key in the place of the one of `slot`; of a branch's first cell, one without a key. There
/// is room for it.
pub(super) fn replace(page: &mut Page, slot: usize, image: &[u8]) {
    assert!(slot < cells(page), "slot {slot} of {}", cells(page));
    let at = cell_at(page, slot);
    let old_bytes = cell_bytes(page, at);
    assert!(image.len() <= room(page) + old_bytes, "no room for a cell of {} bytes", image.len());
    if image.len() == old_bytes {
        page[at..at + old_bytes].copy_from_slice(image);
        return;
    }
    let hint = hints::get(page, slot);
    remove(page, slot);
    insert_unhinted(page, slot, image);
    hints::set(page, slot, hint);
}

fn drop_cell(page: &mut Page, at: usize) {
    let bytes = cell_bytes(page, at);
    if at == heap(page) {
        put_u16(page, HEAP_AT, at + bytes);
    } else {
        let dead = u16_at(page, DEAD_AT) + bytes;
        put_u16(page, DEAD_AT, dead);
    }
}

/// Moves the cells together, so that all free bytes are in one piece.
fn compact(page: &mut Page) {
    let old = *page;
    let mut at = PAGE_BYTES;
    for slot in 0..cells(&old) {
        let image = cell(&old, cell_at(&old, slot));
        at -= image.len();
        page[at..at + image.len()].copy_from_slice(image);
        put_u16(page, HEADER_BYTES + slot * SLOT_BYTES, at);
    }
    put_u16(page, HEAP_AT, at);
    put_u16(page, DEAD_AT, 0);
}

/// Insertions that each go right behind the last one, or right before it, make a streak: the page is then split where they go.
fn note_insertion(page: &mut Page, slot: usize) {
    let last = u16_at(page, LAST_AT);
    let follows = slot == last + 1 || slot == last;
    page[STREAK_AT] = if follows { page[STREAK_AT].saturating_add(1) } else { 0 };
    put_u16(page, LAST_AT, slot);
}

/// The page's only cell is the last of so many insertions in a row, the others being in the page before.
pub(super) fn go_on_with_row(page: &mut Page, streak: u8) {
    assert!(cells(page) == 1, "a page begins with one cell");
    page[STREAK_AT] = streak;
    put_u16(page, LAST_AT, 0);
}

/// Takes all cells out.
pub(super) fn clear(page: &mut Page) {
    put_u16(page, CELLS_AT, 0);
    put_u16(page, HEAP_AT, PAGE_BYTES);
    put_u16(page, DEAD_AT, 0);
}

/// How many of the last insertions went to where the one before them went.
pub(super) fn streak(page: &[u8]) -> u8 {
    page[STREAK_AT]
}

/// Checks everything that the other functions take for granted about a leaf or branch that comes from the disk.
pub(super) fn validate(page: &Page) -> Result<(), What> {
    let leaf = page[KIND_AT] == Kind::Leaf as u8;
    let (count, heap, dead) = (cells(page), heap(page), u16_at(page, DEAD_AT));
    if HEADER_BYTES + count * SLOT_BYTES > heap || heap > PAGE_BYTES {
        return Err(What::Structure("slots and cells overlap"));
    }
    if leaf != (level(page) == 0) || count == 0 {
        return Err(What::Structure("level or number of cells"));
    }
    let mut bytes = dead;
    for slot in 0..count {
        let at = cell_at(page, slot);
        let fixed = if leaf { leaf::FIXED_BYTES } else { branch::FIXED_BYTES };
        if at < heap || at + fixed > PAGE_BYTES || at + cell_bytes(page, at) > PAGE_BYTES {
            return Err(What::Structure("a cell lies outside the page"));
        }
        bytes += cell_bytes(page, at);
    }
    if bytes != PAGE_BYTES - heap {
        return Err(What::Structure("cells overlap"));
    }
    if !hints::are_right(page) {
        return Err(What::Structure("hints that are not those of the keys"));
    }
    Ok(())
}
