//! Events: what changed, in order, for watches that catch up (surface 4.3). They come from the store alone: what the overlay holds is
//! not yet shown to anyone by this way.

use bytes::Bytes;

use crate::base::Revision;
use crate::pages::{Cursor, Fault};
use crate::proto::mvccpb::KeyValue;

use super::change::{At, Budget, Change, Span};
use super::key::{KeyBuffer, split_change, split_version};
use super::record::{KeyState, Kind, parse};
use super::store::{KEYS, Mvcc, REVISIONS};

/// One change as watchers see it. Those of one revision are ordered by (operation, key), over all shards.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// The revision and operation that made it.
    pub change: Change,
    /// Whether it wrote the key or deleted it.
    pub kind: Kind,
    /// The key as it is after it; of a tombstone the key and `mod_revision` alone.
    pub kv: KeyValue,
    /// The key as it was at the end of the revision before; None where the event creates the key, where that state is compacted, and
    /// where it was not asked for.
    pub prev: Option<KeyValue>,
}

impl Event {
    /// The event of a put.
    pub fn put(change: Change, kv: KeyValue, prev: Option<KeyValue>) -> Event {
        Event { change, kind: Kind::Put, kv, prev }
    }

    /// The event of a tombstone.
    pub fn tombstone(change: Change, key: Bytes, prev: Option<KeyValue>) -> Event {
        let kv = KeyValue { key, mod_revision: change.revision.as_i64(), ..KeyValue::default() };
        Event { change, kind: Kind::Tombstone, kv, prev }
    }
}

/// Which events are wanted.
#[derive(Clone, Debug)]
pub struct EventsQuery {
    /// The first revision.
    pub from: Revision,
    /// The last revision; everything up to it is applied.
    pub to: Revision,
    /// Which keys.
    pub span: Span,
    /// With `prev`.
    pub with_prev: bool,
    /// The compaction revision: what was before it is not to be read. 0 if nothing was compacted.
    pub compacted: Revision,
}

/// A slice of events.
#[derive(Debug)]
pub struct EventChunk {
    /// In order.
    pub events: Vec<Event>,
    /// Where the next slice begins; None: these were all. A revision may go on in the next slice.
    pub resume: Option<EventsResume>,
}

/// A place between two events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventsResume {
    /// Every event of the query below this change has been given; of this change those of lower keys.
    pub change: Change,
    /// The lowest key of `change` that has not been looked at.
    pub key: Bytes,
}

impl EventsResume {
    /// As bytes that only [`EventsResume::decode`] reads.
    pub fn encode(&self) -> Bytes {
        KeyBuffer::change(self.change, &self.key).as_slice().to_vec().into()
    }

    /// What [`EventsResume::encode`] wrote; `None` for other bytes.
    pub fn decode(bytes: &Bytes) -> Option<EventsResume> {
        if bytes.len() < 12 {
            return None;
        }
        let (change, key) = split_change(bytes);
        Some(EventsResume { change, key: bytes.slice_ref(key) })
    }
}

impl Mvcc {
    /// A slice of the events of `query`, from `resume` on (None: from the first).
    ///
    /// A fault is returned only if nothing could be read; install, and ask again. With a chunk, go on from its `resume`.
    pub fn events(&self, query: &EventsQuery, resume: Option<&EventsResume>, budget: Budget) -> Result<EventChunk, Fault> {
        if let (Span::Key(key), None) = (&query.span, resume)
            && let Some(events) = self.events_of_key(query, key, budget)?
        {
            return Ok(EventChunk { events, resume: None });
        }
        let start = events_start(query, resume);
        let mut cursor = self.store().cursor(REVISIONS).heads();
        cursor.seek(start.as_slice())?;
        let mut events: Vec<Event> = Vec::new();
        let (mut visits, mut bytes) = (0, 0);
        while let Some((entry, ..)) = cursor.entry() {
            let (change, key) = split_change(entry);
            if change.revision > query.to {
                break;
            }
            let here = || Some(EventsResume { change, key: Bytes::copy_from_slice(key) });
            if visits > 0 && (visits >= budget.visits || bytes >= budget.bytes) {
                return Ok(EventChunk { events, resume: here() });
            }
            if query.span.contains(key) {
                match self.event(query, &cursor) {
                    Ok(event) => {
                        bytes += event_bytes(&event);
                        events.push(event);
                    }
                    Err(fault) if visits == 0 => return Err(fault),
                    Err(_) => return Ok(EventChunk { events, resume: here() }),
                }
            }
            visits += 1;
            if cursor.next().is_err() {
                // The entry itself is dealt with, whether or not it gave an event.
                let key = [key, &[0]].concat().into();
                return Ok(EventChunk { events, resume: Some(EventsResume { change, key }) });
            }
        }
        Ok(EventChunk { events, resume: None })
    }

