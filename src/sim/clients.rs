//! The clients: random requests, encoded as they come over the wire, and what becomes of their calls.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use crate::base::{Instant, Prng};
use crate::front::{CallId, Code, Method, Status};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::watch_request::RequestUnion;

use super::executor::{Incoming, Outgoing};
use super::history::{Asked, History};
use super::leases::{Lease, LeaseAsked, LeaseCall, lease_answered, leases_listed};
use super::member::Member;
use super::model::{Answered, Write};
use super::watch::Watched;

/// Keys of each of the two folders.
const KEYS: u64 = 12;
/// The most streams of watches, the auditing one apart.
const STREAMS_MAX: usize = 5;

/// Puts of a rush, and the bytes of their values: together more than a core's log has room for.
const RUSH: usize = 120;
const RUSH_VALUE_BYTES: usize = 3_000;

/// What was asked.
pub(super) enum Kind {
    Write(Asked),
    Range(pb::RangeRequest),
    Lease(i64, LeaseCall),
    Leases,
    Compact(i64),
    Hash(i64),
    Defragment,
}

struct Call {
    front: u16,
    kind: Kind,
    asked_at: Instant,
    low: i64,
    /// What had been compacted when it was asked.
    compacted: i64,
    message: Option<Bytes>,
}

#[derive(Default)]
struct Stream {
    front: u16,
    watches: BTreeMap<i64, Watched>,
    unsent: usize,
    /// The client takes nothing for a while.
    stalled: bool,
}

/// All clients of the member.
#[derive(Default)]
pub struct Clients {
    calls: BTreeMap<CallId, Call>,
    streams: BTreeMap<CallId, Stream>,
    next_call: u64,
    next_value: u64,
    pub(super) next_lease: i64,
    audit: Option<CallId>,
    /// In which run of the member.
    run: usize,
    pub(super) now: Instant,
    /// Requests that were asked.
    pub asked: u64,
    /// Requests that were answered with what they asked for.
    pub answered: u64,
    /// Events that watches were shown.
    pub events: u64,
}

impl Clients {
    /// Calls that wait for an answer.
    pub fn waiting(&self) -> usize {
        self.calls.len()
    }

    /// What the calls that wait are; for people.
    pub fn describe(&self) -> Vec<String> {
        self.calls.iter().map(|(id, call)| format!("{id:?} at front {}: {}", call.front, kind_name(&call.kind))).collect()
    }

    /// Whether the auditing watch of this run was asked for.
    pub fn has_audit(&self) -> bool {
        self.audit.is_some()
    }

    /// Whether the auditing watch of this run is there.
    pub fn is_audited(&self) -> bool {
        self.audit.is_some_and(|call| self.streams[&call].watches[&1].created)
    }

    pub(super) fn open(&mut self, member: &mut Member, front: u16, method: Method, message: &impl Message) -> CallId {
        self.next_call += 1;
        let call = CallId(self.next_call);
        member.call(front, Incoming::Open(call, method));
        member.call(front, Incoming::Message(call, message.encode_to_vec().into()));
        if method != Method::Watch {
            member.call(front, Incoming::HalfClose(call));
        }
        call
    }

    /// Opens the auditing watch of a run.
    pub fn audit(&mut self, member: &mut Member, history: &History, rng: &mut Prng) {
        let front = rng.below(u64::from(member.shape.fronts)) as u16;
        let create = pb::WatchCreateRequest {
            key: Bytes::from_static(&[0]),
            range_end: Bytes::from_static(&[0]),
            start_revision: (history.compacting + 1).max(2),
            prev_kv: rng.chance(1, 3),
            watch_id: 1,
            ..pb::WatchCreateRequest::default()
        };
        let watched = Watched::new(&create, history.shown, true);
        let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let call = self.open(member, front, Method::Watch, &request);
        self.streams.insert(call, Stream { front, watches: BTreeMap::from([(1, watched)]), ..Stream::default() });
        self.audit = Some(call);
    }

    /// Asks for all keys.
    pub fn read_all(&mut self, member: &mut Member, history: &History, front: u16, revision: i64) {
        let all = Bytes::from_static(&[0]);
        let request = pb::RangeRequest { key: all.clone(), range_end: all, revision, ..pb::RangeRequest::default() };
        self.range(member, history, front, request);
    }

