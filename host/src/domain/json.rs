//! JSON values, their canonical text, and short excerpts of them for people.

/// A JSON value.
pub type Json = serde_json::Value;

/// Returns the canonical text of `value`: no white space, keys of each object in byte order, numbers as `serde_json`
/// writes them. Equal values have equal texts, whatever map the value was built with.
///
/// Recursion is bounded by the parser that made the value (128 levels).
pub fn canonical(value: &Json) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Json, text: &mut String) {
    match value {
        Json::Array(items) => {
            text.push('[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        Json::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by(|a, b| a.0.cmp(b.0));
            text.push('{');
            for (n, (key, field)) in sorted.into_iter().enumerate() {
                if n > 0 {
                    text.push(',');
                }
                text.push_str(&Json::from(key.as_str()).to_string());
                text.push(':');
                write(field, text);
            }
            text.push('}');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

/// Returns at most `chars_max` characters of the canonical text, marked with `…` where it was cut.
pub fn excerpt(value: &Json, chars_max: usize) -> String {
    let text = canonical(value);
    match text.char_indices().nth(chars_max) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_sorted_at_every_level() {
        let value = json!({"b": 1, "a": {"d": [true, null], "c": "é\n"}});
        assert_eq!(canonical(&value), r#"{"a":{"c":"é\n","d":[true,null]},"b":1}"#);
    }

    #[test]
    fn an_excerpt_cuts_between_characters() {
        assert_eq!(excerpt(&json!("éééé"), 3), "\"éé…");
    }
}
