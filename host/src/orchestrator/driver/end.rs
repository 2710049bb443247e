//! The end of a run: its answer, what decides about its success, and its last event.

use crate::domain::{Caveat, Fact, Failure, Json, Kind, RunEnd};
use crate::orchestrator::condition::{ANSWER, Condition};
use crate::orchestrator::driver::planning::joined;
use crate::orchestrator::driver::{Drive, Goal};
use crate::orchestrator::machine::Ending;
use crate::store::{Durability, Payload};

impl Drive {
    /// Resolves the answer that a plan declares.
    pub(super) async fn answer_plan(&mut self, turn: u32) -> Result<(), Failure> {
        self.load_plans().await?;
        let plan = self.run.plans.iter().find(|(t, _)| *t == turn).map_or(self.run.goal, |(_, plan)| *plan);
        let answer = self.answers.get(&turn).and_then(|(answer, _)| answer.clone()).unwrap_or(Json::Null);
        match self.resolve(&answer).await? {
            Ok(value) => {
                let answer = Payload::of(&value)?;
                let fact = Fact::Answered { turn, reply: plan, answer: answer.digest() };
                self.record(vec![fact], vec![answer], Durability::Synced).await
            }
            Err(failure) => {
                let stored = Payload::of(&failure)?;
                let ending = Ending::NotVerified { kind: failure.kind, failure: stored.digest() };
                self.finish(ending, self.run.caveats(), vec![stored]).await
            }
        }
    }

    /// Looks at the conditions of the plan and of the goal: the first that does not hold is the run's failure.
    pub(super) async fn verify(&mut self, turn: u32) -> Result<(), Failure> {
        self.load_plans().await?;
        let goal: Goal = self.stored(&self.run.goal.clone()).await?;
        let of_plan = self.answers.get(&turn).map(|(_, assert)| assert.clone()).unwrap_or_default();
        let mut failure = None;
        for condition in of_plan.into_iter().chain(goal.assert) {
            failure = self.broken(&condition, None).await?;
            if failure.is_some() {
                break;
            }
        }
        let stored = failure.as_ref().map(Payload::of).transpose()?;
        let told = failure.as_ref().map(|failure| failure.kind).zip(stored.as_ref().map(Payload::digest));
        let fact = Fact::Verified { turn, failure: told };
        self.record(vec![fact], stored.into_iter().collect(), Durability::Synced).await
    }

    /// Returns why what a planner answers is not what the goal asks for; `None` where it is.
    pub(super) async fn unfit(&mut self, answer: &Json) -> Result<Option<Failure>, Failure> {
        let goal: Goal = self.stored(&self.run.goal.clone()).await?;
        for condition in &goal.assert {
            if let Some(failure) = self.broken(condition, Some(answer)).await? {
                return Ok(Some(failure));
            }
        }
        Ok(None)
    }

    /// Returns why a condition does not hold, or cannot be told; `None` where it holds. `answer` stands for the run's, which it
    /// does not have yet.
    async fn broken(&mut self, condition: &str, answer: Option<&Json>) -> Result<Option<Failure>, Failure> {
        let failed = |why: &str| Failure::new(Kind::DataCondition, format!("hold `{condition}`: {why}"));
        let parsed = match Condition::parse(condition) {
            Ok(parsed) => parsed,
            Err(why) => return Ok(Some(failed(&why))),
        };
        let mut values = self.brought_by(parsed.steps().iter()).await?;
        if let Some(answer) = answer {
            values.insert(ANSWER.to_owned(), answer.clone());
        } else if let Some(answer) = self.run.answer {
            values.insert(ANSWER.to_owned(), (*self.value(&answer).await?).clone());
        }
        Ok(match parsed.holds(&values, None) {
            Ok(true) => None,
            Ok(false) => Some(failed("it does not").hint("look at the steps' outputs with `show`")),
            Err(why) => Some(failed(&why)),
        })
    }

    pub(super) async fn end(&mut self, ending: Ending, caveats: Vec<Caveat>) -> Result<(), Failure> {
        let failure = match &ending {
            Ending::PlansRefused { failures } => {
                let failures: Vec<Failure> = self.stored(failures).await?;
                Some(joined(failures))
            }
            Ending::Budget { what } => Some(match self.run.planning.failed {
                // A request that was not sent tells more: what is left, what it would take, or that nobody knows its price.
                Some((Kind::PolicyBudget, failure)) => self.stored(&failure).await?,
                _ => Failure::new(Kind::PolicyBudget, format!("finish the run: `{what}` of its budget is used up"))
                    .hint(format!("raise `{what}` under [budget] in cofferdam.toml, or ask for less")),
            }),
            Ending::Loop { step, times } => Some(
                Failure::new(Kind::ModelLoop, format!("finish the run: `{step}` failed in the same way {times} times"))
                    .hint("tell the planner more, or raise `same_failures_max` under [budget]"),
            ),
            Ending::Stalled => Some(Failure::new(Kind::HostBug, "finish the run: steps are left that can never start")),
            _ => None,
        };
        let stored = failure.as_ref().map(Payload::of).transpose()?;
        self.finish(ending, caveats, stored.into_iter().collect()).await
    }

    /// Notes the end; `stored` is the failure that the run itself has, where it is not that of a step.
    async fn finish(&mut self, ending: Ending, caveats: Vec<Caveat>, stored: Vec<Payload>) -> Result<(), Failure> {
        let own = stored.first().map_or(self.run.goal, Payload::digest);
        let end = match ending {
            Ending::Succeeded { answer } => RunEnd::Succeeded { answer },
            Ending::StepFailed { kind, failure, .. }
            | Ending::PlannerFailed { kind, failure }
            | Ending::NotVerified { kind, failure } => RunEnd::Failed { kind, failure },
            Ending::PlansRefused { .. } => RunEnd::Failed { kind: self.refused_kind().await?, failure: own },
            Ending::Loop { .. } => RunEnd::Failed { kind: Kind::ModelLoop, failure: own },
            Ending::Stalled => RunEnd::Failed { kind: Kind::HostBug, failure: own },
            Ending::Budget { .. } => RunEnd::BudgetExhausted { failure: own },
            Ending::Cancelled { by } => RunEnd::Cancelled { by },
        };
        self.record(vec![Fact::RunEnded { end, caveats }], stored, Durability::Synced).await
    }

    /// The kind of the first flaw of the last reply.
    async fn refused_kind(&self) -> Result<Kind, Failure> {
        let Some((_, failures)) = self.run.planning.refused else { return Ok(Kind::DataPlan) };
        let failures: Vec<Failure> = self.stored(&failures).await?;
        Ok(failures.first().map_or(Kind::DataPlan, |failure| failure.kind))
    }
}
