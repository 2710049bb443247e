//! An event as a line for whoever watches a run: here while it works, or later from its log.
//!
//! Promises: each kind of event has its words, or stands with another one that tells it; names that others chose are cut
//! and harmless.

use std::collections::HashMap;

mod planner;

pub(super) use planner::{counted, price};

use crate::domain::{
    Caveat, CaveatKind, Decision, Event, Fact, Parent, PlannedStep, Role, RunEnd, Settlement, SkipReason, StepEnd,
    StepId, Suspension, Timestamp, ToolName, UndoReason,
};
use crate::host::StepReport;

use super::text;

/// Characters of a name that a person or a planner chose.
const NAME_CHARS_MAX: usize = 80;

/// The steps of a run, as its events named them.
#[derive(Default)]
pub(super) struct Cast {
    /// Tools by step.
    tools: HashMap<StepId, (ToolName, Role)>,
}

impl Cast {
    /// Learns the tools of steps whose plan was accepted before.
    pub(super) fn know(&mut self, steps: &[StepReport]) {
        self.tools.extend(steps.iter().map(|step| (step.step.clone(), (step.tool.clone(), step.role.clone()))));
    }

    /// Learns the steps that an event names.
    pub(super) fn learn(&mut self, event: &Event) {
        match &event.fact {
            Fact::PlanAccepted { steps, .. } | Fact::UndoBegun { steps, .. } => steps.iter().for_each(|s| self.add(s)),
            Fact::ReconcileBegun { step, .. } => self.add(step),
            _ => {}
        }
    }

    fn add(&mut self, step: &PlannedStep) {
        self.tools.insert(step.id.clone(), (step.tool.clone(), step.role.clone()));
    }

    /// Returns the tool of a step, or of the step whose item it is.
    pub(super) fn tool(&self, step: &StepId) -> Option<&ToolName> {
        self.found(step).map(|(tool, _)| tool)
    }

    fn found(&self, step: &StepId) -> Option<&(ToolName, Role)> {
        self.tools.get(step).or_else(|| {
            let of: StepId = step.as_str().split_once('[')?.0.parse().ok()?;
            self.tools.get(&of)
        })
    }

    fn named(&self, step: &StepId) -> String {
        let Some((tool, role)) = self.found(step) else { return step.to_string() };
        let part = match role {
            Role::Do | Role::Item { .. } => String::new(),
            Role::Undo { of } => format!(" (takes back {of})"),
            Role::Reconcile { of } => format!(" (looks what became of {of})"),
        };
        format!("{step} {tool}{part}")
    }

