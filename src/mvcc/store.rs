//! One shard's versions in their three trees, and how a change is applied to them.
//!
//! Applying runs in steps that a `Fault` or a budget may end at any point: nothing is lost or doubled when the step is run again.
//! A put or tombstone is idempotent as a whole; what has been done of a revision is kept in [`Applying`], so that a revision
//! with many changes goes on where it stopped. Until it is complete its changes are seen by no read (their revision is above what
//! may be read), only the weights run ahead: so those are not used meanwhile ([`Mvcc::weights_cover`]).

use bytes::Bytes;

use crate::base::{LeaseId, Revision};
use crate::pages::{Fault, Store, Tree};

use super::change::{At, Change};
use super::key::{KeyBuffer, split_version};
use super::record::{Head, Kind, PutFields, Record, parse};

/// Every version, without its value: key, then newest first. Weight 1 for the newest of a living key, else 0.
pub(crate) const KEYS: Tree = Tree(0);
/// Every change with its value, oldest first. Weight 1 each.
pub(crate) const REVISIONS: Tree = Tree(1);
/// The keys attached to each lease. Weight 1 each.
pub(crate) const LEASES: Tree = Tree(2);

/// The multi-version store of one shard.
pub struct Mvcc {
    store: Store,
    /// No change above this revision is in the store.
    applied: Revision,
    applying: Option<Applying>,
    /// What was applied when the newest revision was begun, and whether anything of that is in the store.
    before: Revision,
    is_changed: bool,
}

/// How far the applying of a revision has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applying {
    /// The revision.
    pub revision: Revision,
    /// How many of its effects are applied.
    pub effects: usize,
    /// Where a range delete goes on.
    pub resume: Option<Bytes>,
}

/// What a key's newest version was before a change.
pub(crate) struct Prior {
    pub(crate) change: Change,
    pub(crate) kind: Kind,
    pub(crate) weight: u32,
    lease: LeaseId,
}

impl Prior {
    /// From the entry that follows `place`, a tree key of some key; None if it is another key's.
    fn of(place: &KeyBuffer, found: &[u8], value: &[u8], weight: u32) -> Option<Prior> {
        let (escaped, change) = split_version(found);
        if escaped != split_version(place.as_slice()).0 {
            return None;
        }
        let record = parse(value);
        let lease = record.map_or(LeaseId::NONE, |fields| fields.lease);
        let kind = if record.is_some() { Kind::Put } else { Kind::Tombstone };
        Some(Prior { change, kind, weight, lease })
    }
}

impl Mvcc {
    /// Over `store`, which holds no change above `applied` (what its last checkpoint noted, or 0 when it is fresh).
    pub fn new(store: Store, applied: Revision) -> Mvcc {
        Mvcc { store, applied, applying: None, before: applied, is_changed: false }
    }

    /// The page store, for what is done to it as a whole: install, evict, sizes.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The page store, for what is done to it as a whole. A checkpoint may only begin between revisions: see [`Mvcc::is_whole`].
    pub fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Whether no revision is half applied.
    pub fn is_whole(&self) -> bool {
        self.applying.is_none()
    }

    /// The highest revision of which a change is, or may be, in the store.
    pub fn applied(&self) -> Revision {
        self.applied
    }

    /// How many versions the store holds, tombstones included.
    pub fn changes(&self) -> u64 {
        self.store.len(REVISIONS).entries
    }

    /// How many keys live in the store.
    pub fn keys(&self) -> u64 {
        self.store.len(KEYS).weight
    }

    /// Begins to apply `revision`, or goes on with it. Revisions are applied in their order, each to its end.
    pub fn begin(&mut self, revision: Revision) -> Applying {
        match self.applying.take() {
            Some(applying) => {
                assert_eq!(applying.revision, revision, "a revision is applied to its end before the next");
                applying
            }
            None => {
                assert!(revision > self.applied, "revision {revision} comes after {} has been applied", self.applied);
                (self.before, self.is_changed) = (self.applied, false);
                self.applied = revision;
                Applying { revision, effects: 0, resume: None }
            }
        }
    }

    /// Puts away what [`Mvcc::begin`] gave: there is more to do.
    pub fn pause(&mut self, applying: Applying) {
        assert!(self.applying.is_none(), "one revision is applied at a time");
        self.applying = Some(applying);
    }

