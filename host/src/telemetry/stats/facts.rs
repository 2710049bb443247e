//! What counts of one run: its end, the requests to models, the calls, and what each of them took.

use std::collections::HashMap;

use crate::domain::{Digest, Event, Fact, Kind, RunEnd, RunId, StepEnd, StepId, Timestamp, ToolName, usd_picos};
use crate::telemetry::requests::Requests;
use crate::telemetry::trace::trace;

/// The tool that stands for a run within the run: what that did its own events tell.
const RUN_TOOL: (&str, &str) = ("cofferdam", "run");

/// What counts of a run.
pub(super) struct RunFacts {
    pub(super) created: Timestamp,
    pub(super) planner: String,
    pub(super) toolset: Digest,
    /// The run around it.
    pub(super) parent: Option<RunId>,
    pub(super) end: Option<End>,
    pub(super) requests: Requests,
    pub(super) calls: Vec<CallFact>,
    /// Why steps never began.
    pub(super) rejected: Vec<Kind>,
}

/// How a run ended.
pub(super) struct End {
    pub(super) name: &'static str,
    pub(super) kind: Option<Kind>,
    pub(super) wall_ms: u64,
}

/// An attempt of a step.
pub(super) struct CallFact {
    pub(super) tool: ToolName,
    /// `None` where nobody saw its end.
    pub(super) wall_ms: Option<u64>,
    pub(super) picos: u128,
    pub(super) failure: Option<Kind>,
}

/// A call that belongs to no run.
pub(super) struct LoneFact {
    pub(super) at: Timestamp,
    pub(super) call: CallFact,
}

/// Returns the lone calls of a session.
pub(super) fn lone(events: &[Event]) -> impl Iterator<Item = LoneFact> {
    events.iter().filter_map(|event| match &event.fact {
        Fact::Called { tool, end, usage, .. } => {
            let call = CallFact { tool: tool.clone(), wall_ms: Some(usage.wall_ms), picos: 0, failure: failure(end) };
            Some(LoneFact { at: event.at, call })
        }
        _ => None,
    })
}

impl RunFacts {
    /// Returns what counts of a run; `None` for a session.
    pub(super) fn of(events: &[Event]) -> Option<Self> {
        let first = events.first()?;
        let Fact::RunCreated { planner, toolset, parent, .. } = &first.fact else { return None };
        let mut facts = Self {
            created: first.at,
            planner: planner.clone(),
            toolset: *toolset,
            parent: parent.as_ref().map(|parent| parent.run.clone()),
            end: None,
            requests: Requests::default(),
            calls: Vec::new(),
            rejected: Vec::new(),
        };
        let tools = trace(events).steps.into_iter().map(|step| (step.step, step.tool)).collect();
        let mut open = Open { tools, begun: HashMap::new() };
        events.iter().for_each(|event| facts.tell(event, &mut open));
        Some(facts)
    }

    fn tell(&mut self, event: &Event, open: &mut Open) {
        self.requests.tell(&event.fact);
        match &event.fact {
            Fact::StepStarted { step, reserved, run: None, .. } => {
                open.begun.insert(step.clone(), usd_picos(reserved.usd_micros));
            }
            Fact::StepEnded { step, end, usage, cost, .. } => {
                open.begun.remove(step);
                let picos = usd_picos(cost.usd_micros);
                self.calls.extend(open.call(step, Some(usage.wall_ms), picos, failure(end)));
            }
            // It was begun, and nobody saw its end: it was one, at its price.
            Fact::StepUnknown { step, .. } => {
                let picos = open.begun.remove(step);
                self.calls.extend(picos.and_then(|picos| open.call(step, None, picos, Some(Kind::HostInterrupted))));
            }
            Fact::StepRejected { step, kind, .. } => self.refused(step, *kind, open),
            Fact::ApprovalExpired { step, .. } => self.refused(step, Kind::PolicyExpired, open),
            Fact::RunEnded { end, .. } => {
                self.end = Some(End { wall_ms: event.at.ms_since(self.created), ..End::of(end) });
            }
            _ => {}
        }
    }

    /// A step may be refused before it begins, or where it was to go on after a crash: then it was a call, at its price.
    fn refused(&mut self, step: &StepId, kind: Kind, open: &mut Open) {
        match open.begun.remove(step) {
            Some(picos) => self.calls.extend(open.call(step, None, picos, Some(kind))),
            None => self.rejected.push(kind),
        }
    }
}

/// What has begun and not ended.
struct Open {
    tools: HashMap<StepId, ToolName>,
    /// What was held for each call.
    begun: HashMap<StepId, u128>,
}

impl Open {
    fn call(&self, step: &StepId, wall_ms: Option<u64>, picos: u128, failure: Option<Kind>) -> Option<CallFact> {
        let tool = self.tools.get(step).filter(|tool| (tool.component(), tool.function()) != RUN_TOOL)?.clone();
        Some(CallFact { tool, wall_ms, picos, failure })
    }
}

impl End {
    fn of(end: &RunEnd) -> Self {
        let (name, kind) = match end {
            RunEnd::Succeeded { .. } => ("succeeded", None),
            RunEnd::Failed { kind, .. } => ("failed", Some(*kind)),
            RunEnd::Cancelled { .. } => ("cancelled", None),
            RunEnd::BudgetExhausted { .. } => ("budget_exhausted", Some(Kind::PolicyBudget)),
        };
        Self { name, kind, wall_ms: 0 }
    }

    pub(super) fn is_success(&self) -> bool {
        self.name == "succeeded"
    }
}

fn failure(end: &StepEnd) -> Option<Kind> {
    match end {
        StepEnd::Succeeded { .. } => None,
        StepEnd::Failed { kind, .. } => Some(*kind),
    }
}
