//! Is this proposal a plan that can run? Asked of the whole plan, before its first step, purely.
//!
//! Promises: a plan that passes has tools that are there and allowed, references that lead to something of the right type,
//! conditions whose names are steps, no step that waits for itself, and a cost within the budget as long as nothing has to
//! be tried again. Every flaw is told, with its place in the plan. Leaves to others: the values themselves, which the
//! tools' own schemas check once they are there.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::domain::{
    Budget, BudgetPatch, CallTemplate, Failure, ForEach, Json, Kind, Plan, PlanLimits, PlanStep, PlannedStep, Risk,
    StepId, ToolName, canonical,
};
use crate::orchestrator::drift::{CheckedTool, tools_of};
use crate::orchestrator::driver::Goal;
use crate::orchestrator::types::Brought;
use crate::planner::{ContextPack, Retrieval};
use crate::policy::About;
use crate::registry::{Catalog, VerifiedTool};

mod calls;
mod cost;
mod edges;
mod risk;
mod runs;
mod schema;
mod scope;
mod step;

pub use cost::of_step as cost_of;
pub use runs::budget_within;
use scope::Local;

/// Items of one `for_each`: more are data, and data is for a tool that reads files.
pub const ITEMS_MAX: u32 = 1_000;

/// Steps that stand in for each other in turn: a third choice is rare, a ninth is a mistake.
const FALLBACKS_MAX: usize = 8;

/// Conditions at the end of one plan: more cannot be read by a person.
const ASSERTIONS_MAX: usize = 50;

/// The component under whose name runs within runs are kept: no tool may bear it.
pub const RUN_TOOL: (&str, &str) = ("cofferdam", "run");

/// A plan that can run: every tool is there and allowed, every reference leads to something of the right type, and no
/// step waits for itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckedPlan {
    /// Each stands behind those that it waits for.
    pub steps: Vec<CheckedStep>,
    /// References name steps by their full ids.
    pub answer: Option<Json>,
    /// Conditions that must hold in the end; they name steps by their full ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assert: Vec<String>,
    /// What the tools were that its steps may call: a run that goes on later compares.
    #[serde(default)]
    pub tools: BTreeMap<ToolName, CheckedTool>,
}

/// A step of a checked plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckedStep {
    pub planned: PlannedStep,
    /// References name steps by their full ids.
    pub args: Json,
    /// A condition that names steps by their full ids. Where it looks at the item it is asked of each item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// References in its list name steps by their full ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<ForEach>,
    /// The plan's, else the tool's own; the tool is named in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<CallTemplate>,
    /// The tool's own; the tool is named in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconcile: Option<CallTemplate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<CheckedRun>,
    pub timeout_ms: Option<u64>,
    pub approval: bool,
    /// The rule because of which a person is asked, by the policy as it is when the plan is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_ttl_ms: Option<u64>,
    /// What makes it risky, where a planner proposed it that reads: nobody doubts what a person wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
}

impl CheckedStep {
    /// Returns what is to be done for `planned`, a call that is made of this step by one of its templates; without one
    /// there are no arguments, and the call is refused when it is prepared.
    pub fn called_by(&self, planned: PlannedStep, template: impl Fn(&Self) -> Option<&CallTemplate>) -> Self {
        Self {
            planned,
            asks: None,
            args: template(self).map_or(Json::Null, |template| template.args.clone()),
            when: None,
            for_each: None,
            undo: None,
            reconcile: None,
            run: None,
            timeout_ms: None,
            approval: false,
            cache_ttl_ms: None,
            risk: None,
        }
    }
}

/// A run within the run: exactly one of `workflow` and `goal` is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckedRun {
    /// The content of a workflow file, whose inputs are the step's arguments.
    pub workflow: Option<Json>,
    /// What a model is to plan for.
    pub goal: Option<String>,
    pub budget: BudgetPatch,
    /// Whether its words or inputs hold what tools brought, as far as a model within it may read them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_tainted: bool,
    /// Whether the strongest models plan it, as the goal around it matters more than usual.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_critical: bool,
}

/// What a plan may refer to beyond itself, what may be called, and what may be spent.
pub struct Known<'a> {
    pub catalog: &'a Catalog,
    /// Steps of earlier turns that succeeded.
    pub earlier: &'a BTreeMap<StepId, Earlier>,
    /// What policy makes of a tool, or why it may not be called.
    pub about: &'a dyn Fn(&VerifiedTool) -> Result<About, Failure>,
    pub limits: &'a PlanLimits,
    /// What is left of it.
    pub budget: &'a Budget,
    /// What is known of the request whose reply this plan is; `None` for one that a person wrote.
    pub proposed: Option<&'a Proposed>,
    /// What runs within the run take over of its goal.
    pub goal: GoalMarks,
    /// By which rules it is checked: [`CHECK_VERSION`](crate::domain::CHECK_VERSION), unless an old plan is checked again.
    pub checked_by: u16,
}

