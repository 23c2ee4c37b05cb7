//! Reading the bitmaps of a file that was opened: directories first, then what they name, page by page.

use super::bits::Bits;
use super::meta::Meta;
use super::page::{self, HEADER_BYTES, Kind, u32_at};
use super::space::{CHUNK_PAGES, DIRECTORY_CHUNKS, Slab, Space};
use super::{Damage, Expect, Fault, PageId, PageRef, What};

/// How far the reading has come.
pub(super) struct SpaceLoad {
    meta: Meta,
    directories_read: usize,
    chunks: Vec<PageRef>,
    chunks_read: usize,
    bits: Bits,
}

impl SpaceLoad {
    pub fn of(meta: &Meta) -> Result<SpaceLoad, Damage> {
        let chunks_expected = meta.chunks as usize;
        let fits = chunks_expected > 0
            && chunks_expected.div_ceil(DIRECTORY_CHUNKS) == meta.directories.len()
            && chunks_expected * CHUNK_PAGES as usize >= meta.file_pages as usize;
        if !fits {
            return Err(Damage { page: super::meta::place(meta.generation), what: What::Meta("number of bitmap pages") });
        }
        Ok(SpaceLoad {
            meta: meta.clone(),
            directories_read: 0,
            chunks: Vec::with_capacity(chunks_expected),
            chunks_read: 0,
            bits: Bits::default(),
        })
    }

    pub fn used_pages(&self) -> u32 {
        self.meta.used_pages
    }

    /// The meta of the same trees and bitmaps for another checkpoint.
    pub fn renewed_meta(&self, generation: u64, previous: u64, note: &[u8]) -> Meta {
        Meta { generation, previous, note: note.to_vec(), ..self.meta.clone() }
    }

    fn chunks_expected(&self) -> usize {
        self.meta.chunks as usize
    }

    fn next(&self) -> (PageRef, Kind) {
        if self.directories_read < self.meta.directories.len() {
            (self.meta.directories[self.directories_read], Kind::Directory)
        } else {
            (self.chunks[self.chunks_read], Kind::Bitmap)
        }
    }

    /// The page to read next.
    pub fn wanted(&self, issued: u64) -> Fault {
        let (at, kind) = self.next();
        let expect = Expect { generation: at.generation, kind, level: 0, issued };
        Fault { first: at.page, pages: 1, expect }
    }

    /// Takes in a page; once it was the last one, all of the space.
    pub fn install(&mut self, fault: Fault, bytes: &[u8]) -> Result<Option<Space>, Damage> {
        let (at, kind) = self.next();
        if (at.page, kind) != (fault.first, fault.expect.kind) {
            return Ok(None);
        }
        let damage = |what| Damage { page: fault.first, what: What::Structure(what) };
        let place = page::extra(bytes) as usize;
        if kind == Kind::Directory {
            if place != self.directories_read {
                return Err(damage("the place of a directory"));
            }
            let count = (self.chunks_expected() - place * DIRECTORY_CHUNKS).min(DIRECTORY_CHUNKS);
            self.chunks.extend((0..count).map(|at| chunk_at(bytes, at)));
            self.directories_read += 1;
            return Ok(None);
        }
        if place != self.chunks_read {
            return Err(damage("the place of a bitmap"));
        }
        self.bits.read_in(place as u32 * CHUNK_PAGES, bitmap_of(bytes));
        self.chunks_read += 1;
        if self.chunks_read < self.chunks_expected() {
            return Ok(None);
        }
        if self.bits.count() != self.meta.used_pages || self.bits.end() != self.meta.file_pages {
            return Err(damage("the bitmaps have other pages in use than the meta"));
        }
        let slab = |at: &PageRef| Slab { at: Some(*at), changed: false, placed: false };
        let chunks = self.chunks.iter().map(slab).collect();
        let directories = self.meta.directories.iter().map(slab).collect();
        Ok(Some(Space::loaded(std::mem::take(&mut self.bits), self.meta.file_pages, chunks, directories)))
    }
}

/// The reference number `at` of a directory page.
pub(super) fn chunk_at(directory: &[u8], at: usize) -> PageRef {
    let start = HEADER_BYTES + at * 8;
    PageRef { page: PageId(u32_at(directory, start)), generation: u32_at(directory, start + 4) }
}

/// The bits of a bitmap page.
pub(super) fn bitmap_of(page: &[u8]) -> &[u8] {
    &page[HEADER_BYTES..HEADER_BYTES + CHUNK_PAGES as usize / 8]
}
