//! Several shards with leaders and followers, on files in memory and caches that hold next to nothing, and how requests go through them.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use crate::base::limits::PAGE_BYTES;
use crate::base::{AlignedBuffer, LeaseId, Prng, Revision};
use crate::mvcc::{At, Budget, Compacted, Compaction, Event, Filters, Mvcc, Overlay, RangeQuery, Span, View};
use crate::pages::{Fault, Options, PageWrite, Store};
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{Compare, RangeResponse, ResponseHeader, TxnRequest, TxnResponse};
use crate::proto::mvccpb::KeyValue;
use crate::state::apply::{self, Applied, EventsWanted, Touched};
use crate::state::evaluate::{
    Answer, Answers, Basis, Evaluated, Memo, Operations, Refusal, Stop, TxnAnswer, attached, combine, compare_all, compares,
    decide, part,
};
use crate::state::kv::{self, Effect};

use super::naive::Naive;

/// A page file in memory.
#[derive(Default)]
pub(super) struct Disk {
    bytes: Vec<u8>,
    pub(super) faults: u64,
}

impl Disk {
    pub(super) fn write(&mut self, write: &PageWrite) {
        let at = write.offset() as usize;
        self.bytes.resize(self.bytes.len().max(at + write.bytes.len()), 0);
        self.bytes[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
    }

    pub(super) fn serve(&mut self, store: &mut Store, fault: Fault) {
        let mut buffer = AlignedBuffer::zeroed(fault.bytes());
        let at = fault.offset() as usize;
        self.faults += 1;
        buffer.copy_from_slice(&self.bytes[at..at + fault.pages as usize * PAGE_BYTES]);
        store.install(fault, buffer).expect("what was written is read");
    }
}

/// A store and its file.
pub(super) struct Replica {
    pub(super) mvcc: Mvcc,
    pub(super) disk: Disk,
}

impl Replica {
    pub(super) fn new() -> Replica {
        let store = Store::create(Options::with_cache(PAGE_BYTES));
        Replica { mvcc: Mvcc::new(store, Revision::ZERO), disk: Disk::default() }
    }

    /// Runs a call until it has the pages that it needs.
    pub(super) fn run<T>(&mut self, mut call: impl FnMut(&mut Mvcc) -> Result<T, Fault>) -> T {
        self.mvcc.store_mut().evict();
        for _ in 0..10_000 {
            match call(&mut self.mvcc) {
                Ok(done) => return done,
                Err(fault) => self.disk.serve(self.mvcc.store_mut(), fault),
            }
        }
        panic!("a call faults for ever");
    }

    /// Writes everything out, and lets go of what the cache has no room for.
    pub(super) fn checkpoint(&mut self) {
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
    }

    pub(super) fn apply(&mut self, revision: Revision, payload: &Bytes, wanted: EventsWanted, budget: Budget) -> Vec<Event> {
        let effects = kv::decode(payload).expect("it was encoded");
        let mut events = Vec::new();
        while self.run(|mvcc| apply::apply(mvcc, revision, &effects, wanted, &mut { budget.visits }, &mut events))
            == Applied::Part
        {}
        events
    }
}

pub(super) struct Shard {
    pub(super) leader: Replica,
    pub(super) overlay: Overlay,
    /// Logged, not yet applied at the leader.
    pub(super) waiting: VecDeque<(Revision, Bytes)>,
    pub(super) follower: Replica,
    /// What was compacted to before, and the compaction under way.
    pub(super) compacted: Revision,
    pub(super) compaction: Compaction,
}

pub(super) struct World {
    pub(super) rng: Prng,
    pub(super) naive: Naive,
    pub(super) shards: Vec<Shard>,
    /// What the leader, and what the followers told.
    pub(super) told: Vec<Event>,
    pub(super) followed: Vec<Event>,
}

pub(super) fn shard_of(key: &[u8], shards: usize) -> usize {
    key.iter().fold(7usize, |hash, byte| hash.wrapping_mul(31) + *byte as usize) % shards
}

/// What one shard is to log, enter and tell.
pub(super) type Decided = (Vec<Effect>, Vec<Touched>);

impl World {
    pub(super) fn new(seed: u64, shards: usize) -> World {
        let shard = |_| Shard {
            leader: Replica::new(),
            overlay: Overlay::new(),
            waiting: VecDeque::new(),
            follower: Replica::new(),
            compacted: Revision::ZERO,
            compaction: Compaction::new(Revision::ZERO, Revision::ZERO),
        };
        let mut naive = Naive::new();
        naive.leases = BTreeSet::from([1, 2]);
        World { rng: Prng::new(seed), naive, shards: (0..shards).map(shard).collect(), told: Vec::new(), followed: Vec::new() }
    }

