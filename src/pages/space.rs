//! Which pages are taken: one bit per page, in memory and, at each checkpoint, on disk.
//!
//! ```text
//! meta -> directory pages -> bitmap pages: a bit per page of the file, set when the checkpoint's trees reach the page
//! ```
//! A bitmap page covers [`CHUNK_PAGES`] pages and is rewritten only when one of them changed sides, so a checkpoint's work is
//! bounded by what changed. Bitmap pages are pages of the file like others: never written in place.
//!
//! In memory there are two sets. *live*: reached by the trees as they are now (what the next checkpoint writes down). *free*: may
//! be given out. A page that is neither waits in `pending` until the checkpoint that lets go of it is durable, and then in
//! `held` while a read view that may reach it is pinned.

use std::collections::VecDeque;

use super::bits::Bits;
use super::page::HEADER_BYTES;
use super::{PageId, PageRef};
use crate::base::limits::FILE_PAGES_MAX;

/// The pages that a bitmap page covers.
pub(super) const CHUNK_PAGES: u32 = 32_000;
/// The bitmap pages that a directory page names.
pub(super) const DIRECTORY_CHUNKS: usize = 500;
/// The directory pages that the meta names.
pub(super) const DIRECTORIES_MAX: usize = 32;
/// The first page that is not a meta.
pub(super) const FIRST_PAGE: u32 = 2;
/// Runs of up to so many pages remember up to where there is no room for them.
const RUN_FLOORS: usize = 65;
/// Free pages in a row from which pages are taken one by one.
const SIDE_BY_SIDE: u32 = 4;
/// Of the pages in use, the part (one in so many) that may be free here and there while the file grows: what is let go of around them
/// makes places of them where several are side by side.
const SCATTERED_PART: u32 = 4;
/// Runs freed since the last checkpoint that are remembered for the next run.
const RECENT_RUNS_MAX: usize = 64;
const _: () = assert!(HEADER_BYTES + CHUNK_PAGES as usize / 8 <= crate::base::limits::PAGE_BYTES);
const _: () = assert!(FILE_PAGES_MAX as u64 == CHUNK_PAGES as u64 * DIRECTORY_CHUNKS as u64 * DIRECTORIES_MAX as u64);

/// Pages that were let go, and when they were in use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub first: PageId,
    pub pages: u32,
    /// The checkpoint that wrote them (or would have).
    pub born: u64,
    /// The first checkpoint that no longer reaches them.
    pub freed: u64,
}

/// A bitmap or directory page: where its newest version is, and whether that is out of date.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slab {
    pub at: Option<PageRef>,
    pub changed: bool,
    /// Its place for the checkpoint being begun is known.
    pub placed: bool,
}

pub(super) struct Space {
    live: Bits,
    live_pages: u32,
    free: Bits,
    free_pages: u32,
    /// No page of this word or below is free.
    lowest_word: usize,
    run_floors: [u32; RUN_FLOORS],
    /// The page behind the one that was last taken from among free ones.
    next: u32,
    packs: bool,
    recent_runs: Vec<(u32, u32)>,
    /// Pages from here on have never been used, or were cut off.
    end: u32,
    pub chunks: Vec<Slab>,
    pub directories: Vec<Slab>,
    pending: VecDeque<Extent>,
    held: Vec<Extent>,
}

impl Space {
    /// Of a file that holds its two metas.
    pub fn new() -> Space {
        let mut space = Space::empty(FIRST_PAGE);
        space.set_live(PageId(0), FIRST_PAGE);
        space
    }

    fn empty(end: u32) -> Space {
        Space {
            live: Bits::default(),
            live_pages: 0,
            free: Bits::default(),
            free_pages: 0,
            lowest_word: 0,
            run_floors: [0; RUN_FLOORS],
            next: end,
            packs: false,
            recent_runs: Vec::new(),
            end,
            chunks: Vec::new(),
            directories: Vec::new(),
            pending: VecDeque::new(),
            held: Vec::new(),
        }
    }

    /// As a checkpoint left it: `bits` as its bitmap pages have them, `end` pages in the file.
    pub fn loaded(bits: Bits, end: u32, chunks: Vec<Slab>, directories: Vec<Slab>) -> Space {
        let mut space = Space::empty(end);
        space.live_pages = bits.count();
        space.free = bits.inverted(end);
        space.free_pages = space.free.count();
        space.live = bits;
        space.chunks = chunks;
        space.directories = directories;
        space
    }

    pub fn live_pages(&self) -> u32 {
        self.live_pages
    }

    /// One past the last page in use or waiting.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// One past the last live page.
    pub fn live_end(&self) -> u32 {
        self.live.end()
    }

    pub fn live_bits(&self) -> &Bits {
        &self.live
    }

    /// Takes `pages` pages in a row: the lowest free ones that will do, else new ones at the end of the file. A page alone is taken from
    /// where several are free side by side, as long as there is such a place: the next ones follow it there, and a checkpoint writes
    /// them as one.
    pub fn allocate(&mut self, pages: u32) -> PageId {
        let found = match pages {
            1 => self.find_among_free().or_else(|| self.find_page()),
            _ => self.find_run(pages),
        };
        let first = found.unwrap_or_else(|| self.grow(pages));
        self.set_live(PageId(first), pages);
        PageId(first)
    }

    /// Takes the lowest page that is free, else a new one at the end of the file.
    pub fn allocate_lowest(&mut self) -> PageId {
        let first = self.find_page().unwrap_or_else(|| self.grow(1));
        self.set_live(PageId(first), 1);
        PageId(first)
    }

