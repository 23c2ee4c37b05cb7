//! Group 0's state: what is global and small. Leases, alarms, members, the compaction revision.
//!
//! It lives in memory whole, and in the trees of group 0's page file, which a checkpoint makes durable:
//!
//! ```text
//! LEASES   BE id                      → varint ttl (seconds)
//! ALARMS   BE member ++ BE alarm type → (empty)
//! MEMBERS  BE member                  → prost Member
//! FACTS    "compact_revision"         → BE revision
//! ```
//!
//! Invariant: memory and trees say the same after every applied entry.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use prost::Message;

use crate::base::wire::{Malformed, Reader, put_bytes, put_varint};
use crate::base::{LeaseId, MemberId, Revision};
use crate::pages::{Fault, Store, Tree};
use crate::proto::etcdserverpb as pb;

const LEASES: Tree = Tree(0);
const ALARMS: Tree = Tree(1);
const MEMBERS: Tree = Tree(2);
const FACTS: Tree = Tree(3);
const COMPACT_REVISION: &[u8] = b"compact_revision";

/// One change of group 0's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaEffect {
    /// A lease is granted.
    LeaseGrant {
        /// Its id.
        id: LeaseId,
        /// Seconds.
        ttl: i64,
    },
    /// A lease goes; its keys are deleted by the other participants' parts.
    LeaseRevoke {
        /// Its id.
        id: LeaseId,
    },
    /// An alarm is raised or taken back.
    Alarm {
        /// Whose.
        member: MemberId,
        /// etcd's AlarmType.
        kind: i32,
        /// Raised or taken back.
        raised: bool,
    },
    /// A member's attributes, added or replaced.
    Member(Vec<u8>),
}

const LEASE_GRANT: u8 = 0;
const LEASE_REVOKE: u8 = 1;
const ALARM: u8 = 2;
const MEMBER: u8 = 3;

impl MetaEffect {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            MetaEffect::LeaseGrant { id, ttl } => {
                out.push(LEASE_GRANT);
                out.extend_from_slice(&id.get().to_le_bytes());
                out.extend_from_slice(&ttl.to_le_bytes());
            }
            MetaEffect::LeaseRevoke { id } => {
                out.push(LEASE_REVOKE);
                out.extend_from_slice(&id.get().to_le_bytes());
            }
            MetaEffect::Alarm { member, kind, raised } => {
                out.push(ALARM);
                put_varint(out, member.get());
                put_varint(out, u64::from(kind.cast_unsigned()));
                out.push(u8::from(*raised));
            }
            MetaEffect::Member(record) => {
                out.push(MEMBER);
                put_bytes(out, record);
            }
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<MetaEffect, Malformed> {
        Ok(match reader.u8()? {
            LEASE_GRANT => {
                MetaEffect::LeaseGrant { id: LeaseId(reader.u64()?.cast_signed()), ttl: reader.u64()?.cast_signed() }
            }
            LEASE_REVOKE => MetaEffect::LeaseRevoke { id: LeaseId(reader.u64()?.cast_signed()) },
            ALARM => MetaEffect::Alarm {
                member: MemberId(reader.varint()?),
                kind: u32::try_from(reader.varint()?).map_err(|_| Malformed)?.cast_signed(),
                raised: reader.u8()? != 0,
            },
            MEMBER => MetaEffect::Member(reader.string()?.to_vec()),
            _ => return Err(Malformed),
        })
    }
}

/// One entry of group 0's trees.
#[derive(Clone, PartialEq, Debug)]
pub enum MetaEntry {
    /// A lease and its granted TTL in seconds.
    Lease(LeaseId, i64),
    /// A raised alarm: whose, and etcd's AlarmType.
    Alarm(MemberId, i32),
    /// A member.
    Member(pb::Member),
    /// The last compaction's revision.
    CompactRevision(Revision),
    /// A fact that this version does not know.
    OtherFact,
}

impl MetaEntry {
    /// Reads an entry of `tree`.
    ///
    /// # Errors
    /// [`Malformed`]: none is written like that.
    pub fn read(tree: Tree, key: &[u8], value: &[u8]) -> Result<MetaEntry, Malformed> {
        match tree {
            LEASES => {
                let id = i64::from_be_bytes(key.try_into().map_err(|_| Malformed)?);
                Ok(MetaEntry::Lease(LeaseId(id), Reader::new(value).u64()?.cast_signed()))
            }
            ALARMS => {
                let (member, kind) = key.split_first_chunk::<8>().ok_or(Malformed)?;
                let kind = i32::from_be_bytes(kind.try_into().map_err(|_| Malformed)?);
                Ok(MetaEntry::Alarm(MemberId(u64::from_be_bytes(*member)), kind))
            }
            MEMBERS => pb::Member::decode(value).map(MetaEntry::Member).map_err(|_| Malformed),
            FACTS if key == COMPACT_REVISION => Ok(MetaEntry::CompactRevision(Revision(Reader::new(value).u64()?))),
            FACTS => Ok(MetaEntry::OtherFact),
            _ => Err(Malformed),
        }
    }
}

