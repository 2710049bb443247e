//! The stored format of every event, held by a golden file: a change of it must be meant.
//!
//! `v0` carries no promise yet; bless the file with `UPDATE_EXPECT=1` when the format changes.

use std::collections::BTreeSet;

use cofferdam::domain::{
    Budget, Decision, Digest, Effect, Event, Fact, GENESIS, Kind, OnFailure, PlannedStep, Principal, RunEnd, RunId,
    SCHEMA_VERSION, Settlement, StepEnd, StepId, Suspension, Timestamp, ToolName, Usage,
};
use expect_test::expect_file;
use serde_json::Value;

fn digest(n: u8) -> Digest {
    Digest::from_bytes([n; 32])
}

fn step() -> StepId {
    StepId::new(1, "sum").expect("a name")
}

fn usage() -> Usage {
    Usage {
        wall_ms: 12,
        fuel: 3_456,
        memory_bytes_peak: 1 << 20,
        host_calls: 7,
        input_bytes: 20,
        output_bytes: 2,
        log_bytes_dropped: 0,
        requests: 0,
        egress_bytes: 0,
    }
}

/// One fact of every kind. A new kind without a line here does not compile: see [`name`].
fn facts() -> Vec<Fact> {
    let tool = ToolName::new("math", "eval").expect("a name");
    let principal = Principal::default();
    let planned = PlannedStep {
        id: step(),
        tool: tool.clone(),
        needs: vec![],
        effect: Effect::Pure,
        on_failure: OnFailure::Fail,
    };
    let end = StepEnd::Succeeded { output: digest(9) };
    let failed = StepEnd::Failed { kind: Kind::ToolFuel, failure: digest(8) };
    let settled = |settlement| Fact::StepSettled { step: step(), settlement, by: "ann".into() };
    let ended = |end| Fact::RunEnded { end, caveats: vec![step()] };
    let step_ended = |end, log| Fact::StepEnded {
        step: step(),
        attempt: 1,
        end,
        usage: usage(),
        log,
        denials: log,
        has_written: true,
    };
    vec![
        Fact::RunCreated {
            principal: principal.clone(),
            goal: digest(1),
            planner: "workflow".into(),
            policy: digest(2),
            toolset: digest(3),
            budget: Budget::default(),
            is_single_plan: true,
        },
        Fact::SessionStarted { principal: principal.clone() },
        Fact::RunClaimed { owner: "process 7".into(), policy: digest(2) },
        Fact::PlanRequested { turn: 1, pack: digest(4) },
        Fact::PlanFailed { turn: 1, kind: Kind::ModelRefusal, failure: digest(5) },
        Fact::PlanRejected { turn: 1, reply: digest(5), failures: digest(6) },
        Fact::PlanAccepted { turn: 1, reply: digest(5), plan: digest(6), steps: vec![planned], has_answer: true },
        Fact::Answered { turn: 1, reply: digest(5), answer: digest(6) },
        Fact::Asked { turn: 1, reply: digest(5), question: digest(6) },
        Fact::QuestionAnswered { turn: 1, text: digest(6), by: "ann".into() },
        Fact::StepReady { step: step(), args: digest(6), key: digest(7) },
        Fact::StepRejected { step: step(), kind: Kind::DataInput, failure: digest(8) },
        Fact::StepSkipped { step: step(), because: step() },
        Fact::ApprovalRequested { step: step(), binding: digest(7), effect: Effect::Once, rule: "write".into() },
        Fact::ApprovalDecided {
            step: step(),
            binding: digest(7),
            decision: Decision::Approve,
            by: "ann".into(),
            reason: Some(digest(8)),
        },
        Fact::StepStarted {
            step: step(),
            attempt: 1,
            component: digest(3),
            effect: Effect::Once,
            rules: vec!["write".into()],
        },
        Fact::WriteBegun { step: step(), attempt: 1 },
        step_ended(end.clone(), Some(digest(7))),
        step_ended(failed, None),
        Fact::StepInterrupted { step: step(), attempt: 1 },
        Fact::StepUnknown { step: step(), attempt: 1 },
        settled(Settlement::Done { output: digest(9) }),
        settled(Settlement::Retry),
        settled(Settlement::Failed { failure: digest(8) }),
        Fact::CancelRequested { by: "ann".into() },
        Fact::RunSuspended { why: Suspension::Approval },
        ended(RunEnd::Succeeded { answer: Some(digest(9)) }),
        ended(RunEnd::Failed { kind: Kind::ToolFuel, failure: digest(8) }),
        ended(RunEnd::Cancelled { by: "ann".into() }),
        ended(RunEnd::BudgetExhausted { failure: digest(8) }),
        Fact::CallStarted { call: 1, tool: tool.clone(), component: digest(3), args: digest(6), effect: Effect::Once },
        Fact::Called {
            call: 1,
            principal,
            tool,
            component: digest(3),
            args: digest(6),
            effect: Effect::Pure,
            end,
            usage: usage(),
            log: Some(digest(7)),
            denials: None,
            has_written: false,
        },
    ]
}

