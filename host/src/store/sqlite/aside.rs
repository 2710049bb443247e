//! What the log keeps beside its events, and its care.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::Connection;

use crate::domain::{
    Digest, Failure, HostCallRecord, JournalEntry, Kind, Principal, RunId, StateOp, StateQuota, StateReply, StateSpace,
    StepId, Timestamp,
};
use crate::store::{
    CachedOutcome, Claim, Durability, HostCalls, KeyedOutcomes, LiveProgress, OutcomeCache, Ownership, Pruned,
    StepProgress, StoredBytes, Upkeep, Workspaces, journal,
    prune::removable,
    space,
    sqlite::{
        SqliteLog, backup,
        cache::Slot,
        erase,
        journal::Journal,
        keys::{self, Owner},
        outcomes::Name,
        progress, prune, runs, schema,
        seal::Master,
        spaces::Space,
        stored,
    },
};

#[async_trait]
impl HostCalls for SqliteLog {
    async fn write_journal(
        &self,
        owner: &dyn Ownership,
        step: &StepId,
        attempt: u32,
        entries: Vec<JournalEntry>,
        durability: Durability,
    ) -> Result<(), Failure> {
        let lease = self.leases.of(owner)?;
        lease.check()?;
        let lines = journal::lines(entries)?;
        let bytes: usize = lines.iter().map(|line| line.text.len()).sum();
        let journal = Journal { run: lease.run().clone(), step: step.clone(), attempt };
        let (master, bytes_max, epoch) = (Arc::clone(&self.master), self.bounds.journal_bytes_max, lease.epoch());
        let work = move |db: &Connection| journal.write(db, &master, epoch, &lines, bytes_max);
        self.write(lease, bytes, durability, work).await
    }

    async fn journal(&self, run: &RunId, step: &StepId, attempt: u32) -> Result<Vec<HostCallRecord>, Failure> {
        let journal = Journal { run: run.clone(), step: step.clone(), attempt };
        let master = Arc::clone(&self.master);
        self.read_with(move |db| journal.read(db, &master)).await
    }
}

#[async_trait]
impl LiveProgress for SqliteLog {
    fn note_progress(&self, owner: &dyn Ownership, progress: StepProgress) {
        let Ok(lease) = self.leases.of(owner) else { return };
        let (board, master, step) = (self.board.clone(), Arc::clone(&self.master), progress.step.clone());
        if !self.board.put(lease.run(), progress) {
            return;
        }
        let (name, waiting) = (lease.run().clone(), step.clone());
        let is_queued = self.writer.try_queue(move |db| match board.take(lease.run(), &step) {
            Some(progress) => progress::keep(db, &master, lease.run(), lease.epoch(), &progress),
            None => Ok(()),
        });
        if !is_queued {
            self.board.take(&name, &waiting);
        }
    }

    async fn progress(&self, run: &RunId) -> Result<Vec<StepProgress>, Failure> {
        let (run, master) = (run.clone(), Arc::clone(&self.master));
        self.read_with(move |db| progress::list(db, &master, &run)).await
    }
}

#[async_trait]
impl KeyedOutcomes for SqliteLog {
    async fn claim_key(
        &self,
        principal: &Principal,
        key: &str,
        request: &Digest,
        run: &RunId,
        at: Timestamp,
    ) -> Result<Claim, Failure> {
        let (name, request, run, master) = (Name::new(principal, key), *request, run.clone(), Arc::clone(&self.master));
        self.writer.call(0, move |db| name.claim(db, &master, &request, &run, at)).await
    }

    async fn settle_key(&self, principal: &Principal, key: &str, outcome: Option<Vec<u8>>) -> Result<(), Failure> {
        let (name, master) = (Name::new(principal, key), Arc::clone(&self.master));
        let bytes = outcome.as_ref().map_or(0, Vec::len);
        self.writer.call(bytes, move |db| name.settle(db, &master, outcome.as_deref())).await
    }
}

#[async_trait]
impl OutcomeCache for SqliteLog {
    async fn cached(&self, principal: &Principal, key: &Digest) -> Result<Option<CachedOutcome>, Failure> {
        let (slot, master) = (Slot::new(principal, key), Arc::clone(&self.master));
        let used = slot.clone();
        let found = self.read_with(move |db| slot.find(db, &master)).await?;
        if found.is_some() {
            // Which one was used last is worth no wait, and no failure.
            self.writer.try_queue(move |db| used.touch(db));
        }
        Ok(found)
    }

