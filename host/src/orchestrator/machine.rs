//! A run as the fold of its events, and what it wants done next.
//!
//! `apply` takes one event and refuses one that does not follow; `next` returns commands, by ids only. Neither reads a
//! clock, draws a random number or performs anything, so a test can drive a run with plain values, and so can a second
//! driver.

use std::collections::BTreeMap;

use crate::domain::{
    Budget, Decision, Digest, Epoch, Event, Fact, GENESIS, Kind, OnFailure, PlannedStep, Principal, RunEnd, RunId, Seq,
    Settlement, StepEnd, StepId, Suspension, Timestamp, ToolName,
};
use crate::orchestrator::schedule;

/// Replies in a row that may be refused before the run fails: one repair, as a model that fails twice goes on failing.
const REPAIRS_MAX: u32 = 1;

/// A run, as its events so far tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub id: RunId,
    /// The last event, and its hash.
    pub last: (Seq, Digest),
    pub epoch: Epoch,
    pub status: RunStatus,
    pub principal: Principal,
    pub goal: Digest,
    pub planner: String,
    pub policy: Digest,
    pub toolset: Digest,
    pub budget: Budget,
    pub is_single_plan: bool,
    pub planning: Planning,
    pub steps: BTreeMap<StepId, Step>,
    /// Ids in the order of their plans.
    pub order: Vec<StepId>,
    /// Plans accepted so far: turn, and the payload of the checked plan.
    pub plans: Vec<(u32, Digest)>,
    /// The person's answers to the planner's questions.
    pub answers: Vec<Digest>,
    pub answer: Option<Digest>,
    pub cancelled_by: Option<String>,
    /// When the process that works on the run began, moved on by the time that a person took.
    pub since: Timestamp,
    /// Since when a person is waited for.
    pub suspended_at: Option<Timestamp>,
    /// Calls begun.
    pub calls: u32,
}

/// Where the run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunStatus {
    Planning,
    Executing,
    /// A person moves it on.
    Suspended(Suspension),
    Ended(RunEnd),
}

/// What the planner was asked, and how often it was refused.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Planning {
    /// Turns begun.
    pub turn: u32,
    /// Whether a request is under way.
    pub is_asked: bool,
    /// Requests, repairs and repeats included.
    pub requests: u32,
    /// Refusals in a row, and the payloads of the last: reply and failures.
    pub refusals: u32,
    pub refused: Option<(Digest, Digest)>,
    /// A request failed for good.
    pub failed: Option<(Kind, Digest)>,
    /// The last plan has an answer to be resolved when its steps are done.
    pub has_answer: bool,
}

/// A step of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub planned: PlannedStep,
    pub status: StepStatus,
    /// Arguments and key, once they are known; never computed again.
    pub ready: Option<(Digest, Digest)>,
    /// The approved binding, and who approved.
    pub approved: Option<(Digest, String)>,
    /// Attempts begun.
    pub attempts: u32,
}

/// Where a step is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepStatus {
    Proposed,
    Ready,
    AwaitingApproval {
        binding: Digest,
    },
    Running {
        has_written: bool,
    },
    Succeeded {
        output: Digest,
    },
    Failed {
        kind: Kind,
        failure: Digest,
    },
    /// Never started: policy, a person, or arguments that do not fit.
    Rejected {
        kind: Kind,
        failure: Digest,
    },
    Skipped {
        because: StepId,
    },
    /// It began to change something, and nobody saw it end, or it was stopped before it could.
    Unknown,
}

impl StepStatus {
    /// Answers whether nothing more will happen to the step.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Succeeded { .. } | Self::Failed { .. } | Self::Rejected { .. } | Self::Skipped { .. })
    }

    /// Returns the word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Ready => "ready",
            Self::AwaitingApproval { .. } => "awaiting_approval",
            Self::Running { .. } => "running",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Rejected { .. } => "rejected",
            Self::Skipped { .. } => "skipped",
            Self::Unknown => "unknown",
        }
    }
}

