//! Performs what a run wants done, and records what it brought: the one loop with effects.
//!
//! Every event is in the log before the effect that it announces and after the one that it reports; it is durable before
//! anything above `read` starts and before its outcome is told. One process drives a run at a time. Others leave
//! messages, which this loop makes events.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::domain::{
    Budget, Digest, Effect, Event, Fact, Failure, GENESIS, Json, Kind, Mount, Outcome, Parent, PlanLimits, Principal,
    Risk, RunId, Seq, StepId, Suspension, ToolName, TraceId,
};
use crate::orchestrator::check::{CheckedStep, Proposed};
use crate::orchestrator::driver::in_hand::{InHand, VALUES_BYTES_MAX};
use crate::orchestrator::link::WriteRequest;
use crate::orchestrator::machine::{Command, IllegalTransition, Run, RunStatus};
use crate::orchestrator::notify::{Notice, Notifier};
use crate::orchestrator::upstreams::Upstreams;
use crate::planner::{PackOptions, Planned, Planner};
use crate::policy::Policy;
use crate::registry::Catalog;
use crate::sandbox::Runner;
use crate::store::{Batch, Durability, EventLog, Ownership, Payload};

mod approvals;
mod asking;
mod children;
mod end;
mod ended;
mod in_hand;
mod inbox;
mod items;
mod notices;
mod planning;
mod recovery;
mod steps;
mod taken;
mod undo;
mod values;

use children::Children;
pub use children::goal_of;
pub use ended::EndedRun;
pub use recovery::{changed_tools, recovered, runs_within, toolset_of};
pub use taken::STOPPED_MAX;
use taken::Taken;

/// How often the inbox is looked at, when nothing else happens: a person does not notice.
const INBOX_POLL: Duration = Duration::from_millis(100);

/// Signals that may wait for a slow reader; older ones are lost to it, and stand in the log.
pub const SIGNALS_MAX: usize = 1_024;

/// Calls that may wait at one time for their write to be recorded.
const WRITE_REQUESTS_MAX: usize = 64;

/// Makes the planner of a goal that is in the log already.
pub type PlannerOf = Arc<dyn Fn(&Goal) -> Result<Arc<dyn Planner>, Failure> + Send + Sync>;

/// What a driver works with. One set serves all runs of a host.
#[derive(Clone)]
pub struct Parts {
    pub log: Arc<dyn EventLog>,
    pub runner: Arc<dyn Runner>,
    pub catalog: Arc<Catalog>,
    pub policy: Arc<Policy>,
    pub clock: Arc<dyn Clock>,
    pub plan_limits: PlanLimits,
    /// What planners get to see.
    pub pack: PackOptions,
    /// Names this process to others that want its runs.
    pub owner: String,
    /// What all runs know of the servers that tools send to.
    pub upstreams: Arc<Upstreams>,
    /// Tells somebody that a run waits for a person.
    pub notifier: Option<Arc<dyn Notifier>>,
    pub planner_of: PlannerOf,
}

/// What a person asked. Kept as a payload, so that another process can go on with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    pub text: String,
    /// What the planner may know beside the goal, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Json>,
    /// A workflow file's content, where the plan comes from one.
    pub workflow: Option<Json>,
    /// Conditions in CEL over `answer` that decide about success, whoever plans.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assert: Vec<String>,
    /// A recording whose replies are taken in place of a planner's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<Json>,
    /// Whether it matters more than usual: the strongest models plan it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_critical: bool,
    /// Whether its words hold what tools brought: those of a run within a run may.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_tainted: bool,
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
    /// What holds for a run within the run: names were given for steps of this one.
    fn within(&self) -> Self {
        match self {
            Self::Steps { .. } => Self::Ask,
            other => other.clone(),
        }
    }

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
        /// The run that was started, or one within it.
        run: RunId,
        step: StepId,
        fraction: Option<f64>,
        message: String,
    },
    ApprovalWanted(Box<ApprovalView>),
}

/// What a person is asked to approve. `args` come from a planner, `mounts`, `effect` and `rule` from the host.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ApprovalView {
    /// The run that waits: one within the run that was started, perhaps.
    pub run: RunId,
    pub step: StepId,
    pub tool: ToolName,
    pub args: Json,
    pub effect: Effect,
    pub rule: String,
    pub binding: Digest,
    pub mounts: Vec<Mount>,
    /// The step that asks for the very same call.
    pub duplicate_of: Option<StepId>,
    /// What makes it risky, where a planner proposed it that reads.
    pub risk: Option<Risk>,
}

/// Drives runs.
pub struct Driver {
    pub parts: Parts,
    pub planner: Arc<dyn Planner>,
    pub wait: Wait,
    pub approve: Approve,
    /// Who lets the run go on with tools that are not what they were.
    pub accept_tools: Option<String>,
    pub signals: broadcast::Sender<Signal>,
}

/// A run that is to be made.
#[derive(Clone, Debug)]
pub struct Start {
    pub run: RunId,
    pub goal: Goal,
    pub principal: Principal,
    pub budget: Budget,
    /// The step of another run that it carries out.
    pub parent: Option<Parent>,
    /// The trace that it is part of, where somebody brought one.
    pub trace: Option<TraceId>,
}

