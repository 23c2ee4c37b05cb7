//! What a front is told when it is made.

use std::time::Duration;

use crate::base::{ClusterId, CoreId, FrontId, GroupId, KeyRange, MemberId, group_of};

use super::room::RoomSize;

/// etcd's version that this member stands in for.
pub const VERSION: &str = "3.7.1";
/// The storage version that goes with it.
pub const STORAGE_VERSION: &str = "3.7.0";
/// The quota when --quota-backend-bytes is 0: 2 GiB.
pub const QUOTA_DEFAULT_BYTES: i64 = 2 << 30;

/// Where the groups are.
#[derive(Clone, Debug)]
pub struct Layout {
    /// S: the groups 1..=S hold the keys.
    pub shards: u16,
    /// The core that hosts each group, group 0 first: S + 1 of them.
    pub cores: Vec<CoreId>,
}

impl Layout {
    /// The core that hosts `group`.
    pub fn core(&self, group: GroupId) -> CoreId {
        self.cores[group.slot()]
    }

    /// All groups that hold keys.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + use<> {
        (1..=self.shards).map(GroupId)
    }

    /// The group of one key.
    pub fn of_key(&self, key: &[u8]) -> GroupId {
        group_of(key, self.shards)
    }

    /// The groups that can hold keys of `range`.
    pub fn of_range(&self, range: &KeyRange) -> Vec<GroupId> {
        match range.single() {
            Some(key) => vec![self.of_key(key)],
            None => self.groups().collect(),
        }
    }
}

/// Everything that a front is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which front it is.
    pub front: FrontId,
    /// In every header.
    pub cluster: ClusterId,
    /// In every header.
    pub member: MemberId,
    /// Where the groups are.
    pub layout: Layout,
    /// --max-request-bytes.
    pub request_bytes_max: usize,
    /// --max-txn-ops.
    pub txn_ops_max: usize,
    /// --quota-backend-bytes: 0 is the default, a negative number none.
    pub quota_bytes: i64,
    /// Leases are not granted for less: ceil(1.5 × election timeout), in seconds.
    pub lease_ttl_min: i64,
    /// The election timeout.
    pub election_timeout: Duration,
    /// --watch-progress-notify-interval.
    pub progress_interval: Duration,
    /// How much may be held for ranges.
    pub room: RoomSize,
    /// For lease ids and jitter.
    pub seed: u64,
}

impl Config {
    /// How long etcd lets a request wait: 5 s and two election timeouts.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    /// The quota in bytes; `None`: there is none.
    pub fn quota(&self) -> Option<u64> {
        match self.quota_bytes {
            0 => Some(QUOTA_DEFAULT_BYTES as u64),
            bytes => u64::try_from(bytes).ok(),
        }
    }
}
