//! A core's files: carries out its disk effects and reports what they ask to have reported.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use crate::base::limits::{CHECKPOINT_WRITES_IN_FLIGHT, RUN_BYTES_MAX};
use crate::base::{AlignedBuffer, GroupId};
use crate::io::{Disk, Durability, File, Open, OpenMode, Tasks, Urgency};
use crate::pages::{Fault, PageWrite, file_name};
use crate::shard::{DiskEffect, Event};
use crate::wal::{SegmentName, SegmentWrite};

use super::metering::{Measured, Metering};
use super::zeros::Zeros;

/// The files of one core, and where reports go.
pub struct CoreDisk<D: Disk, T: Tasks> {
    inner: Rc<Inner<D>>,
    tasks: T,
    metering: Rc<Metering>,
}

struct Inner<D: Disk> {
    disk: D,
    wal_folder: PathBuf,
    segments: RefCell<HashMap<SegmentName, Rc<D::File>>>,
    /// The segment that is filled while it is in use.
    zeros: RefCell<Option<(SegmentName, Rc<Zeros>)>>,
    pages: RefCell<HashMap<GroupId, Rc<D::File>>>,
    /// Page files whose length is being set: nothing is sent into this, and it closes when that is done.
    resizing: RefCell<HashMap<GroupId, flume::Receiver<()>>>,
    report: Box<dyn Fn(Report)>,
    /// Page reads that were asked for and have not begun.
    reads: RefCell<Vec<(GroupId, Fault)>>,
    /// Work on segments' names, one after the other: see [`CoreDisk::carry_out`].
    names: RefCell<VecDeque<Option<DiskEffect>>>,
}

/// The place of an effect behind another one on the same file.
#[derive(Default)]
struct Turn {
    /// Closes when the other one is done.
    before: Option<flume::Receiver<()>>,
    /// Dropped when this one is done.
    done: Option<flume::Sender<()>>,
}

/// What became of a disk effect.
#[derive(Debug)]
pub enum Report {
    /// The event that the core waits for.
    Event(Event),
    /// The member cannot go on.
    Fatal(String),
}

impl<D: Disk, T: Tasks> CoreDisk<D, T> {
    /// `pages`: the open page file of each group of the core. `report` takes what is to be handed to the core.
    pub fn new(
        disk: D,
        tasks: T,
        wal_folder: PathBuf,
        pages: HashMap<GroupId, Rc<D::File>>,
        metering: Rc<Metering>,
        report: impl Fn(Report) + 'static,
    ) -> CoreDisk<D, T> {
        let inner = Inner {
            disk,
            wal_folder,
            segments: RefCell::new(HashMap::new()),
            zeros: RefCell::new(None),
            pages: RefCell::new(pages),
            resizing: RefCell::new(HashMap::new()),
            report: Box::new(report),
            reads: RefCell::default(),
            names: RefCell::new(VecDeque::new()),
        };
        CoreDisk { inner: Rc::new(inner), tasks, metering }
    }

    /// Begins `effect`; its report comes when it is done. What makes, renames and removes segments is done in the order in which it
    /// was asked for: those that are left follow one another whenever the process ends.
    pub fn carry_out(&self, effect: DiskEffect) {
        let inner = self.inner.clone();
        if let DiskEffect::PageRead { group, fault } = effect {
            return inner.reads.borrow_mut().push((group, fault));
        }
        if matches!(effect, DiskEffect::WalPrepare { .. } | DiskEffect::WalRemove { .. }) {
            let mut names = inner.names.borrow_mut();
            names.push_back(Some(effect));
            if names.len() == 1 {
                let inner = inner.clone();
                self.tasks.spawn(Urgency::Background, async move { inner.change_names().await });
            }
            return;
        }
        let urgency = match effect {
            DiskEffect::PagesWrite { .. } => Urgency::Background,
            _ => Urgency::Prompt,
        };
        let turn = inner.turn(&effect);
        let (work, metering, clock) = (Measured::of(&effect), self.metering.clone(), self.tasks.clone());
        let began = clock.now();
        metering.disk_work_begins(began, &work);
        self.tasks.spawn(urgency, async move {
            if let Some(before) = turn.before {
                before.recv_async().await.ok();
            }
            inner.carry_out(effect).await;
            drop(turn.done);
            let ended = clock.now();
            metering.disk_work_ended(ended.since(began), ended, &work);
        });
    }

