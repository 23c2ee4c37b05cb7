//! Which segments are still needed: per segment, the highest index of each group that has something in it.

use std::collections::VecDeque;

use crate::base::limits::WAL_GROUPS_MAX;
use crate::base::{GroupId, Index};

use super::name::SegmentName;

/// A segment and what in it is still needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentUse {
    /// The segment.
    pub segment: SegmentName,
    /// Per group, the highest index that it holds an entry, or the place of a cut, for.
    pub highest: Vec<(GroupId, Index)>,
}

/// The segments of one or more WALs, oldest first, and how far each group has been released.
///
/// A segment is free when each group has been released up to its highest index there, when no earlier segment of its WAL
/// is needed, and when what it carried beside entries (term, vote, starts) stands in a later state batch that is on disk.
///
/// Invariant: the segments of one WAL stand in the order of their sequences.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    segments: VecDeque<SegmentUse>,
    released: Vec<Index>,
    /// Segments before this one are carried forward by a later state batch.
    carried: Option<SegmentName>,
}

impl Ledger {
    #[cfg(test)]
    fn new(segments: Vec<SegmentUse>) -> Ledger {
        assert!(segments.windows(2).all(|pair| pair[0].segment < pair[1].segment), "segments stand in order");
        Ledger { segments: segments.into(), released: Vec::new(), carried: None }
    }

    /// What is in the ledger, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentUse> {
        self.segments.iter()
    }

    /// Whether no segment is left.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The page store of `group` holds everything up to `upto`, on disk.
    pub fn release(&mut self, group: GroupId, upto: Index) {
        assert!(group.slot() < WAL_GROUPS_MAX, "{group:?} is out of range");
        if self.released.len() <= group.slot() {
            self.released.resize(group.slot() + 1, Index::ZERO);
        }
        let released = &mut self.released[group.slot()];
        *released = (*released).max(upto);
    }

    /// A cut of `group`, logged in a WAL and on disk: what these segments hold above it is needed no more.
    pub fn cut(&mut self, group: GroupId, after: Index) {
        for segment in &mut self.segments {
            for (_, highest) in segment.highest.iter_mut().filter(|(g, _)| *g == group) {
                *highest = (*highest).min(after);
            }
        }
    }

    /// Every WAL of the new run has its first state batch on disk: from now on segments of earlier runs may become free.
    pub fn carried_forward(&mut self) {
        self.carried = self.segments.back().map(|last| last.segment.next());
    }

    /// A state batch at the head of `segment` is on disk.
    pub(super) fn carried_by(&mut self, segment: SegmentName) {
        self.carried = Some(segment);
    }

    pub(super) fn open(&mut self, segment: SegmentName) {
        assert!(self.segments.back().is_none_or(|last| last.segment < segment), "segments stand in order");
        self.segments.push_back(SegmentUse { segment, highest: Vec::new() });
    }

    /// The newest segment holds something of `group` up to `index`.
    pub(super) fn note(&mut self, group: GroupId, index: Index) {
        let newest = self.segments.back_mut().expect("something is written into a segment that was opened");
        match newest.highest.iter_mut().find(|(g, _)| *g == group) {
            Some((_, highest)) => *highest = (*highest).max(index),
            None => newest.highest.push((group, index)),
        }
    }

    /// Segments that hold nothing that counts.
    pub(super) fn add_unneeded(&mut self, names: &[SegmentName]) {
        self.segments.extend(names.iter().map(|&segment| SegmentUse { segment, highest: Vec::new() }));
        self.segments.make_contiguous().sort_unstable_by_key(|used| used.segment);
    }

    fn needed(&self, segment: &SegmentUse) -> bool {
        let released = |group: GroupId| self.released.get(group.slot()).copied().unwrap_or(Index::ZERO);
        segment.highest.iter().any(|&(group, highest)| released(group) < highest)
    }

    /// Takes out the segments that are free, each WAL's in their order. They may be renamed, reused or removed, in that order.
    pub fn take_free(&mut self) -> Vec<SegmentName> {
        let Some(carried) = self.carried else { return Vec::new() };
        let mut free = Vec::new();
        let mut needed_wal = None;
        let mut kept = VecDeque::with_capacity(self.segments.len());
        for segment in std::mem::take(&mut self.segments) {
            let wal = segment.segment.wal;
            if segment.segment < carried && needed_wal != Some(wal) && !self.needed(&segment) {
                free.push(segment.segment);
            } else {
                needed_wal = Some(wal);
                kept.push_back(segment);
            }
        }
        self.segments = kept;
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{CoreId, RunNumber, SegmentSequence};
    use crate::wal::name::WalId;

    fn name(core: u16, sequence: u64) -> SegmentName {
        SegmentName { wal: WalId { run: RunNumber(1), core: CoreId(core) }, sequence: SegmentSequence(sequence) }
    }

    fn used(core: u16, sequence: u64, highest: &[(u16, u64)]) -> SegmentUse {
        let highest = highest.iter().map(|&(group, index)| (GroupId(group), Index(index))).collect();
        SegmentUse { segment: name(core, sequence), highest }
    }

    #[test]
    fn segments_become_free_in_order_and_only_when_every_group_is_released() {
        let mut ledger = Ledger::new(vec![
            used(0, 1, &[(0, 5), (1, 9)]),
            used(0, 2, &[(0, 6)]),
            used(0, 3, &[]),
            used(1, 1, &[(2, 4)]),
            used(1, 2, &[]),
        ]);
        ledger.release(GroupId(0), Index(100));
        assert_eq!(ledger.take_free(), [], "nothing carries the votes forward yet");
        ledger.carried_forward();
        assert_eq!(ledger.take_free(), [], "group 1 needs the first segment, and the others stand behind it");
        ledger.release(GroupId(1), Index(8));
        ledger.release(GroupId(2), Index(4));
        assert_eq!(ledger.take_free(), [name(1, 1), name(1, 2)]);
        ledger.release(GroupId(1), Index(9));
        assert_eq!(ledger.take_free(), [name(0, 1), name(0, 2), name(0, 3)]);
        assert!(ledger.is_empty());
    }

    #[test]
    fn what_is_cut_pins_nothing() {
        let mut ledger = Ledger::new(vec![used(0, 1, &[(0, 9)])]);
        ledger.carried_forward();
        ledger.release(GroupId(0), Index(5));
        assert_eq!(ledger.take_free(), []);
        ledger.cut(GroupId(0), Index(5));
        assert_eq!(ledger.take_free(), [name(0, 1)]);
    }
}
