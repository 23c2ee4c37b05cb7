//! Watches of all kinds under writes, compactions, stalled clients and changes of reign: each gets its history, whole and once.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::base::limits::{
    REQUEST_OVERHEAD_BYTES, WATCH_BATCH_REVISIONS_MAX, WATCH_GATHER_PART, WATCH_REST_MICROS, WATCH_REST_RESPONSES_MIN,
    WATCH_STREAM_BYTES_MAX,
};
use crate::base::{GroupId, KeyRange, Prng, Revision, Term};
use crate::front::call::Method;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::mvccpb;
use crate::shard::messages::{Event, Previous, ToFront};

use super::cores::WHOLE;
use super::model::Change;
use super::requests;
use super::world::{World, config};

fn create(create: pb::WatchCreateRequest) -> pb::WatchRequest {
    pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

fn cancel(watch_id: i64) -> pb::WatchRequest {
    pb::WatchRequest { request_union: Some(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id })) }
}

fn progress() -> pb::WatchRequest {
    pb::WatchRequest { request_union: Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})) }
}

fn random_create(rng: &mut Prng, current: u64) -> pb::WatchCreateRequest {
    let start_revision = match rng.below(4) {
        0 => 0,
        1 => current as i64 + rng.below(4) as i64,
        _ => rng.below(current + 1) as i64,
    };
    pb::WatchCreateRequest {
        key: if rng.chance(1, 8) { Bytes::new() } else { requests::key(rng) },
        range_end: requests::range_end(rng),
        start_revision,
        progress_notify: rng.chance(1, 4),
        filters: (0..2).filter(|_| rng.chance(1, 8)).collect(),
        prev_kv: rng.chance(1, 2),
        watch_id: if rng.chance(1, 6) { 100 + rng.below(3) as i64 } else { 0 },
        fragment: rng.chance(1, 4),
    }
}

/// What a stream asked, to check what it got.
#[derive(Default)]
struct Asked {
    creates: Vec<pb::WatchCreateRequest>,
    /// A live watch may fall behind, and is then told so by a later header.
    falls_behind: bool,
}

/// A watch, as its responses are gone through.
struct Watch {
    asked: pb::WatchCreateRequest,
    history: Vec<Change>,
    /// How much of the history it had.
    at: usize,
    gone: bool,
    /// The revision whose fragments are coming.
    fragment: Option<i64>,
    /// Its responses say the revision of their last event.
    is_live: bool,
}

impl Watch {
    fn new(world: &World, asked: pb::WatchCreateRequest, created: i64, falls_behind: bool) -> Watch {
        let key = if asked.key.is_empty() { Bytes::from_static(b"\0") } else { asked.key.clone() };
        let range = KeyRange::of(&key, &asked.range_end);
        let from = if asked.start_revision == 0 { created as u64 + 1 } else { asked.start_revision as u64 };
        let mut history = world.cores.model.history(&range, from);
        history.retain(|c| !asked.filters.contains(&i32::from(c.tombstone)));
        let is_live = asked.start_revision == 0 && !falls_behind;
        Watch { asked, history, at: 0, gone: false, fragment: None, is_live }
    }

    /// Whether everything up to `revision` was delivered.
    fn had(&self, revision: i64) -> bool {
        self.history.get(self.at).is_none_or(|c| c.revision as i64 > revision)
    }

