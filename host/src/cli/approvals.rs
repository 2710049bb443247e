//! `approvals`: all that waits for a person, in all runs, with the command that decides it.

use serde_json::json;

use crate::domain::{Failure, Json, StepId, Timestamp};
use crate::host::{ApprovalView, RunReport};

use super::Session;
use super::args::ModelArgs;
use super::commands::Commands;
use super::exit::Code;
use super::text;

/// Runs that are looked through: what waits longer than the newest thousand runs is listed by `runs`.
const RUNS_LOOKED_THROUGH_MAX: usize = 1_000;

/// Characters of a goal, a rule or a question in a line.
const LINE_CHARS_MAX: usize = 80;

/// Lists what waits.
pub(super) async fn command(session: &Session) -> Result<Code, Failure> {
    let reports = session.host_of_runs()?.waiting(RUNS_LOOKED_THROUGH_MAX).await?;
    let commands = session.commands(&ModelArgs::default());
    if session.output.is_json {
        let matters: Vec<_> = reports.iter().flat_map(|report| matters(report, &commands)).collect();
        session.output.document(&json!({ "waiting": matters }))?;
    } else if reports.is_empty() {
        session.output.say("nothing waits for a person");
    } else {
        let told: Vec<_> = reports.iter().map(|report| run(report, &commands)).collect();
        session.output.result(&told.join("\n"))?;
    }
    Ok(Code::SUCCEEDED)
}

/// Returns what waits in a run, each as a document of its own.
fn matters(report: &RunReport, commands: &Commands) -> Vec<Json> {
    let matter = |what: &str, more: Json| {
        let mut matter = json!({ "what": what, "run": report.run, "goal": report.goal, "owner": report.owner });
        if let (Some(matter), Json::Object(more)) = (matter.as_object_mut(), more) {
            matter.extend(more);
        }
        matter
    };
    let approval = |view: &ApprovalView| {
        matter(
            "approval",
            json!({
                "step": view.step, "tool": view.tool, "effect": view.effect, "rule": view.rule, "args": view.args,
                "binding": view.binding, "duplicate_of": view.duplicate_of, "expires": expires(report, &view.step),
                "command": commands.approve(&report.run, view),
            }),
        )
    };
    let settle = |what: &str, step: &StepId| {
        let tool = report.steps.iter().find(|told| told.step == *step).map(|told| &told.tool);
        let command = format!("{} --settle {step}=retry", commands.resume(report));
        matter(what, json!({ "step": step, "tool": tool, "command": command }))
    };
    let answer =
        |question: &String| matter("question", json!({ "question": question, "command": commands.answer(report) }));
    let approvals = report.approvals.iter().map(approval);
    let unknown = report.unknown.iter().map(|step| settle("reconcile", step));
    let stuck = report.stuck.iter().map(|step| settle("stuck", step));
    approvals.chain(unknown).chain(stuck).chain(report.question.iter().map(answer)).collect()
}

fn run(report: &RunReport, commands: &Commands) -> String {
    let owner = report.owner.as_ref().map_or_else(|| "nobody works on it".into(), |owner| format!("with {owner}"));
    let (goal, owner) = (text::line(&report.goal, LINE_CHARS_MAX), text::line(&owner, LINE_CHARS_MAX));
    let mut words = format!("{}  {goal} ({owner})\n", report.run);
    for view in &report.approvals {
        let until = expires(report, &view.step).map_or(String::new(), |expires| format!(", until {expires}"));
        let rule = text::line(&view.rule, LINE_CHARS_MAX);
        words.push_str(&format!("  approve  {} {} ({}), rule {rule}{until}\n", view.step, view.tool, view.effect));
        words.push_str(&format!("    {}\n", commands.approve(&report.run, view)));
    }
    for step in &report.unknown {
        words.push_str(&format!("  settle   {step}: it began to change something, and nobody saw it end\n"));
        words.push_str(&commands.settle(report, step, ["do it again", "it did not happen, and shall not"]));
    }
    for step in &report.stuck {
        words.push_str(&format!("  stuck    {step}: it was to take something back, and could not\n"));
        words.push_str(&commands.settle(report, step, ["try to take it back again", "it stays as it is"]));
    }
    if let Some(question) = &report.question {
        words.push_str(&format!("  answer   {}\n", text::line(question, LINE_CHARS_MAX)));
        words.push_str(&format!("    {}\n", commands.answer(report)));
    }
    words
}

fn expires(report: &RunReport, step: &StepId) -> Option<Timestamp> {
    report.steps.iter().find(|told| told.step == *step).and_then(|told| told.expires)
}
