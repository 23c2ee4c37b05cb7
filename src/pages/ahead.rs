//! Which leaves a walk over a range will come to and that are not in memory, so that they are read side by side.

use super::page::{self, Kind};
use super::{Fault, PageRef, Reader, Tree, branch};

/// What is left to find.
struct Ahead<'a> {
    to: Option<&'a [u8]>,
    pages_left: usize,
    entries_left: u64,
    wanted: Vec<Fault>,
}

impl Reader<'_> {
    /// The pages on the way from `from` up to `to` that are not in memory, as far as the branches above them are: at most `pages`, and
    /// none behind `entries` entries.
    pub fn ahead(&self, tree: Tree, from: &[u8], to: Option<&[u8]>, pages: usize, entries: u64) -> Vec<Fault> {
        let root = &self.roots[tree.slot()];
        let mut ahead = Ahead { to, pages_left: pages, entries_left: entries, wanted: Vec::new() };
        if !root.is_empty() && pages > 0 {
            self.look(root.at, root.level, Some(from), &mut ahead);
        }
        ahead.wanted
    }

    /// Looks at what is below a page, from `from` on. Whether to go on behind it.
    fn look(&self, at: PageRef, level: u8, from: Option<&[u8]>, ahead: &mut Ahead<'_>) -> bool {
        let store = self.store;
        let Some(frame) = store.cache.find(at.page) else {
            ahead.wanted.push(store.fault(at, 1, if level == 0 { Kind::Leaf } else { Kind::Branch }, level));
            ahead.pages_left -= 1;
            // What is below a branch shows when it is there.
            return level == 0 && ahead.pages_left > 0;
        };
        if level == 0 {
            return true;
        }
        let page = store.cache.page(frame);
        // A long key that would have to be read ends the search.
        let Ok(first) = from.map_or(Ok(0), |from| store.search_branch(page, from)) else { return false };
        for slot in first..page::cells(page) {
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
