//! What fronts and cores say to each other. Every message that belongs to a reign carries its term.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::{FrontId, GroupId, GroupSet, Index, KeyRange, LeaseId, MemberId, Revision, Term};
use crate::mvcc::hash::{HashEntry, HashQuery};
use crate::proto::etcdserverpb as pb;
use crate::proto::mvccpb;
use crate::reign::Reign;

/// A front's name for a request that it sent to a core; the answer carries it back.
///
/// Every ticket is answered, once: a cancelled one too (with [`Refusal::Cancelled`] if nothing was done), and one whose reign ended.
/// The front counts its credits by that.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket {
    /// Who asked.
    pub front: FrontId,
    /// The front's own number, never used twice by one front.
    pub number: u64,
}

/// A point in the order of all changes: everything with (revision, operation) below the bound is seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct At {
    /// The revision read at.
    pub revision: Revision,
    /// Changes of `revision` itself are seen when their operation number is below this; `u32::MAX`: all.
    pub operations: u32,
}

impl At {
    /// All of `revision`.
    pub const fn end_of(revision: Revision) -> At {
        At { revision, operations: u32::MAX }
    }
}

/// A request that may change keys.
#[derive(Clone, Debug)]
pub enum Write {
    /// One put.
    Put(pb::PutRequest),
    /// One delete.
    Delete(pb::DeleteRangeRequest),
    /// A transaction with a write in it. Its syntax has been checked.
    Txn(pb::TxnRequest),
}

/// A request that reads one group's keys. Every read is a slice: it stops at a budget and says where it goes on.
///
/// What is read was published (rule 16) until the front gave up; then what it asked for may be removed, and the answer is thrown away.
#[derive(Clone, Debug)]
pub enum Read {
    /// One key, whole.
    Get {
        /// Which.
        key: Bytes,
        /// At which point in the order of changes.
        at: At,
    },
    /// Keys and values in key order.
    Range(Box<RangeRead>),
    /// Changes in (revision, operation, key) order, for watchers that catch up.
    Events(Box<EventsRead>),
    /// Whether the group has anything in the keep set of a hash; asked of all groups before the first is hashed.
    HashKept(HashQuery),
    /// What a hash takes from this group, in (revision, operation, key) order.
    Hash {
        /// What is hashed.
        query: HashQuery,
        /// Where to go on.
        resume: Option<Resume>,
    },
    /// The keys attached to a lease.
    Attached {
        /// Which lease.
        lease: LeaseId,
        /// At which point.
        at: At,
        /// Where to go on.
        resume: Option<Resume>,
    },
}

/// Where a slice stopped; opaque to the front.
pub type Resume = Bytes;

/// A slice of a range.
#[derive(Clone, Debug)]
pub struct RangeRead {
    /// Which keys.
    pub range: KeyRange,
    /// At which point in the order of changes.
    pub at: At,
    /// Stop after this many keys that pass the filters.
    pub limit: usize,
    /// Leave values (and, as etcd's fast path does, nothing else) away.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
    /// The exact number of keys in the whole range is wanted too, whatever limit, filters and budget; asked with the first slice only.
    pub with_count: bool,
    /// mod_revision bounds, inclusive; 0: none.
    pub mod_revisions: (i64, i64),
    /// create_revision bounds, inclusive; 0: none.
    pub create_revisions: (i64, i64),
    /// Where to go on.
    pub resume: Option<Resume>,
}

/// A slice of the changes of a range of revisions.
#[derive(Clone, Debug)]
pub struct EventsRead {
    /// Which keys.
    pub range: KeyRange,
    /// From the first operation of this revision.
    pub from: Revision,
    /// To the last of this one.
    pub to: Revision,
    /// Whether previous values are wanted.
    pub prev_kv: bool,
    /// Where to go on.
    pub resume: Option<Resume>,
}

/// One change of one key, as a hub gets it. Shared: events are never copied per watcher.
#[derive(Clone, Debug)]
pub struct Event {
    /// The revision that made it.
    pub revision: Revision,
    /// Its operation number (etcd's sub-revision of the operation's first change).
    pub operation: u32,
    /// A delete: `kv` has key and mod_revision alone.
    pub tombstone: bool,
    /// The key as the event leaves it.
    pub kv: mvccpb::KeyValue,
    /// What the key was before, if known.
    pub prev: Previous,
}

impl Event {
    /// The event as evaluation or the store gives it; `with_prev`: its previous state was asked for.
    pub fn of(event: crate::mvcc::Event, with_prev: bool) -> Event {
        let prev = match event.prev {
            Some(kv) => Previous::Kv(kv),
            None if with_prev => Previous::None,
            None => Previous::Unknown,
        };
        Event {
            revision: event.change.revision,
            operation: event.change.operation,
            tombstone: event.kind == crate::mvcc::Kind::Tombstone,
            kv: event.kv,
            prev,
        }
    }
}

