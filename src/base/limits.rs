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

// mvcc and state
/// The most keys that applying a range delete looks up at once.
pub const APPLY_DELETES_BATCH: usize = 256;
/// The most changes that a slice of compaction looks up at once.
pub const COMPACT_BATCH: usize = 64;
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