    /// Returns what an event means to a person who watches; `None` where it is told with another one.
    pub(super) fn line(&self, event: &Event) -> Option<String> {
        let fact = &event.fact;
        if let Some(step) = fact.step() {
            return of_step(fact, event.at).map(|words| format!("{}: {words}", self.named(step)));
        }
        match fact {
            Fact::RunCreated { planner, parent, .. } => Some(created(event, planner, parent.as_ref())),
            Fact::SessionStarted { .. } => Some(format!("session {} of lone calls", event.run)),
            Fact::RunClaimed { owner, .. } => Some(format!("run {} goes on with {}", event.run, short(owner))),
            Fact::ToolsChanged { tools, by: Some(by), .. } => {
                let tools: Vec<_> = tools.iter().map(ToString::to_string).collect();
                Some(format!("{} lets it go on with changed tools: {}", short(by), tools.join(", ")))
            }
            Fact::ToolsChanged { .. } => Some("other tools are there than before, none of which it still calls".into()),
            Fact::PlanRequested { .. }
            | Fact::PlanReplied { .. }
            | Fact::PlanFailed { .. }
            | Fact::PlanRejected { .. } => Some(planner::line(fact, event.at)?),
            Fact::PlanAccepted { turn, steps, .. } => Some(format!("turn {turn}: a plan of {}", steps_of(steps.len()))),
            Fact::Answered { turn, .. } => Some(format!("turn {turn}: the planner answers")),
            Fact::Asked { turn, .. } => Some(format!("turn {turn}: the planner asks a person")),
            Fact::QuestionAnswered { turn, by, .. } => Some(format!("turn {turn}: answered by {}", short(by))),
            Fact::Verified { failure: None, .. } => Some("the run's conditions hold".into()),
            Fact::Verified { failure: Some((kind, _)), .. } => Some(format!("a condition does not hold: {kind}")),
            Fact::UndoBegun { why, steps, .. } => {
                Some(format!("taking back {}: {}", steps_of(steps.len()), undoing(why)))
            }
            Fact::CancelRequested { by, undo: false } => Some(format!("cancelled by {}", short(by))),
            Fact::CancelRequested { by, undo: true } => {
                Some(format!("cancelled by {}, who wants what was done taken back", short(by)))
            }
            Fact::RunSuspended { why } => Some(format!("suspended: {}", waits_for(*why))),
            Fact::Notified { why, .. } => Some(format!("somebody was told: {}", waits_for(*why))),
            Fact::RunEnded { end, caveats } => Some(ended(end, caveats.len())),
            Fact::CallStarted { call, tool, effect, .. } => Some(format!("call {call} {tool}: started ({effect})")),
            Fact::CallSettled { call, settlement, by } => {
                Some(format!("call {call}: {} says {}", short(by), settled(settlement)))
            }
            Fact::Called { call, tool, end, usage, .. } => {
                Some(format!("call {call} {tool}: {} in {} ms", how(end), text::count(usage.wall_ms)))
            }
            // All others are about one step.
            _ => None,
        }
    }
}

/// Returns what a caveat says of its step.
pub(super) fn caveat(caveat: &Caveat) -> String {
    let what = match caveat.what {
        CaveatKind::Failed => "it failed",
        CaveatKind::Rejected => "it never started: it was refused",
        CaveatKind::Skipped => "it was skipped, as one that it needs did not succeed",
        CaveatKind::Unfinished => "the run ended before it did",
        CaveatKind::Unknown => "nobody knows what became of it",
        CaveatKind::Degraded => "another step took its place, or its run ended with caveats",
        CaveatKind::Truncated => "part of what it logged, printed or read was dropped",
        CaveatKind::Undone => "it was taken back",
        CaveatKind::UndoFailed => "it could not be taken back",
        CaveatKind::NotUndone => "it was done, and no call is known that takes it back",
    };
    format!("{}: {what}", caveat.step)
}

/// Returns what a run waits for.
pub(super) fn waits_for(why: Suspension) -> &'static str {
    match why {
        Suspension::Approval => "a person must approve",
        Suspension::Question => "a person must answer",
        Suspension::Timer => "the next attempt comes later",
        Suspension::Reconcile => "a person must say what became of a step",
        Suspension::Stuck => "a person must take back what could not be",
    }
}

/// Returns why a step was passed over.
pub(super) fn skipped(why: &SkipReason) -> String {
    match why {
        SkipReason::Needs { step } => format!("skipped, because {step} did not succeed"),
        SkipReason::Condition => "skipped: its condition does not hold".into(),
        SkipReason::NotNeeded => "not needed".into(),
    }
}

/// Returns a length of time in the unit that a person would use.
pub(super) fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} days", ms / 86_400_000),
    }
}

