//! The ground everything stands on: ids and units as types, instants, chance, aligned buffers, limits.
//!
//! Rank 0. Nothing here reads a clock, a file, a socket or the system's randomness: instants and seeds are passed in.

mod buffer;
mod entry;
mod ids;
pub mod limits;
pub mod mutant;
mod prng;
mod range;
mod time;
pub mod wire;

pub use buffer::AlignedBuffer;
pub use entry::{Entry, GroupSet, Mark};
pub use ids::{
    BatchNumber, ClusterId, CoreId, FrontId, GroupId, Index, LeaseId, MemberId, Revision, RunNumber, SegmentSequence, Term,
};
pub use prng::Prng;
pub use range::{KeyRange, RangeEnd, group_of};
pub use time::Instant;