    async fn keep_cached(&self, principal: &Principal, key: &Digest, outcome: CachedOutcome) -> Result<(), Failure> {
        let (bytes, bytes_max) = (outcome.output.len(), self.bounds.cache_bytes_max);
        if bytes as u64 > self.bounds.cached_bytes_max.min(bytes_max) {
            return Ok(());
        }
        let (slot, master) = (Slot::new(principal, key), Arc::clone(&self.master));
        self.writer.call(bytes, move |db| slot.keep(db, &master, &outcome, bytes_max)).await
    }
}

#[async_trait]
impl Workspaces for SqliteLog {
    async fn state(&self, space: &StateSpace, op: StateOp, quota: &StateQuota) -> Result<StateReply, Failure> {
        if let StateOp::Get { key } | StateOp::Set { key, .. } | StateOp::Delete { key } = &op {
            space::check_key(key)?;
        }
        let (space, quota, master) = (space.clone(), *quota, Arc::clone(&self.master));
        if op.is_write() {
            let bytes = if let StateOp::Set { value, .. } = &op { value.len() } else { 0 };
            self.writer.call(bytes, move |db| change(db, &master, &space, op, &quota)).await
        } else {
            self.read_with(move |db| look(db, &master, &space, &op)).await
        }
    }
}

fn change(
    db: &Connection,
    master: &Master,
    space: &StateSpace,
    op: StateOp,
    quota: &StateQuota,
) -> Result<StateReply, Failure> {
    match op {
        StateOp::Set { key, value } => {
            Space::make(db, master, space)?.set(&Owner::of(&space.principal), &key, &value, quota)
        }
        StateOp::Delete { key } => match Space::find(db, master, space)? {
            Some(space) => space.delete(&key),
            None => Ok(StateReply::Done { was_there: false }),
        },
        StateOp::Get { .. } | StateOp::Keys { .. } => look(db, master, space, &op),
    }
}

fn look(db: &Connection, master: &Master, space: &StateSpace, op: &StateOp) -> Result<StateReply, Failure> {
    let space = Space::find(db, master, space)?;
    match (op, space) {
        (StateOp::Get { key }, Some(space)) => space.get(key),
        (StateOp::Keys { prefix, after, keys_max }, Some(space)) => space.keys(prefix, after.as_deref(), *keys_max),
        (StateOp::Keys { .. }, None) => Ok(StateReply::Keys(Vec::new())),
        _ => Ok(StateReply::Value(None)),
    }
}

#[async_trait]
impl Upkeep for SqliteLog {
    async fn backup(&self, to: &Path) -> Result<(), Failure> {
        let (key, to) = (self.dir.join("key"), to.to_owned());
        self.read_with(move |db| backup::copy(db, &key, &to)).await
    }

    async fn prune(&self, before: Timestamp) -> Result<Pruned, Failure> {
        let mut pruned = Pruned::default();
        for family in removable(self.read_with(runs::fates).await?, before) {
            pruned = pruned.plus(self.remove(family, before).await?);
        }
        for run in self.read_with(prune::unfinished).await? {
            pruned.bytes += self.go_on(move |db| prune::go_on(db, &run)).await?;
        }
        pruned.bytes += self.go_on(move |db| prune::expire(db, before)).await?;
        self.go_on(prune::shrink).await?;
        Ok(pruned)
    }

    async fn erase(&self, principal: &Principal) -> Result<Pruned, Failure> {
        let owner = Owner::of(principal);
        let theirs = owner.clone();
        let runs = self.read_with(move |db| runs::of_owner(db, &theirs)).await?;
        let count = runs.len() as u64;
        let locks = self.lock_all(runs, "user erase").await?;
        let theirs = owner.clone();
        self.writer.call(0, move |db| keys::forget(db, &theirs)).await?;
        let bytes = self.go_on(move |db| erase::go_on(db, &owner)).await?;
        self.go_on(prune::shrink).await?;
        let (path, busy) = (self.dir.join("log.db"), self.busy);
        let wiping = tokio::task::spawn_blocking(move || erase::wipe(&schema::writer(&path, busy)?));
        wiping.await.map_err(|e| Failure::new(Kind::HostStorage, "wipe the write-ahead log").detail(e))??;
        drop(locks);
        Ok(Pruned { runs: count, events: 0, bytes })
    }

    async fn stored(&self) -> Result<StoredBytes, Failure> {
        let dir = self.dir.clone();
        self.read_with(move |db| stored::count(db, &dir)).await
    }
}
