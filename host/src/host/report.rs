//! What a host tells about runs: stories with their payloads looked up.

use serde::{Deserialize, Serialize};

use crate::domain::{
    Caveat, Denial, Digest, Effect, Event, Failure, Json, Kind, LogLine, Parent, Risk, Role, RunId, SkipReason, SpanId,
    StepId, Subject, Timestamp, ToolName, TraceId, UndoReason, Usage,
};
use crate::host::{ApprovalView, Host, PromptUsed, RunState, prompted};
use crate::orchestrator::Goal as StoredGoal;
use crate::policy::mounts;
use crate::store::RunEntry;
use crate::telemetry::{Cached, ModelUse, StepTrace, Trace, trace};

/// Runs that are looked through for the owner of one.
const RUNS_LOOKED_THROUGH_MAX: usize = 1_000;

/// How a run stands.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    pub run: RunId,
    pub created: Timestamp,
    pub ended: Option<Timestamp>,
    pub planner: String,
    pub goal: String,
    /// The step of another run that this run carries out.
    pub parent: Option<Parent>,
    /// The W3C trace of which it is part, with the runs within it; `None` where its log cannot be read.
    pub trace_id: Option<TraceId>,
    pub span_id: SpanId,
    pub state: RunState,
    /// The living process that drives it.
    pub owner: Option<String>,
    pub failure: Option<Failure>,
    pub answer: Option<Json>,
    /// Whether the conditions that decide about success held; `None` where none was looked at.
    pub is_verified: Option<bool>,
    pub cancelled_by: Option<String>,
    /// Why what was done is taken back.
    pub undo: Option<UndoReason>,
    pub steps: Vec<StepReport>,
    /// What the end alone does not tell, by step.
    pub caveats: Vec<Caveat>,
    /// Calls that wait for a person.
    pub approvals: Vec<ApprovalView>,
    /// Steps that began to change something, and whose end nobody saw.
    pub unknown: Vec<StepId>,
    /// Steps that were to take another one back, and could not.
    pub stuck: Vec<StepId>,
    pub question: Option<String>,
    /// What its requests to models took.
    pub models: ModelUse,
    /// The fixed text that its planner read last; a list does not tell it.
    pub prompt: Option<PromptUsed>,
}

/// How a step stands.
#[derive(Clone, Debug, Serialize)]
pub struct StepReport {
    pub step: StepId,
    pub tool: ToolName,
    /// Why there is the step.
    pub role: Role,
    pub status: String,
    pub attempts: u32,
    /// The span of its last attempt, which its requests carry.
    pub span_id: SpanId,
    pub effect: Effect,
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    /// When it is tried again, while it waits for that.
    pub retry: Option<Timestamp>,
    /// Until when a person may decide, while one must.
    pub expires: Option<Timestamp>,
    pub skipped: Option<SkipReason>,
    /// The step that takes its place where it fails.
    pub fallback: Option<String>,
    /// Where its output was taken from in place of a call.
    pub cached: Option<Cached>,
    /// The step that asks for the very same call, where that changes something.
    pub duplicate_of: Option<StepId>,
    /// Items that it is done for.
    pub items: Option<u32>,
    /// The run that carries it out.
    pub run: Option<RunId>,
    /// That run has done something that stands.
    pub has_done_within: bool,
    pub usage: Option<Usage>,
    pub args: Option<Json>,
    pub output: Option<Json>,
    pub failure: Option<Failure>,
    pub log: Vec<LogLine>,
    pub denials: Vec<Denial>,
}

/// A run as a list shows it, or why it cannot be read; `None` where it was removed meanwhile.
pub(super) async fn brief_or_why(host: &Host, entry: &RunEntry) -> Result<Option<RunReport>, Failure> {
    let read = match host.events(&entry.run).await {
        Ok(events) => brief(host, entry, &events).await,
        Err(failure) => Err(failure),
    };
    match read {
        Ok(report) => Ok(Some(report)),
        Err(failure) if failure.kind == Kind::DataNotFound => Ok(None),
        // Of one run, and not of the list: that was read already.
        Err(failure) if failure.kind == Kind::HostStorage => Ok(Some(unreadable(entry, failure))),
        Err(failure) => Err(failure),
    }
}

