//! The WIT package of a component, as text. Other hosts and languages need nothing else to call its tools.

use std::fmt::Write;

use syn::Ident;

use crate::model::{Component, Declared, Output, Shape, Tool};
use crate::names;

/// The namespace of every package that the SDK derives.
pub const NAMESPACE: &str = "tools";

/// The world that exports the component's one interface.
pub const WORLD: &str = "tool";

const TOOL_ERROR: &str = "    /// What went wrong, for the caller.
    record tool-error {
        /// Stable and dotted, like `io.not_found`.
        code: string,
        message: string,
        /// Whether the same call may succeed later.
        retryable: bool,
    }
";

/// Returns the WIT source of a component.
pub fn text(component: &Component) -> String {
    let interface = names::wit(&component.name);
    let mut items: Vec<String> = Vec::new();
    if component.tools.iter().any(|tool| tool.output.is_fallible) {
        items.push(TOOL_ERROR.to_owned());
    }
    items.extend(component.types.iter().map(|declared| type_text(component, declared)));
    items.extend(component.tools.iter().map(|tool| tool_text(component, tool)));
    format!(
        "package {NAMESPACE}:{interface}@{};\n\n{}interface {interface} {{\n{}}}\n\nworld {WORLD} {{\n    export {interface};\n}}\n",
        component.version,
        doc("", &component.summary),
        items.join("\n"),
    )
}

fn type_text(component: &Component, declared: &Declared) -> String {
    let keyword = match &declared.shape {
        Shape::Record(_) => "record",
        Shape::Cases(cases) if cases.iter().all(|case| case.payload.is_none()) => "enum",
        Shape::Cases(_) => "variant",
    };
    let mut text = doc("    ", &declared.text);
    let _ = writeln!(text, "    {keyword} {} {{", names::wit(&declared.name));
    for (name, note) in members(component, declared) {
        let _ = writeln!(text, "{}        {name},", doc("        ", &note));
    }
    text + "    }\n"
}

fn members(component: &Component, declared: &Declared) -> Vec<(String, String)> {
    let name_of = |ident: &Ident| component.name_of(ident);
    match &declared.shape {
        Shape::Record(fields) => fields
            .iter()
            .map(|field| (format!("{}: {}", names::wit(&field.name), field.ty.wit(&name_of)), field.text.clone()))
            .collect(),
        Shape::Cases(cases) => cases
            .iter()
            .map(|case| {
                let payload = case.payload.as_ref().map(|ty| format!("({})", ty.wit(&name_of))).unwrap_or_default();
                (names::wit(&case.name) + &payload, case.text.clone())
            })
            .collect(),
    }
}

fn tool_text(component: &Component, tool: &Tool) -> String {
    let name_of = |ident: &Ident| component.name_of(ident);
    let params: Vec<String> =
        tool.params.iter().map(|param| format!("{}: {}", names::wit(&param.name), param.ty.wit(&name_of))).collect();
    format!(
        "{}    {}: func({}){};\n",
        doc("    ", &tool.summary),
        names::wit(&tool.name),
        params.join(", "),
        output_text(component, &tool.output),
    )
}

fn output_text(component: &Component, output: &Output) -> String {
    let value = output.ty.as_ref().map(|ty| ty.wit(&|ident| component.name_of(ident)));
    match (value, output.is_fallible) {
        (Some(value), true) => format!(" -> result<{value}, tool-error>"),
        (None, true) => " -> result<_, tool-error>".to_owned(),
        (Some(value), false) => format!(" -> {value}"),
        (None, false) => String::new(),
    }
}

fn doc(indent: &str, text: &str) -> String {
    text.lines().map(|line| format!("{indent}/// {line}").trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    #[test]
    fn a_module_becomes_a_package() {
        let component = Component::read(&parse_quote! {
            /// Looks things up.
            mod look_up {
                /// Finds entries.
                #[tool]
                pub fn list(from: String, kinds: Vec<Kind>) -> Result<Vec<inner::List>, ToolError> { unreachable!("only the signature is read") }
                #[tool]
                fn ping() {}
                #[derive(Debug, ToolType)]
                pub enum Kind { File, Size(u64) }
                mod inner {
                    /// One entry.
                    #[derive(ToolType)]
                    pub struct List {
                        /// Its name.
                        pub r#type: String,
                    }
                    #[derive(ToolType)]
                    struct NeverReached { a: u8 }
                }
            }
        })
        .unwrap();
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!(
            "package tools:look-up@{version};\n\n/// Looks things up.\ninterface look-up {{\n{TOOL_ERROR}\n    variant kind \
             {{\n        file,\n        size(u64),\n    }}\n\n    /// One entry.\n    record list-type {{\n        /// Its \
             name.\n        %type: string,\n    }}\n\n    /// Finds entries.\n    %list: func(%from: string, kinds: \
             list<kind>) -> result<list<list-type>, tool-error>;\n\n    ping: func();\n}}\n\nworld tool {{\n    export \
             look-up;\n}}\n"
        );
        assert_eq!(text(&component), expected);
    }
}
