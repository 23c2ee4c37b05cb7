//! A read that may take more than one slice: what is asked, and what of it has been found.
//!
//! Most reads are one slice, and the front asks for the next. Where an answer needs more than a slice (the count that goes with the
//! first slice of a list, and whether a hash keeps anything), the place is kept here over missing pages and from round to round, so
//! that the work is linear in what is read and other work comes in between.

use bytes::Bytes;

use crate::base::limits::{READ_AHEAD_PAGES, SLICE_BYTES_MAX, SLICE_VISITS_MAX};
use crate::base::{KeyRange, RangeEnd};
use crate::mvcc::hash::{AnyKept, HashQuery};
use crate::mvcc::{At, Budget, Filters, Mvcc, RangeQuery, Span, View};
use crate::pages::Fault;

use super::messages::{self, RangeRead, RangeSlice, Read, Ticket};

/// How much one slice of reading looks at.
pub(super) const SLICE: Budget = Budget { visits: SLICE_VISITS_MAX, bytes: SLICE_BYTES_MAX };

/// A read under way.
pub(super) struct Reading {
    /// Who waits.
    pub(super) ticket: Ticket,
    /// What is asked.
    pub(super) read: Read,
    /// What the slices so far have found.
    pub(super) found: Option<Box<Found>>,
    /// What its last slice has cost, if it is the hash of a compaction, in visits.
    pub(super) cost: u32,
}

/// What the slices of a read have found.
pub(super) enum Found {
    /// The keys of a list, and how many there are before `from`.
    Listed {
        /// The answer as far as it is known.
        slice: RangeSlice,
        /// Where counting goes on.
        from: Bytes,
        /// Counting has passed a slice: the weights do not say how many there are.
        walks: bool,
    },
    /// Nothing before this key is kept by a hash.
    NothingKept(Bytes),
}

/// A slice of a range, and with it the count of all of it if that is wanted. `None`: not all is counted; the place is in `found`.
pub(super) fn range(view: View<'_>, read: &RangeRead, found: &mut Option<Box<Found>>) -> Result<Option<RangeSlice>, Fault> {
    let (at, span) = (at(read.at), span(&read.range));
    if read.count_only {
        let counted = view.count(at, &span, read.resume.as_deref(), SLICE)?;
        return Ok(Some(RangeSlice { kvs: Vec::new(), count: counted.counted, resume: counted.resume }));
    }
    let (mut slice, from, walks) = match found.take().map(|found| *found) {
        Some(Found::Listed { slice, from, walks }) => (slice, from, walks),
        Some(Found::NothingKept(_)) => unreachable!("a list is not a hash"),
        None => {
            let chunk = view.range(at, &query(read), read.resume.as_deref(), SLICE)?;
            // Only who asks for the whole count gets one: the front adds up what it gets.
            let count = if read.with_count { chunk.counted } else { 0 };
            let slice = RangeSlice { kvs: chunk.kvs, count, resume: chunk.resume };
            match slice.resume.clone().filter(|_| read.with_count) {
                None => return Ok(Some(slice)),
                Some(from) => (slice, from, false),
            }
        }
    };
    let counted = view.count(at, &span, Some(&from), SLICE);
    let (from, walks) = match &counted {
        Err(_) => (from, walks),
        Ok(counted) => {
            slice.count += counted.counted;
            match &counted.resume {
                None => return Ok(Some(slice)),
                Some(resume) => (resume.clone(), true),
            }
        }
    };
    *found = Some(Box::new(Found::Listed { slice, from, walks }));
    counted.map(|_| None)
}

/// Whether anything is kept by a hash. `None`: not all is looked at; the place is in `found`.
pub(super) fn hash_kept(mvcc: &Mvcc, query: HashQuery, found: &mut Option<Box<Found>>) -> Result<Option<bool>, Fault> {
    let from = match found.as_deref() {
        None => None,
        Some(Found::NothingKept(from)) => Some(&from[..]),
        Some(Found::Listed { .. }) => unreachable!("a hash is not a list"),
    };
    match mvcc.any_kept(query, from, SLICE)? {
        AnyKept::Yes => Ok(Some(true)),
        AnyKept::No => Ok(Some(false)),
        AnyKept::From(key) => {
            *found = Some(Box::new(Found::NothingKept(key)));
            Ok(None)
        }
    }
}

/// The pages that a range will come to and that are not in memory; none where the weights may count it. Those with values only if it
/// `waits`: finding these takes a walk.
pub(super) fn range_ahead(view: View<'_>, read: &RangeRead, found: Option<&Found>, waits: bool) -> Vec<Fault> {
    let (from, entries) = match (found, &read.resume) {
        (Some(Found::Listed { from, walks: true, .. }), _) => (Some(&from[..]), usize::MAX),
        (Some(_), _) => return Vec::new(),
        (None, None) if read.count_only => return Vec::new(),
        (None, Some(resume)) if read.count_only => (Some(&resume[..]), usize::MAX),
        (None, resume) => (resume.as_deref(), read.limit),
    };
    let mut wanted = view.keys_ahead(&span(&read.range), from, READ_AHEAD_PAGES, entries);
    if waits && found.is_none() && !read.count_only {
        wanted.extend(view.values_ahead(at(read.at), &query(read), from, READ_AHEAD_PAGES - wanted.len()));
    }
    wanted
}

fn query(read: &RangeRead) -> RangeQuery {
    let filters = Filters {
        min_mod: read.mod_revisions.0,
        max_mod: read.mod_revisions.1,
        min_create: read.create_revisions.0,
        max_create: read.create_revisions.1,
    };
    RangeQuery { span: span(&read.range), limit: read.limit, keys_only: read.keys_only, filters }
}

/// Where a read looks, as the store says it.
pub(super) fn at(at: messages::At) -> At {
    At { revision: at.revision, operation_bound: at.operations }
}

/// Which keys a read looks at, as the store says it.
pub(super) fn span(range: &KeyRange) -> Span {
    match &range.end {
        RangeEnd::Single => Span::Key(range.from.clone()),
        RangeEnd::Before(end) => Span::Between(range.from.clone(), end.clone()),
        RangeEnd::Open => Span::From(range.from.clone()),
    }
}

#[cfg(test)]
#[path = "reading_test.rs"]
mod tests;
