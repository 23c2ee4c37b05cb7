//! The names of all that is counted and measured: enums for the hot path, and the tables that say what they are called.

/// The type of a family, as Prometheus wants it declared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Type {
    Counter,
    Gauge,
    Histogram,
}

impl Type {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        }
    }
}

/// How the cores' gauges become the member's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Combine {
    Sum,
    Max,
}

/// An enum whose values are places in an array, each with a row of a table.
macro_rules! table {
    (
        $(#[$doc:meta])* $name:ident ($row:ty):
        $($(#[$value_doc:meta])* $value:ident = $spec:expr,)+
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$value_doc])* $value,)+
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [$name] = &[$($name::$value,)+];
            pub(super) const COUNT: usize = $name::ALL.len();
            const ROWS: [$row; $name::COUNT] = [$($spec,)+];

            #[inline]
            pub(super) const fn place(self) -> usize {
                self as usize
            }

            pub(super) fn row(self) -> &'static $row {
                const { &$name::ROWS }.get(self.place()).expect("a row for each value")
            }
        }
    };
}

/// Name, declared type and help of a family without labels.
pub(super) struct CounterRow {
    pub name: &'static str,
    pub declared: Type,
    pub help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> CounterRow {
    CounterRow { name, declared: Type::Counter, help }
}

/// Something that only rises, but that etcd declares as a gauge.
const fn rising_gauge(name: &'static str, help: &'static str) -> CounterRow {
    CounterRow { name, declared: Type::Gauge, help }
}

table! {
    /// What only rises.
    Counter (CounterRow):
    /// Range requests evaluated, those in transactions counted one by one, a stream as one.
    Ranges = counter("etcd_mvcc_range_total", "Range operations evaluated by this member."),
    /// Puts evaluated, those in transactions too.
    Puts = counter("etcd_mvcc_put_total", "Put operations evaluated by this member."),
    /// Deletes evaluated, those in transactions too: operations, not keys. What goes with a lease is not among them.
    Deletes = counter("etcd_mvcc_delete_total", "Delete operations evaluated by this member."),
    /// Transactions with more than one operation.
    Txns = counter("etcd_mvcc_txn_total", "Transactions of more than one operation evaluated by this member."),
    /// Bytes of keys and values that were put.
    PutBytes = rising_gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes of keys and values that were put."),
    /// Events handed to watch streams.
    Events = counter("etcd_debugging_mvcc_events_total", "Events sent to watchers by this member."),
    /// Leases granted.
    LeasesGranted = counter("etcd_debugging_lease_granted_total", "Leases granted."),
    /// Lease renewals answered.
    LeasesRenewed = counter("etcd_debugging_lease_renewed_total", "Lease renewals served as leader."),
    /// Leases revoked, expired ones too.
    LeasesRevoked = counter("etcd_debugging_lease_revoked_total", "Leases revoked, by clients or by expiry."),
    /// Leases that ran out.
    LeasesExpired = counter("etcd_debugging_server_lease_expired_total", "Leases that ran out."),
    /// Versions removed by compactions.
    CompactedKeys = counter("etcd_debugging_mvcc_db_compaction_keys_total", "Versions of keys removed by compactions."),
    /// Bytes written to the write-ahead log.
    WalBytes = rising_gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the write-ahead log."),
    /// Bytes of gRPC messages from clients.
    ClientBytesReceived = counter("etcd_network_client_grpc_received_bytes_total", "Bytes of gRPC messages received from clients."),
    /// Bytes of gRPC messages to clients.
    ClientBytesSent = counter("etcd_network_client_grpc_sent_bytes_total", "Bytes of gRPC messages sent to clients."),
    /// Writes that were not committed in time or not at all.
    ProposalsFailed = counter("etcd_server_proposals_failed_total", "Proposals that failed."),
    /// Changes of the leader that this member saw.
    LeaderChanges = counter("etcd_server_leader_changes_seen_total", "Changes of leader seen by this member."),
    /// Batches of committed entries whose applying took longer than [`crate::base::limits::APPLY_SLOW`].
    SlowApplies = counter("etcd_server_slow_apply_total", "Batches of entries that took longer than 100 ms to apply."),
    /// Answers "healthy" of /health.
    HealthSuccesses = counter("etcd_server_health_success", "Answers of /health that said healthy."),
    /// Answers "not healthy" of /health.
    HealthFailures = counter("etcd_server_health_failures", "Answers of /health that said unhealthy."),
}

/// Name, help and rule of a gauge without labels.
pub(super) struct GaugeRow {
    pub name: &'static str,
    pub combine: Combine,
    pub help: &'static str,
}

const fn sum(name: &'static str, help: &'static str) -> GaugeRow {
    GaugeRow { name, combine: Combine::Sum, help }
}

const fn max(name: &'static str, help: &'static str) -> GaugeRow {
    GaugeRow { name, combine: Combine::Max, help }
}

table! {
    /// What rises and falls. Each core sets its own part.
    Gauge (GaugeRow):
    /// Keys that exist.
    Keys = sum("etcd_debugging_mvcc_keys_total", "Keys that exist."),
    /// Bytes of the page files.
    StoreBytes = sum("etcd_mvcc_db_total_size_in_bytes", "Bytes that the page files have on disk."),
    /// Bytes of the page files that hold something.
    StoreBytesInUse = sum("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of the page files that are in use."),
    /// Pinned views of the store.
    ReadViews = sum("etcd_mvcc_db_open_read_transactions", "Read views that are held open."),
    /// Events that the hubs hold: made, and not yet stable.
    PendingEvents = sum("etcd_debugging_mvcc_pending_events_total", "Events that wait to be sent."),
    /// Watchers that catch up from the store.
    SlowWatchers = sum("etcd_debugging_mvcc_slow_watcher_total", "Watchers that are behind and read from the store."),
    /// Open watch streams.
    WatchStreams = sum("etcd_debugging_mvcc_watch_stream_total", "Open watch streams."),
    /// Watchers on them.
    Watchers = sum("etcd_debugging_mvcc_watcher_total", "Watchers."),
    /// The sum of the commit indexes of this core's groups.
    ProposalsCommitted = sum("etcd_server_proposals_committed_total", "Committed log entries, all groups together."),
    /// The sum of the applied indexes of this core's groups.
    ProposalsApplied = sum("etcd_server_proposals_applied_total", "Applied log entries, all groups together."),
    /// Writes that wait for a quorum.
    ProposalsPending = sum("etcd_server_proposals_pending", "Proposals that wait to be committed."),
    /// 1 while a page file is being defragmented, else 0.
    Defragmenting = max("etcd_disk_defrag_inflight", "1 while a page file is being defragmented, else 0."),
    /// When the last compaction ended, in Unix seconds; 0 before the first of this run.
    LastCompaction = max("etcd_debugging_mvcc_db_compaction_last", "Unix time of the end of the last compaction of this run."),
}

/// A histogram's name, help and buckets. Values are whole numbers of a small unit (nanoseconds, or what is counted).
pub(super) struct HistogramRow {
    pub name: &'static str,
    pub help: &'static str,
    pub scale: Scale,
}

/// Buckets whose bounds double: `first`, `2·first`, ... and one above all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Scale {
    /// The first bound, in the small unit.
    pub first: u64,
    /// How many bounds, infinity not counted.
    pub bounds: usize,
    /// Small units in one of the unit that is shown.
    pub per_unit: u64,
}

