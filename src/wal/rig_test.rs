//! A simulated WAL directory and a writer over it: what the tests of this module stand on.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::base::limits::BLOCK_BYTES;
use crate::base::{
    ClusterId, CoreId, Entry, GroupId, GroupSet, Index, Mark, MemberId, Revision, RunNumber, SegmentSequence, Term,
};

pub const SEGMENT: u64 = 48 << 10;
pub const IDS: (ClusterId, MemberId) = (ClusterId(0xC1), MemberId(0xA1));

/// Small enough that segments fill quickly.
pub fn limits() -> WriterLimits {
    WriterLimits { batch_bytes: 16 << 10, state_bytes: 8 << 10, pending_bytes: 1 << 20, reserve_bytes: 4 << 10 }
}

pub fn wal(run: u64, core: u16) -> WalId {
    WalId { run: RunNumber(run), core: CoreId(core) }
}

pub fn segment(run: u64, core: u16, sequence: u64) -> SegmentName {
    SegmentName { wal: wal(run, core), sequence: SegmentSequence(sequence) }
}

pub fn entry(term: u64, index: u64, payload: &[u8]) -> Entry {
    Entry {
        term: Term(term),
        index: Index(index),
        mark: Mark::After(Revision(index)),
        payload: Bytes::copy_from_slice(payload),
    }
}

pub fn revision(group: u16, index: u64, revision: u64, participants: &[u16]) -> Record {
    let participants: GroupSet = participants.iter().map(|&g| GroupId(g)).collect();
    let mark = Mark::Revision { revision: Revision(revision), participants };
    Record::Entry { group: GroupId(group), entry: Entry { mark, ..entry(1, index, b"put") } }
}

pub fn put(group: u16, term: u64, index: u64, payload: &[u8]) -> Record {
    Record::Entry { group: GroupId(group), entry: entry(term, index, payload) }
}

pub fn state(groups: &[u16], term: u64) -> State {
    let groups = groups
        .iter()
        .map(|&group| GroupStart {
            group: GroupId(group),
            start: Index(0),
            start_term: Term(0),
            configuration: Bytes::from_static(b"voters"),
        })
        .collect();
    State { term: Term(term), vote: (term > 0).then_some(IDS.1), groups }
}

/// The files of a WAL directory.
#[derive(Clone, Default)]
pub struct Disk {
    pub files: BTreeMap<SegmentName, Vec<u8>>,
}

impl Disk {
    pub fn write(&mut self, write: &SegmentWrite) {
        let file = self.files.get_mut(&write.segment).expect("a write goes to a file that is there");
        let at = usize::try_from(write.offset).unwrap();
        assert!(at.is_multiple_of(BLOCK_BYTES) && write.bytes.is_multiple_of(BLOCK_BYTES), "O_DIRECT");
        file[at..at + write.bytes].copy_from_slice(&write.buffer[..write.bytes]);
    }

    /// Of the write only the sectors get there that `keep` names.
    pub fn write_torn(&mut self, write: &SegmentWrite, sector: usize, mut keep: impl FnMut(usize) -> bool) {
        let file = self.files.get_mut(&write.segment).expect("a write goes to a file that is there");
        for (place, chunk) in write.buffer[..write.bytes].chunks(sector).enumerate() {
            if keep(place) {
                let at = usize::try_from(write.offset).unwrap() + place * sector;
                file[at..at + chunk.len()].copy_from_slice(chunk);
            }
        }
    }

    pub fn flip(&mut self, name: SegmentName, byte: u64, bit: u8) {
        self.files.get_mut(&name).expect("the file is there")[usize::try_from(byte).unwrap()] ^= 1 << bit;
    }

    pub fn recover(&self, options: RecoveryOptions) -> Result<Recovered, Damage> {
        recover(options, self.files.keys().copied().collect(), |name| &self.files[&name])
    }
}

