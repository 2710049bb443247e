//! The commands that go on from where a run stands, written so that they work where they are typed.

use crate::domain::{RunId, StepId};
use crate::host::{ApprovalView, RunReport};

use super::text;

/// What the name of a planner that asks a model begins with.
const MODEL_PREFIX: &str = "model:";

/// What the name of a planner begins with that asks one of several.
const MODELS_PREFIX: &str = "models:";

/// Writes commands.
pub(super) struct Commands {
    /// How this program was called.
    pub program: String,
    /// The server of the model, where it is not the one of the settings.
    pub base_url: Option<String>,
    /// What it speaks, where that is not told by the settings.
    pub protocol: Option<String>,
}

impl Commands {
    pub(super) fn show(&self, run: &RunId) -> String {
        format!("{} show {run}", self.program)
    }

    /// Returns the command that goes on with a run, with the model that plans it.
    pub(super) fn resume(&self, report: &RunReport) -> String {
        format!("{} resume {}{}", self.program, report.run, self.model(report))
    }

    /// Returns the command that answers the planner's question.
    pub(super) fn answer(&self, report: &RunReport) -> String {
        format!("{} --answer TEXT", self.resume(report))
    }

    /// Returns the three commands that say what became of a step: it is done, and `retry` and `failed` tell what those mean.
    pub(super) fn settle(&self, report: &RunReport, step: &StepId, [retry, failed]: [&str; 2]) -> String {
        let (resume, step) = (self.resume(report), text::shell(step.as_str()));
        format!(
            "  {resume} --settle {step}=done:JSON  it happened, and this is its output\n  \
               {resume} --settle {step}=retry      {retry}\n  \
               {resume} --settle {step}=failed     {failed}\n"
        )
    }

    /// Returns the command that approves exactly the call of `view`.
    pub(super) fn approve(&self, run: &RunId, view: &ApprovalView) -> String {
        self.decide("approve", run, view)
    }

    /// Returns the command that rejects exactly the call of `view`.
    pub(super) fn reject(&self, run: &RunId, view: &ApprovalView) -> String {
        format!("{} --reason TEXT", self.decide("reject", run, view))
    }

    fn decide(&self, verb: &str, run: &RunId, view: &ApprovalView) -> String {
        let step = text::shell(view.step.as_str());
        format!("{} {verb} {run} {step} --binding {}", self.program, view.binding.short())
    }

    fn model(&self, report: &RunReport) -> String {
        let Some(name) = model_of(report) else { return String::new() };
        let mut flags = format!(" --model {}", text::shell(&text::printable(name)));
        if let Some(base_url) = self.base_url.as_ref().filter(|base_url| !may_hold_key(base_url)) {
            flags.push_str(&format!(" --base-url {}", text::shell(&text::printable(base_url))));
        }
        if let Some(protocol) = &self.protocol {
            flags.push_str(&format!(" --protocol {}", text::shell(&text::printable(protocol))));
        }
        flags
    }
}

/// Returns the one model that plans the run; `None` where several may, or a workflow does.
fn model_of(report: &RunReport) -> Option<&str> {
    report.planner.strip_prefix(MODEL_PREFIX)
}

/// Answers whether models plan the run, and so name its steps.
pub(super) fn is_of_models(report: &RunReport) -> bool {
    [MODEL_PREFIX, MODELS_PREFIX].iter().any(|prefix| report.planner.starts_with(prefix))
}

/// A key may stand before the host's name or in the query: such an address is not printed.
fn may_hold_key(base_url: &str) -> bool {
    base_url.contains(['@', '?'])
}
