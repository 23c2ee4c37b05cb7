//! What is given to h2 to send, counted until it has left.

use std::cell::Cell;
use std::rc::Rc;

use bytes::{Buf, Bytes};

/// Bytes on their way to the socket; the connection's counter of unsent bytes holds them until they are dropped.
pub(super) struct Payload {
    bytes: Bytes,
    /// What comes behind `bytes`, the last part first; none is empty.
    rest: Vec<Bytes>,
    counted: usize,
    unsent: Rc<Cell<usize>>,
}

impl Payload {
    /// `rest`: what comes behind `bytes`, the last part first; none of them empty unless all are.
    pub fn new(bytes: Bytes, rest: Vec<Bytes>, unsent: &Rc<Cell<usize>>) -> Payload {
        let counted = bytes.len() + rest.iter().map(Bytes::len).sum::<usize>();
        unsent.set(unsent.get() + counted);
        Payload { bytes, rest, counted, unsent: unsent.clone() }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.unsent.set(self.unsent.get() - self.counted);
    }
}

impl Buf for Payload {
    fn remaining(&self) -> usize {
        self.bytes.remaining() + self.rest.iter().map(Bytes::len).sum::<usize>()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, mut count: usize) {
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
    fn parts_are_one_piece() {
        let unsent = Rc::new(Cell::new(7));
        let part = |text: &'static str| Bytes::from_static(text.as_bytes());
        for step in 1..12 {
            let mut payload = Payload::new(part("ab"), vec![part("ghijk"), part("f"), part("cde")], &unsent);
            assert_eq!((payload.remaining(), unsent.get()), (11, 18));
            let mut seen = Vec::new();
            while payload.has_remaining() {
                let count = step.min(payload.remaining());
                let mut piece = vec![0; count];
                payload.copy_to_slice(&mut piece);
                seen.extend(piece);
            }
            assert_eq!(seen, b"abcdefghijk", "in steps of {step}");
            drop(payload);
            assert_eq!(unsent.get(), 7);
        }
    }
}