impl Driver {
    /// Creates a run and drives it until it ends or waits for a person.
    ///
    /// # Errors
    /// The log could not be written. The run is then as its log tells.
    pub async fn start(self, start: Start) -> Result<Run, Failure> {
        let parts = &self.parts;
        let owner = parts.log.create(&start.run, &start.principal, &parts.owner, parts.clock.now()).await?;
        let goal = Payload::of(&start.goal)?;
        let fact = Fact::RunCreated {
            principal: start.principal,
            goal: goal.digest(),
            planner: self.planner.name(),
            policy: parts.policy.digest(),
            toolset: parts.catalog.digest(),
            budget: start.budget,
            is_single_plan: self.planner.is_single_plan(),
            has_assertions: !start.goal.assert.is_empty(),
            parent: start.parent,
            trace: start.trace,
        };
        let batch = Batch { after: (0, GENESIS), facts: vec![(parts.clock.now(), fact)], payloads: vec![goal] };
        let events = parts.log.append(&*owner, batch, Durability::Synced).await?;
        let run = Run::of(&events).map_err(parted)?;
        for event in events {
            let _ = self.signals.send(Signal::Event(Box::new(event)));
        }
        Drive::new(self, Arc::from(owner), run).go().await
    }

    /// Takes a run that no living process owns, and drives it on.
    ///
    /// # Errors
    /// `host.owned`, naming the owner; `data.not_found`; `data.conflict` where the run has ended, or tools that it may still
    /// call are not what they were and nobody accepts that; what [`Driver::start`] returns.
    pub async fn resume(self, run: &RunId) -> Result<Run, Failure> {
        let owner = self.parts.log.own(run, &self.parts.owner).await?;
        let run = Run::of(&self.parts.log.read(run, 0).await?).map_err(parted)?;
        if let RunStatus::Ended(_) = run.status {
            return Err(Failure::new(Kind::DataConflict, format!("resume run `{}`: it has ended", run.id))
                .hint("look at it with `show`"));
        }
        let tools_changed = self.tools_changed(&run).await?;
        let mut drive = Drive::new(self, Arc::from(owner), run);
        drive.claim(tools_changed).await?;
        drive.ask_again().await?;
        drive.go().await
    }
}

/// A run under way in this process.
struct Drive {
    driver: Driver,
    owner: Arc<dyn Ownership>,
    run: Run,
    /// What the plans of the run say: never more steps than a run may have.
    plans: HashMap<StepId, CheckedStep>,
    /// What its plans answer, and what must hold then, by turn.
    answers: HashMap<u32, (Option<Json>, Vec<String>)>,
    /// Arguments and outputs that were read or made here, by digest.
    values: InHand,
    /// Under which key the outcome of a call that runs may be kept.
    cacheable: HashMap<StepId, Digest>,
    tasks: JoinSet<Done>,
    /// Steps whose tools are made ready to run, and what came of it once that has ended.
    preparing: HashMap<StepId, Option<Result<(), Failure>>>,
    children: Children,
    /// The run that this one takes back, once it was read.
    taken: Option<Arc<Taken>>,
    is_planning: bool,
    /// Of which model the planner was asked last, in this process.
    asked: Option<asking::Asked>,
    /// What is known of its last request, in this process.
    proposed: Option<Proposed>,
    /// What its reply took, until it is noted with what the reply is worth.
    replied: Option<(Fact, Option<Payload>)>,
    writes: (mpsc::Sender<WriteRequest>, mpsc::Receiver<WriteRequest>),
    stop: watch::Sender<bool>,
    /// Monotonic milliseconds since when the run waits for a person.
    waits_since_ms: Option<u64>,
    /// The suspension that somebody was, or is being, told of last.
    noticed: Option<Seq>,
    /// Monotonic milliseconds of the last look into the inbox; `None` to look at once.
    looked_ms: Option<u64>,
}

/// Something that was under way has ended.
enum Done {
    Call { step: StepId, attempt: u32, outcome: Outcome, host_calls: Option<Digest> },
    Planned { turn: u32, planned: Planned },
    Prepared { step: StepId, prepared: Result<(), Failure> },
    Child { step: StepId, ended: Result<Box<Run>, Failure> },
    Notified { notice: Box<Notice>, told: Result<(), Failure> },
}

/// What is told of a log that does not follow its own rules.
pub fn parted(error: IllegalTransition) -> Failure {
    Failure::new(Kind::HostStorage, format!("fold the run's events: {error}")).hint("look for the place with `verify`")
}

impl Drive {
    fn new(driver: Driver, owner: Arc<dyn Ownership>, run: Run) -> Self {
        Self {
            driver,
            owner,
            run,
            plans: HashMap::new(),
            answers: HashMap::new(),
            values: InHand::new(VALUES_BYTES_MAX),
            cacheable: HashMap::new(),
            tasks: JoinSet::new(),
            preparing: HashMap::new(),
            children: Children::default(),
            taken: None,
            is_planning: false,
            asked: None,
            proposed: None,
            replied: None,
            writes: mpsc::channel(WRITE_REQUESTS_MAX),
            stop: watch::Sender::new(false),
            waits_since_ms: None,
            noticed: None,
            looked_ms: None,
        }
    }

