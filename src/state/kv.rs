//! The effects of one revision on one shard: how they are written in a log entry, and how they are applied.
//!
//! ```text
//! payload   effect effect ...
//! effect    kind u8, operation varint, key string, then by kind:
//!   put, created now      version varint, lease varint, value string
//!   put, created before   create_revision varint, version varint, lease varint, value string
//!   delete                -
//!   delete [key, end)     end string
//!   delete from key on    -
//!   delete attached       lease varint; without key
//! ```
//!
//! The revision itself is in the entry's mark. A put that creates its key does not name it again: an entry is written before its
//! revision is known. Effects stand in the order of their operation numbers; those of one range delete share a
//! number.

use bytes::Bytes;

use crate::base::wire::{Malformed, Reader, put_bytes, put_varint};
use crate::base::{LeaseId, Revision};
use crate::mvcc::Span;

const PUT_CREATED_NOW: u8 = 1;
const PUT_CREATED_BEFORE: u8 = 2;
const DELETE: u8 = 3;
const DELETE_BETWEEN: u8 = 4;
const DELETE_FROM: u8 = 5;
const DELETE_ATTACHED: u8 = 6;
/// The most that an effect takes beside its byte strings: a kind and six varints.
pub(super) const EFFECT_OVERHEAD_BYTES: usize = 61;

/// One change that is decided, or one range of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Writes a key.
    Put {
        /// How many changes of the revision come before it.
        operation: u32,
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// The lease that the key is attached to from here on, or none.
        lease: LeaseId,
        /// The revision that created the key; None: this one.
        create_revision: Option<Revision>,
        /// How many puts since then, this one included.
        version: u64,
    },
    /// Deletes a key that lives.
    Delete {
        /// How many changes of the revision come before it.
        operation: u32,
        /// The key.
        key: Bytes,
    },
    /// Deletes every key of a span that lives when the operation's turn comes.
    DeleteRange {
        /// How many changes of the revision come before it.
        operation: u32,
        /// The span; never a single key.
        span: Span,
    },
    /// Deletes every key that is attached to a lease when the operation's turn comes.
    DeleteAttached {
        /// How many changes of the revision come before it.
        operation: u32,
        /// The lease.
        lease: LeaseId,
    },
}

impl Effect {
    /// How many changes of its revision come before it.
    pub fn operation(&self) -> u32 {
        match self {
            Effect::Put { operation, .. }
            | Effect::Delete { operation, .. }
            | Effect::DeleteRange { operation, .. }
            | Effect::DeleteAttached { operation, .. } => *operation,
        }
    }

    fn bytes_max(&self) -> usize {
        EFFECT_OVERHEAD_BYTES
            + match self {
                Effect::Put { key, value, .. } => key.len() + value.len(),
                Effect::Delete { key, .. } => key.len(),
                Effect::DeleteRange { span, .. } => span.bytes(),
                Effect::DeleteAttached { .. } => 0,
            }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut open = |kind: u8, operation: u32, key: &[u8]| {
            out.push(kind);
            put_varint(out, u64::from(operation));
            put_bytes(out, key);
        };
        match self {
            Effect::Put { operation, key, value, lease, create_revision, version } => {
                let kind = if create_revision.is_some() { PUT_CREATED_BEFORE } else { PUT_CREATED_NOW };
                open(kind, *operation, key);
                if let Some(revision) = create_revision {
                    put_varint(out, revision.get());
                }
                put_varint(out, *version);
                put_varint(out, lease.get() as u64);
                put_bytes(out, value);
            }
            Effect::Delete { operation, key } => open(DELETE, *operation, key),
            Effect::DeleteRange { operation, span: Span::Between(first, end) } => {
                open(DELETE_BETWEEN, *operation, first);
                put_bytes(out, end);
            }
            Effect::DeleteRange { operation, span: Span::From(first) } => open(DELETE_FROM, *operation, first),
            Effect::DeleteRange { span: Span::Key(_), .. } => unreachable!("a single key is deleted by Delete"),
            Effect::DeleteAttached { operation, lease } => {
                out.push(DELETE_ATTACHED);
                put_varint(out, u64::from(*operation));
                put_varint(out, lease.get() as u64);
            }
        }
    }

