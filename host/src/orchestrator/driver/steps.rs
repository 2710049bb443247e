//! A step from its condition to its outcome: prepare, ask policy, start, end.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use crate::domain::{
    Cost, Digest, Direction, Effect, Fact, Failure, Grant, Json, Kind, Limits, Outcome, PlannedStep, ReadyStep, Role,
    SkipReason, StepEnd, StepId, Timestamp, idempotency_key,
};
use crate::orchestrator::budget::is_run;
use crate::orchestrator::check::CheckedStep;
use crate::orchestrator::condition::Condition;
use crate::orchestrator::driver::approvals::Question;
use crate::orchestrator::driver::undo::Undone;
use crate::orchestrator::driver::{Done, Drive};
use crate::orchestrator::link::{LiveLink, Wires, WriteRequest};
use crate::orchestrator::machine::StepStatus;
use crate::orchestrator::retry::{self, Failed};
use crate::orchestrator::template::{self, Parts};
use crate::policy::{self, Approval, Call, RunGrant, authorize};
use crate::registry::VerifiedTool;
use crate::store::{CachedOutcome, Durability, Payload};

impl Drive {
    /// Returns what is to be done for a step: as its plan says, or as the step that it takes back or asks about says.
    pub(super) async fn checked(&mut self, step: &StepId) -> Result<CheckedStep, Failure> {
        let bug = || Failure::new(Kind::HostBug, format!("find `{step}` in the run"));
        let planned = self.run.step(step).map(|step| step.planned.clone()).ok_or_else(bug)?;
        match planned.role.clone() {
            Role::Do => self.planned_step(step).await,
            Role::Item { of } => Ok(CheckedStep { planned, for_each: None, ..self.planned_step(&of).await? }),
            Role::Undo { of } if is_run(&planned) => Ok(self.done_step(&of).await?.called_by(planned, |_| None)),
            Role::Undo { of } => Ok(self.done_step(&of).await?.called_by(planned, |step| step.undo.as_ref())),
            Role::Reconcile { of } => Ok(self.done_step(&of).await?.called_by(planned, |step| step.reconcile.as_ref())),
        }
    }

    /// Returns what the plan says of a step of its own, or of one of its items.
    pub(super) async fn done_step(&mut self, step: &StepId) -> Result<CheckedStep, Failure> {
        if let Some(taken) = self.taken().await? {
            let bug = || Failure::new(Kind::HostBug, format!("find `{step}` in the plans of run `{}`", taken.run.id));
            return taken.planned(step).cloned().ok_or_else(bug);
        }
        let of = match self.run.step(step).map(|step| step.planned.role.clone()) {
            Some(Role::Item { of }) => of,
            _ => step.clone(),
        };
        self.planned_step(&of).await
    }

    /// Resolves a step's arguments, checks them, and computes its key; or passes the step over.
    pub(super) async fn prepare(&mut self, step: StepId) -> Result<(), Failure> {
        let checked = self.checked(&step).await?;
        let item = self.item(&step).await?;
        match self.is_wanted(&checked, item.as_ref()).await? {
            Err(failure) => return self.reject(step, failure).await,
            Ok(false) => return self.note(Fact::StepSkipped { step, why: SkipReason::Condition }).await,
            Ok(true) => {}
        }
        if let Some(for_each) = &checked.for_each {
            return self.expand(step, for_each).await;
        }
        let args = match self.args(&checked, item.as_ref()).await? {
            Ok(args) => args,
            Err(failure) => return self.reject(step, failure).await,
        };
        if !is_run(&checked.planned)
            && let Err(failure) = self.tool(&checked.planned.tool).and_then(|tool| tool.check_input(&args))
        {
            return self.reject(step, failure).await;
        }
        let key = self.key(&checked, &args).await?;
        let stored = Payload::of(&args)?;
        let digest = self.values.keep(&stored, args);
        let duplicate_of = self.run.same_write(&step, digest);
        let ready = Fact::StepReady { step, args: digest, key, duplicate_of };
        self.record(vec![ready], vec![stored], Durability::Queued).await
    }

