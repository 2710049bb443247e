//! How a live call speaks with the driver of its run, and with what is kept beside the run's events.
//!
//! Promises: a write is in the log before it begins, and what it brought before the guest learns it; host calls of a call
//! that was interrupted are answered from their records; servers that are down are left alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::{OnceCell, broadcast, mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::domain::{
    Digest, Failure, HostCallRecord, JournalEntry, Kind, Principal, Recorded, RecordedValue, StateOp, StateQuota,
    StateReply, StateScope, StateSpace, StepId, Subject, ToolName, TraceId, Traceparent,
};
use crate::orchestrator::driver::{Parts, Signal};
use crate::orchestrator::journal::{self, Answers};
use crate::orchestrator::upstreams::Upstreams;
use crate::policy::Call;
use crate::sandbox::{Begin, CallLink, HostCall, HostCallEnd};
use crate::store::{Durability, EventLog, Ownership, StepProgress};

/// Entries of a journal that may wait in memory before they go to the log.
const PENDING_ENTRIES_MAX: usize = 64;

/// A call is about to change something for the first time: the driver notes that, then answers.
pub(super) struct WriteRequest {
    pub(super) step: StepId,
    pub(super) attempt: u32,
    pub(super) written: oneshot::Sender<Result<(), Failure>>,
}

/// What a link needs of its run.
pub(super) struct Wires {
    pub(super) owner: Arc<dyn Ownership>,
    pub(super) writes: mpsc::Sender<WriteRequest>,
    pub(super) signals: broadcast::Sender<Signal>,
    pub(super) stop: watch::Receiver<bool>,
    /// The run's trace.
    pub(super) trace: TraceId,
}

/// The link of one live call.
pub(super) struct LiveLink {
    step: StepId,
    attempt: u32,
    tool: ToolName,
    principal: Principal,
    quotas: BTreeMap<StateScope, StateQuota>,
    /// Whether a write may be sent again under the same key.
    is_keyed: bool,
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    upstreams: Arc<Upstreams>,
    wires: Wires,
    journal: Mutex<Journal>,
    /// Set once the first write is in the run's events: until then no other begins.
    first_write: OnceCell<()>,
}

/// What the call's host calls brought, on its way to the log.
#[derive(Default)]
struct Journal {
    answers: Option<Answers>,
    pending: Vec<JournalEntry>,
    digests: BTreeMap<u32, Digest>,
}

impl LiveLink {
    pub(super) fn new(parts: &Parts, call: &Call, wires: Wires, is_keyed: bool, answers: Option<Answers>) -> Self {
        Self {
            step: call.step().clone(),
            attempt: call.attempt(),
            tool: call.tool().name().clone(),
            principal: call.principal().clone(),
            quotas: call.grant().state.clone(),
            is_keyed,
            log: parts.log.clone(),
            clock: parts.clock.clone(),
            upstreams: parts.upstreams.clone(),
            wires,
            journal: Mutex::new(Journal { answers, ..Journal::default() }),
            first_write: OnceCell::new(),
        }
    }

