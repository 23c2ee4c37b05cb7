//! How a member starts: quickly, with etcd's flags and variables, and not at all where it must not, saying why.
//!
//! What a machine may lack is taken away from the child alone, without root: by seccomp filters, limits, capabilities that
//! are dropped, and the personality that shows an old kernel.

#[allow(dead_code, reason = "each test program uses its own part of it")]
mod support;

#[path = "start/directory.rs"]
mod directory;
#[path = "start/flags.rs"]
mod flags;
#[path = "start/probe.rs"]
mod probe;
#[path = "start/ready.rs"]
mod ready;
#[path = "start/without.rs"]
mod without;

use support::grpc::{Client, block_on};
use support::process::Member;

/// A member that serves.
fn serves(member: &Member) {
    block_on(async {
        let client = Client::connect(member.port).await.expect("a member that serves");
        client.put("a", b"value").await;
        assert_eq!(client.get("a").await.as_deref(), Some(&b"value"[..]));
    });
}

fn says(log: &str, words: &[&str]) {
    for word in words {
        assert!(log.contains(word), "{word:?} is not in:\n{log}");
    }
}
