//! A log that forgets what was only queued when its process dies, and that fails where the fuse says.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use cofferdam::domain::{
    Digest, Event, Fact, Failure, HostCallRecord, JournalEntry, Principal, RunId, Seq, StateOp, StateQuota, StateReply,
    StateSpace, StepId, Timestamp,
};
use cofferdam::store::memory::MemoryLog;
use cofferdam::store::{
    Batch, CachedOutcome, Claim, Durability, EventLog, HostCalls, KeyedOutcomes, LiveProgress, Message, OutcomeCache,
    Ownership, Pruned, Received, RunEntry, StepProgress, StoredBytes, Upkeep, Verified, Workspaces,
};

use super::fuse::{Fuse, Rng};
use super::world::World;

/// What outlives a process: all that was written, in order.
#[derive(Default)]
pub struct Disk {
    log: Mutex<MemoryLog>,
    written: Mutex<Written>,
}

#[derive(Default)]
struct Written {
    ops: Vec<Op>,
    /// So many of them cannot be lost.
    synced: usize,
}

#[derive(Clone)]
enum Op {
    Create { run: RunId, principal: Principal, owner: String, at: Timestamp },
    Own { run: RunId, owner: String },
    Append { run: RunId, batch: Batch },
    Journal { run: RunId, step: StepId, attempt: u32, entries: Vec<JournalEntry> },
    Send { run: RunId, message: Message },
    Received { run: RunId, ids: Vec<u64> },
    KeepCached { principal: Principal, key: Digest, outcome: CachedOutcome },
}

impl Disk {
    pub fn log(&self) -> MemoryLog {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, op: Op, durability: Durability) {
        let mut written = self.written();
        written.ops.push(op);
        if durability == Durability::Synced {
            written.synced = written.ops.len();
        }
    }

    /// Leaves a message, as another process would.
    pub async fn send(&self, run: &RunId, message: Message) {
        self.log().send(run, &message).await.expect("the inbox takes it");
        self.note(Op::Send { run: run.clone(), message }, Durability::Synced);
    }

    /// Loses some of what was queued and not synced: the machine went down, and nobody owns a run any more.
    pub async fn crash(&self, rng: &Rng) {
        let ops = {
            let mut written = self.written();
            let queued = written.ops.len() - written.synced;
            let lost = rng.below(u64::try_from(queued).unwrap_or(0) + 1);
            let kept = written.ops.len() - usize::try_from(lost).unwrap_or(0);
            written.ops.truncate(kept);
            written.synced = kept;
            written.ops.clone()
        };
        let log = MemoryLog::default();
        let mut owners = HashMap::new();
        for op in ops {
            again(&log, &mut owners, op).await.expect("what was written once can be written again");
        }
        drop(owners);
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = log;
    }
}

async fn again(log: &MemoryLog, owners: &mut HashMap<RunId, Box<dyn Ownership>>, op: Op) -> Result<(), Failure> {
    match op {
        Op::Create { run, principal, owner, at } => {
            // Whoever began it before left before its first event.
            owners.remove(&run);
            let owner = log.create(&run, &principal, &owner, at).await?;
            owners.insert(run, owner);
        }
        Op::Own { run, owner } => {
            owners.remove(&run);
            let owner = log.own(&run, &owner).await?;
            owners.insert(run, owner);
        }
        Op::Append { run, batch } => drop(log.append(&*owners[&run], batch, Durability::Synced).await?),
        Op::Journal { run, step, attempt, entries } => {
            log.write_journal(&*owners[&run], &step, attempt, entries, Durability::Synced).await?;
        }
        Op::Send { run, message } => log.send(&run, &message).await?,
        Op::Received { run, ids } => log.received(&*owners[&run], &ids).await?,
        Op::KeepCached { principal, key, outcome } => log.keep_cached(&principal, &key, outcome).await?,
    }
    Ok(())
}

/// The log as one process sees it.
pub struct SimLog {
    pub disk: Arc<Disk>,
    pub fuse: Arc<Fuse>,
    pub world: Arc<World>,
}

impl SimLog {
    /// A point before a write, and whether it can be made.
    async fn before(&self) -> Result<(), Failure> {
        self.fuse.point().await;
        self.fuse.writes()
    }
}

#[async_trait]
impl EventLog for SimLog {
    async fn create(
        &self,
        run: &RunId,
        principal: &Principal,
        owner: &str,
        at: Timestamp,
    ) -> Result<Box<dyn Ownership>, Failure> {
        self.before().await?;
        let owned = self.disk.log().create(run, principal, owner, at).await?;
        let op = Op::Create { run: run.clone(), principal: principal.clone(), owner: owner.to_owned(), at };
        // Nothing is written before the first append.
        self.disk.note(op, Durability::Queued);
        Ok(owned)
    }

    async fn own(&self, run: &RunId, owner: &str) -> Result<Box<dyn Ownership>, Failure> {
        self.before().await?;
        let owned = self.disk.log().own(run, owner).await?;
        self.disk.note(Op::Own { run: run.clone(), owner: owner.to_owned() }, Durability::Synced);
        // Whoever wants the same run now finds it taken.
        tokio::task::yield_now().await;
        Ok(owned)
    }

