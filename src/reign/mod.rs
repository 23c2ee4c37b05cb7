//! The only memory that cores share: two sets of plain padded atomics (striped-raft, "The idea").
//!
//! ```text
//!   Reign, one per opened term, on its leader            Board, one per process
//!   +--------------------------------------------+       +--------------------------------------------+
//!   | next revision        fetch_add by takers   |       | serving V, compact floor        fetch_max  |
//!   | stable W             fetch_max by raisers  |       | auth revision, alarms           group 0    |
//!   | coordinator's slot   its thread alone      |       | applied, bytes used per group   its thread |
//!   | slot + quorum index  per group, its thread |       | waiting for, read floor, loop counter      |
//!   | closed               core 0                |       |                      per seat, its thread  |
//!   +--------------------------------------------+       +--------------------------------------------+
//! ```
//!
//! Invariants:
//! - every revision that is taken and not yet on disk at a quorum is covered by a slot at or below it, or is at or above the
//!   `next revision` that a computation of W loaded first (rules 1 and 2); so no such revision is ever at or below `stable`;
//! - each value has one writing thread, or only ever rises;
//! - an owner's slot is at [`Revision::MAX`](crate::base::Revision::MAX) exactly when nothing that it took is on its way;
//! - a seat that parks has published what it waits for before it looked at `stable` for the last time, and whoever raises
//!   `stable` looks at the seats afterwards, with fences between: no wake is missed.
//!
//! Rank 1. Nothing here blocks, allocates after construction, or knows how a core is woken.

mod board;
#[cfg(all(test, loom))]
mod loom_test;
mod mutant;
#[allow(clippy::module_inception, reason = "the module is named after its main type")]
mod reign;
mod sync;

pub use board::{Board, BoardSizes, Parked, Seat};
pub use reign::{Owner, Reign};
