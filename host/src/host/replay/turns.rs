//! Reads the planner's replies again, checks the plans again, and follows their references again.

use std::collections::BTreeMap;

use crate::domain::{Digest, Failure, Json, Kind, RunId, StepId, excerpt, resolved};
use crate::host::Host;
use crate::host::goal::planner_of;
use crate::host::replay::made::{Story, Turn};
use crate::host::replay::{EXCERPT_CHARS_MAX, Replayed, Verdict, untold};
use crate::orchestrator::{CheckedPlan, CheckedStep, Earlier, Goal, Known, check};
use crate::planner::parse::{ReplyLimits, parse};
use crate::planner::{Allowance, ContextPack, Proposal};
use crate::policy::{self, About};
use crate::registry::VerifiedTool;
use crate::store::Payload;

/// Plays the turns of a run back.
///
/// # Errors
/// `host.storage`; `data.not_found` where its user was erased.
pub(super) async fn replayed(host: &Host, run: &RunId, story: &Story) -> Result<Vec<Replayed>, Failure> {
    let goal: Goal = host.kept(run, &story.goal).await?;
    let mut parts = Vec::new();
    for turn in &story.turns {
        let then: CheckedPlan = host.kept(run, &turn.plan).await?;
        let result = match proposal(host, run, &goal, turn).await? {
            Err(verdict) => verdict,
            Ok(proposal) => planned(host, story, (turn, &then), proposal)?,
        };
        parts.push(part(format!("turn {}", turn.turn), result));
        for step in then.steps.iter().filter(|step| step.for_each.is_none()) {
            if let Some(result) = followed(host, run, story, step).await? {
                parts.push(part(format!("{} (its references)", step.planned.id), result));
            }
        }
    }
    Ok(parts)
}

fn part(part: String, result: Verdict) -> Replayed {
    Replayed { part, tool: None, is_other_component: false, host_calls: 0, result }
}

/// Reads the reply again.
async fn proposal(host: &Host, run: &RunId, goal: &Goal, turn: &Turn) -> Result<Result<Proposal, Verdict>, Failure> {
    let Some(pack) = turn.pack else { return Ok(Err(untold("nothing tells what the planner was shown"))) };
    let pack: ContextPack = host.kept(run, &pack).await?;
    let read = if goal.workflow.is_some() {
        let allowance = Allowance { wall_ms_max: 0, reply_tokens_max: 0 };
        planner_of(goal, None)?.plan(&pack, &allowance).await.reply
    } else {
        let Some(reply) = host.0.parts.log.payload(run, &turn.reply).await? else {
            return Ok(Err(untold("the reply is erased")));
        };
        parse(&String::from_utf8_lossy(&reply), &pack, &ReplyLimits::default())
    };
    Ok(read.map_err(|failure| untold(format!("the reply was not read from its text: {failure}"))))
}

/// Checks the plan again, under what policy made of its tools then.
fn planned(
    host: &Host,
    story: &Story,
    (turn, then): (&Turn, &CheckedPlan),
    proposal: Proposal,
) -> Result<Verdict, Failure> {
    let Proposal::Plan(plan) = proposal else { return Ok(untold("the reply reads as no plan")) };
    let parts = &host.0.parts;
    let of_templates = then.steps.iter().flat_map(|step| {
        let templates = [&step.undo, &step.reconcile].into_iter().flatten();
        templates.map(move |template| (template.tool.clone(), About { undo: None, reconcile: None, ..about(step) }))
    });
    // Calls that templates make were allowed then; where they are steps too, the steps tell more.
    let known_then: BTreeMap<String, About> =
        of_templates.chain(then.steps.iter().map(|step| (tool(step), about(step)))).collect();
    let about = |tool: &VerifiedTool| match known_then.get(&tool.name().to_string()) {
        Some(about) => Ok(about.clone()),
        None => policy::about(&parts.policy, tool),
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
    };
    let now = match check(&plan, turn.turn, &known) {
        Ok(now) => now,
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

fn tool(step: &CheckedStep) -> String {
    step.planned.tool.to_string()
}

fn about(step: &CheckedStep) -> About {
    About {
        effect: step.planned.effect,
        cost: step.planned.cost,
        touches: step.planned.touches.clone(),
        asks: step.asks.clone(),
        undo: step.undo.clone(),
        reconcile: step.reconcile.clone(),
        calls_parallel_max: step.planned.calls_parallel_max,
    }
}

fn differs(what: &str, then: &Json, now: &Json) -> Verdict {
    let told = |value: &Json| excerpt(value, EXCERPT_CHARS_MAX);
    Verdict::Differs { what: what.into(), then: told(then), now: told(now) }
}

/// Follows the references of a step again; `None` where it has none, or never became ready.
async fn followed(host: &Host, run: &RunId, story: &Story, step: &CheckedStep) -> Result<Option<Verdict>, Failure> {
    let named: Vec<StepId> = crate::domain::references(&step.args)
        .unwrap_or_default()
        .iter()
        .filter_map(|reference| reference.step.parse().ok())
        .collect();
    let Some(ready) = story.ready.get(&step.planned.id).filter(|_| !named.is_empty()) else { return Ok(None) };
    let mut outputs: BTreeMap<String, Json> = BTreeMap::new();
    for id in named {
        if let Some(output) = story.outputs.get(&id) {
            outputs.insert(id.to_string(), host.kept(run, output).await?);
        }
    }
    let found = resolved(&step.args, &|reference| {
        let found = outputs.get(reference.step).and_then(|output| output.pointer(reference.path)).cloned();
        found
            .or_else(|| reference.default.cloned())
            .ok_or_else(|| format!("`{}` brought nothing there", reference.step))
    });
    let then: Json = host.kept(run, ready).await?;
    let now = found.map_err(|flaw| Failure::new(Kind::DataReference, flaw));
    Ok(Some(match now {
        Ok(now) if Digest::of_json(&now) == *ready => Verdict::Same,
        Ok(now) => differs("its arguments", &then, &now),
        Err(failure) => differs("its arguments", &then, &Json::from(failure.to_string())),
    }))
}
