//! Which parts of the world a simulation met: a law about what never happens holds nothing.

use cofferdam::domain::{
    BY_RECONCILE, Decision, Fact, Kind, Role, RunEnd, Settlement, SkipReason, Suspension, UndoReason,
};
use cofferdam::orchestrator::RunStatus;

use super::{Saw, Told, Whole};

/// All that must be met within a few hundred seeds, beside what the laws count.
pub const WORLD: &[&str] = &[
    "world: a run within a run within a run",
    "world: a process died among items",
    "world: a condition does not hold",
    "world: a fallback is not needed",
    "world: a fallback stands in",
    "world: undo after a failure",
    "world: undo after a person stopped the run",
    "world: a person stopped the run, and nothing is taken back",
    "world: an undo is stuck",
    "world: a person did by hand what was stuck",
    "world: a person had what was stuck tried again",
    "world: a person gave up what was stuck",
    "world: a tool says that it is done",
    "world: a tool says that it is not done",
    "world: a tool does not know",
    "world: a person says that it is done",
    "world: a person says that it is not done",
    "world: a person approves",
    "world: a person rejects",
    "world: a person changes the call",
    "world: nobody decides",
    "world: a planner's reply is refused",
    "world: a planner fails for good",
    "world: a planner asks, and is answered",
    "world: a planner answers",
    "world: an outcome is taken from the cache",
    "world: an outcome of another run is taken from the cache",
    "world: a budget is used up",
    "world: a run waits for a time",
    "world: a model is down, and another one is asked",
    "world: a reply is paid for",
    "world: a call is interrupted",
    "world: a request is not let out",
];

pub(super) fn note(whole: &Whole<'_>, saw: &mut Saw) {
    saw.note_if(whole.simulated.world.refused() > 0, "world: a request is not let out");
    for told in whole.told {
        saw.note_if(
            told.run.parent.as_ref().is_some_and(|parent| parent.depth >= 2),
            "world: a run within a run within a run",
        );
        saw.note_if(
            matches!(told.run.status, RunStatus::Ended(RunEnd::BudgetExhausted { .. })),
            "world: a budget is used up",
        );
        let has_undo = told.run.undo.is_some();
        saw.note_if(
            !has_undo && told.run.cancelled.is_some(),
            "world: a person stopped the run, and nothing is taken back",
        );
        saw.note_if(
            told.run
                .in_order()
                .any(|step| step.planned.role == Role::Do && step.fallback().is_some() && step.status.is_failed()),
            "world: a fallback stands in",
        );
        for event in &told.events {
            if let Some(what) = met(told, &event.fact) {
                saw.note(what);
            }
            if let Fact::StepInterrupted { step, .. } = &event.fact {
                let is_item = told.run.step(step).is_some_and(|step| matches!(step.planned.role, Role::Item { .. }));
                saw.note_if(is_item, "world: a process died among items");
            }
        }
    }
}

fn met(told: &Told, fact: &Fact) -> Option<&'static str> {
    Some(match fact {
        Fact::StepSkipped { why: SkipReason::Condition, .. } => "world: a condition does not hold",
        Fact::StepSkipped { why: SkipReason::NotNeeded, .. } => "world: a fallback is not needed",
        Fact::UndoBegun { why: UndoReason::StepFailed { .. }, .. } => "world: undo after a failure",
        Fact::UndoBegun { why: UndoReason::Cancelled { .. }, .. } => "world: undo after a person stopped the run",
        Fact::RunSuspended { why: Suspension::Stuck } => "world: an undo is stuck",
        Fact::RunSuspended { why: Suspension::Timer } => "world: a run waits for a time",
        Fact::StepSettled { step, settlement, by } => {
            let is_undo = told.run.step(step).is_some_and(|step| matches!(step.planned.role, Role::Undo { .. }));
            match (by == BY_RECONCILE, is_undo, settlement) {
                (true, _, Settlement::Done { .. }) => "world: a tool says that it is done",
                (true, _, Settlement::Retry | Settlement::Failed { .. }) => "world: a tool says that it is not done",
                (true, _, Settlement::Unknown) => "world: a tool does not know",
                (false, true, Settlement::Done { .. }) => "world: a person did by hand what was stuck",
                (false, true, Settlement::Retry) => "world: a person had what was stuck tried again",
                (false, true, _) => "world: a person gave up what was stuck",
                (false, false, Settlement::Done { .. }) => "world: a person says that it is done",
                (false, false, _) => "world: a person says that it is not done",
            }
        }
        Fact::ApprovalDecided { decision: Decision::Approve, .. } => "world: a person approves",
        Fact::ApprovalDecided { decision: Decision::Reject, .. } => "world: a person rejects",
        Fact::ApprovalDecided { decision: Decision::Modify { .. }, .. } => "world: a person changes the call",
        Fact::ApprovalExpired { .. } => "world: nobody decides",
        Fact::PlanRejected { .. } => "world: a planner's reply is refused",
        Fact::PlanFailed { retry: Some(_), .. } => "world: a model is down, and another one is asked",
        Fact::PlanFailed { kind: Kind::PolicyBudget, .. } => "world: a request is not sent for want of money",
        Fact::PlanFailed { .. } => "world: a planner fails for good",
        Fact::PlanReplied { cost, .. } if cost.usd_micros > 0 => "world: a reply is paid for",
        Fact::QuestionAnswered { .. } => "world: a planner asks, and is answered",
        Fact::Answered { .. } => "world: a planner answers",
        Fact::StepCached { from, .. } if *from != told.run.id => {
            "world: an outcome of another run is taken from the cache"
        }
        Fact::StepCached { .. } => "world: an outcome is taken from the cache",
        Fact::StepInterrupted { .. } => "world: a call is interrupted",
        _ => return None,
    })
}
