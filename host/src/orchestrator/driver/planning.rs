//! Asks the planner, and makes what it says a checked plan, an answer, a question, or a refusal.

use std::collections::BTreeMap;

use crate::domain::{CHECK_VERSION, Fact, Failure, Json, Kind, StepId, ToolName};
use crate::orchestrator::budget::budget_left;
use crate::orchestrator::check::{CheckedPlan, Earlier, Known, check, check_answer};
use crate::orchestrator::context::{self, Ended, View};
use crate::orchestrator::driver::{Drive, Goal, Parts};
use crate::orchestrator::machine::StepStatus;
use crate::planner::{ContextPack, Observation, Planned, Proposal, Refused, Repair};
use crate::policy;
use crate::registry::VerifiedTool;
use crate::store::{Durability, Payload};

/// Bytes of a refused reply that the planner sees again.
const REPAIR_REPLY_BYTES_MAX: usize = 16 << 10;

impl Drive {
    pub(super) async fn pack(&mut self, turn: u32, goal: &Goal) -> Result<ContextPack, Failure> {
        let observations = self.observations().await?;
        let mut answers = Vec::new();
        for digest in self.run.answers.clone() {
            answers.push(self.stored(&digest).await?);
        }
        let repair = self.repair().await?;
        let asked = ContextPack {
            goal: goal.text.clone(),
            inputs: goal.inputs.clone(),
            turn,
            observations,
            repair,
            answers,
            left: Some(context::left(&budget_left(&self.run), self.wall_ms_left())),
            prompt: self.driver.planner.prompt(),
            ..ContextPack::default()
        };
        let parts = &self.driver.parts;
        let tools = context::offered(&parts.catalog, &parts.policy);
        Ok(context::complete(asked, tools, &context::used(&self.run), &parts.pack))
    }

    async fn observations(&mut self) -> Result<Vec<Observation>, Failure> {
        let mut observations = Vec::new();
        let hidden = context::Hidden::of(&self.driver.parts.policy);
        for step in context::finished(&self.run).cloned().collect::<Vec<_>>() {
            let (output, failure) = match step.status {
                StepStatus::Succeeded { output } => (Some(self.value(&output).await?), None),
                StepStatus::Failed { failure, .. } | StepStatus::Rejected { failure, .. } => {
                    (None, Some(self.stored::<Failure>(&failure).await?))
                }
                _ => (None, None),
            };
            let planned = self.planned_step(&step.planned.id).await?;
            let ended =
                Ended { step: &step, args: &planned.args, output: output.as_deref(), failure: failure.as_ref() };
            let Parts { catalog, pack, .. } = &self.driver.parts;
            let view = View { catalog, hidden: &hidden, whole_bytes_max: pack.whole_bytes_max };
            observations.extend(view.observation(&ended));
        }
        Ok(observations)
    }

    async fn repair(&mut self) -> Result<Option<Repair>, Failure> {
        let Some((reply, failures)) = self.run.planning.refused else { return Ok(None) };
        let failures: Vec<Failure> = self.stored(&failures).await?;
        let reply = self.bytes(&reply).await?;
        let reply = String::from_utf8_lossy(&reply[..reply.len().min(REPAIR_REPLY_BYTES_MAX)]).into_owned();
        Ok(Some(Repair { reply, failures: failures.into_iter().map(|failure| failure.to_string()).collect() }))
    }

