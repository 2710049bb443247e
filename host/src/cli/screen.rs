//! What a run shows while it works: lines on standard error, bars where a terminal can draw them, or JSON lines.

use std::collections::HashMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::domain::{
    Decision, Event, Fact, Failure, Json, RunEnd, Settlement, SkipReason, StepEnd, StepId, Suspension, ToolName,
};
use crate::host::{Signal, StepReport};

use super::output::{Output, tell};
use super::text;

/// How often a bar turns.
const TICK: Duration = Duration::from_millis(120);

/// Characters of a guest's progress message: a bar is one line.
const MESSAGE_CHARS_MAX: usize = 80;

/// Parts that a bar's whole stands for.
const PARTS: u64 = 1_000;

/// Shows signals of one run.
pub(super) struct Screen {
    output: Output,
    /// `None` where nothing is drawn.
    bars: Option<Bars>,
    /// Tools by step, as the plans named them.
    tools: HashMap<StepId, ToolName>,
}

struct Bars {
    all: MultiProgress,
    by_step: HashMap<StepId, ProgressBar>,
}

impl Screen {
    pub(super) fn new(output: &Output) -> Self {
        let bars = output.is_drawing().then(|| Bars { all: MultiProgress::new(), by_step: HashMap::new() });
        Self { output: output.clone(), bars, tools: HashMap::new() }
    }

    /// Learns the tools of steps whose plan was accepted before this process took the run.
    pub(super) fn know(&mut self, steps: &[StepReport]) {
        self.tools.extend(steps.iter().map(|step| (step.step.clone(), step.tool.clone())));
    }

    /// Shows a signal.
    ///
    /// # Errors
    /// `host.storage` where a JSON line cannot be written.
    pub(super) fn show(&mut self, signal: &Signal) -> Result<(), Failure> {
        if self.output.is_json {
            return self.output.json_line(&document(signal));
        }
        match signal {
            Signal::Event(event) => self.event(event),
            Signal::Progress { step, fraction, message } => self.progress(step, *fraction, message),
            Signal::ApprovalWanted(_) => {}
        }
        Ok(())
    }

    /// Asks a person something: bars are out of the way until [`Screen::go_on`].
    pub(super) fn ask(&self, question: &str) {
        if let Some(bars) = &self.bars {
            // What cannot be cleared is drawn over.
            let _ = bars.all.clear();
            bars.all.set_draw_target(ProgressDrawTarget::hidden());
        }
        tell(question);
    }

    /// Draws bars again.
    pub(super) fn go_on(&self) {
        if let Some(bars) = &self.bars {
            bars.all.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Says a line of the host's own.
    pub(super) fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) if !bars.all.is_hidden() => bars.all.suspend(|| self.output.say(line)),
            _ => self.output.say(line),
        }
    }

    /// Takes all bars away.
    pub(super) fn close(&mut self) {
        for bar in self.bars.iter_mut().flat_map(|bars| bars.by_step.drain()).map(|(_, bar)| bar) {
            bar.finish_and_clear();
        }
    }

    fn event(&mut self, event: &Event) {
        if let Fact::PlanAccepted { steps, .. } = &event.fact {
            self.tools.extend(steps.iter().map(|step| (step.id.clone(), step.tool.clone())));
        }
        let is_quiet = self.output.is_quiet;
        match (&mut self.bars, &event.fact) {
            (Some(bars), Fact::StepStarted { step, .. }) if !is_quiet => bars.start(step, self.tools.get(step)),
            (
                Some(bars),
                Fact::StepEnded { step, .. } | Fact::StepInterrupted { step, .. } | Fact::StepUnknown { step, .. },
            ) => {
                bars.end(step);
            }
            _ => {}
        }
        // A bar tells already that its step runs.
        let is_drawn = self.bars.is_some() && matches!(event.fact, Fact::StepStarted { .. });
        if let Some(line) = line(event, &self.tools).filter(|_| !is_drawn) {
            self.say(&line);
        }
    }

    fn progress(&self, step: &StepId, fraction: Option<f64>, message: &str) {
        let message = text::line(message, MESSAGE_CHARS_MAX);
        match &self.bars {
            Some(bars) => bars.progress(step, fraction, &message),
            None => {
                let percent = fraction.map_or(String::new(), |fraction| format!(" {:.0} %", fraction * 100.0));
                self.output.say(&format!("{step}{percent} · the tool says: {message}"));
            }
        }
    }
}

impl Bars {
    fn start(&mut self, step: &StepId, tool: Option<&ToolName>) {
        let bar = self.all.add(ProgressBar::new(PARTS));
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(tool.map_or_else(|| step.to_string(), |tool| format!("{step} {tool}")));
        bar.enable_steady_tick(TICK);
        self.by_step.insert(step.clone(), bar);
    }

    fn end(&mut self, step: &StepId) {
        if let Some(bar) = self.by_step.remove(step) {
            bar.finish_and_clear();
        }
    }

    fn progress(&self, step: &StepId, fraction: Option<f64>, message: &str) {
        let Some(bar) = self.by_step.get(step) else { return };
        let percent = fraction.map_or(String::new(), |fraction| format!("{:.0} % ", fraction.clamp(0.0, 1.0) * 100.0));
        bar.set_message(format!("{percent}· the tool says: {message}"));
    }
}

/// Returns a signal as JSON.
fn document(signal: &Signal) -> Json {
    match signal {
        Signal::Event(event) => json!({ "signal": "event", "event": event }),
        Signal::Progress { step, fraction, message } => {
            json!({ "signal": "progress", "step": step, "fraction": fraction, "message": message })
        }
        Signal::ApprovalWanted(view) => json!({ "signal": "approval_wanted", "approval": view }),
    }
}

