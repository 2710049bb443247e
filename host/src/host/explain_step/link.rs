//! One event of the chain: what it says, and its digests computed again.

use std::collections::BTreeSet;

use crate::domain::{
    Decision, Digest, Event, Fact, Failure, HostCallRecord, Json, Role, RunEnd, Settlement, SkipReason, StepEnd,
    StepId, UndoReason, Usage, printable, references, usd,
};
use crate::host::PromptUsed;
use crate::orchestrator::Goal;
use crate::planner::ContextPack;
use crate::telemetry::span_of;

use super::{Chain, DigestState, Link};

/// Writes of a call that a chain names: those of a tool with a handful of requests.
const WRITES_NAMED_MAX: usize = 6;

/// Characters of somebody's words.
const QUOTE_CHARS_MAX: usize = 400;

/// Makes a link of an event; `policy` is the digest of the policy that was in force.
pub(super) async fn of(chain: &Chain<'_>, event: &Event, policy: Option<Digest>) -> Result<Link, Failure> {
    let fact = &event.fact;
    let name = serde_json::to_value(fact).ok().and_then(|json| Some(json.get("fact")?.as_str()?.to_owned()));
    // A person's other arguments stand beside those that were proposed.
    let proposed = match fact {
        Fact::ApprovalDecided { step, decision: Decision::Modify { .. }, .. } => chain.proposed(step, event.seq),
        _ => None,
    };
    let mut link = Link {
        run: event.run.clone(),
        seq: event.seq,
        at: event.at,
        span_id: span_of(event),
        fact: name.unwrap_or_default(),
        says: says(chain, event, policy).await?,
        quote: None,
        risk: None,
        usage: None,
        digests: Vec::new(),
    };
    if let Fact::StepSkipped { step, why: SkipReason::Condition } = fact {
        link.quote = chain.planned(step).await.and_then(|planned| planned.when);
    }
    if let Fact::StepReady { step, .. } = fact {
        link.risk = chain.planned(step).await.and_then(|planned| planned.risk);
    }
    let proposed = proposed.map(|digest| ("proposed", digest));
    for (name, digest) in proposed.into_iter().chain(payloads(fact)) {
        let (checked, bytes) = chain.check(name, digest).await?;
        link.digests.push(checked);
        let words = bytes.as_deref().and_then(|bytes| quote(name, bytes));
        link.quote = match (link.quote, words) {
            // What was proposed, what was approved, and why: all three are wanted.
            (Some(before), Some(words)) if is_modified(fact) => Some(format!("{before}\n{name}: {words}")),
            (None, Some(words)) if is_modified(fact) => Some(format!("{name}: {words}")),
            (before, words) => before.or(words),
        };
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

fn is_modified(fact: &Fact) -> bool {
    matches!(fact, Fact::ApprovalDecided { decision: Decision::Modify { .. }, .. })
}

/// The payloads that a fact names.
fn payloads(fact: &Fact) -> Vec<(&'static str, Digest)> {
    let end = |end: &StepEnd| match end {
        StepEnd::Succeeded { output } => ("output", *output),
        StepEnd::Failed { failure, .. } => ("failure", *failure),
    };
    match fact {
        Fact::RunCreated { goal, .. } => vec![("goal", *goal)],
        Fact::PlanRequested { pack, asked, .. } => {
            let route = asked.as_ref().map(|asked| ("route", asked.route));
            [("request", *pack)].into_iter().chain(route).collect()
        }
        Fact::PlanReplied { reasoning, .. } => reasoning.iter().map(|reasoning| ("reasoning", *reasoning)).collect(),
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
                Decision::Modify { args, .. } => Some(("approved", *args)),
                Decision::Approve | Decision::Reject => None,
            };
            args.into_iter().chain(reason.map(|reason| ("reason", reason))).collect()
        }
        Fact::StepEnded { end: ended, log, denials, .. } => {
            let more = [log.map(|log| ("log", log)), denials.map(|denials| ("denials", denials))];
            std::iter::once(end(ended)).chain(more.into_iter().flatten()).collect()
        }
        Fact::Called { args, end: ended, .. } => vec![("arguments", *args), end(ended)],
        Fact::StepSettled { settlement, .. } | Fact::CallSettled { settlement, .. } => match settlement {
            Settlement::Done { output } => vec![("output", *output)],
            Settlement::Failed { failure } => vec![("failure", *failure)],
            Settlement::Retry | Settlement::Unknown => Vec::new(),
        },
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
        "request" => asked_with(&serde_json::from_slice(bytes).ok()?)?,
        "reason" => serde_json::from_slice(bytes).ok()?,
        "failure" => serde_json::from_slice::<Failure>(bytes).ok()?.message,
        "failures" => {
            let failures: Vec<Failure> = serde_json::from_slice(bytes).ok()?;
            failures.into_iter().map(|failure| failure.message).collect::<Vec<_>>().join("; ")
        }
        "arguments" | "proposed" | "approved" | "output" | "answer" => {
            serde_json::from_slice::<Json>(bytes).ok()?.to_string()
        }
        _ => return None,
    };
    let short: String = words.chars().take(QUOTE_CHARS_MAX).collect();
    Some(if short.len() < words.len() { short + "…" } else { short })
}

