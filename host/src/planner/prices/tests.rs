//! The vendored prices: all of them read, and models of each kind cost what the data says.

use super::*;
use crate::domain::{PriceBand, Tokens, usd};

/// 2026-11-23T00:00:00Z.
const NOW: Timestamp = Timestamp(1_795_392_000_000);

/// Bytes of the data in the program: what was asked of it is a few hundred kilobytes at most.
const DATA_BYTES_MAX: usize = 300_000;

const OPENAI: &str = "https://api.openai.com/v1";
const ANTHROPIC: &str = "https://api.anthropic.com/v1";

fn prices() -> &'static Prices {
    PRICES.as_ref().expect("the data reads")
}

/// Prints the bands in US dollars for a million tokens.
fn told(price: Option<Price>) -> String {
    let Some(price) = price else { return "unknown".into() };
    let rate = |picos: u64| usd(u128::from(picos) * 1_000_000);
    let band = |band: &PriceBand| {
        let PriceBand { prompt_tokens_min, input, cached, cache_write_5m, cache_write_1h, reply } = *band;
        let rates = [input, cached, cache_write_5m, cache_write_1h, reply].map(rate).join(" ");
        format!("from {prompt_tokens_min}: {rates}")
    };
    price.bands.iter().map(band).collect::<Vec<_>>().join("; ")
}

fn at(url: &str, model: &str) -> String {
    told(price_at(url, model, NOW))
}

#[test]
fn the_data_reads_to_its_last_entry() {
    assert!(DATA.len() <= DATA_BYTES_MAX, "{} bytes", DATA.len());
    assert_eq!(prices().providers.len(), 47);
    assert_eq!(published(), "2026-11-10".parse().ok());
    let (mut priced, mut unknown) = (0, 0);
    for provider in &prices().providers {
        assert!(pattern(&provider.url).is_some(), "{}", provider.url);
        assert!(provider.offers.iter().all(|id| prices().provider(id).is_some()));
        for Model(id, names, rates) in &provider.models {
            patterns_compile(names);
            match bands(rates, NOW) {
                Some(bands) => {
                    priced += 1;
                    let is_ascending = bands.is_sorted_by_key(|band| band.prompt_tokens_min);
                    assert!(is_ascending && bands[0].prompt_tokens_min == 0, "{}/{id}", provider.id);
                }
                None => unknown += 1,
            }
        }
    }
    assert_eq!((priced, unknown), (2_017, 313));
}

fn patterns_compile(names: &Names) {
    match names {
        Names::One(text) => {
            let (sigil, rest) = text.split_at(1);
            assert!("=^$~/!".contains(sigil), "{text}");
            assert!(!matches!(sigil, "/" | "!") || pattern(rest).is_some(), "{text}");
        }
        Names::Any(names) | Names::All { all: names } => names.iter().for_each(patterns_compile),
    }
}

#[test]
fn a_model_costs_what_the_data_says() {
    for (url, model, expected) in [
        (OPENAI, "gpt-4o-mini", "from 0: 0.15 0.075 0.15 0.15 0.6"),
        (OPENAI, "gpt-4.1-mini-2025-04-14", "from 0: 0.4 0.1 0.4 0.4 1.6"),
        (OPENAI, "GPT-4.1-mini", "from 0: 0.4 0.1 0.4 0.4 1.6"),
        ("https://api.openai.com", "gpt-4o-mini", "from 0: 0.15 0.075 0.15 0.15 0.6"),
        (ANTHROPIC, "claude-haiku-4-5-20251001", "from 0: 1 0.1 1.25 2 5"),
        (ANTHROPIC, "claude-sonnet-5", "from 0: 2 0.2 2.5 4 10"),
        // A long request pays more for all of its tokens.
        (ANTHROPIC, "claude-haiku-5-5", "from 0: 0.1 0.01 0.125 0.2 0.5; from 100001: 0.5 0.05 0.625 1 2.5"),
        (
            "https://generativelanguage.googleapis.com/v1beta",
            "gemini-2.5-pro",
            "from 0: 1.25 0.125 1.25 1.25 10; from 200001: 2.5 0.25 2.5 2.5 15",
        ),
        // A name that begins like another one's is not priced as that.
        ("https://generativelanguage.googleapis.com/v1beta", "gemini-2.5-pro-preview-tts", "from 0: 1 1 1 1 20"),
        // Under other names alone, at another's prices.
        ("https://acme.openai.azure.com/openai/v1", "gpt-4o-mini", "from 0: 0.15 0.075 0.15 0.15 0.6"),
        ("https://openrouter.ai/api/v1", "openai/gpt-4o-mini", "from 0: 0.15 0.075 0.15 0.15 0.6"),
    ] {
        assert_eq!(at(url, model), expected, "{url} {model}");
    }
}

