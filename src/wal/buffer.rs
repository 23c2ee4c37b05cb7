//! The buffer that records are encoded into: room for the header in front, grown by doubling.

use crate::base::AlignedBuffer;
use crate::base::limits::{BLOCK_BYTES, WAL_BUFFER_BYTES_MIN, WAL_BUFFER_KEPT_BYTES_MAX, WAL_BUFFERS_KEPT};

use super::header::{BatchHeader, HEADER_BYTES};

/// A batch that is being filled: header space, then records.
///
/// Invariant: `HEADER_BYTES <= len <= buffer.len()`. What lies behind `len` is arbitrary until `seal` clears it.
#[derive(Debug)]
pub(super) struct BatchBuffer {
    buffer: AlignedBuffer,
    len: usize,
}

impl BatchBuffer {
    pub(super) fn new(pool: &mut BufferPool) -> BatchBuffer {
        BatchBuffer { buffer: pool.take(), len: HEADER_BYTES }
    }

    /// Header and records.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What it takes in a segment.
    pub(super) fn padded_len(&self) -> usize {
        self.len.next_multiple_of(BLOCK_BYTES)
    }

    #[inline]
    pub(super) fn put(&mut self, fields: &[u8], payload: &[u8]) {
        let end = self.len + fields.len() + payload.len();
        if end > self.buffer.len() {
            self.grow(end);
        }
        let middle = self.len + fields.len();
        self.buffer[self.len..middle].copy_from_slice(fields);
        self.buffer[middle..end].copy_from_slice(payload);
        self.len = end;
    }

    #[cold]
    fn grow(&mut self, bytes: usize) {
        let mut larger = AlignedBuffer::zeroed(bytes.next_power_of_two().max(BLOCK_BYTES));
        larger[..self.len].copy_from_slice(&self.buffer[..self.len]);
        self.buffer = larger;
    }

    /// Completes the batch: `header`'s bytes and payload crc are set here. Returns the buffer, the bytes to write, and the
    /// header's crc.
    pub(super) fn seal(mut self, mut header: BatchHeader) -> (AlignedBuffer, usize, u32) {
        let padded = self.padded_len();
        assert!(padded <= self.buffer.len(), "a buffer is in whole blocks");
        self.buffer[self.len..padded].fill(0);
        header.bytes = u32::try_from(self.len).expect("a batch is shorter than 4 GiB");
        header.payload_crc = crc32fast::hash(&self.buffer[HEADER_BYTES..padded]);
        let head = self.buffer.first_chunk_mut().expect("a buffer begins with space for the header");
        let crc = header.encode(head);
        (self.buffer, padded, crc)
    }
}

/// Buffers that were written and wait for the next batch.
#[derive(Debug, Default)]
pub(super) struct BufferPool {
    free: Vec<AlignedBuffer>,
}

impl BufferPool {
    fn take(&mut self) -> AlignedBuffer {
        self.free.pop().unwrap_or_else(|| AlignedBuffer::zeroed(WAL_BUFFER_BYTES_MIN))
    }

    pub(super) fn give(&mut self, buffer: AlignedBuffer) {
        if self.free.len() < WAL_BUFFERS_KEPT && buffer.len() <= WAL_BUFFER_KEPT_BYTES_MAX {
            self.free.push(buffer);
        }
    }
}

const _: () = assert!(WAL_BUFFER_BYTES_MIN.is_multiple_of(BLOCK_BYTES) && WAL_BUFFER_BYTES_MIN > HEADER_BYTES);
