//! The requests of one call: what each must pass before it may be sent, whether the guest asked for it or a redirect.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::HeaderMap;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

use super::clients::{Clients, Key};
use super::headers::{self, Marks};
use super::quota::Quota;
use super::refusal::Refusal;
use super::upstream::{self, RequestEnd, Sent};
use crate::domain::{Digest, Effect, FailedUpstream, Failure, HttpGrant, Kind, Limits, Method, UpstreamEnd, WebUrl};
use crate::policy::Call;
use crate::sandbox::denials::Denials;
use crate::sandbox::journal::Journal;
use crate::sandbox::secrets::{Granted, Injected};

/// Bytes of a request line beside method and target.
const REQUEST_LINE_BYTES: usize = "  HTTP/1.1\r\n\r\n".len();

/// What the requests of one call share.
pub(super) struct Requests {
    pub(super) call: Arc<Call>,
    pub(super) clients: Arc<Clients>,
    pub(super) quota: Quota,
    pub(super) denials: Denials,
    pub(super) secrets: Granted,
    pub(super) journal: Arc<Journal>,
    /// How they ended.
    last: Mutex<Last>,
}

/// A request of the guest's among those of its call.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    /// Number in the order in which the guest made them.
    order: u64,
    /// Where it goes first, as `scheme://host:port`.
    pub(super) upstream: String,
    is_write: bool,
    /// Whether its server takes a key once.
    is_keyed: bool,
}

#[derive(Debug, Default)]
struct Last {
    asked: u64,
    /// Of those that have ended, the last that was asked.
    ended: u64,
    failed: Option<FailedUpstream>,
    /// Writes that have begun, by their order: whatever comes after one that is open, it may have been done.
    writes: BTreeMap<u64, Write>,
}

/// A write that has begun.
#[derive(Debug, Default)]
struct Write {
    /// Whether an answer told what became of it. One that the guest did not wait for has none.
    is_told: bool,
    failed: Option<FailedUpstream>,
}

/// A request that a rule allows, that is within the quota, and whose head is complete. Only [`Requests::admit`] makes
/// one, and each is sent once.
pub(super) struct Admitted {
    pub(super) url: WebUrl,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    /// Whether its server takes a key once.
    is_keyed: bool,
    /// Whose connections it uses.
    pub(super) key: Key,
    /// Bytes of its head, which are counted.
    pub(super) head_bytes: u64,
    /// Method and place for the receipt. Without the query, which may hold what is nobody's business.
    pub(super) what: String,
}

impl Asking {
    /// Returns how it was sent, after so many redirects.
    pub(super) fn sent(&self, hops: u64) -> Sent {
        Sent { hops, is_keyed: self.is_keyed }
    }

    fn failed(&self, end: &UpstreamEnd) -> Option<FailedUpstream> {
        let (upstream, retry_after_ms) = (self.upstream.clone(), end.retry_after_ms);
        end.failure.map(|kind| FailedUpstream { upstream, kind, retry_after_ms })
    }
}

impl Last {
    fn open(&self) -> impl Iterator<Item = &Write> {
        self.writes.values().filter(|write| !write.is_told)
    }

    fn ended(&mut self, asking: &Asking, failed: Option<FailedUpstream>) {
        if asking.order >= self.ended {
            (self.ended, self.failed) = (asking.order, failed);
        }
    }
}

impl Requests {
    pub(super) fn new(
        call: Arc<Call>,
        clients: Arc<Clients>,
        (denials, secrets): (Denials, Granted),
        journal: Arc<Journal>,
    ) -> Self {
        let quota = Quota::new(&call.grant().limits);
        Self { call, clients, quota, denials, secrets, journal, last: Mutex::default() }
    }

    /// Counts a request that the guest makes.
    pub(super) fn asking(&self, admitted: &Admitted) -> Asking {
        let mut last = self.last();
        last.asked += 1;
        let (is_write, is_keyed) = (!admitted.method.is_read(), admitted.is_keyed);
        Asking { order: last.asked, upstream: admitted.url.upstream(), is_write, is_keyed }
    }