    fn range(&mut self, member: &mut Member, history: &History, front: u16, request: pb::RangeRequest) {
        let call = self.open(member, front, Method::Range, &request);
        self.keep(call, front, Kind::Range(request), history);
    }

    pub(super) fn keep(&mut self, call: CallId, front: u16, kind: Kind, history: &History) {
        self.asked += 1;
        let (low, compacted, asked_at) = (history.shown, history.compacted, self.now);
        self.calls.insert(call, Call { front, kind, asked_at, low, compacted, message: None });
    }

    /// Some client does something.
    pub fn act(&mut self, member: &mut Member, history: &mut History, now: Instant, rng: &mut Prng) {
        self.now = now;
        let front = rng.below(u64::from(member.shape.fronts)) as u16;
        match rng.below(110) {
            0..40 => {
                let put = self.put(history, rng, None);
                self.write(member, history, front, Method::Put, &put.clone(), Write::Put(put));
            }
            40..48 => {
                let (key, range_end) = if rng.chance(1, 2) { range(rng) } else { (key(rng), Bytes::new()) };
                let delete = pb::DeleteRangeRequest { key, range_end, prev_kv: rng.chance(1, 2) };
                self.write(member, history, front, Method::DeleteRange, &delete.clone(), Write::Delete(delete));
            }
            48..64 => {
                let txn = self.txn(history, rng);
                self.write(member, history, front, Method::Txn, &txn.clone(), Write::Txn(txn));
            }
            64..78 => {
                let request = random_range(history, rng);
                self.range(member, history, front, request);
            }
            78..83 => self.grant(member, history, front, rng),
            83..86 => self.revoke(member, history, front, rng),
            86..88 => self.compact(member, history, front, rng),
            88..97 => self.watch(member, history, front, rng),
            97..100 => self.cancel(member, history, rng),
            100..103 => self.keep_alive(member, history, front, rng),
            103..105 => self.time_to_live(member, history, front, rng),
            105 => self.list_leases(member, history, front),
            106..109 => {
                let revision = rng.below(history.top() as u64 + 1) as i64;
                self.hash(member, history, front, revision);
            }
            _ => {
                let call = self.open(member, front, Method::Defragment, &pb::DefragmentRequest {});
                self.keep(call, front, Kind::Defragment, history);
            }
        }
    }

    /// Everybody puts something large at the same moment.
    pub fn rush(&mut self, member: &mut Member, history: &mut History, rng: &mut Prng) {
        for _ in 0..RUSH {
            let mut put = self.put(history, rng, None);
            let mut value = put.value.to_vec();
            value.resize(RUSH_VALUE_BYTES, b'.');
            put.value = value.into();
            let front = rng.below(u64::from(member.shape.fronts)) as u16;
            self.write(member, history, front, Method::Put, &put.clone(), Write::Put(put));
        }
    }

    /// Asks for a hash at a revision; 0: at the current one.
    pub fn hash(&mut self, member: &mut Member, history: &History, front: u16, revision: i64) {
        let call = self.open(member, front, Method::HashKV, &pb::HashKvRequest { revision });
        self.keep(call, front, Kind::Hash(revision), history);
    }

    fn write(
        &mut self,
        member: &mut Member,
        history: &History,
        front: u16,
        method: Method,
        message: &impl Message,
        write: Write,
    ) {
        let call = self.open(member, front, method, message);
        let asked = Asked { write, low: history.shown, run: self.run };
        self.keep(call, front, Kind::Write(asked), history);
    }

    fn put(&mut self, history: &History, rng: &mut Prng, key_of: Option<Bytes>) -> pb::PutRequest {
        self.next_value += 1;
        let mut value = format!("{:06}", self.next_value).into_bytes();
        let pad = if rng.chance(1, 8) { 1400 } else { 120 };
        value.resize(6 + rng.below(pad) as usize, b'.');
        // Sometimes one that is gone.
        let gone = rng.chance(1, 10);
        let usable = |l: &Lease| l.granted.is_some() && l.gone.is_some() == gone;
        let leases: Vec<i64> = history.leases.iter().filter(|(_, l)| usable(l)).map(|(&id, _)| id).collect();
        let lease = match leases.len() {
            0 => 0,
            _ if rng.chance(2, 3) => 0,
            n => leases[rng.below(n as u64) as usize],
        };
        let key = key_of.unwrap_or_else(|| key(rng));
        pb::PutRequest { key, value: value.into(), lease, prev_kv: rng.chance(1, 4), ..pb::PutRequest::default() }
    }

