//! A whole answer, as a record keeps it and a guest gets it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec::IntoIter;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use serde_json::json;
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p2::body::HyperIncomingBody;

use super::error_json;
use super::quota::Held;
use super::response_body::ResponseBody;
use crate::domain::{Digest, Json, Kind};
use crate::sandbox::journal::{octets, read_octets};

/// What came of a request, read to its end.
pub(super) struct Answer {
    pub(super) head: Result<(StatusCode, HeaderMap), ErrorCode>,
    pub(super) body: Bytes,
    /// Why the body breaks off here.
    pub(super) cut: Option<ErrorCode>,
    /// Requests that redirects led to.
    pub(super) hops: u64,
    /// Bytes that left the host for it, beside its own head.
    pub(super) egress_bytes: u64,
    /// Why it was not asked for, where whoever drives the call knows the server to be down.
    pub(super) withheld: Option<Kind>,
    /// Its bytes among those that the call holds.
    pub(super) held: Option<Held>,
}

impl Answer {
    /// An error in place of an answer.
    pub(super) fn failed(error: ErrorCode) -> Self {
        Self { head: Err(error), body: Bytes::new(), cut: None, hops: 0, egress_bytes: 0, withheld: None, held: None }
    }

    /// Reads an answer to its end, or until it breaks off.
    pub(super) async fn read(answer: Response<ResponseBody>, mut held: Held) -> Self {
        let (head, body) = answer.into_parts();
        let (mut body, mut bytes, mut cut) = (Box::pin(body), Vec::new(), None);
        while let Some(frame) = body.frame().await {
            let taken = frame.map(|frame| frame.into_data().unwrap_or_default()).and_then(|data| {
                held.take(data.len() as u64).map_err(|refusal| body.as_ref().get_ref().refuse(refusal))?;
                bytes.extend_from_slice(&data);
                Ok(())
            });
            if let Err(error) = taken {
                cut = Some(error);
                break;
            }
        }
        Self {
            head: Ok((head.status, head.headers)),
            body: bytes.into(),
            cut,
            hops: 0,
            egress_bytes: 0,
            withheld: None,
            held: Some(held),
        }
    }

    /// Writes it for a record.
    pub(super) fn write(&self) -> Json {
        match &self.head {
            Err(error) => {
                json!({"error": error_json::write(error), "hops": self.hops, "egress_bytes": self.egress_bytes})
            }
            Ok((status, headers)) => {
                let headers: Vec<Json> =
                    headers.iter().map(|(name, value)| json!([name.as_str(), octets(value.as_bytes())])).collect();
                json!({
                    "status": status.as_u16(), "headers": headers, "body": octets(&self.body),
                    "cut": self.cut.as_ref().map(error_json::write), "hops": self.hops,
                    "egress_bytes": self.egress_bytes,
                })
            }
        }
    }

    /// Reads what [`Answer::write`] wrote.
    pub(super) fn from_record(value: &Json) -> Option<Self> {
        let (hops, egress_bytes) = (value.get("hops")?.as_u64()?, value.get("egress_bytes")?.as_u64()?);
        if let Some(error) = value.get("error") {
            return Some(Self { hops, egress_bytes, ..Self::failed(error_json::read(error)?) });
        }
        let status = StatusCode::from_u16(value.get("status")?.as_u64()?.try_into().ok()?).ok()?;
        let headers = value.get("headers")?.as_array()?.iter().map(header).collect::<Option<HeaderMap>>()?;
        let body = read_octets(value.get("body")?)?.into();
        let cut = match value.get("cut")? {
            Json::Null => None,
            error => Some(error_json::read(error)?),
        };
        Some(Self { head: Ok((status, headers)), body, cut, hops, egress_bytes, withheld: None, held: None })
    }

    /// Returns the digest by which a large answer is known again: of its status and its body. Headers tell the time.
    pub(super) fn digest(&self) -> Digest {
        let status = self.head.as_ref().map_or(0, |(status, _)| status.as_u16());
        let cut = self.cut.as_ref().map(error_json::write);
        Digest::of_json(&json!([status, Digest::of(&self.body), cut]))
    }

    /// Returns it as the guest's handle wants it. What of an error a record does not keep, the guest does not get either.
    pub(super) fn given(self) -> Result<Response<HyperIncomingBody>, ErrorCode> {
        let kept =
            |error: &ErrorCode| error_json::read(&error_json::write(error)).unwrap_or(ErrorCode::InternalError(None));
        let (status, headers) = self.head.map_err(|error| kept(&error))?;
        let cut = self.cut.map(|error| Err(Error::from(kept(&error))));
        let data = (!self.body.is_empty()).then(|| Ok(Frame::data(self.body)));
        let frames = Frames { left: data.into_iter().chain(cut).collect::<Vec<_>>().into_iter(), _held: self.held };
        let mut answer = Response::new(frames.boxed_unsync());
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}

/// A body that is there as a whole.
struct Frames {
    left: IntoIter<Result<Frame<Bytes>, Error>>,
    _held: Option<Held>,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready(self.left.next())
    }
}

fn header(entry: &Json) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(entry.get(0)?.as_str()?.as_bytes()).ok()?;
    Some((name, HeaderValue::from_bytes(&read_octets(entry.get(1)?)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(answer: &Answer) -> Answer {
        Answer::from_record(&answer.write()).unwrap()
    }

    #[test]
    fn an_answer_reads_back_what_it_writes() {
        for body in [&b""[..], b"plain text", &[0, 159, 146, 150]] {
            let headers = [("a", &b"1"[..]), ("a", b"2"), ("b", &[0xe4])];
            let headers: HeaderMap = headers
                .into_iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap()))
                .collect();
            let answer = Answer {
                head: Ok((StatusCode::CREATED, headers)),
                body: Bytes::from_static(body),
                cut: Some(ErrorCode::HttpResponseIncomplete),
                hops: 2,
                egress_bytes: 9,
                withheld: None,
                held: None,
            };
            let read = read_back(&answer);
            assert_eq!((read.write(), read.digest()), (answer.write(), answer.digest()));
            assert_eq!((read.head.unwrap(), read.body), (answer.head.unwrap(), answer.body));
        }
        let failed = Answer::failed(ErrorCode::ConnectionRefused);
        assert!(matches!(read_back(&failed).head, Err(ErrorCode::ConnectionRefused)));
    }

    #[tokio::test]
    async fn a_guest_gets_the_bytes_and_then_why_they_end() {
        let mut answer = Answer::failed(ErrorCode::ConnectionRefused);
        answer.head = Ok((StatusCode::OK, HeaderMap::new()));
        (answer.body, answer.cut) = (Bytes::from_static(b"part"), Some(ErrorCode::HttpResponseIncomplete));
        let mut body = answer.given().unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "part");
        assert!(matches!(body.frame().await, Some(Err(Error::HttpResponseIncomplete))));
        assert!(body.frame().await.is_none());
    }
}
