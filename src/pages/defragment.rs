//! Moving what is at the end of the file to free pages before it, slice by slice, so that the file can be cut.

use super::cache::FrameIndex;
use super::read::Path;
use super::{Fault, RunRef, Store, Tree, branch, leaf, page};
use crate::base::limits::TREES_MAX;

/// How far a pass has come.
pub(super) struct Defragment {
    /// Everything in use would fit below this page.
    target: u32,
    tree: u8,
    /// The next leaf is the one that may hold this key.
    key: Vec<u8>,
}

impl Store {
    /// Goes on with a pass over all trees that moves pages from the end of the file to free ones before it, for about `budget`
    /// pages; begins one if none is under way. Whether there is more to do. What a pass has moved makes the file shorter by the
    /// second checkpoint after it; another pass may find more (pages let go of lately are not free before a checkpoint is
    /// finished).
    ///
    /// # Errors
    /// A fault: everything up to the leaf at hand has been done.
    pub fn defragment_slice(&mut self, budget: u32) -> Result<bool, Fault> {
        self.load_space()?;
        let mut state = match self.defragment.take() {
            Some(state) => state,
            None => self.begin_defragment(),
        };
        let mut left = i64::from(budget.max(1));
        let mut more = true;
        while left > 0 && more {
            match self.defragment_leaf(&mut state) {
                Ok(Some(pages)) => left -= i64::from(pages),
                Ok(None) => more = false,
                Err(fault) => {
                    self.defragment = Some(state);
                    return Err(fault);
                }
            }
        }
        if more {
            self.defragment = Some(state);
        } else {
            self.space.pack(false);
        }
        Ok(more)
    }

    fn begin_defragment(&mut self) -> Defragment {
        let target = self.space.live_pages();
        for chunk in 0..self.space.chunks.len() {
            let directory = self.space.directories[chunk / super::space::DIRECTORY_CHUNKS].at;
            let is_late = |at: Option<super::PageRef>| at.is_some_and(|at| at.page.0 >= target);
            if is_late(self.space.chunks[chunk].at) || is_late(directory) {
                self.space.touch_chunk(chunk);
            }
        }
        self.space.pack(true);
        Defragment { target, tree: 0, key: Vec::new() }
    }

    /// Moves what is late of the next leaf, the pages above it and its runs. How many pages that was, at least one; none: the
    /// pass is over.
    fn defragment_leaf(&mut self, state: &mut Defragment) -> Result<Option<u32>, Fault> {
        while (state.tree as usize) < TREES_MAX && self.roots[state.tree as usize].is_empty() {
            state.tree += 1;
            state.key.clear();
        }
        if state.tree as usize >= TREES_MAX || self.space.lowest_free() >= state.target {
            return Ok(None);
        }
        let tree = Tree(state.tree);
        let mut path = Path::new();
        self.descend(&self.roots[tree.slot()], &state.key, &mut path)?;
        let next = self.next_leaf_key(&path)?;
        let runs = self.late_runs(&path, state.target)?;
        let late_pages = path.steps[..path.len].iter().any(|step| self.cache.id(step.frame).0 >= state.target);
        let mut moved = 1;
        if late_pages || !runs.is_empty() {
            self.move_path(tree, &mut path, state.target);
            moved += path.len as u32;
        }
        for (slot, is_key, run) in runs {
            moved += self.move_run(path.leaf().0, slot, is_key, run);
        }
        match next {
            Some(key) => state.key = key,
            None => {
                state.tree += 1;
                state.key.clear();
            }
        }
        Ok(Some(moved))
    }

    /// The lowest key that the leaf after this one may hold.
    fn next_leaf_key(&self, path: &Path) -> Result<Option<Vec<u8>>, Fault> {
        for step in path.steps[..path.len - 1].iter().rev() {
            let page = self.cache.page(step.frame);
            let slot = step.slot as usize + 1;
            if slot < page::cells(page) {
                let at = page::cell_at(page, slot);
                let key = match branch::key_run(page, at) {
                    Some(run) => self.load_run(run)?,
                    None => branch::key(page, at).0,
                };
                return Ok(Some(key.to_vec()));
            }
        }
        Ok(None)
    }

    /// The runs of a leaf that are at the end of the file: slot, whether it is the key's, and where. They are in memory.
    fn late_runs(&self, path: &Path, target: u32) -> Result<Vec<(usize, bool, RunRef)>, Fault> {
        let frame = path.leaf().0;
        let mut runs = Vec::new();
        for slot in 0..page::cells(self.cache.page(frame)) {
            let (key_run, value_run) = self.cell_runs(frame, slot);
            for (is_key, run) in [(true, key_run), (false, value_run)] {
                if let Some(run) = run
                    && run.at.page.0 >= target
                {
                    self.load_run_frame(run)?;
                    runs.push((slot, is_key, run));
                }
            }
        }
        Ok(runs)
    }

    fn move_path(&mut self, tree: Tree, path: &mut Path, target: u32) {
        self.make_writable(tree, path);
        for depth in 0..path.len {
            let frame = path.steps[depth].frame;
            let id = self.cache.id(frame).0;
            if id >= target && self.space.lowest_free() < id {
                path.steps[depth].frame = self.relocate(frame);
                let at = self.cache.reference(path.steps[depth].frame);
                self.set_reference(tree, path, depth, at);
            }
        }
    }

    /// Moves a run to lower pages, if there are enough in a row. How many pages that was.
    fn move_run(&mut self, leaf_frame: FrameIndex, slot: usize, is_key: bool, run: RunRef) -> u32 {
        let pages = leaf::run_pages(run.bytes as usize);
        let to = self.allocate(pages);
        if to > run.at.page {
            self.space.free_now(to, pages);
            return 0;
        }
        let frame = self.load_run_frame(run).expect("late runs are in memory");
        let frame = self.relocate_to(frame, to);
        let moved = RunRef { at: self.cache.reference(frame), bytes: run.bytes };
        let (key_run, value_run) = self.cell_runs(leaf_frame, slot);
        let runs = if is_key { (Some(moved), value_run) } else { (key_run, Some(moved)) };
        let page = self.cache.page_mut(leaf_frame);
        let at = page::cell_at(page, slot);
        leaf::set_runs(page, at, runs.0, runs.1);
        pages
    }
}
