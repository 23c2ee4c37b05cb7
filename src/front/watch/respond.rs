//! WatchResponses by hand: a small head per watch, and events encoded once for all of them.

use bytes::{BufMut, Bytes, BytesMut};

use crate::front::call::{MESSAGE_PREFIX_BYTES, message_prefix};
use crate::front::encode::{field_len, header_len, kv_len, number_len, put_field, put_header, put_kv, put_number};
use crate::proto::etcdserverpb as pb;
use crate::shard::messages::{Event, Previous};

/// The field of a WatchResponse that holds its events.
const EVENTS: u32 = 11;

/// How a watch wants its events: the combinations share encodings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flavor {
    /// With previous values.
    pub prev_kv: bool,
    /// Without puts.
    pub no_put: bool,
    /// Without deletes.
    pub no_delete: bool,
}

impl Flavor {
    /// How many there are.
    pub const COUNT: usize = 8;

    /// Its place among them.
    pub const fn place(self) -> usize {
        self.prev_kv as usize | (self.no_put as usize) << 1 | (self.no_delete as usize) << 2
    }

    /// Whether it wants this event at all.
    pub const fn wants(self, event: &Event) -> bool {
        if event.tombstone { !self.no_delete } else { !self.no_put }
    }
}

/// Whether an event made a key: it has no previous value whatever the store says.
fn creates(event: &Event) -> bool {
    !event.tombstone && event.kv.create_revision == event.kv.mod_revision
}

/// Whether the previous value is wanted and not known.
pub fn lacks_previous(event: &Event) -> bool {
    matches!(event.prev, Previous::Unknown) && !creates(event)
}

fn previous(event: &Event, prev_kv: bool) -> Option<&crate::proto::mvccpb::KeyValue> {
    match &event.prev {
        Previous::Kv(kv) if prev_kv && !creates(event) => Some(kv),
        _ => None,
    }
}

/// The bytes of an event's fields.
fn event_len(event: &Event, prev_kv: bool) -> usize {
    number_len(u64::from(event.tombstone))
        + field_len(kv_len(&event.kv))
        + previous(event, prev_kv).map_or(0, |kv| field_len(kv_len(kv)))
}

/// The bytes of an event as a field of a response.
pub fn event_field_len(event: &Event, prev_kv: bool) -> usize {
    field_len(event_len(event, prev_kv))
}

fn put_event(out: &mut BytesMut, event: &Event, prev_kv: bool) {
    put_field(out, EVENTS, event_len(event, prev_kv));
    put_number(out, 1, u64::from(event.tombstone));
    put_kv(out, 2, kv_len(&event.kv), &event.kv);
    if let Some(kv) = previous(event, prev_kv) {
        put_kv(out, 3, kv_len(kv), kv);
    }
}

/// Events as fields of a response, one behind the other.
pub fn events_body<'a>(events: impl Iterator<Item = &'a Event> + Clone, prev_kv: bool) -> Bytes {
    let len = events.clone().map(|e| event_field_len(e, prev_kv)).sum();
    let mut out = BytesMut::with_capacity(len);
    for event in events {
        put_event(&mut out, event, prev_kv);
    }
    assert_eq!(out.len(), len, "events are as long as was reckoned");
    out.freeze()
}

/// What a response says beside its events.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Its header.
    pub header: &'a pb::ResponseHeader,
    /// The watch; −1: all of the stream.
    pub watch_id: i64,
    /// More of the same revision follows.
    pub fragment: bool,
}

impl Head<'_> {
    /// The bytes of its fields.
    pub fn len(&self) -> usize {
        field_len(header_len(self.header)) + number_len(self.watch_id as u64) + number_len(u64::from(self.fragment))
    }

    /// Writes the prefix and head of a response whose events are `body_len` bytes.
    pub fn put(&self, out: &mut BytesMut, body_len: usize) {
        let len = self.len();
        out.reserve(MESSAGE_PREFIX_BYTES + len + body_len);
        let before = out.len();
        out.put_slice(&message_prefix(len + body_len));
        put_header(out, self.header);
        put_number(out, 2, self.watch_id as u64);
        put_number(out, 7, u64::from(self.fragment));
        assert_eq!(out.len() - before, MESSAGE_PREFIX_BYTES + len, "a head is as long as was reckoned");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Revision;
    use crate::front::call::frame;
    use crate::proto::mvccpb;

    #[test]
    fn head_and_body_are_what_prost_writes() {
        let kv = |key: &'static str, create: i64, rev: i64| mvccpb::KeyValue {
            key: Bytes::from(key),
            create_revision: create,
            mod_revision: rev,
            version: 2,
            value: Bytes::from_static(b"value"),
            lease: 0,
        };
        let event = |tombstone, prev| Event { revision: Revision(9), operation: 0, tombstone, kv: kv("k", 3, 9), prev };
        let events = [
            event(false, Previous::Kv(kv("k", 3, 8))),
            event(true, Previous::Kv(kv("k", 3, 8))),
            event(false, Previous::None),
            Event { kv: kv("new", 9, 9), ..event(false, Previous::Kv(kv("k", 3, 8))) },
        ];
        let header = pb::ResponseHeader { cluster_id: 5, member_id: 6, revision: 9, raft_term: 2 };
        for (prev_kv, fragment, watch_id) in [(true, false, 7), (false, true, -1), (true, true, 0)] {
            let body = events_body(events.iter(), prev_kv);
            let mut whole = BytesMut::new();
            Head { header: &header, watch_id, fragment }.put(&mut whole, body.len());
            whole.extend_from_slice(&body);
            let prev = |at: usize| (prev_kv && at < 2).then(|| kv("k", 3, 8));
            let expected = pb::WatchResponse {
                header: Some(header),
                watch_id,
                fragment,
                events: events
                    .iter()
                    .enumerate()
                    .map(|(at, e)| mvccpb::Event { r#type: i32::from(e.tombstone), kv: Some(e.kv.clone()), prev_kv: prev(at) })
                    .collect(),
                ..Default::default()
            };
            assert_eq!(whole, frame(&expected));
        }
    }
}
