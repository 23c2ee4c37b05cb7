//! The overlay: versions that are evaluated, and have their revision, but are not yet applied to the store.
//!
//! Per key newest first, as in the store; a read takes a key's version from here if it sees one, else from the store. A version
//! may be in both for a moment (applied, and not yet removed here): both say the same.

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry, Range};
use std::ops::Bound;

use bytes::Bytes;

use crate::base::{LeaseId, Revision};

use super::change::{At, Change, Span};
use super::record::{KeyState, Value};

/// What an overlay entry costs beside its key and value.
const ENTRY_BYTES: usize = 200;

/// A put that is not yet applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OverlayPut {
    /// The revision of the first put since the key was last deleted.
    pub create_revision: Revision,
    /// How many puts since then, this one included.
    pub version: u64,
    /// The lease that the key is attached to, or none.
    pub lease: LeaseId,
    /// The value; shares the memory of the log entry.
    pub value: Bytes,
}

/// Versions evaluated and not yet applied. Empty or small it costs next to nothing.
#[derive(Default, Debug)]
pub struct Overlay {
    keys: BTreeMap<Bytes, Versions>,
    /// Every version, oldest first: what is removed when revisions are applied.
    order: VecDeque<(Change, Bytes)>,
    /// How many versions here attach a key to a lease.
    leases: BTreeMap<(LeaseId, Bytes), u32>,
    bytes: usize,
    /// The bytes of each revision's versions, oldest first.
    revisions: VecDeque<(Revision, usize)>,
    /// How many versions were ever added: says whether what was evaluated is still the newest.
    added: u64,
}

/// A key's versions here. Nearly always there is one, so that one needs no vector.
#[derive(Debug)]
pub(crate) struct Versions {
    newest: Version,
    /// The others, oldest first.
    older: VecDeque<Version>,
}

#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) change: Change,
    /// None: a tombstone.
    pub(crate) put: Option<OverlayPut>,
}

impl Overlay {
    /// With nothing in it.
    pub const fn new() -> Overlay {
        Overlay {
            keys: BTreeMap::new(),
            order: VecDeque::new(),
            leases: BTreeMap::new(),
            bytes: 0,
            revisions: VecDeque::new(),
            added: 0,
        }
    }

    /// Adds a put. Changes are added in their order: `change` is above every one in here.
    pub fn put(&mut self, key: Bytes, change: Change, put: OverlayPut) {
        if put.lease != LeaseId::NONE {
            *self.leases.entry((put.lease, key.clone())).or_default() += 1;
        }
        self.add(key, Version { change, put: Some(put) });
    }

    /// Adds a tombstone. Those of one range delete share their change, and are added in the order of their keys.
    pub fn tombstone(&mut self, key: Bytes, change: Change) {
        self.add(key, Version { change, put: None });
    }

    fn add(&mut self, key: Bytes, version: Version) {
        let change = version.change;
        assert!(self.order.back().is_none_or(|(last, _)| *last <= change), "changes enter the overlay in their order");
        let bytes = version.bytes(&key);
        self.bytes += bytes;
        match self.revisions.back_mut().filter(|(revision, _)| *revision == change.revision) {
            Some((_, of_revision)) => *of_revision += bytes,
            None => self.revisions.push_back((change.revision, bytes)),
        }
        self.added += 1;
        self.order.push_back((change, key.clone()));
        match self.keys.entry(key) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(Versions { newest: version, older: VecDeque::new() });
            }
            std::collections::btree_map::Entry::Occupied(mut occupied) => {
                let versions = occupied.get_mut();
                assert!(versions.newest.change < change, "a key changes once per operation");
                let before = std::mem::replace(&mut versions.newest, version);
                versions.older.push_back(before);
            }
        }
    }

    /// Forgets changes up to and including those of `revision`, which are applied: up to `most` of them, the oldest first. What stays is
    /// as it is in the store.
    pub fn remove_applied(&mut self, revision: Revision, most: usize) {
        for _ in 0..most {
            if !self.has_up_to(revision) {
                return;
            }
            let (change, key) = self.order.pop_front().expect("there is a front");
            let Entry::Occupied(mut versions) = self.keys.entry(key.clone()) else {
                unreachable!("what is in the order is in the keys")
            };
            let version = match versions.get_mut().older.pop_front() {
                Some(oldest) => oldest,
                None => versions.remove().newest,
            };
            assert_eq!(version.change, change, "a key's oldest version is the first in the order");
            let bytes = version.bytes(&key);
            self.bytes -= bytes;
            let (_, left) = self.revisions.front_mut().expect("the oldest version has a revision");
            *left -= bytes;
            if self.order.front().is_none_or(|(next, _)| next.revision > change.revision) {
                self.revisions.pop_front();
            }
            if let Some(put) = version.put.filter(|put| put.lease != LeaseId::NONE) {
                self.forget_lease(put.lease, key);
            }
        }
    }

    fn forget_lease(&mut self, lease: LeaseId, key: Bytes) {
        let Entry::Occupied(mut count) = self.leases.entry((lease, key)) else {
            unreachable!("every put with a lease is counted")
        };
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }

    /// Forgets everything: the reign that evaluated it has ended (rule 7).
    pub fn clear(&mut self) {
        *self = Overlay { added: self.added + 1, ..Overlay::new() };
    }

    /// A number that changes whenever a version is added: as long as it stays, the newest versions are the same.
    pub fn stamp(&self) -> u64 {
        self.added
    }

    /// Whether it holds a change up to and including those of `revision`.
    pub fn has_up_to(&self, revision: Revision) -> bool {
        self.order.front().is_some_and(|(change, _)| change.revision <= revision)
    }

    /// Whether nothing waits to be applied.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// How many versions wait to be applied.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// About how much memory it holds, the values' included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same, less its oldest revision: however many keys that deletes, it is what is applied next.
    pub fn bytes_behind_oldest(&self) -> usize {
        self.bytes - self.revisions.front().map_or(0, |(_, bytes)| *bytes)
    }

    /// The newest version of `key` that `at` sees: None when there is none in here, Some(None) for a tombstone.
    #[inline]
    pub(crate) fn seen(&self, key: &[u8], at: At) -> Option<Option<KeyState<'_>>> {
        if self.keys.is_empty() {
            return None;
        }
        self.keys.get(key)?.seen(at).map(Version::state)
    }

    /// The keys of `span` from `resume` on, with their versions.
    pub(crate) fn range<'a>(&'a self, span: &Span, resume: Option<&[u8]>) -> Range<'a, Bytes, Versions> {
        self.keys.range::<[u8], _>(span.bounds(resume))
    }

    /// The keys from `resume` on (not before it) that a version in here attaches to `lease`; later ones may have detached them.
    pub(crate) fn attached(&self, lease: LeaseId, resume: Bytes) -> impl Iterator<Item = &Bytes> {
        self.leases
            .range((Bound::Included((lease, resume)), Bound::Unbounded))
            .take_while(move |((of, _), _)| *of == lease)
            .map(|((_, key), _)| key)
    }

    /// Whether the newest version of `key` in here decides on its lease, and which it is (none for a tombstone).
    pub(crate) fn lease_of(&self, key: &[u8]) -> Option<LeaseId> {
        let newest = &self.keys.get(key)?.newest;
        Some(newest.put.as_ref().map_or(LeaseId::NONE, |put| put.lease))
    }
}

