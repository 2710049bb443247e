//! Plain words without a model, over the tools of a host.

use crate::domain::Failure;
use crate::host::Host;
use crate::orchestrator::offered;
use crate::planner::suggest::{Suggestion, suggest};

/// Tools that a suggestion names: a person reads no more.
const TOOLS_SUGGESTED_MAX: usize = 5;

impl Host {
    /// Ranks the tools that policy allows by plain words, and fills in the form of the best, or of the one called `tool`.
    /// Nothing runs.
    ///
    /// # Errors
    /// `data.not_found` where no tool is called so; `data.input_size` for more words than are read.
    pub fn suggest(&self, words: &str, tool: Option<&str>) -> Result<Suggestion, Failure> {
        let parts = &self.0.parts;
        suggest(words, &offered(&parts.catalog, &parts.policy), tool, TOOLS_SUGGESTED_MAX)
    }
}
