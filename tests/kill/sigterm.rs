//! SIGTERM: streams end with a word, everything acknowledged is on disk, and the process ends with 0 within seconds.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use etcring::base::Prng;
use etcring::proto::etcdserverpb as pb;

use super::rounds::{Life, seed, until_done};
use crate::support::grpc::{Client, Failure, block_on};
use crate::support::process::{PATIENCE, Spec, TestDir};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
const GOAWAY: u8 = 7;
const FRAME_HEADER_BYTES: usize = 9;

/// How a member that stops ends the streams that are open.
fn stopped() -> Failure {
    Failure::Status { code: 14, message: "etcdserver: server stopped".to_owned() }
}

/// The types of the frames that a connection has received.
fn frame_types(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let Some((&[a, b, c, kind, ..], rest)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>() {
        types.push(kind);
        bytes = rest.get(u32::from_be_bytes([0, a, b, c]) as usize..).unwrap_or_default();
    }
    types
}

#[test]
fn an_idle_member_says_goodbye() {
    let dir = TestDir::new("goodbye");
    let mut member = Spec::new(dir.path()).start();
    let mut socket = TcpStream::connect(("127.0.0.1", member.port)).expect("a member that serves");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    socket.write_all(&[PREFACE, SETTINGS].concat()).expect("an open socket");
    let mut first = [0; FRAME_HEADER_BYTES];
    socket.read_exact(&mut first).expect("the member's settings");
    let took = member.stop();
    let mut received = first.to_vec();
    socket.read_to_end(&mut received).expect("an end, not a reset");
    let types = frame_types(&received);
    assert!(types.contains(&GOAWAY), "frames {types:?}");
    println!("idle: stopped after {took:?}");
}

#[test]
fn a_watch_ends_with_a_word() {
    let dir = TestDir::new("watch");
    let mut member = Spec::new(dir.path()).start();
    block_on(async {
        let (client, connection) = Client::connect_watched(member.port).await.expect("a member that serves");
        let mut watch = client.watch("a", "b", 0).await.expect("a watch");
        client.put("a", b"value").await;
        let event = watch.next::<pb::WatchResponse>().await.expect("an event").expect("an event");
        assert_eq!(event.events.len(), 1);
        member.signal(libc::SIGTERM);
        let end = tokio::time::timeout(PATIENCE, watch.next::<pb::WatchResponse>()).await.expect("an end in time");
        assert_eq!(end.expect_err("an end"), stopped(), "the end of a watch");
        let end = tokio::time::timeout(PATIENCE, connection).await.expect("an end in time").expect("no panic");
        assert!(end.is_ok(), "a connection ends with {end:?}");
    });
    let status = member.wait_end(PATIENCE);
    assert_eq!(status.code(), Some(0), "{status}:\n{}", member.log());
}

#[test]
fn everything_is_there_after_a_stop_under_load() {
    let mut prng = Prng::new(seed() ^ 1);
    for (shards, signals) in [(1, 1), (4, 3), (16, 1)] {
        let mut life = Life::new(shards);
        for _ in 0..2 {
            let mut member = life.spec(&mut prng).start();
            let took = block_on(async {
                life.verify(&member).await;
                let load = life.load(&member, &mut prng).await;
                until_done(&load, 200 + prng.below(500)).await;
                let asked = Instant::now();
                // Whoever is impatient asks again.
                for _ in 0..signals {
                    member.signal(libc::SIGTERM);
                }
                for end in load.stream_ends().await {
                    assert_eq!(end, stopped(), "the end of a stream under load");
                }
                life.unload(load).await;
                let status = member.wait_end(PATIENCE);
                assert_eq!(status.code(), Some(0), "{status}:\n{}", member.log());
                asked.elapsed()
            });
            println!("{shards} shards: stopped under load after {took:?}");
            assert!(!member.log().contains("took too long"), "{}", member.log());
        }
        let member = life.spec(&mut prng).start();
        block_on(life.verify(&member));
    }
}
