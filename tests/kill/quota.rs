//! The quota: NOSPACE, and the ways out of it; and a defragmentation, during which the member serves.

use std::time::Duration;

use bytes::Bytes;
use etcring::proto::etcdserverpb as pb;
use etcring::proto::etcdserverpb::alarm_request::AlarmAction;

use crate::support::grpc::{ALARM, COMPACT, Client, DEFRAGMENT, Failure, PUT, STATUS, block_on, bytes};
use crate::support::process::{PATIENCE, Spec, TestDir};

const QUOTA_BYTES: &str = "16777216";
const VALUE_BYTES: usize = 64 << 10;
const WRITES_MAX: usize = 1000;
/// How often a figure that follows is looked at.
const LOOK: Duration = Duration::from_millis(20);

async fn put(client: &Client, number: usize) -> Result<i64, Failure> {
    let value = Bytes::from(vec![number as u8; VALUE_BYTES]);
    let request = pb::PutRequest { key: bytes(&format!("key-{:02}", number % 8)), value, ..Default::default() };
    Ok(client.unary::<pb::PutResponse>(PUT, &request).await?.header.expect("a header").revision)
}

async fn status(client: &Client) -> pb::StatusResponse {
    client.must(STATUS, &pb::StatusRequest {}).await
}

/// Waits until the member's figures are so.
async fn until(client: &Client, what: &str, holds: impl Fn(&pb::StatusResponse) -> bool) -> pb::StatusResponse {
    let look = async {
        loop {
            let status = status(client).await;
            if holds(&status) {
                return status;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(PATIENCE, look).await {
        Ok(status) => status,
        Err(_) => panic!("{what}: not within {PATIENCE:?}, but {:?}", status(client).await),
    }
}

async fn alarms(client: &Client, action: AlarmAction, alarm: pb::AlarmType) -> Vec<i32> {
    let request = pb::AlarmRequest { action: action as i32, member_id: 0, alarm: alarm as i32 };
    client.must::<pb::AlarmResponse>(ALARM, &request).await.alarms.iter().map(|a| a.alarm).collect()
}

fn no_space(failure: &Failure) {
    let Failure::Status { code, message } = failure else { panic!("{failure}") };
    assert_eq!((*code, message.as_str()), (8, "etcdserver: mvcc: database space exceeded"));
}

/// Writes until the quota is reached: the last revision.
async fn fill(client: &Client) -> i64 {
    let mut last = 0;
    for number in 0..WRITES_MAX {
        match put(client, number).await {
            Ok(revision) => last = revision,
            Err(failure) => {
                no_space(&failure);
                return last;
            }
        }
    }
    panic!("{WRITES_MAX} writes under the quota: {:?}", status(client).await);
}

async fn disarm(client: &Client) {
    let member = status(client).await.header.expect("a header").member_id;
    let nospace = pb::AlarmType::Nospace as i32;
    let request = pb::AlarmRequest { action: AlarmAction::Deactivate as i32, member_id: member, alarm: nospace };
    client.must::<pb::AlarmResponse>(ALARM, &request).await;
    assert!(alarms(client, AlarmAction::Get, pb::AlarmType::None).await.is_empty());
}

async fn compact(client: &Client, revision: i64) {
    client.must::<pb::CompactionResponse>(COMPACT, &pb::CompactionRequest { revision, physical: true }).await;
}

#[test]
fn nospace_is_left_by_compaction_and_defragmentation() {
    for shards in ["1", "4"] {
        let dir = TestDir::new("quota");
        let spec = Spec::new(dir.path()).with(&["--shards", shards, "--quota-backend-bytes", QUOTA_BYTES]);
        let mut member = spec.start();
        block_on(async {
            let client = Client::connect(member.port).await.expect("a member that serves");
            for with_defragment in [false, true] {
                let last = fill(&client).await;
                assert_eq!(alarms(&client, AlarmAction::Get, pb::AlarmType::None).await, [pb::AlarmType::Nospace as i32]);
                no_space(&put(&client, 0).await.expect_err("the alarm is raised"));
                let full = status(&client).await;
                assert!(full.errors.iter().any(|line| line.contains("NOSPACE")), "{full:?}");
                assert_eq!(client.get("key-00").await.map(|v| v.len()), Some(VALUE_BYTES), "reads go on");
                compact(&client, last).await;
                let compacted = until(&client, "bytes in use fall", |s| s.db_size_in_use < full.db_size_in_use / 2).await;
                assert!(compacted.db_size >= compacted.db_size_in_use, "{compacted:?}");
                if with_defragment {
                    client.must::<pb::DefragmentResponse>(DEFRAGMENT, &pb::DefragmentRequest {}).await;
                    let small = until(&client, "the files shrink", |s| s.db_size < compacted.db_size / 2).await;
                    println!("{shards} shards: {} bytes, defragmented {}", compacted.db_size, small.db_size);
                }
                disarm(&client).await;
                put(&client, 0).await.expect("there is room again");
            }
        });
        let before = block_on(sizes(member.port));
        member.kill();
        let after = block_on(sizes(spec.start().port));
        assert_eq!(before, after, "the sizes of the values after a restart");
    }
}

async fn sizes(port: u16) -> Vec<Option<usize>> {
    let client = Client::connect(port).await.expect("a member that serves");
    let mut sizes = Vec::new();
    for number in 0..8 {
        sizes.push(client.get(&format!("key-{number:02}")).await.map(|value| value.len()));
    }
    sizes
}

#[test]
fn puts_go_on_during_a_defragmentation() {
    let dir = TestDir::new("defragment");
    let mut member = Spec::new(dir.path()).with(&["--shards", "2"]).start();
    block_on(async {
        let client = Client::connect(member.port).await.expect("a member that serves");
        let mut last = 0;
        for number in 0..1500 {
            last = put(&client, number).await.expect("under the quota");
        }
        compact(&client, last).await;
        let full = status(&client).await;
        let began = std::time::Instant::now();
        client.must::<pb::DefragmentResponse>(DEFRAGMENT, &pb::DefragmentRequest {}).await;
        let answered = began.elapsed();
        let (mut slowest, mut puts) = (Duration::ZERO, 0);
        while status(&client).await.db_size >= full.db_size / 2 {
            let asked = std::time::Instant::now();
            put(&client, puts).await.expect("a put meanwhile");
            slowest = slowest.max(asked.elapsed());
            puts += 1;
            assert!(began.elapsed() < PATIENCE, "{:?}", status(&client).await);
        }
        println!(
            "{} bytes became {} in {:?}; answered after {answered:?}; {puts} puts meanwhile, the slowest {slowest:?}",
            full.db_size,
            status(&client).await.db_size,
            began.elapsed()
        );
    });
    member.stop();
}
