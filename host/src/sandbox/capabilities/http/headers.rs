//! Headers on their way: what a guest may set, what the host sets for it, and what it gets to see of an answer's.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::refusal::Refusal;
use crate::domain::Method;
use crate::sandbox::secrets::{Granted, PLACEHOLDER};

/// Headers of one request: browsers send some twenty.
pub(super) const REQUEST_HEADERS_MAX: usize = 100;

/// Headers of one answer: servers send some thirty.
pub(super) const RESPONSE_HEADERS_MAX: usize = 200;

/// What a guest does not set: the message's framing and its connection are the host's, and so is who is asking, and in
/// which trace. Some
/// servers take a method or a path from a header instead, which is not the one that a rule allowed.
const REFUSED: &[&str] = &[
    "authorization",
    "connection",
    "cookie",
    "cookie2",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];

/// How the names of more of them begin: a browser's words, a proxy's words, and what a proxy tells of who is asking.
const REFUSED_PREFIXES: &[&str] = &["proxy-", "sec-", "x-forwarded-"];

/// Headers of an answer that concern one connection, or would make the guest keep a session of the host's.
const DROPPED: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-connection",
    "set-cookie",
    "set-cookie2",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What the host says it is, where the guest does not say what it is.
const USER_AGENT: &str = concat!("cofferdam/", env!("CARGO_PKG_VERSION"));

/// The codings that the host undoes.
const ACCEPTED: &str = "gzip, deflate, br";

/// The key by which a server recognises a repeated write.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The span for which a request is made.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What the host knows of the call for which a request is made.
#[derive(Clone, Copy, Default)]
pub(super) struct Marks<'a> {
    /// The key of this write.
    pub(super) key: Option<&'a str>,
    pub(super) traceparent: Option<&'a str>,
}

/// Checks what a guest set.
///
/// # Errors
/// `invalid.header`, naming the first that it may not set.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.len() > REQUEST_HEADERS_MAX {
        return Err(Refusal::header(format!("{} headers: at most {REQUEST_HEADERS_MAX}", headers.len())));
    }
    // Of a name that several values share each is looked at.
    match headers.iter().find(|(name, value)| is_refused(name) && !is_placeholder(name, value)) {
        Some((name, _)) => Err(Refusal::header(format!("header `{name}`"))),
        None => Ok(()),
    }
}

/// Whether who asks is told by the host after all: the guest only says where.
fn is_placeholder(name: &HeaderName, value: &HeaderValue) -> bool {
    name == header::AUTHORIZATION && String::from_utf8_lossy(value.as_bytes()).contains(PLACEHOLDER)
}

fn is_refused(name: &HeaderName) -> bool {
    let name = name.as_str();
    // A server that reads its headers as variables takes `_` for `-`.
    let name = name.replace('_', "-");
    REFUSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || REFUSED.contains(&name.as_str())
}

/// Adds what the host sets: who asks, in which trace, what it can undo, and for a write that has no key of the guest's own
/// the one of this write.
///
/// # Errors
/// `invalid.header` where a mark is no header text.
pub(super) fn complete(mut headers: HeaderMap, method: Method, marks: Marks<'_>) -> Result<HeaderMap, Refusal> {
    headers.remove(header::CONTENT_LENGTH);
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
    headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    // A part of a coded body cannot be decoded.
    let accepted = if headers.contains_key(header::RANGE) { "identity" } else { ACCEPTED };
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accepted));
    let value = |name: HeaderName, text: &str| {
        HeaderValue::from_str(text).map_err(|_| Refusal::header(format!("header `{name}`")))
    };
    if let Some(key) = marks.key.filter(|_| !method.is_read()) {
        headers.entry(IDEMPOTENCY_KEY).or_insert(value(IDEMPOTENCY_KEY, key)?);
    }
    if let Some(traceparent) = marks.traceparent {
        headers.insert(TRACEPARENT, value(TRACEPARENT, traceparent)?);
    }
    Ok(headers)
}

