//! The names of runs and of their steps. Both are made by the host, never by a planner.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a run: `r-` and 26 characters that sort by time of creation (a ULID).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

/// The name of a step within its run: `t2.s1` is the first step of the plan of turn 2.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StepId(String);

/// Longest accepted id, in bytes: ids are keys in the log and parts of file names.
const ID_BYTES_MAX: usize = 120;

/// Bytes of the name that a plan gives a step: the host adds the turn, an item and an undo.
const LOCAL_BYTES_MAX: usize = 64;

impl RunId {
    /// Makes the id of a run from a ULID's 26 characters.
    pub fn from_ulid(ulid: &str) -> Self {
        Self(format!("r-{}", ulid.to_ascii_lowercase()))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl StepId {
    /// Returns the host's id for the step that a plan of turn `turn` calls `local`.
    ///
    /// # Errors
    /// Tells what is wrong with `local`: only letters, digits, `_` and `-` make a step's name.
    pub fn new(turn: u32, local: &str) -> Result<Self, String> {
        // What else an id may hold is the host's own: a plan cannot name an item or an undo.
        if !local.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')) {
            return Err(format!("the name `{}` of a step is not of letters, digits, `_` and `-`", shown(local)));
        }
        if local.len() > LOCAL_BYTES_MAX {
            return Err(format!("the name `{}…` of a step is longer than {LOCAL_BYTES_MAX} bytes", shown(local)));
        }
        format!("t{turn}.{local}").parse()
    }

    /// Returns the id of item `n` of this step, from 0: `t2.s1[3]`.
    pub fn item(&self, n: u32) -> Self {
        Self(format!("{}[{n}]", self.0))
    }

    /// Returns the id of the call that takes this step back: `t2.s1~undo`.
    pub fn undo(&self) -> Self {
        Self(format!("{}~undo", self.0))
    }

    /// Returns the id of the `n`th call that asks what became of this step: `t2.s1~reconcile1`.
    pub fn reconcile(&self, n: u32) -> Self {
        Self(format!("{}~reconcile{n}", self.0))
    }

    /// Returns the turn whose plan the step belongs to.
    pub fn turn(&self) -> u32 {
        let turn = self.0.split_once('.').and_then(|(turn, _)| turn.strip_prefix('t'));
        turn.and_then(|turn| turn.parse().ok()).unwrap_or(0)
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name that the plan gave this step.
    pub fn local(&self) -> &str {
        self.0.split_once('.').map_or(self.0.as_str(), |(_, local)| local)
    }
}

impl FromStr for RunId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest =
            text.strip_prefix("r-").ok_or_else(|| format!("run id `{}` does not start with `r-`", shown(text)))?;
        let is_ulid = rest.len() == 26 && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        is_ulid
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| format!("run id `{}` is not `r-` and 26 characters", shown(text)))
    }
}

impl FromStr for StepId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'[' | b']' | b'~'))
        };
        let is_valid = text.len() <= ID_BYTES_MAX
            && text.split_once('.').is_some_and(|(turn, local)| {
                turn.strip_prefix('t').is_some_and(|n| n.parse::<u32>().is_ok()) && is_name(local)
            });
        is_valid.then(|| Self(text.to_owned())).ok_or_else(|| {
            format!(
                "step id `{}` is not like `t1.name` (letters, digits, `_`, `-`; at most {ID_BYTES_MAX} bytes)",
                shown(text)
            )
        })
    }
}

/// Cuts a hostile text before it enters a message.
fn shown(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_default).collect()
}

macro_rules! text_forms {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> { text.parse() }
        }
        impl From<$name> for String {
            fn from(id: $name) -> Self { id.0 }
        }
    )*};
}
text_forms!(RunId, StepId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_refuse_what_could_be_a_path() {
        assert!("r-../../etc/passwd".parse::<RunId>().is_err());
        assert!("r-01arz3ndektsv4rrffq69g5fav".parse::<RunId>().is_ok());
        assert!("t1.../x".parse::<StepId>().is_err());
        assert_eq!(StepId::new(2, "sum").map(|s| s.to_string()), Ok("t2.sum".to_owned()));
        assert!(StepId::new(2, "").is_err());
        assert!(StepId::new(2, "sum[0]").is_err() && StepId::new(2, "sum~undo").is_err());
        let item = StepId::new(2, "sum").unwrap().item(3);
        assert_eq!((item.undo().as_str(), item.undo().turn()), ("t2.sum[3]~undo", 2));
        assert_eq!(item.undo().as_str().parse(), Ok(item.undo()));
    }
}
