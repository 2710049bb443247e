//! What a plan costs at the most, as long as nothing has to be tried again.
//!
//! Counted are each step once, each item of a list up to `items_max`, steps that stand in for others, and what runs within
//! the run cost at the most. Further attempts are not: they take what is left, and end where nothing is.

use std::collections::BTreeMap;

use crate::domain::{Cost, Kind, ToolName};
use crate::orchestrator::check::{Check, CheckedStep};

/// The sum of a plan, as far as it has come.
#[derive(Default)]
struct Sum {
    cost: Cost,
    of_tools: BTreeMap<ToolName, u32>,
}

/// Returns the most that a plan costs while nothing is tried again.
pub(super) fn worst(steps: &[CheckedStep]) -> Cost {
    steps.iter().fold(Cost::default(), |sum, step| sum.plus(of_step(step)))
}

/// Returns the most that a step costs, all its items together.
pub fn of_step(step: &CheckedStep) -> Cost {
    let cost = step.planned.cost;
    let times = step.planned.items.map_or(1, |items| items.items_max);
    Cost {
        calls: cost.calls.saturating_mul(times),
        turns: cost.turns.saturating_mul(times),
        fuel: cost.fuel.saturating_mul(times.into()),
        bytes: cost.bytes.saturating_mul(times.into()),
        usd_micros: cost.usd_micros.saturating_mul(times.into()),
        tokens: cost.tokens.saturating_mul(times.into()),
        parallel: 0,
    }
}

impl Check<'_> {
    /// Refuses a plan that does not fit into the budget, at the step with which it no longer does.
    pub(super) fn cost(&mut self, steps: &[CheckedStep]) {
        let mut sum = Sum::default();
        for step in steps {
            let cost = of_step(step);
            sum.cost = sum.cost.plus(cost);
            let of_tool = sum.of_tools.entry(step.planned.tool.clone()).or_default();
            *of_tool = of_tool.saturating_add(if step.run.is_some() { 0 } else { cost.calls });
            if let Some((bound, most, needed)) = self.over(&sum, &step.planned.tool) {
                let id = step.planned.id.local();
                let what = format!("with step `{id}` the plan may take {needed} of `{bound}`, and {most} are left");
                let at = self.pointer_to(id);
                return self.flaw(Kind::PolicyBudget, &at, what);
            }
        }
    }

    /// The first bound that is passed, what is left of it, and what it would take.
    fn over(&self, sum: &Sum, tool: &ToolName) -> Option<(&'static str, u64, u64)> {
        let budget = self.known.budget;
        let of_tool = sum.of_tools.get(tool).copied().unwrap_or_default();
        let bounds = [
            ("calls_max", Some(budget.calls_max.into()), sum.cost.calls.into()),
            ("calls_per_tool_max", Some(budget.calls_per_tool_max.into()), of_tool.into()),
            ("fuel_max", Some(budget.fuel_max), sum.cost.fuel),
            ("bytes_max", Some(budget.bytes_max), sum.cost.bytes),
            ("usd_micros_max", budget.usd_micros_max, sum.cost.usd_micros),
            ("tokens_max", budget.tokens_max, sum.cost.tokens),
        ];
        let passed = bounds
            .into_iter()
            .find(|(_, most, needed): &(_, Option<u64>, u64)| most.is_some_and(|most| *needed > most));
        passed.and_then(|(bound, most, needed)| Some((bound, most?, needed)))
    }
}
