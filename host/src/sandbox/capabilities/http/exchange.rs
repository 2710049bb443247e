//! One request to its answer, redirects included. Runs beside the guest and ends with its call.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, LOCATION};
use http::{Response, StatusCode};
use reqwest::Url;
use tokio::time::timeout;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::coding::Coding;
use super::headers;
use super::quota::Taken;
use super::refusal::{Refusal, of_client};
use super::request::Waits;
use super::request_body::RequestBody;
use super::requests::{Admitted, Asking, Requests};
use super::response_body::ResponseBody;
use super::upstream;
use crate::domain::{Method, WebUrl};

/// What of a guest's headers may follow to another origin: the rest may hold a key for the first.
const FOLLOWING: &[&str] = &["accept", "accept-language", "range", "user-agent"];

/// A request on its way.
pub(super) struct Exchange {
    pub(super) requests: Arc<Requests>,
    /// As the guest set them: each redirect starts from these.
    pub(super) headers: HeaderMap,
    pub(super) body: Option<(HyperOutgoingBody, Option<u64>)>,
    pub(super) waits: Waits,
    pub(super) asking: Asking,
    /// What it takes of the call's share on its way.
    pub(super) taken: Arc<Taken>,
}

impl Exchange {
    /// Sends `admitted`, follows where it is led, and returns the answer for the guest.
    ///
    /// # Errors
    /// What the guest is told. A refusal of the host's is noted.
    pub(super) async fn run(self, admitted: Admitted) -> Result<Response<ResponseBody>, ErrorCode> {
        let (requests, asking, taken) = (self.requests.clone(), self.asking.clone(), self.taken.clone());
        let answered = self.answered(admitted).await;
        let head = answered.as_ref().map(|answer| (answer.status(), answer.headers()));
        let (hops, _) = taken.sum();
        let end = upstream::of_answer(asking.sent(hops), head, None, requests.journal.now());
        requests.ended(&asking, &end);
        if !requests.journal.records() {
            // A recorded request is reported with all that it brought.
            requests.journal.link().answered(&asking.upstream, &end.upstream);
        }
        answered
    }

    async fn answered(mut self, mut admitted: Admitted) -> Result<Response<ResponseBody>, ErrorCode> {
        let place = self.requests.quota.place().await.map_err(|refusal| refusal.error)?;
        let mut redirects_left = self.requests.limits().redirects_max;
        loop {
            let sent = self.send(&admitted).await;
            let response = sent.map_err(|refusal| self.requests.refused(&admitted.what, refusal))?;
            let Some(method) = followed(admitted.method, response.status()) else {
                let answered = self.answer(&admitted, response, place);
                return answered.map_err(|refusal| self.requests.refused(&admitted.what, refusal));
            };
            if self.requests.limits().redirects_max == 0 || !response.headers().contains_key(LOCATION) {
                let answered = self.answer(&admitted, response, place);
                return answered.map_err(|refusal| self.requests.refused(&admitted.what, refusal));
            }
            let Some(left) = redirects_left.checked_sub(1) else {
                let refusal = Refusal::denied("limit.redirects", ErrorCode::LoopDetected, "one redirect too many");
                return Err(self.requests.refused(&admitted.what, refusal));
            };
            redirects_left = left;
            admitted = self.redirected(&admitted, &response, method)?;
        }
    }

    async fn send(&mut self, admitted: &Admitted) -> Result<reqwest::Response, Refusal> {
        let url = Url::parse(&admitted.url.to_string());
        let url = url.map_err(|_| Refusal::failed(ErrorCode::HttpRequestUriInvalid))?;
        let client = self.requests.clients.get(&admitted.key).await?;
        let mut request = client.request(http_method(admitted.method), url).headers(admitted.headers.clone());
        if let Some(body) = self.body.take() {
            let body = RequestBody::new(body, (self.requests.clone(), self.taken.clone()), admitted);
            request = request.body(reqwest::Body::wrap(body));
        }
        let answer = request.send();
        let answer = match self.waits.head {
            None => answer.await,
            Some(wait) => timeout(wait, answer).await.map_err(|_| Refusal::failed(ErrorCode::HttpResponseTimeout))?,
        };
        answer.map_err(|error| of_client(&error))
    }

    /// Admits the request that `response` leads to.
    fn redirected(&self, from: &Admitted, response: &reqwest::Response, method: Method) -> Result<Admitted, ErrorCode> {
        let target = target(&from.url, response.headers());
        let to = target.map_err(|refusal| self.requests.refused(&format!("{} → redirect", from.what), refusal))?;
        let mut headers = self.headers.clone();
        if to.origin() != from.url.origin() {
            headers = headers
                .into_iter()
                .filter_map(|(name, value)| Some((name?, value)))
                .filter(|(name, _)| follows(name))
                .collect();
        }
        if method != from.method {
            headers.remove(http::header::CONTENT_TYPE);
        }
        let admitted = self.requests.admit(to, method, headers)?;
        self.taken.hop(admitted.head_bytes);
        Ok(admitted)
    }