    /// The key of a step's call. What takes back has one key for what it takes back, whichever run makes the call.
    pub(super) async fn key(&mut self, checked: &CheckedStep, args: &Json) -> Result<Digest, Failure> {
        let PlannedStep { id, tool, role, .. } = &checked.planned;
        let (of, direction) = match role {
            Role::Undo { of } => (of, Direction::Undo),
            _ => (id, Direction::Do),
        };
        let taken = self.taken().await?.filter(|_| direction == Direction::Undo);
        let run = taken.as_ref().map_or(&self.run.id, |taken| &taken.run.id);
        Ok(idempotency_key(run, of, direction, tool, args))
    }

    /// Looks at the step's condition: of the step as a whole, or of each item where the condition is about the item.
    async fn is_wanted(
        &mut self,
        checked: &CheckedStep,
        item: Option<&Json>,
    ) -> Result<Result<bool, Failure>, Failure> {
        let Some(when) = &checked.when else { return Ok(Ok(true)) };
        let told = |why: String| {
            Failure::new(Kind::DataCondition, format!("tell whether `{}` is wanted: {why}", checked.planned.id))
        };
        let condition = match Condition::parse(when) {
            Ok(condition) => condition,
            Err(why) => return Ok(Err(told(why))),
        };
        if condition.uses_item() != item.is_some() {
            return Ok(Ok(true));
        }
        let values = self.brought_by(condition.steps().iter()).await?;
        Ok(condition.holds(&values, item).map_err(told))
    }

    async fn args(&mut self, checked: &CheckedStep, item: Option<&Json>) -> Result<Result<Json, Failure>, Failure> {
        let filled = match &checked.planned.role {
            // What it takes back stands in a log, and not in arguments.
            Role::Undo { .. } if is_run(&checked.planned) => Ok(Json::Object(serde_json::Map::new())),
            Role::Undo { of } | Role::Reconcile { of } => self.filled(&checked.args, of).await?,
            _ => self.resolved(&checked.args, item).await?,
        };
        Ok(filled.map_err(|why| {
            Failure::new(Kind::DataReference, format!("make the arguments of `{}`: {why}", checked.planned.id))
        }))
    }

    /// Fills in what became of the step that is taken back or asked about.
    async fn filled(&mut self, args: &Json, of: &StepId) -> Result<Result<Json, String>, Failure> {
        let Undone { ready, output, .. } = self.undone(of).await?;
        let input = match ready {
            Some((args, _)) => Some(self.undone_value(&args).await?),
            None => None,
        };
        let output = match output {
            Some(output) => Some(self.undone_value(&output).await?),
            None => None,
        };
        let key = ready.map(|(_, key)| key.to_string());
        let parts =
            Parts { input: input.as_deref(), output: output.as_deref(), key: key.as_deref(), ..Parts::default() };
        Ok(template::filled(args, &parts))
    }

    pub(super) async fn reject(&mut self, step: StepId, failure: Failure) -> Result<(), Failure> {
        let stored = Payload::of(&failure)?;
        let fact = Fact::StepRejected { step, kind: failure.kind, failure: stored.digest() };
        self.record(vec![fact], vec![stored], Durability::Queued).await
    }

    /// Starts the step's call, or has a person asked; false where its tool is not ready to run yet.
    pub(super) async fn start_step(&mut self, step: StepId, reserve: Cost) -> Result<bool, Failure> {
        let checked = self.checked(&step).await?;
        if is_run(&checked.planned) {
            return self.start_child(step, &checked, reserve).await.map(|()| true);
        }
        let tool = match self.tool(&checked.planned.tool) {
            Ok(tool) => tool,
            Err(failure) => return self.reject(step, failure).await.map(|()| true),
        };
        let ready = self.ready(&checked).await?;
        // They fitted when they were made; the tool may have been changed since, and a person may have let that pass.
        if let Err(failure) = tool.check_input(&ready.args) {
            return self.reject(step, failure).await.map(|()| true);
        }
        let approved = self.run.step(&step).and_then(|step| step.approved.clone());
        let approval = approved.map(|(binding, by)| Approval { binding, by });
        let grant = self.grant(&checked, reserve);
        match authorize(&self.driver.parts.policy, &grant, &ready, &tool, approval.as_ref()) {
            policy::Decision::Deny(failure) => self.reject(step, failure).await?,
            policy::Decision::Ask { binding, effect, rule, expires_ms } => {
                self.ask_person(&ready, &tool, Question { binding, effect, rule, expires_ms }).await?;
            }
            policy::Decision::Allow(call) if is_asking(&checked) && call.effect().is_write() => {
                let message = format!("ask `{}` what became of a step: it may change something", checked.planned.tool);
                let failure = Failure::new(Kind::PolicyDenied, message).hint("let it only look");
                self.reject(step, failure).await?;
            }
            policy::Decision::Allow(call) => {
                if self.take_cached(&checked, &call).await? {
                    return Ok(true);
                }
                match self.prepared(&step, &tool).await {
                    None => return Ok(false),
                    Some(Err(failure)) => self.reject(step, failure).await?,
                    Some(Ok(())) => self.launch(*call, checked.planned.effect, reserve).await?,
                }
            }
        }
        Ok(true)
    }

