//! For how long a leader waits for what makes no progress (rule 10).

use std::time::Duration;

use crate::base::{CoreId, GroupId, Instant};

/// What a leader can wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum What {
    /// A group's log is being pulled; progress: bytes pulled, snapshot chunks included.
    Pull(GroupId),
    /// A group's barrier; progress: its quorum index, bytes acknowledged.
    Barrier(GroupId),
    /// The reign's publication; progress: what the cores have applied.
    Publication,
    /// A hold; progress: that of the group that it waits for.
    Hold(GroupId),
    /// Stable is below the last revision taken; progress: stable.
    Stable,
    /// An entry of group 0; progress: its commit index.
    MetaEntry,
    /// A core goes round its loop; always waited for, progress: its loop counter on the board.
    Loop(CoreId),
}

/// Something waited for, and how far it has come: any change counts as progress.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Awaited {
    /// What is waited for.
    pub what: What,
    /// How far it has come.
    pub progress: u64,
}

/// Since when each thing has stood still.
#[derive(Clone, Debug, Default)]
pub(super) struct Patience {
    waiting: Vec<(Awaited, Instant)>,
}

impl Patience {
    /// Takes note of all that is waited for now. Something that has stood still for `limit`, if there is such.
    pub(super) fn stands_still(&mut self, now: Instant, limit: Duration, awaited: &[Awaited]) -> Option<What> {
        let before = std::mem::take(&mut self.waiting);
        let since = |a: &Awaited| before.iter().find(|(b, _)| a == b).map_or(now, |(_, since)| *since);
        self.waiting = awaited.iter().map(|a| (*a, since(a))).collect();
        self.waiting.iter().find(|(_, since)| now.since(*since) >= limit).map(|(a, _)| a.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn only_what_stands_still_for_the_limit_counts() {
        let mut patience = Patience::default();
        let stable = |progress| Awaited { what: What::Stable, progress };
        let pull = |progress| Awaited { what: What::Pull(GroupId(3)), progress };
        assert_eq!(patience.stands_still(at(0), LIMIT, &[stable(5), pull(1)]), None);
        assert_eq!(patience.stands_still(at(900), LIMIT, &[stable(5), pull(2)]), None);
        assert_eq!(patience.stands_still(at(1000), LIMIT, &[stable(6), pull(2)]), None, "stable moved");
        assert_eq!(patience.stands_still(at(1899), LIMIT, &[stable(6), pull(2)]), None);
        assert_eq!(patience.stands_still(at(1900), LIMIT, &[stable(6), pull(2)]), Some(What::Pull(GroupId(3))));
        assert_eq!(patience.stands_still(at(2500), LIMIT, &[]), None, "nothing is waited for");
        assert_eq!(patience.stands_still(at(2600), LIMIT, &[stable(6)]), None, "waited for anew");
    }
}
