//! An HTTP/1.1 connection: one request after the other.

use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::message::{HttpHandler, HttpRequest, HttpResponse, Query, decode};
use crate::base::limits::{HTTP1_BODY_BYTES_MAX, HTTP1_HEAD_BYTES_MAX, HTTP1_HEADERS_MAX};
use crate::io::Tasks;

/// How long a request's headers may take, the wait for it included (etcd's ReadHeaderTimeout), and its body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);
const READ_BYTES: usize = 8 << 10;

/// Serves a connection until it ends, `stopped` ends (then after the answer under way), or the client breaks the rules.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    handler: &impl HttpHandler,
    tasks: &impl Tasks,
    stopped: impl Future<Output = ()>,
) {
    let mut connection = Connection { stream, received: BytesMut::new() };
    let mut stopped = pin!(stopped);
    loop {
        let read = async {
            let late = async {
                tasks.sleep(REQUEST_TIMEOUT).await;
                Err(Trouble::Gone)
            };
            futures_lite::future::or(connection.read_request(), late).await
        };
        let stop = async {
            stopped.as_mut().await;
            Err(Trouble::Gone)
        };
        let (response, head) = match futures_lite::future::or(read, stop).await {
            Ok((request, head)) => (handler.handle(request).await, head),
            Err(Trouble::Refused(response)) => (*response, Head { is_head: false, keep_alive: false }),
            Err(Trouble::Gone) => return,
        };
        if connection.write_response(&response, &head).await.is_err() || !head.keep_alive {
            connection.close().await;
            return;
        }
    }
}

struct Connection<S> {
    stream: S,
    received: BytesMut,
}

/// What the answer must know of the request.
struct Head {
    is_head: bool,
    keep_alive: bool,
}

enum Trouble {
    /// Answered, and the connection closed.
    Refused(Box<HttpResponse>),
    /// The connection is of no more use.
    Gone,
}

impl From<io::Error> for Trouble {
    fn from(_: io::Error) -> Trouble {
        Trouble::Gone
    }
}

fn refused(status: u16, text: &'static str) -> Trouble {
    Trouble::Refused(Box::new(HttpResponse::text(status, text)))
}

/// How long a body is.
enum Length {
    Known(usize),
    Chunked,
}

