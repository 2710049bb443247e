//! The sandbox with real components: what goes in and out, what a grant gives, what a call leaves behind.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use cofferdam::clock::SystemClock;
use cofferdam::domain::{Json, Kind, Outcome};
use cofferdam::sandbox::{NoLink, Options, Runner, WasmRunner};
use serde_json::json;

use crate::guest::{CANARY, Folders, Recorder, Rule, call, kind, new_runner, options, pause, run, runner, tool};

#[track_caller]
fn good(outcome: &Outcome) -> &Json {
    outcome.result.as_ref().unwrap_or_else(|failure| panic!("{failure:?}"))
}

#[track_caller]
fn bad(outcome: &Outcome, kind: Kind) -> &str {
    let failure = outcome.result.as_ref().expect_err("the call fails");
    assert_eq!(failure.kind, kind, "{failure:?}");
    &failure.message
}

#[tokio::test]
async fn records_go_in_and_come_out() {
    let outcome = run("text.stats", json!({"text": "One. Two three.\n"}), &Rule::default()).await;
    assert_eq!(*good(&outcome), json!({"words": 3, "lines": 1, "sentences": 2, "characters": 16, "bytes": 16}));
    let outcome = run("text.keywords", json!({"text": "crab crab sea", "limit": 5}), &Rule::default()).await;
    assert_eq!(*good(&outcome), json!([{"word": "crab", "count": 2}, {"word": "sea", "count": 1}]));
    let outcome = run("math.sum", json!({"numbers": ["0.1", "0.2"]}), &Rule::default()).await;
    assert_eq!(*good(&outcome), json!("0.3"));
    let variables = json!([{"name": "t", "value": {"text": "a_b"}}]);
    let args = json!({"template": "# {{ t }}", "variables": variables, "format": "markdown"});
    assert_eq!(*good(&run("template.render", args, &Rule::default()).await), json!("# a\\_b"));
}

#[tokio::test]
async fn what_a_tool_declares_as_error_is_its_own_word() {
    let outcome = run("math.eval", json!({"expression": "1 / 0"}), &Rule::default()).await;
    assert!(bad(&outcome, Kind::ToolDeclared).contains("divide by zero"));
    let failure = outcome.result.expect_err("it fails");
    assert_eq!(failure.declared.as_deref(), Some("math.division_by_zero"));
}

#[tokio::test]
async fn a_call_says_what_it_used() {
    let usage = run("text.stats", json!({"text": "a b"}), &Rule::default()).await.usage;
    assert!(usage.fuel > 100 && usage.memory_bytes_peak > 0, "{usage:?}");
    assert_eq!((usage.input_bytes, usage.output_bytes), (14, 60), "{usage:?}");
    assert!(usage.wall_ms < 10_000, "{usage:?}");
}

#[tokio::test]
async fn the_same_pure_call_uses_the_same_and_gives_the_same() {
    let args = json!({"text": "the tide comes and the tide goes, and the crab stays ".repeat(2_000), "limit": 9});
    let first = run("text.keywords", args.clone(), &Rule::default()).await;
    let second = run("text.keywords", args, &Rule::default()).await;
    assert_eq!(good(&first), good(&second));
    assert_eq!(first.usage.fuel, second.usage.fuel);
    assert_eq!(first.usage.host_calls, second.usage.host_calls);
    assert_eq!(first.usage.memory_bytes_peak, second.usage.memory_bytes_peak);
}

#[tokio::test]
async fn a_file_is_read_under_a_grant_and_not_without() {
    let folders = Folders::new();
    let rule = Rule::default().reads("/notes", &folders.data());
    let outcome = run("notes.read", json!({"path": "/notes/note.md"}), &rule).await;
    assert_eq!(*good(&outcome), json!("hello"));
    assert!(outcome.denials.is_empty() && !outcome.has_written, "{outcome:?}");
    let outcome = run("notes.read", json!({"path": "/notes/note.md"}), &Rule::default()).await;
    bad(&outcome, Kind::ToolDeclared);
}

