//! Files past the page cache: whole blocks at block offsets.

use std::future::Future;
use std::io;
use std::path::Path;

use crate::base::AlignedBuffer;

/// When the bytes of a write are on the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// What [`File::write_durably`] writes: when it ends (O_DIRECT and O_DSYNC; the WAL). All else as below.
    EachWrite,
    /// After [`File::sync`] (O_DIRECT; pages).
    OnRequest,
}

/// What may be there before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// The file is there, or opening fails with `NotFound`.
    Existing,
    /// The file is there, and nothing will be written.
    ReadOnly,
    /// The file is made; `AlreadyExists` when it is there.
    New,
}

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Open {
    /// What may be there before.
    pub mode: OpenMode,
    /// When writes are durable.
    pub durability: Durability,
}

/// One thing in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectoryEntry {
    /// Its name; what is not UTF-8 is not listed (no file of ours is).
    pub name: String,
    /// Its length; 0 for a directory.
    pub bytes: u64,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// An open file. Offsets and lengths are multiples of [`crate::base::limits::BLOCK_BYTES`], buffers are as aligned as
/// [`AlignedBuffer`] is. Operations may overlap in time; two that must be in order need an await between them.
pub trait File: 'static {
    /// Exactly `bytes` bytes from `offset`; `UnexpectedEof` when the file ends before.
    fn read_at(&self, offset: u64, bytes: usize) -> impl Future<Output = io::Result<AlignedBuffer>>;

    /// Writes all of `parts`, one behind the other, at `offset`. When it fails, any part may have been written. The runtime copies the
    /// bytes to memory of its own before it returns the first time: what a dropped future has begun goes on.
    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> impl Future<Output = io::Result<()>>;

    /// Writes the first `bytes` bytes of `buffer` at `offset` of a file opened with [`Durability::EachWrite`], and gives the buffer back
    /// when they are on the device, or it failed. When it fails, any part may have been written.
    fn write_durably(
        &self,
        offset: u64,
        buffer: AlignedBuffer,
        bytes: usize,
    ) -> impl Future<Output = (AlignedBuffer, io::Result<()>)>;

    /// Brings every write that has ended to the device (fdatasync).
    fn sync(&self) -> impl Future<Output = io::Result<()>>;

    /// Reserves space for the first `bytes` bytes and makes the file at least that long; `StorageFull` when there is none.
    fn allocate(&self, bytes: u64) -> impl Future<Output = io::Result<()>>;

    /// Writes zeros from `from` up to `to`, in slices that let other work through.
    fn fill_zeros(&self, from: u64, to: u64) -> impl Future<Output = io::Result<()>>;

    /// Cuts or extends the file (ftruncate).
    fn set_length(&self, bytes: u64) -> impl Future<Output = io::Result<()>>;

    /// The file's length in bytes.
    fn length(&self) -> impl Future<Output = io::Result<u64>>;

    /// Closes it; dropping does so too, without telling when.
    fn close(self) -> impl Future<Output = io::Result<()>>
    where
        Self: Sized;
}

/// The file system.
pub trait Disk: Clone + 'static {
    /// Its open files.
    type File: File;

    /// Opens or makes a file.
    fn open(&self, path: &Path, how: Open) -> impl Future<Output = io::Result<Self::File>>;

    /// Removes a file's name.
    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// Gives a file another name, in place of whatever had it.
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>>;

    /// Makes a directory and those above it; no error when it is there.
    fn create_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// Makes names made, changed and removed in a directory durable (fsync of the directory).
    fn sync_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// What is in a directory, sorted by name.
    fn list(&self, path: &Path) -> impl Future<Output = io::Result<Vec<DirectoryEntry>>>;
}