/// What the run wants done. A driver performs it and records what it brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Ask the planner, as this turn.
    Plan { turn: u32 },
    /// Resolve the step's arguments, check them, and compute its key.
    Prepare { step: StepId },
    /// Ask policy, and start the call or ask a person.
    Start { step: StepId },
    /// Note that the step will never start.
    Skip { step: StepId, because: StepId },
    /// Resolve the last plan's answer.
    Answer { turn: u32 },
    /// Nothing can go on without a person.
    Suspend { why: Suspension },
    /// Stop the calls that run.
    StopCalls,
    /// The run is over.
    End { ending: Ending, caveats: Vec<StepId> },
}

/// How a run is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Succeeded {
        answer: Option<Digest>,
    },
    /// A step failed that the run needs.
    StepFailed {
        step: StepId,
        kind: Kind,
        failure: Digest,
    },
    /// The planner failed for good.
    PlannerFailed {
        kind: Kind,
        failure: Digest,
    },
    /// The planner's replies were refused too often. Payload: the last failures.
    PlansRefused {
        failures: Digest,
    },
    /// A bound of the budget was met.
    Budget {
        what: &'static str,
    },
    Cancelled {
        by: String,
    },
    /// No step can start and none runs: a mistake in Cofferdam, told rather than called a success.
    Stalled,
}

/// An event that does not follow from those before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {seq} does not follow: {what}")]
pub struct IllegalTransition {
    pub seq: Seq,
    pub what: String,
}

impl Run {
    /// Makes a run of its first event.
    ///
    /// # Errors
    /// The event is not the creation of a run.
    pub fn created(event: &Event) -> Result<Self, IllegalTransition> {
        let Fact::RunCreated { principal, goal, planner, policy, toolset, budget, is_single_plan } = &event.fact else {
            return Err(IllegalTransition { seq: event.seq, what: "a run begins with its creation".into() });
        };
        let mut run = Self {
            id: event.run.clone(),
            last: (0, GENESIS),
            epoch: event.epoch,
            status: RunStatus::Planning,
            principal: principal.clone(),
            goal: *goal,
            planner: planner.clone(),
            policy: *policy,
            toolset: *toolset,
            budget: budget.clone(),
            is_single_plan: *is_single_plan,
            planning: Planning::default(),
            steps: BTreeMap::new(),
            order: Vec::new(),
            plans: Vec::new(),
            answers: Vec::new(),
            answer: None,
            cancelled_by: None,
            since: event.at,
            suspended_at: None,
            calls: 0,
        };
        run.follow(event)?;
        Ok(run)
    }

    /// Makes a run of all its events.
    ///
    /// # Errors
    /// The first event that does not follow.
    pub fn of(events: &[Event]) -> Result<Self, IllegalTransition> {
        let none = || IllegalTransition { seq: 1, what: "there are no events".into() };
        let (first, rest) = events.split_first().ok_or_else(none)?;
        let mut run = Self::created(first)?;
        rest.iter().try_for_each(|event| run.apply(event))?;
        Ok(run)
    }

    /// Takes one event more.
    ///
    /// # Errors
    /// The event does not follow. The run is then not to be used any more: log and state have parted.
    pub fn apply(&mut self, event: &Event) -> Result<(), IllegalTransition> {
        self.follow(event)?;
        self.change(event.at, &event.fact).map_err(|what| IllegalTransition { seq: event.seq, what: what.to_owned() })
    }

    /// Returns whether these facts could follow now: asked before they are written, so that no event that does not follow
    /// becomes part of the log.
    ///
    /// # Errors
    /// The first fact that does not follow.
    pub fn allows(&self, at: Timestamp, facts: &[Fact]) -> Result<(), IllegalTransition> {
        let mut trial = self.clone();
        for (n, fact) in (self.last.0 + 1..).zip(facts) {
            trial.change(at, fact).map_err(|what| IllegalTransition { seq: n, what: what.to_owned() })?;
        }
        Ok(())
    }

    /// Returns what is to be done now. The same run and time give the same commands.
    pub fn next(&self, now: Timestamp) -> Vec<Command> {
        schedule::next(self, now)
    }

