//! The writer by itself: batches, rotation, room, buffers.

use super::rig_test::*;
use super::*;
use crate::base::limits::{BLOCK_BYTES, SEGMENT_BYTES, WAL_PAYLOAD_BYTES_MAX};
use crate::base::{GroupId, Index, MemberId, Prng, Revision, Term};

#[test]
fn what_fits_no_batch_goes_into_the_next_one() {
    let mut rig = Rig::new(&[1]);
    for index in 1..=10 {
        let number = rig.writer.append(&put(1, 1, index, &[index as u8; 5000]));
        assert_eq!(number, index);
    }
    let first = rig.writer.seal(rig.known).unwrap();
    assert_eq!(first.bytes, 16 << 10);
    assert!(rig.writer.seal(rig.known).is_none(), "one is in flight");
    assert!(rig.writer.in_flight() && !rig.writer.needs_rotation() && rig.writer.seal_tail(rig.known).is_none());
    rig.writer.append(&put(1, 1, 11, b"while in flight"));
    assert_eq!(rig.writer.durable(), 0);
    rig.write(first);
    assert_eq!((rig.writer.durable(), rig.writer.durable_tail(GroupId(1)).last), (3, Index(3)));
    rig.flush();
    assert_eq!((rig.writer.durable(), rig.writer.pending_bytes()), (11, 0));
    assert_eq!(rig.batches.len(), 6, "four of records, and the state of two segments");
    assert_eq!(indexes(group(&rig.recover().unwrap(), 1)), (1..=11).collect::<Vec<_>>());
}

#[test]
fn the_largest_payload_fits_a_batch_and_the_largest_batch_a_segment() {
    let mut writer = Writer::new(WriterOptions {
        cluster: IDS.0,
        member: IDS.1,
        wal: wal(1, 0),
        cores: 1,
        salt: 1,
        term: Term(0),
        vote: None,
        known: Known::default(),
        ends: Vec::new(),
        tails: Vec::new(),
        limits: WriterLimits::default(),
    });
    let name = writer.wants_segment().unwrap();
    writer.provide_segment(name, SEGMENT_BYTES as u64);
    let mut file = vec![0; SEGMENT_BYTES];
    let mut write = |write: SegmentWrite, writer: &mut Writer| {
        let at = write.offset as usize;
        file[at..at + write.bytes].copy_from_slice(&write.buffer[..write.bytes]);
        writer.written(write.buffer);
    };
    let first = writer.rotate(state(&[1], 0), Known::default());
    write(first, &mut writer);
    for index in 1..=2 {
        writer.append(&put(1, 1, index, &vec![index as u8; WAL_PAYLOAD_BYTES_MAX]));
    }
    while let Some(next) = writer.seal(Known::default()) {
        write(next, &mut writer);
    }
    assert_eq!(writer.durable(), 2);
    let recovered = recover(RecoveryOptions::default(), vec![name], |_| &file).unwrap();
    assert_eq!(group(&recovered, 1).entries[1].payload, vec![2; WAL_PAYLOAD_BYTES_MAX]);
}

#[test]
fn what_was_given_room_is_written_with_the_segments_at_hand() {
    for seed in 0..200 {
        let mut rng = Prng::new(seed);
        let mut rig = Rig::new(&[1]);
        let (mut index, mut refused) = (0, 0);
        while refused < 30 {
            let bytes = if rng.chance(1, 4) { 1 + rng.below(12_000) } else { 1 + rng.below(200) } as usize;
            if rig.writer.room() < bytes + 100 {
                refused += 1;
            } else {
                index += 1;
                rig.writer.append(&put(1, 1, index, &vec![1; bytes]));
            }
            if rng.chance(1, 3) && rig.writer.needs_rotation() {
                rig.rotate();
            } else if rng.chance(1, 3)
                && let Some(write) = rig.writer.seal(rig.known)
            {
                rig.write(write);
            }
        }
        while rig.writer.pending_bytes() > 0 {
            if rig.writer.needs_rotation() {
                rig.rotate();
            }
            let write = rig.writer.seal(rig.known).unwrap_or_else(|| panic!("seed {seed}: stuck at entry {index}"));
            rig.write(write);
        }
        assert!(index > 3, "seed {seed}: hardly anything was let in");
        // What does not ask has the reserve.
        rig.batch(&[Record::Vote { term: Term(9), vote: Some(MemberId(1)) }]);
        assert_eq!(rig.recover().unwrap().term, Term(9));
        rig.provide();
        assert!(rig.writer.room() > 12_000, "seed {seed}: a segment makes room again");
    }
}

