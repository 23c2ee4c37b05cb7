use super::*;
use crate::base::{Prng, Term};

fn own(index: u64, revision: u64, participants: &[u16]) -> (Index, Mark) {
    let participants = participants.iter().map(|&g| GroupId(g)).collect();
    (Index(index), Mark::Revision { revision: Revision(revision), participants })
}

fn after(index: u64, after: u64) -> (Index, Mark) {
    (Index(index), Mark::After(Revision(after)))
}

/// The result over stripes of groups 0, 1, ..., given as (applied, marks).
fn merged(known_stable: u64, logs: &[(u64, Marks)]) -> Result<(u64, Vec<(u16, u64)>), Damage> {
    let stripes: Vec<Stripe<'_>> = logs
        .iter()
        .enumerate()
        .map(|(g, (applied, marks))| Stripe { group: GroupId(g as u16), applied: Revision(*applied), marks })
        .collect();
    let Cuts { w_final, cuts } = w_final(Revision(known_stable), &stripes)?;
    Ok((w_final.0, cuts.iter().map(|cut| (cut.group.0, cut.after.0)).collect()))
}

fn missing(revision: u64, group: Option<u16>) -> Damage {
    Damage::Missing { revision: Revision(revision), group: group.map(GroupId) }
}

#[test]
fn a_new_cluster_opens_at_revision_1() {
    assert_eq!(merged(1, &[(0, vec![]), (0, vec![])]), Ok((1, vec![])));
    assert_eq!(merged(1, &[(0, vec![after(1, 1)]), (0, vec![])]), Ok((1, vec![])), "a takeover died half-way");
}

#[test]
fn the_run_ends_at_a_gap_and_what_lies_above_is_cut() {
    let logs = [(0, vec![own(1, 2, &[0]), own(2, 5, &[0])]), (0, vec![own(1, 3, &[1]), own(2, 6, &[1]), own(3, 7, &[1])])];
    assert_eq!(merged(1, &logs), Ok((3, vec![(0, 1), (1, 1)])));
}

#[test]
fn an_entry_is_there_in_all_its_groups_or_in_none() {
    let logs = [(0, vec![own(1, 2, &[0]), own(2, 3, &[0, 1])]), (0, vec![]), (0, vec![own(1, 4, &[2])])];
    assert_eq!(merged(1, &logs), Ok((2, vec![(0, 1), (2, 0)])));
    let logs = [(0, vec![own(1, 2, &[0]), own(2, 3, &[0, 1])]), (0, vec![own(1, 3, &[0, 1])]), (0, vec![own(1, 4, &[2])])];
    assert_eq!(merged(1, &logs), Ok((4, vec![])));
}

#[test]
fn what_comes_after_a_cut_revision_is_cut_with_it() {
    // A revocation that saw revision 3's delete: rule 3's first trap.
    let logs = [(0, vec![own(1, 2, &[0]), after(2, 3), own(3, 4, &[0])]), (0, vec![])];
    assert_eq!(merged(1, &logs), Ok((2, vec![(0, 1)])));
}

#[test]
fn nothing_known_stable_is_cut() {
    let logs = [(7, vec![own(4, 8, &[0])]), (5, vec![own(9, 11, &[1])])];
    assert_eq!(merged(8, &logs), Ok((8, vec![(1, 8)])));
    assert_eq!(merged(8, &[(8, vec![]), (5, vec![own(9, 9, &[1])])]), Ok((9, vec![])));
}

#[test]
fn a_stable_revision_in_no_log_is_damage() {
    assert_eq!(merged(9, &[(7, vec![own(4, 9, &[0])]), (5, vec![])]), Err(missing(8, None)));
    assert_eq!(merged(9, &[(7, vec![own(4, 8, &[0])]), (5, vec![])]), Err(missing(9, None)), "at the end");
    assert_eq!(merged(9, &[(7, vec![own(4, 8, &[0]), own(5, 12, &[0])])]), Err(missing(9, None)), "before more");
    assert_eq!(merged(5, &[(0, vec![]), (0, vec![])]), Err(missing(2, None)), "all logs are gone");
}

