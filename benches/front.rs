//! What the front costs without sockets and cores: requests decoded, checked and routed, answers encoded, and events fanned out to
//! watches.
//!
//! `cargo bench --bench front`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;

use etcring::base::{ClusterId, CoreId, FrontId, GroupId, Instant, MemberId, Revision, Term};
use etcring::front::{CallId, CallOptions, Config, Front, FrontEffect, Layout, Method, RoomSize};
use etcring::proto::etcdserverpb as pb;
use etcring::proto::etcdserverpb::watch_request::RequestUnion;
use etcring::proto::mvccpb::KeyValue;
use etcring::reign::{Board, BoardSizes, Reign};
use etcring::shard::messages::{Event, Previous, RangeSlice, Read};
use etcring::shard::{Answer, Leave, Ticket, ToCore, ToFront, WriteResponse};

const TERM: Term = Term(2);
const NOW: Instant = Instant::from_nanos(1);

/// A front of one shard, and the bench in place of transport and core.
struct Bench {
    front: Front,
    effects: Vec<FrontEffect>,
    call: u64,
    revision: Revision,
}

impl Bench {
    fn new() -> Bench {
        let board = Arc::new(Board::new(BoardSizes { groups: 2, cores: 1, fronts: 1 }));
        board.raise_serving(Revision(1));
        let config = Config {
            front: FrontId(0),
            cluster: ClusterId(1),
            member: MemberId(1),
            layout: Layout { shards: 1, cores: vec![CoreId(0); 2] },
            request_bytes_max: 1_572_864,
            txn_ops_max: 128,
            quota_bytes: 0,
            lease_ttl_min: 2,
            election_timeout: Duration::from_secs(1),
            progress_interval: Duration::from_secs(600),
            room: RoomSize::default(),
            seed: 1,
        };
        let mut front = Front::new(config, board);
        front.core_message(NOW, ToFront::Leading(Arc::new(Reign::new(TERM, 2, Revision(1)))));
        Bench { front, effects: Vec::new(), call: 0, revision: Revision(1) }
    }

    fn open(&mut self, method: Method) -> CallId {
        self.call += 1;
        self.front.open(NOW, CallId(self.call), method, CallOptions::default());
        CallId(self.call)
    }

    /// The only request to the core.
    fn asked(&mut self) -> ToCore {
        self.front.take_effects(&mut self.effects);
        match self.effects.drain(..).next() {
            Some(FrontEffect::ToCore(_, request)) => request,
            other => panic!("a request to the core was expected, not {other:?}"),
        }
    }

    fn answer(&mut self, ticket: Ticket, leave: Leave, answer: Answer) {
        self.front.core_message(NOW, ToFront::Answer { ticket, term: TERM, leave, answer });
        self.front.advance(NOW, self.revision);
        self.front.take_effects(&mut self.effects);
        let is_answered = matches!(self.effects.last(), Some(FrontEffect::Reply { .. }));
        assert!(is_answered, "the call has ended");
        black_box(&self.effects);
        self.effects.clear();
    }

    fn put(&mut self, message: &Bytes) {
        let call = self.open(Method::Put);
        self.front.message(NOW, call, message.clone());
        let ToCore::Write { ticket, .. } = self.asked() else { panic!("a put is a write") };
        self.revision = self.revision.next();
        let answer = Answer::Write { revision: self.revision, response: WriteResponse::Put { prev: None } };
        self.answer(ticket, Leave::Stable(self.revision), answer);
    }

    fn range(&mut self, message: &Bytes, kvs: &[KeyValue]) {
        let call = self.open(Method::Range);
        self.front.message(NOW, call, message.clone());
        let ToCore::Read { ticket, read, .. } = self.asked() else { panic!("a range is a read") };
        let answer = match read {
            Read::Get { .. } => Answer::Got(kvs.first().cloned()),
            _ => Answer::Range(RangeSlice { kvs: kvs.to_vec(), count: kvs.len() as u64, resume: None }),
        };
        self.answer(ticket, Leave::Now, answer);
    }

