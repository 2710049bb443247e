//! JSON values, their canonical text, and short excerpts of them for people.

use std::io;

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
                write_text(key, text);
                text.push(':');
                write(field, text);
            }
            text.push('}');
        }
        Json::String(string) => write_text(string, text),
        scalar => text.push_str(&scalar.to_string()),
    }
}

fn write_text(string: &str, text: &mut String) {
    // Nothing in it needs an escape: most names and digests.
    if string.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\') {
        text.push('"');
        text.push_str(string);
        text.push('"');
    } else {
        text.push_str(&Json::from(string).to_string());
    }
}

/// Returns how many bytes the text of `value` has; `None` where they are more than `bytes_max`. Nothing is built for it.
pub fn bytes_within(value: &Json, bytes_max: u64) -> Option<u64> {
    let mut counted = Counted { bytes: 0, bytes_max, kept: None };
    serde_json::to_writer(&mut counted, value).ok().map(|()| counted.bytes)
}

/// Returns the beginning of the text of `value`: at most `bytes_max` bytes, and no more are built.
pub fn head(value: &Json, bytes_max: usize) -> String {
    let mut counted =
        Counted { bytes: 0, bytes_max: u64::try_from(bytes_max).unwrap_or(u64::MAX), kept: Some(Vec::new()) };
    // It fails where it is full, and what fitted is what is wanted.
    drop(serde_json::to_writer(&mut counted, value));
    String::from_utf8_lossy(&counted.kept.unwrap_or_default()).into_owned()
}

/// A writer that is full at some point.
struct Counted {
    bytes: u64,
    bytes_max: u64,
    kept: Option<Vec<u8>>,
}

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = usize::try_from(self.bytes_max - self.bytes).unwrap_or(usize::MAX);
        let taken = &bytes[..bytes.len().min(left)];
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(taken);
        }
        self.bytes += u64::try_from(taken.len()).unwrap_or(u64::MAX);
        if taken.len() < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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

    #[test]
    fn a_text_is_measured_and_begun_without_being_built() {
        let value = json!({"b": [1, "ä\n"], "a": null});
        let bytes = canonical(&value).len() as u64;
        assert_eq!(bytes_within(&value, bytes), Some(bytes));
        assert_eq!(bytes_within(&value, bytes - 1), None);
        assert_eq!(head(&json!("abcdef"), 4), "\"abc");
        assert_eq!(head(&value, 1_000).len() as u64, bytes);
    }
}
