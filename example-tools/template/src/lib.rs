//! `template`: turns data into a page. A library (minijinja) with a border around it: fuel, depth and escaping are set
//! here, so neither a template nor the data in it can run wild.

mod filters;

use cofferdam_tool_sdk::prelude::*;

/// Renders reports from templates and JSON.
#[tools]
mod template {
    use minijinja::value::ValueKind;
    use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior, Value};

    use crate::filters;

    /// Steps of a template: some hundred thousand table cells.
    const FUEL: u64 = 5_000_000;

    /// How deep macros and blocks nest: the guest's stack is small.
    const DEPTH_MAX: usize = 64;

    /// What the page is written in, and so what of the data is escaped.
    #[derive(Clone, Copy, Debug, ToolType)]
    pub enum Format {
        Markdown,
        Html,
        /// Nothing is escaped.
        Text,
    }

    /// Renders a Jinja template. Beside Jinja's usual filters there are `number` and `table`: `{{ 1234.5 | number(2) }}`
    /// gives `1,234.50`; `{{ result | table }}` draws `{columns, rows}` or a list of objects.
    #[tool(effect = "pure")]
    pub fn render(
        /// The template, like `# {{ title }}`.
        template: String,
        /// A JSON object; its members are the template's variables.
        data: String,
        /// What the page is written in.
        format: Format,
    ) -> Result<String, ToolError> {
        let data: Value =
            serde_json::from_str(&data).map_err(|error| ToolError::input(format!("`data` is no JSON: {error}")))?;
        if data.kind() != ValueKind::Map {
            return Err(ToolError::input("`data` is no JSON object: wrap it, like {\"items\": [1, 2]}"));
        }
        environment(format).render_str(&template, data).map_err(|error| failed(&error))
    }

    fn environment(format: Format) -> Environment<'static> {
        let mut environment = Environment::empty();
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH_MAX);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(move |_| escape_of(format));
        environment.set_formatter(filters::write_value);
        filters::register(&mut environment);
        environment
    }

    fn escape_of(format: Format) -> AutoEscape {
        match format {
            Format::Markdown => AutoEscape::Custom(filters::MARKDOWN),
            Format::Html => AutoEscape::Html,
            Format::Text => AutoEscape::None,
        }
    }

    fn failed(error: &Error) -> ToolError {
        let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
        let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
        ToolError::new("template.failed", format!("{line}{}{detail}", error.kind()))
    }
}

#[cfg(test)]
mod tests {
    use super::template::*;

    fn check(template: &str, data: &str, format: Format, expected: &str) {
        let found = render(template.to_owned(), data.to_owned(), format).unwrap_or_else(|error| error.message);
        assert_eq!(found, expected);
    }

    #[test]
    fn data_cannot_break_out_of_the_page() {
        check("# {{ t }}", r#"{"t": "a_b | <i>"}"#, Format::Markdown, r"# a\_b \| \<i\>");
        check("<p>{{ t }}", r#"{"t": "<script>"}"#, Format::Html, "<p>&lt;script&gt;");
        check("{{ t }}", r#"{"t": "a_b <i>"}"#, Format::Text, "a_b <i>");
    }

    #[test]
    fn tables_come_from_columns_and_rows_or_objects() {
        let result = r#"{"r": {"columns": ["city", "sum"], "rows": [["Lyon|FR", "2.5"], ["Bonn", "-10"]]}}"#;
        check(
            "{{ r | table }}",
            result,
            Format::Markdown,
            "| city | sum |\n|---|--:|\n| Lyon\\|FR | 2.5 |\n| Bonn | -10 |\n",
        );
        let list = r#"{"r": [{"name": "<b>", "n": 1}]}"#;
        check(
            "{{ r | table }}",
            list,
            Format::Html,
            "<table>\n<tr><th>name</th><th>n</th></tr>\n<tr><td>&lt;b&gt;</td><td>1</td></tr>\n</table>\n",
        );
    }

    #[test]
    fn numbers_are_grouped_and_rounded_exactly() {
        check("{{ n | number(2) }}", r#"{"n": "1234567.005"}"#, Format::Text, "1,234,567.01");
        check("{{ n | number }} {{ -999 | number(1) }}", r#"{"n": 1000}"#, Format::Text, "1,000 -999.0");
        check("{{ 'x' | number }}", "{}", Format::Text, "line 1: invalid operation: `x` is no decimal number");
    }

    #[test]
    fn mistakes_name_their_line() {
        check("a\n{{ b }}", "{}", Format::Text, "line 2: undefined value");
        check("a\n\n{% if %}", "{}", Format::Text, "line 3: syntax error: unexpected end of block");
        check(
            "{% for i in range(9999) %}{% for j in range(9999) %}.{% endfor %}{% endfor %}",
            "{}",
            Format::Text,
            "line 1: engine ran out of fuel",
        );
        check("", "[1]", Format::Text, "`data` is no JSON object: wrap it, like {\"items\": [1, 2]}");
        check("", "{", Format::Text, "`data` is no JSON: EOF while parsing an object at line 1 column 1");
    }
}
