//! The hub: events of all groups in one order, released up to what is stable, to the synced watches (rule 13).

use std::collections::VecDeque;

use bytes::Bytes;
use hashbrown::HashMap;
use slab::Slab;

use crate::base::limits::{REQUEST_OVERHEAD_BYTES, WATCH_STREAM_BYTES_MAX};
use crate::base::mutant::{self, Mutant};
use crate::base::{GroupId, KeyRange, Revision, Term};
use crate::front::call::CallId;
use crate::front::front::{Front, FrontEffect};
use crate::proto::etcdserverpb as pb;
use crate::shard::messages::Event;

use super::catchup::CatchUps;
use super::index::Index;
use super::respond::{Flavor, Head, Heads, event_field_len, events_body, lacks_previous};
use super::stream::Stream;

/// Reigns that ended and whose late events are known by. Queues are drained at every wake-up, so one would do.
const REIGNS_REMEMBERED: usize = 8;

/// A watch, told apart from an earlier one in the same place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WatcherId {
    /// Where it is.
    pub at: usize,
    /// Which one it is.
    pub serial: u64,
}

/// How a watch gets its events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// From the hub.
    Synced,
    /// From the store, soon or now.
    CatchingUp,
    /// From the store, once its stream has room.
    Blocked,
    /// Not any more: what it wanted is compacted. It keeps its id until it is cancelled.
    Compacted,
}

/// A watch.
pub struct Watcher {
    /// Tells it from others in the same place.
    pub serial: u64,
    /// Its stream.
    pub call: CallId,
    /// Its id in the stream.
    pub id: i64,
    /// What it watches.
    pub range: KeyRange,
    /// What the client asked for; 0: from now on.
    pub start: Revision,
    /// The first revision that it has not had, for one that is not synced; a lower bound for one that is.
    pub next: Revision,
    /// What it wants of an event.
    pub flavor: Flavor,
    /// Large responses are cut into fragments.
    pub fragment: bool,
    /// It wants progress notifications.
    pub progress: bool,
    /// It had no events since the last tick.
    pub quiet: bool,
    /// How it gets its events.
    pub state: State,
    /// Where it is not synced: only because the hub lacked a previous value. What it reads comes as it would have come from the hub.
    pub live: bool,
}

/// What a group sent and the hub has not released.
struct Pending {
    term: Option<Term>,
    event: Event,
}

/// The hub of one front.
pub struct Hub {
    pub(super) released: Revision,
    queues: Vec<VecDeque<Pending>>,
    /// The last reigns that ended, each with what was stable then: other cores' queues may still bring events of them.
    over: VecDeque<(Term, Revision)>,
    pub(super) streams: HashMap<CallId, Stream>,
    pub(super) watchers: Slab<Watcher>,
    pub(super) serials: u64,
    pub(super) index: Index,
    pub(super) heads: Heads,
    /// The nodes of one event's key, between two uses of the list.
    found: Vec<usize>,
    pub(super) catch_ups: CatchUps,
    /// Streams that wait for a revision to tell their progress.
    pub(super) wanting: Vec<CallId>,
}

impl Hub {
    /// A hub that has released everything up to `released`.
    pub fn new(shards: u16, released: Revision) -> Hub {
        Hub {
            released,
            queues: (0..=shards).map(|_| VecDeque::new()).collect(),
            over: VecDeque::new(),
            streams: HashMap::new(),
            watchers: Slab::new(),
            serials: 0,
            index: Index::new(),
            heads: Heads::default(),
            found: Vec::new(),
            catch_ups: CatchUps::default(),
            wanting: Vec::new(),
        }
    }

    /// A group's events, in its order.
    pub fn events(&mut self, term: Option<Term>, group: GroupId, events: Vec<Event>) {
        let last = self.last_of(term);
        for event in events {
            if event.revision > last {
                continue;
            }
            assert!(event.revision > self.released, "an event of a revision that was released (rule 13)");
            let queue = &mut self.queues[group.slot()];
            assert!(queue.back().is_none_or(|b| b.event.revision <= event.revision), "a group's events come in its order");
            queue.push_back(Pending { term, event });
        }
    }

