//! The store, feature by feature.

use super::test_disk::TestDisk;
use super::*;
use crate::base::limits::{CHECKPOINT_CHANGES_PER_PAGE, PAGE_BYTES, TRIMS_UNTIL_COLD, TRIMS_UNTIL_RETURNED_COLD};

const TREE: Tree = Tree(1);
const BIG_CACHE: usize = 64 << 20;

fn key(number: u32) -> [u8; 8] {
    u64::from(number).to_be_bytes()
}

fn filled(entries: u32, value: &[u8]) -> Store {
    let mut store = Store::create(Options::with_cache(BIG_CACHE));
    for number in 0..entries {
        store.put(TREE, &key(number), &[value], number % 2).expect("a new store has all pages");
    }
    store
}

/// The same, all of it in a checkpoint.
fn filled_on_disk(entries: u32, value: &[u8]) -> (Store, TestDisk) {
    let (mut store, mut disk) = (filled(entries, value), TestDisk::default());
    disk.checkpoint(&mut store, b"");
    (store, disk)
}

#[test]
fn what_is_put_is_there() {
    let mut store = filled(10_000, &[7; 100]);
    assert_eq!(store.len(TREE), Sums { entries: 10_000, weight: 5_000 });
    for number in 0..10_000 {
        let entry = store.get(TREE, &key(number)).expect("cached").expect("there");
        assert_eq!(entry, Entry { value: &[7; 100], weight: number % 2 });
    }
    assert_eq!(store.get(TREE, &key(10_000)), Ok(None));
    assert_eq!(store.weight(TREE, &key(100), Some(&key(200))), Ok(50));
    assert_eq!(store.remove(TREE, &key(101)), Ok(true));
    assert_eq!(store.remove(TREE, &key(101)), Ok(false));
    assert_eq!(store.weight(TREE, &key(100), Some(&key(200))), Ok(49));
}

#[test]
fn a_located_key_is_put_and_what_stands_behind_it_reweighed() {
    let mut store = Store::create(Options::with_cache(BIG_CACHE));
    let mut weights = std::collections::BTreeMap::new();
    let mut rng = crate::base::Prng::new(11);
    let mut behind_seen = 0;
    for _ in 0..20_000 {
        let (number, weight) = (rng.below(3000) as u32, rng.below(3) as u32);
        let (name, value) = (key(number), vec![weight as u8; rng.below(400) as usize]);
        let location = store.locate(TREE, &name).expect("cached");
        let behind = store.behind(&location).map(|(found, _, weight)| (found.to_vec(), weight));
        let expected = weights.range(number + 1..).next().map(|(&number, &weight)| (key(number).to_vec(), weight));
        let reweigh = behind.is_some().then(|| rng.below(3) as u32);
        if behind.is_some() {
            assert_eq!(behind, expected);
            behind_seen += 1;
        }
        store.put_at(location, &[&value], weight, reweigh).expect("cached");
        if let Some(reweigh) = reweigh {
            *weights.range_mut(number + 1..).next().expect("seen above").1 = reweigh;
        }
        weights.insert(number, weight);
    }
    assert!(behind_seen > 15_000, "{behind_seen} of 20,000");
    let sum: u64 = weights.values().map(|&weight| u64::from(weight)).sum();
    assert_eq!(store.len(TREE), Sums { entries: weights.len() as u64, weight: sum });
    for (&number, &weight) in &weights {
        assert_eq!(store.get(TREE, &key(number)).expect("cached").expect("there").weight, weight);
        let below = weights.range(..number).map(|(_, &weight)| u64::from(weight)).sum::<u64>();
        assert_eq!(store.weight(TREE, b"", Some(&key(number))), Ok(below));
    }
}

#[test]
fn a_row_of_appends_fills_its_pages() {
    let (_, disk) = filled_on_disk(50_000, &[1; 100]);
    let report = disk.check_sound();
    let tree = &report.trees[1];
    let fill = tree.leaf_bytes as f64 / (tree.leaf_pages as f64 * (PAGE_BYTES - 32) as f64);
    assert!(fill > 0.96, "leaves are {fill:.2} full");
}

#[test]
fn a_row_of_insertions_before_a_key_fills_its_pages() {
    let mut store = filled(10, &[1; 100]);
    for number in 0..20_000u32 {
        let mut key = key(5).to_vec();
        key.extend_from_slice(&(!number).to_be_bytes());
        store.put(TREE, &key, &[&[1; 100]], 0).expect("cached");
    }
    let mut disk = TestDisk::default();
    disk.checkpoint(&mut store, b"");
    let tree = &disk.check_sound().trees[1];
    let fill = tree.leaf_bytes as f64 / (tree.leaf_pages as f64 * (PAGE_BYTES - 32) as f64);
    assert!(fill > 0.8, "leaves are {fill:.2} full");
}

