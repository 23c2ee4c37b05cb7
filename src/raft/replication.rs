//! One group's replica: its log, who leads, how far a quorum has it, how far it is committed (rules 5 and 11).
//!
//! The caller drives it: it proposes or hands in messages, then takes a [`Ready`], writes, sends and applies what that names,
//! and says when a write is on disk. There is no clock here, no disk and no chance.
//!
//! ```text
//!              freeze(t)            lead(t)
//!   following ----------> frozen ------------> leading
//!       ^                 ^    |                  |
//!       |                 |    | follow(t, m)     | freeze(t')
//!       +-----------------+----+                  |
//!                         +-----------------------+
//! ```

use std::collections::VecDeque;
use std::fmt;

use crate::base::{Entry, GroupId, Index, MemberId, Revision, Term};

use super::configuration::Configurations;
use super::{Configuration, Log, Message, Position, Progress, Span};

/// What a replica starts from.
pub struct Start {
    /// This member.
    pub me: MemberId,
    /// The group.
    pub group: GroupId,
    /// The term that the member is in, as its disk has it: the replica starts frozen in it.
    pub term: Term,
    /// The configuration in force at the log's start.
    pub configuration: Configuration,
    /// The log as it was read back.
    pub log: Log,
    /// Up to where the log is applied, as the last checkpoint has it.
    pub applied: Index,
    /// Reads the configuration out of a payload that carries one. Asked only of entries without a revision.
    pub configuration_of: fn(&[u8]) -> Option<Configuration>,
}

/// Checkpoint and log do not belong together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadStart {
    /// What is applied ends before what is compacted: entries between are nowhere.
    AppliedBelowStart {
        /// Up to where the checkpoint goes.
        applied: Index,
        /// Where the log starts.
        start: Index,
    },
    /// What is applied is not in the log.
    AppliedBeyondEnd {
        /// Up to where the checkpoint goes.
        applied: Index,
        /// Where the log ends.
        last: Index,
    },
}

impl fmt::Display for BadStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadStart::AppliedBelowStart { applied, start } => {
                write!(f, "the checkpoint ends at entry {applied}, but the log starts after entry {start}")
            }
            BadStart::AppliedBeyondEnd { applied, last } => {
                write!(f, "the checkpoint ends at entry {applied}, but the log ends at entry {last}")
            }
        }
    }
}

impl std::error::Error for BadStart {}

/// What is to be done now. The order in which it is done is free, but nothing is applied before it is on this disk, and that is
/// seen to here.
#[derive(PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Ready {
    /// To be written to the WAL.
    pub persist: Option<Persist>,
    /// Committed and on this disk: to be applied, with [`Replication::entries`].
    pub committed: Option<Span>,
    /// To be sent.
    pub messages: Vec<(MemberId, Message)>,
    /// Peers that need what is compacted here: to be sent a snapshot.
    pub snapshots: Vec<MemberId>,
}

/// One write: first the cut, then the entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Persist {
    /// To be handed to [`Replication::persisted`] when it is on disk. Ascending; a later one is on disk when an earlier one is
    /// not only if the disk broke its order.
    pub number: u64,
    /// Entries above here are gone from the log.
    pub cut_after: Option<Index>,
    /// Entries to be appended, with [`Replication::entries`].
    pub entries: Option<Span>,
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// It was taken.
    Taken,
    /// It is of a lower term, or not meant for what this replica is: dropped.
    Dropped,
    /// It is of a higher term: core 0 must hear of it before anything of that term is taken (rule 11).
    LaterTerm(Term),
}

/// A message that no correct peer sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadMessage {
    /// The entries are no log.
    Log(super::BadLog),
    /// The entries contradict what is committed here, at this index.
    AgainstCommitted(Index),
    /// An entry of a term above the message's.
    EntryOfLaterTerm(Index),
    /// An acknowledgement of what the leader does not have.
    AckBeyondEnd(Index),
    /// An append of this term from a member that does not lead it.
    NotTheLeader(MemberId),
}

impl fmt::Display for BadMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadMessage::Log(bad) => write!(f, "{bad}"),
            BadMessage::AgainstCommitted(index) => write!(f, "entry {index} contradicts what is committed"),
            BadMessage::EntryOfLaterTerm(index) => write!(f, "entry {index} is of a later term than its message"),
            BadMessage::AckBeyondEnd(index) => write!(f, "entry {index} is acknowledged but was never sent"),
            BadMessage::NotTheLeader(member) => write!(f, "member {member} appends but does not lead"),
        }
    }
}

impl std::error::Error for BadMessage {}

/// What a core reports of each of its groups when it has frozen and everything accepted is on disk (rule 6).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupReport {
    /// The group.
    pub group: GroupId,
    /// The last entry of its log.
    pub last: Position,
    /// The newest configuration in its log; version 0 when there is none yet.
    pub configuration: Configuration,
}

