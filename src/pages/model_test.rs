//! The trees against `BTreeMap`s: random histories with tiny caches, views, checkpoints step by step, reopening and crashes.
//! A history is a number: it goes the same way each time.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::rc::Rc;

use super::test_disk::TestDisk;
use super::*;
use crate::base::limits::PAGE_BYTES;
use crate::base::{AlignedBuffer, Prng};

const TREES: [Tree; 2] = [Tree(0), Tree(5)];

/// A value as a seed and a length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Value {
    seed: u8,
    bytes: usize,
    weight: u32,
}

impl Value {
    fn contents(&self) -> Vec<u8> {
        (0..self.bytes).map(|at| self.seed.wrapping_add((at / 100) as u8)).collect()
    }
}

type Map = BTreeMap<Vec<u8>, Value>;

/// What the trees hold at one state.
type Model = Rc<[Map; 2]>;

/// How far a checkpoint has come.
enum Stage {
    Pages,
    Meta,
    Cut,
}

struct Underway {
    checkpoint: Checkpoint,
    stage: Stage,
    model: Model,
    generation: u64,
}

pub struct History {
    rng: Prng,
    disk: TestDisk,
    store: Store,
    options: Options,
    model: Model,
    /// The last finished checkpoint.
    finished: Option<(u64, Model)>,
    underway: Option<Underway>,
    views: Vec<(ViewId, Model)>,
    /// Faults that are served late: what was read at once, or nothing yet.
    late: Vec<(Fault, Option<AlignedBuffer>)>,
    key_kind: u64,
    next_key: u64,
    crashes: bool,
    removes_of_10: u64,
}

impl History {
    pub fn new(seed: u64, crashes: bool, mutant: Option<Mutant>) -> History {
        let mut rng = Prng::new(seed);
        let cache_bytes = [0, 3 * PAGE_BYTES, 20 * PAGE_BYTES, 1 << 20][rng.below(4) as usize];
        let options = Options { mutant, ..Options::with_cache(cache_bytes) };
        let key_kind = rng.below(5);
        let removes_of_10 = [2, 4, 6][rng.below(3) as usize];
        History {
            rng,
            disk: TestDisk::default(),
            store: Store::create(options),
            options,
            model: Model::default(),
            finished: None,
            underway: None,
            views: Vec::new(),
            late: Vec::new(),
            key_kind,
            next_key: 0,
            crashes,
            removes_of_10,
        }
    }

