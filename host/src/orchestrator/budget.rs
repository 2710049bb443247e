//! Is there room in a run's budget for one more call? Reserved before, settled after; pure.

use std::collections::BTreeMap;

use crate::domain::{Budget, BudgetPatch, Cost, PlannedStep, Role, ToolName};
use crate::orchestrator::check::{RUN_TOOL, budget_within};
use crate::orchestrator::machine::{Run, Step};

/// What a budget says to one more call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// It may cost this much.
    Yes(Cost),
    /// Not while others run: what they do not use may be enough.
    Later,
    /// This bound is met.
    Never(&'static str),
}

/// What was begun in one round of decisions, beside what the run knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    cost: Cost,
    tools: Vec<ToolName>,
    /// What runs within the run that are about to begin may call.
    runs: Vec<Cost>,
}

impl Pending {
    /// Notes that a call is about to begin.
    pub(super) fn add(&mut self, step: &Step, reserve: Cost) {
        self.cost = self.cost.plus(reserve);
        self.tools.push(step.planned.tool.clone());
        if is_run(&step.planned) && is_bounded(step) {
            self.runs.push(reserve);
        }
    }

    /// Returns how many calls of `tool` are about to begin.
    pub(super) fn calls_of(&self, tool: &ToolName) -> usize {
        self.tools.iter().filter(|other| *other == tool).count()
    }
}

/// Returns what is left of a run's budget: what is neither spent nor reserved.
pub(super) fn left(run: &Run) -> Cost {
    let taken = run.spent.plus(run.reserved);
    let cap = Cost {
        calls: run.budget.calls_max,
        turns: run.budget.planner_turns_max.saturating_sub(run.planning.requests),
        fuel: run.budget.fuel_max,
        bytes: run.budget.bytes_max,
        usd_micros: run.budget.usd_micros_max.unwrap_or(u64::MAX),
        tokens: run.budget.tokens_max.unwrap_or(u64::MAX),
        parallel: 0,
    };
    cap.minus(taken)
}

/// Says whether `step` may begin. Calls that take something back, or ask what became of it, always may: they are bounded by
/// what was done, and a run that cannot afford to clean up would leave a worse state than one that spends more. So may a
/// call whose process died: what was reserved for it is still.
pub(super) fn room(run: &Run, step: &Step, pending: &Pending) -> Room {
    if step.is_interrupted() {
        return Room::Yes(step.reserved);
    }
    if !is_bounded(step) {
        return Room::Yes(step.planned.cost);
    }
    let want = wanted(&run.budget, step);
    let tool = &step.planned.tool;
    let held = held_of_each(run, pending);
    let of_tool = run.calls_of.get(tool).copied().unwrap_or(0);
    let of_tool = of_tool.saturating_add(u32::try_from(pending.calls_of(tool)).unwrap_or(u32::MAX));
    if of_tool.saturating_add(held) >= calls_max_of(run, tool) {
        return if held > 0 { Room::Later } else { Room::Never("calls_per_tool_max") };
    }
    let left = left(run).minus(pending.cost);
    let is_alone = run.reserved.plus(pending.cost) == Cost::default();
    let later = |bound| if is_alone { Room::Never(bound) } else { Room::Later };
    let is_run = is_run(&step.planned);
    // What a run within the run reserved and does not use comes back; a call never does.
    let is_settling = run.steps.values().any(|step| step.status.is_running() && step.run.is_some());
    let Some(calls) = fits(left.calls.into(), want.calls.max(1).into(), is_alone && is_run) else {
        return if is_settling { Room::Later } else { Room::Never("calls_max") };
    };
    let Some(usd_micros) = fits(left.usd_micros, want.usd_micros, is_alone && is_run) else {
        return later("usd_micros_max");
    };
    let Some(tokens) = fits(left.tokens, want.tokens, is_alone && is_run) else {
        return later("tokens_max");
    };
    let Some(turns) = fits(left.turns.into(), want.turns.into(), is_alone && is_run) else {
        return later("planner_turns_max");
    };
    let Some(fuel) = fits(left.fuel, want.fuel, is_alone) else { return later("fuel_max") };
    let Some(bytes) = fits(left.bytes, want.bytes, is_alone) else { return later("bytes_max") };
    let calls = u32::try_from(calls).unwrap_or(u32::MAX);
    let turns = u32::try_from(turns).unwrap_or(u32::MAX);
    let cost = Cost { calls, turns, fuel, bytes, usd_micros, tokens, parallel: 0 };
    if is_run && held > 0 && held.saturating_add(of_each(run, cost)) > run.budget.calls_per_tool_max {
        return Room::Later;
    }
    Room::Yes(cost)
}

/// What takes back, or asks, is bounded by what was done.
fn is_bounded(step: &Step) -> bool {
    !matches!(step.planned.role, Role::Undo { .. } | Role::Reconcile { .. })
}

/// Calls of a tool that the run and those within it may begin in all.
fn calls_max_of(run: &Run, tool: &ToolName) -> u32 {
    let left = run.parent.as_ref().and_then(|parent| parent.calls_left.get(tool)).copied();
    run.budget.calls_per_tool_max.min(left.unwrap_or(u32::MAX))
}

/// Calls of each tool, whichever that is, that a run within the run may begin for which `reserved` is held.
fn of_each(run: &Run, reserved: Cost) -> u32 {
    reserved.calls.min(run.budget.calls_per_tool_max)
}

