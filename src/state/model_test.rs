//! Random histories over one or several shards, with caches that hold next to nothing, against the naive store.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use crate::base::limits::PAGE_BYTES;
use crate::base::{AlignedBuffer, LeaseId, Prng, Revision};
use crate::mvcc::hash::{AnyKept, HashMerger, HashQuery};
use crate::mvcc::{
    At, Budget, Compacted, Compaction, Event, EventsQuery, Filters, Kind, Mvcc, Overlay, RangeQuery, Span, View,
};
use crate::pages::{Fault, Options, PageWrite, Store};
use crate::proto::etcdserverpb::compare::TargetUnion;
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, ResponseHeader, TxnRequest, TxnResponse,
};
use crate::proto::mvccpb::KeyValue;

use super::apply::{self, Applied, EventsWanted, Touched};
use super::evaluate::{
    Answer, Answers, Basis, Evaluated, Memo, Operations, Refusal, Stop, TxnAnswer, combine, compare_all, compares, decide,
    delete_range, part, put, txn,
};
use super::kv::{self, Effect};
use super::naive::Naive;

/// A page file in memory.
#[derive(Default)]
struct Disk(Vec<u8>);

impl Disk {
    fn write(&mut self, write: &PageWrite) {
        let at = write.offset() as usize;
        self.0.resize(self.0.len().max(at + write.bytes.len()), 0);
        self.0[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
    }

    fn serve(&self, store: &mut Store, fault: Fault) {
        let mut buffer = AlignedBuffer::zeroed(fault.bytes());
        let at = fault.offset() as usize;
        buffer.copy_from_slice(&self.0[at..at + fault.pages as usize * PAGE_BYTES]);
        store.install(fault, buffer).expect("what was written is read");
    }
}

/// A store and its file.
struct Replica {
    mvcc: Mvcc,
    disk: Disk,
}

impl Replica {
    fn new() -> Replica {
        let store = Store::create(Options::with_cache(4 * PAGE_BYTES));
        Replica { mvcc: Mvcc::new(store, Revision::ZERO), disk: Disk::default() }
    }

    /// Runs a call until it has the pages that it needs.
    fn run<T>(&mut self, mut call: impl FnMut(&mut Mvcc) -> Result<T, Fault>) -> T {
        for _ in 0..10_000 {
            match call(&mut self.mvcc) {
                Ok(done) => return done,
                Err(fault) => self.disk.serve(self.mvcc.store_mut(), fault),
            }
        }
        panic!("a call faults for ever");
    }

    /// Writes everything out, and lets go of what the cache has no room for.
    fn checkpoint(&mut self) {
        self.run(|mvcc| mvcc.store().load_space());
        if !self.mvcc.is_whole() {
            return;
        }
        let store = self.mvcc.store_mut();
        let checkpoint = store.begin_checkpoint(b"");
        loop {
            let writes = store.checkpoint_writes(64);
            if writes.is_empty() {
                break;
            }
            writes.iter().for_each(|write| self.disk.write(write));
        }
        self.disk.write(&checkpoint.meta);
        store.finish_checkpoint();
        while store.evict() {}
    }

    fn apply(&mut self, revision: Revision, payload: &Bytes, wanted: EventsWanted, budget: Budget) -> Vec<Event> {
        let effects = kv::decode(payload).expect("it was encoded");
        let mut events = Vec::new();
        while self.run(|mvcc| apply::apply(mvcc, revision, &effects, wanted, budget, &mut events)) == Applied::Part {}
        events
    }
}

struct Shard {
    leader: Replica,
    overlay: Overlay,
    /// Logged, not yet applied at the leader.
    waiting: VecDeque<(Revision, Bytes)>,
    follower: Replica,
    compaction: Compaction,
}

struct World {
    rng: Prng,
    naive: Naive,
    shards: Vec<Shard>,
    /// What the leader, and what the followers told.
    told: Vec<Event>,
    followed: Vec<Event>,
}

fn shard_of(key: &[u8], shards: usize) -> usize {
    key.iter().fold(7usize, |hash, byte| hash.wrapping_mul(31) + *byte as usize) % shards
}

/// What one shard is to log, enter and tell.
type Decided = (Vec<Effect>, Vec<Touched>);

impl World {
    fn new(seed: u64, shards: usize) -> World {
        let shard = |_| Shard {
            leader: Replica::new(),
            overlay: Overlay::new(),
            waiting: VecDeque::new(),
            follower: Replica::new(),
            compaction: Compaction::new(Revision::ZERO, Revision::ZERO),
        };
        let mut naive = Naive::new();
        naive.leases = BTreeSet::from([1, 2]);
        World { rng: Prng::new(seed), naive, shards: (0..shards).map(shard).collect(), told: Vec::new(), followed: Vec::new() }
    }

