//! One event of the chain: what it says, and its digests computed again.

use crate::domain::{
    Decision, Digest, Event, Fact, Failure, Json, Role, RunEnd, Settlement, SkipReason, StepEnd, StepId, UndoReason,
    Usage,
};
use crate::orchestrator::Goal;

use super::{Chain, DigestState, Link};

/// Characters of somebody's words.
const QUOTE_CHARS_MAX: usize = 400;

/// Makes a link of an event; `policy` is the digest of the policy that was in force.
pub(super) async fn of(chain: &Chain<'_>, event: &Event, policy: Option<Digest>) -> Result<Link, Failure> {
    let fact = &event.fact;
    let name = serde_json::to_value(fact).ok().and_then(|json| Some(json.get("fact")?.as_str()?.to_owned()));
    let mut link = Link {
        run: event.run.clone(),
        seq: event.seq,
        at: event.at,
        fact: name.unwrap_or_default(),
        says: says(chain, event, policy).await?,
        quote: None,
        usage: None,
        digests: Vec::new(),
    };
    for (name, digest) in payloads(fact) {
        let (checked, bytes) = chain.check(name, digest).await?;
        link.digests.push(checked);
        link.quote = link.quote.or_else(|| quote(name, bytes.as_deref()?));
        if let Fact::StepReady { step, key, .. } = fact {
            link.digests.extend(chain.check_key(step, *key, bytes.as_deref()));
        }
    }
    if let Fact::StepEnded { step, attempt, host_calls: Some(digest), .. } = fact {
        let is_erased = link.digests.iter().any(|checked| checked.state == DigestState::Erased);
        link.digests.push(chain.check_journal(step, *attempt, *digest, is_erased).await?);
    }
    if let Fact::StepEnded { usage, .. } | Fact::Called { usage, .. } = fact {
        link.usage = Some(usage.clone());
    }
    Ok(link)
}