#[test]
fn a_checkpoint_survives_and_what_came_after_does_not() {
    let mut store = filled(1_000, b"old");
    let mut disk = TestDisk::default();
    disk.checkpoint(&mut store, b"applied 1000");
    disk.check_sound();
    store.put(TREE, &key(1), &[b"ne", b"w"], 9).expect("cached");
    store.put(TREE, &key(5_000), &[b"new"], 9).expect("cached");
    let mut again = disk.open(Options::with_cache(BIG_CACHE)).expect("sound");
    assert_eq!((again.note(), again.generation()), (&b"applied 1000"[..], 1));
    let value = disk.run(&mut again, |store| store.get(TREE, &key(1)).map(|entry| entry.map(|entry| entry.value.to_vec())));
    assert_eq!(value, Some(b"old".to_vec()));
    assert!(!disk.run(&mut again, |store| store.get(TREE, &key(5_000)).map(|entry| entry.is_some())));
    disk.checkpoint(&mut store, b"applied 1002");
    disk.check_sound();
    let mut again = disk.open(Options::with_cache(BIG_CACHE)).expect("sound");
    let entry = disk.run(&mut again, |store| store.get(TREE, &key(1)).map(|entry| entry.map(|e| (e.value.to_vec(), e.weight))));
    assert_eq!(entry, Some((b"new".to_vec(), 9)));
}

#[test]
fn changes_during_a_checkpoint_belong_to_the_next() {
    let (mut store, mut disk) = filled_on_disk(1_000, b"old");
    store.put(TREE, &key(1), &[b"two"], 0).expect("cached");
    let checkpoint = store.begin_checkpoint(b"2");
    store.put(TREE, &key(1), &[b"three"], 0).expect("cached");
    store.put(TREE, &key(2), &[b"three"], 0).expect("cached");
    store.remove(TREE, &key(3)).expect("cached");
    for write in store.checkpoint_writes(usize::MAX) {
        disk.write(&write);
    }
    disk.write(&checkpoint.meta);
    disk.sync();
    disk.check_sound();
    let mut again = disk.open(Options::with_cache(BIG_CACHE)).expect("sound");
    let value = |disk: &mut TestDisk, store: &mut Store, number| {
        disk.run(store, |store| store.get(TREE, &key(number)).map(|entry| entry.map(|entry| entry.value.to_vec())))
    };
    assert_eq!(value(&mut disk, &mut again, 1), Some(b"two".to_vec()));
    assert_eq!(value(&mut disk, &mut again, 2), Some(b"old".to_vec()));
    assert_eq!(value(&mut disk, &mut again, 3), Some(b"old".to_vec()));
    store.finish_checkpoint();
    disk.checkpoint(&mut store, b"3");
    disk.check_sound();
    assert_eq!(value(&mut disk, &mut store, 2), Some(b"three".to_vec()));
}

#[test]
fn what_nobody_reaches_any_more_leaves_memory_with_its_write() {
    let (mut store, mut disk) = filled_on_disk(10_000, &[1; 100]);
    let whole = store.cached_bytes();
    let change_all = |store: &mut Store, value: &[u8]| {
        (0..10_000).for_each(|number| store.put(TREE, &key(number), &[value], 0).expect("cached"));
    };
    change_all(&mut store, &[2; 100]);
    let checkpoint = store.begin_checkpoint(b"2");
    let first = store.checkpoint_writes(10);
    change_all(&mut store, &[3; 100]);
    assert!(store.cached_bytes() > 3 * whole / 2, "what is to be written, and what came after");
    let rest = store.checkpoint_writes(usize::MAX);
    assert!(store.cached_bytes() < whole + whole / 20, "{} bytes, {whole} for all entries", store.cached_bytes());
    first.iter().chain(&rest).for_each(|write| disk.write(write));
    disk.write(&checkpoint.meta);
    disk.sync();
    let report = disk.check_sound();
    assert_eq!(report.trees[1].sums.entries, 10_000);
    store.finish_checkpoint();
    disk.checkpoint(&mut store, b"3");
    disk.check_sound();
    let entry = store.get(TREE, &key(77)).expect("cached").expect("there");
    assert_eq!(entry.value, &[3; 100]);
}

