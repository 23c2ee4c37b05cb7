//! The leader's half of a replica: proposing, sending, counting quorums, committing.

use bytes::Bytes;

use crate::base::limits::{APPEND_BYTES_MAX, APPEND_ENTRIES_MAX};
use crate::base::{Index, Mark, MemberId, Revision, Term};

use super::replication::{BadMessage, Heard, Role};
use super::{Append, Body, Configuration, Message, Position, Progress, Replication, Sending, Span};

impl Replication {
    /// Leads `term`: this replica was frozen in it, and its log is merged and cut (rules 8 and 9). The next proposal is the
    /// barrier.
    pub fn lead(&mut self, term: Term) {
        assert_eq!(self.role, Role::Frozen, "a replica leads after it froze");
        assert_eq!(self.term, term, "it froze in another term than it is to lead");
        assert!(self.log.last().term < term, "the log has entries of term {term}, and its leader never resumes it");
        self.role = Role::Leading;
        self.quorum_index = self.commit;
        self.open_from = Index::ZERO;
        self.peers.clear();
        self.update_peers();
    }

    /// Appends an entry. What it counts as never falls along the log, and a revision is above all before it (rules 1 and 3).
    #[inline]
    pub fn propose(&mut self, mark: Mark, payload: Bytes) -> Index {
        assert_eq!(self.role, Role::Leading, "only the leader proposes");
        self.log.append(self.term, mark, payload)
    }

    /// Appends an entry that carries `configuration`, which is in force from now on (rule 15).
    pub fn propose_configuration(&mut self, mark: Mark, payload: Bytes, configuration: Configuration) -> Index {
        assert!(mark.revision().is_none(), "a configuration has no revision");
        let index = self.propose(mark, payload);
        self.configurations.append(index, configuration);
        self.update_peers();
        index
    }

    /// The highest index that a quorum of voters has on disk, counted in the leader's own term (rule 5); the commit index
    /// until there is one.
    #[inline]
    pub const fn quorum_index(&self) -> Index {
        self.quorum_index
    }

    /// The lowest revision of this log that is not at a quorum: what the group's slot is raised to (rule 2). Asked from
    /// the reign's opening on, when everything up to the barrier is at a quorum.
    pub fn lowest_without_quorum(&mut self) -> Option<Revision> {
        let mut index = self.open_from.max(self.quorum_index.next());
        let end = self.log.last().index;
        while index <= end {
            let entry = self.log.entry(index).expect("what no quorum has is in memory");
            if let Some(revision) = entry.mark.revision() {
                self.open_from = index;
                return Some(revision);
            }
            index = index.next();
        }
        self.open_from = index;
        None
    }

    /// Commits as far as `stable` allows: up to the highest entry that a quorum has, with none up to it that counts as more
    /// (rule 5). The commit index. A frozen replica that led commits what its reign's last stable revision covers (rule 7).
    pub fn commit(&mut self, stable: Revision) -> Index {
        assert!(!matches!(self.role, Role::Following(_)), "a follower commits what its leader tells it");
        // What entries count as never falls along the log, so the first that is above ends the search.
        let (mut low, mut high) = (self.commit.0, self.quorum_index.0);
        while low < high {
            let middle = Index(low + (high - low).div_ceil(2));
            let entry = self.log.entry(middle).expect("what is not committed is in memory");
            if entry.mark.counts_as() <= stable {
                low = middle.0;
            } else {
                high = middle.0 - 1;
            }
        }
        self.commit = Index(low);
        self.commit
    }

    /// The bytes of log that a quorum of voters has room for (rule 18).
    pub fn room_at_quorum(&self) -> u64 {
        self.configuration().reached_by_quorum(|member| {
            if member == self.me { self.room_bytes } else { self.progress(member).map_or(0, Progress::room_bytes) }
        })
    }

    /// What is known of a peer's log; `None` when this replica does not lead or has no such peer.
    pub fn progress(&self, peer: MemberId) -> Option<&Progress> {
        let place = self.peers.binary_search_by_key(&peer, |(id, _)| *id).ok()?;
        Some(&self.peers[place].1)
    }

    /// Up to where entries may be dropped from memory without any peer that keeps up needing them.
    pub fn matched_by_all(&self) -> Index {
        let replicating = self.peers.iter().filter(|(_, p)| p.sending() == Sending::Replicate);
        replicating.map(|(_, p)| p.matched()).min().unwrap_or(self.log.last().index)
    }

    /// `peer` answered a heartbeat: what got lost on the way to it is found out.
    pub fn heard_from(&mut self, peer: MemberId) {
        let (last, commit) = (self.log.last().index, self.commit);
        let Some(progress) = self.progress_mut(peer) else { return };
        progress.heard();
        if progress.sending() == Sending::Replicate && progress.matched() < last {
            // Refused if the entry before it got lost, and then probed.
            let previous = Index(progress.next().0 - 1);
            if let Some(term) = self.log.term_at(previous) {
                self.send(peer, Append { previous: Position { term, index: previous }, entries: Vec::new(), commit });
            }
        }
    }

