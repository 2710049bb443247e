//! A tool as a host tells of it: its contract, and what policy and lock say.

use serde::Serialize;

use crate::domain::{Ask, Digest, Effect, Failure, Json, ToolName};
use crate::registry::{PinState, VerifiedTool};

/// A tool, and what policy says of it.
#[derive(Clone, Debug, Serialize)]
pub struct ToolView {
    pub name: ToolName,
    pub summary: String,
    /// The worst it could do under policy; `None` where it is denied.
    pub effect: Option<Effect>,
    pub denied: Option<Failure>,
    pub digest: Digest,
    pub input_schema: Json,
    pub output_schema: Json,
    pub asks: Vec<Ask>,
    /// How its component stands to its pin; `None` where there is no lock.
    pub lock: Option<PinState>,
}

impl ToolView {
    pub(super) fn new(tool: &VerifiedTool, effect: Result<Effect, Failure>, lock: Option<PinState>) -> Self {
        let contract = tool.tool();
        Self {
            name: contract.name.clone(),
            summary: contract.summary.clone(),
            effect: effect.as_ref().ok().copied(),
            denied: effect.err(),
            digest: *tool.digest(),
            input_schema: contract.input_schema.clone(),
            output_schema: contract.output_schema.clone(),
            asks: contract.asks.iter().copied().collect(),
            lock,
        }
    }
}
