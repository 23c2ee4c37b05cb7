//! Compaction: versions that no read from the floor up can see are removed, in slices (surface 3.8, rule 16).
//!
//! It is driven by REVISIONS: every change up to the new floor makes the versions of its key before it removable; a tombstone below
//! the floor goes too. What was compacted before needs no second look, but for the tombstones that stayed because they stood at the
//! old floor itself. So a compaction costs what has changed since the last, not what there is.
//!
//! A tombstone exactly at the floor stays, so that a watch from there on shows the delete.

use bytes::Bytes;

use crate::base::Revision;
use crate::base::limits::{COMPACT_AHEAD_PAGES, COMPACT_BATCH};
use crate::pages::Fault;

use super::change::{Budget, Change};
use super::key::{KeyBuffer, split_change};
use super::record::Kind;
use super::store::{KEYS, Mvcc, REVISIONS};

/// A compaction under way in one shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compaction {
    to: Revision,
    /// The next change to look at, and the lowest key of it.
    next: (Change, Bytes),
    removed: u64,
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
        Compaction { to, next: (Change { revision: from, operation: 0 }, Bytes::new()), removed: 0 }
    }

    /// The floor.
    pub fn floor(&self) -> Revision {
        self.to
    }

    /// How many versions it has removed.
    pub fn removed(&self) -> u64 {
        self.removed
    }
}

impl Mvcc {
    /// Does a slice of a compaction. On a fault: install, and call again; what has been done is kept in `compaction`.
    pub fn compact_slice(&mut self, compaction: &mut Compaction, budget: Budget) -> Result<Compacted, Fault> {
        let mut visits_left = i64::from(budget.visits.max(1));
        while visits_left > 0 {
            let victims = self.victims(compaction)?;
            if victims.is_empty() {
                return Ok(Compacted::Whole);
            }
            for victim in victims {
                if visits_left <= 0 {
                    return Ok(Compacted::Part);
                }
                let removed = compaction.removed;
                self.retire(&victim, compaction)?;
                visits_left -= 1 + (compaction.removed - removed) as i64;
                compaction.next = (victim.change, [&victim.key[..], &[0]].concat().into());
            }
        }
        Ok(Compacted::Part)
    }

    /// The pages that the next few changes want and that are not in memory, to be read side by side.
    pub fn compact_ahead(&self, compaction: &Compaction) -> Vec<Fault> {
        let (change, key) = &compaction.next;
        let mut wanted = self.changes_ahead(&KeyBuffer::change(*change, key), compaction.to, COMPACT_AHEAD_PAGES);
        let victims = self.victims(compaction).unwrap_or_default();
        wanted.extend(victims.iter().filter_map(|victim| self.look_at_victim(victim).err()));
        wanted
    }

    fn look_at_victim(&self, victim: &Victim) -> Result<(), Fault> {
        if let Some(prior) = self.prior(&victim.key, victim.change)? {
            self.store().get_head(REVISIONS, KeyBuffer::change(prior.change, &victim.key).as_slice())?;
        }
        Ok(())
    }

    /// The next few changes to look at.
    fn victims(&self, compaction: &Compaction) -> Result<Vec<Victim>, Fault> {
        let (change, key) = &compaction.next;
        let mut cursor = self.store().cursor(REVISIONS).heads();
        cursor.seek(KeyBuffer::change(*change, key).as_slice())?;
        let mut victims = Vec::with_capacity(COMPACT_BATCH);
        while victims.len() < COMPACT_BATCH {
            let Some((entry, stored, _)) = cursor.entry() else { break };
            let (change, key) = split_change(entry);
            if change.revision > compaction.to {
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
    fn retire(&mut self, victim: &Victim, compaction: &mut Compaction) -> Result<(), Fault> {
        let Victim { change, key, kind } = victim;
        while let Some(prior) = self.prior(key, *change)? {
            assert_eq!(prior.weight, 0, "a version that is not the newest counts for nothing");
            if prior.kind == Kind::Tombstone && prior.change.revision == compaction.to {
                break;
            }
            self.remove_version(key, prior.change)?;
            compaction.removed += 1;
        }
        if *kind == Kind::Tombstone && change.revision < compaction.to {
            self.remove_version(key, *change)?;
            compaction.removed += 1;
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