#[test]
fn pending_bytes_are_bounded() {
    let mut rig = Rig::new(&[1]);
    rig.writer.provide_segment(rig.writer.wants_segment().unwrap_or(segment(1, 0, 3)), 64 << 20);
    let mut index = 0;
    while rig.writer.room() >= 1100 {
        index += 1;
        rig.writer.append(&put(1, 1, index, &[0; 1000]));
    }
    let limit = limits().pending_bytes;
    assert!((limit - 1100..=limit).contains(&rig.writer.pending_bytes()), "{}", rig.writer.pending_bytes());
}

#[test]
fn a_segment_keeps_a_block_for_its_seal() {
    let mut rig = Rig::new(&[1]);
    let mut index = 0;
    // Blocks one by one, so that the segment is filled to the last one that may be.
    while !rig.writer.needs_rotation() {
        index += 1;
        rig.writer.append(&put(1, 1, index, b"x"));
        if let Some(write) = rig.writer.seal(rig.known) {
            rig.write(write);
        }
    }
    let (_, offset, bytes) = *rig.batches.last().unwrap();
    assert_eq!(offset + bytes, SEGMENT - BLOCK_BYTES as u64);
    let mut rig = Rig::new(&[1]);
    for index in 1..=SEGMENT / BLOCK_BYTES as u64 - 2 {
        rig.batch(&[put(1, 1, index, b"x")]);
    }
    let seal = rig.writer.seal_tail(rig.known).unwrap();
    assert_eq!(seal.offset, SEGMENT - BLOCK_BYTES as u64);
    rig.write(seal);
    rig.batch(&[put(1, 1, 11, b"in the next segment")]);
    assert_eq!(indexes(group(&rig.recover().unwrap(), 1)), (1..=11).collect::<Vec<_>>());
}

#[test]
fn segments_are_free_once_released_and_their_state_is_carried_on() {
    let mut rig = Rig::new(&[0, 1]);
    rig.batch(&[Record::Vote { term: Term(3), vote: Some(MemberId(0xA1)) }, put(0, 3, 1, b"meta")]);
    let mut index = 0;
    while rig.batches.last().unwrap().0.sequence.0 < 3 {
        index += 1;
        rig.batch(&[put(1, 3, index, &[0; 3000])]);
    }
    rig.writer.release(GroupId(1), Index(index));
    assert_eq!(rig.writer.take_free(), [], "group 0 needs the first");
    rig.writer.release(GroupId(0), Index(1));
    assert_eq!(rig.writer.take_free(), [segment(1, 0, 1), segment(1, 0, 2)]);
    rig.disk.files.retain(|name, _| name.sequence.0 > 2);
    let checkpoints = vec![checkpoint(0, 1, 3, 0), checkpoint(1, index, 3, 0)];
    let recovered = rig.disk.recover(RecoveryOptions { checkpoints, ..Default::default() }).unwrap();
    assert_eq!((recovered.term, recovered.vote), (Term(3), Some(MemberId(0xA1))));
    assert!(recovered.groups.iter().all(|group| group.entries.is_empty()));
}

#[test]
fn a_segment_is_not_free_while_the_next_ones_state_is_in_flight() {
    let mut rig = Rig::new(&[1]);
    rig.batch(&[put(1, 1, 1, b"x")]);
    rig.writer.release(GroupId(1), Index(100));
    let mut index = 1;
    while !rig.writer.needs_rotation() {
        rig.flush();
        index += 1;
        rig.writer.append(&put(1, 1, index, &[0; 9000]));
    }
    let write = rig.writer.rotate(state(&[1], 0), rig.known);
    assert_eq!(rig.writer.take_free(), []);
    rig.write(write);
    assert_eq!(rig.writer.take_free(), [segment(1, 0, 1)]);
}

