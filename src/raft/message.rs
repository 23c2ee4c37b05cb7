//! What the replicas of one group say to each other. The frame around a message names the group and the sender.

use crate::base::{Entry, Index, Term};

use super::Position;

/// One message between two replicas of a group. Those of another term are refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The term that the sender is in.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a replica says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Leader to the others: these entries come after `previous`.
    Append(Append),
    /// Answer: the log up to `index` is the leader's, and on disk here.
    AppendAck {
        /// The last entry that is matched and on disk.
        index: Index,
        /// The bytes of log that this member has room for (rule 18).
        room_bytes: u64,
    },
    /// Answer: there is no such entry as the append's `previous` here.
    Reject {
        /// The index of that `previous`.
        previous: Index,
        /// The last place at which this log may agree with the leader's.
        hint: Position,
    },
}

/// Entries for another replica's log, and how far is committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append {
    /// The place before the first entry.
    pub previous: Position,
    /// The entries, possibly none.
    pub entries: Vec<Entry>,
    /// The leader's commit index (rule 5).
    pub commit: Index,
}
