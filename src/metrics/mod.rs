//! What the member counts and measures, and its text for Prometheus, with etcd's names where etcd has the thing.
//!
//! ```text
//!  core 0 ─ Recorder ─► cells ─┐
//!  core 1 ─ Recorder ─► cells ─┼─ Reader ─► render(readers, MemberFigures, ProcessFigures) ─► text
//!  front 0 ─ Recorder ► cells ─┘
//! ```
//!
//! Rank 1, pure. Each core owns one [`Recorder`] and is the only one that writes its cells, so an update is a plain load, add
//! and store of one word found by an enum: no hashing, no lock, no read-modify-write. Whoever answers /metrics holds a
//! [`Reader`] of every core and adds up.
//!
//! Invariants
//! - One writer per set of cells: a `Recorder` can neither be cloned nor shared between threads.
//! - A family is here only if something in etcring is what it measures. What etcd has and etcring has not is left out.
//! - Counters only rise, and a histogram's count is the sum of its buckets.

mod buckets;
mod cells;
mod family;
mod figures;
mod names;
mod render;
mod rpc;

pub use cells::{ClientVersion, Reader, Recorder};
pub use figures::{MemberFigures, ProcessFigures};
pub use names::{CallKind, Counter, Gauge, HealthCheck, Histogram, Operation};
pub use render::render;
pub use rpc::{CODES, Rpc};

#[cfg(test)]
#[path = "metrics_test.rs"]
mod tests;