/// The state of a key before an event.
#[derive(Clone, Debug)]
pub enum Previous {
    /// Nobody asked when the event was made: read it from the store if it is needed now.
    Unknown,
    /// The key did not exist, or what it was has been compacted away.
    None,
    /// What it was.
    Kv(mvccpb::KeyValue),
}

/// From a front to a core.
#[derive(Debug)]
pub enum ToCore {
    /// A write that lies wholly in `group`: evaluate it there.
    Write {
        /// Who waits.
        ticket: Ticket,
        /// The reign that it is meant for.
        term: Term,
        /// The owning group.
        group: GroupId,
        /// What to do.
        write: Write,
    },
    /// A slice of reading.
    Read {
        /// Who waits.
        ticket: Ticket,
        /// The group read.
        group: GroupId,
        /// What to read.
        read: Read,
    },
    /// For core 0: what touches several shards, or group 0.
    Order {
        /// Who waits.
        ticket: Ticket,
        /// The reign that it is meant for.
        term: Term,
        /// What to do.
        order: Order,
    },
    /// The call is gone: drop what has not been evaluated yet.
    Cancel {
        /// The front's ticket.
        ticket: Ticket,
        /// The group it went to; [`GroupId::META`] for an order.
        group: GroupId,
    },
}

/// What core 0 does: the coordinator's and group 0's part.
#[derive(Clone, Debug)]
pub enum Order {
    /// A write over several shards: those of its compares and of all its possible writes.
    Write {
        /// What to do.
        write: Write,
        /// The groups of its compares and possible writes.
        groups: GroupSet,
    },
    /// Grant a lease; id 0 has been replaced by a random one, the TTL has been raised to the minimum.
    LeaseGrant {
        /// Its id.
        id: LeaseId,
        /// Seconds.
        ttl: i64,
    },
    /// Revoke a lease and delete its keys in one revision.
    LeaseRevoke {
        /// Which.
        id: LeaseId,
    },
    /// Renew a lease.
    LeaseKeepAlive {
        /// Which.
        id: LeaseId,
    },
    /// Ask what is left of a lease (attached keys are read by the front).
    LeaseTimeToLive {
        /// Which.
        id: LeaseId,
    },
    /// All leases, by ascending expiry.
    LeaseLeases,
    /// Compact to a revision.
    Compact {
        /// The revision.
        revision: i64,
        /// Answer when the removal is done on disk.
        physical: bool,
    },
    /// What a front's compaction goes through: told to all fronts once a compaction from there to there has taken effect.
    CompactionHash(CompactionHash),
    /// etcd's Alarm request.
    Alarm(pb::AlarmRequest),
    /// Start a defragmentation of every group's file on this member (answered at once).
    Defragment,
}

/// The hash of what a compaction went through, which etcd keeps.
#[derive(Clone, Copy, Debug)]
pub struct CompactionHash {
    /// From where to where.
    pub query: HashQuery,
    /// The hash.
    pub hash: u32,
}

/// From a core to a front.
#[derive(Debug)]
pub enum ToFront {
    /// An answer.
    Answer {
        /// Whose.
        ticket: Ticket,
        /// The reign that it was made in.
        term: Term,
        /// When it may leave.
        leave: Leave,
        /// What it says.
        answer: Answer,
    },
    /// Changes for the hub, in this group's order; queued before the group's slot is raised (rule 13).
    Events {
        /// The reign that they were made in, if they come from a quorum; `None` when they come from applying.
        term: Option<Term>,
        /// The group.
        group: GroupId,
        /// In (revision, operation, key) order.
        events: Vec<Event>,
    },
    /// This member leads: requests may be evaluated in this reign from now on.
    Leading(Arc<Reign>),
    /// The reign ended; what waits in it is answered with etcd's own errors.
    Ended {
        /// Its term.
        term: Term,
        /// What was stable when it ended.
        stable: Revision,
    },
    /// The members, as of group 0's applied state.
    Members(Arc<Vec<pb::Member>>),
    /// The alarms, as of group 0's applied state.
    Alarms(Arc<Vec<pb::AlarmMember>>),
    /// What a compaction went through.
    CompactionHash(CompactionHash),
}

/// When an answer may leave (rules 3 and 14).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leave {
    /// At once: it rests on nothing that could still be cut.
    Now,
    /// When the stable revision has reached this one, in the same term.
    Stable(Revision),
    /// The same, and group 0's commit index has reached this one.
    StableAndMeta(Revision, Index),
}

