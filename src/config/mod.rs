//! What the command line and the environment say, as typed values.
//!
//! Rank 1, pure: arguments and variables come in as values, and nothing here reads a file, a clock or the process.
//!
//! ```text
//!  args ──┐                     table (name, kind, default, class)
//!         ├─ parse ─► Settings ───────────────┬─► Config  (what etcring does)
//!  env ───┘            (raw, per flag)        ├─► warnings (accepted, but without effect here)
//!                                             └─► ConfigError{exit_code, message}
//! ```
//!
//! Invariants
//! - The flags, their syntax, their variables and the texts of their errors are those of etcd 3.7.1 (its `etcdmain`, `embed` and Go's `flag`).
//! - A flag that would promise something etcring does not do yet is refused, never accepted in silence.
//! - What a flag means is decided in one place: the table says what exists, `settings` what it means, `bootstrap` what a first start needs.

mod bootstrap;
mod cpus;
mod go;
mod parse;
mod settings;
mod table;
mod text;
mod url;

pub use bootstrap::InitialMember;
pub use cpus::Cpus;
pub use go::{go_duration, go_quote, parse_duration};
pub use parse::{ConfigError, EXIT_REFUSED, EXIT_USAGE, Parsed, parse};
pub use settings::{AutoCompaction, Config, InitialClusterState, LogLevel, Quota, min_lease_ttl_seconds};
pub use table::{Class, FLAGS, Flag, Kind, OWN_PREFIX, find};
pub use text::{CLUSTER_VERSION, ETCD_VERSION, ETCRING_VERSION, STORAGE_VERSION, USAGE, help, version};
pub use url::{Scheme, Url};

#[cfg(test)]
#[path = "parse_test.rs"]
mod tests;