/// What happened to a step; `None` where another event tells it.
fn of_step(fact: &Fact, at: Timestamp) -> Option<String> {
    Some(match fact {
        Fact::StepExpanded { items: 1, .. } => "1 item".into(),
        Fact::StepExpanded { items, .. } => format!("{items} items"),
        Fact::StepGathered { end, .. } => format!("all items ended: {}", how(end)),
        Fact::StepRejected { kind, .. } => format!("not run: {kind}"),
        Fact::StepSkipped { why, .. } => skipped(why),
        Fact::StepCached { from, age_ms, .. } => {
            format!("taken from run {from}, which brought it {} before", span(*age_ms))
        }
        Fact::ApprovalRequested { expires, .. } => format!("needs approval within {}", span(expires.ms_since(at))),
        Fact::ApprovalDecided { decision, by, .. } => format!("{} by {}", decided(decision), short(by)),
        Fact::ApprovalExpired { .. } => "nobody decided in time: that is a no".into(),
        Fact::StepStarted { attempt, run: Some(run), .. } => format!("started{} as run {run}", again(*attempt)),
        Fact::StepStarted { attempt, .. } => format!("started{}", again(*attempt)),
        Fact::WriteBegun { .. } => "begins to change something".into(),
        Fact::StepEnded { attempt, end, usage, retry, .. } => {
            let next = retry.map_or(String::new(), |retry| format!("; again in {}", span(retry.ms_since(at))));
            format!("{}{} in {} ms{next}", how(end), again(*attempt), text::count(usage.wall_ms))
        }
        Fact::StepInterrupted { .. } => "was interrupted, and may run again".into(),
        Fact::StepUnknown { .. } => "began to change something, and nobody saw it end".into(),
        Fact::StepSettled { settlement, by, .. } => format!("{} says {}", short(by), settled(settlement)),
        Fact::ReconcileBegun { step, .. } => format!("asking {} what became of it", step.tool),
        // It is told when the step starts.
        _ => return None,
    })
}

fn created(event: &Event, planner: &str, parent: Option<&Parent>) -> String {
    let part = parent.map_or(String::new(), |parent| format!(", step {} of run {}", parent.step, parent.run));
    format!("run {} ({}){part}", event.run, short(planner))
}

fn short(name: &str) -> String {
    text::line(name, NAME_CHARS_MAX)
}

fn steps_of(steps: usize) -> String {
    if steps == 1 { "1 step".into() } else { format!("{steps} steps") }
}

fn undoing(why: &UndoReason) -> String {
    match why {
        UndoReason::StepFailed { step } => format!("{step} failed"),
        UndoReason::Cancelled { by } => format!("{} cancelled the run", short(by)),
        UndoReason::Budget { what } => format!("`{}` of the budget is used up", short(what)),
        UndoReason::Outer => "the run around this one takes back what it had done".into(),
    }
}

fn how(end: &StepEnd) -> String {
    match end {
        StepEnd::Succeeded { .. } => "succeeded".into(),
        StepEnd::Failed { kind, .. } => format!("failed: {kind}"),
    }
}

fn again(attempt: u32) -> String {
    if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() }
}

fn decided(decision: &Decision) -> &'static str {
    match decision {
        Decision::Approve => "approved",
        Decision::Modify { .. } => "approved with other arguments",
        Decision::Reject => "rejected",
    }
}

fn settled(settlement: &Settlement) -> &'static str {
    match settlement {
        Settlement::Done { .. } => "it happened",
        Settlement::Retry => "do it again",
        Settlement::Unknown => "it is not known either",
        Settlement::Failed { .. } => "it did not happen",
    }
}

