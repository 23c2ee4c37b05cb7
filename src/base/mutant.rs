//! The ways in which the simulation breaks the member, to show that its checkers see it.
//!
//! Outside the tests nothing can be broken: [`on`] is a constant `false`, and every branch on it disappears.

/// One rule left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// Rule 1: a slot is raised though what it covers is still on its way to the disk.
    SlotRaisedEarly,
    /// Rule 9: a takeover does not cut what lies above W_final.
    CutSkipped,
    /// Rule 13: a slot is raised before the events have left for the hubs.
    HubToldAfterSlot,
    /// A torn last batch counts as written.
    TornTailAccepted,
    /// A page that the durable checkpoint reaches is given out again.
    PinnedPageReused,
    /// Rule 6: what the disk knows to be stable is forgotten at a start.
    KnownStableDropped,
    /// Rule 18: room for a write is looked for and not kept until it is in the log.
    RoomNotPromised,
    /// An answer leaves before its revision is stable.
    AnsweredBeforeStable,
    /// Rule 3: an answer that rests on group 0's entries leaves before they are on disk.
    MetaNotAwaited,
    /// A core that does not know a lease refuses it without asking core 0.
    LeaseNotAsked,
    /// Rule 13: a hub takes what was there before the reign for something that is still to come.
    HubNotBegun,
    /// Rule 9: the reign is made when all groups but one have their barrier, and the core of that one serves without it. (Alone, the
    /// first half breaks nothing in a cluster of one: no core serves before it has applied its barriers, which are then on its disk.)
    OneBarrierMissing,
}

#[cfg(test)]
thread_local! {
    static CHOSEN: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Leaves this rule out, on this thread, until it is told otherwise.
#[cfg(test)]
pub fn choose(mutant: Option<Mutant>) {
    CHOSEN.set(mutant);
}

/// Whether this rule is left out.
#[cfg(test)]
pub fn on(mutant: Mutant) -> bool {
    CHOSEN.get() == Some(mutant)
}

/// Whether this rule is left out: never.
#[cfg(not(test))]
#[inline(always)]
pub const fn on(_: Mutant) -> bool {
    false
}
