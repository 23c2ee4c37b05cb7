//! Leases: grant, revoke, time to live, the list, and the stream of keep-alives.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::base::limits::KEEP_ALIVES_MAX;
use crate::base::{CoreId, GroupId, LeaseId, Revision, Term};
use crate::proto::etcdserverpb as pb;
use crate::shard::messages::{Answer, At, Order, Read, Refusal};

use super::call::{CallId, Status, frame};
use super::calls::{OrderKind, Step};
use super::front::{Begun, Front, FrontEffect, Stop};
use super::tickets::Ask;
use super::{errors, validate};

/// A TimeToLive that gathers the attached keys.
pub struct TimeToLive {
    response: pb::LeaseTimeToLiveResponse,
    at: At,
    left: usize,
}

/// A stream of keep-alives: one at a time is asked, the others wait behind it.
#[derive(Default)]
pub struct KeepAlives {
    waiting: VecDeque<i64>,
    asked: Option<Asked>,
    /// The client sends no more: the stream ends when all are answered.
    closed: bool,
}

/// The keep-alive under way.
struct Asked {
    id: i64,
    /// Made before the lease is renewed, so that its revision is never one at which the lease was gone already.
    header: pb::ResponseHeader,
}

impl KeepAlives {
    /// Whether one is under way.
    pub fn asks(&self) -> bool {
        self.asked.is_some()
    }
}

impl Front {
    pub(super) fn lease_grant(&mut self, id: CallId, message: Bytes) -> Begun {
        let message_len = message.len();
        let request: pb::LeaseGrantRequest = validate::request(message)?;
        if !self.quota(id, validate::QUOTA_LEASE_BYTES)? {
            return Ok(());
        }
        let term = self.reign()?;
        validate::size(message_len, self.config.request_bytes_max)?;
        self.alarms(true)?;
        validate::lease_grant(&request)?;
        let lease = match request.id {
            0 => self.random_lease(),
            id => LeaseId(id),
        };
        let ttl = request.ttl.max(self.config.lease_ttl_min);
        self.order(id, term, Order::LeaseGrant { id: lease, ttl }, OrderKind::Grant)
    }

    /// A random id of 63 bits, not 0.
    fn random_lease(&mut self) -> LeaseId {
        loop {
            let id = (self.prng.u64() >> 1) as i64;
            if id != 0 {
                return LeaseId(id);
            }
        }
    }

    pub(super) fn lease_revoke(&mut self, id: CallId, message: Bytes) -> Begun {
        let request: pb::LeaseRevokeRequest = validate::request(message)?;
        let term = self.reign()?;
        self.alarms(false)?;
        self.order(id, term, Order::LeaseRevoke { id: LeaseId(request.id) }, OrderKind::Revoke)
    }

    pub(super) fn lease_time_to_live(&mut self, id: CallId, message: Bytes) -> Begun {
        let request: pb::LeaseTimeToLiveRequest = validate::request(message)?;
        let term = self.reign()?;
        let kind = OrderKind::TimeToLive { keys: request.keys, id: request.id };
        self.order(id, term, Order::LeaseTimeToLive { id: LeaseId(request.id) }, kind)
    }

    pub(super) fn lease_leases(&mut self, id: CallId, message: Bytes) -> Begun {
        let _: pb::LeaseLeasesRequest = validate::request(message)?;
        let term = self.reign()?;
        self.order(id, term, Order::LeaseLeases, OrderKind::Leases)
    }

    /// What is left of a lease is here; the keys may have to be gathered.
    pub(super) fn remaining(&mut self, id: CallId, keys: bool, response: pb::LeaseTimeToLiveResponse) {
        if !keys || response.ttl < 0 {
            let header = Some(self.current_header());
            return self.reply(id, frame(&pb::LeaseTimeToLiveResponse { header, ..response }));
        }
        let revision = match self.hold_current(id) {
            Ok(revision) => revision,
            Err(_) => return self.finish(id, errors::LEADER_CHANGED),
        };
        self.no_limit(id);
        let lease = LeaseId(response.id);
        let at = At::end_of(revision);
        let groups: Vec<GroupId> = self.config.layout.groups().collect();
        let ttl = TimeToLive { response, at, left: groups.len() };
        for group in groups {
            let read = Read::Attached { lease, at, resume: None };
            self.ask_for(id, 0, group, Ask::Read(read));
        }
        self.calls.get(id).expect("a call that reads is there").step = Step::TimeToLive(Box::new(ttl));
    }

    /// A slice of attached keys is here.
    pub(super) fn attached_answered(&mut self, id: CallId, mut ttl: Box<TimeToLive>, group: GroupId, answer: Answer) {
        let Answer::Attached { keys, resume } = answer else { unreachable!("attached keys are answered by a slice") };
        ttl.response.keys.extend(keys);
        match resume {
            Some(resume) => {
                let read = Read::Attached { lease: LeaseId(ttl.response.id), at: ttl.at, resume: Some(resume) };
                self.ask_for(id, 0, group, Ask::Read(read));
            }
            None => ttl.left -= 1,
        }
        if ttl.left > 0 {
            self.calls.get(id).expect("a call that reads is there").step = Step::TimeToLive(ttl);
            return;
        }
        ttl.response.keys.sort_unstable();
        let header = Some(self.current_header());
        self.reply(id, frame(&pb::LeaseTimeToLiveResponse { header, ..ttl.response }));
    }

    // Keep-alives.

