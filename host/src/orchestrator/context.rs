//! What a planner gets to see for one request: built from declared inputs only.
//!
//! Promises: the goal, what the person gave with it, finished steps of this run and nothing else; what is large is told by
//! its shape and reached by reference; no path of this machine, and nothing that is for the operator, is in it; equal runs
//! make equal packs. Leaves to others: how a pack is written down (`planner::prompt`), which tools fit a goal
//! (`planner::retrieve`), what is left out for want of room (`planner::fitted`).

use std::collections::BTreeSet;

use crate::domain::{Budget, Failure, Json, Kind, Retry, Role, ToolName, bytes_within, canonical};
use crate::orchestrator::machine::{Run, Step, StepStatus};
use crate::planner::retrieve::top_k;
use crate::planner::{ContextPack, Left, Observation, Observed, OfferedTool, PackOptions, fitted, preview};
use crate::policy::{Policy, effect};
use crate::registry::Catalog;

mod hidden;

pub(super) use hidden::Hidden;

/// Bytes of a step's arguments, as they were proposed, that the planner sees again.
const ARGS_BYTES_MAX: u64 = 1_000;

/// Bytes of a schema that stands with an observation; a larger one stands with its tool.
const SCHEMA_BYTES_MAX: u64 = 1_500;

/// Returns the tools that policy would let the planner use, sorted by name; not those that are there to take back or look up
/// what others do.
pub fn offered(catalog: &Catalog, policy: &Policy) -> Vec<OfferedTool> {
    let offer = |tool: &crate::registry::VerifiedTool| {
        let contract = tool.tool();
        Some(OfferedTool {
            name: contract.name.clone(),
            summary: contract.summary.clone(),
            effect: effect(policy, tool).ok()?,
            input_schema: contract.input_schema.clone(),
            output_schema: contract.output_schema.clone(),
        })
    };
    catalog.tools().filter(|tool| !tool.tool().is_internal).filter_map(offer).collect()
}

/// Returns the tools that the run has used, or was to: they stay offered, so that what was said of them holds.
pub(super) fn used(run: &Run) -> BTreeSet<ToolName> {
    run.in_order().filter(|step| step.planned.role == Role::Do).map(|step| step.planned.tool.clone()).collect()
}

/// Completes a pack with the tools that fit its goal, and cuts it to the room that there is.
pub(super) fn complete(
    pack: ContextPack,
    tools: Vec<OfferedTool>,
    used: &BTreeSet<ToolName>,
    options: &PackOptions,
) -> ContextPack {
    let found = top_k(&wanted(&pack), tools, used, options.tools_max);
    let pack = ContextPack { tools: found.tools, retrieval: Some(found.retrieval), ..pack };
    fitted(pack, &found.order, used, options.pack_tokens_max)
}

/// The words that tools are looked for with: what steps brought is not among them, so that no tool's output brings a tool
/// in, and the tools stay the same from turn to turn.
fn wanted(pack: &ContextPack) -> String {
    let names = pack.inputs.keys();
    let words = std::iter::once(&pack.goal).chain(names).chain(&pack.answers);
    words.map(String::as_str).collect::<Vec<_>>().join("\n")
}

/// Returns what a run has left of `budget`: the turns exactly, all else rounded.
pub(super) fn left(budget: &Budget, wall_ms: u64) -> Left {
    Left {
        turns: budget.planner_turns_max,
        calls: u32::try_from(rounded(budget.calls_max.into())).unwrap_or(u32::MAX),
        seconds: rounded(wall_ms / 1_000),
        usd_micros: budget.usd_micros_max.map(rounded),
        tokens: budget.tokens_max.map(rounded),
    }
}

/// Keeps the first digit of a number and all that is below ten.
fn rounded(n: u64) -> u64 {
    let unit = 10_u64.pow(n.checked_ilog10().unwrap_or(0));
    n / unit * unit
}

/// A step that has ended, with what there is to tell of it.
pub(super) struct Ended<'a> {
    pub step: &'a Step,
    /// As they were proposed.
    pub args: &'a Json,
    pub output: Option<&'a Json>,
    pub failure: Option<&'a Failure>,
}

/// How a planner is shown what has ended.
pub(super) struct View<'a> {
    pub catalog: &'a Catalog,
    pub hidden: &'a Hidden,
    pub whole_bytes_max: usize,
}

impl View<'_> {
    /// Returns what a finished step brought, as a planner may see it; `None` while it is not finished.
    pub(super) fn observation(&self, ended: &Ended<'_>) -> Option<Observation> {
        let planned = &ended.step.planned;
        let outcome = match (&ended.step.status, ended.output, ended.failure) {
            (StepStatus::Succeeded { .. }, Some(output), _) => self.succeeded(ended.step, output),
            (StepStatus::Failed { .. } | StepStatus::Rejected { .. }, _, Some(failure)) => {
                self.failed(&planned.tool, failure)
            }
            (StepStatus::Skipped { .. }, ..) => Observed::Skipped,
            _ => return None,
        };
        let is_short = bytes_within(ended.args, ARGS_BYTES_MAX).is_some();
        let args = is_short.then(|| ended.args.clone());
        Some(Observation { step: planned.id.clone(), tool: planned.tool.clone(), args, outcome })
    }

    fn succeeded(&self, step: &Step, output: &Json) -> Observed {
        let (preview, is_whole) = preview(output, self.whole_bytes_max);
        let bytes = if is_whole { preview.len() } else { canonical(output).len() };
        let tool = self.catalog.tool(&step.planned.tool).filter(|_| !is_whole);
        let schema = tool.map(|tool| tool.tool().output_schema.clone());
        let of_items = |schema| serde_json::json!({ "type": "array", "items": schema });
        let schema = if step.expanded.is_some() { schema.map(of_items) } else { schema };
        Observed::Succeeded { bytes, preview, is_whole, schema: schema.and_then(short) }
    }

    /// Without `detail`, which is for the operator.
    fn failed(&self, tool: &ToolName, failure: &Failure) -> Observed {
        let schema = self.catalog.tool(tool).filter(|_| failure.kind == Kind::DataInput);
        Observed::Failed {
            class: failure.kind.code().to_owned(),
            code: failure.declared.clone().unwrap_or_else(|| failure.kind.code().to_owned()),
            retryable: failure.retry() != Retry::Never,
            message: self.hidden.out_of(&failure.message),
            hint: failure.hint.as_deref().map(|hint| self.hidden.out_of(hint)),
            schema: schema.and_then(|tool| excerpt(&tool.tool().input_schema, &failure.message)),
        }
    }
}

