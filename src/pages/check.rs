//! Walking a whole closed file: checksums, references, key order, sums, and that the bitmaps have exactly what is reached.

use super::bits::Bits;
use super::meta::{self, Meta};
use super::page::{self, Kind, Page};
use super::space::{CHUNK_PAGES, DIRECTORY_CHUNKS, FIRST_PAGE};
use super::space_load::{bitmap_of, chunk_at};
use super::store::verify;
use super::{Damage, Expect, Fault, PageId, PageRef, RunRef, Sums, What, branch, leaf};
use crate::base::AlignedBuffer;
use crate::base::limits::{CHECK_ERRORS_MAX, PAGE_BYTES};

/// Something that is wrong with a page file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckError {
    /// The page that shows it.
    pub page: PageId,
    /// Where that page starts in the file.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
}

/// What a tree holds, as counted by the walk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TreeReport {
    /// Entries and weight.
    pub sums: Sums,
    /// Levels, leaves included; 0 for an empty tree.
    pub levels: u32,
    /// Leaves.
    pub leaf_pages: u64,
    /// Branches.
    pub branch_pages: u64,
    /// Pages of long values and long keys.
    pub overflow_pages: u64,
    /// Bytes that cells and slots take in leaves.
    pub leaf_bytes: u64,
}

/// What a walk found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CheckReport {
    /// The checkpoint that was walked.
    pub generation: u64,
    /// The caller's note in it.
    pub note: Vec<u8>,
    /// No checkpoint was ever finished in the file: there is nothing to walk, and it is for the caller to know whether that is right.
    pub unfinished: bool,
    /// Whether the other meta shows an interrupted write.
    pub interrupted: bool,
    /// Pages that it reaches, metas included.
    pub used_pages: u64,
    /// One past the last of them.
    pub file_pages: u64,
    /// Per tree.
    pub trees: Vec<TreeReport>,
    /// Everything that is wrong, up to [`CHECK_ERRORS_MAX`]; empty: the file is sound.
    pub errors: Vec<CheckError>,
    /// How many errors there are beyond those listed.
    pub errors_more: u64,
}

/// Walks the file of `file_bytes` bytes that `read` reads: a first page and a number of pages.
///
/// # Errors
/// Those of `read`. What is wrong with the file is in the report.
pub fn check<E>(file_bytes: u64, mut read: impl FnMut(PageId, u32) -> Result<AlignedBuffer, E>) -> Result<CheckReport, E> {
    let mut report = CheckReport::default();
    if file_bytes == 0 {
        report.unfinished = true;
        return Ok(report);
    }
    if file_bytes < 2 * PAGE_BYTES as u64 {
        let what = What::Truncated { expected_bytes: 2 * PAGE_BYTES as u64, found_bytes: file_bytes };
        report.errors.push(error(PageId(0), what.to_string()));
        return Ok(report);
    }
    let metas = read(PageId(0), 2)?;
    let meta = match meta::choose(&metas) {
        Ok((meta, interrupted)) => {
            report.interrupted = interrupted.is_some();
            meta
        }
        Err(Damage { what: What::NoCheckpoint, .. }) => {
            report.unfinished = true;
            return Ok(report);
        }
        Err(damage) => {
            report.errors.push(damage_error(&damage));
            return Ok(report);
        }
    };
    let expected_bytes = u64::from(meta.file_pages) * PAGE_BYTES as u64;
    if file_bytes < expected_bytes {
        let what = What::Truncated { expected_bytes, found_bytes: file_bytes };
        report.errors.push(error(PageId((file_bytes / PAGE_BYTES as u64) as u32), what.to_string()));
        return Ok(report);
    }
    report.generation = meta.generation;
    report.note = meta.note.clone();
    report.file_pages = u64::from(meta.file_pages);
    let mut walk = Walk { read, meta: &meta, reached: Bits::default(), tree: TreeReport::default(), report };
    walk.reached.set(0, FIRST_PAGE);
    for root in &meta.roots {
        walk.tree = TreeReport::default();
        if !root.is_empty() {
            walk.tree.levels = u32::from(root.level) + 1;
            walk.page(root.at, root.level, None, None, root.sums)?;
        }
        let tree = std::mem::take(&mut walk.tree);
        walk.report.trees.push(tree);
    }
    walk.bitmaps()?;
    Ok(walk.report)
}

