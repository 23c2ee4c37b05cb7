//! Range, Put, DeleteRange, Txn and Compact: checked, sent to where they are done, and answered.

use bytes::Bytes;

use crate::base::{GroupId, GroupSet, Instant, KeyRange, Revision};
use crate::proto::etcdserverpb as pb;
use crate::shard::messages::{Answer, At, OpResponse, Order, Read, Write, WriteResponse};

use super::call::{CallId, Status};
use super::calls::{OrderKind, Step, WriteKind};
use super::front::{Begun, Front, Stop};
use super::range::RangeJob;
use super::reads::Then;
use super::tickets::Ask;
use super::txn::{Route, is_read_only};
use super::{encode, errors, nested, validate};

/// A write on its way out.
pub struct Outgoing {
    /// What to do.
    pub write: Write,
    /// Where: one group evaluates it alone, for several core 0 does.
    pub groups: GroupSet,
    /// What its answer is made of.
    pub kind: WriteKind,
    /// The length of the request's message.
    pub message_len: usize,
}

impl Front {
    pub(super) fn range(&mut self, id: CallId, message: Bytes) -> Begun {
        let request: pb::RangeRequest = validate::request(message)?;
        validate::range(&request)?;
        if !request.serializable {
            self.reign()?;
        }
        let (current, revision) = self.read_revision(id, request.revision)?;
        let at = At::end_of(revision);
        if validate::is_get(&request) {
            return self.get(id, request.key, at, current);
        }
        if self.room.is_full() {
            return Err(errors::TOO_MANY_REQUESTS.into());
        }
        let job = RangeJob::new(request, at, &self.config.layout).encoding();
        self.free_for(&job)?;
        self.no_limit(id);
        self.start_reads(id, vec![job], Then::Range(current));
        Ok(())
    }

    /// A Range of one whole key, the most frequent of all requests: no merge, no sort, no limit.
    fn get(&mut self, id: CallId, key: Bytes, at: At, current: Revision) -> Begun {
        let group = self.config.layout.of_key(&key);
        self.free(self.config.layout.core(group))?;
        let call = self.ask_for(id, 0, group, Ask::Read(Read::Get { key, at }));
        call.limit = Instant::MAX;
        call.step = Step::Get(current);
        Ok(())
    }

    /// The key is here.
    pub(super) fn got(&mut self, id: CallId, current: Revision, answer: Answer) {
        let Answer::Got(kv) = answer else { unreachable!("a get is answered by its key") };
        self.counts.ranges += 1;
        let header = self.header(current);
        self.reply(id, encode::get_response(&header, kv.as_ref()));
    }

    /// The current revision, and the one to read at for a request that names `asked`; kept for the call.
    pub(super) fn read_revision(&mut self, id: CallId, asked: i64) -> Result<(Revision, Revision), Stop> {
        let asked = Revision(u64::try_from(asked).unwrap_or(0));
        if asked == Revision::ZERO {
            let current = self.hold_current(id)?;
            return Ok((current, current));
        }
        let current = self.shared.serving();
        if asked > current {
            return Err(errors::FUTURE_REVISION.into());
        }
        if !self.hold(id, asked) {
            return Err(errors::COMPACTED.into());
        }
        Ok((current, asked))
    }

    /// Whether each core that a read asks first can take it.
    pub(super) fn free_for(&self, job: &RangeJob) -> Result<(), Status> {
        job.groups().try_for_each(|group| self.free(self.config.layout.core(group)))
    }

    /// A call that has begun to read takes as long as it takes; etcd's limit is for what waits.
    pub(super) fn no_limit(&mut self, id: CallId) {
        self.calls.get(id).expect("a call that begins is there").limit = Instant::MAX;
    }

    pub(super) fn put(&mut self, id: CallId, message: Bytes) -> Begun {
        let message_len = message.len();
        let request: pb::PutRequest = validate::request(message)?;
        let cost = validate::put_cost(&request);
        if !self.quota(id, cost)? {
            return Ok(());
        }
        validate::put(&request)?;
        let groups = GroupSet::of(self.config.layout.of_key(&request.key));
        self.write(id, Outgoing { write: Write::Put(request), groups, kind: WriteKind::Put, message_len }, cost)
    }

    pub(super) fn delete(&mut self, id: CallId, message: Bytes) -> Begun {
        let message_len = message.len();
        let request: pb::DeleteRangeRequest = validate::request(message)?;
        validate::delete(&request)?;
        let range = KeyRange::of(&request.key, &request.range_end);
        let groups = self.config.layout.set_of(&range);
        let reads = groups.len() > 1 && request.prev_kv;
        if reads {
            self.reign()?;
            self.hold_current(id)?;
        }
        let kind = WriteKind::Delete(reads.then(|| Box::new(request.clone())));
        self.write(id, Outgoing { write: Write::Delete(request), groups, kind, message_len }, 0)
    }

