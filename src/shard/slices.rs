//! Work that nobody waits for: what a compaction removes, and its hash. It is done in slices, between the requests of clients.
//!
//! While clients ask for something, a core spends no more on it than it earns, counted in visits of versions: so many for the time that
//! goes by, and some for each change that clients make, so that compactions gain on them however many there are. Where nobody asks, one
//! slice follows the other.

use std::time::Duration;

use crate::base::Instant;
use crate::base::limits::{
    COMPACT_HASH_VERSION_BYTES, COMPACT_SLICE_INTERVAL, COMPACT_SLICE_VISITS, COMPACT_SLICE_VISITS_MAX,
    COMPACT_VISITS_PER_CHANGE, READ_POLL, SLICE_BYTES_MAX,
};
use crate::group::{CheckpointPolicy, Machine};
use crate::mvcc::hash::HashQuery;
use crate::mvcc::{Budget, Compacted, Compaction};

use super::core::{Core, Shard, Waiting};
use super::effects::Effect;
use super::events::{CoreMessage, Event};
use super::messages::{Read, ToCore};
use super::reading;

/// What a slice is given at least.
const SLICE_VISITS: i64 = COMPACT_SLICE_VISITS as i64;
/// The time that earns a visit.
const TIME_PER_VISIT: Duration = COMPACT_SLICE_INTERVAL.checked_div(COMPACT_SLICE_VISITS).expect("a slice visits something");
/// A hash looks at each version once, where a compaction may look for the one before and remove it.
const HASHED_PER_VISIT: u32 = 2;

/// What a core may spend on slices, and whose turn it is.
#[derive(Debug)]
pub(super) struct Slices {
    /// When a client asked for something last.
    asked: Instant,
    /// Visits that may be made; below zero when slices took more than there was.
    visits: i64,
    /// Up to when time has earned visits.
    earned: Instant,
    /// The place of the group whose turn it is.
    turn: usize,
}

impl Slices {
    pub(super) fn new(now: Instant) -> Slices {
        Slices { asked: now, visits: SLICE_VISITS, earned: now, turn: 0 }
    }

    /// What may be of a client, who goes first.
    pub(super) fn heard(&mut self, now: Instant, event: &Event) {
        let is_of_client = match event {
            Event::Front(ToCore::Read { read, .. }) => !is_of_compaction(read),
            Event::Front(_) => true,
            Event::Core(message) => {
                matches!(message, CoreMessage::Hold { .. } | CoreMessage::Evaluate { .. } | CoreMessage::Commit { .. })
            }
            _ => false,
        };
        if is_of_client {
            self.asked = now;
        }
    }

    /// It is `now`: time has earned something, up to one slice; all of that where nobody asks.
    pub(super) fn pass(&mut self, now: Instant) {
        let earned = now.since(self.earned).as_nanos() / TIME_PER_VISIT.as_nanos();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        let rises_to = match self.is_quiet(now) {
            true => SLICE_VISITS,
            false => SLICE_VISITS.min(self.visits + i64::from(earned)),
        };
        self.visits = self.visits.max(rises_to);
        self.earned = if earned < COMPACT_SLICE_VISITS { self.earned + TIME_PER_VISIT * earned } else { now };
    }

    /// Clients have changed something.
    pub(super) fn changed(&mut self, changes: u64) {
        let most = i64::from(COMPACT_SLICE_VISITS_MAX);
        let earned = i64::try_from(changes.saturating_mul(COMPACT_VISITS_PER_CHANGE)).unwrap_or(most);
        self.visits = self.visits.max(most.min(self.visits.saturating_add(earned)));
    }

    pub(super) fn spend(&mut self, visits: u32) {
        self.visits -= i64::from(visits);
    }

    /// What a slice may visit.
    pub(super) fn allowance(&self) -> u32 {
        self.visits.clamp(SLICE_VISITS, i64::from(COMPACT_SLICE_VISITS_MAX)) as u32
    }

    /// Whether slices let clients' requests go first.
    fn rest(&self, now: Instant) -> bool {
        self.visits < SLICE_VISITS && !self.is_quiet(now)
    }

    fn is_quiet(&self, now: Instant) -> bool {
        now.since(self.asked) >= COMPACT_SLICE_INTERVAL
    }

    /// When there will be enough for a slice.
    fn rested(&self) -> Instant {
        let missing = (SLICE_VISITS - self.visits).max(0);
        let earned = self.earned + TIME_PER_VISIT * u32::try_from(missing).unwrap_or(u32::MAX);
        earned.min(self.asked + COMPACT_SLICE_INTERVAL)
    }
}

impl Core {
    /// One slice of a compaction, for one group, if it is time.
    pub(super) fn slice_next(&mut self, effects: &mut Vec<Effect>) {
        if self.slices.rest(self.now) {
            return;
        }
        let groups = self.shards.len();
        let next = (0..groups).map(|i| (self.slices.turn + i) % groups).find(|&place| self.may_slice(&self.shards[place]));
        let Some(place) = next else { return };
        self.slices.turn = place + 1;
        self.slice(place, effects);
    }

