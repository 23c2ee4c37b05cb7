//! The records of a batch, one behind the other, little-endian.
//!
//! ```text
//! length u32   of what follows
//! kind   u8    1 vote, 2 entry with a revision of this group alone, 3 entry with a revision of several groups,
//!              4 entry without a revision, 5 cut, 6 snapshot mark
//! 1: varint term, u8 voted, u64 member when voted
//! 2: varint group, term, index, revision; payload to the end
//! 3: the same with u128 participants before the payload
//! 4: varint group, term, index, after; payload to the end
//! 5: varint group, after
//! 6: varint group, index, term
//! ```

use bytes::Bytes;

use crate::base::limits::{WAL_GROUPS_MAX, WAL_INDEX_MAX};
use crate::base::wire::{Malformed, Reader};
use crate::base::{Entry, GroupId, GroupSet, Index, Mark, MemberId, Revision, Term};

/// The most bytes of a record without its payload.
pub(super) const FIELDS_BYTES_MAX: usize = 80;

const VOTE: u8 = 1;
const ENTRY_ALONE: u8 = 2;
const ENTRY_SHARED: u8 = 3;
const ENTRY_AFTER: u8 = 4;
const CUT: u8 = 5;
const SNAPSHOT: u8 = 6;

/// One thing that the WAL remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The member's term, and whom it voted for in it (rule 6).
    Vote {
        /// The term.
        term: Term,
        /// The candidate that has the vote, if any has.
        vote: Option<MemberId>,
    },
    /// An entry of a group's log. At an index that the log has already, it replaces that entry and all above it (rule 11).
    Entry {
        /// The group.
        group: GroupId,
        /// The entry.
        entry: Entry,
    },
    /// A group's log ends at `after`: the entries above it are gone (rule 9).
    Cut {
        /// The group.
        group: GroupId,
        /// The last index that stays.
        after: Index,
    },
    /// A snapshot took the place of a group's whole log, which goes on behind it.
    Snapshot {
        /// The group.
        group: GroupId,
        /// The index that the snapshot stands for.
        index: Index,
        /// The term of that entry.
        term: Term,
    },
}

/// A record's fields, before its payload.
pub(super) struct Fields {
    bytes: [u8; FIELDS_BYTES_MAX],
    len: usize,
}

impl Fields {
    fn new(kind: u8) -> Fields {
        let mut fields = Fields { bytes: [0; FIELDS_BYTES_MAX], len: 5 };
        fields.bytes[4] = kind;
        fields
    }

    #[inline]
    fn varint(mut self, mut value: u64) -> Fields {
        while value >= 0x80 {
            self.bytes[self.len] = value as u8 | 0x80;
            self.len += 1;
            value >>= 7;
        }
        self.bytes[self.len] = value as u8;
        self.len += 1;
        self
    }

    #[inline]
    fn raw<const N: usize>(mut self, bytes: [u8; N]) -> Fields {
        self.bytes[self.len..self.len + N].copy_from_slice(&bytes);
        self.len += N;
        self
    }

    /// With the length in front, `payload` bytes to come included.
    #[inline]
    fn finish(mut self, payload: usize) -> Fields {
        let length = u32::try_from(self.len - 4 + payload).expect("records are shorter than a batch");
        self.bytes[..4].copy_from_slice(&length.to_le_bytes());
        self
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The fields of an entry's record; the payload follows them.
#[inline]
pub(super) fn entry_fields(group: GroupId, entry: &Entry) -> Fields {
    let head = |kind: u8| Fields::new(kind).varint(u64::from(group.0)).varint(entry.term.0).varint(entry.index.0);
    let fields = match entry.mark {
        Mark::Revision { revision, participants } if participants == GroupSet::of(group) => {
            head(ENTRY_ALONE).varint(revision.0)
        }
        Mark::Revision { revision, participants } => head(ENTRY_SHARED).varint(revision.0).raw(participants.0.to_le_bytes()),
        Mark::After(after) => head(ENTRY_AFTER).varint(after.0),
    };
    fields.finish(entry.payload.len())
}

/// The whole of a record that is no entry.
pub(super) fn other_fields(record: &Record) -> Fields {
    match *record {
        Record::Vote { term, vote: Some(member) } => {
            Fields::new(VOTE).varint(term.0).raw([1]).raw(member.0.to_le_bytes()).finish(0)
        }
        Record::Vote { term, vote: None } => Fields::new(VOTE).varint(term.0).raw([0]).finish(0),
        Record::Cut { group, after } => Fields::new(CUT).varint(u64::from(group.0)).varint(after.0).finish(0),
        Record::Snapshot { group, index, term } => {
            Fields::new(SNAPSHOT).varint(u64::from(group.0)).varint(index.0).varint(term.0).finish(0)
        }
        Record::Entry { group, ref entry } => entry_fields(group, entry),
    }
}

/// A record as it lies in a batch: the payload is not copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RawRecord<'a> {
    Vote { term: Term, vote: Option<MemberId> },
    Entry { group: GroupId, term: Term, index: Index, mark: Mark, payload: &'a [u8] },
    Cut { group: GroupId, after: Index },
    Snapshot { group: GroupId, index: Index, term: Term },
}

impl RawRecord<'_> {
    /// The record with a payload of its own.
    pub(super) fn to_record(self) -> Record {
        match self {
            RawRecord::Vote { term, vote } => Record::Vote { term, vote },
            RawRecord::Entry { group, term, index, mark, payload } => {
                Record::Entry { group, entry: Entry { term, index, mark, payload: Bytes::copy_from_slice(payload) } }
            }
            RawRecord::Cut { group, after } => Record::Cut { group, after },
            RawRecord::Snapshot { group, index, term } => Record::Snapshot { group, index, term },
        }
    }
}

/// The next record of a batch.
pub(super) fn decode<'a>(batch: &mut Reader<'a>) -> Result<RawRecord<'a>, Malformed> {
    let length = batch.u32()? as usize;
    let mut r = Reader::new(batch.bytes(length)?);
    let record = match r.u8()? {
        VOTE => {
            let term = Term(r.varint()?);
            let vote = match r.u8()? {
                0 => None,
                1 => Some(MemberId(r.u64()?)),
                _ => return Err(Malformed),
            };
            RawRecord::Vote { term, vote }
        }
        kind @ (ENTRY_ALONE | ENTRY_SHARED | ENTRY_AFTER) => return decode_entry(kind, r),
        CUT => RawRecord::Cut { group: group(&mut r)?, after: index(&mut r)? },
        SNAPSHOT => RawRecord::Snapshot { group: group(&mut r)?, index: index(&mut r)?, term: Term(r.varint()?) },
        _ => return Err(Malformed),
    };
    if r.is_empty() { Ok(record) } else { Err(Malformed) }
}

