//! Computes again what a run decided: from the plan, and from what its steps had brought by then.
//!
//! Promises: arguments, keys, conditions, lists and what came of them, answers, settlements, approvals and what is taken back are
//! each held against what the log says of them; so are requests to models, their routes and what they took. What hangs on a policy that is not kept is told so. Leaves to others: whether it was time to
//! decide that (`orchestrator`'s machine), and what calls bring.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::json;

use crate::domain::{
    BY_RECONCILE, Decision, Digest, Direction, Event, Fact, Failure, Json, Kind, Role, RunId, SkipReason, StepId,
    TakesBack, idempotency_key,
};
use crate::host::Host;
use crate::host::replay::tree::differs;
use crate::host::replay::{Verdict, base, is_run, untold};
use crate::orchestrator::{CheckedPlan, CheckedRun, CheckedStep, Goal, Run, StepStatus};
use crate::store::Payload;

mod approved;
mod asked;
mod brought;
mod prepared;
mod undone;

use asked::Request;
use prepared::Prepared;
use undone::Taken;

/// A decision that was made again: which, and whether it is as it was.
pub(super) type Told = (String, Verdict);

/// The decisions of one run.
pub(super) struct Decided<'a> {
    host: &'a Host,
    id: RunId,
    goal: Goal,
    plans: HashMap<StepId, CheckedStep>,
    /// What each plan answers with, and the conditions that decide about success.
    ends: BTreeMap<u32, (Option<Json>, Vec<String>)>,
    /// The policy in force.
    policy: Digest,
    /// The list that was looked at last: its items follow each other.
    list: Option<(Digest, Arc<Json>)>,
    /// The run that this one is there to take back, or why nothing tells what that did.
    taken: Option<Result<Taken, String>>,
    /// The last request to a model.
    request: Option<Request>,
}

impl<'a> Decided<'a> {
    pub(super) fn new(host: &'a Host, id: RunId, goal: Goal, policy: Digest) -> Self {
        let (plans, ends) = (HashMap::new(), BTreeMap::new());
        Self { host, id, goal, plans, ends, policy, list: None, taken: None, request: None }
    }

    /// Says which run this one is there to take back.
    ///
    /// # Errors
    /// `host.storage`.
    pub(super) async fn taking_back(mut self, takes_back: Option<&TakesBack>) -> Result<Self, Failure> {
        if let Some(takes_back) = takes_back {
            self.taken = Some(Taken::read(self.host, takes_back).await?);
        }
        Ok(self)
    }

    /// Makes a decision again, of a run as it was before; `None` where the fact tells of none, or of one with nothing to compute.
    ///
    /// # Errors
    /// `host.storage`; `data.not_found` where its user was erased.
    pub(super) async fn again(&mut self, run: &Run, event: &Event) -> Result<Option<Told>, Failure> {
        match &event.fact {
            Fact::RunClaimed { policy, .. } => {
                self.policy = *policy;
                Ok(None)
            }
            Fact::PlanAccepted { turn, plan, .. } => {
                self.learn(*turn, plan).await?;
                self.planning(run, event).await
            }
            Fact::PlanRequested { .. }
            | Fact::PlanReplied { .. }
            | Fact::PlanFailed { .. }
            | Fact::PlanRejected { .. } => self.planning(run, event).await,
            Fact::StepReady { step, args, key, duplicate_of } => {
                let told = self.ready(run, step, (args, key)).await?;
                match told {
                    Some((_, Verdict::Differs { .. })) => Ok(told),
                    _ => Ok(self.repeated(run, step, (args, duplicate_of.as_ref())).or(told)),
                }
            }
            Fact::StepExpanded { step, items, list } => self.expanded(run, step, (*items, list)).await,
            Fact::StepSkipped { step, why: SkipReason::Condition } => self.skipped(run, step).await,
            Fact::StepRejected { step, kind, failure } => self.rejected(run, step, (*kind, failure)).await,
            Fact::StepGathered { step, end } => self.gathered(run, step, end).await,
            Fact::StepCached { step, output, from, age_ms } => self.cached(run, step, (output, from, *age_ms)).await,
            Fact::ApprovalRequested { step, binding, .. } => self.asked(run, step, *binding).await,
            Fact::ApprovalDecided { step, decision: Decision::Modify { args, key, binding }, .. } => {
                self.modified(run, step, (args, key, binding)).await
            }
            Fact::Verified { turn, failure } => self.verified(run, *turn, *failure).await,
            Fact::Answered { turn, answer, .. } if !run.planning.is_asked => self.answered(run, *turn, answer).await,
            Fact::StepSettled { step, settlement, by } if by == BY_RECONCILE => {
                self.settled(run, step, settlement).await
            }
            Fact::UndoBegun { steps, left, .. } => Ok(self.undo_begun(run, (steps, left))),
            Fact::ReconcileBegun { step, .. } => Ok(self.own_call(run, (step, None))),
            _ => Ok(None),
        }
    }

    /// Returns the run that is to carry out a step of a plan, or one of its items.
    pub(super) fn sub_run(&self, step: &StepId) -> Option<&CheckedRun> {
        self.plans.get(&base(step)?)?.run.as_ref()
    }

    async fn learn(&mut self, turn: u32, plan: &Digest) -> Result<(), Failure> {
        let plan: CheckedPlan = self.kept(plan).await?;
        self.plans.extend(plan.steps.into_iter().map(|step| (step.planned.id.clone(), step)));
        self.ends.insert(turn, (plan.answer, plan.assert));
        Ok(())
    }

    async fn kept<T: for<'de> serde::Deserialize<'de>>(&self, digest: &Digest) -> Result<T, Failure> {
        self.host.kept(&self.id, digest).await
    }

