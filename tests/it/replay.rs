//! Runs played back from their logs: with servers gone, rules changed, components exchanged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use cofferdam::clock::SystemClock;
use cofferdam::domain::{Json, RunId};
use cofferdam::host::{Approve, Goal, Host, ReplayReport, ReplayVerdict, StartOptions, Wait};
use cofferdam::planner::workflow::{Format, WorkflowPlanner};
use cofferdam::policy::Policy;
use cofferdam::sandbox::{CallLink, Runner, WasmRunner};
use cofferdam::store::sqlite::{SqliteLog, SqliteOptions};
use cofferdam_kit::WebServer;
use cofferdam_kit::web::Reply;
use serde_json::json;
use tempfile::TempDir;

use crate::cli::Shop;
use crate::guest::{Rule, call, runner, step, tool};
use crate::journal::Tape;

mod asked;
mod begun_anew;
mod decided;
mod taken_back;
mod within;

/// One sandbox for all: a component is compiled once.
static RUNNER: LazyLock<Arc<WasmRunner>> = LazyLock::new(|| Arc::new(crate::guest::new_runner()));

/// A log with one run in it.
struct Recorded {
    dir: TempDir,
    run: RunId,
}

const COMPONENTS: [&str; 7] = ["bookings", "fetch", "math", "notes", "probe", "text", "web"];

fn log(dir: &Path) -> Arc<SqliteLog> {
    let clock = Arc::new(SystemClock::default());
    Arc::new(SqliteLog::open(&dir.join("state"), SqliteOptions::default(), clock).expect("the log opens"))
}

/// A host over the log, under this policy.
fn host_under(dir: &Path, policy: Policy) -> Host {
    let runner: Arc<dyn Runner> = RUNNER.clone();
    let builder = Host::builder().event_log(log(dir)).runner(runner).policy(policy);
    let tools = COMPONENTS.iter().fold(builder, |builder, name| builder.tool(*name, cofferdam_guests::component(name)));
    tools.build().expect("the host is made")
}

/// A host over the log, with a policy that denies everything.
fn host(dir: &Path) -> Host {
    host_under(dir, Policy::parse("version = 0", Path::new("/")).expect("the policy reads"))
}

/// Runs a workflow to its end in a log of its own.
async fn recorded(workflow: Json, rule: &Rule) -> Recorded {
    let dir = TempDir::new().expect("there is room for a folder");
    let run = ran(&host_under(dir.path(), rule.policy()), &workflow).await;
    Recorded { dir, run }
}

async fn ran(host: &Host, workflow: &Json) -> RunId {
    let planner = WorkflowPlanner::parse(&workflow.to_string(), Format::Json).expect("the workflow reads");
    let options =
        StartOptions { wait: Wait::Never, approve: Approve::All { by: "ann".into() }, ..StartOptions::default() };
    let handle = host.start(Goal::Workflow(planner), options).await.expect("the run begins");
    let report = handle.finished().await.expect("the run is driven");
    assert!(!report.steps.is_empty(), "{report:?}");
    report.run
}

async fn played(recorded: &Recorded, with: &[(&str, PathBuf)]) -> ReplayReport {
    let with = with.iter().map(|(name, path)| ((*name).to_owned(), path.clone())).collect();
    host(recorded.dir.path()).replay(&recorded.run, &with).await.expect("the run can be played back")
}

/// What was played back, one line each.
fn lines(report: &ReplayReport) -> Vec<String> {
    let line = |part: &cofferdam::host::Replayed| match &part.result {
        ReplayVerdict::Same => format!("{} same", part.part),
        ReplayVerdict::Differs { what, then, now } => format!("{} differs: {what}: {then} → {now}", part.part),
        ReplayVerdict::Untold { why } => format!("{} untold: {why}", part.part),
    };
    report.parts.iter().map(line).collect()
}

fn one(id: &str, tool: &str, args: Json) -> Json {
    json!({"id": id, "tool": tool, "args": args})
}