/// What the replica is in its term.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Accepts nothing and acknowledges nothing; what it accepted before goes to disk.
    Frozen,
    /// Appends to the others.
    Leading,
    /// Takes the appends of this leader.
    Following(MemberId),
}

/// Entries and a cut that are on their way to disk.
#[derive(Clone, Copy, Debug)]
struct Write {
    number: u64,
    /// The last index that the log has on disk once this is; lowered when the log is cut meanwhile.
    last: Index,
}

/// One group's replica.
pub struct Replication {
    pub(super) me: MemberId,
    pub(super) group: GroupId,
    pub(super) term: Term,
    pub(super) role: Role,
    pub(super) log: Log,
    pub(super) configurations: Configurations,
    pub(super) configuration_of: fn(&[u8]) -> Option<Configuration>,
    /// Leading: up to where a quorum has the log on disk, counted in this term. Kept when frozen, for rule 7.
    pub(super) quorum_index: Index,
    pub(super) commit: Index,
    /// Following: up to where the log is this term's leader's.
    pub(super) matched: Index,
    /// Committed entries up to here were given out to be applied.
    applying: Index,
    /// Entries up to here were given out to be written.
    writing: Index,
    /// The log was cut here since the last ready, below something that was given out to be written.
    cut_after: Option<Index>,
    writes: VecDeque<Write>,
    last_write: u64,
    /// Leading: a place for every other member, in the order of their ids.
    pub(super) peers: Vec<(MemberId, Progress)>,
    pub(super) messages: Vec<(MemberId, Message)>,
    pub(super) snapshots: Vec<MemberId>,
    pub(super) room_bytes: u64,
    /// Leading: the lowest entry above the quorum index that has a revision of its own, as far as was looked.
    pub(super) open_from: Index,
}

impl Replication {
    /// A replica that starts frozen, with what its disk has. An error names how checkpoint and log contradict each other.
    pub fn new(start: Start) -> Result<Replication, BadStart> {
        let Start { me, group, term, configuration, log, applied, configuration_of } = start;
        if applied < log.start().index {
            return Err(BadStart::AppliedBelowStart { applied, start: log.start().index });
        }
        if applied > log.last().index {
            return Err(BadStart::AppliedBeyondEnd { applied, last: log.last().index });
        }
        let persisted = log.persisted();
        let mut replication = Replication {
            me,
            group,
            term,
            role: Role::Frozen,
            configurations: Configurations::new(log.start().index, configuration),
            configuration_of,
            quorum_index: applied,
            commit: applied,
            matched: applied,
            applying: applied,
            writing: persisted,
            cut_after: None,
            writes: VecDeque::new(),
            last_write: 0,
            peers: Vec::new(),
            messages: Vec::new(),
            snapshots: Vec::new(),
            room_bytes: u64::MAX,
            open_from: Index::ZERO,
            log,
        };
        replication.note_configurations(Span::between(replication.log.released(), persisted));
        Ok(replication)
    }

    /// The group.
    pub const fn group(&self) -> GroupId {
        self.group
    }

    /// The term that the replica is in.
    pub const fn term(&self) -> Term {
        self.term
    }

    /// What it is in that term.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The log, for reading.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// The entries of a span that a [`Ready`] named.
    pub fn entries(&self, span: Span) -> impl DoubleEndedIterator<Item = &Entry> + ExactSizeIterator {
        self.log.entries(span)
    }

    /// Committed up to here (rule 5).
    pub const fn commit_index(&self) -> Index {
        self.commit
    }

    /// Up to where committed entries were given out to be applied.
    pub const fn applying(&self) -> Index {
        self.applying
    }

    /// The newest configuration in the log: quorums are counted by it (rule 15).
    pub fn configuration(&self) -> &Configuration {
        self.configurations.newest()
    }

    /// Whether the newest configuration in the log is committed, so that another change may begin here (rule 15).
    pub fn configuration_is_committed(&self) -> bool {
        self.configurations.newest_index() <= self.commit
    }

    /// The configuration in force at `index`, which lies at or above the log's start: what a state batch records.
    pub fn configuration_at(&self, index: Index) -> &Configuration {
        self.configurations.in_force_at(index)
    }

    /// What the first entry counts as that is matched with this term's leader and not given out to be applied (rule 12).
    pub fn next_matched(&self) -> Option<Revision> {
        let end = match self.role {
            Role::Following(_) => self.matched,
            Role::Leading => self.log.last().index,
            Role::Frozen => return None,
        };
        let next = self.applying.next();
        if next > end { None } else { self.log.entry(next).map(|entry| entry.mark.counts_as()) }
    }

    /// How much room for log this member has; told to the leader with every acknowledgement (rule 18).
    pub fn set_room(&mut self, bytes: u64) {
        self.room_bytes = bytes;
    }

