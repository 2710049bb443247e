//! Performs what a run wants done, and records what it brought: the one loop with effects.
//!
//! Every event is in the log before the effect that it announces and after the one that it reports; it is durable before
//! anything above `read` starts and before its outcome is told. One process drives a run at a time. Others leave
//! messages, which this loop makes events.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::domain::{
    Budget, Caveat, Decision, Digest, Direction, Effect, Event, Fact, Failure, Json, Kind, Mount, Outcome, PlanLimits,
    Principal, ReadyStep, RunEnd, RunId, Settlement, SkipReason, StepEnd, StepId, Suspension, ToolName,
    idempotency_key, references, resolved,
};
use crate::orchestrator::check::{CheckedPlan, CheckedStep, Earlier, Known, check, check_answer};
use crate::orchestrator::link::{LiveLink, WriteRequest};
use crate::orchestrator::machine::{Command, Ending, Run, RunStatus, StepStatus};
use crate::orchestrator::recover::recover;
use crate::orchestrator::{context, schedule::lost};
use crate::planner::{Allowance, ContextPack, Planned, Planner, Proposal, Repair};
use crate::policy::{self, Approval, Call, Policy, RunGrant, authorize};
use crate::registry::{Catalog, VerifiedTool};
use crate::sandbox::Runner;
use crate::store::{Batch, Choice, Durability, EventLog, Message, Ownership, Payload, Settle};

/// How often the inbox is looked at, when nothing else happens: a person does not notice.
const INBOX_POLL: Duration = Duration::from_millis(100);

/// Signals that may wait for a slow reader; older ones are lost to it, and stand in the log.
pub const SIGNALS_MAX: usize = 1_024;

/// Calls that may wait at one time for their write to be recorded.
const WRITE_REQUESTS_MAX: usize = 64;

/// The longest request to a planner, in milliseconds: large models take their time.
const PLANNER_WALL_MS_MAX: u64 = 120_000;

/// Tokens of one reply: a plan of many steps fits.
const REPLY_TOKENS_MAX: u32 = 8_192;

/// Bytes of a refused reply that the planner sees again.
const REPAIR_REPLY_BYTES_MAX: usize = 16 << 10;

/// What a driver works with. One set serves all runs of a host.
#[derive(Clone)]
pub struct Parts {
    pub log: Arc<dyn EventLog>,
    pub runner: Arc<dyn Runner>,
    pub catalog: Arc<Catalog>,
    pub policy: Arc<Policy>,
    pub clock: Arc<dyn Clock>,
    pub plan_limits: PlanLimits,
    /// Names this process to others that want its runs.
    pub owner: String,
}

/// What a person asked. Kept as a payload, so that another process can go on with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    pub text: String,
    /// A workflow file's content, where the plan comes from one.
    pub workflow: Option<Json>,
}

/// How long a run waits for a person before its process leaves it suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Never,
    Ms(u64),
    Forever,
}

/// Approvals that were given before the run began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approve {
    Ask,
    All {
        by: String,
    },
    /// Names of steps, as the plan has them.
    Steps {
        steps: Vec<String>,
        by: String,
    },
}

impl Approve {
    fn by(&self, step: &StepId) -> Option<&String> {
        match self {
            Self::Ask => None,
            Self::All { by } => Some(by),
            Self::Steps { steps, by } => {
                steps.iter().any(|name| name == step.local() || name == step.as_str()).then_some(by)
            }
        }
    }
}

/// What happens in a run, for whoever watches.
#[derive(Clone, Debug, PartialEq)]
pub enum Signal {
    /// It is in the log already.
    Event(Box<Event>),
    Progress {
        step: StepId,
        fraction: Option<f64>,
        message: String,
    },
    ApprovalWanted(ApprovalView),
}

/// What a person is asked to approve. `args` come from a planner, `mounts`, `effect` and `rule` from the host.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ApprovalView {
    pub step: StepId,
    pub tool: ToolName,
    pub args: Json,
    pub effect: Effect,
    pub rule: String,
    pub binding: Digest,
    pub mounts: Vec<Mount>,
}

/// Drives runs.
pub struct Driver {
    pub parts: Parts,
    pub planner: Arc<dyn Planner>,
    pub wait: Wait,
    pub approve: Approve,
    pub signals: broadcast::Sender<Signal>,
}

