//! What is done with decided effects: entered into the overlay at the leader, applied to the store everywhere, told to watchers.

use bytes::Bytes;

use crate::base::limits::APPLY_DELETES_BATCH;
use crate::base::{LeaseId, Revision};
use crate::mvcc::{Applying, At, Budget, Change, Event, Mvcc, Overlay, OverlayPut, PutFields, RangeQuery, Span, View};
use crate::pages::Fault;
use crate::proto::mvccpb::KeyValue;

use super::kv::Effect;

/// What apply looks through when it looks for keys: the store alone.
static NO_OVERLAY: Overlay = Overlay::new();

/// Whether a revision is applied to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// It is.
    Whole,
    /// The budget is used up: call again with the same effects.
    Part,
}

/// Which events applying is to give.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventsWanted {
    /// None: they were queued when the entry was taken (rule 13).
    No,
    /// All, without what was before.
    Plain,
    /// All, with what was before.
    WithPrev,
}

/// Applies the effects of `revision` to the store. On a fault: install, and call again with the same effects; likewise after a part.
///
/// What has been done is remembered in the store and not done again. `events` gets, in order, the events of what this call has done.
/// `visits` bounds, about, what deletes of many keys do in one call, and is lowered by it.
pub fn apply(
    mvcc: &mut Mvcc,
    revision: Revision,
    effects: &[Effect],
    wanted: EventsWanted,
    visits: &mut u32,
    events: &mut Vec<Event>,
) -> Result<Applied, Fault> {
    let mut applying = mvcc.begin(revision);
    let mut run = Run { mvcc, wanted, events, visits_left: visits };
    while let Some(effect) = effects.get(applying.effects) {
        match run.effect(&mut applying, effect) {
            Ok(Applied::Whole) => {
                applying.effects += 1;
                applying.resume = None;
            }
            Ok(Applied::Part) => {
                mvcc.pause(applying);
                return Ok(Applied::Part);
            }
            Err(fault) => {
                mvcc.wait(applying);
                return Err(fault);
            }
        }
    }
    Ok(Applied::Whole)
}

struct Run<'a> {
    mvcc: &'a mut Mvcc,
    wanted: EventsWanted,
    events: &'a mut Vec<Event>,
    visits_left: &'a mut u32,
}

impl Run<'_> {
    fn effect(&mut self, applying: &mut Applying, effect: &Effect) -> Result<Applied, Fault> {
        let change = Change { revision: applying.revision, operation: effect.operation() };
        match effect {
            Effect::Put { key, value, lease, create_revision, version, .. } => {
                let fields = PutFields {
                    create_revision: create_revision.unwrap_or(change.revision),
                    version: *version,
                    lease: *lease,
                    value,
                };
                let creates = fields.create_revision == change.revision;
                let prev = if creates { None } else { self.prev(key, change.revision)? };
                self.mvcc.put(key, change, &fields)?;
                if self.wanted != EventsWanted::No {
                    self.events.push(Event::put(change, message(key, value, change, &fields), prev));
                }
            }
            Effect::Delete { key, .. } => self.tombstone(key, change)?,
            Effect::DeleteRange { span, .. } => return self.delete_range(applying, change, span),
            Effect::DeleteAttached { lease, .. } => return self.delete_attached(applying, change, *lease),
        }
        Ok(Applied::Whole)
    }

    fn tombstone(&mut self, key: &Bytes, change: Change) -> Result<(), Fault> {
        let prev = self.prev(key, change.revision)?;
        self.mvcc.tombstone(key, change)?;
        if self.wanted != EventsWanted::No {
            self.events.push(Event::tombstone(change, key.clone(), prev));
        }
        Ok(())
    }

    /// The keys that live before the operation are found and deleted in batches. What is found is what every replica finds: the state
    /// below the revision, and what the revision has done before; tombstones of the operation itself are not seen.
    fn delete_range(&mut self, applying: &mut Applying, change: Change, span: &Span) -> Result<Applied, Fault> {
        let query = RangeQuery { span: span.clone(), limit: APPLY_DELETES_BATCH, keys_only: true, filters: Default::default() };
        while *self.visits_left > 0 {
            let budget = Budget { visits: *self.visits_left, ..Budget::UNLIMITED };
            let view = View { mvcc: self.mvcc, overlay: &NO_OVERLAY };
            let found = view.range(At::before_change(change), &query, applying.resume.as_deref(), budget)?;
            let keys = found.kvs.into_iter().map(|kv| kv.key).collect();
            if self.tombstones(applying, change, keys, found.resume)? == Applied::Whole {
                return Ok(Applied::Whole);
            }
        }
        Ok(Applied::Part)
    }

    /// The same for the keys attached to a lease: nothing else changes in the revision of its end, so the store has them as they are.
    fn delete_attached(&mut self, applying: &mut Applying, change: Change, lease: LeaseId) -> Result<Applied, Fault> {
        while *self.visits_left > 0 {
            let budget = Budget { visits: (*self.visits_left).min(APPLY_DELETES_BATCH as u32), ..Budget::UNLIMITED };
            let view = View { mvcc: self.mvcc, overlay: &NO_OVERLAY };
            let found = view.attached(lease, applying.resume.as_deref(), budget)?;
            if self.tombstones(applying, change, found.keys, found.resume)? == Applied::Whole {
                return Ok(Applied::Whole);
            }
        }
        Ok(Applied::Part)
    }

    /// Deletes one batch; `next` is where the one behind it begins.
    fn tombstones(
        &mut self,
        applying: &mut Applying,
        change: Change,
        keys: Vec<Bytes>,
        next: Option<Bytes>,
    ) -> Result<Applied, Fault> {
        *self.visits_left = self.visits_left.saturating_sub(1 + keys.len() as u32);
        for key in keys {
            if let Err(fault) = self.tombstone(&key, change) {
                applying.resume = Some(key);
                return Err(fault);
            }
        }
        applying.resume = next;
        Ok(if applying.resume.is_none() { Applied::Whole } else { Applied::Part })
    }

    fn prev(&self, key: &[u8], revision: Revision) -> Result<Option<KeyValue>, Fault> {
        if self.wanted != EventsWanted::WithPrev {
            return Ok(None);
        }
        let view = View { mvcc: self.mvcc, overlay: &NO_OVERLAY };
        Ok(view.get(key, At::before(revision))?.map(|state| state.to_message(Bytes::copy_from_slice(key))))
    }
}

