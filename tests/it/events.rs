//! The stored format of every event, held by a golden file. The format is frozen: what stands in the file of a version never
//! changes, and `golden.rs` makes that of a new one.

use std::collections::BTreeSet;

use cofferdam::domain::{
    AskedModel, Budget, Caveat, CaveatKind, Cost, Decision, Digest, Effect, Event, Fact, GENESIS, Items, Kind,
    OnFailure, Parent, PlannedStep, Principal, RetryRule, Role, RunEnd, RunId, SCHEMA_VERSION, Settlement, SkipReason,
    StepEnd, StepId, Suspension, TakesBack, Timestamp, Tokens, ToolName, TraceId, UndoReason, Usage, Within,
};
use serde_json::Value;

fn digest(n: u8) -> Digest {
    Digest::from_bytes([n; 32])
}

fn run() -> RunId {
    "r-01arz3ndektsv4rrffq69g5fav".parse().expect("an id")
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

/// One fact of every kind. A new kind without a line here fails the count below.
fn facts() -> Vec<Fact> {
    let tool = ToolName::new("math", "eval").expect("a name");
    let principal = Principal::default();
    let touching = PlannedStep {
        after: vec![step()],
        on_failure: OnFailure::Fallback("other".into()),
        retry: RetryRule { attempts_max: 2, backoff_ms: 10, backoff_ms_max: 20 },
        touches: vec!["files:/reports".into()],
        items: Some(Items { items_max: 10, parallel_max: 2 }),
        has_undo: true,
        has_reconcile: true,
        ..PlannedStep::call(step(), tool.clone(), vec![step()], Effect::Reversible)
    };
    let planned = || PlannedStep::call(step(), tool.clone(), vec![], Effect::Pure);
    let role = |role| PlannedStep { role, ..planned() };
    let end = StepEnd::Succeeded { output: digest(9) };
    let failed = StepEnd::Failed { kind: Kind::ToolFuel, failure: digest(8) };
    let settled = |settlement| Fact::StepSettled { step: step(), settlement, by: "ann".into() };
    let skipped = |why| Fact::StepSkipped { step: step(), why };
    let decided = |decision| Fact::ApprovalDecided {
        step: step(),
        binding: digest(7),
        decision,
        by: "ann".into(),
        reason: Some(digest(8)),
    };
    let caveats = [
        CaveatKind::Failed,
        CaveatKind::Rejected,
        CaveatKind::Skipped,
        CaveatKind::Unfinished,
        CaveatKind::Unknown,
        CaveatKind::Degraded,
        CaveatKind::Truncated,
        CaveatKind::Undone,
        CaveatKind::UndoFailed,
        CaveatKind::NotUndone,
    ];
    let caveats: Vec<_> = caveats.into_iter().map(|what| Caveat { step: step(), what }).collect();
    let ended = |end| Fact::RunEnded { end, caveats: caveats.clone() };
    let cost = Cost { calls: 1, turns: 2, fuel: 3_456, bytes: 2, usd_micros: 5, tokens: 7, parallel: 0 };
    let step_ended = |end, log, retry| Fact::StepEnded {
        step: step(),
        attempt: 1,
        end,
        usage: usage(),
        cost,
        log,
        denials: log,
        has_written: true,
        has_open_write: log.is_some(),
        host_calls: log,
        retry,
        has_caveats: false,
        within: None,
    };
    let call_started = |key| Fact::CallStarted {
        call: 1,
        tool: tool.clone(),
        component: digest(3),
        args: digest(6),
        effect: Effect::Once,
        key,
    };
    let started = |run| Fact::StepStarted {
        step: step(),
        attempt: 1,
        component: digest(3),
        effect: Effect::Once,
        rules: vec!["write".into()],
        reserved: cost,
        run,
    };
    let created = |parent: Option<Parent>| Fact::RunCreated {
        principal: principal.clone(),
        goal: digest(1),
        planner: "workflow".into(),
        policy: digest(2),
        toolset: digest(3),
        budget: Budget { usd_micros_max: Some(1_000_000), ..Budget::default() },
        is_single_plan: true,
        has_assertions: false,
        trace: parent.as_ref().map(|parent| TraceId::of_run(&parent.run)),
        parent,
    };
    let takes_back = Some(TakesBack { run: run(), after: Some(run()) });
    let inner = Parent { run: run(), step: step(), depth: 2, calls_left: [(tool.clone(), 2)].into(), takes_back };
    let run_started = |parallel| Fact::StepStarted {
        step: step(),
        attempt: 1,
        component: digest(0),
        effect: Effect::Once,
        rules: vec![],
        reserved: Cost { parallel, ..cost },
        run: Some(run()),
    };
    let run_ended = |within| Fact::StepEnded {
        step: step(),
        attempt: 1,
        end: StepEnd::Succeeded { output: digest(9) },
        usage: usage(),
        cost,
        log: None,
        denials: None,
        has_written: false,
        has_open_write: false,
        host_calls: None,
        retry: None,
        has_caveats: true,
        within,
    };
    let within = Within { calls: [(tool.clone(), 3)].into(), has_done: true, has_undo: true };
    let waits =
        [Suspension::Approval, Suspension::Question, Suspension::Timer, Suspension::Reconcile, Suspension::Stuck];
    let mut facts = vec![
        created(None),
        created(Some(Parent { run: run(), step: step(), depth: 1, calls_left: Default::default(), takes_back: None })),
        Fact::SessionStarted { principal: principal.clone() },
        Fact::RunClaimed { owner: "process 7".into(), policy: digest(2) },
        Fact::ToolsChanged { toolset: digest(3), tools: vec![], by: None },
        Fact::ToolsChanged { toolset: digest(3), tools: vec![tool.clone()], by: Some("ann".into()) },
        Fact::PlanRequested { turn: 1, pack: digest(4), asked: None, reserved: Cost::default() },
        Fact::PlanRequested {
            turn: 1,
            pack: digest(4),
            asked: Some(AskedModel {
                model: "mini".into(),
                tier: "small".into(),
                effect_max: Effect::Read,
                route: digest(4),
                price: Some("cofferdam.toml".into()),
                reply_tokens_max: 800,
            }),
            reserved: cost,
        },
        Fact::PlanReplied {
            turn: 1,
            model: Some("mini-2026".into()),
            tokens: Some(Tokens { prompt: 6, cached: 3, cache_write_5m: 2, cache_write_1h: 1, reply: 5, reasoning: 4 }),
            cost,
            usd_picos: Some(4_999_999),
            reasoning: Some(digest(4)),
            first_token_ms: Some(80),
            wall_ms: 300,
        },
        Fact::PlanReplied {
            turn: 1,
            model: None,
            tokens: None,
            cost: Cost::default(),
            usd_picos: None,
            reasoning: None,
            first_token_ms: None,
            wall_ms: 0,
        },
        Fact::PlanFailed { turn: 1, kind: Kind::ModelRefusal, failure: digest(5), retry: None },
        Fact::PlanFailed {
            turn: 1,
            kind: Kind::NetworkRateLimited,
            failure: digest(5),
            retry: Some(Timestamp(1_700_000_000_500)),
        },
        Fact::PlanRejected { turn: 1, reply: digest(5), failures: digest(6), is_escalated: false },
        Fact::PlanRejected { turn: 1, reply: digest(5), failures: digest(6), is_escalated: true },
        Fact::PlanAccepted {
            turn: 1,
            reply: digest(5),
            plan: digest(6),
            steps: vec![planned(), touching, role(Role::Item { of: step() })],
            has_answer: true,
            has_assertions: true,
            checked_by: 2,
        },
        Fact::Answered { turn: 1, reply: digest(5), answer: digest(6) },
        Fact::Asked { turn: 1, reply: digest(5), question: digest(6) },
        Fact::QuestionAnswered { turn: 1, text: digest(6), by: "ann".into() },
        Fact::Verified { turn: 1, failure: None },
        Fact::Verified { turn: 1, failure: Some((Kind::DataCondition, digest(8))) },
        Fact::StepReady { step: step(), args: digest(6), key: digest(7), duplicate_of: None },
        Fact::StepReady { step: step(), args: digest(6), key: digest(7), duplicate_of: Some(step()) },
        Fact::StepExpanded { step: step(), items: 3, list: digest(6) },
        Fact::StepGathered { step: step(), end: end.clone() },
        Fact::StepRejected { step: step(), kind: Kind::DataInput, failure: digest(8) },
        skipped(SkipReason::Needs { step: step() }),
        skipped(SkipReason::Condition),
        skipped(SkipReason::NotNeeded),
        Fact::StepCached { step: step(), output: digest(9), from: run(), age_ms: 12 },
        Fact::ApprovalRequested {
            step: step(),
            binding: digest(7),
            effect: Effect::Once,
            rule: "write".into(),
            expires: Timestamp(1_700_000_100_000),
        },
        decided(Decision::Approve),
        decided(Decision::Reject),
        decided(Decision::Modify { args: digest(6), key: digest(7), binding: digest(8) }),
        Fact::ApprovalExpired { step: step(), binding: digest(7), failure: digest(8) },
        started(None),
        started(Some(run())),
        Fact::WriteBegun { step: step(), attempt: 1 },
        step_ended(end.clone(), Some(digest(7)), None),
        step_ended(failed, None, Some(Timestamp(1_700_000_000_500))),
        Fact::StepInterrupted { step: step(), attempt: 1 },
        Fact::StepUnknown { step: step(), attempt: 1 },
        settled(Settlement::Done { output: digest(9) }),
        settled(Settlement::Retry),
        settled(Settlement::Unknown),
        settled(Settlement::Failed { failure: digest(8) }),
        Fact::ReconcileBegun { of: step(), step: role(Role::Reconcile { of: step() }) },
        Fact::UndoBegun {
            why: UndoReason::StepFailed { step: step() },
            steps: vec![role(Role::Undo { of: step() })],
            left: Vec::new(),
        },
        Fact::UndoBegun {
            why: UndoReason::Outer,
            steps: vec![PlannedStep { undo_takes_output: true, ..planned() }],
            left: vec![step()],
        },
        created(Some(inner)),
        run_started(4),
        run_ended(Some(within)),
        Fact::Notified { why: Suspension::Stuck, steps: vec![step()] },
        Fact::UndoBegun { why: UndoReason::Cancelled { by: "ann".into() }, steps: vec![], left: Vec::new() },
        Fact::UndoBegun { why: UndoReason::Budget { what: "calls_max".into() }, steps: vec![], left: Vec::new() },
        Fact::CancelRequested { by: "ann".into(), undo: true },
        Fact::Notified { why: Suspension::Approval, steps: vec![] },
        ended(RunEnd::Succeeded { answer: Some(digest(9)) }),
        ended(RunEnd::Failed { kind: Kind::ToolFuel, failure: digest(8) }),
        ended(RunEnd::Cancelled { by: "ann".into() }),
        ended(RunEnd::BudgetExhausted { failure: digest(8) }),
        call_started(None),
        call_started(Some(digest(7))),
        Fact::CallSettled { call: 1, settlement: Settlement::Done { output: digest(9) }, by: "ann".into() },
        Fact::Called {
            call: 1,
            principal: principal.clone(),
            tool: tool.clone(),
            component: digest(3),
            args: digest(6),
            effect: Effect::Pure,
            end,
            usage: usage(),
            log: Some(digest(7)),
            denials: None,
            has_written: false,
            has_open_write: false,
            trace: None,
        },
    ];
    facts.extend(waits.map(|why| Fact::RunSuspended { why }));
    facts
}

/// The names of all kinds of facts, as the reader of events knows them: it lists them to whoever brings another one.
fn kinds() -> BTreeSet<String> {
    let refused = serde_json::from_value::<Fact>(serde_json::json!({"fact": "?"})).expect_err("there is no such fact");
    let text = refused.to_string();
    let (_, names) = text.split_once("expected one of ").expect("it lists what there is");
    names.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// One line for each fact, as it is stored.
pub fn lines() -> String {
    let mut lines = String::new();
    for (seq, fact) in (1..).zip(facts()) {
        let expected = fact.name();
        let event = Event {
            v: SCHEMA_VERSION,
            run: run(),
            seq,
            epoch: 1,
            at: Timestamp(1_700_000_000_000),
            prev: GENESIS,
            fact,
            stored: None,
        };
        let json: Value = serde_json::to_value(&event).expect("an event is JSON");
        assert_eq!(json["fact"]["fact"], expected);
        assert_eq!(serde_json::from_value::<Event>(json.clone()).expect("it reads back"), event);
        lines.push_str(&json.to_string());
        lines.push('\n');
    }
    lines
}

#[test]
fn every_kind_of_fact_has_a_line() {
    let shown: BTreeSet<String> = facts().iter().map(|fact| fact.name().to_owned()).collect();
    assert_eq!(shown, kinds());
    assert!(shown.len() >= 34);
}

#[test]
fn every_event_is_stored_as_the_golden_file_says_and_reads_back() {
    let path = format!("{}/../tests/golden/v{SCHEMA_VERSION}/events.jsonl", env!("CARGO_MANIFEST_DIR"));
    assert_eq!(std::fs::read_to_string(path).expect("the golden file is there"), lines());
}

#[test]
fn a_fact_with_an_unknown_field_is_refused() {
    let mut json = serde_json::to_value(&facts()[3]).expect("a fact is JSON");
    json["surprise"] = 1.into();
    assert!(serde_json::from_value::<Fact>(json).is_err());
}
