//! The story of one step: what it was to do, what became of it, and which other steps and runs have part in it.

use serde::Serialize;

use crate::domain::{
    Decision, Digest, Doubt, Effect, Fact, Kind, OnFailure, PlannedStep, Role, RunId, Settlement, SkipReason, StepEnd,
    StepId, Timestamp, ToolName, Usage,
};

/// The story of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepTrace {
    pub step: StepId,
    pub tool: ToolName,
    pub effect: Effect,
    pub role: Role,
    /// What its attempts may have changed.
    pub doubt: Doubt,
    /// The step that takes its place where it fails, by the plan's name or in full.
    pub fallback: Option<String>,
    /// The state machine's word.
    pub status: &'static str,
    pub attempts: u32,
    pub ready: Option<Timestamp>,
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    /// When it is tried again, while it waits for that.
    pub retry: Option<Timestamp>,
    pub usage: Option<Usage>,
    pub args: Option<Digest>,
    /// The step that asks for the very same call, where that changes something.
    pub duplicate_of: Option<StepId>,
    pub output: Option<Digest>,
    pub failure: Option<Digest>,
    pub log: Option<Digest>,
    pub denials: Option<Digest>,
    /// What a person must approve, while one must.
    pub asked: Option<Asked>,
    pub skipped: Option<SkipReason>,
    /// Where its output was taken from in place of a call.
    pub cached: Option<Cached>,
    /// Items that it is done for, once they are known.
    pub items: Option<u32>,
    /// The run that carries it out.
    pub run: Option<RunId>,
    /// That run has done something that stands.
    pub has_done_within: bool,
    /// It was to take a step back, and a person said that this is to stay.
    pub is_given_up: bool,
}

/// A call that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Digest of what is to be approved.
    pub binding: Digest,
    pub rule: String,
    pub effect: Effect,
    pub expires: Timestamp,
}

/// An earlier outcome that was taken in place of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cached {
    pub from: RunId,
    pub age_ms: u64,
}

impl StepTrace {
    /// Begins the story of a step of a plan.
    pub(super) fn planned(step: &PlannedStep) -> Self {
        let fallback = match &step.on_failure {
            OnFailure::Fallback(other) => Some(other.clone()),
            OnFailure::Fail | OnFailure::Skip | OnFailure::Undo => None,
        };
        Self { role: step.role.clone(), fallback, ..Self::new(&step.id, &step.tool, step.effect) }
    }

    /// Begins the story of a step that is not told of by a plan.
    pub(super) fn new(step: &StepId, tool: &ToolName, effect: Effect) -> Self {
        Self {
            step: step.clone(),
            tool: tool.clone(),
            effect,
            role: Role::Do,
            fallback: None,
            status: "proposed",
            attempts: 0,
            ready: None,
            started: None,
            ended: None,
            retry: None,
            usage: None,
            args: None,
            duplicate_of: None,
            output: None,
            failure: None,
            log: None,
            denials: None,
            asked: None,
            skipped: None,
            cached: None,
            items: None,
            run: None,
            has_done_within: false,
            is_given_up: false,
            doubt: Doubt::default(),
        }
    }

    /// Begins the story of an item of this step.
    pub(super) fn item(&self, id: &StepId) -> Self {
        Self { role: Role::Item { of: self.step.clone() }, ..Self::new(id, &self.tool, self.effect) }
    }

