//! The calls that are counted one by one: etcd's services but Lock and Election, as grpc-prometheus counts them.

/// A method that is counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Rpc(u8);

pub(super) struct RpcRow {
    pub service: &'static str,
    pub method: &'static str,
    pub kind: &'static str,
}

const UNARY: &str = "unary";
const SERVER_STREAM: &str = "server_stream";
const BIDI_STREAM: &str = "bidi_stream";

const fn row(service: &'static str, method: &'static str, kind: &'static str) -> RpcRow {
    RpcRow { service, method, kind }
}

const KV: &str = "etcdserverpb.KV";
const WATCH: &str = "etcdserverpb.Watch";
const LEASE: &str = "etcdserverpb.Lease";
const CLUSTER: &str = "etcdserverpb.Cluster";
const MAINTENANCE: &str = "etcdserverpb.Maintenance";
const AUTH: &str = "etcdserverpb.Auth";
const HEALTH: &str = "grpc.health.v1.Health";

pub(super) static ROWS: [RpcRow; Rpc::COUNT] = [
    row(KV, "Range", UNARY),
    row(KV, "RangeStream", SERVER_STREAM),
    row(KV, "Put", UNARY),
    row(KV, "DeleteRange", UNARY),
    row(KV, "Txn", UNARY),
    row(KV, "Compact", UNARY),
    row(WATCH, "Watch", BIDI_STREAM),
    row(LEASE, "LeaseGrant", UNARY),
    row(LEASE, "LeaseRevoke", UNARY),
    row(LEASE, "LeaseKeepAlive", BIDI_STREAM),
    row(LEASE, "LeaseTimeToLive", UNARY),
    row(LEASE, "LeaseLeases", UNARY),
    row(CLUSTER, "MemberAdd", UNARY),
    row(CLUSTER, "MemberRemove", UNARY),
    row(CLUSTER, "MemberUpdate", UNARY),
    row(CLUSTER, "MemberList", UNARY),
    row(CLUSTER, "MemberPromote", UNARY),
    row(MAINTENANCE, "Alarm", UNARY),
    row(MAINTENANCE, "Status", UNARY),
    row(MAINTENANCE, "Defragment", UNARY),
    row(MAINTENANCE, "Hash", UNARY),
    row(MAINTENANCE, "HashKV", UNARY),
    row(MAINTENANCE, "Snapshot", SERVER_STREAM),
    row(MAINTENANCE, "MoveLeader", UNARY),
    row(MAINTENANCE, "Downgrade", UNARY),
    row(AUTH, "AuthEnable", UNARY),
    row(AUTH, "AuthDisable", UNARY),
    row(AUTH, "AuthStatus", UNARY),
    row(AUTH, "Authenticate", UNARY),
    row(AUTH, "UserAdd", UNARY),
    row(AUTH, "UserGet", UNARY),
    row(AUTH, "UserList", UNARY),
    row(AUTH, "UserDelete", UNARY),
    row(AUTH, "UserChangePassword", UNARY),
    row(AUTH, "UserGrantRole", UNARY),
    row(AUTH, "UserRevokeRole", UNARY),
    row(AUTH, "RoleAdd", UNARY),
    row(AUTH, "RoleGet", UNARY),
    row(AUTH, "RoleList", UNARY),
    row(AUTH, "RoleDelete", UNARY),
    row(AUTH, "RoleGrantPermission", UNARY),
    row(AUTH, "RoleRevokePermission", UNARY),
    row(HEALTH, "Check", UNARY),
    row(HEALTH, "Watch", SERVER_STREAM),
];

/// The status codes by number, in Go's words: the values of the label `grpc_code`.
pub const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

impl Rpc {
    pub(super) const COUNT: usize = 44;

    /// The method of this service, if it is one that is counted. For tables that are made once, not for every call.
    pub fn find(service: &str, method: &str) -> Option<Rpc> {
        let place = ROWS.iter().position(|r| r.service == service && r.method == method)?;
        Some(Rpc(u8::try_from(place).expect("fewer than 256 methods")))
    }

    #[inline]
    pub(super) fn place(self) -> usize {
        usize::from(self.0)
    }

    pub(super) fn all() -> impl Iterator<Item = Rpc> {
        (0..u8::try_from(Rpc::COUNT).expect("fewer than 256 methods")).map(Rpc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn methods_are_found_by_their_names() {
        let all: BTreeSet<_> = Rpc::all().map(|r| (ROWS[r.place()].service, ROWS[r.place()].method)).collect();
        assert_eq!(all.len(), Rpc::COUNT);
        for (service, method) in all {
            let rpc = Rpc::find(service, method).unwrap();
            assert_eq!(ROWS[rpc.place()].method, method);
        }
        assert_eq!(Rpc::find("v3lockpb.Lock", "Lock"), None);
    }
}
