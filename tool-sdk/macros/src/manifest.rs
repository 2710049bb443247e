//! The manifest: what a component says of itself, as JSON for the custom section `cofferdam:manifest`.
//!
//! It carries what WIT types cannot: texts, effects and asks. Names are the WIT names. The format is described in the
//! SDK's documentation; a host treats all of it as untrusted.

use crate::model::{Component, Declared, Shape, Tool};

/// The version of the manifest's format.
const FORMAT: u32 = 0;

/// Returns the manifest of a component.
pub fn json(component: &Component) -> String {
    let tools = component.tools.iter().map(|tool| (tool.name.as_str(), tool_json(component, tool)));
    let types = component.types.iter().map(|declared| (declared.name.as_str(), type_json(declared)));
    object([
        ("manifest", FORMAT.to_string()),
        ("component", string(&component.name)),
        ("version", string(&component.version)),
        ("summary", string(&component.summary)),
        ("tools", object(tools)),
        ("types", object(types)),
    ])
}

fn tool_json(component: &Component, tool: &Tool) -> String {
    let params = tool.params.iter().map(|param| (param.name.as_str(), param.text.as_str()));
    let asks: Vec<String> = tool.asks.iter().map(|ask| string(ask)).collect();
    let mut members = vec![("summary", string(&tool.summary)), ("params", texts(params))];
    members.extend(tool.effect.iter().map(|effect| ("effect", string(effect))));
    members.push(("asks", format!("[{}]", asks.join(","))));
    members.extend(tool.undo.iter().map(|undo| ("undo", undo.json(component, string))));
    members.extend(tool.reconcile.iter().map(|reconcile| ("reconcile", reconcile.json(component, string))));
    members.extend(tool.is_internal.then(|| ("internal", "true".to_owned())));
    object(members)
}

fn type_json(declared: &Declared) -> String {
    let fields = match &declared.shape {
        Shape::Record(fields) => texts(fields.iter().map(|field| (field.name.as_str(), field.text.as_str()))),
        Shape::Cases(cases) => texts(cases.iter().map(|case| (case.name.as_str(), case.text.as_str()))),
    };
    object([("text", string(&declared.text)), ("fields", fields)])
}

/// Only what the author described: an empty text says nothing.
fn texts<'a>(members: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    object(members.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| (name, string(text))))
}

fn object<'a>(members: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let members: Vec<String> = members.into_iter().map(|(name, value)| format!("{}:{value}", string(name))).collect();
    format!("{{{}}}", members.join(","))
}

/// Returns a text as JSON.
pub fn string(text: &str) -> String {
    let escaped: String = text.chars().map(escape).collect();
    format!("\"{escaped}\"")
}

fn escape(character: char) -> String {
    match character {
        '"' => "\\\"".to_owned(),
        '\\' => "\\\\".to_owned(),
        '\n' => "\\n".to_owned(),
        control if u32::from(control) < 0x20 => format!("\\u{:04x}", u32::from(control)),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    #[test]
    fn texts_effects_and_asks_are_carried() {
        let component = Component::read(&parse_quote! {
            /// Reads "tables".
            mod table {
                /// Sums a column.
                #[tool(effect = "read", asks("files.read", "log"))]
                pub fn sum_up(
                    /// Where it is.
                    file_path: String,
                    plain: u8,
                ) -> Total { unreachable!("only the signature is read") }
                /// A total.
                #[derive(ToolType)]
                pub struct Total {
                    /// In cents.
                    pub amount: i64,
                }
            }
        })
        .unwrap();
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!(
            r#"{{"manifest":0,"component":"table","version":"{version}","summary":"Reads \"tables\".","tools":{{"sum-up":{{"summary":"Sums a column.","params":{{"file-path":"Where it is."}},"effect":"read","asks":["files.read","log"]}}}},"types":{{"total":{{"text":"A total.","fields":{{"amount":"In cents."}}}}}}}}"#
        );
        assert_eq!(json(&component), expected);
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(string("a\u{1}\n\\"), r#""a\u0001\n\\""#);
    }
}
