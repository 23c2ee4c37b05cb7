//! Taking entries out. Pages that become empty go, and pages that become small are joined with a neighbour: all of that is
//! planned, and what it needs is in memory, before anything changes.

use super::branch::{self, Separator};
use super::cache::FrameIndex;
use super::page::{self, Page, ROOM_BYTES, SLOT_BYTES};
use super::read::{Path, page_sums};
use super::write::Delta;
use super::{Fault, Root, Store, Tree, leaf};
use crate::base::limits::TREE_LEVELS_MAX;

/// A page that uses less is joined with a neighbour, if both fit one page
const SMALL_BYTES: usize = ROOM_BYTES / 3;
/// ... with room left for more, so that the next insertion does not split it again.
const JOINED_BYTES_MAX: usize = ROOM_BYTES * 7 / 8;

/// What becomes of a page on the way down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Stays,
    /// It is empty.
    Goes,
    /// Its cells go to the page to its left.
    JoinsLeft,
    /// The cells of the page to its right come to it.
    TakesRight,
}

type Plan = [Fate; TREE_LEVELS_MAX];

impl Store {
    /// Takes the key and what it maps to out. Whether it was there.
    ///
    /// # Errors
    /// A fault: nothing has changed.
    pub fn remove(&mut self, tree: Tree, key: &[u8]) -> Result<bool, Fault> {
        self.load_space()?;
        let root = self.roots[tree.slot()];
        let mut path = Path::new();
        if root.is_empty() || !self.descend(&root, key, &mut path)? {
            return Ok(false);
        }
        let plan = self.plan_removal(&path)?;
        // Nothing below fails.
        self.make_writable(tree, &mut path);
        let (frame, slot) = path.leaf();
        let (key_run, value_run) = self.cell_runs(frame, slot);
        for run in [key_run, value_run].into_iter().flatten() {
            self.release_run(run);
        }
        let page = self.cache.page_mut(frame);
        let weight = leaf::weight(page, page::cell_at(page, slot));
        page::remove(page, slot);
        self.add_up(tree, &path, path.len - 1, Delta { entries: -1, weight: -i64::from(weight) });
        for depth in (0..path.len).rev() {
            match plan[depth] {
                Fate::Stays => break,
                Fate::Goes => self.drop_page(tree, &path, depth),
                Fate::JoinsLeft => {
                    let right = path.steps[depth - 1].slot as usize;
                    self.join(tree, &path, depth - 1, right);
                }
                Fate::TakesRight => {
                    let right = path.steps[depth - 1].slot as usize + 1;
                    self.join(tree, &path, depth - 1, right);
                }
            }
        }
        self.shrink_root(tree);
        Ok(true)
    }

    /// Looks whether all that [`Store::remove`] needs is in memory.
    pub fn look_at_removal(&self, tree: Tree, key: &[u8]) -> Result<(), Fault> {
        self.load_space()?;
        let root = self.roots[tree.slot()];
        let mut path = Path::new();
        if !root.is_empty() && self.descend(&root, key, &mut path)? {
            self.plan_removal(&path)?;
        }
        Ok(())
    }

    /// What becomes of each page of the way down when the leaf's cell goes.
    fn plan_removal(&self, path: &Path) -> Result<Plan, Fault> {
        let mut plan = [Fate::Stays; TREE_LEVELS_MAX];
        let (frame, slot) = path.leaf();
        let page = self.cache.page(frame);
        let mut used = page::used(page) - page::cell_bytes(page, page::cell_at(page, slot)) - SLOT_BYTES;
        let mut count = page::cells(page) - 1;
        for depth in (0..path.len).rev() {
            if count == 0 {
                plan[depth] = Fate::Goes;
            } else if depth > 0 && used < SMALL_BYTES {
                plan[depth] = self.plan_join(path, depth, used)?;
            }
            if plan[depth] == Fate::Stays || depth == 0 {
                return Ok(plan);
            }
            let above = path.steps[depth - 1];
            let page = self.cache.page(above.frame);
            let gone = above.slot as usize + usize::from(plan[depth] == Fate::TakesRight);
            count = page::cells(page) - 1;
            used = page::used(page) - page::cell_bytes(page, page::cell_at(page, gone)) - SLOT_BYTES;
            if gone == 0 && count > 0 {
                // The next cell becomes the first one and loses its key.
                used -= page::cell_bytes(page, page::cell_at(page, 1)) - branch::FIXED_BYTES;
            }
        }
        Ok(plan)
    }

