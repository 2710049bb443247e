//! Holds each request to what its provider publishes, before it is answered.
//!
//! The form of a request is a JSON Schema under `shapes/`; what a schema cannot say stands beside it: the order of a
//! conversation in [`order`], and the dialects of schemas that a provider decodes under in [`dialect`].

use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

use super::protocol::Protocol;
use super::request::Recorded;
use super::{dialect, order};

/// Faults that one request tells: the first ones say the most.
const FAULTS_MAX: usize = 5;

/// Longest text of one fault, in characters: a fault of a schema quotes what it saw.
const FAULT_CHARS_MAX: usize = 300;

/// The version of Anthropic's interface that there is.
const ANTHROPIC_VERSION: &str = "2023-06-01";

static CHAT: LazyLock<Validator> = LazyLock::new(|| validator(include_str!("shapes/chat.json")));
static RESPONSES: LazyLock<Validator> = LazyLock::new(|| validator(include_str!("shapes/responses.json")));
static MESSAGES: LazyLock<Validator> = LazyLock::new(|| validator(include_str!("shapes/messages.json")));
static GEMINI: LazyLock<Validator> = LazyLock::new(|| validator(include_str!("shapes/gemini.json")));
static OLLAMA: LazyLock<Validator> = LazyLock::new(|| validator(include_str!("shapes/ollama.json")));

/// Something wrong at one place of a request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// A JSON pointer.
    pub pointer: String,
    pub what: String,
}

/// Lists why `protocol`'s provider would not take `request`, by JSON pointer or by header.
pub(super) fn faults(protocol: Protocol, request: &Recorded) -> Vec<String> {
    let mut faults = header_faults(protocol, request);
    let mut wrongs = form(protocol, &request.body);
    // What is not of the form is not looked at any closer.
    if wrongs.is_empty() {
        wrongs.extend(order::wrongs(protocol, &request.body));
        wrongs.extend(dialect::wrongs(protocol, &request.body));
    }
    faults.extend(wrongs.into_iter().map(|wrong| wrong.to_string()));
    faults.truncate(FAULTS_MAX);
    faults
}

fn header_faults(protocol: Protocol, request: &Recorded) -> Vec<String> {
    let version = request.headers.get("anthropic-version").map(String::as_str);
    match (protocol, version) {
        (Protocol::Messages, None) => vec!["the header `anthropic-version` is required".to_owned()],
        (Protocol::Messages, Some(other)) if other != ANTHROPIC_VERSION => {
            vec![format!("the header `anthropic-version` is `{other}`, and not `{ANTHROPIC_VERSION}`")]
        }
        _ => Vec::new(),
    }
}

fn form(protocol: Protocol, body: &Value) -> Vec<Wrong> {
    let validator = match protocol {
        Protocol::Chat => &CHAT,
        Protocol::Responses => &RESPONSES,
        Protocol::Messages => &MESSAGES,
        Protocol::Gemini => &GEMINI,
        Protocol::Ollama => &OLLAMA,
    };
    validator.iter_errors(body).map(|error| Wrong::new(error.instance_path().as_str(), error.to_string())).collect()
}

fn validator(schema: &str) -> Validator {
    let schema: Value = serde_json::from_str(schema).expect("a shape is JSON");
    jsonschema::validator_for(&schema).expect("a shape is a JSON Schema")
}

impl Wrong {
    pub(super) fn new(pointer: impl Into<String>, what: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), what: what.into() }
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what: String = self.what.chars().take(FAULT_CHARS_MAX).collect();
        write!(f, "`{}`: {what}", self.pointer)
    }
}
