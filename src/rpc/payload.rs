//! What is given to h2 to send, counted until it has left.

use std::cell::Cell;
use std::rc::Rc;

use bytes::{Buf, Bytes};

/// The counters that bytes on their way are in: a connection's, and for answers to unary calls the executor's as well.
#[derive(Clone, Default)]
pub(super) struct Unsent {
    connection: Rc<Cell<usize>>,
    answers: Rc<Cell<usize>>,
}

impl Unsent {
    /// Of a new connection; `answers` is its executor's counter.
    pub fn new(answers: Rc<Cell<usize>>) -> Unsent {
        Unsent { connection: Rc::default(), answers }
    }

    /// Bytes on their way on the connection.
    pub fn bytes(&self) -> usize {
        self.connection.get()
    }
}

/// Bytes on their way to the socket, counted until they have left or are dropped.
pub(super) struct Payload {
    bytes: Bytes,
    /// What comes behind `bytes`, the last part first; none is empty.
    rest: Vec<Bytes>,
    /// What is left of all parts.
    counted: usize,
    unsent: Unsent,
    is_answer: bool,
}

impl Payload {
    /// A part of a stream. `rest`: what comes behind `bytes`, the last part first; none of them empty unless all are.
    pub fn new(bytes: Bytes, rest: Vec<Bytes>, unsent: &Unsent) -> Payload {
        Payload::counted(bytes, rest, unsent, false)
    }

    /// The answer to a unary call, in the same way.
    pub fn answer(bytes: Bytes, rest: Vec<Bytes>, unsent: &Unsent) -> Payload {
        Payload::counted(bytes, rest, unsent, true)
    }

    fn counted(bytes: Bytes, rest: Vec<Bytes>, unsent: &Unsent, is_answer: bool) -> Payload {
        let counted = bytes.len() + rest.iter().map(Bytes::len).sum::<usize>();
        let counter = |cell: &Cell<usize>| cell.set(cell.get() + counted);
        counter(&unsent.connection);
        if is_answer {
            counter(&unsent.answers);
        }
        Payload { bytes, rest, counted, unsent: unsent.clone(), is_answer }
    }

    fn uncount(&mut self, bytes: usize) {
        let counter = |cell: &Cell<usize>| cell.set(cell.get() - bytes);
        self.counted -= bytes;
        counter(&self.unsent.connection);
        if self.is_answer {
            counter(&self.unsent.answers);
        }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.uncount(self.counted);
    }
}

impl Buf for Payload {
    fn remaining(&self) -> usize {
        self.counted
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, mut count: usize) {
        self.uncount(count);
        while count >= self.bytes.len()
            && let Some(next) = self.rest.pop()
        {
            count -= self.bytes.len();
            self.bytes = next;
        }
        self.bytes.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_one_piece_and_counted_until_they_have_left() {
        let unsent = Unsent::default();
        let part = |text: &'static str| Bytes::from_static(text.as_bytes());
        for step in 1..12 {
            let mut payload = Payload::answer(part("ab"), vec![part("ghijk"), part("f"), part("cde")], &unsent);
            let other = Payload::new(part("stream"), Vec::new(), &unsent);
            let mut seen = Vec::new();
            loop {
                let left = 11 - seen.len();
                assert_eq!((payload.remaining(), unsent.bytes(), unsent.answers.get()), (left, left + 6, left));
                if left == 0 {
                    break;
                }
                let mut piece = vec![0; step.min(left)];
                payload.copy_to_slice(&mut piece);
                seen.extend(piece);
            }
            assert_eq!(seen, b"abcdefghijk", "in steps of {step}");
            drop(other);
            drop(Payload::answer(part("dropped"), vec![part("too")], &unsent));
            assert_eq!((unsent.bytes(), unsent.answers.get()), (0, 0));
        }
    }
}
