//! Folds a log again, and asks of each event whether it is what the run wanted there.
//!
//! A log whose chain is whole can still tell what no machine would have decided. Promises: an event that the machine brings about
//! by itself is held against what it wanted; one that comes from outside, as [`source`] tells, only has to follow. Pure.
//! Leaves to others: what the digests in an event stand for (`host::replay`).

use crate::domain::{BY_RECONCILE, Event, Fact, Kind, RunEnd, SkipReason, StepId, Timestamp, UndoReason};
use crate::orchestrator::machine::{Command, Ending, IllegalTransition, Run, StepStatus};

/// Where a fact comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The machine wanted it: it follows from the events before it and the time.
    Machine,
    /// A person, or whoever speaks for one.
    Person,
    /// A call that is under way, or a run within the run.
    Call,
    /// The planner, who was asked.
    Planner,
    /// The process that drives the run, or took it over.
    Process,
}

/// Tells where facts of this kind come from. Some come from a second place as well: [`Refold::take`] knows which.
pub fn source(fact: &Fact) -> Source {
    match fact {
        Fact::PlanRequested { .. }
        | Fact::Verified { .. }
        | Fact::StepReady { .. }
        | Fact::StepExpanded { .. }
        | Fact::StepGathered { .. }
        | Fact::StepRejected { .. }
        | Fact::StepSkipped { .. }
        | Fact::StepCached { .. }
        | Fact::ApprovalRequested { .. }
        | Fact::ApprovalExpired { .. }
        | Fact::StepStarted { .. }
        | Fact::StepInterrupted { .. }
        | Fact::StepUnknown { .. }
        | Fact::StepSettled { .. }
        | Fact::ReconcileBegun { .. }
        | Fact::UndoBegun { .. }
        | Fact::RunSuspended { .. }
        | Fact::RunEnded { .. } => Source::Machine,
        Fact::ApprovalDecided { .. }
        | Fact::QuestionAnswered { .. }
        | Fact::CancelRequested { .. }
        | Fact::CallSettled { .. } => Source::Person,
        Fact::WriteBegun { .. } | Fact::StepEnded { .. } | Fact::CallStarted { .. } | Fact::Called { .. } => {
            Source::Call
        }
        Fact::PlanReplied { .. }
        | Fact::PlanFailed { .. }
        | Fact::PlanRejected { .. }
        | Fact::PlanAccepted { .. }
        | Fact::Answered { .. }
        | Fact::Asked { .. } => Source::Planner,
        Fact::RunCreated { .. }
        | Fact::SessionStarted { .. }
        | Fact::RunClaimed { .. }
        | Fact::ToolsChanged { .. }
        | Fact::Notified { .. } => Source::Process,
    }
}

/// A run that is folded from its log once more.
pub struct Refold {
    run: Run,
    at: Timestamp,
    /// What was wanted when it was last asked, and did not come about yet: a driver performs all that was wanted at one time.
    round: Vec<Command>,
    /// What the process that took the run over must have found of the calls of the one before.
    recovered: Vec<Fact>,
    /// Whether a process took the run over, and nothing has gone on since.
    is_claimed: bool,
    /// The step about which a person said no, which the next fact tells.
    refused: Option<StepId>,
    /// Whether a step failed that the run needs.
    is_lost: bool,
}

impl Refold {
    /// Begins with the first event.
    ///
    /// # Errors
    /// It is not the creation of a run.
    pub fn of(first: &Event) -> Result<Self, IllegalTransition> {
        let run = Run::created(first)?;
        let (round, recovered) = (Vec::new(), Vec::new());
        Ok(Self { run, at: first.at, round, recovered, is_claimed: false, refused: None, is_lost: false })
    }

    /// Returns the run as the events so far tell.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Says what the process that takes the run over with the next event must find: [`recovered`](crate::orchestrator::recovered)
    /// of the run as it is now.
    pub fn expect(&mut self, recovered: Vec<Fact>) {
        self.recovered = recovered;
    }

    /// Takes the next event, and returns what the run wanted in its place; `None` where it is as it should be.
    ///
    /// # Errors
    /// The event does not follow at all: nothing can be said of those behind it.
    pub fn take(&mut self, event: &Event) -> Result<Option<Vec<Command>>, IllegalTransition> {
        let fact = &event.fact;
        let is_wanted =
            source(fact) != Source::Machine || self.is_from_elsewhere(fact, event.at) || self.is_next(event);
        let wanted = (!is_wanted).then(|| self.run.next(event.at));
        self.note(fact);
        self.run.apply(event)?;
        self.at = event.at;
        if self.has_turned(fact) {
            // A driver decides anew then.
            self.round.clear();
        }
        Ok(wanted)
    }

