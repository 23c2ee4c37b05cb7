//! What is counted and measured on one executor: the pump sees every call, event and disk effect pass by.

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime};

use hashbrown::HashMap;

use crate::base::limits::METRICS_INTERVAL;
use crate::base::{CoreId, FrontId, GroupId, Instant, Revision};
use crate::front::{CallId, CallOptions, Code, Front, Kind, Method, Status};
use crate::metrics::{CallKind, Counter, Gauge, Histogram, Operation, Recorder, Rpc};
use crate::rpc::place;
use crate::shard::{Answer, Core, CoreMessage, DiskEffect, Effect, ToFront};

/// The meters of one executor. Everything here runs on its thread; /metrics adds up what all executors' recorders hold.
pub struct Metering {
    recorder: Recorder,
    /// By the number of the method.
    rpcs: Vec<Option<Rpc>>,
    /// The calls under way, by their place in the port's table.
    calls: RefCell<Vec<Option<Open>>>,
    /// When the checkpoints under way began.
    checkpoints: RefCell<HashMap<GroupId, Instant>>,
    figures: Cell<Figures>,
}

/// What is looked at from time to time.
#[derive(Clone, Copy, Default)]
struct Figures {
    at: Instant,
    compactions: u64,
    /// Since when page files are being defragmented.
    defragmenting: Option<Instant>,
    leads: bool,
    stable: Revision,
}

#[derive(Clone, Copy)]
struct Open {
    call: CallId,
    method: Method,
    since: Instant,
}

/// A piece of disk work, as far as it is measured.
pub(super) enum Measured {
    /// A write of the log, of so many bytes.
    Log(usize),
    /// A step of a checkpoint that is not its last.
    Checkpoint(GroupId),
    /// The last one.
    CheckpointEnd(GroupId),
    /// Nothing.
    No,
}

impl Measured {
    pub(super) fn of(effect: &DiskEffect) -> Measured {
        match effect {
            DiskEffect::WalWrite { bytes, .. } => Measured::Log(*bytes),
            DiskEffect::PagesWrite { group, .. } | DiskEffect::PagesSync { group } => Measured::Checkpoint(*group),
            DiskEffect::MetaWrite { group, .. } => Measured::CheckpointEnd(*group),
            DiskEffect::WalPrepare { .. }
            | DiskEffect::WalRemove { .. }
            | DiskEffect::PageRead { .. }
            | DiskEffect::PagesLength { .. } => Measured::No,
        }
    }
}

impl Metering {
    /// Meters that write to `recorder`.
    pub fn new(recorder: Recorder) -> Metering {
        Metering {
            recorder,
            rpcs: Method::ALL.iter().map(|m| Rpc::find(m.service(), m.name())).collect(),
            calls: RefCell::default(),
            checkpoints: RefCell::default(),
            figures: Cell::default(),
        }
    }

    /// For what is counted outside of the pump, on the same executor.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Whether the front that lives here had a reign to serve in when it was last looked at.
    pub fn leads(&self) -> bool {
        self.figures.get().leads
    }

    /// The revision that the front that lives here showed when it was last looked at.
    pub fn stable(&self) -> Revision {
        self.figures.get().stable
    }

    // Calls.

    pub(super) fn opened(&self, now: Instant, call: CallId, method: Method, options: &CallOptions, message: Option<usize>) {
        let mut calls = self.calls.borrow_mut();
        let at = place(call);
        if calls.len() <= at {
            calls.resize(at + 1, None);
        }
        calls[at] = Some(Open { call, method, since: now });
        drop(calls);
        let Some(rpc) = self.rpcs[method as usize] else { return };
        self.recorder.call_started(rpc);
        if let Ok(version) = std::str::from_utf8(options.api_version.as_deref().unwrap_or_default()) {
            let kind = if method.kind() == Kind::Unary { CallKind::Unary } else { CallKind::Stream };
            self.recorder.client_request(kind, self.recorder.client_version(version));
        }
        if let Some(bytes) = message {
            self.count_received(rpc, bytes);
        }
    }

    pub(super) fn received(&self, call: CallId, bytes: usize) {
        if let Some(rpc) = self.call(call).and_then(|open| self.rpcs[open.method as usize]) {
            self.count_received(rpc, bytes);
        }
    }

    fn count_received(&self, rpc: Rpc, bytes: usize) {
        self.recorder.messages_received(rpc, 1);
        self.recorder.add(Counter::ClientBytesReceived, bytes as u64);
    }

    /// `bytes`: those of the messages, their prefixes left out.
    pub(super) fn sent(&self, call: CallId, messages: u32, bytes: usize) {
        if let Some(rpc) = self.call(call).and_then(|open| self.rpcs[open.method as usize]) {
            self.recorder.messages_sent(rpc, u64::from(messages));
            self.recorder.add(Counter::ClientBytesSent, bytes as u64);
        }
    }

