//! What a check finds, and who hears of it.

use crate::base::GroupId;
use crate::base::limits::CHECK_FINDINGS_MAX;
use crate::pages::PageId;
use crate::wal::SegmentName;

/// Where something was found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// The member's files as a whole.
    Member,
    /// The file that says which format the files are of.
    Format,
    /// The page file of this group.
    Pages(GroupId),
    /// The log as a whole.
    Wal,
    /// A segment of the log.
    Segment(SegmentName),
}

/// Something that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// In which file.
    pub place: Place,
    /// Where in the file, in bytes; None when it is not at one place of it.
    pub offset: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// Who hears of what a check comes to.
pub trait Listener {
    /// A file, or what all of them hold together: a line on what is in it, whether or not something is wrong with it.
    fn facts(&mut self, place: Place, facts: &str);

    /// Something is wrong.
    fn finding(&mut self, finding: &Finding);
}

/// How a check ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// How many findings there were; not more than [`CHECK_FINDINGS_MAX`] of them were told.
    pub findings: u64,
    /// What could not be checked because of what was found.
    pub left_out: Vec<&'static str>,
}

/// The report under way.
pub(super) struct Findings<'a> {
    listener: &'a mut dyn Listener,
    pub report: Report,
    /// The last one told, so that two steps that see the same damage tell it once.
    told: Vec<(Place, Option<u64>)>,
}

impl<'a> Findings<'a> {
    pub fn new(listener: &'a mut dyn Listener) -> Findings<'a> {
        Findings { listener, report: Report::default(), told: Vec::new() }
    }

    pub fn facts(&mut self, place: Place, facts: &str) {
        self.listener.facts(place, facts);
    }

    pub fn add(&mut self, place: Place, offset: Option<u64>, what: String) {
        self.report.findings += 1;
        if self.report.findings <= CHECK_FINDINGS_MAX {
            self.told.push((place, offset));
            self.listener.finding(&Finding { place, offset, what });
        }
    }

    pub fn at_page(&mut self, group: GroupId, page: PageId, what: String) {
        self.add(Place::Pages(group), Some(page.offset()), what);
    }

    /// Something of which an earlier step may have told already: at the same place it is not told twice.
    pub fn add_unless_told(&mut self, place: Place, offset: u64, what: String) {
        if !self.told.contains(&(place, Some(offset))) {
            self.add(place, Some(offset), what);
        }
    }

    /// The same of a whole file.
    pub fn add_file_unless_told(&mut self, place: Place, what: String) {
        if !self.told.contains(&(place, None)) {
            self.add(place, None, what);
        }
    }

    pub fn count(&self) -> u64 {
        self.report.findings
    }

    pub fn leave_out(&mut self, what: &'static str) {
        if !self.report.left_out.contains(&what) {
            self.report.left_out.push(what);
        }
    }
}

/// A count with its word: `1 batch`, `2 batches`.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}
