//! Why a step came about and what became of it, from the goal to the digest of its output.
//!
//! Promises: each link names the event that it stands on; each digest is computed again from what is kept, and marked where
//! it differs. Goes through: from an undo to the step that it takes back, from an item to its step, from a run to the step
//! of the run around it.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::domain::{
    Decision, Digest, Direction, Event, Fact, Failure, Json, Kind, Parent, Risk, Role, RunId, Seq, SpanId, StepEnd,
    StepId, Subject, Timestamp, ToolName, TraceId, Usage, idempotency_key,
};
use crate::host::Host;
use crate::orchestrator::{CheckedPlan, CheckedStep, journal_digest};
use crate::telemetry::{StepTrace, Trace, trace};

mod link;

/// Runs around runs that the chain goes through: more than a budget allows of depth.
const RUNS_AROUND_MAX: usize = 16;

/// Why a step came about and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct StepExplanation {
    pub run: RunId,
    pub step: StepId,
    pub tool: ToolName,
    pub status: String,
    /// The W3C trace of its run.
    pub trace_id: Option<TraceId>,
    /// The span of its last attempt, which its requests carry.
    pub span_id: SpanId,
    /// Whether every digest fits what is kept.
    pub is_whole: bool,
    /// In the order of the log; those of the runs around it come first.
    pub links: Vec<Link>,
}

/// One event of the chain.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Link {
    pub run: RunId,
    pub seq: Seq,
    pub at: Timestamp,
    pub span_id: SpanId,
    /// The kind of the event.
    pub fact: String,
    /// What it says, in the host's words; names in it are as others chose them.
    pub says: String,
    /// Words of a person, a planner or a tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quote: Option<String>,
    /// What makes the step risky, beside its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub digests: Vec<CheckedDigest>,
}

/// A digest that an event names, held against what is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckedDigest {
    pub of: &'static str,
    pub digest: Digest,
    pub state: DigestState,
}

/// How a digest stands to what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DigestState {
    Fits,
    /// What is kept is something else.
    Differs,
    /// The owner was erased: there is nothing to hold it against.
    Erased,
    Missing,
}

/// Returns the chain of a step.
///
/// # Errors
/// `data.not_found` for a run or a step that is not there; `host.storage`.
pub(super) async fn explain(host: &Host, run: &RunId, step: &StepId) -> Result<StepExplanation, Failure> {
    let chain = Chain::of(host, run, step).await?;
    let mut links = chain.links().await?;
    let (mut around, mut parent) = (Vec::new(), chain.story.parent.clone());
    while let Some(Parent { run, step, .. }) = parent.take().filter(|_| around.len() < RUNS_AROUND_MAX) {
        let outer = Chain::of(host, &run, &step).await?;
        around.push(outer.links().await?);
        parent = outer.story.parent;
    }
    for outer in around {
        links.splice(0..0, outer);
    }
    let is_whole = links.iter().flat_map(|link| &link.digests).all(|checked| {
        // Nothing can be said of what was erased.
        matches!(checked.state, DigestState::Fits | DigestState::Erased)
    });
    let StepTrace { tool, status, attempts, .. } = chain.told;
    Ok(StepExplanation {
        run: run.clone(),
        step: step.clone(),
        tool,
        status: status.to_owned(),
        trace_id: chain.story.trace,
        span_id: SpanId::of(run, Subject::Step(step, attempts)),
        is_whole,
        links,
    })
}

/// The events of one run that a step stands on.
struct Chain<'a> {
    host: &'a Host,
    run: RunId,
    events: Vec<Event>,
    story: Trace,
    told: StepTrace,
    /// The step, and those that have part in it.
    steps: BTreeSet<StepId>,
}

impl<'a> Chain<'a> {
    async fn of(host: &'a Host, run: &RunId, step: &StepId) -> Result<Self, Failure> {
        let events = host.events(run).await?;
        let story = trace(&events);
        let told = story.steps.iter().find(|told| told.step == *step).cloned().ok_or_else(|| {
            Failure::new(Kind::DataNotFound, format!("explain step `{step}` of run `{run}`: there is no such step"))
                .hint(format!("list its steps with `show {run}`"))
        })?;
        let steps = related(&story, &told);
        Ok(Self { host, run: run.clone(), events, story, told, steps })
    }

