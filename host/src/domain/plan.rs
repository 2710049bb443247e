//! A plan: a graph of proposed calls, as data. Untrusted until `orchestrator::check` has seen it.

use serde::{Deserialize, Serialize};

use crate::domain::Json;

/// A graph of proposed calls and the shape of the answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub steps: Vec<PlanStep>,
    /// What the run answers with: a value that may hold references to steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Json>,
}

/// One proposed call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanStep {
    /// The plan's own name for the step; the host's id is `t<turn>.<id>`.
    pub id: String,
    /// `component.function`. Kept as text: a planner may write anything.
    pub tool: String,
    /// Arguments: an object whose values may be `{"$from": "step", "path": "/json/pointer"}`, at any depth; a value
    /// under `{"$literal": …}` is taken as it is.
    #[serde(default = "empty_object")]
    pub args: Json,
    /// Steps that must succeed first, beyond those that `args` refer to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Shortens the step's deadline, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Asks for a person's approval, beyond what policy asks.
    #[serde(default)]
    pub approval: bool,
}

fn empty_object() -> Json {
    Json::Object(serde_json::Map::new())
}

/// What a step's failure means for the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The run fails; steps under way end first.
    #[default]
    Fail,
    /// Steps that need this one are skipped; the rest goes on, and the run lists it as a caveat.
    Skip,
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

/// A reference to the output of a step: `{"$from": step, "path": pointer}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    pub step: &'a str,
    /// RFC 6901; empty for the whole output.
    pub path: &'a str,
}

/// Returns `value` as a reference, `None` where it is none, or what is wrong with it.
///
/// # Errors
/// An object with `$from` that is not exactly `{"$from": text, "path"?: pointer}`.
pub fn reference(value: &Json) -> Result<Option<Reference<'_>>, String> {
    let Some(fields) = value.as_object() else { return Ok(None) };
    let Some(from) = fields.get("$from") else { return Ok(None) };
    let step = from.as_str().ok_or("`$from` is not the name of a step")?;
    let path = match fields.get("path") {
        None => "",
        Some(path) => path.as_str().ok_or("`path` beside `$from` is not text")?,
    };
    if let Some(extra) = fields.keys().find(|key| !matches!(key.as_str(), "$from" | "path")) {
        return Err(format!(
            "`{extra}` beside `$from` is unknown: a reference is `{{\"$from\": step, \"path\": pointer}}`"
        ));
    }
    if !path.is_empty() && !path.starts_with('/') {
        return Err(format!("path `{path}` is not a JSON pointer: it starts with `/`"));
    }
    Ok(Some(Reference { step, path }))
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
        assert_eq!(references(&args), Ok(vec![Reference { step: "s1", path: "/rows/0" }]));
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
        let error = serde_json::from_value::<PlanStep>(json!({"id": "a", "tool": "x.y", "retires": 3})).unwrap_err();
        assert!(error.to_string().contains("retires"));
    }
}
