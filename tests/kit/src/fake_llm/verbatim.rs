//! JSON that holds text which must be sent as it is, malformed or with a key twice: a model's arguments are its own.

use serde_json::Value;

/// Marks text that stands for itself; a control character, which no script writes by accident.
const MARK: &str = "\u{1}verbatim:";

/// Makes a value that is written as `text`, without quotes.
pub(super) fn verbatim(text: &str) -> Value {
    Value::String(format!("{MARK}{text}"))
}

/// Writes `value` as JSON, its verbatim parts as they are.
pub(super) fn write(value: &Value) -> String {
    match value {
        Value::String(text) => text.strip_prefix(MARK).map_or_else(|| value.to_string(), str::to_owned),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(write).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), write(value))).collect();
            format!("{{{}}}", fields.join(","))
        }
        other => other.to_string(),
    }
}
