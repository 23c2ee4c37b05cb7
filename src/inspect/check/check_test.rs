//! Every kind of damage that a check is to find, in files made in memory.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Files, Finding, Listener, Place, Report, check};
use crate::base::limits::PAGE_BYTES;
use crate::base::{Entry, GroupId, GroupSet, Index, LeaseId, Mark, Revision, RunNumber, Term, group_of};
use crate::group::Note;
use crate::mvcc::stored::{TREES, attached_key, change_key, version_key};
use crate::mvcc::{Change, Mvcc, PutFields};
use crate::pages::{Options, Store, Tree};
use crate::state::kv::Effect;
use crate::state::{META_TREES, Payload};
use crate::wal::rig_test::{IDS, Rig, segment, state};
use crate::wal::{Known, Record, SegmentName};

const SHARDS: u16 = 2;
/// What the page files hold, and the highest revision known to be stable.
const APPLIED: u64 = 6;

/// A stopped member's files.
struct Member {
    last_run: Result<Option<RunNumber>, String>,
    pages: BTreeMap<GroupId, Vec<u8>>,
    segments: BTreeMap<SegmentName, Vec<u8>>,
    groups: Vec<GroupId>,
    names: Vec<SegmentName>,
}

impl Files for Member {
    type Bytes = Vec<u8>;

    fn last_run(&self) -> Result<Option<RunNumber>, String> {
        self.last_run.clone()
    }

    fn segments(&self) -> &[SegmentName] {
        &self.names
    }

    fn groups(&self) -> &[GroupId] {
        &self.groups
    }

    fn segment(&self, name: SegmentName) -> Result<Vec<u8>, String> {
        self.segments.get(&name).cloned().ok_or_else(|| "cannot read it".into())
    }

    fn pages(&self, group: GroupId) -> Result<Vec<u8>, String> {
        self.pages.get(&group).cloned().ok_or_else(|| "cannot read it".into())
    }
}

#[derive(Default)]
struct Heard {
    facts: Vec<(Place, String)>,
    findings: Vec<Finding>,
}

impl Listener for Heard {
    fn facts(&mut self, place: Place, facts: &str) {
        self.facts.push((place, facts.to_owned()));
    }

    fn finding(&mut self, finding: &Finding) {
        self.findings.push(finding.clone());
    }
}

impl Member {
    /// Groups 0 to 2 with revisions up to [`APPLIED`], and this log.
    fn new(rig: Rig) -> Member {
        Member::with(rig, |_, _| {}, |_| {})
    }

    /// The same after `change` has been at the shards' trees, and `note` at the notes.
    fn with(rig: Rig, change: impl Fn(GroupId, &mut Store), note: impl Fn(&mut Note)) -> Member {
        let mut pages = BTreeMap::new();
        for group in (0..=SHARDS).map(GroupId) {
            let mut store = if group == GroupId::META { meta_store() } else { shard_store(group) };
            change(group, &mut store);
            let mut of_group = note_of(group);
            note(&mut of_group);
            pages.insert(group, file_of(&mut store, &of_group));
        }
        let segments = rig.disk.files;
        let (groups, names) = (pages.keys().copied().collect(), segments.keys().copied().collect());
        Member { last_run: Ok(Some(RunNumber(1))), pages, segments, groups, names }
    }

    fn check(&self) -> (Report, Heard) {
        let mut heard = Heard::default();
        let report = check(self, &mut heard);
        assert_eq!(report.findings, heard.findings.len() as u64);
        (report, heard)
    }

    fn is_clean(&self) -> Heard {
        let (_, heard) = self.check();
        assert!(heard.findings.is_empty(), "{:#?}", heard.findings);
        heard
    }

    /// Something is found there, with these words; an offset is given if `with_offset`.
    fn finds(&self, place: Place, with_offset: bool, words: &str) {
        let (_, heard) = self.check();
        let fits = |f: &Finding| f.place == place && f.offset.is_some() == with_offset && f.what.contains(words);
        assert!(heard.findings.iter().any(fits), "no {words:?} at {place:?} in {:#?}", heard.findings);
    }

    fn remove_pages(&mut self, group: u16) {
        self.pages.remove(&GroupId(group));
        self.groups.retain(|of| *of != GroupId(group));
    }
}

fn note_of(group: GroupId) -> Note {
    Note {
        cluster: IDS.0,
        member: IDS.1,
        group,
        shards: SHARDS,
        applied: Index(0),
        applied_term: Term(0),
        applied_revision: Revision(if group == GroupId::META { 0 } else { APPLIED }),
        known_stable: Revision(APPLIED),
        floor: Revision(0),
        sliced: Revision(0),
    }
}

