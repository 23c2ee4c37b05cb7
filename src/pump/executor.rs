//! The loop of one executor: it hands what arrives to the core and the front that live on it, and carries out what they ask for.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::base::{CoreId, FrontId, Instant};
use crate::front::{Front, FrontEffect};
use crate::io::{Disk, Tasks};
use crate::reign::Seat;
use crate::shard::{Core, Effect, Event, ToFront};

use super::calls::Calls;
use super::disk::{CoreDisk, Report};
use super::metering::Metering;
use super::queues::{Bell, Envelope, Queues};

/// What an executor is made of.
pub struct ExecutorParts<D: Disk, T: Tasks> {
    /// Its tasks and clock.
    pub tasks: T,
    /// The core that lives here, with its files.
    pub core: Option<(CoreId, Core, CoreDisk<D, T>)>,
    /// The front that lives here, with its calls.
    pub front: Option<(FrontId, Front, Calls)>,
    /// Its end of the queues.
    pub queues: Queues,
    /// What is counted and measured here.
    pub metering: Rc<Metering>,
    /// What wakes it.
    pub bell: Bell,
    /// What the disk reported.
    pub reports: Rc<RefCell<VecDeque<Report>>>,
    /// Told once, when the front has a reign to serve in.
    pub ready: Option<flume::Sender<()>>,
}

/// One executor's loop.
pub struct Executor<D: Disk, T: Tasks> {
    parts: ExecutorParts<D, T>,
    core_inbox: VecDeque<Event>,
    front_inbox: VecDeque<ToFront>,
    effects: Vec<Effect>,
    front_effects: Vec<FrontEffect>,
    stopping: bool,
    stopped: bool,
}

/// How an executor's loop ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop, and everything is on disk.
    Cleanly,
    /// The member cannot go on, for this reason.
    Fatally(String),
}

impl<D: Disk, T: Tasks> Executor<D, T> {
    /// An executor ready to run.
    pub fn new(parts: ExecutorParts<D, T>) -> Executor<D, T> {
        Executor {
            parts,
            core_inbox: VecDeque::new(),
            front_inbox: VecDeque::new(),
            effects: Vec::new(),
            front_effects: Vec::new(),
            stopping: false,
            stopped: false,
        }
    }

    /// Runs until it is told to stop, or cannot go on.
    pub async fn run(mut self) -> Ended {
        if let Some((CoreId(0), core, _)) = &mut self.parts.core {
            core.start(&mut self.effects);
        }
        loop {
            self.parts.bell.take();
            let now = self.parts.tasks.now();
            if let Err(line) = self.round(now) {
                return Ended::Fatally(line);
            }
            self.parts.queues.flush();
            if self.is_done() {
                return Ended::Cleanly;
            }
            let parks = !self.has_work(now);
            if parks || self.parts.metering.is_due(now) {
                self.look(now);
            }
            if !parks || !self.may_park() {
                self.parts.tasks.yield_now().await;
                continue;
            }
            self.park().await;
        }
    }

    /// One round: everything that has arrived, once.
    fn round(&mut self, now: Instant) -> Result<(), String> {
        self.take_reports()?;
        self.take_calls(now);
        self.drain_mailbox();
        self.run_core(now)?;
        // Rule 13: the revision is loaded before the queues are drained.
        let stable = self.parts.front.as_mut().map(|(_, front, _)| front.load_stable());
        self.drain_mailbox();
        self.run_front(now, stable);
        self.run_core(now)
    }

    fn look(&mut self, now: Instant) {
        let core = self.parts.core.as_mut().map(|(_, core, _)| core);
        let front = self.parts.front.as_ref().map(|(_, front, _)| front);
        self.parts.metering.look(now, core, front);
    }

    fn drain_mailbox(&mut self) {
        while let Some(batch) = self.parts.queues.try_receive() {
            batch.into_iter().for_each(|envelope| self.open(envelope));
        }
    }

    fn take_reports(&mut self) -> Result<(), String> {
        loop {
            let report = self.parts.reports.borrow_mut().pop_front();
            match report {
                None => return Ok(()),
                Some(Report::Event(event)) => self.core_inbox.push_back(event),
                Some(Report::Fatal(line)) => return Err(line),
            }
        }
    }

    fn open(&mut self, envelope: Envelope) {
        match envelope {
            Envelope::ToCore(message) => self.core_inbox.push_back(Event::Front(message)),
            Envelope::Core(message) => self.core_inbox.push_back(Event::Core(message)),
            Envelope::ToFront(message) => self.front_inbox.push_back(message),
            Envelope::Wake => {}
            Envelope::Stop => {
                self.stopping = true;
                if self.parts.core.is_some() {
                    self.core_inbox.push_back(Event::Stop);
                }
                if let Some((_, front, calls)) = &mut self.parts.front {
                    calls.shut_down();
                    front.stop(self.parts.tasks.now());
                }
            }
        }
    }

    fn take_calls(&mut self, now: Instant) {
        let Some((_, front, calls)) = &mut self.parts.front else { return };
        calls.deliver(now, front);
        self.take_front_effects();
    }

