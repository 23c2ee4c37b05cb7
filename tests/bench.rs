//! The load generator against a real member: what it says must be what happened.

#[allow(dead_code, reason = "the kill tests use the rest")]
mod support;

use std::process::{Command, Output};

use serde_json::Value;
use support::process::{Member, Spec, TestDir, free_port};

fn bench(port: u16, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcring"));
    command.args(["bench", arguments[0], "--endpoints", &format!("http://127.0.0.1:{port}")]).args(&arguments[1..]);
    command.output().expect("the binary")
}

fn json(member: &Member, arguments: &[&str]) -> Value {
    let output = bench(member.port, &[arguments, &["--json", "--warm-up", "0s"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn every_workload_is_answered_and_counted() {
    let dir = TestDir::new("bench");
    let member = Spec::new(dir.path()).start();
    let small = ["--connections", "2", "--clients", "8", "--key-space", "500", "--total", "2000"];

    let put = json(&member, &[&["put", "--keys", "sequential"][..], &small].concat());
    assert_eq!(put["kinds"]["put"]["count"], 2000);
    assert!(put["kinds"]["put"]["latency"]["p99"].as_f64() > put["kinds"]["put"]["latency"]["p50"].as_f64());

    // All 500 keys were put, so every range finds its key.
    let range = json(&member, &[&["range", "--keys", "zipf"][..], &small].concat());
    assert_eq!((&range["kinds"]["range"]["count"], &range["found"]), (&2000.into(), &2000.into()));

    for (workload, kind) in [("txn", "txn"), ("lease", "lease grant")] {
        assert_eq!(json(&member, &[&[workload][..], &small].concat())["kinds"][kind]["count"], 2000, "{workload}");
    }
    let keep_alive = json(&member, &[&["lease", "--keep-alive"][..], &small].concat());
    assert_eq!(keep_alive["kinds"]["keep-alive"]["count"], 2000);

    let mixed = json(&member, &[&["mixed", "--reads", "50"][..], &small].concat());
    let counts = ["put", "range"].map(|kind| mixed["kinds"][kind]["count"].as_u64().expect("a count"));
    assert!(counts.iter().sum::<u64>() == 2000 && counts[0] > 500 && counts[1] > 500, "{counts:?}");

    let watch = ["watch", "--watchers", "10", "--watchers-per-stream", "4", "--rate", "2000", "--duration", "30s"];
    let watch = json(&member, &[&watch[..], &small].concat());
    assert_eq!((&watch["watches"]["expected"], &watch["watches"]["delivered"]), (&20_000.into(), &20_000.into()));
}

#[test]
fn a_plot_is_a_picture() {
    let dir = TestDir::new("bench-plot");
    let member = Spec::new(&dir.path().join("data")).start();
    let path = dir.path().join("plot.svg");
    json(&member, &["put", "--total", "100", "--plot", path.to_str().expect("UTF-8")]);
    let svg = std::fs::read_to_string(path).expect("it was written");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && svg.matches("<polyline").count() == 5, "{svg}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
}

#[test]
fn what_cannot_be_measured_is_an_error() {
    let nobody = bench(free_port(), &["put"]);
    let text = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(nobody.status.code() == Some(1) && text.contains("endpoint http://127.0.0.1:"), "{text}");

    let unknown = bench(1, &["put", "--no-such-flag"]);
    assert_eq!(unknown.status.code(), Some(2));

    // A server that refuses: its words are shown, and the exit code says that it failed.
    let dir = TestDir::new("bench-refused");
    let member = Spec::new(dir.path()).with(&["--max-request-bytes", "1000"]).start();
    let refused = bench(member.port, &["put", "--value-size", "5000", "--total", "10", "--warm-up", "0s"]);
    let text = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(refused.status.code() == Some(1) && text.contains("request is too large"), "{text}");
}
