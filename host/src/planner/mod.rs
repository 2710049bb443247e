//! Proposes what to do next, and never runs anything.
//!
//! Four things stand behind [`Planner`] in the end; here a workflow file and a model. What comes back is untrusted:
//! `orchestrator::check` decides whether it is a plan.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::domain::{Digest, Effect, Failure, Json, Plan, Price, StepId, Tokens, ToolName, canonical};

mod fit;
mod inputs;
pub mod model;
mod options;
pub mod parse;
mod preview;
pub mod prices;
pub mod prompt;
pub mod prompts;
pub mod recorded;
pub mod retrieve;
pub mod route;
mod strict;
pub mod suggest;
pub mod workflow;

pub use fit::fitted;
pub use options::PackOptions;
pub use preview::preview;

/// All that a planner may see for one request. Built from declared inputs only, by the orchestrator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContextPack {
    pub goal: String,
    /// What the person gave beside the goal, by name: all of the session that the planner may know.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Json>,
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
    /// What the run has left, rounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Left>,
    /// What there was no room for.
    #[serde(default, skip_serializing_if = "Cut::is_none")]
    pub cut: Cut,
    /// Digest of the fixed texts that the planner reads around all this. Absent where it reads none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Digest>,
    /// How the tools were found, for the router; no planner reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrieval: Option<Retrieval>,
}

/// What a run has left of its budget, all but the turns down to one digit: what stands in a request should change seldom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Requests to the planner, this one included, exactly.
    pub turns: u32,
    pub calls: u32,
    pub seconds: u64,
    /// Millionths of a US dollar; absent where nobody bounds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_micros: Option<u64>,
    /// Of requests to models and their replies; absent where nobody bounds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
}

/// What a pack does not show for want of room, in the order in which it was cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cut {
    /// Outputs and inputs of which no part is shown.
    pub previews: u32,
    /// Outputs whose schema is not shown, and steps whose arguments are not.
    pub shapes: u32,
    /// Tools that would have been offered.
    pub tools: u32,
    /// Steps that are not told at all, the oldest first.
    pub observations: u32,
}

impl Cut {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl ContextPack {
    /// Returns the digest of what a planner can decide by: equal for two runs that went the same way, however fast, by whose
    /// words and at what price.
    pub fn likeness(&self) -> Digest {
        let told = Self { left: None, prompt: None, retrieval: None, ..self.clone() };
        let told = serde_json::to_value(told).unwrap_or_default();
        Digest::of(canonical(&told).as_bytes())
    }
}

/// How the offered tools were found among all that the run may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retrieval {
    /// Tools that the run may use.
    pub tools: u32,
    /// Those of the offered tools whose score is at least half of the best, best first.
    pub near: Vec<ToolName>,
    /// How far the best is ahead of the second, in thousandths of its score; 1,000 where there is no second.
    pub margin_permille: u32,
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
    /// As they were proposed, references and all; absent where they are many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Json>,
    pub outcome: Observed,
}

