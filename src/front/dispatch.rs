//! What every call goes through: it begins or waits for a reign, asks, is answered, ends.

use std::mem;

use bytes::Bytes;

use crate::base::limits::{PARKED_BYTES_MAX, PARKED_CALLS_MAX};
use crate::base::{CoreId, GroupId, Revision, Term};
use crate::proto::etcdserverpb as pb;
use crate::shard::messages::Answer;

use super::call::{CallId, Method, Status};
use super::calls::{Call, Due, Step};
use super::errors;
use super::front::{Begun, Front, FrontEffect, Stop};
use super::tickets::{Ask, Open, Owner};

impl Front {
    pub(super) fn begin(&mut self, id: CallId, method: Method, message: Bytes) {
        match self.start(id, method, message.clone()) {
            Ok(()) => {}
            Err(Stop::Status(status)) => self.finish(id, status),
            Err(Stop::NoReign) => self.park(id, message),
        }
    }

    fn start(&mut self, id: CallId, method: Method, message: Bytes) -> Begun {
        match method {
            Method::Range => self.range(id, message),
            Method::Put => self.put(id, message),
            Method::DeleteRange => self.delete(id, message),
            Method::Txn => self.txn(id, message),
            Method::Compact => self.compact(id, message),
            Method::RangeStream => self.range_stream(id, message),
            Method::LeaseGrant => self.lease_grant(id, message),
            Method::LeaseRevoke => self.lease_revoke(id, message),
            Method::LeaseTimeToLive => self.lease_time_to_live(id, message),
            Method::LeaseLeases => self.lease_leases(id, message),
            _ => self.maintenance(id, method, message),
        }
    }

    fn park(&mut self, id: CallId, message: Bytes) {
        if self.parked.len() >= PARKED_CALLS_MAX {
            let calls = &mut self.calls;
            self.parked.retain(|&id| calls.get(id).is_some());
        }
        if self.parked.len() >= PARKED_CALLS_MAX || self.parked_bytes + message.len() > PARKED_BYTES_MAX {
            return self.finish(id, errors::TOO_MANY_REQUESTS);
        }
        let call = self.calls.get(id).expect("a call that begins is there");
        if call.require_leader && self.led {
            return self.finish(id, errors::NO_LEADER);
        }
        self.parked_bytes += message.len();
        call.step = Step::Parked(message);
        self.parked.push_back(id);
        self.arm(id);
    }

    pub(super) fn unpark(&mut self) {
        for id in mem::take(&mut self.parked) {
            let Some(call) = self.calls.get(id) else { continue };
            if let Step::Parked(message) = mem::replace(&mut call.step, Step::Fresh) {
                let method = call.method;
                self.parked_bytes -= message.len();
                self.begin(id, method, message);
            }
        }
        self.keep_alives_again();
    }

    /// Sets the timer of a call that waits for something that may not come.
    pub(super) fn arm(&mut self, id: CallId) {
        if let Some(call) = self.calls.get(id) {
            let when = call.expires();
            self.calls.at(when, Due::Expiry(id));
        }
    }

    /// The term in which this member leads, for a request that needs it.
    pub(super) fn reign(&self) -> Result<Term, Stop> {
        self.shared.leading().ok_or(Stop::NoReign)
    }

    /// A header with `revision`.
    pub(super) fn header(&self, revision: Revision) -> pb::ResponseHeader {
        pb::ResponseHeader {
            cluster_id: self.config.cluster.0,
            member_id: self.config.member.0,
            revision: revision.as_i64(),
            raft_term: self.shared.term().0,
        }
    }

    /// A header with the current revision.
    pub(super) fn current_header(&mut self) -> pb::ResponseHeader {
        let revision = self.shared.serving();
        self.header(revision)
    }

    /// Whether something new may be asked of `core`.
    pub(super) fn free(&self, core: CoreId) -> Result<(), Status> {
        if self.tickets.free(core) { Ok(()) } else { Err(errors::TOO_MANY_REQUESTS) }
    }

    /// Asks a group's core (core 0 for orders) on behalf of a call, which is there; `part` tells its several reads apart.
    pub(super) fn ask_for(&mut self, call: CallId, part: u32, group: GroupId, ask: Ask) -> &mut Call {
        let number = self.ask(group, Owner::Call { call, part }, ask);
        let call = self.calls.get(call).expect("a call that asks is there");
        call.asked.push(number);
        call
    }

