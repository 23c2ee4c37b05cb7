//! etcring: a drop-in replacement for etcd, thread-per-core and sharded, with one gapless revision.
//!
//! The modules stand in ranks (ARCHITECTURE.md); a module imports only modules of a lower rank, and `tests/tidy.rs` holds them to it.

pub mod base;
pub mod front;
pub mod gateway;
pub mod io;
pub mod proto;
pub mod rpc;
pub mod runtime;
