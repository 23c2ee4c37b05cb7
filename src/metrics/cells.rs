//! The cells of one core: one writer, any number of readers.

use super::buckets::{Buckets, Total, add, get};
use super::names::{APPLY, CallKind, Combine, Counter, Gauge, HealthCheck, Histogram, Operation, RANGE, REQUEST};
use super::rpc::{CODES, Rpc};
use crate::base::limits::{APPLY_SLOW, CLIENT_VERSIONS_MAX};
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The version of clients that do not tell one, in etcd's word.
const VERSION_UNKNOWN: &str = "unknown";
/// All versions after the first [`CLIENT_VERSIONS_MAX`].
const VERSION_OTHER: &str = "other";

/// What is counted of one method.
#[derive(Default)]
struct RpcCells {
    started: AtomicU64,
    handled: [AtomicU64; CODES.len()],
    received: AtomicU64,
    sent: AtomicU64,
}

/// Everything that one core counts. Aligned so that two cores never write to one cache line.
#[repr(align(128))]
struct Cells {
    counters: [AtomicU64; Counter::COUNT],
    gauges: [AtomicU64; Gauge::COUNT],
    histograms: [Buckets; Histogram::COUNT],
    requests: [[Buckets; 2]; Operation::COUNT],
    ranges: [Buckets; 2],
    applies: Buckets,
    rpcs: [RpcCells; Rpc::COUNT],
    checks: [[AtomicU64; 2]; HealthCheck::COUNT],
    /// 1 + the outcome of the last run of each check; 0: it never ran.
    last_checks: [AtomicU64; HealthCheck::COUNT],
    clients: [[AtomicU64; CallKind::COUNT]; CLIENT_VERSIONS_MAX + 1],
    /// The names of the rows of `clients` but the last. Locked by the writer when a version comes for the first time.
    client_versions: Mutex<Vec<String>>,
}

/// A version of clients' API, as a place in this core's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientVersion(u8);

/// The writing end of a core's cells. Neither `Clone` nor `Sync`: there is one writer.
pub struct Recorder {
    cells: Arc<Cells>,
    /// What `client_versions` holds, for this thread alone: it also keeps the recorder from being shared.
    versions: RefCell<Vec<String>>,
}

/// A reading end of a core's cells.
#[derive(Clone)]
pub struct Reader(Arc<Cells>);

fn array<T: Default, const N: usize>() -> [T; N] {
    std::array::from_fn(|_| T::default())
}

impl Default for Recorder {
    fn default() -> Self {
        Recorder::new()
    }
}

impl Recorder {
    /// Cells of a core, all zero.
    pub fn new() -> Recorder {
        let versions = vec![VERSION_UNKNOWN.to_owned()];
        let cells = Cells {
            counters: array(),
            gauges: array(),
            histograms: array(),
            requests: array(),
            ranges: array(),
            applies: Buckets::default(),
            rpcs: array(),
            checks: array(),
            last_checks: array(),
            clients: array(),
            client_versions: Mutex::new(versions.clone()),
        };
        Recorder { cells: Arc::new(cells), versions: RefCell::new(versions) }
    }

    /// A reading end, for whoever answers /metrics.
    pub fn reader(&self) -> Reader {
        Reader(Arc::clone(&self.cells))
    }

    /// Counts `n` more.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        add(&self.cells.counters[counter.place()], n);
    }

    /// Sets this core's part of a counter to what is counted elsewhere, where it only rises.
    #[inline]
    pub fn set_total(&self, counter: Counter, total: u64) {
        let cell = &self.cells.counters[counter.place()];
        debug_assert!(get(cell) <= total, "{counter:?} would fall");
        cell.store(total, Ordering::Relaxed);
    }

    /// Sets this core's part of a gauge.
    #[inline]
    pub fn set(&self, gauge: Gauge, value: u64) {
        self.cells.gauges[gauge.place()].store(value, Ordering::Relaxed);
    }

    /// Takes in a duration.
    #[inline]
    pub fn observe(&self, histogram: Histogram, took: Duration) {
        debug_assert!(histogram != Histogram::LeaseTtl, "TTLs are seconds: observe_seconds");
        self.cells.histograms[histogram.place()].observe(histogram.row().scale, nanos(took));
    }

    /// Takes in a whole number of seconds that was not measured: the TTL of a lease.
    #[inline]
    pub fn observe_ttl(&self, seconds: u64) {
        let histogram = Histogram::LeaseTtl;
        self.cells.histograms[histogram.place()].observe(histogram.row().scale, seconds);
    }

    /// A request was answered.
    #[inline]
    pub fn answered(&self, operation: Operation, success: bool, took: Duration) {
        self.cells.requests[operation.place()][usize::from(success)].observe(REQUEST.scale, nanos(took));
        if operation == Operation::Range {
            self.cells.ranges[usize::from(success)].observe(RANGE.scale, nanos(took));
        }
    }

    /// A batch of committed entries was applied.
    #[inline]
    pub fn applied(&self, took: Duration) {
        self.cells.applies.observe(APPLY.scale, nanos(took));
        if took > APPLY_SLOW {
            self.add(Counter::SlowApplies, 1);
        }
    }

    /// A call has begun.
    #[inline]
    pub fn call_started(&self, rpc: Rpc) {
        add(&self.cells.rpcs[rpc.place()].started, 1);
    }

    /// A call has ended with this status code (numbers above those of gRPC count as Unknown).
    #[inline]
    pub fn call_handled(&self, rpc: Rpc, code: u8) {
        const UNKNOWN: usize = 2;
        let code = Some(usize::from(code)).filter(|c| *c < CODES.len()).unwrap_or(UNKNOWN);
        add(&self.cells.rpcs[rpc.place()].handled[code], 1);
    }

    /// Messages came in on a call.
    #[inline]
    pub fn messages_received(&self, rpc: Rpc, n: u64) {
        add(&self.cells.rpcs[rpc.place()].received, n);
    }

    /// Messages went out on a call.
    #[inline]
    pub fn messages_sent(&self, rpc: Rpc, n: u64) {
        add(&self.cells.rpcs[rpc.place()].sent, n);
    }

    /// A check of /livez or /readyz has run.
    pub fn checked(&self, check: HealthCheck, success: bool) {
        add(&self.cells.checks[check.place()][usize::from(success)], 1);
        self.cells.last_checks[check.place()].store(1 + u64::from(success), Ordering::Relaxed);
    }

    /// The place of a client's version (its metadata `client-api-version`; empty: it told none).
    /// The first [`CLIENT_VERSIONS_MAX`] get places of their own, all others share one.
    pub fn client_version(&self, version: &str) -> ClientVersion {
        let version = if version.is_empty() { VERSION_UNKNOWN } else { version };
        let mut known = self.versions.borrow_mut();
        let place = match known.iter().position(|v| v == version) {
            Some(place) => place,
            None if known.len() < CLIENT_VERSIONS_MAX => {
                known.push(version.to_owned());
                versions(&self.cells).push(version.to_owned());
                known.len() - 1
            }
            None => CLIENT_VERSIONS_MAX,
        };
        ClientVersion(u8::try_from(place).expect("a limit below 256"))
    }

    /// A client of this version has begun a call.
    #[inline]
    pub fn client_request(&self, kind: CallKind, version: ClientVersion) {
        add(&self.cells.clients[usize::from(version.0)][kind.place()], 1);
    }
}

