//! Is this proposal a plan that can run? Asked of the whole plan, before its first step, purely.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::domain::{
    Effect, Failure, Json, Kind, Plan, PlanLimits, PlanStep, PlannedStep, Reference, Returns, StepId, ToolName,
    canonical, references,
};
use crate::orchestrator::types::{at_path, fit_fields};
use crate::registry::{Catalog, VerifiedTool};

/// A plan that can run: every tool is there and allowed, every reference leads to something of the right type, and no
/// step waits for itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckedPlan {
    pub steps: Vec<CheckedStep>,
    /// References name steps by their full ids.
    pub answer: Option<Json>,
}

/// A step of a checked plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckedStep {
    pub planned: PlannedStep,
    /// References name steps by their full ids.
    pub args: Json,
    pub timeout_ms: Option<u64>,
    pub approval: bool,
}

/// What a plan may refer to beyond itself, and what may be called.
pub struct Known<'a> {
    pub catalog: &'a Catalog,
    /// Tools of steps of earlier turns that succeeded.
    pub earlier: &'a BTreeMap<StepId, ToolName>,
    /// The worst that a tool could do, or why it may not be called.
    pub effect: &'a dyn Fn(&VerifiedTool) -> Result<Effect, Failure>,
    pub limits: &'a PlanLimits,
}

/// Checks the plan that was proposed in `turn`.
///
/// # Errors
/// Every flaw, each naming its place in the plan by JSON pointer.
pub fn check(plan: &Plan, turn: u32, known: &Known<'_>) -> Result<CheckedPlan, Vec<Failure>> {
    let mut check = Check { known, turn, tools: HashMap::new(), flaws: Vec::new() };
    check.size(plan);
    check.names(plan);
    let steps: Vec<_> = plan.steps.iter().enumerate().filter_map(|(n, step)| check.step(n, step)).collect();
    let steps = check.ordered(steps);
    let answer = plan.answer.as_ref().and_then(|answer| check.answer(answer));
    if check.flaws.is_empty() { Ok(CheckedPlan { steps, answer }) } else { Err(check.flaws) }
}

/// Checks an answer that a planner gives, which may refer to steps of earlier turns.
///
/// # Errors
/// Each reference that leads nowhere.
pub fn check_answer(answer: &Json, turn: u32, known: &Known<'_>) -> Result<Json, Vec<Failure>> {
    let mut check = Check { known, turn, tools: HashMap::new(), flaws: Vec::new() };
    match check.answer(answer) {
        Some(answer) if check.flaws.is_empty() => Ok(answer),
        _ => Err(check.flaws),
    }
}

struct Check<'a> {
    known: &'a Known<'a>,
    turn: u32,
    /// Tools of this plan's steps, by the plan's own names.
    tools: HashMap<String, (StepId, Option<VerifiedTool>)>,
    flaws: Vec<Failure>,
}

