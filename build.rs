//! Makes the message types from `proto/` at build time. protox compiles the files, so no protoc is needed.

use std::error::Error;
use std::path::Path;

const FILES: [&str; 6] = ["kv.proto", "auth.proto", "rpc.proto", "lock.proto", "election.proto", "health.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = FILES.map(|f| Path::new("proto").join(f));
    let descriptors = protox::compile(&files, ["proto"])?;
    prost_build::Config::new().bytes(["."]).include_file("messages.rs").compile_fds(descriptors)?;
    Ok(())
}
