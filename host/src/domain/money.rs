//! US dollars as whole numbers: picodollars (1e-12), in which a price for a million tokens has a whole price for each.

/// Picodollars of a dollar.
pub const USD_PICOS: u128 = 1_000_000_000_000;

/// Picodollars of a millionth of a dollar, in which budgets count.
const MICRO_PICOS: u128 = 1_000_000;

/// Digits behind the point of a price for a million tokens that the price of one token holds.
const PRICE_DIGITS: usize = 6;

/// Reads a price in US dollars for a million tokens, like `0.15`, as picodollars a token. What is finer than that counts as
/// one more: a price is never taken to be less than it is.
///
/// # Errors
/// Tells what is wrong: it is no plain decimal, or more than a token may cost.
pub fn usd_per_million(text: &str) -> Result<u64, String> {
    let is_plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !is_plain(whole) || !is_plain(fraction) {
        return Err(format!("`{}` is not a plain decimal like `0.15`", shown(text)));
    }
    let (held, finer) = fraction.split_at(fraction.len().min(PRICE_DIGITS));
    let digits = format!("{whole}{held:0<PRICE_DIGITS$}");
    let picos = digits.parse::<u64>().ok().and_then(|picos| picos.checked_add(finer.bytes().any(|b| b != b'0').into()));
    picos.ok_or_else(|| format!("`{}` is more than a price can be", shown(text)))
}

/// Writes picodollars as dollars, with as many digits as it takes: `0.0000125`.
pub fn usd(picos: u128) -> String {
    let (whole, rest) = (picos / USD_PICOS, picos % USD_PICOS);
    let text = format!("{whole}.{rest:012}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Returns the millionths of a dollar that hold so many picodollars: a part of one counts as one.
pub fn usd_micros(picos: u128) -> u64 {
    u64::try_from(picos.div_ceil(MICRO_PICOS)).unwrap_or(u64::MAX)
}

/// Returns the picodollars of so many millionths of a dollar.
pub fn usd_picos(micros: u64) -> u128 {
    u128::from(micros) * MICRO_PICOS
}

/// Cuts a text of unknown length before it enters a message.
fn shown(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_reads_exactly_and_never_as_less_than_it_is() {
        for (text, picos) in [
            ("0", 0),
            ("0.15", 150_000),
            ("15", 15_000_000),
            ("0.000001", 1),
            ("0.0000001", 1),
            ("0.08333333333333334", 83_334),
            ("1.0399999999999998", 1_040_000),
            ("007.50", 7_500_000),
        ] {
            assert_eq!(usd_per_million(text), Ok(picos), "{text}");
        }
        let huge = "9".repeat(20);
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", "NaN", " 1", "1.2.3", "0x1", huge.as_str()] {
            assert!(usd_per_million(text).is_err(), "{text}");
        }
    }

    #[test]
    fn money_is_written_to_its_last_digit() {
        for (picos, text) in [
            (0, "0"),
            (1, "0.000000000001"),
            (12_500_000, "0.0000125"),
            (USD_PICOS, "1"),
            (10 * USD_PICOS, "10"),
            (u128::MAX, "340282366920938463463374607.431768211455"),
        ] {
            assert_eq!(usd(picos), text);
        }
        assert_eq!((usd_micros(0), usd_micros(1), usd_micros(1_000_000), usd_micros(1_000_001)), (0, 1, 1, 2));
        assert_eq!((usd_micros(u128::MAX), usd_picos(u64::MAX)), (u64::MAX, 18_446_744_073_709_551_615_000_000));
    }
}
