//! Fills in what a plan leaves open: references to steps, the item of a `for_each`, and the parts of another call.
//!
//! One walk replaces everything, so that nothing which a tool brought is ever read as a reference again.

use crate::domain::{Json, Reference, excerpt, literal, printable, reference};

/// Characters of a malformed part that an error shows.
const SHOWN_CHARS_MAX: usize = 60;

/// Finds what a reference to a step stands for.
pub type Lookup<'a> = dyn Fn(&Reference<'_>) -> Result<Json, String> + 'a;

/// What stands for the open parts of a template; what is absent may not be asked for.
#[derive(Clone, Copy, Default)]
pub struct Parts<'a> {
    /// `{"$in": pointer}`: the arguments of the call that the template is made of.
    pub input: Option<&'a Json>,
    /// `{"$out": pointer}`: its output.
    pub output: Option<&'a Json>,
    /// `{"$key": ""}`: its idempotency key.
    pub key: Option<&'a str>,
    /// `{"$item": pointer}`: the item that a step is done for.
    pub item: Option<&'a Json>,
    /// `{"$from": step, …}`: what a step brought.
    pub from: Option<&'a Lookup<'a>>,
}

/// An open part of a template, by the key that marks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    In,
    Out,
    Key,
    Item,
}

impl Marker {
    const ALL: [(Self, &'static str); 4] =
        [(Self::In, "$in"), (Self::Out, "$out"), (Self::Key, "$key"), (Self::Item, "$item")];

    /// Returns how it is written.
    pub(super) fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(marker, _)| *marker == self).map_or("", |(_, name)| name)
    }
}

/// Returns the template with every open part in its place. A value under `{"$literal": …}` is taken as it is.
///
/// # Errors
/// A malformed part, one that has no meaning here, and a pointer that leads nowhere.
pub fn filled(template: &Json, parts: &Parts<'_>) -> Result<Json, String> {
    if let Some(value) = literal(template) {
        return Ok(value.clone());
    }
    if let Some(reference) = reference(template)? {
        let from = parts.from.ok_or_else(|| has_no_meaning("$from"))?;
        return from(&reference);
    }
    if let Some((marker, pointer)) = marker(template)? {
        return part(marker, pointer, parts);
    }
    Ok(match template {
        Json::Array(items) => Json::Array(items.iter().map(|item| filled(item, parts)).collect::<Result<_, _>>()?),
        Json::Object(fields) => {
            let filled = fields.iter().map(|(key, value)| Ok((key.clone(), filled(value, parts)?)));
            Json::Object(filled.collect::<Result<_, String>>()?)
        }
        scalar => scalar.clone(),
    })
}

/// Returns `value` as an open part with its pointer; `None` where it is none.
///
/// # Errors
/// An object with one of the keys that is not exactly `{key: pointer}`.
pub(super) fn marker(value: &Json) -> Result<Option<(Marker, &str)>, String> {
    let Some(fields) = value.as_object() else { return Ok(None) };
    let Some((marker, name)) = Marker::ALL.into_iter().find(|(_, name)| fields.contains_key(*name)) else {
        return Ok(None);
    };
    let malformed = || format!("{}: it is `{{\"{name}\": pointer}}` and nothing beside", shown(value));
    let pointer = fields.get(name).and_then(Json::as_str).filter(|_| fields.len() == 1).ok_or_else(malformed)?;
    let is_pointer = pointer.is_empty() || pointer.starts_with('/');
    match marker {
        Marker::Key if !pointer.is_empty() => {
            Err(format!("{}: a key has no parts: `{{\"$key\": \"\"}}`", shown(value)))
        }
        _ if !is_pointer => Err(format!("{}: a JSON pointer starts with `/`", shown(value))),
        _ => Ok(Some((marker, pointer))),
    }
}

fn part(marker: Marker, pointer: &str, parts: &Parts<'_>) -> Result<Json, String> {
    let whole = match marker {
        Marker::Key => return parts.key.map(Json::from).ok_or_else(|| has_no_meaning("$key")),
        Marker::In => parts.input,
        Marker::Out => parts.output,
        Marker::Item => parts.item,
    };
    let whole = whole.ok_or_else(|| has_no_meaning(marker.name()))?;
    let nowhere = || format!("`{}` of `{}`: there is nothing there", printable(pointer), marker.name());
    whole.pointer(pointer).cloned().ok_or_else(nowhere)
}

fn has_no_meaning(name: &str) -> String {
    format!("`{name}` has no meaning here; data that looks so stands under `$literal`")
}

fn shown(value: &Json) -> String {
    format!("`{}`", printable(&excerpt(value, SHOWN_CHARS_MAX)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_open_part_is_replaced_once() {
        let (input, output) = (json!({"name": "a", "n": [1, 2]}), json!({"id": {"$in": "/name"}}));
        let parts = Parts { input: Some(&input), output: Some(&output), key: Some("k1"), ..Parts::default() };
        let template = json!({"id": {"$out": "/id"}, "n": [{"$in": "/n/1"}], "key": {"$key": ""}, "all": {"$in": ""}});
        // What the call brought looks like an open part, and stays what it is.
        let expected = json!({"id": {"$in": "/name"}, "n": [2], "key": "k1", "all": input});
        assert_eq!(filled(&template, &parts), Ok(expected));
    }

    #[test]
    fn references_and_items_are_filled_in_together() {
        let from = |reference: &Reference<'_>| Ok(json!({"$item": format!("{}{}", reference.step, reference.path)}));
        let item = json!({"sku": "bolt"});
        let parts = Parts { item: Some(&item), from: Some(&from), ..Parts::default() };
        let template = json!([{"$item": "/sku"}, {"$from": "a", "path": "/x"}, {"$literal": {"$item": ""}}]);
        assert_eq!(filled(&template, &parts), Ok(json!(["bolt", {"$item": "a/x"}, {"$item": ""}])));
    }

    #[test]
    fn what_is_malformed_or_has_no_meaning_is_told() {
        let item = json!({"a": 1});
        let flaw = |template: Json| {
            filled(&template, &Parts { item: Some(&item), key: Some("k"), ..Parts::default() }).unwrap_err()
        };
        assert!(flaw(json!({"$item": "/b"})).contains("nothing there"));
        assert!(flaw(json!({"$item": "a"})).contains("starts with `/`"));
        assert!(flaw(json!({"$item": "", "more": 1})).contains("nothing beside"));
        assert!(flaw(json!({"$key": "/a"})).contains("no parts"));
        assert!(flaw(json!([{"$out": ""}])).contains("no meaning"));
        assert!(flaw(json!({"$from": "s"})).contains("no meaning"));
    }
}