#[test]
fn pages_that_change_at_random_are_written_side_by_side() {
    let (mut store, mut disk) = filled_on_disk(100_000, &[7; 100]);
    let mut rng = crate::base::Prng::new(5);
    let (mut pages, mut runs) = (0, 0);
    for round in 0..30 {
        for _ in 0..1500 {
            store.put(TREE, &key(rng.below(100_000) as u32), &[&[round; 100]], 1).expect("cached");
        }
        let checkpoint = store.begin_checkpoint(b"");
        disk.grow(checkpoint.file_bytes as usize);
        let writes = store.checkpoint_writes(usize::MAX);
        if round >= 10 {
            pages += writes.len();
            runs += 1 + writes.windows(2).filter(|pair| pair[0].first.0 + 1 != pair[1].first.0).count();
        }
        writes.iter().for_each(|write| disk.write(write));
        disk.write(&checkpoint.meta);
        disk.sync();
        store.finish_checkpoint();
    }
    disk.check_sound();
    assert!(pages > 3 * runs, "{pages} pages in {runs} runs");
    let (file, used) = (store.file_bytes(), store.used_bytes());
    assert!(file < 3 * used, "a file of {file} bytes holds {used}");
}

#[test]
fn pages_are_worth_writing_again_when_they_have_changed_much() {
    const ROWS: u32 = 100;
    let mut store = filled(ROWS * 1_000, &[7; 100]);
    let mut disk = TestDisk::default();
    assert!(store.is_worth_writing(), "all is new");
    disk.checkpoint(&mut store, b"1");
    assert!(store.is_worth_writing(), "nothing is dirty");
    let put = |store: &mut Store, number| store.put(TREE, &key(number), &[&[8; 100]], 0).expect("cached");
    for round in 0..CHECKPOINT_CHANGES_PER_PAGE as u32 {
        (0..ROWS).for_each(|row| put(&mut store, row * 1_000 + round));
        assert!(
            !store.is_worth_writing() || round + 1 >= CHECKPOINT_CHANGES_PER_PAGE as u32,
            "after {round} changes of each leaf"
        );
    }
    (0..2 * ROWS).for_each(|row| put(&mut store, row % ROWS * 1_000));
    assert!(store.is_worth_writing(), "branches are few");
    store.begin_checkpoint(b"2");
    put(&mut store, 1);
    assert!(!store.is_worth_writing(), "what the checkpoint took is not counted again");
    for number in 0..1_000 {
        put(&mut store, ROWS * 1_000 + number);
    }
    assert!(store.is_worth_writing(), "what is appended is written once");
}

#[test]
fn a_view_stays_as_it_was_pinned() {
    let (mut store, mut disk) = filled_on_disk(3_000, &[1; 50]);
    store.put(TREE, &key(7), &[b"dirty at the pin"], 3).expect("cached");
    let view = store.pin();
    let before = store.len(TREE);
    for round in 0..5u8 {
        for number in 0..3_000 {
            store.put(TREE, &key(number), &[&[round; 60]], 0).expect("cached");
        }
        disk.checkpoint(&mut store, b"");
        disk.check_sound();
        while store.evict() {}
    }
    assert_eq!(store.reader_at(view).len(TREE), before);
    for number in 0..3_000 {
        let expected = if number == 7 { b"dirty at the pin".to_vec() } else { vec![1; 50] };
        let value =
            disk.run(&mut store, |store| Ok(store.reader_at(view).get(TREE, &key(number))?.expect("there").value.to_vec()));
        assert_eq!(value, expected, "{number}");
    }
    let used = store.file_bytes();
    store.unpin(view);
    for number in 0..3_000 {
        store.put(TREE, &key(number), &[&[9; 60]], 0).expect("cached");
    }
    disk.checkpoint(&mut store, b"");
    disk.checkpoint(&mut store, b"");
    assert!(store.file_bytes() <= used);
    disk.check_sound();
}

#[test]
#[should_panic(expected = "reached")]
fn the_mutant_pinned_page_reused_is_caught() {
    let mut store = filled(3_000, &[1; 50]);
    store.options.mutant = Some(Mutant::PinnedPageReused);
    let mut disk = TestDisk::default();
    disk.checkpoint(&mut store, b"");
    store.options = Options { mutant: store.options.mutant, ..Options::with_cache(0) };
    let view = store.pin();
    for round in 0..5u8 {
        for number in 0..3_000 {
            disk.run(&mut store, |store| store.put(TREE, &key(number), &[&[round; 60]], 0));
        }
        disk.checkpoint(&mut store, b"");
        while store.evict() {}
    }
    for number in 0..3_000 {
        loop {
            let fault = match store.reader_at(view).get(TREE, &key(number)) {
                Ok(entry) => {
                    assert!(entry.map(|entry| entry.value) == Some(&[1; 50]), "the view reached another state");
                    break;
                }
                Err(fault) => fault,
            };
            let buffer = disk.read(fault.first, fault.pages);
            assert!(store.install(fault, buffer).is_ok(), "the view reached a page that was reused");
        }
    }
}

