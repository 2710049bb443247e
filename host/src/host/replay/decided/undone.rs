//! What is taken back, and by which calls: of the run itself, or of another one that this one is there to take back.
//!
//! Promises: which steps are taken back, in which order, by which tool, and what is left follow from the log of the run whose steps
//! they are. How far a call may reach hangs on a policy, and is told while that is kept.

use std::collections::HashMap;

use serde_json::json;

use crate::domain::{CallTemplate, Cost, Effect, Failure, Kind, PlannedStep, Role, RunId, StepId, TakesBack, ToolName};
use crate::host::Host;
use crate::host::replay::decided::{Decided, Told};
use crate::host::replay::tree::differs;
use crate::host::replay::{Verdict, is_run, untold};
use crate::orchestrator::{
    CheckedPlan, CheckedStep, RUN_TOOL, Run, STOPPED_MAX, Step, StepStatus, is_undone_by_run, left, to_undo,
};
use crate::policy;

/// The run that is taken back by the one that is played back.
pub(super) struct Taken {
    run: Run,
    plans: HashMap<StepId, CheckedStep>,
    /// What runs took back that were to do the same before, and were stopped.
    before: Vec<StepId>,
}

impl Taken {
    /// Reads the run from its log: `Ok(Err)` where it cannot be told what it did.
    ///
    /// # Errors
    /// `host.storage`.
    pub(super) async fn read(host: &Host, takes_back: &TakesBack) -> Result<Result<Self, String>, Failure> {
        let of = &takes_back.run;
        let Some(run) = folded(host, of).await?.filter(Run::is_ended) else {
            return Ok(Err(format!("run {of}, which is taken back, is not kept, or has not come to its end")));
        };
        let mut plans = HashMap::new();
        for (_, digest) in &run.plans {
            let plan: CheckedPlan = match host.kept(of, digest).await {
                Err(failure) if failure.kind == Kind::DataNotFound => {
                    return Ok(Err(format!("the plans of run {of}, which is taken back, are not kept")));
                }
                plan => plan?,
            };
            plans.extend(plan.steps.into_iter().map(|step| (step.planned.id.clone(), step)));
        }
        let before = taken_before(host, takes_back).await?;
        Ok(Ok(Self { run, plans, before }))
    }

    /// Returns what the plan says of a step, or of the step whose item it is.
    pub(super) fn planned(&self, step: &StepId) -> Option<&CheckedStep> {
        let of = match self.run.step(step).map(|step| &step.planned.role) {
            Some(Role::Item { of }) => of,
            _ => step,
        };
        self.plans.get(of)
    }

    /// Returns the steps that are still to be taken back, the last first.
    fn to_undo(&self) -> Vec<StepId> {
        to_undo(&self.run).into_iter().filter(|step| !self.before.contains(step)).collect()
    }
}

async fn taken_before(host: &Host, takes_back: &TakesBack) -> Result<Vec<StepId>, Failure> {
    let mut undone = Vec::new();
    let mut after = takes_back.after.clone();
    for _ in 0..STOPPED_MAX {
        let Some(before) = after else { break };
        let Some(run) = folded(host, &before).await? else { break };
        let is_done = |step: &&Step| matches!(step.status, StepStatus::Succeeded { .. });
        undone.extend(run.in_order().filter(is_done).filter_map(|step| step.planned.role.undoes().cloned()));
        after = run.takes_back().and_then(|taken| taken.after.clone());
    }
    Ok(undone)
}

