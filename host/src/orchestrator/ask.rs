//! What a request to a model may cost, what is counted of it for its route, and what becomes of one that failed. Pure.
//!
//! The bound of a request's cost is proven, not guessed: no tokenizer makes more tokens of a request than it has bytes
//! ([`Quote::prompt_tokens_max`] says so for each provider), and the provider is told how long its reply may be. Both are
//! priced at the dearest that can apply. What is left of the budget, less the request, decides how long that is.

use std::collections::BTreeSet;

use crate::domain::{Budget, Cost, Failure, Json, Kind, Retry, Timestamp, Tokens, usd_micros, usd_picos};
use crate::orchestrator::budget::left;
use crate::orchestrator::machine::Run;
use crate::planner::route::{Features, Routed, Routes, choose};
use crate::planner::{ContextPack, OfferedTool, Quote};

/// Tokens of one reply: a plan of many steps fits.
pub const REPLY_TOKENS_MAX: u32 = 8_192;

/// Tokens of the shortest reply that is worth a request: a plan of one step fits, and little more.
pub const REPLY_TOKENS_MIN: u32 = 256;

/// Requests of one turn that may fail before the turn does.
pub const REQUEST_FAILURES_MAX: usize = 4;

/// The longest wait before a request is made again, in milliseconds: a server that asks for more is down.
pub const REQUEST_WAIT_MS_MAX: u64 = 60_000;

/// The longest first wait before the same model is asked again, in milliseconds. It doubles.
const BACKOFF_MS: u64 = 500;

/// What is held for a request, and how long its reply may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    pub cost: Cost,
    pub reply_tokens_max: u32,
}

/// Reserves what a request can cost at the most, as far as the budget bounds that.
///
/// # Errors
/// `policy.budget` where what is left is not enough for a reply of any use, or nobody knows the price and money is bounded.
pub fn reserve(run: &Run, model: &str, quote: &Quote) -> Result<Reserved, Failure> {
    let left = left(run);
    let longest = quote.reply_tokens_max.min(REPLY_TOKENS_MAX);
    let mut reply_tokens_max = longest;
    if run.budget.tokens_max.is_some() {
        let room = left.tokens.saturating_sub(quote.prompt_tokens_max);
        reply_tokens_max = reply_tokens_max.min(u32::try_from(room).unwrap_or(u32::MAX));
    }
    if run.budget.usd_micros_max.is_some() {
        let price = quote.price.as_ref().ok_or_else(|| no_price(model))?;
        let picos = usd_picos(left.usd_micros);
        let within = price.reply_tokens_within(picos, quote.prompt_tokens_max).unwrap_or(0);
        reply_tokens_max = reply_tokens_max.min(within);
    }
    if reply_tokens_max < REPLY_TOKENS_MIN.min(longest) || reply_tokens_max == 0 {
        return Err(too_little(&run.budget, left, model, quote));
    }
    Ok(Reserved { cost: most(&run.budget, quote, reply_tokens_max), reply_tokens_max })
}

/// The most that a request can cost, in what the budget bounds.
fn most(budget: &Budget, quote: &Quote, reply_tokens_max: u32) -> Cost {
    let picos = quote.price.as_ref().map(|price| price.picos_max(quote.prompt_tokens_max, reply_tokens_max.into()));
    let tokens = quote.prompt_tokens_max.saturating_add(reply_tokens_max.into());
    Cost {
        usd_micros: budget.usd_micros_max.and(picos).map_or(0, usd_micros),
        tokens: budget.tokens_max.map_or(0, |_| tokens),
        ..Cost::default()
    }
}

/// Returns what a reply did cost: in the units of the budget, and exactly, as far as price and tokens are known.
pub fn charge(quote: Option<&Quote>, reserved: Cost, tokens: Option<Tokens>) -> (Cost, Option<u64>) {
    let is_free = || quote.and_then(|quote| quote.price.as_ref()).is_some_and(|price| price.picos_max(1, 1) == 0);
    let Some(tokens) = tokens else { return (reserved, is_free().then_some(0)) };
    let picos = quote.and_then(|quote| quote.price.as_ref()).map(|price| price.usd_picos(&tokens));
    let cost = Cost { tokens: tokens.total(), usd_micros: picos.map_or(0, usd_micros), ..Cost::default() };
    (cost, picos.map(|picos| u64::try_from(picos).unwrap_or(u64::MAX)))
}

