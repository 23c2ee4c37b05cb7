//! Catching up: unsynced watches read what they lack from the store, group by group, and get it in one order.
//!
//! Watches that want the same (range, start, previous values, headers) read together. A catch-up goes in rounds: each reads up to what was
//! released when it began; when nothing was released meanwhile, its watches are synced.

use std::collections::VecDeque;

use bytes::Bytes;
use hashbrown::HashMap;

use crate::base::limits::{CATCH_UP_RETRY_MICROS, CATCH_UPS_MAX, WATCH_STREAM_BYTES_MAX};
use crate::base::{GroupId, KeyRange, RangeEnd, Revision};
use crate::front::calls::Due;
use crate::front::front::Front;
use crate::front::tickets::{Ask, Owner};
use crate::shard::messages::{Answer, Event, EventsRead, Read, Resume};

use super::hub::{Watcher, WatcherId};
use super::release::{Fields, batch_end, sort};
use super::respond::Flavor;

/// What watches that read together have in common.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Line {
    from: Bytes,
    /// As in etcd's requests.
    end: Bytes,
    prev_kv: bool,
    live: bool,
    next: Revision,
}

impl Line {
    fn of(watcher: &Watcher) -> Line {
        let end = match &watcher.range.end {
            RangeEnd::Single => Bytes::new(),
            RangeEnd::Open => Bytes::from_static(b"\0"),
            RangeEnd::Before(end) => end.clone(),
        };
        let (prev_kv, live, next) = (watcher.flavor.prev_kv, watcher.live, watcher.next);
        Line { from: watcher.range.from.clone(), end, prev_kv, live, next }
    }
}

/// What one group has given of a round.
struct Part {
    group: GroupId,
    events: VecDeque<Event>,
    /// Everything up to here was given.
    through: Revision,
    /// What was asked last: from this revision on, and where in it to go on.
    from: Revision,
    resume: Option<Resume>,
    asked: bool,
}

/// A catch-up under way.
struct CatchUp {
    range: KeyRange,
    prev_kv: bool,
    /// A response says how far its events go, as from the hub; else how far the store is.
    live: bool,
    /// The first revision not delivered.
    next: Revision,
    /// The last of this round.
    to: Revision,
    /// What the round keeps from being removed.
    held: Revision,
    members: Vec<WatcherId>,
    parts: Vec<Part>,
}

/// All of them, and those that wait for their turn.
#[derive(Default)]
pub struct CatchUps {
    lines: VecDeque<Line>,
    waiting: HashMap<Line, Vec<WatcherId>>,
    tasks: HashMap<u64, CatchUp>,
    next: u64,
}

impl CatchUps {
    /// An unsynced watch waits for its turn.
    pub fn queue(&mut self, id: WatcherId, watcher: &Watcher) {
        let line = Line::of(watcher);
        let lines = &mut self.lines;
        self.waiting
            .entry(line.clone())
            .or_insert_with(|| {
                lines.push_back(line);
                Vec::new()
            })
            .push(id);
    }

    fn pop(&mut self) -> Option<(Line, Vec<WatcherId>)> {
        let line = self.lines.pop_front()?;
        let members = self.waiting.remove(&line).expect("a line has watches");
        Some((line, members))
    }
}

impl Front {
    /// Begins catch-ups while there are watches that wait and places free.
    pub(super) fn run_catch_ups(&mut self) {
        while self.hub.catch_ups.tasks.len() < CATCH_UPS_MAX {
            let Some((line, members)) = self.hub.catch_ups.pop() else { return };
            let members: Vec<WatcherId> = members.into_iter().filter(|&id| self.hub.watcher(id).is_some()).collect();
            if members.is_empty() {
                continue;
            }
            let range = KeyRange::of(&line.from, &line.end);
            let groups = self.config.layout.of_range(&range);
            let part = |group| Part {
                group,
                events: VecDeque::new(),
                through: Revision::ZERO,
                from: Revision::ZERO,
                resume: None,
                asked: false,
            };
            let task = CatchUp {
                range,
                prev_kv: line.prev_kv,
                live: line.live,
                next: line.next,
                to: Revision::ZERO,
                held: Revision::ZERO,
                members,
                parts: groups.into_iter().map(part).collect(),
            };
            let number = self.hub.catch_ups.next;
            self.hub.catch_ups.next += 1;
            self.round(number, task);
        }
    }

    /// A round begins, or there is nothing left to read, or what is left is compacted.
    fn round(&mut self, number: u64, mut task: CatchUp) {
        if task.next > self.hub.released {
            for id in task.members {
                if self.hub.watcher(id).is_some() {
                    self.hub.sync(id.at, task.next);
                }
            }
            return;
        }
        if !self.shared.hold(task.next) {
            for id in task.members {
                if self.hub.watcher(id).is_some() {
                    self.watch_compacted(id.at);
                }
            }
            return;
        }
        task.held = task.next;
        task.to = self.hub.released;
        for part in &mut task.parts {
            part.resume = None;
            part.through = Revision(task.next.0 - 1);
        }
        self.go_on_reading(number, task);
    }

