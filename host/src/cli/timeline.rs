//! What a run did and where it stands, as text for people.

use crate::domain::{Denial, Failure, Json, LogLine, Role, Suspension, Usage};
use crate::host::{RunReport, RunState, StepReport};

use super::commands::Commands;
use super::next;
use super::story;
use super::text;

/// Characters of a goal in a line.
const GOAL_CHARS_MAX: usize = 100;

/// Returns the table of steps: what ran, how it ended, and what it used.
pub(super) fn steps(report: &RunReport) -> String {
    let rows = report.steps.iter().map(step_row).collect();
    text::table(&["step", "tool", "outcome", "wall", "fuel", "peak memory"], rows, &[3, 4, 5])
}

fn step_row(step: &StepReport) -> Vec<String> {
    let used = |show: &dyn Fn(&Usage) -> String| step.usage.as_ref().map_or_else(|| "-".into(), show);
    vec![
        step.step.to_string(),
        step.tool.to_string(),
        outcome(step),
        used(&|usage| format!("{} ms", text::count(usage.wall_ms))),
        used(&|usage| text::count(usage.fuel)),
        used(&|usage| text::bytes(usage.memory_bytes_peak)),
    ]
}

fn outcome(step: &StepReport) -> String {
    let kind = step.failure.as_ref().map_or(String::new(), |failure| format!(" {}", failure.kind));
    let mut words = match &step.skipped {
        Some(why) => story::skipped(why),
        None => format!("{}{kind}", step.status.replace('_', " ")),
    };
    if step.attempts > 1 {
        words.push_str(&format!(", {} attempts", step.attempts));
    }
    if let Some(items) = step.items {
        words.push_str(&format!(", {items} items"));
    }
    if let Some(retry) = step.retry {
        words.push_str(&format!(", again at {retry}"));
    }
    if step.cached.is_some() {
        words.push_str(", from an earlier run");
    }
    if let Role::Undo { of } = &step.role {
        words.push_str(&format!(", takes back {of}"));
    }
    words
}

/// Returns the name of where a run stands.
pub(super) fn state(state: &RunState) -> &'static str {
    match state {
        RunState::Planning => "planning",
        RunState::Executing => "executing",
        RunState::Undoing => "taking back what it did",
        RunState::Suspended(Suspension::Approval) => "waits for approval",
        RunState::Suspended(Suspension::Question) => "waits for an answer",
        RunState::Suspended(Suspension::Timer) => "waits for its next attempt",
        RunState::Suspended(Suspension::Reconcile) => "waits to be settled",
        RunState::Suspended(Suspension::Stuck) => "stuck",
        RunState::Succeeded => "succeeded",
        RunState::Failed => "failed",
        RunState::Cancelled => "cancelled",
        RunState::BudgetExhausted => "budget exhausted",
        RunState::Session => "session",
        RunState::Unreadable => "unreadable",
    }
}

/// Returns all of a run: what it is, its steps, and its end.
pub(super) fn run(report: &RunReport, commands: &Commands) -> String {
    let ended = report.ended.map_or(String::new(), |ended| format!(", ended {ended}"));
    let owner = report
        .owner
        .as_ref()
        .map_or(String::new(), |owner| format!("owner    {}\n", text::line(owner, GOAL_CHARS_MAX)));
    let answer = report
        .answer
        .as_ref()
        .map_or(String::new(), |answer| format!("answer, as the run made it:\n{}", value(answer)));
    let part = report
        .parent
        .as_ref()
        .map_or(String::new(), |parent| format!("part of  step {} of run {}\n", parent.step, parent.run));
    format!(
        "run      {}\nstate    {}\nplanner  {}\ngoal     {}\ncreated  {}{ended}\n{owner}{part}\n{}\n{answer}{}",
        report.run,
        state(&report.state),
        text::line(&report.planner, GOAL_CHARS_MAX),
        text::line(&report.goal, GOAL_CHARS_MAX),
        report.created,
        steps(report),
        end(report, commands),
    )
}

/// Returns how a run ended or what it waits for, with the commands that go on from there.
pub(super) fn end(report: &RunReport, commands: &Commands) -> String {
    let mut words = caveats(report);
    if let Some(failure) = &report.failure {
        words.push_str(&failed(failure));
    }
    words.push_str(&next::next(report, commands));
    words
}

/// What the end alone does not tell, whatever the end is.
fn caveats(report: &RunReport) -> String {
    let lines: String = report.caveats.iter().map(|caveat| format!("  {}\n", story::caveat(caveat))).collect();
    if lines.is_empty() { lines } else { format!("caveats:\n{lines}") }
}

fn failed(failure: &Failure) -> String {
    let hint = failure.hint.as_ref().map_or(String::new(), |hint| format!("  hint: {}\n", text::hanging(hint)));
    format!("failed to {} ({})\n{hint}", text::hanging(&failure.message), failure.kind)
}

