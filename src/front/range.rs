//! One range read over all the shards it touches: which slices to ask for, how they merge, and etcd's filters, sort, limit and count.
//!
//! A job is pure: it says what to ask, takes what is given, and is done at some point. Source of the rules: etcd 3.7.1,
//! `server/etcdserver/txn/range.go`.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::base::limits::{RANGE_CHUNK_KEYS_MAX, RANGE_PART_BYTES};
use crate::base::{GroupId, KeyRange};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::mvccpb::KeyValue;
use crate::shard::messages::{At, RangeRead, RangeSlice};

use super::config::Layout;
use super::merge::{Merge, Next};
use super::{encode, validate};

/// Keys that each group is asked for in any case, where a range has a limit.
const SHARE_KEYS_SPARE: usize = 3;

/// What a range came to.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// The first keys as fields of the answer, where [`RangeJob::encoding`] was asked for.
    pub encoded: Vec<Bytes>,
    /// The keys (those behind `encoded`), sorted, cut to the limit.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut something off.
    pub more: bool,
    /// Keys in the range at its revision, whatever limit and filters.
    pub count: u64,
}

/// A slice to ask a group for.
pub type Asked = (GroupId, RangeRead);

/// A range under way.
pub struct RangeJob {
    request: pb::RangeRequest,
    at: At,
    merge: Merge<KeyValue>,
    groups: usize,
    /// Keys that are wanted in key order; `usize::MAX`: all.
    wanted: usize,
    /// The sort that follows, if any.
    sort: Option<(SortTarget, SortOrder)>,
    /// Whether the groups count the range themselves.
    counted: bool,
    /// Whether keys are encoded as they come, as far as they need not be sorted.
    encodes: bool,
    encoded: Vec<Bytes>,
    /// How many keys that is.
    encoded_keys: usize,
    /// Bytes of the keys that came and are not encoded.
    kvs_bytes: usize,
    kvs: Vec<KeyValue>,
    /// Keys that came, those cut off since included.
    matched: usize,
    count: u64,
}

impl RangeJob {
    /// A read of `request` at `at`. The request's own revision has been looked at already.
    pub fn new(request: pb::RangeRequest, at: At, layout: &Layout) -> RangeJob {
        let range = KeyRange::of(&request.key, &request.range_end);
        let groups = if range.is_empty() { Vec::new() } else { layout.of_range(&range) };
        let limit = usize::try_from(request.limit).unwrap_or(0);
        let filtered = validate::has_revision_filters(&request);
        let pushed_down = limit > 0 && validate::is_key_order(&request) && !filtered;
        RangeJob {
            at,
            merge: Merge::new(&groups, range.shared_bytes(), |kv| &kv.key),
            groups: groups.len(),
            wanted: if pushed_down { limit.saturating_add(1) } else { usize::MAX },
            sort: sort_of(&request),
            counted: request.count_only || pushed_down || filtered,
            encodes: false,
            encoded: Vec::new(),
            encoded_keys: 0,
            kvs_bytes: 0,
            kvs: Vec::new(),
            matched: 0,
            count: 0,
            request,
        }
    }

    /// Encodes the keys of a large answer as they come: no step takes long, and they are not kept twice.
    #[must_use]
    pub fn encoding(mut self) -> RangeJob {
        self.encodes = self.sort.is_none();
        self
    }

    /// All keys of a request's range and nothing cut: for previous values and compares.
    pub fn whole(key: Bytes, range_end: Bytes, at: At, layout: &Layout) -> RangeJob {
        RangeJob::new(pb::RangeRequest { key, range_end, ..Default::default() }, at, layout)
    }

    /// Goes as far as what is here allows: `None` when it is done, else the slices that it needs before it can go on (none, when all
    /// have been asked for).
    pub fn advance(&mut self) -> Option<Vec<Asked>> {
        if self.request.count_only {
            return match self.merge.pop() {
                Next::Done => None,
                _ => Some(self.ask()),
            };
        }
        while self.encoded_keys + self.kvs.len() < self.wanted {
            match self.merge.pop() {
                Next::Item(kv) => self.take(kv),
                Next::Done => return None,
                Next::Blocked => return Some(self.ask()),
            }
        }
        None
    }

