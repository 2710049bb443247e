//! From a model's words to a proposal.
//!
//! Pure. What is wrong is told by JSON pointer, all of it at once, so that one repair can mend it. A parsed plan has the
//! right shape and nothing more: names, references and arguments are for `orchestrator::check`.

use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::inputs;
use super::strict::{self, as_literal};
use super::{ContextPack, Proposal};
use crate::domain::{Failure, Json, Kind, Plan, PlanStep};

mod flaws;
mod nulls;
mod step;
#[cfg(test)]
mod tests;

use flaws::{Flaws, token};
use nulls::strip_args;
use step::{bare_step, plan_step};

/// Bounds on a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyLimits {
    /// Bytes of text.
    pub bytes_max: usize,
    /// Levels of nesting of the whole reply.
    pub depth_max: usize,
}

impl Default for ReplyLimits {
    /// 1 MiB is more than any model writes in one reply; 36 levels are what a plan allows and the four around it.
    fn default() -> Self {
        Self { bytes_max: 1 << 20, depth_max: 36 }
    }
}

/// A call that a model asks for by its own means, beside the format of the reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NativeCall {
    pub tool: String,
    /// JSON text, as the model wrote it.
    pub arguments: String,
}

/// The keys of a reply of which it holds one.
const PROPOSALS: [&str; 4] = ["steps", "answer", "question", "abstain"];

const REPLY_HINT: &str =
    "reply with one JSON object that holds exactly one of `steps`, `answer`, `question` and `abstain`";

/// What the kept text of a reply with native calls begins with.
const CALLS_START: &str = "{\"tool_calls\":";

/// What it begins with in logs of the first version: a list of the calls alone.
const CALLS_START_V1: &str = "[{\"tool\":";

/// A reply with native calls, as it is kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCalls {
    tool_calls: Vec<NativeCall>,
    /// What the model said beside them; nobody acts on it, and a second proposal in it makes the reply none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    text: String,
}

/// Writes what a model said beside its native calls, and those, as [`read`] reads it.
pub fn written(text: &str, calls: &[NativeCall]) -> String {
    let written = WrittenCalls { tool_calls: calls.to_vec(), text: text.to_owned() };
    // It is text and lists of text, which JSON can always say.
    serde_json::to_string(&written).unwrap_or_default()
}

/// Reads a reply as it is kept: text, or native calls. When it came it was read by this too, so that it means the same for as
/// long as it is kept.
///
/// # Errors
/// Those of [`parse`] and [`parse_calls`].
pub fn read(reply: &str, pack: &ContextPack, limits: &ReplyLimits) -> Result<Proposal, Failure> {
    // Written as JSON text within JSON text, a reply within its bound may be larger than that.
    let is_bounded = reply.len() <= limits.bytes_max.saturating_mul(8);
    match calls_of(reply).filter(|written| is_bounded && !written.tool_calls.is_empty()) {
        Some(WrittenCalls { tool_calls, text }) => match proposed_beside(&text, limits) {
            None => parse_calls(&tool_calls, pack, limits),
            Some(key) => {
                let what = format!("read the reply: it holds both calls and `{key}`");
                Err(Failure::new(Kind::ModelSchema, what).hint(REPLY_HINT))
            }
        },
        None => parse(reply, pack, limits),
    }
}

fn calls_of(reply: &str) -> Option<WrittenCalls> {
    if reply.starts_with(CALLS_START) {
        return serde_json::from_str(reply).ok();
    }
    let tool_calls = reply.starts_with(CALLS_START_V1).then(|| serde_json::from_str(reply).ok()).flatten()?;
    Some(WrittenCalls { tool_calls, text: String::new() })
}

/// Returns what the text beside calls proposes, where it is a reply of its own: nobody knows which of both is meant.
fn proposed_beside(text: &str, limits: &ReplyLimits) -> Option<&'static str> {
    let fields = json(unfenced(text), limits).ok()?;
    PROPOSALS.into_iter().find(|key| fields.get(key).is_some_and(|field| !is_nothing(key, field)))
}

/// Reads the text of a reply.
///
/// # Errors
/// `model.invalid_json`; `model.schema` with a JSON pointer for each flaw; `model.no_action` for a reply that says
/// nothing.
pub fn parse(text: &str, pack: &ContextPack, limits: &ReplyLimits) -> Result<Proposal, Failure> {
    let reply = json(unfenced(text), limits)?;
    let Json::Object(mut fields) = reply else {
        return Err(Failure::new(Kind::ModelSchema, "read the reply: it is not an object").hint(REPLY_HINT));
    };
    fields.retain(|key, field| !is_nothing(key, field));
    let mut flaws = Flaws::default();
    for key in fields.keys().filter(|key| !PROPOSALS.contains(&key.as_str()) && *key != "reasoning") {
        flaws.add(&format!("/{}", token(key)), "is unknown");
    }
    let proposal = proposal(fields, pack, &mut flaws)?;
    inputs::filled(flaws.none_or(proposal)?, &pack.inputs)
}

