//! The front itself: what comes in from the transport and from the cores, and where it goes.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::limits::{META_POLL_MICROS, ROOM_POLL};
use crate::base::mutant::{self, Mutant};
use crate::base::{CoreId, Instant, Prng, Revision, Term};
use crate::proto::etcdserverpb as pb;
use crate::reign::Board;
use crate::shard::messages::{Answer, Leave, Refusal, Ticket, ToCore, ToFront};

use super::call::{CallId, CallOptions, Code, Method, Status};
use super::calls::{Call, Calls, Due, Few, Step};
use super::config::Config;
use super::errors;
use super::hash::CompactionHashes;
use super::room::Room;
use super::shared::Shared;
use super::tickets::{Owner, Tickets};
use super::waiting::Waiting;
use super::watch::Hub;

/// What the pump does for a front.
#[derive(Debug)]
pub enum FrontEffect {
    /// Send this on the call. It is framed: the five bytes of gRPC's prefix are the first.
    Send {
        /// Which call.
        call: CallId,
        /// Prefix and message.
        message: Bytes,
    },
    /// Send this on the call, framed as for `Send`; the call has ended well.
    Reply {
        /// Which call.
        call: CallId,
        /// Prefix and message.
        message: Bytes,
    },
    /// As `Reply`, for a message that is large: these parts of it, one behind the other.
    ReplyParts {
        /// Which call.
        call: CallId,
        /// Together prefix and message.
        parts: Vec<Bytes>,
    },
    /// Send these messages.
    SendMany {
        /// Which call.
        call: CallId,
        /// Prefix and message, prefix and message, and so on.
        messages: Bytes,
        /// How many.
        count: u32,
    },
    /// Send these two, one behind the other, as one message; `body` is shared by many calls and must not be copied per call.
    SendShared {
        /// Which call.
        call: CallId,
        /// Prefix and the beginning of the message. The prefix counts both parts.
        head: Bytes,
        /// The rest of it.
        body: Bytes,
    },
    /// The call is over for the front; its id is not heard of again.
    Finish {
        /// Which call.
        call: CallId,
        /// How it ended.
        status: Status,
    },
    /// Put this on the queue to a core.
    ToCore(CoreId, ToCore),
}

/// What a front has answered since the start, for metrics: operations, those in transactions counted one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Ranges; a stream is one.
    pub ranges: u64,
    /// Deletes.
    pub deletes: u64,
    /// Transactions of more than one operation.
    pub txns: u64,
    /// Events sent to watches.
    pub events: u64,
}

/// How much a front has under way, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// Calls, streams included.
    pub calls: usize,
    /// Requests at the cores that are not answered.
    pub asked: usize,
    /// Watch streams.
    pub watch_streams: usize,
    /// Watches.
    pub watchers: usize,
    /// Watches that read from the store, or wait to.
    pub slow_watchers: usize,
    /// Events that are not stable yet.
    pub pending_events: usize,
}

/// Why a call does not begin.
pub enum Stop {
    /// It is over.
    Status(Status),
    /// It needs a reign, and there is none.
    NoReign,
}

impl From<Status> for Stop {
    fn from(status: Status) -> Stop {
        Stop::Status(status)
    }
}

/// Whether a call has begun.
pub type Begun = Result<(), Stop>;

/// One front: its calls, its hub, and what it waits for.
pub struct Front {
    pub(super) config: Config,
    pub(super) now: Instant,
    pub(super) shared: Shared,
    pub(super) calls: Calls,
    pub(super) tickets: Tickets,
    pub(super) waiting: Waiting,
    pub(super) room: Room,
    pub(super) hub: Hub,
    pub(super) compaction_hashes: CompactionHashes,
    pub(super) members: Arc<Vec<pb::Member>>,
    pub(super) alarms: Arc<Vec<pb::AlarmMember>>,
    pub(super) prng: Prng,
    pub(super) effects: Vec<FrontEffect>,
    pub(super) counts: Counts,
    /// What the pump said last is stable.
    pub(super) stable: Revision,
    /// Calls that wait for a reign, in order of arrival.
    pub(super) parked: VecDeque<CallId>,
    /// The bytes of their messages.
    pub(super) parked_bytes: usize,
    /// Whether there has been a reign.
    pub(super) led: bool,
    /// Whether the member stops.
    stopping: bool,
}

