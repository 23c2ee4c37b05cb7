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

// pages
/// The trees that one page file may hold.
pub const TREES_MAX: usize = 8;
/// The most levels of a tree: branches hold at least three children when they are split, and a file ends at [`FILE_PAGES_MAX`].
pub const TREE_LEVELS_MAX: usize = 24;
/// The longest key of a tree.
pub const TREE_KEY_BYTES_MAX: usize = 4 << 20;
/// The longest value of a tree.
pub const TREE_VALUE_BYTES_MAX: usize = 512 << 20;
/// The longest note that a checkpoint stores for its caller.
pub const CHECKPOINT_NOTE_BYTES_MAX: usize = 3 << 10;
/// The most pages of one page file (2 TB): what the directories of one meta page can name.
pub const FILE_PAGES_MAX: u32 = 512_000_000;
/// The most buffers that a page store keeps for reuse.
pub const SPARE_PAGES_MAX: usize = 256;
/// The most frames that one call of evict looks at.
pub const EVICT_FRAMES_MAX: usize = 4096;
/// The most read views pinned at one time in one page store.
pub const VIEWS_MAX: usize = 1024;
/// The most errors that one walk of a page file lists.
pub const CHECK_ERRORS_MAX: usize = 100;
// wal

/// Groups that one WAL can name: as many as a [`super::GroupSet`] holds.
pub const WAL_GROUPS_MAX: usize = 128;
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
// raft
/// The most members of a cluster, learners included.
pub const MEMBERS_MAX: usize = 32;
/// The most payload bytes of one append to a peer (one entry may exceed it alone).
pub const APPEND_BYTES_MAX: usize = 1 << 20;
/// The most entries of one append to a peer.
pub const APPEND_ENTRIES_MAX: usize = 4096;
/// Appends to one peer and group that may be under way without an acknowledgement.
pub const APPENDS_IN_FLIGHT_MAX: usize = 64;
/// Payload bytes to one peer and group that may be under way without an acknowledgement.
pub const APPEND_BYTES_IN_FLIGHT_MAX: usize = 16 << 20;
// config
/// What a gRPC message may have on top of --max-request-bytes, as in etcd.
pub const MESSAGE_OVERHEAD_BYTES: usize = 512 << 10;
/// The most that --max-request-bytes may say: what is made of a request has to fit one WAL batch.
pub const REQUEST_BYTES_MAX: usize = BATCH_BYTES_MAX - (1 << 20);
/// The most cores of one kind that a member may have.
pub const CORES_MAX: usize = 64;

// server
/// Memory that an executor locks for its rings.
pub const LOCKED_BYTES_PER_EXECUTOR: u64 = 512 << 10;
// runtime
/// Memory that an executor registers with io_uring for its disk I/O; larger or more I/O takes it from the heap.
pub const EXECUTOR_IO_BYTES: usize = 1 << 20;
/// Entries of each io_uring of an executor.
pub const EXECUTOR_RING_ENTRIES: usize = 128;
/// What is zero-filled at a time, so that other work comes in between.
pub const FILL_SLICE_BYTES: usize = 1 << 20;
/// Connections that the system keeps for a listener until they are accepted.
pub const LISTEN_BACKLOG: i32 = 4096;
// metrics
/// Versions of clients' APIs that are counted apart; all further ones are counted together.
pub const CLIENT_VERSIONS_MAX: usize = 16;
