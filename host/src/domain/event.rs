//! What is stored: a run is the fold of its events.
//!
//! An event is a header, small facts and digests. Arguments, outputs, requests, replies and failure texts are payloads:
//! they live beside the log, sealed by their owner's key, so that erasing a user breaks no chain.
//! This is one of the two formats that leave the process, and it is frozen: what a version wrote every later program reads. A change is a new version and an upcaster (`store/upcast.rs`), never another meaning of what is stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{
    Budget, Cost, Digest, Effect, Kind, OnFailure, Principal, RetryRule, RunId, StepId, Timestamp, Tokens, ToolName,
    TraceId, Usage, canonical,
};

/// The version that this program writes.
pub const SCHEMA_VERSION: u16 = 2;

/// The rules by which plans are checked. 1 held no written arguments to the constraints of a tool's schema, noted no risk, and
/// did not tell which runs within a run a model plans.
pub const CHECK_VERSION: u16 = 2;

/// What the host's own names begin with, where a fact says by whom: no person goes by such a name.
pub const BY_HOST: &str = "host:";

/// By whom a step is settled whose tool was asked what became of it.
pub const BY_RECONCILE: &str = "host:reconcile";

/// By whom a run within a run is stopped whose outer run has nothing more to spend.
pub const BY_BUDGET: &str = "host:budget";

/// Number of an event within its run, from 1.
/// Invariant: seq has no gaps.
pub type Seq = u64;

/// Number of the ownership under which an event was appended; it grows each time a process takes the run.
pub type Epoch = u64;

/// What the first event of a run names as the one before it.
pub const GENESIS: Digest = Digest::from_bytes([0; 32]);

/// A stored fact.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// Hash of the text as it is stored, where a log brought the event: it is not computed again, and of an event that an
    /// older version of Cofferdam wrote it cannot be.
    #[serde(skip)]
    pub stored: Option<Digest>,
}

impl Event {
    /// Returns the hash of this event, which the next one names.
    ///
    /// # Errors
    /// When the event cannot be written as JSON, which no value of this type reaches.
    pub fn hash(&self) -> Result<Digest, serde_json::Error> {
        if let Some(stored) = self.stored {
            return Ok(stored);
        }
        Ok(Digest::of(canonical(&serde_json::to_value(self)?).as_bytes()))
    }
}