/// Calls of each tool that are held for runs within the run.
/// Invariant: what was called of a tool, and what is held, is no more than `calls_per_tool_max`, but for what a run that
/// began after calls of that tool is told not to make of it ([`calls_left`]).
fn held_of_each(run: &Run, pending: &Pending) -> u32 {
    let running = within(run).map(|step| step.reserved);
    running.chain(pending.runs.iter().copied()).map(|cost| of_each(run, cost)).fold(0, u32::saturating_add)
}

/// Runs within the run that are under way, and bounded by its budget.
fn within(run: &Run) -> impl Iterator<Item = &Step> {
    let is_it = |step: &&Step| step.status.is_running() && step.run.is_some() && is_bounded(step);
    run.steps.values().filter(is_it)
}

/// Returns what the run that carries out `step` may still call of tools of which fewer calls are left than its budget says.
pub(super) fn calls_left(run: &Run, step: &Step) -> BTreeMap<ToolName, u32> {
    let others = within(run).filter(|other| other.id() != step.id());
    let held = others.map(|other| of_each(run, other.reserved)).fold(0, u32::saturating_add);
    let around = run.parent.iter().flat_map(|parent| parent.calls_left.keys());
    let left = |tool: &ToolName| {
        let called = run.calls_of.get(tool).copied().unwrap_or(0);
        calls_max_of(run, tool).saturating_sub(called).saturating_sub(held)
    };
    let left = run.calls_of.keys().chain(around).map(|tool| (tool.clone(), left(tool)));
    left.filter(|(_, left)| *left < of_each(run, step.reserved)).collect()
}

/// Returns the budget of a run that carries out a step: what was reserved for it when it began, within what its step says.
pub(super) fn of_child(run: &Run, reserved: Cost, wall_ms_left: u64, patch: &BudgetPatch) -> Budget {
    let own = &run.budget;
    let outer = Budget {
        calls_max: reserved.calls,
        calls_per_tool_max: of_each(run, reserved),
        parallel_max: reserved.parallel.max(1),
        planner_turns_max: reserved.turns,
        fuel_max: reserved.fuel,
        bytes_max: reserved.bytes,
        usd_micros_max: own.usd_micros_max.map(|_| reserved.usd_micros),
        tokens_max: own.tokens_max.map(|_| reserved.tokens),
        wall_ms_max: wall_ms_left,
        ..own.clone()
    };
    budget_within(&outer, patch)
}

/// Returns how many calls a running step may have under way at one time.
pub(super) fn places_of(step: &Step) -> u32 {
    if step.run.is_some() { step.reserved.parallel.max(1) } else { 1 }
}

/// Returns how many of the `free` places a run within the run takes that begins: a fair share, where it is one of `runs` that
/// could begin now, and no more than it can use. One place is left to the run's own calls, where it `has_calls` to come.
pub(super) fn share(planned: &PlannedStep, free: u32, runs: u32, has_calls: bool) -> u32 {
    let shared = free.saturating_sub(u32::from(has_calls && free > runs));
    let wanted = [planned.cost.parallel, planned.cost.calls].into_iter().filter(|n| *n > 0).min().unwrap_or(u32::MAX);
    (shared / runs.max(1)).min(wanted).max(1)
}

/// The most that one attempt may cost. A run within the run may try its own calls again, and what nobody bounds is all
/// that there is.
fn wanted(budget: &Budget, step: &Step) -> Cost {
    let cost = step.planned.cost;
    if !is_run(&step.planned) {
        return cost;
    }
    let times = step.planned.retry.attempts_max.max(1);
    let all = |n: u64| if n == 0 { u64::MAX } else { n.saturating_mul(times.into()) };
    let calls = all(cost.calls.into());
    Cost {
        calls: u32::try_from(calls).unwrap_or(u32::MAX),
        turns: if cost.turns == 0 { u32::MAX } else { cost.turns },
        fuel: all(cost.fuel),
        bytes: all(cost.bytes),
        usd_micros: of_model(budget.usd_micros_max, cost.usd_micros, times, step.planned.asks_model),
        tokens: of_model(budget.tokens_max, cost.tokens, times, step.planned.asks_model),
        parallel: 0,
    }
}

/// What an attempt may take of a bound that requests to models meet: where a model plans and nobody says how much of it, all
/// that there is. Where nothing is bounded nothing is held.
fn of_model(most: Option<u64>, cost: u64, times: u32, asks_model: bool) -> u64 {
    match most {
        Some(_) if cost == 0 && asks_model => u64::MAX,
        _ => cost.saturating_mul(times.into()),
    }
}

/// Answers whether a run within the run carries the step out.
pub(super) fn is_run(planned: &PlannedStep) -> bool {
    (planned.tool.component(), planned.tool.function()) == RUN_TOOL
}

/// What there is, where that is enough; the rest of it for a call that has the budget to itself.
fn fits(left: u64, want: u64, is_alone: bool) -> Option<u64> {
    if left >= want {
        return Some(want);
    }
    (is_alone && left > 0).then_some(left)
}

/// Returns what is left as a budget: for the check of a plan.
pub(super) fn budget_left(run: &Run) -> Budget {
    let left = left(run);
    Budget {
        calls_max: left.calls,
        planner_turns_max: left.turns,
        fuel_max: left.fuel,
        bytes_max: left.bytes,
        usd_micros_max: run.budget.usd_micros_max.map(|_| left.usd_micros),
        tokens_max: run.budget.tokens_max.map(|_| left.tokens),
        ..run.budget.clone()
    }
}

#[cfg(test)]
mod tests;
