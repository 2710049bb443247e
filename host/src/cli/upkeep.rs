//! `backup`, `prune` and `user erase`: the care of the log.

use serde_json::json;

use crate::domain::{Failure, Kind, Timestamp};

use super::Session;
use super::args::{BackupArgs, EraseArgs, PruneArgs, UserArgs, UserCommand};
use super::exit::Code;
use super::text;

/// Runs that a dry run lists; the rest is counted.
const RUNS_LISTED_MAX: usize = 50;

/// Characters of a user's name in a message.
const NAME_CHARS_MAX: usize = 60;

/// What an erasure does not reach, said aloud.
const OUTSIDE: &str = "outside of it: files that tools wrote in granted directories, what servers were sent, and copies that were made with `backup`";

/// Copies the log.
pub(super) async fn backup(session: &Session, args: &BackupArgs) -> Result<Code, Failure> {
    let host = session.host_of_log()?;
    host.backup(&args.to).await?;
    let shown = args.to.display();
    if session.output.is_json {
        session.output.document(&json!({ "directory": args.to }))?;
    } else {
        session
            .output
            .result(&text::printable(&format!("{shown}: a log of its own, with all users' keys; keep it safe")))?;
    }
    Ok(Code::SUCCEEDED)
}

/// Removes old runs, or says which would go.
pub(super) async fn prune(session: &Session, args: &PruneArgs) -> Result<Code, Failure> {
    let host = session.host_of_log()?;
    let before = Timestamp(host.clock().now().0.saturating_sub(args.older));
    if args.dry_run {
        let entries = host.prunable(before).await?;
        let events: u64 = entries.iter().map(|entry| entry.events).sum();
        if session.output.is_json {
            let runs: Vec<_> = entries.iter().map(|entry| &entry.run).collect();
            session.output.document(&json!({ "before": before, "runs": runs, "events": events }))?;
            return Ok(Code::SUCCEEDED);
        }
        let listed = entries.iter().take(RUNS_LISTED_MAX);
        let lines: String = listed.map(|entry| format!("  {}  last {}\n", entry.run, entry.last)).collect();
        session.output.result(&format!(
            "{} runs and sessions that ended before {before} would go, with {} events\n{lines}",
            entries.len(),
            text::count(events),
        ))?;
        return Ok(Code::SUCCEEDED);
    }
    let pruned = host.prune(before).await?;
    if session.output.is_json {
        session.output.document(&json!({ "before": before, "pruned": pruned }))?;
    } else {
        session.output.result(&format!(
            "removed {} runs and sessions that ended before {before}: {} events, {}",
            pruned.runs,
            text::count(pruned.events),
            text::bytes(pruned.bytes),
        ))?;
    }
    Ok(Code::SUCCEEDED)
}

/// What is kept of a user.
pub(super) async fn user(session: &Session, args: &UserArgs) -> Result<Code, Failure> {
    match &args.command {
        UserCommand::Erase(args) => erase(session, args).await,
    }
}

async fn erase(session: &Session, args: &EraseArgs) -> Result<Code, Failure> {
    let host = session.host_of_log()?;
    let tenant = args.tenant.clone().unwrap_or_else(|| host.principal().tenant.clone());
    let shown = text::line(&format!("{tenant}/{}", args.user), NAME_CHARS_MAX);
    let entries = host.entries().await?;
    let is_theirs = |of: &crate::domain::Principal| of.tenant == tenant && of.user == args.user;
    let runs = entries.iter().filter(|entry| is_theirs(&entry.principal)).count();
    if !args.yes {
        let message = format!("erase user {shown}, of whom there are {runs} runs and sessions: nothing brings it back");
        return Err(Failure::new(Kind::DataInput, message).hint(format!("say so with `--yes`; {OUTSIDE}")));
    }
    let erased = host.erase_user(&tenant, &args.user).await?;
    if session.output.is_json {
        session.output.document(&json!({
            "tenant": tenant, "user": args.user, "erased": erased, "outside": OUTSIDE,
        }))?;
    } else {
        session.output.result(&format!(
            "erased user {shown}: nothing of {} runs and sessions can be read any more ({}); their logs still verify",
            erased.runs,
            text::bytes(erased.bytes),
        ))?;
    }
    session.output.say(OUTSIDE);
    Ok(Code::SUCCEEDED)
}
