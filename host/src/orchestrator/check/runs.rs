//! Runs within the run: the workflow of one is checked as a plan of its own, with inputs of the types that it is given.

use std::collections::BTreeMap;

use crate::domain::{
    Budget, BudgetPatch, Cost, Effect, Json, Kind, PlanStep, PlannedStep, SubRun, WitType, literal, printable,
    references,
};
use crate::orchestrator::check::scope::Local;
use crate::orchestrator::check::{Check, CheckedStep, Known, cost};
use crate::orchestrator::types::{Brought, below};
use crate::planner::workflow::{WorkflowPlanner, type_of};

/// What is known of a run within the run: the worst that it can do, the most that it costs, and what it may change.
pub(super) struct Within {
    pub(super) effect: Effect,
    pub(super) cost: Cost,
    pub(super) touches: Vec<String>,
    /// Whether a model plans it, or a run within it.
    pub(super) asks_model: bool,
}

/// The turn of a workflow's one plan.
const TURN: u32 = 1;

impl Check<'_> {
    /// Checks what a step runs within the run.
    pub(super) fn run_within(&mut self, at: &str, step: &PlanStep, run: &SubRun, local: &Local<'_>) -> Option<Within> {
        let args_at = format!("{at}/args");
        let at = format!("{at}/run");
        self.untyped(&args_at, &step.args, local);
        if self.known.budget.depth_max == 0 {
            self.flaw(Kind::DataPlan, &at, "it lies deeper than `depth_max` of the budget allows");
            return None;
        }
        match (&run.workflow, &run.goal) {
            (Some(workflow), None) => self.workflow((&at, &args_at), workflow, &step.args, run, local),
            // A model may propose whatever policy allows, within the bounds that are set for it.
            (None, Some(_)) => {
                let cost = bounds(&run.budget);
                Some(Within { effect: Effect::Once, cost, touches: Vec::new(), asks_model: true })
            }
            _ => {
                self.flaw(Kind::DataPlan, &at, "a run has a `workflow` or a `goal`: exactly one of them");
                None
            }
        }
    }

    fn workflow(
        &mut self,
        (at, args_at): (&str, &str),
        workflow: &Json,
        args: &Json,
        run: &SubRun,
        local: &Local<'_>,
    ) -> Option<Within> {
        let at = format!("{at}/workflow");
        let workflow = match WorkflowPlanner::of_json(workflow) {
            Ok(workflow) => workflow,
            Err(what) => {
                self.flaw(Kind::DataPlan, &at, what);
                return None;
            }
        };
        let inputs = self.inputs(args_at, args, workflow.inputs(), local);
        let (earlier, budget) = (BTreeMap::new(), budget_within(self.known.budget, &run.budget));
        let Known { catalog, about, limits, .. } = *self.known;
        let known = Known {
            catalog,
            earlier: &earlier,
            about,
            limits,
            budget: &budget,
            proposed: None,
            goal: self.known.goal,
            checked_by: self.known.checked_by,
        };
        let mut check = Check::new(TURN, &known);
        check.root = format!("{}{at}", self.root);
        check.inputs = Some(inputs);
        let checked = check.plan(&workflow.open_plan());
        self.flaws.append(&mut check.flaws);
        let (effect, touches) = within(&checked.steps);
        // Its plan is asked for once.
        let parallel = run.budget.parallel_max.unwrap_or_default();
        let cost = Cost { parallel, ..cost::worst(&checked.steps).plus(Cost { turns: 1, ..Cost::default() }) };
        let cost = if self.known.checked_by > 1 { unbounded(cost, &checked.steps) } else { cost };
        let asks_model = checked.steps.iter().any(|step| step.planned.asks_model);
        Some(Within { effect, cost, touches, asks_model })
    }

    /// What stands for each input: the step's argument, else the default in the file.
    fn inputs(
        &mut self,
        at: &str,
        args: &Json,
        defaults: &BTreeMap<String, Json>,
        local: &Local<'_>,
    ) -> BTreeMap<String, Vec<Brought>> {
        let Some(args) = args.as_object() else {
            self.flaw(Kind::DataInput, at, "inputs are an object");
            return BTreeMap::new();
        };
        for name in args.keys().filter(|name| !defaults.contains_key(*name)) {
            let known: Vec<_> = defaults.keys().map(String::as_str).collect();
            let what = format!("the workflow has no input `{}`; it has {}", printable(name), known.join(", "));
            self.flaw(Kind::DataInput, &below(at, name), what);
        }
        let mut inputs = BTreeMap::new();
        for (name, default) in defaults {
            let brought = match args.get(name) {
                None => vec![Brought::Value(default.clone())],
                Some(value) => self.input_of(value, local),
            };
            if let Some(other) = brought.iter().find_map(|brought| unlike(brought, default)) {
                let what = format!("input `{name}` is {} in the workflow, and not {other}", type_of(default));
                self.flaw(Kind::DataInput, &below(at, name), what);
            }
            inputs.insert(name.clone(), brought);
        }
        inputs
    }

    fn input_of(&self, value: &Json, local: &Local<'_>) -> Vec<Brought> {
        // What leads nowhere is told already.
        if let Ok(Some(brought)) = self.opened(value, local) {
            return brought;
        }
        match literal(value) {
            Some(value) => vec![Brought::Value(value.clone())],
            None if references(value).is_ok_and(|found| found.is_empty()) => vec![Brought::Value(value.clone())],
            None => vec![Brought::Any],
        }
    }
}

