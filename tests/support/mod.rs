//! What tests with real processes share: the member as a child process, and a gRPC client on h2.

pub mod grpc;
pub mod process;