    /// Asks a group's core (core 0 for orders).
    pub(super) fn ask(&mut self, group: GroupId, owner: Owner, ask: Ask) -> u64 {
        let core = match ask {
            Ask::Order(..) => CoreId(0),
            _ => self.config.layout.core(group),
        };
        let (number, message) = self.tickets.open(core, group, owner, ask);
        if let Some(message) = message {
            self.effects.push(FrontEffect::ToCore(core, message));
        }
        number
    }

    pub(super) fn answered(&mut self, open: Open, answer: Answer) {
        match open.owner {
            Owner::Call { call, part } => self.call_answered(call, part, open, answer),
            Owner::CatchUp { task } => self.catch_up_answered(task, open.group, answer),
            Owner::CompactionHash { call } => self.compaction_hash_answered(call, open.group, answer),
            Owner::Nobody => {}
        }
    }

    fn call_answered(&mut self, id: CallId, part: u32, Open { number, group, .. }: Open, answer: Answer) {
        let Some(call) = self.calls.get(id) else { return };
        call.asked.remove(number);
        match (mem::replace(&mut call.step, Step::Fresh), answer) {
            (Step::KeepAlives(alives), answer) => self.keep_alive_answered(id, alives, answer),
            (Step::Order(kind), answer) => self.order_answered(id, kind, answer),
            (step, Answer::Refused(refusal)) => {
                // What it has gathered is let go of.
                call.step = step;
                self.finish(id, errors::of_refusal(refusal));
            }
            (Step::Write(kind), answer) => self.write_answered(id, kind, answer),
            (Step::Get(revision), answer) => self.got(id, revision, answer),
            (Step::Reads(reads), answer) => self.reads_answered(id, reads, part, group, answer),
            (Step::Stream(stream), answer) => self.stream_answered(id, stream, group, answer),
            (Step::TimeToLive(ttl), answer) => self.attached_answered(id, ttl, group, answer),
            (Step::Hash(hash), answer) => self.hash_answered(id, hash, group, answer),
            (Step::Fresh | Step::Parked(_) | Step::Watch | Step::HealthWatch, _) => {
                unreachable!("a call that asked nothing is answered")
            }
        }
    }

    /// Answers a call and ends it.
    pub(super) fn reply(&mut self, id: CallId, message: Bytes) {
        if self.end(id) {
            self.effects.push(FrontEffect::Reply { call: id, message });
        }
    }

    /// Answers a call with one message in parts, and ends it.
    pub(super) fn reply_parts(&mut self, id: CallId, parts: Vec<Bytes>) {
        if self.end(id) {
            self.effects.push(FrontEffect::ReplyParts { call: id, parts });
        }
    }

    /// Ends a call with a status.
    pub(super) fn finish(&mut self, id: CallId, status: Status) {
        self.send_gathered(id);
        if self.end(id) {
            self.effects.push(FrontEffect::Finish { call: id, status });
        }
    }

    /// Takes a call out of everything; false if it was gone.
    pub(super) fn end(&mut self, id: CallId) -> bool {
        let Some(call) = self.calls.remove(id) else { return false };
        for revision in call.holds.iter() {
            self.shared.give_back(revision);
        }
        for ticket in call.asked.iter() {
            if let Some((core, message)) = self.tickets.cancel(ticket) {
                self.effects.push(FrontEffect::ToCore(core, message));
            }
        }
        match call.step {
            Step::Watch => self.watch_end(id),
            Step::Parked(message) => self.parked_bytes -= message.len(),
            Step::Reads(reads) => self.room.let_go(id, reads.gathered()),
            _ => {}
        }
        true
    }

    /// Keeps what a call's read at `revision` needs until the call ends; false: it is compacted.
    pub(super) fn hold(&mut self, id: CallId, revision: Revision) -> bool {
        if !self.shared.hold(revision) {
            return false;
        }
        self.calls.get(id).expect("a call that reads is there").holds.push(revision);
        true
    }

    /// The current revision, loaded now and kept for the call's reads. A read at the current revision is never compacted: when the
    /// floor has passed what was loaded, there is a newer one (rule 16), unless this member does not serve yet.
    pub(super) fn hold_current(&mut self, id: CallId) -> Result<Revision, Stop> {
        loop {
            let floor = self.shared.floor();
            let revision = self.shared.serving();
            if revision < floor {
                return Err(Stop::NoReign);
            }
            if self.hold(id, revision) {
                return Ok(revision);
            }
        }
    }
}
