//! Pages: faults, applying, checkpoints, eviction.

use crate::base::limits::{
    APPLY_AHEAD_READS, APPLY_BATCH_MAX, FORGET_BATCH_MAX, READ_BYTES_PER_ROUND, SPACE_RETRY, TRIM_INTERVAL,
};
use crate::base::{AlignedBuffer, CoreId, GroupId, Index, Instant, Revision};
use crate::group::{Applied, ApplyError, CheckpointPolicy, CheckpointStep, Replica};
use crate::pages::{Fault, file_name};

use super::core::{Core, Shard, Waiting};
use super::defragment::Defragmenting;
use super::effects::{DiskEffect, Effect};
use super::events::CoreMessage;
use super::holds::HoldAsked;

impl Core {
    /// Pages were read: what waited for them goes on.
    pub(super) fn page_read(&mut self, group: GroupId, fault: Fault, bytes: Option<AlignedBuffer>, effects: &mut Vec<Effect>) {
        let place = self.place(group).expect("a core reads its own groups' pages");
        let replica = &mut self.shards[place].replica;
        let outcome = match bytes {
            Some(bytes) => replica.install(fault, bytes),
            None => replica.missing(fault),
        };
        if let Err(damage) = outcome {
            return effects.push(Effect::Fatal(format!("page file {} is damaged: {damage}", file_name(group))));
        }
        let work = self.shards[place].waiting.remove(&fault.first).map_or(Vec::new(), |awaited| awaited.work);
        for waiting in work {
            self.go_on(place, waiting, effects);
        }
    }

    /// Walks that have done a slice do the next one, and reads that waited for their turn begin; groups share what may be gathered.
    pub(super) fn walk_on(&mut self, effects: &mut Vec<Effect>) {
        let walking = self.shards.iter().filter(|shard| self.walks(shard, self.now)).count();
        let share = READ_BYTES_PER_ROUND / walking.max(1);
        let mut gathered = 0;
        for place in 0..self.shards.len() {
            self.read_bytes_left = share;
            for waiting in std::mem::take(&mut self.shards[place].sliced) {
                match waiting {
                    Waiting::Read(reading) if self.is_for_later(&reading.read) => {
                        self.shards[place].sliced.push(Waiting::Read(reading));
                    }
                    waiting => self.go_on(place, waiting, effects),
                }
            }
            gathered += share - self.read_bytes_left;
        }
        self.read_bytes_left = READ_BYTES_PER_ROUND.saturating_sub(gathered);
    }

    fn go_on(&mut self, place: usize, waiting: Waiting, effects: &mut Vec<Effect>) {
        let group = self.shards[place].id();
        match waiting {
            Waiting::Write(write) => self.write_again(place, write, effects),
            Waiting::Read(reading) => self.read_on(place, reading, effects),
            Waiting::Hold { id, term, purpose, memo } => self.hold(HoldAsked { id, term, purpose, memo }, group, effects),
            Waiting::Part { id, path, memo } => self.evaluate_part(id, group, path, memo, effects),
            Waiting::Nobody => {}
            Waiting::Apply => self.shards[place].apply_waits = false,
            Waiting::Ahead(index) => self.shards[place].look_again(index, effects),
            Waiting::Slice => self.slice_again(place, effects),
            Waiting::Defragment => self.shards[place].defragmenting.iter_mut().for_each(Defragmenting::go_on),
        }
    }

    /// Whether [`Core::apply_committed`] has entries to apply, all of whose pages may be there.
    pub fn has_to_apply(&self) -> bool {
        self.shards.iter().any(|shard| !shard.apply_waits && !shard.replica.is_applied())
    }

    /// The second part of [`Core::flush`]: a piece of what is committed is applied.
    pub fn apply_committed(&mut self, effects: &mut Vec<Effect>) {
        (0..self.shards.len()).for_each(|place| self.apply(place, effects));
    }

