//! The course of a run, event by event: nothing starts before its time, beyond its plan, without the word of the person who
//! was asked, or after the run was told to stop; and no more goes on at once than may.

use std::collections::{BTreeMap, HashSet};

use cofferdam::domain::{
    Cost, Decision, Digest, Effect, Event, Fact, PlannedStep, Role, Seq, Settlement, StepId, Timestamp,
};
use cofferdam::orchestrator::{EdgeKind, Graph, Run, Stage, Step, StepStatus, graph};

use super::super::plans::CACHE_TTL_MS;
use super::{Saw, Whole};

pub(super) fn hold(whole: &Whole<'_>, saw: &mut Saw) {
    for told in whole.told {
        let graphs: Vec<Graph> = told.plans.iter().map(graph).collect();
        let Some((first, rest)) = told.events.split_first() else { continue };
        let mut course = Course {
            run: Run::created(first).expect("it is a run"),
            events: &told.events,
            graphs,
            seed: whole.seed,
            due: BTreeMap::new(),
            outstanding: BTreeMap::new(),
            requested: Cost::default(),
            asked: HashSet::new(),
            approved: HashSet::new(),
        };
        for event in rest {
            course.before(event, saw);
            course.run.apply(event).expect("the log follows its own rules");
            course.after(saw);
        }
        assert_eq!(course.run.reserved, Cost::default(), "{}: what was reserved was settled", whole.seed);
        saw.note("nothing is reserved in the end");
    }
}

struct Course<'a> {
    run: Run,
    events: &'a [Event],
    graphs: Vec<Graph>,
    seed: &'a str,
    /// When steps may be tried again.
    due: BTreeMap<StepId, Timestamp>,
    /// What was reserved for calls of which nobody has seen the end.
    outstanding: BTreeMap<StepId, Cost>,
    /// What was reserved for the request to a model of which nobody has seen the end.
    requested: Cost,
    /// Steps about which a person was asked, and the calls that were approved: with these arguments.
    asked: HashSet<StepId>,
    approved: HashSet<(StepId, Digest)>,
}

