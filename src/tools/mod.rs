//! The offline tools on the command line: `etcring inspect` and `etcring check`.
//!
//! ```text
//! arguments ──▶ command ──▶ files (read-only maps; the directory's lock) ──▶ inspect ──▶ lines on stdout
//! ```
//!
//! Exit codes: 0, nothing is wrong; 1, something is, and the output says what; 2, it was not looked at: bad usage, no such
//! file, or a directory that is in use or not etcring's.
//!
//! Invariants
//! - Nothing is written, created, renamed or removed: files are opened for reading alone.
//! - While a directory is checked its lock is shared: no member can start on it, another check can.

mod command;
mod files;

pub use command::run;
