//! The store itself: what it is made of, how it is opened, and how pages come in.

use std::collections::BTreeMap;

use super::cache::{Cache, Epochs, Tick};
use super::checkpoint::Writing;
use super::defragment::Defragment;
use super::page::{self, Kind};
use super::read::Reader;
use super::space::{Extent, Space};
use super::space_load::SpaceLoad;
use super::{Cursor, Damage, Entry, Fault, Head, Options, PageId, Root, Sums, Tree, ViewId, What, meta};
use crate::base::AlignedBuffer;
use crate::base::limits::{CHECKPOINT_CHANGES_PER_PAGE, PAGE_BYTES, TREES_MAX, VIEWS_MAX};

/// A page file and its trees. See the [module](super) for what it keeps true.
pub struct Store {
    pub(super) options: Options,
    pub(super) roots: [Root; TREES_MAX],
    pub(super) cache: Cache,
    pub(super) space: Space,
    /// Present until the bitmaps have been read.
    pub(super) space_load: Option<SpaceLoad>,
    pub(super) epochs: Epochs,
    /// The last finished checkpoint; 0 before the first.
    pub(super) durable: u64,
    /// The checkpoint that changes made now belong to.
    pub(super) building: u64,
    pub(super) writing: Option<Writing>,
    /// Changes of entries since the last checkpoint began, and the pages of earlier ones that were dirtied for them.
    pub(super) changes: u64,
    pub(super) rewritten: u64,
    pub(super) note: Vec<u8>,
    pub(super) file_bytes: u64,
    pub(super) interrupted: bool,
    pub(super) views: BTreeMap<ViewId, View>,
    pub(super) next_view: u64,
    pub(super) defragment: Option<Defragment>,
    /// Where cells are put together before they go into their page.
    pub(super) scratch: Vec<u8>,
}

/// A pinned state of all trees.
pub(super) struct View {
    pub roots: [Root; TREES_MAX],
    /// The checkpoint that was being built when it was pinned.
    pub generation: u64,
}

impl Store {
    /// An empty store, for an empty file. It exists on disk after its first checkpoint.
    pub fn create(options: Options) -> Store {
        Store {
            options,
            roots: [Root::EMPTY; TREES_MAX],
            cache: Cache::new(),
            space: Space::new(),
            space_load: None,
            epochs: Epochs { durable: 0, begun: 0, now: 1 },
            durable: 0,
            building: 1,
            writing: None,
            changes: 0,
            rewritten: 0,
            note: Vec::new(),
            file_bytes: 0,
            interrupted: false,
            views: BTreeMap::new(),
            next_view: 1,
            defragment: None,
            scratch: Vec::new(),
        }
    }

    /// The store in a file of `file_bytes` bytes whose first two pages are `metas`, as its last finished checkpoint left it.
    ///
    /// # Errors
    /// Damage of a meta, or a file that is too short. [`What::NoCheckpoint`]: the file was never finished once. If that is as the
    /// caller knows it, it makes the file empty, syncs that, and [creates](Store::create) the store.
    pub fn open(metas: &[u8], file_bytes: u64, options: Options) -> Result<Store, Damage> {
        let (meta, interrupted) = meta::choose(metas)?;
        let expected_bytes = u64::from(meta.file_pages) * PAGE_BYTES as u64;
        if file_bytes < expected_bytes {
            let page = PageId((file_bytes / PAGE_BYTES as u64) as u32);
            return Err(Damage { page, what: What::Truncated { expected_bytes, found_bytes: file_bytes } });
        }
        let mut store = Store::create(options);
        store.roots = meta.roots;
        store.durable = meta.generation;
        // Of the same parity as the next one, and not the number that an interrupted write has used.
        store.building = interrupted.map_or(meta.generation + 1, |generation| generation + 2);
        store.file_bytes = file_bytes;
        store.interrupted = interrupted.is_some();
        store.space_load = Some(SpaceLoad::of(&meta)?);
        store.note = meta.note;
        Ok(store)
    }