impl PartialEq for Event {
    /// Compares what events say, and not whether their hash is at hand.
    fn eq(&self, other: &Self) -> bool {
        let Self { v, run, seq, epoch, at, prev, fact, stored: _ } = self;
        (v, run, seq, epoch) == (&other.v, &other.run, &other.seq, &other.epoch)
            && (at, prev, fact) == (&other.at, &other.prev, &other.fact)
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
        /// Whether whoever asked says by which conditions success is told.
        has_assertions: bool,
        /// The step of another run that this run carries out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<Parent>,
        /// The trace that it is part of, where somebody brought one; else it is derived from the run's id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trace: Option<TraceId>,
    },
    /// A session of lone calls began.
    SessionStarted { principal: Principal },
    /// A process took the run over after another one had left it.
    RunClaimed { owner: String, policy: Digest },
    /// The tools are not those that the run went on with until now. `tools` may still be called by it and differ from what
    /// its plans were checked against: `by` let it go on all the same.
    ToolsChanged {
        toolset: Digest,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tools: Vec<ToolName>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// The planner is about to be asked. Payload: the context pack.
    PlanRequested {
        turn: u32,
        pack: Digest,
        /// Which of its models is asked, where it has any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        asked: Option<AskedModel>,
        /// The most that the request may cost, where the budget bounds that.
        #[serde(default, skip_serializing_if = "Cost::is_nothing")]
        reserved: Cost,
    },
    /// A model replied, or failed to: what that took. What the reply is worth the next event tells.
    PlanReplied {
        turn: u32,
        /// As the server calls it, where it says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// `None` where nobody counted: all that was reserved is spent then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tokens: Option<Tokens>,
        /// What the budget is charged; more than was reserved ends the run.
        #[serde(default, skip_serializing_if = "Cost::is_nothing")]
        cost: Cost,
        /// In picodollars, as exact as the price is; `None` where the price or the tokens are not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usd_picos: Option<u64>,
        /// Payload: what the model thought, as far as it is told. For a person alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reasoning: Option<Digest>,
        /// Until the first part of the reply, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_token_ms: Option<u64>,
        wall_ms: u64,
    },
    /// The planner could not reply. Payload: the failure.
    PlanFailed {
        turn: u32,
        kind: Kind,
        failure: Digest,
        /// When the same is asked again, of the same model or another.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry: Option<Timestamp>,
    },
    /// The reply is no plan that can run. Payloads: the reply, the failures.
    PlanRejected {
        turn: u32,
        reply: Digest,
        failures: Digest,
        /// Whether a dearer model is asked in place of the one that was not up to it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_escalated: bool,
    },
    /// The whole plan was checked. Payloads: the reply, the plan.
    PlanAccepted {
        turn: u32,
        reply: Digest,
        plan: Digest,
        steps: Vec<PlannedStep>,
        has_answer: bool,
        /// Whether conditions must hold in the end.
        has_assertions: bool,
        /// By which rules it was checked: [`CHECK_VERSION`] today.
        checked_by: u16,
    },
    /// The planner gave the run's answer. Payloads: the reply, the answer.
    Answered { turn: u32, reply: Digest, answer: Digest },
    /// The planner asks the person something. Payloads: the reply, the question.
    Asked { turn: u32, reply: Digest, question: Digest },
    /// The person answered. Payload: the text.
    QuestionAnswered { turn: u32, text: Digest, by: String },
    /// The conditions that decide about success were looked at. Payload: the failure, where one does not hold.
    Verified { turn: u32, failure: Option<(Kind, Digest)> },
    /// All that the step needs is there. Payload: the arguments. The key is computed here, once.
    /// `duplicate_of` asks for the very same call, which changes something: each has a key of its own, as nobody can tell a
    /// repetition that is meant from one that is not.
    StepReady {
        step: StepId,
        args: Digest,
        key: Digest,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duplicate_of: Option<StepId>,
    },
    /// The step is done once for each item of a list. Payload: the list.
    StepExpanded { step: StepId, items: u32, list: Digest },
    /// All items of the step have ended. Payload: the list of their outputs, or the failure of the first that failed.
    StepGathered { step: StepId, end: StepEnd },
    /// The step never starts: policy, or arguments that do not fit. Payload: the failure.
    StepRejected { step: StepId, kind: Kind, failure: Digest },
    /// The step never starts, and nothing is wrong with it.
    StepSkipped { step: StepId, why: SkipReason },
    /// An earlier outcome of the same call was taken in place of a call. Payload: the output.
    StepCached { step: StepId, output: Digest, from: RunId, age_ms: u64 },
    /// A person must decide about this exact call. `binding` is the digest of what is to be approved.
    ApprovalRequested { step: StepId, binding: Digest, effect: Effect, rule: String, expires: Timestamp },
    /// A person decided. Payload: the reason, if any.
    ApprovalDecided { step: StepId, binding: Digest, decision: Decision, by: String, reason: Option<Digest> },
    /// Nobody decided in time: that counts as a no. Payload: the failure.
    ApprovalExpired { step: StepId, binding: Digest, failure: Digest },
    /// The call is about to run, or the run within the run.
    StepStarted {
        step: StepId,
        attempt: u32,
        component: Digest,
        effect: Effect,
        rules: Vec<String>,
        /// The most that it may cost.
        reserved: Cost,
        /// The run that carries the step out, where it is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<RunId>,
    },
    /// The call is about to change something for the first time.
    WriteBegun { step: StepId, attempt: u32 },
    /// The call ended. Payloads: output or failure, log, denials.
    StepEnded {
        step: StepId,
        attempt: u32,
        end: StepEnd,
        usage: Usage,
        /// What it did cost.
        cost: Cost,
        log: Option<Digest>,
        denials: Option<Digest>,
        has_written: bool,
        /// Whether one of its writes was not answered, or in a way that does not tell what became of it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        has_open_write: bool,
        /// Digest over the records of its host calls; `None` where it made none.
        host_calls: Option<Digest>,
        /// When it is tried again, where it failed and may be.
        retry: Option<Timestamp>,
        /// Whether the run that carried it out ended with caveats of its own.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        has_caveats: bool,
        /// What the run that carried it out leaves to this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<Within>,
    },
    /// The process died while the call ran: it may run again, as what it did is known. Host calls that were seen to end are
    /// answered from their records.
    StepInterrupted { step: StepId, attempt: u32 },
    /// The call began to change something, and nobody saw it end.
    StepUnknown { step: StepId, attempt: u32 },
    /// What became of an unknown step. Payload: the output, where it is done. `by` is a person, or `reconcile`.
    StepSettled { step: StepId, settlement: Settlement, by: String },
    /// A tool is asked what became of an unknown step: `step` is the call that asks.
    ReconcileBegun { of: StepId, step: PlannedStep },
    /// What was done is taken back: each step undoes one, in this order.
    UndoBegun {
        why: UndoReason,
        steps: Vec<PlannedStep>,
        /// Steps of the run that is taken back which changed something, and for which no such call is known: told only by a
        /// run that takes back another one, as any other run has those steps itself.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left: Vec<StepId>,
    },
    /// A person wants the run to stop: what runs is stopped, nothing new starts. With `undo` what was done is taken back.
    CancelRequested { by: String, undo: bool },
    /// The run waits for a person or for time.
    RunSuspended { why: Suspension },
    /// Somebody was told that the run waits for a person: for which of its steps, where it is for one.
    Notified {
        why: Suspension,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        steps: Vec<StepId>,
    },
    /// The run ended. Payload: the failure.
    RunEnded { end: RunEnd, caveats: Vec<Caveat> },
    /// A lone call that changes something is about to run.
    CallStarted {
        call: u64,
        tool: ToolName,
        component: Digest,
        args: Digest,
        effect: Effect,
        /// Digest of the key that its caller gave.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<Digest>,
    },
    /// A person says what became of a lone call whose process died.
    CallSettled { call: u64, settlement: Settlement, by: String },
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
        /// Whether one of its writes was not answered, or in a way that does not tell what became of it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        has_open_write: bool,
        /// The trace that it is part of, where somebody brought one; else that of its session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trace: Option<TraceId>,
    },
}

