//! Is all there that a step needs?

use crate::domain::{OnFailure, Role, SkipReason, StepId};
use crate::orchestrator::machine::{Run, Step, StepStatus};
use crate::orchestrator::schedule::items::Items;
use crate::policy::may_touch_same;

/// What became of the steps that one needs.
pub(super) enum Need {
    Met,
    Waiting,
    /// What is needed will never be there.
    Lost(SkipReason),
}

pub(super) fn need(run: &Run, step: &Step, items: &mut Items) -> Need {
    if let Role::Item { of } = &step.planned.role {
        // An item waits for nothing, and is passed over once another one has failed for all of them.
        return match items.failed(run, of) {
            Some(failed) => Need::Lost(SkipReason::Needs { step: failed }),
            None => Need::Met,
        };
    }
    match stands_in_for(run, step) {
        Some(primary) if primary.status.is_failed() => {}
        Some(primary) => match &primary.status {
            StepStatus::Skipped { .. } => return Need::Lost(SkipReason::Needs { step: primary.id().clone() }),
            status if status.is_terminal() => return Need::Lost(SkipReason::NotNeeded),
            _ => return Need::Waiting,
        },
        None => {}
    }
    let mut is_met = true;
    for id in &step.planned.needs {
        match brought(run, id) {
            Brought::Yes => {}
            Brought::Waiting => is_met = false,
            Brought::Nothing => return Need::Lost(SkipReason::Needs { step: id.clone() }),
        }
    }
    is_met &= step.planned.after.iter().all(|id| !matches!(brought(run, id), Brought::Waiting));
    if is_met { Need::Met } else { Need::Waiting }
}

/// What a step, or whatever stands in for it, has brought.
enum Brought {
    Yes,
    Waiting,
    Nothing,
}

fn brought(run: &Run, id: &StepId) -> Brought {
    match run.stand_in(id).map(|step| &step.status) {
        Some(StepStatus::Succeeded { .. }) => Brought::Yes,
        Some(status) if !status.is_terminal() => Brought::Waiting,
        _ => Brought::Nothing,
    }
}

/// The step whose place this one takes, should it fail.
fn stands_in_for<'a>(run: &'a Run, step: &Step) -> Option<&'a Step> {
    let is_primary = |other: &&Step| {
        matches!(&other.planned.on_failure, OnFailure::Fallback(fallback) if *fallback == step.id().as_str())
            && other.planned.role == Role::Do
    };
    run.in_order().find(is_primary)
}

/// A step that changes something waits for every earlier one that may change the same. What takes back has an order of its
/// own.
pub(super) fn is_blocked(run: &Run, step: &Step) -> bool {
    if !step.is_write() || matches!(step.planned.role, Role::Undo { .. }) {
        return false;
    }
    let is_in_the_way = |earlier: &Step| {
        earlier.is_write() && !earlier.status.is_terminal() && !is_kin(earlier, step) && conflicts(earlier, step)
    };
    run.in_order().take_while(|earlier| earlier.id() != step.id()).any(is_in_the_way)
}

/// Items of one step are told to be independent of each other, and their step waits for them.
fn is_kin(earlier: &Step, step: &Step) -> bool {
    match (&earlier.planned.role, &step.planned.role) {
        (Role::Item { of: one }, Role::Item { of: other }) => one == other,
        (_, Role::Item { of }) => earlier.id() == of,
        _ => false,
    }
}

/// Two steps of which it is not known that they change different things may change the same.
fn conflicts(one: &Step, other: &Step) -> bool {
    may_touch_same(&one.planned.touches, &other.planned.touches)
}