impl Driver {
    /// Creates a run and drives it until it ends or waits for a person.
    ///
    /// # Errors
    /// The log could not be written. The run is then as its log tells.
    pub async fn start(self, run: RunId, goal: &Goal, principal: Principal, budget: Budget) -> Result<Run, Failure> {
        let parts = &self.parts;
        let owner = parts.log.create(&run, &principal, &parts.owner, parts.clock.now()).await?;
        let goal = Payload::of(goal)?;
        let fact = Fact::RunCreated {
            principal,
            goal: goal.digest(),
            planner: self.planner.name(),
            policy: parts.policy.digest(),
            toolset: parts.catalog.digest(),
            budget,
            is_single_plan: self.planner.is_single_plan(),
            parent: None,
        };
        let batch =
            Batch { after: (0, crate::domain::GENESIS), facts: vec![(parts.clock.now(), fact)], payloads: vec![goal] };
        let events = parts.log.append(&*owner, batch, Durability::Synced).await?;
        let run = Run::of(&events).map_err(parted)?;
        for event in events {
            let _ = self.signals.send(Signal::Event(Box::new(event)));
        }
        Drive::new(self, owner, run).go().await
    }

    /// Takes a run that no living process owns, and drives it on.
    ///
    /// # Errors
    /// `host.owned`, naming the owner; `data.not_found`; `data.conflict` where the run has ended or the tools are not those it
    /// began with; what [`Driver::start`] returns.
    pub async fn resume(self, run: &RunId) -> Result<Run, Failure> {
        let owner = self.parts.log.own(run, &self.parts.owner).await?;
        let run = Run::of(&self.parts.log.read(run, 0).await?).map_err(parted)?;
        if let RunStatus::Ended(_) = run.status {
            return Err(Failure::new(Kind::DataConflict, format!("resume run `{}`: it has ended", run.id))
                .hint("look at it with `show`"));
        }
        if run.toolset != self.parts.catalog.digest() {
            let message = format!("resume run `{}`: the tools are not those that it began with", run.id);
            return Err(
                Failure::new(Kind::DataConflict, message).hint("put the same components back, or start the goal anew")
            );
        }
        let mut drive = Drive::new(self, owner, run);
        drive.claim().await?;
        drive.ask_again().await?;
        drive.go().await
    }
}

/// A run under way in this process.
struct Drive {
    driver: Driver,
    owner: Box<dyn Ownership>,
    run: Run,
    plans: HashMap<StepId, CheckedStep>,
    answers: HashMap<u32, Option<Json>>,
    /// Arguments and outputs that were read or made here, by digest.
    values: HashMap<Digest, Arc<Json>>,
    tasks: JoinSet<Done>,
    /// Steps whose tools are made ready to run, and what came of it once that has ended.
    preparing: HashMap<StepId, Option<Result<(), Failure>>>,
    is_planning: bool,
    writes: (mpsc::Sender<WriteRequest>, mpsc::Receiver<WriteRequest>),
    stop: watch::Sender<bool>,
    /// Monotonic milliseconds since when the run waits for a person.
    waits_since_ms: Option<u64>,
    /// Monotonic milliseconds of the last look into the inbox; `None` to look at once.
    looked_ms: Option<u64>,
}

/// Something that was under way has ended.
enum Done {
    Call { step: StepId, attempt: u32, effect: Effect, outcome: Outcome },
    Planned { turn: u32, planned: Planned },
    Prepared { step: StepId, prepared: Result<(), Failure> },
}

fn parted(error: crate::orchestrator::machine::IllegalTransition) -> Failure {
    Failure::new(Kind::HostStorage, format!("fold the run's events: {error}")).hint("look for the place with `verify`")
}

impl Drive {
    fn new(driver: Driver, owner: Box<dyn Ownership>, run: Run) -> Self {
        Self {
            driver,
            owner,
            run,
            plans: HashMap::new(),
            answers: HashMap::new(),
            values: HashMap::new(),
            tasks: JoinSet::new(),
            preparing: HashMap::new(),
            is_planning: false,
            writes: mpsc::channel(WRITE_REQUESTS_MAX),
            stop: watch::Sender::new(false),
            waits_since_ms: None,
            looked_ms: None,
        }
    }

    /// Notes that this process has the run now, and what became of the calls of the one before.
    async fn claim(&mut self) -> Result<(), Failure> {
        let parts = &self.driver.parts;
        let mut facts = vec![Fact::RunClaimed { owner: parts.owner.clone(), policy: parts.policy.digest() }];
        facts.extend(recover(&self.run));
        self.record(facts, Vec::new(), Durability::Synced).await
    }

