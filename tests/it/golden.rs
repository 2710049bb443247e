//! Logs of each frozen version, as a program of that version left them: today's program reads them, plays them back and goes
//! on with them. What stands in `tests/golden/vN` is never changed once N is released.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cofferdam::clock::SystemClock;
use cofferdam::domain::{Fact, Failure, Outcome, Price, PriceBand, Principal, RunId, SCHEMA_VERSION, Suspension};
use cofferdam::host::{
    Approve, CallOptions, Choice, Goal, HeadState, Host, HostBuilder, Message, ReplayVerdict, Replayed, RouteView,
    RunReport, RunState, Settle, StartOptions,
};
use cofferdam::orchestrator::Run;
use cofferdam::planner::model::{ModelOptions, ModelPlanner, Protocol};
use cofferdam::planner::workflow::{Format, WorkflowPlanner};
use cofferdam::policy::{Call, Policy};
use cofferdam::registry::VerifiedTool;
use cofferdam::sandbox::{Begin, CallLink, HostCall, HostCallEnd, Runner};
use cofferdam::store::sqlite::{SqliteLog, SqliteOptions};
use cofferdam_kit::FakeLlm;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::TempDir;

use crate::guest::{cache_dir, helper, new_runner, pause};
use crate::runs::approved;

/// Must be set to make the golden files of a version anew that has some.
const ANEW: &str = "COFFERDAM_GOLDEN_ANEW";

const TOOLS: [&str; 2] = ["math", "notes"];

const POLICY: &str = r#"version = 0
[[rule]]
name = "compute"
why = "It touches nothing."
allow = ["math.*"]
[[rule]]
name = "write"
why = "The notes of this log."
allow = ["notes.*"]
files = [{ mount = "/notes", path = "notes", access = "read_write" }]
capabilities = ["log"]
approval = "none"
"#;

const DONE: &str = r#"
workflow = "done"
goal = "Do something of every kind."
answer = { "$from" = "total" }

[[steps]]
id = "each"
tool = "math.eval"
for_each = { in = ["1 + 1", "2 + 2", "3 + 3"], items_max = 5, parallel_max = 2 }
args = { expression = { "$item" = "" } }

[[steps]]
id = "total"
tool = "math.sum"
args = { numbers = { "$from" = "each" } }
approval = true

[[steps]]
id = "write"
tool = "notes.write"
args = { path = "/notes/total.md", text = { "$from" = "total" } }

[[steps]]
id = "read"
tool = "notes.read"
needs = ["write"]
args = { path = "/notes/total.md" }

[[steps]]
id = "never"
tool = "math.eval"
when = "steps.total == \"0\""
args = { expression = "0" }

[[steps]]
id = "broken"
tool = "math.eval"
args = { expression = "1 / 0" }
on_failure = "skip"

[[steps]]
id = "inner"
args = {}
[steps.run.workflow]
workflow = "inner"
goal = "Add within."
answer = { "$from" = "add" }
[[steps.run.workflow.steps]]
id = "add"
tool = "math.eval"
args = { expression = "20 + 22" }
"#;

/// Its first step brings what an earlier run has brought, and is not made again.
const UNDONE: &str = r#"
workflow = "undone"
goal = "Take back what was written."
[[steps]]
id = "known"
tool = "math.eval"
args = { expression = "20 + 22" }
[[steps]]
id = "write"
tool = "notes.write"
args = { path = "/notes/gone.md", text = { "$from" = "known" } }
[[steps]]
id = "fail"
tool = "math.eval"
needs = ["write"]
args = { expression = "1 / 0" }
on_failure = "undo"
"#;

const WAITS: &str = r#"
workflow = "waits"
goal = "Add once a person says so."
answer = { "$from" = "sum" }
[[steps]]
id = "left"
tool = "math.eval"
args = { expression = "7 * 6" }
[[steps]]
id = "sum"
tool = "math.sum"
args = { numbers = [{ "$from" = "left" }, "1"] }
approval = true
"#;

const UNKNOWN: &str = r#"
workflow = "unknown"
goal = "Write a line, of which nobody sees the end."
[[steps]]
id = "append"
tool = "notes.append"
args = { path = "/notes/lines.md", line = "one" }
[[steps]]
id = "after"
tool = "math.eval"
needs = ["append"]
args = { expression = "1 + 1" }
"#;

