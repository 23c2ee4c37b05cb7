//! Files through io_uring past the page cache.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glommio::io::{Directory, DmaFile, OpenOptions};

use super::Executor;
use crate::base::AlignedBuffer;
use crate::base::limits::{BLOCK_BYTES, FILL_SLICE_BYTES};
use crate::io::{DirectoryEntry, Disk, Durability, File, Open, OpenMode, Tasks};

/// An open file: O_DIRECT.
pub struct DiskFile {
    file: DmaFile,
    executor: Executor,
    /// The same file with O_DSYNC, for what is to be durable when its write ends.
    durable: Option<Arc<std::fs::File>>,
}

thread_local! {
    /// The devices whose probe for polled I/O has been made on this thread.
    static PROBED: RefCell<HashSet<u64>> = RefCell::default();
}

impl Disk for Executor {
    type File = DiskFile;

    async fn open(&self, path: &Path, how: Open) -> io::Result<DiskFile> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        if how.mode != OpenMode::ReadOnly {
            probe(path).await?;
            options.write(true).create_new(how.mode == OpenMode::New);
        }
        let file = options.dma_open(path).await.map_err(io::Error::from)?;
        let durable = (how.mode != OpenMode::ReadOnly && how.durability == Durability::EachWrite)
            .then(|| std::fs::File::options().write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC).open(path).map(Arc::new))
            .transpose()?;
        Ok(DiskFile { file, executor: self.clone(), durable })
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        Ok(glommio::io::remove(path).await?)
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(glommio::io::rename(from, to).await?)
    }

    async fn create_directory(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        glommio::executor().spawn_blocking(move || std::fs::create_dir_all(path)).await
    }

    async fn sync_directory(&self, path: &Path) -> io::Result<()> {
        // Glommio opens directories by absolute paths only.
        let directory = Directory::open(std::path::absolute(path)?).await?;
        directory.sync().await?;
        Ok(directory.close().await?)
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let path = path.to_owned();
        glommio::executor().spawn_blocking(move || list(&path)).await
    }
}

fn list(path: &Path) -> io::Result<Vec<DirectoryEntry>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_directory = metadata.is_dir();
        entries.push(DirectoryEntry { name, bytes: if is_directory { 0 } else { metadata.len() }, is_directory });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Lets glommio probe the device under `path` for polled I/O on a file that holds a block: on an empty one the probe succeeds whatever
/// the device can, and all that is read from it later on this thread fails with EOPNOTSUPP.
async fn probe(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let number = std::fs::metadata(directory)?.dev();
    if PROBED.with_borrow(|probed| probed.contains(&number)) {
        return Ok(());
    }
    let probe = Probe::create(directory)?;
    let file = OpenOptions::new().read(true).dma_open(&probe.path).await.map_err(io::Error::from)?;
    let read = file.read_at_aligned(0, BLOCK_BYTES).await.map_err(io::Error::from)?.len();
    file.close().await.map_err(io::Error::from)?;
    if read != BLOCK_BYTES {
        return Err(io::Error::new(
            ErrorKind::UnexpectedEof,
            format!("a block written to {} cannot be read", directory.display()),
        ));
    }
    PROBED.with_borrow_mut(|probed| probed.insert(number));
    Ok(())
}

/// A file of one block; removed when dropped.
struct Probe {
    path: PathBuf,
}

