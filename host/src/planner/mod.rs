//! Proposes what to do next, and never runs anything.
//!
//! Four things stand behind [`Planner`] in the end; here a workflow file and a model. What comes back is untrusted:
//! `orchestrator::check` decides whether it is a plan.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::domain::{Effect, Failure, Json, Plan, StepId, ToolName};

pub mod model;
pub mod parse;
pub mod prompt;
mod strict;
pub mod workflow;

/// All that a planner may see for one request. Built from declared inputs only, by the orchestrator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContextPack {
    pub goal: String,
    /// 1 for the first plan of a run.
    pub turn: u32,
    /// Sorted by name.
    pub tools: Vec<OfferedTool>,
    /// What earlier steps of this run brought, in order of their ids.
    pub observations: Vec<Observation>,
    /// The last reply and why it was refused, where this request is a repair.
    pub repair: Option<Repair>,
    /// Answers of the person to earlier questions.
    pub answers: Vec<String>,
}

/// A tool that the planner may propose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfferedTool {
    pub name: ToolName,
    pub summary: String,
    pub effect: Effect,
    pub input_schema: Json,
    pub output_schema: Json,
}

/// What a step brought, as the planner may see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Observation {
    pub step: StepId,
    pub tool: ToolName,
    pub outcome: Observed,
}

/// The end of a step, as the planner may see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case")]
pub enum Observed {
    /// `preview` is the start of the output's canonical text; use a reference for the whole.
    Succeeded {
        bytes: usize,
        preview: String,
        is_whole: bool,
    },
    /// The failure without its operator's detail.
    Failed {
        code: String,
        retryable: bool,
        message: String,
        hint: Option<String>,
    },
    Skipped,
}

/// Why the last reply was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repair {
    /// The reply as it came, cut.
    pub reply: String,
    /// Each names the place in the reply, by JSON pointer where there is one.
    pub failures: Vec<String>,
}

/// What one request may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    pub wall_ms_max: u64,
    pub reply_tokens_max: u32,
}

/// What a planner says.
#[derive(Clone, Debug, PartialEq)]
pub enum Proposal {
    Plan(Plan),
    /// The goal is reached, and this is the answer; it may hold references to steps of any turn, as `t1.name`.
    Answer(Json),
    /// The person must say something first.
    Question(String),
}

/// One request to a planner: failures cost too.
#[derive(Clone, Debug)]
pub struct Planned {
    pub reply: Result<Proposal, Failure>,
    /// What the planner said, byte for byte as far as it came; where it said nothing, the body of the error that a server
    /// sent. Without secrets; kept as a payload, and shown in a repair.
    pub raw: Vec<u8>,
    pub usage: PlannerUsage,
}

/// What a request used, as the provider counts it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannerUsage {
    pub prompt_tokens: u64,
    pub reply_tokens: u64,
}

/// Proposes.
#[async_trait]
pub trait Planner: Send + Sync {
    /// Returns the name that is kept in the log: `workflow`, `model:<name>`.
    fn name(&self) -> String;

    /// Answers whether the goal is reached when the steps of its one plan are: true for a workflow file, false for a
    /// model, which sees what its steps brought and goes on.
    fn is_single_plan(&self) -> bool;

    /// Makes one request.
    async fn plan(&self, pack: &ContextPack, allowance: &Allowance) -> Planned;
}