    pub fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            self.step();
        }
        self.compare_all();
        while self.underway.is_some() {
            self.step_checkpoint();
        }
        self.step_checkpoint();
        while self.underway.is_some() {
            self.step_checkpoint();
        }
        self.disk.check_sound();
        self.reopen();
        self.compare_all();
    }

    fn step(&mut self) {
        match self.rng.below(1000) {
            0..600 => self.change(),
            600..690 => self.point_reads(),
            690..700 => self.late_read(),
            700..760 => self.range_reads(),
            760..780 => self.view(),
            780..960 if self.underway.is_some() || self.rng.chance(1, 12) => self.step_checkpoint(),
            960..985 => {
                let budget = 1 + self.rng.below(20) as u32;
                self.disk.run(&mut self.store, |store| store.defragment_slice(budget));
            }
            985..987 => self.reopen(),
            987..990 if self.crashes => self.crash(),
            _ => {}
        }
        if self.rng.chance(1, 3) {
            while self.store.evict() && self.rng.chance(9, 10) {}
        }
    }

    fn key(&mut self) -> Vec<u8> {
        let number = self.rng.below(60);
        match self.key_kind {
            0 => number.to_string().into_bytes(),
            1 => {
                // Appended, mostly.
                if self.rng.chance(2, 3) {
                    self.next_key += 1;
                }
                let back = if self.rng.chance(1, 3) { self.rng.below(self.next_key + 1) } else { 0 };
                (self.next_key - back).to_be_bytes().to_vec()
            }
            2 => {
                self.next_key += self.rng.below(2);
                let mut key = format!("/registry/pods/namespace-{}/", number % 7).into_bytes();
                key.extend_from_slice(&(!self.next_key.saturating_sub(self.rng.below(30))).to_be_bytes());
                key
            }
            3 => {
                let bytes = [0, 1, 100, 127, 128, 129, 500, 639, 640, 641, 700, 3000, 9000][self.rng.below(13) as usize];
                let mut key = vec![b'a' + (self.rng.below(2) as u8); bytes];
                key.extend_from_slice(&(number as u16).to_be_bytes()[..self.rng.below(3) as usize]);
                key
            }
            _ => (0..self.rng.below(6)).map(|_| self.rng.below(4) as u8).collect(),
        }
    }

    fn value(&mut self) -> Value {
        let rng = &mut self.rng;
        let bytes = match rng.below(100) {
            0..40 => rng.below(60),
            40..80 => rng.below(400),
            80..95 => rng.below(PAGE_BYTES as u64 * 5 / 8),
            95..99 => rng.below(PAGE_BYTES as u64 * 9 / 4),
            _ => rng.below(100_000),
        };
        let weight = if rng.chance(9, 10) { rng.below(4) as u32 } else { rng.u64() as u32 };
        Value { seed: rng.u64() as u8, bytes: bytes as usize, weight }
    }

    fn change(&mut self) {
        let at = usize::from(self.rng.chance(1, 4));
        let (tree, key) = (TREES[at], self.key());
        let model = &mut Rc::make_mut(&mut self.model)[at];
        let store = &mut self.store;
        if self.rng.below(10) < self.removes_of_10 {
            let nearby = model.range(key.clone()..).next().map(|(key, _)| key.clone());
            let key = if self.rng.chance(1, 2) { nearby.unwrap_or(key) } else { key };
            let removed = self.disk.run(store, |store| store.remove(tree, &key));
            assert_eq!(removed, model.remove(&key).is_some());
        } else if self.rng.chance(1, 6) {
            let weight = if self.rng.chance(1, 2) { self.rng.below(5) as u32 } else { self.rng.u64() as u32 };
            let there = self.disk.run(store, |store| store.set_weight(tree, &key, weight));
            let entry = model.get_mut(&key);
            assert_eq!(there, entry.is_some());
            entry.into_iter().for_each(|value| value.weight = weight);
        } else {
            let value = self.value();
            let contents = value.contents();
            let (one, two) = contents.split_at(self.rng.below(contents.len() as u64 + 1) as usize);
            self.disk.run(&mut self.store, |store| store.put(tree, &key, &[one, two], value.weight));
            Rc::make_mut(&mut self.model)[at].insert(key, value);
        }
    }

    fn point_reads(&mut self) {
        let at = usize::from(self.rng.chance(1, 4));
        let key = self.key();
        let expected = self.model[at].get(&key).map(|value| (value.contents(), value.weight));
        let found = self
            .disk
            .run(&mut self.store, |store| Ok(store.get(TREES[at], &key)?.map(|entry| (entry.value.to_vec(), entry.weight))));
        assert!(found == expected, "get of {key:?}");
        let head = self.disk.run(&mut self.store, |store| {
            Ok(store.get_head(TREES[at], &key)?.map(|head| (head.bytes.to_vec(), head.value_bytes, head.weight)))
        });
        assert_eq!(head.is_some(), expected.is_some());
        if let (Some((bytes, value_bytes, weight)), Some((contents, expected_weight))) = (head, expected) {
            assert!(contents.starts_with(&bytes) && bytes.len() >= contents.len().min(VALUE_HEAD_BYTES));
            assert_eq!((value_bytes, weight), (contents.len(), expected_weight));
        }
    }

    /// Reads for which nobody waits any more come in at any time later, and do no harm.
    fn late_read(&mut self) {
        let key = self.key();
        while self.store.evict() {}
        if let Err(fault) = self.store.get(TREES[0], &key) {
            let buffer = self.rng.chance(1, 2).then(|| self.disk.read(fault.first, fault.pages));
            self.late.push((fault, buffer));
        }
        if self.late.len() > 4 || self.rng.chance(1, 4) && !self.late.is_empty() {
            let at = self.rng.below(self.late.len() as u64) as usize;
            let (fault, buffer) = self.late.swap_remove(at);
            let buffer = buffer.unwrap_or_else(|| self.disk.read(fault.first, fault.pages));
            self.store.install(fault, buffer).expect("a late read is not damage");
        }
    }

    fn range_reads(&mut self) {
        let at = usize::from(self.rng.chance(1, 4));
        let (from, to) = (self.key(), self.key());
        let to = self.rng.chance(3, 4).then_some(to);
        let end = to.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let empty = to.as_ref().is_some_and(|to| *to <= from);
        let range = (Bound::Included(&from), end);
        let expected: Vec<_> = if empty { Vec::new() } else { self.model[at].range::<Vec<u8>, _>(range).collect() };
        let sums = self.disk.run(&mut self.store, |store| store.reader().sums(TREES[at], &from, to.as_deref()));
        let weight: u64 = expected.iter().map(|(_, value)| u64::from(value.weight)).sum();
        assert_eq!(sums, Sums { entries: expected.len() as u64, weight });
        let steps = self.rng.below(20) as usize;
        let forward = self.disk.run(&mut self.store, |store| {
            let mut cursor = store.cursor(TREES[at]);
            cursor.seek(&from)?;
            let mut keys = Vec::new();
            while let Some((key, value, weight)) = cursor.entry() {
                if keys.len() == steps {
                    break;
                }
                keys.push((key.to_vec(), value.len(), weight));
                cursor.next()?;
            }
            Ok(keys)
        });
        let expected = self.model[at].range(from.clone()..).take(steps);
        let expected: Vec<_> = expected.map(|(key, value)| (key.clone(), value.bytes, value.weight)).collect();
        assert!(forward == expected, "a walk forward");
        let below = self.rng.chance(1, 2).then_some(&from);
        let backward = self.disk.run(&mut self.store, |store| {
            let mut cursor = store.cursor(TREES[at]).heads();
            match below {
                Some(below) => cursor.seek_before(below)?,
                None => cursor.seek_last()?,
            }
            let mut keys = Vec::new();
            while let Some(item) = cursor.item() {
                if keys.len() == steps {
                    break;
                }
                keys.push((item.key.to_vec(), item.value_bytes));
                cursor.prev()?;
            }
            Ok(keys)
        });
        let bounds = (Bound::Unbounded, below.map_or(Bound::Unbounded, Bound::Excluded));
        let expected = self.model[at].range::<Vec<u8>, _>(bounds).rev().take(steps);
        let expected: Vec<_> = expected.map(|(key, value)| (key.clone(), value.bytes)).collect();
        assert!(backward == expected, "a walk backward");
    }

    fn view(&mut self) {
        if self.views.len() < 3 && self.rng.chance(1, 2) {
            let view = self.store.pin();
            self.views.push((view, Rc::clone(&self.model)));
        } else if !self.views.is_empty() {
            let at = self.rng.below(self.views.len() as u64) as usize;
            let (view, model) = self.views.swap_remove(at);
            let tree = self.rng.below(2) as usize;
            compare(&mut self.disk, &mut self.store, Some(view), tree, &model[tree]);
            self.store.unpin(view);
        }
    }

    fn step_checkpoint(&mut self) {
        let Some(underway) = &mut self.underway else {
            let generation = self.store.building;
            let checkpoint = self.store.begin_checkpoint(&generation.to_le_bytes());
            self.disk.grow(checkpoint.file_bytes as usize);
            let model = Rc::clone(&self.model);
            self.underway = Some(Underway { checkpoint, stage: Stage::Pages, model, generation });
            return;
        };
        match underway.stage {
            Stage::Pages => {
                let writes = self.store.checkpoint_writes(1 + self.rng.below(30) as usize);
                writes.iter().for_each(|write| self.disk.write(write));
                if writes.is_empty() {
                    self.disk.sync();
                    self.disk.write(&underway.checkpoint.meta);
                    underway.stage = Stage::Meta;
                }
            }
            Stage::Meta => {
                self.disk.sync();
                self.store.finish_checkpoint();
                self.finished = Some((underway.generation, Rc::clone(&underway.model)));
                underway.stage = Stage::Cut;
            }
            Stage::Cut => {
                self.disk.set_len(underway.checkpoint.file_bytes);
                self.underway = None;
            }
        }
    }

    /// The process ends and starts again; the disk stays as it is.
    fn reopen(&mut self) {
        self.disk.sync();
        let meta_written = |underway: &Underway| matches!(underway.stage, Stage::Meta);
        if self.underway.as_ref().is_some_and(meta_written) {
            self.step_checkpoint();
        }
        let (generation, model) = self.finished.clone().unwrap_or_default();
        let opened = if generation == 0 { None } else { Some(generation) };
        assert_eq!(self.start(), opened);
        self.model = model;
    }

    /// The machine loses what was not synced, and starts again.
    fn crash(&mut self) {
        self.disk.crash(&mut self.rng);
        let finished = self.finished.take().filter(|(generation, _)| *generation > 0);
        let underway = self.underway.take().map(|underway| (underway.generation, underway.model));
        let opened = self.start();
        let candidates = [finished, underway.clone()].into_iter().flatten();
        let (_, model) = match opened {
            None => {
                self.finished = None;
                (0, Model::default())
            }
            Some(generation) => {
                let state = candidates.into_iter().find(|(number, _)| *number == generation);
                let state = state.expect("the file holds the last finished checkpoint or the one under way");
                self.finished = Some(state.clone());
                state
            }
        };
        self.model = model;
        if opened.is_some() {
            self.disk.check_sound();
        }
        self.compare_all();
    }

    /// Opens the file. The checkpoint that it holds.
    fn start(&mut self) -> Option<u64> {
        self.views.clear();
        self.late.clear();
        self.underway = None;
        match self.disk.open(self.options) {
            Ok(store) => {
                self.store = store;
                assert_eq!(self.store.note(), self.store.generation().to_le_bytes());
                Some(self.store.generation())
            }
            Err(damage) => {
                let blank =
                    damage.what == What::NoCheckpoint || matches!(damage.what, What::Truncated { found_bytes: 0..8192, .. });
                assert!(blank && self.finished.is_none(), "{damage}");
                self.disk = TestDisk::default();
                self.store = Store::create(self.options);
                None
            }
        }
    }

    fn compare_all(&mut self) {
        for at in 0..2 {
            compare(&mut self.disk, &mut self.store, None, at, &self.model[at]);
        }
    }
}