    fn txn(&mut self, history: &History, rng: &mut Prng) -> pb::TxnRequest {
        let compare = (0..rng.below(3)).map(|_| compare(history, rng)).collect();
        let folder = rng.below(2);
        let mut keys: Vec<u64> = (0..KEYS).collect();
        let branch = |me: &mut Clients, rng: &mut Prng, keys: &mut Vec<u64>| {
            let mut ops = Vec::new();
            for _ in 0..1 + rng.below(4) {
                let request = match rng.below(8) {
                    0 => {
                        let (key, range_end) = range(rng);
                        Request::RequestRange(pb::RangeRequest { key, range_end, ..pb::RangeRequest::default() })
                    }
                    1 => {
                        let (key, range_end) = within(1 - folder, rng);
                        Request::RequestDeleteRange(pb::DeleteRangeRequest { key, range_end, prev_kv: rng.chance(1, 2) })
                    }
                    _ => {
                        let key = key_of(folder, keys.swap_remove(rng.below(keys.len() as u64) as usize));
                        Request::RequestPut(me.put(history, rng, Some(key)))
                    }
                };
                ops.push(pb::RequestOp { request: Some(request) });
            }
            ops
        };
        let mut success = branch(self, rng, &mut keys);
        let failure = if rng.chance(1, 2) { branch(self, rng, &mut keys) } else { Vec::new() };
        if rng.chance(1, 10) {
            let nested = pb::TxnRequest {
                compare: vec![compare_one(history, rng)],
                success: branch(self, rng, &mut keys),
                failure: Vec::new(),
            };
            success.push(pb::RequestOp { request: Some(Request::RequestTxn(nested)) });
        }
        pb::TxnRequest { compare, success, failure }
    }

    fn compact(&mut self, member: &mut Member, history: &mut History, front: u16, rng: &mut Prng) {
        let top = history.top();
        if top - history.compacting < 20 {
            return;
        }
        let revision = top - rng.below(15) as i64;
        let request = pb::CompactionRequest { revision, physical: rng.chance(1, 4) };
        let call = self.open(member, front, Method::Compact, &request);
        history.compacting = history.compacting.max(revision);
        self.keep(call, front, Kind::Compact(revision), history);
    }