const ERASED: &str = r#"
workflow = "erased"
goal = "Add for somebody who is erased."
answer = { "$from" = "sum" }
[[steps]]
id = "sum"
tool = "math.eval"
args = { expression = "4 + 4" }
"#;

/// Which run is which, and where its chain ended.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Known {
    run: String,
    state: String,
    events: u64,
    head: String,
}

/// Returns where the golden files of a version are.
fn golden(version: u16) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/golden/v{version}"))
}

/// Refuses to change what must stay as it is.
#[expect(clippy::disallowed_methods, reason = "whoever makes golden files says so in the environment")]
fn check_anew(version: u16) {
    let is_free = !golden(version).exists() || std::env::var_os(ANEW).is_some();
    assert!(is_free, "tests/golden/v{version} stays as it is: set {ANEW} if version {version} was never released");
}

/// A place where a golden log is used: a copy, so that the files stay.
struct Place(TempDir);

impl Place {
    fn new(tools: impl Fn(&str) -> PathBuf) -> Self {
        let place = Self(TempDir::new().expect("a directory"));
        fs::create_dir(place.path("notes")).expect("a directory");
        fs::create_dir(place.path("tools")).expect("a directory");
        for name in TOOLS {
            fs::copy(tools(name), place.tool(name)).expect("the component is copied");
        }
        place
    }

