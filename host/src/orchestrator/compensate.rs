//! What is to be taken back, and in which order: the last first. Pure.

use crate::domain::StepId;
use crate::orchestrator::machine::{Run, StepStatus};

/// Returns the steps to take back, the last first: those that a call is known to take back, and that were done or may have
/// been.
pub(super) fn to_undo(run: &Run) -> Vec<StepId> {
    let is_undoable = |id: &&StepId| {
        run.step(id).is_some_and(|step| {
            step.planned.has_undo && matches!(step.status, StepStatus::Succeeded { .. } | StepStatus::Unknown)
        })
    };
    run.completed.iter().rev().filter(is_undoable).cloned().collect()
}