    /// While it is set, every page alone is the lowest that is free.
    pub fn pack(&mut self, packs: bool) {
        self.packs = packs;
    }

    /// The page that [`Space::allocate_lowest`] would take.
    pub fn lowest_free(&mut self) -> u32 {
        match self.free.first_word(self.lowest_word) {
            Some(word) => {
                self.lowest_word = word;
                self.free.lowest_in(word)
            }
            None => self.end,
        }
    }

    /// A page next to the one that was taken last, or the first of [`SIDE_BY_SIDE`] free ones.
    fn find_among_free(&mut self) -> Option<u32> {
        if self.packs {
            return None;
        }
        let next = self.next;
        if self.free.get(next) {
            self.take(next, 1);
            self.next = next + 1;
            return Some(next);
        }
        let floor = &mut self.run_floors[SIDE_BY_SIDE as usize];
        let found = self.free.find_run(*floor, SIDE_BY_SIDE);
        *floor = found.unwrap_or(self.end);
        let page = match found {
            Some(page) => {
                self.take(page, 1);
                page
            }
            None if self.free_pages < self.live_pages / SCATTERED_PART => self.grow(1),
            None => return None,
        };
        self.next = page + 1;
        Some(page)
    }

    fn find_page(&mut self) -> Option<u32> {
        let page = self.lowest_free();
        if page >= self.end {
            self.lowest_word = (self.end / 64) as usize;
            return None;
        }
        self.take(page, 1);
        Some(page)
    }

    fn find_run(&mut self, pages: u32) -> Option<u32> {
        let free = &self.free;
        if let Some(at) = self.recent_runs.iter().position(|&(first, len)| len >= pages && free.all_set(first, pages)) {
            let (first, _) = self.recent_runs.swap_remove(at);
            self.take(first, pages);
            return Some(first);
        }
        let floor = (pages as usize).min(RUN_FLOORS - 1);
        let found = self.free.find_run(self.run_floors[floor], pages);
        if floor as u32 == pages {
            self.run_floors[floor] = found.unwrap_or(self.end);
        }
        let first = found?;
        self.take(first, pages);
        Some(first)
    }

    fn grow(&mut self, pages: u32) -> u32 {
        let first = self.end;
        assert!(u64::from(first) + u64::from(pages) <= u64::from(FILE_PAGES_MAX), "the page file is at its largest");
        self.end += pages;
        first
    }

    fn set_live(&mut self, first: PageId, pages: u32) {
        let newly = self.live.set(first.0, pages);
        assert!(newly == pages, "pages {}..+{pages} were given out twice", first.0);
        self.live_pages += pages;
        self.touch(first, pages);
    }

    fn clear_live(&mut self, first: PageId, pages: u32) {
        let cleared = self.live.clear(first.0, pages);
        assert!(cleared == pages, "pages {}..+{pages} were let go twice", first.0);
        self.live_pages -= pages;
        self.touch(first, pages);
    }

    fn touch(&mut self, first: PageId, pages: u32) {
        for chunk in first.0 / CHUNK_PAGES..=(first.0 + pages - 1) / CHUNK_PAGES {
            self.touch_chunk(chunk as usize);
        }
    }

    /// Has a bitmap page written anew by the next checkpoint.
    pub fn touch_chunk(&mut self, chunk: usize) {
        while self.chunks.len() <= chunk {
            self.chunks.push(Slab { at: None, changed: true, placed: false });
            if self.directories.len() * DIRECTORY_CHUNKS < self.chunks.len() {
                self.directories.push(Slab::default());
            }
        }
        self.chunks[chunk].changed = true;
        self.directories[chunk / DIRECTORY_CHUNKS].changed = true;
    }

    /// Lets go of pages that nobody but the current state has ever seen.
    pub fn free_now(&mut self, first: PageId, pages: u32) {
        self.clear_live(first, pages);
        self.set_free(first.0, pages);
        if pages > 1 && self.recent_runs.len() < RECENT_RUNS_MAX {
            self.recent_runs.push((first.0, pages));
        }
    }

    /// Lets go of pages that a checkpoint or a view may still reach.
    pub fn free_later(&mut self, extent: Extent) {
        self.clear_live(extent.first, extent.pages);
        self.pending.push_back(extent);
    }

    fn set_free(&mut self, first: u32, pages: u32) {
        assert!(first + pages <= self.end);
        let newly = self.free.set(first, pages);
        assert!(newly == pages, "pages {first}..+{pages} were freed twice");
        self.free_pages += pages;
        self.lowest_word = self.lowest_word.min((first / 64) as usize);
    }

    /// Gives out again what checkpoints up to `durable` let go of and no view pins; `released` hears of each.
    pub fn release(&mut self, durable: u64, pinned: impl Fn(&Extent) -> bool, mut released: impl FnMut(&Extent)) {
        let held = std::mem::take(&mut self.held);
        let mut ready = held;
        while self.pending.front().is_some_and(|extent| extent.freed <= durable) {
            ready.extend(self.pending.pop_front());
        }
        for extent in ready {
            if pinned(&extent) {
                self.held.push(extent);
            } else {
                self.set_free(extent.first.0, extent.pages);
                released(&extent);
            }
        }
        self.run_floors = [0; RUN_FLOORS];
        self.recent_runs.clear();
        self.trim();
    }

    fn take(&mut self, first: u32, pages: u32) {
        self.free.clear(first, pages);
        self.free_pages -= pages;
    }

    /// Gives the free pages at the end back to the file system.
    fn trim(&mut self) {
        while self.end > FIRST_PAGE && self.free.get(self.end - 1) {
            self.take(self.end - 1, 1);
            self.end -= 1;
        }
    }
}