    /// A reign ended: what it queued above its last stable revision was never shown, and comes again if it is applied.
    pub fn ended(&mut self, term: Term, stable: Revision) {
        if self.over.len() == REIGNS_REMEMBERED {
            self.over.pop_front();
        }
        self.over.push_back((term, stable));
        for queue in &mut self.queues {
            queue.retain(|pending| pending.term != Some(term) || pending.event.revision <= stable);
        }
    }

    /// The last revision whose events count, of those made in `term`.
    fn last_of(&self, term: Option<Term>) -> Revision {
        let ended = self.over.iter().find(|(ended, _)| Some(*ended) == term);
        ended.map_or(Revision::MAX, |(_, stable)| *stable)
    }

    /// The lowest revision that the hub can go on with.
    pub fn waiting_for(&self) -> Option<Revision> {
        let queued = self.queues.iter().filter_map(|q| q.front().map(|p| p.event.revision)).min();
        let wanted = self.wanting.iter().filter_map(|call| self.streams.get(call)?.wanted).min();
        queued.into_iter().chain(wanted).min()
    }

    /// Takes what is up to `to` out of the queues, in any order of groups.
    fn drain(&mut self, to: Revision) -> Vec<Event> {
        let mut events = Vec::new();
        for queue in &mut self.queues {
            while let Some(Pending { event, .. }) = queue.pop_front_if(|pending| pending.event.revision <= to) {
                events.push(event);
            }
        }
        events
    }

    /// Streams, watches, and watches that are not synced.
    pub fn load(&self) -> (usize, usize, usize) {
        (self.streams.len(), self.watchers.len(), self.watchers.len() - self.index.len())
    }

    /// Events, or stretches of them, that are queued until they are stable.
    pub fn pending(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    /// A watch, if it is still there.
    pub(super) fn watcher(&mut self, id: WatcherId) -> Option<&mut Watcher> {
        self.watchers.get_mut(id.at).filter(|w| w.serial == id.serial)
    }

    /// A watch gets its events from the hub from now on; everything before `next` was delivered.
    pub(super) fn sync(&mut self, at: usize, next: Revision) {
        let watcher = &mut self.watchers[at];
        watcher.state = State::Synced;
        watcher.next = next;
        watcher.live = false;
        self.index.insert(&watcher.range, at);
    }

    /// A synced watch gets its events from the store from now on, from `next`. `live`: only for the sake of previous values.
    pub(super) fn unsync(&mut self, at: usize, next: Revision, live: bool) {
        let watcher = &mut self.watchers[at];
        assert_eq!(watcher.state, State::Synced, "only a synced watch turns unsynced");
        watcher.next = watcher.next.max(next);
        watcher.live = live;
        self.index.remove(&watcher.range, at);
        self.queue(at);
    }

    /// Puts an unsynced watch where it waits: for its stream, or for its turn to read.
    pub(super) fn queue(&mut self, at: usize) {
        let watcher = &mut self.watchers[at];
        let stream = self.streams.get_mut(&watcher.call).expect("a watch has a stream");
        let id = WatcherId { at, serial: watcher.serial };
        if stream.buffered >= WATCH_STREAM_BYTES_MAX {
            watcher.state = State::Blocked;
            stream.blocked.push(id);
        } else {
            watcher.state = State::CatchingUp;
            self.catch_ups.queue(id, watcher);
        }
    }
}

/// The bodies of one node's events, per flavor: not made yet, nothing left after the filters, a previous value missing, or bytes.
#[derive(Clone)]
enum Body {
    Unmade,
    Empty,
    Unknown,
    Events(Bytes),
}

/// The events of one revision on their way to the watches.
struct Revised<'a> {
    events: &'a [Event],
    /// An event's own encoding without and with its previous value, where it is all of a body.
    single: Vec<[Option<Bytes>; 2]>,
}

