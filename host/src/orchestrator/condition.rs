//! A condition of a plan: does a step run, does a run succeed? Text in CEL, read once and held against what steps brought.
//!
//! Promises: a condition is a pure function of its inputs; reading and holding it are bounded (bytes, levels, work), and
//! neither panics. The grammar is that of the crate `cel`; the value is found here, as that crate's own evaluation has no
//! bound (225 bytes of nested `map` keep it busy for seconds). Leaves to others: whether the steps that it names exist
//! (`check`), and what a step brought (the driver).
//!
//! What is a subset of CEL, and what differs: values are those of JSON. A whole number is exact from -2^63 to 2^64-1,
//! whatever its sign, and equals a fraction of the same value; arithmetic with a fraction gives a fraction. A field that is
//! not there is an error, as in CEL, and `has()` asks for it; a step that brought nothing is `null`.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::Json;

mod evaluate;
mod node;
mod number;
mod print;
mod read;
#[cfg(test)]
mod tests;

use node::Node;

/// Bytes of one condition: a dozen comparisons fit, and the parser's stack is safe.
const CONDITION_BYTES_MAX: usize = 1 << 10;

/// Levels of one condition: as deep as the parser goes into parentheses.
const CONDITION_DEPTH_MAX: usize = 96;

/// Operations of holding a condition once, elements looked at included: a tenth of a second at the most.
const CONDITION_WORK_MAX: u32 = 1_000_000;

/// Under which the answer of the run stands among what steps brought: no step can bear it.
pub const ANSWER: &str = "$answer";

/// A condition, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    root: Node,
    steps: BTreeSet<String>,
    uses_item: bool,
}

/// A place that a condition looks at: the fields and indexes that lead there from a step or the item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// `None` for the item.
    pub step: Option<String>,
    pub path: Vec<String>,
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// What is wrong with it, with the column where the parser tells it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let root = read::read(text)?;
        let mut places = BTreeSet::new();
        root.places(&mut places);
        let uses_item = places.iter().any(|place| place.step.is_none());
        let steps = places.into_iter().filter_map(|place| place.step).collect();
        Ok(Self { root, steps, uses_item })
    }

    /// Returns the names of the steps that it looks at.
    pub fn steps(&self) -> &BTreeSet<String> {
        &self.steps
    }

    /// Answers whether it looks at the answer of the run.
    pub fn uses_answer(&self) -> bool {
        self.steps.contains(ANSWER)
    }

    /// Answers whether it looks at the item of a `for_each`.
    pub fn uses_item(&self) -> bool {
        self.uses_item
    }

    /// Answers whether it holds. A step that is absent from `steps` has brought nothing, and is null.
    ///
    /// # Errors
    /// What has no value: a field that is not there, values that cannot be compared, a result that is neither true nor
    /// false, too much work.
    pub fn holds(&self, steps: &BTreeMap<String, Json>, item: Option<&Json>) -> Result<bool, String> {
        evaluate::holds(&self.root, steps, item)
    }

    /// Returns the places that it looks at, as far as they are written out.
    pub(super) fn places(&self) -> BTreeSet<Place> {
        let mut places = BTreeSet::new();
        self.root.places(&mut places);
        places
    }

    /// Returns its text with each step under the name that `rename` gives it.
    pub(super) fn renamed(&self, rename: &dyn Fn(&str) -> String) -> String {
        print::print(&self.root, rename)
    }
}