    /// Notes that a request is about to be sent, or was in an earlier attempt.
    pub(super) fn begun(&self, asking: &Asking) {
        if asking.is_write {
            self.last().writes.insert(asking.order, Write::default());
        }
    }

    /// Keeps how a request ended; what is heard later of the same one stands.
    pub(super) fn ended(&self, asking: &Asking, end: &RequestEnd) {
        let failed = asking.failed(&end.upstream);
        let mut last = self.last();
        if let Some(write) = last.writes.get_mut(&asking.order) {
            *write = Write { is_told: end.is_told, failed: failed.clone() };
        }
        last.ended(asking, failed);
    }

    /// Notes that the answer to a request broke off after its head.
    pub(super) fn broke_off(&self, asking: &Asking, error: &ErrorCode) {
        let failed = asking.failed(&upstream::of_error(error));
        let mut last = self.last();
        if let Some(write) = last.writes.get_mut(&asking.order) {
            write.is_told &= !upstream::is_cut_by_network(error);
            write.failed.clone_from(&failed);
        }
        last.ended(asking, failed);
    }

    /// Notes that a request was not sent, as whoever drives the call knows its server to be down, and returns what the guest
    /// is told.
    pub(super) fn left_alone(&self, asking: &Asking, admitted: &Admitted, failure: Failure) -> ErrorCode {
        let upstream = UpstreamEnd { failure: Some(failure.kind), retry_after_ms: None };
        self.ended(asking, &RequestEnd { upstream, is_told: true });
        let code = match failure.kind {
            Kind::NetworkCircuitOpen => "network.circuit_open",
            _ => "denied.net",
        };
        self.refused(&admitted.what, Refusal::denied(code, ErrorCode::ConnectionRefused, failure.message))
    }

    /// Returns the server of a write that is open, or else of the last request, where that failed.
    pub(super) fn failed(&self) -> Option<FailedUpstream> {
        let last = self.last();
        let open = last.open().find_map(|write| write.failed.clone());
        open.or_else(|| last.failed.clone())
    }

    /// Answers whether a write was begun of which no answer tells what became of it.
    pub(super) fn has_open_write(&self) -> bool {
        self.last().open().next().is_some()
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.call.grant().limits
    }

    /// Lets a request pass, or notes why not. No name is looked up before.
    ///
    /// # Errors
    /// What the guest is told.
    pub(super) fn admit(&self, url: WebUrl, method: Method, headers: HeaderMap) -> Result<Admitted, ErrorCode> {
        let what = format!("{method} {}{}", url.origin(), url.path);
        self.admitted(url, method, headers, &what).map_err(|refusal| self.refused(&what, refusal))
    }

    /// Notes a refusal, if it is one of the host's, and returns what the guest is told.
    pub(super) fn refused(&self, what: &str, refusal: Refusal) -> ErrorCode {
        if let Some(code) = refusal.code {
            let about = if refusal.about.is_empty() { String::new() } else { format!(": {}", refusal.about) };
            self.denials.note(code, &format!("{what}{about}"));
        }
        refusal.error
    }

