//! Outcomes by the key of a caller, and by content.

use std::collections::HashMap;

use async_trait::async_trait;

use crate::domain::{Digest, Failure, Principal, RunId, Timestamp};
use crate::store::{
    CachedOutcome, Claim, KeyedOutcomes, OutcomeCache,
    memory::{MemoryLog, User, user},
    refusal,
};

/// What became of keys.
pub(super) type Keyed = HashMap<(User, String), Entry>;

/// A key that was taken.
pub(super) struct Entry {
    request: Digest,
    pub(super) run: RunId,
    pub(super) at: Timestamp,
    pub(super) outcome: Option<Vec<u8>>,
}

/// Outcomes by content, and when each was used last.
#[derive(Default)]
pub(super) struct Cache {
    pub(super) kept: HashMap<(User, Digest), (CachedOutcome, u64)>,
    uses: u64,
}

impl Cache {
    pub(super) fn bytes(&self) -> u64 {
        self.kept.values().map(|(outcome, _)| outcome.output.len() as u64).sum()
    }

    fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    fn drop_least_used(&mut self) -> Option<CachedOutcome> {
        let least = self.kept.iter().min_by_key(|(_, (_, used))| *used)?.0.clone();
        self.kept.remove(&least).map(|(outcome, _)| outcome)
    }
}

#[async_trait]
impl KeyedOutcomes for MemoryLog {
    async fn claim_key(
        &self,
        principal: &Principal,
        key: &str,
        request: &Digest,
        run: &RunId,
        at: Timestamp,
    ) -> Result<Claim, Failure> {
        let mut state = self.state();
        let name = (user(principal), key.to_owned());
        Ok(match state.keyed.get(&name) {
            Some(entry) if entry.request != *request => Claim::Other,
            Some(entry) => Claim::Taken { run: entry.run.clone(), outcome: entry.outcome.clone() },
            None => {
                state.keyed.insert(name, Entry { request: *request, run: run.clone(), at, outcome: None });
                Claim::Claimed
            }
        })
    }

    async fn settle_key(&self, principal: &Principal, key: &str, outcome: Option<Vec<u8>>) -> Result<(), Failure> {
        let mut state = self.state();
        let name = (user(principal), key.to_owned());
        let entry = state.keyed.get_mut(&name).ok_or_else(refusal::no_key)?;
        match outcome {
            Some(outcome) => entry.outcome = Some(outcome),
            None => drop(state.keyed.remove(&name)),
        }
        Ok(())
    }
}

#[async_trait]
impl OutcomeCache for MemoryLog {
    async fn cached(&self, principal: &Principal, key: &Digest) -> Result<Option<CachedOutcome>, Failure> {
        let mut state = self.state();
        let now = state.cache.next_use();
        let found = state.cache.kept.get_mut(&(user(principal), *key));
        Ok(found.map(|(outcome, used)| {
            *used = now;
            outcome.clone()
        }))
    }

    async fn keep_cached(&self, principal: &Principal, key: &Digest, outcome: CachedOutcome) -> Result<(), Failure> {
        let bytes = outcome.output.len() as u64;
        if bytes > self.bounds.cached_bytes_max.min(self.bounds.cache_bytes_max) {
            return Ok(());
        }
        let cache = &mut self.state().cache;
        let used = cache.next_use();
        cache.kept.insert((user(principal), *key), (outcome, used));
        let mut bytes = cache.bytes();
        while bytes > self.bounds.cache_bytes_max
            && let Some(dropped) = cache.drop_least_used()
        {
            bytes = bytes.saturating_sub(dropped.output.len() as u64);
        }
        Ok(())
    }
}