    /// Decides, then acts, until the run ends or is left to a person.
    async fn go(mut self) -> Result<Run, Failure> {
        loop {
            self.receive().await?;
            let mut has_moved = false;
            for command in self.run.next(self.driver.parts.clock.now()) {
                has_moved |= self.perform(command).await?;
                if lost(&self.run).is_some() {
                    // What else was decided before is not to start any more.
                    break;
                }
            }
            if let RunStatus::Ended(_) = self.run.status {
                return Ok(self.run);
            }
            if !has_moved && !self.wait().await? {
                return Ok(self.run);
            }
        }
    }

    /// Performs one command; false where it only waits for something under way.
    async fn perform(&mut self, command: Command) -> Result<bool, Failure> {
        match command {
            Command::Plan { .. } if self.is_planning => return Ok(false),
            Command::StopCalls => {
                self.stop.send_replace(true);
                return Ok(false);
            }
            Command::Plan { turn } => self.ask_planner(turn).await?,
            Command::Prepare { step } => self.prepare(step).await?,
            Command::Start { step } => return self.start_step(step).await,
            Command::Skip { step, because } => {
                self.note(Fact::StepSkipped { step, why: SkipReason::Needs { step: because } }).await?
            }
            Command::Answer { turn } => self.answer_plan(turn).await?,
            Command::Suspend { why } => {
                self.record(vec![Fact::RunSuspended { why }], Vec::new(), Durability::Synced).await?
            }
            Command::End { ending, caveats } => self.end(ending, caveats).await?,
        }
        Ok(true)
    }

    /// Appends to the log, then applies: state is never ahead of its events.
    async fn record(
        &mut self,
        facts: Vec<Fact>,
        payloads: Vec<Payload>,
        durability: Durability,
    ) -> Result<(), Failure> {
        let at = self.driver.parts.clock.now();
        self.run.allows(at, &facts).map_err(|e| Failure::new(Kind::HostBug, format!("record what happened: {e}")))?;
        let batch = Batch { after: self.run.last, facts: facts.into_iter().map(|fact| (at, fact)).collect(), payloads };
        let events = self.driver.parts.log.append(&*self.owner, batch, durability).await?;
        for event in events {
            self.run.apply(&event).map_err(parted)?;
            // Nobody listens: nobody minds.
            let _ = self.driver.signals.send(Signal::Event(Box::new(event)));
        }
        Ok(())
    }

    async fn note(&mut self, fact: Fact) -> Result<(), Failure> {
        self.record(vec![fact], Vec::new(), Durability::Queued).await
    }

    /// Waits until something happens; false where nothing will without a person, and nobody is to wait for one.
    async fn wait(&mut self) -> Result<bool, Failure> {
        if matches!(self.run.status, RunStatus::Suspended(_)) && self.tasks.is_empty() && !self.waits_for_person() {
            return Ok(false);
        }
        tokio::select! {
            Some(request) = self.writes.1.recv() => self.begin_write(request).await?,
            Some(done) = self.tasks.join_next() => match done {
                Ok(Done::Call { step, attempt, effect, outcome }) => self.call_ended(step, attempt, effect, outcome).await?,
                Ok(Done::Planned { turn, planned }) => self.planned(turn, planned).await?,
                Ok(Done::Prepared { step, prepared }) => drop(self.preparing.insert(step, Some(prepared))),
                Err(error) => return Err(Failure::new(Kind::HostBug, "run a task of the run").detail(error)),
            },
            _ = tokio::time::timeout(INBOX_POLL, std::future::pending::<()>()) => self.looked_ms = None,
        }
        Ok(true)
    }

    fn waits_for_person(&mut self) -> bool {
        let now = self.driver.parts.clock.monotonic_ms();
        let since = *self.waits_since_ms.get_or_insert(now);
        match self.driver.wait {
            Wait::Never => false,
            Wait::Ms(ms) => now.saturating_sub(since) < ms,
            Wait::Forever => true,
        }
    }

    // Messages of other processes.

    /// Looks into the inbox, at most as often as [`INBOX_POLL`]: each look waits for all that was appended before.
    async fn receive(&mut self) -> Result<(), Failure> {
        let now = self.driver.parts.clock.monotonic_ms();
        if self.looked_ms.is_some_and(|looked| u128::from(now.saturating_sub(looked)) < INBOX_POLL.as_millis()) {
            return Ok(());
        }
        self.looked_ms = Some(now);
        let received = self.driver.parts.log.inbox(&self.run.id).await?;
        if received.is_empty() {
            return Ok(());
        }
        let ids: Vec<u64> = received.iter().map(|received| received.id).collect();
        for message in received {
            self.take(message.message).await?;
        }
        self.waits_since_ms = None;
        // Taken twice after a crash in between, a message finds nothing left to decide.
        self.driver.parts.log.received(&*self.owner, &ids).await
    }

