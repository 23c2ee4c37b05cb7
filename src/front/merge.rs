//! Merging of sorted slices: one part per group, the smallest head first, and back to the groups that run out.
//!
//! Heads are told apart by their ranks, the first bytes behind what all keys share, which lie side by side; by whole keys where these are
//! the same.

use std::collections::VecDeque;

use crate::base::GroupId;
use crate::shard::messages::Resume;

/// What one group has given so far.
struct Part<T> {
    group: GroupId,
    items: VecDeque<T>,
    resume: Option<Resume>,
    asked: bool,
    done: bool,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// The smallest of all heads.
    Item(T),
    /// Some group has to give more first.
    Blocked,
    /// There is nothing more.
    Done,
}

/// The parts, and the order of their heads.
pub struct Merge<T> {
    parts: Vec<Part<T>>,
    /// Parts that have items, by their heads, the largest first; each with its head's rank.
    heads: Vec<(u64, u16)>,
    /// Parts that have neither items nor an end.
    empty: usize,
    key: fn(&T) -> &[u8],
    /// How many first bytes all keys share.
    shared: usize,
}

impl<T> Merge<T> {
    /// Nothing given yet. Items are in the order of their keys, whose first `shared` bytes are the same.
    pub fn new(groups: &[GroupId], shared: usize, key: fn(&T) -> &[u8]) -> Merge<T> {
        let part = |&group| Part { group, items: VecDeque::new(), resume: None, asked: false, done: false };
        Merge { parts: groups.iter().map(part).collect(), heads: Vec::new(), empty: groups.len(), key, shared }
    }

    /// The groups that have to be asked before anything more can come, each with where to go on. They count as asked from now on.
    pub fn ask(&mut self, mut ask: impl FnMut(GroupId, Option<Resume>)) {
        for part in &mut self.parts {
            if part.items.is_empty() && !part.done && !part.asked {
                part.asked = true;
                ask(part.group, part.resume.take());
            }
        }
    }

    /// A group gave a slice, in order, behind what it gave before.
    pub fn give(&mut self, group: GroupId, items: Vec<T>, resume: Option<Resume>) {
        let at = self.parts.iter().position(|p| p.group == group).expect("a group that was asked");
        let part = &mut self.parts[at];
        assert!(part.asked && part.items.is_empty() && !part.done, "a group gives one slice when asked");
        part.asked = false;
        part.done = resume.is_none();
        part.resume = resume;
        part.items = items.into();
        if !part.items.is_empty() {
            self.empty -= 1;
            self.place(at);
        } else if part.done {
            self.empty -= 1;
        }
    }

    /// The next item of all.
    pub fn pop(&mut self) -> Next<T> {
        if self.empty > 0 {
            return Next::Blocked;
        }
        let Some((_, at)) = self.heads.pop() else { return Next::Done };
        let part = &mut self.parts[usize::from(at)];
        let item = part.items.pop_front().expect("a part among the heads has items");
        if !part.items.is_empty() {
            self.place(usize::from(at));
        } else if !part.done {
            self.empty += 1;
        }
        Next::Item(item)
    }

    /// The groups that are merged.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> {
        self.parts.iter().map(|p| p.group)
    }

    /// How many groups may still have something.
    pub fn open(&self) -> usize {
        self.parts.iter().filter(|p| !p.done || !p.items.is_empty()).count()
    }

    fn place(&mut self, at: usize) {
        let key = |at: usize| (self.key)(&self.parts[at].items[0]);
        let (head, rank) = (key(at), rank(key(at), self.shared));
        let is_larger = |other: u64, at: u16| other > rank || other == rank && key(usize::from(at)) > head;
        let to = self.heads.partition_point(|&(other, at)| is_larger(other, at));
        self.heads.insert(to, (rank, at as u16));
    }
}

/// The eight bytes behind the first `shared` as a number, with zeros for those that a key does not have. Of two keys, the larger has no
/// smaller rank.
fn rank(key: &[u8], shared: usize) -> u64 {
    let behind = &key[shared.min(key.len())..];
    match behind.first_chunk() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => behind.iter().chain(&[0; 8]).take(8).fold(0, |rank, byte| rank << 8 | u64::from(*byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Prng;
    use bytes::Bytes;

    const SHARED: &[u8] = b"/a/";

    /// Some are the first bytes of others, some differ only behind their ranks, some have zeros at their end.
    fn key(rng: &mut Prng) -> Vec<u8> {
        let behind = (0..rng.below(12)).map(|_| rng.below(3) as u8);
        SHARED.iter().copied().chain(behind).collect()
    }

    #[test]
    fn slices_of_any_size_come_out_sorted() {
        for seed in 0..300 {
            let rng = &mut Prng::new(seed);
            let groups: Vec<GroupId> = (1..=1 + rng.below(7) as u16).map(GroupId).collect();
            let mut sources: Vec<VecDeque<Vec<u8>>> = groups.iter().map(|_| VecDeque::new()).collect();
            let mut all: Vec<Vec<u8>> = (0..rng.below(200)).map(|_| key(rng)).collect();
            all.sort_unstable();
            for key in &all {
                let at = rng.below(groups.len() as u64) as usize;
                sources[at].push_back(key.clone());
            }
            let mut merge = Merge::new(&groups, SHARED.len(), Vec::as_slice);
            let mut out = Vec::new();
            loop {
                match merge.pop() {
                    Next::Item(n) => out.push(n),
                    Next::Done => break,
                    Next::Blocked => {
                        let mut asked = Vec::new();
                        merge.ask(|group, _| asked.push(group));
                        assert!(!asked.is_empty(), "blocked on groups that can be asked");
                        for group in asked {
                            let source = &mut sources[group.slot() - 1];
                            let n = rng.below(4).min(source.len() as u64) as usize;
                            let items: Vec<Vec<u8>> = source.drain(..n).collect();
                            let resume = (!source.is_empty() || rng.chance(1, 4)).then(Bytes::new);
                            merge.give(group, items, resume);
                        }
                    }
                }
            }
            assert_eq!(out, all, "seed {seed}");
        }
    }
}