    /// Applies what is committed, a bounded piece at a time.
    fn apply(&mut self, place: usize, effects: &mut Vec<Effect>) {
        let shard = &mut self.shards[place];
        if shard.apply_waits || shard.replica.is_applied() {
            return shard.forget_applied();
        }
        let mut applied: Vec<Applied> = Vec::new();
        let (policy, unlimited) = (self.layout.checkpoints, shard.disk_full);
        let changes = shard.replica.machine.changes();
        let goes_on = |replica: &Replica| unlimited || !replica.is_held_up(&policy);
        let outcome = shard.replica.apply(APPLY_BATCH_MAX, goes_on, |entry| {
            if entry.payload.is_some() {
                applied.push(entry);
            }
        });
        self.slices.changed(shard.replica.machine.changes() - changes);
        let group = shard.id();
        shard.forget_applied();
        self.board.publish_applied(group, shard.replica.applied());
        match outcome {
            Ok(()) => {}
            Err(ApplyError::Fault(fault)) => {
                shard.apply_waits = true;
                shard.wait_for(fault, Waiting::Apply, effects);
                shard.look_ahead(effects);
            }
            Err(ApplyError::Malformed(index)) => {
                return effects
                    .push(Effect::Fatal(format!("entry {index} of group {group}'s log holds no payload of this program")));
            }
        }
        if !self.shards[place].after_apply.is_empty() {
            for reading in std::mem::take(&mut self.shards[place].after_apply) {
                self.read(group, reading, effects);
            }
        }
        for entry in applied {
            self.entry_applied(group, entry, effects);
        }
    }

    /// What an entry without kv effects means outside its group.
    fn entry_applied(&mut self, group: GroupId, entry: Applied, effects: &mut Vec<Effect>) {
        if let Some(crate::state::Payload::Compaction(revision)) = &entry.payload {
            self.board.raise_compact_floor(*revision);
        }
        if group == GroupId::META {
            self.meta_applied(entry, effects);
        }
    }

    /// What follows from applying: the barriers reached, pages evicted.
    pub(super) fn after_applying(&mut self, effects: &mut Vec<Effect>) {
        self.serve_when_applied(effects);
        let trims = self.now >= self.next_trim;
        if trims {
            self.next_trim = self.now + TRIM_INTERVAL;
        }
        for shard in &mut self.shards {
            // What a call found before it met a missing page must be there when it is made again: however small the cache is, it
            // comes to its end.
            let oldest = shard.waiting.values().map(|awaited| awaited.since).min();
            let store = shard.replica.machine.store();
            if trims {
                store.trim(oldest);
            }
            match oldest {
                Some(since) => store.evict_but(since),
                None => store.evict(),
            };
        }
    }

    /// Defragmentation, and a checkpoint when one is due.
    pub(super) fn tend_pages(&mut self, place: usize, effects: &mut Vec<Effect>) {
        self.defragment(place, effects);
        self.retry_refused(place, effects);
        let stamp = self.stamp();
        let due = self.stopping || self.log.wants_checkpoint();
        let policy = self.layout.checkpoints;
        let defragmenting = self.shards[place].defragmentation_wants_checkpoint(&policy);
        let replica = &mut self.shards[place].replica;
        let behind = replica.applied() > replica.checkpointed();
        let settling = replica.sliced() >= self.settle && replica.sliced() > replica.sliced_on_disk() || defragmenting;
        if replica.is_whole()
            && replica.checkpoint_is_idle()
            && (replica.checkpoint_is_due(self.now, &policy) || (due && behind) || settling)
        {
            let step = replica.begin_checkpoint(self.now, &stamp);
            self.checkpoint_step(place, step, effects);
        }
        let store = self.shards[place].replica.machine.store();
        let (used, file) = (store.used_bytes(), store.file_bytes());
        self.board.publish_bytes(self.shards[place].id(), used, file);
    }

    /// The step that a checkpoint waited for is done.
    pub(super) fn checkpoint_step_done(&mut self, group: GroupId, effects: &mut Vec<Effect>) {
        let place = self.place(group).expect("a core writes its own groups' pages");
        if std::mem::take(&mut self.shards[place].disk_full) {
            tracing::info!(group = group.get(), "there is space again for a checkpoint");
        }
        let step = self.shards[place].replica.advance_checkpoint();
        self.checkpoint_step(place, step, effects);
    }

    fn checkpoint_step(&mut self, place: usize, step: CheckpointStep, effects: &mut Vec<Effect>) {
        let group = self.shards[place].id();
        let disk = match step {
            CheckpointStep::Write(writes) => DiskEffect::PagesWrite { group, writes },
            CheckpointStep::Sync => DiskEffect::PagesSync { group },
            CheckpointStep::WriteMeta(write) => DiskEffect::MetaWrite { group, write },
            CheckpointStep::Rest => return,
            CheckpointStep::Done { applied, file_bytes } => {
                self.log.release(group, applied);
                effects.push(Effect::ToCore(CoreId(0), CoreMessage::Checkpointed { group, applied }));
                self.tell_sliced(place, effects);
                self.shards[place].checkpoint_finished();
                if self.shards[place].file_bytes_set.replace(file_bytes) == Some(file_bytes) {
                    let step = self.shards[place].replica.advance_checkpoint();
                    return self.checkpoint_step(place, step, effects);
                }
                DiskEffect::PagesLength { group, bytes: file_bytes }
            }
        };
        effects.push(Effect::Disk(disk));
    }

