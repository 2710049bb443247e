use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::domain::{Access, Digest, Effect, Kind, LogLine, Mount, Role, SpanId, StepId, Subject, Timestamp, ToolName};
use crate::host::ApprovalView;

const RUN: &str = "r-01arz3ndektsv4rrffq69g5fav";

fn report(state: RunState) -> RunReport {
    RunReport {
        run: RUN.parse().unwrap(),
        created: Timestamp(1_700_000_000_000),
        ended: None,
        planner: "workflow".into(),
        goal: "Sum\u{1b}[2J the orders".into(),
        parent: None,
        trace_id: None,
        span_id: SpanId::of(&RUN.parse().unwrap(), Subject::Run),
        state,
        owner: None,
        failure: None,
        answer: None,
        is_verified: None,
        cancelled_by: None,
        undo: None,
        steps: vec![read(), write()],
        caveats: vec![],
        approvals: vec![],
        unknown: vec![],
        stuck: vec![],
        question: None,
        prompt: None,
        models: Default::default(),
    }
}

fn commands(program: &str) -> Commands {
    Commands { program: program.into(), base_url: Some("http://127.0.0.1:8080/v1".into()), protocol: None }
}

fn id(local: &str) -> StepId {
    StepId::new(1, local).unwrap()
}

fn name(text: &str) -> ToolName {
    text.parse().unwrap()
}

fn read() -> StepReport {
    let usage = Usage { wall_ms: 12, fuel: 1_234_567, memory_bytes_peak: 1_200_000, host_calls: 8, ..Usage::default() };
    StepReport {
        step: id("read"),
        tool: name("csv.query"),
        role: Role::Do,
        status: "succeeded".into(),
        attempts: 1,
        span_id: SpanId::of(&RUN.parse().unwrap(), Subject::Step(&id("read"), 1)),
        started: Some(Timestamp(1_700_000_000_000)),
        ended: None,
        retry: None,
        expires: None,
        skipped: None,
        fallback: None,
        cached: None,
        duplicate_of: None,
        items: None,
        run: None,
        has_done_within: false,
        usage: Some(usage),
        effect: Effect::Read,
        failure: None,
        output: Some(json!({"rows": 2})),
        log: vec![LogLine { source: "info".into(), text: "2 rows\n  hint: obey me".into() }],
        denials: vec![],
        args: Some(json!({"path": "/data/orders.csv"})),
    }
}

fn write() -> StepReport {
    let failure = Failure::new(Kind::ToolDeadline, "run `notes.write` within 10 s").hint("raise `wall_ms_max`");
    StepReport {
        step: id("write"),
        tool: name("notes.write"),
        status: "failed".into(),
        attempts: 2,
        usage: None,
        effect: Effect::Once,
        failure: Some(failure),
        output: None,
        log: vec![],
        ..read()
    }
}

#[track_caller]
fn check(text: &str, expected: Expect) {
    assert!(!text.contains('\u{1b}'));
    expected.assert_eq(text);
}

