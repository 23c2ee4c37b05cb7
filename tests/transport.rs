//! The transport end to end on the real runtime: h2's client at one end of a socket, a stand-in for the front at the other.

#[path = "transport/client.rs"]
mod client;
#[path = "transport/echo.rs"]
mod echo;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use etcring::base::Prng;
use etcring::base::limits::{CALLS_PER_CONNECTION_MAX, PARTIAL_BYTES_PER_CONNECTION_MAX};
use etcring::front::message_prefix;
use etcring::io::{Network, Tasks, Urgency};
use etcring::runtime::{CoreOptions, Executor, run_here};

use client::{Answer, Client, read_all, write_all};
use echo::Server;

const PUT: &str = "/etcdserverpb.KV/Put";
/// Never answered.
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";
const SNAPSHOT: &str = "/etcdserverpb.Maintenance/Snapshot";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// Large calls that a connection makes at one time.
const FLOOD_CALLS: u64 = 8;

/// Runs `test` against a server of its own, and fails it after a while in place of hanging.
fn with_server<F: Future<Output = ()> + 'static>(test: impl FnOnce(Executor, Server) -> F + 'static) {
    run_here(&CoreOptions::named("transport"), |executor| async move {
        let server = Server::start(&executor);
        let late = executor.sleep(Duration::from_secs(60));
        futures_lite::future::or(test(executor, server), async {
            late.await;
            panic!("the test hangs");
        })
        .await;
    })
    .expect("an executor");
}

async fn until(executor: &Executor, mut condition: impl FnMut() -> bool) {
    while !condition() {
        executor.sleep(Duration::from_millis(1)).await;
    }
}

fn ok(answer: &Answer, messages: &[&[u8]]) {
    assert_eq!((answer.http, answer.grpc_status(), answer.grpc_message().as_str()), (200, 0, ""));
    assert_eq!(answer.messages, messages);
}

fn refused(answer: &Answer, http: u16, code: u16, text: &str) {
    assert_eq!((answer.http, answer.grpc_status(), answer.grpc_message().as_str()), (http, code, text));
    assert!(answer.messages.is_empty());
}

#[test]
fn unary_calls_are_answered() {
    with_server(|executor, server| async move {
        let client = Client::connect(&executor, server.address).await;
        for size in [0, 1, 256, 16_000, 20_000, 300_000, 1 << 20] {
            let message = vec![7; size];
            ok(&client.call(PUT, &[&message]).await, &[&message]);
        }
        let calls = (0..300u32).map(|i| {
            let client = client.clone();
            async move { ok(&client.call(PUT, &[&i.to_le_bytes()]).await, &[&i.to_le_bytes()]) }
        });
        client::all(&executor, calls).await;
        client.unary(PUT, client::framed(b"x")).await;
        let answer = client.call("/etcdserverpb.KV/DeleteRange", &[b"x"]).await;
        refused(&answer, 200, 3, "etcdserver: key is not provided");
        assert_eq!(server.port.calls(), 0);
    });
}