fn decode_entry(kind: u8, mut r: Reader<'_>) -> Result<RawRecord<'_>, Malformed> {
    let group = group(&mut r)?;
    let term = Term(r.varint()?);
    let index = index(&mut r)?;
    let number = Revision(r.varint()?);
    let mark = match kind {
        ENTRY_ALONE => Mark::Revision { revision: number, participants: GroupSet::of(group) },
        ENTRY_SHARED => {
            let participants = GroupSet(r.u128()?);
            if !participants.has(group) {
                return Err(Malformed);
            }
            Mark::Revision { revision: number, participants }
        }
        _ => Mark::After(number),
    };
    if index == Index::ZERO {
        return Err(Malformed);
    }
    Ok(RawRecord::Entry { group, term, index, mark, payload: r.rest() })
}

/// An index, bounded so that counting on from it never overflows.
pub(super) fn index(r: &mut Reader<'_>) -> Result<Index, Malformed> {
    let index = r.varint()?;
    if index <= WAL_INDEX_MAX { Ok(Index(index)) } else { Err(Malformed) }
}

/// A group's number, bounded.
pub(super) fn group(r: &mut Reader<'_>) -> Result<GroupId, Malformed> {
    let number = r.varint()?;
    if number < WAL_GROUPS_MAX as u64 { Ok(GroupId(number as u16)) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(record: &Record) -> Vec<u8> {
        let mut out = other_fields(record).as_slice().to_vec();
        if let Record::Entry { entry, .. } = record {
            out.extend_from_slice(&entry.payload);
        }
        out
    }

    fn samples() -> Vec<Record> {
        let entry = |mark, payload: &'static [u8]| Record::Entry {
            group: GroupId(127),
            entry: Entry { term: Term(u64::MAX), index: Index(WAL_INDEX_MAX), mark, payload: Bytes::from_static(payload) },
        };
        let revision = Revision(u64::MAX);
        vec![
            Record::Vote { term: Term(u64::MAX), vote: Some(MemberId(u64::MAX)) },
            Record::Vote { term: Term(1), vote: None },
            entry(Mark::Revision { revision, participants: GroupSet::of(GroupId(127)) }, b"effects"),
            entry(Mark::Revision { revision, participants: GroupSet(u128::MAX) }, b""),
            entry(Mark::After(revision), b"x"),
            Record::Cut { group: GroupId(0), after: Index(WAL_INDEX_MAX) },
            Record::Snapshot { group: GroupId(5), index: Index(7), term: Term(2) },
        ]
    }

    #[test]
    fn records_come_back_whole_and_never_from_less() {
        for record in samples() {
            let bytes = encode(&record);
            let mut r = Reader::new(&bytes);
            assert_eq!(decode(&mut r).map(RawRecord::to_record), Ok(record));
            assert!(r.is_empty());
            for end in 0..bytes.len() {
                assert!(decode(&mut Reader::new(&bytes[..end])).is_err());
            }
        }
    }

    #[test]
    fn what_no_writer_writes_is_malformed() {
        for bytes in [
            &[1, 0, 0, 0, 9][..],                                              // an unknown kind
            &[4, 0, 0, 0, 5, 0x80, 0x01, 0],                                   // group 128
            &[5, 0, 0, 0, 2, 1, 1, 0, 1],                                      // index 0
            &[4, 0, 0, 0, 1, 1, 0, 0],                                         // a byte too many
            &[3, 0, 0, 0, 1, 1, 2],                                            // voted: 2
            &[11, 0, 0, 0, 5, 1, 255, 255, 255, 255, 255, 255, 255, 255, 127], // an index above its bound
            &[0, 0, 0, 0],                                                     // nothing
            &[255, 255, 255, 255, 1, 1, 1, 1, 1],                              // longer than what there is
        ] {
            assert_eq!(decode(&mut Reader::new(bytes)), Err(Malformed), "{bytes:?}");
        }
    }
}
