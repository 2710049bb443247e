//! A log in memory, for tests and for programs that keep nothing: the same promises, as long as the process lives.
//!
//! Clones share one log. An ownership is freed when it is dropped.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::domain::{Digest, Epoch, Event, Failure, GENESIS, Principal, RunId, Seq, StepId, Timestamp};
use crate::store::{
    Batch, Bounds, Durability, EventLog, INBOX_MESSAGES_MAX, Message, Ownership, Received, RunEntry, StepProgress,
    Verified,
    chain::{self, Record},
    refusal,
};

mod journal;
mod outcomes;
mod upkeep;
mod workspaces;

/// A log that lives and dies with the process.
#[derive(Clone, Default)]
pub struct MemoryLog {
    bounds: Bounds,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    runs: BTreeMap<RunId, Run>,
    /// Runs whose first event is still to come.
    unborn: BTreeMap<RunId, Run>,
    messages: u64,
    keyed: outcomes::Keyed,
    cache: outcomes::Cache,
    spaces: workspaces::Spaces,
}

/// The tenant and the user to whom something belongs.
type User = (String, String);

struct Run {
    principal: Principal,
    created: Timestamp,
    epoch: Epoch,
    owner: Option<String>,
    records: Vec<Record>,
    /// `None` where the owner was erased.
    payloads: HashMap<Digest, Option<Vec<u8>>>,
    inbox: Vec<Received>,
    journals: journal::Journals,
    progress: BTreeMap<StepId, StepProgress>,
}

struct MemoryOwnership {
    run: RunId,
    epoch: Epoch,
    state: Arc<Mutex<State>>,
}

/// Returns to whom what is kept for `principal` belongs.
fn user(principal: &Principal) -> User {
    (principal.tenant.clone(), principal.user.clone())
}

impl MemoryLog {
    /// Makes an empty log that keeps so much. Where a bound is about a disk, there is none.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    fn ownership(&self, run: &RunId, epoch: Epoch) -> Box<dyn Ownership> {
        Box::new(MemoryOwnership { run: run.clone(), epoch, state: Arc::clone(&self.state) })
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn run(&self, run: &RunId) -> Result<&Run, Failure> {
        self.runs.get(run).ok_or_else(|| refusal::no_run(run))
    }

    fn run_mut(&mut self, run: &RunId) -> Result<&mut Run, Failure> {
        self.runs.get_mut(run).ok_or_else(|| refusal::no_run(run))
    }

    /// Makes a run whose first append this is one that is there.
    fn bear(&mut self, owner: &dyn Ownership, batch: &Batch) -> Result<(), Failure> {
        if self.runs.contains_key(owner.run()) || batch.after != (0, GENESIS) {
            return Ok(());
        }
        if batch.facts.is_empty() {
            return Err(refusal::no_beginning(owner.run()));
        }
        let born = self.unborn.remove(owner.run()).map(|run| (owner.run().clone(), run));
        self.runs.extend(born);
        Ok(())
    }

    /// Returns the run of an owner that nobody has followed.
    fn owned(&mut self, owner: &dyn Ownership) -> Result<&mut Run, Failure> {
        let run = self.run_mut(owner.run())?;
        if run.epoch == owner.epoch() { Ok(run) } else { Err(refusal::superseded(owner.run())) }
    }
}

impl Run {
    fn new(principal: Principal, owner: &str, created: Timestamp) -> Self {
        Self {
            principal,
            created,
            epoch: 1,
            owner: Some(owner.to_owned()),
            records: Vec::new(),
            payloads: HashMap::new(),
            inbox: Vec::new(),
            journals: journal::Journals::default(),
            progress: BTreeMap::new(),
        }
    }

    fn end(&self) -> (Seq, Digest) {
        self.records.last().map_or((0, GENESIS), |record| (record.seq, record.hash))
    }

    fn entry(&self, run: &RunId) -> RunEntry {
        RunEntry {
            run: run.clone(),
            principal: self.principal.clone(),
            created: self.created,
            last: self.records.last().map_or(self.created, |record| record.at),
            events: self.end().0,
            owner: self.owner.clone(),
        }
    }

