//! The member's directories: what is in them, who holds them, and which files they name.
//!
//! ```text
//!  DATA-DIR/etcring/LOCK             held (flock) while a process uses the directory
//!                   FORMAT           two lines: "etcring 3", then "new", or "started" and the last run that served (decimal)
//!                   BLOCK            4 KiB written through O_DIRECT at each start: the probe's
//!                   group-NNN.pages  the page store of group NNN (decimal)
//!                   wal/             or WAL-DIR, which then has LOCK and BLOCK of its own
//!                     RUN-CORE-SEQUENCE.wal   segments (hexadecimal, 16-4-16 digits)
//! ```
//!
//! Invariants
//! - A directory with an etcd's data in it is left exactly as it was.
//! - `started` is written after the first state batch is on disk and before the first request is served:
//!   in a `new` directory nothing was ever acknowledged, in a `started` one missing files are damage.
//! - Whoever creates, renames or removes a file syncs its directory before he relies on it.

use crate::base::{GroupId, RunNumber};
use crate::pages::{file_name, read_file_name};
use crate::wal::SegmentName;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The version of everything in the directory; another one is refused.
pub const FORMAT_VERSION: u32 = 3;

const OWN_DIR: &str = "etcring";
const WAL_DIR: &str = "wal";
const LOCK_FILE: &str = "LOCK";
const FORMAT_FILE: &str = "FORMAT";
const BLOCK_FILE: &str = "BLOCK";
const FORMAT_WORD: &str = "etcring";
/// More than any FORMAT file of any version.
const FORMAT_BYTES_MAX: u64 = 4096;

/// Why the directory cannot be used.
#[derive(Debug)]
pub enum DataDirError {
    /// It holds an etcd's data.
    Etcd(PathBuf),
    /// Another process holds it.
    Locked(PathBuf),
    /// Its format is of another version.
    UnknownFormat(PathBuf, String),
    /// There is data, but no FORMAT.
    NoFormat(PathBuf),
    /// The operating system says no.
    Io {
        /// What was tried, as in "cannot … PATH".
        what: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// Its answer.
        error: io::Error,
    },
}

impl fmt::Display for DataDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataDirError::Etcd(path) => write!(
                f,
                "{} holds the data of an etcd, which etcring does not read: nothing was changed; \
                 give another --data-dir and --wal-dir, and copy the keys with `etcdctl make-mirror`",
                path.display()
            ),
            DataDirError::Locked(path) => {
                write!(f, "{} is in use by another process: stop that one, or give another --data-dir", path.display())
            }
            DataDirError::UnknownFormat(path, found) => write!(
                f,
                "{} is of the unknown format {found:?}, this etcring knows {FORMAT_VERSION}: start the version of etcring that wrote it",
                path.display()
            ),
            DataDirError::NoFormat(path) => write!(
                f,
                "{} holds data but no FORMAT file: restore the whole directory from a copy, or give another --data-dir",
                path.display()
            ),
            DataDirError::Io { what, path, error } => {
                let advice = match error.raw_os_error() {
                    Some(libc::EACCES | libc::EPERM) => {
                        ": make it writable for the user of this process, or give another directory"
                    }
                    Some(libc::EROFS) => ": the file system is mounted read-only, give a directory on another",
                    Some(libc::ENOSPC | libc::EDQUOT) => ": make space on the file system",
                    Some(libc::ENOTDIR | libc::EEXIST) => ": a file is in the way, give another directory",
                    _ => "",
                };
                write!(f, "cannot {what} {} ({error}){advice}", path.display())
            }
        }
    }
}

impl std::error::Error for DataDirError {}

/// A shorthand for the answers of the operating system.
fn io_error<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> DataDirError + 'a {
    move |error| DataDirError::Io { what, path: path.to_owned(), error }
}

/// How far the life of the directory has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Nothing was ever acknowledged from here; what files there are come from a first start that did not finish.
    New,
    /// A member lives here, and has served in this run last.
    Started(RunNumber),
}

/// A segment file of the write-ahead log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SegmentFile {
    /// Which.
    pub name: SegmentName,
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

/// The page file of a group.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PageFile {
    /// Whose.
    pub group: GroupId,
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

/// What lies in the directories, each list in the order of its names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    /// The log.
    pub segments: Vec<SegmentFile>,
    /// The stores.
    pub pages: Vec<PageFile>,
    /// Files with other names (spare segments, leftovers, a stranger's).
    pub others: Vec<PathBuf>,
}

