//! What a call is, on either side of the line between the transport and the front.
//!
//! The transport (`rpc`) speaks HTTP/2 and hands over whole messages; the front answers with framed messages and one [`Status`]. The
//! texts made here are grpc-go's, which is what etcd's clients know.

use std::borrow::Cow;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::base::Instant;

/// A call under way on this executor. The pump gives it; it is not used again while the process lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallId({:#x})", self.0)
    }
}

/// How many messages go which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Kind {
    /// One message each way.
    Unary,
    /// One message in, any number out.
    ServerStream,
    /// Any number each way.
    BidiStream,
}

impl Kind {
    /// As the label `grpc_type` of the metrics has it.
    pub const fn grpc_type(self) -> &'static str {
        match self {
            Kind::Unary => "unary",
            Kind::ServerStream => "server_stream",
            Kind::BidiStream => "bidi_stream",
        }
    }

    /// Whether exactly one message comes in.
    pub const fn takes_one(self) -> bool {
        matches!(self, Kind::Unary | Kind::ServerStream)
    }
}

/// Why a request's path names no method; the texts are grpc-go's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PathError {
    /// There is no service and method in it.
    Malformed(String),
    /// The service is not served here.
    UnknownService(String),
    /// The service is served and has no such method.
    UnknownMethod {
        /// The service's full name.
        service: &'static str,
        /// The method asked for.
        method: String,
    },
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathError::Malformed(path) => write!(f, "malformed method name: {path:?}"),
            PathError::UnknownService(service) => write!(f, "unknown service {service}"),
            PathError::UnknownMethod { service, method } => write!(f, "unknown method {method} for service {service}"),
        }
    }
}

impl From<PathError> for Status {
    fn from(e: PathError) -> Status {
        Status::new(Code::Unimplemented, e.to_string())
    }
}

macro_rules! methods {
    ($($service:literal => { $($name:ident: $method:literal, $kind:ident;)* })*) => {
        /// Every method that etcd serves over gRPC.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        pub enum Method {
            $($(#[doc = concat!("`/", $service, "/", $method, "`")] $name,)*)*
        }

        impl Method {
            /// All of them, in order of their numbers.
            pub const ALL: &'static [Method] = &[$($(Method::$name,)*)*];

            /// The full names of the services.
            const SERVICES: &'static [&'static str] = &[$($service,)*];

            /// The method that a request's `:path` names.
            #[inline]
            pub fn from_path(path: &str) -> Result<Method, PathError> {
                match path {
                    $($(concat!("/", $service, "/", $method) => Ok(Method::$name),)*)*
                    _ => Err(Method::unknown(path)),
                }
            }

            /// As a request's `:path` has it.
            pub const fn path(self) -> &'static str {
                match self {
                    $($(Method::$name => concat!("/", $service, "/", $method),)*)*
                }
            }

            /// The service's full name: the label `grpc_service` of the metrics.
            pub const fn service(self) -> &'static str {
                match self {
                    $($(Method::$name => $service,)*)*
                }
            }

            /// The method's own name: the label `grpc_method` of the metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $($(Method::$name => $method,)*)*
                }
            }

            /// How many messages go which way.
            #[inline]
            pub const fn kind(self) -> Kind {
                match self {
                    $($(Method::$name => Kind::$kind,)*)*
                }
            }
        }
    };
}

impl Method {
    /// Whether a call of it goes on until one side ends it.
    pub const fn is_endless(self) -> bool {
        matches!(self, Method::Watch | Method::LeaseKeepAlive | Method::HealthWatch | Method::Observe)
    }
}