    /// The groups that it reads.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> {
        self.merge.groups()
    }

    /// A group's slice is here.
    pub fn give(&mut self, group: GroupId, slice: RangeSlice) {
        if self.counted {
            self.count += slice.count;
        }
        self.merge.give(group, slice.kvs, slice.resume);
    }

    /// What it came to, after [`RangeJob::advance`] said that it is done.
    pub fn outcome(mut self) -> Outcome {
        if self.request.count_only {
            return Outcome { count: self.count, ..Outcome::default() };
        }
        let count = if self.counted { self.count } else { self.matched as u64 };
        self.sort();
        let limit = usize::try_from(self.request.limit).unwrap_or(0);
        let more = limit > 0 && self.matched > limit;
        if more {
            self.kvs.truncate(limit - self.encoded_keys);
        }
        self.clear_values();
        Outcome { encoded: self.encoded, kvs: self.kvs, more, count }
    }

    fn clear_values(&mut self) {
        if self.request.keys_only {
            for kv in &mut self.kvs {
                kv.value.clear();
            }
        }
    }

    fn take(&mut self, kv: KeyValue) {
        self.kvs_bytes += kv.value.len();
        self.kvs.push(kv);
        self.matched += 1;
        let limit = usize::try_from(self.request.limit).unwrap_or(0);
        if self.encodes && self.kvs_bytes >= RANGE_PART_BYTES && (limit == 0 || self.matched <= limit) {
            self.clear_values();
            self.encoded.push(encode::range_part(&self.kvs));
            self.encoded_keys += self.kvs.len();
            self.kvs.clear();
            self.kvs_bytes = 0;
        }
        // A sort with a limit keeps no more than it needs.
        if limit > 0
            && self.sort.is_some()
            && self.wanted == usize::MAX
            && self.kvs.len() >= limit.saturating_mul(2).saturating_add(1024)
        {
            self.sort();
            self.kvs.truncate(limit);
        }
    }

    fn sort(&mut self) {
        let Some((target, order)) = self.sort else { return };
        let by = |a: &KeyValue, b: &KeyValue| -> Ordering {
            match target {
                SortTarget::Key => a.key.cmp(&b.key),
                SortTarget::Version => a.version.cmp(&b.version),
                SortTarget::Create => a.create_revision.cmp(&b.create_revision),
                SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
                SortTarget::Value => a.value.cmp(&b.value),
            }
        };
        match order {
            SortOrder::Descend => self.kvs.sort_by(|a, b| by(b, a)),
            _ => self.kvs.sort_by(by),
        }
    }

    fn ask(&mut self) -> Vec<Asked> {
        let limit = self.chunk();
        let r = &self.request;
        let range = KeyRange::of(&r.key, &r.range_end);
        // etcd's index answers keys_only without reading values, and so without leases; not so when it sorts by value.
        let keys_only = r.keys_only && r.sort_target != SortTarget::Value as i32;
        let read = RangeRead {
            range,
            at: self.at,
            limit,
            keys_only,
            count_only: r.count_only,
            with_count: false,
            mod_revisions: (r.min_mod_revision, r.max_mod_revision),
            create_revisions: (r.min_create_revision, r.max_create_revision),
            resume: None,
        };
        let with_count = self.counted && !r.count_only;
        let mut asked = Vec::new();
        self.merge.ask(|group, resume| {
            let with_count = with_count && resume.is_none();
            asked.push((group, RangeRead { with_count, resume, ..read.clone() }));
        });
        asked
    }

    /// How many keys to ask a group for: its share of what is missing, and a little more than shares commonly differ by, which is the
    /// root of a share. More would mostly be read for nothing; those few groups that run out are asked again.
    fn chunk(&self) -> usize {
        if self.wanted == usize::MAX {
            return RANGE_CHUNK_KEYS_MAX;
        }
        let missing = self.wanted - self.encoded_keys - self.kvs.len();
        let share = missing / self.merge.open().max(1);
        let asked = if self.groups == 1 { missing } else { share + (2 * share).isqrt() + SHARE_KEYS_SPARE };
        asked.min(missing).clamp(1, RANGE_CHUNK_KEYS_MAX)
    }
}

/// etcd's sort: a target alone means ascending, and what is in key order already is left alone.
fn sort_of(r: &pb::RangeRequest) -> Option<(SortTarget, SortOrder)> {
    let target = SortTarget::try_from(r.sort_target).unwrap_or(SortTarget::Key);
    let order = match SortOrder::try_from(r.sort_order).unwrap_or(SortOrder::None) {
        SortOrder::None if target != SortTarget::Key => SortOrder::Ascend,
        order => order,
    };
    match (target, order) {
        (_, SortOrder::None) | (SortTarget::Key, SortOrder::Ascend) => None,
        sort => Some(sort),
    }
}

#[cfg(test)]
#[path = "range_test.rs"]
mod tests;
