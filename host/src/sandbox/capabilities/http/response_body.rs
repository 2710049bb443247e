//! An answer's body on its way in: decoded, counted before and after, and read only as fast as the guest reads.

use std::future::{Pending, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Timeout, timeout};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

use super::coding::{Coding, Decoder};
use super::refusal::{Refusal, of_client};
use super::requests::{Asking, Requests};
use crate::sandbox::secrets::Scrubber;

/// Bytes decoded at a time: what a guest's read commonly asks for.
const DECODED_BYTES: usize = 16 << 10;

/// What the guest reads.
pub(super) struct ResponseBody {
    source: Source,
    /// Bytes that it may still bring.
    left: u64,
    /// How long the guest waits for the next bytes.
    wait: Option<Duration>,
    timer: Option<Pin<Box<Timeout<Pending<()>>>>>,
    /// Takes the call's secrets out: a server may echo what it was sent.
    scrubber: Scrubber,
    requests: Arc<Requests>,
    /// The request that it answers.
    asking: Option<Asking>,
    what: String,
    is_over: bool,
    /// The request is under way until its body is gone.
    _place: OwnedSemaphorePermit,
}

enum Source {
    Plain(Wire),
    Decoded(Decoder<Wire>),
}

impl ResponseBody {
    pub(super) fn new(
        body: reqwest::Body,
        coding: Coding,
        wait: Option<Duration>,
        (requests, what, place): (Arc<Requests>, String, OwnedSemaphorePermit),
    ) -> Self {
        let left = requests.limits().response_bytes_max;
        let wire = Wire { body, chunk: Bytes::new(), left };
        let source = Decoder::new(coding, wire, requests.quota.windows()).map_or_else(Source::Plain, Source::Decoded);
        let scrubber = requests.secrets.scrubber();
        Self { source, left, wait, timer: None, scrubber, requests, asking: None, what, is_over: false, _place: place }
    }

    /// Says whose answer it is: that it broke off is told of that request.
    pub(super) fn of(self, asking: Asking) -> Self {
        Self { asking: Some(asking), ..self }
    }

    /// Notes a refusal, and returns what the guest is told.
    pub(super) fn refuse(&self, refusal: Refusal) -> ErrorCode {
        let error = self.requests.refused(&self.what, refusal);
        if let Some(asking) = &self.asking {
            self.requests.broke_off(asking, &error);
        }
        error
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Refusal>>> {
        // Secrets leave here: all that the guest gets to see of a body comes by, decoded and counted.
        loop {
            let Some(bytes) = ready!(self.source.poll(cx)) else {
                let rest = self.scrubber.finish();
                return Poll::Ready((!rest.is_empty()).then(|| Ok(rest.into())));
            };
            let bytes = bytes.and_then(|bytes| take(&mut self.left, bytes.len()).map(|()| bytes))?;
            let told = self.scrubber.push(&bytes);
            if !told.is_empty() {
                return Poll::Ready(Some(Ok(told.into())));
            }
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Refusal> {
        let Some(wait) = self.wait else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(timeout(wait, pending())));
        timer.as_mut().poll(cx).map(|_| Refusal::failed(ErrorCode::ConnectionReadTimeout))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ErrorCode;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ErrorCode>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let bytes = match self.poll_bytes(cx) {
            Poll::Ready(bytes) => bytes,
            Poll::Pending => Some(Err(ready!(self.poll_timer(cx)))),
        };
        self.timer = None;
        self.is_over = !matches!(bytes, Some(Ok(_)));
        Poll::Ready(bytes.map(|bytes| bytes.map(Frame::data).map_err(|refusal| self.refuse(refusal))))
    }
}

impl Source {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Refusal>>> {
        match self {
            Self::Plain(wire) => wire.poll_chunk(cx),
            Self::Decoded(decoder) => {
                let mut bytes = vec![0; DECODED_BYTES];
                let mut into = ReadBuf::new(&mut bytes);
                let read = ready!(decoder.poll_read(cx, &mut into));
                let n = into.filled().len();
                bytes.truncate(n);
                Poll::Ready(match read {
                    Err(error) => Some(Err(of_decoder(&error))),
                    Ok(()) if n == 0 => None,
                    Ok(()) => Some(Ok(bytes.into())),
                })
            }
        }
    }
}

/// What the decoder says: our own refusal that came through it, or that the body is not what its coding promises.
fn of_decoder(error: &io::Error) -> Refusal {
    let refusal = error.get_ref().and_then(|inner| inner.downcast_ref::<Refusal>()).cloned();
    refusal.unwrap_or_else(|| Refusal::failed(ErrorCode::HttpResponseContentCoding(None)))
}

fn take(left: &mut u64, bytes: usize) -> Result<(), Refusal> {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    let error = || ErrorCode::HttpResponseBodySize(None);
    *left =
        left.checked_sub(bytes).ok_or_else(|| Refusal::denied("limit.response", error(), "the body of the answer"))?;
    Ok(())
}

/// The body as it arrives. Bounded too: a server may send for ever what decodes to nothing.
struct Wire {
    body: reqwest::Body,
    chunk: Bytes,
    left: u64,
}

impl Wire {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Refusal>>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(of_body(&error)))),
                Some(Ok(frame)) => frame,
            };
            // Trailers are not passed on.
            if let Ok(bytes) = frame.into_data() {
                let taken = take(&mut self.left, bytes.len());
                return Poll::Ready(Some(taken.map(|()| bytes)));
            }
        }
    }
}

/// A body that breaks off is incomplete, however the connection ended.
fn of_body(error: &reqwest::Error) -> Refusal {
    let refusal = of_client(error);
    match refusal.error {
        ErrorCode::HttpProtocolError => Refusal::failed(ErrorCode::HttpResponseIncomplete),
        _ => refusal,
    }
}

impl AsyncBufRead for Wire {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.chunk.is_empty() {
            match ready!(this.poll_chunk(cx)) {
                None => break,
                Some(chunk) => this.chunk = chunk.map_err(io::Error::other)?,
            }
        }
        Poll::Ready(Ok(&this.chunk))
    }

    fn consume(mut self: Pin<&mut Self>, bytes: usize) {
        let bytes = bytes.min(self.chunk.len());
        drop(self.chunk.split_to(bytes));
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let chunk = ready!(self.as_mut().poll_fill_buf(cx))?;
        let n = chunk.len().min(into.remaining());
        into.put_slice(&chunk[..n]);
        self.consume(n);
        Poll::Ready(Ok(()))
    }
}
