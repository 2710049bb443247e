//! Writes the JSON Schemas of tools, from their WIT types and the texts of their manifests.
//!
//! Promises: a value that the schema takes has one meaning in WIT, and every WIT value but NaN and the infinities has a
//! JSON form. The sandbox converts by the same table:
//!
//! | WIT | JSON |
//! |---|---|
//! | `bool`, `string` | boolean, string |
//! | `char` | string of one character |
//! | `s8`…`u32` | integer within its bounds |
//! | `s64`, `u64` | integer, or its decimal digits as a string, for readers that keep 53 bits only |
//! | `f32`, `f64` | number |
//! | `list<u8>` | string in base64 |
//! | `list<t>` | array |
//! | `tuple<…>` | array of exactly that many |
//! | `record` | object, keys in snake_case; a field of an option type may be left out |
//! | `option<t>` | `null`, or the value; where `t` is an option too, `{"some": value}` |
//! | `result<t, e>` | `{"ok": value}` or `{"err": value}`; `null` where it has no type |
//! | `enum` | string in snake_case |
//! | `flags` | array of distinct strings in snake_case |
//! | `variant` | string in snake_case for a case without a value, else an object with that one key |
//!
//! A schema is made here and nowhere else: a manifest has no place for one, so that no `$ref`, no `pattern` and no size of
//! another's choice is ever compiled.
//!
//! Arguments are an object of the parameters, as if they were a record. The schema of the result is that of the `ok`
//! side where the function returns a `result`; `null` where there is none.

use std::collections::BTreeMap;

use serde_json::{Map, json};

use crate::domain::{Case, Field, Json, Param, Returns, TypeManifest, WitType, json_name};

use super::manifest::{TEXT_CHARS_MAX, clip};

/// The dialect of every schema here.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// Decimal digits of a `u64`; the sandbox checks the bound.
const U64_DIGITS: &str = "^(0|[1-9][0-9]{0,19})$";
/// Decimal digits of an `s64`; the sandbox checks the bound.
const S64_DIGITS: &str = "^-?(0|[1-9][0-9]{0,18})$";

/// What a manifest says of types, by their names in WIT.
pub(super) type Texts = BTreeMap<String, TypeManifest>;

/// Returns the schema of a tool's arguments: an object.
pub(super) fn input(params: &[Param], texts: &Texts) -> Json {
    let properties = params.iter().map(|param| (param.name.as_str(), &param.ty, param.text.as_str()));
    root(object(properties, texts))
}

/// Returns the schema of a tool's result.
pub(super) fn output(returns: &Returns, texts: &Texts) -> Json {
    let ok = match returns {
        Returns::Nothing => None,
        Returns::Value(ty) => Some(ty),
        Returns::Fallible { ok, .. } => ok.as_ref(),
    };
    root(ok.map_or_else(unit, |ty| schema(ty, texts)))
}

fn root(mut schema: Json) -> Json {
    schema["$schema"] = DIALECT.into();
    schema
}

fn unit() -> Json {
    json!({"type": "null"})
}

fn schema(ty: &WitType, texts: &Texts) -> Json {
    match ty {
        WitType::Bool => json!({"type": "boolean"}),
        WitType::S8 => integer(i8::MIN.into(), i8::MAX.into()),
        WitType::S16 => integer(i16::MIN.into(), i16::MAX.into()),
        WitType::S32 => integer(i32::MIN.into(), i32::MAX.into()),
        WitType::U8 => integer(0, u8::MAX.into()),
        WitType::U16 => integer(0, u16::MAX.into()),
        WitType::U32 => integer(0, u32::MAX.into()),
        WitType::S64 => {
            json!({"type": ["integer", "string"], "minimum": i64::MIN, "maximum": i64::MAX, "pattern": S64_DIGITS})
        }
        WitType::U64 => {
            json!({"type": ["integer", "string"], "minimum": 0, "maximum": u64::MAX, "pattern": U64_DIGITS})
        }
        WitType::F32 | WitType::F64 => json!({"type": "number"}),
        WitType::Char => json!({"type": "string", "minLength": 1, "maxLength": 1}),
        WitType::String => json!({"type": "string"}),
        WitType::List(item) if **item == WitType::U8 => json!({"type": "string", "contentEncoding": "base64"}),
        WitType::List(item) => json!({"type": "array", "items": schema(item, texts)}),
        WitType::Tuple(items) => tuple(items, texts),
        WitType::Option(some) => option(some, texts),
        WitType::Result { ok, err } => result(ok.as_deref(), err.as_deref(), texts),
        WitType::Record { name, fields } => record(name, fields, texts),
        WitType::Variant { name, cases } => variant(name, cases, texts),
        WitType::Enum { name, cases } => {
            described(json!({"type": "string", "enum": snake(cases)}), &listed(name, texts))
        }
        WitType::Flags { name, flags } => {
            let items = json!({"type": "string", "enum": snake(flags)});
            described(json!({"type": "array", "items": items, "uniqueItems": true}), &listed(name, texts))
        }
    }
}

