//! What is wrong with the shape of a reply: all of it at once, so that one repair can mend it.

use super::REPLY_HINT;
use crate::domain::{Failure, Kind};
use crate::planner::Proposal;

/// Shape errors that one failure lists: a reply with more is no near miss.
const FLAWS_MAX: usize = 12;

/// Shape errors, each with its place.
#[derive(Default)]
pub(super) struct Flaws {
    found: Vec<String>,
    omitted: usize,
}

impl Flaws {
    pub(super) fn add(&mut self, pointer: &str, what: &str) {
        if self.found.len() < FLAWS_MAX {
            let place = if pointer.is_empty() { "the reply".to_owned() } else { format!("`{pointer}`") };
            self.found.push(format!("{place} {what}"));
        } else {
            self.omitted += 1;
        }
    }

    /// Notes a flaw, and returns the nothing that stands for what could not be read.
    pub(super) fn none<T>(&mut self, pointer: &str, what: &str) -> Option<T> {
        self.add(pointer, what);
        None
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn none_or(mut self, proposal: Option<Proposal>) -> Result<Proposal, Failure> {
        match proposal {
            Some(proposal) if self.is_empty() => Ok(proposal),
            _ => {
                if self.omitted > 0 {
                    self.found.push(format!("and {} more", self.omitted));
                }
                let what = format!("read the reply: {}", self.found.join("; "));
                Err(Failure::new(Kind::ModelSchema, what).hint(REPLY_HINT))
            }
        }
    }
}

/// Returns `key` as a token of a JSON pointer, cut: it may be a hostile text.
pub(super) fn token(key: &str) -> String {
    let cut: String = key.chars().take(40).collect();
    cut.replace('~', "~0").replace('/', "~1")
}
