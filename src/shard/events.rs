//! What happens to a core, and what cores say to each other.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::{AlignedBuffer, CoreId, GroupId, GroupSet, Index, LeaseId, Mark, Revision, Term};
use crate::pages::Fault;
use crate::proto::etcdserverpb::TxnRequest;
use crate::raft::GroupReport;
use crate::reign::Reign;
use crate::state::evaluate::{OpAnswer, Operations, Outcome, Path};
use crate::wal::{SegmentName, SegmentWrite};

use super::effects::DiskEffect;
use super::messages::{Refusal, ToCore};

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A front asks.
    Front(ToCore),
    /// A core says.
    Core(CoreMessage),
    /// The WAL write under way is durable; its buffer comes back.
    WalWritten(AlignedBuffer),
    /// There was no space for the WAL write under way, though its segment's is reserved (a file system that copies what it writes): any
    /// part of it may be there. It is tried again as it is.
    WalRefused(SegmentWrite),
    /// A segment can be written to.
    SegmentReady(SegmentName),
    /// There was no space for a segment.
    SegmentRefused(SegmentName),
    /// Pages were read.
    PageRead {
        /// Whose.
        group: GroupId,
        /// Which.
        fault: Fault,
        /// Their bytes; none when the file ends before.
        bytes: Option<AlignedBuffer>,
    },
    /// The step that a group's checkpoint waited for is done.
    CheckpointStepDone(GroupId),
    /// There was no space for a step of a group's checkpoint: it is tried again later.
    CheckpointRefused {
        /// Whose.
        group: GroupId,
        /// What was to be written.
        step: DiskEffect,
    },
    /// Stop cleanly: checkpoint, then say [`super::Effect::Stopped`].
    Stop,
}

/// Names a hold while it lasts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HoldId(pub u64);

/// Between cores. Core 0 is where the election, the coordinator and group 0 are.
#[derive(Debug, Clone)]
pub enum CoreMessage {
    // The election and the takeover (rules 6 to 9).
    /// To every core: move to this term; then report.
    Freeze(Term),
    /// To core 0: frozen, and where the logs of the core's groups end.
    Frozen {
        /// Which core.
        core: CoreId,
        /// In which term.
        term: Term,
        /// Per group.
        reports: Vec<GroupReport>,
        /// The highest revision that the core knows to be stable.
        known_stable: Revision,
    },
    /// To every core: all are frozen; apply up to what the reign of `term` made stable, drop the rest of it (rule 7).
    EndReign {
        /// The reign's term.
        term: Term,
        /// Its last stable revision.
        stable: Revision,
    },
    /// To core 0: done.
    ReignEnded {
        /// Which core.
        core: CoreId,
        /// The reign's term.
        term: Term,
        /// Its last stable revision.
        stable: Revision,
    },
    /// To every core: what lies in your groups' logs?
    AskStripes(Term),
    /// To core 0: the stripes.
    Stripes {
        /// Which core.
        core: CoreId,
        /// In which term.
        term: Term,
        /// Per group.
        stripes: Vec<OwnStripe>,
    },
    /// To every core: cut the logs, append the barriers.
    Cut {
        /// The term that opens.
        term: Term,
        /// What the barriers come after.
        w_final: Revision,
        /// The last entry kept, per group.
        cuts: Arc<Vec<(GroupId, Index)>>,
        /// The configuration for the barriers.
        configuration: Bytes,
    },
    /// To core 0: a quorum has this group's barrier.
    BarrierAtQuorum {
        /// Which group.
        group: GroupId,
        /// In which term.
        term: Term,
    },
    /// To every core: the reign is made; apply up to the barriers.
    Open(Arc<Reign>),
    /// To core 0: this core has applied up to its barriers.
    Opened {
        /// Which core.
        core: CoreId,
        /// In which term.
        term: Term,
    },