methods! {
    "etcdserverpb.KV" => {
        Range: "Range", Unary;
        Put: "Put", Unary;
        DeleteRange: "DeleteRange", Unary;
        Txn: "Txn", Unary;
        Compact: "Compact", Unary;
        RangeStream: "RangeStream", ServerStream;
    }
    "etcdserverpb.Watch" => {
        Watch: "Watch", BidiStream;
    }
    "etcdserverpb.Lease" => {
        LeaseGrant: "LeaseGrant", Unary;
        LeaseRevoke: "LeaseRevoke", Unary;
        LeaseKeepAlive: "LeaseKeepAlive", BidiStream;
        LeaseTimeToLive: "LeaseTimeToLive", Unary;
        LeaseLeases: "LeaseLeases", Unary;
    }
    "etcdserverpb.Cluster" => {
        MemberAdd: "MemberAdd", Unary;
        MemberRemove: "MemberRemove", Unary;
        MemberUpdate: "MemberUpdate", Unary;
        MemberList: "MemberList", Unary;
        MemberPromote: "MemberPromote", Unary;
    }
    "etcdserverpb.Maintenance" => {
        Alarm: "Alarm", Unary;
        Status: "Status", Unary;
        Defragment: "Defragment", Unary;
        Hash: "Hash", Unary;
        HashKV: "HashKV", Unary;
        Snapshot: "Snapshot", ServerStream;
        MoveLeader: "MoveLeader", Unary;
        Downgrade: "Downgrade", Unary;
    }
    "etcdserverpb.Auth" => {
        AuthEnable: "AuthEnable", Unary;
        AuthDisable: "AuthDisable", Unary;
        AuthStatus: "AuthStatus", Unary;
        Authenticate: "Authenticate", Unary;
        UserAdd: "UserAdd", Unary;
        UserGet: "UserGet", Unary;
        UserList: "UserList", Unary;
        UserDelete: "UserDelete", Unary;
        UserChangePassword: "UserChangePassword", Unary;
        UserGrantRole: "UserGrantRole", Unary;
        UserRevokeRole: "UserRevokeRole", Unary;
        RoleAdd: "RoleAdd", Unary;
        RoleGet: "RoleGet", Unary;
        RoleList: "RoleList", Unary;
        RoleDelete: "RoleDelete", Unary;
        RoleGrantPermission: "RoleGrantPermission", Unary;
        RoleRevokePermission: "RoleRevokePermission", Unary;
    }
    "v3lockpb.Lock" => {
        Lock: "Lock", Unary;
        Unlock: "Unlock", Unary;
    }
    "v3electionpb.Election" => {
        Campaign: "Campaign", Unary;
        Proclaim: "Proclaim", Unary;
        Leader: "Leader", Unary;
        Observe: "Observe", ServerStream;
        Resign: "Resign", Unary;
    }
    "grpc.health.v1.Health" => {
        HealthCheck: "Check", Unary;
        HealthWatch: "Watch", ServerStream;
    }
}

impl Method {
    /// What is wrong with a path that is none of ours, as grpc-go's `handleStream` says it: the first byte is a slash and the last slash parts
    /// service and method.
    #[cold]
    fn unknown(path: &str) -> PathError {
        let Some((service, method)) = path.strip_prefix('/').and_then(|bare| bare.rsplit_once('/')) else {
            return PathError::Malformed(path.to_owned());
        };
        match Method::SERVICES.iter().find(|known| **known == service) {
            Some(service) => PathError::UnknownMethod { service, method: method.to_owned() },
            None => PathError::UnknownService(service.to_owned()),
        }
    }
}

/// gRPC's status codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Code {
    /// Success.
    Ok = 0,
    /// The caller gave up.
    Canceled = 1,
    /// No better code is known.
    Unknown = 2,
    /// The request is wrong whatever the state.
    InvalidArgument = 3,
    /// The deadline passed first.
    DeadlineExceeded = 4,
    /// What was asked for does not exist.
    NotFound = 5,
    /// What was to be made exists.
    AlreadyExists = 6,
    /// The caller may not do this.
    PermissionDenied = 7,
    /// A quota or size limit is reached.
    ResourceExhausted = 8,
    /// The state does not allow it.
    FailedPrecondition = 9,
    /// A conflict; try the whole again.
    Aborted = 10,
    /// Outside of what exists at the moment.
    OutOfRange = 11,
    /// Not served here.
    Unimplemented = 12,
    /// An invariant is broken.
    Internal = 13,
    /// Try again later.
    Unavailable = 14,
    /// Data is lost or damaged.
    DataLoss = 15,
    /// The caller is not known.
    Unauthenticated = 16,
}

