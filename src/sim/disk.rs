//! A disk in memory that does to unsynced blocks what a power failure may: keep, lose or tear them, each on its own.
//!
//! ```text
//!  written ──▶ visible, and (for files that are synced on request) unsynced ──sync──▶ durable
//!  names made, changed, removed ──▶ visible, noted in the directory's journal ──directory sync──▶ durable
//!  crash: the journal holds up to a random entry; each unsynced block is the new one, the old one, or sectors of both
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::Prng;
use crate::base::limits::BLOCK_BYTES;
use crate::server::datadir::{DataDirError, Listing, PageFile, Paths, SegmentFile};
use crate::server::recover::Files;
use crate::wal::SegmentName;

/// What a device writes whole.
const SECTOR_BYTES: usize = 512;

type Block = Box<[u8]>;

/// A file; what is not in `blocks` reads as zeros.
#[derive(Clone, Default)]
struct SimFile {
    blocks: BTreeMap<u64, Block>,
    bytes: u64,
    /// What each block written since the last sync was at that sync.
    unsynced: BTreeMap<u64, Option<Block>>,
    synced_bytes: u64,
}

#[derive(Clone)]
enum NameChange {
    Made(PathBuf, u64),
    Renamed(PathBuf, PathBuf),
    Removed(PathBuf),
}

/// The files of one member.
#[derive(Clone, Default)]
pub struct SimDisk {
    files: BTreeMap<u64, SimFile>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    journals: BTreeMap<PathBuf, Vec<NameChange>>,
    next: u64,
    /// There is no space for anything new.
    pub is_full: bool,
    /// What is written goes to another place than what it replaces: a full disk may refuse to write what it has reserved.
    pub copies: bool,
}

impl SimFile {
    fn write(&mut self, offset: u64, bytes: &[u8], durable: bool) {
        for (place, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
            let at = offset / BLOCK_BYTES as u64 + place as u64;
            let old = self.blocks.insert(at, block.into());
            if durable {
                self.unsynced.remove(&at);
            } else {
                self.unsynced.entry(at).or_insert(old);
            }
        }
        self.bytes = self.bytes.max(offset + bytes.len() as u64);
        if durable {
            self.synced_bytes = self.synced_bytes.max(self.bytes);
        }
    }

    fn set_length(&mut self, bytes: u64) {
        let gone = self.blocks.split_off(&bytes.div_ceil(BLOCK_BYTES as u64));
        for (at, block) in gone {
            self.unsynced.entry(at).or_insert(Some(block));
        }
        self.bytes = bytes;
    }

    fn sync(&mut self) {
        self.unsynced.clear();
        self.synced_bytes = self.bytes;
    }

    fn crash(&mut self, rng: &mut Prng) {
        let cut_is_lost = self.bytes < self.synced_bytes && rng.chance(1, 2);
        for (at, old) in std::mem::take(&mut self.unsynced) {
            let beyond = at >= self.bytes.div_ceil(BLOCK_BYTES as u64);
            if beyond {
                if cut_is_lost && let Some(old) = old {
                    self.blocks.insert(at, old);
                }
                continue;
            }
            let fate = rng.below(3);
            if fate == 0 {
                continue;
            }
            let old = old.unwrap_or_else(|| vec![0; BLOCK_BYTES].into());
            let Some(block) = self.blocks.get_mut(&at) else { continue };
            for sector in (0..BLOCK_BYTES).step_by(SECTOR_BYTES) {
                if fate == 1 || rng.chance(1, 2) {
                    block[sector..sector + SECTOR_BYTES].copy_from_slice(&old[sector..sector + SECTOR_BYTES]);
                }
            }
        }
        if cut_is_lost {
            self.bytes = self.synced_bytes;
        } else if self.bytes > self.synced_bytes && rng.chance(1, 4) {
            self.bytes = self.synced_bytes;
            self.blocks.split_off(&self.bytes.div_ceil(BLOCK_BYTES as u64));
        }
        self.synced_bytes = self.bytes;
    }
}

impl SimDisk {
    fn folder(path: &Path) -> PathBuf {
        path.parent().expect("every file is in a folder").to_path_buf()
    }

    fn note(&mut self, path: &Path, change: NameChange) {
        self.journals.entry(SimDisk::folder(path)).or_default().push(change);
    }

    /// Makes an empty file; nothing when it is there.
    pub fn make(&mut self, path: &Path) {
        if self.names.contains_key(path) {
            return;
        }
        self.next += 1;
        self.files.insert(self.next, SimFile::default());
        self.names.insert(path.to_path_buf(), self.next);
        self.note(path, NameChange::Made(path.to_path_buf(), self.next));
    }

    /// Gives a file another name, in place of whatever had it.
    pub fn rename(&mut self, from: &Path, to: &Path) {
        let file = self.names.remove(from).expect("a file that is renamed is there");
        self.names.insert(to.to_path_buf(), file);
        self.note(to, NameChange::Renamed(from.to_path_buf(), to.to_path_buf()));
    }

    /// Removes a name.
    pub fn remove(&mut self, path: &Path) {
        if self.names.remove(path).is_some() {
            self.note(path, NameChange::Removed(path.to_path_buf()));
        }
    }

    /// Makes the names in a folder durable.
    pub fn sync_folder(&mut self, folder: &Path) {
        for change in self.journals.remove(folder).unwrap_or_default() {
            apply(&mut self.durable_names, change);
        }
    }

