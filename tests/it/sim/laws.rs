//! What holds at the end of every simulated run, whatever happened on the way.

use std::collections::{BTreeMap, HashMap, HashSet};

use cofferdam::domain::{CaveatKind, Digest, Effect, Event, Fact, Role, RunEnd, RunId, StepId, Suspension};
use cofferdam::orchestrator::{CheckedPlan, EdgeKind, Graph, Run, RunStatus, Stage, Step, graph};
use cofferdam::store::EventLog;

use super::process::Simulated;
use super::world::Done;

/// A run within a simulation, as its log tells it.
pub struct Told {
    pub run: Run,
    pub events: Vec<Event>,
    pub plans: Vec<CheckedPlan>,
}

/// What two simulations of one seed have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Final {
    pub end: String,
    pub steps: BTreeMap<String, String>,
}

/// All runs of a simulation, that of the case first.
pub async fn told(simulated: &Simulated) -> Vec<Told> {
    let log = simulated.disk.log();
    let mut told = Vec::new();
    for entry in log.runs(usize::MAX).await.expect("the log is read") {
        let events = log.read(&entry.run, 0).await.expect("the log is read");
        let Ok(run) = Run::of(&events) else { continue };
        let mut plans = Vec::new();
        for (_, plan) in &run.plans {
            let bytes = log.payload(&run.id, plan).await.expect("the plan is there").expect("nobody was erased");
            plans.push(serde_json::from_slice(&bytes).expect("the plan reads"));
        }
        told.push(Told { run, events, plans });
    }
    told.sort_by_key(|told| told.run.id != simulated.run);
    told
}

/// Holds a simulation to every law that needs no other one beside it.
pub async fn hold(simulated: &Simulated, told: &[Told], seed: &str) {
    let done = simulated.world.done();
    at_most_once(&done, seed);
    within_budget(simulated, told, seed);
    for Told { run, events, plans } in told {
        let verified = simulated.disk.log().verify(&run.id).await;
        assert!(verified.is_ok(), "{seed}: the chain of {} is broken: {verified:?}", run.id);
        let ends = events.iter().filter(|event| matches!(event.fact, Fact::RunEnded { .. })).count();
        assert_eq!(ends, 1, "{seed}: {} ends once", run.id);
        accounted_for(run, events, &done, seed);
        taken_back(run, events, &done, seed);
        along_edges(events, plans, seed);
    }
    if let Some(done) = done.iter().find(|done| told.iter().all(|told| told.run.id != done.run)) {
        panic!("{seed}: {done:?} is of no run that is known");
    }
}

