//! Turns a goal into checked steps, steps into calls, and outcomes into events.
//!
//! [`check`] and the [`Run`] machine decide, purely: no clock, no randomness, no I/O, so that any driver can feed them.
//! [`driver`] acts, thinly: it performs the machine's commands and records what they brought. Retries, waits and the
//! order of effects are decided here and nowhere else.

pub mod breaker;
mod budget;
mod check;
mod compensate;
mod context;
mod driver;
mod link;
mod machine;
mod notify;
mod recover;
pub mod retry;
mod schedule;
mod types;

pub use check::{CheckedPlan, CheckedStep, check};
pub use driver::{ApprovalView, Approve, Driver, Goal, Parts, SIGNALS_MAX, Signal, Wait};
pub use machine::{
    Cancel, Command, Ending, IllegalTransition, Run, RunStage, RunStatus, STEPS, STEPS_MAX, Stage, Step, StepRow, StepStatus,
};
pub use notify::{Notice, Notifier};
pub use recover::recover;
