//! Raft, in two halves that know neither clock nor disk nor network: one [`Election`] per member, one
//! [`Replication`] per group (docs/striped-raft.md; terms and rules as in the raft thesis and etcd-io/raft).
//!
//! ```text
//!   proposals, messages, "on disk"            messages, ticks, "on disk", "frozen"
//!            |                                            |
//!            v                                            v
//!     +-------------+   Ready: write, send, apply   +----------+   effects: persist the vote, freeze,
//!     | Replication | ---------------------------->  | Election | ----------------------------> send, take over,
//!     +-------------+                               +----------+   follow, end the reign
//! ```
//!
//! What they share is what [`merge`] computes at a takeover: how far the merged logs reach without a gap, and where each is cut.
//!
//! Invariants: nothing is acknowledged or applied that is not on this disk; nothing of a lower term is accepted; the commit
//! index lies at or below the quorum index, and no entry up to it counts as more than the stable revision; what is committed
//! is never cut.
//!
//! Rank 1. The payload of an entry is the state layer's: raft knows its mark alone.

mod configuration;
mod election;
mod following;
mod leading;
mod log;
pub mod merge;
mod message;
mod progress;
mod replication;
#[cfg(test)]
mod script_test;

pub use configuration::Configuration;
pub use election::{
    Awaited, Effect, Election, ElectionBody, ElectionMessage, Event, LogExtent, MergedLog, Options, Vote, What,
};
pub use log::{BadLog, Log, Position, Span};
pub use message::{Append, Body, Message};
pub use progress::{Progress, Sending};
pub use replication::{BadMessage, BadStart, GroupReport, Heard, Persist, Ready, Replication, Role, Start};