    /// Tells what a fact says of this step.
    pub(super) fn tell(&mut self, at: Timestamp, fact: &Fact) {
        match fact {
            Fact::StepReady { args, duplicate_of, .. } => {
                (self.status, self.args, self.ready) = ("ready", Some(*args), Some(at));
                self.duplicate_of.clone_from(duplicate_of);
            }
            Fact::StepExpanded { items, .. } => (self.status, self.items) = ("expanded", Some(*items)),
            Fact::StepGathered { end, .. } => {
                self.ended = Some(at);
                self.end(end, false);
            }
            Fact::StepRejected { failure, .. } if self.doubt.has_written() => {
                (self.status, self.failure, self.asked) = ("unknown", Some(*failure), None);
            }
            Fact::StepRejected { failure, .. } => {
                (self.status, self.failure, self.ended, self.asked) = ("rejected", Some(*failure), Some(at), None);
            }
            Fact::StepSkipped { why, .. } => {
                (self.status, self.skipped, self.ended) = ("skipped", Some(why.clone()), Some(at));
            }
            Fact::StepCached { output, from, age_ms, .. } => {
                (self.status, self.output, self.ended) = ("succeeded", Some(*output), Some(at));
                self.cached = Some(Cached { from: from.clone(), age_ms: *age_ms });
            }
            Fact::ApprovalRequested { .. } | Fact::ApprovalDecided { .. } | Fact::ApprovalExpired { .. } => {
                self.approval(at, fact);
            }
            Fact::StepStarted { attempt, effect, run, .. } => {
                (self.status, self.attempts, self.started, self.effect) = ("running", *attempt, Some(at), *effect);
                (self.retry, self.ended) = (None, None);
                self.run = run.clone().or_else(|| self.run.take());
            }
            Fact::WriteBegun { .. } => self.doubt.wrote(),
            Fact::StepEnded { end, usage, log, denials, retry, has_written, has_open_write, within, .. } => {
                self.has_done_within = within.as_ref().is_some_and(|within| within.has_done);
                if *has_written {
                    self.doubt.wrote();
                }
                (self.ended, self.usage, self.log, self.denials) = (Some(at), Some(usage.clone()), *log, *denials);
                self.end(end, *has_open_write);
                let is_stopped = matches!(end, StepEnd::Failed { kind: Kind::HostCancelled, .. });
                if is_stopped && self.status == "failed" {
                    self.status = "cancelled";
                }
                if retry.is_some() {
                    (self.status, self.retry) = ("retry_wait", *retry);
                }
            }
            Fact::StepInterrupted { .. } => {
                self.doubt.interrupted();
                self.status = "ready";
            }
            Fact::StepUnknown { .. } => self.status = "unknown",
            Fact::StepSettled { settlement, .. } => {
                self.settled(settlement);
                let is_no = matches!(settlement, Settlement::Failed { .. });
                self.is_given_up = is_no && matches!(self.role, Role::Undo { .. });
            }
            _ => {}
        }
    }

    fn approval(&mut self, at: Timestamp, fact: &Fact) {
        match fact {
            Fact::ApprovalRequested { binding, rule, effect, expires, .. } => {
                self.status = "awaiting_approval";
                self.asked = Some(Asked { binding: *binding, rule: rule.clone(), effect: *effect, expires: *expires });
            }
            Fact::ApprovalDecided { decision: Decision::Approve, .. } => (self.status, self.asked) = ("ready", None),
            Fact::ApprovalDecided { decision: Decision::Modify { args, .. }, .. } => {
                (self.status, self.asked, self.args) = ("ready", None, Some(*args));
            }
            Fact::ApprovalExpired { failure, .. } if self.doubt.has_written() => {
                (self.status, self.failure, self.asked) = ("unknown", Some(*failure), None);
            }
            Fact::ApprovalExpired { failure, .. } => {
                (self.status, self.failure, self.ended, self.asked) = ("rejected", Some(*failure), Some(at), None);
            }
            // The rejection of the step follows.
            _ => {}
        }
    }

    pub(super) fn settled(&mut self, settlement: &Settlement) {
        match settlement {
            Settlement::Unknown => {}
            Settlement::Done { output } => {
                self.doubt.settled();
                (self.status, self.output, self.failure) = ("succeeded", Some(*output), None);
            }
            Settlement::Retry => {
                self.doubt.settled();
                let status = if self.ready.is_none() { "proposed" } else { "ready" };
                (self.status, self.failure) = (status, None);
            }
            Settlement::Failed { failure } => (self.status, self.failure) = ("failed", Some(*failure)),
        }
    }

    /// As the state machine has it: a call that was stopped after it had begun to write did not tell what it changed.
    pub(super) fn end(&mut self, end: &StepEnd, has_open_write: bool) {
        match end {
            StepEnd::Succeeded { output } => {
                self.doubt.settled();
                (self.status, self.output, self.failure) = ("succeeded", Some(*output), None);
            }
            StepEnd::Failed { kind, failure } => {
                let is_unknown = self.doubt.failed(*kind, has_open_write);
                (self.status, self.failure) = (if is_unknown { "unknown" } else { "failed" }, Some(*failure));
            }
        }
    }
}