impl Fact {
    /// Returns the name of its kind, as it is stored.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RunCreated { .. } => "run_created",
            Self::SessionStarted { .. } => "session_started",
            Self::RunClaimed { .. } => "run_claimed",
            Self::ToolsChanged { .. } => "tools_changed",
            Self::PlanRequested { .. } => "plan_requested",
            Self::PlanReplied { .. } => "plan_replied",
            Self::PlanFailed { .. } => "plan_failed",
            Self::PlanRejected { .. } => "plan_rejected",
            Self::PlanAccepted { .. } => "plan_accepted",
            Self::Answered { .. } => "answered",
            Self::Asked { .. } => "asked",
            Self::QuestionAnswered { .. } => "question_answered",
            Self::Verified { .. } => "verified",
            Self::StepReady { .. } => "step_ready",
            Self::StepExpanded { .. } => "step_expanded",
            Self::StepGathered { .. } => "step_gathered",
            Self::StepRejected { .. } => "step_rejected",
            Self::StepSkipped { .. } => "step_skipped",
            Self::StepCached { .. } => "step_cached",
            Self::ApprovalRequested { .. } => "approval_requested",
            Self::ApprovalDecided { .. } => "approval_decided",
            Self::ApprovalExpired { .. } => "approval_expired",
            Self::StepStarted { .. } => "step_started",
            Self::WriteBegun { .. } => "write_begun",
            Self::StepEnded { .. } => "step_ended",
            Self::StepInterrupted { .. } => "step_interrupted",
            Self::StepUnknown { .. } => "step_unknown",
            Self::StepSettled { .. } => "step_settled",
            Self::ReconcileBegun { .. } => "reconcile_begun",
            Self::UndoBegun { .. } => "undo_begun",
            Self::CancelRequested { .. } => "cancel_requested",
            Self::RunSuspended { .. } => "run_suspended",
            Self::Notified { .. } => "notified",
            Self::RunEnded { .. } => "run_ended",
            Self::CallStarted { .. } => "call_started",
            Self::CallSettled { .. } => "call_settled",
            Self::Called { .. } => "called",
        }
    }

    /// Returns the one step that the fact is about; `None` where it is about the run, a lone call, or many steps.
    pub fn step(&self) -> Option<&StepId> {
        match self {
            Self::StepReady { step, .. }
            | Self::StepExpanded { step, .. }
            | Self::StepGathered { step, .. }
            | Self::StepRejected { step, .. }
            | Self::StepSkipped { step, .. }
            | Self::StepCached { step, .. }
            | Self::ApprovalRequested { step, .. }
            | Self::ApprovalDecided { step, .. }
            | Self::ApprovalExpired { step, .. }
            | Self::StepStarted { step, .. }
            | Self::WriteBegun { step, .. }
            | Self::StepEnded { step, .. }
            | Self::StepInterrupted { step, .. }
            | Self::StepUnknown { step, .. }
            | Self::StepSettled { step, .. }
            | Self::ReconcileBegun { of: step, .. } => Some(step),
            Self::RunCreated { .. }
            | Self::SessionStarted { .. }
            | Self::RunClaimed { .. }
            | Self::ToolsChanged { .. }
            | Self::PlanRequested { .. }
            | Self::PlanReplied { .. }
            | Self::PlanFailed { .. }
            | Self::PlanRejected { .. }
            | Self::PlanAccepted { .. }
            | Self::Answered { .. }
            | Self::Asked { .. }
            | Self::QuestionAnswered { .. }
            | Self::Verified { .. }
            | Self::UndoBegun { .. }
            | Self::CancelRequested { .. }
            | Self::RunSuspended { .. }
            | Self::Notified { .. }
            | Self::RunEnded { .. }
            | Self::CallStarted { .. }
            | Self::CallSettled { .. }
            | Self::Called { .. } => None,
        }
    }
}

