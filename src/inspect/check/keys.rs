//! A shard's three trees against each other.

use crate::base::{GroupId, LeaseId, Revision, group_of};
use crate::group::Note;
use crate::mvcc::stored::{self, StoredChange, StoredVersion};
use crate::mvcc::{Change, Kind};
use crate::pages::{Damage, Tree};

use super::report::Findings;
use super::scan::{Stored, Trees};

const KEYS: Tree = stored::TREES[0].0;
const REVISIONS: Tree = stored::TREES[1].0;
const LEASES: Tree = stored::TREES[2].0;

/// What a shard holds.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct KeyCounts {
    pub versions: u64,
    pub keys: u64,
    pub attached: u64,
}

/// Compares the trees. An error is damage that the walk before would have found: the file changes meanwhile.
pub(super) fn check(trees: &mut Trees<'_>, note: &Note, findings: &mut Findings<'_>) -> Result<KeyCounts, Damage> {
    let mut check =
        Check { trees, note, findings, counts: KeyCounts::default(), newer: None, changes_found: 0, attached_found: 0 };
    let mut scan = check.trees.scan(KEYS, Vec::new());
    while let Some(entry) = scan.next(check.trees)? {
        check.version(&entry)?;
    }
    if check.changes_found != check.trees.entries(REVISIONS) {
        check.changes()?;
    }
    if check.attached_found != check.trees.entries(LEASES) {
        check.attachments()?;
    }
    Ok(check.counts)
}

/// A version as its older neighbour must fit it.
struct Newer {
    key: Vec<u8>,
    change: Change,
    put: Option<(Revision, u64)>,
}

struct Check<'a, 'f, 's, 'l> {
    trees: &'a mut Trees<'f>,
    note: &'a Note,
    findings: &'s mut Findings<'l>,
    counts: KeyCounts,
    /// The version before, in the order of the tree: of the same key, the next newer one.
    newer: Option<Newer>,
    changes_found: u64,
    attached_found: u64,
}

impl Check<'_, '_, '_, '_> {
    fn wrong(&mut self, entry: &Stored, what: String) {
        self.findings.at_page(self.note.group, entry.page, what);
    }

    fn version(&mut self, entry: &Stored) -> Result<(), Damage> {
        self.counts.versions += 1;
        let Ok(version) = StoredVersion::read(&entry.key, &entry.head) else {
            self.wrong(entry, format!("an entry of the tree of keys is no version: \"{}\"", entry.key.escape_ascii()));
            self.newer = None;
            return Ok(());
        };
        let name = name(&version.key, version.change);
        self.place(entry, &version, &name);
        let newer = self.newer.take().filter(|newer| newer.key == version.key);
        let is_newest = newer.is_none();
        let weight = u32::from(is_newest && version.put.is_some());
        if entry.weight != weight {
            self.wrong(entry, format!("{name} counts as {} living keys and should count as {weight}", entry.weight));
        }
        if let Some(newer) = &newer {
            self.neighbours(entry, newer, &version, &name);
        }
        match self.trees.get(REVISIONS, &stored::change_key(&version.key, version.change))? {
            Some((head, _)) => {
                self.changes_found += 1;
                let tree_key = stored::change_key(b"", version.change);
                if !StoredChange::read(&tree_key, &head).is_ok_and(|change| version.agrees_with(&change)) {
                    self.wrong(entry, format!("{name} is another in the tree of revisions"));
                }
            }
            None => self.wrong(entry, format!("{name} is not in the tree of revisions")),
        }
        if is_newest {
            self.newest(entry, &version, &name)?;
        }
        let put = version.put.map(|put| (put.create_revision, put.version));
        self.newer = Some(Newer { key: version.key, change: version.change, put });
        Ok(())
    }

    /// Whether it can be here at all.
    fn place(&mut self, entry: &Stored, version: &StoredVersion<'_>, name: &str) {
        let home = group_of(&version.key, self.note.shards);
        if home != self.note.group {
            self.wrong(entry, format!("{name} belongs to group {home}"));
        }
        let revision = version.change.revision;
        if revision <= Revision::FIRST || revision > self.note.applied_revision {
            self.wrong(entry, format!("{name} is outside the revisions that are applied, 2 to {}", self.note.applied_revision));
        }
        if let Some(put) = version.put
            && (put.version == 0 || put.create_revision > revision || (put.version == 1) != (put.create_revision == revision))
        {
            let what =
                format!("{name} contradicts itself: version {}, created at revision {}", put.version, put.create_revision);
            self.wrong(entry, what);
        }
    }

