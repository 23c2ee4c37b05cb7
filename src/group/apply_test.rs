//! Applying on a page file in memory, where every page has to be read.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::base::limits::{APPLY_AHEAD_READS, PAGE_BYTES, READ_AHEAD_PAGES};
use crate::base::{AlignedBuffer, ClusterId, GroupId, GroupSet, Index, Instant, LeaseId, Mark, MemberId, Prng, Revision, Term};
use crate::mvcc::hash::HashQuery;
use crate::mvcc::stored::TREES;
use crate::mvcc::{At, Budget, Compacted, Compaction, EventsQuery, Filters, Mvcc, Overlay, RangeQuery, Span, View};
use crate::pages::{Fault, Options, PageWrite, Store};
use crate::raft::{Configuration, Log, Position, Replication, Start};
use crate::state::Payload;
use crate::state::kv::Effect;

const KEYS: u64 = 20_000;
const VALUE_BYTES: usize = PAGE_BYTES / 16;
const CACHE_BYTES: usize = 2048 * PAGE_BYTES;

/// A replica that leads alone, and its page file.
struct Rig {
    replica: Replica,
    file: Vec<u8>,
    revision: u64,
    /// Times that the file was waited for, however many pages were read then.
    waits: u64,
    reads: u64,
}

fn raft(applied: Index) -> Replication {
    let start = Start {
        me: MemberId(1),
        group: GroupId(1),
        term: Term(applied.0),
        configuration: Configuration::new(0, 1, vec![MemberId(1)], Vec::new()).expect("one voter"),
        log: Log::starting(Position { term: Term(applied.0), index: applied }, Revision(applied.0)),
        applied,
        configuration_of: |_| None,
    };
    let term = Term(start.term.0 + 1);
    let mut raft = Replication::new(start).expect("an empty log is sound");
    raft.freeze(term);
    raft.lead(term);
    raft
}

fn note(applied: u64) -> Note {
    Note {
        cluster: ClusterId(1),
        member: MemberId(1),
        group: GroupId(1),
        shards: 1,
        applied: Index(applied),
        applied_term: Term(applied),
        applied_revision: Revision(applied),
        known_stable: Revision(applied),
        floor: Revision::ZERO,
        sliced: Revision::ZERO,
    }
}

fn stamp() -> Stamp {
    Stamp { cluster: ClusterId(1), member: MemberId(1), shards: 1, known_stable: Revision::ZERO }
}

impl Rig {
    fn over(store: Store, file: Vec<u8>, applied: u64) -> Rig {
        let machine = Machine::Keys(Box::new(Mvcc::new(store, Revision(applied))));
        let replica = Replica::new(Instant::ZERO, raft(Index(applied)), machine, &note(applied));
        Rig { replica, file, revision: applied, waits: 0, reads: 0 }
    }

    /// Every key has been put once, and none of their pages is in memory.
    fn cold() -> Rig {
        let mut rig = Rig::over(Store::create(Options::with_cache(CACHE_BYTES)), Vec::new(), 0);
        rig.propose(0..KEYS);
        rig.replica.apply(usize::MAX, |_| true, |_| {}).expect("a new store has all its pages in memory");
        rig.reopened()
    }

    /// After a checkpoint and a start.
    fn reopened(self) -> Rig {
        self.reopened_with(CACHE_BYTES)
    }

    fn reopened_with(mut self, cache_bytes: usize) -> Rig {
        let mut step = self.replica.begin_checkpoint(Instant::ZERO, &stamp());
        while self.carry_out(step) {
            step = self.replica.advance_checkpoint();
        }
        let store = Store::open(&self.file[..2 * PAGE_BYTES], self.file.len() as u64, Options::with_cache(cache_bytes));
        Rig::over(store.expect("a whole checkpoint"), self.file, self.revision)
    }

    fn mvcc(&mut self) -> &mut Mvcc {
        let Machine::Keys(mvcc) = &mut self.replica.machine else { unreachable!("it was made with keys") };
        mvcc
    }