    pub(super) fn keep_alive_open(&mut self, id: CallId) {
        self.calls.get(id).expect("it was opened just now").step = Step::KeepAlives(Box::default());
    }

    pub(super) fn keep_alive_message(&mut self, id: CallId, message: Bytes) {
        let request: pb::LeaseKeepAliveRequest = match validate::stream_message(message) {
            Ok(request) => request,
            Err(status) => return self.finish(id, status),
        };
        let alives = self.alives(id);
        if alives.waiting.len() >= KEEP_ALIVES_MAX {
            return self.finish(id, errors::TOO_MANY_REQUESTS);
        }
        alives.waiting.push_back(request.id);
        self.keep_alive_next(id);
    }

    pub(super) fn keep_alive_half_close(&mut self, id: CallId) {
        self.alives(id).closed = true;
        self.keep_alive_next(id);
    }

    fn alives(&mut self, id: CallId) -> &mut KeepAlives {
        match self.calls.get(id).map(|c| &mut c.step) {
            Some(Step::KeepAlives(alives)) => alives,
            _ => unreachable!("a stream of keep-alives is nothing else"),
        }
    }

    /// Asks for the next of a stream's keep-alives, if it can.
    fn keep_alive_next(&mut self, id: CallId) {
        let alives = self.alives(id);
        if alives.asked.is_some() {
            return;
        }
        let Some(&lease) = alives.waiting.front() else {
            if alives.closed {
                self.finish(id, Status::OK);
            }
            return;
        };
        let term = match self.reign() {
            Ok(term) => term,
            Err(_) => return,
        };
        let header = self.current_header();
        let order = Order::LeaseKeepAlive { id: LeaseId(lease) };
        self.ask_for(id, 0, GroupId::META, Ask::Order(term, order));
        let alives = self.alives(id);
        alives.waiting.pop_front();
        alives.asked = Some(Asked { id: lease, header });
    }

    /// A keep-alive is answered. A lease that is not there is told with a TTL of 0, and the stream goes on.
    pub(super) fn keep_alive_answered(&mut self, id: CallId, mut alives: Box<KeepAlives>, answer: Answer) {
        let asked = alives.asked.take().expect("one was asked");
        let ttl = match answer {
            Answer::Renewed { ttl, .. } => ttl,
            Answer::Refused(Refusal::LeaseNotFound) => 0,
            Answer::Refused(refusal) => return self.finish(id, errors::of_refusal(refusal)),
            _ => unreachable!("a keep-alive is answered as one"),
        };
        self.calls.get(id).expect("it was there just now").step = Step::KeepAlives(alives);
        let response = pb::LeaseKeepAliveResponse { header: Some(asked.header), id: asked.id, ttl };
        self.effects.push(FrontEffect::Send { call: id, message: frame(&response) });
        self.keep_alive_next(id);
    }

    /// There is a reign again: the streams that waited for one go on.
    pub(super) fn keep_alives_again(&mut self) {
        let streams: Vec<CallId> =
            self.calls.ids().filter(|(_, c)| matches!(c.step, Step::KeepAlives(_))).map(|(id, _)| id).collect();
        for id in streams {
            self.keep_alive_next(id);
        }
    }

    // Orders of all kinds.

    /// Asks core 0 for something on behalf of a call.
    pub(super) fn order(&mut self, id: CallId, term: Term, order: Order, kind: OrderKind) -> Result<(), Stop> {
        self.free(CoreId(0))?;
        self.ask_for(id, 0, GroupId::META, Ask::Order(term, order)).step = Step::Order(kind);
        self.arm(id);
        Ok(())
    }

    /// An order was answered.
    pub(super) fn order_answered(&mut self, id: CallId, kind: OrderKind, answer: Answer) {
        let message = match (kind, answer) {
            (OrderKind::Quota, _) => return self.finish(id, errors::NO_SPACE),
            (_, Answer::Refused(refusal)) => return self.finish(id, errors::of_refusal(refusal)),
            (OrderKind::Grant, Answer::Granted { id: lease, ttl }) => {
                let header = Some(self.current_header());
                frame(&pb::LeaseGrantResponse { header, id: lease.0, ttl, error: String::new() })
            }
            (OrderKind::Revoke, Answer::Revoked { revision }) => {
                let revision = revision.max(Revision::FIRST);
                frame(&pb::LeaseRevokeResponse { header: Some(self.header(revision)) })
            }
            (OrderKind::TimeToLive { keys, id: asked }, Answer::Remaining { ttl, granted, .. }) => {
                let granted_ttl = if ttl < 0 { 0 } else { granted };
                let response = pb::LeaseTimeToLiveResponse { header: None, id: asked, ttl, granted_ttl, keys: Vec::new() };
                return self.remaining(id, keys, response);
            }
            (OrderKind::Leases, Answer::Leases(leases)) => {
                let header = Some(self.current_header());
                let leases = leases.into_iter().map(|l| pb::LeaseStatus { id: l.0 }).collect();
                frame(&pb::LeaseLeasesResponse { header, leases })
            }
            (OrderKind::Compact, Answer::Compacted) => frame(&pb::CompactionResponse { header: Some(self.current_header()) }),
            (OrderKind::Alarm, Answer::Alarms(alarms)) => self.alarm_response(alarms),
            // Without a header, as etcd's is.
            (OrderKind::Defragment, Answer::Done) => frame(&pb::DefragmentResponse { header: None }),
            (kind, answer) => unreachable!("{kind:?} is answered in its own shape, not by {answer:?}"),
        };
        self.reply(id, message);
    }
}
