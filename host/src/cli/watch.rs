//! `watch`: the story of a run as it goes on, whichever process drives it.

use serde_json::json;

use crate::domain::{Event, Failure};
use crate::host::RunState;

use super::Session;
use super::args::{ModelArgs, WatchArgs};
use super::exit::{self, Code};
use super::output::Output;
use super::runs;
use super::story::Cast;
use super::timeline;

/// Follows a run to its end, or to where it waits.
pub(super) async fn command(session: &Session, args: &WatchArgs) -> Result<Code, Failure> {
    let host = session.host_of_log()?;
    let run = runs::resolve(&host, &args.run).await?;
    let mut cast = Cast::default();
    cast.know(&host.show(&run).await?.steps);
    let mut watch = host.watch(&run, args.from.saturating_sub(1)).await?;
    if args.follow {
        watch = watch.following();
    }
    while let Some(event) = watch.next().await? {
        cast.learn(&event);
        if !show(&session.output, &cast, &event)? {
            return Ok(Code::SUCCEEDED);
        }
    }
    let state = watch.state();
    let is_left = matches!(state, RunState::Planning | RunState::Executing | RunState::Undoing);
    let left = if is_left { ", and nobody works on it" } else { "" };
    session.output.say(&format!("{run}: {}{left}", timeline::state(&state)));
    if !session.output.is_json && state != RunState::Session {
        let report = host.show(&run).await?;
        session.output.say_if_any(&timeline::end(&report, &session.commands(&ModelArgs::default())));
        return Ok(exit::of_report(&report));
    }
    Ok(exit::of_report(&host.show(&run).await?))
}

/// Shows an event; answers whether somebody still reads.
fn show(output: &Output, cast: &Cast, event: &Event) -> Result<bool, Failure> {
    if output.is_json {
        return output.line_of(&json!({ "signal": "event", "event": event }).to_string());
    }
    let Some(line) = cast.line(event) else { return Ok(true) };
    output.line_of(&format!("{:>5}  {}  {line}", event.seq, event.at))
}
