//! What to make of calls that were running when their process died.

use crate::domain::Fact;
use crate::orchestrator::machine::{Run, StepStatus};

/// Returns one fact per call that nobody runs any more. A write is in the log before it begins; so a call without one has
/// changed nothing and may run again, under the same key. One with it may have: that is never guessed.
pub fn recover(run: &Run) -> Vec<Fact> {
    let settled = run.in_order().filter_map(|step| {
        let (step_id, attempt) = (step.planned.id.clone(), step.attempts);
        match step.status {
            StepStatus::Running { has_written: false } => Some(Fact::StepInterrupted { step: step_id, attempt }),
            StepStatus::Running { has_written: true } => Some(Fact::StepUnknown { step: step_id, attempt }),
            _ => None,
        }
    });
    settled.collect()
}
