//! From the rates of the data to the bands of a price.
//!
//! As the source has it: a request of more tokens than a rung names pays the rung's rate for all of its tokens, of every
//! kind; what has no rate of its own is paid as what it is a part of; of several rates the last one in force holds.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::domain::{PriceBand, Timestamp, usd_per_million};

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// Rates from a day on, or at some hours, or always.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rates {
    /// The first day, in UTC.
    from: Option<String>,
    /// Holds at some hours of the day alone.
    #[serde(default)]
    at_times: bool,
    /// What a request pays for beside its tokens.
    #[serde(default)]
    beyond: Vec<String>,
    input: Option<Rate>,
    cached: Option<Rate>,
    cache_write: Option<Rate>,
    cache_write_5m: Option<Rate>,
    cache_write_1h: Option<Rate>,
    reply: Option<Rate>,
    reasoning: Option<Rate>,
}

/// US dollars for a million tokens.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Rate {
    Flat(String),
    /// The rate of short requests, and rungs in ascending order.
    Rungs(Vec<Rung>),
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Rung {
    Base(String),
    /// For requests of more than so many tokens.
    Above(u64, String),
}

/// Returns the bands of a model about the time `at`; `None` where its tokens do not tell what a request costs.
pub(super) fn bands(rates: &[Rates], at: Timestamp) -> Option<Vec<PriceBand>> {
    let rates = in_force(rates, at);
    if rates.is_empty() || rates.iter().any(|rates| !rates.beyond.is_empty()) {
        return None;
    }
    let rungs: BTreeSet<u64> = rates.iter().flat_map(|rates| rates.rungs()).collect();
    let starts = std::iter::once(0).chain(rungs.into_iter().filter_map(|above| above.checked_add(1)));
    starts.map(|start| rates.iter().map(|rates| rates.band(start)).reduce(dearer).flatten()).collect()
}

/// Returns the rates that a request may meet: those of the day, of the day before, and of the day after, as clocks differ
/// and a request takes its time.
fn in_force(rates: &[Rates], at: Timestamp) -> Vec<&Rates> {
    let days = [at.0.saturating_sub(DAY_MS), at.0, at.0.saturating_add(DAY_MS)];
    days.into_iter().flat_map(|ms| on(&day(Timestamp(ms)), rates)).collect()
}

/// `2026-11-10`, which compares as text.
fn day(at: Timestamp) -> String {
    at.to_string().chars().take_while(|c| *c != 'T').collect()
}

/// Returns the rates of a day: those that hold at some of its hours, and the last of the others that has begun, or else the
/// first of all.
fn on<'a>(day: &str, rates: &'a [Rates]) -> Vec<&'a Rates> {
    let mut met = Vec::new();
    for rates in rates.iter().rev() {
        let has_begun = rates.from.as_deref().is_none_or(|from| from <= day);
        if rates.at_times || has_begun {
            met.push(rates);
        }
        if has_begun && !rates.at_times {
            return met;
        }
    }
    met.extend(rates.first());
    met
}

/// Returns the dearer of each, and nothing where one is not known.
fn dearer(one: Option<PriceBand>, other: Option<PriceBand>) -> Option<PriceBand> {
    let (one, other) = (one?, other?);
    Some(PriceBand {
        prompt_tokens_min: one.prompt_tokens_min,
        input: one.input.max(other.input),
        cached: one.cached.max(other.cached),
        cache_write_5m: one.cache_write_5m.max(other.cache_write_5m),
        cache_write_1h: one.cache_write_1h.max(other.cache_write_1h),
        reply: one.reply.max(other.reply),
    })
}

impl Rates {
    fn rungs(&self) -> impl Iterator<Item = u64> {
        let all = [&self.input, &self.cached, &self.cache_write, &self.cache_write_5m, &self.cache_write_1h];
        let all = all.into_iter().chain([&self.reply, &self.reasoning]);
        all.flatten().flat_map(Rate::rungs)
    }

    /// The price of a request of `start` tokens.
    fn band(&self, start: u64) -> Option<PriceBand> {
        let of = |rate: &Option<Rate>, parent: u64| match rate {
            Some(rate) => rate.of(start),
            None => Some(parent),
        };
        let input = self.input.as_ref()?.of(start)?;
        let reply = self.reply.as_ref()?.of(start)?;
        let cache_write = of(&self.cache_write, input)?;
        Some(PriceBand {
            prompt_tokens_min: start,
            input,
            cached: of(&self.cached, input)?,
            cache_write_5m: of(&self.cache_write_5m, cache_write)?,
            cache_write_1h: of(&self.cache_write_1h, cache_write)?,
            reply: reply.max(of(&self.reasoning, reply)?),
        })
    }
}

impl Rate {
    fn rungs(&self) -> Vec<u64> {
        let Self::Rungs(rungs) = self else { return Vec::new() };
        rungs.iter().filter_map(|rung| if let Rung::Above(above, _) = rung { Some(*above) } else { None }).collect()
    }

    /// The rate of a request of so many tokens, in picodollars a token.
    fn of(&self, tokens: u64) -> Option<u64> {
        let text = match self {
            Self::Flat(text) => text,
            Self::Rungs(rungs) => rungs.iter().rev().find_map(|rung| match rung {
                Rung::Base(text) => Some(text),
                Rung::Above(above, text) => (tokens > *above).then_some(text),
            })?,
        };
        usd_per_million(text).ok()
    }
}
