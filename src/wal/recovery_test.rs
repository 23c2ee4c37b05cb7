//! Every row of the decision table, on files that a writer made.

use super::rig_test::*;
use super::*;
use crate::base::limits::BLOCK_BYTES;
use crate::base::{BatchNumber, ClusterId, CoreId, GroupId, Index, MemberId, Revision, SegmentSequence, Term};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Three batches of one entry each, 1 to 3, behind the state batch.
fn three() -> Rig {
    let mut rig = Rig::new(&[0, 1]);
    rig.fill(1, 3, 6000);
    rig
}

#[test]
fn what_was_written_comes_back() {
    let mut rig = three();
    rig.batch(&[Record::Vote { term: Term(4), vote: Some(MemberId(9)) }, put(0, 4, 1, b"meta"), revision(1, 4, 7, &[0, 1])]);
    rig.known = Known { stable: Revision(6), serving: Revision(5), meta_applied: Index(1) };
    rig.batch(&[put(1, 4, 5, b"")]);
    let recovered = rig.recover().unwrap();
    assert_eq!((recovered.term, recovered.vote, recovered.ids), (Term(4), Some(MemberId(9)), Some(IDS)));
    assert_eq!((recovered.run.0, recovered.known), (1, rig.known));
    assert_eq!(indexes(group(&recovered, 0)), [1]);
    assert_eq!(indexes(group(&recovered, 1)), [1, 2, 3, 4, 5]);
    assert_eq!(
        group(&recovered, 1).entries[3],
        match revision(1, 4, 7, &[0, 1]) {
            Record::Entry { entry, .. } => entry,
            _ => unreachable!(),
        }
    );
    assert_eq!(group(&recovered, 1).entries[1].payload, vec![2; 6000]);
    assert_eq!(group(&recovered, 1).configuration, "voters");
    assert_eq!(recovered.cut_tails, []);
}

#[test]
fn nothing_is_recovered_from_nothing() {
    let recovered = Disk::default().recover(RecoveryOptions::default()).unwrap();
    assert!(recovered.ids.is_none() && recovered.groups.is_empty() && recovered.run.0 == 0);
}

#[test]
fn a_torn_tail_is_cut_and_named() {
    let mut rig = three();
    let (file, offset, bytes) = rig.batches[3];
    rig.disk.flip(file, offset + bytes - 1, 3);
    let recovered = rig.recover().unwrap();
    assert_eq!(recovered.cut_tails, [CutTail { file, offset, bytes }]);
    assert_eq!(
        recovered.cut_tails[0].to_string(),
        "torn tail cut: WAL segment 0000000000000001-0000-0000000000000001.wal at offset 20480, 8192 bytes"
    );
    assert_eq!(indexes(group(&recovered, 1)), [1, 2]);
    assert_eq!(recovered.ends[0].batch, BatchNumber(3));
    // A header that is torn is told from the zeros behind the log.
    rig.disk.flip(file, offset + 70, 3);
    let recovered = rig.recover().unwrap();
    assert_eq!(recovered.cut_tails, [CutTail { file, offset, bytes: BLOCK }]);
}

#[test]
fn once_sealed_the_last_batch_cannot_pass_for_torn() {
    let mut rig = three();
    let seal = rig.writer.seal_tail(rig.known).expect("the tail is open");
    rig.write(seal);
    assert!(rig.writer.seal_tail(rig.known).is_none(), "it is sealed");
    let (file, offset, bytes) = rig.batches[3];
    rig.disk.flip(file, offset + bytes - 1, 3);
    let later = Later { file, offset: offset + bytes };
    assert_eq!(rig.damage(), Damage { file: Some(file), offset, what: What::Payload { later } });
    assert_eq!(
        rig.damage().to_string(),
        "WAL segment 0000000000000001-0000-0000000000000001.wal at offset 20480: a batch's checksum does not match, \
         though a later batch stands in 0000000000000001-0000-0000000000000001.wal at offset 28672"
    );
}

#[test]
fn damage_before_a_later_batch_is_damage() {
    for (byte, header) in [(5000, false), (30, true), (0, true)] {
        let mut rig = three();
        let (file, offset, _) = rig.batches[2];
        rig.disk.flip(file, offset + byte, 0);
        let later = Later { file, offset: rig.batches[3].1 };
        let what = if header { What::Header { later } } else { What::Payload { later } };
        assert_eq!(rig.damage(), Damage { file: Some(file), offset, what });
    }
}

