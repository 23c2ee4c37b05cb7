//! A group's replica: log and state machine together.

use crate::base::{ClusterId, GroupId, Index, Instant, MemberId, Revision, Term};
use crate::mvcc::Mvcc;
use crate::pages::{Damage, Fault, Store};
use crate::raft::Replication;
use crate::state::MetaState;

use super::checkpoint::{CheckpointPolicy, CheckpointStep, Checkpointing};
use super::note::Note;

/// What a group's entries change.
pub enum Machine {
    /// A shard's keys.
    Keys(Box<Mvcc>),
    /// Group 0's state.
    Meta(Box<MetaState>),
}

impl Machine {
    /// How many changes of keys it holds: applying makes them more.
    pub fn changes(&self) -> u64 {
        match self {
            Machine::Keys(mvcc) => mvcc.changes(),
            Machine::Meta(_) => 0,
        }
    }

    /// The page store that it lives in.
    pub fn store(&mut self) -> &mut Store {
        match self {
            Machine::Keys(mvcc) => mvcc.store_mut(),
            Machine::Meta(meta) => meta.store(),
        }
    }
}

/// One group's replica on this member.
pub struct Replica {
    /// The log and its quorum.
    pub raft: Replication,
    /// The state.
    pub machine: Machine,
    pub(super) id: GroupId,
    pub(super) applied: Index,
    /// The last entry that was looked at ahead of applying.
    pub(super) looked: Index,
    pub(super) applied_term: Term,
    pub(super) applied_revision: Revision,
    pub(super) floor: Revision,
    pub(super) sliced: Revision,
    pub(super) checkpoint: Checkpointing,
    /// The applied index of the last durable checkpoint.
    pub(super) checkpointed: Index,
    /// What the last durable checkpoint, and the one under way, are sliced to.
    sliced_on_disk: Revision,
    slicing_on_disk: Revision,
}

impl Replica {
    /// The replica that a checkpoint and a log make; `note` is the checkpoint's, or what a new group begins with.
    pub fn new(now: Instant, raft: Replication, machine: Machine, note: &Note) -> Replica {
        Replica {
            id: raft.group(),
            raft,
            machine,
            applied: note.applied,
            looked: note.applied,
            applied_term: note.applied_term,
            applied_revision: note.applied_revision,
            floor: note.floor,
            sliced: note.sliced,
            checkpoint: Checkpointing::idle_since(now),
            checkpointed: note.applied,
            sliced_on_disk: note.sliced,
            slicing_on_disk: note.sliced,
        }
    }

    /// Which group.
    pub const fn id(&self) -> GroupId {
        self.id
    }

    /// The last entry applied.
    pub const fn applied(&self) -> Index {
        self.applied
    }

    /// The highest revision of its own that the group has applied.
    pub const fn applied_revision(&self) -> Revision {
        self.applied_revision
    }

    /// Whether everything committed is applied.
    pub fn is_applied(&self) -> bool {
        self.applied == self.raft.applying()
    }

    /// Whether no entry is half applied.
    pub fn is_whole(&self) -> bool {
        match &self.machine {
            Machine::Keys(mvcc) => mvcc.is_whole(),
            Machine::Meta(_) => true,
        }
    }

    /// The compaction revision that took effect here.
    pub const fn floor(&self) -> Revision {
        self.floor
    }

    /// The compaction revision up to which nothing removable is left.
    pub const fn sliced(&self) -> Revision {
        self.sliced
    }

    /// Nothing removable is left up to `floor`.
    pub fn set_sliced(&mut self, floor: Revision) {
        assert!(floor <= self.floor, "sliced to {floor}, but the floor is {}", self.floor);
        self.sliced = self.sliced.max(floor);
    }

    /// What the last durable checkpoint is sliced to.
    pub const fn sliced_on_disk(&self) -> Revision {
        self.sliced_on_disk
    }

    /// The last entry in a durable checkpoint: the log is needed above it.
    pub const fn checkpointed(&self) -> Index {
        self.checkpointed
    }

