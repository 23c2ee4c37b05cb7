//! One WAL read from its first segment at hand to its end: the decision table of the module's docs.

use crate::base::limits::BLOCK_BYTES;
use crate::base::{BatchNumber, SegmentSequence};

use super::damage::{Damage, Later, What};
use super::gather::{Gathered, Place};
use super::header::BatchKind;
use super::name::SegmentName;
use super::recovery::CutTail;
use super::scan::{self, Batch, Found, Identity};
use super::state::RunEnd;

/// Where reading a WAL has come to.
#[derive(Debug)]
pub(super) struct Cursor {
    first: SegmentName,
    /// For a WAL of an earlier run: where it ended.
    end: Option<RunEnd>,
    salt: Option<u64>,
    last: Option<RunEnd>,
    /// Where the next batch would stand, and what is there instead.
    tail: Option<Tail>,
    /// The first segment in which nothing was found.
    empty: Option<SegmentName>,
    reached: bool,
    #[cfg(test)]
    pub torn_tail_accepted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Tail {
    segment: SegmentName,
    offset: usize,
    torn: Option<Torn>,
}

/// Signs of a batch that is not sound.
#[derive(Clone, Copy, Debug)]
struct Torn {
    bytes: usize,
    header_sound: bool,
}

impl Tail {
    fn damage(&self, later: Later) -> Damage {
        let what = match self.torn {
            Some(Torn { header_sound: true, .. }) => What::Payload { later },
            _ => What::Header { later },
        };
        Damage::at(self.segment, self.offset, what)
    }
}

impl Cursor {
    pub(super) fn new(first: SegmentName, end: Option<RunEnd>) -> Cursor {
        Cursor {
            first,
            end,
            salt: None,
            last: None,
            tail: None,
            empty: None,
            reached: false,
            #[cfg(test)]
            torn_tail_accepted: false,
        }
    }

    pub(super) fn reads(&self, segment: SegmentName) -> bool {
        self.first.wal == segment.wal
    }

    fn identity(&self, segment: SegmentName) -> Identity {
        Identity { segment, salt: self.salt }
    }

    /// Reads a segment: all of its batches up to the end of the WAL.
    pub(super) fn segment(&mut self, segment: SegmentName, bytes: &[u8], out: &mut Gathered) -> Result<(), Damage> {
        assert!(self.reads(segment) && !self.reached, "the segments of one WAL, up to its end");
        if bytes.is_empty() || !bytes.len().is_multiple_of(BLOCK_BYTES) {
            return Err(Damage::at(segment, bytes.len(), What::Truncated { bytes: bytes.len() as u64 }));
        }
        let mut offset = 0;
        while offset < bytes.len() {
            match scan::read(bytes, offset, self.identity(segment)) {
                Found::Batch(batch) => {
                    self.batch(&batch, segment, offset, bytes.len(), out)?;
                    offset += batch.header.padded_bytes();
                }
                Found::Format(format) if offset == 0 => return Err(Damage::at(segment, 0, What::Format(format))),
                other => return self.stop(other, segment, offset, bytes, out),
            }
            if self.reached {
                return Ok(());
            }
        }
        self.tail = Some(Tail { segment, offset, torn: None });
        Ok(())
    }

    fn batch(
        &mut self,
        batch: &Batch<'_>,
        segment: SegmentName,
        offset: usize,
        file_bytes: usize,
        out: &mut Gathered,
    ) -> Result<(), Damage> {
        let header = &batch.header;
        if offset == 0 {
            self.goes_on(segment)?;
        }
        if (offset == 0) != (header.kind == BatchKind::State) {
            return Err(Damage::at(segment, offset, What::StateMisplaced));
        }
        let follows = self.last.is_some();
        if follows || segment.sequence == SegmentSequence(1) {
            let (number, crc) = self.last.map_or((BatchNumber(0), 0), |last| (last.batch, last.crc));
            let expected = BatchNumber(number.0.wrapping_add(1));
            if header.batch != expected {
                let place = self.tail.map_or((segment, offset), |tail| (tail.segment, tail.offset));
                return Err(Damage::at(place.0, place.1, What::BatchGap { expected, found: header.batch }));
            }
            if header.previous_crc != crc {
                return Err(Damage::at(segment, offset, What::Chain));
            }
        }
        self.tail = None;
        self.salt = Some(header.salt);
        let here = RunEnd { wal: segment.wal, sequence: segment.sequence, batch: header.batch, crc: batch.crc };
        self.last = Some(here);
        if let Some(end) = self.end {
            if header.batch > end.batch || (header.batch == end.batch && here != end) {
                return Err(Damage::at(segment, offset, What::EndDiffers));
            }
            self.reached = header.batch == end.batch;
        }
        out.batch(batch, Place { segment, offset, file_bytes, follows })
    }

