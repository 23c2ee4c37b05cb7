//! The follower's half of a replica: matching its log with the leader's, acknowledging what is on disk (rule 11).

use crate::base::{Entry, Index, MemberId, Term};

use super::replication::{BadMessage, Heard, Role};
use super::{Append, BadLog, Body, Message, Position, Replication, Span};

impl Replication {
    /// Follows `leader` in `term`: this replica was frozen in it. How far its log is the leader's is not known yet.
    pub fn follow(&mut self, term: Term, leader: MemberId) {
        assert_eq!(self.role, Role::Frozen, "a replica follows after it froze");
        assert_eq!(self.term, term, "it froze in another term than it is to follow in");
        assert_ne!(leader, self.me, "nobody follows itself");
        self.role = Role::Following(leader);
        self.matched = self.commit;
    }

    /// Takes a message from another replica of the group. An error is a message that no correct peer sends.
    pub fn step(&mut self, from: MemberId, message: Message) -> Result<Heard, BadMessage> {
        if message.term > self.term {
            return Ok(Heard::LaterTerm(message.term));
        }
        if message.term < self.term {
            return Ok(Heard::Dropped);
        }
        match (self.role, message.body) {
            (Role::Following(leader), Body::Append(append)) => {
                if from != leader {
                    return Err(BadMessage::NotTheLeader(from));
                }
                self.take_append(leader, append)
            }
            (Role::Leading, Body::AppendAck { index, room_bytes }) => self.take_ack(from, index, room_bytes),
            (Role::Leading, Body::Reject { previous, hint }) => Ok(self.take_reject(from, previous, hint)),
            (Role::Leading, Body::Append(_)) => Err(BadMessage::NotTheLeader(from)),
            (Role::Frozen, _) | (Role::Following(_), _) => Ok(Heard::Dropped),
        }
    }

    /// Takes entries of a voter's log over into a frozen one, for a takeover (rule 8): they come after `previous`, and replace
    /// what differs. Whether this log has `previous`; if not, earlier ones must come first.
    pub fn take_over(&mut self, previous: Position, entries: Vec<Entry>) -> Result<bool, BadMessage> {
        assert_eq!(self.role, Role::Frozen, "a takeover merges before it leads");
        if self.log.term_at(previous.index) != Some(previous.term) && previous.index > self.commit {
            return Ok(false);
        }
        self.merge(previous.index, entries)?;
        Ok(true)
    }

    fn take_append(&mut self, leader: MemberId, append: Append) -> Result<Heard, BadMessage> {
        let Append { previous, entries, commit } = append;
        // What is committed here is in every later leader's log, so it need not be compared (it may be compacted here).
        if previous.index > self.commit && self.log.term_at(previous.index) != Some(previous.term) {
            let hint = self.log.last_at_or_below(previous.term, Index(previous.index.0 - 1));
            let body = Body::Reject { previous: previous.index, hint };
            self.messages.push((leader, Message { term: self.term, body }));
            return Ok(Heard::Taken);
        }
        let last = self.merge(previous.index, entries)?;
        self.matched = self.matched.max(last);
        self.commit = self.commit.max(commit.min(self.matched));
        // Otherwise the write that is due will acknowledge it.
        if self.matched <= self.log.persisted() {
            self.acknowledge(leader);
        }
        Ok(Heard::Taken)
    }

    /// Brings the log up to what `entries`, which come after `previous`, say. The last index that is now theirs.
    fn merge(&mut self, previous: Index, mut entries: Vec<Entry>) -> Result<Index, BadMessage> {
        if let Some(late) = entries.iter().find(|e| e.term > self.term) {
            return Err(BadMessage::EntryOfLaterTerm(late.index));
        }
        for (expected, entry) in (previous.0 + 1..).map(Index).zip(&entries) {
            if entry.index != expected {
                return Err(BadMessage::Log(BadLog::Gap { expected, found: entry.index }));
            }
        }
        let last = Index(previous.0 + entries.len() as u64);
        // Entries that are here already are skipped; the first that differs takes everything from there along.
        let known = entries.iter().take_while(|e| e.index <= self.commit || self.log.term_at(e.index) == Some(e.term)).count();
        let new = entries.split_off(known);
        let Some(first) = new.first() else { return Ok(last) };
        let before = Index(previous.0 + known as u64);
        if before < self.commit || before > self.log.last().index {
            return Err(BadMessage::AgainstCommitted(first.index));
        }
        self.log.check_after(before, &new).map_err(BadMessage::Log)?;
        if before < self.log.last().index {
            self.cut_log(before);
        }
        self.log.extend(new);
        self.note_configurations(Span::between(before, self.log.last().index));
        Ok(last)
    }

    /// Says how much of the leader's log is on disk here.
    pub(super) fn acknowledge(&mut self, leader: MemberId) {
        let index = self.matched.min(self.log.persisted());
        let body = Body::AppendAck { index, room_bytes: self.room_bytes };
        let ack = Message { term: self.term, body };
        // One acknowledgement per wake-up says it all.
        if let Some((_, queued)) = self.messages.iter_mut().find(|(_, m)| matches!(m.body, Body::AppendAck { .. })) {
            *queued = ack;
        } else {
            self.messages.push((leader, ack));
        }
    }
}
