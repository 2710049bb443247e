//! How a lone call, which belongs to no run, speaks with what its host knows: servers that are down, and the state of its
//! tool. Nothing of it is recorded: a lone call is one event of its session.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::domain::{
    Failure, Kind, Principal, RunId, StateOp, StateQuota, StateReply, StateScope, StateSpace, Subject, ToolName,
    TraceId, Traceparent, UpstreamEnd,
};
use crate::orchestrator::driver::Parts;
use crate::orchestrator::upstreams::Upstreams;
use crate::policy::Call;
use crate::sandbox::CallLink;
use crate::store::EventLog;

/// The link of one lone call.
pub struct LoneLink {
    tool: ToolName,
    principal: Principal,
    session: RunId,
    traceparent: Traceparent,
    quotas: BTreeMap<StateScope, StateQuota>,
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    upstreams: Arc<Upstreams>,
}

impl LoneLink {
    /// Makes the link of `call`, which is part of a trace that somebody brought, or else of its session's.
    pub fn new(parts: &Parts, call: &Call, brought: Option<TraceId>) -> Self {
        let trace = TraceId::of_created(call.run(), None, brought);
        Self {
            tool: call.tool().name().clone(),
            principal: call.principal().clone(),
            session: call.run().clone(),
            traceparent: Traceparent::of(trace, call.run(), Subject::Step(call.step(), call.attempt())),
            quotas: call.grant().state.clone(),
            log: parts.log.clone(),
            clock: parts.clock.clone(),
            upstreams: parts.upstreams.clone(),
        }
    }
}

#[async_trait]
impl CallLink for LoneLink {
    fn admits(&self, upstream: &str) -> Result<(), Failure> {
        self.upstreams.check(&self.principal, &self.tool, upstream, self.clock.now())
    }

    fn answered(&self, upstream: &str, end: &UpstreamEnd) {
        self.upstreams.ended(&self.principal, &self.tool, upstream, end.failure, self.clock.now());
    }

    fn traceparent(&self) -> Option<Traceparent> {
        Some(self.traceparent)
    }

    async fn state(&self, scope: StateScope, op: StateOp) -> Result<StateReply, Failure> {
        let none = || Failure::new(Kind::PolicyDenied, "reach the state of a tool: no rule gives it");
        let quota = self.quotas.get(&scope).ok_or_else(none)?;
        let space = StateSpace {
            scope,
            principal: self.principal.clone(),
            run: self.session.clone(),
            component: self.tool.component().to_owned(),
        };
        self.log.state(&space, op, quota).await
    }
}
