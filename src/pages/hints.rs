//! Hints: each slot holds four bytes of its cell's key, so that a search looks at slots side by side and at one or two cells only.
//!
//! All keys of a page share their first `prefix` bytes; a hint is the four bytes behind those, as a big-endian number, with
//! zeros behind a key that ends there. So of two keys the lower never has the higher hint, and only equal hints need the keys.
//! The first cell of a branch has no key and no hint. `prefix` is shared by all but need not be the most that they share.

use super::leaf::KEY_PREFIX_BYTES;
use super::page::{HEADER_BYTES, Page, SLOT_BYTES, cells, extra, key, level, put_u32, u32_at};

/// Where a slot holds its hint.
const HINT_AT: usize = 2;
const PREFIX_AT: usize = 28;
const CACHE_LINE_BYTES: usize = 64;
/// The header and some hundred slots.
const TOUCHED_BYTES: usize = 640;
/// The prefix is no longer than this, so that the hint of a long key, too, comes from bytes that stand in its cell.
const PREFIX_BYTES_MAX: usize = KEY_PREFIX_BYTES - 4;

/// The first slot that has a hint.
#[inline]
pub(super) fn first(page: &Page) -> usize {
    usize::from(level(page) > 0)
}

/// How many bytes all keys share.
#[inline]
pub(super) fn prefix(page: &Page) -> usize {
    extra(page) as usize
}

/// The hint of a key, by what follows the prefix.
#[inline]
pub(super) fn of(rest: &[u8]) -> u32 {
    if let Some(four) = rest.first_chunk::<4>() {
        return u32::from_be_bytes(*four);
    }
    rest.iter().enumerate().fold(0, |hint, (at, &byte)| hint | u32::from(byte) << (24 - 8 * at))
}

#[inline]
pub(super) fn get(page: &Page, slot: usize) -> u32 {
    u32_at(page, HEADER_BYTES + slot * SLOT_BYTES + HINT_AT)
}

pub(super) fn set(page: &mut Page, slot: usize, hint: u32) {
    put_u32(page, HEADER_BYTES + slot * SLOT_BYTES + HINT_AT, hint);
}

/// Asks the memory for the slots of a page all at once: a search would wait for one piece of them after the other.
#[inline]
pub(super) fn touch(page: &Page) {
    let touched = (0..TOUCHED_BYTES).step_by(CACHE_LINE_BYTES).fold(0, |touched, at| touched | page[at]);
    std::hint::black_box(touched);
}

/// The first slot of `from..to` whose hint is at least `hint`; `to` if none is.
#[inline]
pub(super) fn lower_bound(page: &Page, from: usize, to: usize, hint: u32) -> usize {
    let (mut low, mut len) = (from, to - from);
    while len > 0 {
        let half = len / 2;
        if get(page, low + half) < hint {
            low += half + 1;
            len -= half + 1;
        } else {
            len = half;
        }
    }
    low
}

/// Gives the cell just put into `slot` its hint; all others anew, if it does not share the prefix.
pub(super) fn admit(page: &mut Page, slot: usize) {
    let (from, count) = (first(page), cells(page));
    if slot < from {
        return;
    }
    let own = key(page, slot);
    if count == from + 1 {
        let all = own.len();
        return rebuild_behind(page, all);
    }
    let other = key(page, if slot > from { slot - 1 } else { slot + 1 });
    let shared = common(own, &other[..prefix(page)]);
    if shared < prefix(page) {
        rebuild_behind(page, shared);
    } else {
        let hint = of(&own[shared..]);
        set(page, slot, hint);
    }
}

/// Gives all cells their hints, behind the longest prefix.
pub(super) fn rebuild(page: &mut Page) {
    let (from, count) = (first(page), cells(page));
    if count > from {
        // Keys are in order: what the first and the last share, all do.
        let shared = common(key(page, from), key(page, count - 1));
        rebuild_behind(page, shared);
    }
}

fn rebuild_behind(page: &mut Page, prefix: usize) {
    let prefix = prefix.min(PREFIX_BYTES_MAX);
    put_u32(page, PREFIX_AT, prefix as u32);
    for slot in first(page)..cells(page) {
        let hint = of(&key(page, slot)[prefix..]);
        set(page, slot, hint);
    }
}

/// Whether the hints of a page from the disk are those of its keys.
pub(super) fn are_right(page: &Page) -> bool {
    let (from, count, prefix) = (first(page), cells(page), prefix(page));
    let Some(shared) = (count > from).then(|| key(page, from)).and_then(|key| key.get(..prefix)) else {
        return count <= from;
    };
    prefix <= PREFIX_BYTES_MAX
        && (from..count).all(|slot| {
            let key = key(page, slot);
            key.starts_with(shared) && get(page, slot) == of(&key[prefix..])
        })
}

/// How many first bytes two keys share.
pub(super) fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Prng;

    #[test]
    fn hints_are_in_the_order_of_keys() {
        let mut rng = Prng::new(3);
        let mut keys: Vec<Vec<u8>> = (0..2000).map(|_| (0..rng.below(7)).map(|_| rng.below(3) as u8).collect()).collect();
        keys.sort();
        assert!(keys.windows(2).all(|pair| of(&pair[0]) <= of(&pair[1])));
        assert_eq!(of(b"abcd"), of(b"abcdef"));
        assert_eq!((of(b""), of(b"a")), (0, 0x6100_0000));
    }
}
