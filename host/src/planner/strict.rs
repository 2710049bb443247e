//! JSON values from texts that nobody vouches for.
//!
//! Stricter than `serde_json::Value`: a key twice in one object, a number that JSON cannot say and too many levels are
//! errors, where the usual way would keep the last, write null and run deep. Every format goes through the same gate.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::domain::Json;

/// A value under way: where it stands, for messages, and how many levels it may still have.
#[derive(Clone)]
pub(super) struct Strict {
    pointer: String,
    depth_left: usize,
}

/// The key under which `toml` hands over a date, which JSON cannot say.
const TOML_DATE: &str = "$__toml_private_datetime";

impl Strict {
    /// Makes the gate for a whole text of at most `depth_max` levels.
    pub(super) fn new(depth_max: usize) -> Self {
        Self { pointer: String::new(), depth_left: depth_max }
    }

    fn below<E: Error>(&self, token: &str) -> Result<Self, E> {
        let depth_left = self.depth_left.checked_sub(1).ok_or_else(|| E::custom("too many levels of nesting"))?;
        let token = token.replace('~', "~0").replace('/', "~1");
        Ok(Self { pointer: format!("{}/{token}", self.pointer), depth_left })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON can say")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        let number = serde_json::Number::from_f64(value);
        number.map(Json::Number).ok_or_else(|| E::custom(format!("`{value}` is not a number in JSON")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_none<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.below(&items.len().to_string())?)? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut fields = serde_json::Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == TOML_DATE {
                return Err(A::Error::custom(format!("`{}` is a date: put it in quotes", self.pointer)));
            }
            if fields.contains_key(&key) {
                return Err(A::Error::custom(format!("key `{}` stands twice", self.below::<A::Error>(&key)?.pointer)));
            }
            let value = map.next_value_seed(self.below(&key)?)?;
            fields.insert(key, value);
        }
        Ok(fields.into())
    }
}

/// Reads one JSON value and nothing after it.
pub(super) fn from_json(text: &str, depth_max: usize) -> Result<Json, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict::new(depth_max).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Returns `value` so that no part of it is taken for a reference: it is data.
pub(super) fn as_literal(value: &Json) -> Json {
    if has_mark(value) { serde_json::json!({ "$literal": value }) } else { value.clone() }
}

/// Answers whether a plan would read more into `value` than a value.
fn has_mark(value: &Json) -> bool {
    match value {
        Json::Array(items) => items.iter().any(has_mark),
        Json::Object(fields) => fields.iter().any(|(key, field)| key.starts_with('$') || has_mark(field)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_leaves_open_is_refused() {
        for (bad, part) in [
            (r#"{"a": {"b": 1, "b": 2}}"#, "key `/a/b` stands twice"),
            ("[NaN]", "expected value"),
            ("[1e999]", "number out of range"),
            ("[[[[1]]]]", "too many levels"),
            ("{} {}", "trailing characters"),
            ("", "EOF"),
        ] {
            let error = from_json(bad, 3).unwrap_err().to_string();
            assert!(error.contains(part), "{bad}: {error}");
        }
    }

    #[test]
    fn what_is_fine_is_kept() {
        let text = r#"{"a":[1,-2,2.5,true,null,"x",18446744073709551615],"b":{}}"#;
        assert_eq!(from_json(text, 8).unwrap(), serde_json::from_str::<Json>(text).unwrap());
    }
}
