//! What came of a request, for whoever decides what happens next: did the server fail, when does it want to be asked, and
//! does its answer tell whether what was asked for was done?
//!
//! Promises: the one place that reads an answer so, as it comes and from its record alike.

use http::StatusCode;
use http::header::{HeaderMap, RETRY_AFTER};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

use crate::domain::{Kind, Timestamp, UpstreamEnd, retry_after_ms};

/// How a request ended, and whether it is known what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestEnd {
    pub(super) upstream: UpstreamEnd,
    /// Whether a write that ended so was done, or was not: one of which this is false may have been either.
    pub(super) is_told: bool,
}

/// How a request was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// Redirects that were followed. One that leads on from a write was the answer to it, as only `303` does.
    pub(super) hops: u64,
    /// Whether its server takes its key once: then it may be sent again to learn what became of it, and any answer counts.
    pub(super) is_keyed: bool,
}

/// Reads an answer that was read to its end, or broke off.
pub(super) fn of_answer(
    sent: Sent,
    head: Result<(StatusCode, &HeaderMap), &ErrorCode>,
    cut: Option<&ErrorCode>,
    now: Timestamp,
) -> RequestEnd {
    let tells = |status| sent.is_keyed || tells(status);
    let (upstream, is_told) = match (head, cut) {
        (Err(error), _) => (of_error(error), is_before(error)),
        (Ok((status, _)), Some(error)) => (of_error(error), tells(status) && !is_cut_by_network(error)),
        (Ok((status, headers)), None) => (of_head(status, headers, now), tells(status)),
    };
    RequestEnd { upstream, is_told: is_told || sent.hops > 0 }
}

/// Whether the status of an answer tells if the request was carried out. The server that answers `2xx`, `3xx` or `4xx` knows:
/// also with `408`, `409`, `425` and `429`, which say that it did not (RFC 9110, sections 15.5.9 and 15.5.10; RFC 8470,
/// section 5.2; RFC 6585, section 4). Of `5xx` these say that it was not: `501` and `505`, which do not support the request,
/// `503`, which is not ready to handle it (RFC 9110, sections 15.6.2, 15.6.6 and 15.6.4), `508`, which gave up as a whole
/// (RFC 5842, section 7.2), and `511`, which did not let it through (RFC 6585, section 6). Any other, `500`, `502` and `504`
/// above all (RFC 9110, sections 15.6.1, 15.6.3 and 15.6.5), may come from a gateway whose server did it, or from a server
/// that failed after it had.
fn tells(status: StatusCode) -> bool {
    !status.is_informational() && (status.as_u16() < 500 || matches!(status.as_u16(), 501 | 503 | 505 | 508 | 511))
}

/// Whether a request that ended so never reached its server: the host refused it, or no connection came about.
fn is_before(error: &ErrorCode) -> bool {
    use ErrorCode as E;
    matches!(
        error,
        E::DnsError(_)
            | E::DnsTimeout
            | E::ConnectionRefused
            | E::DestinationUnavailable
            | E::DestinationNotFound
            | E::DestinationIpUnroutable
            | E::DestinationIpProhibited
            | E::ConnectionLimitReached
            | E::TlsCertificateError
            | E::TlsProtocolError
            | E::HttpRequestDenied
            | E::HttpRequestMethodInvalid
            | E::HttpRequestUriInvalid
            | E::HttpRequestUriTooLong
            | E::HttpRequestHeaderSectionSize(_)
    )
}

/// Whether an answer broke off on its way. What the host cut off itself had come.
pub(super) fn is_cut_by_network(error: &ErrorCode) -> bool {
    failure(error).is_some_and(|kind| !kind.is_told())
}

