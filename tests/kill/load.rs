//! Many clients at once, each with one request after the other, and a record of what they were answered.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use etcring::base::Prng;
use etcring::proto::etcdserverpb as pb;
use tokio::task::{JoinHandle, spawn_local};

use super::history::{Act, Events, Op, Ops, Outcome, Span, alive};
use crate::support::grpc::{
    Client, DELETE_RANGE, Failure, LEASE_GRANT, LEASE_KEEP_ALIVE, LEASE_REVOKE, PUT, RANGE, TXN, bytes,
};
use crate::support::process::PATIENCE;

const CONNECTIONS: usize = 4;
const CLIENTS: usize = 32;
/// All keys of the test: each begins with a small letter.
pub const EVERYTHING: (&str, &str) = ("a", "~");
/// A lease that no test waits for.
const LONG_TTL: i64 = 3600;
/// A lease that expires between two rounds, perhaps.
const SHORT_TTL: i64 = 1;

/// Clients at work on one member.
pub struct Load {
    shared: Rc<Shared>,
    streams: usize,
    tasks: Vec<JoinHandle<()>>,
    watches: Vec<JoinHandle<()>>,
}

struct Shared {
    ops: RefCell<Ops>,
    next: Cell<u64>,
    done: Cell<u64>,
    /// Long leases that are there, as far as the clients know.
    leases: RefCell<Vec<i64>>,
    stopping: Cell<bool>,
    /// Some values fill many pages.
    big_values: bool,
    /// How the streams ended that the member ended.
    ends: RefCell<Vec<Failure>>,
}

impl Load {
    /// Starts the clients; requests are numbered from `next` on, `leases` are there, the member's revision is `known`.
    pub async fn start(port: u16, prng: &mut Prng, next: u64, leases: Vec<i64>, known: i64) -> Load {
        let ops = Ops { shown: known, ..Ops::default() };
        let shared = Rc::new(Shared {
            ops: RefCell::new(ops),
            next: Cell::new(next),
            done: Cell::new(0),
            leases: RefCell::new(leases),
            stopping: Cell::new(false),
            big_values: prng.chance(1, 3),
            ends: RefCell::default(),
        });
        let (mut tasks, mut watches) = (Vec::new(), Vec::new());
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(Client::connect(port).await.expect("a member that serves"));
        }
        let everything = Span { from: EVERYTHING.0.to_owned(), to: Some(EVERYTHING.1.to_owned()) };
        for span in [everything, Span::prefix("o."), Span::prefix("t.")] {
            watches.push(spawn_local(watch(connections[0].clone(), shared.clone(), span, known + 1)));
        }
        for client in 0..CLIENTS {
            let connection = connections[client % CONNECTIONS].clone();
            tasks.push(spawn_local(work(connection, shared.clone(), prng.fork())));
        }
        tasks.push(spawn_local(keep_alive(connections[1].clone(), shared.clone())));
        let streams = watches.len() + 1;
        Load { shared, streams, tasks, watches }
    }

    /// Waits until the member has ended every watch and the stream of keep-alives, and tells how.
    pub async fn stream_ends(&self) -> Vec<Failure> {
        let all = async {
            while self.shared.ends.borrow().len() < self.streams {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, all).await;
        assert!(in_time.is_ok(), "of {} streams there ended {:?}", self.streams, self.shared.ends.borrow());
        self.shared.ends.borrow().clone()
    }

    /// How many requests have been answered.
    pub fn done(&self) -> u64 {
        self.shared.done.get()
    }

    /// No client asks anything more.
    pub fn stop(&self) {
        self.shared.stopping.set(true);
    }

    /// When the member has gone away, or the clients were told to stop: the record, the next number, the leases.
    pub async fn end(self) -> (Ops, u64, Vec<i64>) {
        let gone = !self.shared.stopping.replace(true);
        for task in self.tasks {
            task.await.expect("a client does not panic");
        }
        for watch in self.watches {
            if gone { watch.await.expect("a watch does not panic") } else { watch.abort() }
        }
        let next = self.shared.next.get();
        (self.shared.ops.take(), next, self.shared.leases.take())
    }
}

