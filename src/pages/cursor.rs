//! Walking a tree in key order.

use super::cache::FrameIndex;
use super::page;
use super::read::Path;
use super::{Fault, PageId, PageRef, Root, Store, branch, leaf};

/// An entry that a cursor stands at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Item<'a> {
    /// The whole key.
    pub key: &'a [u8],
    /// The value; of a cursor over heads, its beginning.
    pub value: &'a [u8],
    /// The length of the whole value.
    pub value_bytes: usize,
    /// What the entry counts for.
    pub weight: u32,
}

/// A place in a tree: at an entry, or at none (before the first call, and past either end).
///
/// A fault leaves it where it was: read the page, install it, and seek again.
pub struct Cursor<'a> {
    store: &'a Store,
    root: Root,
    path: Path,
    heads: bool,
    item: Option<Item<'a>>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(store: &'a Store, root: Root) -> Cursor<'a> {
        Cursor { store, root, path: Path::new(), heads: false, item: None }
    }

    /// Yields only the beginning of values (at least [`VALUE_HEAD_BYTES`](super::VALUE_HEAD_BYTES), where they have as many), and never
    /// reads overflow pages for them.
    #[must_use]
    pub fn heads(mut self) -> Cursor<'a> {
        self.heads = true;
        self
    }

    /// The entry that the cursor stands at, as (key, value, weight).
    #[inline]
    pub fn entry(&self) -> Option<(&'a [u8], &'a [u8], u32)> {
        self.item.map(|item| (item.key, item.value, item.weight))
    }

    /// The entry that the cursor stands at.
    #[inline]
    pub fn item(&self) -> Option<Item<'a>> {
        self.item
    }

    /// The leaf that holds the entry that the cursor stands at.
    pub fn page(&self) -> Option<PageId> {
        self.item.map(|_| self.store.cache.id(self.path.leaf().0))
    }

    /// Goes to the first entry whose key is not below `key`.
    pub fn seek(&mut self, key: &[u8]) -> Result<(), Fault> {
        match self.path_to(key)? {
            Some(path) => self.settle_forward(path),
            None => Ok(()),
        }
    }

    /// Where `key` is or would be; None in an empty tree, where the cursor is at no entry.
    fn path_to(&mut self, key: &[u8]) -> Result<Option<Path>, Fault> {
        if self.root.is_empty() {
            self.item = None;
            return Ok(None);
        }
        let mut path = Path::new();
        self.store.descend(&self.root, key, &mut path)?;
        Ok(Some(path))
    }

    /// Goes to the last entry of the tree.
    pub fn seek_last(&mut self) -> Result<(), Fault> {
        if self.root.is_empty() {
            self.item = None;
            return Ok(());
        }
        let mut path = Path::new();
        self.down(&mut path, self.root.at, self.root.level, false)?;
        self.settle(path)
    }

    /// Goes to the next entry.
    ///
    /// # Panics
    /// When the cursor is at no entry.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not tell a fault from the end")]
    pub fn next(&mut self) -> Result<(), Fault> {
        assert!(self.item.is_some(), "next at no entry");
        let (frame, slot) = self.path.leaf();
        if slot + 1 < page::cells(self.store.cache.page(frame)) {
            self.item = Some(self.take(frame, slot + 1)?);
            self.path.steps[self.path.len - 1].slot += 1;
            return Ok(());
        }
        let mut path = self.path;
        path.steps[path.len - 1].slot += 1;
        self.settle_forward(path)
    }

    /// Goes to the entry before.
    ///
    /// # Panics
    /// When the cursor is at no entry.
    pub fn prev(&mut self) -> Result<(), Fault> {
        assert!(self.item.is_some(), "prev at no entry");
        self.settle_backward(self.path)
    }

    /// Goes to the last entry whose key is below `key`.
    pub fn seek_before(&mut self, key: &[u8]) -> Result<(), Fault> {
        match self.path_to(key)? {
            Some(path) => self.settle_backward(path),
            None => Ok(()),
        }
    }

    /// From a slot, goes to the entry before it.
    fn settle_backward(&mut self, mut path: Path) -> Result<(), Fault> {
        let last = path.len - 1;
        if path.steps[last].slot > 0 {
            path.steps[last].slot -= 1;
            return self.settle(path);
        }
        while path.len > 1 {
            path.len -= 1;
            let step = &mut path.steps[path.len - 1];
            if step.slot > 0 {
                step.slot -= 1;
                let (at, level) = self.child(&path);
                self.down(&mut path, at, level, false)?;
                return self.settle(path);
            }
        }
        self.item = None;
        Ok(())
    }

    /// The child that the path's last step has taken, and its level.
    fn child(&self, path: &Path) -> (PageRef, u8) {
        let (frame, slot) = path.leaf();
        let page = self.store.cache.page(frame);
        (branch::child(page, page::cell_at(page, slot)), page::level(page) - 1)
    }

    /// Goes on down to the first or last entry below a page.
    fn down(&self, path: &mut Path, mut at: PageRef, mut level: u8, first: bool) -> Result<(), Fault> {
        loop {
            let frame = self.store.load(at, level)?;
            let page = self.store.cache.page(frame);
            path.push(frame, if first { 0 } else { page::cells(page) - 1 });
            if level == 0 {
                return Ok(());
            }
            (at, level) = self.child(path);
        }
    }

    /// From a slot that may be one past the leaf's last, goes to the entry there or to the next leaf's first.
    fn settle_forward(&mut self, mut path: Path) -> Result<(), Fault> {
        let (frame, slot) = path.leaf();
        if slot < page::cells(self.store.cache.page(frame)) {
            return self.settle(path);
        }
        while path.len > 1 {
            path.len -= 1;
            let step = &mut path.steps[path.len - 1];
            step.slot += 1;
            if (step.slot as usize) < page::cells(self.store.cache.page(step.frame)) {
                let (at, level) = self.child(&path);
                self.down(&mut path, at, level, true)?;
                return self.settle(path);
            }
        }
        self.item = None;
        Ok(())
    }

    /// Goes to the entry at the path's end.
    fn settle(&mut self, path: Path) -> Result<(), Fault> {
        let (frame, slot) = path.leaf();
        self.item = Some(self.take(frame, slot)?);
        self.path = path;
        Ok(())
    }

    fn take(&self, frame: FrameIndex, slot: usize) -> Result<Item<'a>, Fault> {
        let store = self.store;
        let page = store.cache.page(frame);
        let at = page::cell_at(page, slot);
        let key = match leaf::key_run(page, at) {
            None => leaf::key(page, at).0,
            Some(run) => store.load_run(run)?,
        };
        let run = leaf::value_run(page, at);
        let value = match run {
            Some(run) if !self.heads => store.load_run(run)?,
            _ => leaf::value(page, at),
        };
        let value_bytes = run.map_or(value.len(), |run| run.bytes as usize);
        Ok(Item { key, value, value_bytes, weight: leaf::weight(page, at) })
    }
}