impl Front {
    /// A front that has heard nothing yet.
    pub fn new(config: Config, board: Arc<Board>) -> Front {
        let cores = 1 + config.layout.cores.iter().map(|c| usize::from(c.0)).max().unwrap_or(0);
        assert_eq!(config.layout.cores.len(), usize::from(config.layout.shards) + 1, "a core for group 0 and for each shard");
        let mut shared = Shared::new(board, config.front);
        let stable = shared.serving();
        Front {
            now: Instant::ZERO,
            calls: Calls::default(),
            tickets: Tickets::new(config.front, cores),
            waiting: Waiting::default(),
            room: Room::new(config.room),
            hub: Hub::new(config.layout.shards, stable),
            compaction_hashes: CompactionHashes::default(),
            members: Arc::default(),
            alarms: Arc::default(),
            prng: Prng::new(config.seed),
            effects: Vec::new(),
            counts: Counts::default(),
            parked: VecDeque::new(),
            parked_bytes: 0,
            led: false,
            stopping: false,
            stable,
            shared,
            config,
        }
    }

    // From the transport.

    /// A call begins: its headers are here.
    pub fn open(&mut self, now: Instant, id: CallId, method: Method, options: CallOptions) {
        self.now = now;
        let bad_version = options.api_version.as_ref().is_some_and(|v| std::str::from_utf8(v).is_err());
        let call = Call {
            method,
            deadline: options.deadline,
            limit: Instant::MAX,
            require_leader: options.require_leader,
            step: Step::Fresh,
            holds: Few::default(),
            asked: Few::default(),
        };
        self.calls.insert(id, call);
        if bad_version {
            return self.finish(id, errors::INVALID_CLIENT_API_VERSION);
        }
        if options.require_leader && self.led && self.shared.leading().is_none() {
            return self.finish(id, errors::NO_LEADER);
        }
        if self.stopping && method.is_endless() {
            return self.finish(id, errors::STOPPED);
        }
        if let Some(deadline) = options.deadline {
            self.calls.at(deadline, Due::Expiry(id));
        }
        match method {
            Method::Watch => self.watch_open(id),
            Method::LeaseKeepAlive => self.keep_alive_open(id),
            _ => {}
        }
    }

    /// A message of the call is here: the request of a unary call, or one more of a stream.
    pub fn message(&mut self, now: Instant, id: CallId, message: Bytes) {
        self.now = now;
        let Some(call) = self.calls.get(id) else { return };
        match (call.method, &call.step) {
            (Method::Watch, _) => self.watch_message(id, message),
            (Method::LeaseKeepAlive, _) => self.keep_alive_message(id, message),
            (method, Step::Fresh) => {
                let limit = now + self.config.request_timeout();
                call.limit = limit;
                self.begin(id, method, message);
            }
            // A second message of a unary call says nothing; grpc-go does not read it either.
            _ => {}
        }
    }

    /// The client sends nothing more on the call.
    pub fn half_close(&mut self, now: Instant, id: CallId) {
        self.now = now;
        let Some(call) = self.calls.get(id) else { return };
        match (call.method, &call.step) {
            (Method::LeaseKeepAlive, _) => self.keep_alive_half_close(id),
            // A watch stream stays open for its events.
            (Method::Watch, _) => {}
            (_, Step::Fresh) => self.finish(id, Status::new(Code::Internal, "a request without a message")),
            _ => {}
        }
    }

    /// The call is gone: reset, or its connection lost. Nothing is sent on it any more.
    pub fn cancel(&mut self, id: CallId) {
        self.end(id);
    }

