//! `template`: turns values into a page. A library (minijinja) with a border around it: fuel, depth and escaping are set
//! here, so neither a template nor the data in it can run wild. The data is typed, so that a plan can hand over what
//! other tools returned, and a mistake shows before anything runs.

mod filters;

use cofferdam_tool_sdk::prelude::*;

/// Renders reports from templates and values.
#[tools]
pub mod template {
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

    /// One variable of the template.
    #[derive(Clone, Debug, ToolType)]
    pub struct Variable {
        /// How the template calls it.
        pub name: String,
        pub value: Content,
    }

    /// What a variable holds.
    #[derive(Clone, Debug, ToolType)]
    pub enum Content {
        /// Text, or a decimal number as text.
        Text(String),
        Count(u64),
        Texts(Vec<String>),
        /// Words with their counts; in a template each has `word` and `count`.
        Counts(Vec<Counted>),
        Table(Table),
    }

    /// A word and how often it occurs.
    #[derive(Clone, Debug, ToolType)]
    pub struct Counted {
        pub word: String,
        pub count: u32,
    }

    /// Columns and rows of text.
    #[derive(Clone, Debug, ToolType)]
    pub struct Table {
        /// What stands above each column.
        pub columns: Vec<String>,
        pub rows: Vec<Vec<String>>,
    }

    /// Renders a Jinja template. Beside Jinja's usual filters there are `number` and `table`: `{{ '1234.5' | number(2) }}`
    /// gives `1,234.50`; `{{ sales | table(2) }}` draws a table whose columns of numbers are written so.
    #[tool(effect = "pure")]
    pub fn render(
        /// The template, like `# {{ title }}`.
        template: String,
        /// The template's variables.
        variables: Vec<Variable>,
        /// What the page is written in.
        format: Format,
    ) -> Result<String, ToolError> {
        let data: Value = variables.into_iter().map(|variable| (variable.name, value(variable.value))).collect();
        environment(format).render_str(&template, data).map_err(|error| failed(&error))
    }

    fn value(content: Content) -> Value {
        match content {
            Content::Text(text) => text.into(),
            Content::Count(count) => count.into(),
            Content::Texts(texts) => texts.into(),
            Content::Counts(counts) => counts.into_iter().map(counted).collect(),
            Content::Table(table) => Value::from_object(filters::Grid { columns: table.columns, rows: table.rows }),
        }
    }

    fn counted(counted: Counted) -> Value {
        [("word", Value::from(counted.word)), ("count", Value::from(counted.count))].into_iter().collect()
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
mod tests;