/// The kinds that [`facts`] must hold.
fn name(fact: &Fact) -> &'static str {
    match fact {
        Fact::RunCreated { .. } => "run_created",
        Fact::SessionStarted { .. } => "session_started",
        Fact::RunClaimed { .. } => "run_claimed",
        Fact::PlanRequested { .. } => "plan_requested",
        Fact::PlanFailed { .. } => "plan_failed",
        Fact::PlanRejected { .. } => "plan_rejected",
        Fact::PlanAccepted { .. } => "plan_accepted",
        Fact::Answered { .. } => "answered",
        Fact::Asked { .. } => "asked",
        Fact::QuestionAnswered { .. } => "question_answered",
        Fact::StepReady { .. } => "step_ready",
        Fact::StepRejected { .. } => "step_rejected",
        Fact::StepSkipped { .. } => "step_skipped",
        Fact::ApprovalRequested { .. } => "approval_requested",
        Fact::ApprovalDecided { .. } => "approval_decided",
        Fact::StepStarted { .. } => "step_started",
        Fact::WriteBegun { .. } => "write_begun",
        Fact::StepEnded { .. } => "step_ended",
        Fact::StepInterrupted { .. } => "step_interrupted",
        Fact::StepUnknown { .. } => "step_unknown",
        Fact::StepSettled { .. } => "step_settled",
        Fact::CancelRequested { .. } => "cancel_requested",
        Fact::RunSuspended { .. } => "run_suspended",
        Fact::RunEnded { .. } => "run_ended",
        Fact::CallStarted { .. } => "call_started",
        Fact::Called { .. } => "called",
    }
}

const KINDS: usize = 26;

#[test]
fn every_event_is_stored_as_the_golden_file_says_and_reads_back() {
    let run: RunId = "r-01arz3ndektsv4rrffq69g5fav".parse().expect("an id");
    let mut lines = String::new();
    let mut kinds = BTreeSet::new();
    for (seq, fact) in (1..).zip(facts()) {
        kinds.insert(name(&fact));
        let expected = name(&fact);
        let event = Event {
            v: SCHEMA_VERSION,
            run: run.clone(),
            seq,
            epoch: 1,
            at: Timestamp(1_700_000_000_000),
            prev: GENESIS,
            fact,
        };
        let json: Value = serde_json::to_value(&event).expect("an event is JSON");
        assert_eq!(json["fact"]["fact"], expected);
        assert_eq!(serde_json::from_value::<Event>(json.clone()).expect("it reads back"), event);
        lines.push_str(&json.to_string());
        lines.push('\n');
    }
    assert_eq!(kinds.len(), KINDS, "a kind of fact has no line");
    expect_file!["../cases/events-v0.jsonl"].assert_eq(&lines);
}

#[test]
fn a_fact_with_an_unknown_field_is_refused() {
    let mut json = serde_json::to_value(&facts()[2]).expect("a fact is JSON");
    json["surprise"] = 1.into();
    assert!(serde_json::from_value::<Fact>(json).is_err());
}