    /// `bytes` of what was sent on the call left for the socket.
    pub fn sent(&mut self, id: CallId, bytes: usize) {
        match self.calls.get(id).map(|c| &c.step) {
            Some(Step::Watch) => self.watch_sent(id, bytes),
            Some(Step::Stream(_)) => self.stream_sent(id, bytes),
            _ => {}
        }
    }

    /// So many bytes of answers are not taken by clients now, those of streams apart.
    pub fn unsent(&mut self, bytes: usize) {
        self.room.set_unsent(bytes);
    }

    /// The member stops: calls that would not end by themselves end now, and no such call begins any more. All others go on.
    pub fn stop(&mut self, now: Instant) {
        self.now = now;
        self.stopping = true;
        let endless: Vec<CallId> = self.calls.ids().filter(|(_, c)| c.method.is_endless()).map(|(id, _)| id).collect();
        for id in endless {
            self.finish(id, errors::STOPPED);
        }
    }

    // From the cores.

    /// A message from a core.
    pub fn core_message(&mut self, now: Instant, message: ToFront) {
        self.now = now;
        match message {
            ToFront::Answer { ticket, term, leave, answer } => self.core_answer(ticket, term, leave, answer),
            ToFront::Events { term, group, events } => self.hub.events(term, group, events),
            ToFront::Leading(reign) => {
                self.led = true;
                let opened_at = reign.opened_at();
                self.shared.lead(reign);
                self.hub_begin(opened_at);
                self.unpark();
            }
            ToFront::Ended { term, stable } => self.reign_ended(term, stable),
            ToFront::Members(members) => self.members = members,
            ToFront::Alarms(alarms) => self.alarms = alarms,
            ToFront::CompactionHash(hash) => self.compaction_hashes.keep(hash),
        }
    }

    fn core_answer(&mut self, ticket: Ticket, term: Term, leave: Leave, answer: Answer) {
        let (open, backlog) = self.tickets.close(ticket);
        if let Some((core, message)) = backlog {
            self.effects.push(FrontEffect::ToCore(core, message));
        }
        if open.owner == Owner::Nobody {
            return;
        }
        let (revision, meta) = match leave {
            Leave::Now => return self.answered(open, answer),
            Leave::Stable(revision) => (revision, None),
            Leave::StableAndMeta(revision, index) => (revision, Some(index)),
        };
        if self.shared.leading() != Some(term) {
            // Rule 7: what waits in a reign that is over has an unknown outcome.
            return self.answered(open, Answer::Refused(Refusal::LeaderChanged));
        }
        let here = revision <= self.stable && meta.is_none_or(|index| self.shared.meta_committed(index));
        if here || mutant::on(Mutant::AnsweredBeforeStable) {
            self.answered(open, answer);
        } else {
            self.waiting.push(revision, meta, open, answer);
        }
    }

    /// Everything up to `stable` may be shown: answers leave, and the hub releases events. `stable` was loaded before the queues from
    /// the cores were drained (rule 13).
    pub fn advance(&mut self, now: Instant, stable: Revision) {
        self.now = now;
        self.stable = self.stable.max(stable);
        self.release_answers();
        self.reads_go_on();
        self.hub_advance(self.stable);
        self.shared.flush();
    }

    fn release_answers(&mut self) {
        loop {
            let shared = &self.shared;
            let Some((open, answer)) = self.waiting.pop(self.stable, |index| shared.meta_committed(index)) else { break };
            self.answered(open, answer);
        }
    }

    fn reign_ended(&mut self, term: Term, stable: Revision) {
        if self.shared.leading() == Some(term) {
            self.stable = self.stable.max(stable);
            self.release_answers();
            while let Some((open, _)) = self.waiting.pop_any() {
                self.answered(open, Answer::Refused(Refusal::LeaderChanged));
            }
            self.shared.end(term);
            self.end_writes();
            let grace = 3 * self.config.election_timeout;
            self.calls.at(self.now + grace, Due::Leaderless);
        }
        self.hub.ended(term, stable);
    }

