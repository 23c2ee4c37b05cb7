//! Rules 1 and 2 under the C11 memory model, every interleaving within a bound on preemptions; and each of their traps, which
//! must be found.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test --release --lib reign::loom`, in a target directory of its own.

use std::sync::Arc;

use loom::model::Builder;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;

use super::board::{Board, BoardSizes, Seat};
use super::mutant::{Mutant, Mutants};
use super::reign::{Owner, Reign};
use crate::base::{CoreId, FrontId, GroupId, Revision, Term};

const G0: Owner = Owner::Group(GroupId(0));
const G1: Owner = Owner::Group(GroupId(1));
const TERM: Term = Term(1);
const START: Revision = Revision(1);
const FRONT: Seat = Seat::Front(FrontId(0));

/// What a caller can do wrong; the rest is a [`Mutant`] inside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    Right,
    /// Raises its slot before the entry is at a quorum.
    SlotRaisedEarly,
    /// Raises the coordinator's slot before the group has the revision in its own.
    HandedOverEarly,
    /// Parks without computing W once more.
    ParksUnsettled,
}

/// Checks a model with at most this many preemptions per execution.
fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// A reign, and which revisions are on disk at a quorum.
struct Cluster {
    reign: Reign,
    /// By revision. Relaxed, so that only what the reign itself orders is seen.
    at_quorum: [AtomicBool; 5],
    caller: Caller,
}

impl Cluster {
    fn new(mutant: Option<Mutant>, caller: Caller) -> Arc<Cluster> {
        let reign = Reign::with(TERM, 2, START, Mutants::of(mutant));
        Arc::new(Cluster { reign, at_quorum: std::array::from_fn(|_| AtomicBool::new(false)), caller })
    }

    /// The entry of `revision` reaches a quorum, then the owner raises its slot.
    fn reach(&self, owner: Owner, revision: Revision, lowest: Option<Revision>) -> Option<Revision> {
        if self.caller == Caller::SlotRaisedEarly {
            let raised = self.reign.raise(owner, lowest);
            self.at_quorum[revision.0 as usize].store(true, Ordering::Relaxed);
            return raised;
        }
        self.at_quorum[revision.0 as usize].store(true, Ordering::Relaxed);
        self.reign.raise(owner, lowest)
    }

    /// No revision that is taken and not at a quorum is at or below stable.
    fn check_stable(&self) {
        for revision in START.0 + 1..=self.reign.stable().0 {
            assert!(self.at_quorum[revision as usize].load(Ordering::Relaxed), "stable covers {revision}");
        }
    }
}

// 1. No revision that is taken and not yet at a quorum is ever at or below stable.

fn two_groups(mutant: Option<Mutant>, caller: Caller) {
    check(5, move || {
        let cluster = Cluster::new(mutant, caller);
        let threads = [G0, G1].map(|owner| {
            let cluster = cluster.clone();
            thread::spawn(move || {
                let revision = cluster.reign.take(owner);
                cluster.reach(owner, revision, None);
                cluster.check_stable();
            })
        });
        cluster.check_stable();
        for thread in threads {
            thread.join().expect("it checks what it sees");
        }
        assert_eq!(cluster.reign.settle(), None, "one of the two saw both");
        assert_eq!(cluster.reign.stable(), Revision(3), "everything is at a quorum");
    });
}

#[test]
fn stable_covers_only_what_is_at_a_quorum() {
    two_groups(None, Caller::Right);
}

#[test]
#[should_panic(expected = "stable covers")]
fn a_bound_stored_after_taking_is_found() {
    two_groups(Some(Mutant::BoundAfterTaking), Caller::Right);
}

#[test]
#[should_panic(expected = "stable covers")]
fn next_loaded_after_the_slots_is_found() {
    two_groups(Some(Mutant::NextLoadedLast), Caller::Right);
}

#[test]
#[should_panic(expected = "stable covers")]
fn a_slot_raised_early_is_found() {
    two_groups(None, Caller::SlotRaisedEarly);
}

#[test]
#[should_panic(expected = "one of the two saw both")]
fn raising_without_a_fence_is_found() {
    two_groups(Some(Mutant::RaisedWithoutFence), Caller::Right);
}

/// A group that has several on their way, and takes again after its slot was at MAX.
#[test]
fn a_slot_stays_at_the_lowest_on_its_way() {
    check(4, || {
        let cluster = Cluster::new(None, Caller::Right);
        let several = {
            let cluster = cluster.clone();
            thread::spawn(move || {
                let (first, second) = (cluster.reign.take(G0), cluster.reign.take(G0));
                cluster.reach(G0, first, Some(second));
                cluster.check_stable();
                cluster.reach(G0, second, None);
            })
        };
        let revision = cluster.reign.take(G1);
        cluster.reach(G1, revision, None);
        cluster.check_stable();
        several.join().expect("it checks what it sees");
        assert_eq!(cluster.reign.stable(), Revision(4));
    });
}

/// The coordinator takes a revision and hands it over to group 1 while group 0 goes on. That coordinator and group 1 are on one
/// thread here orders them just as the queue between them does.
fn handover(mutant: Option<Mutant>, caller: Caller) {
    check(5, move || {
        let cluster = Cluster::new(mutant, caller);
        let coordinator = {
            let cluster = cluster.clone();
            thread::spawn(move || {
                let revision = cluster.reign.take(Owner::Coordinator);
                if cluster.caller == Caller::HandedOverEarly {
                    cluster.reign.raise(Owner::Coordinator, None);
                }
                cluster.reign.adopt(G1, revision);
                cluster.reign.raise(Owner::Coordinator, None);
                cluster.check_stable();
                cluster.reach(G1, revision, None);
            })
        };
        let revision = cluster.reign.take(G0);
        cluster.reach(G0, revision, None);
        cluster.check_stable();
        coordinator.join().expect("it checks what it sees");
        assert_eq!(cluster.reign.stable(), Revision(3), "everything is at a quorum");
    });
}

