//! The pages in memory: a frame per page or overflow run, found by page id, evicted by CLOCK.
//!
//! A frame's *epoch* says what may be done with it. Epochs count up with every checkpoint begun and every view pinned:
//! ```text
//!  0 ......... durable ......... begun ......... now
//!  clean: on disk,   being written:    dirty, but       dirty and seen by
//!  may be evicted    stays as it is    pinned: stays    nobody else: changed in place
//! ```

use std::cell::Cell;
use std::sync::Arc;

use super::page::{self, Page};
use super::{PageId, PageRef, PageWrite};
use crate::base::AlignedBuffer;
use crate::base::limits::{
    EVICT_FRAMES_MAX, PAGE_BYTES, SPARE_PAGES_MAX, TRIM_FRAMES_MAX, TRIMS_UNTIL_COLD, TRIMS_UNTIL_RETURNED_COLD,
};

/// An index into the frames.
pub(super) type FrameIndex = u32;
const NONE: u32 = u32::MAX;
/// In the table: not in memory, as it was dropped for being cold.
const DROPPED: u32 = NONE - 1;

/// A point in the life of a cache: how often pages were evicted before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Tick(u64);

/// The three instants that a frame's epoch is compared with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epochs {
    pub durable: u64,
    pub begun: u64,
    pub now: u64,
}

enum Buffer {
    Vacant,
    Owned(AlignedBuffer),
    Shared(Arc<AlignedBuffer>),
}

struct Frame {
    buffer: Buffer,
    page: PageId,
    pages: u32,
    /// When its contents came to be; 0 for what was read from the disk.
    epoch: u64,
    /// Its place in the list of dirty frames.
    dirty_at: u32,
    /// Used since the hand last passed.
    used: Cell<bool>,
    /// At which tick it was used last.
    used_at: Cell<Tick>,
    /// After how many trims it was used last.
    used_in: Cell<u32>,
    /// It was once used again after a pause, or read again after it had been dropped as cold.
    returned: Cell<bool>,
    /// Nobody reaches the page any more, but the checkpoint under way has not handed it out.
    retired: bool,
}

pub(super) struct Cache {
    frames: Vec<Frame>,
    vacant: Vec<FrameIndex>,
    /// The frame of each page id; a run is found by its first page.
    table: Vec<FrameIndex>,
    /// Frames to be written by the next checkpoint.
    dirty: Vec<FrameIndex>,
    spare: Vec<AlignedBuffer>,
    hand: usize,
    /// Where the next trim goes on.
    trim_hand: usize,
    tick: Tick,
    /// How often cold pages were trimmed.
    trims: u32,
    cached_bytes: usize,
    dirty_bytes: usize,
    /// The bytes of frames that the checkpoint under way took.
    writing_bytes: usize,
}

impl Cache {
    pub fn new() -> Cache {
        Cache {
            frames: Vec::new(),
            vacant: Vec::new(),
            table: Vec::new(),
            dirty: Vec::new(),
            spare: Vec::new(),
            hand: 0,
            trim_hand: 0,
            tick: Tick::default(),
            trims: 0,
            cached_bytes: 0,
            dirty_bytes: 0,
            writing_bytes: 0,
        }
    }

    pub fn cached_bytes(&self) -> usize {
        self.cached_bytes
    }

    /// The present.
    pub fn tick(&self) -> Tick {
        self.tick
    }

    pub fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    /// What may not be evicted: it is dirty, or being written.
    pub fn unwritten_bytes(&self) -> usize {
        self.dirty_bytes + self.writing_bytes
    }

    /// The frame of a page, if it is in memory.
    #[inline]
    pub fn find(&self, page: PageId) -> Option<FrameIndex> {
        let frame = *self.table.get(page.0 as usize)?;
        if frame >= DROPPED {
            return None;
        }
        let used = &self.frames[frame as usize];
        used.used.set(true);
        used.used_at.set(self.tick);
        if used.used_in.replace(self.trims) + 1 < self.trims {
            used.returned.set(true);
        }
        Some(frame)
    }

