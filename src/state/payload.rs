//! What a log entry carries: one tag byte, then the record of the part of the state that it is for.
//!
//! ```text
//! 0 kv effects     state::kv's own record: this group's part of one revision
//! 1 barrier        varint term, configuration bytes          (rule 9; appended by a new leader in every group)
//! 2 compaction     varint revision                           (rule 16; in group 0 first, then in every data group)
//! 3 meta           state::meta's own record: leases, alarms, members (group 0 alone)
//! ```

use bytes::Bytes;

use crate::base::wire::{Malformed, Reader, put_varint};
use crate::base::{Revision, Term};
use crate::raft::Configuration;

use super::kv;
use super::meta::MetaEffect;

/// The tag of kv effects.
const KV: u8 = 0;
const BARRIER: u8 = 1;
const COMPACTION: u8 = 2;
const META: u8 = 3;

/// A log entry's payload, told apart by its tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// This group's part of a revision; `state::kv` decodes it.
    Kv(Bytes),
    /// The first entry of a term.
    Barrier {
        /// The term that it opens.
        term: Term,
        /// The cluster's configuration as of the takeover.
        configuration: Bytes,
    },
    /// Everything that no read at this revision or above needs may go.
    Compaction(Revision),
    /// A change of group 0's state.
    Meta(MetaEffect),
}

impl Payload {
    /// The bytes for the log.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(32);
        match self {
            Payload::Kv(record) => {
                out.push(KV);
                out.extend_from_slice(record);
            }
            Payload::Barrier { term, configuration } => {
                out.push(BARRIER);
                put_varint(&mut out, term.get());
                out.extend_from_slice(configuration);
            }
            Payload::Compaction(revision) => {
                out.push(COMPACTION);
                put_varint(&mut out, revision.get());
            }
            Payload::Meta(effect) => {
                out.push(META);
                effect.encode(&mut out);
            }
        }
        out.into()
    }

    /// The bytes for the log of a group's part of a revision.
    pub fn encode_kv(effects: &[kv::Effect]) -> Bytes {
        let mut out = Vec::with_capacity(1 + kv::encoded_bytes_max(effects));
        out.push(KV);
        kv::encode_into(effects, &mut out);
        out.into()
    }

    /// The configuration that an entry without a revision carries, if it carries one.
    pub fn configuration(bytes: &[u8]) -> Option<Configuration> {
        let mut reader = Reader::new(bytes);
        if reader.u8() != Ok(BARRIER) {
            return None;
        }
        reader.varint().ok()?;
        Configuration::decode(reader.rest()).ok()
    }

    /// The payload that these bytes are; the kv record shares their memory.
    ///
    /// # Errors
    /// [`Malformed`] when the tag is unknown or a field is cut off.
    pub fn decode(bytes: &Bytes) -> Result<Payload, Malformed> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            KV => Ok(Payload::Kv(bytes.slice(1..))),
            BARRIER => {
                let term = Term(reader.varint()?);
                Ok(Payload::Barrier { term, configuration: bytes.slice_ref(reader.rest()) })
            }
            COMPACTION => Ok(Payload::Compaction(Revision(reader.varint()?))),
            META => Ok(Payload::Meta(MetaEffect::decode(&mut reader)?)),
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::LeaseId;

    #[test]
    fn payloads_come_back() {
        for payload in [
            Payload::Kv(Bytes::from_static(b"record")),
            Payload::Barrier { term: Term(7), configuration: Bytes::from_static(b"c") },
            Payload::Compaction(Revision(9)),
            Payload::Meta(MetaEffect::LeaseRevoke { id: LeaseId(-4) }),
        ] {
            assert_eq!(Payload::decode(&payload.encode()), Ok(payload));
        }
        assert_eq!(Payload::decode(&Bytes::from_static(b"\x09")), Err(Malformed));
        assert_eq!(Payload::decode(&Bytes::new()), Err(Malformed));
    }
}
