//! A run of the simulation: a member, its disk, its clients, a clock, and one seed that decides everything.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::base::limits::{WAL_FREE_KEPT_MAX, WAL_SEGMENTS_SPARE};
use crate::base::mutant::Mutant;
use crate::base::{Instant, Prng};

use super::clients::Clients;
use super::disk::SimDisk;
use super::history::History;
use super::member::{Member, SEGMENT_BYTES, Shape};

/// Steps in which a member must come to serve, or to rest when nothing more is asked.
const PROGRESS_STEPS_MAX: u64 = 200_000;
/// Lines of the trace that a violation carries.
const TRACE_KEPT: usize = 60;

/// What a run is like beside its seed.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Requests that the clients ask, about.
    pub requests: u64,
    /// The rule that is left out; outside the tests it has no effect.
    pub mutant: Option<Mutant>,
    /// At its end the last batch of a WAL is damaged.
    pub rot: bool,
    /// Lives of full length or cut off soon after the opening, caches of usual sizes, starts that power does not fail in: where most
    /// rules that are left out show soonest.
    pub plain: bool,
    /// Print every step.
    pub trace: bool,
}

impl Options {
    /// What the run of a seed is like in the tests: every fourth ends with a batch that goes bad.
    pub fn of(seed: u64) -> Options {
        Options { requests: 150, mutant: None, rot: seed.is_multiple_of(4), plain: false, trace: false }
    }
}

/// What a run that found nothing did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Report {
    /// Steps of the scheduler.
    pub steps: u64,
    /// Power failures and clean stops.
    pub ends: u64,
    /// Requests asked.
    pub asked: u64,
    /// Requests answered with what they asked for.
    pub answered: u64,
    /// Events shown to watches.
    pub events: u64,
    /// The last revision.
    pub revision: i64,
    /// A digest of every step: runs of one seed are the same.
    pub digest: u64,
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The seed.
    pub seed: u64,
    /// At which step.
    pub step: u64,
    /// What is wrong.
    pub what: String,
    /// The last steps before it.
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "    {line}")?;
        }
        writeln!(f, "seed {}, step {}: {}", self.seed, self.step, self.what)?;
        write!(f, "replay: etcring sim --seed {} --trace", self.seed)
    }
}

impl std::error::Error for Violation {}

/// `etcring sim --seed N [--trace]`: runs one seed as the tests do, and says what it did or found.
///
/// # Errors
/// What is wrong with the arguments, or the violation.
pub fn command(args: &[String]) -> Result<String, String> {
    let usage = "usage: etcring sim --seed N [--trace]";
    let (mut seed, mut trace) = (None, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seed" => seed = args.next().and_then(|text| text.parse::<u64>().ok()),
            "--trace" => trace = true,
            _ => return Err(usage.into()),
        }
    }
    let seed = seed.ok_or(usage)?;
    let report = run(seed, Options { trace, ..Options::of(seed) }).map_err(|violation| violation.to_string())?;
    Ok(format!("seed {seed} finds nothing: {report:?}"))
}

/// Runs the simulation of one seed.
///
/// # Errors
/// The first rule that was found broken.
pub fn run(seed: u64, options: Options) -> Result<Report, Box<Violation>> {
    let mut world = World::new(seed, options);
    match world.run() {
        Ok(()) => Ok(world.report()),
        Err(what) => Err(Box::new(Violation { seed, step: world.step, what, trace: world.trace.into_iter().collect() })),
    }
}

struct World {
    options: Options,
    rng: Prng,
    disk: SimDisk,
    shape: Shape,
    history: History,
    clients: Clients,
    now: Instant,
    step: u64,
    ends: u64,
    digest: u64,
    /// Until which step a core's log stands still.
    stalled_until: u64,
    /// Until then the clients ask of nothing but leases.
    leases_only: bool,
    trace: VecDeque<String>,
}

/// How a run of the member ended.
enum Ended {
    /// Everything was asked, answered and shown.
    Done,
    /// Power failed.
    Crashed,
}

