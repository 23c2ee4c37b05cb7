//! Compaction: versions that no read from the floor up can see are removed, in slices (surface 3.8, rule 16).
//!
//! It *follows* the changes in REVISIONS: every change up to the new floor makes the versions of its key before it removable; a
//! tombstone below the floor goes too. What was compacted before needs no second look, but for the tombstones that stayed because they
//! stood at the old floor itself. So a compaction costs what has changed since the last, not what there is.
//!
//! What a change makes removable may lie anywhere, and each look for it may want a page of its own. When a compaction has waited for
//! so many pages that reading all of them in order is cheaper, it *sweeps* the trees instead (`sweep.rs`). A sweep takes versions out of
//! KEYS first and out of REVISIONS later; one that was broken off by a stop or by a higher floor shows in the trees' lengths, and the
//! next compaction begins as a sweep.
//!
//! A tombstone exactly at the floor stays, so that a watch from there on shows the delete.

use bytes::Bytes;

use crate::base::Revision;
use crate::base::limits::{COMPACT_AHEAD_PAGES, COMPACT_BATCH, COMPACT_FOLLOW_PART, PAGE_BYTES};
use crate::pages::Fault;

use super::change::{Budget, Change};
use super::key::{KeyBuffer, split_change};
use super::record::Kind;
use super::store::{KEYS, Mvcc, REVISIONS};
use super::sweep::Sweep;

/// A compaction under way in one shard.
#[derive(Debug)]
pub struct Compaction {
    to: Revision,
    way: Way,
    removed: u64,
    visited: u64,
    /// How many pages it has asked for while it followed the changes.
    pages_wanted: i64,
}

/// How a compaction finds what it removes.
#[derive(Debug)]
enum Way {
    /// Change by change: the next one to look at, and the lowest key of it.
    Follow(Change, Bytes),
    /// Through all of both trees, in order.
    Sweep(Sweep),
}

/// Whether a compaction is at its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compacted {
    /// It is: the shard is sliced to its floor.
    Whole,
    /// There is more to do.
    Part,
}

/// A change that a slice looks at.
struct Victim {
    change: Change,
    key: Bytes,
    kind: Kind,
}

impl Compaction {
    /// To the floor `to`, in a shard that was sliced to `from` before (0: never). Begun again from the start it does no harm.
    pub fn new(from: Revision, to: Revision) -> Compaction {
        let way = Way::Follow(Change { revision: from, operation: 0 }, Bytes::new());
        Compaction { to, way, removed: 0, visited: 0, pages_wanted: 0 }
    }

    /// The same, sweeping from the start; or following to the end, unless a sweep was broken off.
    #[cfg(test)]
    pub fn sweeping(self, sweeps: bool) -> Compaction {
        Compaction { pages_wanted: if sweeps { i64::MAX } else { i64::MIN / 2 }, ..self }
    }

    /// The floor.
    pub fn floor(&self) -> Revision {
        self.to
    }

    /// How many versions it has removed.
    pub fn removed(&self) -> u64 {
        self.removed
    }

    /// How many versions it has looked at and removed.
    pub fn visited(&self) -> u64 {
        self.visited
    }
}

impl Mvcc {
    /// Does a slice of a compaction. On a fault: install, and call again; what has been done is kept in `compaction`.
    pub fn compact_slice(&mut self, compaction: &mut Compaction, budget: Budget) -> Result<Compacted, Fault> {
        let Compaction { to, way, removed, visited, pages_wanted } = compaction;
        let is_broken_off = self.is_whole() && self.store().len(KEYS).entries != self.store().len(REVISIONS).entries;
        let most = self.store().used_bytes() / PAGE_BYTES as u64 / COMPACT_FOLLOW_PART;
        if matches!(way, Way::Follow(..)) && (is_broken_off || *pages_wanted > most as i64) {
            *way = Way::Sweep(Sweep::to(*to));
        }
        let visits = i64::from(budget.visits.max(1));
        let mut visits_left = visits;
        let outcome = match way {
            Way::Follow(change, key) => {
                let outcome = self.follow((change, key), *to, removed, &mut visits_left);
                *pages_wanted = pages_wanted.saturating_add(i64::from(outcome.is_err()));
                outcome
            }
            Way::Sweep(sweep) => self.sweep(sweep, removed, &mut visits_left),
        };
        *visited += (visits - visits_left) as u64;
        outcome
    }

