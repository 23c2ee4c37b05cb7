//! Three members in memory: elections, replication, merging and the reign together, on disks that forget what was not written,
//! over a network that loses, doubles and reorders. What was once stable is checked never to be lost or changed; and each rule
//! left out is checked to be missed.
//!
//! Sans-IO halves of `src/raft` and the real reign; what ties them together here is what shard cores and coordinator do in the
//! program. `STRIPED_RAFT_SEEDS=n` runs n seeds.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcring::base::{CoreId, Entry, GroupId, GroupSet, Index, Instant, Mark, MemberId, Prng, Revision, Term};
use etcring::raft::merge::{Cut, Stripe, w_final};
use etcring::raft::{
    Awaited, Body, Configuration, Effect, Election, ElectionMessage, Event, GroupReport, Heard, Log, Message, Options, Persist,
    Position, Replication, Role, Span, Start, What,
};
use etcring::reign::{Owner, Reign};

const MEMBERS: usize = 3;
const CORES: usize = 2;
const GROUPS: usize = 3;
const STEPS: u32 = 6000;

/// A rule left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    /// Rule 1: the slot is raised when the entry is written, not when a quorum has it.
    SlotRaisedEarly,
    /// Rule 4: the coordinator raises its slot before the groups have the revision in theirs.
    HandedOverEarly,
    /// Rule 6: a core reports before it freezes.
    ReportedBeforeFreezing,
    /// Rule 6: a vote does not say what is known to be stable.
    KnownStableDropped,
    /// Rule 9: what lies above W_final is not cut.
    CutSkipped,
    /// Rule 9: the reign is opened on all barriers but one.
    OneBarrierMissing,
    /// Rule 5: an acknowledgement leaves before the entry is on disk.
    AcknowledgedBeforeWritten,
    /// Rule 5: what a quorum has is committed though it lies above stable.
    CommittedAboveStable,
}

/// One thing on its way to a core's disk.
enum Write {
    Vote { term: Term, vote: Option<MemberId> },
    Log { group: usize, persist: Persist, entries: Vec<Entry> },
}

/// What a member still has after a crash.
struct Disk {
    term: Term,
    vote: Option<MemberId>,
    known_stable: Revision,
    starts: Vec<(Position, Revision)>,
    entries: Vec<Vec<Entry>>,
    /// Applied index and the highest revision applied, per group, as of the last checkpoint.
    checkpoints: Vec<(Index, Revision)>,
}

/// A request over several groups that the coordinator has under way.
struct Operation {
    groups: GroupSet,
    revision: Option<Revision>,
    left: Vec<GroupId>,
}

struct Member {
    me: MemberId,
    election: Election,
    replicas: Vec<Replication>,
    applied: Vec<Revision>,
    known_stable: Revision,
    reign: Option<Arc<Reign>>,
    w_final: Revision,
    barriers: Vec<Index>,
    barriers_told: bool,
    operation: Option<Operation>,
    freezing: [Option<Term>; CORES],
    reporting: [Option<Term>; CORES],
    following: [Option<(Term, MemberId)>; CORES],
    pulls: Vec<(Term, GroupId, MemberId)>,
    writes: [VecDeque<Write>; CORES],
}

enum Packet {
    Election(ElectionMessage),
    Group(usize, Message),
}

struct World {
    rng: Prng,
    mutant: Option<Mutant>,
    now: Instant,
    faults: bool,
    disks: Vec<Disk>,
    members: Vec<Option<Member>>,
    network: Vec<(MemberId, MemberId, Packet)>,
    /// Every revision that was stable, from 2 on: its term and participants.
    stable: Vec<(Term, GroupSet)>,
    /// Every entry that anyone applied, per group.
    applied: Vec<BTreeMap<Index, (Term, Mark)>>,
    opened: u32,
    cut: u32,
}

fn configuration_of(payload: &[u8]) -> Option<Configuration> {
    Configuration::decode(payload).ok()
}

fn initial() -> Configuration {
    let voters = (1..=MEMBERS as u64).map(MemberId).collect();
    Configuration::new(0, GROUPS as u16 - 1, voters, vec![]).expect("sound")
}

