//! Stand-in until the hash is merged.

use std::cmp::Ordering;

use crate::base::Revision;

/// Stand-in.
#[derive(Clone, Debug)]
pub struct HashRecord {
    /// Stand-in.
    pub revision: Revision,
    /// Stand-in.
    pub operation: u32,
    /// Stand-in.
    pub key: bytes::Bytes,
}

impl HashRecord {
    /// Stand-in.
    pub fn order(a: &HashRecord, b: &HashRecord) -> Ordering {
        (a.revision, a.operation, &a.key).cmp(&(b.revision, b.operation, &b.key))
    }
}

/// Stand-in.
pub struct HashMerger {
    compact: i64,
    crc: u32,
}

impl HashMerger {
    /// Stand-in.
    pub fn new(_revision: Revision, compact: i64) -> HashMerger {
        HashMerger { compact, crc: 0 }
    }

    /// Stand-in.
    pub fn add(&mut self, record: &HashRecord) {
        self.crc = crc32c::crc32c_append(self.crc, &record.key);
    }

    /// Stand-in.
    pub fn compact_revision(&self) -> i64 {
        self.compact
    }

    /// Stand-in.
    pub fn finish(&self) -> u32 {
        self.crc
    }
}
