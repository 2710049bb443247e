//! The host calls of one call, as whoever drives it hears of them: numbered, announced, and reported or answered.
//!
//! Promises: the numbers are those of the guest's own order, whatever order the world answers in; nothing is told to the
//! guest before it was reported; a guest whose host calls are recorded sees time move only with them, so that the same
//! records give it the same time. Leaves to others: what is kept of them, and where (`CallLink`).

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::clock::Clock;
use crate::domain::{Digest, Failure, Json, Kind, Limits, Recorded, RecordedValue, Timestamp, UpstreamEnd, canonical};
use crate::sandbox::{Begin, CHANGED_SINCE, CallLink, HostCall, HostCallEnd};

/// Host calls of one call that are recorded: some hundred a second until the deadline, and few enough for the log. What a
/// file brings is recorded together, not read by read.
const HOST_CALLS_RECORDED_MAX: u32 = 20_000;

/// The host calls of one call. Shared with the requests that run beside the guest.
pub(super) struct Journal {
    link: Arc<dyn CallLink>,
    records: bool,
    clock: Arc<dyn Clock>,
    begun: AtomicU32,
    has_written: AtomicBool,
    /// Bytes of results that may still be kept whole: those of reads, those of writes.
    left: [AtomicU64; 2],
    /// The same of looks at files: a call that reads files is answered by servers as well.
    looks_left: AtomicU64,
    time: Mutex<Passed>,
    /// Ends the call, though it happened beside the guest.
    failed: Mutex<Option<Failure>>,
}

/// The time of a guest whose host calls are recorded.
#[derive(Clone, Copy, Debug)]
struct Passed {
    /// Time of day when the call began, in milliseconds since 1970.
    start_ms: u64,
    /// Milliseconds that its host calls have taken, and what it computed between them.
    passed_ms: u64,
    /// Monotonic milliseconds up to which they are counted.
    counted_ms: u64,
}

/// A host call that only looks: what it is called, and with what.
pub(super) struct Look {
    pub(super) what: &'static str,
    pub(super) args: Digest,
}

impl Journal {
    pub(super) fn new(link: Arc<dyn CallLink>, clock: Arc<dyn Clock>, limits: &Limits) -> Self {
        let passed = Passed { start_ms: 0, passed_ms: 0, counted_ms: clock.monotonic_ms() };
        Self {
            records: link.records(),
            link,
            clock,
            begun: AtomicU32::new(0),
            has_written: AtomicBool::new(false),
            left: [AtomicU64::new(limits.record_bytes_max), AtomicU64::new(limits.record_bytes_max)],
            looks_left: AtomicU64::new(limits.record_bytes_max),
            time: Mutex::new(passed),
            failed: Mutex::default(),
        }
    }

    /// Tells the call's link what is not a host call.
    pub(super) fn link(&self) -> &Arc<dyn CallLink> {
        &self.link
    }

    /// Whether host calls are recorded or answered.
    pub(super) fn records(&self) -> bool {
        self.records
    }

    /// Whether a write was announced.
    pub(super) fn has_written(&self) -> bool {
        self.has_written.load(Ordering::Relaxed)
    }

    /// Gives a host call its number. To be called where the guest makes it, so that the order is the guest's.
    pub(super) fn number(&self, what: &'static str, args: Digest, is_write: bool) -> HostCall {
        let n = self.begun.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        HostCall { n, what, args, is_write, upstream: None, about: None }
    }

    /// Returns what a host call of this number and name brought before, without announcing it.
    pub(super) fn peek(&self, host_call: &HostCall) -> Option<RecordedValue> {
        let record = self.link.peek(host_call.n).filter(|record| record.what == host_call.what)?;
        record.done.map(|recorded| recorded.value)
    }

    /// Whether the next host call was begun before.
    pub(super) fn is_next_known(&self) -> bool {
        let next = self.begun.load(Ordering::Relaxed).saturating_add(1);
        self.records && self.link.peek(next).is_some()
    }