#[test]
fn a_revision_handed_over_is_never_uncovered() {
    handover(None, Caller::Right);
}

#[test]
#[should_panic(expected = "stable covers")]
fn the_coordinator_loaded_after_the_groups_is_found() {
    handover(Some(Mutant::CoordinatorLoadedLast), Caller::Right);
}

#[test]
#[should_panic(expected = "stable covers")]
fn handing_over_early_is_found() {
    handover(None, Caller::HandedOverEarly);
}

// 2. What was acted on is published; and who parks does not miss its wake.

/// Someone acts on what it was told is stable, and lets another know; that one's read, started later, is not at an older one.
fn acted_on(mutant: Option<Mutant>) {
    check(5, move || {
        let cluster = Cluster::new(mutant, Caller::Right);
        let acted = Arc::new(AtomicU64::new(START.0));
        let raiser = {
            let (cluster, acted) = (cluster.clone(), acted.clone());
            thread::spawn(move || {
                let revision = cluster.reign.take(G0);
                if let Some(stable) = cluster.reach(G0, revision, None) {
                    acted.store(stable.0, Ordering::Release);
                }
            })
        };
        let seen = acted.load(Ordering::Acquire);
        assert!(cluster.reign.stable().0 >= seen, "a later read is older");
        raiser.join().expect("it asserts nothing");
    });
}

#[test]
fn what_is_acted_on_is_published() {
    acted_on(None);
}

#[test]
#[should_panic(expected = "a later read is older")]
fn acting_on_what_is_not_published_is_found() {
    acted_on(Some(Mutant::StableNotPublished));
}

/// A front waits for the revision that a core makes stable.
fn front_waits(mutant: Option<Mutant>) {
    check(5, move || {
        let cluster = Cluster::new(None, Caller::Right);
        let sizes = BoardSizes { groups: 2, cores: 1, fronts: 1 };
        let board = Arc::new(Board::with(sizes, Mutants::of(mutant)));
        let core = {
            let (cluster, board) = (cluster.clone(), board.clone());
            thread::spawn(move || {
                let mut woken = false;
                let revision = cluster.reign.take(G0);
                if let Some(stable) = cluster.reach(G0, revision, None) {
                    board.wake(TERM, stable, |seat| woken |= seat == FRONT);
                }
                woken
            })
        };
        let parked = board.park(FRONT, TERM, Some(Revision(2)), || cluster.reign.stable());
        let woken = core.join().expect("it asserts nothing");
        assert!(!parked || woken, "a wake was missed");
    });
}

#[test]
fn a_front_that_parks_is_woken() {
    front_waits(None);
}

#[test]
#[should_panic(expected = "a wake was missed")]
fn waking_without_a_fence_is_found() {
    front_waits(Some(Mutant::WokenWithoutFence));
}

#[test]
#[should_panic(expected = "a wake was missed")]
fn parking_without_a_fence_is_found() {
    front_waits(Some(Mutant::ParkedWithoutFence));
}

/// Group 1's revision is at a quorum, group 0's is not; between taking and parking, group 0's slot has gone from a bound to the
/// revision taken, and it is group 0's core that must see what that let through. A front waits for revision 2.
fn bound_held_back(mutant: Option<Mutant>, caller: Caller) {
    check(4, move || {
        let cluster = Cluster::new(mutant, caller);
        let sizes = BoardSizes { groups: 2, cores: 2, fronts: 1 };
        let board = Arc::new(Board::with(sizes, Mutants::of(mutant)));
        let taker = {
            let (cluster, board) = (cluster.clone(), board.clone());
            thread::spawn(move || {
                let mut woken = false;
                cluster.reign.take(G0);
                if cluster.caller != Caller::ParksUnsettled {
                    let parked = board.park_core(CoreId(0), &cluster.reign, None);
                    assert!(parked.may_park, "it waits for nothing");
                    if let Some(stable) = parked.raised {
                        board.wake(TERM, stable, |seat| woken |= seat == FRONT);
                    }
                }
                woken
            })
        };
        let raiser = {
            let (cluster, board) = (cluster.clone(), board.clone());
            thread::spawn(move || {
                let mut woken = false;
                let revision = cluster.reign.take(G1);
                if let Some(stable) = cluster.reach(G1, revision, None) {
                    board.wake(TERM, stable, |seat| woken |= seat == FRONT);
                }
                (revision, woken)
            })
        };
        let parked = board.park(FRONT, TERM, Some(Revision(2)), || cluster.reign.stable());
        let by_taker = taker.join().expect("it waits for nothing");
        let (revision, by_raiser) = raiser.join().expect("it asserts nothing");
        if revision == Revision(2) {
            assert_eq!(cluster.reign.stable(), Revision(2), "a bound holds back what is at a quorum");
            assert!(!parked || by_taker || by_raiser, "a wake was missed");
        }
        cluster.check_stable();
    });
}

#[test]
fn what_a_bound_held_back_is_settled_before_parking() {
    bound_held_back(None, Caller::Right);
}

#[test]
#[should_panic(expected = "a bound holds back")]
fn parking_unsettled_is_found() {
    bound_held_back(None, Caller::ParksUnsettled);
}
