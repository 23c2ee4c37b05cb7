//! What an entry of a log does to the state, and how requests are turned into such entries.
//!
//! ```text
//! request --evaluate--> effects, answer --encode--> entry ... committed --decode--> apply to the store
//!             ^                 |
//!             +---- overlay <---+  (leader only)
//! ```
//!
//! A request is evaluated once, at the leader, against its newest state (overlay over store); what is logged is what it decided.
//! Applying is therefore the same everywhere, and cannot fail but for pages that are not in memory.

pub mod apply;
pub mod evaluate;
pub mod kv;
mod meta;
mod payload;

pub use meta::{META_TREES, MetaEffect, MetaEntry, MetaLoadError, MetaState};
pub use payload::Payload;

#[cfg(test)]
mod model;
