//! May this step run? A pure answer: allow, ask a person, or deny.

use crate::domain::{Cost, Digest, Effect, Failure, Grant, Kind, Principal, ReadyStep, RunId, StepId, ToolName};
use crate::policy::intersect::intersect;
use crate::policy::{ApprovalRule, Call, Policy, Rule, TaintRule, Terms};
use crate::registry::VerifiedTool;

/// What the run itself may do and has left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunGrant {
    pub principal: Principal,
    /// What is left of the run's wall time, in milliseconds; `None` for a lone call.
    pub wall_ms_left: Option<u64>,
    /// What may be reserved of its fuel and bytes; `None` for a lone call.
    pub cost_left: Option<Cost>,
}

/// A person's approval of one exact call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Digest of what the person saw.
    pub binding: Digest,
    pub by: String,
}

/// What policy says of a step.
pub enum Decision {
    Allow(Box<Call>),
    /// A person must approve exactly what `binding` names.
    Ask {
        binding: Digest,
        effect: Effect,
        rule: String,
        /// How long the person has to answer, in milliseconds; then the answer is no.
        expires_ms: u64,
    },
    Deny(Failure),
}

/// Decides about one step.
pub fn authorize(
    policy: &Policy,
    run: &RunGrant,
    step: &ReadyStep,
    tool: &VerifiedTool,
    approval: Option<&Approval>,
) -> Decision {
    let Granted { grant, asking, terms } = match granted(policy, run, tool, step.timeout_ms) {
        Ok(granted) => granted,
        Err(failure) => return Decision::Deny(failure),
    };
    let effect = reach(&grant, tool, &terms);
    let step_asks = StepAsks { approval: step.approval, is_tainted: step.is_tainted };
    if let Some(rule) = asks(effect, asking, step_asks, &grant) {
        // Less of the run is left with each moment that the person thinks: what they approve has the whole deadline.
        let unhurried = RunGrant { wall_ms_left: None, cost_left: None, ..run.clone() };
        let binding = match granted(policy, &unhurried, tool, step.timeout_ms) {
            Ok(whole) => binding(policy, run, step, tool, (effect, &whole.grant)),
            Err(failure) => return Decision::Deny(failure),
        };
        if approval.is_none_or(|approval| approval.binding != binding) {
            return Decision::Ask { binding, effect, rule, expires_ms: terms.approval_expires_ms };
        }
    }
    Decision::Allow(Box::new(Call::new(tool.clone(), step.clone(), run.principal.clone(), (grant, effect))))
}

/// What the rules say about asking a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asking {
    pub(super) approval: Option<ApprovalRule>,
    pub(super) tainted: TaintRule,
}

/// What a step says about asking a person. It may only add to what the rules say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StepAsks {
    pub(super) approval: bool,
    pub(super) is_tainted: bool,
}

/// Returns the worst that `tool` could do under `policy`, or why it may not run at all.
///
/// # Errors
/// `policy.denied`, naming the rule.
pub fn effect(policy: &Policy, tool: &VerifiedTool) -> Result<Effect, Failure> {
    let granted = granted(policy, &RunGrant::default(), tool, None)?;
    Ok(reach(&granted.grant, tool, &granted.terms))
}

/// How far a call reaches: what the host computes from the grant, which a manifest may only raise; or less, where an operator
/// looked at this very component and says so.
pub(super) fn reach(grant: &Grant, tool: &VerifiedTool, terms: &Terms) -> Effect {
    let raised = tool.tool().effect_declared.map_or(grant.effect(), |declared| declared.max(grant.effect()));
    terms.lowered.as_ref().map_or(raised, |word| word.effect.min(raised))
}

/// The grant, the strictest word of its rules about approval, and what else they say.
pub(super) struct Granted {
    pub(super) grant: Grant,
    pub(super) asking: Asking,
    pub(super) terms: Terms,
}

pub(super) fn granted(
    policy: &Policy,
    run: &RunGrant,
    tool: &VerifiedTool,
    timeout_ms: Option<u64>,
) -> Result<Granted, Failure> {
    let rules = allowing(policy, tool.name())?;
    let terms = Terms::of(&rules, tool)?;
    let grant = intersect(&tool.tool().asks, &rules, run, timeout_ms)?;
    Ok(Granted { grant, asking: Asking { approval: strictest(&rules), tainted: tainted(&rules) }, terms })
}