/// A key of this group.
fn key(group: u16, number: usize) -> Vec<u8> {
    let keys = (0..).map(|n| format!("key-{n}").into_bytes());
    keys.filter(|key| group_of(key, SHARDS) == GroupId(group)).nth(number).expect("both groups have keys")
}

fn at(revision: u64, operation: u32) -> Change {
    Change { revision: Revision(revision), operation }
}

fn put(mvcc: &mut Mvcc, key: &[u8], change: Change, create: u64, version: u64, lease: i64) {
    let fields = PutFields { create_revision: Revision(create), version, lease: LeaseId(lease), value: &[7; 3000] };
    mvcc.put(key, change, &fields).expect("all pages are in memory");
}

/// Revisions: 2 group 1; 3 group 2, with a lease; 4 both; 5 group 2, a delete of two keys; 6 group 1.
fn shard_store(group: GroupId) -> Store {
    let mut mvcc = Mvcc::new(Store::create(Options::with_cache(1 << 20)), Revision::ZERO);
    if group == GroupId(1) {
        put(&mut mvcc, &key(1, 0), at(2, 0), 2, 1, 0);
        put(&mut mvcc, &key(1, 0), at(4, 0), 2, 2, 0);
        put(&mut mvcc, &key(1, 1), at(6, 0), 6, 1, 9);
    } else {
        put(&mut mvcc, &key(2, 0), at(3, 0), 3, 1, 9);
        put(&mut mvcc, &key(2, 1), at(4, 1), 4, 1, 0);
        for number in 0..2 {
            mvcc.tombstone(&key(2, number), at(5, 0)).expect("all pages are in memory");
        }
    }
    std::mem::replace(mvcc.store_mut(), Store::create(Options::with_cache(0)))
}

fn meta_store() -> Store {
    let mut store = Store::create(Options::with_cache(1 << 20));
    store.put(META_TREES[0].0, &9i64.to_be_bytes(), &[&60i64.to_le_bytes()], 1).expect("in memory");
    store
}

fn file_of(store: &mut Store, note: &Note) -> Vec<u8> {
    let checkpoint = store.begin_checkpoint(&note.encode());
    let mut file = vec![0; checkpoint.file_bytes as usize];
    let mut writes = store.checkpoint_writes(usize::MAX >> 1);
    writes.push(checkpoint.meta);
    for write in writes {
        let start = write.offset() as usize;
        file[start..start + write.bytes.len()].copy_from_slice(&write.bytes);
    }
    store.finish_checkpoint();
    file
}

/// A log of one core with groups 0 to 2, and nothing in it.
fn rig() -> Rig {
    Rig::new(&[0, 1, 2])
}

/// An entry with a put of a key of its group.
fn entry(group: u16, index: u64, revision: u64, participants: &[u16]) -> Record {
    entry_of(group, index, revision, participants, 5)
}

fn entry_of(group: u16, index: u64, revision: u64, participants: &[u16], value_bytes: usize) -> Record {
    let effect = Effect::Put {
        operation: 0,
        key: key(group, 0).into(),
        value: vec![7; value_bytes].into(),
        lease: LeaseId::NONE,
        create_revision: None,
        version: 1,
    };
    let participants: GroupSet = participants.iter().map(|&group| GroupId(group)).collect();
    let mark = Mark::Revision { revision: Revision(revision), participants };
    record(group, index, mark, Payload::encode_kv(&[effect]))
}

fn record(group: u16, index: u64, mark: Mark, payload: Bytes) -> Record {
    Record::Entry { group: GroupId(group), entry: Entry { term: Term(1), index: Index(index), mark, payload } }
}

fn log_of(records: &[&[Record]], known: u64) -> Rig {
    let mut rig = rig();
    rig.known = Known { stable: Revision(known), ..Known::default() };
    records.iter().for_each(|batch| rig.batch(batch));
    let seal = rig.writer.seal_tail(rig.known);
    if let Some(seal) = seal {
        rig.write(seal);
    }
    rig
}

const KEYS: Tree = TREES[0].0;
const REVISIONS: Tree = TREES[1].0;
const LEASES: Tree = TREES[2].0;

fn pages(group: u16) -> Place {
    Place::Pages(GroupId(group))
}