fn integer(minimum: i64, maximum: i64) -> Json {
    json!({"type": "integer", "minimum": minimum, "maximum": maximum})
}

fn snake(names: &[String]) -> Vec<String> {
    names.iter().map(|name| json_name(name)).collect()
}

fn tuple(items: &[WitType], texts: &Texts) -> Json {
    let schemas: Vec<_> = items.iter().map(|item| schema(item, texts)).collect();
    json!({"type": "array", "prefixItems": schemas, "items": false, "minItems": items.len()})
}

fn option(some: &WitType, texts: &Texts) -> Json {
    let value = schema(some, texts);
    // `null` is taken by the outer option, so an inner one needs a form of its own.
    nullable(if some.is_option() { keyed("some", value) } else { value })
}

/// Returns `schema` widened to take `null`. Prefers a list of types over `anyOf`, whose errors say nothing.
fn nullable(mut schema: Json) -> Json {
    let Some(types) = schema.get("type").cloned() else { return json!({"anyOf": [schema, unit()]}) };
    let mut types = match types {
        Json::Array(types) => types,
        one => vec![one],
    };
    types.push("null".into());
    schema["type"] = Json::Array(types);
    if let Some(Json::Array(values)) = schema.get_mut("enum") {
        values.push(Json::Null);
    }
    schema
}

fn result(ok: Option<&WitType>, err: Option<&WitType>, texts: &Texts) -> Json {
    let side = |key, ty: Option<&WitType>| keyed(key, ty.map_or_else(unit, |ty| schema(ty, texts)));
    json!({"anyOf": [side("ok", ok), side("err", err)]})
}

/// Returns the schema of an object with exactly one key.
fn keyed(key: &str, value: Json) -> Json {
    let properties: Map<_, _> = [(key.to_owned(), value)].into_iter().collect();
    json!({"type": "object", "properties": properties, "required": [key], "additionalProperties": false})
}

fn record(name: &str, fields: &[Field], texts: &Texts) -> Json {
    let text = |field: &Field| texts.get(name).and_then(|ty| ty.fields.get(&field.name)).map_or("", String::as_str);
    let properties = fields.iter().map(|field| (field.name.as_str(), &field.ty, text(field)));
    described(object(properties, texts), own(name, texts))
}

fn object<'a>(properties: impl Iterator<Item = (&'a str, &'a WitType, &'a str)>, texts: &Texts) -> Json {
    let mut schemas = Map::new();
    let mut required = Vec::new();
    for (name, ty, text) in properties {
        let key = json_name(name);
        if !ty.is_option() {
            required.push(key.clone());
        }
        schemas.insert(key, described(schema(ty, texts), text));
    }
    json!({"type": "object", "properties": schemas, "required": required, "additionalProperties": false})
}

fn variant(name: &str, cases: &[Case], texts: &Texts) -> Json {
    let schemas = cases.iter().map(|case| {
        let key = json_name(&case.name);
        let text = texts.get(name).and_then(|ty| ty.fields.get(&case.name)).map_or("", String::as_str);
        let form = match &case.ty {
            None => json!({"type": "string", "const": key}),
            Some(ty) => keyed(&key, schema(ty, texts)),
        };
        described(form, text)
    });
    described(json!({"anyOf": schemas.collect::<Vec<_>>()}), own(name, texts))
}

fn own<'a>(name: &str, texts: &'a Texts) -> &'a str {
    texts.get(name).map_or("", |ty| ty.text.as_str())
}

/// Returns the text of a type whose cases have no schemas of their own, with the texts of the cases behind it.
fn listed(name: &str, texts: &Texts) -> String {
    let Some(ty) = texts.get(name) else { return String::new() };
    let mut text = ty.text.clone();
    for (case, about) in ty.fields.iter().filter(|(_, about)| !about.is_empty()) {
        text.push_str(&format!("\n`{}`: {about}", json_name(case)));
    }
    clip(&text, TEXT_CHARS_MAX)
}

fn described(mut schema: Json, text: &str) -> Json {
    if !text.is_empty() {
        schema["description"] = text.into();
    }
    schema
}
