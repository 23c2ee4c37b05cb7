//! What a core tells of itself for /metrics.

use crate::group::Machine;

use super::core::Core;

/// Figures of one core, all its groups together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CoreFigures {
    /// Keys that exist.
    pub keys: u64,
    /// Bytes of the page files.
    pub file_bytes: u64,
    /// Bytes of them in use.
    pub used_bytes: u64,
    /// Pinned views of the page stores.
    pub read_views: u64,
    /// The sum of the commit indexes.
    pub committed: u64,
    /// The sum of the applied indexes.
    pub applied: u64,
    /// Writes that wait for a quorum.
    pub pending: u64,
    /// Page files that are being defragmented.
    pub defragmenting: u64,
    /// Versions removed by compactions, since the start.
    pub compacted_versions: u64,
    /// Leases that ran out, since the start; on core 0.
    pub leases_expired: u64,
    /// Leaders that there have been since the start; on core 0.
    pub leader_changes: u64,
    /// Compactions that every group has finished since the start; on core 0.
    pub compactions: u64,
}

impl Core {
    /// The figures of now.
    pub fn figures(&mut self) -> CoreFigures {
        let mut figures = CoreFigures { compacted_versions: self.compacted_versions, ..CoreFigures::default() };
        if let Some(chief) = &self.chief {
            let of_chief = chief.figures();
            figures.leases_expired = of_chief.leases_expired;
            figures.leader_changes = of_chief.leader_changes;
            figures.compactions = of_chief.compactions;
        }
        for shard in &mut self.shards {
            figures.committed += shard.replica.raft.commit_index().get();
            figures.applied += shard.replica.applied().get();
            figures.pending += shard.in_flight.len() as u64;
            figures.defragmenting += u64::from(shard.defragmenting.is_some());
            if let Machine::Keys(mvcc) = &shard.replica.machine {
                figures.keys += mvcc.keys();
            }
            let store = shard.replica.machine.store();
            figures.file_bytes += store.file_bytes().max(store.used_bytes());
            figures.used_bytes += store.used_bytes();
            figures.read_views += store.views() as u64;
        }
        figures
    }
}