    /// The number of the last finished checkpoint; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.durable
    }

    /// Whether the file showed, when it was opened, that the write of a newer meta had been interrupted.
    pub fn was_interrupted(&self) -> bool {
        self.interrupted
    }

    /// The caller's bytes in the last finished checkpoint; empty before the first.
    pub fn note(&self) -> &[u8] {
        &self.note
    }

    /// The length of the file after the last finished checkpoint.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The bytes of pages in use by the current state, metas included.
    pub fn used_bytes(&self) -> u64 {
        let pages = self.space_load.as_ref().map_or_else(|| self.space.live_pages(), SpaceLoad::used_pages);
        u64::from(pages) * PAGE_BYTES as u64
    }

    /// The bytes that the next checkpoint would write.
    pub fn dirty_bytes(&self) -> u64 {
        self.cache.dirty_bytes() as u64
    }

    /// Whether the pages that the next checkpoint writes once more have had so many changes each, on average, that it is worth it: a
    /// page that has had one would have more if it were written later. What is new is written once in any case.
    pub fn is_worth_writing(&self) -> bool {
        self.changes >= CHECKPOINT_CHANGES_PER_PAGE * self.rewritten
    }

    /// The memory for pages that bounds are reckoned from.
    pub fn cache_bytes(&self) -> usize {
        self.options.cache_bytes
    }

    /// The bytes of pages in memory.
    pub fn cached_bytes(&self) -> u64 {
        self.cache.cached_bytes() as u64
    }

    /// Drops clean pages not used lately, to stay below what those in use may take; dirty ones stay. Call it between requests. Whether
    /// another call may drop more.
    pub fn evict(&mut self) -> bool {
        self.cache.evict(self.options.hot_bytes, self.epochs, None)
    }

    /// The same while calls are waiting for pages: what was used since the first of them began to wait stays, however small the
    /// cache is, so that a call that is made again finds what it found before, and comes to its end.
    pub fn evict_but(&mut self, since: Tick) -> bool {
        self.cache.evict(self.options.hot_bytes, self.epochs, Some(since))
    }

    /// Called about every [`TRIM_INTERVAL`]: pages in use may take their `hot_bytes`, cold ones no more than half of the cache. Pages
    /// that were only loaded, or read once, are cold soon; those that were used again after a pause, much later. Nothing that was used
    /// at `kept` or since goes.
    ///
    /// [`TRIM_INTERVAL`]: crate::base::limits::TRIM_INTERVAL
    pub fn trim(&mut self, kept: Option<Tick>) {
        self.cache.trim(self.options.cache_bytes / 2, self.epochs, kept);
    }

    /// The present, for [`Store::evict_but`].
    pub fn tick(&self) -> Tick {
        self.cache.tick()
    }

    /// The trees as they are now.
    #[inline]
    pub fn reader(&self) -> Reader<'_> {
        Reader { store: self, roots: &self.roots }
    }

    /// The trees as they were when the view was pinned. It is pinned still.
    pub fn reader_at(&self, view: ViewId) -> Reader<'_> {
        let view = self.views.get(&view).expect("a view is read only while it is pinned");
        Reader { store: self, roots: &view.roots }
    }

    /// What the key maps to.
    #[inline]
    pub fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Entry<'_>>, Fault> {
        self.reader().get(tree, key)
    }

    /// As [`Reader::get_near`].
    #[inline]
    pub fn get_near(&self, tree: Tree, key: &[u8], page: PageId) -> Result<Option<Entry<'_>>, Fault> {
        self.reader().get_near(tree, key, page)
    }

    /// The beginning of what the key maps to; never reads overflow pages for it.
    pub fn get_head(&self, tree: Tree, key: &[u8]) -> Result<Option<Head<'_>>, Fault> {
        self.reader().get_head(tree, key)
    }

    /// A cursor, not yet at any entry.
    pub fn cursor(&self, tree: Tree) -> Cursor<'_> {
        self.reader().cursor(tree)
    }

    /// The sum of the weights of the entries with `from <= key`, and `key < to` if there is a `to`.
    pub fn weight(&self, tree: Tree, from: &[u8], to: Option<&[u8]>) -> Result<u64, Fault> {
        Ok(self.reader().sums(tree, from, to)?.weight)
    }

    /// The number of entries of the tree and the sum of their weights.
    pub fn len(&self, tree: Tree) -> Sums {
        self.reader().len(tree)
    }

    /// How many views are pinned.
    pub fn views(&self) -> usize {
        self.views.len()
    }

    /// Pins the trees as they are now: what they reach is kept until [`Store::unpin`].
    pub fn pin(&mut self) -> ViewId {
        assert!(self.views.len() < VIEWS_MAX, "too many read views");
        let view = ViewId(self.next_view);
        self.next_view += 1;
        self.views.insert(view, View { roots: self.roots, generation: self.building });
        self.epochs.now += 1;
        view
    }

    /// Lets go of a view. It is pinned.
    pub fn unpin(&mut self, view: ViewId) {
        assert!(self.views.remove(&view).is_some(), "a view was let go that is not pinned");
        self.release_waiting();
    }

    /// Gives out again what neither the last finished checkpoint nor a view reaches.
    pub(super) fn release_waiting(&mut self) {
        let views = &self.views;
        #[cfg(test)]
        let ignore_views = self.options.mutant == Some(super::Mutant::PinnedPageReused);
        #[cfg(not(test))]
        let ignore_views = false;
        let pinned = |extent: &Extent| {
            !ignore_views && views.values().any(|view| extent.born <= view.generation && view.generation <= extent.freed)
        };
        let cache = &mut self.cache;
        self.space.release(self.durable, pinned, |extent| cache.forget(extent.first));
    }

    /// Takes in pages that a call asked for.
    ///
    /// # Errors
    /// Damage: what was read is not what was written there.
    ///
    /// # Panics
    /// When the buffer has another length than the fault.
    pub fn install(&mut self, fault: Fault, buffer: AlignedBuffer) -> Result<(), Damage> {
        assert!(buffer.len() == fault.bytes(), "{} bytes were read for {fault:?}", buffer.len());
        // A read may come in late. Since two checkpoints were begun, the page may have been let go and written anew; and one behind
        // the end of the file was let go and cut off. Whoever still needs it asks again.
        if self.building > fault.expect.issued + 1 || self.is_behind_end(&fault) || self.cache.find(fault.first).is_some() {
            return Ok(());
        }
        verify(&fault, &buffer).map_err(|what| Damage { page: fault.first, what })?;
        match fault.expect.kind {
            Kind::Bitmap | Kind::Directory => self.install_space(fault, &buffer),
            Kind::Leaf | Kind::Branch | Kind::Overflow => {
                self.cache.add(fault.first, buffer, 0);
                Ok(())
            }
        }
    }

    /// The file ends before what a call asked for.
    ///
    /// # Errors
    /// Damage: it should not; but for pages that were let go and cut off after they were asked for, which nobody needs.
    pub fn missing(&self, fault: Fault) -> Result<(), Damage> {
        if self.is_behind_end(&fault) { Ok(()) } else { Err(Damage { page: fault.first, what: What::Missing }) }
    }

    fn is_behind_end(&self, fault: &Fault) -> bool {
        fault.offset() + fault.bytes() as u64 > self.file_bytes
    }

    fn install_space(&mut self, fault: Fault, page: &[u8]) -> Result<(), Damage> {
        let Some(load) = &mut self.space_load else { return Ok(()) };
        if let Some(space) = load.install(fault, page)? {
            self.space = space;
            self.space_load = None;
        }
        Ok(())
    }

    /// Reads the bitmaps, which changes need; they ask for them on their own. The fault is the next page to read.
    #[inline]
    pub fn load_space(&self) -> Result<(), Fault> {
        match &self.space_load {
            None => Ok(()),
            Some(load) => Err(load.wanted(self.building)),
        }
    }
}

/// Whether these bytes are the page or run that the fault asked for.
pub(super) fn verify(fault: &Fault, bytes: &[u8]) -> Result<(), What> {
    if !page::is_sealed(bytes) {
        return Err(What::Checksum);
    }
    if page::id(bytes) != fault.first {
        return Err(What::PageNumber { found: page::id(bytes) });
    }
    let (expected, found) = (fault.expect.generation, page::generation(bytes) as u32);
    if expected != found {
        return Err(What::Generation { expected, found });
    }
    if Kind::of(bytes) != Some(fault.expect.kind) || page::level(bytes) != fault.expect.level {
        return Err(What::Kind);
    }
    match fault.expect.kind {
        Kind::Leaf | Kind::Branch => page::validate(bytes.first_chunk().expect("a page at least")),
        Kind::Overflow if super::leaf::run_pages(page::extra(bytes) as usize) != fault.pages => {
            Err(What::Structure("the length of an overflow run"))
        }
        _ => Ok(()),
    }
}