/// One writer that writes at once.
pub struct Rig {
    pub disk: Disk,
    pub writer: Writer,
    pub groups: Vec<u16>,
    pub term: u64,
    pub known: Known,
    /// Where each batch went: segment, offset, bytes.
    pub batches: Vec<(SegmentName, u64, u64)>,
}

impl Rig {
    /// Run 1, core 0 of 1, these groups, its first state batch written.
    pub fn new(groups: &[u16]) -> Rig {
        Rig::start(Disk::default(), 1, 0, 1, groups, Recovered::default())
    }

    /// The next run on the same disk, with what recovery found there.
    pub fn restart(self) -> Rig {
        let recovered = self.disk.recover(RecoveryOptions::default()).expect("the disk is sound");
        let run = recovered.run.0 + 1;
        Rig::start(self.disk, run, 0, 1, &self.groups, recovered)
    }

    pub fn start(disk: Disk, run: u64, core: u16, cores: u16, groups: &[u16], recovered: Recovered) -> Rig {
        let tails = recovered.groups.iter().map(RecoveredGroup::tail).filter(|t| groups.contains(&t.group.0)).collect();
        let writer = Writer::new(WriterOptions {
            cluster: IDS.0,
            member: IDS.1,
            wal: wal(run, core),
            cores,
            salt: 0x5A17_0000 + run,
            term: recovered.term,
            vote: recovered.vote,
            known: recovered.known,
            ends: recovered.ends,
            tails,
            limits: limits(),
        });
        let (groups, term) = (groups.to_vec(), recovered.term.0);
        let mut rig = Rig { disk, writer, groups, term, known: Known::default(), batches: Vec::new() };
        rig.provide();
        rig.rotate();
        rig.provide();
        rig
    }

    pub fn provide(&mut self) {
        while let Some(name) = self.writer.wants_segment() {
            self.disk.files.insert(name, vec![0; SEGMENT as usize]);
            self.writer.provide_segment(name, SEGMENT);
        }
    }

    pub fn write(&mut self, write: SegmentWrite) {
        self.disk.write(&write);
        self.batches.push((write.segment, write.offset, write.bytes as u64));
        self.writer.written(write.buffer);
    }

    pub fn rotate(&mut self) {
        let write = self.writer.rotate(state(&self.groups, self.term), self.known);
        self.write(write);
    }

    /// Appends the records as one batch and writes it.
    pub fn batch(&mut self, records: &[Record]) {
        for record in records {
            self.writer.append(record);
            if let Record::Vote { term, .. } = record {
                self.term = term.0;
            }
        }
        self.flush();
    }

    pub fn flush(&mut self) {
        while self.writer.pending_bytes() > 0 {
            if self.writer.needs_rotation() {
                self.rotate();
                self.provide();
            }
            let write = self.writer.seal(self.known).expect("something is pending and a segment is ready");
            self.write(write);
        }
    }

    /// `count` entries of group 1 from `first` on, a batch of about `bytes` each.
    pub fn fill(&mut self, first: u64, count: u64, bytes: usize) {
        for index in first..first + count {
            self.batch(&[put(1, 1, index, &vec![index as u8; bytes])]);
        }
    }

    pub fn recover(&self) -> Result<Recovered, Damage> {
        self.disk.recover(RecoveryOptions::default())
    }

    pub fn damage(&self) -> Damage {
        self.recover().expect_err("the disk is damaged")
    }
}

pub fn checkpoint(group: u16, index: u64, term: u64, revision: u64) -> Checkpoint {
    Checkpoint { group: GroupId(group), index: Index(index), term: Term(term), revision: Revision(revision) }
}

pub fn group(recovered: &Recovered, group: u16) -> &RecoveredGroup {
    recovered.groups.iter().find(|g| g.group == GroupId(group)).expect("the group was recovered")
}

pub fn indexes(group: &RecoveredGroup) -> Vec<u64> {
    group.entries.iter().map(|entry| entry.index.0).collect()
}