#[test]
fn what_a_waiting_call_has_found_stays_however_small_the_cache() {
    let (mut store, mut disk) = filled_on_disk(3_000, &[1; PAGE_BYTES / 80]);
    store.options = Options::with_cache(0);
    while store.evict() {}
    assert_eq!(store.cached_bytes(), 0);
    // A call that needs many pages at once, and between whose tries the cache is tidied more than once.
    let call = |store: &Store| (0..3_000).step_by(100).try_for_each(|number| store.get(TREE, &key(number)).map(|_| ()));
    let mut tries = 0;
    while let Err(fault) = call(&store) {
        let since = store.tick();
        for _ in 0..5 {
            store.evict_but(since);
        }
        let buffer = disk.read(fault.first, fault.pages);
        assert!(store.install(fault, buffer).is_ok());
        tries += 1;
        assert!(tries < 100, "the call reads the same pages again and again");
    }
    assert!(tries > 30);
    while store.evict() {}
    assert_eq!(store.cached_bytes(), 0, "nobody waits any more");
}

#[test]
fn cold_pages_take_half_of_the_cache_and_warm_ones_all_of_it() {
    let (mut store, _) = filled_on_disk(3_000, &[1; 50]);
    let all = store.cached_bytes();
    store.options = Options::with_cache(all as usize);
    let second = |store: &mut Store, warm: std::ops::Range<u32>| {
        assert!(warm.clone().all(|number| store.get(TREE, &key(number)).is_ok()), "a warm page is gone");
        store.evict();
        store.trim(None);
    };
    for _ in 0..3 * TRIMS_UNTIL_COLD {
        second(&mut store, 0..3_000);
    }
    assert_eq!(store.cached_bytes(), all, "all of them are warm");
    for _ in 0..2 * TRIMS_UNTIL_COLD {
        second(&mut store, 0..2_000);
    }
    let warm = store.cached_bytes();
    assert!((all / 2..all * 3 / 4).contains(&warm), "of {all} bytes {warm} are warm");
    for _ in 0..2 * TRIMS_UNTIL_COLD {
        second(&mut store, 0..100);
    }
    let half = store.cached_bytes();
    assert!((all * 2 / 5..=all / 2).contains(&half), "half of {all} bytes may be cold, not {half}");
}

#[test]
fn what_comes_back_after_a_pause_stays_for_long() {
    let (mut store, mut disk) = filled_on_disk(3_000, &[1; PAGE_BYTES / 80]);
    let all = store.cached_bytes();
    store.options = Options { cache_bytes: 0, hot_bytes: all as usize, ..store.options };
    let uses = |store: &Store| (0..3_000).step_by(2).try_for_each(|number| store.get(TREE, &key(number)).map(|_| ()));
    store.trim(None);
    store.trim(None);
    uses(&store).expect("nothing is cold yet");
    for _ in 0..TRIMS_UNTIL_RETURNED_COLD {
        store.evict();
        store.trim(None);
    }
    uses(&store).expect("it was used again after a pause");
    for _ in 0..=TRIMS_UNTIL_RETURNED_COLD {
        store.trim(None);
    }
    assert!(uses(&store).is_err() && store.cached_bytes() < all / 10, "nobody used it for very long");
    let wanted = all as usize / 2;
    store.options.hot_bytes = wanted;
    disk.run(&mut store, |store| uses(store));
    while store.evict() {}
    assert!(store.cached_bytes() <= wanted as u64, "not more than what is allowed, however often it is used");
}

/// A store whose pages are all clean and may all be dropped when they are cold.
fn of_cold_pages() -> (Store, TestDisk) {
    let (mut store, disk) = filled_on_disk(3_000, &[1; 50]);
    store.options = Options { cache_bytes: 0, hot_bytes: store.cached_bytes() as usize, ..store.options };
    (store, disk)
}

fn use_all(store: &Store) -> Result<(), Fault> {
    (0..3_000).try_for_each(|number| store.get(TREE, &key(number)).map(|_| ()))
}

fn trim_cold(store: &mut Store) {
    (0..TRIMS_UNTIL_COLD + 2).for_each(|_| store.trim(None));
}

