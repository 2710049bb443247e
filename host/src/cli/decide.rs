//! `approve` and `reject`: what a person says, left for the run's owner.
//!
//! Promises: a decision is about exactly one call, which was shown here, or which the person names by its binding.

use serde_json::json;

use crate::domain::{Failure, Json, Kind, RunId, StepId};
use crate::host::{ApprovalView, Choice, Message, RunReport};

use super::Session;
use super::approval::{self, Length};
use super::args::{ApproveArgs, DecisionArgs, ModelArgs, RejectArgs};
use super::call;
use super::change;
use super::exit::Code;
use super::runs;
use super::text;

/// Characters of a step's name in a message.
const NAME_CHARS_MAX: usize = 60;

/// Approves a call, as it is or with other arguments.
pub(super) async fn approve(session: &Session, args: ApproveArgs) -> Result<Code, Failure> {
    let choice = match args.args {
        None => Choice::Approve,
        Some(written) => Choice::Modify { args: call::arguments(&written)?.to_string() },
    };
    decide(session, args.decision, choice, None).await
}

/// Rejects a call.
pub(super) async fn reject(session: &Session, args: RejectArgs) -> Result<Code, Failure> {
    decide(session, args.decision, Choice::Reject, Some(args.reason)).await
}

async fn decide(
    session: &Session,
    args: DecisionArgs,
    choice: Choice,
    reason: Option<String>,
) -> Result<Code, Failure> {
    let host = session.host_of_runs()?;
    let run = runs::resolve(&host, &args.run).await?;
    let report = host.show(&run).await?;
    let step = step_named(&args.step, report.approvals.iter().map(|view| &view.step), "that waits for approval")?;
    let Some(view) = report.approvals.iter().find(|view| view.step == step) else { return Ok(Code::SUCCEEDED) };
    match &args.binding {
        Some(digits) => check_binding(session, &run, view, digits)?,
        None => session.output.say(&approval::question(view, Length::Full)),
    }
    if let Choice::Modify { args } = &choice {
        session.output.say(&modified(view, args)?);
    }
    let (binding, by) = (view.binding, session.by(args.by));
    host.send(&run, Message::Decide { step: step.clone(), binding, choice: choice.clone(), by, reason }).await?;
    told(session, &report, &step, &choice)
}

/// Returns what differs between the arguments that were asked about and those that are approved.
fn modified(view: &ApprovalView, args: &str) -> Result<String, Failure> {
    let args: Json = serde_json::from_str(args).map_err(|e| Failure::new(Kind::HostBug, "read arguments").detail(e))?;
    let changes = change::changes(&view.args, &args);
    if changes.is_empty() {
        return Err(Failure::new(Kind::DataInput, "approve with other arguments: they are the same")
            .hint("leave `--args` out to approve the call as it is"));
    }
    Ok(format!("arguments, as they are approved (- asked, + approved):\n{changes}"))
}

/// Refuses a decision about a call that was replaced since the person saw it.
fn check_binding(session: &Session, run: &RunId, view: &ApprovalView, digits: &str) -> Result<(), Failure> {
    if view.binding.to_string().trim_start_matches("sha256:").starts_with(digits) {
        return Ok(());
    }
    let show = session.commands(&ModelArgs::default()).show(run);
    let message = format!("decide about `{}`: another call waits than the one with binding {digits}", view.step);
    Err(Failure::new(Kind::DataConflict, message).hint(format!("look at it with `{show}`")))
}

fn told(session: &Session, report: &RunReport, step: &StepId, choice: &Choice) -> Result<Code, Failure> {
    let run = &report.run;
    if session.output.is_json {
        session.output.document(&json!({ "run": run, "step": step, "decision": choice, "owner": report.owner }))?;
        return Ok(Code::SUCCEEDED);
    }
    let decided = match choice {
        Choice::Approve => "approved",
        Choice::Modify { .. } => "approved with other arguments",
        Choice::Reject => "rejected",
    };
    session.output.say(&format!("{decided}: {step} of {run}"));
    if report.owner.is_none() {
        let resume = session.commands(&ModelArgs::default()).resume(report);
        session.output.say(&format!("nobody works on the run; to go on:\n  {resume}"));
    }
    Ok(Code::SUCCEEDED)
}

/// Finds the step that is meant among `steps`: by its id, or by the plan's own name for it.
///
/// # Errors
/// `data.not_found`, naming what there is; `data.conflict` where several plans of the run used the name.
pub(super) fn step_named<'a>(
    named: &str,
    steps: impl Iterator<Item = &'a StepId>,
    which: &str,
) -> Result<StepId, Failure> {
    let steps: Vec<_> = steps.collect();
    if let Some(step) = steps.iter().find(|step| step.as_str() == named) {
        return Ok((*step).clone());
    }
    let found: Vec<_> = steps.iter().filter(|step| step.local() == named).collect();
    let names = |steps: &[&StepId]| steps.iter().map(|step| step.as_str()).collect::<Vec<_>>().join(", ");
    match found.as_slice() {
        [step] => Ok((**step).clone()),
        [] => {
            let hint = if steps.is_empty() { "there is none".into() } else { format!("there is {}", names(&steps)) };
            Err(Failure::new(
                Kind::DataNotFound,
                format!("find a step `{}` {which}", text::line(named, NAME_CHARS_MAX)),
            )
            .hint(hint))
        }
        several => {
            let several: Vec<_> = several.iter().map(|step| **step).collect();
            Err(Failure::new(
                Kind::DataConflict,
                format!("find one step `{}` {which}", text::line(named, NAME_CHARS_MAX)),
            )
            .hint(format!("give it in full: {}", names(&several))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_goes_by_its_local_name_unless_two_plans_used_it() {
        let steps: Vec<StepId> = ["t1.read", "t1.write", "t2.read"].iter().map(|id| id.parse().unwrap()).collect();
        let named = |name: &str| step_named(name, steps.iter(), "here");
        assert_eq!(named("write").unwrap(), steps[1]);
        assert_eq!(named("t2.read").unwrap(), steps[2]);
        assert_eq!(named("read").unwrap_err().hint.unwrap(), "give it in full: t1.read, t2.read");
        assert_eq!(named("t3.read").unwrap_err().kind, Kind::DataNotFound);
    }
}
