//! What a txn has written so far, over the state before it: what its later operations find.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::base::{LeaseId, Revision};
use crate::mvcc::{KeyState, Span};
use crate::pages::Fault;
use crate::proto::mvccpb::KeyValue;

use super::answer::THIS_REVISION;
use super::basis::Basis;

/// A key that this txn has written.
#[derive(Clone, Debug)]
pub(super) struct Drafted {
    /// None: this revision.
    pub(super) create_revision: Option<Revision>,
    pub(super) version: u64,
    pub(super) lease: LeaseId,
    pub(super) value: Bytes,
}

impl Drafted {
    pub(super) fn to_message(&self, key: Bytes) -> KeyValue {
        KeyValue {
            key,
            create_revision: self.create_revision.map_or(THIS_REVISION, Revision::as_i64),
            mod_revision: THIS_REVISION,
            version: self.version as i64,
            value: self.value.clone(),
            lease: self.lease.get(),
        }
    }
}

/// A living key as an operation of a txn finds it.
pub(super) enum Current<'a> {
    /// Written by the txn itself.
    Drafted(&'a Drafted),
    /// As it was before.
    Base(KeyState<'a>),
}

impl Current<'_> {
    pub(super) fn create_revision(&self) -> Option<Revision> {
        match self {
            Current::Drafted(drafted) => drafted.create_revision,
            Current::Base(state) => Some(state.create_revision),
        }
    }

    pub(super) fn version(&self) -> u64 {
        match self {
            Current::Drafted(drafted) => drafted.version,
            Current::Base(state) => state.version,
        }
    }

    pub(super) fn lease(&self) -> LeaseId {
        match self {
            Current::Drafted(drafted) => drafted.lease,
            Current::Base(state) => state.lease,
        }
    }

    pub(super) fn value(&self) -> Bytes {
        match self {
            Current::Drafted(drafted) => drafted.value.clone(),
            Current::Base(state) => state.value.to_bytes(),
        }
    }

    pub(super) fn to_message(&self, key: Bytes) -> KeyValue {
        match self {
            Current::Drafted(drafted) => drafted.to_message(key),
            Current::Base(state) => state.to_message(key),
        }
    }
}

/// The state before a txn, and over it what the txn has written.
pub(super) struct Draft<'a> {
    pub(super) basis: &'a Basis<'a>,
    /// None: deleted.
    keys: BTreeMap<Bytes, Option<Drafted>>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(basis: &'a Basis<'a>) -> Draft<'a> {
        Draft { basis, keys: BTreeMap::new() }
    }

    /// `key` as it is now; None if it does not live. Its value is to be used only where it is wanted.
    pub(super) fn current(&self, key: &[u8], value: bool) -> Result<Option<Current<'_>>, Fault> {
        if let Some(drafted) = self.keys.get(key) {
            return Ok(drafted.as_ref().map(Current::Drafted));
        }
        Ok(self.base(key, value)?.map(Current::Base))
    }

    /// `key` as it was before the txn.
    pub(super) fn base(&self, key: &[u8], value: bool) -> Result<Option<KeyState<'a>>, Fault> {
        match value {
            true => self.basis.view.newest(key),
            false => self.basis.view.newest_fields(key),
        }
    }

    /// Whether the txn has written `key`, or deleted it.
    pub(super) fn knows(&self, key: &[u8]) -> bool {
        self.keys.contains_key(key)
    }

    /// The keys of `span` that the txn has written and that live, in order.
    pub(super) fn living<'d>(&'d self, span: &Span) -> impl Iterator<Item = (&'d Bytes, &'d Drafted)> + use<'d, 'a> {
        let bounds = span.bounds(None);
        self.keys.range::<[u8], _>(bounds).filter_map(|(key, drafted)| Some((key, drafted.as_ref()?)))
    }

    pub(super) fn put(&mut self, key: Bytes, drafted: Drafted) {
        self.keys.insert(key, Some(drafted));
    }

    pub(super) fn delete(&mut self, key: Bytes) {
        self.keys.insert(key, None);
    }
}
