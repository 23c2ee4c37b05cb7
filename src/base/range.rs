//! Key ranges as etcd's requests give them, and the shard that a key belongs to.

use bytes::Bytes;

use super::GroupId;

/// Where a range of keys ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RangeEnd {
    /// The range is its first key alone (etcd: range_end empty).
    Single,
    /// Every key below this one.
    Before(Bytes),
    /// No end (etcd: range_end is one NUL byte).
    Open,
}

/// A range of user keys: one key, a half-open interval, or everything from a key on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRange {
    /// The first key.
    pub from: Bytes,
    /// Where it ends.
    pub end: RangeEnd,
}

impl KeyRange {
    /// How many first bytes all keys in the range share.
    pub fn shared_bytes(&self) -> usize {
        match &self.end {
            RangeEnd::Single => self.from.len(),
            RangeEnd::Before(end) => self.from.iter().zip(end.iter()).take_while(|(a, b)| a == b).count(),
            RangeEnd::Open => 0,
        }
    }

    /// The range that `key` and `range_end` mean in etcd's requests.
    pub fn of(key: &Bytes, range_end: &Bytes) -> KeyRange {
        let end = match range_end.as_ref() {
            [] => RangeEnd::Single,
            [0] => RangeEnd::Open,
            _ => RangeEnd::Before(range_end.clone()),
        };
        KeyRange { from: key.clone(), end }
    }

    /// Whether `key` is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == self.from,
            RangeEnd::Before(end) => key >= self.from.as_ref() && key < end.as_ref(),
            RangeEnd::Open => key >= self.from.as_ref(),
        }
    }

    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, RangeEnd::Before(end) if *end <= self.from)
    }

    /// The single key that it is, if it is one.
    pub fn single(&self) -> Option<&Bytes> {
        matches!(self.end, RangeEnd::Single).then_some(&self.from)
    }
}

/// The group (1..=`shards`) that owns `key`: a hash of the whole key, the same on every machine and for ever.
///
/// FNV-1a over the key with a final avalanche, so that keys that differ in their last byte spread too.
#[inline]
pub fn group_of(key: &[u8], shards: u16) -> GroupId {
    if shards == 1 {
        return GroupId(1);
    }
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for &byte in key {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^= hash >> 32;
    GroupId(1 + (((u128::from(hash)) * u128::from(shards)) >> 64) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_over_all_shards_and_stay_where_they_are() {
        let mut counts = [0u32; 17];
        for i in 0..16_000u32 {
            counts[group_of(format!("/registry/pods/default/pod-{i}").as_bytes(), 16).slot()] += 1;
        }
        assert_eq!(counts[0], 0);
        assert!(counts[1..].iter().all(|&c| (800..1200).contains(&c)), "{counts:?}");
        assert_eq!(group_of(b"foo", 16), group_of(b"foo", 16));
        // Written down once: a change of the hash would lose every key of every data dir.
        assert_eq!((group_of(b"foo", 4), group_of(b"bar", 16), group_of(b"", 64)), (FOO_4, BAR_16, EMPTY_64));
    }

    const FOO_4: GroupId = GroupId(1);
    const BAR_16: GroupId = GroupId(12);
    const EMPTY_64: GroupId = GroupId(64);

    #[test]
    fn ranges_mean_what_etcd_means() {
        let b = Bytes::from_static;
        let shared = |key, end| KeyRange::of(&b(key), &b(end)).shared_bytes();
        assert_eq!((shared(b"/a/", b"/a0"), shared(b"/a", b"\0"), shared(b"a", b"b"), shared(b"/a", b"")), (2, 0, 0, 2));
        assert!(KeyRange::of(&b(b"a"), &b(b"")).contains(b"a"));
        assert!(!KeyRange::of(&b(b"a"), &b(b"")).contains(b"aa"));
        assert!(KeyRange::of(&b(b"a"), &b(b"\0")).contains(b"zzz"));
        assert!(!KeyRange::of(&b(b"a"), &b(b"c")).contains(b"c"));
        assert!(KeyRange::of(&b(b"c"), &b(b"a")).is_empty());
    }
}
