//! Answers that are here and may not leave yet: each waits for a revision to be stable (rules 3 and 14).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use slab::Slab;

use crate::base::{Index, Revision};
use crate::shard::messages::Answer;

use super::tickets::Open;

/// One that waits.
struct Waits {
    open: Open,
    answer: Answer,
    /// Group 0's commit index must have reached this too.
    meta: Option<Index>,
}

/// All that wait, in order of their revisions, and of their arrival within one.
#[derive(Default)]
pub struct Waiting {
    order: BinaryHeap<Reverse<(Revision, u64, usize)>>,
    answers: Slab<Waits>,
    arrived: u64,
    /// Those whose revision is stable, and that wait for group 0.
    meta: Vec<usize>,
}

impl Waiting {
    /// Keeps an answer until `revision` is stable (and group 0's commit index has reached `meta`).
    pub fn push(&mut self, revision: Revision, meta: Option<Index>, open: Open, answer: Answer) {
        let at = self.answers.insert(Waits { open, answer, meta });
        self.order.push(Reverse((revision, self.arrived, at)));
        self.arrived += 1;
    }

    /// The next answer that may leave, given that `stable` is stable.
    pub fn pop(&mut self, stable: Revision, committed: impl Fn(Index) -> bool) -> Option<(Open, Answer)> {
        while let Some(&Reverse((revision, _, at))) = self.order.peek() {
            if revision > stable {
                break;
            }
            self.order.pop();
            match self.answers[at].meta {
                Some(index) if !committed(index) => self.meta.push(at),
                _ => return Some(self.take(at)),
            }
        }
        let ready = |&at: &usize| self.answers[at].meta.is_none_or(&committed);
        let at = self.meta.iter().position(ready)?;
        let at = self.meta.remove(at);
        Some(self.take(at))
    }

    /// Any answer, whatever it waits for.
    pub fn pop_any(&mut self) -> Option<(Open, Answer)> {
        let at = self.order.pop().map(|Reverse((_, _, at))| at).or_else(|| self.meta.pop())?;
        Some(self.take(at))
    }

    /// The lowest revision that something waits for.
    pub fn lowest(&self) -> Option<Revision> {
        self.order.peek().map(|Reverse((revision, _, _))| *revision)
    }

    /// Whether something waits for group 0 alone.
    pub fn waits_for_meta(&self) -> bool {
        !self.meta.is_empty()
    }

    fn take(&mut self, at: usize) -> (Open, Answer) {
        let waits = self.answers.remove(at);
        (waits.open, waits.answer)
    }
}
