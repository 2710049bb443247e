//! The dialects of JSON Schema that providers decode under: what they take of a schema that a reply, or the arguments of
//! a call, must fit.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::protocol::Protocol;
use super::shape::Wrong;

/// What one provider takes.
struct Dialect {
    keywords: &'static [&'static str],
    formats: &'static [&'static str],
    /// Whether each property must be required.
    all_required: bool,
    /// Whether the root must be an object, and no choice.
    object_root: bool,
    has_recursion: bool,
    /// Whether an array may have a least length of 0 or 1 only.
    few_items: bool,
    limits: Limits,
}

/// What all schemas of one request may have together.
struct Limits {
    properties: usize,
    levels: usize,
    enum_values: usize,
    optional: usize,
    unions: usize,
}

const OPENAI: Dialect = Dialect {
    keywords: &[
        "$defs",
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "definitions",
        "description",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "items",
        "maxItems",
        "maximum",
        "minItems",
        "minimum",
        "multipleOf",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
    ],
    formats: &["date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid"],
    all_required: true,
    object_root: true,
    has_recursion: true,
    few_items: false,
    limits: Limits { properties: 5_000, levels: 10, enum_values: 1_000, optional: usize::MAX, unions: usize::MAX },
};

const ANTHROPIC: Dialect = Dialect {
    keywords: &[
        "$defs",
        "$ref",
        "additionalProperties",
        "allOf",
        "anyOf",
        "const",
        "default",
        "definitions",
        "description",
        "enum",
        "format",
        "items",
        "minItems",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
    ],
    formats: &["date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"],
    all_required: false,
    object_root: false,
    has_recursion: false,
    few_items: true,
    limits: Limits { properties: usize::MAX, levels: usize::MAX, enum_values: usize::MAX, optional: 24, unions: 16 },
};

/// Values of an enum above which OpenAI counts its letters as well, and how many these may be.
const LONG_ENUM: usize = 250;
const LONG_ENUM_CHARS_MAX: usize = 15_000;

/// Tools of one request whose arguments Anthropic decodes strictly.
const STRICT_TOOLS_MAX: usize = 20;

const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

/// Keywords one of which each schema has, so that something is said of the value.
const SAYING: [&str; 6] = ["type", "anyOf", "allOf", "$ref", "enum", "const"];

/// Lists what the provider would not take of the schemas in a body of the right form.
pub(super) fn wrongs(protocol: Protocol, body: &Value) -> Vec<Wrong> {
    let mut places: Vec<String> = Vec::new();
    let tools = |place: &str, schema: &str| -> Vec<String> {
        let tools = body["tools"].as_array().into_iter().flatten().enumerate();
        let is_strict = |tool: &Value| tool.pointer(place).and_then(|at| at.get("strict")) == Some(&Value::Bool(true));
        tools.filter(|(_, tool)| is_strict(tool)).map(|(n, _)| format!("/tools/{n}{place}/{schema}")).collect()
    };
    let dialect = match protocol {
        Protocol::Chat => {
            places.extend(strict(body, "/response_format/json_schema"));
            places.extend(tools("/function", "parameters"));
            &OPENAI
        }
        Protocol::Responses => {
            places.extend(strict(body, "/text/format"));
            places.extend(tools("", "parameters"));
            &OPENAI
        }
        Protocol::Messages => {
            places.extend(tools("", "input_schema"));
            if places.len() > STRICT_TOOLS_MAX {
                return vec![Wrong::new("/tools", format!("a request has at most {STRICT_TOOLS_MAX} strict tools"))];
            }
            places.push("/output_config/format/schema".to_owned());
            &ANTHROPIC
        }
        // They ignore what they do not know.
        Protocol::Gemini => return references(body, &["/generationConfig/responseJsonSchema"]),
        Protocol::Ollama => return Vec::new(),
    };
    let mut reading = Reading::new(dialect);
    for place in places {
        if let Some(schema) = body.pointer(&place) {
            reading.root(&place, schema);
        }
    }
    reading.finish()
}

/// Returns the place of the schema at `place`, where it is to be kept strictly.
fn strict(body: &Value, place: &str) -> Option<String> {
    (body.pointer(place)?["strict"] == true).then(|| format!("{place}/schema"))
}

/// One request's schemas under way.
struct Reading<'a> {
    dialect: &'a Dialect,
    wrongs: Vec<Wrong>,
    properties: usize,
    enum_values: usize,
    optional: usize,
    unions: usize,
    place: String,
}

impl<'a> Reading<'a> {
    fn new(dialect: &'a Dialect) -> Self {
        let place = String::new();
        Self { dialect, wrongs: Vec::new(), properties: 0, enum_values: 0, optional: 0, unions: 0, place }
    }

    fn wrong(&mut self, pointer: &str, what: impl Into<String>) {
        self.wrongs.push(Wrong::new(pointer, what));
    }

