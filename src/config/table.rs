//! Every flag there is: its name, kind and default as etcd 3.7.1 has them, and what etcring makes of it.

/// What kind of value a flag takes, and so which texts are an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A truth value; the bare flag means true, a value needs `=`.
    Bool,
    /// Takes anything or nothing, and means nothing (etcd's own list of former flags).
    Former,
    /// A signed number of 64 bits.
    Int,
    /// An unsigned number of 64 bits.
    Uint,
    /// A number of bytes, with a unit (KiB to TiB) or without.
    Bytes,
    /// As `Bytes`, and negative ones.
    SignedBytes,
    /// An unsigned number of 32 bits.
    Uint32,
    /// A duration as Go writes it.
    Duration,
    /// Any text.
    Text,
    /// A comma-separated list of URLs; an empty one leaves the default as it is.
    Urls,
    /// As `Urls`, and `*`.
    Origins,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A comma-separated list of these words.
    Choices(&'static [&'static str]),
    /// A comma-separated list of name=bool with etcd's names.
    Gates,
}

impl Kind {
    /// Whether the flag may stand alone, and never takes the argument behind it.
    pub fn stands_alone(self) -> bool {
        matches!(self, Kind::Bool | Kind::Former)
    }
}

/// What etcring makes of a flag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// It does what it says.
    Used,
    /// etcring's own; its variable is `ETCRING_…`.
    Own,
    /// Known and read, without effect here: a warning when set.
    Accepted,
    /// It asks for something that etcring does not do yet: an error when set to anything but its default.
    Refused,
}

/// One flag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flag {
    /// Without dashes.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// The default, as it would be written on the command line.
    pub default: &'static str,
    /// What etcring makes of it.
    pub class: Class,
    /// One line for --help; empty for flags without effect here.
    pub help: &'static str,
}

/// The prefix of the variables of etcring's own flags.
pub const OWN_PREFIX: &str = "ETCRING";