    /// Whether a page that will use so many bytes can be joined with a neighbour.
    fn plan_join(&self, path: &Path, depth: usize, used: usize) -> Result<Fate, Fault> {
        let above = path.steps[depth - 1];
        let page = self.cache.page(above.frame);
        let slot = above.slot as usize;
        let joined = |neighbour: usize, right: usize| -> Result<usize, Fault> {
            let child = branch::child(page, page::cell_at(page, neighbour));
            let other = self.load(child, page::level(page) - 1)?;
            // The first cell of a right branch gets its key back.
            let key_bytes = page::cell_bytes(page, page::cell_at(page, right)) - branch::FIXED_BYTES;
            Ok(used + page::used(self.cache.page(other)) + key_bytes)
        };
        if slot > 0 && joined(slot - 1, slot)? <= JOINED_BYTES_MAX {
            return Ok(Fate::JoinsLeft);
        }
        if slot + 1 < page::cells(page) && joined(slot + 1, slot + 1)? <= JOINED_BYTES_MAX {
            return Ok(Fate::TakesRight);
        }
        Ok(Fate::Stays)
    }

    fn drop_page(&mut self, tree: Tree, path: &Path, depth: usize) {
        let frame = path.steps[depth].frame;
        let at = self.cache.reference(frame);
        self.release(at.page, 1, at.generation);
        if depth == 0 {
            self.roots[tree.slot()] = Root::EMPTY;
            return;
        }
        let above = path.steps[depth - 1];
        self.remove_child(above.frame, above.slot as usize);
    }

    /// Takes a cell and its key out of a branch.
    fn remove_child(&mut self, frame: FrameIndex, slot: usize) {
        let page = self.cache.page_mut(frame);
        let run = branch::key_run(page, page::cell_at(page, slot));
        page::remove(page, slot);
        let next_run = if slot == 0 && page::cells(page) > 0 { clear_first_key(page) } else { None };
        for run in [run, next_run].into_iter().flatten() {
            self.release_run(run);
        }
    }

    /// Moves the cells of the child `right` of a branch to the child before it.
    fn join(&mut self, tree: Tree, path: &Path, depth: usize, right: usize) {
        let above = path.steps[depth].frame;
        let page = self.cache.page(above);
        let level = page::level(page) - 1;
        let (left_cell, right_cell) = (page::cell_at(page, right - 1), page::cell_at(page, right));
        let (left_at, right_at) = (branch::child(page, left_cell), branch::child(page, right_cell));
        let separator = branch::separator(page, right_cell);
        let mut left = self.load(left_at, level).expect("the plan has loaded both pages");
        let from = self.load(right_at, level).expect("the plan has loaded both pages");
        if !self.is_writable(left) {
            left = self.relocate(left);
            self.set_child(above, right - 1, self.cache.reference(left));
        }
        let cells: Page = *self.cache.page(from);
        move_cells(self.cache.page_mut(left), &cells, &separator);
        let sums = page_sums(self.cache.page(left));
        self.set_child_sums(above, right - 1, sums);
        page::remove(self.cache.page_mut(above), right);
        if level == 0
            && let Some(run) = separator.run
        {
            self.release_run(run);
        }
        self.release(right_at.page, 1, right_at.generation);
        assert!(page::tree(self.cache.page(left)) == tree.0, "a page of another tree");
    }

    /// A root branch with one child gives way to it.
    fn shrink_root(&mut self, tree: Tree) {
        loop {
            let root = self.roots[tree.slot()];
            if root.is_empty() || root.level == 0 {
                return;
            }
            let Ok(frame) = self.load(root.at, root.level) else { return };
            let page = self.cache.page(frame);
            if page::cells(page) > 1 {
                return;
            }
            let at = branch::child(page, page::cell_at(page, 0));
            self.roots[tree.slot()] = Root { at, level: root.level - 1, sums: root.sums };
            self.release(root.at.page, 1, root.at.generation);
        }
    }
}

/// Empties the key of a branch's first cell. The run that it had.
fn clear_first_key(page: &mut Page) -> Option<super::RunRef> {
    let at = page::cell_at(page, 0);
    let run = branch::key_run(page, at);
    let mut keyless = Vec::with_capacity(branch::FIXED_BYTES);
    branch::build(&mut keyless, &Separator::default(), branch::child(page, at), branch::sums(page, at));
    page::replace(page, 0, &keyless);
    run
}

/// Appends the cells of a right page to its left neighbour; `separator` stood between them.
fn move_cells(left: &mut Page, right: &Page, separator: &Separator) {
    let mut first = Vec::new();
    for slot in 0..page::cells(right) {
        let image = page::cell(right, page::cell_at(right, slot));
        if slot == 0 && page::level(right) > 0 {
            branch::build(&mut first, separator, branch::child(image, 0), branch::sums(image, 0));
            page::push(left, &first);
        } else {
            page::push(left, image);
        }
    }
    page::finish(left);
}
