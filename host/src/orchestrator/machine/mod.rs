//! A run as the fold of its events, and what it wants done next.
//!
//! `apply` takes one event and refuses one that does not follow (`table.rs` says which may); `next` returns commands, by
//! ids only. Neither reads a clock, draws a random number or performs anything, so a test can drive a run with plain
//! values, and so can a second driver.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::domain::{
    Budget, Caveat, Cost, Digest, Effect, Epoch, Event, Fact, GENESIS, Kind, Parent, PlannedStep, Principal, Role,
    RunEnd, RunId, Seq, StepId, Suspension, TakesBack, Timestamp, ToolName, TraceId, UndoReason, Within,
};
use crate::orchestrator::{compensate, schedule};

mod command;
mod planning;
mod step;
mod table;
#[cfg(test)]
pub(in crate::orchestrator) mod tests;

pub use command::{Command, Ending};
pub use planning::Planning;
pub use step::{Stage, Step, StepStatus};
pub use table::{RunStage, STEPS, StepRow};

/// Steps of one run, items included: what a process can hold and a person can look through.
pub const STEPS_MAX: usize = 10_000;

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
    /// The step of another run that this one carries out.
    pub parent: Option<Parent>,
    /// One for the run and the runs within it, in whichever process.
    pub trace: TraceId,
    pub planning: Planning,
    pub steps: HashMap<StepId, Step>,
    /// Ids in the order of their plans, each item behind its step.
    pub order: Vec<StepId>,
    /// Steps that may have changed something, in the order in which they ended.
    pub completed: Vec<StepId>,
    /// Plans accepted so far: turn, and the payload of the checked plan.
    pub plans: Vec<(u32, Digest)>,
    /// The person's answers to the planner's questions.
    pub answers: Vec<Digest>,
    pub answer: Option<Digest>,
    /// Whether conditions decide about success, and what they said.
    pub has_assertions: bool,
    pub verified: Option<Result<(), (Kind, Digest)>>,
    pub cancelled: Option<Cancel>,
    /// Why what was done is taken back, once that has begun.
    pub undo: Option<UndoReason>,
    /// What the run that this one takes back changed, and what is known to take none of it back.
    pub left: Vec<StepId>,
    /// When the process that works on the run began, moved on by the time that a person took.
    pub since: Timestamp,
    /// Since when a person is waited for.
    pub suspended_at: Option<Timestamp>,
    /// What somebody was told the run waits for, and at which step; without one it is the run as a whole.
    /// Invariant: all of it waits still.
    pub notified: BTreeSet<(Suspension, Option<StepId>)>,
    /// What ended calls did cost, and what running ones may.
    pub spent: Cost,
    pub reserved: Cost,
    /// The bound that did not hold: models took more than was reserved for them.
    pub over: Option<&'static str>,
    /// Calls begun, by tool, those of runs within the run included.
    pub calls_of: BTreeMap<ToolName, u32>,
    /// How often the same call failed in the same way.
    pub failures_of: BTreeMap<(ToolName, Digest, Kind), u32>,
}

/// Who wants the run to stop, and whether what was done is to be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancel {
    pub by: String,
    pub undo: bool,
}