impl Shared {
    fn begin(&self, act: Act, value_bytes: usize) -> usize {
        let id = self.next.get();
        self.next.set(id + 1);
        let mut ops = self.ops.borrow_mut();
        let known = ops.shown;
        ops.all.push(Op { id, act, value_bytes, known, outcome: Outcome::Doubt });
        ops.all.len() - 1
    }

    fn end(&self, at: usize, outcome: Outcome) {
        let mut ops = self.ops.borrow_mut();
        if let Outcome::Done { revision, .. } = outcome {
            ops.shown = ops.shown.max(revision);
        }
        self.done.set(self.done.get() + u64::from(!matches!(outcome, Outcome::Doubt)));
        ops.all[at].outcome = outcome;
    }
}

async fn work(client: Client, shared: Rc<Shared>, mut prng: Prng) {
    while !shared.stopping.get() {
        let act = choose(&shared, &mut prng);
        let value_bytes = match prng.below(20) {
            0..=15 => prng.below(100),
            16..=18 => prng.below(2_000),
            _ if shared.big_values => prng.below(60_000),
            _ => prng.below(10_000),
        };
        let at = shared.begin(act, value_bytes as usize);
        let op = shared.ops.borrow().all[at].clone();
        let outcome = match ask(&client, &op).await {
            Ok(outcome) => outcome,
            // Where the member stops, whether it was done is unknown; any other status is a refusal.
            Err(Failure::Status { code: 1 | 4 | 14, .. } | Failure::Lost(_)) => return,
            Err(Failure::Status { code: 5, message }) if message.contains("requested lease not found") => Outcome::Refused,
            Err(failure) => panic!("{failure} for {op:?}"),
        };
        if let (&Act::Grant { lease, short: false }, Outcome::Done { .. }) = (&op.act, &outcome) {
            shared.leases.borrow_mut().push(lease);
        }
        shared.end(at, outcome);
    }
}

fn choose(shared: &Shared, prng: &mut Prng) -> Act {
    let overwritten = |prng: &mut Prng| format!("o.{:02}", prng.below(40));
    match prng.below(100) {
        0..=24 => Act::Put { key: format!("u.{:08x}", shared.next.get()), lease: 0 },
        25..=44 => Act::Put { key: overwritten(prng), lease: 0 },
        45..=51 => Act::Put { key: format!("r.{}.{:02}", prng.below(4), prng.below(50)), lease: 0 },
        52..=69 => {
            let count = 2 + prng.below(6);
            let first = prng.below(30);
            let keys = (0..count).map(|n| format!("t.{:02}", (first + n * 7) % 60)).collect();
            let delete = match prng.below(6) {
                0 => Some(Span::key(&overwritten(prng))),
                1 => Some(Span::prefix(&format!("r.{}.", prng.below(4)))),
                _ => None,
            };
            Act::Txn { keys, delete }
        }
        70..=75 => Act::Delete(Span::key(&overwritten(prng))),
        76..=78 => Act::Delete(Span::prefix(&format!("r.{}.", prng.below(4)))),
        79..=88 => {
            let leases = shared.leases.borrow();
            let lease = if leases.is_empty() { 0 } else { leases[prng.below(leases.len() as u64) as usize] };
            Act::Put { key: format!("l.{:02}", prng.below(60)), lease }
        }
        89..=90 => Act::Grant { lease: 1 + shared.next.get() as i64, short: prng.chance(1, 4) },
        91 => {
            let mut leases = shared.leases.borrow_mut();
            match leases.len() as u64 {
                0 => Act::Grant { lease: 1 + shared.next.get() as i64, short: false },
                count => Act::Revoke { lease: leases.swap_remove(prng.below(count) as usize) },
            }
        }
        92..=95 => Act::Read(Span::prefix("t.")),
        96..=97 => Act::Read(Span::prefix(&format!("r.{}.", prng.below(4)))),
        _ => Act::Read(Span::prefix("o.")),
    }
}

fn range_end(span: &Span) -> Bytes {
    span.to.as_deref().map(bytes).unwrap_or_default()
}

fn delete_request(span: &Span) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: bytes(&span.from), range_end: range_end(span), prev_kv: false }
}

