//! One step as text for people: what it was to do, what it brought, what it said.

use crate::domain::{Denial, LogLine, Role, Usage};
use crate::host::{Cached, StepReport};

use super::{GOAL_CHARS_MAX, failed, value};
use crate::cli::{story, text};

/// Returns all of a step: its arguments, what it brought, what it said, what it was refused.
pub(in crate::cli) fn step(step: &StepReport) -> String {
    let mut words = format!(
        "step     {}\ntool     {}\neffect   {}\noutcome  {}\n",
        step.step,
        step.tool,
        step.effect,
        outcome(step)
    );
    words.push_str(&facts(step));
    if let Some(usage) = &step.usage {
        words.push_str(&format!("used     {}\n", usage_line(usage)));
    }
    if let Some(args) = &step.args {
        words.push_str(&format!("arguments, as the planner wrote them:\n{}", value(args)));
    }
    if let Some(output) = &step.output {
        words.push_str(&format!("output, as the tool wrote it:\n{}", value(output)));
    }
    if let Some(failure) = &step.failure {
        words.push_str(&failed(failure));
    }
    words.push_str(&log(&step.log));
    words.push_str(&denials(&step.denials));
    words
}

/// Returns the host's own words about a step: when, where, and which others have part in it.
fn facts(step: &StepReport) -> String {
    let mut words = String::new();
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            words.push_str(&format!("{name:<9}{value}\n"));
        }
    };
    let role = match &step.role {
        Role::Do => None,
        Role::Item { of } => Some(format!("an item of {of}")),
        Role::Undo { of } => Some(format!("takes back {of}")),
        Role::Reconcile { of } => Some(format!("looks what became of {of}")),
    };
    fact("part", role);
    fact("started", step.started.map(|started| started.to_string()));
    fact("ended", step.ended.map(|ended| ended.to_string()));
    fact("again", step.retry.map(|retry| format!("at {retry}")));
    fact("decide", step.expires.map(|expires| format!("before {expires}")));
    let from = |cached: &Cached| format!("run {}, {} before", cached.from, story::span(cached.age_ms));
    fact("from", step.cached.as_ref().map(from));
    fact("run", step.run.as_ref().map(ToString::to_string));
    fact("else", step.fallback.as_ref().map(|other| text::line(other, GOAL_CHARS_MAX)));
    words
}

/// Returns what a call used, in one line.
pub(in crate::cli) fn usage_line(usage: &Usage) -> String {
    let (wall, fuel) = (text::count(usage.wall_ms), text::count(usage.fuel));
    let memory = text::bytes(usage.memory_bytes_peak);
    format!("{wall} ms, {fuel} fuel, {memory} peak memory, {} host calls", text::count(usage.host_calls))
}

/// Returns what the tool logged and printed, marked as its words.
pub(in crate::cli) fn log(lines: &[LogLine]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let lines: String = lines.iter().map(|line| text::quoted(&format!("{}: {}", line.source, line.text))).collect();
    format!("log, as the tool wrote it:\n{lines}")
}

/// Returns what the tool tried and was refused, and what its result is to be read with care for.
pub(in crate::cli) fn denials(denials: &[Denial]) -> String {
    let (flags, refused): (Vec<_>, Vec<_>) = denials.iter().partition(|denial| denial.code.starts_with("flag."));
    listed("refused to the tool, as it named them", &refused) + &listed("to be read with care", &flags)
}

fn listed(what: &str, denials: &[&Denial]) -> String {
    if denials.is_empty() {
        return String::new();
    }
    let lines: String =
        denials.iter().map(|denial| text::quoted(&format!("{}: {}", denial.code, denial.what))).collect();
    format!("{what}:\n{lines}")
}

/// Returns how a step ended, in a few words.
pub(super) fn outcome(step: &StepReport) -> String {
    let kind = step.failure.as_ref().map_or(String::new(), |failure| format!(" {}", failure.kind));
    let mut words = match &step.skipped {
        Some(why) => story::skipped(why),
        None => format!("{}{kind}", step.status.replace('_', " ")),
    };
    if step.attempts > 1 {
        words.push_str(&format!(", {} attempts", step.attempts));
    }
    if let Some(items) = step.items {
        words.push_str(&format!(", {items} items"));
    }
    if let Some(retry) = step.retry {
        words.push_str(&format!(", again at {retry}"));
    }
    if step.cached.is_some() {
        words.push_str(", from an earlier run");
    }
    if let Role::Undo { of } = &step.role {
        words.push_str(&format!(", takes back {of}"));
    }
    words
}