    fn file(&mut self, path: &Path) -> &mut SimFile {
        let id = self.names.get(path).unwrap_or_else(|| panic!("{} is written to and not there", path.display()));
        self.files.get_mut(id).expect("a name is a file's")
    }

    /// Writes whole blocks; `durable`: they are on the device when this returns.
    pub fn write(&mut self, path: &Path, offset: u64, bytes: &[u8], durable: bool) {
        self.file(path).write(offset, bytes, durable);
    }

    /// Makes all that was written to a file durable.
    pub fn sync(&mut self, path: &Path) {
        self.file(path).sync();
    }

    /// Cuts or extends a file.
    pub fn set_length(&mut self, path: &Path, bytes: u64) {
        self.file(path).set_length(bytes);
    }

    /// Makes a file at least so long, durably.
    pub fn allocate(&mut self, path: &Path, bytes: u64) {
        let file = self.file(path);
        file.bytes = file.bytes.max(bytes);
        file.synced_bytes = file.bytes;
    }

    /// Some sectors of a write that was under way got there.
    pub fn write_torn(&mut self, path: &Path, offset: u64, bytes: &[u8], rng: &mut Prng) {
        for (place, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
            if rng.chance(1, 4) {
                continue;
            }
            let whole = rng.chance(1, 2);
            let at = offset + (place * BLOCK_BYTES) as u64;
            let mut now = vec![0; BLOCK_BYTES];
            self.read_some(path, &mut now, at);
            for sector in (0..BLOCK_BYTES).step_by(SECTOR_BYTES) {
                if whole || rng.chance(1, 2) {
                    now[sector..sector + SECTOR_BYTES].copy_from_slice(&block[sector..sector + SECTOR_BYTES]);
                }
            }
            self.file(path).write(at, &now, true);
        }
    }

    /// Power fails.
    pub fn crash(&mut self, rng: &mut Prng) {
        for (_, changes) in std::mem::take(&mut self.journals) {
            let kept = rng.below(changes.len() as u64 + 1) as usize;
            for change in changes.into_iter().take(kept) {
                apply(&mut self.durable_names, change);
            }
        }
        self.names = self.durable_names.clone();
        let named: Vec<u64> = self.names.values().copied().collect();
        self.files.retain(|id, _| named.contains(id));
        for file in self.files.values_mut() {
            file.crash(rng);
        }
    }

    /// A bit of a block turns over.
    pub fn spoil(&mut self, path: &Path, at: u64) {
        if !self.names.contains_key(path) {
            return;
        }
        let block = at / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        let mut bytes = vec![0; BLOCK_BYTES];
        self.read_some(path, &mut bytes, block);
        bytes[(at - block) as usize] ^= 1;
        self.write(path, block, &bytes, true);
    }

    fn read_some(&mut self, path: &Path, bytes: &mut [u8], offset: u64) {
        self.file(path).read(bytes, offset);
    }

    /// Reads whole blocks.
    ///
    /// # Errors
    /// The file is not there, or ends before.
    pub fn read(&self, path: &Path, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let id = self.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        let file = &self.files[id];
        if offset + bytes.len() as u64 > file.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.read(bytes, offset);
        Ok(())
    }

    /// The segments, oldest run first.
    pub fn segments(&self) -> Vec<SegmentName> {
        let names = self.names.keys().filter_map(|path| path.file_name());
        let mut names: Vec<SegmentName> = names.filter_map(|name| SegmentName::parse(&name.to_string_lossy())).collect();
        names.sort();
        names
    }

    /// How many bytes the segments and the page files take.
    pub fn used(&self) -> (u64, u64) {
        let (mut wal, mut pages) = (0, 0);
        for (path, id) in &self.names {
            let bytes = self.files[id].bytes;
            let is_segment = path.extension().is_some_and(|e| e == "wal");
            *(if is_segment { &mut wal } else { &mut pages }) += bytes;
        }
        (wal, pages)
    }
}

impl SimFile {
    fn read(&self, bytes: &mut [u8], offset: u64) {
        let mut at = offset;
        for part in bytes.chunks_mut(BLOCK_BYTES) {
            match self.blocks.get(&(at / BLOCK_BYTES as u64)) {
                Some(block) => part.copy_from_slice(&block[..part.len()]),
                None => part.fill(0),
            }
            at += part.len() as u64;
        }
    }
}

fn apply(names: &mut BTreeMap<PathBuf, u64>, change: NameChange) {
    match change {
        NameChange::Made(path, file) => {
            names.insert(path, file);
        }
        NameChange::Renamed(from, to) => {
            if let Some(file) = names.remove(&from) {
                names.insert(to, file);
            }
        }
        NameChange::Removed(path) => {
            names.remove(&path);
        }
    }
}

impl Files for SimDisk {
    fn list(&self, _: &Paths) -> Result<Listing, DataDirError> {
        let mut listing = Listing::default();
        for (path, id) in &self.names {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let (path, bytes) = (path.clone(), self.files[id].bytes);
            if let Some(group) = crate::pages::read_file_name(&name) {
                listing.pages.push(PageFile { group, path, bytes });
            } else if let Some(name) = SegmentName::parse(&name) {
                listing.segments.push(SegmentFile { name, path, bytes });
            }
        }
        listing.segments.sort();
        listing.pages.sort();
        Ok(listing)
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        let id = self.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.files[id].bytes)
    }

    fn read(&self, path: &Path, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        SimDisk::read(self, path, bytes, offset)
    }
}
