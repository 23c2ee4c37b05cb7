//! The order of a check: page files, their trees, the log, and all of them together.

use std::collections::BTreeMap;

use crate::base::limits::{CHECK_CACHE_BYTES, CHECK_MERGE_CACHE_BYTES, PAGE_BYTES, SHARDS_MAX};
use crate::base::{AlignedBuffer, GroupId, RunNumber};
use crate::group::Note;
use crate::pages::{self, CheckReport, Damage};

use super::history;
use super::keys::{self, Changes};
use super::log::{self, PageFile};
use super::meta;
use super::report::{Findings, Listener, Place, Report, counted};
use super::scan::Trees;
use crate::wal::SegmentName;

/// A stopped member's files, read-only.
pub trait Files {
    /// A file's bytes.
    type Bytes: AsRef<[u8]>;

    /// The last run of the member that served, if it has ever served; or why that cannot be told, in words.
    ///
    /// # Errors
    /// The file FORMAT is missing or not of this version.
    fn last_run(&self) -> Result<Option<RunNumber>, String>;

    /// The segments of the log, in order.
    fn segments(&self) -> &[SegmentName];

    /// The groups that have a page file, in order.
    fn groups(&self) -> &[GroupId];

    /// A segment's bytes; or why there are none, in words.
    ///
    /// # Errors
    /// The file cannot be read.
    fn segment(&self, name: SegmentName) -> Result<Self::Bytes, String>;

    /// A page file's bytes; or why there are none, in words.
    ///
    /// # Errors
    /// The file cannot be read.
    fn pages(&self, group: GroupId) -> Result<Self::Bytes, String>;
}

/// Checks everything; the listener hears of it on the way.
pub fn check<F: Files>(files: &F, listener: &mut dyn Listener) -> Report {
    let mut findings = Findings::new(listener);
    let mut pages: BTreeMap<GroupId, PageFile> = BTreeMap::new();
    for &group in files.groups() {
        let found = page_file(files, group, &mut findings);
        pages.insert(group, found);
    }
    let notes: Vec<Note> =
        pages.values().filter_map(|file| if let PageFile::Holds(note) = file { Some(*note) } else { None }).collect();
    belong_together(&notes, &mut findings);
    let last_run = files.last_run();
    if last_run != Ok(None) {
        segments_of_last_run(files, last_run.as_ref().ok().copied().flatten(), &mut findings);
    }
    let recovered = log::check(files, &pages, &mut findings);
    if last_run != Ok(None) {
        every_group_has_a_file(files, &notes, &mut findings);
    }
    match recovered {
        Some(recovered) if findings.count() == 0 => {
            if let Err(damage) = history(files, &notes, &recovered, &mut findings) {
                findings.add(Place::Member, None, changed(&damage));
            }
        }
        _ => findings.leave_out("whether every revision is there"),
    }
    // Last, because it says nothing of the other files.
    if let Err(what) = last_run {
        findings.add(Place::Format, None, what);
    }
    findings.report
}

/// A member that has served has segments of the run that did last, or of a later one.
fn segments_of_last_run<F: Files>(files: &F, last: Option<RunNumber>, findings: &mut Findings<'_>) {
    match (files.segments().iter().map(|segment| segment.wal.run).max(), last) {
        (None, _) => findings.add(Place::Wal, None, "there is no segment, though the member has served".into()),
        (Some(newest), Some(last)) if newest < last => {
            let what = format!(
                "run {last} was the last that served, and its segments ({:016x}-*.wal) are missing: the newest here are of run {newest}",
                last.0
            );
            findings.add(Place::Wal, None, what);
        }
        (Some(_), _) => {}
    }
}

/// A member that has served has a page file for every group.
fn every_group_has_a_file<F: Files>(files: &F, notes: &[Note], findings: &mut Findings<'_>) {
    let shards = notes.iter().map(|note| note.shards).max().unwrap_or(0);
    for group in (0..=shards).take(SHARDS_MAX + 1).map(GroupId) {
        if !files.groups().contains(&group) {
            findings.add_file_unless_told(Place::Pages(group), "the file is missing, though the member has served".into());
        }
    }
}

fn history<F: Files>(
    files: &F,
    notes: &[Note],
    recovered: &crate::wal::Recovered,
    findings: &mut Findings<'_>,
) -> Result<(), Damage> {
    let shards = notes.iter().filter(|note| note.group != GroupId::META);
    let opened: Vec<(GroupId, F::Bytes)> =
        shards.filter_map(|note| Some((note.group, files.pages(note.group).ok()?))).collect();
    let from = history::floor(notes).next();
    let mut changes = Vec::with_capacity(opened.len());
    for (group, bytes) in &opened {
        changes.push(Changes::new(Trees::open(bytes.as_ref(), CHECK_MERGE_CACHE_BYTES)?, *group, from)?);
    }
    history::check(notes, recovered, changes, findings)
}