#[test]
fn what_is_wrong_is_refused_as_grpc_go_does() {
    with_server(|executor, server| async move {
        let client = Client::connect(&executor, server.address).await;
        let call = async |path: &str, bytes: &[u8]| client.raw(path, &[], &[bytes]).await;
        refused(&call("/etcdserverpb.KV/Nope", b"").await, 200, 12, "unknown method Nope for service etcdserverpb.KV");
        refused(&call("/x.Y/Z", b"").await, 200, 12, "unknown service x.Y");
        refused(&call("/x", b"").await, 200, 12, "malformed method name: \"/x\"");
        refused(&call(PUT, b"").await, 200, 2, "EOF");
        refused(&call(PUT, b"\0\0\0\0\x05abc").await, 200, 2, "unexpected EOF");
        let large = "grpc: received message larger than max (4294967295 vs. 2097152)";
        refused(&call(PUT, b"\0\xFF\xFF\xFF\xFF").await, 200, 8, large);
        let compressed = "grpc: compressed flag set with identity or empty encoding";
        refused(&call(PUT, b"\x01\0\0\0\0").await, 200, 13, compressed);
        let missing = "cardinality violation: received no request message from non-client-streaming RPC";
        refused(&call(RANGE_STREAM, b"").await, 200, 13, missing);
        let gzip = client.raw(PUT, &[("grpc-encoding", "gzip")], &[b"\0\0\0\0\0"]).await;
        refused(&gzip, 200, 12, "grpc: Decompressor is not installed for grpc-encoding \"gzip\"");
        let json = client.raw(PUT, &[("content-type", "application/json")], &[]).await;
        refused(&json, 415, 3, "invalid gRPC request content-type \"application/json\"");
        let late = client.raw(PUT, &[("grpc-timeout", "0m")], &[]).await;
        refused(&late, 200, 4, "context deadline exceeded");
        // The connection is as good as before.
        ok(&client.call(PUT, &[b"fine"]).await, &[b"fine"]);
    });
}

#[test]
fn a_message_too_large_is_refused_before_it_has_come() {
    with_server(|executor, server| async move {
        let client = Client::connect(&executor, server.address).await;
        let message = vec![1; 3 << 20];
        let answer = client.call(PUT, &[&message]).await;
        refused(&answer, 200, 8, "grpc: received message larger than max (3145728 vs. 2097152)");
        ok(&client.call(PUT, &[b"fine"]).await, &[b"fine"]);
    });
}

#[test]
fn streams_go_both_ways() {
    with_server(|executor, server| async move {
        let client = Client::connect(&executor, server.address).await;
        let answer = client.call(RANGE_STREAM, &[&5u32.to_le_bytes()]).await;
        assert_eq!(answer.messages.iter().map(Bytes::len).collect::<Vec<_>>(), [1000; 5]);
        let mut watch = client.open(WATCH).await;
        watch.send(b"one", false);
        assert_eq!(watch.next().await.as_deref(), Some(&b"one"[..]));
        watch.send(b"two", false);
        watch.send(b"three", false);
        assert_eq!(watch.next().await.as_deref(), Some(&b"two"[..]));
        assert_eq!(watch.next().await.as_deref(), Some(&b"three"[..]));
        watch.send(b"four", true);
        assert_eq!(watch.next().await.as_deref(), Some(&b"four"[..]));
        assert_eq!(watch.next().await, None);
        assert_eq!(watch.end().await.grpc_status(), 0);
        assert_eq!(server.port.calls(), 0);
    });
}

#[test]
fn what_ends_a_stream_comes_behind_what_waits_for_the_window() {
    with_server(|executor, server| async move {
        let client = Client::connect(&executor, server.address).await;
        let answer = client.call(RANGE_STREAM, &[&3000u32.to_le_bytes()]).await;
        assert_eq!(answer.grpc_status(), 0);
        assert_eq!(answer.messages.len(), 3000);
        for (piece, message) in answer.messages.iter().enumerate() {
            assert_eq!(message[..], [piece as u8; 1000], "message {piece}");
        }
    });
}

#[test]
fn a_large_stream_comes_whole_and_is_reported_as_it_leaves() {
    with_server(|executor, server| async move {
        let client = Client::connect(&executor, server.address).await;
        // 64 MiB in pieces; the stand-in keeps at most 1 MiB of it under way.
        let answer = client.call(SNAPSHOT, &[&2048u32.to_le_bytes()]).await;
        assert_eq!(answer.messages.len(), 2048);
        assert_eq!(answer.messages.iter().map(Bytes::len).sum::<usize>(), 64 << 20);
        assert_eq!(answer.grpc_status(), 0);
    });
}

