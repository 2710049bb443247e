//! Finds in a result what a reader should be warned of. A result is data and stays as it is; who shows it escapes it.

use crate::domain::{Json, is_deceptive};

/// Returns where the first character stands that can drive a terminal, reorder text or hide in it, and which one it is.
pub(super) fn deceptive(value: &Json) -> Option<String> {
    let mut place = Vec::new();
    let c = find(value, &mut place)?;
    let place: String = place.iter().rev().map(|part| format!("/{part}")).collect();
    Some(format!("the result holds U+{:04X} at `{place}`", u32::from(c)))
}

/// Returns the first such character, and writes the way to it backwards.
fn find(value: &Json, place: &mut Vec<String>) -> Option<char> {
    match value {
        Json::String(text) => in_text(text),
        Json::Array(items) => items.iter().enumerate().find_map(|(n, item)| {
            let c = find(item, place)?;
            place.push(n.to_string());
            Some(c)
        }),
        Json::Object(fields) => fields.iter().find_map(|(key, field)| {
            let c = in_text(key).or_else(|| find(field, place))?;
            place.push(key.clone());
            Some(c)
        }),
        Json::Null | Json::Bool(_) | Json::Number(_) => None,
    }
}

/// A carriage return stands before many line ends, and is no sign of anything.
fn in_text(text: &str) -> Option<char> {
    text.chars().find(|c| is_deceptive(*c) && *c != '\r')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_is_told_with_its_place() {
        let found = |value: Json| deceptive(&value);
        let told = |c: &str, place: &str| Some(format!("the result holds U+{c} at `{place}`"));
        assert_eq!(found(json!({"rows": ["plain", {"name": "a\u{202e}b"}]})), told("202E", "/rows/1/name"));
        assert_eq!(found(json!("\u{1b}]52;c;x\u{7}")), told("001B", ""));
        for c in ['\0', '\u{200b}', '\u{2066}', '\u{e0041}', '\u{feff}', '\u{9b}'] {
            assert!(found(json!([c.to_string()])).is_some(), "{c:?}");
        }
        assert_eq!(found(json!({"text": "línea uno\r\n\tzwei 日本 🦀", "n": 1})), None);
    }
}
