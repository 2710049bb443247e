//! What a guest asks to be sent, read from its handle: one URL with one reading, a method, headers, a body.

use std::time::Duration;

use http::header::{CONTENT_LENGTH, HeaderMap};
use wasmtime_wasi_http::RequestOptions;
use wasmtime_wasi_http::p2::bindings::http::types::{self, ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::p2::types::HostOutgoingRequest;

use super::headers;
use super::refusal::Refusal;
use crate::domain::{Method, URL_BYTES_MAX, WebUrl, printable};

/// A request as a guest asks for it. Not allowed yet.
pub(super) struct Asked {
    pub(super) url: WebUrl,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<(HyperOutgoingBody, Option<u64>)>,
    pub(super) waits: Waits,
}

/// How long the guest wants to wait. The call's own deadline holds besides.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waits {
    /// For the head of the answer.
    pub(super) head: Option<Duration>,
    /// For the next bytes of its body.
    pub(super) bytes: Option<Duration>,
}

impl Asked {
    /// Reads `request`.
    ///
    /// # Errors
    /// A URL that has no single reading, a method that is not sent, a header that is not the guest's to set.
    pub(super) fn read(request: HostOutgoingRequest, options: Option<RequestOptions>) -> Result<Self, Refusal> {
        let method = method(&request.method)?;
        let url = url(&request)?;
        let headers: HeaderMap = request.headers.into();
        headers::check(&headers)?;
        let length = content_length(&headers)?;
        if request.body.is_none() && length.is_some_and(|length| length > 0) {
            return Err(Refusal::header("header `content-length` without a body"));
        }
        let body = request.body.map(|body| (body, length));
        Ok(Self { url, method, headers, body, waits: options.map(waits).unwrap_or_default() })
    }
}

/// Returns method and place of a request for the receipt, as the guest wrote them, where it could not be read.
pub(super) fn written(request: &HostOutgoingRequest) -> String {
    let authority = request.authority.as_deref().unwrap_or_default();
    let path = request.path_with_query.as_deref().unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    printable(&format!("{} {}://{authority}{path}", http_method(&request.method), scheme(request.scheme.as_ref())))
}

fn method(method: &types::Method) -> Result<Method, Refusal> {
    Ok(match method {
        types::Method::Get => Method::Get,
        types::Method::Head => Method::Head,
        types::Method::Options => Method::Options,
        types::Method::Post => Method::Post,
        types::Method::Put => Method::Put,
        types::Method::Patch => Method::Patch,
        types::Method::Delete => Method::Delete,
        // The first opens a tunnel, the second shows what others added, and the rest nobody here knows.
        types::Method::Connect | types::Method::Trace | types::Method::Other(_) => {
            return Err(Refusal::denied("denied.net", ErrorCode::HttpRequestMethodInvalid, "the method is not sent"));
        }
    })
}

fn http_method(method: &types::Method) -> String {
    match method {
        types::Method::Other(other) => other.clone(),
        known => format!("{known:?}").trim_start_matches("Method::").to_ascii_uppercase(),
    }
}

fn scheme(scheme: Option<&Scheme>) -> &str {
    match scheme {
        None | Some(Scheme::Https) => "https",
        Some(Scheme::Http) => "http",
        Some(Scheme::Other(other)) => other,
    }
}

/// Joins the parts, none of which may reach into the next.
fn url(request: &HostOutgoingRequest) -> Result<WebUrl, Refusal> {
    let invalid = |error, about: &str| Refusal::denied("invalid.url", error, about);
    let authority = request.authority.as_deref().unwrap_or_default();
    let path = request.path_with_query.as_deref().unwrap_or("/");
    if authority.is_empty() || authority.contains(['/', '?', '#', '\\', '@']) {
        return Err(invalid(ErrorCode::HttpRequestUriInvalid, "the authority is not a host with or without a port"));
    }
    if !(path.is_empty() || path.starts_with(['/', '?'])) || path.contains('#') {
        return Err(invalid(ErrorCode::HttpRequestUriInvalid, "the path is not one"));
    }
    let text = format!("{}://{authority}{path}", scheme(request.scheme.as_ref()));
    if text.len() > URL_BYTES_MAX {
        return Err(invalid(ErrorCode::HttpRequestUriTooLong, "the URL is too long"));
    }
    text.parse().map_err(|e: String| Refusal::not_allowed(e))
}

/// One number, in digits: two would let a server and what stands before it disagree about where a message ends.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let wrong = || Refusal::header("header `content-length`");
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().map_err(|_| wrong())?;
    if values.next().is_some() || text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    text.parse().map(Some).map_err(|_| wrong())
}

fn waits(options: RequestOptions) -> Waits {
    // Connecting is part of waiting for the head; the client's own bound on connecting holds besides.
    let head = options.first_byte_timeout.map(|head| head.saturating_add(options.connect_timeout.unwrap_or_default()));
    Waits { head, bytes: options.between_bytes_timeout }
}
