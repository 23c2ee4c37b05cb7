//! The two meta pages: what a checkpoint is made of, and which of the two counts.
//!
//! A meta page is eight sectors of 512 bytes, each with a checksum and the checkpoint's number of its own, and the checkpoint n
//! writes page n mod 2. So an interrupted write (each sector old or new) is told from damage (a sector that is neither):
//!
//! | one page | the other page | what it is |
//! | --- | --- | --- |
//! | checkpoint n after checkpoint m | checkpoint m (never written, if m is 0) | n counts |
//! | checkpoint n | sound sectors that do not belong together, one of them newer | a write was interrupted: n counts |
//! | never written | never written, or sound sectors that do not belong together | no checkpoint was ever finished |
//! | anything else | | damage |
//!
//! A checkpoint that is begun where an earlier try left sectors takes another number than that one had. *Trap: with one number for
//! both, a second interruption may leave the sectors of the first try that differ, and so a whole meta of pages since overwritten.*
//!
//! ```text
//! sector: 0 CRC-32C u32 of the rest | 4 checkpoint u64 | 12 payload, 500 bytes
//! payloads in a row: 0 CRC-32C u32 of the rest | 4 magic | 12 format u32 | 16 page bytes u32 | 20 checkpoint u64 | 28 the one
//!   before it u64 | 36 pages of the file u32 | 40 pages in use u32 | 44 bitmap pages u32 | 48 directory pages u32 | 52 note bytes u32 |
//!   56 trees: (root u32, generation u32, level u32, entries u64, weight u64) each | directories: (page u32, generation u32) each
//!   | note
//! ```

use super::space::DIRECTORIES_MAX;
use super::{Damage, PageId, PageRef, Root, Sums, What};
use crate::base::AlignedBuffer;
use crate::base::limits::{CHECKPOINT_NOTE_BYTES_MAX, PAGE_BYTES, TREES_MAX};
use crate::base::wire::{Malformed, Reader};

pub(super) const FORMAT_VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"etcringP";
const SECTOR_BYTES: usize = 512;
const SECTORS: usize = PAGE_BYTES / SECTOR_BYTES;
const SECTOR_HEADER_BYTES: usize = 12;
const SECTOR_PAYLOAD_BYTES: usize = SECTOR_BYTES - SECTOR_HEADER_BYTES;
const PAYLOAD_BYTES: usize = SECTORS * SECTOR_PAYLOAD_BYTES;
const FIXED_BYTES: usize = 56 + TREES_MAX * 28 + DIRECTORIES_MAX * 8;
const _: () = assert!(FIXED_BYTES + CHECKPOINT_NOTE_BYTES_MAX <= PAYLOAD_BYTES);

/// What a meta page says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Meta {
    /// The number of the checkpoint, from 1.
    pub generation: u64,
    /// The one that was finished before it; 0: none.
    pub previous: u64,
    /// One past the last page that it reaches.
    pub file_pages: u32,
    /// How many pages it reaches, the metas included.
    pub used_pages: u32,
    /// How many bitmap pages there are.
    pub chunks: u32,
    pub directories: Vec<PageRef>,
    pub roots: [Root; TREES_MAX],
    pub note: Vec<u8>,
}

/// What stands in a meta page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    Sound(Box<Meta>),
    /// Sound sectors that do not belong together: a write of it was interrupted.
    Torn {
        /// The newest checkpoint in it.
        generation: u64,
        /// Sectors of it were never written.
        blank: bool,
    },
    /// Zeros only.
    NeverWritten,
}

/// The page that the meta of this checkpoint goes to.
pub(super) const fn place(generation: u64) -> PageId {
    PageId((generation % 2) as u32)
}

