//! Requests' headers in, responses' headers and trailers out, as grpc-go does it (its `http2_server.go` and `server.go`).

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};

use crate::base::Instant;
use crate::front::{CallOptions, Code, Method, Status};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const APPLICATION_GRPC: &str = "application/grpc";

/// A request that is answered with its headers alone.
#[derive(Debug)]
pub(super) struct Refusal {
    /// 200 where the caller speaks gRPC and only asks for the wrong thing.
    pub http: StatusCode,
    pub status: Status,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Refusal {
        Refusal { http: StatusCode::OK, status }
    }
}

/// What a request asks for, or how it is refused; the checks are in grpc-go's order.
pub(super) fn read<B>(request: &Request<B>, now: Instant) -> Result<(Method, CallOptions), Refusal> {
    let headers = request.headers();
    // Of several, one that is right is enough.
    let content_types = || headers.get_all(CONTENT_TYPE).iter().map(HeaderValue::as_bytes);
    if !content_types().any(is_grpc) {
        let content_type = content_types().next_back().unwrap_or_default();
        let text = format!("invalid gRPC request content-type {:?}", String::from_utf8_lossy(content_type));
        return Err(Refusal { http: StatusCode::UNSUPPORTED_MEDIA_TYPE, status: Status::new(Code::InvalidArgument, text) });
    }
    let timeout = match headers.get("grpc-timeout").map(timeout).transpose() {
        Ok(timeout) => timeout,
        Err(text) => {
            let status = Status::new(Code::Internal, format!("malformed grpc-timeout: {text}"));
            return Err(Refusal { http: StatusCode::BAD_REQUEST, status });
        }
    };
    if request.method() != http::Method::POST {
        let text = format!("Received a HEADERS frame with :method {:?} which should be POST", request.method().as_str());
        return Err(Refusal { http: StatusCode::METHOD_NOT_ALLOWED, status: Status::new(Code::Internal, text) });
    }
    if timeout == Some(Duration::ZERO) {
        return Err(Status::new(Code::DeadlineExceeded, "context deadline exceeded").into());
    }
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    let method = Method::from_path(path).map_err(Status::from)?;
    if let Some(encoding) = headers.get("grpc-encoding").map(HeaderValue::as_bytes)
        && !matches!(encoding, b"" | b"identity")
    {
        let text = format!("grpc: Decompressor is not installed for grpc-encoding {:?}", String::from_utf8_lossy(encoding));
        return Err(Status::new(Code::Unimplemented, text).into());
    }
    Ok((method, options(headers, timeout.map(|timeout| now + timeout))))
}

fn is_grpc(content_type: &[u8]) -> bool {
    content_type.strip_prefix(APPLICATION_GRPC.as_bytes()).is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn options(headers: &HeaderMap, deadline: Option<Instant>) -> CallOptions {
    let token = headers.get("token").or_else(|| headers.get("authorization")).map(|value| {
        let bytes = value.as_bytes();
        String::from_utf8_lossy(bytes.strip_prefix(b"Bearer ").unwrap_or(bytes)).into_owned()
    });
    CallOptions {
        deadline,
        require_leader: headers.get("hasleader").is_some_and(|value| value == "true"),
        token,
        api_version: headers.get("client-api-version").map(|value| Bytes::copy_from_slice(value.as_bytes())),
    }
}

/// `grpc-timeout`: up to eight digits and a unit.
fn timeout(value: &HeaderValue) -> Result<Duration, String> {
    let bytes = value.as_bytes();
    let text = String::from_utf8_lossy(bytes);
    if bytes.len() < 2 {
        return Err(format!("transport: timeout string is too short: {text:?}"));
    }
    if bytes.len() > 9 {
        return Err(format!("transport: timeout string is too long: {text:?}"));
    }
    let unit_nanos: u64 = match bytes[bytes.len() - 1] {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1_000,
        b'n' => 1,
        _ => return Err(format!("transport: timeout unit is not recognized: {text:?}")),
    };
    let digits = &bytes[..bytes.len() - 1];
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(format!("strconv.ParseUint: parsing {:?}: invalid syntax", String::from_utf8_lossy(digits)));
    }
    let count = digits.iter().fold(0u64, |n, digit| n * 10 + u64::from(digit - b'0'));
    Ok(Duration::from_nanos(count.saturating_mul(unit_nanos)))
}

/// The headers before the first message.
pub(super) fn response() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(APPLICATION_GRPC));
    response
}

/// Headers that are the whole answer.
pub(super) fn response_only(http: StatusCode, status: &Status) -> Response<()> {
    let mut response = response();
    *response.status_mut() = http;
    put_status(response.headers_mut(), status);
    response
}

/// What comes after the last message.
pub(super) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    put_status(&mut trailers, status);
    trailers
}

