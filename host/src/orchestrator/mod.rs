//! Turns a goal into checked steps, steps into calls, and outcomes into events.
//!
//! [`check`] and the [`Run`] machine decide, purely: no clock, no randomness, no I/O, so that any driver can feed them.
//! [`driver`] acts, thinly: it performs the machine's commands and records what they brought. Retries, waits and the
//! order of effects are decided here and nowhere else.

mod ask;
pub mod breaker;
mod budget;
mod check;
mod compensate;
mod condition;
mod context;
mod drift;
mod driver;
mod foresee;
mod graph;
mod journal;
mod link;
mod lone;
mod machine;
mod notify;
mod recover;
pub mod retry;
mod schedule;
mod template;
mod told;
mod types;
mod upstreams;
mod wanted;

pub use ask::{REPLY_TOKENS_MAX, REQUEST_WAIT_MS_MAX, SoFar, features};
pub use check::{
    CheckedPlan, CheckedRun, CheckedStep, Earlier, Flaw, GoalMarks, ITEMS_MAX, Known, Proposed, RUN_TOOL,
    budget_within, check, cost_of, flaws_of,
};
pub use compensate::{is_undone_by_run, left, to_undo};
pub use condition::{ANSWER, Condition};
pub use context::offered;
pub use drift::{ChangeKind, CheckedTool, ToolChange};
pub use driver::{
    ApprovalView, Approve, Driver, EndedRun, Goal, Parts, PlannerOf, SIGNALS_MAX, STOPPED_MAX, Signal, Start, Wait,
    changed_tools, goal_of, parted, recovered, runs_within, toolset_of,
};
pub use foresee::{Foreseen, foresee};
pub use graph::{Edge, EdgeKind, Graph, Node, NodeKind, graph};
pub use journal::{Answers, journal_digest};
pub use lone::LoneLink;
pub use machine::{
    Cancel, Command, Ending, IllegalTransition, Run, RunStage, RunStatus, STEPS, STEPS_MAX, Stage, Step, StepRow,
    StepStatus,
};
pub use notify::{Notice, Notifier};
pub use recover::{merged, recover, to_recover};
pub use template::{Lookup, Parts as TemplateParts, filled};
pub use told::{Told, told};
pub use upstreams::Upstreams;
pub use wanted::{Refold, Source, source};