impl Disk {
    fn empty() -> Disk {
        Disk {
            term: Term(0),
            vote: None,
            known_stable: Revision::FIRST,
            starts: vec![(Position::default(), Revision::ZERO); GROUPS],
            entries: vec![Vec::new(); GROUPS],
            checkpoints: vec![(Index::ZERO, Revision::ZERO); GROUPS],
        }
    }

    fn write(&mut self, write: &Write) {
        match write {
            Write::Vote { term, vote } => (self.term, self.vote) = (*term, *vote),
            Write::Log { group, persist, entries } => {
                let log = &mut self.entries[*group];
                if let Some(after) = persist.cut_after {
                    log.retain(|e| e.index <= after);
                }
                assert!(entries.is_empty() || log.last().is_none_or(|e| e.index.next() == entries[0].index), "a gap on disk");
                log.extend(entries.iter().cloned());
            }
        }
    }

    fn has(&self, group: usize, entry: &Entry) -> bool {
        let compacted = entry.index <= self.starts[group].0.index;
        compacted || self.entries[group].iter().any(|e| (e.index, e.term) == (entry.index, entry.term))
    }
}

impl World {
    fn new(seed: u64, mutant: Option<Mutant>) -> World {
        let mut world = World {
            rng: Prng::new(seed),
            mutant,
            now: Instant::ZERO,
            faults: true,
            disks: (0..MEMBERS).map(|_| Disk::empty()).collect(),
            members: (0..MEMBERS).map(|_| None).collect(),
            network: Vec::new(),
            stable: Vec::new(),
            applied: vec![BTreeMap::new(); GROUPS],
            opened: 0,
            cut: 0,
        };
        for place in 0..MEMBERS {
            world.start(place);
        }
        world
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn start(&mut self, place: usize) {
        let disk = &self.disks[place];
        let me = MemberId(place as u64 + 1);
        let replicas = (0..GROUPS).map(|group| {
            let (start, counts_as) = disk.starts[group];
            let log = Log::recovered(start, counts_as, disk.entries[group].clone()).expect("the disk holds a log");
            let (applied, group) = (disk.checkpoints[group].0, GroupId(group as u16));
            let configuration = initial();
            let replica = Start { me, group, term: disk.term, configuration, log, applied, configuration_of };
            Replication::new(replica).expect("checkpoint and log belong together")
        });
        let options = Options {
            me,
            cores: CORES as u16,
            term: disk.term,
            vote: disk.vote,
            initial: initial(),
            configuration: None,
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
        };
        let applied: Vec<Revision> = disk.checkpoints.iter().map(|c| c.1).collect();
        let mut member = Member {
            me,
            election: Election::new(self.now, options, self.rng.fork()),
            replicas: replicas.collect(),
            known_stable: applied.iter().copied().max().unwrap_or_default().max(disk.known_stable),
            applied,
            reign: None,
            w_final: Revision::ZERO,
            barriers: Vec::new(),
            barriers_told: false,
            operation: None,
            freezing: [None; CORES],
            reporting: [None; CORES],
            following: [None; CORES],
            pulls: Vec::new(),
            writes: Default::default(),
        };
        let mut effects = Vec::new();
        for peer in (1..=MEMBERS as u64).map(MemberId).filter(|&p| p != me) {
            member.election.step(self.now, Event::LinkChanged { peer, working: true }, &mut effects);
        }
        member.election.start(self.now, &mut effects);
        self.members[place] = Some(member);
        self.act(place, effects);
    }

    fn elect(&mut self, place: usize, event: Event) {
        let Some(member) = &mut self.members[place] else { return };
        let mut effects = Vec::new();
        member.election.step(self.now, event, &mut effects);
        self.act(place, effects);
    }

    fn act(&mut self, place: usize, effects: Vec<Effect>) {
        for effect in effects {
            let member = self.members[place].as_mut().expect("it acts, so it runs");
            match effect {
                Effect::PersistVote { term, vote } => member.writes[0].push_back(Write::Vote { term, vote }),
                Effect::FreezeCores { term } => member.freezing = [Some(term); CORES],
                Effect::CloseReign { .. } => member.reign.iter().for_each(|r| r.close()),
                Effect::EndReign { term } => self.end_reign(place, term),
                Effect::Send { to, message } => self.network.push((member.me, to, Packet::Election(message))),
                Effect::Pull { term, group, from, .. } => member.pulls.push((term, group, from)),
                Effect::TakeOver { term, known_stable, configuration, .. } => {
                    self.take_over(place, term, known_stable, configuration)
                }
                Effect::OpenReign { term } => self.open(place, term),
                Effect::BecomeFollower { term, leader } => member.following = [Some((term, leader)); CORES],
                Effect::LeaderIs { .. } | Effect::ReadsConfirmed(_) | Effect::ReadsRefused(_) => {}
            }
        }
    }

    /// Rule 7.
    fn end_reign(&mut self, place: usize, term: Term) {
        let member = self.members[place].as_mut().expect("it runs");
        let reign = member.reign.take().expect("the reign was open");
        assert_eq!(reign.term(), term);
        let stable = reign.stable();
        member.operation = None;
        member.known_stable = member.known_stable.max(stable);
        for replica in &mut member.replicas {
            replica.commit(stable);
        }
        self.elect(place, Event::ReignEnded { term, stable });
    }

    /// Rule 8, at once: what a voter that is still frozen in this term has.
    fn pull(&mut self, place: usize) {
        let Some(member) = &mut self.members[place] else { return };
        member.pulls.retain(|(term, ..)| *term == member.election.term());
        let Some(&(term, group, from)) = member.pulls.last() else { return };
        let Some(voter) = &self.members[from.0 as usize - 1] else { return };
        let theirs = &voter.replicas[group.slot()];
        let own = &self.members[place].as_ref().expect("it pulls").replicas[group.slot()];
        if theirs.term() != term || own.term() != term || own.role() != Role::Frozen {
            return;
        }
        let (ours, log) = (own.log(), theirs.log());
        let lowest = ours.start().index.max(log.start().index);
        let common = (lowest.0..=ours.last().index.0.min(log.last().index.0)).rev().map(Index);
        let common = common.into_iter().find(|&i| ours.term_at(i) == log.term_at(i)).expect("what is compacted is everywhere");
        let previous = Position { term: log.term_at(common).expect("found there"), index: common };
        let span = Span { first: common.next(), last: log.last().index };
        let entries = if common < log.last().index { theirs.entries(span).cloned().collect() } else { Vec::new() };
        let member = self.members[place].as_mut().expect("it pulls");
        member.pulls.pop();
        assert_eq!(member.replicas[group.slot()].take_over(previous, entries), Ok(true));
        self.elect(place, Event::Pulled { term, group });
    }

    /// Rule 9.
    fn take_over(&mut self, place: usize, term: Term, known_stable: Revision, configuration: Configuration) {
        let (mut known_stable, skip_cut) = (known_stable, self.is(Mutant::CutSkipped));
        if self.is(Mutant::KnownStableDropped) {
            known_stable = Revision::FIRST;
        }
        let member = self.members[place].as_mut().expect("it takes over");
        let marks: Vec<Vec<(Index, Mark)>> = member.replicas.iter().map(|r| r.log().marks().collect()).collect();
        let stripe =
            |group: usize| Stripe { group: GroupId(group as u16), applied: member.applied[group], marks: &marks[group] };
        let stripes: Vec<Stripe<'_>> = (0..GROUPS).map(stripe).collect();
        let cuts = w_final(known_stable, &stripes).unwrap_or_else(|damage| panic!("violated: {damage}"));
        self.cut += u32::from(!cuts.cuts.is_empty());
        for Cut { group, after } in cuts.cuts.iter().filter(|_| !skip_cut) {
            member.replicas[group.slot()].cut(*after);
        }
        member.w_final = cuts.w_final;
        member.barriers_told = false;
        member.barriers.clear();
        for replica in &mut member.replicas {
            replica.lead(term);
            let mark = Mark::After(if skip_cut { replica.log().counts_as().max(cuts.w_final) } else { cuts.w_final });
            member.barriers.push(replica.propose_configuration(mark, configuration.encode(), configuration.clone()));
        }
    }

    fn open(&mut self, place: usize, term: Term) {
        self.opened += 1;
        let member = self.members[place].as_mut().expect("it opens");
        let (w_final, groups) = (member.w_final, GROUPS);
        let reign = Arc::new(Reign::new(term, groups, w_final));
        for (group, replica) in member.replicas.iter().enumerate() {
            reign.publish_quorum_index(GroupId(group as u16), replica.quorum_index());
        }
        member.reign = Some(reign);
        let was = self.stable.len() as u64 + 1;
        assert!(w_final.0 >= was, "violated: term {term} opens at {w_final}, and {was} was stable");
        self.note_stable(place, w_final);
    }

    /// Everything up to `stable` is stable: on disk at a quorum in all its groups, and the same that it ever was.
    fn note_stable(&mut self, place: usize, stable: Revision) {
        let replicas = &self.members[place].as_ref().expect("it leads").replicas;
        for revision in (2..=stable.0).map(Revision) {
            let mut holders = GroupSet::EMPTY;
            let mut what: Option<(Term, GroupSet)> = None;
            for (group, replica) in replicas.iter().enumerate() {
                let log = replica.log();
                let mut all = Some(Span { first: log.released().next(), last: log.last().index })
                    .filter(|span| span.first <= span.last)
                    .into_iter()
                    .flat_map(|span| log.entries(span));
                let Some(entry) = all.find(|e| e.mark.revision() == Some(revision)) else { continue };
                let Mark::Revision { participants, .. } = entry.mark else { unreachable!("it has a revision") };
                let copies = self.disks.iter().filter(|disk| disk.has(group, entry)).count();
                assert!(copies > MEMBERS / 2, "violated: revision {revision} is stable on {copies} disks in group {group}");
                holders = holders.with(GroupId(group as u16));
                assert!(what.is_none_or(|w| w == (entry.term, participants)), "violated: revision {revision} is two");
                what = Some((entry.term, participants));
            }
            let known = self.stable.get(revision.0 as usize - 2).copied();
            match (known, what) {
                // Compacted here in part: what is left is what it was.
                (Some(known), Some(what)) => assert_eq!(known, what, "violated: revision {revision} is another one now"),
                (Some(_), None) => {}
                (None, Some(what)) => {
                    assert_eq!(what.1, holders, "violated: revision {revision} is stable and not in all its groups");
                    self.stable.push(what);
                }
                (None, None) => panic!("violated: revision {revision} is stable and nowhere"),
            }
        }
    }

    fn core_step(&mut self, place: usize, core: usize) {
        let early = self.is(Mutant::ReportedBeforeFreezing);
        let Some(member) = &mut self.members[place] else { return };
        let groups = || (0..GROUPS).filter(|g| g % CORES == core);
        if let Some(term) = member.freezing[core] {
            let report = |g: usize| {
                let log = member.replicas[g].log();
                let index = log.persisted();
                let last = Position { term: log.term_at(index).expect("it is in the log"), index };
                GroupReport { group: GroupId(g as u16), last, configuration: member.replicas[g].configuration().clone() }
            };
            if early && member.reporting[core] != Some(term) {
                let reports = groups().map(report).collect();
                member.reporting[core] = Some(term);
                let known_stable = member.known_stable;
                return self.elect(place, Event::CoreFrozen { term, core: CoreId(core as u16), reports, known_stable });
            }
            member.freezing[core] = None;
            member.following[core] = None;
            member.reporting[core] = Some(term);
            for replica in member.replicas.iter_mut().skip(core).step_by(CORES).filter(|r| r.term() < term) {
                replica.freeze(term);
            }
            return;
        }
        if let Some(term) = member.reporting[core].filter(|_| !early) {
            let all_frozen = groups().all(|g| member.replicas[g].role() == Role::Frozen && member.replicas[g].term() == term);
            let reports: Option<Vec<GroupReport>> =
                if all_frozen { groups().map(|g| member.replicas[g].report()).collect() } else { None };
            if let Some(reports) = reports {
                member.reporting[core] = None;
                let known_stable = member.known_stable;
                return self.elect(place, Event::CoreFrozen { term, core: CoreId(core as u16), reports, known_stable });
            }
        }
        if let Some((term, leader)) = member.following[core].take() {
            let frozen = |r: &&mut Replication| (r.term(), r.role()) == (term, Role::Frozen);
            for replica in member.replicas.iter_mut().skip(core).step_by(CORES).filter(frozen) {
                replica.follow(term, leader);
            }
        }
    }

    /// The oldest write of a core is on disk.
    fn disk_step(&mut self, place: usize, core: usize) {
        let Some(member) = &mut self.members[place] else { return };
        let Some(write) = member.writes[core].pop_front() else { return };
        let disk = &mut self.disks[place];
        disk.write(&write);
        disk.known_stable = disk.known_stable.max(member.known_stable);
        match write {
            Write::Vote { term, vote } => self.elect(place, Event::VotePersisted { term, vote }),
            Write::Log { group, persist, .. } => {
                member.replicas[group].persisted(persist.number);
                self.group_step(place, group);
            }
        }
    }

    /// What a core does with one of its groups at the end of a wake-up.
    fn group_step(&mut self, place: usize, group: usize) {
        let (early, unwritten) = (self.is(Mutant::SlotRaisedEarly), self.is(Mutant::AcknowledgedBeforeWritten));
        let above = self.is(Mutant::CommittedAboveStable);
        let Some(member) = &mut self.members[place] else { return };
        let replica = &mut member.replicas[group];
        let open = member.reign.clone().filter(|r| replica.role() == Role::Leading && r.term() == replica.term());
        let mut raised = None;
        if let Some(reign) = &open {
            reign.publish_quorum_index(GroupId(group as u16), replica.quorum_index());
            let written = replica.log().persisted() == replica.log().last().index;
            let lowest = if early && written { None } else { replica.lowest_without_quorum() };
            raised = reign.raise(Owner::Group(GroupId(group as u16)), lowest);
            replica.commit(if above { Revision(u64::MAX - 1) } else { reign.stable() });
        }
        let ready = replica.ready();
        if let Some(persist) = ready.persist {
            let entries = persist.entries.map(|span| replica.entries(span).cloned().collect()).unwrap_or_default();
            member.writes[group % CORES].push_back(Write::Log { group, persist, entries });
            if unwritten {
                replica.persisted(persist.number);
            }
        }
        for (to, message) in ready.messages {
            self.network.push((member.me, to, Packet::Group(group, message)));
        }
        let committed: Vec<Entry> = ready.committed.map(|s| replica.entries(s).cloned().collect()).unwrap_or_default();
        if let Some(stable) = raised {
            self.note_stable(place, stable);
        }
        self.apply(place, group, committed);
        self.tell_barriers(place);
    }

    fn apply(&mut self, place: usize, group: usize, entries: Vec<Entry>) {
        let stable = self.stable.len() as u64 + 1;
        let member = self.members[place].as_mut().expect("it applies");
        for entry in entries {
            let counts_as = entry.mark.counts_as();
            assert!(counts_as.0 <= stable, "violated: {counts_as} is applied, and {stable} is stable");
            let known = self.applied[group].entry(entry.index).or_insert((entry.term, entry.mark));
            assert_eq!(*known, (entry.term, entry.mark), "violated: entry {} of group {group} is another one", entry.index);
            if let Some(revision) = entry.mark.revision() {
                member.applied[group] = member.applied[group].max(revision);
            }
            member.known_stable = member.known_stable.max(member.applied[group]);
        }
    }

    fn tell_barriers(&mut self, place: usize) {
        let missing = usize::from(self.is(Mutant::OneBarrierMissing));
        let member = self.members[place].as_mut().expect("it runs");
        let leads = member.replicas.iter().all(|r| r.role() == Role::Leading && r.term() == member.election.term());
        let reached = member.replicas.iter().zip(&member.barriers).filter(|(r, b)| r.quorum_index() >= **b).count();
        if leads && !member.barriers_told && member.barriers.len() == GROUPS && reached >= GROUPS - missing {
            member.barriers_told = true;
            let term = member.election.term();
            self.elect(place, Event::BarriersDurable { term });
        }
    }

    /// A leader evaluates something.
    fn request(&mut self, place: usize) {
        let Some(member) = &mut self.members[place] else { return };
        let Some(reign) = member.reign.clone().filter(|r| !r.is_closed()) else { return };
        let leads = |r: &Replication| r.role() == Role::Leading && r.term() == reign.term();
        let held = |group: GroupId| member.operation.as_ref().is_some_and(|o| o.groups.has(group));
        let group = GroupId(self.rng.below(GROUPS as u64) as u16);
        if self.rng.chance(1, 3) {
            return self.coordinate(place, &reign);
        }
        if held(group) || !leads(&member.replicas[group.slot()]) {
            return;
        }
        if group == GroupId::META && self.rng.chance(1, 2) {
            member.replicas[0].propose(Mark::After(reign.after()), Bytes::from_static(&[0xFF]));
        } else {
            let revision = reign.take(Owner::Group(group));
            let mark = Mark::Revision { revision, participants: GroupSet::of(group) };
            member.replicas[group.slot()].propose(mark, Bytes::new());
        }
        if self.rng.chance(1, 2) {
            self.group_step(place, group.slot());
        }
    }

    /// Rule 4, one step of it.
    fn coordinate(&mut self, place: usize, reign: &Reign) {
        let early = self.is(Mutant::HandedOverEarly);
        let member = self.members[place].as_mut().expect("it leads");
        let Some(operation) = &mut member.operation else {
            let groups: GroupSet = (0..GROUPS as u16).map(GroupId).filter(|_| self.rng.chance(2, 3)).collect();
            if groups.len() > 1 {
                member.operation = Some(Operation { groups, revision: None, left: groups.iter().collect() });
            }
            return;
        };
        let Some(revision) = operation.revision else {
            operation.revision = Some(reign.take(Owner::Coordinator));
            return;
        };
        let Some(group) = operation.left.pop() else { unreachable!("it ends with its last group") };
        let replica = &mut member.replicas[group.slot()];
        if replica.role() != Role::Leading || replica.term() != reign.term() {
            operation.left.push(group);
            return;
        }
        let mut raised = None;
        if early && operation.left.len() + 1 == operation.groups.len() as usize {
            raised = reign.raise(Owner::Coordinator, None);
        }
        replica.propose(Mark::Revision { revision, participants: operation.groups }, Bytes::new());
        reign.adopt(Owner::Group(group), revision);
        if operation.left.is_empty() {
            raised = reign.raise(Owner::Coordinator, None).or(raised);
            member.operation = None;
        }
        if let Some(stable) = raised {
            self.note_stable(place, stable);
        }
    }

    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let place = self.rng.below(self.network.len() as u64) as usize;
        let (from, to, packet) = self.network.swap_remove(place);
        if self.faults && self.rng.chance(1, 12) {
            return;
        }
        if self.faults && self.rng.chance(1, 12) {
            let again = match &packet {
                Packet::Election(message) => Packet::Election(message.clone()),
                Packet::Group(group, message) => Packet::Group(*group, message.clone()),
            };
            self.network.push((from, to, again));
        }
        let place = to.0 as usize - 1;
        match packet {
            Packet::Election(message) => self.elect(place, Event::Received { from, message }),
            Packet::Group(group, message) => {
                let Some(member) = &mut self.members[place] else { return };
                let leader = matches!(message.body, Body::Append(_)).then_some(from);
                match member.replicas[group].step(from, message) {
                    Ok(Heard::LaterTerm(term)) => self.elect(place, Event::LaterTerm { term, leader }),
                    Ok(_) => self.group_step(place, group),
                    Err(bad) => panic!("violated: {bad}"),
                }
            }
        }
    }

