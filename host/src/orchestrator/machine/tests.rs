//! The machine, driven by hand: each fact becomes the next event.

use super::*;
use crate::domain::Decision;
use crate::domain::{
    Budget, Caveat, CaveatKind, Cost, Effect, Items, OnFailure, RetryRule, SCHEMA_VERSION, Settlement, SkipReason,
    StepEnd, Usage,
};

mod approval;
mod attempts;
mod budget;
mod ends;
mod model;
mod order;
mod planning;
mod undo;
mod word;

/// A run that is driven by hand.
pub(in crate::orchestrator) struct Hand(pub(in crate::orchestrator) Run);

pub(in crate::orchestrator) fn digest(n: u8) -> Digest {
    Digest::from_bytes([n; 32])
}

pub(in crate::orchestrator) fn id(name: &str) -> StepId {
    match name.split_once(['[', '~']) {
        None => StepId::new(1, name).unwrap(),
        Some(_) => format!("t1.{name}").parse().unwrap(),
    }
}

pub(in crate::orchestrator) fn planned(name: &str, needs: &[&str], effect: Effect) -> PlannedStep {
    let needs = needs.iter().map(|need| id(need)).collect();
    PlannedStep::call(id(name), ToolName::new("x", "y").unwrap(), needs, effect)
}

fn event(run: &Run, at: Timestamp, fact: Fact) -> Event {
    Event {
        v: SCHEMA_VERSION,
        run: run.id.clone(),
        seq: run.last.0 + 1,
        epoch: 1,
        at,
        prev: run.last.1,
        fact,
        stored: None,
    }
}

impl Hand {
    pub(in crate::orchestrator) fn new(is_single_plan: bool, steps: Vec<PlannedStep>) -> Self {
        let budget =
            Budget { calls_max: 5, parallel_max: 2, planner_turns_max: 3, wall_ms_max: 1_000, ..Budget::default() };
        Self::with(is_single_plan, budget, steps)
    }

    pub(in crate::orchestrator) fn with(is_single_plan: bool, budget: Budget, steps: Vec<PlannedStep>) -> Self {
        Self::within(is_single_plan, budget, None, steps)
    }

    /// A run within another one.
    pub(in crate::orchestrator) fn within(
        is_single_plan: bool,
        budget: Budget,
        parent: Option<Parent>,
        steps: Vec<PlannedStep>,
    ) -> Self {
        let fact = Fact::RunCreated {
            principal: Principal::default(),
            goal: digest(0),
            planner: "hand".into(),
            policy: digest(0),
            toolset: digest(0),
            budget,
            is_single_plan,
            has_assertions: false,
            parent,
            trace: None,
        };
        let run: RunId = "r-01arz3ndektsv4rrffq69g5fav".parse().unwrap();
        let first =
            Event { v: SCHEMA_VERSION, run, seq: 1, epoch: 1, at: Timestamp(0), prev: GENESIS, fact, stored: None };
        let mut hand = Self(Run::created(&first).unwrap());
        if !steps.is_empty() {
            hand.take(Fact::PlanRequested { turn: 1, pack: digest(0), asked: None, reserved: Cost::default() });
            hand.take(accepted(steps));
        }
        hand
    }

    #[track_caller]
    pub(in crate::orchestrator) fn take(&mut self, fact: Fact) {
        self.take_at(Timestamp(0), fact);
    }

    #[track_caller]
    pub(in crate::orchestrator) fn take_at(&mut self, at: Timestamp, fact: Fact) {
        let event = event(&self.0, at, fact);
        self.0.apply(&event).unwrap();
    }

    #[track_caller]
    fn refuses(&self, fact: Fact) {
        let mut run = self.0.clone();
        assert!(run.apply(&event(&self.0, Timestamp(0), fact)).is_err());
    }

    fn next(&self) -> Vec<Command> {
        self.0.next(Timestamp(0))
    }

    fn ready(&mut self, name: &str) {
        self.take(Fact::StepReady { step: id(name), args: digest(1), key: digest(2), duplicate_of: None });
    }