#[test]
fn a_cut_stays_as_long_as_what_it_cuts() {
    let mut rig = Rig::new(&[0, 1]);
    rig.fill(1, 5, 10);
    let mut rig = rig.restart();
    rig.writer.append(&Record::Cut { group: GroupId(1), after: Index(4) });
    let mut index = 0;
    while rig.batches.last().unwrap().0.sequence.0 < 2 {
        index += 1;
        rig.batch(&[put(0, 1, index, &[0; 9000])]);
    }
    rig.writer.release(GroupId(0), Index(index));
    rig.writer.release(GroupId(1), Index(3));
    assert_eq!(rig.writer.take_free(), [], "the first run's entry 5 would come back");
    assert_eq!(group(&rig.recover().unwrap(), 1).tail().last, Index(4));
    rig.writer.release(GroupId(1), Index(4));
    assert_eq!(rig.writer.take_free(), [segment(2, 0, 1)]);
    rig.disk.files.remove(&segment(2, 0, 1));
    let checkpoints = vec![checkpoint(0, index, 1, 0), checkpoint(1, 4, 1, 0)];
    let recovered = rig.disk.recover(RecoveryOptions { checkpoints, ..Default::default() }).unwrap();
    assert_eq!((group(&recovered, 1).tail().last, group(&recovered, 1).entries.len()), (Index(4), 0));
}

#[test]
fn what_was_known_is_never_said_less() {
    let mut rig = Rig::new(&[1]);
    rig.known = Known { stable: Revision(9), serving: Revision(8), meta_applied: Index(0) };
    rig.fill(1, 1, 10);
    let mut rig = rig.restart();
    rig.known = Known::default();
    rig.fill(2, 1, 10);
    let Some(Described::Batch { header, .. }) = describe(None, &rig.disk.files[&segment(2, 0, 1)]).nth(1) else {
        panic!("the entry's batch is there")
    };
    assert_eq!((header.known.stable, header.known.serving), (Revision(9), Revision(8)));
}

#[test]
fn buffers_are_used_again() {
    let mut rig = Rig::new(&[1]);
    rig.writer.append(&put(1, 1, 1, &[0xFF; 3000]));
    let write = rig.writer.seal(rig.known).unwrap();
    let address = write.buffer.as_ptr();
    rig.write(write);
    rig.writer.append(&put(1, 1, 2, b"short"));
    let write = rig.writer.seal(rig.known).unwrap();
    assert_eq!(write.buffer.as_ptr(), address);
    assert_eq!(write.buffer[200..write.bytes], vec![0; write.bytes - 200], "nothing of the batch before is left");
}

#[test]
#[should_panic(expected = "ends at Index(1)")]
fn an_entry_that_does_not_follow_is_never_written() {
    let mut rig = Rig::new(&[1]);
    rig.writer.append(&put(1, 1, 1, b""));
    rig.writer.append(&put(1, 1, 3, b""));
}

#[test]
#[should_panic(expected = "terms never fall")]
fn a_falling_term_is_never_written() {
    let mut rig = Rig::new(&[1]);
    rig.writer.append(&put(1, 2, 1, b""));
    rig.writer.append(&put(1, 1, 2, b""));
}

#[test]
#[should_panic(expected = "forgets a vote")]
fn a_state_batch_that_forgets_a_vote_is_never_written() {
    let mut rig = Rig::new(&[1]);
    rig.writer.append(&Record::Vote { term: Term(2), vote: Some(MemberId(1)) });
    while !rig.writer.needs_rotation() {
        rig.flush();
        rig.writer.append(&Record::Vote { term: Term(2), vote: Some(MemberId(1)) });
    }
    rig.writer.rotate(state(&[1], 1), rig.known);
}

#[test]
#[should_panic(expected = "forgets a group")]
fn a_state_batch_that_forgets_a_group_is_never_written() {
    let mut rig = Rig::new(&[1]);
    while !rig.writer.needs_rotation() {
        rig.flush();
        rig.writer.append(&Record::Vote { term: Term(2), vote: Some(MemberId(1)) });
    }
    rig.writer.rotate(state(&[], 2), rig.known);
}
