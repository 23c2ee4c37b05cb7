//! Requests and answers, apart from how they travel.

use std::borrow::Cow;
use std::future::Future;

use bytes::Bytes;

/// What a client asks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HttpRequest {
    /// As it came: GET, HEAD, POST ...
    pub method: String,
    /// Percent-decoded, without the query.
    pub path: String,
    /// What follows the question mark.
    pub query: Query,
    /// Empty when there is none.
    pub body: Bytes,
}

/// Answers requests; one at a time on each connection.
pub trait HttpHandler {
    /// The answer to one request.
    fn handle(&self, request: HttpRequest) -> impl Future<Output = HttpResponse>;
}

impl<F: AsyncFn(HttpRequest) -> HttpResponse> HttpHandler for F {
    async fn handle(&self, request: HttpRequest) -> HttpResponse {
        self(request).await
    }
}

/// The parameters of a query, percent-decoded, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// As Go's `url.ParseQuery` reads it: what it would refuse is left out.
    pub fn parse(text: &str) -> Query {
        let pairs = text.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';'));
        Query(
            pairs
                .filter_map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    Some((decode(name, true)?, decode(value, true)?))
                })
                .collect(),
        )
    }

    /// The first value of a parameter.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a parameter.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Percent-decodes; None when a `%` is not followed by two hex digits, or the result is not UTF-8.
pub(super) fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        bytes.push(match first {
            b'%' => {
                let (digits, tail) = rest.split_first_chunk::<2>()?;
                rest = tail;
                let digit = |b: u8| char::from(b).to_digit(16);
                (digit(digits[0])? * 16 + digit(digits[1])?) as u8
            }
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// What it is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// The content type.
    pub content_type: &'static str,
    /// Other header fields.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body; left out of the answer to a HEAD, its length is not.
    pub body: Bytes,
}

const TEXT: &str = "text/plain; charset=utf-8";

impl HttpResponse {
    /// A plain text.
    pub fn text(status: u16, body: impl Into<Bytes>) -> HttpResponse {
        HttpResponse { status, content_type: TEXT, headers: Vec::new(), body: body.into() }
    }

    /// An error as Go's `http.Error` writes it: a line end follows, and browsers are told not to guess.
    pub fn error(status: u16, text: &str) -> HttpResponse {
        HttpResponse::text(status, format!("{text}\n")).with("X-Content-Type-Options", "nosniff")
    }

    /// What is not served here.
    pub fn not_found() -> HttpResponse {
        HttpResponse::error(404, "404 page not found")
    }

    /// Only `allowed` is served here.
    pub fn method_not_allowed(allowed: &'static str) -> HttpResponse {
        HttpResponse::error(405, "Method Not Allowed").with("Allow", allowed)
    }

    /// With one more header field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> HttpResponse {
        self.headers.push((name, value.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_go_reads_them() {
        let query = Query::parse("exclude=NOSPACE&exclude=a%20b+c&verbose&serializable=true&bad=%zz&x;y=1");
        assert_eq!(query.all("exclude").collect::<Vec<_>>(), ["NOSPACE", "a b c"]);
        assert_eq!(query.first("verbose"), Some(""));
        assert_eq!(query.first("serializable"), Some("true"));
        assert_eq!((query.first("bad"), query.first("x;y"), query.first("none")), (None, None, None));
        assert_eq!(decode("/a%2Fb+c", false).as_deref(), Some("/a/b+c"));
    }
}
