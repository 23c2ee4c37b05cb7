//! Byte buffers that O_DIRECT accepts: aligned to, and a multiple of, the disk's block.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::limits::BLOCK_BYTES;

/// An owned, initialised byte buffer whose address and length are multiples of [`BLOCK_BYTES`].
pub struct AlignedBuffer {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the buffer is owned plain memory; nothing in it is tied to a thread.
unsafe impl Send for AlignedBuffer {}
// SAFETY: shared access only reads plain memory.
unsafe impl Sync for AlignedBuffer {}

impl AlignedBuffer {
    /// `len` zero bytes; `len` is a positive multiple of [`BLOCK_BYTES`].
    pub fn zeroed(len: usize) -> AlignedBuffer {
        AlignedBuffer { start: AlignedBuffer::allocate(len, alloc_zeroed), len }
    }

    /// `bytes`, followed by zeros up to a whole number of blocks.
    pub fn padded(bytes: &[u8]) -> AlignedBuffer {
        let len = bytes.len().max(1).next_multiple_of(BLOCK_BYTES);
        let start = AlignedBuffer::allocate(len, alloc);
        // SAFETY: new memory of `len` bytes, of which the first are written here and the others zeroed.
        unsafe {
            start.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            start.as_ptr().add(bytes.len()).write_bytes(0, len - bytes.len());
        }
        AlignedBuffer { start, len }
    }

    /// `len` bytes of memory; `how` is `alloc` or `alloc_zeroed`.
    fn allocate(len: usize, how: unsafe fn(Layout) -> *mut u8) -> NonNull<u8> {
        let layout = AlignedBuffer::layout(len);
        // SAFETY: all that either of them asks for is a size above 0.
        let start = unsafe { how(layout) };
        NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout))
    }

    fn layout(len: usize) -> Layout {
        assert!(len > 0 && len.is_multiple_of(BLOCK_BYTES), "a buffer of {len} bytes is not in whole blocks");
        Layout::from_size_align(len, BLOCK_BYTES).expect("a block is a power of two and lengths stay far below isize::MAX")
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        // SAFETY: `start` came from the allocator with this very layout.
        unsafe { dealloc(self.start.as_ptr(), AlignedBuffer::layout(self.len)) }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` points to `len` initialised bytes that live as long as self.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and self is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Clone for AlignedBuffer {
    fn clone(&self) -> AlignedBuffer {
        AlignedBuffer::padded(self)
    }
}

impl std::fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuffer({} bytes)", self.len)
    }
}
