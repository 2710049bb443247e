//! Keeps events and payloads, and never interprets them.
//!
//! Promises: events of a run are appended in order and without gaps, each naming the hash of the one before; an append
//! of a process that no longer owns the run is refused; what was said to be durable survives a crash of the machine.
//! Payloads are sealed by their owner's key. Two logs stand behind [`EventLog`]: [`memory`] and [`sqlite`]; both pass
//! the suite in `contract/`.

use std::fmt;

use async_trait::async_trait;

use crate::domain::{Digest, Epoch, Event, Fact, Failure, Kind, Principal, RunId, Seq, StepId, Timestamp, canonical};

mod aside;
mod bounds;
mod chain;
#[cfg(test)]
mod contract;
mod journal;
pub mod memory;
mod prune;
mod refusal;
mod space;
pub mod sqlite;
mod upcast;

pub use aside::{
    CachedOutcome, Claim, HostCalls, KeyedOutcomes, LiveProgress, OutcomeCache, Pruned, StepProgress, StoredBytes,
    Upkeep, Workspaces,
};
pub use bounds::Bounds;

/// When an append returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Once it is in the writer's queue, in order. A crash may forget it: enough for what changes nothing.
    Queued,
    /// Once it is on the disk, and all before it.
    Synced,
}

/// A payload and its digest, which [`Payload::new`] computes.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    digest: Digest,
    bytes: Vec<u8>,
}

impl Payload {
    /// Makes a payload of `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { digest: Digest::of(&bytes), bytes }
    }

    /// Makes a payload of the canonical JSON of `value`.
    ///
    /// # Errors
    /// `host.bug` where `value` cannot be written as JSON.
    pub fn of<T: serde::Serialize>(value: &T) -> Result<Self, Failure> {
        let json = serde_json::to_value(value);
        let json = json.map_err(|e| Failure::new(Kind::HostBug, "write a payload as JSON").detail(e))?;
        Ok(Self::new(canonical(&json).into_bytes()))
    }

    /// Returns the digest of the bytes.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Payload {
    /// Writes digest and length only: what is inside belongs to its owner.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({:?}, {} bytes)", self.digest, self.bytes.len())
    }
}

/// The right to append to a run: held by one process at a time, and freed by the kernel when that process dies.
pub trait Ownership: Send + Sync {
    /// Returns the run.
    fn run(&self) -> &RunId;
    /// Returns the number of this ownership, greater than that of any before.
    fn epoch(&self) -> Epoch;
}

/// A decision that some other process left for the owner of a run.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Message {
    /// About the exact call whose approval was asked under `binding`.
    Decide { step: StepId, binding: Digest, choice: Choice, by: String, reason: Option<String> },
    /// What became of a step whose end nobody saw.
    Settle { step: StepId, settle: Settle, by: String },
    /// The answer to the planner's question of this turn.
    Answer { turn: u32, text: String, by: String },
    /// Stop, and with `undo` take back what was done.
    Cancel { by: String, undo: bool },
}

/// What a person chose; `args` is JSON text.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "as", rename_all = "snake_case")]
pub enum Choice {
    Approve,
    Reject,
    /// Approve the same tool with these arguments.
    Modify {
        args: String,
    },
}

/// What a person says became of an unknown step; `output` is JSON text.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "as", rename_all = "snake_case")]
pub enum Settle {
    Done { output: String },
    Retry,
    Failed,
}

/// A message with its place in the inbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    pub id: u64,
    pub message: Message,
}

/// A run as the list of runs shows it, without folding its events.
#[derive(Clone, Debug, PartialEq)]
pub struct RunEntry {
    pub run: RunId,
    pub principal: Principal,
    pub created: Timestamp,
    pub last: Timestamp,
    pub events: Seq,
    pub owner: Option<String>,
}

/// What [`EventLog::verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub events: Seq,
    /// Hash of the last event: keep it elsewhere to notice a rewritten log.
    pub head: Digest,
}

