//! A tool's schema in a dialect: what the dialect cannot say becomes any value, and the check of the reply says the rest.
//!
//! Descriptions are left out: they stand in the prompt, between tags, as data.

use serde_json::json;

use super::dialect::{Dialect, either, local};
use crate::domain::Json;

/// Levels of a tool's schema that are kept: providers take ten with ours around them; below, any value fits.
pub(super) const DEPTH_MAX: usize = 6;

/// Values that one enum may have: OpenAI bounds the letters of longer ones too.
const ENUM_VALUES_MAX: usize = 250;

/// One tool's schema under way into the dialect.
pub(super) struct Unfolding<'a> {
    pub root: &'a Json,
    pub dialect: Dialect,
    /// Schema nodes that may still be written.
    pub nodes_left: usize,
    /// Values of enums that may still be written.
    pub values_left: usize,
}

impl Unfolding<'_> {
    /// Returns the schema of a value that may also be a reference.
    fn value(&mut self, schema: &Json, depth_left: usize) -> Json {
        match self.plain(schema, depth_left) {
            Some(plain) => either(plain, local("reference")),
            None => local("any"),
        }
    }

    /// Returns the schema in the dialect, or nothing where the dialect cannot say it.
    fn plain(&mut self, schema: &Json, depth_left: usize) -> Option<Json> {
        self.nodes_left = self.nodes_left.checked_sub(1)?;
        let depth_left = depth_left.checked_sub(1)?;
        if let Some(pointer) = schema["$ref"].as_str() {
            let target = self.root.pointer(pointer.strip_prefix('#')?)?;
            return self.plain(target, depth_left);
        }
        if let Some(options) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
            let options: Option<Vec<Json>> = options.iter().map(|option| self.plain(option, depth_left)).collect();
            return self.dialect.choice(options?);
        }
        if let Some(values) = schema["enum"].as_array() {
            return self.one_of(values, schema);
        }
        if schema.get("const").is_some() {
            return self.dialect.constant(schema);
        }
        if let Some(types) = schema["type"].as_array() {
            let of_type = |name: &Json| self.plain(&with_type(schema, name), depth_left);
            let options: Option<Vec<Json>> = types.iter().map(of_type).collect();
            return self.dialect.choice(options?);
        }
        match schema["type"].as_str()? {
            "object" if schema["properties"].is_object() => Some(self.object(schema, depth_left)),
            // A free map: a reference is all that the dialect can say.
            "object" => Some(local("reference")),
            "array" => Some(self.array(schema, depth_left)),
            "integer" | "number" => Some(self.dialect.number(schema)),
            name @ ("string" | "boolean" | "null") => Some(json!({"type": name})),
            _ => None,
        }
    }

    /// Returns the schema of one of these values; of any text where there is no room for all of them.
    fn one_of(&mut self, values: &[Json], schema: &Json) -> Option<Json> {
        let room = self.values_left.min(self.nodes_left).min(ENUM_VALUES_MAX);
        if values.len() > room {
            return values.iter().all(Json::is_string).then(|| json!({"type": "string"}));
        }
        self.values_left -= values.len();
        self.nodes_left -= values.len();
        self.dialect.constant(schema)
    }

    /// Returns the schema of an object; what is optional may be left out, or be null, as the dialect has it.
    pub(super) fn object(&mut self, schema: &Json, depth_left: usize) -> Json {
        let is_required = |key: &str| schema["required"].as_array().is_some_and(|keys| keys.iter().any(|k| k == key));
        let properties = schema["properties"].as_object().into_iter().flatten();
        let fields: Vec<_> = properties
            .map(|(key, property)| (key.as_str(), self.value(property, depth_left), !is_required(key)))
            .collect();
        self.dialect.record(fields)
    }

    fn array(&mut self, schema: &Json, depth_left: usize) -> Json {
        if let Some(parts) = schema["prefixItems"].as_array() {
            let length = parts.len();
            let parts: Option<Vec<Json>> = parts.iter().map(|part| self.plain(part, depth_left)).collect();
            let part = parts.and_then(|parts| self.dialect.choice(parts));
            let part = part.map_or_else(|| local("any"), |part| either(part, local("reference")));
            return self.dialect.list(part, &json!({"minItems": length, "maxItems": length}));
        }
        let items = self.value(&schema["items"], depth_left);
        self.dialect.list(items, schema)
    }
}

fn with_type(schema: &Json, name: &Json) -> Json {
    let mut schema = schema.clone();
    schema["type"] = name.clone();
    schema
}
