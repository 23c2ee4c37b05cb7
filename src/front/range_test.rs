use bytes::Bytes;

use super::*;
use crate::base::{CoreId, Revision};

fn layout(shards: u16) -> Layout {
    Layout { shards, cores: vec![CoreId(0); usize::from(shards) + 1] }
}

fn kv(key: String, version: i64, value: &str) -> KeyValue {
    KeyValue { key: Bytes::from(key), version, value: Bytes::copy_from_slice(value.as_bytes()), ..Default::default() }
}

/// Answers a job from a sorted list of keys; how many slices it asked for, and how many keys they held.
fn run(job: &mut RangeJob, layout: &Layout, all: &[KeyValue]) -> (usize, usize) {
    run_in_slices(job, layout, all, usize::MAX)
}

/// As [`run`], with so many keys in a slice at most.
fn run_in_slices(job: &mut RangeJob, layout: &Layout, all: &[KeyValue], slice_keys: usize) -> (usize, usize) {
    let (mut slices, mut keys) = (0, 0);
    while let Some(asked) = job.advance() {
        assert!(!asked.is_empty(), "it goes on or it asks");
        for (group, read) in asked {
            let after = read.resume.clone().unwrap_or_default();
            let mine = |kv: &&KeyValue| layout.of_key(&kv.key) == group && kv.key > after && read.range.contains(&kv.key);
            let rest: Vec<KeyValue> = all.iter().filter(mine).cloned().collect();
            let kvs: Vec<KeyValue> = rest.iter().take(read.limit.min(slice_keys)).cloned().collect();
            slices += 1;
            keys += kvs.len();
            let count = if read.with_count { rest.len() as u64 } else { 0 };
            let resume = (rest.len() > kvs.len()).then(|| kvs.last().unwrap().key.clone());
            job.give(group, RangeSlice { kvs, count, resume });
        }
    }
    (slices, keys)
}

fn everything(limit: i64) -> pb::RangeRequest {
    pb::RangeRequest { key: Bytes::from("a"), range_end: Bytes::from("z"), limit, ..Default::default() }
}

#[test]
fn a_limit_asks_for_little_more_than_it_needs() {
    let layout = layout(16);
    let all: Vec<KeyValue> = (0..20_000).map(|i| kv(format!("k{i:05}"), 1, "v")).collect();
    for limit in [1, 10, 500, 5000] {
        let mut job = RangeJob::new(everything(limit), At::end_of(Revision(9)), &layout);
        let (slices, keys) = run(&mut job, &layout, &all);
        let outcome = job.outcome();
        assert_eq!(outcome.kvs, all[..limit as usize]);
        assert_eq!((outcome.more, outcome.count), (true, 20_000));
        let limit = limit as usize;
        let spare = 16 * (2 * (limit / 16).isqrt() + 4);
        assert!(keys <= limit + spare && slices <= 16 + 8, "limit {limit}: {keys} keys in {slices} slices");
    }
}

#[test]
fn a_list_that_takes_several_slices_of_each_group_asks_for_whole_ones_to_the_end() {
    let layout = layout(4);
    let all: Vec<KeyValue> = (0..20_000).map(|i| kv(format!("k{i:05}"), 1, "v")).collect();
    let mut job = RangeJob::new(everything(5000), At::end_of(Revision(9)), &layout);
    let (slices, keys) = run_in_slices(&mut job, &layout, &all, 300);
    assert_eq!(job.outcome().kvs, all[..5000]);
    assert!(slices <= 5000 / 300 + 4 + 8 && keys <= 5000 + 4 * 300, "{keys} keys in {slices} slices");
}

#[test]
fn a_sort_with_a_limit_keeps_the_best_of_all() {
    let layout = layout(4);
    let all: Vec<KeyValue> = (0..9000).map(|i| kv(format!("k{i:05}"), (i * 7919) % 9000, "v")).collect();
    for (order, best) in [(1, 0), (2, 8999)] {
        let request = pb::RangeRequest { sort_order: order, sort_target: 1, ..everything(3) };
        let mut job = RangeJob::new(request, At::end_of(Revision(9)), &layout);
        run(&mut job, &layout, &all);
        assert!(job.kvs.len() < 2000, "what cannot be in the answer is let go");
        let outcome = job.outcome();
        assert_eq!(outcome.kvs.iter().map(|kv| (kv.version - best).abs()).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(outcome.more);
    }
}

#[test]
fn a_target_without_an_order_sorts_what_the_limit_let_through() {
    let layout = layout(4);
    let all: Vec<KeyValue> = (0..10).map(|i| kv(format!("k{i}"), 10 - i, "v")).collect();
    let mut job = RangeJob::new(pb::RangeRequest { sort_target: 1, ..everything(3) }, At::end_of(Revision(9)), &layout);
    run(&mut job, &layout, &all);
    let keys: Vec<Bytes> = job.outcome().kvs.into_iter().map(|kv| kv.key).collect();
    assert_eq!(keys, ["k3", "k2", "k1"], "of the first four in key order the three lowest versions");
}

#[test]
fn an_empty_range_asks_nobody() {
    let request = pb::RangeRequest { key: Bytes::from("b"), range_end: Bytes::from("a"), ..Default::default() };
    let mut job = RangeJob::new(request, At::end_of(Revision(9)), &layout(4));
    assert!(job.advance().is_none());
    assert_eq!(job.outcome(), Outcome::default());
}

#[test]
fn an_answer_encoded_as_it_comes_is_the_same() {
    let value = "v".repeat(RANGE_PART_BYTES / 10);
    let all: Vec<KeyValue> = (0..100).map(|i| kv(format!("k{i:03}"), 1, &value)).collect();
    let header = pb::ResponseHeader { cluster_id: 5, member_id: 6, revision: 9, raft_term: 2 };
    let cases =
        [(0, false, false), (40, false, false), (7, false, false), (0, true, false), (40, false, true), (0, false, true)];
    for shards in [1, 4] {
        for (limit, keys_only, filtered) in cases {
            let min_mod_revision = i64::from(filtered);
            let request = pb::RangeRequest { keys_only, min_mod_revision, ..everything(limit) };
            let at = At::end_of(Revision(9));
            let [plain, encoding] = [false, true].map(|encoding| {
                let job = RangeJob::new(request.clone(), at, &layout(shards));
                let mut job = if encoding { job.encoding() } else { job };
                run(&mut job, &layout(shards), &all);
                job.outcome()
            });
            assert!(plain.encoded.is_empty());
            assert_eq!(encoding.encoded.is_empty(), limit == 7, "only what is large is encoded as it comes");
            let whole = encode::range_response(Some(&header), &plain.kvs, plain.more, plain.count as i64);
            let parts =
                encode::range_response_around(&header, encoding.encoded, &encoding.kvs, encoding.more, encoding.count as i64);
            assert_eq!(parts.concat(), whole, "{shards} shards, {request:?}");
        }
    }
}
