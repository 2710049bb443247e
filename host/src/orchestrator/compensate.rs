//! What is to be taken back, and in which order: the last first. Pure.

use crate::domain::{Role, StepId};
use crate::orchestrator::machine::{Run, Step, StepStatus};

/// Returns the steps to take back, the last first: those that are known how to take back, and that were done or may have
/// been.
pub fn to_undo(run: &Run) -> Vec<StepId> {
    let is_undoable = |id: &&StepId| run.step(id).is_some_and(is_undoable);
    run.completed.iter().rev().filter(is_undoable).cloned().collect()
}

fn is_undoable(step: &Step) -> bool {
    let is_done = matches!(step.status, StepStatus::Succeeded { .. } | StepStatus::Unknown);
    (is_done && step.planned.has_undo) || is_undone_by_run(step)
}

/// Answers whether a step is taken back by a run within the run: one that takes back what the run did that carried the
/// step out. No plan says how to take such a step back.
pub fn is_undone_by_run(step: &Step) -> bool {
    let is_over = step.status.is_failed() || matches!(step.status, StepStatus::Succeeded { .. } | StepStatus::Unknown);
    is_over && step.has_done_within() && step.within.has_undo
}

/// Answers whether the run has changed something, or may have, that it did not take back.
pub(super) fn has_done(run: &Run) -> bool {
    run.in_order().any(is_left)
}

/// Returns what a run has changed, or may have, that is not taken back, and never will be.
pub fn left(run: &Run) -> Vec<StepId> {
    let is_kept = |step: &&Step| is_left(step) && !is_undoable(step);
    run.in_order().filter(is_kept).map(|step| step.id().clone()).collect()
}

/// Whether something of what the step did is still there, or may be. What a step did by its items those tell themselves.
fn is_left(step: &Step) -> bool {
    let is_own = matches!(step.planned.role, Role::Do | Role::Item { .. }) && step.expanded.is_none();
    if !is_own || step.attempts == 0 || !step.is_write() {
        return false;
    }
    match &step.status {
        StepStatus::Succeeded { .. } => step.run.is_none() || step.within.has_done,
        StepStatus::Unknown | StepStatus::UndoFailed | StepStatus::Undoing => true,
        StepStatus::Undone => step.has_left,
        status => status.is_failed() && step.has_done_within(),
    }
}