fn workflow(steps: Vec<Json>) -> Json {
    json!({"workflow": "test", "goal": "test", "steps": steps})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_played_back_with_its_servers_gone_and_its_rules_changed() {
    let web = WebServer::start();
    web.on("/page", Reply::text("the tide comes"));
    web.on("/items", Reply::Echo);
    let url = |path: &str| format!("http://{}{path}", web.at("127.0.0.1"));
    let folders = crate::guest::Folders::new();
    let rule = Rule::default()
        .sends(&url("/*"), "methods = ['GET', 'POST'], addresses = ['127.0.0.0/8']")
        .writes("/data", &folders.data())
        .gives("clock")
        .gives("random")
        .gives("log");
    let steps = vec![
        one("page", "fetch.get", json!({"url": url("/page")})),
        one("now", "probe.now", json!({})),
        one("slept", "probe.slept", json!({"ms": 200})),
        one("random", "probe.random", json!({"salt": 1})),
        one("count", "text.stats", json!({"text": {"$from": "page", "path": "/text"}})),
        one("post", "fetch.send", json!({"method": "POST", "url": url("/items"), "body": "{}"})),
        one("write", "notes.write", json!({"path": "/data/new.md", "text": {"$from": "page", "path": "/text"}})),
        json!({"id": "missing", "tool": "fetch.get", "args": {"url": "http://127.0.0.1:9/"}, "on_failure": "skip"}),
    ];
    let recorded = recorded(workflow(steps), &rule).await;
    assert_eq!(folders.text("data/new.md").as_deref(), Some("the tide comes"));
    std::fs::write(folders.data().join("new.md"), "changed since").expect("a file is written");
    let seen = web.seen().len();
    drop(web);
    let report = played(&recorded, &[]).await;
    let expected = [
        "turn 1 same",
        "the log same",
        "t1.count (its arguments) same",
        "t1.write (its arguments) same",
        "t1.page same",
        "t1.now same",
        "t1.slept same",
        "t1.random same",
        "t1.count same",
        "t1.post same",
        "t1.write same",
        "t1.missing same",
    ];
    assert_eq!(sorted(lines(&report)), sorted(expected.map(str::to_owned).to_vec()));
    assert_eq!((seen, report.is_same()), (2, true));
    assert_eq!(folders.text("data/new.md").as_deref(), Some("changed since"), "nothing is written again");
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn another_component_is_named_with_its_first_step_that_differs() {
    let steps = vec![
        one("add", "math.eval", json!({"expression": "1 + 2"})),
        one("count", "text.stats", json!({"text": "one two"})),
    ];
    let recorded = recorded(workflow(steps), &Rule::default()).await;
    // A component with the same function, which answers everything with an empty text.
    let other = recorded.dir.path().join("other.wasm");
    std::fs::write(&other, other_math()).expect("a file is written");
    let report = played(&recorded, &[("math", other)]).await;
    assert_eq!(report.diverged.as_deref(), Some("t1.add"));
    let add = report.parts.iter().find(|part| part.part == "t1.add").expect("it was played back");
    assert!(add.is_other_component);
    let ReplayVerdict::Differs { then, now, .. } = &add.result else { panic!("{add:?}") };
    assert_eq!((then.as_str(), now.as_str()), ("\"3\"", "\"\""));
    assert!(lines(&report).contains(&"t1.count same".to_owned()));
    assert!(played(&recorded, &[]).await.is_same());
}

/// A `math` that answers everything with an empty text: the place where its result lies is all zeros.
fn other_math() -> Vec<u8> {
    crate::guest::assembled(
        r#"(component
            (core module $m
                (memory (export "memory") 1)
                (func (export "eval") (param i32 i32) (result i32) (i32.const 16))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
            (core instance $i (instantiate $m))
            (func (export "eval") (param "expression" string) (result string)
                (canon lift (core func $i "eval") (memory $i "memory") (realloc (func $i "realloc")))))"#,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_is_gone_is_untold_and_a_run_that_is_none_is_refused() {
    let recorded = recorded(workflow(vec![one("now", "probe.now", json!({}))]), &Rule::default().gives("clock")).await;
    let runner: Arc<dyn Runner> = RUNNER.clone();
    let bare = Host::builder().event_log(log(recorded.dir.path())).runner(runner).build().expect("the host is made");
    let report = bare.replay(&recorded.run, &BTreeMap::new()).await.expect("the run can be played back");
    assert!(lines(&report).iter().any(|line| line.starts_with("t1.now untold")), "{report:?}");
    let unknown: RunId = "r-01arz3ndektsv4rrffq69g5fav".parse().unwrap();
    assert!(bare.replay(&unknown, &BTreeMap::new()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_as_it_was_is_untold_and_named() {
    let folders = crate::guest::Folders::new();
    let read = |mount: &str| json!({"path": format!("{mount}/note.md")});
    let steps = vec![
        json!({"id": "none", "tool": "notes.read", "args": read("/data"), "on_failure": "skip"}),
        one("count", "text.stats", json!({"text": "x"})),
    ];
    let dir = folders.outer().join("later");
    let gone = recorded(workflow(steps), &Rule::default().reads("/data", &dir)).await;
    std::fs::create_dir(&dir).expect("a folder is made");
    std::fs::write(dir.join("note.md"), "now there").expect("a file is written");
    let report = played(&gone, &[]).await;
    let untold = |report: &ReplayReport, part: &str| lines(report).into_iter().find(|line| line.starts_with(part));
    let line = untold(&report, "t1.none untold").unwrap_or_else(|| panic!("{:#?}", lines(&report)));
    assert!(line.contains("it never began: data.config") && report.is_same(), "{line}");

    let rule = Rule::default().reads("/data", &folders.data());
    let recorded = recorded(workflow(vec![one("read", "notes.read", read("/data"))]), &rule).await;
    assert!(untold(&played(&recorded, &[]).await, "t1.read same").is_some());
    std::fs::write(folders.data().join("note.md"), "of somebody else").expect("a file is written");
    let report = played(&recorded, &[]).await;
    let line = untold(&report, "t1.read untold").unwrap_or_else(|| panic!("{:#?}", lines(&report)));
    let place = format!("`/data` ({})", folders.data().display());
    assert!(line.contains(&place) && report.is_same(), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_component_is_named_with_its_item_or_its_step_within_a_run() {
    let inner =
        json!({"workflow": "inner", "goal": "Add.", "steps": [one("sum", "math.eval", json!({"expression": "2"}))]});
    let each = json!({"id": "each", "tool": "math.eval", "args": {"expression": {"$item": ""}}, "needs": ["trip"],
        "for_each": {"in": ["3", "4"], "items_max": 2}});
    let steps = vec![json!({"id": "trip", "run": {"workflow": inner}, "args": {}}), each];
    let recorded = recorded(workflow(steps), &Rule::default()).await;
    let other = recorded.dir.path().join("other.wasm");
    std::fs::write(&other, other_math()).expect("a file is written");
    let report = played(&recorded, &[("math", other)]).await;
    assert_eq!(report.diverged.as_deref(), Some("t1.trip/t1.sum"));
    let mut differing: Vec<_> =
        report.parts.iter().filter(|part| part.is_other_component).map(|part| part.part.as_str()).collect();
    // Items are done at one time.
    differing[1..].sort_unstable();
    assert_eq!(differing, ["t1.trip/t1.sum", "t1.each[0]", "t1.each[1]"]);
    assert!(played(&recorded, &[]).await.is_same());
}

/// What may come from the world, in calls made up by a seed: each plays back as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_calls_made_up_play_back_as_they_were() {
    let seed = 20_261_122_u64;
    println!("seed {seed}");
    let web = WebServer::start();
    web.on("/page", Reply::text("the tide comes"));
    web.on("/busy", Reply::page(503, "retry-after", "1", "later"));
    web.on("/cut", Reply::octets("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbrok"));
    let url = |path: &str| format!("http://{}{path}", web.at("127.0.0.1"));
    let rule = Rule::default()
        .sends(&url("/*"), "methods = ['GET', 'POST'], addresses = ['127.0.0.0/8']")
        .gives("clock")
        .gives("random");
    let mut state = seed;
    let mut drawn = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut calls = Vec::new();
    for _ in 0..100 {
        let path = ["/page", "/busy", "/cut", "/none"][usize::try_from(drawn(4)).unwrap_or(0)];
        let (name, args) = match drawn(6) {
            0 => ("fetch.get", json!({"url": url(path)})),
            1 => ("fetch.send", json!({"method": "POST", "url": url(path), "body": "x".repeat(drawn(9_000) as usize)})),
            2 => ("probe.random", json!({"salt": drawn(1_000)})),
            3 => ("probe.now", json!({})),
            4 => ("probe.slept", json!({"ms": drawn(9)})),
            _ => ("web.flood", json!({"authority": web.at("127.0.0.1"), "path": path, "count": drawn(6)})),
        };
        let call = || call(&tool(name), &args, &rule);
        let tape = Arc::new(Tape::default());
        let live = runner().run(call(), tape.clone() as Arc<dyn CallLink>).await;
        calls.push((name, step(&tool(name), &args), call(), tape.records(), live));
    }
    drop(web);
    for (name, step, call, records, live) in calls {
        let replayed = runner().run(call, Arc::new(Tape::closed(records)) as Arc<dyn CallLink>).await;
        assert_eq!(replayed.result, live.result, "{name} {:?}", step.args);
        assert_eq!(replayed.usage.fuel, live.usage.fuel, "{name} {:?}", step.args);
    }
}

#[test]
fn the_command_names_what_differs_and_ends_with_one() {
    let shop = Shop::new();
    shop.write(
        "sums.toml",
        "workflow = 'sums'\ngoal = 'Add'\n[[steps]]\nid = 'sum'\ntool = 'math.eval'\nargs = { expression = '1 + 2' }\n\
         [[steps]]\nid = 'count'\ntool = 'text.stats'\nargs = { text = { '$from' = 'sum' } }\n",
    );
    shop.run(&["run", "sums.toml"]).ends(0);
    let same = shop.run(&["replay", "last"]).ends(0);
    assert!(
        same.out.contains("t1.sum") && same.out.contains("all that can be played back is as it was"),
        "{}",
        same.out
    );
    std::fs::write(shop.path("other.wasm"), other_math()).expect("a file is written");
    let other = shop.run(&["replay", "last", "--with", "math=other.wasm"]).ends(1);
    assert!(other.out.contains("math.eval (another component)"), "{}", other.out);
    assert!(other.out.contains("t1.sum differs first: what it brings"), "{}", other.out);
    let told = shop.run(&["--json", "replay", "last", "--with", "math=other.wasm"]).ends(1);
    let report: Json = serde_json::from_str(&told.out).expect("it is JSON");
    assert_eq!(report["diverged"], json!("t1.sum"));
    shop.run(&["replay", "last", "--with", "math"]).ends(2);
}
