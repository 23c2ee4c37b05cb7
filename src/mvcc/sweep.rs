//! The sweep of a compaction: all of KEYS, then all of REVISIONS up to the floor, each in its own order, so that pages are read side by
//! side and written once.
//!
//! KEYS says what stays. Going through it takes out the versions that no read from the floor up can see, and marks the revisions of
//! those that are left up to the floor. Then REVISIONS gives up every change of a revision without a mark. Marks are a bit per revision;
//! if there is not the memory to mark all of them at once, the next so many revisions have a round of their own.
//!
//! KEYS is walked from its end to its start, which is from the oldest to the newest version of each key. So whenever the walk is broken
//! off, the newest versions of a key are there without a gap, and a tombstone goes after what it hides.
//!
//! Between the two walks changes may be in REVISIONS that are in KEYS no more. All of them are below the floor, where nothing is read
//! but for hashes, which ask KEYS.

use bytes::Bytes;

use crate::base::Revision;
use crate::base::limits::{COMPACT_MARKS_CACHE_PART, COMPACT_SWEEP_CACHE_PART, COMPACT_SWEEP_PAGES, PAGE_BYTES};
use crate::pages::{Cursor, Fault};

use super::change::Change;
use super::compact::Compacted;
use super::key::{KeyBuffer, split_change, split_version};
use super::record::Kind;
use super::store::{KEYS, Mvcc, REVISIONS};

/// A sweep under way.
#[derive(Debug)]
pub(super) struct Sweep {
    to: Revision,
    stage: Stage,
    /// The revisions of this round.
    first: Revision,
    last: Revision,
    /// A bit for each of them, from `first` on: whether a version of it stays.
    marks: Vec<u64>,
}

#[derive(Debug)]
enum Stage {
    /// The next round begins at the first change that is not below this.
    Between(Revision),
    /// KEYS is walked down; the versions that are not below this key of the tree are dealt with. None: none are.
    Keys(Option<Vec<u8>>),
    /// REVISIONS is walked up.
    Changes(Place),
}

/// A place in REVISIONS.
#[derive(Clone, Debug)]
struct Place {
    /// The next change to look at, and the lowest key of it.
    change: Change,
    key: Bytes,
    /// The revision of the change before, even if that has gone.
    before: Revision,
}

impl Place {
    fn start_of(revision: Revision) -> Place {
        Place { change: Change { revision, operation: 0 }, key: Bytes::new(), before: Revision::ZERO }
    }

    fn after(change: Change, key: &[u8]) -> Place {
        Place { change, key: [key, &[0]].concat().into(), before: change.revision }
    }

    fn tree_key(&self) -> KeyBuffer {
        KeyBuffer::change(self.change, &self.key)
    }
}

/// What a step of a walk has found: entries to take out, and where it goes on; None: it is at its end.
struct Step<P> {
    doomed: Vec<Vec<u8>>,
    next: Option<P>,
    visits: u32,
}

impl Sweep {
    pub(super) fn to(to: Revision) -> Sweep {
        let stage = Stage::Between(Revision::ZERO);
        Sweep { to, stage, first: Revision::ZERO, last: Revision::ZERO, marks: Vec::new() }
    }

    /// The place of a revision's mark: word and bit; None: it is not of this round.
    fn place_of(&self, revision: Revision) -> Option<(usize, u64)> {
        let number = (self.first..=self.last).contains(&revision).then(|| revision.get() - self.first.get())?;
        Some(((number / 64) as usize, 1 << (number % 64)))
    }

    fn mark(&mut self, revision: Revision) {
        if let Some((word, bit)) = self.place_of(revision) {
            self.marks[word] |= bit;
        }
    }

    fn has_mark(&self, revision: Revision) -> bool {
        self.place_of(revision).is_some_and(|(word, bit)| self.marks[word] & bit != 0)
    }
}