    /// All bytes of a frame: one page, or a run.
    #[inline]
    pub fn bytes(&self, frame: FrameIndex) -> &[u8] {
        match &self.frames[frame as usize].buffer {
            Buffer::Owned(buffer) => buffer,
            Buffer::Shared(buffer) => buffer,
            Buffer::Vacant => unreachable!("a vacant frame was used"),
        }
    }

    /// The frame's first page.
    #[inline]
    pub fn page(&self, frame: FrameIndex) -> &Page {
        self.bytes(frame).first_chunk().expect("a frame holds at least a page")
    }

    /// The page, to be changed: nobody else sees it.
    #[inline]
    pub fn page_mut(&mut self, frame: FrameIndex) -> &mut Page {
        self.bytes_mut(frame).first_chunk_mut().expect("a frame holds at least a page")
    }

    #[inline]
    pub fn bytes_mut(&mut self, frame: FrameIndex) -> &mut [u8] {
        match &mut self.frames[frame as usize].buffer {
            Buffer::Owned(buffer) => buffer,
            Buffer::Shared(_) | Buffer::Vacant => unreachable!("a page that others see was to be changed"),
        }
    }

    #[inline]
    pub fn epoch(&self, frame: FrameIndex) -> u64 {
        self.frames[frame as usize].epoch
    }

    pub fn id(&self, frame: FrameIndex) -> PageId {
        self.frames[frame as usize].page
    }

    pub fn pages(&self, frame: FrameIndex) -> u32 {
        self.frames[frame as usize].pages
    }

    /// The page as its parent is to name it.
    pub fn reference(&self, frame: FrameIndex) -> PageRef {
        PageRef { page: self.id(frame), generation: page::generation(self.bytes(frame)) as u32 }
    }

    /// A buffer for one page; what it holds is left over from something else.
    pub fn take_spare(&mut self) -> AlignedBuffer {
        self.spare.pop().unwrap_or_else(|| AlignedBuffer::zeroed(PAGE_BYTES))
    }

    /// A copy of a frame as another page or run, dirty. It is as warm as the frame it comes from.
    pub fn copy(&mut self, frame: FrameIndex, id: PageId, epoch: u64) -> FrameIndex {
        let spare = if self.pages(frame) == 1 { self.spare.pop() } else { None };
        let bytes = self.bytes(frame);
        let buffer = match spare {
            Some(mut spare) => {
                spare.copy_from_slice(bytes);
                spare
            }
            None => AlignedBuffer::padded(bytes),
        };
        let returned = self.frames[frame as usize].returned.get();
        let copy = self.add(id, buffer, epoch);
        self.frames[copy as usize].returned.set(returned);
        copy
    }

    fn put_table(&mut self, page: PageId, frame: FrameIndex) {
        let at = page.0 as usize;
        if at >= self.table.len() {
            self.table.resize((at + 1).max(self.table.len() + self.table.len() / 2), NONE);
        }
        let before = std::mem::replace(&mut self.table[at], frame);
        assert!(before >= DROPPED, "page {} is already in memory", page.0);
        if before == DROPPED {
            self.frames[frame as usize].returned.set(true);
        }
    }

    /// Takes in a page or run: from the disk with epoch 0, or new and dirty.
    pub fn add(&mut self, id: PageId, buffer: AlignedBuffer, epoch: u64) -> FrameIndex {
        let pages = (buffer.len() / PAGE_BYTES) as u32;
        self.cached_bytes += buffer.len();
        let frame = Frame {
            buffer: Buffer::Owned(buffer),
            page: id,
            pages,
            epoch,
            dirty_at: NONE,
            used: Cell::new(true),
            used_at: Cell::new(self.tick),
            used_in: Cell::new(self.trims),
            returned: Cell::new(false),
            retired: false,
        };
        let index = match self.vacant.pop() {
            Some(index) => {
                self.frames[index as usize] = frame;
                index
            }
            None => {
                self.frames.push(frame);
                (self.frames.len() - 1) as u32
            }
        };
        self.put_table(id, index);
        if epoch > 0 {
            self.set_dirty(index);
        }
        index
    }

