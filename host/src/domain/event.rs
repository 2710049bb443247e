//! What is stored: a run is the fold of its events.
//!
//! An event is a header, small facts and digests. Arguments, outputs, requests, replies and failure texts are payloads:
//! they live beside the log, sealed by their owner's key, so that erasing a user breaks no chain.
//! This is one of the two formats that leave the process. It is `v0`: no promise until it is frozen.

use serde::{Deserialize, Serialize};

use crate::domain::{
    Budget, Digest, Effect, Kind, OnFailure, Principal, RunId, StepId, Timestamp, ToolName, Usage, canonical,
};

/// The version that this program writes.
pub const SCHEMA_VERSION: u16 = 0;

/// Number of an event within its run, from 1.
/// Invariant: seq has no gaps.
pub type Seq = u64;

/// Number of the ownership under which an event was appended; it grows each time a process takes the run.
pub type Epoch = u64;

/// What the first event of a run names as the one before it.
pub const GENESIS: Digest = Digest::from_bytes([0; 32]);

/// A stored fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    pub v: u16,
    pub run: RunId,
    pub seq: Seq,
    pub epoch: Epoch,
    pub at: Timestamp,
    /// Hash of the event before this one.
    pub prev: Digest,
    pub fact: Fact,
}

impl Event {
    /// Returns the hash of this event, which the next one names.
    ///
    /// # Errors
    /// When the event cannot be written as JSON, which no value of this type reaches.
    pub fn hash(&self) -> Result<Digest, serde_json::Error> {
        Ok(Digest::of(canonical(&serde_json::to_value(self)?).as_bytes()))
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fact {
    /// Someone asked for something.
    RunCreated {
        principal: Principal,
        /// Payload: the goal's text, or the workflow file's bytes.
        goal: Digest,
        /// `workflow`, `model:<name>`, …
        planner: String,
        policy: Digest,
        /// Digest over the digests of all offered components.
        toolset: Digest,
        budget: Budget,
        /// Whether the goal is reached when the steps of the one plan are.
        is_single_plan: bool,
    },
    /// A session of lone calls began.
    SessionStarted { principal: Principal },
    /// A process took the run over after another one had left it.
    RunClaimed { owner: String, policy: Digest },
    /// The planner is about to be asked. Payload: the context pack.
    PlanRequested { turn: u32, pack: Digest },
    /// The planner could not reply. Payload: the failure.
    PlanFailed { turn: u32, kind: Kind, failure: Digest },
    /// The reply is no plan that can run. Payloads: the reply, the failures.
    PlanRejected { turn: u32, reply: Digest, failures: Digest },
    /// The whole plan was checked. Payloads: the reply, the plan.
    PlanAccepted { turn: u32, reply: Digest, plan: Digest, steps: Vec<PlannedStep>, has_answer: bool },
    /// The planner gave the run's answer. Payloads: the reply, the answer.
    Answered { turn: u32, reply: Digest, answer: Digest },
    /// The planner asks the person something. Payloads: the reply, the question.
    Asked { turn: u32, reply: Digest, question: Digest },
    /// The person answered. Payload: the text.
    QuestionAnswered { turn: u32, text: Digest, by: String },
    /// All that the step needs is there. Payload: the arguments. The key is computed here, once.
    StepReady { step: StepId, args: Digest, key: Digest },
    /// The step never starts: policy, or arguments that do not fit. Payload: the failure.
    StepRejected { step: StepId, kind: Kind, failure: Digest },
    /// The step never starts, because one that it needs did not succeed.
    StepSkipped { step: StepId, because: StepId },
    /// A person must decide about this exact call. `binding` is the digest of what is to be approved.
    ApprovalRequested { step: StepId, binding: Digest, effect: Effect, rule: String },
    /// A person decided. Payload: the reason, if any.
    ApprovalDecided { step: StepId, binding: Digest, decision: Decision, by: String, reason: Option<Digest> },
    /// The call is about to run.
    StepStarted { step: StepId, attempt: u32, component: Digest, effect: Effect, rules: Vec<String> },
    /// The call is about to change something for the first time.
    WriteBegun { step: StepId, attempt: u32 },
    /// The call ended. Payloads: output or failure, log, denials.
    StepEnded {
        step: StepId,
        attempt: u32,
        end: StepEnd,
        usage: Usage,
        log: Option<Digest>,
        denials: Option<Digest>,
        has_written: bool,
    },
    /// The process died while the call ran, before it changed anything: it may run again.
    StepInterrupted { step: StepId, attempt: u32 },
    /// The call began to change something, and nobody saw it end.
    StepUnknown { step: StepId, attempt: u32 },
    /// A person said what became of an unknown step. Payload: the output, where it is done.
    StepSettled { step: StepId, settlement: Settlement, by: String },
    /// A person wants the run to stop: what runs is stopped, nothing new starts.
    CancelRequested { by: String },
    /// The run waits for a person or for time.
    RunSuspended { why: Suspension },
    /// The run ended. Payloads: the failure, the caveats.
    RunEnded { end: RunEnd, caveats: Vec<StepId> },
    /// A lone call that changes something is about to run.
    CallStarted { call: u64, tool: ToolName, component: Digest, args: Digest, effect: Effect },
    /// A lone call ended. Payloads: arguments, output or failure.
    Called {
        call: u64,
        principal: Principal,
        tool: ToolName,
        component: Digest,
        args: Digest,
        effect: Effect,
        end: StepEnd,
        usage: Usage,
        log: Option<Digest>,
        denials: Option<Digest>,
        has_written: bool,
    },
}

/// What the state machine needs to know of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedStep {
    pub id: StepId,
    pub tool: ToolName,
    /// All steps that must succeed first: those named, and those whose output is used.
    pub needs: Vec<StepId>,
    /// The worst it can do under the grant that policy would give it now.
    pub effect: Effect,
    pub on_failure: OnFailure,
}

/// How a step's call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case", deny_unknown_fields)]
pub enum StepEnd {
    Succeeded { output: Digest },
    Failed { kind: Kind, failure: Digest },
}

/// A person's decision about one exact call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Approve,
    Reject,
}

/// What a person says became of a step whose end nobody saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case", deny_unknown_fields)]
pub enum Settlement {
    /// It happened, and this is its output.
    Done { output: Digest },
    /// It did not happen, or may safely happen again.
    Retry,
    /// It did not happen, and shall not.
    Failed { failure: Digest },
}

/// What a run waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suspension {
    Approval,
    Question,
    Reconcile,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case", deny_unknown_fields)]
pub enum RunEnd {
    Succeeded { answer: Option<Digest> },
    Failed { kind: Kind, failure: Digest },
    Cancelled { by: String },
    BudgetExhausted { failure: Digest },
}
