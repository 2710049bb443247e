//! `verify`: whether logs are whole, and still those whose heads somebody kept.

use serde_json::{Value, json};

use crate::domain::{Digest, Failure, Kind, RunId};
use crate::host::{HeadState, Host, Verified};

use super::Session;
use super::args::VerifyArgs;
use super::exit::Code;
use super::runs;
use super::text;

/// Checks a run, or all.
pub(super) async fn command(session: &Session, args: &VerifyArgs) -> Result<Code, Failure> {
    let host = session.host_of_log()?;
    let Some(named) = &args.run else { return all(session, &host).await };
    let run = runs::resolve(&host, named).await?;
    match &args.head {
        Some(head) => held(session, &host, &run, head).await,
        None => {
            let verified = host.verify(&run).await?;
            whole(session, &run, &verified, None)
        }
    }
}

fn whole(session: &Session, run: &RunId, verified: &Verified, head: Option<HeadState>) -> Result<Code, Failure> {
    if session.output.is_json {
        let mut document = json!({ "run": run, "events": verified.events, "head": verified.head });
        if let Some(state) = head {
            document["held"] = json!(state);
        }
        session.output.document(&document)?;
        return Ok(Code::SUCCEEDED);
    }
    let since = match head {
        Some(HeadState::Earlier { seq }) => format!("; the head that was given is event {seq}, from which it goes on"),
        _ => String::new(),
    };
    session.output.result(&format!("{run}: {} events are whole; head {}{since}", verified.events, verified.head))?;
    Ok(Code::SUCCEEDED)
}

async fn held(session: &Session, host: &Host, run: &RunId, head: &Digest) -> Result<Code, Failure> {
    let (verified, state) = host.verify_head(run, head).await?;
    if state == HeadState::Unknown {
        let message =
            format!("find head {head} in run `{run}`: its log is another one, whose head is {}", verified.head);
        return Err(Failure::new(Kind::HostStorage, message)
            .hint("the log was written anew, or is older than the head: compare it with a backup"));
    }
    whole(session, run, &verified, Some(state))
}

/// Checks all runs and sessions: one that was touched keeps none of the others from being checked.
async fn all(session: &Session, host: &Host) -> Result<Code, Failure> {
    let (mut found, mut touched, mut events) = (Vec::new(), Vec::new(), 0);
    for entry in host.entries().await? {
        match host.verify(&entry.run).await {
            Ok(verified) => {
                events += verified.events;
                found.push(json!({ "run": entry.run, "events": verified.events, "head": verified.head }));
            }
            Err(failure) => {
                found.push(json!({ "run": entry.run, "failure": failure }));
                touched.push((entry.run, failure));
            }
        }
    }
    tell_all(session, found, &touched, events)?;
    let Some((_, failure)) = touched.into_iter().next() else { return Ok(Code::SUCCEEDED) };
    Err(failure)
}

fn tell_all(session: &Session, found: Vec<Value>, touched: &[(RunId, Failure)], events: u64) -> Result<(), Failure> {
    let whole = found.len() - touched.len();
    if session.output.is_json {
        return session.output.document(&json!({ "whole": touched.is_empty(), "runs": found }));
    }
    let lines: String =
        touched.iter().map(|(run, failure)| format!("{run}: {}\n", text::hanging(&failure.message))).collect();
    session.output.result(&format!("{lines}{whole} runs and sessions are whole, {} events", text::count(events)))
}
