//! Errors of `wasi:http` as records keep them: by the names of the interface.

use serde_json::json;
use wasmtime_wasi_http::p2::bindings::http::types::{DnsErrorPayload, ErrorCode, TlsAlertReceivedPayload};

use crate::domain::Json;

/// An alert of which nothing is told.
pub(super) const NO_ALERT: TlsAlertReceivedPayload = TlsAlertReceivedPayload { alert_id: None, alert_message: None };

macro_rules! errors {
    ({ $($plain:ident $plain_name:literal,)* } sized { $($sized:ident $sized_name:literal,)* }) => {
        /// Writes an error. Of what goes with it a record keeps why a name did not resolve, and sizes.
        pub(super) fn write(error: &ErrorCode) -> Json {
            match error {
                ErrorCode::DnsError(payload) => json!({"code": "DNS-error", "rcode": payload.rcode}),
                $(ErrorCode::$plain => json!({"code": $plain_name}),)*
                $(ErrorCode::$sized(bytes) => json!({"code": $sized_name, "bytes": bytes}),)*
                ErrorCode::TlsAlertReceived(_) => json!({"code": "TLS-alert-received"}),
                ErrorCode::HttpResponseContentCoding(_) => json!({"code": "HTTP-response-content-coding"}),
                ErrorCode::HttpResponseTransferCoding(_) => json!({"code": "HTTP-response-transfer-coding"}),
                _ => json!({"code": "internal-error"}),
            }
        }

        /// Reads what [`write`] wrote.
        pub(super) fn read(value: &Json) -> Option<ErrorCode> {
            let bytes = value.get("bytes").and_then(Json::as_u64);
            Some(match value.get("code")?.as_str()? {
                "DNS-error" => {
                    let rcode = value.get("rcode").and_then(Json::as_str).map(str::to_owned);
                    ErrorCode::DnsError(DnsErrorPayload { rcode, info_code: None })
                }
                $($plain_name => ErrorCode::$plain,)*
                $($sized_name => ErrorCode::$sized(bytes.and_then(|bytes| bytes.try_into().ok())),)*
                "TLS-alert-received" => ErrorCode::TlsAlertReceived(NO_ALERT),
                "HTTP-response-content-coding" => ErrorCode::HttpResponseContentCoding(None),
                "HTTP-response-transfer-coding" => ErrorCode::HttpResponseTransferCoding(None),
                "internal-error" => ErrorCode::InternalError(None),
                _ => return None,
            })
        }

        #[cfg(test)]
        const ALL: &[ErrorCode] = &[$(ErrorCode::$plain,)* $(ErrorCode::$sized(None), ErrorCode::$sized(Some(7)),)*];
    };
}

errors! {
    {
    DnsTimeout "DNS-timeout",
    DestinationNotFound "destination-not-found",
    DestinationUnavailable "destination-unavailable",
    DestinationIpProhibited "destination-IP-prohibited",
    DestinationIpUnroutable "destination-IP-unroutable",
    ConnectionRefused "connection-refused",
    ConnectionTerminated "connection-terminated",
    ConnectionTimeout "connection-timeout",
    ConnectionReadTimeout "connection-read-timeout",
    ConnectionWriteTimeout "connection-write-timeout",
    ConnectionLimitReached "connection-limit-reached",
    TlsProtocolError "TLS-protocol-error",
    TlsCertificateError "TLS-certificate-error",
    HttpRequestDenied "HTTP-request-denied",
    HttpRequestLengthRequired "HTTP-request-length-required",
    HttpRequestMethodInvalid "HTTP-request-method-invalid",
    HttpRequestUriInvalid "HTTP-request-URI-invalid",
    HttpRequestUriTooLong "HTTP-request-URI-too-long",
    HttpResponseIncomplete "HTTP-response-incomplete",
    HttpResponseTimeout "HTTP-response-timeout",
    HttpUpgradeFailed "HTTP-upgrade-failed",
    HttpProtocolError "HTTP-protocol-error",
    LoopDetected "loop-detected",
    ConfigurationError "configuration-error",
    }
    sized {
    HttpRequestBodySize "HTTP-request-body-size",
    HttpRequestHeaderSectionSize "HTTP-request-header-section-size",
    HttpResponseHeaderSectionSize "HTTP-response-header-section-size",
    HttpResponseBodySize "HTTP-response-body-size",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_back_what_it_writes() {
        let dns = ErrorCode::DnsError(DnsErrorPayload { rcode: Some("NXDOMAIN".into()), info_code: None });
        for error in ALL.iter().chain([&dns, &ErrorCode::InternalError(None), &ErrorCode::TlsAlertReceived(NO_ALERT)]) {
            let read = read(&write(error)).unwrap();
            assert_eq!(format!("{read:?}"), format!("{error:?}"));
        }
        assert!(read(&json!({"code": "no-such-code"})).is_none());
    }
}