/// What runs within a run take over of its goal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoalMarks {
    /// Whether its words or inputs hold what tools brought.
    pub is_tainted: bool,
    /// Whether it matters more than usual.
    pub is_critical: bool,
}

impl GoalMarks {
    /// Returns what runs within a run for `goal` take over.
    pub fn of(goal: &Goal) -> Self {
        Self { is_tainted: goal.is_tainted, is_critical: goal.is_critical }
    }
}

/// What is known of a request whose reply is a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposed {
    /// Whether the planner had read what tools brought.
    pub is_tainted: bool,
    /// Whether the reply before was refused.
    pub is_repair: bool,
    pub retrieval: Option<Retrieval>,
}

impl Proposed {
    /// Returns what is known of a request with this pack.
    pub fn of(goal: &Goal, pack: &ContextPack) -> Self {
        Self {
            is_tainted: goal.is_tainted || !pack.observations.is_empty() || pack.cut.observations > 0,
            is_repair: pack.repair.is_some(),
            retrieval: pack.retrieval.clone(),
        }
    }
}

/// A step of an earlier turn that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    pub tool: ToolName,
    /// Whether it was done once for each item of a list.
    pub is_list: bool,
}

/// What is wrong with a plan, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Flaw {
    /// JSON pointer into the plan.
    pub at: String,
    pub failure: Failure,
}

/// Checks the plan that was proposed in `turn`.
///
/// # Errors
/// Every flaw, each naming its place in the plan by JSON pointer.
pub fn check(plan: &Plan, turn: u32, known: &Known<'_>) -> Result<CheckedPlan, Vec<Failure>> {
    flaws_of(plan, turn, known).map_err(|flaws| flaws.into_iter().map(|flaw| flaw.failure).collect())
}

/// Checks the plan, and tells each flaw with its place: for those who know where in a file that is.
///
/// # Errors
/// Every flaw.
pub fn flaws_of(plan: &Plan, turn: u32, known: &Known<'_>) -> Result<CheckedPlan, Vec<Flaw>> {
    let mut check = Check::new(turn, known);
    let checked = check.plan(plan);
    check.flaws.sort_by_key(|flaw| place_of(&flaw.at));
    if check.flaws.is_empty() { Ok(checked) } else { Err(check.flaws) }
}

/// Checks an answer that a planner gives, which may refer to steps of earlier turns.
///
/// # Errors
/// Each reference that leads nowhere.
pub fn check_answer(answer: &Json, turn: u32, known: &Known<'_>) -> Result<Json, Vec<Failure>> {
    let mut check = Check::new(turn, known);
    let answer = check.answer(answer);
    if check.flaws.is_empty() { Ok(answer) } else { Err(check.flaws.into_iter().map(|flaw| flaw.failure).collect()) }
}

/// Sorts flaws as they stand in the plan: `/steps/10` behind `/steps/9`.
fn place_of(at: &str) -> Vec<(usize, String)> {
    at.split('/').map(|part| (part.parse().unwrap_or(0), part.to_owned())).collect()
}

/// One check of one plan.
struct Check<'a> {
    known: &'a Known<'a>,
    turn: u32,
    /// Pointer to the plan: that of a workflow within a plan is not empty.
    root: String,
    /// What stands for `{"$input": name}`, within a run within a run.
    inputs: Option<BTreeMap<String, Vec<Brought>>>,
    /// This plan's steps, by the plan's own names.
    named: HashMap<String, Named>,
    flaws: Vec<Flaw>,
}

/// A step of the plan, as others see it.
#[derive(Clone)]
struct Named {
    /// Its number in the plan, from 0.
    n: usize,
    id: StepId,
    /// `None` for a run within the run, and where there is no such tool.
    tool: Option<VerifiedTool>,
    is_list: bool,
    is_run: bool,
    /// The step that stands in for it.
    fallback: Option<String>,
}

impl<'a> Check<'a> {
    fn new(turn: u32, known: &'a Known<'a>) -> Self {
        Self { known, turn, root: String::new(), inputs: None, named: HashMap::new(), flaws: Vec::new() }
    }

    fn flaw(&mut self, kind: Kind, at: &str, what: impl std::fmt::Display) {
        let at = format!("{}{at}", self.root);
        let failure = Failure::new(kind, format!("check the plan at {at}: {what}"));
        self.flaws.push(Flaw { at, failure });
    }

    /// Tells what somebody else found, at its place.
    fn failed(&mut self, at: &str, failure: Failure) {
        self.flaws.push(Flaw { at: format!("{}{at}", self.root), failure });
    }

    fn plan(&mut self, plan: &Plan) -> CheckedPlan {
        self.size(plan);
        self.names(plan);
        let steps: Vec<_> = plan.steps.iter().enumerate().filter_map(|(n, step)| self.step(n, step)).collect();
        self.fallbacks(plan);
        let steps = self.ordered(steps);
        self.cost(&steps);
        let answer = plan.answer.as_ref().map(|answer| self.answer(answer));
        let assert = self.assertions(&plan.assert, plan.answer.is_some());
        let tools = tools_of(&steps, self.known.catalog);
        CheckedPlan { steps, answer, assert, tools }
    }