fn at_most_once(done: &[Done], seed: &str) {
    let mut count: HashMap<(Digest, u32), u32> = HashMap::new();
    for one in done {
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
fn accounted_for(run: &Run, events: &[Event], done: &[Done], seed: &str) {
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
        assert!(is_told, "{seed}: {} was done and the run's end does not tell: {stage:?}", one.step);
    }
}

/// What was done is taken back, the last first.
fn taken_back(run: &Run, events: &[Event], done: &[Done], seed: &str) {
    let planned = events.iter().find_map(|event| match &event.fact {
        Fact::UndoBegun { steps, .. } => Some(steps.iter().map(|step| step.id.clone()).collect::<Vec<_>>()),
        _ => None,
    });
    let Some(planned) = planned else { return };
    let cancels: Vec<&Done> = done.iter().filter(|one| one.run == run.id && one.cancels.is_some()).collect();
    let order: Vec<_> = cancels.iter().filter(|one| one.tool != "person").map(|one| one.step.clone()).collect();
    let expected: Vec<_> = planned.into_iter().filter(|id| order.contains(id)).collect();
    assert_eq!(order, expected, "{seed}: what was done is taken back in its order");
    for step in run.in_order().filter(|step| step.status.stage() == Stage::Undone) {
        let booked = done.iter().find(|one| one.run == run.id && one.step == *step.id());
        let Some(id) = booked.and_then(|booked| booked.output["id"].as_str()) else { continue };
        let is_cancelled = cancels.iter().any(|one| one.cancels.as_deref() == Some(id));
        assert!(is_cancelled, "{seed}: {} is said to be undone, and `{id}` is not cancelled", step.id());
    }
}

/// Nothing starts before what leads to it has ended, and nothing starts that is not in the plan.
fn along_edges(events: &[Event], plans: &[CheckedPlan], seed: &str) {
    let graphs: Vec<Graph> = plans.iter().map(graph).collect();
    let Some((first, rest)) = events.split_first() else { return };
    let mut run = Run::created(first).expect("it is a run");
    if run.takes_back().is_some() {
        // Its steps are those of another run.
        return;
    }
    for event in rest {
        if let Fact::StepStarted { step, .. } | Fact::StepCached { step, .. } = &event.fact {
            let planned = run.step(step).unwrap_or_else(|| panic!("{seed}: {step} is in no plan"));
            let of = match &planned.planned.role {
                Role::Do => step,
                Role::Item { of } | Role::Undo { of } | Role::Reconcile { of } => of,
            };
            let of = match run.step(of).map(|step| &step.planned.role) {
                Some(Role::Item { of }) => of,
                _ => of,
            };
            let graph = graphs.iter().find(|graph| graph.nodes.iter().any(|node| node.id == of.as_str()));
            let graph = graph.unwrap_or_else(|| panic!("{seed}: {of} is no node of the graph"));
            if matches!(planned.planned.role, Role::Do | Role::Item { .. }) {
                ended_before(&run, of, graph, seed);
            }
        }
        run.apply(event).expect("the log follows its own rules");
    }
}

fn ended_before(run: &Run, step: &StepId, graph: &Graph, seed: &str) {
    let waits = |kind| matches!(kind, EdgeKind::Data | EdgeKind::Needs | EdgeKind::After | EdgeKind::When);
    let stands_in = |id: &str| graph.edges.iter().any(|edge| edge.kind == EdgeKind::Fallback && edge.to == id);
    for edge in graph.edges.iter().filter(|edge| edge.to == step.as_str() && waits(edge.kind)) {
        // What stands in for another is waited for in its place.
        if stands_in(&edge.from) {
            continue;
        }
        let from: StepId = edge.from.parse().expect("it is a step's id");
        let before = run.stand_in(&from).unwrap_or_else(|| panic!("{seed}: {from} is not in the run"));
        assert!(before.status.is_terminal(), "{seed}: {step} starts before {from} has ended: {:?}", before.status);
    }
}

/// Calls of all runs together, those within the run included, are no more than the first one may make.
fn within_budget(simulated: &Simulated, told: &[Told], seed: &str) {
    // One whose process died is the same call when it goes on.
    let is_again = |event: &&Event| matches!(event.fact, Fact::StepInterrupted { .. });
    let calls = told.iter().map(|told| {
        let again = told.events.iter().filter(is_again).count();
        simulated.world.calls(&told.run.id).saturating_sub(again)
    });
    let calls: usize = calls.sum();
    let calls_max = told.iter().find(|told| told.run.id == simulated.run).map_or(0, |told| told.run.budget.calls_max);
    let is_within = u32::try_from(calls).is_ok_and(|calls| calls <= calls_max);
    assert!(is_within, "{seed}: {calls} calls, {calls_max} allowed");
    let Some(root) = told.iter().find(|told| told.run.id == simulated.run) else { return };
    let (of_tools, at_once) = (called(told), under_way(told));
    for (tool, calls) in of_tools {
        assert!(calls <= root.run.budget.calls_per_tool_max, "{seed}: {calls} calls of {tool}:\n{}", lines(told));
    }
    // Of a process that died nothing is under way, though the logs say so until they are taken over.
    if simulated.crashes > 0 {
        return;
    }
    let parallel_max = i64::from(root.run.budget.parallel_max.max(1));
    assert!(at_once <= parallel_max, "{seed}: {at_once} calls under way at one time:\n{}", lines(told));
}

/// Calls by tool that plans made, of all runs together. One whose process died is the same call when it goes on.
fn called(told: &[Told]) -> BTreeMap<String, u32> {
    let mut calls: BTreeMap<String, u32> = BTreeMap::new();
    for Told { run, events, .. } in told {
        for event in events {
            let (step, is_begun) = match &event.fact {
                Fact::StepStarted { step, run: None, .. } => (step, true),
                Fact::StepInterrupted { step, .. } => (step, false),
                _ => continue,
            };
            let Some(step) = run.step(step).filter(|step| is_of_plan(step)) else { continue };
            let count = calls.entry(step.planned.tool.to_string()).or_default();
            *count = if is_begun { *count + 1 } else { *count - 1 };
        }
    }
    calls
}

fn is_of_plan(step: &Step) -> bool {
    matches!(step.planned.role, Role::Do | Role::Item { .. })
}

/// The most calls that were under way at one time, of all runs together: at equal times those that ended count first.
fn under_way(told: &[Told]) -> i64 {
    let mut moves = Vec::new();
    for Told { run, events, .. } in told {
        let calls = |step: &StepId| run.step(step).is_some_and(|step| step.run.is_none());
        for event in events {
            match &event.fact {
                Fact::StepStarted { step, run: None, .. } if calls(step) => moves.push((event.at, 1)),
                Fact::StepEnded { step, .. } | Fact::StepInterrupted { step, .. } if calls(step) => {
                    moves.push((event.at, -1));
                }
                _ => {}
            }
        }
    }
    moves.sort_unstable();
    moves
        .into_iter()
        .scan(0, |now, (_, change)| {
            *now += change;
            Some(*now)
        })
        .max()
        .unwrap_or(0)
}

/// Whether a run of the simulation waited for a person to tell what became of a step; and whether that was one whose
/// service honours keys.
pub fn reconciled(told: &[Told]) -> (bool, bool) {
    let (mut any, mut keyed) = (false, false);
    for Told { events, run: ended, .. } in told {
        // What was cut short is not what its service would have been asked again for.
        let is_cut_short =
            ended.cancelled.is_some() || matches!(ended.status, RunStatus::Ended(RunEnd::BudgetExhausted { .. }));
        let (first, rest) = events.split_first().expect("there are events");
        let mut run = Run::created(first).expect("it is a run");
        for event in rest {
            run.apply(event).expect("the log follows its own rules");
            if run.status == RunStatus::Suspended(Suspension::Reconcile) {
                any = true;
                // What was cut short by a person who cancelled is not what a run waits for that is taken back.
                let is_waited_for = |step: &&Step| {
                    step.status.stage() == Stage::Unknown
                        && ((run.undo.is_none() && !is_cut_short) || matches!(step.planned.role, Role::Undo { .. }))
                };
                let mut unknown = run.in_order().filter(is_waited_for);
                keyed |= unknown.any(|step| step.effect <= Effect::Idempotent && step.run.is_none());
            }
        }
    }
    (any, keyed)
}

/// How the run of the case ended, and each of its steps.
pub fn end_of(told: &[Told], id: &RunId) -> Final {
    let run = &told.iter().find(|told| told.run.id == *id).expect("the run is there").run;
    let RunStatus::Ended(end) = &run.status else { panic!("the run has ended") };
    let end = match end {
        RunEnd::Succeeded { answer } => format!("succeeded {answer:?}"),
        RunEnd::Failed { kind, .. } => format!("failed {kind}"),
        RunEnd::Cancelled { by } => format!("cancelled by {by}"),
        RunEnd::BudgetExhausted { .. } => "budget".to_owned(),
    };
    let of_plan = run.in_order().filter(|step| !matches!(step.planned.role, Role::Reconcile { .. }));
    let steps = of_plan.map(|step| {
        let output = step.output.filter(|_| !matches!(step.planned.role, Role::Undo { .. }));
        (step.id().to_string(), format!("{:?} {output:?}", step.status.stage()))
    });
    Final { end, steps: steps.collect() }
}

/// The events of all runs, one line each, for whoever looks for the place.
pub fn lines(told: &[Told]) -> String {
    let line = |told: &Told, event: &Event| {
        let fact = serde_json::to_string(&event.fact).unwrap_or_default();
        format!("{} {} {fact}", told.run.id, event.seq)
    };
    let lines: Vec<_> = told.iter().flat_map(|told| told.events.iter().map(move |event| line(told, event))).collect();
    lines.join("\n")
}