#[test]
fn a_hole_of_zeros_before_a_later_batch_is_damage() {
    let mut rig = three();
    let (file, offset, bytes) = rig.batches[2];
    rig.disk.files.get_mut(&file).unwrap()[offset as usize..(offset + bytes) as usize].fill(0);
    let later = Later { file, offset: rig.batches[3].1 };
    assert_eq!(rig.damage(), Damage { file: Some(file), offset, what: What::Header { later } });
}

/// Until three segments are in use: their state batches are `batches[heads[i]]`.
fn three_segments() -> (Rig, Vec<usize>) {
    let mut rig = Rig::new(&[0, 1]);
    let mut index = 1;
    while rig.batches.last().unwrap().0.sequence.0 < 3 {
        rig.fill(index, 1, 10_000);
        index += 1;
    }
    rig.fill(index, 1, 10_000);
    let heads = (0..rig.batches.len()).filter(|&b| rig.batches[b].1 == 0).collect();
    (rig, heads)
}

#[test]
fn a_bad_batch_at_the_end_of_a_segment_is_damage_when_the_next_one_is_in_use() {
    let (mut rig, heads) = three_segments();
    let (file, offset, bytes) = rig.batches[heads[1] - 1];
    rig.disk.flip(file, offset + bytes - 1, 3);
    let later = Later { file: segment(1, 0, 2), offset: 0 };
    assert_eq!(rig.damage(), Damage { file: Some(file), offset, what: What::Payload { later } });
    // Also when it is gone without a trace.
    rig.disk.files.get_mut(&file).unwrap()[offset as usize..(offset + bytes) as usize].fill(0);
    let (expected, found) = (BatchNumber(heads[1] as u64), BatchNumber(heads[1] as u64 + 1));
    assert_eq!(rig.damage(), Damage { file: Some(file), offset, what: What::BatchGap { expected, found } });
}

#[test]
fn a_bad_state_batch_is_damage_unless_its_segment_is_the_newest() {
    let (mut rig, heads) = three_segments();
    let file = rig.batches[heads[1]].0;
    rig.disk.flip(file, 200, 3);
    let later = Later { file, offset: rig.batches[heads[1] + 1].1 };
    assert_eq!(rig.damage(), Damage { file: Some(file), offset: 0, what: What::Payload { later } });
    // Torn at rotation: behind it there is only the segment that stood ready.
    let mut rig = Rig::new(&[0, 1]);
    let mut index = 1;
    while rig.batches.last().unwrap().0.sequence.0 < 2 {
        rig.writer.append(&put(1, 1, index, &[7; 10_000]));
        if rig.writer.needs_rotation() {
            let write = rig.writer.rotate(state(&[0, 1], 0), rig.known);
            rig.disk.write(&write);
            rig.disk.flip(write.segment, 130, 3);
            break;
        }
        rig.flush();
        index += 1;
    }
    let recovered = rig.recover().unwrap();
    assert_eq!(group(&recovered, 1).tail().last, Index(index - 1));
    assert_eq!(recovered.cut_tails, [CutTail { file: segment(1, 0, 2), offset: 0, bytes: BLOCK }]);
}

#[test]
fn a_missing_or_emptied_segment_is_damage() {
    let (rig, _) = three_segments();
    let mut disk = rig.disk.clone();
    disk.files.remove(&segment(1, 0, 2));
    let missing = Damage { file: Some(segment(1, 0, 2)), offset: 0, what: What::MissingSegment };
    assert_eq!(disk.recover(RecoveryOptions::default()).unwrap_err(), missing);
    let mut disk = rig.disk.clone();
    disk.files.get_mut(&segment(1, 0, 2)).unwrap().fill(0);
    let empty = Damage { file: Some(segment(1, 0, 2)), offset: 0, what: What::EmptySegment };
    assert_eq!(disk.recover(RecoveryOptions::default()).unwrap_err(), empty);
    // The oldest one may be gone, but only when the page store has what was in it.
    let mut disk = rig.disk.clone();
    disk.files.remove(&segment(1, 0, 1));
    let damage = disk.recover(RecoveryOptions::default()).unwrap_err();
    let last = rig.writer.ledger().segments().next().unwrap().highest[0].1;
    assert_eq!(damage.what, What::MissingEntries { group: GroupId(1), checkpoint: Index(0), start: last });
    assert_eq!(damage.file.unwrap().wal, wal(1, 0));
    let checkpoints = vec![checkpoint(1, last.0, 1, 0)];
    let recovered = disk.recover(RecoveryOptions { checkpoints, ..Default::default() }).unwrap();
    assert_eq!(group(&recovered, 1).start, last);
    assert_eq!(group(&recovered, 1).entries[0].index, last.next());
}