    /// Watches of everything under `prefix/`, so many on each stream.
    fn watch(&mut self, streams: u64, per_stream: u64) {
        for _ in 0..streams {
            let call = self.open(Method::Watch);
            for _ in 0..per_stream {
                let (key, range_end) = (Bytes::from_static(b"prefix/"), Bytes::from_static(b"prefix0"));
                let create = pb::WatchCreateRequest { key, range_end, ..Default::default() };
                let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
                self.front.message(NOW, call, request.encode_to_vec().into());
            }
        }
        self.deliver();
    }

    /// Takes what is sent on calls as if the sockets took it at once; how many messages it was.
    fn deliver(&mut self) -> u64 {
        self.front.take_effects(&mut self.effects);
        let mut count = 0;
        for effect in self.effects.drain(..) {
            let (call, bytes, messages) = match &effect {
                FrontEffect::SendMany { call, messages, count } => (*call, messages.len(), u64::from(*count)),
                FrontEffect::SendShared { call, head, body } => (*call, head.len() + body.len(), 1),
                other => panic!("a message was expected, not {other:?}"),
            };
            black_box(&effect);
            self.front.sent(call, bytes);
            count += messages;
        }
        count
    }

    /// One put under the prefix, seen by every watch.
    fn event(&mut self, kv: &KeyValue) -> u64 {
        self.revision = self.revision.next();
        let kv = KeyValue { mod_revision: self.revision.0 as i64, ..kv.clone() };
        let event = Event { revision: self.revision, operation: 0, tombstone: false, kv, prev: Previous::Unknown };
        self.front.core_message(NOW, ToFront::Events { term: Some(TERM), group: GroupId(1), events: vec![event] });
        self.front.advance(NOW, self.revision);
        self.deliver()
    }
}

fn kv(number: usize, value_bytes: usize) -> KeyValue {
    let (key, value) = (format!("prefix/{number:08}").into(), vec![7; value_bytes].into());
    KeyValue { key, value, create_revision: 2, mod_revision: 2, version: 1, lease: 0 }
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("front");
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements(1));
    let put = pb::PutRequest { key: Bytes::from_static(b"12345678"), value: vec![7; 256].into(), ..Default::default() };
    let put = Bytes::from(put.encode_to_vec());
    let mut bench = Bench::new();
    group.bench_function("put of 256 bytes, message to message", |b| b.iter(|| bench.put(&put)));
    let get = pb::RangeRequest { key: Bytes::from_static(b"prefix/00000001"), ..Default::default() };
    let get = Bytes::from(get.encode_to_vec());
    let one = [kv(1, 256)];
    group.bench_function("get of 256 bytes, message to message", |b| b.iter(|| bench.range(&get, &one)));
    let (key, range_end) = (Bytes::from_static(b"prefix/"), Bytes::from_static(b"prefix0"));
    let list = pb::RangeRequest { key, range_end, ..Default::default() };
    let list = Bytes::from(list.encode_to_vec());
    let many: Vec<KeyValue> = (0..500).map(|number| kv(number, 256)).collect();
    group.throughput(Throughput::Elements(many.len() as u64));
    group.bench_function("list of 500 keys, message to message", |b| b.iter(|| bench.range(&list, &many)));
    group.finish();
}

fn watches(c: &mut Criterion) {
    let mut group = c.benchmark_group("watch");
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    for (streams, per_stream) in [(1, 1), (10, 100), (1000, 1)] {
        let mut bench = Bench::new();
        bench.watch(streams, per_stream);
        let (watches, kv) = (streams * per_stream, kv(1, 256));
        assert_eq!(bench.event(&kv), watches, "every watch gets the event");
        group.throughput(Throughput::Elements(watches));
        group.bench_function(format!("an event to {watches} watches on {streams} streams"), |b| b.iter(|| bench.event(&kv)));
    }
    group.finish();
}

criterion_group!(benches, requests, watches);
criterion_main!(benches);