#[test]
fn what_was_dropped_as_cold_and_is_needed_again_stays_for_long() {
    let (mut store, mut disk) = of_cold_pages();
    trim_cold(&mut store);
    assert!(use_all(&store).is_err(), "all of it was cold");
    disk.run(&mut store, |store| use_all(store));
    trim_cold(&mut store);
    use_all(&store).expect("it has come back");
}

#[test]
fn a_copy_is_as_warm_as_what_it_was_made_of() {
    let (mut store, mut disk) = of_cold_pages();
    let put_all = |store: &mut Store| {
        (0..3_000).for_each(|number| store.put(TREE, &key(number), &[&[2; 50]], 1).expect("in memory"));
    };
    (0..2).for_each(|_| store.trim(None));
    use_all(&store).expect("nothing is cold yet");
    put_all(&mut store);
    let first = store.begin_checkpoint(b"");
    put_all(&mut store);
    disk.finish(&mut store, &first);
    disk.checkpoint(&mut store, b"");
    trim_cold(&mut store);
    use_all(&store).expect("it was used again after a pause");
}

#[test]
fn long_keys_and_long_values_come_back() {
    let mut store = Store::create(Options::with_cache(0));
    let mut disk = TestDisk::default();
    let long = |last: u8, bytes: usize| {
        let mut key = vec![b'k'; bytes];
        key.push(last);
        key
    };
    for bytes in [100, 128, 639, 640, 641, 5_000, 300_000] {
        for last in 0..20 {
            let value = vec![last; bytes * 3];
            disk.run(&mut store, |store| store.put(TREE, &long(last, bytes), &[&value[..10], &value[10..]], 70_000));
        }
        disk.checkpoint(&mut store, b"");
        disk.check_sound();
        while store.evict() {}
    }
    for bytes in [100, 128, 639, 640, 641, 5_000, 300_000] {
        for last in 0..20 {
            let key = long(last, bytes);
            let found = disk.run(&mut store, |store| {
                let entry = store.get(TREE, &key)?.expect("there");
                Ok(entry.value == vec![last; bytes * 3] && entry.weight == 70_000)
            });
            assert!(found, "{bytes} {last}");
            let head = disk.run(&mut store, |store| {
                let head = store.get_head(TREE, &key)?.expect("there");
                Ok((head.value_bytes, head.bytes.len() >= VALUE_HEAD_BYTES, head.bytes.iter().all(|&byte| byte == last)))
            });
            assert_eq!(head, (bytes * 3, true, true));
            assert!(disk.run(&mut store, |store| store.remove(TREE, &key)));
        }
    }
    disk.checkpoint(&mut store, b"");
    disk.checkpoint(&mut store, b"");
    assert_eq!(disk.check_sound().used_pages, 4);
    assert_eq!(store.used_bytes(), 4 * PAGE_BYTES as u64);
    assert!(store.file_bytes() < 40 * PAGE_BYTES as u64, "{} bytes", store.file_bytes());
}

#[test]
fn an_entry_is_found_from_where_it_was_put_wherever_it_is_now() {
    let mut store = Store::create(Options::with_cache(BIG_CACHE));
    let (mut disk, mut rng) = (TestDisk::default(), crate::base::Prng::new(5));
    let mut places = std::collections::BTreeMap::new();
    let (mut found_there, mut gone) = (0, 0);
    for step in 0..4000 {
        let name = key(step);
        let bytes = if rng.chance(1, 10) { 5_000 } else { rng.below(600) as usize };
        disk.run(&mut store, |store| store.locate(TREE, &name).map(|_| ()));
        let location = store.locate(TREE, &name).expect("looked at above");
        places.insert(step, (store.put_at(location, &[&vec![step as u8; bytes]], 1, None).expect("cached"), bytes));
        // Other trees take the places that are let go.
        disk.run(&mut store, |store| store.put(Tree(2), &key(step.reverse_bits()), &[&[1; 300]], 1));
        if rng.chance(1, 3) {
            let number = rng.below(u64::from(step) + 1) as u32;
            let there = places.remove(&number).is_some();
            assert_eq!(disk.run(&mut store, |store| store.remove(TREE, &key(number))), there);
        }
        if rng.chance(1, 20) {
            disk.checkpoint(&mut store, b"");
            while store.evict() {}
        }
        if rng.chance(1, 20) {
            disk.run(&mut store, |store| store.defragment_slice(20));
        }
        let number = rng.below(u64::from(step) + 1) as u32;
        let place = places.get(&number).map_or(PageId(rng.below(500) as u32), |(place, _)| *place);
        let read = |store: &mut Store| {
            Ok(store.get_near(TREE, &key(number), place)?.map(|entry| {
                assert!(entry.value.iter().all(|byte| *byte == number as u8));
                entry.value.len()
            }))
        };
        assert_eq!(disk.run(&mut store, read), places.get(&number).map(|(_, bytes)| *bytes));
        let cached = store.cache.find(place).is_some_and(|frame| store.cache.id(frame) == place);
        found_there += u32::from(cached);
        gone += u32::from(!cached);
    }
    assert!(found_there > 500 && gone > 100, "{found_there} in memory where they were put, {gone} not");
}

