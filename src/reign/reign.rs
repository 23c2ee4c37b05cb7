//! The reign: one order of revisions for all groups of a leader, and one point up to which all is stable.

use crate::base::{GroupId, Index, Revision, Term};

use super::mutant::{Mutant, Mutants};
use super::sync::{AtomicBool, AtomicU64, Ordering, Padded, fence};

/// Who takes revisions. Each owner lives on one thread, and only that thread calls with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Owner {
    /// Takes the revisions of requests that touch several groups.
    Coordinator,
    /// Takes the revisions of its own requests; group 0 among them.
    Group(GroupId),
}

/// What a group publishes, on one pair of cache lines: both are written by its thread alone.
#[derive(Debug)]
struct Stripe {
    slot: AtomicU64,
    quorum_index: AtomicU64,
}

/// The shared state of one opened term on its leader. It is made when the barriers of all groups are at a quorum (rule 9),
/// shared by `Arc`, and never used again after its term.
#[derive(Debug)]
pub struct Reign {
    term: Term,
    opened_at: Revision,
    mutants: Mutants,
    next: Padded<AtomicU64>,
    stable: Padded<AtomicU64>,
    coordinator: Padded<AtomicU64>,
    stripes: Box<[Padded<Stripe>]>,
    closed: Padded<AtomicBool>,
}

impl Reign {
    /// The reign of `term` over `groups` groups (group 0 included), opened at `stable` (W_final of rule 9): the next revision
    /// is the one after it.
    pub fn new(term: Term, groups: usize, stable: Revision) -> Reign {
        Reign::with(term, groups, stable, Mutants::default())
    }

    pub(super) fn with(term: Term, groups: usize, stable: Revision, mutants: Mutants) -> Reign {
        assert!(groups > 0, "a cluster has group 0 at least");
        assert!(stable < Revision::MAX, "no store is at the highest revision");
        let stripe = || Padded(Stripe { slot: AtomicU64::new(Revision::MAX.0), quorum_index: AtomicU64::new(Index::ZERO.0) });
        Reign {
            term,
            opened_at: stable,
            mutants,
            next: Padded(AtomicU64::new(stable.next().0)),
            stable: Padded(AtomicU64::new(stable.0)),
            coordinator: Padded(AtomicU64::new(Revision::MAX.0)),
            stripes: (0..groups).map(|_| stripe()).collect(),
            closed: Padded(AtomicBool::new(false)),
        }
    }

    /// The term that it reigns in. Everything waiting on this reign compares (term, revision).
    pub const fn term(&self) -> Term {
        self.term
    }

    /// What was stable when it opened (W_final of rule 9): what it makes itself comes after.
    pub const fn opened_at(&self) -> Revision {
        self.opened_at
    }

    /// How many groups it reigns over, group 0 included.
    pub const fn groups(&self) -> usize {
        self.stripes.len()
    }

    /// Takes the next revision for `owner` (rule 1). Called by the owner's thread, after everything that can be refused was:
    /// from here on nothing may fail but the member.
    #[inline]
    pub fn take(&self, owner: Owner) -> Revision {
        let slot = self.slot(owner);
        if slot.load(Ordering::Relaxed) != Revision::MAX.0 {
            // An earlier revision of this owner is still on its way, and its slot covers this one too.
            return Revision(self.next.fetch_add(1, Ordering::AcqRel));
        }
        if self.mutants.has(Mutant::BoundAfterTaking) {
            let taken = self.next.fetch_add(1, Ordering::AcqRel);
            slot.store(taken, Ordering::Release);
            return Revision(taken);
        }
        // The bound stands before the revision is taken: whoever loads a `next` above the revision also sees the bound.
        slot.store(self.next.load(Ordering::Acquire), Ordering::Release);
        let taken = self.next.fetch_add(1, Ordering::AcqRel);
        slot.store(taken, Ordering::Release);
        Revision(taken)
    }

    /// The last revision taken by anyone: what an entry or an answer without a revision comes after (E of rule 3).
    #[inline]
    pub fn after(&self) -> Revision {
        Revision(self.next.load(Ordering::Acquire) - 1)
    }

    /// Covers `revision`, which the coordinator took, for `owner`, which has just put its part into its log (rule 4). Called by
    /// the owner's thread before it answers the coordinator, which raises its own slot only then.
    #[inline]
    pub fn adopt(&self, owner: Owner, revision: Revision) {
        debug_assert!(owner != Owner::Coordinator, "the coordinator hands over, it does not adopt");
        debug_assert!(revision <= self.after(), "a revision is adopted after it was taken");
        let slot = self.slot(owner);
        if slot.load(Ordering::Relaxed) > revision.0 {
            slot.store(revision.0, Ordering::Release);
        }
    }

    /// Raises `owner`'s slot to `lowest`, the lowest revision that it has taken or adopted and that is not yet on disk at a
    /// quorum (`None`: there is no such), and computes W (rule 2). The new stable revision, if this call raised it: then the
    /// caller wakes who waits for it ([`Board::wake`](super::Board::wake)).
    ///
    /// Called by the owner's thread, which has published its quorum index and queued the events before (rules 5 and 13), and
    /// never after it froze (rule 6).
    pub fn raise(&self, owner: Owner, lowest: Option<Revision>) -> Option<Revision> {
        let slot = self.slot(owner);
        let lowest = lowest.unwrap_or(Revision::MAX).0;
        let before = slot.load(Ordering::Relaxed);
        assert!(before <= lowest, "a slot falls only by taking and adopting, not from {before} to {lowest} by raising");
        if before == lowest {
            return None;
        }
        slot.store(lowest, Ordering::Release);
        if !self.mutants.has(Mutant::RaisedWithoutFence) {
            fence(Ordering::SeqCst);
        }
        self.publish()
    }