/// The most bounds of a histogram.
pub(super) const BOUNDS_MAX: usize = 24;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

const fn seconds(name: &'static str, first_nanos: u64, bounds: usize, help: &'static str) -> HistogramRow {
    HistogramRow { name, help, scale: Scale { first: first_nanos, bounds, per_unit: NANOS_PER_SECOND } }
}

const fn plain(name: &'static str, first: u64, bounds: usize, help: &'static str) -> HistogramRow {
    HistogramRow { name, help, scale: Scale { first, bounds, per_unit: 1 } }
}

table! {
    /// What is measured again and again. Bounds as in etcd.
    Histogram (HistogramRow):
    /// From submitting a write of the log to its completion on disk: one observation per write.
    WalFsync = seconds("etcd_disk_wal_fsync_duration_seconds", 1_000_000, 14, "Durable writes of the write-ahead log."),
    /// A checkpoint, from its first write to the end of its meta page's.
    BackendCommit = seconds("etcd_disk_backend_commit_duration_seconds", 1_000_000, 14, "Checkpoints of the page stores."),
    /// From the beginning of a defragmentation to the end of that of a core's last page file: one observation per core.
    Defragmentation =
        seconds("etcd_disk_backend_defrag_duration_seconds", 100_000_000, 13, "Defragmentations of a core's page files."),
    /// A Hash request.
    Hash = seconds("etcd_mvcc_hash_duration_seconds", 10_000_000, 15, "Hashes of the whole store."),
    /// A HashKV request.
    HashRevision = seconds("etcd_mvcc_hash_rev_duration_seconds", 10_000_000, 15, "Hashes of the store at a revision."),
    /// The TTL of a granted lease, in seconds (not a duration that was measured).
    LeaseTtl = plain("etcd_debugging_lease_ttl_total", 1, 24, "TTLs of granted leases, in seconds."),
}

