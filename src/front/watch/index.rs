//! Which synced watches a key concerns: a hash map for single keys, a tree of intervals for ranges.
//!
//! Watches of one key, and watches of one range, share a node. The intervals stand in a treap ordered by (from, end), each subtree with
//! the largest end in it, so that the ranges around a key are found in O(log n + found) whatever they are.

use bytes::Bytes;
use hashbrown::HashMap;
use slab::Slab;

use crate::base::{KeyRange, Prng, RangeEnd};

/// The watches of one key or range.
#[derive(Default)]
pub struct Node {
    /// Their keys in the hub.
    pub watchers: Vec<usize>,
    /// The events of the revision being delivered that concern it; empty between revisions.
    pub hits: Vec<u32>,
}

/// All synced watches.
pub struct Index {
    nodes: Slab<Node>,
    singles: HashMap<Bytes, usize>,
    ranges: Tree,
    watchers: usize,
}

impl Index {
    /// None yet.
    pub fn new() -> Index {
        Index { nodes: Slab::new(), singles: HashMap::new(), ranges: Tree::new(), watchers: 0 }
    }

    /// Adds a watch.
    pub fn insert(&mut self, range: &KeyRange, watcher: usize) {
        let nodes = &mut self.nodes;
        let node = match range.single() {
            Some(key) => *self.singles.entry(key.clone()).or_insert_with(|| nodes.insert(Node::default())),
            None => self.ranges.find_or_insert(range, || nodes.insert(Node::default())),
        };
        self.nodes[node].watchers.push(watcher);
        self.watchers += 1;
    }

    /// Takes a watch out.
    pub fn remove(&mut self, range: &KeyRange, watcher: usize) {
        let node = match range.single() {
            Some(key) => self.singles.get(key).copied(),
            None => self.ranges.find(range),
        };
        let node = node.expect("a synced watch has a node");
        let watchers = &mut self.nodes[node].watchers;
        let at = watchers.iter().position(|&w| w == watcher).expect("a synced watch is in its node");
        watchers.swap_remove(at);
        self.watchers -= 1;
        if watchers.is_empty() {
            self.nodes.remove(node);
            match range.single() {
                Some(key) => drop(self.singles.remove(key)),
                None => self.ranges.remove(range),
            }
        }
    }

    /// Calls `found` with the node of every key or range that `key` is in.
    pub fn lookup(&self, key: &[u8], mut found: impl FnMut(usize)) {
        if let Some(&node) = self.singles.get(key) {
            found(node);
        }
        self.ranges.around(key, &mut found);
    }

    /// A node.
    pub fn node(&mut self, node: usize) -> &mut Node {
        &mut self.nodes[node]
    }

    /// How many synced watches there are.
    pub fn len(&self) -> usize {
        self.watchers
    }

    /// Whether there is no synced watch.
    pub fn is_empty(&self) -> bool {
        self.watchers == 0
    }
}

/// Where an interval ends; `None`: nowhere.
type End = Option<Bytes>;

fn reaches(end: &End, key: &[u8]) -> bool {
    end.as_ref().is_none_or(|end| end.as_ref() > key)
}

fn later(a: &End, b: &End) -> bool {
    match (a, b) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(a), Some(b)) => a > b,
    }
}

struct Interval {
    from: Bytes,
    end: End,
    /// The latest end in this subtree.
    latest: End,
    priority: u64,
    left: Option<usize>,
    right: Option<usize>,
    node: usize,
}

struct Tree {
    intervals: Slab<Interval>,
    root: Option<usize>,
    /// Priorities; nothing outside depends on them.
    chance: Prng,
}

/// Where an interval stands in the order.
type Place<'a> = (&'a [u8], Option<&'a [u8]>);

impl Tree {
    fn new() -> Tree {
        Tree { intervals: Slab::new(), root: None, chance: Prng::new(0x7ee) }
    }

