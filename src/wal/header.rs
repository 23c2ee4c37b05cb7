//! The header of a batch: 96 bytes at the start of a block, little-endian.
//!
//! ```text
//!  0 magic        8   "etcrwal\n"
//!  8 format       2   1
//! 10 kind         2   0 records, 1 state, 2 seal
//! 12 header crc   4   of these 96 bytes with this field as zero
//! 16 payload crc  4   of everything from byte 96 to the end of the batch's last block
//! 20 previous crc 4   the header crc of the batch before, also over a segment's edge; 0 for a WAL's first
//! 24 bytes        4   header and records; up to the next block come zeros
//! 28 records      4   how many
//! 32 run          8   \
//! 40 salt         8    > the WAL: a run's salt is drawn at random, so no client can write a batch into a value
//! 48 segment      8   /
//! 56 batch        8   counted from 1 over the whole WAL
//! 64 known stable 8
//! 72 serving (V)  8
//! 80 meta applied 8   group 0's applied index
//! 88 core         2
//! 90 zero         6
//! ```
//!
//! The header crc covers the payload crc, so the chain of header crcs covers every byte.

use crate::base::limits::{BATCH_BYTES_MAX, BLOCK_BYTES};
use crate::base::{BatchNumber, CoreId, Index, Revision, RunNumber, SegmentSequence};

use super::name::{SegmentName, WalId};

/// The format that this build writes and reads.
pub const FORMAT: u16 = 1;

pub(super) const HEADER_BYTES: usize = 96;
const MAGIC: u64 = u64::from_le_bytes(*b"etcrwal\n");

/// What a member knows about itself, in every header (rules 12 and 17). Each part only rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The highest revision known to be stable.
    pub stable: Revision,
    /// V: the serving revision, of applied state only.
    pub serving: Revision,
    /// Group 0's applied index.
    pub meta_applied: Index,
}

impl Known {
    /// The higher of each part.
    #[must_use]
    pub fn max(self, other: Known) -> Known {
        Known {
            stable: self.stable.max(other.stable),
            serving: self.serving.max(other.serving),
            meta_applied: self.meta_applied.max(other.meta_applied),
        }
    }
}

/// What a batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchKind {
    /// Records.
    Records,
    /// The state at the head of a segment (rule 17).
    State,
    /// Nothing: the batch before is thereby known to have been written whole.
    Seal,
}

/// A batch's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The segment that it was written for.
    pub segment: SegmentName,
    /// The run's random number.
    pub salt: u64,
    /// Its place in the WAL.
    pub batch: BatchNumber,
    /// What it holds.
    pub kind: BatchKind,
    /// Header and records, without the zeros up to the next block.
    pub bytes: u32,
    /// How many records.
    pub records: u32,
    /// Over everything behind the header.
    pub payload_crc: u32,
    /// The header crc of the batch before.
    pub previous_crc: u32,
    /// What the member knew.
    pub known: Known,
}

/// Why 96 bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotAHeader {
    /// No magic, or a crc that is wrong.
    Bad,
    /// A header of another format.
    Format(u16),
}

impl BatchHeader {
    /// What the batch takes in the segment.
    pub fn padded_bytes(&self) -> usize {
        (self.bytes as usize).next_multiple_of(BLOCK_BYTES)
    }

