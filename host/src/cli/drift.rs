//! `resume --dry-run`: what has changed since a run was left.

use serde_json::json;

use crate::domain::{Failure, Kind};
use crate::host::RunDrift;

use super::Session;
use super::exit::{self, Code};
use super::text;

/// Tells it; the exit code is that of `resume` where it would be refused.
pub(super) fn tell(session: &Session, drift: &RunDrift) -> Result<Code, Failure> {
    if session.output.is_json {
        session.output.document(&json!(drift))?;
    } else {
        let mut lines = Vec::new();
        told(drift, &mut lines);
        session.output.result(&text::printable(&lines.join("\n")))?;
    }
    Ok(match () {
        () if drift.goes_on() => Code::SUCCEEDED,
        () if drift.owner.is_some() => Code::OWNED,
        () if drift.is_withheld() => exit::of_kind(Kind::LoadPinned),
        () => exit::of_kind(Kind::DataConflict),
    })
}

fn told(drift: &RunDrift, lines: &mut Vec<String>) {
    let run = &drift.run;
    let before = lines.len();
    if let Some(owner) = &drift.owner {
        lines.push(format!("run {run}: {owner} has it: it goes on there"));
    }
    let changed = |change: &crate::host::ToolChange| format!("run {run}: {}: {}", change.tool, change.change.words());
    lines.extend(drift.tools.iter().map(changed));
    if !drift.tools.is_empty() {
        let unless =
            if drift.is_withheld() { "until that is settled: see `lock`" } else { "unless you say `resume --accept`" };
        lines.push(format!("run {run}: it does not go on with these {unless}"));
    }
    if drift.has_other_tools {
        lines.push(format!("run {run}: other tools are there than before, none of which it still calls"));
    }
    if drift.has_other_policy {
        lines.push(format!("run {run}: the policy is another; it decides about every call that has not begun"));
    }
    if let Some((was, is)) = &drift.planner {
        lines.push(format!("run {run}: {was} planned it, and {is} would go on"));
    }
    if lines.len() == before {
        lines.push(format!("run {run}: nothing has changed; `resume` goes on"));
    }
    drift.within.iter().for_each(|within| told(within, lines));
}
