//! Optional arguments survive strict formats: a model must write every key there, and writes null for what it leaves out.

use serde_json::Map;

use crate::domain::Json;
use crate::planner::ContextPack;

/// Takes out the nulls that a strict schema made the model write for arguments that it leaves out. A null that the
/// tool's schema allows, or that stands for what it requires, stays.
pub(super) fn strip_args(tool: &str, args: &mut Map<String, Json>, pack: &ContextPack) {
    if let Some(offered) = pack.tools.iter().find(|offered| offered.name.to_string() == tool) {
        strip_fields(args, &offered.input_schema);
    }
}

fn strip_fields(fields: &mut Map<String, Json>, schema: &Json) {
    let is_required = |key: &str| schema["required"].as_array().is_some_and(|keys| keys.iter().any(|k| k == key));
    fields.retain(|key, value| {
        let Some(property) = schema["properties"].get(key) else { return true };
        strip(value, property);
        !value.is_null() || is_required(key) || takes_null(property)
    });
}

/// Goes down where the schema leaves no choice; in a choice of shapes a null may mean something.
fn strip(value: &mut Json, schema: &Json) {
    match value {
        Json::Object(fields) => strip_fields(fields, schema),
        Json::Array(items) => items.iter_mut().for_each(|item| strip(item, &schema["items"])),
        _ => {}
    }
}

fn takes_null(schema: &Json) -> bool {
    let is_null = |value: &Json| value == "null";
    let takes_type = match &schema["type"] {
        Json::Array(types) => types.iter().any(is_null),
        Json::Null => ["anyOf", "oneOf", "enum", "const", "$ref"].iter().all(|key| schema.get(key).is_none()),
        name => is_null(name),
    };
    let options = ["anyOf", "oneOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten();
    takes_type
        || options.into_iter().any(takes_null)
        || schema["enum"].as_array().is_some_and(|values| values.contains(&Json::Null))
        || schema.get("const").is_some_and(Json::is_null)
}