    /// Returns the step called `id`.
    pub fn step(&self, id: &StepId) -> Option<&Step> {
        self.steps.get(id)
    }

    /// Returns the steps in the order of their plans.
    pub fn in_order(&self) -> impl Iterator<Item = &Step> {
        self.order.iter().filter_map(|id| self.steps.get(id))
    }

    /// Returns whether the last replies were refused as often as they may be.
    pub(super) fn is_refused_for_good(&self) -> bool {
        self.planning.refusals > REPAIRS_MAX
    }

    /// Returns the tools of the steps that succeeded, to which later plans may refer.
    pub fn succeeded(&self) -> BTreeMap<StepId, ToolName> {
        let is_done = |step: &&Step| matches!(step.status, StepStatus::Succeeded { .. });
        self.in_order().filter(is_done).map(|step| (step.planned.id.clone(), step.planned.tool.clone())).collect()
    }

    fn follow(&mut self, event: &Event) -> Result<(), IllegalTransition> {
        let illegal = |what: String| Err(IllegalTransition { seq: event.seq, what });
        if event.seq != self.last.0 + 1 || event.prev != self.last.1 {
            return illegal(format!("the one before is {}", self.last.0));
        }
        if event.epoch < self.epoch {
            return illegal(format!("epoch {} is over", event.epoch));
        }
        let hash = event.hash().map_err(|e| IllegalTransition { seq: event.seq, what: e.to_string() })?;
        self.last = (event.seq, hash);
        self.epoch = event.epoch;
        Ok(())
    }

