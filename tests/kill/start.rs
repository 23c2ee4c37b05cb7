//! How a member starts: quickly, again and again, and not at all where it must not.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use crate::support::grpc::{Client, block_on};
use crate::support::process::{Member, PATIENCE, Spec, TestDir, free_port};

/// What a start may take on a machine with much else to do; alone it takes a small part of a second.
const START_TIME_MAX: Duration = Duration::from_secs(10);
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
const CYCLES: u32 = 30;

async fn put_and_get(member: &Member, key: &str) {
    let client = Client::connect(member.port).await.expect("a member that serves");
    client.put(key, b"value").await;
    assert_eq!(client.get(key).await.as_deref(), Some(&b"value"[..]));
}

fn says(log: &str, words: &[&str]) {
    for word in words {
        assert!(log.contains(word), "{word:?} is not in:\n{log}");
    }
}

#[test]
fn a_fresh_directory_is_ready_at_once() {
    for cpus in ["1", "2", "3"] {
        let dir = TestDir::new("fresh");
        let mut member = Spec::new(dir.path()).with(&["--cpus", cpus]).start();
        println!("a fresh directory on {cpus} CPUs: ready after {:?}", member.ready_after);
        assert!(member.ready_after < START_TIME_MAX, "ready after {:?}", member.ready_after);
        block_on(put_and_get(&member, "a"));
        member.stop();
    }
}

#[test]
fn start_and_stop_many_times() {
    let dir = TestDir::new("cycles");
    let (mut slowest_start, mut slowest_stop) = (Duration::ZERO, Duration::ZERO);
    for cycle in 0..CYCLES {
        let cpus = (1 + cycle % 3).to_string();
        let mut member = Spec::new(dir.path()).with(&["--shards", "3", "--cpus", &cpus]).start();
        if cycle % 2 == 0 {
            block_on(put_and_get(&member, &format!("key-{cycle}")));
        }
        slowest_start = slowest_start.max(member.ready_after);
        slowest_stop = slowest_stop.max(member.stop());
    }
    println!("{CYCLES} cycles: slowest start {slowest_start:?}, slowest stop {slowest_stop:?}");
    assert!(slowest_stop < STOP_TIME_MAX, "a stop took {slowest_stop:?}");
    let member = Spec::new(dir.path()).start();
    block_on(async {
        let client = Client::connect(member.port).await.expect("a member that serves");
        for cycle in (0..CYCLES).step_by(2) {
            assert!(client.get(&format!("key-{cycle}")).await.is_some(), "the put of cycle {cycle}");
        }
    });
}

#[test]
fn a_stop_before_it_serves_is_a_clean_one() {
    let dir = TestDir::new("early");
    for tenths in 0..5 {
        let mut member = Spec::new(dir.path()).spawn();
        std::thread::sleep(Duration::from_millis(5 + 10 * tenths));
        member.signal(libc::SIGTERM);
        let status = member.wait_end(PATIENCE);
        // Right after exec the process has not come to its first line yet: then the signal ends it.
        let before_main =
            member.log().is_empty() && std::os::unix::process::ExitStatusExt::signal(&status) == Some(libc::SIGTERM);
        assert!(status.code() == Some(0) || before_main, "{status}:\n{}", member.log());
    }
    block_on(put_and_get(&Spec::new(dir.path()).start(), "a"));
}

#[test]
fn a_directory_in_use_is_refused() {
    let dir = TestDir::new("locked");
    let member = Spec::new(dir.path()).start();
    let (code, log) = Spec::new(dir.path()).refused();
    assert_eq!(code, 1, "{log}");
    says(&log, &["in use by another process", &dir.path().display().to_string()]);
    block_on(put_and_get(&member, "a"));
}

#[test]
fn a_port_in_use_is_refused() {
    let dir = TestDir::new("port");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let mut member = Spec::new(dir.path()).spawn_on(port, free_port());
    let status = member.wait_end(PATIENCE);
    assert_eq!(status.code(), Some(1), "{}", member.log());
    says(&member.log(), &[&format!("127.0.0.1:{port}"), "another process listens there", " --listen-client-urls"]);
    drop(taken);
    block_on(put_and_get(&Spec::new(dir.path()).start(), "a"));
}