#[test]
fn a_stable_revision_missing_in_one_of_its_groups_is_damage() {
    let logs = [(4, vec![own(1, 6, &[0, 1])]), (5, vec![])];
    assert_eq!(merged(6, &logs), Err(missing(6, Some(1))));
    let logs = [(4, vec![own(1, 5, &[0]), own(2, 6, &[0, 1])]), (6, vec![])];
    assert_eq!(merged(6, &logs), Ok((6, vec![])), "it is applied there");
}

#[test]
fn logs_that_contradict_themselves_are_damage() {
    let falls = |index| Err(Damage::Falls { group: GroupId(0), index: Index(index) });
    assert_eq!(merged(1, &[(0, vec![own(1, 3, &[0]), own(2, 2, &[0])])]), falls(2));
    assert_eq!(merged(1, &[(0, vec![own(1, 3, &[0]), own(2, 3, &[0])])]), falls(2));
    assert_eq!(merged(1, &[(0, vec![own(1, 3, &[0]), after(2, 2)])]), falls(2));
    let disagrees = |group| Err(Damage::Disagrees { revision: Revision(2), group: GroupId(group) });
    assert_eq!(merged(1, &[(0, vec![own(1, 2, &[1])])]), disagrees(0));
    assert_eq!(merged(1, &[(0, vec![own(1, 2, &[0, 1])]), (0, vec![own(1, 2, &[1])])]), disagrees(1));
}

// Against a naive model: random histories of all revisions, whose logs end, and are compacted, anywhere.

type Marks = Vec<(Index, Mark)>;

struct History {
    /// The participants of revisions 2, 3, ...
    participants: Vec<GroupSet>,
    known_stable: u64,
    logs: Vec<(u64, Marks)>,
}

fn random_history(rng: &mut Prng) -> History {
    let groups = 1 + rng.below(4) as usize;
    let count = rng.below(12);
    let known_stable = 1 + rng.below(count + 1);
    let participants: Vec<GroupSet> = (0..count)
        .map(|_| {
            let sole = GroupId(rng.below(groups as u64) as u16);
            (0..groups as u16).map(GroupId).filter(|_| rng.chance(1, 6)).collect::<GroupSet>().with(sole)
        })
        .collect();
    let mut logs: Vec<(u64, Marks)> = vec![(0, Vec::new()); groups];
    for (group, (applied, marks)) in logs.iter_mut().enumerate() {
        let group = GroupId(group as u16);
        for (revision, &participants) in (2u64..).zip(&participants) {
            let next = Index(marks.len() as u64 + 1);
            if participants.has(group) {
                marks.push((next, Mark::Revision { revision: Revision(revision), participants }));
            } else if rng.chance(1, 4) {
                marks.push((next, Mark::After(Revision(revision))));
            }
        }
        // The end of the log is lost, but nothing stable; its beginning is applied, but nothing unstable, and perhaps compacted.
        let stable = marks.partition_point(|(_, m)| m.revision().is_none_or(|r| r.0 <= known_stable));
        marks.truncate(stable.max(rng.below(marks.len() as u64 + 1) as usize));
        let apply = rng.below(marks.partition_point(|(_, m)| m.counts_as().0 <= known_stable) as u64 + 1) as usize;
        *applied = marks[..apply].iter().filter_map(|(_, m)| m.revision()).map(|r| r.0).max().unwrap_or(0);
        marks.drain(..rng.below(apply as u64 + 1) as usize);
    }
    History { participants, known_stable, logs }
}

/// By the letter of rule 9.
fn naive(history: &History) -> u64 {
    let present = |revision: u64, group: GroupId| {
        let (applied, marks) = &history.logs[group.slot()];
        *applied >= revision || marks.iter().any(|(_, m)| m.revision() == Some(Revision(revision)))
    };
    let everywhere = |r: u64| history.participants.get(r as usize - 2).is_some_and(|p| p.iter().all(|g| present(r, g)));
    (history.known_stable + 1..).find(|&r| !everywhere(r)).expect("the history ends") - 1
}

