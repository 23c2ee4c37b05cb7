//! Maintenance, Cluster, Auth and Health, as far as one member without auth goes; what is not built is named here and nowhere else.

use bytes::Bytes;

use crate::base::{GroupId, Revision};
use crate::mvcc::hash::{HashMerger, HashQuery};
use crate::proto::etcdserverpb as pb;
use crate::proto::grpc::health::v1::health_check_response::ServingStatus;
use crate::proto::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse};
use crate::shard::messages::{Answer, Order, Read, Resume};

use super::call::{CallId, Method, frame};
use super::calls::{OrderKind, Step};
use super::config::{QUOTA_DEFAULT_BYTES, STORAGE_VERSION, VERSION};
use super::front::{Begun, Front, FrontEffect, Stop};
use super::tickets::{Ask, Owner};
use super::{errors, validate};

/// A hash of the store under way.
pub struct HashCall {
    query: HashQuery,
    /// The current revision when it began, for the header.
    current: Revision,
    groups: Vec<GroupId>,
    stage: HashStage,
    /// Maintenance/Hash rather than HashKV.
    whole: bool,
}

/// How far a hash is.
enum HashStage {
    /// So many groups have not said whether they keep anything.
    Kept { awaited: usize, any: bool },
    /// The groups' entries are merged; per group whether a slice is on its way, and where the next one begins.
    Entries { merger: HashMerger, asked: Vec<bool>, resumes: Vec<Option<Resume>> },
}

impl Front {
    pub(super) fn maintenance(&mut self, id: CallId, method: Method, message: Bytes) -> Begun {
        match method {
            Method::Status => self.status(id, message),
            Method::Alarm => self.alarm(id, message),
            Method::Defragment => self.defragment(id, message),
            Method::HashKV => self.hash_kv(id, message),
            Method::Hash => self.hash(id, message),
            Method::MemberList => self.member_list(id, message),
            Method::MoveLeader => self.move_leader(message),
            Method::AuthStatus => self.auth_status(id, message),
            Method::AuthDisable => self.auth_disable(id),
            Method::Authenticate => Err(errors::AUTH_NOT_ENABLED.into()),
            Method::AuthEnable => Err(errors::ROOT_USER_NOT_EXIST.into()),
            Method::HealthCheck => self.health_check(id, message),
            Method::HealthWatch => self.health_watch(id, message),
            // Served from a later issue on.
            Method::Snapshot
            | Method::Downgrade
            | Method::MemberAdd
            | Method::MemberRemove
            | Method::MemberUpdate
            | Method::MemberPromote
            | Method::UserAdd
            | Method::UserGet
            | Method::UserList
            | Method::UserDelete
            | Method::UserChangePassword
            | Method::UserGrantRole
            | Method::UserRevokeRole
            | Method::RoleAdd
            | Method::RoleGet
            | Method::RoleList
            | Method::RoleDelete
            | Method::RoleGrantPermission
            | Method::RoleRevokePermission
            | Method::Lock
            | Method::Unlock
            | Method::Campaign
            | Method::Proclaim
            | Method::Leader
            | Method::Observe
            | Method::Resign => Err(errors::NOT_IMPLEMENTED.into()),
            Method::Range
            | Method::Put
            | Method::DeleteRange
            | Method::Txn
            | Method::Compact
            | Method::RangeStream
            | Method::Watch
            | Method::LeaseGrant
            | Method::LeaseRevoke
            | Method::LeaseKeepAlive
            | Method::LeaseTimeToLive
            | Method::LeaseLeases => unreachable!("served elsewhere"),
        }
    }

    fn status(&mut self, id: CallId, message: Bytes) -> Begun {
        let _: pb::StatusRequest = validate::request(message)?;
        let groups = || (0..=self.config.layout.shards).map(GroupId);
        let applied = self.shared.applied(groups());
        let replicated = self.shared.replicated(groups());
        let leader = self.shared.leading().map_or(0, |_| self.config.member.0);
        let response = pb::StatusResponse {
            header: Some(self.current_header()),
            version: VERSION.to_owned(),
            db_size: self.shared.file_bytes() as i64,
            leader,
            raft_index: replicated,
            raft_term: self.shared.term().0,
            raft_applied_index: applied,
            errors: self.status_errors(leader),
            db_size_in_use: self.shared.used_bytes() as i64,
            is_learner: false,
            storage_version: STORAGE_VERSION.to_owned(),
            db_size_quota: if self.config.quota_bytes == 0 { QUOTA_DEFAULT_BYTES } else { self.config.quota_bytes },
            downgrade_info: Some(pb::DowngradeInfo::default()),
        };
        self.reply(id, frame(&response));
        Ok(())
    }

