//! Applying committed entries, in order of their index, each once.

use std::ops::ControlFlow;

use crate::base::limits::APPLY_DELETES_MAX;
use crate::base::{Entry, Index, Mark};
use crate::pages::Fault;
use crate::state::apply::{self, EventsWanted};
use crate::state::{Payload, kv};

use super::replica::{Machine, Replica};

/// What an applied entry was, for those who wait for it.
#[derive(Debug)]
pub struct Applied {
    /// Its place in the log.
    pub index: Index,
    /// How it counts.
    pub mark: Mark,
    /// What it did; kv effects are not repeated here.
    pub payload: Option<Payload>,
}

/// Why applying stopped before the end.
#[derive(Debug)]
pub enum ApplyError {
    /// A page is needed first.
    Fault(Fault),
    /// The entry's payload is none that this program writes.
    Malformed(Index),
}

impl From<Fault> for ApplyError {
    fn from(fault: Fault) -> ApplyError {
        ApplyError::Fault(fault)
    }
}

impl Replica {
    /// Applies up to `most` committed entries, as long as `goes_on`; `each` hears of every one. One that deletes many keys may be left
    /// half applied, and is gone on with by the next call.
    ///
    /// # Errors
    /// [`ApplyError::Fault`]: the entry at which it stopped is applied again from its beginning when the page is there.
    pub fn apply(
        &mut self,
        most: usize,
        goes_on: impl Fn(&Replica) -> bool,
        mut each: impl FnMut(Applied),
    ) -> Result<(), ApplyError> {
        let mut deletes = APPLY_DELETES_MAX;
        for _ in 0..most {
            if self.is_applied() || deletes == 0 || !goes_on(self) {
                break;
            }
            let entry =
                self.raft.log().entry(self.applied.next()).expect("committed entries are in memory until applied").clone();
            let ControlFlow::Continue(payload) = self.apply_one(&entry, &mut deletes)? else { break };
            self.applied = entry.index;
            self.applied_term = entry.term;
            if let Some(revision) = entry.mark.revision() {
                assert!(revision > self.applied_revision, "revisions rise along a log");
                self.applied_revision = revision;
            }
            each(Applied { index: entry.index, mark: entry.mark, payload });
        }
        let unneeded = self.applied.min(self.raft.matched_by_all());
        self.raft.release(unneeded);
        Ok(())
    }

    /// What the entry was; a break when there is more of it to do.
    fn apply_one(&mut self, entry: &Entry, deletes: &mut u32) -> Result<ControlFlow<(), Option<Payload>>, ApplyError> {
        let payload = Payload::decode(&entry.payload).map_err(|_| ApplyError::Malformed(entry.index))?;
        match (&payload, &mut self.machine) {
            (Payload::Kv(record), Machine::Keys(mvcc)) => {
                let revision = entry.mark.revision().ok_or(ApplyError::Malformed(entry.index))?;
                let effects = kv::decode(record).map_err(|_| ApplyError::Malformed(entry.index))?;
                return Ok(match apply::apply(mvcc, revision, &effects, EventsWanted::No, deletes, &mut Vec::new())? {
                    apply::Applied::Part => ControlFlow::Break(()),
                    apply::Applied::Whole => ControlFlow::Continue(None),
                });
            }
            (Payload::Barrier { .. }, _) => {}
            (Payload::Compaction(revision), machine) => {
                if let Machine::Meta(meta) = machine {
                    meta.compact(*revision)?;
                }
                self.floor = self.floor.max(*revision);
            }
            (Payload::Meta(effect), Machine::Meta(meta)) => meta.apply(effect)?,
            (Payload::Kv(_), Machine::Meta(_)) | (Payload::Meta(_), Machine::Keys(_)) => {
                return Err(ApplyError::Malformed(entry.index));
            }
        }
        Ok(ControlFlow::Continue(Some(payload)))
    }
}
