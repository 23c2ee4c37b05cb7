//! HashKV as etcd computes it, over the entries of several shards (surface 7.3).
//!
//! etcd hashes the bytes of its own `key` bucket, in the order of its keys: revision, then sub-revision. Here each shard gives its
//! entries in the order (revision, operation, key), which merged over the shards is the same order; the merger counts the tombstones
//! that share an operation, which gives the sub-revisions, and hashes what etcd would have stored.
//!
//! What is hashed at revision R with compaction revision C (-1: never compacted):
//! - of the changes above C, up to R, all;
//! - of those up to C the ones in the *keep set of R*, or, when that set is empty, whatever compaction has left of them;
//! - no tombstone at C.
//!
//! The keep set has, per key, its newest version up to R, unless that is a tombstone; and nothing of a key that was deleted in
//! revision R itself, even if it was written again in the same revision (which a txn may do, with a delete up to "\0"): of such a key etcd
//! looks only at the generation that ends in R.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::base::Revision;
use crate::pages::{Cursor, Fault};
use crate::proto::mvccpb::KeyValue;

use super::change::{At, Budget, Change, Span};
use super::events::EventsResume;
use super::key::{KeyBuffer, split_change, split_version};
use super::overlay::Overlay;
use super::read::View;
use super::record::{KeyState, Kind};
use super::store::{KEYS, Mvcc, REVISIONS};

/// What etcd's hash begins with: the name of the bucket.
const BUCKET: &[u8] = b"key";
/// Revision, underscore, sub-revision, mark of a tombstone.
const STORED_KEY_BYTES_MAX: usize = 8 + 1 + 8 + 1;

static NO_OVERLAY: Overlay = Overlay::new();

/// What is to be hashed. Everything up to `revision` is applied in every shard, and `revision` is not below `compacted`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashQuery {
    /// R: the last revision that counts.
    pub revision: Revision,
    /// C: the compaction revision; -1 when nothing was ever compacted.
    pub compacted: i64,
    /// As etcd hashes while it compacts to R, from C: it keeps these hashes, and answers the last ten of them by R. To be taken
    /// before anything is removed on account of R. Its keep set has the tombstones of R as well.
    pub at_compaction: bool,
}

/// An entry that counts, or may count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HashEntry {
    /// Its place.
    pub change: Change,
    /// Its key.
    pub key: Bytes,
    /// What it did.
    pub kind: Kind,
    /// What etcd stores as its value.
    pub stored: Bytes,
    /// It counts only if the keep set is empty.
    pub only_without_kept: bool,
}

/// A slice of a shard's entries, in order.
#[derive(Debug)]
pub struct HashChunk {
    /// The entries; their bytes lie in one buffer that they share.
    pub entries: Vec<HashEntry>,
    /// Where the next slice begins; None: these were all.
    pub resume: Option<EventsResume>,
    /// Versions looked at.
    pub visits: u32,
    /// Bytes of the entries, about.
    pub bytes: usize,
}

/// A slice of the question whether a shard has any key in the keep set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AnyKept {
    /// It has.
    Yes,
    /// It has none.
    No,
    /// Not up to this key: ask again from there.
    From(Bytes),
}

fn hash_start(resume: Option<&EventsResume>) -> KeyBuffer {
    match resume {
        Some(place) => KeyBuffer::change(place.change, &place.key),
        None => KeyBuffer::change(Change { revision: Revision::ZERO, operation: 0 }, b""),
    }
}

impl Mvcc {
    /// A slice of the question whether this shard has any key in the keep set. All shards are asked before the first is merged.
    pub fn any_kept(&self, query: HashQuery, resume: Option<&[u8]>, budget: Budget) -> Result<AnyKept, Fault> {
        let view = View { mvcc: self, overlay: &NO_OVERLAY };
        let mut candidate = None;
        let at = At::end_of(query.revision);
        let resume = view.walk(at, &Span::everything(), resume, budget.visits, false, |key, state| {
            let change = Change { revision: state.mod_revision, operation: state.operation };
            candidate = Some((Bytes::copy_from_slice(key), change));
            ControlFlow::Break(())
        })?;
        match candidate {
            Some((key, change)) if !self.is_rewritten(query, &key, change)? => Ok(AnyKept::Yes),
            _ => match resume {
                Some(key) => Ok(AnyKept::From(key)),
                None if query.at_compaction && self.has_tombstone_in(query.revision)? => Ok(AnyKept::Yes),
                None => Ok(AnyKept::No),
            },
        }
    }