    /// Whether the run is lost with this fact, or is not any more.
    fn has_turned(&mut self, fact: &Fact) -> bool {
        let may_turn = match fact {
            Fact::UndoBegun { .. } | Fact::StepSettled { .. } => true,
            fact => fact.step().and_then(|step| self.run.step(step)).is_some_and(|step| step.status.is_failed()),
        };
        let was_lost = self.is_lost;
        self.is_lost = if may_turn { self.run.is_lost() } else { was_lost };
        self.is_lost != was_lost
    }

    /// Notes what the fact means for those that follow.
    fn note(&mut self, fact: &Fact) {
        match source(fact) {
            Source::Machine => {}
            // A run within the run may end while others of the round begin.
            Source::Call if fact.step().is_some_and(|step| self.is_run(step)) => {}
            // Approved before the run began: in the midst of what was decided with it.
            Source::Person if matches!(fact, Fact::ApprovalDecided { .. }) => {}
            _ => self.round.clear(),
        }
        self.refused = match fact {
            Fact::ApprovalDecided { step, decision: crate::domain::Decision::Reject, .. } => Some(step.clone()),
            _ => None,
        };
        self.is_claimed = match fact {
            Fact::RunClaimed { .. } => true,
            Fact::ToolsChanged { .. }
            | Fact::StepInterrupted { .. }
            | Fact::StepUnknown { .. }
            | Fact::ApprovalRequested { .. }
            | Fact::ApprovalDecided { .. }
            | Fact::StepRejected { .. } => self.is_claimed,
            _ => false,
        };
        if !self.is_claimed {
            self.recovered.clear();
        }
    }

    fn is_run(&self, step: &StepId) -> bool {
        self.run.step(step).is_some_and(|step| step.run.is_some())
    }

    /// Whether it comes from where a fact of its kind comes from as well.
    fn is_from_elsewhere(&self, fact: &Fact, at: Timestamp) -> bool {
        let status = |step: &StepId| self.run.step(step).map(|step| &step.status);
        match fact {
            Fact::StepInterrupted { .. } | Fact::StepUnknown { .. } => self.is_claimed && self.recovered.contains(fact),
            Fact::StepSettled { by, .. } => by != BY_RECONCILE,
            // A person's no, which the fact before it tells.
            Fact::StepRejected { step, kind: Kind::PolicyRejected, .. } => self.refused.as_ref() == Some(step),
            // Somebody decided, and too late.
            Fact::ApprovalExpired { step, .. } => {
                matches!(status(step), Some(StepStatus::AwaitingApproval { expires, .. }) if at >= *expires)
            }
            // Whoever watches the process that took the run over was not there when another one asked. What cannot be called any
            // more nobody is asked about.
            Fact::ApprovalRequested { step, .. } | Fact::StepRejected { step, .. } => {
                self.is_claimed && matches!(status(step), Some(StepStatus::AwaitingApproval { .. }))
            }
            // Every run within the run waits for a person.
            Fact::RunSuspended { .. } => {
                let mut running = self.run.in_order().filter(|step| step.status.is_running()).peekable();
                running.peek().is_some() && running.all(|step| step.run.is_some())
            }
            Fact::RunEnded { end: RunEnd::Cancelled { by }, caveats } => {
                self.is_unasked(by, at) && *caveats == self.run.caveats()
            }
            _ => false,
        }
    }

    /// Whether who cancelled the run may have ended it where a tool could still be asked what became of a step: a process that
    /// has nothing but the log can ask none.
    fn is_unasked(&self, by: &str, at: Timestamp) -> bool {
        let is_by = self.run.cancelled.as_ref().is_some_and(|cancel| cancel.by == by && !cancel.undo);
        let wanted = if is_by { self.run.next(at) } else { Vec::new() };
        !wanted.is_empty() && wanted.iter().all(Command::is_about_call)
    }

