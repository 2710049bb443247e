//! What a run shows while it works: lines on standard error, bars where a terminal can draw them, or JSON lines.

use std::collections::HashMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::domain::{Event, Fact, Failure, Json, RunId, StepId, ToolName, TraceId};
use crate::host::{Signal, StepReport, span_of, trace_of};

use super::family::Family;
use super::output::{Output, tell};
use super::text;

/// How often a bar turns.
const TICK: Duration = Duration::from_millis(120);

/// Characters of a guest's progress message: a bar is one line.
const MESSAGE_CHARS_MAX: usize = 80;

/// Parts that a bar's whole stands for.
const PARTS: u64 = 1_000;

/// Shows signals of one run, and of those within it.
pub(super) struct Screen {
    output: Output,
    /// `None` where nothing is drawn.
    bars: Option<Bars>,
    family: Family,
    /// One for the run and those within it, once it is known.
    trace: Option<TraceId>,
}

struct Bars {
    all: MultiProgress,
    by_step: HashMap<(RunId, StepId), ProgressBar>,
}

impl Screen {
    pub(super) fn new(output: &Output, run: &RunId) -> Self {
        let bars = output.is_drawing().then(|| Bars { all: MultiProgress::new(), by_step: HashMap::new() });
        Self { output: output.clone(), bars, family: Family::new(run.clone()), trace: None }
    }

    /// Learns the tools of steps whose plan was accepted before this process took the run.
    pub(super) fn know(&mut self, steps: &[StepReport]) {
        self.family.know(steps);
    }

    /// Learns the trace of a run that was there before.
    pub(super) fn know_trace(&mut self, trace: Option<TraceId>) {
        self.trace = trace;
    }

    /// Shows a signal.
    ///
    /// # Errors
    /// `host.storage` where a JSON line cannot be written.
    pub(super) fn show(&mut self, signal: &Signal) -> Result<(), Failure> {
        if let Signal::Event(event) = signal {
            self.family.learn(event);
            self.trace = self.trace.or_else(|| trace_of(event));
        }
        if self.output.is_json {
            return self.output.json_line(&document(signal, &self.family, self.trace));
        }
        match signal {
            Signal::Event(event) => self.event(event),
            Signal::Progress { run, step, fraction, message } => self.progress(run, step, *fraction, message),
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
        let is_quiet = self.output.is_quiet;
        match (&mut self.bars, &event.fact) {
            (Some(bars), Fact::StepStarted { step, .. }) if !is_quiet => {
                let tool = self.family.tool(&event.run, step);
                bars.start(&event.run, step, named(&self.family.way(&event.run), step, tool));
            }
            (
                Some(bars),
                Fact::StepEnded { step, .. } | Fact::StepInterrupted { step, .. } | Fact::StepUnknown { step, .. },
            ) => {
                bars.end(&event.run, step);
            }
            _ => {}
        }
        // A bar tells already that its step runs.
        let is_drawn = self.bars.is_some() && matches!(event.fact, Fact::StepStarted { .. });
        if let Some(line) = self.family.line(event).filter(|_| !is_drawn) {
            self.say(&line);
        }
    }

    fn progress(&self, run: &RunId, step: &StepId, fraction: Option<f64>, message: &str) {
        match &self.bars {
            Some(bars) => bars.progress(run, step, fraction, &text::line(message, MESSAGE_CHARS_MAX)),
            None => self.output.say(&format!("{}{}", self.family.way(run), progress_line(step, fraction, message))),
        }
    }
}

impl Bars {
    fn start(&mut self, run: &RunId, step: &StepId, name: String) {
        let bar = self.all.add(ProgressBar::new(PARTS));
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(name);
        bar.enable_steady_tick(TICK);
        self.by_step.insert((run.clone(), step.clone()), bar);
    }

    fn end(&mut self, run: &RunId, step: &StepId) {
        if let Some(bar) = self.by_step.remove(&(run.clone(), step.clone())) {
            bar.finish_and_clear();
        }
    }

    fn progress(&self, run: &RunId, step: &StepId, fraction: Option<f64>, message: &str) {
        let Some(bar) = self.by_step.get(&(run.clone(), step.clone())) else { return };
        let percent = fraction.map_or(String::new(), |fraction| format!("{:.0} % ", fraction.clamp(0.0, 1.0) * 100.0));
        bar.set_message(format!("{percent}· the tool says: {message}"));
    }
}

fn named(way: &str, step: &StepId, tool: Option<&ToolName>) -> String {
    tool.map_or_else(|| format!("{way}{step}"), |tool| format!("{way}{step} {tool}"))
}

/// Returns how far a step is, as its tool says.
pub(super) fn progress_line(step: &StepId, fraction: Option<f64>, message: &str) -> String {
    let percent = fraction.map_or(String::new(), |fraction| format!(" {:.0} %", fraction.clamp(0.0, 1.0) * 100.0));
    format!("{step}{percent} · the tool says: {}", text::line(message, MESSAGE_CHARS_MAX))
}

/// Returns an event as JSON, with its trace as far as that is known, and its span.
pub(super) fn event_document(event: &Event, trace: Option<TraceId>) -> Json {
    json!({ "signal": "event", "trace_id": trace, "span_id": span_of(event), "event": event })
}

/// Returns a signal as JSON; that of a run within the run with the steps that lead there, from the outermost one.
fn document(signal: &Signal, family: &Family, trace: Option<TraceId>) -> Json {
    let (mut document, run) = match signal {
        Signal::Event(event) => (event_document(event, trace), &event.run),
        Signal::Progress { run, step, fraction, message } => {
            (json!({ "signal": "progress", "step": step, "fraction": fraction, "message": message }), run)
        }
        Signal::ApprovalWanted(view) => (json!({ "signal": "approval_wanted", "approval": view }), &view.run),
    };
    let within = family.within(run);
    if !within.is_empty() {
        document["within"] = json!(within);
    }
    document
}
