//! What a request to a model used, and what that costs. Pure arithmetic on whole numbers.

use serde::{Deserialize, Serialize};

/// Tokens of one request, or of many, as providers count them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tokens {
    /// All of the request: those read from a cache, and those written to one, included.
    pub prompt: u64,
    /// Of `prompt`: read from the provider's cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cached: u64,
    /// Of `prompt`: written to a cache that lives five minutes.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_write_5m: u64,
    /// Of `prompt`: written to a cache that lives an hour.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_write_1h: u64,
    /// All of the reply, reasoning included.
    pub reply: u64,
    /// Of `reply`: reasoning.
    #[serde(skip_serializing_if = "is_zero")]
    pub reasoning: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Tokens {
    /// Returns the sum, each part of which stays at its largest value.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            prompt: self.prompt.saturating_add(other.prompt),
            cached: self.cached.saturating_add(other.cached),
            cache_write_5m: self.cache_write_5m.saturating_add(other.cache_write_5m),
            cache_write_1h: self.cache_write_1h.saturating_add(other.cache_write_1h),
            reply: self.reply.saturating_add(other.reply),
            reasoning: self.reasoning.saturating_add(other.reasoning),
        }
    }

    /// Returns all tokens, of request and reply.
    pub fn total(self) -> u64 {
        self.prompt.saturating_add(self.reply)
    }
}

/// What a model charges: by the length of the request, where that matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Where the numbers come from: `cofferdam.toml`, or the vendored data with its date.
    pub source: String,
    /// Ascending by `prompt_tokens_min`, the first at 0.
    pub bands: Vec<PriceBand>,
}

/// Prices in picodollars (1e-12 US dollars) a token, for requests of at least so many tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceBand {
    pub prompt_tokens_min: u64,
    pub input: u64,
    pub cached: u64,
    pub cache_write_5m: u64,
    pub cache_write_1h: u64,
    pub reply: u64,
}
