//! From the hub to the streams: released events become responses, and the responses of a stream leave together.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::base::Revision;
use crate::base::limits::{
    REQUEST_OVERHEAD_BYTES, WATCH_BATCH_BYTES, WATCH_BATCH_REVISIONS_MAX, WATCH_GATHER_MAX, WATCH_GATHER_PART,
    WATCH_GATHERED_BYTES, WATCH_REST_MICROS, WATCH_REST_RESPONSES_MIN, WATCH_REST_REVISIONS_MAX, WATCH_STREAM_BYTES_MAX,
};
use crate::base::mutant::{self, Mutant};
use crate::front::call::CallId;
use crate::front::calls::Due;
use crate::front::front::{Front, FrontEffect};
use crate::proto::etcdserverpb as pb;
use crate::shard::messages::Event;

use super::hub::{State, Watcher};
use super::respond::{Flavor, Head, event_field_len, events_body, lacks_previous};

/// What one node's events are for watches of one flavor.
enum Body {
    /// Nothing is left after the filters.
    Empty,
    /// A previous value is missing.
    Unknown,
    /// The fields of the response.
    Events(Fields),
}

/// The events of a batch of revisions on their way to the watches.
struct Batch<'a> {
    events: &'a [Event],
    /// An event's own encoding without and with its previous value, where it is all of a body.
    single: Vec<[Option<Bytes>; 2]>,
}

impl Batch<'_> {
    fn body(&mut self, hits: &[u32], flavor: Flavor) -> Body {
        let events = self.events;
        let wanted = hits.iter().map(|&hit| hit as usize).filter(|&at| flavor.wants(&events[at]));
        if flavor.prev_kv && wanted.clone().any(|at| lacks_previous(&events[at])) {
            return Body::Unknown;
        }
        let mut firsts = wanted.clone();
        match (firsts.next(), firsts.next()) {
            (None, _) => Body::Empty,
            (Some(only), None) => {
                let single = &mut self.single[only][usize::from(flavor.prev_kv)];
                let bytes = single.get_or_insert_with(|| events_body(std::iter::once(&events[only]), flavor.prev_kv));
                Body::Events(Fields { bytes: bytes.clone(), count: 1, last: events[only].revision })
            }
            _ => Fields::of(wanted.map(|at| &events[at]), flavor.prev_kv).map_or(Body::Empty, Body::Events),
        }
    }
}

/// Events as fields of a response.
pub struct Fields {
    bytes: Bytes,
    count: u64,
    /// The revision of the last one.
    pub last: Revision,
}

impl Fields {
    /// None when there is no event.
    pub fn of<'e>(events: impl Iterator<Item = &'e Event> + Clone, prev_kv: bool) -> Option<Fields> {
        let mut count = 0;
        let last = events.clone().inspect(|_| count += 1).last()?.revision;
        Some(Fields { bytes: events_body(events, prev_kv), count, last })
    }
}

/// Responses of a stream that have not been sent, framed, one behind the other.
#[derive(Default)]
pub struct Gathered {
    framed: BytesMut,
    count: u32,
    /// What it came to last time: room to begin with.
    room: usize,
}

impl Front {
    /// A reign begins that opened at this revision: what was there before did not come as events, and is read from the store.
    pub(in crate::front) fn hub_begin(&mut self, opened_at: Revision) {
        let from = self.hub.released.next();
        if opened_at < from || mutant::on(Mutant::HubNotBegun) {
            return;
        }
        self.hub.drain(opened_at);
        self.hub.released = opened_at;
        let missed = |watcher: &Watcher| watcher.state == State::Synced && watcher.next <= opened_at;
        let missed: Vec<usize> = self.hub.watchers.iter().filter(|(_, w)| missed(w)).map(|(at, _)| at).collect();
        for at in missed {
            self.hub.unsync(at, from, false);
        }
        self.run_catch_ups();
    }