    fn admitted(&self, url: WebUrl, method: Method, headers: HeaderMap, what: &str) -> Result<Admitted, Refusal> {
        let allowing = self.allowing(&url, method)?;
        let idempotency = (!method.is_read()).then(|| self.idempotency_key(&url, method));
        let traceparent = self.journal.link().traceparent().map(|traceparent| traceparent.to_string());
        let marks = Marks { key: idempotency.as_deref(), traceparent: traceparent.as_deref() };
        let mut headers = headers::complete(headers, method, marks)?;
        self.carries_none(&url, &headers)?;
        let size = |bytes: u64| too_long(u32::try_from(bytes).ok(), format!("a head of {bytes} bytes"));
        self.head_bytes(&url, method, &headers).map_err(size)?;
        // Secrets enter here: a rule allows the request, its head is complete, and nothing is counted or sent yet. Each
        // redirect comes by again, so that a secret is matched with where the request really goes.
        let injected = self.secrets.inject(&url, &mut headers).map_err(Refusal::of_secret)?;
        // Without its length, which would tell theirs.
        let bytes = self
            .head_bytes(&url, method, &headers)
            .map_err(|_| too_long(None, "a head that is too long with its secrets"))?;
        self.quota.take_request()?;
        // What is refused takes nothing: answered from its record it takes nothing either.
        self.quota.take_egress(bytes).inspect_err(|_| self.quota.give_request())?;
        let key = self.key(&allowing, injected);
        let is_keyed = self.is_keyed(&allowing);
        Ok(Admitted { url, method, headers, is_keyed, key, head_bytes: bytes, what: what.to_owned() })
    }

    /// Returns the bytes of a head, as an error where it is too long.
    fn head_bytes(&self, url: &WebUrl, method: Method, headers: &HeaderMap) -> Result<u64, u64> {
        let line = method.name().len() + url.to_string().len() + REQUEST_LINE_BYTES;
        let bytes = u64::try_from(line).unwrap_or(u64::MAX).saturating_add(headers::bytes(headers));
        if bytes > self.limits().header_bytes_max { Err(bytes) } else { Ok(bytes) }
    }

    /// Returns the grants that allow this request: one is enough.
    fn allowing(&self, url: &WebUrl, method: Method) -> Result<Vec<&HttpGrant>, Refusal> {
        let grants = self.call.grant().http.iter();
        let allowing: Vec<_> = grants.filter(|http| http.methods.contains(&method) && http.to.matches(url)).collect();
        if allowing.is_empty() { Err(Refusal::not_allowed("no rule allows it")) } else { Ok(allowing) }
    }

    /// Whether a rule says of the server, or of the call as a whole, that the same key does nothing twice.
    fn is_keyed(&self, allowing: &[&HttpGrant]) -> bool {
        allowing.iter().any(|http| http.is_keyed) || self.call.effect() <= Effect::Idempotent
    }

    /// Refuses a guest's own request that holds the value of a secret, however it came by it: where a value may go, the
    /// host puts it.
    fn carries_none(&self, url: &WebUrl, headers: &HeaderMap) -> Result<(), Refusal> {
        let (withheld, url) = (self.secrets.withheld(url), url.to_string());
        let head = headers.iter().flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]);
        let found =
            std::iter::once(url.as_bytes()).chain(head).find_map(|bytes| withheld.contained(bytes).map(str::to_owned));
        found.map_or(Ok(()), |name| Err(Refusal::secret(format!("its head holds the value of secret `{name}`"))))
    }

    fn key(&self, allowing: &[&HttpGrant], injected: Injected) -> Key {
        let (tool, principal) = (self.call.tool(), self.call.principal());
        let mut key = Key {
            component: *tool.digest(),
            tool: tool.name().to_string(),
            tenant: principal.tenant.clone(),
            user: principal.user.clone(),
            session: principal.session.clone(),
            credentials: injected.names.into_iter().collect(),
            ranges: allowing.iter().flat_map(|http| http.addresses.iter().copied()).collect(),
        };
        key.ranges.sort_unstable();
        key.ranges.dedup();
        key
    }

    /// The key of this write: the same for every attempt and for every time that the call is run again, and another for
    /// another write.
    fn idempotency_key(&self, url: &WebUrl, method: Method) -> String {
        let ordinal = self.quota.count_write().to_le_bytes();
        let (call, url) = (self.call.key(), url.to_string());
        let key = Digest::of_parts(&[call.as_bytes(), &ordinal, method.name().as_bytes(), url.as_bytes()]);
        hex::encode(key.as_bytes())
    }
}

fn too_long(bytes: Option<u32>, about: impl Into<String>) -> Refusal {
    Refusal::denied("invalid.header", ErrorCode::HttpRequestHeaderSectionSize(bytes), about)
}
