//! The script: what each request should look like, and what it gets.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::protocol::Protocol;
use super::reply::Reply;
use super::request::Recorded;

/// The steps, in order.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub steps: Vec<Step>,
}

/// One request and its reply.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// By JSON pointer into the request's body; the empty pointer is all of it.
    #[serde(default)]
    pub expect: BTreeMap<String, Matchers>,
    /// By name of a header, in small letters; of a secret only whether it is there is known.
    #[serde(default)]
    pub headers: BTreeMap<String, Matchers>,
    /// The protocol that the request should speak; any where nothing is said.
    #[serde(default)]
    pub protocol: Option<Protocol>,
    /// Whether it stands beside the queue and answers every request that is as it expects: those of runs at one time come in
    /// any order.
    #[serde(default)]
    pub standing: bool,
    pub reply: Reply,
}

/// One matcher, or several that must all hold.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Matchers {
    One(Matcher),
    All(Vec<Matcher>),
}

/// What should hold of a value.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Matcher {
    Equals(Value),
    /// Of text: holds this part. Of anything else: its JSON text holds it.
    Contains(String),
    /// There, and without this part.
    NotContains(String),
    Absent(True),
    Exists(True),
}

/// The word `true`: `{"absent": false}` would be a riddle.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "bool")]
pub struct True;

/// Longest part of a value that a fault quotes, in characters: prompts are long.
const QUOTE_CHARS_MAX: usize = 200;

impl Script {
    /// Reads JSON lines; empty lines and lines that start with `#` or `//` are skipped.
    ///
    /// # Errors
    /// The first malformed line, by its number.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_step = |line: &str| !line.is_empty() && !line.starts_with('#') && !line.starts_with("//");
        let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| is_step(line));
        let steps = lines.map(|(n, line)| Step::parse(line).map_err(|e| format!("script line {}: {e}", n + 1)));
        Ok(Self { steps: steps.collect::<Result<_, _>>()? })
    }
}

impl Step {
    fn parse(line: &str) -> Result<Self, String> {
        let step: Self = serde_json::from_str(line).map_err(|e| e.to_string())?;
        step.reply.check()?;
        Ok(step)
    }

    /// Lists what of `request` is not as expected.
    pub(super) fn mismatches(&self, request: &Recorded) -> Vec<String> {
        let mut mismatches = Vec::new();
        if self.protocol.is_some_and(|protocol| request.protocol != Some(protocol)) {
            mismatches.push(format!("`{}` is not the path of {:?}", request.path, self.protocol));
        }
        for (pointer, matchers) in &self.expect {
            mismatches.extend(matchers.mismatches(pointer, request.body.pointer(pointer)));
        }
        for (name, matchers) in &self.headers {
            let header = request.headers.get(name).map(|value| Value::from(value.as_str()));
            mismatches.extend(matchers.mismatches(name, header.as_ref()));
        }
        mismatches
    }
}

impl Matchers {
    fn as_slice(&self) -> &[Matcher] {
        match self {
            Self::One(matcher) => std::slice::from_ref(matcher),
            Self::All(matchers) => matchers,
        }
    }

    fn mismatches(&self, what: &str, found: Option<&Value>) -> Vec<String> {
        let wanted = self.as_slice().iter().filter_map(|matcher| matcher.mismatch(found));
        wanted.map(|wanted| format!("`{what}` should {wanted}, and is {}", quoted(found))).collect()
    }
}

impl Matcher {
    /// Returns what was wanted, where `found` is not that.
    fn mismatch(&self, found: Option<&Value>) -> Option<String> {
        let (holds, wanted) = match self {
            Self::Equals(value) => (found == Some(value), format!("equal {value}")),
            Self::Contains(part) => (found.is_some_and(|v| text(v).contains(part)), format!("contain `{part}`")),
            Self::NotContains(part) => {
                (found.is_some_and(|v| !text(v).contains(part)), format!("exist without `{part}`"))
            }
            Self::Absent(True) => (found.is_none(), "be absent".to_owned()),
            Self::Exists(True) => (found.is_some(), "exist".to_owned()),
        };
        (!holds).then_some(wanted)
    }
}

impl TryFrom<bool> for True {
    type Error = &'static str;

    fn try_from(value: bool) -> Result<Self, Self::Error> {
        if value { Ok(Self) } else { Err("only `true` can stand here") }
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn quoted(found: Option<&Value>) -> String {
    let Some(value) = found else { return "absent".to_owned() };
    let text = value.to_string();
    match text.char_indices().nth(QUOTE_CHARS_MAX) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mismatches(expect: &Value, body: &Value) -> usize {
        let line = json!({"expect": expect, "reply": {"text": ""}}).to_string();
        let request = Recorded::new("POST", "/v1/chat/completions", &[], Vec::new(), body.clone());
        Step::parse(&line).unwrap().mismatches(&request).len()
    }

    #[test]
    fn matchers_hold_or_tell() {
        let body = json!({"a": {"b": "one two"}, "n": null});
        let held = json!({
            "/a/b": [{"contains": "one"}, {"not_contains": "three"}, {"exists": true}],
            "/a": {"contains": "two"}, "/n": {"equals": null}, "/x": {"absent": true}, "": {"not_contains": "zzz"}
        });
        assert_eq!(mismatches(&held, &body), 0);
        let broken = json!({
            "/a/b": [{"contains": "three"}, {"not_contains": "one"}, {"absent": true}],
            "/x": [{"exists": true}, {"not_contains": "a"}, {"equals": null}]
        });
        assert_eq!(mismatches(&broken, &body), 6);
    }

    #[test]
    fn a_malformed_script_names_its_line() {
        for (bad, part) in [
            (r#"{"reply": {"text": "a", "json": 1}}"#, "exactly one"),
            (r#"{"reply": {}}"#, "exactly one"),
            (r#"{"reply": {"text": "a"}, "expects": {}}"#, "expects"),
            (r#"{"expect": {"/a": {"absent": false}}, "reply": {"text": "a"}}"#, "line 3"),
        ] {
            let error = Script::parse(&format!("# comment\n\n{bad}")).unwrap_err();
            assert!(error.contains("line 3") && error.contains(part), "{error}");
        }
    }
}