    /// Puts pages that were read into the cache.
    ///
    /// # Errors
    /// [`Damage`] when they are not what was written: the member must stop.
    pub fn install(&mut self, fault: Fault, bytes: crate::base::AlignedBuffer) -> Result<(), Damage> {
        self.machine.store().install(fault, bytes)
    }

    /// The file ends before pages that were asked for.
    ///
    /// # Errors
    /// [`Damage`] when it should not: the member must stop.
    pub fn missing(&mut self, fault: Fault) -> Result<(), Damage> {
        self.machine.store().missing(fault)
    }

    /// Bytes of pages that the next checkpoint writes.
    pub fn dirty_bytes(&self) -> u64 {
        match &self.machine {
            Machine::Keys(mvcc) => mvcc.store().dirty_bytes(),
            Machine::Meta(meta) => meta.dirty_bytes(),
        }
    }

    /// Whether a checkpoint should begin.
    pub fn checkpoint_is_due(&mut self, now: Instant, policy: &CheckpointPolicy) -> bool {
        let entries = self.applied.get() - self.checkpointed.get();
        let store = self.machine.store();
        self.checkpoint.is_due(now, entries, store.dirty_bytes(), store.is_worth_writing(), policy)
    }

    /// Whether nothing more may be applied before more of the checkpoint under way is on disk.
    pub fn is_held_up(&self, policy: &CheckpointPolicy) -> bool {
        let Machine::Keys(mvcc) = &self.machine else { return false };
        let beside = || policy.dirty_bytes_beside(mvcc.store().progress());
        !self.checkpoint.is_idle() && mvcc.is_whole() && mvcc.store().dirty_bytes() >= beside()
    }

    /// Whether compaction must leave the room for dirty pages that there still is to writes.
    pub fn holds_up_compaction(&self, policy: &CheckpointPolicy) -> bool {
        let Machine::Keys(mvcc) = &self.machine else { return false };
        let beside = || policy.dirty_bytes_beside_of_compaction(mvcc.store().progress());
        !self.checkpoint.is_idle() && mvcc.store().dirty_bytes() >= beside()
    }

    /// When the interval between checkpoints is over, if anything changed since the last one.
    pub fn next_checkpoint(&mut self, policy: &CheckpointPolicy) -> Option<Instant> {
        let changed = self.applied > self.checkpointed || self.machine.store().dirty_bytes() > 0;
        (changed && self.checkpoint.is_idle()).then(|| self.checkpoint.next(policy))
    }

    /// Whether no checkpoint is under way.
    pub fn checkpoint_is_idle(&self) -> bool {
        self.checkpoint.is_idle()
    }

    /// Begins a checkpoint of everything applied. No entry is half applied when this is called.
    pub fn begin_checkpoint(&mut self, now: Instant, stamp: &Stamp) -> CheckpointStep {
        let note = Note {
            cluster: stamp.cluster,
            member: stamp.member,
            group: self.id,
            shards: stamp.shards,
            applied: self.applied,
            applied_term: self.applied_term,
            applied_revision: self.applied_revision,
            known_stable: stamp.known_stable,
            floor: self.floor,
            sliced: self.sliced,
        };
        self.slicing_on_disk = self.sliced;
        self.checkpoint.begin(now, self.machine.store(), &note)
    }

    /// The step that the checkpoint waited for is done.
    pub fn advance_checkpoint(&mut self) -> CheckpointStep {
        let step = self.checkpoint.advance(self.machine.store());
        if let CheckpointStep::Done { applied, .. } = step {
            assert!(applied >= self.checkpointed, "checkpoints go forward");
            self.checkpointed = applied;
            self.sliced_on_disk = self.slicing_on_disk;
            self.raft.compact(applied);
        }
        step
    }
}

/// What a checkpoint's note says besides the group's own part.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// Whose file it is.
    pub cluster: ClusterId,
    /// Whose file it is.
    pub member: MemberId,
    /// How many shards the cluster has.
    pub shards: u16,
    /// What is known to be stable.
    pub known_stable: Revision,
}