    async fn append(&self, owner: &dyn Ownership, batch: Batch, durability: Durability) -> Result<Vec<Event>, Failure> {
        self.before().await?;
        let events = self.disk.log().append(owner, batch.clone(), durability).await?;
        self.disk.note(Op::Append { run: owner.run().clone(), batch }, durability);
        if events.iter().any(|event| matches!(event.fact, Fact::CancelRequested { .. })) {
            self.world.stopped(owner.run());
        }
        self.fuse.point().await;
        Ok(events)
    }

    async fn read(&self, run: &RunId, after: Seq) -> Result<Vec<Event>, Failure> {
        self.disk.log().read(run, after).await
    }

    async fn payload(&self, run: &RunId, digest: &Digest) -> Result<Option<Vec<u8>>, Failure> {
        self.disk.log().payload(run, digest).await
    }

    async fn runs(&self, runs_max: usize) -> Result<Vec<RunEntry>, Failure> {
        self.disk.log().runs(runs_max).await
    }

    async fn send(&self, run: &RunId, message: &Message) -> Result<(), Failure> {
        self.before().await?;
        self.disk.log().send(run, message).await?;
        self.disk.note(Op::Send { run: run.clone(), message: message.clone() }, Durability::Synced);
        Ok(())
    }

    async fn inbox(&self, run: &RunId) -> Result<Vec<Received>, Failure> {
        self.disk.log().inbox(run).await
    }

    async fn received(&self, owner: &dyn Ownership, ids: &[u64]) -> Result<(), Failure> {
        self.before().await?;
        self.disk.log().received(owner, ids).await?;
        self.disk.note(Op::Received { run: owner.run().clone(), ids: ids.to_vec() }, Durability::Synced);
        Ok(())
    }

    async fn verify(&self, run: &RunId) -> Result<Verified, Failure> {
        self.disk.log().verify(run).await
    }

    async fn flush(&self) -> Result<(), Failure> {
        let mut written = self.disk.written();
        written.synced = written.ops.len();
        Ok(())
    }
}

#[async_trait]
impl HostCalls for SimLog {
    async fn write_journal(
        &self,
        owner: &dyn Ownership,
        step: &StepId,
        attempt: u32,
        entries: Vec<JournalEntry>,
        durability: Durability,
    ) -> Result<(), Failure> {
        self.before().await?;
        self.disk.log().write_journal(owner, step, attempt, entries.clone(), durability).await?;
        let op = Op::Journal { run: owner.run().clone(), step: step.clone(), attempt, entries };
        self.disk.note(op, durability);
        self.fuse.point().await;
        Ok(())
    }

    async fn journal(&self, run: &RunId, step: &StepId, attempt: u32) -> Result<Vec<HostCallRecord>, Failure> {
        self.disk.log().journal(run, step, attempt).await
    }
}

#[async_trait]
impl KeyedOutcomes for SimLog {
    async fn claim_key(
        &self,
        principal: &Principal,
        key: &str,
        request: &Digest,
        run: &RunId,
        at: Timestamp,
    ) -> Result<Claim, Failure> {
        self.disk.log().claim_key(principal, key, request, run, at).await
    }

    async fn settle_key(&self, principal: &Principal, key: &str, outcome: Option<Vec<u8>>) -> Result<(), Failure> {
        self.disk.log().settle_key(principal, key, outcome).await
    }
}

#[async_trait]
impl OutcomeCache for SimLog {
    async fn cached(&self, principal: &Principal, key: &Digest) -> Result<Option<CachedOutcome>, Failure> {
        self.disk.log().cached(principal, key).await
    }

    async fn keep_cached(&self, principal: &Principal, key: &Digest, outcome: CachedOutcome) -> Result<(), Failure> {
        self.fuse.writes()?;
        self.disk.log().keep_cached(principal, key, outcome.clone()).await?;
        let op = Op::KeepCached { principal: principal.clone(), key: *key, outcome };
        self.disk.note(op, Durability::Queued);
        Ok(())
    }
}

#[async_trait]
impl Workspaces for SimLog {
    async fn state(&self, space: &StateSpace, op: StateOp, quota: &StateQuota) -> Result<StateReply, Failure> {
        self.disk.log().state(space, op, quota).await
    }
}

#[async_trait]
impl LiveProgress for SimLog {
    fn note_progress(&self, owner: &dyn Ownership, progress: StepProgress) {
        self.disk.log().note_progress(owner, progress);
    }

    async fn progress(&self, run: &RunId) -> Result<Vec<StepProgress>, Failure> {
        self.disk.log().progress(run).await
    }
}

#[async_trait]
impl Upkeep for SimLog {
    async fn backup(&self, to: &Path) -> Result<(), Failure> {
        self.disk.log().backup(to).await
    }

    async fn prune(&self, before: Timestamp) -> Result<Pruned, Failure> {
        self.disk.log().prune(before).await
    }

    async fn erase(&self, principal: &Principal) -> Result<Pruned, Failure> {
        self.disk.log().erase(principal).await
    }

    async fn stored(&self) -> Result<StoredBytes, Failure> {
        self.disk.log().stored().await
    }
}
