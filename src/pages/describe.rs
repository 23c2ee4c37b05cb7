//! Pages as plain data, for people and programs that look into a file.

use super::meta::{self, Standing};
use super::page::{self, Kind, Page};
use super::space::DIRECTORY_CHUNKS;
use super::space_load::{bitmap_of, chunk_at};
use super::{PageId, Sums, branch, leaf};
use crate::base::limits::PAGE_BYTES;

/// What stands in a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PageDescription {
    /// Page 0 or 1.
    Meta(MetaDescription),
    /// A leaf or branch.
    Tree(TreeDescription),
    /// The first page of an overflow run.
    Overflow {
        /// Which page it says it is.
        page: PageId,
        /// The checkpoint that wrote it.
        generation: u64,
        /// The tree that it belongs to.
        tree: u8,
        /// The length of what it holds.
        bytes: u32,
        /// How many pages it takes.
        pages: u32,
        /// Whether the checksum matches; None: not all of its bytes were given.
        sound: Option<bool>,
    },
    /// Part of the bitmap of pages in use.
    Bitmap {
        /// Which page it says it is.
        page: PageId,
        /// The checkpoint that wrote it.
        generation: u64,
        /// Its place among the bitmap pages.
        place: u32,
        /// How many pages it marks as in use.
        used_pages: u32,
        /// Whether the checksum matches.
        sound: bool,
    },
    /// Where bitmap pages are.
    Directory {
        /// Which page it says it is.
        page: PageId,
        /// The checkpoint that wrote it.
        generation: u64,
        /// Its place among the directories.
        place: u32,
        /// Page and low bits of the checkpoint of each bitmap page.
        bitmaps: Vec<(PageId, u32)>,
        /// Whether the checksum matches.
        sound: bool,
    },
    /// Nothing that this version writes: never used, the inside of an overflow run, or damage.
    Unknown,
}

/// A meta page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetaDescription {
    /// Zeros only.
    NeverWritten,
    /// A write of it was interrupted.
    Torn {
        /// The newest checkpoint in it.
        generation: u64,
    },
    /// Neither old nor new.
    Damaged {
        /// How that shows.
        what: String,
    },
    /// A checkpoint.
    Sound {
        /// Its number.
        generation: u64,
        /// The number of the one before it; 0: none.
        previous: u64,
        /// One past the last page that it reaches.
        file_pages: u32,
        /// How many pages it reaches.
        used_pages: u32,
        /// The trees that are not empty: number, root page, levels, sums.
        trees: Vec<(u8, PageId, u32, Sums)>,
        /// The directories of the bitmaps.
        directories: Vec<PageId>,
        /// The caller's note.
        note: Vec<u8>,
    },
}

/// A leaf (level 0) or branch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TreeDescription {
    /// Which page it says it is.
    pub page: PageId,
    /// The checkpoint that wrote it.
    pub generation: u64,
    /// The tree that it belongs to.
    pub tree: u8,
    /// 0: a leaf.
    pub level: u8,
    /// Whether the checksum matches and the cells are where they can be. If not, `cells` is empty.
    pub sound: bool,
    /// Bytes not in use.
    pub free_bytes: usize,
    /// In key order.
    pub cells: Vec<CellDescription>,
}

/// A cell of a leaf or branch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CellDescription {
    /// The key, or as much of it as stands in the cell.
    pub key: Vec<u8>,
    /// The length of the whole key.
    pub key_bytes: usize,
    /// Where a long key is.
    pub key_run: Option<PageId>,
    /// Of a branch: the child.
    pub child: Option<PageId>,
    /// Of a branch: what the child sums up to; of a leaf: one entry and its weight.
    pub sums: Sums,
    /// Of a leaf: the value, or as much of it as stands in the cell.
    pub value: Vec<u8>,
    /// Of a leaf: the length of the whole value.
    pub value_bytes: usize,
    /// Where a long value is.
    pub value_run: Option<PageId>,
}

