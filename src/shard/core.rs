//! One shard core: its groups' replicas, its WAL, and what of the reign concerns them.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::base::limits::{READ_BYTES_PER_ROUND, SPACE_RETRY};
use crate::base::{CoreId, FrontId, GroupId, Index, Instant, LeaseId, Mark, Revision, Term};
use crate::coordinator::Chief;
use crate::group::{Replica, Stamp};
use crate::mvcc::{Compaction, Overlay};
use crate::pages::{Fault, PageId, Tick};
use crate::reign::{Board, Reign, Seat};
use crate::state::evaluate::{Memo, Path};

use super::defragment::Defragmenting;
use super::effects::{DiskEffect, Effect};
use super::events::{CoreMessage, Event, HoldId, HoldPurpose};
use super::holds::{CommitPart, Held, HoldAsked};
use super::layout::Layout;
use super::log::CoreLog;
use super::messages::{Answer, Leave, Refusal, Ticket, ToCore, ToFront, Write};
use super::reading::Reading;
use super::slices::Slices;

/// One thread's share of the member.
pub struct Core {
    pub(super) id: CoreId,
    pub(super) layout: Layout,
    pub(super) board: Arc<Board>,
    pub(super) shards: Vec<Shard>,
    pub(super) log: CoreLog,
    pub(super) term: Term,
    /// The open reign, from [`CoreMessage::Open`] until the next freeze.
    pub(super) reign: Option<Arc<Reign>>,
    /// Whether this core has applied up to its barriers: from then on requests are evaluated.
    pub(super) serving: bool,
    pub(super) live: HashSet<LeaseId>,
    /// What fronts no longer want: dropped when the wake-up ends.
    pub(super) cancelled: HashSet<Ticket>,
    /// What reads may gather until the next wake-up ends, in bytes.
    pub(super) read_bytes_left: usize,
    /// What asked core 0 about leases, in the order of asking.
    pub(super) asked_leases: VecDeque<AskedLeases>,
    pub(super) known_stable: Revision,
    /// Election, coordinator and group 0's part; on core 0 alone.
    pub(super) chief: Option<Box<Chief>>,
    /// The cores of which core 0 knows that their first state batch is on disk.
    pub(super) carried: HashSet<CoreId>,
    /// Clients wait for compactions up to this one to be on disk.
    pub(super) settle: Revision,
    /// Frozen, and not everything accepted is on disk yet.
    pub(super) unreported: bool,
    /// The shards, a bit each, of which more is at a quorum than their slots say.
    pub(super) raising: u128,
    /// What the member serves from, once the fronts have been told; on core 0.
    pub(super) serves: Option<Revision>,
    pub(super) stopping: bool,
    pub(super) stopped: bool,
    /// Versions removed by compactions, for /metrics.
    pub(super) compacted_versions: u64,
    /// When cold pages are looked for next.
    pub(super) next_trim: Instant,
    pub(super) slices: Slices,
    pub(super) now: Instant,
}

/// One group on its core.
pub struct Shard {
    pub(super) replica: Replica,
    pub(super) overlay: Overlay,
    /// Proposed, and not yet at a quorum; ascending by index.
    pub(super) in_flight: VecDeque<InFlight>,
    /// The bytes of what is proposed and not appended to the WAL: the log has promised room for them.
    pub(super) proposed_bytes: usize,
    /// Who holds it, and what for.
    pub(super) held: Option<Held>,
    /// Compactions that wait for the hold to end.
    pub(super) compaction_waits: Vec<Revision>,
    /// Writes that wait for the hold or the walk to end, or for applying.
    pub(super) queue: VecDeque<QueuedWrite>,
    /// Who walks over a range. No other write is evaluated meanwhile: it would make what was found stale, and the walk begin anew.
    pub(super) walking: Option<Walker>,
    /// What waits for pages.
    pub(super) waiting: HashMap<PageId, Awaited>,
    /// Walks that have done a slice, and do the next one in the next round: other work comes in between. Reads, too, that have not begun
    /// because others have gathered much in this one, or that are of a compaction, and these rest.
    pub(super) sliced: Vec<Waiting>,
    /// Reads that wait for applying.
    pub(super) after_apply: Vec<Reading>,
    /// The compaction that is being sliced.
    pub(super) slicing: Option<Compaction>,
    /// The barrier of this term, until a quorum has it.
    pub(super) barrier: Option<Index>,
    /// Whether applying waits for a page.
    pub(super) apply_waits: bool,
    /// How often entries behind the next one to apply wait for a page.
    pub(super) reading_ahead: usize,
    /// How many changes that slicing looks at wait for a page.
    pub(super) slice_waits: usize,
    /// The checkpoint's writes that found the disk full, and when.
    pub(super) refused: Option<(Instant, DiskEffect)>,
    /// The last write of a checkpoint found the disk full.
    pub(super) disk_full: bool,
    /// The length that the page file was given last in this run.
    pub(super) file_bytes_set: Option<u64>,
    /// The defragmentation under way.
    pub(super) defragmenting: Option<Defragmenting>,
}