    /// What the run gives the call. What takes back has its own time, and is not cut short by what the run has left.
    fn grant(&self, checked: &CheckedStep, reserve: Cost) -> RunGrant {
        match checked.planned.role {
            Role::Do | Role::Item { .. } => {
                RunGrant { wall_ms_left: Some(self.wall_ms_left()), cost_left: Some(reserve), ..self.unhurried() }
            }
            Role::Undo { .. } | Role::Reconcile { .. } => self.unhurried(),
        }
    }

    /// Has the step's tool made ready to run, and returns what came of it; `None` while it goes on. A first compilation
    /// has bounds of its own, and may take longer than a call: that is not the tool's fault, and no time of its call. A
    /// run that ends meanwhile does not wait for it.
    async fn prepared(&mut self, step: &StepId, tool: &VerifiedTool) -> Option<Result<(), Failure>> {
        if let Some(prepared) = self.preparing.get_mut(step) {
            let ended = prepared.take()?;
            self.preparing.remove(step);
            return Some(ended);
        }
        let (runner, tool) = (self.driver.parts.runner.clone(), tool.clone());
        let mut preparing = Box::pin(async move { runner.prepare(&tool).await });
        // Most tools are ready, and their steps start in the order in which they were decided.
        if let Poll::Ready(prepared) = poll_fn(|context| Poll::Ready(preparing.as_mut().poll(context))).await {
            return Some(prepared);
        }
        self.preparing.insert(step.clone(), None);
        let step = step.clone();
        self.tasks.spawn(async move { Done::Prepared { step, prepared: preparing.await } });
        None
    }

    pub(super) async fn ready(&mut self, checked: &CheckedStep) -> Result<ReadyStep, Failure> {
        let id = checked.planned.id.clone();
        let bug = || Failure::new(Kind::HostBug, format!("start `{id}`: it is not ready"));
        let step = self.run.step(&id).ok_or_else(bug)?;
        let (args_digest, key) = step.ready.ok_or_else(bug)?;
        let attempt = step.attempts + 1;
        let args = self.value(&args_digest).await?;
        Ok(ReadyStep {
            run: self.run.id.clone(),
            step: id,
            attempt,
            tool: checked.planned.tool.clone(),
            args: (*args).clone(),
            args_digest,
            key,
            timeout_ms: checked.timeout_ms,
            approval: checked.approval,
            is_tainted: checked.planned.is_tainted,
        })
    }

    /// Takes an earlier outcome of the same call, where there is one that may be taken. Only a call that is about to run for
    /// the first time looks: one that failed is not answered by what was there before.
    async fn take_cached(&mut self, checked: &CheckedStep, call: &Call) -> Result<bool, Failure> {
        let is_first =
            self.run.step(call.step()).is_some_and(|step| step.status == StepStatus::Ready && step.attempts == 0);
        let Some(age_ms_max) = cache_age(call.effect(), checked.cache_ttl_ms).filter(|_| is_first) else {
            return Ok(false);
        };
        let key = cache_key(call);
        self.cacheable.insert(call.step().clone(), key);
        let parts = &self.driver.parts;
        let Some(cached) = parts.log.cached(call.principal(), &key).await? else { return Ok(false) };
        let age_ms = parts.clock.now().ms_since(cached.at);
        let Ok(output) = serde_json::from_slice::<Json>(&cached.output) else { return Ok(false) };
        if age_ms > age_ms_max || call.tool().check_output(&output).is_err() {
            return Ok(false);
        }
        let stored = Payload::of(&output)?;
        let output = self.values.keep(&stored, output);
        let fact = Fact::StepCached { step: call.step().clone(), output, from: cached.run, age_ms };
        self.record(vec![fact], vec![stored], Durability::Queued).await?;
        Ok(true)
    }