#[test]
fn what_is_not_known_has_no_price() {
    for (url, model) in [
        (OPENAI, "gpt-99"),
        (OPENAI, ""),
        ("http://127.0.0.1:11434/v1", "gpt-4o-mini"),
        ("https://models.acme.example/v1?api.openai.com", "gpt-4o-mini"),
        ("", "gpt-4o-mini"),
        // Each request costs something, however few tokens it has.
        ("https://api.perplexity.ai", "sonar"),
        // What has no reply is no planner.
        (OPENAI, "text-embedding-3-small"),
    ] {
        assert_eq!(at(url, model), "unknown", "{url} {model}");
    }
}

#[test]
fn an_operator_says_as_what_a_model_is_priced() {
    let price = price_as("openai/gpt-4.1-mini", NOW);
    assert_eq!(price.as_ref().map(|price| price.source.as_str()), Some("genai-prices 2026-11-10: openai/gpt-4.1-mini"));
    assert_eq!(told(price), "from 0: 0.4 0.1 0.4 0.4 1.6");
    assert_eq!(told(price_as("openrouter/openai/gpt-4o-mini", NOW)), "from 0: 0.15 0.075 0.15 0.15 0.6");
    for name in ["gpt-4.1-mini", "openai/", "/gpt-4.1-mini", "nobody/gpt-4.1-mini", ""] {
        assert_eq!(told(price_as(name, NOW)), "unknown", "{name}");
    }
}

#[test]
fn a_price_holds_from_its_day_on_and_a_day_around_it_the_dearer_holds() {
    let of = |day: u64| told(price_as("google/gemini-3.8-flash", Timestamp(NOW.0 + day * 86_400_000)));
    let (before, after) = ("from 0: 0.75 0.075 0.75 0.75 3.75", "from 0: 1.5 0.15 1.5 1.5 7.5");
    // It rises on 2027-01-01, which is 39 days on.
    assert_eq!([of(37), of(38), of(39), of(40)], [before, after, after, after]);

    let falls = r#"[{"input":"5","reply":"9"},{"from":"2026-11-23","input":"1","reply":"2"}]"#;
    let falls: Vec<Rates> = serde_json::from_str(falls).unwrap();
    let input = |day: u64| bands(&falls, Timestamp(NOW.0 + day * 86_400_000)).unwrap()[0].input;
    assert_eq!([input(0), input(1)], [5_000_000, 1_000_000]);
}

#[test]
fn of_prices_by_the_hour_the_dearest_holds() {
    assert_eq!(told(price_as("deepseek/deepseek-chat", NOW)), "from 0: 0.27 0.07 0.27 0.27 1.1");
    // A later price for the whole day takes the place of earlier ones by the hour, and one that has not begun does not.
    let rates = r#"[{"input":"1","reply":"1"},{"at_times":true,"input":"3","reply":"3"},{"from":"2026-12-24","input":"2","reply":"2"}]"#;
    let rates: Vec<Rates> = serde_json::from_str(rates).unwrap();
    let input = |day: u64| bands(&rates, Timestamp(NOW.0 + day * 86_400_000)).unwrap()[0].input;
    assert_eq!([input(0), input(40)], [3_000_000, 2_000_000]);
}

#[test]
fn rungs_of_several_kinds_and_times_make_one_list_of_bands() {
    let rates = r#"[{"input":["1",[100,"2"]],"cached":["0.5",[200,"0.7"]],"reply":"4","reasoning":"6"},
        {"at_times":true,"input":"1.5","reply":["3",[100,"9"]]}]"#;
    let rates: Vec<Rates> = serde_json::from_str(rates).unwrap();
    let price = Price { source: "test".into(), bands: bands(&rates, NOW).unwrap() };
    let expected = "from 0: 1.5 1.5 1.5 1.5 6; from 101: 2 1.5 2 2 9; from 201: 2 1.5 2 2 9";
    assert_eq!(told(Some(price)), expected);
}

/// The class of a token has its price, whatever the length: as in the source's own example.
#[test]
fn what_a_request_cost_is_told_to_the_last_digit() {
    let price = price_at(ANTHROPIC, "claude-sonnet-4-5", NOW).unwrap();
    let tokens = Tokens { prompt: 1_300, cached: 1_000, cache_write_5m: 100, reply: 500, ..Tokens::default() };
    // 200 × 3 + 1,000 × 0.3 + 100 × 3.75 + 500 × 15, in millionths of a dollar.
    assert_eq!(usd(price.usd_picos(&tokens)), "0.008775");
}
