//! Values of flags that have a form of their own.

use std::io::Read;

use crate::domain::Json;
use crate::host::{Settle, When};

/// Digits of a binding that a person must give: fewer could be those of another call.
const BINDING_DIGITS_MIN: usize = 8;

/// Reads the beginning of a binding, with or without `sha256:`, and returns its digits.
pub(super) fn binding(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if digits.len() < BINDING_DIGITS_MIN || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(format!("write at least {BINDING_DIGITS_MIN} hex digits of it"));
    }
    Ok(digits.to_ascii_lowercase())
}

/// Reads a length of time, such as `30d`, and returns milliseconds.
pub(super) fn age(text: &str) -> Result<u64, String> {
    const UNITS: [(char, u64); 4] = [('d', 86_400_000), ('h', 3_600_000), ('m', 60_000), ('s', 1_000)];
    let wrong = || "write a number and `d`, `h`, `m` or `s`, such as 30d".to_owned();
    let with_unit = UNITS.into_iter().find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, ms)));
    let (number, ms) = with_unit.ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(ms).ok_or_else(wrong)
}

/// Reads a time: how long ago, such as `7d`, or in UTC, such as `2026-01-31`.
pub(super) fn when(text: &str) -> Result<When, String> {
    match age(text) {
        Ok(ms) => Ok(When::Ago(ms)),
        Err(_) => text.parse().map(When::At).map_err(|what: String| format!("{what}, and no length of time like 7d")),
    }
}

/// Reads `name=value`.
pub(super) fn set(text: &str) -> Result<(String, Json), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    if name.is_empty() {
        return Err("write NAME=VALUE: the name is missing".into());
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| Json::String(value.to_owned()));
    Ok((name.to_owned(), value))
}

/// Bytes of a file that is given as an input: more than a planner is given.
const INPUT_BYTES_MAX: u64 = 1 << 20;

/// Reads `name=@file`, and the file: JSON, or else text.
pub(super) fn input(text: &str) -> Result<(String, Json), String> {
    let (name, path) = text.split_once("=@").ok_or("write NAME=@FILE")?;
    if name.is_empty() || path.is_empty() {
        return Err("write NAME=@FILE: the name, or the file, is missing".into());
    }
    let unread = |error: std::io::Error| format!("read {path}: {error}");
    let mut content = String::new();
    let file = std::fs::File::open(path).map_err(unread)?;
    file.take(INPUT_BYTES_MAX + 1).read_to_string(&mut content).map_err(unread)?;
    if content.len() as u64 > INPUT_BYTES_MAX {
        return Err(format!("read {path}: it has more than {INPUT_BYTES_MAX} bytes"));
    }
    let value = serde_json::from_str(&content).unwrap_or(Json::String(content));
    Ok((name.to_owned(), value))
}

/// Reads `STEP=done:JSON`, `STEP=retry` or `STEP=failed`.
pub(super) fn settle(text: &str) -> Result<(String, Settle), String> {
    let (step, what) = text.split_once('=').ok_or("write STEP=done:JSON, STEP=retry or STEP=failed")?;
    Ok((step.to_owned(), word(what)?))
}

/// Reads `done:JSON`, `retry` or `failed`.
pub(super) fn word(what: &str) -> Result<Settle, String> {
    Ok(match what.split_once(':') {
        Some(("done", output)) => {
            let value: Json =
                serde_json::from_str(output).map_err(|e| format!("what follows `done:` is not JSON: {e}"))?;
            Settle::Done { output: value.to_string() }
        }
        None if what == "retry" => Settle::Retry,
        None if what == "failed" => Settle::Failed,
        _ => return Err(format!("`{what}` is not `done:JSON`, `retry` or `failed`")),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_json_or_else_text() {
        assert_eq!(set("year=2024"), Ok(("year".into(), json!(2024))));
        assert_eq!(set("year=\"2024\""), Ok(("year".into(), json!("2024"))));
        assert_eq!(set("where=a=b"), Ok(("where".into(), json!("a=b"))));
        assert_eq!(set("empty="), Ok(("empty".into(), json!(""))));
        assert!(set("year").is_err() && set("=1").is_err());
    }

    #[test]
    fn an_input_comes_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let named = format!("a=@{}", file.path().display());
        for (content, value) in [("[1]", json!([1])), ("one\n", json!("one\n"))] {
            std::fs::write(file.path(), content).unwrap();
            assert_eq!(input(&named), Ok(("a".into(), value)));
        }
        assert!(input("a=b").is_err() && input("=@f").is_err() && input("a=@/no/such/file").is_err());
    }

    #[test]
    fn a_settlement_says_what_became_of_a_step() {
        assert_eq!(settle("t1.pay=retry"), Ok(("t1.pay".into(), Settle::Retry)));
        assert_eq!(settle("pay=failed"), Ok(("pay".into(), Settle::Failed)));
        let done = settle("pay=done:{\"id\": \"a=b:c\"}");
        assert_eq!(done, Ok(("pay".into(), Settle::Done { output: r#"{"id":"a=b:c"}"#.into() })));
        for wrong in ["pay", "pay=", "pay=done", "pay=done:{", "pay=undone", "pay=retry:1"] {
            assert!(settle(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_age_has_a_unit() {
        assert_eq!(["30d", "2h", "0s", "5m"].map(age), [Ok(2_592_000_000), Ok(7_200_000), Ok(0), Ok(300_000)]);
        for wrong in ["", "30", "d", "-1d", "1w", "99999999999999999999d", "1dd"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_binding_goes_by_enough_of_its_digits() {
        assert_eq!(binding("0123ABCD"), Ok("0123abcd".into()));
        assert_eq!(binding("sha256:0123abcd9"), Ok("0123abcd9".into()));
        for wrong in ["", "sha256:", "0123abc", "0123abcg", "0123ab…"] {
            assert!(binding(wrong).is_err(), "{wrong}");
        }
    }
}
