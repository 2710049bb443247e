//! Requests of a call whose host calls are recorded: each is one host call, from the last byte of its body to the last of
//! its answer.
//!
//! Promises: what was seen to end before is answered without name, connection or secret; a write is announced before its
//! first byte leaves, and what came of it is reported before the guest learns of it; the same records give the guest the same
//! answers, in the same pieces. The price: a request's body is read to its end before it is sent, and an answer before the
//! guest gets it. Leaves to others: what a request must pass (`requests.rs`), and sending it (`exchange.rs`).

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::header::HeaderMap;
use http_body_util::{BodyExt, Full};
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p2::body::{HyperIncomingBody, HyperOutgoingBody};

use super::answer::Answer;
use super::exchange::Exchange;
use super::refusal::Refusal;
use super::requests::{Admitted, Asking};
use super::upstream::{self, RequestEnd};
use crate::domain::{ASKED_FOR, Digest, Failure, Json, Kind, Recorded, RecordedValue, UpstreamEnd, canonical};
use crate::sandbox::journal::{Journal, unreadable};
use crate::sandbox::{Begin, HostCall};

/// A request that is recorded, or answered from its record.
pub(super) struct Recording {
    exchange: Exchange,
    admitted: Admitted,
    journal: Arc<Journal>,
    host_call: HostCall,
    /// What the guest asks for, without its body.
    head: Digest,
}

impl Recording {
    /// Gives the request its number, in the guest's order.
    pub(super) fn new(exchange: Exchange, admitted: Admitted) -> Self {
        let journal = exchange.requests.journal.clone();
        let is_write = !admitted.method.is_read();
        let head = head(&admitted, &exchange.headers);
        let host_call = journal.number(if is_write { "http.send" } else { "http.get" }, head, is_write);
        let (upstream, about) = (Some(exchange.asking.upstream.clone()), Some(admitted.what.clone()));
        let host_call = HostCall { upstream, about, ..host_call };
        Self { exchange, admitted, journal, host_call, head }
    }

    /// Carries it out.
    ///
    /// # Errors
    /// What the guest is told. What ends the call is left with its journal.
    pub(super) async fn run(mut self) -> Result<Response<HyperIncomingBody>, ErrorCode> {
        let (requests, asking) = (self.exchange.requests.clone(), self.exchange.asking.clone());
        let journal = self.journal.clone();
        let answer = match self.body().await {
            Err(error) => Answer::failed(error),
            Ok(body) => match self.answer(body).await {
                Ok(answer) => answer,
                Err(failure) => {
                    journal.fail(failure);
                    Answer::failed(ErrorCode::InternalError(None))
                }
            },
        };
        requests.ended(&asking, &end(&asking, &answer, &journal));
        answer.given()
    }

    /// Reads the guest's body to its end.
    async fn body(&mut self) -> Result<Option<Bytes>, ErrorCode> {
        let Some((mut body, length)) = self.exchange.body.take() else { return Ok(None) };
        let requests = self.exchange.requests.clone();
        let refuse = |refusal: Refusal| requests.refused(&self.admitted.what, refusal);
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| ErrorCode::HttpRequestBodySize(None))?;
            let data = frame.into_data().map_err(|_| refuse(Refusal::header("trailers")))?;
            bytes.extend_from_slice(&data);
            if bytes.len() as u64 > requests.limits().egress_bytes_max {
                let error = ErrorCode::HttpRequestBodySize(None);
                return Err(refuse(Refusal::denied("limit.egress", error, format!("{} more bytes", bytes.len()))));
            }
        }
        let bytes = Bytes::from(bytes);
        self.exchange.body = Some((whole(bytes.clone()), length));
        Ok(Some(bytes))
    }

    /// Announces it, and makes or answers it.
    async fn answer(self, body: Option<Bytes>) -> Result<Answer, Failure> {
        let Self { exchange, admitted, journal, mut host_call, head } = self;
        let body = body.unwrap_or_default();
        host_call.args = Digest::of_parts(&[head.as_bytes(), &body]);
        let (requests, asking) = (exchange.requests.clone(), exchange.asking.clone());
        let begin = journal.begin(&host_call).await?;
        if !matches!(begin, Begin::Refuse(_)) {
            requests.begun(&asking);
        }
        match begin {
            Begin::Proceed => {
                let (answer, ms) = made(exchange, admitted, &journal).await;
                kept((&journal, &asking), &host_call, answer, ms).await
            }
            Begin::Repeat { digest, ms } => {
                let (answer, _) = made(exchange, admitted, &journal).await;
                journal.compare(&host_call, answer.digest(), digest)?;
                let (value, end) = (large(&answer), end(&asking, &answer, &journal).upstream);
                journal.report(&host_call, value, ms, Some(end)).await?;
                Ok(answer)
            }
            Begin::Answer(Recorded { value, .. }) => {
                let RecordedValue::Whole { value } = value else { return Err(unreadable(&host_call)) };
                let answer = Answer::from_record(&value).ok_or_else(|| unreadable(&host_call))?;
                // What it took of the call's share is taken again: the next request meets the same bounds.
                for _ in 0..answer.hops {
                    let _ = requests.quota.take_request();
                }
                let _ = requests.quota.take_egress(answer.egress_bytes);
                Ok(answer)
            }
            Begin::Refuse(failure) => {
                let withheld = Some(failure.kind).filter(|kind| *kind == Kind::NetworkCircuitOpen);
                let error = requests.left_alone(&asking, &admitted, failure);
                Ok(Answer { withheld, ..Answer::failed(error) })
            }
        }
    }
}