    /// Tells core 0 up to where nothing removable is left on disk.
    fn tell_sliced(&self, place: usize, effects: &mut Vec<Effect>) {
        let shard = &self.shards[place];
        let revision = shard.replica.sliced_on_disk();
        if revision > Revision::ZERO {
            let message = CoreMessage::Sliced { group: shard.id(), revision };
            effects.push(Effect::ToCore(CoreId(0), message));
        }
    }

    /// Whether walks, applying, slices or defragmentation have more to do at once.
    pub fn has_background_work(&self, now: Instant) -> bool {
        let policy = self.layout.checkpoints;
        self.has_slices(now)
            || self.shards.iter().any(|s| {
                let applying = !s.replica.is_applied() && !s.apply_waits && !s.is_held_up(&policy);
                let forgetting = s.overlay.has_up_to(s.replica.applied_revision());
                applying || s.defragments(&policy) || forgetting
            })
    }

    /// The disk had no room for a step of a checkpoint: it is tried again a little later.
    pub(super) fn checkpoint_refused(&mut self, group: GroupId, step: DiskEffect) {
        let place = self.place(group).expect("a core writes its own groups' pages");
        let shard = &mut self.shards[place];
        if !std::mem::replace(&mut shard.disk_full, true) {
            tracing::warn!(
                group = group.get(),
                "no space left on the device for a checkpoint: it is tried again until there is"
            );
        }
        shard.refused = Some((self.now, step));
    }

    fn retry_refused(&mut self, place: usize, effects: &mut Vec<Effect>) {
        let now = self.now;
        if let Some((_, step)) = self.shards[place].refused.take_if(|(since, _)| now >= *since + SPACE_RETRY) {
            effects.push(Effect::Disk(step));
        }
    }

    /// When the member stops and every group has everything applied in a durable checkpoint, it may.
    pub(super) fn stop_when_clean(&mut self, effects: &mut Vec<Effect>) {
        if !self.stopping || self.stopped {
            return;
        }
        let clean = self.shards.iter().all(|s| {
            let replica = &s.replica;
            let checkpointed = replica.checkpoint_is_idle() && replica.applied() == replica.checkpointed();
            // On a full disk the checkpoint is left to the next run: everything is in the log. What could not be written to that, nobody
            // was told of.
            let written = s.in_flight.is_empty() || self.log.is_refused();
            written && (checkpointed || s.refused.is_some())
        });
        if clean {
            self.stopped = true;
            effects.push(Effect::Stopped);
        }
    }
}

impl Shard {
    /// Whether what makes pages dirty waits for the checkpoint under way. Not on a full disk, where that may take for ever.
    fn is_held_up(&self, policy: &CheckpointPolicy) -> bool {
        !self.disk_full && self.replica.is_held_up(policy)
    }

    /// What is applied is read from the store; it leaves the overlay, a bounded number of changes at a time.
    fn forget_applied(&mut self) {
        self.overlay.remove_applied(self.replica.applied_revision(), FORGET_BATCH_MAX);
    }

    /// While applying waits for a page, those that the entries behind will want are read as well.
    fn look_ahead(&mut self, effects: &mut Vec<Effect>) {
        let room = APPLY_AHEAD_READS.saturating_sub(self.reading_ahead);
        for (index, fault) in self.replica.look_ahead(room) {
            self.read_ahead(index, fault, effects);
        }
    }

    /// A page that an entry behind the next one will want is there: the one below it is wanted next, and those of further entries.
    fn look_again(&mut self, index: Index, effects: &mut Vec<Effect>) {
        self.reading_ahead -= 1;
        for fault in self.replica.look_at(index) {
            self.read_ahead(index, fault, effects);
        }
        self.look_ahead(effects);
    }

    /// An entry with many changes wants many pages, and is looked at whenever one of them has come: it waits for each once.
    fn read_ahead(&mut self, index: Index, fault: Fault, effects: &mut Vec<Effect>) {
        let is_it = |waiting: &Waiting| matches!(waiting, Waiting::Ahead(of) if *of == index);
        if !self.waiting.get(&fault.first).is_some_and(|awaited| awaited.work.iter().any(is_it)) {
            self.reading_ahead += 1;
            self.wait_for(fault, Waiting::Ahead(index), effects);
        }
    }
}
