//! One thing that was looked at.

use serde::Serialize;

use crate::domain::Failure;

/// How it is with a thing. Ordered: a later one is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Ok,
    /// It works, and may not be what was meant.
    Warn,
    /// Something that should work does not.
    Fail,
}

/// One thing that was looked at, and what to do about it.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub name: String,
    pub state: State,
    pub says: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl State {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

impl Finding {
    /// A thing that is well, unless what follows says otherwise.
    pub(super) fn new(name: &str, says: impl Into<String>) -> Self {
        Self { name: name.to_owned(), state: State::Ok, says: says.into(), hint: None }
    }

    pub(super) fn ok(name: &str, says: impl Into<String>) -> Self {
        Self::new(name, says)
    }

    pub(super) fn warn(name: &str, says: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { state: State::Warn, hint: Some(hint.into()), ..Self::new(name, says) }
    }

    pub(super) fn fail(name: &str, says: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { state: State::Fail, hint: Some(hint.into()), ..Self::new(name, says) }
    }

    pub(super) fn warn_unless(self, is_well: bool, hint: &str) -> Self {
        if is_well { self } else { Self { state: State::Warn, hint: Some(hint.to_owned()), ..self } }
    }
}

/// A thing that does not work, as the failure tells.
pub(super) fn failed(name: &str, failure: &Failure) -> Finding {
    let hint = failure.hint.clone().unwrap_or_else(|| "repair the file".into());
    Finding::fail(name, format!("failed to {}", failure.message), hint)
}