    fn size(&mut self, plan: &Plan) {
        let limits = self.known.limits;
        if plan.steps.is_empty() {
            self.flaw(Kind::DataPlan, "/steps", "a plan has at least one step");
        }
        if plan.steps.len() > limits.steps_max {
            self.flaw(Kind::DataPlan, "/steps", format!("{} steps: at most {}", plan.steps.len(), limits.steps_max));
        }
        for (n, step) in plan.steps.iter().enumerate() {
            let list = step.for_each.as_ref().map(|for_each| ("for_each/in", &for_each.list));
            let undo = step.undo.as_ref().map(|undo| ("undo/args", &undo.args));
            for (part, value) in [Some(("args", &step.args)), list, undo].into_iter().flatten() {
                self.size_of(&format!("/steps/{n}/{part}"), value);
            }
        }
        if let Some(answer) = &plan.answer {
            self.size_of("/answer", answer);
        }
    }

    fn size_of(&mut self, at: &str, value: &Json) {
        let limits = self.known.limits;
        if canonical(value).len() > limits.args_bytes_max {
            self.flaw(Kind::DataInputSize, at, format!("more than {} bytes", limits.args_bytes_max));
        }
        if depth(value) > limits.depth_max {
            self.flaw(Kind::DataPlan, at, format!("nested deeper than {} levels", limits.depth_max));
        }
    }

    /// Gives each step its id, and finds its tool.
    fn names(&mut self, plan: &Plan) {
        for (n, step) in plan.steps.iter().enumerate() {
            let at = format!("/steps/{n}/id");
            // `[3]` is the host's way to name an item.
            if step.id.contains(['[', ']']) {
                self.flaw(Kind::DataPlan, &at, "letters, digits, `_` and `-` make the name of a step");
            }
            match StepId::new(self.turn, &step.id) {
                Err(flaw) => self.flaw(Kind::DataPlan, &at, flaw),
                Ok(id) => {
                    let named = self.named_step(n, step, id);
                    if self.named.insert(step.id.clone(), named).is_some() {
                        self.flaw(Kind::DataPlan, &at, format!("`{}` is the name of an earlier step too", step.id));
                    }
                }
            }
        }
    }

    fn named_step(&mut self, n: usize, step: &PlanStep, id: StepId) -> Named {
        let tool = match (&step.run, step.tool.is_empty()) {
            (None, _) => self.tool(&format!("/steps/{n}/tool"), &step.tool),
            (Some(_), true) => None,
            (Some(_), false) => {
                self.flaw(Kind::DataPlan, &format!("/steps/{n}/run"), "a step has a `tool` or a `run`, and not both");
                None
            }
        };
        let fallback = match &step.on_failure {
            crate::domain::OnFailure::Fallback(name) => Some(name.clone()),
            _ => None,
        };
        Named { n, id, tool, is_list: step.for_each.is_some(), is_run: step.run.is_some(), fallback }
    }

    /// Finds a tool that may be called.
    fn tool(&mut self, at: &str, name: &str) -> Option<VerifiedTool> {
        let parsed = name.parse::<ToolName>().ok();
        let found = parsed.as_ref().and_then(|name| self.known.catalog.tool(name));
        if let Some(why) = parsed.and_then(|name| self.known.catalog.why_withheld(&name)) {
            self.failed(at, why.clone());
        } else if found.is_none() {
            let similar = self.known.catalog.similar(name);
            let hint = similar.map_or_else(String::new, |similar| format!("; did you mean `{similar}`?"));
            let shown: String = name.chars().take(80).collect();
            self.flaw(Kind::DataPlan, at, format!("there is no tool `{shown}`{hint}"));
        }
        found.cloned()
    }

    fn answer(&mut self, answer: &Json) -> Json {
        self.untyped("/answer", answer, &Local::steps());
        self.renamed(answer)
    }

    fn assertions(&mut self, assertions: &[String], has_answer: bool) -> Vec<String> {
        if assertions.len() > ASSERTIONS_MAX {
            self.flaw(Kind::DataPlan, "/assert", format!("{} conditions: at most {ASSERTIONS_MAX}", assertions.len()));
        }
        let checked = assertions.iter().enumerate().filter_map(|(n, text)| {
            let at = format!("/assert/{n}");
            let condition = self.condition(&at, text, None)?;
            if condition.uses_answer() && !has_answer {
                self.flaw(Kind::DataCondition, &at, "the plan has no `answer`");
            }
            Some(self.renamed_condition(&condition))
        });
        checked.collect()
    }
}

fn depth(value: &Json) -> usize {
    match value {
        Json::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Json::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
