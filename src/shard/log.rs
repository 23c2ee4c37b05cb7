//! The core's WAL: what its groups append goes to disk in one write per wake-up, and what that makes durable is counted.

use std::collections::VecDeque;

use crate::base::limits::{SPACE_RETRY, WAL_FREE_KEPT_MAX, WAL_IDLE_SEAL, WAL_SEGMENTS_BEFORE_CHECKPOINT, WAL_SHORT_BYTES};
use crate::base::mutant::{self, Mutant};
use crate::base::{AlignedBuffer, CoreId, GroupId, Index, Instant, MemberId, Term};
use crate::wal::{GroupStart, Known, Ledger, Record, RecordNumber, SegmentName, SegmentWrite, State, Writer};

use super::core::Core;
use super::effects::{DiskEffect, Effect};
use super::messages::Refusal;

/// Writes wait for the log's disk when less room is left than this share of a batch: what most writes fit in.
const BEHIND_SHARE: usize = 4;

/// The WAL of a core, and what waits for it.
pub struct CoreLog {
    writer: Writer,
    /// The segments of earlier runs; on core 0 alone, which hears of every checkpoint.
    earlier: Ledger,
    /// Where the takeover of this run cut each group's log.
    cuts: Vec<(GroupId, Index)>,
    segment_bytes: u64,
    /// Segments that nobody needs, to be recycled.
    free: Vec<SegmentName>,
    preparing: Option<SegmentName>,
    first_is_made: bool,
    /// The first state batch of this run is on disk.
    carried: bool,
    /// The disk refused a segment, and since when.
    short_since: Option<Instant>,
    /// The write in flight was refused for want of space.
    refused: Option<RefusedWrite>,
    /// Bytes that are certain to be appended, or likely to: room is kept for them.
    promised: usize,
    persists: VecDeque<(RecordNumber, usize, u64)>,
    votes: VecDeque<(RecordNumber, Term, Option<MemberId>)>,
    /// The newest vote, recovered or appended, and its term.
    vote: (Term, Option<MemberId>),
    last_write: Instant,
    sealed: bool,
}

/// A write for which there was no space.
struct RefusedWrite {
    since: Instant,
    /// None: it is under way again.
    again: Option<SegmentWrite>,
}

impl CoreLog {
    /// A log whose first segment file has been made before any core starts. `earlier`: the segments of earlier runs, on core 0.
    /// `segment_bytes`: the length of a segment.
    pub fn new(now: Instant, writer: Writer, earlier: Ledger, segment_bytes: u64) -> CoreLog {
        CoreLog {
            vote: writer.vote(),
            writer,
            earlier,
            cuts: Vec::new(),
            segment_bytes,
            free: Vec::new(),
            preparing: None,
            first_is_made: true,
            carried: false,
            short_since: None,
            refused: None,
            promised: 0,
            persists: VecDeque::new(),
            votes: VecDeque::new(),
            last_write: now,
            sealed: true,
        }
    }

    /// Whether another write of a client may be taken: there is certain room for `bytes` (rule 18).
    ///
    /// # Errors
    /// Why there is not: the disk is full, or it is only behind.
    fn admit(&self, bytes: usize) -> Result<(), Refusal> {
        let promised = if mutant::on(Mutant::RoomNotPromised) { 0 } else { self.promised };
        match self.writer.room() >= promised + bytes {
            true => Ok(()),
            false if self.short_since.is_some() => Err(Refusal::DiskFull),
            false => Err(Refusal::TooManyRequests),
        }
    }

    /// Whether the disk is only behind, and writes had better wait for it.
    pub(super) fn is_behind(&self) -> bool {
        let full = self.short_since.is_some() || self.is_refused();
        !full && self.writer.room() < self.promised + self.writer.batch_bytes_max() / BEHIND_SHARE
    }

    /// Keeps room for what a group has proposed and the next flush appends, or a held group is going to propose.
    pub(super) fn promise(&mut self, bytes: usize) {
        self.promised += bytes;
    }

    /// It was appended, or never will be.
    pub(super) fn keep_promise(&mut self, bytes: usize) {
        assert!(bytes <= self.promised, "only what was promised is given back");
        self.promised -= bytes;
    }

    /// Whether the disk is known to be full, and little room is left.
    pub(super) fn is_short(&self) -> bool {
        self.is_refused() || self.short_since.is_some() && self.writer.room() < WAL_SHORT_BYTES
    }