impl Mvcc {
    /// Does a slice of a sweep. On a fault: install, and call again.
    pub(super) fn sweep(&mut self, sweep: &mut Sweep, removed: &mut u64, visits_left: &mut i64) -> Result<Compacted, Fault> {
        while *visits_left > 0 {
            match &sweep.stage {
                Stage::Between(from) => {
                    let mut cursor = self.store().cursor(REVISIONS).heads();
                    cursor.seek(Place::start_of(*from).tree_key().as_slice())?;
                    let first = cursor.entry().map(|(entry, ..)| split_change(entry).0.revision);
                    let Some(first) = first.filter(|first| *first <= sweep.to) else { return Ok(Compacted::Whole) };
                    let words = (self.store().cache_bytes() / COMPACT_MARKS_CACHE_PART / size_of::<u64>()).max(1);
                    let span = (words as u64 * 64).min(sweep.to.get() - first.get() + 1);
                    (sweep.first, sweep.last) = (first, Revision(first.get() + span - 1));
                    sweep.marks = vec![0; span.div_ceil(64) as usize];
                    sweep.stage = Stage::Keys(None);
                }
                Stage::Keys(below) => {
                    let below = below.clone();
                    let step = self.walk_keys(sweep, below.as_deref(), *visits_left as u32)?;
                    for doomed in step.doomed {
                        self.store_mut().remove(KEYS, &doomed)?;
                        *removed += 1;
                        *visits_left -= 1;
                        sweep.stage = Stage::Keys(Some(doomed));
                    }
                    *visits_left -= i64::from(step.visits);
                    sweep.stage = match step.next {
                        Some(next) => Stage::Keys(Some(next)),
                        None => Stage::Changes(Place::start_of(sweep.first)),
                    };
                }
                Stage::Changes(place) => {
                    let step = self.walk_changes(sweep, place, *visits_left as u32)?;
                    for doomed in step.doomed {
                        self.store_mut().remove(REVISIONS, &doomed)?;
                        *visits_left -= 1;
                        let (change, key) = split_change(&doomed);
                        sweep.stage = Stage::Changes(Place::after(change, key));
                    }
                    *visits_left -= i64::from(step.visits);
                    sweep.stage = match step.next {
                        Some(next) => Stage::Changes(next),
                        None => Stage::Between(sweep.last.next()),
                    };
                }
            }
        }
        Ok(Compacted::Part)
    }

    /// The pages that the walk comes to and that are not in memory, to be read side by side.
    pub(super) fn sweep_ahead(&self, sweep: &Sweep) -> Vec<Fault> {
        let room = self.store().cache_bytes() / COMPACT_SWEEP_CACHE_PART / PAGE_BYTES;
        let pages = room.clamp(1, COMPACT_SWEEP_PAGES);
        match &sweep.stage {
            Stage::Between(_) => Vec::new(),
            Stage::Keys(below) => self.store().reader().ahead_down(KEYS, below.as_deref(), pages),
            Stage::Changes(place) => self.changes_ahead(&place.tree_key(), sweep.last, pages),
        }
    }

    /// Goes down through KEYS, marks what stays, and finds what does not.
    fn walk_keys(&self, sweep: &mut Sweep, below: Option<&[u8]>, most: u32) -> Result<Step<Vec<u8>>, Fault> {
        let mut cursor = self.store().cursor(KEYS).heads();
        match below {
            None => cursor.seek_last()?,
            Some(below) => cursor.seek_before(below)?,
        }
        let mut step = Step { doomed: Vec::new(), next: None, visits: 0 };
        let mut last: Option<&[u8]> = None;
        while let Some((entry, stored, weight)) = cursor.entry() {
            if step.visits >= most {
                step.next = last.map(<[u8]>::to_vec);
                break;
            }
            // Only with the entry before it is it known what becomes of this one.
            match (cursor.prev(), last) {
                (Ok(()), _) => {}
                (Err(fault), None) => return Err(fault),
                (Err(_), Some(last)) => {
                    step.next = Some(last.to_vec());
                    break;
                }
            }
            let (escaped, change) = split_version(entry);
            if change.revision <= sweep.to {
                let newer = cursor.entry().map(|(newer, ..)| split_version(newer)).filter(|newer| newer.0 == escaped);
                let is_superseded = newer.is_some_and(|(_, newer)| newer.revision <= sweep.to);
                let goes = match Kind::of_stored(stored) {
                    Kind::Put => is_superseded,
                    Kind::Tombstone => change.revision < sweep.to,
                };
                if goes {
                    assert_eq!(weight, 0, "a version that is not the newest, or a tombstone, counts for nothing");
                    step.doomed.push(entry.to_vec());
                } else {
                    sweep.mark(change.revision);
                }
            }
            last = Some(entry);
            step.visits += 1;
        }
        Ok(step)
    }

    /// Goes up through the changes of this round, and finds those that KEYS does not have.
    fn walk_changes(&self, sweep: &Sweep, place: &Place, most: u32) -> Result<Step<Place>, Fault> {
        let mut cursor = self.store().cursor(REVISIONS).heads();
        cursor.seek(place.tree_key().as_slice())?;
        let mut step = Step { doomed: Vec::new(), next: None, visits: 0 };
        let mut before = place.before;
        let mut last: Option<(Change, &[u8])> = None;
        while let Some((entry, ..)) = cursor.entry() {
            let (change, key) = split_change(entry);
            if change.revision > sweep.last {
                break;
            }
            let goes =
                if step.visits < most { self.is_gone(sweep, &mut cursor, before, change, key).map(Some) } else { Ok(None) };
            let goes = match (goes, last) {
                (Ok(Some(goes)), _) => goes,
                (Err(fault), None) => return Err(fault),
                (_, last) => {
                    step.next = last.map(|(change, key)| Place::after(change, key));
                    break;
                }
            };
            if goes {
                step.doomed.push(entry.to_vec());
            }
            (before, last) = (change.revision, Some((change, key)));
            step.visits += 1;
        }
        Ok(step)
    }