    fn watch(&mut self, member: &mut Member, history: &History, front: u16, rng: &mut Prng) {
        let mine: Vec<CallId> = self.streams.keys().copied().filter(|&c| Some(c) != self.audit).collect();
        let chosen = (!mine.is_empty()).then(|| mine[rng.below(mine.len() as u64) as usize]);
        match (chosen, rng.below(10)) {
            (Some(call), 0) => {
                let stream = self.streams.remove(&call).expect("it is one of them");
                member.call(stream.front, Incoming::Cancel(call));
            }
            (Some(call), 1) => {
                let stream = self.streams.get_mut(&call).expect("it is one of them");
                stream.stalled = !stream.stalled;
            }
            (Some(call), 2 | 3) => {
                let request = pb::WatchRequest {
                    request_union: Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest::default())),
                };
                let front = self.streams[&call].front;
                member.call(front, Incoming::Message(call, request.encode_to_vec().into()));
            }
            (Some(call), 4) if self.streams[&call].watches.len() > 1 => {
                let stream = self.streams.get_mut(&call).expect("it is one of them");
                let (watch_id, _) = stream.watches.pop_first().expect("there is one");
                let cancel = pb::WatchCancelRequest { watch_id };
                let request = pb::WatchRequest { request_union: Some(RequestUnion::CancelRequest(cancel)) };
                member.call(stream.front, Incoming::Message(call, request.encode_to_vec().into()));
            }
            (chosen, _) => {
                self.next_value += 1;
                let watch_id = 1 + self.next_value as i64;
                let (key, range_end) = if rng.chance(2, 3) { range(rng) } else { (key(rng), Bytes::new()) };
                let start_revision = match rng.below(4) {
                    0 => history.shown + rng.below(5) as i64,
                    1 | 2 => 1 + rng.below(history.top() as u64) as i64,
                    _ => 0,
                };
                let prev_kv = rng.chance(1, 3);
                let create = pb::WatchCreateRequest { key, range_end, start_revision, prev_kv, watch_id, ..Default::default() };
                let watched = Watched::new(&create, history.shown, false);
                let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
                match chosen.filter(|_| rng.chance(1, 2) || mine.len() >= STREAMS_MAX) {
                    Some(call) => {
                        let stream = self.streams.get_mut(&call).expect("it is one of them");
                        member.call(stream.front, Incoming::Message(call, request.encode_to_vec().into()));
                        stream.watches.insert(watch_id, watched);
                    }
                    None => {
                        let call = self.open(member, front, Method::Watch, &request);
                        let watches = BTreeMap::from([(watch_id, watched)]);
                        self.streams.insert(call, Stream { front, watches, ..Stream::default() });
                    }
                }
            }
        }
    }

    /// A client gives up on a call: it may have happened or not.
    fn cancel(&mut self, member: &mut Member, history: &mut History, rng: &mut Prng) {
        let calls: Vec<CallId> = self.calls.keys().copied().collect();
        if calls.is_empty() {
            return;
        }
        let id = calls[rng.below(calls.len() as u64) as usize];
        let call = self.calls.remove(&id).expect("it is one of them");
        member.call(call.front, Incoming::Cancel(id));
        give_up(call, history);
    }

    /// The transport sends on what watches' streams got, at its own pace.
    pub fn drain(&mut self, member: &mut Member, rng: &mut Prng, stalls: bool) {
        for (&call, stream) in &mut self.streams {
            if stream.unsent > 0 && (!stalls || !stream.stalled && rng.chance(1, 4)) {
                member.call(stream.front, Incoming::Sent(call, std::mem::take(&mut stream.unsent)));
            }
        }
    }

    /// Something comes from the member.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(&mut self, id: CallId, message: Outgoing, history: &mut History, now: Instant) -> Result<(), String> {
        self.now = now;
        if self.streams.contains_key(&id) {
            return self.stream_message(id, message, history);
        }
        if !self.calls.contains_key(&id) {
            return Ok(());
        }
        match message {
            Outgoing::Message(_, bytes) => {
                let call = self.calls.get_mut(&id).expect("looked at above");
                match call.message.replace(bytes) {
                    None => Ok(()),
                    Some(_) => Err(format!("call {id:?} is answered twice")),
                }
            }
            Outgoing::Finish(_, status) => {
                let call = self.calls.remove(&id).expect("looked at above");
                if status.is_ok() { self.answered(id, call, history) } else { self.refused(id, call, &status, history) }
            }
        }
    }

    fn answered(&mut self, id: CallId, mut call: Call, history: &mut History) -> Result<(), String> {
        let bytes = call.message.take().ok_or("a call ended well without an answer")?;
        self.answered += 1;
        let revision = |header: &Option<pb::ResponseHeader>| header.as_ref().map_or(0, |h| h.revision);
        match call.kind {
            Kind::Write(asked) => {
                if let Write::Put(put) = &asked.write
                    && history.leases.get(&put.lease).is_some_and(|lease| lease.is_gone_for(id))
                {
                    return Err(format!("{asked:?} is answered, though its lease was gone"));
                }
                let (revision, answered) = match asked.write {
                    Write::Put(_) => {
                        let put: pb::PutResponse = decode(&bytes)?;
                        (revision(&put.header), Answered::Put(put))
                    }
                    Write::Delete(_) => {
                        let delete: pb::DeleteRangeResponse = decode(&bytes)?;
                        (revision(&delete.header), Answered::Delete(delete))
                    }
                    Write::Txn(_) => {
                        let txn: pb::TxnResponse = decode(&bytes)?;
                        (revision(&txn.header), Answered::Txn(txn))
                    }
                };
                history.written(asked, revision, answered)
            }
            Kind::Range(request) if request.revision > 0 && request.revision < call.compacted => {
                Err(format!("a read at {} is answered, though {} was compacted", request.revision, call.compacted))
            }
            Kind::Range(request) => history.ranged(request, decode(&bytes)?, call.low),
            Kind::Lease(lease, of) => lease_answered(lease, of, &self.lease_asked(id, &call), &bytes, history),
            Kind::Leases => leases_listed(&self.lease_asked(id, &call), &decode(&bytes)?, history),
            Kind::Hash(asked) => history.hashed(asked, &decode(&bytes)?, call.low),
            Kind::Defragment => Ok(()),
            Kind::Compact(at) => {
                let compacted: pb::CompactionResponse = decode(&bytes)?;
                history.compacted = history.compacted.max(at);
                history.told(revision(&compacted.header), call.low)
            }
        }
    }

    fn lease_asked(&self, id: CallId, call: &Call) -> LeaseAsked {
        LeaseAsked { call: id, at: call.asked_at, low: call.low, now: self.now, last: self.next_call }
    }

    fn stream_message(&mut self, id: CallId, message: Outgoing, history: &mut History) -> Result<(), String> {
        let stream = self.streams.get_mut(&id).expect("looked at by the caller");
        let bytes = match message {
            Outgoing::Message(_, bytes) => bytes,
            Outgoing::Finish(_, status) => return Err(format!("the watch stream {id:?} ended by itself: {status:?}")),
        };
        stream.unsent += bytes.len() + 5;
        let response: pb::WatchResponse = decode(&bytes)?;
        self.events += response.events.len() as u64;
        if response.watch_id == -1 {
            return stream.watches.values_mut().filter(|w| w.created).try_for_each(|w| w.response(&response, history));
        }
        // A watch that its client has cancelled may still be shown something.
        let Some(watched) = stream.watches.get_mut(&response.watch_id) else { return Ok(()) };
        watched.response(&response, history)?;
        if self.audit == Some(id) && response.created {
            history.run_begun(self.run, response.header.as_ref().map_or(0, |h| h.revision));
        }
        if self.audit == Some(id) && !response.events.is_empty() {
            for stream in self.streams.values_mut() {
                stream.watches.values_mut().try_for_each(|w| w.check(history))?;
            }
        }
        Ok(())
    }

    /// The member is gone: what waits may have happened or not, streams are broken.
    pub fn crash(&mut self, history: &mut History) {
        for call in std::mem::take(&mut self.calls).into_values() {
            give_up(call, history);
        }
        self.streams.clear();
        self.audit = None;
        self.run += 1;
    }

    /// An error, and whether it may be one.
    fn refused(&self, id: CallId, call: Call, status: &Status, history: &mut History) -> Result<(), String> {
        if matches!(status.code, Code::Unavailable | Code::DeadlineExceeded) {
            give_up(call, history);
            return Ok(());
        }
        let text = status.message.as_ref();
        let compacted = |revision: i64| text.contains("compacted") && revision > 0 && revision < history.compacting;
        let may_be = match (&call.kind, status.code) {
            (Kind::Write(asked), Code::NotFound) => {
                let leases = leases_of(&asked.write);
                let may_be = !leases.iter().all(|lease| history.leases.get(lease).is_some_and(|l| l.lives(self.now)));
                if let [lease] = leases[..] {
                    history.lease_not_there(lease, id, self.next_call);
                }
                may_be
            }
            // A full disk, or one that is only behind.
            (_, Code::ResourceExhausted) => text.contains("no space left on device"),
            (Kind::Write(_), Code::Unknown) => text.contains("too many requests"),
            (Kind::Range(request), Code::OutOfRange) => compacted(request.revision),
            (Kind::Hash(revision), Code::OutOfRange) => compacted(*revision),
            (Kind::Compact(at), Code::OutOfRange) => text.contains("compacted") && *at <= history.compacting,
            (&Kind::Lease(lease, LeaseCall::Revoke), Code::NotFound) => {
                let may_be = history.leases[&lease].may_be_revoked_already(id, self.now);
                history.lease_not_there(lease, id, self.next_call);
                may_be
            }
            _ => false,
        };
        if may_be { Ok(()) } else { Err(format!("{} is refused: {status:?}", kind_name(&call.kind))) }
    }

    /// Watches that have not been shown everything.
    pub fn behind(&self, history: &History) -> usize {
        self.streams.values().flat_map(|s| s.watches.values()).filter(|w| w.is_behind(history)).count()
    }
}