    fn current(&self) -> Revision {
        Revision(self.naive.revision as u64)
    }

    /// Small most of the time, so that slices end everywhere.
    fn budget(&mut self) -> Budget {
        Budget { visits: 1 + self.rng.below(40) as u32, bytes: 1 + self.rng.below(300) as usize }
    }

    /// Evaluates in one shard until there is a result.
    fn evaluate<T>(
        &mut self,
        number: usize,
        mut call: impl FnMut(&Basis<'_>, &mut Memo) -> Result<T, Stop>,
    ) -> Result<T, (Refusal, usize)> {
        let (current, compacted, budget) = (self.current(), self.naive.compacted, self.budget());
        let (leases, shards) = (&self.naive.leases, self.shards.len());
        let shard = &mut self.shards[number];
        let mut memo = Memo::default();
        for _ in 0..10_000 {
            let basis = Basis {
                view: View { mvcc: &shard.leader.mvcc, overlay: &shard.overlay },
                lease_alive: &|lease| leases.contains(&lease.get()),
                is_local: &|key| shard_of(key, shards) == number,
                current,
                compacted,
                event_prevs: true,
                budget,
            };
            match call(&basis, &mut memo) {
                Ok(done) => return Ok(done),
                Err(Stop::Refused { refusal, operation }) => return Err((refusal, operation)),
                Err(Stop::Slice) => {}
                Err(Stop::Fault(fault)) => shard.leader.disk.serve(shard.leader.mvcc.store_mut(), fault),
            }
        }
        panic!("an evaluation does not end");
    }

    /// Evaluates a request of one shard and takes its revision.
    fn single(
        &mut self,
        shard: usize,
        call: impl FnMut(&Basis<'_>, &mut Memo) -> Result<Evaluated, Stop>,
    ) -> Result<Answer, Refusal> {
        let Evaluated { effects, touched, changes, mut answer } = self.evaluate(shard, call).map_err(|(refusal, _)| refusal)?;
        assert_eq!((changes as usize, effects.is_empty()), (touched.len(), touched.is_empty()));
        let before = self.current();
        match changes {
            0 => answer.fill(before, before),
            _ => {
                answer.fill(before, before.next());
                self.take(before.next(), vec![(shard, (effects, touched))]);
            }
        }
        Ok(answer)
    }

    /// A txn over several shards, as a coordinator does it.
    fn coordinated(&mut self, request: &TxnRequest) -> Result<TxnAnswer, Refusal> {
        let shards = self.shards.len();
        let mut outcomes = Vec::new();
        for shard in 0..shards {
            outcomes
                .push(self.evaluate(shard, |basis, memo| compare_all(basis, request, memo)).expect("compares are not refused"));
        }
        let holds = |(number, compare): (usize, &Compare)| combine(compare, outcomes.iter().filter_map(|of| of[number]));
        let holds: Vec<bool> = compares(request).into_iter().enumerate().map(holds).collect();
        let path = decide(request, &holds);

        let mut parts = Vec::new();
        let mut refused = Vec::new();
        for shard in 0..shards {
            match self.evaluate(shard, |basis, memo| part(basis, request, &path, memo)) {
                Ok(part) => parts.push(part),
                Err((refusal, operation)) => refused.push((operation, refusal)),
            }
        }
        if let Some((_, refusal)) = refused.into_iter().min_by_key(|(operation, _)| *operation) {
            return Err(refusal);
        }
        let mut changes = vec![0; parts[0].operations];
        parts.iter().flat_map(|part| part.changes()).for_each(|(index, of)| changes[index] += of);
        let operations = Operations::of_changes(changes);
        let mut answers = Answers::new(parts[0].operations);
        let mut decided = Vec::new();
        for (shard, part) in parts.into_iter().enumerate() {
            let finished = part.finish(&operations);
            finished.answers.into_iter().for_each(|(index, answer)| answers.add(index, answer));
            if !finished.effects.is_empty() {
                decided.push((shard, (finished.effects, finished.touched)));
            }
        }
        let mut answer = Answer::Txn(answers.assemble(request, &path, &operations));
        let before = self.current();
        assert_eq!(decided.is_empty(), operations.total() == 0);
        match decided.is_empty() {
            true => answer.fill(before, before),
            false => {
                answer.fill(before, before.next());
                self.take(before.next(), decided);
            }
        }
        match answer {
            Answer::Txn(answer) => Ok(answer),
            other => panic!("{other:?}"),
        }
    }

    /// Logs, enters and tells what was decided.
    fn take(&mut self, revision: Revision, decided: Vec<(usize, Decided)>) {
        for (number, (effects, touched)) in decided {
            let payload = kv::encode(&effects);
            let effects = kv::decode(&payload).expect("it was encoded");
            let shard = &mut self.shards[number];
            apply::enter(&mut shard.overlay, revision, &effects, &touched);
            shard.waiting.push_back((revision, payload.clone()));
            self.told.extend(apply::events(revision, &effects, touched));
            let budget = self.budget();
            let events = self.shards[number].follower.apply(revision, &payload, EventsWanted::WithPrev, budget);
            self.followed.extend(events);
            if self.rng.chance(1, 4) {
                self.shards[number].follower.checkpoint();
            }
        }
    }

    /// Applies some of what waits at the leaders; sometimes a revision stays half applied.
    fn progress(&mut self, all: bool) {
        for number in 0..self.shards.len() {
            let budget = self.budget();
            let steps = if all { usize::MAX } else { self.rng.below(4) as usize };
            let stop_inside = !all && self.rng.chance(1, 8);
            let shard = &mut self.shards[number];
            for _ in 0..steps {
                let Some((revision, payload)) = shard.waiting.front().cloned() else { break };
                let effects = kv::decode(&payload).expect("it was encoded");
                if stop_inside {
                    let mut call =
                        |mvcc: &mut Mvcc| apply::apply(mvcc, revision, &effects, EventsWanted::No, budget, &mut Vec::new());
                    if shard.leader.run(&mut call) == Applied::Part {
                        break;
                    }
                } else {
                    shard.leader.apply(revision, &payload, EventsWanted::No, budget);
                }
                shard.overlay.remove_applied(revision);
                shard.waiting.pop_front();
            }
            if self.rng.chance(1, 3) {
                self.shards[number].leader.checkpoint();
            }
            let budget = self.budget();
            let shard = &mut self.shards[number];
            let compaction = &mut shard.compaction;
            shard.leader.run(|mvcc| mvcc.compact_slice(compaction, budget));
        }
    }

    fn compact(&mut self) {
        self.progress(true);
        let lowest = self.naive.compacted.max(0) + 1;
        let at = lowest + self.rng.below((self.naive.revision - lowest + 1).max(1) as u64) as i64;
        if at > self.naive.revision || self.naive.is_holed(at) {
            return;
        }
        self.naive.compact(at);
        for shard in &mut self.shards {
            let compaction = &mut shard.compaction;
            while shard.leader.run(|mvcc| mvcc.compact_slice(compaction, Budget::UNLIMITED)) == Compacted::Part {}
            shard.compaction = Compaction::new(shard.compaction.floor(), Revision(at as u64));
        }
    }

    /// All keys of a span over all shards, read in slices.
    fn read(&mut self, at: At, span: &Span, keys_only: bool, filters: Filters) -> (Vec<KeyValue>, u64) {
        let (mut kvs, mut count) = (Vec::new(), 0);
        for number in 0..self.shards.len() {
            let limit = 1 + self.rng.below(5) as usize;
            let query = RangeQuery { span: span.clone(), limit, keys_only, filters };
            let mut resume: Option<Bytes> = None;
            loop {
                let budget = self.budget();
                let Shard { leader, overlay, .. } = &mut self.shards[number];
                let chunk = leader.run(|mvcc| View { mvcc, overlay }.range(at, &query, resume.as_deref(), budget));
                assert!(chunk.kvs.len() <= limit);
                kvs.extend(chunk.kvs);
                count += chunk.counted;
                resume = chunk.resume;
                if resume.is_none() {
                    break;
                }
            }
        }
        kvs.sort_by(|a, b| a.key.cmp(&b.key));
        (kvs, count)
    }

    fn count(&mut self, at: At, span: &Span) -> u64 {
        let mut count = 0;
        for number in 0..self.shards.len() {
            let mut resume: Option<Bytes> = None;
            loop {
                let budget = self.budget();
                let Shard { leader, overlay, .. } = &mut self.shards[number];
                let counted = leader.run(|mvcc| View { mvcc, overlay }.count(at, span, resume.as_deref(), budget));
                count += counted.counted;
                resume = counted.resume;
                if resume.is_none() {
                    break;
                }
            }
        }
        count
    }

    /// Reads what a txn has left to be read.
    fn fill_pending(&mut self, answer: TxnAnswer, before: Revision) -> TxnResponse {
        let TxnAnswer { mut response, pending } = answer;
        let taken = (self.current() > before).then(|| self.current());
        for pending in pending {
            let request = &pending.request;
            let span = Span::of_request(&request.key, &request.range_end);
            let filters = Filters { min_mod: request.min_mod_revision, ..Filters::default() };
            let (mut kvs, count) = self.read(pending.at(taken, before), &span, request.keys_only, filters);
            if request.count_only {
                kvs.clear();
            }
            let (last, nested) = pending.place.split_last().unwrap();
            let mut at = &mut response;
            for place in nested {
                at = match &mut at.responses[*place as usize].response {
                    Some(Response::ResponseTxn(nested)) => nested,
                    other => panic!("{other:?}"),
                };
            }
            match &mut at.responses[*last as usize].response {
                Some(Response::ResponseRange(range)) => {
                    assert!(range.kvs.is_empty());
                    *range = RangeResponse { header: range.header, kvs, more: false, count: count as i64 };
                }
                other => panic!("{other:?}"),
            }
        }
        response.header = Some(ResponseHeader { revision: self.current().as_i64(), ..ResponseHeader::default() });
        response
    }

    // What is asked.

    fn key(&mut self) -> Bytes {
        const KEYS: [&[u8]; 12] =
            [b"a", b"a\0", b"a\0\0", b"a\0\x01", b"ab", b"b", b"b\xFF", b"c", b"\0", b"\xFF\xFF", b"d", b"long"];
        let key = KEYS[self.rng.below(12) as usize];
        // One key is longer than the stack buffer of keys, and than what a page holds of a key.
        if key == b"long" { Bytes::from([key, &[b'x'; 1500]].concat()) } else { Bytes::from_static(key) }
    }

    fn end(&mut self) -> Bytes {
        match self.rng.below(6) {
            0 => Bytes::from_static(b"\0"),
            1 | 2 => self.key(),
            _ => Bytes::new(),
        }
    }

    fn value(&mut self) -> Bytes {
        let length = if self.rng.chance(1, 10) { self.rng.below(9000) } else { self.rng.below(60) };
        Bytes::from(vec![b'0' + self.rng.below(5) as u8; length as usize])
    }

    fn put_request(&mut self) -> PutRequest {
        let ignore_value = self.rng.chance(1, 8);
        let ignore_lease = self.rng.chance(1, 8);
        PutRequest {
            key: self.key(),
            value: if ignore_value { Bytes::new() } else { self.value() },
            lease: if ignore_lease { 0 } else { [0, 0, 0, 1, 2, 1, 2, 9][self.rng.below(8) as usize] },
            prev_kv: self.rng.chance(1, 2),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete_request(&mut self) -> DeleteRangeRequest {
        DeleteRangeRequest { key: self.key(), range_end: self.end(), prev_kv: self.rng.chance(1, 2) }
    }

    fn range_request(&mut self) -> RangeRequest {
        let revision = self.naive.revision + 1;
        RangeRequest {
            key: self.key(),
            range_end: self.end(),
            revision: if self.rng.chance(1, 4) { self.rng.below(revision as u64 + 2) as i64 - 1 } else { 0 },
            keys_only: self.rng.chance(1, 4),
            count_only: self.rng.chance(1, 8),
            min_mod_revision: if self.rng.chance(1, 8) { self.rng.below(revision as u64 + 2) as i64 } else { 0 },
            ..RangeRequest::default()
        }
    }

    fn compare_request(&mut self) -> Compare {
        let number = self.rng.below(4) as i64;
        let revision = self.rng.below(self.naive.revision as u64 + 2) as i64;
        let target_union = match self.rng.below(6) {
            0 => TargetUnion::Version(number),
            1 => TargetUnion::CreateRevision(revision),
            2 => TargetUnion::ModRevision(revision),
            3 => TargetUnion::Value(self.value()),
            4 => TargetUnion::Lease(number),
            _ => TargetUnion::Version(0),
        };
        let target = match target_union {
            TargetUnion::Version(_) => 0,
            TargetUnion::CreateRevision(_) => 1,
            TargetUnion::ModRevision(_) => 2,
            TargetUnion::Value(_) => 3,
            TargetUnion::Lease(_) => 4,
        };
        let target_union = Some(target_union).filter(|_| !self.rng.chance(1, 10));
        Compare { result: self.rng.below(4) as i32, target, key: self.key(), range_end: self.end(), target_union }
    }

    fn ops(&mut self, depth: u32) -> Vec<RequestOp> {
        let count = self.rng.below(4);
        let mut ops = Vec::new();
        for _ in 0..count {
            let request = match self.rng.below(8) {
                0..=2 => Request::RequestPut(self.put_request()),
                3 | 4 => Request::RequestDeleteRange(self.delete_request()),
                5 if depth < 3 => Request::RequestTxn(self.txn_request(depth + 1)),
                _ => Request::RequestRange(self.range_request()),
            };
            ops.push(RequestOp { request: Some(request) });
        }
        ops
    }

    fn txn_request(&mut self, depth: u32) -> TxnRequest {
        let compare = (0..self.rng.below(3)).map(|_| self.compare_request()).collect();
        TxnRequest { compare, success: self.ops(depth), failure: self.ops(depth) }
    }

    // What is compared.

    fn step(&mut self) {
        match self.rng.below(12) {
            0..=3 => self.step_put(),
            4 | 5 => self.step_delete(),
            6..=8 => self.step_txn(),
            9 => self.progress(false),
            10 => self.check_reads(),
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

    fn step_txn(&mut self) {
        let request = self.txn_request(0);
        self.run_txn(request);
    }

    fn run_txn(&mut self, request: TxnRequest) {
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
            if gone || !super::naive::is_within(&change.key, key, end) {
                continue;
            }
            let creates = change.put.as_ref().is_some_and(|kv| kv.create_revision == change.main);
            let known = !creates && change.main > compacted;
            let prev = if known { self.naive.state(change.main - 1).remove(&change.key) } else { None };
            let place = crate::mvcc::Change { revision: Revision(change.main as u64), operation: 0 };
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
        let query = HashQuery { revision: Revision(at as u64), compacted: self.naive.compacted };
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
        assert_eq!(merger.finish(), self.naive.hash(at), "at {at}, compacted {}", self.naive.compacted);
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
        let puts = self.told.iter().filter(|event| event.kind == Kind::Put).count();
        assert!(puts <= self.naive.changes.len());
    }
}

fn run(seeds: std::ops::Range<u64>, shards: usize, steps: u64) {
    for seed in seeds {
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, shards);
            let steps = 1 + world.rng.below(steps);
            (0..steps).for_each(|_| world.step());
            world.check_all();
        });
        assert!(result.is_ok(), "seed {seed} with {shards} shards");
    }
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
