//! Random histories of whole WAL directories: several runs with differing numbers of cores, crashes with any part of the writes
//! in flight on disk, files reused with what they held; against a model that knows what was acknowledged.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::rig_test::*;
use super::*;
use crate::base::limits::BLOCK_BYTES;
use crate::base::{Entry, GroupId, GroupSet, Index, Mark, MemberId, Prng, Revision, Term};

const SEEDS: u64 = 400;
const RUNS: u64 = 5;
const GROUPS: usize = 5;
const STEPS: u64 = 160;
const FLIPS: u64 = 12;

#[derive(Clone, Debug)]
enum Op {
    Put(usize, Entry),
    Cut(usize, u64),
    Vote,
}

#[derive(Clone, Default)]
struct ModelGroup {
    /// What is acknowledged, from index 1.
    acked: Vec<Entry>,
    /// What has been appended, acknowledged or not.
    appended: Vec<Entry>,
    /// Never cut.
    committed: u64,
    checkpoint: u64,
    core: usize,
}

struct Core {
    writer: Writer,
    waiting: VecDeque<Op>,
    flight: Option<(SegmentWrite, Vec<Op>)>,
    started: bool,
}

struct World {
    rng: Prng,
    torn_tail_accepted: bool,
    disk: Disk,
    reusable: Vec<Vec<u8>>,
    groups: Vec<ModelGroup>,
    cores: Vec<Core>,
    old: Ledger,
    carried: bool,
    started: bool,
    term: u64,
    term_acked: u64,
    known: Known,
    known_acked: Known,
    batches: BTreeMap<SegmentName, Vec<(u64, u64)>>,
    seen: Seen,
}

/// What the histories came to, so that a test can tell that they try what they should.
#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    recoveries: u64,
    cut_tails: u64,
    whole_in_flight: u64,
    rotations: u64,
    reused: u64,
    cuts: u64,
    flips_found: u64,
}

fn apply(log: &mut Vec<Entry>, op: &Op) {
    match op {
        Op::Put(_, entry) => {
            log.truncate(entry.index.0 as usize - 1);
            log.push(entry.clone());
        }
        Op::Cut(_, after) => log.truncate(*after as usize),
        Op::Vote => {}
    }
}

fn group_of(op: &Op) -> Option<usize> {
    match op {
        Op::Put(group, _) | Op::Cut(group, _) => Some(*group),
        Op::Vote => None,
    }
}

