//! A request by way of `wasi:http`.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, HeaderError, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    Scheme,
};
use wasip2::io::streams::StreamError;

use super::{Request, Response};
use crate::ToolError;

/// Bytes of one write: as many as a stream always takes.
const WRITE_BYTES: usize = 4096;

/// Bytes of one read.
const READ_BYTES: u64 = 64 << 10;

pub(super) fn send(request: &Request) -> Result<Response, ToolError> {
    let outgoing = outgoing(request)?;
    let body = if request.body.is_empty() { None } else { outgoing.body().ok() };
    let future = handle(outgoing, None).map_err(failed)?;
    let written = body.map_or(Ok(()), |body| write(body, &request.body));
    // Where the host cut the body, the answer tells why.
    let response = answer(&future)?;
    written?;
    let headers = response.headers().entries();
    let headers =
        headers.into_iter().map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned())).collect();
    Ok(Response { status: response.status(), headers, body: read(&response)? })
}

fn outgoing(request: &Request) -> Result<OutgoingRequest, ToolError> {
    let (scheme, authority, path) = parts(&request.url).ok_or_else(url)?;
    let outgoing = OutgoingRequest::new(fields(request)?);
    let set = outgoing
        .set_method(&method(&request.method))
        .and_then(|()| outgoing.set_scheme(Some(&scheme)))
        .and_then(|()| outgoing.set_authority(Some(authority)))
        .and_then(|()| outgoing.set_path_with_query(Some(path)));
    set.map_err(|()| url())?;
    Ok(outgoing)
}

fn url() -> ToolError {
    ToolError::new("http.url", "the URL or the method cannot be sent: it is like `https://api.example.com/v1`")
}

/// Splits a URL. Whether it is one is for the host to say.
fn parts(url: &str) -> Option<(Scheme, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        other => Scheme::Other(other.to_owned()),
    };
    Some((scheme, authority, if path.is_empty() { "/" } else { path }))
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        "CONNECT" => Method::Connect,
        "TRACE" => Method::Trace,
        other => Method::Other(other.to_owned()),
    }
}

fn fields(request: &Request) -> Result<Fields, ToolError> {
    let mut entries: Vec<(String, Vec<u8>)> =
        request.headers.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect();
    if !request.body.is_empty() {
        entries.push(("content-length".to_owned(), request.body.len().to_string().into_bytes()));
    }
    let wrong = |what| ToolError::new("http.header", what);
    Fields::from_list(&entries).map_err(|error| match error {
        HeaderError::InvalidSyntax => wrong("a header is not one"),
        HeaderError::Forbidden => wrong("a header is the host's to set"),
        HeaderError::Immutable => wrong("a header cannot be set"),
    })
}

fn write(body: OutgoingBody, bytes: &[u8]) -> Result<(), ToolError> {
    let cut = || ToolError::transient("http.failed", "the body was not taken to its end");
    let stream = body.write().map_err(|()| cut())?;
    for chunk in bytes.chunks(WRITE_BYTES) {
        stream.blocking_write_and_flush(chunk).map_err(|_| cut())?;
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(failed)
}

fn answer(future: &FutureIncomingResponse) -> Result<IncomingResponse, ToolError> {
    loop {
        match future.get() {
            Some(Ok(answer)) => return answer.map_err(failed),
            Some(Err(())) => return Err(ToolError::new("http.failed", "the answer was taken already")),
            None => future.subscribe().block(),
        }
    }
}

fn read(response: &IncomingResponse) -> Result<Vec<u8>, ToolError> {
    let broken = || ToolError::transient("http.failed", "the answer has no body");
    let body = response.consume().map_err(|()| broken())?;
    let stream = body.stream().map_err(|()| broken())?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(error)) => return Err(stopped(&error.to_debug_string())),
        }
    }
}

/// A stream tells only in words why it broke off.
fn stopped(why: &str) -> ToolError {
    if why.contains("response body size exceeds limit") {
        return ToolError::new("http.too_large", "the answer is longer than this call may read");
    }
    ToolError::transient("http.failed", format!("the answer broke off: {why}"))
}

fn failed(error: ErrorCode) -> ToolError {
    let (lasting, passing) = (ToolError::new, ToolError::transient);
    match error {
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited | ErrorCode::LoopDetected => {
            lasting("http.denied", format!("the host refuses it: {error}"))
        }
        ErrorCode::HttpRequestBodySize(_) => lasting("http.denied", "it sends more than this call may".to_owned()),
        ErrorCode::HttpRequestUriInvalid | ErrorCode::HttpRequestUriTooLong | ErrorCode::HttpRequestMethodInvalid => {
            lasting("http.url", format!("{error}"))
        }
        ErrorCode::HttpRequestHeaderSectionSize(_) | ErrorCode::HttpRequestHeaderSize(_) => {
            lasting("http.header", format!("{error}"))
        }
        ErrorCode::HttpResponseHeaderSectionSize(_) | ErrorCode::HttpResponseBodySize(_) => {
            lasting("http.too_large", format!("{error}"))
        }
        ErrorCode::DnsError(_) | ErrorCode::DnsTimeout => passing("http.dns", format!("{error}")),
        ErrorCode::TlsCertificateError | ErrorCode::TlsProtocolError => lasting("http.tls", format!("{error}")),
        ErrorCode::ConnectionTimeout | ErrorCode::ConnectionReadTimeout | ErrorCode::HttpResponseTimeout => {
            passing("http.timeout", format!("{error}"))
        }
        ErrorCode::ConnectionRefused | ErrorCode::ConnectionTerminated | ErrorCode::DestinationUnavailable => {
            passing("http.connect", format!("{error}"))
        }
        other => passing("http.failed", format!("{other}")),
    }
}
