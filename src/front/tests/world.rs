//! A front, its fake cores and its clients, driven by a seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::base::{ClusterId, FrontId, Instant, MemberId, Prng};
use crate::front::call::{CallId, CallOptions, Method, Status};
use crate::front::{Config, Front, FrontEffect, RoomSize, frames};
use crate::proto::etcdserverpb as pb;
use crate::reign::{Board, BoardSizes};
use crate::shard::messages::{ToCore, ToFront};

use super::cores::{Cores, layout};

pub const CLUSTER: u64 = 0xc1;
pub const MEMBER: u64 = 0x8e;

/// What a client knows of its call.
#[derive(Default)]
pub struct Client {
    /// Whole messages, prefix included.
    pub received: Vec<Vec<u8>>,
    pub status: Option<Status>,
    /// The tickets of the writes that it made.
    pub tickets: Vec<u64>,
    /// What came to the client's socket buffer and was not told to have left.
    pub buffered: usize,
    /// The most of it.
    pub buffered_max: usize,
    /// The client takes nothing.
    pub stalled: bool,
    /// The highest revision that any client had seen when the call began.
    pub seen_before: i64,
}

impl Client {
    /// The message `at`, decoded.
    pub fn message<M: Message + Default>(&self, at: usize) -> M {
        let bytes = &self.received[at];
        assert_eq!(bytes[0], 0);
        assert_eq!(u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize, bytes.len() - 5, "the prefix says the length");
        M::decode(&bytes[5..]).expect("a response decodes")
    }

    /// The only message, of a call that ended well.
    pub fn only<M: Message + Default>(&self) -> M {
        assert_eq!((self.status.as_ref(), self.received.len()), (Some(&Status::OK), 1));
        self.message(0)
    }
}

pub struct World {
    pub front: Front,
    pub cores: Cores,
    pub clients: BTreeMap<u64, Client>,
    pub rng: Prng,
    pub now: Instant,
    pub seen: i64,
    next: u64,
}

pub fn config(shards: u16, cores: u16, seed: u64) -> Config {
    Config {
        front: FrontId(0),
        cluster: ClusterId(CLUSTER),
        member: MemberId(MEMBER),
        layout: layout(shards, cores),
        request_bytes_max: 1_572_864,
        txn_ops_max: 128,
        quota_bytes: 0,
        lease_ttl_min: 2,
        election_timeout: Duration::from_secs(1),
        progress_interval: Duration::from_secs(600),
        room: RoomSize { gathered_max: 1 << 10, unsent_max: 1 << 20 },
        seed,
    }
}

impl World {
    pub fn new(shards: u16, seed: u64) -> World {
        World::with(config(shards, 1 + shards.min(4) / 2, seed), seed)
    }

    pub fn with(config: Config, seed: u64) -> World {
        let mut world = World::leaderless(config, seed);
        let reign = world.cores.reign.clone();
        world.front.core_message(world.now, ToFront::Leading(reign));
        world
    }

    pub fn leaderless(config: Config, seed: u64) -> World {
        let shards = config.layout.shards;
        let cores = 1 + config.layout.cores.iter().map(|c| c.0).max().unwrap();
        let sizes = BoardSizes { groups: usize::from(shards) + 1, cores: usize::from(cores), fronts: 1 };
        let board = Arc::new(Board::new(sizes));
        board.raise_serving(crate::base::Revision(1));
        World {
            front: Front::new(config, board.clone()),
            cores: Cores::new(shards, cores, board, seed ^ 0x5eed),
            clients: BTreeMap::new(),
            rng: Prng::new(seed),
            now: Instant::from_nanos(1),
            seen: 1,
            next: 1,
        }
    }

    pub fn open(&mut self, method: Method) -> u64 {
        self.open_with(method, CallOptions::default())
    }

    pub fn open_with(&mut self, method: Method, options: CallOptions) -> u64 {
        let id = self.next;
        self.next += 1;
        self.clients.insert(id, Client { seen_before: self.seen, ..Client::default() });
        self.front.open(self.now, CallId(id), method, options);
        self.effects(Some(id));
        id
    }

    pub fn send(&mut self, id: u64, message: &impl Message) {
        self.send_raw(id, Bytes::from(message.encode_to_vec()));
    }

    pub fn send_raw(&mut self, id: u64, message: Bytes) {
        self.front.message(self.now, CallId(id), message);
        self.effects(Some(id));
    }

    /// A unary call, under way.
    pub fn call(&mut self, method: Method, message: &impl Message) -> u64 {
        let id = self.open(method);
        self.send(id, message);
        id
    }

    /// A unary call, done.
    pub fn done(&mut self, method: Method, message: &impl Message) -> &Client {
        let id = self.call(method, message);
        self.settle();
        &self.clients[&id]
    }

