//! How a run ends, and what its end alone does not tell.

use crate::domain::{Caveat, CaveatKind, Digest, Kind, Role, SkipReason, StepId, Timestamp};
use crate::orchestrator::machine::{Command, Ending, Run, Step, StepStatus};
use crate::orchestrator::schedule::plan;

/// All steps are done: the run is, or the planner sees what they brought.
pub(super) fn done(run: &Run, now: Timestamp) -> Vec<Command> {
    if !run.steps.values().all(|step| step.status.is_terminal()) {
        return vec![end(run, Ending::Stalled)];
    }
    if !run.is_single_plan {
        return plan(run, now);
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
    Command::End { ending, caveats: caveats(run) }
}

/// Returns what the end of a run alone does not tell.
pub(in crate::orchestrator) fn caveats(run: &Run) -> Vec<Caveat> {
    let of_step = |step: &Step| caveat(run, step).map(|what| Caveat { step: step.id().clone(), what });
    let left = |step: &StepId| Caveat { step: step.clone(), what: CaveatKind::NotUndone };
    run.in_order().filter_map(of_step).chain(run.left.iter().map(left)).collect()
}

fn caveat(run: &Run, step: &Step) -> Option<CaveatKind> {
    match step.planned.role {
        Role::Reconcile { .. } => return None,
        Role::Undo { .. } => return run.takes_back().and_then(|_| of_undo(step)),
        Role::Do | Role::Item { .. } => {}
    }
    match &step.status {
        // What was done by its items they tell themselves.
        StepStatus::Succeeded { .. } if run.undo.is_some() && is_left(step) => Some(CaveatKind::NotUndone),
        status if status.is_failed() && run.undo.is_some() && step.has_done_within() => Some(CaveatKind::NotUndone),
        StepStatus::Succeeded { .. } if step.has_caveats => Some(CaveatKind::Degraded),
        StepStatus::Succeeded { .. } => step.is_truncated.then_some(CaveatKind::Truncated),
        status if status.is_failed() && has_stand_in(run, step) => Some(CaveatKind::Degraded),
        StepStatus::Failed { .. } => Some(CaveatKind::Failed),
        StepStatus::Rejected { .. } => Some(CaveatKind::Rejected),
        StepStatus::Skipped { why: SkipReason::Needs { .. } } => Some(CaveatKind::Skipped),
        StepStatus::Skipped { .. } => None,
        StepStatus::Unknown => Some(CaveatKind::Unknown),
        StepStatus::Undone if step.has_left => Some(CaveatKind::NotUndone),
        StepStatus::Undone => Some(CaveatKind::Undone),
        StepStatus::UndoFailed => Some(CaveatKind::UndoFailed),
        _ => Some(CaveatKind::Unfinished),
    }
}

/// Whether what a step did that succeeded is still there.
fn is_left(step: &Step) -> bool {
    step.is_write() && step.attempts > 0 && (step.run.is_none() || step.within.has_done)
}

/// What is to be told of a step that takes one of another run back: that run has ended, and cannot tell.
fn of_undo(step: &Step) -> Option<CaveatKind> {
    match &step.status {
        StepStatus::Succeeded { .. } => step.has_caveats.then_some(CaveatKind::NotUndone),
        StepStatus::Unknown => Some(CaveatKind::Unknown),
        status if status.is_failed() => Some(CaveatKind::UndoFailed),
        _ => Some(CaveatKind::Unfinished),
    }
}

/// Whether another step took the place of this one, and brought something.
fn has_stand_in(run: &Run, step: &Step) -> bool {
    run.stand_in(step.id()).is_some_and(|other| matches!(other.status, StepStatus::Succeeded { .. }))
}
