//! A plan: a graph of proposed calls, as data. Untrusted until `orchestrator::check` has seen it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{BudgetPatch, Json};

/// A graph of proposed calls and the shape of the answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub steps: Vec<PlanStep>,
    /// What the run answers with: a value that may hold references to steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Json>,
    /// Conditions in CEL that must hold when all steps are done: the run succeeds if they do, and fails if they do not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assert: Vec<String>,
}

/// One proposed call, or one proposed run within the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanStep {
    /// The plan's own name for the step; the host's id is `t<turn>.<id>`.
    pub id: String,
    /// `component.function`. Kept as text: a planner may write anything. Empty where `run` is set.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tool: String,
    /// A run within the run, in place of a tool. `args` are its inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<SubRun>,
    /// Arguments: an object whose values may be `{"$from": "step", "path": "/json/pointer"}`, at any depth; a value
    /// under `{"$literal": …}` is taken as it is. Within `for_each`, `{"$item": "/json/pointer"}` is part of the item.
    #[serde(default = "empty_object")]
    pub args: Json,
    /// Steps that must succeed first, beyond those that `args` refer to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Steps that must have ended first, however they ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// A condition in CEL over `steps.<id>`: where it does not hold, the step is skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Does the step once for each item of a list; its output is the list of theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<ForEach>,
    /// Shortens the step's deadline, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How often, and how far apart, the step may be tried again.
    #[serde(default, skip_serializing_if = "RetryRule::is_default")]
    pub retry: RetryRule,
    /// What the step's failure means for the run: `fail`, `skip`, `undo` or `fallback:<step>`.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// The call that takes this step back. In its arguments `{"$in": pointer}` is part of the step's own arguments, and
    /// `{"$out": pointer}` part of its output. Default: what the tool itself names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<CallTemplate>,
    /// Asks for a person's approval, beyond what policy asks.
    #[serde(default)]
    pub approval: bool,
    /// Takes an earlier outcome of the same call, if it is not older than this. Only for calls that change nothing; those
    /// that depend on their arguments alone are taken from the cache without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_ttl_ms: Option<u64>,
    /// How sure the planner is that the step is right, from 0 to 1. Kept, and never a reason to trust it more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub confidence: Option<f64>,
    /// What makes the planner doubt the step. Any flag asks for a person; none ever spares one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub flags: Vec<String>,
}

fn empty_object() -> Json {
    Json::Object(serde_json::Map::new())
}

/// A run within the run: its plan is a workflow, or a goal in words for the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubRun {
    /// The content of a workflow file; in a file it may be the path of another, from the directory of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<Json>,
    /// What a model is to plan for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<String>,
    /// What it may cost; never more than what the run around it has left.
    #[serde(default, skip_serializing_if = "BudgetPatch::is_empty")]
    pub budget: BudgetPatch,
}

/// The list whose items a step is done for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForEach {
    /// A list, or a reference to one.
    #[serde(rename = "in")]
    pub list: Json,
    /// More items than this fail the step before the first is started.
    pub items_max: u32,
    /// Items under way at one time; all that the run's budget allows by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_max: Option<u32>,
}

/// How often a call may be tried again, and how long to wait before. Whether it may be at all depends on what it has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryRule {
    /// Attempts in all, the first included.
    pub attempts_max: u32,
    /// The longest wait before the second attempt, in milliseconds; it doubles with each. The wait itself is drawn from
    /// nothing to there, so that many who failed together do not come back together.
    pub backoff_ms: u64,
    /// No wait is longer than this, in milliseconds.
    pub backoff_ms_max: u64,
}

impl Default for RetryRule {
    /// Three attempts outlast a restart of what is called; half a minute is as long as a person waits without a word.
    fn default() -> Self {
        Self { attempts_max: 3, backoff_ms: 500, backoff_ms_max: 30_000 }
    }
}

impl RetryRule {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A call that is made of another one: its undo, or the look at what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallTemplate {
    /// `component.function`; a function alone is one of the same component.
    pub tool: String,
    /// Arguments, in which `{"$in": pointer}`, `{"$out": pointer}` and `{"$key": ""}` stand for parts of the call's
    /// arguments and output, and for its idempotency key.
    #[serde(default = "empty_object")]
    pub args: Json,
}

/// What a step's failure means for the run. Written `fail`, `skip`, `undo` or `fallback:<step>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum OnFailure {
    /// The run fails. What is under way ends first, and what only looks goes on; nothing that changes anything starts.
    #[default]
    Fail,
    /// Steps that need this one are skipped; the rest goes on, and the run lists it as a caveat.
    Skip,
    /// Another step of the plan takes its place, and its output that of this one; the run lists it as a caveat.
    Fallback(String),
    /// The run fails, and what it has done is taken back, the last first.
    Undo,
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail => f.write_str("fail"),
            Self::Skip => f.write_str("skip"),
            Self::Undo => f.write_str("undo"),
            Self::Fallback(step) => write!(f, "fallback:{step}"),
        }
    }
}

impl TryFrom<String> for OnFailure {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "fail" => Ok(Self::Fail),
            "skip" => Ok(Self::Skip),
            "undo" => Ok(Self::Undo),
            _ => match text.strip_prefix("fallback:") {
                Some(step) if !step.is_empty() => Ok(Self::Fallback(step.to_owned())),
                _ => Err("`on_failure` is `fail`, `skip`, `undo` or `fallback:<step>`".to_owned()),
            },
        }
    }
}

