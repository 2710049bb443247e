//! `watch`: the story of a run as it goes on, whichever process drives it.

use serde_json::json;

use crate::domain::{Failure, Json, TraceId};
use crate::host::{RunReport, RunState, Seen, StepProgress};

use super::Session;
use super::args::{ModelArgs, WatchArgs};
use super::exit::{self, Code};
use super::output::Output;
use super::runs;
use super::screen::{event_document, progress_line};
use super::story::Cast;
use super::timeline;

/// Follows a run to its end, or to where it waits.
pub(super) async fn command(session: &Session, args: &WatchArgs) -> Result<Code, Failure> {
    let host = session.host_of_log()?;
    let run = runs::resolve(&host, &args.run).await?;
    let mut cast = Cast::default();
    // Those that were named before the first event that is shown.
    host.events(&run).await?.iter().for_each(|event| cast.learn(event));
    let mut watch = host.watch(&run, args.from.saturating_sub(1)).await?;
    if args.follow {
        watch = watch.following();
    }
    while let Some(seen) = watch.next().await? {
        if let Seen::Event(event) = &seen {
            cast.learn(event);
        }
        if !show(&session.output, &cast, &seen, watch.trace_id())? {
            return Ok(Code::SUCCEEDED);
        }
    }
    let report = host.show(&run).await?;
    if !session.output.is_json {
        session.output.say(&stands(&report));
        session.output.say_if_any(&timeline::end(&report, &session.commands(&ModelArgs::default())));
    }
    Ok(exit::of_report(&report))
}

fn stands(report: &RunReport) -> String {
    let is_left = matches!(report.state, RunState::Planning | RunState::Executing | RunState::Undoing);
    let left = if is_left && report.owner.is_none() { ", and nobody works on it" } else { "" };
    format!("{}: {}{left}", report.run, timeline::state(&report.state))
}

/// Shows what was seen; answers whether somebody still reads.
fn show(output: &Output, cast: &Cast, seen: &Seen, trace: Option<TraceId>) -> Result<bool, Failure> {
    if output.is_json {
        return output.line_of(&document(seen, trace).to_string());
    }
    match seen {
        Seen::Event(event) => match cast.line(event) {
            Some(line) => output.line_of(&format!("{:>5}  {}  {line}", event.seq, event.at)),
            None => Ok(true),
        },
        Seen::Progress(StepProgress { step, fraction, message, at }) => {
            output.line_of(&format!("{:>5}  {at}  {}", "", progress_line(step, *fraction, message)))
        }
    }
}

/// The same documents as those of `run`.
fn document(seen: &Seen, trace: Option<TraceId>) -> Json {
    match seen {
        Seen::Event(event) => event_document(event, trace),
        Seen::Progress(StepProgress { step, fraction, message, .. }) => {
            json!({ "signal": "progress", "step": step, "fraction": fraction, "message": message })
        }
    }
}
