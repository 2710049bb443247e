//! Is there room in a run's budget for one more call? Reserved before, settled after; pure.

use crate::domain::{Budget, Cost, Role, ToolName};
use crate::orchestrator::check::RUN_TOOL;
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
}

impl Pending {
    /// Notes that a call is about to begin.
    pub(super) fn add(&mut self, step: &Step, reserve: Cost) {
        self.cost = self.cost.plus(reserve);
        self.tools.push(step.planned.tool.clone());
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
    };
    cap.minus(taken)
}

/// Says whether `step` may begin. Calls that take something back, or ask what became of it, always may: they are bounded by
/// what was done, and a run that cannot afford to clean up would leave a worse state than one that spends more.
pub(super) fn room(run: &Run, step: &Step, pending: &Pending) -> Room {
    let want = wanted(step);
    if matches!(step.planned.role, Role::Undo { .. } | Role::Reconcile { .. }) {
        return Room::Yes(want);
    }
    let tool = &step.planned.tool;
    let of_tool = run.calls_of.get(tool).copied().unwrap_or(0);
    let of_tool = of_tool.saturating_add(u32::try_from(pending.calls_of(tool)).unwrap_or(u32::MAX));
    if of_tool >= run.budget.calls_per_tool_max {
        return Room::Never("calls_per_tool_max");
    }
    let left = left(run).minus(pending.cost);
    let is_alone = run.reserved.plus(pending.cost) == Cost::default();
    let later = |bound| if is_alone { Room::Never(bound) } else { Room::Later };
    let is_run = is_run(step);
    // What a run within the run reserved and does not use comes back; a call never does.
    let is_settling = run.steps.values().any(|step| step.status.is_running() && step.run.is_some());
    let Some(calls) = fits(left.calls.into(), want.calls.max(1).into(), is_alone && is_run) else {
        return if is_settling { Room::Later } else { Room::Never("calls_max") };
    };
    let Some(usd_micros) = fits(left.usd_micros, want.usd_micros, is_alone && is_run) else {
        return later("usd_micros_max");
    };
    let Some(turns) = fits(left.turns.into(), want.turns.into(), is_alone && is_run) else {
        return later("planner_turns_max");
    };
    let Some(fuel) = fits(left.fuel, want.fuel, is_alone) else { return later("fuel_max") };
    let Some(bytes) = fits(left.bytes, want.bytes, is_alone) else { return later("bytes_max") };
    let calls = u32::try_from(calls).unwrap_or(u32::MAX);
    let turns = u32::try_from(turns).unwrap_or(u32::MAX);
    Room::Yes(Cost { calls, turns, fuel, bytes, usd_micros })
}

/// The most that one attempt may cost. A run within the run may try its own calls again, and what nobody bounds is all
/// that there is.
fn wanted(step: &Step) -> Cost {
    let cost = step.planned.cost;
    if !is_run(step) {
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
        usd_micros: cost.usd_micros.saturating_mul(times.into()),
    }
}

fn is_run(step: &Step) -> bool {
    let (component, function) = RUN_TOOL;
    step.planned.tool.component() == component && step.planned.tool.function() == function
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
        ..run.budget.clone()
    }
}
