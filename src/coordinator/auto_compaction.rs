//! Compaction that nobody asks for: when, and up to which revision (etcd's `v3compactor`).
//!
//! ```text
//!  periodic   a sample of the revision every tenth of min(retention, 1h); the first compaction after one retention,
//!             then one every min(retention, 1h), up to the sample that is one retention old
//!  revision   every 5 minutes up to the current revision less the retention
//! ```
//!
//! Invariant: one compaction is under way at a time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::limits::AUTO_COMPACTION_SAMPLE_INTERVAL_MIN;
use crate::base::{Instant, Revision};
use crate::config::{AutoCompaction, go_duration};

/// Retentions above this are compacted this often.
const INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// Samples per interval, and attempts after a failed one.
const SAMPLES_PER_INTERVAL: u32 = 10;
/// Time between two compactions by number of revisions.
const REVISION_INTERVAL: Duration = Duration::from_secs(300);

/// What compacts by itself.
pub(super) struct AutoCompactor {
    mode: Mode,
    /// When to look next; `None`: at once, or never.
    next: Option<Instant>,
    /// The last compaction that was done.
    last: Revision,
    under_way: Option<UnderWay>,
}

enum Mode {
    Off,
    Periodic(Periodic),
    Revision { retention: u64 },
}

struct Periodic {
    retention: Duration,
    /// The revisions sampled, oldest first; full, the first is one retention old.
    samples: VecDeque<Revision>,
    /// When the last compaction ended, or the sampling began.
    last_end: Instant,
    /// How long after that the next one is due: the retention before the first, the interval afterwards.
    wait: Duration,
}

#[derive(Clone, Copy)]
struct UnderWay {
    revision: Revision,
    since: Instant,
}

impl Periodic {
    fn interval(&self) -> Duration {
        self.retention.min(INTERVAL_MAX)
    }

    fn sample_interval(&self) -> Duration {
        (self.interval() / SAMPLES_PER_INTERVAL).max(AUTO_COMPACTION_SAMPLE_INTERVAL_MIN)
    }

    fn samples_max(&self) -> usize {
        let samples = self.retention.as_nanos() / self.sample_interval().as_nanos() + 1;
        usize::try_from(samples).unwrap_or(usize::MAX)
    }

    fn sample(&mut self, revision: Revision) {
        self.samples.push_back(revision);
        if self.samples.len() > self.samples_max() {
            self.samples.pop_front();
        }
    }

    /// The revision to compact to, when it is time.
    fn due(&mut self, now: Instant, last: Revision) -> Option<Revision> {
        let revision = *self.samples.front()?;
        if now.since(self.last_end) < self.wait || revision == last {
            return None;
        }
        self.wait = self.interval();
        Some(revision)
    }
}

impl AutoCompactor {
    pub(super) fn new(mode: AutoCompaction) -> AutoCompactor {
        let mode = match mode {
            AutoCompaction::Off => Mode::Off,
            AutoCompaction::Periodic(retention) => {
                assert!(!retention.is_zero(), "a retention of nothing is no auto-compaction");
                Mode::Periodic(Periodic { retention, samples: VecDeque::new(), last_end: Instant::ZERO, wait: retention })
            }
            AutoCompaction::Revision(retention) => Mode::Revision { retention },
        };
        AutoCompactor { mode, next: None, last: Revision::ZERO, under_way: None }
    }

    /// When [`AutoCompactor::tick`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self.mode {
            Mode::Off => None,
            Mode::Periodic(_) | Mode::Revision { .. } => Some(self.next.unwrap_or(Instant::ZERO)),
        }
    }

    /// What to compact to, when it is time: to be reported with [`AutoCompactor::done`] or [`AutoCompactor::failed`].
    /// `revision` is the current one.
    pub(super) fn tick(&mut self, now: Instant, revision: Revision) -> Option<Revision> {
        let is_first = self.next.is_none();
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        let due = match &mut self.mode {
            Mode::Off => return None,
            Mode::Revision { retention } => {
                self.next = Some(now + REVISION_INTERVAL);
                revision
                    .get()
                    .checked_sub(*retention)
                    .map(Revision)
                    .filter(|r| !is_first && *r > Revision::ZERO && *r != self.last)
            }
            Mode::Periodic(periodic) => {
                self.next = Some(now + periodic.sample_interval());
                if is_first {
                    periodic.last_end = now;
                }
                let due = if self.under_way.is_none() { periodic.due(now, self.last) } else { None };
                periodic.sample(revision);
                due
            }
        };
        let revision = due.filter(|_| self.under_way.is_none())?;
        self.under_way = Some(UnderWay { revision, since: now });
        self.tell_start(revision);
        Some(revision)
    }

    /// The compaction has taken effect, or was not needed any more.
    pub(super) fn done(&mut self, now: Instant) {
        let UnderWay { revision, since } = self.under_way.take().expect("a compaction was asked for");
        self.last = revision;
        if let Mode::Periodic(periodic) = &mut self.mode {
            periodic.last_end = now;
        }
        let (revision, took) = (revision.get(), go_duration(now.since(since)));
        match &self.mode {
            Mode::Off => unreachable!("what is off asks for nothing"),
            Mode::Periodic(p) => {
                let period = go_duration(p.retention);
                tracing::info!(revision, "compact-period" = period, took, "completed auto periodic compaction");
            }
            Mode::Revision { retention } => {
                let keep = *retention;
                tracing::info!(revision, "revision-compaction-retention" = keep, took, "completed auto revision compaction");
            }
        }
    }

    /// The compaction that is under way, if one is, is not going to be: it is tried again at its time.
    pub(super) fn failed(&mut self, why: &str) {
        let Some(UnderWay { revision, .. }) = self.under_way.take() else { return };
        let revision = revision.get();
        match &self.mode {
            Mode::Off => unreachable!("what is off asks for nothing"),
            Mode::Periodic(p) => {
                let (period, retry) = (go_duration(p.retention), go_duration(p.sample_interval()));
                tracing::warn!(
                    revision,
                    "compact-period" = period,
                    "retry-interval" = retry,
                    error = why,
                    "failed auto periodic compaction"
                );
            }
            Mode::Revision { retention } => {
                let (keep, retry) = (*retention, go_duration(REVISION_INTERVAL));
                tracing::warn!(
                    revision,
                    "revision-compaction-retention" = keep,
                    "retry-interval" = retry,
                    error = why,
                    "failed auto revision compaction"
                );
            }
        }
    }

    fn tell_start(&self, revision: Revision) {
        let revision = revision.get();
        match &self.mode {
            Mode::Off => unreachable!("what is off asks for nothing"),
            Mode::Periodic(p) => {
                tracing::info!(revision, "compact-period" = go_duration(p.retention), "starting auto periodic compaction");
            }
            Mode::Revision { retention } => {
                let keep = *retention;
                tracing::info!(revision, "revision-compaction-retention" = keep, "starting auto revision compaction");
            }
        }
    }
}

#[cfg(test)]
#[path = "auto_compaction_test.rs"]
mod tests;