    async fn links(&self) -> Result<Vec<Link>, Failure> {
        let mut links = Vec::new();
        let mut policy = None;
        for event in &self.events {
            if let Fact::RunCreated { policy: digest, .. } | Fact::RunClaimed { policy: digest, .. } = &event.fact {
                policy = Some(*digest);
            }
            if self.is_part(&event.fact) {
                links.push(link::of(self, event, policy).await?);
                links.extend(self.run_within(&event.fact).await?);
                links.extend(self.brought_by(&event.fact).await?);
            }
        }
        Ok(links)
    }

    fn is_part(&self, fact: &Fact) -> bool {
        match fact {
            Fact::RunCreated { .. } | Fact::SessionStarted { .. } => true,
            Fact::PlanRequested { turn, .. }
            | Fact::PlanReplied { turn, .. }
            | Fact::PlanFailed { turn, .. }
            | Fact::PlanRejected { turn, .. }
            | Fact::PlanAccepted { turn, .. } => self.steps.iter().any(|step| turn_of(step) == Some(*turn)),
            Fact::UndoBegun { steps, .. } => steps.iter().any(|step| self.steps.contains(&step.id)),
            Fact::CancelRequested { undo, .. } => *undo && self.story.undo.is_some(),
            Fact::CallStarted { call, .. } | Fact::CallSettled { call, .. } | Fact::Called { call, .. } => {
                StepId::new(0, &format!("call{call}")).is_ok_and(|step| self.steps.contains(&step))
            }
            fact => fact.step().is_some_and(|step| self.steps.contains(step)),
        }
    }

    /// Where a run carries the step out: what it was for, and how it ended.
    async fn run_within(&self, fact: &Fact) -> Result<Vec<Link>, Failure> {
        let Fact::StepStarted { run: Some(run), .. } = fact else { return Ok(Vec::new()) };
        let events = match self.host.events(run).await {
            Ok(events) => events,
            // The process died before the run was made.
            Err(failure) if failure.kind == Kind::DataNotFound => return Ok(Vec::new()),
            Err(failure) => return Err(failure),
        };
        let within = Chain {
            host: self.host,
            run: run.clone(),
            story: trace(&events),
            told: self.told.clone(),
            steps: BTreeSet::new(),
            events,
        };
        let mut links = Vec::new();
        for event in &within.events {
            if matches!(event.fact, Fact::RunCreated { .. } | Fact::RunEnded { .. }) {
                links.push(link::of(&within, event, None).await?);
            }
        }
        Ok(links)
    }

    /// Where an outcome was taken from another run: the call there that brought it.
    async fn brought_by(&self, fact: &Fact) -> Result<Vec<Link>, Failure> {
        let Fact::StepCached { step, output, from, .. } = fact else { return Ok(Vec::new()) };
        let events = match self.host.events(from).await {
            // It was pruned: all that is left of it is its name.
            Err(failure) if failure.kind == Kind::DataNotFound => return Ok(Vec::new()),
            events => events?,
        };
        let tool = self.story.steps.iter().find(|told| told.step == *step).map(|told| &told.tool);
        let story = trace(&events);
        let is_it = |event: &&Event| match &event.fact {
            Fact::StepEnded { step, end: StepEnd::Succeeded { output: brought }, .. } => {
                let by = story.steps.iter().find(|told| told.step == *step).map(|told| &told.tool);
                brought == output && by == tool
            }
            _ => false,
        };
        let Some(ended) = events.iter().find(is_it) else { return Ok(Vec::new()) };
        let begun = |event: &&Event| {
            matches!(event.fact, Fact::StepStarted { .. })
                && event.fact.step() == ended.fact.step()
                && event.seq < ended.seq
        };
        let parts: Vec<Event> = events.iter().rfind(begun).into_iter().chain([ended]).cloned().collect();
        let other = Chain {
            host: self.host,
            run: from.clone(),
            told: self.told.clone(),
            steps: BTreeSet::new(),
            story,
            events: Vec::new(),
        };
        let mut links = Vec::new();
        for event in &parts {
            links.push(link::of(&other, event, None).await?);
        }
        Ok(links)
    }