impl Revised<'_> {
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
                let body = single.get_or_insert_with(|| events_body(std::iter::once(&events[only]), flavor.prev_kv));
                Body::Events(body.clone())
            }
            _ => Body::Events(events_body(wanted.map(|at| &events[at]), flavor.prev_kv)),
        }
    }
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
        if stable <= self.hub.released {
            return;
        }
        let mut events = self.hub.drain(stable);
        if !self.hub.index.is_empty() {
            events.sort_by(|a, b| (a.revision, a.operation, &a.kv.key).cmp(&(b.revision, b.operation, &b.kv.key)));
            for revision in events.chunk_by(|a, b| a.revision == b.revision) {
                self.release(revision);
            }
        }
        self.hub.released = stable;
        self.progress_wanted();
        self.run_catch_ups();
    }

    /// Delivers the events of one revision.
    fn release(&mut self, events: &[Event]) {
        let mut touched: Vec<usize> = Vec::new();
        for (at, event) in events.iter().enumerate() {
            let mut found = std::mem::take(&mut self.hub.found);
            self.hub.index.lookup(&event.kv.key, |node| found.push(node));
            for node in found.drain(..) {
                let hits = &mut self.hub.index.node(node).hits;
                if hits.is_empty() {
                    touched.push(node);
                }
                hits.push(at as u32);
            }
            self.hub.found = found;
        }
        if touched.is_empty() {
            return;
        }
        let mut revised = Revised { events, single: vec![[None, None]; events.len()] };
        let mut unsynced = Vec::new();
        for node in touched {
            self.release_to(node, &mut revised, &mut unsynced);
        }
        for (at, live) in unsynced {
            self.hub.unsync(at, events[0].revision, live);
        }
    }

    /// Delivers one revision to the watches of one node. Those that have to read it are told, and whether only for previous values.
    fn release_to(&mut self, node: usize, revised: &mut Revised<'_>, unsynced: &mut Vec<(usize, bool)>) {
        let revision = revised.events[0].revision;
        let header = self.header(revision);
        // The list is lent for the walk: nothing is added to it or taken from it until it is back.
        let lent = self.hub.index.node(node);
        let hits = std::mem::take(&mut lent.hits);
        let watchers = std::mem::take(&mut lent.watchers);
        let mut bodies = [const { Body::Unmade }; Flavor::COUNT];
        for &at in &watchers {
            let watcher = &self.hub.watchers[at];
            if watcher.next > revision {
                continue;
            }
            let flavor = watcher.flavor;
            let body = &mut bodies[flavor.place()];
            if matches!(body, Body::Unmade) {
                *body = revised.body(&hits, flavor);
            }
            let body = match body {
                Body::Events(body) => body.clone(),
                Body::Unknown => {
                    unsynced.push((at, true));
                    continue;
                }
                Body::Empty | Body::Unmade => continue,
            };
            if self.hub.streams[&watcher.call].buffered >= WATCH_STREAM_BYTES_MAX {
                unsynced.push((at, false));
                continue;
            }
            let wanted = || hits.iter().map(|&h| &revised.events[h as usize]).filter(|e| flavor.wants(e));
            self.respond(at, &header, body, wanted);
        }
        self.hub.index.node(node).watchers = watchers;
    }

    /// Sends one response with events to a watch, in fragments if it wants that and the response is large.
    pub(super) fn respond<'e, I>(&mut self, at: usize, header: &pb::ResponseHeader, body: Bytes, events: impl Fn() -> I)
    where
        I: Iterator<Item = &'e Event>,
    {
        self.counts.events += events().count() as u64;
        let watcher = &mut self.hub.watchers[at];
        watcher.quiet = false;
        let (call, fragment, prev_kv) = (watcher.call, watcher.fragment, watcher.flavor.prev_kv);
        let head = Head { header, watch_id: watcher.id, fragment: false };
        let size_max = self.config.request_bytes_max + REQUEST_OVERHEAD_BYTES;
        if !fragment || head.len() + body.len() < size_max {
            let head = self.hub.heads.cut(&head, body.len());
            return self.send_watch(call, head, body);
        }
        let ends = fragments(events().map(|e| event_field_len(e, prev_kv)), head.len() + 2, size_max);
        let mut start = 0;
        for (at, &end) in ends.iter().enumerate() {
            let head = Head { fragment: at + 1 < ends.len(), ..head };
            let part = body.slice(start..end);
            let head = self.hub.heads.cut(&head, part.len());
            self.send_watch(call, head, part);
            start = end;
        }
    }

    /// Puts a response on its way.
    pub(super) fn send_watch(&mut self, call: CallId, head: Bytes, body: Bytes) {
        let stream = self.hub.streams.get_mut(&call).expect("a response goes to a stream that is there");
        stream.buffered += head.len() + body.len();
        if body.is_empty() {
            self.effects.push(FrontEffect::Send { call, message: head });
        } else {
            self.effects.push(FrontEffect::SendShared { call, head, body });
        }
    }
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
