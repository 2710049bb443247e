//! Lone calls: each is one event in the log of its session, under the same policy and limits as a step of a run.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::domain::{
    Digest, Direction, Effect, Fact, Failure, GENESIS, Json, Kind, Outcome, Principal, ReadyStep, RunId, Seq, StepEnd,
    StepId, ToolName, TraceId, Usage, idempotency_key,
};
use crate::host::{
    Approve, CallOptions, CallReport,
    abandoned::{self, Asked, Taken},
    keyed::{self, Held},
};
use crate::orchestrator::{LoneLink, Parts};
use crate::policy::{Approval, Call, Decision, RunGrant, authorize};
use crate::registry::VerifiedTool;
use crate::store::{Batch, Durability, Ownership, Payload};

/// The session of one host. Its log is made with its first call.
#[derive(Default)]
pub(super) struct Session(Arc<Mutex<Option<Log>>>);

struct Log {
    owner: Box<dyn Ownership>,
    last: (Seq, Digest),
    calls: u64,
}

/// A call among those of its session.
#[derive(Clone, Copy)]
struct Lone {
    number: u64,
    /// The trace that somebody brought.
    trace: Option<TraceId>,
}

impl Session {
    pub(super) async fn call(
        &self,
        parts: &Parts,
        principal: &Principal,
        tool: &str,
        args: Json,
        asked: &CallOptions,
    ) -> Result<CallReport, Failure> {
        let tool = find(parts, tool)?;
        tool.check_input(&args)?;
        let (run, number) = self.next(parts, principal).await?;
        let step = ready(&run, number, &tool, args)?;
        let lone = Lone { number, trace: asked.traceparent.map(|traceparent| traceparent.trace) };
        let call = allowed(parts, principal, &step, &tool, &asked.approve)?;
        let Some(key) = &asked.key else { return self.perform(parts, principal, (lone, step), call, None).await };
        // Policy comes first: what it denies takes no key.
        let request = keyed::call_request(tool.name(), &step.args);
        match keyed::claim(parts, principal, key, &request, &run).await? {
            Held::Mine if asked.settled.is_some() => {
                parts.log.settle_key(principal, key, None).await?;
                return Err(keyed::nothing_to_settle());
            }
            Held::Mine => {}
            Held::Before { run, outcome: Some(_) } if asked.settled.is_some() => return Err(keyed::has_ended(&run)),
            Held::Before { run, outcome: Some(outcome) } => return keyed::repeated(run, &outcome),
            Held::Before { run: before, outcome: None } => {
                let asked = Asked { key, request, run: &run, tool: &tool, settled: asked.settled.as_ref() };
                if let Taken::Before { run, outcome } = abandoned::take(parts, principal, &before, &asked).await? {
                    return keyed::repeated(run, &outcome);
                }
            }
        }
        let digest = keyed::digest(principal, key);
        let performed = self.perform(parts, principal, (lone, step), call, Some(digest)).await;
        // Where nobody knows what it changed the key waits for a person's word.
        if let Ok(report) = &performed
            && !report.is_unknown()
        {
            parts.log.settle_key(principal, key, keyed::kept(report)?).await?;
        }
        performed
    }

    async fn perform(
        &self,
        parts: &Parts,
        principal: &Principal,
        (lone, step): (Lone, ReadyStep),
        call: Call,
        key: Option<Digest>,
    ) -> Result<CallReport, Failure> {
        let (tool, effect) = (call.tool().clone(), call.effect());
        let args = Payload::of(&step.args)?;
        // The call's time begins when it could run: a first compilation has bounds of its own.
        if let Err(failure) = parts.runner.prepare(&tool).await {
            let outcome = Outcome::never_ran(failure, Usage::default());
            self.ended(parts, principal, lone, &tool, args, effect, &outcome).await?;
            return Ok(CallReport { tool: tool.name().clone(), effect, outcome, repeats: None });
        }
        if effect.is_write() {
            let fact = Fact::CallStarted {
                call: lone.number,
                tool: tool.name().clone(),
                component: *tool.digest(),
                args: args.digest(),
                effect,
                key,
            };
            self.record(parts, fact, vec![args.clone()], Durability::Synced).await?;
        }
        let link = LoneLink::new(parts, &call, lone.trace);
        let mut outcome = parts.runner.run(call, Arc::new(link)).await;
        outcome.result = outcome.result.and_then(|output| tool.check_output(&output).map(|()| output));
        self.ended(parts, principal, lone, &tool, args, effect, &outcome).await?;
        Ok(CallReport { tool: tool.name().clone(), effect, outcome, repeats: None })
    }

    /// Returns the session's id and the number of its next call.
    async fn next(&self, parts: &Parts, principal: &Principal) -> Result<(RunId, u64), Failure> {
        let mut guard = self.0.lock().await;
        let log = match &mut *guard {
            Some(log) => log,
            None => guard.insert(Log::new(parts, principal).await?),
        };
        log.calls += 1;
        Ok((log.owner.run().clone(), log.calls))
    }

