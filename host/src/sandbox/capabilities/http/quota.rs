//! What is left of a call's requests, of the bytes that they may carry out, of the places for those under way, and of
//! the memory that decoding takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

use super::refusal::Refusal;
use crate::domain::Limits;

/// MiB that the windows of all brotli bodies being read may have: eight of the size that servers use most, or two of the
/// largest.
const WINDOWS_MIB_MAX: usize = 32;

/// Largest answers of which a call whose host calls are recorded holds the bytes: such answers are read to their end before
/// the guest gets them.
const ANSWERS_HELD_MAX: u64 = 4;

/// Counts what all requests of one call take together.
pub(super) struct Quota {
    requests: Count,
    egress: Count,
    writes: AtomicU64,
    places: Arc<Semaphore>,
    windows: Arc<Semaphore>,
    /// Bytes of whole answers that are held for the guest.
    held: Arc<Count>,
}

/// What one request took of its call's share beyond its own head: answered from its record it takes the same.
#[derive(Debug, Default)]
pub(super) struct Taken {
    hops: AtomicU64,
    bytes: AtomicU64,
}

impl Taken {
    /// Notes a request that a redirect led to, with the bytes of its head.
    pub(super) fn hop(&self, head_bytes: u64) {
        self.hops.fetch_add(1, Ordering::Relaxed);
        self.sent(head_bytes);
    }

    /// Notes bytes that left the host.
    pub(super) fn sent(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns the requests that redirects led to, and the bytes that left.
    pub(super) fn sum(&self) -> (u64, u64) {
        (self.hops.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// Bytes of an answer that is held, given back with it.
pub(super) struct Held {
    of: Arc<Count>,
    bytes: u64,
}

impl Held {
    /// Takes more.
    ///
    /// # Errors
    /// `limit.response`.
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), Refusal> {
        let error = || ErrorCode::HttpResponseBodySize(None);
        let taken = self.of.take(bytes);
        taken.ok_or_else(|| Refusal::denied("limit.response", error(), "the answers that the call holds"))?;
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.give(self.bytes);
    }
}

impl Quota {
    pub(super) fn new(limits: &Limits) -> Self {
        let places = usize::try_from(limits.requests_parallel_max).unwrap_or(usize::MAX);
        Self {
            requests: Count::new(limits.requests_max),
            egress: Count::new(limits.egress_bytes_max),
            writes: AtomicU64::new(0),
            places: Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS))),
            windows: Arc::new(Semaphore::new(WINDOWS_MIB_MAX)),
            held: Arc::new(Count::new(limits.response_bytes_max.saturating_mul(ANSWERS_HELD_MAX))),
        }
    }

    /// Begins to hold an answer.
    pub(super) fn hold(&self) -> Held {
        Held { of: self.held.clone(), bytes: 0 }
    }

    /// Takes one request.
    ///
    /// # Errors
    /// `limit.requests`.
    pub(super) fn take_request(&self) -> Result<(), Refusal> {
        let taken = self.requests.take(1);
        taken.ok_or_else(|| Refusal::denied("limit.requests", ErrorCode::HttpRequestDenied, "one request too many"))
    }

    /// Gives back a request that was not sent.
    pub(super) fn give_request(&self) {
        self.requests.give(1);
    }

    /// Takes bytes that leave the host; what does not fit is not counted either.
    ///
    /// # Errors
    /// `limit.egress`.
    pub(super) fn take_egress(&self, bytes: u64) -> Result<(), Refusal> {
        let error = || ErrorCode::HttpRequestBodySize(None);
        self.egress.take(bytes).ok_or_else(|| Refusal::denied("limit.egress", error(), format!("{bytes} more bytes")))
    }

    /// Returns how many requests were taken.
    pub(super) fn requests_taken(&self) -> u64 {
        self.requests.taken()
    }

    /// Returns how many bytes were taken.
    pub(super) fn egress_taken(&self) -> u64 {
        self.egress.taken()
    }

    /// Returns the number of this write in its call, from 1.
    pub(super) fn count_write(&self) -> u64 {
        self.writes.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Returns what is left for the windows of brotli bodies, in MiB.
    pub(super) fn windows(&self) -> &Arc<Semaphore> {
        &self.windows
    }

    /// Waits for a place among the requests under way. It is held until the answer's body is dropped.
    ///
    /// # Errors
    /// Never while the call lives.
    pub(super) async fn place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.places.clone().acquire_owned().await.map_err(|_| Refusal::failed(ErrorCode::ConnectionLimitReached))
    }
}

/// Counts up to a bound.
struct Count {
    taken: AtomicU64,
    max: u64,
}

impl Count {
    fn new(max: u64) -> Self {
        Self { taken: AtomicU64::new(0), max }
    }

    fn take(&self, n: u64) -> Option<()> {
        let more = |taken: u64| taken.checked_add(n).filter(|taken| *taken <= self.max);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(drop)
    }

    fn give(&self, n: u64) {
        self.taken.fetch_sub(n, Ordering::Relaxed);
    }

    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_bytes_run_out() {
        let quota = Quota::new(&Limits { requests_max: 2, egress_bytes_max: 10, ..Limits::default() });
        assert!(quota.take_request().is_ok() && quota.take_request().is_ok());
        assert_eq!(quota.take_request().unwrap_err().code, Some("limit.requests"));
        assert!(quota.take_egress(8).is_ok());
        assert_eq!(quota.take_egress(3).unwrap_err().code, Some("limit.egress"));
        assert!(quota.take_egress(2).is_ok(), "what did not fit was not counted");
        assert_eq!((quota.requests_taken(), quota.egress_taken()), (2, 10));
    }
}
