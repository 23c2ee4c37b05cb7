//! Putting entries in: in place where there is room, else by splitting pages.

use super::branch::{self, Separator};
use super::cache::FrameIndex;
use super::leaf::{self, Contents, Shape};
use super::page::{self, Page, ROOM_BYTES, SLOT_BYTES};
use super::read::{Path, page_sums};
use super::write::Delta;
use super::{Fault, PageId, PageRef, Root, Store, Sums, Tree, hints};
use crate::base::limits::{TREE_KEY_BYTES_MAX, TREE_LEVELS_MAX, TREE_VALUE_BYTES_MAX};

/// So many insertions in a row at one place make a page split there.
const STREAK_SPLIT: u8 = 4;

/// A page's cells with a new one among them that has no room.
#[derive(Clone, Copy)]
struct Crowd<'a> {
    page: &'a Page,
    slot: usize,
    /// The new cell takes the place of the one at `slot`.
    replaces: bool,
    image: &'a [u8],
}

impl<'a> Crowd<'a> {
    fn len(&self) -> usize {
        page::cells(self.page) + usize::from(!self.replaces)
    }

    /// The bytes of cell `at`; the new one may be known by its length only.
    fn bytes(&self, at: usize, image_bytes: usize) -> usize {
        match self.old_slot(at) {
            None => image_bytes,
            Some(slot) => page::cell_bytes(self.page, page::cell_at(self.page, slot)),
        }
    }

    fn old_slot(&self, at: usize) -> Option<usize> {
        if at == self.slot {
            None
        } else if at > self.slot && !self.replaces {
            Some(at - 1)
        } else {
            Some(at)
        }
    }

    fn image(&self, at: usize) -> &'a [u8] {
        match self.old_slot(at) {
            None => self.image,
            Some(slot) => page::cell(self.page, page::cell_at(self.page, slot)),
        }
    }

    /// How many cells stay in the left page: both sides fit. A row of insertions at one place leaves the page they come from
    /// full; else the sides are of equal size.
    fn split(&self, image_bytes: usize) -> usize {
        let count = self.len();
        let row = !self.replaces && page::streak(self.page) >= STREAK_SPLIT;
        if !self.replaces && self.slot + 1 == count && page::streak(self.page) > 0 {
            return self.slot;
        }
        let all: usize = (0..count).map(|at| self.bytes(at, image_bytes) + SLOT_BYTES).sum();
        let mut left = 0;
        for at in 0..count {
            let bytes = self.bytes(at, image_bytes) + SLOT_BYTES;
            let here = if row { at > self.slot } else { left + bytes > all / 2 };
            let must = left + bytes > ROOM_BYTES;
            if at > 0 && (here || must) && all - left <= ROOM_BYTES {
                return self.balance(at, left, bytes, all, row);
            }
            left += bytes;
        }
        unreachable!("cells are at most half of a page")
    }

    /// Of the two places around the middle, the more even one.
    fn balance(&self, at: usize, left: usize, bytes: usize, all: usize, row: bool) -> usize {
        let after = left + bytes;
        let better =
            !row && at + 1 < self.len() && after <= ROOM_BYTES && after.abs_diff(all - after) < left.abs_diff(all - left);
        if better { at + 1 } else { at }
    }
}

/// What a split sends up: the new right page and the key before it.
struct Grown {
    separator: Separator,
    right: PageRef,
    right_sums: Sums,
    left_sums: Sums,
}

/// What becomes of an entry that is there already.
#[derive(Clone, Copy, Default)]
struct Old {
    bytes: usize,
    weight: u32,
}

/// Where a key is or would be in a tree, as one walk down found it.
pub struct Location<'k> {
    tree: Tree,
    key: &'k [u8],
    /// The tree as it was then.
    root: Root,
    /// Empty if the tree is.
    path: Path,
    found: bool,
}

impl Location<'_> {
    /// The slot behind, which may be one past the page's last.
    fn behind(&self) -> (FrameIndex, usize) {
        let (frame, slot) = self.path.leaf();
        (frame, slot + usize::from(self.found))
    }
}

impl Store {
    /// Maps the key to the parts of `value`, one behind the other, with this weight; whatever it mapped to is gone.
    ///
    /// # Errors
    /// A fault: nothing has changed.
    ///
    /// # Panics
    /// When key or value is longer than [`TREE_KEY_BYTES_MAX`] or [`TREE_VALUE_BYTES_MAX`]: the caller has refused those.
    pub fn put(&mut self, tree: Tree, key: &[u8], value: &[&[u8]], weight: u32) -> Result<(), Fault> {
        let location = self.locate(tree, key)?;
        self.put_at(location, value, weight, None).map(|_| ())
    }

