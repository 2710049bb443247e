//! What differs between two JSON values, place by place.

use crate::domain::Json;

use super::text;

/// Characters of one value.
const VALUE_CHARS_MAX: usize = 200;

/// Places that are shown: more is another document.
const PLACES_MAX: usize = 40;

/// Returns a line for each place that differs: `-` what it was, `+` what it is.
pub(super) fn changes(old: &Json, new: &Json) -> String {
    let mut places = Vec::new();
    compare("", old, new, &mut places);
    let mut lines: String = places.iter().take(PLACES_MAX).map(|place| text::quoted(place)).collect();
    if places.len() > PLACES_MAX {
        lines.push_str(&format!("  and {} places more\n", places.len() - PLACES_MAX));
    }
    lines
}

fn compare(at: &str, old: &Json, new: &Json, places: &mut Vec<String>) {
    match (old, new) {
        (Json::Object(old), Json::Object(new)) => {
            let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                differ(&at, old.get(key), new.get(key), places);
            }
        }
        (Json::Array(old), Json::Array(new)) => {
            for n in 0..old.len().max(new.len()) {
                differ(&format!("{at}/{n}"), old.get(n), new.get(n), places);
            }
        }
        _ => differ(at, Some(old), Some(new), places),
    }
}

fn differ(at: &str, old: Option<&Json>, new: Option<&Json>, places: &mut Vec<String>) {
    match (old, new) {
        (Some(old), Some(new)) if old == new => {}
        (Some(old @ Json::Object(_)), Some(new @ Json::Object(_)))
        | (Some(old @ Json::Array(_)), Some(new @ Json::Array(_))) => compare(at, old, new, places),
        (old, new) => {
            let shown = |sign: &str, value: &Json| {
                format!(
                    "{sign} {}: {}",
                    text::line(at, VALUE_CHARS_MAX),
                    text::line(&value.to_string(), VALUE_CHARS_MAX)
                )
            };
            places.extend(old.map(|old| shown("-", old)));
            places.extend(new.map(|new| shown("+", new)));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_place_that_differs_has_what_it_was_and_what_it_is() {
        let old = json!({"path": "/a", "lines": [1, 2], "deep": {"x/y": 1}, "same": [true]});
        let new = json!({"path": "/b\n\u{1b}", "lines": [1], "deep": {"x/y": 1, "z": null}, "same": [true]});
        let lines = ["+ /deep/z: null", "- /lines/1: 2", r#"- /path: "/a""#, r#"+ /path: "/b\n\u001b""#];
        assert_eq!(changes(&old, &new), lines.map(|line| format!("  │ {line}\n")).concat());
        assert_eq!(changes(&old, &old), "");
        assert_eq!(changes(&json!(1), &json!("1")), "  │ - : 1\n  │ + : \"1\"\n");
        let (long, none) = (json!((0..100).collect::<Vec<_>>()), json!([]));
        assert!(changes(&long, &none).ends_with("  and 60 places more\n"));
    }
}