/// Events to append, with the payloads they name. All or nothing.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The last event that the caller knows of, and its hash.
    pub after: (Seq, Digest),
    pub facts: Vec<(Timestamp, Fact)>,
    pub payloads: Vec<Payload>,
}

/// The log, and all that it keeps beside its events.
#[async_trait]
pub trait EventLog: HostCalls + KeyedOutcomes + OutcomeCache + Workspaces + LiveProgress + Upkeep {
    /// Takes the name of a run that is to be. The run is in the log with its first append, which follows nothing and names
    /// one fact at least: whose it is, and since when, is one with that. Dropped before, the name is free again.
    ///
    /// # Errors
    /// `data.conflict` where the run exists, or another process is making it; `host.full` where the disk or the log is nearly
    /// full; `host.storage`.
    async fn create(
        &self,
        run: &RunId,
        principal: &Principal,
        owner: &str,
        at: Timestamp,
    ) -> Result<Box<dyn Ownership>, Failure>;

    /// Takes a run that no living process owns.
    ///
    /// # Errors
    /// `data.not_found`; `host.owned`, naming the owner; `host.storage`.
    async fn own(&self, run: &RunId, owner: &str) -> Result<Box<dyn Ownership>, Failure>;

    /// Appends facts as events that follow `batch.after`, and returns them.
    ///
    /// # Errors
    /// `host.owned` where another process has taken the run since; `data.conflict` where `after` is not the last event;
    /// `host.storage`, also for a payload that is larger than the log keeps. After an error of a queued append every later one of the same ownership fails with it: no gap can
    /// arise.
    async fn append(&self, owner: &dyn Ownership, batch: Batch, durability: Durability) -> Result<Vec<Event>, Failure>;

    /// Returns the events after `after`, in order; 0 for all.
    ///
    /// # Errors
    /// `data.not_found`; `host.storage`, also where an event is of a newer version or its chain is broken, naming its seq.
    async fn read(&self, run: &RunId, after: Seq) -> Result<Vec<Event>, Failure>;

    /// Returns a payload of a run, `None` where its owner was erased.
    ///
    /// # Errors
    /// `data.not_found` where the run has no such payload; `host.storage`, also where the bytes do not fit their digest.
    async fn payload(&self, run: &RunId, digest: &Digest) -> Result<Option<Vec<u8>>, Failure>;

    /// Lists the newest runs first, at most `runs_max`.
    ///
    /// # Errors
    /// `host.storage`.
    async fn runs(&self, runs_max: usize) -> Result<Vec<RunEntry>, Failure>;

    /// Leaves a message for the owner of a run, durably.
    ///
    /// # Errors
    /// `data.not_found`; `host.busy` where [`INBOX_MESSAGES_MAX`] wait already; `host.storage`.
    async fn send(&self, run: &RunId, message: &Message) -> Result<(), Failure>;

    /// Returns the waiting messages, oldest first. They stay until [`EventLog::received`].
    ///
    /// # Errors
    /// `data.not_found`; `host.storage`.
    async fn inbox(&self, run: &RunId) -> Result<Vec<Received>, Failure>;

    /// Removes messages that became events.
    ///
    /// # Errors
    /// `host.owned` where another process has taken the run since; `host.storage`.
    async fn received(&self, owner: &dyn Ownership, ids: &[u64]) -> Result<(), Failure>;

    /// Checks every event of a run, its order, hash and form, and every payload that is kept of it.
    ///
    /// # Errors
    /// `host.storage`, naming the first event that was touched; `data.not_found`.
    async fn verify(&self, run: &RunId) -> Result<Verified, Failure>;

    /// Waits until all that was appended is durable.
    ///
    /// # Errors
    /// `host.storage`.
    async fn flush(&self) -> Result<(), Failure>;
}

/// Messages that may wait for one run: a person sends a handful.
pub const INBOX_MESSAGES_MAX: usize = 1_000;
