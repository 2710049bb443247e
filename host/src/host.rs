//! The face of the library, and the one place that picks implementations.
//!
//! ```no_run
//! use cofferdam::domain::Failure;
//! use cofferdam::host::Host;
//! use serde_json::json;
//!
//! # async fn example() -> Result<(), Failure> {
//! let host = Host::builder().tool("text", "text.wasm").policy_file("policy.toml").build()?;
//! let report = host.call("text.stats", json!({"text": "one two"})).await?;
//! println!("{}", report.outcome.result?);
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::broadcast;

use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::{
    Budget, Contract, Digest, Effect, Event, Failure, Json, Kind, Outcome, Principal, RunId, Seq, StepId, ToolName,
    Traceparent, leaves_open,
};
use crate::orchestrator::{Driver, Goal as StoredGoal, Parts, SIGNALS_MAX, Start};
use crate::planner::Planner;
use crate::policy::{effect, explain};
use crate::registry::{self, VerifiedTool};

mod abandoned;
mod builder;
#[cfg(test)]
mod canned;
mod contracts;
mod drift;
mod end;
mod explain_step;
mod goal;
mod handle;
mod keyed;
mod message;
mod models;
mod notify;
mod plan;
mod prices;
mod prompted;
mod recording;
mod replay;
mod report;
mod routes;
mod session;
mod stats;
mod suggest;
mod tool_view;
mod upkeep;
mod watch;

pub use builder::{HostBuilder, read_policy};
pub use contracts::{Found, components, read_lock};
pub use drift::RunDrift;
pub use explain_step::{CheckedDigest, DigestState, Link, StepExplanation};
pub use goal::Goal;
pub use handle::RunHandle;
pub use models::{ModelView, model_view};
pub use prices::{PriceData, price_data};
pub use prompted::PromptUsed;
pub use replay::{ReplayReport, Replayed, Verdict as ReplayVerdict};
pub use report::{RunReport, StepReport};
pub use routes::{Replied, RouteView};
pub use stats::When;
pub use tool_view::ToolView;
pub use upkeep::HeadState;
pub use watch::{Seen, WATCH_POLL_MS, Watch};

pub use plan::{PlanFlaw, PlanStepView, PlanView, read_workflow};

pub use crate::orchestrator::{
    ApprovalView, Approve, ChangeKind, Edge, EdgeKind, Foreseen, Graph, Node, NodeKind, Notice, Notifier, Signal,
    ToolChange, Wait,
};
pub use crate::planner::recorded::Recording;
pub use crate::planner::route::{Routed, Tier};
pub use crate::planner::suggest::{Form, FormField, FoundValue, SuggestedTool, Suggestion};
pub use crate::planner::workflow::{Format as WorkflowFormat, Place, WorkflowPlanner, schema as workflow_schema};
pub use crate::policy::{Edit, Explanation, Request, Terms, Verdict};
pub use crate::registry::{Change, Lock, Origin, Part, PinState, changes};
pub use crate::sandbox::{GUEST_TRACE_TARGET, Helper, Runtime, helper_main, runtime};
pub use crate::store::sqlite::version as database_version;
pub use crate::store::{Choice, Message, Pruned, RunEntry, Settle, StepProgress, StoredBytes, Verified};
pub use crate::telemetry::stats::{By, GoalRow, KindRow, RequestRow, Rows, Spread, Stats, ToolRow, Window};
pub use crate::telemetry::{Cached, RunState, span_of, trace_of};

/// A host: tools, policy, sandbox and log, ready to run goals and lone calls. Cheap to clone.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    parts: Parts,
    principal: Principal,
    budget: Budget,
    /// Plans goals in plain language; without it only workflows run.
    model: Option<Arc<dyn Planner>>,
    pinned: Pinned,
    session: session::Session,
}

/// How components stand to their pins, by name; empty where there is no lock.
type Pinned = BTreeMap<String, PinState>;

/// How a run is to be driven.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// How long to wait for a person before the run is left suspended.
    pub wait: Wait,
    /// Approvals given beforehand.
    pub approve: Approve,
    /// Who lets a run go on though tools that it may still call are not what they were.
    pub accept_tools: Option<String>,
    /// Money, in millionths of a US dollar, where the run may cost less than the settings allow.
    pub usd_micros_max: Option<u64>,
    /// The span for which a run is started: the run is part of its trace. A run that goes on stays in the trace that it has.
    pub traceparent: Option<Traceparent>,
}

impl Default for StartOptions {
    fn default() -> Self {
        Self { wait: Wait::Never, approve: Approve::Ask, accept_tools: None, usd_micros_max: None, traceparent: None }
    }
}