/// The arguments of a schema that a message points at, `at /limit: …` in a line of its own; all of them where it points at
/// none.
fn excerpt(schema: &Json, message: &str) -> Option<Json> {
    let pointers = message.lines().filter_map(|line| line.strip_prefix("at /"));
    let named: BTreeSet<&str> = pointers.filter_map(|rest| rest.split([':', '/']).next()).collect();
    let properties = schema["properties"].as_object()?;
    let shown = properties.iter().filter(|(name, _)| named.contains(name.as_str()));
    let shown: serde_json::Map<String, Json> = shown.map(|(name, schema)| (name.clone(), schema.clone())).collect();
    let shown = if shown.is_empty() { properties.clone() } else { shown };
    short(serde_json::json!({ "required": schema["required"], "properties": shown }))
}

fn short(schema: Json) -> Option<Json> {
    bytes_within(&schema, SCHEMA_BYTES_MAX).map(|_| schema)
}

/// Returns the steps whose observations belong into the next request: all that are finished.
pub(super) fn finished(run: &Run) -> impl Iterator<Item = &Step> {
    run.in_order().filter(|step| step.status.is_terminal() && step.planned.role == Role::Do)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::Effect;

    #[test]
    fn what_is_left_is_rounded_so_that_it_changes_seldom() {
        assert_eq!([0, 7, 10, 19, 187, 600_000].map(rounded), [0, 7, 10, 10, 100, 600_000]);
        let budget = Budget { planner_turns_max: 13, calls_max: 187, tokens_max: None, ..Budget::default() };
        let budget = Budget { usd_micros_max: Some(45_678), ..budget };
        let expected = Left { turns: 13, calls: 100, seconds: 80, usd_micros: Some(40_000), tokens: None };
        assert_eq!(left(&budget, 88_999), expected);
        let bounded = Budget { tokens_max: Some(98_765), ..budget };
        assert_eq!(left(&bounded, 88_999), Left { tokens: Some(90_000), ..expected });
    }

    #[test]
    fn an_excerpt_holds_the_arguments_that_the_errors_point_at() {
        let schema = json!({"type": "object", "required": ["a"],
            "properties": {"a": {"type": "string"}, "b": {"type": "integer"}, "c": {"type": "array"}}});
        let message =
            "call `x.y`: its arguments do not fit its schema\nat /b: null is not of type \"integer\"\nat /c/0: …";
        let expected = json!({"required": ["a"], "properties": {"b": {"type": "integer"}, "c": {"type": "array"}}});
        assert_eq!(excerpt(&schema, message), Some(expected));
        assert_eq!(excerpt(&schema, "at /: \"a\" is missing").unwrap()["properties"], schema["properties"]);
        let long = json!({"properties": {"a": {"description": "d".repeat(2_000)}}});
        assert_eq!(excerpt(&long, "at /a: …"), None);
    }

    fn tool(name: &str) -> OfferedTool {
        OfferedTool {
            name: name.parse().unwrap(),
            summary: format!("Does {name}."),
            effect: Effect::Pure,
            input_schema: json!({"type": "object"}),
            output_schema: json!({}),
        }
    }

    #[test]
    fn a_tool_that_does_not_fit_changes_nothing_of_the_request() {
        let options = PackOptions { tools_max: 3, ..PackOptions::default() };
        let asked = ContextPack { goal: "sum the orders in the table".into(), turn: 1, ..ContextPack::default() };
        let of = |more: &[&str]| {
            let names = ["table.sum", "orders.list", "table.orders", "zoo.feed", "yard.sweep"];
            let tools = names.iter().chain(more).map(|name| tool(name)).collect();
            let pack = complete(asked.clone(), tools, &BTreeSet::new(), &options);
            (crate::planner::prompt::system(&pack), crate::planner::prompt::user(&pack))
        };
        let (system, user) = of(&[]);
        assert_eq!(of(&["aaa.polish", "moon.land"]), (system.clone(), user));
        assert!(system.contains("table.sum") && !system.contains("zoo.feed"), "{system}");
    }

    #[test]
    fn what_steps_brought_brings_no_tool_in() {
        let observation = Observation {
            step: "t1.a".parse().unwrap(),
            tool: "table.sum".parse().unwrap(),
            args: None,
            outcome: Observed::Succeeded { bytes: 9, preview: "\"feed the zoo\"".into(), is_whole: true, schema: None },
        };
        let pack = ContextPack { goal: "sum".into(), observations: vec![observation], ..ContextPack::default() };
        assert_eq!(wanted(&pack), "sum");
    }
}
