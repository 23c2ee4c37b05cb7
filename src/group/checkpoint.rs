//! The steps of a checkpoint: pages, sync, meta page, done. One at a time per group.
//!
//! ```text
//!  Idle ──begin──▶ Writing, some pages a step ──all written──▶ Syncing ──synced──▶ Meta ──written──▶ Idle
//! ```
//!
//! The meta page is written only when everything it points to is on disk; the log is forgotten only when the meta page is.

use std::time::Duration;

use crate::base::limits::{CHECKPOINT_PAGES_PER_STEP, ROOM_AT_ONCE_PART, UNWRITTEN_SHARES_MAX};
use crate::base::{Index, Instant};
use crate::pages::{PageWrite, Progress, Store};

use super::Note;

/// When a checkpoint is due.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointPolicy {
    /// As soon as this many bytes of pages are dirty and it is worth to write them ([`Store::is_worth_writing`]).
    pub dirty_bytes: u64,
    /// As soon as this many are.
    pub dirty_bytes_max: u64,
    /// As soon as this many entries were applied since the last one: what a restart reads again.
    pub entries: u64,
    /// Otherwise this long after the last one, when anything changed.
    pub interval: Duration,
}

impl CheckpointPolicy {
    /// With so many bytes of pages dirty beside a checkpoint under way, nothing more is applied before more of that is on disk: they would
    /// take memory without bound where applying is faster than the disk. A part of the room is there at once, the rest comes as the
    /// checkpoint goes on, so that what applies is slowed to the disk's pace, and not stopped when all the room is taken.
    pub fn dirty_bytes_beside(&self, checkpoint: Progress) -> u64 {
        let Progress { written, bytes } = checkpoint;
        let room = (UNWRITTEN_SHARES_MAX * self.dirty_bytes_max).saturating_sub(bytes);
        let at_once = room / ROOM_AT_ONCE_PART;
        let part = |of: u64| (u128::from(of) * u128::from(written) / u128::from(bytes.max(1))) as u64;
        if written >= bytes { room } else { at_once + part(room - at_once) }
    }

    /// With so many dirty, compaction waits: the rest of the room is left to writes.
    pub fn dirty_bytes_beside_of_compaction(&self, checkpoint: Progress) -> u64 {
        self.dirty_bytes_beside(checkpoint) / 2
    }

    /// With so many bytes evaluated and not applied, no further write is evaluated.
    pub const fn unapplied_bytes_max(&self) -> u64 {
        self.dirty_bytes / 2
    }
}

/// What to do next for a checkpoint.
#[derive(Debug)]
pub enum CheckpointStep {
    /// Write these pages, in any order; report when all are written.
    Write(Vec<PageWrite>),
    /// Make what was written durable; report.
    Sync,
    /// Write the meta page durably; report.
    WriteMeta(PageWrite),
    /// The checkpoint stands: the log is no longer needed up to `applied`; the file is this long from now on. Report when it is: the
    /// next checkpoint may write behind that.
    Done {
        /// The last entry in it.
        applied: Index,
        /// The length that the file may be cut or grown to.
        file_bytes: u64,
    },
    /// Nothing: the next checkpoint may begin.
    Rest,
}

/// Where a group's checkpoint stands.
pub(super) struct Checkpointing {
    stage: Stage,
    last: Instant,
}

enum Stage {
    Idle,
    Writing(Pending),
    Syncing(Pending),
    Meta(Done),
    Resizing,
}

struct Pending {
    meta: PageWrite,
    done: Done,
}

#[derive(Clone, Copy)]
struct Done {
    applied: Index,
    file_bytes: u64,
}

impl Checkpointing {
    pub(super) fn idle_since(now: Instant) -> Checkpointing {
        Checkpointing { stage: Stage::Idle, last: now }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    /// Whether one should begin now. `entries` were applied and `dirty_bytes` of pages changed since the last one.
    pub(super) fn is_due(
        &self,
        now: Instant,
        entries: u64,
        dirty_bytes: u64,
        is_worth_it: bool,
        policy: &CheckpointPolicy,
    ) -> bool {
        let changed = entries > 0 || dirty_bytes > 0;
        let bytes = if is_worth_it { policy.dirty_bytes } else { policy.dirty_bytes_max };
        let much = entries >= policy.entries || dirty_bytes >= bytes;
        self.is_idle() && changed && (much || now >= self.next(policy))
    }

    /// When the interval is over.
    pub(super) fn next(&self, policy: &CheckpointPolicy) -> Instant {
        self.last + policy.interval
    }

    pub(super) fn begin(&mut self, now: Instant, store: &mut Store, note: &Note) -> CheckpointStep {
        assert!(self.is_idle(), "one checkpoint at a time");
        self.last = now;
        let checkpoint = store.begin_checkpoint(&note.encode());
        let done = Done { applied: note.applied, file_bytes: checkpoint.file_bytes };
        self.stage = Stage::Writing(Pending { meta: checkpoint.meta, done });
        self.advance(store)
    }

    /// What was asked for last is done; what comes next.
    pub(super) fn advance(&mut self, store: &mut Store) -> CheckpointStep {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => unreachable!("a checkpoint step was reported that nobody asked for"),
            Stage::Writing(pending) => {
                let writes = store.checkpoint_writes(CHECKPOINT_PAGES_PER_STEP);
                if writes.is_empty() {
                    self.stage = Stage::Syncing(pending);
                    return CheckpointStep::Sync;
                }
                self.stage = Stage::Writing(pending);
                CheckpointStep::Write(writes)
            }
            Stage::Syncing(pending) => {
                self.stage = Stage::Meta(pending.done);
                CheckpointStep::WriteMeta(pending.meta)
            }
            Stage::Meta(done) => {
                store.finish_checkpoint();
                self.stage = Stage::Resizing;
                CheckpointStep::Done { applied: done.applied, file_bytes: done.file_bytes }
            }
            Stage::Resizing => CheckpointStep::Rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_due_by_entries_by_bytes_or_by_time() {
        let policy =
            CheckpointPolicy { dirty_bytes: 1000, dirty_bytes_max: 3000, entries: 10, interval: Duration::from_secs(30) };
        let now = Instant::ZERO + Duration::from_secs(100);
        let idle = Checkpointing::idle_since(now);
        let due = |after: u64, entries, dirty, is_worth_it| {
            idle.is_due(now + Duration::from_secs(after), entries, dirty, is_worth_it, &policy)
        };
        assert!(!due(0, 9, 999, true) && due(0, 10, 0, false) && due(0, 1, 1000, true));
        assert!(!due(0, 1, 2999, false) && due(0, 1, 3000, false));
        assert!(!due(29, 1, 0, true) && due(30, 1, 0, false) && due(30, 0, 1, false));
        assert!(!due(300, 0, 0, true), "nothing changed");
    }

    #[test]
    fn the_room_beside_a_checkpoint_comes_as_it_goes_on() {
        let policy =
            CheckpointPolicy { dirty_bytes: 1000, dirty_bytes_max: 3000, entries: 10, interval: Duration::from_secs(30) };
        let beside = |written, bytes| policy.dirty_bytes_beside(Progress { written, bytes });
        assert_eq!([beside(0, 2000), beside(1000, 2000), beside(2000, 2000)], [1000, 2500, 4000]);
        assert_eq!(beside(0, 6000), 0, "there is none beside one that takes it all");
        assert_eq!(beside(0, 0), 6000, "nor does one that is over take any");
        assert_eq!(beside(u64::MAX / 2, u64::MAX), 0);
    }
}
