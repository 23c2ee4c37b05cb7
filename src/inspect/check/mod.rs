//! Verifies all files of a stopped member: each by itself, the trees of each group against each other, and all of them
//! together. Finds as much as there is, where a start stops at the first thing.
//!
//! ```text
//! page files   every page reached: checksum, place, checkpoint, kind, order of keys, sums of counts and weights;
//!   │          every page either reached once or free
//!   ├─ trees   KEYS, REVISIONS and LEASES of a group say the same; a key lies in its own shard; group 0's records
//! WAL          the decision table of recovery over all runs; then every segment by itself, behind the first damage too;
//!   │          what it says of the page files
//!   ├─ logs    entries decode, follow the checkpoint, and their revisions rise
//! revisions    every revision above the compaction floor, up to the highest that was known to be stable, is in a page file
//!              or in the log of all its groups; those in page files alone are numbered 0, 1, 2 ... inside
//! ```
//!
//! A later step needs what the earlier ones vouch for: trees are compared only in page files that are sound, revisions
//! counted only when files and logs are. What is left out for that reason is said.

mod history;
mod keys;
mod log;
mod member;
mod meta;
mod report;
mod scan;

#[cfg(test)]
mod check_test;

pub use member::{Files, check};
pub use report::{Finding, Listener, Place, Report};
