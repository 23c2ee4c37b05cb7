use super::*;
use crate::base::limits::CLIENT_VERSIONS_MAX;
use crate::base::{MemberId, Revision};
use std::collections::BTreeMap;
use std::time::Duration;

fn text_of(recorders: &[&Recorder]) -> String {
    let readers: Vec<Reader> = recorders.iter().map(|r| r.reader()).collect();
    render(&readers, &MemberFigures::default(), &ProcessFigures::default())
}

/// The value of the series written exactly so.
fn value(text: &str, series: &str) -> Option<String> {
    text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned))
}

#[test]
fn cores_are_added_up() {
    let (a, b) = (Recorder::new(), Recorder::new());
    a.add(Counter::Puts, 2);
    b.add(Counter::Puts, 3);
    a.set(Gauge::Keys, 10);
    b.set(Gauge::Keys, 5);
    a.set_total(Counter::Deletes, 4);
    b.set_total(Counter::Deletes, 2);
    b.set_total(Counter::Deletes, 3);
    a.set(Gauge::LastCompaction, 100);
    b.set(Gauge::LastCompaction, 99);
    let text = text_of(&[&a, &b]);
    for (series, expected) in [
        ("etcd_mvcc_put_total", "5"),
        ("etcd_debugging_mvcc_keys_total", "15"),
        ("etcd_debugging_mvcc_db_compaction_last", "100"),
        ("etcd_mvcc_delete_total", "7"),
        ("etcd_mvcc_range_total", "0"),
        ("etcd_debugging_mvcc_compact_revision", "-1"),
    ] {
        assert_eq!(value(&text, series).as_deref(), Some(expected), "{series}");
    }
}

#[test]
fn histograms_have_etcds_bounds() {
    let a = Recorder::new();
    a.observe(Histogram::WalFsync, Duration::from_micros(700));
    a.observe(Histogram::WalFsync, Duration::from_micros(1500));
    a.observe(Histogram::WalFsync, Duration::from_secs(60));
    a.observe_ttl(3600);
    a.answered(Operation::Put, true, Duration::from_micros(1500));
    a.answered(Operation::Range, true, Duration::from_micros(150));
    a.observe(Histogram::Defragmentation, Duration::from_millis(150));
    a.applied(Duration::from_micros(150));
    a.applied(Duration::from_millis(101));
    let text = text_of(&[&a]);
    for (series, expected) in [
        ("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"}", "1"),
        ("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.002\"}", "2"),
        ("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"}", "2"),
        ("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"}", "3"),
        ("etcd_disk_wal_fsync_duration_seconds_sum", "60.0022"),
        ("etcd_disk_wal_fsync_duration_seconds_count", "3"),
        ("etcd_disk_backend_defrag_duration_seconds_bucket{le=\"0.1\"}", "0"),
        ("etcd_disk_backend_defrag_duration_seconds_bucket{le=\"0.2\"}", "1"),
        ("etcd_disk_backend_defrag_duration_seconds_bucket{le=\"409.6\"}", "1"),
        ("etcd_server_range_duration_seconds_bucket{success=\"true\",le=\"0.0001\"}", "0"),
        ("etcd_server_range_duration_seconds_bucket{success=\"true\",le=\"0.0002\"}", "1"),
        ("etcd_server_range_duration_seconds_bucket{success=\"true\",le=\"52.4288\"}", "1"),
        ("etcd_server_apply_duration_seconds_bucket{op=\"Batch\",success=\"true\",version=\"v3\",le=\"0.0002\"}", "1"),
        ("etcd_server_apply_duration_seconds_bucket{op=\"Batch\",success=\"true\",version=\"v3\",le=\"52.4288\"}", "2"),
        ("etcd_server_slow_apply_total", "1"),
        ("etcd_debugging_lease_ttl_total_bucket{le=\"2048\"}", "0"),
        ("etcd_debugging_lease_ttl_total_bucket{le=\"4096\"}", "1"),
        ("etcd_debugging_lease_ttl_total_bucket{le=\"8.388608e+06\"}", "1"),
        ("etcd_debugging_lease_ttl_total_sum", "3600"),
        ("etcd_server_request_duration_seconds_bucket{success=\"true\",type=\"Put\",le=\"0.001\"}", "0"),
        ("etcd_server_request_duration_seconds_bucket{success=\"true\",type=\"Put\",le=\"0.002\"}", "1"),
        ("etcd_server_request_duration_seconds_bucket{success=\"true\",type=\"Put\",le=\"8.192\"}", "1"),
    ] {
        assert_eq!(value(&text, series).as_deref(), Some(expected), "{series}");
    }
    assert!(!text.contains("type=\"Txn\""), "a series begins with its first observation");
    assert!(!text_of(&[&Recorder::new()]).contains("etcd_server_request_duration_seconds"));
}

