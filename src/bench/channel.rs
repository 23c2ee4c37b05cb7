//! gRPC calls over one HTTP/2 connection.

use std::fmt;
use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use prost::Message;

use crate::front::MESSAGE_PREFIX_BYTES;
use crate::io::{Network, Tasks, Urgency};
use crate::runtime::Executor;

/// The receive windows that are announced: large, so that the generator never holds a server back.
const WINDOW_BYTES: u32 = 64 << 20;
/// The calls that may be under way before the server has said how many it allows.
const STREAMS_BEFORE_SETTINGS: usize = 100;

/// A connection; clones share it.
#[derive(Clone)]
pub struct Channel {
    send: SendRequest<Bytes>,
    origin: String,
}

/// One RPC's address, made once.
#[derive(Clone)]
pub struct Route(Uri);

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The server's word.
    Status(u32, String),
    /// The connection's.
    Transport(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Status(code, text) => write!(f, "code {code}: {text}"),
            CallError::Transport(text) => write!(f, "connection: {text}"),
        }
    }
}

impl From<h2::Error> for CallError {
    fn from(error: h2::Error) -> CallError {
        CallError::Transport(error.to_string())
    }
}

impl Channel {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there, or it is no HTTP/2.
    pub async fn connect(executor: &Executor, address: SocketAddr) -> Result<Channel, CallError> {
        let socket = executor.connect(address).await.map_err(|e| CallError::Transport(e.to_string()))?;
        let mut builder = h2::client::Builder::new();
        builder
            .initial_connection_window_size(WINDOW_BYTES)
            .initial_window_size(WINDOW_BYTES)
            .initial_max_send_streams(STREAMS_BEFORE_SETTINGS)
            .enable_push(false);
        let (send, connection) = builder.handshake::<_, Bytes>(socket).await?;
        executor.spawn(Urgency::Prompt, async move {
            // What ends it, the calls are told.
            let _ = connection.await;
        });
        Ok(Channel { send, origin: format!("http://{address}") })
    }

    /// The address of an RPC on this connection.
    pub fn route(&self, path: &str) -> Route {
        Route(format!("{}{path}", self.origin).parse().expect("paths are constants"))
    }

    /// A call with one message and one answer.
    ///
    /// # Errors
    /// The server's or the connection's.
    pub async fn unary<A: Message + Default>(&self, route: &Route, framed: Bytes) -> Result<A, CallError> {
        let mut call = self.open(route, Some(framed)).await?;
        let answer = call.next().await?;
        match (answer, call.next::<A>().await?) {
            (Some(answer), None) => Ok(answer),
            _ => Err(CallError::Transport("not one message in the answer".to_owned())),
        }
    }

    /// Opens a call. With a message it is the only one; without, [`Call::send`] sends them.
    ///
    /// # Errors
    /// The connection's.
    pub async fn open(&self, route: &Route, only: Option<Bytes>) -> Result<Call, CallError> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = route.0.clone();
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        let mut ready = self.send.clone().ready().await?;
        let (response, mut send) = ready.send_request(request, false)?;
        if let Some(framed) = only {
            send.send_data(framed, true)?;
        }
        Ok(Call { send, response: Some(response), body: None, partial: BytesMut::new() })
    }
}

/// A call under way.
pub struct Call {
    send: SendStream<Bytes>,
    response: Option<ResponseFuture>,
    body: Option<RecvStream>,
    partial: BytesMut,
}

impl Call {
    /// Sends one more message.
    ///
    /// # Errors
    /// The connection's.
    pub fn send(&mut self, framed: Bytes) -> Result<(), CallError> {
        Ok(self.send.send_data(framed, false)?)
    }

    /// The next message; `None` after the last, when the call ended well.
    ///
    /// # Errors
    /// The server's status, or the connection's.
    pub async fn next<A: Message + Default>(&mut self) -> Result<Option<A>, CallError> {
        if let Some(response) = self.response.take() {
            let (head, body) = response.await?.into_parts();
            if head.headers.contains_key("grpc-status") {
                return status(&head.headers).map(|()| None);
            }
            if head.status != http::StatusCode::OK {
                return Err(CallError::Transport(format!("HTTP status {}", head.status)));
            }
            self.body = Some(body);
        }
        let Some(body) = &mut self.body else { return Ok(None) };
        loop {
            if let Some(message) = take_message(&mut self.partial)? {
                return Ok(Some(message));
            }
            match body.data().await {
                Some(bytes) => {
                    let bytes = bytes?;
                    body.flow_control().release_capacity(bytes.len())?;
                    self.partial.extend_from_slice(&bytes);
                }
                None => {
                    let trailers = body.trailers().await?.unwrap_or_default();
                    return status(&trailers).map(|()| None);
                }
            }
        }
    }
}

fn take_message<A: Message + Default>(partial: &mut BytesMut) -> Result<Option<A>, CallError> {
    let Some((&[compressed, a, b, c, d], rest)) = partial.split_first_chunk::<MESSAGE_PREFIX_BYTES>() else { return Ok(None) };
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    if compressed != 0 {
        return Err(CallError::Transport("a compressed message, which was not asked for".to_owned()));
    }
    if rest.len() < len {
        // At once for the whole of it: a message of many megabytes is not moved again and again as it grows.
        partial.reserve(len - rest.len());
        return Ok(None);
    }
    partial.advance(MESSAGE_PREFIX_BYTES);
    let message = A::decode(partial.split_to(len).freeze());
    message.map(Some).map_err(|e| CallError::Transport(format!("an answer that does not decode: {e}")))
}

fn status(headers: &HeaderMap) -> Result<(), CallError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match text("grpc-status").parse() {
        Ok(0) => Ok(()),
        Ok(code) => Err(CallError::Status(code, text("grpc-message").to_owned())),
        Err(_) => Err(CallError::Transport("an answer without a grpc-status".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::frame;
    use crate::proto::etcdserverpb::PutRequest;

    #[test]
    fn messages_are_taken_whole() {
        let put = PutRequest { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"v"), ..PutRequest::default() };
        let bytes = frame(&put);
        let mut partial = BytesMut::new();
        for byte in &bytes[..bytes.len() - 1] {
            partial.extend_from_slice(&[*byte]);
            assert_eq!(take_message::<PutRequest>(&mut partial), Ok(None));
        }
        partial.extend_from_slice(&bytes[bytes.len() - 1..]);
        partial.extend_from_slice(&bytes);
        assert_eq!(take_message(&mut partial), Ok(Some(put.clone())));
        assert_eq!(take_message(&mut partial), Ok(Some(put)));
        assert!(partial.is_empty());
    }

    #[test]
    fn an_answer_is_good_only_with_status_zero() {
        let mut headers = HeaderMap::new();
        assert!(matches!(status(&headers), Err(CallError::Transport(_))));
        headers.insert("grpc-status", HeaderValue::from_static("14"));
        headers.insert("grpc-message", HeaderValue::from_static("no leader"));
        assert_eq!(status(&headers), Err(CallError::Status(14, "no leader".to_owned())));
        headers.insert("grpc-status", HeaderValue::from_static("0"));
        assert_eq!(status(&headers), Ok(()));
    }
}