impl Versions {
    /// The newest that `at` sees.
    #[inline]
    pub(crate) fn seen(&self, at: At) -> Option<&Version> {
        if at.sees(self.newest.change) {
            return Some(&self.newest);
        }
        self.older.iter().rev().find(|version| at.sees(version.change))
    }
}

impl Version {
    pub(crate) fn state(&self) -> Option<KeyState<'_>> {
        self.put.as_ref().map(|put| KeyState {
            create_revision: put.create_revision,
            mod_revision: self.change.revision,
            operation: self.change.operation,
            version: put.version,
            lease: put.lease,
            value: Value::Shared(&put.value),
        })
    }

    fn bytes(&self, key: &Bytes) -> usize {
        ENTRY_BYTES + key.len() + self.put.as_ref().map_or(0, |put| put.value.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: u64, operation: u32) -> Change {
        Change { revision: Revision(revision), operation }
    }

    fn put(lease: i64) -> OverlayPut {
        OverlayPut { create_revision: Revision(2), version: 1, lease: LeaseId(lease), value: Bytes::from_static(b"v") }
    }

    #[test]
    fn reads_see_the_version_of_their_time() {
        let mut overlay = Overlay::new();
        let key = Bytes::from_static(b"k");
        overlay.put(key.clone(), change(2, 0), put(0));
        overlay.tombstone(key.clone(), change(3, 4));
        overlay.put(key.clone(), change(3, 5), put(0));
        assert_eq!(overlay.bytes() - overlay.bytes_behind_oldest(), ENTRY_BYTES + 2);
        overlay.remove_applied(Revision(3), 0);
        assert_eq!(overlay.len(), 3);
        assert_eq!(overlay.seen(b"k", At::before(Revision(2))), None);
        assert_eq!(overlay.seen(b"k", At::end_of(Revision(2))).unwrap().unwrap().mod_revision, Revision(2));
        assert_eq!(overlay.seen(b"k", At { revision: Revision(3), operation_bound: 5 }), Some(None));
        assert_eq!(overlay.seen(b"k", At::LATEST).unwrap().unwrap().operation, 5);
        overlay.remove_applied(Revision(2), usize::MAX);
        assert_eq!(overlay.seen(b"k", At::end_of(Revision(2))), None);
        overlay.remove_applied(Revision(3), usize::MAX);
        assert_eq!(overlay.bytes_behind_oldest(), 0);
        assert!(overlay.is_empty() && overlay.bytes() == 0 && overlay.seen(b"k", At::LATEST).is_none());
    }

    #[test]
    fn leases_are_counted_per_key() {
        let mut overlay = Overlay::new();
        let key = Bytes::from_static(b"k");
        overlay.put(key.clone(), change(2, 0), put(7));
        overlay.put(key.clone(), change(3, 0), put(7));
        overlay.put(key.clone(), change(4, 0), put(8));
        let attached = |overlay: &Overlay, lease| overlay.attached(LeaseId(lease), Bytes::new()).count();
        assert_eq!((attached(&overlay, 7), attached(&overlay, 8)), (1, 1));
        assert_eq!(overlay.lease_of(b"k"), Some(LeaseId(8)));
        overlay.remove_applied(Revision(2), usize::MAX);
        assert_eq!(attached(&overlay, 7), 1);
        overlay.remove_applied(Revision(3), usize::MAX);
        assert_eq!((attached(&overlay, 7), attached(&overlay, 8)), (0, 1));
        overlay.remove_applied(Revision(4), usize::MAX);
        assert_eq!(attached(&overlay, 8), 0);
    }

    #[test]
    #[should_panic(expected = "in their order")]
    fn a_change_out_of_order_is_refused() {
        let mut overlay = Overlay::new();
        overlay.tombstone(Bytes::from_static(b"k"), change(3, 0));
        overlay.tombstone(Bytes::from_static(b"k"), change(2, 0));
    }
}
