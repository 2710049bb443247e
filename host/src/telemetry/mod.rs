//! Turns events into what a person or a monitor wants to know. Listens, and never answers.

mod requests;
mod span;
pub mod stats;
mod step;
mod trace;

pub use span::{span_of, trace_of};
pub use step::{Asked, Cached, StepTrace};
pub use trace::{ModelUse, RunState, Trace, trace};
