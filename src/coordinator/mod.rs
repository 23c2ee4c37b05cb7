//! Core 0's part beside its shards: the election, requests over several shards, leases, group 0's proposals.
//!
//! ```text
//!   orders from fronts ──▶ ┌────────────┐ ──▶ Hold / Commit / Release to the shards' cores
//!   Held, Adopted      ──▶ │   Chief    │ ──▶ proposals for group 0
//!   group 0 applied    ──▶ └────────────┘ ──▶ answers to fronts
//! ```
//!
//! Invariants:
//! - a revision that the coordinator took is covered by its own slot until every participant has adopted it (rule 4);
//! - operations that hold a common group run one after the other; each holds all its groups before it takes a revision;
//! - what group 0 is told is answered when group 0 has applied it, and the shards were told before.

mod auto_compaction;
mod chief;
mod leases;
mod lessor;
mod meta;
mod operations;
mod takeover;

pub use chief::{Action, Chief, ChiefFigures, ChiefParts};
