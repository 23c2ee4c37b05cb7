//! What all changes are made of: taking and letting go of pages, and making a way down changeable.

use super::branch;
use super::cache::FrameIndex;
use super::leaf::{self, run_pages};
use super::page::{self, HEADER_BYTES, Kind};
use super::read::Path;
use super::space::Extent;
use super::{PageId, PageRef, RunRef, Store, Sums, Tree};
use crate::base::AlignedBuffer;
use crate::base::limits::PAGE_BYTES;
use crate::base::mutant::{self, Mutant};

/// A change of sums, the same on all levels of a way down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Delta {
    pub entries: i64,
    pub weight: i64,
}

impl Delta {
    fn of(self, sums: Sums) -> Sums {
        let entries = sums.entries.checked_add_signed(self.entries).expect("a tree has as many entries as its sums say");
        let weight = sums.weight.checked_add_signed(self.weight).expect("a tree weighs as much as its sums say");
        Sums { entries, weight }
    }
}

impl Store {
    /// Takes pages for something new.
    pub(super) fn allocate(&mut self, pages: u32) -> PageId {
        let first = self.space.allocate(pages);
        self.taken(first)
    }

    /// Takes the lowest free page.
    pub(super) fn allocate_lowest(&mut self) -> PageId {
        let page = self.space.allocate_lowest();
        self.taken(page)
    }

    /// A read that came in late may have left in memory what was on these pages before.
    fn taken(&mut self, first: PageId) -> PageId {
        self.cache.forget(first);
        first
    }

    /// Lets go of a page or run that the current state no longer reaches.
    pub(super) fn release(&mut self, first: PageId, pages: u32, generation: u32) {
        let born = self.full_generation(generation);
        let epoch = self.cache.find(first).map(|frame| self.cache.epoch(frame));
        if epoch == Some(self.epochs.now) {
            self.cache.forget(first);
            self.space.free_now(first, pages);
            return;
        }
        let clean = epoch.is_some_and(|epoch| epoch <= self.epochs.durable);
        if clean && self.views.is_empty() {
            self.cache.forget(first);
        } else if epoch.is_some_and(|epoch| epoch <= self.epochs.begun) && self.views.is_empty() {
            self.cache.retire(first);
        }
        #[cfg(test)]
        if self.options.mutant == Some(super::Mutant::PendingPageReused) && clean {
            self.cache.forget(first);
            self.space.free_now(first, pages);
            return;
        }
        if mutant::on(Mutant::PinnedPageReused) && epoch.is_none_or(|epoch| epoch <= self.epochs.durable) {
            if epoch.is_some() {
                self.cache.forget(first);
            }
            self.space.free_now(first, pages);
            return;
        }
        self.space.free_later(Extent { first, pages, born, freed: self.building });
    }

    /// The checkpoint whose low bits these are: the newest that it can be.
    fn full_generation(&self, low: u32) -> u64 {
        let age = (self.building as u32).wrapping_sub(low);
        self.building.saturating_sub(u64::from(age))
    }

    pub(super) fn release_run(&mut self, run: RunRef) {
        self.release(run.at.page, run_pages(run.bytes as usize), run.at.generation);
    }

    /// A new, empty, dirty page.
    pub(super) fn new_page(&mut self, tree: Tree, level: u8) -> FrameIndex {
        let id = self.allocate(1);
        let mut buffer = self.cache.take_spare();
        let kind = if level == 0 { Kind::Leaf } else { Kind::Branch };
        page::init(&mut buffer, kind, level, tree.0, 0);
        page::set_place(&mut buffer, id, self.building);
        self.cache.add(id, buffer, self.epochs.now)
    }

