//! What tests with real processes share: the member as a child process, its files, and a gRPC client on h2.

pub mod files;
pub mod grpc;
pub mod process;
