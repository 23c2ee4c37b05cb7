//! What is asked, request by request.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;

use super::channel::{CallError, Channel, Route};
use super::keys::{Keys, all_of};
use super::options::{Common, Workload};
use crate::base::Prng;
use crate::front::frame;
use crate::proto::etcdserverpb as pb;

/// The time to live of granted leases, in seconds.
const LEASE_SECONDS: i64 = 600;

/// The kinds of requests, as indices into [`KINDS`].
pub const PUT: usize = 0;
/// A range.
pub const RANGE: usize = 1;
/// A transaction.
pub const TXN: usize = 2;
/// A grant.
pub const GRANT: usize = 3;
/// An event, from when its put was due.
pub const EVENT: usize = 4;
/// A keep-alive.
pub const KEEP_ALIVE: usize = 5;
/// A compaction at the newest revision.
pub const COMPACT: usize = 6;
/// A defragmentation.
pub const DEFRAGMENT: usize = 7;
/// What the kinds are called.
pub const KINDS: [&str; 8] = ["put", "range", "txn", "lease grant", "event", "keep-alive", "compact", "defragment"];

/// The RPCs of one connection.
#[derive(Clone)]
pub struct Routes {
    channel: Channel,
    put: Route,
    range: Route,
    txn: Route,
    grant: Route,
    compact: Route,
    defragment: Route,
}

impl Routes {
    /// Those of `channel`.
    pub fn new(channel: Channel) -> Routes {
        Routes {
            put: channel.route("/etcdserverpb.KV/Put"),
            range: channel.route("/etcdserverpb.KV/Range"),
            txn: channel.route("/etcdserverpb.KV/Txn"),
            grant: channel.route("/etcdserverpb.Lease/LeaseGrant"),
            compact: channel.route("/etcdserverpb.KV/Compact"),
            defragment: channel.route("/etcdserverpb.Maintenance/Defragment"),
            channel,
        }
    }

    /// The connection.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Sends a request and waits for its answer; how many keys were in it or counted, if it was a range.
    ///
    /// # Errors
    /// The server's or the connection's.
    pub async fn ask(&self, (kind, message): (usize, Bytes)) -> Result<u64, CallError> {
        let channel = &self.channel;
        match kind {
            PUT => channel.unary::<pb::PutResponse>(&self.put, message).await.map(|_| 0),
            RANGE => {
                let answer = channel.unary::<pb::RangeResponse>(&self.range, message).await?;
                Ok(if answer.kvs.is_empty() { answer.count as u64 } else { answer.kvs.len() as u64 })
            }
            TXN => channel.unary::<pb::TxnResponse>(&self.txn, message).await.map(|_| 0),
            COMPACT => self.compact().await.map(|()| 0),
            DEFRAGMENT => channel.unary::<pb::DefragmentResponse>(&self.defragment, message).await.map(|_| 0),
            _ => channel.unary::<pb::LeaseGrantResponse>(&self.grant, message).await.map(|_| 0),
        }
    }

    /// Asks for the newest revision and compacts at it.
    async fn compact(&self) -> Result<(), CallError> {
        let nothing = pb::RangeRequest { key: Bytes::from_static(b"\0"), ..Default::default() };
        let answer = self.channel.unary::<pb::RangeResponse>(&self.range, frame(&nothing)).await?;
        let revision = answer.header.map_or(0, |header| header.revision);
        let compaction = frame(&pb::CompactionRequest { revision, physical: true });
        self.channel.unary::<pb::CompactionResponse>(&self.compact, compaction).await.map(drop)
    }
}

/// The requests of one client.
pub struct Requests {
    keys: Keys,
    values: Values,
    make: Make,
    prng: Prng,
}

enum Make {
    Put,
    Range {
        serializable: bool,
        limit: i64,
    },
    /// The same range again and again.
    Same(Bytes),
    Compact,
    Defragment,
    Txn {
        operations: usize,
    },
    Grant,
    Mixed {
        reads: u8,
        serializable: bool,
    },
}