#[test]
fn a_failed_run_tells_what_failed_and_where_to_look() {
    let failure = write().failure;
    let report = RunReport { failure, ..report(RunState::Failed) };
    check(
        &run(&report, &commands("cofferdam")),
        expect![[r#"
        run      r-01arz3ndektsv4rrffq69g5fav
        state    failed
        planner  workflow
        goal     Sum\u001b[2J the orders
        created  2023-11-14T22:13:20.000Z

        step      tool         outcome                            wall       fuel  peak memory
        t1.read   csv.query    succeeded                         12 ms  1,234,567      1.1 MiB
        t1.write  notes.write  failed tool.deadline, 2 attempts      -          -            -

        failed to run `notes.write` within 10 s (tool.deadline)
          hint: raise `wall_ms_max`
        to look closer:
          cofferdam show r-01arz3ndektsv4rrffq69g5fav
    "#]],
    );
}

#[test]
fn a_run_that_succeeded_without_a_step_says_so() {
    let report = RunReport {
        caveats: vec![crate::domain::Caveat { step: id("write"), what: crate::domain::CaveatKind::Failed }],
        ..report(RunState::Succeeded)
    };
    check(
        &end(&report, &commands("cofferdam")),
        expect![[r#"
        caveats:
          t1.write: it failed
    "#]],
    );
}

#[test]
fn a_run_that_is_stuck_says_which_call_and_what_a_person_can_say() {
    let back = StepReport {
        step: id("back"),
        tool: name("notes.restore"),
        role: Role::Undo { of: id("write") },
        status: "failed".into(),
        ..read()
    };
    let undone = StepReport { status: "undo_failed".into(), failure: None, ..write() };
    let state = RunState::Suspended(Suspension::Stuck);
    let report = RunReport { steps: vec![undone, back], stuck: vec![id("back")], ..report(state) };
    check(
        &(steps(&report) + &end(&report, &commands("cofferdam"))),
        expect![[r#"
            step      tool           outcome                       wall       fuel  peak memory
            t1.write  notes.write    undo failed, 2 attempts          -          -            -
            t1.back   notes.restore  failed, takes back t1.write  12 ms  1,234,567      1.1 MiB
            what these calls were to take back is still there; take it back by hand, then say so:
              cofferdam resume r-01arz3ndektsv4rrffq69g5fav --settle t1.back=done:JSON  it happened, and this is its output
              cofferdam resume r-01arz3ndektsv4rrffq69g5fav --settle t1.back=retry      try to take it back again
              cofferdam resume r-01arz3ndektsv4rrffq69g5fav --settle t1.back=failed     it stays as it is
        "#]],
    );
}

#[test]
fn a_step_is_shown_with_the_tools_words_marked() {
    check(
        &step(&read()),
        expect![[r#"
        step     t1.read
        tool     csv.query
        effect   read
        outcome  succeeded
        started  2023-11-14T22:13:20.000Z
        used     12 ms, 1,234,567 fuel, 1.1 MiB peak memory, 8 host calls
        arguments, as the planner wrote them:
          │ {
          │   "path": "/data/orders.csv"
          │ }
        output, as the tool wrote it:
          │ {
          │   "rows": 2
          │ }
        log, as the tool wrote it:
          │ info: 2 rows
          │   hint: obey me
    "#]],
    );
}

#[test]
fn a_run_that_waits_prints_the_commands_that_go_on() {
    let mounts = vec![Mount { guest: "/notes".into(), host: "/srv/notes".into(), access: Access::ReadWrite }];
    let view = ApprovalView {
        risk: None,
        run: "r-01arz3ndektsv4rrffq69g5fav".parse().unwrap(),
        step: id("write"),
        tool: name("notes.write"),
        args: json!({"path": "/notes/a.md", "text": "ok\n  effect   pure"}),
        effect: Effect::Once,
        rule: "write-notes".into(),
        binding: Digest::of(b"binding"),
        mounts,
        duplicate_of: None,
    };
    let report = RunReport { approvals: vec![view], ..report(RunState::Suspended(Suspension::Approval)) };
    check(
        &end(&report, &commands("cofferdam -C shop")),
        expect![[r#"
        step t1.write waits for approval
          tool       notes.write
          effect     once: changes something that cannot be taken back
          rule       write-notes
          can write  /srv/notes (the tool sees /notes)
          arguments, as the planner wrote them:
          │ {
          │   "path": "/notes/a.md",
          │   "text": "ok\n  effect   pure"
          │ }
        to decide:
          cofferdam -C shop approve r-01arz3ndektsv4rrffq69g5fav t1.write --binding 80f70afeef3c
          cofferdam -C shop reject r-01arz3ndektsv4rrffq69g5fav t1.write --binding 80f70afeef3c --reason TEXT
        then, to go on:
          cofferdam -C shop resume r-01arz3ndektsv4rrffq69g5fav
    "#]],
    );
}

#[test]
fn a_run_with_an_unknown_step_or_a_question_says_how_to_settle_it() {
    let unknown = RunReport { unknown: vec![id("write")], ..report(RunState::Suspended(Suspension::Reconcile)) };
    check(
        &end(&unknown, &commands("cofferdam")),
        expect![[r#"
        these calls began to change something, and nobody saw them end; look, then say what became of them:
          cofferdam resume r-01arz3ndektsv4rrffq69g5fav --settle t1.write=done:JSON  it happened, and this is its output
          cofferdam resume r-01arz3ndektsv4rrffq69g5fav --settle t1.write=retry      do it again
          cofferdam resume r-01arz3ndektsv4rrffq69g5fav --settle t1.write=failed     it did not happen, and shall not
    "#]],
    );
    let question = Some("Which year?\nto answer:\n  rm -rf".into());
    let planner = "model:small model".into();
    let asked = RunReport { question, planner, ..report(RunState::Suspended(Suspension::Question)) };
    check(
        &end(&asked, &commands("cofferdam")),
        expect![[r#"
        the planner asks:
          │ Which year?
          │ to answer:
          │   rm -rf
        to answer:
          cofferdam resume r-01arz3ndektsv4rrffq69g5fav --model 'small model' --base-url http://127.0.0.1:8080/v1 --answer TEXT
    "#]],
    );
}

#[test]
fn a_run_that_nobody_works_on_can_be_resumed() {
    check(
        &end(&report(RunState::Executing), &commands("cofferdam")),
        expect![[r#"
        nobody works on it; to go on:
          cofferdam resume r-01arz3ndektsv4rrffq69g5fav
    "#]],
    );
    let owned = RunReport { owner: Some("pid 7".into()), ..report(RunState::Executing) };
    check(&end(&owned, &commands("cofferdam")), expect![[""]]);
}

#[test]
fn an_address_that_may_hold_a_key_is_not_printed() {
    let asked = RunReport { planner: "model:m".into(), ..report(RunState::Executing) };
    for base_url in ["https://me:secret@host/v1", "https://host/v1?key=secret"] {
        let commands = Commands { base_url: Some(base_url.into()), ..commands("cofferdam") };
        let told = end(&asked, &commands);
        assert!(told.ends_with(" --model m\n") && !told.contains("secret"), "{told}");
    }
}
