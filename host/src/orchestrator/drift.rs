//! Are the tools that a run may still call what they were when its plan was checked?
//!
//! Pure. Promises: a tool that is gone, withheld, of other bytes or of another schema is named, and what the run will not
//! call again is not. Leaves to others what comes of it: `driver` refuses or goes on, as a person says.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::domain::{CallTemplate, Digest, ToolName};
use crate::orchestrator::check::{CheckedPlan, CheckedStep, RUN_TOOL};
use crate::orchestrator::machine::{Run, Stage};
use crate::registry::{Catalog, VerifiedTool};

/// What a tool was when a plan that calls it was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckedTool {
    /// Digest of the component's bytes.
    pub component: Digest,
    pub input_schema: Digest,
    pub output_schema: Digest,
}

/// A tool that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToolChange {
    pub tool: ToolName,
    pub change: ChangeKind,
}

/// How a tool differs from what it was; the first that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is there and may not be called: its component is not what the lock pins. No consent to a run heals that.
    Withheld,
    /// It is not there.
    Gone,
    InputSchema,
    OutputSchema,
    /// Another build with the same schemas.
    Component,
}

impl ChangeKind {
    /// Returns what a person reads.
    pub fn words(self) -> &'static str {
        match self {
            Self::Withheld => "it is withheld; `tools` tells why",
            Self::Gone => "it is not there",
            Self::InputSchema => "its arguments have another schema",
            Self::OutputSchema => "its output has another schema",
            Self::Component => "another build, with the same schemas",
        }
    }
}

impl CheckedTool {
    fn of(tool: &VerifiedTool) -> Self {
        Self {
            component: *tool.digest(),
            input_schema: Digest::of_json(&tool.tool().input_schema),
            output_schema: Digest::of_json(&tool.tool().output_schema),
        }
    }

    fn change(&self, now: Option<&VerifiedTool>) -> Option<ChangeKind> {
        let Some(now) = now.map(Self::of) else { return Some(ChangeKind::Gone) };
        match () {
            () if now.input_schema != self.input_schema => Some(ChangeKind::InputSchema),
            () if now.output_schema != self.output_schema => Some(ChangeKind::OutputSchema),
            () if now.component != self.component => Some(ChangeKind::Component),
            () => None,
        }
    }
}

/// Returns what the tools are now that the steps call, undo and reconcile included.
pub(super) fn tools_of(steps: &[CheckedStep], catalog: &Catalog) -> BTreeMap<ToolName, CheckedTool> {
    let names = steps.iter().flat_map(|step| std::iter::once(step.planned.tool.clone()).chain(helpers(step)));
    names.filter_map(|name| Some((name.clone(), CheckedTool::of(catalog.tool(&name)?)))).collect()
}

/// Returns what is not as it was among the tools that may still be called for the steps of `run`, sorted by name. Where
/// `toolset`, with which it last went on, is what is there, only what is withheld counts.
pub(super) fn changes(run: &Run, plans: &[CheckedPlan], toolset: Digest, catalog: &Catalog) -> Vec<ToolChange> {
    let mut changes = Vec::new();
    for plan in plans {
        let wanted: BTreeSet<_> = plan.steps.iter().flat_map(|step| still_called(run, step)).collect();
        for (tool, was) in plan.tools.iter().filter(|(tool, _)| wanted.contains(tool)) {
            let change = match catalog.why_withheld(tool) {
                Some(_) => Some(ChangeKind::Withheld),
                None if toolset == catalog.digest() => None,
                None => was.change(catalog.tool(tool)),
            };
            changes.extend(change.map(|change| ToolChange { tool: tool.clone(), change }));
        }
    }
    changes.sort_by(|a, b| a.tool.cmp(&b.tool));
    changes.dedup_by(|a, b| a.tool == b.tool);
    changes
}

/// The tools that may be called for a step or its items: its own, until it has ended; what tells what became of it, until
/// that is known; what takes it back, as long as there may be something to take back.
fn still_called(run: &Run, step: &CheckedStep) -> Vec<ToolName> {
    let id = &step.planned.id;
    let stages: Vec<_> = run.step(id).into_iter().chain(run.items(id)).map(|state| state.status.stage()).collect();
    let may = |is_it: fn(Stage) -> bool| stages.is_empty() || stages.iter().copied().any(is_it);
    let mut tools = Vec::new();
    if may(may_do) && (step.planned.tool.component(), step.planned.tool.function()) != RUN_TOOL {
        tools.push(step.planned.tool.clone());
    }
    if may(may_do) {
        tools.extend(named(step.reconcile.as_ref()));
    }
    if may(may_undo) {
        tools.extend(named(step.undo.as_ref()));
    }
    tools
}

/// What is being taken back is not done any more; neither is what has ended.
fn may_do(stage: Stage) -> bool {
    !stage.is_terminal() && stage != Stage::Undoing
}

fn may_undo(stage: Stage) -> bool {
    !stage.is_terminal() || matches!(stage, Stage::Succeeded | Stage::UndoFailed)
}

fn helpers(step: &CheckedStep) -> impl Iterator<Item = ToolName> {
    named(step.undo.as_ref()).into_iter().chain(named(step.reconcile.as_ref()))
}

/// A checked template names its tool in full.
fn named(template: Option<&CallTemplate>) -> Option<ToolName> {
    template.and_then(|template| template.tool.parse().ok())
}
