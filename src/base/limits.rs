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

// rpc
/// What is added to --max-request-bytes for the largest message taken (etcd's grpcOverheadBytes).
pub const MESSAGE_OVERHEAD_BYTES: usize = 512 << 10;
/// What a connection reads or writes at a time; buffers of this size are shared by the connections of an executor.
pub const WIRE_BUFFER_BYTES: usize = 64 << 10;
/// Wire buffers that an executor keeps for later.
pub const WIRE_BUFFERS_KEPT_MAX: usize = 32;
/// What one connection may read before the others get their turn.
pub const READ_BYTES_PER_TURN_MAX: usize = 512 << 10;
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