impl Flag {
    /// The environment variable of the flag (etcd's `FlagToEnv`).
    pub fn variable(&self) -> String {
        let prefix = if self.class == Class::Own { OWN_PREFIX } else { "ETCD" };
        format!("{prefix}_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }
}

/// The flag of this name, if there is one.
pub fn find(name: &str) -> Option<usize> {
    FLAGS.iter().position(|f| f.name == name)
}

/// The feature gates of etcd 3.7.
pub(super) const GATES: [&str; 11] = [
    "AllAlpha",
    "AllBeta",
    "CompactHashCheck",
    "FastLeaseKeepAlive",
    "InitialCorruptCheck",
    "LeaseCheckpoint",
    "LeaseCheckpointPersist",
    "PriorityRequest",
    "SetMemberLocalAddr",
    "StopGRPCServiceOnDefrag",
    "TxnModeWriteWithSharedBuffer",
];

const V2_STAGES: &[&str] = &["write-only", "write-only-skip-check", "write-only-drop-data", "gone"];
const ROTATION: &str = r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;

const fn used(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag { name, kind, default, class: Class::Used, help }
}

const fn own(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag { name, kind, default, class: Class::Own, help }
}

const fn accepted(name: &'static str, kind: Kind, default: &'static str) -> Flag {
    Flag { name, kind, default, class: Class::Accepted, help: "" }
}

const fn refused(name: &'static str, kind: Kind, default: &'static str) -> Flag {
    Flag { name, kind, default, class: Class::Refused, help: "" }
}

/// All flags: those with an effect in the order of --help, then those without one, then those refused.
pub static FLAGS: &[Flag] = &[
    used("name", Kind::Text, "default", "The member's name among the members of its cluster."),
    used("data-dir", Kind::Text, "", "The directory of the member's data (default: NAME.etcd)."),
    used("wal-dir", Kind::Text, "", "A directory of its own for the write-ahead log, on another disk perhaps."),
    used("listen-client-urls", Kind::Urls, "http://localhost:2379", "Where clients are served."),
    used(
        "advertise-client-urls",
        Kind::Urls,
        "http://localhost:2379",
        "The client URLs that the member list tells to clients.",
    ),
    used("listen-peer-urls", Kind::Urls, "http://localhost:2380", "Where other members are served."),
    used("initial-advertise-peer-urls", Kind::Urls, "http://localhost:2380", "The peer URLs that a new member makes known."),
    used("initial-cluster", Kind::Text, "default=http://localhost:2380", "The members of a new cluster: name=peer-url, ..."),
    used("initial-cluster-state", Kind::Choice(&["new", "existing"]), "new", "Whether the cluster is new or exists already."),
    used("initial-cluster-token", Kind::Text, "etcd-cluster", "What tells this cluster from others with the same peer URLs."),
    used("heartbeat-interval", Kind::Uint, "100", "Milliseconds between two heartbeats of the leader."),
    used(
        "election-timeout",
        Kind::Uint,
        "1000",
        "Milliseconds without a heartbeat until an election; sets the smallest lease TTL.",
    ),
    used(
        "quota-backend-bytes",
        Kind::SignedBytes,
        "0",
        "Bytes in use above which writes are refused, such as 8GiB (0: 2 GiB; negative: no limit).",
    ),
    used("max-request-bytes", Kind::Uint, "1572864", "The largest request of a client, in bytes."),
    used("max-txn-ops", Kind::Uint, "128", "The most operations in a transaction."),
    used("auto-compaction-mode", Kind::Text, "periodic", "How --auto-compaction-retention counts: periodic or revision."),
    used("auto-compaction-retention", Kind::Text, "0", "History to keep: hours, a duration, or revisions (0: all of it)."),
    used("snapshot-count", Kind::Uint, "300000", "Entries that each shard applies between two checkpoints at most."),
    used(
        "watch-progress-notify-interval",
        Kind::Duration,
        "0s",
        "Time between progress notifications of idle watches (0: 10m).",
    ),
    used("log-level", Kind::Text, "info", "debug, info, warn, error, panic or fatal."),
    used("version", Kind::Bool, "false", "Print the version and exit."),
    own("shards", Kind::Uint, "0", "Shards of a new cluster (0: one per shard core, 16 at most). Fixed once there is data."),
    own("front-cores", Kind::Text, "auto", "Cores that serve connections only (0: the shard cores do it as well)."),
    own("cpus", Kind::Text, "auto", "A number of CPUs to lay out for, or a list (2-5,8) to pin the cores to."),
    own(
        "cache-bytes",
        Kind::Bytes,
        "0",
        "Memory for pages of the store, such as 1GiB (0: as needed, an eighth of all at most).",
    ),
    accepted("auth-token-ttl", Kind::Uint, "300"),
    accepted("backend-batch-interval", Kind::Duration, "0s"),
    accepted("backend-batch-limit", Kind::Int, "0"),
    accepted("backend-bbolt-freelist-type", Kind::Text, "map"),
    accepted("bcrypt-cost", Kind::Uint, "10"),
    accepted("bootstrap-defrag-threshold-megabytes", Kind::Uint, "0"),
    accepted("compact-hash-check-time", Kind::Duration, "1m"),
    accepted("compaction-batch-limit", Kind::Int, "0"),
    accepted("compaction-sleep-interval", Kind::Duration, "0s"),
    accepted("corrupt-check-time", Kind::Duration, "0s"),
    accepted("cors", Kind::Origins, "*"),
    accepted("distributed-tracing-address", Kind::Text, "localhost:4317"),
    accepted("distributed-tracing-instance-id", Kind::Text, ""),
    accepted("distributed-tracing-sampling-rate", Kind::Int, "0"),
    accepted("distributed-tracing-service-name", Kind::Text, "etcd"),
    accepted("downgrade-check-time", Kind::Duration, "5s"),
    accepted("enable-distributed-tracing", Kind::Bool, "false"),
    accepted("enable-grpc-gateway", Kind::Bool, "true"),
    accepted("enable-log-rotation", Kind::Bool, "false"),
    accepted("enable-pprof", Kind::Bool, "false"),
    accepted("feature-gates", Kind::Gates, ""),
    accepted("grpc-keepalive-interval", Kind::Duration, "2h"),
    accepted("grpc-keepalive-min-time", Kind::Duration, "5s"),
    accepted("grpc-keepalive-timeout", Kind::Duration, "20s"),
    accepted("initial-election-tick-advance", Kind::Bool, "true"),
    accepted("listen-client-http-urls", Kind::Urls, ""),
    accepted("log-format", Kind::Text, "json"),
    accepted("log-outputs", Kind::Text, "default"),
    accepted("log-rotation-config-json", Kind::Text, ROTATION),
    accepted("logger", Kind::Text, "zap"),
    accepted("max-concurrent-streams", Kind::Uint32, "4294967295"),
    accepted("max-learners", Kind::Int, "1"),
    accepted("max-snapshots", Kind::Uint, "5"),
    accepted("max-wals", Kind::Uint, "5"),
    accepted("memory-mlock", Kind::Bool, "false"),
    accepted("metrics", Kind::Text, "basic"),
    accepted("pre-vote", Kind::Bool, "true"),
    accepted("raft-read-timeout", Kind::Duration, "5s"),
    accepted("raft-write-timeout", Kind::Duration, "5s"),
    accepted("snapshot-catchup-entries", Kind::Uint, "5000"),
    accepted("socket-reuse-address", Kind::Bool, "false"),
    accepted("socket-reuse-port", Kind::Bool, "false"),
    accepted("strict-reconfig-check", Kind::Bool, "true"),
    accepted("unsafe-no-fsync", Kind::Bool, "false"),
    accepted("v2-deprecation", Kind::Choices(V2_STAGES), ""),
    accepted("warning-apply-duration", Kind::Duration, "100ms"),
    accepted("warning-unary-request-duration", Kind::Duration, "300ms"),
    accepted("cluster-active-size", Kind::Former, ""),
    accepted("cluster-remove-delay", Kind::Former, ""),
    accepted("cluster-sync-interval", Kind::Former, ""),
    accepted("config", Kind::Former, ""),
    accepted("force", Kind::Former, ""),
    accepted("max-result-buffer", Kind::Former, ""),
    accepted("max-retry-attempts", Kind::Former, ""),
    accepted("peer-heartbeat-interval", Kind::Former, ""),
    accepted("peer-election-timeout", Kind::Former, ""),
    accepted("retry-interval", Kind::Former, ""),
    accepted("snapshot", Kind::Former, ""),
    accepted("v", Kind::Former, ""),
    accepted("vv", Kind::Former, ""),
    accepted("test.coverprofile", Kind::Former, ""),
    accepted("test.outputdir", Kind::Former, ""),
    refused("config-file", Kind::Text, ""),
    refused("auth-token", Kind::Text, "simple"),
    refused("host-whitelist", Kind::Text, "*"),
    refused("listen-metrics-urls", Kind::Urls, ""),
    refused("force-new-cluster", Kind::Bool, "false"),
    refused("discovery", Kind::Text, ""),
    refused("discovery-proxy", Kind::Text, ""),
    refused("discovery-endpoints", Kind::Text, ""),
    refused("discovery-token", Kind::Text, ""),
    refused("discovery-dial-timeout", Kind::Duration, "2s"),
    refused("discovery-request-timeout", Kind::Duration, "5s"),
    refused("discovery-keepalive-time", Kind::Duration, "2s"),
    refused("discovery-keepalive-timeout", Kind::Duration, "6s"),
    refused("discovery-insecure-transport", Kind::Bool, "true"),
    refused("discovery-insecure-skip-tls-verify", Kind::Bool, "false"),
    refused("discovery-cert", Kind::Text, ""),
    refused("discovery-key", Kind::Text, ""),
    refused("discovery-cacert", Kind::Text, ""),
    refused("discovery-user", Kind::Text, ""),
    refused("discovery-password", Kind::Text, ""),
    refused("discovery-fallback", Kind::Choice(&["exit", "proxy"]), "exit"),
    refused("discovery-srv", Kind::Text, ""),
    refused("discovery-srv-name", Kind::Text, ""),
    refused("cert-file", Kind::Text, ""),
    refused("key-file", Kind::Text, ""),
    refused("client-cert-auth", Kind::Bool, "false"),
    refused("trusted-ca-file", Kind::Text, ""),
    refused("client-cert-file", Kind::Text, ""),
    refused("client-key-file", Kind::Text, ""),
    refused("client-crl-file", Kind::Text, ""),
    refused("client-cert-allowed-hostname", Kind::Text, ""),
    refused("auto-tls", Kind::Bool, "false"),
    refused("peer-cert-file", Kind::Text, ""),
    refused("peer-key-file", Kind::Text, ""),
    refused("peer-client-cert-auth", Kind::Bool, "false"),
    refused("peer-trusted-ca-file", Kind::Text, ""),
    refused("peer-client-cert-file", Kind::Text, ""),
    refused("peer-client-key-file", Kind::Text, ""),
    refused("peer-crl-file", Kind::Text, ""),
    refused("peer-cert-allowed-cn", Kind::Text, ""),
    refused("peer-cert-allowed-hostname", Kind::Text, ""),
    refused("peer-auto-tls", Kind::Bool, "false"),
    refused("peer-skip-client-san-verification", Kind::Bool, "false"),
    refused("self-signed-cert-validity", Kind::Uint, "1"),
    refused("cipher-suites", Kind::Text, ""),
    refused("tls-min-version", Kind::Text, "TLS1.2"),
    refused("tls-max-version", Kind::Text, ""),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_distinct_and_classes_have_help() {
        let names: BTreeSet<_> = FLAGS.iter().map(|f| f.name).collect();
        assert_eq!(names.len(), FLAGS.len());
        for flag in FLAGS {
            assert_eq!(flag.help.is_empty(), matches!(flag.class, Class::Accepted | Class::Refused), "{}", flag.name);
        }
    }

    #[test]
    fn variables_carry_the_prefix_of_their_owner() {
        let variable = |name| FLAGS[find(name).unwrap()].variable();
        assert_eq!(variable("listen-client-urls"), "ETCD_LISTEN_CLIENT_URLS");
        assert_eq!(variable("cache-bytes"), "ETCRING_CACHE_BYTES");
        assert_eq!(find("snapshot-counts"), None);
    }
}
