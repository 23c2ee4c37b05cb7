//! Every text that a client sees when a call fails, with its code: etcd 3.7's, word for word.
//!
//! The texts stand in one file because clients compare them: etcd's Go client maps an error back by its message, and Kubernetes looks
//! for some of them. Source: etcd 3.7.1, `api/v3rpc/rpctypes/error.go` and `server/etcdserver/api/v3rpc/util.go`.

use crate::base::limits;
use crate::shard::messages::Refusal;

use super::call::{Code, Status};

macro_rules! errors {
    ($($(#[doc = $doc:literal])* $name:ident: $code:ident, $text:literal;)*) => {
        $(
            $(#[doc = $doc])*
            pub const $name: Status = Status { code: Code::$code, message: std::borrow::Cow::Borrowed(concat!("etcdserver: ", $text)) };
        )*

        /// All of them, for tests.
        #[cfg(test)]
        pub const ALL: &[Status] = &[$($name,)*];
    };
}

errors! {
    /// A request without a key.
    EMPTY_KEY: InvalidArgument, "key is not provided";
    /// ignore_value or ignore_lease on a missing key, and an operation of a txn that is none.
    KEY_NOT_FOUND: InvalidArgument, "key not found";
    /// A value beside ignore_value.
    VALUE_PROVIDED: InvalidArgument, "value is provided";
    /// A lease beside ignore_lease.
    LEASE_PROVIDED: InvalidArgument, "lease is provided";
    /// More operations or compares than --max-txn-ops.
    TOO_MANY_OPS: InvalidArgument, "too many operations in txn request";
    /// Two changes of one key in a txn.
    DUPLICATE_KEY: InvalidArgument, "duplicate key given in txn request";
    /// Metadata that is not UTF-8.
    INVALID_CLIENT_API_VERSION: InvalidArgument, "invalid client api version";
    /// A sort order or target outside of the enum.
    INVALID_SORT_OPTION: InvalidArgument, "invalid sort option";
    /// A read below the compact revision, or a compaction at or below it.
    COMPACTED: OutOfRange, "mvcc: required revision has been compacted";
    /// A read or compaction above the current revision.
    FUTURE_REVISION: OutOfRange, "mvcc: required revision is a future revision";
    /// The quota is used up, or the NOSPACE alarm is raised.
    NO_SPACE: ResourceExhausted, "mvcc: database space exceeded";
    /// No such lease.
    LEASE_NOT_FOUND: NotFound, "requested lease not found";
    /// A lease with that id exists.
    LEASE_EXISTS: FailedPrecondition, "lease already exists";
    /// A TTL above 9,000,000,000 seconds.
    LEASE_TTL_TOO_LARGE: OutOfRange, "too large lease TTL";
    /// A watch stream whose client went away.
    WATCH_CANCELED: Canceled, "watch canceled";
    /// A member with that id exists.
    MEMBER_EXISTS: FailedPrecondition, "member ID already exist";
    /// Another member has that peer URL.
    PEER_URL_EXISTS: FailedPrecondition, "Peer URLs already exists";
    /// A change that would cost the quorum. Sent as Unknown, because etcd's table holds the client's twin of the error.
    MEMBER_NOT_ENOUGH_STARTED: Unknown, "re-configuration failed due to not enough started members";
    /// URLs that cannot be a member's.
    MEMBER_BAD_URLS: InvalidArgument, "given member URLs are invalid";
    /// No such member.
    MEMBER_NOT_FOUND: NotFound, "member not found";
    /// The member to promote is a voter.
    MEMBER_NOT_LEARNER: FailedPrecondition, "can only promote a learner member";
    /// The learner lags.
    LEARNER_NOT_READY: FailedPrecondition, "can only promote a learner member which is in sync with leader";
    /// More learners than --max-learners.
    TOO_MANY_LEARNERS: FailedPrecondition, "too many learner members in cluster";
    /// A request over --max-request-bytes.
    REQUEST_TOO_LARGE: InvalidArgument, "request is too large";
    /// A queue is full. Sent as Unknown, because etcd's table holds the client's twin of the error.
    TOO_MANY_REQUESTS: Unknown, "too many requests";
    /// No root user to enable auth with.
    ROOT_USER_NOT_EXIST: FailedPrecondition, "root user does not exist";
    /// The root user lacks the root role.
    ROOT_ROLE_NOT_EXIST: FailedPrecondition, "root user does not have root role";
    /// A user of that name exists.
    USER_ALREADY_EXIST: FailedPrecondition, "user name already exists";
    /// A request without a user while auth is on.
    USER_EMPTY: InvalidArgument, "user name is empty";
    /// No such user.
    USER_NOT_FOUND: FailedPrecondition, "user name not found";
    /// A role of that name exists.
    ROLE_ALREADY_EXIST: FailedPrecondition, "role name already exists";
    /// No such role.
    ROLE_NOT_FOUND: FailedPrecondition, "role name not found";
    /// A role without a name.
    ROLE_EMPTY: InvalidArgument, "role name is empty";
    /// Wrong user or password.
    AUTH_FAILED: InvalidArgument, "authentication failed, invalid user ID or password";
    /// A grant without a permission.
    PERMISSION_NOT_GIVEN: InvalidArgument, "permission not given";
    /// The user may not do this.
    PERMISSION_DENIED: PermissionDenied, "permission denied";
    /// The user does not have the role.
    ROLE_NOT_GRANTED: FailedPrecondition, "role is not granted to the user";
    /// The role does not have the permission.
    PERMISSION_NOT_GRANTED: FailedPrecondition, "permission is not granted to the role";
    /// Authenticate while auth is off.
    AUTH_NOT_ENABLED: FailedPrecondition, "authentication is not enabled";
    /// An unknown or expired token.
    INVALID_AUTH_TOKEN: Unauthenticated, "invalid auth token";
    /// A change of users or roles that would lock everybody out.
    INVALID_AUTH_MGMT: InvalidArgument, "invalid auth management";
    /// Users or roles changed since the request was checked.
    AUTH_OLD_REVISION: InvalidArgument, "revision of auth store is old";
    /// There is no leader, and the caller asked to be told.
    NO_LEADER: Unavailable, "no leader";
    /// Only the leader does this.
    NOT_LEADER: FailedPrecondition, "not leader";
    /// The reign ended under the request.
    LEADER_CHANGED: Unavailable, "leader changed";
    /// The cluster's version does not have this.
    NOT_CAPABLE: FailedPrecondition, "not capable";
    /// The member stops.
    STOPPED: Unavailable, "server stopped";
    /// No answer within the request timeout.
    TIMEOUT: Unavailable, "request timed out";
    /// The same, across a change of leaders.
    TIMEOUT_LEADER_FAIL: Unavailable, "request timed out, possibly due to previous leader failure";
    /// The same, with a quorum out of reach.
    TIMEOUT_CONNECTION_LOST: Unavailable, "request timed out, possibly due to connection lost";
    /// The same, for a lease that waits for what has been applied.
    TIMEOUT_WAIT_APPLIED: Unavailable, "request timed out, waiting for the applied index took too long";
    /// Too few members are connected.
    UNHEALTHY: Unavailable, "unhealthy cluster";
    /// The CORRUPT alarm is raised.
    CORRUPT: DataLoss, "corrupt cluster";
    /// Not on a learner.
    NOT_SUPPORTED_FOR_LEARNER: FailedPrecondition, "rpc not supported for learner";
    /// No such voter to hand the leadership to.
    BAD_LEADER_TRANSFEREE: FailedPrecondition, "bad leader transferee";
    /// Not a version like 3.6 or 3.6.0.
    WRONG_DOWNGRADE_VERSION_FORMAT: InvalidArgument, "wrong downgrade target version format";
    /// Not the minor version below the cluster's.
    INVALID_DOWNGRADE_TARGET: InvalidArgument, "invalid downgrade target version";
    /// The cluster has no version yet.
    CLUSTER_VERSION_UNAVAILABLE: FailedPrecondition, "cluster version not found during downgrade";
    /// A downgrade is under way.
    DOWNGRADE_IN_PROCESS: FailedPrecondition, "cluster has a downgrade job in progress";
    /// No downgrade is under way.
    NO_INFLIGHT_DOWNGRADE: FailedPrecondition, "no inflight downgrade job";
    /// The client gave up.
    REQUEST_CANCELED: Canceled, "request canceled";
}

/// The caller's deadline passed: gRPC's own text, which etcd passes on.
pub const DEADLINE_EXCEEDED: Status = plain(Code::DeadlineExceeded, "context deadline exceeded");
/// RangeStream with a sort.
pub const STREAM_NO_SORT: Status = plain(Code::Unimplemented, "RangeStream does not support custom sort orders");
/// RangeStream with revision filters.
pub const STREAM_NO_FILTERS: Status = plain(Code::Unimplemented, "RangeStream does not support revision filters");
/// A health check of a service other than "".
pub const UNKNOWN_SERVICE: Status = plain(Code::NotFound, "unknown service");
/// Local space is used up (rule 18). etcd has no such error: it dies.
pub const DISK_FULL: Status =
    plain(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded (no space left on device)");
/// What is not built yet.
pub const NOT_IMPLEMENTED: Status = plain(Code::Unimplemented, "etcring: this method is not implemented yet");
/// The reason given when a watch is created with an id that its stream has.
pub const WATCH_DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
/// The reason given when a watch is created on a range that ends before it begins.
pub const WATCH_EMPTY_RANGE: &str = "mvcc: watcher range is empty";
/// The reason given when a watch is created with a negative start revision.
pub const WATCH_COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

const fn plain(code: Code, text: &'static str) -> Status {
    Status { code, message: std::borrow::Cow::Borrowed(text) }
}

/// A unary request that is no protobuf of its type, as grpc-go says it.
pub fn undecodable_request() -> Status {
    plain(Code::Internal, "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data")
}

/// The same for a message of a stream.
pub fn undecodable_message() -> Status {
    plain(Code::Internal, "grpc: failed to unmarshal the received message: proto: cannot parse invalid wire-format data")
}

/// What a core's refusal is to a client.
pub fn of_refusal(refusal: Refusal) -> Status {
    match refusal {
        Refusal::KeyNotFound => KEY_NOT_FOUND,
        Refusal::LeaseNotFound => LEASE_NOT_FOUND,
        Refusal::LeaseExists => LEASE_EXISTS,
        Refusal::Compacted => COMPACTED,
        Refusal::FutureRevision => FUTURE_REVISION,
        Refusal::NoSpace => NO_SPACE,
        Refusal::Corrupt => CORRUPT,
        Refusal::TooManyRequests => TOO_MANY_REQUESTS,
        Refusal::NotLeader | Refusal::LeaderChanged => LEADER_CHANGED,
        Refusal::DiskFull => DISK_FULL,
        Refusal::Stopped => STOPPED,
        Refusal::Cancelled => REQUEST_CANCELED,
    }
}

const _: () = assert!(limits::LEASE_TTL_MAX == 9_000_000_000);
