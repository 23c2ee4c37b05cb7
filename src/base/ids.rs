//! Numbers that mean different things have different types, so that none is passed for another.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl $name {
            /// The raw number, for records and metrics.
            #[inline]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id! {
    /// A raft term: the number of a reign. 0 before the first election.
    Term(u64)
}
id! {
    /// The place of an entry in its group's log. The first entry of a log has index 1; 0 is before it.
    Index(u64)
}
id! {
    /// A revision of the whole store (etcd's main revision). A fresh store is at 1; 0 is before everything.
    Revision(u64)
}
id! {
    /// A raft group of the cluster: 0 is the meta group, 1..=S hold the shards.
    GroupId(u16)
}
id! {
    /// A shard core of this process, counted from 0. Core 0 hosts group 0, the coordinator and the election.
    CoreId(u16)
}
id! {
    /// A front core of this process, counted from 0.
    FrontId(u16)
}
id! {
    /// A member of the cluster, computed as etcd computes it.
    MemberId(u64)
}
id! {
    /// A cluster, computed as etcd computes it.
    ClusterId(u64)
}
id! {
    /// A lease as clients name it. 0 is "no lease".
    LeaseId(i64)
}
id! {
    /// The number of a start of this member, raised at each start and recorded in every segment.
    RunNumber(u64)
}
id! {
    /// The place of a segment in its WAL (one WAL per core and run), counted from 1.
    SegmentSequence(u64)
}
id! {
    /// The place of a batch in its WAL, counted from 1 over all its segments.
    BatchNumber(u64)
}

impl Term {
    /// The term after this one.
    pub const fn next(self) -> Term {
        Term(self.0 + 1)
    }
}

impl Index {
    /// Before the first entry.
    pub const ZERO: Index = Index(0);

    /// The index after this one.
    #[inline]
    pub const fn next(self) -> Index {
        Index(self.0 + 1)
    }
}

impl Revision {
    /// Before everything; in requests "the current one".
    pub const ZERO: Revision = Revision(0);
    /// What a fresh store is at.
    pub const FIRST: Revision = Revision(1);
    /// Above every revision; in a slot: "nothing taken that is not yet on disk at a quorum".
    pub const MAX: Revision = Revision(u64::MAX);

    /// The revision after this one.
    #[inline]
    pub const fn next(self) -> Revision {
        Revision(self.0 + 1)
    }

    /// As etcd's messages carry it. Revisions never reach 2^63.
    #[inline]
    pub const fn as_i64(self) -> i64 {
        self.0 as i64
    }
}

impl GroupId {
    /// The meta group: members, leases, alarms, compaction revision.
    pub const META: GroupId = GroupId(0);

    /// As an index into tables with one place per group.
    #[inline]
    pub const fn slot(self) -> usize {
        self.0 as usize
    }
}

impl LeaseId {
    /// No lease.
    pub const NONE: LeaseId = LeaseId(0);
}
