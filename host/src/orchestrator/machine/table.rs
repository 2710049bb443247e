//! Which fact may follow where: the only place that says so.
//!
//! What is not in a table is illegal, for a live run and for a log that is read. `docs/states.md` is drawn from here.

use crate::domain::{RunEnd, Suspension};
use crate::orchestrator::machine::{RunStatus, Stage};

/// One transition of a step: from where, by which fact, to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepRow {
    pub from: Stage,
    pub by: &'static str,
    pub to: Stage,
}

macro_rules! steps {
    ($($from:ident { $($by:ident => $($to:ident)|+;)* })*) => {
        /// Every transition of a step.
        pub const STEPS: &[StepRow] = &[$($($(
            StepRow { from: Stage::$from, by: stringify!($by), to: Stage::$to },
        )+)*)*];
    };
}

steps! {
    Proposed {
        step_ready => Ready;
        step_expanded => Expanded;
        step_rejected => Rejected;
        step_skipped => Skipped;
    }
    Ready {
        approval_requested => AwaitingApproval;
        step_started => Running;
        step_cached => Succeeded;
        // Unknown where an attempt before had begun to change something.
        step_rejected => Rejected | Unknown;
        // The run ends before it could go on.
        step_unknown => Unknown;
    }
    AwaitingApproval {
        // Asked again after a crash, or because policy has changed: the newest question counts.
        approval_requested => AwaitingApproval;
        // A no stays here until the rejection follows it.
        approval_decided => Ready | AwaitingApproval;
        approval_expired => Rejected | Unknown;
        step_rejected => Rejected | Unknown;
        // The run ends before it could go on.
        step_unknown => Unknown;
    }
    Running {
        write_begun => Running;
        step_ended => Succeeded | Failed | RetryWait | Unknown | Cancelled;
        // Its process died.
        step_interrupted => Ready;
        step_unknown => Unknown;
    }
    RetryWait {
        step_started => Running;
        approval_requested => AwaitingApproval;
        step_rejected => Rejected | Unknown;
        step_unknown => Unknown;
    }
    Expanded {
        step_gathered => Succeeded | Failed;
    }
    Unknown {
        // Unknown it stays where the tool that was asked does not know either.
        step_settled => Succeeded | Ready | Failed | Unknown;
        undo_begun => Undoing;
    }
    Succeeded {
        undo_begun => Undoing;
    }
    // Only of a call that takes something back: a person may have it tried again, or say that it is done. And only of a run
    // within the run: what it did before it failed is taken back.
    Failed {
        step_settled => Succeeded | Ready | Failed;
        undo_begun => Undoing;
    }
    Cancelled {
        step_settled => Succeeded | Ready | Failed;
        undo_begun => Undoing;
    }
    Rejected {
        // One that was never prepared begins anew.
        step_settled => Succeeded | Proposed | Ready | Failed;
    }
    Undoing {
        undone => Undone;
        undo_failed => UndoFailed;
    }
    UndoFailed {
        // A person says that it is taken back, or has it tried again.
        undone => Undone;
        undo_retried => Undoing;
    }
}

/// Answers whether a step may go from one place to another by a fact.
pub(super) fn allows(from: Stage, by: &str, to: Stage) -> bool {
    STEPS.iter().any(|row| row.from == from && row.by == by && row.to == to)
}

/// The name of where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunStage {
    Planning,
    Executing,
    Undoing,
    Suspended(Suspension),
    Succeeded,
    Failed,
    Cancelled,
    BudgetExhausted,
}

impl RunStage {
    /// Returns the name of where a run is.
    pub fn of(status: &RunStatus) -> Self {
        match status {
            RunStatus::Planning => Self::Planning,
            RunStatus::Executing => Self::Executing,
            RunStatus::Undoing => Self::Undoing,
            RunStatus::Suspended(why) => Self::Suspended(*why),
            RunStatus::Ended(RunEnd::Succeeded { .. }) => Self::Succeeded,
            RunStatus::Ended(RunEnd::Failed { .. }) => Self::Failed,
            RunStatus::Ended(RunEnd::Cancelled { .. }) => Self::Cancelled,
            RunStatus::Ended(RunEnd::BudgetExhausted { .. }) => Self::BudgetExhausted,
        }
    }

    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Planning => "planning",
            Self::Executing => "executing",
            Self::Undoing => "undoing",
            Self::Suspended(Suspension::Approval) => "suspended_approval",
            Self::Suspended(Suspension::Question) => "suspended_question",
            Self::Suspended(Suspension::Timer) => "suspended_timer",
            Self::Suspended(Suspension::Reconcile) => "suspended_reconcile",
            Self::Suspended(Suspension::Stuck) => "suspended_stuck",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::BudgetExhausted => "budget_exhausted",
        }
    }

    /// Answers whether the run is over.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::BudgetExhausted)
    }

    fn is_suspended(self) -> bool {
        matches!(self, Self::Suspended(_))
    }
}

