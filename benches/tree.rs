//! The page store's trees: puts and gets with everything in memory, into a tree of 300,000 entries (8-byte keys, 256-byte
//! values), and what a checkpoint costs the process beside the writes themselves.
//!
//! `cargo bench --bench tree`

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use etcring::base::Prng;
use etcring::pages::{Options, Store, Tree};

const TREE: Tree = Tree(0);
const ENTRIES: u64 = 300_000;
const VALUE: [u8; 256] = [7; 256];

fn random_key(number: u64) -> [u8; 8] {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()
}

fn put(store: &mut Store, key: [u8; 8]) {
    store.put(TREE, &key, &[&VALUE], 1).expect("everything is in memory");
}

/// Goes through a checkpoint as if the disk took no time.
fn checkpoint(store: &mut Store) {
    store.begin_checkpoint(b"");
    while !store.checkpoint_writes(1024).is_empty() {}
    store.finish_checkpoint();
}

fn filled(key: impl Fn(u64) -> [u8; 8]) -> Store {
    let mut store = Store::create(Options::with_cache(4 << 30));
    (0..ENTRIES).for_each(|number| put(&mut store, key(number)));
    store
}

fn tree(c: &mut Criterion) {
    let mut group = c.benchmark_group("tree");
    group.sample_size(20).measurement_time(Duration::from_secs(4)).warm_up_time(Duration::from_secs(1));
    let mut rng = Prng::new(1);
    let mut store = filled(random_key);
    group.bench_function("get, random", |b| {
        b.iter(|| black_box(store.get(TREE, &random_key(rng.below(ENTRIES))).expect("in memory").expect("there").weight));
    });
    group.bench_function("put over an entry, random", |b| b.iter(|| put(&mut store, random_key(rng.below(ENTRIES)))));
    group.bench_function("set_weight, random", |b| {
        b.iter(|| store.set_weight(TREE, &random_key(rng.below(ENTRIES)), rng.below(2) as u32).expect("in memory"));
    });
    group.bench_function("weight of a random range", |b| {
        b.iter(|| {
            let (from, to) = (random_key(rng.below(ENTRIES)), random_key(rng.below(ENTRIES)));
            store.weight(TREE, &from.min(to), Some(&from.max(to))).expect("in memory")
        });
    });
    group.bench_function("cursor, one entry on", |b| {
        b.iter_custom(|steps| {
            let mut cursor = store.cursor(TREE);
            let started = Instant::now();
            for _ in 0..steps {
                match cursor.entry() {
                    Some(_) => cursor.next().expect("in memory"),
                    None => cursor.seek(&[]).expect("in memory"),
                }
            }
            started.elapsed()
        });
    });
    let mut next = ENTRIES;
    group.bench_function("put of a new entry, random", |b| {
        b.iter(|| {
            next += 1;
            put(&mut store, random_key(next));
        });
    });
    group.bench_function("put over an entry, random, a checkpoint every 10,000", |b| {
        let mut puts = 0;
        b.iter(|| {
            put(&mut store, random_key(rng.below(ENTRIES)));
            puts += 1;
            if puts % 10_000 == 0 {
                checkpoint(&mut store);
            }
        });
    });
    group.bench_function("a checkpoint of 10,000 random puts, without the disk", |b| {
        b.iter_custom(|rounds| {
            let mut time = Duration::ZERO;
            for _ in 0..rounds {
                (0..10_000).for_each(|_| put(&mut store, random_key(rng.below(ENTRIES))));
                let started = Instant::now();
                checkpoint(&mut store);
                time += started.elapsed();
            }
            time
        });
    });
    drop(store);
    let mut store = filled(u64::to_be_bytes);
    let mut next = ENTRIES;
    group.bench_function("put of a new entry, at the end", |b| {
        b.iter(|| {
            next += 1;
            put(&mut store, next.to_be_bytes());
        });
    });
}

criterion_group!(benches, tree);
criterion_main!(benches);
