//! Every bound of the program, by name. A queue, batch, cache, loop or recursion without one is a bug.

/// What O_DIRECT reads and writes in, and the unit of the WAL.
pub const BLOCK_BYTES: usize = 4096;
/// A page of the page store. Seven values of 1 KiB fit one; three would fit 4 KiB.
pub const PAGE_BYTES: usize = 8192;
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

// mvcc and state
/// The most keys that applying a range delete looks up at once.
pub const APPLY_DELETES_BATCH: usize = 256;
/// The most changes that a slice of compaction looks up at once.
pub const COMPACT_BATCH: usize = 64;
/// Leaves with the changes behind those that a compaction which waits for a page has read with it.
pub const COMPACT_AHEAD_PAGES: usize = 16;
/// Versions that a slice of a compaction looks at or removes at least: what waits behind it waits for less than a millisecond.
pub const COMPACT_SLICE_VISITS: u32 = 128;
/// While clients ask for something, time earns a core one slice of a compaction, or of its hash, in this long.
pub const COMPACT_SLICE_INTERVAL: std::time::Duration = std::time::Duration::from_millis(2);
/// And each change so many visits more: a compaction that follows takes two for it, its hash a half, so that they gain on clients.
pub const COMPACT_VISITS_PER_CHANGE: u64 = 4;
/// The most visits of one slice: what a round of many changes earns it.
pub const COMPACT_SLICE_VISITS_MAX: u32 = 4096;
/// Bytes of keys and values that count as one version, where a compaction's hash takes them in.
pub const COMPACT_HASH_VERSION_BYTES: usize = 1024;
/// Of the pages in use, the part (one in so many) that a compaction asks for one by one before it goes through all of them in order: about
/// what a page read alone costs more than one of many side by side.
pub const COMPACT_FOLLOW_PART: u64 = 16;
/// Pages that a compaction which goes through all of them reads side by side, at most.
pub const COMPACT_SWEEP_PAGES: usize = 512;
/// Of a group's cache, the part (one in so many) that these pages may take.
pub const COMPACT_SWEEP_CACHE_PART: usize = 16;
/// Of a group's cache, the part (one in so many) that a compaction's marks may take beside it.
pub const COMPACT_MARKS_CACHE_PART: usize = 16;
/// The most keys of the overlay, and changes above the revision read, that an exact count looks at one by one to correct what the
/// weights say; above, it walks. All pages for them have to be in memory at one time.
pub const COUNT_CORRECTIONS_MAX: usize = 1024;
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
/// The most pages of one page file (4 TB): what the directories of one meta page can name.
pub const FILE_PAGES_MAX: u32 = 512_000_000;
/// The most buffers that a page store keeps for reuse.
pub const SPARE_PAGES_MAX: usize = 256;
/// How often cold pages are trimmed: they may take half of the cache only.
pub const TRIM_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);
/// After so many trims without being used a page is cold,
pub const TRIMS_UNTIL_COLD: u32 = 3;
/// and after so many one that was once used again after a pause of a trim or more, or read again after it had been dropped as cold.
pub const TRIMS_UNTIL_RETURNED_COLD: u32 = 60;
/// Of the machine's memory, the part (one in so many) that pages in use may take when --cache-bytes does not say.
pub const HOT_MEMORY_PART: u64 = 8;
/// The most frames that one trim looks at.
pub const TRIM_FRAMES_MAX: usize = 1 << 16;
/// The most frames that one call of evict looks at.
pub const EVICT_FRAMES_MAX: usize = 4096;
/// The most read views pinned at one time in one page store.
pub const VIEWS_MAX: usize = 1024;
/// The most errors that one walk of a page file lists.
pub const CHECK_ERRORS_MAX: usize = 100;
// inspect
/// The most findings that a check lists; further ones are counted.
pub const CHECK_FINDINGS_MAX: u64 = 1000;
/// Entries of a tree that a check takes at a time.
pub const CHECK_SCAN_ENTRIES: usize = 256;
/// Memory for the pages of the group whose trees a check compares.
pub const CHECK_CACHE_BYTES: usize = 64 << 20;
/// Memory for the pages of each group while a check goes through the revisions of all.
pub const CHECK_MERGE_CACHE_BYTES: usize = 1 << 20;
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
/// Threads of an executor for system calls that wait: enough for the WAL's write beside a change of a file's length or name.
pub const EXECUTOR_BLOCKING_THREADS: usize = 2;
/// Entries of each io_uring of an executor.
pub const EXECUTOR_RING_ENTRIES: usize = 1024;
/// What is zero-filled at a time, so that other work comes in between.
pub const FILL_SLICE_BYTES: usize = 1 << 20;
/// Connections that the system keeps for a listener until they are accepted.
pub const LISTEN_BACKLOG: i32 = 4096;
/// What arrives while many connections speak waits for others, as a wake-up for each costs several times what the request does; so long
/// at most.
pub const ARRIVALS_GATHER_MAX: std::time::Duration = std::time::Duration::from_millis(2);
/// Sockets that an executor hears of at once; the others with the next look.
pub const SOCKETS_PER_LOOK_MAX: usize = 128;
// metrics
/// A busy executor looks this often at what it has under way, for /metrics; one that parks does so each time.
pub const METRICS_INTERVAL: std::time::Duration = std::time::Duration::from_millis(10);
/// Versions of clients' APIs that are counted apart; all further ones are counted together.
pub const CLIENT_VERSIONS_MAX: usize = 16;

