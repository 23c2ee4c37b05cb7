//! A gRPC client on h2, as small as will do.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use bytes::{Buf, Bytes, BytesMut};
use etcring::front::message_prefix;
use etcring::io::{Network, Tasks, Urgency};
use etcring::runtime::{Executor, Socket};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection; clones share it.
#[derive(Clone)]
pub struct Client {
    send: SendRequest<Bytes>,
    cut: Rc<RefCell<Option<flume::Sender<()>>>>,
}

/// All of an answer.
#[derive(Debug, Default)]
pub struct Answer {
    pub http: u16,
    pub headers: HeaderMap,
    pub trailers: HeaderMap,
    pub messages: Vec<Bytes>,
}

impl Answer {
    fn field(&self, name: &str) -> String {
        let value = self.trailers.get(name).or_else(|| self.headers.get(name));
        value.map(|value| value.to_str().expect("ASCII").to_owned()).unwrap_or_default()
    }

    pub fn grpc_status(&self) -> u16 {
        self.field("grpc-status").parse().expect("a status")
    }

    pub fn grpc_message(&self) -> String {
        self.field("grpc-message")
    }
}

pub fn framed(message: &[u8]) -> Bytes {
    Bytes::from([&message_prefix(message.len())[..], message].concat())
}

impl Client {
    pub async fn connect(executor: &Executor, address: SocketAddr) -> Client {
        let socket = executor.connect(address).await.expect("connected");
        let mut builder = h2::client::Builder::new();
        // With the small default window h2 takes a hundred small answers at once for an attack.
        builder.initial_connection_window_size(16 << 20).initial_max_send_streams(100_000).max_concurrent_reset_streams(10_000);
        let (send, connection) = builder.handshake::<_, Bytes>(socket).await.expect("a handshake");
        let (cut, is_cut) = flume::bounded::<()>(1);
        executor.spawn(Urgency::Prompt, async move {
            let is_cut = async {
                let _ = is_cut.recv_async().await;
            };
            let connection = async {
                let _ = connection.await;
            };
            futures_lite::future::or(is_cut, connection).await;
        });
        Client { send, cut: Rc::new(RefCell::new(Some(cut))) }
    }

    /// Closes the connection without a word.
    pub fn cut(&self) {
        self.cut.borrow_mut().take();
    }

    pub async fn open(&self, path: &str) -> Call {
        self.open_with(path, &[]).await
    }

    async fn open_with(&self, path: &str, headers: &[(&str, &str)]) -> Call {
        let mut request = Request::builder().method("POST").uri(format!("http://localhost{path}"));
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/grpc");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut ready = self.send.clone().ready().await.expect("an open connection");
        let (response, send) = ready.send_request(request.body(()).expect("a request"), false).expect("a stream");
        Call { response: Some(response), send, body: None, partial: BytesMut::new(), answer: Answer::default() }
    }

    /// A call with these messages, to its end.
    pub async fn call(&self, path: &str, messages: &[&[u8]]) -> Answer {
        let framed: Vec<Bytes> = messages.iter().map(|m| framed(m)).collect();
        let bytes: Vec<&[u8]> = framed.iter().map(|m| &m[..]).collect();
        self.raw(path, &[], &bytes).await
    }

    /// A unary call with as little work as can be (the bench uses it): an answer that is not a success fails.
    pub async fn unary(&self, path: &'static str, framed: Bytes) {
        let request =
            Request::builder().method("POST").uri(format!("http://localhost{path}")).header("content-type", "application/grpc");
        let mut ready = self.send.clone().ready().await.expect("an open connection");
        let (response, mut send) = ready.send_request(request.body(()).expect("a request"), false).expect("a stream");
        send.send_data(framed, true).expect("an open stream");
        let mut body = response.await.expect("a response").into_body();
        while let Some(bytes) = body.data().await {
            let bytes = bytes.expect("an open stream");
            body.flow_control().release_capacity(bytes.len()).expect("received");
        }
        let trailers = body.trailers().await.expect("trailers").expect("trailers");
        assert_eq!(trailers["grpc-status"], "0");
    }

