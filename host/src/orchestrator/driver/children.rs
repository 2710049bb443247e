//! Runs within the run: each has a log, an inbox and a budget of its own, taken from what this one has left.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;

use crate::domain::{
    BY_BUDGET, Budget, Cost, Fact, Failure, GENESIS, Json, Kind, Parent, Role, RunId, StepId, Suspension, TakesBack,
};
use crate::orchestrator::budget::{calls_left, of_child};
use crate::orchestrator::check::{CheckedRun, CheckedStep};
use crate::orchestrator::driver::ended::EndedRun;
use crate::orchestrator::driver::recovery::begun;
use crate::orchestrator::driver::{Done, Drive, Driver, Goal, Start};
use crate::orchestrator::machine::{Run, RunStatus};
use crate::orchestrator::told::Told;
use crate::store::{Durability, Message};

/// The runs within the run that this process drives, or left to a person.
#[derive(Default)]
pub(super) struct Children {
    states: HashMap<StepId, Child>,
    is_stopping: bool,
}

enum Child {
    Driven,
    Waits(Suspension),
}

impl Children {
    /// Runs may be stopped again.
    pub(super) fn go_on(&mut self) {
        self.is_stopping = false;
    }

    fn is_driven(&self, step: &StepId) -> bool {
        matches!(self.states.get(step), Some(Child::Driven))
    }

    /// Returns what a person must do, where every call that runs is a run within the run, and all of those wait.
    pub(super) fn all_wait(&self, run: &Run) -> Option<Suspension> {
        let mut why = None;
        for step in run.in_order().filter(|step| step.status.is_running()) {
            match self.states.get(step.id()) {
                Some(Child::Waits(suspension)) => why = Some(*suspension),
                _ => return None,
            }
        }
        why
    }
}

impl Drive {
    /// Notes that a run is about to begin, with its name: whoever takes this one over finds it.
    pub(super) async fn start_child(
        &mut self,
        step: StepId,
        checked: &CheckedStep,
        reserve: Cost,
    ) -> Result<(), Failure> {
        let is_undo = matches!(checked.planned.role, Role::Undo { .. });
        if self.run.budget.depth_max == 0 && !is_undo {
            let failure = Failure::new(Kind::PolicyBudget, format!("begin the run `{step}`: it would be too deep"))
                .hint("raise `depth_max` under [budget] in cofferdam.toml");
            return self.reject(step, failure).await;
        }
        let run = self.driver.parts.clock.run_id().map_err(|e| Failure::new(Kind::HostBug, e))?;
        let attempt = self.run.step(&step).map_or(1, |step| step.attempts + 1);
        let fact = Fact::StepStarted {
            step: step.clone(),
            attempt,
            component: GENESIS,
            effect: checked.planned.effect,
            rules: Vec::new(),
            reserved: reserve,
            run: Some(run.clone()),
        };
        self.record(vec![fact], Vec::new(), Durability::Synced).await?;
        self.drive_child(step, run).await.map(drop)
    }

    /// Drives the run that carries out a step, from wherever it is; false where that goes on already, or it waits.
    pub(super) async fn drive_child(&mut self, step: StepId, run: RunId) -> Result<bool, Failure> {
        if self.children.states.contains_key(&step) {
            return Ok(false);
        }
        let Some(start) = self.child_of(&step, run).await? else { return Ok(false) };
        let parts = self.driver.parts.clone();
        let planner = match (parts.planner_of)(&start.goal) {
            Ok(planner) => planner,
            Err(failure) => return self.child_ended(step, Err(failure)).await.map(|()| true),
        };
        let driver = Driver {
            parts,
            planner,
            wait: self.driver.wait,
            approve: self.driver.approve.within(),
            accept_tools: self.driver.accept_tools.clone(),
            signals: self.driver.signals.clone(),
        };
        self.children.states.insert(step.clone(), Child::Driven);
        let driven = drive(driver, start);
        self.tasks.spawn(async move { Done::Child { step, ended: driven.await.map(Box::new) } });
        Ok(false)
    }

