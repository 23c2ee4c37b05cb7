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

// front

/// The longest TTL of a lease, in seconds (etcd's).
pub const LEASE_TTL_MAX: i64 = 9_000_000_000;
/// What etcd adds to --max-request-bytes for the largest message that it receives, and for where it fragments watch responses.
pub const REQUEST_OVERHEAD_BYTES: usize = 512 << 10;
/// How deep txns may be nested. etcd's budget of operations bounds it; this holds for any --max-txn-ops.
pub const TXN_DEPTH_MAX: usize = 64;
/// Calls of one front that wait for a reign to begin.
pub const PARKED_CALLS_MAX: usize = 16384;
/// The most keys that a range asks of one group at a time.
pub const RANGE_CHUNK_KEYS_MAX: usize = 4096;
/// Bytes of one watch stream that may be under way to its client; beyond, its watches fall back to the store.
pub const WATCH_STREAM_BYTES_MAX: usize = 1 << 20;
/// The most revisions in one response to a watch that catches up (etcd's).
pub const WATCH_BATCH_REVISIONS_MAX: usize = 1000;
/// Above this many bytes a response to a watch that catches up takes no further revision.
pub const WATCH_BATCH_BYTES: usize = 256 << 10;
/// Watches (those with the same range and start count once) of one front that read the store at the same time.
pub const CATCH_UPS_MAX: usize = 32;
/// The first chunk of a RangeStream, in keys (etcd's).
pub const STREAM_FIRST_KEYS: i64 = 10;
/// Bytes of one RangeStream that may be under way to its client before it reads on.
pub const STREAM_BYTES_MAX: usize = 4 << 20;
/// Keep-alives of one stream that wait for the one before them.
pub const KEEP_ALIVES_MAX: usize = 1024;
/// How often a front looks whether group 0 has committed what an answer rests on, in microseconds.
pub const META_POLL_MICROS: u64 = 500;
/// How long a front waits before it asks again for changes that a core has not applied yet, in microseconds.
pub const CATCH_UP_RETRY_MICROS: u64 = 1000;
