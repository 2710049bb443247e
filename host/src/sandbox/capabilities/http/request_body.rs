//! A request's body on its way out: counted, cut where the call may not send more, and without trailers.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::refusal::Refusal;
use super::requests::Requests;

/// What the guest writes.
pub(super) struct RequestBody {
    /// Never contended: the client wants a body that threads could share.
    inner: Mutex<HyperOutgoingBody>,
    /// Its bytes, where the guest told them.
    length: Option<u64>,
    requests: Arc<Requests>,
    what: String,
}

impl RequestBody {
    pub(super) fn new((inner, length): (HyperOutgoingBody, Option<u64>), requests: Arc<Requests>, what: &str) -> Self {
        Self { inner: Mutex::new(inner), length, requests, what: what.to_owned() }
    }

    /// Notes the refusal here, as the answer may already have come and nobody wait for the body's end.
    fn refused(&self, refusal: Refusal) -> Refusal {
        Refusal::failed(self.requests.refused(&self.what, refusal))
    }

    fn counted(&self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Refusal> {
        let Some(data) = frame.data_ref() else {
            return Err(self.refused(Refusal::header("trailers")));
        };
        let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.requests.quota.take_egress(bytes).map_err(|refusal| self.refused(refusal))?;
        Ok(frame)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        let frame = match ready!(Pin::new(inner).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(frame) => frame,
        };
        let unfinished =
            || Refusal::failed(wasmtime_wasi_http::p2::bindings::http::types::ErrorCode::HttpRequestBodySize(None));
        Poll::Ready(Some(frame.map_err(|_| unfinished()).and_then(|frame| self.counted(frame))))
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