    /// A new run that holds these parts, one behind the other.
    pub(super) fn new_run(&mut self, tree: Tree, parts: &[&[u8]]) -> RunRef {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let pages = run_pages(bytes);
        let first = self.allocate(pages);
        let mut buffer = AlignedBuffer::zeroed(pages as usize * PAGE_BYTES);
        page::init(&mut buffer, Kind::Overflow, 0, tree.0, bytes as u32);
        page::set_place(&mut buffer, first, self.building);
        let mut at = HEADER_BYTES;
        for part in parts {
            buffer[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.cache.add(first, buffer, self.epochs.now);
        RunRef { at: PageRef { page: first, generation: self.building as u32 }, bytes: bytes as u32 }
    }

    /// Whether nobody but the current state sees this frame.
    #[inline]
    pub(super) fn is_writable(&self, frame: FrameIndex) -> bool {
        self.cache.epoch(frame) == self.epochs.now
    }

    /// Moves a page or run to other pages of the file, where it may be changed. Where it was is let go of.
    pub(super) fn relocate(&mut self, frame: FrameIndex) -> FrameIndex {
        let id = self.allocate(self.cache.pages(frame));
        self.relocate_to(frame, id)
    }

    /// Moves a page or run to these pages, which were allocated for it.
    pub(super) fn relocate_to(&mut self, frame: FrameIndex, id: PageId) -> FrameIndex {
        let (old, pages) = (self.cache.id(frame), self.cache.pages(frame));
        let generation = page::generation(self.cache.bytes(frame)) as u32;
        let moved = if self.cache.is_movable(frame, self.epochs, !self.views.is_empty()) {
            self.cache.rename(frame, id, self.epochs.now);
            frame
        } else {
            self.cache.copy(frame, id, self.epochs.now)
        };
        page::set_place(self.cache.bytes_mut(moved), id, self.building);
        self.release(old, pages, generation);
        moved
    }

    /// Makes all pages of a way down changeable, and lets each name the one below where it now is.
    #[inline]
    pub(super) fn make_writable(&mut self, tree: Tree, path: &mut Path) {
        self.changes += 1;
        // Above a page that may be changed, all may.
        if self.is_writable(path.leaf().0) {
            return;
        }
        self.make_path_writable(tree, path);
    }

    fn make_path_writable(&mut self, tree: Tree, path: &mut Path) {
        for depth in 0..path.len {
            let frame = path.steps[depth].frame;
            if self.is_writable(frame) {
                continue;
            }
            let moved = self.relocate(frame);
            self.rewritten += 1;
            path.steps[depth].frame = moved;
            self.set_reference(tree, path, depth, self.cache.reference(moved));
        }
    }

    /// Lets what is above the step at `depth` name its page as this one.
    pub(super) fn set_reference(&mut self, tree: Tree, path: &Path, depth: usize, at: PageRef) {
        if depth == 0 {
            self.roots[tree.slot()].at = at;
        } else {
            let above = path.steps[depth - 1];
            self.set_child(above.frame, above.slot as usize, at);
        }
    }

    pub(super) fn set_child(&mut self, frame: FrameIndex, slot: usize, at: PageRef) {
        let page = self.cache.page_mut(frame);
        let cell = page::cell_at(page, slot);
        branch::set_child(page, cell, at);
    }

    pub(super) fn set_child_sums(&mut self, frame: FrameIndex, slot: usize, sums: Sums) {
        let page = self.cache.page_mut(frame);
        let cell = page::cell_at(page, slot);
        branch::set_sums(page, cell, sums);
    }

    /// Adds a change to the sums of the tree and of the first `depth` steps of a way down.
    #[inline]
    pub(super) fn add_up(&mut self, tree: Tree, path: &Path, depth: usize, delta: Delta) {
        if delta == (Delta { entries: 0, weight: 0 }) {
            return;
        }
        for step in &path.steps[..depth] {
            let page = self.cache.page_mut(step.frame);
            let cell = page::cell_at(page, step.slot as usize);
            let sums = delta.of(branch::sums(page, cell));
            branch::set_sums(page, cell, sums);
        }
        let sums = &mut self.roots[tree.slot()].sums;
        *sums = delta.of(*sums);
    }

    /// The runs of a leaf's cell.
    pub(super) fn cell_runs(&self, frame: FrameIndex, slot: usize) -> (Option<RunRef>, Option<RunRef>) {
        let page = self.cache.page(frame);
        let at = page::cell_at(page, slot);
        (leaf::key_run(page, at), leaf::value_run(page, at))
    }
}
