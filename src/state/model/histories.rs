//! Random histories over one or several shards, with caches that hold next to nothing, against the naive store.

use bytes::Bytes;

use crate::base::{LeaseId, Revision};
use crate::mvcc::hash::{AnyKept, HashMerger, HashQuery};
use crate::mvcc::{At, Budget, Change, Compacted, Event, EventsQuery, Filters, Span, View};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};
use crate::proto::mvccpb::KeyValue;
use crate::state::evaluate::{Answer, delete_range, put, txn};

use super::naive::is_within;
use super::world::{Shard, World, shard_of};

impl World {
    fn step(&mut self) {
        match self.rng.below(13) {
            0..=3 => self.step_put(),
            4 | 5 => self.step_delete(),
            6..=8 => self.step_txn(),
            9 => self.progress(false),
            10 => self.check_reads(),
            11 => self.step_revoke(),
            _ if self.rng.chance(1, 6) => self.compact(),
            _ => self.check_leases(),
        }
        assert_eq!(self.told.len(), self.naive.changes.len());
    }

    fn step_put(&mut self) {
        let request = self.put_request();
        let shard = shard_of(&request.key, self.shards.len());
        let answer = self.single(shard, |basis, _| put(basis, &request));
        assert_eq!(answer, self.naive.put(&request).map(Answer::Put), "{request:?}");
    }

    fn step_delete(&mut self) {
        let request = self.delete_request();
        if request.range_end.is_empty() || self.shards.len() == 1 {
            let shard = shard_of(&request.key, self.shards.len());
            let answer = self.single(shard, |basis, memo| delete_range(basis, &request, memo));
            assert_eq!(answer, Ok(Answer::Delete(self.naive.delete_range(&request))), "{request:?}");
        } else {
            let success = vec![RequestOp { request: Some(Request::RequestDeleteRange(request)) }];
            self.run_txn(TxnRequest { success, ..TxnRequest::default() });
        }
    }

    fn step_revoke(&mut self) {
        let lease = [1, 2, 9][self.rng.below(3) as usize];
        self.revoke(LeaseId(lease));
        self.naive.revoke(lease);
        assert_eq!(self.current().as_i64(), self.naive.revision);
    }

    fn step_txn(&mut self) {
        let request = self.txn_request(0);
        self.run_txn(request);
    }

    pub(super) fn run_txn(&mut self, request: TxnRequest) {
        let before = self.current();
        let answer = if self.shards.len() == 1 {
            self.single(0, |basis, memo| txn(basis, &request, memo)).map(|answer| match answer {
                Answer::Txn(answer) => answer,
                other => panic!("{other:?}"),
            })
        } else {
            self.coordinated(&request)
        };
        let expected = self.naive.txn(&request);
        let answer = answer.map(|answer| self.fill_pending(answer, before));
        assert_eq!(answer, expected, "{request:#?}");
    }

    fn past(&mut self) -> i64 {
        let lowest = self.naive.compacted.max(1);
        lowest + self.rng.below((self.naive.revision - lowest + 1) as u64) as i64
    }

    fn check_reads(&mut self) {
        let at = self.past();
        let (key, end) = (self.key(), self.end());
        let span = Span::of_request(&key, &end);
        let expected = self.naive.range_kvs(&key, &end, at);
        let read_at = At::end_of(Revision(at as u64));
        assert_eq!(self.count(read_at, &span), expected.len() as u64);
        assert_eq!(self.read(read_at, &span, false, Filters::default()), (expected.clone(), expected.len() as u64));
        let filters = Filters { max_mod: self.past(), min_create: self.past(), ..Filters::default() };
        let admitted = |kv: &&KeyValue| kv.mod_revision <= filters.max_mod && kv.create_revision >= filters.min_create;
        let filtered: Vec<KeyValue> = expected.iter().filter(admitted).cloned().collect();
        assert_eq!(self.read(read_at, &span, false, filters), (filtered, expected.len() as u64));
    }