    fn place(range: &KeyRange) -> Place<'_> {
        let end = match &range.end {
            RangeEnd::Before(end) => Some(end.as_ref()),
            RangeEnd::Open => None,
            RangeEnd::Single => unreachable!("single keys are in the map"),
        };
        (range.from.as_ref(), end)
    }

    fn place_of(&self, at: usize) -> Place<'_> {
        let interval = &self.intervals[at];
        (interval.from.as_ref(), interval.end.as_deref())
    }

    fn find(&self, range: &KeyRange) -> Option<usize> {
        let place = Tree::place(range);
        let mut at = self.root?;
        loop {
            let interval = &self.intervals[at];
            at = match place.cmp(&self.place_of(at)) {
                std::cmp::Ordering::Equal => return Some(interval.node),
                std::cmp::Ordering::Less => interval.left?,
                std::cmp::Ordering::Greater => interval.right?,
            };
        }
    }

    fn find_or_insert(&mut self, range: &KeyRange, node: impl FnOnce() -> usize) -> usize {
        if let Some(node) = self.find(range) {
            return node;
        }
        let node = node();
        let (from, end) = (range.from.clone(), Tree::place(range).1.map(Bytes::copy_from_slice));
        let latest = end.clone();
        let priority = self.chance.u64();
        let new = self.intervals.insert(Interval { from, end, latest, priority, left: None, right: None, node });
        let (left, right) = self.split(self.root, Tree::place(range));
        let left = self.join(left, Some(new));
        self.root = self.join(left, right);
        node
    }

    fn remove(&mut self, range: &KeyRange) {
        self.root = self.without(self.root, Tree::place(range));
    }

    fn without(&mut self, root: Option<usize>, place: Place<'_>) -> Option<usize> {
        let at = root.expect("only what is there is removed");
        let (left, right) = (self.intervals[at].left, self.intervals[at].right);
        match place.cmp(&self.place_of(at)) {
            std::cmp::Ordering::Equal => {
                self.intervals.remove(at);
                return self.join(left, right);
            }
            std::cmp::Ordering::Less => {
                let left = self.without(left, place);
                self.intervals[at].left = left;
            }
            std::cmp::Ordering::Greater => {
                let right = self.without(right, place);
                self.intervals[at].right = right;
            }
        }
        self.renew(at);
        Some(at)
    }

    /// Parts a subtree into what stands before `place` and the rest.
    fn split(&mut self, root: Option<usize>, place: Place<'_>) -> (Option<usize>, Option<usize>) {
        let Some(at) = root else { return (None, None) };
        if self.place_of(at) < place {
            let (middle, right) = self.split(self.intervals[at].right, place);
            self.intervals[at].right = middle;
            self.renew(at);
            (Some(at), right)
        } else {
            let (left, middle) = self.split(self.intervals[at].left, place);
            self.intervals[at].left = middle;
            self.renew(at);
            (left, Some(at))
        }
    }

    /// Joins two subtrees, all of the first before all of the second.
    fn join(&mut self, left: Option<usize>, right: Option<usize>) -> Option<usize> {
        let (Some(l), Some(r)) = (left, right) else { return left.or(right) };
        if self.intervals[l].priority > self.intervals[r].priority {
            let joined = self.join(self.intervals[l].right, right);
            self.intervals[l].right = joined;
            self.renew(l);
            Some(l)
        } else {
            let joined = self.join(left, self.intervals[r].left);
            self.intervals[r].left = joined;
            self.renew(r);
            Some(r)
        }
    }

    fn renew(&mut self, at: usize) {
        let interval = &self.intervals[at];
        let mut latest = &interval.end;
        for child in [interval.left, interval.right].into_iter().flatten() {
            let below = &self.intervals[child].latest;
            if later(below, latest) {
                latest = below;
            }
        }
        let latest = latest.clone();
        self.intervals[at].latest = latest;
    }

    fn around(&self, key: &[u8], found: &mut impl FnMut(usize)) {
        self.around_in(self.root, key, found);
    }

    /// As deep as the treap: a few times the logarithm of the number of ranges.
    fn around_in(&self, root: Option<usize>, key: &[u8], found: &mut impl FnMut(usize)) {
        let Some(at) = root else { return };
        let interval = &self.intervals[at];
        if !reaches(&interval.latest, key) {
            return;
        }
        self.around_in(interval.left, key, found);
        if interval.from.as_ref() <= key {
            if reaches(&interval.end, key) {
                found(interval.node);
            }
            self.around_in(interval.right, key, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(rng: &mut Prng) -> Bytes {
        Bytes::from((0..1 + rng.below(3)).map(|_| b'a' + rng.below(4) as u8).collect::<Vec<_>>())
    }

    #[test]
    fn it_finds_what_a_walk_over_all_finds() {
        for seed in 0..200 {
            let rng = &mut Prng::new(seed);
            let mut index = Index::new();
            let mut all: Vec<(KeyRange, usize)> = Vec::new();
            for watcher in 0..rng.below(60) as usize {
                if !all.is_empty() && rng.chance(1, 4) {
                    let (range, watcher) = all.swap_remove(rng.below(all.len() as u64) as usize);
                    index.remove(&range, watcher);
                }
                let end = match rng.below(4) {
                    0 => Bytes::new(),
                    1 => Bytes::from_static(b"\0"),
                    _ => key(rng),
                };
                let range = KeyRange::of(&key(rng), &end);
                index.insert(&range, watcher);
                all.push((range, watcher));
                let probe = key(rng);
                let mut nodes = Vec::new();
                index.lookup(&probe, |node| nodes.push(node));
                let mut found: Vec<usize> = nodes.into_iter().flat_map(|n| index.node(n).watchers.clone()).collect();
                let mut wanted: Vec<usize> = all.iter().filter(|(r, _)| r.contains(&probe)).map(|(_, w)| *w).collect();
                found.sort_unstable();
                wanted.sort_unstable();
                assert_eq!(found, wanted, "seed {seed}, key {probe:?}");
            }
            for (range, watcher) in all {
                index.remove(&range, watcher);
            }
            assert!(
                index.is_empty() && index.nodes.is_empty() && index.singles.is_empty() && index.ranges.intervals.is_empty()
            );
        }
    }

    #[test]
    fn many_ranges_are_found_by_few_steps() {
        let mut index = Index::new();
        for i in 0..100_000u32 {
            let from = Bytes::from(format!("/registry/pods/ns-{i:06}/"));
            let end = Bytes::from(format!("/registry/pods/ns-{i:06}0"));
            index.insert(&KeyRange::of(&from, &end), i as usize);
        }
        let mut found = Vec::new();
        for i in (0..100_000u32).step_by(101) {
            index.lookup(format!("/registry/pods/ns-{i:06}/x").as_bytes(), |node| found.push(node));
        }
        assert_eq!(found.len(), 991);
    }
}
