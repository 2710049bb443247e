//! The schema of a reply, in the form that model servers take for constrained output.
//!
//! It helps a model to reply well; what counts is the check of the reply.

use serde_json::json;

use crate::domain::Json;

use super::super::{ContextPack, OfferedTool};
use super::dialect::{Dialect, list, local};
use super::unfold::{DEPTH_MAX, Unfolding};

#[cfg(test)]
mod tests;

/// Schema nodes that one request may hold: as many as providers take, and a bound on what a hostile `$ref` unfolds to.
const NODES_MAX: usize = 4_000;

/// Values of enums that one request may hold: OpenAI takes 1,000.
const VALUES_MAX: usize = 900;

/// Choices between types that Anthropic takes in one schema.
const CHOICES_MAX: usize = 16;

/// Keys that may be left out, which Anthropic takes in one schema.
const OPTIONALS_MAX: usize = 24;

/// Makes the one schema of a reply: a plan over the offered tools, an answer, a question, or that it is not up to it.
pub fn reply_schema(pack: &ContextPack, dialect: Dialect) -> Json {
    let steps = match dialect {
        _ if pack.tools.is_empty() => None,
        Dialect::Strict | Dialect::Gemini => Some(steps_by_tool(pack, dialect)),
        Dialect::Anthropic => Some(steps_of_any_tool(args_by_tool(pack, dialect), pack, dialect)),
    };
    let schema = reply(steps, dialect);
    let is_too_much = count(&schema, &is_choice) > CHOICES_MAX || optionals(&schema) > OPTIONALS_MAX;
    if dialect == Dialect::Anthropic && is_too_much && !pack.tools.is_empty() {
        // The arguments as JSON text: the shape around them is held all the same, and the check reads them.
        return reply(Some(steps_of_any_tool(json!({"type": "string"}), pack, dialect)), dialect);
    }
    schema
}

fn reply(steps: Option<Json>, dialect: Dialect) -> Json {
    let text = json!({"type": "string"});
    let steps = match (steps, dialect) {
        (Some(steps), _) => Some(list(steps)),
        (None, Dialect::Strict) => Some(json!({"type": "null"})),
        (None, _) => None,
    };
    let is_absent = steps.as_ref().is_some_and(|steps| steps["type"] == "null");
    let steps = steps.map(|steps| ("steps", steps, !is_absent));
    let before = [("reasoning", text.clone(), true)].into_iter().chain(steps);
    let fields =
        before.chain([("answer", local("any"), true), ("question", text.clone(), true), ("abstain", text, true)]);
    let mut schema = dialect.record(fields);
    schema["$defs"] = dialect.definitions();
    schema
}

/// A step is one of as many kinds as there are tools, each with its own arguments.
fn steps_by_tool(pack: &ContextPack, dialect: Dialect) -> Json {
    let names = pack.tools.iter().map(|tool| json!({"const": tool.name.to_string()}));
    let names = names.map(|name| dialect.constant(&name).unwrap_or_default());
    let steps = names.zip(args_of(pack, dialect)).map(|(name, args)| step(name, args, dialect));
    json!({"anyOf": steps.collect::<Vec<_>>()})
}

/// A step of any tool, for a dialect that has no room for one kind of step for each.
fn steps_of_any_tool(args: Json, pack: &ContextPack, dialect: Dialect) -> Json {
    let names: Vec<String> = pack.tools.iter().map(|tool| tool.name.to_string()).collect();
    step(json!({"type": "string", "enum": names}), args, dialect)
}

fn args_by_tool(pack: &ContextPack, dialect: Dialect) -> Json {
    let mut args: Vec<Json> = args_of(pack, dialect);
    match args.pop() {
        Some(only) if args.is_empty() => only,
        last => json!({"anyOf": args.into_iter().chain(last).collect::<Vec<_>>()}),
    }
}

fn args_of(pack: &ContextPack, dialect: Dialect) -> Vec<Json> {
    let mut order: Vec<(usize, &OfferedTool)> = pack.tools.iter().enumerate().collect();
    order.sort_by_cached_key(|(_, tool)| tool.input_schema.to_string().len());
    let (mut nodes_left, mut values_left) = (NODES_MAX, VALUES_MAX);
    let mut args = vec![Json::Null; order.len()];
    let tools_left = (1..=order.len()).rev();
    // A share for each: what small schemas leave over is for the larger ones, and no tool takes the room of another.
    for ((n, tool), tools_left) in order.into_iter().zip(tools_left) {
        let (nodes, values) = (nodes_left / tools_left, values_left / tools_left);
        let mut unfolding = Unfolding { root: &tool.input_schema, dialect, nodes_left: nodes, values_left: values };
        args[n] = unfolding.object(&tool.input_schema, DEPTH_MAX);
        nodes_left -= nodes - unfolding.nodes_left;
        values_left -= values - unfolding.values_left;
    }
    args
}

fn step(tool: Json, args: Json, dialect: Dialect) -> Json {
    let text = || json!({"type": "string"});
    let number = |name: &str| json!({"type": name});
    let for_each = dialect.record([
        ("in", local("any"), false),
        ("items_max", number("integer"), false),
        ("parallel_max", number("integer"), true),
    ]);
    dialect.record([
        // First, as kinds of steps are told apart by it.
        ("tool", tool, false),
        ("id", text(), false),
        ("args", args, false),
        ("needs", list(text()), true),
        ("after", list(text()), true),
        ("when", text(), true),
        ("for_each", for_each, true),
        ("timeout_ms", number("integer"), true),
        ("on_failure", text(), true),
        ("approval", json!({"type": "boolean"}), true),
        ("confidence", number("number"), true),
        ("flags", list(text()), true),
    ])
}

fn is_choice(schema: &Json) -> bool {
    schema.get("anyOf").is_some() || schema["type"].is_array()
}

/// Counts the schemas within `schema` of which `is` holds.
fn count(schema: &Json, is: &dyn Fn(&Json) -> bool) -> usize {
    let within: usize = match schema {
        Json::Object(fields) => fields.values().map(|field| count(field, is)).sum(),
        Json::Array(items) => items.iter().map(|item| count(item, is)).sum(),
        _ => 0,
    };
    within + usize::from(is(schema))
}

fn optionals(schema: &Json) -> usize {
    let within: usize = match schema {
        Json::Object(fields) => fields.values().map(optionals).sum(),
        Json::Array(items) => items.iter().map(optionals).sum(),
        _ => 0,
    };
    let keys = schema["properties"].as_object().map_or(0, serde_json::Map::len);
    within + keys.saturating_sub(schema["required"].as_array().map_or(0, Vec::len))
}