/// The member's directories, held by this process until dropped.
#[derive(Debug)]
pub struct DataDir {
    paths: Paths,
    stage: Stage,
    _locks: Vec<File>,
}

/// Where things are; without any hold on them (for tools that only read).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paths {
    root: PathBuf,
    wal: PathBuf,
}

impl Paths {
    /// The places for these two flags.
    pub fn new(data_dir: &Path, wal_dir: Option<&Path>) -> Paths {
        let root = data_dir.join(OWN_DIR);
        let wal = wal_dir.map_or_else(|| root.join(WAL_DIR), Path::to_owned);
        Paths { root, wal }
    }

    /// Where the page files are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the segments are.
    pub fn wal(&self) -> &Path {
        &self.wal
    }

    /// The file of a segment.
    pub fn segment(&self, name: SegmentName) -> PathBuf {
        self.wal.join(name.to_string())
    }

    /// The file of a group's pages.
    pub fn pages(&self, group: GroupId) -> PathBuf {
        self.root.join(file_name(group))
    }

    /// A file per directory that `probe_direct_io` may write its block to.
    pub fn blocks(&self) -> [PathBuf; 2] {
        [self.root.join(BLOCK_FILE), self.wal.join(BLOCK_FILE)]
    }

    /// What lies in the directories; an absent one is empty.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn list(&self) -> Result<Listing, DataDirError> {
        let mut listing = Listing::default();
        for (name, path, bytes) in files_in(&self.root)? {
            match read_file_name(&name) {
                Some(group) => listing.pages.push(PageFile { group, path, bytes }),
                None if name == LOCK_FILE || name == FORMAT_FILE || name == BLOCK_FILE => {}
                None => listing.others.push(path),
            }
        }
        for (name, path, bytes) in files_in(&self.wal)? {
            match SegmentName::parse(&name) {
                Some(name) => listing.segments.push(SegmentFile { name, path, bytes }),
                None if name == LOCK_FILE || name == BLOCK_FILE => {}
                None => listing.others.push(path),
            }
        }
        listing.segments.sort();
        listing.pages.sort();
        listing.others.sort();
        Ok(listing)
    }

    /// Makes the names in both directories durable.
    ///
    /// # Errors
    /// A directory cannot be synced.
    pub fn sync(&self) -> Result<(), DataDirError> {
        sync_dir(&self.root)?;
        sync_dir(&self.wal)
    }

    /// The stage that FORMAT tells, `None` without one.
    ///
    /// # Errors
    /// It is of another format, or cannot be read.
    pub fn stage(&self) -> Result<Option<Stage>, DataDirError> {
        let path = format_path(&self.root);
        let mut text = String::new();
        match File::open(&path) {
            Ok(file) => {
                file.take(FORMAT_BYTES_MAX).read_to_string(&mut text).map_err(io_error("read", &path))?;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error("read", &path)(e)),
        }
        let unknown = || DataDirError::UnknownFormat(path.clone(), text.trim_end().chars().take(40).collect());
        parse_format(&text).map(Some).ok_or_else(unknown)
    }

    fn write_format(&self, stage: Stage) -> Result<(), DataDirError> {
        let line = match stage {
            Stage::New => "new".to_owned(),
            Stage::Started(run) => format!("started {run}"),
        };
        let path = format_path(&self.root);
        let temporary = path.with_extension("tmp");
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(format!("{FORMAT_WORD} {FORMAT_VERSION}\n{line}\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        write().map_err(io_error("write", &path))?;
        sync_dir(&self.root)
    }
}

impl DataDir {
    /// Takes the directories for this process, and creates them where they are not there.
    ///
    /// # Errors
    /// They belong to an etcd, to another process, to another version, or to nobody who may write.
    pub fn open(data_dir: &Path, wal_dir: Option<&Path>) -> Result<DataDir, DataDirError> {
        refuse_etcd(data_dir, wal_dir)?;
        let paths = Paths::new(data_dir, wal_dir);
        create_dir(&paths.root)?;
        create_dir(&paths.wal)?;
        let mut locks = vec![lock(&paths.root)?];
        if wal_dir.is_some() {
            locks.push(lock(&paths.wal)?);
        }
        let stage = match paths.stage()? {
            Some(stage) => stage,
            None => {
                let listing = paths.list()?;
                if !listing.segments.is_empty() || !listing.pages.is_empty() {
                    return Err(DataDirError::NoFormat(paths.root));
                }
                paths.write_format(Stage::New)?;
                Stage::New
            }
        };
        Ok(DataDir { paths, stage, _locks: locks })
    }

    /// Where things are.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// How far the life of the directory has come.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// To be called once the first state batch of `run` is on disk, before the first request is served.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn mark_started(&mut self, run: RunNumber) -> Result<(), DataDirError> {
        self.paths.sync()?;
        self.paths.write_format(Stage::Started(run))?;
        self.stage = Stage::Started(run);
        Ok(())
    }
}

