//! The messages of etcd's gRPC API, generated from `proto/` when the program is built.
//!
//! `bytes` fields are [`bytes::Bytes`]: decoding from a `Bytes` shares its memory and copies no value.

#![allow(missing_docs, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
