//! What goes on from where a run stands: what a person has to see, and the commands that say what they decide.

use crate::domain::Suspension;
use crate::host::{RunReport, RunState};

use super::approval;
use super::commands::Commands;
use super::text;

/// Returns the commands that go on from where a run stands.
pub(super) fn next(report: &RunReport, commands: &Commands) -> String {
    match &report.state {
        RunState::Suspended(Suspension::Approval) => next_approval(report, commands),
        RunState::Suspended(Suspension::Question) => format!(
            "the planner asks:\n{}to answer:\n  {}\n",
            text::quoted(report.question.as_deref().unwrap_or("(the question was erased)")),
            commands.answer(report)
        ),
        RunState::Suspended(Suspension::Reconcile) => next_reconcile(report, commands),
        RunState::Suspended(Suspension::Timer) => next_timer(report, commands),
        RunState::Suspended(Suspension::Stuck) => next_stuck(report, commands),
        RunState::Failed | RunState::BudgetExhausted => format!("to look closer:\n  {}\n", commands.show(&report.run)),
        RunState::Planning | RunState::Executing | RunState::Undoing if report.owner.is_none() => {
            format!("nobody works on it; to go on:\n  {}\n", commands.resume(report))
        }
        _ => String::new(),
    }
}

fn next_approval(report: &RunReport, commands: &Commands) -> String {
    let mut words = String::new();
    for view in &report.approvals {
        words.push_str(&approval::question(view, approval::Length::Short));
        words.push_str(&format!("to decide:\n  {}\n", commands.approve(&report.run, view)));
        words.push_str(&format!("  {}\n", commands.reject(&report.run, view)));
    }
    words.push_str(&waits_within(report, commands));
    words.push_str(&format!("then, to go on:\n  {}\n", commands.resume(report)));
    words
}

/// Where nothing of the run itself waits, a run within it does: what is to be done there, `show` tells.
fn waits_within(report: &RunReport, commands: &Commands) -> String {
    let is_own = !(report.approvals.is_empty() && report.unknown.is_empty() && report.stuck.is_empty());
    let running = report.steps.iter().filter(|step| !is_own && step.status == "running");
    let within = running.filter_map(|step| Some((&step.step, step.run.as_ref()?)));
    within
        .map(|(step, run)| {
            format!("{step} is a run of its own, which waits; to see for what:\n  {}\n", commands.show(run))
        })
        .collect()
}

fn next_timer(report: &RunReport, commands: &Commands) -> String {
    let at = report.steps.iter().filter_map(|step| step.retry).min();
    let at = at.map_or(String::new(), |at| format!(", not before {at}"));
    format!("the next attempt comes later; to go on{at}:\n  {}\n", commands.resume(report))
}

fn next_reconcile(report: &RunReport, commands: &Commands) -> String {
    if report.unknown.is_empty() {
        return format!("{}then, to go on:\n  {}\n", waits_within(report, commands), commands.resume(report));
    }
    let mut words = String::from(
        "these calls began to change something, and nobody saw them end; look, then say what became of them:\n",
    );
    for step in &report.unknown {
        words.push_str(&commands.settle(report, step, ["do it again", "it did not happen, and shall not"]));
    }
    words
}

fn next_stuck(report: &RunReport, commands: &Commands) -> String {
    if report.stuck.is_empty() {
        return format!("{}then, to go on:\n  {}\n", waits_within(report, commands), commands.resume(report));
    }
    let mut words =
        String::from("what these calls were to take back is still there; take it back by hand, then say so:\n");
    for step in &report.stuck {
        words.push_str(&commands.settle(report, step, ["try to take it back again", "it stays as it is"]));
    }
    words
}