#[test]
fn damage_in_any_page_in_use_is_named() {
    let mut store = filled(500, &[3; 300]);
    store.put(TREE, b"long", &[&[5; 20_000]], 1).expect("cached");
    let mut disk = TestDisk::default();
    disk.checkpoint(&mut store, b"");
    disk.checkpoint(&mut store, b"");
    let pages = disk.bytes.len() / PAGE_BYTES;
    let live: Vec<bool> = (0..pages).map(|page| store.space.live_bits().get(page as u32)).collect();
    for (page, live) in live.into_iter().enumerate() {
        let mut damaged = disk.clone();
        damaged.bytes[page * PAGE_BYTES + (page * 37) % PAGE_BYTES] ^= 0x10;
        let errors = damaged.check().errors;
        assert_eq!(!errors.is_empty(), live, "page {page}: {errors:?}");
        let near = |error: &CheckError| error.offset <= (page * PAGE_BYTES) as u64 && error.page.offset() == error.offset;
        assert!(!live || near(&errors[0]), "page {page}: {errors:?}");
    }
    disk.bytes.truncate((pages - 1) * PAGE_BYTES);
    assert_eq!(disk.check().errors.len(), 1);
    let damage = disk.open(Options::with_cache(0)).err().expect("truncated");
    assert!(matches!(damage.what, What::Truncated { .. }) && damage.offset() == ((pages - 1) * PAGE_BYTES) as u64, "{damage}");
}

#[test]
fn a_lost_write_is_damage() {
    let (mut store, mut disk) = filled_on_disk(2, b"old");
    let first = disk.bytes.clone();
    // Pages go round until a leaf stands where an older leaf stood.
    for round in 0..6u8 {
        store.put(TREE, &key(1), &[&[round]], 0).expect("cached");
        disk.checkpoint(&mut store, b"");
    }
    let root = store.roots[TREE.slot()].at.page;
    let at = root.0 as usize * PAGE_BYTES;
    let is_older_leaf = first.len() > at && page::id(&first[at..]) == root;
    assert!(is_older_leaf, "the leaf is back at an old place");
    disk.bytes[at..at + PAGE_BYTES].copy_from_slice(&first[at..at + PAGE_BYTES]);
    let mut again = disk.open(Options::with_cache(0)).expect("the metas are sound");
    let fault = again.get(TREE, &key(1)).expect_err("nothing is cached");
    let buffer = disk.read(fault.first, fault.pages);
    let damage = again.install(fault, buffer).expect_err("the page is old");
    assert!(matches!(damage.what, What::Generation { .. }), "{damage}");
    assert!(!disk.check().errors.is_empty());
}

#[test]
fn a_pass_of_defragmentation_shortens_the_file() {
    let mut store = Store::create(Options::with_cache(1 << 20));
    let mut disk = TestDisk::default();
    for number in 0..20_000u32 {
        let long = number % 50 == 0;
        let value = vec![number as u8; if long { 9_000 } else { 200 }];
        disk.run(&mut store, |store| store.put(TREE, &key(number.reverse_bits()), &[&value], 1));
    }
    disk.checkpoint(&mut store, b"");
    for number in (0..20_000u32).filter(|number| number % 5 != 0) {
        disk.run(&mut store, |store| store.remove(TREE, &key(number.reverse_bits())));
    }
    disk.checkpoint(&mut store, b"");
    let before = store.file_bytes();
    for _ in 0..3 {
        while disk.run(&mut store, |store| store.defragment_slice(64)) {
            while store.evict() {}
        }
        disk.checkpoint(&mut store, b"");
        disk.checkpoint(&mut store, b"");
        disk.check_sound();
    }
    assert!(store.file_bytes() < before / 2, "{before} bytes became {}", store.file_bytes());
    assert!(store.file_bytes() < store.used_bytes() * 11 / 10, "{} bytes for {}", store.file_bytes(), store.used_bytes());
    for number in (0..20_000u32).filter(|number| number % 5 == 0) {
        let value =
            disk.run(&mut store, |store| Ok(store.get(TREE, &key(number.reverse_bits()))?.map(|entry| entry.value.to_vec())));
        assert_eq!(value, Some(vec![number as u8; if number % 50 == 0 { 9_000 } else { 200 }]));
    }
}

