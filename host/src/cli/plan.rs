//! `plan check`, `plan graph` and `plan schema`: a workflow file, looked at without running it.

use std::collections::BTreeMap;

use serde_json::json;

use crate::domain::{Cost, Failure};
use crate::host::{self, Host, PlanFlaw, PlanStepView, PlanView, WorkflowPlanner};

use super::Session;
use super::args::{GraphFormat, ModelArgs, PlanArgs, PlanCommand, PlanFileArgs, PlanGraphArgs};
use super::exit::Code;
use super::text;

mod draw;

/// Characters of a rule's name in the list.
const PERSON_CHARS_MAX: usize = 60;

/// Flaws that are told: whoever mends these sees the rest.
const FLAWS_SHOWN_MAX: usize = 50;

/// Performs the command.
pub(super) async fn command(session: &Session, args: PlanArgs) -> Result<Code, Failure> {
    match args.command {
        PlanCommand::Check(args) => check(session, args).await,
        PlanCommand::Graph(args) => graph(session, args).await,
        PlanCommand::Schema => {
            session.output.document(&host::workflow_schema())?;
            Ok(Code::SUCCEEDED)
        }
    }
}

async fn check(session: &Session, args: PlanFileArgs) -> Result<Code, Failure> {
    match looked_at(session, args).await? {
        Ok(plan) => {
            if session.output.is_json {
                session.output.document(&json!({ "plan": plan, "flaws": [] }))?;
            } else {
                session.output.result(&told(&plan))?;
            }
            Ok(Code::SUCCEEDED)
        }
        Err(flaws) => refused(session, &flaws),
    }
}

async fn graph(session: &Session, args: PlanGraphArgs) -> Result<Code, Failure> {
    match looked_at(session, args.file).await? {
        Ok(plan) => {
            match args.format {
                GraphFormat::Json => session.output.document(&json!(plan.graph))?,
                _ if session.output.is_json => session.output.document(&json!(plan.graph))?,
                GraphFormat::Dot => session.output.result(&draw::dot(&plan.graph))?,
                GraphFormat::Mermaid => session.output.result(&draw::mermaid(&plan.graph))?,
            }
            Ok(Code::SUCCEEDED)
        }
        Err(flaws) => refused(session, &flaws),
    }
}

/// The file is read first: what is wrong in it is told without tools and policy.
async fn looked_at(session: &Session, args: PlanFileArgs) -> Result<Result<PlanView, Vec<PlanFlaw>>, Failure> {
    let inputs: BTreeMap<_, _> = args.set.into_iter().collect();
    let workflow: WorkflowPlanner = host::read_workflow(&args.flow, inputs)?;
    let host: Host = session.host(ModelArgs::default())?;
    let checked = host.check_workflow(&workflow);
    host.close().await?;
    Ok(checked)
}

fn refused(session: &Session, flaws: &[PlanFlaw]) -> Result<Code, Failure> {
    if session.output.is_json {
        session.output.document(&json!({ "plan": null, "flaws": flaws }))?;
    } else {
        for flaw in flaws.iter().take(FLAWS_SHOWN_MAX) {
            super::output::tell(&line(flaw));
        }
        let more = flaws.len().saturating_sub(FLAWS_SHOWN_MAX);
        session.output.say_if_any(&if more > 0 { format!("and {more} more") } else { String::new() });
    }
    Ok(Code::CONFIG)
}

/// As compilers write it, so that editors find the place.
fn line(flaw: &PlanFlaw) -> String {
    let place = flaw.place.as_ref().map(|place| format!("{}:{}:{}: ", place.file, place.line, place.column));
    let pointer = if flaw.pointer.is_empty() { String::new() } else { format!("{}: ", flaw.pointer) };
    let place = place.unwrap_or_default();
    format!("{}error: {}{}", text::printable(&place), text::printable(&pointer), text::hanging(&flaw.message))
}

fn told(plan: &PlanView) -> String {
    let rows = plan.steps.iter().map(row).collect();
    let table = text::table(&["step", "tool", "effect", "at most", "on failure", "undo", "person"], rows, &[]);
    let asked = plan.steps.iter().filter(|step| step.person.is_some()).count();
    let people = match asked {
        0 => "nobody is asked".to_owned(),
        1 => "a person is asked about 1 step".to_owned(),
        _ => format!("a person is asked about {asked} steps"),
    };
    let cost = cost(plan.cost);
    let steps = plan.steps.len();
    format!("{table}\n{steps} steps, at most {cost} while nothing has to be tried again; {people}")
}

fn row(step: &PlanStepView) -> Vec<String> {
    let items = step.items_max.map_or(String::new(), |items_max| format!(", {items_max} items"));
    vec![
        step.step.clone(),
        step.tool.clone(),
        step.effect.to_string(),
        format!("{}{items}", cost(step.cost)),
        step.on_failure.clone(),
        step.undo.clone().unwrap_or_else(|| "-".into()),
        step.person.as_ref().map_or_else(|| "-".into(), |person| text::line(person, PERSON_CHARS_MAX)),
    ]
}

fn cost(cost: Cost) -> String {
    let calls = if cost.calls == 1 { "1 call".to_owned() } else { format!("{} calls", text::count(cost.calls.into())) };
    format!("{calls}, {} fuel, {} bytes", text::count(cost.fuel), text::count(cost.bytes))
}
