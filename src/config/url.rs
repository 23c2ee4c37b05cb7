//! URLs of members and listeners, read as etcd's `types.NewURLs` reads them.

use super::go::go_quote;
use core::net::IpAddr;

/// What is spoken at a URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
    /// A socket file.
    Unix,
    /// A socket file with TLS.
    Unixs,
}

impl Scheme {
    fn read(lower: &str) -> Option<Scheme> {
        Some(match lower {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return None,
        })
    }

    /// As it stands in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Unix => "unix",
            Scheme::Unixs => "unixs",
        }
    }
}

/// One URL: scheme, host and port, and the text that etcd shows and computes ids from.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Url {
    scheme: Scheme,
    /// Without brackets. For socket files the path.
    host: String,
    port: String,
    text: String,
}

impl Url {
    /// Reads one URL: `scheme://host:port`, nothing behind it.
    ///
    /// # Errors
    /// The sentence that etcd writes.
    pub fn parse(input: &str) -> Result<Url, String> {
        let input = input.trim();
        if input.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err(format!("parse {}: net/url: invalid control character in URL", go_quote(input)));
        }
        let scheme_error = || format!("URL scheme must be http, https, unix, or unixs: {input}");
        let (scheme, rest) = input.split_once(':').ok_or_else(scheme_error)?;
        if scheme.is_empty() {
            return Err(format!("parse {}: missing protocol scheme", go_quote(input)));
        }
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && !scheme.contains('/') {
            return Err(format!("parse {}: first path segment in URL cannot contain colon", go_quote(input)));
        }
        let scheme = Scheme::read(&scheme.to_ascii_lowercase()).ok_or_else(scheme_error)?;
        match scheme {
            Scheme::Unix | Scheme::Unixs => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                let text = format!("{}:{rest}", scheme.as_str());
                Ok(Url { scheme, host: path.to_owned(), port: String::new(), text })
            }
            Scheme::Http | Scheme::Https => Self::parse_network(input, scheme, rest),
        }
    }

    fn parse_network(input: &str, scheme: Scheme, rest: &str) -> Result<Url, String> {
        let form_error = || format!("URL address does not have the form \"host:port\": {input}");
        let rest = rest.strip_prefix("//").ok_or_else(form_error)?;
        let authority_bytes = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, behind) = rest.split_at(authority_bytes);
        let host_port = authority.rsplit_once('@').map_or(authority, |(_, h)| h);
        if let Some(c) = host_port.chars().find(|c| matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}')) {
            return Err(format!("parse {}: invalid character {} in host name", go_quote(input), go_quote(&c.to_string())));
        }
        let bracket_end = host_port.rfind(']').map_or(0, |i| i + 1);
        if let Some(colon) = host_port[bracket_end..].rfind(':') {
            let port = &host_port[bracket_end + colon + 1..];
            if !port.bytes().all(|b| b.is_ascii_digit()) {
                return Err(format!("parse {}: invalid port {} after host", go_quote(input), go_quote(&format!(":{port}"))));
            }
        }
        let (host, port) = split_host_port(host_port).ok_or_else(form_error)?;
        let path_bytes = behind.find(['?', '#']).unwrap_or(behind.len());
        if path_bytes > 0 {
            return Err(format!("URL must not contain a path: {input}"));
        }
        let text = format!("{}://{rest}", scheme.as_str());
        Ok(Url { scheme, host: host.to_owned(), port: port.to_owned(), text })
    }

    /// Reads a comma-separated list into distinct URLs, in the order of their texts.
    ///
    /// # Errors
    /// As [`Url::parse`], for the first that is wrong.
    pub fn parse_list(list: &str) -> Result<Vec<Url>, String> {
        let mut urls = list.split(',').map(Url::parse).collect::<Result<Vec<_>, _>>()?;
        urls.sort_by(|a, b| a.text.cmp(&b.text));
        urls.dedup();
        Ok(urls)
    }

    /// What is spoken there.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host, without the brackets of an IPv6 address; for socket files the path.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port's digits, as written; empty where none stands behind the colon.
    pub fn port_text(&self) -> &str {
        &self.port
    }

    /// The port as a number: 0 (any free one) where none stands behind the colon, `None` above 65535.
    pub fn port(&self) -> Option<u16> {
        if self.port.is_empty() { Some(0) } else { self.port.parse().ok() }
    }

    /// The text etcd shows, sorts and hashes.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same URL at another host.
    pub(super) fn at_host(&self, host: IpAddr, port: &str) -> Url {
        let text = match host {
            IpAddr::V4(ip) => format!("{}://{ip}:{port}", self.scheme.as_str()),
            IpAddr::V6(ip) => format!("{}://[{ip}]:{port}", self.scheme.as_str()),
        };
        Url { scheme: self.scheme, host: host.to_string(), port: port.to_owned(), text }
    }
}