fn message(key: &Bytes, value: &Bytes, change: Change, fields: &PutFields<'_>) -> KeyValue {
    KeyValue {
        key: key.clone(),
        create_revision: fields.create_revision.as_i64(),
        mod_revision: change.revision.as_i64(),
        version: fields.version as i64,
        value: value.clone(),
        lease: fields.lease.get(),
    }
}

/// One key that evaluation found to be changed, in the order of (operation, key).
#[derive(Clone, PartialEq, Debug)]
pub struct Touched {
    /// How many changes of the revision come before the operation.
    pub operation: u32,
    /// The key.
    pub key: Bytes,
    /// Which of the effects changes it.
    pub effect: usize,
    /// The key as it was at the end of the revision before, for the event; None where that is absent, or was not asked for.
    pub prev: Option<KeyValue>,
}

/// What a revocation makes of the keys attached to the lease, in key order: one operation deletes them all.
pub fn revoke(lease: LeaseId, keys: Vec<Bytes>) -> (Vec<Effect>, Vec<Touched>) {
    if keys.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let touched = keys.into_iter().map(|key| Touched { operation: 0, key, effect: 0, prev: None });
    (vec![Effect::DeleteAttached { operation: 0, lease }], touched.collect())
}

/// Enters a revision into the overlay, at the leader, once the revision is taken. `effects` are those decoded from the entry's
/// payload, so that the overlay shares its memory; `touched` is what evaluation gave with them.
pub fn enter(overlay: &mut Overlay, revision: Revision, effects: &[Effect], touched: &[Touched]) {
    for touched in touched {
        let change = Change { revision, operation: touched.operation };
        match &effects[touched.effect] {
            Effect::Put { key, value, lease, create_revision, version, .. } => {
                let create_revision = create_revision.unwrap_or(revision);
                let put = OverlayPut { create_revision, version: *version, lease: *lease, value: value.clone() };
                overlay.put(key.clone(), change, put);
            }
            Effect::Delete { key, .. } => overlay.tombstone(key.clone(), change),
            Effect::DeleteRange { .. } | Effect::DeleteAttached { .. } => overlay.tombstone(touched.key.clone(), change),
        }
    }
}

/// The events of a revision, at the leader, from what evaluation gave.
pub fn events(revision: Revision, effects: &[Effect], touched: Vec<Touched>) -> Vec<Event> {
    let event = |touched: Touched| {
        let change = Change { revision, operation: touched.operation };
        match &effects[touched.effect] {
            Effect::Put { key, value, lease, create_revision, version, .. } => {
                let create_revision = create_revision.unwrap_or(revision);
                let fields = PutFields { create_revision, version: *version, lease: *lease, value };
                let prev = touched.prev.filter(|_| create_revision != revision);
                Event::put(change, message(key, value, change, &fields), prev)
            }
            Effect::Delete { .. } | Effect::DeleteRange { .. } | Effect::DeleteAttached { .. } => {
                Event::tombstone(change, touched.key, touched.prev)
            }
        }
    };
    touched.into_iter().map(event).collect()
}