/// The trees of group 0's page file, with their names.
pub const META_TREES: [(Tree, &str); 4] = [(LEASES, "leases"), (ALARMS, "alarms"), (MEMBERS, "members"), (FACTS, "facts")];

/// Group 0's state.
pub struct MetaState {
    store: Store,
    leases: HashMap<LeaseId, i64>,
    alarms: BTreeSet<(MemberId, i32)>,
    members: BTreeMap<MemberId, pb::Member>,
    compact_revision: Option<Revision>,
}

impl MetaState {
    /// The state that the trees of `store` hold.
    ///
    /// # Errors
    /// [`Fault`] when a page is needed first: install it and call again.
    pub fn load(store: Store) -> Result<MetaState, (Box<Store>, MetaLoadError)> {
        let mut state = MetaState {
            store,
            leases: HashMap::new(),
            alarms: BTreeSet::new(),
            members: BTreeMap::new(),
            compact_revision: None,
        };
        match state.fill() {
            Ok(()) => Ok(state),
            Err(error) => Err((Box::new(state.store), error)),
        }
    }

    fn fill(&mut self) -> Result<(), MetaLoadError> {
        for (tree, _) in META_TREES {
            let mut cursor = self.store.cursor(tree);
            cursor.seek(b"")?;
            while let Some((key, value, _)) = cursor.entry() {
                match MetaEntry::read(tree, key, value)? {
                    MetaEntry::Lease(id, ttl) => _ = self.leases.insert(id, ttl),
                    MetaEntry::Alarm(member, kind) => _ = self.alarms.insert((member, kind)),
                    MetaEntry::Member(member) => _ = self.members.insert(MemberId(member.id), member),
                    MetaEntry::CompactRevision(revision) => self.compact_revision = Some(revision),
                    MetaEntry::OtherFact => {}
                }
                cursor.next()?;
            }
        }
        Ok(())
    }

    /// Applies one change. After a [`Fault`] the same change is applied again: each step may be repeated.
    ///
    /// # Errors
    /// [`Fault`] when a page is needed first; [`Malformed`] members are refused before they are proposed.
    pub fn apply(&mut self, effect: &MetaEffect) -> Result<(), Fault> {
        match effect {
            MetaEffect::LeaseGrant { id, ttl } => {
                self.store.put(LEASES, &id.get().to_be_bytes(), &[&ttl.to_le_bytes()], 1)?;
                self.leases.insert(*id, *ttl);
            }
            MetaEffect::LeaseRevoke { id } => {
                self.store.remove(LEASES, &id.get().to_be_bytes())?;
                self.leases.remove(id);
            }
            MetaEffect::Alarm { member, kind, raised } => {
                let mut key = [0; 12];
                key[..8].copy_from_slice(&member.get().to_be_bytes());
                key[8..].copy_from_slice(&kind.to_be_bytes());
                if *raised {
                    self.store.put(ALARMS, &key, &[], 0)?;
                    self.alarms.insert((*member, *kind));
                } else {
                    self.store.remove(ALARMS, &key)?;
                    self.alarms.remove(&(*member, *kind));
                }
            }
            MetaEffect::Member(record) => {
                let member =
                    pb::Member::decode(record.as_slice()).expect("members are encoded by this program and checksummed");
                self.store.put(MEMBERS, &member.id.to_be_bytes(), &[record], 0)?;
                self.members.insert(MemberId(member.id), member);
            }
        }
        Ok(())
    }

    /// Records the compaction revision.
    ///
    /// # Errors
    /// [`Fault`] when a page is needed first.
    pub fn compact(&mut self, revision: Revision) -> Result<(), Fault> {
        self.store.put(FACTS, COMPACT_REVISION, &[&revision.get().to_le_bytes()], 0)?;
        self.compact_revision = Some(revision);
        Ok(())
    }

    /// All leases with their granted TTL in seconds.
    pub fn leases(&self) -> &HashMap<LeaseId, i64> {
        &self.leases
    }

    /// All raised alarms: member and etcd's AlarmType.
    pub fn alarms(&self) -> &BTreeSet<(MemberId, i32)> {
        &self.alarms
    }

    /// All members.
    pub fn members(&self) -> impl Iterator<Item = &pb::Member> {
        self.members.values()
    }

    /// The last compaction's revision, if there was one; etcd lets a store be compacted to 0 once.
    pub fn compact_revision(&self) -> Option<Revision> {
        self.compact_revision
    }

    /// The page store, for checkpoints and faults.
    pub fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Bytes of its pages that the next checkpoint writes.
    pub fn dirty_bytes(&self) -> u64 {
        self.store.dirty_bytes()
    }
}

/// Why group 0's state could not be loaded.
#[derive(Debug)]
pub enum MetaLoadError {
    /// A page is needed first.
    Fault(Fault),
    /// A record is not what it should be.
    Malformed,
}

impl From<Fault> for MetaLoadError {
    fn from(fault: Fault) -> MetaLoadError {
        MetaLoadError::Fault(fault)
    }
}

impl From<Malformed> for MetaLoadError {
    fn from(_: Malformed) -> MetaLoadError {
        MetaLoadError::Malformed
    }
}
