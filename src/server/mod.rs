//! Assembly and start-up: what the process finds, takes and says before, while and after its cores run.
//!
//! Rank 9. The files here are thin where they touch the system, and pure where they decide:
//!
//! ```text
//!  probe     may we run here                            (kernel, io_uring, limits, direct I/O)
//!  cores     how many CPUs, and which cores on them     (affinity, cgroup, --cpus, --front-cores)
//!  datadir   the member's directories and file names    (LOCK, FORMAT, group-NNN.pages, RUN-CORE-SEQ.wal)
//!  identity  the ids of member and cluster              (as etcd computes them)
//!  logging   one JSON object per line on stderr         (as etcd's zap writes them)
//!  memory    how much there is                        (/proc/meminfo, cgroup)
//!  notify    "ready" and "stopping" for systemd
//!  recover   what the files hold                       (checkpoints, WALs; every damage named)
//!  signals   SIGTERM and SIGINT, waited for
//!  start     from flags to threads and listeners, and back
//!  thread    what one executor runs
//!  allocator when free memory goes back to the system (the main thread does it)
//!  process   what /proc says of the process             (for /metrics)
//! ```

mod allocator;
pub mod cores;
pub mod datadir;
mod http;
pub mod identity;
pub mod logging;
mod memory;
pub mod notify;
pub mod probe;
pub mod process;
pub mod recover;
pub mod signals;
pub mod start;
pub mod thread;