// group

/// Entries behind the next one to apply that are looked at for the pages that they will want.
pub const APPLY_AHEAD_ENTRIES: u64 = 1024;
/// Of a group's cache, the part (one in so many) that the pages of those entries may take.
pub const APPLY_AHEAD_CACHE_PART: usize = 4;
/// Looks of that kind that wait for a page at one time.
pub const APPLY_AHEAD_READS: usize = 128;
/// Of the cache, the part (one in so many) that is dirty when a checkpoint begins that is worth it,
pub const DIRTY_PART: u64 = 8;
/// and the most bytes of that.
pub const DIRTY_BYTES_MAX: u64 = 64 << 20;
/// Of the memory that pages in use may take, the part (one in so many) that is dirty when a checkpoint begins in any case,
pub const DIRTY_AT_LATEST_PART: u64 = 3;
/// and the most bytes of that.
pub const DIRTY_AT_LATEST_BYTES_MAX: u64 = 1 << 30;
/// Pages of a checkpoint under way and those dirty beside it may come to so many times what a checkpoint begins at at the latest; then
/// applying waits.
pub const UNWRITTEN_SHARES_MAX: u64 = 2;
/// Of that room beside a checkpoint, the part (one in so many) that may be taken before any of it is on disk.
pub const ROOM_AT_ONCE_PART: u64 = 4;
/// Changes that each page of an earlier checkpoint has had, on average, when it is worth to write it again.
pub const CHECKPOINT_CHANGES_PER_PAGE: u64 = 8;
/// Page writes that one step of a checkpoint hands out.
pub const CHECKPOINT_PAGES_PER_STEP: usize = 512;

// shard

/// Entries that a group applies in one round of its core's loop.
pub const APPLY_BATCH_MAX: usize = 4096;
/// Pages that a read which waits for one may have read with it.
pub const READ_AHEAD_PAGES: usize = 64;
/// Versions that a read which waits for a page walks over, to find the values that it will want.
pub const VALUES_AHEAD_VISITS: u32 = 1024;
/// With more pages of a group under way than this, no read has others read with its own.
pub const READ_AHEAD_UNDER_WAY_MAX: usize = 256;
/// Keys that a group deletes in one round of its core's loop, where a range delete or a lease's end deletes many.
pub const APPLY_DELETES_MAX: u32 = 512;
/// Applied changes that a group forgets in one round of its core's loop.
pub const FORGET_BATCH_MAX: usize = 4096;
/// What the reads of a core gather, about, before what else has arrived has its turn: slices of reading, in bytes.
pub const READ_BYTES_PER_ROUND: usize = 8 * SLICE_BYTES_MAX;
/// Entries of a tree that one slice of reading or evaluating looks at.
pub const SLICE_VISITS_MAX: u32 = 2048;
/// Bytes of keys and values that one slice of reading gathers.
pub const SLICE_BYTES_MAX: usize = 512 << 10;
/// Own segments of a WAL from which on checkpoints are made so that old ones become free.
pub const WAL_SEGMENTS_BEFORE_CHECKPOINT: usize = 4;
/// Free segments that are kept to be recycled; more are removed.
pub const WAL_FREE_KEPT_MAX: usize = 3;
/// An idle core seals the tail of its WAL after this long.
pub const WAL_IDLE_SEAL: std::time::Duration = std::time::Duration::from_millis(100);
/// How long a core that found the disk full waits before it tries again.
pub const SPACE_RETRY: std::time::Duration = std::time::Duration::from_secs(1);
/// On a full disk: with less room than this in some core's WAL, core 0 takes no orders that change something.
pub const WAL_SHORT_BYTES: usize = 4 << 20;
/// A batch of entries whose applying takes longer is counted, as etcd counts its slow applies.
pub const APPLY_SLOW: std::time::Duration = std::time::Duration::from_millis(100);
/// How often a compaction that waits for a read to end looks whether it has.
pub const READ_POLL: std::time::Duration = std::time::Duration::from_millis(10);
/// Pages that one slice of defragmentation looks at.
pub const DEFRAGMENT_PAGES_PER_SLICE: u32 = 64;
/// Passes of one defragmentation: each finds what the one before let go of.
pub const DEFRAGMENT_PASSES_MAX: u32 = 4;