    fn answer(
        &self,
        admitted: &Admitted,
        response: reqwest::Response,
        place: tokio::sync::OwnedSemaphorePermit,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let status = response.status();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Refusal::denied(
                "denied.net",
                ErrorCode::HttpUpgradeFailed,
                "the server wants another protocol",
            ));
        }
        let mut head = response.headers().clone();
        if headers::bytes(&head) > self.requests.limits().header_bytes_max {
            let error = ErrorCode::HttpResponseHeaderSectionSize(u32::try_from(headers::bytes(&head)).ok());
            return Err(Refusal::denied("limit.response", error, "the head of the answer"));
        }
        let coding = if has_body(admitted.method, status, &head) { Coding::of(&head)? } else { Coding::Identity };
        headers::clean(&mut head, coding != Coding::Identity);
        // Secrets leave here: all that the guest gets to see of a head comes by.
        headers::scrub(&mut head, &self.requests.secrets);
        let part = (self.requests.clone(), admitted.what.clone(), place);
        let body = ResponseBody::new(response.into(), coding, self.waits.bytes, part).of(self.asking.clone());
        let mut answer = Response::new(body);
        *answer.status_mut() = status;
        *answer.headers_mut() = head;
        Ok(answer)
    }
}

/// Returns with which method the host follows an answer; `None` where the guest gets it. A write is never repeated
/// elsewhere: only `303`, which asks for a look at the result, leads on from one.
fn followed(method: Method, status: StatusCode) -> Option<Method> {
    match (method, status.as_u16()) {
        (Method::Get | Method::Head, 301 | 302 | 303 | 307 | 308) => Some(method),
        (Method::Post | Method::Put | Method::Patch | Method::Delete, 303) => Some(Method::Get),
        _ => None,
    }
}

/// Returns where an answer leads, read as strictly as what a guest asks for.
fn target(from: &WebUrl, headers: &HeaderMap) -> Result<WebUrl, Refusal> {
    let location = headers.get(LOCATION).and_then(|location| location.to_str().ok()).unwrap_or_default();
    // The parser would drop or fold these; what follows `#` is the reader's, not the server's.
    let location = location.split('#').next().unwrap_or_default();
    if location.is_empty() || location.chars().any(|c| c <= ' ' || c == '\\') {
        return Err(Refusal::not_allowed("a place that cannot be read"));
    }
    let base = Url::parse(&from.to_string()).map_err(|_| Refusal::not_allowed("a place that cannot be read"))?;
    let joined = base.join(location).map_err(|e| Refusal::not_allowed(e.to_string()))?;
    joined.as_str().parse().map_err(|e: String| Refusal::not_allowed(e))
}

fn follows(name: &HeaderName) -> bool {
    FOLLOWING.contains(&name.as_str())
}

/// Whether octets follow that could be coded.
fn has_body(method: Method, status: StatusCode, head: &HeaderMap) -> bool {
    let is_bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let is_empty = head.get(CONTENT_LENGTH).is_some_and(|length| length == "0");
    method != Method::Head && !is_bodiless && !is_empty
}

fn http_method(method: Method) -> http::Method {
    match method {
        Method::Get => http::Method::GET,
        Method::Head => http::Method::HEAD,
        Method::Options => http::Method::OPTIONS,
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Patch => http::Method::PATCH,
        Method::Delete => http::Method::DELETE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_never_repeated_elsewhere() {
        let status = |code| StatusCode::from_u16(code).unwrap();
        assert_eq!(followed(Method::Get, status(302)), Some(Method::Get));
        assert_eq!(followed(Method::Post, status(303)), Some(Method::Get));
        for code in [301, 302, 307, 308] {
            assert_eq!(followed(Method::Post, status(code)), None);
        }
        for code in [200, 300, 304, 305, 404] {
            assert_eq!(followed(Method::Get, status(code)), None);
        }
    }

    #[test]
    fn a_location_is_read_as_strictly_as_what_a_guest_asks_for() {
        let to = |location: &'static str| {
            let headers = HeaderMap::from_iter([(LOCATION, location.parse().unwrap())]);
            target(&"https://a.example/x/y?q".parse().unwrap(), &headers).map(|url| url.to_string()).ok()
        };
        assert_eq!(to("/z#part").as_deref(), Some("https://a.example/z"));
        assert_eq!(to("z?p=1").as_deref(), Some("https://a.example/x/z?p=1"));
        assert_eq!(to("//b.example/z").as_deref(), Some("https://b.example/z"));
        for wrong in
            ["file:///etc/passwd", "https:\\\\b.example", "https://u@b.example/", "ftp://a.example/", "", "/a%2fb"]
        {
            assert_eq!(to(wrong), None, "{wrong}");
        }
    }
}