fn no_price(model: &str) -> Failure {
    let what = format!("ask model `{model}` within a bound of money: its price is not known");
    Failure::new(Kind::PolicyBudget, what)
        .hint("write its `price` beside it in cofferdam.toml: 0 for a server of your own")
}

fn too_little(budget: &Budget, left: Cost, model: &str, quote: &Quote) -> Failure {
    let prompt = quote.prompt_tokens_max;
    let left = match (budget.usd_micros_max, budget.tokens_max) {
        (Some(_), Some(_)) => format!("{} µ$ and {} tokens are left", left.usd_micros, left.tokens),
        (Some(_), None) => format!("{} µ$ are left", left.usd_micros),
        _ => format!("{} tokens are left", left.tokens),
    };
    let what = format!("ask model `{model}`: {left}, and its request takes up to {prompt} tokens before any reply");
    Failure::new(Kind::PolicyBudget, what)
        .hint("raise `usd_micros_max` or `tokens_max` under [budget], or ask for less")
}

/// What a run has shown so far that decides which model is asked next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoFar {
    pub failed_steps: usize,
    /// The last tier that was not up to the goal.
    pub above: Option<String>,
    /// Of the money that the run may cost.
    pub budget_permille: u32,
    /// Models that did not answer this request, or are left alone for a while.
    pub down: BTreeSet<String>,
}

impl Default for SoFar {
    /// A run that has not begun.
    fn default() -> Self {
        Self { failed_steps: 0, above: None, budget_permille: 1_000, down: BTreeSet::new() }
    }
}

impl SoFar {
    /// Returns what a run has shown. `down` are models whose servers are left alone for a while.
    pub fn of(run: &Run, down: impl Iterator<Item = String>) -> Self {
        // A turn begins anew with all of them.
        let failed = run.planning.down.iter().filter(|_| run.planning.is_asked).cloned();
        Self {
            failed_steps: run.steps.values().filter(|step| step.status.is_failed()).count(),
            above: run.planning.above.clone(),
            budget_permille: budget_permille(run),
            down: failed.chain(down).collect(),
        }
    }
}

/// Counts what decides which model is asked.
pub fn features(so_far: &SoFar, pack: &ContextPack, is_critical: bool) -> Features {
    let near: Vec<&OfferedTool> = match &pack.retrieval {
        Some(found) => pack.tools.iter().filter(|tool| found.near.contains(&tool.name)).collect(),
        None => pack.tools.iter().collect(),
    };
    let schemas = || near.iter().map(|tool| &tool.input_schema);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let required = |schema: &Json| schema["required"].as_array().map_or(0, Vec::len);
    Features {
        effect: near.iter().map(|tool| tool.effect).max().unwrap_or(crate::domain::Effect::Pure),
        candidates: count(near.len()),
        margin_permille: pack.retrieval.as_ref().map_or(1_000, |found| found.margin_permille),
        schema_depth: count(schemas().map(depth).max().unwrap_or(0)),
        required_args: count(schemas().map(required).max().unwrap_or(0)),
        failed_steps: count(so_far.failed_steps),
        above: so_far.above.clone(),
        is_critical,
        budget_permille: so_far.budget_permille,
        down: so_far.down.iter().cloned().collect(),
    }
}

/// Levels of a schema in which something is described.
fn depth(schema: &Json) -> usize {
    let below = |values: &mut dyn Iterator<Item = &Json>| values.map(depth).max().unwrap_or(0);
    let properties = schema["properties"].as_object();
    let fields = properties.map_or(0, |fields| below(&mut fields.values()));
    let items = schema.get("items").map_or(0, depth);
    let options = ["anyOf", "oneOf", "allOf"].iter().filter_map(|key| schema[*key].as_array());
    let options = options.map(|options| below(&mut options.iter())).max().unwrap_or(0);
    let here = usize::from(properties.is_some() || schema.get("items").is_some());
    here + fields.max(items).max(options)
}

fn budget_permille(run: &Run) -> u32 {
    let Some(most) = run.budget.usd_micros_max.filter(|most| *most > 0) else { return 1_000 };
    let left = u128::from(left(run).usd_micros.min(most)) * 1_000 / u128::from(most);
    u32::try_from(left).unwrap_or(1_000)
}

