//! What a goal may cost, and what was taken of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a run may cost. Counted in attempts, not successes. Each bound is reserved before a call and settled after it, so
/// that calls side by side cannot pass it together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Requests to the planner, repairs included.
    pub planner_turns_max: u32,
    /// Calls begun, those of runs within the run included.
    pub calls_max: u32,
    /// Calls begun of one tool.
    pub calls_per_tool_max: u32,
    /// Calls under way at one time: two cores are busy with four, as some wait for files.
    pub parallel_max: u32,
    /// Runs within runs: 0 allows none.
    pub depth_max: u32,
    /// How often the same tool with the same arguments may fail in the same way before the run ends.
    pub same_failures_max: u32,
    /// Wall time of one stretch of work by one process, in milliseconds.
    pub wall_ms_max: u64,
    /// Fuel of all calls.
    pub fuel_max: u64,
    /// Bytes that all calls together bring and send.
    pub bytes_max: u64,
    /// Money, in millionths of a US dollar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_micros_max: Option<u64>,
    /// Tokens of all requests to models and their replies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_max: Option<u64>,
    /// How often in a row a planner may make a refused reply good; one that fails twice in the same way may not.
    pub repairs_max: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            planner_turns_max: 8,
            calls_max: 200,
            calls_per_tool_max: 100,
            parallel_max: 8,
            depth_max: 3,
            same_failures_max: 3,
            wall_ms_max: 600_000,
            fuel_max: 4_000_000_000_000,
            bytes_max: 1 << 30,
            usd_micros_max: None,
            tokens_max: None,
            repairs_max: 2,
        }
    }
}

/// The bounds that a run within a run sets for itself: what is absent is what the run around it has left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetPatch {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planner_turns_max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_per_tool_max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel_max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth_max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_failures_max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_ms_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_micros_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_max: Option<u64>,
}

impl BudgetPatch {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What one call takes of a budget: the most that it could, while it runs; what it did, after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cost {
    pub calls: u32,
    /// Requests to planners, of runs within the run.
    #[serde(skip_serializing_if = "is_zero")]
    pub turns: u32,
    pub fuel: u64,
    /// Bytes brought and sent.
    pub bytes: u64,
    pub usd_micros: u64,
    /// Tokens of requests to models, and of their replies.
    #[serde(skip_serializing_if = "is_none")]
    pub tokens: u64,
    /// Calls under way at one time, of a run within the run: held while it runs, and never spent.
    #[serde(skip_serializing_if = "is_zero")]
    pub parallel: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none(n: &u64) -> bool {
    *n == 0
}

impl Cost {
    /// Returns whether it costs nothing at all.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the sum, each part of which stays at its largest value.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            turns: self.turns.saturating_add(other.turns),
            fuel: self.fuel.saturating_add(other.fuel),
            bytes: self.bytes.saturating_add(other.bytes),
            usd_micros: self.usd_micros.saturating_add(other.usd_micros),
            tokens: self.tokens.saturating_add(other.tokens),
            parallel: self.parallel.saturating_add(other.parallel),
        }
    }

    /// Returns the difference, each part of which stays at 0.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(other.calls),
            turns: self.turns.saturating_sub(other.turns),
            fuel: self.fuel.saturating_sub(other.fuel),
            bytes: self.bytes.saturating_sub(other.bytes),
            usd_micros: self.usd_micros.saturating_sub(other.usd_micros),
            tokens: self.tokens.saturating_sub(other.tokens),
            parallel: self.parallel.saturating_sub(other.parallel),
        }
    }
}
