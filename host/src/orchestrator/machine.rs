//! A run as the fold of its events, and what it wants done next.
//!
//! `apply` takes one event and refuses one that does not follow; `next` returns commands, by ids only. Neither reads a
//! clock, draws a random number or performs anything, so a test can drive a run with plain values, and so can a second
//! driver.

use std::collections::BTreeMap;

use crate::domain::{
    Budget, Caveat, Decision, Digest, Epoch, Event, Fact, GENESIS, Kind, OnFailure, PlannedStep, Principal, RunEnd,
    RunId, Seq, Settlement, SkipReason, StepEnd, StepId, Suspension, Timestamp, ToolName,
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
        why: SkipReason,
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
    End { ending: Ending, caveats: Vec<Caveat> },
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
        let Fact::RunCreated { principal, goal, planner, policy, toolset, budget, is_single_plan, .. } = &event.fact
        else {
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
            Fact::CancelRequested { by, .. } => {
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
            (S::Proposed, Fact::StepSkipped { why, .. }) => S::Skipped { why: why.clone() },
            // Asked again after a crash, or because policy has changed: the newest question counts.
            (S::Ready | S::AwaitingApproval { .. }, Fact::ApprovalRequested { binding, .. }) => {
                S::AwaitingApproval { binding: *binding }
            }
            (S::AwaitingApproval { binding }, Fact::ApprovalDecided { binding: decided, decision, by, .. }) => {
                if binding != decided {
                    return Err("the decision is about another call");
                }
                match decision {
                    Decision::Modify { .. } => {}
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
    kind.is_told()
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