/// A proposal on its way to a quorum.
pub(super) struct InFlight {
    pub(super) index: Index,
    pub(super) revision: Revision,
    pub(super) events: Vec<super::messages::Event>,
    pub(super) answer: Option<(Ticket, Answer)>,
}

/// A write that waits.
pub(super) struct QueuedWrite {
    pub(super) ticket: Ticket,
    pub(super) term: Term,
    pub(super) write: Write,
    /// What evaluating it has found out, when it waited for pages.
    pub(super) memo: Memo,
    /// Whether it is evaluated with the previous values of its events; decided once, as what is in the memo depends on it.
    pub(super) with_prev: Option<bool>,
    /// It named a lease that was not known, and core 0 has told of all there are, as of this last entry of group 0.
    pub(super) told: Option<Index>,
}

/// What waits to hear of all leases.
pub(super) enum AskedLeases {
    Write(GroupId, QueuedWrite),
    Part { id: HoldId, group: GroupId, path: Arc<Path> },
}

/// Who walks over a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Walker {
    Write(Ticket),
    Hold(HoldId),
}

/// A page that is being read.
pub(super) struct Awaited {
    /// When it was asked for: what was used then and since stays in memory.
    pub(super) since: Tick,
    pub(super) work: Vec<Waiting>,
}

/// What goes on when a page is there, or its next turn has come.
pub(super) enum Waiting {
    Write(QueuedWrite),
    Read(Reading),
    Hold {
        id: HoldId,
        term: Term,
        purpose: Arc<HoldPurpose>,
        memo: Memo,
    },
    Part {
        id: HoldId,
        path: Arc<Path>,
        memo: Memo,
    },
    Apply,
    /// Nobody yet: a read will come to it.
    Nobody,
    /// Nothing yet: this entry's turn to be applied has not come.
    Ahead(Index),
    Slice,
    Defragment,
}

impl Waiting {
    /// Whose it is, if it is a front's.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        match self {
            Waiting::Write(write) => Some(write.ticket),
            Waiting::Read(reading) => Some(reading.ticket),
            Waiting::Hold { .. } | Waiting::Part { .. } | Waiting::Apply | Waiting::Nobody => None,
            Waiting::Ahead(_) | Waiting::Slice | Waiting::Defragment => None,
        }
    }
}

impl Core {
    /// A core that has just been started; `replicas` are its groups', as recovery left them, lowest first;
    /// `known_stable` is the highest revision that any file of the member knows to be stable (rule 6).
    #[allow(clippy::too_many_arguments, reason = "one constructor, its parts spelled out")]
    pub fn new(
        now: Instant,
        id: CoreId,
        layout: Layout,
        board: Arc<Board>,
        replicas: Vec<Replica>,
        log: CoreLog,
        known_stable: Revision,
        chief: Option<Chief>,
    ) -> Core {
        assert_eq!(chief.is_some(), id == CoreId(0), "core 0 and no other has the election");
        let shards: Vec<Shard> = replicas.into_iter().map(Shard::new).collect();
        assert!(shards.iter().map(Shard::id).eq(layout.groups_of(id)), "a core hosts the groups that the layout gives it");
        Core {
            id,
            layout,
            board,
            shards,
            log,
            term: Term(0),
            reign: None,
            serving: false,
            live: HashSet::new(),
            cancelled: HashSet::new(),
            read_bytes_left: READ_BYTES_PER_ROUND,
            asked_leases: VecDeque::new(),
            known_stable,
            chief: chief.map(Box::new),
            carried: HashSet::new(),
            settle: Revision::ZERO,
            unreported: false,
            raising: 0,
            serves: None,
            stopping: false,
            stopped: false,
            compacted_versions: 0,
            next_trim: now,
            slices: Slices::new(now),
            now,
        }
    }

    /// Takes in one event. What it asks for is pushed to `effects`; proposals go to disk with the next [`Core::flush`].
    pub fn handle(&mut self, now: Instant, event: Event, effects: &mut Vec<Effect>) {
        self.now = now;
        self.slices.heard(now, &event);
        match event {
            Event::Front(message) => self.front_asks(message, effects),
            Event::Core(message) => self.core_says(message, effects),
            Event::WalWritten(buffer) => self.wal_written(buffer, effects),
            Event::WalRefused(write) => self.wal_refused(write),
            Event::SegmentReady(segment) => self.log.segment_ready(segment),
            Event::SegmentRefused(segment) => self.log.segment_refused(self.now, segment),
            Event::PageRead { group, fault, bytes } => self.page_read(group, fault, bytes, effects),
            Event::CheckpointStepDone(group) => self.checkpoint_step_done(group, effects),
            Event::CheckpointRefused { group, step } => self.checkpoint_refused(group, step),
            Event::Stop => self.stopping = true,
        }
    }

