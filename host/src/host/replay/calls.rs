//! A call that is made again from its records.

use std::collections::BTreeMap;
use std::sync::Arc;

use tempfile::TempDir;

use crate::domain::{
    Access, Ask, Effect, Failure, Fault, Grant, HostCallRecord, Json, Kind, Limits, Principal, ReadyStep,
    RecordedValue, RunId, StepEnd, ToolName, excerpt,
};
use crate::host::replay::link::ReplayLink;
use crate::host::replay::made::Made;
use crate::host::replay::tree::{Called, Player};
use crate::host::replay::{EXCERPT_CHARS_MAX, Replayed, Verdict, untold};
use crate::orchestrator::{journal_digest, merged};
use crate::policy::{Call, Decision, RunGrant, authorize};
use crate::registry::VerifiedTool;
use crate::sandbox::{CALL_GRANT, CHANGED_SINCE};
use crate::store::Payload;

/// Host calls that the host makes for a guest before it begins.
const BEFORE_THE_GUEST: [&str; 3] = [CALL_GRANT, "clock.start", "random.seed"];

impl Player<'_> {
    /// Makes a call again.
    ///
    /// # Errors
    /// `host.storage`; `data.not_found` where its user was erased; `load.*` for a component that cannot be compiled.
    pub(super) async fn called(&self, called: &Called<'_>) -> Result<Replayed, Failure> {
        let made = called.made;
        let records = self.records(called.run, made).await?;
        let tool = self.tool(&made.tool);
        let is_other_component = tool.as_ref().is_some_and(|tool| *tool.digest() != made.component);
        let host_calls = records.len();
        let result = match &tool {
            None => untold(format!("no component has `{}` any more", made.tool)),
            Some(_) if !is_whole(made, &records) => Verdict::Differs {
                what: "its journal".into(),
                then: made.host_calls.map_or_else(String::new, |digest| digest.to_string()),
                now: journal_digest(&records).map_or_else(String::new, |digest| digest.to_string()),
            },
            Some(tool) => self.verdict(called, tool, records).await?,
        };
        let tool = Some(made.tool.clone());
        Ok(Replayed { part: made.step.to_string(), seq: made.seq, tool, is_other_component, host_calls, result })
    }

    /// The records of all processes that drove this call to its end.
    async fn records(&self, run: &RunId, made: &Made) -> Result<Vec<HostCallRecord>, Failure> {
        let mut journals = Vec::with_capacity(made.attempts.len());
        for attempt in &made.attempts {
            journals.push(self.host.0.parts.log.journal(run, &made.step, *attempt).await?);
        }
        Ok(merged(journals))
    }

    fn tool(&self, name: &ToolName) -> Option<VerifiedTool> {
        match self.with.get(name.component()) {
            Some(component) => component.tools().find(|tool| tool.name() == name),
            None => self.host.0.parts.catalog.tool(name).cloned(),
        }
    }

    async fn verdict(
        &self,
        called: &Called<'_>,
        tool: &VerifiedTool,
        records: Vec<HostCallRecord>,
    ) -> Result<Verdict, Failure> {
        let Called { run, principal, made, .. } = *called;
        let args: Json = self.host.kept(run, &made.args).await?;
        let then = match &made.end {
            StepEnd::Succeeded { output } => Ok(self.host.kept::<Json>(run, output).await?),
            StepEnd::Failed { failure, .. } => Err(self.host.kept::<Failure>(run, failure).await?),
        };
        if let Err(failure) = &then
            && !has_begun(made, failure, &records)
        {
            return Ok(untold(format!("it never began: {}: {}", failure.kind, failure.message)));
        }
        if let Err(failure) = tool.check_input(&args) {
            return Ok(verdict(&then, &Err(failure), &[]));
        }
        let step = ReadyStep {
            run: run.clone(),
            step: made.step.clone(),
            attempt: made.attempts.last().copied().unwrap_or(1),
            tool: made.tool.clone(),
            args,
            args_digest: made.args,
            key: made.key,
            timeout_ms: None,
            approval: false,
            is_tainted: false,
        };
        let mut grant = self.grant(&step, tool, &records, principal);
        let _empty = stood_in(&mut grant)?;
        let mounts = grant.mounts.clone();
        let call = Call::recorded(tool.clone(), step, principal.clone(), grant);
        let link = Arc::new(ReplayLink::new(records, then.as_ref().err().cloned()));
        let runner = &self.host.0.parts.runner;
        runner.prepare(tool).await?;
        let outcome = runner.run(call, link.clone()).await;
        let now = outcome.result.and_then(|output| tool.check_output(&output).map(|()| output));
        // Another component may look at other things, which is its doing.
        if let Err(failure) = &now
            && *tool.digest() == made.component
            && is_changed_since(failure)
        {
            let read = mounts.iter().filter(|mount| mount.access == Access::Read);
            let places: Vec<_> = read.map(|mount| format!("`{}` ({})", mount.guest, mount.host.display())).collect();
            let places = if places.is_empty() { String::new() } else { format!(", perhaps in {}", places.join(", ")) };
            return Ok(untold(format!("what it read is not as it was then{places}: {}", failure.message)));
        }
        Ok(verdict(&then, &now, &link.writes_left()))
    }

    /// What the call was given then. A pure call has no record of it, and needs none: its arguments decide. Its limits are
    /// those of today, or the host's own where no rule gives any.
    fn grant(&self, step: &ReadyStep, tool: &VerifiedTool, records: &[HostCallRecord], principal: &Principal) -> Grant {
        let recorded = records.iter().find(|record| record.what == CALL_GRANT).and_then(|record| record.done.as_ref());
        if let Some(RecordedValue::Whole { value }) = recorded.map(|recorded| &recorded.value)
            && let Ok(grant) = serde_json::from_value(value.clone())
        {
            return grant;
        }
        let run = RunGrant { principal: principal.clone(), ..RunGrant::default() };
        match authorize(&self.host.0.parts.policy, &run, step, tool, None) {
            Decision::Allow(call) if call.grant().effect() == Effect::Pure => call.grant().clone(),
            _ => computing(tool),
        }
    }
}