    /// The pages that [`Mvcc::events`] will want and that are not in memory, to be read side by side: of the next `most` leaves, and
    /// the long values of the next `most` entries.
    pub fn events_ahead(&self, query: &EventsQuery, resume: Option<&EventsResume>, most: usize) -> Vec<Fault> {
        if matches!((&query.span, resume), (Span::Key(_), None)) {
            return Vec::new();
        }
        let start = events_start(query, resume);
        let mut wanted = self.changes_ahead(&start, query.to, most);
        let mut cursor = self.store().cursor(REVISIONS).heads();
        let mut reached = cursor.seek(start.as_slice());
        for _ in 0..most {
            let (Ok(()), Some((entry, ..))) = (reached, cursor.entry()) else { break };
            let (change, key) = split_change(entry);
            if change.revision > query.to {
                break;
            }
            if query.span.contains(key) {
                wanted.extend(self.whole(&cursor).err());
            }
            reached = cursor.next();
        }
        wanted
    }

    /// The event of the entry that a cursor over REVISIONS stands at.
    fn event<'a>(&'a self, query: &EventsQuery, cursor: &Cursor<'a>) -> Result<Event, Fault> {
        let (entry, ..) = cursor.entry().expect("the cursor stands at an entry");
        let (change, key) = split_change(entry);
        let user_key = Bytes::copy_from_slice(key);
        let Some(fields) = self.whole(cursor)? else {
            let prev = self.prev_of(query, key, change, false)?;
            return Ok(Event::tombstone(change, user_key, prev));
        };
        let prev = self.prev_of(query, key, change, fields.create_revision == change.revision)?;
        Ok(Event::put(change, KeyState::stored(change, &fields, fields.value).to_message(user_key), prev))
    }

    fn prev_of(&self, query: &EventsQuery, key: &[u8], change: Change, creates: bool) -> Result<Option<KeyValue>, Fault> {
        if !query.with_prev || creates || change.revision <= query.compacted {
            return Ok(None);
        }
        let state = self.find(key, At::before(change.revision), true)?;
        Ok(state.map(|state| state.to_message(Bytes::copy_from_slice(key))))
    }

    /// All events of one key, from its own versions; None when there are too many of them for the budget.
    fn events_of_key(&self, query: &EventsQuery, key: &Bytes, budget: Budget) -> Result<Option<Vec<Event>>, Fault> {
        let sought = KeyBuffer::newest_seen(key, At::end_of(query.to));
        let escaped = KeyBuffer::escaped(key);
        let mut cursor = self.store().cursor(KEYS);
        cursor.seek(sought.as_slice())?;
        // Newest first. The last may be older than what is asked for: it is then the state before, wanted only with `prev`.
        let mut versions = Vec::new();
        let mut bytes = 0;
        while let Some((entry, stored, _)) = cursor.entry() {
            let (of, change) = split_version(entry);
            if of != escaped.as_slice() || (change.revision < query.from && !query.with_prev) {
                break;
            }
            if versions.len() >= budget.visits as usize || bytes >= budget.bytes {
                return Ok(None);
            }
            let state = match parse(stored) {
                None => None,
                Some(fields) => Some(KeyState::stored(change, &fields, self.value(key, change, &fields)?)),
            };
            bytes += stored.len() + state.map_or(0, |state| state.value.as_slice().len());
            versions.push((change, state));
            if change.revision < query.from {
                break;
            }
            cursor.next()?;
        }
        versions.reverse();
        let mut events = Vec::with_capacity(versions.len());
        for (place, (change, state)) in versions.iter().enumerate() {
            if change.revision < query.from {
                continue;
            }
            let creates = state.is_some_and(|state| state.create_revision == change.revision);
            let before = versions[..place].iter().rev().find(|(earlier, _)| earlier.revision < change.revision);
            let prev = match query.with_prev && !creates && change.revision > query.compacted {
                true => before.and_then(|(_, state)| *state),
                false => None,
            };
            let prev = prev.map(|state| state.to_message(key.clone()));
            events.push(match state {
                Some(state) => Event::put(*change, state.to_message(key.clone()), prev),
                None => Event::tombstone(*change, key.clone(), prev),
            });
        }
        Ok(Some(events))
    }
}

fn events_start(query: &EventsQuery, resume: Option<&EventsResume>) -> KeyBuffer {
    match resume {
        Some(place) => KeyBuffer::change(place.change, &place.key),
        None => KeyBuffer::change(Change { revision: query.from, operation: 0 }, b""),
    }
}

/// About what an event takes in a message.
fn event_bytes(event: &Event) -> usize {
    let kv_bytes = |kv: &KeyValue| kv.key.len() + kv.value.len();
    kv_bytes(&event.kv) + event.prev.as_ref().map_or(0, kv_bytes)
}