    pub(super) fn txn(&mut self, id: CallId, message: Bytes) -> Begun {
        let message_len = message.len();
        let request = nested::txn_request(message)?;
        let cost = validate::txn_cost(&request);
        if !self.quota(id, cost)? {
            return Ok(());
        }
        validate::txn(&request, self.config.txn_ops_max)?;
        if is_read_only(&request) {
            return self.read_only_txn(id, request);
        }
        let route = Route::of(&request, &self.config.layout);
        if route.reads_later {
            self.reign()?;
            self.hold_current(id)?;
            self.hold_named(id, &request)?;
        }
        let out = Outgoing { write: Write::Txn(request), groups: route.groups, kind: WriteKind::Txn, message_len };
        self.write(id, out, cost)
    }

    /// Sends a write to its shard, or to core 0.
    fn write(&mut self, id: CallId, out: Outgoing, cost: u64) -> Begun {
        let term = self.reign()?;
        validate::size(out.message_len, self.config.request_bytes_max)?;
        self.alarms(cost > 0)?;
        let alone = out.groups.iter().next().filter(|_| out.groups.len() == 1);
        let (group, ask) = match alone {
            Some(group) => (group, Ask::Write(term, out.write)),
            None => (GroupId::META, Ask::Order(term, Order::Write { write: out.write, groups: out.groups })),
        };
        self.free(self.config.layout.core(group))?;
        self.ask_for(id, 0, group, ask).step = Step::Write(out.kind);
        self.arm(id);
        Ok(())
    }

    /// What alarms refuse when a request would be applied: CORRUPT every change, NOSPACE what takes space.
    pub(super) fn alarms(&self, takes_space: bool) -> Result<(), Status> {
        if self.shared.alarm(pb::AlarmType::Corrupt) {
            return Err(errors::CORRUPT);
        }
        if takes_space && self.shared.alarm(pb::AlarmType::Nospace) {
            return Err(errors::NO_SPACE);
        }
        Ok(())
    }

    /// The quota, looked at before anything else about the request, as etcd does. False: it is used up; the alarm is being raised, and
    /// the call answers when it is.
    pub(super) fn quota(&mut self, id: CallId, cost: u64) -> Result<bool, Stop> {
        let Some(quota) = self.config.quota() else { return Ok(true) };
        if cost == 0 || self.shared.used_bytes() + cost < quota {
            return Ok(true);
        }
        if self.shared.alarm(pb::AlarmType::Nospace) {
            return Err(errors::NO_SPACE.into());
        }
        let term = self.reign()?;
        let order = Order::Alarm(pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Activate as i32,
            member_id: self.config.member.0,
            alarm: pb::AlarmType::Nospace as i32,
        });
        self.order(id, term, order, OrderKind::Quota)?;
        Ok(false)
    }

    pub(super) fn compact(&mut self, id: CallId, message: Bytes) -> Begun {
        let message_len = message.len();
        let request: pb::CompactionRequest = validate::request(message)?;
        let term = self.reign()?;
        validate::size(message_len, self.config.request_bytes_max)?;
        self.alarms(false)?;
        if request.physical {
            self.no_limit(id);
        }
        let order = Order::Compact { revision: request.revision, physical: request.physical };
        self.order(id, term, order, OrderKind::Compact)?;
        self.hash_compaction(id, request.revision);
        Ok(())
    }

    /// A write was evaluated, and may be told.
    pub(super) fn write_answered(&mut self, id: CallId, kind: WriteKind, answer: Answer) {
        let Answer::Write { revision, response } = answer else { unreachable!("a write is answered as one") };
        let header = self.header(revision);
        let response = if matches!(kind, WriteKind::Txn) { response } else { alone(response) };
        self.counts.deletes += u64::from(matches!(kind, WriteKind::Delete(_)));
        match (kind, response) {
            (WriteKind::Put, WriteResponse::Put { prev }) => {
                self.reply(id, encode::put_response(&header, prev.as_ref()));
            }
            (WriteKind::Delete(Some(request)), WriteResponse::Delete { deleted, prevs }) if deleted > 0 && prevs.is_empty() => {
                let at = At { revision, operations: 0 };
                let job = RangeJob::whole(request.key, request.range_end, at, &self.config.layout);
                self.start_reads(id, vec![job], Then::Delete { revision, deleted });
            }
            (WriteKind::Delete(_), WriteResponse::Delete { deleted, prevs }) => {
                self.reply(id, encode::delete_response(&header, deleted, &prevs));
            }
            (WriteKind::Txn, WriteResponse::Txn { succeeded, responses }) => {
                self.txn_written(id, revision, succeeded, responses);
            }
            _ => unreachable!("a write is answered in its own shape"),
        }
    }
}

/// A write over several shards goes as a txn of one operation, and may come back as one.
fn alone(response: WriteResponse) -> WriteResponse {
    let WriteResponse::Txn { mut responses, .. } = response else { return response };
    assert_eq!(responses.len(), 1, "one operation is answered once");
    match responses.pop() {
        Some(OpResponse::Done(response)) => response,
        Some(OpResponse::ReadDelete { deleted, .. }) => WriteResponse::Delete { deleted, prevs: Vec::new() },
        other => unreachable!("a write is answered in its own shape, not by {other:?}"),
    }
}