/// Chooses a model, and says with what the choice can be reckoned again.
///
/// # Errors
/// `data.config` where no tier may propose what the tools near to the goal do.
pub fn routed(routes: &Routes, features: Features) -> Result<Routed, Failure> {
    let nobody = || {
        let what = format!("choose a model: no tier may propose steps of effect `{}`", features.effect);
        Failure::new(Kind::DataConfig, what).hint("raise `effects` of a tier in cofferdam.toml")
    };
    let choice = choose(routes, &features).ok_or_else(nobody)?;
    Ok(Routed { routes: routes.clone(), features, choice })
}

/// A request that brought no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered {
    pub kind: Kind,
    /// What the server asks for, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// Requests of this turn that failed before.
    pub failures: usize,
    /// Whether another model may be asked that has not failed in this turn.
    pub has_other: bool,
}

/// Returns when the same is asked again, if it is: at once of another model, after a while of the same. `draw` is any number.
pub fn retry_request(failed: &Unanswered, now: Timestamp, draw: u64) -> Option<Timestamp> {
    let passes = is_of_server(failed.kind) && failed.kind.retry() == Retry::Later;
    // A server that refuses the request, or cannot hold it, says nothing about another one.
    let is_elsewhere = is_of_server(failed.kind) || failed.kind == Kind::ModelContextOverflow;
    if failed.failures >= REQUEST_FAILURES_MAX {
        return None;
    }
    if failed.has_other && is_elsewhere {
        return Some(now);
    }
    let asked = failed.retry_after_ms.unwrap_or(0);
    let doublings = u32::try_from(failed.failures).unwrap_or(u32::MAX).min(16);
    let drawn = draw % (BACKOFF_MS << doublings).saturating_add(1);
    (passes && asked <= REQUEST_WAIT_MS_MAX).then(|| now.plus_ms(drawn.max(asked)))
}

fn is_of_server(kind: Kind) -> bool {
    kind.code().starts_with("network.")
}

