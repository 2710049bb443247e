//! What came of things that no call brought: lists put together, outcomes taken from elsewhere, conditions, answers.

use serde_json::json;

use crate::domain::{Digest, Failure, Json, Kind, OnFailure, RunId, Settlement, StepEnd, StepId};
use crate::host::replay::decided::{Decided, Told};
use crate::host::replay::made::Story;
use crate::host::replay::tree::differs;
use crate::host::replay::{Verdict, untold};
use crate::orchestrator::{ANSWER, Condition, Run, StepStatus};
use crate::store::Payload;

impl Decided<'_> {
    /// An outcome that was taken from another run: that run must have brought it, in the same call.
    pub(super) async fn cached(
        &self,
        run: &Run,
        id: &StepId,
        (output, from, age_ms): (&Digest, &RunId, u64),
    ) -> Result<Option<Told>, Failure> {
        let name = format!("{id} (its cached outcome)");
        let Some((step, checked)) = run.step(id).zip(self.checked(run, id)) else { return Ok(None) };
        if step.is_write() || checked.cache_ttl_ms.is_some_and(|ttl_ms| age_ms > ttl_ms) {
            let now = json!({"effect": step.planned.effect, "cache_ttl_ms": checked.cache_ttl_ms});
            return Ok(Some((name, differs("whether it may be taken", &json!({ "age_ms": age_ms }), &now))));
        }
        let events = match self.host.events(from).await {
            Err(failure) if failure.kind == Kind::DataNotFound => {
                return Ok(Some((name, untold(format!("run {from}, which brought it, is not kept any more")))));
            }
            events => events?,
        };
        let brought = Story::of(&events, from)?.made.into_iter().any(|made| {
            let is_it = made.tool == step.planned.tool && step.ready.is_some_and(|(args, _)| args == made.args);
            is_it && made.end == StepEnd::Succeeded { output: *output }
        });
        if brought {
            return Ok(Some((name, Verdict::Same)));
        }
        let now = Json::from(format!("run {from} brought no such outcome"));
        Ok(Some((name, differs("where it is from", &self.kept(output).await?, &now))))
    }

    pub(super) async fn gathered(&mut self, run: &Run, id: &StepId, end: &StepEnd) -> Result<Option<Told>, Failure> {
        let name = format!("{id} (what its items brought)");
        let is_tolerant = run.step(id).is_some_and(|step| step.planned.on_failure == OnFailure::Skip);
        let failed = run.items(id).find(|item| item.status.is_failed()).and_then(|item| item.failure);
        let now = match failed.filter(|_| !is_tolerant) {
            Some((kind, failure)) => StepEnd::Failed { kind, failure },
            None => {
                let mut list = Vec::new();
                for item in run.items(id) {
                    list.push(match item.status {
                        StepStatus::Succeeded { output } => self.kept(&output).await?,
                        _ => Json::Null,
                    });
                }
                StepEnd::Succeeded { output: Payload::of(&Json::Array(list))?.digest() }
            }
        };
        let is_same = now == *end;
        Ok(Some((name, if is_same { Verdict::Same } else { differs("what they come to", &json!(end), &json!(now)) })))
    }

    pub(super) async fn verified(
        &self,
        run: &Run,
        turn: u32,
        failure: Option<(Kind, Digest)>,
    ) -> Result<Option<Told>, Failure> {
        let of_plan = self.ends.get(&turn).map(|(_, conditions)| conditions.clone()).unwrap_or_default();
        let mut broken = None;
        for condition in of_plan.into_iter().chain(self.goal.assert.clone()) {
            if let Some(why) = self.broken(run, &condition).await? {
                broken = Some((condition, why));
                break;
            }
        }
        let then: Option<Failure> = match failure {
            Some((_, failure)) => Some(self.kept(&failure).await?),
            None => None,
        };
        let is_same = match (&then, &broken) {
            (None, None) => true,
            (Some(then), Some((condition, _))) => then.message.contains(condition.as_str()),
            _ => false,
        };
        let name = "the run's conditions".to_owned();
        if is_same {
            return Ok(Some((name, Verdict::Same)));
        }
        let hold = || "they hold".to_owned();
        let then = Json::from(then.map_or_else(hold, |then| then.to_string()));
        let now = Json::from(broken.map_or_else(hold, |(condition, why)| format!("`{condition}`: {why}")));
        Ok(Some((name, differs("whether they hold", &then, &now))))
    }

    /// Why a condition does not hold; `None` where it does.
    async fn broken(&self, run: &Run, condition: &str) -> Result<Option<String>, Failure> {
        let parsed = match Condition::parse(condition) {
            Ok(parsed) => parsed,
            Err(why) => return Ok(Some(why)),
        };
        let mut values = self.brought_by(run, parsed.steps().iter()).await?;
        if let Some(answer) = run.answer {
            values.insert(ANSWER.to_owned(), self.kept(&answer).await?);
        }
        Ok(match parsed.holds(&values, None) {
            Ok(true) => None,
            Ok(false) => Some("it does not".into()),
            Err(why) => Some(why),
        })
    }

    pub(super) async fn answered(&self, run: &Run, turn: u32, answer: &Digest) -> Result<Option<Told>, Failure> {
        let Some((declared, _)) = self.ends.get(&turn) else { return Ok(None) };
        let declared = declared.clone().unwrap_or(Json::Null);
        let name = "the answer".to_owned();
        let now = match self.resolved(run, &declared, None).await? {
            Ok(now) if Payload::of(&now)?.digest() == *answer => return Ok(Some((name, Verdict::Same))),
            Ok(now) => now,
            Err(why) => Json::from(why),
        };
        Ok(Some((name, differs("what it is", &self.kept(answer).await?, &now))))
    }

    /// What a tool that was asked told of a step, and what was made of it.
    pub(super) async fn settled(
        &self,
        run: &Run,
        id: &StepId,
        settlement: &Settlement,
    ) -> Result<Option<Told>, Failure> {
        let Some(step) = run.step(id) else { return Ok(None) };
        let name = format!("{id} (what became of it)");
        let answer = self.brought(run, &id.reconcile(step.reconciles)).await?;
        let done = answer.as_ref().and_then(Json::as_object).filter(|fields| fields.len() == 1);
        let done = done.and_then(|fields| fields.get("done"));
        let is_same = match settlement {
            Settlement::Done { output } => match done {
                Some(done) => Payload::of(done)?.digest() == *output,
                None => false,
            },
            Settlement::Retry | Settlement::Failed { .. } => {
                let may_retry = step.attempts_counted() < step.planned.retry.attempts_max;
                answer == Some(Json::from("not_done")) && may_retry == (*settlement == Settlement::Retry)
            }
            // An output that does not fit its tool tells nothing either.
            Settlement::Unknown => answer != Some(Json::from("not_done")),
        };
        if is_same {
            return Ok(Some((name, Verdict::Same)));
        }
        let now = answer.unwrap_or(Json::Null);
        Ok(Some((name, differs("what the tool told", &json!(settlement), &now))))
    }
}
