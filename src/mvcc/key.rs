//! How the keys of the three trees are written, so that the order of their bytes is the order that is wanted.
//!
//! ```text
//! KEYS       escaped user key  00 00  BE(!revision) 8  BE(!operation) 4     a key's versions, newest first
//! REVISIONS  BE(revision) 8  BE(operation) 4  user key                      every change, oldest first
//! LEASES     BE(lease) 8  user key                                          the keys of each lease
//! ```
//!
//! A 0x00 in a user key is escaped as `00 FF`. The terminator `00 00` sorts below that and below every other byte that may
//! follow, so that a key comes before all that it is a prefix of, and no key's versions lie among another's.

use std::ops::Bound;

use crate::base::wire::Malformed;
use crate::base::{LeaseId, Revision};

use super::change::{At, Change};

/// What a version adds to its escaped key.
const VERSION_BYTES: usize = 12;
/// What stands before the user key in REVISIONS.
const CHANGE_BYTES: usize = 12;
/// What stands before the user key in LEASES.
const LEASE_BYTES: usize = 8;
/// Keys up to this length are built without touching the heap.
const INLINE_BYTES: usize = 240;

/// A tree key under construction: on the stack while it is short.
pub(crate) struct KeyBuffer {
    len: usize,
    inline: [u8; INLINE_BYTES],
    /// Holds everything once the key has outgrown `inline`; else empty.
    spill: Vec<u8>,
}

impl KeyBuffer {
    pub(crate) const fn new() -> KeyBuffer {
        KeyBuffer { len: 0, inline: [0; INLINE_BYTES], spill: Vec::new() }
    }

    /// The tree key of one version of `key` in KEYS.
    pub(crate) fn version(key: &[u8], change: Change) -> KeyBuffer {
        let mut buffer = KeyBuffer::escaped(key);
        buffer.push_version(change);
        buffer
    }

    /// Where the versions of `key` that `at` sees begin in KEYS; nothing sorts between this and the newest of them.
    pub(crate) fn newest_seen(key: &[u8], at: At) -> KeyBuffer {
        let mut buffer = KeyBuffer::escaped(key);
        buffer.push_seen(at);
        buffer
    }

    /// The part of a key in KEYS that all its versions share, terminator included.
    pub(crate) fn escaped(key: &[u8]) -> KeyBuffer {
        let mut buffer = KeyBuffer::new();
        let mut rest = key;
        while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
            buffer.extend(&rest[..=zero]);
            buffer.extend(&[0xFF]);
            rest = &rest[zero + 1..];
        }
        buffer.extend(rest);
        buffer.extend(&[0, 0]);
        buffer
    }

    /// The tree key of a change in REVISIONS.
    pub(crate) fn change(change: Change, key: &[u8]) -> KeyBuffer {
        let mut buffer = KeyBuffer::new();
        buffer.extend(&change.revision.get().to_be_bytes());
        buffer.extend(&change.operation.to_be_bytes());
        buffer.extend(key);
        buffer
    }

    /// The tree key of an attached key in LEASES.
    pub(crate) fn lease(lease: LeaseId, key: &[u8]) -> KeyBuffer {
        let mut buffer = KeyBuffer::new();
        buffer.extend(&lease.get().to_be_bytes());
        buffer.extend(key);
        buffer
    }

    /// Where in KEYS the keys within `bounds` of user keys begin, and where they end (None: with the tree).
    pub(crate) fn tree_bounds(bounds: (Bound<&[u8]>, Bound<&[u8]>)) -> (KeyBuffer, Option<KeyBuffer>) {
        let Bound::Included(from) = bounds.0 else { unreachable!("a span's bounds include their first key") };
        let end = match bounds.1 {
            Bound::Unbounded => None,
            Bound::Excluded(end) => Some(KeyBuffer::escaped(end)),
            Bound::Included(last) => {
                let mut end = KeyBuffer::new();
                end.restart_after(KeyBuffer::escaped(last).as_slice());
                Some(end)
            }
        };
        (KeyBuffer::escaped(from), end)
    }

    /// Starts again with `escaped`, the shared part of a key in KEYS, and goes on as [`KeyBuffer::newest_seen`].
    pub(crate) fn restart_seen(&mut self, escaped: &[u8], at: At) {
        self.clear();
        self.extend(escaped);
        self.push_seen(at);
    }

    /// Starts again with the lowest tree key in KEYS that is above every version of `escaped`.
    pub(crate) fn restart_after(&mut self, escaped: &[u8]) {
        let (terminator, body) = escaped.split_last().expect("an escaped key ends with its terminator");
        assert_eq!(*terminator, 0, "an escaped key ends with its terminator");
        self.clear();
        self.extend(body);
        self.extend(&[1]);
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        if self.spill.is_empty() { &self.inline[..self.len] } else { &self.spill }
    }

    fn clear(&mut self) {
        self.len = 0;
        self.spill.clear();
    }

    fn extend(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if !self.spill.is_empty() {
            self.spill.extend_from_slice(bytes);
        } else if end <= INLINE_BYTES {
            self.inline[self.len..end].copy_from_slice(bytes);
        } else {
            self.spill.reserve(end + VERSION_BYTES);
            self.spill.extend_from_slice(&self.inline[..self.len]);
            self.spill.extend_from_slice(bytes);
        }
        self.len = end;
    }

    fn push_version(&mut self, change: Change) {
        self.extend(&(!change.revision.get()).to_be_bytes());
        self.extend(&(!change.operation).to_be_bytes());
    }

    fn push_seen(&mut self, at: At) {
        match at.last_seen() {
            Some(change) => self.push_version(change),
            // Nothing is seen: above every version of the key.
            None => self.extend(&[0xFF; VERSION_BYTES + 1]),
        }
    }
}