/// A parsed head.
struct Parsed {
    bytes: usize,
    method: String,
    target: String,
    keep_alive: bool,
    expects_continue: bool,
    length: Length,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    async fn read_request(&mut self) -> Result<(HttpRequest, Head), Trouble> {
        let parsed = loop {
            if let Some(parsed) = parse(&self.received)? {
                break parsed;
            }
            if self.received.len() > HTTP1_HEAD_BYTES_MAX {
                return Err(refused(431, "431 Request Header Fields Too Large"));
            }
            self.read().await?;
        };
        self.received.advance(parsed.bytes);
        if parsed.expects_continue {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let body = match parsed.length {
            Length::Known(bytes) => self.read_exactly(bytes).await?,
            Length::Chunked => self.read_chunks().await?,
        };
        let (path, query) = parsed.target.split_once('?').unwrap_or((&parsed.target, ""));
        let path = decode(path, false).ok_or_else(|| refused(400, "400 Bad Request"))?;
        let head = Head { is_head: parsed.method == "HEAD", keep_alive: parsed.keep_alive };
        Ok((HttpRequest { path, query: Query::parse(query), method: parsed.method, body }, head))
    }

    async fn read_exactly(&mut self, bytes: usize) -> Result<Bytes, Trouble> {
        if bytes > HTTP1_BODY_BYTES_MAX {
            return Err(refused(413, "413 Request Entity Too Large"));
        }
        while self.received.len() < bytes {
            self.read().await?;
        }
        Ok(self.received.split_to(bytes).freeze())
    }

    async fn read_chunks(&mut self) -> Result<Bytes, Trouble> {
        let bad = || refused(400, "400 Bad Request");
        let mut body = BytesMut::new();
        loop {
            let (line, size) = loop {
                match httparse::parse_chunk_size(&self.received).map_err(|_| bad())? {
                    httparse::Status::Complete((line, size)) => break (line, size),
                    httparse::Status::Partial if self.received.len() > HTTP1_HEAD_BYTES_MAX => return Err(bad()),
                    httparse::Status::Partial => self.read().await?,
                }
            };
            self.received.advance(line);
            let size = usize::try_from(size).ok().filter(|size| body.len().saturating_add(*size) <= HTTP1_BODY_BYTES_MAX);
            let size = size.ok_or_else(|| refused(413, "413 Request Entity Too Large"))?;
            if size == 0 {
                self.skip_trailers().await?;
                return Ok(body.freeze());
            }
            body.extend_from_slice(&self.read_exactly(size).await?);
            if self.read_exactly(2).await? != b"\r\n"[..] {
                return Err(bad());
            }
        }
    }

    /// Drops lines up to an empty one.
    async fn skip_trailers(&mut self) -> Result<(), Trouble> {
        let mut skipped = 0;
        loop {
            let Some(end) = self.received.iter().position(|byte| *byte == b'\n') else {
                if self.received.len() > HTTP1_HEAD_BYTES_MAX {
                    return Err(refused(400, "400 Bad Request"));
                }
                self.read().await?;
                continue;
            };
            let line = self.received.split_to(end + 1);
            skipped += line.len();
            if matches!(&line[..], b"\r\n" | b"\n") {
                return Ok(());
            }
            if skipped > HTTP1_HEAD_BYTES_MAX {
                return Err(refused(400, "400 Bad Request"));
            }
        }
    }

    /// Reads what there is, at least a byte.
    async fn read(&mut self) -> Result<(), Trouble> {
        let mut buffer = [0; READ_BYTES];
        let mut target = ReadBuf::new(&mut buffer);
        poll_fn(|cx| Pin::new(&mut self.stream).poll_read(cx, &mut target)).await?;
        if target.filled().is_empty() {
            return Err(Trouble::Gone);
        }
        self.received.extend_from_slice(target.filled());
        Ok(())
    }

    async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = poll_fn(|cx| Pin::new(&mut self.stream).poll_write(cx, bytes)).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[count..];
        }
        poll_fn(|cx| Pin::new(&mut self.stream).poll_flush(cx)).await
    }

    async fn write_response(&mut self, response: &HttpResponse, head: &Head) -> io::Result<()> {
        let HttpResponse { status, content_type, headers, body } = response;
        let mut text = format!("HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\n", reason(*status));
        for (name, value) in headers {
            write!(text, "{name}: {value}\r\n").expect("a String grows");
        }
        write!(text, "Content-Length: {}\r\n", body.len()).expect("a String grows");
        text.push_str(if head.keep_alive { "\r\n" } else { "Connection: close\r\n\r\n" });
        let mut bytes = text.into_bytes();
        if !head.is_head {
            bytes.extend_from_slice(body);
        }
        self.write(&bytes).await
    }

    async fn close(&mut self) {
        // The answer may be lost when the client has gone: nobody waits for it then.
        let _ = poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await;
    }
}

/// The head at the start of `bytes`; None when it has not come in whole.
fn parse(bytes: &[u8]) -> Result<Option<Parsed>, Trouble> {
    let mut headers = [httparse::EMPTY_HEADER; HTTP1_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(refused(431, "431 Request Header Fields Too Large")),
        Err(_) => return Err(refused(400, "400 Bad Request")),
    };
    let is_1_1 = request.version == Some(1);
    let values = |name: &'static str| {
        request.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    };
    let has_token = |name: &'static str, token: &str| {
        let mut tokens = values(name).flat_map(|value| value.split(|byte| *byte == b','));
        tokens.any(|value| value.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    };
    match values("host").count() {
        0 if is_1_1 => return Err(refused(400, "400 Bad Request: missing required Host header")),
        0 | 1 => {}
        _ => return Err(refused(400, "400 Bad Request: too many Host headers")),
    }
    let length = match (values("transfer-encoding").next(), values("content-length").next()) {
        (Some(encoding), None) if encoding.trim_ascii().eq_ignore_ascii_case(b"chunked") => Length::Chunked,
        // Both, or an encoding that is not known: two servers could read two different requests.
        (Some(_), _) => return Err(refused(501, "501 Unsupported transfer encoding")),
        (None, Some(first)) => {
            let number = std::str::from_utf8(first).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            match number.and_then(|text| text.parse().ok()) {
                Some(bytes) if values("content-length").all(|value| value == first) => Length::Known(bytes),
                _ => return Err(refused(400, "400 Bad Request")),
            }
        }
        (None, None) => Length::Known(0),
    };
    Ok(Some(Parsed {
        bytes: head,
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        keep_alive: if is_1_1 { !has_token("connection", "close") } else { has_token("connection", "keep-alive") },
        expects_continue: is_1_1 && has_token("expect", "100-continue"),
        length,
    }))
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Request Entity Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}