    /// What the plan says of a step, or of that whose item it is; `None` where it is not kept.
    async fn planned(&self, step: &StepId) -> Option<CheckedStep> {
        let of: StepId = step.as_str().split('[').next()?.parse().ok()?;
        let turn = turn_of(&of)?;
        let plan = self.events.iter().find_map(|event| match &event.fact {
            Fact::PlanAccepted { turn: accepted, plan, .. } if *accepted == turn => Some(*plan),
            _ => None,
        })?;
        let plan: CheckedPlan = self.host.json(&self.run, &plan).await.ok()??;
        plan.steps.into_iter().find(|planned| planned.planned.id == of)
    }

    /// The arguments that a step had before this event.
    fn proposed(&self, step: &StepId, before: Seq) -> Option<Digest> {
        let of = |event: &Event| match &event.fact {
            Fact::StepReady { step: ready, args, .. } if ready == step => Some(*args),
            Fact::ApprovalDecided { step: ready, decision: Decision::Modify { args, .. }, .. } if ready == step => {
                Some(*args)
            }
            _ => None,
        };
        self.events.iter().filter(|event| event.seq < before).rev().find_map(of)
    }

    /// Holds a digest against the payload that it names, and returns that too.
    async fn check(&self, of: &'static str, digest: Digest) -> Result<(CheckedDigest, Option<Vec<u8>>), Failure> {
        let (state, bytes) = match self.host.0.parts.log.payload(&self.run, &digest).await {
            Ok(Some(bytes)) if Digest::of(&bytes) == digest => (DigestState::Fits, Some(bytes)),
            Ok(Some(_)) => (DigestState::Differs, None),
            Ok(None) => (DigestState::Erased, None),
            Err(failure) if failure.kind == Kind::DataNotFound => (DigestState::Missing, None),
            // The log itself refuses bytes that do not fit.
            Err(failure) if failure.kind == Kind::HostStorage => (DigestState::Differs, None),
            Err(failure) => return Err(failure),
        };
        Ok((CheckedDigest { of, digest, state }, bytes))
    }

    /// Computes the digest of a call's journal again. One that was erased with its owner is no difference.
    async fn check_journal(
        &self,
        step: &StepId,
        attempt: u32,
        digest: Digest,
        is_erased: bool,
    ) -> Result<CheckedDigest, Failure> {
        let records = self.host.0.parts.log.journal(&self.run, step, attempt).await?;
        let again = journal_digest(&records);
        let state = match again {
            Some(again) if again == digest => DigestState::Fits,
            None if is_erased => DigestState::Erased,
            None => DigestState::Missing,
            Some(_) => DigestState::Differs,
        };
        Ok(CheckedDigest { of: "host calls", digest, state })
    }

    /// Computes the key of a step again.
    fn check_key(&self, step: &StepId, key: Digest, args: Option<&[u8]>) -> Option<CheckedDigest> {
        let told = self.story.steps.iter().find(|told| told.step == *step)?;
        let args: Json = serde_json::from_slice(args?).ok()?;
        let again = match &told.role {
            Role::Do | Role::Item { .. } => idempotency_key(&self.run, step, Direction::Do, &told.tool, &args),
            Role::Undo { of } => idempotency_key(&self.run, of, Direction::Undo, &told.tool, &args),
            // It changes nothing, and its key is nobody's.
            Role::Reconcile { .. } => return None,
        };
        let state = if again == key { DigestState::Fits } else { DigestState::Differs };
        Some(CheckedDigest { of: "key", digest: key, state })
    }
}

/// The step, those that it is part of or takes back, and those that take it back or look after it.
fn related(story: &Trace, told: &StepTrace) -> BTreeSet<StepId> {
    let mut steps = BTreeSet::from([told.step.clone()]);
    steps.extend(of(&told.role).cloned());
    let mut before = 0;
    // An undo may itself have been looked after.
    while before < steps.len() {
        before = steps.len();
        let after = |step: &&StepTrace| {
            let is_after = matches!(&step.role, Role::Undo { .. } | Role::Reconcile { .. });
            is_after && of(&step.role).is_some_and(|of| steps.contains(of))
        };
        let found: Vec<_> = story.steps.iter().filter(after).map(|step| step.step.clone()).collect();
        steps.extend(found);
    }
    steps
}

fn of(role: &Role) -> Option<&StepId> {
    match role {
        Role::Do => None,
        Role::Item { of } | Role::Undo { of } | Role::Reconcile { of } => Some(of),
    }
}

/// The turn whose plan has the step.
fn turn_of(step: &StepId) -> Option<u32> {
    step.as_str().split_once('.')?.0.strip_prefix('t')?.parse().ok()
}
