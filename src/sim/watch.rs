//! A watch as its client sees it: what came is held against the history, nothing lost, doubled, out of order or split.

use crate::proto::etcdserverpb as pb;
use crate::proto::mvccpb::Event;

use super::history::{History, change_of};

/// A watch of one client.
pub struct Watched {
    /// What it watches.
    pub key: bytes::Bytes,
    /// Where the range ends.
    pub end: bytes::Bytes,
    /// What it asked to begin with; 0: from now on.
    pub start: i64,
    /// It wants previous values.
    pub prev_kv: bool,
    /// The auditing watch: what it shows first is the truth.
    pub audits: bool,
    /// The next revision that it has not been shown.
    pub next: i64,
    /// It was created.
    pub created: bool,
    /// It ended because what it wanted is compacted.
    pub compacted: Option<i64>,
    /// The member shows no more than this in the answer that made it.
    pub low: i64,
    /// Shown, and not held against the history yet.
    shown: Vec<Shown>,
}

enum Shown {
    Events(i64, Vec<Event>),
    Progress(i64),
}

impl Watched {
    /// A watch that was asked for.
    pub fn new(create: &pb::WatchCreateRequest, low: i64, audits: bool) -> Watched {
        Watched {
            key: create.key.clone(),
            end: create.range_end.clone(),
            start: create.start_revision,
            prev_kv: create.prev_kv,
            audits,
            next: create.start_revision,
            created: false,
            compacted: None,
            low,
            shown: Vec::new(),
        }
    }

    /// A response to it.
    pub fn response(&mut self, response: &pb::WatchResponse, history: &mut History) -> Result<(), String> {
        let header = response.header.as_ref().map_or(0, |h| h.revision);
        if response.created {
            if self.created || response.canceled {
                return Err(format!("a watch is created twice, or cancelled at once: {response:?}"));
            }
            self.created = true;
            history.told(header, self.low)?;
            if self.start == 0 {
                self.next = header + 1;
            }
            return Ok(());
        }
        if response.canceled {
            let at = response.compact_revision;
            if at == 0 || at > history.compacting || self.next > at {
                return Err(format!("a watch that needs {} is cancelled: {response:?}", self.next));
            }
            self.compacted = Some(at);
            return Ok(());
        }
        if response.events.is_empty() {
            self.shown.push(Shown::Progress(header));
            return self.check(history);
        }
        let mut rest = &response.events[..];
        while let Some(first) = rest.first() {
            let revision = first.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            let count = rest.iter().take_while(|e| e.kv.as_ref().is_some_and(|kv| kv.mod_revision == revision)).count();
            let (now, later) = rest.split_at(count);
            if revision > header {
                return Err(format!("events of revision {revision} come in a response of revision {header}"));
            }
            self.shown.push(Shown::Events(revision, now.to_vec()));
            rest = later;
        }
        history.told(header, 0)?;
        self.check(history)
    }

    /// Holds what was shown against the history, as far as that is known.
    pub fn check(&mut self, history: &mut History) -> Result<(), String> {
        for shown in std::mem::take(&mut self.shown) {
            match shown {
                Shown::Events(revision, events) if self.audits => {
                    if revision != self.next {
                        return Err(format!("the auditing watch is at {} and is shown revision {revision}", self.next));
                    }
                    history.audit(revision, &events)?;
                    self.previous(revision, &events, history)?;
                    self.next = revision + 1;
                }
                Shown::Progress(revision) if self.audits => {
                    if revision >= self.next {
                        return Err(format!("progress {revision} is told before revision {} is shown", self.next));
                    }
                }
                Shown::Events(revision, _) | Shown::Progress(revision) if revision > history.top() => self.shown.push(shown),
                Shown::Events(revision, events) => {
                    if revision < self.next {
                        return Err(format!("a watch is at {} and is shown revision {revision}", self.next));
                    }
                    self.nothing_until(revision - 1, history)?;
                    let changes = events.iter().map(|e| change_of(revision, e)).collect::<Result<Vec<_>, _>>()?;
                    let truth = history.changes(revision, &self.key, &self.end);
                    if changes != truth {
                        return Err(format!("a watch is shown revision {revision} as {changes:?}, which is {truth:?}"));
                    }
                    self.previous(revision, &events, history)?;
                    self.next = revision + 1;
                }
                Shown::Progress(revision) => self.nothing_until(revision, history)?,
            }
        }
        Ok(())
    }

    fn previous(&self, revision: i64, events: &[Event], history: &History) -> Result<(), String> {
        if !self.prev_kv {
            return events
                .iter()
                .all(|e| e.prev_kv.is_none())
                .then_some(())
                .ok_or_else(|| "a previous value came unasked".into());
        }
        let before = history.state(revision - 1);
        for event in events {
            let key = event.kv.as_ref().map(|kv| kv.key.clone()).unwrap_or_default();
            let was = before.get(&key);
            let compacted = event.prev_kv.is_none() && revision <= history.compacting;
            if event.prev_kv.as_ref() != was && !compacted {
                return Err(format!("revision {revision} has the previous value {:?}, not {was:?}", event.prev_kv));
            }
        }
        Ok(())
    }

    /// Nothing of the range happened from the next revision up to `revision`.
    fn nothing_until(&mut self, revision: i64, history: &History) -> Result<(), String> {
        for skipped in self.next.max(2)..=revision {
            let lost = history.changes(skipped, &self.key, &self.end);
            if !lost.is_empty() {
                return Err(format!("a watch was not shown revision {skipped}: {lost:?}"));
            }
        }
        self.next = self.next.max(revision + 1);
        Ok(())
    }

    /// Whether everything up to the last revision has been shown.
    pub fn is_behind(&self, history: &History) -> bool {
        if self.compacted.is_some() {
            return false;
        }
        if self.audits {
            return !self.created || self.next <= history.shown;
        }
        let next = self.next.max(2);
        !self.created
            || !self.shown.is_empty()
            || (next..=history.top()).any(|r| !history.changes(r, &self.key, &self.end).is_empty())
    }
}