    fn tick(&mut self, place: usize) {
        let Some(member) = &mut self.members[place] else { return };
        let mut awaited: Vec<Awaited> =
            member.pulls.iter().map(|(_, group, _)| Awaited { what: What::Pull(*group), progress: 0 }).collect();
        if let Some(reign) = member.reign.as_ref().filter(|r| r.stable() < r.after()) {
            awaited.push(Awaited { what: What::Stable, progress: reign.stable().0 });
        }
        let heard = self.rng.chance(1, 8);
        for replica in member.replicas.iter_mut().filter(|r| heard && r.role() == Role::Leading) {
            (1..=MEMBERS as u64).map(MemberId).for_each(|peer| replica.heard_from(peer));
        }
        if self.now >= member.election.next_deadline() {
            self.elect(place, Event::Tick { awaited });
        }
    }

    /// A checkpoint, and what every member has in one is compacted.
    fn checkpoint(&mut self, place: usize) {
        let Some(member) = &mut self.members[place] else { return };
        for group in 0..GROUPS {
            self.disks[place].checkpoints[group] = (member.replicas[group].applying(), member.applied[group]);
            let upto = self.disks.iter().map(|d| d.checkpoints[group].0).min().expect("there are disks");
            member.replicas[group].compact(upto);
            let disk = &mut self.disks[place];
            let gone = disk.entries[group].partition_point(|e| e.index <= upto);
            if let Some(last) = disk.entries[group].drain(..gone).next_back() {
                disk.starts[group] = (Position { term: last.term, index: last.index }, last.mark.counts_as());
            }
        }
    }