    fn call(&self, call: CallId) -> Option<Open> {
        self.calls.borrow().get(place(call)).copied().flatten().filter(|open| open.call == call)
    }

    /// The client is gone.
    pub(super) fn cancelled(&self, call: CallId) {
        self.closed(call, Code::Canceled);
    }

    fn closed(&self, call: CallId, code: Code) -> Option<Open> {
        let open = self.call(call)?;
        self.calls.borrow_mut()[place(call)] = None;
        if let Some(rpc) = self.rpcs[open.method as usize] {
            self.recorder.call_handled(rpc, code.number());
        }
        Some(open)
    }

    pub(super) fn finished(&self, now: Instant, call: CallId, status: &Status) {
        let Some(Open { method, since, .. }) = self.closed(call, status.code) else { return };
        let took = now.since(since);
        if let Some(operation) = operation_of(method) {
            self.recorder.answered(operation, status.is_ok(), took);
            let is_write = operation != Operation::Range;
            if is_write && matches!(status.code, Code::Unavailable | Code::DeadlineExceeded) {
                self.recorder.add(Counter::ProposalsFailed, 1);
            }
        }
        match method {
            Method::Hash => self.recorder.observe(Histogram::Hash, took),
            Method::HashKV => self.recorder.observe(Histogram::HashRevision, took),
            _ => {}
        }
    }

    // What the core that lives here asks for.

    pub(super) fn effect(&self, effect: &Effect) {
        match effect {
            // Every front gets the events: they are counted once.
            Effect::ToFront(FrontId(0), ToFront::Events { events, .. }) => {
                let puts = events.iter().filter(|event| !event.tombstone);
                let (number, bytes) = puts.fold((0, 0), |(n, b), put| (n + 1, b + put.kv.key.len() + put.kv.value.len()));
                self.recorder.add(Counter::Puts, number);
                self.recorder.add(Counter::PutBytes, bytes as u64);
            }
            Effect::ToFront(_, ToFront::Answer { answer: Answer::Granted { ttl, .. }, .. }) => {
                self.recorder.add(Counter::LeasesGranted, 1);
                self.recorder.observe_ttl(ttl.cast_unsigned());
            }
            Effect::ToFront(_, ToFront::Answer { answer: Answer::Renewed { ttl, .. }, .. }) if *ttl > 0 => {
                self.recorder.add(Counter::LeasesRenewed, 1);
            }
            // Every core hears of them: they are counted once.
            Effect::ToCore(CoreId(0), CoreMessage::LeasesGone(leases)) => {
                self.recorder.add(Counter::LeasesRevoked, leases.len() as u64);
            }
            _ => {}
        }
    }

    // Disk work.

    pub(super) fn disk_work_begins(&self, now: Instant, work: &Measured) {
        if let Measured::Checkpoint(group) | Measured::CheckpointEnd(group) = work {
            self.checkpoints.borrow_mut().entry(*group).or_insert(now);
        }
    }

    pub(super) fn disk_work_ended(&self, took: Duration, now: Instant, work: &Measured) {
        match work {
            Measured::Log(bytes) => {
                self.recorder.observe(Histogram::WalFsync, took);
                self.recorder.add(Counter::WalBytes, *bytes as u64);
            }
            Measured::CheckpointEnd(group) => {
                let began = self.checkpoints.borrow_mut().remove(group).expect("it began before it ended");
                self.recorder.observe(Histogram::BackendCommit, now.since(began));
            }
            Measured::Checkpoint(_) | Measured::No => {}
        }
    }

    /// The core that lives here has applied a batch.
    pub(super) fn applied(&self, took: Duration) {
        self.recorder.applied(took);
    }

    // What is looked at from time to time.