impl Course<'_> {
    fn before(&mut self, event: &Event, saw: &mut Saw) {
        match &event.fact {
            Fact::StepStarted { step, reserved, .. } => drop(self.outstanding.insert(step.clone(), *reserved)),
            // One whose process died holds what was reserved until it goes on, or is given up.
            Fact::StepEnded { step, .. } | Fact::StepRejected { step, .. } | Fact::ApprovalExpired { step, .. } => {
                let _ = self.outstanding.remove(step);
            }
            Fact::ReconcileBegun { of, .. } => self.asks_alone(of),
            Fact::StepUnknown { step, .. } => self.had_begun(event.seq, step, saw),
            // What was interrupted, and not gone on with, is given up at the end.
            Fact::RunEnded { .. } => {
                self.outstanding.clear();
                self.requested = Cost::default();
            }
            Fact::PlanRequested { reserved, .. } => self.requested = *reserved,
            Fact::PlanReplied { .. } | Fact::PlanFailed { .. } => self.requested = Cost::default(),
            // What takes back another run takes back steps of that one.
            Fact::UndoBegun { steps, .. } if self.run.takes_back().is_none() => self.last_first(event.seq, steps, saw),
            _ => {}
        }
        match &event.fact {
            Fact::StepStarted { step, .. } => {
                self.starts(step, event.at, saw);
                self.is_allowed(step, saw);
                self.follows(step, saw);
            }
            Fact::StepCached { step, age_ms, .. } => {
                self.follows(step, saw);
                let effect = self.found(step).planned.effect;
                let is_fresh = effect == Effect::Pure || (effect == Effect::Read && *age_ms <= CACHE_TTL_MS);
                assert!(is_fresh, "{}: {step} ({effect}) is answered by what was {age_ms} ms ago", self.seed);
                saw.note(if effect == Effect::Pure {
                    "a pure outcome is kept"
                } else {
                    "what was read is not kept long"
                });
            }
            Fact::WriteBegun { step, .. } => self.goes_on(step, saw),
            Fact::StepEnded { step, retry: Some(due), .. } => drop(self.due.insert(step.clone(), *due)),
            Fact::StepExpanded { step, items, .. } => {
                let bounds = self.run.step(step).and_then(|step| step.planned.items).expect("it has items");
                assert!(*items <= bounds.items_max, "{}: {step} has {items} items", self.seed);
                saw.note("a list is no longer than it may be");
            }
            Fact::ApprovalRequested { step, .. } => drop(self.asked.insert(step.clone())),
            Fact::ApprovalDecided { step, decision, .. } => self.decided(step, decision),
            _ => {}
        }
    }

    /// Nobody is asked about a step that changed nothing: it runs again.
    fn had_begun(&mut self, seq: Seq, step: &StepId, saw: &mut Saw) {
        let _ = self.outstanding.remove(step);
        let is_begun =
            |event: &Event| event.seq < seq && matches!(&event.fact, Fact::WriteBegun { step: of, .. } if of == step);
        let has_begun = self.events.iter().any(is_begun) || self.found(step).run.is_some();
        assert!(has_begun, "{}: {step} is unknown, and had not begun to change anything", self.seed);
        saw.note("a step that is unknown had begun to change something");
    }

    /// A tool is asked what became of a step when none is asked already.
    fn asks_alone(&self, of: &StepId) {
        let is_asking = |step: &&Step| {
            matches!(&step.planned.role, Role::Reconcile { of: about } if about == of) && !step.status.is_terminal()
        };
        let asking = self.run.in_order().find(is_asking);
        assert!(asking.is_none(), "{}: {:?} asks already", self.seed, asking.map(Step::id));
    }

    /// What is taken back are steps that ended, the last first.
    fn last_first(&self, seq: Seq, undo: &[PlannedStep], saw: &mut Saw) {
        let ended = |planned: &PlannedStep| {
            let Role::Undo { of } = &planned.role else { panic!("{}: {} takes nothing back", self.seed, planned.id) };
            let ends = self.events.iter().filter(|event| event.seq < seq && is_end_of(&event.fact, of));
            ends.map(|event| event.seq).max().unwrap_or_else(|| panic!("{}: {of} has not ended", self.seed))
        };
        let order: Vec<Seq> = undo.iter().map(ended).collect();
        assert!(order.is_sorted_by(|one, other| one >= other), "{}: {undo:?} is not the last first", self.seed);
        saw.note_if(order.len() > 1, "what ended last is taken back first");
    }

    fn decided(&mut self, step: &StepId, decision: &Decision) {
        let ready = self.run.step(step).and_then(|step| step.ready);
        match (decision, ready) {
            (Decision::Approve, Some((args, _))) => drop(self.approved.insert((step.clone(), args))),
            (Decision::Modify { args, .. }, _) => drop(self.approved.insert((step.clone(), *args))),
            _ => {}
        }
    }

    /// A step is tried again when its time has come, as often as it may be, and not once the run is to stop.
    fn starts(&mut self, step: &StepId, at: Timestamp, saw: &mut Saw) {
        if let Some(due) = self.due.remove(step) {
            assert!(at >= due, "{}: {step} starts at {at:?}, and was to wait until {due:?}", self.seed);
            saw.note("a call is tried again when its time has come");
        }
        self.goes_on(step, saw);
        let found = self.found(step);
        if found.attempts > 0 {
            let is_within = found.attempts_counted() < found.planned.retry.attempts_max || found.reconciles > 0;
            let was_settled = matches!(found.planned.role, Role::Undo { .. }) || is_within || found.failure.is_none();
            assert!(was_settled, "{}: {step} is tried more often than it may be", self.seed);
            saw.note("a call is tried no more often than it may be");
        }
    }

    fn found(&self, step: &StepId) -> &Step {
        self.run.step(step).unwrap_or_else(|| panic!("{}: {step} is in no plan", self.seed))
    }

    fn goes_on(&self, step: &StepId, saw: &mut Saw) {
        if self.run.cancelled.is_none() {
            return;
        }
        let is_of_plan = matches!(self.found(step).planned.role, Role::Do | Role::Item { .. });
        assert!(!is_of_plan, "{}: {step} goes on after the run was told to stop", self.seed);
        saw.note("what takes back goes on after a run was told to stop");
    }

    /// A person who was asked said yes, to exactly these arguments.
    fn is_allowed(&self, step: &StepId, saw: &mut Saw) {
        if !self.asked.contains(step) {
            return;
        }
        let args = self.found(step).ready.map(|(args, _)| args).expect("it is ready");
        assert!(self.approved.contains(&(step.clone(), args)), "{}: nobody approved {step}", self.seed);
        saw.note("what a person was asked about starts with their word");
    }

    /// Nothing starts before what leads to it has ended, and nothing starts that is not in the plan.
    fn follows(&self, step: &StepId, saw: &mut Saw) {
        let of = match &self.found(step).planned.role {
            Role::Do => step,
            Role::Item { of } => of,
            Role::Undo { .. } | Role::Reconcile { .. } => return,
        };
        let graph = self.graphs.iter().find(|graph| graph.nodes.iter().any(|node| node.id == of.as_str()));
        let graph = graph.unwrap_or_else(|| panic!("{}: {of} is no node of the graph", self.seed));
        ended_before(&self.run, of, graph, self.seed, saw);
    }

    /// No more goes on at once than may.
    fn after(&self, saw: &mut Saw) {
        let outstanding = self.outstanding.values().fold(self.requested, |sum, cost| sum.plus(*cost));
        assert_eq!(
            self.run.reserved,
            outstanding,
            "{}: what may be spent yet is reserved, after {:?}",
            self.seed,
            self.events.iter().find(|event| event.seq == self.run.last.0)
        );
        saw.note_if(self.outstanding.len() > 1, "what may be spent yet is reserved");
        let running: Vec<&Step> = self.run.in_order().filter(|step| step.status.stage() == Stage::Running).collect();
        let parallel_max = usize::try_from(self.run.budget.parallel_max).expect("it is small");
        assert!(running.len() <= parallel_max, "{}: {} calls at once", self.seed, running.len());
        saw.note_if(running.len() == parallel_max, "as much goes on at once as may");
        for step in self.run.in_order() {
            let Some(bounds) = step.planned.items else { continue };
            let items = self.run.items(step.id()).filter(|item| item.status.stage() == Stage::Running).count();
            let items_max = usize::try_from(bounds.parallel_max).expect("it is small");
            assert!(items <= items_max, "{}: {items} items of {} at once", self.seed, step.id());
            saw.note_if(items > 0 && items == items_max, "as many items go on at once as may");
        }
    }
}

fn ended_before(run: &Run, step: &StepId, graph: &Graph, seed: &str, saw: &mut Saw) {
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
        let is_needed = matches!(edge.kind, EdgeKind::Data | EdgeKind::Needs);
        let is_done = matches!(before.status, StepStatus::Succeeded { .. });
        assert!(!is_needed || is_done, "{seed}: {step} needs {from}, which is {:?}", before.status);
        saw.note(if is_needed {
            "a step starts when what it needs succeeded"
        } else {
            "a step starts when what it waits for ended"
        });
    }
}

/// Whether a step has ended by this fact, done or unknown.
fn is_end_of(fact: &Fact, of: &StepId) -> bool {
    match fact {
        Fact::StepEnded { step, retry: None, .. } => step == of,
        Fact::StepUnknown { step, .. } => step == of,
        Fact::StepRejected { step, .. } | Fact::ApprovalExpired { step, .. } => step == of,
        Fact::StepSettled { step, settlement, .. } => step == of && !matches!(settlement, Settlement::Retry),
        _ => false,
    }
}
