//! Group 0's records.

use crate::base::Revision;
use crate::group::Note;
use crate::pages::Damage;
use crate::state::{META_TREES, MetaEntry};

use super::report::Findings;
use super::scan::Trees;

/// What group 0 holds.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct MetaCounts {
    pub leases: u64,
    pub alarms: u64,
    pub members: u64,
}

/// Reads every record, and compares the compaction revision with the checkpoint's note.
pub(super) fn check(trees: &mut Trees<'_>, note: &Note, findings: &mut Findings<'_>) -> Result<MetaCounts, Damage> {
    let mut counts = MetaCounts::default();
    let mut compacted = Revision::ZERO;
    for (tree, name) in META_TREES {
        let mut scan = trees.scan(tree, Vec::new());
        while let Some(entry) = scan.next(trees)? {
            // A member's record may be longer than a leaf keeps of it.
            let value = trees.whole(tree, &entry.key)?.unwrap_or_default();
            match MetaEntry::read(tree, &entry.key, &value) {
                Ok(MetaEntry::Lease(..)) => counts.leases += 1,
                Ok(MetaEntry::Alarm(..)) => counts.alarms += 1,
                Ok(MetaEntry::Member(_)) => counts.members += 1,
                Ok(MetaEntry::CompactRevision(revision)) => compacted = revision,
                Ok(MetaEntry::OtherFact) => {}
                Err(_) => {
                    let what = format!("a record of {name} does not decode: \"{}\"", entry.key.escape_ascii());
                    findings.at_page(note.group, entry.page, what);
                }
            }
        }
    }
    if compacted != note.floor {
        let what = format!("the compaction revision is {compacted}, and the checkpoint's note says {}", note.floor);
        findings.add(super::Place::Pages(note.group), None, what);
    }
    Ok(counts)
}
