//! What a front reads of the memory that cores share, and what it publishes there.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::{FrontId, GroupId, Index, Revision, Term};
use crate::proto::etcdserverpb::AlarmType;
use crate::reign::{Board, Reign, Seat};

/// The board, and the reign while this member leads.
pub struct Shared {
    board: Arc<Board>,
    reign: Option<Arc<Reign>>,
    seat: Seat,
    /// The highest revision shown: what is loaded never falls, whatever reign it comes from (rule 7).
    shown: Revision,
    /// The term of the newest reign heard of.
    term: Term,
    reads: BTreeMap<Revision, u32>,
    published: Option<Revision>,
}

impl Shared {
    /// Before any reign.
    pub fn new(board: Arc<Board>, front: FrontId) -> Shared {
        let shown = board.serving();
        let seat = Seat::Front(front);
        Shared { board, reign: None, seat, shown, term: Term(0), reads: BTreeMap::new(), published: None }
    }

    /// This member leads.
    pub fn lead(&mut self, reign: Arc<Reign>) {
        assert!(reign.term() > self.term, "terms rise");
        self.term = reign.term();
        self.reign = Some(reign);
    }

    /// The reign of `term` ended; false if it was not this one.
    pub fn end(&mut self, term: Term) -> bool {
        let ours = self.leading() == Some(term);
        if ours {
            self.reign = None;
        }
        ours
    }

    /// The term in which this member leads.
    pub fn leading(&self) -> Option<Term> {
        self.reign.as_ref().map(|r| r.term())
    }

    /// The newest term heard of.
    pub fn term(&self) -> Term {
        self.term
    }

    /// The revision that may be shown now, freshly loaded (rules 13 and 14).
    pub fn serving(&mut self) -> Revision {
        let loaded = match &self.reign {
            Some(reign) => reign.stable(),
            None => self.board.serving(),
        };
        self.shown = self.shown.max(loaded);
        self.shown
    }

    /// Before its thread parks: publishes what is waited for, and looks once more (rule 2). False: it is there already.
    pub fn may_park(&self, waiting_for: Option<Revision>) -> bool {
        match &self.reign {
            Some(reign) => self.board.park(self.seat, reign.term(), waiting_for, || reign.stable()),
            None => self.board.park(self.seat, self.term, waiting_for, || self.board.serving()),
        }
    }

    /// After a park: nobody need wake this front.
    pub fn unparked(&self) {
        self.board.unpark(self.seat);
    }

    /// Whether group 0's commit index has reached `index` in the reign under way, given that what it rests on is stable.
    pub fn meta_committed(&self, index: Index) -> bool {
        self.reign.as_ref().is_some_and(|r| r.quorum_index(GroupId::META) >= index)
    }

    /// The compact floor; 0: never compacted.
    pub fn floor(&self) -> Revision {
        self.board.compact_floor()
    }

    /// The last compaction's revision, if there was one.
    pub fn compacted(&self) -> Option<Revision> {
        self.board.compacted()
    }

    /// The same as etcd counts it: −1 when never compacted.
    pub fn compact_revision(&self) -> i64 {
        self.board.compact_revision()
    }

    /// Whether an alarm is raised on any member.
    pub fn alarm(&self, kind: AlarmType) -> bool {
        self.board.alarms() & alarm_bit(kind) != 0
    }

    /// Bytes in use in the page stores.
    pub fn used_bytes(&self) -> u64 {
        self.board.used_bytes()
    }

    /// The size of the page stores' files.
    pub fn file_bytes(&self) -> u64 {
        self.board.file_bytes()
    }

    /// The sum of the applied indexes of `groups`.
    pub fn applied(&self, groups: impl Iterator<Item = GroupId>) -> u64 {
        groups.map(|g| self.board.applied(g).0).sum()
    }

    /// The sum of the quorum indexes of `groups`, where this member leads; else what is applied.
    pub fn replicated(&self, groups: impl Iterator<Item = GroupId>) -> u64 {
        groups
            .map(|g| {
                let applied = self.board.applied(g).0;
                self.reign.as_ref().map_or(applied, |r| r.quorum_index(g).0.max(applied))
            })
            .sum()
    }

    /// Whether a watch that wants previous values came or went.
    pub fn previous_values_watch(&self, came: bool) {
        if came { self.board.add_previous_values_watch() } else { self.board.remove_previous_values_watch() }
    }

    /// Keeps what a read at `revision` needs from being removed, until it is given back. False: it is compacted (nothing is kept then).
    #[must_use]
    pub fn hold(&mut self, revision: Revision) -> bool {
        let lower = self.published.is_none_or(|p| revision < p);
        let floor = if lower {
            self.published = Some(revision);
            self.board.publish_read(self.seat, Some(revision))
        } else {
            self.board.compact_floor()
        };
        // What was published too low stays until the next flush: that only keeps more.
        if revision < floor {
            return false;
        }
        *self.reads.entry(revision).or_insert(0) += 1;
        true
    }

    /// The read at `revision` is over.
    pub fn give_back(&mut self, revision: Revision) {
        let reads = self.reads.get_mut(&revision).expect("a hold is given back once");
        *reads -= 1;
        if *reads == 0 {
            self.reads.remove(&revision);
        }
    }

    /// Publishes what the reads under way need, if that rose. Once per wake-up.
    pub fn flush(&mut self) {
        let lowest = self.reads.first_key_value().map(|(&r, _)| r);
        if lowest != self.published {
            self.board.publish_read(self.seat, lowest);
            self.published = lowest;
        }
    }
}

/// The board's bit for a kind of alarm.
pub const fn alarm_bit(kind: AlarmType) -> u64 {
    1 << kind as u32
}