/// Returns the rules that allow the tool.
///
/// # Errors
/// `policy.denied` where one denies it, or there is none.
pub(super) fn allowing<'a>(policy: &'a Policy, name: &ToolName) -> Result<Vec<&'a Rule>, Failure> {
    if let Some(rule) = policy.rules.iter().find(|rule| rule.deny.iter().any(|pattern| pattern.matches(name))) {
        return Err(
            Failure::new(Kind::PolicyDenied, format!("call `{name}`: rule `{}` denies it", rule.name)).hint(&rule.why)
        );
    }
    let rules: Vec<&Rule> =
        policy.rules.iter().filter(|rule| rule.allow.iter().any(|pattern| pattern.matches(name))).collect();
    if rules.is_empty() { Err(no_rule(name)) } else { Ok(rules) }
}

/// One rule that asks is enough. To go without a person, every rule that gives something must say so: a broad `none` does
/// not speak for a rule that left the question open.
fn strictest(rules: &[&Rule]) -> Option<ApprovalRule> {
    if rules.iter().any(|rule| rule.approval == Some(ApprovalRule::Ask)) {
        return Some(ApprovalRule::Ask);
    }
    rules.iter().all(|rule| rule.approval == Some(ApprovalRule::None)).then_some(ApprovalRule::None)
}

/// To go without a person, every rule that gives something must say so.
fn tainted(rules: &[&Rule]) -> TaintRule {
    let is_trusting = rules.iter().all(|rule| rule.tainted == Some(TaintRule::Allow));
    if is_trusting { TaintRule::Allow } else { TaintRule::Ask }
}

fn no_rule(name: &ToolName) -> Failure {
    Failure::new(Kind::PolicyDenied, format!("call `{name}`: no rule allows it (rule `default`)"))
        .hint(format!("add a rule with `allow = [\"{name}\"]` to policy.toml"))
}

/// Returns the rule that asks for a person, if one does. A plan may only add to what policy asks.
pub(super) fn asks(effect: Effect, asking: Asking, step: StepAsks, grant: &Grant) -> Option<String> {
    let named = || grant.rules.first().cloned().unwrap_or_default();
    match asking.approval {
        Some(ApprovalRule::Ask) => Some(named()),
        None if effect == Effect::Once => Some(format!("{} (an effect that stays needs a person)", named())),
        _ if step.is_tainted && effect.is_write() && asking.tainted == TaintRule::Ask => {
            Some(format!("{} (the planner had read what tools brought)", named()))
        }
        _ if step.approval => Some("the plan asks for it".into()),
        _ => None,
    }
}

/// The digest of all that a person approves: change any of it, and the approval is for something else. What the rules
/// come to is part of it beside their text: the same text gives other directories elsewhere, and a policy made in code
/// has none.
fn binding(
    policy: &Policy,
    run: &RunGrant,
    step: &ReadyStep,
    tool: &VerifiedTool,
    (effect, grant): (Effect, &Grant),
) -> Digest {
    let (run_id, step_id): (&RunId, &StepId) = (&step.run, &step.step);
    Digest::of_parts(&[
        run_id.as_str().as_bytes(),
        step_id.as_str().as_bytes(),
        run.principal.owner().as_bytes(),
        tool.name().to_string().as_bytes(),
        tool.digest().as_bytes(),
        step.args_digest.as_bytes(),
        effect.to_string().as_bytes(),
        policy.digest().as_bytes(),
        digest(grant).as_bytes(),
    ])
}

fn digest(grant: &Grant) -> Digest {
    // A path that is no text has no JSON.
    let json = serde_json::to_value(grant);
    json.map_or_else(|_| Digest::of(format!("{grant:?}").as_bytes()), |json| Digest::of_json(&json))
}

/// Returns the directories that a call of `tool` would see, for the person who is asked.
pub fn mounts(policy: &Policy, tool: &VerifiedTool) -> Vec<crate::domain::Mount> {
    granted(policy, &RunGrant::default(), tool, None).map(|granted| granted.grant.mounts).unwrap_or_default()
}
