//! Looking ahead of applying: which pages the entries behind the next one will want, so that they are read side by side.
//!
//! Only a hint. An entry whose pages are there when its turn comes is applied at once; another one asks for them itself.

use crate::base::Index;
use crate::base::limits::{APPLY_AHEAD_CACHE_PART, APPLY_AHEAD_ENTRIES, PAGE_BYTES};
use crate::mvcc::Change;
use crate::pages::Fault;
use crate::state::Payload;
use crate::state::kv::{self, Effect};

use super::replica::{Machine, Replica};

impl Replica {
    /// Goes through the committed entries behind the next one to apply, each once and a bounded number of them, until they want
    /// `most` pages that are not in memory. Gives these, with the entry that wants them.
    pub fn look_ahead(&mut self, most: usize) -> Vec<(Index, Fault)> {
        let mut wanted = Vec::new();
        let pages = (self.machine.store().cache_bytes() / PAGE_BYTES / APPLY_AHEAD_CACHE_PART) as u64;
        let end = self.raft.applying().min(Index(self.applied.0 + pages.min(APPLY_AHEAD_ENTRIES)));
        // The next one asks for itself.
        self.looked = self.looked.max(self.applied.next());
        while self.looked < end && wanted.len() < most {
            self.looked = self.looked.next();
            wanted.extend(self.look_at(self.looked).into_iter().map(|fault| (self.looked, fault)));
        }
        wanted
    }

    /// The pages that this entry wants next and that are not in memory: what is below those shows when they are there.
    pub fn look_at(&self, index: Index) -> Vec<Fault> {
        let Machine::Keys(mvcc) = &self.machine else { return Vec::new() };
        let Some(entry) = self.raft.log().entry(index) else { return Vec::new() };
        let (Some(revision), Ok(Payload::Kv(record))) = (entry.mark.revision(), Payload::decode(&entry.payload)) else {
            return Vec::new();
        };
        // What cannot be decoded is found out when it is applied.
        let effects = kv::decode(&record).unwrap_or_default();
        let look = |effect: &Effect| match effect {
            Effect::Put { operation, key, .. } | Effect::Delete { operation, key } => {
                mvcc.look_at(key, Change { revision, operation: *operation }).err()
            }
            // How many keys it deletes shows only as it goes.
            Effect::DeleteRange { .. } | Effect::DeleteAttached { .. } => None,
        };
        effects.iter().filter_map(look).collect()
    }
}
