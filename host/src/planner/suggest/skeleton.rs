//! A form as a workflow: as a file for a person, what is known as values and what is missing as comments; and as it runs.

use serde_json::json;

use crate::domain::{Failure, Json, Kind, excerpt, printable};

use super::{Form, FormField};

/// Characters of a description in a comment, and of a value in a message.
const COMMENT_CHARS_MAX: usize = 120;

/// Returns the workflow of one step with the values that are known, exactly as they are.
pub(super) fn content(form: &Form, words: &str) -> Json {
    let known = form.fields.iter().filter_map(|field| Some((field.name.clone(), field.found.as_ref()?.value.clone())));
    let args: serde_json::Map<String, Json> = known.collect();
    json!({
        "workflow": name(form),
        "goal": goal(words),
        "answer": {"$from": id(form)},
        "steps": [{"id": id(form), "tool": form.tool.to_string(), "args": args}],
    })
}

fn id(form: &Form) -> String {
    form.tool.function().replace('_', "-")
}

fn name(form: &Form) -> String {
    format!("{}-{}", form.tool.component(), id(form))
}

fn goal(words: &str) -> &str {
    if words.trim().is_empty() { "(none told)" } else { words.trim() }
}

/// Writes the workflow of one step.
///
/// # Errors
/// `data.input_invalid` for a value that TOML cannot hold.
pub(super) fn workflow(form: &Form, words: &str) -> Result<String, Failure> {
    let id = id(form);
    let mut text = String::from("# Made by `cofferdam suggest`. Look at each value: it was found in plain words.\n");
    if !form.is_complete() {
        text.push_str("# What is missing must be filled in before it can run.\n");
    }
    text.push_str(&format!("workflow = {}\n", quoted(&name(form))));
    text.push_str(&format!("goal = {}\n", quoted(goal(words))));
    text.push_str(&format!("answer = {{ \"$from\" = {} }}\n\n", quoted(&id)));
    text.push_str(&format!("# {}\n", comment(&form.summary)));
    text.push_str(&format!(
        "[[steps]]\nid = {}\ntool = {}\n\n[steps.args]\n",
        quoted(&id),
        quoted(&form.tool.to_string())
    ));
    for field in &form.fields {
        text.push_str(&line(field)?);
    }
    Ok(text)
}

fn line(field: &FormField) -> Result<String, Failure> {
    let key = key(&field.name);
    let about = match field.description.as_str() {
        "" => field.takes.clone(),
        description => format!("{}: {description}", field.takes),
    };
    let about = comment(&about);
    let Some(found) = &field.found else {
        return Ok(match field.is_required {
            true => format!("# missing: {key} = …  # {about}\n"),
            false => format!("# {key} = …  # may be left out; {about}\n"),
        });
    };
    let value = toml_of(&found.value).ok_or_else(|| unwritable(field, &found.value))?;
    Ok(match found.span {
        Some((from, to)) => format!("{key} = {value}  # found at {from}..{to}; {about}\n"),
        None => format!("{key} = {value}  # {about}\n"),
    })
}

fn unwritable(field: &FormField, value: &Json) -> Failure {
    let (name, value) = (printable(&field.name), excerpt(value, COMMENT_CHARS_MAX));
    let what = format!("write a workflow file: `{name}` is {value}, which TOML cannot hold");
    Failure::new(Kind::DataInput, what).hint("leave it out, or run it as it is with `--run`")
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

/// Returns a value on one line; nothing for one that TOML cannot hold as it is: null, and whole numbers beyond 64 bits with
/// their sign.
fn toml_of(value: &Json) -> Option<String> {
    let text = match value {
        // Where TOML would write a text over several lines, JSON's form is TOML too.
        Json::String(text) if text.contains('\n') => Json::from(text.as_str()).to_string(),
        value => toml::Value::try_from(value).ok()?.to_string(),
    };
    // Whatever is left out, or comes out as something else, is found here.
    let read: toml::Table = toml::from_str(&format!("value = {text}")).ok()?;
    let read = serde_json::to_value(read.get("value")?).ok()?;
    (read == *value).then_some(text)
}