/// The payloads that a fact names.
fn payloads(fact: &Fact) -> Vec<(&'static str, Digest)> {
    let end = |end: &StepEnd| match end {
        StepEnd::Succeeded { output } => ("output", *output),
        StepEnd::Failed { failure, .. } => ("failure", *failure),
    };
    match fact {
        Fact::RunCreated { goal, .. } => vec![("goal", *goal)],
        Fact::PlanRequested { pack, .. } => vec![("request", *pack)],
        Fact::PlanFailed { failure, .. } => vec![("failure", *failure)],
        Fact::PlanRejected { reply, failures, .. } => vec![("reply", *reply), ("failures", *failures)],
        Fact::PlanAccepted { reply, plan, .. } => vec![("reply", *reply), ("plan", *plan)],
        Fact::StepReady { args, .. } | Fact::CallStarted { args, .. } => vec![("arguments", *args)],
        Fact::StepExpanded { list, .. } => vec![("items", *list)],
        Fact::StepGathered { end: ended, .. } => vec![end(ended)],
        Fact::StepRejected { failure, .. } | Fact::ApprovalExpired { failure, .. } => vec![("failure", *failure)],
        Fact::StepCached { output, .. } => vec![("output", *output)],
        Fact::ApprovalDecided { decision, reason, .. } => {
            let args = match decision {
                Decision::Modify { args, .. } => Some(("arguments", *args)),
                Decision::Approve | Decision::Reject => None,
            };
            reason.map(|reason| ("reason", reason)).into_iter().chain(args).collect()
        }
        Fact::StepEnded { end: ended, log, denials, .. } => {
            let more = [log.map(|log| ("log", log)), denials.map(|denials| ("denials", denials))];
            std::iter::once(end(ended)).chain(more.into_iter().flatten()).collect()
        }
        Fact::Called { args, end: ended, .. } => vec![("arguments", *args), end(ended)],
        Fact::StepSettled { settlement: Settlement::Done { output }, .. } => vec![("output", *output)],
        Fact::StepSettled { settlement: Settlement::Failed { failure }, .. } => vec![("failure", *failure)],
        Fact::RunEnded { end, .. } => match end {
            RunEnd::Succeeded { answer } => answer.map(|answer| ("answer", answer)).into_iter().collect(),
            RunEnd::Failed { failure, .. } | RunEnd::BudgetExhausted { failure } => vec![("failure", *failure)],
            RunEnd::Cancelled { .. } => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// The words in a payload that a reader wants to see at once.
fn quote(name: &str, bytes: &[u8]) -> Option<String> {
    let words = match name {
        "goal" => serde_json::from_slice::<Goal>(bytes).ok()?.text,
        "reason" => serde_json::from_slice(bytes).ok()?,
        "failure" => serde_json::from_slice::<Failure>(bytes).ok()?.message,
        "failures" => {
            let failures: Vec<Failure> = serde_json::from_slice(bytes).ok()?;
            failures.into_iter().map(|failure| failure.message).collect::<Vec<_>>().join("; ")
        }
        "arguments" | "output" | "answer" => serde_json::from_slice::<Json>(bytes).ok()?.to_string(),
        _ => return None,
    };
    let short: String = words.chars().take(QUOTE_CHARS_MAX).collect();
    Some(if short.len() < words.len() { short + "…" } else { short })
}

async fn says(chain: &Chain<'_>, event: &Event, policy: Option<Digest>) -> Result<String, Failure> {
    let fact = &event.fact;
    Ok(match fact {
        Fact::StepStarted { attempt, rules, component, effect, run, .. } => {
            let run = run.as_ref().map_or(String::new(), |run| format!(", as run {run}"));
            let rules: Vec<_> = rules.iter().map(|rule| why(chain, rule, policy)).collect();
            let rules = if rules.is_empty() { "no rule".into() } else { rules.join("; ") };
            format!(
                "attempt {attempt} begins{run}: component {}, effect {effect}, allowed by {rules}",
                component.short()
            )
        }
        Fact::ApprovalRequested { binding, rule, expires, .. } => {
            format!("a person must decide until {expires} (binding {}): {}", binding.short(), why(chain, rule, policy))
        }
        Fact::StepEnded { step, attempt, end, usage, retry, .. } => {
            let calls = journal(chain, step, *attempt).await?;
            let next = retry.map_or(String::new(), |retry| format!("; tried again at {retry}"));
            format!("attempt {attempt} {}: {}{calls}{next}", how(end), used(usage))
        }
        fact => plainly(fact),
    })
}

/// What the facts say that need nothing but themselves.
fn plainly(fact: &Fact) -> String {
    match fact {
        Fact::RunCreated { planner, principal, parent, .. } => {
            let part = parent.as_ref().map_or(String::new(), |p| format!(", for step {} of run {}", p.step, p.run));
            format!("{}/{} asks; {planner} plans{part}", principal.tenant, principal.user)
        }
        Fact::SessionStarted { principal } => format!("a session of {}/{} begins", principal.tenant, principal.user),
        Fact::PlanRequested { turn, .. } => format!("turn {turn}: the planner is asked"),
        Fact::PlanFailed { turn, kind, .. } => format!("turn {turn}: the planner fails: {kind}"),
        Fact::PlanRejected { turn, .. } => format!("turn {turn}: the reply is no plan that can run"),
        Fact::PlanAccepted { turn, steps, .. } => {
            format!("turn {turn}: the plan is checked; it has {} steps", steps.len())
        }
        Fact::StepReady { step, .. } => format!("{step} has its arguments"),
        Fact::StepExpanded { step, items, .. } => format!("{step} is done for {items} items"),
        Fact::StepGathered { step, end } => format!("all items of {step} have ended: {}", how(end)),
        Fact::StepRejected { step, kind, .. } => format!("{step} never starts: {kind}"),
        Fact::StepSkipped { step, why } => match why {
            SkipReason::Needs { step: needed } => format!("{step} is skipped, as {needed} did not succeed"),
            SkipReason::Condition => format!("{step} is skipped, as its condition does not hold"),
            SkipReason::NotNeeded => format!("{step} is not needed"),
        },
        Fact::StepCached { from, age_ms, .. } => format!("the outcome is taken from run {from}, {age_ms} ms old"),
        Fact::ApprovalDecided { decision, by, .. } => match decision {
            Decision::Approve => format!("{by} approves"),
            Decision::Reject => format!("{by} rejects"),
            Decision::Modify { .. } => format!("{by} approves with other arguments"),
        },
        Fact::ApprovalExpired { .. } => "nobody decides in time: that is a no".into(),
        Fact::WriteBegun { attempt, .. } => format!("attempt {attempt} begins to change something"),
        Fact::StepInterrupted { attempt, .. } => format!("attempt {attempt} is interrupted, and may run again"),
        Fact::StepUnknown { attempt, .. } => format!("nobody saw attempt {attempt} end, which had begun to write"),
        Fact::StepSettled { settlement, by, .. } => match settlement {
            Settlement::Done { .. } => format!("{by} says that it happened"),
            Settlement::Retry => format!("{by} says that it may be done again"),
            Settlement::Unknown => format!("{by} does not know what became of it"),
            Settlement::Failed { .. } => format!("{by} says that it did not happen"),
        },
        Fact::ReconcileBegun { of, step } => format!("{} is asked, as {}, what became of {of}", step.tool, step.id),
        Fact::UndoBegun { why, steps, .. } => {
            undo(why, steps.iter().filter_map(|step| Some((&step.id, undone(&step.role)?))))
        }
        Fact::CancelRequested { by, .. } => format!("{by} cancels the run, and wants what was done taken back"),
        Fact::CallStarted { tool, effect, .. } => format!("{tool} is called ({effect})"),
        Fact::Called { tool, end, usage, .. } => format!("{tool} {}: {}", how(end), used(usage)),
        Fact::RunEnded { end, .. } => match end {
            RunEnd::Succeeded { .. } => "the run succeeds".into(),
            RunEnd::Failed { kind, .. } => format!("the run fails: {kind}"),
            RunEnd::Cancelled { by } => format!("the run is cancelled by {by}"),
            RunEnd::BudgetExhausted { .. } => "the run's budget is used up".into(),
        },
        _ => String::new(),
    }
}

fn undone(role: &Role) -> Option<&StepId> {
    match role {
        Role::Undo { of } => Some(of),
        Role::Do | Role::Item { .. } | Role::Reconcile { .. } => None,
    }
}

fn undo<'a>(why: &UndoReason, steps: impl Iterator<Item = (&'a StepId, &'a StepId)>) -> String {
    let why = match why {
        UndoReason::StepFailed { step } => format!("{step} failed"),
        UndoReason::Cancelled { by } => format!("{by} cancelled the run"),
        UndoReason::Budget { what } => format!("`{what}` of the budget was used up"),
        UndoReason::Outer => "the run around this one takes back what it had done".into(),
    };
    let steps: Vec<_> = steps.map(|(step, of)| format!("{of} by {step}")).collect();
    format!("as {why}, these are taken back: {}", steps.join(", "))
}

/// A rule with its reason, where the policy is still the one that decided.
fn why(chain: &Chain<'_>, rule: &str, policy: Option<Digest>) -> String {
    let now = &chain.host.0.parts.policy;
    if policy != Some(now.digest()) {
        return format!("rule `{rule}` (the policy has changed since)");
    }
    // The rule that asks for a person may stand with what it says of the effect.
    let found = now.rules.iter().find(|known| rule == known.name || rule.starts_with(&format!("{} (", known.name)));
    found.map_or_else(|| format!("rule `{rule}`"), |found| format!("rule `{rule}`: {}", found.why))
}

/// What the journal has of the call's host calls.
async fn journal(chain: &Chain<'_>, step: &StepId, attempt: u32) -> Result<String, Failure> {
    let records = chain.host.0.parts.log.journal(&chain.run, step, attempt).await?;
    if records.is_empty() {
        return Ok(String::new());
    }
    let writes = records.iter().filter(|record| record.is_write).count();
    Ok(format!("; {} on record, of which {writes} write", records.len()))
}

fn how(end: &StepEnd) -> String {
    match end {
        StepEnd::Succeeded { .. } => "succeeds".into(),
        StepEnd::Failed { kind, .. } => format!("fails: {kind}"),
    }
}

fn used(usage: &Usage) -> String {
    format!("{} ms, {} fuel, {} host calls", usage.wall_ms, usage.fuel, usage.host_calls)
}