#[test]
fn buckets_rise_to_the_count() {
    let a = Recorder::new();
    for micros in [1, 900, 5_000, 70_000, 40_000_000] {
        let took = Duration::from_micros(micros);
        Histogram::ALL.iter().filter(|h| **h != Histogram::LeaseTtl).for_each(|h| a.observe(*h, took));
        a.answered(Operation::Txn, true, took);
    }
    let text = text_of(&[&a]);
    let mut last: BTreeMap<String, f64> = BTreeMap::new();
    for line in text.lines().filter(|l| l.contains("_bucket{")) {
        let (series, count) = line.rsplit_once(' ').unwrap();
        let key = series.split("le=").next().unwrap().to_owned();
        let count: f64 = count.parse().unwrap();
        let before = last.insert(key, count).unwrap_or(0.0);
        assert!(count >= before, "{line}");
    }
    assert_eq!(last["etcd_server_request_duration_seconds_bucket{success=\"true\",type=\"Txn\","], 5.0);
}

#[test]
fn calls_are_counted_by_method_and_code() {
    let a = Recorder::new();
    let put = Rpc::find("etcdserverpb.KV", "Put").unwrap();
    let watch = Rpc::find("etcdserverpb.Watch", "Watch").unwrap();
    a.call_started(put);
    a.messages_received(put, 1);
    a.messages_sent(put, 1);
    a.call_handled(put, 0);
    a.call_handled(put, 8);
    a.call_handled(put, 200);
    a.messages_sent(watch, 7);
    let text = text_of(&[&a]);
    let of_put = "grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}";
    for (series, expected) in [
        (format!("grpc_server_started_total{{{of_put}"), "1"),
        (format!("grpc_server_handled_total{{grpc_code=\"OK\",{of_put}"), "1"),
        (format!("grpc_server_handled_total{{grpc_code=\"ResourceExhausted\",{of_put}"), "1"),
        (format!("grpc_server_handled_total{{grpc_code=\"Unknown\",{of_put}"), "1"),
        (format!("grpc_server_handled_total{{grpc_code=\"Internal\",{of_put}"), "0"),
        (
            "grpc_server_msg_sent_total{grpc_method=\"Watch\",grpc_service=\"etcdserverpb.Watch\",grpc_type=\"bidi_stream\"}"
                .to_owned(),
            "7",
        ),
    ] {
        assert_eq!(value(&text, &series).as_deref(), Some(expected), "{series}");
    }
    assert_eq!(text.lines().filter(|l| l.starts_with("grpc_server_handled_total{")).count(), 44 * 17);
    assert!(!text.contains("v3lockpb"));
}

#[test]
fn clients_versions_are_bounded() {
    let (a, b) = (Recorder::new(), Recorder::new());
    assert!(!text_of(&[&a]).contains("etcd_server_client_requests_total"));
    let unknown = a.client_version("");
    a.client_request(CallKind::Unary, unknown);
    for n in 0..2 * CLIENT_VERSIONS_MAX {
        let version = a.client_version(&format!("3.{n}"));
        a.client_request(CallKind::Stream, version);
        assert_eq!(a.client_version(&format!("3.{n}")), version);
    }
    let version = b.client_version("3.0");
    b.client_request(CallKind::Stream, version);
    let text = text_of(&[&a, &b]);
    let series =
        |version, kind| format!("etcd_server_client_requests_total{{client_api_version=\"{version}\",type=\"{kind}\"}}");
    assert_eq!(value(&text, &series("unknown", "unary")).as_deref(), Some("1"));
    assert_eq!(value(&text, &series("3.0", "stream")).as_deref(), Some("2"));
    let others = 2 * CLIENT_VERSIONS_MAX - (CLIENT_VERSIONS_MAX - 1);
    assert_eq!(value(&text, &series("other", "stream")), Some(others.to_string()));
    assert!(text.lines().filter(|l| l.starts_with("etcd_server_client_requests_total{")).count() <= CLIENT_VERSIONS_MAX + 1);
}

