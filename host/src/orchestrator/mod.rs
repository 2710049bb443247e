//! Turns a goal into checked steps, steps into calls, and outcomes into events.
//!
//! [`check`] and the [`Run`] machine decide, purely: no clock, no randomness, no I/O, so that any driver can feed them.
//! [`driver`] acts, thinly: it performs the machine's commands and records what they brought. Retries, waits and the
//! order of effects are decided here and nowhere else.

mod check;
mod condition;
mod context;
mod driver;
mod graph;
mod link;
mod machine;
mod notify;
mod recover;
mod schedule;
mod template;
mod types;

pub use check::{
    CheckedPlan, CheckedRun, CheckedStep, Earlier, Flaw, ITEMS_MAX, Known, RUN_TOOL, budget_within, check, cost_of,
    flaws_of,
};
pub use condition::Condition;
pub use driver::{ApprovalView, Approve, Driver, Goal, Parts, SIGNALS_MAX, Signal, Wait};
pub use graph::{Edge, EdgeKind, Graph, Node, NodeKind, graph};
pub use machine::{Command, Ending, IllegalTransition, Run, RunStatus, Step, StepStatus};
pub use notify::{Notice, Notifier};
pub use recover::recover;
pub use template::{Lookup, Parts as TemplateParts, filled};
