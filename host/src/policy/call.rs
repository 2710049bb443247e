//! A step that policy allowed, with the grant it may use.

use crate::domain::{Digest, Effect, Grant, Json, Principal, ReadyStep, RunId, StepId};
use crate::registry::VerifiedTool;

/// A step that policy allowed. Only [`authorize`](crate::policy::authorize) makes one, and it is never stored: after a
/// crash policy is asked again.
#[derive(Clone)]
pub struct Call {
    tool: VerifiedTool,
    step: ReadyStep,
    principal: Principal,
    grant: Grant,
    effect: Effect,
    is_recorded: bool,
}

impl Call {
    pub(super) fn new(
        tool: VerifiedTool,
        step: ReadyStep,
        principal: Principal,
        (grant, effect): (Grant, Effect),
    ) -> Self {
        Self { tool, step, principal, grant, effect, is_recorded: false }
    }

    /// Makes a call that was made before, to be played back: nobody allowed it now, and the sandbox runs it only with a link
    /// that answers every host call from its record.
    pub(crate) fn recorded(tool: VerifiedTool, step: ReadyStep, principal: Principal, grant: Grant) -> Self {
        let effect = grant.effect();
        Self { is_recorded: true, ..Self::new(tool, step, principal, (grant, effect)) }
    }

    /// Answers whether the call was made before, and is only to be played back.
    pub fn is_recorded(&self) -> bool {
        self.is_recorded
    }

    /// Returns the tool, verified.
    pub fn tool(&self) -> &VerifiedTool {
        &self.tool
    }

    /// Returns the arguments, valid against the tool's schema.
    pub fn input(&self) -> &Json {
        &self.step.args
    }

    /// Returns what the call may do and use.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Returns the worst that it can do: what its grant allows, or more where the manifest says so, or less where an operator
    /// vouches for it.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Returns for whom it acts.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Returns the run.
    pub fn run(&self) -> &RunId {
        &self.step.run
    }

    /// Returns the step.
    pub fn step(&self) -> &StepId {
        &self.step.step
    }

    /// Returns the number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.step.attempt
    }

    /// Returns the idempotency key.
    pub fn key(&self) -> Digest {
        self.step.key
    }

    /// Returns the digest of the arguments.
    pub fn args_digest(&self) -> Digest {
        self.step.args_digest
    }
}
