//! Reads at a revision: one key, a range in slices, a count.

use std::ops::{Bound, ControlFlow, RangeBounds};

use bytes::Bytes;

use crate::base::limits::{COUNT_CORRECTIONS_MAX, VALUES_AHEAD_VISITS};
use crate::pages::Fault;
use crate::proto::mvccpb::KeyValue;

use super::change::{At, Budget, Change, Span};
use super::key::{KeyBuffer, split_change, split_version};
use super::overlay::Overlay;
use super::record::{KeyState, Value, parse};
use super::store::{KEYS, Mvcc, REVISIONS};
use super::walk::{Step, Walk};

/// What is read: the store, and over it what is evaluated but not yet applied.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What is applied.
    pub mvcc: &'a Mvcc,
    /// What is not.
    pub overlay: &'a Overlay,
}

/// A range read (surface 3.3). Sorting, `more` and the limit over several shards are the caller's.
#[derive(Clone, Debug)]
pub struct RangeQuery {
    /// Which keys.
    pub span: Span,
    /// The most keys of one chunk.
    pub limit: usize,
    /// Leave out values, and leases with them, as etcd 3.7 does.
    pub keys_only: bool,
    /// Which of the living keys are wanted; `counted` does not mind.
    pub filters: Filters,
}

/// Bounds on revisions, both inclusive; 0 is no bound (surface 3.3).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Filters {
    /// Lowest modification revision.
    pub min_mod: i64,
    /// Highest modification revision.
    pub max_mod: i64,
    /// Lowest creation revision.
    pub min_create: i64,
    /// Highest creation revision.
    pub max_create: i64,
}

/// A slice of a range read.
#[derive(Debug)]
pub struct Chunk {
    /// Keys in ascending order; their bytes lie in one buffer that they share.
    pub kvs: Vec<KeyValue>,
    /// How many living keys this slice passed, filtered ones included.
    pub counted: u64,
    /// Where the next slice begins; None: the span is exhausted.
    pub resume: Option<Bytes>,
}

/// A slice of a count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counted {
    /// How many living keys this slice passed.
    pub counted: u64,
    /// Where the next slice begins; None: the span is exhausted.
    pub resume: Option<Bytes>,
}

impl Filters {
    fn admit(&self, state: &KeyState<'_>) -> bool {
        let (modified, created) = (state.mod_revision.as_i64(), state.create_revision.as_i64());
        let above = |min: i64, revision: i64| min == 0 || revision >= min;
        let below = |max: i64, revision: i64| max == 0 || revision <= max;
        above(self.min_mod, modified)
            && below(self.max_mod, modified)
            && above(self.min_create, created)
            && below(self.max_create, created)
    }
}