    /// Begins the page reads that were asked for since the last time. Those that lie one behind the other are one trip to the disk.
    pub fn begin_reads(&self) {
        let mut reads = self.inner.reads.take();
        reads.sort_unstable_by_key(|(group, fault)| (*group, fault.first));
        for reads in reads.chunk_by(|a, b| a.0 == b.0) {
            for run in runs(reads, |(_, fault)| (fault.offset(), fault.bytes())) {
                let (inner, group) = (self.inner.clone(), reads[0].0);
                let faults: Vec<Fault> = reads[run].iter().map(|(_, fault)| *fault).collect();
                self.tasks.spawn(Urgency::Prompt, async move { inner.read_pages(group, &faults).await });
            }
        }
    }
}

impl<D: Disk> Inner<D> {
    /// Carries out what is in the queue, in order; the effect under way stays in it.
    async fn change_names(self: Rc<Self>) {
        loop {
            let next = self.names.borrow_mut().front_mut().map(Option::take);
            let Some(effect) = next else { return };
            let effect = effect.expect("each is carried out once");
            self.clone().carry_out(effect).await;
            self.names.borrow_mut().pop_front();
        }
    }

    /// A page file's new length, which nobody waits for, is set before the next checkpoint writes behind its end: set later, it would
    /// cut off what that checkpoint wrote.
    fn turn(&self, effect: &DiskEffect) -> Turn {
        let mut resizing = self.resizing.borrow_mut();
        match effect {
            DiskEffect::PagesLength { group, .. } => {
                let (done, resized) = flume::bounded(1);
                Turn { before: resizing.insert(*group, resized), done: Some(done) }
            }
            DiskEffect::PagesWrite { group, .. } => Turn { before: resizing.remove(group), done: None },
            _ => Turn::default(),
        }
    }

    async fn carry_out(self: Rc<Self>, effect: DiskEffect) {
        let report = match effect {
            DiskEffect::WalWrite { segment, offset, buffer, bytes } => self.wal_write(segment, offset, buffer, bytes).await,
            DiskEffect::WalPrepare { segment, bytes, made: true, .. } => return self.take_up(segment, bytes).await,
            DiskEffect::WalPrepare { segment, recycle, bytes, made: false } => self.prepare(segment, recycle, bytes).await,
            DiskEffect::WalRemove { segment } => {
                self.remove(segment).await;
                return;
            }
            DiskEffect::PageRead { .. } => unreachable!("reads begin together"),
            DiskEffect::PagesWrite { group, writes } => self.pages_write(group, writes).await,
            DiskEffect::PagesSync { group } => {
                let synced = self.page_file(group).sync().await;
                self.done(synced, |()| Event::CheckpointStepDone(group), || format!("syncing {}", file_name(group)))
            }
            DiskEffect::MetaWrite { group, write } => self.meta_write(group, write).await,
            DiskEffect::PagesLength { group, bytes } => {
                // Longer than needed does no harm: what matters is in the meta page.
                if let Err(e) = self.page_file(group).set_length(bytes).await {
                    tracing::warn!(group = group.get(), error = %e, "page file could not be resized");
                }
                Report::Event(Event::CheckpointStepDone(group))
            }
        };
        (self.report)(report);
    }

    /// Reads pages that lie one behind the other.
    async fn read_pages(&self, group: GroupId, faults: &[Fault]) {
        let all = faults.iter().map(Fault::bytes).sum();
        if faults.len() > 1
            && let Ok(bytes) = self.page_file(group).read_at(faults[0].offset(), all).await
        {
            let mut rest = &bytes[..];
            for &fault in faults {
                let (page, behind) = rest.split_at(fault.bytes());
                rest = behind;
                (self.report)(Report::Event(Event::PageRead { group, fault, bytes: Some(AlignedBuffer::padded(page)) }));
            }
            return;
        }
        // One by one, also where that failed: the error is then of the page that it is about.
        for &fault in faults {
            let read = match self.page_file(group).read_at(fault.offset(), fault.bytes()).await {
                Ok(bytes) => Ok(Some(bytes)),
                // Perhaps it has been cut since the page was asked for.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
                Err(e) => Err(e),
            };
            let what = || format!("reading {} bytes at offset {} of {}", fault.bytes(), fault.offset(), file_name(group));
            (self.report)(self.done(read, |bytes| Event::PageRead { group, fault, bytes }, what));
        }
    }

