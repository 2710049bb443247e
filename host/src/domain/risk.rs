//! What makes a proposed step risky: what the planner says of it, and what the host knows.
//!
//! The host's part decides; the planner's may only add to it. It is kept with the checked plan, so that whoever approves
//! or looks back sees what was known then.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::domain::{Cost, Effect};

/// Flags of one step that are kept: a planner that doubts more doubts all of it.
pub const FLAGS_MAX: usize = 8;

/// Characters of a flag.
pub const FLAG_CHARS_MAX: usize = 40;

/// What makes one proposed step risky.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Risk {
    pub planner: PlannerRisk,
    pub host: HostRisk,
}

/// What the planner says of its own step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannerRisk {
    /// From 0 to 1. Nobody has shown that such numbers are right, so nothing is decided by it.
    pub confidence: Option<f64>,
    /// Each asks for a person.
    pub flags: Vec<String>,
}

/// What the host knows of a step that a planner proposes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRisk {
    /// The worst that it can do.
    pub effect: Effect,
    /// Whether it changes nothing, or a call is known that takes it back.
    pub is_reversible: bool,
    /// Servers to which the call may send: `<scheme>://<host>:<port>`.
    pub egress: BTreeSet<String>,
    /// Names of the secrets that go with its requests.
    pub secrets: BTreeSet<String>,
    /// Arguments, by JSON pointer, that come from what other steps brought, and from which.
    pub taint: BTreeMap<String, BTreeSet<String>>,
    /// Whether the planner had read what tools brought before it proposed this: then that may speak through it.
    pub is_tainted: bool,
    /// Whether the tool brought nothing to this run before.
    pub is_first_use: bool,
    /// Whether the reply before this one was refused.
    pub is_repaired: bool,
    /// Whether the tool is among those that are near to the goal.
    pub is_near: bool,
    /// How far the tool nearest to the goal is ahead of the next, in thousandths.
    pub margin_permille: u32,
    /// The most that one attempt can cost.
    pub worst: Cost,
}
