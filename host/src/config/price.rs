//! What a model costs, as a person writes it: US dollars for a million tokens.

use crate::domain::{Price, PriceBand, usd_per_million};

use super::PriceSource;

/// Where such a price says that it comes from.
const SOURCE: &str = "cofferdam.toml";

/// US dollars for a million tokens: more is a slip of the pen.
const USD_MAX: u64 = 1_000_000;

const FORM: &str = "is 0, `{ input = \"0.15\", reply = \"0.60\" }` in US dollars for a million tokens, or `\"PROVIDER/MODEL\"` of the vendored data";

/// Reads a price; what is not written of it is as dear as what is like it.
///
/// # Errors
/// What is wrong, as a fragment that fits after the name of the key.
pub(super) fn read(value: &toml::Value) -> Result<PriceSource, String> {
    let band = match value {
        toml::Value::Table(table) => band(table)?,
        toml::Value::String(name) if name.contains('/') => return Ok(PriceSource::As(name.clone())),
        free if picodollars(free) == Some(0) => PriceBand::default(),
        _ => return Err(FORM.to_owned()),
    };
    Ok(PriceSource::Written(Price { source: SOURCE.to_owned(), bands: vec![band] }))
}

fn band(table: &toml::Table) -> Result<PriceBand, String> {
    let keys = ["input", "reply", "cached", "cache_write_5m", "cache_write_1h"];
    if let Some(key) = table.keys().find(|key| !keys.contains(&key.as_str())) {
        return Err(format!("has an unknown `{}`: {}", crate::domain::printable(key), keys.join(", ")));
    }
    let of = |key: &str| {
        let value = table.get(key);
        value.map(|value| picodollars(value).ok_or_else(|| format!("`{key}` is no number of dollars"))).transpose()
    };
    let input = of("input")?.ok_or(FORM)?;
    let cache_write_5m = of("cache_write_5m")?.unwrap_or(input);
    Ok(PriceBand {
        prompt_tokens_min: 0,
        input,
        cached: of("cached")?.unwrap_or(input),
        cache_write_5m,
        cache_write_1h: of("cache_write_1h")?.unwrap_or(cache_write_5m),
        reply: of("reply")?.ok_or(FORM)?,
    })
}

/// Reads dollars for a million tokens as picodollars for one. Text is better than a number that was rounded.
fn picodollars(value: &toml::Value) -> Option<u64> {
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        // As it is written where that is short.
        toml::Value::Float(number) => number.to_string(),
        _ => return None,
    };
    usd_per_million(&text).ok().filter(|picos| *picos < USD_MAX * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<PriceBand, String> {
        let table: toml::Table = format!("price = {text}").parse().expect("it is TOML");
        read(&table["price"]).map(|price| match price {
            PriceSource::Written(price) => price.bands[0],
            PriceSource::As(name) => panic!("{name}"),
        })
    }

    #[test]
    fn dollars_for_a_million_are_picodollars_for_one_to_the_last_digit() {
        let band = of("{ input = '0.15', cached = 0.075, reply = 0.6, cache_write_5m = '0.1875' }").unwrap();
        assert_eq!((band.input, band.cached, band.reply), (150_000, 75_000, 600_000));
        assert_eq!((band.cache_write_5m, band.cache_write_1h), (187_500, 187_500));
        let plain = of("{ input = 3, reply = '15' }").unwrap();
        assert_eq!(
            (plain.input, plain.cached, plain.cache_write_1h, plain.reply),
            (3_000_000, 3_000_000, 3_000_000, 15_000_000)
        );
        // What is finer than a picodollar counts as one: a bound is not to be too low.
        for fine in ["'0.000001'", "'0.0000001'", "1e-7"] {
            assert_eq!(of(&format!("{{ input = {fine}, reply = 0 }}")).map(|band| band.input), Ok(1), "{fine}");
        }
    }

    #[test]
    fn a_model_may_cost_what_another_does() {
        let as_other = PriceSource::As("openai/gpt-4.1".to_owned());
        assert_eq!(read(&toml::Value::String("openai/gpt-4.1".to_owned())), Ok(as_other));
    }

    #[test]
    fn nothing_is_a_price_too_and_what_is_none_is_refused() {
        for free in ["0", "0.0", "'0'"] {
            assert_eq!(of(free), Ok(PriceBand::default()), "{free}");
        }
        for wrong in [
            "1",
            "true",
            "'free'",
            "{}",
            "{ input = 1 }",
            "{ input = -1, reply = 1 }",
            "{ input = 'x', reply = 1 }",
            "{ input = '1e-7', reply = 1 }",
            "{ input = 1, reply = 1, images = 1 }",
            "{ input = 1, reply = 2000000 }",
            "{ input = '1.', reply = 'nan' }",
            "{ input = inf, reply = 1 }",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
