//! The run that this one takes back: what it did is read from its log, which has ended and does not change.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::{Fact, Failure, Json, Kind, Role, RunId, StepId, UndoReason};
use crate::orchestrator::check::{CheckedPlan, CheckedStep};
use crate::orchestrator::compensate::{left, to_undo};
use crate::orchestrator::driver::Drive;
use crate::orchestrator::driver::ended::kept;
use crate::orchestrator::driver::undo::Undone;
use crate::orchestrator::machine::{Run, Step, StepStatus};
use crate::store::Durability;

/// Runs in a row that were to take back one and were stopped: all are read again to know what is left.
pub const STOPPED_MAX: usize = 100;

/// A run that another one takes back.
pub(super) struct Taken {
    pub(super) run: Run,
    plans: HashMap<StepId, CheckedStep>,
}

impl Taken {
    /// Returns what the plan says of a step, or of the step whose item it is.
    pub(super) fn planned(&self, step: &StepId) -> Option<&CheckedStep> {
        let of = match self.run.step(step).map(|step| &step.planned.role) {
            Some(Role::Item { of }) => of,
            _ => step,
        };
        self.plans.get(of)
    }
}

impl Drive {
    /// Plans the calls that take back what the other run did.
    pub(super) async fn take_back(&mut self) -> Result<(), Failure> {
        let Some(taken) = self.taken().await? else { return Ok(()) };
        let before = self.taken_before().await?;
        let is_open = |step: &StepId| !before.contains(step);
        let steps: Vec<_> = to_undo(&taken.run).into_iter().filter(is_open).collect();
        let undone = steps.iter().filter_map(|step| taken.run.step(step)).map(Undone::of).collect();
        let planned = self.undo_steps(undone).await?;
        let fact = Fact::UndoBegun { why: UndoReason::Outer, steps: planned, left: left(&taken.run) };
        self.record(vec![fact], Vec::new(), Durability::Synced).await
    }

    /// Returns the run that this one takes back, where it takes one back.
    pub(super) async fn taken(&mut self) -> Result<Option<Arc<Taken>>, Failure> {
        let Some(of) = self.run.takes_back().map(|taken| taken.run.clone()) else { return Ok(None) };
        if self.taken.is_none() {
            self.taken = Some(Arc::new(self.read_taken(&of).await?));
        }
        Ok(self.taken.clone())
    }

    async fn read_taken(&self, of: &RunId) -> Result<Taken, Failure> {
        let run = self.read_run(of).await?;
        if !run.is_ended() {
            return Err(Failure::new(Kind::HostBug, format!("take back run `{of}`: it has not ended")));
        }
        let mut plans = HashMap::new();
        for (_, digest) in &run.plans {
            let plan: CheckedPlan = self.stored_in(of, digest).await?;
            plans.extend(plan.steps.into_iter().map(|step| (step.planned.id.clone(), step)));
        }
        Ok(Taken { run, plans })
    }

    /// What runs took back that were to do what this one does, and were stopped.
    async fn taken_before(&self) -> Result<Vec<StepId>, Failure> {
        let is_done = |step: &&Step| matches!(step.status, StepStatus::Succeeded { .. });
        let before = self.stopped_before().await?;
        let done = before.iter().flat_map(|run| run.in_order().filter(is_done));
        Ok(done.filter_map(|step| step.planned.role.undoes().cloned()).collect())
    }

    /// Returns the run that was to carry out this step of taking back, and was stopped: of this run, or of the last one
    /// before it.
    pub(super) async fn stopped_run_of(&self, step: &StepId) -> Result<Option<RunId>, Failure> {
        if let Some(before) = self.run.step(step).and_then(|step| step.run_before.clone()) {
            return Ok(Some(before));
        }
        let before = self.stopped_before().await?;
        Ok(before.iter().find_map(|run| run.step(step).and_then(|step| step.run.clone())))
    }

    /// The runs that were to do what this one does, and were stopped, the last first.
    async fn stopped_before(&self) -> Result<Vec<Run>, Failure> {
        let mut stopped = Vec::new();
        let mut after = self.run.takes_back().and_then(|taken| taken.after.clone());
        while let Some(before) = after {
            let Some(run) = self.begun(&before).await? else { break };
            if stopped.len() >= STOPPED_MAX {
                let message = format!("take back a run: {STOPPED_MAX} runs that were to do it were stopped");
                return Err(Failure::new(Kind::DataConflict, message).hint("say of its steps what became of them"));
            }
            after = run.takes_back().and_then(|taken| taken.after.clone());
            stopped.push(run);
        }
        Ok(stopped)
    }

    async fn read_run(&self, run: &RunId) -> Result<Run, Failure> {
        let missing = || Failure::new(Kind::DataNotFound, format!("find run `{run}`"));
        self.begun(run).await?.ok_or_else(missing)
    }

    /// Reads a payload of another run.
    pub(super) async fn stored_in<T: for<'de> serde::Deserialize<'de>>(
        &self,
        run: &RunId,
        digest: &crate::domain::Digest,
    ) -> Result<T, Failure> {
        kept(&self.driver.parts, run, digest).await
    }

    /// Returns the step that is taken back or asked about: where it is, its arguments, its key and its output.
    pub(super) async fn undone(&mut self, of: &StepId) -> Result<Undone, Failure> {
        let taken = self.taken().await?;
        let step = taken.as_ref().map_or_else(|| self.run.step(of), |taken| taken.run.step(of));
        step.map(Undone::of).ok_or_else(|| Failure::new(Kind::HostBug, format!("find `{of}`, which is taken back")))
    }

    /// Reads a value of the run in which the step is that is taken back.
    pub(super) async fn undone_value(&mut self, digest: &crate::domain::Digest) -> Result<Arc<Json>, Failure> {
        match self.taken().await? {
            Some(taken) => self.stored_in(&taken.run.id, digest).await.map(Arc::new),
            None => self.value(digest).await,
        }
    }
}
