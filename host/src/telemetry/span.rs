//! Which span an event belongs to, and which trace a log. Nothing of it is stored but a trace that somebody brought: the rest
//! is derived, the same in every process.

use crate::domain::{Event, Fact, SpanId, Subject, TraceId};

/// Returns the span of what an event tells: the run, the turn of its planner, a step, or one attempt of it. A lone call is a
/// step of its session.
pub fn span_of(event: &Event) -> SpanId {
    let of = |subject| SpanId::of(&event.run, subject);
    match &event.fact {
        Fact::PlanRequested { turn, .. }
        | Fact::PlanReplied { turn, .. }
        | Fact::PlanFailed { turn, .. }
        | Fact::PlanRejected { turn, .. }
        | Fact::PlanAccepted { turn, .. }
        | Fact::Answered { turn, .. }
        | Fact::Asked { turn, .. }
        | Fact::QuestionAnswered { turn, .. }
        | Fact::Verified { turn, .. } => of(Subject::Turn(*turn)),
        Fact::StepStarted { step, attempt, .. }
        | Fact::WriteBegun { step, attempt }
        | Fact::StepEnded { step, attempt, .. }
        | Fact::StepInterrupted { step, attempt }
        | Fact::StepUnknown { step, attempt } => of(Subject::Step(step, *attempt)),
        Fact::CallStarted { call, .. } | Fact::CallSettled { call, .. } | Fact::Called { call, .. } => {
            SpanId::of_call(&event.run, *call)
        }
        fact => of(fact.step().map_or(Subject::Run, |step| Subject::Step(step, 0))),
    }
}

/// Returns the trace of a log, as its first event tells it; `None` for an event that is not the first, and for a lone call
/// that is part of its session's trace.
pub fn trace_of(event: &Event) -> Option<TraceId> {
    match &event.fact {
        Fact::RunCreated { parent, trace, .. } => {
            let around = parent.as_ref().map(|parent| &parent.run);
            Some(TraceId::of_created(&event.run, around, *trace))
        }
        Fact::SessionStarted { .. } => Some(TraceId::of_run(&event.run)),
        Fact::Called { trace, .. } => *trace,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Cost, Digest, GENESIS, Principal, RunId, SCHEMA_VERSION, SkipReason, StepId, Timestamp};

    fn event(fact: Fact) -> Event {
        let run = RunId::from_ulid("01ARZ3NDEKTSV4RRFFQ69G5FAV");
        Event { v: SCHEMA_VERSION, run, seq: 1, epoch: 1, at: Timestamp(0), prev: GENESIS, fact, stored: None }
    }

    fn step() -> StepId {
        StepId::new(3, "a").unwrap()
    }

    #[test]
    fn an_event_belongs_to_the_span_of_what_it_tells() {
        let run = event(Fact::SessionStarted { principal: Principal::default() }).run;
        let of = |subject| SpanId::of(&run, subject);
        let asked = Fact::PlanRequested { turn: 3, pack: Digest::of(b""), asked: None, reserved: Cost::default() };
        for (fact, span) in [
            (asked, of(Subject::Turn(3))),
            (Fact::StepSkipped { step: step(), why: SkipReason::Condition }, of(Subject::Step(&step(), 0))),
            (Fact::WriteBegun { step: step(), attempt: 2 }, of(Subject::Step(&step(), 2))),
            (Fact::CancelRequested { by: "ann".into(), undo: false }, of(Subject::Run)),
            (
                Fact::CallSettled { call: 4, settlement: crate::domain::Settlement::Retry, by: "ann".into() },
                of(Subject::Step(&StepId::new(0, "call4").unwrap(), 1)),
            ),
        ] {
            assert_eq!(span_of(&event(fact.clone())), span, "{fact:?}");
        }
    }

    #[test]
    fn a_log_tells_its_trace_with_its_first_event() {
        let session = event(Fact::SessionStarted { principal: Principal::default() });
        assert_eq!(trace_of(&session), Some(TraceId::of_run(&session.run)));
        assert_eq!(trace_of(&event(Fact::WriteBegun { step: step(), attempt: 2 })), None);
    }
}
