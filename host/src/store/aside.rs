//! What a log keeps beside its events: what host calls brought, outcomes by key and by content, the state of tools; and
//! the care that all of it needs.
//!
//! Everything that came from a user is sealed by that user's key, so that erasing the user leaves nothing to read.

use std::path::Path;

use async_trait::async_trait;

use crate::domain::{
    Digest, Failure, HostCallRecord, JournalEntry, Principal, RunId, StateOp, StateQuota, StateReply, StateSpace,
    StepId, Timestamp,
};
use crate::store::{Durability, Ownership};

/// The journals of calls: what each host call brought, in order.
#[async_trait]
pub trait HostCalls: Send + Sync {
    /// Adds entries to the journal of a call, after all that was appended before. One that is there already is replaced.
    ///
    /// # Errors
    /// `host.owned` where another process has taken the run since; `host.storage`, also where the journal would be larger
    /// than the log keeps. An error of queued entries breaks the ownership as one of a queued append does.
    async fn write_journal(
        &self,
        owner: &dyn Ownership,
        step: &StepId,
        attempt: u32,
        entries: Vec<JournalEntry>,
        durability: Durability,
    ) -> Result<(), Failure>;

    /// Returns the journal of a call, in order; empty where it made no host calls, or its owner was erased.
    /// That none is missing is for the reader to check, by the digest in the event of the call's end.
    ///
    /// # Errors
    /// `data.not_found` where there is no such run; `host.storage`, also where a record was touched.
    async fn journal(&self, run: &RunId, step: &StepId, attempt: u32) -> Result<Vec<HostCallRecord>, Failure>;
}

/// What became of a key that a caller gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nobody had it: the caller is to go on, and to settle it.
    Claimed,
    /// It was used for the same request, which `run` carries out, or carried out.
    Taken { run: RunId, outcome: Option<Vec<u8>> },
    /// It was used for another request.
    Other,
}

/// Outcomes by the key that a caller gave, so that a repeat is answered and not done again.
#[async_trait]
pub trait KeyedOutcomes: Send + Sync {
    /// Takes `key` for the request of this digest, durably.
    ///
    /// # Errors
    /// `host.storage`.
    async fn claim_key(
        &self,
        principal: &Principal,
        key: &str,
        request: &Digest,
        run: &RunId,
        at: Timestamp,
    ) -> Result<Claim, Failure>;

    /// Keeps the outcome of a key; `None` gives the key back, as nothing was begun.
    ///
    /// # Errors
    /// `data.not_found`; `host.storage`.
    async fn settle_key(&self, principal: &Principal, key: &str, outcome: Option<Vec<u8>>) -> Result<(), Failure>;
}

/// An outcome that was kept by its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedOutcome {
    pub output: Vec<u8>,
    /// The run that brought it.
    pub run: RunId,
    pub at: Timestamp,
}

/// Outcomes by component, function and arguments, of one user.
#[async_trait]
pub trait OutcomeCache: Send + Sync {
    /// Returns what is kept under `key`.
    ///
    /// # Errors
    /// `host.storage`.
    async fn cached(&self, principal: &Principal, key: &Digest) -> Result<Option<CachedOutcome>, Failure>;

    /// Keeps an outcome. The least used ones go when there is no room; one that is too large is not kept.
    ///
    /// # Errors
    /// `host.storage`.
    async fn keep_cached(&self, principal: &Principal, key: &Digest, outcome: CachedOutcome) -> Result<(), Failure>;
}

/// The state that tools keep between calls.
#[async_trait]
pub trait Workspaces: Send + Sync {
    /// Reads or changes one space. A change is durable when this returns.
    ///
    /// # Errors
    /// `data.conflict` where the quota is used up; `data.input_invalid` for a key that is empty or too long; `host.storage`.
    async fn state(&self, space: &StateSpace, op: StateOp, quota: &StateQuota) -> Result<StateReply, Failure>;
}

/// How far a step is, as its tool says.
#[derive(Clone, Debug, PartialEq)]
pub struct StepProgress {
    pub step: StepId,
    /// Share of the work done, 0 to 1.
    pub fraction: Option<f64>,
    pub message: String,
    pub at: Timestamp,
}

/// How far steps are, so that other processes can show it: the newest word of each step, and nothing else.
#[async_trait]
pub trait LiveProgress: Send + Sync {
    /// Keeps the newest word of a step. It waits for nothing and makes nothing wait: where the log is busy the word is lost,
    /// and so is that of an owner whom another process has followed.
    fn note_progress(&self, owner: &dyn Ownership, progress: StepProgress);

    /// Returns the newest word of each step of a run that said any, by the name of the step.
    ///
    /// # Errors
    /// `data.not_found` where there is no such run; `host.storage`.
    async fn progress(&self, run: &RunId) -> Result<Vec<StepProgress>, Failure>;
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Pruned {
    pub runs: u64,
    pub events: u64,
    pub bytes: u64,
}

impl Pruned {
    /// Returns the sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { runs: self.runs + other.runs, events: self.events + other.events, bytes: self.bytes + other.bytes }
    }
}

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct StoredBytes {
    pub runs: u64,
    pub events: u64,
    pub payload_bytes: u64,
    pub cache_bytes: u64,
    pub state_bytes: u64,
    /// All files of the log.
    pub disk_bytes: u64,
    /// What the disk has left; `None` where there is no disk.
    pub free_bytes: Option<u64>,
}

/// The care of a log.
#[async_trait]
pub trait Upkeep: Send + Sync {
    /// Copies the log to a new directory while it is in use; the copy opens as a log of its own.
    ///
    /// # Errors
    /// `data.conflict` where `to` is there already; `host.storage`, also for a log that is kept in memory only.
    async fn backup(&self, to: &Path) -> Result<(), Failure>;

    /// Removes what ended before `before` and has no owner: runs, with the runs that carried out their steps; sessions; and
    /// what only they used. Keys and cached outcomes of before go too. A run that waits for a person or for time has not
    /// ended, and neither has one whose process died.
    ///
    /// # Errors
    /// `host.storage`. What was removed until then stays removed.
    async fn prune(&self, before: Timestamp) -> Result<Pruned, Failure>;

    /// Erases what is kept of a user of a tenant, whatever the session: no byte of payloads, journals, messages, state or
    /// outcomes can be read any more, here or in the files. Events stay, and still verify. Copies that were made before are
    /// outside. Returns the runs whose payloads are gone, and no events.
    ///
    /// # Errors
    /// `host.owned` where a run of the user is under way; `host.busy` where another process reads the log for so long that
    /// the files could not be wiped; `host.storage`. Erasing again goes on where it stopped.
    async fn erase(&self, principal: &Principal) -> Result<Pruned, Failure>;

    /// Returns how much is kept.
    ///
    /// # Errors
    /// `host.storage`.
    async fn stored(&self) -> Result<StoredBytes, Failure>;
}
