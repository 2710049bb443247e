//! `run` and `resume`: a goal followed to where it stops, its answer on standard output.

use std::path::Path;

use serde_json::json;

use crate::domain::{Fact, Failure, Json, Kind, RunId, Suspension};
use crate::host::{Approve, Goal, Host, Keyed, Message, Recording, RunReport, RunState, Settle, StartOptions, Wait};

use super::Session;
use super::args::{ApprovalArgs, ModelArgs, ResumeArgs, RunArgs};
use super::commands::{Commands, is_of_models};
use super::decide;
use super::drift;
use super::exit::{self, Code};
use super::follow::Follow;
use super::output::tell;
use super::runs;
use super::text;
use super::timeline;

/// Characters of an owner's name in a message.
const OWNER_CHARS_MAX: usize = 60;

/// Starts a run and follows it.
pub(super) async fn run(session: &Session, args: RunArgs) -> Result<Code, Failure> {
    if args.flow.is_none() {
        refuse_names(&args.approval)?;
    }
    let inputs = args.set.into_iter().chain(args.input).collect();
    let goal = match (args.flow, args.goal) {
        (Some(flow), _) => Some(Goal::workflow(&flow, inputs)?),
        (None, Some(goal)) => Some(Goal::text(goal).with_inputs(inputs)?.asserting(args.assert.clone())?),
        (None, None) => None,
    };
    let goal = if args.critical { goal.map(Goal::critical) } else { goal };
    let end = Finish { commands: session.commands(&args.model), is_strict: args.strict };
    let host = session.host(args.model)?;
    let goal = match goal {
        Some(goal) => goal,
        None => Goal::recording(recording(&host, args.recording.as_deref()).await?, args.lenient),
    };
    let mut plan = Attendance::new(session, &args.approval);
    plan.options.traceparent = session.traceparent(args.traceparent);
    plan.options.usd_micros_max = args.usd_max;
    let handle = match &args.key {
        None => host.start(goal, plan.options).await?,
        Some(key) => match host.start_keyed(goal, plan.options.clone(), key).await? {
            Keyed::Started(handle) => handle,
            Keyed::Before(run) => match known(session, &host, &run).await? {
                Some(report) => return end.tell(session, &report),
                None => host.resume(&run, plan.options).await?,
            },
        },
    };
    let follower = Follow::new(session, &host, handle, plan.is_asking);
    end.tell(session, &follow(&host, follower).await?)
}

/// Reads a recording from a file, or from the log.
async fn recording(host: &Host, named: Option<&str>) -> Result<Recording, Failure> {
    let named = named.unwrap_or_default();
    let path = Path::new(named);
    if path.is_file() {
        return Recording::read(path);
    }
    host.recording(&runs::resolve(host, named).await?).await
}

/// Starts a workflow that a person has confirmed, and follows it.
pub(super) async fn confirmed(session: &Session, host: &Host, goal: Goal) -> Result<Code, Failure> {
    let end = Finish { commands: session.commands(&ModelArgs::default()), is_strict: false };
    let mut plan = Attendance::new(session, &ApprovalArgs::default());
    plan.options.traceparent = session.traceparent(None);
    let handle = host.start(goal, plan.options).await?;
    let follower = Follow::new(session, host, handle, plan.is_asking);
    end.tell(session, &follow(host, follower).await?)
}

/// Returns how the run of a key ended; `None` where it was left, and goes on here.
///
/// # Errors
/// `data.conflict` where another process drives it.
async fn known(session: &Session, host: &Host, run: &RunId) -> Result<Option<RunReport>, Failure> {
    let report = host.show(run).await?;
    if let Some(owner) = &report.owner {
        let owner = text::line(owner, OWNER_CHARS_MAX);
        return Err(Failure::new(
            Kind::DataConflict,
            format!("run under this key: run `{run}` is under way ({owner})"),
        )
        .hint(format!("follow it with `watch {run}`")));
    }
    session.output.say(&format!("the same was asked for before under this key: run {run}"));
    Ok(report.ended.is_some().then_some(report))
}

/// Goes on with a run that somebody left, without asking anybody, and tells how it ended.
pub(super) async fn drive(session: &Session, run: &RunId) -> Result<Code, Failure> {
    let end = Finish { commands: session.commands(&ModelArgs::default()), is_strict: false };
    let host = session.host(ModelArgs::default())?;
    let before = host.show(run).await?;
    let plan = Attendance::new(session, &ApprovalArgs::default());
    let handle = host.resume(run, plan.options).await?;
    let follower = Follow::new(session, &host, handle, plan.is_asking).knowing(&before);
    end.tell(session, &follow(&host, follower).await?)
}