impl Probe {
    fn create(directory: &Path) -> io::Result<Probe> {
        let thread = glommio::executor().id();
        let path = directory.join(format!(".probe-{}-{thread}", std::process::id()));
        let mut file = std::fs::File::create(&path)?;
        let probe = Probe { path };
        file.write_all(&[0x5A; BLOCK_BYTES])?;
        file.sync_all()?;
        Ok(probe)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // What is left behind is a hidden file of one block that the next probe of the same name overwrites.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl DiskFile {
    /// Writes `bytes` bytes at `offset`; `fill` gives what comes from so many of them on.
    async fn write(&self, offset: u64, bytes: usize, fill: impl Fn(usize, &mut [u8])) -> io::Result<()> {
        assert!(offset.is_multiple_of(BLOCK_BYTES as u64), "a write at {offset} is not on a block");
        assert!(bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES), "a write of {bytes} bytes is not in whole blocks");
        let mut done = 0;
        while done < bytes {
            let mut buffer = self.file.alloc_dma_buffer(bytes - done);
            fill(done, buffer.as_bytes_mut());
            let written = self.file.write_at(buffer, offset + done as u64).await.map_err(io::Error::from)?;
            // A write may end early when space runs out: the next one then says so. What is not in blocks is written again.
            let whole = written / BLOCK_BYTES * BLOCK_BYTES;
            if whole == 0 {
                let kind = if written == 0 { ErrorKind::WriteZero } else { ErrorKind::StorageFull };
                return Err(io::Error::new(kind, format!("a write of {bytes} bytes ended after {}", done + written)));
            }
            done += whole;
        }
        Ok(())
    }
}

/// Copies what `parts` hold behind their first `skipped` bytes.
fn join(parts: &[&[u8]], mut skipped: usize, mut into: &mut [u8]) {
    for part in parts {
        let (gone, part) = part.split_at(skipped.min(part.len()));
        skipped -= gone.len();
        let (here, rest) = into.split_at_mut(part.len());
        here.copy_from_slice(part);
        into = rest;
    }
}

impl File for DiskFile {
    async fn read_at(&self, offset: u64, bytes: usize) -> io::Result<AlignedBuffer> {
        assert!(offset.is_multiple_of(BLOCK_BYTES as u64), "a read at {offset} is not on a block");
        let mut buffer = AlignedBuffer::zeroed(bytes);
        let mut done = 0;
        while done < bytes {
            let read = self.file.read_at_aligned(offset + done as u64, bytes - done).await.map_err(io::Error::from)?;
            let whole = if done + read.len() >= bytes { read.len() } else { read.len() / BLOCK_BYTES * BLOCK_BYTES };
            if whole == 0 {
                return Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    format!("the file ends {} bytes into a read", done + read.len()),
                ));
            }
            buffer[done..done + whole].copy_from_slice(&read[..whole]);
            done += whole;
        }
        Ok(buffer)
    }

    async fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let bytes = parts.iter().map(|part| part.len()).sum();
        self.write(offset, bytes, |from, into| join(parts, from, into)).await
    }

    async fn write_durably(&self, offset: u64, buffer: AlignedBuffer, bytes: usize) -> (AlignedBuffer, io::Result<()>) {
        let file = self.durable.clone().expect("a file whose writes are to be durable was opened for that");
        // In one system call on a thread that waits for it. On io_uring it would be a write, a wake, a fdatasync that io_uring hands to
        // a thread of its own, and a wake; or with O_DSYNC, a flush by a kworker, which waits for its turn when the CPUs are busy.
        let write = move || {
            let written = file.write_all_at(&buffer[..bytes], offset);
            (buffer, written)
        };
        glommio::executor().spawn_blocking(write).await
    }

    async fn sync(&self) -> io::Result<()> {
        Ok(self.file.fdatasync().await?)
    }

    async fn allocate(&self, bytes: u64) -> io::Result<()> {
        Ok(self.file.pre_allocate(bytes, false).await?)
    }

    async fn fill_zeros(&self, from: u64, to: u64) -> io::Result<()> {
        let mut at = from;
        while at < to {
            let bytes = (to - at).min(FILL_SLICE_BYTES as u64);
            self.write(at, bytes as usize, |_, into| into.fill(0)).await?;
            at += bytes;
            self.executor.yield_now().await;
        }
        Ok(())
    }

    async fn set_length(&self, bytes: u64) -> io::Result<()> {
        Ok(self.file.truncate(bytes).await?)
    }

    async fn length(&self) -> io::Result<u64> {
        Ok(self.file.file_size().await?)
    }

    async fn close(self) -> io::Result<()> {
        Ok(self.file.close().await?)
    }
}

#[cfg(test)]
#[path = "disk_test.rs"]
mod tests;
