//! A step whose arguments are known and checked: what policy decides about.

use crate::domain::{Digest, Json, RunId, StepId, ToolName, canonical};

/// A step that is ready: all references resolved, arguments valid against the tool's schema.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadyStep {
    pub run: RunId,
    pub step: StepId,
    /// 1 for the first.
    pub attempt: u32,
    pub tool: ToolName,
    pub args: Json,
    /// Digest of the canonical arguments.
    pub args_digest: Digest,
    /// The idempotency key, computed once and stored.
    pub key: Digest,
    /// Shortens the deadline that the grant gives, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Whether the plan asks for a person's approval; it can only add to what policy asks.
    pub approval: bool,
    /// Whether its planner had read what tools brought before it proposed the step.
    pub is_tainted: bool,
}

/// Whether a key is that of doing a step, or of taking it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Do,
    Undo,
}

/// Returns the idempotency key of doing a step, or of taking it back: the same for every attempt, another for other
/// arguments. `step` is the step that is done or undone.
pub fn idempotency_key(run: &RunId, step: &StepId, direction: Direction, tool: &ToolName, args: &Json) -> Digest {
    let (run, tool, args) = (run.as_str(), tool.to_string(), canonical(args));
    let direction: &[u8] = match direction {
        Direction::Do => b"do",
        Direction::Undo => b"undo",
    };
    Digest::of_parts(&[run.as_bytes(), step.as_str().as_bytes(), direction, tool.as_bytes(), args.as_bytes()])
}
