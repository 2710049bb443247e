//! What policy makes of a tool before it is called: how bad it can be, what it may cost and touch, and how it is taken back.

use std::collections::BTreeSet;

use crate::domain::{Access, CallTemplate, Cost, Effect, Failure, Grant};
use crate::policy::authorize::{StepAsks, asks, granted, reach};
use crate::policy::{Policy, RunGrant};
use crate::registry::VerifiedTool;

/// What the check of a plan needs to know of a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// The worst that it can do.
    pub effect: Effect,
    /// The most that one call may cost.
    pub cost: Cost,
    /// What it may change: `files:<directory>`, `<scheme>://<host>:<port>`, `state:<scope>`. Empty for one that changes
    /// nothing, and for one of which that is all that is known.
    pub touches: Vec<String>,
    /// The rule because of which a person is asked before each call.
    pub asks: Option<String>,
    /// The rule because of which a person is asked where the planner had read what tools brought.
    pub asks_tainted: Option<String>,
    /// Servers to which a call may send: `<scheme>://<host>:<port>`.
    pub egress: BTreeSet<String>,
    /// Names of the secrets that go with its requests.
    pub secrets: BTreeSet<String>,
    /// The call that takes a call of it back. Its tool may be a function of the same component.
    pub undo: Option<CallTemplate>,
    /// The call that tells what became of a call of it.
    pub reconcile: Option<CallTemplate>,
    /// Calls of it that may be under way in one run.
    pub calls_parallel_max: Option<u32>,
}

impl About {
    /// Makes what is known of a tool of which only its effect and its cost are.
    pub fn of_effect(effect: Effect, cost: Cost) -> Self {
        Self {
            effect,
            cost,
            touches: Vec::new(),
            asks: None,
            asks_tainted: None,
            egress: BTreeSet::new(),
            secrets: BTreeSet::new(),
            undo: None,
            reconcile: None,
            calls_parallel_max: None,
        }
    }
}

/// Returns what policy makes of `tool`.
///
/// # Errors
/// `policy.denied`, naming the rule.
pub fn about(policy: &Policy, tool: &VerifiedTool) -> Result<About, Failure> {
    let granted = granted(policy, &RunGrant::default(), tool, None)?;
    let (grant, terms) = (granted.grant, granted.terms);
    let effect = reach(&grant, tool, &terms);
    Ok(About {
        effect,
        cost: Cost { usd_micros: terms.price_usd_micros.unwrap_or(0), ..cost(&grant) },
        touches: if effect.is_write() { touches(&grant) } else { Vec::new() },
        asks: asks(effect, granted.asking, StepAsks::default(), &grant),
        asks_tainted: asks(effect, granted.asking, StepAsks { is_tainted: true, ..StepAsks::default() }, &grant),
        egress: grant.http.iter().map(|http| http.to.server()).collect(),
        secrets: grant.secrets.iter().map(|secret| secret.name.clone()).collect(),
        undo: terms.undo,
        reconcile: terms.reconcile,
        calls_parallel_max: terms.calls_parallel_max,
    })
}

/// The limits of the grant are the most that a call can use.
fn cost(grant: &Grant) -> Cost {
    let limits = &grant.limits;
    let bytes = limits.output_bytes_max.saturating_add(limits.egress_bytes_max);
    Cost { calls: 1, fuel: limits.fuel, bytes, ..Cost::default() }
}

fn touches(grant: &Grant) -> Vec<String> {
    let is_writing = |mount: &&crate::domain::Mount| mount.access == Access::ReadWrite;
    let files = grant.mounts.iter().filter(is_writing).map(|mount| format!("files:{}", mount.host.display()));
    let writes = grant.http.iter().filter(|http| http.methods.iter().any(|method| !method.is_read()));
    let servers = writes.map(|http| http.to.server());
    let state = grant.state.keys().filter_map(|scope| {
        let name = serde_json::to_value(scope).ok()?;
        Some(format!("state:{}", name.as_str()?))
    });
    let mut touches: Vec<_> = files.chain(servers).chain(state).collect();
    touches.sort();
    touches.dedup();
    touches
}

/// Answers whether two calls that change something may change the same: an empty list is anything, a directory holds those
/// below it, and `*.` before a host's name stands for one label.
pub fn may_touch_same(one: &[String], other: &[String]) -> bool {
    one.is_empty() || other.is_empty() || one.iter().any(|a| other.iter().any(|b| overlap(a, b)))
}

fn overlap(a: &str, b: &str) -> bool {
    match (a.strip_prefix("files:"), b.strip_prefix("files:")) {
        (Some(a), Some(b)) => {
            let (a, b) = (std::path::Path::new(a), std::path::Path::new(b));
            a.starts_with(b) || b.starts_with(a)
        }
        _ => a == b || is_below(a, b) || is_below(b, a),
    }
}

/// Whether `https://*.example.com:443` stands for `server`.
fn is_below(pattern: &str, server: &str) -> bool {
    let (Some((scheme, pattern)), Some((other, host))) = (pattern.split_once("://"), server.split_once("://")) else {
        return false;
    };
    let parent = pattern.strip_prefix("*.");
    scheme == other && parent.is_some() && host.split_once('.').map(|(_, rest)| rest) == parent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_may_change_the_same_are_told_apart_from_others() {
        let touches = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let same = |a: &[&str], b: &[&str]| {
            let (a, b) = (touches(a), touches(b));
            assert_eq!(may_touch_same(&a, &b), may_touch_same(&b, &a));
            may_touch_same(&a, &b)
        };
        assert!(same(&["files:/srv/a"], &["files:/srv/a/b", "state:user"]));
        assert!(!same(&["files:/srv/a"], &["files:/srv/ab"]));
        assert!(same(&["https://*.example.com:443"], &["https://api.example.com:443"]));
        assert!(!same(&["https://*.example.com:443"], &["https://a.b.example.com:443", "http://api.example.com:443"]));
        assert!(!same(&["https://api.example.com:443"], &["state:user"]));
        assert!(same(&[], &["state:user"]) && same(&["state:user"], &["state:user"]));
    }
}
