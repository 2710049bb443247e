//! Reads the planner's replies again, and checks the plans again.

use std::collections::BTreeMap;

use crate::domain::{CallTemplate, Cost, Effect, Failure, Json, RunId, StepId};
use crate::host::Host;
use crate::host::goal::planner_of;
use crate::host::replay::made::{Story, Turn};
use crate::host::replay::tree::differs;
use crate::host::replay::{Replayed, Verdict, untold};
use crate::orchestrator::{CheckedPlan, CheckedStep, Earlier, Goal, GoalMarks, Known, Proposed, check};
use crate::planner::parse::{ReplyLimits, read};
use crate::planner::{Allowance, ContextPack, Proposal};
use crate::policy::{self, About};
use crate::registry::VerifiedTool;
use crate::store::Payload;

/// Plays the turns of a run back.
///
/// # Errors
/// `host.storage`; `data.not_found` where its user was erased.
pub(super) async fn replayed(host: &Host, run: &RunId, goal: &Goal, story: &Story) -> Result<Vec<Replayed>, Failure> {
    let mut parts = Vec::new();
    for turn in &story.turns {
        let then: CheckedPlan = host.kept(run, &turn.plan).await?;
        let result = match proposal(host, run, goal, (story, turn)).await? {
            Err(verdict) => verdict,
            Ok((proposal, proposed)) => planned(host, story, (turn, &then), (proposal, proposed, GoalMarks::of(goal)))?,
        };
        parts.push(Replayed::told(turn.seq, format!("turn {}", turn.turn), result));
    }
    Ok(parts)
}

/// Reads the reply again.
async fn proposal(
    host: &Host,
    run: &RunId,
    goal: &Goal,
    (story, turn): (&Story, &Turn),
) -> Result<Result<(Proposal, Option<Proposed>), Verdict>, Failure> {
    let Some(pack) = turn.pack else { return Ok(Err(untold("nothing tells what the planner was shown"))) };
    let pack: ContextPack = host.kept(run, &pack).await?;
    let proposed = story.reads.then(|| Proposed::of(goal, &pack));
    let read = if goal.workflow.is_some() || goal.recording.is_some() {
        planner_of(goal, None)?.plan(&pack, &Allowance::default()).await.reply
    } else {
        let Some(reply) = host.0.parts.log.payload(run, &turn.reply).await? else {
            return Ok(Err(untold("the reply is erased")));
        };
        read(&String::from_utf8_lossy(&reply), &pack, &ReplyLimits::default())
    };
    Ok(read
        .map(|proposal| (proposal, proposed))
        .map_err(|failure| untold(format!("the reply was not read from its text: {failure}"))))
}

/// Checks the plan again, under what policy made of its tools then.
fn planned(
    host: &Host,
    story: &Story,
    (turn, then): (&Turn, &CheckedPlan),
    (proposal, proposed, goal): (Proposal, Option<Proposed>, GoalMarks),
) -> Result<Verdict, Failure> {
    let Proposal::Plan(plan) = proposal else { return Ok(untold("the reply reads as no plan")) };
    let parts = &host.0.parts;
    let known_then: BTreeMap<String, About> = then.steps.iter().map(|step| (tool(step), about(step))).collect();
    let about = |tool: &VerifiedTool| {
        let name = tool.name().to_string();
        match known_then.get(&name).cloned().or_else(|| named_by(then, &name)) {
            Some(about) => Ok(about),
            None => policy::about(&parts.policy, tool),
        }
    };
    let earlier = turn
        .earlier
        .iter()
        .map(|(id, (tool, is_list))| (id.clone(), Earlier { tool: tool.clone(), is_list: *is_list }));
    let earlier: BTreeMap<StepId, Earlier> = earlier.collect();
    let known = Known {
        catalog: &parts.catalog,
        earlier: &earlier,
        about: &about,
        limits: &parts.plan_limits,
        budget: &story.budget,
        // What a person wrote nobody doubted, and by the first rules nobody noted risks.
        proposed: proposed.as_ref().filter(|_| turn.checked_by > 1),
        goal,
        checked_by: turn.checked_by,
    };
    let now = match check(&plan, turn.turn, &known) {
        // What the tools were is no decision: they may have changed since.
        Ok(now) => CheckedPlan { tools: then.tools.clone(), ..now },
        Err(failures) => {
            let now = failures.iter().map(Failure::to_string).collect::<Vec<_>>().join("; ");
            return Ok(differs("the plan", &serde_json::json!(then), &Json::from(now)));
        }
    };
    if Payload::of(&now)?.digest() == turn.plan {
        return Ok(Verdict::Same);
    }
    Ok(differs("the plan", &serde_json::json!(then), &serde_json::json!(now)))
}

/// What policy must have made of a tool that takes a step back, or tells what became of it: it was allowed then.
fn named_by(then: &CheckedPlan, name: &str) -> Option<About> {
    let is_named = |template: &Option<CallTemplate>| template.as_ref().is_some_and(|template| template.tool == name);
    let effect = match () {
        () if then.steps.iter().any(|step| is_named(&step.undo)) => Effect::Once,
        () if then.steps.iter().any(|step| is_named(&step.reconcile)) => Effect::Read,
        () => return None,
    };
    Some(About::of_effect(effect, Cost { calls: 1, ..Cost::default() }))
}

fn tool(step: &CheckedStep) -> String {
    step.planned.tool.to_string()
}

fn about(step: &CheckedStep) -> About {
    let host = step.risk.as_ref().map(|risk| &risk.host);
    About {
        touches: step.planned.touches.clone(),
        asks: step.asks.clone(),
        asks_tainted: step.asks.clone(),
        egress: host.map(|host| host.egress.clone()).unwrap_or_default(),
        secrets: host.map(|host| host.secrets.clone()).unwrap_or_default(),
        undo: step.undo.clone(),
        reconcile: step.reconcile.clone(),
        calls_parallel_max: step.planned.calls_parallel_max,
        ..About::of_effect(step.planned.effect, step.planned.cost)
    }
}
