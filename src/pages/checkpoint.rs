//! Checkpoints: what is dirty goes to disk, and a new meta makes it count.

use std::collections::VecDeque;
use std::sync::Arc;

use super::cache::FrameIndex;
use super::meta::{self, Meta};
use super::page::{self, HEADER_BYTES, Kind};
use super::space::{CHUNK_PAGES, DIRECTORY_CHUNKS, FIRST_PAGE, Slab};
use super::{Checkpoint, PageRef, PageWrite, Progress, Store};
use crate::base::AlignedBuffer;
use crate::base::limits::{CHECKPOINT_NOTE_BYTES_MAX, PAGE_BYTES};

/// A checkpoint under way.
pub(super) struct Writing {
    generation: u64,
    note: Vec<u8>,
    file_bytes: u64,
    /// Bitmap and directory pages.
    slabs: Vec<PageWrite>,
    /// Frames not handed out yet.
    frames: VecDeque<FrameIndex>,
    /// What was handed out; and what of it is on disk.
    handed_out: u64,
    progress: Progress,
}

impl Store {
    /// Begins a checkpoint of the current state. What changes from here on belongs to the next one.
    ///
    /// # Panics
    /// When one is under way, or the note is longer than [`CHECKPOINT_NOTE_BYTES_MAX`].
    pub fn begin_checkpoint(&mut self, note: &[u8]) -> Checkpoint {
        assert!(self.writing.is_none(), "one checkpoint at a time");
        assert!(note.len() <= CHECKPOINT_NOTE_BYTES_MAX, "a note of {} bytes", note.len());
        let generation = self.building;
        assert!(meta::place(generation) != meta::place(self.durable), "checkpoint {generation} after {}", self.durable);
        let write_bytes = self.cache.dirty_bytes() as u64;
        let (meta, slabs, file_pages) = match &self.space_load {
            None => self.place_space(generation, note),
            Some(load) => {
                assert!(write_bytes == 0, "pages are dirty before the bitmaps were read");
                let meta = load.renewed_meta(generation, self.durable, note);
                let file_pages = meta.file_pages;
                (meta, Vec::new(), file_pages)
            }
        };
        let file_bytes = u64::from(file_pages) * PAGE_BYTES as u64;
        let write_bytes = write_bytes + (slabs.len() * PAGE_BYTES) as u64;
        let frames = self.cache.take_dirty().into();
        let meta = PageWrite { first: meta::place(generation), bytes: Arc::new(meta.encode()) };
        let progress = Progress { written: 0, bytes: write_bytes };
        self.writing = Some(Writing { generation, note: note.to_vec(), file_bytes, slabs, frames, handed_out: 0, progress });
        self.building += 1;
        (self.changes, self.rewritten) = (0, 0);
        self.epochs.begun = self.epochs.now;
        self.epochs.now += 1;
        Checkpoint { write_bytes, meta, file_bytes }
    }

    /// The next pages of the checkpoint to write, up to `writes_max`, in the order of the file; empty: that was all. Those handed out
    /// before are on disk. Their checksums are computed here, so that one call is a bounded piece of work.
    ///
    /// # Panics
    /// When no checkpoint is under way.
    pub fn checkpoint_writes(&mut self, writes_max: usize) -> Vec<PageWrite> {
        let writing = self.writing.as_mut().expect("a checkpoint was begun");
        writing.progress.written = writing.handed_out;
        let mut writes = Vec::with_capacity(writes_max.min(writing.frames.len() + writing.slabs.len()));
        while writes.len() < writes_max {
            if let Some(frame) = writing.frames.pop_front() {
                writes.push(self.cache.hand_out(frame));
            } else if let Some(slab) = writing.slabs.pop() {
                writes.push(slab);
            } else {
                break;
            }
        }
        writing.handed_out += writes.iter().map(|write| write.bytes.len() as u64).sum::<u64>();
        writes
    }

    /// How far the checkpoint under way has come; when there is none, nothing of it is missing.
    pub fn progress(&self) -> Progress {
        self.writing.as_ref().map_or(Progress::default(), |writing| writing.progress)
    }

    /// Everything of the checkpoint is on disk: its pages and, after them, its meta.
    ///
    /// # Panics
    /// When no checkpoint is under way, or not all of its writes were handed out.
    pub fn finish_checkpoint(&mut self) {
        let writing = self.writing.take().expect("a checkpoint was begun");
        assert!(writing.frames.is_empty() && writing.slabs.is_empty(), "a checkpoint was finished before it was written");
        self.durable = writing.generation;
        self.epochs.durable = self.epochs.begun;
        self.cache.written();
        self.note = writing.note;
        self.file_bytes = writing.file_bytes;
        if self.space_load.is_none() {
            self.release_waiting();
        }
    }