    /// Announces a host call.
    ///
    /// # Errors
    /// Ends the call.
    pub(super) async fn begin(&self, host_call: &HostCall) -> Result<Begin, Failure> {
        if self.records && host_call.n > HOST_CALLS_RECORDED_MAX {
            return Err(too_many());
        }
        let begin = self.link.begin(host_call).await;
        let is_begun = match &begin {
            Ok(begin) => !matches!(begin, Begin::Refuse(_)),
            // It was begun before, and nobody knows what came of it.
            Err(failure) => failure.kind == Kind::HostInterrupted,
        };
        if host_call.is_write && is_begun {
            self.has_written.store(true, Ordering::Relaxed);
        }
        begin
    }

    /// Reports what a host call brought, all of it to be kept.
    ///
    /// # Errors
    /// Ends the call.
    pub(super) async fn done(&self, host_call: &HostCall, value: Json, ms: u64) -> Result<(), Failure> {
        self.report(host_call, RecordedValue::Whole { value }, ms, None).await
    }

    /// Reports what a host call brought.
    ///
    /// # Errors
    /// Ends the call.
    pub(super) async fn report(
        &self,
        host_call: &HostCall,
        value: RecordedValue,
        ms: u64,
        upstream: Option<UpstreamEnd>,
    ) -> Result<(), Failure> {
        self.link.done(host_call, HostCallEnd { value, ms, upstream }).await
    }

    /// Makes a host call that only looks, or answers it; where nothing is recorded it is just made.
    ///
    /// # Errors
    /// Ends the call.
    pub(super) async fn look<T>(
        &self,
        look: Look,
        make: impl Future<Output = T> + Send,
        form: &Form<T>,
    ) -> Result<T, Failure> {
        if !self.records {
            return Ok(make.await);
        }
        let host_call = self.number(look.what, look.args, false);
        match self.begin(&host_call).await? {
            Begin::Answer(Recorded { value, ms }) => {
                self.pass(ms);
                self.read(&host_call, &value, form)
            }
            Begin::Refuse(failure) => Err(failure),
            begin @ (Begin::Proceed | Begin::Repeat { .. }) => {
                let made = make.await;
                let (value, took_ms) = ((form.write)(&made), self.count());
                match begin {
                    Begin::Repeat { digest, ms } => {
                        self.compare(&host_call, Digest::of_json(&value), digest)?;
                        let bytes = canonical(&value).len() as u64;
                        self.report(&host_call, RecordedValue::Digest { digest, bytes }, ms, None).await?;
                    }
                    _ => self.done(&host_call, value, took_ms).await?,
                }
                Ok(made)
            }
        }
    }

    fn read<T>(&self, host_call: &HostCall, value: &RecordedValue, form: &Form<T>) -> Result<T, Failure> {
        let read = match value {
            RecordedValue::Whole { value } => (form.read)(value),
            RecordedValue::Digest { .. } | RecordedValue::Refused { .. } => None,
        };
        read.ok_or_else(|| unreadable(host_call))
    }

    /// Holds what a host call brought against what it brought before.
    ///
    /// # Errors
    /// `host.diverged`.
    pub(super) fn compare(&self, host_call: &HostCall, now: Digest, before: Digest) -> Result<(), Failure> {
        if now == before {
            return Ok(());
        }
        let HostCall { n, what, .. } = host_call;
        let message = format!("run the call again: host call {n} (`{what}`) {CHANGED_SINCE}");
        Err(Failure::new(Kind::HostDiverged, message)
            .hint("what it reads has changed since; look at what the step did, then say whether it is done")
            .detail(format!("{before} before, {now} now")))
    }

    /// Whether a result of so many bytes could be kept whole.
    pub(super) fn has_room(&self, bytes: u64, is_write: bool) -> bool {
        self.left[usize::from(is_write)].load(Ordering::Relaxed) >= bytes
    }