    fn change(&mut self, at: Timestamp, fact: &Fact) -> Result<(), &'static str> {
        if matches!(self.status, RunStatus::Ended(_)) {
            return Err("the run has ended");
        }
        match fact {
            Fact::RunClaimed { .. } => self.claimed(at),
            Fact::PlanRequested { .. }
            | Fact::PlanFailed { .. }
            | Fact::PlanRejected { .. }
            | Fact::PlanAccepted { .. } => self.planned(fact),
            Fact::Answered { .. } | Fact::Asked { .. } | Fact::QuestionAnswered { .. } => self.spoken(at, fact),
            Fact::CancelRequested { by } => {
                self.cancelled_by = Some(by.clone());
                self.move_on(at)
            }
            Fact::RunSuspended { why } => self.suspended(at, *why),
            Fact::RunEnded { end, .. } => {
                self.status = RunStatus::Ended(end.clone());
                Ok(())
            }
            Fact::RunCreated { .. } | Fact::SessionStarted { .. } | Fact::CallStarted { .. } | Fact::Called { .. } => {
                Err("it does not belong in the middle of a run")
            }
            step => self.stepped(at, step),
        }
    }

    fn claimed(&mut self, at: Timestamp) -> Result<(), &'static str> {
        // A question stays open until it is answered, whoever has the run.
        if self.status != RunStatus::Suspended(Suspension::Question) {
            self.move_on(at)?;
        }
        self.since = at;
        self.suspended_at = self.suspended_at.map(|_| at);
        Ok(())
    }

    /// A person or a process moved: what was suspended may go on. Waiting for a person was not the run's time.
    fn move_on(&mut self, at: Timestamp) -> Result<(), &'static str> {
        if let Some(suspended_at) = self.suspended_at.take() {
            self.since = self.since.plus_ms(at.ms_since(suspended_at));
        }
        if let RunStatus::Suspended(_) = self.status {
            let is_planning = self.planning.is_asked || self.plans.is_empty();
            self.status = if is_planning { RunStatus::Planning } else { RunStatus::Executing };
        }
        Ok(())
    }

    fn suspended(&mut self, at: Timestamp, why: Suspension) -> Result<(), &'static str> {
        if self.steps.values().any(|step| matches!(step.status, StepStatus::Running { .. })) {
            return Err("a call is running");
        }
        self.status = RunStatus::Suspended(why);
        self.suspended_at = Some(at);
        Ok(())
    }

    fn planned(&mut self, fact: &Fact) -> Result<(), &'static str> {
        let planning = &mut self.planning;
        match fact {
            Fact::PlanRequested { turn, .. } => {
                let is_next = *turn == planning.turn + 1 && !planning.is_asked;
                // After a crash the same request is made again.
                let is_again = *turn == planning.turn && planning.is_asked;
                if !is_next && !is_again {
                    return Err("it is not this turn");
                }
                (planning.turn, planning.is_asked) = (*turn, true);
                planning.requests += 1;
                self.status = RunStatus::Planning;
                return Ok(());
            }
            _ if !planning.is_asked => return Err("the planner was not asked"),
            Fact::PlanFailed { kind, failure, .. } => planning.failed = Some((*kind, *failure)),
            Fact::PlanRejected { reply, failures, .. } => {
                planning.refusals += 1;
                planning.refused = Some((*reply, *failures));
            }
            Fact::PlanAccepted { turn, plan, steps, has_answer, .. } => {
                (planning.refusals, planning.refused, planning.has_answer) = (0, None, *has_answer);
                self.accept(*turn, *plan, steps)?;
            }
            _ => return Err("it is not about a plan"),
        }
        self.planning.is_asked = false;
        Ok(())
    }

    fn accept(&mut self, turn: u32, plan: Digest, steps: &[PlannedStep]) -> Result<(), &'static str> {
        for planned in steps {
            let step = Step {
                planned: planned.clone(),
                status: StepStatus::Proposed,
                ready: None,
                approved: None,
                attempts: 0,
            };
            if self.steps.insert(planned.id.clone(), step).is_some() {
                return Err("a step of this id is there already");
            }
            self.order.push(planned.id.clone());
        }
        self.plans.push((turn, plan));
        self.status = RunStatus::Executing;
        Ok(())
    }

    fn spoken(&mut self, at: Timestamp, fact: &Fact) -> Result<(), &'static str> {
        match fact {
            Fact::Answered { answer, .. } => {
                self.answer = Some(*answer);
                self.planning.is_asked = false;
                self.status = RunStatus::Executing;
            }
            Fact::Asked { .. } if self.planning.is_asked => {
                self.planning.is_asked = false;
                return self.suspended(at, Suspension::Question);
            }
            Fact::QuestionAnswered { text, .. } if self.status == RunStatus::Suspended(Suspension::Question) => {
                self.answers.push(*text);
                self.move_on(at)?;
                self.status = RunStatus::Planning;
            }
            _ => return Err("no question is open"),
        }
        Ok(())
    }

    /// The table of a step's transitions: what is not here is illegal.
    fn stepped(&mut self, at: Timestamp, fact: &Fact) -> Result<(), &'static str> {
        use StepStatus as S;
        let id = step_of(fact).ok_or("it names no step")?;
        let step = self.steps.get_mut(id).ok_or("there is no such step")?;
        let status = match (&step.status, fact) {
            (S::Proposed, Fact::StepReady { args, key, .. }) => {
                step.ready = Some((*args, *key));
                S::Ready
            }
            (S::Proposed | S::Ready | S::AwaitingApproval { .. }, Fact::StepRejected { kind, failure, .. }) => {
                S::Rejected { kind: *kind, failure: *failure }
            }
            (S::Proposed, Fact::StepSkipped { because, .. }) => S::Skipped { because: because.clone() },
            // Asked again after a crash, or because policy has changed: the newest question counts.
            (S::Ready | S::AwaitingApproval { .. }, Fact::ApprovalRequested { binding, .. }) => {
                S::AwaitingApproval { binding: *binding }
            }
            (S::AwaitingApproval { binding }, Fact::ApprovalDecided { binding: decided, decision, by, .. }) => {
                if binding != decided {
                    return Err("the decision is about another call");
                }
                match decision {
                    Decision::Approve => step.approved = Some((*decided, by.clone())),
                    Decision::Reject => step.approved = None,
                }
                if *decision == Decision::Approve { S::Ready } else { S::AwaitingApproval { binding: *binding } }
            }
            (S::Ready, Fact::StepStarted { attempt, .. }) if *attempt == step.attempts + 1 => {
                step.attempts = *attempt;
                self.calls += 1;
                S::Running { has_written: false }
            }
            (S::Running { .. }, Fact::WriteBegun { attempt, .. }) if *attempt == step.attempts => {
                S::Running { has_written: true }
            }
            (S::Running { has_written }, Fact::StepEnded { attempt, end, .. }) if *attempt == step.attempts => {
                match end {
                    StepEnd::Succeeded { output } => S::Succeeded { output: *output },
                    StepEnd::Failed { kind, .. } if *has_written && !is_told(*kind) => S::Unknown,
                    StepEnd::Failed { kind, failure } => S::Failed { kind: *kind, failure: *failure },
                }
            }
            (S::Running { has_written: false }, Fact::StepInterrupted { attempt, .. }) if *attempt == step.attempts => {
                S::Ready
            }
            (S::Running { has_written: true }, Fact::StepUnknown { attempt, .. }) if *attempt == step.attempts => {
                S::Unknown
            }
            (S::Unknown, Fact::StepSettled { settlement, .. }) => match settlement {
                Settlement::Done { output } => S::Succeeded { output: *output },
                Settlement::Retry => S::Ready,
                Settlement::Failed { failure } => S::Failed { kind: Kind::HostInterrupted, failure: *failure },
            },
            _ => return Err("the step is not where that can happen"),
        };
        step.status = status;
        self.move_on(at)
    }
}