/// Returns whether another model may be asked than those that have failed in this turn, and the one that just did.
pub fn has_other(routes: &Routes, features: &Features, asked: &str) -> bool {
    let is_allowed = |tier: &&crate::planner::route::Tier| tier.effect_max >= features.effect;
    let models = routes.tiers.iter().filter(is_allowed).flat_map(|tier| &tier.models);
    models.into_iter().any(|model| model != asked && !features.down.contains(model))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Effect, Price, PriceBand};
    use crate::orchestrator::machine::tests::Hand;
    use crate::planner::route::Tier;

    fn quote(prompt_tokens_max: u64, price: Option<Price>) -> Quote {
        Quote { prompt_tokens_max, reply_tokens_max: 4_000, price, server: "http://127.0.0.1:1".into() }
    }

    fn price(input: u64, cache_write: u64, reply: u64) -> Price {
        let band = PriceBand { input, cache_write_5m: cache_write, reply, ..PriceBand::default() };
        Price { source: "test".into(), bands: vec![band] }
    }

    fn run(usd_micros_max: Option<u64>, tokens_max: Option<u64>) -> Run {
        Hand::with(false, Budget { usd_micros_max, tokens_max, ..Budget::default() }, vec![]).0
    }

    #[test]
    fn a_price_that_nobody_knows_is_not_nothing() {
        let failure = reserve(&run(Some(1_000_000), None), "odd", &quote(100, None)).unwrap_err();
        assert_eq!(failure.kind, Kind::PolicyBudget);
        assert!(failure.message.contains("price is not known"), "{failure}");
        // Where money is not bounded nobody needs to know it.
        let reserved = reserve(&run(None, None), "odd", &quote(100, None)).unwrap();
        assert_eq!(reserved, Reserved { cost: Cost::default(), reply_tokens_max: 4_000 });
    }

    #[test]
    fn what_is_left_decides_how_long_a_reply_may_be() {
        // 100 tokens at 2 µ$ leave 800 µ$: 800 tokens of reply at 1 µ$.
        let quoted = quote(100, Some(price(2_000_000, 0, 1_000_000)));
        let reserved = reserve(&run(Some(1_000), None), "m", &quoted).unwrap();
        assert_eq!(reserved.reply_tokens_max, 800);
        assert_eq!(reserved.cost, Cost { usd_micros: 1_000, ..Cost::default() });
        let reserved = reserve(&run(Some(1_000), Some(600)), "m", &quoted).unwrap();
        assert_eq!((reserved.reply_tokens_max, reserved.cost.tokens, reserved.cost.usd_micros), (500, 600, 700));
        let failure = reserve(&run(Some(400), None), "m", &quoted).unwrap_err();
        assert!(failure.message.contains("400 µ$ are left"), "{failure}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        /// Whatever a provider counts within what was asked of it, the charge stays within what was held, and that within
        /// what was left.
        #[test]
        fn no_reply_costs_more_than_was_held(
            cap in 0_u64..2_000_000, input in 0_u64..40_000_000, write in 0_u64..60_000_000, reply in 0_u64..90_000_000,
            prompt_max in 1_u64..60_000, prompt_share in 0_u64..=1_000, written_share in 0_u64..=1_000, reply_share in 0_u64..=1_000,
        ) {
            let run = run(Some(cap), None);
            let quoted = quote(prompt_max, Some(price(input, write, reply)));
            if let Ok(reserved) = reserve(&run, "m", &quoted) {
                prop_assert!(reserved.cost.usd_micros <= cap);
                let prompt = prompt_max * prompt_share / 1_000;
                let tokens = Tokens {
                    prompt,
                    cache_write_5m: prompt * written_share / 1_000,
                    reply: u64::from(reserved.reply_tokens_max) * reply_share / 1_000,
                    ..Tokens::default()
                };
                let (cost, picos) = charge(Some(&quoted), reserved.cost, Some(tokens));
                prop_assert!(cost.usd_micros <= reserved.cost.usd_micros, "{cost:?} of {reserved:?}");
                prop_assert!(u128::from(picos.unwrap()) <= usd_picos(cost.usd_micros));
            }
        }
    }

    #[test]
    fn tokens_that_nobody_counted_cost_all_that_was_held() {
        let held = Cost { usd_micros: 7, tokens: 9, ..Cost::default() };
        assert_eq!(charge(Some(&quote(1, None)), held, None), (held, None));
    }

    #[test]
    fn a_request_that_failed_goes_to_another_model_at_once_and_to_the_same_after_a_while() {
        let now = Timestamp(1_000);
        let failed = |kind, has_other| Unanswered { kind, retry_after_ms: None, failures: 0, has_other };
        let due = |failed: &Unanswered| retry_request(failed, now, 700).map(|due| due.0);
        for (kind, other, same) in [
            (Kind::NetworkRateLimited, Some(1_000), Some(1_000 + 700 % 501)),
            (Kind::NetworkCut, Some(1_000), Some(1_000 + 700 % 501)),
            (Kind::NetworkHttp4xx, Some(1_000), None),
            (Kind::ModelContextOverflow, Some(1_000), None),
            (Kind::ModelRefusal, None, None),
            (Kind::HostBug, None, None),
        ] {
            assert_eq!((due(&failed(kind, true)), due(&failed(kind, false))), (other, same), "{kind:?}");
        }
        let limited = |ms| Unanswered { retry_after_ms: Some(ms), ..failed(Kind::NetworkRateLimited, false) };
        assert_eq!(due(&limited(7_000)), Some(8_000), "not before the server wants it");
        assert_eq!(due(&limited(REQUEST_WAIT_MS_MAX + 1)), None);
        let often = Unanswered { failures: REQUEST_FAILURES_MAX, ..failed(Kind::NetworkRateLimited, true) };
        assert_eq!(due(&often), None);
    }

    #[test]
    fn only_a_tier_that_may_propose_it_stands_in() {
        let tier = |name: &str, models: &[&str], effect_max| Tier {
            name: name.into(),
            models: models.iter().map(|&model| model.to_owned()).collect(),
            effect_max,
        };
        let tiers = vec![tier("small", &["a"], Effect::Read), tier("large", &["b"], Effect::Once)];
        let routes = Routes { tiers, thresholds: crate::planner::route::Thresholds::default() };
        let features = |effect, down: &[&str]| Features {
            effect,
            down: down.iter().map(|&model| model.to_owned()).collect(),
            ..features(&SoFar::default(), &ContextPack::default(), false)
        };
        assert!(has_other(&routes, &features(Effect::Read, &[]), "b"));
        assert!(!has_other(&routes, &features(Effect::Once, &[]), "b"));
        assert!(!has_other(&routes, &features(Effect::Read, &["b"]), "a"));
    }
}
