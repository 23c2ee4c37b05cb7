//! Finding batches in the bytes of a segment.

use crate::base::limits::BLOCK_BYTES;

use super::header::{BatchHeader, HEADER_BYTES, NotAHeader};
use super::name::SegmentName;

/// What a batch of this segment is known by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub segment: SegmentName,
    /// `None` until a first batch of the WAL has been read.
    pub salt: Option<u64>,
}

impl Identity {
    fn owns(&self, header: &BatchHeader) -> bool {
        header.segment == self.segment && self.salt.is_none_or(|salt| salt == header.salt)
    }
}

/// A batch with sound crcs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch<'a> {
    pub header: BatchHeader,
    pub crc: u32,
    pub payload: &'a [u8],
}

/// What is at an offset of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'a> {
    /// A batch, sound.
    Batch(Batch<'a>),
    /// No header of this segment: zeros, or what an earlier use of the file left.
    Nothing,
    /// Most of a header of this segment.
    Resembling,
    /// A header of this segment before content that does not match it.
    BadPayload(BatchHeader),
    /// A header of this segment whose batch is longer than the rest of the file.
    Overrun(BatchHeader),
    /// A header of another format.
    Format(u16),
}

/// What is at `offset` of `bytes`.
pub(super) fn read(bytes: &[u8], offset: usize, identity: Identity) -> Found<'_> {
    let Some(rest) = bytes.get(offset..) else { return Found::Nothing };
    let (header, crc) = match BatchHeader::decode(rest) {
        Ok((header, crc)) if identity.owns(&header) => (header, crc),
        Ok(_) => return Found::Nothing,
        Err(NotAHeader::Format(format)) => return Found::Format(format),
        Err(NotAHeader::Bad) if BatchHeader::resembles(rest, identity.segment, identity.salt) => return Found::Resembling,
        Err(NotAHeader::Bad) => return Found::Nothing,
    };
    let Some(batch) = rest.get(..header.padded_bytes()) else { return Found::Overrun(header) };
    if crc32fast::hash(&batch[HEADER_BYTES..]) != header.payload_crc {
        return Found::BadPayload(header);
    }
    Found::Batch(Batch { header, crc, payload: &batch[HEADER_BYTES..header.bytes as usize] })
}

/// The first block at or behind `from` with a sound header of this segment.
pub(super) fn find_later(bytes: &[u8], from: usize, identity: Identity) -> Option<usize> {
    let blocks = (from..bytes.len()).step_by(BLOCK_BYTES);
    blocks.into_iter().find(|&offset| BatchHeader::decode(&bytes[offset..]).is_ok_and(|(header, _)| identity.owns(&header)))
}
