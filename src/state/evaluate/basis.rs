//! What evaluation stands on, how it ends early, and what it remembers when it does.

use bytes::Bytes;

use crate::base::{LeaseId, Revision};
use crate::mvcc::{At, Budget, RangeQuery, Span, View};
use crate::pages::Fault;
use crate::proto::mvccpb::KeyValue;

use super::compare::Outcome;

/// What a request is evaluated against.
#[derive(Clone, Copy)]
pub struct Basis<'a> {
    /// Everything that has its revision, applied or not.
    pub view: View<'a>,
    /// Whether a lease is known to live.
    pub lease_alive: &'a dyn Fn(LeaseId) -> bool,
    /// Whether a key is of this shard.
    pub is_local: &'a dyn Fn(&[u8]) -> bool,
    /// The newest revision of all: next_revision - 1, loaded at evaluation.
    pub current: Revision,
    /// The compaction revision; -1 when nothing was ever compacted.
    pub compacted: i64,
    /// Whether a watch wants what was before a change: then values are read for it.
    pub event_prevs: bool,
    /// How much a walk over a range may do before evaluation stops for other work.
    pub budget: Budget,
}

/// Why a request changes nothing and is answered with an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// A put names a lease that does not live.
    LeaseNotFound,
    /// A put that keeps value or lease finds no key.
    KeyNotFound,
    /// A range of a txn asks for a revision that is compacted.
    Compacted,
    /// A range of a txn asks for a revision that is yet to come.
    FutureRevision,
}

/// Why evaluation ended early. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// A page is needed: install it, and evaluate again with the same memo.
    Fault(Fault),
    /// The budget is used up: evaluate again with the same memo.
    Slice,
    /// The request is refused.
    Refused {
        /// Why.
        refusal: Refusal,
        /// On account of which operation along the path of a txn; raised by their number if it passed the checks that come before
        /// all operations. Of the refusals of several shards the lowest is the answer.
        operation: usize,
    },
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}

/// The walks that an evaluation has done or begun, in their order, so that a call made again goes on with them.
///
/// Made new for each request and kind of call. It forgets by itself when something else has been evaluated in between.
#[derive(Default, Debug)]
pub struct Memo {
    stamp: u64,
    walks: Vec<MemoWalk>,
    /// The next walk of this call.
    next: usize,
}

/// A walk over a range.
#[derive(Debug)]
pub(super) struct MemoWalk {
    pub(super) progress: Progress,
    /// For a delete: the keys found.
    pub(super) found: Vec<KeyValue>,
    /// For a lease's end: the keys attached to it.
    keys: Vec<Bytes>,
    /// For a compare: what it came to so far.
    pub(super) outcome: Outcome,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    Unbegun,
    From(Bytes),
    Whole,
}

impl Progress {
    pub(super) fn resume(&self) -> Option<&[u8]> {
        match self {
            Progress::From(key) => Some(key),
            Progress::Unbegun | Progress::Whole => None,
        }
    }

    /// What a slice has come to.
    pub(super) fn after(resume: Option<Bytes>) -> Progress {
        resume.map_or(Progress::Whole, Progress::From)
    }
}

impl Memo {
    /// At the start of a call.
    pub(super) fn begin(&mut self, basis: &Basis<'_>) {
        let stamp = basis.view.overlay.stamp();
        if self.stamp != stamp {
            self.walks.clear();
            self.stamp = stamp;
        }
        self.next = 0;
    }

    /// Whether it holds something of a walk.
    pub fn is_begun(&self) -> bool {
        self.walks.iter().any(|walk| walk.progress != Progress::Unbegun)
    }

    /// The call's next walk over a range.
    pub(super) fn walk(&mut self) -> &mut MemoWalk {
        if self.next == self.walks.len() {
            self.walks.push(MemoWalk {
                progress: Progress::Unbegun,
                found: Vec::new(),
                keys: Vec::new(),
                outcome: Outcome::Empty,
            });
        }
        self.next += 1;
        &mut self.walks[self.next - 1]
    }

    /// All keys of `span` that live, before anything that the request itself changes.
    pub(super) fn gather(&mut self, basis: &Basis<'_>, span: &Span, keys_only: bool) -> Result<&[KeyValue], Stop> {
        let walk = self.walk();
        if walk.progress != Progress::Whole {
            let query = RangeQuery { span: span.clone(), limit: usize::MAX, keys_only, filters: Default::default() };
            let chunk = basis.view.range(At::LATEST, &query, walk.progress.resume(), basis.budget)?;
            walk.found.extend(chunk.kvs);
            walk.progress = Progress::after(chunk.resume);
        }
        match walk.progress {
            Progress::Whole => Ok(&walk.found),
            _ => Err(Stop::Slice),
        }
    }
}

/// The keys attached to each of `leases`, in key order.
pub fn attached(basis: &Basis<'_>, leases: &[LeaseId], memo: &mut Memo) -> Result<Vec<Vec<Bytes>>, Stop> {
    memo.begin(basis);
    for &lease in leases {
        let walk = memo.walk();
        if walk.progress != Progress::Whole {
            let slice = basis.view.attached(lease, walk.progress.resume(), basis.budget)?;
            walk.keys.extend(slice.keys);
            walk.progress = Progress::after(slice.resume);
        }
        if walk.progress != Progress::Whole {
            return Err(Stop::Slice);
        }
    }
    Ok(memo.walks.drain(..).map(|walk| walk.keys).collect())
}