    // Holds (architecture, section 4).
    /// To a shard's core: hold, and tell what the write meets.
    Hold {
        /// The hold's name.
        id: HoldId,
        /// In which reign.
        term: Term,
        /// Which group.
        group: GroupId,
        /// For what.
        purpose: Arc<HoldPurpose>,
    },
    /// To core 0: held.
    Held {
        /// The hold's name.
        id: HoldId,
        /// Which group.
        group: GroupId,
        /// What the write meets there.
        facts: Facts,
    },
    /// To a held shard's core: this is the path; evaluate your part of it.
    Evaluate {
        /// The hold's name.
        id: HoldId,
        /// Which group.
        group: GroupId,
        /// The branches taken.
        path: Arc<Path>,
    },
    /// To core 0: the part is evaluated.
    Evaluated {
        /// The hold's name.
        id: HoldId,
        /// Which group.
        group: GroupId,
        /// What it comes to.
        part: PartFacts,
    },
    /// To a held shard's core: this is your part; append it and let go.
    Commit {
        /// The hold's name.
        id: HoldId,
        /// In which reign.
        term: Term,
        /// Which group.
        group: GroupId,
        /// The revision taken.
        revision: Revision,
        /// Everyone who has a part.
        participants: GroupSet,
        /// What was decided.
        decision: Decision,
        /// Let go: no more parts come.
        last: bool,
    },
    /// To core 0: the part is in the log, and in the group's slot.
    Adopted {
        /// The hold's name.
        id: HoldId,
        /// Which group.
        group: GroupId,
        /// The revision whose part it is.
        revision: Revision,
        /// The answers to the shard's own operations.
        answers: Vec<(usize, OpAnswer)>,
    },
    /// To a held shard's core: let go.
    Release {
        /// The hold's name.
        id: HoldId,
        /// Which group.
        group: GroupId,
    },

    // What group 0 tells the shards.
    /// This lease is alive from now on.
    LeaseAlive(LeaseId),
    /// These leases, and no others, are alive: as of group 0's barrier.
    LeasesAre(Arc<Vec<LeaseId>>),
    /// These leases are gone.
    LeasesGone(Arc<Vec<LeaseId>>),
    /// To core 0: a write names a lease that this core does not know.
    AskLeases(CoreId),
    /// To the core that asked: all leases there are have been told, as of this last entry of group 0.
    LeasesTold(Index),
    /// A compaction is committed in group 0: append it to your groups.
    Compact {
        /// In which reign.
        term: Term,
        /// Up to where.
        revision: Revision,
    },
    /// A client waits until the compaction to this revision is on disk: checkpoint as soon as it is sliced.
    SettleCompaction(Revision),
    /// To core 0: this group has nothing left to remove below the floor, and that is on disk.
    Sliced {
        /// Which group.
        group: GroupId,
        /// Which floor.
        revision: Revision,
    },
    /// To core 0: a checkpoint of this group is durable, up to this entry.
    Checkpointed {
        /// Which group.
        group: GroupId,
        /// The last entry in it.
        applied: Index,
    },
    /// To core 0: this core has the first state batch of this run on disk.
    Carried(CoreId),
    /// Start moving tail pages down.
    Defragment,
}

/// What lies in one group's log: what W_final is computed from (rule 9).
#[derive(Debug, Clone)]
pub struct OwnStripe {
    /// The group.
    pub group: GroupId,
    /// The highest revision of its own that the group has applied.
    pub applied: Revision,
    /// Its entries, as far back as they are in memory.
    pub marks: Vec<(Index, Mark)>,
    /// The last of them.
    pub last: Index,
}

/// What shards are held for.
#[derive(Debug)]
pub enum HoldPurpose {
    /// A txn over several shards; a delete over several shards is a txn of one operation.
    Txn(TxnRequest),
    /// The revocation of these leases, a revision each.
    Revoke(Vec<LeaseId>),
}

/// What a held shard tells of what it holds.
#[derive(Debug, Clone)]
pub enum Facts {
    /// The outcomes of all compares on its keys.
    Outcomes(Vec<Option<Outcome>>),
    /// Whether keys are attached to each lease.
    Attached(Vec<bool>),
}

/// What a held shard makes of its part of a txn along the path decided.
#[derive(Debug, Clone)]
pub enum PartFacts {
    /// How many operations the path has, and how many changes each of the shard's own makes.
    Changes(usize, Vec<(usize, u32)>),
    /// An operation is refused: the lowest over all shards is the answer.
    Refused(usize, Refusal),
}

/// What the coordinator decided, with the revision taken.
#[derive(Debug, Clone)]
pub enum Decision {
    /// The operation numbers of the txn.
    Txn(Operations),
    /// Delete the keys attached to this one of the leases.
    Revoke {
        /// The place of the lease in the purpose.
        place: usize,
    },
}

impl Facts {
    /// The outcomes of compares, if it is those.
    pub fn outcomes(&self) -> Option<&Vec<Option<Outcome>>> {
        match self {
            Facts::Outcomes(outcomes) => Some(outcomes),
            Facts::Attached(_) => None,
        }
    }
}

impl PartFacts {
    /// Where and why it is refused, if it is.
    pub fn refused(&self) -> Option<(usize, Refusal)> {
        match *self {
            PartFacts::Refused(place, refusal) => Some((place, refusal)),
            PartFacts::Changes(..) => None,
        }
    }
}
