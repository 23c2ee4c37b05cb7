//! What the versions over the page store cost: puts and transactions evaluated, encoded and applied, gets, ranges, counts, events. All
//! in memory.
//!
//! `cargo bench --bench mvcc`

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use etcring::base::{Prng, Revision};
use etcring::mvcc::{At, Budget, EventsQuery, Filters, Mvcc, Overlay, RangeQuery, Span, View};
use etcring::pages::{Options, Store};
use etcring::proto::etcdserverpb::{PutRequest, TxnRequest};
use etcring::state::apply::{EventsWanted, apply, enter};
use etcring::state::evaluate::{Basis, Evaluated, Memo, put, txn};
use etcring::state::kv;

const KEYS: u64 = 100_000;
const VALUE_BYTES: usize = 256;
/// How many revisions wait in the overlay before they are applied.
const WAITING: usize = 64;

struct Shard {
    mvcc: Mvcc,
    overlay: Overlay,
    waiting: Vec<(Revision, Vec<kv::Effect>)>,
    revision: Revision,
    value: Bytes,
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("/registry/pods/default/pod-{number:08}"))
}

fn update(key: Bytes, value: Bytes, mod_revision: i64) -> TxnRequest {
    use etcring::proto::etcdserverpb as pb;
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    use pb::request_op::Request;
    let op = |request| pb::RequestOp { request: Some(request) };
    let compare = pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(mod_revision)),
        ..Default::default()
    };
    let put = op(Request::RequestPut(PutRequest { key: key.clone(), value, ..Default::default() }));
    let range = op(Request::RequestRange(pb::RangeRequest { key, ..Default::default() }));
    TxnRequest { compare: vec![compare], success: vec![put], failure: vec![range] }
}

impl Shard {
    fn new() -> Shard {
        let mvcc = Mvcc::new(Store::create(Options::with_cache(1 << 30)), Revision::ZERO);
        let value = Bytes::from(vec![7; VALUE_BYTES]);
        Shard { mvcc, overlay: Overlay::new(), waiting: Vec::new(), revision: Revision::FIRST, value }
    }

    fn filled() -> Shard {
        let mut shard = Shard::new();
        (0..KEYS).for_each(|number| shard.put(key(number)));
        shard.apply_all();
        shard
    }

    fn basis(&self) -> Basis<'_> {
        Basis {
            view: self.view(),
            lease_alive: &|_| false,
            is_local: &|_| true,
            current: self.revision,
            compacted: -1,
            event_prevs: false,
            budget: Budget::UNLIMITED,
        }
    }

    /// The whole way of a put within its shard.
    fn put(&mut self, key: Bytes) {
        let request = PutRequest { key, value: self.value.clone(), ..PutRequest::default() };
        let evaluated = put(&self.basis(), &request).expect("everything is in memory");
        self.log(evaluated);
    }

    /// The whole way of an update as Kubernetes makes it: if the key is as it was read, put it, else read it.
    fn update(&mut self, key: Bytes) {
        let kv = self.view().newest(&key).expect("in memory").expect("the key is there");
        let request = update(key, self.value.clone(), kv.mod_revision.0 as i64);
        let evaluated = txn(&self.basis(), &request, &mut Memo::default()).expect("everything is in memory");
        assert_eq!(evaluated.changes, 1, "the compare holds");
        self.log(evaluated);
    }

    fn log(&mut self, evaluated: Evaluated) {
        self.revision = self.revision.next();
        let payload = kv::encode(&evaluated.effects);
        let effects = kv::decode(&payload).expect("it was encoded");
        enter(&mut self.overlay, self.revision, &effects, &evaluated.touched);
        self.waiting.push((self.revision, effects));
        if self.waiting.len() >= WAITING {
            self.apply_all();
        }
    }

    fn apply_all(&mut self) {
        for (revision, effects) in self.waiting.drain(..) {
            apply(&mut self.mvcc, revision, &effects, EventsWanted::No, &mut { u32::MAX }, &mut Vec::new())
                .expect("everything is in memory");
            self.overlay.remove_applied(revision, usize::MAX);
        }
    }

    fn view(&self) -> View<'_> {
        View { mvcc: &self.mvcc, overlay: &self.overlay }
    }
}

fn puts(c: &mut Criterion) {
    let mut group = c.benchmark_group("put");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    let mut shard = Shard::filled();
    let mut rng = Prng::new(1);
    let keys: Vec<Bytes> = (0..KEYS).map(key).collect();
    group.bench_function("overwrite of 100k keys, evaluate to applied", |b| {
        b.iter(|| shard.put(keys[rng.below(KEYS) as usize].clone()));
    });
    group.bench_function("update in a transaction, evaluate to applied", |b| {
        b.iter(|| shard.update(keys[rng.below(KEYS) as usize].clone()));
    });
    let request = update(keys[0].clone(), shard.value.clone(), 1);
    group.bench_function("evaluation of a transaction alone, its compare fails", |b| {
        b.iter(|| black_box(txn(&shard.basis(), &request, &mut Memo::default()).expect("in memory")));
    });
    let mut shard = Shard::new();
    let mut number = 0;
    group.bench_function("new keys in order", |b| {
        b.iter_batched(
            || {
                number += 1;
                key(number)
            },
            |key| shard.put(key),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn reads(c: &mut Criterion) {
    let shard = Shard::filled();
    let mut rng = Prng::new(1);
    let keys: Vec<Bytes> = (0..KEYS).map(key).collect();
    let mut group = c.benchmark_group("read");
    group.sample_size(20);
    group.throughput(Throughput::Elements(1));
    group.bench_function("get of one key", |b| {
        b.iter(|| black_box(shard.view().newest(&keys[rng.below(KEYS) as usize])));
    });
    group.bench_function("count of all", |b| {
        b.iter(|| black_box(shard.view().count(At::LATEST, &Span::everything(), None, Budget::UNLIMITED)));
    });
    group.throughput(Throughput::Elements(KEYS));
    for (name, keys_only) in [("range of 100k keys", false), ("range of 100k keys, keys only", true)] {
        let query = RangeQuery { span: Span::everything(), limit: usize::MAX, keys_only, filters: Filters::default() };
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut resume: Option<Bytes> = None;
                loop {
                    let budget = Budget { visits: 2000, bytes: 1 << 20 };
                    let chunk = shard.view().range(At::LATEST, &query, resume.as_deref(), budget).expect("in memory");
                    black_box(&chunk.kvs);
                    resume = chunk.resume;
                    if resume.is_none() {
                        break;
                    }
                }
            });
        });
    }
    group.bench_function("events of 100k revisions", |b| {
        let query = EventsQuery {
            from: Revision::ZERO,
            to: Revision::MAX,
            span: Span::everything(),
            with_prev: false,
            compacted: Revision::ZERO,
        };
        b.iter(|| black_box(shard.mvcc.events(&query, None, Budget::UNLIMITED).expect("in memory").events.len()));
    });
    group.finish();
}

criterion_group!(benches, puts, reads);
criterion_main!(benches);
