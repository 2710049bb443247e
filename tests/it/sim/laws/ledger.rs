//! What the world was made to do: once, told in the end, taken back in order, and nothing after somebody said stop.

use std::collections::{HashMap, HashSet};

use cofferdam::domain::{CaveatKind, Digest, Event, Fact, Role, StepId};
use cofferdam::orchestrator::{Run, Stage};

use super::super::world::Done;
use super::{Saw, Told, Whole};

pub(super) fn hold(whole: &Whole<'_>, saw: &mut Saw) {
    let Whole { simulated, told, seed } = whole;
    let done = simulated.world.done();
    at_most_once(&done, seed, saw);
    for Told { run, events, .. } in *told {
        accounted_for(run, events, &done, seed, saw);
        taken_back(run, events, &done, seed, saw);
        let Some(stopped_at) = simulated.world.stopped_at(&run.id) else { continue };
        stopped(run, &done, stopped_at, seed, saw);
    }
    if let Some(done) = done.iter().find(|done| told.iter().all(|told| told.run.id != done.run)) {
        panic!("{seed}: {done:?} is of no run that is known");
    }
}

fn at_most_once(done: &[Done], seed: &str, saw: &mut Saw) {
    let mut count: HashMap<(Digest, u32), u32> = HashMap::new();
    for one in done {
        saw.note("an effect happens once under its key");
        let times = count.entry((one.key, one.n)).or_default();
        *times += 1;
        assert_eq!(*times, 1, "{seed}: {} write {} of {} was done twice", one.step, one.n, one.tool);
    }
    // Whatever key it had: a run within the run may be begun anew under another name.
    let mut subjects = HashSet::new();
    for one in done {
        let is_new = subjects.insert((&one.subject, one.n, one.cancels.is_some()));
        assert!(is_new, "{seed}: write {} of `{}` was done twice, under different keys", one.n, one.subject);
    }
}

/// What was done stands in the run's end: as a success, as something taken back, or as a caveat.
fn accounted_for(run: &Run, events: &[Event], done: &[Done], seed: &str, saw: &mut Saw) {
    let caveats: Vec<(StepId, CaveatKind)> = events
        .iter()
        .filter_map(|event| match &event.fact {
            Fact::RunEnded { caveats, .. } => Some(caveats.iter().map(|caveat| (caveat.step.clone(), caveat.what))),
            _ => None,
        })
        .flatten()
        .collect();
    for one in done.iter().filter(|one| one.run == run.id) {
        let step = run.step(&one.step).unwrap_or_else(|| panic!("{seed}: {} is no step of its run", one.step));
        let stage = step.status.stage();
        let is_told = matches!(stage, Stage::Succeeded | Stage::Undone)
            || caveats.iter().any(|(step, _)| *step == one.step)
            // What takes back is told by the step that it takes back.
            || matches!(&step.planned.role, Role::Undo { of } if caveats.iter().any(|(step, _)| step == of));
        saw.note("what was done stands in the end of its run");
        assert!(is_told, "{seed}: {} was done and the run's end does not tell: {stage:?}", one.step);
    }
}

/// What was done is taken back, the last first.
fn taken_back(run: &Run, events: &[Event], done: &[Done], seed: &str, saw: &mut Saw) {
    let planned = events.iter().find_map(|event| match &event.fact {
        Fact::UndoBegun { steps, .. } => Some(steps.iter().map(|step| step.id.clone()).collect::<Vec<_>>()),
        _ => None,
    });
    let Some(planned) = planned else { return };
    let cancels: Vec<&Done> = done.iter().filter(|one| one.run == run.id && one.cancels.is_some()).collect();
    // What was stuck, and a person had tried again, comes after all that was not.
    let is_again = |step: &StepId| {
        let is_it = |event: &Event| matches!(&event.fact, Fact::StepSettled { step: of, .. } if of == step);
        events.iter().any(is_it)
    };
    let by_itself = cancels.iter().filter(|one| one.tool != "person" && !is_again(&one.step));
    let order: Vec<_> = by_itself.map(|one| one.step.clone()).collect();
    let expected: Vec<_> = planned.into_iter().filter(|id| order.contains(id)).collect();
    saw.note_if(order.len() > 1, "what was done is taken back, the last first");
    assert_eq!(order, expected, "{seed}: what was done is taken back in its order");
    for step in run.in_order().filter(|step| step.status.stage() == Stage::Undone) {
        let booked = done.iter().find(|one| one.run == run.id && one.step == *step.id());
        let Some(id) = booked.and_then(|booked| booked.output["id"].as_str()) else { continue };
        let is_cancelled = cancels.iter().any(|one| one.cancels.as_deref() == Some(id));
        saw.note("what is said to be undone was cancelled");
        assert!(is_cancelled, "{seed}: {} is said to be undone, and `{id}` is not cancelled", step.id());
    }
}

/// Once it is durable that a run is to stop, its plan changes nothing any more.
fn stopped(run: &Run, done: &[Done], stopped_at: u64, seed: &str, saw: &mut Saw) {
    let is_of_plan =
        |id: &StepId| run.step(id).is_some_and(|step| matches!(step.planned.role, Role::Do | Role::Item { .. }));
    saw.note_if(done.iter().any(|one| one.run == run.id), "nothing is done after somebody said stop");
    for one in done.iter().filter(|one| one.run == run.id && is_of_plan(&one.step)) {
        assert!(
            one.at_ms <= stopped_at,
            "{seed}: {} was done at {} ms, and the run stopped at {stopped_at}",
            one.step,
            one.at_ms
        );
    }
}