/// The end of a step, as the planner may see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case")]
pub enum Observed {
    /// `preview` is the output's canonical text, or that of its shape, with its schema; use a reference for the whole.
    Succeeded {
        bytes: usize,
        preview: String,
        is_whole: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schema: Option<Json>,
    },
    /// The failure without its operator's detail.
    Failed {
        /// The host's word for what went wrong.
        #[serde(default)]
        class: String,
        /// The tool's own word, where it has one.
        code: String,
        retryable: bool,
        message: String,
        hint: Option<String>,
        /// The part of the tool's input schema that the arguments did not fit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schema: Option<Json>,
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

/// What one request may use, and of whom it is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Which of the planner's models is asked: one that its [`Planner::routes`] name. `None` for a planner without models.
    pub model: Option<String>,
    /// For the whole reply, in milliseconds.
    pub wall_ms_max: u64,
    /// Until the first part of the reply, in milliseconds.
    pub first_token_ms_max: u64,
    /// Between two parts of the reply, in milliseconds.
    pub idle_ms_max: u64,
    /// Reasoning included. Sent along, so that it is the provider who keeps to it.
    pub reply_tokens_max: u32,
    /// The W3C `traceparent` of the request.
    pub traceparent: Option<String>,
}

/// What a planner says.
#[derive(Clone, Debug, PartialEq)]
pub enum Proposal {
    Plan(Plan),
    /// The goal is reached, and this is the answer; it may hold references to steps of any turn, as `t1.name`.
    Answer(Json),
    /// The person must say something first.
    Question(String),
    /// The planner is not up to this, and says why: another may be.
    Abstention(String),
}

/// What became of a reply in the run that it was recorded in, where it was no plan that could run there: it is the same again,
/// as nothing in the words need show it.
#[derive(Clone, Debug, PartialEq)]
pub enum Refused {
    /// The planner was asked again: a dearer model, where it `is_escalated`.
    Again { failures: Vec<Failure>, is_escalated: bool },
    /// That was the end of the run.
    ForGood(Failure),
}

/// One request to a planner: failures cost too.
#[derive(Clone, Debug)]
pub struct Planned {
    pub reply: Result<Proposal, Failure>,
    /// Told by a recording alone, and then whatever `reply` is: nothing of it is looked at again.
    pub refused: Option<Refused>,
    /// What the planner said, byte for byte as far as it came; where it said nothing, the body of the error that a server
    /// sent. Without secrets and without reasoning; kept as a payload, and shown in a repair.
    pub raw: Vec<u8>,
    /// What the model thought before it spoke, as far as it is told. Kept apart: nothing reads it but a person.
    pub reasoning: Option<String>,
    /// What the provider counted; `None` where nobody knows, and the most that it could be is to be taken for it.
    pub tokens: Option<Tokens>,
    /// The model that answered, as the server calls it.
    pub model: Option<String>,
    /// How long the server asks to be left alone, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// Until the first part of the reply, in milliseconds; `None` where none came.
    pub first_token_ms: Option<u64>,
    pub wall_ms: u64,
}

impl Planned {
    /// Makes the reply of a planner that asks no model: it costs nothing.
    pub fn free(reply: Result<Proposal, Failure>, raw: Vec<u8>) -> Self {
        Self {
            reply,
            refused: None,
            raw,
            reasoning: None,
            tokens: Some(Tokens::default()),
            model: None,
            retry_after_ms: None,
            first_token_ms: None,
            wall_ms: 0,
        }
    }
}

/// The most that a request can use, known before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Tokens of the request: no tokenizer of the provider makes more of it.
    pub prompt_tokens_max: u64,
    /// The longest reply that the model gives, and that its settings allow.
    pub reply_tokens_max: u32,
    /// `None` where nobody knows it: that is not the same as nothing.
    pub price: Option<Price>,
    /// Scheme, host and port that the request goes to: what fails together.
    pub server: String,
}

/// Proposes.
#[async_trait]
pub trait Planner: Send + Sync {
    /// Returns the name that is kept in the log: `workflow`, `model:<name>`.
    fn name(&self) -> String;

    /// Answers whether the goal is reached when the steps of its one plan are: true for a workflow file, false for a
    /// model, which sees what its steps brought and goes on.
    fn is_single_plan(&self) -> bool;

    /// Returns the models that a request may be sent to, and what each may propose; `None` for a planner without models.
    fn routes(&self) -> Option<&route::Routes> {
        None
    }

    /// Returns the digest of the fixed texts that the planner reads, where it reads any.
    fn prompt(&self) -> Option<Digest> {
        None
    }

    /// Returns the most that a request with this pack to one of its models can use; `None` for a model that it does not
    /// have.
    fn quote(&self, _pack: &ContextPack, _model: &str) -> Option<Quote> {
        None
    }

    /// Makes one request.
    async fn plan(&self, pack: &ContextPack, allowance: &Allowance) -> Planned;
}