#[test]
fn an_etcds_directory_is_refused_untouched() {
    for below in ["member/snap/db", "member/wal/0000000000000000-0000000000000000.wal"] {
        let dir = TestDir::new("etcd");
        let file = dir.path().join(below);
        fs::create_dir_all(file.parent().expect("below")).expect("a directory");
        fs::write(&file, "an etcd's").expect("a file");
        let (code, log) = Spec::new(dir.path()).refused();
        assert_eq!(code, 1, "{log}");
        says(&log, &["holds the data of an etcd"]);
        assert_eq!(fs::read_to_string(&file).expect("still there"), "an etcd's");
        assert_eq!(fs::read_dir(dir.path()).expect("still there").count(), 1, "nothing was added");
    }
}

#[test]
fn an_unknown_format_is_refused() {
    let dir = TestDir::new("format");
    Spec::new(dir.path()).start().stop();
    fs::write(dir.path().join("etcring/FORMAT"), "etcring 99\nstarted\n").expect("written");
    let (code, log) = Spec::new(dir.path()).refused();
    assert_eq!(code, 1, "{log}");
    says(&log, &["unknown format", "etcring 99"]);
    fs::remove_file(dir.path().join("etcring/FORMAT")).expect("removed");
    let (code, log) = Spec::new(dir.path()).refused();
    assert_eq!(code, 1, "{log}");
    says(&log, &["no FORMAT file"]);
}

#[test]
fn other_shards_than_the_directorys_are_a_warning() {
    let dir = TestDir::new("shards");
    let mut member = Spec::new(dir.path()).with(&["--shards", "4"]).start();
    block_on(put_and_get(&member, "a"));
    member.stop();
    let member = Spec::new(dir.path()).with(&["--shards", "7"]).start();
    says(&member.log(), &["--shards differs from the data directory's"]);
    block_on(async {
        let client = Client::connect(member.port).await.expect("a member that serves");
        assert_eq!(client.get("a").await.as_deref(), Some(&b"value"[..]));
    });
    block_on(put_and_get(&member, "b"));
}

#[test]
fn variables_count_where_no_flag_is_given() {
    let dir = TestDir::new("variables");
    let mut spec = Spec::new(dir.path());
    spec.variables = [("ETCRING_SHARDS", "5"), ("ETCD_LOG_LEVEL", "debug")].map(|(k, v)| (k.into(), v.into())).to_vec();
    let member = spec.start();
    block_on(put_and_get(&member, "a"));
    assert!(dir.path().join("etcring/group-005.pages").exists() && !dir.path().join("etcring/group-006.pages").exists());
    drop(member);
    let mut spec = Spec::new(&dir.path().join("other"));
    spec.variables = vec![("ETCD_LOG_LEVEL".into(), "loud".into())];
    let (code, log) = spec.refused();
    assert_eq!(code, 1, "{log}");
    says(&log, &["loud"]);
}

#[test]
fn flags_that_do_not_work_yet_are_refused_by_name() {
    let dir = TestDir::new("flags");
    let refused: [&[&str]; 8] = [
        &["--cert-file", "x"],
        &["--auth-token", "jwt"],
        &["--config-file", "x"],
        &["--host-whitelist", "a"],
        &["--listen-metrics-urls", "http://127.0.0.1:1"],
        &["--discovery-endpoints", "http://x"],
        &["--force-new-cluster"],
        &["--trusted-ca-file=x"],
    ];
    for arguments in refused {
        let (code, log) = Spec::new(dir.path()).with(arguments).refused();
        assert_eq!(code, 1, "{arguments:?}: {log}");
        says(&log, &[arguments[0].split('=').next().expect("a name")]);
    }
    let (code, log) = Spec::new(dir.path()).with(&["--no-such-flag"]).refused();
    assert_eq!(code, 2, "{log}");
    says(&log, &["no-such-flag"]);
    assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 0, "nothing was made");
}
