//! What a host tells about runs and tools: stories with their payloads looked up.

use serde::Serialize;

use crate::domain::{
    Caveat, Denial, Digest, Effect, Event, Failure, Json, Kind, LogLine, RunId, StepId, Suspension, Timestamp,
    ToolName, Usage,
};
use crate::host::{ApprovalView, Choice, Host, Message, RunState, Settle};
use crate::orchestrator::Goal as StoredGoal;
use crate::policy::mounts;
use crate::registry::{PinState, VerifiedTool};
use crate::store::RunEntry;
use crate::telemetry::{StepTrace, Trace, trace};

/// Runs that are looked through for the owner of one.
const RUNS_LOOKED_THROUGH_MAX: usize = 1_000;

/// A tool, and what policy says of it.
#[derive(Clone, Debug, Serialize)]
pub struct ToolView {
    pub name: ToolName,
    pub summary: String,
    /// The worst it could do under policy; `None` where it is denied.
    pub effect: Option<Effect>,
    pub denied: Option<Failure>,
    pub digest: Digest,
    pub input_schema: Json,
    pub output_schema: Json,
    pub asks: Vec<crate::domain::Ask>,
    /// How its component stands to its pin; `None` where there is no lock.
    pub lock: Option<PinState>,
}

impl ToolView {
    pub(super) fn new(tool: &VerifiedTool, effect: Result<Effect, Failure>, lock: Option<PinState>) -> Self {
        let contract = tool.tool();
        Self {
            name: contract.name.clone(),
            summary: contract.summary.clone(),
            effect: effect.as_ref().ok().copied(),
            denied: effect.err(),
            digest: *tool.digest(),
            input_schema: contract.input_schema.clone(),
            output_schema: contract.output_schema.clone(),
            asks: contract.asks.iter().copied().collect(),
            lock,
        }
    }
}

/// How a run stands.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    pub run: RunId,
    pub created: Timestamp,
    pub ended: Option<Timestamp>,
    pub planner: String,
    pub goal: String,
    pub state: RunState,
    /// The living process that drives it.
    pub owner: Option<String>,
    pub failure: Option<Failure>,
    pub answer: Option<Json>,
    pub steps: Vec<StepReport>,
    /// What the end alone does not tell.
    pub caveats: Vec<Caveat>,
    /// Calls that wait for a person.
    pub approvals: Vec<ApprovalView>,
    /// Steps that began to change something, and whose end nobody saw.
    pub unknown: Vec<StepId>,
    pub question: Option<String>,
}

/// How a step stands.
#[derive(Clone, Debug, Serialize)]
pub struct StepReport {
    pub step: StepId,
    pub tool: ToolName,
    pub status: String,
    pub attempts: u32,
    pub effect: Effect,
    pub started: Option<Timestamp>,
    pub usage: Option<Usage>,
    pub args: Option<Json>,
    pub output: Option<Json>,
    pub failure: Option<Failure>,
    pub log: Vec<LogLine>,
    pub denials: Vec<Denial>,
}

/// A run as a list shows it: without what its steps took and brought.
pub(super) async fn brief(host: &Host, entry: &RunEntry, events: &[Event]) -> Result<RunReport, Failure> {
    let story = trace(events);
    let steps = story.steps.iter().map(bare).collect();
    Ok(RunReport { owner: entry.owner.clone(), steps, ..report(host, &entry.run, &story).await? })
}

/// All there is to tell about a run.
pub(super) async fn full(host: &Host, run: &RunId) -> Result<RunReport, Failure> {
    let story = trace(&host.events(run).await?);
    let mut told = report(host, run, &story).await?;
    for step in &story.steps {
        told.steps.push(filled(host, run, step).await?);
        told.approvals.extend(approval(host, run, step).await?);
    }
    let entries = host.0.parts.log.runs(RUNS_LOOKED_THROUGH_MAX).await?;
    told.owner = entries.into_iter().find(|entry| entry.run == *run).and_then(|entry| entry.owner);
    Ok(told)
}