    fn copied(version: u16) -> Self {
        let golden = golden(version);
        let place = Self::new(|name| golden.join("tools").join(format!("{name}.wasm")));
        fs::create_dir(place.path("log")).expect("a directory");
        for name in ["log.db", "key"] {
            fs::copy(golden.join("log").join(name), place.path("log").join(name)).expect("the log is copied");
            let mode = fs::Permissions::from_mode(0o600);
            fs::set_permissions(place.path("log").join(name), mode).expect("the mode is set");
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn tool(&self, name: &str) -> PathBuf {
        self.path("tools").join(format!("{name}.wasm"))
    }

    fn builder(&self) -> HostBuilder {
        let clock = Arc::new(SystemClock::default());
        let log = SqliteLog::open(&self.path("log"), SqliteOptions::default(), clock).expect("the log opens");
        let policy = Policy::parse(POLICY, self.0.path()).expect("the policy reads");
        let builder = Host::builder().event_log(Arc::new(log)).helper(helper()).cache_dir(cache_dir()).policy(policy);
        TOOLS.iter().fold(builder, |builder, name| builder.tool(*name, self.tool(name)))
    }

    fn host(&self) -> Host {
        self.builder().build().expect("the host is made")
    }
}

fn flow(text: &str) -> Goal {
    Goal::Workflow(WorkflowPlanner::parse(text, Format::Toml).expect("the workflow reads"))
}

/// Takes the place where a component was built out of its messages: a golden file tells nothing of a machine.
#[expect(clippy::disallowed_methods, reason = "where the crates are that the components are built from")]
fn nowhere(mut bytes: Vec<u8>) -> Vec<u8> {
    let Some(home) = std::env::var_os("HOME").map(|home| home.into_encoded_bytes()).filter(|home| home.len() > 1)
    else {
        return bytes;
    };
    for start in 0..bytes.len().saturating_sub(home.len()) {
        if bytes[start..].starts_with(&home) {
            bytes[start + 1..start + home.len()].fill(b'_');
        }
    }
    bytes
}

/// A call under a name of the caller's.
fn keyed() -> CallOptions {
    CallOptions { approve: Approve::Ask, key: Some("golden".into()), settled: None, traceparent: None }
}

/// A person's yes to the one call that waits.
fn approval(report: &RunReport) -> Message {
    let [asked] = &report.approvals[..] else { panic!("one call waits: {report:#?}") };
    let (step, binding, by) = (asked.step.clone(), asked.binding, "ann".to_owned());
    Message::Decide { step, binding, choice: Choice::Approve, by, reason: None }
}

fn known(version: u16) -> BTreeMap<String, Known> {
    let text = fs::read_to_string(golden(version).join("runs.json")).expect("the list is there");
    serde_json::from_str(&text).expect("the list reads")
}

fn run_of(version: u16, name: &str) -> RunId {
    known(version)[name].run.parse().expect("an id")
}

async fn resumed(host: &Host, run: &RunId) -> RunReport {
    let options = StartOptions::default();
    let handle = host.resume(run, options).await.expect("it goes on");
    handle.finished().await.expect("it is driven")
}

fn state_of(report: &RunReport) -> String {
    serde_json::to_string(&report.state).expect("a state is JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_run_of_a_golden_log_is_listed_verified_and_folded() {
    for version in 1..=SCHEMA_VERSION {
        let place = Place::copied(version);
        let host = place.host();
        let listed: BTreeMap<_, _> = host.runs(99).await.unwrap().into_iter().map(|r| (r.run.to_string(), r)).collect();
        let known = known(version);
        for (name, known) in &known {
            let run: RunId = known.run.parse().unwrap();
            assert_eq!(state_of(&listed[&known.run]), known.state, "{name}");
            let (verified, head) = host.verify_head(&run, &known.head.parse().unwrap()).await.unwrap();
            assert_eq!((verified.events, head), (known.events, HeadState::Last), "{name}");
            let events = host.events(&run).await.unwrap();
            if name != "session" {
                assert_eq!(Run::of(&events).unwrap().last.0, known.events, "{name}");
            }
            host.show(&run).await.unwrap();
        }
        assert_eq!(host.waiting(99).await.unwrap().len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ended_long_ago_is_played_back() {
    for version in 1..=SCHEMA_VERSION {
        let place = Place::copied(version);
        let host = place.host();
        for name in ["done", "undone"] {
            let report = host.replay(&run_of(version, name), &BTreeMap::new()).await.unwrap();
            assert_eq!(report.diverged, None, "{report:#?}");
            assert!(report.parts.len() >= 3, "{report:#?}");
            // The directory is not here: what was written there is played back all the same, and what was read is not.
            let is_told = |part: &Replayed| part.result == ReplayVerdict::Same || part.part == "t1.read";
            assert!(report.parts.iter().all(is_told), "{report:#?}");
        }
        // Before the second version no golden run was planned by a model.
        if version >= 2 {
            let run = run_of(version, "planned");
            let report = host.replay(&run, &BTreeMap::new()).await.unwrap();
            assert!(report.diverged.is_none() && report.is_same(), "{report:#?}");
            let requests = host.routes(&run).await.unwrap();
            let outcomes: Vec<_> = requests.iter().filter_map(|request| request.outcome.as_deref()).collect();
            assert_eq!(outcomes, ["plan_rejected", "plan_accepted", "answered"]);
            let picos = |request: &RouteView| request.replied.as_ref().unwrap().usd_picos.unwrap();
            // 200 tokens at 2 µ$, 1,000 at half of one, 60 at 8.
            assert!(requests.iter().all(|request| request.is_same() && picos(request) == 1_380_000_000));
        }
        let done = host.show(&run_of(version, "done")).await.unwrap();
        assert_eq!(done.answer, Some(json!("12")));
        let step = &done.steps[0].step;
        assert!(!host.explain_step(&done.run, step).await.unwrap().step.as_str().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_wait_since_long_ago_go_on_to_their_end() {
    for version in 1..=SCHEMA_VERSION {
        let place = Place::copied(version);
        let host = place.host();
        let waits = host.show(&run_of(version, "waits")).await.unwrap();
        host.send(&waits.run, approval(&waits)).await.unwrap();
        for run in [&waits.run, &run_of(version, "told")] {
            let report = resumed(&host, run).await;
            assert_eq!((report.state, report.answer), (RunState::Succeeded, Some(json!("43"))));
        }

        let unknown = host.show(&run_of(version, "unknown")).await.unwrap();
        let (settle, by) = (Settle::Done { output: "null".into() }, "ann".to_owned());
        host.send(&unknown.run, Message::Settle { step: unknown.unknown[0].clone(), settle, by }).await.unwrap();
        let report = resumed(&host, &unknown.run).await;
        assert_eq!(report.state, RunState::Succeeded, "{report:#?}");
        assert!(!place.path("notes/lines.md").exists(), "a person said that it was done: it is not done again");
        for run in [&waits.run, &unknown.run] {
            host.verify(run).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_under_a_key_long_ago_is_not_done_again() {
    for version in 1..=SCHEMA_VERSION {
        let place = Place::copied(version);
        let again = place.host().call_as("math.eval", json!({"expression": "6 * 7"}), &keyed()).await.unwrap();
        let result = again.outcome.result.expect("it succeeded");
        assert_eq!((again.repeats, result), (Some(run_of(version, "session")), json!("42")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_erased_user_nothing_is_left_but_the_chain() {
    for version in 1..=SCHEMA_VERSION {
        let place = Place::copied(version);
        let report = place.host().show(&run_of(version, "erased")).await.unwrap();
        assert_eq!((report.state, report.answer, report.goal.as_str()), (RunState::Succeeded, None, ""));
    }
}

#[test]
#[should_panic(expected = "stays as it is")]
fn the_golden_files_of_this_version_are_not_made_anew_by_accident() {
    check_anew(SCHEMA_VERSION);
}

/// Makes the golden files of the version that this program writes:
/// `COFFERDAM_GOLDEN_ANEW=1 cargo test -p cofferdam --test it golden::make -- --ignored`. Never once it was released.
#[test]
#[ignore = "makes the golden files of this version anew"]
fn make() {
    check_anew(SCHEMA_VERSION);
    let place = Place::new(cofferdam_guests::component);
    for name in TOOLS {
        let bytes = fs::read(place.tool(name)).expect("the component reads");
        fs::write(place.tool(name), nowhere(bytes)).expect("the component is written");
    }
    let mut runs = BTreeMap::new();
    within(async || runs.extend(make_ended(&place).await));
    let unknown = within(async || interrupted(&place).await);
    within(async || runs.extend(make_waiting(&place, unknown).await));
    let known: BTreeMap<_, _> =
        runs.iter().map(|(name, run)| (*name, within(async || end_of(&place, run).await))).collect();
    let to = golden(SCHEMA_VERSION);
    for folder in ["log", "tools"] {
        fs::create_dir_all(to.join(folder)).unwrap();
    }
    let files = ["log/log.db", "log/key", "tools/math.wasm", "tools/notes.wasm"];
    for file in files {
        fs::copy(place.path(file), to.join(file)).unwrap();
    }
    assert!(!place.path("log/log.db-wal").exists(), "all is in the one file");
    fs::write(to.join("runs.json"), serde_json::to_string_pretty(&known).unwrap() + "\n").unwrap();
    fs::write(to.join("events.jsonl"), crate::events::lines()).unwrap();
}

/// Does `work` in a runtime of its own, and ends whatever it leaves, as a process that dies would.
fn within<T>(work: impl AsyncFnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let value = runtime.block_on(work());
    runtime.shutdown_timeout(Duration::from_secs(10));
    value
}

async fn started(host: &Host, text: &str, options: StartOptions) -> RunReport {
    host.start(flow(text), options).await.expect("it starts").finished().await.expect("it is driven")
}

async fn make_ended(place: &Place) -> BTreeMap<&'static str, RunId> {
    let host = place.host();
    let done = started(&host, DONE, approved()).await;
    if done.state != RunState::Succeeded {
        for report in host.runs(9).await.unwrap() {
            for event in host.events(&report.run).await.unwrap() {
                println!("{} {:?}", event.seq, event.fact);
            }
        }
    }
    assert_eq!(done.state, RunState::Succeeded, "{:?}", done.failure);
    let undone = started(&host, UNDONE, approved()).await;
    assert_eq!((undone.state, undone.undo.is_some()), (RunState::Failed, true), "{undone:#?}");
    assert!(undone.steps[0].cached.is_some(), "an earlier outcome was taken");
    for (tool, args) in [
        ("math.eval", json!({"expression": "9 * 9"})),
        ("notes.append", json!({"path": "/notes/lone.md", "line": "alone"})),
        ("math.eval", json!({"expression": "1 / 0"})),
    ] {
        host.call(tool, args).await.expect("it is made");
    }
    host.call_as("math.eval", json!({"expression": "6 * 7"}), &keyed()).await.expect("it is made");
    let runs = host.runs(99).await.unwrap();
    let session = runs.iter().find(|report| report.state == RunState::Session).expect("a session");
    let inner = runs.iter().find(|report| report.parent.is_some()).expect("a run within");
    let planned = planned(place).await;
    let all = BTreeMap::from([
        ("planned", planned),
        ("done", done.run.clone()),
        ("undone", undone.run.clone()),
        ("session", session.run.clone()),
        ("inner", inner.run.clone()),
    ]);
    drop(host);
    let gone = Principal { user: "gone".into(), ..Principal::default() };
    let host = place.builder().principal(gone).build().expect("the host is made");
    let erased = started(&host, ERASED, approved()).await;
    host.erase_user("local", "gone").await.expect("the user is erased");
    all.into_iter().chain([("erased", erased.run)]).collect()
}

/// What a model says: no plan at all, a plan after some thought, and an answer.
fn said() -> String {
    let usage = json!({"prompt": 1_200, "cached": 1_000, "reply": 60, "reasoning": 20});
    let steps = json!([{"id": "sum", "tool": "math.sum", "args": {"numbers": ["20", "22"]}, "confidence": 0.9}]);
    let answer = json!({"$from": "t2.sum", "path": ""});
    let lines = [
        json!({"reply": {"text": "Certainly!", "usage": usage}}),
        json!({"reply": {"json": {"steps": steps}, "reasoning": "Two numbers.", "usage": usage}}),
        json!({"reply": {"json": {"answer": answer}, "usage": usage}}),
    ];
    lines.map(|line| line.to_string()).join("\n")
}

/// A run that a model plans, with a bound on what that may cost.
async fn planned(place: &Place) -> RunId {
    let server = FakeLlm::start(&said()).expect("the script reads");
    let price = Price {
        source: "golden".into(),
        bands: vec![PriceBand { input: 2_000_000, cached: 500_000, reply: 8_000_000, ..PriceBand::default() }],
    };
    let model = ModelOptions::new(Protocol::OpenaiChat, "golden").at(server.base_url());
    let model = ModelPlanner::single(ModelOptions { price: Some(price), ..model }).expect("the model is one");
    let host = place.builder().planner(Arc::new(model)).build().expect("the host is made");
    let options = StartOptions { usd_micros_max: Some(1_000_000), ..StartOptions::default() };
    let goal = Goal::text("Add two numbers.");
    let report = host.start(goal, options).await.expect("it starts").finished().await.expect("it is driven");
    assert_eq!((report.state, report.answer), (RunState::Succeeded, Some(json!("42"))), "{:?}", report.failure);
    assert_eq!(server.finish(), Ok(()));
    report.run
}

/// Lets a call announce its write, and then neither makes it nor tells.
struct Hanging(Arc<dyn Runner>);

struct HangingLink(Arc<dyn CallLink>);

#[async_trait]
impl Runner for Hanging {
    async fn prepare(&self, tool: &VerifiedTool) -> Result<(), Failure> {
        self.0.prepare(tool).await
    }
    async fn run(&self, call: Call, link: Arc<dyn CallLink>) -> Outcome {
        self.0.run(call, Arc::new(HangingLink(link))).await
    }
}

#[async_trait]
impl CallLink for HangingLink {
    fn records(&self) -> bool {
        self.0.records()
    }
    async fn begin(&self, call: &HostCall) -> Result<Begin, Failure> {
        let begun = self.0.begin(call).await;
        if call.is_write { std::future::pending().await } else { begun }
    }
    async fn done(&self, call: &HostCall, end: HostCallEnd) -> Result<(), Failure> {
        self.0.done(call, end).await
    }
}

/// Leaves a run in the middle of a write.
async fn interrupted(place: &Place) -> RunId {
    let runner = Arc::new(Hanging(Arc::new(new_runner())));
    let host = place.builder().runner(runner).build().expect("the host is made");
    let handle = host.start(flow(UNKNOWN), approved()).await.expect("it starts");
    let run = handle.run().clone();
    let has_begun = async || {
        let events = host.events(&run).await.unwrap_or_default();
        events.iter().any(|event| matches!(event.fact, Fact::WriteBegun { .. }))
    };
    while !has_begun().await {
        pause(20).await;
    }
    run
}

async fn make_waiting(place: &Place, unknown: RunId) -> BTreeMap<&'static str, RunId> {
    let host = place.host();
    let report = resumed(&host, &unknown).await;
    assert_eq!(report.state, RunState::Suspended(Suspension::Reconcile), "{report:#?}");
    let options = StartOptions::default();
    let waits = started(&host, WAITS, options).await;
    assert_eq!(waits.state, RunState::Suspended(Suspension::Approval), "{waits:#?}");
    // A person's word lies in the inbox, and nobody has taken it yet.
    let told = started(&host, WAITS, StartOptions::default()).await;
    host.send(&told.run, approval(&told)).await.expect("it is left");
    BTreeMap::from([("unknown", unknown), ("waits", waits.run), ("told", told.run)])
}

async fn end_of(place: &Place, run: &RunId) -> Known {
    let host = place.host();
    let verified = host.verify(run).await.expect("the chain holds");
    let report = host.show(run).await.expect("it is shown");
    Known { run: run.to_string(), state: state_of(&report), events: verified.events, head: verified.head.to_string() }
}