    fn front_asks(&mut self, message: ToCore, effects: &mut Vec<Effect>) {
        match message {
            ToCore::Write { ticket, term, group, write } => {
                let memo = Memo::default();
                self.write(group, QueuedWrite { ticket, term, write, memo, with_prev: None, told: None }, effects);
            }
            ToCore::Read { ticket, group, read } => self.read(group, Reading { ticket, read, found: None, cost: 0 }, effects),
            ToCore::Order { ticket, term, order } => self.order(ticket, term, order, effects),
            ToCore::Cancel { ticket, group: GroupId::META } => self.cancel_order(ticket, effects),
            ToCore::Cancel { ticket, .. } => drop(self.cancelled.insert(ticket)),
        }
    }

    fn core_says(&mut self, message: CoreMessage, effects: &mut Vec<Effect>) {
        match message {
            CoreMessage::Freeze(term) => self.freeze(term, effects),
            CoreMessage::AskStripes(term) => self.tell_stripes(term, effects),
            CoreMessage::Cut { term, w_final, cuts, configuration } => {
                self.cut(term, w_final, &cuts, &configuration, effects);
            }
            CoreMessage::EndReign { term, stable } => self.end_reign(term, stable, effects),
            CoreMessage::Open(reign) => self.open(reign),
            CoreMessage::LeasesAre(ids) => self.live = ids.iter().copied().collect(),
            CoreMessage::Hold { id, term, group, purpose } => {
                self.hold(HoldAsked { id, term, purpose, memo: Memo::default() }, group, effects);
            }
            CoreMessage::Evaluate { id, group, path } => {
                self.evaluate_part(id, group, path, Memo::default(), effects);
            }
            CoreMessage::Commit { id, term, group, revision, participants, decision, last } => {
                let mark = Mark::Revision { revision, participants };
                self.commit_part(CommitPart { id, term, group, mark, last }, &decision, effects);
            }
            CoreMessage::Release { id, group } => self.release(id, group, effects),
            CoreMessage::LeaseAlive(id) => {
                self.live.insert(id);
            }
            CoreMessage::LeasesTold(index) => self.leases_told(index, effects),
            CoreMessage::LeasesGone(ids) => ids.iter().for_each(|id| {
                self.live.remove(id);
            }),
            CoreMessage::Compact { term, revision } => self.propose_compaction(term, revision),
            CoreMessage::SettleCompaction(revision) => self.settle = self.settle.max(revision),
            CoreMessage::Defragment => self.start_defragment(),
            CoreMessage::Checkpointed { group, applied } => self.log.release_earlier(group, applied, effects),
            CoreMessage::Carried(core) => {
                self.carried.insert(core);
                if self.carried.len() == usize::from(self.layout.cores) {
                    self.log.carried_forward(effects);
                }
            }
            CoreMessage::Frozen { .. }
            | CoreMessage::ReignEnded { .. }
            | CoreMessage::Stripes { .. }
            | CoreMessage::BarrierAtQuorum { .. }
            | CoreMessage::Opened { .. }
            | CoreMessage::Held { .. }
            | CoreMessage::Evaluated { .. }
            | CoreMessage::Adopted { .. }
            | CoreMessage::AskLeases(_)
            | CoreMessage::Sliced { .. } => self.tell_chief(message, effects),
        }
    }

    /// Ends a wake-up: everything proposed goes to the WAL in one write, everything committed is applied, checkpoints and slices go on.
    pub fn flush(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.begin_flush(now, effects);
        self.apply_committed(effects);
        self.end_flush(effects);
    }

    /// The first part of [`Core::flush`]: what is stable is committed.
    pub fn begin_flush(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.now = now;
        self.slices.pass(now);
        self.board.count_loop(self.id);
        self.tick_chief(effects);
        self.drop_cancelled(effects);
        self.walk_on(effects);
        self.commit_stable();
        (0..self.shards.len()).for_each(|place| self.append_ready(place));
    }

    /// The last part of [`Core::flush`].
    pub fn end_flush(&mut self, effects: &mut Vec<Effect>) {
        self.slice_next(effects);
        for place in 0..self.shards.len() {
            if !self.shards[place].queue.is_empty() {
                self.queued_writes(place, effects);
                self.append_ready(place);
            }
            self.tend_pages(place, effects);
        }
        self.after_applying(effects);
        self.write_log(effects);
        self.stop_when_clean(effects);
    }

