//! What a provider takes of JSON Schema, and the shapes that are written for it.
//!
//! The strictest form that each takes: a provider that meets another keyword refuses the request.

use serde_json::{Map, json};

use crate::domain::Json;

/// Largest bound of a number that is passed on: beyond 2^53 servers that count in doubles misread it.
const BOUND_MAX: f64 = 9_007_199_254_740_992.0;

/// A part of JSON Schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's strict form, which others take too: every key is required, so that what is optional may be null.
    Strict,
    /// Anthropic's: no bounds, nothing that refers to itself, and few choices and optional keys in all.
    Anthropic,
    /// Google's `responseJsonSchema`: no constants, and nothing that refers to itself.
    Gemini,
}

impl Dialect {
    /// Returns an object of exactly these keys, of which those that are true may be left out.
    pub(super) fn record<'a>(self, fields: impl IntoIterator<Item = (&'a str, Json, bool)>) -> Json {
        let fields = fields.into_iter().map(|(key, field, is_optional)| {
            let field = if is_optional && self == Self::Strict { nullable(field) } else { field };
            (key, field, is_optional && self != Self::Strict)
        });
        let fields: Vec<(&str, Json, bool)> = fields.collect();
        // Written in this order where maps keep theirs: a model then reasons before it decides.
        let required: Vec<&str> =
            fields.iter().filter(|(_, _, is_optional)| !is_optional).map(|(key, _, _)| *key).collect();
        let required = json!(required);
        let properties = Json::Object(fields.into_iter().map(|(key, field, _)| (key.to_owned(), field)).collect());
        json!({"type": "object", "required": required, "additionalProperties": false, "properties": properties})
    }

    /// Returns the schema of one of these values, or nothing where it cannot be said.
    pub(super) fn constant(self, schema: &Json) -> Option<Json> {
        let values: Vec<&Json> =
            schema.get("const").into_iter().chain(schema["enum"].as_array().into_iter().flatten()).collect();
        let is_text = values.iter().all(|value| value.is_string());
        if self == Self::Gemini {
            let is_number = values.iter().all(|value| value.is_number());
            let name = if is_text { "string" } else { "number" };
            return (is_text || is_number).then(|| json!({"type": name, "enum": values}));
        }
        let mut constant = only(schema, &["type", "const", "enum"]);
        if is_text {
            // Some want the type beside a constant.
            constant["type"] = "string".into();
        }
        Some(constant)
    }

    /// Returns the schema of what fits one of these, or nothing where that cannot be said.
    pub(super) fn choice(self, options: Vec<Json>) -> Option<Json> {
        let mut flat: Vec<Json> = Vec::new();
        for option in options {
            let within = match option {
                Json::Object(mut fields) if fields.contains_key("anyOf") => fields.remove("anyOf"),
                other => Some(Json::Array(vec![other])),
            };
            for option in within.iter().flat_map(Json::as_array).flatten() {
                if !flat.contains(option) {
                    flat.push(option.clone());
                }
            }
        }
        let flat = if self == Self::Strict { told_apart(flat)? } else { flat };
        (!flat.is_empty()).then(|| json!({"anyOf": flat}))
    }

    /// Returns the schema of a number within the bounds that can be said.
    pub(super) fn number(self, schema: &Json) -> Json {
        let bounds: &[&str] = match self {
            Self::Strict => &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
            Self::Anthropic => &[],
            Self::Gemini => &["minimum", "maximum"],
        };
        let mut number = only(schema, bounds);
        if let Some(bounds) = number.as_object_mut() {
            bounds.retain(|_, bound| bound.as_f64().is_some_and(|bound| bound.abs() <= BOUND_MAX));
        }
        number["type"] = schema["type"].clone();
        number
    }

    /// Returns the schema of a list, with the bounds of `schema` that can be said.
    pub(super) fn list(self, items: Json, schema: &Json) -> Json {
        let mut list = match self {
            Self::Strict | Self::Gemini => only(schema, &["minItems", "maxItems"]),
            Self::Anthropic => json!({}),
        };
        list["type"] = "array".into();
        list["items"] = items;
        list
    }

    /// Returns what the schema's other parts may refer to: a reference to a step's output, and any value.
    pub(super) fn definitions(self) -> Json {
        let text = json!({"type": "string"});
        let output = self.record([("$from", text.clone(), false), ("path", text.clone(), false)]);
        // Within `for_each` a part of the item.
        let reference = either(output, self.record([("$item", text, false)]));
        let scalars =
            [json!({"type": "string"}), json!({"type": "number"}), json!({"type": "boolean"}), local("reference")];
        let items = if self == Self::Strict { local("any") } else { json!({ "anyOf": scalars }) };
        let any: Vec<Json> = scalars.into_iter().chain([list(items)]).collect();
        json!({"reference": reference, "any": {"anyOf": any}})
    }
}

fn only(schema: &Json, keys: &[&str]) -> Json {
    let kept = keys.iter().filter_map(|key| Some(((*key).to_owned(), schema.get(key)?.clone())));
    Json::Object(kept.collect())
}

/// Gives each object a first key of its own, or returns nothing where that cannot be: OpenAI refuses a choice between
/// objects that begin alike.
fn told_apart(mut options: Vec<Json>) -> Option<Vec<Json>> {
    let keys = |option: &Json| option["properties"].as_object().map_or(0, Map::len);
    // One of few keys has less to choose from.
    options.sort_by_key(keys);
    let mut firsts: Vec<String> = Vec::new();
    for option in &mut options {
        let Some(properties) = option.get_mut("properties").and_then(Json::as_object_mut).filter(|all| !all.is_empty())
        else {
            continue;
        };
        let first = properties.keys().find(|key| !firsts.contains(*key))?.clone();
        let mut fields: Vec<(String, Json)> = std::mem::take(properties).into_iter().collect();
        fields.sort_by_key(|(key, _)| *key != first);
        properties.extend(fields);
        if let Some(required) = option.get_mut("required").and_then(Json::as_array_mut) {
            required.sort_by_key(|key| *key != *first);
        }
        firsts.push(first);
    }
    Some(options)
}

pub(super) fn list(items: Json) -> Json {
    json!({"type": "array", "items": items})
}

pub(super) fn nullable(schema: Json) -> Json {
    either(schema, json!({"type": "null"}))
}

/// Returns the schema of what fits one of both; a choice becomes a longer choice.
pub(super) fn either(mut schema: Json, other: Json) -> Json {
    if schema == other {
        return schema;
    }
    match schema.get_mut("anyOf").and_then(Json::as_array_mut) {
        Some(options) => {
            if !options.contains(&other) {
                options.push(other);
            }
            schema
        }
        None => json!({"anyOf": [schema, other]}),
    }
}

pub(super) fn local(name: &str) -> Json {
    json!({"$ref": format!("#/$defs/{name}")})
}