    /// Puts away what [`Mvcc::begin`] gave: a page is missing. What has changed nothing yet is begun anew, so that a checkpoint may
    /// begin before it: that must not depend on pages being there just then.
    pub fn wait(&mut self, applying: Applying) {
        if self.is_changed || applying.effects > 0 || applying.resume.is_some() {
            return self.pause(applying);
        }
        self.applied = self.before;
    }

    /// Writes a version of `key`. On a fault: install, and run it again.
    ///
    /// Changes of a key are written in their order.
    pub fn put(&mut self, key: &[u8], change: Change, fields: &PutFields<'_>) -> Result<(), Fault> {
        self.write(key, change, Some(*fields))
    }

    /// Marks `key`, which lives, as deleted. On a fault: install, and run it again.
    pub fn tombstone(&mut self, key: &[u8], change: Change) -> Result<(), Fault> {
        self.write(key, change, None)
    }

    fn write(&mut self, key: &[u8], change: Change, record: Record<'_>) -> Result<(), Fault> {
        let head = Head::new(&record);
        let (value, weight) = (record.map_or(&b""[..], |fields| fields.value), u32::from(record.is_some()));
        let version = KeyBuffer::version(key, change);
        let location = self.store.locate(KEYS, version.as_slice())?;
        // Mostly the version before is the next entry, and one walk down is enough for all.
        let behind = self.store.behind(&location).map(|(found, value, weight)| Prior::of(&version, found, value, weight));
        let is_beside = behind.is_some();
        let prior = match behind {
            Some(prior) => prior,
            None => self.prior(key, change)?,
        };
        let counted = prior.as_ref().filter(|prior| prior.weight > 0).map(|prior| prior.change);
        let entry = KeyBuffer::change(change, key);
        let leaf = self.store.put_at(self.store.locate(REVISIONS, entry.as_slice())?, &[head.as_slice(), value], 1, None)?;
        self.is_changed = true;
        let place = record.map(|_| leaf.0.to_le_bytes());
        let fields = [head.as_slice(), place.as_ref().map_or(&[], |place| place)];
        if is_beside {
            self.store.put_at(location, &fields, weight, counted.map(|_| 0))?;
        } else {
            if let Some(change) = counted {
                self.store.set_weight(KEYS, KeyBuffer::version(key, change).as_slice(), 0)?;
            }
            self.store.put(KEYS, version.as_slice(), &fields, weight)?;
        }

        let before = prior.map_or(LeaseId::NONE, |prior| prior.lease);
        let after = record.map_or(LeaseId::NONE, |fields| fields.lease);
        if before != after && before != LeaseId::NONE {
            self.store.remove(LEASES, KeyBuffer::lease(before, key).as_slice())?;
        }
        if before != after && after != LeaseId::NONE {
            self.store.put(LEASES, KeyBuffer::lease(after, key).as_slice(), &[], 1)?;
        }
        Ok(())
    }

    /// Looks whether the pages that writing a version of `key` needs are in memory. Leases apart: their tree is small.
    pub fn look_at(&self, key: &[u8], change: Change) -> Result<(), Fault> {
        self.prior(key, change).map(|_| ())
    }

    /// The version of `key` before `change`; the same when the change itself is there already.
    pub(crate) fn prior(&self, key: &[u8], change: Change) -> Result<Option<Prior>, Fault> {
        let sought = KeyBuffer::newest_seen(key, At::before_change(change));
        let mut cursor = self.store.cursor(KEYS).heads();
        cursor.seek(sought.as_slice())?;
        let Some((found, value, weight)) = cursor.entry() else { return Ok(None) };
        Ok(Prior::of(&sought, found, value, weight))
    }

    /// Whether the weights of KEYS say what is alive at `at`, the overlay apart: nothing above it is applied, nothing half applied.
    pub(crate) fn weights_cover(&self, at: At) -> bool {
        self.applying.is_none() && at.sees_all_of(self.applied)
    }
}

impl std::fmt::Debug for Mvcc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mvcc").field("applied", &self.applied).field("applying", &self.applying).finish_non_exhaustive()
    }
}
