//! Where a change stands among all changes, what a read sees of them, which keys it wants, and how long it may take.

use std::ops::Bound;

use bytes::Bytes;

use crate::base::Revision;

/// The place of a change: its revision, and how many changes of that revision came before the operation that made it.
///
/// The tombstones of one range delete share an operation number and are ordered by key, over all shards; so etcd's
/// sub-revision of a change is its operation number, plus its rank by key among the tombstones that share it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Change {
    /// The revision (etcd's main revision).
    pub revision: Revision,
    /// The number of changes of this revision, over all shards, before this operation.
    pub operation: u32,
}

/// What a read sees: every change below (revision, operation_bound).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct At {
    /// The last revision of which anything is seen.
    pub revision: Revision,
    /// Of that revision, the operations below this number are seen.
    pub operation_bound: u32,
}

impl At {
    /// Everything that there is, evaluated or applied.
    pub const LATEST: At = At { revision: Revision::MAX, operation_bound: u32::MAX };

    /// The state once `revision` is complete.
    pub const fn end_of(revision: Revision) -> At {
        At { revision, operation_bound: u32::MAX }
    }

    /// The state before anything of `revision`.
    pub const fn before(revision: Revision) -> At {
        At { revision, operation_bound: 0 }
    }

    /// The state that an operation of a txn finds: all that came before `change`.
    pub const fn before_change(change: Change) -> At {
        At { revision: change.revision, operation_bound: change.operation }
    }

    /// Whether `change` is seen.
    #[inline]
    pub fn sees(self, change: Change) -> bool {
        (change.revision, change.operation) < (self.revision, self.operation_bound)
    }

    /// Whether everything of `revision` is seen, and all before it.
    #[inline]
    pub fn sees_all_of(self, revision: Revision) -> bool {
        self >= At::end_of(revision)
    }

    /// The last place that is seen, taken or not; None when nothing can be.
    pub(crate) fn last_seen(self) -> Option<Change> {
        if self.operation_bound > 0 {
            return Some(Change { revision: self.revision, operation: self.operation_bound - 1 });
        }
        let revision = self.revision.get().checked_sub(1)?;
        Some(Change { revision: Revision(revision), operation: u32::MAX })
    }
}

/// A set of neighbouring keys, as requests name it (surface 3.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Span {
    /// Exactly this key.
    Key(Bytes),
    /// From the first, which is in it, to the second, which is not. Empty when the second is not above the first.
    Between(Bytes, Bytes),
    /// This key and everything above it.
    From(Bytes),
}

impl Span {
    /// Every key there can be.
    pub const fn everything() -> Span {
        Span::From(Bytes::new())
    }

    /// What `key` and `range_end` of a request mean: an empty end is the key alone, a single NUL is no end.
    pub fn of_request(key: &Bytes, range_end: &Bytes) -> Span {
        match &range_end[..] {
            [] => Span::Key(key.clone()),
            [0] => Span::From(key.clone()),
            _ => Span::Between(key.clone(), range_end.clone()),
        }
    }

    /// The lowest key that can be in it.
    pub fn first(&self) -> &Bytes {
        match self {
            Span::Key(first) | Span::Between(first, _) | Span::From(first) => first,
        }
    }

    /// The bytes of its bounds.
    pub fn bytes(&self) -> usize {
        match self {
            Span::Key(first) | Span::From(first) => first.len(),
            Span::Between(first, end) => first.len() + end.len(),
        }
    }

    /// Whether `key` is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Span::Key(only) => key == only,
            Span::Between(first, end) => key >= &first[..] && key < &end[..],
            Span::From(first) => key >= &first[..],
        }
    }

    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        matches!(self, Span::Between(first, end) if end <= first)
    }

    /// The keys of it from `resume` on (None: all of it) as bounds; an empty span gives bounds that an ordered map accepts.
    pub(crate) fn bounds<'a>(&'a self, resume: Option<&'a [u8]>) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
        let first: &[u8] = self.first();
        let from = resume.map_or(first, |resume| resume.max(first));
        let upper = match self {
            Span::Key(only) if &only[..] < from => Bound::Excluded(from),
            Span::Key(only) => Bound::Included(&only[..]),
            Span::Between(_, end) => Bound::Excluded(from.max(end)),
            Span::From(_) => Bound::Unbounded,
        };
        (Bound::Included(from), upper)
    }
}

/// How much one slice may do before it gives a continuation. The first step of a slice is always taken.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Stored versions, overlay keys and removals passed.
    pub visits: u32,
    /// Bytes of keys and values copied.
    pub bytes: usize,
}

impl Budget {
    /// No bound: for tests, and for callers that have made sure that the work is small.
    pub const UNLIMITED: Budget = Budget { visits: u32::MAX, bytes: usize::MAX };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_mean_what_requests_mean() {
        let span = |key: &'static [u8], end: &'static [u8]| Span::of_request(&Bytes::from(key), &Bytes::from(end));
        assert!(span(b"a", b"").contains(b"a") && !span(b"a", b"").contains(b"a\0"));
        assert!(span(b"a", b"\0").contains(b"zzz") && !span(b"b", b"\0").contains(b"a"));
        assert!(span(b"a", b"c").contains(b"b\xFF") && !span(b"a", b"c").contains(b"c"));
        assert!(span(b"c", b"a").is_empty() && span(b"c", b"c").is_empty() && !span(b"c", b"").is_empty());
        assert!(Span::everything().contains(b"\0"));
    }

    #[test]
    fn at_sees_what_came_before() {
        let at = At { revision: Revision(5), operation_bound: 2 };
        assert!(at.sees(Change { revision: Revision(5), operation: 1 }));
        assert!(!at.sees(Change { revision: Revision(5), operation: 2 }));
        assert!(at.sees_all_of(Revision(4)) && !at.sees_all_of(Revision(5)));
        assert_eq!(At::before(Revision(0)).last_seen(), None);
    }
}
