//! One executor of the simulated member: the deterministic twin of the pump's loop, cut into the pieces between which other
//! threads can come in.
//!
//! ```text
//!  Begin ─▶ Handle ─▶ Flush ─▶ Send ─▶ Raise ─▶ Load ─▶ Drain ─▶ Front ─▶ Handle ─▶ … ─▶ Raise ─▶ End ─▶ parked, or Begin
//! ```

use std::collections::VecDeque;

use bytes::Bytes;

use crate::base::limits::READ_POLL;
use crate::base::{CoreId, FrontId, Instant, Prng, Revision};
use crate::front::{CallId, CallOptions, Front, FrontEffect, Method, Status, frames};
use crate::pump::{Envelope, Homes};
use crate::reign::Seat;
use crate::shard::{Core, DiskEffect, Effect, Event, ToFront};

/// What comes from the transport.
#[derive(Debug)]
pub enum Incoming {
    /// A call begins.
    Open(CallId, Method),
    /// A message of it.
    Message(CallId, Bytes),
    /// The client is done sending.
    HalfClose(CallId),
    /// The client is gone.
    Cancel(CallId),
    /// So many bytes have left for it.
    Sent(CallId, usize),
}

/// What goes to the transport.
#[derive(Debug)]
pub enum Outgoing {
    /// A message, less its prefix.
    Message(CallId, Bytes),
    /// How the call ended.
    Finish(CallId, crate::front::Status),
}

