//! The values of versions, which lie in REVISIONS.

use crate::base::Revision;
use crate::pages::{Cursor, Fault};

use super::change::Change;
use super::key::KeyBuffer;
use super::record::{PutFields, Record, parse, place_of};
use super::store::{Mvcc, REVISIONS};

impl Mvcc {
    /// The value of the put of `key` at `change`, of which KEYS has these fields.
    #[inline]
    pub(crate) fn value(&self, key: &[u8], change: Change, fields: &PutFields<'_>) -> Result<&[u8], Fault> {
        let entry = KeyBuffer::change(change, key);
        let stored = self.store().get_near(REVISIONS, entry.as_slice(), place_of(fields))?;
        // No check of one page can find it missing.
        let stored = parse(stored.expect("a version in KEYS has its change in REVISIONS").value);
        Ok(stored.expect("a put in KEYS is one in REVISIONS").value)
    }

    /// Looks whether the pages that the value of the put of `key` at `change` needs are in memory.
    pub(crate) fn look_for_value(&self, key: &[u8], change: Change) -> Result<(), Fault> {
        self.store().get(REVISIONS, KeyBuffer::change(change, key).as_slice()).map(|_| ())
    }

    /// Those of the next `pages` leaves of REVISIONS that a scan from `start` through `last` will come to that are not in memory.
    pub(crate) fn changes_ahead(&self, start: &KeyBuffer, last: Revision, pages: usize) -> Vec<Fault> {
        let end = KeyBuffer::change(Change { revision: last.next(), operation: 0 }, b"");
        self.store().reader().ahead(REVISIONS, start.as_slice(), Some(end.as_slice()), pages, u64::MAX)
    }

    /// All that REVISIONS stores for the entry that a cursor over heads stands at.
    #[inline]
    pub(crate) fn whole<'a>(&'a self, cursor: &Cursor<'a>) -> Result<Record<'a>, Fault> {
        let item = cursor.item().expect("the cursor stands at an entry");
        if item.value.len() == item.value_bytes {
            return Ok(parse(item.value));
        }
        let stored = self.store().get(REVISIONS, item.key)?;
        Ok(parse(stored.expect("the cursor stands at it").value))
    }
}