/// Where the run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunStatus {
    Planning,
    Executing,
    /// What was done is taken back.
    Undoing,
    /// A person, or a time, moves it on.
    Suspended(Suspension),
    Ended(RunEnd),
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
        let Fact::RunCreated {
            principal,
            goal,
            planner,
            policy,
            toolset,
            budget,
            is_single_plan,
            has_assertions,
            parent,
            trace,
        } = &event.fact
        else {
            return Err(IllegalTransition { seq: event.seq, what: "a run begins with its creation".into() });
        };
        let mut run = Self {
            id: event.run.clone(),
            last: (0, GENESIS),
            epoch: event.epoch,
            status: match parent.as_ref().and_then(|parent| parent.takes_back.as_ref()) {
                Some(_) => RunStatus::Undoing,
                None => RunStatus::Planning,
            },
            principal: principal.clone(),
            goal: *goal,
            planner: planner.clone(),
            policy: *policy,
            toolset: *toolset,
            budget: budget.clone(),
            is_single_plan: *is_single_plan,
            parent: parent.clone(),
            trace: TraceId::of_created(&event.run, parent.as_ref().map(|parent| &parent.run), *trace),
            planning: Planning::default(),
            steps: HashMap::new(),
            order: Vec::new(),
            completed: Vec::new(),
            plans: Vec::new(),
            answers: Vec::new(),
            answer: None,
            has_assertions: *has_assertions,
            verified: None,
            cancelled: None,
            undo: None,
            left: Vec::new(),
            since: event.at,
            suspended_at: None,
            notified: BTreeSet::new(),
            spent: Cost::default(),
            reserved: Cost::default(),
            over: None,
            calls_of: BTreeMap::new(),
            failures_of: BTreeMap::new(),
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
        self.take(event.at, std::slice::from_ref(&event.fact))
            .map_err(|error| IllegalTransition { seq: event.seq, ..error })
    }

    /// Takes facts that are about to become events, so that none that does not follow becomes part of the log. Whoever
    /// cannot append them afterwards is not to use the run any more.
    ///
    /// # Errors
    /// The first fact that does not follow.
    pub fn take(&mut self, at: Timestamp, facts: &[Fact]) -> Result<(), IllegalTransition> {
        for (seq, fact) in (self.last.0 + 1..).zip(facts) {
            let from = RunStage::of(&self.status);
            let illegal = |what: String| IllegalTransition { seq, what };
            self.change(at, fact).map_err(|what| illegal(format!("{}: {what}", fact.name())))?;
            let to = RunStage::of(&self.status);
            if !table::allows_run(from, to) {
                return Err(illegal(format!(
                    "{} does not lead a run from {} to {}",
                    fact.name(),
                    from.name(),
                    to.name()
                )));
            }
        }
        Ok(())
    }

    /// Notes that an event, whose fact was taken, is in the log.
    ///
    /// # Errors
    /// The event does not follow the last one.
    pub fn follow(&mut self, event: &Event) -> Result<(), IllegalTransition> {
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

    /// Returns what is to be done now. The same run and time give the same commands.
    pub fn next(&self, now: Timestamp) -> Vec<Command> {
        schedule::next(self, now)
    }

    /// Returns the next time at which [`Run::next`] may return something else though nothing has happened.
    pub fn wakes_at(&self) -> Option<Timestamp> {
        schedule::wakes_at(self)
    }

    /// Returns the step called `id`.
    pub fn step(&self, id: &StepId) -> Option<&Step> {
        self.steps.get(id)
    }

    /// Returns the steps in the order of their plans.
    pub fn in_order(&self) -> impl Iterator<Item = &Step> {
        self.order.iter().filter_map(|id| self.steps.get(id))
    }

    /// Returns the items of a step, in order.
    pub fn items<'a>(&'a self, of: &'a StepId) -> impl Iterator<Item = &'a Step> {
        let items = self.step(of).and_then(|step| step.expanded).map_or(0, |(items, _)| items);
        (0..items).filter_map(|n| self.steps.get(&of.item(n)))
    }

    /// Returns the step whose output counts as that of `id`: itself, or the one that took its place.
    pub fn stand_in<'a>(&'a self, id: &'a StepId) -> Option<&'a Step> {
        let mut step = self.step(id)?;
        // A circle cannot be: a plan with one is refused. Bounded all the same.
        for _ in 0..self.order.len() {
            let Some(next) = step.fallback().filter(|_| step.status.is_failed()) else { break };
            step = self.step(&next)?;
        }
        Some(step)
    }

    /// Returns the tools of the steps that succeeded, to which later plans may refer.
    pub fn succeeded(&self) -> BTreeMap<StepId, ToolName> {
        let is_done =
            |step: &&Step| matches!(step.status, StepStatus::Succeeded { .. }) && matches!(step.planned.role, Role::Do);
        self.in_order().filter(is_done).map(|step| (step.planned.id.clone(), step.planned.tool.clone())).collect()
    }

    /// Returns the earliest other step that asks for the very same call, where that changes something. What takes back or
    /// looks up repeats itself by nature.
    pub fn same_write(&self, step: &StepId, args: Digest) -> Option<StepId> {
        let of = &self.step(step)?.planned;
        let is_same = |other: &&Step| {
            let planned = &other.planned;
            planned.tool == of.tool && planned.id != of.id && other.ready.is_some_and(|(ready, _)| ready == args)
        };
        let is_done = |role: &Role| matches!(role, Role::Do | Role::Item { .. });
        let is_write = of.effect.is_write() && is_done(&of.role);
        let found = self.in_order().filter(|_| is_write).filter(|other| is_done(&other.planned.role)).find(is_same);
        found.map(|other| other.id().clone())
    }

    /// Returns whether the run is over.
    pub fn is_ended(&self) -> bool {
        matches!(self.status, RunStatus::Ended(_))
    }

    /// Returns whether a step of the run failed that the run needs: nothing that changes anything is to start any more.
    pub fn is_lost(&self) -> bool {
        self.undo.is_none() && schedule::lost(self).is_some()
    }

    /// Returns the run that this one is there to take back.
    pub fn takes_back(&self) -> Option<&TakesBack> {
        self.parent.as_ref()?.takes_back.as_ref()
    }

    /// Returns what its end alone would not tell, if the run ended now.
    pub fn caveats(&self) -> Vec<Caveat> {
        schedule::caveats(self)
    }

    /// Returns what the run leaves to the run around it.
    pub fn within(&self) -> Within {
        let (calls, has_done) = (self.calls_of.clone(), compensate::has_done(self));
        Within { calls, has_done, has_undo: !compensate::to_undo(self).is_empty() }
    }

    /// Changes nothing where it returns an error.
    fn change(&mut self, at: Timestamp, fact: &Fact) -> Result<(), &'static str> {
        if matches!(self.status, RunStatus::Ended(_)) {
            return Err("the run has ended");
        }
        match fact {
            Fact::RunClaimed { .. } => self.claimed(at),
            Fact::ToolsChanged { toolset, .. } => {
                self.toolset = *toolset;
                Ok(())
            }
            Fact::PlanRequested { .. }
            | Fact::PlanReplied { .. }
            | Fact::PlanFailed { .. }
            | Fact::PlanRejected { .. }
            | Fact::PlanAccepted { .. } => self.planned(fact),
            Fact::Answered { .. } | Fact::Asked { .. } | Fact::QuestionAnswered { .. } => self.spoken(at, fact),
            Fact::Verified { failure, .. } if self.has_assertions => {
                self.verified = Some(failure.map_or(Ok(()), Err));
                Ok(())
            }
            Fact::CancelRequested { by, undo } => {
                self.cancelled = Some(Cancel { by: by.clone(), undo: *undo });
                self.move_on(at);
                Ok(())
            }
            Fact::ReconcileBegun { of, step } => self.reconcile(of, step),
            Fact::UndoBegun { why, steps, left } => {
                self.begin_undo(at, why, steps)?;
                self.left.clone_from(left);
                Ok(())
            }
            Fact::RunSuspended { why } => self.suspended(at, *why),
            Fact::Notified { why, steps } => {
                self.notice(*why, steps);
                Ok(())
            }
            Fact::RunEnded { end, .. } => self.ended(end),
            Fact::Verified { .. }
            | Fact::RunCreated { .. }
            | Fact::SessionStarted { .. }
            | Fact::CallStarted { .. }
            | Fact::CallSettled { .. }
            | Fact::Called { .. } => Err("it does not belong in the middle of a run"),
            step => self.stepped(at, step),
        }
    }

    fn claimed(&mut self, at: Timestamp) -> Result<(), &'static str> {
        // A question stays open until it is answered, whoever has the run.
        if self.status != RunStatus::Suspended(Suspension::Question) {
            self.move_on(at);
        }
        self.since = at;
        self.suspended_at = self.suspended_at.map(|_| at);
        Ok(())
    }

    /// A person or a process moved: what was suspended may go on. Waiting for a person was not the run's time.
    fn move_on(&mut self, at: Timestamp) {
        if let Some(suspended_at) = self.suspended_at.take() {
            self.since = self.since.plus_ms(at.ms_since(suspended_at));
        }
        if let RunStatus::Suspended(_) = self.status {
            let is_planning = self.planning.is_asked || self.plans.is_empty();
            self.status = match is_planning {
                _ if self.undo.is_some() || self.takes_back().is_some() => RunStatus::Undoing,
                true => RunStatus::Planning,
                false => RunStatus::Executing,
            };
        }
    }

    /// Notes what somebody was told of, as far as it waits still.
    fn notice(&mut self, why: Suspension, steps: &[StepId]) {
        match steps {
            [] => drop(self.notified.insert((why, None))),
            steps => self.notified.extend(steps.iter().map(|step| (why, Some(step.clone())))),
        }
        self.forget_what_moved();
    }

    /// What waits no longer is a new matter when it waits again.
    fn forget_what_moved(&mut self) {
        let mut notified = std::mem::take(&mut self.notified);
        notified.retain(|(why, id)| match id {
            Some(id) => self.step(id).is_some_and(|step| schedule::is_waiting(step, *why)),
            None => true,
        });
        self.notified = notified;
    }

    fn suspended(&mut self, at: Timestamp, why: Suspension) -> Result<(), &'static str> {
        if self.steps.values().any(|step| step.status.is_running() && step.run.is_none()) {
            return Err("a call is running");
        }
        self.status = RunStatus::Suspended(why);
        self.suspended_at = Some(self.suspended_at.unwrap_or(at));
        Ok(())
    }

    fn ended(&mut self, end: &RunEnd) -> Result<(), &'static str> {
        if self.steps.values().any(|step| step.status.is_running() && step.run.is_none()) {
            return Err("a call is running");
        }
        if matches!(end, RunEnd::Succeeded { .. }) && self.has_assertions && self.verified != Some(Ok(())) {
            return Err("nobody has verified that it succeeded");
        }
        if matches!(end, RunEnd::Succeeded { .. }) && self.undo.is_some() && self.takes_back().is_none() {
            return Err("what it did was taken back");
        }
        for id in self.order.clone() {
            self.give_up(&id);
        }
        self.settle_planning();
        self.status = RunStatus::Ended(end.clone());
        Ok(())
    }

    fn accept(&mut self, turn: u32, plan: Digest, steps: &[PlannedStep]) -> Result<(), &'static str> {
        self.check_new(steps)?;
        if steps.iter().any(|planned| !matches!(planned.role, Role::Do)) {
            return Err("a plan proposes what only the host makes");
        }
        for planned in steps {
            self.order.push(planned.id.clone());
            self.steps.insert(planned.id.clone(), Step::new(planned.clone()));
        }
        self.plans.push((turn, plan));
        self.status = RunStatus::Executing;
        Ok(())
    }

    fn check_new(&self, steps: &[PlannedStep]) -> Result<(), &'static str> {
        if self.steps.len() + steps.len() > STEPS_MAX {
            return Err("there are too many steps");
        }
        self.check_ids(steps)
    }

    /// What takes back, or asks, is bounded by what was done.
    fn check_ids(&self, steps: &[PlannedStep]) -> Result<(), &'static str> {
        let is_taken = |(n, step): (usize, &PlannedStep)| {
            self.steps.contains_key(&step.id) || steps[..n].iter().any(|earlier| earlier.id == step.id)
        };
        if steps.iter().enumerate().any(is_taken) {
            return Err("a step of this id is there already");
        }
        Ok(())
    }

    fn spoken(&mut self, at: Timestamp, fact: &Fact) -> Result<(), &'static str> {
        match fact {
            Fact::Answered { answer, .. } => {
                self.settle_planning();
                self.answer = Some(*answer);
                self.planning.is_asked = false;
                self.status = RunStatus::Executing;
            }
            Fact::Asked { .. } if self.planning.is_asked => {
                self.settle_planning();
                self.planning.is_asked = false;
                return self.suspended(at, Suspension::Question);
            }
            Fact::QuestionAnswered { text, .. } if self.status == RunStatus::Suspended(Suspension::Question) => {
                self.answers.push(*text);
                self.notified.remove(&(Suspension::Question, None));
                self.move_on(at);
                self.status = RunStatus::Planning;
            }
            _ => return Err("no question is open"),
        }
        Ok(())
    }

    fn reconcile(&mut self, of: &StepId, planned: &PlannedStep) -> Result<(), &'static str> {
        self.check_ids(std::slice::from_ref(planned))?;
        let asked = self.steps.get_mut(of).ok_or("there is no such step")?;
        if asked.status != StepStatus::Unknown {
            return Err("what became of the step is known");
        }
        if planned.role != (Role::Reconcile { of: of.clone() }) || planned.effect.is_write() {
            return Err("it does not only look at what became of the step");
        }
        asked.reconciles += 1;
        asked.asked_about = asked.attempts;
        asked.is_reconciled = false;
        self.order.push(planned.id.clone());
        self.steps.insert(planned.id.clone(), Step::new(planned.clone()));
        Ok(())
    }

    fn begin_undo(&mut self, at: Timestamp, why: &UndoReason, steps: &[PlannedStep]) -> Result<(), &'static str> {
        if self.undo.is_some() {
            return Err("it is taken back already");
        }
        if self.steps.values().any(|step| step.status.is_running()) {
            return Err("a call is running");
        }
        self.check_ids(steps)?;
        for planned in steps {
            let Role::Undo { of } = &planned.role else { return Err("it takes nothing back") };
            // A run that takes back another one has none of its steps.
            if self.takes_back().is_some() {
                continue;
            }
            let of = self.step(of).ok_or("there is no such step")?;
            let is_allowed = table::allows(of.status.stage(), "undo_begun", Stage::Undoing);
            if !is_allowed || (of.status.is_failed() && !of.has_done_within()) {
                return Err("there is nothing to take back");
            }
        }
        self.move_on(at);
        for planned in steps {
            if let Role::Undo { of } = &planned.role
                && let Some(undone) = self.steps.get_mut(of)
            {
                undone.status = StepStatus::Undoing;
            }
            self.order.push(planned.id.clone());
            self.steps.insert(planned.id.clone(), Step::new(planned.clone()));
        }
        self.undo = Some(why.clone());
        self.status = RunStatus::Undoing;
        Ok(())
    }

    /// Moves one step, as the table of transitions lets it.
    fn stepped(&mut self, at: Timestamp, fact: &Fact) -> Result<(), &'static str> {
        let id = fact.step().ok_or("it names no step")?.clone();
        let step = self.steps.get(&id).ok_or("there is no such step")?;
        let (from, to) = (step.status.stage(), step.target(fact)?);
        if !table::allows(from, fact.name(), to.stage()) {
            return Err("the step is not where that can happen");
        }
        let is_settled_late = matches!(fact, Fact::StepSettled { .. }) && from != Stage::Unknown;
        if is_settled_late && !matches!(step.planned.role, Role::Undo { .. }) {
            return Err("what became of the step is known");
        }
        // Another run would do it once more, and nothing would take the first one back.
        let is_retry = matches!(fact, Fact::StepSettled { settlement: crate::domain::Settlement::Retry, .. });
        if is_retry && step.has_done_within() && step.planned.role.undoes().is_none() {
            return Err("the run that carried it out has done something that stands");
        }
        if let Fact::StepExpanded { items, .. } = fact {
            self.expand(&id, *items)?;
        }
        self.count(&id, fact);
        if let Some(step) = self.steps.get_mut(&id) {
            step.take(fact);
            step.status = to;
        }
        self.complete(&id);
        self.reflect(&id);
        self.forget(&id, fact);
        self.move_on(at);
        Ok(())
    }

    /// Makes a step of each item, behind the step that it belongs to.
    fn expand(&mut self, of: &StepId, items: u32) -> Result<(), &'static str> {
        let Some(parent) = self.steps.get(of) else { return Ok(()) };
        let item = |n: u32| PlannedStep {
            id: of.item(n),
            role: Role::Item { of: of.clone() },
            needs: Vec::new(),
            after: Vec::new(),
            items: None,
            ..parent.planned.clone()
        };
        let planned: Vec<PlannedStep> = (0..items).map(item).collect();
        self.check_new(&planned)?;
        let place = self.order.iter().position(|id| id == of).map_or(self.order.len(), |place| place + 1);
        self.order.splice(place..place, planned.iter().map(|planned| planned.id.clone()));
        self.steps.extend(planned.into_iter().map(|planned| (planned.id.clone(), Step::new(planned))));
        Ok(())
    }

    /// Reserves what a call may cost, and settles what it did. One whose process died holds what was reserved for it until
    /// it goes on: that is the same call, counted once, so that a crash costs nothing.
    fn count(&mut self, id: &StepId, fact: &Fact) {
        let Some(step) = self.steps.get(id) else { return };
        match fact {
            Fact::StepStarted { reserved, .. } => {
                let is_again = step.is_interrupted();
                self.reserved = self.reserved.minus(if is_again { step.reserved } else { Cost::default() });
                self.reserved = self.reserved.plus(*reserved);
                *self.calls_of.entry(step.planned.tool.clone()).or_default() += u32::from(!is_again);
            }
            Fact::StepEnded { cost, within, .. } => {
                let reserved = step.reserved;
                if step.run.is_some() {
                    self.note_over(*cost, reserved);
                }
                self.reserved = self.reserved.minus(reserved);
                self.spent = self.spent.plus(Cost { parallel: 0, ..*cost });
                for (tool, calls) in within.iter().flat_map(|within| &within.calls) {
                    let of_tool = self.calls_of.entry(tool.clone()).or_default();
                    *of_tool = of_tool.saturating_add(*calls);
                }
            }
            Fact::StepUnknown { .. } | Fact::StepRejected { .. } | Fact::ApprovalExpired { .. } => self.give_up(id),
            _ => {}
        }
    }

    /// Settles a call that was begun and will not be seen to end: it was one, at its price. What else it took nobody knows.
    fn give_up(&mut self, id: &StepId) {
        let Some(step) = self.steps.get_mut(id) else { return };
        if !step.status.is_running() && !step.is_interrupted() {
            return;
        }
        let reserved = std::mem::take(&mut step.reserved);
        self.reserved = self.reserved.minus(reserved);
        let (usd_micros, tokens) = match step.planned.asks_model {
            // What its models took is not known: all of it, for all that is.
            true => (reserved.usd_micros, reserved.tokens),
            false => (step.planned.cost.usd_micros.min(reserved.usd_micros), 0),
        };
        self.spent = self.spent.plus(Cost { calls: reserved.calls.min(1), usd_micros, tokens, ..Cost::default() });
    }

    /// Another call that waits for a decision is another matter, though its step is the same.
    fn forget(&mut self, id: &StepId, fact: &Fact) {
        if let Fact::ApprovalRequested { .. } = fact
            && self.steps.get(id).is_some_and(|step| step.is_asked_anew)
        {
            self.notified.remove(&(Suspension::Approval, Some(id.clone())));
        }
        self.forget_what_moved();
    }

    /// Notes what there may be to take back, and what failed as it did before.
    fn complete(&mut self, id: &StepId) {
        let Some(step) = self.steps.get(id) else { return };
        let is_own = matches!(step.planned.role, Role::Do | Role::Item { .. }) && step.expanded.is_none();
        match &step.status {
            StepStatus::Succeeded { .. } | StepStatus::Unknown if is_own && step.attempts > 0 => {
                self.completed.retain(|completed| completed != id);
                self.completed.push(id.clone());
            }
            StepStatus::Failed { .. } | StepStatus::Cancelled { .. } if is_own && step.has_done_within() => {
                self.completed.retain(|completed| completed != id);
                self.completed.push(id.clone());
            }
            _ => {}
        }
        match &step.status {
            StepStatus::Failed { kind, .. } if matches!(step.planned.role, Role::Do) => {
                let Some((args, _)) = step.ready else { return };
                let failed = (step.planned.tool.clone(), args, *kind);
                *self.failures_of.entry(failed).or_default() += 1;
            }
            _ => {}
        }
    }

    /// Tells the step that is taken back how far that is.
    fn reflect(&mut self, id: &StepId) {
        let Some(step) = self.steps.get(id) else { return };
        let Role::Undo { of } = step.planned.role.clone() else { return };
        let (by, to) = match step.status.stage() {
            Stage::Succeeded => ("undone", StepStatus::Undone),
            Stage::Failed | Stage::Rejected | Stage::Skipped | Stage::Cancelled => {
                ("undo_failed", StepStatus::UndoFailed)
            }
            _ => ("undo_retried", StepStatus::Undoing),
        };
        let has_left = step.has_caveats;
        if let Some(undone) = self.steps.get_mut(&of)
            && table::allows(undone.status.stage(), by, to.stage())
        {
            undone.status = to;
            undone.has_left = has_left;
        }
    }
}

impl Step {
    /// Returns the step that takes this one's place when it fails.
    pub fn fallback(&self) -> Option<StepId> {
        match &self.planned.on_failure {
            crate::domain::OnFailure::Fallback(step) => step.parse().ok(),
            _ => None,
        }
    }

    /// Answers whether the step, by the worst that it did so far, changes something.
    pub fn is_write(&self) -> bool {
        self.planned.effect.max(self.effect) > Effect::Read
    }
}