impl<'a> View<'a> {
    /// `key` as the newest change left it, evaluated or applied; None if it does not live.
    pub fn newest(&self, key: &[u8]) -> Result<Option<KeyState<'a>>, Fault> {
        self.get(key, At::LATEST)
    }

    /// As [`View::newest`], but for the value, which is not to be used; a long one is not read from the disk for it.
    pub fn newest_fields(&self, key: &[u8]) -> Result<Option<KeyState<'a>>, Fault> {
        match self.overlay.seen(key, At::LATEST) {
            Some(state) => Ok(state),
            None => self.mvcc.find(key, At::LATEST, false),
        }
    }

    /// `key` as `at` sees it; None if it does not live then.
    pub fn get(&self, key: &[u8], at: At) -> Result<Option<KeyState<'a>>, Fault> {
        match self.overlay.seen(key, at) {
            Some(state) => Ok(state),
            None => self.mvcc.find(key, at, true),
        }
    }

    /// Those of the next `pages` pages with keys that a walk over `span` from `resume` on will come to that are not in memory, to be read
    /// side by side; none behind so many entries.
    pub fn keys_ahead(&self, span: &Span, resume: Option<&[u8]>, pages: usize, entries: usize) -> Vec<Fault> {
        if matches!(span, Span::Key(_)) {
            return Vec::new();
        }
        let (from, end) = KeyBuffer::tree_bounds(span.bounds(resume));
        let end = end.as_ref().map(KeyBuffer::as_slice);
        self.mvcc.store().reader().ahead(KEYS, from.as_slice(), end, pages, entries as u64)
    }

    /// The pages with values that [`View::range`] will come to and that are not in memory, as far as those with keys are: `pages` at
    /// most. It walks over the keys: for a read that waits anyhow.
    pub fn values_ahead(&self, at: At, query: &RangeQuery, resume: Option<&[u8]>, pages: usize) -> Vec<Fault> {
        let mut wanted: Vec<Fault> = Vec::new();
        let mut keys_left = query.limit;
        if query.keys_only || keys_left == 0 {
            return wanted;
        }
        // A fault ends it: behind a page with keys that is missing nothing is known.
        let _ = self.walk(at, &query.span, resume, VALUES_AHEAD_VISITS, false, |key, state| {
            keys_left -= 1;
            if let (true, Value::Stored(_)) = (query.filters.admit(state), state.value)
                && let Err(fault) = self.mvcc.look_for_value(key, state.change())
                && wanted.iter().all(|other| other.first != fault.first)
            {
                wanted.push(fault);
            }
            match wanted.len() == pages || keys_left == 0 {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        wanted
    }

    fn lives(&self, key: &[u8], at: At) -> Result<bool, Fault> {
        match self.overlay.seen(key, at) {
            Some(state) => Ok(state.is_some()),
            None => Ok(self.mvcc.find(key, at, false)?.is_some()),
        }
    }

    /// A slice of the keys of `query` that live at `at`, from `resume` on (None: from the start).
    ///
    /// A fault is returned only if nothing could be read; install, and ask again. With a chunk, go on from its `resume`.
    pub fn range(&self, at: At, query: &RangeQuery, resume: Option<&[u8]>, budget: Budget) -> Result<Chunk, Fault> {
        if let (Span::Key(key), None) = (&query.span, resume) {
            return self.range_of_one(at, query, key);
        }
        let mut gather = Gather::default();
        let mut counted = 0;
        if query.limit == 0 {
            return Ok(Chunk {
                kvs: Vec::new(),
                counted,
                resume: Some(resume.map_or_else(|| query.span.first().clone(), Bytes::copy_from_slice)),
            });
        }
        let resume = self.walk(at, &query.span, resume, budget.visits, !query.keys_only, |key, state| {
            counted += 1;
            if query.filters.admit(state) {
                gather.push(key, state, query.keys_only);
            }
            match gather.kvs.len() >= query.limit || gather.bytes >= budget.bytes {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        Ok(Chunk { kvs: gather.finish(), counted, resume })
    }

    /// Calls `visit` with the keys of `span` that live at `at`, in order, from `resume` on, until it breaks or the visits are used
    /// up. Returns where to go on; None: the span is exhausted. A fault is returned only if no key was dealt with. Values are given
    /// only where they are wanted.
    pub(crate) fn walk(
        &self,
        at: At,
        span: &Span,
        resume: Option<&[u8]>,
        visits: u32,
        values: bool,
        mut visit: impl FnMut(&[u8], &KeyState<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Bytes>, Fault> {
        let mut walk = Walk::new(self.mvcc, self.overlay, at, span, resume, visits, values)?;
        loop {
            let flow = match walk.next() {
                Ok(Step::Alive(key, state)) => visit(key, &state),
                Ok(Step::End) => return Ok(None),
                Ok(Step::Pause) => ControlFlow::Break(()),
                Err(fault) => match walk.resume() {
                    None => return Err(fault),
                    resume => return Ok(resume),
                },
            };
            if flow.is_break() {
                return Ok(walk.resume());
            }
        }
    }

    fn range_of_one(&self, at: At, query: &RangeQuery, key: &Bytes) -> Result<Chunk, Fault> {
        let state = self.get(key, at)?;
        let counted = u64::from(state.is_some());
        let wanted = state.filter(|state| query.limit > 0 && query.filters.admit(state));
        let kvs = wanted.map(|state| match query.keys_only {
            true => state.to_message_of_key(key.clone()),
            false => state.to_message(key.clone()),
        });
        Ok(Chunk { kvs: kvs.into_iter().collect(), counted, resume: None })
    }

    /// How many keys of `span` live at `at`, from `resume` on (None: from the start), in slices as [`View::range`].
    ///
    /// Where the weights can answer, it takes one slice and O(log n), and so much for each key of the overlay in the span and for
    /// each change above `at`; where those are many, it walks.
    pub fn count(&self, at: At, span: &Span, resume: Option<&[u8]>, budget: Budget) -> Result<Counted, Fault> {
        if let (Span::Key(key), None) = (span, resume) {
            return Ok(Counted { counted: u64::from(self.lives(key, at)?), resume: None });
        }
        if let Some(counted) = self.count_by_weight(at, span, resume)? {
            return Ok(Counted { counted, resume: None });
        }
        let mut counted = 0;
        let resume = self.walk(at, span, resume, budget.visits, false, |_, _| {
            counted += 1;
            ControlFlow::Continue(())
        })?;
        Ok(Counted { counted, resume })
    }

    /// The living keys by the weights of KEYS, corrected for what the overlay and the changes above `at` make of them.
    fn count_by_weight(&self, at: At, span: &Span, resume: Option<&[u8]>) -> Result<Option<u64>, Fault> {
        if !self.mvcc.is_whole() {
            return Ok(None);
        }
        let bounds = span.bounds(resume);
        let live = self.mvcc.live_keys(bounds)?;
        if self.overlay.range(span, resume).nth(COUNT_CORRECTIONS_MAX).is_some() {
            return Ok(None);
        }
        let mut count = i64::try_from(live).expect("fewer than 2^63 keys");
        if !self.mvcc.weights_cover(at) {
            let Some(difference) = self.mvcc.net_change_after(at, span, resume, live)? else { return Ok(None) };
            count -= difference;
        }
        for (key, versions) in self.overlay.range(span, resume) {
            if let Some(version) = versions.seen(at) {
                count += i64::from(version.put.is_some()) - i64::from(self.mvcc.find(key, at, false)?.is_some());
            }
        }
        Ok(Some(u64::try_from(count).expect("a count is not negative")))
    }
}

impl Mvcc {
    /// `key` as `at` sees it in the store alone, with its value only where that is wanted.
    #[inline]
    pub(crate) fn find(&self, key: &[u8], at: At, value: bool) -> Result<Option<KeyState<'_>>, Fault> {
        let sought = KeyBuffer::newest_seen(key, at);
        let mut cursor = self.store().cursor(KEYS);
        cursor.seek(sought.as_slice())?;
        let Some((found, stored, _)) = cursor.entry() else { return Ok(None) };
        let (escaped, change) = split_version(found);
        // What follows the versions of a key is another key's, with another escaped part.
        if sought.as_slice().len() < escaped.len() || sought.as_slice()[..escaped.len()] != *escaped {
            return Ok(None);
        }
        match parse(stored) {
            None => Ok(None),
            Some(fields) => {
                let value = if value { self.value(key, change, &fields)? } else { &[] };
                Ok(Some(KeyState::stored(change, &fields, value)))
            }
        }
    }

    /// How many keys within `bounds` live in the store, by its weights.
    fn live_keys(&self, bounds: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<u64, Fault> {
        let (from, end) = KeyBuffer::tree_bounds(bounds);
        self.store().weight(KEYS, from.as_slice(), end.as_ref().map(KeyBuffer::as_slice))
    }

    /// By how much the number of living keys within the span has grown, in the store, by the changes that `at` does not see.
    ///
    /// None when walking the `live` keys is the smaller work, or when there is too much of it for one slice.
    fn net_change_after(&self, at: At, span: &Span, resume: Option<&[u8]>, live: u64) -> Result<Option<i64>, Fault> {
        let first_unseen = Change { revision: at.revision, operation: at.operation_bound };
        let from = KeyBuffer::change(first_unseen, b"");
        let unseen = self.store().weight(REVISIONS, from.as_slice(), None)?;
        if unseen > COUNT_CORRECTIONS_MAX as u64 || unseen > live {
            return Ok(None);
        }
        let bounds = span.bounds(resume);
        let mut keys = Vec::with_capacity(unseen as usize);
        let mut cursor = self.store().cursor(REVISIONS).heads();
        cursor.seek(from.as_slice())?;
        while let Some((entry, _, _)) = cursor.entry() {
            let (_, key) = split_change(entry);
            if RangeBounds::<[u8]>::contains(&bounds, key) {
                keys.push(key.to_vec());
            }
            cursor.next()?;
        }
        keys.sort_unstable();
        keys.dedup();
        let mut difference = 0;
        for key in keys {
            let now = self.find(&key, At::LATEST, false)?.is_some();
            difference += i64::from(now) - i64::from(self.find(&key, at, false)?.is_some());
        }
        Ok(Some(difference))
    }
}

impl KeyState<'_> {
    /// As etcd answers when only keys are asked for.
    fn to_message_of_key(self, key: Bytes) -> KeyValue {
        let mut message = self.to_message_with(key, Bytes::new());
        message.lease = 0;
        message
    }
}

/// Gathers keys and values into one buffer.
#[derive(Default)]
struct Gather {
    kvs: Vec<KeyValue>,
    /// For each of `kvs`: the length of its key and, if it was copied, of its value.
    lengths: Vec<(u32, Option<u32>)>,
    buffer: Vec<u8>,
    /// Copied and shared.
    bytes: usize,
}

impl Gather {
    fn push(&mut self, key: &[u8], state: &KeyState<'_>, keys_only: bool) {
        self.buffer.extend_from_slice(key);
        self.bytes += key.len();
        let (kv, copied) = match state.value {
            _ if keys_only => (state.to_message_of_key(Bytes::new()), None),
            Value::Shared(value) => {
                self.bytes += value.len();
                (state.to_message_with(Bytes::new(), value.clone()), None)
            }
            Value::Stored(value) => {
                self.bytes += value.len();
                self.buffer.extend_from_slice(value);
                (state.to_message_with(Bytes::new(), Bytes::new()), Some(length(value)))
            }
        };
        self.kvs.push(kv);
        self.lengths.push((length(key), copied));
    }

    fn finish(self) -> Vec<KeyValue> {
        let Gather { mut kvs, lengths, buffer, .. } = self;
        let mut rest = Bytes::from(buffer);
        for (kv, (key, value)) in kvs.iter_mut().zip(lengths) {
            kv.key = rest.split_to(key as usize);
            if let Some(value) = value {
                kv.value = rest.split_to(value as usize);
            }
        }
        assert!(rest.is_empty(), "every byte gathered belongs to a key or a value");
        kvs
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a key or value is no longer than a request")
}
