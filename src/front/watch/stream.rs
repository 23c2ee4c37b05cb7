//! Watch streams: create, cancel and progress requests, and what they are answered.
//!
//! Source: etcd 3.7.1, `server/etcdserver/api/v3rpc/watch.go` and `server/storage/mvcc/{watcher,watchable_store}.go`.

use bytes::Bytes;
use hashbrown::HashMap;

use crate::base::limits::WATCH_STREAM_BYTES_MAX;
use crate::base::{Instant, KeyRange, Revision};
use crate::front::call::{CallId, frame};
use crate::front::calls::{Due, Step};
use crate::front::front::Front;
use crate::front::{errors, validate};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::watch_request::RequestUnion;

use super::hub::{State, Watcher, WatcherId};
use super::release::Gathered;
use super::respond::{Flavor, Head};

/// The id of a watch that could not be created, and of what is said for all watches of a stream.
const NO_WATCH: i64 = -1;

/// A stream of watches.
pub struct Stream {
    /// Its watches, by their ids.
    pub watches: HashMap<i64, usize>,
    /// The next id to try for a watch that names none.
    next_id: i64,
    /// Bytes of responses that have not left for the socket.
    pub buffered: usize,
    /// Those of them that have not been sent.
    pub gathered: Gathered,
    /// Watches that wait for room.
    pub blocked: Vec<WatcherId>,
    /// The revision that must be released before its progress is told.
    pub wanted: Option<Revision>,
    /// When it began; its ticks are reckoned from here.
    opened: Instant,
    /// Between two ticks.
    interval: std::time::Duration,
    /// A tick is set.
    ticking: bool,
}

impl Front {
    pub(in crate::front) fn watch_open(&mut self, id: CallId) {
        self.calls.get(id).expect("it was opened just now").step = Step::Watch;
        // Up to a tenth more, so that streams opened together do not tick together.
        let interval = self.config.progress_interval;
        let tenth = u64::try_from(interval.as_nanos() / 10).unwrap_or(u64::MAX).max(1);
        let jitter = std::time::Duration::from_nanos(self.prng.below(tenth));
        let stream = Stream {
            watches: HashMap::new(),
            next_id: 0,
            buffered: 0,
            gathered: Gathered::default(),
            blocked: Vec::new(),
            wanted: None,
            opened: self.now,
            interval: interval + jitter,
            ticking: false,
        };
        self.hub.streams.insert(id, stream);
    }

    pub(in crate::front) fn watch_message(&mut self, id: CallId, message: Bytes) {
        let request: pb::WatchRequest = match validate::stream_message(message) {
            Ok(request) => request,
            Err(status) => return self.finish(id, status),
        };
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.watch_create(id, create),
            Some(RequestUnion::CancelRequest(cancel)) => self.watch_cancel(id, cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.watch_progress(id),
            // etcd ignores what it does not know.
            None => {}
        }
    }

    fn watch_create(&mut self, call: CallId, create: pb::WatchCreateRequest) {
        let current = self.shared.serving();
        match self.watch_new(call, create, current) {
            Ok(watch_id) => {
                let header = Some(self.header(current));
                self.watch_control(call, pb::WatchResponse { header, watch_id, created: true, ..Default::default() });
                let at = self.hub.streams[&call].watches[&watch_id];
                self.watch_begin(at);
            }
            Err(reason) => {
                let header = Some(self.header(current));
                let cancel_reason = reason.to_owned();
                let refused = pb::WatchResponse {
                    header,
                    watch_id: NO_WATCH,
                    created: true,
                    canceled: true,
                    cancel_reason,
                    ..Default::default()
                };
                self.watch_control(call, refused);
            }
        }
    }

