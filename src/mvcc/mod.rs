//! The versions of one shard's keys: written in the order of their revisions, read at any revision.
//!
//! Three trees of the shard's page store (`key.rs` has their keys):
//!
//! ```text
//! KEYS       a b@9 b@4 b@2† c@7 ...   key, then newest first -> fields              what a key is at any revision is one descent
//! REVISIONS  2.0 b  4.0 b  7.0 c ...  every change, oldest first -> fields, value   values, events, compaction, hashing
//! LEASES     lease, key               -> nothing                                    what a revocation deletes
//! ```
//!
//! Values are written where the newest ones are, side by side, whatever their keys: a put changes a small cell among the keys, and pages
//! full of values are written to the disk once.
//!
//! Above the store lies the overlay: changes that have their revision and are not yet applied. A read takes both, and a place in the
//! history ([`At`]). Nothing here waits: a page that is not in memory is a `Fault`, and what takes long is done in slices that give
//! a continuation.
//!
//! Invariants:
//! - A version has exactly one entry in KEYS and one in REVISIONS; both come and go in the same step. Only while a compaction sweeps
//!   (`sweep.rs`), what it has taken out of KEYS may be in REVISIONS still.
//! - A version and a change never change, but for the weight. So the place of a value that KEYS names is a hint: whatever copy of the
//!   change is there says the same; if none is, the tree is asked.
//! - The newest version of a key has weight 1 in KEYS iff it is a put; all others have weight 0.
//! - A key is in LEASES under a lease iff its newest version is a put with that lease.
//! - What a read below the compaction floor would see is not defined; from the floor up it never changes.

mod change;
mod compact;
mod events;
pub mod hash;
mod key;
mod leases;
mod overlay;
mod read;
mod record;
mod store;
pub mod stored;
mod sweep;
mod values;
mod walk;

pub use change::{At, Budget, Change, Span};
pub use compact::{Compacted, Compaction};
pub use events::{Event, EventChunk, EventsQuery, EventsResume};
pub use leases::Attached;
pub use overlay::{Overlay, OverlayPut};
pub use read::{Chunk, Counted, Filters, RangeQuery, View};
pub use record::{KeyState, Kind, PutFields, Value};
pub use store::{Applying, Mvcc};