async fn ask(client: &Client, op: &Op) -> Result<Outcome, Failure> {
    let value = || Bytes::from(op.value());
    let done = |header: Option<pb::ResponseHeader>| Outcome::Done {
        revision: header.expect("a header").revision,
        deleted: 0,
        kvs: Vec::new(),
    };
    Ok(match &op.act {
        Act::Put { key, lease } => {
            let request = pb::PutRequest { key: bytes(key), value: value(), lease: *lease, ..Default::default() };
            done(client.unary::<pb::PutResponse>(PUT, &request).await?.header)
        }
        Act::Txn { keys, delete } => {
            use pb::request_op::Request;
            let put =
                |key: &String| Request::RequestPut(pb::PutRequest { key: bytes(key), value: value(), ..Default::default() });
            let delete = delete.iter().map(|span| Request::RequestDeleteRange(delete_request(span)));
            let success = keys.iter().map(put).chain(delete).map(|request| pb::RequestOp { request: Some(request) }).collect();
            let request = pb::TxnRequest { success, ..Default::default() };
            let answer = client.unary::<pb::TxnResponse>(TXN, &request).await?;
            assert!(answer.succeeded, "a transaction without conditions");
            done(answer.header)
        }
        Act::Delete(span) => {
            let answer = client.unary::<pb::DeleteRangeResponse>(DELETE_RANGE, &delete_request(span)).await?;
            let revision = answer.header.expect("a header").revision;
            Outcome::Done { revision, deleted: answer.deleted, kvs: Vec::new() }
        }
        Act::Grant { lease, short } => {
            let ttl = if *short { SHORT_TTL } else { LONG_TTL };
            let request = pb::LeaseGrantRequest { ttl, id: *lease };
            done(client.unary::<pb::LeaseGrantResponse>(LEASE_GRANT, &request).await?.header)
        }
        Act::Revoke { lease } => {
            let request = pb::LeaseRevokeRequest { id: *lease };
            done(client.unary::<pb::LeaseRevokeResponse>(LEASE_REVOKE, &request).await?.header)
        }
        Act::Read(span) => {
            let request = pb::RangeRequest { key: bytes(&span.from), range_end: range_end(span), ..Default::default() };
            let answer = client.unary::<pb::RangeResponse>(RANGE, &request).await?;
            assert_eq!(answer.count, answer.kvs.len() as i64);
            let kvs = answer.kvs.iter().map(alive).collect();
            Outcome::Done { revision: answer.header.expect("a header").revision, deleted: 0, kvs }
        }
    })
}

/// Follows a span for as long as the member lives.
async fn watch(client: Client, shared: Rc<Shared>, span: Span, from: i64) {
    let to = span.to.clone().expect("a range");
    let Ok(mut stream) = client.watch(&span.from, &to, from).await else { return };
    let place = shared.ops.borrow().watched.len();
    shared.ops.borrow_mut().watched.push((from, span, Events::new()));
    loop {
        let answer = match stream.next::<pb::WatchResponse>().await {
            Ok(answer) => answer.expect("a watch does not end well by itself"),
            Err(failure) => return shared.ends.borrow_mut().push(failure),
        };
        assert!(!answer.canceled, "a watch was cancelled: {}", answer.cancel_reason);
        let revision = answer.header.expect("a header").revision;
        let mut ops = shared.ops.borrow_mut();
        ops.shown = ops.shown.max(revision);
        ops.watched[place].2.extend(answer.events);
    }
}

/// Keeps the oldest lease alive, again and again.
async fn keep_alive(client: Client, shared: Rc<Shared>) {
    let Ok(mut stream) = client.open(LEASE_KEEP_ALIVE).await else { return };
    while !shared.stopping.get() {
        let id = shared.leases.borrow().first().copied().unwrap_or(1);
        // What became of the stream is what is read from it.
        stream.send(&pb::LeaseKeepAliveRequest { id }, false).ok();
        let answer = match stream.next::<pb::LeaseKeepAliveResponse>().await {
            Ok(answer) => answer.expect("keep-alives do not end well by themselves"),
            Err(failure) => return shared.ends.borrow_mut().push(failure),
        };
        let revision = answer.header.expect("a header").revision;
        let mut ops = shared.ops.borrow_mut();
        ops.shown = ops.shown.max(revision);
    }
}