impl Requests {
    /// Those of client `client`.
    pub fn new(workload: &Workload, client: usize, sequence: &Rc<Cell<u64>>) -> Requests {
        let common = workload.common();
        let keys = keys(common, client, sequence);
        let make = match workload {
            Workload::Put(_) | Workload::Watch { .. } => Make::Put,
            Workload::Range { serializable, all: true, count_only, .. } => Make::Same(all(common, *serializable, *count_only)),
            Workload::Range { serializable, limit, .. } => Make::Range { serializable: *serializable, limit: *limit },
            Workload::Compact(_) => Make::Compact,
            Workload::Defragment(_) => Make::Defragment,
            Workload::Txn { operations, .. } => Make::Txn { operations: *operations },
            Workload::Lease { .. } | Workload::Idle(_) => Make::Grant,
            Workload::Mixed { reads, serializable, .. } => Make::Mixed { reads: *reads, serializable: *serializable },
        };
        let prng = Prng::new(0x6d69_7865 ^ client as u64);
        Requests { keys, values: Values::new(common.value_size, client), make, prng }
    }

    /// The next request.
    pub fn next(&mut self) -> (usize, Bytes) {
        match self.make {
            Make::Same(ref range) => (RANGE, range.clone()),
            Make::Compact => (COMPACT, Bytes::new()),
            Make::Defragment => (DEFRAGMENT, frame(&pb::DefragmentRequest {})),
            Make::Put => (PUT, frame(&self.put())),
            Make::Range { serializable, limit } => (RANGE, self.range(serializable, limit)),
            Make::Mixed { reads, serializable } if self.prng.below(100) < u64::from(reads) => {
                (RANGE, self.range(serializable, 1))
            }
            Make::Mixed { .. } => (PUT, frame(&self.put())),
            Make::Txn { operations } => (TXN, self.txn(operations)),
            Make::Grant => (GRANT, frame(&pb::LeaseGrantRequest { ttl: LEASE_SECONDS, id: 0 })),
        }
    }

    fn put(&mut self) -> pb::PutRequest {
        pb::PutRequest { key: self.keys.next(), value: self.values.next(), ..Default::default() }
    }

    fn range(&mut self, serializable: bool, limit: i64) -> Bytes {
        let range_end = if limit > 1 { Bytes::from_static(b"\0") } else { Bytes::new() };
        frame(&pb::RangeRequest { key: self.keys.next(), range_end, limit, serializable, ..Default::default() })
    }

    fn txn(&mut self, operations: usize) -> Bytes {
        use pb::request_op::Request;
        let mut puts: Vec<pb::PutRequest> = (0..operations).map(|_| self.put()).collect();
        // A transaction must not put a key twice.
        puts.sort_by(|a, b| a.key.cmp(&b.key));
        puts.dedup_by(|a, b| a.key == b.key);
        let success = puts.into_iter().map(|put| pb::RequestOp { request: Some(Request::RequestPut(put)) }).collect();
        frame(&pb::TxnRequest { success, ..Default::default() })
    }
}

/// The range of all keys that begin with the prefix.
fn all(common: &Common, serializable: bool, count_only: bool) -> Bytes {
    let (key, range_end) = all_of(&common.prefix);
    frame(&pb::RangeRequest { key, range_end, serializable, count_only, ..Default::default() })
}

/// The keys of one client.
pub fn keys(common: &Common, client: usize, sequence: &Rc<Cell<u64>>) -> Keys {
    Keys::new(&common.prefix, common.key_size, common.key_space, common.keys, (client as u64, sequence.clone()))
}

/// Values that differ from put to put and do not compress.
pub struct Values {
    pool: Bytes,
    size: usize,
    at: usize,
}

/// Values are slices of a pool that is so much longer than one.
const POOL_EXTRA_BYTES: usize = 4096;

impl Values {
    /// Values of `size` bytes.
    pub fn new(size: usize, client: usize) -> Values {
        let mut prng = Prng::new(client as u64);
        let pool = (0..size + POOL_EXTRA_BYTES).map(|_| prng.u64() as u8).collect::<Vec<u8>>();
        Values { pool: pool.into(), size, at: 0 }
    }

    /// The next value.
    pub fn next(&mut self) -> Bytes {
        self.at = (self.at + 1) % POOL_EXTRA_BYTES;
        self.pool.slice(self.at..self.at + self.size)
    }
}