    /// Compacts to the end; `waits` is called whenever it waits for pages.
    fn compact(&mut self, compaction: &mut Compaction, mut waits: impl FnMut(&mut Rig)) {
        loop {
            match self.mvcc().compact_slice(compaction, Budget::UNLIMITED) {
                Ok(Compacted::Whole) => break,
                Ok(Compacted::Part) => {}
                Err(fault) => {
                    waits(self);
                    let ahead = self.mvcc().compact_ahead(compaction);
                    self.wait_for(std::iter::once(fault).chain(ahead));
                    self.mvcc().store_mut().evict();
                }
            }
        }
    }

    /// Waits for these pages at one time.
    fn wait_for(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.waits += 1;
        faults.into_iter().for_each(|fault| self.install(fault));
    }

    fn write(&mut self, write: &PageWrite) {
        let at = write.offset() as usize;
        self.file.resize(self.file.len().max(at + write.bytes.len()), 0);
        self.file[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
    }

    /// Whether there is another step.
    fn carry_out(&mut self, step: CheckpointStep) -> bool {
        match step {
            CheckpointStep::Write(writes) => writes.iter().for_each(|write| self.write(write)),
            CheckpointStep::WriteMeta(write) => self.write(&write),
            CheckpointStep::Sync | CheckpointStep::Done { .. } => {}
            CheckpointStep::Rest => return false,
        }
        true
    }

    /// Puts of these keys, a revision each, committed.
    fn propose(&mut self, keys: impl IntoIterator<Item = u64>) {
        for key in keys {
            self.revision += 1;
            let effect = Effect::Put {
                operation: 0,
                key: Bytes::copy_from_slice(&key.to_be_bytes()),
                value: Bytes::from(vec![7; VALUE_BYTES]),
                lease: LeaseId::NONE,
                create_revision: None,
                version: 1,
            };
            let mark = Mark::Revision { revision: Revision(self.revision), participants: GroupSet::of(GroupId(1)) };
            self.replica.raft.propose(mark, Payload::encode_kv(&[effect]));
        }
        let number = self.replica.raft.ready().persist.expect("there is something to write").number;
        self.replica.raft.persisted(number);
        self.replica.raft.commit(Revision(self.revision));
        let ready = self.replica.raft.ready();
        assert!(ready.persist.is_none(), "everything is on disk");
    }

    fn install(&mut self, fault: Fault) {
        let mut bytes = AlignedBuffer::zeroed(fault.bytes());
        let at = fault.offset() as usize;
        bytes.copy_from_slice(&self.file[at..at + fault.bytes()]);
        self.reads += 1;
        self.replica.install(fault, bytes).expect("what was written is read");
    }

    /// Applies everything; what is wanted ahead is read in the same wait as what is wanted at once.
    fn apply_all(&mut self) {
        let mut asked: Vec<(Index, Fault)> = Vec::new();
        while let Err(ApplyError::Fault(fault)) = self.replica.apply(usize::MAX, |_| true, |_| {}) {
            self.waits += 1;
            asked.extend(self.replica.look_ahead(APPLY_AHEAD_READS - asked.len()));
            self.install(fault);
            for (index, fault) in std::mem::take(&mut asked) {
                self.install(fault);
                asked.extend(self.replica.look_at(index).into_iter().map(|fault| (index, fault)));
            }
        }
    }
}

#[test]
fn pages_that_further_entries_want_are_read_side_by_side() {
    let mut rig = Rig::cold();
    let mut rng = Prng::new(1);
    rig.propose((0..2000).map(|_| rng.below(KEYS)).collect::<Vec<_>>());
    rig.apply_all();
    assert!(rig.replica.is_applied());
    assert!(rig.reads > 250, "the test wants many pages: {}", rig.reads);
    assert!(rig.waits * 20 < rig.reads, "{} waits for {} pages", rig.waits, rig.reads);
}

#[test]
fn what_waits_for_its_first_page_is_not_half_applied() {
    let mut rig = Rig::cold();
    rig.propose([5]);
    rig.apply_all();
    rig.propose([KEYS / 2]);
    for faults in 0..10 {
        match rig.replica.apply(usize::MAX, |_| true, |_| {}) {
            Err(ApplyError::Fault(fault)) => {
                assert!(rig.replica.is_whole(), "a checkpoint must be able to begin while pages are read");
                rig.install(fault);
            }
            Err(ApplyError::Malformed(index)) => panic!("entry {index} is none of this program's"),
            Ok(()) => return assert!(faults > 0, "the leaf is in memory"),
        }
    }
    panic!("it faults for ever");
}

#[test]
fn applying_waits_for_a_checkpoint_rather_than_take_memory_without_bound() {
    let policy =
        CheckpointPolicy { dirty_bytes: 64 << 10, dirty_bytes_max: 128 << 10, entries: u64::MAX, interval: Duration::MAX };
    let mut rig = Rig::cold();
    rig.propose(KEYS..KEYS + 10);
    rig.apply_all();
    let mut step = rig.replica.begin_checkpoint(Instant::ZERO, &stamp());
    rig.propose(KEYS + 10..2 * KEYS);
    rig.replica.apply(usize::MAX, |replica| !replica.is_held_up(&policy), |_| {}).expect("all pages are there");
    let slack = 16 * PAGE_BYTES as u64;
    while rig.carry_out(step) {
        let progress = rig.replica.machine.store().progress();
        let (dirty, bound) = (rig.replica.dirty_bytes(), policy.dirty_bytes_beside(progress) + slack);
        assert!(!rig.replica.is_applied() && dirty <= bound, "{dirty} bytes are dirty beside {progress:?}, {bound} may be");
        step = rig.replica.advance_checkpoint();
        let before = rig.replica.applied();
        rig.replica.apply(usize::MAX, |replica| !replica.is_held_up(&policy), |_| {}).expect("all pages are there");
        let went_on = rig.replica.machine.store().progress().written > progress.written;
        assert!(!went_on || rig.replica.applied() > before, "applying goes on as the checkpoint does");
    }
    assert!(rig.replica.is_applied(), "no checkpoint is under way that applying could wait for");
}

#[test]
fn a_compaction_and_a_hash_read_pages_side_by_side() {
    let mut rig = Rig::cold();
    let mut rng = Prng::new(2);
    rig.propose((0..2000).map(|_| rng.below(KEYS)).collect::<Vec<_>>());
    rig.apply_all();
    let revision = Revision(rig.revision);
    let mut rig = rig.reopened();
    let mut compaction = Compaction::new(Revision::ZERO, revision).sweeping(false);
    rig.compact(&mut compaction, |rig| {
        let entries = TREES.map(|(tree, _)| rig.mvcc().store().len(tree).entries);
        assert_eq!(entries[0], entries[1], "a version is in one tree and not in the other");
    });
    assert!(compaction.removed() > 1800 && rig.reads > 1000, "{} removed, {} pages", compaction.removed(), rig.reads);
    assert!(rig.waits * 4 < rig.reads, "{} waits for {} pages", rig.waits, rig.reads);

    let mut rig = rig.reopened();
    let query = HashQuery { compacted: revision.as_i64(), revision, at_compaction: false };
    let (mut resume, mut entries) = (None, 0);
    loop {
        match rig.mvcc().hash_entries(query, resume.as_ref(), Budget::UNLIMITED) {
            Ok(chunk) => {
                entries += chunk.entries.len();
                resume = chunk.resume;
            }
            Err(fault) => {
                let ahead = rig.mvcc().hash_ahead(query, resume.as_ref(), READ_AHEAD_PAGES);
                rig.wait_for(std::iter::once(fault).chain(ahead));
                continue;
            }
        }
        if resume.is_none() {
            break;
        }
    }
    assert!(entries as u64 == KEYS && rig.reads > 1000, "{entries} entries, {} pages", rig.reads);
    assert!(rig.waits * 4 < rig.reads, "{} waits for {} pages", rig.waits, rig.reads);
}

/// Old values of keys that are overwritten in another order lie far from each other: with a page read for each, a compaction would read
/// most pages several times.
#[test]
fn a_compaction_of_everything_reads_each_page_about_once() {
    let mut rig = Rig::over(Store::create(Options::with_cache(CACHE_BYTES)), Vec::new(), 0);
    rig.propose(0..KEYS);
    rig.apply_all();
    rig.propose((0..KEYS).map(|n| n * 7919 % KEYS));
    rig.apply_all();
    let revision = Revision(rig.revision);
    let mut rig = rig.reopened_with(CACHE_BYTES / 4);
    let pages = rig.file.len() / PAGE_BYTES;
    let mut compaction = Compaction::new(Revision::ZERO, revision);
    rig.compact(&mut compaction, |_| {});
    assert_eq!(compaction.removed(), KEYS);
    let entries = TREES.map(|(tree, _)| rig.mvcc().store().len(tree).entries);
    assert_eq!(entries[..2], [KEYS, KEYS], "a version of each key is left in both trees");
    assert!(rig.reads < pages as u64 * 5 / 4, "{} reads of {pages} pages", rig.reads);
    assert!(rig.waits * 16 < rig.reads, "{} waits for {} pages", rig.waits, rig.reads);
}

#[test]
fn a_list_reads_values_side_by_side() {
    let mut rig = Rig::over(Store::create(Options::with_cache(CACHE_BYTES)), Vec::new(), 0);
    // Neighbours among the keys are far from each other among the changes.
    rig.propose((0..KEYS).map(|n| n * 7919 % KEYS));
    rig.apply_all();
    let mut rig = rig.reopened();
    let (at, overlay) = (At::end_of(Revision(rig.revision)), Overlay::new());
    let query = RangeQuery { span: Span::everything(), limit: usize::MAX, keys_only: false, filters: Filters::default() };
    let (mut resume, mut keys) = (None, 0);
    while keys < 2000 {
        let view = View { mvcc: rig.mvcc(), overlay: &overlay };
        match view.range(at, &query, resume.as_deref(), Budget::UNLIMITED) {
            Ok(chunk) => {
                assert!(chunk.kvs.iter().all(|kv| kv.value == [7; VALUE_BYTES][..]));
                keys += chunk.kvs.len();
                resume = chunk.resume;
            }
            Err(fault) => {
                let mut ahead = view.keys_ahead(&query.span, resume.as_deref(), READ_AHEAD_PAGES, query.limit);
                ahead.extend(view.values_ahead(at, &query, resume.as_deref(), READ_AHEAD_PAGES));
                rig.wait_for(std::iter::once(fault).chain(ahead));
            }
        }
    }
    assert!(rig.reads > 1000, "{} pages for {keys} keys show nothing", rig.reads);
    assert!(rig.waits * 16 < rig.reads, "{} waits for {} pages", rig.waits, rig.reads);
}

#[test]
fn a_catch_up_reads_pages_side_by_side() {
    let mut rig = Rig::cold();
    let to = Revision(rig.revision);
    let query = EventsQuery { from: Revision(1), to, span: Span::everything(), with_prev: false, compacted: Revision::ZERO };
    let (mut resume, mut events) = (None, 0);
    loop {
        match rig.mvcc().events(&query, resume.as_ref(), Budget::UNLIMITED) {
            Ok(chunk) => {
                events += chunk.events.len() as u64;
                resume = chunk.resume;
                if resume.is_none() {
                    break;
                }
            }
            Err(fault) => {
                let ahead = rig.mvcc().events_ahead(&query, resume.as_ref(), READ_AHEAD_PAGES);
                rig.wait_for(std::iter::once(fault).chain(ahead));
            }
        }
    }
    assert!(events == KEYS && rig.reads > 1000, "{events} events, {} pages", rig.reads);
    assert!(rig.waits * 16 < rig.reads, "{} waits for {} pages", rig.waits, rig.reads);
}
