use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use futures_lite::future;

use super::*;
use crate::io::{Tasks, Urgency};
use crate::runtime::{CoreOptions, Executor, run_here};

/// Far more sockets than one look hears of.
const SOCKETS: usize = 3 * SOCKETS_PER_LOOK_MAX;

fn with_executor<F: Future<Output = ()> + 'static>(gather: Duration, main: impl FnOnce(Executor) -> F) {
    run_here(&CoreOptions { gather, ..CoreOptions::named("readiness-test") }, main).expect("an executor");
}

/// A registered end, and the other one, which blocks.
fn pair(executor: &Executor) -> (Registered<TcpStream>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let far = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    let (near, _) = listener.accept().expect("connected");
    near.set_nonblocking(true).expect("a socket");
    (Registered::new(executor.readiness(), near).expect("registered"), far)
}

async fn read(socket: &Registered<TcpStream>, buffer: &mut [u8]) -> io::Result<usize> {
    let room = buffer.len();
    let count = poll_fn(|cx| socket.poll(Direction::Read, cx, |mut socket| socket.read(buffer))).await?;
    if count < room {
        socket.mark_drained();
    }
    Ok(count)
}

/// Lets everything run that has something to do, and looks at the sockets once more.
async fn settle(executor: &Executor) {
    for _ in 0..3 {
        executor.yield_now().await;
    }
}

#[test]
fn what_is_no_socket_is_polled_for_too() {
    with_executor(Duration::ZERO, |executor| async move {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        for _ in 0..3 {
            let mut polled = std::pin::pin!(readable(reader.as_fd()));
            for _ in 0..3 {
                assert!(future::poll_once(&mut polled).await.is_none(), "there is nothing in it");
                settle(&executor).await;
            }
            writer.write_all(&[7]).expect("room");
            polled.await.expect("it is readable");
            (&reader).read_exact(&mut [0]).expect("what was written");
        }
    });
}

#[test]
fn an_end_is_seen_whether_it_came_with_the_last_bytes_or_behind_them() {
    with_executor(Duration::ZERO, |executor| async move {
        for with_the_bytes in [true, false] {
            let (socket, mut far) = pair(&executor);
            let mut buffer = [0; 100];
            // Not ready any more, so that what comes has to be heard of.
            assert!(future::poll_once(read(&socket, &mut buffer)).await.is_none());
            far.write_all(b"last").expect("room");
            let mut far = Some(far);
            if with_the_bytes {
                far = None;
            }
            assert_eq!(read(&socket, &mut buffer).await.expect("received"), 4);
            drop(far);
            for _ in 0..2 {
                assert_eq!(read(&socket, &mut buffer).await.expect("the end"), 0);
            }
        }
    });
}

#[test]
fn who_was_refused_goes_on_when_the_peer_has_read() {
    with_executor(Duration::ZERO, |executor| async move {
        let (socket, mut far) = pair(&executor);
        let write =
            async |bytes: &[u8]| poll_fn(|cx| socket.poll(Direction::Write, cx, |mut socket| socket.write(bytes))).await;
        let mut sent = 0;
        while let Some(count) = future::poll_once(write(&[1; 1 << 16])).await {
            sent += count.expect("sent");
        }
        let reader = std::thread::spawn(move || {
            let mut received = Vec::new();
            far.read_to_end(&mut received).expect("all of it");
            received.len()
        });
        sent += write(&[1; 1 << 16]).await.expect("sent");
        drop(socket);
        assert_eq!(reader.join().expect("it read"), sent);
    });
}

/// Reads from many sockets; how often something came, and their other ends.
fn listen_to_many(executor: &Executor) -> (Rc<Cell<usize>>, Vec<TcpStream>) {
    let heard = Rc::new(Cell::new(0));
    let mut others = Vec::new();
    for _ in 0..SOCKETS {
        let (socket, other) = pair(executor);
        others.push(other);
        let heard = heard.clone();
        executor.spawn(Urgency::Prompt, async move {
            while read(&socket, &mut [0; 16]).await.expect("received") > 0 {
                heard.set(heard.get() + 1);
            }
        });
    }
    (heard, others)
}

