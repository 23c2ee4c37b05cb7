//! The ways in which rules 1 and 2 can be broken, for the loom tests that show that each is caught.
//!
//! Outside loom nothing can be mutated: [`Mutants::has`] is a constant `false` and every branch on it disappears.

/// One rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// Rule 1: the bound is stored after the `fetch_add`.
    BoundAfterTaking,
    /// Rule 2: W is computed from slots loaded before `next revision`.
    NextLoadedLast,
    /// Rule 2: W is computed from the groups' slots loaded before the coordinator's.
    CoordinatorLoadedLast,
    /// Rule 2: W is acted on but not published.
    StableNotPublished,
    /// Rule 2: no fence between raising a slot and computing W.
    RaisedWithoutFence,
    /// Rule 2: no fence between raising `stable` and looking at who waits.
    WokenWithoutFence,
    /// Rule 2: no fence between storing what is waited for and the last look.
    ParkedWithoutFence,
}

/// Which rule is left out, if any.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mutants {
    #[cfg(loom)]
    left_out: Option<Mutant>,
}

impl Mutants {
    /// This rule is left out.
    #[cfg(all(test, loom))]
    pub(super) const fn of(mutant: Option<Mutant>) -> Mutants {
        Mutants { left_out: mutant }
    }

    #[cfg(loom)]
    pub(super) fn has(self, mutant: Mutant) -> bool {
        self.left_out == Some(mutant)
    }

    #[cfg(not(loom))]
    #[inline(always)]
    pub(super) const fn has(self, _: Mutant) -> bool {
        false
    }
}