/// Whether a tool that had begun to change something told itself how that ended. One that was stopped did not: what it
/// changed is unknown.
fn is_told(kind: Kind) -> bool {
    kind == Kind::ToolDeclared
}

/// The step that a fact is about.
fn step_of(fact: &Fact) -> Option<&StepId> {
    match fact {
        Fact::StepReady { step, .. }
        | Fact::StepRejected { step, .. }
        | Fact::StepSkipped { step, .. }
        | Fact::ApprovalRequested { step, .. }
        | Fact::ApprovalDecided { step, .. }
        | Fact::StepStarted { step, .. }
        | Fact::WriteBegun { step, .. }
        | Fact::StepEnded { step, .. }
        | Fact::StepInterrupted { step, .. }
        | Fact::StepUnknown { step, .. }
        | Fact::StepSettled { step, .. } => Some(step),
        _ => None,
    }
}

/// Whether a step's failure is the run's.
pub(super) fn fails_run(run: &Run, step: &Step) -> bool {
    run.is_single_plan && step.planned.on_failure == OnFailure::Fail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Effect;

    /// A run that is driven by hand: each fact becomes the next event.
    struct Hand(Run);

    fn digest(n: u8) -> Digest {
        Digest::from_bytes([n; 32])
    }

    fn id(name: &str) -> StepId {
        StepId::new(1, name).unwrap()
    }

    fn planned(name: &str, needs: &[&str], effect: Effect) -> PlannedStep {
        let needs = needs.iter().map(|need| id(need)).collect();
        PlannedStep { id: id(name), tool: ToolName::new("x", "y").unwrap(), needs, effect, on_failure: OnFailure::Fail }
    }

    fn event(run: &Run, fact: Fact) -> Event {
        Event { v: 0, run: run.id.clone(), seq: run.last.0 + 1, epoch: 1, at: Timestamp(0), prev: run.last.1, fact }
    }

    impl Hand {
        fn new(is_single_plan: bool, steps: Vec<PlannedStep>) -> Self {
            let fact = Fact::RunCreated {
                principal: Principal::default(),
                goal: digest(0),
                planner: "hand".into(),
                policy: digest(0),
                toolset: digest(0),
                budget: Budget { calls_max: 5, parallel_max: 2, planner_turns_max: 3, wall_ms_max: 1_000 },
                is_single_plan,
            };
            let run: RunId = "r-01arz3ndektsv4rrffq69g5fav".parse().unwrap();
            let first = Event { v: 0, run, seq: 1, epoch: 1, at: Timestamp(0), prev: GENESIS, fact };
            let mut hand = Self(Run::created(&first).unwrap());
            if !steps.is_empty() {
                hand.take(Fact::PlanRequested { turn: 1, pack: digest(0) });
                hand.take(Fact::PlanAccepted { turn: 1, reply: digest(0), plan: digest(0), steps, has_answer: false });
            }
            hand
        }

        #[track_caller]
        fn take(&mut self, fact: Fact) {
            let event = event(&self.0, fact);
            self.0.apply(&event).unwrap();
        }

        #[track_caller]
        fn refuses(&self, fact: Fact) {
            let mut run = self.0.clone();
            assert!(run.apply(&event(&self.0, fact)).is_err());
        }

        fn next(&self) -> Vec<Command> {
            self.0.next(Timestamp(0))
        }

        fn ready(&mut self, name: &str) {
            self.take(Fact::StepReady { step: id(name), args: digest(1), key: digest(2) });
        }

        fn start(&mut self, name: &str) {
            self.take(started(name, 1));
        }

        fn end(&mut self, name: &str, end: StepEnd) {
            let usage = crate::domain::Usage::default();
            self.take(Fact::StepEnded {
                step: id(name),
                attempt: 1,
                end,
                usage,
                log: None,
                denials: None,
                has_written: false,
            });
        }
    }

    fn started(name: &str, attempt: u32) -> Fact {
        Fact::StepStarted { step: id(name), attempt, component: digest(0), effect: Effect::Pure, rules: vec![] }
    }

    fn succeeded() -> StepEnd {
        StepEnd::Succeeded { output: digest(3) }
    }

    fn failed() -> StepEnd {
        StepEnd::Failed { kind: Kind::ToolTrap, failure: digest(4) }
    }

    #[test]
    fn steps_start_when_what_they_need_is_there_and_no_more_than_fit() {
        let pure = Effect::Pure;
        let steps =
            vec![planned("a", &[], pure), planned("b", &[], pure), planned("c", &[], pure), planned("d", &["a"], pure)];
        let mut hand = Hand::new(true, steps);
        let prepare = |name: &str| Command::Prepare { step: id(name) };
        assert_eq!(hand.next(), [prepare("a"), prepare("b"), prepare("c")]);
        ["a", "b", "c"].into_iter().for_each(|name| hand.ready(name));
        assert_eq!(hand.next(), [Command::Start { step: id("a") }, Command::Start { step: id("b") }], "two fit");
        hand.start("a");
        hand.start("b");
        assert_eq!(hand.next(), []);
        hand.end("a", succeeded());
        assert_eq!(hand.next(), [Command::Start { step: id("c") }, prepare("d")]);
    }

    #[test]
    fn steps_that_change_something_keep_the_order_of_the_plan() {
        let mut hand = Hand::new(true, vec![planned("a", &[], Effect::Once), planned("b", &[], Effect::Once)]);
        ["a", "b"].into_iter().for_each(|name| hand.ready(name));
        assert_eq!(hand.next(), [Command::Start { step: id("a") }]);
        hand.start("a");
        assert_eq!(hand.next(), []);
        hand.end("a", succeeded());
        assert_eq!(hand.next(), [Command::Start { step: id("b") }]);
    }

    #[test]
    fn a_failure_ends_a_single_plan_once_what_runs_has_ended() {
        let mut hand = Hand::new(true, vec![planned("a", &[], Effect::Pure), planned("b", &[], Effect::Pure)]);
        ["a", "b"].into_iter().for_each(|name| hand.ready(name));
        ["a", "b"].into_iter().for_each(|name| hand.start(name));
        hand.end("a", failed());
        assert_eq!(hand.next(), [], "b still runs");
        hand.end("b", succeeded());
        let ending = Ending::StepFailed { step: id("a"), kind: Kind::ToolTrap, failure: digest(4) };
        assert_eq!(hand.next(), [Command::End { ending, caveats: vec![id("a")] }]);
    }

    #[test]
    fn a_planner_that_goes_on_sees_the_failure_and_is_asked_again() {
        let mut hand = Hand::new(false, vec![planned("a", &[], Effect::Pure), planned("b", &["a"], Effect::Pure)]);
        hand.ready("a");
        hand.start("a");
        hand.end("a", failed());
        assert_eq!(hand.next(), [Command::Skip { step: id("b"), because: id("a") }]);
        hand.take(Fact::StepSkipped { step: id("b"), because: id("a") });
        assert_eq!(hand.next(), [Command::Plan { turn: 2 }]);
    }

    #[test]
    fn one_repair_and_then_the_run_fails() {
        let mut hand = Hand::new(false, vec![]);
        for turn in 1..=2 {
            assert_eq!(hand.next(), [Command::Plan { turn }]);
            hand.take(Fact::PlanRequested { turn, pack: digest(0) });
            hand.take(Fact::PlanRejected { turn, reply: digest(1), failures: digest(2) });
        }
        assert_eq!(
            hand.next(),
            [Command::End { ending: Ending::PlansRefused { failures: digest(2) }, caveats: vec![] }]
        );
    }

    #[test]
    fn an_interrupted_call_runs_again_and_one_that_wrote_is_never_guessed() {
        let mut hand = Hand::new(true, vec![planned("a", &[], Effect::Once)]);
        hand.ready("a");
        hand.start("a");
        let (interrupted, unknown) =
            (Fact::StepInterrupted { step: id("a"), attempt: 1 }, Fact::StepUnknown { step: id("a"), attempt: 1 });
        hand.refuses(unknown.clone());
        let mut again = Hand(hand.0.clone());
        again.take(interrupted.clone());
        assert_eq!(again.next(), [Command::Start { step: id("a") }]);
        again.refuses(started("a", 1));
        again.take(started("a", 2));

        hand.take(Fact::WriteBegun { step: id("a"), attempt: 1 });
        hand.refuses(interrupted);
        hand.take(unknown);
        assert_eq!(hand.next(), [Command::Suspend { why: Suspension::Reconcile }]);
        hand.take(Fact::RunSuspended { why: Suspension::Reconcile });
        assert_eq!(hand.next(), []);
        hand.take(Fact::StepSettled {
            step: id("a"),
            settlement: Settlement::Done { output: digest(5) },
            by: "ann".into(),
        });
        assert_eq!(hand.next(), [Command::End { ending: Ending::Succeeded { answer: None }, caveats: vec![] }]);
    }

    #[test]
    fn an_approval_counts_for_exactly_what_was_asked() {
        let mut hand = Hand::new(true, vec![planned("a", &[], Effect::Once)]);
        hand.ready("a");
        hand.take(Fact::ApprovalRequested {
            step: id("a"),
            binding: digest(7),
            effect: Effect::Once,
            rule: "r".into(),
        });
        assert_eq!(hand.next(), [Command::Suspend { why: Suspension::Approval }]);
        let decided = |binding| Fact::ApprovalDecided {
            step: id("a"),
            binding,
            decision: Decision::Approve,
            by: "ann".into(),
            reason: None,
        };
        hand.refuses(decided(digest(8)));
        hand.refuses(started("a", 1));
        hand.take(decided(digest(7)));
        hand.refuses(decided(digest(7)));
        assert_eq!(hand.next(), [Command::Start { step: id("a") }]);
    }

    #[test]
    fn a_begun_write_that_was_stopped_is_unknown_and_one_that_tells_is_not() {
        let mut hand = Hand::new(true, vec![planned("a", &[], Effect::Once)]);
        hand.ready("a");
        hand.start("a");
        hand.take(Fact::WriteBegun { step: id("a"), attempt: 1 });
        let mut told = Hand(hand.0.clone());
        told.end("a", StepEnd::Failed { kind: Kind::ToolDeclared, failure: digest(4) });
        assert!(matches!(told.0.step(&id("a")).unwrap().status, StepStatus::Failed { .. }));
        hand.end("a", StepEnd::Failed { kind: Kind::ToolDeadline, failure: digest(4) });
        assert_eq!(hand.next(), [Command::Suspend { why: Suspension::Reconcile }]);
    }

    #[test]
    fn a_question_stays_open_until_it_is_answered_and_waiting_is_not_the_runs_time() {
        let mut hand = Hand::new(false, vec![]);
        hand.take(Fact::PlanRequested { turn: 1, pack: digest(0) });
        hand.take(Fact::Asked { turn: 1, reply: digest(0), question: digest(1) });
        hand.take(Fact::RunClaimed { owner: "another".into(), policy: digest(0) });
        assert_eq!(hand.0.status, RunStatus::Suspended(Suspension::Question));
        let mut late = event(&hand.0, Fact::QuestionAnswered { turn: 1, text: digest(2), by: "ann".into() });
        late.at = Timestamp(9_000);
        hand.0.apply(&late).unwrap();
        assert_eq!(hand.0.next(Timestamp(9_500)), [Command::Plan { turn: 2 }]);
        let out = Ending::Budget { what: "wall_ms_max" };
        assert_eq!(hand.0.next(Timestamp(10_000)), [Command::End { ending: out, caveats: vec![] }]);
    }

    #[test]
    fn calls_within_the_budget_go_on_when_it_is_used_up() {
        let steps = ["a", "b", "c"].map(|name| planned(name, &[], Effect::Pure)).to_vec();
        let mut hand = Hand::new(true, steps);
        hand.0.budget.calls_max = 1;
        ["a", "b", "c"].into_iter().for_each(|name| hand.ready(name));
        assert_eq!(hand.next(), [Command::Start { step: id("a") }]);
        hand.start("a");
        assert_eq!(hand.next(), [], "a may end");
        hand.end("a", succeeded());
        let out = Ending::Budget { what: "calls_max" };
        assert_eq!(hand.next(), [Command::End { ending: out, caveats: vec![id("b"), id("c")] }]);
    }

    #[test]
    fn a_run_in_which_nothing_can_start_is_never_called_a_success() {
        // A plan that `check` would have ordered: the first write needs the second.
        let mut hand = Hand::new(true, vec![planned("a", &["b"], Effect::Once), planned("b", &[], Effect::Once)]);
        hand.ready("b");
        assert_eq!(hand.next(), [Command::End { ending: Ending::Stalled, caveats: vec![id("a"), id("b")] }]);
    }

    #[test]
    fn budgets_end_a_run_and_an_ended_run_takes_nothing_more() {
        let mut hand = Hand::new(true, vec![planned("a", &[], Effect::Pure)]);
        hand.ready("a");
        let late = hand.0.next(Timestamp(1_000));
        assert_eq!(late, [Command::End { ending: Ending::Budget { what: "wall_ms_max" }, caveats: vec![id("a")] }]);
        hand.0.calls = 5;
        assert_eq!(
            hand.next(),
            [Command::End { ending: Ending::Budget { what: "calls_max" }, caveats: vec![id("a")] }]
        );
        hand.take(Fact::RunEnded { end: RunEnd::Cancelled { by: "ann".into() }, caveats: vec![] });
        assert_eq!(hand.next(), []);
        hand.refuses(started("a", 1));
        hand.refuses(Fact::RunSuspended { why: Suspension::Approval });
    }

    #[test]
    fn an_event_out_of_its_place_is_refused() {
        let hand = Hand::new(true, vec![planned("a", &[], Effect::Pure)]);
        let ready = || Fact::StepReady { step: id("a"), args: digest(1), key: digest(2) };
        for change in [|e: &mut Event| e.seq += 1, |e: &mut Event| e.prev = GENESIS, |e: &mut Event| e.epoch = 0] {
            let mut event = event(&hand.0, ready());
            change(&mut event);
            assert!(hand.0.clone().apply(&event).is_err());
        }
        hand.refuses(Fact::StepReady { step: id("none"), args: digest(1), key: digest(2) });
        hand.refuses(Fact::PlanRequested { turn: 1, pack: digest(0) });
    }
}
