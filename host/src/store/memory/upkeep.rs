//! The care of a log in memory.

use std::collections::HashSet;
use std::path::Path;

use async_trait::async_trait;

use crate::domain::{Failure, Kind, Principal, RunId, Timestamp};
use crate::store::{
    Pruned, StoredBytes, Upkeep,
    memory::{MemoryLog, Run, State, user},
    prune::{self, Fate},
    refusal,
};

impl Run {
    fn fate(&self, run: &RunId) -> Fate {
        let first = self.records.first().map(|record| (record.kind.as_str(), record.body.as_str()));
        let last_kind = self.records.last().map(|record| record.kind.as_str());
        let last = self.records.last().map_or(self.created, |record| record.at);
        let fate = Fate::new(run.clone(), last, first, last_kind);
        Fate { has_ended: fate.has_ended && self.owner.is_none(), ..fate }
    }

    fn payload_bytes(&self) -> u64 {
        self.payloads.values().flatten().map(|bytes| bytes.len() as u64).sum()
    }

    /// Counts what goes with the run.
    fn pruned(&self) -> Pruned {
        let bodies: u64 = self.records.iter().map(|record| record.body.len() as u64).sum();
        let journals: u64 = self.journals.values().map(|journal| journal.bytes).sum();
        Pruned { runs: 1, events: self.records.len() as u64, bytes: bodies + journals + self.payload_bytes() }
    }

    /// Forgets all that belongs to the owner, but what the events say.
    fn erase(&mut self) -> u64 {
        let bytes = self.payload_bytes() + self.journals.values().map(|journal| journal.bytes).sum::<u64>();
        self.payloads.values_mut().for_each(|payload| *payload = None);
        self.journals.clear();
        self.inbox.clear();
        self.progress.clear();
        bytes
    }
}

impl State {
    /// Removes what only runs that are gone used, and what is older than `before`.
    fn sweep(&mut self, gone: &[Run], before: Timestamp) {
        let runs = &self.runs;
        self.keyed.retain(|_, entry| entry.at >= before || (entry.outcome.is_none() && runs.contains_key(&entry.run)));
        self.cache.kept.retain(|_, (outcome, _)| outcome.at >= before);
        let left: HashSet<_> = runs.values().map(|run| &run.principal).collect();
        let sessions: HashSet<_> =
            gone.iter().map(|run| &run.principal).filter(|principal| !left.contains(principal)).collect();
        let sessions: HashSet<_> = sessions.into_iter().map(|who| (user(who), who.session.clone())).collect();
        self.spaces.retain(|name, _| match name.scope {
            "session" => !sessions.contains(&(name.user.clone(), name.session.clone())),
            "workflow" => runs.keys().any(|run| run.as_str() == name.run),
            _ => true,
        });
    }
}

#[async_trait]
impl Upkeep for MemoryLog {
    async fn backup(&self, _: &Path) -> Result<(), Failure> {
        Err(Failure::new(Kind::HostStorage, "back up the log: it is kept in memory only")
            .hint("set a directory for the state, so that there is something to copy"))
    }

    async fn prune(&self, before: Timestamp) -> Result<Pruned, Failure> {
        let mut state = self.state();
        let fates = state.runs.iter().map(|(id, run)| run.fate(id)).collect();
        let families = prune::removable(fates, before).into_iter().flatten();
        let gone: Vec<Run> = families.filter_map(|run| state.runs.remove(&run)).collect();
        state.sweep(&gone, before);
        Ok(gone.iter().map(Run::pruned).fold(Pruned::default(), Pruned::plus))
    }

    async fn erase(&self, principal: &Principal) -> Result<Pruned, Failure> {
        let mut state = self.state();
        let who = user(principal);
        let is_theirs = |run: &Run| user(&run.principal) == who;
        let owned = state.runs.iter().find_map(|(id, run)| Some((id, run.owner.as_ref().filter(|_| is_theirs(run))?)));
        if let Some((run, owner)) = owned {
            return Err(refusal::owned(run, owner));
        }
        let mut erased = Pruned::default();
        for run in state.runs.values_mut().filter(|run| is_theirs(run)) {
            erased = erased.plus(Pruned { runs: 1, events: 0, bytes: run.erase() });
        }
        state.keyed.retain(|(user, _), _| *user != who);
        state.cache.kept.retain(|(user, _), _| *user != who);
        state.spaces.retain(|name, _| name.user != who);
        Ok(erased)
    }

    async fn stored(&self) -> Result<StoredBytes, Failure> {
        let state = self.state();
        Ok(StoredBytes {
            runs: state.runs.len() as u64,
            events: state.runs.values().map(|run| run.records.len() as u64).sum(),
            payload_bytes: state.runs.values().map(Run::payload_bytes).sum(),
            cache_bytes: state.cache.bytes(),
            state_bytes: state.spaces.values().map(|space| space.held.bytes).sum(),
            disk_bytes: 0,
            free_bytes: None,
        })
    }
}