/// Lower-case hexadecimal of exactly this width.
fn hex(text: &str, digits: usize) -> Option<u64> {
    let valid = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    valid.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// An etcd's data: `member/` in the data directory, or its segments (two fields of 16 digits) in the WAL directory.
///
/// # Errors
/// It is there.
pub fn refuse_etcd(data_dir: &Path, wal_dir: Option<&Path>) -> Result<(), DataDirError> {
    let member = data_dir.join("member");
    if member.join("snap").exists() || member.join("wal").exists() {
        return Err(DataDirError::Etcd(data_dir.to_owned()));
    }
    let Some(wal) = wal_dir else { return Ok(()) };
    let is_etcds = |name: &str| {
        let fields = name.strip_suffix(".wal").and_then(|n| n.split_once('-'));
        fields.is_some_and(|(a, b)| hex(a, 16).is_some() && hex(b, 16).is_some())
    };
    if files_in(wal)?.iter().any(|(name, _, _)| is_etcds(name)) {
        return Err(DataDirError::Etcd(wal.to_owned()));
    }
    Ok(())
}

/// The regular files of a directory: name, path, length. Names that are not UTF-8 are nobody's of ours.
fn files_in(dir: &Path) -> Result<Vec<(String, PathBuf, u64)>, DataDirError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io_error("list", dir)(e)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io_error("list", dir))?;
        let path = entry.path();
        let metadata = entry.metadata().map_err(io_error("look at", &path))?;
        if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
            files.push((name, path, metadata.len()));
        }
    }
    Ok(files)
}

/// Creates a directory and its parents, for the owner only, and makes each new name durable.
fn create_dir(dir: &Path) -> Result<(), DataDirError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if parent != dir {
        create_dir(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => sync_dir(parent),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(e) => Err(io_error("create", dir)(e)),
    }
}

fn sync_dir(dir: &Path) -> Result<(), DataDirError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(io_error("sync", dir))
}

/// What the text of a FORMAT file says; `None`: it is none of this version's.
pub fn parse_format(text: &str) -> Option<Stage> {
    let mut lines = text.lines();
    if lines.next() != Some(&format!("{FORMAT_WORD} {FORMAT_VERSION}")) {
        return None;
    }
    match (lines.next()?, lines.next()) {
        ("new", None) => Some(Stage::New),
        (line, None) => line.strip_prefix("started ")?.parse().ok().map(|run| Stage::Started(RunNumber(run))),
        _ => None,
    }
}

/// The file that says of which format a directory is.
pub fn format_path(dir: &Path) -> PathBuf {
    dir.join(FORMAT_FILE)
}

/// The file whose lock is that of a directory.
pub fn lock_path(dir: &Path) -> PathBuf {
    dir.join(LOCK_FILE)
}

/// Takes the lock of a directory, which is given back when the file is closed (a killed process too gives it back).
fn lock(dir: &Path) -> Result<File, DataDirError> {
    let path = lock_path(dir);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io_error("write to", &path))?;
    // SAFETY: flock reads nothing but the descriptor, which `file` keeps open.
    let answer = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    if answer == 0 {
        return Ok(file);
    }
    let error = io::Error::last_os_error();
    Err(match error.raw_os_error() {
        Some(libc::EWOULDBLOCK) => DataDirError::Locked(dir.to_owned()),
        _ => io_error("lock", &path)(error),
    })
}

