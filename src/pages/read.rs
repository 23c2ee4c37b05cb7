//! Reading: the way down a tree, search in a page, gets and sums.

use std::cmp::Ordering;

use super::cache::FrameIndex;
use super::page::{self, HEADER_BYTES, Kind, Page};
use super::{Cursor, Entry, Expect, Fault, Head, PageId, PageRef, Root, RunRef, Store, Sums, Tree, branch, hints, leaf};
use crate::base::limits::{TREE_LEVELS_MAX, TREES_MAX};

/// One level of a way down: a page in memory, and the slot taken in it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Step {
    pub frame: FrameIndex,
    pub slot: u16,
}

/// A way from the root of a tree to a slot of a leaf.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub steps: [Step; TREE_LEVELS_MAX],
    pub len: usize,
}

impl Path {
    pub const fn new() -> Path {
        Path { steps: [Step { frame: 0, slot: 0 }; TREE_LEVELS_MAX], len: 0 }
    }

    #[inline]
    pub fn push(&mut self, frame: FrameIndex, slot: usize) {
        self.steps[self.len] = Step { frame, slot: slot as u16 };
        self.len += 1;
    }

    /// The last step: the leaf.
    #[inline]
    pub fn leaf(&self) -> (FrameIndex, usize) {
        let step = self.steps[self.len - 1];
        (step.frame, step.slot as usize)
    }
}

/// The trees of a store at one state: as they are now, or as a view pinned them.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pub(super) store: &'a Store,
    pub(super) roots: &'a [Root; TREES_MAX],
}

impl<'a> Reader<'a> {
    /// What the key maps to.
    #[inline]
    pub fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Entry<'a>>, Fault> {
        let store = self.store;
        let Some((frame, slot)) = store.find(&self.roots[tree.slot()], key)? else { return Ok(None) };
        let page = store.cache.page(frame);
        let at = page::cell_at(page, slot);
        let value = match leaf::value_run(page, at) {
            None => leaf::value(page, at),
            Some(run) => store.load_run(run)?,
        };
        Ok(Some(Entry { value, weight: leaf::weight(page, at) }))
    }

    /// As [`Reader::get`], for an entry that is never changed as long as it is there: looks first in `page`, where it was once put.
    ///
    /// What is found there holds, wherever the entry is by now: every copy of it says the same. Only a value's run may have gone.
    #[inline]
    pub fn get_near(&self, tree: Tree, key: &[u8], page: PageId) -> Result<Option<Entry<'a>>, Fault> {
        let store = self.store;
        if let Some(frame) = store.cache.find(page) {
            let page = store.cache.page(frame);
            if Kind::of(page) == Some(Kind::Leaf)
                && page::tree(page) == tree.0
                && let Ok((slot, true)) = store.search(page, key)
                && let at = page::cell_at(page, slot)
                && leaf::value_run(page, at).is_none()
            {
                return Ok(Some(Entry { value: leaf::value(page, at), weight: leaf::weight(page, at) }));
            }
        }
        self.get(tree, key)
    }

    /// The beginning of what the key maps to; never reads overflow pages for it.
    pub fn get_head(&self, tree: Tree, key: &[u8]) -> Result<Option<Head<'a>>, Fault> {
        let store = self.store;
        let Some((frame, slot)) = store.find(&self.roots[tree.slot()], key)? else { return Ok(None) };
        let page = store.cache.page(frame);
        let at = page::cell_at(page, slot);
        let bytes = leaf::value(page, at);
        let value_bytes = leaf::value_run(page, at).map_or(bytes.len(), |run| run.bytes as usize);
        Ok(Some(Head { bytes, value_bytes, weight: leaf::weight(page, at) }))
    }

    /// A cursor, not yet at any entry.
    pub fn cursor(&self, tree: Tree) -> Cursor<'a> {
        Cursor::new(self.store, self.roots[tree.slot()])
    }

    /// The number of entries of the tree and the sum of their weights.
    pub fn len(&self, tree: Tree) -> Sums {
        self.roots[tree.slot()].sums
    }

    /// The number of entries with `from <= key`, and `key < to` if there is a `to`, and the sum of their weights.
    pub fn sums(&self, tree: Tree, from: &[u8], to: Option<&[u8]>) -> Result<Sums, Fault> {
        let root = &self.roots[tree.slot()];
        if to.is_some_and(|to| to <= from) {
            return Ok(Sums::default());
        }
        let upper = match to {
            Some(to) => self.store.sums_before(root, to)?,
            None => root.sums,
        };
        if from.is_empty() {
            return Ok(upper);
        }
        Ok(upper.minus(self.store.sums_before(root, from)?))
    }
}

impl Store {
    /// The frame of a page, or the fault that asks for it.
    #[inline]
    pub(super) fn load(&self, at: PageRef, level: u8) -> Result<FrameIndex, Fault> {
        match self.cache.find(at.page) {
            Some(frame) => Ok(frame),
            None => Err(self.fault(at, 1, if level == 0 { Kind::Leaf } else { Kind::Branch }, level)),
        }
    }

    #[cold]
    pub(super) fn fault(&self, at: PageRef, pages: u32, kind: Kind, level: u8) -> Fault {
        let expect = Expect { generation: at.generation, kind, level, issued: self.building };
        Fault { first: at.page, pages, expect }
    }

    /// The frame of a run.
    pub(super) fn load_run_frame(&self, run: RunRef) -> Result<FrameIndex, Fault> {
        match self.cache.find(run.at.page) {
            Some(frame) => Ok(frame),
            None => Err(self.fault(run.at, leaf::run_pages(run.bytes as usize), Kind::Overflow, 0)),
        }
    }