impl Meta {
    /// The meta page.
    pub fn encode(&self) -> AlignedBuffer {
        assert!(self.note.len() <= CHECKPOINT_NOTE_BYTES_MAX && self.directories.len() <= DIRECTORIES_MAX);
        let mut payload = vec![0; 4];
        payload.extend_from_slice(MAGIC);
        payload.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        payload.extend_from_slice(&(PAGE_BYTES as u32).to_le_bytes());
        payload.extend_from_slice(&self.generation.to_le_bytes());
        payload.extend_from_slice(&self.previous.to_le_bytes());
        for field in [self.file_pages, self.used_pages, self.chunks, self.directories.len() as u32, self.note.len() as u32] {
            payload.extend_from_slice(&field.to_le_bytes());
        }
        for root in &self.roots {
            for field in [root.at.page.0, root.at.generation, u32::from(root.level)] {
                payload.extend_from_slice(&field.to_le_bytes());
            }
            payload.extend_from_slice(&root.sums.entries.to_le_bytes());
            payload.extend_from_slice(&root.sums.weight.to_le_bytes());
        }
        for directory in &self.directories {
            payload.extend_from_slice(&directory.page.0.to_le_bytes());
            payload.extend_from_slice(&directory.generation.to_le_bytes());
        }
        payload.extend_from_slice(&self.note);
        payload.resize(PAYLOAD_BYTES, 0);
        let checksum = crc32c::crc32c(&payload[4..]);
        payload[..4].copy_from_slice(&checksum.to_le_bytes());
        let mut page = AlignedBuffer::zeroed(PAGE_BYTES);
        for (sector, part) in page.chunks_exact_mut(SECTOR_BYTES).zip(payload.chunks_exact(SECTOR_PAYLOAD_BYTES)) {
            sector[4..12].copy_from_slice(&self.generation.to_le_bytes());
            sector[12..].copy_from_slice(part);
            let checksum = crc32c::crc32c(&sector[4..]);
            sector[..4].copy_from_slice(&checksum.to_le_bytes());
        }
        page
    }
}

/// Reads one meta page; `id` is 0 or 1.
pub(super) fn decode(id: PageId, page: &[u8]) -> Result<Standing, Damage> {
    let damage = |what| Damage { page: id, what };
    assert!(page.len() == PAGE_BYTES);
    let mut payload = Vec::with_capacity(PAYLOAD_BYTES);
    let (mut newest, mut oldest, mut blank) = (0, u64::MAX, 0);
    for sector in page.chunks_exact(SECTOR_BYTES) {
        let mut fields = Reader::new(sector);
        let header = (|| Ok::<_, Malformed>((fields.u32()?, fields.u64()?)))();
        let Ok((checksum, generation)) = header else { return Err(damage(What::Meta("short sector"))) };
        if sector.iter().all(|&byte| byte == 0) {
            blank += 1;
            oldest = 0;
        } else if checksum != crc32c::crc32c(&sector[4..]) {
            return Err(damage(What::Meta("the checksum of a sector does not match")));
        } else if generation == 0 || place(generation) != id {
            return Err(damage(What::Meta("it belongs to the other meta page")));
        } else {
            newest = newest.max(generation);
            oldest = oldest.min(generation);
        }
        payload.extend_from_slice(fields.rest());
    }
    if blank == SECTORS {
        return Ok(Standing::NeverWritten);
    }
    let sealed = payload[..4] == crc32c::crc32c(&payload[4..]).to_le_bytes();
    if newest != oldest || !sealed {
        return Ok(Standing::Torn { generation: newest, blank: blank > 0 });
    }
    parse(&payload, newest).map(|meta| Standing::Sound(Box::new(meta))).map_err(damage)
}

fn parse(payload: &[u8], generation: u64) -> Result<Meta, What> {
    let malformed = |_: Malformed| What::Meta("short");
    let mut fields = Reader::new(&payload[4..]);
    if fields.bytes(MAGIC.len()).map_err(malformed)? != MAGIC {
        return Err(What::Meta("not a page file of etcring"));
    }
    let version = fields.u32().map_err(malformed)?;
    if version != FORMAT_VERSION {
        return Err(What::UnknownFormat(version));
    }
    let page_bytes = fields.u32().map_err(malformed)?;
    if page_bytes as usize != PAGE_BYTES || fields.u64().map_err(malformed)? != generation {
        return Err(What::Meta("page size or checkpoint"));
    }
    parse_contents(&mut fields, generation).map_err(malformed)?.ok_or(What::Meta("its contents contradict themselves"))
}

