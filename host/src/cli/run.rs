//! `run` and `resume`: a goal followed to where it stops, its answer on standard output.

use serde_json::json;

use crate::domain::{Fact, Failure, Json, Kind, RunId};
use crate::host::{Approve, Goal, Host, Message, RunReport, Settle, StartOptions, Wait};

use super::Session;
use super::args::{ApprovalArgs, ResumeArgs, RunArgs};
use super::decide;
use super::exit::{self, Code};
use super::follow::Follow;
use super::output::tell;
use super::runs;
use super::text;
use super::timeline;

/// Starts a run and follows it.
pub(super) async fn run(session: &Session, args: RunArgs) -> Result<Code, Failure> {
    let goal = match (args.flow, args.goal) {
        (Some(flow), _) => Goal::workflow(&flow, args.set.into_iter().collect())?,
        (None, goal) => Goal::text(goal.unwrap_or_default()),
    };
    let host = session.host(args.model)?;
    let plan = Attendance::new(session, &args.approval);
    let handle = host.start(goal, plan.options).await?;
    let follower = Follow::new(session, &host, handle, plan.is_asking);
    follow(session, &host, follower).await
}

/// Takes a run that was left, and follows it.
pub(super) async fn resume(session: &Session, args: ResumeArgs) -> Result<Code, Failure> {
    let host = session.host(args.model)?;
    let run = runs::resolve(&host, &args.run).await?;
    if !args.settle.is_empty() {
        settle(session, &host, &run, args.settle).await?;
    }
    if let Some(text) = args.answer {
        answer(session, &host, &run, text).await?;
    }
    let plan = Attendance::new(session, &args.approval);
    let before = host.show(&run).await?;
    let handle = host.resume(&run, plan.options).await?;
    let follower = Follow::new(session, &host, handle, plan.is_asking).knowing(&before.steps);
    follow(session, &host, follower).await
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
        Self { options: StartOptions { wait, approve }, is_asking }
    }
}

async fn follow(session: &Session, host: &Host, follower: Follow<'_>) -> Result<Code, Failure> {
    let report = follower.until_it_stops().await?;
    host.close().await?;
    finish(session, &report)
}

/// Tells how a run ended: the answer on standard output, all else on standard error.
fn finish(session: &Session, report: &RunReport) -> Result<Code, Failure> {
    if session.output.is_json {
        session.output.json_line(&json!({ "signal": "report", "report": report }))?;
        return Ok(exit::of_report(report));
    }
    session.output.say(&format!("\n{}", timeline::steps(report)));
    session.output.say_if_any(&timeline::end(report, &session.program()));
    if let Some(failure) = report.failure.as_ref().filter(|_| session.output.is_quiet) {
        tell(&session.output.failure_text(failure));
    }
    match &report.answer {
        Some(Json::String(answer)) => session.output.foreign(answer)?,
        Some(answer) => session.output.foreign(&text::pretty(answer))?,
        None => {}
    }
    Ok(exit::of_report(report))
}

async fn settle(session: &Session, host: &Host, run: &RunId, settled: Vec<(String, Settle)>) -> Result<(), Failure> {
    let report = host.show(run).await?;
    for (named, settle) in settled {
        let step = decide::step_named(&named, report.unknown.iter(), "whose end nobody saw")?;
        host.send(run, Message::Settle { step, settle, by: session.by(None) }).await?;
    }
    Ok(())
}

async fn answer(session: &Session, host: &Host, run: &RunId, text: String) -> Result<(), Failure> {
    let events = host.events(run).await?;
    let asked = events.iter().rev().find_map(|event| match event.fact {
        Fact::Asked { turn, .. } => Some(turn),
        _ => None,
    });
    let turn =
        asked.ok_or_else(|| Failure::new(Kind::DataConflict, format!("answer a question of {run}: none was asked")))?;
    host.send(run, Message::Answer { turn, text, by: session.by(None) }).await
}
