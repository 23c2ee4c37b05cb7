//! Clients that ask and wait.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::channel::CallError;
use super::meter::Meter;
use super::options::{Common, Workload};
use super::process::Readings;
use super::requests::{KEEP_ALIVE, KINDS, Requests, Routes};
use super::{process, report, setup, watch};
use crate::base::Instant;
use crate::front::frame;
use crate::io::{Clock, Tasks, Urgency};
use crate::proto::etcdserverpb as pb;
use crate::runtime::Executor;

/// How long answers are waited for after the last request; what has not come then is told as unanswered.
const LAST_ANSWERS: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

/// What all clients share.
pub struct Load {
    pub executor: Executor,
    pub meter: RefCell<Meter>,
    pub schedule: Schedule,
    /// The first error that ends everything.
    fatal: RefCell<Option<String>>,
    running: Cell<usize>,
    /// Keys that ranges found.
    pub found: Cell<u64>,
    /// How many keys were taken in sequence.
    pub sequence: Rc<Cell<u64>>,
}

/// When requests are due.
pub struct Schedule {
    interval: Option<Duration>,
    next: Cell<Instant>,
    end: Cell<Instant>,
    left: Cell<Option<u64>>,
}

impl Schedule {
    fn new(common: &Common, start: Instant) -> Schedule {
        let interval = common.rate.filter(|rate| *rate > 0.0).map(|rate| Duration::from_secs_f64(1.0 / rate));
        Schedule {
            interval,
            next: Cell::new(start),
            end: Cell::new(start + common.warm_up + common.duration),
            left: Cell::new(common.total),
        }
    }

    /// When the next request is due; `None` when there is to be none.
    pub fn take(&self, now: Instant, counts: bool) -> Option<Instant> {
        let due = match self.interval {
            None => now,
            Some(interval) => {
                let due = self.next.get();
                self.next.set(due + interval);
                due
            }
        };
        if due >= self.end.get() {
            return None;
        }
        if counts && let Some(left) = self.left.get() {
            self.left.set(Some(left.checked_sub(1)?));
        }
        Some(due)
    }

    fn is_over(&self, now: Instant) -> bool {
        now >= self.end.get()
    }

    fn stop(&self) {
        self.end.set(Instant::ZERO);
    }
}

impl Load {
    fn new(executor: &Executor, common: &Common) -> Rc<Load> {
        Rc::new(Load {
            meter: RefCell::new(Meter::new(&KINDS)),
            schedule: Schedule::new(common, executor.now()),
            fatal: RefCell::new(None),
            running: Cell::new(0),
            found: Cell::new(0),
            sequence: Rc::default(),
            executor: executor.clone(),
        })
    }

    /// Ends the run with this error.
    pub fn abort(&self, error: &CallError) {
        self.fatal.borrow_mut().get_or_insert_with(|| error.to_string());
        self.schedule.stop();
    }

    /// Whether nothing more is measured: the time is over, or everything was asked and answered.
    fn is_over(&self, now: Instant) -> bool {
        self.schedule.is_over(now) || (self.schedule.left.get() == Some(0) && self.running.get() == 0)
    }

    /// Runs a client as a task that the end waits for.
    pub fn client(self: &Rc<Self>, client: impl Future<Output = ()> + 'static) {
        self.running.set(self.running.get() + 1);
        let load = self.clone();
        self.executor.spawn(Urgency::Prompt, async move {
            client.await;
            load.running.set(load.running.get() - 1);
        });
    }

    /// Takes down how a request that counts from `due` ended; whether its client goes on.
    pub fn ended(&self, kind: usize, due: Instant, result: Result<(), CallError>) -> bool {
        match result {
            Ok(()) => self.meter.borrow_mut().record(kind, due, self.executor.now()),
            Err(error @ CallError::Transport(_)) => {
                self.abort(&error);
                return false;
            }
            Err(error) => self.meter.borrow_mut().fail(due, &error),
        }
        true
    }
}

/// What a run came to.
pub struct Outcome {
    pub meter: Meter,
    /// Keys that ranges found.
    pub found: u64,
    /// Requests without an answer at the end.
    pub unanswered: usize,
    /// What watches got, if there were any.
    pub watches: Option<watch::Tally>,
}

/// Runs a workload.
///
/// # Errors
/// No server is there, or it refuses, or a connection broke.
pub async fn run(executor: Executor, workload: &Workload) -> Result<Outcome, String> {
    let common = workload.common();
    let readings = || process::readings(common.server_pid);
    readings()?;
    let routes = setup::connect(&executor, common).await?;
    if common.fill {
        setup::fill(&executor, common, &routes).await?;
    }
    let load = Load::new(&executor, common);
    let watches = start(&load, workload, &routes).await.map_err(|error| error.to_string())?;
    measure(&load, common, watches.as_ref(), readings).await?;
    let mut patience = LAST_ANSWERS.as_millis() as u64 / 10;
    while load.running.get() > 0 && patience > 0 && load.fatal.borrow().is_none() {
        executor.sleep(Duration::from_millis(10)).await;
        patience -= 1;
    }
    if let Some(error) = load.fatal.borrow_mut().take() {
        return Err(error);
    }
    let watches = match watches {
        Some(watches) => Some(watches.finish(&load, readings).await?),
        None => None,
    };
    let meter = load.meter.replace(Meter::new(&[]));
    Ok(Outcome { meter, found: load.found.get(), unanswered: load.running.get(), watches })
}

