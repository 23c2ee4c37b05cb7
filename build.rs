//! Makes the message types from `proto/` at build time, and names the commit. protox compiles the files, so no protoc is needed.

use std::error::Error;
use std::path::Path;
use std::process::Command;

const FILES: [&str; 6] = ["kv.proto", "auth.proto", "rpc.proto", "lock.proto", "election.proto", "health.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    name_commit();
    let files = FILES.map(|f| Path::new("proto").join(f));
    let descriptors = protox::compile(&files, ["proto"])?;
    prost_build::Config::new().bytes(["."]).include_file("messages.rs").compile_fds(descriptors)?;
    Ok(())
}

/// Tells the program which commit it is built from, where there is a repository and nobody has told it otherwise.
fn name_commit() {
    println!("cargo:rerun-if-env-changed=ETCRING_GIT_SHA");
    if std::env::var_os("ETCRING_GIT_SHA").is_some() {
        return;
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|o| o.status.success())?;
        String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    // A repository around a copy without one is not ours.
    if !Path::new(".git").exists() {
        return;
    }
    let (Some(sha), Some(log)) = (git(&["rev-parse", "--short=7", "HEAD"]), git(&["rev-parse", "--git-path", "logs/HEAD"]))
    else {
        return;
    };
    // It grows with every commit and checkout.
    if Path::new(&log).exists() {
        println!("cargo:rerun-if-changed={log}");
        println!("cargo:rustc-env=ETCRING_GIT_SHA={}", &sha[..7]);
    }
}
