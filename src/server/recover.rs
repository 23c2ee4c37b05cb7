//! What the data directory holds, read once before any core starts: checkpoints, WALs, and what they make of each group.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::base::limits::PAGE_BYTES;
use crate::base::mutant::{self, Mutant};
use crate::base::{AlignedBuffer, ClusterId, GroupId, Index, Instant, MemberId, Revision, RunNumber, Term};
use crate::group::{Machine, Note, Replica};
use crate::mvcc::Mvcc;
use crate::pages::{Options, Store, What};
use crate::raft::{Configuration, Log, Position, Replication, Start};
use crate::state::{MetaLoadError, MetaState, Payload};
use crate::wal::{self, Checkpoint, Damage, Recovered, RecoveredGroup, Recovery, RecoveryOptions, missing_revision};

use super::datadir::{DataDirError, Listing, Paths};

/// The member's files, as recovery reads them: those of the system, or a simulator's.
pub trait Files {
    /// What lies in the member's directories.
    ///
    /// # Errors
    /// A directory cannot be read.
    fn list(&self, paths: &Paths) -> Result<Listing, DataDirError>;

    /// The length of a file; `NotFound` when it is not there.
    ///
    /// # Errors
    /// The operating system's.
    fn length(&self, path: &Path) -> io::Result<u64>;

    /// Reads all of `bytes` from `offset`.
    ///
    /// # Errors
    /// The operating system's; `UnexpectedEof` when the file ends before.
    fn read(&self, path: &Path, bytes: &mut [u8], offset: u64) -> io::Result<()>;
}

/// The system's files.
#[derive(Clone, Copy, Debug)]
pub struct SystemFiles;

impl Files for SystemFiles {
    fn list(&self, paths: &Paths) -> Result<Listing, DataDirError> {
        paths.list()
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(std::fs::metadata(path)?.len())
    }

    fn read(&self, path: &Path, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        File::open(path)?.read_exact_at(bytes, offset)
    }
}

