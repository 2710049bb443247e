//! Asks the planner, and makes what it says a checked plan, an answer, a question, or a refusal.

use std::collections::BTreeMap;

use crate::domain::{Fact, Failure, Json, Kind, StepId, ToolName};
use crate::orchestrator::budget::budget_left;
use crate::orchestrator::check::{CheckedPlan, Earlier, Known, check, check_answer};
use crate::orchestrator::context::{self, Ended, View};
use crate::orchestrator::driver::{Done, Drive, Goal, Parts};
use crate::orchestrator::machine::StepStatus;
use crate::planner::{Allowance, ContextPack, Observation, Planned, Proposal, Repair};
use crate::policy;
use crate::registry::VerifiedTool;
use crate::store::{Durability, Payload};

/// The longest request to a planner, in milliseconds: large models take their time.
const PLANNER_WALL_MS_MAX: u64 = 120_000;

/// Tokens of one reply: a plan of many steps fits.
const REPLY_TOKENS_MAX: u32 = 8_192;

/// Bytes of a refused reply that the planner sees again.
const REPAIR_REPLY_BYTES_MAX: usize = 16 << 10;

impl Drive {
    pub(super) async fn ask_planner(&mut self, turn: u32) -> Result<(), Failure> {
        let pack = self.pack(turn).await?;
        let stored = Payload::of(&pack)?;
        self.record(vec![Fact::PlanRequested { turn, pack: stored.digest() }], vec![stored], Durability::Synced)
            .await?;
        let allowance = Allowance {
            wall_ms_max: self.wall_ms_left().min(PLANNER_WALL_MS_MAX),
            reply_tokens_max: REPLY_TOKENS_MAX,
            ..Allowance::default()
        };
        let planner = self.driver.planner.clone();
        self.is_planning = true;
        self.tasks.spawn(async move { Done::Planned { turn, planned: planner.plan(&pack, &allowance).await } });
        Ok(())
    }

    async fn pack(&mut self, turn: u32) -> Result<ContextPack, Failure> {
        let goal: Goal = self.stored(&self.run.goal.clone()).await?;
        let observations = self.observations().await?;
        let mut answers = Vec::new();
        for digest in self.run.answers.clone() {
            answers.push(self.stored(&digest).await?);
        }
        let repair = self.repair().await?;
        let left = Some(context::left(&budget_left(&self.run), self.wall_ms_left()));
        let (goal, inputs, prompt) = (goal.text, goal.inputs, self.driver.planner.prompt());
        let pack =
            ContextPack { goal, inputs, turn, observations, repair, answers, left, prompt, ..ContextPack::default() };
        let parts = &self.driver.parts;
        let tools = context::offered(&parts.catalog, &parts.policy);
        Ok(context::complete(pack, tools, &context::used(&self.run), &parts.pack))
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
            // Nobody waits for it any more: the run was stopped while the planner thought, and is being taken back.
            return Ok(());
        }
        let reply = Payload::new(planned.raw);
        match planned.reply {
            Ok(Proposal::Plan(plan)) => {
                let checked = self.known(|known| check(&plan, turn, known));
                match checked {
                    Ok(plan) => self.accept(turn, reply, plan).await,
                    Err(failures) => self.refuse(turn, reply, failures).await,
                }
            }
            Ok(Proposal::Answer(answer)) => self.answered(turn, reply, &answer).await,
            Ok(Proposal::Abstention(why)) => {
                let failure = Failure::new(Kind::ModelNoAction, format!("plan: it is not up to it: {why}"));
                self.planner_failed(turn, failure).await
            }
            Ok(Proposal::Question(text)) => {
                let question = Payload::of(&text)?;
                let fact = Fact::Asked { turn, reply: reply.digest(), question: question.digest() };
                self.record(vec![fact], vec![reply, question], Durability::Synced).await
            }
            Err(failure) if is_repairable(failure.kind) => self.refuse(turn, reply, vec![failure]).await,
            Err(failure) => self.planner_failed(turn, failure).await,
        }
    }

    pub(super) fn known<T>(&self, use_it: impl FnOnce(&Known<'_>) -> T) -> T {
        let parts = &self.driver.parts;
        let budget = budget_left(&self.run);
        let about = |tool: &VerifiedTool| policy::about(&parts.policy, tool);
        let is_list = |id: &StepId| self.run.step(id).is_some_and(|step| step.expanded.is_some());
        let of = |(id, tool): (StepId, ToolName)| (id.clone(), Earlier { tool, is_list: is_list(&id) });
        let earlier: BTreeMap<StepId, Earlier> = self.run.succeeded().into_iter().map(of).collect();
        let (catalog, limits) = (&*parts.catalog, &parts.plan_limits);
        use_it(&Known { catalog, earlier: &earlier, about: &about, limits, budget: &budget })
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
        };
        self.remember(turn, plan);
        self.record(vec![fact], vec![reply, stored], Durability::Synced).await
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
        let failures = Payload::of(&failures)?;
        let fact = Fact::PlanRejected { turn, reply: reply.digest(), failures: failures.digest() };
        self.record(vec![fact], vec![reply, failures], Durability::Synced).await
    }

    async fn planner_failed(&mut self, turn: u32, failure: Failure) -> Result<(), Failure> {
        let stored = Payload::of(&failure)?;
        let fact = Fact::PlanFailed { turn, kind: failure.kind, failure: stored.digest() };
        self.record(vec![fact], vec![stored], Durability::Synced).await
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
                    let answer = Payload::of(&value)?;
                    let fact = Fact::Answered { turn, reply: reply.digest(), answer: answer.digest() };
                    self.record(vec![fact], vec![reply, answer], Durability::Synced).await
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
