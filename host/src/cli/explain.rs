//! `explain`: why a step came about and what became of it.

use serde_json::json;

use crate::domain::{Failure, Kind};
use crate::host::{CheckedDigest, DigestState, Link, StepExplanation};

use super::Session;
use super::args::ExplainStepArgs;
use super::decide;
use super::exit::Code;
use super::runs;
use super::{risk, text};

/// Characters of what a link says: names in it are others'.
const SAYS_CHARS_MAX: usize = 600;

/// Tells the chain of a step.
pub(super) async fn command(session: &Session, args: &ExplainStepArgs) -> Result<Code, Failure> {
    let host = session.host_of_runs()?;
    let run = runs::resolve(&host, &args.run).await?;
    let step = decide::step_named(&args.step, host.steps(&run).await?.iter(), "in the run")?;
    let explanation = host.explain_step(&run, &step).await?;
    if session.output.is_json {
        session.output.document(&json!(explanation))?;
    } else {
        session.output.result(&words(&explanation))?;
    }
    if explanation.is_whole {
        return Ok(Code::SUCCEEDED);
    }
    Err(Failure::new(
        Kind::HostStorage,
        format!("find all that step `{step}` stands on: a digest differs from what is kept"),
    )
    .hint("look for the marked places above"))
}

fn words(explanation: &StepExplanation) -> String {
    let StepExplanation { run, step, tool, status, trace_id, span_id, links, .. } = explanation;
    let mut words = format!("step {step} {tool} of run {run}: {}\n", status.replace('_', " "));
    if let Some(trace_id) = trace_id {
        words.push_str(&format!("trace {trace_id}, span {span_id}\n"));
    }
    let mut of = run;
    for link in links {
        if link.run != *of {
            words.push_str(&format!("run {}\n", link.run));
            of = &link.run;
        }
        words.push_str(&told(link));
    }
    words
}

fn told(link: &Link) -> String {
    let mut words = format!("{:>5}  {}  {}\n", link.seq, link.at, text::line(&link.says, SAYS_CHARS_MAX));
    for line in link.risk.iter().flat_map(risk::lines) {
        words.push_str(&format!("         risk: {line}\n"));
    }
    if let Some(quote) = &link.quote {
        words.push_str(&text::quoted(quote).lines().map(|line| format!("       {line}\n")).collect::<String>());
    }
    for CheckedDigest { of, digest, state } in &link.digests {
        let state = match state {
            DigestState::Fits => "",
            DigestState::Differs => "  DIFFERS from what is kept",
            DigestState::Erased => "  its owner was erased",
            DigestState::Missing => "  is NOT THERE",
        };
        words.push_str(&format!("         {of} {digest}{state}\n"));
    }
    words
}
