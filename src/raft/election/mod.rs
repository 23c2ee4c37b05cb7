//! The election: one per member, for all its groups. Terms, votes, freezing, taking over, standing down (rules 6 to 11).
//!
//! ```text
//!                 timeout            pre-votes              votes of a quorum         barriers
//!   follower ---------------> pre-candidate ----> candidate ------------> taking over ------> open
//!      ^                            |                 |                        |               |
//!      |        leader heard,       |                 |                        |               |
//!      +---- later term, stood down +-----------------+------------------------+---------------+
//!
//!   Entering a term, whoever enters it and why, is one move:
//!   persist (term, vote) -> freeze all cores -> all reported -> end the old reign -> vote, count the own vote, or follow
//! ```
//!
//! Invariants:
//! - the term never falls, and in a term at most one vote is given;
//! - a vote leaves after it is on disk, after all cores froze and after the reign that this member led has ended (rules 6 and 7);
//! - a candidate takes over when its votes are a quorum of the configuration in every group's merged log (rule 8);
//! - a candidate that restarts never resumes its term: it enters the next one.
//!
//! One event goes in, effects come out; time and chance are passed in.

mod campaign;
mod event;
mod member;
mod moving;
mod patience;
mod reigning;

pub use event::{Effect, ElectionBody, ElectionMessage, Event, LogExtent, MergedLog, Vote};
pub use member::{Election, Options};
pub use patience::{Awaited, What};
