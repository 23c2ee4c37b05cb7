//! What does not grow: the log under keys that are overwritten for ever, and the memory behind large answers.
//!
//! `ETCRING_OVERWRITES=2000000 ETCRING_VALUE_BYTES=100 cargo test --release --test kill overwrites -- --nocapture` does more of it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcring::proto::etcdserverpb as pb;
use tokio::task::spawn_local;

use super::rounds::number;
use crate::support::grpc::{Client, PUT, RANGE, block_on, bytes};
use crate::support::process::{PATIENCE, Spec, TestDir, poll};

const OVERWRITES_DEFAULT: u64 = 50_000;
const VALUE_BYTES_DEFAULT: u64 = 4096;
const KEYS: u64 = 1000;
const CONNECTIONS: usize = 4;
const CLIENTS: usize = 128;
const SEGMENTS_MAX: usize = 4;
/// How often segments are counted.
const LOOK: Duration = Duration::from_millis(20);

/// The segments of the core that has most, of any run.
fn segments(data_dir: &Path) -> usize {
    let mut cores: BTreeMap<String, usize> = BTreeMap::new();
    for entry in fs::read_dir(data_dir.join("etcring/wal")).expect("a directory") {
        let name = entry.expect("an entry").file_name().into_string().expect("ASCII");
        let mut parts = name.split('-');
        if let (Some(_), Some(core), Some(_)) = (parts.next(), parts.next(), parts.next()) {
            *cores.entry(core.to_owned()).or_default() += 1;
        }
    }
    cores.into_values().max().unwrap_or(0)
}

async fn overwrite(port: u16, overwrites: u64, value_bytes: u64) {
    let next = Rc::new(Cell::new(0));
    let mut tasks = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = Client::connect(port).await.expect("a member that serves");
        for _ in 0..CLIENTS / CONNECTIONS {
            let (client, next) = (client.clone(), next.clone());
            tasks.push(spawn_local(async move {
                while next.get() < overwrites {
                    let number = next.replace(next.get() + 1);
                    let value = Bytes::from(vec![b'a' + (number % 26) as u8; value_bytes as usize]);
                    let key = bytes(&format!("key-{:04}", number % KEYS));
                    let request = pb::PutRequest { key, value, ..Default::default() };
                    client.unary::<pb::PutResponse>(PUT, &request).await.expect("a put");
                }
            }));
        }
    }
    for task in tasks {
        task.await.expect("a client does not panic");
    }
}

#[test]
fn overwrites_leave_few_segments() {
    let overwrites = number("ETCRING_OVERWRITES").unwrap_or(OVERWRITES_DEFAULT);
    let value_bytes = number("ETCRING_VALUE_BYTES").unwrap_or(VALUE_BYTES_DEFAULT);
    let dir = TestDir::new("growth");
    let spec = Spec::new(dir.path()).with(&["--auto-compaction-mode", "periodic", "--auto-compaction-retention", "1s"]);
    let mut member = spec.start();
    let began = Instant::now();
    let most = block_on(async {
        let most = Rc::new(Cell::new(0));
        let (counted, path) = (most.clone(), dir.path().to_owned());
        let count = spawn_local(async move {
            loop {
                counted.set(counted.get().max(segments(&path)));
                tokio::time::sleep(LOOK).await;
            }
        });
        overwrite(member.port, overwrites, value_bytes).await;
        count.abort();
        most.get()
    });
    let took = began.elapsed();
    let left = segments(dir.path());
    member.kill();
    let member = spec.start();
    println!(
        "{overwrites} overwrites of {value_bytes} bytes in {took:?}: at most {most} segments per core, {left} in the end; \
         after kill -9 ready within {:?}",
        member.ready_after
    );
    assert!(left <= SEGMENTS_MAX, "{left} segments are left");
    block_on(async {
        let client = Client::connect(member.port).await.expect("a member that serves");
        let now = client.revision().await;
        assert_eq!(now, overwrites as i64 + 1, "every overwrite has its revision");
    });
}

/// A figure of /proc/PID/status, in bytes.
fn memory(process: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells");
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().expect("a number of kB") << 10
}

#[test]
fn what_a_large_answer_took_is_given_back() {
    const VALUES: u64 = 50;
    const VALUE_BYTES: usize = 1 << 20;
    let dir = TestDir::new("memory");
    let member = Spec::new(dir.path()).start();
    block_on(async {
        let client = Client::connect(member.port).await.expect("a member that serves");
        for number in 0..VALUES {
            client.put(&format!("key-{number}"), &vec![7; VALUE_BYTES]).await;
        }
        let everything = pb::RangeRequest { key: bytes("key-"), range_end: bytes("key."), ..Default::default() };
        let answer: pb::RangeResponse = client.must(RANGE, &everything).await;
        assert_eq!(answer.count, VALUES as i64);
    });
    let highest = memory(member.id(), "VmHWM:");
    let answer = VALUES * VALUE_BYTES as u64;
    assert!(highest > 2 * answer, "the values and the answer were in memory: {highest} bytes");
    let is_back = poll(PATIENCE, || memory(member.id(), "VmRSS:") < highest - answer / 2);
    assert!(is_back, "{} bytes are resident, of {highest}", memory(member.id(), "VmRSS:"));
}
