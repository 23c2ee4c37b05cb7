//! The walk behind every read of more than one key: living keys in order, store and overlay merged, versions of another time skipped.
//!
//! The store's side stands on a *head*: the next key that has a version which the walk may see. The overlay's side is an iterator
//! over its keys. Whichever key is lower comes next; of a key that both have, the overlay's version is taken if the walk sees one.

use std::cmp::Ordering;
use std::collections::btree_map::Range;
use std::iter::Peekable;

use bytes::Bytes;

use crate::pages::{Cursor, Fault};

use super::change::{At, Span};
use super::key::{KeyBuffer, split_version, unescape};
use super::overlay::{Overlay, Version, Versions};
use super::record::{KeyState, parse};
use super::store::{KEYS, Mvcc};

/// After so many steps along one key's versions, a descent from the root is cheaper than going on.
const STEPS_BEFORE_SEEK: u32 = 16;

/// With this many visits a walk deals with at least one key, however many versions that has.
const VISITS_MIN: u32 = STEPS_BEFORE_SEEK + 2;

/// Where a walk stands.
pub(crate) struct Walk<'a> {
    at: At,
    cursor: Cursor<'a>,
    head: Head,
    /// The head's key as KEYS has it, and as users know it.
    escaped: Vec<u8>,
    user_key: Vec<u8>,
    /// The first escaped key that is out of the span; None when nothing above is.
    end: Option<KeyBuffer>,
    overlay: Peekable<Range<'a, Bytes, Versions>>,
    /// The last key that is dealt with, if any.
    passed: Vec<u8>,
    any_passed: bool,
    scratch: KeyBuffer,
    visits_left: u32,
    /// Where values come from, if they are wanted.
    values: Option<&'a Mvcc>,
    /// Of the head, if it is picked.
    value: &'a [u8],
}

/// What the cursor stands on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Head {
    /// The first entry of a key that has not been looked at, or the end of the tree.
    AtKey,
    /// The newest version of the key in `escaped`.
    Entered,
    /// The version that is seen, of the key in `escaped`.
    Ready,
    /// A version of the key in `escaped`, which is dealt with.
    Used,
    /// Nothing of the span is left.
    End,
}

/// What comes next in a walk.
enum Pick<'a> {
    Head,
    Overlay(&'a Bytes, KeyState<'a>),
    End,
    Pause,
}

/// One step of a walk.
#[derive(Debug)]
pub(crate) enum Step<'w> {
    /// The next living key.
    Alive(&'w [u8], KeyState<'w>),
    /// There are no more.
    End,
    /// The budget of visits is used up: go on from [`Walk::resume`].
    Pause,
}