    async fn take(&mut self, message: Message) -> Result<(), Failure> {
        match message {
            Message::Decide { step, binding, choice, by, reason } => {
                let decision = if choice == Choice::Approve { Decision::Approve } else { Decision::Reject };
                self.decide(step, binding, decision, by, reason).await
            }
            Message::Settle { step, settle, by } => self.settle(step, settle, by).await,
            Message::Answer { turn, text, by } => {
                let is_open =
                    self.run.status == RunStatus::Suspended(Suspension::Question) && turn == self.run.planning.turn;
                if !is_open {
                    return Ok(());
                }
                let text = Payload::of(&text)?;
                let fact = Fact::QuestionAnswered { turn, text: text.digest(), by };
                self.record(vec![fact], vec![text], Durability::Synced).await
            }
            Message::Cancel { by, undo } if self.run.cancelled_by.is_none() => {
                self.record(vec![Fact::CancelRequested { by, undo }], Vec::new(), Durability::Synced).await
            }
            Message::Cancel { .. } => Ok(()),
        }
    }

    /// Takes a decision about exactly the call that waits; any other is stale or forged, and changes nothing.
    async fn decide(
        &mut self,
        step: StepId,
        binding: Digest,
        decision: Decision,
        by: String,
        reason: Option<String>,
    ) -> Result<(), Failure> {
        let waits = self.run.step(&step).is_some_and(|s| s.status == StepStatus::AwaitingApproval { binding });
        if !waits {
            tracing::warn!(run = %self.run.id, %step, %by, "a decision about a call that does not wait for one was dropped");
            return Ok(());
        }
        let reason_payload = reason.as_ref().map(Payload::of).transpose()?;
        let mut payloads: Vec<Payload> = reason_payload.iter().cloned().collect();
        let mut facts = vec![Fact::ApprovalDecided {
            step: step.clone(),
            binding,
            decision: decision.clone(),
            by: by.clone(),
            reason: reason_payload.map(|payload| payload.digest()),
        }];
        if decision == Decision::Reject {
            let text = format!(
                "call `{step}`: {by} rejected it{}",
                reason.map_or_else(String::new, |reason| format!(": {reason}"))
            );
            let failure = Payload::of(&Failure::new(Kind::PolicyRejected, text))?;
            facts.push(Fact::StepRejected { step, kind: Kind::PolicyRejected, failure: failure.digest() });
            payloads.push(failure);
        }
        self.record(facts, payloads, Durability::Synced).await
    }

    async fn settle(&mut self, step: StepId, settle: Settle, by: String) -> Result<(), Failure> {
        if self.run.step(&step).is_none_or(|s| s.status != StepStatus::Unknown) {
            tracing::warn!(run = %self.run.id, %step, %by, "a settlement of a step that is not unknown was dropped");
            return Ok(());
        }
        let (settlement, payloads) = match settle {
            Settle::Retry => (Settlement::Retry, Vec::new()),
            Settle::Failed => {
                let failure = Payload::of(&Failure::new(
                    Kind::HostInterrupted,
                    format!("finish `{step}`: {by} says that it did not happen"),
                ))?;
                (Settlement::Failed { failure: failure.digest() }, vec![failure])
            }
            Settle::Done { output } => {
                let output = Payload::new(output.into_bytes());
                (Settlement::Done { output: output.digest() }, vec![output])
            }
        };
        self.record(vec![Fact::StepSettled { step, settlement, by }], payloads, Durability::Synced).await
    }

    // Planning.

    async fn ask_planner(&mut self, turn: u32) -> Result<(), Failure> {
        let pack = self.pack(turn).await?;
        let stored = Payload::of(&pack)?;
        self.record(vec![Fact::PlanRequested { turn, pack: stored.digest() }], vec![stored], Durability::Synced)
            .await?;
        let allowance =
            Allowance { wall_ms_max: self.wall_ms_left().min(PLANNER_WALL_MS_MAX), reply_tokens_max: REPLY_TOKENS_MAX };
        let planner = self.driver.planner.clone();
        self.is_planning = true;
        self.tasks.spawn(async move { Done::Planned { turn, planned: planner.plan(&pack, &allowance).await } });
        Ok(())
    }

