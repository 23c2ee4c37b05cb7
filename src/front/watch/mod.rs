//! Watches: the streams of clients, and the hub that brings events to them.
//!
//! ```text
//!   cores ── events, gaps ──> queues per group ── advance(v) ──> one order: (revision, operation, key)
//!                                                                   │ by key
//!                                                                   v
//!      store <── slices ── catch-ups <── unsynced watches        index of synced watches ──> streams
//!                              └───────── caught up ──────────────────^
//! ```
//!
//! Invariants:
//! - a synced watch gets every event of its range above what the hub has released; an unsynced one gets them from the store, from its
//!   `next` revision on, and joins the synced ones exactly when `next` is the first revision not released;
//! - a revision is in one response (unless its parts are marked as fragments), and goes to a watch once; revisions that are released
//!   together share a response, so that a load that is too much for one response per revision makes larger ones;
//! - a stream has no more than a named number of bytes on its way, beside one response; what does not fit is not kept but read again.

mod catchup;
mod hub;
mod index;
mod release;
mod respond;
mod stream;

pub use hub::Hub;