// coordinator

/// How often the leader looks for leases that have ended, as etcd does.
pub const LEASE_SCAN_INTERVAL: std::time::Duration = std::time::Duration::from_millis(500);
/// The shortest time between two samples of the revision for the auto-compaction: for retentions below 10 ms.
pub const AUTO_COMPACTION_SAMPLE_INTERVAL_MIN: std::time::Duration = std::time::Duration::from_millis(1);
/// Leases revoked after one such look, as in etcd.
pub const LEASES_EXPIRED_PER_SCAN_MAX: usize = 500;

// pump

/// Page writes of one checkpoint that are under way at one time.
pub const CHECKPOINT_WRITES_IN_FLIGHT: usize = 16;
/// The most bytes of adjoining pages that are written, or read, as one.
pub const RUN_BYTES_MAX: usize = 256 << 10;
// front

/// The longest TTL of a lease, in seconds (etcd's).
pub const LEASE_TTL_MAX: i64 = 9_000_000_000;
/// What etcd adds to --max-request-bytes for the largest message that it receives, and for where it fragments watch responses.
pub const REQUEST_OVERHEAD_BYTES: usize = 512 << 10;
/// How deep txns may be nested: what etcd's budget of operations allows by default. This holds for any --max-txn-ops.
pub const TXN_DEPTH_MAX: usize = 128;
/// Calls of one front that wait for a reign to begin.
pub const PARKED_CALLS_MAX: usize = 16384;
/// Bytes of their messages.
pub const PARKED_BYTES_MAX: usize = 64 << 20;
/// Bytes that a front holds for ranges, gathered or not taken by clients, before these go on one at a time.
pub const GATHERED_BYTES_MAX: usize = 256 << 20;
/// Bytes of answers that clients of a front have not taken; above, ranges wait and new ones are refused.
pub const UNSENT_BYTES_MAX: usize = 1 << 30;
/// How often a front looks again whether clients have taken something, while ranges wait for that.
pub const ROOM_POLL: std::time::Duration = std::time::Duration::from_millis(10);
/// A range that answers more than this many bytes of values encodes them so many at a time, as they come.
pub const RANGE_PART_BYTES: usize = 256 << 10;
/// The most keys that a range asks of one group at a time.
pub const RANGE_CHUNK_KEYS_MAX: usize = 4096;
/// Bytes of one watch stream that may be under way to its client; beyond, its watches fall back to the store.
pub const WATCH_STREAM_BYTES_MAX: usize = 8 << 20;
/// The most revisions in one response to a watch (etcd's, for one that catches up).
pub const WATCH_BATCH_REVISIONS_MAX: usize = 1000;
/// Above this many bytes a response to a watch takes no further revision.
pub const WATCH_BATCH_BYTES: usize = 256 << 10;
/// From so many responses to one batch of revisions on, a hub rests before it releases the next: so that what comes meanwhile shares the
/// cost of a response.
pub const WATCH_REST_RESPONSES_MIN: u64 = 64;
/// How long it rests for each of those responses and each revision in them, in microseconds: the more comes, the more shares a response,
pub const WATCH_REST_MICROS: u64 = 4;
/// up to so many revisions.
pub const WATCH_REST_REVISIONS_MAX: u64 = 4;
/// Of that rest, behind several revisions, the part (one in so many) that what arrives meanwhile waits for more,
pub const WATCH_GATHER_PART: u32 = 4;
/// and the longest that it does.
pub const WATCH_GATHER_MAX: std::time::Duration = std::time::Duration::from_millis(4);
/// Watch responses below this many bytes are copied to the others of their stream; the bodies of larger ones are shared by their watches.
pub const WATCH_GATHERED_BYTES: usize = 1 << 10;
/// Watches (those with the same range and start count once) of one front that read the store at the same time.
pub const CATCH_UPS_MAX: usize = 8;
/// The first chunk of a RangeStream, in keys (etcd's).
pub const STREAM_FIRST_KEYS: i64 = 10;
/// Bytes of one RangeStream that may be under way to its client before it reads on.
pub const STREAM_BYTES_MAX: usize = 4 << 20;
/// Keep-alives of one stream that wait for the one before them.
pub const KEEP_ALIVES_MAX: usize = 1024;
/// Hashes of compactions that are kept (etcd's).
pub const COMPACTION_HASHES_MAX: usize = 10;
/// How often a front looks whether group 0 has committed what an answer rests on, in microseconds.
pub const META_POLL_MICROS: u64 = 500;
/// How long a front waits before it asks again for changes that a core has not applied yet, in microseconds.
pub const CATCH_UP_RETRY_MICROS: u64 = 1000;

