//! A request's body on its way out: counted, cut where the call may not send more, and without trailers.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::quota::Taken;
use super::refusal::Refusal;
use super::requests::{Admitted, Requests};
use crate::sandbox::secrets::Scrubber;

/// What the guest writes.
pub(super) struct RequestBody {
    /// Never contended: the client wants a body that threads could share.
    inner: Mutex<HyperOutgoingBody>,
    /// Its bytes, where the guest told them.
    length: Option<u64>,
    /// Looks for the values of secrets: what it has not told yet is not sent.
    scrubber: Scrubber,
    requests: Arc<Requests>,
    taken: Arc<Taken>,
    what: String,
    is_over: bool,
}

impl RequestBody {
    pub(super) fn new(
        (inner, length): (HyperOutgoingBody, Option<u64>),
        (requests, taken): (Arc<Requests>, Arc<Taken>),
        admitted: &Admitted,
    ) -> Self {
        let scrubber = requests.secrets.withheld(&admitted.url).scrubber();
        let (inner, what) = (Mutex::new(inner), admitted.what.clone());
        Self { inner, length, scrubber, requests, taken, what, is_over: false }
    }

    /// Notes the refusal here, as the answer may already have come and nobody wait for the body's end.
    fn refused(&self, refusal: Refusal) -> Refusal {
        Refusal::failed(self.requests.refused(&self.what, refusal))
    }

    /// Returns what of a frame may be sent now.
    fn passed(&mut self, frame: &Frame<Bytes>) -> Result<Bytes, Refusal> {
        let Some(data) = frame.data_ref() else {
            return Err(self.refused(Refusal::header("trailers")));
        };
        let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.requests.quota.take_egress(bytes).map_err(|refusal| self.refused(refusal))?;
        self.taken.sent(bytes);
        let told = self.scrubber.push(data);
        self.told(told)
    }

    /// Refuses the body where a mark stands for a secret in what would be sent.
    fn told(&self, bytes: Vec<u8>) -> Result<Bytes, Refusal> {
        if self.scrubber.has_found() {
            return Err(self.refused(Refusal::secret("its body holds the value of a secret")));
        }
        Ok(bytes.into())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        while !self.is_over {
            let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
            let frame = ready!(Pin::new(inner).poll_frame(cx));
            let bytes = match frame {
                Some(Ok(frame)) => self.passed(&frame),
                Some(Err(_)) => Err(Refusal::failed(ErrorCode::HttpRequestBodySize(None))),
                None => {
                    let rest = self.scrubber.finish();
                    self.is_over = true;
                    self.told(rest)
                }
            };
            self.is_over |= bytes.is_err();
            if !bytes.as_ref().is_ok_and(Bytes::is_empty) {
                return Poll::Ready(Some(bytes.map(Frame::data)));
            }
        }
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
