//! The calls under way, what each is doing, and when each gives up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;
use hashbrown::HashMap;

use crate::base::{Instant, Revision};
use crate::proto::etcdserverpb as pb;

use super::call::{CallId, Method};
use super::hash::HashCall;
use super::lease::{KeepAlives, TimeToLive};
use super::reads::Reads;
use super::stream::RangeStream;

/// What a call is doing.
pub enum Step {
    /// Its first message has not come.
    Fresh,
    /// Its message is here, and waits for a reign.
    Parked(Bytes),
    /// Evaluated by a core; what its answer is made of.
    Write(WriteKind),
    /// Reading one key; then it answers, with this revision in the header.
    Get(Revision),
    /// Reading; then it answers.
    Reads(Box<Reads>),
    /// A RangeStream.
    Stream(Box<RangeStream>),
    /// Asked of core 0; what its answer is made of.
    Order(OrderKind),
    /// A TimeToLive that gathers keys.
    TimeToLive(Box<TimeToLive>),
    /// A hash of the store.
    Hash(Box<HashCall>),
    /// A stream of keep-alives.
    KeepAlives(Box<KeepAlives>),
    /// A watch stream; the hub has the rest.
    Watch,
    /// A health watch: it was answered and stays open.
    HealthWatch,
}

/// What a write's answer is made of.
pub enum WriteKind {
    /// A put.
    Put,
    /// A delete; kept when its previous values may have to be read.
    Delete(Option<Box<pb::DeleteRangeRequest>>),
    /// A txn.
    Txn,
}

/// What an order's answer is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OrderKind {
    /// LeaseGrant.
    Grant,
    /// LeaseRevoke.
    Revoke,
    /// LeaseTimeToLive, with keys or without.
    TimeToLive {
        /// Whether the attached keys are wanted.
        keys: bool,
        /// The lease.
        id: i64,
    },
    /// LeaseLeases.
    Leases,
    /// Compact.
    Compact,
    /// Alarm.
    Alarm,
    /// The quota is used up: the alarm is raised first, then the call is refused.
    Quota,
    /// Defragment.
    Defragment,
}

/// A call under way.
pub struct Call {
    /// What was called.
    pub method: Method,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// When etcd would stop waiting.
    pub limit: Instant,
    /// End it when there is no leader.
    pub require_leader: bool,
    /// What it is doing.
    pub step: Step,
    /// The revisions that its reads keep from being removed.
    pub holds: Few<Revision>,
    /// The tickets of what it has asked the cores and was not answered, to be cancelled when the call ends.
    pub asked: Few<u64>,
}

/// What a call has of a kind. Most calls have one, which costs no memory of its own.
pub struct Few<T> {
    first: Option<T>,
    rest: Vec<T>,
}

impl<T> Default for Few<T> {
    fn default() -> Few<T> {
        Few { first: None, rest: Vec::new() }
    }
}

impl<T: Copy + PartialEq> Few<T> {
    /// One more.
    pub fn push(&mut self, item: T) {
        match self.first {
            None => self.first = Some(item),
            Some(_) => self.rest.push(item),
        }
    }

    /// One less, if it is there.
    pub fn remove(&mut self, item: T) {
        if self.first == Some(item) {
            self.first = None;
        } else if let Some(at) = self.rest.iter().position(|one| *one == item) {
            self.rest.swap_remove(at);
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        self.first.into_iter().chain(self.rest.iter().copied())
    }
}

impl Call {
    /// When it gives up.
    pub fn expires(&self) -> Instant {
        self.limit.min(self.deadline.unwrap_or(Instant::MAX))
    }
}

/// What is due at an instant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Due {
    /// Look whether a call has expired.
    Expiry(CallId),
    /// A watch stream's progress notification.
    Progress(CallId),
    /// End the streams that asked for a leader.
    Leaderless,
    /// Ask again for changes that were not there yet.
    CatchUp(u64),
    /// The hub has rested.
    Release,
}

/// All calls, and the timers.
#[derive(Default)]
pub struct Calls {
    calls: HashMap<CallId, Call>,
    timers: BinaryHeap<Reverse<(Instant, Due)>>,
}

impl Calls {
    /// A new call.
    pub fn insert(&mut self, id: CallId, call: Call) {
        let before = self.calls.insert(id, call);
        assert!(before.is_none(), "a call's id is never used twice");
    }

    /// A call, if it is still there.
    pub fn get(&mut self, id: CallId) -> Option<&mut Call> {
        self.calls.get_mut(&id)
    }

    /// A call that is over.
    pub fn remove(&mut self, id: CallId) -> Option<Call> {
        self.calls.remove(&id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// All of them.
    pub fn ids(&self) -> impl Iterator<Item = (CallId, &Call)> {
        self.calls.iter().map(|(&id, call)| (id, call))
    }

    /// Sets a timer.
    pub fn at(&mut self, when: Instant, due: Due) {
        if when == Instant::MAX {
            return;
        }
        self.timers.push(Reverse((when, due)));
        // Timers of calls that are over are swept when they are the larger part.
        if self.timers.len() > 4 * self.calls.len() + 1024 {
            let calls = &self.calls;
            self.timers.retain(|Reverse((_, due))| match due {
                Due::Expiry(id) | Due::Progress(id) => calls.contains_key(id),
                Due::Leaderless | Due::CatchUp(_) | Due::Release => true,
            });
        }
    }

    /// The next timer, due or not.
    pub fn next_at(&self) -> Instant {
        self.timers.peek().map_or(Instant::MAX, |Reverse((when, _))| *when)
    }

    /// A timer that is due.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        if self.next_at() > now {
            return None;
        }
        self.timers.pop().map(|Reverse((_, due))| due)
    }
}