#[test]
fn checks_show_once_they_ran() {
    let (a, b) = (Recorder::new(), Recorder::new());
    assert!(!text_of(&[&a]).contains("healthcheck"));
    a.checked(HealthCheck::ReadyLinearizableRead, true);
    b.checked(HealthCheck::ReadyLinearizableRead, false);
    let text = text_of(&[&a, &b]);
    let labels = "name=\"linearizable_read\"";
    assert_eq!(value(&text, &format!("etcd_server_healthcheck{{{labels},type=\"readyz\"}}")).as_deref(), Some("0"));
    for status in ["success", "error"] {
        let series = format!("etcd_server_healthchecks_total{{{labels},status=\"{status}\",type=\"readyz\"}}");
        assert_eq!(value(&text, &series).as_deref(), Some("1"));
    }
}

#[test]
fn figures_of_member_and_process_are_shown() {
    let member = MemberFigures {
        member: MemberId(0x8e9e05c52164694d),
        server_version: "3.7.1",
        cluster_version: "3.7".to_owned(),
        etcring_version: "0.1.0",
        has_leader: true,
        is_leader: true,
        is_learner: false,
        revision: Revision(42),
        compact_revision: Some(Revision(7)),
        quota_bytes: 2 << 30,
        alarms: vec![(MemberId(0x1f), "NOSPACE")],
    };
    let process = ProcessFigures { open_fds: Some(16), max_fds: Some(20000), ..ProcessFigures::default() };
    let text = render(&[], &member, &process);
    for (series, expected) in [
        ("etcd_server_id{server_id=\"8e9e05c52164694d\"}", "1"),
        ("etcd_server_version{server_version=\"3.7.1\"}", "1"),
        ("etcd_cluster_version{cluster_version=\"3.7\"}", "1"),
        ("etcd_server_has_leader", "1"),
        ("etcd_server_is_learner", "0"),
        ("etcd_debugging_mvcc_current_revision", "42"),
        ("etcd_debugging_mvcc_compact_revision", "7"),
        ("etcd_server_quota_backend_bytes", "2.147483648e+09"),
        ("etcd_debugging_server_alarms{alarm_type=\"NOSPACE\",server_id=\"1f\"}", "1"),
        ("os_fd_used", "16"),
        ("process_max_fds", "20000"),
    ] {
        assert_eq!(value(&text, series).as_deref(), Some(expected), "{series}");
    }
    assert!(!text.contains("process_resident_memory_bytes"), "what could not be read is left out");
}

#[test]
fn the_text_is_well_formed() {
    let text = text_of(&[&Recorder::new()]);
    let mut names = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(help) = lines.next() {
        let (name, words) = help.strip_prefix("# HELP ").expect("a family begins").split_once(' ').unwrap();
        assert!(words.ends_with('.'), "{help}");
        let declared = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).unwrap().to_owned();
        assert!(["counter", "gauge", "histogram"].contains(&declared.as_str()));
        let mut series = 0;
        while let Some(line) = lines.next_if(|l| !l.starts_with('#')) {
            assert!(line.starts_with(name), "{line}");
            line.rsplit_once(' ').unwrap().1.parse::<f64>().expect("a number");
            series += 1;
        }
        assert!(series > 0, "{name} has a series");
        names.push(name.to_owned());
    }
    assert!(names.is_sorted() && names.windows(2).all(|w| w[0] != w[1]));
    let of_member = 6 + 4;
    let of_calls = 4;
    assert_eq!(names.len(), Counter::ALL.len() + Gauge::ALL.len() + Histogram::ALL.len() + of_calls + of_member);
}

#[test]
fn a_reader_sees_another_threads_counts() {
    let recorder = Recorder::new();
    let reader = recorder.reader();
    std::thread::spawn(move || (0..1000).for_each(|_| recorder.add(Counter::Ranges, 1))).join().unwrap();
    let text = render(&[reader], &MemberFigures::default(), &ProcessFigures::default());
    assert_eq!(value(&text, "etcd_mvcc_range_total").as_deref(), Some("1000"));
}