/// etcd's histogram of whole requests.
pub(super) const REQUEST: HistogramRow = seconds(
    "etcd_server_request_duration_seconds",
    1_000_000,
    14,
    "Requests from their arrival to their answer, by operation.",
);

/// etcd's finer histogram of ranges. As every range here, they are without a round to other members.
pub(super) const RANGE: HistogramRow =
    seconds("etcd_server_range_duration_seconds", 100_000, 20, "Ranges, from their arrival to their answer.");

/// etcd's histogram of applying. Here entries are applied in batches, and a batch is what is measured.
pub(super) const APPLY: HistogramRow =
    seconds("etcd_server_apply_duration_seconds", 100_000, 20, "Applying of batches of committed entries.");

table! {
    /// What is asked for, by etcd's words.
    Operation (&'static str):
    /// A range.
    Range = "Range",
    /// A put.
    Put = "Put",
    /// A range delete.
    DeleteRange = "DeleteRange",
    /// A transaction.
    Txn = "Txn",
    /// A compaction.
    Compaction = "Compaction",
    /// A grant of a lease.
    LeaseGrant = "LeaseGrant",
    /// A revocation of a lease.
    LeaseRevoke = "LeaseRevoke",
    /// An alarm raised, cleared or asked for.
    Alarm = "Alarm",
}

/// Which endpoint, and which of its checks.
pub(super) struct HealthCheckRow {
    pub endpoint: &'static str,
    pub name: &'static str,
}

const fn check(endpoint: &'static str, name: &'static str) -> HealthCheckRow {
    HealthCheckRow { endpoint, name }
}

table! {
    /// A check of /livez or /readyz.
    HealthCheck (HealthCheckRow):
    /// /livez: a serializable read.
    LiveSerializableRead = check("livez", "serializable_read"),
    /// /readyz: no alarm CORRUPT.
    ReadyDataCorruption = check("readyz", "data_corruption"),
    /// /readyz: a linearizable read.
    ReadyLinearizableRead = check("readyz", "linearizable_read"),
    /// /readyz: not a learner.
    ReadyNonLearner = check("readyz", "non_learner"),
    /// /readyz: a serializable read.
    ReadySerializableRead = check("readyz", "serializable_read"),
}

table! {
    /// How a client speaks: for etcd's count of requests by client version.
    CallKind (&'static str):
    /// A call with one request.
    Unary = "unary",
    /// A call with streams of them.
    Stream = "stream",
}