fn error(page: PageId, what: String) -> CheckError {
    CheckError { page, offset: page.offset(), what }
}

fn damage_error(damage: &Damage) -> CheckError {
    error(damage.page, damage.what.to_string())
}

struct Walk<'a, R> {
    read: R,
    meta: &'a Meta,
    reached: Bits,
    tree: TreeReport,
    report: CheckReport,
}

impl<E, R: FnMut(PageId, u32) -> Result<AlignedBuffer, E>> Walk<'_, R> {
    fn error(&mut self, page: PageId, what: String) {
        if self.report.errors.len() < CHECK_ERRORS_MAX {
            self.report.errors.push(error(page, what));
        } else {
            self.report.errors_more += 1;
        }
    }

    /// Reads pages that are referred to and checks them by themselves. None: they are wrong, and that has been noted.
    fn fetch(&mut self, at: PageRef, pages: u32, kind: Kind, level: u8) -> Result<Option<AlignedBuffer>, E> {
        let end = u64::from(at.page.0) + u64::from(pages);
        if at.page.0 < FIRST_PAGE || end > u64::from(self.meta.file_pages) {
            self.error(at.page, "a reference leads out of the file".into());
            return Ok(None);
        }
        if self.reached.set(at.page.0, pages) != pages {
            self.error(at.page, "it is referred to twice".into());
            return Ok(None);
        }
        let buffer = (self.read)(at.page, pages)?;
        let expect = Expect { generation: at.generation, kind, level, issued: 0 };
        match verify(&Fault { first: at.page, pages, expect }, &buffer) {
            Ok(()) => Ok(Some(buffer)),
            Err(what) => {
                self.error(at.page, what.to_string());
                Ok(None)
            }
        }
    }

    fn run(&mut self, run: RunRef) -> Result<Option<AlignedBuffer>, E> {
        let pages = leaf::run_pages(run.bytes as usize);
        self.tree.overflow_pages += u64::from(pages);
        let buffer = self.fetch(run.at, pages, Kind::Overflow, 0)?;
        if let Some(buffer) = &buffer
            && page::extra(buffer) != run.bytes
        {
            self.error(run.at.page, format!("a run of {} bytes, where {} are referred to", page::extra(buffer), run.bytes));
            return Ok(None);
        }
        Ok(buffer)
    }

    /// A key in full: what its cell has of it, or its run.
    fn key(&mut self, page: PageId, inline: &[u8], run: Option<RunRef>) -> Result<Option<Vec<u8>>, E> {
        let Some(run) = run else { return Ok(Some(inline.to_vec())) };
        let Some(buffer) = self.run(run)? else { return Ok(None) };
        let key = &buffer[page::HEADER_BYTES..page::HEADER_BYTES + run.bytes as usize];
        if !key.starts_with(inline) {
            self.error(page, "a long key does not begin as its cell says".into());
        }
        Ok(Some(key.to_vec()))
    }

    /// Walks a page and all below it: keys from `low` up to, but not including, `high`.
    fn page(&mut self, at: PageRef, level: u8, low: Option<&[u8]>, high: Option<&[u8]>, sums: Sums) -> Result<(), E> {
        let kind = if level == 0 { Kind::Leaf } else { Kind::Branch };
        let Some(buffer) = self.fetch(at, 1, kind, level)? else { return Ok(()) };
        let page: &Page = buffer.first_chunk().expect("one page was read");
        let found = super::read::page_sums(page);
        if found != sums {
            self.error(at.page, format!("it sums up to {found:?}, and above it stands {sums:?}"));
        }
        if level == 0 { self.leaf(at.page, page, low, high) } else { self.branch(at.page, page, low, high) }
    }

    fn leaf(&mut self, id: PageId, page: &Page, low: Option<&[u8]>, high: Option<&[u8]>) -> Result<(), E> {
        self.tree.leaf_pages += 1;
        self.tree.leaf_bytes += page::used(page) as u64;
        let mut before: Option<Vec<u8>> = None;
        for slot in 0..page::cells(page) {
            let at = page::cell_at(page, slot);
            if let Some(run) = leaf::value_run(page, at)
                && let Some(buffer) = self.run(run)?
                && !buffer[page::HEADER_BYTES..].starts_with(leaf::value(page, at))
            {
                self.error(id, "a long value does not begin as its cell says".into());
            }
            let Some(key) = self.key(id, leaf::key(page, at).0, leaf::key_run(page, at))? else { continue };
            if before.as_ref().is_some_and(|before| *before >= key) {
                self.error(id, format!("the key of slot {slot} is not above the one before it"));
            }
            self.bounds(id, slot, &key, low, high);
            self.tree.sums.add(Sums { entries: 1, weight: u64::from(leaf::weight(page, at)) });
            before = Some(key);
        }
        Ok(())
    }

    fn bounds(&mut self, id: PageId, slot: usize, key: &[u8], low: Option<&[u8]>, high: Option<&[u8]>) {
        if low.is_some_and(|low| key < low) || high.is_some_and(|high| key >= high) {
            self.error(id, format!("the key of slot {slot} does not belong below the branch above it"));
        }
    }

    fn branch(&mut self, id: PageId, page: &Page, low: Option<&[u8]>, high: Option<&[u8]>) -> Result<(), E> {
        self.tree.branch_pages += 1;
        let mut keys: Vec<Vec<u8>> = Vec::with_capacity(page::cells(page));
        for slot in 0..page::cells(page) {
            let at = page::cell_at(page, slot);
            let Some(key) = self.key(id, branch::key(page, at).0, branch::key_run(page, at))? else { return Ok(()) };
            match keys.last() {
                None if !key.is_empty() => self.error(id, "its first key is not empty".into()),
                Some(before) if *before >= key => {
                    self.error(id, format!("the key of slot {slot} is not above the one before it"));
                }
                _ => {}
            }
            if slot > 0 {
                self.bounds(id, slot, &key, low, high);
            }
            keys.push(key);
        }
        for slot in 0..page::cells(page) {
            let at = page::cell_at(page, slot);
            let from = if slot == 0 { low } else { Some(&keys[slot][..]) };
            let to = keys.get(slot + 1).map(|key| &key[..]).or(high);
            self.page(branch::child(page, at), page::level(page) - 1, from, to, branch::sums(page, at))?;
        }
        Ok(())
    }

    /// Reads the bitmaps and compares them with what was reached.
    fn bitmaps(&mut self) -> Result<(), E> {
        let chunks = self.meta.chunks as usize;
        let mut marked = Bits::default();
        for (place, &directory) in self.meta.directories.iter().enumerate() {
            let Some(page) = self.fetch(directory, 1, Kind::Directory, 0)? else { continue };
            if page::extra(&page) as usize != place {
                self.error(directory.page, "the place of a directory".into());
            }
            let first = place * DIRECTORY_CHUNKS;
            for chunk in first..chunks.min(first + DIRECTORY_CHUNKS) {
                let at = chunk_at(&page, chunk - first);
                let Some(page) = self.fetch(at, 1, Kind::Bitmap, 0)? else { continue };
                if page::extra(&page) as usize != chunk {
                    self.error(at.page, "the place of a bitmap".into());
                }
                marked.read_in(chunk as u32 * CHUNK_PAGES, bitmap_of(&page));
            }
        }
        self.report.used_pages = u64::from(marked.count());
        if marked.count() != self.meta.used_pages || marked.end() != self.meta.file_pages {
            let (used, file) = (self.meta.used_pages, self.meta.file_pages);
            let what = format!(
                "{} pages up to {} are marked as in use, the meta says {used} up to {file}",
                marked.count(),
                marked.end()
            );
            self.error(meta::place(self.meta.generation), what);
        }
        for page in 0..marked.end().max(self.reached.end()) {
            match (marked.get(page), self.reached.get(page)) {
                (true, false) => self.error(PageId(page), "it is marked as in use, and nothing refers to it".into()),
                (false, true) => self.error(PageId(page), "it is referred to, and marked as free".into()),
                _ => {}
            }
        }
        Ok(())
    }
}
