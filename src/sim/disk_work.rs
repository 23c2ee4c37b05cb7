//! Disk work under way: each effect of a core is one piece, done in steps with a crash possible between any two.

use std::collections::VecDeque;
use std::path::PathBuf;

use crate::base::{AlignedBuffer, Prng};
use crate::pages::PageWrite;
use crate::server::datadir::Paths;
use crate::shard::{DiskEffect, Event};
use crate::wal::{SegmentName, SegmentWrite};

use super::disk::SimDisk;

/// A step of a piece of work.
enum Step {
    WalWrite { segment: SegmentName, path: PathBuf, offset: u64, bytes: usize },
    Make { path: PathBuf, bytes: u64 },
    Rename { from: PathBuf, to: PathBuf },
    Fill { path: PathBuf, bytes: u64 },
    SyncFolder { folder: PathBuf },
    PageWrite { path: PathBuf, write: PageWrite },
    Sync { path: PathBuf },
    SetLength { path: PathBuf, bytes: u64 },
    Remove { path: PathBuf },
    Read { path: PathBuf },
}

/// A piece of work under way.
pub struct Work {
    /// The core that waits for it.
    pub core: usize,
    steps: VecDeque<Step>,
    done: Option<Event>,
    /// What is reported instead when there is no space.
    refused: Option<Event>,
    buffer: Option<AlignedBuffer>,
    names: bool,
    /// The WAL write that was done: in which file, and where.
    pub written: Option<(PathBuf, u64)>,
}

impl Work {
    /// The work that a core asks for.
    pub fn of(core: usize, effect: DiskEffect, paths: &Paths) -> Work {
        let mut work =
            Work { core, steps: VecDeque::new(), done: None, refused: None, buffer: None, names: false, written: None };
        work.names = matches!(effect, DiskEffect::WalPrepare { .. } | DiskEffect::WalRemove { .. });
        let folder = paths.wal().to_path_buf();
        match effect {
            DiskEffect::WalWrite { segment, offset, buffer, bytes } => {
                work.steps.push_back(Step::WalWrite { segment, path: paths.segment(segment), offset, bytes });
                work.buffer = Some(buffer);
            }
            DiskEffect::WalPrepare { segment, recycle, bytes, made } => {
                let path = paths.segment(segment);
                match recycle {
                    Some(old) => {
                        work.steps.push_back(Step::Rename { from: paths.segment(old), to: path });
                        work.steps.push_back(Step::SyncFolder { folder });
                    }
                    None if made => {}
                    None => {
                        // Under another name until it is whole, as the pump does it.
                        let unfinished = path.with_extension("new");
                        work.steps.push_back(Step::Remove { path: unfinished.clone() });
                        work.steps.push_back(Step::Make { path: unfinished.clone(), bytes });
                        work.steps.push_back(Step::Fill { path: unfinished.clone(), bytes });
                        work.steps.push_back(Step::Rename { from: unfinished, to: path });
                        work.steps.push_back(Step::SyncFolder { folder });
                    }
                }
                work.done = Some(Event::SegmentReady(segment));
                work.refused = Some(Event::SegmentRefused(segment));
            }
            DiskEffect::PageRead { group, fault } => {
                work.steps.push_back(Step::Read { path: paths.pages(group) });
                work.done = Some(Event::PageRead { group, fault, bytes: None });
            }
            DiskEffect::PagesWrite { group, writes } => {
                let path = paths.pages(group);
                let step = DiskEffect::PagesWrite { group, writes: writes.clone() };
                work.refused = Some(Event::CheckpointRefused { group, step });
                work.steps.extend(writes.into_iter().map(|write| Step::PageWrite { path: path.clone(), write }));
                work.done = Some(Event::CheckpointStepDone(group));
            }
            DiskEffect::PagesSync { group } => {
                work.steps.push_back(Step::Sync { path: paths.pages(group) });
                work.done = Some(Event::CheckpointStepDone(group));
            }
            DiskEffect::MetaWrite { group, write } => {
                let step = DiskEffect::MetaWrite { group, write: write.clone() };
                work.refused = Some(Event::CheckpointRefused { group, step });
                work.steps.push_back(Step::PageWrite { path: paths.pages(group), write });
                work.steps.push_back(Step::Sync { path: paths.pages(group) });
                work.done = Some(Event::CheckpointStepDone(group));
            }
            DiskEffect::PagesLength { group, bytes } => {
                work.steps.push_back(Step::SetLength { path: paths.pages(group), bytes });
                work.done = Some(Event::CheckpointStepDone(group));
            }
            DiskEffect::WalRemove { segment } => work.steps.push_back(Step::Remove { path: paths.segment(segment) }),
        }
        work
    }

