use futures_lite::future;
use tokio::io::AsyncWrite;

use super::*;
use crate::io::{Tasks, Urgency};
use crate::runtime::{CoreOptions, run_here};

async fn read_some(socket: &mut Socket, buffer: &mut [u8]) -> io::Result<usize> {
    let mut buffer = ReadBuf::new(buffer);
    std::future::poll_fn(|cx| Pin::new(&mut *socket).poll_read(cx, &mut buffer)).await?;
    Ok(buffer.filled().len())
}

async fn write(socket: &mut Socket, bytes: &[u8]) -> io::Result<usize> {
    std::future::poll_fn(|cx| AsyncWrite::poll_write(Pin::new(&mut *socket), cx, bytes)).await
}

#[test]
fn two_ends_talk() {
    run_here(&CoreOptions::named("network-test"), |executor| async move {
        let listener = executor.listen("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let address = listener.local_address().expect("bound");
        let taken = executor.listen(address).err().expect("the port is taken");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        let taken = listen_on(&executor, "127.0.0.1", address.port()).err().expect("the port is taken");
        assert_eq!(taken.to_string(), format!("listen tcp {address}: bind: address already in use"));
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
        let refused = executor.connect(free).await.err().expect("nobody listens there any more");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(!listen_on(&executor, "localhost", 0).expect("free ports").is_empty());
        let client = executor.clone();
        executor.spawn(Urgency::Prompt, async move {
            let mut socket = client.connect(address).await.expect("connected");
            assert_eq!(write(&mut socket, b"ping").await.expect("sent"), 4);
            let mut buffer = [0; 16];
            assert_eq!(read_some(&mut socket, &mut buffer).await.expect("received"), 4);
            assert_eq!(&buffer[..4], b"pong");
        });
        let accepted = listener.accept().await.expect("a connection");
        let mut socket = executor.adopt(accepted).expect("adopted");
        let mut buffer = [0; 16];
        assert_eq!(read_some(&mut socket, &mut buffer).await.expect("received"), 4);
        write(&mut socket, b"pong").await.expect("sent");
        assert_eq!(read_some(&mut socket, &mut buffer).await.expect("the end"), 0);
        future::yield_now().await;
    })
    .expect("an executor");
}

#[test]
fn localhost_and_addresses_resolve() {
    let local = resolve("localhost", 2379).expect("localhost is known");
    assert!(local.contains(&"127.0.0.1:2379".parse().expect("an address")));
    assert_eq!(resolve("::1", 1).expect("an address"), ["[::1]:1".parse().expect("an address")]);
}
