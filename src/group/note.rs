//! What a checkpoint says of itself, in the meta page that makes it durable.

use crate::base::wire::{Malformed, Reader, put_varint};
use crate::base::{ClusterId, GroupId, Index, MemberId, Revision, Term};

/// The checkpoint's note.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Note {
    /// Whose file it is.
    pub cluster: ClusterId,
    /// Whose file it is.
    pub member: MemberId,
    /// Which group's.
    pub group: GroupId,
    /// How many shards the cluster has: keys lie by it.
    pub shards: u16,
    /// Every entry up to here is in the checkpoint, and none above.
    pub applied: Index,
    /// The term of that entry.
    pub applied_term: Term,
    /// The highest revision of its own that the group has applied.
    pub applied_revision: Revision,
    /// What was known to be stable when it was made (rule 6).
    pub known_stable: Revision,
    /// The compaction revision that has taken effect here (rule 16).
    pub floor: Revision,
    /// The compaction revision up to which nothing removable is left.
    pub sliced: Revision,
}

const FORMAT: u64 = 1;

impl Note {
    /// The bytes for the meta page.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        for field in [
            FORMAT,
            self.cluster.get(),
            self.member.get(),
            u64::from(self.group.get()),
            u64::from(self.shards),
            self.applied.get(),
            self.applied_term.get(),
            self.applied_revision.get(),
            self.known_stable.get(),
            self.floor.get(),
            self.sliced.get(),
        ] {
            put_varint(&mut out, field);
        }
        out
    }

    /// The note that these bytes are.
    ///
    /// # Errors
    /// [`Malformed`] when a field is missing or the format is not this program's.
    pub fn decode(bytes: &[u8]) -> Result<Note, Malformed> {
        let mut r = Reader::new(bytes);
        if r.varint()? != FORMAT {
            return Err(Malformed);
        }
        let small = |r: &mut Reader<'_>| u16::try_from(r.varint()?).map_err(|_| Malformed);
        Ok(Note {
            cluster: ClusterId(r.varint()?),
            member: MemberId(r.varint()?),
            group: GroupId(small(&mut r)?),
            shards: small(&mut r)?,
            applied: Index(r.varint()?),
            applied_term: Term(r.varint()?),
            applied_revision: Revision(r.varint()?),
            known_stable: Revision(r.varint()?),
            floor: Revision(r.varint()?),
            sliced: Revision(r.varint()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_and_a_cut_one_does_not() {
        let note = Note {
            cluster: ClusterId(u64::MAX),
            member: MemberId(3),
            group: GroupId(4),
            shards: 16,
            applied: Index(5),
            applied_term: Term(6),
            applied_revision: Revision(7),
            known_stable: Revision(8),
            floor: Revision(2),
            sliced: Revision(1),
        };
        let bytes = note.encode();
        assert_eq!(Note::decode(&bytes), Ok(note));
        assert!((0..bytes.len()).all(|len| Note::decode(&bytes[..len]).is_err()));
    }
}