async fn report(host: &Host, run: &RunId, story: &Trace) -> Result<RunReport, Failure> {
    let goal: Option<StoredGoal> = look_up(host, run, story.goal).await?;
    let unknown = story.steps.iter().filter(|step| step.status == "unknown");
    Ok(RunReport {
        run: run.clone(),
        created: story.created,
        ended: story.ended,
        planner: story.planner.clone(),
        goal: goal.map(|goal| goal.text).unwrap_or_default(),
        state: story.state,
        owner: None,
        failure: look_up(host, run, story.failure).await?,
        answer: look_up(host, run, story.answer).await?,
        steps: Vec::new(),
        caveats: story.caveats.clone(),
        approvals: Vec::new(),
        unknown: unknown.map(|step| step.step.clone()).collect(),
        question: look_up(host, run, story.question).await?,
    })
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

fn bare(step: &StepTrace) -> StepReport {
    StepReport {
        step: step.step.clone(),
        tool: step.tool.clone(),
        status: step.status.to_owned(),
        attempts: step.attempts,
        effect: step.effect,
        started: step.started,
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
        ..bare(step)
    })
}

async fn approval(host: &Host, run: &RunId, step: &StepTrace) -> Result<Option<ApprovalView>, Failure> {
    let Some((binding, rule)) = &step.asked else { return Ok(None) };
    let parts = &host.0.parts;
    Ok(Some(ApprovalView {
        run: run.clone(),
        step: step.step.clone(),
        tool: step.tool.clone(),
        args: look_up(host, run, step.args).await?.unwrap_or_default(),
        effect: step.effect,
        rule: rule.clone(),
        binding: *binding,
        mounts: parts.catalog.tool(&step.tool).map(|tool| mounts(&parts.policy, tool)).unwrap_or_default(),
    }))
}

/// Refuses a message that does not fit the run as it is, so that nobody waits for an effect that it will not have.
pub(super) fn check_message(
    report: &RunReport,
    message: &Message,
    find: impl Fn(&ToolName) -> Option<VerifiedTool>,
) -> Result<(), Failure> {
    let conflict = |what: String| {
        Err(Failure::new(Kind::DataConflict, what).hint(format!("look at it with `cofferdam show {}`", report.run)))
    };
    if report.ended.is_some() {
        return conflict(format!("send to run `{}`: it has ended", report.run));
    }
    match message {
        Message::Decide { step, binding, choice, .. } => {
            let waits = report.approvals.iter().any(|approval| approval.step == *step && approval.binding == *binding);
            let verb = if *choice != Choice::Reject { "approve" } else { "reject" };
            if waits {
                Ok(())
            } else {
                conflict(format!("{verb} `{step}`: exactly this call does not wait for a decision"))
            }
        }
        Message::Settle { step, .. } if !report.unknown.contains(step) => {
            conflict(format!("settle `{step}`: its end is not unknown"))
        }
        Message::Settle { step, settle: Settle::Done { output }, .. } => {
            let told = report.steps.iter().find(|told| told.step == *step);
            check_output(output, told.and_then(|told| find(&told.tool)))
        }
        Message::Answer { .. } if report.state != RunState::Suspended(Suspension::Question) => {
            conflict(format!("answer run `{}`: it has not asked anything", report.run))
        }
        Message::Settle { .. } | Message::Answer { .. } | Message::Cancel { .. } => Ok(()),
    }
}

fn check_output(output: &str, tool: Option<VerifiedTool>) -> Result<(), Failure> {
    let value: Json = serde_json::from_str(output)
        .map_err(|e| Failure::new(Kind::DataInput, format!("read the output as JSON: {e}")))?;
    tool.map_or(Ok(()), |tool| {
        tool.check_output(&value).map_err(|failure| Failure { kind: Kind::DataInput, ..failure })
    })
}