    /// Computes W once more, for a core that is about to park (rule 2): another owner's slot may have gone from a bound to the
    /// revision that it took. The new stable revision, if this call raised it: then the caller wakes who waits for it.
    pub fn settle(&self) -> Option<Revision> {
        fence(Ordering::SeqCst);
        self.publish()
    }

    /// The stable revision W: every revision up to it is on disk at a quorum in all its groups.
    #[inline]
    pub fn stable(&self) -> Revision {
        Revision(self.stable.load(Ordering::Acquire))
    }

    /// Publishes up to where a quorum has `group`'s log on disk, before the group raises its slot (rule 5).
    #[inline]
    pub fn publish_quorum_index(&self, group: GroupId, index: Index) {
        debug_assert!(index >= self.quorum_index(group), "a quorum index never falls within a term");
        self.stripes[group.slot()].quorum_index.store(index.0, Ordering::Release);
    }

    /// Up to where a quorum has `group`'s log on disk.
    #[inline]
    pub fn quorum_index(&self, group: GroupId) -> Index {
        Index(self.stripes[group.slot()].quorum_index.load(Ordering::Acquire))
    }

    /// Ends the reign (rule 10): nobody takes a revision once it has seen this.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether the reign has ended; the first of what can refuse a request (rule 1).
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    #[inline]
    fn slot(&self, owner: Owner) -> &AtomicU64 {
        match owner {
            Owner::Coordinator => &self.coordinator,
            Owner::Group(group) => &self.stripes[group.slot()].slot,
        }
    }

    /// Computes W and publishes it before anyone acts on it.
    fn publish(&self) -> Option<Revision> {
        let w = self.compute();
        if self.mutants.has(Mutant::StableNotPublished) {
            return Some(w);
        }
        if w.0 <= self.stable.load(Ordering::Acquire) {
            return None;
        }
        let before = self.stable.fetch_max(w.0, Ordering::AcqRel);
        (before < w.0).then_some(w)
    }

    /// W: `next` is loaded first, then the coordinator's slot, then the groups' (rule 2). A revision taken after the first
    /// load is above W; one taken before it is seen in a slot; one handed over is seen in one slot or in the other.
    fn compute(&self) -> Revision {
        if self.mutants.has(Mutant::NextLoadedLast) {
            let slots = self.coordinator.load(Ordering::Acquire).min(self.lowest_of_groups());
            return Revision(slots.min(self.next.load(Ordering::Acquire)) - 1);
        }
        let next = self.next.load(Ordering::Acquire);
        if self.mutants.has(Mutant::CoordinatorLoadedLast) {
            let groups = self.lowest_of_groups();
            return Revision(next.min(groups).min(self.coordinator.load(Ordering::Acquire)) - 1);
        }
        let coordinator = self.coordinator.load(Ordering::Acquire);
        Revision(next.min(coordinator).min(self.lowest_of_groups()) - 1)
    }

    fn lowest_of_groups(&self) -> u64 {
        self.stripes.iter().map(|s| s.slot.load(Ordering::Acquire)).min().expect("there is group 0 at least")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const G0: Owner = Owner::Group(GroupId(0));
    const G1: Owner = Owner::Group(GroupId(1));

    #[test]
    fn revisions_are_gapless_over_all_owners() {
        let reign = Reign::new(Term(1), 2, Revision::FIRST);
        let taken: Vec<u64> = [G0, G1, Owner::Coordinator, G1].map(|o| reign.take(o).0).to_vec();
        assert_eq!(taken, [2, 3, 4, 5]);
        assert_eq!(reign.after(), Revision(5));
        assert_eq!(reign.stable(), Revision(1));
    }

    #[test]
    fn stable_is_below_the_lowest_slot() {
        let reign = Reign::new(Term(1), 2, Revision::FIRST);
        let (a, b, c) = (reign.take(G0), reign.take(G1), reign.take(G1));
        assert_eq!(reign.raise(G1, Some(c)), None, "{a} is not at a quorum");
        assert_eq!(reign.raise(G0, None), Some(b));
        assert_eq!(reign.raise(G1, None), Some(c));
        assert_eq!(reign.raise(G1, None), None, "nothing changed");
        assert_eq!(reign.settle(), None);
        assert_eq!(reign.stable(), c);
    }

    #[test]
    fn a_revision_handed_over_stays_covered() {
        let reign = Reign::new(Term(1), 3, Revision::FIRST);
        let r = reign.take(Owner::Coordinator);
        reign.adopt(G0, r);
        reign.adopt(G1, r);
        assert_eq!(reign.raise(Owner::Coordinator, None), None);
        assert_eq!(reign.raise(G0, None), None);
        assert_eq!(reign.raise(G1, None), Some(r));
    }

    #[test]
    fn adopting_never_raises_a_slot() {
        let reign = Reign::new(Term(1), 2, Revision::FIRST);
        let own = reign.take(G0);
        let r = reign.take(Owner::Coordinator);
        reign.adopt(G0, r);
        reign.raise(Owner::Coordinator, None);
        assert_eq!(reign.stable(), Revision(own.0 - 1));
        assert_eq!(reign.raise(G0, Some(r)), Some(own));
    }

    #[test]
    fn closing_is_seen() {
        let reign = Reign::new(Term(1), 1, Revision::FIRST);
        assert!(!reign.is_closed());
        reign.close();
        assert!(reign.is_closed());
    }

    #[test]
    #[should_panic(expected = "a slot falls only by taking")]
    fn a_slot_does_not_fall_by_raising() {
        let reign = Reign::new(Term(1), 1, Revision::FIRST);
        let (first, second) = (reign.take(G0), reign.take(G0));
        reign.raise(G0, Some(second));
        reign.raise(G0, Some(first));
    }
}
