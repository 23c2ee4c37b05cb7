//! What the pumps ask of the world: a clock, tasks, timers, files and sockets.
//!
//! Traits only: glommio stands behind them in `runtime`, the simulator's disk and clock in `sim`. Everything here runs on one executor
//! and needs no `Send`; what crosses cores goes through flume's queues, which wake any executor (spawn their receivers as
//! [`Urgency::Prompt`]).
//!
//! | trait | what it gives |
//! | --- | --- |
//! | [`Clock`] | the process's monotonic clock |
//! | [`Tasks`] | local tasks and sleeps |
//! | [`Disk`], [`File`] | files in whole blocks past the page cache, directories |
//! | [`Network`], [`Listener`] | TCP, as tokio's `AsyncRead` and `AsyncWrite` (the traits, not the runtime) |

mod clock;
mod disk;
mod network;

pub use clock::{Clock, Tasks, Urgency};
pub use disk::{DirectoryEntry, Disk, Durability, File, Open, OpenMode};
pub use network::{Listener, Network};
