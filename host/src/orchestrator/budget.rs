//! Is there room in a run's budget for one more call? Reserved before, settled after; pure.

use crate::domain::{Cost, Role};
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
    tools: Vec<crate::domain::ToolName>,
}

impl Pending {
    /// Notes that a call is about to begin.
    pub(super) fn add(&mut self, step: &Step, reserve: Cost) {
        self.cost = self.cost.plus(reserve);
        self.tools.push(step.planned.tool.clone());
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
    let want = step.planned.cost;
    if matches!(step.planned.role, Role::Undo { .. } | Role::Reconcile { .. }) {
        return Room::Yes(want);
    }
    let tool = &step.planned.tool;
    let of_tool = run.calls_of.get(tool).copied().unwrap_or(0);
    let of_tool = of_tool.saturating_add(count(pending.tools.iter().filter(|other| *other == tool)));
    if of_tool >= run.budget.calls_per_tool_max {
        return Room::Never("calls_per_tool_max");
    }
    let left = left(run).minus(pending.cost);
    let is_alone = run.reserved.plus(pending.cost) == Cost::default();
    let later = |bound| if is_alone { Room::Never(bound) } else { Room::Later };
    if left.calls < want.calls.max(1) {
        // What a run within the run reserved and does not use comes back; a call never does.
        let is_settling = run.steps.values().any(|step| step.status.is_running() && step.run.is_some());
        return if is_settling { Room::Later } else { Room::Never("calls_max") };
    }
    if left.usd_micros < want.usd_micros {
        return later("usd_micros_max");
    }
    match (fits(left.fuel, want.fuel, is_alone), fits(left.bytes, want.bytes, is_alone)) {
        (Some(fuel), Some(bytes)) => Room::Yes(Cost { calls: want.calls.max(1), fuel, bytes, ..want }),
        (None, _) => later("fuel_max"),
        (_, None) => later("bytes_max"),
    }
}

/// What there is, where that is enough; the rest of it for a call that has the budget to itself.
fn fits(left: u64, want: u64, is_alone: bool) -> Option<u64> {
    if left >= want {
        return Some(want);
    }
    (is_alone && left > 0).then_some(left)
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