    fn events(&mut self, response: &pb::WatchResponse, compacted: i64) {
        assert!(!self.gone && !response.canceled && !response.created && response.compact_revision == 0);
        let first = response.events[0].kv.as_ref().unwrap().mod_revision;
        match self.fragment {
            Some(revision) => assert_eq!(first, revision, "fragments belong together"),
            None => {
                let before = self.at.checked_sub(1).map(|at| self.history[at].revision as i64);
                assert_ne!(before, Some(first), "a revision is not split");
            }
        }
        let mut revisions = Vec::new();
        for event in &response.events {
            let expected = self.history.get(self.at).expect("no more events than there were");
            let prev_kv = expected.prev.clone().filter(|_| self.asked.prev_kv);
            let forgotten = event.prev_kv.is_none() && expected.revision as i64 <= compacted;
            let kind = i32::from(expected.tombstone);
            let prev_kv = if forgotten { None } else { prev_kv };
            assert_eq!(*event, mvccpb::Event { r#type: kind, kv: Some(expected.kv.clone()), prev_kv });
            revisions.push(expected.revision as i64);
            self.at += 1;
        }
        let last = *revisions.last().unwrap();
        revisions.dedup();
        assert!(revisions.len() <= WATCH_BATCH_REVISIONS_MAX);
        let header = response.header.unwrap().revision;
        assert!(header >= last, "the header is not behind the events");
        assert!(!self.is_live || header == last, "{revisions:?} came live under a header of {header}");
        assert!(self.asked.fragment || !response.fragment);
        self.fragment = response.fragment.then_some(last);
        if !response.fragment {
            let next = self.history.get(self.at).map(|c| c.revision as i64);
            assert_ne!(next, Some(last), "a revision comes whole");
        }
    }
}

/// Goes through everything that a stream received; the watches that are left have everything.
fn check_stream(world: &World, id: u64, asked: &Asked) -> usize {
    let client = &world.clients[&id];
    let compacted = world.cores.model.compacted;
    let falls_behind = asked.falls_behind;
    let mut creates = asked.creates.iter();
    let mut watches: BTreeMap<i64, Watch> = BTreeMap::new();
    for at in 0..client.received.len() {
        let response: pb::WatchResponse = client.message(at);
        let header = response.header.unwrap();
        if response.created {
            let asked = creates.next().expect("an answer per request");
            if response.canceled {
                assert_eq!(response.watch_id, -1);
                let duplicate = watches.get(&asked.watch_id).is_some_and(|_| asked.watch_id != 0);
                let key: &[u8] = if asked.key.is_empty() { b"\0" } else { &asked.key };
                let empty = asked.range_end.as_ref() != b"\0" && !asked.range_end.is_empty() && key >= asked.range_end.as_ref();
                let reason = response.cancel_reason.as_str();
                assert!((duplicate && reason.contains("duplicate")) || (empty && reason.contains("empty")), "{reason}");
                continue;
            }
            let watch = Watch::new(world, asked.clone(), header.revision, falls_behind);
            watches.insert(response.watch_id, watch);
        } else if response.watch_id == -1 {
            assert!(!watches.is_empty() && response.events.is_empty());
            for watch in watches.values() {
                assert!(
                    watch.had(header.revision) && watch.asked.start_revision <= header.revision,
                    "progress claims what was had: {:?} at {} of {:?}",
                    header,
                    watch.at,
                    watch.asked
                );
            }
        } else if response.canceled {
            let watch = watches.get_mut(&response.watch_id).expect("a watch that was created");
            if response.compact_revision != 0 {
                assert_eq!((header.revision, response.cancel_reason.as_str()), (0, ""));
                assert!(response.compact_revision <= compacted && !watch.gone);
                watch.gone = true;
            } else {
                watches.remove(&response.watch_id);
            }
        } else if response.events.is_empty() {
            let watch = &watches[&response.watch_id];
            assert!(watch.asked.progress_notify && watch.had(header.revision) && !watch.gone);
        } else {
            watches.get_mut(&response.watch_id).expect("a watch that was created").events(&response, compacted);
        }
    }
    assert!(creates.next().is_none(), "every create is answered");
    let current = world.cores.model.current as i64;
    for (watch_id, watch) in &watches {
        assert!(watch.gone || watch.had(current), "watch {watch_id} had {} of {}", watch.at, watch.history.len());
        assert!(watch.fragment.is_none());
    }
    watches.len()
}

fn write(world: &mut World) {
    let rng = &mut world.rng;
    match rng.below(8) {
        0..=3 => {
            let r = pb::PutRequest { ignore_value: false, ignore_lease: false, lease: 0, ..requests::put(rng) };
            world.call(Method::Put, &r);
        }
        4 => {
            let r = requests::delete(rng);
            world.call(Method::DeleteRange, &r);
        }
        _ => {
            let current = world.cores.model.current;
            let r = requests::txn(rng, current, 1, false);
            world.call(Method::Txn, &r);
        }
    }
}

fn run(shards: u16, seed: u64) {
    let mut world = World::new(shards, seed);
    world.cores.slice_max = [1, 4, 100][world.rng.below(3) as usize];
    world.cores.lags = world.rng.chance(1, 2);
    let reigns = world.rng.chance(1, 3);
    let mut streams: BTreeMap<u64, Asked> = BTreeMap::new();
    for _ in 0..3 {
        streams.insert(world.open(Method::Watch), Asked { falls_behind: reigns, ..Asked::default() });
    }
    for _ in 0..200 {
        let id = *streams.keys().nth(world.rng.below(3) as usize).unwrap();
        match world.rng.below(20) {
            0..=2 => {
                let current = world.cores.model.current;
                let request = random_create(&mut world.rng, current);
                streams.get_mut(&id).unwrap().creates.push(request.clone());
                world.send(id, &create(request));
            }
            3 => {
                let watch = world.rng.below(4) as i64;
                world.send(id, &cancel(watch));
            }
            4 => world.send(id, &progress()),
            5 if world.rng.chance(1, 4) => {
                let revision = 1 + world.rng.below(world.cores.model.current) as i64;
                world.call(Method::Compact, &pb::CompactionRequest { revision, physical: false });
            }
            6 if reigns && world.rng.chance(1, 4) => {
                world.cores.end_reign();
                world.pump();
                world.cores.next_reign();
            }
            7 => world.pass(Duration::from_millis(1)),
            8 if world.rng.chance(1, 8) => world.pass(Duration::from_secs(700)),
            _ => write(&mut world),
        }
        for _ in 0..world.rng.below(10) {
            world.step();
        }
    }
    finish(&mut world);
    let watches: usize = streams.iter().map(|(&id, asked)| check_stream(&world, id, asked)).sum();
    assert!(watches > 0);
    for id in streams.into_keys() {
        world.front.cancel(crate::front::CallId(id));
    }
    let load = world.front.load();
    assert_eq!((load.watchers, load.watch_streams, load.slow_watchers), (0, 0, 0));
    assert_eq!(world.cores.board.previous_values_watches(), 0);
}

fn finish(world: &mut World) {
    world.settle();
    while world.front.next_deadline() <= world.now + Duration::from_millis(2) {
        world.pass(Duration::from_millis(2));
        world.settle();
    }
    assert_eq!(world.cores.reign.stable().0, world.cores.model.current);
}

/// Says which seed failed.
fn seeded(shards: u16, seed: u64) {
    if let Err(why) = std::panic::catch_unwind(|| run(shards, seed)) {
        eprintln!("shards {shards}, seed {seed}");
        std::panic::resume_unwind(why);
    }
}

#[test]
fn watches_of_one_shard_get_their_history() {
    (0..200).for_each(|seed| seeded(1, seed));
}

#[test]
fn watches_of_four_shards_get_their_history() {
    (0..200).for_each(|seed| seeded(4, seed));
}

#[test]
fn watches_of_sixteen_shards_get_their_history() {
    (0..100).for_each(|seed| seeded(16, seed));
}

#[test]
fn a_stalled_client_costs_a_bound_and_gets_everything_later() {
    for shards in [1, 4] {
        let mut world = World::new(shards, 5);
        world.cores.slice_max = WHOLE;
        world.cores.slice_bytes = 200 << 10;
        let stream = world.open(Method::Watch);
        let request = pb::WatchCreateRequest { key: Bytes::from("k"), range_end: Bytes::from("l"), ..Default::default() };
        world.send(stream, &create(request.clone()));
        world.clients.get_mut(&stream).unwrap().stalled = true;
        let value = "v".repeat(40_000);
        for i in 0..200 {
            world.put(&format!("k{}", i % 7), &value);
        }
        let most = WATCH_STREAM_BYTES_MAX + (400 << 10);
        assert!(world.clients[&stream].buffered_max <= most);
        let reads = world.cores.event_reads;
        for _ in 0..20 {
            world.put("k0", &value);
        }
        assert_eq!(world.cores.event_reads, reads, "nothing is read for a client that takes nothing");
        world.clients.get_mut(&stream).unwrap().stalled = false;
        finish(&mut world);
        assert!(world.clients[&stream].buffered_max <= most);
        check_stream(&world, stream, &Asked { creates: vec![request], falls_behind: true });
        let live = world.put("k1", "live");
        let client = &world.clients[&stream];
        let last: pb::WatchResponse = client.message(client.received.len() - 1);
        assert_eq!((last.header.unwrap().revision, last.events.len()), (live, 1), "it is synced again");
    }
}

#[test]
fn watches_of_one_range_share_reads_and_events() {
    let mut world = World::new(4, 9);
    world.cores.slice_max = WHOLE;
    for i in 0..50 {
        world.put(&format!("k{i}"), "old");
    }
    let reads = world.cores.event_reads;
    let streams: Vec<u64> = (0..1000).map(|_| world.open(Method::Watch)).collect();
    let asked =
        pb::WatchCreateRequest { key: Bytes::from("k"), range_end: Bytes::from("l"), start_revision: 2, ..Default::default() };
    for &id in &streams {
        world.send(id, &create(asked.clone()));
    }
    world.settle();
    assert!(
        world.cores.event_reads - reads < 500,
        "a thousand watches read together, not {} times",
        world.cores.event_reads - reads
    );
    world.put("k7", "new");
    for id in streams {
        check_stream(&world, id, &Asked { creates: vec![asked.clone()], falls_behind: false });
    }
}

#[test]
fn large_responses_are_cut_into_fragments_for_those_that_want_it() {
    let mut small = config(4, 2, 3);
    small.request_bytes_max = 4000;
    let mut world = World::with(small, 3);
    let stream = world.open(Method::Watch);
    let asked = |fragment, prev_kv| pb::WatchCreateRequest {
        key: Bytes::from("k"),
        range_end: Bytes::from("l"),
        fragment,
        prev_kv,
        ..Default::default()
    };
    let creates = vec![asked(true, false), asked(false, false), asked(true, true)];
    for request in &creates {
        world.send(stream, &create(request.clone()));
    }
    let value = "v".repeat(3000);
    let puts = 2 + REQUEST_OVERHEAD_BYTES / value.len();
    for i in 0..puts {
        world.put(&format!("k{i:04}"), &value);
    }
    let delete = pb::DeleteRangeRequest { key: Bytes::from("k"), range_end: Bytes::from("l"), prev_kv: false };
    world.done(Method::DeleteRange, &delete);
    finish(&mut world);
    check_stream(&world, stream, &Asked { creates, falls_behind: false });
    let client = &world.clients[&stream];
    let fragments = (0..client.received.len()).filter(|&at| client.message::<pb::WatchResponse>(at).fragment).count();
    assert!(fragments >= 1, "the previous values of all keys are over the limit");
}

#[test]
fn revisions_released_together_are_one_response() {
    let mut world = World::new(4, 1);
    let stream = world.open(Method::Watch);
    let base = world.put("other", "v");
    let asked = |start_revision, filters| pb::WatchCreateRequest {
        key: Bytes::from("k"),
        range_end: Bytes::from("l"),
        start_revision,
        filters,
        ..Default::default()
    };
    let no_put = vec![pb::watch_create_request::FilterType::Noput as i32];
    let creates = [asked(0, vec![]), asked(base + 3, vec![]), asked(base + 9, vec![]), asked(0, no_put)];
    for request in &creates {
        world.send(stream, &create(request.clone()));
    }
    world.settle();
    let created = world.clients[&stream].received.len();
    for key in ["k1", "k2", "k3", "other"] {
        world.call(Method::Put, &pb::PutRequest { key: Bytes::from(key), ..Default::default() });
        while world.cores.step() {}
    }
    world.pump();
    let client = &world.clients[&stream];
    let responses: Vec<pb::WatchResponse> = (created..client.received.len()).map(|at| client.message(at)).collect();
    let said: Vec<_> = responses.iter().map(|r| (r.watch_id, r.events.len(), r.header.unwrap().revision)).collect();
    assert_eq!(said, [(0, 3, base + 3), (1, 1, base + 3)]);
}

#[test]
fn a_hub_that_sent_much_rests_and_then_sends_what_came_meanwhile() {
    let mut world = World::new(1, 1);
    let stream = world.open(Method::Watch);
    let asked = pb::WatchCreateRequest { key: Bytes::from("k"), ..Default::default() };
    for _ in 0..WATCH_REST_RESPONSES_MIN {
        world.send(stream, &create(asked.clone()));
    }
    world.settle();
    let watches = WATCH_REST_RESPONSES_MIN as usize;
    let received = |world: &World| world.clients[&stream].received.len() - watches;
    world.put("k", "1");
    assert_eq!(received(&world), watches, "it had rested");
    assert_eq!(world.front.gathers(), Duration::ZERO, "behind one revision, what arrives has its turn at once");
    world.put("k", "2");
    let last = world.put("k", "3");
    assert_eq!(received(&world), watches, "it rests, and puts are answered");
    let rest = Duration::from_micros(WATCH_REST_RESPONSES_MIN * WATCH_REST_MICROS);
    world.pass(rest);
    assert_eq!(received(&world), 2 * watches);
    let response: pb::WatchResponse = world.clients[&stream].message(3 * watches - 1);
    assert_eq!((response.events.len(), response.header.unwrap().revision), (2, last));
    assert_eq!(world.front.gathers(), 2 * rest / WATCH_GATHER_PART, "behind two it waits for a part of the rest");
    world.put("k", "4");
    world.pass(rest);
    assert_eq!(received(&world), 2 * watches, "behind two revisions it rests for twice as long");
    world.pass(rest);
    assert_eq!((received(&world), world.front.gathers()), (3 * watches, Duration::ZERO));
}

#[test]
fn progress_is_told_when_all_watches_of_a_stream_are_synced() {
    let mut world = World::new(4, 1);
    let stream = world.open(Method::Watch);
    world.send(stream, &progress());
    assert!(world.clients[&stream].received.is_empty(), "a stream without watches is told nothing");
    let key = Bytes::from("k");
    world.send(stream, &create(pb::WatchCreateRequest { key: key.clone(), ..Default::default() }));
    let revision = world.put("other", "v");
    world.send(stream, &progress());
    let last: pb::WatchResponse = world.clients[&stream].message(1);
    assert_eq!((last.watch_id, last.header, last.events.len()), (-1, world.header(revision), 0));
    let future = pb::WatchCreateRequest { key, start_revision: revision + 2, ..Default::default() };
    world.send(stream, &create(future));
    world.send(stream, &progress());
    assert_eq!(world.clients[&stream].received.len(), 3, "a watch that has not begun holds it up");
    world.put("other", "v");
    world.put("other", "v");
    world.send(stream, &progress());
    assert_eq!(world.clients[&stream].received.len(), 4);
}

#[test]
fn quiet_watches_are_notified_at_the_interval() {
    let mut world = World::new(1, 1);
    let stream = world.open(Method::Watch);
    for key in ["a", "b"] {
        let request = pb::WatchCreateRequest { key: Bytes::from(key), progress_notify: key == "a", ..Default::default() };
        world.send(stream, &create(request));
    }
    world.pass(Duration::from_secs(661));
    let revision = world.put("b", "v");
    world.pass(Duration::from_secs(661));
    let told: Vec<pb::WatchResponse> =
        (2..world.clients[&stream].received.len()).map(|at| world.clients[&stream].message(at)).collect();
    let ids: Vec<(i64, i64, usize)> = told.iter().map(|r| (r.watch_id, r.header.unwrap().revision, r.events.len())).collect();
    assert_eq!(ids, [(0, 1, 0), (1, revision, 1), (0, revision, 0)]);
    world.put("a", "v");
    world.pass(Duration::from_secs(661));
    assert_eq!(world.clients[&stream].received.len(), 6, "one that had events is passed over once");
    world.pass(Duration::from_secs(661));
    assert_eq!(world.clients[&stream].received.len(), 7);
}

#[test]
fn a_watch_that_starts_in_what_is_compacted_is_created_then_cancelled() {
    let mut world = World::new(4, 1);
    world.cores.slice_max = WHOLE;
    for _ in 0..5 {
        world.put("k", "v");
    }
    world.done(Method::Compact, &pb::CompactionRequest { revision: 4, physical: false });
    let stream = world.open(Method::Watch);
    let key = Bytes::from("k");
    for start_revision in [3, 4, -1] {
        world.send(stream, &create(pb::WatchCreateRequest { key: key.clone(), start_revision, ..Default::default() }));
        finish(&mut world);
    }
    let got = |world: &World, at| world.clients[&stream].message::<pb::WatchResponse>(at);
    let compacted = got(&world, 1);
    assert_eq!((compacted.canceled, compacted.compact_revision, compacted.header), (true, 4, world.header(0)));
    assert_eq!((got(&world, 2).watch_id, got(&world, 3).events.len()), (1, 3));
    let refused = got(&world, 4);
    assert_eq!((refused.watch_id, refused.created, refused.canceled, refused.compact_revision), (-1, true, true, 0));
    assert_eq!(refused.cancel_reason, "etcdserver: mvcc: required revision has been compacted");
    world.send(stream, &progress());
    assert_eq!(world.clients[&stream].received.len(), 5, "a compacted watch blocks progress");
    world.send(stream, &cancel(0));
    world.send(stream, &cancel(77));
    world.send(stream, &progress());
    assert_eq!((got(&world, 5).canceled, got(&world, 6).watch_id), (true, -1));
    assert_eq!(world.clients[&stream].received.len(), 7, "cancelling what is not there says nothing");
}

/// The mutant "hub told after the slot", seen from the hub: an event that comes when its revision was released.
#[test]
#[should_panic(expected = "an event of a revision that was released")]
fn an_event_after_its_revision_was_released_is_a_broken_invariant() {
    let mut world = World::new(1, 1);
    world.front.advance(world.now, Revision(5));
    let kv = mvccpb::KeyValue { key: Bytes::from("k"), mod_revision: 5, ..Default::default() };
    let event = Event { revision: Revision(5), operation: 0, tombstone: false, kv, prev: Previous::None };
    world.front.core_message(world.now, ToFront::Events { term: Some(Term(2)), group: GroupId(1), events: vec![event] });
}
