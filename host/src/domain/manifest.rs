//! What a component says of itself, in its custom section `cofferdam:manifest`. Untrusted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::{CallTemplate, Effect, StateScope};

/// A capability that a tool asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ask {
    #[serde(rename = "files.read")]
    FilesRead,
    #[serde(rename = "files.write")]
    FilesWrite,
    #[serde(rename = "log")]
    Log,
    #[serde(rename = "progress")]
    Progress,
    #[serde(rename = "clock")]
    Clock,
    #[serde(rename = "random")]
    Random,
    #[serde(rename = "http")]
    Http,
    #[serde(rename = "env")]
    Env,
    #[serde(rename = "secrets")]
    Secrets,
    #[serde(rename = "state.session")]
    StateSession,
    #[serde(rename = "state.user")]
    StateUser,
    #[serde(rename = "state.workflow")]
    StateWorkflow,
}

impl fmt::Display for Ask {
    /// Writes the name that manifests use.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = serde_json::to_value(self).unwrap_or_default();
        f.write_str(name.as_str().unwrap_or_default())
    }
}

impl Ask {
    /// Returns the state that is asked for, where it is state.
    pub fn scope(self) -> Option<StateScope> {
        match self {
            Self::StateSession => Some(StateScope::Session),
            Self::StateUser => Some(StateScope::User),
            Self::StateWorkflow => Some(StateScope::Workflow),
            _ => None,
        }
    }

    /// Returns what a tool asks for to have state of this scope.
    pub fn of_state(scope: StateScope) -> Self {
        match scope {
            StateScope::Session => Self::StateSession,
            StateScope::User => Self::StateUser,
            StateScope::Workflow => Self::StateWorkflow,
        }
    }

    /// Returns what a rule writes under `capabilities` to give it; `None` where a rule gives it by a key of its own.
    pub fn capability(self) -> Option<&'static str> {
        match self {
            Self::FilesRead | Self::FilesWrite | Self::Http | Self::Env | Self::Secrets => None,
            Self::StateSession | Self::StateUser | Self::StateWorkflow => None,
            Self::Log => Some("log"),
            Self::Progress => Some("progress"),
            Self::Clock => Some("clock"),
            Self::Random => Some("random"),
        }
    }
}

/// What a component says of itself. Names are in kebab-case, as in WIT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format: 0.
    pub manifest: u32,
    pub component: String,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub summary: String,
    #[serde(default)]
    pub tools: BTreeMap<String, ToolManifest>,
    #[serde(default)]
    pub types: BTreeMap<String, TypeManifest>,
}

/// What a component says of one of its functions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolManifest {
    #[serde(default)]
    pub summary: String,
    /// Parameter name → text.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// May only raise what the host computes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    #[serde(default)]
    pub asks: BTreeSet<Ask>,
    /// The call that takes a call of this tool back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<CallTemplate>,
    /// The call that tells what became of a call of this tool: `done` with its output, `not-done` or `unknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconcile: Option<CallTemplate>,
    /// There for other tools' undo and reconcile: not offered to planners.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub internal: bool,
}

/// What a component says of one of its types.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TypeManifest {
    #[serde(default)]
    pub text: String,
    /// Field or case name → text.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
}
