//! What the end of a run within a run tells of the step that it carried out. Pure.
//!
//! Promises: whoever notes that end notes the same, be it the driver of the run around it or who ends a run that nobody drives;
//! and whoever reads the log can find it again. Leaves to others: what the run brought.

use serde::Serialize;

use crate::domain::{Caveat, CaveatKind, Cost, Fact, StepEnd, StepId, Usage, Within};
use crate::orchestrator::machine::Run;

/// What the end of a run within a run tells of its step. Of one that was never begun, nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Told {
    /// What the run took of the budget around it, its requests to planners included.
    pub cost: Cost,
    pub has_caveats: bool,
    /// Something that it began was not taken back.
    pub has_written: bool,
    /// Nobody knows what became of something that it began.
    pub has_open_write: bool,
    pub within: Option<Within>,
}

/// Returns what a run that has ended, with these caveats, tells of the step that it carried out.
pub fn told(child: &Run, caveats: &[Caveat]) -> Told {
    let has = |what| caveats.iter().any(|caveat| caveat.what == what);
    let has_open_write = has(CaveatKind::Unknown);
    // What a run that takes back could not take back is known: a person said so of each.
    let is_undo = child.takes_back().is_some();
    Told {
        cost: Cost { turns: child.planning.requests.saturating_add(child.spent.turns), ..child.spent },
        has_caveats: !caveats.is_empty(),
        has_written: has_open_write || (has(CaveatKind::UndoFailed) && !is_undo),
        has_open_write,
        within: Some(child.within()),
    }
}

impl Told {
    /// Returns the fact that the step ended so.
    pub(super) fn ended(self, step: StepId, attempt: u32, end: StepEnd) -> Fact {
        Fact::StepEnded {
            step,
            attempt,
            end,
            usage: Usage { fuel: self.cost.fuel, ..Usage::default() },
            cost: self.cost,
            log: None,
            denials: None,
            has_written: self.has_written,
            has_open_write: self.has_open_write,
            host_calls: None,
            retry: None,
            has_caveats: self.has_caveats,
            within: self.within,
        }
    }
}