/// How a lone call is to be made.
#[derive(Clone, Debug)]
pub struct CallOptions {
    /// Approvals given beforehand.
    pub approve: Approve,
    /// The caller's name for this request: a repeat under it is answered with the outcome of the first.
    pub key: Option<String>,
    /// What a person says became of the call that was made under the key, where its process died.
    pub settled: Option<Settled>,
    /// The span for which the call is made: it is part of its trace.
    pub traceparent: Option<Traceparent>,
}

/// A person's word about a call whose end nobody saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    pub settle: Settle,
    pub by: String,
}

/// How a lone call ended.
#[derive(Clone, Debug, PartialEq)]
pub struct CallReport {
    pub tool: ToolName,
    pub effect: Effect,
    pub outcome: Outcome,
    /// The session in which the call was made before, under the same key; `None` where it was made now.
    pub repeats: Option<RunId>,
}

impl CallReport {
    /// Answers whether it failed and nobody knows what it changed.
    pub fn is_unknown(&self) -> bool {
        let Outcome { result, has_written, has_open_write, .. } = &self.outcome;
        *has_written && result.as_ref().is_err_and(|failure| leaves_open(failure.kind, *has_open_write))
    }
}

/// A run that was asked for under a key.
pub enum Keyed {
    Started(RunHandle),
    /// The same was asked for before, and this run carries it out, or did.
    Before(RunId),
}

/// Reads a component without running it.
///
/// # Errors
/// `data.not_found`, or `load.*` naming what was found and what was expected.
pub fn inspect(path: &Path, name: Option<&str>, options: &registry::Options) -> Result<Contract, Failure> {
    let candidate = registry::Candidate { name: name.unwrap_or_default().to_owned(), path: path.to_owned() };
    let component = registry::verify(candidate, &registry::Trust::default(), options)?;
    Ok(component.contract().clone())
}

impl Host {
    /// Starts to make a host.
    pub fn builder() -> HostBuilder {
        HostBuilder::default()
    }

    /// Makes the host that a `cofferdam.toml` describes.
    ///
    /// # Errors
    /// `data.config` and `load.*`, naming the file that is wrong; `host.storage`.
    pub fn from_settings(settings: Settings) -> Result<Self, Failure> {
        HostBuilder::from_settings(settings)?.build()
    }

    /// Calls one tool, under the same policy, limits and log as a step of a run.
    ///
    /// # Errors
    /// The call never started: no such tool, arguments that do not fit, policy. How a started call ended is in the report.
    pub async fn call(&self, tool: &str, args: Json) -> Result<CallReport, Failure> {
        self.call_with(tool, args, &Approve::Ask).await
    }

    /// Calls one tool, with approvals given beforehand.
    ///
    /// # Errors
    /// As [`Host::call`].
    pub async fn call_with(&self, tool: &str, args: Json, approve: &Approve) -> Result<CallReport, Failure> {
        let options = CallOptions { approve: approve.clone(), key: None, settled: None, traceparent: None };
        self.call_as(tool, args, &options).await
    }

    /// Calls one tool as `options` say.
    ///
    /// # Errors
    /// As [`Host::call`]; `data.conflict` where the key stands for another request, or for a call that is under way;
    /// `host.interrupted` where its process died, it may have changed something, and nobody says what became of it;
    /// `data.not_found` for a word about a call that nobody made.
    pub async fn call_as(&self, tool: &str, args: Json, options: &CallOptions) -> Result<CallReport, Failure> {
        let inner = &self.0;
        inner.session.call(&inner.parts, &inner.principal, tool, args, options).await
    }

    /// Starts a run in the caller's runtime.
    ///
    /// # Errors
    /// The goal cannot be planned here, or the log cannot be written.
    pub async fn start(&self, goal: Goal, options: StartOptions) -> Result<RunHandle, Failure> {
        let (goal, planner) = goal.planned(self.0.model.clone())?;
        Ok(self.start_as(self.new_run()?, goal, planner, options))
    }

    /// Starts a run under a key of the caller's: a repeat of the same request finds the run of the first.
    ///
    /// # Errors
    /// As [`Host::start`]; `data.conflict` where the key stands for another request; `data.input_invalid` for one that is none.
    pub async fn start_keyed(&self, goal: Goal, options: StartOptions, key: &str) -> Result<Keyed, Failure> {
        let parts = &self.0.parts;
        let (goal, planner) = goal.planned(self.0.model.clone())?;
        let (run, request) = (self.new_run()?, keyed::run_request(&goal, &planner.name()));
        let run = match keyed::claim(parts, &self.0.principal, key, &request, &run).await? {
            keyed::Held::Mine => run,
            keyed::Held::Before { run, .. } => match parts.log.read(&run, 0).await {
                // The first process died before it made the run, or is about to: only one of us can.
                Err(failure) if failure.kind == Kind::DataNotFound => run,
                known => return known.map(|_| Keyed::Before(run)),
            },
        };
        Ok(Keyed::Started(self.start_as(run, goal, planner, options)))
    }