    /// Returns the run that carries out a step.
    async fn child_of(&mut self, step: &StepId, run: RunId) -> Result<Option<Start>, Failure> {
        let checked = self.checked(step).await?;
        let depth = self.run.parent.as_ref().map_or(0, |parent| parent.depth) + 1;
        let found = self.run.step(step);
        let (reserved, ready) = found.map(|step| (step.reserved, step.ready)).unwrap_or_default();
        let mut parent = Parent {
            run: self.run.id.clone(),
            step: step.clone(),
            depth,
            calls_left: found.map(|step| calls_left(&self.run, step)).unwrap_or_default(),
            takes_back: None,
        };
        let (goal, budget) = match (&checked.planned.role, &checked.run) {
            (Role::Undo { of }, None) => {
                let after = self.stopped_run_of(step).await?;
                let Some(taken) = self.undone(of).await?.run else { return Ok(None) };
                let goal = goal_of_undo(&taken);
                parent =
                    Parent { calls_left: BTreeMap::new(), takes_back: Some(TakesBack { run: taken, after }), ..parent };
                (goal, unbounded(&self.run.budget))
            }
            (_, Some(sub_run)) => {
                let Some((args, _)) = ready else {
                    return Err(Failure::new(Kind::HostBug, format!("begin the run `{step}`: it is not ready")));
                };
                (
                    goal_of(sub_run, &*self.value(&args).await?),
                    of_child(&self.run, reserved, self.wall_ms_left(), &sub_run.budget),
                )
            }
            (_, None) => return Ok(None),
        };
        Ok(Some(Start {
            run,
            goal,
            principal: self.run.principal.clone(),
            budget,
            parent: Some(parent),
            trace: Some(self.run.trace),
        }))
    }

    /// Notes how a run within the run ended, or that it waits for a person.
    pub(super) async fn child_ended(&mut self, step: StepId, ended: Result<Box<Run>, Failure>) -> Result<(), Failure> {
        let child = match ended {
            Ok(child) => *child,
            Err(failure) => return self.child_failed(step, failure).await,
        };
        if let Some(ended) = EndedRun::of(&self.driver.parts, &step, &child).await? {
            return self.end_child(step, ended).await;
        }
        let why = match child.status {
            RunStatus::Suspended(why) => why,
            _ => Suspension::Approval,
        };
        self.children.states.insert(step, Child::Waits(why));
        Ok(())
    }

    /// The run could not be driven here at all.
    async fn child_failed(&mut self, step: StepId, failure: Failure) -> Result<(), Failure> {
        let run = self.run.step(&step).and_then(|step| step.run.clone());
        let began = match &run {
            Some(run) => self.begun(run).await?,
            None => None,
        };
        match began {
            // It ended meanwhile: that is what counts.
            Some(child) if child.is_ended() => return Box::pin(self.child_ended(step, Ok(Box::new(child)))).await,
            // It may have changed something: its log tells where it is, and another process goes on with both.
            Some(_) => return Err(failure),
            None if matches!(failure.kind, Kind::HostStorage | Kind::HostOwned | Kind::HostBug) => return Err(failure),
            None => {}
        }
        let cost = self.run.step(&step).map(|step| step.reserved).unwrap_or_default();
        self.end_child(step, EndedRun::failed(&failure, Told { cost, ..Told::default() })?).await
    }

    /// Returns a run within the run as its log tells, if it was begun.
    pub(super) async fn begun(&self, run: &RunId) -> Result<Option<Run>, Failure> {
        begun(&*self.driver.parts.log, run).await
    }

    async fn end_child(&mut self, step: StepId, ended: EndedRun) -> Result<(), Failure> {
        self.children.states.remove(&step);
        let attempt = self.run.step(&step).map_or(1, |step| step.attempts);
        let (facts, stored) = ended.facts(step, attempt);
        self.record(facts, vec![stored], Durability::Synced).await
    }

