//! What a run did and where it stands, as text for people.

use crate::domain::{Failure, Json, Suspension, Usage, usd};
use crate::host::{RunReport, RunState, StepReport};

use super::commands::Commands;
use super::next;
use super::story;
use super::text;

mod step;
#[cfg(test)]
mod tests;

use step::outcome;
pub(super) use step::{denials, log, step, usage_line};

/// Characters of a goal in a line.
const GOAL_CHARS_MAX: usize = 100;

/// Returns the table of steps: what ran, how it ended, and what it used.
pub(super) fn steps(report: &RunReport) -> String {
    let rows = report.steps.iter().map(step_row).collect();
    text::table(&["step", "tool", "outcome", "wall", "fuel", "peak memory"], rows, &[3, 4, 5])
}

fn step_row(step: &StepReport) -> Vec<String> {
    let used = |show: &dyn Fn(&Usage) -> String| step.usage.as_ref().map_or_else(|| "-".into(), show);
    vec![
        step.step.to_string(),
        step.tool.to_string(),
        outcome(step),
        used(&|usage| format!("{} ms", text::count(usage.wall_ms))),
        used(&|usage| text::count(usage.fuel)),
        used(&|usage| text::bytes(usage.memory_bytes_peak)),
    ]
}

/// Returns the name of where a run stands.
pub(super) fn state(state: &RunState) -> &'static str {
    match state {
        RunState::Planning => "planning",
        RunState::Executing => "executing",
        RunState::Undoing => "taking back what it did",
        RunState::Suspended(Suspension::Approval) => "waits for approval",
        RunState::Suspended(Suspension::Question) => "waits for an answer",
        RunState::Suspended(Suspension::Timer) => "waits for its next attempt",
        RunState::Suspended(Suspension::Reconcile) => "waits to be settled",
        RunState::Suspended(Suspension::Stuck) => "stuck",
        RunState::Succeeded => "succeeded",
        RunState::Failed => "failed",
        RunState::Cancelled => "cancelled",
        RunState::BudgetExhausted => "budget exhausted",
        RunState::Session => "session",
        RunState::Unreadable => "unreadable",
    }
}

/// Returns all of a run: what it is, its steps, and its end.
pub(super) fn run(report: &RunReport, commands: &Commands) -> String {
    let ended = report.ended.map_or(String::new(), |ended| format!(", ended {ended}"));
    let owner = report
        .owner
        .as_ref()
        .map_or(String::new(), |owner| format!("owner    {}\n", text::line(owner, GOAL_CHARS_MAX)));
    let answer = report
        .answer
        .as_ref()
        .map_or(String::new(), |answer| format!("answer, as the run made it:\n{}", value(answer)));
    let part = report
        .parent
        .as_ref()
        .map_or(String::new(), |parent| format!("part of  step {} of run {}\n", parent.step, parent.run));
    let prompt = report.prompt.as_ref().map_or(String::new(), |prompt| {
        let name = prompt.name.as_deref().unwrap_or("of another program");
        format!("prompt   {name} ({})\n", prompt.digest.short())
    });
    let models = match report.models.requests {
        0 => String::new(),
        requests => format!("models   {}\n", models(requests, report)),
    };
    format!(
        "run      {}\nstate    {}\nplanner  {}\n{prompt}{models}goal     {}\ncreated  {}{ended}\n{owner}{part}\n{}\n{answer}{}",
        report.run,
        state(&report.state),
        text::line(&report.planner, GOAL_CHARS_MAX),
        text::line(&report.goal, GOAL_CHARS_MAX),
        report.created,
        steps(report),
        end(report, commands),
    )
}

fn models(requests: u32, report: &RunReport) -> String {
    let used = &report.models;
    let more = match used.unpriced {
        0 => String::new(),
        unpriced => format!("; of {unpriced} nobody knows what they cost"),
    };
    let requests = if requests == 1 { "1 request".to_owned() } else { format!("{requests} requests") };
    let (tokens, usd) = (text::count(used.tokens.total()), usd(used.usd_picos.into()));
    format!("{requests}, {tokens} tokens, {usd} USD{more}")
}

/// Returns how a run ended or what it waits for, with the commands that go on from there.
pub(super) fn end(report: &RunReport, commands: &Commands) -> String {
    let mut words = caveats(report);
    if let Some(failure) = &report.failure {
        words.push_str(&failed(failure));
    }
    words.push_str(&next::next(report, commands));
    words
}

/// What the end alone does not tell, whatever the end is.
fn caveats(report: &RunReport) -> String {
    let lines: String = report.caveats.iter().map(|caveat| format!("  {}\n", story::caveat(caveat))).collect();
    if lines.is_empty() { lines } else { format!("caveats:\n{lines}") }
}

fn failed(failure: &Failure) -> String {
    let hint = failure.hint.as_ref().map_or(String::new(), |hint| format!("  hint: {}\n", text::hanging(hint)));
    format!("failed to {} ({})\n{hint}", text::hanging(&failure.message), failure.kind)
}

fn value(value: &Json) -> String {
    text::quoted(&text::pretty(value))
}