    fn set_dirty(&mut self, index: FrameIndex) {
        let frame = &mut self.frames[index as usize];
        assert!(frame.dirty_at == NONE, "page {} is dirty twice", frame.page.0);
        frame.dirty_at = self.dirty.len() as u32;
        self.dirty_bytes += frame.pages as usize * PAGE_BYTES;
        self.dirty.push(index);
    }

    fn clear_dirty(&mut self, index: FrameIndex) {
        let frame = &mut self.frames[index as usize];
        let at = std::mem::replace(&mut frame.dirty_at, NONE);
        if at == NONE {
            return;
        }
        self.dirty_bytes -= frame.pages as usize * PAGE_BYTES;
        assert!(self.dirty.swap_remove(at as usize) == index, "the list of dirty pages is out of order");
        if let Some(&moved) = self.dirty.get(at as usize) {
            self.frames[moved as usize].dirty_at = at;
        }
    }

    /// Whether the frame's buffer may go on under another page id: it was written under its own, no write holds it, and whoever still
    /// needs the old page can read it. `is_pinned`: a view may need it, which reads nothing of a checkpoint that is not durable yet.
    pub fn is_movable(&self, frame: FrameIndex, epochs: Epochs, is_pinned: bool) -> bool {
        let frame = &self.frames[frame as usize];
        match &frame.buffer {
            Buffer::Owned(_) => frame.epoch <= epochs.durable,
            Buffer::Shared(shared) => Arc::strong_count(shared) == 1 && (frame.epoch <= epochs.durable || !is_pinned),
            Buffer::Vacant => false,
        }
    }

    /// Lets a movable frame go on as the dirty page `id`. Its old page is no longer in memory.
    pub fn rename(&mut self, index: FrameIndex, id: PageId, epoch: u64) {
        let frame = &mut self.frames[index as usize];
        let old = std::mem::replace(&mut frame.page, id);
        frame.epoch = epoch;
        frame.buffer = match std::mem::replace(&mut frame.buffer, Buffer::Vacant) {
            Buffer::Shared(shared) => match Arc::try_unwrap(shared) {
                Ok(buffer) => Buffer::Owned(buffer),
                Err(shared) => Buffer::Owned((*shared).clone()),
            },
            owned => owned,
        };
        self.table[old.0 as usize] = NONE;
        self.put_table(id, index);
        self.set_dirty(index);
    }

    /// Drops the frame of this page, if there is one. A write under way keeps its own hold of the bytes.
    pub fn forget(&mut self, page: PageId) {
        let Some(place) = self.table.get_mut(page.0 as usize) else { return };
        let index = *place;
        if index >= DROPPED {
            *place = NONE;
            return;
        }
        self.clear_dirty(index);
        self.vacate(index);
    }

    /// Drops the frame of a page that nobody reaches any more, as soon as the checkpoint that was begun has handed it out.
    pub fn retire(&mut self, page: PageId) {
        let Some(index) = self.find(page) else { return };
        let frame = &mut self.frames[index as usize];
        match frame.buffer {
            Buffer::Shared(_) => self.vacate(index),
            _ => frame.retired = true,
        }
    }

    fn vacate(&mut self, index: FrameIndex) {
        let frame = &mut self.frames[index as usize];
        assert!(frame.dirty_at == NONE, "page {} is dirty and was to be dropped", frame.page.0);
        self.table[frame.page.0 as usize] = NONE;
        self.cached_bytes -= frame.pages as usize * PAGE_BYTES;
        if let Buffer::Owned(buffer) = std::mem::replace(&mut frame.buffer, Buffer::Vacant)
            && frame.pages == 1
            && self.spare.len() < SPARE_PAGES_MAX
        {
            self.spare.push(buffer);
        }
        self.vacant.push(index);
    }