    /// Runs the cores, the pump and the clients until nothing moves.
    pub fn settle(&mut self) {
        loop {
            let mut moved = self.cores.step();
            if self.rng.chance(1, 3) || !moved {
                moved |= self.pump();
            }
            moved |= self.take();
            if !moved {
                return;
            }
        }
    }

    /// One random step.
    pub fn step(&mut self) {
        match self.rng.below(4) {
            0 => drop(self.pump()),
            1 => drop(self.take()),
            _ => drop(self.cores.step()),
        }
    }

    /// The pump's turn: V, then all queues, then what is released; true if there was anything.
    pub fn pump(&mut self) -> bool {
        self.now = self.now + Duration::from_micros(1);
        let stable = self.stable();
        let mut moved = false;
        for at in 0..self.cores.outbox.len() {
            while let Some(message) = self.cores.outbox[at].pop_front() {
                self.front.core_message(self.now, message);
                moved = true;
            }
        }
        self.front.advance(self.now, stable);
        if self.front.next_deadline() <= self.now {
            self.front.tick(self.now);
        }
        moved | self.effects(None)
    }

    fn stable(&mut self) -> crate::base::Revision {
        if self.cores.reign.is_closed() { self.cores.board.serving() } else { self.cores.reign.stable() }
    }

    /// Lets time pass and does what is due on the way.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.front.next_deadline() <= end {
            self.now = self.now.max(self.front.next_deadline());
            self.front.tick(self.now);
            self.effects(None);
        }
        self.now = end;
    }

    /// Clients take what has come; true if there was anything.
    pub fn take(&mut self) -> bool {
        let takers: Vec<u64> = self.clients.iter().filter(|(_, c)| c.buffered > 0 && !c.stalled).map(|(&id, _)| id).collect();
        for &id in &takers {
            let client = self.clients.get_mut(&id).unwrap();
            let bytes = 1 + self.rng.below(client.buffered as u64) as usize;
            client.buffered -= bytes;
            self.front.sent(CallId(id), bytes);
        }
        self.effects(None);
        !takers.is_empty()
    }

    /// Carries effects out. `by`: the call whose message caused them.
    pub fn effects(&mut self, by: Option<u64>) -> bool {
        let mut effects = Vec::new();
        self.front.take_effects(&mut effects);
        let any = !effects.is_empty();
        for effect in effects {
            match effect {
                FrontEffect::Send { call, message } => self.received(call, message.to_vec()),
                FrontEffect::SendMany { call, messages, count } => {
                    assert_eq!(frames(messages.clone()).count(), count as usize, "as many messages as it says");
                    frames(messages).for_each(|message| self.received(call, message.to_vec()));
                }
                FrontEffect::SendShared { call, head, body } => self.received(call, [head.as_ref(), body.as_ref()].concat()),
                FrontEffect::Finish { call, status } => self.finished(call, status),
                FrontEffect::ReplyParts { call, parts } => {
                    self.received(call, parts.concat());
                    self.finished(call, Status::OK);
                }
                FrontEffect::Reply { call, message } => {
                    self.received(call, message.to_vec());
                    self.finished(call, Status::OK);
                }
                FrontEffect::ToCore(core, message) => {
                    if let (Some(by), ToCore::Write { ticket, .. } | ToCore::Order { ticket, .. }) = (by, &message) {
                        self.clients.get_mut(&by).unwrap().tickets.push(ticket.number);
                    }
                    self.cores.inbox[usize::from(core.0)].push_back(message);
                }
            }
        }
        any
    }

    fn finished(&mut self, call: CallId, status: Status) {
        let client = self.clients.get_mut(&call.0).expect("a call that was opened");
        assert!(client.status.is_none(), "a call ends once");
        client.status = Some(status);
    }

    fn received(&mut self, call: CallId, message: Vec<u8>) {
        let client = self.clients.get_mut(&call.0).expect("a call that was opened");
        assert!(client.status.is_none(), "nothing is sent on a call that ended");
        client.buffered += message.len();
        client.buffered_max = client.buffered_max.max(client.buffered);
        client.received.push(message);
    }

    pub fn header(&self, revision: i64) -> Option<pb::ResponseHeader> {
        let raft_term = self.cores.reign.term().0;
        Some(pb::ResponseHeader { cluster_id: CLUSTER, member_id: MEMBER, revision, raft_term })
    }

    pub fn put(&mut self, key: &str, value: &str) -> i64 {
        let request = pb::PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            ..Default::default()
        };
        self.done(Method::Put, &request).only::<pb::PutResponse>().header.unwrap().revision
    }
}