    fn root(&mut self, place: &str, schema: &Value) {
        place.clone_into(&mut self.place);
        if self.dialect.object_root && (schema["type"] != "object" || schema.get("anyOf").is_some()) {
            self.wrong(place, "the root of a strict schema must be of type \"object\", and no `anyOf`");
        }
        self.schema(place, schema, schema, 0);
        if !self.dialect.has_recursion && is_recursive(schema) {
            self.wrong(place, "recursive schemas are not supported");
        }
    }

    /// Reads `schema`, which stands in `root` below `levels` objects.
    fn schema(&mut self, pointer: &str, schema: &Value, root: &Value, levels: usize) {
        let Some(fields) = schema.as_object() else {
            return self.wrong(pointer, "a strict schema is an object");
        };
        for key in fields.keys() {
            if !self.dialect.keywords.contains(&key.as_str()) {
                self.wrong(pointer, format!("`{key}` is not permitted"));
            }
        }
        if !SAYING.iter().any(|key| fields.contains_key(*key)) {
            self.wrong(pointer, "schema must have a `type` key");
        }
        self.reference(pointer, fields, root);
        if self.dialect.all_required {
            self.firsts(pointer, fields, root);
        }
        self.values(pointer, fields);
        let is_object = has_type(schema, "object") || fields.contains_key("properties");
        let levels = levels + usize::from(is_object);
        if is_object {
            self.object(pointer, fields);
        }
        if levels > self.dialect.limits.levels {
            return self.wrong(pointer, format!("more than {} levels of nesting", self.dialect.limits.levels));
        }
        for (below, part) in parts(fields) {
            self.schema(&format!("{pointer}/{below}"), part, root, levels);
        }
    }

    fn reference(&mut self, pointer: &str, fields: &Map<String, Value>, root: &Value) {
        let Some(reference) = fields.get("$ref") else { return };
        if self.dialect.all_required && fields.len() > 1 {
            self.wrong(pointer, "$ref cannot have keywords beside it");
        }
        let target = reference.as_str().and_then(|text| text.strip_prefix('#')).and_then(|text| root.pointer(text));
        if target.is_none() {
            self.wrong(pointer, format!("`$ref` {reference} does not lead to a part of this schema"));
        }
    }

    /// Reads how the objects of a choice begin: two may have one first key only where its constant tells them apart.
    fn firsts(&mut self, pointer: &str, fields: &Map<String, Value>, root: &Value) {
        let mut firsts: Vec<(&str, Option<&Value>)> = Vec::new();
        for object in objects(fields, root, 0) {
            let Some((key, property)) = object["properties"].as_object().and_then(|fields| fields.iter().next()) else {
                continue;
            };
            let constant = property.get("const").or_else(|| property.get("enum"));
            let is_apart = |other: Option<&Value>| constant.is_some() && other.is_some() && other != constant;
            let is_alike = |other: &(&str, Option<&Value>)| other.0 == key && !is_apart(other.1);
            if firsts.iter().any(is_alike) {
                self.wrong(
                    pointer,
                    format!("Objects provided via 'anyOf' must not share identical first keys: `{key}`"),
                );
            }
            firsts.push((key.as_str(), constant));
        }
    }

    /// Reads what is said of values other than objects.
    fn values(&mut self, pointer: &str, fields: &Map<String, Value>) {
        let types: Vec<&Value> = match &fields.get("type") {
            Some(Value::Array(types)) => types.iter().collect(),
            types => types.iter().copied().collect(),
        };
        if types.iter().any(|name| !name.as_str().is_some_and(|name| TYPES.contains(&name))) {
            self.wrong(pointer, "`type` is not one of JSON");
        }
        let values = fields.get("enum").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        self.enum_values += values.len();
        let chars: usize = values.iter().filter_map(Value::as_str).map(|text| text.chars().count()).sum();
        if self.dialect.all_required && values.len() > LONG_ENUM && chars > LONG_ENUM_CHARS_MAX {
            self.wrong(
                pointer,
                format!("an enum of more than {LONG_ENUM} values has at most {LONG_ENUM_CHARS_MAX} letters"),
            );
        }
        if let Some(format) = fields.get("format")
            && !format.as_str().is_some_and(|format| self.dialect.formats.contains(&format))
        {
            self.wrong(pointer, format!("`format` {format} is not supported"));
        }
        if self.dialect.few_items && fields.get("minItems").is_some_and(|n| n.as_u64().is_none_or(|n| n > 1)) {
            self.wrong(pointer, "`minItems` must be 0 or 1");
        }
        if types.iter().any(|name| *name == "array") && !fields.contains_key("items") {
            self.wrong(pointer, "array schema missing `items`");
        }
    }