/// What a value is in words, where it is of another kind than the default. A default of null takes all.
fn unlike(brought: &Brought, default: &Json) -> Option<&'static str> {
    let kind = match brought {
        Brought::Any => return None,
        Brought::Value(value) => type_of(value),
        Brought::Type(ty) => kind_of(ty)?,
    };
    (!default.is_null() && kind != type_of(default)).then_some(kind)
}

/// What values of a type are in JSON, where they are all of one kind.
fn kind_of(ty: &WitType) -> Option<&'static str> {
    Some(match ty {
        WitType::Bool => "a boolean",
        WitType::Char | WitType::String | WitType::Enum { .. } => "text",
        WitType::List(item) if **item == WitType::U8 => "text",
        WitType::List(_) | WitType::Tuple(_) | WitType::Flags { .. } => "a list",
        WitType::Record { .. } | WitType::Result { .. } => "an object",
        WitType::Option(_) | WitType::Variant { .. } => return None,
        _ => "a number",
    })
}

/// The worst that steps can do, and all that they may change; nothing named is anything.
fn within(steps: &[CheckedStep]) -> (Effect, Vec<String>) {
    let effect = steps.iter().map(|step| step.planned.effect).max().unwrap_or(Effect::Pure);
    let writes: Vec<&PlannedStep> =
        steps.iter().map(|step| &step.planned).filter(|planned| planned.effect.is_write()).collect();
    if writes.iter().any(|planned| planned.touches.is_empty()) {
        return (effect, Vec::new());
    }
    let mut touches: Vec<_> = writes.into_iter().flat_map(|planned| planned.touches.clone()).collect();
    touches.sort();
    touches.dedup();
    (effect, touches)
}

/// What nobody bounds for a run that a model plans is not bounded for the run around it either.
fn unbounded(cost: Cost, steps: &[CheckedStep]) -> Cost {
    let of_models = || steps.iter().map(|step| &step.planned).filter(|planned| planned.asks_model);
    let all =
        |sum: u64, of: &dyn Fn(&Cost) -> u64| if of_models().any(|planned| of(&planned.cost) == 0) { 0 } else { sum };
    let all_u32 =
        |sum: u32, of: &dyn Fn(&Cost) -> u32| if of_models().any(|planned| of(&planned.cost) == 0) { 0 } else { sum };
    Cost {
        calls: all_u32(cost.calls, &|cost| cost.calls),
        turns: all_u32(cost.turns, &|cost| cost.turns),
        fuel: all(cost.fuel, &|cost| cost.fuel),
        bytes: all(cost.bytes, &|cost| cost.bytes),
        ..cost
    }
}

/// What a run that nobody has planned yet may cost: what is not bounded for it is what will be left.
fn bounds(budget: &BudgetPatch) -> Cost {
    Cost {
        calls: budget.calls_max.unwrap_or_default(),
        turns: budget.planner_turns_max.unwrap_or_default(),
        fuel: budget.fuel_max.unwrap_or_default(),
        bytes: budget.bytes_max.unwrap_or_default(),
        usd_micros: budget.usd_micros_max.unwrap_or_default(),
        tokens: budget.tokens_max.unwrap_or_default(),
        parallel: budget.parallel_max.unwrap_or_default(),
    }
}

/// Returns the budget of a run within the run, of what is left to the run around it: never more, and one level less deep.
pub fn budget_within(outer: &Budget, patch: &BudgetPatch) -> Budget {
    fn least<T: Ord>(outer: T, patch: Option<T>) -> T {
        match patch {
            Some(patch) => outer.min(patch),
            None => outer,
        }
    }
    Budget {
        planner_turns_max: least(outer.planner_turns_max, patch.planner_turns_max),
        calls_max: least(outer.calls_max, patch.calls_max),
        calls_per_tool_max: least(outer.calls_per_tool_max, patch.calls_per_tool_max),
        parallel_max: least(outer.parallel_max, patch.parallel_max),
        depth_max: least(outer.depth_max.saturating_sub(1), patch.depth_max),
        same_failures_max: least(outer.same_failures_max, patch.same_failures_max),
        wall_ms_max: least(outer.wall_ms_max, patch.wall_ms_max),
        fuel_max: least(outer.fuel_max, patch.fuel_max),
        bytes_max: least(outer.bytes_max, patch.bytes_max),
        usd_micros_max: match (outer.usd_micros_max, patch.usd_micros_max) {
            (Some(outer), patch) => Some(least(outer, patch)),
            (None, patch) => patch,
        },
        tokens_max: match (outer.tokens_max, patch.tokens_max) {
            (Some(outer), patch) => Some(least(outer, patch)),
            (None, patch) => patch,
        },
        repairs_max: outer.repairs_max,
    }
}
