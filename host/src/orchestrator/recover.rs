//! What to make of calls that were running when their process died. Pure.

use std::collections::HashMap;

use crate::domain::{Effect, Fact, HostCallRecord, StepId};
use crate::orchestrator::machine::{Run, Step, StepStatus};

/// Returns one fact per call that nobody runs any more; `journals` hold what their host calls brought.
///
/// A write is in the log before it begins; so a call without one has changed nothing, and may run again. One whose writes
/// were all seen to end may too, as they are answered from their records and not made again. So may one whose last write
/// was not seen to end, where the same key makes a repeat harmless. Any other may have changed something: that is never
/// guessed.
pub fn recover(run: &Run, journals: &HashMap<StepId, Vec<HostCallRecord>>) -> Vec<Fact> {
    let settled = run.in_order().filter_map(|step| {
        let (id, attempt) = (step.id().clone(), step.attempts);
        match step.status {
            // Its own log tells where it is.
            StepStatus::Running { .. } if step.run.is_some() => None,
            StepStatus::Running { has_written } => {
                let may_run_again = !has_written || is_known(step, journals.get(&id).map_or(&[], Vec::as_slice));
                let is_over = run.cancelled.is_some() && has_written;
                Some(match may_run_again && !is_over {
                    true => Fact::StepInterrupted { step: id, attempt },
                    false => Fact::StepUnknown { step: id, attempt },
                })
            }
            _ => None,
        }
    });
    settled.collect()
}

/// Whether it is known what each write did, or does not matter. That a write begins is in the events a moment before it is
/// in the journal: a process may die in between.
fn is_known(step: &Step, journal: &[HostCallRecord]) -> bool {
    let mut writes = journal.iter().filter(|record| record.is_write).peekable();
    let is_recorded = writes.peek().is_some();
    step.effect <= Effect::Idempotent || is_recorded && writes.all(|write| write.done.is_some())
}

/// Returns the calls whose journals [`recover`] wants to see.
pub fn to_recover(run: &Run) -> Vec<(StepId, u32)> {
    let is_lost = |step: &&Step| step.status == StepStatus::Running { has_written: true } && step.run.is_none();
    run.in_order().filter(is_lost).map(|step| (step.id().clone(), step.attempts)).collect()
}