/// Which model a planner asks, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedModel {
    pub model: String,
    pub tier: String,
    /// The worst that a step of the reply may do.
    pub effect_max: Effect,
    /// Payload: the routes, what was counted, and the choice.
    pub route: Digest,
    /// Where the price comes from, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<String>,
    /// The longest reply that is allowed, in tokens.
    pub reply_tokens_max: u32,
}

/// The step of another run that a run carries out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    pub run: RunId,
    pub step: StepId,
    /// Runs above this one.
    pub depth: u32,
    /// Calls that may still be made of tools of which the runs around this one have made some already: of any other, as many as
    /// the budget says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub calls_left: BTreeMap<ToolName, u32>,
    /// The run that this one is there to take back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_back: Option<TakesBack>,
}

/// A run that another one takes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakesBack {
    pub run: RunId,
    /// The run that was to take it back before, and was stopped: what that one took back is not taken back again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<RunId>,
}

/// What a run within a run leaves to the run around it when it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Within {
    /// Calls begun, by tool, those of runs within it included.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub calls: BTreeMap<ToolName, u32>,
    /// Whether it changed something, or may have, that it did not take back itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_done: bool,
    /// Whether something of that can be taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_undo: bool,
}

/// What the state machine needs to know of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedStep {
    pub id: StepId,
    /// `cofferdam.run` for a run within the run.
    pub tool: ToolName,
    /// All steps that must succeed first: those named, and those whose output is used.
    pub needs: Vec<StepId>,
    /// Steps that must have ended first, however they ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<StepId>,
    /// The worst it can do under the grant that policy would give it now.
    pub effect: Effect,
    pub on_failure: OnFailure,
    pub role: Role,
    pub retry: RetryRule,
    /// The most that one attempt may cost.
    pub cost: Cost,
    /// What it may change: directories and servers. Two steps that may change the same keep the order of the plan; an empty
    /// list is anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub touches: Vec<String>,
    /// Calls of its tool that may be under way at one time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_parallel_max: Option<u32>,
    /// Whether it is done once for each item of a list, and how many at one time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Items>,
    /// Whether a model plans the run that carries it out, or one within that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks_model: bool,
    /// Whether its planner had read what tools brought before it proposed the step: that may speak through it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_tainted: bool,
    /// Whether a call is known that takes it back.
    pub has_undo: bool,
    /// Whether that call needs to know what the step brought.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undo_takes_output: bool,
    /// Whether a call is known that tells what became of it.
    pub has_reconcile: bool,
}

