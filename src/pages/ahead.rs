//! Which leaves a walk over a range will come to and that are not in memory, so that they are read side by side.

use super::page::{self, Kind};
use super::{Fault, PageRef, Reader, Tree, branch};

/// What is left to find.
struct Ahead<'a> {
    is_down: bool,
    to: Option<&'a [u8]>,
    pages_left: usize,
    entries_left: u64,
    wanted: Vec<Fault>,
}

impl Reader<'_> {
    /// Those of the next `pages` pages on the way from `from` up to `to` that are not in memory, as far as the branches above them are;
    /// none behind `entries` entries.
    pub fn ahead(&self, tree: Tree, from: &[u8], to: Option<&[u8]>, pages: usize, entries: u64) -> Vec<Fault> {
        let ahead = Ahead { is_down: false, to, pages_left: pages, entries_left: entries, wanted: Vec::new() };
        self.look_from_root(tree, Some(from), ahead)
    }

    /// Those of the next `pages` pages on the way down from `from` (None: from the last entry) that are not in memory, as far as the
    /// branches above them are.
    pub fn ahead_down(&self, tree: Tree, from: Option<&[u8]>, pages: usize) -> Vec<Fault> {
        let ahead = Ahead { is_down: true, to: None, pages_left: pages, entries_left: u64::MAX, wanted: Vec::new() };
        self.look_from_root(tree, from, ahead)
    }

    fn look_from_root(&self, tree: Tree, from: Option<&[u8]>, mut ahead: Ahead<'_>) -> Vec<Fault> {
        let root = &self.roots[tree.slot()];
        if !root.is_empty() && ahead.pages_left > 0 {
            self.look(root.at, root.level, from, &mut ahead);
        }
        ahead.wanted
    }

    /// Looks at what is below a page, from `from` on. Whether to go on behind it.
    fn look(&self, at: PageRef, level: u8, from: Option<&[u8]>, ahead: &mut Ahead<'_>) -> bool {
        let store = self.store;
        let found = store.cache.find(at.page);
        if found.is_none() {
            ahead.wanted.push(store.fault(at, 1, if level == 0 { Kind::Leaf } else { Kind::Branch }, level));
        }
        if level == 0 {
            ahead.pages_left -= 1;
            return ahead.pages_left > 0;
        }
        // What is below a branch shows when it is there.
        let Some(frame) = found else { return false };
        let page = store.cache.page(frame);
        let is_down = ahead.is_down;
        let start = if is_down { page::cells(page) - 1 } else { 0 };
        // A long key that would have to be read ends the search.
        let Ok(first) = from.map_or(Ok(start), |from| store.search_branch(page, from)) else { return false };
        let count = if is_down { first + 1 } else { page::cells(page) - first };
        for slot in (0..count).map(|nth| if is_down { first - nth } else { first + nth }) {
            let cell = page::cell_at(page, slot);
            let is_behind = slot > first && ahead.to.is_some_and(|to| branch::key(page, cell).0 >= to);
            if is_behind || ahead.entries_left == 0 {
                return false;
            }
            if !self.look(branch::child(page, cell), level - 1, from.filter(|_| slot == first), ahead) {
                return false;
            }
            if level == 1 {
                ahead.entries_left = ahead.entries_left.saturating_sub(branch::sums(page, cell).entries);
            }
        }
        true
    }
}