fn parse_contents(fields: &mut Reader<'_>, generation: u64) -> Result<Option<Meta>, Malformed> {
    let previous = fields.u64()?;
    let (file_pages, used_pages, chunks) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let (directory_count, note_bytes) = (fields.u32()? as usize, fields.u32()? as usize);
    let mut roots = [Root::EMPTY; TREES_MAX];
    let mut plausible = directory_count <= DIRECTORIES_MAX && used_pages <= file_pages && previous < generation;
    for root in &mut roots {
        let at = PageRef { page: PageId(fields.u32()?), generation: fields.u32()? };
        let level = fields.u32()?;
        plausible &= level < crate::base::limits::TREE_LEVELS_MAX as u32 && at.page.0 != 1 && at.page.0 < file_pages;
        let sums = Sums { entries: fields.u64()?, weight: fields.u64()? };
        *root = Root { at, level: level as u8, sums };
        plausible &= !root.is_empty() || root.sums == Sums::default();
    }
    if !plausible {
        return Ok(None);
    }
    let mut directories = Vec::with_capacity(directory_count);
    for _ in 0..directory_count {
        directories.push(PageRef { page: PageId(fields.u32()?), generation: fields.u32()? });
    }
    let note = fields.bytes(note_bytes)?.to_vec();
    Ok(Some(Meta { generation, previous, file_pages, used_pages, chunks, directories, roots, note }))
}

