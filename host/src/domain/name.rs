//! Names of tools, and patterns over them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a tool: `component.function`, each part in kebab-case as in WIT.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ToolName {
    component: String,
    function: String,
}

/// A pattern over tool names in a policy: `csv.query`, `csv.*` or `*`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ToolPattern {
    component: Option<String>,
    function: Option<String>,
}

/// Longest part of a tool's name, in bytes: long enough for any honest name, short enough for a table.
const PART_BYTES_MAX: usize = 64;

impl ToolName {
    /// Makes the name `component.function`.
    ///
    /// # Errors
    /// Names the part that is not kebab-case.
    pub fn new(component: &str, function: &str) -> Result<Self, String> {
        for part in [component, function] {
            if !is_label(part) {
                let shown: String = part.chars().take(40).flat_map(char::escape_default).collect();
                return Err(format!(
                    "`{shown}` cannot be part of a tool's name: lowercase letters, digits and `-` or `_`, first a letter, at most {PART_BYTES_MAX} bytes"
                ));
            }
        }
        Ok(Self { component: component.to_owned(), function: function.to_owned() })
    }

    /// Returns the component's part.
    pub fn component(&self) -> &str {
        &self.component
    }

    /// Returns the function's part.
    pub fn function(&self) -> &str {
        &self.function
    }
}

fn is_label(part: &str) -> bool {
    part.len() <= PART_BYTES_MAX
        && part.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
        && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
}

/// Returns the JSON spelling of a WIT name: `max-rows` becomes `max_rows`. Reversible, as WIT names hold no `_`.
pub fn json_name(wit: &str) -> String {
    wit.replace('-', "_")
}

impl ToolPattern {
    /// Answers whether `name` is one of the tools meant.
    pub fn matches(&self, name: &ToolName) -> bool {
        self.component.as_ref().is_none_or(|c| *c == name.component)
            && self.function.as_ref().is_none_or(|f| *f == name.function)
    }
}

impl FromStr for ToolName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (component, function) = text
            .split_once('.')
            .ok_or_else(|| format!("tool name `{}` is not `component.function`", text.escape_default()))?;
        Self::new(component, function)
    }
}

impl FromStr for ToolPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self { component: None, function: None });
        }
        let (component, function) = text.split_once('.').ok_or_else(|| {
            format!("tool pattern `{}` is not `component.function`, `component.*` or `*`", text.escape_default())
        })?;
        if function == "*" {
            // Checks the component's part as a name.
            let name = ToolName::new(component, "any")?;
            return Ok(Self { component: Some(name.component), function: None });
        }
        let name = ToolName::new(component, function)?;
        Ok(Self { component: Some(name.component), function: Some(name.function) })
    }
}

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.component, self.function)
    }
}

impl fmt::Display for ToolPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.component, &self.function) {
            (None, _) => f.write_str("*"),
            (Some(component), None) => write!(f, "{component}.*"),
            (Some(component), Some(function)) => write!(f, "{component}.{function}"),
        }
    }
}

macro_rules! text_forms {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{self}") }
        }
        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> { text.parse() }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self { name.to_string() }
        }
    )*};
}
text_forms!(ToolName, ToolPattern);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_paths_and_look_alikes() {
        for bad in ["../x.y", "csv", "csv.", ".query", "Csv.query", "csv.qu\u{0435}ry", "csv.que ry"] {
            assert!(bad.parse::<ToolName>().is_err(), "{bad}");
        }
        assert_eq!("csv.query".parse::<ToolName>().map(|n| n.to_string()), Ok("csv.query".into()));
    }

    #[test]
    fn a_pattern_matches_whole_parts_only() {
        let name = ToolName::new("csv", "query").unwrap();
        let matches = |pattern: &str| pattern.parse::<ToolPattern>().unwrap().matches(&name);
        assert!(matches("*") && matches("csv.*") && matches("csv.query"));
        assert!(!matches("csv.quer") && !matches("cs.*"));
    }
}
