//! Turns events into what a person or a monitor wants to know. Listens, and never answers.

mod step;
mod trace;

pub use step::{Asked, Cached, StepTrace};
pub use trace::{RunState, Trace, trace};