    /// No leader, and a line per alarm as Go prints the message.
    fn status_errors(&self, leader: u64) -> Vec<String> {
        let mut lines = Vec::new();
        if leader == 0 {
            lines.push(errors::NO_LEADER.message.into_owned());
        }
        for (kind, name) in [(pb::AlarmType::Nospace, "NOSPACE"), (pb::AlarmType::Corrupt, "CORRUPT")] {
            if self.shared.alarm(kind) {
                lines.push(format!("memberID:{} alarm:{name} ", self.config.member.0));
            }
        }
        lines
    }

    fn alarm(&mut self, id: CallId, message: Bytes) -> Begun {
        let request: pb::AlarmRequest = validate::request(message)?;
        let term = self.reign()?;
        self.order(id, term, Order::Alarm(request), OrderKind::Alarm)
    }

    pub(super) fn alarm_response(&mut self, alarms: Vec<(crate::base::MemberId, i32)>) -> Bytes {
        let alarms = alarms.into_iter().map(|(member, alarm)| pb::AlarmMember { member_id: member.0, alarm }).collect();
        frame(&pb::AlarmResponse { header: Some(self.current_header()), alarms })
    }

    fn defragment(&mut self, id: CallId, message: Bytes) -> Begun {
        let _: pb::DefragmentRequest = validate::request(message)?;
        let term = self.reign()?;
        self.order(id, term, Order::Defragment, OrderKind::Defragment)
    }

    fn member_list(&mut self, id: CallId, message: Bytes) -> Begun {
        let request: pb::MemberListRequest = validate::request(message)?;
        if request.linearizable {
            self.reign()?;
        }
        // Headers of the Cluster service carry no revision.
        let header = Some(self.header(Revision::ZERO));
        let members = self.members.as_ref().clone();
        self.reply(id, frame(&pb::MemberListResponse { header, members }));
        Ok(())
    }

    fn move_leader(&mut self, message: Bytes) -> Begun {
        let _: pb::MoveLeaderRequest = validate::request(message)?;
        match self.shared.leading() {
            None => Err(errors::NOT_LEADER.into()),
            Some(_) => Err(errors::BAD_LEADER_TRANSFEREE.into()),
        }
    }

    fn auth_status(&mut self, id: CallId, message: Bytes) -> Begun {
        let _: pb::AuthStatusRequest = validate::request(message)?;
        self.reign()?;
        let header = Some(self.current_header());
        self.reply(id, frame(&pb::AuthStatusResponse { header, enabled: false, auth_revision: 1 }));
        Ok(())
    }

    fn auth_disable(&mut self, id: CallId) -> Begun {
        self.reign()?;
        let header = Some(self.current_header());
        self.reply(id, frame(&pb::AuthDisableResponse { header }));
        Ok(())
    }

    // Health.

    fn health_check(&mut self, id: CallId, message: Bytes) -> Begun {
        let request: HealthCheckRequest = validate::request(message)?;
        if !request.service.is_empty() {
            return Err(errors::UNKNOWN_SERVICE.into());
        }
        self.reply(id, frame(&HealthCheckResponse { status: ServingStatus::Serving as i32 }));
        Ok(())
    }

    fn health_watch(&mut self, id: CallId, message: Bytes) -> Begun {
        let request: HealthCheckRequest = validate::request(message)?;
        let status = if request.service.is_empty() { ServingStatus::Serving } else { ServingStatus::ServiceUnknown };
        let message = frame(&HealthCheckResponse { status: status as i32 });
        self.effects.push(FrontEffect::Send { call: id, message });
        self.no_limit(id);
        self.calls.get(id).expect("a call that begins is there").step = Step::HealthWatch;
        Ok(())
    }

    // Hashes.

    fn hash_kv(&mut self, id: CallId, message: Bytes) -> Begun {
        let request: pb::HashKvRequest = validate::request(message)?;
        if request.revision < 0 {
            return self.hash_of_nothing(id, request.revision);
        }
        let (current, revision) = self.read_revision(id, request.revision)?;
        self.start_hash(id, current, revision, false)
    }