    fn done<V>(&self, result: io::Result<V>, event: impl FnOnce(V) -> Event, what: impl FnOnce() -> String) -> Report {
        match result {
            Ok(value) => Report::Event(event(value)),
            Err(e) => Report::Fatal(format!("{}: {e}", what())),
        }
    }

    fn page_file(&self, group: GroupId) -> Rc<D::File> {
        self.pages.borrow().get(&group).expect("a core asks for its own groups' files").clone()
    }

    fn path(&self, segment: SegmentName) -> PathBuf {
        self.wal_folder.join(segment.to_string())
    }

    async fn wal_write(&self, segment: SegmentName, offset: u64, buffer: AlignedBuffer, bytes: usize) -> Report {
        let file = self.segments.borrow().get(&segment).expect("a segment is written after it was made ready").clone();
        let zeros = self.zeros.borrow().as_ref().filter(|(filled, _)| *filled == segment).map(|(_, zeros)| zeros.clone());
        if let Some(zeros) = zeros {
            zeros.make_way(offset + bytes as u64).await;
        }
        let (buffer, written) = file.write_durably(offset, buffer, bytes).await;
        if written.as_ref().is_err_and(is_full) {
            return Report::Event(Event::WalRefused(SegmentWrite { segment, offset, buffer, bytes }));
        }
        self.done(
            written,
            |()| Event::WalWritten(buffer),
            || format!("writing WAL segment {} at offset {offset}", self.path(segment).display()),
        )
    }

    /// Opens a segment that was made before the core started, and fills it while it is used.
    async fn take_up(&self, segment: SegmentName, bytes: u64) {
        let path = self.path(segment);
        let file = match self.disk.open(&path, segment_file(OpenMode::Existing)).await {
            Ok(file) => Rc::new(file),
            Err(e) => return (self.report)(Report::Fatal(format!("opening WAL segment {}: {e}", path.display()))),
        };
        let zeros = Rc::new(Zeros::default());
        self.segments.borrow_mut().insert(segment, file.clone());
        self.zeros.replace(Some((segment, zeros.clone())));
        (self.report)(Report::Event(Event::SegmentReady(segment)));
        // Where this fails (a full disk that copies what it writes), the log's writes take as long as they take.
        zeros.write(bytes, async |from, to| file.fill_zeros(from, to).await).await.ok();
        self.zeros.take();
    }

    /// Takes over a segment that nobody needs, or makes a new one. A full disk is no failure here (rule 18).
    async fn prepare(&self, segment: SegmentName, recycle: Option<SegmentName>, bytes: u64) -> Report {
        match self.try_prepare(segment, recycle, bytes).await {
            Ok(file) => {
                self.segments.borrow_mut().insert(segment, Rc::new(file));
                Report::Event(Event::SegmentReady(segment))
            }
            Err(e) if is_full(&e) => {
                self.disk.remove(&self.path(segment).with_extension("new")).await.ok();
                Report::Event(Event::SegmentRefused(segment))
            }
            Err(e) => Report::Fatal(format!("making WAL segment {} ready: {e}", self.path(segment).display())),
        }
    }

    async fn try_prepare(&self, segment: SegmentName, recycle: Option<SegmentName>, bytes: u64) -> io::Result<D::File> {
        let path = self.path(segment);
        if let Some(old) = recycle {
            self.segments.borrow_mut().remove(&old);
            self.disk.rename(&self.path(old), &path).await?;
            let file = self.disk.open(&path, segment_file(OpenMode::Existing)).await?;
            let length = file.length().await?;
            if length < bytes {
                file.allocate(bytes).await?;
            }
            self.disk.sync_directory(&self.wal_folder).await?;
            return Ok(file);
        }
        // Under another name until it is whole, so that a start never meets half a segment.
        let unfinished = path.with_extension("new");
        self.disk.remove(&unfinished).await.ok();
        let file = self.disk.open(&unfinished, segment_file(OpenMode::New)).await?;
        file.allocate(bytes).await?;
        file.fill_zeros(0, bytes).await?;
        file.sync().await?;
        self.disk.rename(&unfinished, &path).await?;
        self.disk.sync_directory(&self.wal_folder).await?;
        Ok(file)
    }

