//! What monitoring and probes ask over HTTP/1.1 on the client port of a real member.

#[allow(dead_code, reason = "each test program uses its own part of it")]
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use etcring::proto::etcdserverpb as pb;
use support::grpc::{Client, Failure, LEASE_GRANT, RANGE, TXN, block_on, bytes};
use support::process::{Member, PATIENCE, Spec, TestDir, poll};

/// Status, head and body of the answer.
fn ask(member: &Member, method: &str, path: &str) -> (u16, String, String) {
    let mut socket = TcpStream::connect(("127.0.0.1", member.port)).expect("a member that listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    write!(socket, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer and its end");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    (status, head.to_owned(), body.to_owned())
}

fn get(member: &Member, path: &str) -> (u16, String) {
    let (status, _, body) = ask(member, "GET", path);
    (status, body)
}

/// The value of the series written exactly so.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

fn metric(member: &Member, series: &str) -> f64 {
    let text = get(member, "/metrics").1;
    value(&text, series).unwrap_or_else(|| panic!("{series} is not in:\n{text}"))
}

/// Figures of other executors come a moment later.
fn wait_for(member: &Member, series: &str, expected: f64) {
    assert!(poll(PATIENCE, || metric(member, series) == expected), "{series} is {}, not {expected}", metric(member, series));
}

#[test]
fn probes_are_answered_as_etcd_answers_them() {
    let dir = TestDir::new("probes");
    let member = Spec::new(dir.path()).with(&["--shards", "4", "--quota-backend-bytes", "1000000"]).start();
    let healthy = (200, r#"{"health":"true","reason":""}"#.to_owned());
    let ok = (200, "ok\n".to_owned());
    for path in ["/health", "/health?serializable=true", "/health?exclude=NOSPACE"] {
        assert_eq!(get(&member, path), healthy, "{path}");
    }
    for path in ["/livez", "/readyz", "/livez/serializable_read", "/readyz/linearizable_read", "/readyz?exclude=non_learner"] {
        assert_eq!(get(&member, path), ok, "{path}");
    }
    assert_eq!(get(&member, "/livez?verbose"), (200, "[+]serializable_read ok\nok\n".to_owned()));
    assert_eq!(get(&member, "/readyz?verbose").1.lines().count(), 5);
    assert_eq!(get(&member, "/livez/no-such-check").0, 404);
    assert_eq!(get(&member, "/").0, 404);
    assert_eq!(ask(&member, "POST", "/health").0, 405);
    let version = r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
    assert_eq!(get(&member, "/version"), (200, version.to_owned()));
    block_on(async {
        let client = Client::connect(member.port).await.expect("a member that serves");
        let fill = async |n: u32| {
            let request =
                pb::PutRequest { key: bytes(&format!("key-{n}")), value: vec![b'x'; 100_000].into(), ..Default::default() };
            client.unary::<pb::PutResponse>("/etcdserverpb.KV/Put", &request).await
        };
        for n in 0.. {
            match fill(n).await {
                Ok(_) => assert!(n < 100, "the quota is not kept"),
                Err(Failure::Status { code, .. }) => {
                    assert_eq!(code, 8, "ResourceExhausted");
                    break;
                }
                Err(Failure::Lost(why)) => panic!("{why}"),
            }
        }
    });
    let full = "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n".to_owned();
    assert_eq!(get(&member, "/health"), (503, full.clone()));
    assert_eq!(get(&member, "/health?serializable=true"), (503, full));
    assert_eq!(get(&member, "/health?exclude=NOSPACE"), healthy);
    assert_eq!((get(&member, "/livez"), get(&member, "/readyz")), (ok.clone(), ok), "NOSPACE does not make a member unready");
    let text = get(&member, "/metrics").1;
    assert_eq!(value(&text, "etcd_server_health_failures"), Some(2.0));
    assert_eq!(value(&text, "etcd_server_health_success"), Some(4.0));
    assert_eq!(value(&text, r#"etcd_server_healthcheck{name="serializable_read",type="livez"}"#), Some(1.0));
    assert!(text.contains(r#"etcd_debugging_server_alarms{alarm_type="NOSPACE""#), "{text}");
}

#[test]
fn metrics_measure_what_was_done() {
    let dir = TestDir::new("metrics");
    let member = Spec::new(dir.path()).with(&["--shards", "4", "--cpus", "3"]).start();
    block_on(async {
        let client = Client::connect(member.port).await.expect("a member that serves");
        for n in 0..10 {
            client.put(&format!("key-{n}"), b"value").await;
        }
        client.get("key-1").await;
        let delete = |key: &str| pb::DeleteRangeRequest { key: bytes(key), ..Default::default() };
        let op = |request| pb::RequestOp { request: Some(request) };
        let success = vec![
            op(pb::request_op::Request::RequestDeleteRange(delete("key-1"))),
            op(pb::request_op::Request::RequestRange(pb::RangeRequest { key: bytes("key-2"), ..Default::default() })),
            op(pb::request_op::Request::RequestPut(pb::PutRequest {
                key: bytes("a"),
                value: bytes("b"),
                ..Default::default()
            })),
        ];
        client.must::<pb::TxnResponse>(TXN, &pb::TxnRequest { success, ..Default::default() }).await;
        let grant = pb::LeaseGrantRequest { ttl: 100, id: 7 };
        client.must::<pb::LeaseGrantResponse>(LEASE_GRANT, &grant).await;
        let future = pb::RangeRequest { key: bytes("a"), revision: 1 << 40, ..Default::default() };
        assert!(client.unary::<pb::RangeResponse>(RANGE, &future).await.is_err());
        let _watch = client.watch("key-", "key.", 2).await.expect("a watch");
        wait_for(&member, "etcd_debugging_mvcc_watcher_total", 1.0);
        wait_for(&member, "etcd_debugging_mvcc_events_total", 11.0);
    });
    wait_for(&member, "etcd_debugging_mvcc_watcher_total", 0.0);
    wait_for(&member, "etcd_debugging_mvcc_keys_total", 10.0);
    for (series, expected) in [
        ("etcd_mvcc_put_total", 11.0),
        ("etcd_mvcc_range_total", 2.0),
        ("etcd_mvcc_delete_total", 1.0),
        ("etcd_mvcc_txn_total", 1.0),
        ("etcd_debugging_mvcc_total_put_size_in_bytes", 102.0),
        ("etcd_debugging_mvcc_current_revision", 12.0),
        ("etcd_debugging_lease_granted_total", 1.0),
        ("etcd_debugging_lease_ttl_total_sum", 100.0),
        ("etcd_server_has_leader", 1.0),
        ("etcd_server_leader_changes_seen_total", 1.0),
        ("etcd_server_proposals_pending", 0.0),
        (
            r#"grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}"#,
            10.0,
        ),
        (
            r#"grpc_server_handled_total{grpc_code="OutOfRange",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"}"#,
            1.0,
        ),
        (r#"etcd_server_request_duration_seconds_count{success="true",type="Put"}"#, 10.0),
    ] {
        assert_eq!(metric(&member, series), expected, "{series}");
    }
    for series in
        ["etcd_disk_wal_fsync_duration_seconds_count", "etcd_disk_wal_write_bytes_total", "process_resident_memory_bytes"]
    {
        assert!(metric(&member, series) > 0.0, "{series}");
    }
    let (status, head, _) = ask(&member, "GET", "/metrics");
    assert!(status == 200 && head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
}
