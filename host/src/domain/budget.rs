//! What a goal may cost.

use serde::{Deserialize, Serialize};

/// What a run may cost. Counted in attempts, not successes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Requests to the planner, repairs included.
    pub planner_turns_max: u32,
    /// Calls begun.
    pub calls_max: u32,
    /// Calls under way at one time: two cores are busy with four, as some wait for files.
    pub parallel_max: u32,
    /// Wall time of one stretch of work by one process, in milliseconds.
    pub wall_ms_max: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { planner_turns_max: 8, calls_max: 200, parallel_max: 8, wall_ms_max: 600_000 }
    }
}