#[test]
fn a_client_that_does_not_read_stops_its_own_stream_only() {
    with_server(|executor, server| async move {
        let client = Client::connect(&executor, server.address).await;
        let mut stalled = client.open(SNAPSHOT).await;
        stalled.send(&2048u32.to_le_bytes(), true);
        executor.sleep(Duration::from_millis(100)).await;
        let sent = server.sent.get();
        assert!(sent <= 1 << 20, "{sent} bytes left for a client that reads nothing");
        executor.sleep(Duration::from_millis(50)).await;
        assert_eq!(server.sent.get(), sent);
        let mut messages = 0;
        while stalled.next().await.is_some() {
            messages += 1;
        }
        assert_eq!(messages, 2048);
    });
}

#[test]
fn a_reset_cancels_the_call() {
    with_server(|executor, server| async move {
        let client = Client::connect(&executor, server.address).await;
        let mut unary = client.open(COMPACT).await;
        unary.send(b"", true);
        let mut watch = client.open(WATCH).await;
        watch.send(b"x", false);
        assert!(watch.next().await.is_some());
        assert_eq!(server.port.calls(), 2);
        unary.reset();
        watch.reset();
        server.cancelled(&executor, 2).await;
        assert_eq!(server.port.calls(), 0);
        // So does the end of the connection.
        let mut unary = client.open(COMPACT).await;
        unary.send(b"", true);
        ok(&client.call(PUT, &[b"before"]).await, &[b"before"]);
        client.cut();
        server.cancelled(&executor, 3).await;
        assert_eq!(server.port.calls(), 0);
        until(&executor, || server.connections.is_empty()).await;
    });
}

#[test]
fn shutting_down_lets_calls_end_and_cuts_off_the_rest() {
    with_server(|executor, server| async move {
        let client = Client::connect(&executor, server.address).await;
        let idle = Client::connect(&executor, server.address).await;
        let silent = executor.connect(server.address).await.expect("connected");
        ok(&idle.call(PUT, &[b"x"]).await, &[b"x"]);
        let mut watch = client.open(WATCH).await;
        watch.send(b"x", false);
        assert!(watch.next().await.is_some());
        let mut stuck = client.open(COMPACT).await;
        stuck.send(b"", true);
        executor.sleep(Duration::from_millis(20)).await;
        let (connections, done) = (server.connections.clone(), Rc::new(Cell::new(false)));
        let told = done.clone();
        executor.spawn(Urgency::Prompt, async move {
            connections.shut_down(Duration::from_millis(300)).await;
            told.set(true);
        });
        // What was under way goes on.
        executor.sleep(Duration::from_millis(50)).await;
        assert_eq!(server.connections.len(), 1, "only the connection with calls is left");
        watch.send(b"y", true);
        assert!(watch.next().await.is_some());
        assert_eq!(watch.next().await, None);
        until(&executor, || done.get()).await;
        assert!(server.connections.is_empty());
        server.cancelled(&executor, 1).await;
        drop((silent, stuck));
    });
}

#[test]
fn garbage_closes_the_connection_and_nothing_else() {
    with_server(|executor, server| async move {
        let headers_on_stream_0 = b"\0\0\x01\x01\x05\0\0\0\0\x82";
        let huge_frame = b"\xFF\xFF\xFF\0\0\0\0\0\x01";
        let bad_hpack = b"\0\0\x02\x01\x05\0\0\0\x01\xFF\xFF";
        let cases: [Vec<u8>; 5] = [
            [PREFACE, b"what is this, then? it is no frame at all"].concat(),
            [PREFACE, SETTINGS, headers_on_stream_0].concat(),
            [PREFACE, SETTINGS, huge_frame].concat(),
            [PREFACE, SETTINGS, bad_hpack].concat(),
            b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(),
        ];
        for (number, case) in cases.iter().enumerate() {
            let mut socket = executor.connect(server.address).await.expect("connected");
            write_all(&mut socket, case).await;
            let answer = read_all(&mut socket).await;
            // Frame type 7 with a length of 8 or more.
            let told = answer.windows(4).any(|w| w[0] == 0 && w[1] == 0 && w[2] >= 8 && w[3] == 7);
            assert!(told || number == 4, "no GOAWAY for case {number}: {answer:?}");
        }
        let mut rng = Prng::new(11);
        for _ in 0..200 {
            let mut socket = executor.connect(server.address).await.expect("connected");
            let mut bytes = [PREFACE, SETTINGS].concat();
            bytes.extend((0..rng.below(300)).map(|_| rng.u64() as u8));
            write_all(&mut socket, &bytes).await;
        }
        let client = Client::connect(&executor, server.address).await;
        ok(&client.call(PUT, &[b"fine"]).await, &[b"fine"]);
        client.cut();
        until(&executor, || server.connections.is_empty()).await;
        assert_eq!(server.port.calls(), 0);
    });
}