/// Returns a run as its log tells; `None` where there is none, or what there is tells of none.
async fn folded(host: &Host, run: &RunId) -> Result<Option<Run>, Failure> {
    match host.events(run).await {
        Ok(events) => Ok(Run::of(&events).ok()),
        Err(failure) if failure.kind == Kind::DataNotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

impl Decided<'_> {
    /// Which steps are taken back, and by which calls. Of a run that takes back its own steps it is known which: that is told
    /// only where something is not as it was.
    pub(super) fn undo_begun(&self, run: &Run, (steps, then): (&[PlannedStep], &[StepId])) -> Option<Told> {
        let name = || "what is taken back".to_owned();
        let taken = match &self.taken {
            Some(Ok(taken)) => Some(taken),
            Some(Err(why)) => return Some((name(), untold(why))),
            None => None,
        };
        let undone: Vec<_> = steps.iter().filter_map(|step| step.role.undoes().cloned()).collect();
        let now = taken.map_or_else(|| undone.clone(), Taken::to_undo);
        if undone != now {
            return Some((name(), differs("which steps", &json!(undone), &json!(now))));
        }
        let now = taken.map(|taken| left(&taken.run)).unwrap_or_default();
        if then != now {
            return Some((name(), differs("what is left", &json!(then), &json!(now))));
        }
        let mut before = None;
        for step in steps {
            if let Some(told) = self.own_call(run, (step, before)) {
                return Some(told);
            }
            before = Some(&step.id);
        }
        let is_by_tool = steps.iter().any(|step| !is_run(&step.tool));
        taken.map(|_| match self.asking(run) {
            Err(verdict) if is_by_tool => (name(), verdict),
            _ => (name(), Verdict::Same),
        })
    }

    /// The call that is made of another step to take it back, or to ask what became of it: told where it is another one than its
    /// step's plan says.
    pub(super) fn own_call(&self, run: &Run, (then, before): (&PlannedStep, Option<&StepId>)) -> Option<Told> {
        let after = before.cloned().into_iter().collect();
        let now = match &then.role {
            Role::Undo { of } => {
                let undone = self.undone(run, of)?;
                match is_undone_by_run(undone) {
                    true => by_run(then, undone),
                    false => self.by_tool(run, then, (of.undo(), self.done(run, of)?.undo.as_ref()?)),
                }
            }
            Role::Reconcile { of } => {
                let times = run.step(of)?.reconciles + 1;
                let call = self.by_tool(run, then, (of.reconcile(times), self.done(run, of)?.reconcile.as_ref()?));
                PlannedStep { effect: call.effect.min(Effect::Read), ..call }
            }
            Role::Do | Role::Item { .. } => return None,
        };
        let now = PlannedStep { after, ..now };
        (*then != now).then(|| (then.id.to_string(), differs("which call it is", &json!(then), &json!(now))))
    }

    /// The step that is taken back, or asked about.
    pub(super) fn undone<'b>(&'b self, run: &'b Run, of: &StepId) -> Option<&'b Step> {
        match &self.taken {
            Some(taken) => taken.as_ref().ok()?.run.step(of),
            None => run.step(of),
        }
    }

    /// The run whose steps are taken back: what takes back has one key for what it takes back, whichever run makes the call.
    pub(super) fn undone_in(&self) -> &RunId {
        match &self.taken {
            Some(Ok(taken)) => &taken.run.id,
            _ => &self.id,
        }
    }

    /// How far the call reaches policy says: where that is not kept, it is what it was. What it touches are places of the
    /// machine of then.
    fn by_tool(&self, run: &Run, then: &PlannedStep, (id, template): (StepId, &CallTemplate)) -> PlannedStep {
        let name = template.tool.parse::<ToolName>().unwrap_or_else(|_| then.tool.clone());
        let (effect, cost) = match self.asking(run) {
            Ok(_) => self.reaches(&name),
            Err(_) => (then.effect, then.cost),
        };
        let call = PlannedStep::call(id, name, Vec::new(), effect);
        PlannedStep { role: then.role.clone(), cost, touches: then.touches.clone(), ..call }
    }

    fn reaches(&self, name: &ToolName) -> (Effect, Cost) {
        let parts = &self.host.0.parts;
        let tool = parts.catalog.tool(name).filter(|_| parts.catalog.why_withheld(name).is_none());
        let about = tool.and_then(|tool| policy::about(&parts.policy, tool).ok());
        let unknown = (Effect::Once, Cost { calls: 1, ..Cost::default() });
        about.map_or(unknown, |about| (about.effect, about.cost))
    }
}

/// The run that takes back what another one did.
fn by_run(then: &PlannedStep, undone: &Step) -> PlannedStep {
    let name = ToolName::new(RUN_TOOL.0, RUN_TOOL.1).unwrap_or_else(|_| then.tool.clone());
    let call = PlannedStep::call(undone.id().undo(), name, Vec::new(), Effect::Once);
    let touches = undone.planned.touches.clone();
    PlannedStep { role: then.role.clone(), touches, cost: Cost::default(), ..call }
}