#[test]
fn everybody_who_has_spoken_is_heard_before_a_rest() {
    with_executor(Duration::ZERO, |executor| async move {
        let (heard, mut others) = listen_to_many(&executor);
        for (round, rest) in [(1, Duration::ZERO), (2, Duration::from_secs(3600))] {
            executor.gather_arrivals(rest);
            for other in &mut others {
                other.write_all(&[1]).expect("room");
            }
            for _ in 0..10_000 {
                if heard.get() == round * SOCKETS {
                    break;
                }
                executor.yield_now().await;
            }
            assert_eq!(heard.get(), round * SOCKETS, "resting for {rest:?}");
        }
    });
}

#[test]
fn each_of_many_sockets_is_heard_again_and_again() {
    let short = Duration::from_micros(200);
    for (gather_many, gather) in [(Duration::ZERO, Duration::ZERO), (short, Duration::ZERO), (Duration::ZERO, short)] {
        with_executor(gather_many, |executor| async move {
            executor.gather_arrivals(gather);
            let (heard, mut others) = listen_to_many(&executor);
            for round in 1..=20 {
                for other in &mut others {
                    other.write_all(&[1]).expect("room");
                }
                while heard.get() < round * SOCKETS {
                    executor.yield_now().await;
                }
            }
            drop(others);
            while !executor.readiness().0.places.borrow().is_empty() {
                executor.yield_now().await;
            }
        });
    }
}

#[test]
fn who_is_sent_something_counts_once_between_looks() {
    with_executor(Duration::ZERO, |executor| async move {
        let pairs = [pair(&executor), pair(&executor)];
        let sent = || executor.readiness().0.pace.borrow().sent();
        let send = |socket: &Registered<TcpStream>| {
            future::block_on(poll_fn(|cx| socket.poll(Direction::Write, cx, |mut socket| socket.write(&[1])))).expect("sent")
        };
        assert!(future::poll_once(read(&pairs[0].0, &mut [0])).await.is_none());
        assert_eq!(sent(), 0, "receiving is no sending");
        for _ in 0..2 {
            send(&pairs[0].0);
            assert_eq!(sent(), 1);
        }
        send(&pairs[1].0);
        assert_eq!(sent(), 2);
    });
}

#[test]
fn a_place_is_free_for_the_next_socket() {
    with_executor(Duration::ZERO, |executor| async move {
        for round in 0..100u8 {
            let (socket, mut far) = pair(&executor);
            far.write_all(&[round]).expect("room");
            if round % 3 == 0 {
                // Gone with something unread and a look to come.
                drop(socket);
                continue;
            }
            let mut buffer = [0; 2];
            assert_eq!(read(&socket, &mut buffer).await.expect("received"), 1);
            assert_eq!((buffer[0], socket.place), (round, 0));
        }
    });
}

#[test]
fn what_arrives_waits_for_more_while_that_is_asked_for() {
    for (wait, waits) in [(Duration::ZERO, false), (Duration::from_secs(3600), true)] {
        with_executor(Duration::ZERO, |executor| async move {
            let (socket, mut far) = pair(&executor);
            assert!(future::poll_once(read(&socket, &mut [0; 16])).await.is_none(), "a new socket is tried first");
            settle(&executor).await;
            executor.gather_arrivals(wait);
            far.write_all(&[1]).expect("room");
            assert_eq!(read(&socket, &mut [0; 16]).await.expect("received"), 1, "nothing came before it");
            far.write_all(&[1]).expect("room");
            let mut buffer = [0; 16];
            let mut second = std::pin::pin!(read(&socket, &mut buffer));
            let mut heard = false;
            for _ in 0..10 {
                settle(&executor).await;
                heard = heard || future::poll_once(&mut second).await.is_some();
            }
            assert_eq!(heard, !waits);
        });
    }
}