impl World {
    fn new(seed: u64, options: Options) -> World {
        let mut rng = Prng::new(seed);
        let shards = [1, 2, 4, 16][rng.below(4) as usize];
        let cache_bytes = [if options.plain { 1 << 20 } else { 0 }, 96 << 10, 1 << 20, 1 << 20][rng.below(4) as usize];
        let shape = Shape { shards, cores: 1, fronts: 1, together: true, cache_bytes, may_die_starting: !options.plain };
        let mut disk = SimDisk::default();
        disk.copies = rng.chance(1, 4);
        World {
            options,
            rng,
            disk,
            shape,
            history: History::new(),
            clients: Clients::default(),
            now: Instant::from_nanos(1_000_000),
            step: 0,
            ends: 0,
            digest: 0,
            stalled_until: 0,
            leases_only: false,
            trace: VecDeque::new(),
        }
    }

    fn report(&self) -> Report {
        Report {
            steps: self.step,
            ends: self.ends,
            asked: self.clients.asked,
            answered: self.clients.answered,
            events: self.clients.events,
            revision: self.history.top(),
            digest: self.digest,
        }
    }

    fn note(&mut self, line: String) {
        for byte in line.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let line = format!("{:>7} {:>12} {line}", self.step, self.now.as_nanos() / 1000);
        if self.options.trace {
            println!("{line}");
        }
        if self.trace.len() == TRACE_KEPT {
            self.trace.pop_front();
        }
        self.trace.push_back(line);
    }

    fn run(&mut self) -> Result<(), String> {
        let mut faults = 1 + self.rng.below(4);
        loop {
            let member = self.start()?;
            match self.live(member, faults > 0)? {
                Ended::Done => break,
                Ended::Crashed => faults = faults.saturating_sub(1),
            }
        }
        self.history.finish(self.now)?;
        if self.options.rot { self.rot() } else { Ok(()) }
    }

    /// Starts the member, with another number of cores and fronts than before. Power may fail in the middle of a start, too.
    fn start(&mut self) -> Result<Member, String> {
        self.shape.cores = 1 + self.rng.below(3) as u16;
        self.shape.fronts = 1 + self.rng.below(2) as u16;
        self.shape.together = self.rng.chance(1, 2);
        self.note(format!("start: {:?}", self.shape));
        loop {
            let member = Member::start(&mut self.disk, self.shape, self.now, &mut self.rng)
                .map_err(|e| format!("the member does not start: {e}"))?;
            match member {
                Some(member) => return Ok(member),
                None => self.note("power failure in the middle of a start".into()),
            }
        }
    }

