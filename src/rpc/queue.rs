//! What a stream has to send and its client's window has no room for.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;

/// Messages, or parts of them, in order; counted with those of all other streams of the executor until they are taken or dropped.
pub(super) struct Queue {
    parts: VecDeque<Bytes>,
    bytes: usize,
    all: Rc<Cell<usize>>,
}

impl Queue {
    /// An empty one. `all`: the bytes in the queues of all streams.
    pub fn new(all: Rc<Cell<usize>>) -> Queue {
        Queue { parts: VecDeque::new(), bytes: 0, all }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn push(&mut self, part: Bytes) {
        self.count(self.bytes + part.len());
        self.parts.push_back(part);
    }

    /// Takes the first `bytes` of as many, one at least: the first part, and those behind it, the last one first.
    pub fn take(&mut self, bytes: usize) -> (Bytes, Vec<Bytes>) {
        self.count(self.bytes - bytes);
        let mut left = bytes;
        let mut parts = std::iter::from_fn(|| {
            let first = self.parts.front_mut().filter(|_| left > 0)?;
            let part = first.split_to(left.min(first.len()));
            if first.is_empty() {
                self.parts.pop_front();
            }
            left -= part.len();
            Some(part)
        });
        let first = parts.next().expect("something is asked for");
        let mut rest: Vec<Bytes> = parts.collect();
        rest.reverse();
        (first, rest)
    }

    pub fn clear(&mut self) {
        self.count(0);
        self.parts.clear();
    }

    fn count(&mut self, bytes: usize) {
        self.all.set(self.all.get() - self.bytes + bytes);
        self.bytes = bytes;
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.count(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_out_in_order_and_are_counted_until_then() {
        let all = Rc::<Cell<usize>>::default();
        for step in 1..12 {
            let mut other = Queue::new(all.clone());
            other.push(Bytes::from_static(b"other"));
            let mut queue = Queue::new(all.clone());
            ["ab", "cde", "f", "ghijk"].into_iter().for_each(|part| queue.push(Bytes::from_static(part.as_bytes())));
            let mut seen = Vec::new();
            while queue.bytes() > 0 {
                assert_eq!((queue.bytes(), all.get()), (11 - seen.len(), 16 - seen.len()));
                let (first, rest) = queue.take(step.min(queue.bytes()));
                seen.extend_from_slice(&first);
                rest.iter().rev().for_each(|part| seen.extend_from_slice(part));
            }
            assert_eq!(seen, b"abcdefghijk", "in steps of {step}");
            queue.push(Bytes::from_static(b"dropped"));
            other.clear();
            assert_eq!((other.bytes(), all.get()), (0, 7));
            drop(queue);
            assert_eq!(all.get(), 0);
        }
    }
}