    /// The pages that the next few steps want and that are not in memory, to be read side by side.
    pub fn compact_ahead(&self, compaction: &mut Compaction) -> Vec<Fault> {
        match &compaction.way {
            Way::Follow(change, key) => {
                let mut wanted = self.changes_ahead(&KeyBuffer::change(*change, key), compaction.to, COMPACT_AHEAD_PAGES);
                let victims = self.victims(*change, key, compaction.to).unwrap_or_default();
                wanted.extend(victims.iter().filter_map(|victim| self.look_at_victim(victim).err()));
                compaction.pages_wanted = compaction.pages_wanted.saturating_add(wanted.len() as i64);
                wanted
            }
            Way::Sweep(sweep) => self.sweep_ahead(sweep),
        }
    }

    fn follow(
        &mut self,
        (next, lowest): (&mut Change, &mut Bytes),
        to: Revision,
        removed: &mut u64,
        visits_left: &mut i64,
    ) -> Result<Compacted, Fault> {
        while *visits_left > 0 {
            let victims = self.victims(*next, lowest, to)?;
            if victims.is_empty() {
                return Ok(Compacted::Whole);
            }
            for victim in victims {
                if *visits_left <= 0 {
                    return Ok(Compacted::Part);
                }
                let before = *removed;
                self.retire(&victim, to, removed)?;
                *visits_left -= 1 + (*removed - before) as i64;
                (*next, *lowest) = (victim.change, [&victim.key[..], &[0]].concat().into());
            }
        }
        Ok(Compacted::Part)
    }

    fn look_at_victim(&self, victim: &Victim) -> Result<(), Fault> {
        if let Some(prior) = self.prior(&victim.key, victim.change)? {
            self.store().get_head(REVISIONS, KeyBuffer::change(prior.change, &victim.key).as_slice())?;
        }
        Ok(())
    }

    /// The next few changes to look at.
    fn victims(&self, next: Change, lowest: &[u8], to: Revision) -> Result<Vec<Victim>, Fault> {
        let mut cursor = self.store().cursor(REVISIONS).heads();
        cursor.seek(KeyBuffer::change(next, lowest).as_slice())?;
        let mut victims = Vec::with_capacity(COMPACT_BATCH);
        while victims.len() < COMPACT_BATCH {
            let Some((entry, stored, _)) = cursor.entry() else { break };
            let (change, key) = split_change(entry);
            if change.revision > to {
                break;
            }
            victims.push(Victim { change, key: Bytes::copy_from_slice(key), kind: Kind::of_stored(stored) });
            match cursor.next() {
                Ok(()) => {}
                Err(_) => break,
            }
        }
        Ok(victims)
    }

    /// Removes what a change at or below the floor makes removable. Each step can be done twice.
    fn retire(&mut self, victim: &Victim, to: Revision, removed: &mut u64) -> Result<(), Fault> {
        let Victim { change, key, kind } = victim;
        while let Some(prior) = self.prior(key, *change)? {
            assert_eq!(prior.weight, 0, "a version that is not the newest counts for nothing");
            if prior.kind == Kind::Tombstone && prior.change.revision == to {
                break;
            }
            self.remove_version(key, prior.change)?;
            *removed += 1;
        }
        if *kind == Kind::Tombstone && change.revision < to {
            self.remove_version(key, *change)?;
            *removed += 1;
        }
        Ok(())
    }

    /// Takes a version out of both trees, or out of none: a checkpoint may begin before the next slice.
    fn remove_version(&mut self, key: &[u8], change: Change) -> Result<(), Fault> {
        let (version, entry) = (KeyBuffer::version(key, change), KeyBuffer::change(change, key));
        self.store().look_at_removal(REVISIONS, entry.as_slice())?;
        self.store_mut().remove(KEYS, version.as_slice())?;
        self.store_mut().remove(REVISIONS, entry.as_slice()).expect("looked at before");
        Ok(())
    }
}