fn unreadable(entry: &RunEntry, why: Failure) -> RunReport {
    let story = Trace { created: entry.created, state: RunState::Unreadable, ..Trace::default() };
    RunReport { owner: entry.owner.clone(), failure: Some(why), ..bare_report(&entry.run, &story) }
}

/// A run as a list shows it: without what its steps took and brought.
async fn brief(host: &Host, entry: &RunEntry, events: &[Event]) -> Result<RunReport, Failure> {
    let story = trace(events);
    let steps = story.steps.iter().map(|step| bare(&entry.run, step)).collect();
    Ok(RunReport { owner: entry.owner.clone(), steps, ..report(host, &entry.run, &story).await? })
}

/// The runs among the newest `runs_max` that wait for a person, with all there is to tell about each.
pub(super) async fn waiting(host: &Host, runs_max: usize) -> Result<Vec<RunReport>, Failure> {
    let mut reports = Vec::new();
    for entry in host.0.parts.log.runs(runs_max).await? {
        let Some(story) = readable(host, &entry.run).await? else { continue };
        if waits_for_person(&story) {
            reports.push(RunReport { owner: entry.owner, ..told(host, &entry.run, &story).await? });
        }
    }
    Ok(reports)
}

/// The story of a run; `None` where it cannot be read, or was removed meanwhile.
async fn readable(host: &Host, run: &RunId) -> Result<Option<Trace>, Failure> {
    match host.events(run).await {
        Ok(events) => Ok(Some(trace(&events))),
        Err(failure) if matches!(failure.kind, Kind::DataNotFound | Kind::HostStorage) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Whether somebody could do something about the run. One step may wait while others go on.
fn waits_for_person(story: &Trace) -> bool {
    let is_open = |step: &StepTrace| step.asked.is_some() || step.status == "unknown" || is_stuck(story, step);
    let is_over = story.state.is_end() || story.state == RunState::Session;
    !is_over && (story.question.is_some() || story.steps.iter().any(is_open))
}

/// All there is to tell about a run.
pub(super) async fn full(host: &Host, run: &RunId) -> Result<RunReport, Failure> {
    let story = trace(&host.events(run).await?);
    Ok(RunReport { owner: owner(host, run).await?, ..told(host, run, &story).await? })
}

/// The living process that drives the run.
pub(super) async fn owner(host: &Host, run: &RunId) -> Result<Option<String>, Failure> {
    let entries = host.0.parts.log.runs(RUNS_LOOKED_THROUGH_MAX).await?;
    Ok(entries.into_iter().find(|entry| entry.run == *run).and_then(|entry| entry.owner))
}

async fn told(host: &Host, run: &RunId, story: &Trace) -> Result<RunReport, Failure> {
    let mut told = report(host, run, story).await?;
    told.prompt = prompted::used(host, run, story.pack).await?;
    for step in &story.steps {
        told.steps.push(filled(host, run, step).await?);
        told.approvals.extend(approval(host, run, story, step).await?);
    }
    Ok(told)
}

async fn report(host: &Host, run: &RunId, story: &Trace) -> Result<RunReport, Failure> {
    let goal: Option<StoredGoal> = look_up(host, run, story.goal).await?;
    Ok(RunReport {
        goal: goal.map(|goal| goal.text).unwrap_or_default(),
        failure: look_up(host, run, story.failure).await?,
        answer: look_up(host, run, story.answer).await?,
        question: look_up(host, run, story.question).await?,
        ..bare_report(run, story)
    })
}

/// What the events alone tell.
fn bare_report(run: &RunId, story: &Trace) -> RunReport {
    let unknown = story.steps.iter().filter(|step| step.status == "unknown");
    let stuck = story.steps.iter().filter(|step| is_stuck(story, step));
    RunReport {
        run: run.clone(),
        created: story.created,
        ended: story.ended,
        planner: story.planner.clone(),
        goal: String::new(),
        parent: story.parent.clone(),
        trace_id: story.trace,
        span_id: SpanId::of(run, Subject::Run),
        state: story.state,
        owner: None,
        failure: None,
        answer: None,
        is_verified: story.verified.map(|verified| verified.is_ok()),
        cancelled_by: story.cancelled_by.clone(),
        undo: story.undo.clone(),
        steps: Vec::new(),
        caveats: story.caveats.clone(),
        approvals: Vec::new(),
        unknown: unknown.map(|step| step.step.clone()).collect(),
        stuck: stuck.map(|step| step.step.clone()).collect(),
        question: None,
        prompt: None,
        models: story.models(),
    }
}

/// Whether a step was to take another one back, and could not, and nobody said that this is to stay.
fn is_stuck(story: &Trace, step: &StepTrace) -> bool {
    let Role::Undo { of } = &step.role else { return false };
    if step.is_given_up {
        return false;
    }
    let undone = story.steps.iter().find(|undone| undone.step == *of).map(|undone| undone.status);
    // What a run takes back that is there for nothing else is a step of another run.
    undone.unwrap_or(step.status) == "undo_failed" || (undone.is_none() && is_failed(step))
}

fn is_failed(step: &StepTrace) -> bool {
    matches!(step.status, "failed" | "rejected" | "cancelled")
}

async fn look_up<T: for<'de> serde::Deserialize<'de>>(
    host: &Host,
    run: &RunId,
    digest: Option<Digest>,
) -> Result<Option<T>, Failure> {
    match digest {
        Some(digest) => host.json(run, &digest).await,
        None => Ok(None),
    }
}

fn bare(run: &RunId, step: &StepTrace) -> StepReport {
    StepReport {
        step: step.step.clone(),
        tool: step.tool.clone(),
        role: step.role.clone(),
        status: step.status.to_owned(),
        attempts: step.attempts,
        span_id: SpanId::of(run, Subject::Step(&step.step, step.attempts)),
        effect: step.effect,
        started: step.started,
        ended: step.ended,
        retry: step.retry,
        expires: step.asked.as_ref().map(|asked| asked.expires),
        skipped: step.skipped.clone(),
        fallback: step.fallback.clone(),
        cached: step.cached.clone(),
        duplicate_of: step.duplicate_of.clone(),
        items: step.items,
        run: step.run.clone(),
        has_done_within: step.has_done_within,
        usage: step.usage.clone(),
        args: None,
        output: None,
        failure: None,
        log: Vec::new(),
        denials: Vec::new(),
    }
}

async fn filled(host: &Host, run: &RunId, step: &StepTrace) -> Result<StepReport, Failure> {
    Ok(StepReport {
        args: look_up(host, run, step.args).await?,
        output: look_up(host, run, step.output).await?,
        failure: look_up(host, run, step.failure).await?,
        log: look_up(host, run, step.log).await?.unwrap_or_default(),
        denials: look_up(host, run, step.denials).await?.unwrap_or_default(),
        ..bare(run, step)
    })
}

async fn approval(host: &Host, run: &RunId, story: &Trace, step: &StepTrace) -> Result<Option<ApprovalView>, Failure> {
    let Some(asked) = &step.asked else { return Ok(None) };
    let plan: Option<Json> = look_up(host, run, story.plans.get(&step.step.turn()).copied()).await?;
    let of = match &step.role {
        Role::Item { of } => of,
        _ => &step.step,
    };
    // Of the plan nothing else is read here: one that a program of another time wrote does not keep a person from deciding.
    let steps = plan.as_ref().and_then(|plan| plan["steps"].as_array());
    let planned = steps.into_iter().flatten().find(|step| step["planned"]["id"] == of.as_str());
    let risk = planned.and_then(|step| Risk::deserialize(&step["risk"]).ok());
    let parts = &host.0.parts;
    Ok(Some(ApprovalView {
        risk,
        run: run.clone(),
        step: step.step.clone(),
        tool: step.tool.clone(),
        args: look_up(host, run, step.args).await?.unwrap_or_default(),
        effect: asked.effect,
        rule: asked.rule.clone(),
        binding: asked.binding,
        duplicate_of: step.duplicate_of.clone(),
        mounts: parts.catalog.tool(&step.tool).map(|tool| mounts(&parts.policy, tool)).unwrap_or_default(),
    }))
}
