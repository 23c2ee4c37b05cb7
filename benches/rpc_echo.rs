//! What the transport alone costs: unary echo of a 256-byte put, client and server on an executor each.
//!
//! `cargo bench --bench rpc_echo -- [calls under way] [seconds]` prints calls per second and per CPU second of the server's thread, over 10 and
//! over 100 connections; with `--quick` for a second each. `-- serve` prints an address and serves there until it is killed. `-- idle 10000` prints what so many idle connections cost in resident memory, silent ones and such that made a call.

#[path = "../tests/transport/client.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod client;
#[path = "../tests/transport/echo.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod echo;

use std::cell::Cell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcring::io::{Tasks, Urgency};
use etcring::proto::etcdserverpb::PutRequest;
use etcring::runtime::{CoreOptions, Executor, run_here, start};
use prost::Message;

/// As in the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    if std::env::args().any(|argument| argument == "idle") {
        return idle();
    }
    if std::env::args().any(|argument| argument == "serve") {
        return serve();
    }
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let (calls, seconds) = (numbers.next().unwrap_or(1000), numbers.next().unwrap_or(if is_quick { 1 } else { 4 }));
    for connections in [10, 100] {
        let (told, address) = flume::bounded(1);
        let (stop, stopped) = flume::bounded::<()>(1);
        let server = start(&CoreOptions::named("server"), |executor| async move {
            let server = echo::Server::start(&executor);
            told.send((server.address, thread_clock())).expect("someone waits");
            let _ = stopped.recv_async().await;
        })
        .expect("an executor");
        let (address, server_clock) = address.recv().expect("the server started");
        let (rate, per_cpu_second) = run_here(&CoreOptions::named("client"), |executor| async move {
            let mut clients = Vec::new();
            for _ in 0..connections {
                clients.push(client::Client::connect(&executor, address).await);
            }
            let done = Rc::new(Cell::new(0u64));
            for i in 0..calls {
                drive(&executor, clients[i as usize % connections].clone(), done.clone());
            }
            executor.sleep(Duration::from_millis(500)).await;
            let (from, cpu_from, started) = (done.get(), cpu_time(server_clock), Instant::now());
            executor.sleep(Duration::from_secs(seconds)).await;
            let (count, cpu, time) = (done.get() - from, cpu_time(server_clock) - cpu_from, started.elapsed());
            (count as f64 / time.as_secs_f64(), count as f64 / cpu.as_secs_f64())
        })
        .expect("an executor");
        println!(
            "{connections} connections, {calls} calls under way: {rate:.0} calls/s, {per_cpu_second:.0} per server CPU second"
        );
        drop(stop);
        server.join().expect("it ran");
    }
}

fn serve() {
    run_here(&CoreOptions::named("server"), |executor| async move {
        println!("{}", echo::Server::start(&executor).address);
        std::future::pending::<()>().await;
    })
    .expect("an executor");
}

/// The server on an executor of its own; the sockets at the other end are plain ones of this process and cost it next to nothing.
fn idle() {
    let count = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(1000);
    let (told, address) = flume::bounded(1);
    let (stop, stopped) = flume::bounded::<()>(1);
    let server = start(&CoreOptions::named("server"), |executor| async move {
        let server = echo::Server::start(&executor);
        told.send(server.address).expect("someone waits");
        let _ = stopped.recv_async().await;
        server.connections.len()
    })
    .expect("an executor");
    let address = address.recv().expect("the server started");
    let call = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x40\x01\x04\0\0\0\x01\
                 \x83\x86\x41\x01x\x04\x14/etcdserverpb.KV/Put\x5f\x10application/grpc\0\0\x06\0\x01\0\0\0\x01\0\0\0\0\x01x";
    let mut call = call.to_vec();
    // The length of the headers, counted.
    call[33 + 2] = 5 + 22 + 18;
    let mut kept = Vec::new();
    for (name, bytes) in [("silent", &b""[..]), ("called", &call)] {
        let before = resident_bytes();
        for _ in 0..count {
            let mut socket = std::net::TcpStream::connect(address).expect("connected");
            socket.write_all(bytes).expect("sent");
            if !bytes.is_empty() {
                read_trailers(&mut socket);
            }
            kept.push(socket);
        }
        std::thread::sleep(Duration::from_millis(500));
        println!("{count} {name} connections: {} bytes each", (resident_bytes() - before) / count);
    }
    drop(stop);
    println!("{} connections in all", server.join().expect("it ran"));
}

/// Reads until a HEADERS frame with END_STREAM.
fn read_trailers(socket: &mut std::net::TcpStream) {
    let mut received = Vec::new();
    loop {
        let mut rest = &received[..];
        while let Some((head, tail)) = rest.split_first_chunk::<9>() {
            let len = usize::from(head[1]) << 8 | usize::from(head[2]);
            if tail.len() < len {
                break;
            }
            assert!(head[3] != 7 && head[3] != 3, "GOAWAY or RST_STREAM: {tail:?}");
            if head[3] == 1 && head[4] & 1 == 1 {
                return;
            }
            rest = &tail[len..];
        }
        let mut buffer = [0; 4096];
        let count = socket.read(&mut buffer).expect("an answer");
        assert!(count > 0, "closed");
        received.extend_from_slice(&buffer[..count]);
    }
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
}

fn drive(executor: &Executor, client: client::Client, done: Rc<Cell<u64>>) {
    let put = PutRequest { key: Bytes::from_static(b"12345678"), value: vec![7; 256].into(), ..PutRequest::default() };
    let message = client::framed(&put.encode_to_vec());
    executor.spawn(Urgency::Prompt, async move {
        loop {
            client.unary("/etcdserverpb.KV/Put", message.clone()).await;
            done.set(done.get() + 1);
        }
    });
}

/// The clock of this thread's CPU time, readable from other threads.
fn thread_clock() -> libc::clockid_t {
    let mut clock = 0;
    // SAFETY: the calling thread lives, and `clock` is a place for the result.
    let failed = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) };
    assert_eq!(failed, 0);
    clock
}

fn cpu_time(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a place for the result; a thread that has ended gives an error.
    let failed = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(failed, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
