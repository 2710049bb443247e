//! What the host derived from a component: typed inputs and outputs, imports, and what it asks for.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::domain::{Ask, CallTemplate, Digest, Effect, Json, ToolName, WitType};

/// The contract of a component, derived by reading it, never by running it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contract {
    pub component: String,
    /// Digest of the file's bytes.
    pub digest: Digest,
    pub version: String,
    pub summary: String,
    /// Imported interfaces with their versions, sorted.
    pub imports: Vec<String>,
    pub has_manifest: bool,
    /// Sorted by name.
    pub tools: Vec<ToolContract>,
    /// Exported functions that are not tools, and why.
    pub left_out: Vec<(String, String)>,
}

/// The contract of one function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolContract {
    pub name: ToolName,
    pub export: Export,
    pub summary: String,
    pub params: Vec<Param>,
    pub returns: Returns,
    /// JSON Schema 2020-12 of the arguments: an object.
    pub input_schema: Json,
    /// JSON Schema 2020-12 of the result.
    pub output_schema: Json,
    /// What it asks for; without a manifest, all that its component's imports could use.
    pub asks: BTreeSet<Ask>,
    /// What its manifest says; it can only raise what the host computes.
    pub effect_declared: Option<Effect>,
    /// The call that takes a call of this tool back.
    /// Its tool's name is in full.
    pub undo: Option<CallTemplate>,
    /// The call that tells what became of a call of this tool.
    pub reconcile: Option<CallTemplate>,
    /// Not offered to planners: it is there to take back, or to look up, what other tools do.
    pub is_internal: bool,
}

/// Where the function is exported: bare, or in an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// The interface's full name with version, such as `tools:csv/csv@0.1.0`.
    pub interface: Option<String>,
    pub function: String,
}

/// One parameter. `name` is in kebab-case, as in WIT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Param {
    pub name: String,
    pub ty: WitType,
    pub text: String,
}

/// What a function returns: `result<ok, err>` is taken apart, so that its `err` becomes a declared failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Returns {
    Nothing,
    Value(WitType),
    Fallible { ok: Option<WitType>, err: Option<WitType> },
}

impl Contract {
    /// Returns the contract of the function called `function`.
    pub fn tool(&self, function: &str) -> Option<&ToolContract> {
        self.tools.iter().find(|tool| tool.name.function() == function)
    }
}