#[test]
fn random_histories_are_cut_as_the_rule_says() {
    let mut rng = Prng::new(11);
    let (mut cut_some, mut beyond) = (0, 0);
    for _ in 0..20_000 {
        let history = random_history(&mut rng);
        let expected = naive(&history);
        let (found, cuts) = merged(history.known_stable, &history.logs).expect("nothing stable was lost");
        assert_eq!(found, expected);
        for (group, (_, marks)) in history.logs.iter().enumerate() {
            let cut = cuts.iter().find(|(g, _)| usize::from(*g) == group).map_or(u64::MAX, |(_, after)| *after);
            for (index, mark) in marks {
                assert_eq!(index.0 <= cut, mark.counts_as().0 <= found, "group {group}, entry {index}");
            }
        }
        cut_some += u32::from(!cuts.is_empty());
        beyond += u32::from(found > history.known_stable);
    }
    assert!(cut_some > 1000 && beyond > 1000, "the histories try both: {cut_some}, {beyond}");
}

#[test]
fn whatever_stable_entry_is_lost_the_takeover_stops() {
    let mut rng = Prng::new(12);
    let mut tried = 0;
    for _ in 0..20_000 {
        let mut history = random_history(&mut rng);
        let all_applied = history.logs.iter().map(|(applied, _)| *applied).max().unwrap_or(0);
        let lost = |(group, (applied, marks)): (usize, &(u64, Marks))| {
            let place = marks.iter().position(|(_, m)| {
                m.revision().is_some_and(|r| r.0 > all_applied && r.0 > *applied && r.0 <= history.known_stable)
            });
            place.map(|place| (group, place))
        };
        let Some((group, place)) = history.logs.iter().enumerate().find_map(lost) else { continue };
        let (_, mark) = history.logs[group].1.remove(place);
        let revision = mark.counts_as().0;
        let damage = merged(history.known_stable, &history.logs);
        let sole = mark == Mark::Revision { revision: Revision(revision), participants: GroupSet::of(GroupId(group as u16)) };
        let named = if sole { None } else { Some(group as u16) };
        assert_eq!(damage, Err(missing(revision, named)));
        tried += 1;
    }
    assert!(tried > 2000, "{tried} histories had something to lose");
}

// Takeover after takeover, over whole logs on three members: what was once stable is never lost, and no revision is given twice.

/// A rule left out of the takeover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    CutSkipped,
    KnownStableDropped,
    OneBarrierMissing,
}

const MEMBERS: usize = 3;
const GROUPS: usize = 2;

#[derive(Clone, Default)]
struct Replica {
    /// Term, mark and a number of its own for each entry; compacted ones are dropped from the front.
    entries: Vec<(Term, Mark, u64)>,
    compacted: usize,
    compacted_term: Term,
    applied: u64,
}

impl Replica {
    fn last(&self) -> (Term, usize) {
        (self.entries.last().map_or(self.compacted_term, |e| e.0), self.compacted + self.entries.len())
    }
}

impl Replica {
    /// Whether its log holds what the other one has compacted.
    fn agrees(&self, theirs: &Replica) -> bool {
        match theirs.compacted.checked_sub(self.compacted + 1) {
            None => true,
            Some(place) => self.entries.get(place).is_some_and(|e| e.0 == theirs.compacted_term),
        }
    }
}

struct World {
    rng: Prng,
    mutant: Option<Mutant>,
    term: u64,
    serial: u64,
    /// Of each member, per group.
    replicas: Vec<Vec<Replica>>,
    known: [u64; MEMBERS],
    /// What was stable: which entry each revision was.
    stable: Vec<Vec<u64>>,
}

impl World {
    fn new(seed: u64, mutant: Option<Mutant>) -> World {
        let replicas = vec![vec![Replica::default(); GROUPS]; MEMBERS];
        World { rng: Prng::new(seed), mutant, term: 0, serial: 0, replicas, known: [1; MEMBERS], stable: Vec::new() }
    }

    fn violates(&mut self) -> Result<(), String> {
        for _ in 0..12 {
            self.reign()?;
        }
        Ok(())
    }

