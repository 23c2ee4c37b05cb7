//! The front: what a call is, and what answers it.

mod call;

pub use call::{CallId, CallOptions, Code, Kind, MESSAGE_PREFIX_BYTES, Method, PathError, Status, frame, message_prefix};