/// Finds the meta that counts, by the table above. `metas` is the file's first two pages. With it: the
/// checkpoint whose write the other page shows to have been interrupted.
pub(super) fn choose(metas: &[u8]) -> Result<(Meta, Option<u64>), Damage> {
    if metas.len() < 2 * PAGE_BYTES {
        let (expected_bytes, found_bytes) = (2 * PAGE_BYTES as u64, metas.len() as u64);
        return Err(Damage { page: PageId(0), what: What::Truncated { expected_bytes, found_bytes } });
    }
    let even = decode(PageId(0), &metas[..PAGE_BYTES])?;
    let odd = decode(PageId(1), &metas[PAGE_BYTES..2 * PAGE_BYTES])?;
    let (current, other) = match (even, odd) {
        (Standing::Sound(even), Standing::Sound(odd)) if even.generation > odd.generation => (even, Standing::Sound(odd)),
        (Standing::Sound(even), Standing::Sound(odd)) => (odd, Standing::Sound(even)),
        (Standing::Sound(meta), other) | (other, Standing::Sound(meta)) => (meta, other),
        (Standing::NeverWritten, Standing::NeverWritten | Standing::Torn { blank: true, .. }) => {
            return Err(Damage { page: PageId(0), what: What::NoCheckpoint });
        }
        _ => return Err(Damage { page: PageId(0), what: What::Meta("neither meta page is whole") }),
    };
    let other_page = PageId(1 - place(current.generation).0);
    let (fits, interrupted) = match &other {
        Standing::Sound(older) => (older.generation == current.previous, None),
        // Both pages were whole once, unless this is the first checkpoint: blank sectors are left over from no other time.
        Standing::Torn { generation, blank } => {
            (*generation > current.generation && (!blank || current.previous == 0), Some(*generation))
        }
        Standing::NeverWritten => (current.previous == 0, None),
    };
    if !fits {
        return Err(Damage { page: other_page, what: What::Meta("it does not go with the other meta page") });
    }
    Ok((*current, interrupted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(generation: u64) -> Meta {
        let mut roots = [Root::EMPTY; TREES_MAX];
        roots[3] =
            Root { at: PageRef { page: PageId(77), generation: 5 }, level: 2, sums: Sums { entries: 1000, weight: 900 } };
        let directories = vec![PageRef { page: PageId(9), generation: 4 }];
        Meta {
            generation,
            previous: generation - 1,
            file_pages: 100,
            used_pages: 50,
            chunks: 1,
            directories,
            roots,
            note: b"applied 12".to_vec(),
        }
    }

    fn pages(even: &[u8], odd: &[u8]) -> Vec<u8> {
        [even, odd].concat()
    }

    #[test]
    fn the_newer_of_two_sound_metas_counts() {
        let both = pages(&meta(6).encode(), &meta(7).encode());
        assert_eq!(choose(&both), Ok((meta(7), None)));
        let both = pages(&meta(8).encode(), &meta(7).encode());
        assert_eq!(choose(&both), Ok((meta(8), None)));
    }

    #[test]
    fn an_interrupted_write_leaves_the_older_meta() {
        let (old, new) = (meta(5).encode(), meta(7).encode());
        for sectors in 1..8 {
            let mut torn = old.to_vec();
            torn[..sectors * 512].copy_from_slice(&new[..sectors * 512]);
            assert_eq!(choose(&pages(&meta(6).encode(), &torn)), Ok((meta(6), Some(7))), "{sectors} sectors");
        }
        let mut first = vec![0; PAGE_BYTES];
        first[512..1024].copy_from_slice(&meta(1).encode()[512..1024]);
        assert_eq!(choose(&pages(&[0; PAGE_BYTES], &first)).expect_err("torn").what, What::NoCheckpoint);
    }

    #[test]
    fn two_interrupted_writes_of_one_checkpoint_do_not_make_a_whole_one() {
        let (mut one, mut other) = (meta(7), meta(7));
        one.note = vec![1; 1000];
        other.note = vec![2; 1000];
        let mut mixed = one.encode();
        mixed[512..1024].copy_from_slice(&other.encode()[512..1024]);
        assert_eq!(choose(&pages(&meta(6).encode(), &mixed)), Ok((meta(6), Some(7))));
    }

    #[test]
    fn a_flipped_bit_anywhere_in_either_meta_is_damage() {
        let both = pages(&meta(6).encode(), &meta(7).encode());
        for at in 0..both.len() {
            let mut flipped = both.clone();
            flipped[at] ^= 1 << (at % 8);
            let damage = choose(&flipped).expect_err("a flipped bit");
            assert_eq!(damage.page, PageId((at / PAGE_BYTES) as u32), "byte {at}");
        }
    }

    #[test]
    fn metas_that_are_not_neighbours_are_damage() {
        assert!(choose(&pages(&meta(4).encode(), &meta(7).encode())).is_err());
        assert!(choose(&pages(&[0; PAGE_BYTES], &meta(7).encode())).is_err());
        assert!(choose(&pages(&meta(7).encode(), &meta(6).encode())).is_err());
        assert_eq!(choose(&[0; 2 * PAGE_BYTES]).expect_err("blank").what, What::NoCheckpoint);
    }

    #[test]
    fn a_newer_format_is_named() {
        let mut payload = meta(6).encode();
        payload[12 + 12] = 9;
        let mut flat: Vec<u8> = payload.chunks(512).flat_map(|sector| sector[12..].to_vec()).collect();
        let checksum = crc32c::crc32c(&flat[4..]);
        flat[..4].copy_from_slice(&checksum.to_le_bytes());
        for (sector, part) in payload.chunks_exact_mut(512).zip(flat.chunks_exact(500)) {
            sector[12..].copy_from_slice(part);
            let checksum = crc32c::crc32c(&sector[4..]);
            sector[..4].copy_from_slice(&checksum.to_le_bytes());
        }
        assert_eq!(decode(PageId(0), &payload).expect_err("format").what, What::UnknownFormat(9));
    }
}
