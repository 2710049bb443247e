//! What is held fast of a component: all that a planner reads of it and policy decides by.
//!
//! A pin is made of a contract and compared with another pin. It leaves out what neither a planner nor policy sees: the
//! version, the interface that a function stands in, and the type of a declared error.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{Ask, CallTemplate, Contract, Digest, Effect, Json, ToolContract};

/// Interfaces that a compiler's standard library imports as it likes, in the versions that it knows. Of a component that is
/// built from source they say which compiler built it; what it may do with them is in what it asks for.
const FLOOR: [&str; 5] = ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/"];

/// Where the bytes of a component come from, which decides whether a pin holds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// A file that somebody gave: its digest is pinned.
    #[default]
    File,
    /// Built here from source that its user has: its contract is pinned, its digest is not.
    Crate,
}

/// What is held fast of one component.
#[derive(Clone, Debug, PartialEq)]
pub struct Pin {
    pub component: String,
    /// `None` for a component that is built from source.
    pub digest: Option<Digest>,
    pub summary: String,
    /// Sorted. Of a component that is built from source, without those of its compiler.
    pub imports: Vec<String>,
    /// By the function's name.
    pub functions: BTreeMap<String, PinnedFunction>,
}

/// What is held fast of one function.
#[derive(Clone, Debug, PartialEq)]
pub struct PinnedFunction {
    pub summary: String,
    pub effect_declared: Option<Effect>,
    pub asks: BTreeSet<Ask>,
    pub input_schema: Json,
    pub output_schema: Json,
    pub undo: Option<CallTemplate>,
    pub reconcile: Option<CallTemplate>,
    pub is_internal: bool,
}

impl Pin {
    /// Returns the pin of a component with this contract.
    pub fn of(contract: &Contract, origin: Origin) -> Self {
        Self {
            component: contract.component.clone(),
            digest: (origin == Origin::File).then_some(contract.digest),
            summary: contract.summary.clone(),
            imports: contract.imports.iter().filter(|import| is_pinned(import, origin)).cloned().collect(),
            functions: contract.tools.iter().map(|tool| (tool.name.function().to_owned(), tool.into())).collect(),
        }
    }
}

fn is_pinned(import: &str, origin: Origin) -> bool {
    origin == Origin::File || !FLOOR.iter().any(|package| import.starts_with(package))
}

impl From<&ToolContract> for PinnedFunction {
    fn from(tool: &ToolContract) -> Self {
        Self {
            summary: tool.summary.clone(),
            effect_declared: tool.effect_declared,
            asks: tool.asks.clone(),
            input_schema: tool.input_schema.clone(),
            output_schema: tool.output_schema.clone(),
            undo: tool.undo.clone(),
            reconcile: tool.reconcile.clone(),
            is_internal: tool.is_internal,
        }
    }
}