    /// Hands the rest of the journal to the log, and returns its digest; `None` where the call made no host calls.
    ///
    /// # Errors
    /// As [`CallLink::done`].
    pub(super) async fn finish(&self) -> Result<Option<Digest>, Failure> {
        self.flush(Vec::new(), Durability::Queued).await?;
        Ok(journal::digest(&self.journal().digests))
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn flush(&self, more: Vec<JournalEntry>, durability: Durability) -> Result<(), Failure> {
        let mut entries = std::mem::take(&mut self.journal().pending);
        entries.extend(more);
        if entries.is_empty() {
            return Ok(());
        }
        self.log.write_journal(&*self.wires.owner, &self.step, self.attempt, entries, durability).await
    }

    /// What the host call brought before, where the call runs again.
    fn answered(&self, call: &HostCall) -> Result<Begin, Failure> {
        match &mut self.journal().answers {
            Some(answers) => answers.next(call, self.is_keyed),
            None => Ok(Begin::Proceed),
        }
    }

    /// Notes that a write begins: in the run's events for the first one, and in the journal for each.
    async fn begin_write(&self, call: &HostCall) -> Result<(), Failure> {
        self.first_write.get_or_try_init(|| self.announce()).await?;
        self.flush(vec![begun(call)], Durability::Synced).await
    }

    /// Has the driver note that the call begins to write.
    async fn announce(&self) -> Result<(), Failure> {
        let gone = || Failure::new(Kind::HostInterrupted, "write down that a write begins: the run's driver is gone");
        let (written, answer) = oneshot::channel();
        let request = WriteRequest { step: self.step.clone(), attempt: self.attempt, written };
        self.wires.writes.send(request).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Refuses a request to a server that has failed too often.
    fn admit(&self, call: &HostCall) -> Option<Failure> {
        let server = call.upstream.as_deref()?;
        self.upstreams.check(&self.principal, &self.tool, server, self.clock.now()).err()
    }

    fn note(&self, call: &HostCall, recorded: Recorded) -> JournalEntry {
        let record = HostCallRecord {
            n: call.n,
            what: call.what.to_owned(),
            args: call.args,
            is_write: call.is_write,
            done: Some(recorded.clone()),
        };
        self.journal().digests.insert(call.n, journal::record_digest(&record));
        JournalEntry::Done { n: call.n, recorded }
    }

    /// Keeps what a host call brought. That it was begun is kept with it, where it was not before.
    async fn keep(&self, call: &HostCall, recorded: Recorded) -> Result<(), Failure> {
        let done = self.note(call, recorded);
        if call.is_write {
            return self.flush(vec![done], Durability::Synced).await;
        }
        self.queue(call, done).await
    }

    /// Keeps that a host call was refused: what a guest does next may hang on it. It changed nothing, so that it can wait for
    /// the next entry that cannot.
    async fn keep_refusal(&self, call: &HostCall, refusal: &Failure) -> Result<(), Failure> {
        let value = RecordedValue::Refused { kind: refusal.kind, message: refusal.message.clone() };
        let done = self.note(call, Recorded { value, ms: 0 });
        self.queue(call, done).await
    }

    async fn queue(&self, call: &HostCall, done: JournalEntry) -> Result<(), Failure> {
        let is_full = {
            let mut journal = self.journal();
            journal.pending.extend([begun(call), done]);
            journal.pending.len() >= PENDING_ENTRIES_MAX
        };
        if is_full { self.flush(Vec::new(), Durability::Queued).await } else { Ok(()) }
    }
}

fn begun(call: &HostCall) -> JournalEntry {
    JournalEntry::Begun { n: call.n, what: call.what.to_owned(), args: call.args, is_write: call.is_write }
}

#[async_trait]
impl CallLink for LiveLink {
    fn records(&self) -> bool {
        true
    }

    fn peek(&self, n: u32) -> Option<HostCallRecord> {
        self.journal().answers.as_ref()?.peek(n).cloned()
    }

    async fn begin(&self, call: &HostCall) -> Result<Begin, Failure> {
        let begin = self.answered(call)?;
        if let Begin::Refuse(refusal) = &begin {
            self.keep_refusal(call, refusal).await?;
            return Ok(begin);
        }
        if let Begin::Answer(recorded) = &begin {
            // This attempt's own journal tells all that it did, and what was answered it did too.
            if call.is_write {
                self.begin_write(call).await?;
            }
            self.keep(call, recorded.clone()).await?;
            return Ok(begin);
        }
        if let Some(refusal) = self.admit(call) {
            self.keep_refusal(call, &refusal).await?;
            return Ok(Begin::Refuse(refusal));
        }
        if call.is_write {
            self.begin_write(call).await?;
        }
        Ok(begin)
    }

    async fn done(&self, call: &HostCall, end: HostCallEnd) -> Result<(), Failure> {
        if let (Some(server), Some(upstream)) = (&call.upstream, &end.upstream) {
            let now = self.clock.now();
            self.upstreams.ended(&self.principal, &self.tool, server, upstream.failure, now);
        }
        self.keep(call, Recorded { value: end.value, ms: end.ms }).await
    }

    async fn state(&self, scope: StateScope, op: StateOp) -> Result<StateReply, Failure> {
        let none = || Failure::new(Kind::PolicyDenied, "reach the state of a tool: no rule gives it");
        let quota = self.quotas.get(&scope).ok_or_else(none)?;
        let space = StateSpace {
            scope,
            principal: self.principal.clone(),
            run: self.wires.owner.run().clone(),
            component: self.tool.component().to_owned(),
        };
        self.log.state(&space, op, quota).await
    }

    fn traceparent(&self) -> Option<Traceparent> {
        let attempt = Subject::Step(&self.step, self.attempt);
        Some(Traceparent::of(self.wires.trace, self.wires.owner.run(), attempt))
    }

    fn progress(&self, fraction: Option<f64>, message: &str) {
        let at = self.clock.now();
        let told = StepProgress { step: self.step.clone(), fraction, message: message.to_owned(), at };
        self.log.note_progress(&*self.wires.owner, told);
        // Nobody listens: nobody minds.
        let signal = Signal::Progress {
            run: self.wires.owner.run().clone(),
            step: self.step.clone(),
            fraction,
            message: message.to_owned(),
        };
        let _ = self.wires.signals.send(signal);
    }

    async fn cancelled(&self) {
        let mut stop = self.wires.stop.clone();
        if stop.wait_for(|stop| *stop).await.is_err() {
            // The driver is gone, and the task of this call with it.
            std::future::pending().await
        }
    }
}