    fn step(&mut self) {
        let place = self.rng.below(MEMBERS as u64) as usize;
        let core = self.rng.below(CORES as u64) as usize;
        match self.rng.below(100) {
            0..40 => self.deliver(),
            40..55 => self.disk_step(place, core),
            55..67 => self.core_step(place, core),
            67..77 => self.group_step(place, self.rng.clone().below(GROUPS as u64) as usize),
            77..88 => self.request(place),
            88..90 => self.pull(place),
            90..91 => self.checkpoint(place),
            91..99 => {
                let most = if self.faults { 60 } else { 10 };
                self.now = self.now + Duration::from_millis(self.rng.below(most));
                (0..MEMBERS).for_each(|m| self.tick(m));
            }
            _ if !self.faults => {}
            _ if self.members[place].is_none() => self.start(place),
            _ if self.rng.chance(1, 6) => self.members[place] = None,
            _ if self.rng.chance(1, 12) => self.now = self.now + Duration::from_millis(1500),
            _ => {}
        }
    }

    fn run(&mut self) {
        (0..STEPS).for_each(|_| self.step());
        // The faults stop: someone leads, and everything taken becomes stable.
        self.faults = false;
        for place in 0..MEMBERS {
            if self.members[place].is_none() {
                self.start(place);
            }
        }
        for round in 0.. {
            assert!(round < 400, "violated: no progress without faults");
            (0..100).for_each(|_| self.step());
            let leader = self.members.iter().flatten().find_map(|m| m.reign.as_ref().filter(|r| !r.is_closed()));
            if leader.is_some_and(|r| r.stable() > Revision::FIRST && r.settle().is_none() && r.stable() == r.after()) {
                break;
            }
        }
    }
}

