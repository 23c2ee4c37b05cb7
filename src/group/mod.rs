//! One replica of one group: its log, its state machine, and the checkpoints that let the log be forgotten, in the right order.
//!
//! ```text
//!  propose ─▶ log ─▶ WAL (the core's) ─▶ persisted ─▶ quorum ─▶ commit (≤ W) ─▶ apply ─▶ checkpoint ─▶ log compacted
//! ```
//!
//! Invariants:
//! - an entry is applied once it is committed and on this member's disk, in order of its index, and once (rule 5);
//! - what a checkpoint holds is exactly the entries up to the applied index in its note;
//! - the log is compacted only up to an applied index whose checkpoint is durable.
//!
//! Nothing here does I/O: pages to read and checkpoints to write are values.

mod ahead;
mod apply;
mod checkpoint;
mod note;
mod replica;

#[cfg(test)]
mod apply_test;

pub use apply::{Applied, ApplyError};
pub use checkpoint::{CheckpointPolicy, CheckpointStep};
pub use note::Note;
pub use replica::{Machine, Replica, Stamp};