/// Returns all of a step: its arguments, what it brought, what it said, what it was refused.
pub(super) fn step(step: &StepReport) -> String {
    let mut words = format!(
        "step     {}\ntool     {}\neffect   {}\noutcome  {}\n",
        step.step,
        step.tool,
        step.effect,
        outcome(step)
    );
    words.push_str(&facts(step));
    if let Some(usage) = &step.usage {
        words.push_str(&format!("used     {}\n", usage_line(usage)));
    }
    if let Some(args) = &step.args {
        words.push_str(&format!("arguments, as the planner wrote them:\n{}", value(args)));
    }
    if let Some(output) = &step.output {
        words.push_str(&format!("output, as the tool wrote it:\n{}", value(output)));
    }
    if let Some(failure) = &step.failure {
        words.push_str(&failed(failure));
    }
    words.push_str(&log(&step.log));
    words.push_str(&denials(&step.denials));
    words
}

/// Returns the host's own words about a step: when, where, and which others have part in it.
fn facts(step: &StepReport) -> String {
    let mut words = String::new();
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            words.push_str(&format!("{name:<9}{value}\n"));
        }
    };
    let role = match &step.role {
        Role::Do => None,
        Role::Item { of } => Some(format!("an item of {of}")),
        Role::Undo { of } => Some(format!("takes back {of}")),
        Role::Reconcile { of } => Some(format!("looks what became of {of}")),
    };
    fact("part", role);
    fact("started", step.started.map(|started| started.to_string()));
    fact("ended", step.ended.map(|ended| ended.to_string()));
    fact("again", step.retry.map(|retry| format!("at {retry}")));
    fact("decide", step.expires.map(|expires| format!("before {expires}")));
    let from = |cached: &crate::host::Cached| format!("run {}, {} before", cached.from, story::span(cached.age_ms));
    fact("from", step.cached.as_ref().map(from));
    fact("run", step.run.as_ref().map(ToString::to_string));
    fact("else", step.fallback.as_ref().map(|other| text::line(other, GOAL_CHARS_MAX)));
    words
}

/// Returns what a call used, in one line.
pub(super) fn usage_line(usage: &Usage) -> String {
    let (wall, fuel) = (text::count(usage.wall_ms), text::count(usage.fuel));
    let memory = text::bytes(usage.memory_bytes_peak);
    format!("{wall} ms, {fuel} fuel, {memory} peak memory, {} host calls", text::count(usage.host_calls))
}

/// Returns what the tool logged and printed, marked as its words.
pub(super) fn log(lines: &[LogLine]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let lines: String = lines.iter().map(|line| text::quoted(&format!("{}: {}", line.source, line.text))).collect();
    format!("log, as the tool wrote it:\n{lines}")
}

/// Returns what the tool tried and was refused, and what its result is to be read with care for.
pub(super) fn denials(denials: &[Denial]) -> String {
    let (flags, refused): (Vec<_>, Vec<_>) = denials.iter().partition(|denial| denial.code.starts_with("flag."));
    listed("refused to the tool, as it named them", &refused) + &listed("to be read with care", &flags)
}

fn listed(what: &str, denials: &[&Denial]) -> String {
    if denials.is_empty() {
        return String::new();
    }
    let lines: String =
        denials.iter().map(|denial| text::quoted(&format!("{}: {}", denial.code, denial.what))).collect();
    format!("{what}:\n{lines}")
}

fn value(value: &Json) -> String {
    text::quoted(&text::pretty(value))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;
    use crate::domain::{Access, Digest, Effect, Kind, Mount, StepId, Timestamp, ToolName};
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
        }
    }

    fn commands(program: &str) -> Commands {
        Commands { program: program.into(), base_url: Some("http://127.0.0.1:8080/v1".into()) }
    }

    fn id(local: &str) -> StepId {
        StepId::new(1, local).unwrap()
    }

    fn name(text: &str) -> ToolName {
        text.parse().unwrap()
    }

    fn read() -> StepReport {
        let usage =
            Usage { wall_ms: 12, fuel: 1_234_567, memory_bytes_peak: 1_200_000, host_calls: 8, ..Usage::default() };
        StepReport {
            step: id("read"),
            tool: name("csv.query"),
            role: Role::Do,
            status: "succeeded".into(),
            attempts: 1,
            started: Some(Timestamp(1_700_000_000_000)),
            ended: None,
            retry: None,
            expires: None,
            skipped: None,
            fallback: None,
            cached: None,
            items: None,
            run: None,
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
            run: "r-01arz3ndektsv4rrffq69g5fav".parse().unwrap(),
            step: id("write"),
            tool: name("notes.write"),
            args: json!({"path": "/notes/a.md", "text": "ok\n  effect   pure"}),
            effect: Effect::Once,
            rule: "write-notes".into(),
            binding: Digest::of(b"binding"),
            mounts,
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
}