/// Why a member does not start.
#[derive(Debug)]
pub enum RecoverError {
    /// The operating system says no.
    Io {
        /// With which file.
        path: PathBuf,
        /// Its answer.
        error: io::Error,
    },
    /// A page file is damaged.
    Pages {
        /// Which.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// The WAL is damaged.
    Wal(PathBuf, Damage),
    /// There is no such file, though the member has served from this directory.
    Missing(PathBuf),
    /// Files that do not belong together.
    Mismatch(String),
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoverError::Io { path, error } => write!(f, "cannot read {}: {error}", path.display()),
            RecoverError::Pages { path, what } => write!(f, "page file {} is damaged: {what}", path.display()),
            RecoverError::Wal(folder, damage) => write!(f, "the write-ahead log in {} is damaged: {damage}", folder.display()),
            RecoverError::Missing(path) => {
                write!(f, "{} is missing: restore the whole data directory from a copy", path.display())
            }
            RecoverError::Mismatch(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for RecoverError {}

/// What was found.
pub struct Found {
    /// The checkpoints' notes, per group.
    pub notes: BTreeMap<GroupId, Note>,
    /// What the WALs hold.
    pub wal: Recovered,
}

impl Found {
    /// The newest configuration that any group's log or state batch carries.
    pub fn configuration(&self) -> Option<Configuration> {
        let batches = self.wal.groups.iter().filter_map(|g| Configuration::decode(&g.configuration).ok());
        let entries = self.wal.groups.iter().flat_map(|g| &g.entries).filter_map(|e| Payload::configuration(&e.payload));
        batches.chain(entries).filter(|c| c.version > 0).max_by_key(|c| c.version)
    }

    /// How many shards the data is laid out for.
    pub fn shards(&self) -> Option<u16> {
        self.configuration().map(|c| c.shards).or_else(|| self.notes.values().next().map(|n| n.shards))
    }

    /// The highest revision that is known to have been stable (rule 6): of the WALs' headers and the checkpoints' notes.
    pub fn known_stable(&self) -> Revision {
        known_stable(&self.notes, &self.wal)
    }

    /// What `group` starts from.
    pub fn seed(&self, paths: &Paths, identity: &Identity, group: GroupId, pages: Options) -> GroupSeed {
        let log = self.wal.groups.iter().find(|g| g.group == group).cloned();
        let is_new = !self.notes.contains_key(&group);
        let note = self.notes.get(&group).copied().unwrap_or_else(|| identity.fresh_note(group));
        let log = log.unwrap_or_else(|| empty_log(group, &note));
        GroupSeed { group, path: paths.pages(group), is_new, note, log, pages }
    }
}

fn known_stable(notes: &BTreeMap<GroupId, Note>, wal: &Recovered) -> Revision {
    if mutant::on(Mutant::KnownStableDropped) {
        return Revision::ZERO;
    }
    let noted = notes.values().map(|note| note.known_stable).max().unwrap_or_default();
    noted.max(wal.known.stable).max(wal.known.serving)
}

/// Reads everything but the pages themselves.
///
/// # Errors
/// [`RecoverError`] names file and offset of what is damaged.
pub fn find(files: &impl Files, paths: &Paths) -> Result<Found, RecoverError> {
    let listing = files.list(paths).map_err(|e| RecoverError::Mismatch(e.to_string()))?;
    let notes = read_notes(files, &listing)?;
    check_notes(&notes)?;
    let checkpoints = notes.values().map(|note| Checkpoint {
        group: note.group,
        index: note.applied,
        term: note.applied_term,
        revision: note.applied_revision,
    });
    let ids = notes.values().next().map(|note| (note.cluster, note.member));
    let checkpoints: Vec<Checkpoint> = checkpoints.collect();
    let options = RecoveryOptions {
        ids,
        checkpoints: checkpoints.clone(),
        #[cfg(test)]
        torn_tail_accepted: mutant::on(Mutant::TornTailAccepted),
    };
    let names = listing.segments.iter().map(|s| s.name).collect();
    let damaged = |damage| damaged_log(files, paths, &notes, damage);
    let mut recovery = Recovery::new(options, names).map_err(damaged)?;
    while let Some(ask) = recovery.ask() {
        let path = paths.segment(ask.segment());
        let bytes = read_at_most(files, &path, ask.bytes_max()).map_err(|error| RecoverError::Io { path, error })?;
        recovery.feed(&bytes).map_err(damaged)?;
    }
    let wal = recovery.finish().map_err(damaged)?;
    // One member is the whole cluster: what it knew to be stable must be here.
    let known = known_stable(&notes, &wal);
    if let Some(revision) = missing_revision(&wal, &checkpoints, known) {
        let what = format!("revision {revision} was acknowledged (known stable: {known}) and is in no log and no page file");
        return Err(RecoverError::Mismatch(what));
    }
    Ok(Found { notes, wal })
}

/// A directory that has served holds a file for every group, and segments of the last run: one that is missing is damage.
/// `found`: what recovery found, if it found no damage; `last_run`: the last run that served.
///
/// # Errors
/// [`RecoverError::Missing`] names what is not there.
pub fn check_files(files: &impl Files, paths: &Paths, last_run: RunNumber, found: Option<&Found>) -> Result<(), RecoverError> {
    let listing = files.list(paths).map_err(|e| RecoverError::Mismatch(e.to_string()))?;
    if listing.segments.iter().map(|file| file.name.wal.run).max().is_none_or(|run| run < last_run) {
        return Err(RecoverError::Missing(paths.wal().join(format!("{:016x}-*.wal", last_run.0))));
    }
    let shards = match found {
        Some(found) => found.shards(),
        None => read_notes(files, &listing)?.values().next().map(|note| note.shards),
    };
    let groups = (0..=shards.unwrap_or(0)).map(GroupId);
    match groups.into_iter().find(|group| !listing.pages.iter().any(|file| file.group == *group)) {
        Some(group) => Err(RecoverError::Missing(paths.pages(group))),
        None => Ok(()),
    }
}

fn read_notes(files: &impl Files, listing: &Listing) -> Result<BTreeMap<GroupId, Note>, RecoverError> {
    let mut notes = BTreeMap::new();
    for file in &listing.pages {
        if let Some(store) = open_store(files, &file.path, Options::with_cache(0))? {
            let note = Note::decode(store.note())
                .map_err(|_| damaged_pages(&file.path, "the meta page's note is none of this program's"))?;
            notes.insert(file.group, note);
        }
    }
    Ok(notes)
}

fn check_notes(notes: &BTreeMap<GroupId, Note>) -> Result<(), RecoverError> {
    let Some(first) = notes.values().next() else { return Ok(()) };
    for (group, note) in notes {
        if note.group != *group || note.cluster != first.cluster || note.member != first.member || note.shards != first.shards {
            let what = format!("the page file of group {group} belongs to group {} of another member or layout", note.group);
            return Err(RecoverError::Mismatch(what));
        }
    }
    Ok(())
}

fn read_at_most(files: &impl Files, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let len = usize::try_from(files.length(path)?).unwrap_or(usize::MAX).min(bytes_max);
    let mut bytes = vec![0; len];
    files.read(path, &mut bytes, 0)?;
    Ok(bytes)
}

/// The store in a page file; `None` when no checkpoint was ever finished in it.
fn open_store(files: &impl Files, path: &Path, options: Options) -> Result<Option<Store>, RecoverError> {
    let io = |error| RecoverError::Io { path: path.to_path_buf(), error };
    let bytes = match files.length(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(e)),
    };
    let mut metas = vec![0; 2 * PAGE_BYTES];
    let there = usize::try_from(bytes).unwrap_or(usize::MAX).min(metas.len());
    files.read(path, &mut metas[..there], 0).map_err(io)?;
    if metas.iter().all(|&b| b == 0) && bytes <= metas.len() as u64 {
        return Ok(None);
    }
    match Store::open(&metas, bytes, options) {
        Ok(store) => Ok(Some(store)),
        // The first checkpoint was under way when the process ended: everything is still in the WAL, or recovery of that says so.
        Err(damage) if damage.what == What::NoCheckpoint => Ok(None),
        Err(damage) => Err(RecoverError::Pages { path: path.to_path_buf(), what: damage.to_string() }),
    }
}

/// The log of a group that no WAL names.
fn empty_log(group: GroupId, note: &Note) -> RecoveredGroup {
    RecoveredGroup {
        group,
        start: note.applied,
        start_term: note.applied_term,
        snapshot: false,
        configuration: bytes::Bytes::new(),
        entries: Vec::new(),
    }
}

/// What a group starts from; plain data, to be handed to its core's thread.
pub struct GroupSeed {
    /// The group.
    pub group: GroupId,
    /// Its page file.
    pub path: PathBuf,
    /// No checkpoint was ever finished in it: what is there is to be cut off before the core starts.
    pub is_new: bool,
    /// The checkpoint's note, or a new group's.
    pub note: Note,
    /// Its log.
    pub log: RecoveredGroup,
    /// How its page store is to behave.
    pub pages: Options,
}

/// Who and what the member is, for new groups.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
    /// What a new cluster begins with.
    pub initial: Configuration,
}

impl Identity {
    /// The note of a group that has no checkpoint.
    pub fn fresh_note(&self, group: GroupId) -> Note {
        Note {
            cluster: self.cluster,
            member: self.member,
            group,
            shards: self.initial.shards,
            applied: Index::ZERO,
            applied_term: Term(0),
            applied_revision: Revision::ZERO,
            known_stable: Revision::FIRST,
            floor: Revision::ZERO,
            sliced: Revision::ZERO,
        }
    }
}

impl GroupSeed {
    /// Makes the replica, on its core's thread.
    ///
    /// # Errors
    /// Checkpoint and log do not fit, or a page is damaged.
    pub fn grow(self, files: &impl Files, now: Instant, identity: &Identity, term: Term) -> Result<Replica, RecoverError> {
        let GroupSeed { group, path, is_new: _, note, log, pages } = self;
        let store = open_store(files, &path, pages)?.unwrap_or_else(|| Store::create(pages));
        let machine = if group == GroupId::META {
            Machine::Meta(Box::new(load_meta(store, files, &path)?))
        } else {
            Machine::Keys(Box::new(Mvcc::new(store, note.applied_revision)))
        };
        let mismatch = |what: &dyn fmt::Display| RecoverError::Mismatch(format!("group {group}: {what}"));
        let start = Position { term: log.start_term, index: log.start };
        let configuration = Configuration::decode(&log.configuration).ok().filter(|c| c.version > 0);
        let log = Log::recovered(start, note.applied_revision, log.entries).map_err(|e| mismatch(&e))?;
        let raft = Replication::new(Start {
            me: identity.member,
            group,
            term,
            configuration: configuration.unwrap_or_else(|| identity.initial.clone()),
            log,
            applied: note.applied,
            configuration_of: Payload::configuration,
        })
        .map_err(|e| mismatch(&e))?;
        Ok(Replica::new(now, raft, machine, &note))
    }
}

/// Group 0's state is read whole; its pages are few.
fn load_meta(mut store: Store, files: &impl Files, path: &Path) -> Result<MetaState, RecoverError> {
    loop {
        match MetaState::load(store) {
            Ok(state) => return Ok(state),
            Err((back, MetaLoadError::Fault(fault))) => {
                store = *back;
                let mut bytes = AlignedBuffer::zeroed(fault.bytes());
                files
                    .read(path, &mut bytes, fault.offset())
                    .map_err(|error| RecoverError::Io { path: path.to_path_buf(), error })?;
                store.install(fault, bytes).map_err(|damage| damaged_pages(path, &damage.to_string()))?;
            }
            Err((_, MetaLoadError::Malformed)) => {
                return Err(damaged_pages(path, "a record of group 0 is none of this program's"));
            }
        }
    }
}

/// Entries that are in no log are in a page file, if that is whole: one without a checkpoint is what is damaged.
fn damaged_log(files: &impl Files, paths: &Paths, notes: &BTreeMap<GroupId, Note>, damage: Damage) -> RecoverError {
    if let wal::What::MissingEntries { group, start, .. } = damage.what
        && !notes.contains_key(&group)
        && let Ok(bytes) = files.length(&paths.pages(group))
    {
        let what = format!(
            "page 0 at offset 0: there is no checkpoint in the file of {bytes} bytes, though the log begins behind entry {start}"
        );
        return RecoverError::Pages { path: paths.pages(group), what };
    }
    RecoverError::Wal(paths.wal().to_path_buf(), damage)
}

fn damaged_pages(path: &Path, what: &str) -> RecoverError {
    RecoverError::Pages { path: path.to_path_buf(), what: what.into() }
}
