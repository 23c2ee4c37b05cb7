//! Reads and compactions that take long, most on a member whose caches hold a few pages.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::base::limits::{
    COMPACT_SLICE_INTERVAL, COMPACT_SLICE_VISITS, COMPACT_VISITS_PER_CHANGE, COUNT_CORRECTIONS_MAX, PAGE_BYTES,
    READ_AHEAD_PAGES, READ_BYTES_PER_ROUND, SLICE_BYTES_MAX, SLICE_VISITS_MAX,
};
use crate::base::{FrontId, GroupId, Instant, KeyRange, Prng, Revision};
use crate::front::{CallId, Method, Status};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::request_op::Request;
use crate::shard::messages::{At, RangeRead, Read};
use crate::shard::{Answer, Effect, Event, Refusal, Ticket, ToCore, ToFront};

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
        Rig::with_cache(16 * PAGE_BYTES)
    }

    fn with_cache(cache_bytes: usize) -> (Rig, i64) {
        let (mut disk, mut rng) = (SimDisk::default(), Prng::new(1));
        let shape = Shape { shards: 1, cores: 1, fronts: 1, together: true, cache_bytes, may_die_starting: false };
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
        // What applying still reads and writes is not of the reads that follow.
        rig.rest();
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

    /// How many pages the keys take, about.
    fn pages(&self) -> u64 {
        self.disk.used().1 / PAGE_BYTES as u64
    }
}

fn key_of(key: usize) -> Bytes {
    Bytes::from(format!("a key of some bytes {key:08}"))
}

/// Puts of neighbouring keys.
fn puts(first: usize) -> pb::TxnRequest {
    let put = |key: usize| pb::PutRequest {
        key: key_of(key),
        value: Bytes::from_static(&[7; PAGE_BYTES / 100]),
        ..Default::default()
    };
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
    let (mut puts, mut first) = (0, 0);
    while !rig.ended.contains_key(&call) {
        let put = pb::PutRequest { key: key_of(puts), value: Bytes::from_static(b"beside"), ..Default::default() };
        let put = rig.open(Method::Put, &put);
        rig.answer::<pb::PutResponse>(put);
        puts += 1;
        first = if puts == 1 { rig.steps - steps } else { first };
    }
    let all = rig.steps - steps;
    let response: pb::RangeResponse = rig.answer(call);
    assert_eq!((response.kvs.len(), response.count, response.more), (5, KEYS as i64, true));
    let (read, pages) = (rig.pages_read - before, rig.pages());
    println!("{read} pages of {pages} were read in {all} steps, and {puts} puts answered, the first after {first}");
    assert!(first < all / 2, "the first of {puts} puts was answered after {first} steps of {all}");
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

/// Of many reads a core does some; then what else has arrived has its turn, and those that nobody wants any more are not done.
#[test]
fn large_reads_leave_room_for_what_cancels_them() {
    const READS: u64 = 100;
    let (mut rig, at) = Rig::with_cache(1 << 30);
    rig.rest();
    let now = rig.now;
    let core = rig.member.core(0);
    let ticket = |number| Ticket { front: FrontId(0), number: 1_000_000 + number };
    let (mut effects, mut done, mut dropped) = (Vec::new(), 0, 0);
    let mut look = |effects: &mut Vec<Effect>| {
        for effect in effects.drain(..) {
            match effect {
                Effect::ToFront(_, ToFront::Answer { answer: Answer::Range(_), .. }) => done += 1,
                Effect::ToFront(_, ToFront::Answer { answer: Answer::Refused(Refusal::Cancelled), .. }) => dropped += 1,
                Effect::Disk(_) => {}
                other => panic!("nobody asked for {other:?}"),
            }
        }
        (done, dropped)
    };
    for number in 0..READS {
        let read = Read::Range(Box::new(everything(at)));
        core.handle(now, Event::Front(ToCore::Read { ticket: ticket(number), group: GroupId(1), read }), &mut effects);
    }
    let slices = (READ_BYTES_PER_ROUND / SLICE_BYTES_MAX) as u64;
    assert_eq!(look(&mut effects), (slices, 0), "as they come in");
    core.flush(now, &mut effects);
    assert_eq!(look(&mut effects), (2 * slices, 0), "a round");
    let get = Read::Get { key: key_of(1), at: everything(at).at };
    core.handle(now, Event::Front(ToCore::Read { ticket: ticket(READS), group: GroupId(1), read: get }), &mut effects);
    let got = |effect| matches!(effect, Effect::ToFront(_, ToFront::Answer { answer: Answer::Got(Some(_)), .. }));
    assert_eq!(effects.drain(..).filter_map(|effect| got(effect).then_some(())).count(), 1, "a key is read at once");
    for number in 0..READS {
        core.handle(now, Event::Front(ToCore::Cancel { ticket: ticket(number), group: GroupId(1) }), &mut effects);
    }
    core.flush(now, &mut effects);
    assert_eq!(look(&mut effects), (2 * slices, READS - 2 * slices));
    assert!(!core.has_background_work(now));
}

/// A slice of all keys, more than are looked at in one.
fn everything(at: i64) -> RangeRead {
    RangeRead {
        range: KeyRange::of(&Bytes::from_static(b"\0"), &Bytes::from_static(b"\0")),
        at: At { revision: Revision(at as u64), operations: u32::MAX },
        limit: usize::MAX,
        keys_only: false,
        count_only: false,
        with_count: false,
        mod_revisions: (0, 0),
        create_revisions: (0, 0),
        resume: None,
    }
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

/// How long a compaction takes on a member all of whose pages are in memory, while a client asks for one txn after the other, of so many
/// puts (0: nobody asks for anything); and how many were answered meanwhile.
fn compacted(operations: usize) -> (Duration, usize) {
    let (mut rig, _) = Rig::with_cache(1 << 30);
    let revision = (KEYS / OPERATIONS + CHANGED / OPERATIONS + 1) as i64;
    let (began, mut answered) = (rig.now, 0);
    let call = rig.open(Method::Compact, &pb::CompactionRequest { revision, physical: true });
    while !rig.ended.contains_key(&call) {
        if operations > 0 {
            let mut txn = puts(0);
            txn.success.truncate(operations);
            let txn = rig.open(Method::Txn, &txn);
            rig.answer::<pb::TxnResponse>(txn);
            answered += 1;
        }
        rig.step();
    }
    rig.answer::<pb::CompactionResponse>(call);
    (rig.now.since(began), answered)
}

#[test]
fn a_compaction_leaves_its_core_to_clients_and_gains_on_them() {
    let (beside_puts, answered) = compacted(1);
    let (beside_changes, _) = compacted(OPERATIONS);
    let (alone, _) = compacted(0);
    println!("{beside_puts:?} beside {answered} puts, {beside_changes:?} beside many changes, {alone:?} alone");
    // Every change is looked at, and what time does not earn, the puts do.
    let visits = KEYS + CHANGED - answered * COMPACT_VISITS_PER_CHANGE as usize;
    let earned = COMPACT_SLICE_INTERVAL * (visits / COMPACT_SLICE_VISITS as usize - 1) as u32;
    assert!(beside_puts > earned, "a compaction takes more than it earns, {earned:?}");
    assert!(beside_changes < beside_puts / 2, "a compaction does not gain on what clients change");
    assert!(alone < beside_puts / 4, "slices rest though nobody asks for anything");
}