    fn check_leases(&mut self) {
        for lease in [1, 2, 9] {
            let mut keys = Vec::new();
            for number in 0..self.shards.len() {
                let mut resume: Option<Bytes> = None;
                loop {
                    let budget = self.budget();
                    let Shard { leader, overlay, .. } = &mut self.shards[number];
                    let slice = leader.run(|mvcc| View { mvcc, overlay }.attached(LeaseId(lease), resume.as_deref(), budget));
                    keys.extend(slice.keys);
                    resume = slice.resume;
                    if resume.is_none() {
                        break;
                    }
                }
            }
            keys.sort();
            let attached = |kv: KeyValue| (kv.lease == lease).then_some(kv.key);
            let expected: Vec<Bytes> = self.naive.state(i64::MAX).into_values().filter_map(attached).collect();
            assert_eq!(keys, expected);
        }
    }

    /// The events of the naive store, those that compaction has left.
    fn naive_events(&self, from: i64, key: &[u8], end: &[u8], compacted: i64) -> Vec<Event> {
        let mut events = Vec::new();
        for change in self.naive.changes.iter().filter(|change| change.main >= from) {
            let gone = compacted > 0 && !self.naive.stored.contains(&(change.main, change.sub));
            if gone || !is_within(&change.key, key, end) {
                continue;
            }
            let creates = change.put.as_ref().is_some_and(|kv| kv.create_revision == change.main);
            let known = !creates && change.main > compacted;
            let prev = if known { self.naive.state(change.main - 1).remove(&change.key) } else { None };
            let place = Change { revision: Revision(change.main as u64), operation: 0 };
            events.push(match &change.put {
                Some(kv) => Event::put(place, kv.clone(), prev),
                None => Event::tombstone(place, change.key.clone(), prev),
            });
        }
        events
    }

    /// Puts events of several shards in order, and strips the operation numbers, which the naive store has not.
    fn merged(mut events: Vec<Event>) -> Vec<Event> {
        events.sort_by(|a, b| (a.change, &a.kv.key).cmp(&(b.change, &b.kv.key)));
        events.iter_mut().for_each(|event| event.change.operation = 0);
        events
    }

    /// Until a compaction is through, what it removes at the floor itself may be there or not: then events are read from above it.
    fn check_events(&mut self, is_compacted: bool) {
        let expected = self.naive_events(0, b"\0", b"\0", 0);
        assert_eq!(World::merged(self.told.clone()), expected);
        assert_eq!(World::merged(self.followed.clone()), expected);
        for _ in 0..6 {
            let (mut from, key, end) = (self.past(), self.key(), self.end());
            if !is_compacted {
                from = from.max(self.naive.compacted + 1);
            }
            let query = EventsQuery {
                from: Revision(from as u64),
                to: self.current(),
                span: Span::of_request(&key, &end),
                with_prev: true,
                compacted: Revision(self.naive.compacted.max(0) as u64),
            };
            let mut events = Vec::new();
            for number in 0..self.shards.len() {
                let mut resume = None;
                loop {
                    let budget = self.budget();
                    let chunk = self.shards[number].leader.run(|mvcc| mvcc.events(&query, resume.as_ref(), budget));
                    events.extend(chunk.events);
                    resume = chunk.resume;
                    if resume.is_none() {
                        break;
                    }
                }
            }
            assert_eq!(World::merged(events), self.naive_events(from, &key, &end, self.naive.compacted));
        }
    }

    fn check_hash(&mut self, at: i64) {
        let query = HashQuery { revision: Revision(at as u64), compacted: self.naive.compacted, at_compaction: false };
        assert_eq!(self.hash(query), self.naive.hash(at), "at {at}, compacted {}", self.naive.compacted);
    }