    /// Whether the disk has no space for the write in flight: nothing goes to disk before there is.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    pub(super) fn append_vote(&mut self, term: Term, vote: Option<MemberId>) {
        let number = self.writer.append(&Record::Vote { term, vote });
        self.vote = (term, vote);
        self.votes.push_back((number, term, vote));
    }

    pub(super) fn segment_ready(&mut self, segment: SegmentName) {
        assert_eq!(self.preparing.take(), Some(segment), "one segment is made ready at a time");
        if self.short_since.take().is_some() {
            tracing::info!(segment = %segment, "there is space again for a WAL segment: writes are taken");
        }
        self.writer.provide_segment(segment, self.segment_bytes);
    }

    pub(super) fn segment_refused(&mut self, now: Instant, segment: SegmentName) {
        assert_eq!(self.preparing.take(), Some(segment), "one segment is made ready at a time");
        if self.short_since.replace(now).is_none() {
            tracing::warn!(segment = %segment, "no space left on the device for a WAL segment: writes are refused until there is");
        }
    }

    /// A checkpoint of `group` is durable: its log is not needed up to `upto`.
    pub(super) fn release(&mut self, group: GroupId, upto: Index) {
        self.writer.release(group, upto);
        self.free.extend(self.writer.take_free());
    }

    /// The takeover of this run cuts the logs.
    pub(super) fn taken_over(&mut self, cuts: &[(GroupId, Index)]) {
        self.cuts = cuts.to_vec();
    }

    /// The same as [`CoreLog::release`], for the segments of earlier runs: what they hold behind the cut is needed no more when the
    /// barrier behind it is applied.
    pub(super) fn release_earlier(&mut self, group: GroupId, upto: Index, effects: &mut Vec<Effect>) {
        let beyond = self.cuts.iter().any(|&(cut, after)| cut == group && upto > after);
        self.earlier.release(group, if beyond { Index(u64::MAX) } else { upto });
        self.remove_earlier(effects);
    }

    fn remove_earlier(&mut self, effects: &mut Vec<Effect>) {
        for segment in self.earlier.take_free() {
            effects.push(Effect::Disk(DiskEffect::WalRemove { segment }));
        }
    }

    /// Every core of this run has its first state batch on disk. The last of them may be later than all checkpoints.
    pub(super) fn carried_forward(&mut self, effects: &mut Vec<Effect>) {
        self.earlier.carried_forward();
        self.remove_earlier(effects);
    }

    /// Whether checkpoints should begin so that segments become free.
    pub(super) fn wants_checkpoint(&self) -> bool {
        !self.earlier.is_empty() || self.writer.ledger().segments().count() >= WAL_SEGMENTS_BEFORE_CHECKPOINT
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let seal = (!self.sealed && !self.writer.in_flight()).then(|| self.last_write + WAL_IDLE_SEAL);
        let retry = self.short_since.map(|since| since + SPACE_RETRY);
        let again = self.refused.as_ref().filter(|r| r.again.is_some()).map(|r| r.since + SPACE_RETRY);
        [seal, retry, again].into_iter().flatten().min()
    }
}

impl Core {
    /// Whether another write of a client may be taken. Not while any core's log is refused: a revision taken now could not become
    /// stable before the one that waits there.
    ///
    /// # Errors
    /// As [`CoreLog::admit`].
    pub(super) fn admit(&self, bytes: usize) -> Result<(), Refusal> {
        if self.board.logs_refused() {
            return Err(Refusal::DiskFull);
        }
        self.log.admit(bytes)
    }

    /// What a group wants persisted goes into the pending batch.
    pub(super) fn append_ready(&mut self, place: usize) {
        let shard = &mut self.shards[place];
        let group = shard.id();
        let ready = shard.replica.raft.ready();
        assert!(ready.messages.is_empty() && ready.snapshots.is_empty(), "the only voter has nobody to send to");
        let Some(persist) = ready.persist else { return };
        self.log.keep_promise(std::mem::take(&mut shard.proposed_bytes));
        let writer = &mut self.log.writer;
        let mut number = 0;
        if let Some(after) = persist.cut_after {
            number = writer.append(&Record::Cut { group, after });
        }
        if let Some(span) = persist.entries {
            for entry in shard.replica.raft.entries(span) {
                number = writer.append_entry(group, entry);
            }
        }
        self.log.persists.push_back((number, place, persist.number));
    }