    async fn remove(&self, segment: SegmentName) {
        self.segments.borrow_mut().remove(&segment);
        // Synced, so that a power loss leaves no gap between those that follow one another.
        let removed = async {
            self.disk.remove(&self.path(segment)).await?;
            self.disk.sync_directory(&self.wal_folder).await
        };
        if let Err(e) = removed.await {
            tracing::warn!(segment = %segment, error = %e, "WAL segment could not be removed");
        }
    }

    async fn meta_write(&self, group: GroupId, write: PageWrite) -> Report {
        let file = self.page_file(group);
        let written = match file.write_at(write.offset(), &[&write.bytes]).await {
            Err(e) if is_full(&e) => {
                return Report::Event(Event::CheckpointRefused { group, step: DiskEffect::MetaWrite { group, write } });
            }
            Err(e) => Err(e),
            // A sync that failed is not tried again: what it did not write may be forgotten.
            Ok(()) => file.sync().await,
        };
        let what = || format!("writing the meta page at offset {} of {}", write.offset(), file_name(group));
        self.done(written, |()| Event::CheckpointStepDone(group), what)
    }

    async fn pages_write(&self, group: GroupId, writes: Vec<PageWrite>) -> Report {
        let file = self.page_file(group);
        let runs = runs(&writes, |write| (write.offset(), write.bytes.len()));
        let next = std::cell::Cell::new(0);
        let worker = async || {
            while let Some(run) = runs.get(next.replace(next.get() + 1)) {
                write_run(&*file, &writes[run.clone()]).await?;
            }
            Ok::<(), io::Error>(())
        };
        let mut result = Ok(());
        let workers: Vec<_> = (0..CHECKPOINT_WRITES_IN_FLIGHT).map(|_| Box::pin(worker())).collect();
        for outcome in join_all(workers).await {
            result = result.and(outcome);
        }
        match result {
            Err(e) if is_full(&e) => {
                Report::Event(Event::CheckpointRefused { group, step: DiskEffect::PagesWrite { group, writes } })
            }
            result => self.done(result, |()| Event::CheckpointStepDone(group), || format!("writing {}", file_name(group))),
        }
    }
}

fn segment_file(mode: OpenMode) -> Open {
    Open { mode, durability: Durability::EachWrite }
}

/// Whether an error says that there is no space, on the device or for this user.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Groups what lies one behind the other in a file, up to a bound. `place`: offset and length.
fn runs<P>(pieces: &[P], place: impl Fn(&P) -> (u64, usize)) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    let (mut bytes, mut end) = (0, u64::MAX);
    for (i, piece) in pieces.iter().enumerate() {
        let (offset, len) = place(piece);
        if offset == end && bytes + len <= RUN_BYTES_MAX {
            runs.last_mut().expect("there is one before").end = i + 1;
            bytes += len;
        } else {
            runs.push(i..i + 1);
            bytes = len;
        }
        end = offset + len as u64;
    }
    runs
}

async fn write_run<F: File>(file: &F, run: &[PageWrite]) -> io::Result<()> {
    let parts: Vec<&[u8]> = run.iter().map(|write| &write.bytes[..]).collect();
    file.write_at(run[0].offset(), &parts).await
}

/// Polls every future until all have ended.
async fn join_all<O>(futures: Vec<std::pin::Pin<Box<impl Future<Output = O>>>>) -> Vec<O> {
    let mut futures: Vec<_> = futures.into_iter().map(Some).collect();
    let mut outcomes = Vec::with_capacity(futures.len());
    std::future::poll_fn(move |cx| {
        for place in &mut futures {
            if let Some(future) = place
                && let std::task::Poll::Ready(outcome) = future.as_mut().poll(cx)
            {
                outcomes.push(outcome);
                *place = None;
            }
        }
        if futures.iter().all(Option::is_none) {
            std::task::Poll::Ready(std::mem::take(&mut outcomes))
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_adjoins_is_one_run_up_to_a_bound() {
        let of = |places: &[(u64, usize)]| runs(places, |&place| place);
        assert!(of(&[]).is_empty());
        assert_eq!(of(&[(0, 4), (4, 8), (12, 4), (20, 4), (24, 4), (4, 4)]), [0..3, 3..5, 5..6]);
        let half = RUN_BYTES_MAX / 2;
        assert_eq!(of(&[(0, half), (half as u64, half), (2 * half as u64, 1)]), [0..2, 2..3]);
        assert_eq!(of(&[(0, 2 * RUN_BYTES_MAX), (1, 1)]), [0..1, 1..2], "what is longer is a run of its own");
    }
}
