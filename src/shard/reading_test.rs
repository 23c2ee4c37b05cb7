//! Reads that take many slices, on a page file in memory and a cache of a few pages.

use bytes::Bytes;

use super::*;
use crate::base::limits::PAGE_BYTES;
use crate::base::{AlignedBuffer, LeaseId, Revision};
use crate::mvcc::{Change, Overlay, PutFields};
use crate::pages::{Options, PageWrite, Store};

/// More than one slice looks at.
const KEYS: u64 = 20 * SLICE_VISITS_MAX as u64;
const CACHE_BYTES: usize = 8 * PAGE_BYTES;
/// At this revision every key has been put once.
const PUT: Revision = Revision(KEYS);

/// A store whose pages are all on disk, and what was done to read it.
struct Rig {
    mvcc: Mvcc,
    file: Vec<u8>,
    pages_read: u64,
    slices: u64,
    cached_most: u64,
}

impl Rig {
    /// Every key has been put, and then each again, or deleted.
    fn new(deleted: bool) -> Rig {
        let mut mvcc = Mvcc::new(Store::create(Options::with_cache(CACHE_BYTES)), Revision::ZERO);
        for revision in 1..=2 * KEYS {
            let key = (revision % KEYS).to_be_bytes();
            let change = Change { revision: Revision(revision), operation: 0 };
            let fields = PutFields {
                create_revision: change.revision,
                version: 1,
                lease: LeaseId::NONE,
                value: b"a value of some bytes",
            };
            let _ = mvcc.begin(change.revision);
            match deleted && revision > KEYS {
                true => mvcc.tombstone(&key, change),
                false => mvcc.put(&key, change, &fields),
            }
            .expect("a new store has all its pages in memory");
        }
        let mut rig = Rig { mvcc, file: Vec::new(), pages_read: 0, slices: 0, cached_most: 0 };
        let store = rig.mvcc.store_mut();
        let checkpoint = store.begin_checkpoint(b"");
        let mut writes = store.checkpoint_writes(usize::MAX);
        writes.push(checkpoint.meta);
        store.finish_checkpoint();
        writes.iter().for_each(|write| rig.write(write));
        let store = Store::open(&rig.file[..2 * PAGE_BYTES], rig.file.len() as u64, Options::with_cache(CACHE_BYTES));
        Rig { mvcc: Mvcc::new(store.expect("a whole checkpoint"), Revision(2 * KEYS)), ..rig }
    }

    fn write(&mut self, write: &PageWrite) {
        let at = write.offset() as usize;
        self.file.resize(self.file.len().max(at + write.bytes.len()), 0);
        self.file[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
    }

    /// Takes slices until there is an answer, as a core does: what was used since a page was asked for stays until it is there.
    fn read<T>(&mut self, mut slice: impl FnMut(&Mvcc, &mut Option<Box<Found>>) -> Result<Option<T>, Fault>) -> T {
        let mut found = None;
        loop {
            self.slices += 1;
            assert!(self.slices < 100 * KEYS, "a read does not end");
            let outcome = slice(&self.mvcc, &mut found);
            self.cached_most = self.cached_most.max(self.mvcc.store().cached_bytes());
            match outcome {
                Ok(Some(answer)) => return answer,
                Ok(None) => drop(self.mvcc.store_mut().evict()),
                Err(fault) => {
                    let since = self.mvcc.store().tick();
                    self.mvcc.store_mut().evict_but(since);
                    let mut bytes = AlignedBuffer::zeroed(fault.bytes());
                    bytes.copy_from_slice(&self.file[fault.offset() as usize..][..fault.bytes()]);
                    self.pages_read += 1;
                    self.mvcc.store_mut().install(fault, bytes).expect("what was written is read");
                }
            }
        }
    }

    /// A page is read a few times at most. A slice ends at a missing page, which the next one asks for, or when it has looked at its
    /// part of the versions.
    fn is_linear(&self) {
        let pages = (self.file.len() / PAGE_BYTES) as u64;
        assert!(self.pages_read > pages / 8, "{} of {pages} pages were read: this shows nothing", self.pages_read);
        assert!(self.pages_read < 3 * pages, "{} pages were read of a file of {pages}", self.pages_read);
        let most = 2 * self.pages_read + 2 * 2 * KEYS / u64::from(SLICE_VISITS_MAX) + 2;
        assert!(self.slices <= most, "{} slices for {} pages", self.slices, self.pages_read);
        let cached = self.cached_most as usize / PAGE_BYTES;
        assert!(cached < 4 * CACHE_BYTES / PAGE_BYTES, "{cached} pages were in memory");
    }
}

/// The first keys of everything, and how many there are.
fn list(at: Revision) -> RangeRead {
    RangeRead {
        range: KeyRange { from: Bytes::new(), end: RangeEnd::Open },
        at: messages::At::end_of(at),
        limit: 5,
        keys_only: false,
        count_only: false,
        with_count: true,
        mod_revisions: (0, 0),
        create_revisions: (0, 0),
        resume: None,
    }
}

#[test]
fn a_list_at_an_old_revision_is_counted_in_one_walk() {
    let mut rig = Rig::new(false);
    let overlay = Overlay::new();
    let slice = rig.read(|mvcc, found| range(View { mvcc, overlay: &overlay }, &list(PUT), found));
    assert_eq!(slice.count, KEYS);
    // The keys end where a page is missing; the front asks for those behind.
    assert!(matches!(slice.kvs.len(), 1..=5) && slice.resume.is_some());
    assert!(slice.kvs.iter().all(|kv| kv.mod_revision <= PUT.as_i64()));
    rig.is_linear();
}

#[test]
fn whether_a_hash_keeps_anything_is_found_in_one_walk() {
    let mut rig = Rig::new(true);
    let query = HashQuery { revision: Revision(2 * KEYS), compacted: -1, at_compaction: false };
    assert!(!rig.read(|mvcc, found| hash_kept(mvcc, query, found)));
    rig.is_linear();
}