    /// Starts a call whose start is in the log: durably, where it may change something.
    async fn launch(&mut self, call: Call, planned: Effect, reserved: Cost) -> Result<(), Failure> {
        let (step, attempt) = (call.step().clone(), call.attempt());
        let effect = planned.max(call.effect());
        let answers = self.answers_for(&step).await?;
        let is_own = self.run.step(&step).is_some_and(|step| is_own(&step.planned.role));
        if is_own {
            // What takes back, or asks, runs once all that was to be stopped has ended.
            self.stop.send_replace(false);
        }
        let fact = Fact::StepStarted {
            step: step.clone(),
            attempt,
            component: *call.tool().digest(),
            effect,
            rules: call.grant().rules.clone(),
            reserved,
            run: None,
        };
        let durability = if effect.is_write() { Durability::Synced } else { Durability::Queued };
        self.record(vec![fact], Vec::new(), durability).await?;
        if attempt == 1 {
            self.driver.parts.upstreams.called(&call);
        }
        let wires = Wires {
            owner: self.owner.clone(),
            writes: self.writes.0.clone(),
            signals: self.driver.signals.clone(),
            stop: self.stop.subscribe(),
            trace: self.run.trace,
        };
        let is_keyed = effect <= Effect::Idempotent;
        let link = Arc::new(LiveLink::new(&self.driver.parts, &call, wires, is_keyed, answers));
        let runner = self.driver.parts.runner.clone();
        self.tasks.spawn(async move {
            let mut outcome = runner.run(call, link.clone()).await;
            let host_calls = link.finish().await.unwrap_or_else(|failure| {
                outcome.result = Err(failure);
                None
            });
            Done::Call { step, attempt, outcome, host_calls }
        });
        Ok(())
    }

    /// Notes that a call is about to change something for the first time.
    pub(super) async fn begin_write(&mut self, request: WriteRequest) -> Result<(), Failure> {
        let may_write = self.run.step(&request.step).is_some_and(|step| {
            let is_stopped = self.run.cancelled.is_some() && step.planned.role.undoes().is_none();
            step.status.is_running() && step.attempts == request.attempt && !is_stopped
        });
        if !may_write {
            // The call has ended meanwhile, or is being stopped: it is not to write any more.
            let late = Failure::new(Kind::HostCancelled, "begin a write: the call has ended, or was stopped");
            let _ = request.written.send(Err(late));
            return Ok(());
        }
        let fact = Fact::WriteBegun { step: request.step, attempt: request.attempt };
        // The link makes it durable, with what it writes itself.
        let written = self.record(vec![fact], Vec::new(), Durability::Queued).await;
        // The call may be gone by now; its end tells.
        let _ = request.written.send(written.clone());
        written
    }

    pub(super) async fn call_ended(
        &mut self,
        step: StepId,
        attempt: u32,
        outcome: Outcome,
        host_calls: Option<Digest>,
    ) -> Result<(), Failure> {
        let planned = self.run.step(&step).map(|step| step.planned.clone());
        let bug = || Failure::new(Kind::HostBug, format!("end `{step}`: it is not in the run"));
        let planned = planned.ok_or_else(bug)?;
        let retry = self.retry(&step, attempt, &outcome);
        let cost = Cost {
            calls: 1,
            turns: 0,
            fuel: outcome.usage.fuel,
            bytes: outcome.usage.output_bytes.saturating_add(outcome.usage.egress_bytes),
            usd_micros: planned.cost.usd_micros,
            tokens: 0,
            parallel: 0,
        };
        let checked = match self.tool(&planned.tool) {
            Ok(tool) => outcome.result.and_then(|output| tool.check_output(&output).map(|()| output)),
            Err(_) => outcome.result,
        };
        let (end, stored) = match checked {
            Ok(output) => {
                let stored = Payload::of(&output)?;
                self.keep_cached(&step, &stored).await?;
                let output = self.values.keep(&stored, output);
                (StepEnd::Succeeded { output }, stored)
            }
            Err(failure) => {
                let stored = Payload::of(&failure)?;
                (StepEnd::Failed { kind: failure.kind, failure: stored.digest() }, stored)
            }
        };
        let log = (!outcome.log.is_empty()).then(|| Payload::of(&outcome.log)).transpose()?;
        let denials = (!outcome.denials.is_empty()).then(|| Payload::of(&outcome.denials)).transpose()?;
        let is_write = self.run.step(&step).is_some_and(|step| step.is_write()) || outcome.has_written;
        let fact = Fact::StepEnded {
            step,
            attempt,
            end,
            usage: outcome.usage,
            cost,
            log: log.as_ref().map(Payload::digest),
            denials: denials.as_ref().map(Payload::digest),
            has_written: outcome.has_written,
            has_open_write: outcome.has_open_write,
            host_calls,
            retry,
            has_caveats: false,
            within: None,
        };
        let durability = if is_write { Durability::Synced } else { Durability::Queued };
        let payloads = [Some(stored), log, denials].into_iter().flatten().collect();
        self.record(vec![fact], payloads, durability).await
    }