/// Go's `net.SplitHostPort`, without its seven ways to say no.
fn split_host_port(host_port: &str) -> Option<(&str, &str)> {
    let colon = host_port.rfind(':')?;
    let (host, port) = (&host_port[..colon], &host_port[colon + 1..]);
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        return (!inner.contains(['[', ']'])).then_some((inner, port));
    }
    (!host.contains([':', '[', ']'])).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_scheme_host_and_port() {
        for (input, host, port, text) in [
            ("http://localhost:2379", "localhost", Some(2379), "http://localhost:2379"),
            (" HTTP://127.0.0.1:1 ", "127.0.0.1", Some(1), "http://127.0.0.1:1"),
            ("http://[::1]:2379", "::1", Some(2379), "http://[::1]:2379"),
            ("https://example.com:443", "example.com", Some(443), "https://example.com:443"),
            ("http://:2379", "", Some(2379), "http://:2379"),
            ("http://h:", "h", Some(0), "http://h:"),
            ("http://h:99999", "h", None, "http://h:99999"),
            ("unix://a.sock:1", "a.sock:1", Some(0), "unix://a.sock:1"),
        ] {
            let url = Url::parse(input).expect(input);
            assert_eq!((url.host(), url.port(), url.as_str()), (host, port, text));
        }
    }

    #[test]
    fn wrong_urls_get_etcds_sentences() {
        for (input, error) in [
            ("foo", "URL scheme must be http, https, unix, or unixs: foo"),
            ("", "URL scheme must be http, https, unix, or unixs: "),
            ("ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"),
            ("localhost:2379", "URL scheme must be http, https, unix, or unixs: localhost:2379"),
            ("127.0.0.1:2379", "parse \"127.0.0.1:2379\": first path segment in URL cannot contain colon"),
            (":2379", "parse \":2379\": missing protocol scheme"),
            ("http://127.0.0.1", "URL address does not have the form \"host:port\": http://127.0.0.1"),
            ("http:a:1", "URL address does not have the form \"host:port\": http:a:1"),
            ("http://::1:1", "URL address does not have the form \"host:port\": http://::1:1"),
            ("http://127.0.0.1:2379/x", "URL must not contain a path: http://127.0.0.1:2379/x"),
            ("http://127.0.0.1:2379/", "URL must not contain a path: http://127.0.0.1:2379/"),
            ("http://127.0.0.1:foo", "parse \"http://127.0.0.1:foo\": invalid port \":foo\" after host"),
            ("http://a b:1", "parse \"http://a b:1\": invalid character \" \" in host name"),
            ("http://a:1\n2", "parse \"http://a:1\\n2\": net/url: invalid control character in URL"),
        ] {
            assert_eq!(Url::parse(input), Err(error.to_owned()), "{input}");
        }
    }

    #[test]
    fn lists_are_sorted_and_distinct() {
        let urls = Url::parse_list("http://b:1, http://a:1,http://b:1").unwrap();
        assert_eq!(urls.iter().map(Url::as_str).collect::<Vec<_>>(), ["http://a:1", "http://b:1"]);
        assert!(Url::parse_list("http://a:1,").is_err());
    }
}