/// Why there is a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case", deny_unknown_fields)]
pub enum Role {
    /// The plan proposes it.
    Do,
    /// It is one item of a step that is done for each.
    Item { of: StepId },
    /// It takes a step back.
    Undo { of: StepId },
    /// It tells what became of a step.
    Reconcile { of: StepId },
}

impl Role {
    /// Returns the step that is taken back, where one is.
    pub fn undoes(&self) -> Option<&StepId> {
        match self {
            Self::Undo { of } => Some(of),
            Self::Do | Self::Item { .. } | Self::Reconcile { .. } => None,
        }
    }
}

/// Bounds of a step that is done for each item of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Items {
    pub items_max: u32,
    pub parallel_max: u32,
}

/// Why a step was passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case", deny_unknown_fields)]
pub enum SkipReason {
    /// A step that it needs did not succeed.
    Needs { step: StepId },
    /// Its condition does not hold.
    Condition,
    /// It stands in for a step that did not fail.
    NotNeeded,
}

/// Why what was done is taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case", deny_unknown_fields)]
pub enum UndoReason {
    StepFailed {
        step: StepId,
    },
    Cancelled {
        by: String,
    },
    /// A bound of the budget was met: its name.
    Budget {
        what: String,
    },
    /// The run around this one takes back what a run within it has done.
    Outer,
}

/// How a step's call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case", deny_unknown_fields)]
pub enum StepEnd {
    Succeeded { output: Digest },
    Failed { kind: Kind, failure: Digest },
}

/// A person's decision about one exact call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case", deny_unknown_fields)]
pub enum Decision {
    Approve,
    Reject,
    /// Approves the same tool with other arguments, which were checked: another call, with a key of its own.
    Modify {
        args: Digest,
        key: Digest,
        binding: Digest,
    },
}

/// What a person, or a tool, says became of a step whose end nobody saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case", deny_unknown_fields)]
pub enum Settlement {
    /// It happened, and this is its output.
    Done { output: Digest },
    /// It did not happen, or may safely happen again.
    Retry,
    /// It did not happen, and shall not.
    Failed { failure: Digest },
    /// The tool that was asked does not know: a person must say.
    Unknown,
}

/// What a run waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suspension {
    Approval,
    Question,
    /// A time: the next attempt of a step is far away.
    Timer,
    /// A person who says what became of a step.
    Reconcile,
    /// A person who takes back what could not be.
    Stuck,
}

/// Something about a run that ended which its end alone does not tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caveat {
    pub step: StepId,
    pub what: CaveatKind,
}

/// What is not as it should be with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaveatKind {
    Failed,
    Rejected,
    /// One that it needs did not succeed.
    Skipped,
    /// The run ended before it did.
    Unfinished,
    /// Nobody knows what became of it.
    Unknown,
    /// Another step took its place.
    Degraded,
    /// Part of what it logged, printed or read was dropped.
    Truncated,
    /// It was taken back.
    Undone,
    /// It could not be taken back.
    UndoFailed,
    /// The rest was taken back, and no call is known that takes this back.
    NotUndone,
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

impl PlannedStep {
    /// Makes a step that calls `tool`, with nothing out of the ordinary.
    pub fn call(id: StepId, tool: ToolName, needs: Vec<StepId>, effect: Effect) -> Self {
        Self {
            id,
            tool,
            needs,
            after: Vec::new(),
            effect,
            on_failure: OnFailure::Fail,
            role: Role::Do,
            retry: RetryRule::default(),
            cost: Cost { calls: 1, ..Cost::default() },
            touches: Vec::new(),
            calls_parallel_max: None,
            items: None,
            asks_model: false,
            is_tainted: false,
            has_undo: false,
            undo_takes_output: false,
            has_reconcile: false,
        }
    }
}
