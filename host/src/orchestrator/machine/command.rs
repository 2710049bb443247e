//! What a run wants done: by ids and digests only.

use crate::domain::{Caveat, Cost, Digest, Kind, RunId, SkipReason, StepId, Suspension, UndoReason};

/// What the run wants done. A driver performs it and records what it brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Ask the planner, as this turn.
    Plan { turn: u32 },
    /// Look at the step's condition, resolve its arguments, check them, and compute its key; or find the list whose items
    /// it is done for.
    Prepare { step: StepId },
    /// Ask policy, and start the call or ask a person. It may cost no more than `reserve`.
    Start { step: StepId, reserve: Cost },
    /// Drive the run within the run that carries out a step.
    Child { step: StepId, run: RunId },
    /// All items of the step have ended: put together what they brought.
    Gather { step: StepId },
    /// Note that the step will never start.
    Skip { step: StepId, why: SkipReason },
    /// Note that nobody decided in time.
    Expire { step: StepId, binding: Digest },
    /// Have a tool asked what became of the step.
    Reconcile { step: StepId },
    /// Note that nobody knows what became of a step that was under way, as the run ends.
    Leave { step: StepId },
    /// Note what the call `by` told about the step.
    Settle { step: StepId, by: StepId },
    /// Have these steps taken back, in this order.
    Undo { why: UndoReason, steps: Vec<StepId> },
    /// Find what the run that this one takes back has done, and have it taken back.
    TakeBack { run: RunId },
    /// Resolve the last plan's answer.
    Answer { turn: u32 },
    /// Look at the conditions that decide about success.
    Verify { turn: u32 },
    /// Nothing can go on without a person, or before a time.
    Suspend { why: Suspension },
    /// Stop the calls that run.
    StopCalls,
    /// The run is over.
    End { ending: Ending, caveats: Vec<Caveat> },
}

impl Command {
    /// Answers whether it is about a call that is yet to be made, or about what one told. Of a run that was cancelled, and of
    /// which nothing is taken back, that is a call that asks what became of a step: who ends the run without tools can ask none.
    pub fn is_about_call(&self) -> bool {
        matches!(
            self,
            Self::Prepare { .. }
                | Self::Start { .. }
                | Self::Expire { .. }
                | Self::Reconcile { .. }
                | Self::Settle { .. }
        )
    }
}

/// How a run is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Succeeded {
        answer: Option<Digest>,
    },
    /// A step failed that the run needs.
    StepFailed {
        step: StepId,
        kind: Kind,
        failure: Digest,
    },
    /// A condition that decides about success does not hold.
    NotVerified {
        kind: Kind,
        failure: Digest,
    },
    /// The planner failed for good.
    PlannerFailed {
        kind: Kind,
        failure: Digest,
    },
    /// The planner's replies were refused too often. Payload: the last failures.
    PlansRefused {
        failures: Digest,
    },
    /// The same call failed in the same way too often.
    Loop {
        step: StepId,
        times: u32,
    },
    /// A bound of the budget was met.
    Budget {
        what: String,
    },
    /// What is left of the budget does not allow the next request to a model.
    Unaffordable {
        failure: Digest,
    },
    Cancelled {
        by: String,
    },
    /// No step can start and none runs: a mistake in Cofferdam, told rather than called a success.
    Stalled,
}