    /// Whether it makes, renames or removes segments: such work of one core is done in order, as the pump does it.
    pub fn is_of_names(&self) -> bool {
        self.names
    }

    /// Whether it is a write of the log that has yet to be made.
    pub fn writes_log(&self) -> bool {
        matches!(self.steps.front(), Some(Step::WalWrite { .. }))
    }

    /// What it does next; for the trace.
    pub fn name(&self) -> &'static str {
        match self.steps.front() {
            Some(Step::WalWrite { .. }) => "WAL write",
            Some(Step::Make { .. } | Step::Rename { .. } | Step::Fill { .. }) => "segment",
            Some(Step::SyncFolder { .. }) => "folder sync",
            Some(Step::PageWrite { .. }) => "page write",
            Some(Step::Sync { .. }) => "page sync",
            Some(Step::SetLength { .. }) => "page file length",
            Some(Step::Remove { .. }) => "segment removed",
            Some(Step::Read { .. }) => "page read",
            None => "report",
        }
    }

    /// Does up to `steps` steps; true when all is done.
    pub fn advance(&mut self, disk: &mut SimDisk, steps: u64, rng: &mut Prng) -> bool {
        for _ in 0..steps {
            let Some(step) = self.steps.pop_front() else { break };
            if disk.is_full && self.refuse(disk, &step, rng) {
                break;
            }
            self.step(disk, step);
        }
        self.steps.is_empty()
    }

    /// A step that takes space ends the work where there is none; what it did before stays done.
    fn refuse(&mut self, disk: &mut SimDisk, step: &Step, rng: &mut Prng) -> bool {
        match step {
            Step::Fill { path, .. } => disk.remove(path),
            Step::PageWrite { .. } => {}
            Step::WalWrite { segment, path, offset, bytes } if disk.copies && rng.chance(3, 4) => {
                let (segment, offset, bytes) = (*segment, *offset, *bytes);
                let buffer = self.buffer.take().expect("a write has its buffer");
                disk.write_torn(path, offset, &buffer[..bytes], rng);
                self.refused = Some(Event::WalRefused(SegmentWrite { segment, offset, buffer, bytes }));
            }
            _ => return false,
        }
        self.steps.clear();
        self.done = self.refused.take();
        true
    }

    fn step(&mut self, disk: &mut SimDisk, step: Step) {
        match step {
            Step::WalWrite { path, offset, bytes, .. } => {
                let buffer = self.buffer.take().expect("a write has its buffer");
                disk.write(&path, offset, &buffer[..bytes], true);
                self.done = Some(Event::WalWritten(buffer));
                self.written = Some((path, offset));
            }
            Step::Make { path, bytes } => {
                disk.make(&path);
                disk.set_length(&path, bytes);
            }
            Step::Rename { from, to } => disk.rename(&from, &to),
            Step::Fill { path, bytes } => disk.allocate(&path, bytes),
            Step::SyncFolder { folder } => disk.sync_folder(&folder),
            Step::PageWrite { path, write } => disk.write(&path, write.offset(), &write.bytes, false),
            Step::Sync { path } => disk.sync(&path),
            Step::SetLength { path, bytes } => disk.set_length(&path, bytes),
            Step::Remove { path } => disk.remove(&path),
            Step::Read { path } => {
                let Some(Event::PageRead { fault, bytes, .. }) = &mut self.done else { unreachable!("a read has its page") };
                let mut read = AlignedBuffer::zeroed(fault.bytes());
                *bytes = disk.read(&path, &mut read, fault.offset()).is_ok().then_some(read);
            }
        }
    }

    /// The event that the core gets, if it waits for one.
    pub fn report(self) -> Option<Event> {
        self.done
    }

    /// Power fails while it is under way.
    pub fn crash(mut self, disk: &mut SimDisk, rng: &mut Prng) {
        match self.steps.pop_front() {
            Some(Step::WalWrite { path, offset, bytes, .. }) => {
                let buffer = self.buffer.take().expect("a write has its buffer");
                disk.write_torn(&path, offset, &buffer[..bytes], rng);
            }
            Some(Step::PageWrite { path, write }) if rng.chance(1, 2) => {
                disk.write(&path, write.offset(), &write.bytes, false);
            }
            _ => {}
        }
    }
}