    /// The dirty frames, lowest page first, for a checkpoint that begins now.
    pub fn take_dirty(&mut self) -> Vec<FrameIndex> {
        let mut dirty = Vec::with_capacity(self.dirty.len());
        for index in std::mem::take(&mut self.dirty) {
            let frame = &mut self.frames[index as usize];
            frame.dirty_at = NONE;
            dirty.push((frame.page, index));
        }
        dirty.sort_unstable();
        self.writing_bytes = std::mem::take(&mut self.dirty_bytes);
        dirty.into_iter().map(|(_, index)| index).collect()
    }

    /// What was taken for writing is on disk.
    pub fn written(&mut self) {
        self.writing_bytes = 0;
    }

    /// A frame as a write of its bytes, sealed. From here on they are shared and do not change.
    pub fn hand_out(&mut self, index: FrameIndex) -> PageWrite {
        let write = PageWrite { first: self.id(index), bytes: self.share(index) };
        if self.frames[index as usize].retired {
            self.vacate(index);
        }
        write
    }

    fn share(&mut self, index: FrameIndex) -> Arc<AlignedBuffer> {
        let frame = &mut self.frames[index as usize];
        match std::mem::replace(&mut frame.buffer, Buffer::Vacant) {
            Buffer::Owned(mut buffer) => {
                assert!(page::id(&buffer) == frame.page, "page {} says it is {:?}", frame.page.0, page::id(&buffer));
                page::seal(&mut buffer);
                let shared = Arc::new(buffer);
                frame.buffer = Buffer::Shared(Arc::clone(&shared));
                shared
            }
            Buffer::Shared(_) | Buffer::Vacant => unreachable!("a page was handed out for writing twice"),
        }
    }

    /// Drops clean pages not used lately until `bytes_max` are cached, looking at a bounded number of frames and at none twice, so
    /// that a page just read outlives one call. A quarter of `bytes_max` is left to clean pages, however many are dirty.
    /// What was used at `kept` or since stays: someone who needs it waits for more. Whether another call may drop more.
    pub fn evict(&mut self, bytes_max: usize, epochs: Epochs, kept: Option<Tick>) -> bool {
        self.tick.0 += 1;
        let bytes_max = bytes_max.max(self.unwritten_bytes() + bytes_max / 4);
        let mut progress = false;
        for _ in 0..EVICT_FRAMES_MAX.min(self.frames.len()) {
            if self.cached_bytes <= bytes_max {
                return false;
            }
            self.hand = if self.hand + 1 < self.frames.len() { self.hand + 1 } else { 0 };
            let frame = &self.frames[self.hand];
            let kept = kept.is_some_and(|kept| frame.used_at.get() >= kept);
            if kept || frame.epoch > epochs.durable || matches!(frame.buffer, Buffer::Vacant) {
                continue;
            }
            progress = true;
            if frame.used.replace(false) {
                continue;
            }
            self.vacate(self.hand as u32);
        }
        progress && self.cached_bytes > bytes_max
    }

    /// Drops cold leaves and runs that are clean until `bytes_max` are cached, looking at a bounded number of frames. What was used at
    /// `kept` or since stays.
    pub fn trim(&mut self, bytes_max: usize, epochs: Epochs, kept: Option<Tick>) {
        self.trims += 1;
        for _ in 0..TRIM_FRAMES_MAX.min(self.frames.len()) {
            if self.cached_bytes <= bytes_max {
                return;
            }
            self.trim_hand = if self.trim_hand + 1 < self.frames.len() { self.trim_hand + 1 } else { 0 };
            let frame = &self.frames[self.trim_hand];
            let until_cold = if frame.returned.get() { TRIMS_UNTIL_RETURNED_COLD } else { TRIMS_UNTIL_COLD };
            let is_cold = self.trims - frame.used_in.get() > until_cold && kept.is_none_or(|kept| frame.used_at.get() < kept);
            let stays = !is_cold || frame.epoch > epochs.durable || matches!(frame.buffer, Buffer::Vacant);
            if !stays && page::level(self.bytes(self.trim_hand as u32)) == 0 {
                let page = self.frames[self.trim_hand].page;
                self.vacate(self.trim_hand as u32);
                self.table[page.0 as usize] = DROPPED;
            }
        }
    }
}