impl Outgoing {
    /// For the trace.
    pub fn describe(&self) -> String {
        match self {
            Outgoing::Message(_, bytes) => format!("{} bytes, crc {:08x}", bytes.len(), crc32c::crc32c(bytes)),
            Outgoing::Finish(_, status) => format!("{:?} {}", status.code, status.message),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Begin,
    Handle,
    Flush,
    Send,
    Raise,
    Load,
    Drain,
    Front,
    End,
    Parked,
}

/// One executor.
pub struct Executor {
    me: usize,
    homes: Homes,
    /// The core that lives here.
    pub core: Option<Core>,
    front: Option<Front>,
    phase: Phase,
    second: bool,
    loaded: Revision,
    core_inbox: VecDeque<Event>,
    front_inbox: VecDeque<ToFront>,
    mailbox: Vec<VecDeque<Envelope>>,
    outgoing: Vec<Vec<Envelope>>,
    effects: Vec<Effect>,
    front_effects: Vec<FrontEffect>,
    /// What the disk reported.
    pub reports: VecDeque<Event>,
    /// What came from the transport.
    pub calls: VecDeque<Incoming>,
    /// Whether the core is stopped cleanly.
    pub stopped: bool,
}

/// What an executor does to the world in a step.
#[derive(Default)]
pub struct Outcome {
    /// What is sent to which executor.
    pub sent: Vec<(usize, Vec<Envelope>)>,
    /// Disk work.
    pub disk: Vec<DiskEffect>,
    /// To the clients.
    pub clients: Vec<Outgoing>,
    /// The member cannot go on.
    pub fatal: Option<String>,
}

impl Executor {
    /// An executor ready to run.
    pub fn new(me: usize, executors: usize, homes: Homes, core: Option<Core>, front: Option<Front>) -> Executor {
        let mut effects = Vec::new();
        let mut core = core;
        if let (Some(core), 0) = (&mut core, me) {
            core.start(&mut effects);
        }
        Executor {
            me,
            homes,
            core,
            front,
            phase: Phase::Begin,
            second: false,
            loaded: Revision::ZERO,
            core_inbox: VecDeque::new(),
            front_inbox: VecDeque::new(),
            mailbox: (0..executors).map(|_| VecDeque::new()).collect(),
            outgoing: (0..executors).map(|_| Vec::new()).collect(),
            effects,
            front_effects: Vec::new(),
            reports: VecDeque::new(),
            calls: VecDeque::new(),
            stopped: false,
        }
    }

    /// Takes in what another executor, or a signal, sent.
    pub fn receive(&mut self, from: usize, batch: Vec<Envelope>) {
        self.mailbox[from].extend(batch);
    }

    /// Whether a step would do anything.
    pub fn is_enabled(&mut self, now: Instant) -> bool {
        self.phase != Phase::Parked || self.has_mail() || self.next_deadline() <= now
    }

    /// When it wants to run though nothing happens.
    pub fn next_deadline(&mut self) -> Instant {
        let front = self.front.as_ref().map_or(Instant::MAX, Front::next_deadline);
        let core = self.core.as_mut().map_or(Instant::MAX, Core::next_deadline);
        front.min(core)
    }

    /// Whether it is parked though its core has work which waits for nothing, and is not due soon.
    pub fn sleeps_over_work(&mut self, now: Instant) -> bool {
        let works = self.core.as_ref().is_some_and(|core| core.has_background_work(now));
        works && !self.is_enabled(now) && self.next_deadline() > now + READ_POLL
    }

    /// Where it is; for the trace.
    pub fn phase(&self) -> String {
        format!("{:?}", self.phase)
    }

    /// Whether its front has a reign to serve in.
    pub fn leads(&self) -> bool {
        self.front.as_ref().is_none_or(Front::leads)
    }

    fn has_mail(&self) -> bool {
        !self.reports.is_empty() || !self.calls.is_empty() || self.mailbox.iter().any(|m| !m.is_empty())
    }

    /// The next piece of its loop.
    pub fn step(&mut self, now: Instant, rng: &mut Prng) -> Outcome {
        let mut out = Outcome::default();
        self.phase = match self.phase {
            Phase::Parked => {
                self.unparked();
                Phase::Begin
            }
            Phase::Begin => self.begin(now, rng, &mut out),
            Phase::Handle => self.handle(now, rng),
            Phase::Flush => {
                if let Some(core) = &mut self.core {
                    core.flush(now, &mut self.effects);
                }
                self.carry_out(&mut out);
                Phase::Send
            }
            Phase::Send => {
                self.send(&mut out);
                Phase::Raise
            }
            Phase::Raise => {
                let raised = self.core.as_mut().is_some_and(|core| core.raise_slots(&mut self.effects));
                self.carry_out(&mut out);
                match (raised || !self.core_inbox.is_empty(), self.second) {
                    (true, _) => Phase::Handle,
                    (false, false) if self.front.is_some() => Phase::Load,
                    _ => Phase::End,
                }
            }
            Phase::Load => {
                self.loaded = self.front.as_mut().expect("it is here").load_stable();
                Phase::Drain
            }
            Phase::Drain => {
                self.drain(u64::MAX, rng);
                Phase::Front
            }
            Phase::Front => {
                self.run_front(now, &mut out);
                self.second = true;
                Phase::Handle
            }
            Phase::End => self.end(now, &mut out),
        };
        out
    }

    fn begin(&mut self, now: Instant, rng: &mut Prng, out: &mut Outcome) -> Phase {
        self.second = false;
        self.core_inbox.extend(self.reports.drain(..));
        if let Some(front) = &mut self.front {
            for incoming in self.calls.drain(..) {
                match incoming {
                    Incoming::Open(call, method) => front.open(now, call, method, CallOptions::default()),
                    Incoming::Message(call, message) => front.message(now, call, message),
                    Incoming::HalfClose(call) => front.half_close(now, call),
                    Incoming::Cancel(call) => front.cancel(call),
                    Incoming::Sent(call, bytes) => front.sent(call, bytes),
                }
            }
        }
        self.take_front_effects(out);
        let most = 1 + rng.below(8);
        self.drain(most, rng);
        Phase::Handle
    }

    fn handle(&mut self, now: Instant, rng: &mut Prng) -> Phase {
        let Some(core) = &mut self.core else { return Phase::Flush };
        for _ in 0..1 + rng.below(6) {
            let Some(event) = self.core_inbox.pop_front() else { return Phase::Flush };
            core.handle(now, event, &mut self.effects);
        }
        if self.core_inbox.is_empty() { Phase::Flush } else { Phase::Handle }
    }

    /// Takes in up to `most` of what each executor sent.
    fn drain(&mut self, most: u64, rng: &mut Prng) {
        let first = rng.below(self.mailbox.len() as u64) as usize;
        for turn in 0..self.mailbox.len() {
            let from = (first + turn) % self.mailbox.len();
            for _ in 0..most {
                let Some(envelope) = self.mailbox[from].pop_front() else { break };
                self.open(envelope);
            }
        }
    }

    fn open(&mut self, envelope: Envelope) {
        match envelope {
            Envelope::ToCore(message) => self.core_inbox.push_back(Event::Front(message)),
            Envelope::Core(message) => self.core_inbox.push_back(Event::Core(message)),
            Envelope::ToFront(message) => self.front_inbox.push_back(message),
            Envelope::Wake => {}
            Envelope::Stop if self.core.is_some() => self.core_inbox.push_back(Event::Stop),
            Envelope::Stop => self.stopped = true,
        }
    }

    fn carry_out(&mut self, out: &mut Outcome) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::ToFront(front, message) => self.push(Seat::Front(front), Envelope::ToFront(message)),
                Effect::ToCore(core, message) => self.push(Seat::Core(core), Envelope::Core(message)),
                Effect::Wake(seat) => {
                    let home = self.homes.of(seat);
                    if home != self.me {
                        self.outgoing[home].push(Envelope::Wake);
                    }
                }
                Effect::Disk(effect) => out.disk.push(effect),
                Effect::Stopped => self.stopped = true,
                Effect::Fatal(line) => out.fatal = Some(line),
            }
        }
    }

    fn push(&mut self, seat: Seat, envelope: Envelope) {
        let home = self.homes.of(seat);
        if home == self.me {
            self.open(envelope);
        } else {
            self.outgoing[home].push(envelope);
        }
    }

    fn send(&mut self, out: &mut Outcome) {
        for (home, batch) in self.outgoing.iter_mut().enumerate() {
            if !batch.is_empty() {
                out.sent.push((home, std::mem::take(batch)));
            }
        }
    }

    fn run_front(&mut self, now: Instant, out: &mut Outcome) {
        let front = self.front.as_mut().expect("it is here");
        for message in self.front_inbox.drain(..) {
            front.core_message(now, message);
        }
        front.advance(now, self.loaded);
        if front.next_deadline() <= now {
            front.tick(now);
        }
        self.take_front_effects(out);
    }

    fn take_front_effects(&mut self, out: &mut Outcome) {
        let Some(front) = &mut self.front else { return };
        front.take_effects(&mut self.front_effects);
        for effect in std::mem::take(&mut self.front_effects) {
            match effect {
                FrontEffect::Send { call, message } => out.clients.push(Outgoing::Message(call, message.slice(5..))),
                FrontEffect::SendMany { call, messages, .. } => {
                    out.clients.extend(frames(messages).map(|message| Outgoing::Message(call, message.slice(5..))));
                }
                FrontEffect::SendShared { call, head, body } => {
                    let whole = [&head[5..], &body[..]].concat();
                    out.clients.push(Outgoing::Message(call, whole.into()));
                }
                FrontEffect::ReplyParts { call, parts } => {
                    out.clients.push(Outgoing::Message(call, Bytes::from(parts.concat()).slice(5..)));
                    out.clients.push(Outgoing::Finish(call, Status::OK));
                }
                FrontEffect::Reply { call, message } => {
                    out.clients.push(Outgoing::Message(call, message.slice(5..)));
                    out.clients.push(Outgoing::Finish(call, Status::OK));
                }
                FrontEffect::Finish { call, status } => out.clients.push(Outgoing::Finish(call, status)),
                FrontEffect::ToCore(core, message) => self.push(Seat::Core(core), Envelope::ToCore(message)),
            }
        }
    }

    /// Parks when there is nothing to do and what is waited for is not there (rule 2).
    fn end(&mut self, now: Instant, out: &mut Outcome) -> Phase {
        self.send(out);
        let background = self.core.as_ref().is_some_and(|core| core.has_background_work(now));
        if background || !self.core_inbox.is_empty() || !self.front_inbox.is_empty() || self.has_mail() {
            return Phase::Begin;
        }
        let front = self.front.as_mut().is_none_or(|front| front.may_park());
        let core = self.core.as_mut().is_none_or(|core| core.may_park(&mut self.effects));
        let raised = !self.effects.is_empty();
        self.carry_out(out);
        self.send(out);
        if front && core && !raised { Phase::Parked } else { Phase::Begin }
    }

    fn unparked(&mut self) {
        if let Some(core) = &self.core {
            core.unparked();
        }
        if let Some(front) = &self.front {
            front.unparked();
        }
    }
}

/// Where the cores and fronts of a run live: `together` fronts share the first cores' executors.
pub fn homes(cores: u16, fronts: u16, together: bool) -> Homes {
    let cores = usize::from(cores);
    let fronts = 0..usize::from(fronts);
    let homes = fronts.map(|front| if together && front < cores { front } else { cores + front });
    Homes { cores: (0..cores).collect(), fronts: homes.collect() }
}

/// The core and the front of executor `index`.
pub fn residents(homes: &Homes, index: usize) -> (Option<CoreId>, Option<FrontId>) {
    let core = homes.cores.iter().position(|&home| home == index).map(|core| CoreId(core as u16));
    let front = homes.fronts.iter().position(|&home| home == index).map(|front| FrontId(front as u16));
    (core, front)
}
