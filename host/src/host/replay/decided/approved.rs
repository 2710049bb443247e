//! What a person was asked, and put in the place of it.

use serde_json::json;

use crate::domain::{Digest, Direction, Failure, Json, ReadyStep, StepId, idempotency_key};
use crate::host::replay::decided::{Decided, Told};
use crate::host::replay::tree::differs;
use crate::host::replay::{Verdict, untold};
use crate::orchestrator::Run;
use crate::policy::{self, RunGrant, authorize};

impl Decided<'_> {
    /// What is needed to ask policy again; why it cannot be, where it cannot.
    pub(super) fn asking(&self, run: &Run) -> Result<RunGrant, Verdict> {
        let parts = &self.host.0.parts;
        if self.policy != parts.policy.digest() {
            return Err(untold("the policy has changed since, and what it said is not kept"));
        }
        if run.toolset != parts.catalog.digest() {
            return Err(untold("the tools have changed since, and what policy said of them is not kept"));
        }
        Ok(RunGrant { principal: run.principal.clone(), wall_ms_left: None, cost_left: None })
    }

    /// What policy says of the call with these arguments.
    fn said(&self, run: &Run, id: &StepId, args: (Json, Digest, Digest)) -> Result<policy::Decision, Verdict> {
        let grant = self.asking(run)?;
        let parts = &self.host.0.parts;
        let (args, args_digest, key) = args;
        let known = self.checked(run, id).and_then(|checked| {
            let tool = parts.catalog.tool(&checked.planned.tool)?;
            Some((checked, tool))
        });
        let (checked, tool) = known.ok_or_else(|| untold("its tool is not there"))?;
        let ready = ReadyStep {
            run: self.id.clone(),
            step: id.clone(),
            attempt: run.step(id).map_or(1, |step| step.attempts + 1),
            tool: checked.planned.tool.clone(),
            args,
            args_digest,
            key,
            timeout_ms: checked.timeout_ms,
            approval: checked.approval,
            is_tainted: checked.planned.is_tainted,
        };
        Ok(authorize(&parts.policy, &grant, &ready, tool, None))
    }

    pub(super) async fn asked(&self, run: &Run, id: &StepId, binding: Digest) -> Result<Option<Told>, Failure> {
        let name = format!("{id} (what a person is asked)");
        let Some((args, key)) = run.step(id).and_then(|step| step.ready) else { return Ok(None) };
        let now = match self.said(run, id, (self.kept(&args).await?, args, key)) {
            Ok(policy::Decision::Ask { binding, .. }) => binding,
            Ok(policy::Decision::Allow(_)) => {
                return Ok(Some((name, differs("whether anybody is", &json!(binding), &"nobody need approve".into()))));
            }
            Ok(policy::Decision::Deny(failure)) => {
                let now = Json::from(failure.to_string());
                return Ok(Some((name, differs("whether anybody is", &json!(binding), &now))));
            }
            Err(verdict) => return Ok(Some((name, verdict))),
        };
        let is_same = now == binding;
        Ok(Some((name, if is_same { Verdict::Same } else { differs("its binding", &json!(binding), &json!(now)) })))
    }

    /// A person's other arguments: their key is that of the call, and so is what they bind to.
    pub(super) async fn modified(
        &self,
        run: &Run,
        id: &StepId,
        (digest, key, binding): (&Digest, &Digest, &Digest),
    ) -> Result<Option<Told>, Failure> {
        let name = format!("{id} (what a person put in its place)");
        let Some(step) = run.step(id) else { return Ok(None) };
        let args: Json = self.kept(digest).await?;
        let again = idempotency_key(&self.id, id, Direction::Do, &step.planned.tool, &args);
        if again != *key {
            return Ok(Some((name, differs("its key", &json!(key), &json!(again)))));
        }
        let now = match self.said(run, id, (args, *digest, again)) {
            Ok(policy::Decision::Ask { binding, .. }) => binding,
            Ok(policy::Decision::Allow(_) | policy::Decision::Deny(_)) => *digest,
            Err(verdict) => return Ok(Some((name, verdict))),
        };
        let is_same = now == *binding;
        Ok(Some((name, if is_same { Verdict::Same } else { differs("its binding", &json!(binding), &json!(now)) })))
    }
}
