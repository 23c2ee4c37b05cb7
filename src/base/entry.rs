//! What a group's log is made of.

use bytes::Bytes;

use super::{GroupId, Index, Revision, Term};

/// One entry of a group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The term of the leader that appended it.
    pub term: Term,
    /// Its place in the group's log.
    pub index: Index,
    /// How it counts for committing and cutting (rules 3 and 4).
    pub mark: Mark,
    /// The effects, already decided; the state machine's own encoding.
    pub payload: Bytes,
}

/// How an entry counts for committing and cutting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The entry is this group's part of a revision, present in all `participants` or in none (rule 4).
    Revision {
        /// The revision that it was given.
        revision: Revision,
        /// Every group that carries a part of it, this one among them.
        participants: GroupSet,
    },
    /// The entry has no revision of its own; `after` counts as one (rule 3).
    After(Revision),
}

impl Mark {
    /// What counts for committing and cutting: the revision, or what the entry comes after.
    #[inline]
    pub const fn counts_as(self) -> Revision {
        match self {
            Mark::Revision { revision, .. } => revision,
            Mark::After(after) => after,
        }
    }

    /// The revision of its own, if it has one.
    #[inline]
    pub const fn revision(self) -> Option<Revision> {
        match self {
            Mark::Revision { revision, .. } => Some(revision),
            Mark::After(_) => None,
        }
    }
}

/// A set of groups, as a bit per group.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Hash)]
pub struct GroupSet(pub u128);

impl GroupSet {
    /// No group.
    pub const EMPTY: GroupSet = GroupSet(0);

    /// This group alone.
    #[inline]
    pub const fn of(group: GroupId) -> GroupSet {
        assert!(group.0 < 128);
        GroupSet(1 << group.0)
    }

    /// With `group` in it.
    #[inline]
    #[must_use]
    pub const fn with(self, group: GroupId) -> GroupSet {
        GroupSet(self.0 | GroupSet::of(group).0)
    }

    /// Whether `group` is in it.
    #[inline]
    pub const fn has(self, group: GroupId) -> bool {
        self.0 & GroupSet::of(group).0 != 0
    }

    /// How many groups are in it.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether none is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The groups in it, lowest first.
    pub fn iter(self) -> impl Iterator<Item = GroupId> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest == 0 {
                return None;
            }
            let lowest = rest.trailing_zeros();
            rest &= rest - 1;
            Some(GroupId(lowest as u16))
        })
    }
}

impl FromIterator<GroupId> for GroupSet {
    fn from_iter<I: IntoIterator<Item = GroupId>>(groups: I) -> GroupSet {
        groups.into_iter().fold(GroupSet::EMPTY, GroupSet::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_set_holds_what_was_put_in() {
        let set: GroupSet = [GroupId(3), GroupId(0), GroupId(127)].into_iter().collect();
        assert_eq!(set.iter().map(GroupId::get).collect::<Vec<_>>(), [0, 3, 127]);
        assert!(set.has(GroupId(3)) && !set.has(GroupId(4)));
        assert_eq!(set.len(), 3);
    }
}