    /// Whether what is under way should be looked at again though the executor does not park.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now.since(self.figures.get().at) >= METRICS_INTERVAL
    }

    pub(super) fn look(&self, now: Instant, core: Option<&mut Core>, front: Option<&Front>) {
        let mut figures = Figures { at: now, ..self.figures.get() };
        if let Some(core) = core {
            self.look_at_core(core, &mut figures);
        }
        if let Some(front) = front {
            self.look_at_front(front);
            figures.leads = front.leads();
            figures.stable = front.stable();
        }
        self.figures.set(figures);
    }

    fn look_at_core(&self, core: &mut Core, seen: &mut Figures) {
        let of = core.figures();
        for (gauge, value) in [
            (Gauge::Keys, of.keys),
            (Gauge::StoreBytes, of.file_bytes),
            (Gauge::StoreBytesInUse, of.used_bytes),
            (Gauge::ReadViews, of.read_views),
            (Gauge::ProposalsCommitted, of.committed),
            (Gauge::ProposalsApplied, of.applied),
            (Gauge::ProposalsPending, of.pending),
            (Gauge::Defragmenting, of.defragmenting.min(1)),
        ] {
            self.recorder.set(gauge, value);
        }
        self.recorder.set_total(Counter::CompactedKeys, of.compacted_versions);
        self.recorder.set_total(Counter::LeasesExpired, of.leases_expired);
        self.recorder.set_total(Counter::LeaderChanges, of.leader_changes);
        if of.compactions > seen.compactions {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.recorder.set(Gauge::LastCompaction, now.as_secs());
        }
        seen.compactions = of.compactions;
        match of.defragmenting {
            0 => {
                if let Some(since) = seen.defragmenting.take() {
                    self.recorder.observe(Histogram::Defragmentation, seen.at.since(since));
                }
            }
            _ => {
                seen.defragmenting.get_or_insert(seen.at);
            }
        }
    }

    fn look_at_front(&self, front: &Front) {
        let (load, counts) = (front.load(), front.counts());
        for (gauge, value) in [
            (Gauge::WatchStreams, load.watch_streams),
            (Gauge::Watchers, load.watchers),
            (Gauge::SlowWatchers, load.slow_watchers),
            (Gauge::PendingEvents, load.pending_events),
        ] {
            self.recorder.set(gauge, value as u64);
        }
        self.recorder.set_total(Counter::Ranges, counts.ranges);
        self.recorder.set_total(Counter::Deletes, counts.deletes);
        self.recorder.set_total(Counter::Txns, counts.txns);
        self.recorder.set_total(Counter::Events, counts.events);
    }
}

/// As etcd sorts the durations of requests.
fn operation_of(method: Method) -> Option<Operation> {
    Some(match method {
        Method::Range => Operation::Range,
        Method::Put => Operation::Put,
        Method::DeleteRange => Operation::DeleteRange,
        Method::Txn => Operation::Txn,
        Method::Compact => Operation::Compaction,
        Method::LeaseGrant => Operation::LeaseGrant,
        Method::LeaseRevoke => Operation::LeaseRevoke,
        Method::Alarm => Operation::Alarm,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{MemberFigures, ProcessFigures, render};

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn value(metering: &Metering, series: &str) -> Option<String> {
        let text = render(&[metering.recorder().reader()], &MemberFigures::default(), &ProcessFigures::default());
        text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned))
    }

    #[test]
    fn a_call_is_counted_and_measured_once() {
        let metering = Metering::new(Recorder::new());
        let (first, second) = (CallId(1 << 22 | 5), CallId(2 << 22 | 5));
        metering.opened(at(0), first, Method::Put, &CallOptions::default(), Some(10));
        metering.sent(first, 1, 7);
        metering.finished(at(3), first, &Status::OK);
        metering.finished(at(9), first, &Status::OK);
        metering.opened(at(10), second, Method::Put, &CallOptions::default(), Some(1));
        metering.sent(first, 2, 100);
        metering.cancelled(first);
        metering.cancelled(second);
        let put = r#"grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}"#;
        for (series, expected) in [
            (format!("grpc_server_started_total{{{put}"), "2"),
            (format!(r#"grpc_server_handled_total{{grpc_code="OK",{put}"#), "1"),
            (format!(r#"grpc_server_handled_total{{grpc_code="Canceled",{put}"#), "1"),
            ("etcd_network_client_grpc_received_bytes_total".into(), "11"),
            ("etcd_network_client_grpc_sent_bytes_total".into(), "7"),
            (r#"etcd_server_request_duration_seconds_sum{success="true",type="Put"}"#.into(), "0.003"),
            (r#"etcd_server_client_requests_total{client_api_version="unknown",type="unary"}"#.into(), "2"),
            ("etcd_server_proposals_failed_total".into(), "0"),
        ] {
            assert_eq!(value(&metering, &series).as_deref(), Some(expected), "{series}");
        }
    }

    #[test]
    fn a_checkpoint_is_measured_from_its_first_write_to_its_meta_page() {
        let metering = Metering::new(Recorder::new());
        let (step, end) = (Measured::Checkpoint(GroupId(1)), Measured::CheckpointEnd(GroupId(1)));
        for (begin, work, took) in [(0, &step, 10), (10, &step, 5), (20, &end, 4)] {
            metering.disk_work_begins(at(begin), work);
            metering.disk_work_ended(Duration::from_millis(took), at(begin + took), work);
        }
        assert_eq!(value(&metering, "etcd_disk_backend_commit_duration_seconds_sum").as_deref(), Some("0.024"));
        assert_eq!(value(&metering, "etcd_disk_backend_commit_duration_seconds_count").as_deref(), Some("1"));
    }
}