/// Compares a whole tree with a map, entry by entry.
fn compare(disk: &mut TestDisk, store: &mut Store, view: Option<ViewId>, at: usize, map: &Map) {
    let mut next = Vec::new();
    for (key, value) in map {
        let entry = disk.run(store, |store| {
            let reader = view.map_or_else(|| store.reader(), |view| store.reader_at(view));
            let mut cursor = reader.cursor(TREES[at]);
            cursor.seek(&next)?;
            Ok(cursor.entry().map(|(key, value, weight)| (key.to_vec(), value.to_vec(), weight)))
        });
        let entry = entry.unwrap_or_else(|| panic!("{key:?} is missing"));
        assert!(entry == (key.clone(), value.contents(), value.weight), "{key:?} is not as it should be");
        next = key.clone();
        next.push(0);
        while store.evict() {}
    }
    let reader = view.map_or_else(|| store.reader(), |view| store.reader_at(view));
    let weight = map.values().map(|value| u64::from(value.weight)).sum();
    assert_eq!(reader.len(TREES[at]), Sums { entries: map.len() as u64, weight });
}

/// The histories of a test: these, or those that `PAGES_SEEDS=first..end` in the environment names.
pub fn seeds(default: Range<u64>) -> Range<u64> {
    let Ok(named) = std::env::var("PAGES_SEEDS") else { return default };
    let (first, end) = named.split_once("..").expect("PAGES_SEEDS=first..end");
    first.parse().expect("a number")..end.parse().expect("a number")
}

#[test]
fn random_histories_go_as_with_maps() {
    for seed in seeds(0..150) {
        History::new(seed, false, None).run(1_500);
    }
}