    /// Begins the next write, if none is under way.
    pub(super) fn write_log(&mut self, effects: &mut Vec<Effect>) {
        self.prepare_segment(effects);
        self.write_refused_again(effects);
        self.board.publish_short(self.id, self.log.is_short());
        let known = self.known();
        let write = if self.log.writer.needs_rotation() {
            let state = self.wal_state();
            Some(self.log.writer.rotate(state, known))
        } else {
            self.log.writer.seal(known)
        };
        match write {
            Some(write) => self.begin_write(write, false, effects),
            None if self.now >= self.log.last_write + WAL_IDLE_SEAL => {
                if let Some(write) = self.log.writer.seal_tail(known) {
                    self.begin_write(write, true, effects);
                }
            }
            None => {}
        }
    }

    /// There was no space for the write in flight. It is the last of its WAL, and nobody was told of what is in it: the same bytes may
    /// go to the same place again.
    pub(super) fn wal_refused(&mut self, write: SegmentWrite) {
        let since = self.now;
        let (segment, offset) = (write.segment, write.offset);
        if self.log.refused.replace(RefusedWrite { since, again: Some(write) }).is_none() {
            self.board.count_refused_log(true);
            tracing::warn!(
                segment = %segment,
                offset,
                "no space left on the device for a write into a WAL segment: writes are refused until there is"
            );
        }
    }

    fn write_refused_again(&mut self, effects: &mut Vec<Effect>) {
        let now = self.now;
        let due = self.log.refused.as_mut().filter(|refused| now >= refused.since + SPACE_RETRY);
        if let Some(write) = due.and_then(|refused| refused.again.take()) {
            let sealed = self.log.sealed;
            self.begin_write(write, sealed, effects);
        }
    }

    fn begin_write(&mut self, write: SegmentWrite, sealed: bool, effects: &mut Vec<Effect>) {
        let SegmentWrite { segment, offset, buffer, bytes } = write;
        self.log.last_write = self.now;
        self.log.sealed = sealed;
        effects.push(Effect::Disk(DiskEffect::WalWrite { segment, offset, buffer, bytes }));
    }

    fn prepare_segment(&mut self, effects: &mut Vec<Effect>) {
        // Oldest first: those that are left must follow one another, at whatever point the process ends.
        while self.log.free.len() > WAL_FREE_KEPT_MAX + 1 {
            let segment = self.log.free.remove(0);
            effects.push(Effect::Disk(DiskEffect::WalRemove { segment }));
        }
        let Some(segment) = self.log.writer.wants_segment() else { return };
        let waits = self.log.short_since.is_some_and(|since| self.now < since + SPACE_RETRY);
        if self.log.preparing.is_some() || waits {
            return;
        }
        self.log.preparing = Some(segment);
        let made = std::mem::take(&mut self.log.first_is_made);
        let recycle = if made || self.log.free.is_empty() { None } else { Some(self.log.free.remove(0)) };
        let bytes = self.log.segment_bytes;
        effects.push(Effect::Disk(DiskEffect::WalPrepare { segment, recycle, bytes, made }));
    }

    /// What this member knows about itself, for the next header (rule 17).
    fn known(&self) -> Known {
        Known { stable: self.known_stable, serving: self.board.serving(), meta_applied: self.board.applied(GroupId::META) }
    }

    fn wal_state(&self) -> State {
        let groups = self.shards.iter().map(|shard| {
            let raft = &shard.replica.raft;
            let start = raft.log().start();
            GroupStart {
                group: shard.id(),
                start: start.index,
                start_term: start.term,
                configuration: raft.configuration_at(start.index).encode(),
            }
        });
        let (term, vote) = if self.log.vote.0 >= self.term { self.log.vote } else { (self.term, None) };
        State { term, vote, groups: groups.collect() }
    }

    /// The write under way is on disk.
    pub(super) fn wal_written(&mut self, buffer: AlignedBuffer, effects: &mut Vec<Effect>) {
        if self.log.refused.take().is_some() {
            self.board.count_refused_log(false);
            tracing::info!("there is space again for the WAL: writes are taken");
        }
        self.log.writer.written(buffer);
        let durable = self.log.writer.durable();
        if !self.log.carried {
            self.log.carried = true;
            effects.push(Effect::ToCore(CoreId(0), super::events::CoreMessage::Carried(self.id)));
        }
        let mut reached = 0u128;
        while let Some((_, place, number)) = self.log.persists.pop_front_if(|(record, ..)| *record <= durable) {
            self.shards[place].replica.raft.persisted(number);
            reached |= 1 << place;
        }
        for place in 0..self.shards.len() {
            if reached & (1 << place) != 0 {
                self.quorum_reached(place, effects);
            }
        }
        while let Some((_, term, vote)) = self.log.votes.pop_front_if(|(record, ..)| *record <= durable) {
            self.vote_written(term, vote, effects);
        }
        if self.unreported {
            self.report_if_settled(effects);
        }
    }
}
