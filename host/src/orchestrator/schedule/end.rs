//! How a run ends, and what its end alone does not tell.

use crate::domain::{Caveat, CaveatKind, Digest, Kind, Role, SkipReason};
use crate::orchestrator::machine::{Command, Ending, Run, Step, StepStatus};
use crate::orchestrator::schedule::plan;

/// All steps are done: the run is, or the planner sees what they brought.
pub(super) fn done(run: &Run) -> Vec<Command> {
    if !run.steps.values().all(|step| step.status.is_terminal()) {
        return vec![end(run, Ending::Stalled)];
    }
    if !run.is_single_plan {
        return plan(run);
    }
    match run.planning.has_answer {
        true => vec![Command::Answer { turn: run.planning.turn }],
        false => succeed(run, None),
    }
}

/// A run succeeds when its conditions say so.
pub(super) fn succeed(run: &Run, answer: Option<Digest>) -> Vec<Command> {
    match run.verified {
        None if run.has_assertions => vec![Command::Verify { turn: run.planning.turn }],
        Some(Err((kind, failure))) => vec![end(run, Ending::NotVerified { kind, failure })],
        _ => vec![end(run, Ending::Succeeded { answer })],
    }
}

/// Ends because a step failed.
pub(super) fn failed(run: &Run, step: &Step) -> Command {
    let (kind, failure) = match step.status {
        StepStatus::Failed { kind, failure } | StepStatus::Rejected { kind, failure } => (kind, failure),
        StepStatus::Cancelled { failure } => (Kind::HostCancelled, failure),
        _ => step.failure.unwrap_or((Kind::HostBug, run.goal)),
    };
    end(run, Ending::StepFailed { step: step.id().clone(), kind, failure })
}

/// Ends, and lists what the end alone does not tell.
pub(super) fn end(run: &Run, ending: Ending) -> Command {
    let named = |step: &Step| caveat(run, step).map(|what| Caveat { step: step.id().clone(), what });
    Command::End { ending, caveats: run.in_order().filter_map(named).collect() }
}

fn caveat(run: &Run, step: &Step) -> Option<CaveatKind> {
    if matches!(step.planned.role, Role::Reconcile { .. } | Role::Undo { .. }) {
        return None;
    }
    match &step.status {
        // What was done by its items they tell themselves.
        StepStatus::Succeeded { .. } if run.undo.is_some() && step.is_write() && step.attempts > 0 => {
            Some(CaveatKind::NotUndone)
        }
        StepStatus::Succeeded { .. } if step.has_caveats => Some(CaveatKind::Degraded),
        StepStatus::Succeeded { .. } => step.is_truncated.then_some(CaveatKind::Truncated),
        status if status.is_failed() && has_stand_in(run, step) => Some(CaveatKind::Degraded),
        StepStatus::Failed { .. } => Some(CaveatKind::Failed),
        StepStatus::Rejected { .. } => Some(CaveatKind::Rejected),
        StepStatus::Skipped { why: SkipReason::Needs { .. } } => Some(CaveatKind::Skipped),
        StepStatus::Skipped { .. } => None,
        StepStatus::Unknown => Some(CaveatKind::Unknown),
        StepStatus::Undone => Some(CaveatKind::Undone),
        StepStatus::UndoFailed => Some(CaveatKind::UndoFailed),
        _ => Some(CaveatKind::Unfinished),
    }
}

/// Whether another step took the place of this one, and brought something.
fn has_stand_in(run: &Run, step: &Step) -> bool {
    run.stand_in(step.id()).is_some_and(|other| matches!(other.status, StepStatus::Succeeded { .. }))
}