    /// Decides, then acts, until the run ends or is left to a person.
    async fn go(mut self) -> Result<Run, Failure> {
        loop {
            self.receive().await?;
            let mut has_moved = false;
            let was_lost = self.run.is_lost();
            for command in self.run.next(self.driver.parts.clock.now()) {
                has_moved |= self.perform(command).await?;
                if self.run.is_lost() != was_lost {
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
            Command::StopCalls => return self.stop_calls().await,
            Command::Child { step, run } => return self.drive_child(step, run).await,
            Command::Start { step, reserve } => return self.start_step(step, reserve).await,
            Command::Plan { turn } => self.ask_planner(turn).await?,
            Command::Prepare { step } => self.prepare(step).await?,
            Command::Gather { step } => self.gather(step).await?,
            Command::Skip { step, why } => self.note(Fact::StepSkipped { step, why }).await?,
            Command::Expire { step, binding } => self.expire(step, binding).await?,
            Command::Reconcile { step } => self.reconcile(step).await?,
            Command::Settle { step, by } => self.settle_by(step, by).await?,
            Command::Leave { step } => self.leave(step).await?,
            Command::Undo { why, steps } => self.begin_undo(why, steps).await?,
            Command::TakeBack { .. } => self.take_back().await?,
            Command::Answer { turn } => self.answer_plan(turn).await?,
            Command::Verify { turn } => self.verify(turn).await?,
            Command::Suspend { why } => self.suspend(why).await?,
            Command::End { ending, caveats } => self.end(ending, caveats).await?,
        }
        Ok(true)
    }

    /// Changes the run, then appends: a fact that does not follow never becomes part of the log. Where the log refuses, the
    /// run here is ahead of it, and every caller gives up.
    async fn record(
        &mut self,
        facts: Vec<Fact>,
        payloads: Vec<Payload>,
        durability: Durability,
    ) -> Result<(), Failure> {
        let at = self.driver.parts.clock.now();
        self.run
            .take(at, &facts)
            .map_err(|e| Failure::new(Kind::HostBug, format!("record what happened in run `{}`: {e}", self.run.id)))?;
        let batch = Batch { after: self.run.last, facts: facts.into_iter().map(|fact| (at, fact)).collect(), payloads };
        let events = self.driver.parts.log.append(&*self.owner, batch, durability).await?;
        for event in events {
            self.run.follow(&event).map_err(parted)?;
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
        if self.tasks.is_empty() && self.is_left_to_a_person().await? {
            return Ok(false);
        }
        let pause = self.pause();
        tokio::select! {
            biased;
            Some(request) = self.writes.1.recv() => self.begin_write(request).await?,
            Some(done) = self.tasks.join_next() => match done {
                Ok(done) => self.done(done).await?,
                Err(error) => return Err(Failure::new(Kind::HostBug, "run a task of the run").detail(error)),
            },
            _ = tokio::time::timeout(pause, std::future::pending::<()>()) => self.looked_ms = None,
        }
        Ok(true)
    }

    async fn done(&mut self, done: Done) -> Result<(), Failure> {
        match done {
            Done::Call { step, attempt, outcome, host_calls } => {
                self.call_ended(step, attempt, outcome, host_calls).await
            }
            Done::Planned { turn, planned } => self.planned(turn, planned).await,
            Done::Prepared { step, prepared } => {
                self.preparing.insert(step, Some(prepared));
                Ok(())
            }
            Done::Child { step, ended } => self.child_ended(step, ended).await,
            Done::Notified { notice, told } => self.notified(*notice, told).await,
        }
    }

    /// Until the next look into the inbox, or until something is due.
    fn pause(&self) -> Duration {
        let now = self.driver.parts.clock.now();
        // What was due already and did not start waits for something else than time.
        let due = self.run.wakes_at().filter(|due| *due > now).map(|due| Duration::from_millis(due.ms_since(now)));
        due.map_or(INBOX_POLL, |due| due.min(INBOX_POLL))
    }

    /// Nothing of the run is under way here, and a person must move it on, for whom nobody is to wait any longer.
    async fn is_left_to_a_person(&mut self) -> Result<bool, Failure> {
        if let Some(why) = self.children.all_wait(&self.run)
            && !matches!(self.run.status, RunStatus::Suspended(_))
        {
            self.suspend(why).await?;
        }
        let is_left = match self.run.status {
            RunStatus::Suspended(Suspension::Timer) => false,
            RunStatus::Suspended(_) => !self.waits_for_person(),
            _ => false,
        };
        Ok(is_left && self.tasks.is_empty())
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

    fn wall_ms_left(&self) -> u64 {
        let used = self.driver.parts.clock.now().ms_since(self.run.since);
        self.run.budget.wall_ms_max.saturating_sub(used)
    }
}
