//! What an explanation of policy says: plain values, for people and for programs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::{Ask, Effect, HttpGrant, Json, Mount, StateQuota, StateScope, ToolName};
use crate::policy::{LowerRule, Terms};

/// What policy says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Allow,
    /// A person must approve.
    Ask,
    Deny,
}

/// Why policy says what it says of a tool.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    pub tool: ToolName,
    pub verdict: Verdict,
    /// The rule that decides; `default` where none matches.
    pub rule: String,
    pub reason: String,
    /// Every rule that matches, in the order of the file.
    pub matching: Vec<Matching>,
    /// The worst that a call can do; `None` where it is denied.
    pub effect: Option<Effect>,
    /// Why a person is asked, where one is.
    pub person: Option<String>,
    /// Why a person is asked where the planner had read what tools brought, where one is.
    pub person_if_tainted: Option<String>,
    /// What a call may do and use; `None` where it is denied.
    pub grant: Option<Opened>,
    /// How it is taken back, what it costs, how long a person has; `None` where it is denied.
    pub terms: Option<Terms>,
    /// Rules' words that would lower its effect, were it the component that they name.
    pub not_lowered: Vec<LowerRule>,
    /// What the tool asks for and no rule gives.
    pub not_given: Vec<Ask>,
    /// What to write so that the verdict is another one.
    pub change: Vec<Edit>,
    /// What became of the request that was asked about.
    pub request: Option<Answer>,
}

/// A rule that matches the tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Matching {
    pub rule: String,
    /// The line on which it begins, from 1.
    pub line: Option<usize>,
    pub is_denying: bool,
    pub why: String,
}

/// What a call is given.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Opened {
    pub mounts: Vec<Mount>,
    /// Requests that it may send.
    pub http: Vec<HttpGrant>,
    pub secrets: Vec<OpenedSecret>,
    /// Names of the variables that it finds.
    pub env: Vec<String>,
    pub capabilities: Vec<&'static str>,
    /// What it may keep between calls, by whose it is.
    pub state: BTreeMap<StateScope, StateQuota>,
    /// Those that are not as they are by default.
    pub limits: Vec<ChangedLimit>,
}

/// A secret that a call's requests carry, by its name alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenedSecret {
    pub name: String,
    /// Whether the guest is given the value itself.
    pub is_revealed: bool,
    pub rule: String,
}

/// A limit that a rule sets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChangedLimit {
    pub name: String,
    pub value: Json,
    pub default: Json,
    pub rule: String,
}

/// A change of the policy file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Edit {
    /// The rule to change; `None` for a new one.
    pub rule: Option<String>,
    pub line: Option<usize>,
    /// TOML to write there.
    pub add: Option<String>,
    /// What to take out there.
    pub remove: Option<String>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    pub request: String,
    /// Whether a call may do it; the call itself may still need a person.
    pub is_granted: bool,
    pub reason: String,
    /// What to write so that it is granted; nothing where the tool does not ask for it, or it is.
    pub change: Vec<Edit>,
}