    fn start(&mut self, name: &str) {
        let attempt = self.step(name).attempts + 1;
        self.take(started(name, attempt));
    }

    fn write(&mut self, name: &str) {
        let attempt = self.step(name).attempts;
        self.take(Fact::WriteBegun { step: id(name), attempt });
    }

    fn end(&mut self, name: &str, end: StepEnd) {
        self.end_retrying(name, end, None);
    }

    fn end_retrying(&mut self, name: &str, end: StepEnd, retry: Option<Timestamp>) {
        let attempt = self.step(name).attempts;
        self.take(ended(name, attempt, end, retry));
    }

    /// Has the step done in one go.
    fn does(&mut self, name: &str, end: StepEnd) {
        self.ready(name);
        self.start(name);
        self.end(name, end);
    }

    fn step(&self, name: &str) -> &Step {
        self.0.step(&id(name)).unwrap()
    }

    fn stage(&self, name: &str) -> Stage {
        self.step(name).status.stage()
    }
}

fn accepted(steps: Vec<PlannedStep>) -> Fact {
    Fact::PlanAccepted {
        turn: 1,
        reply: digest(0),
        plan: digest(0),
        steps,
        has_answer: false,
        has_assertions: false,
        checked_by: crate::domain::CHECK_VERSION,
    }
}

fn started(name: &str, attempt: u32) -> Fact {
    Fact::StepStarted {
        step: id(name),
        attempt,
        component: digest(0),
        effect: Effect::Pure,
        rules: vec![],
        reserved: one(),
        run: None,
    }
}

fn ended(name: &str, attempt: u32, end: StepEnd, retry: Option<Timestamp>) -> Fact {
    attempt_ended(id(name), attempt, end, retry, false)
}

/// The end of an attempt, in one place: the tests say only what they are about.
fn attempt_ended(step: StepId, attempt: u32, end: StepEnd, retry: Option<Timestamp>, has_written: bool) -> Fact {
    Fact::StepEnded {
        step,
        attempt,
        end,
        usage: Usage::default(),
        cost: one(),
        log: None,
        denials: None,
        has_written,
        has_open_write: false,
        host_calls: None,
        retry,
        has_caveats: false,
        within: None,
    }
}

fn one() -> Cost {
    Cost { calls: 1, ..Cost::default() }
}

fn start(name: &str) -> Command {
    Command::Start { step: id(name), reserve: one() }
}

fn prepare(name: &str) -> Command {
    Command::Prepare { step: id(name) }
}

fn skip(name: &str, needs: &str) -> Command {
    Command::Skip { step: id(name), why: SkipReason::Needs { step: id(needs) } }
}

fn caveats(of: &[(&str, CaveatKind)]) -> Vec<Caveat> {
    of.iter().map(|(name, what)| Caveat { step: id(name), what: *what }).collect()
}

fn end(ending: Ending, of: &[(&str, CaveatKind)]) -> Vec<Command> {
    vec![Command::End { ending, caveats: caveats(of) }]
}

fn out(what: &str) -> Ending {
    Ending::Budget { what: what.into() }
}

fn success() -> Ending {
    Ending::Succeeded { answer: None }
}

fn step_failed(name: &str) -> Ending {
    Ending::StepFailed { step: id(name), kind: Kind::ToolTrap, failure: digest(4) }
}

fn succeeded() -> StepEnd {
    StepEnd::Succeeded { output: digest(3) }
}

fn failed() -> StepEnd {
    StepEnd::Failed { kind: Kind::ToolTrap, failure: digest(4) }
}

fn failing(kind: Kind) -> StepEnd {
    StepEnd::Failed { kind, failure: digest(4) }
}

fn settled(name: &str, settlement: Settlement) -> Fact {
    Fact::StepSettled { step: id(name), settlement, by: "ann".into() }
}

fn undo_of(name: &str, after: &[&str]) -> PlannedStep {
    PlannedStep {
        role: Role::Undo { of: id(name) },
        after: after.iter().map(|name| id(name)).collect(),
        ..planned(&format!("{name}~undo"), &[], Effect::Once)
    }
}