    /// When the call is tried again, if it may be: the wait is drawn from run, step and attempt, so that a log tells it.
    fn retry(&self, id: &StepId, attempt: u32, outcome: &Outcome) -> Option<Timestamp> {
        let step = self.run.step(id)?;
        let failure = outcome.result.as_ref().err()?;
        let upstream = outcome.upstream.as_ref();
        let failed = Failed {
            kind: failure.kind,
            effect: step.effect,
            has_written: step.doubt.has_written() || outcome.has_written,
            attempt: step.attempts_counted(),
            retry_after_ms: upstream.and_then(|upstream| upstream.retry_after_ms),
        };
        let rule = &step.planned.retry;
        if (self.run.cancelled.is_some() && !is_own(&step.planned.role)) || !retry::may_retry(&failed, rule) {
            return None;
        }
        let upstreams = &self.driver.parts.upstreams;
        let server = upstream.map(|upstream| upstream.upstream.as_str());
        if !upstreams.may_retry(&self.run.principal, &step.planned.tool, server) {
            return None;
        }
        let seed = Digest::of_parts(&[self.run.id.as_str().as_bytes(), id.as_str().as_bytes(), &attempt.to_le_bytes()]);
        let draw = seed.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let now = self.driver.parts.clock.now();
        let due = retry::due(&failed, rule, now, draw);
        let open = server.and_then(|server| upstreams.open_until(&self.run.principal, &step.planned.tool, server, now));
        Some(open.map_or(due, |until| due.max(until)))
    }

    async fn keep_cached(&mut self, id: &StepId, output: &Payload) -> Result<(), Failure> {
        // Known where the cache was looked into before the call: another attempt is as good.
        let Some(key) = self.cacheable.remove(id) else { return Ok(()) };
        let parts = &self.driver.parts;
        let outcome =
            CachedOutcome { output: output.bytes().to_vec(), run: self.run.id.clone(), at: parts.clock.now() };
        parts.log.keep_cached(&self.run.principal, &key, outcome).await
    }
}

/// Whether the host itself wants the call.
fn is_own(role: &Role) -> bool {
    matches!(role, Role::Undo { .. } | Role::Reconcile { .. })
}

fn is_asking(checked: &CheckedStep) -> bool {
    matches!(checked.planned.role, Role::Reconcile { .. })
}

/// How old an outcome may be that is taken in place of a call: any age where the call depends on its arguments alone.
fn cache_age(effect: Effect, ttl_ms: Option<u64>) -> Option<u64> {
    match effect {
        Effect::Pure => Some(u64::MAX),
        Effect::Read => ttl_ms,
        Effect::Idempotent | Effect::Reversible | Effect::Once => None,
    }
}

/// A new build of a component, another function or other arguments: another key. So is another grant of a call that looks
/// at the world: the same path may be another place. What a call may use is not part of it.
fn cache_key(call: &Call) -> Digest {
    let grant = Grant { limits: Limits::default(), rules: Vec::new(), ..call.grant().clone() };
    let grant = serde_json::to_value(grant).unwrap_or_default();
    let tool = call.tool();
    Digest::of_parts(&[
        b"outcome",
        tool.digest().as_bytes(),
        tool.name().to_string().as_bytes(),
        call.args_digest().as_bytes(),
        Digest::of_json(&grant).as_bytes(),
    ])
}