#[tokio::test]
async fn leaving_the_mount_is_refused_and_stands_in_the_receipt() {
    let folders = Folders::new();
    let rule = Rule::default().reads("/notes", &folders.data());
    let outcome = run("notes.read", json!({"path": "/notes/../canary"}), &rule).await;
    assert!(!bad(&outcome, Kind::ToolDeclared).contains(CANARY));
    let denials: Vec<_> = outcome.denials.iter().map(|denial| format!("{} {}", denial.code, denial.what)).collect();
    assert_eq!(denials, ["denied.fs open ../canary"]);
}

#[tokio::test]
async fn a_read_only_mount_refuses_writes() {
    let folders = Folders::new();
    let rule = Rule::default().reads("/notes", &folders.data());
    for path in ["/notes/note.md", "/notes/new.md"] {
        let outcome = run("notes.write", json!({"path": path, "text": "x"}), &rule).await;
        bad(&outcome, Kind::ToolDeclared);
        assert_eq!(outcome.denials.len(), 1, "{:?}", outcome.denials);
        assert!(!outcome.has_written);
    }
    assert_eq!(folders.text("data/note.md").as_deref(), Some("hello"));
    assert_eq!(folders.text("data/new.md"), None);
}

#[tokio::test]
async fn a_commit_is_announced_before_the_file_changes() {
    let folders = Folders::new();
    let rule = Rule::default().writes("/notes", &folders.data());
    let args = json!({"path": "/notes/note.md", "text": "changed"});
    let refusing = Arc::new(Recorder { refuses: true, ..Recorder::default() });
    let outcome = runner().run(call(&tool("notes.write"), &args, &rule), refusing.clone()).await;
    bad(&outcome, Kind::HostStorage);
    assert!(!outcome.has_written);
    assert_eq!(refusing.seen(), ["begin 1 files.write, a write"]);
    assert_eq!(folders.text("data/note.md").as_deref(), Some("hello"));

    let link = Arc::new(Recorder::default());
    let outcome = runner().run(call(&tool("notes.write"), &args, &rule), link.clone()).await;
    assert_eq!(*good(&outcome), json!({"bytes": 7, "replaced": "hello"}));
    assert!(outcome.has_written);
    assert_eq!(link.seen(), ["begin 1 files.write, a write", "done 1 1"]);
    assert_eq!(folders.text("data/note.md").as_deref(), Some("changed"));
}

#[tokio::test]
async fn log_and_progress_arrive_where_they_are_granted() {
    let (link, args) = (Arc::new(Recorder::default()), json!({"text": "half\u{1b}[2J"}));
    let rule = Rule::default().gives("log").gives("progress");
    let outcome = runner().run(call(&tool("probe.say"), &args, &rule), link.clone()).await;
    good(&outcome);
    let lines: Vec<_> = outcome.log.iter().map(|line| format!("{} {}", line.source, line.text)).collect();
    assert_eq!(lines, ["info half\\u{1b}[2J"]);
    assert_eq!(link.seen(), ["progress Some(0.5) half\\u{1b}[2J"]);
}

#[tokio::test]
async fn a_call_never_starts_without_what_it_asks_for() {
    for (given, missing) in [("log", "progress"), ("progress", "log")] {
        let outcome = run("probe.say", json!({"text": "x"}), &Rule::default().gives(given)).await;
        let message = bad(&outcome, Kind::PolicyDenied);
        assert!(message.contains(&format!("cofferdam:tool/{missing}")), "{message}");
        assert_eq!(outcome.usage.fuel, 0, "it never started");
    }
}

#[tokio::test]
async fn what_a_function_does_not_ask_for_is_refused_when_it_is_used() {
    let outcome = run("probe.blurt", json!({"text": "x"}), &Rule::default().gives("log").gives("progress")).await;
    assert!(bad(&outcome, Kind::PolicyDenied).contains("`log`"));
    assert!(outcome.log.is_empty());
}

#[tokio::test]
async fn printed_text_is_the_calls_log() {
    let outcome = run("probe.print", json!({"text": "one\ntwo"}), &Rule::default()).await;
    good(&outcome);
    let lines: Vec<_> = outcome.log.iter().map(|line| format!("{} {}", line.source, line.text)).collect();
    assert_eq!(lines, ["stdout one", "stdout two", "stderr one", "stderr two"]);
}

