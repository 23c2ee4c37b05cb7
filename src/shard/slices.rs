//! Work that nobody waits for: what a compaction removes, and its hash. It is done in slices, between the requests of clients.

use crate::base::Instant;
use crate::base::limits::{
    COMPACT_AHEAD_PAGES, COMPACT_HASH_SLICE_BYTES, COMPACT_SLICE_INTERVAL, COMPACT_SLICE_VISITS, READ_AHEAD_PAGES, READ_POLL,
};
use crate::group::{CheckpointPolicy, Machine};
use crate::mvcc::hash::HashQuery;
use crate::mvcc::{Budget, Compacted, Compaction};

use super::core::{Core, Shard, Waiting};
use super::effects::Effect;
use super::messages::{Read, ToCore};
use super::reading;

/// How much of a compaction one slice looks at.
const SLICE: Budget = Budget { visits: COMPACT_SLICE_VISITS, bytes: usize::MAX };
/// And of its hash, which looks at each version once only, but at its value as well.
const HASH_SLICE: Budget = Budget { visits: 2 * COMPACT_SLICE_VISITS, bytes: COMPACT_HASH_SLICE_BYTES };

/// When a core does its next slice, and for which of its groups.
#[derive(Debug)]
pub(super) struct Slices {
    /// When a client asked for something last.
    asked: Instant,
    /// The next slice rests until then.
    next: Instant,
    /// The place of the group whose turn it is.
    turn: usize,
}

impl Slices {
    pub(super) fn new(now: Instant) -> Slices {
        Slices { asked: now, next: now, turn: 0 }
    }

    /// A front says something: what has to go first, unless it is for a compaction.
    pub(super) fn heard(&mut self, now: Instant, message: &ToCore) {
        if !matches!(message, ToCore::Read { read, .. } if is_patient(read)) {
            self.asked = now;
        }
    }

    /// Whether the next slice lets others go first.
    fn rest(&self, now: Instant) -> bool {
        now < self.next
    }

    /// A slice was done: where nobody asks for anything, the next may follow at once.
    fn done(&mut self, now: Instant) {
        if now.since(self.asked) < COMPACT_SLICE_INTERVAL {
            self.next = now + COMPACT_SLICE_INTERVAL;
        }
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

    /// Whether a slice of a compaction would find something to do for this group.
    fn may_slice(&self, shard: &Shard) -> bool {
        shard.slices(&self.layout.checkpoints) && self.board.lowest_read() >= shard.replica.floor()
    }

    /// Whether a read is one that lets others go first, and it rests.
    pub(super) fn rests(&self, read: &Read) -> bool {
        is_patient(read) && self.slices.rest(self.now)
    }

    /// A slice of a read was done.
    pub(super) fn read_sliced(&mut self, read: &Read) {
        if is_patient(read) {
            self.slices.done(self.now);
        }
    }

    /// Whether there is a slice to do at once.
    pub(super) fn has_slices(&self) -> bool {
        let waits = |waiting: &Waiting| matches!(waiting, Waiting::Read(reading) if self.rests(&reading.read));
        let compacts = !self.slices.rest(self.now) && self.shards.iter().any(|s| self.may_slice(s));
        compacts || self.shards.iter().any(|s| s.sliced.iter().any(|waiting| !waits(waiting)))
    }

    /// When the next slice is due, or is looked for.
    pub(super) fn next_slice(&self) -> Option<Instant> {
        let policy = &self.layout.checkpoints;
        if self.shards.iter().any(|s| !s.sliced.is_empty() || self.may_slice(s)) {
            return Some(self.slices.next);
        }
        // A compaction that cannot go on waits for a read to end. On another thread, nobody tells when it has.
        self.shards.iter().any(|s| s.slices(policy)).then(|| self.now + READ_POLL)
    }

    /// Removes some of what no read at the floor or above needs; nothing that is being read (rule 16).
    fn slice(&mut self, place: usize, effects: &mut Vec<Effect>) {
        self.slices.done(self.now);
        let shard = &mut self.shards[place];
        let (floor, done) = (shard.replica.floor(), shard.replica.sliced());
        let Machine::Keys(mvcc) = &mut shard.replica.machine else { return shard.replica.set_sliced(floor) };
        if shard.slicing.as_ref().is_none_or(|s| s.floor() != floor) {
            shard.slicing = Some(Compaction::new(done, floor));
        }
        let slicing = shard.slicing.as_mut().expect("begun above");
        let removed = slicing.removed();
        let outcome = mvcc.compact_slice(slicing, SLICE);
        self.compacted_versions += slicing.removed() - removed;
        match outcome {
            Ok(Compacted::Part) => {}
            Ok(Compacted::Whole) => {
                shard.slicing = None;
                shard.replica.set_sliced(floor);
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

/// How much one slice of a hash looks at.
pub(super) fn hash_slice(query: HashQuery) -> Budget {
    if query.at_compaction { HASH_SLICE } else { reading::SLICE }
}

/// How many pages a hash has read side by side.
pub(super) fn hash_ahead_pages(query: HashQuery) -> usize {
    if query.at_compaction { COMPACT_AHEAD_PAGES } else { READ_AHEAD_PAGES }
}

/// Whether a read is for a compaction, which clients' requests do not wait for.
fn is_patient(read: &Read) -> bool {
    matches!(read, Read::Hash { query, .. } | Read::HashKept(query) if query.at_compaction)
}

impl Shard {
    /// Whether a compaction has more to remove, and waits for no page and no checkpoint.
    fn slices(&self, policy: &CheckpointPolicy) -> bool {
        let held_up = !self.disk_full && self.replica.holds_up_compaction(policy);
        self.replica.sliced() < self.replica.floor() && self.slice_waits == 0 && !held_up
    }
}