/// What a planner that reads was shown, in a line.
fn asked_with(pack: &ContextPack) -> Option<String> {
    let PromptUsed { name, digest } = PromptUsed::of(pack.prompt?);
    let name = name.unwrap_or_else(|| "of another program".into());
    let of = pack.retrieval.as_ref().map_or(String::new(), |retrieval| format!(" of {}", retrieval.tools));
    let (tools, steps) = (pack.tools.len(), pack.observations.len());
    Some(format!("prompt {name} ({}), {tools}{of} tools, {steps} steps", digest.short()))
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
        Fact::StepReady { step, .. } => format!("{}{}", plainly(fact), sources(chain, step).await),
        fact => plainly(fact),
    })
}

/// Where the arguments of a step come from, beside what stands in its plan.
async fn sources(chain: &Chain<'_>, step: &StepId) -> String {
    let Some(told) = chain.story.steps.iter().find(|told| told.step == *step) else { return String::new() };
    let mut from: Vec<String> = match &told.role {
        Role::Do => Vec::new(),
        Role::Item { of } => vec![format!("an item of {of}")],
        Role::Undo { of } | Role::Reconcile { of } => vec![format!("the call {of}")],
    };
    if let Some(planned) = chain.planned(step).await {
        let of_list = planned.for_each.as_ref().map(|for_each| &for_each.list);
        let parts = [Some(&planned.args), of_list].into_iter().flatten();
        let named = parts.flat_map(|part| references(part).unwrap_or_default()).map(|found| found.step.to_owned());
        from.extend(named.collect::<BTreeSet<_>>());
    }
    if from.is_empty() { String::new() } else { format!(", of {}", from.join(", ")) }
}

/// What the facts say that need nothing but themselves.
fn plainly(fact: &Fact) -> String {
    match fact {
        Fact::RunCreated { planner, principal, parent, .. } => {
            let part = parent.as_ref().map_or(String::new(), |p| format!(", for step {} of run {}", p.step, p.run));
            format!("{}/{} asks; {planner} plans{part}", principal.tenant, principal.user)
        }
        Fact::SessionStarted { principal } => format!("a session of {}/{} begins", principal.tenant, principal.user),
        Fact::PlanRequested { turn, asked: Some(asked), .. } => {
            let price = asked.price.as_deref().unwrap_or("nowhere");
            format!("turn {turn}: model `{}` of tier `{}` is asked (price from {price})", asked.model, asked.tier)
        }
        Fact::PlanRequested { turn, .. } => format!("turn {turn}: the planner is asked"),
        Fact::PlanReplied { turn, model, tokens, usd_picos, .. } => {
            let model = model.as_ref().map_or(String::new(), |model| format!(" by `{}`", printable(model)));
            let tokens = tokens.map_or("tokens that nobody counted".into(), |t| format!("{} tokens", t.total()));
            let usd =
                usd_picos.map_or("a price that nobody knows".into(), |picos| format!("{} USD", usd(picos.into())));
            format!("turn {turn}: a reply{model}, for {tokens} and {usd}")
        }
        Fact::PlanFailed { turn, kind, .. } => format!("turn {turn}: the planner fails: {kind}"),
        Fact::PlanRejected { turn, .. } => format!("turn {turn}: the reply is no plan that can run"),
        Fact::PlanAccepted { turn, steps, .. } => {
            format!("turn {turn}: the plan is checked; it has {} steps", steps.len())
        }
        Fact::StepReady { step, duplicate_of: Some(other), .. } => {
            format!("{step} has its arguments; {other} asks for the very same call")
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
        Fact::StepSettled { settlement, by, .. } | Fact::CallSettled { settlement, by, .. } => match settlement {
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
    let writes: Vec<&HostCallRecord> = records.iter().filter(|record| record.is_write).collect();
    let named: Vec<String> = writes.iter().take(WRITES_NAMED_MAX).map(|record| named(record)).collect();
    let named = if named.is_empty() { String::new() } else { format!(": {}", named.join(", ")) };
    let more = if writes.len() > WRITES_NAMED_MAX { ", …" } else { "" };
    Ok(format!("; {} on record, of which {} write{named}{more}", records.len(), writes.len()))
}

fn named(record: &HostCallRecord) -> String {
    let was = match &record.done {
        _ if record.is_refused() => ", which was refused",
        Some(_) => "",
        None => ", which nobody saw end",
    };
    format!("{}{was}", record.about().unwrap_or(&record.what))
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
