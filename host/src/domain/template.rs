//! What a call that is made of another one may look like: its undo, or the look at what became of it.

use crate::domain::{CallTemplate, Json, ToolName};

/// Bytes of a template's arguments as JSON: a handful of references, and a few constants.
pub const TEMPLATE_BYTES_MAX: usize = 4 << 10;

/// Levels of nesting of a template's arguments: a record in a record in a list is three.
const TEMPLATE_DEPTH_MAX: usize = 16;

/// What a template is for, and thereby which parts of the call it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateUse {
    /// To take the call back: all of it.
    Undo,
    /// To learn what became of it: its output is not there.
    Reconcile,
}

impl CallTemplate {
    /// Returns the tool's full name; a function alone is one of `component`.
    ///
    /// # Errors
    /// A name that is none.
    pub fn tool_name(&self, component: &str) -> Result<ToolName, String> {
        match self.tool.split_once('.') {
            Some(_) => self.tool.parse(),
            None => ToolName::new(component, &self.tool),
        }
    }

    /// Returns the template with the tool's full name.
    ///
    /// # Errors
    /// A name that is none.
    pub fn in_full(self, component: &str) -> Result<Self, String> {
        Ok(Self { tool: self.tool_name(component)?.to_string(), ..self })
    }

    /// Answers whether the call cannot be made without what the other call brought.
    pub fn takes_output(&self) -> bool {
        takes_output(&self.args)
    }

    /// Returns what is wrong with the arguments; `None` where a call can be made of them.
    pub fn flaw(&self, usage: TemplateUse) -> Option<String> {
        if !self.args.is_object() {
            return Some("its `args` are no object".into());
        }
        // Depth first: what is deep is not written out.
        if is_deep(&self.args, TEMPLATE_DEPTH_MAX) {
            return Some(format!("its `args` are nested over {TEMPLATE_DEPTH_MAX} levels"));
        }
        let bytes = self.args.to_string().len();
        if bytes > TEMPLATE_BYTES_MAX {
            return Some(format!("its `args` have {bytes} bytes, more than the {TEMPLATE_BYTES_MAX} allowed"));
        }
        flaw(&self.args, usage)
    }
}

fn takes_output(value: &Json) -> bool {
    match value {
        Json::Array(items) => items.iter().any(takes_output),
        Json::Object(fields) if fields.contains_key("$literal") => false,
        Json::Object(fields) => fields.contains_key("$out") || fields.values().any(takes_output),
        _ => false,
    }
}

fn is_deep(value: &Json, levels_left: usize) -> bool {
    match value {
        Json::Array(_) | Json::Object(_) if levels_left == 0 => true,
        Json::Array(items) => items.iter().any(|item| is_deep(item, levels_left - 1)),
        Json::Object(fields) => fields.values().any(|field| is_deep(field, levels_left - 1)),
        _ => false,
    }
}

fn flaw(value: &Json, usage: TemplateUse) -> Option<String> {
    match value {
        Json::Array(items) => items.iter().find_map(|item| flaw(item, usage)),
        Json::Object(fields) => match fields.iter().find(|(name, _)| name.starts_with('$')) {
            None => fields.values().find_map(|field| flaw(field, usage)),
            Some((word, _)) if fields.len() > 1 => Some(format!("`{}` stands alone in its object", shown(word))),
            Some((word, part)) => word_flaw(word, part, usage),
        },
        _ => None,
    }
}

fn word_flaw(word: &str, part: &Json, usage: TemplateUse) -> Option<String> {
    let is_pointer = part.as_str().is_some_and(|part| part.is_empty() || part.starts_with('/'));
    match word {
        "$literal" => None,
        "$out" if usage == TemplateUse::Reconcile => {
            Some("`$out` is not there for a call whose end nobody saw: use `$in` and `$key`".into())
        }
        "$in" | "$out" if is_pointer => None,
        "$in" | "$out" => Some(format!("`{word}` takes a JSON pointer, which is empty or starts with `/`")),
        "$key" if part == "" => None,
        "$key" => Some("`$key` takes the empty text".into()),
        _ => Some(format!("`{}` is none of `$in`, `$out`, `$key` and `$literal`", shown(word))),
    }
}

fn shown(word: &str) -> String {
    word.chars().take(40).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(args: Json) -> CallTemplate {
        CallTemplate { tool: "cancel".into(), args }
    }

    #[track_caller]
    fn refused(args: Json, usage: TemplateUse, expected: &str) {
        let flaw = template(args).flaw(usage).expect("it has a flaw");
        assert!(flaw.contains(expected), "{flaw}");
    }

    #[test]
    fn a_template_names_parts_of_the_call_and_nothing_else() {
        let args =
            json!({"id": {"$out": "/id"}, "for": [{"$in": ""}], "key": {"$key": ""}, "as": {"$literal": {"$x": 1}}});
        assert_eq!(template(args.clone()).flaw(TemplateUse::Undo), None);
        refused(args, TemplateUse::Reconcile, "`$out`");
        for (args, expected) in [
            (json!({"a": {"$from": "s1"}}), "`$from` is none of"),
            (json!({"a": {"$in": "id"}}), "JSON pointer"),
            (json!({"a": {"$out": 1}}), "JSON pointer"),
            (json!({"a": {"$key": "x"}}), "empty text"),
            (json!({"a": {"$in": "", "b": 1}}), "alone"),
            (json!({"a": {"b": [{"$\u{1b}[2J": 1}]}}), "`$\\u{1b}[2J`"),
            (json!(["a"]), "no object"),
        ] {
            refused(args, TemplateUse::Undo, expected);
        }
    }

    #[test]
    fn a_template_tells_whether_it_needs_what_the_call_brought() {
        assert!(template(json!({"for": [{"id": {"$out": "/id"}}]})).takes_output());
        assert!(!template(json!({"id": {"$in": "/out"}, "as": {"$literal": {"$out": ""}}})).takes_output());
    }

    #[test]
    fn a_template_has_a_size_and_a_depth() {
        refused(json!({"a": "x".repeat(TEMPLATE_BYTES_MAX)}), TemplateUse::Undo, "bytes");
        let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!({"a": inner}));
        assert_eq!(template(nested(TEMPLATE_DEPTH_MAX)).flaw(TemplateUse::Undo), None);
        refused(nested(TEMPLATE_DEPTH_MAX + 1), TemplateUse::Undo, "levels");
    }

    #[test]
    fn a_function_alone_is_one_of_the_same_component() {
        let named = |tool: &str| CallTemplate { tool: tool.into(), args: json!({}) }.tool_name("bookings");
        assert_eq!(named("cancel").map(|name| name.to_string()), Ok("bookings.cancel".into()));
        assert_eq!(named("mail.unsend").map(|name| name.to_string()), Ok("mail.unsend".into()));
        assert!(named("").is_err() && named("../x").is_err() && named("a.b.c").is_err());
    }
}