    /// The HTTP status of an answer that may be no gRPC.
    pub async fn status_only(&self, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut call = self.open_with(path, headers).await;
        let response = call.response.take().expect("just opened").await;
        response.expect("a response").status().as_u16()
    }

    /// How the server resets a call.
    pub async fn reset_reason(&self, path: &str) -> h2::Reason {
        let mut call = self.open(path).await;
        call.send(b"", true);
        let response = call.response.take().expect("just opened").await;
        response.expect_err("no response").reason().expect("a reset")
    }

    /// A call with these headers and these bytes, to its end.
    pub async fn raw(&self, path: &str, headers: &[(&str, &str)], bytes: &[&[u8]]) -> Answer {
        let mut call = self.open_with(path, headers).await;
        // What cannot be sent because the server has answered and reset the stream does not matter.
        for bytes in bytes {
            let _ = call.send.send_data(Bytes::copy_from_slice(bytes), false);
        }
        let _ = call.send.send_data(Bytes::new(), true);
        while let Some(message) = call.next().await {
            call.answer.messages.push(message);
        }
        call.end().await
    }
}

/// A call under way.
pub struct Call {
    response: Option<ResponseFuture>,
    send: SendStream<Bytes>,
    body: Option<RecvStream>,
    partial: BytesMut,
    answer: Answer,
}

impl Call {
    pub fn send(&mut self, message: &[u8], last: bool) {
        self.send.send_data(framed(message), last).expect("an open stream");
    }

    /// Sends bytes as they are.
    pub fn bytes(mut self, bytes: &[u8]) -> Call {
        self.send.send_data(Bytes::copy_from_slice(bytes), false).expect("an open stream");
        self
    }

    /// The code of an answer without messages; None when the connection ends before.
    pub async fn refusal(mut self) -> Option<u16> {
        assert_eq!(self.next().await, None);
        self.body.is_some().then_some(())?;
        Some(self.end().await.grpc_status())
    }

    pub fn reset(&mut self) {
        self.send.send_reset(h2::Reason::CANCEL);
    }

    /// The next message, or None at the end.
    pub async fn next(&mut self) -> Option<Bytes> {
        if let Some(response) = self.response.take() {
            let (head, body) = response.await.ok()?.into_parts();
            (self.answer.http, self.answer.headers) = (head.status.as_u16(), head.headers);
            self.body = Some(body);
        }
        let body = self.body.as_mut()?;
        loop {
            if let Some((&[_, a, b, c, d], rest)) = self.partial.split_first_chunk::<5>() {
                let len = u32::from_be_bytes([a, b, c, d]) as usize;
                if rest.len() >= len {
                    self.partial.advance(5);
                    return Some(self.partial.split_to(len).freeze());
                }
            }
            let bytes = body.data().await?.ok()?;
            body.flow_control().release_capacity(bytes.len()).expect("received");
            self.partial.extend_from_slice(&bytes);
        }
    }

    /// The rest of the answer; messages not taken are not in it.
    pub async fn end(mut self) -> Answer {
        if let Some(body) = &mut self.body {
            self.answer.trailers = body.trailers().await.expect("trailers").unwrap_or_default();
        }
        self.answer
    }
}

/// Runs all at once, to the last one's end.
pub async fn all<F: Future<Output = ()> + 'static>(executor: &Executor, futures: impl Iterator<Item = F>) {
    let (done, ends) = flume::unbounded();
    for future in futures {
        let done = done.clone();
        executor.spawn(Urgency::Prompt, async move {
            future.await;
            done.send(()).expect("someone waits");
        });
    }
    drop(done);
    while ends.recv_async().await.is_ok() {}
}

pub async fn write_all(socket: &mut Socket, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let Ok(count) = poll_fn(|cx| Pin::new(&mut *socket).poll_write(cx, bytes)).await else { return };
        bytes = &bytes[count..];
    }
}

/// Everything until the other side closes.
pub async fn read_all(socket: &mut Socket) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let mut target = ReadBuf::new(&mut buffer);
        let read = poll_fn(|cx| Pin::new(&mut *socket).poll_read(cx, &mut target)).await;
        if read.is_err() || target.filled().is_empty() {
            return all;
        }
        all.extend_from_slice(target.filled());
    }
}
