//! The content of a segment as plain data, for people and tools: it reads on behind damage where recovery stops.

use crate::base::limits::BLOCK_BYTES;
use crate::base::wire::Reader;

use super::header::{BatchHeader, BatchKind};
use super::name::SegmentName;
use super::record::{self, RawRecord, Record};
use super::scan::{self, Found, Identity};
use super::state::StateBatch;

/// One thing found in a segment, in order of offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Described {
    /// A batch with sound crcs.
    Batch {
        /// Where it begins.
        offset: u64,
        /// Its header.
        header: BatchHeader,
        /// What it holds.
        content: Content,
    },
    /// No sound batch where one would begin. When another item follows, this is damage; at the end, the log's end or a torn tail.
    Stop {
        /// Where.
        offset: u64,
        /// What is there.
        sight: Sight,
    },
}

/// What a batch holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The state at the head of a segment.
    State(Box<StateBatch>),
    /// Records.
    Records(Vec<Record>),
    /// Nothing.
    Seal,
    /// What no writer writes, under a matching crc.
    Malformed,
}

/// What stands where a batch would begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Only zeros up to the end of the file.
    Zeros,
    /// Nothing of this segment: what an earlier use of the file left.
    Stale,
    /// Most of a header.
    Header,
    /// A header whose batch does not match it, or is longer than the file.
    Batch(BatchHeader),
    /// A header of another format.
    Format(u16),
    /// The end of the file.
    EndOfFile,
}

/// Walks the bytes of the segment's file. Without a name, the first block's header says what the segment is.
pub fn describe(name: Option<SegmentName>, bytes: &[u8]) -> impl Iterator<Item = Described> {
    let first = BatchHeader::decode(bytes).ok().map(|(header, _)| header);
    let segment = name.or(first.map(|header| header.segment));
    let salt = first.filter(|header| Some(header.segment) == segment).map(|header| header.salt);
    let mut next = segment.map(|segment| (0, Identity { segment, salt }));
    let mut stop_without_name = segment.is_none();
    std::iter::from_fn(move || {
        if std::mem::take(&mut stop_without_name) {
            return Some(Described::Stop { offset: 0, sight: Sight::Stale });
        }
        let (offset, identity) = next.take()?;
        let found = scan::read(bytes, offset, identity);
        if let Found::Batch(batch) = found {
            next = Some((offset + batch.header.padded_bytes(), identity));
            let content = content(batch.header, batch.payload);
            return Some(Described::Batch { offset: offset as u64, header: batch.header, content });
        }
        let skipped = match found {
            Found::BadPayload(header) => header.padded_bytes(),
            _ => BLOCK_BYTES,
        };
        next = scan::find_later(bytes, offset + skipped, identity).map(|later| (later, identity));
        Some(Described::Stop { offset: offset as u64, sight: sight(found, bytes, offset) })
    })
}

fn sight(found: Found<'_>, bytes: &[u8], offset: usize) -> Sight {
    let rest = bytes.get(offset..).unwrap_or_default();
    match found {
        Found::Nothing if rest.is_empty() => Sight::EndOfFile,
        Found::Nothing if rest.iter().all(|&byte| byte == 0) => Sight::Zeros,
        Found::Nothing => Sight::Stale,
        Found::Resembling => Sight::Header,
        Found::BadPayload(header) | Found::Overrun(header) => Sight::Batch(header),
        Found::Format(format) => Sight::Format(format),
        Found::Batch(_) => unreachable!("the caller takes batches itself"),
    }
}

fn content(header: BatchHeader, payload: &[u8]) -> Content {
    match header.kind {
        BatchKind::Seal => Content::Seal,
        BatchKind::State => StateBatch::decode(payload).map_or(Content::Malformed, |state| Content::State(Box::new(state))),
        BatchKind::Records => {
            let mut r = Reader::new(payload);
            let records: Result<Vec<Record>, _> =
                (0..header.records).map(|_| record::decode(&mut r).map(RawRecord::to_record)).collect();
            records.map_or(Content::Malformed, Content::Records)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::rig_test::*;

    #[test]
    fn a_segment_is_described_and_read_on_behind_damage() {
        let mut rig = Rig::new(&[1]);
        rig.fill(1, 3, 6000);
        let seal = rig.writer.seal_tail(rig.known).unwrap();
        rig.write(seal);
        let file = segment(1, 0, 1);
        let bytes = rig.disk.files[&file].clone();
        let items: Vec<Described> = describe(None, &bytes).collect();
        let Described::Batch { offset: 0, content: Content::State(state), .. } = &items[0] else { panic!("{items:?}") };
        assert_eq!((state.cluster, state.state.groups.len()), (IDS.0, 1));
        let Described::Batch { content: Content::Records(records), header, .. } = &items[2] else { panic!("{items:?}") };
        assert_eq!((records, header.batch.0), (&vec![put(1, 1, 2, &[2; 6000])], 3));
        let Described::Batch { content: Content::Seal, .. } = &items[4] else { panic!("{items:?}") };
        assert_eq!(items[5..], [Described::Stop { offset: 32768, sight: Sight::Zeros }]);
        rig.disk.flip(file, rig.batches[2].1 + 300, 0);
        let damaged: Vec<Described> = describe(Some(file), &rig.disk.files[&file]).collect();
        assert!(matches!(damaged[2], Described::Stop { offset: 12288, sight: Sight::Batch(h) } if h.batch.0 == 3));
        assert_eq!(damaged[3], items[3]);
        assert_eq!(describe(None, &[7; 8192]).count(), 1);
        assert_eq!(describe(None, &[]).count(), 1);
    }
}