/// Starts the clients.
async fn start(load: &Rc<Load>, workload: &Workload, routes: &[Routes]) -> Result<Option<watch::Watches>, CallError> {
    let common = workload.common();
    let clients = (0..common.clients()).map(|client| (client, routes[client % routes.len()].clone()));
    match workload {
        Workload::Watch { watchers, watchers_per_stream, .. } => {
            let watches = watch::open(load, common, routes, *watchers, *watchers_per_stream).await?;
            // What was set up took time; the clock of the load starts now.
            let now = load.executor.now();
            load.schedule.next.set(now);
            load.schedule.end.set(now + common.warm_up + common.duration);
            clients.for_each(|(client, routes)| load.client(watches.put(load.clone(), common, routes, client)));
            return Ok(Some(watches));
        }
        Workload::Idle(_) => {}
        Workload::Lease { keep_alive: true, .. } => {
            clients.for_each(|(_, routes)| load.client(keep_alive(load.clone(), routes)))
        }
        _ => clients.for_each(|(client, routes)| {
            load.client(ask(load.clone(), routes, Requests::new(workload, client, &load.sequence)))
        }),
    }
    Ok(None)
}

async fn ask(load: Rc<Load>, routes: Routes, mut requests: Requests) {
    loop {
        let has_begun = load.meter.borrow().has_begun();
        let Some(due) = load.schedule.take(load.executor.now(), has_begun) else { return };
        let request = requests.next();
        let kind = request.0;
        if due > load.executor.now() {
            load.executor.sleep_until(due).await;
        }
        let result = routes.ask(request).await.map(|found| load.found.set(load.found.get() + found));
        if !load.ended(kind, due, result) {
            return;
        }
    }
}

/// One lease, kept alive over one stream.
async fn keep_alive(load: Rc<Load>, routes: Routes) {
    let channel = routes.channel();
    let grant = frame(&pb::LeaseGrantRequest { ttl: 600, id: 0 });
    let route = channel.route("/etcdserverpb.Lease/LeaseGrant");
    let granted = match channel.unary::<pb::LeaseGrantResponse>(&route, grant).await {
        Ok(granted) => granted,
        Err(error) => return load.abort(&error),
    };
    let mut call = match channel.open(&channel.route("/etcdserverpb.Lease/LeaseKeepAlive"), None).await {
        Ok(call) => call,
        Err(error) => return load.abort(&error),
    };
    let request = frame(&pb::LeaseKeepAliveRequest { id: granted.id });
    loop {
        let has_begun = load.meter.borrow().has_begun();
        let Some(due) = load.schedule.take(load.executor.now(), has_begun) else { return };
        if due > load.executor.now() {
            load.executor.sleep_until(due).await;
        }
        let answer = match call.send(request.clone()) {
            Ok(()) => call.next::<pb::LeaseKeepAliveResponse>().await,
            Err(error) => Err(error),
        };
        let result = answer.and_then(|answer| answer.map(drop).ok_or(CallError::Transport("the stream ended".to_owned())));
        if !load.ended(KEEP_ALIVE, due, result) {
            return;
        }
    }
}

/// Waits for the end of the load, second by second.
async fn measure<R>(load: &Rc<Load>, common: &Common, watches: Option<&watch::Watches>, readings: R) -> Result<(), String>
where
    R: Fn() -> Result<Readings, String>,
{
    load.executor.sleep(common.warm_up).await;
    let is_peak_ours = common.server_pid.is_some_and(process::forget_peak);
    load.meter.borrow_mut().begin(load.executor.now(), readings()?, is_peak_ours);
    watches.inspect(|watches| watches.begin());
    let mut next = load.executor.now();
    loop {
        next = next + SECOND;
        let until = next.min(load.schedule.end.get());
        while load.executor.now() < until && !load.is_over(load.executor.now()) {
            let pause = until.since(load.executor.now()).min(SECOND / 100);
            load.executor.sleep(pause).await;
        }
        let now = load.executor.now();
        let sample = load.meter.borrow_mut().tick(now, readings()?);
        if !common.json
            && let Some(sample) = sample
        {
            eprintln!("{}", report::progress(&sample));
        }
        if load.is_over(now) || load.fatal.borrow().is_some() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::options::{Command, Options};
    use crate::runtime::{CoreOptions, run_here};
    use clap::Parser;

    #[test]
    fn the_measurement_goes_on_until_the_last_answer() {
        let options = Options::try_parse_from(["bench", "put", "--total", "1"]).expect("it is right");
        let Command::Load(workload) = options.command else { panic!("put is a load") };
        let test = |executor: Executor| async move {
            let load = Load::new(&executor, workload.common());
            assert!(!load.is_over(executor.now()), "nothing was asked yet");
            assert!(load.schedule.take(executor.now(), true).is_some() && load.schedule.take(executor.now(), true).is_none());
            let (answer, answered) = flume::bounded::<()>(1);
            load.client(async move { answered.recv_async().await.expect("an answer") });
            assert!(!load.is_over(executor.now()), "the only request is not answered");
            answer.send(()).expect("someone waits");
            while load.running.get() > 0 {
                executor.yield_now().await;
            }
            assert!(load.is_over(executor.now()));
        };
        run_here(&CoreOptions::named("test"), test).expect("an executor");
    }
}