    /// Makes a watch, not begun; its id.
    fn watch_new(&mut self, call: CallId, create: pb::WatchCreateRequest, current: Revision) -> Result<i64, &'static str> {
        let start = Revision(u64::try_from(create.start_revision).map_err(|_| errors::WATCH_COMPACTED)?);
        let key = if create.key.is_empty() { Bytes::from_static(b"\0") } else { create.key };
        let range = KeyRange::of(&key, &create.range_end);
        if range.is_empty() {
            return Err(errors::WATCH_EMPTY_RANGE);
        }
        let stream = self.hub.streams.get_mut(&call).expect("a watch is created on a stream");
        let id = match create.watch_id {
            0 => {
                while stream.watches.contains_key(&stream.next_id) {
                    stream.next_id += 1;
                }
                stream.next_id += 1;
                stream.next_id - 1
            }
            id if stream.watches.contains_key(&id) => return Err(errors::WATCH_DUPLICATE_ID),
            id => id,
        };
        let filters = |kind: pb::watch_create_request::FilterType| create.filters.contains(&(kind as i32));
        let flavor = Flavor {
            prev_kv: create.prev_kv,
            no_put: filters(pb::watch_create_request::FilterType::Noput),
            no_delete: filters(pb::watch_create_request::FilterType::Nodelete),
        };
        self.hub.serials += 1;
        let at = self.hub.watchers.insert(Watcher {
            serial: self.hub.serials,
            call,
            id,
            range,
            start,
            next: if start == Revision::ZERO { current.next() } else { start },
            flavor,
            fragment: create.fragment,
            progress: create.progress_notify,
            quiet: true,
            state: State::CatchingUp,
            live: false,
        });
        stream.watches.insert(id, at);
        if flavor.prev_kv {
            self.shared.previous_values_watch(true);
        }
        if create.progress_notify {
            self.watch_tick_next(call);
        }
        Ok(id)
    }

    /// A watch begins, after its `created` is on its way: from the hub if it starts above what was released, else from the store.
    fn watch_begin(&mut self, at: usize) {
        let next = self.hub.watchers[at].next;
        if next > self.hub.released {
            self.hub.sync(at, next);
        } else {
            self.hub.queue(at);
            self.run_catch_ups();
        }
    }

    fn watch_cancel(&mut self, call: CallId, watch_id: i64) {
        let stream = self.hub.streams.get_mut(&call).expect("a watch is cancelled on a stream");
        let Some(at) = stream.watches.remove(&watch_id) else { return };
        self.watch_remove(at);
        let header = Some(self.current_header());
        self.watch_control(call, pb::WatchResponse { header, watch_id, canceled: true, ..Default::default() });
    }

    /// Takes a watch out of everything but its stream.
    fn watch_remove(&mut self, at: usize) {
        let watcher = self.hub.watchers.remove(at);
        if watcher.state == State::Synced {
            self.hub.index.remove(&watcher.range, at);
        }
        if watcher.flavor.prev_kv {
            self.shared.previous_values_watch(false);
        }
    }

    /// What a watch wanted is compacted. It keeps its id until the client cancels it.
    pub(super) fn watch_compacted(&mut self, at: usize) {
        let compact_revision = self.shared.compact_revision();
        let header = Some(self.header(Revision::ZERO));
        let watcher = &mut self.hub.watchers[at];
        watcher.state = State::Compacted;
        let (call, watch_id) = (watcher.call, watcher.id);
        let gone = pb::WatchResponse { header, watch_id, canceled: true, compact_revision, ..Default::default() };
        self.watch_control(call, gone);
    }

    /// Sends a response without events. It is small, and the client asked for it: it goes out whatever is under way.
    fn watch_control(&mut self, call: CallId, response: pb::WatchResponse) {
        self.gather(call, |framed| framed.extend_from_slice(&frame(&response)));
    }

    // Progress.

    /// A client asks how far its stream is. It is told when everything that was stable when it asked has been released.
    fn watch_progress(&mut self, call: CallId) {
        let current = self.shared.serving();
        if current <= self.hub.released {
            return self.tell_progress(call);
        }
        let stream = self.hub.streams.get_mut(&call).expect("progress is asked on a stream");
        if stream.wanted.is_none() {
            self.hub.wanting.push(call);
        }
        stream.wanted = Some(current);
    }

    /// Tells their progress to the streams that waited for what is released now.
    pub(super) fn progress_wanted(&mut self) {
        if self.hub.wanting.is_empty() {
            return;
        }
        for call in std::mem::take(&mut self.hub.wanting) {
            let Some(stream) = self.hub.streams.get_mut(&call) else { continue };
            match stream.wanted {
                Some(wanted) if wanted > self.hub.released => self.hub.wanting.push(call),
                _ => {
                    stream.wanted = None;
                    self.tell_progress(call);
                }
            }
        }
    }

    /// One response for all watches of a stream, if all are synced and have begun; else nothing.
    fn tell_progress(&mut self, call: CallId) {
        let stream = &self.hub.streams[&call];
        let synced = stream.watches.values().all(|&at| self.hub.tells_progress(at));
        if synced && !stream.watches.is_empty() {
            self.send_progress(call, NO_WATCH);
        }
    }

    fn send_progress(&mut self, call: CallId, watch_id: i64) {
        let header = self.header(self.hub.released);
        self.send_watch(call, &Head { header: &header, watch_id, fragment: false }, &Bytes::new());
    }

    /// Sets a stream's next tick, if none is set.
    fn watch_tick_next(&mut self, call: CallId) {
        let now = self.now;
        let stream = self.hub.streams.get_mut(&call).expect("a stream that ticks is there");
        if stream.ticking {
            return;
        }
        stream.ticking = true;
        let interval = u64::try_from(stream.interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        let since = now.as_nanos().saturating_sub(stream.opened.as_nanos());
        let ticks = since / interval + 1;
        let next = Instant::from_nanos(stream.opened.as_nanos().saturating_add(ticks.saturating_mul(interval)));
        self.calls.at(next, Due::Progress(call));
    }

    /// A stream's tick: each watch that asked for it and had no events since the last one is told how far it is.
    pub(in crate::front) fn watch_progress_due(&mut self, call: CallId) {
        let Some(stream) = self.hub.streams.get_mut(&call) else { return };
        stream.ticking = false;
        let notified: Vec<usize> = stream.watches.values().copied().filter(|&at| self.hub.watchers[at].progress).collect();
        for &at in &notified {
            let tells = self.hub.tells_progress(at);
            let watcher = &mut self.hub.watchers[at];
            let quiet = std::mem::replace(&mut watcher.quiet, true);
            let watch_id = watcher.id;
            if quiet && tells {
                self.send_progress(call, watch_id);
            }
        }
        if !notified.is_empty() {
            self.watch_tick_next(call);
        }
    }

    // Room and end.

    /// Bytes of a stream left for the socket: watches that waited for room read on when half of it is free.
    pub(in crate::front) fn watch_sent(&mut self, call: CallId, bytes: usize) {
        let Some(stream) = self.hub.streams.get_mut(&call) else { return };
        stream.buffered = stream.buffered.saturating_sub(bytes);
        if stream.blocked.is_empty() || stream.buffered > WATCH_STREAM_BYTES_MAX / 2 {
            return;
        }
        for id in std::mem::take(&mut stream.blocked) {
            if self.hub.watcher(id).is_some() {
                self.hub.queue(id.at);
            }
        }
        self.run_catch_ups();
    }

    pub(in crate::front) fn watch_end(&mut self, call: CallId) {
        let Some(stream) = self.hub.streams.remove(&call) else { return };
        for at in stream.watches.into_values() {
            self.watch_remove(at);
        }
    }
}

impl super::Hub {
    /// Whether all events of a watch up to what is released were delivered, and it has begun.
    fn tells_progress(&self, at: usize) -> bool {
        let watcher = &self.watchers[at];
        watcher.state == State::Synced && watcher.next <= self.released.next() && watcher.start <= self.released
    }
}