/// Describes the page `id` of a file from its bytes, and what follows in the file, which counts only for an overflow run.
///
/// # Panics
/// When `bytes` is shorter than a page.
pub fn describe(id: PageId, bytes: &[u8]) -> PageDescription {
    let run = bytes;
    let bytes: &Page = bytes.first_chunk().expect("a page has PAGE_BYTES bytes");
    if id.0 < 2 {
        return PageDescription::Meta(describe_meta(id, bytes));
    }
    let (page, generation, sound) = (page::id(bytes), page::generation(bytes), page::is_sealed(bytes));
    let place = page::extra(bytes);
    match Kind::of(bytes) {
        Some(Kind::Leaf | Kind::Branch) => PageDescription::Tree(describe_tree(bytes, sound)),
        Some(Kind::Overflow) if page == id => {
            let pages = leaf::run_pages(place as usize);
            let sound = run.get(..pages as usize * PAGE_BYTES).map(page::is_sealed);
            PageDescription::Overflow { page, generation, tree: page::tree(bytes), bytes: place, pages, sound }
        }
        Some(Kind::Bitmap) => {
            let used_pages = bitmap_of(bytes).iter().map(|byte| byte.count_ones()).sum();
            PageDescription::Bitmap { page, generation, place, used_pages, sound }
        }
        Some(Kind::Directory) => {
            let bitmaps = (0..DIRECTORY_CHUNKS).map(|at| chunk_at(bytes, at)).filter(|at| at.page.0 != 0);
            let bitmaps = bitmaps.map(|at| (at.page, at.generation)).collect();
            PageDescription::Directory { page, generation, place, bitmaps, sound }
        }
        _ => PageDescription::Unknown,
    }
}

fn describe_meta(id: PageId, bytes: &[u8; PAGE_BYTES]) -> MetaDescription {
    match meta::decode(id, bytes) {
        Err(damage) => MetaDescription::Damaged { what: damage.what.to_string() },
        Ok(Standing::NeverWritten) => MetaDescription::NeverWritten,
        Ok(Standing::Torn { generation, .. }) => MetaDescription::Torn { generation },
        Ok(Standing::Sound(meta)) => {
            let trees = meta.roots.iter().enumerate().filter(|(_, root)| !root.is_empty());
            let trees = trees.map(|(at, root)| (at as u8, root.at.page, u32::from(root.level) + 1, root.sums)).collect();
            MetaDescription::Sound {
                generation: meta.generation,
                previous: meta.previous,
                file_pages: meta.file_pages,
                used_pages: meta.used_pages,
                trees,
                directories: meta.directories.iter().map(|at| at.page).collect(),
                note: meta.note,
            }
        }
    }
}

fn describe_tree(page: &Page, checksum_matches: bool) -> TreeDescription {
    let sound = checksum_matches && page::validate(page).is_ok();
    let cells = if sound { (0..page::cells(page)).map(|slot| describe_cell(page, slot)).collect() } else { Vec::new() };
    TreeDescription {
        page: page::id(page),
        generation: page::generation(page),
        tree: page::tree(page),
        level: page::level(page),
        sound,
        free_bytes: if sound { page::room(page) } else { 0 },
        cells,
    }
}

fn describe_cell(page: &Page, slot: usize) -> CellDescription {
    let at = page::cell_at(page, slot);
    let is_leaf = page::level(page) == 0;
    let (key, _) = if is_leaf { leaf::key(page, at) } else { branch::key(page, at) };
    let key_run = if is_leaf { leaf::key_run(page, at) } else { branch::key_run(page, at) };
    let value_run = if is_leaf { leaf::value_run(page, at) } else { None };
    let value = if is_leaf { leaf::value(page, at) } else { &[] };
    CellDescription {
        key: key.to_vec(),
        key_bytes: key_run.map_or(key.len(), |run| run.bytes as usize),
        key_run: key_run.map(|run| run.at.page),
        child: (!is_leaf).then(|| branch::child(page, at).page),
        sums: if is_leaf { Sums { entries: 1, weight: u64::from(leaf::weight(page, at)) } } else { branch::sums(page, at) },
        value: value.to_vec(),
        value_bytes: value_run.map_or(value.len(), |run| run.bytes as usize),
        value_run: value_run.map(|run| run.at.page),
    }
}