    /// Stops what runs: calls at once, and runs within the run by a message to whoever drives them, once.
    pub(super) async fn stop_calls(&mut self) -> Result<bool, Failure> {
        self.stop.send_replace(true);
        if self.children.is_stopping {
            return Ok(false);
        }
        self.children.is_stopping = true;
        let (by, undo) = match &self.run.cancelled {
            Some(cancel) => (cancel.by.clone(), cancel.undo),
            None => (BY_BUDGET.to_owned(), false),
        };
        let running = self.run.in_order().filter(|step| step.status.is_running());
        let children: Vec<_> = running.filter_map(|step| Some((step.id().clone(), step.run.clone()?))).collect();
        for (step, child) in children {
            match self.driver.parts.log.send(&child, &Message::Cancel { by: by.clone(), undo }).await {
                Ok(()) => {}
                // It is not there yet: where somebody is about to make it, it is told a little later.
                Err(failure) if failure.kind == Kind::DataNotFound => self.stop_unborn(step, &by).await?,
                Err(failure) if failure.kind == Kind::HostBusy => self.children.is_stopping = false,
                Err(failure) => return Err(failure),
            }
        }
        // One that waited for a person goes on, to end.
        self.children.states.retain(|_, child| matches!(child, Child::Driven));
        let waiting: Vec<_> = self
            .run
            .in_order()
            .filter(|step| step.status.is_running() && !self.children.states.contains_key(step.id()))
            .filter_map(|step| Some((step.id().clone(), step.run.clone()?)))
            .collect();
        for (step, run) in waiting {
            self.drive_child(step, run).await?;
        }
        Ok(false)
    }

    /// Ends a step whose run was never made.
    async fn stop_unborn(&mut self, step: StepId, by: &str) -> Result<(), Failure> {
        if self.children.is_driven(&step) {
            self.children.is_stopping = false;
            return Ok(());
        }
        let ended = EndedRun::unborn(&step, by)?;
        self.end_child(step, ended).await
    }
}

/// A run that drives runs drives itself in the end: its future needs a type of its own.
type Driven = Pin<Box<dyn Future<Output = Result<Run, Failure>> + Send>>;

/// Creates the run, or takes it from whoever left it; one that has ended already is read.
fn drive(driver: Driver, start: Start) -> Driven {
    Box::pin(create_or_take(driver, start))
}

async fn create_or_take(driver: Driver, start: Start) -> Result<Run, Failure> {
    let log = driver.parts.log.clone();
    let events = match log.read(&start.run, 0).await {
        Ok(events) => events,
        Err(failure) if failure.kind == Kind::DataNotFound => return driver.start(start).await,
        Err(failure) => return Err(failure),
    };
    let run = Run::of(&events).map_err(super::parted)?;
    match run.status {
        RunStatus::Ended(_) => Ok(run),
        _ => driver.resume(&start.run).await,
    }
}

/// The largest whole number that every reader of JSON reads as it is.
const UNBOUNDED: u64 = (1 << 53) - 1;

/// What takes back is bounded by what was done, and comes one after the other.
fn unbounded(own: &Budget) -> Budget {
    Budget {
        planner_turns_max: u32::MAX,
        calls_max: u32::MAX,
        calls_per_tool_max: u32::MAX,
        parallel_max: 1,
        depth_max: u32::MAX,
        wall_ms_max: UNBOUNDED,
        fuel_max: UNBOUNDED,
        bytes_max: UNBOUNDED,
        usd_micros_max: None,
        ..own.clone()
    }
}

/// The goal of a run that takes back another one. Nobody plans it: its steps are those of the other one.
fn goal_of_undo(taken: &RunId) -> Goal {
    let text = format!("Take back what run {taken} did.");
    let workflow = serde_json::json!({ "workflow": "undo", "goal": text, "steps": [] });
    Goal { text, workflow: Some(workflow), ..Goal::default() }
}

/// Returns the goal of a run within a run: its arguments are the inputs of its workflow, or stand beside its words.
pub fn goal_of(sub_run: &CheckedRun, args: &Json) -> Goal {
    let workflow = sub_run.workflow.clone().map(|mut workflow| {
        if let (Some(fields), Some(args)) = (workflow.as_object_mut(), args.as_object())
            && !args.is_empty()
        {
            let inputs = fields.entry("inputs").or_insert_with(|| Json::Object(serde_json::Map::new()));
            if let Some(inputs) = inputs.as_object_mut() {
                inputs.extend(args.clone());
            }
        }
        workflow
    });
    let of_workflow = workflow.as_ref().and_then(|workflow| workflow["goal"].as_str()).map(str::to_owned);
    let words = sub_run.goal.clone().or(of_workflow).unwrap_or_default();
    let has_args = args.as_object().is_some_and(|args| !args.is_empty());
    let text = if workflow.is_none() && has_args { format!("{words}\n\nInputs: {args}") } else { words };
    Goal { text, workflow, is_tainted: sub_run.is_tainted, is_critical: sub_run.is_critical, ..Goal::default() }
}