#[test]
fn pages_describe_themselves() {
    let mut store = filled(400, &[3; 30]);
    store.put(TREE, b"long", &[&[5; 40_000]], 1).expect("cached");
    let mut disk = TestDisk::default();
    disk.checkpoint(&mut store, b"note");
    let pages = disk.bytes.len() / PAGE_BYTES;
    let described: Vec<_> =
        (0..pages).map(|page| describe(PageId(page as u32), &disk.bytes[page * PAGE_BYTES..(page + 1) * PAGE_BYTES])).collect();
    assert_eq!(described[0], PageDescription::Meta(MetaDescription::NeverWritten));
    let PageDescription::Meta(MetaDescription::Sound { generation: 1, note, trees, .. }) = &described[1] else {
        panic!("{:?}", described[1]);
    };
    assert_eq!((&note[..], trees[0].3.entries), (&b"note"[..], 401));
    let leaves = described.iter().filter(|page| matches!(page, PageDescription::Tree(tree) if tree.level == 0 && tree.sound));
    assert!(leaves.count() >= 3);
    assert!(described.iter().any(|page| matches!(page, PageDescription::Overflow { bytes: 40_000, pages: 5, .. })));
    assert!(described.iter().any(|page| matches!(page, PageDescription::Bitmap { sound: true, .. })));
}

#[test]
fn a_walk_and_a_description_survive_any_contents_under_a_right_checksum() {
    let mut store = filled(400, &[3; 90]);
    store.put(TREE, &[b'k'; 5_000], &[&[5; 20_000]], 70_000).expect("cached");
    let mut disk = TestDisk::default();
    disk.checkpoint(&mut store, b"");
    let pages = disk.bytes.len() / PAGE_BYTES;
    let mut rng = crate::base::Prng::new(8);
    let mut found = 0;
    for _ in 0..2_000 {
        let mut changed = disk.clone();
        let id = 2 + rng.below(pages as u64 - 2) as usize;
        let run_pages = match describe(PageId(id as u32), &changed.bytes[id * PAGE_BYTES..]) {
            PageDescription::Overflow { pages, .. } => pages as usize,
            _ => 1,
        };
        let bytes = &mut changed.bytes[id * PAGE_BYTES..(id + run_pages) * PAGE_BYTES];
        for _ in 0..=rng.below(3) {
            let near_the_start = rng.chance(1, 2);
            let at = rng.below(if near_the_start { 120 } else { PAGE_BYTES as u64 }) as usize;
            bytes[at] = rng.u64() as u8;
        }
        page::seal(bytes);
        describe(PageId(id as u32), bytes);
        found += usize::from(!changed.check().errors.is_empty());
    }
    assert!(found > 1_000, "only {found} of 2000 changes show");
}

#[test]
fn the_largest_cells_find_room_in_any_order() {
    // A short value, and the longest ones that still stand in their leaf, in every order.
    let longest = leaf::CELL_BYTES_MAX - leaf::FIXED_BYTES - size_of::<u32>() - key(0).len();
    let sizes = [300, longest, longest - 100, longest, 2 * PAGE_BYTES / 5];
    for order in 0..5u32.pow(5) {
        let mut store = Store::create(Options::with_cache(BIG_CACHE));
        let mut expected = std::collections::BTreeMap::new();
        for (nth, &bytes) in sizes.iter().enumerate() {
            let number = order / 5u32.pow(nth as u32) % 5;
            store.put(TREE, &key(number), &[&vec![nth as u8; bytes]], 1).expect("cached");
            expected.insert(number, (nth as u8, bytes));
        }
        assert_eq!(store.len(TREE).entries, expected.len() as u64);
        for (number, (nth, bytes)) in expected {
            let entry = store.get(TREE, &key(number)).expect("cached").expect("it was put");
            assert!(entry.value == vec![nth; bytes], "key {number} of order {order}");
        }
    }
    let mut disk = TestDisk::default();
    let mut store = Store::create(Options::with_cache(BIG_CACHE));
    (0..100).for_each(|number| store.put(TREE, &key(number), &[&vec![1; longest]], 1).expect("cached"));
    disk.checkpoint(&mut store, b"");
    disk.check_sound();
    assert!(store.used_bytes() < 60 * PAGE_BYTES as u64, "two of the longest fit a page");
}