/// Reads the head of an answer.
pub(super) fn of_head(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> UpstreamEnd {
    let failure = match status.as_u16() {
        429 => Some(Kind::NetworkRateLimited),
        400..=499 => Some(Kind::NetworkHttp4xx),
        500..=599 => Some(Kind::NetworkHttp5xx),
        _ => None,
    };
    let text = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    UpstreamEnd { failure, retry_after_ms: failure.and(text).and_then(|text| retry_after_ms(text, now)) }
}

/// Tells what an error says of the server. What the host refused says nothing of it.
pub(super) fn of_error(error: &ErrorCode) -> UpstreamEnd {
    UpstreamEnd { failure: failure(error), retry_after_ms: None }
}

fn failure(error: &ErrorCode) -> Option<Kind> {
    Some(match error {
        ErrorCode::DnsError(_) | ErrorCode::DnsTimeout => Kind::NetworkDns,
        ErrorCode::ConnectionRefused
        | ErrorCode::DestinationUnavailable
        | ErrorCode::DestinationNotFound
        | ErrorCode::DestinationIpUnroutable => Kind::NetworkConnect,
        ErrorCode::TlsCertificateError | ErrorCode::TlsProtocolError | ErrorCode::TlsAlertReceived(_) => {
            Kind::NetworkTls
        }
        ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => Kind::NetworkTimeout,
        ErrorCode::ConnectionTerminated | ErrorCode::HttpResponseIncomplete | ErrorCode::HttpProtocolError => {
            Kind::NetworkCut
        }
        // An answer that nobody can read.
        ErrorCode::HttpResponseContentCoding(_) | ErrorCode::HttpResponseTransferCoding(_) => Kind::NetworkHttp5xx,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RETRY_AFTER_MS_MAX;

    fn told(status: u16, retry_after: Option<&str>) -> (Option<Kind>, Option<u64>) {
        let headers = retry_after.map(|text| (RETRY_AFTER, text.parse().unwrap())).into_iter().collect();
        let end = of_head(StatusCode::from_u16(status).unwrap(), &headers, Timestamp(784_111_777_000 - 90_000));
        (end.failure, end.retry_after_ms)
    }

    #[test]
    fn a_status_tells_whether_the_server_failed_and_when_to_ask_again() {
        assert_eq!(told(200, Some("3")), (None, None));
        assert_eq!(told(429, Some("3")), (Some(Kind::NetworkRateLimited), Some(3_000)));
        assert_eq!(told(404, None), (Some(Kind::NetworkHttp4xx), None));
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(told(503, date), (Some(Kind::NetworkHttp5xx), Some(90_000)));
        assert_eq!(told(503, Some("soon")), (Some(Kind::NetworkHttp5xx), None));
        assert_eq!(told(503, Some("99999999999999")).1, Some(RETRY_AFTER_MS_MAX));
        assert_eq!(told(503, Some("Sun, 06 Nov 1993 08:49:37 GMT")).1, Some(0), "it is over");
    }

    #[test]
    fn a_status_tells_whether_the_request_was_carried_out() {
        let told = |sent: Sent, status: u16, cut: Option<&ErrorCode>| {
            let (status, headers) = (StatusCode::from_u16(status).unwrap(), HeaderMap::new());
            of_answer(sent, Ok((status, &headers)), cut, Timestamp(0)).is_told
        };
        let is_told = |status, cut: Option<&ErrorCode>, hops| told(Sent { hops, is_keyed: false }, status, cut);
        let is_told_with_key = |status, cut: Option<&ErrorCode>| told(Sent { hops: 0, is_keyed: true }, status, cut);
        for status in [200, 201, 204, 303, 400, 402, 408, 409, 422, 425, 429, 451, 501, 503, 505, 508, 511] {
            assert!(is_told(status, None, 0), "{status}");
            assert!(!is_told(status, Some(&ErrorCode::HttpResponseIncomplete), 0), "{status}: the rest did not come");
            assert!(
                is_told(status, Some(&ErrorCode::HttpResponseBodySize(None)), 0),
                "{status}: the host wants no more"
            );
        }
        for status in [101, 500, 502, 504, 506, 507, 510, 520, 522, 524, 529, 598, 599, 600, 999] {
            assert!(!is_told(status, None, 0), "{status}");
            assert!(!is_told(status, Some(&ErrorCode::HttpResponseBodySize(None)), 0), "{status}");
            assert!(is_told_with_key(status, None), "{status}: it may be asked again");
            assert!(!is_told_with_key(status, Some(&ErrorCode::HttpResponseIncomplete)), "{status}: it was not heard");
            assert!(is_told(status, None, 1), "{status}: the answer to the write was the redirect to here");
        }
    }

    #[test]
    fn an_error_tells_where_nothing_has_left_the_host() {
        let sent = Sent { hops: 0, is_keyed: true };
        let is_told = |error: &ErrorCode| of_answer(sent, Err(error), None, Timestamp(0)).is_told;
        for error in [ErrorCode::ConnectionRefused, ErrorCode::DnsTimeout, ErrorCode::TlsCertificateError] {
            assert!(is_told(&error), "{error:?}");
        }
        for error in [
            ErrorCode::HttpResponseTimeout,
            ErrorCode::ConnectionTerminated,
            ErrorCode::HttpResponseIncomplete,
            ErrorCode::HttpProtocolError,
            ErrorCode::HttpUpgradeFailed,
            ErrorCode::HttpResponseHeaderSectionSize(None),
            ErrorCode::HttpResponseContentCoding(None),
            ErrorCode::InternalError(None),
        ] {
            assert!(!is_told(&error), "{error:?}");
        }
    }

    #[test]
    fn what_the_host_refuses_says_nothing_of_the_server() {
        for error in [ErrorCode::HttpRequestDenied, ErrorCode::LoopDetected, ErrorCode::HttpResponseBodySize(None)] {
            assert_eq!(of_error(&error).failure, None);
        }
        assert_eq!(of_error(&ErrorCode::TlsCertificateError).failure, Some(Kind::NetworkTls));
        assert_eq!(of_error(&ErrorCode::HttpResponseIncomplete).failure, Some(Kind::NetworkCut));
    }
}