    /// What cores evaluate in a reign that is over has an unknown outcome.
    fn end_writes(&mut self) {
        let asked = |call: &Call| match &call.step {
            Step::Write(_) | Step::Order(_) => true,
            Step::KeepAlives(alives) => alives.asks(),
            _ => false,
        };
        let calls: Vec<CallId> = self.calls.ids().filter(|(_, c)| asked(c)).map(|(id, _)| id).collect();
        for id in calls {
            self.finish(id, errors::LEADER_CHANGED);
        }
    }

    // Timers.

    /// When [`Front::tick`] has something to do. [`Instant::MAX`]: nothing is due ever.
    pub fn next_deadline(&self) -> Instant {
        let poll = if self.waiting.waits_for_meta() {
            self.now + std::time::Duration::from_micros(META_POLL_MICROS)
        } else {
            Instant::MAX
        };
        let room = if self.room.is_waited_for() { self.now + ROOM_POLL } else { Instant::MAX };
        self.calls.next_at().min(poll).min(room)
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        self.now = now;
        self.release_answers();
        while let Some(due) = self.calls.due(now) {
            match due {
                Due::Expiry(id) => self.expire(id),
                Due::Progress(id) => self.watch_progress_due(id),
                Due::Leaderless => self.leaderless(),
                Due::CatchUp(task) => self.catch_up_again(task),
                Due::Release => self.hub_rested(),
            }
        }
    }

    fn expire(&mut self, id: CallId) {
        let Some(call) = self.calls.get(id) else { return };
        let expires = call.expires();
        if expires > self.now {
            return self.calls.at(expires, Due::Expiry(id));
        }
        let status = match call.deadline {
            Some(deadline) if deadline <= self.now => errors::DEADLINE_EXCEEDED,
            _ => errors::TIMEOUT,
        };
        self.finish(id, status);
    }

    /// etcd ends the streams that asked for a leader when there was none for three election timeouts.
    fn leaderless(&mut self) {
        if self.shared.leading().is_some() {
            return;
        }
        let streams: Vec<CallId> = self
            .calls
            .ids()
            .filter(|(_, c)| c.require_leader && matches!(c.step, Step::Watch | Step::KeepAlives(_) | Step::HealthWatch))
            .map(|(id, _)| id)
            .collect();
        for id in streams {
            self.finish(id, errors::NO_LEADER);
        }
    }

    // What the pump takes.

    /// The effects since the last time, in order. Read floors are published before (rule 16).
    pub fn take_effects(&mut self, into: &mut Vec<FrontEffect>) {
        self.shared.flush();
        self.send_all_gathered();
        into.append(&mut self.effects);
    }

    /// The lowest revision that something here waits for to be stable, for the board (rule 2).
    pub fn waiting_for(&self) -> Option<Revision> {
        [self.waiting.lowest(), self.hub.waiting_for()].into_iter().flatten().min()
    }

    /// How much is under way.
    pub fn load(&self) -> Load {
        let (watch_streams, watchers, slow_watchers) = self.hub.load();
        Load {
            calls: self.calls.len(),
            asked: self.tickets.len(),
            watch_streams,
            watchers,
            slow_watchers,
            pending_events: self.hub.pending(),
        }
    }

    /// What has been answered.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What may be shown now; loaded before the queues from the cores are drained, and then given to [`Front::advance`] (rule 13).
    pub fn load_stable(&mut self) -> Revision {
        self.shared.serving()
    }

    /// Before its thread parks: whether it may (rule 2).
    #[must_use]
    pub fn may_park(&self) -> bool {
        self.shared.may_park(self.waiting_for())
    }

    /// What may be shown, as it was loaded last.
    pub fn stable(&self) -> Revision {
        self.stable
    }

    /// Whether there is a reign to serve in.
    pub fn leads(&self) -> bool {
        self.shared.leading().is_some()
    }

    /// After a park: nobody need wake this front.
    pub fn unparked(&self) {
        self.shared.unparked();
    }
}