#[test]
fn the_last_cell_of_a_page_may_outgrow_it() {
    let third = page::ROOM_BYTES / 3 - page::SLOT_BYTES - leaf::FIXED_BYTES - key(0).len();
    let mut store = filled(2, &vec![1; third]);
    for (bytes, levels) in [(third - 60, 0), (third + 60, 1)] {
        store.put(TREE, &key(2), &[&vec![2; bytes]], 0).expect("cached");
        assert_eq!(store.roots[TREE.slot()].level, levels);
        let mut cursor = store.cursor(TREE);
        cursor.seek(b"").expect("cached");
        for (number, value) in [(0, vec![1; third]), (1, vec![1; third]), (2, vec![2; bytes])] {
            assert_eq!(cursor.entry().map(|(key, value, _)| (key, value)), Some((&key(number)[..], &value[..])));
            cursor.next().expect("cached");
        }
        assert_eq!(cursor.entry(), None);
    }
}

/// How a walk over entries goes whose pages are read ahead, wherever it meets a missing one: how often it did, and how many were read.
fn walked(
    disk: &mut TestDisk,
    numbers: impl Iterator<Item = u32> + Clone,
    ahead: impl Fn(&Store, u32) -> Vec<Fault>,
) -> (u32, usize) {
    let mut store = disk.open(Options::with_cache(BIG_CACHE)).expect("a whole checkpoint");
    let (mut faults, mut read) = (0, 0);
    for number in numbers {
        while let Err(fault) = store.get(TREE, &key(number)) {
            let wanted = ahead(&store, number);
            assert!(wanted.contains(&fault), "the page that {number} waits for is not asked for");
            faults += 1;
            read += wanted.len();
            wanted.into_iter().for_each(|fault| disk.serve(&mut store, fault));
        }
    }
    (faults, read)
}

#[test]
fn what_a_walk_will_come_to_is_known_ahead() {
    let mut disk = TestDisk::default();
    let mut store = filled(20_000, &[7; PAGE_BYTES / 14]);
    disk.checkpoint(&mut store, b"");
    let to = key(9_000);
    for (entries, pages) in [(u64::MAX, 64), (u64::MAX, 3), (500, 64)] {
        // The first leaf counts whole, though it may begin below.
        let last = if entries == 500 { 5_480 } else { 9_000 };
        let (faults, read) = walked(&mut disk, 5_000..last, |store, number| {
            let wanted = store.reader().ahead(TREE, &key(number), Some(&to), pages, entries - u64::from(number - 5_000));
            assert!(wanted.len() <= pages, "{} pages at a time", wanted.len());
            wanted
        });
        // Twelve entries to a leaf at most, half as many at least.
        let leaves = (last - 5_000) / 6;
        assert!(read < leaves as usize + 25, "{read} pages for {leaves} leaves");
        assert!(faults < leaves / pages as u32 + 20, "{faults} times {pages} pages for {leaves} leaves");
    }
}

#[test]
fn what_a_walk_down_will_come_to_is_known_ahead() {
    let mut disk = TestDisk::default();
    let mut store = filled(20_000, &[7; PAGE_BYTES / 14]);
    disk.checkpoint(&mut store, b"");
    for (from, first) in [(None, 19_999), (Some(key(9_000)), 8_999)] {
        let (faults, read) = walked(&mut disk, (first - 4_000..=first).rev(), |store, number| {
            let from = if number == first { from } else { Some(key(number + 1)) };
            store.reader().ahead_down(TREE, from.as_ref().map(|key| &key[..]), 64)
        });
        assert!(faults < 4_000 / 6 / 64 + 20, "{faults} times");
        assert!(read < 4_000 / 6 + 64, "{read} pages");
    }
}

#[test]
fn what_lies_farther_ahead_is_not_looked_for() {
    let mut disk = TestDisk::default();
    let mut store = filled(20_000, &[7; PAGE_BYTES / 14]);
    disk.checkpoint(&mut store, b"");
    let mut store = disk.open(Options::with_cache(BIG_CACHE)).expect("a whole checkpoint");
    for number in 5_000..5_120 {
        while let Err(fault) = store.get(TREE, &key(number)) {
            disk.serve(&mut store, fault);
        }
    }
    // Those entries are in ten to twenty leaves.
    let wanted = |pages| store.reader().ahead(TREE, &key(5_000), None, pages, u64::MAX).len();
    assert_eq!((wanted(3), wanted(10)), (0, 0));
    assert_ne!(wanted(64), 0);
}
