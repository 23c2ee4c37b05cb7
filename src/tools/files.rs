//! Files as read-only maps, and a member's directories held against a start while they are read.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::base::{GroupId, RunNumber};
use crate::inspect::check::{Files, Place};
use crate::server::datadir::{self, DataDirError, Paths, Stage};
use crate::wal::SegmentName;

/// Maps a file for reading.
///
/// # Errors
/// Why not, in words.
pub fn map(path: &Path) -> Result<Mmap, String> {
    let cannot = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let file = File::open(path).map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    // SAFETY: the bytes are only read, as u8, for which every value is valid. Whoever cuts the file meanwhile ends this process
    // with SIGBUS; a member's files are held by their directory's lock.
    unsafe { Mmap::map(&file) }.map_err(cannot)
}

/// A member's files, with its directories' locks shared.
pub struct MemberFiles {
    paths: Paths,
    stage: Result<Stage, String>,
    segments: Vec<SegmentName>,
    groups: Vec<GroupId>,
    others: Vec<PathBuf>,
    _locks: Vec<File>,
}

impl MemberFiles {
    /// The files in these directories, if no member uses them.
    ///
    /// # Errors
    /// They are in use, or not those of an etcring that this one knows; in words.
    pub fn open(data_dir: &Path, wal_dir: Option<&Path>) -> Result<MemberFiles, String> {
        let say = |error: DataDirError| error.to_string();
        datadir::refuse_etcd(data_dir, wal_dir).map_err(say)?;
        let paths = Paths::new(data_dir, wal_dir);
        if !paths.root().is_dir() {
            let what =
                if data_dir.is_dir() { "holds no etcring directory: it is not a data directory" } else { "is no directory" };
            return Err(format!("{} {what}", data_dir.display()));
        }
        if wal_dir.is_some_and(|dir| !dir.is_dir()) {
            return Err(format!("{} is no directory", paths.wal().display()));
        }
        let mut locks = vec![share_lock(paths.root())?];
        if wal_dir.is_some() {
            locks.push(share_lock(paths.wal())?);
        }
        let listing = paths.list().map_err(say)?;
        let stage = match paths.stage() {
            Ok(Some(stage)) => Ok(stage),
            Ok(None) if listing.segments.is_empty() && listing.pages.is_empty() => {
                return Err(format!("{} holds no files of a member", data_dir.display()));
            }
            Ok(None) => Err("the file is missing, though there is data: no member starts here".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        Ok(MemberFiles {
            stage,
            segments: listing.segments.into_iter().map(|segment| segment.name).collect(),
            groups: listing.pages.into_iter().map(|file| file.group).collect(),
            others: listing.others,
            _locks: locks.into_iter().flatten().collect(),
            paths,
        })
    }

    /// Whether nothing was ever acknowledged from here.
    pub fn is_new(&self) -> bool {
        self.stage == Ok(Stage::New)
    }

    /// Files that are nobody's.
    pub fn others(&self) -> &[PathBuf] {
        &self.others
    }

    /// What a place is called in the file system.
    pub fn path(&self, place: Place) -> PathBuf {
        match place {
            Place::Member => self.paths.root().to_owned(),
            Place::Format => datadir::format_path(self.paths.root()),
            Place::Pages(group) => self.paths.pages(group),
            Place::Wal => self.paths.wal().to_owned(),
            Place::Segment(name) => self.paths.segment(name),
        }
    }
}

impl Files for MemberFiles {
    type Bytes = Mmap;

    fn last_run(&self) -> Result<Option<RunNumber>, String> {
        self.stage.clone().map(|stage| match stage {
            Stage::New => None,
            Stage::Started(run) => Some(run),
        })
    }

    fn segments(&self) -> &[SegmentName] {
        &self.segments
    }

    fn groups(&self) -> &[GroupId] {
        &self.groups
    }

    fn segment(&self, name: SegmentName) -> Result<Mmap, String> {
        map(&self.paths.segment(name))
    }

    fn pages(&self, group: GroupId) -> Result<Mmap, String> {
        map(&self.paths.pages(group))
    }
}

/// Shares the lock of a directory, so that no member starts on it; a copy of a directory may have no lock file.
fn share_lock(dir: &Path) -> Result<Option<File>, String> {
    let path = datadir::lock_path(dir);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    // SAFETY: flock reads nothing but the descriptor, which `file` keeps open.
    let answer = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) };
    if answer == 0 {
        return Ok(Some(file));
    }
    let error = io::Error::last_os_error();
    Err(match error.raw_os_error() {
        Some(libc::EWOULDBLOCK) => format!(
            "a member is running on {}: stop it first (SIGTERM), or check a copy of the directory that was made while it was stopped",
            dir.display()
        ),
        _ => format!("cannot lock {}: {error}", path.display()),
    })
}