    /// One run of the member, to its end.
    fn live(&mut self, mut member: Member, faults: bool) -> Result<Ended, String> {
        // Now and then while the member still recovers, or has only just come to serve.
        let most = if self.options.plain { 6_000 } else { [120, 600, 6_000, 6_000][self.rng.below(4) as usize] };
        let mut crash_at = if faults { self.step + 1 + self.rng.below(most) } else { u64::MAX };
        // A takeover that dies half-way, with what some cores cut on disk and not what another did.
        if self.rng.chance(1, 4) {
            let until = self.stall(&mut member, 1_500);
            crash_at =
                if faults && self.rng.chance(1, 2) { self.step + 1 + self.rng.below(until - self.step) } else { crash_at };
        }
        let cleanly = self.rng.chance(1, 8);
        let mut finals: Option<u64> = None;
        let mut rested_since = self.step;
        let begun = self.step;
        let target = if faults { u64::MAX } else { self.options.requests };
        while !member.leads() || !self.clients.is_audited() {
            if self.step >= crash_at {
                return self.end(member, false);
            }
            if member.leads() && !self.clients.has_audit() {
                self.clients.audit(&mut member, &self.history, &mut self.rng);
            }
            self.one_step(&mut member)?;
            if self.step - begun > PROGRESS_STEPS_MAX {
                return Err("the member does not come to serve".into());
            }
        }
        self.check_known_stable(&member)?;
        if !self.options.plain {
            self.look_round(&mut member);
        } else if faults && self.rng.chance(1, 2) {
            // Soon after the opening, when little of the new reign is on disk.
            crash_at = self.step + 1 + self.rng.below(150);
        }
        loop {
            if self.step >= crash_at {
                return self.end(member, cleanly);
            }
            let asking = self.clients.asked < target && finals.is_none();
            if asking && self.clients.waiting() < 12 && self.rng.chance(1, 8) {
                if member.stalled.is_some() && self.leases_only {
                    self.clients.act_on_leases(&mut member, &mut self.history, self.now, &mut self.rng);
                } else {
                    self.clients.act(&mut member, &mut self.history, self.now, &mut self.rng);
                }
                rested_since = self.step;
            }
            // Somebody fills the disk, and cleans up later.
            if !asking || self.rng.chance(1, 1_000) {
                let is_full = asking && !self.disk.is_full;
                if is_full != self.disk.is_full {
                    self.note(if is_full { "the disk is full".into() } else { "the disk has space".into() });
                    self.disk.is_full = is_full;
                    if is_full && !self.options.plain && self.rng.chance(1, 2) {
                        self.clients.rush(&mut member, &mut self.history, &mut self.rng);
                    }
                }
            }
            if asking && self.rng.chance(1, 800) {
                let until = self.stall(&mut member, 300);
                crash_at = if faults && self.rng.chance(1, 2) { crash_at.min(until) } else { crash_at };
            }
            self.clients.drain(&mut member, &mut self.rng, asking);
            let rests = !self.one_step(&mut member)?;
            if asking {
                continue;
            }
            if self.step - rested_since > PROGRESS_STEPS_MAX {
                let waiting = self.clients.describe();
                let behind = self.clients.behind(&self.history);
                return Err(format!("no rest is found; {behind} watches are behind, and there wait: {waiting:#?}"));
            }
            if rests && self.clients.waiting() == 0 && self.clients.behind(&self.history) == 0 {
                let round = finals.map_or(0, |n| n + 1);
                finals = Some(round);
                rested_since = self.step;
                match round {
                    0 | 2 => self.read_finally(&mut member),
                    1 | 3 => self.now = self.now + Duration::from_secs(10),
                    _ => {
                        self.check_disk()?;
                        return Ok(Ended::Done);
                    }
                }
            }
        }
    }

    /// The log of one core stands still for up to so many steps: whatever rests on it waits, and nothing else does. Until when.
    fn stall(&mut self, member: &mut Member, most: u64) -> u64 {
        let core = self.rng.below(u64::from(member.shape.cores)) as usize;
        self.stalled_until = self.step + 1 + self.rng.below(most);
        self.note(format!("the log of core {core} stands still until step {}", self.stalled_until));
        member.stalled = Some(core);
        self.leases_only = self.rng.chance(1, 2);
        self.stalled_until
    }

    /// What is asked of every run of the member: leases, and the hash of something old.
    fn look_round(&mut self, member: &mut Member) {
        for front in 0..member.shape.fronts {
            self.clients.list_leases(member, &self.history, front);
            let old = self.rng.below(self.history.top() as u64 + 1) as i64;
            self.clients.hash(member, &self.history, front, old);
        }
    }

    fn read_finally(&mut self, member: &mut Member) {
        let low = self.history.compacting.max(1);
        let old = low + self.rng.below((self.history.top() - low + 1) as u64) as i64;
        for front in 0..member.shape.fronts {
            self.clients.read_all(member, &self.history, front, 0);
            self.clients.read_all(member, &self.history, front, old);
            self.clients.hash(member, &self.history, front, 0);
        }
        self.look_round(member);
    }

    /// One thing happens. False: nothing was possible but for the clock to go on.
    fn one_step(&mut self, member: &mut Member) -> Result<bool, String> {
        self.step += 1;
        if self.step >= self.stalled_until {
            member.stalled = None;
        }
        let jump = if self.rng.chance(1, 700) { 300_000_000 } else { 20_000 };
        self.now = self.now + Duration::from_nanos(self.rng.below(jump));
        let mut out = Vec::new();
        let mut line = None;
        let done = member.step(&mut self.disk, self.now, &mut self.rng, &mut out, &mut |text| line = Some(text()))?;
        if let Some(line) = line {
            self.note(line);
        }
        for (call, message) in out {
            self.note(format!("  to {call:?}: {}", message.describe()));
            self.clients.take(call, message, &mut self.history, self.now)?;
        }
        if !done {
            if let Some(core) = member.sleeps_over_work(self.now) {
                return Err(format!("core {core} has work that nobody wakes it for"));
            }
            let deadline = match member.stalled {
                None => member.next_deadline(),
                Some(_) => member.next_deadline().min(self.now + Duration::from_millis(1)),
            };
            if deadline < Instant::MAX {
                self.now = self.now.max(deadline);
            }
        }
        // A member does not rest while its disk stands still.
        Ok(done || member.stalled.is_some())
    }

