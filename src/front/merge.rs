//! Merging of sorted slices: one part per group, the smallest head first, and back to the groups that run out.

use std::cmp::Ordering;
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
    /// Parts that have items, by their heads, the largest first.
    heads: Vec<u16>,
    /// Parts that have neither items nor an end.
    empty: usize,
    order: fn(&T, &T) -> Ordering,
}

impl<T> Merge<T> {
    /// Nothing given yet. `order` tells items of different groups apart.
    pub fn new(groups: &[GroupId], order: fn(&T, &T) -> Ordering) -> Merge<T> {
        let part = |&group| Part { group, items: VecDeque::new(), resume: None, asked: false, done: false };
        Merge { parts: groups.iter().map(part).collect(), heads: Vec::new(), empty: groups.len(), order }
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
        let Some(at) = self.heads.pop() else { return Next::Done };
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
        let head = &self.parts[at].items[0];
        let to = self
            .heads
            .partition_point(|&other| (self.order)(&self.parts[usize::from(other)].items[0], head) == Ordering::Greater);
        self.heads.insert(to, at as u16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Prng;
    use bytes::Bytes;

    #[test]
    fn slices_of_any_size_come_out_sorted() {
        for seed in 0..300 {
            let rng = &mut Prng::new(seed);
            let groups: Vec<GroupId> = (1..=1 + rng.below(7) as u16).map(GroupId).collect();
            let mut sources: Vec<VecDeque<u64>> = groups.iter().map(|_| VecDeque::new()).collect();
            let mut all: Vec<u64> = (0..rng.below(200)).map(|_| rng.below(1000)).collect();
            all.sort_unstable();
            for &n in &all {
                let at = rng.below(groups.len() as u64) as usize;
                sources[at].push_back(n);
            }
            let mut merge = Merge::new(&groups, u64::cmp);
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
                            let items: Vec<u64> = source.drain(..n).collect();
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
