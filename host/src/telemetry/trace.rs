//! Events → the story of a run: a pure function, so that it can be told again for any run, at any time.

use serde::{Deserialize, Serialize};

use crate::domain::{
    Caveat, Digest, Effect, Event, Fact, RunEnd, StepEnd, StepId, Suspension, Timestamp, ToolName, Usage,
};

/// The story of a run, by digests; payloads are looked up by whoever tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    pub created: Timestamp,
    pub ended: Option<Timestamp>,
    pub planner: String,
    pub goal: Option<Digest>,
    pub state: RunState,
    pub failure: Option<Digest>,
    pub answer: Option<Digest>,
    pub question: Option<Digest>,
    pub steps: Vec<StepTrace>,
    pub caveats: Vec<Caveat>,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    #[default]
    Planning,
    Executing,
    Suspended(Suspension),
    Succeeded,
    Failed,
    Cancelled,
    BudgetExhausted,
    /// Not a run: a log of lone calls.
    Session,
}

/// The story of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepTrace {
    pub step: StepId,
    pub tool: ToolName,
    pub effect: Effect,
    /// The state machine's word.
    pub status: &'static str,
    pub attempts: u32,
    pub ready: Option<Timestamp>,
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    pub usage: Option<Usage>,
    pub args: Option<Digest>,
    pub output: Option<Digest>,
    pub failure: Option<Digest>,
    pub log: Option<Digest>,
    pub denials: Option<Digest>,
    /// What a person must approve, while one must.
    pub asked: Option<(Digest, String)>,
}

/// Returns the story that `events` tell. Events that it does not know how to tell are passed over.
pub fn trace(events: &[Event]) -> Trace {
    let mut trace = Trace::default();
    for event in events {
        trace.tell(event);
    }
    trace
}

impl Trace {
    fn tell(&mut self, event: &Event) {
        match &event.fact {
            Fact::RunCreated { goal, planner, .. } => {
                (self.created, self.goal) = (event.at, Some(*goal));
                self.planner.clone_from(planner);
            }
            Fact::SessionStarted { .. } => (self.created, self.state) = (event.at, RunState::Session),
            Fact::RunClaimed { .. } => self.moved(),
            Fact::PlanRequested { .. } => self.state = RunState::Planning,
            Fact::PlanAccepted { steps, .. } => {
                self.state = RunState::Executing;
                self.steps.extend(steps.iter().map(|step| StepTrace::new(&step.id, &step.tool, step.effect)));
            }
            Fact::Asked { question, .. } => {
                (self.state, self.question) = (RunState::Suspended(Suspension::Question), Some(*question));
            }
            Fact::QuestionAnswered { .. } => (self.state, self.question) = (RunState::Planning, None),
            Fact::Answered { answer, .. } => self.answer = Some(*answer),
            Fact::RunSuspended { why } => self.state = RunState::Suspended(*why),
            Fact::RunEnded { end, caveats } => {
                self.ended = Some(event.at);
                self.caveats.clone_from(caveats);
                self.end(end);
            }
            Fact::CallStarted { call, tool, args, effect, .. } => {
                self.call_started(event.at, *call, tool, *effect, *args)
            }
            Fact::Called { .. } => self.called(event.at, &event.fact),
            fact => self.step(event.at, fact),
        }
    }

    fn moved(&mut self) {
        // A question stays open until it is answered.
        if let RunState::Suspended(Suspension::Approval | Suspension::Reconcile) = self.state {
            self.state = if self.steps.is_empty() { RunState::Planning } else { RunState::Executing };
        }
    }

    fn end(&mut self, end: &RunEnd) {
        self.state = match end {
            RunEnd::Succeeded { .. } => RunState::Succeeded,
            RunEnd::Failed { failure, .. } => {
                self.failure = Some(*failure);
                RunState::Failed
            }
            RunEnd::Cancelled { .. } => RunState::Cancelled,
            RunEnd::BudgetExhausted { failure } => {
                self.failure = Some(*failure);
                RunState::BudgetExhausted
            }
        };
    }