#[test]
fn a_sound_member_is_clean() {
    let heard = Member::new(rig()).is_clean();
    let says =
        |place, words: &str| assert!(heard.facts.iter().any(|(p, f)| *p == place && f.contains(words)), "{:#?}", heard.facts);
    says(pages(0), "1 lease, 0 alarms, 0 members");
    says(pages(1), "3 versions of 2 living keys, 1 with a lease");
    says(pages(2), "4 versions of 0 living keys");
    says(Place::Member, "every revision from 2 to 6 is there");
    let log = [entry(1, 1, 7, &[1]), entry(1, 2, 8, &[1, 2]), entry(2, 1, 8, &[1, 2]), entry(2, 2, 9, &[2])];
    let heard = Member::new(log_of(&[&log], 8)).is_clean();
    let (_, facts) = heard.facts.last().expect("facts of all files");
    assert!(
        facts.contains("every revision from 2 to 8 is there; 1 revision above 8 in the log, not recorded as stable yet"),
        "{facts}"
    );
}

/// The member whose trees of `group` were changed like this.
fn changed(group: u16, change: impl Fn(&mut Store)) -> Member {
    Member::with(
        rig(),
        |of, store| {
            if of == GroupId(group) {
                change(store)
            }
        },
        |_| {},
    )
}

fn remove(store: &mut Store, tree: Tree, key: &[u8]) {
    assert_eq!(store.remove(tree, key), Ok(true), "it was there");
}

#[test]
fn trees_that_contradict_each_other_are_found() {
    let first = key(1, 0);
    let member = changed(1, |store| remove(store, REVISIONS, &change_key(&first, at(2, 0))));
    member.finds(pages(1), true, "at revision 2.0 is not in the tree of revisions");
    let member = changed(1, |store| remove(store, KEYS, &version_key(&first, at(2, 0))));
    member.finds(pages(1), true, "at revision 2.0 is in the tree of revisions and not in that of keys");
    let member = changed(1, |store| store.put(REVISIONS, &change_key(&first, at(2, 0)), &[&[2]], 1).expect("in memory"));
    member.finds(pages(1), true, "is another in the tree of revisions");
    let member = changed(1, |store| assert_eq!(store.set_weight(KEYS, &version_key(&first, at(2, 0)), 1), Ok(true)));
    member.finds(pages(1), true, "counts as 1 living keys and should count as 0");
    let member = changed(1, |store| remove(store, LEASES, &attached_key(&key(1, 1), LeaseId(9))));
    member.finds(pages(1), true, "has lease 9 and is not in the tree of leases");
    let member = changed(2, |store| store.put(LEASES, &attached_key(&key(2, 0), LeaseId(9)), &[], 1).expect("in memory"));
    member.finds(pages(2), true, "is attached to lease 9, and its newest version is not");
}

#[test]
fn what_a_sweep_that_was_broken_off_left_is_sound() {
    let swept = |sliced: u64| {
        let sweep = |of, store: &mut Store| {
            if of == GroupId(1) {
                remove(store, KEYS, &version_key(&key(1, 0), at(2, 0)));
            }
        };
        let compacted = |note: &mut Note| {
            if note.group != GroupId::META {
                (note.floor, note.sliced) = (Revision(4), Revision(sliced));
            }
        };
        Member::with(rig(), sweep, compacted)
    };
    swept(0).is_clean();
    swept(4).finds(pages(1), true, "at revision 2.0 is in the tree of revisions and not in that of keys");
}

#[test]
fn entries_that_cannot_be_are_found() {
    let stray = |store: &mut Store, tree, key: &[u8], value: &[u8]| store.put(tree, key, &[value], 1).expect("in memory");
    changed(1, |store| stray(store, KEYS, b"no version", b"")).finds(pages(1), true, "is no version");
    changed(1, |store| stray(store, REVISIONS, b"no", &[1])).finds(pages(1), true, "is no change");
    changed(1, |store| stray(store, LEASES, b"no", b"")).finds(pages(1), true, "of the tree of leases is none");
    changed(0, |store| stray(store, META_TREES[0].0, b"no", b"")).finds(pages(0), true, "a record of leases does not decode");
    let version = |create: u8, version: u8| [1, create, version, 0, 2, 0, 0, 0];
    let member = changed(1, |store| stray(store, KEYS, &version_key(&key(2, 0), at(2, 0)), &version(2, 1)));
    member.finds(pages(1), true, "belongs to group 2");
    let member = changed(1, |store| stray(store, KEYS, &version_key(&key(1, 2), at(7, 0)), &version(7, 1)));
    member.finds(pages(1), true, "is outside the revisions that are applied, 2 to 6");
    let member = changed(1, |store| stray(store, KEYS, &version_key(&key(1, 2), at(6, 0)), &version(6, 2)));
    member.finds(pages(1), true, "contradicts itself: version 2, created at revision 6");
    let member = changed(1, |store| stray(store, KEYS, &version_key(&key(1, 0), at(3, 0)), &version(2, 2)));
    member.finds(pages(1), true, "at revision 3.0 does not lead to the next version");
    let member = Member::with(rig(), |_, _| {}, |note| note.floor = Revision(3));
    member.finds(pages(0), false, "the compaction revision is 0, and the checkpoint's note says 3");
}

