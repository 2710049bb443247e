//! Why a request or its answer goes no further: what the guest is told, and what the receipt says.

use std::fmt;

use wasmtime_wasi_http::p2::bindings::http::types::{DnsErrorPayload, ErrorCode};

use super::error_json;
use crate::sandbox::secrets;

/// A request that goes no further. It travels as an error through the client, whose own errors hold it as their cause.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// What the guest gets.
    pub(super) error: ErrorCode,
    /// The code of the denial, where the host refused. Without one the network failed.
    pub(super) code: Option<&'static str>,
    /// What it was about, beside method and URL.
    pub(super) about: String,
}

impl Refusal {
    /// The host refuses: noted under `code`.
    pub(super) fn denied(code: &'static str, error: ErrorCode, about: impl Into<String>) -> Self {
        Self { error, code: Some(code), about: about.into() }
    }

    /// The network failed.
    pub(super) fn failed(error: ErrorCode) -> Self {
        Self { error, code: None, about: String::new() }
    }

    /// No rule allows it.
    pub(super) fn not_allowed(about: impl Into<String>) -> Self {
        Self::denied("denied.net", ErrorCode::HttpRequestDenied, about)
    }

    /// A header that a guest does not set.
    pub(super) fn header(about: impl Into<String>) -> Self {
        Self::denied("invalid.header", ErrorCode::HttpRequestDenied, about)
    }

    /// A secret that may not go there.
    pub(super) fn secret(about: impl Into<String>) -> Self {
        Self::denied("denied.secret", ErrorCode::HttpRequestDenied, about)
    }

    /// What the injection of secrets refused.
    pub(super) fn of_secret(refusal: secrets::Refusal) -> Self {
        Self::denied(refusal.code, ErrorCode::HttpRequestDenied, refusal.what)
    }

    /// The name has no address.
    pub(super) fn unresolved(why: &str) -> Self {
        Self::failed(ErrorCode::DnsError(DnsErrorPayload { rcode: Some(why.to_owned()), info_code: None }))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.error, self.about)
    }
}

impl std::error::Error for Refusal {}

/// Returns the guest's error for a failure of the client: our own refusal where it is the cause.
pub(super) fn of_client(error: &reqwest::Error) -> Refusal {
    if let Some(refusal) = cause::<Refusal>(error) {
        return refusal.clone();
    }
    // Whether anything of the request can have left.
    let is_before = error.is_connect();
    if let Some(error) = cause::<rustls::Error>(error) {
        return of_tls(error, is_before);
    }
    if let Some(refusal) = cause::<hyper::Error>(error).and_then(of_hyper) {
        return refusal;
    }
    if let Some(refusal) = cause::<std::io::Error>(error).and_then(|error| of_io(error, is_before)) {
        return refusal;
    }
    Refusal::failed(match error {
        error if error.is_timeout() => ErrorCode::ConnectionTimeout,
        error if error.is_connect() => ErrorCode::DestinationUnavailable,
        _ => ErrorCode::HttpProtocolError,
    })
}

/// Finds the innermost error of this type among the causes. What an `io::Error` wraps is a cause too, which `source` of
/// the standard library passes over.
fn cause<E: std::error::Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    let mut found = None;
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        found = error.downcast_ref::<E>().or(found);
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    found
}

fn of_tls(error: &rustls::Error, is_before: bool) -> Refusal {
    Refusal::failed(match error {
        _ if !is_before => ErrorCode::TlsAlertReceived(error_json::NO_ALERT),
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => ErrorCode::TlsCertificateError,
        _ => ErrorCode::TlsProtocolError,
    })
}

fn of_hyper(error: &hyper::Error) -> Option<Refusal> {
    if error.is_parse_too_large() {
        let error = ErrorCode::HttpResponseHeaderSectionSize(None);
        return Some(Refusal::denied("limit.response", error, "the head of the answer"));
    }
    error.is_incomplete_message().then(|| Refusal::failed(ErrorCode::HttpResponseIncomplete))
}

fn of_io(error: &std::io::Error, is_before: bool) -> Option<Refusal> {
    use std::io::ErrorKind;
    let code = match error.kind() {
        ErrorKind::ConnectionRefused => ErrorCode::ConnectionRefused,
        ErrorKind::TimedOut => ErrorCode::ConnectionTimeout,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
            ErrorCode::ConnectionTerminated
        }
        ErrorKind::UnexpectedEof => ErrorCode::HttpResponseIncomplete,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable if is_before => ErrorCode::DestinationUnavailable,
        // So the kernel ends a connection that was there.
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => ErrorCode::ConnectionTerminated,
        _ => return None,
    };
    Some(Refusal::failed(code))
}