fn ended(end: &RunEnd, caveats: usize) -> String {
    let how = match end {
        RunEnd::Succeeded { .. } => "succeeded".to_owned(),
        RunEnd::Failed { kind, .. } => format!("failed: {kind}"),
        RunEnd::Cancelled { by } => format!("cancelled by {}", short(by)),
        RunEnd::BudgetExhausted { .. } => "the budget is used up".into(),
    };
    match caveats {
        0 => how,
        1 => format!("{how}, with 1 caveat"),
        caveats => format!("{how}, with {caveats} caveats"),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::domain::{Cost, Digest, Effect, GENESIS, Kind, Usage};

    fn id(text: &str) -> StepId {
        text.parse().unwrap()
    }

    fn digest() -> Digest {
        Digest::of(b"x")
    }

    #[track_caller]
    fn check(facts: Vec<Fact>, expected: Expect) {
        let run = || "r-01arz3ndektsv4rrffq69g5fav".parse().unwrap();
        let mut cast = Cast::default();
        let mut lines = String::new();
        for (seq, fact) in (1..).zip(facts) {
            let event =
                Event { v: 0, run: run(), seq, epoch: 1, at: Timestamp(1_000), prev: GENESIS, fact, stored: None };
            cast.learn(&event);
            lines.extend(cast.line(&event).map(|line| line + "\n"));
        }
        expected.assert_eq(&lines);
    }

    fn ended(step: &str, end: StepEnd, retry: Option<u64>) -> Fact {
        let usage = Usage { wall_ms: 12, ..Usage::default() };
        let (cost, log, denials, host_calls) = (Cost::default(), None, None, None);
        let (attempt, retry) = (1, retry.map(Timestamp));
        Fact::StepEnded {
            step: id(step),
            attempt,
            end,
            usage,
            cost,
            log,
            denials,
            has_written: false,
            has_open_write: false,
            host_calls,
            retry,
            has_caveats: false,
            within: None,
        }
    }

    #[test]
    fn a_run_that_waits_and_takes_back_reads_as_a_story() {
        let write = PlannedStep::call(id("t1.write"), "notes.write".parse().unwrap(), vec![], Effect::Once);
        let undo = PlannedStep {
            role: Role::Undo { of: id("t1.write") },
            ..PlannedStep::call(id("t1.back"), "notes.restore".parse().unwrap(), vec![], Effect::Once)
        };
        let each = PlannedStep::call(id("t1.each"), "math.eval".parse().unwrap(), vec![], Effect::Pure);
        let failed = StepEnd::Failed { kind: Kind::NetworkTimeout, failure: digest() };
        let brought = StepEnd::Succeeded { output: digest() };
        check(
            vec![
                Fact::PlanAccepted {
                    turn: 1,
                    reply: digest(),
                    plan: digest(),
                    steps: vec![write, each],
                    has_answer: false,
                    has_assertions: true,
                },
                Fact::StepReady { step: id("t1.write"), args: digest(), key: digest(), duplicate_of: None },
                Fact::ApprovalRequested {
                    step: id("t1.write"),
                    binding: digest(),
                    effect: Effect::Once,
                    rule: "r".into(),
                    expires: Timestamp(86_401_000),
                },
                ended("t1.write", failed.clone(), Some(2_500)),
                Fact::RunSuspended { why: Suspension::Timer },
                ended("t1.write", brought.clone(), None),
                Fact::StepExpanded { step: id("t1.each"), items: 2, list: digest() },
                ended("t1.each[1]", failed, None),
                Fact::StepGathered { step: id("t1.each"), end: brought.clone() },
                Fact::UndoBegun {
                    why: UndoReason::StepFailed { step: id("t1.each") },
                    steps: vec![undo],
                    left: Vec::new(),
                },
                ended("t1.back", brought, None),
                Fact::RunEnded {
                    end: RunEnd::Cancelled { by: "ann\u{1b}[2J".into() },
                    caveats: vec![Caveat { step: id("t1.write"), what: CaveatKind::Undone }],
                },
            ],
            expect![[r#"
                turn 1: a plan of 2 steps
                t1.write notes.write: needs approval within 24 h
                t1.write notes.write: failed: network.timeout in 12 ms; again in 1.5 s
                suspended: the next attempt comes later
                t1.write notes.write: succeeded in 12 ms
                t1.each math.eval: 2 items
                t1.each[1] math.eval: failed: network.timeout in 12 ms
                t1.each math.eval: all items ended: succeeded
                taking back 1 step: t1.each failed
                t1.back notes.restore (takes back t1.write): succeeded in 12 ms
                cancelled by ann\u001b[2J, with 1 caveat
            "#]],
        );
    }

    #[test]
    fn a_time_has_the_unit_that_a_person_would_use() {
        let spans = [7, 1_500, 119_999, 120_000, 7_199_999, 86_400_000, 259_200_000].map(span);
        assert_eq!(spans, ["7 ms", "1.5 s", "119.9 s", "2 min", "119 min", "24 h", "3 days"]);
    }
}
