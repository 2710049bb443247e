//! Plain words without a model: which tools fit, and the form of one with what the words say.
//!
//! Pure, and nothing here runs anything. A value that was found is a guess, shown with the place where it stands; what is
//! missing is said. What comes of it is a workflow, which a person may keep, change or run: it is checked as any other.

use serde::Serialize;

use crate::domain::{Effect, Failure, Json, Kind, ToolName};

use super::OfferedTool;
use super::retrieve::Index;

mod fill;
mod pieces;
mod skeleton;
#[cfg(test)]
mod tests;

use fill::{Argument, fill};
use pieces::{WORDS_BYTES_MAX, pieces};

/// What was made of plain words.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Suggestion {
    pub words: String,
    /// Those that fit, the best first.
    pub tools: Vec<SuggestedTool>,
    /// Of the tool that was chosen, or else the best; absent where none fits.
    pub form: Option<Form>,
}

/// A tool that fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SuggestedTool {
    pub name: ToolName,
    pub summary: String,
    pub effect: Effect,
    /// In thousandths of the best one's.
    pub score_permille: u64,
}

/// The arguments of a tool, as far as they are known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Form {
    pub tool: ToolName,
    pub summary: String,
    pub effect: Effect,
    pub fields: Vec<FormField>,
    /// Names of arguments that are required and not known.
    pub missing: Vec<String>,
}

/// An argument of a tool.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FormField {
    pub name: String,
    /// What it takes, in words.
    pub takes: String,
    pub description: String,
    pub is_required: bool,
    pub found: Option<FoundValue>,
}

/// A value that is known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FoundValue {
    pub value: Json,
    /// Where it stands in the words, in characters from 0, the end not included; absent where it was given beside them.
    pub span: Option<(usize, usize)>,
}

/// Ranks `tools` by `words` and fills in the form of the best, or of the one called `chosen`.
///
/// # Errors
/// `data.input_size` for more words than are read; `data.not_found` where no tool is called so.
pub fn suggest(
    words: &str,
    tools: &[OfferedTool],
    chosen: Option<&str>,
    tools_max: usize,
) -> Result<Suggestion, Failure> {
    if words.len() > WORDS_BYTES_MAX {
        let what = format!("read the words: {} bytes are more than {WORDS_BYTES_MAX}", words.len());
        return Err(Failure::new(Kind::DataInputSize, what).hint("name a file in place of its content"));
    }
    let ranked = Index::of(tools).rank(words);
    let best = ranked.first().map_or(0, |one| one.score);
    let fitting = ranked.iter().filter(|one| one.score > 0).take(tools_max);
    let suggested = fitting.map(|one| {
        let tool = &tools[one.at];
        let score_permille = one.score.saturating_mul(1_000).checked_div(best).unwrap_or(0);
        SuggestedTool { name: tool.name.clone(), summary: tool.summary.clone(), effect: tool.effect, score_permille }
    });
    let suggested: Vec<SuggestedTool> = suggested.collect();
    let tool = match chosen {
        Some(name) => Some(named(name, tools)?),
        None => suggested.first().and_then(|first| tools.iter().find(|tool| tool.name == first.name)),
    };
    Ok(Suggestion { words: words.to_owned(), tools: suggested, form: tool.map(|tool| Form::of(tool, words)) })
}

fn named<'a>(name: &str, tools: &'a [OfferedTool]) -> Result<&'a OfferedTool, Failure> {
    let not_found = || {
        let what = format!("find tool `{}` among those that policy allows", crate::domain::printable(name));
        Failure::new(Kind::DataNotFound, what).hint("list them with `cofferdam tools`")
    };
    tools.iter().find(|tool| tool.name.to_string() == name).ok_or_else(not_found)
}

impl Form {
    /// Makes the form of a tool and fills in what `words` say.
    fn of(tool: &OfferedTool, words: &str) -> Self {
        let arguments = Argument::all(&tool.input_schema);
        let found = fill(&arguments, &pieces(words));
        let characters = |at: usize| words.get(..at).map_or(0, |before| before.chars().count());
        let in_characters = |found: FoundValue| FoundValue {
            span: found.span.map(|(from, to)| (characters(from), characters(to))),
            ..found
        };
        let field = |(argument, found): (&Argument<'_>, Option<FoundValue>)| FormField {
            name: argument.name.to_owned(),
            takes: takes(argument.schema),
            description: argument.schema["description"].as_str().unwrap_or_default().to_owned(),
            is_required: argument.is_required,
            found: found.map(in_characters),
        };
        let fields = arguments.iter().zip(found).map(field).collect();
        let form = Self {
            tool: tool.name.clone(),
            summary: tool.summary.clone(),
            effect: tool.effect,
            fields,
            missing: vec![],
        };
        form.counted()
    }

    fn counted(mut self) -> Self {
        let missing = self.fields.iter().filter(|field| field.is_required && field.found.is_none());
        self.missing = missing.map(|field| field.name.clone()).collect();
        self
    }

    /// Returns the form with a value that somebody gives.
    ///
    /// # Errors
    /// `data.input_invalid` where there is no such argument. Whether the value fits is checked before anything runs.
    pub fn with(mut self, name: &str, value: Json) -> Result<Self, Failure> {
        let known: Vec<String> = self.fields.iter().map(|field| field.name.clone()).collect();
        let Some(field) = self.fields.iter_mut().find(|field| field.name == name) else {
            let what = format!("set `{}` of `{}`: there is none", crate::domain::printable(name), self.tool);
            return Err(Failure::new(Kind::DataInput, what).hint(format!("there are {}", known.join(", "))));
        };
        field.found = Some(FoundValue { value, span: None });
        Ok(self.counted())
    }

    /// Returns whether all is known that the tool requires.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// Returns the form as a workflow file in TOML, what is missing in comments.
    ///
    /// # Errors
    /// `data.input_invalid` for a value that TOML cannot hold.
    pub fn workflow(&self, words: &str) -> Result<String, Failure> {
        skeleton::workflow(self, words)
    }

    /// Returns the form as a workflow in JSON, with the values that are known exactly as they are shown.
    pub fn content(&self, words: &str) -> Json {
        skeleton::content(self, words)
    }
}

/// Values of a list of choices that are named.
const CHOICES_MAX: usize = 8;

/// What a schema takes, in words.
fn takes(schema: &Json) -> String {
    if let Some(values) = schema["enum"].as_array() {
        let shown: Vec<String> = values.iter().take(CHOICES_MAX).map(Json::to_string).collect();
        let more = if values.len() > CHOICES_MAX { ", …" } else { "" };
        return format!("one of {}{more}", shown.join(", "));
    }
    let name = |ty: &str| match ty {
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "an object",
        _ => "",
    };
    let types: Vec<&str> = match &schema["type"] {
        Json::Array(types) => types.iter().filter_map(Json::as_str).map(name).filter(|name| !name.is_empty()).collect(),
        one => one.as_str().map(name).into_iter().collect(),
    };
    if types.is_empty() {
        return "a value".to_owned();
    }
    let words = types.join(" or ");
    if schema["items"].is_object() { format!("{words}, each {}", takes(&schema["items"])) } else { words }
}
