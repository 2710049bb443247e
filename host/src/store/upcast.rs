//! Reads events that older versions of Cofferdam wrote.
//!
//! Pure. Each step turns the JSON of an event of one version into that of the next. A step is never changed and never
//! removed, as logs live longer than programs. What is hashed is always the text that is stored, never what a step made.
//! Of the header (`v`, `run`, `seq`, `epoch`, `at`, `prev`, and the name of the fact) every version writes the same.

use crate::domain::{Event, Json, SCHEMA_VERSION};

/// Turns the JSON of an event of one version into that of the next, all but its `v`. What is no event stays none.
pub(super) type Step = fn(Json) -> Json;

/// The oldest version that is read: the first that was promised.
const OLDEST: u16 = 1;

/// The step at `n` begins at version `OLDEST + n`.
const STEPS: &[Step] = &[from_1];

/// The name under which runs within runs are kept.
const RUN_TOOL: &str = "cofferdam.run";

/// From 1 to 2. How often a reply is made good became part of the budget: before, it was once. What else came with 2 has
/// defaults that mean what its absence meant.
fn from_1(mut body: Json) -> Json {
    if body["fact"]["fact"] == "plan_accepted" {
        body["fact"]["checked_by"] = 1.into();
        let steps = body["fact"]["steps"].as_array_mut();
        for step in steps.into_iter().flatten().filter(|step| step["tool"] == RUN_TOOL) {
            // Which of them a model plans was not told: each is given money as if it were.
            step["asks_model"] = true.into();
        }
    }
    if let Some(budget) = body.pointer_mut("/fact/budget").and_then(Json::as_object_mut) {
        budget.insert("repairs_max".to_owned(), 1.into());
    }
    body
}

const _: () = assert!(STEPS.len() == (SCHEMA_VERSION - OLDEST) as usize, "each version has a step to the next");

/// What the versions of events mean to a program.
#[derive(Clone, Copy)]
pub(super) struct Versions<'a> {
    pub oldest: u16,
    pub steps: &'a [Step],
}

/// How an event's version stands to those that a program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// From before the first version that is read.
    Forgotten,
    /// So many steps behind.
    Older(usize),
    Current,
    /// A later program wrote it.
    Newer,
}

impl Versions<'static> {
    /// The versions that this program knows.
    pub(super) const KNOWN: Self = Self { oldest: OLDEST, steps: STEPS };
}

impl Versions<'_> {
    /// Returns how `v` stands to the version that is written now.
    pub(super) fn age(&self, v: u16) -> Age {
        let Some(steps) = v.checked_sub(self.oldest) else { return Age::Forgotten };
        match self.steps.len().checked_sub(usize::from(steps)) {
            None => Age::Newer,
            Some(0) => Age::Current,
            Some(behind) => Age::Older(behind),
        }
    }

    /// Reads an event that is `behind` steps old, all but its hash.
    pub(super) fn read(&self, body: Json, behind: usize) -> serde_json::Result<Event> {
        let first = self.steps.len().saturating_sub(behind);
        let mut body = self.steps.iter().skip(first).fold(body, |body, step| step(body));
        if let Some(fields) = body.as_object_mut() {
            fields.insert("v".to_owned(), self.current().into());
        }
        serde_json::from_value(body)
    }

    fn current(&self) -> u16 {
        u16::try_from(self.steps.len()).map_or(u16::MAX, |steps| self.oldest.saturating_add(steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_old_current_or_new() {
        let steps: [Step; 2] = [|body| body, |body| body];
        let versions = Versions { oldest: 3, steps: &steps };
        let ages = [2, 3, 4, 5, 6].map(|v| versions.age(v));
        assert_eq!(ages, [Age::Forgotten, Age::Older(2), Age::Older(1), Age::Current, Age::Newer]);
        assert_eq!(Versions::KNOWN.age(SCHEMA_VERSION), Age::Current);
        assert_eq!(Versions::KNOWN.age(SCHEMA_VERSION + 1), Age::Newer);
    }
}
