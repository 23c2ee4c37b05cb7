//! Maintenance, Cluster, Auth and Health, as far as one member without auth goes; what is not built is named here and nowhere else.

use bytes::Bytes;

use crate::base::{GroupId, MemberId, Revision};
use crate::proto::etcdserverpb as pb;
use crate::proto::grpc::health::v1::health_check_response::ServingStatus;
use crate::proto::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse};
use crate::shard::messages::Order;

use super::call::{CallId, Method, frame};
use super::calls::{OrderKind, Step};
use super::config::{QUOTA_DEFAULT_BYTES, STORAGE_VERSION, VERSION};
use super::front::{Begun, Front, FrontEffect};
use super::{errors, validate};

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
        lines.extend(self.alarms.iter().map(alarm_text));
        lines
    }

    fn alarm(&mut self, id: CallId, message: Bytes) -> Begun {
        let request: pb::AlarmRequest = validate::request(message)?;
        let term = self.reign()?;
        self.order(id, term, Order::Alarm(request), OrderKind::Alarm)
    }

    pub(super) fn alarm_response(&mut self, alarms: Vec<(MemberId, i32)>) -> Bytes {
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
}

/// As Go's protobuf library prints it: fields that are not set are left out, and the name of a number that has none is the number.
fn alarm_text(alarm: &pb::AlarmMember) -> String {
    let member = (alarm.member_id != 0).then(|| format!("memberID:{}", alarm.member_id));
    let kind = (alarm.alarm != 0).then(|| match pb::AlarmType::try_from(alarm.alarm) {
        Ok(kind) => format!("alarm:{}", kind.as_str_name()),
        Err(_) => format!("alarm:{}", alarm.alarm),
    });
    member.into_iter().chain(kind).collect::<Vec<_>>().join(" ")
}