    /// Takes room for a result that is kept whole; false where there is not enough.
    pub(super) fn keep(&self, bytes: u64, is_write: bool) -> bool {
        taken(&self.left[usize::from(is_write)], bytes)
    }

    /// Takes room for a look at a file that is kept whole; false where there is not enough.
    pub(super) fn keep_look(&self, bytes: u64) -> bool {
        taken(&self.looks_left, bytes)
    }

    /// The time of day, which the guest does not see.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Milliseconds since some fixed point, for how long something takes.
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.monotonic_ms()
    }

    /// Lets the guest's clock begin.
    pub(super) fn start(&self, start_ms: u64) {
        *self.time() = Passed { start_ms, passed_ms: 0, counted_ms: self.clock.monotonic_ms() };
    }

    /// Moves the guest's clock on to now, and returns by how many milliseconds.
    pub(super) fn count(&self) -> u64 {
        if !self.records {
            return 0;
        }
        let now_ms = self.clock.monotonic_ms();
        let mut time = self.time();
        let ms = now_ms.saturating_sub(time.counted_ms);
        *time = Passed { passed_ms: time.passed_ms.saturating_add(ms), counted_ms: now_ms, ..*time };
        ms
    }

    /// Moves the guest's clock on as it was moved before.
    pub(super) fn pass(&self, ms: u64) {
        if self.records {
            let counted_ms = self.clock.monotonic_ms();
            let mut time = self.time();
            *time = Passed { passed_ms: time.passed_ms.saturating_add(ms), counted_ms, ..*time };
        }
    }

    /// Milliseconds since 1970 by the guest's clock.
    pub(super) fn wall_ms(&self) -> u64 {
        if !self.records {
            return self.clock.now().0;
        }
        let time = self.time();
        time.start_ms.saturating_add(time.passed_ms)
    }

    /// Milliseconds since the call began by the guest's clock.
    pub(super) fn passed_ms(&self) -> u64 {
        let time = self.time();
        if self.records { time.passed_ms } else { self.clock.monotonic_ms().saturating_sub(time.counted_ms) }
    }

    /// Ends the call with `failure`, which happened beside the guest.
    pub(super) fn fail(&self, failure: Failure) {
        self.failed().get_or_insert(failure);
    }

    /// Returns what happened beside the guest and ends the call.
    ///
    /// # Errors
    /// That.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.failed().clone().map_or(Ok(()), Err)
    }

    fn failed(&self) -> MutexGuard<'_, Option<Failure>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn time(&self) -> MutexGuard<'_, Passed> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn taken(left: &AtomicU64, bytes: u64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
}

/// How the result of a host call is written down, and read again.
pub(super) struct Form<T> {
    pub(super) write: fn(&T) -> Json,
    pub(super) read: fn(&Json) -> Option<T>,
}

/// Octets as text where they are text: a record is read by people too.
pub(super) fn octets(bytes: &[u8]) -> Json {
    std::str::from_utf8(bytes).map_or_else(|_| json!({"base64": STANDARD.encode(bytes)}), Json::from)
}

/// Reads what [`octets`] wrote.
pub(super) fn read_octets(value: &Json) -> Option<Vec<u8>> {
    match value {
        Json::String(text) => Some(text.clone().into_bytes()),
        coded => STANDARD.decode(coded.get("base64")?.as_str()?).ok(),
    }
}

/// A record that does not read as what this host call brings: it is that of another.
pub(super) fn unreadable(host_call: &HostCall) -> Failure {
    let HostCall { n, what, .. } = host_call;
    let message = format!("answer host call {n} (`{what}`) from its record: it is the record of something else");
    Failure::new(Kind::HostDiverged, message).hint("look at what the step did, then say whether it is done")
}

fn too_many() -> Failure {
    let message =
        format!("record what the call does: it made more than {HOST_CALLS_RECORDED_MAX} host calls that are recorded");
    Failure::new(Kind::ToolHostCalls, message).hint("report this to the tool's author: it waits or looks too often")
}