    pub(super) fn hash(&mut self, query: HashQuery) -> u32 {
        let mut any_kept = false;
        for number in 0..self.shards.len() {
            let mut resume: Option<Bytes> = None;
            loop {
                let budget = self.budget();
                match self.shards[number].leader.run(|mvcc| mvcc.any_kept(query, resume.as_deref(), budget)) {
                    AnyKept::Yes => any_kept = true,
                    AnyKept::No => {}
                    AnyKept::From(key) => {
                        resume = Some(key);
                        continue;
                    }
                }
                break;
            }
        }
        let mut merger = HashMerger::new(self.shards.len(), any_kept);
        let mut resumes = vec![None; self.shards.len()];
        while let Some(wanted) = merger.wanted() {
            let budget = self.budget();
            let resume = &resumes[wanted];
            let chunk = self.shards[wanted].leader.run(|mvcc| mvcc.hash_entries(query, resume.as_ref(), budget));
            merger.feed(wanted, chunk.entries, chunk.resume.is_none());
            resumes[wanted] = chunk.resume;
        }
        merger.finish()
    }

    /// With everything applied and compacted.
    fn check_all(&mut self) {
        self.progress(true);
        self.check_events(false);
        for at in self.naive.compacted.max(1)..=self.naive.revision {
            self.check_hash(at);
            let expected: Vec<KeyValue> = self.naive.state(at).into_values().collect();
            let at = At::end_of(Revision(at as u64));
            assert_eq!(self.count(at, &Span::everything()), expected.len() as u64);
            assert_eq!(
                self.read(at, &Span::everything(), false, Filters::default()),
                (expected.clone(), expected.len() as u64)
            );
        }
        for shard in &mut self.shards {
            let compaction = &mut shard.compaction;
            while shard.leader.run(|mvcc| mvcc.compact_slice(compaction, Budget::UNLIMITED)) == Compacted::Part {}
        }
        self.check_events(true);
        self.check_leases();
        let stored: u64 = self.shards.iter().map(|shard| shard.leader.mvcc.changes()).sum();
        assert_eq!(stored, self.naive.stored.len() as u64, "compaction leaves what etcd's leaves");
    }
}

fn run(seeds: std::ops::Range<u64>, shards: usize, steps: u64) {
    let mut faults = 0;
    let runs = seeds.end - seeds.start;
    for seed in seeds {
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, shards);
            let steps = 1 + world.rng.below(steps);
            (0..steps).for_each(|_| world.step());
            world.check_all();
            world.shards.iter().map(|shard| shard.leader.disk.faults + shard.follower.disk.faults).sum::<u64>()
        });
        faults += result.unwrap_or_else(|_| panic!("seed {seed} with {shards} shards"));
    }
    assert!(faults > runs * 20, "{faults} faults in {runs} runs: the cache is too large to test anything");
}

#[test]
fn one_shard_does_what_the_naive_store_does() {
    run(0..2500, 1, 60);
}

#[test]
fn several_shards_do_what_the_naive_store_does() {
    run(0..1500, 3, 60);
    run(0..200, 16, 60);
}

#[test]
fn long_histories_do_what_the_naive_store_does() {
    run(0..15, 1, 600);
    run(0..15, 4, 600);
}

/// A put that keeps the value of a key which the txn deletes is found out only while the txn is gone through; etcd has checked the
/// leases of all puts before that.
#[test]
fn the_checks_of_all_shards_come_before_what_one_finds_on_its_way() {
    for shards in [1, 2, 4, 16] {
        let mut world = World::new(1, shards);
        let put = |key: &'static [u8], lease, ignore_value| {
            let put = PutRequest { key: Bytes::from_static(key), lease, ignore_value, ..PutRequest::default() };
            RequestOp { request: Some(Request::RequestPut(put)) }
        };
        let delete = DeleteRangeRequest { key: Bytes::from_static(b"a"), range_end: Bytes::from_static(b"\0"), prev_kv: false };
        let delete = RequestOp { request: Some(Request::RequestDeleteRange(delete)) };
        for key in [&b"a"[..], b"b", b"c", b"d"] {
            world.run_txn(TxnRequest { success: vec![put(key, 0, false)], ..TxnRequest::default() });
            for other in [&b"e"[..], b"f", b"g", b"h"] {
                let success = vec![delete.clone(), put(key, 0, true), put(other, 9, false)];
                world.run_txn(TxnRequest { success, ..TxnRequest::default() });
            }
        }
    }
}
