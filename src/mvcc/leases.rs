//! The keys attached to a lease (surface 5): those in LEASES of which the overlay says nothing, and those that the overlay attaches.

use bytes::Bytes;

use crate::base::LeaseId;
use crate::pages::Fault;

use super::change::Budget;
use super::key::{KeyBuffer, split_lease};
use super::read::View;
use super::store::LEASES;

/// A slice of the keys attached to a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attached {
    /// Keys in ascending order.
    pub keys: Vec<Bytes>,
    /// Where the next slice begins; None: these were all.
    pub resume: Option<Bytes>,
}

impl View<'_> {
    /// The keys whose newest version is attached to `lease`, from `resume` on (None: from the start).
    ///
    /// A fault is returned only if nothing could be read; install, and ask again.
    pub fn attached(&self, lease: LeaseId, resume: Option<&[u8]>, budget: Budget) -> Result<Attached, Fault> {
        let from = resume.unwrap_or_default();
        let mut overlaid = self.overlay.attached(lease, Bytes::copy_from_slice(from)).peekable();
        let mut cursor = self.mvcc.store().cursor(LEASES);
        cursor.seek(KeyBuffer::lease(lease, from).as_slice())?;
        let mut keys = Vec::new();
        let (mut visits, mut bytes) = (0, 0);
        // Goes on at the lower of the two sides' next keys; both may have it.
        loop {
            let stored =
                cursor.entry().map(|(entry, ..)| split_lease(entry)).filter(|(of, _)| *of == lease).map(|(_, key)| key);
            let next = match (stored, overlaid.peek().copied()) {
                (None, None) => return Ok(Attached { keys, resume: None }),
                (Some(key), None) => Bytes::copy_from_slice(key),
                (None, Some(key)) => key.clone(),
                (Some(stored), Some(key)) if stored < &key[..] => Bytes::copy_from_slice(stored),
                (Some(_), Some(key)) => key.clone(),
            };
            if visits > 0 && (visits >= budget.visits || bytes >= budget.bytes) {
                return Ok(Attached { keys, resume: Some(next) });
            }
            visits += 1;
            let in_store = stored.is_some_and(|stored| stored == next);
            if self.overlay.lease_of(&next).unwrap_or(if in_store { lease } else { LeaseId::NONE }) == lease {
                bytes += next.len();
                keys.push(next.clone());
            }
            if overlaid.peek().is_some_and(|key| **key == next) {
                overlaid.next();
            }
            if in_store && let Err(fault) = cursor.next() {
                // `next` has been dealt with.
                if keys.is_empty() {
                    return Err(fault);
                }
                return Ok(Attached { keys, resume: Some([&next[..], &[0]].concat().into()) });
            }
        }
    }
}
