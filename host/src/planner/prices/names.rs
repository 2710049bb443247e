//! Which names a model goes by. Regular expressions run in linear time: names come from settings and from servers.

use regex::Regex;
use serde::Deserialize;

/// One name, a list of which one holds, or a list of which all do.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Names {
    /// A sigil and a text: `=` is, `^` starts with, `$` ends with, `~` contains, `/` matches, `!` does not match.
    One(String),
    Any(Vec<Names>),
    All {
        all: Vec<Names>,
    },
}

impl Names {
    /// Answers whether the model called `id` goes by `name`, which is in small letters.
    pub(super) fn hold(&self, id: &str, name: &str) -> bool {
        match self {
            Self::One(text) => holds(text, id, name),
            Self::Any(names) => names.iter().any(|names| names.hold(id, name)),
            Self::All { all } => all.iter().all(|names| names.hold(id, name)),
        }
    }
}

fn holds(text: &str, id: &str, name: &str) -> bool {
    let mut rest = text.chars();
    let (sigil, rest) = (rest.next(), rest.as_str());
    let small = || rest.to_lowercase();
    match sigil {
        Some('=') if rest.is_empty() => id.to_lowercase() == name,
        Some('=') => small() == name,
        Some('^') => name.starts_with(&small()),
        Some('$') => name.ends_with(&small()),
        Some('~') => name.contains(&small()),
        Some('/') => pattern(rest).is_some_and(|pattern| pattern.is_match(name)),
        Some('!') => pattern(rest).is_some_and(|pattern| !pattern.is_match(name)),
        _ => false,
    }
}

/// Compiles a regular expression of the data; a test holds that each of them is one.
pub(super) fn pattern(text: &str) -> Option<Regex> {
    Regex::new(text).ok()
}

/// Writes a date like `-20251211`, as some gateways give it, as `-2025-12-11`; `None` where there is none.
pub(super) fn dashed_date(name: &str) -> Option<String> {
    let compact = pattern(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(:|-|$)")?;
    compact.is_match(name).then(|| compact.replace_all(name, "-$1-$2-$3$4").into_owned())
}