    /// Releases events up to `stable`, then whatever waited for that.
    pub(in crate::front) fn hub_advance(&mut self, stable: Revision) {
        if stable <= self.hub.released || self.hub.rests {
            return;
        }
        if self.now < self.hub.rests_until {
            self.hub.rests = true;
            return self.calls.at(self.hub.rests_until, Due::Release);
        }
        let mut events = self.hub.drain(stable);
        if !self.hub.index.is_empty() {
            sort(&mut events);
            let mut rest = events.as_slice();
            let mut responses = 0;
            while !rest.is_empty() {
                let (batch, behind) = rest.split_at(batch_end(rest, true));
                responses += self.release(batch);
                rest = behind;
            }
            if responses >= WATCH_REST_RESPONSES_MIN {
                let revisions = (stable.get() - self.hub.released.get()).min(WATCH_REST_REVISIONS_MAX);
                let rest = Duration::from_micros(responses * revisions * WATCH_REST_MICROS);
                self.hub.rests_until = self.now + rest;
                let shared = if revisions > 1 { rest / WATCH_GATHER_PART } else { Duration::ZERO };
                self.hub.gathers = shared.min(WATCH_GATHER_MAX);
            }
        }
        self.hub.released = stable;
        self.progress_wanted();
        self.run_catch_ups();
    }

    /// How long what arrives may wait for more: while the hub rests behind several revisions, no watch is shown it before the rest is over,
    /// and each wake-up costs the time of many events.
    pub fn gathers(&self) -> Duration {
        if self.now < self.hub.rests_until { self.hub.gathers } else { Duration::ZERO }
    }

    /// The hub has rested: it goes on.
    pub(in crate::front) fn hub_rested(&mut self) {
        self.hub.rests = false;
        self.hub_advance(self.stable);
    }

    /// Delivers a batch of revisions: one response per watch, whatever they are. How many responses.
    fn release(&mut self, events: &[Event]) -> u64 {
        let mut touched: Vec<usize> = Vec::new();
        let mut found = std::mem::take(&mut self.hub.found);
        for (at, event) in events.iter().enumerate() {
            self.hub.index.lookup(&event.kv.key, |node| found.push(node));
            for node in found.drain(..) {
                let hits = &mut self.hub.index.node(node).hits;
                if hits.is_empty() {
                    touched.push(node);
                }
                hits.push(at as u32);
            }
        }
        self.hub.found = found;
        if touched.is_empty() {
            return 0;
        }
        let mut batch = Batch { events, single: vec![[None, None]; events.len()] };
        let mut unsynced = Vec::new();
        let mut responses = 0;
        for node in touched {
            responses += self.release_to(node, &mut batch, &mut unsynced);
        }
        for (at, live) in unsynced {
            self.hub.unsync(at, events[0].revision, live);
        }
        responses
    }

    /// Delivers a batch to the watches of one node, and counts. Those that have to read it are told, and whether only for previous values.
    fn release_to(&mut self, node: usize, batch: &mut Batch<'_>, unsynced: &mut Vec<(usize, bool)>) -> u64 {
        let mut responses = 0;
        let events = batch.events;
        // The lists are lent for the walk: nothing is added to them or taken from them until they are back.
        let lent = self.hub.index.node(node);
        let mut hits = std::mem::take(&mut lent.hits);
        let watchers = std::mem::take(&mut lent.watchers);
        let mut bodies = [const { None }; Flavor::COUNT];
        for &at in &watchers {
            let watcher = &self.hub.watchers[at];
            let flavor = watcher.flavor;
            // A watch that begins within the batch has a body of its own.
            let begun = hits.partition_point(|&hit| events[hit as usize].revision < watcher.next);
            let own;
            let body = if begun == 0 {
                &*bodies[flavor.place()].get_or_insert_with(|| batch.body(&hits, flavor))
            } else {
                own = batch.body(&hits[begun..], flavor);
                &own
            };
            let fields = match body {
                Body::Events(fields) => fields,
                Body::Unknown => {
                    unsynced.push((at, true));
                    continue;
                }
                Body::Empty => continue,
            };
            if self.hub.streams[&watcher.call].buffered >= WATCH_STREAM_BYTES_MAX {
                unsynced.push((at, false));
                continue;
            }
            let wanted = || hits[begun..].iter().map(|&h| &events[h as usize]).filter(|e| flavor.wants(e));
            let header = self.header(fields.last);
            self.respond(at, &header, fields, wanted);
            responses += 1;
        }
        hits.clear();
        let lent = self.hub.index.node(node);
        (lent.hits, lent.watchers) = (hits, watchers);
        responses
    }