    /// A page has come that a slice waited for. With the last of them it is done at once: they may be gone by its next turn.
    pub(super) fn slice_again(&mut self, place: usize, effects: &mut Vec<Effect>) {
        self.shards[place].slice_waits -= 1;
        if self.may_slice(&self.shards[place]) {
            self.slice(place, effects);
        }
    }

    /// Whether a slice of a compaction would find something to do for this group, and nobody reads what it would remove.
    fn may_slice(&self, shard: &Shard) -> bool {
        shard.slices(&self.layout.checkpoints) && self.board.lowest_read() >= shard.replica.floor()
    }

    /// Whether a read is one of a compaction, and these rest.
    pub(super) fn rests(&self, read: &Read, now: Instant) -> bool {
        is_of_compaction(read) && self.slices.rest(now)
    }

    /// Whether a walk goes on in the next round.
    pub(super) fn walks(&self, shard: &Shard, now: Instant) -> bool {
        let rests = |waiting: &Waiting| matches!(waiting, Waiting::Read(reading) if self.rests(&reading.read, now));
        shard.sliced.iter().any(|waiting| !rests(waiting))
    }

    /// Whether there is a slice to do `now`, of a compaction or of a walk.
    pub(super) fn has_slices(&self, now: Instant) -> bool {
        let compacts = |shard| !self.slices.rest(now) && self.may_slice(shard);
        self.shards.iter().any(|shard| compacts(shard) || self.walks(shard, now))
    }

    /// When the next slice is due, or is looked for.
    pub(super) fn next_slice(&self) -> Option<Instant> {
        let policy = &self.layout.checkpoints;
        if self.shards.iter().any(|s| !s.sliced.is_empty() || self.may_slice(s)) {
            return Some(self.slices.rested());
        }
        // A compaction that cannot go on waits for a read to end. On another thread, nobody tells when it has.
        self.shards.iter().any(|s| s.slices(policy)).then(|| self.now + READ_POLL)
    }

    /// Removes some of what no read at the floor or above needs; nothing that is being read (rule 16).
    fn slice(&mut self, place: usize, effects: &mut Vec<Effect>) {
        let shard = &mut self.shards[place];
        let (floor, done) = (shard.replica.floor(), shard.replica.sliced());
        let Machine::Keys(mvcc) = &mut shard.replica.machine else { return shard.replica.set_sliced(floor) };
        // One that is under way comes to its end first: where floors rise often, it would begin anew for ever.
        let slicing = shard.slicing.get_or_insert_with(|| Compaction::new(done, floor));
        let (visited, removed) = (slicing.visited(), slicing.removed());
        let outcome = mvcc.compact_slice(slicing, Budget { visits: self.slices.allowance(), bytes: usize::MAX });
        self.slices.spend((slicing.visited() - visited) as u32);
        self.compacted_versions += slicing.removed() - removed;
        match outcome {
            Ok(Compacted::Part) => {}
            Ok(Compacted::Whole) => {
                let done = slicing.floor();
                shard.slicing = None;
                shard.replica.set_sliced(done);
            }
            Err(fault) => {
                let ahead = mvcc.compact_ahead(slicing);
                for fault in std::iter::once(fault).chain(ahead) {
                    shard.slice_waits += 1;
                    shard.wait_for(fault, Waiting::Slice, effects);
                }
            }
        }
    }
}

/// Whether a read is one of a compaction: its hash.
fn is_of_compaction(read: &Read) -> bool {
    matches!(read, Read::Hash { query, .. } | Read::HashKept(query) if query.at_compaction)
}

/// How much a slice of a hash takes in, where a slice may make so many visits.
pub(super) fn hash_slice(query: HashQuery, visits: u32) -> Budget {
    if !query.at_compaction {
        return reading::SLICE;
    }
    let visits = visits * HASHED_PER_VISIT;
    Budget { visits, bytes: (visits as usize * COMPACT_HASH_VERSION_BYTES).min(SLICE_BYTES_MAX) }
}

/// What a slice of a compaction's hash has cost, in visits, that looked at so many versions and took in so many bytes.
pub(super) fn hash_cost(versions: u32, bytes: usize) -> u32 {
    versions.max((bytes / COMPACT_HASH_VERSION_BYTES) as u32) / HASHED_PER_VISIT
}

impl Shard {
    /// Whether a compaction has more to remove, and waits for no page and no checkpoint.
    fn slices(&self, policy: &CheckpointPolicy) -> bool {
        let waits = || self.slice_waits > 0 || !self.disk_full && self.replica.holds_up_compaction(policy);
        self.replica.sliced() < self.replica.floor() && !waits()
    }
}
