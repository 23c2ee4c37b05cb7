//! The write-ahead log: what a start would make of it, then every segment by itself, then the groups' logs.

use std::collections::BTreeMap;

use crate::base::limits::WAL_SEGMENTS_MAX;
use crate::base::{GroupId, Index, Revision};
use crate::group::Note;
use crate::raft::{BadLog, Log, Position};
use crate::state::{Payload, kv};
use crate::wal::{
    Checkpoint, Content, Damage, Described, Record, Recovered, RecoveredGroup, Recovery, RecoveryOptions, SegmentName, Sight,
    describe,
};

use super::member::Files;
use super::report::{Findings, Place, counted};

/// What is known of a group's page file when the log is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum PageFile {
    /// Its newest checkpoint.
    Holds(Note),
    /// There is no file, or no checkpoint was ever finished in it.
    Empty,
    /// It is damaged: nothing is known.
    Unknown,
}

/// Reads the whole log. None: it is damaged, and that has been told.
pub(super) fn check<F: Files>(
    files: &F,
    pages: &BTreeMap<GroupId, PageFile>,
    findings: &mut Findings<'_>,
) -> Option<Recovered> {
    let before = findings.count();
    let recovered = recover(files, pages, findings);
    let starts = segments(files, findings);
    for (group, (start, segment)) in starts {
        let (holds, missing) = match pages.get(&group) {
            Some(PageFile::Holds(note)) => (note.applied, ""),
            Some(PageFile::Unknown) => continue,
            Some(PageFile::Empty) => (Index::ZERO, "no checkpoint is in it, though "),
            None => (Index::ZERO, "the file is missing, though "),
        };
        if start > holds {
            let what =
                format!("{missing}segment {segment} says that entries up to {start} are in it; it holds those up to {holds}");
            findings.add(Place::Pages(group), None, what);
        }
    }
    let recovered = recovered.filter(|_| findings.count() == before)?;
    for group in &recovered.groups {
        group_log(files, group, pages.get(&group.group), findings);
    }
    (findings.count() == before).then_some(recovered)
}

fn recover<F: Files>(files: &F, pages: &BTreeMap<GroupId, PageFile>, findings: &mut Findings<'_>) -> Option<Recovered> {
    let notes = || pages.values().filter_map(|file| if let PageFile::Holds(note) = file { Some(*note) } else { None });
    let checkpoints = notes().map(|note| Checkpoint {
        group: note.group,
        index: note.applied,
        term: note.applied_term,
        revision: note.applied_revision,
    });
    let ids = notes().next().map(|note| (note.cluster, note.member));
    let options = RecoveryOptions {
        ids,
        checkpoints: checkpoints.collect(),
        #[cfg(test)]
        torn_tail_accepted: false,
    };
    let run = || -> Result<Option<Recovered>, Damage> {
        let mut recovery = Recovery::new(options, files.segments().to_vec())?;
        while let Some(ask) = recovery.ask() {
            let Ok(bytes) = files.segment(ask.segment()) else { return Ok(None) };
            let bytes = bytes.as_ref();
            recovery.feed(&bytes[..bytes.len().min(ask.bytes_max())])?;
        }
        recovery.finish().map(Some)
    };
    match run() {
        Ok(recovered) => recovered,
        Err(damage) => {
            let place = damage.file.map_or(Place::Wal, Place::Segment);
            findings.add(place, damage.file.map(|_| damage.offset), damage.what.to_string());
            None
        }
    }
}

/// Walks every segment by itself. Returns, per group, the highest entry that a segment says to be in its page file.
fn segments<F: Files>(files: &F, findings: &mut Findings<'_>) -> BTreeMap<GroupId, (Index, SegmentName)> {
    let mut starts: BTreeMap<GroupId, (Index, SegmentName)> = BTreeMap::new();
    for &name in files.segments().iter().take(WAL_SEGMENTS_MAX) {
        match files.segment(name) {
            Ok(bytes) => segment(name, bytes.as_ref(), &mut starts, findings),
            Err(error) => findings.add(Place::Segment(name), None, error),
        }
    }
    starts
}