    pub(super) async fn planned(&mut self, turn: u32, planned: Planned) -> Result<(), Failure> {
        self.is_planning = false;
        if self.run.undo.is_some() {
            // Nobody waits for it any more: the run was stopped while the planner thought, and is being taken back. What it
            // took is noted all the same.
            self.replied = self.replied(turn, &planned)?;
            return if self.replied.is_some() { self.tell(Vec::new(), Vec::new()).await } else { Ok(()) };
        }
        self.replied = self.replied(turn, &planned)?;
        let reply = Payload::new(planned.raw);
        if let Some(refused) = planned.refused {
            return self.refuse_again(turn, reply, refused).await;
        }
        match planned.reply {
            Ok(Proposal::Plan(plan)) => {
                let checked = self.known(|known| check(&plan, turn, known));
                match checked {
                    Ok(plan) => match self.beyond(&plan) {
                        None => self.accept(turn, reply, plan).await,
                        Some(failures) => self.refuse(turn, reply, failures).await,
                    },
                    Err(failures) => self.refuse(turn, reply, failures).await,
                }
            }
            Ok(Proposal::Answer(answer)) => self.answered(turn, reply, &answer).await,
            Ok(Proposal::Abstention(why)) => {
                let failure =
                    Failure::new(Kind::ModelNoAction, format!("plan: the model says that it is not up to it: {why}"))
                        .hint("say more in the goal, or offer a stronger model");
                if self.has_above() {
                    self.refuse(turn, reply, vec![failure]).await
                } else {
                    self.planner_failed(turn, failure).await
                }
            }
            Ok(Proposal::Question(text)) => {
                let question = Payload::of(&text)?;
                let fact = Fact::Asked { turn, reply: reply.digest(), question: question.digest() };
                self.tell(vec![fact], vec![reply, question]).await
            }
            Err(failure) if is_repairable(failure.kind) => self.refuse(turn, reply, vec![failure]).await,
            Err(failure) if self.asked.is_some() => self.unanswered(turn, failure, planned.retry_after_ms).await,
            Err(failure) => self.planner_failed(turn, failure).await,
        }
    }

    /// Appends what a reply is worth, behind what it took: both at once, as a reply that was paid for is not to be lost.
    pub(super) async fn tell(&mut self, facts: Vec<Fact>, payloads: Vec<Payload>) -> Result<(), Failure> {
        let (replied, reasoning) = self.replied.take().unzip();
        let facts = replied.into_iter().chain(facts).collect();
        let payloads = reasoning.flatten().into_iter().chain(payloads).collect();
        self.record(facts, payloads, Durability::Synced).await
    }

    /// Tells each step that the tier which was asked is not to propose.
    fn beyond(&self, plan: &CheckedPlan) -> Option<Vec<Failure>> {
        let asked = &self.asked.as_ref()?.model;
        let is_beyond = |step: &&crate::orchestrator::check::CheckedStep| step.planned.effect > asked.effect_max;
        let refuse = |step: &crate::orchestrator::check::CheckedStep| {
            let planned = &step.planned;
            let what = format!(
                "take step `{}` of tier `{}`: `{}` is `{}`, and its models propose nothing beyond `{}`",
                planned.id.local(),
                asked.tier,
                planned.tool,
                planned.effect,
                asked.effect_max
            );
            Failure::new(Kind::PolicyDenied, what).hint("the step is for a stronger model to propose")
        };
        let failures: Vec<Failure> = plan.steps.iter().filter(is_beyond).map(refuse).collect();
        (!failures.is_empty()).then_some(failures)
    }

    /// Whether a dearer tier may be asked than the one that was.
    fn has_above(&self) -> bool {
        let asked = self.asked.as_ref().zip(self.driver.planner.routes());
        // No tier is escalated from twice, so that this ends.
        let escalations = usize::try_from(self.run.planning.escalations).unwrap_or(usize::MAX);
        asked.is_some_and(|(asked, routes)| routes.has_above(&asked.model.tier) && escalations + 1 < routes.tiers.len())
    }

    /// Whether another model is to make good what this one was not up to: it said so itself, or went beyond what it may
    /// propose, or has failed before.
    fn is_escalated(&self, failures: &[Failure]) -> bool {
        let is_hopeless =
            failures.iter().any(|failure| matches!(failure.kind, Kind::PolicyDenied | Kind::ModelNoAction));
        self.has_above() && (is_hopeless || self.run.planning.refusals > 0)
    }