    fn has_tombstone_in(&self, revision: Revision) -> Result<bool, Fault> {
        let mut cursor = self.store().cursor(REVISIONS).heads();
        cursor.seek(KeyBuffer::change(Change { revision, operation: 0 }, b"").as_slice())?;
        while let Some((entry, kind, _)) = cursor.entry() {
            if split_change(entry).0.revision != revision {
                break;
            }
            if Kind::of_stored(kind) == Kind::Tombstone {
                return Ok(true);
            }
            cursor.next()?;
        }
        Ok(false)
    }

    /// Whether the put of `key` at `change`, its newest version, comes after a tombstone in the very revision that is hashed.
    fn is_rewritten(&self, query: HashQuery, key: &[u8], change: Change) -> Result<bool, Fault> {
        let mut later = change;
        while later.revision == query.revision {
            match self.prior(key, later)? {
                Some(prior) if prior.change.revision == query.revision && prior.kind == Kind::Tombstone => return Ok(true),
                Some(prior) => later = prior.change,
                None => break,
            }
        }
        Ok(false)
    }

    /// A slice of the entries of this shard that count or may count, from `resume` on (None: from the first).
    ///
    /// A fault is returned only if nothing could be read; install, and ask again. With a chunk, go on from its `resume`.
    pub fn hash_entries(&self, query: HashQuery, resume: Option<&EventsResume>, budget: Budget) -> Result<HashChunk, Fault> {
        let mut cursor = self.store().cursor(REVISIONS).heads();
        cursor.seek(hash_start(resume).as_slice())?;
        let mut chunk = Gather::default();
        let mut visits = 0;
        while let Some((entry, ..)) = cursor.entry() {
            let (change, key) = split_change(entry);
            if change.revision > query.revision {
                break;
            }
            let here = || Some(EventsResume { change, key: Bytes::copy_from_slice(key) });
            if visits > 0 && (visits >= budget.visits || chunk.buffer.len() >= budget.bytes) {
                return Ok(chunk.finish(here(), visits));
            }
            match self.hash_entry(query, &cursor, &mut chunk) {
                Ok(()) => {}
                Err(fault) if visits == 0 => return Err(fault),
                Err(_) => return Ok(chunk.finish(here(), visits)),
            }
            visits += 1;
            if cursor.next().is_err() {
                let key = [key, &[0]].concat().into();
                return Ok(chunk.finish(Some(EventsResume { change, key }), visits));
            }
        }
        Ok(chunk.finish(None, visits))
    }

    /// The pages that [`Mvcc::hash_entries`] will want and that are not in memory, to be read side by side: of the next `most`
    /// leaves, and what the next `most` entries want besides.
    pub fn hash_ahead(&self, query: HashQuery, resume: Option<&EventsResume>, most: usize) -> Vec<Fault> {
        let mut wanted = self.changes_ahead(&hash_start(resume), query.revision, most);
        let mut cursor = self.store().cursor(REVISIONS).heads();
        if cursor.seek(hash_start(resume).as_slice()).is_err() {
            return wanted;
        }
        for _ in 0..most {
            let Some((entry, ..)) = cursor.entry() else { break };
            let (change, _) = split_change(entry);
            if change.revision > query.revision {
                break;
            }
            wanted.extend(self.hash_entry(query, &cursor, &mut Gather::default()).err());
            if cursor.next().is_err() {
                break;
            }
        }
        wanted
    }

    /// The entry that a cursor over REVISIONS stands at.
    fn hash_entry<'a>(&'a self, query: HashQuery, cursor: &Cursor<'a>, chunk: &mut Gather) -> Result<(), Fault> {
        let (entry, stored, _) = cursor.entry().expect("the cursor stands at an entry");
        let ((change, key), kind) = (split_change(entry), Kind::of_stored(stored));
        let is_compacted = change.revision.as_i64() <= query.compacted;
        if kind == Kind::Tombstone {
            // One below the floor is never kept, and is gone once compaction is through; one at the floor never counts.
            if !is_compacted {
                chunk.push(change, kind, KeyValue { key: Bytes::copy_from_slice(key), ..KeyValue::default() }, false);
            }
            return Ok(());
        }
        let mut only_without_kept = false;
        if is_compacted {
            let newest_at = |revision: u64| self.newest_at(key, Revision(revision));
            let floor = u64::try_from(query.compacted).expect("a revision is not above a negative floor");
            if newest_at(floor)? != Some(change) {
                return Ok(());
            }
            let is_newest = newest_at(query.revision.get())? == Some(change);
            only_without_kept = !is_newest || self.is_rewritten(query, key, change)?;
        }
        let fields = self.whole(cursor)?.expect("the kind is that of a put");
        let state = KeyState::stored(change, &fields, fields.value);
        chunk.push(change, kind, state.to_message(Bytes::copy_from_slice(key)), only_without_kept);
        Ok(())
    }

    /// Where the newest version of `key` up to the end of `revision` stands.
    fn newest_at(&self, key: &[u8], revision: Revision) -> Result<Option<Change>, Fault> {
        let sought = KeyBuffer::newest_seen(key, At::end_of(revision));
        let mut cursor = self.store().cursor(KEYS).heads();
        cursor.seek(sought.as_slice())?;
        let Some((entry, ..)) = cursor.entry() else { return Ok(None) };
        let (escaped, change) = split_version(entry);
        Ok((escaped == split_version(sought.as_slice()).0).then_some(change))
    }
}

