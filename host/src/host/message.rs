//! Whether a message fits the run that it is for: asked before it is left, so that nobody waits for what it will not do.

use crate::domain::{BY_HOST, Failure, Json, Kind, StepId, Suspension, Timestamp, ToolName, printable};
use crate::host::{Choice, Message, RunReport, RunState, Settle, StepReport};
use crate::registry::VerifiedTool;

/// Refuses a message that does not fit the run as it is, so that nobody waits for an effect that it will not have.
pub(super) fn check(
    report: &RunReport,
    message: &Message,
    now: Timestamp,
    find: impl Fn(&ToolName) -> Option<VerifiedTool>,
) -> Result<(), Failure> {
    let conflict = |what: String| {
        Err(Failure::new(Kind::DataConflict, what).hint(format!("look at it with `cofferdam show {}`", report.run)))
    };
    match message {
        Message::Decide { by, .. }
        | Message::Settle { by, .. }
        | Message::Answer { by, .. }
        | Message::Cancel { by, .. } => person(by)?,
    }
    if report.ended.is_some() {
        return conflict(format!("send to run `{}`: it has ended", report.run));
    }
    match message {
        Message::Decide { step, binding, choice, .. } => {
            let waits = report.approvals.iter().any(|approval| approval.step == *step && approval.binding == *binding);
            let verb = if *choice != Choice::Reject { "approve" } else { "reject" };
            if !waits {
                return conflict(format!("{verb} `{step}`: exactly this call does not wait for a decision"));
            }
            let is_asked = |told: &&StepReport| told.step == *step;
            let expires = report.steps.iter().find(is_asked).and_then(|told| told.expires);
            if expires.is_some_and(|expires| expires <= now) {
                return conflict(format!("{verb} `{step}`: the time to decide is over"));
            }
            let Choice::Modify { args } = choice else { return Ok(()) };
            check_args(args, tool_of(report, step).and_then(find))
        }
        Message::Settle { step, .. } if !report.unknown.contains(step) && !report.stuck.contains(step) => {
            conflict(format!("settle `{step}`: its end is not unknown"))
        }
        Message::Settle { step, settle: Settle::Retry, .. } if has_done_within(report, step) => {
            let message = format!("try `{step}` again: the run that carried it out has done something, which stands");
            Err(Failure::new(Kind::DataConflict, message)
                .hint("look at that run with `show`; say `failed`, so that it is taken back where the plan says so, or `done:JSON`"))
        }
        Message::Settle { step, settle: Settle::Done { output }, .. } => {
            check_output(output, tool_of(report, step).and_then(find))
        }
        Message::Answer { .. } if report.state != RunState::Suspended(Suspension::Question) => {
            conflict(format!("answer run `{}`: it has not asked anything", report.run))
        }
        Message::Settle { .. } | Message::Answer { .. } | Message::Cancel { .. } => Ok(()),
    }
}

fn has_done_within(report: &RunReport, step: &StepId) -> bool {
    let is_it = |told: &&StepReport| told.step == *step && told.role.undoes().is_none();
    report.steps.iter().find(is_it).is_some_and(|told| told.has_done_within)
}

/// Refuses the names under which the host itself acts.
pub(super) fn person(by: &str) -> Result<(), Failure> {
    if by.starts_with(BY_HOST) {
        let message = format!("act as `{}`: names that begin with `{BY_HOST}` are the host's own", printable(by));
        return Err(Failure::new(Kind::DataInput, message));
    }
    Ok(())
}

fn tool_of<'a>(report: &'a RunReport, step: &StepId) -> Option<&'a ToolName> {
    report.steps.iter().find(|told| told.step == *step).map(|told| &told.tool)
}

/// Other arguments are for the same tool, whose schema must be at hand: they are refused here, and not when it is too late.
fn check_args(args: &str, tool: Option<VerifiedTool>) -> Result<(), Failure> {
    let value: Json = serde_json::from_str(args)
        .map_err(|e| Failure::new(Kind::DataInput, format!("read the arguments as JSON: {e}")))?;
    let tool = tool.ok_or_else(|| {
        Failure::new(Kind::DataNotFound, "check the arguments: the tool of the step is not here")
            .hint("approve where the settings name the tool")
    })?;
    tool.check_input(&value)
}

fn check_output(output: &str, tool: Option<VerifiedTool>) -> Result<(), Failure> {
    let value: Json = serde_json::from_str(output)
        .map_err(|e| Failure::new(Kind::DataInput, format!("read the output as JSON: {e}")))?;
    tool.map_or(Ok(()), |tool| {
        tool.check_output(&value).map_err(|failure| Failure { kind: Kind::DataInput, ..failure })
    })
}
