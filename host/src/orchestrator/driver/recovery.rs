//! Takes a run over after another process left it.

use std::collections::HashMap;

use crate::domain::{Fact, Failure, HostCallRecord, RunId, StepId};
use crate::orchestrator::driver::Drive;
use crate::orchestrator::journal::Answers;
use crate::orchestrator::machine::Run;
use crate::orchestrator::recover::{merged, recover, to_recover};
use crate::store::{Durability, EventLog};

impl Drive {
    /// Notes that this process has the run now, and what became of the calls of the one before.
    pub(super) async fn claim(&mut self) -> Result<(), Failure> {
        let parts = &self.driver.parts;
        let mut facts = vec![Fact::RunClaimed { owner: parts.owner.clone(), policy: parts.policy.digest() }];
        facts.extend(recovered(&*parts.log, &self.run).await?);
        self.record(facts, Vec::new(), Durability::Synced).await
    }

    /// Returns what the host calls of the step's interrupted attempts brought: they are not made again.
    pub(super) async fn answers_for(&self, step: &StepId) -> Result<Option<Answers>, Failure> {
        let interrupted = self.run.step(step).map(|step| step.interrupted.clone()).unwrap_or_default();
        if interrupted.is_empty() {
            return Ok(None);
        }
        let records = journal(&*self.driver.parts.log, &self.run.id, step, &interrupted).await?;
        Ok(Some(Answers::new(records)))
    }
}

/// Returns what became of the calls of a run whose process died, as their journals tell.
///
/// # Errors
/// `host.storage`.
pub async fn recovered(log: &dyn EventLog, run: &Run) -> Result<Vec<Fact>, Failure> {
    let mut journals = HashMap::new();
    for (step, attempts) in to_recover(run) {
        let records = journal(log, &run.id, &step, &attempts).await?;
        journals.insert(step, records);
    }
    Ok(recover(run, &journals))
}

async fn journal(
    log: &dyn EventLog,
    run: &RunId,
    step: &StepId,
    attempts: &[u32],
) -> Result<Vec<HostCallRecord>, Failure> {
    let mut journals = Vec::with_capacity(attempts.len());
    for attempt in attempts {
        journals.push(log.journal(run, step, *attempt).await?);
    }
    Ok(merged(journals))
}