    pub(super) fn known<T>(&self, use_it: impl FnOnce(&Known<'_>) -> T) -> T {
        let parts = &self.driver.parts;
        let budget = budget_left(&self.run);
        let about = |tool: &VerifiedTool| policy::about(&parts.policy, tool);
        let is_list = |id: &StepId| self.run.step(id).is_some_and(|step| step.expanded.is_some());
        let of = |(id, tool): (StepId, ToolName)| (id.clone(), Earlier { tool, is_list: is_list(&id) });
        let earlier: BTreeMap<StepId, Earlier> = self.run.succeeded().into_iter().map(of).collect();
        let (catalog, limits) = (&*parts.catalog, &parts.plan_limits);
        use_it(&Known {
            catalog,
            earlier: &earlier,
            about: &about,
            limits,
            budget: &budget,
            proposed: self.proposed.as_ref(),
            goal: self.goal,
            checked_by: CHECK_VERSION,
        })
    }

    async fn accept(&mut self, turn: u32, reply: Payload, plan: CheckedPlan) -> Result<(), Failure> {
        let stored = Payload::of(&plan)?;
        let fact = Fact::PlanAccepted {
            turn,
            reply: reply.digest(),
            plan: stored.digest(),
            steps: plan.steps.iter().map(|step| step.planned.clone()).collect(),
            has_answer: plan.answer.is_some(),
            has_assertions: !plan.assert.is_empty(),
            checked_by: CHECK_VERSION,
        };
        self.remember(turn, plan);
        self.tell(vec![fact], vec![reply, stored]).await
    }

    pub(super) fn remember(&mut self, turn: u32, plan: CheckedPlan) {
        self.plans.extend(plan.steps.into_iter().map(|step| (step.planned.id.clone(), step)));
        self.answers.insert(turn, (plan.answer, plan.assert));
    }

    /// Refuses a reply. A workflow file would say the same again, so for it that is the end.
    pub(super) async fn refuse(&mut self, turn: u32, reply: Payload, failures: Vec<Failure>) -> Result<(), Failure> {
        if self.run.is_single_plan {
            let failure = joined(failures);
            return self.planner_failed(turn, failure).await;
        }
        let is_escalated = self.is_escalated(&failures);
        self.reply_refused(turn, reply, failures, is_escalated).await
    }

    /// Refuses a reply as it was refused in the run that it is from.
    async fn refuse_again(&mut self, turn: u32, reply: Payload, refused: Refused) -> Result<(), Failure> {
        match refused {
            Refused::ForGood(failure) => self.planner_failed(turn, failure).await,
            Refused::Again { failures, .. } if self.run.is_single_plan => {
                self.planner_failed(turn, joined(failures)).await
            }
            Refused::Again { failures, is_escalated } => self.reply_refused(turn, reply, failures, is_escalated).await,
        }
    }

    async fn reply_refused(
        &mut self,
        turn: u32,
        reply: Payload,
        failures: Vec<Failure>,
        is_escalated: bool,
    ) -> Result<(), Failure> {
        let failures = Payload::of(&failures)?;
        let fact = Fact::PlanRejected { turn, reply: reply.digest(), failures: failures.digest(), is_escalated };
        self.tell(vec![fact], vec![reply, failures]).await
    }

    async fn planner_failed(&mut self, turn: u32, failure: Failure) -> Result<(), Failure> {
        let stored = Payload::of(&failure)?;
        let fact = Fact::PlanFailed { turn, kind: failure.kind, failure: stored.digest(), retry: None };
        self.tell(vec![fact], vec![stored]).await
    }

    /// Takes a planner's answer only where a step has brought something: a claim is no result.
    async fn answered(&mut self, turn: u32, reply: Payload, answer: &Json) -> Result<(), Failure> {
        if self.run.succeeded().is_empty() {
            let failure = Failure::new(Kind::ModelNoAction, "accept the answer: no step of this run has succeeded")
                .hint("propose steps whose results support the answer");
            return self.refuse(turn, reply, vec![failure]).await;
        }
        match self.known(|known| check_answer(answer, turn, known)) {
            Err(failures) => self.refuse(turn, reply, failures).await,
            Ok(answer) => match self.resolve(&answer).await? {
                Err(failure) => self.refuse(turn, reply, vec![failure]).await,
                Ok(value) => {
                    // An answer that is not what was asked for is no end: the planner may do better.
                    if let Some(failure) = self.unfit(&value).await? {
                        return self.refuse(turn, reply, vec![failure]).await;
                    }
                    let answer = Payload::of(&value)?;
                    let fact = Fact::Answered { turn, reply: reply.digest(), answer: answer.digest() };
                    self.tell(vec![fact], vec![reply, answer]).await
                }
            },
        }
    }
}

/// Replies that the same planner may make good.
fn is_repairable(kind: Kind) -> bool {
    matches!(kind, Kind::ModelInvalidJson | Kind::ModelSchema | Kind::ModelNoAction | Kind::ModelTruncated)
}

/// Several flaws as one failure, of the first one's kind.
pub(super) fn joined(failures: Vec<Failure>) -> Failure {
    let kind = failures.first().map_or(Kind::DataPlan, |failure| failure.kind);
    let texts: Vec<String> = failures.into_iter().map(|failure| failure.message).collect();
    Failure::new(kind, texts.join("; "))
}