    /// Asks the groups that hold the round up, and keeps it.
    fn go_on_reading(&mut self, number: u64, mut task: CatchUp) {
        for part in &mut task.parts {
            if part.asked || part.through >= task.next || part.through >= task.to {
                continue;
            }
            part.asked = true;
            if part.resume.is_none() {
                part.from = part.through.next();
            }
            let read = EventsRead {
                range: task.range.clone(),
                from: part.from,
                to: task.to,
                prev_kv: task.prev_kv,
                resume: part.resume.clone(),
            };
            self.ask(part.group, Owner::CatchUp { task: number }, Ask::Read(Read::Events(Box::new(read))));
        }
        self.hub.catch_ups.tasks.insert(number, task);
    }

    /// A slice of a catch-up is here.
    pub(in crate::front) fn catch_up_answered(&mut self, number: u64, group: GroupId, answer: Answer) {
        let Some(mut task) = self.hub.catch_ups.tasks.remove(&number) else { return };
        let part = task.parts.iter_mut().find(|p| p.group == group).expect("a group that was asked");
        part.asked = false;
        let (events, through, resume) = match answer {
            Answer::Events { events, through, resume } => (events, through, resume),
            // The core could not read (it stops, or has no room for the request): asked again after a while.
            _ => return self.catch_up_later(number, task),
        };
        // A core gives what it has applied: it may be behind what is stable, and says so by `through`.
        let stalled = events.is_empty() && resume == part.resume && through <= part.through && part.through < task.to;
        part.events.extend(events);
        part.through = part.through.max(through).min(task.to);
        part.resume = resume;
        task.members.retain(|&id| self.hub.watcher(id).is_some());
        self.deliver(&mut task);
        if task.members.is_empty() {
            if task.parts.iter().any(|p| p.asked) {
                // What it reads stays until the last slice is back.
                self.hub.catch_ups.tasks.insert(number, task);
                return;
            }
            self.shared.give_back(task.held);
            self.run_catch_ups();
        } else if task.next > task.to {
            self.shared.give_back(task.held);
            self.round(number, task);
            self.run_catch_ups();
        } else if stalled {
            self.catch_up_later(number, task);
        } else {
            self.go_on_reading(number, task);
        }
    }

    fn catch_up_later(&mut self, number: u64, task: CatchUp) {
        self.hub.catch_ups.tasks.insert(number, task);
        let when = self.now + std::time::Duration::from_micros(CATCH_UP_RETRY_MICROS);
        self.calls.at(when, Due::CatchUp(number));
    }

    /// Asks again what was not there yet.
    pub(in crate::front) fn catch_up_again(&mut self, number: u64) {
        if let Some(task) = self.hub.catch_ups.tasks.remove(&number) {
            self.go_on_reading(number, task);
        }
    }

    /// Delivers what all groups have given.
    fn deliver(&mut self, task: &mut CatchUp) {
        let through = task.parts.iter().map(|p| p.through).min().expect("a range is in some group");
        if through < task.next {
            return;
        }
        let mut events = Vec::new();
        for part in &mut task.parts {
            let here = part.events.partition_point(|e| e.revision <= through);
            events.extend(part.events.drain(..here));
        }
        sort(&mut events);
        let mut rest = events.as_slice();
        while !rest.is_empty() && !task.members.is_empty() {
            let (batch, behind) = rest.split_at(batch_end(rest, task.prev_kv));
            self.deliver_batch(task, batch);
            rest = behind;
        }
        task.next = through.next();
    }

    /// Sends one batch to every watch of a catch-up that has room; the others leave it, and wait for room.
    fn deliver_batch(&mut self, task: &mut CatchUp, batch: &[Event]) {
        let next = batch[0].revision;
        let mut bodies = [const { None }; Flavor::COUNT];
        let members = std::mem::take(&mut task.members);
        for id in members {
            let Some(watcher) = self.hub.watcher(id) else { continue };
            let flavor = watcher.flavor;
            let call = watcher.call;
            if self.hub.streams[&call].buffered >= WATCH_STREAM_BYTES_MAX {
                let watcher = &mut self.hub.watchers[id.at];
                (watcher.next, watcher.live) = (next, false);
                self.hub.queue(id.at);
                continue;
            }
            task.members.push(id);
            let wanted = || batch.iter().filter(|e| flavor.wants(e));
            let body = bodies[flavor.place()].get_or_insert_with(|| Fields::of(wanted(), flavor.prev_kv));
            if let Some(fields) = body {
                // Behind the hub, the revision of the store and not of the events: it is no bookmark (as etcd's).
                let header = self.header(if task.live { fields.last } else { self.hub.released });
                self.respond(id.at, &header, fields, wanted);
            }
        }
    }
}
