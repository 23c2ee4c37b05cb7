//! `etcring bench`: a load generator for any server that speaks etcd's API.
//!
//! ```text
//!  Options ──► Load (what is asked, when it is due) ──► Channel (one HTTP/2 connection, many calls)
//!                 │ each answer: latency, or the error
//!                 ▼
//!              Meter (histograms, one sample per second) ──► Report: text, JSON, SVG
//!                                                                         │ of many runs
//!                                                                         ▼
//!                                            Table: medians and ratios, as Markdown and SVG
//! ```
//!
//! Invariants
//! - With a rate, latency counts from when a request was due, not from when it was sent: a stall of the server is in the figures of
//!   every request that it held up.
//! - An answer is a success only with grpc-status 0 and a message that decodes. Errors are counted by their text, never left out.
//! - What happens in the warm-up is in no figure.
//! - The server's CPU time and memory are the kernel's words for the process that --server-pid names.

mod channel;
mod command;
mod keys;
mod load;
mod meter;
mod options;
mod plot;
mod process;
mod ratios;
mod report;
mod requests;
mod setup;
mod table;
mod watch;

pub use command::command;
