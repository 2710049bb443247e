//! What is shown of a value that is too large to be shown whole: its shape, its first items, its short values.
//!
//! Pure. A text that is not short is told by its length alone: what is large reaches the next tool by reference, and
//! nothing of it the planner.

use serde_json::{Map, json};

use crate::domain::{Json, canonical};

/// Items of a list that are shown.
const ITEMS_MAX: usize = 3;

/// Fields of an object that are shown.
const FIELDS_MAX: usize = 24;

/// Bytes of a text that is shown: a name, a date, an address of something.
const TEXT_BYTES_MAX: usize = 80;

/// Levels that are shown.
const DEPTH_MAX: usize = 4;

/// Returns the text of `value` where it has at most `whole_bytes_max` bytes, else that of its shape, which has no more
/// either; and whether it is whole.
pub fn preview(value: &Json, whole_bytes_max: usize) -> (String, bool) {
    let text = canonical(value);
    if text.len() <= whole_bytes_max {
        return (text, true);
    }
    // Fewer levels and items until it fits.
    let shapes = (1..=DEPTH_MAX).rev().flat_map(|depth| [ITEMS_MAX, 1].map(|items| (depth, items)));
    let fitting = shapes.map(|(depth, items)| canonical(&shape(value, depth, items)));
    let text = fitting.into_iter().find(|text| text.len() <= whole_bytes_max);
    (text.unwrap_or_else(|| canonical(&size(value))), false)
}

fn shape(value: &Json, depth_left: usize, items_max: usize) -> Json {
    let Some(depth_left) = depth_left.checked_sub(1) else { return size(value) };
    match value {
        Json::String(text) if text.len() > TEXT_BYTES_MAX => size(value),
        Json::Array(items) => {
            let mut shown: Vec<Json> =
                items.iter().take(items_max).map(|item| shape(item, depth_left, items_max)).collect();
            if items.len() > items_max {
                shown.push(json!({ "…": format!("{} items in all", items.len()) }));
            }
            Json::Array(shown)
        }
        Json::Object(fields) => {
            let shown = fields.iter().take(FIELDS_MAX);
            let mut shown: Map<String, Json> =
                shown.map(|(key, field)| (key_of(key), shape(field, depth_left, items_max))).collect();
            if fields.len() > FIELDS_MAX {
                shown.insert("…".into(), format!("{} fields in all", fields.len()).into());
            }
            Json::Object(shown)
        }
        scalar => scalar.clone(),
    }
}

/// A key may be as long as any text.
fn key_of(key: &str) -> String {
    if key.len() > TEXT_BYTES_MAX { format!("(a name of {} characters)", key.chars().count()) } else { key.to_owned() }
}

/// What is told of a value that is not shown.
fn size(value: &Json) -> Json {
    match value {
        Json::String(text) if text.len() > TEXT_BYTES_MAX => {
            json!({ "…": format!("text of {} characters", text.chars().count()) })
        }
        Json::Array(items) if !items.is_empty() => json!({ "…": format!("list of {} items", items.len()) }),
        Json::Object(fields) if !fields.is_empty() => json!({ "…": format!("object of {} fields", fields.len()) }),
        small => small.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_small_is_whole() {
        assert_eq!(preview(&json!({"b": 1, "a": "x"}), 20), (r#"{"a":"x","b":1}"#.to_owned(), true));
    }

    #[test]
    fn of_what_is_large_the_shape_and_the_short_values_are_shown() {
        let rows: Vec<Json> =
            (0..500).map(|n| json!({"id": n, "name": format!("row {n}"), "text": "x".repeat(90)})).collect();
        let (text, is_whole) = preview(&json!({"columns": ["id", "name"], "rows": rows}), 2_000);
        assert!(!is_whole && text.len() <= 2_000);
        let shown: Json = serde_json::from_str(&text).unwrap();
        assert_eq!(shown["columns"], json!(["id", "name"]));
        assert_eq!(shown["rows"][1], json!({"id": 1, "name": "row 1", "text": {"…": "text of 90 characters"}}));
        assert_eq!(shown["rows"][3], json!({"…": "500 items in all"}));
    }

    #[test]
    fn nothing_of_a_long_text_is_shown_wherever_it_stands() {
        let secret = "hush".repeat(10_000);
        let mut named = Map::new();
        named.insert(secret.clone(), json!(1));
        for value in [json!(secret), json!({"a": [secret]}), Json::Object(named)] {
            let (text, is_whole) = preview(&value, 2_000);
            assert!(!is_whole && !text.contains("hush") && text.len() < 100, "{text}");
        }
    }

    #[test]
    fn a_preview_is_never_larger_than_what_is_shown_whole() {
        let mut deep = json!("x");
        for _ in 0..50 {
            deep = json!({"a": [deep, deep.to_string().chars().take(70).collect::<String>()], "b": vec![1; 9]});
        }
        let wide: Map<String, Json> = (0..5_000).map(|n| (format!("key {n}"), json!("y".repeat(70)))).collect();
        for value in [deep, Json::Object(wide), json!(vec!["z".repeat(79); 1_000])] {
            for bytes_max in [64, 300, 2_000] {
                assert!(preview(&value, bytes_max).0.len() <= bytes_max);
            }
        }
    }
}
