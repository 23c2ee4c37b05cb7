//! The revisions of all groups together: each one between the compaction floor and the highest known to be stable is there.

use std::collections::BTreeMap;

use crate::base::{GroupSet, Mark, Revision};
use crate::group::Note;
use crate::mvcc::Kind;
use crate::pages::Damage;
use crate::wal::Recovered;

use super::keys::Changes;
use super::report::{Findings, Place, counted};

/// The part of a revision that is in logs above the checkpoints.
#[derive(Clone, Copy, Default)]
struct InLogs {
    there: GroupSet,
    participants: GroupSet,
}

/// Puts page files and logs together. `shards`: the changes of every shard's page file above the floor.
pub(super) fn check(
    notes: &[Note],
    recovered: &Recovered,
    shards: Vec<Changes<'_>>,
    findings: &mut Findings<'_>,
) -> Result<(), Damage> {
    let before = findings.count();
    let logs = logs(recovered);
    let noted = notes.iter().map(|note| note.known_stable.max(note.applied_revision)).max().unwrap_or_default();
    let known = noted.max(recovered.known.stable).max(recovered.known.serving);
    for (&revision, part) in logs.range(..=known) {
        complete(revision, part, notes, findings);
    }
    let floor = floor(notes);
    let mut merge = Merge { shards };
    let mut expected = floor.max(Revision::FIRST).next();
    let mut in_logs = logs.range(expected..=known.max(expected)).map(|(&revision, _)| revision).peekable();
    loop {
        let revision = match (merge.next_revision(), in_logs.peek().copied()) {
            (Some(a), Some(b)) => a.min(b),
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => break,
        };
        if revision > known {
            break;
        }
        hole(expected, revision, findings);
        let numbering = merge.take(revision)?;
        if in_logs.next_if_eq(&revision).is_none()
            && let Some((place, offset, what)) = numbering
        {
            findings.add(place, Some(offset), what);
        }
        expected = revision.next();
    }
    hole(expected, known.next(), findings);
    if findings.count() == before {
        findings.facts(Place::Member, &facts(floor, known, &logs));
    }
    Ok(())
}

/// The compaction floor that some group may have been cleaned up to.
pub(super) fn floor(notes: &[Note]) -> Revision {
    notes.iter().map(|note| note.floor).max().unwrap_or_default()
}

fn facts(floor: Revision, known: Revision, logs: &BTreeMap<Revision, InLogs>) -> String {
    let later = logs.range(known.next()..).count() as u64;
    let mut facts = match floor.max(Revision::FIRST) {
        floor if floor < known => format!("every revision from {} to {known} is there", floor.next()),
        _ => format!("no revision above {} yet", floor.max(Revision::FIRST)),
    };
    if later > 0 {
        let later = counted(later, "revision", "revisions");
        facts.push_str(&format!("; {later} above {known} in the log, not recorded as stable yet: a start keeps what is whole"));
    }
    if floor > Revision::ZERO {
        facts.push_str(&format!("; compacted up to {floor}"));
    }
    facts
}

fn logs(recovered: &Recovered) -> BTreeMap<Revision, InLogs> {
    let mut logs: BTreeMap<Revision, InLogs> = BTreeMap::new();
    for group in &recovered.groups {
        for entry in &group.entries {
            if let Mark::Revision { revision, participants } = entry.mark {
                let part = logs.entry(revision).or_default();
                part.there = part.there.with(group.group);
                part.participants = participants.iter().fold(part.participants, GroupSet::with);
            }
        }
    }
    logs
}

/// A revision in some group's log is in the log or the pages of each of its groups.
fn complete(revision: Revision, part: &InLogs, notes: &[Note], findings: &mut Findings<'_>) {
    let held = |group| notes.iter().any(|note| note.group == group && note.applied_revision >= revision);
    for group in part.participants.iter().filter(|&group| !part.there.has(group) && !held(group)) {
        let what = format!("revision {revision} is missing in group {group}: it is neither in its log nor in its page file");
        findings.add(Place::Wal, None, what);
    }
}

fn hole(from: Revision, to: Revision, findings: &mut Findings<'_>) {
    let what = match to.get().saturating_sub(from.get()) {
        0 => return,
        1 => format!("revision {from} is missing: it was known to be stable, and is in no page file and in no log"),
        _ => {
            let last = to.get() - 1;
            format!(
                "revisions {from} to {last} are missing: they were known to be stable, and are in no page file and in no log"
            )
        }
    };
    findings.add(Place::Member, None, what);
}

/// The changes of all shards in one order.
struct Merge<'a> {
    shards: Vec<Changes<'a>>,
}

impl<'a> Merge<'a> {
    fn first(&mut self) -> Option<&mut Changes<'a>> {
        let waiting = self.shards.iter_mut().filter(|shard| shard.next.is_some());
        waiting.min_by_key(|shard| shard.next.map(|(change, ..)| change))
    }

    fn next_revision(&mut self) -> Option<Revision> {
        self.first().and_then(|shard| shard.next).map(|(change, ..)| change.revision)
    }

    /// Passes all changes of a revision. What is wrong with their numbers, if anything: an operation has the number of the
    /// changes before it, and only the tombstones of one operation share a number.
    fn take(&mut self, revision: Revision) -> Result<Option<(Place, u64, String)>, Damage> {
        let (mut before, mut last, mut wrong) = (0u64, None, None);
        while let Some(shard) = self.first() {
            let Some((change, kind, offset)) = shard.next.filter(|(change, ..)| change.revision == revision) else { break };
            let of_range = last == Some((change.operation, Kind::Tombstone)) && kind == Kind::Tombstone;
            if wrong.is_none() && !of_range && u64::from(change.operation) != before {
                let what = format!(
                    "revision {revision} has operation {} after {}",
                    change.operation,
                    counted(before, "change", "changes")
                );
                wrong = Some((Place::Pages(shard.group()), offset, what));
            }
            (before, last) = (before + 1, Some((change.operation, kind)));
            shard.advance()?;
        }
        Ok(wrong)
    }
}
