//! What rules say of a tool beyond what its calls are given: how it is taken back, what became of it, what it costs, how
//! long a person has to answer, and by how much less than it seems it reaches.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{CallTemplate, Digest, Effect, Failure, Kind, TemplateUse, ToolName};
use crate::policy::authorize::allowing;
use crate::policy::{Policy, Rule};
use crate::registry::VerifiedTool;

/// How long a person has to answer where no rule says otherwise, in milliseconds: a day, so that who sees it in the evening
/// may sleep over it.
pub const APPROVAL_EXPIRES_MS_DEFAULT: u64 = 24 * 60 * 60 * 1_000;

/// The longest that a rule may give a person, in milliseconds: 30 days. What waits for longer was forgotten.
pub const APPROVAL_EXPIRES_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1_000;

/// The highest price of one call, in millionths of a US dollar: a million dollars is a slip of the pen.
const PRICE_USD_MICROS_MAX: u64 = 1_000_000_000_000;

/// An operator's word that one function of one component reaches less far than what it is given allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LowerRule {
    pub tool: ToolName,
    /// The component that was looked at; of any other the word does not speak.
    pub digest: Digest,
    pub effect: Effect,
    /// What makes the operator sure.
    pub why: String,
}

/// What the rules that allow a tool say of it together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Terms {
    /// The call that takes a call of the tool back: a rule's, else what the tool names. The tool's name is in full.
    pub undo: Option<CallTemplate>,
    /// The call that tells what became of a call of the tool, likewise.
    pub reconcile: Option<CallTemplate>,
    /// What one call costs, in millionths of a US dollar; `None` where no rule tells.
    pub price_usd_micros: Option<u64>,
    /// How long a person has to answer, in milliseconds.
    pub approval_expires_ms: u64,
    /// Calls of the tool that may be under way in one run.
    pub calls_parallel_max: Option<u32>,
    /// The effect that a rule lowers it to, whatever is granted.
    pub lowered: Option<LowerRule>,
}

/// Returns what the rules of `policy` say of `tool`.
///
/// # Errors
/// `policy.denied` where a rule denies it or none allows it, or where rules contradict each other.
pub fn terms(policy: &Policy, tool: &VerifiedTool) -> Result<Terms, Failure> {
    Terms::of(&allowing(policy, tool.name())?, tool)
}

impl Terms {
    /// Of prices the highest holds, of times and numbers the lowest: each rule may only add to what another one says.
    pub(super) fn of(rules: &[&Rule], tool: &VerifiedTool) -> Result<Self, Failure> {
        let (name, own) = (tool.name(), tool.tool());
        let expires = rules.iter().filter_map(|rule| rule.approval_expires_ms).min();
        Ok(Self {
            undo: template(rules, name, "undo", own.undo.as_ref(), |rule| &rule.undo)?,
            reconcile: template(rules, name, "reconcile", own.reconcile.as_ref(), |rule| &rule.reconcile)?,
            price_usd_micros: rules.iter().filter_map(|rule| rule.price_usd_micros).max(),
            approval_expires_ms: expires.unwrap_or(APPROVAL_EXPIRES_MS_DEFAULT),
            calls_parallel_max: rules.iter().filter_map(|rule| rule.calls_parallel_max).min(),
            lowered: lowered(rules, tool).cloned(),
        })
    }
}

type Templates = BTreeMap<ToolName, CallTemplate>;

fn template(
    rules: &[&Rule],
    name: &ToolName,
    what: &str,
    own: Option<&CallTemplate>,
    of: fn(&Rule) -> &Templates,
) -> Result<Option<CallTemplate>, Failure> {
    let full = |template: &CallTemplate| {
        template.clone().in_full(name.component()).map_err(|why| {
            Failure::new(Kind::PolicyDenied, format!("call `{name}`: its `{what}` names no tool: {why}"))
        })
    };
    let mut said: Option<CallTemplate> = None;
    for rule in rules {
        let Some(template) = of(rule).get(name) else { continue };
        let template = full(template)?;
        if said.as_ref().is_some_and(|earlier| *earlier != template) {
            let message = format!("call `{name}`: rule `{}` gives it another `{what}` than an earlier rule", rule.name);
            return Err(Failure::new(Kind::PolicyDenied, message).hint("let the rules agree"));
        }
        said = Some(template);
    }
    match said {
        Some(said) => Ok(Some(said)),
        None => own.map(full).transpose(),
    }
}

/// Of several words about the same function the most careful one holds.
fn lowered<'a>(rules: &[&'a Rule], tool: &VerifiedTool) -> Option<&'a LowerRule> {
    let words = rules.iter().flat_map(|rule| &rule.lower);
    words.filter(|word| word.tool == *tool.name() && word.digest == *tool.digest()).max_by_key(|word| word.effect)
}

impl Rule {
    /// Answers whether the rule says something of its tools beyond what they are given.
    pub(super) fn has_terms(&self) -> bool {
        !self.undo.is_empty()
            || !self.reconcile.is_empty()
            || !self.lower.is_empty()
            || self.approval_expires_ms.is_some()
            || self.price_usd_micros.is_some()
            || self.calls_parallel_max.is_some()
    }

    /// Returns what is wrong with what the rule says of its tools.
    pub(super) fn terms_flaw(&self) -> Option<String> {
        let templates = |templates: &Templates, what: &str, usage: TemplateUse| {
            templates.iter().find_map(|(name, template)| {
                let flaw = template.tool_name(name.component()).err().or_else(|| template.flaw(usage));
                flaw.or_else(|| self.strange(name)).map(|flaw| format!("`{what}` of `{name}`: {flaw}"))
            })
        };
        templates(&self.undo, "undo", TemplateUse::Undo)
            .or_else(|| templates(&self.reconcile, "reconcile", TemplateUse::Reconcile))
            .or_else(|| self.lower.iter().find_map(|word| self.lower_flaw(word)))
            .or_else(|| self.numbers_flaw())
    }

    fn lower_flaw(&self, word: &LowerRule) -> Option<String> {
        let unsure = word.why.trim().is_empty().then(|| "it tells no `why`".to_owned());
        unsure.or_else(|| self.strange(&word.tool)).map(|flaw| format!("`lower` of `{}`: {flaw}", word.tool))
    }

    fn strange(&self, name: &ToolName) -> Option<String> {
        let is_allowed = self.allow.iter().any(|pattern| pattern.matches(name));
        (!is_allowed).then(|| "the rule allows no such tool".into())
    }

    fn numbers_flaw(&self) -> Option<String> {
        let expires = 1..=APPROVAL_EXPIRES_MS_MAX;
        if self.approval_expires_ms.is_some_and(|ms| !expires.contains(&ms)) {
            return Some(format!("`approval_expires_ms` is from 1 to {APPROVAL_EXPIRES_MS_MAX}"));
        }
        if self.price_usd_micros.is_some_and(|price| price > PRICE_USD_MICROS_MAX) {
            return Some(format!("`price_usd_micros` is at most {PRICE_USD_MICROS_MAX}"));
        }
        (self.calls_parallel_max == Some(0)).then(|| "`calls_parallel_max` is at least 1: to allow none, deny".into())
    }
}