    /// One term: a takeover that may die half-way, and what its leader then does.
    fn reign(&mut self) -> Result<(), String> {
        self.term += 1;
        let term = Term(self.term);
        let leader = self.rng.below(MEMBERS as u64) as usize;
        let other = (leader + 1 + self.rng.below(2) as usize) % MEMBERS;
        for group in 0..GROUPS {
            if self.replicas[other][group].last() > self.replicas[leader][group].last() {
                self.pull(leader, other, group);
            }
        }
        let known = self.known[leader].max(self.known[other]);
        let known = if self.mutant == Some(Mutant::KnownStableDropped) { 1 } else { known };
        let w = self.cut(leader, known)?;
        if w < self.stable.len() as u64 + 1 {
            return Err(format!("term {term} opens at {w}, and {} was stable", self.stable.len() + 1));
        }
        for group in 0..GROUPS {
            self.serial += 1;
            self.replicas[leader][group].entries.push((term, Mark::After(Revision(w)), self.serial));
        }
        let reached: Vec<bool> = (0..GROUPS).map(|g| self.rng.chance(3, 4) && self.replicate(leader, g)).collect();
        let opens = match self.mutant {
            Some(Mutant::OneBarrierMissing) => reached.iter().any(|&r| r),
            _ => reached.iter().all(|&r| r),
        };
        if opens { self.lead(leader, w) } else { Ok(()) }
    }

    fn pull(&mut self, leader: usize, from: usize, group: usize) {
        let theirs = self.replicas[from][group].clone();
        self.copy_log(&theirs, leader, group);
    }

    /// Makes a member's log the other one: what it has below the other's compaction stays, or is in a snapshot.
    fn copy_log(&mut self, theirs: &Replica, member: usize, group: usize) {
        let own = &mut self.replicas[member][group];
        if !own.agrees(theirs) {
            own.applied = own.applied.max(theirs.applied);
            self.known[member] = self.known[member].max(theirs.applied);
            *own = Replica { applied: own.applied, ..theirs.clone() };
        } else {
            own.entries.truncate(theirs.compacted.saturating_sub(own.compacted));
            let from = (own.compacted + own.entries.len()) - theirs.compacted;
            own.entries.extend_from_slice(&theirs.entries[from..]);
        }
    }

    fn cut(&mut self, leader: usize, known: u64) -> Result<u64, String> {
        let marks: Vec<Marks> = self.replicas[leader]
            .iter()
            .map(|replica| {
                let index = |place: usize| Index((replica.compacted + place + 1) as u64);
                replica.entries.iter().enumerate().map(|(place, (_, mark, _))| (index(place), *mark)).collect()
            })
            .collect();
        let stripes: Vec<Stripe<'_>> = marks
            .iter()
            .enumerate()
            .map(|(group, marks)| {
                let applied = Revision(self.replicas[leader][group].applied);
                Stripe { group: GroupId(group as u16), applied, marks }
            })
            .collect();
        let cuts = w_final(Revision(known), &stripes).map_err(|damage| damage.to_string())?;
        for Cut { group, after } in &cuts.cuts {
            if self.mutant != Some(Mutant::CutSkipped) {
                let replica = &mut self.replicas[leader][group.slot()];
                replica.entries.truncate(after.0 as usize - replica.compacted);
            }
        }
        Ok(cuts.w_final.0)
    }

    /// Brings one other member's log, or both, up to the leader's.
    fn replicate(&mut self, leader: usize, group: usize) -> bool {
        let skip = (leader + 1 + self.rng.below(2) as usize) % MEMBERS;
        let both = self.rng.chance(1, 3);
        for member in (0..MEMBERS).filter(|&m| m != leader && (both || m != skip)) {
            let leaders = self.replicas[leader][group].clone();
            self.copy_log(&leaders, member, group);
        }
        true
    }