    /// A negative revision is compacted, unless nothing ever was: then etcd hashes everything up to it, which is nothing.
    fn hash_of_nothing(&mut self, id: CallId, asked: i64) -> Begun {
        let compact_revision = self.shared.compact_revision();
        if compact_revision >= 0 {
            return Err(errors::COMPACTED.into());
        }
        let header = Some(self.current_header());
        let hash = HashMerger::new(0, false).finish();
        self.reply(id, frame(&pb::HashKvResponse { header, hash, compact_revision, hash_revision: asked }));
        Ok(())
    }

    /// etcd hashes its whole file. Here: the keys at the current revision; neither can be compared with another implementation's.
    fn hash(&mut self, id: CallId, message: Bytes) -> Begun {
        let _: pb::HashRequest = validate::request(message)?;
        let (current, revision) = self.read_revision(id, 0)?;
        self.start_hash(id, current, revision, true)
    }

    fn start_hash(&mut self, id: CallId, current: Revision, revision: Revision, whole: bool) -> Result<(), Stop> {
        let groups: Vec<GroupId> = self.config.layout.groups().collect();
        for &group in &groups {
            self.free(self.config.layout.core(group))?;
        }
        let query = HashQuery { revision, compacted: self.hold_floor(id), at_compaction: false };
        for &group in &groups {
            self.ask(group, Owner::Call { call: id, part: 0 }, Ask::Read(Read::HashKept(query)));
        }
        let stage = HashStage::Kept { awaited: groups.len(), any: false };
        let hash = Box::new(HashCall { query, current, groups, stage, whole });
        self.no_limit(id);
        self.calls.get(id).expect("a call that begins is there").step = Step::Hash(hash);
        Ok(())
    }

    /// The compact revision as etcd counts it, and everything above it kept: a hash is of the whole history above it, not of the keys
    /// at its revision alone.
    fn hold_floor(&mut self, id: CallId) -> i64 {
        loop {
            let floor = self.shared.floor();
            if self.hold(id, floor) {
                return if floor == Revision::ZERO { -1 } else { floor.as_i64() };
            }
        }
    }

    fn ask_entries(&mut self, id: CallId, query: HashQuery, group: GroupId, resume: Option<Resume>) {
        self.ask(group, Owner::Call { call: id, part: 0 }, Ask::Read(Read::Hash { query, resume }));
    }

    /// A group has answered its part of a hash.
    pub(super) fn hash_answered(&mut self, id: CallId, mut hash: Box<HashCall>, group: GroupId, answer: Answer) {
        match (&mut hash.stage, answer) {
            (HashStage::Kept { awaited, any }, Answer::HashKept(kept)) => {
                *awaited -= 1;
                *any |= kept;
                if *awaited == 0 {
                    let groups = hash.groups.len();
                    let merger = HashMerger::new(groups, *any);
                    hash.stage = HashStage::Entries { merger, asked: vec![false; groups], resumes: vec![None; groups] };
                }
            }
            (HashStage::Entries { merger, asked, resumes }, Answer::Hash { entries, resume }) => {
                let place = hash.groups.iter().position(|g| *g == group).expect("a group that was asked");
                merger.feed(place, entries, resume.is_none());
                asked[place] = false;
                resumes[place] = resume;
            }
            _ => unreachable!("a hash is answered by what it asked for"),
        }
        if let HashStage::Entries { merger, asked, resumes } = &mut hash.stage
            && let Some(place) = merger.wanted()
            && !std::mem::replace(&mut asked[place], true)
        {
            self.ask_entries(id, hash.query, hash.groups[place], resumes[place].take());
        }
        match hash.stage {
            HashStage::Entries { merger, .. } if merger.wanted().is_none() => {
                let header = Some(self.header(hash.current));
                let value = merger.finish();
                let message = if hash.whole {
                    frame(&pb::HashResponse { header, hash: value })
                } else {
                    let hash_revision = hash.query.revision.as_i64();
                    frame(&pb::HashKvResponse { header, hash: value, compact_revision: hash.query.compacted, hash_revision })
                };
                self.reply(id, message);
            }
            _ => self.calls.get(id).expect("a call that reads is there").step = Step::Hash(hash),
        }
    }
}