/// Puts an empty directory in the place of each that the call may write: what the call saw of it is recorded, and what it
/// wrote is not written again, nor anything else into a directory of the operator's. They live as long as what is returned.
fn stood_in(grant: &mut Grant) -> Result<Option<TempDir>, Failure> {
    let storage = |e| Failure::new(Kind::HostStorage, "make an empty directory for the time of the replay").detail(e);
    let mounts: Vec<_> = grant.mounts.iter_mut().filter(|mount| mount.access == Access::ReadWrite).collect();
    if mounts.is_empty() {
        return Ok(None);
    }
    let empty = TempDir::new().map_err(storage)?;
    for (n, mount) in mounts.into_iter().enumerate() {
        mount.host = empty.path().join(n.to_string());
        std::fs::create_dir(&mount.host).map_err(storage)?;
    }
    Ok(Some(empty))
}

/// A grant that gives what is no power: what the tool tells goes nowhere.
fn computing(tool: &VerifiedTool) -> Grant {
    let asks = &tool.tool().asks;
    Grant {
        mounts: Vec::new(),
        http: Vec::new(),
        secrets: Vec::new(),
        env: BTreeMap::new(),
        state: BTreeMap::new(),
        log: asks.contains(&Ask::Log),
        progress: asks.contains(&Ask::Progress),
        clock: false,
        random: false,
        limits: Limits::default(),
        rules: Vec::new(),
    }
}

/// Whether a call that failed had begun. Before a guest makes its first host call, something that the call needs of this machine may
/// be missing: a secret, a directory, a free place.
fn has_begun(made: &Made, failure: &Failure, records: &[HostCallRecord]) -> bool {
    let is_guests = |record: &HostCallRecord| !BEFORE_THE_GUEST.contains(&record.what.as_str());
    let is_machines = failure.kind == Kind::DataConfig || failure.fault() == Fault::Host;
    made.effect == Effect::Pure || records.iter().any(is_guests) || !is_machines
}

/// Whether the call was stopped as something of which there is only a digest is not what it was.
fn is_changed_since(failure: &Failure) -> bool {
    failure.kind == Kind::HostDiverged && failure.message.ends_with(CHANGED_SINCE)
}

/// Whether the journal is the one of which the call's end tells. One that several processes wrote has no single digest.
fn is_whole(made: &Made, records: &[HostCallRecord]) -> bool {
    made.attempts.len() != 1 || made.host_calls.is_none() || journal_digest(records) == made.host_calls
}

/// Holds what a call brings now against what it brought then. How it failed is told by the kind alone.
fn verdict(then: &Result<Json, Failure>, now: &Result<Json, Failure>, writes_left: &[String]) -> Verdict {
    let is_same = match (then, now) {
        (Ok(then), Ok(now)) => Payload::of(then).ok().map(|p| p.digest()) == Payload::of(now).ok().map(|p| p.digest()),
        (Err(then), Err(now)) => then.kind == now.kind,
        _ => false,
    };
    if !is_same {
        let is_time = |failure: &Failure| matches!(failure.kind, Kind::ToolDeadline | Kind::HostCancelled);
        if then.as_ref().err().is_some_and(is_time) {
            return untold("it was stopped while it computed, and time is not played back");
        }
        // Only the host fails so, before the guest begins: then it had what it needed.
        if let Err(failure) = now
            && failure.kind == Kind::DataConfig
        {
            return untold(format!("something that it needs of this machine is not there: {}", failure.message));
        }
        return Verdict::Differs { what: "what it brings".into(), then: told(then), now: told(now) };
    }
    match writes_left.first() {
        Some(write) => Verdict::Differs { what: format!("it does not do `{write}`"), then: told(then), now: told(now) },
        None => Verdict::Same,
    }
}

fn told(result: &Result<Json, Failure>) -> String {
    match result {
        Ok(output) => excerpt(output, EXCERPT_CHARS_MAX),
        Err(failure) => excerpt(&Json::from(failure.to_string()), EXCERPT_CHARS_MAX),
    }
}