/// An answer.
///
/// # Errors
/// It is none.
pub(super) fn decode<M: Message + Default>(bytes: &Bytes) -> Result<M, String> {
    M::decode(bytes.clone()).map_err(|e| format!("an answer is no protobuf: {e}"))
}

fn give_up(call: Call, history: &mut History) {
    if let Kind::Write(asked) = call.kind {
        history.doubt(asked);
    }
}

fn kind_name(kind: &Kind) -> String {
    match kind {
        Kind::Write(asked) => format!("{:?}", asked.write),
        Kind::Range(request) => format!("{request:?}"),
        Kind::Lease(id, of) => format!("{of:?} of lease {id}"),
        Kind::Leases => "the list of leases".into(),
        Kind::Compact(at) => format!("the compaction at {at}"),
        Kind::Hash(revision) => format!("the hash at {revision}"),
        Kind::Defragment => "the defragmentation".into(),
    }
}

fn leases_of(write: &Write) -> Vec<i64> {
    fn of_txn(txn: &pb::TxnRequest, leases: &mut Vec<i64>) {
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(Request::RequestPut(put)) => leases.push(put.lease),
                Some(Request::RequestTxn(nested)) => of_txn(nested, leases),
                _ => {}
            }
        }
    }
    let mut leases = Vec::new();
    match write {
        Write::Put(put) => leases.push(put.lease),
        Write::Delete(_) => {}
        Write::Txn(txn) => of_txn(txn, &mut leases),
    }
    leases.retain(|&lease| lease != 0);
    leases.sort_unstable();
    leases.dedup();
    leases
}