#[test]
fn a_truncated_file_is_damage() {
    let rig = three();
    for (bytes, offset) in [(0, 0), (SEGMENT - BLOCK, SEGMENT - BLOCK), (100, 100), (20480, 20480)] {
        let mut disk = rig.disk.clone();
        disk.files.get_mut(&segment(1, 0, 1)).unwrap().truncate(bytes as usize);
        let expected = Damage { file: Some(segment(1, 0, 1)), offset, what: What::Truncated { bytes } };
        assert_eq!(disk.recover(RecoveryOptions::default()).unwrap_err(), expected);
    }
}

#[test]
fn a_foreign_or_unknown_segment_is_refused() {
    let rig = three();
    let ids = Some((ClusterId(0xC1), MemberId(0xA2)));
    let damage = rig.disk.recover(RecoveryOptions { ids, ..Default::default() }).unwrap_err();
    assert_eq!(damage.what, What::Foreign { cluster: IDS.0, member: IDS.1 });
    let mut disk = rig.disk.clone();
    let file = disk.files.get_mut(&segment(1, 0, 1)).unwrap();
    file[8] = 2;
    file[12..16].fill(0);
    let crc = crc32fast::hash(&file[..96]);
    file[12..16].copy_from_slice(&crc.to_le_bytes());
    let expected = Damage { file: Some(segment(1, 0, 1)), offset: 0, what: What::Format(2) };
    assert_eq!(disk.recover(RecoveryOptions::default()).unwrap_err(), expected);
}

/// Rewrites the header crc after `change`, so that only the content is wrong.
fn forge(rig: &mut Rig, batch: usize, change: impl FnOnce(&mut [u8])) {
    let (file, offset, bytes) = rig.batches[batch];
    forge_at(rig, file, offset, bytes as usize, change);
}

