//! What counts of one run: its end, the requests to models, the calls, and what each of them took.

use std::collections::HashMap;

use crate::domain::{
    AskedModel, Digest, Event, Fact, Kind, RunEnd, RunId, StepEnd, StepId, Timestamp, Tokens, ToolName, usd_picos,
};
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
    pub(super) requests: Vec<RequestFact>,
    /// Why requests were not sent.
    pub(super) unsent: Vec<Kind>,
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

/// A request that was sent to a model.
pub(super) struct RequestFact {
    /// As the settings call it.
    pub(super) model: String,
    pub(super) tier: String,
    pub(super) tokens: Option<Tokens>,
    /// What it cost, in picodollars; `None` where nobody knows.
    pub(super) picos: Option<u128>,
    /// `None` where the process died meanwhile.
    pub(super) wall_ms: Option<u64>,
    pub(super) first_token_ms: Option<u64>,
    pub(super) failure: Option<Kind>,
    /// It brought no plan that can run.
    pub(super) is_rejected: bool,
    /// What was held for it, in picodollars.
    reserved: u128,
    is_told: bool,
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
            requests: Vec::new(),
            unsent: Vec::new(),
            calls: Vec::new(),
            rejected: Vec::new(),
        };
        let tools = trace(events).steps.into_iter().map(|step| (step.step, step.tool)).collect();
        let mut open = Open { tools, begun: HashMap::new(), is_asking: false };
        events.iter().for_each(|event| facts.tell(event, &mut open));
        Some(facts)
    }

    fn tell(&mut self, event: &Event, open: &mut Open) {
        match &event.fact {
            Fact::PlanRequested { .. }
            | Fact::PlanReplied { .. }
            | Fact::PlanFailed { .. }
            | Fact::PlanRejected { .. } => self.asked(&event.fact, open),
            Fact::RunClaimed { .. } => self.lost(open),
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
                self.lost(open);
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

    fn asked(&mut self, fact: &Fact, open: &mut Open) {
        match fact {
            Fact::PlanRequested { asked: Some(asked), reserved, .. } => {
                self.lost(open);
                self.requests.push(RequestFact::sent(asked, usd_picos(reserved.usd_micros)));
                open.is_asking = true;
            }
            Fact::PlanReplied { tokens, cost, usd_picos: picos, first_token_ms, wall_ms, .. } => {
                open.is_asking = false;
                let Some(request) = self.requests.last_mut() else { return };
                // Where nobody counted, all that was held is spent.
                let charged = (cost.usd_micros > 0).then(|| usd_picos(cost.usd_micros));
                request.picos = picos.map(u128::from).or(charged);
                (request.tokens, request.first_token_ms) = (*tokens, *first_token_ms);
                (request.wall_ms, request.is_told) = (Some(*wall_ms), true);
            }
            // It was not sent: what it could have cost was more than is left.
            Fact::PlanFailed { kind, .. } if open.is_asking => {
                open.is_asking = false;
                self.requests.pop();
                self.unsent.push(*kind);
            }
            Fact::PlanFailed { kind, .. } => {
                if let Some(request) = self.requests.last_mut() {
                    request.failure = Some(*kind);
                    request.picos = request.picos.or(is_unbilled(*kind).then_some(0));
                }
            }
            Fact::PlanRejected { .. } => {
                if let Some(request) = self.requests.last_mut() {
                    request.is_rejected = true;
                }
            }
            _ => {}
        }
    }

    /// A request whose process died is taken to have cost all that was held for it.
    fn lost(&mut self, open: &mut Open) {
        if !std::mem::take(&mut open.is_asking) {
            return;
        }
        if let Some(request) = self.requests.last_mut().filter(|request| !request.is_told) {
            request.failure = Some(Kind::HostInterrupted);
            request.picos = (request.reserved > 0).then_some(request.reserved);
        }
    }
}

/// What has begun and not ended.
struct Open {
    tools: HashMap<StepId, ToolName>,
    /// What was held for each call.
    begun: HashMap<StepId, u128>,
    /// The last request has no reply.
    is_asking: bool,
}

impl Open {
    fn call(&self, step: &StepId, wall_ms: Option<u64>, picos: u128, failure: Option<Kind>) -> Option<CallFact> {
        let tool = self.tools.get(step).filter(|tool| (tool.component(), tool.function()) != RUN_TOOL)?.clone();
        Some(CallFact { tool, wall_ms, picos, failure })
    }
}

impl RequestFact {
    fn sent(asked: &AskedModel, reserved: u128) -> Self {
        Self {
            model: asked.model.clone(),
            tier: asked.tier.clone(),
            tokens: None,
            picos: None,
            wall_ms: None,
            first_token_ms: None,
            failure: None,
            is_rejected: false,
            reserved,
            is_told: false,
        }
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

/// Answers whether no model has seen such a request: it did not arrive, or was refused as it came.
fn is_unbilled(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::NetworkDns
            | Kind::NetworkConnect
            | Kind::NetworkTls
            | Kind::NetworkRateLimited
            | Kind::NetworkHttp4xx
            | Kind::NetworkCircuitOpen
    )
}

fn failure(end: &StepEnd) -> Option<Kind> {
    match end {
        StepEnd::Succeeded { .. } => None,
        StepEnd::Failed { kind, .. } => Some(*kind),
    }
}
