//! A page file in memory for tests: it serves faults, takes checkpoints, and loses what was not synced at a crash.

use std::collections::BTreeMap;

use super::{CheckReport, Checkpoint, Damage, Fault, Options, PageId, PageWrite, Store, check};
use crate::base::limits::{BLOCK_BYTES, PAGE_BYTES};
use crate::base::{AlignedBuffer, Prng};

const SECTOR_BYTES: usize = 512;

#[derive(Clone, Default)]
pub struct TestDisk {
    /// What the process sees.
    pub bytes: Vec<u8>,
    /// What was there before each block written since the last sync.
    unsynced: BTreeMap<usize, Vec<u8>>,
    /// The length that the last sync made certain.
    synced_bytes: usize,
    /// How many pages were read.
    pub reads: u64,
}

impl TestDisk {
    pub fn read(&mut self, first: PageId, pages: u32) -> AlignedBuffer {
        assert!(pages <= 1000, "no test writes a run of {pages} pages");
        let mut buffer = AlignedBuffer::zeroed(pages as usize * PAGE_BYTES);
        let at = first.0 as usize * PAGE_BYTES;
        let end = (at + buffer.len()).min(self.bytes.len());
        if at < end {
            buffer[..end - at].copy_from_slice(&self.bytes[at..end]);
        }
        self.reads += u64::from(pages);
        buffer
    }

    pub fn write(&mut self, write: &PageWrite) {
        let at = write.offset() as usize;
        self.grow(at + write.bytes.len());
        for (block, bytes) in write.bytes.chunks(BLOCK_BYTES).enumerate() {
            let at = at + block * BLOCK_BYTES;
            let old = self.bytes[at..at + BLOCK_BYTES].to_vec();
            self.unsynced.entry(at).or_insert(old);
            self.bytes[at..at + BLOCK_BYTES].copy_from_slice(bytes);
        }
    }

    pub fn grow(&mut self, bytes: usize) {
        if bytes > self.bytes.len() {
            self.bytes.resize(bytes, 0);
        }
    }

    pub fn sync(&mut self) {
        self.unsynced.clear();
        self.synced_bytes = self.bytes.len();
    }

    /// Cuts or extends the file to what a checkpoint says.
    pub fn set_len(&mut self, bytes: u64) {
        assert!(self.unsynced.is_empty(), "the file is cut when everything is on disk");
        self.bytes.resize(bytes as usize, 0);
        self.synced_bytes = self.bytes.len();
    }

    /// Each block written since the last sync is kept, lost, or torn: some of its sectors are kept.
    pub fn crash(&mut self, rng: &mut Prng) {
        if rng.chance(1, 4) {
            let lost = self.bytes.len() - self.synced_bytes;
            let kept = self.synced_bytes + rng.below(lost as u64 + 1) as usize / BLOCK_BYTES * BLOCK_BYTES;
            self.bytes.truncate(kept);
            self.unsynced.retain(|&at, _| at < kept);
            self.synced_bytes = kept;
        }
        for (at, old) in std::mem::take(&mut self.unsynced) {
            let fate = rng.below(3);
            for sector in (0..BLOCK_BYTES).step_by(SECTOR_BYTES) {
                if fate == 1 || fate == 2 && rng.chance(1, 2) {
                    self.bytes[at + sector..at + sector + SECTOR_BYTES].copy_from_slice(&old[sector..sector + SECTOR_BYTES]);
                }
            }
        }
    }

    pub fn serve(&mut self, store: &mut Store, fault: Fault) {
        let buffer = self.read(fault.first, fault.pages);
        store.install(fault, buffer).unwrap_or_else(|damage| panic!("{damage}"));
    }

    /// Runs a call until it has the pages that it needs.
    pub fn run<T>(&mut self, store: &mut Store, mut call: impl FnMut(&mut Store) -> Result<T, Fault>) -> T {
        for _ in 0..5_000 {
            match call(store) {
                Ok(value) => return value,
                Err(fault) => self.serve(store, fault),
            }
        }
        panic!("a call never has the pages that it needs");
    }

    /// A whole checkpoint.
    pub fn checkpoint(&mut self, store: &mut Store, note: &[u8]) {
        let checkpoint = store.begin_checkpoint(note);
        self.finish(store, &checkpoint);
    }

    /// What is left of a checkpoint that was begun.
    pub fn finish(&mut self, store: &mut Store, checkpoint: &Checkpoint) {
        self.grow(checkpoint.file_bytes as usize);
        loop {
            let writes = store.checkpoint_writes(16);
            if writes.is_empty() {
                break;
            }
            writes.iter().for_each(|write| self.write(write));
        }
        self.sync();
        self.write(&checkpoint.meta);
        self.sync();
        store.finish_checkpoint();
        self.set_len(checkpoint.file_bytes);
    }

    pub fn open(&mut self, options: Options) -> Result<Store, Damage> {
        let metas = self.read(PageId(0), 2);
        Store::open(&metas, self.bytes.len() as u64, options)
    }

    pub fn check(&self) -> CheckReport {
        let mut disk = self.clone();
        let bytes = disk.bytes.len() as u64;
        check(bytes, |first, pages| Ok::<_, std::convert::Infallible>(disk.read(first, pages))).expect("reads do not fail")
    }

    /// The report of a walk that must find nothing wrong.
    pub fn check_sound(&self) -> CheckReport {
        let report = self.check();
        assert!(report.errors.is_empty(), "{:#?}", report.errors);
        report
    }
}