/// Answers whether a run may go from one place to another.
///
/// - Planning and executing take turns, as the planner is asked again once its steps are done.
/// - Undoing begins from either, and from waiting; it leads to waiting or to an end, and never back.
/// - Waiting leads back to where the run was: a step or a person moved.
/// - Every place that is no end leads to an end: but undoing to success only in a run that is there to take back another.
pub(super) fn allows_run(from: RunStage, to: RunStage) -> bool {
    use RunStage as R;
    match (from, to) {
        _ if from.is_end() => false,
        _ if from == to => true,
        (R::Undoing, R::Suspended(why)) => why != Suspension::Question,
        (R::Undoing, R::Planning | R::Executing) => false,
        (R::Planning | R::Suspended(Suspension::Stuck), R::Succeeded) => false,
        (_, to) if to.is_end() => true,
        // What waits may come to wait for something else, and goes back to where it was.
        (from, _) if from.is_suspended() => true,
        (R::Planning, R::Executing | R::Undoing | R::Suspended(_)) => true,
        (R::Executing, R::Planning | R::Undoing | R::Suspended(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    use expect_test::expect_file;

    use super::*;

    #[test]
    fn no_transition_stands_twice_and_only_undo_leaves_an_end() {
        let rows: BTreeSet<_> = STEPS.iter().collect();
        assert_eq!(rows.len(), STEPS.len());
        let is_person = |by: &str| matches!(by, "undo_begun" | "step_settled" | "undo_retried" | "undone");
        for row in STEPS.iter().filter(|row| row.from.is_terminal()) {
            assert!(is_person(row.by), "{row:?}");
        }
    }

    #[test]
    fn the_diagram_in_the_documents_is_this_table() {
        let mut text = String::from(
            "# Where a step and a run can be\n\nDrawn from `host/src/orchestrator/machine/table.rs`, and held to it by a test. \
             `undone`, `undo_failed` and\n`undo_retried` are no events of their own: they follow from the end of the step that \
             takes another one back.\n\n## Steps\n\n```mermaid\nstateDiagram-v2\n    [*] --> proposed\n",
        );
        for row in STEPS {
            writeln!(text, "    {} --> {}: {}", row.from.name(), row.to.name(), row.by).unwrap();
        }
        text.push_str("```\n\n## Runs\n\nOne that takes another run back begins as `undoing`.\n\n```mermaid\nstateDiagram-v2\n    [*] --> planning\n    [*] --> undoing\n");
        for (from, to) in all_runs().into_iter().filter(|(from, to)| from != to && allows_run(*from, *to)) {
            // What waits leads everywhere that is no other wait: drawn once, as one place.
            if !matches!(from, RunStage::Suspended(_)) || !matches!(to, RunStage::Suspended(_)) {
                writeln!(text, "    {} --> {}", from.name(), to.name()).unwrap();
            }
        }
        text.push_str("```\n");
        expect_file!["../../../../docs/states.md"].assert_eq(&text);
    }

    fn all_runs() -> Vec<(RunStage, RunStage)> {
        use RunStage as R;
        use Suspension as S;
        let all = [
            R::Planning,
            R::Executing,
            R::Undoing,
            R::Suspended(S::Approval),
            R::Suspended(S::Question),
            R::Suspended(S::Timer),
            R::Suspended(S::Reconcile),
            R::Suspended(S::Stuck),
            R::Succeeded,
            R::Failed,
            R::Cancelled,
            R::BudgetExhausted,
        ];
        all.into_iter().flat_map(|from| all.map(|to| (from, to))).collect()
    }
}