/// Splits a key of KEYS into the part shared by all versions and the place of this one.
#[inline]
pub(crate) fn split_version(key: &[u8]) -> (&[u8], Change) {
    try_split_version(key).expect("a key of KEYS ends with its version")
}

#[inline]
pub(crate) fn try_split_version(key: &[u8]) -> Result<(&[u8], Change), Malformed> {
    let (escaped, version) = key.split_last_chunk::<VERSION_BYTES>().ok_or(Malformed)?;
    let (revision, operation) = split_change_bytes(version);
    Ok((escaped, Change { revision: Revision(!revision), operation: !operation }))
}

/// Splits a key of REVISIONS into its change and the user key.
#[inline]
pub(crate) fn split_change(key: &[u8]) -> (Change, &[u8]) {
    try_split_change(key).expect("a key of REVISIONS begins with its change")
}

#[inline]
pub(crate) fn try_split_change(key: &[u8]) -> Result<(Change, &[u8]), Malformed> {
    let (change, key) = key.split_first_chunk::<CHANGE_BYTES>().ok_or(Malformed)?;
    let (revision, operation) = split_change_bytes(change);
    Ok((Change { revision: Revision(revision), operation }, key))
}

/// Splits a key of LEASES into the lease and the user key.
#[inline]
pub(crate) fn split_lease(key: &[u8]) -> (LeaseId, &[u8]) {
    try_split_lease(key).expect("a key of LEASES begins with its lease")
}

#[inline]
pub(crate) fn try_split_lease(key: &[u8]) -> Result<(LeaseId, &[u8]), Malformed> {
    let (lease, key) = key.split_first_chunk::<LEASE_BYTES>().ok_or(Malformed)?;
    Ok((LeaseId(i64::from_be_bytes(*lease)), key))
}

#[inline]
fn split_change_bytes(bytes: &[u8; 12]) -> (u64, u32) {
    let (revision, operation) = bytes.split_first_chunk::<8>().expect("12 bytes hold 8");
    let operation = operation.first_chunk::<4>().expect("12 less 8 bytes are 4");
    (u64::from_be_bytes(*revision), u32::from_be_bytes(*operation))
}

/// Appends the user key that `escaped` (terminator included) stands for.
pub(crate) fn unescape(escaped: &[u8], out: &mut Vec<u8>) {
    try_unescape(escaped, out).expect("an escaped key ends with its terminator, and FF follows a zero inside it");
}

pub(crate) fn try_unescape(escaped: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut rest = escaped.strip_suffix(&[0, 0]).ok_or(Malformed)?;
    while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
        out.extend_from_slice(&rest[..=zero]);
        if rest.get(zero + 1) != Some(&0xFF) {
            return Err(Malformed);
        }
        rest = &rest[zero + 2..];
    }
    out.extend_from_slice(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Prng;

    fn version(key: &[u8], revision: u64, operation: u32) -> Vec<u8> {
        KeyBuffer::version(key, Change { revision: Revision(revision), operation }).as_slice().to_vec()
    }

    #[test]
    fn the_order_of_versions_is_key_ascending_then_newest_first() {
        let mut rng = Prng::new(3);
        let mut all = Vec::new();
        for _ in 0..3000 {
            let len = rng.below(5) + u64::from(rng.chance(1, 50)) * 300;
            let key: Vec<u8> = (0..len).map(|_| [0, 1, 2, 0xFE, 0xFF][rng.below(5) as usize]).collect();
            all.push((key, rng.below(4), rng.below(3) as u32));
        }
        let mut by_meaning = all.clone();
        by_meaning.sort_by(|a, b| (&a.0, b.1, b.2).cmp(&(&b.0, a.1, a.2)));
        all.sort_by_key(|(key, revision, operation)| version(key, *revision, *operation));
        assert_eq!(all, by_meaning);
        for (key, revision, operation) in all {
            let bytes = version(&key, revision, operation);
            let (escaped, change) = split_version(&bytes);
            let mut back = Vec::new();
            unescape(escaped, &mut back);
            assert_eq!((back, change), (key, Change { revision: Revision(revision), operation }));
        }
    }

    #[test]
    fn bounds_lie_where_they_must() {
        for key in [&b"a"[..], b"a\0", b"a\0\0", b"", b"\xFF"] {
            let mut after = KeyBuffer::new();
            after.restart_after(KeyBuffer::escaped(key).as_slice());
            assert!(after.as_slice() > &version(key, 0, 0)[..]);
            for next in [&b"\x00"[..], b"\x01", b"\xFF"] {
                assert!(after.as_slice() <= &version(&[key, next].concat(), u64::MAX, 0)[..]);
            }
            let seen = KeyBuffer::newest_seen(key, At { revision: Revision(7), operation_bound: 2 });
            assert_eq!(seen.as_slice(), version(key, 7, 1));
            let seen = KeyBuffer::newest_seen(key, At { revision: Revision(7), operation_bound: 0 });
            assert_eq!(seen.as_slice(), version(key, 6, u32::MAX));
            let none = KeyBuffer::newest_seen(key, At { revision: Revision(0), operation_bound: 0 });
            assert!(none.as_slice() > &version(key, 0, 0)[..] && none.as_slice() < after.as_slice());
        }
    }

    #[test]
    fn changes_and_leases_come_back() {
        let change = Change { revision: Revision(9), operation: 4 };
        assert_eq!(split_change(KeyBuffer::change(change, b"k").as_slice()), (change, &b"k"[..]));
        assert_eq!(split_lease(KeyBuffer::lease(LeaseId(-2), b"k").as_slice()), (LeaseId(-2), &b"k"[..]));
    }
}
