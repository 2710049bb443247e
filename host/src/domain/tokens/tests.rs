//! Prices: what a request costs, and that a bound holds for whatever a server counts.

use proptest::prelude::*;

use super::*;

const FLAT: PriceBand = PriceBand {
    prompt_tokens_min: 0,
    input: 3_000_000,
    cached: 300_000,
    cache_write_5m: 3_750_000,
    cache_write_1h: 6_000_000,
    reply: 15_000_000,
};

fn price(bands: Vec<PriceBand>) -> Price {
    Price { source: "test".into(), bands }
}

fn tiered() -> Price {
    let long = PriceBand {
        prompt_tokens_min: 200_001,
        input: 6_000_000,
        cached: 600_000,
        cache_write_5m: 7_500_000,
        cache_write_1h: 12_000_000,
        reply: 22_500_000,
    };
    price(vec![FLAT, long])
}

#[test]
fn each_class_of_tokens_has_its_price() {
    let tokens =
        Tokens { prompt: 1_000, cached: 600, cache_write_5m: 100, cache_write_1h: 50, reply: 200, reasoning: 150 };
    // 250 × 3 + 600 × 0.3 + 100 × 3.75 + 50 × 6 + 200 × 15 = 750 + 180 + 375 + 300 + 3,000 microdollars.
    assert_eq!(price(vec![FLAT]).usd_picos(&tokens), 4_605 * 1_000_000);
    assert_eq!(Price::free("test").usd_picos(&tokens), 0);
}

#[test]
fn a_long_request_pays_the_dearer_price_for_all_of_its_tokens() {
    let cost = |prompt| tiered().usd_picos(&Tokens { prompt, reply: 10, ..Tokens::default() });
    assert_eq!(cost(200_000), 200_000 * 3_000_000 + 10 * 15_000_000);
    assert_eq!(cost(200_001), 200_001 * 6_000_000 + 10 * 22_500_000);
}

#[test]
fn what_a_server_counts_amiss_costs_no_less() {
    let odd = Tokens { prompt: 1, cached: 10, reply: 1, reasoning: 7, ..Tokens::default() };
    assert_eq!(price(vec![FLAT]).usd_picos(&odd), 10 * 300_000 + 7 * 15_000_000);
}

#[test]
fn a_bound_counts_the_dearest_kind_and_the_dearest_band_that_can_be_reached() {
    assert_eq!(tiered().picos_max(1_000, 10), 1_000 * 6_000_000 + 10 * 15_000_000);
    assert_eq!(tiered().picos_max(300_000, 10), 300_000 * 12_000_000 + 10 * 22_500_000);
    // A band may be cheaper than the one before it: the request need not be as long as it may be.
    let falling = price(vec![FLAT, PriceBand { prompt_tokens_min: 1_000, ..PriceBand::default() }]);
    assert_eq!(falling.picos_max(5_000, 1), 999 * 6_000_000 + 15_000_000);
}

#[test]
fn a_reply_is_cut_to_what_is_left() {
    let flat = price(vec![FLAT]);
    assert_eq!(flat.reply_tokens_within(1_000 * 6_000_000, 1_000), Some(0));
    assert_eq!(flat.reply_tokens_within(1_000 * 6_000_000 - 1, 1_000), None);
    assert_eq!(flat.reply_tokens_within(1_000 * 6_000_000 + 29_999_999, 1_000), Some(1));
    assert_eq!(Price::free("test").reply_tokens_within(0, u64::MAX), Some(u32::MAX));
}

#[test]
fn a_price_without_bands_is_nobodys_and_nothing_fits_into_it() {
    for untold in [price(Vec::new()), price(vec![PriceBand { prompt_tokens_min: 5, ..PriceBand::default() }])] {
        assert!(untold.usd_picos(&Tokens { reply: 1, ..Tokens::default() }) >= u128::from(u64::MAX));
        assert_eq!(untold.reply_tokens_within(u128::from(u64::MAX) - 1, 1), None);
        assert!(untold.picos_max(1, 1) > u128::from(u64::MAX));
    }
}

/// Prices as they are, and as a forged file might have them.
fn rate() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 0..100_000_000_u64, Just(u64::MAX)]
}