    async fn pack(&mut self, turn: u32) -> Result<ContextPack, Failure> {
        let goal: Goal = self.stored(&self.run.goal.clone()).await?;
        let mut observations = Vec::new();
        for step in context::finished(&self.run).cloned().collect::<Vec<_>>() {
            let (output, failure) = match step.status {
                StepStatus::Succeeded { output } => (Some(self.value(&output).await?), None),
                StepStatus::Failed { failure, .. } | StepStatus::Rejected { failure, .. } => {
                    (None, Some(self.stored::<Failure>(&failure).await?))
                }
                _ => (None, None),
            };
            observations.extend(context::observation(&step, output.as_deref(), failure.as_ref()));
        }
        let mut answers = Vec::new();
        for digest in self.run.answers.clone() {
            answers.push(self.stored(&digest).await?);
        }
        let tools = context::offered(&self.driver.parts.catalog, &self.driver.parts.policy);
        Ok(ContextPack { goal: goal.text, turn, tools, observations, repair: self.repair().await?, answers })
    }

    async fn repair(&mut self) -> Result<Option<Repair>, Failure> {
        let Some((reply, failures)) = self.run.planning.refused else { return Ok(None) };
        let failures: Vec<Failure> = self.stored(&failures).await?;
        let reply = self.bytes(&reply).await?;
        let reply = String::from_utf8_lossy(&reply[..reply.len().min(REPAIR_REPLY_BYTES_MAX)]).into_owned();
        Ok(Some(Repair { reply, failures: failures.into_iter().map(|failure| failure.to_string()).collect() }))
    }

