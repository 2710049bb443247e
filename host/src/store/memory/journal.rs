//! Journals of calls, and how far steps are.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::domain::{Failure, HostCallRecord, JournalEntry, RunId, StepId};
use crate::store::{Durability, HostCalls, LiveProgress, Ownership, StepProgress, journal, memory::MemoryLog, refusal};

/// The journals of a run, by step and attempt.
pub(super) type Journals = BTreeMap<(StepId, u32), Journal>;

/// The journal of one call, and what it takes.
#[derive(Default)]
pub(super) struct Journal {
    records: BTreeMap<u32, HostCallRecord>,
    pub(super) bytes: u64,
}

#[async_trait]
impl HostCalls for MemoryLog {
    async fn write_journal(
        &self,
        owner: &dyn Ownership,
        step: &StepId,
        attempt: u32,
        entries: Vec<JournalEntry>,
        _: Durability,
    ) -> Result<(), Failure> {
        let lines = journal::lines(entries)?;
        let mut state = self.state();
        let journal = state.owned(owner)?.journals.entry((step.clone(), attempt)).or_default();
        let bytes = journal.bytes + lines.iter().map(|line| line.text.len() as u64).sum::<u64>();
        if bytes > self.bounds.journal_bytes_max {
            return Err(refusal::journal_full(owner.run(), step, self.bounds.journal_bytes_max));
        }
        journal.bytes = bytes;
        for line in lines {
            line.add_to(&mut journal.records).ok_or_else(|| refusal::unfit_journal(owner.run(), step, line.n))?;
        }
        Ok(())
    }

    async fn journal(&self, run: &RunId, step: &StepId, attempt: u32) -> Result<Vec<HostCallRecord>, Failure> {
        let state = self.state();
        let journal = state.run(run)?.journals.get(&(step.clone(), attempt));
        Ok(journal.map(|journal| journal.records.values().cloned().collect()).unwrap_or_default())
    }
}

#[async_trait]
impl LiveProgress for MemoryLog {
    fn note_progress(&self, owner: &dyn Ownership, progress: StepProgress) {
        if let Ok(run) = self.state().owned(owner) {
            run.progress.insert(progress.step.clone(), progress);
        }
    }

    async fn progress(&self, run: &RunId) -> Result<Vec<StepProgress>, Failure> {
        Ok(self.state().run(run)?.progress.values().cloned().collect())
    }
}