    /// `older` comes right before `newer` in the life of its key.
    fn neighbours(&mut self, entry: &Stored, newer: &Newer, older: &StoredVersion<'_>, name: &str) {
        let fits = match (newer.put, older.put) {
            (Some((create, version)), Some(put)) => create == put.create_revision && version == put.version + 1,
            (Some((_, version)), None) => version == 1,
            (None, Some(_)) => true,
            (None, None) => false,
        };
        if !fits {
            self.wrong(
                entry,
                format!("{name} does not lead to the next version of its key, of revision {}", newer.change.revision),
            );
        }
    }

    /// The newest version of a key: it lives or not, with a lease or without.
    fn newest(&mut self, entry: &Stored, version: &StoredVersion<'_>, name: &str) -> Result<(), Damage> {
        let Some(put) = version.put else { return Ok(()) };
        self.counts.keys += 1;
        if put.lease == LeaseId::NONE {
            return Ok(());
        }
        self.counts.attached += 1;
        if self.trees.get(LEASES, &stored::attached_key(&version.key, put.lease))?.is_some() {
            self.attached_found += 1;
        } else {
            self.wrong(entry, format!("{name} has lease {:x} and is not in the tree of leases", put.lease.get()));
        }
        Ok(())
    }

    /// There are more changes than versions: which. Below the floor a sweep may have been broken off.
    fn changes(&mut self) -> Result<(), Damage> {
        let mut scan = self.trees.scan(REVISIONS, Vec::new());
        while let Some(entry) = scan.next(self.trees)? {
            let Ok(change) = StoredChange::read(&entry.key, &entry.head) else {
                self.wrong(&entry, format!("an entry of the tree of revisions is no change: \"{}\"", entry.key.escape_ascii()));
                continue;
            };
            let may_be_swept = change.change.revision < self.note.floor && self.note.sliced < self.note.floor;
            if !may_be_swept && self.trees.get(KEYS, &stored::version_key(change.key, change.change))?.is_none() {
                self.wrong(
                    &entry,
                    format!("{} is in the tree of revisions and not in that of keys", name(change.key, change.change)),
                );
            }
        }
        Ok(())
    }

    /// There are more attachments than living keys with a lease: which.
    fn attachments(&mut self) -> Result<(), Damage> {
        let mut scan = self.trees.scan(LEASES, Vec::new());
        while let Some(entry) = scan.next(self.trees)? {
            let Ok((lease, key)) = stored::read_attached(&entry.key, &entry.head) else {
                self.wrong(&entry, format!("an entry of the tree of leases is none: \"{}\"", entry.key.escape_ascii()));
                continue;
            };
            if self.newest_lease(key)? != Some(lease) {
                let what =
                    format!("\"{}\" is attached to lease {:x}, and its newest version is not", key.escape_ascii(), lease.get());
                self.wrong(&entry, what);
            }
        }
        Ok(())
    }

    fn newest_lease(&mut self, key: &[u8]) -> Result<Option<LeaseId>, Damage> {
        let newest = Change { revision: Revision::MAX, operation: u32::MAX };
        let found = self.trees.first_from(KEYS, &stored::version_key(key, newest))?;
        let version = found.as_ref().and_then(|found| StoredVersion::read(&found.key, &found.head).ok());
        Ok(version.filter(|version| version.key == key).and_then(|version| version.put).map(|put| put.lease))
    }
}

fn name(key: &[u8], change: Change) -> String {
    format!("\"{}\" at revision {}.{}", key.escape_ascii(), change.revision, change.operation)
}

/// The changes of one shard in order, for those who put the shards together.
pub(super) struct Changes<'a> {
    trees: Trees<'a>,
    scan: super::scan::Scan,
    group: GroupId,
    /// The next change, with the page that it is in.
    pub next: Option<(Change, Kind, u64)>,
}

impl<'a> Changes<'a> {
    /// From the first change of `from` on.
    pub fn new(mut trees: Trees<'a>, group: GroupId, from: Revision) -> Result<Changes<'a>, Damage> {
        let scan = trees.scan(REVISIONS, stored::revision_start(from));
        let mut changes = Changes { trees, scan, group, next: None };
        changes.advance()?;
        Ok(changes)
    }

    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Goes to the next change.
    pub fn advance(&mut self) -> Result<(), Damage> {
        self.next = None;
        while let Some(entry) = self.scan.next(&mut self.trees)? {
            if let Ok(change) = StoredChange::read(&entry.key, &entry.head) {
                self.next = Some((change.change, change.kind(), entry.page.offset()));
                break;
            }
        }
        Ok(())
    }
}