    /// Hands everything in its inbox to the core, flushes it, and carries out its effects, until it asks nothing of itself any more.
    fn run_core(&mut self, now: Instant) -> Result<(), String> {
        if self.parts.core.is_none() {
            return Ok(());
        }
        loop {
            let (_, core, _) = self.parts.core.as_mut().expect("looked at above");
            while let Some(event) = self.core_inbox.pop_front() {
                core.handle(now, event, &mut self.effects);
            }
            core.begin_flush(now, &mut self.effects);
            let began = core.has_to_apply().then(|| self.parts.tasks.now());
            core.apply_committed(&mut self.effects);
            if let Some(began) = began {
                self.parts.metering.applied(self.parts.tasks.now().since(began));
            }
            core.end_flush(&mut self.effects);
            self.carry_out()?;
            // Rule 13: what the slots cover is on the queues of all executors before they rise.
            self.parts.queues.flush();
            let (_, core, _) = self.parts.core.as_mut().expect("looked at above");
            let raised = core.raise_slots(&mut self.effects);
            self.carry_out()?;
            if self.core_inbox.is_empty() && !raised {
                return Ok(());
            }
        }
    }

    fn carry_out(&mut self) -> Result<(), String> {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.parts.metering.effect(&effect);
            match effect {
                Effect::ToFront(front, message) => {
                    if let Some(Envelope::ToFront(message)) =
                        self.parts.queues.push(Seat::Front(front), Envelope::ToFront(message))
                    {
                        self.front_inbox.push_back(message);
                    }
                }
                Effect::ToCore(core, message) => {
                    if let Some(Envelope::Core(message)) = self.parts.queues.push(Seat::Core(core), Envelope::Core(message)) {
                        self.core_inbox.push_back(Event::Core(message));
                    }
                }
                Effect::Wake(seat) => {
                    self.parts.queues.push(seat, Envelope::Wake);
                }
                Effect::Disk(effect) => {
                    let (_, _, disk) = self.parts.core.as_ref().expect("only a core asks for disk work");
                    disk.carry_out(effect);
                }
                Effect::Stopped => self.stopped = true,
                Effect::Fatal(line) => return Err(line),
            }
        }
        if let Some((_, _, disk)) = &self.parts.core {
            disk.begin_reads();
        }
        // Nothing above asks for more; the list is kept for its memory.
        self.effects = effects;
        Ok(())
    }

    fn run_front(&mut self, now: Instant, stable: Option<crate::base::Revision>) {
        let Some((_, front, calls)) = &mut self.parts.front else { return };
        for message in self.front_inbox.drain(..) {
            front.core_message(now, message);
        }
        front.advance(now, stable.expect("loaded because there is a front"));
        if front.leads()
            && let Some(ready) = self.parts.ready.take()
        {
            ready.send(()).ok();
        }
        if front.next_deadline() <= now {
            front.tick(now);
        }
        self.parts.tasks.gather_arrivals(calls.gathers(front));
        self.take_front_effects();
    }

    fn take_front_effects(&mut self) {
        let Some((_, front, calls)) = &mut self.parts.front else { return };
        front.take_effects(&mut self.front_effects);
        if self.front_effects.is_empty() {
            return;
        }
        let now = self.parts.tasks.now();
        for effect in self.front_effects.drain(..) {
            if let Some(FrontEffect::ToCore(core, message)) = calls.send(now, effect)
                && let Some(Envelope::ToCore(message)) = self.parts.queues.push(Seat::Core(core), Envelope::ToCore(message))
            {
                self.core_inbox.push_back(Event::Front(message));
            }
        }
    }

    fn has_work(&self, now: Instant) -> bool {
        let background = self.parts.core.as_ref().is_some_and(|(_, core, _)| core.has_background_work(now));
        background
            || !self.core_inbox.is_empty()
            || !self.front_inbox.is_empty()
            || !self.parts.reports.borrow().is_empty()
            || self.parts.bell.take()
    }

    fn is_done(&self) -> bool {
        let core = self.parts.core.is_none() || self.stopped;
        let calls = self.parts.front.as_ref().is_none_or(|(_, _, calls)| calls.have_ended());
        self.stopping && core && calls
    }

    /// Rule 2: what is waited for is published, and looked at once more.
    fn may_park(&mut self) -> bool {
        let front = self.parts.front.as_mut().is_none_or(|(_, front, _)| front.may_park());
        let core = match &mut self.parts.core {
            Some((_, core, _)) => core.may_park(&mut self.effects),
            None => true,
        };
        let raised = !self.effects.is_empty();
        if self.carry_out().is_err() {
            unreachable!("parking asks only for wakes");
        }
        self.parts.queues.flush();
        front && core && !raised
    }

    async fn park(&mut self) {
        let front = self.parts.front.as_ref().map_or(Instant::MAX, |(_, front, _)| front.next_deadline());
        let core = self.parts.core.as_mut().map_or(Instant::MAX, |(_, core, _)| core.next_deadline());
        let deadline = front.min(core);
        if deadline <= self.parts.tasks.now() {
            // What is due waits for something under way: that must get its turn.
            return self.parts.tasks.yield_now().await;
        }
        let received = {
            let mail = async { self.parts.queues.receive().await };
            let bell = async {
                self.parts.bell.rung().await;
                None
            };
            let timer = async {
                match deadline {
                    Instant::MAX => std::future::pending().await,
                    at => self.parts.tasks.sleep_until(at).await,
                }
                None
            };
            futures_lite::future::or(bell, futures_lite::future::or(mail, timer)).await
        };
        if let Some((_, core, _)) = &self.parts.core {
            core.unparked();
        }
        if let Some((_, front, _)) = &self.parts.front {
            front.unparked();
        }
        received.into_iter().flatten().for_each(|envelope| self.open(envelope));
    }
}
