//! The front: calls in, answers out. Routing, validation, merging over shards, watch streams, etcd's error texts; no I/O.
//!
//! ```text
//!   transport: open, message, half_close, cancel, sent          pump: advance(V), tick
//!        │                                                         │
//!        v                                                         v
//!   call table ── validate ── kv / txn / lease / maintenance    answers that wait for a revision
//!        │                        │        ^                       ^       hub ── watch streams
//!        │                        v        │ reads: jobs per group │        ^
//!        └── effects <──────── tickets, one credit each ── cores: answers, events
//! ```
//!
//! Invariants:
//! - what is shown is stable: an answer leaves when the revision that it rests on is, in the term in which it was made (rules 3, 14);
//! - every request to a core spends a credit and is answered once, so queues to and from cores stay bounded;
//! - what ranges gather and clients do not take is bounded, and what waits for room goes on in the order in which it came;
//! - a read keeps its revision from being removed for as long as it takes (rule 16);
//! - no call is forgotten: each ends by an answer, a status, its deadline, or its client.
//!
//! Rank 6.

pub mod call;
mod calls;
mod config;
mod dispatch;
mod encode;
pub mod errors;
#[allow(clippy::module_inception, reason = "the module is named after its main type")]
mod front;
mod hash;
mod kv;
mod lease;
mod maintenance;
mod merge;
mod nested;
mod range;
mod reads;
mod room;
mod shared;
mod stream;
mod tickets;
mod txn;
mod validate;
mod waiting;
mod watch;

pub use call::{
    CallId, CallOptions, Code, Kind, MESSAGE_PREFIX_BYTES, Method, PathError, Status, frame, frames, message_prefix,
};
pub use config::{Config, Layout, QUOTA_DEFAULT_BYTES, STORAGE_VERSION, VERSION};
pub use front::{Counts, Front, FrontEffect, Load};
pub use room::RoomSize;
pub use shared::alarm_bit;

#[cfg(test)]
mod tests;