fn put_status(headers: &mut HeaderMap, status: &Status) {
    const NUMBERS: [&str; 17] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];
    headers.insert(GRPC_STATUS, HeaderValue::from_static(NUMBERS[usize::from(status.code.number())]));
    if !status.message.is_empty() {
        headers.insert(GRPC_MESSAGE, message(&status.message));
    }
}

/// A text as `grpc-message` carries it: printable ASCII as it is, the rest and `%` percent-encoded.
fn message(text: &str) -> HeaderValue {
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
    if text.bytes().all(is_plain) {
        return HeaderValue::from_str(text).expect("printable ASCII");
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String grows");
        }
    }
    HeaderValue::from_str(&encoded).expect("printable ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::builder().method("POST").uri("http://x/etcdserverpb.KV/Put");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request")
    }

    fn refused(headers: &[(&'static str, &str)]) -> (u16, Code, String) {
        let refusal = read(&request(headers), Instant::ZERO).expect_err("refused");
        (refusal.http.as_u16(), refusal.status.code, refusal.status.message.into_owned())
    }

    #[test]
    fn options_are_read() {
        let headers = [
            ("content-type", "application/grpc+proto"),
            ("grpc-timeout", "1500m"),
            ("hasleader", "true"),
            ("authorization", "Bearer abc"),
            ("client-api-version", "3.7"),
        ];
        let several = [("content-type", "text/plain"), ("content-type", "application/grpc"), ("content-type", "text/html")];
        assert!(read(&request(&several), Instant::ZERO).is_ok());
        let (method, options) = read(&request(&headers), Instant::from_nanos(7)).expect("fine");
        assert_eq!(method, Method::Put);
        assert_eq!(options.deadline, Some(Instant::from_nanos(1_500_000_007)));
        assert!(options.require_leader);
        assert_eq!(options.token.as_deref(), Some("abc"));
        assert_eq!(options.api_version, Some(Bytes::from_static(b"3.7")));
        let headers =
            [("content-type", "application/grpc"), ("token", "t"), ("authorization", "a"), ("grpc-encoding", "identity")];
        let (_, options) = read(&request(&headers), Instant::ZERO).expect("fine");
        assert_eq!((options.token.as_deref(), options.deadline, options.require_leader), (Some("t"), None, false));
    }

    #[test]
    fn refusals_are_those_of_grpc_go() {
        let grpc = ("content-type", "application/grpc");
        assert_eq!(refused(&[]), (415, Code::InvalidArgument, "invalid gRPC request content-type \"\"".into()));
        let wrong = [("content-type", "text/plain"), ("content-type", "application/grpcx")];
        assert_eq!(
            refused(&wrong),
            (415, Code::InvalidArgument, "invalid gRPC request content-type \"application/grpcx\"".into())
        );
        assert_eq!(
            refused(&[grpc, ("grpc-timeout", "5x")]),
            (400, Code::Internal, "malformed grpc-timeout: transport: timeout unit is not recognized: \"5x\"".into())
        );
        assert_eq!(refused(&[grpc, ("grpc-timeout", "1234567890S")]).1, Code::Internal);
        assert_eq!(
            refused(&[grpc, ("grpc-timeout", "x1S")]).2,
            "malformed grpc-timeout: strconv.ParseUint: parsing \"x1\": invalid syntax"
        );
        assert_eq!(refused(&[grpc, ("grpc-timeout", "0S")]), (200, Code::DeadlineExceeded, "context deadline exceeded".into()));
        assert_eq!(
            refused(&[grpc, ("grpc-encoding", "gzip")]),
            (200, Code::Unimplemented, "grpc: Decompressor is not installed for grpc-encoding \"gzip\"".into())
        );
    }

    #[test]
    fn timeouts_know_their_units() {
        let parsed = |text| timeout(&HeaderValue::from_static(text)).expect("well formed");
        assert_eq!(parsed("2H"), Duration::from_secs(7200));
        assert_eq!(parsed("3M"), Duration::from_secs(180));
        assert_eq!(parsed("4S"), Duration::from_secs(4));
        assert_eq!(parsed("5m"), Duration::from_millis(5));
        assert_eq!(parsed("6u"), Duration::from_micros(6));
        assert_eq!(parsed("7n"), Duration::from_nanos(7));
        assert!(parsed("99999999H") > Duration::from_secs(1 << 34));
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(message("etcdserver: key not found"), "etcdserver: key not found");
        assert_eq!(message("100% é\n"), "100%25 %C3%A9%0A");
        let trailers = trailers(&Status::OK);
        assert_eq!((trailers.len(), &trailers[GRPC_STATUS]), (1, &HeaderValue::from_static("0")));
    }
}
