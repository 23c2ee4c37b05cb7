//! The hub: events of all groups in one order, released up to what is stable, to the synced watches (rule 13).

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;
use slab::Slab;

use crate::base::limits::WATCH_STREAM_BYTES_MAX;
use crate::base::{GroupId, Instant, KeyRange, Revision, Term};
use crate::front::call::CallId;
use crate::shard::messages::Event;

use super::catchup::CatchUps;
use super::index::Index;
use super::respond::Flavor;
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
    /// The nodes of one event's key, between two uses of the list.
    pub(super) found: Vec<usize>,
    pub(super) catch_ups: CatchUps,
    /// After much was sent, nothing is released before this; and whether something waits for that.
    pub(super) rests_until: Instant,
    pub(super) rests: bool,
    /// How long what arrives may wait for more until then.
    pub(super) gathers: Duration,
    /// Streams with gathered responses.
    pub(super) gathering: Vec<CallId>,
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
            found: Vec::new(),
            catch_ups: CatchUps::default(),
            rests_until: Instant::ZERO,
            rests: false,
            gathers: Duration::ZERO,
            gathering: Vec::new(),
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
        if self.rests {
            // A timer is set.
            return None;
        }
        let queued = self.queues.iter().filter_map(|q| q.front().map(|p| p.event.revision)).min();
        let wanted = self.wanting.iter().filter_map(|call| self.streams.get(call)?.wanted).min();
        queued.into_iter().chain(wanted).min()
    }

    /// Takes what is up to `to` out of the queues, in any order of groups.
    pub(super) fn drain(&mut self, to: Revision) -> Vec<Event> {
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
