//! Asks a person about one exact call, and takes what they make of it.

use crate::domain::{Decision, Digest, Effect, Fact, Failure, Kind, ReadyStep, StepId};
use crate::orchestrator::driver::{ApprovalView, Drive, Signal};
use crate::orchestrator::machine::StepStatus;
use crate::policy::{self, RunGrant, authorize};
use crate::registry::VerifiedTool;
use crate::store::{Durability, Payload};

/// What policy wants a person to decide.
pub(super) struct Question {
    pub(super) binding: Digest,
    pub(super) effect: Effect,
    pub(super) rule: String,
    pub(super) expires_ms: u64,
}

impl Drive {
    /// Asks again, after another process asked and left: whoever watches this one was not there.
    pub(super) async fn ask_again(&mut self) -> Result<(), Failure> {
        let now = self.driver.parts.clock.now();
        // There is no more time than there was; what nobody decided in time is not asked again.
        let waits = self.run.in_order().filter_map(|step| match step.status {
            StepStatus::AwaitingApproval { expires, .. } if now < expires => {
                Some((step.id().clone(), expires.ms_since(now)))
            }
            _ => None,
        });
        for (step, left_ms) in waits.collect::<Vec<_>>() {
            let checked = self.checked(&step).await?;
            let ready = self.ready(&checked).await?;
            // A person may have let the run go on with other tools: nobody is asked about what can no longer be called.
            let found = self.tool(&checked.planned.tool).and_then(|tool| tool.check_input(&ready.args).map(|()| tool));
            let tool = match found {
                Ok(tool) => tool,
                Err(failure) => {
                    self.reject(step, failure).await?;
                    continue;
                }
            };
            let decision = authorize(&self.driver.parts.policy, &self.unhurried(), &ready, &tool, None);
            match decision {
                policy::Decision::Ask { binding, effect, rule, expires_ms } => {
                    let expires_ms = expires_ms.min(left_ms);
                    self.ask_person(&ready, &tool, Question { binding, effect, rule, expires_ms }).await?;
                }
                // The policy is another one than when it asked: no person can approve what it denies.
                policy::Decision::Deny(failure) => self.reject(step, failure).await?,
                policy::Decision::Allow(_) => {}
            }
        }
        Ok(())
    }

    /// What the run may do, whatever it has left.
    pub(super) fn unhurried(&self) -> RunGrant {
        RunGrant { principal: self.run.principal.clone(), wall_ms_left: None, cost_left: None }
    }

    pub(super) async fn ask_person(
        &mut self,
        ready: &ReadyStep,
        tool: &VerifiedTool,
        question: Question,
    ) -> Result<(), Failure> {
        let Question { binding, effect, rule, expires_ms } = question;
        let step = ready.step.clone();
        let expires = self.driver.parts.clock.now().plus_ms(expires_ms);
        let asked = Fact::ApprovalRequested { step: step.clone(), binding, effect, rule: rule.clone(), expires };
        let mut facts = vec![asked];
        let before = self.driver.approve.by(&step).cloned();
        if let Some(by) = before.clone() {
            let (step, decision) = (step.clone(), Decision::Approve);
            facts.push(Fact::ApprovalDecided { step, binding, decision, by, reason: None });
        }
        self.record(facts, Vec::new(), Durability::Synced).await?;
        if before.is_none() {
            let risk = self.checked(&step).await?.risk;
            let view = ApprovalView {
                risk,
                run: self.run.id.clone(),
                duplicate_of: self.run.step(&step).and_then(|step| step.duplicate_of.clone()),
                step,
                tool: ready.tool.clone(),
                args: ready.args.clone(),
                effect,
                rule,
                binding,
                mounts: policy::mounts(&self.driver.parts.policy, tool),
            };
            let _ = self.driver.signals.send(Signal::ApprovalWanted(Box::new(view)));
        }
        Ok(())
    }

    /// Returns what a person's other arguments make of the call that waits: the same tool, checked as any call is, under a
    /// key and a binding of its own. `None` where they do not fit; the sender was told so before.
    pub(super) async fn modified(&mut self, step: &StepId, args: &str) -> Result<Option<(Decision, Payload)>, Failure> {
        let checked = self.checked(step).await?;
        let tool = self.tool(&checked.planned.tool)?;
        let dropped = |why: String| tracing::warn!(%step, %why, "arguments that do not fit were dropped");
        let args = match serde_json::from_str(args) {
            Ok(args) => args,
            Err(error) => {
                dropped(error.to_string());
                return Ok(None);
            }
        };
        if let Err(failure) = tool.check_input(&args) {
            dropped(failure.to_string());
            return Ok(None);
        }
        let key = self.key(&checked, &args).await?;
        let stored = Payload::of(&args)?;
        let ready = ReadyStep { args, args_digest: stored.digest(), key, ..self.ready(&checked).await? };
        let decided = authorize(&self.driver.parts.policy, &self.unhurried(), &ready, &tool, None);
        let binding = match decided {
            policy::Decision::Ask { binding, .. } => binding,
            // Nobody need approve these: the decision binds to the call itself.
            policy::Decision::Allow(_) | policy::Decision::Deny(_) => stored.digest(),
        };
        Ok(Some((Decision::Modify { args: stored.digest(), key, binding }, stored)))
    }

    /// Notes that nobody decided in time, which counts as a no.
    pub(super) async fn expire(&mut self, step: StepId, binding: Digest) -> Result<(), Failure> {
        let failure = Failure::new(Kind::PolicyExpired, format!("call `{step}`: nobody approved it in time"))
            .hint("start the goal anew; `approval_expires_ms` of the rule says how long there is");
        let stored = Payload::of(&failure)?;
        let fact = Fact::ApprovalExpired { step, binding, failure: stored.digest() };
        self.record(vec![fact], vec![stored], Durability::Synced).await
    }
}
