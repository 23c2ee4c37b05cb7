//! What the write-ahead log costs: entries encoded into batches, batches sealed, and a batch on its way to the disk.
//!
//! `cargo bench --bench wal`

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use etcring::base::limits::{BLOCK_BYTES, SEGMENT_BYTES};
use etcring::base::{
    ClusterId, CoreId, Entry, GroupId, GroupSet, Index, Mark, MemberId, Revision, RunNumber, SegmentSequence, Term,
};
use etcring::io::{Disk, Durability, File, Open, OpenMode};
use etcring::runtime::{CoreOptions, Executor, run_here};
use etcring::wal::{GroupStart, Known, SegmentName, SegmentWrite, State, WalId, Writer, WriterLimits, WriterOptions};

const GROUP: GroupId = GroupId(1);
const WAL: WalId = WalId { run: RunNumber(1), core: CoreId(0) };
/// A put of 8 and 256 bytes as it is logged.
const PAYLOAD_BYTES: usize = 280;

/// A writer whose disk takes no time.
struct Log {
    writer: Writer,
    payload: Bytes,
    index: u64,
}

impl Log {
    fn new() -> Log {
        let writer = Writer::new(WriterOptions {
            cluster: ClusterId(1),
            member: MemberId(1),
            wal: WAL,
            cores: 1,
            salt: 1,
            term: Term(1),
            vote: None,
            known: Known::default(),
            ends: Vec::new(),
            tails: Vec::new(),
            limits: WriterLimits::default(),
        });
        let mut log = Log { writer, payload: Bytes::from(vec![7; PAYLOAD_BYTES]), index: 0 };
        log.provide();
        log.rotate();
        log
    }

    fn provide(&mut self) {
        while let Some(name) = self.writer.wants_segment() {
            self.writer.provide_segment(name, SEGMENT_BYTES as u64);
        }
    }

    fn rotate(&mut self) {
        let start_term = Term(u64::from(self.index > 0));
        let start = GroupStart { group: GROUP, start: Index(self.index), start_term, configuration: Bytes::new() };
        let state = State { term: Term(1), vote: None, groups: vec![start] };
        let write = self.writer.rotate(state, Known::default());
        self.writer.written(write.buffer);
        self.writer.release(GROUP, Index(self.index));
        self.writer.take_free();
        self.provide();
    }

    fn append(&mut self) {
        self.index += 1;
        let participants: GroupSet = [GROUP].into_iter().collect();
        let mark = Mark::Revision { revision: Revision(self.index + 1), participants };
        let entry = Entry { term: Term(1), index: Index(self.index), mark, payload: self.payload.clone() };
        self.writer.append_entry(GROUP, &entry);
    }

    fn seal(&mut self) -> SegmentWrite {
        if self.writer.needs_rotation() {
            self.rotate();
        }
        self.writer.seal(Known::default()).expect("something is pending")
    }

    /// A batch of `entries` entries, made and taken as written.
    fn batch(&mut self, entries: u64) {
        (0..entries).for_each(|_| self.append());
        let write = self.seal();
        self.writer.written(black_box(write).buffer);
    }
}

fn memory(c: &mut Criterion) {
    let mut group = c.benchmark_group("wal");
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    for entries in [1, 16, 256] {
        group.throughput(Throughput::Elements(entries));
        let mut log = Log::new();
        group.bench_function(format!("append and seal, {entries} entries per batch"), |b| b.iter(|| log.batch(entries)));
    }
    group.finish();
}

/// A zero-filled file on the disk that the build is on.
async fn make(executor: Executor, path: PathBuf) {
    let how = Open { mode: OpenMode::New, durability: Durability::EachWrite };
    let file = executor.open(&path, how).await.expect("a new file");
    file.allocate(SEGMENT_BYTES as u64).await.expect("room");
    file.fill_zeros(0, SEGMENT_BYTES as u64).await.expect("zeros");
    file.sync().await.expect("synced");
}

/// How long it takes to write so many batches of one entry, one after the other, each durable before the next.
fn write(path: &Path, batches: u64) -> Duration {
    let path = path.to_owned();
    let writing = |executor: Executor| async move {
        let how = Open { mode: OpenMode::Existing, durability: Durability::EachWrite };
        let file = executor.open(&path, how).await.expect("it was made");
        let mut log = Log::new();
        let started = Instant::now();
        for batch in 0..batches {
            log.append();
            let write = log.seal();
            let offset = batch * BLOCK_BYTES as u64 % SEGMENT_BYTES as u64;
            let (buffer, written) = file.write_durably(offset, write.buffer, write.bytes).await;
            written.expect("the disk takes it");
            log.writer.written(buffer);
        }
        started.elapsed()
    };
    run_here(&CoreOptions::named("bench"), writing).expect("an executor")
}

fn disk(c: &mut Criterion) {
    let name = SegmentName { wal: WAL, sequence: SegmentSequence(1) };
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("wal-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join(name.to_string());
    let making = path.clone();
    run_here(&CoreOptions::named("bench"), |executor| make(executor, making)).expect("an executor");
    let mut group = c.benchmark_group("wal");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements(1));
    group.bench_function("a batch of one entry, on the disk", |b| b.iter_custom(|batches| write(&path, batches)));
    group.finish();
    std::fs::remove_dir_all(&directory).expect("it is ours");
}

criterion_group!(benches, memory, disk);
criterion_main!(benches);