/// Removes from an answer what is not the guest's, and what no longer holds for a body that was decoded.
pub(super) fn clean(headers: &mut HeaderMap, is_decoded: bool) {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    for name in named.iter().map(String::as_str).chain(DROPPED.iter().copied()) {
        headers.remove(name);
    }
    if is_decoded {
        headers.remove(header::CONTENT_ENCODING);
        headers.remove(header::CONTENT_LENGTH);
    }
}

/// Returns the bytes of `headers` on the wire of HTTP/1.1.
pub(super) fn bytes(headers: &HeaderMap) -> u64 {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum();
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Takes secrets out of an answer's head.
pub(super) fn scrub(headers: &mut HeaderMap, secrets: &Granted) {
    if secrets.is_empty() {
        return;
    }
    // A mark has another length than what it stands for.
    headers.remove(header::CONTENT_LENGTH);
    let is_secret = |name: &HeaderName| secrets.contained(name.as_str().as_bytes()).is_some();
    let named: Vec<HeaderName> = headers.keys().filter(|name| is_secret(name)).cloned().collect();
    for name in named {
        headers.remove(name);
    }
    for value in headers.values_mut() {
        if secrets.contained(value.as_bytes()).is_some() {
            let clean = secrets.scrubber().whole(value.as_bytes());
            *value = HeaderValue::from_bytes(&clean).unwrap_or(HeaderValue::from_static("[secret]"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&'static str, &'static str)]) -> HeaderMap {
        entries.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    const KEY: Marks<'_> = Marks { key: Some("k"), traceparent: None };

    #[test]
    fn what_frames_a_message_or_says_who_asks_is_not_a_guests_to_set() {
        for name in [
            "host",
            "cookie",
            "authorization",
            "proxy-authorization",
            "transfer-encoding",
            "te",
            "sec-fetch-mode",
            "x-http-method-override",
            "x_http_method_override",
            "x-forwarded-prefix",
            "traceparent",
            "tracestate",
        ] {
            let refusal = check(&map(&[(name, "x")])).unwrap_err();
            assert_eq!((refusal.code, refusal.about), (Some("invalid.header"), format!("header `{name}`")));
        }
        assert!(check(&map(&[("accept", "text/html"), ("x-request-id", "7"), ("user-agent", "mine")])).is_ok());
        let many = (0..=REQUEST_HEADERS_MAX)
            .map(|n| (HeaderName::try_from(format!("x-{n}")).unwrap(), HeaderValue::from_static("")));
        assert!(check(&many.collect()).is_err());
    }

    #[test]
    fn the_host_completes_a_head() {
        let headers = complete(map(&[("content-length", "3")]), Method::Post, KEY).unwrap();
        assert_eq!(headers["idempotency-key"], "k");
        let own = complete(map(&[("idempotency-key", "mine")]), Method::Post, KEY).unwrap();
        assert_eq!(own.get_all("idempotency-key").iter().collect::<Vec<_>>(), ["mine"], "the guest's own stays");
        assert_eq!(headers["accept-encoding"], "gzip, deflate, br");
        assert!(headers["user-agent"].to_str().unwrap().starts_with("cofferdam/"));
        assert!(!headers.contains_key("content-length"), "the body knows its own");
        let headers = complete(map(&[("range", "bytes=0-9"), ("user-agent", "mine")]), Method::Get, KEY).unwrap();
        assert_eq!(
            (&headers["accept-encoding"], &headers["user-agent"]),
            (&"identity".parse().unwrap(), &"mine".parse().unwrap())
        );
        assert!(!headers.contains_key("idempotency-key"), "a read needs none");
        assert!(!headers.contains_key("traceparent"), "nobody follows it");
        let traced = Marks { key: None, traceparent: Some("00-a-b-01") };
        assert_eq!(complete(HeaderMap::new(), Method::Get, traced).unwrap()["traceparent"], "00-a-b-01");
    }

    #[test]
    fn an_answer_loses_what_is_not_the_guests() {
        let mut headers = map(&[
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("set-cookie", "a=b"),
            ("content-encoding", "gzip"),
            ("content-length", "9"),
            ("etag", "e"),
        ]);
        clean(&mut headers, true);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["etag"]);
    }
}