    /// Writes the header into `out` and returns its crc.
    pub(super) fn encode(&self, out: &mut [u8; HEADER_BYTES]) -> u32 {
        debug_assert!(self.bytes as usize >= HEADER_BYTES && self.bytes as usize <= BATCH_BYTES_MAX);
        out.fill(0);
        out[0..8].copy_from_slice(&MAGIC.to_le_bytes());
        out[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        let kind: u16 = match self.kind {
            BatchKind::Records => 0,
            BatchKind::State => 1,
            BatchKind::Seal => 2,
        };
        out[10..12].copy_from_slice(&kind.to_le_bytes());
        out[16..20].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[20..24].copy_from_slice(&self.previous_crc.to_le_bytes());
        out[24..28].copy_from_slice(&self.bytes.to_le_bytes());
        out[28..32].copy_from_slice(&self.records.to_le_bytes());
        out[32..40].copy_from_slice(&self.segment.wal.run.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.salt.to_le_bytes());
        out[48..56].copy_from_slice(&self.segment.sequence.0.to_le_bytes());
        out[56..64].copy_from_slice(&self.batch.0.to_le_bytes());
        out[64..72].copy_from_slice(&self.known.stable.0.to_le_bytes());
        out[72..80].copy_from_slice(&self.known.serving.0.to_le_bytes());
        out[80..88].copy_from_slice(&self.known.meta_applied.0.to_le_bytes());
        out[88..90].copy_from_slice(&self.segment.wal.core.0.to_le_bytes());
        let crc = crc32fast::hash(out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// The header at the start of `block` and its crc.
    pub(super) fn decode(block: &[u8]) -> Result<(BatchHeader, u32), NotAHeader> {
        let head: &[u8; HEADER_BYTES] = block.first_chunk().ok_or(NotAHeader::Bad)?;
        if u64_at(head, 0) != MAGIC {
            return Err(NotAHeader::Bad);
        }
        let crc = u32_at(head, 12);
        let mut zeroed = *head;
        zeroed[12..16].fill(0);
        let sound = crc32fast::hash(&zeroed) == crc;
        let format = u16_at(head, 8);
        if format != FORMAT {
            return Err(if sound { NotAHeader::Format(format) } else { NotAHeader::Bad });
        }
        let kind = match u16_at(head, 10) {
            0 => BatchKind::Records,
            1 => BatchKind::State,
            2 => BatchKind::Seal,
            _ => return Err(NotAHeader::Bad),
        };
        let header = BatchHeader {
            segment: SegmentName {
                wal: WalId { run: RunNumber(u64_at(head, 32)), core: CoreId(u16_at(head, 88)) },
                sequence: SegmentSequence(u64_at(head, 48)),
            },
            salt: u64_at(head, 40),
            batch: BatchNumber(u64_at(head, 56)),
            kind,
            bytes: u32_at(head, 24),
            records: u32_at(head, 28),
            payload_crc: u32_at(head, 16),
            previous_crc: u32_at(head, 20),
            known: Known {
                stable: Revision(u64_at(head, 64)),
                serving: Revision(u64_at(head, 72)),
                meta_applied: Index(u64_at(head, 80)),
            },
        };
        let bounded = (HEADER_BYTES..=BATCH_BYTES_MAX).contains(&(header.bytes as usize));
        if sound && bounded { Ok((header, crc)) } else { Err(NotAHeader::Bad) }
    }

    /// Whether a block that is no header has most of one of this segment: a header with something flipped or torn.
    pub(super) fn resembles(block: &[u8], segment: SegmentName, salt: Option<u64>) -> bool {
        let Some(head) = block.first_chunk::<HEADER_BYTES>() else { return false };
        let signs = [
            u64_at(head, 0) == MAGIC,
            u64_at(head, 32) == segment.wal.run.0 && u16_at(head, 88) == segment.wal.core.0,
            salt.map_or(u64_at(head, 40) != 0, |salt| u64_at(head, 40) == salt),
            u64_at(head, 48) == segment.sequence.0,
        ];
        signs.iter().filter(|&&sign| sign).count() >= 3
    }
}

fn u16_at(head: &[u8; HEADER_BYTES], at: usize) -> u16 {
    u16::from_le_bytes([head[at], head[at + 1]])
}

fn u32_at(head: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| head[at + i]))
}

fn u64_at(head: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| head[at + i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> BatchHeader {
        BatchHeader {
            segment: SegmentName { wal: WalId { run: RunNumber(3), core: CoreId(1) }, sequence: SegmentSequence(2) },
            salt: 0xDEAD_BEEF,
            batch: BatchNumber(9),
            kind: BatchKind::Records,
            bytes: 5000,
            records: 4,
            payload_crc: 1,
            previous_crc: 2,
            known: Known { stable: Revision(5), serving: Revision(4), meta_applied: Index(3) },
        }
    }

    #[test]
    fn a_header_comes_back_and_every_flipped_bit_is_seen() {
        let mut bytes = [0; HEADER_BYTES];
        let crc = sample().encode(&mut bytes);
        assert_eq!(BatchHeader::decode(&bytes), Ok((sample(), crc)));
        assert_eq!(sample().padded_bytes(), 8192);
        for bit in 0..HEADER_BYTES * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BatchHeader::decode(&bytes), Err(NotAHeader::Bad), "bit {bit}");
            assert!(BatchHeader::resembles(&bytes, sample().segment, Some(0xDEAD_BEEF)), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(BatchHeader::decode(&bytes[..95]).is_err());
        assert!(!BatchHeader::resembles(&[0; 4096], sample().segment, Some(1)));
    }

    #[test]
    fn another_format_is_told_from_damage() {
        let mut bytes = [0; HEADER_BYTES];
        sample().encode(&mut bytes);
        bytes[8] = 2;
        bytes[12..16].fill(0);
        let crc = crc32fast::hash(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(BatchHeader::decode(&bytes), Err(NotAHeader::Format(2)));
    }
}
