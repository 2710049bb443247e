//! Items of steps that are done for each of a list: how many are under way, and whether one failed for all.

use std::collections::HashMap;

use crate::domain::{OnFailure, Role, StepId};
use crate::orchestrator::machine::{Run, Step, StepStatus};

/// What one round of decisions knows of the items of each step, counted once.
#[derive(Default)]
pub(super) struct Items {
    of: HashMap<StepId, Counted>,
}

struct Counted {
    /// Items that may still begin.
    places: usize,
    failed: Option<StepId>,
}

impl Items {
    /// Returns the first item that failed, where that fails the step.
    pub(super) fn failed(&mut self, run: &Run, of: &StepId) -> Option<StepId> {
        self.counted(run, of).failed.clone()
    }

    /// Takes a place for `step` among the items of its step; a step that is no item needs none.
    pub(super) fn take_place(&mut self, run: &Run, step: &Step) -> bool {
        let Role::Item { of } = &step.planned.role else { return true };
        let places = &mut self.counted(run, of).places;
        let has_place = *places > 0;
        *places = places.saturating_sub(1);
        has_place
    }

    fn counted(&mut self, run: &Run, of: &StepId) -> &mut Counted {
        self.of.entry(of.clone()).or_insert_with(|| count(run, of))
    }
}

fn count(run: &Run, of: &StepId) -> Counted {
    let parent = run.step(of).map(|parent| &parent.planned);
    let is_tolerant = parent.is_none_or(|parent| parent.on_failure == OnFailure::Skip);
    let parallel_max = parent.and_then(|parent| parent.items).map_or(1, |items| items.parallel_max.max(1));
    let is_open = |item: &&Step| !item.status.is_terminal() && item.status != StepStatus::Proposed;
    let open = run.items(of).filter(is_open).count();
    let failed = run.items(of).find(|item| item.status.is_failed()).filter(|_| !is_tolerant);
    Counted {
        places: usize::try_from(parallel_max).unwrap_or(usize::MAX).saturating_sub(open),
        failed: failed.map(|item| item.id().clone()),
    }
}
