//! What /metrics shows that no core counts: values of the moment, handed to the renderer.

use crate::base::{MemberId, Revision};

/// What the member knows of itself.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct MemberFigures {
    /// Its id.
    pub member: MemberId,
    /// The version of etcd that it says it is.
    pub server_version: &'static str,
    /// The cluster's version, as in "3.7".
    pub cluster_version: String,
    /// The version of etcring.
    pub etcring_version: &'static str,
    /// Whether it knows a leader.
    pub has_leader: bool,
    /// Whether it is the leader.
    pub is_leader: bool,
    /// Whether it is a learner.
    pub is_learner: bool,
    /// The current revision.
    pub revision: Revision,
    /// The compact revision; `None` before the first compaction (etcd then shows -1).
    pub compact_revision: Option<Revision>,
    /// The quota in bytes; negative: none.
    pub quota_bytes: i64,
    /// Alarms that are active: whose, and which (NOSPACE, CORRUPT).
    pub alarms: Vec<(MemberId, &'static str)>,
}

/// What the operating system says of the process. Parts that could not be read are left out of the text.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ProcessFigures {
    /// CPU time, user and system.
    pub cpu_seconds: Option<f64>,
    /// When it started, in Unix seconds.
    pub start_seconds: Option<f64>,
    /// Resident memory.
    pub resident_bytes: Option<u64>,
    /// Address space in use.
    pub virtual_bytes: Option<u64>,
    /// The limit of the address space; `u64::MAX`: none.
    pub virtual_bytes_max: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// The limit of them.
    pub max_fds: Option<u64>,
    /// Bytes received on all interfaces that the process sees.
    pub network_received_bytes: Option<u64>,
    /// Bytes sent on them.
    pub network_sent_bytes: Option<u64>,
}