    async fn planned(&mut self, turn: u32, planned: Planned) -> Result<(), Failure> {
        self.is_planning = false;
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
            Ok(Proposal::Question(text)) => {
                let question = Payload::of(&text)?;
                let fact = Fact::Asked { turn, reply: reply.digest(), question: question.digest() };
                self.record(vec![fact], vec![reply, question], Durability::Synced).await
            }
            Err(failure) if is_repairable(failure.kind) => self.refuse(turn, reply, vec![failure]).await,
            Err(failure) => self.planner_failed(turn, failure).await,
        }
    }

    fn known<T>(&self, use_it: impl FnOnce(&Known<'_>) -> T) -> T {
        let parts = &self.driver.parts;
        let budget = &self.run.budget;
        let left = Budget { calls_max: budget.calls_max.saturating_sub(self.run.calls), ..budget.clone() };
        let about = |tool: &VerifiedTool| policy::about(&parts.policy, tool);
        let is_list = |id: &StepId| self.run.step(id).is_some_and(|step| step.planned.items.is_some());
        let earlier: BTreeMap<StepId, Earlier> = self
            .run
            .succeeded()
            .into_iter()
            .map(|(id, tool)| (id.clone(), Earlier { tool, is_list: is_list(&id) }))
            .collect();
        use_it(&Known {
            catalog: &parts.catalog,
            earlier: &earlier,
            about: &about,
            limits: &parts.plan_limits,
            budget: &left,
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
            has_assertions: false,
        };
        self.remember(turn, plan);
        self.record(vec![fact], vec![reply, stored], Durability::Synced).await
    }

    fn remember(&mut self, turn: u32, plan: CheckedPlan) {
        self.plans.extend(plan.steps.into_iter().map(|step| (step.planned.id.clone(), step)));
        self.answers.insert(turn, plan.answer);
    }

    /// Refuses a reply. A workflow file would say the same again, so for it that is the end.
    async fn refuse(&mut self, turn: u32, reply: Payload, failures: Vec<Failure>) -> Result<(), Failure> {
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

    /// Resolves the answer that a plan declares.
    async fn answer_plan(&mut self, turn: u32) -> Result<(), Failure> {
        self.load_plans().await?;
        let plan = self.run.plans.iter().find(|(t, _)| *t == turn).map_or(self.run.goal, |(_, plan)| *plan);
        let answer = self.answers.get(&turn).cloned().flatten().unwrap_or(Json::Null);
        match self.resolve(&answer).await? {
            Ok(value) => {
                let answer = Payload::of(&value)?;
                let fact = Fact::Answered { turn, reply: plan, answer: answer.digest() };
                self.record(vec![fact], vec![answer], Durability::Synced).await
            }
            Err(failure) => {
                let stored = Payload::of(&failure)?;
                let end = RunEnd::Failed { kind: failure.kind, failure: stored.digest() };
                self.record(vec![Fact::RunEnded { end, caveats: Vec::new() }], vec![stored], Durability::Synced).await
            }
        }
    }

    // Steps.

    async fn prepare(&mut self, step: StepId) -> Result<(), Failure> {
        let checked = self.checked(&step).await?;
        let tool = self.tool(&checked.planned.tool)?;
        let args = match self.resolve(&checked.args).await? {
            Ok(args) => args,
            Err(failure) => return self.reject(step, failure).await,
        };
        if let Err(failure) = tool.check_input(&args) {
            return self.reject(step, failure).await;
        }
        let key = idempotency_key(&self.run.id, &step, Direction::Do, &checked.planned.tool, &args);
        let stored = Payload::of(&args)?;
        let digest = stored.digest();
        self.values.insert(digest, Arc::new(args));
        self.record(vec![Fact::StepReady { step, args: digest, key }], vec![stored], Durability::Queued).await
    }

    async fn reject(&mut self, step: StepId, failure: Failure) -> Result<(), Failure> {
        let stored = Payload::of(&failure)?;
        let fact = Fact::StepRejected { step, kind: failure.kind, failure: stored.digest() };
        self.record(vec![fact], vec![stored], Durability::Queued).await
    }

    /// Starts the step's call, or has a person asked; false where its tool is not ready to run yet.
    async fn start_step(&mut self, step: StepId) -> Result<bool, Failure> {
        let checked = self.checked(&step).await?;
        let tool = self.tool(&checked.planned.tool)?;
        let ready = self.ready(&checked).await?;
        let approved = self.run.step(&step).and_then(|step| step.approved.clone());
        let approval = approved.map(|(binding, by)| Approval { binding, by });
        let grant = RunGrant {
            principal: self.run.principal.clone(),
            wall_ms_left: Some(self.wall_ms_left()),
            cost_left: None,
        };
        match authorize(&self.driver.parts.policy, &grant, &ready, &tool, approval.as_ref()) {
            policy::Decision::Deny(failure) => self.reject(step, failure).await?,
            policy::Decision::Ask { binding, effect, rule } => {
                self.ask_person(&ready, &tool, binding, effect, rule).await?
            }
            policy::Decision::Allow(call) => match self.prepared(&step, &tool).await {
                None => return Ok(false),
                Some(Err(failure)) => self.reject(step, failure).await?,
                Some(Ok(())) => self.launch(*call, checked.planned.effect).await?,
            },
        }
        Ok(true)
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

    async fn ready(&mut self, checked: &CheckedStep) -> Result<ReadyStep, Failure> {
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
        })
    }

    /// Asks again, after another process asked and left: whoever watches this one was not there.
    async fn ask_again(&mut self) -> Result<(), Failure> {
        let waits = self.run.in_order().filter(|step| matches!(step.status, StepStatus::AwaitingApproval { .. }));
        for step in waits.map(|step| step.planned.id.clone()).collect::<Vec<_>>() {
            let checked = self.checked(&step).await?;
            let tool = self.tool(&checked.planned.tool)?;
            let ready = self.ready(&checked).await?;
            let grant = RunGrant { principal: self.run.principal.clone(), wall_ms_left: None, cost_left: None };
            let decision = authorize(&self.driver.parts.policy, &grant, &ready, &tool, None);
            if let policy::Decision::Ask { binding, effect, rule } = decision {
                self.ask_person(&ready, &tool, binding, effect, rule).await?;
            }
        }
        Ok(())
    }

    async fn ask_person(
        &mut self,
        ready: &ReadyStep,
        tool: &VerifiedTool,
        binding: Digest,
        effect: Effect,
        rule: String,
    ) -> Result<(), Failure> {
        let step = ready.step.clone();
        let mut facts = vec![Fact::ApprovalRequested {
            step: step.clone(),
            binding,
            effect,
            rule: rule.clone(),
            expires: crate::domain::Timestamp(u64::MAX),
        }];
        let before = self.driver.approve.by(&step).cloned();
        if let Some(by) = &before {
            let decided = Fact::ApprovalDecided {
                step: step.clone(),
                binding,
                decision: Decision::Approve,
                by: by.clone(),
                reason: None,
            };
            facts.push(decided);
        }
        self.record(facts, Vec::new(), Durability::Synced).await?;
        if before.is_none() {
            let mounts = policy::mounts(&self.driver.parts.policy, tool);
            let view = ApprovalView {
                step,
                tool: ready.tool.clone(),
                args: ready.args.clone(),
                effect,
                rule,
                binding,
                mounts,
            };
            let _ = self.driver.signals.send(Signal::ApprovalWanted(view));
        }
        Ok(())
    }

    /// Starts a call whose start is in the log: durably, where it may change something.
    async fn launch(&mut self, call: Call, planned: Effect) -> Result<(), Failure> {
        let (step, attempt) = (call.step().clone(), call.attempt());
        let effect = planned.max(call.effect());
        let fact = Fact::StepStarted {
            step: step.clone(),
            attempt,
            component: *call.tool().digest(),
            effect,
            rules: call.grant().rules.clone(),
            reserved: crate::domain::Cost::default(),
            run: None,
        };
        let durability = if effect.is_write() { Durability::Synced } else { Durability::Queued };
        self.record(vec![fact], Vec::new(), durability).await?;
        let link = LiveLink {
            step: step.clone(),
            attempt,
            writes: self.writes.0.clone(),
            signals: self.driver.signals.clone(),
            stop: self.stop.subscribe(),
        };
        let runner = self.driver.parts.runner.clone();
        self.tasks.spawn(async move {
            let outcome = runner.run(call, Arc::new(link)).await;
            Done::Call { step, attempt, effect, outcome }
        });
        Ok(())
    }

    async fn begin_write(&mut self, request: WriteRequest) -> Result<(), Failure> {
        let status = self.run.step(&request.step).map(|step| (&step.status, step.attempts));
        if !matches!(status, Some((StepStatus::Running { .. }, attempts)) if attempts == request.attempt) {
            // The call has ended meanwhile: it is not to write any more.
            let late = Failure::new(Kind::HostCancelled, "begin a write: the call has ended");
            let _ = request.written.send(Err(late));
            return Ok(());
        }
        let fact = Fact::WriteBegun { step: request.step, attempt: request.attempt };
        let written = self.record(vec![fact], Vec::new(), Durability::Synced).await;
        // The call may be gone by now; its end tells.
        let _ = request.written.send(written.clone());
        written
    }

    async fn call_ended(
        &mut self,
        step: StepId,
        attempt: u32,
        effect: Effect,
        outcome: Outcome,
    ) -> Result<(), Failure> {
        let tool = self.run.step(&step).map(|step| step.planned.tool.clone());
        let checked = match tool.map(|tool| self.tool(&tool)) {
            Some(Ok(tool)) => outcome.result.and_then(|output| tool.check_output(&output).map(|()| output)),
            _ => outcome.result,
        };
        let (end, stored) = match checked {
            Ok(output) => {
                let stored = Payload::of(&output)?;
                self.values.insert(stored.digest(), Arc::new(output));
                (StepEnd::Succeeded { output: stored.digest() }, stored)
            }
            Err(failure) => {
                let stored = Payload::of(&failure)?;
                (StepEnd::Failed { kind: failure.kind, failure: stored.digest() }, stored)
            }
        };
        let log = (!outcome.log.is_empty()).then(|| Payload::of(&outcome.log)).transpose()?;
        let denials = (!outcome.denials.is_empty()).then(|| Payload::of(&outcome.denials)).transpose()?;
        let fact = Fact::StepEnded {
            step,
            attempt,
            end,
            usage: outcome.usage,
            log: log.as_ref().map(Payload::digest),
            denials: denials.as_ref().map(Payload::digest),
            has_written: outcome.has_written,
            cost: crate::domain::Cost::default(),
            host_calls: None,
            retry: None,
        };
        let durability = if effect.is_write() || outcome.has_written { Durability::Synced } else { Durability::Queued };
        let payloads = [Some(stored), log, denials].into_iter().flatten().collect();
        self.record(vec![fact], payloads, durability).await
    }

    // The end.

    async fn end(&mut self, ending: Ending, caveats: Vec<Caveat>) -> Result<(), Failure> {
        let budget = |what: &str| {
            Failure::new(Kind::PolicyBudget, format!("finish the run: `{what}` of its budget is used up"))
                .hint(format!("raise `{what}` under [budget] in cofferdam.toml, or ask for less"))
        };
        let (end, stored) = match ending {
            Ending::Succeeded { answer } => (RunEnd::Succeeded { answer }, None),
            Ending::StepFailed { kind, failure, .. } | Ending::PlannerFailed { kind, failure } => {
                (RunEnd::Failed { kind, failure }, None)
            }
            Ending::PlansRefused { failures } => {
                let failures: Vec<Failure> = self.stored(&failures).await?;
                let failure = joined(failures);
                let stored = Payload::of(&failure)?;
                (RunEnd::Failed { kind: failure.kind, failure: stored.digest() }, Some(stored))
            }
            Ending::Budget { what } => {
                let stored = Payload::of(&budget(what))?;
                (RunEnd::BudgetExhausted { failure: stored.digest() }, Some(stored))
            }
            Ending::Cancelled { by } => (RunEnd::Cancelled { by }, None),
            Ending::Stalled => {
                let failure = Failure::new(Kind::HostBug, "finish the run: steps are left that can never start");
                let stored = Payload::of(&failure)?;
                (RunEnd::Failed { kind: failure.kind, failure: stored.digest() }, Some(stored))
            }
        };
        self.record(vec![Fact::RunEnded { end, caveats }], stored.into_iter().collect(), Durability::Synced).await
    }

    // What is stored.

    fn wall_ms_left(&self) -> u64 {
        let used = self.driver.parts.clock.now().ms_since(self.run.since);
        self.run.budget.wall_ms_max.saturating_sub(used)
    }

    fn tool(&self, name: &ToolName) -> Result<VerifiedTool, Failure> {
        let catalog = &self.driver.parts.catalog;
        if let Some(why) = catalog.why_withheld(name) {
            return Err(why.clone());
        }
        catalog.tool(name).cloned().ok_or_else(|| {
            Failure::new(Kind::DataNotFound, format!("find tool `{name}`")).hint("put its component back")
        })
    }

    async fn checked(&mut self, step: &StepId) -> Result<CheckedStep, Failure> {
        if !self.plans.contains_key(step) {
            self.load_plans().await?;
        }
        self.plans
            .get(step)
            .cloned()
            .ok_or_else(|| Failure::new(Kind::HostBug, format!("find `{step}` in the plans of the run")))
    }

    /// Reads the plans that another process made.
    async fn load_plans(&mut self) -> Result<(), Failure> {
        for (turn, digest) in self.run.plans.clone() {
            if !self.answers.contains_key(&turn) {
                let plan: CheckedPlan = self.stored(&digest).await?;
                self.remember(turn, plan);
            }
        }
        Ok(())
    }

    /// Replaces the references in `value` by what their steps brought: `Ok(Err)` where one leads nowhere.
    async fn resolve(&mut self, value: &Json) -> Result<Result<Json, Failure>, Failure> {
        let mut outputs = HashMap::new();
        for reference in references(value).unwrap_or_default() {
            let output = match reference
                .step
                .parse::<StepId>()
                .ok()
                .and_then(|id| self.run.step(&id))
                .map(|step| step.status.clone())
            {
                Some(StepStatus::Succeeded { output }) => self.value(&output).await?,
                _ => continue,
            };
            outputs.insert(reference.step.to_owned(), output);
        }
        let found = resolved(value, &|reference| {
            let output = outputs.get(reference.step).ok_or_else(|| format!("`{}` brought nothing", reference.step))?;
            output
                .pointer(reference.path)
                .cloned()
                .ok_or_else(|| format!("`{}` has nothing at `{}`", reference.step, reference.path))
        });
        Ok(found.map_err(|flaw| Failure::new(Kind::DataReference, format!("follow a reference: {flaw}"))))
    }

    async fn value(&mut self, digest: &Digest) -> Result<Arc<Json>, Failure> {
        if let Some(value) = self.values.get(digest) {
            return Ok(value.clone());
        }
        let value: Arc<Json> = Arc::new(self.stored(digest).await?);
        self.values.insert(*digest, value.clone());
        Ok(value)
    }

    async fn stored<T: for<'de> Deserialize<'de>>(&self, digest: &Digest) -> Result<T, Failure> {
        let bytes = self.bytes(digest).await?;
        serde_json::from_slice(&bytes)
            .map_err(|e| Failure::new(Kind::HostStorage, "read a payload of the run").detail(e))
    }

    async fn bytes(&self, digest: &Digest) -> Result<Vec<u8>, Failure> {
        let bytes = self.driver.parts.log.payload(&self.run.id, digest).await?;
        bytes.ok_or_else(|| Failure::new(Kind::DataNotFound, "read a payload of the run: its owner was erased"))
    }
}

/// Replies that the same planner may make good.
fn is_repairable(kind: Kind) -> bool {
    matches!(kind, Kind::ModelInvalidJson | Kind::ModelSchema | Kind::ModelNoAction | Kind::ModelTruncated)
}

/// Several flaws as one failure, of the first one's kind.
fn joined(failures: Vec<Failure>) -> Failure {
    let kind = failures.first().map_or(Kind::DataPlan, |failure| failure.kind);
    let texts: Vec<String> = failures.into_iter().map(|failure| failure.message).collect();
    Failure::new(kind, texts.join("; "))
}
