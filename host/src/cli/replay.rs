//! `replay`: a run played back from its records.

use std::path::Path;

use serde_json::json;

use crate::domain::{Failure, RunId};
use crate::host::{Host, ReplayReport, ReplayVerdict, Replayed};

use super::Session;
use super::args::ReplayArgs;
use super::exit::Code;
use super::output;
use super::runs::resolve;
use super::text;

/// Plays a run back, and says what is not as it was.
pub(super) async fn command(session: &Session, args: ReplayArgs) -> Result<Code, Failure> {
    let host = session.host_of_runs()?;
    let run = resolve(&host, &args.run).await?;
    if let Some(path) = &args.export {
        return export(session, &host, &run, path).await;
    }
    let report = host.replay(&run, &args.with.into_iter().collect()).await?;
    if session.output.is_json {
        session.output.document(&json!(report))?;
    } else {
        session.output.result(&told(&report))?;
    }
    Ok(if report.is_same() { Code::SUCCEEDED } else { Code::FAILED })
}

/// Writes what the planner of a run said.
async fn export(session: &Session, host: &Host, run: &RunId, path: &Path) -> Result<Code, Failure> {
    let recording = host.recording(run).await?;
    output::write_new(path, &recording.to_lines())?;
    let turns = recording.turns.len();
    if session.output.is_json {
        session.output.document(&json!({ "run": run, "file": path, "turns": turns }))?;
    }
    let shown = text::printable(&path.display().to_string());
    session.output.say(&format!("wrote {turns} turns of {} to {shown}", text::printable(&recording.head.planner)));
    Ok(Code::SUCCEEDED)
}

fn told(report: &ReplayReport) -> String {
    let rows = report.parts.iter().map(row).collect();
    let table = text::table(&["part", "tool", "host calls", "played back"], rows, &[2]);
    let first = report.parts.iter().find(|part| Some(&part.part) == report.diverged.as_ref());
    let end = match first.map(|part| (part, &part.result)) {
        Some((part, ReplayVerdict::Differs { what, then, now })) => format!(
            "{} differs first: {what}\n  then: {}\n  now:  {}",
            text::printable(&part.part),
            text::hanging(&text::printable(then)),
            text::hanging(&text::printable(now)),
        ),
        _ => format!("{}: all that can be played back is as it was", report.run),
    };
    format!("{table}\n{end}")
}

fn row(part: &Replayed) -> Vec<String> {
    let result = match &part.result {
        ReplayVerdict::Same => "same".to_owned(),
        ReplayVerdict::Differs { what, .. } => format!("differs: {}", text::printable(what)),
        ReplayVerdict::Untold { why } => format!("untold: {}", text::printable(why)),
    };
    let other = if part.is_other_component { " (another component)" } else { "" };
    let tool = part.tool.as_ref().map_or_else(String::new, |tool| format!("{tool}{other}"));
    vec![text::printable(&part.part), tool, part.host_calls.to_string(), result]
}
