//! Takes a run over after another process left it.

use std::collections::HashMap;

use crate::domain::{Fact, Failure, StepId};
use crate::orchestrator::driver::Drive;
use crate::orchestrator::journal::Answers;
use crate::orchestrator::recover::{recover, to_recover};
use crate::store::Durability;

impl Drive {
    /// Notes that this process has the run now, and what became of the calls of the one before.
    pub(super) async fn claim(&mut self) -> Result<(), Failure> {
        let parts = &self.driver.parts;
        let mut journals = HashMap::new();
        for (step, attempt) in to_recover(&self.run) {
            let journal = parts.log.journal(&self.run.id, &step, attempt).await?;
            journals.insert(step, journal);
        }
        let mut facts = vec![Fact::RunClaimed { owner: parts.owner.clone(), policy: parts.policy.digest() }];
        facts.extend(recover(&self.run, &journals));
        self.record(facts, Vec::new(), Durability::Synced).await
    }

    /// Returns what the host calls of the step's interrupted attempt brought: they are not made again.
    pub(super) async fn answers_for(&self, step: &StepId) -> Result<Option<Answers>, Failure> {
        let interrupted = self.run.step(step).and_then(|step| step.interrupted);
        let Some(attempt) = interrupted else { return Ok(None) };
        let records = self.driver.parts.log.journal(&self.run.id, step, attempt).await?;
        Ok(Some(Answers::new(records)))
    }
}
