//! Entries of the three trees, read from bytes of which nothing is known yet: for tools that look into files.

use crate::base::wire::Malformed;
use crate::base::{LeaseId, Revision};
use crate::pages::Tree;

use super::change::Change;
use super::key::{KeyBuffer, try_split_change, try_split_lease, try_split_version, try_unescape};
use super::record::{Kind, PutFields, try_parse, try_place};
use super::store::{KEYS, LEASES, REVISIONS};

/// The trees of a shard's page file, with their names.
pub const TREES: [(Tree, &str); 3] = [(KEYS, "keys"), (REVISIONS, "revisions"), (LEASES, "leases")];

/// An entry of KEYS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredVersion<'a> {
    /// The user key.
    pub key: Vec<u8>,
    /// Where the version stands among all changes.
    pub change: Change,
    /// What was put, with no value; None: a tombstone.
    pub put: Option<PutFields<'a>>,
}

impl<'a> StoredVersion<'a> {
    /// Reads a tree key and what is stored for it.
    ///
    /// # Errors
    /// [`Malformed`]: no version is written like that.
    pub fn read(tree_key: &[u8], value: &'a [u8]) -> Result<StoredVersion<'a>, Malformed> {
        let (escaped, change) = try_split_version(tree_key)?;
        let mut key = Vec::with_capacity(escaped.len());
        try_unescape(escaped, &mut key)?;
        let put = match try_parse(value)? {
            None => None,
            Some(fields) => {
                try_place(fields.value)?;
                Some(PutFields { value: &[], ..fields })
            }
        };
        Ok(StoredVersion { key, change, put })
    }

    /// Whether `change`, which stands at the same place, did the same.
    pub fn agrees_with(&self, change: &StoredChange<'_>) -> bool {
        self.put == change.put.map(|fields| PutFields { value: &[], ..fields })
    }
}

/// An entry of REVISIONS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredChange<'a> {
    /// Where the change stands among all changes.
    pub change: Change,
    /// The user key.
    pub key: &'a [u8],
    /// What was put; None: a tombstone. Of a value that is not all at hand, its beginning.
    pub put: Option<PutFields<'a>>,
}

impl<'a> StoredChange<'a> {
    /// Reads a tree key and what is stored for it, or its beginning.
    ///
    /// # Errors
    /// [`Malformed`]: no change is written like that.
    pub fn read(tree_key: &'a [u8], value: &'a [u8]) -> Result<StoredChange<'a>, Malformed> {
        let (change, key) = try_split_change(tree_key)?;
        Ok(StoredChange { change, key, put: try_parse(value)? })
    }

    /// Which kind of change it is.
    pub fn kind(&self) -> Kind {
        if self.put.is_some() { Kind::Put } else { Kind::Tombstone }
    }
}

/// An entry of LEASES: the lease and the user key that is attached to it.
///
/// # Errors
/// [`Malformed`]: no attachment is written like that.
pub fn read_attached<'a>(tree_key: &'a [u8], value: &[u8]) -> Result<(LeaseId, &'a [u8]), Malformed> {
    if value.is_empty() { try_split_lease(tree_key) } else { Err(Malformed) }
}

/// The tree key in KEYS of the version of `key` at `change`.
pub fn version_key(key: &[u8], change: Change) -> Vec<u8> {
    KeyBuffer::version(key, change).as_slice().to_vec()
}

/// The tree key in REVISIONS of the change of `key` at `change`.
pub fn change_key(key: &[u8], change: Change) -> Vec<u8> {
    KeyBuffer::change(change, key).as_slice().to_vec()
}

/// Where in REVISIONS the changes of `revision` begin.
pub fn revision_start(revision: Revision) -> Vec<u8> {
    change_key(b"", Change { revision, operation: 0 })
}

/// The tree key in LEASES of `key` attached to `lease`.
pub fn attached_key(key: &[u8], lease: LeaseId) -> Vec<u8> {
    KeyBuffer::lease(lease, key).as_slice().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::record::Head;

    #[test]
    fn what_was_written_is_read_and_anything_cut_is_not() {
        let change = Change { revision: Revision(7), operation: 2 };
        for key in [&b"k"[..], b"", b"a\0b\0", b"\xFF\0"] {
            let fields = PutFields { create_revision: Revision(3), version: 4, lease: LeaseId(-5), value: b"v" };
            let head = Head::new(&Some(fields));
            let version = [head.as_slice(), &[9, 0, 0, 0]].concat();
            let tree_key = version_key(key, change);
            let read = StoredVersion::read(&tree_key, &version).expect("as written");
            let without_value = PutFields { value: b"", ..fields };
            assert_eq!((&read.key[..], read.change, read.put), (key, change, Some(without_value)));
            assert!((0..14).all(|len| StoredVersion::read(&tree_key[tree_key.len() - len..], &version).is_err()));
            assert!(StoredVersion::read(&tree_key, head.as_slice()).is_err(), "no place of the value");
            let version = read;
            let (tree_key, stored) = (change_key(key, change), [head.as_slice(), b"v"].concat());
            let read = StoredChange::read(&tree_key, &stored).expect("as written");
            assert_eq!((read.change, read.key, read.put), (change, key, Some(fields)));
            assert!(version.agrees_with(&read) && !version.agrees_with(&StoredChange { put: None, ..read }));
            assert!(StoredChange::read(&tree_key, &[]).is_err() && StoredChange::read(&tree_key, &[3]).is_err());
            assert!((0..12).all(|len| StoredChange::read(&tree_key[..len], &stored).is_err()));
            assert_eq!(read_attached(&attached_key(key, LeaseId(9)), b""), Ok((LeaseId(9), key)));
            assert!(read_attached(&[0; 7], b"").is_err() && read_attached(&[0; 9], b"x").is_err());
        }
        assert!(StoredVersion::read(&[b"a\0b\0\0".as_slice(), &[0; 12]].concat(), &[2]).is_err(), "a zero without its escape");
    }
}