impl World {
    fn new(seed: u64, torn_tail_accepted: bool) -> World {
        World {
            rng: Prng::new(seed),
            torn_tail_accepted,
            disk: Disk::default(),
            reusable: Vec::new(),
            groups: vec![ModelGroup::default(); GROUPS],
            cores: Vec::new(),
            old: Ledger::default(),
            carried: false,
            started: false,
            term: 0,
            term_acked: 0,
            known: Known::default(),
            known_acked: Known::default(),
            batches: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    fn options(&self) -> RecoveryOptions {
        let checkpoints = (0..GROUPS)
            .filter(|&g| self.groups[g].checkpoint > 0)
            .map(|g| {
                let group = &self.groups[g];
                checkpoint(g as u16, group.checkpoint, group.acked[group.checkpoint as usize - 1].term.0, 0)
            })
            .collect();
        RecoveryOptions { ids: Some(IDS), checkpoints, torn_tail_accepted: self.torn_tail_accepted }
    }

    fn file(&mut self) -> Vec<u8> {
        if !self.reusable.is_empty() && self.rng.chance(2, 3) {
            self.seen.reused += 1;
            let place = self.rng.below(self.reusable.len() as u64) as usize;
            return self.reusable.swap_remove(place);
        }
        vec![0; SEGMENT as usize]
    }

    /// A run from recovery to crash.
    fn run(&mut self) -> Result<(), String> {
        let recovered = self.disk.recover(self.options()).map_err(|damage| damage.to_string())?;
        self.check(&recovered)?;
        if !self.start(recovered) {
            return Ok(());
        }
        for _ in 0..self.rng.below(STEPS) {
            self.step();
        }
        Ok(())
    }

    /// The next run's writers, unless the crash comes before all their files are there.
    fn start(&mut self, recovered: Recovered) -> bool {
        let count = 1 + self.rng.below(3) as u16;
        let run = recovered.run.0 + 1;
        self.cores.clear();
        (self.carried, self.started) = (false, false);
        self.known = recovered.known;
        for group in &mut self.groups {
            group.core = self.rng.below(u64::from(count)) as usize;
        }
        for core in 0..count {
            if self.rng.chance(1, 40) {
                return false;
            }
            let name = segment(run, core, 1);
            let file = self.file();
            self.disk.files.insert(name, file);
            let hosted = |g: &&RecoveredGroup| self.groups[g.group.slot()].core == usize::from(core);
            let mut writer = Writer::new(WriterOptions {
                cluster: IDS.0,
                member: IDS.1,
                wal: wal(run, core),
                cores: count,
                salt: self.rng.u64(),
                term: recovered.term,
                vote: recovered.vote,
                known: recovered.known,
                ends: recovered.ends.clone(),
                tails: recovered.groups.iter().filter(hosted).map(RecoveredGroup::tail).collect(),
                limits: limits(),
            });
            writer.provide_segment(name, SEGMENT);
            self.cores.push(Core { writer, waiting: VecDeque::new(), flight: None, started: false });
        }
        self.old = recovered.ledger;
        self.started = true;
        true
    }

    /// What was recovered is what was acknowledged, and of each core the batch in flight wholly or not at all.
    fn check(&mut self, recovered: &Recovered) -> Result<(), String> {
        self.seen.recoveries += 1;
        self.seen.cut_tails += recovered.cut_tails.len() as u64;
        let files: Vec<SegmentName> = recovered.ledger.segments().map(|used| used.segment).collect();
        if files != self.disk.files.keys().copied().collect::<Vec<_>>() {
            return Err(format!("the ledger names {files:?}"));
        }
        let flights: Vec<Vec<Op>> =
            self.cores.iter_mut().map(|core| core.flight.take().map_or(Vec::new(), |(_, ops)| ops)).collect();
        for core in 0..flights.len().max(1) {
            let hosted: Vec<usize> = (0..GROUPS).filter(|&g| self.groups[g].core == core || flights.is_empty()).collect();
            let before: Vec<Vec<Entry>> = hosted.iter().map(|&g| self.groups[g].acked.clone()).collect();
            let mut after = before.clone();
            for op in flights.get(core).into_iter().flatten() {
                if let Some(group) = group_of(op) {
                    apply(&mut after[hosted.iter().position(|&g| g == group).expect("the group is on its core")], op);
                }
            }
            let equals = |logs: &[Vec<Entry>]| hosted.iter().zip(logs).all(|(&g, log)| self.equals(recovered, g, log));
            let chosen = if equals(&before) {
                before
            } else if equals(&after) {
                self.seen.whole_in_flight += 1;
                after
            } else {
                return Err(format!("core {core} came back as something that was never there"));
            };
            for (&g, log) in hosted.iter().zip(chosen) {
                (self.groups[g].acked, self.groups[g].appended) = (log.clone(), log);
            }
        }
        let term = recovered.term.0;
        if term < self.term_acked || term > self.term || recovered.vote != (term > 0).then_some(MemberId(term)) {
            return Err(format!(
                "term {term}, vote {:?}; acknowledged {}, last {}",
                recovered.vote, self.term_acked, self.term
            ));
        }
        (self.term, self.term_acked) = (term, term);
        if recovered.known != recovered.known.max(self.known_acked) || self.known != recovered.known.max(self.known) {
            return Err(format!("known {:?}; acknowledged {:?}", recovered.known, self.known_acked));
        }
        self.known_acked = recovered.known;
        Ok(())
    }

    fn equals(&self, recovered: &Recovered, g: usize, log: &[Entry]) -> bool {
        let checkpoint = self.groups[g].checkpoint;
        match recovered.groups.iter().find(|group| group.group.slot() == g) {
            Some(group) => group.start.0 == checkpoint && group.entries == log[checkpoint as usize..],
            None => log.is_empty(),
        }
    }

    fn step(&mut self) {
        let core = self.rng.below(self.cores.len() as u64) as usize;
        match self.rng.below(100) {
            0..45 => self.append(),
            45..65 => self.seal(core),
            65..85 => self.complete(core),
            85..88 => self.seal_tail(core),
            88..94 => self.release(),
            _ => self.provide(core),
        }
    }

    fn append(&mut self) {
        let g = self.rng.below(GROUPS as u64) as usize;
        let core = self.groups[g].core;
        if self.cores[core].writer.room() < 13_000 {
            return;
        }
        let (last, committed) = (self.groups[g].appended.len() as u64, self.groups[g].committed);
        // An index and a term name one entry for ever: what is cut was of an earlier term.
        let new_term = self.groups[g].appended.last().is_none_or(|entry| entry.term.0 < self.term_acked);
        let kept = committed + self.rng.below(last - committed + 1);
        let op = match self.rng.below(20) {
            0 => {
                self.term += 1;
                let vote = Some(MemberId(self.term));
                self.cores[0].writer.append(&Record::Vote { term: Term(self.term), vote });
                self.cores[0].waiting.push_back(Op::Vote);
                return;
            }
            1 | 2 if new_term => Op::Cut(g, kept),
            3 | 4 if new_term => Op::Put(g, self.entry(g, kept + 1)),
            _ => Op::Put(g, self.entry(g, last + 1)),
        };
        let group = GroupId(g as u16);
        let record = match &op {
            Op::Cut(_, after) => Record::Cut { group, after: Index(*after) },
            Op::Put(_, entry) => Record::Entry { group, entry: entry.clone() },
            Op::Vote => unreachable!("returned above"),
        };
        self.seen.cuts += u64::from(matches!(op, Op::Cut(..)));
        self.cores[core].writer.append(&record);
        apply(&mut self.groups[g].appended, &op);
        self.cores[core].waiting.push_back(op);
    }

    fn entry(&mut self, g: usize, index: u64) -> Entry {
        let len = if self.rng.chance(1, 6) { self.rng.below(12_000) } else { self.rng.below(300) };
        let mut payload = vec![0; len as usize];
        payload.iter_mut().step_by(7).for_each(|byte| *byte = self.rng.u64() as u8);
        let revision = Revision(self.rng.below(1 << 40));
        let mark = match self.rng.below(3) {
            0 => Mark::After(revision),
            1 => Mark::Revision { revision, participants: GroupSet::of(GroupId(g as u16)) },
            _ => Mark::Revision { revision, participants: GroupSet(0b1_1111) },
        };
        Entry { term: Term(self.term_acked), index: Index(index), mark, payload: Bytes::from(payload) }
    }

    fn seal(&mut self, core: usize) {
        self.known.stable.0 += self.rng.below(3);
        self.known.serving.0 += self.rng.below(2);
        if self.cores[core].writer.needs_rotation() {
            let groups = (0..GROUPS).filter(|&g| self.groups[g].core == core);
            let groups = groups
                .map(|g| GroupStart {
                    group: GroupId(g as u16),
                    start: Index(self.groups[g].checkpoint),
                    start_term: Term(0),
                    configuration: Bytes::from_static(b"voters"),
                })
                .collect();
            let vote = (self.term > 0).then_some(MemberId(self.term));
            let state = State { term: Term(self.term), vote, groups };
            let write = self.cores[core].writer.rotate(state, self.known);
            self.cores[core].flight = Some((write, Vec::new()));
            self.seen.rotations += 1;
        } else if let Some(write) = self.cores[core].writer.seal(self.known) {
            let records = BatchHeader::decode(&write.buffer).expect("a batch begins with its header").0.records;
            let ops = self.cores[core].waiting.drain(..records as usize).collect();
            self.cores[core].flight = Some((write, ops));
        }
    }

    fn seal_tail(&mut self, core: usize) {
        if let Some(write) = self.cores[core].writer.seal_tail(self.known) {
            self.cores[core].flight = Some((write, Vec::new()));
        }
    }

    fn complete(&mut self, core: usize) {
        let Some((write, ops)) = self.cores[core].flight.take() else { return };
        self.disk.write(&write);
        self.batches.entry(write.segment).or_default().push((write.offset, write.bytes as u64));
        let header = BatchHeader::decode(&write.buffer).expect("a batch begins with its header").0;
        self.known_acked = self.known_acked.max(header.known);
        let before = self.cores[core].writer.durable();
        self.cores[core].writer.written(write.buffer);
        assert_eq!(self.cores[core].writer.durable(), before + ops.len() as u64);
        self.cores[core].started = true;
        for op in ops {
            match group_of(&op) {
                Some(g) => apply(&mut self.groups[g].acked, &op),
                None => self.term_acked += 1,
            }
        }
        if !self.carried && self.cores.iter().all(|core| core.started) {
            self.carried = true;
            self.old.carried_forward();
        }
    }

    fn release(&mut self) {
        let g = self.rng.below(GROUPS as u64) as usize;
        let group = &mut self.groups[g];
        let stable = group.acked.iter().zip(&group.appended).take_while(|(a, b)| a == b).count() as u64;
        group.committed += self.rng.below(stable - group.committed + 1);
        group.checkpoint = group.committed;
        let (id, upto, core) = (GroupId(g as u16), Index(group.checkpoint), group.core);
        self.cores[core].writer.release(id, upto);
        self.old.release(id, upto);
        let mut free = self.old.take_free();
        free.extend(self.cores[core].writer.take_free());
        for name in free {
            let file = self.disk.files.remove(&name).expect("the ledger names files that are there");
            self.batches.remove(&name);
            self.reusable.push(file);
        }
        self.reusable.truncate(8);
    }

    fn provide(&mut self, core: usize) {
        if let Some(name) = self.cores[core].writer.wants_segment() {
            let file = self.file();
            self.disk.files.insert(name, file);
            self.cores[core].writer.provide_segment(name, SEGMENT);
        }
    }

    fn crash(&mut self) {
        for core in &mut self.cores {
            core.waiting.clear();
            let Some((write, _)) = &core.flight else { continue };
            let rng = &mut self.rng;
            match rng.below(4) {
                0 => {}
                1 => self.disk.write(write),
                2 => self.disk.write_torn(write, BLOCK_BYTES, |_| rng.chance(1, 2)),
                _ => self.disk.write_torn(write, 512, |_| rng.chance(4, 5)),
            }
        }
    }

    /// Everything pending is written, and perhaps sealed. Returns whether it was.
    fn settle(&mut self) -> bool {
        let sealed = self.rng.chance(1, 2);
        for core in 0..self.cores.len() {
            self.complete(core);
            while !self.cores[core].started || self.cores[core].writer.pending_bytes() > 0 {
                self.provide(core);
                self.seal(core);
                self.complete(core);
            }
            if sealed {
                self.seal_tail(core);
                self.complete(core);
            }
        }
        sealed
    }

    /// Flips a bit of a written batch, or takes away a file: it is noticed, or nothing is lost.
    fn harm(&mut self, sealed: bool) -> Result<(), String> {
        let sound = self.disk.recover(self.options()).map_err(|damage| damage.to_string())?;
        self.check(&sound)?;
        let newest = sound.run;
        let written: Vec<(SegmentName, u64, u64)> = (self.batches.iter())
            .flat_map(|(&name, batches)| batches.iter().map(move |&(offset, bytes)| (name, offset, bytes)))
            .collect();
        for _ in 0..FLIPS {
            let (name, offset, bytes) = written[self.rng.below(written.len() as u64) as usize];
            let last_of_wal = name.wal.run == newest
                && !written.iter().any(|&(n, o, _)| n.wal == name.wal && (n.sequence, o) > (name.sequence, offset));
            let mut disk = self.disk.clone();
            disk.flip(name, offset + self.rng.below(bytes), self.rng.below(8) as u8);
            match disk.recover(self.options()) {
                Err(_) => self.seen.flips_found += 1,
                Ok(found) if last_of_wal && (!sealed || found.groups == sound.groups) => {}
                Ok(_) => return Err(format!("a flipped bit in {name}, batch at {offset}, was not noticed")),
            }
        }
        let names: Vec<SegmentName> = self.disk.files.keys().copied().collect();
        let name = names[self.rng.below(names.len() as u64) as usize];
        let last = !names.iter().any(|n| n.wal == name.wal && n.sequence > name.sequence);
        let mut disk = self.disk.clone();
        disk.files.remove(&name);
        match disk.recover(self.options()) {
            Ok(found) if found.groups != sound.groups && !(last && name.wal.run == newest) => {
                Err(format!("{name} was taken away and nobody noticed"))
            }
            _ => Ok(()),
        }
    }
}

fn history(seed: u64, torn_tail_accepted: bool) -> Result<Seen, String> {
    let mut world = World::new(seed, torn_tail_accepted);
    for _ in 0..RUNS {
        world.run()?;
        world.crash();
    }
    world.run()?;
    if world.started {
        let sealed = world.settle();
        world.harm(sealed)?;
    }
    Ok(world.seen)
}

#[test]
fn what_was_acknowledged_comes_back_after_every_crash() {
    let mut seen = Seen::default();
    for seed in 0..SEEDS {
        let s = history(seed, false).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        seen.recoveries += s.recoveries;
        seen.cut_tails += s.cut_tails;
        seen.whole_in_flight += s.whole_in_flight;
        seen.rotations += s.rotations;
        seen.reused += s.reused;
        seen.cuts += s.cuts;
        seen.flips_found += s.flips_found;
    }
    println!("{seen:?}");
    assert!(seen.cut_tails > SEEDS / 4 && seen.whole_in_flight > SEEDS / 4 && seen.rotations > 10 * SEEDS, "{seen:?}");
    assert!(seen.reused > SEEDS && seen.cuts > SEEDS && seen.flips_found > SEEDS * FLIPS / 2, "{seen:?}");
}

#[test]
fn mutant_torn_tail_accepted_is_caught() {
    let caught = (0..SEEDS).find_map(|seed| history(seed, true).err());
    assert!(caught.is_some(), "torn tails were taken for written and nobody noticed");
}
