//! A form as a workflow file: what is known as values, what is missing as comments.

use crate::domain::Json;

use super::{Form, FormField};

/// Characters of a description in a comment.
const COMMENT_CHARS_MAX: usize = 120;

/// Writes the workflow of one step.
pub(super) fn workflow(form: &Form, words: &str) -> String {
    let id = form.tool.function().replace('_', "-");
    let mut text = String::from("# Made by `cofferdam suggest`. Look at each value: it was found in plain words.\n");
    if !form.is_complete() {
        text.push_str("# What is missing must be filled in before it can run.\n");
    }
    text.push_str(&format!("workflow = {}\n", quoted(&format!("{}-{id}", form.tool.component()))));
    text.push_str(&format!("goal = {}\n", quoted(if words.trim().is_empty() { "(none told)" } else { words.trim() })));
    text.push_str(&format!("answer = {{ \"$from\" = {} }}\n\n", quoted(&id)));
    text.push_str(&format!("# {}\n", comment(&form.summary)));
    text.push_str(&format!(
        "[[steps]]\nid = {}\ntool = {}\n\n[steps.args]\n",
        quoted(&id),
        quoted(&form.tool.to_string())
    ));
    for field in &form.fields {
        text.push_str(&line(field));
    }
    text
}

fn line(field: &FormField) -> String {
    let key = key(&field.name);
    let about = match field.description.as_str() {
        "" => field.takes.clone(),
        description => format!("{}: {description}", field.takes),
    };
    let about = comment(&about);
    match field.found.as_ref().and_then(|found| Some((toml_of(&found.value)?, found.span))) {
        Some((value, Some((from, to)))) => format!("{key} = {value}  # found at {from}..{to}; {about}\n"),
        Some((value, None)) => format!("{key} = {value}  # {about}\n"),
        None if field.is_required => format!("# missing: {key} = …  # {about}\n"),
        None => format!("# {key} = …  # may be left out; {about}\n"),
    }
}

/// Text of others in a comment: one line, so that none of it is read as more.
fn comment(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(COMMENT_CHARS_MAX).collect();
    line.trim().to_owned()
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    // A quoted key is a basic string: JSON writes those.
    if is_bare { name.to_owned() } else { Json::from(name).to_string() }
}

/// Returns a value on one line; nothing for null, which TOML cannot say.
fn toml_of(value: &Json) -> Option<String> {
    match value {
        // Where TOML would write a text over several lines, JSON's form is TOML too.
        Json::String(text) if text.contains('\n') => Some(Json::from(text.as_str()).to_string()),
        value => toml::Value::try_from(value).ok().map(|value| value.to_string()),
    }
}