    /// Moves to `term` (rule 6): from now on nothing of a lower term is accepted or acknowledged, and the quorum index stays
    /// what it is. What was accepted still goes to disk. Freezing again in the same term changes nothing.
    pub fn freeze(&mut self, term: Term) {
        assert!(term >= self.term, "term {term} is over, this is term {}", self.term);
        assert!(term > self.term || self.role == Role::Frozen, "term {term} has begun, and is not frozen again");
        if self.role != Role::Leading && self.role != Role::Frozen {
            self.quorum_index = self.commit;
        }
        self.term = term;
        self.role = Role::Frozen;
        self.peers.clear();
        self.messages.clear();
        self.snapshots.clear();
    }

    /// The report of a frozen replica, once everything accepted is on disk (rule 6).
    pub fn report(&self) -> Option<GroupReport> {
        assert_eq!(self.role, Role::Frozen, "only a frozen log stands still");
        let settled = self.log.persisted() == self.log.last().index && self.cut_after.is_none() && self.writes.is_empty();
        settled.then(|| GroupReport {
            group: self.group,
            last: self.log.last(),
            configuration: self.configurations.newest().clone(),
        })
    }

    /// Cuts a frozen log: the entries above `after` are gone (rule 9). They were never committed.
    pub fn cut(&mut self, after: Index) {
        assert_eq!(self.role, Role::Frozen, "a takeover cuts before it leads");
        assert!(after >= self.commit, "entry {} is committed and is to be cut", after.next());
        self.cut_log(after);
    }

    /// The write with this number, and with it every earlier one, is on disk.
    pub fn persisted(&mut self, number: u64) {
        assert!(number <= self.last_write, "write {number} was never given out");
        let mut last = None;
        while self.writes.front().is_some_and(|write| write.number <= number) {
            last = self.writes.pop_front().map(|write| write.last);
        }
        let Some(last) = last else { return };
        self.log.persisted_up_to(last);
        match self.role {
            Role::Leading => self.count_quorum(),
            Role::Following(leader) => self.acknowledge(leader),
            Role::Frozen => {}
        }
    }

    /// What is to be done now; asked once per wake-up, after everything that arrived was handed in.
    pub fn ready(&mut self) -> Ready {
        if self.role == Role::Leading && !self.peers.is_empty() {
            self.send_due();
        }
        Ready {
            persist: self.next_write(),
            committed: self.next_committed(),
            messages: std::mem::take(&mut self.messages),
            snapshots: std::mem::take(&mut self.snapshots),
        }
    }

    /// Whether there is nothing to be done.
    pub fn is_idle(&self) -> bool {
        self.cut_after.is_none()
            && self.writing == self.log.last().index
            && self.applying >= self.commit.min(self.log.persisted())
            && self.messages.is_empty()
            && self.snapshots.is_empty()
    }

    /// Drops entries up to `upto` from memory; they are applied here. Peers that need them later get them from a snapshot.
    pub fn release(&mut self, upto: Index) {
        assert!(upto <= self.applying, "entry {upto} is not applied");
        self.log.release(upto);
    }

    /// Forgets the log up to `upto`: a checkpoint on disk holds what it did (rule 5: only what is committed is compacted).
    pub fn compact(&mut self, upto: Index) {
        assert!(upto <= self.applying, "entry {upto} is not applied");
        self.log.compact(upto);
        self.configurations.compact(upto);
    }

    fn next_write(&mut self) -> Option<Persist> {
        let cut_after = self.cut_after.take();
        let entries = Span::between(self.writing, self.log.last().index);
        if cut_after.is_none() && entries.is_none() {
            return None;
        }
        self.writing = self.log.last().index;
        self.last_write += 1;
        self.writes.push_back(Write { number: self.last_write, last: self.writing });
        Some(Persist { number: self.last_write, cut_after, entries })
    }

    /// Committed entries that are on this disk too (rule 5) and were not given out yet.
    fn next_committed(&mut self) -> Option<Span> {
        let span = Span::between(self.applying, self.commit.min(self.log.persisted()))?;
        self.applying = span.last;
        Some(span)
    }

    pub(super) fn cut_log(&mut self, after: Index) {
        self.log.cut(after);
        self.configurations.cut(after);
        if after < self.writing {
            self.writing = after;
            self.cut_after = Some(self.cut_after.map_or(after, |earlier| earlier.min(after)));
        }
        for write in &mut self.writes {
            write.last = write.last.min(after);
        }
        self.open_from = Index::ZERO;
    }

    /// Puts configurations that entries of `span` carry into force.
    pub(super) fn note_configurations(&mut self, span: Option<Span>) {
        let Some(span) = span else { return };
        for entry in self.log.entries(span) {
            if entry.mark.revision().is_none()
                && let Some(configuration) = (self.configuration_of)(&entry.payload)
            {
                self.configurations.append(entry.index, configuration);
            }
        }
    }
}

#[cfg(test)]
#[path = "replication_test.rs"]
mod tests;