/// Sends the request, and reads its answer to the end. Returns how long that took, in milliseconds.
async fn made(exchange: Exchange, admitted: Admitted, journal: &Journal) -> (Answer, u64) {
    let (requests, taken, start_ms) = (exchange.requests.clone(), exchange.taken.clone(), journal.now_ms());
    let mut answer = match exchange.run(admitted).await {
        Ok(answer) => Answer::read(answer, requests.quota.hold()).await,
        Err(error) => Answer::failed(error),
    };
    (answer.hops, answer.egress_bytes) = taken.sum();
    (answer, journal.now_ms().saturating_sub(start_ms))
}

/// Reports what the request brought: whole where there is room, as a digest where it can be asked for again. What a write
/// brought cannot; so the guest gets no more of it than is kept.
async fn kept(
    (journal, asking): (&Journal, &Asking),
    host_call: &HostCall,
    mut answer: Answer,
    ms: u64,
) -> Result<Answer, Failure> {
    let end = end(asking, &answer, journal).upstream;
    let value = match whole_value(journal, &answer, host_call) {
        Some(value) => value,
        None if host_call.is_write => {
            (answer.body, answer.cut) = (Bytes::new(), Some(ErrorCode::HttpResponseBodySize(None)));
            RecordedValue::Whole { value: written(&answer, host_call) }
        }
        None => large(&answer),
    };
    journal.report(host_call, value, ms, Some(end)).await?;
    Ok(answer)
}

/// The answer as a whole, where there is room for it. What is too large as it is need not be written to be measured.
fn whole_value(journal: &Journal, answer: &Answer, host_call: &HostCall) -> Option<RecordedValue> {
    if !journal.has_room(answer.body.len() as u64, host_call.is_write) {
        return None;
    }
    let value = written(answer, host_call);
    journal.keep(canonical(&value).len() as u64, host_call.is_write).then_some(RecordedValue::Whole { value })
}

/// The answer, with what was asked for: so that a call which asks for something else can be told what it was.
fn written(answer: &Answer, host_call: &HostCall) -> Json {
    let mut value = answer.write();
    if let (Some(fields), Some(about)) = (value.as_object_mut(), &host_call.about) {
        fields.insert(ASKED_FOR.to_owned(), Json::from(about.as_str()));
    }
    value
}

fn large(answer: &Answer) -> RecordedValue {
    RecordedValue::Digest { digest: answer.digest(), bytes: answer.body.len() as u64 }
}

fn end(asking: &Asking, answer: &Answer, journal: &Journal) -> RequestEnd {
    if answer.withheld.is_some() {
        let upstream = UpstreamEnd { failure: answer.withheld, retry_after_ms: None };
        return RequestEnd { upstream, is_told: true };
    }
    let head = answer.head.as_ref().map(|(status, headers)| (*status, headers));
    upstream::of_answer(asking.sent(answer.hops), head, answer.cut.as_ref(), journal.now())
}

/// What the guest asks for, as it set it: no secret is in there yet.
fn head(admitted: &Admitted, headers: &HeaderMap) -> Digest {
    let (method, url) = (admitted.method.name(), admitted.url.to_string());
    let mut parts: Vec<&[u8]> = vec![method.as_bytes(), url.as_bytes()];
    parts.extend(headers.iter().flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]));
    Digest::of_parts(&parts)
}

fn whole(bytes: Bytes) -> HyperOutgoingBody {
    Full::new(bytes).map_err(Error::from).boxed_unsync()
}