    /// Before the thread parks: whether it may (rule 2). What else has to be done first is pushed to `effects`.
    pub fn may_park(&mut self, effects: &mut Vec<Effect>) -> bool {
        let Some(reign) = self.reign.clone() else { return true };
        let parked = self.board.park_core(self.id, &reign, self.waiting_for());
        if let Some(stable) = parked.raised {
            self.wake_waiters(stable, effects);
        }
        parked.may_park
    }

    /// After a park: nobody need wake this core.
    pub fn unparked(&self) {
        self.board.unpark(Seat::Core(self.id));
    }

    /// The lowest revision that this core has at a quorum and cannot commit yet.
    fn waiting_for(&self) -> Option<Revision> {
        self.shards.iter().filter_map(Shard::waiting_for).min()
    }

    /// Acts on the stable revision: every group commits up to it (rule 5).
    fn commit_stable(&mut self) {
        let Some(reign) = &self.reign else { return };
        let stable = reign.stable();
        self.known_stable = self.known_stable.max(stable);
        for shard in &mut self.shards {
            shard.replica.raft.commit(stable);
        }
    }

    pub(super) fn wake_waiters(&self, stable: Revision, effects: &mut Vec<Effect>) {
        self.board.wake(self.term, stable, |seat| effects.push(Effect::Wake(seat)));
    }

    /// When this core wants to be called again though nothing happens.
    pub fn next_deadline(&mut self) -> Instant {
        let policy = self.layout.checkpoints;
        let checkpoint = self.shards.iter_mut().filter_map(|s| s.replica.next_checkpoint(&policy)).min();
        let chief = self.chief.as_ref().and_then(|chief| chief.next_deadline());
        let log = self.log.next_deadline();
        let retry = self.shards.iter().filter_map(|s| Some(s.refused.as_ref()?.0 + SPACE_RETRY)).min();
        [checkpoint, chief, log, retry, self.next_slice()].into_iter().flatten().min().unwrap_or(Instant::MAX)
    }

    /// The group's place among this core's shards.
    pub(super) fn place(&self, group: GroupId) -> Option<usize> {
        self.shards.binary_search_by_key(&group, Shard::id).ok()
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp {
            cluster: self.layout.cluster,
            member: self.layout.member,
            shards: self.layout.shards,
            known_stable: self.known_stable,
        }
    }

    /// The reign, if requests of `term` may be evaluated now.
    pub(super) fn reign_of(&self, term: Term) -> Result<Arc<Reign>, Refusal> {
        match &self.reign {
            Some(reign) if self.serving && reign.term() == term && !reign.is_closed() => Ok(reign.clone()),
            Some(_) | None => Err(Refusal::NotLeader),
        }
    }

    pub(super) fn answer(&self, ticket: Ticket, leave: Leave, answer: Answer, effects: &mut Vec<Effect>) {
        let message = ToFront::Answer { ticket, term: self.term, leave, answer };
        effects.push(Effect::ToFront(ticket.front, message));
    }

    pub(super) fn fronts(&self) -> impl Iterator<Item = FrontId> + use<> {
        (0..self.layout.fronts).map(FrontId)
    }

    /// The core's replicas, for checks and metrics.
    pub fn replicas(&mut self) -> impl Iterator<Item = &mut Replica> {
        self.shards.iter_mut().map(|s| &mut s.replica)
    }
}

impl Shard {
    fn new(replica: Replica) -> Shard {
        Shard {
            replica,
            overlay: Overlay::new(),
            in_flight: VecDeque::new(),
            proposed_bytes: 0,
            held: None,
            compaction_waits: Vec::new(),
            queue: VecDeque::new(),
            walking: None,
            waiting: HashMap::new(),
            sliced: Vec::new(),
            after_apply: Vec::new(),
            slicing: None,
            barrier: None,
            apply_waits: false,
            reading_ahead: 0,
            slice_waits: 0,
            refused: None,
            disk_full: false,
            file_bytes_set: None,
            defragmenting: None,
        }
    }

    pub(super) fn id(&self) -> GroupId {
        self.replica.id()
    }

    /// What the first entry counts as that a quorum has and that is not committed.
    fn waiting_for(&self) -> Option<Revision> {
        let raft = &self.replica.raft;
        let next = raft.commit_index().next();
        if next > raft.quorum_index() { None } else { raft.log().entry(next).map(|e| e.mark.counts_as()) }
    }

    /// Parks work until a page is there; asks for the page unless somebody did before.
    pub(super) fn wait_for(&mut self, fault: Fault, what: Waiting, effects: &mut Vec<Effect>) {
        let group = self.id();
        let now = self.replica.machine.store().tick();
        let awaited = self.waiting.entry(fault.first).or_insert_with(|| {
            effects.push(Effect::Disk(DiskEffect::PageRead { group, fault }));
            Awaited { since: now, work: Vec::new() }
        });
        awaited.work.push(what);
    }
}
