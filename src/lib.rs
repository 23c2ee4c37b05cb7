//! etcring: a drop-in replacement for etcd, thread-per-core and sharded, with one gapless revision.
//!
//! The modules stand in ranks (ARCHITECTURE.md); a module imports only modules of a lower rank, and `tests/tidy.rs` holds them to it.

pub mod base;

pub mod config;
pub mod io;
pub mod metrics;
pub mod pages;
pub mod proto;
pub mod raft;
pub mod reign;
pub mod wal;

pub mod mvcc;

pub mod state;

pub mod group;

pub mod coordinator;
pub mod inspect;
pub mod shard;

pub mod front;

pub mod gateway;
pub mod pump;
pub mod rpc;

pub mod runtime;

pub mod bench;
pub mod server;
pub mod sim;
pub mod tools;
