//! Every bound of the program, by name. A queue, batch, cache, loop or recursion without one is a bug.

/// What O_DIRECT reads and writes in, and the unit of the WAL.
pub const BLOCK_BYTES: usize = 4096;
/// A page of the page store.
pub const PAGE_BYTES: usize = 4096;
/// The most shards a cluster may have (group 0 comes on top).
pub const SHARDS_MAX: usize = 64;
/// The most shards chosen when --shards is not given.
pub const SHARDS_DEFAULT_MAX: usize = 16;
/// The longest user key. etcd has no limit of its own; the page store wants a key to fit a page several times.
pub const PAGE_KEY_BYTES_MAX: usize = 1024;
/// The size of a WAL segment.
pub const SEGMENT_BYTES: usize = 64 << 20;
/// The most bytes of one WAL batch, header and padding included.
pub const BATCH_BYTES_MAX: usize = 16 << 20;
/// Requests that one front may have under way at one shard core.
pub const CREDITS_PER_CORE: usize = 16384;
/// The most keys that a range delete over several shards sends as single events; above, a gap marker goes to the hubs.
pub const RANGE_DELETE_EVENTS_MAX: usize = 1024;

// runtime
/// Memory that an executor registers with io_uring for its disk I/O; larger or more I/O takes it from the heap.
pub const EXECUTOR_IO_BYTES: usize = 1 << 20;
/// Entries of each io_uring of an executor.
pub const EXECUTOR_RING_ENTRIES: usize = 1024;
/// What is zero-filled at a time, so that other work comes in between.
pub const FILL_SLICE_BYTES: usize = 1 << 20;
/// Connections that the system keeps for a listener until they are accepted.
pub const LISTEN_BACKLOG: i32 = 4096;