    /// What a run holds.
    pub(super) fn load_run(&self, run: RunRef) -> Result<&[u8], Fault> {
        let frame = self.load_run_frame(run)?;
        Ok(&self.cache.bytes(frame)[HEADER_BYTES..HEADER_BYTES + run.bytes as usize])
    }

    /// The first slot (of a branch: from the second on) whose key is not below `key`, and whether it is the key.
    #[inline]
    fn search(&self, page: &Page, key: &[u8]) -> Result<(usize, bool), Fault> {
        hints::touch(page);
        let (first, count, prefix) = (hints::first(page), page::cells(page), hints::prefix(page));
        if first == count {
            return Ok((count, false));
        }
        let hint = hints::of(key.get(prefix..).unwrap_or(&[]));
        let mut low = hints::lower_bound(page, first, count, hint);
        if prefix > 0 {
            let shared = &page::key(page, low.min(count - 1))[..prefix];
            match key[..prefix.min(key.len())].cmp(shared) {
                Ordering::Less => return Ok((first, false)),
                Ordering::Greater => return Ok((count, false)),
                Ordering::Equal => {}
            }
        }
        // Most often, at most one key has the hint; several versions of one key have it, too.
        let mut high = low;
        if low < count && hints::get(page, low) == hint {
            high += 1;
            if high < count && hints::get(page, high) == hint {
                high = hint.checked_add(1).map_or(count, |next| hints::lower_bound(page, high, count, next));
            }
        }
        while low < high {
            let middle = (low + high) / 2;
            match self.compare(page, middle, key)? {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok((middle, true)),
                Ordering::Greater => high = middle,
            }
        }
        Ok((low, false))
    }

    /// Compares the key of a cell with `key`. Needs a long key's run only when its first bytes do not decide.
    #[inline]
    fn compare(&self, page: &Page, slot: usize, key: &[u8]) -> Result<Ordering, Fault> {
        let at = page::cell_at(page, slot);
        let is_leaf = page::level(page) == 0;
        let (inline, long) = if is_leaf { leaf::key(page, at) } else { branch::key(page, at) };
        if !long {
            return Ok(inline.cmp(key));
        }
        if key.len() <= inline.len() {
            return Ok(inline.cmp(key).then(Ordering::Greater));
        }
        match inline.cmp(&key[..inline.len()]) {
            Ordering::Equal => {
                let run = if is_leaf { leaf::key_run(page, at) } else { branch::key_run(page, at) };
                Ok(self.load_run(run.expect("a long key has a run"))?.cmp(key))
            }
            decided => Ok(decided),
        }
    }

    /// The slot of a branch whose child may hold `key`: the last whose key is not above it.
    #[inline]
    pub(super) fn search_branch(&self, page: &Page, key: &[u8]) -> Result<usize, Fault> {
        let (slot, found) = self.search(page, key)?;
        Ok(if found { slot } else { slot - 1 })
    }

    /// Walks down to where `key` is or would be, into `path`. Whether it is there. The tree is not empty.
    #[inline]
    pub(super) fn descend(&self, root: &Root, key: &[u8], path: &mut Path) -> Result<bool, Fault> {
        let (mut at, mut level) = (root.at, root.level);
        while level > 0 {
            let frame = self.load(at, level)?;
            let page = self.cache.page(frame);
            let slot = self.search_branch(page, key)?;
            path.push(frame, slot);
            at = branch::child(page, page::cell_at(page, slot));
            level -= 1;
        }
        let frame = self.load(at, 0)?;
        let (slot, found) = self.search(self.cache.page(frame), key)?;
        path.push(frame, slot);
        Ok(found)
    }

    /// The leaf and slot of a key.
    #[inline]
    fn find(&self, root: &Root, key: &[u8]) -> Result<Option<(FrameIndex, usize)>, Fault> {
        if root.is_empty() {
            return Ok(None);
        }
        let (mut at, mut level) = (root.at, root.level);
        while level > 0 {
            let page = self.cache.page(self.load(at, level)?);
            let slot = self.search_branch(page, key)?;
            at = branch::child(page, page::cell_at(page, slot));
            level -= 1;
        }
        let frame = self.load(at, 0)?;
        let (slot, found) = self.search(self.cache.page(frame), key)?;
        Ok(found.then_some((frame, slot)))
    }

    /// The sums of all entries below `key`.
    fn sums_before(&self, root: &Root, key: &[u8]) -> Result<Sums, Fault> {
        let mut before = Sums::default();
        if root.is_empty() {
            return Ok(before);
        }
        let mut path = Path::new();
        self.descend(root, key, &mut path)?;
        for (depth, step) in path.steps[..path.len].iter().enumerate() {
            let page = self.cache.page(step.frame);
            let of = if depth + 1 == path.len { leaf_sums } else { branch_sums };
            before.add(of(page, 0, step.slot as usize));
        }
        Ok(before)
    }
}

/// The sums of the cells `from..to` of a branch.
pub(super) fn branch_sums(page: &Page, from: usize, to: usize) -> Sums {
    (from..to).fold(Sums::default(), |sums, slot| sums.plus(branch::sums(page, page::cell_at(page, slot))))
}

/// The sums of the cells `from..to` of a leaf.
pub(super) fn leaf_sums(page: &Page, from: usize, to: usize) -> Sums {
    let weight = (from..to).map(|slot| u64::from(leaf::weight(page, page::cell_at(page, slot)))).sum();
    Sums { entries: (to - from) as u64, weight }
}

/// The sums of everything below a leaf or branch.
pub(super) fn page_sums(page: &Page) -> Sums {
    let all = page::cells(page);
    if page::level(page) == 0 { leaf_sums(page, 0, all) } else { branch_sums(page, 0, all) }
}