    fn object(&mut self, pointer: &str, fields: &Map<String, Value>) {
        if fields.get("additionalProperties") != Some(&Value::Bool(false)) {
            self.wrong(pointer, "`additionalProperties` is required to be supplied and to be false");
        }
        let names = |value: Option<&'_ Value>| -> BTreeSet<String> {
            value.and_then(Value::as_object).into_iter().flat_map(Map::keys).cloned().collect()
        };
        let properties = names(fields.get("properties"));
        let required = fields.get("required").and_then(Value::as_array).into_iter().flatten();
        let required: BTreeSet<String> = required.filter_map(|name| name.as_str().map(str::to_owned)).collect();
        let values = fields.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::values);
        self.unions += values.filter(|value| value["type"].is_array() || value["anyOf"].is_array()).count();
        self.properties += properties.len();
        self.optional += properties.difference(&required).count();
        if let Some(missing) = properties.difference(&required).next().filter(|_| self.dialect.all_required) {
            self.wrong(pointer, format!("`required` must include every key in properties: `{missing}` is missing"));
        }
        if let Some(extra) = required.difference(&properties).next() {
            self.wrong(pointer, format!("`required` has `{extra}`, which is no property"));
        }
    }

    fn finish(mut self) -> Vec<Wrong> {
        let limits = &self.dialect.limits;
        let counts = [
            ("properties", self.properties, limits.properties),
            ("enum values", self.enum_values, limits.enum_values),
            ("optional parameters", self.optional, limits.optional),
            ("parameters with union types", self.unions, limits.unions),
        ];
        let place = self.place.clone();
        for (what, count, max) in counts {
            if count > max {
                self.wrong(&place, format!("{count} {what} are too many: the schemas of a request have at most {max}"));
            }
        }
        self.wrongs
    }
}

fn has_type(schema: &Value, name: &str) -> bool {
    match &schema["type"] {
        Value::Array(types) => types.iter().any(|one| one == name),
        one => one == name,
    }
}

/// Returns the objects among which a choice lets one choose, those of choices within it as well.
fn objects<'a>(fields: &'a Map<String, Value>, root: &'a Value, levels: usize) -> Vec<&'a Value> {
    let mut objects = Vec::new();
    for option in fields.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        let target = option["$ref"].as_str().and_then(|text| root.pointer(text.strip_prefix('#')?)).unwrap_or(option);
        match target.as_object() {
            Some(within) if target["anyOf"].is_array() && levels < 10 => {
                objects.extend(self::objects(within, root, levels + 1));
            }
            _ if has_type(target, "object") => objects.push(target),
            _ => {}
        }
    }
    objects
}

/// Returns the schemas within a schema, and where they stand.
fn parts(fields: &Map<String, Value>) -> Vec<(String, &Value)> {
    let mut parts = Vec::new();
    for key in ["properties", "$defs", "definitions"] {
        let named = fields.get(key).and_then(Value::as_object).into_iter().flatten();
        parts.extend(named.map(|(name, part)| (format!("{key}/{}", name.replace('~', "~0").replace('/', "~1")), part)));
    }
    for key in ["anyOf", "allOf"] {
        let listed = fields.get(key).and_then(Value::as_array).into_iter().flatten().enumerate();
        parts.extend(listed.map(|(n, part)| (format!("{key}/{n}"), part)));
    }
    parts.extend(fields.get("items").map(|items| ("items".to_owned(), items)));
    parts
}

/// Tells whether a part of `root` holds itself.
fn is_recursive(root: &Value) -> bool {
    fn holds(part: &Value, root: &Value, above: &mut Vec<String>) -> bool {
        let Some(fields) = part.as_object() else { return false };
        if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
            if above.iter().any(|seen| seen == reference) {
                return true;
            }
            let Some(target) = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer)) else {
                return false;
            };
            above.push(reference.to_owned());
            let is_recursive = holds(target, root, above);
            above.pop();
            return is_recursive;
        }
        parts(fields).into_iter().any(|(_, part)| holds(part, root, above))
    }
    holds(root, root, &mut vec!["#".to_owned()])
}

/// Lists the references that have company: where Gemini finds one, nothing else may stand but what begins with `$`.
fn references(body: &Value, places: &[&str]) -> Vec<Wrong> {
    let mut wrongs = Vec::new();
    for place in places {
        let mut open: Vec<(String, &Value)> =
            body.pointer(place).map(|v| ((*place).to_owned(), v)).into_iter().collect();
        while let Some((pointer, value)) = open.pop() {
            let Some(fields) = value.as_object() else { continue };
            if fields.contains_key("$ref") && fields.keys().any(|key| !key.starts_with('$')) {
                wrongs.push(Wrong::new(&pointer, "beside `$ref` only keys that begin with `$` may stand"));
            }
            open.extend(parts(fields).into_iter().map(|(below, part)| (format!("{pointer}/{below}"), part)));
        }
    }
    wrongs
}