    /// A lone call that may change something has begun: until its end is told, it is unknown.
    fn call_started(&mut self, at: Timestamp, call: u64, tool: &ToolName, effect: Effect, args: Digest) {
        let Ok(step) = StepId::new(0, &format!("call{call}")) else { return };
        let mut told = StepTrace::new(&step, tool, effect);
        (told.status, told.args, told.attempts, told.started) = ("unknown", Some(args), 1, Some(at));
        self.steps.push(told);
    }

    fn called(&mut self, at: Timestamp, fact: &Fact) {
        let Fact::Called { call, tool, effect, args, end, usage, log, denials, has_written, .. } = fact else { return };
        let Ok(step) = StepId::new(0, &format!("call{call}")) else { return };
        if !self.steps.iter().any(|told| told.step == step) {
            self.call_started(at, *call, tool, *effect, *args);
        }
        if let Some(told) = self.steps.iter_mut().find(|told| told.step == step) {
            (told.ended, told.usage, told.log, told.denials) = (Some(at), Some(usage.clone()), *log, *denials);
            told.end(end, *has_written);
        }
    }

    fn step(&mut self, at: Timestamp, fact: &Fact) {
        let (Fact::StepReady { step: id, .. }
        | Fact::StepRejected { step: id, .. }
        | Fact::StepSkipped { step: id, .. }
        | Fact::ApprovalRequested { step: id, .. }
        | Fact::ApprovalDecided { step: id, .. }
        | Fact::StepStarted { step: id, .. }
        | Fact::StepEnded { step: id, .. }
        | Fact::StepInterrupted { step: id, .. }
        | Fact::StepUnknown { step: id, .. }
        | Fact::StepSettled { step: id, .. }) = fact
        else {
            return;
        };
        self.moved();
        if let Some(step) = self.steps.iter_mut().find(|step| step.step == *id) {
            step.tell(at, fact);
        }
    }
}

impl StepTrace {
    fn new(step: &StepId, tool: &ToolName, effect: Effect) -> Self {
        Self {
            step: step.clone(),
            tool: tool.clone(),
            effect,
            status: "proposed",
            attempts: 0,
            ready: None,
            started: None,
            ended: None,
            usage: None,
            args: None,
            output: None,
            failure: None,
            log: None,
            denials: None,
            asked: None,
        }
    }

    fn tell(&mut self, at: Timestamp, fact: &Fact) {
        use crate::domain::{Decision, Settlement};
        match fact {
            Fact::StepReady { args, .. } => (self.status, self.args, self.ready) = ("ready", Some(*args), Some(at)),
            Fact::StepRejected { failure, .. } => {
                (self.status, self.failure, self.ended, self.asked) = ("rejected", Some(*failure), Some(at), None);
            }
            Fact::StepSkipped { .. } => self.status = "skipped",
            Fact::ApprovalRequested { binding, rule, .. } => {
                (self.status, self.asked) = ("awaiting_approval", Some((*binding, rule.clone())));
            }
            Fact::ApprovalDecided { decision: Decision::Approve, .. } => (self.status, self.asked) = ("ready", None),
            Fact::StepStarted { attempt, effect, .. } => {
                (self.status, self.attempts, self.started, self.effect) = ("running", *attempt, Some(at), *effect);
            }
            Fact::StepEnded { end, usage, log, denials, has_written, .. } => {
                (self.ended, self.usage, self.log, self.denials) = (Some(at), Some(usage.clone()), *log, *denials);
                self.end(end, *has_written);
            }
            Fact::StepInterrupted { .. } => self.status = "ready",
            Fact::StepUnknown { .. } => self.status = "unknown",
            Fact::StepSettled { settlement, .. } => match settlement {
                Settlement::Done { output } => (self.status, self.output) = ("succeeded", Some(*output)),
                Settlement::Retry => self.status = "ready",
                Settlement::Failed { failure } => (self.status, self.failure) = ("failed", Some(*failure)),
            },
            _ => {}
        }
    }

    /// As the state machine has it: a call that was stopped after it had begun to write did not tell what it changed.
    fn end(&mut self, end: &StepEnd, has_written: bool) {
        match end {
            StepEnd::Succeeded { output } => (self.status, self.output) = ("succeeded", Some(*output)),
            StepEnd::Failed { kind, failure } => {
                let is_unknown = has_written && !kind.is_told();
                (self.status, self.failure) = (if is_unknown { "unknown" } else { "failed" }, Some(*failure));
            }
        }
    }
}