/// Returns what an event means to a person who watches; `None` where it is told with another one.
fn line(event: &Event, tools: &HashMap<StepId, ToolName>) -> Option<String> {
    match &event.fact {
        Fact::RunCreated { planner, .. } => {
            Some(format!("run {} ({})", event.run, text::line(planner, MESSAGE_CHARS_MAX)))
        }
        Fact::RunClaimed { .. } => Some(format!("run {} goes on here", event.run)),
        Fact::PlanRequested { turn, .. } => Some(format!("turn {turn}: asking the planner")),
        Fact::PlanFailed { turn, kind, .. } => Some(format!("turn {turn}: the planner failed: {kind}")),
        Fact::PlanRejected { turn, .. } => Some(format!("turn {turn}: the reply is no plan that can run")),
        Fact::PlanAccepted { turn, steps, .. } => Some(format!("turn {turn}: {}", plan_size(steps.len()))),
        Fact::Asked { turn, .. } => Some(format!("turn {turn}: the planner asks a person")),
        Fact::QuestionAnswered { turn, by, .. } => {
            Some(format!("turn {turn}: answered by {}", text::line(by, MESSAGE_CHARS_MAX)))
        }
        Fact::CancelRequested { by, .. } => Some(format!("cancelled by {}", text::line(by, MESSAGE_CHARS_MAX))),
        Fact::RunSuspended { why } => Some(format!("suspended: {}", waits_for(*why))),
        Fact::RunEnded { end, .. } => Some(ended(end).to_owned()),
        Fact::StepRejected { step, .. }
        | Fact::StepSkipped { step, .. }
        | Fact::ApprovalRequested { step, .. }
        | Fact::ApprovalDecided { step, .. }
        | Fact::StepStarted { step, .. }
        | Fact::StepEnded { step, .. }
        | Fact::StepInterrupted { step, .. }
        | Fact::StepUnknown { step, .. }
        | Fact::StepSettled { step, .. } => {
            let named = tools.get(step).map_or_else(|| step.to_string(), |tool| format!("{step} {tool}"));
            Some(format!("{named}: {}", of_step(&event.fact)))
        }
        Fact::SessionStarted { .. }
        | Fact::Answered { .. }
        | Fact::StepReady { .. }
        | Fact::WriteBegun { .. }
        | Fact::CallStarted { .. }
        | Fact::Called { .. } => None,
        _ => None,
    }
}

/// What happened to a step. The facts that tell nothing of one are sorted out by [`line`].
fn of_step(fact: &Fact) -> String {
    match fact {
        Fact::StepRejected { kind, .. } => format!("not run: {kind}"),
        Fact::StepSkipped { why: SkipReason::Needs { step }, .. } => format!("skipped, because {step} did not succeed"),
        Fact::StepSkipped { why: SkipReason::Condition, .. } => "skipped: its condition does not hold".into(),
        Fact::StepSkipped { why: SkipReason::NotNeeded, .. } => "not needed".into(),
        Fact::ApprovalRequested { .. } => "needs approval".into(),
        Fact::ApprovalDecided { decision, by, .. } => {
            let decided = match decision {
                Decision::Approve => "approved",
                Decision::Modify { .. } => "approved with other arguments",
                Decision::Reject => "rejected",
            };
            format!("{decided} by {}", text::line(by, MESSAGE_CHARS_MAX))
        }
        Fact::StepStarted { attempt, .. } => format!("started{}", again(*attempt)),
        Fact::StepEnded { attempt, end, usage, .. } => {
            let end = match end {
                StepEnd::Succeeded { .. } => "succeeded".to_owned(),
                StepEnd::Failed { kind, .. } => format!("failed: {kind}"),
            };
            format!("{end}{} in {} ms", again(*attempt), text::count(usage.wall_ms))
        }
        Fact::StepInterrupted { .. } => "was interrupted before it changed anything".into(),
        Fact::StepUnknown { .. } => "began to change something, and nobody saw it end".into(),
        Fact::StepSettled { settlement, by, .. } => {
            format!("{} says {}", text::line(by, MESSAGE_CHARS_MAX), settled(settlement))
        }
        _ => String::new(),
    }
}

fn plan_size(steps: usize) -> String {
    if steps == 1 { "a plan of 1 step".into() } else { format!("a plan of {steps} steps") }
}

fn again(attempt: u32) -> String {
    if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() }
}

fn settled(settlement: &Settlement) -> &'static str {
    match settlement {
        Settlement::Done { .. } => "it happened",
        Settlement::Unknown => "the tool does not know",
        Settlement::Retry => "do it again",
        Settlement::Failed { .. } => "it did not happen",
    }
}

fn waits_for(why: Suspension) -> &'static str {
    match why {
        Suspension::Approval => "a person must approve",
        Suspension::Question => "a person must answer",
        Suspension::Timer => "the next attempt comes later",
        Suspension::Reconcile => "a person must say what became of a step",
        Suspension::Stuck => "a person must take back what could not be",
    }
}

fn ended(end: &RunEnd) -> &'static str {
    match end {
        RunEnd::Succeeded { .. } => "succeeded",
        RunEnd::Failed { .. } => "failed",
        RunEnd::Cancelled { .. } => "cancelled",
        RunEnd::BudgetExhausted { .. } => "the budget is used up",
    }
}