fn forge_at(rig: &mut Rig, file: SegmentName, offset: u64, bytes: usize, change: impl FnOnce(&mut [u8])) {
    let block = &mut rig.disk.files.get_mut(&file).unwrap()[offset as usize..][..bytes];
    change(block);
    let payload = crc32fast::hash(&block[96..]);
    block[16..20].copy_from_slice(&payload.to_le_bytes());
    block[12..16].fill(0);
    let crc = crc32fast::hash(&block[..96]);
    block[12..16].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn batches_that_do_not_follow_each_other_are_damage() {
    let mut rig = three();
    forge(&mut rig, 3, |block| block[56] = 9);
    assert_eq!(rig.damage().what, What::BatchGap { expected: BatchNumber(4), found: BatchNumber(9) });
    let mut rig = three();
    forge(&mut rig, 2, |block| block[4000] ^= 1);
    assert_eq!(rig.damage(), Damage { file: Some(segment(1, 0, 1)), offset: rig.batches[3].1, what: What::Chain });
    let mut rig = three();
    forge(&mut rig, 3, |block| block[10] = 1);
    assert_eq!(rig.damage().what, What::StateMisplaced);
    let mut rig = three();
    forge(&mut rig, 3, |block| block[28] = 2);
    assert_eq!(rig.damage().what, What::Malformed);
}

#[test]
fn a_stale_batch_in_a_reused_file_is_never_taken_for_a_new_one() {
    let mut rig = three();
    let old = rig.disk.files[&segment(1, 0, 1)].clone();
    // The same WAL's first segment, renamed as the third, with everything it held.
    rig.disk.files.insert(segment(1, 0, 3), old);
    let recovered = rig.recover().unwrap();
    assert_eq!((indexes(group(&recovered, 1)), recovered.cut_tails), (vec![1, 2, 3], vec![]));
}

#[test]
fn a_batch_that_a_client_wrote_into_a_value_is_never_taken_for_one() {
    let rig = three();
    let (file, offset, bytes) = rig.batches[3];
    let forged = rig.disk.files[&file][offset as usize..(offset + bytes) as usize].to_vec();
    let mut other = three();
    // The very next batch, but for the salt, which no client knows: where the log ends, and further on.
    other.disk.files.get_mut(&file).unwrap()[(offset + bytes) as usize..][..forged.len()].copy_from_slice(&forged);
    forge_at(&mut other, file, offset + bytes, forged.len(), |block| {
        block[56] = 5;
        block[40] ^= 1;
    });
    let recovered = other.recover().unwrap();
    assert_eq!((indexes(group(&recovered, 1)), recovered.cut_tails), (vec![1, 2, 3], vec![]));
    // Inside a torn batch, with the salt even: the batch's own length leads past it.
    let mut value = vec![0; 4000];
    value.extend_from_slice(&forged);
    let mut rig = three();
    rig.writer.append(&put(1, 1, 4, &value));
    let write = rig.writer.seal(rig.known).unwrap();
    rig.disk.write(&write);
    rig.disk.flip(file, write.offset + 200, 0);
    assert_eq!(rig.recover().unwrap().cut_tails.len(), 1);
}

#[test]
fn an_earlier_run_must_reach_its_recorded_end_and_what_is_behind_it_is_ignored() {
    let mut rig = three();
    let torn = put(1, 1, 4, &[4; 6000]);
    rig.writer.append(&torn);
    let write = rig.writer.seal(rig.known).unwrap();
    rig.disk.write_torn(&write, BLOCK_BYTES, |block| block == 0);
    let mut next = Rig { disk: rig.disk.clone(), ..rig }.restart();
    next.batch(&[put(1, 1, 4, b"of run 2")]);
    // The lost half arrives late: it changes nothing.
    next.disk.write(&write);
    let recovered = next.recover().unwrap();
    assert_eq!(group(&recovered, 1).entries[3].payload, "of run 2");
    assert_eq!(recovered.cut_tails, []);
    // The last batch that run 2 has read is damaged: no torn tail any more.
    let (file, offset) = (segment(1, 0, 1), write.offset - 8192);
    next.disk.flip(file, offset + 500, 1);
    let expected = Damage { file: Some(file), offset, what: What::EndNotReached { batch: BatchNumber(4) } };
    assert_eq!(next.damage(), expected);
    // Another batch in its place.
    next.disk.flip(file, offset + 500, 1);
    let bytes = 8192;
    forge_at(&mut next, file, offset, bytes, |block| block[500] ^= 1);
    assert_eq!(next.damage(), Damage { file: Some(file), offset, what: What::EndDiffers });
    // And gone altogether.
    next.disk.files.remove(&file);
    let missing = What::MissingEntries { group: GroupId(1), checkpoint: Index(0), start: Index(3) };
    assert_eq!(next.damage().what, missing);
}

#[test]
fn an_earlier_wal_may_be_gone_only_when_it_was_released() {
    let mut next = three().restart();
    next.batch(&[put(1, 1, 4, b"of run 2")]);
    next.disk.files.retain(|name, _| name.wal.run.0 == 2);
    let missing = What::MissingEntries { group: GroupId(1), checkpoint: Index(0), start: Index(3) };
    assert_eq!(next.damage().what, missing);
    let checkpoints = vec![checkpoint(1, 3, 1, 0)];
    let recovered = next.disk.recover(RecoveryOptions { checkpoints, ..Default::default() }).unwrap();
    assert_eq!(indexes(group(&recovered, 1)), [4]);
}

#[test]
fn every_core_of_the_newest_run_must_have_its_wal() {
    let disk = Rig::start(Disk::default(), 1, 0, 2, &[0], Recovered::default()).disk;
    let damage = disk.recover(RecoveryOptions::default()).unwrap_err();
    assert_eq!(damage.what, What::MissingWal(wal(1, 1)));
    let mut disk = disk;
    disk.files.insert(segment(1, 1, 1), vec![0; SEGMENT as usize]);
    assert!(disk.recover(RecoveryOptions::default()).is_ok(), "it had not come to its first batch");
}

#[test]
fn a_group_on_two_cores_of_a_run_is_damage() {
    let disk = Rig::start(Disk::default(), 1, 0, 2, &[0, 1], Recovered::default()).disk;
    let disk = Rig::start(disk, 1, 1, 2, &[1, 2], Recovered::default()).disk;
    let damage = disk.recover(RecoveryOptions::default()).unwrap_err();
    assert_eq!(damage.what, What::TwoCores { group: GroupId(1), other: CoreId(0) });
}

#[test]
fn the_log_must_reach_what_was_applied() {
    let mut rig = three();
    let behind = What::Behind { group: GroupId(1), last: Index(3), applied: Index(4) };
    let options = RecoveryOptions { checkpoints: vec![checkpoint(1, 4, 1, 0)], ..Default::default() };
    assert_eq!(rig.disk.recover(options).unwrap_err().what, behind);
    let options = RecoveryOptions { checkpoints: vec![checkpoint(1, 3, 2, 0)], ..Default::default() };
    let differs = What::CheckpointDiffers { group: GroupId(1), index: Index(3) };
    assert_eq!(rig.disk.recover(options).unwrap_err().what, differs);
    let options = RecoveryOptions { checkpoints: vec![checkpoint(7, 1, 1, 0)], ..Default::default() };
    let gone = What::Behind { group: GroupId(7), last: Index(0), applied: Index(1) };
    assert_eq!(rig.disk.recover(options).unwrap_err(), Damage { file: None, offset: 0, what: gone });
    rig.known.meta_applied = Index(1);
    rig.fill(4, 1, 10);
    let meta = What::Behind { group: GroupId(0), last: Index(0), applied: Index(1) };
    assert_eq!(rig.damage().what, meta);
}

#[test]
fn logs_are_cut_and_overwritten_as_recorded() {
    let mut rig = three();
    rig.batch(&[Record::Cut { group: GroupId(1), after: Index(2) }, put(1, 3, 3, b"after the cut"), put(1, 3, 4, b"")]);
    rig.batch(&[put(1, 4, 4, b"instead")]);
    let recovered = rig.recover().unwrap();
    let log: Vec<(u64, u64)> = group(&recovered, 1).entries.iter().map(|e| (e.term.0, e.index.0)).collect();
    assert_eq!(log, [(1, 1), (1, 2), (3, 3), (4, 4)]);
    rig.batch(&[Record::Snapshot { group: GroupId(1), index: Index(100), term: Term(4) }, put(1, 5, 101, b"")]);
    let recovered = rig.recover().unwrap();
    assert!(group(&recovered, 1).snapshot);
    assert_eq!((group(&recovered, 1).start, group(&recovered, 1).start_term), (Index(100), Term(4)));
    assert_eq!(indexes(group(&recovered, 1)), [101]);
    let options = RecoveryOptions { checkpoints: vec![checkpoint(1, 100, 4, 0)], ..Default::default() };
    let recovered = rig.disk.recover(options).unwrap();
    assert!(!group(&recovered, 1).snapshot);
    assert_eq!(indexes(group(&recovered, 1)), [101]);
}

#[test]
fn what_is_recovered_pins_what_is_needed_and_no_more() {
    let mut rig = three();
    rig.batch(&[Record::Cut { group: GroupId(1), after: Index(2) }, put(0, 1, 1, b"")]);
    let mut ledger = rig.recover().unwrap().ledger;
    let uses: Vec<SegmentUse> = ledger.segments().cloned().collect();
    assert_eq!(uses[0].highest, [(GroupId(1), Index(2)), (GroupId(0), Index(1))]);
    assert_eq!((uses.len(), uses[1].highest.len()), (2, 0));
    ledger.release(GroupId(1), Index(2));
    ledger.release(GroupId(0), Index(1));
    assert_eq!(ledger.take_free(), [], "no run carries the vote on");
    ledger.carried_forward();
    assert_eq!(ledger.take_free(), [segment(1, 0, 1), segment(1, 0, 2)]);
}

#[test]
fn two_votes_in_a_term_are_damage() {
    let mut rig = three();
    rig.batch(&[Record::Vote { term: Term(2), vote: Some(MemberId(1)) }]);
    rig.batch(&[Record::Vote { term: Term(2), vote: Some(MemberId(2)) }]);
    assert_eq!(rig.damage().what, What::TwoVotes(Term(2)));
}

#[test]
fn a_run_that_never_wrote_leaves_nothing_behind() {
    let mut rig = three();
    rig.disk.files.insert(segment(2, 0, 1), vec![0; SEGMENT as usize]);
    rig.disk.files.insert(segment(2, 1, 1), rig.disk.files[&segment(1, 0, 1)].clone());
    let recovered = rig.recover().unwrap();
    assert_eq!((recovered.run.0, indexes(group(&recovered, 1))), (2, vec![1, 2, 3]));
    let none = |core| RunEnd { wal: wal(2, core), sequence: SegmentSequence(0), batch: BatchNumber(0), crc: 0 };
    assert_eq!(recovered.ends[1..], [none(0), none(1)]);
    // Its second segment cannot be all that there is of it.
    rig.disk.files.insert(segment(3, 0, 2), vec![0; SEGMENT as usize]);
    assert_eq!(rig.damage(), Damage { file: Some(segment(3, 0, 2)), offset: 0, what: What::EmptySegment });
}