    /// A header of the WAL stands at the head of this segment: everything before it must have been whole.
    fn goes_on(&self, segment: SegmentName) -> Result<(), Damage> {
        if let Some(empty) = self.empty {
            return Err(Damage::at(empty, 0, What::EmptySegment));
        }
        match self.tail {
            Some(tail) if tail.torn.is_some() => Err(tail.damage(Later { file: segment, offset: 0 })),
            _ => Ok(()),
        }
    }

    /// No sound batch stands here: the end of the WAL, a torn tail, or damage.
    fn stop(
        &mut self,
        found: Found<'_>,
        segment: SegmentName,
        offset: usize,
        bytes: &[u8],
        out: &mut Gathered,
    ) -> Result<(), Damage> {
        if let Some(end) = self.end.filter(|end| end.sequence == segment.sequence) {
            return Err(Damage::at(segment, offset, What::EndNotReached { batch: end.batch }));
        }
        let torn = match found {
            Found::BadPayload(header) => Some(Torn { bytes: header.padded_bytes(), header_sound: true }),
            Found::Resembling => Some(Torn { bytes: BLOCK_BYTES, header_sound: false }),
            Found::Overrun(_) => {
                return Err(Damage::at(segment, bytes.len(), What::Truncated { bytes: bytes.len() as u64 }));
            }
            Found::Nothing | Found::Format(_) => None,
            Found::Batch(_) => unreachable!("the caller takes batches itself"),
        };
        let tail = Tail { segment, offset, torn };
        let search_from = offset + torn.map_or(BLOCK_BYTES, |torn| torn.bytes);
        if let Some(later) = scan::find_later(bytes, search_from, self.identity(segment)) {
            return Err(tail.damage(Later { file: segment, offset: later as u64 }));
        }
        if offset > 0 {
            self.tail = Some(tail);
        } else {
            if torn.is_some_and(|torn| torn.header_sound) {
                self.goes_on(segment)?;
            }
            if torn.is_some() && self.tail.is_none_or(|tail| tail.torn.is_none()) {
                self.tail = Some(tail);
            }
            self.empty = self.empty.or(Some(segment));
        }
        self.accept_if_mutant(found, segment, offset, bytes, out);
        Ok(())
    }

    #[cfg(not(test))]
    fn accept_if_mutant(&self, _: Found<'_>, _: SegmentName, _: usize, _: &[u8], _: &mut Gathered) {}

    #[cfg(test)]
    fn accept_if_mutant(&self, found: Found<'_>, segment: SegmentName, offset: usize, bytes: &[u8], out: &mut Gathered) {
        if let Found::BadPayload(header) = found
            && self.torn_tail_accepted
            && offset > 0
        {
            let payload = &bytes[offset + super::header::HEADER_BYTES..offset + header.bytes as usize];
            out.torn_batch(payload, Place { segment, offset, file_bytes: bytes.len(), follows: true });
        }
    }

    /// The WAL's end, once its last segment at hand has been read.
    pub(super) fn close(self) -> Result<(RunEnd, Option<CutTail>), Damage> {
        if let Some(end) = self.end {
            if self.reached {
                return Ok((end, None));
            }
            let place = self.tail.map_or((self.first, 0), |tail| (tail.segment, tail.offset));
            return Err(Damage::at(place.0, place.1, What::EndNotReached { batch: end.batch }));
        }
        if self.last.is_none() && self.first.sequence != SegmentSequence(1) {
            return Err(Damage::at(self.first, 0, What::EmptySegment));
        }
        let nothing = RunEnd { wal: self.first.wal, sequence: SegmentSequence(0), batch: BatchNumber(0), crc: 0 };
        let cut = self.tail.and_then(|tail| {
            tail.torn.map(|torn| CutTail { file: tail.segment, offset: tail.offset as u64, bytes: torn.bytes as u64 })
        });
        Ok((self.last.unwrap_or(nothing), cut))
    }
}
