//! `runs` and `show`: what happened, as the log has it.

use serde_json::json;

use crate::domain::{Failure, Kind, RunId};
use crate::host::{Host, RunReport, RunState};

use super::Session;
use super::args::{ModelArgs, RunsArgs, ShowArgs};
use super::decide;
use super::exit::Code;
use super::text;
use super::timeline;

/// Runs among which the beginning of an id is looked for: it names one that a person saw lately.
const RUNS_SEARCHED_MAX: usize = 1_000;

/// Runs among which `last` is looked for: sessions of lone calls, and runs that cannot be read, are passed over.
const LAST_SEARCHED_MAX: usize = 50;

/// Runs that an ambiguous beginning lists.
const RUNS_NAMED_MAX: usize = 5;

/// Characters of the reason for which a run cannot be read.
const WHY_CHARS_MAX: usize = 400;

/// Characters of a goal in the list.
const GOAL_CHARS_MAX: usize = 48;

/// Lists runs.
pub(super) async fn list(session: &Session, args: &RunsArgs) -> Result<Code, Failure> {
    let runs = session.host_of_runs()?.runs(args.max).await?;
    if session.output.is_json {
        session.output.document(&json!({ "runs": runs }))?;
    } else if runs.is_empty() {
        session.output.say("no runs yet");
    } else {
        let rows = runs.iter().map(row).collect();
        session.output.result(&text::table(&["run", "created", "state", "planner", "goal"], rows, &[]))?;
        runs.iter().filter_map(unreadable).for_each(|why| session.output.say(&why));
    }
    Ok(Code::SUCCEEDED)
}

/// Why a run cannot be read, where it cannot.
fn unreadable(report: &RunReport) -> Option<String> {
    let why = report.failure.as_ref().filter(|_| report.state == RunState::Unreadable)?;
    let hint = why.hint.as_ref().map_or(String::new(), |hint| format!(" (hint: {hint})"));
    Some(text::line(&format!("cannot {}{hint}", why.message), WHY_CHARS_MAX))
}

fn row(report: &RunReport) -> Vec<String> {
    vec![
        report.run.to_string(),
        report.created.to_string(),
        timeline::state(&report.state).into(),
        text::line(&report.planner, GOAL_CHARS_MAX),
        text::line(&report.goal, GOAL_CHARS_MAX),
    ]
}

/// Shows a run or one of its steps.
pub(super) async fn show(session: &Session, args: &ShowArgs) -> Result<Code, Failure> {
    let host = session.host_of_runs()?;
    let report = host.show(&resolve(&host, &args.run).await?).await?;
    let Some(named) = &args.step else {
        if session.output.is_json {
            session.output.document(&json!(report))?;
        } else {
            session.output.result(&timeline::run(&report, &session.commands(&ModelArgs::default())))?;
        }
        return Ok(Code::SUCCEEDED);
    };
    let id = decide::step_named(named, report.steps.iter().map(|step| &step.step), "in the run")?;
    for step in report.steps.iter().filter(|step| step.step == id) {
        if session.output.is_json {
            session.output.document(&json!(step))?;
        } else {
            session.output.result(&timeline::step(step))?;
        }
    }
    Ok(Code::SUCCEEDED)
}

/// Finds the run that is meant: an id, the beginning of one, or `last`.
///
/// # Errors
/// `data.not_found`, or `data.conflict` where several begin so.
pub(super) async fn resolve(host: &Host, named: &str) -> Result<RunId, Failure> {
    if let Ok(run) = named.parse() {
        return Ok(run);
    }
    if named == "last" {
        let runs = host.runs(LAST_SEARCHED_MAX).await?;
        let last = runs.into_iter().find(|report| !matches!(report.state, RunState::Session | RunState::Unreadable));
        return last
            .map(|report| report.run)
            .ok_or_else(|| Failure::new(Kind::DataNotFound, "find the last run: there is none"));
    }
    let runs = host.runs(RUNS_SEARCHED_MAX).await?.into_iter().map(|report| report.run).collect::<Vec<_>>();
    one_beginning(&runs, named)
}

fn one_beginning(runs: &[RunId], named: &str) -> Result<RunId, Failure> {
    let begins = |run: &&RunId| {
        let wanted = named.to_ascii_lowercase();
        run.as_str().starts_with(&wanted) || run.as_str().trim_start_matches("r-").starts_with(&wanted)
    };
    let found: Vec<_> = runs.iter().filter(begins).collect();
    match found.as_slice() {
        [run] => Ok((*run).clone()),
        [] => Err(Failure::new(Kind::DataNotFound, format!("find run `{}`", text::line(named, GOAL_CHARS_MAX)))
            .hint("`cofferdam runs` lists them; `last` is the newest")),
        several => {
            let names: Vec<_> = several.iter().take(RUNS_NAMED_MAX).map(|run| run.as_str()).collect();
            Err(Failure::new(
                Kind::DataConflict,
                format!("find run `{}`: {} runs begin so", text::line(named, GOAL_CHARS_MAX), several.len()),
            )
            .hint(format!("give more of the id: {}", names.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_by_a_beginning_that_no_other_has() {
        let run = |text: &str| -> RunId { format!("r-{text:0<26}").parse().unwrap() };
        let runs = [run("01ab"), run("01ac"), run("02")];
        assert_eq!(one_beginning(&runs, "r-02").unwrap(), runs[2]);
        assert_eq!(one_beginning(&runs, "01AC").unwrap(), runs[1]);
        assert_eq!(one_beginning(&runs, "01").unwrap_err().kind, Kind::DataConflict);
        assert_eq!(one_beginning(&runs, "7").unwrap_err().kind, Kind::DataNotFound);
    }
}