impl Code {
    /// As the wire carries it.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// As grpc-go names it: the label `grpc_code` of the metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Code::Ok => "OK",
            Code::Canceled => "Canceled",
            Code::Unknown => "Unknown",
            Code::InvalidArgument => "InvalidArgument",
            Code::DeadlineExceeded => "DeadlineExceeded",
            Code::NotFound => "NotFound",
            Code::AlreadyExists => "AlreadyExists",
            Code::PermissionDenied => "PermissionDenied",
            Code::ResourceExhausted => "ResourceExhausted",
            Code::FailedPrecondition => "FailedPrecondition",
            Code::Aborted => "Aborted",
            Code::OutOfRange => "OutOfRange",
            Code::Unimplemented => "Unimplemented",
            Code::Internal => "Internal",
            Code::Unavailable => "Unavailable",
            Code::DataLoss => "DataLoss",
            Code::Unauthenticated => "Unauthenticated",
        }
    }
}

/// How a call ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// The code.
    pub code: Code,
    /// The text for people (and for clients that compare it); empty when the code is [`Code::Ok`].
    pub message: Cow<'static, str>,
}

impl Status {
    /// Success.
    pub const OK: Status = Status { code: Code::Ok, message: Cow::Borrowed("") };

    /// A status with a text; a `&'static str` is not copied.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Status {
        Status { code, message: message.into() }
    }

    /// Whether it is a success.
    pub const fn is_ok(&self) -> bool {
        matches!(self.code, Code::Ok)
    }
}

/// What a call's headers say about it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CallOptions {
    /// When the caller stops waiting (`grpc-timeout`); the front's timers answer [`Code::DeadlineExceeded`].
    pub deadline: Option<Instant>,
    /// The caller wants an error in place of an answer while there is no leader (`hasleader: true`).
    pub require_leader: bool,
    /// Who the caller is (`token`, else `authorization`; without a `Bearer ` prefix).
    pub token: Option<String>,
    /// `client-api-version` as it came, for a metric; etcd refuses one that is not UTF-8 with ErrGRPCInvalidClientAPIVersion.
    pub api_version: Option<Bytes>,
}

/// The bytes before every message: one of flags, four of length.
pub const MESSAGE_PREFIX_BYTES: usize = 5;

/// The prefix of an uncompressed message of `len` bytes.
#[inline]
pub const fn message_prefix(len: usize) -> [u8; MESSAGE_PREFIX_BYTES] {
    assert!(len <= u32::MAX as usize, "a message of 4 GiB or more");
    let [a, b, c, d] = (len as u32).to_be_bytes();
    [0, a, b, c, d]
}

/// A message as the wire carries it: prefix and protobuf in one allocation.
pub fn frame(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut out = BytesMut::with_capacity(MESSAGE_PREFIX_BYTES + len);
    out.put_slice(&message_prefix(len));
    message.encode(&mut out).expect("BytesMut grows");
    out.freeze()
}

/// Messages that stand framed one behind the other, each with its prefix.
pub fn frames(mut framed: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let &[_, a, b, c, d] = framed.first_chunk::<MESSAGE_PREFIX_BYTES>()?;
        Some(framed.split_to(MESSAGE_PREFIX_BYTES + u32::from_be_bytes([a, b, c, d]) as usize))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_by_its_path() {
        for (number, method) in Method::ALL.iter().enumerate() {
            assert_eq!(Method::from_path(method.path()), Ok(*method));
            assert_eq!(*method as usize, number);
            assert_eq!(format!("/{}/{}", method.service(), method.name()), method.path());
        }
        assert_eq!(Method::Watch.kind(), Kind::BidiStream);
        assert_eq!(Method::Snapshot.kind().grpc_type(), "server_stream");
    }

    #[test]
    fn wrong_paths_get_the_texts_of_grpc_go() {
        let text = |path: &str| Method::from_path(path).map_err(|e| e.to_string()).unwrap_err();
        assert_eq!(text("/etcdserverpb.KV/Nope"), "unknown method Nope for service etcdserverpb.KV");
        assert_eq!(text("/no.Such/Range"), "unknown service no.Such");
        assert_eq!(text("/a/b/c"), "unknown service a/b");
        assert_eq!(text("//x"), "unknown service ");
        assert_eq!(text("/nothing"), "malformed method name: \"/nothing\"");
        assert_eq!(text("nothing"), "malformed method name: \"nothing\"");
    }

    #[test]
    fn a_framed_message_has_its_length_before_it() {
        let message = crate::proto::etcdserverpb::DeleteRangeRequest { key: Bytes::from_static(b"k"), ..Default::default() };
        assert_eq!(frame(&message).as_ref(), [0, 0, 0, 0, 3, 0x0a, 1, b'k']);
    }
}