impl From<OnFailure> for String {
    fn from(on_failure: OnFailure) -> Self {
        on_failure.to_string()
    }
}

impl JsonSchema for OnFailure {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OnFailure".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^(fail|skip|undo|fallback:.+)$", "default": "fail" })
    }
}

/// Bounds on the size of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanLimits {
    /// Steps in one plan: more is a program, and a program is a tool.
    pub steps_max: usize,
    /// Arguments of one step with references unresolved, in bytes.
    pub args_bytes_max: usize,
    /// Levels of nesting of one step's arguments.
    pub depth_max: usize,
}

impl Default for PlanLimits {
    fn default() -> Self {
        Self { steps_max: 200, args_bytes_max: 256 << 10, depth_max: 32 }
    }
}

/// A reference to the output of a step: `{"$from": step, "path": pointer, "default": value}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    pub step: &'a str,
    /// RFC 6901; empty for the whole output.
    pub path: &'a str,
    /// What to take where the step brought nothing: such a step need only have ended.
    pub default: Option<&'a Json>,
}

/// Returns `value` as a reference, `None` where it is none, or what is wrong with it.
///
/// # Errors
/// An object with `$from` that is not exactly `{"$from": text, "path"?: pointer, "default"?: value}`.
pub fn reference(value: &Json) -> Result<Option<Reference<'_>>, String> {
    let Some(fields) = value.as_object() else { return Ok(None) };
    let Some(from) = fields.get("$from") else { return Ok(None) };
    let step = from.as_str().ok_or("`$from` is not the name of a step")?;
    let path = match fields.get("path") {
        None => "",
        Some(path) => path.as_str().ok_or("`path` beside `$from` is not text")?,
    };
    if let Some(extra) = fields.keys().find(|key| !matches!(key.as_str(), "$from" | "path" | "default")) {
        return Err(format!(
            "`{extra}` beside `$from` is unknown: a reference is `{{\"$from\": step, \"path\": pointer}}`"
        ));
    }
    if !path.is_empty() && !path.starts_with('/') {
        return Err(format!("path `{path}` is not a JSON pointer: it starts with `/`"));
    }
    Ok(Some(Reference { step, path, default: fields.get("default") }))
}

/// Returns the value under `{"$literal": …}`, which is taken as it is.
pub fn literal(value: &Json) -> Option<&Json> {
    value.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.get("$literal"))
}

/// Lists every reference within `value`.
///
/// # Errors
/// The first malformed reference.
pub fn references(value: &Json) -> Result<Vec<Reference<'_>>, String> {
    let mut found = Vec::new();
    collect(value, &mut found)?;
    Ok(found)
}

fn collect<'a>(value: &'a Json, found: &mut Vec<Reference<'a>>) -> Result<(), String> {
    if literal(value).is_some() {
        return Ok(());
    }
    if let Some(reference) = reference(value)? {
        found.push(reference);
        return Ok(());
    }
    match value {
        Json::Array(items) => items.iter().try_for_each(|item| collect(item, found)),
        Json::Object(fields) => fields.values().try_for_each(|field| collect(field, found)),
        _ => Ok(()),
    }
}

/// Returns `value` with each reference replaced by what `resolve` gives for it.
///
/// # Errors
/// The first malformed reference, or the first that `resolve` refuses.
pub fn resolved(value: &Json, resolve: &dyn Fn(&Reference<'_>) -> Result<Json, String>) -> Result<Json, String> {
    if let Some(value) = literal(value) {
        return Ok(value.clone());
    }
    if let Some(reference) = reference(value)? {
        return resolve(&reference);
    }
    Ok(match value {
        Json::Array(items) => Json::Array(items.iter().map(|item| resolved(item, resolve)).collect::<Result<_, _>>()?),
        Json::Object(fields) => Json::Object(
            fields.iter().map(|(k, v)| Ok((k.clone(), resolved(v, resolve)?))).collect::<Result<_, String>>()?,
        ),
        scalar => scalar.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_found_at_any_depth_and_literals_are_left_alone() {
        let args = json!({"a": [{"$from": "s1", "path": "/rows/0"}], "b": {"$literal": {"$from": "s2"}}});
        assert_eq!(references(&args), Ok(vec![Reference { step: "s1", path: "/rows/0", default: None }]));
        let value = resolved(&args, &|r| Ok(json!(format!("{}{}", r.step, r.path))));
        assert_eq!(value, Ok(json!({"a": ["s1/rows/0"], "b": {"$from": "s2"}})));
    }

    #[test]
    fn a_malformed_reference_is_told_apart_from_a_value() {
        for bad in [json!({"$from": 3}), json!({"$from": "s", "path": "rows"}), json!({"$from": "s", "extra": 1})] {
            assert!(references(&bad).is_err(), "{bad}");
        }
        assert_eq!(references(&json!({"from": "s"})), Ok(vec![]));
    }

    #[test]
    fn an_unknown_key_of_a_step_is_refused() {
        assert!(serde_json::from_value::<PlanStep>(json!({"id": "a", "on_failure": "fallback:"})).is_err());
        let error = serde_json::from_value::<PlanStep>(json!({"id": "a", "tool": "x.y", "retires": 3})).unwrap_err();
        assert!(error.to_string().contains("retires"));
    }
}
