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

#[test]
fn the_whole_is_read_counted_and_tidied_up_and_an_idle_server_is_measured() {
    let dir = TestDir::new("bench-whole");
    let member = Spec::new(dir.path()).start();
    let pid = member.id().to_string();
    let keys = ["--prefix", "all/", "--key-space", "300", "--clients", "8"];
    // In sequence all clients together leave no key out.
    json(&member, &[&["put", "--keys", "sequential", "--total", "300"][..], &keys].concat());
    json(&member, &["put", "--prefix", "else/", "--total", "100"]);
    let all = json(&member, &[&["range", "--all", "--total", "4"][..], &keys[..2]].concat());
    let count = json(&member, &[&["range", "--all", "--count-only", "--total", "4"][..], &keys[..2]].concat());
    let asked = |run: &Value| run["kinds"]["range"]["count"].as_u64().expect("a count");
    for run in [&all, &count] {
        // What is asked before the measurement begins is found as well.
        let (found, asked) = (run["found"].as_u64().expect("a count"), asked(run));
        assert!(found.is_multiple_of(300) && found / 300 >= asked && asked == 4, "{run}");
    }

    // As in a script: what is given twice is taken from the end.
    let compact = json(&member, &["compact", "--total", "9", "--total", "1"]);
    assert_eq!(compact["kinds"]["compact"]["count"], 1);
    assert_eq!(json(&member, &["defragment", "--total", "1"])["kinds"]["defragment"]["count"], 1);

    let idle = json(&member, &["idle", "--duration", "1s", "--server-pid", &pid, "--wait", "30s"]);
    assert_eq!(idle["kinds"], serde_json::json!({}));
    assert!(idle["server"]["cpus"].as_f64().is_some_and(|cpus| cpus > 0.0 && cpus < 0.5), "{idle}");
    let server = &idle["server"];
    let bytes = |name: &str| server[name].as_u64().unwrap_or_else(|| panic!("{name} in {server}"));
    assert!(bytes("resident_max_bytes") >= bytes("resident_bytes") && bytes("resident_extra_bytes") < 64 << 20);
}

#[test]
fn a_server_is_waited_for() {
    let dir = TestDir::new("bench-wait");
    let nobody = bench(free_port(), &["range", "--wait", "50ms", "--total", "1"]);
    let text = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(nobody.status.code() == Some(1) && text.contains("no answer for 50ms"), "{text}");

    let member = Spec::new(&dir.path().join("data")).start();
    json(&member, &["range", "--wait", "30s", "--total", "1"]);
}

#[test]
fn tables_are_made_of_runs() {
    let dir = TestDir::new("bench-table");
    let at = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    let write = |name: &str, text: &str| std::fs::write(at(name), text).expect("written");
    let read = |name: &str| std::fs::read_to_string(at(name)).expect("it was written");
    for (column, round, rate) in [("old", 1, 90), ("old", 2, 110), ("old", 3, 100), ("new", 1, 250)] {
        write(&format!("puts.{column}.{round}.json"), &format!("{{\"rate\": {rate}}}"));
    }
    write("figures", "= Against the old | old, new\n*puts | /rate | puts | /s | more | 2x\n");
    write("about", "machine: a small one\n");
    let marks = ["<!-- benches/compare.sh writes what is between these lines -->", "<!-- benches/compare.sh: end -->"];
    write("README.md", &format!("above\n{}\n{}\nbelow\n", marks[0], marks[1]));

    let arguments = ["--figures", &at("figures"), "--about", &at("about"), "--name", "new=the new", "--markdown", &at("t.md")];
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcring"));
    command.args(["bench", "table", &at("")]).args(arguments);
    let output = command.args(["--svg", &at("t.svg"), "--readme", &at("README.md")]).output().expect("the binary");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let row = "| puts | /s   | 100 (90 – 110) | 250     | 2.5 × | ≥ 2 ×: met |";
    assert!(read("t.md").contains(row) && read("t.md").contains("- machine: a small one"), "{}", read("t.md"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), read("t.md"));
    assert!(read("t.svg").contains("the new ÷ old") && read("t.svg").contains("2.50 ×"));
    let readme = read("README.md");
    assert!(
        readme.starts_with("above\n") && readme.ends_with("below\n") && readme.contains("| puts | /s   | 100 | 250"),
        "{readme}"
    );

    let missing = Command::new(env!("CARGO_BIN_EXE_etcring")).args(["bench", "table", "/nowhere"]).args(arguments).output();
    let missing = missing.expect("the binary");
    assert!(!missing.status.success() && String::from_utf8_lossy(&missing.stderr).contains("/nowhere"));
}
