//! Which groups live on which core of the process.

use crate::base::{ClusterId, CoreId, GroupId, MemberId};
use crate::group::CheckpointPolicy;

/// What is the same for every core of the process, for as long as it runs.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The cluster.
    pub cluster: ClusterId,
    /// This member.
    pub member: MemberId,
    /// Shards of the cluster.
    pub shards: u16,
    /// Shard cores of the process.
    pub cores: u16,
    /// Fronts of the process.
    pub fronts: u16,
    /// When checkpoints are due.
    pub checkpoints: CheckpointPolicy,
}

impl Layout {
    /// The core that hosts `group`.
    pub const fn core_of(&self, group: GroupId) -> CoreId {
        if group.0 == 0 { CoreId(0) } else { CoreId((group.0 - 1) % self.cores) }
    }

    /// The groups that `core` hosts, lowest first.
    pub fn groups_of(&self, core: CoreId) -> impl Iterator<Item = GroupId> {
        let layout = *self;
        (0..=self.shards).map(GroupId).filter(move |&g| layout.core_of(g) == core)
    }
}