    fn decode(payload: &Bytes, reader: &mut Reader<'_>) -> Result<Effect, Malformed> {
        let kind = reader.u8()?;
        let operation = u32::try_from(reader.varint()?).map_err(|_| Malformed)?;
        if kind == DELETE_ATTACHED {
            return Ok(Effect::DeleteAttached { operation, lease: LeaseId(reader.varint()? as i64) });
        }
        let key = payload.slice_ref(reader.string()?);
        match kind {
            PUT_CREATED_NOW | PUT_CREATED_BEFORE => {
                let create_revision = match kind {
                    PUT_CREATED_BEFORE => Some(Revision(reader.varint()?)),
                    _ => None,
                };
                let version = reader.varint()?;
                let lease = LeaseId(reader.varint()? as i64);
                let value = payload.slice_ref(reader.string()?);
                Ok(Effect::Put { operation, key, value, lease, create_revision, version })
            }
            DELETE => Ok(Effect::Delete { operation, key }),
            DELETE_BETWEEN => {
                let end = payload.slice_ref(reader.string()?);
                Ok(Effect::DeleteRange { operation, span: Span::Between(key, end) })
            }
            DELETE_FROM => Ok(Effect::DeleteRange { operation, span: Span::From(key) }),
            _ => Err(Malformed),
        }
    }
}

/// The most bytes that these effects take in a payload.
pub fn encoded_bytes_max(effects: &[Effect]) -> usize {
    effects.iter().map(Effect::bytes_max).sum()
}

/// Appends these effects to a payload.
pub fn encode_into(effects: &[Effect], out: &mut Vec<u8>) {
    let mut last = 0;
    for effect in effects {
        assert!(effect.operation() >= last, "effects stand in the order of their operations");
        last = effect.operation();
        effect.encode(out);
    }
}

/// The payload of an entry with these effects.
pub fn encode(effects: &[Effect]) -> Bytes {
    let mut out = Vec::with_capacity(encoded_bytes_max(effects));
    encode_into(effects, &mut out);
    Bytes::from(out)
}

/// The effects in a payload; keys and values share its memory.
pub fn decode(payload: &Bytes) -> Result<Vec<Effect>, Malformed> {
    let mut reader = Reader::new(payload);
    let mut effects = Vec::with_capacity(1);
    let mut last = 0;
    while !reader.is_empty() {
        let effect = Effect::decode(payload, &mut reader)?;
        if effect.operation() < last {
            return Err(Malformed);
        }
        last = effect.operation();
        effects.push(effect);
    }
    Ok(effects)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effects() -> Vec<Effect> {
        let bytes = Bytes::from_static;
        vec![
            Effect::Put {
                operation: 0,
                key: bytes(b"k"),
                value: Bytes::from(vec![7; 300]),
                lease: LeaseId(-1),
                create_revision: None,
                version: 1,
            },
            Effect::Put {
                operation: 1,
                key: bytes(b"k2"),
                value: bytes(b""),
                lease: LeaseId::NONE,
                create_revision: Some(Revision(u64::MAX)),
                version: u64::MAX,
            },
            Effect::Delete { operation: 2, key: bytes(b"x") },
            Effect::Delete { operation: 2, key: bytes(b"y") },
            Effect::DeleteRange { operation: 4, span: Span::Between(bytes(b"a"), bytes(b"b")) },
            Effect::DeleteRange { operation: u32::MAX, span: Span::From(bytes(b"")) },
            Effect::DeleteAttached { operation: u32::MAX, lease: LeaseId(i64::MIN) },
        ]
    }

    #[test]
    fn effects_come_back_and_share_the_payload() {
        let payload = encode(&effects());
        let decoded = decode(&payload).unwrap();
        assert_eq!(decoded, effects());
        let Effect::Put { value, .. } = &decoded[0] else { panic!("the first is a put") };
        assert!(payload.as_ptr_range().contains(&value.as_ptr()));
    }

    #[test]
    fn damaged_payloads_are_refused() {
        let payload = encode(&effects());
        let whole: Vec<usize> = (0..effects().len()).map(|n| encode(&effects()[..n]).len()).collect();
        for len in 0..payload.len() {
            assert_eq!(decode(&payload.slice(..len)).is_ok(), whole.contains(&len));
        }
        assert_eq!(decode(&Bytes::from_static(&[9, 0, 0])), Err(Malformed));
        let out_of_order = [encode(&effects()[4..5]), encode(&effects()[..1])].concat();
        assert_eq!(decode(&Bytes::from(out_of_order)), Err(Malformed));
    }
}