impl<'a> Walk<'a> {
    /// A walk over the keys of `span` that live at `at`, from `resume` on, which passes at most `visits` versions. Where values are not
    /// wanted, none is looked for, and those given are not to be used.
    pub(crate) fn new(
        mvcc: &'a Mvcc,
        overlay: &'a Overlay,
        at: At,
        span: &Span,
        resume: Option<&[u8]>,
        visits: u32,
        values: bool,
    ) -> Result<Walk<'a>, Fault> {
        let (from, end) = KeyBuffer::tree_bounds(span.bounds(resume));
        let mut cursor = mvcc.store().cursor(KEYS);
        cursor.seek(from.as_slice())?;
        Ok(Walk {
            at,
            cursor,
            head: Head::AtKey,
            escaped: Vec::new(),
            user_key: Vec::new(),
            end,
            overlay: overlay.range(span, resume).peekable(),
            passed: Vec::new(),
            any_passed: false,
            scratch: KeyBuffer::new(),
            visits_left: visits.max(VISITS_MIN),
            values: values.then_some(mvcc),
            value: &[],
        })
    }

    /// The key with which a walk that goes on from here has to begin; None when none has been dealt with.
    pub(crate) fn resume(&self) -> Option<Bytes> {
        self.any_passed.then(|| {
            let mut next = Vec::with_capacity(self.passed.len() + 1);
            next.extend_from_slice(&self.passed);
            next.push(0);
            Bytes::from(next)
        })
    }

    /// The next living key. After a fault or a pause, a new walk from [`Walk::resume`] goes on.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Step<'_>, Fault> {
        Ok(match self.pick()? {
            Pick::Head => Step::Alive(&self.user_key, self.head_state().expect("only what is alive is picked")),
            Pick::Overlay(key, state) => Step::Alive(key, state),
            Pick::End => Step::End,
            Pick::Pause => Step::Pause,
        })
    }

    fn pick(&mut self) -> Result<Pick<'a>, Fault> {
        loop {
            if self.head == Head::Used && !self.leave_key()? {
                return Ok(Pick::Pause);
            }
            if self.head == Head::AtKey {
                self.enter_key();
            }
            let order = match (self.head == Head::End, self.overlay.peek()) {
                (true, None) => return Ok(Pick::End),
                (false, None) => Ordering::Less,
                (true, Some(_)) => Ordering::Greater,
                (false, Some((key, _))) => self.user_key[..].cmp(key),
            };
            if order == Ordering::Less {
                if !self.find_version()? {
                    return Ok(Pick::Pause);
                }
                self.fetch_value()?;
                if self.pass_head() {
                    return Ok(Pick::Head);
                }
                continue;
            }
            if self.visits_left == 0 {
                return Ok(Pick::Pause);
            }
            self.visits_left -= 1;
            let (key, versions) = self.overlay.next().expect("it was peeked at");
            let seen = versions.seen(self.at);
            if order == Ordering::Equal && seen.is_none() {
                // The walk sees nothing that the overlay has of this key: the store decides, in the next round.
                continue;
            }
            if order == Ordering::Equal {
                self.head = Head::Used;
            }
            self.passed.clear();
            self.passed.extend_from_slice(key);
            self.any_passed = true;
            if let Some(state) = seen.and_then(Version::state) {
                return Ok(Pick::Overlay(key, state));
            }
        }
    }

    /// The value of the version that the cursor stands on, if that is what is seen. Comes before the key counts as dealt with.
    fn fetch_value(&mut self) -> Result<(), Fault> {
        if self.head != Head::Ready {
            return Ok(());
        }
        let (key, stored, _) = self.cursor.entry().expect("the head stands on an entry");
        if let (Some(mvcc), Some(fields)) = (self.values, parse(stored)) {
            self.value = mvcc.value(&self.user_key, split_version(key).1, &fields)?;
        }
        Ok(())
    }

    /// The head's key is dealt with; true if it lives.
    fn pass_head(&mut self) -> bool {
        self.passed.clear();
        self.passed.extend_from_slice(&self.user_key);
        self.any_passed = true;
        let alive = self.head == Head::Ready && self.head_state().is_some();
        if self.head == Head::Ready {
            self.head = Head::Used;
        }
        alive
    }

    /// The version that the cursor stands on; None for a tombstone.
    fn head_state(&self) -> Option<KeyState<'_>> {
        let (key, value, _) = self.cursor.entry().expect("the head stands on an entry");
        let (_, change) = split_version(key);
        parse(value).map(|fields| KeyState::stored(change, &fields, self.value))
    }

    /// From an entry of the key in `escaped` to the first that is not.
    fn leave_key(&mut self) -> Result<bool, Fault> {
        for _ in 0..STEPS_BEFORE_SEEK {
            if self.visits_left == 0 {
                return Ok(false);
            }
            self.visits_left -= 1;
            self.cursor.next()?;
            if !self.on_same_key() {
                self.head = Head::AtKey;
                return Ok(true);
            }
        }
        self.scratch.restart_after(&self.escaped);
        self.cursor.seek(self.scratch.as_slice())?;
        self.head = Head::AtKey;
        Ok(true)
    }

    /// Takes note of the key that the cursor stands on, or of the end.
    fn enter_key(&mut self) {
        self.head = Head::End;
        let Some((key, _, _)) = self.cursor.entry() else { return };
        let (escaped, _) = split_version(key);
        if self.end.as_ref().is_some_and(|end| escaped >= end.as_slice()) {
            return;
        }
        self.escaped.clear();
        self.escaped.extend_from_slice(escaped);
        self.user_key.clear();
        unescape(escaped, &mut self.user_key);
        self.head = Head::Entered;
    }

    /// From the newest version of the key to the newest that is seen: ready; or to the next key, if none is. False: a pause.
    fn find_version(&mut self) -> Result<bool, Fault> {
        for _ in 0..STEPS_BEFORE_SEEK {
            if !self.on_same_key() {
                self.head = Head::AtKey;
                return Ok(true);
            }
            let (key, _, _) = self.cursor.entry().expect("it stands on the key");
            if self.at.sees(split_version(key).1) {
                self.head = Head::Ready;
                return Ok(true);
            }
            if self.visits_left == 0 {
                return Ok(false);
            }
            self.visits_left -= 1;
            self.cursor.next()?;
        }
        self.scratch.restart_seen(&self.escaped, self.at);
        self.cursor.seek(self.scratch.as_slice())?;
        self.head = if self.on_same_key() { Head::Ready } else { Head::AtKey };
        Ok(true)
    }

    fn on_same_key(&self) -> bool {
        self.cursor.entry().is_some_and(|(key, _, _)| split_version(key).0 == self.escaped)
    }
}