    /// Whether it is what was wanted, or is now. When exactly that was decided no event tells: after the one before it.
    fn is_next(&mut self, event: &Event) -> bool {
        if self.is_in_round(&event.fact) {
            return true;
        }
        let between = self.run.wakes_at().filter(|wakes| (self.at..event.at).contains(wakes));
        [Some(event.at), Some(self.at), between].into_iter().flatten().any(|at| {
            // What begins steps may have been decided before those of the same time that are done already.
            self.round.retain(|command| matches!(command, Command::Prepare { .. } | Command::Start { .. }));
            self.round.extend(self.run.next(at));
            self.is_in_round(&event.fact)
        })
    }

    fn is_in_round(&mut self, fact: &Fact) -> bool {
        let wanted = self.round.iter().find(|command| brings(command, fact, &self.run)).cloned();
        self.round.retain(|command| Some(command) != wanted.as_ref());
        wanted.is_some()
    }
}

/// Whether a command of the run may bring the fact about.
fn brings(command: &Command, fact: &Fact, run: &Run) -> bool {
    match (command, fact) {
        (Command::Plan { turn }, Fact::PlanRequested { turn: asked, .. })
        | (Command::Verify { turn }, Fact::Verified { turn: asked, .. }) => turn == asked,
        (
            Command::Prepare { step },
            Fact::StepReady { step: of, .. }
            | Fact::StepExpanded { step: of, .. }
            | Fact::StepRejected { step: of, .. }
            | Fact::StepSkipped { step: of, why: SkipReason::Condition },
        )
        | (Command::Gather { step }, Fact::StepGathered { step: of, .. })
        | (Command::Reconcile { step }, Fact::ReconcileBegun { of, .. })
        | (Command::Leave { step }, Fact::StepUnknown { step: of, .. })
        | (
            Command::Start { step, .. },
            Fact::StepCached { step: of, .. }
            | Fact::ApprovalRequested { step: of, .. }
            | Fact::StepRejected { step: of, .. },
        ) => step == of,
        (Command::Start { step, reserve }, Fact::StepStarted { step: of, reserved, .. }) => {
            step == of && reserve == reserved
        }
        (Command::Settle { step, .. }, Fact::StepSettled { step: of, by, .. }) => step == of && by == BY_RECONCILE,
        (Command::Skip { step, why }, Fact::StepSkipped { step: of, why: told }) => step == of && why == told,
        (Command::Expire { step, binding }, Fact::ApprovalExpired { step: of, binding: about, .. }) => {
            step == of && binding == about
        }
        (Command::Undo { why, steps }, Fact::UndoBegun { why: told, steps: planned, .. }) => {
            why == told
                && steps.iter().eq(planned.iter().filter_map(|step| step.role.undoes()))
                && steps.len() == planned.len()
        }
        (Command::TakeBack { .. }, Fact::UndoBegun { why: UndoReason::Outer, .. }) => true,
        (Command::Suspend { why }, Fact::RunSuspended { why: told }) => why == told,
        // The answer that a plan declares may lead nowhere.
        (Command::Answer { .. }, Fact::RunEnded { end: RunEnd::Failed { .. }, caveats }) => *caveats == run.caveats(),
        (Command::End { ending, caveats }, Fact::RunEnded { end, caveats: told }) => {
            ends(ending, end) && caveats == told
        }
        _ => false,
    }
}

/// Whether a run that is to end like this ends like that. Failures of the run itself are made where it ends.
fn ends(ending: &Ending, end: &RunEnd) -> bool {
    match (ending, end) {
        (Ending::Succeeded { answer }, RunEnd::Succeeded { answer: told }) => answer == told,
        (
            Ending::StepFailed { kind, failure, .. }
            | Ending::PlannerFailed { kind, failure }
            | Ending::NotVerified { kind, failure },
            RunEnd::Failed { kind: told, failure: of },
        ) => (kind, failure) == (told, of),
        (Ending::PlansRefused { .. }, RunEnd::Failed { .. }) => true,
        (Ending::Loop { .. }, RunEnd::Failed { kind, .. }) => *kind == Kind::ModelLoop,
        (Ending::Stalled, RunEnd::Failed { kind, .. }) => *kind == Kind::HostBug,
        (Ending::Budget { .. }, RunEnd::BudgetExhausted { .. }) => true,
        (Ending::Unaffordable { failure }, RunEnd::BudgetExhausted { failure: told }) => failure == told,
        (Ending::Cancelled { by }, RunEnd::Cancelled { by: told }) => by == told,
        _ => false,
    }
}
