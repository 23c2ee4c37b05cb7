//! Tests of mvcc and state as one: whole histories over several shards, against a naive store and against a real etcd's hashes.

mod golden;
mod histories;
mod naive;
mod requests;
mod world;
