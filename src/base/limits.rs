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

// wal

/// Groups that one WAL can name: as many as a [`super::GroupSet`] holds.
pub const WAL_GROUPS_MAX: usize = 128;
/// The highest index, run or sequence that is taken from disk, so that counting on from one never overflows.
pub const WAL_INDEX_MAX: u64 = 1 << 62;
/// The most bytes that a record takes in a batch: header and framing of a batch of its own left out.
pub const WAL_RECORD_BYTES_MAX: usize = BATCH_BYTES_MAX - 2 * BLOCK_BYTES;
/// The most bytes of an entry's payload: a record less its fields.
pub const WAL_PAYLOAD_BYTES_MAX: usize = WAL_RECORD_BYTES_MAX - 128;
/// The most bytes that wait in one WAL's pending batches.
pub const WAL_PENDING_BYTES_MAX: usize = 4 * BATCH_BYTES_MAX;
/// What a WAL keeps back for votes, barriers, compaction and what is in flight (rule 18).
pub const WAL_RESERVE_BYTES: usize = 1 << 20;
/// Segments that stand ready behind the current one.
pub const WAL_SEGMENTS_SPARE: usize = 1;
/// The most bytes of a state batch, header and padding included.
pub const WAL_STATE_BYTES_MAX: usize = 4 << 20;
/// The most bytes of a configuration in a state batch.
pub const WAL_CONFIGURATION_BYTES_MAX: usize = 16 << 10;
/// The most earlier WALs whose ends a state batch records.
pub const WAL_ENDS_MAX: usize = 16384;
/// The most segment files that a recovery looks at.
pub const WAL_SEGMENTS_MAX: usize = 65536;
/// Buffers that a WAL keeps for its next batches.
pub const WAL_BUFFERS_KEPT: usize = 2;
/// A larger buffer than this is not kept.
pub const WAL_BUFFER_KEPT_BYTES_MAX: usize = 2 << 20;
/// What a new batch buffer begins with.
pub const WAL_BUFFER_BYTES_MIN: usize = 64 << 10;
