//! What holds at the end of every simulated run, whatever happened on the way; and how often each law had anything to say.

use std::collections::BTreeMap;

use cofferdam::domain::{Effect, Event, Fact, Role, RunEnd, RunId, Suspension};
use cofferdam::orchestrator::{CheckedPlan, Run, RunStatus, Stage, Step};
use cofferdam::store::EventLog;

use super::process::Simulated;

mod bounds;
mod course;
mod ledger;
mod people;
mod seen;

pub use seen::WORLD;

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

/// All laws, as they are counted: each must find something to hold within a few hundred seeds.
pub const LAWS: &[&str] = &[
    "a call is tried again when its time has come",
    "a call is tried no more often than it may be",
    "a list is no longer than it may be",
    "a pure outcome is kept",
    "what was read is not kept long",
    "a run within the run takes no more than was reserved for it",
    "a server is given few more requests than there were calls",
    "a server that failed too often is left alone",
    "a server that was left alone is asked once",
    "a step starts when what it needs succeeded",
    "a step that is unknown had begun to change something",
    "a step starts when what it waits for ended",
    "an effect happens once under its key",
    "as many items go on at once as may",
    "as much goes on at once as may",
    "as much goes on at once in all runs as may",
    "fuel is near the cap",
    "money is within the budget",
    "nothing is done after somebody said stop",
    "nothing is reserved in the end",
    "the end tells what could not be taken back",
    "the end tells what failed",
    "the end tells what nobody knows",
    "the end tells what stands for another",
    "the end tells what was not finished",
    "the end tells what was not taken back",
    "the end tells what was rejected",
    "the end tells what was skipped",
    "the end tells what was taken back",
    "what a person changed is what is done",
    "what a person was asked about starts with their word",
    "what is said to be undone was cancelled",
    "what is spent is within the budget",
    "what nobody decided expires, and not before",
    "what takes back goes on after a run was told to stop",
    "what was asked is decided once, in time",
    "what was done is taken back, the last first",
    "what ended last is taken back first",
    "what may be spent yet is reserved",
    "what was done stands in the end of its run",
    "whoever is told of an approval, it waits",
    "whoever is told of an unknown step, it waits",
    "whoever is told of what is stuck, it waits",
];

/// What is held only where there is next to nothing to spend.
pub const POOR_LAWS: &[&str] =
    &["a tool is called as often as it may be", "calls are within the budget", "tokens are within the budget"];

/// How often each law found something to hold, and each part of the world was met.
#[derive(Clone, Debug, Default)]
pub struct Saw(pub BTreeMap<&'static str, u64>);

impl Saw {
    /// Notes that a law had something to say.
    pub fn note(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// Takes what another simulation saw.
    pub fn add(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            *self.0.entry(what).or_default() += times;
        }
    }

    /// Returns which laws held nothing, and which parts of the world were not met.
    pub fn missing(&self) -> Vec<&'static str> {
        let all = LAWS.iter().chain(WORLD);
        all.filter(|what| !self.0.contains_key(**what)).copied().collect()
    }

    fn note_if(&mut self, is_seen: bool, what: &'static str) {
        if is_seen {
            self.note(what);
        }
    }
}

/// All that a law looks at.
struct Whole<'a> {
    simulated: &'a Simulated,
    told: &'a [Told],
    /// How to tell the simulation from others.
    seed: &'a str,
}

/// All runs of a simulation, that of the case first.
pub async fn told(simulated: &Simulated) -> Vec<Told> {
    let log = simulated.disk.log();
    let mut told = Vec::new();
    for entry in log.runs(usize::MAX).await.expect("the log is read") {
        let events = log.read(&entry.run, 0).await.expect("the log is read");
        let run = Run::of(&events).expect("the log of a run follows its own rules");
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
pub async fn hold(simulated: &Simulated, told: &[Told], seed: &str, saw: &mut Saw) {
    for Told { run, events, .. } in told {
        let verified = simulated.disk.log().verify(&run.id).await;
        assert!(verified.is_ok(), "{seed}: the chain of {} is broken: {verified:?}", run.id);
        let ends = events.iter().filter(|event| matches!(event.fact, Fact::RunEnded { .. })).count();
        assert_eq!(ends, 1, "{seed}: {} ends once", run.id);
    }
    let whole = Whole { simulated, told, seed };
    ledger::hold(&whole, saw);
    bounds::hold(&whole, saw);
    people::hold(&whole, saw);
    course::hold(&whole, saw);
    seen::note(&whole, saw);
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
                let mut unknown = run.in_order().filter(is_waited_for).filter(|step| may_go_on(&run, step));
                keyed |= unknown.any(|step| step.effect <= Effect::Idempotent && step.run.is_none());
            }
        }
    }
    (any, keyed)
}

/// Whether a budget was used up by a run whose tools were asked what became of a step: to ask is a call, and costs as one.
pub fn asked_and_out(told: &[Told]) -> bool {
    told.iter().any(|told| {
        let has_asked = told.run.in_order().any(|step| matches!(step.planned.role, Role::Reconcile { .. }));
        has_asked && matches!(told.run.status, RunStatus::Ended(RunEnd::BudgetExhausted { .. }))
    })
}

/// Whether the budget has room for the step's call once more.
fn may_go_on(run: &Run, step: &Step) -> bool {
    let (budget, cost) = (&run.budget, run.spent.plus(run.reserved).plus(step.planned.cost));
    let of_tool = run.calls_of.get(&step.planned.tool).copied().unwrap_or_default();
    cost.calls <= budget.calls_max
        && of_tool < budget.calls_per_tool_max
        && cost.fuel <= budget.fuel_max
        && cost.bytes <= budget.bytes_max
        && budget.usd_micros_max.is_none_or(|usd_micros_max| cost.usd_micros <= usd_micros_max)
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
