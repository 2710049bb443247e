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

/// Prices in picodollars (1e-12 US dollars) a token, for all tokens of a request of at least so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceBand {
    pub prompt_tokens_min: u64,
    pub input: u64,
    pub cached: u64,
    pub cache_write_5m: u64,
    pub cache_write_1h: u64,
    /// Reasoning included.
    pub reply: u64,
}

/// Stands in where no band holds: a price that nobody told is none that anything fits into.
const UNTOLD: PriceBand = PriceBand {
    prompt_tokens_min: 0,
    input: u64::MAX,
    cached: u64::MAX,
    cache_write_5m: u64::MAX,
    cache_write_1h: u64::MAX,
    reply: u64::MAX,
};

impl Price {
    /// Makes the price of what costs nothing.
    pub fn free(source: impl Into<String>) -> Self {
        Self { source: source.into(), bands: vec![PriceBand::default()] }
    }

    /// Returns what these tokens cost, in picodollars.
    pub fn usd_picos(&self, tokens: &Tokens) -> u128 {
        // Nobody vouches for what a server counts: parts that add up to more than their whole are taken for the whole.
        let parts = tokens.cached.saturating_add(tokens.cache_write_5m).saturating_add(tokens.cache_write_1h);
        let prompt = tokens.prompt.max(parts);
        let band = self.reached(prompt).max_by_key(|band| band.prompt_tokens_min).unwrap_or(UNTOLD);
        [
            (prompt - parts, band.input),
            (tokens.cached, band.cached),
            (tokens.cache_write_5m, band.cache_write_5m),
            (tokens.cache_write_1h, band.cache_write_1h),
            (tokens.reply.max(tokens.reasoning), band.reply),
        ]
        .into_iter()
        .fold(0, |sum, (tokens, price)| sum.saturating_add(u128::from(tokens) * u128::from(price)))
    }

    /// Returns the most that a request of at most so many tokens and its reply can cost, in picodollars.
    pub fn picos_max(&self, prompt_tokens_max: u64, reply_tokens_max: u64) -> u128 {
        let reply = u128::from(reply_tokens_max);
        let costs = self.prompt_costs(prompt_tokens_max);
        costs
            .into_iter()
            .map(|(prompt, of_reply)| prompt.saturating_add(reply * u128::from(of_reply)))
            .max()
            .unwrap_or(0)
    }

    /// Returns the longest reply with which a request of at most so many tokens stays within `picos_left`; `None` where the
    /// request alone may cost more.
    pub fn reply_tokens_within(&self, picos_left: u128, prompt_tokens_max: u64) -> Option<u32> {
        let mut most = u32::MAX;
        for (prompt, of_reply) in self.prompt_costs(prompt_tokens_max) {
            let left = picos_left.checked_sub(prompt)?;
            let fits = left.checked_div(u128::from(of_reply)).unwrap_or(u128::MAX);
            most = most.min(u32::try_from(fits).unwrap_or(u32::MAX));
        }
        Some(most)
    }

    /// Returns, of each band that a request of at most so many tokens can reach, the most that the request can cost there,
    /// and the price of a token of the reply. Which of the tokens are read from a cache, or written to one, the server
    /// decides: all of them may be of the dearest kind.
    fn prompt_costs(&self, prompt_tokens_max: u64) -> Vec<(u128, u64)> {
        let cost = |band: PriceBand, prompt: u64| {
            let dearest = band.input.max(band.cached).max(band.cache_write_5m).max(band.cache_write_1h);
            (u128::from(prompt) * u128::from(dearest), band.reply)
        };
        let longest = |band: &PriceBand| {
            let above =
                self.bands.iter().map(|other| other.prompt_tokens_min).filter(|min| *min > band.prompt_tokens_min);
            above.min().map_or(prompt_tokens_max, |next| prompt_tokens_max.min(next - 1))
        };
        let costs: Vec<_> = self.reached(prompt_tokens_max).map(|band| cost(band, longest(&band))).collect();
        if self.reached(0).next().is_none() { vec![cost(UNTOLD, prompt_tokens_max)] } else { costs }
    }

    /// Bands that a request of at most so many tokens can come to stand in.
    fn reached(&self, prompt_tokens_max: u64) -> impl Iterator<Item = PriceBand> {
        self.bands.iter().copied().filter(move |band| band.prompt_tokens_min <= prompt_tokens_max)
    }
}

#[cfg(test)]
mod tests;
