//! What a leader knows of one peer's log (etcd-io/raft's `tracker.Progress`).
//!
//! ```text
//!            ack                        reject, link lost
//!   probe ---------> replicate   replicate ---------> probe
//!     ^   sends one append         sends appends one after the other,
//!     |   and waits                up to the bounds in flight
//!     |
//!     +-- snapshot: what it needs next is compacted; nothing is sent until the snapshot is there
//! ```
//!
//! Invariants: matched < next; what is in flight lies in [matched + 1, next - 1], ascending.

use std::collections::VecDeque;

use crate::base::Index;
use crate::base::limits::{APPEND_BYTES_IN_FLIGHT_MAX, APPENDS_IN_FLIGHT_MAX};

use super::Position;

/// How entries go to a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sending {
    /// Where its log ends is not known: one append at a time, the next when it is answered.
    Probe {
        /// One is under way.
        waits: bool,
    },
    /// It takes what is sent: appends follow each other without waiting.
    Replicate,
    /// It needs what is compacted here: a snapshot is on its way.
    Snapshot,
}

/// One peer's progress, as its leader knows it.
#[derive(Clone, Debug)]
pub struct Progress {
    matched: Index,
    next: Index,
    sending: Sending,
    /// Last index and bytes of each append under way.
    in_flight: VecDeque<(Index, usize)>,
    in_flight_bytes: usize,
    /// The highest commit index that it was told.
    commit_sent: Index,
    room_bytes: u64,
}

impl Progress {
    /// Nothing is known; the first probe goes after `last`.
    pub(super) fn new(last: Index) -> Progress {
        Progress {
            matched: Index::ZERO,
            next: last.next(),
            sending: Sending::Probe { waits: false },
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            commit_sent: Index::ZERO,
            room_bytes: u64::MAX,
        }
    }

    /// Up to here its log is the leader's, on its disk.
    pub const fn matched(&self) -> Index {
        self.matched
    }

    /// The next entry to send.
    pub const fn next(&self) -> Index {
        self.next
    }

    /// How entries go to it.
    pub const fn sending(&self) -> Sending {
        self.sending
    }

    /// The bytes of log that it last said it has room for.
    pub const fn room_bytes(&self) -> u64 {
        self.room_bytes
    }

    pub(super) const fn commit_sent(&self) -> Index {
        self.commit_sent
    }

    /// Whether an append may leave now.
    pub(super) fn may_send(&self) -> bool {
        match self.sending {
            Sending::Probe { waits } => !waits,
            Sending::Replicate => {
                self.in_flight.len() < APPENDS_IN_FLIGHT_MAX && self.in_flight_bytes < APPEND_BYTES_IN_FLIGHT_MAX
            }
            Sending::Snapshot => false,
        }
    }

    /// An append with entries up to `last` (below `next` when it had none) leaves, telling `commit`.
    pub(super) fn sent(&mut self, last: Index, bytes: usize, commit: Index) {
        self.commit_sent = self.commit_sent.max(commit);
        match &mut self.sending {
            Sending::Probe { waits } => *waits = true,
            Sending::Replicate => {
                if last >= self.next {
                    self.next = last.next();
                    self.in_flight.push_back((last, bytes));
                    self.in_flight_bytes += bytes;
                }
            }
            Sending::Snapshot => unreachable!("nothing is sent while a snapshot is on its way"),
        }
    }

    /// It has the log up to `index` on disk. Whether that was news.
    pub(super) fn acknowledged(&mut self, index: Index, room_bytes: u64) -> bool {
        self.room_bytes = room_bytes;
        while self.in_flight.front().is_some_and(|&(last, _)| last <= index) {
            let (_, bytes) = self.in_flight.pop_front().expect("there is a front");
            self.in_flight_bytes -= bytes;
        }
        let news = index > self.matched;
        self.matched = self.matched.max(index);
        self.next = self.next.max(self.matched.next());
        match self.sending {
            Sending::Probe { .. } => self.replicate(),
            Sending::Snapshot if news => self.probe(),
            Sending::Snapshot | Sending::Replicate => {}
        }
        news
    }

    /// It has no entry of the leader's at `previous`; its log may agree at `hint` (both as the leader's log has them).
    pub(super) fn rejected(&mut self, previous: Index, hint: Position) {
        match self.sending {
            // An answer to an append from before what is known by now.
            Sending::Replicate if previous <= self.matched => {}
            Sending::Replicate => self.probe(),
            Sending::Probe { .. } if self.next != previous.next() => {}
            Sending::Probe { .. } => {
                self.next = previous.min(hint.index.next()).max(self.matched.next());
                self.sending = Sending::Probe { waits: false };
            }
            Sending::Snapshot => {}
        }
    }

    /// Back to probing after what is known to match.
    pub(super) fn probe(&mut self) {
        self.next = self.matched.next();
        self.sending = Sending::Probe { waits: false };
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.commit_sent = Index::ZERO;
    }

    fn replicate(&mut self) {
        self.next = self.matched.next();
        self.sending = Sending::Replicate;
        self.in_flight.clear();
        self.in_flight_bytes = 0;
    }

    /// What it needs next is compacted.
    pub(super) fn wants_snapshot(&mut self) {
        self.probe();
        self.sending = Sending::Snapshot;
    }

    /// The snapshot up to `upto` is installed there; `None`: it failed, and is tried again.
    pub(super) fn snapshot_ended(&mut self, upto: Option<Index>) {
        if self.sending == Sending::Snapshot {
            self.probe();
            if let Some(upto) = upto {
                self.next = self.next.max(upto.next());
            }
        }
    }

    /// A heartbeat was answered: an append that got lost need not be waited for.
    pub(super) fn heard(&mut self) {
        match &mut self.sending {
            Sending::Probe { waits } => *waits = false,
            Sending::Replicate if self.in_flight.len() >= APPENDS_IN_FLIGHT_MAX => {
                let (_, bytes) = self.in_flight.pop_front().expect("it is full");
                self.in_flight_bytes -= bytes;
            }
            Sending::Replicate | Sending::Snapshot => {}
        }
    }
}