    #[expect(clippy::too_many_arguments, reason = "one event's fields, put together once")]
    async fn ended(
        &self,
        parts: &Parts,
        principal: &Principal,
        lone: Lone,
        tool: &VerifiedTool,
        args: Payload,
        effect: Effect,
        outcome: &Outcome,
    ) -> Result<(), Failure> {
        let (end, stored) = match &outcome.result {
            Ok(output) => {
                let stored = Payload::of(output)?;
                (StepEnd::Succeeded { output: stored.digest() }, stored)
            }
            Err(failure) => {
                let stored = Payload::of(failure)?;
                (StepEnd::Failed { kind: failure.kind, failure: stored.digest() }, stored)
            }
        };
        let log = (!outcome.log.is_empty()).then(|| Payload::of(&outcome.log)).transpose()?;
        let denials = (!outcome.denials.is_empty()).then(|| Payload::of(&outcome.denials)).transpose()?;
        let fact = Fact::Called {
            call: lone.number,
            principal: principal.clone(),
            tool: tool.name().clone(),
            component: *tool.digest(),
            args: args.digest(),
            effect,
            end,
            usage: outcome.usage.clone(),
            log: log.as_ref().map(Payload::digest),
            denials: denials.as_ref().map(Payload::digest),
            has_written: outcome.has_written,
            has_open_write: outcome.has_open_write,
            trace: lone.trace,
        };
        let durability = if effect.is_write() { Durability::Synced } else { Durability::Queued };
        let payloads = [Some(args), Some(stored), log, denials].into_iter().flatten().collect();
        self.record(parts, fact, payloads, durability).await
    }

    async fn record(
        &self,
        parts: &Parts,
        fact: Fact,
        payloads: Vec<Payload>,
        durability: Durability,
    ) -> Result<(), Failure> {
        let (mut guard, parts) = (self.0.clone().lock_owned().await, parts.clone());
        // To its end, also where nobody waits any more: the log and what is known of its end must not part.
        let recording = tokio::spawn(async move {
            let closed = || Failure::new(Kind::HostBug, "write to the session's log: it is closed");
            guard.as_mut().ok_or_else(closed)?.record(&parts, fact, payloads, durability).await
        });
        recording.await.map_err(|e| Failure::new(Kind::HostBug, "write to the session's log").detail(e))?
    }

    pub(super) async fn close(&self, parts: &Parts) -> Result<(), Failure> {
        self.0.lock().await.take();
        parts.log.flush().await
    }
}

impl Log {
    async fn new(parts: &Parts, principal: &Principal) -> Result<Self, Failure> {
        let run = parts.clock.run_id().map_err(|e| Failure::new(Kind::HostBug, e))?;
        let owner = parts.log.create(&run, principal, &parts.owner, parts.clock.now()).await?;
        let mut log = Self { owner, last: (0, GENESIS), calls: 0 };
        log.record(parts, Fact::SessionStarted { principal: principal.clone() }, Vec::new(), Durability::Queued)
            .await?;
        Ok(log)
    }

    async fn record(
        &mut self,
        parts: &Parts,
        fact: Fact,
        payloads: Vec<Payload>,
        durability: Durability,
    ) -> Result<(), Failure> {
        let batch = Batch { after: self.last, facts: vec![(parts.clock.now(), fact)], payloads };
        for event in parts.log.append(&*self.owner, batch, durability).await? {
            let hash = event.hash().map_err(|e| Failure::new(Kind::HostBug, "hash an event").detail(e))?;
            self.last = (event.seq, hash);
        }
        Ok(())
    }
}

/// Finds a tool that may be called.
pub(super) fn find(parts: &Parts, name: &str) -> Result<VerifiedTool, Failure> {
    let parsed = name.parse::<ToolName>().ok();
    if let Some(why) = parsed.as_ref().and_then(|name| parts.catalog.why_withheld(name)) {
        return Err(why.clone());
    }
    parsed.and_then(|name| parts.catalog.tool(&name).cloned()).ok_or_else(|| {
        let shown: String = name.chars().take(80).collect();
        let similar = parts
            .catalog
            .similar(name)
            .map_or_else(|| "list tools with `tools`".into(), |similar| format!("did you mean `{similar}`?"));
        Failure::new(Kind::DataNotFound, format!("find tool `{shown}`")).hint(similar)
    })
}

fn ready(run: &RunId, number: u64, tool: &VerifiedTool, args: Json) -> Result<ReadyStep, Failure> {
    let step = StepId::new(0, &format!("call{number}")).map_err(|e| Failure::new(Kind::HostBug, e))?;
    let key = idempotency_key(run, &step, Direction::Do, tool.name(), &args);
    Ok(ReadyStep {
        run: run.clone(),
        step,
        attempt: 1,
        tool: tool.name().clone(),
        args_digest: Digest::of_json(&args),
        args,
        key,
        timeout_ms: None,
        approval: false,
        is_tainted: false,
    })
}

fn allowed(
    parts: &Parts,
    principal: &Principal,
    step: &ReadyStep,
    tool: &VerifiedTool,
    approve: &Approve,
) -> Result<Call, Failure> {
    let grant = RunGrant { principal: principal.clone(), wall_ms_left: None, cost_left: None };
    match authorize(&parts.policy, &grant, step, tool, None) {
        Decision::Allow(call) => Ok(*call),
        Decision::Deny(failure) => Err(failure),
        Decision::Ask { binding, rule, effect, .. } => {
            let Approve::All { by } = approve else { return Err(needs_person(tool.name(), effect, &rule)) };
            let approval = Approval { binding, by: by.clone() };
            match authorize(&parts.policy, &grant, step, tool, Some(&approval)) {
                Decision::Allow(call) => Ok(*call),
                Decision::Deny(failure) => Err(failure),
                Decision::Ask { rule, effect, .. } => Err(needs_person(tool.name(), effect, &rule)),
            }
        }
    }
}

fn needs_person(tool: &ToolName, effect: Effect, rule: &str) -> Failure {
    Failure::new(
        Kind::PolicyDenied,
        format!("call `{tool}` (effect `{effect}`): a person must approve it, says rule `{rule}`"),
    )
    .hint("approve it with `--yes`, or let a rule say `approval = \"none\"`")
}