// rpc
/// What a connection reads or writes at a time; buffers of this size are shared by the connections of an executor.
pub const WIRE_BUFFER_BYTES: usize = 64 << 10;
/// Wire buffers that an executor keeps for later.
pub const WIRE_BUFFERS_KEPT_MAX: usize = 32;
/// What one connection may read before the others get their turn.
pub const READ_BYTES_PER_TURN_MAX: usize = 512 << 10;
/// What one connection may send before the others get their turn, but for a buffer or two at the end.
pub const WRITE_BYTES_PER_TURN_MAX: usize = 512 << 10;
/// Calls that one connection may open before the others get their turn.
pub const ACCEPTS_PER_TURN_MAX: usize = 256;
/// The flow-control window of a stream that sends to us: more than the largest message by default.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// The flow-control window of a connection that sends to us.
pub const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// What h2 takes of one stream ahead of the peer's window.
pub const STREAM_SEND_BUFFER_BYTES: usize = 256 << 10;
/// The decoded headers of a request.
pub const HEADER_LIST_BYTES_MAX: u32 = 64 << 10;
/// Streams that a client may reset before they were answered, within what is read at a time.
pub const PENDING_RESET_STREAMS_MAX: usize = 4096;
/// Streams reset by us that are remembered for what the client still sends on them.
pub const RESET_STREAMS_KEPT_MAX: usize = 1024;
/// Calls under way on one connection; more are refused.
pub const CALLS_PER_CONNECTION_MAX: usize = 65_536;
/// Calls under way on one executor.
pub const CALLS_PER_EXECUTOR_MAX: usize = 1 << 22;
/// Bytes of messages on one connection that have not come in whole.
pub const PARTIAL_BYTES_PER_CONNECTION_MAX: usize = 256 << 20;
/// Answers on one connection that the client has not read; above, new calls are refused.
pub const UNSENT_BYTES_PER_CONNECTION_MAX: usize = 64 << 20;
/// Memory taken for a message on the word of its length alone; the rest is taken as it comes in.
pub const MESSAGE_RESERVE_BYTES_MAX: usize = 64 << 10;
/// Connections of one executor.
pub const CONNECTIONS_MAX: usize = 100_000;

// gateway
/// The request line and headers of an HTTP/1.1 request.
pub const HTTP1_HEAD_BYTES_MAX: usize = 64 << 10;
/// Header fields of an HTTP/1.1 request.
pub const HTTP1_HEADERS_MAX: usize = 100;
/// The body of an HTTP/1.1 request.
pub const HTTP1_BODY_BYTES_MAX: usize = 4 << 20;