fn prices() -> impl Strategy<Value = Price> {
    let band = (0..500_000_u64, rate(), rate(), rate(), rate(), rate());
    let bands = proptest::collection::vec(band, 1..5).prop_map(|bands| {
        let mut bands: Vec<_> = bands
            .into_iter()
            .map(|(prompt_tokens_min, input, cached, cache_write_5m, cache_write_1h, reply)| PriceBand {
                prompt_tokens_min,
                input,
                cached,
                cache_write_5m,
                cache_write_1h,
                reply,
            })
            .collect();
        bands.sort_by_key(|band| band.prompt_tokens_min);
        bands[0].prompt_tokens_min = 0;
        bands
    });
    bands.prop_map(price)
}

/// Any usage of at most so many tokens: parts of the request in any shares, reasoning included.
fn usage(prompt_max: u64, reply_max: u32) -> impl Strategy<Value = Tokens> {
    (0..=prompt_max, 0..=reply_max, 0..=1_000_u64, 0..=1_000_u64, 0..=1_000_u64).prop_map(
        |(prompt, reply, cached, five, hour)| {
            let share = |permille: u64, of: u64| of / 1_000 * permille + of % 1_000 * permille / 1_000;
            let cached = share(cached, prompt);
            let cache_write_5m = share(five, prompt - cached);
            let cache_write_1h = share(hour, prompt - cached - cache_write_5m);
            let reply = u64::from(reply);
            Tokens { prompt, cached, cache_write_5m, cache_write_1h, reply, reasoning: reply / 2 }
        },
    )
}

fn prompt_bound() -> impl Strategy<Value = u64> {
    prop_oneof![0..1_000_000_u64, Just(u64::MAX)]
}

fn cases() -> ProptestConfig {
    ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    /// The promise on which a cap of money stands.
    #[test]
    fn no_usage_within_its_bounds_costs_more_than_the_cap(
        (price, cap, prompt_max, tokens) in (prices(), prop_oneof![0..u128::from(u64::MAX), Just(u128::MAX)], prompt_bound())
            .prop_flat_map(|(price, cap, prompt_max)| {
                let granted = price.reply_tokens_within(cap, prompt_max).unwrap_or(0);
                (Just(price), Just(cap), Just(prompt_max), usage(prompt_max, granted))
            })
    ) {
        match price.reply_tokens_within(cap, prompt_max) {
            Some(granted) => {
                prop_assert!(tokens.prompt <= prompt_max && tokens.reply <= u64::from(granted));
                prop_assert!(price.usd_picos(&tokens) <= cap);
                prop_assert!(price.picos_max(prompt_max, granted.into()) <= cap);
                let is_largest = granted.checked_add(1).is_none_or(|more| price.picos_max(prompt_max, more.into()) > cap);
                prop_assert!(cap == u128::MAX || is_largest);
            }
            None => prop_assert!(price.picos_max(prompt_max, 0) > cap),
        }
    }

    #[test]
    fn a_bound_grows_with_what_it_bounds(
        price in prices(), prompt in 0..1_000_000_u64, reply in 0..100_000_u64, more in 0..100_000_u64, cap in 0..u64::MAX,
    ) {
        let bound = price.picos_max(prompt, reply);
        prop_assert!(price.picos_max(prompt + more, reply) >= bound);
        prop_assert!(price.picos_max(prompt, reply + more) >= bound);
        let cap = u128::from(cap);
        let within = price.reply_tokens_within(cap, prompt);
        prop_assert!(price.reply_tokens_within(cap + u128::from(more), prompt) >= within);
        prop_assert!(price.reply_tokens_within(cap, prompt + more) <= within);
    }

    #[test]
    fn nothing_that_a_server_counts_overflows(price in prices(), n in any::<[u64; 6]>()) {
        let [prompt, cached, cache_write_5m, cache_write_1h, reply, reasoning] = n;
        let tokens = Tokens { prompt, cached, cache_write_5m, cache_write_1h, reply, reasoning };
        let more = Tokens { reply: u64::MAX, ..tokens };
        prop_assert!(price.usd_picos(&tokens) <= price.usd_picos(&more));
    }
}