fn versions(cells: &Cells) -> MutexGuard<'_, Vec<String>> {
    cells.client_versions.lock().unwrap_or_else(PoisonError::into_inner)
}

#[inline]
fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

/// The sums over several cores, for the renderer.
pub(super) struct Sums<'a>(pub &'a [Reader]);

impl Sums<'_> {
    fn sum(&self, cell: impl Fn(&Cells) -> &AtomicU64) -> u64 {
        self.0.iter().map(|r| get(cell(&r.0))).sum()
    }

    fn total(&self, buckets: impl Fn(&Cells) -> &Buckets) -> Total {
        let mut total = Total::default();
        self.0.iter().for_each(|r| total.take_in(buckets(&r.0)));
        total
    }

    pub(super) fn counter(&self, counter: Counter) -> u64 {
        self.sum(|c| &c.counters[counter.place()])
    }

    pub(super) fn gauge(&self, gauge: Gauge) -> u64 {
        let parts = self.0.iter().map(|r| get(&r.0.gauges[gauge.place()]));
        match gauge.row().combine {
            Combine::Sum => parts.sum(),
            Combine::Max => parts.max().unwrap_or(0),
        }
    }

    pub(super) fn histogram(&self, histogram: Histogram) -> Total {
        self.total(|c| &c.histograms[histogram.place()])
    }

    pub(super) fn requests(&self, operation: Operation, success: bool) -> Total {
        self.total(|c| &c.requests[operation.place()][usize::from(success)])
    }

    pub(super) fn ranges(&self, success: bool) -> Total {
        self.total(|c| &c.ranges[usize::from(success)])
    }

    pub(super) fn applies(&self) -> Total {
        self.total(|c| &c.applies)
    }

    pub(super) fn started(&self, rpc: Rpc) -> u64 {
        self.sum(|c| &c.rpcs[rpc.place()].started)
    }

    pub(super) fn handled(&self, rpc: Rpc, code: usize) -> u64 {
        self.sum(|c| &c.rpcs[rpc.place()].handled[code])
    }

    pub(super) fn received(&self, rpc: Rpc) -> u64 {
        self.sum(|c| &c.rpcs[rpc.place()].received)
    }

    pub(super) fn sent(&self, rpc: Rpc) -> u64 {
        self.sum(|c| &c.rpcs[rpc.place()].sent)
    }

    pub(super) fn checks(&self, check: HealthCheck, success: bool) -> u64 {
        self.sum(|c| &c.checks[check.place()][usize::from(success)])
    }

    /// Whether the check succeeded when it last ran; on which front is not known, so the worst of them. `None`: it never ran.
    pub(super) fn last_check(&self, check: HealthCheck) -> Option<bool> {
        let last = self.0.iter().map(|r| get(&r.0.last_checks[check.place()])).filter(|l| *l > 0).min()?;
        Some(last > 1)
    }

    /// Requests by version and kind; only those that there were.
    pub(super) fn clients(&self) -> Vec<(String, CallKind, u64)> {
        let mut found: Vec<(String, CallKind, u64)> = Vec::new();
        for reader in self.0 {
            let names = versions(&reader.0).clone();
            for (place, row) in reader.0.clients.iter().enumerate() {
                let name = if place == CLIENT_VERSIONS_MAX { VERSION_OTHER } else { names.get(place).map_or("", |n| n) };
                for kind in CallKind::ALL {
                    let n = get(&row[kind.place()]);
                    match found.iter_mut().find(|(v, k, _)| v == name && k == kind) {
                        _ if n == 0 => {}
                        Some((_, _, sum)) => *sum += n,
                        None => found.push((name.to_owned(), *kind, n)),
                    }
                }
            }
        }
        found.sort_by(|a, b| (&a.0, a.1.row()).cmp(&(&b.0, b.1.row())));
        found
    }
}