    /// Takes revisions, replicates some, and makes some stable; then the leader is gone.
    fn lead(&mut self, leader: usize, w: u64) -> Result<(), String> {
        let taken: Vec<(u64, GroupSet, u64)> = (w + 1..=w + self.rng.below(5))
            .map(|revision| {
                let sole = GroupSet::of(GroupId(self.rng.below(GROUPS as u64) as u16));
                let both = GroupSet::of(GroupId(0)).with(GroupId(1));
                self.serial += 1;
                (revision, if self.rng.chance(1, 4) { both } else { sole }, self.serial)
            })
            .collect();
        for &(revision, participants, serial) in &taken {
            let mark = Mark::Revision { revision: Revision(revision), participants };
            for group in participants.iter() {
                self.replicas[leader][group.slot()].entries.push((Term(self.term), mark, serial));
            }
        }
        let reached: Vec<bool> = (0..GROUPS).map(|g| self.rng.chance(2, 3) && self.replicate(leader, g)).collect();
        let is_stable = |participants: GroupSet| participants.iter().all(|g| reached[g.slot()]);
        let stable = taken.iter().take_while(|(_, participants, _)| is_stable(*participants)).count();
        self.note_stable(leader, w, &taken[..stable])?;
        self.apply(w + stable as u64);
        Ok(())
    }

    /// Everything up to W_final is stable now, and these revisions.
    fn note_stable(&mut self, leader: usize, w: u64, taken: &[(u64, GroupSet, u64)]) -> Result<(), String> {
        let mut serials: Vec<Vec<u64>> = Vec::new();
        for revision in self.stable.len() as u64 + 2..=w {
            let found =
                self.replicas[leader].iter().flat_map(|r| &r.entries).filter(|e| e.1.revision() == Some(Revision(revision)));
            serials.push(found.map(|e| e.2).collect());
        }
        self.stable.extend(serials);
        self.stable.extend(taken.iter().map(|(_, _, serial)| vec![*serial]));
        // Each revision that was ever stable is still the same entry, wherever it stands in the leader's log.
        for (group, replica) in self.replicas[leader].iter().enumerate() {
            let mut before = 0;
            for (_, mark, serial) in &replica.entries {
                if mark.counts_as().0 < before {
                    return Err(format!("the revision falls in group {group}"));
                }
                before = mark.counts_as().0;
                let known = mark.revision().and_then(|r| self.stable.get(r.0 as usize - 2));
                if known.is_some_and(|known| !known.contains(serial)) {
                    return Err(format!("{mark:?} is another entry than it was in group {group}"));
                }
            }
        }
        self.known[leader] = self.stable.len() as u64 + 1;
        Ok(())
    }

    /// Every member whose log is the leader's may have heard what is stable, may have applied it and compacted it.
    fn apply(&mut self, stable: u64) {
        for member in 0..MEMBERS {
            let has_all = self.replicas[member].iter().all(|r| r.last().0 == Term(self.term));
            if !has_all || !self.rng.chance(1, 2) {
                continue;
            }
            self.known[member] = self.known[member].max(stable);
            for group in 0..GROUPS {
                let replica = &mut self.replicas[member][group];
                let upto = replica.entries.partition_point(|e| e.1.counts_as().0 <= stable);
                let revisions = replica.entries[..upto].iter().filter_map(|e| e.1.revision()).map(|r| r.0);
                replica.applied = revisions.max().unwrap_or(0).max(replica.applied);
                let compact = self.rng.below(upto as u64 + 1) as usize;
                if let Some((term, ..)) = replica.entries.drain(..compact).next_back() {
                    replica.compacted_term = term;
                    replica.compacted += compact;
                }
            }
        }
    }
}

/// The first violation in many random worlds, and in which.
fn first_violation(mutant: Option<Mutant>, worlds: u64) -> Option<(u64, String)> {
    (0..worlds).find_map(|seed| Some((seed, World::new(seed, mutant).violates().err()?)))
}

#[test]
fn takeovers_lose_nothing_that_was_stable() {
    assert_eq!(first_violation(None, 20_000), None);
}

#[test]
fn each_rule_left_out_loses_something() {
    for mutant in [Mutant::CutSkipped, Mutant::KnownStableDropped, Mutant::OneBarrierMissing] {
        assert!(first_violation(Some(mutant), 5_000).is_some(), "{mutant:?} was not caught");
    }
}
