//! Whatever the files hold, recovery answers: no input makes it panic.

use super::rig_test::*;
use super::*;
use crate::base::limits::BLOCK_BYTES;
use crate::base::{Prng, SegmentSequence, Term};

#[test]
fn random_files_never_panic() {
    let mut rng = Prng::new(1);
    for _ in 0..300 {
        let mut disk = Disk::default();
        for _ in 0..1 + rng.below(4) {
            let name = segment(rng.below(3), rng.below(2) as u16, rng.below(3));
            let mut file = vec![0; rng.below(5 * BLOCK_BYTES as u64) as usize];
            if rng.chance(1, 2) {
                file.resize(file.len().next_multiple_of(BLOCK_BYTES), 0);
            }
            file.fill_with(|| rng.u64() as u8);
            disk.files.insert(name, file);
        }
        let _ = disk.recover(RecoveryOptions::default());
        for (&name, file) in &disk.files {
            assert!(describe(Some(name), file).count() > 0);
            assert!(describe(None, file).count() > 0);
        }
    }
}

/// Some sound run, then some more, as a start for damage.
fn sound() -> Rig {
    let mut rig = Rig::new(&[0, 1]);
    rig.batch(&[Record::Vote { term: Term(1), vote: Some(IDS.1) }, put(0, 1, 1, b"meta")]);
    rig.fill(1, 6, 7000);
    let mut rig = rig.restart();
    rig.fill(7, 3, 500);
    rig.batch(&[Record::Cut { group: crate::base::GroupId(1), after: crate::base::Index(8) }, put(1, 2, 9, b"")]);
    rig
}

/// Content that no writer writes, under crcs that match: everything behind the crcs is checked too.
#[test]
fn forged_batches_never_panic() {
    let sound = sound();
    let (mut rng, mut refused) = (Prng::new(2), 0);
    for _ in 0..4000 {
        let (name, offset, bytes) = sound.batches[rng.below(sound.batches.len() as u64) as usize];
        let mut disk = sound.disk.clone();
        let file = disk.files.get_mut(&name).unwrap();
        let block = &mut file[offset as usize..(offset + bytes) as usize];
        let used = u64::from(u32::from_le_bytes([block[24], block[25], block[26], block[27]]));
        for _ in 0..1 + rng.below(3) {
            // Mostly in the fields of the first records; payloads are long and may hold anything.
            let place = if rng.chance(1, 4) { 8 + rng.below(88) } else { 96 + rng.below((used - 96).clamp(1, 60)) };
            block[place as usize] = if rng.chance(1, 2) { 0xFF } else { rng.u64() as u8 };
        }
        let payload = crc32fast::hash(&block[96..]);
        block[16..20].copy_from_slice(&payload.to_le_bytes());
        block[12..16].fill(0);
        let crc = crc32fast::hash(&block[..96]);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
        refused += u64::from(disk.recover(RecoveryOptions::default()).is_err());
        assert!(describe(Some(name), &disk.files[&name]).count() > 0);
    }
    assert!(refused > 2000, "{refused} of 4000 were refused");
}

#[test]
fn torn_and_shuffled_files_never_panic() {
    let sound = sound();
    let mut rng = Prng::new(3);
    let names: Vec<SegmentName> = sound.disk.files.keys().copied().collect();
    for _ in 0..500 {
        let mut disk = sound.disk.clone();
        for _ in 0..1 + rng.below(3) {
            let name = names[rng.below(names.len() as u64) as usize];
            let Some(file) = disk.files.get_mut(&name) else { continue };
            match rng.below(4) {
                0 => file.truncate(rng.below(SEGMENT) as usize),
                1 => {
                    disk.files.remove(&name);
                }
                2 => {
                    let content = disk.files.remove(&name).unwrap();
                    let sequence = SegmentSequence(rng.below(4));
                    disk.files.insert(SegmentName { wal: name.wal, sequence }, content);
                }
                _ => {
                    let (from, to) = (rng.below(SEGMENT / 4096) as usize * 4096, rng.below(SEGMENT / 4096) as usize * 4096);
                    if from.max(to) + 4096 <= file.len() {
                        file.copy_within(from..from + 4096, to);
                    }
                }
            }
        }
        let _ = disk.recover(RecoveryOptions::default());
    }
}