    /// What is to be done for a step, as its plan says, or as the step that it takes back or asks about says.
    fn checked(&self, run: &Run, id: &StepId) -> Option<CheckedStep> {
        let planned = run.step(id)?.planned.clone();
        match planned.role.clone() {
            Role::Do => self.plans.get(id).cloned(),
            Role::Item { of } => Some(CheckedStep { planned, for_each: None, ..self.plans.get(&of)?.clone() }),
            // What it takes back stands in a log, and not in arguments.
            Role::Undo { of } if is_run(&planned.tool) => {
                let call = self.done(run, &of)?.called_by(planned, |_| None);
                Some(CheckedStep { args: json!({}), ..call })
            }
            Role::Undo { of } => {
                let done = self.done(run, &of).filter(|done| done.undo.is_some())?;
                Some(done.called_by(planned, |step| step.undo.as_ref()))
            }
            Role::Reconcile { of } => {
                let done = self.done(run, &of).filter(|done| done.reconcile.is_some())?;
                Some(done.called_by(planned, |step| step.reconcile.as_ref()))
            }
        }
    }

    /// What the plan says of a step of its own, or of one of its items.
    fn done(&self, run: &Run, id: &StepId) -> Option<&CheckedStep> {
        if let Some(taken) = &self.taken {
            return taken.as_ref().ok()?.planned(id);
        }
        match run.step(id).map(|step| &step.planned.role) {
            Some(Role::Item { of }) => self.plans.get(of),
            _ => self.plans.get(id),
        }
    }

    async fn ready(
        &mut self,
        run: &Run,
        id: &StepId,
        (args, key): (&Digest, &Digest),
    ) -> Result<Option<Told>, Failure> {
        let Some(checked) = self.checked(run, id) else { return Ok(None) };
        let prepared = self.prepared(run, &checked).await?;
        let name = format!("{id} (its arguments)");
        let Prepared::Args(now) = prepared else {
            return Ok(Some((name, differs("whether it is done", &self.kept(args).await?, &prepared.shown()))));
        };
        if Payload::of(&now)?.digest() != *args {
            return Ok(Some((name, differs("its arguments", &self.kept(args).await?, &now))));
        }
        let (of, direction) = match &checked.planned.role {
            Role::Undo { of } => (of, Direction::Undo),
            _ => (id, Direction::Do),
        };
        let again = idempotency_key(self.undone_in(), of, direction, &checked.planned.tool, &now);
        if again != *key {
            return Ok(Some((name, differs("its key", &json!(key), &json!(again)))));
        }
        // Of arguments that stand in the plan there is nothing to tell.
        let is_plain = now == checked.args && checked.when.is_none();
        Ok((!is_plain).then_some((name, Verdict::Same)))
    }

    /// Whether another step asks for the very same write: told only where that is not as it was.
    fn repeated(&self, run: &Run, id: &StepId, (args, then): (&Digest, Option<&StepId>)) -> Option<Told> {
        let now = run.same_write(id, *args);
        let part = format!("{id} (its arguments)");
        (now.as_ref() != then).then(|| (part, differs("which step asks for the same", &json!(then), &json!(now))))
    }

    async fn expanded(
        &mut self,
        run: &Run,
        id: &StepId,
        (items, list): (u32, &Digest),
    ) -> Result<Option<Told>, Failure> {
        let Some(checked) = self.checked(run, id) else { return Ok(None) };
        let prepared = self.prepared(run, &checked).await?;
        let name = format!("{id} (its items)");
        let is_same = match &prepared {
            Prepared::List(now) => {
                now.as_array().map(Vec::len) == usize::try_from(items).ok() && Payload::of(now)?.digest() == *list
            }
            _ => false,
        };
        if is_same {
            return Ok(Some((name, Verdict::Same)));
        }
        Ok(Some((name, differs("its list", &self.kept(list).await?, &prepared.shown()))))
    }

    async fn skipped(&mut self, run: &Run, id: &StepId) -> Result<Option<Told>, Failure> {
        let Some(checked) = self.checked(run, id) else { return Ok(None) };
        let name = format!("{id} (its condition)");
        Ok(Some(match self.prepared(run, &checked).await? {
            Prepared::Skipped => (name, Verdict::Same),
            other => (name, differs("whether it is done", &Prepared::Skipped.shown(), &other.shown())),
        }))
    }

    /// A step that was rejected when it was prepared. What policy says later is not kept.
    async fn rejected(
        &mut self,
        run: &Run,
        id: &StepId,
        (kind, failure): (Kind, &Digest),
    ) -> Result<Option<Told>, Failure> {
        let is_proposed = run.step(id).is_some_and(|step| step.status == StepStatus::Proposed);
        let Some(checked) = self.checked(run, id).filter(|_| is_proposed) else { return Ok(None) };
        let prepared = self.prepared(run, &checked).await?;
        let name = format!("{id} (why it is rejected)");
        let now = match prepared {
            Prepared::Args(args) => match self.host.0.parts.catalog.tool(&checked.planned.tool) {
                Some(tool) if checked.run.is_none() && run.toolset == self.host.0.parts.catalog.digest() => {
                    match tool.check_input(&args) {
                        Err(failure) => Prepared::Rejected(failure.kind, failure.message),
                        Ok(()) => Prepared::Args(args),
                    }
                }
                _ => return Ok(Some((name, untold("its tool is not what it was, which may have refused it")))),
            },
            Prepared::List(list) => self.listed(run, checked.for_each.as_ref(), list),
            other => other,
        };
        if matches!(now, Prepared::Rejected(again, _) if again == kind) {
            return Ok(Some((name, Verdict::Same)));
        }
        let then: Failure = self.kept(failure).await?;
        Ok(Some((name, differs("whether it is done", &Json::from(then.to_string()), &now.shown()))))
    }
}
