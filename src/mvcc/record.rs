//! What is stored for a version: in KEYS its fields and value, in REVISIONS its kind.

use bytes::Bytes;

use crate::base::wire::{Malformed, Reader};
use crate::base::{LeaseId, Revision};
use crate::pages::{PageId, VALUE_HEAD_BYTES};
use crate::proto::mvccpb::KeyValue;

use super::change::Change;

const KIND_PUT: u8 = 1;
const KIND_TOMBSTONE: u8 = 2;
/// A kind byte and three varints of ten bytes at most.
const HEAD_BYTES_MAX: usize = 31;
const _: () = assert!(HEAD_BYTES_MAX <= VALUE_HEAD_BYTES, "a cursor over heads sees every field");

/// What a change did to its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It wrote a value.
    Put,
    /// It deleted the key.
    Tombstone,
}

impl Kind {
    /// The kind of what REVISIONS stores for a change.
    pub(crate) fn of_stored(stored: &[u8]) -> Kind {
        let kind = stored.first().copied().ok_or(Malformed).and_then(Kind::of_byte);
        kind.expect("a checked page holds well-formed changes")
    }

    pub(crate) fn of_byte(byte: u8) -> Result<Kind, Malformed> {
        match byte {
            KIND_PUT => Ok(Kind::Put),
            KIND_TOMBSTONE => Ok(Kind::Tombstone),
            _ => Err(Malformed),
        }
    }
}

/// What a put stores beside its key and place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PutFields<'a> {
    /// The revision of the first put since the key was last deleted.
    pub create_revision: Revision,
    /// How many puts since then, this one included.
    pub version: u64,
    /// The lease that the key is attached to, or none.
    pub lease: LeaseId,
    /// The value.
    pub value: &'a [u8],
}

/// A stored version; None is a tombstone.
pub(crate) type Record<'a> = Option<PutFields<'a>>;

/// The fields of a version, without its value: a kind byte and three varints. Behind those of a put, REVISIONS stores the value, and
/// KEYS the page of the leaf that the value was put into.
pub(crate) struct Head {
    bytes: [u8; HEAD_BYTES_MAX],
    len: usize,
}

impl Head {
    pub(crate) fn new(record: &Record<'_>) -> Head {
        let mut head = Head { bytes: [0; HEAD_BYTES_MAX], len: 0 };
        match record {
            None => head.push(KIND_TOMBSTONE),
            Some(fields) => {
                head.push(KIND_PUT);
                head.varint(fields.create_revision.get());
                head.varint(fields.version);
                head.varint(fields.lease.get() as u64);
            }
        }
        head
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Reads what REVISIONS stores for a version; or KEYS, then with the place of the value for the value. Pages are checked when they come
/// from the disk, so what does not parse is our own bug.
#[inline]
pub(crate) fn parse(stored: &[u8]) -> Record<'_> {
    try_parse(stored).expect("a checked page holds well-formed versions")
}

pub(crate) fn try_parse(stored: &[u8]) -> Result<Record<'_>, Malformed> {
    let mut reader = Reader::new(stored);
    match Kind::of_byte(reader.u8()?)? {
        Kind::Tombstone => Ok(None),
        Kind::Put => {
            let create_revision = Revision(reader.varint()?);
            let version = reader.varint()?;
            let lease = LeaseId(reader.varint()? as i64);
            Ok(Some(PutFields { create_revision, version, lease, value: reader.rest() }))
        }
    }
}

/// Where the value of a version was put, as KEYS stores it behind the other fields. It may have moved since.
pub(crate) fn place_of(fields: &PutFields<'_>) -> PageId {
    try_place(fields.value).expect("a version in KEYS ends with the place of its value")
}

pub(crate) fn try_place(stored: &[u8]) -> Result<PageId, Malformed> {
    stored.try_into().map(|bytes| PageId(u32::from_le_bytes(bytes))).map_err(|_| Malformed)
}

/// A value that is read: shared memory of a log entry, or bytes in a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// Counted memory: cloning copies nothing.
    Shared(&'a Bytes),
    /// Bytes in a page: they must be copied to be kept.
    Stored(&'a [u8]),
}

impl Value<'_> {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Value::Shared(bytes) => bytes,
            Value::Stored(bytes) => bytes,
        }
    }

    /// The bytes, to keep.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Value::Shared(bytes) => Bytes::clone(bytes),
            Value::Stored(bytes) => Bytes::copy_from_slice(bytes),
        }
    }
}

/// A living key as a read sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyState<'a> {
    /// The revision of the first put since the key was last deleted.
    pub create_revision: Revision,
    /// The revision of the last put.
    pub mod_revision: Revision,
    /// The operation number of the last put in its revision.
    pub operation: u32,
    /// How many puts since the key was last deleted.
    pub version: u64,
    /// The lease that the key is attached to, or none.
    pub lease: LeaseId,
    /// The value.
    pub value: Value<'a>,
}

impl<'a> KeyState<'a> {
    /// What a put at `change` stored, with this for its value.
    pub(crate) fn stored(change: Change, fields: &PutFields<'_>, value: &'a [u8]) -> KeyState<'a> {
        KeyState {
            create_revision: fields.create_revision,
            mod_revision: change.revision,
            operation: change.operation,
            version: fields.version,
            lease: fields.lease,
            value: Value::Stored(value),
        }
    }

    /// Which change made it.
    pub(crate) fn change(&self) -> Change {
        Change { revision: self.mod_revision, operation: self.operation }
    }

    /// As etcd's messages carry it; copies a value that lies in a page.
    pub fn to_message(&self, key: Bytes) -> KeyValue {
        self.to_message_with(key, self.value.to_bytes())
    }

    /// As etcd's messages carry it, with this for its value.
    pub(crate) fn to_message_with(self, key: Bytes, value: Bytes) -> KeyValue {
        KeyValue {
            key,
            create_revision: self.create_revision.as_i64(),
            mod_revision: self.mod_revision.as_i64(),
            version: self.version as i64,
            value,
            lease: self.lease.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_back() {
        let put = |lease, value| {
            Some(PutFields { create_revision: Revision(u64::MAX), version: u64::MAX, lease: LeaseId(lease), value })
        };
        for record in [None, put(-1, &b"value"[..]), put(0, b""), put(i64::MAX, &[0xFF; 100])] {
            let head = Head::new(&record);
            let value = record.map_or(&b""[..], |fields| fields.value);
            assert_eq!(parse(&[head.as_slice(), value].concat()), record);
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        for stored in [&b""[..], &[0], &[3], &[KIND_PUT], &[KIND_PUT, 1, 1], &[KIND_PUT, 0x80]] {
            assert_eq!(try_parse(stored), Err(Malformed));
        }
    }
}
