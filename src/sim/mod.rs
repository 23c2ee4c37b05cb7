//! The simulation: one member, its disk, its clients and its clock in one thread, and one seed that decides what happens when.
//!
//! The member is the real one: the cores and fronts, recovery and assembly that the server runs, on a twin of the pump that stops
//! between any two pieces of an executor's round, so that the others come in between.
//!
//! ```text
//!   seed ─▶ world ─┬─▶ clients ── calls, messages ──▶ member ─┬─ executor: core, front
//!                  │      ▲                             │      └─ executor …
//!                  │      └── answers, events ◀─────────┤
//!                  │                │                   └─ disk work ─▶ disk: keeps, loses, tears unsynced blocks
//!                  │                ▼
//!                  │             history: the truth of each revision, and what was answered ─▶ Violation
//!                  └─▶ power failure at any step, a disk that is full for a while, a log that stands still, restart with other numbers of cores and fronts
//! ```
//!
//! Checked, each by a function: every answer is what a naive store says at its revision (`History::check`); what was answered or shown
//! is there after a failure, with the same revision (`History::audit`, `History::finish`); what was in doubt is there whole or not at
//! all; revisions are gapless, and made by somebody, who made no other (`History::finish`); no answer is of an older revision than one shown before it was
//! asked (`History::told`); watches lose, double, reorder and split nothing (`Watched::check`); leases that are gone stay gone, and
//! those that must be there are (`leases`); the hash of a revision is always the same (`History::hashed`); everything asked is answered when the
//! faults stop, and the WAL at rest is short (`world`).
//!
//! `etcring sim --seed N` replays a seed. Rank 9.

mod clients;
mod disk;
mod disk_work;
mod executor;
mod history;
mod leases;
mod matching;
mod member;
mod model;
mod watch;
mod world;

pub use world::{Options, Report, Violation, command, run};

#[cfg(test)]
mod reads_test;
#[cfg(test)]
mod sim_test;