/// What an answer says.
#[derive(Debug)]
pub enum Answer {
    /// The write took `revision`, or changed nothing (then `revision` is the current one at evaluation).
    Write {
        /// For the header.
        revision: Revision,
        /// What etcd answers, less headers.
        response: WriteResponse,
    },
    /// The key, if it lives.
    Got(Option<mvccpb::KeyValue>),
    /// A slice of a range.
    Range(RangeSlice),
    /// A slice of changes.
    Events {
        /// In order.
        events: Vec<Event>,
        /// Everything up to and including this revision has been given, for the range asked for. Below the `from` asked for: nothing
        /// yet (a slice may end within a revision, and a member that follows may not have applied so far).
        through: Revision,
        /// Where to go on; `None`: done.
        resume: Option<Resume>,
    },
    /// Whether the group has anything in the keep set.
    HashKept(bool),
    /// A slice for a hash.
    Hash {
        /// Entries to merge with the other groups'.
        entries: Vec<HashEntry>,
        /// Where to go on; `None`: done.
        resume: Option<Resume>,
    },
    /// A slice of attached keys.
    Attached {
        /// In key order.
        keys: Vec<Bytes>,
        /// Where to go on; `None`: done.
        resume: Option<Resume>,
    },
    /// A lease was granted.
    Granted {
        /// Its id.
        id: LeaseId,
        /// Seconds.
        ttl: i64,
    },
    /// A lease was revoked.
    Revoked {
        /// For the header.
        revision: Revision,
    },
    /// A lease renewed (the full TTL) or, with 0, not there.
    Renewed {
        /// Its id.
        id: LeaseId,
        /// Seconds.
        ttl: i64,
    },
    /// What is left of a lease; ttl −1: not there.
    Remaining {
        /// Its id.
        id: LeaseId,
        /// Whole seconds left.
        ttl: i64,
        /// As granted.
        granted: i64,
    },
    /// All leases, by ascending expiry.
    Leases(Vec<LeaseId>),
    /// The compaction took effect.
    Compacted,
    /// Alarms that the request touched or asked for.
    Alarms(Vec<(MemberId, i32)>),
    /// Done, nothing to say.
    Done,
    /// Refused; nothing changed.
    Refused(Refusal),
}

/// The answer to a write, less headers, in the request's shape.
#[derive(Debug)]
pub enum WriteResponse {
    /// To a put.
    Put {
        /// What was there, if it was asked for.
        prev: Option<mvccpb::KeyValue>,
    },
    /// To a delete.
    Delete {
        /// How many keys.
        deleted: i64,
        /// What they were, if it was asked for, in key order. A plain delete over several shards leaves them out: the front reads them
        /// at (its revision, no operation of it).
        prevs: Vec<mvccpb::KeyValue>,
    },
    /// To a txn.
    Txn {
        /// Which branch ran.
        succeeded: bool,
        /// An answer per operation of that branch.
        responses: Vec<OpResponse>,
    },
}

/// The answer to one operation of a txn.
#[derive(Debug)]
pub enum OpResponse {
    /// Complete.
    Done(WriteResponse),
    /// A range answered at evaluation.
    Range(pb::RangeResponse),
    /// Read this at the txn's revision with this many operations seen; then it is the answer.
    ReadRange {
        /// etcd's request.
        request: pb::RangeRequest,
        /// Operations of the revision that it sees.
        operations: u32,
    },
    /// A delete over several shards: count and previous values are what a range at (revision, operations) shows.
    ReadDelete {
        /// etcd's request.
        request: pb::DeleteRangeRequest,
        /// Operations of the revision that came before it.
        operations: u32,
        /// The count, known from the hold.
        deleted: i64,
    },
    /// A put in a txn over several shards whose previous value is read at (revision, operations).
    ReadPrevious {
        /// The key.
        key: Bytes,
        /// Operations of the revision that came before it.
        operations: u32,
    },
}

/// A slice of a range, in key order.
#[derive(Debug, Default)]
pub struct RangeSlice {
    /// The keys that passed, values included unless keys_only.
    pub kvs: Vec<mvccpb::KeyValue>,
    /// With count_only: keys in the part of the range walked by this slice (slices add up). With with_count: keys in the whole range.
    pub count: u64,
    /// Where to go on; `None`: the range is done.
    pub resume: Option<Resume>,
}

/// Why a request was refused. The front turns it into etcd's code and text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// ignore_value or ignore_lease on a key that is not there.
    KeyNotFound,
    /// The lease is not there.
    LeaseNotFound,
    /// A lease with this id is there already.
    LeaseExists,
    /// The revision has been compacted away.
    Compacted,
    /// The revision is yet to come.
    FutureRevision,
    /// The NOSPACE alarm is raised.
    NoSpace,
    /// The CORRUPT alarm is raised.
    Corrupt,
    /// A queue is full.
    TooManyRequests,
    /// This member does not lead, or not in the term named.
    NotLeader,
    /// The reign ended while the request waited: the outcome is unknown.
    LeaderChanged,
    /// The disk is full (rule 18).
    DiskFull,
    /// The member is stopping.
    Stopped,
    /// The front cancelled it before anything was done.
    Cancelled,
}