fn key_of(folder: u64, number: u64) -> Bytes {
    format!("{}/{number:02}", if folder == 0 { 'a' } else { 'b' }).into()
}

fn key(rng: &mut Prng) -> Bytes {
    key_of(rng.below(2), rng.below(KEYS))
}

/// A stretch of one folder, or all of it.
fn within(folder: u64, rng: &mut Prng) -> (Bytes, Bytes) {
    let from = rng.below(KEYS);
    let to = from + 1 + rng.below(KEYS - from);
    (key_of(folder, from), key_of(folder, to))
}

/// A read with any of what a read may ask for.
fn random_range(history: &History, rng: &mut Prng) -> pb::RangeRequest {
    let (key, range_end) = if rng.chance(2, 3) { range(rng) } else { (key(rng), Bytes::new()) };
    let mut request = pb::RangeRequest { key, range_end, ..pb::RangeRequest::default() };
    let some = |rng: &mut Prng| 1 + rng.below(history.top() as u64) as i64;
    request.revision = if rng.chance(1, 2) { 0 } else { some(rng) };
    request.limit = if rng.chance(1, 3) { rng.below(6) as i64 } else { 0 };
    request.count_only = rng.chance(1, 8);
    request.serializable = rng.chance(1, 4);
    if rng.chance(1, 3) {
        request.sort_order = rng.below(3) as i32;
        request.sort_target = rng.below(5) as i32;
    }
    if rng.chance(1, 6) {
        request.keys_only = true;
    }
    if rng.chance(1, 4) {
        let bounds = [
            &mut request.min_mod_revision,
            &mut request.max_mod_revision,
            &mut request.min_create_revision,
            &mut request.max_create_revision,
        ];
        for bound in bounds {
            *bound = if rng.chance(1, 2) { some(rng) } else { 0 };
        }
    }
    request
}

fn range(rng: &mut Prng) -> (Bytes, Bytes) {
    match rng.below(5) {
        0 => (Bytes::from_static(&[0]), Bytes::from_static(&[0])),
        1 => (key(rng), Bytes::from_static(&[0])),
        _ => within(rng.below(2), rng),
    }
}

fn compare(history: &History, rng: &mut Prng) -> pb::Compare {
    compare_one(history, rng)
}

fn compare_one(history: &History, rng: &mut Prng) -> pb::Compare {
    let result = [CompareResult::Equal, CompareResult::NotEqual, CompareResult::Greater, CompareResult::Less];
    let near = (history.top() - rng.below(20) as i64).max(0);
    let (target, union) = match rng.below(3) {
        0 => (CompareTarget::Version, TargetUnion::Version(rng.below(4) as i64)),
        1 => (CompareTarget::Mod, TargetUnion::ModRevision(near)),
        _ => (CompareTarget::Create, TargetUnion::CreateRevision(if rng.chance(1, 2) { 0 } else { near })),
    };
    let (key, range_end) = if rng.chance(1, 6) { range(rng) } else { (key(rng), Bytes::new()) };
    pb::Compare {
        result: result[rng.below(4) as usize] as i32,
        target: target as i32,
        key,
        range_end,
        target_union: Some(union),
    }
}
