//! Takes a run over after another process left it.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use crate::domain::{Fact, Failure, HostCallRecord, StepId};
use crate::orchestrator::driver::Drive;
use crate::orchestrator::journal::Answers;
use crate::orchestrator::machine::Step;
use crate::orchestrator::recover::{joined, recover, to_recover};
use crate::store::Durability;

impl Drive {
    /// Notes that this process has the run now, and what became of the calls of the one before.
    pub(super) async fn claim(&mut self) -> Result<(), Failure> {
        let mut journals = HashMap::new();
        for (step, attempts) in to_recover(&self.run) {
            let journal = self.recorded(&step, attempts).await?;
            journals.insert(step, journal);
        }
        let parts = &self.driver.parts;
        let mut facts = vec![Fact::RunClaimed { owner: parts.owner.clone(), policy: parts.policy.digest() }];
        facts.extend(recover(&self.run, &journals));
        self.record(facts, Vec::new(), Durability::Synced).await
    }

    /// Returns what the host calls of the step's interrupted attempts brought: they are not made again.
    pub(super) async fn answers_for(&self, step: &StepId) -> Result<Option<Answers>, Failure> {
        let interrupted = self.run.step(step).filter(|step| step.interrupted.is_some());
        let Some(attempts) = interrupted.map(Step::attempts_recorded) else { return Ok(None) };
        self.recorded(step, attempts).await.map(|records| Some(Answers::new(records)))
    }

    async fn recorded(&self, step: &StepId, attempts: RangeInclusive<u32>) -> Result<Vec<HostCallRecord>, Failure> {
        let mut journals = Vec::new();
        for attempt in attempts {
            journals.push(self.driver.parts.log.journal(&self.run.id, step, attempt).await?);
        }
        Ok(joined(journals))
    }
}