    pub(super) fn current(&self) -> Revision {
        Revision(self.naive.revision as u64)
    }

    /// Small most of the time, so that slices end everywhere.
    pub(super) fn budget(&mut self) -> Budget {
        Budget { visits: 1 + self.rng.below(40) as u32, bytes: 1 + self.rng.below(300) as usize }
    }

    /// Evaluates in one shard until there is a result.
    pub(super) fn evaluate<T>(
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
    pub(super) fn single(
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
    pub(super) fn coordinated(&mut self, request: &TxnRequest) -> Result<TxnAnswer, Refusal> {
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

    /// A lease's end, as a coordinator does it.
    pub(super) fn revoke(&mut self, lease: LeaseId) {
        let mut decided = Vec::new();
        let before = self.naive.state(i64::MAX);
        for shard in 0..self.shards.len() {
            let keys = self.evaluate(shard, |basis, memo| attached(basis, &[lease], memo)).expect("nothing refuses it");
            let (effects, mut touched) = apply::revoke(lease, keys.into_iter().next().expect("of one lease"));
            // The leader leaves it to whoever wants it to read what was before.
            touched.iter_mut().for_each(|touched| touched.prev = before.get(&touched.key).cloned());
            if !effects.is_empty() {
                decided.push((shard, (effects, touched)));
            }
        }
        if !decided.is_empty() {
            self.take(self.current().next(), decided);
        }
    }

    /// Logs, enters and tells what was decided.
    pub(super) fn take(&mut self, revision: Revision, decided: Vec<(usize, Decided)>) {
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
            if self.rng.chance(1, 4) {
                self.shards[number].leader.checkpoint();
            }
        }
    }

    /// Applies some of what waits at the leaders; sometimes a revision stays half applied.
    pub(super) fn progress(&mut self, all: bool) {
        for number in 0..self.shards.len() {
            let budget = self.budget();
            let steps = if all { usize::MAX } else { self.rng.below(4) as usize };
            let stop_inside = !all && self.rng.chance(1, 8);
            let shard = &mut self.shards[number];
            for _ in 0..steps {
                let Some((revision, payload)) = shard.waiting.front().cloned() else { break };
                let effects = kv::decode(&payload).expect("it was encoded");
                if stop_inside {
                    let mut call = |mvcc: &mut Mvcc| {
                        apply::apply(mvcc, revision, &effects, EventsWanted::No, &mut { budget.visits }, &mut Vec::new())
                    };
                    if shard.leader.run(&mut call) == Applied::Part {
                        break;
                    }
                } else {
                    shard.leader.apply(revision, &payload, EventsWanted::No, budget);
                }
                let most = if all { usize::MAX } else { self.rng.below(20) as usize };
                shard.overlay.remove_applied(revision, most);
                shard.waiting.pop_front();
            }
            if self.rng.chance(1, 3) {
                self.shards[number].leader.checkpoint();
            }
            let budget = self.budget();
            let is_broken_off = self.rng.chance(1, 8).then(|| self.rng.chance(1, 2));
            let shard = &mut self.shards[number];
            if let Some(sweeps) = is_broken_off {
                shard.compaction = Compaction::new(shard.compacted, shard.compaction.floor()).sweeping(sweeps);
            }
            let compaction = &mut shard.compaction;
            shard.leader.run(|mvcc| mvcc.compact_slice(compaction, budget));
        }
    }

    pub(super) fn compact(&mut self) {
        self.progress(true);
        let lowest = self.naive.compacted.max(0) + 1;
        let at = lowest + self.rng.below((self.naive.revision - lowest + 1).max(1) as u64) as i64;
        if at > self.naive.revision || self.naive.is_holed(at) {
            return;
        }
        self.compact_to(at);
    }

    pub(super) fn compact_to(&mut self, at: i64) {
        self.naive.compact(at);
        for shard in &mut self.shards {
            let compaction = &mut shard.compaction;
            // A higher floor does not wait for the lower one.
            if self.rng.chance(1, 2) {
                while shard.leader.run(|mvcc| mvcc.compact_slice(compaction, Budget::UNLIMITED)) == Compacted::Part {}
                shard.compacted = compaction.floor();
            }
            shard.compaction = Compaction::new(shard.compacted, Revision(at as u64)).sweeping(self.rng.chance(1, 2));
        }
    }

    /// All keys of a span over all shards, read in slices.
    pub(super) fn read(&mut self, at: At, span: &Span, keys_only: bool, filters: Filters) -> (Vec<KeyValue>, u64) {
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

    pub(super) fn count(&mut self, at: At, span: &Span) -> u64 {
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
    pub(super) fn fill_pending(&mut self, answer: TxnAnswer, before: Revision) -> TxnResponse {
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
}