    /// Finds places for the bitmap pages that changed, which changes bitmaps in turn; then writes them down.
    fn place_space(&mut self, generation: u64, note: &[u8]) -> (Meta, Vec<PageWrite>, u32) {
        self.pull_in_last_slab();
        while let Some((kind, at)) = self.next_slab() {
            let page = self.allocate_lowest();
            let slab = self.slab(kind, at);
            let old = slab.at.replace(PageRef { page, generation: generation as u32 });
            slab.placed = true;
            if let Some(old) = old {
                self.release(old.page, 1, old.generation);
            }
        }
        let mut writes = Vec::new();
        for at in 0..self.space.chunks.len() {
            self.write_slab(Kind::Bitmap, at, generation, &mut writes);
        }
        for at in 0..self.space.directories.len() {
            self.write_slab(Kind::Directory, at, generation, &mut writes);
        }
        let live_end = self.space.live_end().max(FIRST_PAGE);
        let meta = Meta {
            generation,
            previous: self.durable,
            file_pages: live_end,
            used_pages: self.space.live_pages(),
            chunks: self.space.chunks.len() as u32,
            directories: self.space.directories.iter().map(|slab| slab.at.expect("every directory has a place")).collect(),
            roots: self.roots,
            note: note.to_vec(),
        };
        // A view may reach pages behind the last live one.
        let file_pages = if self.views.is_empty() { live_end } else { self.space.end() };
        (meta, writes, file_pages)
    }

    /// A bitmap page at the very end keeps the file long on its own: it is written anew where there is room before it.
    fn pull_in_last_slab(&mut self) {
        let last = self.space.live_end().saturating_sub(1);
        if self.space.lowest_free() >= last {
            return;
        }
        let is_last = |slab: &Slab| slab.at.is_some_and(|at| at.page.0 == last);
        if let Some(chunk) = self.space.chunks.iter().position(is_last) {
            self.space.touch_chunk(chunk);
        } else if let Some(directory) = self.space.directories.iter().position(is_last) {
            self.space.touch_chunk(directory * DIRECTORY_CHUNKS);
        }
    }

    fn slab(&mut self, kind: Kind, at: usize) -> &mut Slab {
        if kind == Kind::Bitmap { &mut self.space.chunks[at] } else { &mut self.space.directories[at] }
    }

    /// A bitmap or directory page that needs a new place: it changed, or it is new.
    fn next_slab(&mut self) -> Option<(Kind, usize)> {
        if self.space.chunks.is_empty() {
            self.space.touch_chunk(0);
        }
        let unplaced = |slab: &Slab| slab.changed && !slab.placed;
        if let Some(at) = self.space.chunks.iter().position(unplaced) {
            return Some((Kind::Bitmap, at));
        }
        self.space.directories.iter().position(unplaced).map(|at| (Kind::Directory, at))
    }

    fn write_slab(&mut self, kind: Kind, at: usize, generation: u64, writes: &mut Vec<PageWrite>) {
        let slab = self.slab(kind, at);
        if !std::mem::take(&mut slab.changed) {
            return;
        }
        slab.placed = false;
        let first = slab.at.expect("it was placed").page;
        let mut page = AlignedBuffer::zeroed(PAGE_BYTES);
        page::init(&mut page, kind, 0, 0, at as u32);
        page::set_place(&mut page, first, generation);
        let contents = &mut page[HEADER_BYTES..];
        if kind == Kind::Bitmap {
            let bits = &mut contents[..CHUNK_PAGES as usize / 8];
            self.space.live_bits().write_out(at as u32 * CHUNK_PAGES, bits);
        } else {
            let chunks = self.space.chunks.iter().skip(at * DIRECTORY_CHUNKS).take(DIRECTORY_CHUNKS);
            for (slab, bytes) in chunks.zip(contents.chunks_exact_mut(8)) {
                let at = slab.at.expect("every bitmap has a place");
                bytes[..4].copy_from_slice(&at.page.0.to_le_bytes());
                bytes[4..].copy_from_slice(&at.generation.to_le_bytes());
            }
        }
        page::seal(&mut page);
        writes.push(PageWrite { first, bytes: Arc::new(page) });
    }
}