impl Check<'_> {
    fn flaw(&mut self, kind: Kind, at: &str, what: impl std::fmt::Display) {
        self.flaws.push(Failure::new(kind, format!("check the plan at {at}: {what}")));
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
            if canonical(&step.args).len() > limits.args_bytes_max {
                self.flaw(
                    Kind::DataInputSize,
                    &format!("/steps/{n}/args"),
                    format!("more than {} bytes", limits.args_bytes_max),
                );
            }
            if depth(&step.args) > limits.depth_max {
                self.flaw(
                    Kind::DataPlan,
                    &format!("/steps/{n}/args"),
                    format!("nested deeper than {} levels", limits.depth_max),
                );
            }
        }
    }

    /// Gives each step its id, and finds its tool.
    fn names(&mut self, plan: &Plan) {
        for (n, step) in plan.steps.iter().enumerate() {
            let id = match StepId::new(self.turn, &step.id) {
                Ok(id) => id,
                Err(flaw) => {
                    self.flaw(Kind::DataPlan, &format!("/steps/{n}/id"), flaw);
                    continue;
                }
            };
            let tool = self.tool(n, &step.tool);
            if self.tools.insert(step.id.clone(), (id, tool)).is_some() {
                self.flaw(
                    Kind::DataPlan,
                    &format!("/steps/{n}/id"),
                    format!("`{}` is the name of an earlier step too", step.id),
                );
            }
        }
    }

    fn tool(&mut self, n: usize, name: &str) -> Option<VerifiedTool> {
        let parsed = name.parse::<ToolName>().ok();
        let found = parsed.as_ref().and_then(|name| self.known.catalog.tool(name));
        if let Some(why) = parsed.and_then(|name| self.known.catalog.why_withheld(&name)) {
            self.flaws.push(why.clone());
        } else if found.is_none() {
            let hint = self
                .known
                .catalog
                .similar(name)
                .map_or_else(String::new, |similar| format!("; did you mean `{similar}`?"));
            let shown: String = name.chars().take(80).collect();
            self.flaw(Kind::DataPlan, &format!("/steps/{n}/tool"), format!("there is no tool `{shown}`{hint}"));
        }
        found.cloned()
    }

    fn step(&mut self, n: usize, step: &PlanStep) -> Option<CheckedStep> {
        let (id, tool) = self.tools.get(&step.id).cloned()?;
        let tool = tool?;
        let effect = (self.known.effect)(&tool).map_err(|failure| self.flaws.push(failure)).ok();
        let needs = self.needs(n, step);
        self.arguments(n, step, &tool);
        let args = self.renamed(&step.args);
        let planned = PlannedStep {
            on_failure: step.on_failure.clone(),
            ..PlannedStep::call(id, tool.name().clone(), needs?, effect?)
        };
        Some(CheckedStep { planned, args, timeout_ms: step.timeout_ms, approval: step.approval })
    }

    /// The steps of this plan that must succeed first: those named, and those whose output is used.
    fn needs(&mut self, n: usize, step: &PlanStep) -> Option<Vec<StepId>> {
        let referred = match references(&step.args) {
            Ok(referred) => referred,
            Err(flaw) => {
                self.flaw(Kind::DataReference, &format!("/steps/{n}/args"), flaw);
                return None;
            }
        };
        let mut needs = Vec::new();
        for name in step.needs.iter().map(String::as_str).chain(referred.iter().map(|r| r.step)) {
            match self.tools.get(name) {
                Some((id, _)) => needs.push(id.clone()),
                None if self.earlier(name).is_some() => {}
                None => self.flaw(Kind::DataReference, &format!("/steps/{n}"), format!("there is no step `{name}`")),
            }
        }
        needs.sort();
        needs.dedup();
        Some(needs)
    }

    fn earlier(&self, name: &str) -> Option<&ToolName> {
        name.parse::<StepId>().ok().and_then(|id| self.known.earlier.get(&id))
    }

    fn arguments(&mut self, n: usize, step: &PlanStep, tool: &VerifiedTool) {
        let contract = tool.tool();
        let fields: Vec<_> = contract.params.iter().map(|param| (param.name.as_str(), &param.ty)).collect();
        let mut flaws = Vec::new();
        fit_fields(
            &fields,
            &step.args,
            &format!("/steps/{n}/args"),
            Some(&|reference| self.type_of(reference)),
            &mut flaws,
        );
        for flaw in flaws {
            self.flaws.push(Failure::new(Kind::DataInput, format!("check the plan: `{}` at {flaw}", contract.name)));
        }
    }

    fn type_of(&self, reference: &Reference<'_>) -> Result<crate::domain::WitType, String> {
        let returns = self.returns(reference.step)?;
        at_path(returns, reference.path)
            .map_err(|flaw| format!("reference to `{}{}`: {flaw}", reference.step, reference.path))
    }

    fn returns(&self, step: &str) -> Result<&Returns, String> {
        let missing = || format!("there is no step `{step}`");
        if let Some((_, tool)) = self.tools.get(step) {
            return tool.as_ref().map(|tool| &tool.tool().returns).ok_or_else(missing);
        }
        let tool = self.earlier(step).and_then(|name| self.known.catalog.tool(name)).ok_or_else(missing)?;
        Ok(&tool.tool().returns)
    }

    /// The same value, its references naming steps by their full ids.
    fn renamed(&self, value: &Json) -> Json {
        if crate::domain::literal(value).is_some() {
            return value.clone();
        }
        if let Ok(Some(reference)) = crate::domain::reference(value) {
            let id = self.tools.get(reference.step).map_or(reference.step, |(id, _)| id.as_str());
            return serde_json::json!({"$from": id, "path": reference.path});
        }
        match value {
            Json::Array(items) => items.iter().map(|item| self.renamed(item)).collect(),
            Json::Object(fields) => {
                Json::Object(fields.iter().map(|(key, value)| (key.clone(), self.renamed(value))).collect())
            }
            scalar => scalar.clone(),
        }
    }

    fn answer(&mut self, answer: &Json) -> Option<Json> {
        let referred = match references(answer) {
            Ok(referred) => referred,
            Err(flaw) => {
                self.flaw(Kind::DataReference, "/answer", flaw);
                return None;
            }
        };
        for reference in &referred {
            if let Err(flaw) = self.type_of(reference) {
                self.flaw(Kind::DataReference, "/answer", flaw);
            }
        }
        Some(self.renamed(answer))
    }

    /// Puts each step behind those that it needs, and refuses a circle. Steps that change something run in this order, so
    /// none may stand before one that it needs.
    fn ordered(&mut self, mut waiting: Vec<CheckedStep>) -> Vec<CheckedStep> {
        let mut ordered: Vec<CheckedStep> = Vec::new();
        let ids: Vec<StepId> = waiting.iter().map(|step| step.planned.id.clone()).collect();
        loop {
            // A step that was left out for another flaw holds up nobody: that flaw is told.
            let is_placed =
                |need: &StepId| !ids.contains(need) || ordered.iter().any(|placed| placed.planned.id == *need);
            let Some(next) = waiting.iter().position(|step| step.planned.needs.iter().all(is_placed)) else { break };
            ordered.push(waiting.remove(next));
        }
        if !waiting.is_empty() {
            let circle: Vec<_> = waiting.iter().map(|step| step.planned.id.local()).collect();
            self.flaw(Kind::DataPlan, "/steps", format!("these steps wait for each other: {}", circle.join(", ")));
        }
        ordered
    }
}

fn depth(value: &Json) -> usize {
    match value {
        Json::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Json::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