    /// Returns the checked events.
    fn checked(&self, run: &RunId) -> Result<Vec<Event>, Failure> {
        let mut prev = GENESIS;
        let mut events = Vec::with_capacity(self.records.len());
        for (seq, record) in (1..).zip(&self.records) {
            events.push(chain::check(run, seq, prev, record)?);
            prev = record.hash;
        }
        Ok(events)
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn create(
        &self,
        run: &RunId,
        principal: &Principal,
        owner: &str,
        at: Timestamp,
    ) -> Result<Box<dyn Ownership>, Failure> {
        let mut state = self.state();
        if state.runs.contains_key(run) || state.unborn.contains_key(run) {
            return Err(refusal::run_exists(run));
        }
        state.unborn.insert(run.clone(), Run::new(principal.clone(), owner, at));
        Ok(self.ownership(run, 1))
    }

    async fn own(&self, run: &RunId, owner: &str) -> Result<Box<dyn Ownership>, Failure> {
        let mut state = self.state();
        let held = state.run_mut(run)?;
        if let Some(other) = &held.owner {
            return Err(refusal::owned(run, other));
        }
        held.owner = Some(owner.to_owned());
        held.epoch += 1;
        Ok(self.ownership(run, held.epoch))
    }

    async fn append(&self, owner: &dyn Ownership, batch: Batch, _: Durability) -> Result<Vec<Event>, Failure> {
        batch.payloads.iter().try_for_each(|payload| refusal::check_payload(payload, &self.bounds))?;
        let mut state = self.state();
        state.bear(owner, &batch)?;
        let run = state.owned(owner)?;
        if run.end() != batch.after {
            return Err(refusal::conflict(owner.run(), batch.after.0, run.end().0));
        }
        let (events, records) = chain::extend(owner.run(), owner.epoch(), batch.after, batch.facts)?;
        run.records.extend(records);
        run.payloads.extend(batch.payloads.into_iter().map(|payload| (payload.digest, Some(payload.bytes))));
        Ok(events)
    }

    async fn read(&self, run: &RunId, after: Seq) -> Result<Vec<Event>, Failure> {
        let mut events = self.state().run(run)?.checked(run)?;
        events.retain(|event| event.seq > after);
        Ok(events)
    }

    async fn payload(&self, run: &RunId, digest: &Digest) -> Result<Option<Vec<u8>>, Failure> {
        let state = self.state();
        let bytes = state.run(run)?.payloads.get(digest).ok_or_else(|| refusal::no_payload(run, digest))?;
        Ok(bytes.clone())
    }

    async fn runs(&self, runs_max: usize) -> Result<Vec<RunEntry>, Failure> {
        let state = self.state();
        let mut entries: Vec<_> = state.runs.iter().map(|(id, run)| run.entry(id)).collect();
        entries.sort_unstable_by(|a, b| (b.created, &b.run).cmp(&(a.created, &a.run)));
        entries.truncate(runs_max);
        Ok(entries)
    }

    async fn send(&self, run: &RunId, message: &Message) -> Result<(), Failure> {
        let mut state = self.state();
        let id = state.messages + 1;
        let inbox = &mut state.run_mut(run)?.inbox;
        if inbox.len() >= INBOX_MESSAGES_MAX {
            return Err(refusal::inbox_full(run));
        }
        inbox.push(Received { id, message: message.clone() });
        state.messages = id;
        Ok(())
    }

    async fn inbox(&self, run: &RunId) -> Result<Vec<Received>, Failure> {
        Ok(self.state().run(run)?.inbox.clone())
    }

    async fn received(&self, owner: &dyn Ownership, ids: &[u64]) -> Result<(), Failure> {
        self.state().owned(owner)?.inbox.retain(|received| !ids.contains(&received.id));
        Ok(())
    }

    async fn verify(&self, run: &RunId) -> Result<Verified, Failure> {
        let state = self.state();
        let held = state.run(run)?;
        held.checked(run)?;
        let (events, head) = held.end();
        Ok(Verified { events, head })
    }

    async fn flush(&self) -> Result<(), Failure> {
        // Memory is as durable as it gets.
        Ok(())
    }
}

impl Ownership for MemoryOwnership {
    fn run(&self) -> &RunId {
        &self.run
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl Drop for MemoryOwnership {
    fn drop(&mut self) {
        let mut state = locked(&self.state);
        match state.owned(self) {
            Ok(run) => run.owner = None,
            // It never was.
            Err(_) => drop(state.unborn.remove(&self.run)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;

    #[tokio::test]
    async fn it_keeps_the_promises_of_every_log() {
        contract::check_all(async |bounds| MemoryLog::new(bounds)).await;
    }
}