#[test]
fn many_resets_are_survived() {
    with_server(|executor, server| async move {
        let client = Client::connect(&executor, server.address).await;
        for _ in 0..20 {
            let mut calls = Vec::new();
            for _ in 0..100 {
                let mut call = client.open(COMPACT).await;
                call.send(b"", true);
                calls.push(call);
            }
            for mut call in calls {
                call.reset();
            }
        }
        ok(&client.call(PUT, &[b"fine"]).await, &[b"fine"]);
        until(&executor, || server.port.calls() == 0).await;
    });
}

/// What comes back on a connection of its own for these bytes, until the server closes it.
async fn http1(executor: &Executor, server: &Server, bytes: &[u8]) -> String {
    let mut socket = executor.connect(server.address).await.expect("connected");
    write_all(&mut socket, bytes).await;
    String::from_utf8(read_all(&mut socket).await).expect("UTF-8")
}

#[test]
fn http1_is_served_on_the_same_port() {
    with_server(|executor, server| async move {
        let answer = http1(&executor, &server, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 29\r\nConnection: close\r\n\r\n\
                        {\"health\":\"true\",\"reason\":\"\"}";
        assert_eq!(answer, expected);
        // Several requests in one go, the last of HTTP/1.0.
        let many = b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nhost: x\r\n\r\nPOST /health HTTP/1.1\r\nHost: x\r\n\r\n\
                     GET /%72eadyz?verbose HTTP/1.0\r\n\r\n";
        let answer = http1(&executor, &server, many).await;
        let parts: Vec<&str> = answer.split("HTTP/1.1 ").collect();
        assert!(parts[1].starts_with("200 OK") && parts[1].ends_with("Content-Length: 5\r\n\r\n"), "{answer}");
        assert!(parts[2].ends_with("\r\n\r\nok\n"), "{answer}");
        assert!(parts[3].starts_with("405 Method Not Allowed") && parts[3].contains("Allow: GET\r\n"), "{answer}");
        assert!(parts[4].contains("Connection: close") && parts[4].ends_with("[+]non_learner ok\nok\n"), "{answer}");
        let posted = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nT: 1\r\n\r\n\
                       POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\nhi";
        let answer = http1(&executor, &server, posted).await;
        assert!(answer.contains("\r\n\r\nabcdefgHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nhi"), "{answer}");
    });
}

#[test]
fn bad_http1_is_refused() {
    with_server(|executor, server| async move {
        let status = async |bytes: &[u8]| http1(&executor, &server, bytes).await.get(9..12).unwrap_or_default().to_owned();
        assert_eq!(status(b"what is this\r\n\r\n").await, "400");
        assert_eq!(status(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03").await, "400");
        assert_eq!(status(b"GET / HTTP/1.1\r\n\r\n").await, "400");
        assert_eq!(status(b"GET /nope HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n").await, "404");
        assert_eq!(status(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n").await, "400");
        assert_eq!(status(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n").await, "413");
        assert_eq!(status(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n").await, "413");
        assert_eq!(
            status(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n").await,
            "501"
        );
        let long = [b"GET /".as_slice(), &vec![b'a'; 70 << 10]].concat();
        assert_eq!(status(&long).await, "431");
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
        assert_eq!(status(many.as_bytes()).await, "431");
        // Cut off in the middle: closed without an answer.
        let mut socket = executor.connect(server.address).await.expect("connected");
        write_all(&mut socket, b"GET /health HT").await;
        drop(socket);
        until(&executor, || server.connections.is_empty()).await;
    });
}

#[test]
fn damaged_sessions_harm_nobody_else() {
    with_server(|executor, server| async move {
        let mut header_block = b"\x83\x86\x41\x01x\x04\x14/etcdserverpb.KV/Put\x5f\x10application/grpc".to_vec();
        let mut session = [PREFACE, SETTINGS].concat();
        for stream in [1u8, 3, 5, 7] {
            session.extend([0, 0, header_block.len() as u8, 1, 4, 0, 0, 0, stream]);
            session.extend(&header_block);
            session.extend([0, 0, 9, 0, stream & 1, 0, 0, 0, stream, 0, 0, 0, 0, 4, b'a', b'b', b'c', b'd']);
            // The content type is in the table after the first, with the authority of the next before it: entry 63.
            header_block = match stream {
                1 => b"\x83\x86\x41\x01x\x04\x14/etcdserverpb.KV/Put\xBF".to_vec(),
                _ => b"\x83\x86\x41\x01y\x04\x19/etcdserverpb.Watch/Watch\x5f\x10application/grpc".to_vec(),
            };
        }
        let well = Client::connect(&executor, server.address).await;
        let mut rng = Prng::new(5);
        for round in 0..600u32 {
            let mut bytes = session.clone();
            for _ in 0..1 + rng.below(4) {
                // The preface is left alone.
                let at = 24 + rng.below(bytes.len() as u64 - 24) as usize;
                match rng.below(4) {
                    0 => bytes[at] = rng.u64() as u8,
                    1 => bytes[at] ^= 1 << rng.below(8),
                    2 => bytes.truncate(at),
                    _ => drop(bytes.splice(at..at, (0..rng.below(20)).map(|_| rng.u64() as u8))),
                }
                if bytes.len() <= 25 {
                    break;
                }
            }
            let mut socket = executor.connect(server.address).await.expect("connected");
            write_all(&mut socket, &bytes).await;
            if round % 50 == 0 {
                ok(&well.call(PUT, &[b"fine"]).await, &[b"fine"]);
            }
        }
        until(&executor, || server.connections.len() == 1).await;
        assert_eq!(server.port.calls(), 0);
        ok(&well.call(PUT, &[b"fine"]).await, &[b"fine"]);
    });
}

#[test]
fn headers_without_end_are_refused() {
    with_server(|executor, server| async move {
        let client = Client::connect(&executor, server.address).await;
        let long = "x".repeat(80 << 10);
        assert_eq!(client.status_only(PUT, &[("token", &long)]).await, 431);
        ok(&client.call(PUT, &[b"fine"]).await, &[b"fine"]);
    });
}

#[test]
fn a_client_that_reads_no_answers_gets_no_more() {
    with_server(|executor, server| async move {
        let client = Client::connect(&executor, server.address).await;
        let message = vec![7; 1 << 20];
        let mut calls = Vec::new();
        for _ in 0..90 {
            let mut call = client.open(PUT).await;
            call.send(&message, true);
            calls.push(call);
            executor.sleep(Duration::from_millis(2)).await;
        }
        let mut refusals = 0;
        for mut call in calls {
            match call.next().await {
                Some(answer) => assert_eq!(answer.len(), message.len()),
                None => {
                    assert_eq!(call.end().await.grpc_status(), 8);
                    refusals += 1;
                }
            }
        }
        assert!((5..80).contains(&refusals), "{refusals} refused");
        ok(&client.call(PUT, &[b"fine"]).await, &[b"fine"]);
    });
}

#[test]
fn one_busy_connection_leaves_room_for_the_others() {
    with_server(|executor, server| async move {
        let address = server.address;
        let answered = Arc::new(AtomicU64::new(0));
        let counted = answered.clone();
        let (told, flood_ends) = flume::bounded::<()>(1);
        let (halt, halted) = flume::bounded::<()>(1);
        let flood = std::thread::spawn(move || {
            run_here(&CoreOptions::named("flood"), |executor| async move {
                let client = Client::connect(&executor, address).await;
                let message = client::framed(&vec![1; 500_000]);
                while !halted.is_disconnected() {
                    let calls = (0..FLOOD_CALLS).map(|_| {
                        let (client, message) = (client.clone(), message.clone());
                        async move { client.unary(PUT, message).await }
                    });
                    client::all(&executor, calls).await;
                    counted.fetch_add(FLOOD_CALLS, Ordering::Relaxed);
                }
                told.send(()).expect("someone waits");
            })
        });
        let client = Client::connect(&executor, address).await;
        let mut beside = Vec::new();
        for _ in 0..100 {
            let before = answered.load(Ordering::Relaxed);
            ok(&client.call(PUT, &[b"small"]).await, &[b"small"]);
            beside.push(answered.load(Ordering::Relaxed) - before);
            executor.sleep(Duration::from_millis(2)).await;
        }
        drop(halt);
        // The server is on this thread: it goes on until the flood has ended.
        flood_ends.recv_async().await.expect("the flood ended");
        flood.join().expect("no panic").expect("an executor");
        beside.sort();
        let all = answered.load(Ordering::Relaxed);
        println!(
            "{all} large calls beside; {} of them and {} while half and all but one of the small ones waited",
            beside[50], beside[98]
        );
        assert!(
            all > 0 && beside[50] <= 2 * FLOOD_CALLS,
            "half of the small calls waited for {} large ones or more",
            beside[50]
        );
    });
}

#[test]
fn a_connection_has_only_so_many_calls() {
    with_server(|executor, server| async move {
        let client = Client::connect(&executor, server.address).await;
        let mut calls = Vec::new();
        for number in 0..CALLS_PER_CONNECTION_MAX {
            let mut call = client.open(COMPACT).await;
            call.send(b"", true);
            calls.push(call);
            if number % 1000 == 0 {
                executor.sleep(Duration::from_millis(1)).await;
            }
        }
        until(&executor, || server.port.calls() == CALLS_PER_CONNECTION_MAX).await;
        assert_eq!(client.reset_reason(COMPACT).await, h2::Reason::REFUSED_STREAM);
        assert_eq!(server.port.calls(), CALLS_PER_CONNECTION_MAX);
        calls.pop().expect("many").reset();
        server.cancelled(&executor, 1).await;
        ok(&client.call(PUT, &[b"fine"]).await, &[b"fine"]);
    });
}

#[test]
fn a_connection_holds_only_so_much_of_messages_to_come() {
    with_server(|executor, server| async move {
        let client = Client::connect(&executor, server.address).await;
        let announced = message_prefix(2 << 20);
        let part = vec![7; (2 << 20) - 1];
        let refusals = Rc::new(Cell::new(0));
        for _ in 0..=PARTIAL_BYTES_PER_CONNECTION_MAX / part.len() {
            let call = client.open(PUT).await.bytes(&announced).bytes(&part);
            let refusals = refusals.clone();
            // Which of them is one too many depends on how they are mixed on the way.
            executor.spawn(Urgency::Prompt, async move {
                if let Some(code) = call.refusal().await {
                    assert_eq!(code, 8);
                    refusals.set(refusals.get() + 1);
                }
            });
        }
        until(&executor, || refusals.get() > 0).await;
        ok(&client.call(PUT, &[b"fine"]).await, &[b"fine"]);
        client.cut();
        until(&executor, || server.connections.is_empty()).await;
    });
}