    /// Sends one response with events to a watch, in fragments if it wants that and the response is large. `events`: those of `fields`.
    pub(super) fn respond<'e, I>(&mut self, at: usize, header: &pb::ResponseHeader, fields: &Fields, events: impl FnOnce() -> I)
    where
        I: Iterator<Item = &'e Event>,
    {
        self.counts.events += fields.count;
        let body = &fields.bytes;
        let watcher = &mut self.hub.watchers[at];
        watcher.quiet = false;
        let (call, fragment, prev_kv) = (watcher.call, watcher.fragment, watcher.flavor.prev_kv);
        let head = Head { header, watch_id: watcher.id, fragment: false };
        let size_max = self.config.request_bytes_max + REQUEST_OVERHEAD_BYTES;
        if !fragment || head.len() + body.len() < size_max {
            return self.send_watch(call, &head, body);
        }
        let ends = fragments(events().map(|e| event_field_len(e, prev_kv)), head.len() + 2, size_max);
        let mut start = 0;
        for (at, &end) in ends.iter().enumerate() {
            self.send_watch(call, &Head { fragment: at + 1 < ends.len(), ..head }, &body.slice(start..end));
            start = end;
        }
    }

    /// Puts a response on its way: a small one to the others of its stream, a large one's body as what it shares with other watches.
    pub(super) fn send_watch(&mut self, call: CallId, head: &Head<'_>, body: &Bytes) {
        if head.len() + body.len() < WATCH_GATHERED_BYTES {
            return self.gather(call, |framed| {
                head.put(framed, body.len());
                framed.extend_from_slice(body);
            });
        }
        self.send_gathered(call);
        let mut framed = BytesMut::new();
        head.put(&mut framed, body.len());
        let stream = self.hub.streams.get_mut(&call).expect("a response goes to a stream that is there");
        stream.buffered += framed.len() + body.len();
        self.effects.push(FrontEffect::SendShared { call, head: framed.freeze(), body: body.clone() });
    }

    /// Adds one response to what a stream sends next.
    pub(super) fn gather(&mut self, call: CallId, put: impl FnOnce(&mut BytesMut)) {
        let stream = self.hub.streams.get_mut(&call).expect("a response goes to a stream that is there");
        let Gathered { framed, count, room } = &mut stream.gathered;
        if framed.is_empty() {
            self.hub.gathering.push(call);
            framed.reserve(*room);
        }
        let before = framed.len();
        put(framed);
        *count += 1;
        stream.buffered += framed.len() - before;
    }

    /// Sends what a stream has gathered.
    pub(in crate::front) fn send_gathered(&mut self, call: CallId) {
        let Some(stream) = self.hub.streams.get_mut(&call) else { return };
        let Gathered { framed, count, .. } = std::mem::take(&mut stream.gathered);
        if count > 0 {
            stream.gathered.room = framed.len();
            self.effects.push(FrontEffect::SendMany { call, messages: framed.freeze(), count });
        }
    }

    /// Sends what all streams have gathered.
    pub(in crate::front) fn send_all_gathered(&mut self) {
        let mut gathering = std::mem::take(&mut self.hub.gathering);
        for call in gathering.drain(..) {
            self.send_gathered(call);
        }
        self.hub.gathering = gathering;
    }
}

/// Puts events of several groups into the order in which they are told, which is etcd's.
pub fn sort(events: &mut [Event]) {
    events.sort_by(|a, b| (a.revision, a.operation, &a.kv.key).cmp(&(b.revision, b.operation, &b.kv.key)));
}

/// How many of these events make one response: whole revisions, up to a number and a size.
pub fn batch_end(events: &[Event], prev_kv: bool) -> usize {
    let (mut end, mut revisions, mut bytes) = (0, 0, 0);
    for revision in events.chunk_by(|a, b| a.revision == b.revision) {
        if revisions == WATCH_BATCH_REVISIONS_MAX || bytes >= WATCH_BATCH_BYTES {
            break;
        }
        revisions += 1;
        bytes += revision.iter().map(|e| event_field_len(e, prev_kv)).sum::<usize>();
        end += revision.len();
    }
    end
}

/// Where the fragments of a body end: as many events as stay below `size_max` with the head, one at least (etcd's `sendFragments`).
fn fragments(lens: impl Iterator<Item = usize>, head_len: usize, size_max: usize) -> Vec<usize> {
    let mut ends = Vec::new();
    let (mut start, mut end) = (0, 0);
    for len in lens {
        if end > start && head_len + (end + len - start) >= size_max {
            ends.push(end);
            start = end;
        }
        end += len;
    }
    ends.push(end);
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_hold_what_stays_below_the_limit() {
        assert_eq!(fragments([10, 10, 10].into_iter(), 5, 26), [20, 30]);
        assert_eq!(fragments([10, 10, 10].into_iter(), 5, 25), [10, 20, 30]);
        assert_eq!(fragments([100, 1, 1].into_iter(), 5, 20), [100, 102]);
        assert_eq!(fragments([100].into_iter(), 5, 20), [100]);
    }
}