/// What can only be if somebody writes to the file while it is read.
fn changed(damage: &Damage) -> String {
    format!("{damage}; it was sound a moment ago: does another process write to it?")
}

/// One page file by itself.
fn page_file<F: Files>(files: &F, group: GroupId, findings: &mut Findings<'_>) -> PageFile {
    let place = Place::Pages(group);
    let bytes = match files.pages(group) {
        Ok(bytes) => bytes,
        Err(error) => {
            findings.add(place, None, error);
            return PageFile::Unknown;
        }
    };
    let bytes = bytes.as_ref();
    if bytes.len() <= 2 * PAGE_BYTES && bytes.iter().all(|&byte| byte == 0) {
        findings.facts(place, "no checkpoint yet");
        return PageFile::Empty;
    }
    let before = findings.count();
    let report = walk(bytes);
    if report.unfinished {
        findings.facts(place, "no checkpoint yet: the first one was interrupted");
        return PageFile::Empty;
    }
    for error in &report.errors {
        findings.at_page(group, error.page, format!("page {}: {}", error.page.0, error.what));
    }
    if report.errors_more > 0 {
        findings.add(place, None, format!("{} more pages are wrong", report.errors_more));
    }
    let note = Note::decode(&report.note).ok();
    if note.is_none() && report.errors.is_empty() {
        findings.add(place, Some(0), "the meta page's note is none of this etcring's".into());
    }
    let Some(note) = note.filter(|note| note.group == group) else {
        if let Some(note) = note {
            findings.add(place, None, format!("it is the page file of group {}", note.group));
        }
        return PageFile::Unknown;
    };
    if findings.count() > before {
        findings.leave_out("whether the trees of damaged page files agree");
        // What the meta says still holds: the log is read against it.
        return PageFile::Holds(note);
    }
    match contents(bytes, &note, findings) {
        Ok(holds) => findings.facts(place, &facts(&report, &note, &holds)),
        Err(damage) => findings.at_page(group, damage.page, changed(&damage)),
    }
    PageFile::Holds(note)
}

fn walk(bytes: &[u8]) -> CheckReport {
    let walked = pages::check(bytes.len() as u64, |first, pages| {
        let start = first.offset() as usize;
        let end = start + pages as usize * PAGE_BYTES;
        // The walk asks for nothing behind the end of the file.
        Ok::<_, std::convert::Infallible>(AlignedBuffer::padded(&bytes[start..end]))
    });
    walked.unwrap_or_else(|never| match never {})
}

fn contents(bytes: &[u8], note: &Note, findings: &mut Findings<'_>) -> Result<String, Damage> {
    let mut trees = Trees::open(bytes, CHECK_CACHE_BYTES)?;
    if note.group == GroupId::META {
        let holds = meta::check(&mut trees, note, findings)?;
        let (leases, alarms) = (counted(holds.leases, "lease", "leases"), counted(holds.alarms, "alarm", "alarms"));
        return Ok(format!("{leases}, {alarms}, {}", counted(holds.members, "member", "members")));
    }
    let holds = keys::check(&mut trees, note, findings)?;
    Ok(format!(
        "{} of {}, {} with a lease",
        counted(holds.versions, "version", "versions"),
        counted(holds.keys, "living key", "living keys"),
        holds.attached
    ))
}

fn facts(report: &CheckReport, note: &Note, holds: &str) -> String {
    let interrupted = if report.interrupted { "; a later checkpoint was interrupted, and does not count" } else { "" };
    format!(
        "checkpoint {} with entries up to {}, revisions up to {}: {holds}; {} of {} pages in use{interrupted}",
        report.generation, note.applied, note.applied_revision, report.used_pages, report.file_pages
    )
}

/// All page files are of one member and one layout.
fn belong_together(notes: &[Note], findings: &mut Findings<'_>) {
    let Some(first) = notes.first() else { return };
    for note in notes {
        let place = Place::Pages(note.group);
        if (note.cluster, note.member) != (first.cluster, first.member) {
            let (member, cluster) = (note.member.get(), note.cluster.get());
            findings.add(
                place,
                None,
                format!("it belongs to member {member:x} of cluster {cluster:x}, and group {} does not", first.group),
            );
        }
        if note.shards != first.shards || usize::from(note.shards) > SHARDS_MAX || note.group.get() > note.shards {
            let what = format!("it is laid out for {}, the file of group {} for {}", note.shards, first.group, first.shards);
            findings.add(place, None, what);
        }
    }
}