    fn new_run(&self) -> Result<RunId, Failure> {
        self.0.parts.clock.run_id().map_err(|e| Failure::new(Kind::HostBug, e))
    }

    fn start_as(&self, run: RunId, goal: StoredGoal, planner: Arc<dyn Planner>, options: StartOptions) -> RunHandle {
        let trace = options.traceparent.map(|traceparent| traceparent.trace);
        let mut budget = self.0.budget.clone();
        // A run may be given less than the settings allow, and never more.
        budget.usd_micros_max = [budget.usd_micros_max, options.usd_micros_max].into_iter().flatten().min();
        let (driver, signals) = self.driver(planner, options);
        let principal = self.0.principal.clone();
        let start = Start { run: run.clone(), goal, principal, budget, parent: None, trace };
        let task = tokio::spawn(async move { driver.start(start).await });
        RunHandle::new(self.clone(), run, signals, task)
    }

    /// Takes a run that no living process owns, and drives it on.
    ///
    /// # Errors
    /// `data.not_found`; `host.owned`, naming the owner, and what else stops a run arrive with [`RunHandle::finished`].
    pub async fn resume(&self, run: &RunId, options: StartOptions) -> Result<RunHandle, Failure> {
        let goal = self.stored_goal(run).await?;
        let planner = goal::planner_of(&goal, self.0.model.clone())?;
        let (driver, signals) = self.driver(planner, options);
        let id = run.clone();
        let task = tokio::spawn(async move { driver.resume(&id).await });
        Ok(RunHandle::new(self.clone(), run.clone(), signals, task))
    }

    /// Ends a run that no living process owns, as cancelled by `by`. It needs the log only: neither planner nor tools.
    ///
    /// # Errors
    /// `data.not_found`; `host.owned`, naming the owner, who can be told with [`Host::send`]; `data.conflict` where the run has
    /// ended; `host.storage`.
    pub async fn end(&self, run: &RunId, by: &str) -> Result<RunReport, Failure> {
        message::person(by)?;
        end::end(&self.0.parts, run, by).await?;
        self.show(run).await
    }

    fn driver(&self, planner: Arc<dyn Planner>, options: StartOptions) -> (Driver, broadcast::Receiver<Signal>) {
        let (sender, receiver) = broadcast::channel(SIGNALS_MAX);
        let parts = self.0.parts.clone();
        let StartOptions { wait, approve, accept_tools, traceparent: _, usd_micros_max: _ } = options;
        (Driver { parts, planner, wait, approve, accept_tools, signals: sender }, receiver)
    }

    async fn stored_goal(&self, run: &RunId) -> Result<StoredGoal, Failure> {
        let story = crate::telemetry::trace(&self.events(run).await?);
        let no_run = || {
            Failure::new(Kind::DataConflict, format!("resume `{run}`: it is not a run")).hint("list runs with `runs`")
        };
        self.json(run, &story.goal.ok_or_else(no_run)?).await?.ok_or_else(no_run)
    }

    /// Returns every tool, sorted by name, with what policy says of it; one that is withheld counts as denied.
    pub fn tools(&self) -> Vec<ToolView> {
        let Parts { catalog, policy, .. } = &self.0.parts;
        let state = |tool: &VerifiedTool| self.0.pinned.get(tool.name().component()).cloned();
        let called = catalog.tools().map(|tool| ToolView::new(tool, effect(policy, tool), state(tool)));
        let withheld = catalog.withheld().map(|(tool, why)| ToolView::new(tool, Err(why.clone()), state(tool)));
        let mut tools: Vec<_> = called.chain(withheld).collect();
        tools.sort_by(|a, b| a.name.cmp(&b.name));
        tools
    }

    /// Explains what policy says of a lone call of `tool`, and of `request` within it. A tool that differs from its pin is
    /// denied whatever the rules say, and the explanation says so.
    ///
    /// # Errors
    /// `data.not_found`.
    pub fn explain(&self, tool: &str, request: Option<&Request>) -> Result<Explanation, Failure> {
        let Parts { catalog, policy, .. } = &self.0.parts;
        let Some((tool, why)) = catalog.withheld().find(|(known, _)| known.name().to_string() == tool) else {
            return Ok(explain(policy, &session::find(&self.0.parts, tool)?, request));
        };
        let explained = explain(policy, tool, request);
        Ok(Explanation {
            verdict: Verdict::Deny,
            rule: "the lock".into(),
            reason: format!("{}; {}", why.message, why.hint.as_deref().unwrap_or_default()),
            effect: None,
            person: None,
            grant: None,
            terms: None,
            change: Vec::new(),
            request: None,
            ..explained
        })
    }

