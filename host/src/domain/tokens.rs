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

impl Price {
    /// Returns what these tokens cost, in picodollars.
    pub fn usd_picos(&self, tokens: &Tokens) -> u128 {
        let Some(band) = self.bands.iter().rev().find(|band| tokens.prompt >= band.prompt_tokens_min) else { return 0 };
        let part = |n: u64, price: u64| u128::from(n) * u128::from(price);
        let special = tokens.cached + tokens.cache_write_5m + tokens.cache_write_1h;
        part(tokens.prompt.saturating_sub(special), band.input)
            + part(tokens.cached, band.cached)
            + part(tokens.cache_write_5m, band.cache_write_5m)
            + part(tokens.cache_write_1h, band.cache_write_1h)
            + part(tokens.reply, band.reply)
    }

    /// Returns the most that such a request can cost, in picodollars.
    pub fn picos_max(&self, prompt_tokens_max: u64, reply_tokens_max: u64) -> u128 {
        let input = |b: &PriceBand| b.input.max(b.cached).max(b.cache_write_5m).max(b.cache_write_1h);
        let of = |b: &PriceBand| {
            u128::from(prompt_tokens_max) * u128::from(input(b)) + u128::from(reply_tokens_max) * u128::from(b.reply)
        };
        self.bands.iter().filter(|b| b.prompt_tokens_min <= prompt_tokens_max).map(of).max().unwrap_or(0)
    }

    /// Returns the longest reply that stays within so many picodollars.
    pub fn reply_tokens_within(&self, picos_left: u128, prompt_tokens_max: u64) -> Option<u32> {
        let prompt = self.picos_max(prompt_tokens_max, 0);
        let left = picos_left.checked_sub(prompt)?;
        let dearest = self.bands.iter().map(|b| b.reply).max().unwrap_or(0);
        Some(match dearest {
            0 => u32::MAX,
            price => u32::try_from(left / u128::from(price)).unwrap_or(u32::MAX),
        })
    }
}