#[test]
fn holes_in_the_revisions_are_found() {
    let member = changed(1, |store| {
        remove(store, KEYS, &version_key(&key(1, 0), at(2, 0)));
        remove(store, REVISIONS, &change_key(&key(1, 0), at(2, 0)));
    });
    member.finds(Place::Member, false, "revision 2 is missing");
    let member = changed(2, |store| {
        remove(store, KEYS, &version_key(&key(2, 1), at(4, 1)));
        remove(store, REVISIONS, &change_key(&key(2, 1), at(4, 1)));
        store.put(KEYS, &version_key(&key(2, 1), at(4, 2)), &[&[1, 4, 1, 0, 2, 0, 0, 0]], 0).expect("in memory");
        store.put(REVISIONS, &change_key(&key(2, 1), at(4, 2)), &[&[1, 4, 1, 0]], 1).expect("in memory");
    });
    member.finds(pages(2), true, "revision 4 has operation 2 after 1 change");
    let shared = [entry(1, 1, 7, &[1, 2]), entry(2, 1, 8, &[2])];
    Member::new(log_of(&[&shared], 8)).finds(Place::Wal, false, "revision 7 is missing in group 2");
    let hole = [entry(1, 1, 7, &[1]), entry(1, 2, 10, &[1])];
    Member::new(log_of(&[&hole], 10)).finds(Place::Member, false, "revisions 8 to 9 are missing");
    Member::new(log_of(&[], 8)).finds(Place::Member, false, "revisions 7 to 8 are missing");
    Member::with(rig(), |_, _| {}, |note| note.known_stable = Revision(7)).finds(Place::Member, false, "revision 7 is missing");
}

#[test]
fn every_damaged_batch_is_found() {
    let batches: Vec<Record> = (1..=6).map(|n| entry(1, n, 6 + n, &[1])).collect();
    let rig = log_of(&batches.iter().map(std::slice::from_ref).collect::<Vec<_>>(), 12);
    let places = rig.batches.clone();
    let mut member = Member::new(rig);
    member.is_clean();
    for &(file, offset, _) in [&places[2], &places[4]] {
        member.segments.get_mut(&file).expect("it is there")[offset as usize + 100] ^= 4;
    }
    let (report, heard) = member.check();
    let found: Vec<_> = heard.findings.iter().map(|f| (f.place, f.offset)).collect();
    assert_eq!(found, [(Place::Segment(places[2].0), Some(places[2].1)), (Place::Segment(places[4].0), Some(places[4].1))]);
    assert_eq!(report.left_out, ["whether every revision is there"]);
}

#[test]
fn a_torn_tail_is_no_damage() {
    let mut rig = rig();
    rig.batch(&[entry(1, 1, 7, &[1])]);
    let (file, offset, _) = rig.batches[1];
    let mut member = Member::new(rig);
    member.segments.get_mut(&file).expect("it is there")[offset as usize + 100] ^= 4;
    let heard = member.is_clean();
    let says = format!("at offset {offset}, a batch that was not written to its end");
    assert!(
        heard.facts.iter().any(|(place, facts)| *place == Place::Segment(file) && facts.contains(&says)),
        "{:#?}",
        heard.facts
    );
}

#[test]
fn entries_that_cannot_be_applied_are_found() {
    let mark = Mark::Revision { revision: Revision(7), participants: GroupSet::of(GroupId(1)) };
    for (payload, words) in [
        (&b"\x09"[..], "does not decode"),
        (b"\x00\x07", "that does not decode"),
        (b"\x03\x01\0\0\0\0\0\0\0\0", "group 0's state"),
    ] {
        let rig = log_of(&[&[record(1, 1, mark, Bytes::copy_from_slice(payload))]], 6);
        Member::new(rig).finds(Place::Segment(segment(1, 0, 1)), true, words);
    }
    let falls = [entry(1, 1, 8, &[1]), entry(1, 2, 7, &[1])];
    Member::new(log_of(&[&falls], 6)).finds(Place::Segment(segment(1, 0, 1)), true, "the revision falls at entry 2");
}