/// Makes a plan of calls that a model asked for natively. Their arguments hold no references: what looks like one is
/// data.
///
/// # Errors
/// `model.invalid_json` for arguments that are no JSON, `model.schema` for arguments that are no object.
pub fn parse_calls(calls: &[NativeCall], pack: &ContextPack, limits: &ReplyLimits) -> Result<Proposal, Failure> {
    let mut flaws = Flaws::default();
    let mut steps = Vec::new();
    for (n, call) in calls.iter().enumerate() {
        let place = format!("/tool_calls/{n}/arguments");
        let Json::Object(mut args) = json(&call.arguments, limits).map_err(|failure| at(&place, failure))? else {
            flaws.add(&place, "is not an object");
            continue;
        };
        for key in args.keys().filter(|key| key.starts_with('$')) {
            flaws.add(&format!("{place}/{}", token(key)), "is not the name of an argument");
        }
        strip_args(&call.tool, &mut args, pack);
        let args = args.into_iter().map(|(key, value)| (key, as_literal(&value))).collect();
        steps.push(PlanStep { args: Json::Object(args), ..bare_step(format!("call{}", n + 1), call.tool.clone()) });
    }
    flaws.none_or(Some(Proposal::Plan(Plan { steps, ..Plan::default() })))
}

/// Returns what is inside a fence, where all of the text is one fenced block.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let inside =
        text.strip_prefix("```json").or_else(|| text.strip_prefix("```")).and_then(|rest| rest.strip_suffix("```"));
    inside.filter(|inside| !inside.contains("```")).unwrap_or(text)
}

fn json(text: &str, limits: &ReplyLimits) -> Result<Json, Failure> {
    if text.len() > limits.bytes_max {
        let what = format!("read the reply: {} bytes are more than {}", text.len(), limits.bytes_max);
        return Err(Failure::new(Kind::ModelSchema, what).hint("reply with a shorter plan"));
    }
    strict::from_json(text, limits.depth_max).map_err(|error| {
        Failure::new(Kind::ModelInvalidJson, format!("read the reply as JSON: {error}")).hint(REPLY_HINT)
    })
}

fn at(place: &str, failure: Failure) -> Failure {
    let message = format!("{}, in `{place}`", failure.message);
    Failure { message, ..failure }
}

/// Answers whether a field is there for the format's sake only: strict schemas make a model write every key. An empty
/// list is an answer, and no plan.
fn is_nothing(key: &str, field: &Json) -> bool {
    match field {
        Json::Null => true,
        Json::String(text) => text.trim().is_empty(),
        Json::Array(items) => items.is_empty() && key == "steps",
        _ => false,
    }
}

/// Returns the one thing that the reply proposes, or nothing where that has a flaw.
fn proposal(mut fields: Map<String, Json>, pack: &ContextPack, flaws: &mut Flaws) -> Result<Option<Proposal>, Failure> {
    let said = PROPOSALS.map(|key| fields.remove(key).map(|value| (key, value)));
    let mut said = said.into_iter().flatten();
    match (said.next(), said.next()) {
        (Some(("steps", steps)), None) => Ok(plan(steps, pack, flaws).map(Proposal::Plan)),
        (Some(("answer", answer)), None) => Ok(Some(Proposal::Answer(answer))),
        (Some(("question", Json::String(question))), None) => Ok(Some(Proposal::Question(question))),
        (Some((_, Json::String(why))), None) => Ok(Some(Proposal::Abstention(why))),
        (Some((key, _)), None) => Ok(flaws.none(&format!("/{key}"), "is not text")),
        (None, _) if flaws.is_empty() => {
            Err(Failure::new(Kind::ModelNoAction, "find a plan, an answer or a question in the reply").hint(REPLY_HINT))
        }
        _ => Ok(flaws.none("", "holds not exactly one of `steps`, `answer`, `question` and `abstain`")),
    }
}

fn plan(steps: Json, pack: &ContextPack, flaws: &mut Flaws) -> Option<Plan> {
    let Json::Array(steps) = steps else { return flaws.none("/steps", "is not a list") };
    let steps = steps.into_iter().enumerate();
    let steps: Vec<Option<PlanStep>> =
        steps.map(|(n, step)| plan_step(step, &format!("/steps/{n}"), pack, flaws)).collect();
    let steps = steps.into_iter().collect::<Option<_>>()?;
    Some(Plan { steps, ..Plan::default() })
}
