//! Watches of one prefix, and the way of an event from when its put was due.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::channel::{Call, CallError};
use super::keys::all_of;
use super::load::Load;
use super::options::Common;
use super::process::Readings;
use super::requests::{EVENT, PUT, Routes, Values, keys};
use crate::base::Instant;
use crate::front::frame;
use crate::io::{Clock, Tasks, Urgency};
use crate::proto::etcdserverpb as pb;

/// How long nothing may arrive at the end before what is missing counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// A value begins with the instant at which its put was due.
const STAMP_BYTES: usize = 8;

/// The watches of a run.
pub struct Watches {
    counts: Rc<Vec<Cell<u64>>>,
    acknowledged: Rc<Cell<u64>>,
    prefix: String,
    /// What had come when the measurement began.
    first: Cell<u64>,
}

/// What they got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Watches.
    pub watchers: usize,
    /// Events that had to come: acknowledged puts, once per watch.
    pub expected: u64,
    /// Events that came.
    pub delivered: u64,
    /// CPU time of the server per event, from the end of the warm-up to the last event.
    pub cpu_per_event: Option<Duration>,
}

/// Opens the watches; they are all there when this ends.
///
/// # Errors
/// The server's or a connection's.
pub async fn open(
    load: &Rc<Load>,
    common: &Common,
    routes: &[Routes],
    watchers: usize,
    per_stream: usize,
) -> Result<Watches, CallError> {
    let prefix = if common.prefix.is_empty() { "watched/" } else { &common.prefix };
    let watches = Watches {
        counts: Rc::new(vec![Cell::new(0); watchers]),
        acknowledged: Rc::default(),
        prefix: prefix.to_owned(),
        first: Cell::new(0),
    };
    let mut first = 0;
    for stream in 0.. {
        let count = per_stream.min(watchers - first);
        if count == 0 {
            break;
        }
        let channel = routes[stream % routes.len()].channel();
        let mut call = channel.open(&channel.route("/etcdserverpb.Watch/Watch"), None).await?;
        for id in first..first + count {
            call.send(frame(&create(prefix, id)))?;
        }
        let mut created = 0;
        while created < count {
            let Some(answer) = call.next::<pb::WatchResponse>().await? else {
                return Err(CallError::Transport("the stream of watches ended".to_owned()));
            };
            if answer.canceled {
                return Err(CallError::Transport(format!("a watch was refused: {}", answer.cancel_reason)));
            }
            created += usize::from(answer.created);
        }
        let (load, counts) = (load.clone(), watches.counts.clone());
        load.clone().executor.spawn(Urgency::Prompt, receive(load, call, counts));
        first += count;
    }
    Ok(watches)
}

fn create(prefix: &str, id: usize) -> pb::WatchRequest {
    let (key, range_end) = all_of(prefix);
    let create = pb::WatchCreateRequest { key, range_end, watch_id: 1 + id as i64, ..Default::default() };
    pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) }
}

async fn receive(load: Rc<Load>, mut call: Call, counts: Rc<Vec<Cell<u64>>>) {
    loop {
        let answer = match call.next::<pb::WatchResponse>().await {
            Ok(Some(answer)) if !answer.canceled => answer,
            Ok(_) => return load.abort(&CallError::Transport("a watch ended".to_owned())),
            Err(error) => return load.abort(&error),
        };
        let now = load.executor.now();
        let count = &counts[(answer.watch_id - 1) as usize];
        count.set(count.get() + answer.events.len() as u64);
        let mut meter = load.meter.borrow_mut();
        for event in &answer.events {
            let stamp = event.kv.as_ref().and_then(|kv| kv.value.first_chunk::<STAMP_BYTES>());
            if let Some(stamp) = stamp {
                meter.record(EVENT, Instant::from_nanos(u64::from_le_bytes(*stamp)), now);
            }
        }
    }
}

impl Watches {
    /// A client that puts under the prefix.
    pub fn put(&self, load: Rc<Load>, common: &Common, routes: Routes, client: usize) -> impl Future<Output = ()> + use<> {
        let acknowledged = self.acknowledged.clone();
        let common = Common { prefix: self.prefix.clone(), ..common.clone() };
        let (mut keys, mut values) =
            (keys(&common, client, &load.sequence), Values::new(common.value_size.max(STAMP_BYTES), client));
        async move {
            loop {
                let has_begun = load.meter.borrow().has_begun();
                let Some(due) = load.schedule.take(load.executor.now(), has_begun) else { return };
                if due > load.executor.now() {
                    load.executor.sleep_until(due).await;
                }
                let mut value = BytesMut::from(&values.next()[..]);
                (&mut value[..STAMP_BYTES]).put_u64_le(due.as_nanos());
                let put = pb::PutRequest { key: keys.next(), value: value.freeze(), ..Default::default() };
                let result = routes.ask((PUT, frame(&put))).await;
                if result.is_ok() {
                    acknowledged.set(acknowledged.get() + 1);
                }
                if !load.ended(PUT, due, result.map(drop)) {
                    return;
                }
            }
        }
    }

    /// The measurement begins.
    pub fn begin(&self) {
        self.first.set(self.delivered());
    }

    fn delivered(&self) -> u64 {
        self.counts.iter().map(Cell::get).sum()
    }

    /// Waits until everything has come, or nothing comes any more.
    ///
    /// # Errors
    /// The server's process is gone.
    pub async fn finish(self, load: &Rc<Load>, readings: impl Fn() -> Result<Readings, String>) -> Result<Tally, String> {
        let watchers = self.counts.len();
        let expected = self.acknowledged.get() * watchers as u64;
        let mut last = (self.delivered(), load.executor.now());
        while last.0 < expected && load.executor.now().since(last.1) < SILENCE_MAX {
            load.executor.sleep(Duration::from_millis(10)).await;
            if self.delivered() > last.0 {
                last = (self.delivered(), load.executor.now());
            }
        }
        let delivered = self.delivered();
        let events = (delivered - self.first.get()).max(1);
        let cpu = load.meter.borrow().server_cpu_until(&readings()?);
        Ok(Tally { watchers, expected, delivered, cpu_per_event: cpu.map(|cpu| cpu.div_f64(events as f64)) })
    }
}