    /// The link to `peer` was lost: what was under way may not have arrived.
    pub fn link_lost(&mut self, peer: MemberId) {
        if let Some(progress) = self.progress_mut(peer)
            && progress.sending() == Sending::Replicate
        {
            progress.probe();
        }
    }

    /// The snapshot for `peer` is installed there, up to `upto`; `None`: it did not get there.
    pub fn snapshot_ended(&mut self, peer: MemberId, upto: Option<Index>) {
        if let Some(progress) = self.progress_mut(peer) {
            progress.snapshot_ended(upto);
        }
    }

    pub(super) fn take_ack(&mut self, from: MemberId, index: Index, room_bytes: u64) -> Result<Heard, BadMessage> {
        if index > self.log.last().index {
            return Err(BadMessage::AckBeyondEnd(index));
        }
        let Some(progress) = self.progress_mut(from) else { return Ok(Heard::Dropped) };
        if progress.acknowledged(index, room_bytes) {
            self.count_quorum();
        }
        Ok(Heard::Taken)
    }

    pub(super) fn take_reject(&mut self, from: MemberId, previous: Index, hint: Position) -> Heard {
        // Everything of the other log above this place is of a term that this log does not have there.
        let agrees_at_most = self.log.last_at_or_below(hint.term, hint.index);
        let Some(progress) = self.progress_mut(from) else { return Heard::Dropped };
        progress.rejected(previous, agrees_at_most);
        Heard::Taken
    }

    /// Counts the quorum index anew. An entry of an earlier term counts only with one of this term above it (thesis 3.6.2).
    pub(super) fn count_quorum(&mut self) {
        let reached = self.configuration().reached_by_quorum(|member| {
            if member == self.me { self.log.persisted() } else { self.progress(member).map_or(Index::ZERO, Progress::matched) }
        });
        if reached > self.quorum_index && self.log.term_at(reached) == Some(self.term) {
            self.quorum_index = reached;
        }
    }

    /// Sends every peer what is due to it.
    pub(super) fn send_due(&mut self) {
        let mut peers = std::mem::take(&mut self.peers);
        for (peer, progress) in &mut peers {
            while let Some(append) = self.next_append(progress) {
                let bytes = append.entries.iter().map(|e| e.payload.len()).sum();
                let last = append.entries.last().map_or(append.previous.index, |e| e.index);
                progress.sent(last, bytes, append.commit);
                self.send(*peer, append);
            }
            if progress.sending() != Sending::Snapshot && self.needs_snapshot(progress) {
                progress.wants_snapshot();
                self.snapshots.push(*peer);
            }
        }
        self.peers = peers;
    }

    fn needs_snapshot(&self, progress: &Progress) -> bool {
        progress.next() <= self.log.released()
    }

    fn next_append(&self, progress: &Progress) -> Option<Append> {
        if !progress.may_send() || self.needs_snapshot(progress) {
            return None;
        }
        let previous = Index(progress.next().0 - 1);
        let due = Span::between(previous, self.log.last().index);
        let tells = self.commit.min(progress.matched()) > progress.commit_sent();
        if due.is_none() && !tells && progress.sending() == Sending::Replicate {
            return None;
        }
        let mut entries = Vec::new();
        let mut bytes = 0;
        for entry in due.into_iter().flat_map(|span| self.log.entries(span)) {
            bytes += entry.payload.len();
            if entries.len() == APPEND_ENTRIES_MAX || (bytes > APPEND_BYTES_MAX && !entries.is_empty()) {
                break;
            }
            entries.push(entry.clone());
        }
        let term = self.log.term_at(previous).expect("what is not compacted has a known term");
        Some(Append { previous: Position { term, index: previous }, entries, commit: self.commit })
    }

    fn send(&mut self, to: MemberId, append: Append) {
        self.messages.push((to, Message { term: self.term, body: Body::Append(append) }));
    }

    fn progress_mut(&mut self, peer: MemberId) -> Option<&mut Progress> {
        let place = self.peers.binary_search_by_key(&peer, |(id, _)| *id).ok()?;
        Some(&mut self.peers[place].1)
    }

    /// Gives every other member of the newest configuration a place, and takes it from those no longer in it.
    fn update_peers(&mut self) {
        let last = self.log.last().index;
        let mut members: Vec<MemberId> = self.configuration().members().filter(|&m| m != self.me).collect();
        members.sort_unstable();
        let mut before = std::mem::take(&mut self.peers);
        for member in members {
            let known = before.iter().position(|(id, _)| *id == member);
            let progress = known.map_or_else(|| Progress::new(last), |place| before.swap_remove(place).1);
            self.peers.push((member, progress));
        }
    }
}