    fn end(&mut self, mut member: Member, cleanly: bool) -> Result<Ended, String> {
        self.ends += 1;
        if cleanly {
            self.note("clean stop".into());
            member.stop();
            let begun = self.step;
            while !member.is_stopped() {
                self.one_step(&mut member)?;
                if self.step - begun > PROGRESS_STEPS_MAX {
                    return Err("a clean stop does not end".into());
                }
            }
        }
        self.disk.is_full = false;
        self.note("power failure".into());
        member.crash(&mut self.disk, &mut self.rng);
        self.clients.crash(&mut self.history);
        Ok(Ended::Crashed)
    }

    /// Logs are compacted: what a member at rest keeps does not grow with what was written.
    fn check_disk(&self) -> Result<(), String> {
        let (wal, _) = self.disk.used();
        // The one in use and the one before it, spare ones, and those kept to be recycled.
        let segments = 2 + WAL_SEGMENTS_SPARE + WAL_FREE_KEPT_MAX;
        let most = u64::from(self.shape.cores) * segments as u64 * SEGMENT_BYTES;
        if wal > most {
            return Err(format!("the WAL takes {wal} bytes at rest, more than {most}"));
        }
        let segments = self.disk.segments();
        if segments.first().map(|oldest| oldest.wal.run) != segments.last().map(|newest| newest.wal.run) {
            return Err(format!("segments of earlier runs are kept at rest: {segments:?}"));
        }
        Ok(())
    }

    /// The last batch of a WAL goes bad after it was acknowledged. The member may refuse to start, or not know that anything is
    /// missing; but what the disk knows to be stable it must not forget.
    fn rot(&mut self) -> Result<(), String> {
        self.clients.crash(&mut self.history);
        let mut member = self.start()?;
        self.come_up(&mut member)?;
        for _ in 0..300 + self.rng.below(900) {
            if self.clients.waiting() < 12 && self.rng.chance(1, 6) {
                self.clients.act(&mut member, &mut self.history, self.now, &mut self.rng);
            }
            self.one_step(&mut member)?;
        }
        let written = member.crash(&mut self.disk, &mut self.rng);
        self.clients.crash(&mut self.history);
        let (path, offset) = &written[self.rng.below(written.len() as u64) as usize];
        self.note(format!("{} is spoilt at {offset}", path.display()));
        let at = offset + 100 + self.rng.below(100);
        self.disk.spoil(path, at);
        // What is lost unknown to the disk cannot be told: nothing is expected of what was answered.
        self.history = History::new();
        let Ok(mut member) = self.start() else { return Ok(()) };
        if self.come_up(&mut member).is_err() {
            return Ok(());
        }
        self.check_known_stable(&member)
    }

    /// Steps until the member serves and its audit has begun.
    fn come_up(&mut self, member: &mut Member) -> Result<(), String> {
        let begun = self.step;
        while !member.leads() || !self.clients.is_audited() {
            if member.leads() && !self.clients.has_audit() {
                self.clients.audit(member, &self.history, &mut self.rng);
            }
            self.one_step(member)?;
            if self.step - begun > PROGRESS_STEPS_MAX {
                return Err("the member does not come to serve".into());
            }
        }
        Ok(())
    }

    /// What the disk knows to be stable is served (rule 6).
    fn check_known_stable(&self, member: &Member) -> Result<(), String> {
        let (known, serves) = (member.known_stable_on_disk.as_i64(), self.history.came_up_with());
        if serves < known {
            return Err(format!("the member serves revision {serves}, though {known} was known to be stable"));
        }
        Ok(())
    }
}