    /// Finds where `key` is or would be, for [`Store::put_at`].
    ///
    /// # Panics
    /// When the key is longer than [`TREE_KEY_BYTES_MAX`].
    pub fn locate<'k>(&self, tree: Tree, key: &'k [u8]) -> Result<Location<'k>, Fault> {
        assert!(key.len() <= TREE_KEY_BYTES_MAX, "a key of {} bytes", key.len());
        self.load_space()?;
        let root = self.roots[tree.slot()];
        let mut path = Path::new();
        let found = !root.is_empty() && self.descend(&root, key, &mut path)?;
        Ok(Location { tree, key, root, path, found })
    }

    /// The entry behind a location: its key, the beginning of its value, its weight. None when it is not in the same page, or its key
    /// is not in one piece there.
    #[inline]
    pub fn behind(&self, location: &Location<'_>) -> Option<(&[u8], &[u8], u32)> {
        if location.path.len == 0 {
            return None;
        }
        let (frame, slot) = location.behind();
        let page = self.cache.page(frame);
        if slot == page::cells(page) {
            return None;
        }
        let at = page::cell_at(page, slot);
        let (key, long) = leaf::key(page, at);
        (!long).then(|| (key, leaf::value(page, at), leaf::weight(page, at)))
    }

    /// [`Store::put`] where [`Store::locate`] found the key, nothing having changed since. `behind`: the weight that the entry
    /// [behind](Store::behind) gets; it takes the same space as the one it has. Gives the leaf that holds the entry now.
    ///
    /// # Errors
    /// A fault: nothing has changed.
    ///
    /// # Panics
    /// As [`Store::put`].
    pub fn put_at(
        &mut self,
        location: Location<'_>,
        value: &[&[u8]],
        weight: u32,
        behind: Option<u32>,
    ) -> Result<PageId, Fault> {
        let Location { tree, key, root, mut path, found } = location;
        assert!(self.roots[tree.slot()] == root, "the tree has changed since the key was located");
        let value_bytes: usize = value.iter().map(|part| part.len()).sum();
        assert!(value_bytes <= TREE_VALUE_BYTES_MAX, "a value of {value_bytes} bytes");
        let shape = Shape::of(key.len(), value_bytes, weight);
        if root.is_empty() {
            return Ok(self.put_first(tree, &shape, key, value, weight));
        }
        let (frame, slot) = path.leaf();
        let old = self.old_entry(frame, slot, found);
        let split = self.plan_split(frame, slot, found, key, shape.bytes)?;
        // Nothing below fails.
        self.make_writable(tree, &mut path);
        let (frame, slot) = path.leaf();
        let (old_key_run, old_value_run) = if found { self.cell_runs(frame, slot) } else { (None, None) };
        if let Some(run) = old_value_run {
            self.release_run(run);
        }
        let key_run = old_key_run.or_else(|| shape.long_key.then(|| self.new_run(tree, &[key])));
        let value_run = shape.long_value.then(|| self.new_run(tree, value));
        let mut image = std::mem::take(&mut self.scratch);
        leaf::build(&mut image, &shape, &Contents { key, key_run, value, value_run, weight });
        let more = behind.map_or(0, |weight| self.reweigh(frame, slot + usize::from(found), weight));
        let delta = Delta { entries: i64::from(!found), weight: i64::from(weight) - i64::from(old.weight) + more };
        let leaf = self.place(tree, &path, found, &image, split, delta);
        self.scratch = image;
        Ok(self.cache.id(leaf))
    }

    /// Gives the cell another weight, in its place. By how much that is more.
    fn reweigh(&mut self, frame: FrameIndex, slot: usize, weight: u32) -> i64 {
        let page = self.cache.page_mut(frame);
        let at = page::cell_at(page, slot);
        let old = leaf::weight(page, at);
        leaf::set_weight(page, at, weight);
        i64::from(weight) - i64::from(old)
    }

    /// Gives the key's entry another weight. Whether there is one.
    pub fn set_weight(&mut self, tree: Tree, key: &[u8], weight: u32) -> Result<bool, Fault> {
        self.load_space()?;
        let root = self.roots[tree.slot()];
        let mut path = Path::new();
        if root.is_empty() || !self.descend(&root, key, &mut path)? {
            return Ok(false);
        }
        let (frame, slot) = path.leaf();
        let page = self.cache.page(frame);
        let at = page::cell_at(page, slot);
        let old_weight = leaf::weight(page, at);
        if old_weight == weight {
            return Ok(true);
        }
        let shape = leaf::reshape(page, at, weight);
        let in_place = shape.bytes == leaf::cell_bytes(page, at);
        let value = if in_place { Vec::new() } else { leaf::value(page, at).to_vec() };
        let split = self.plan_split(frame, slot, true, key, shape.bytes)?;
        // Nothing below fails.
        self.make_writable(tree, &mut path);
        let delta = Delta { entries: 0, weight: i64::from(weight) - i64::from(old_weight) };
        let (frame, slot) = path.leaf();
        if in_place {
            self.reweigh(frame, slot, weight);
            self.add_up(tree, &path, path.len - 1, delta);
            return Ok(true);
        }
        let (key_run, value_run) = self.cell_runs(frame, slot);
        let mut image = std::mem::take(&mut self.scratch);
        leaf::build(&mut image, &shape, &Contents { key, key_run, value: &[&value], value_run, weight });
        self.place(tree, &path, true, &image, split, delta);
        self.scratch = image;
        Ok(true)
    }

    fn put_first(&mut self, tree: Tree, shape: &Shape, key: &[u8], value: &[&[u8]], weight: u32) -> PageId {
        let key_run = shape.long_key.then(|| self.new_run(tree, &[key]));
        let value_run = shape.long_value.then(|| self.new_run(tree, value));
        let mut image = std::mem::take(&mut self.scratch);
        leaf::build(&mut image, shape, &Contents { key, key_run, value, value_run, weight });
        let frame = self.new_page(tree, 0);
        page::insert(self.cache.page_mut(frame), 0, &image);
        self.scratch = image;
        let sums = Sums { entries: 1, weight: u64::from(weight) };
        self.roots[tree.slot()] = Root { at: self.cache.reference(frame), level: 0, sums };
        self.cache.id(frame)
    }

    #[inline]
    fn old_entry(&self, frame: FrameIndex, slot: usize, found: bool) -> Old {
        if !found {
            return Old::default();
        }
        let page = self.cache.page(frame);
        let at = page::cell_at(page, slot);
        Old { bytes: leaf::cell_bytes(page, at), weight: leaf::weight(page, at) }
    }

    /// Whether the cell has no room in the leaf. If so: where to split it, and the key between the two pages, for which long
    /// keys must be in memory.
    #[inline]
    fn plan_split(
        &self,
        frame: FrameIndex,
        slot: usize,
        found: bool,
        key: &[u8],
        image_bytes: usize,
    ) -> Result<Option<(usize, Vec<u8>)>, Fault> {
        let page = self.cache.page(frame);
        let old = self.old_entry(frame, slot, found);
        let needed = image_bytes + if found { 0 } else { SLOT_BYTES };
        if needed <= page::room(page) + old.bytes {
            return Ok(None);
        }
        let crowd = Crowd { page, slot, replaces: found, image: &[] };
        let left_cells = crowd.split(image_bytes);
        let left = self.crowd_key(&crowd, left_cells - 1, key)?;
        let right = self.crowd_key(&crowd, left_cells, key)?;
        assert!(left < right, "keys of a page are out of order");
        let common = hints::common(left, right);
        Ok(Some((left_cells, right[..=common].to_vec())))
    }

    fn crowd_key<'a>(&'a self, crowd: &Crowd<'a>, at: usize, new: &'a [u8]) -> Result<&'a [u8], Fault> {
        let Some(slot) = crowd.old_slot(at) else { return Ok(new) };
        let cell = page::cell_at(crowd.page, slot);
        match leaf::key_run(crowd.page, cell) {
            None => Ok(leaf::key(crowd.page, cell).0),
            Some(run) => self.load_run(run),
        }
    }

    /// Puts a cell into the leaf at the end of a changeable way down, and makes the sums above it right. Gives the leaf that it is in.
    #[inline]
    fn place(
        &mut self,
        tree: Tree,
        path: &Path,
        found: bool,
        image: &[u8],
        split: Option<(usize, Vec<u8>)>,
        delta: Delta,
    ) -> FrameIndex {
        let (frame, slot) = path.leaf();
        let Some((left_cells, separator)) = split else {
            let page = self.cache.page_mut(frame);
            if found {
                page::replace(page, slot, image);
            } else {
                page::insert(page, slot, image);
            }
            self.add_up(tree, path, path.len - 1, delta);
            return frame;
        };
        let run = (separator.len() > leaf::KEY_INLINE_BYTES_MAX).then(|| self.new_run(tree, &[&separator]));
        let separator = Separator { inline: Separator::inline_of(&separator).to_vec(), run };
        let right = self.split_page(tree, frame, slot, found, image, left_cells);
        let grown = self.grown(frame, right, separator);
        self.grow_up(tree, path, grown, delta);
        if slot < left_cells { frame } else { right }
    }

    fn grown(&self, left: FrameIndex, right: FrameIndex, separator: Separator) -> Grown {
        let (left_sums, right_sums) = (page_sums(self.cache.page(left)), page_sums(self.cache.page(right)));
        Grown { separator, right: self.cache.reference(right), right_sums, left_sums }
    }

    /// Divides a page's cells and a new one between the page and a new one to its right. The first cell of a new branch has lost
    /// its key.
    fn split_page(
        &mut self,
        tree: Tree,
        frame: FrameIndex,
        slot: usize,
        replaces: bool,
        image: &[u8],
        left_cells: usize,
    ) -> FrameIndex {
        let old: Page = *self.cache.page(frame);
        let level = page::level(&old);
        let right_frame = self.new_page(tree, level);
        let crowd = Crowd { page: &old, slot, replaces, image };
        let right = self.cache.page_mut(right_frame);
        for at in left_cells..crowd.len() {
            let image = crowd.image(at);
            if level > 0 && at == left_cells {
                let mut keyless = Vec::with_capacity(branch::FIXED_BYTES);
                branch::build(&mut keyless, &Separator::default(), branch::child(image, 0), branch::sums(image, 0));
                page::push(right, &keyless);
            } else {
                page::push(right, image);
            }
        }
        page::finish(right);
        if !replaces && left_cells == slot && slot + 1 == crowd.len() {
            // Only the new cell went: the next ones in a row go behind it.
            page::go_on_with_row(right, page::streak(&old));
            return right_frame;
        }
        let left = self.cache.page_mut(frame);
        page::clear(left);
        for at in 0..left_cells {
            page::push(left, crowd.image(at));
        }
        page::finish(left);
        right_frame
    }

    /// Names a new page in the branches above a leaf that was split, splitting them as needed.
    fn grow_up(&mut self, tree: Tree, path: &Path, mut grown: Grown, delta: Delta) {
        for depth in (0..path.len - 1).rev() {
            let (frame, slot) = (path.steps[depth].frame, path.steps[depth].slot as usize);
            self.set_child_sums(frame, slot, grown.left_sums);
            let mut image = Vec::with_capacity(grown.separator.cell_bytes());
            branch::build(&mut image, &grown.separator, grown.right, grown.right_sums);
            let page = self.cache.page_mut(frame);
            if image.len() + SLOT_BYTES <= page::room(page) {
                page::insert(page, slot + 1, &image);
                self.add_up(tree, path, depth, delta);
                return;
            }
            let crowd = Crowd { page, slot: slot + 1, replaces: false, image: &image };
            let left_cells = crowd.split(image.len());
            let middle = crowd.image(left_cells);
            let separator = branch::separator(middle, 0);
            let right = self.split_page(tree, frame, slot + 1, false, &image, left_cells);
            grown = self.grown(frame, right, separator);
        }
        self.grow_root(tree, grown);
    }

    fn grow_root(&mut self, tree: Tree, grown: Grown) {
        let old = self.roots[tree.slot()];
        let level = old.level + 1;
        assert!((level as usize) < TREE_LEVELS_MAX, "a tree of {level} levels");
        let frame = self.new_page(tree, level);
        let mut image = Vec::with_capacity(grown.separator.cell_bytes());
        let page = self.cache.page_mut(frame);
        branch::build(&mut image, &Separator::default(), old.at, grown.left_sums);
        page::push(page, &image);
        branch::build(&mut image, &grown.separator, grown.right, grown.right_sums);
        page::push(page, &image);
        page::finish(page);
        let sums = grown.left_sums.plus(grown.right_sums);
        self.roots[tree.slot()] = Root { at: self.cache.reference(frame), level, sums };
    }
}
