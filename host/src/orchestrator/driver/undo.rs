//! Has tools take back what was done, or tell what became of it.

use crate::domain::{
    BY_RECONCILE, CallTemplate, Cost, Digest, Effect, Fact, Failure, Json, Kind, PlannedStep, Role, RunId, Settlement,
    StepId, ToolName, UndoReason,
};
use crate::orchestrator::check::RUN_TOOL;
use crate::orchestrator::compensate::is_undone_by_run;
use crate::orchestrator::driver::Drive;
use crate::orchestrator::machine::Step;
use crate::policy;
use crate::store::{Durability, Payload};

/// What a tool that was asked tells.
enum Told {
    Done(Json),
    NotDone,
    Unknown,
}

/// A step that is taken back or asked about, as the run tells that it belongs to.
pub(super) struct Undone {
    pub(super) id: StepId,
    /// Its arguments and its key.
    pub(super) ready: Option<(Digest, Digest)>,
    pub(super) output: Option<Digest>,
    /// The run that carried it out.
    pub(super) run: Option<RunId>,
    is_by_run: bool,
    touches: Vec<String>,
}

impl Undone {
    pub(super) fn of(step: &Step) -> Self {
        Self {
            id: step.id().clone(),
            ready: step.ready,
            output: step.output,
            run: step.run.clone(),
            is_by_run: is_undone_by_run(step),
            touches: step.planned.touches.clone(),
        }
    }
}

impl Drive {
    /// Plans one call for each step that is to be taken back, each behind the one before.
    pub(super) async fn begin_undo(&mut self, why: UndoReason, steps: Vec<StepId>) -> Result<(), Failure> {
        // Whoever cancelled had the calls stopped that ran; what takes them back is to run to its end.
        self.stop.send_replace(false);
        let undone = steps.iter().filter_map(|step| self.run.step(step)).map(Undone::of).collect();
        let steps = self.undo_steps(undone).await?;
        let fact = Fact::UndoBegun { why, steps, left: Vec::new() };
        self.record(vec![fact], Vec::new(), Durability::Synced).await?;
        // What was stopped has ended: what takes back is not to be.
        self.stop.send_replace(false);
        self.children.go_on();
        Ok(())
    }

    /// Plans one call for each step, each behind the one before.
    pub(super) async fn undo_steps(&mut self, undone: Vec<Undone>) -> Result<Vec<PlannedStep>, Failure> {
        let mut planned: Vec<PlannedStep> = Vec::with_capacity(undone.len());
        for undone in undone {
            let after = planned.last().map(|before| before.id.clone()).into_iter().collect();
            let (id, role) = (undone.id.undo(), Role::Undo { of: undone.id.clone() });
            let step = if undone.is_by_run {
                own_run(id, role, undone.touches)?
            } else {
                let template = self.done_step(&undone.id).await?.undo;
                self.own_call(id, role, template.as_ref())?
            };
            planned.push(PlannedStep { after, ..step });
        }
        Ok(planned)
    }

    /// Plans the call that asks what became of a step.
    pub(super) async fn reconcile(&mut self, of: StepId) -> Result<(), Failure> {
        let template = self.done_step(&of).await?.reconcile;
        let times = self.run.step(&of).map_or(1, |step| step.reconciles + 1);
        let step = self.own_call(of.reconcile(times), Role::Reconcile { of: of.clone() }, template.as_ref())?;
        // One that could change something may not ask: it is refused when it is prepared.
        let step = PlannedStep { effect: step.effect.min(Effect::Read), ..step };
        self.record(vec![Fact::ReconcileBegun { of, step }], Vec::new(), Durability::Synced).await
    }

    fn own_call(&self, id: StepId, role: Role, template: Option<&CallTemplate>) -> Result<PlannedStep, Failure> {
        let missing = || Failure::new(Kind::HostBug, format!("plan `{id}`: no call is known for it"));
        let name = template.map(|template| template.tool.as_str()).ok_or_else(missing)?;
        let name: ToolName = name.parse().map_err(|e| missing().detail(e))?;
        let about = self.tool(&name).and_then(|tool| policy::about(&self.driver.parts.policy, &tool));
        // One that is not there or not allowed is told so when it is prepared: until then it is as bad as it can be.
        let (effect, cost, touches) = about.map_or_else(
            |_| (Effect::Once, Cost { calls: 1, ..Cost::default() }, Vec::new()),
            |about| (about.effect, about.cost, about.touches),
        );
        Ok(PlannedStep { role, cost, touches, ..PlannedStep::call(id, name, Vec::new(), effect) })
    }

    /// Notes what the call `by` told about a step.
    pub(super) async fn settle_by(&mut self, step: StepId, by: StepId) -> Result<(), Failure> {
        let answer = match self.brought(&by).await? {
            Some(answer) => told(&answer),
            None => Told::Unknown,
        };
        let (settlement, payloads) = match answer {
            Told::Done(output) if self.fits(&step, &output) => {
                let output = Payload::of(&output)?;
                (Settlement::Done { output: output.digest() }, vec![output])
            }
            Told::NotDone if self.may_try_again(&step) => (Settlement::Retry, Vec::new()),
            Told::NotDone => {
                let message = format!("finish `{step}`: it did not happen, and was tried as often as it may be");
                let failure = Payload::of(&Failure::new(Kind::HostInterrupted, message))?;
                (Settlement::Failed { failure: failure.digest() }, vec![failure])
            }
            Told::Done(_) | Told::Unknown => (Settlement::Unknown, Vec::new()),
        };
        let fact = Fact::StepSettled { step, settlement, by: BY_RECONCILE.into() };
        self.record(vec![fact], payloads, Durability::Synced).await
    }

    fn fits(&self, step: &StepId, output: &Json) -> bool {
        let tool = self.run.step(step).map(|step| step.planned.tool.clone());
        tool.is_some_and(|tool| self.tool(&tool).is_ok_and(|tool| tool.check_output(output).is_ok()))
    }

    fn may_try_again(&self, step: &StepId) -> bool {
        self.run.step(step).is_some_and(|step| step.attempts_counted() < step.planned.retry.attempts_max)
    }

    /// Notes that nobody knows what became of a step that was under way, as the run ends.
    pub(super) async fn leave(&mut self, step: StepId) -> Result<(), Failure> {
        let attempt = self.run.step(&step).map_or(0, |step| step.attempts);
        self.record(vec![Fact::StepUnknown { step, attempt }], Vec::new(), Durability::Synced).await
    }
}

/// Plans the run that takes back what another one did. It costs what was done, and nothing is kept for it.
fn own_run(id: StepId, role: Role, touches: Vec<String>) -> Result<PlannedStep, Failure> {
    let tool = ToolName::new(RUN_TOOL.0, RUN_TOOL.1);
    let tool = tool.map_err(|e| Failure::new(Kind::HostBug, format!("plan `{id}`")).detail(e))?;
    let call = PlannedStep::call(id, tool, Vec::new(), Effect::Once);
    Ok(PlannedStep { role, touches, cost: Cost::default(), ..call })
}

/// Reads `{"done": output}`, `"not_done"` or `"unknown"`: the cases of the tool's variant, as JSON writes them.
fn told(answer: &Json) -> Told {
    match answer {
        Json::String(case) if case == "not_done" => Told::NotDone,
        Json::Object(fields) if fields.len() == 1 => {
            fields.get("done").map_or(Told::Unknown, |output| Told::Done(output.clone()))
        }
        _ => Told::Unknown,
    }
}
