//! A member that starts, and what it says meanwhile.

use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::process::{Member, PATIENCE, Spec, TestDir, binary, free_port};
use crate::{says, serves};

const CYCLES: u32 = 9;

#[test]
fn a_fresh_directory_is_ready_at_once() {
    for (shards, cpus) in [("1", "1"), ("2", "2"), ("16", "1"), ("16", "3")] {
        let dir = TestDir::new("fresh");
        let mut member = Spec::new(dir.path()).with(&["--shards", shards, "--cpus", cpus]).start();
        println!("{shards} shards on {cpus} CPUs: ready after {:?}", member.ready_after);
        serves(&member);
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
        serves(&member);
        slowest_start = slowest_start.max(member.ready_after);
        slowest_stop = slowest_stop.max(member.stop());
    }
    println!("{CYCLES} cycles: slowest start {slowest_start:?}, slowest stop {slowest_stop:?}");
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
    serves(&Spec::new(dir.path()).start());
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
    serves(&Spec::new(dir.path()).start());
}

#[test]
fn the_service_manager_is_told() {
    let dir = TestDir::new("notify");
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut spec = Spec::new(&dir.path().join("data"));
    spec.variables = vec![("NOTIFY_SOCKET".into(), path.display().to_string())];
    let mut member = spec.start();
    let heard = || {
        let mut buffer = [0; 64];
        let bytes = socket.recv(&mut buffer).expect("a datagram");
        String::from_utf8_lossy(&buffer[..bytes]).into_owned()
    };
    assert_eq!(heard(), "READY=1");
    member.stop();
    assert_eq!(heard(), "STOPPING=1");
}

/// One object a line, with etcd's keys; nothing else, and no error in a clean start and stop.
#[test]
fn the_log_is_json_with_etcds_keys() {
    let dir = TestDir::new("log");
    let mut member = Spec::new(dir.path()).start();
    serves(&member);
    member.stop();
    for line in member.log().lines() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for key in ["level", "ts", "caller", "msg"] {
            assert!(object[key].as_str().is_some_and(|text| !text.is_empty()), "{key} in {line}");
        }
        assert!(["debug", "info", "warn"].contains(&object["level"].as_str().expect("a text")), "{line}");
        let (date, time) = object["ts"].as_str().and_then(|ts| ts.split_once('T')).expect("a date and a time");
        assert!(date.len() == 10 && time.ends_with('Z') && time.len() <= "15:04:05.999999Z".len(), "{line}");
    }
}

#[test]
fn under_the_name_etcd_it_is_the_same() {
    let dir = TestDir::new("name");
    let etcd = dir.path().join("etcd");
    symlink(Path::new(&binary()), &etcd).expect("a link");
    let version = |program: &Path| Command::new(program).env_clear().arg("--version").output().expect("it runs");
    let (own, as_etcd) = (version(Path::new(&binary())), version(&etcd));
    assert!(own.status.success() && own.stdout == as_etcd.stdout && own.stderr.is_empty());
    let text = String::from_utf8(own.stdout).expect("a text");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "etcd Version: 3.7.1");
    assert!(lines[1].strip_prefix("Git SHA: ").is_some_and(|sha| sha.len() == 7), "{text}");
    assert!(lines[3].starts_with("Go OS/Arch: linux/") && lines[4].starts_with("etcring Version: "), "{text}");
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let mut command = Command::new(&etcd);
    // A directory of its own for the default data directory, which has the member's name.
    command.env_clear().current_dir(dir.path()).args(["-name", "x", "-wal-dir", "w", "--listen-client-urls", &url]);
    command.args([
        &format!("--advertise-client-urls={url}"),
        "--listen-peer-urls",
        &format!("http://127.0.0.1:{}", free_port()),
    ]);
    let mut member = Member::spawn(command, port);
    assert!(member.wait_ready(), "{}", member.log());
    serves(&member);
    assert!(dir.path().join("x.etcd/etcring/FORMAT").exists() && dir.path().join("w").exists());
}