#[cfg(test)]
pub(crate) use tests::TestDir;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{CoreId, SegmentSequence};
    use crate::wal::WalId;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A directory of a test's own, removed at its end.
    pub(crate) struct TestDir(PathBuf);

    impl TestDir {
        pub(crate) fn new(name: &str) -> TestDir {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let dir = std::env::temp_dir().join(format!("etcring-{name}-{}-{count}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            TestDir(dir)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for TestDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_new_directory_becomes_started() {
        let dir = TestDir::new("datadir");
        let data = dir.path().join("a/b/m.etcd");
        let mut opened = DataDir::open(&data, None).unwrap();
        assert_eq!(opened.stage(), Stage::New);
        assert_eq!(opened.paths().list().unwrap(), Listing::default());
        opened.mark_started(RunNumber(7)).unwrap();
        drop(opened);
        let opened = DataDir::open(&data, None).unwrap();
        assert_eq!(opened.stage(), Stage::Started(RunNumber(7)));
        assert_eq!(fs::read_to_string(data.join("etcring/FORMAT")).unwrap(), format!("etcring {FORMAT_VERSION}\nstarted 7\n"));
    }

    #[test]
    fn files_are_listed_by_kind_and_in_order() {
        let dir = TestDir::new("datadir");
        let wal = dir.path().join("wal");
        let opened = DataDir::open(dir.path(), Some(&wal)).unwrap();
        let paths = opened.paths();
        let segment = |run, core, sequence| {
            let wal = WalId { run: RunNumber(run), core: CoreId(core) };
            paths.segment(SegmentName { wal, sequence: SegmentSequence(sequence) })
        };
        for path in [segment(2, 0, 1), segment(1, 1, 9), segment(1, 0, 10), wal.join("x.tmp"), paths.pages(GroupId(1))] {
            fs::write(path, "12345").unwrap();
        }
        fs::create_dir(wal.join("000000000000001f-0003-0000000000000001.wal")).unwrap();
        let listing = paths.list().unwrap();
        let order: Vec<_> =
            listing.segments.iter().map(|s| (s.name.wal.run.0, s.name.wal.core.0, s.name.sequence.0, s.bytes)).collect();
        assert_eq!(order, [(1, 0, 10, 5), (1, 1, 9, 5), (2, 0, 1, 5)]);
        assert_eq!((listing.pages.len(), listing.pages[0].group), (1, GroupId(1)));
        assert_eq!(listing.others, [wal.join("x.tmp")]);
        paths.sync().unwrap();
    }

    #[test]
    fn one_process_holds_a_directory() {
        let dir = TestDir::new("datadir");
        let wal = dir.path().join("wal");
        let held = DataDir::open(&dir.path().join("a"), Some(&wal)).unwrap();
        for data in ["a", "b"] {
            let error = DataDir::open(&dir.path().join(data), Some(&wal)).unwrap_err();
            assert!(matches!(error, DataDirError::Locked(_)), "{error}");
            assert!(error.to_string().contains("in use by another process"));
        }
        drop(held);
        DataDir::open(&dir.path().join("a"), Some(&wal)).unwrap();
    }

    #[test]
    fn an_etcds_data_is_left_as_it_was() {
        for etcds in ["data/member/snap/db", "data/member/wal/x.wal", "wal/0000000000000000-0000000000000000.wal"] {
            let dir = TestDir::new("datadir");
            let file = dir.path().join(etcds);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "etcd").unwrap();
            let error = DataDir::open(&dir.path().join("data"), Some(&dir.path().join("wal"))).unwrap_err();
            assert!(matches!(error, DataDirError::Etcd(_)), "{error}");
            assert!(!dir.path().join("data/etcring").exists());
            assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        }
    }

    #[test]
    fn other_formats_are_refused() {
        for text in [
            "etcring 2\nstarted 1\n",
            "",
            "etcring 3\n",
            "etcring 3\nstarted 1\nx\n",
            "etcring 3\nstarted x\n",
            "etcring 30\nnew\n",
        ] {
            let dir = TestDir::new("datadir");
            fs::create_dir(dir.path().join("etcring")).unwrap();
            fs::write(dir.path().join("etcring/FORMAT"), text).unwrap();
            let error = DataDir::open(dir.path(), None).unwrap_err();
            assert!(matches!(error, DataDirError::UnknownFormat(..)), "{text:?}: {error}");
        }
    }

    #[test]
    fn data_without_a_format_is_refused() {
        let dir = TestDir::new("datadir");
        fs::create_dir(dir.path().join("etcring")).unwrap();
        fs::write(dir.path().join("etcring/group-001.pages"), "").unwrap();
        assert!(matches!(DataDir::open(dir.path(), None).unwrap_err(), DataDirError::NoFormat(_)));
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let dir = TestDir::new("datadir");
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = DataDir::open(&file, None).unwrap_err().to_string();
        assert!(error.contains("cannot create") && error.contains("a file is in the way"), "{error}");
        let error = DataDir::open(Path::new("/proc/nowhere"), None).unwrap_err().to_string();
        assert!(error.contains("/proc/nowhere"), "{error}");
    }
}