fn segment(name: SegmentName, bytes: &[u8], starts: &mut BTreeMap<GroupId, (Index, SegmentName)>, findings: &mut Findings<'_>) {
    let place = Place::Segment(name);
    let (mut batches, mut entries, mut end) = (0u64, 0u64, String::new());
    let mut described = describe(Some(name), bytes).peekable();
    while let Some(seen) = described.next() {
        match seen {
            Described::Batch { offset, content, .. } => {
                batches += 1;
                match content {
                    Content::State(state) => {
                        for start in &state.state.groups {
                            let known = starts.entry(start.group).or_insert((Index::ZERO, name));
                            if start.start > known.0 {
                                *known = (start.start, name);
                            }
                        }
                    }
                    Content::Records(records) => {
                        entries += records.iter().filter(|record| matches!(record, Record::Entry { .. })).count() as u64;
                    }
                    Content::Seal => {}
                    Content::Malformed => {
                        findings.add_unless_told(
                            place,
                            offset,
                            "no writer writes such a batch, though its checksum matches".into(),
                        );
                    }
                }
            }
            Described::Stop { offset, sight } if described.peek().is_some() => {
                let what = match sight {
                    Sight::Batch(_) => "a batch's checksum does not match, though a later batch stands behind it",
                    _ => "no sound batch header, though a later batch stands behind it",
                };
                findings.add_unless_told(place, offset, what.into());
            }
            Described::Stop { offset, sight: Sight::Header | Sight::Batch(_) } => {
                end =
                    format!("; behind them, at offset {offset}, a batch that was not written to its end (a start cuts it off)");
            }
            Described::Stop { .. } => {}
        }
    }
    let facts = match batches {
        0 => format!("not in use yet{end}"),
        _ => format!("{} with {}{end}", counted(batches, "batch", "batches"), counted(entries, "entry", "entries")),
    };
    findings.facts(place, &facts);
}

/// A group's log above its checkpoint: as a start would take it over, and apply it.
fn group_log<F: Files>(files: &F, log: &RecoveredGroup, pages: Option<&PageFile>, findings: &mut Findings<'_>) {
    let applied = match pages {
        Some(PageFile::Holds(note)) => note.applied_revision,
        _ => Revision::ZERO,
    };
    let start = Position { term: log.start_term, index: log.start };
    if let Err(error) = Log::recovered(start, applied, log.entries.clone()) {
        let (BadLog::Gap { found: index, .. } | BadLog::TermFalls(index) | BadLog::RevisionFalls(index)) = error;
        let (place, offset) = locate(files, log.group, index);
        findings.add(place, offset, format!("the log of group {}: {error}", log.group));
    }
    for entry in &log.entries {
        let is_meta = log.group == GroupId::META;
        let wrong = match Payload::decode(&entry.payload) {
            Ok(Payload::Kv(_)) if is_meta => Some("a change of keys in group 0"),
            Ok(Payload::Kv(_)) if entry.mark.revision().is_none() => Some("a change of keys without a revision"),
            Ok(Payload::Kv(record)) => kv::decode(&record).is_err().then_some("a change of keys that does not decode"),
            Ok(Payload::Meta(_)) if !is_meta => Some("a change of group 0's state in a shard"),
            Ok(_) => None,
            Err(_) => Some("a payload that does not decode"),
        };
        if let Some(wrong) = wrong {
            let (place, offset) = locate(files, log.group, entry.index);
            findings.add(place, offset, format!("entry {} of group {} has {wrong}", entry.index, log.group));
        }
    }
}

/// Where the entry that counts lies: the one written last.
fn locate<F: Files>(files: &F, group: GroupId, index: Index) -> (Place, Option<u64>) {
    let mut found = (Place::Wal, None);
    for &name in files.segments() {
        let Ok(bytes) = files.segment(name) else { continue };
        for seen in describe(Some(name), bytes.as_ref()) {
            if let Described::Batch { offset, content: Content::Records(records), .. } = seen
                && records.iter().any(|r| matches!(r, Record::Entry { group: g, entry } if (*g, entry.index) == (group, index)))
            {
                found = (Place::Segment(name), Some(offset));
            }
        }
    }
    found
}