/// Gathers entries into one buffer.
#[derive(Default)]
struct Gather {
    entries: Vec<(HashEntry, usize)>,
    buffer: BytesMut,
}

impl Gather {
    fn push(&mut self, change: Change, kind: Kind, kv: KeyValue, only_without_kept: bool) {
        kv.encode(&mut self.buffer).expect("a buffer that grows takes every message");
        let entry = HashEntry { change, key: kv.key, kind, stored: Bytes::new(), only_without_kept };
        self.entries.push((entry, self.buffer.len()));
    }

    fn finish(self, resume: Option<EventsResume>, visits: u32) -> HashChunk {
        let bytes = self.buffer.len();
        let buffer = self.buffer.freeze();
        let mut start = 0;
        let entries = self.entries.into_iter().map(|(mut entry, end)| {
            entry.stored = buffer.slice(start..end);
            start = end;
            entry
        });
        HashChunk { entries: entries.collect(), resume, visits, bytes }
    }
}

/// Merges the entries of the shards, and hashes them.
#[derive(Debug)]
pub struct HashMerger {
    any_kept: bool,
    shards: Vec<ShardEntries>,
    last: Option<Change>,
    /// How many entries of the last change came before.
    rank: u64,
    hash: u32,
}

#[derive(Debug, Default)]
struct ShardEntries {
    waiting: VecDeque<HashEntry>,
    is_whole: bool,
}

impl ShardEntries {
    fn first(&self) -> Option<(Change, &[u8])> {
        self.waiting.front().map(|entry| (entry.change, &entry.key[..]))
    }
}

impl HashMerger {
    /// For this many shards; `any_kept` if one of them has a key in the keep set.
    pub fn new(shards: usize, any_kept: bool) -> HashMerger {
        let shards = (0..shards).map(|_| ShardEntries::default()).collect();
        HashMerger { any_kept, shards, last: None, rank: 0, hash: crc32c::crc32c(BUCKET) }
    }

    /// The next shard whose entries are needed; None: all are there.
    pub fn wanted(&self) -> Option<usize> {
        self.shards.iter().position(|shard| shard.waiting.is_empty() && !shard.is_whole)
    }

    /// Adds a slice of the entries of shard `shard`; `is_whole` if it was the last. Hashes what can be hashed.
    pub fn feed(&mut self, shard: usize, entries: Vec<HashEntry>, is_whole: bool) {
        let of = &mut self.shards[shard];
        assert!(!of.is_whole, "a shard gives its last slice once");
        of.waiting.extend(entries);
        of.is_whole = is_whole;
        while self.wanted().is_none() {
            let waiting = self.shards.iter_mut().filter(|shard| !shard.waiting.is_empty());
            let Some(lowest) = waiting.min_by(|a, b| a.first().cmp(&b.first())) else { break };
            let entry = lowest.waiting.pop_front().expect("it has a first entry");
            self.add(&entry);
        }
    }

    fn add(&mut self, entry: &HashEntry) {
        assert!(self.last.is_none_or(|last| last <= entry.change), "entries are merged in order");
        self.rank = if self.last == Some(entry.change) { self.rank + 1 } else { 0 };
        self.last = Some(entry.change);
        if entry.only_without_kept && self.any_kept {
            return;
        }
        let mut key = [0u8; STORED_KEY_BYTES_MAX];
        let mut rest = &mut key[..];
        rest.put_u64(entry.change.revision.get());
        rest.put_u8(b'_');
        rest.put_u64(u64::from(entry.change.operation) + self.rank);
        rest.put_u8(b't');
        let key = if entry.kind == Kind::Tombstone { &key[..] } else { &key[..STORED_KEY_BYTES_MAX - 1] };
        self.hash = crc32c::crc32c_append(crc32c::crc32c_append(self.hash, key), &entry.stored);
    }

    /// The hash, once no shard is wanted.
    pub fn finish(self) -> u32 {
        assert!(self.wanted().is_none() && self.shards.iter().all(|shard| shard.waiting.is_empty()), "every entry is merged");
        self.hash
    }
}
