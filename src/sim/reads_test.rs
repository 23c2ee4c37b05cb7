//! Reads that take long, on a member whose caches hold a few pages.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::base::limits::{COUNT_CORRECTIONS_MAX, PAGE_BYTES, READ_AHEAD_PAGES, SLICE_VISITS_MAX};
use crate::base::{Instant, Prng};
use crate::front::{CallId, Method, Status};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::request_op::Request;

use super::disk::SimDisk;
use super::executor::{Incoming, Outgoing};
use super::member::{Member, Shape};

/// Operations of one txn.
const OPERATIONS: usize = 100;
/// More than one slice looks at.
const KEYS: usize = 4 * SLICE_VISITS_MAX as usize / OPERATIONS * OPERATIONS;
/// More of them than are looked at one by one to correct a count.
const CHANGED: usize = 2 * COUNT_CORRECTIONS_MAX / OPERATIONS * OPERATIONS;
const STEPS_MAX: u64 = 1_000_000;

/// A member of one shard, and what its clients got.
struct Rig {
    member: Member,
    disk: SimDisk,
    rng: Prng,
    now: Instant,
    calls: u64,
    answers: BTreeMap<CallId, Bytes>,
    ended: BTreeMap<CallId, Status>,
    steps: u64,
    pages_read: u64,
}

impl Rig {
    /// A member with `KEYS` keys, of which `CHANGED` were put once more; and the revision before that.
    fn new() -> (Rig, i64) {
        let (mut disk, mut rng) = (SimDisk::default(), Prng::new(1));
        let shape =
            Shape { shards: 1, cores: 1, fronts: 1, together: true, cache_bytes: 16 * PAGE_BYTES, may_die_starting: false };
        let now = Instant::from_nanos(1_000_000);
        let member = Member::start(&mut disk, shape, now, &mut rng).expect("an empty disk is no reason not to start");
        let member = member.expect("power does not fail");
        let (answers, ended) = (BTreeMap::new(), BTreeMap::new());
        let mut rig = Rig { member, disk, rng, now, calls: 0, answers, ended, steps: 0, pages_read: 0 };
        while !rig.member.leads() {
            rig.step();
        }
        let old = rig.put_all(0..KEYS);
        rig.put_all(0..CHANGED);
        (rig, old)
    }

    /// Puts these keys, many in a txn. The last revision.
    fn put_all(&mut self, keys: std::ops::Range<usize>) -> i64 {
        let mut revision = 0;
        for first in keys.step_by(OPERATIONS) {
            let call = self.open(Method::Txn, &puts(first));
            let response: pb::TxnResponse = self.answer(call);
            revision = response.header.expect("every answer has a header").revision;
        }
        revision
    }

    fn open(&mut self, method: Method, message: &impl Message) -> CallId {
        self.calls += 1;
        let call = CallId(self.calls);
        self.member.call(0, Incoming::Open(call, method));
        self.member.call(0, Incoming::Message(call, message.encode_to_vec().into()));
        self.member.call(0, Incoming::HalfClose(call));
        call
    }

    fn answer<T: Message + Default>(&mut self, call: CallId) -> T {
        while !self.ended.contains_key(&call) {
            self.step();
        }
        assert_eq!(self.ended[&call], Status::OK);
        T::decode(self.answers.remove(&call).expect("what ended well was answered")).expect("it was encoded")
    }

    /// One thing happens. False: nothing was possible but for the clock to go on.
    fn step(&mut self) -> bool {
        self.steps += 1;
        assert!(self.steps < STEPS_MAX, "nothing comes of it");
        self.now = self.now + Duration::from_nanos(self.rng.below(20_000));
        let (mut out, mut pages_read) = (Vec::new(), 0);
        let mut trace = |text: &dyn Fn() -> String| pages_read += u64::from(text().starts_with("disk: page read"));
        let done = self.member.step(&mut self.disk, self.now, &mut self.rng, &mut out, &mut trace);
        self.pages_read += pages_read;
        let done = done.expect("nothing is damaged");
        if !done {
            self.now = self.now.max(self.member.next_deadline());
        }
        for (call, message) in out {
            match message {
                Outgoing::Message(_, bytes) => drop(self.answers.insert(call, bytes)),
                Outgoing::Finish(_, status) => drop(self.ended.insert(call, status)),
            }
        }
        done
    }

    /// Goes on until nothing is left to do but for timers.
    fn rest(&mut self) {
        while self.step() {}
    }

    /// How many pages of 4 KiB the keys take, about.
    fn pages(&self) -> u64 {
        self.disk.used().1 / PAGE_BYTES as u64
    }
}

fn key_of(key: usize) -> Bytes {
    Bytes::from(format!("a key of some bytes {key:08}"))
}

/// Puts of neighbouring keys.
fn puts(first: usize) -> pb::TxnRequest {
    let put = |key: usize| pb::PutRequest { key: key_of(key), value: Bytes::from_static(&[7; 40]), ..Default::default() };
    let op = |key| pb::RequestOp { request: Some(Request::RequestPut(put(key))) };
    pb::TxnRequest { success: (first..first + OPERATIONS).map(op).collect(), ..Default::default() }
}

fn list(revision: i64) -> pb::RangeRequest {
    pb::RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        limit: 5,
        revision,
        ..Default::default()
    }
}

#[test]
fn a_list_at_an_old_revision_ends_and_puts_go_on_beside_it() {
    let (mut rig, old) = Rig::new();
    let (before, steps) = (rig.pages_read, rig.steps);
    let call = rig.open(Method::Range, &list(old));
    let mut puts = 0;
    while !rig.ended.contains_key(&call) {
        let put = pb::PutRequest { key: key_of(puts), value: Bytes::from_static(b"beside"), ..Default::default() };
        let put = rig.open(Method::Put, &put);
        rig.answer::<pb::PutResponse>(put);
        puts += 1;
    }
    let response: pb::RangeResponse = rig.answer(call);
    assert_eq!((response.kvs.len(), response.count, response.more), (5, KEYS as i64, true));
    assert!(puts > 3, "{puts} puts were answered meanwhile");
    let (read, pages) = (rig.pages_read - before, rig.pages());
    println!("{read} pages of {pages} were read in {} steps, and {puts} puts answered", rig.steps - steps);
    assert!(read > pages / 16 && read < 3 * pages, "{read} pages were read of {pages}");
}

#[test]
fn a_read_of_a_client_that_is_gone_reads_nothing_more() {
    let (mut rig, old) = Rig::new();
    let before = rig.pages_read;
    let call = rig.open(Method::Range, &list(old));
    while rig.pages_read < before + 10 {
        rig.step();
    }
    rig.member.call(0, Incoming::Cancel(call));
    let before = rig.pages_read;
    rig.rest();
    let read = rig.pages_read - before;
    assert!(read <= READ_AHEAD_PAGES as u64 + 8, "{read} pages were read for nobody");
    assert!(!rig.ended.contains_key(&call), "who is gone is told nothing");
}

#[test]
fn transactions_with_many_keys_whose_pages_are_not_in_memory_are_applied() {
    let (mut rig, _) = Rig::new();
    let calls: Vec<CallId> = (0..CHANGED).step_by(OPERATIONS).map(|first| rig.open(Method::Txn, &puts(first))).collect();
    for call in calls {
        rig.answer::<pb::TxnResponse>(call);
    }
    let call = rig.open(Method::Range, &list(0));
    let response: pb::RangeResponse = rig.answer(call);
    assert_eq!((response.kvs.len(), response.count, response.more), (5, KEYS as i64, true));
}