#[tokio::test]
async fn a_guest_knows_nothing_of_the_machine() {
    let outcome = run("probe.surroundings", json!({}), &Rule::default()).await;
    assert_eq!(*good(&outcome), json!(["/"]));
}

#[tokio::test]
async fn without_grants_time_stands_and_randomness_follows_the_arguments() {
    assert_eq!(*good(&run("probe.now", json!({}), &Rule::default()).await), json!(0));
    let random =
        |salt| async move { good(&run("probe.random", json!({"salt": salt}), &Rule::default()).await).clone() };
    let numbers = [random(1).await, random(1).await, random(2).await];
    assert_eq!(numbers[0], numbers[1]);
    assert_ne!(numbers[0], numbers[2]);
}

#[tokio::test]
async fn granted_time_and_randomness_are_live() {
    let rule = Rule::default().gives("clock").gives("random");
    let now = good(&run("probe.now", json!({}), &rule).await).as_u64().expect("it is a number");
    assert!(now > 1_700_000_000_000, "{now}");
    let first = good(&run("probe.random", json!({"salt": 1}), &rule).await).clone();
    assert_ne!(first, *good(&run("probe.random", json!({"salt": 1}), &rule).await));
}

#[tokio::test]
async fn a_guest_with_something_live_learns_its_call_and_the_time_left() {
    let folders = Folders::new();
    let rule = Rule::default().reads("/data", &folders.data());
    let link = Arc::new(Recorder::default());
    let outcome = runner().run(call(&tool("probe.context"), &json!({}), &rule), link.clone()).await;
    let context: Vec<String> = serde_json::from_value(good(&outcome).clone()).expect("it is a list of text");
    assert_eq!(context[..3], ["r-01arz3ndektsv4rrffq69g5fav", "t1.s1", "1"]);
    assert!(context[3].starts_with("sha256:"), "{context:?}");
    let left: u64 = context[4].parse().expect("it is a number");
    assert!((1..=10_000).contains(&left), "{left}");
    assert_eq!(link.seen(), ["begin 1 context.remaining-ms".to_owned(), format!("done 1 {left}")]);
}

#[tokio::test]
async fn a_pure_call_learns_neither_whose_it_is_nor_how_time_passes() {
    let link = Arc::new(Recorder::default());
    let outcome = runner().run(call(&tool("probe.context"), &json!({}), &Rule::default()), link.clone()).await;
    assert_eq!(*good(&outcome), json!(["", "", "1", "", "10000"]));
    assert_eq!(link.seen(), Vec::<String>::new());
}

#[tokio::test]
async fn a_recorded_host_call_is_answered_not_made() {
    let folders = Folders::new();
    let rule = Rule::default().reads("/data", &folders.data());
    let link = Arc::new(Recorder { answer: Some(json!(1234)), ..Recorder::default() });
    let outcome = runner().run(call(&tool("probe.context"), &json!({}), &rule), link.clone()).await;
    assert_eq!(good(&outcome)[4], json!("1234"));
    assert_eq!(link.seen(), ["begin 1 context.remaining-ms"]);
}

#[tokio::test]
async fn arguments_and_results_have_a_size() {
    let outcome = run("text.stats", json!({"text": "x".repeat(300_000)}), &Rule::default()).await;
    bad(&outcome, Kind::DataInputSize);
    let variables = json!([{"name": "t", "value": {"text": "x".repeat(1_000)}}]);
    let args = json!({"template": "{{ t }}{{ t }}", "variables": variables, "format": "text"});
    let outcome = run("template.render", args.clone(), &Rule::default().limit("output_bytes_max", 1_999)).await;
    bad(&outcome, Kind::ToolOutput);
    good(&run("template.render", args, &Rule::default().limit("output_bytes_max", 2_002)).await);
}

/// Many small values: their JSON is small, what wasmtime takes to hold them is not.
#[tokio::test]
async fn a_page_of_small_cells_is_not_too_large() {
    let folders = Folders::new();
    let rows: String = (0..10_000).map(|n| format!("{},{},{},{}\n", n % 10, n % 7, n % 3, n % 2)).collect();
    std::fs::write(folders.data().join("small.csv"), format!("a,b,c,d\n{rows}")).expect("a file is written");
    let rule = Rule::default().reads("/data", &folders.data()).gives("progress");
    let outcome = run("csv.query", json!({"path": "/data/small.csv", "limit": 10_000}), &rule).await;
    assert_eq!(good(&outcome)["matched"], json!(10_000));
    assert_eq!(good(&outcome)["rows"].as_array().map(Vec::len), Some(10_000));
}