/// The first seed that violates something, and how. Panics are what tells.
fn first_violation(mutant: Option<Mutant>, seeds: std::ops::Range<u64>) -> Option<(u64, String)> {
    // What is caught is reported by the test, not printed for each world.
    std::panic::set_hook(Box::new(|_| {}));
    seeds.into_iter().find_map(|seed| {
        let run = std::panic::AssertUnwindSafe(|| World::new(seed, mutant).run());
        let panic = std::panic::catch_unwind(run).err()?;
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).into()));
        Some((seed, text.unwrap_or_default()))
    })
}

fn seeds(default: u64) -> u64 {
    std::env::var("STRIPED_RAFT_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

#[test]
fn nothing_stable_is_ever_lost() {
    let found = first_violation(None, 0..seeds(300));
    println!("{found:?}");
    assert_eq!(found, None);
}

#[test]
fn the_runs_try_what_they_are_for() {
    let (mut opened, mut cut, mut stable) = (0, 0, 0);
    for seed in 1000..1030 {
        let mut world = World::new(seed, None);
        world.run();
        opened += world.opened;
        cut += world.cut;
        stable += world.stable.len();
    }
    println!("{opened} terms opened, {cut} takeovers cut, {stable} revisions");
    assert!(opened > 60 && cut > 10 && stable > 500, "{opened} terms opened, {cut} takeovers cut, {stable} revisions");
}

#[test]
fn each_rule_left_out_is_missed() {
    let mutants = [
        Mutant::SlotRaisedEarly,
        Mutant::HandedOverEarly,
        Mutant::ReportedBeforeFreezing,
        Mutant::KnownStableDropped,
        Mutant::CutSkipped,
        Mutant::OneBarrierMissing,
        Mutant::AcknowledgedBeforeWritten,
        Mutant::CommittedAboveStable,
    ];
    for mutant in mutants {
        let found = first_violation(Some(mutant), 0..seeds(3000));
        assert!(found.is_some(), "{mutant:?} was not caught");
        println!("{mutant:?}: {found:?}");
    }
}
