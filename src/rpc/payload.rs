//! What is given to h2 to send, counted until it has left.

use std::cell::Cell;
use std::rc::Rc;

use bytes::{Buf, Bytes};

/// Bytes on their way to the socket; the connection's counter of unsent bytes holds them until they are dropped.
pub(super) struct Payload {
    bytes: Bytes,
    counted: usize,
    unsent: Rc<Cell<usize>>,
}

impl Payload {
    pub fn new(bytes: Bytes, unsent: &Rc<Cell<usize>>) -> Payload {
        unsent.set(unsent.get() + bytes.len());
        Payload { counted: bytes.len(), bytes, unsent: unsent.clone() }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.unsent.set(self.unsent.get() - self.counted);
    }
}

impl Buf for Payload {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}