/// Takes a run that was left, and follows it.
pub(super) async fn resume(session: &Session, args: ResumeArgs) -> Result<Code, Failure> {
    let end = Finish { commands: session.commands(&args.model), is_strict: args.strict };
    let host = session.host(args.model)?;
    let run = runs::resolve(&host, &args.run).await?;
    if args.dry_run {
        return drift::tell(session, &host.drift(&run).await?);
    }
    let before = host.show(&run).await?;
    if is_of_models(&before) {
        refuse_names(&args.approval)?;
    }
    let is_told = !args.settle.is_empty() || args.answer.is_some();
    let question = if is_told { None } else { open_question(&host, &before).await? };
    settle(session, &host, &before, args.settle).await?;
    if let Some(text) = args.answer {
        answer(session, &host, &run, text).await?;
    }
    let plan = Attendance::new(session, &args.approval);
    let accept_tools = args.accept.then(|| session.by(None));
    let handle = host.resume(&run, StartOptions { accept_tools, ..plan.options }).await?;
    let follower = Follow::new(session, &host, handle, plan.is_asking).knowing(&before).asking(question);
    match follow(&host, follower).await {
        // What was said has an effect there.
        Err(failure) if failure.kind == Kind::HostOwned && is_told => told_owner(session, &host, &run).await,
        followed => end.tell(session, &followed?),
    }
}

/// A model names the steps of its plan, so that to approve a name would let it choose what is approved.
fn refuse_names(args: &ApprovalArgs) -> Result<(), Failure> {
    if args.approve.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Kind::DataInput, "approve steps by name: a model plans this run, and names its steps")
        .hint("approve the exact call with `cofferdam approve RUN STEP`, or every call with `--yes`"))
}

/// Who attends to approvals, and how long for.
struct Attendance {
    options: StartOptions,
    is_asking: bool,
}

impl Attendance {
    /// With a flag the decision is made beforehand; at a terminal a person is asked; otherwise nobody is.
    fn new(session: &Session, args: &ApprovalArgs) -> Self {
        let by = session.by(None);
        let approve = match (args.yes, args.approve.as_slice()) {
            (true, _) => Approve::All { by },
            (false, []) => Approve::Ask,
            (false, steps) => Approve::Steps { steps: steps.to_vec(), by },
        };
        let is_asking = !args.yes && session.output.is_interactive();
        let wait = match args.wait {
            Some(seconds) => Wait::Ms(u64::from(seconds) * 1_000),
            None if is_asking => Wait::Forever,
            None => Wait::Never,
        };
        Self { options: StartOptions { wait, approve, ..StartOptions::default() }, is_asking }
    }
}

async fn follow(host: &Host, follower: Follow<'_>) -> Result<RunReport, Failure> {
    let report = follower.until_it_stops().await?;
    host.close().await?;
    Ok(report)
}

/// How the end of a run is told.
struct Finish {
    commands: Commands,
    is_strict: bool,
}

impl Finish {
    /// Tells how a run ended: the answer on standard output, all else on standard error.
    fn tell(&self, session: &Session, report: &RunReport) -> Result<Code, Failure> {
        let code = if self.is_strict { exit::of_strict_report(report) } else { exit::of_report(report) };
        if session.output.is_json {
            session.output.json_line(&json!({ "signal": "report", "report": report }))?;
            return Ok(code);
        }
        session.output.say(&format!("\n{}", timeline::steps(report)));
        session.output.say_if_any(&timeline::end(report, &self.commands));
        if let Some(failure) = report.failure.as_ref().filter(|_| session.output.is_quiet) {
            tell(&session.output.failure_text(failure));
        }
        match &report.answer {
            Some(Json::String(answer)) => session.output.foreign(answer)?,
            Some(answer) => session.output.foreign(&text::pretty(answer))?,
            None => {}
        }
        Ok(code)
    }
}

async fn settle(
    session: &Session,
    host: &Host,
    report: &RunReport,
    settled: Vec<(String, Settle)>,
) -> Result<(), Failure> {
    for (named, settle) in settled {
        let open = report.unknown.iter().chain(&report.stuck);
        let step = decide::step_named(&named, open, "whose end nobody saw, or that could not take another one back")?;
        host.send(&report.run, Message::Settle { step, settle, by: session.by(None) }).await?;
    }
    Ok(())
}

async fn answer(session: &Session, host: &Host, run: &RunId, text: String) -> Result<(), Failure> {
    let turn = asked(host, run)
        .await?
        .ok_or_else(|| Failure::new(Kind::DataConflict, format!("answer a question of {run}: none was asked")))?;
    host.send(run, Message::Answer { turn, text, by: session.by(None) }).await
}

/// Returns the turn of the planner's last question.
async fn asked(host: &Host, run: &RunId) -> Result<Option<u32>, Failure> {
    let events = host.events(run).await?;
    Ok(events.iter().rev().find_map(|event| match event.fact {
        Fact::Asked { turn, .. } => Some(turn),
        _ => None,
    }))
}

/// Returns the planner's question that the run waits with, and its turn.
async fn open_question(host: &Host, report: &RunReport) -> Result<Option<(u32, String)>, Failure> {
    if report.state != RunState::Suspended(Suspension::Question) {
        return Ok(None);
    }
    Ok(asked(host, &report.run).await?.zip(report.question.clone()))
}

async fn told_owner(session: &Session, host: &Host, run: &RunId) -> Result<Code, Failure> {
    let owner = host.show(run).await?.owner;
    if session.output.is_json {
        session.output.json_line(&json!({ "signal": "told", "run": run, "owner": owner }))?;
    }
    let owner = owner.map_or(String::new(), |owner| format!(" ({})", text::line(&owner, OWNER_CHARS_MAX)));
    session.output.say(&format!("told its owner{owner}, which goes on with the run"));
    Ok(Code::SUCCEEDED)
}
