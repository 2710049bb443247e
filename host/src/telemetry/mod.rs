//! Turns events into what a person or a monitor wants to know. Listens, and never answers.

mod trace;

pub use trace::{RunState, StepTrace, Trace, trace};
