//! `cancel`: stops a run, whichever process drives it.

use serde_json::json;

use crate::domain::{Failure, Kind, RunId};
use crate::host::{Host, Message, RunReport};

use super::Session;
use super::args::{CancelArgs, ModelArgs};
use super::exit::Code;
use super::run;
use super::runs;
use super::timeline;

/// Stops a run: its owner is told, or, where it has none, it is taken and ended here, for which nothing but its log is
/// needed. To take back what it did its tools are needed too: a run without owner is driven on here for that.
pub(super) async fn command(session: &Session, args: CancelArgs) -> Result<Code, Failure> {
    let host = session.host_of_log()?;
    let run = runs::resolve(&host, &args.run).await?;
    let by = session.by(args.by);
    if args.undo {
        return undo(session, &host, run, by).await;
    }
    match host.end(&run, &by).await {
        Ok(report) => told(session, &run, Some(&report)),
        Err(failure) if failure.kind == Kind::HostOwned => {
            host.send(&run, Message::Cancel { by, undo: false }).await?;
            told(session, &run, None)
        }
        Err(failure) => Err(failure),
    }
}

async fn undo(session: &Session, host: &Host, run: RunId, by: String) -> Result<Code, Failure> {
    let report = host.show(&run).await?;
    // It waits in the inbox for whoever drives the run, should that end here.
    host.send(&run, Message::Cancel { by, undo: true }).await?;
    if report.owner.is_some() {
        return told(session, &run, None);
    }
    run::drive(session, &run).await
}

/// `report` is absent where the run's owner was asked to stop it.
fn told(session: &Session, run: &RunId, report: Option<&RunReport>) -> Result<Code, Failure> {
    if session.output.is_json {
        session.output.document(&json!({ "run": run, "state": report.map(|report| report.state) }))?;
    }
    let state = report.map_or("its owner was asked to stop it", |report| timeline::state(&report.state));
    session.output.say(&format!("{run}: {state}"));
    let commands = session.commands(&ModelArgs::default());
    session.output.say_if_any(&report.map_or(String::new(), |report| timeline::end(report, &commands)));
    Ok(Code::SUCCEEDED)
}
