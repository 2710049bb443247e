//! From the text of a workflow file to what it says, with the line and column of what is wrong.

use std::io::Read;
use std::path::Path;

use serde::de::DeserializeSeed;

use crate::domain::{Failure, Json, Kind};
use crate::planner::strict::{self, Strict};
use crate::planner::workflow::WORKFLOW_BYTES_MAX;
use crate::planner::workflow::file::File;

/// Levels of nesting in a workflow: what a plan allows, the four down to its arguments, and four for each of eight workflows
/// within each other.
const DEPTH_MAX: usize = 68;

/// How a workflow file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Toml,
    Yaml,
    Json,
}

/// What is wrong in a text, and where.
#[derive(Debug)]
pub(super) struct TextFlaw {
    /// Line and column, from 1; absent where the parser does not say.
    pub at: Option<(usize, usize)>,
    pub what: String,
}

impl Format {
    /// Returns the format that the file's extension names.
    ///
    /// # Errors
    /// `data.config` for any other extension than `toml`, `yaml`, `yml` and `json`.
    pub fn of(path: &Path) -> Result<Self, Failure> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => Ok(Self::Toml),
            Some("yaml" | "yml") => Ok(Self::Yaml),
            Some("json") => Ok(Self::Json),
            _ => Err(Failure::new(Kind::DataConfig, format!("tell the format of workflow `{}`", path.display()))
                .hint("name it `.toml`, `.yaml` or `.json`")),
        }
    }
}

/// Reads the text of the file at `path`.
///
/// # Errors
/// `data.not_found` where there is no file; `data.config` for one that cannot be read, is no text, or is too large.
pub(super) fn text(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let failed = |error: std::io::Error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::DataNotFound } else { Kind::DataConfig };
        Failure::new(kind, format!("read workflow {shown}: {error}"))
    };
    let mut text = String::new();
    // One byte more than allowed tells a file that is too large from one that just fits.
    let mut file = std::fs::File::open(path).map_err(failed)?.take(WORKFLOW_BYTES_MAX + 1);
    file.read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > WORKFLOW_BYTES_MAX {
        let what = format!("read workflow {shown}: more than {WORKFLOW_BYTES_MAX} bytes");
        return Err(Failure::new(Kind::DataConfig, what).hint("pass data to tools as files"));
    }
    Ok(text)
}

/// Reads `text` twice: first for what all values must hold, then for its shape. Returns both.
pub(super) fn read(text: &str, format: Format) -> Result<(File, Json), TextFlaw> {
    match format {
        Format::Json => json(text).map_err(TextFlaw::from),
        Format::Yaml => yaml(text).map_err(TextFlaw::from),
        Format::Toml => toml(text).map_err(|error| TextFlaw::of_toml(&error, text)),
    }
}

fn json(text: &str) -> Result<(File, Json), serde_json::Error> {
    let content = strict::from_json(text, DEPTH_MAX)?;
    Ok((serde_json::from_str(text)?, content))
}

fn yaml(text: &str) -> Result<(File, Json), serde_norway::Error> {
    let content = Strict::new(DEPTH_MAX).deserialize(serde_norway::Deserializer::from_str(text))?;
    Ok((serde_norway::from_str(text)?, content))
}

fn toml(text: &str) -> Result<(File, Json), toml::de::Error> {
    let content = Strict::new(DEPTH_MAX).deserialize(toml::Deserializer::parse(text)?)?;
    Ok((toml::from_str(text)?, content))
}

/// Returns what a value is, in words.
pub fn type_of(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

/// Returns line and column, from 1, of what begins at `offset` bytes.
pub(super) fn position(text: &str, offset: usize) -> Option<(usize, usize)> {
    let before = text.get(..offset)?;
    let line = before.rsplit('\n').next().unwrap_or_default();
    Some((before.matches('\n').count() + 1, line.chars().count() + 1))
}

impl From<serde_json::Error> for TextFlaw {
    fn from(error: serde_json::Error) -> Self {
        let place = format!(" at line {} column {}", error.line(), error.column());
        let what = error.to_string();
        Self { at: Some((error.line(), error.column())), what: what.trim_end_matches(&place).to_owned() }
    }
}

impl From<serde_norway::Error> for TextFlaw {
    fn from(error: serde_norway::Error) -> Self {
        let at = error.location().map(|location| (location.line(), location.column()));
        let place = at.map_or(String::new(), |(line, column)| format!(" at line {line} column {column}"));
        Self { at, what: error.to_string().trim_end_matches(&place).to_owned() }
    }
}

impl TextFlaw {
    fn of_toml(error: &toml::de::Error, text: &str) -> Self {
        let at = error.span().and_then(|span| position(text, span.start));
        Self { at, what: error.message().to_owned() }
    }
}
