//! A gRPC client on h2, as small as will do: unary calls and streams in both directions.

use std::fmt;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use etcring::front::message_prefix;
use etcring::proto::etcdserverpb as pb;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// How long an answer may take where a member is known to serve.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// Why a call has no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The member refused it.
    Status { code: u16, message: String },
    /// The connection went away: whether the call took effect is unknown.
    Lost(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A broken connection, in the words of whoever noticed it.
fn lost(error: impl fmt::Display) -> Failure {
    Failure::Lost(error.to_string())
}

/// A connection; clones share it. Lives on a current-thread runtime.
#[derive(Clone)]
pub struct Client {
    send: SendRequest<Bytes>,
}

impl Client {
    pub async fn connect(port: u16) -> Result<Client, Failure> {
        Ok(Client::connect_watched(port).await?.0)
    }

    /// With it: how the connection ends.
    pub async fn connect_watched(port: u16) -> Result<(Client, JoinHandle<Result<(), h2::Error>>), Failure> {
        let socket = TcpStream::connect(("127.0.0.1", port)).await.map_err(lost)?;
        socket.set_nodelay(true).map_err(lost)?;
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(16 << 20).initial_window_size(4 << 20).initial_max_send_streams(10_000);
        let (send, connection) = builder.handshake::<_, Bytes>(socket).await.map_err(lost)?;
        Ok((Client { send }, tokio::spawn(connection)))
    }

    /// A call with one message and one answer, however long it takes.
    pub async fn unary<A: Message + Default>(&self, path: &str, message: &impl Message) -> Result<A, Failure> {
        let mut stream = self.open(path).await?;
        stream.send(message, true)?;
        let answer = stream.next().await?;
        match answer {
            Some(answer) => stream.next::<A>().await.map(|_| answer),
            None => Err(Failure::Lost("a success without an answer".to_owned())),
        }
    }

    /// A call to a member that must answer, soon and with success.
    pub async fn must<A: Message + Default>(&self, path: &str, message: &impl Message) -> A {
        match tokio::time::timeout(ANSWER_TIME_MAX, self.unary(path, message)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(failure)) => panic!("{path}: {failure}"),
            Err(_) => panic!("{path}: no answer within {ANSWER_TIME_MAX:?}"),
        }
    }

    pub async fn open(&self, path: &str) -> Result<Stream, Failure> {
        let request = Request::builder().method("POST").uri(format!("http://localhost{path}"));
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        let mut ready = self.send.clone().ready().await.map_err(lost)?;
        let (response, send) = ready.send_request(request.body(()).expect("a request"), false).map_err(lost)?;
        Ok(Stream { send, response: Some(response), body: None, partial: BytesMut::new() })
    }

    /// The revision of now.
    pub async fn revision(&self) -> i64 {
        let request = pb::RangeRequest { key: Bytes::from_static(b"\0"), count_only: true, ..Default::default() };
        self.must::<pb::RangeResponse>(RANGE, &request).await.header.expect("a header").revision
    }

    pub async fn put(&self, key: &str, value: &[u8]) -> i64 {
        let request = pb::PutRequest { key: bytes(key), value: Bytes::copy_from_slice(value), ..Default::default() };
        self.must::<pb::PutResponse>(PUT, &request).await.header.expect("a header").revision
    }

    pub async fn get(&self, key: &str) -> Option<Bytes> {
        let request = pb::RangeRequest { key: bytes(key), ..Default::default() };
        self.must::<pb::RangeResponse>(RANGE, &request).await.kvs.pop().map(|kv| kv.value)
    }

    /// A watch on `[from, to)` from a revision on, and its first answer taken.
    pub async fn watch(&self, from: &str, to: &str, start_revision: i64) -> Result<Stream, Failure> {
        let mut stream = self.open(WATCH).await?;
        let create = pb::WatchCreateRequest { key: bytes(from), range_end: bytes(to), start_revision, ..Default::default() };
        let union = Some(pb::watch_request::RequestUnion::CreateRequest(create));
        stream.send(&pb::WatchRequest { request_union: union }, false)?;
        let created = stream.next::<pb::WatchResponse>().await?;
        assert!(created.is_some_and(|c| c.created && !c.canceled), "a watch is created");
        Ok(stream)
    }
}

pub const RANGE: &str = "/etcdserverpb.KV/Range";
pub const PUT: &str = "/etcdserverpb.KV/Put";
pub const DELETE_RANGE: &str = "/etcdserverpb.KV/DeleteRange";
pub const TXN: &str = "/etcdserverpb.KV/Txn";
pub const COMPACT: &str = "/etcdserverpb.KV/Compact";
pub const WATCH: &str = "/etcdserverpb.Watch/Watch";
pub const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
pub const LEASE_REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
pub const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
pub const LEASE_TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";
pub const ALARM: &str = "/etcdserverpb.Maintenance/Alarm";
pub const STATUS: &str = "/etcdserverpb.Maintenance/Status";
pub const DEFRAGMENT: &str = "/etcdserverpb.Maintenance/Defragment";
pub const LEASE_LEASES: &str = "/etcdserverpb.Lease/LeaseLeases";

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A call under way.
pub struct Stream {
    send: SendStream<Bytes>,
    response: Option<ResponseFuture>,
    body: Option<RecvStream>,
    partial: BytesMut,
}

impl Stream {
    pub fn send(&mut self, message: &impl Message, last: bool) -> Result<(), Failure> {
        let mut framed = message_prefix(message.encoded_len()).to_vec();
        message.encode(&mut framed).expect("a vector has space");
        self.send.send_data(Bytes::from(framed), last).map_err(lost)
    }

    /// The next message; None when the call has ended well.
    pub async fn next<A: Message + Default>(&mut self) -> Result<Option<A>, Failure> {
        if let Some(response) = self.response.take() {
            let (head, body) = response.await.map_err(lost)?.into_parts();
            if head.headers.contains_key("grpc-status") {
                return status(&head.headers).map(|()| None);
            }
            self.body = Some(body);
        }
        let Some(body) = &mut self.body else { return Ok(None) };
        loop {
            if let Some((&[_, a, b, c, d], rest)) = self.partial.split_first_chunk::<5>() {
                let len = u32::from_be_bytes([a, b, c, d]) as usize;
                if rest.len() >= len {
                    self.partial.advance(5);
                    let message = self.partial.split_to(len).freeze();
                    return Ok(Some(A::decode(message).expect("the member's messages are well-formed")));
                }
            }
            match body.data().await {
                Some(bytes) => {
                    let bytes = bytes.map_err(lost)?;
                    body.flow_control().release_capacity(bytes.len()).map_err(lost)?;
                    self.partial.extend_from_slice(&bytes);
                }
                None => {
                    assert!(self.partial.is_empty(), "a call that ends well does not end within a message");
                    let trailers = body.trailers().await.map_err(lost)?;
                    return status(&trailers.ok_or_else(|| lost("no trailers"))?).map(|()| None);
                }
            }
        }
    }
}

fn status(trailers: &HeaderMap) -> Result<(), Failure> {
    let field = |name: &str| trailers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).unwrap_or_default();
    match field("grpc-status").parse() {
        Ok(0) => Ok(()),
        Ok(code) => Err(Failure::Status { code, message: field("grpc-message") }),
        Err(_) => Err(lost("no grpc-status")),
    }
}

/// Runs a test's client side.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, future)
}
