//! Which model a goal would be sent to, before it is: the same functions that a run uses, and nothing sent.

use crate::domain::{Budget, Failure};
use crate::orchestrator::ask::{SoFar, features, routed};
use crate::orchestrator::context;
use crate::orchestrator::driver::{Goal, Parts};
use crate::planner::route::Routed;
use crate::planner::{ContextPack, Planner, Quote};

/// What the first request of a goal would be.
#[derive(Clone, Debug)]
pub struct Foreseen {
    pub pack: ContextPack,
    pub routed: Routed,
    pub quote: Option<Quote>,
}

/// Tells what the first request for a goal would be; `None` for a planner without models.
///
/// # Errors
/// `data.config` where no tier may propose what the tools near to the goal do.
pub fn foresee(
    parts: &Parts,
    planner: &dyn Planner,
    goal: &Goal,
    budget: &Budget,
) -> Result<Option<Foreseen>, Failure> {
    let Some(routes) = planner.routes() else { return Ok(None) };
    let asked = ContextPack {
        goal: goal.text.clone(),
        inputs: goal.inputs.clone(),
        turn: 1,
        left: Some(context::left(budget, budget.wall_ms_max)),
        prompt: planner.prompt(),
        ..ContextPack::default()
    };
    let tools = context::offered(&parts.catalog, &parts.policy);
    let pack = context::complete(asked, tools, &std::collections::BTreeSet::new(), &parts.pack);
    let routed = routed(routes, features(&SoFar::default(), &pack, goal.is_critical))?;
    let quote = planner.quote(&pack, &routed.choice.model);
    Ok(Some(Foreseen { pack, routed, quote }))
}
