//! The trees of a page file that the walk found sound, read in order or by key, with little memory.

use crate::base::AlignedBuffer;
use crate::base::limits::{CHECK_SCAN_ENTRIES, PAGE_BYTES};
use crate::pages::{Cursor, Damage, Fault, Options, PageId, Store, Tree, What};

/// A page file's trees.
pub(super) struct Trees<'a> {
    store: Store,
    file: &'a [u8],
}

/// An entry, with the leaf that it is in. Of a long value, the beginning.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub key: Vec<u8>,
    pub head: Vec<u8>,
    pub weight: u32,
    pub page: PageId,
}

impl<'a> Trees<'a> {
    pub fn open(file: &'a [u8], cache_bytes: usize) -> Result<Trees<'a>, Damage> {
        let metas = &file[..file.len().min(2 * PAGE_BYTES)];
        Ok(Trees { store: Store::open(metas, file.len() as u64, Options::with_cache(cache_bytes))?, file })
    }

    pub fn entries(&self, tree: Tree) -> u64 {
        self.store.len(tree).entries
    }

    /// Runs a read until no page is missing.
    fn run<T>(&mut self, read: impl Fn(&Store) -> Result<T, Fault>) -> Result<T, Damage> {
        loop {
            match read(&self.store) {
                Ok(value) => {
                    self.store.evict();
                    return Ok(value);
                }
                Err(fault) => {
                    let bytes = bytes_of(self.file, &fault)?;
                    self.store.install(fault, bytes)?;
                }
            }
        }
    }

    /// The beginning of what a key maps to, and its weight.
    pub fn get(&mut self, tree: Tree, key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, Damage> {
        self.run(|store| Ok(store.get_head(tree, key)?.map(|head| (head.bytes.to_vec(), head.weight))))
    }

    /// All of what a key maps to.
    pub fn whole(&mut self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, Damage> {
        self.run(|store| Ok(store.get(tree, key)?.map(|entry| entry.value.to_vec())))
    }

    /// The first entry whose key is not below `key`.
    pub fn first_from(&mut self, tree: Tree, key: &[u8]) -> Result<Option<Stored>, Damage> {
        self.run(|store| {
            let mut cursor = store.cursor(tree).heads();
            cursor.seek(key)?;
            Ok(stored(&cursor))
        })
    }

    /// Entries in order from `from` on, some at a time; empty: that was all.
    fn some(&mut self, tree: Tree, from: &[u8]) -> Result<Vec<Stored>, Damage> {
        self.run(|store| {
            let mut cursor = store.cursor(tree).heads();
            cursor.seek(from)?;
            let mut found = Vec::new();
            while let Some(entry) = stored(&cursor) {
                found.push(entry);
                if found.len() == CHECK_SCAN_ENTRIES || cursor.next().is_err() {
                    break;
                }
            }
            Ok(found)
        })
    }

    pub fn scan(&mut self, tree: Tree, from: Vec<u8>) -> Scan {
        Scan { tree, from, at_hand: Vec::new().into_iter(), ended: false }
    }
}

fn stored(cursor: &Cursor<'_>) -> Option<Stored> {
    let item = cursor.item()?;
    let page = cursor.page()?;
    Some(Stored { key: item.key.to_vec(), head: item.value.to_vec(), weight: item.weight, page })
}

fn bytes_of(file: &[u8], fault: &Fault) -> Result<AlignedBuffer, Damage> {
    let start = usize::try_from(fault.offset()).unwrap_or(usize::MAX);
    match file.get(start..).and_then(|rest| rest.get(..fault.bytes())) {
        Some(bytes) => Ok(AlignedBuffer::padded(bytes)),
        None => {
            let expected_bytes = fault.offset() + fault.bytes() as u64;
            Err(Damage { page: fault.first, what: What::Truncated { expected_bytes, found_bytes: file.len() as u64 } })
        }
    }
}

/// A walk through a tree; asks its trees for more as it goes.
pub(super) struct Scan {
    tree: Tree,
    from: Vec<u8>,
    at_hand: std::vec::IntoIter<Stored>,
    ended: bool,
}

impl Scan {
    pub fn next(&mut self, trees: &mut Trees<'_>) -> Result<Option<Stored>, Damage> {
        if self.at_hand.len() == 0 && !self.ended {
            let found = trees.some(self.tree, &self.from)?;
            self.ended = found.is_empty();
            if let Some(last) = found.last() {
                // The lowest key above the last one.
                self.from.clone_from(&last.key);
                self.from.push(0);
            }
            self.at_hand = found.into_iter();
        }
        Ok(self.at_hand.next())
    }
}