    /// Returns why components are withheld: each differs from what the lock pins, or is not pinned.
    pub fn withheld(&self) -> Vec<Failure> {
        self.0.pinned.iter().filter_map(|(component, state)| state.refusal(component)).collect()
    }

    /// Returns the newest runs first, without what their steps brought. One that cannot be read is among them, with the
    /// reason as its failure.
    ///
    /// # Errors
    /// `host.storage`.
    pub async fn runs(&self, runs_max: usize) -> Result<Vec<RunReport>, Failure> {
        let mut reports = Vec::new();
        for entry in self.0.parts.log.runs(runs_max).await? {
            reports.extend(report::brief_or_why(self, &entry).await?);
        }
        Ok(reports)
    }

    /// Returns all there is to tell about a run.
    ///
    /// # Errors
    /// `data.not_found`; `host.storage`.
    pub async fn show(&self, run: &RunId) -> Result<RunReport, Failure> {
        report::full(self, run).await
    }

    /// Lists the steps of a run, those of undo and reconciliation included.
    ///
    /// # Errors
    /// `data.not_found`; `host.storage`.
    pub async fn steps(&self, run: &RunId) -> Result<Vec<StepId>, Failure> {
        Ok(crate::telemetry::trace(&self.events(run).await?).steps.into_iter().map(|step| step.step).collect())
    }

    /// Tells why a step came about and what became of it, each digest computed again from what is kept.
    ///
    /// # Errors
    /// `data.not_found`; `host.storage`.
    pub async fn explain_step(&self, run: &RunId, step: &StepId) -> Result<StepExplanation, Failure> {
        explain_step::explain(self, run, step).await
    }

    /// Returns those of the newest `runs_max` runs that wait for a person, with all there is to tell about each.
    ///
    /// # Errors
    /// `host.storage`.
    pub async fn waiting(&self, runs_max: usize) -> Result<Vec<RunReport>, Failure> {
        report::waiting(self, runs_max).await
    }

    /// Follows a run from its log, after the event of number `after`, whichever process drives it.
    ///
    /// # Errors
    /// `data.not_found`; `host.storage`.
    pub async fn watch(&self, run: &RunId, after: Seq) -> Result<Watch, Failure> {
        Watch::new(self.clone(), run.clone(), after).await
    }

    /// Returns the events of a run, in order.
    ///
    /// # Errors
    /// `data.not_found`; `host.storage`, naming an event that was touched.
    pub async fn events(&self, run: &RunId) -> Result<Vec<Event>, Failure> {
        self.0.parts.log.read(run, 0).await
    }

    /// Leaves a message for the owner of a run, or, where none lives, for the next [`Host::resume`].
    ///
    /// # Errors
    /// `data.not_found`; `data.conflict` where the message does not fit the run as it is; `host.storage`.
    pub async fn send(&self, run: &RunId, message: Message) -> Result<(), Failure> {
        let now = self.0.parts.clock.now();
        message::check(&self.show(run).await?, &message, now, |tool| self.0.parts.catalog.tool(tool).cloned())?;
        self.0.parts.log.send(run, &message).await
    }

    /// Checks every event of a run.
    ///
    /// # Errors
    /// `host.storage`, naming the first event that was touched; `data.not_found`.
    pub async fn verify(&self, run: &RunId) -> Result<Verified, Failure> {
        self.0.parts.log.verify(run).await
    }

    /// Tells whoever is to be told that a run waits for a person; nobody where nobody is set.
    ///
    /// # Errors
    /// Nobody could be told: `network.*`; `host.storage`; `data.config`.
    pub async fn notify(&self, notice: &Notice) -> Result<(), Failure> {
        match &self.0.parts.notifier {
            Some(notifier) => notifier.notify(notice).await,
            None => Ok(()),
        }
    }

    /// Ends the session of lone calls and waits until all that was logged is on the disk.
    ///
    /// # Errors
    /// `host.storage`.
    pub async fn close(&self) -> Result<(), Failure> {
        self.0.session.close(&self.0.parts).await
    }

    /// Reads a payload as JSON; `None` where its owner was erased.
    async fn json<T: for<'de> serde::Deserialize<'de>>(
        &self,
        run: &RunId,
        digest: &Digest,
    ) -> Result<Option<T>, Failure> {
        let Some(bytes) = self.0.parts.log.payload(run, digest).await? else { return Ok(None) };
        let value = serde_json::from_slice(&bytes);
        value.map(Some).map_err(|e| Failure::new(Kind::HostStorage, format!("read a payload of run `{run}`")).detail(e))
    }

    /// Returns the clock that this host lives by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.parts.clock
    }
}