    /// Whether KEYS does not have the change that the cursor stands at; moves it on.
    fn is_gone<'a>(
        &'a self,
        sweep: &Sweep,
        cursor: &mut Cursor<'a>,
        before: Revision,
        change: Change,
        key: &[u8],
    ) -> Result<bool, Fault> {
        cursor.next()?;
        if !sweep.has_mark(change.revision) {
            return Ok(true);
        }
        let after = cursor.entry().map(|(entry, ..)| split_change(entry).0.revision);
        if before != change.revision && after != Some(change.revision) {
            return Ok(false);
        }
        // The mark may be that of another change of the same revision.
        let version = KeyBuffer::version(key, change);
        Ok(self.store().get_head(KEYS, version.as_slice())?.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Budget, Compaction, PutFields};
    use super::*;
    use crate::base::LeaseId;
    use crate::pages::{Options, Store};

    const KEYS_PUT: u64 = 50;
    /// Room for the marks of 2,048 revisions.
    const CACHE_BYTES: usize = 4 << 10;
    /// More revisions than a round has marks for.
    const STRIDE: u64 = 700;

    fn put(mvcc: &mut Mvcc, key: u64, revision: u64, version: u64) {
        let change = Change { revision: Revision(revision), operation: 0 };
        let fields =
            PutFields { create_revision: Revision(STRIDE * (key + 1)), version, lease: LeaseId::NONE, value: b"value" };
        mvcc.begin(change.revision);
        mvcc.put(&key.to_be_bytes(), change, &fields).expect("a new store has all its pages");
    }

    fn changes(mvcc: &Mvcc) -> Vec<u64> {
        let mut cursor = mvcc.store().cursor(REVISIONS);
        cursor.seek(b"").expect("cached");
        let mut found = Vec::new();
        while let Some((entry, ..)) = cursor.entry() {
            found.push(split_change(entry).0.revision.get());
            cursor.next().expect("cached");
        }
        found
    }

    #[test]
    fn revisions_that_lie_far_apart_are_swept_in_rounds() {
        let mut mvcc = Mvcc::new(Store::create(Options::with_cache(CACHE_BYTES)), Revision::ZERO);
        // Every third key is never put again, every other one is.
        let twice: Vec<u64> = (0..KEYS_PUT).filter(|key| key % 3 != 0).collect();
        (0..KEYS_PUT).for_each(|key| put(&mut mvcc, key, STRIDE * (key + 1), 1));
        let again = |nth: usize| STRIDE * (KEYS_PUT + 1 + nth as u64);
        twice.iter().enumerate().for_each(|(nth, &key)| put(&mut mvcc, key, again(nth), 2));
        // The last ten are above the floor, so what they hide stays.
        let hidden = twice.len() - 10;
        let mut compaction = Compaction::new(Revision::ZERO, Revision(again(hidden) - 1)).sweeping(true);
        let mut slices = 0;
        while mvcc.compact_slice(&mut compaction, Budget { visits: 7, bytes: usize::MAX }) != Ok(Compacted::Whole) {
            slices += 1;
        }
        let stays = |key: &u64| !twice[..hidden].contains(key);
        let mut expected: Vec<u64> = (0..KEYS_PUT).filter(stays).map(|key| STRIDE * (key + 1)).collect();
        expected.extend((0..twice.len()).map(again));
        assert_eq!(changes(&mvcc), expected);
        assert_eq!((mvcc.store().len(KEYS).entries, compaction.removed()), (expected.len() as u64, hidden as u64));
        assert!(slices > 200, "{slices} slices are too few for several rounds");
    }

    #[test]
    fn a_sweep_that_was_broken_off_is_made_again() {
        let mut mvcc = Mvcc::new(Store::create(Options::with_cache(CACHE_BYTES)), Revision::ZERO);
        (0..KEYS_PUT).for_each(|key| put(&mut mvcc, key, key + 1, 1));
        (0..KEYS_PUT).for_each(|key| put(&mut mvcc, key, KEYS_PUT + key + 1, 2));
        let floor = Revision(2 * KEYS_PUT);
        let mut compaction = Compaction::new(Revision::ZERO, floor).sweeping(true);
        while mvcc.store().len(KEYS).entries == 2 * KEYS_PUT {
            assert_eq!(mvcc.compact_slice(&mut compaction, Budget { visits: 3, bytes: usize::MAX }), Ok(Compacted::Part));
        }
        // As after a stop: what is known is only that the trees are not equally long.
        let mut compaction = Compaction::new(Revision::ZERO, floor);
        while mvcc.compact_slice(&mut compaction, Budget::UNLIMITED) != Ok(Compacted::Whole) {}
        assert_eq!(changes(&mvcc), (KEYS_PUT + 1..=2 * KEYS_PUT).collect::<Vec<_>>());
        assert_eq!(mvcc.store().len(KEYS).entries, KEYS_PUT);
    }
}