#[test]
fn missing_files_are_found() {
    let mut member = Member::new(rig());
    (member.segments, member.names) = (BTreeMap::new(), Vec::new());
    member.finds(Place::Wal, false, "there is no segment, though the member has served");
    let mut member = Member::new(rig());
    member.last_run = Ok(Some(RunNumber(2)));
    member.finds(Place::Wal, false, "run 2 was the last that served, and its segments (0000000000000002-*.wal) are missing");
    let mut member = Member::new(rig());
    member.remove_pages(0);
    member.finds(pages(0), false, "the file is missing, though the member has served");
    let mut log = rig();
    log.batch(&[entry(2, 1, 7, &[2]), entry(2, 2, 8, &[2])]);
    let mut index = 2;
    while !log.writer.needs_rotation() {
        index += 1;
        log.writer.append(&entry_of(2, index, 6 + index, &[2], 9000));
        if !log.writer.needs_rotation() {
            log.flush();
        }
    }
    let mut next = state(&[0, 1, 2], 0);
    next.groups[2].start = Index(2);
    let write = log.writer.rotate(next, log.known);
    log.write(write);
    log.flush();
    let note = |note: &mut Note| {
        if note.group == GroupId(2) {
            (note.applied, note.applied_term, note.applied_revision) = (Index(2), Term(1), Revision(8));
        }
    };
    let mut member = Member::with(log, |_, _| {}, note);
    member.pages.insert(GroupId(2), vec![0; 2 * PAGE_BYTES]);
    member.finds(pages(2), false, "no checkpoint is in it, though segment");
    member.remove_pages(2);
    member.finds(pages(2), false, "the file is missing, though segment");
    member.last_run = Err("the file is missing".into());
    member.finds(Place::Format, false, "the file is missing");
    let mut member = Member::new(rig());
    member.pages.remove(&GroupId(1));
    member.finds(pages(1), false, "cannot read it");
}

#[test]
fn page_files_of_others_are_found() {
    let mut member = Member::new(rig());
    let of_one = member.pages[&GroupId(1)].clone();
    member.pages.insert(GroupId(2), of_one);
    member.finds(pages(2), false, "it is the page file of group 1");
    let other = |note: &mut Note| note.cluster.0 += u64::from(note.group.0);
    Member::with(rig(), |_, _| {}, other).finds(pages(1), false, "it belongs to member a1 of cluster c2");
    let other = |note: &mut Note| note.shards = 2 + note.group.0 / 2;
    Member::with(rig(), |_, _| {}, other).finds(pages(2), false, "it is laid out for 3");
}

/// Writes the checksum of a page anew: what is wrong is then in the contents.
fn seal(page: &mut [u8]) {
    let checksum = crc32c::crc32c(&page[4..]);
    page[..4].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn the_free_list_is_compared_with_what_is_reached() {
    const BITMAP: u8 = 4;
    let sound = Member::new(rig());
    let file = &sound.pages[&GroupId(1)];
    let bitmap = file.chunks(PAGE_BYTES).position(|page| page[16] == BITMAP).expect("a bitmap") * PAGE_BYTES;
    let count = file.len() / PAGE_BYTES;
    for (page, words) in
        [(2, "it is referred to, and marked as free"), (count, "it is marked as in use, and nothing refers to it")]
    {
        let mut member = Member::new(rig());
        let file = member.pages.get_mut(&GroupId(1)).expect("it is there");
        file[bitmap + 32 + page / 8] ^= 1 << (page % 8);
        seal(&mut file[bitmap..bitmap + PAGE_BYTES]);
        let (_, heard) = member.check();
        let offset = Some((page * PAGE_BYTES) as u64);
        let fits = |f: &Finding| f.place == pages(1) && f.offset == offset && f.what.contains(words);
        assert!(heard.findings.iter().any(fits), "{:#?}", heard.findings);
    }
}

#[test]
fn a_flipped_bit_in_any_page_is_found() {
    let sound = Member::new(rig());
    for (&group, file) in &sound.pages {
        for offset in (0..file.len()).step_by(509) {
            let mut member = Member::new(rig());
            let page = offset / PAGE_BYTES;
            // The other meta page was never written, and must stay so; every other page is reached.
            member.pages.get_mut(&group).expect("it is there")[offset] ^= 16;
            let (_, heard) = member.check();
            let near = |f: &Finding| {
                f.place == Place::Pages(group) && f.offset.is_some_and(|at| at / PAGE_BYTES as u64 <= page as u64)
            };
            assert!(heard.findings.iter().any(near), "group {group}, offset {offset}: {:#?}", heard.findings);
        }
    }
}