#[tokio::test]
async fn a_million_rows_are_read_in_little_memory() {
    let rows = 1_000_000;
    let folders = Folders::new();
    let file = std::fs::File::create(folders.data().join("orders.csv")).expect("a file is made");
    let mut file = std::io::BufWriter::new(file);
    writeln!(file, "id,city,total").expect("a file is written");
    for n in 0..rows {
        writeln!(file, "{n},{},{}.25", ["Bonn", "Lyon", "Turku"][usize::try_from(n % 3).unwrap_or(0)], n % 100)
            .expect("a file is written");
    }
    drop(file);
    let rule = Rule::default().reads("/data", &folders.data()).gives("progress");
    let args = json!({"path": "/data/orders.csv", "group_by": ["city"], "metrics": [{"measure": "count"}, {"measure": "sum", "column": "total"}]});
    let outcome = run("csv.aggregate", args, &rule).await;
    assert_eq!(good(&outcome)["matched"], json!(rows));
    assert_eq!(good(&outcome)["rows"].as_array().map(Vec::len), Some(3));
    assert!(outcome.usage.memory_bytes_peak < 8 << 20, "{:?}", outcome.usage);
}

#[tokio::test]
async fn dropping_the_future_stops_the_guest_and_frees_its_place() {
    let runner = new_runner();
    let sleep = tool("probe.sleep");
    runner.prepare(&sleep).await.expect("it compiles");
    // Three times as many as there are places.
    for _ in 0..200 {
        let running = runner.run(call(&sleep, &json!({"ms": 3_600_000}), &Rule::default()), Arc::new(NoLink));
        assert!(tokio::time::timeout(Duration::from_millis(2), running).await.is_err());
    }
    let outcome =
        runner.run(call(&tool("text.stats"), &json!({"text": "x"}), &Rule::default()), Arc::new(NoLink)).await;
    good(&outcome);
}

#[tokio::test]
async fn a_deadline_while_compiling_does_not_throw_the_work_away() {
    // Without a cache: it must be compiled.
    let options = Options { cache_dir: None, ..options() };
    let runner = WasmRunner::new(&options, Arc::new(SystemClock::default())).expect("the machine can run guests");
    let csv = tool("csv.query");
    let run = |wall_ms_max| {
        let rule = Rule::default().gives("progress").limit("wall_ms_max", wall_ms_max);
        runner.run(call(&csv, &json!({"path": "/none"}), &rule), Arc::new(NoLink))
    };
    bad(&run(1).await, Kind::ToolDeadline);
    // As long as the compiler may need, and no call is waiting for it.
    for _ in 0..600 {
        pause(50).await;
        if kind(&run(20).await) == Some(Kind::ToolDeclared) {
            return;
        }
    }
    panic!("no call of 20 ms ever found the component compiled");
}

#[tokio::test]
async fn whoever_drives_a_call_can_cancel_it() {
    let link = Arc::new(Recorder::default());
    let running = runner().run(call(&tool("probe.sleep"), &json!({"ms": 3_600_000}), &Rule::default()), link.clone());
    link.cancel.notify_one();
    bad(&running.await, Kind::HostCancelled);
}

#[tokio::test]
async fn leaving_the_program_is_not_returning() {
    for code in [0, 1] {
        let outcome = run("probe.exit", json!({"code": code}), &Rule::default()).await;
        assert!(bad(&outcome, Kind::ToolExit).contains(&format!("code {code}")));
    }
    let outcome = run("probe.panic", json!({"message": "out of tea"}), &Rule::default()).await;
    bad(&outcome, Kind::ToolTrap);
    assert!(outcome.log.iter().any(|line| line.text.contains("out of tea")), "{:?}", outcome.log);
    assert_eq!(kind(&run("probe.sleep", json!({"ms": 1}), &Rule::default()).await), None);
}
