//! The table of faults: each kind of failure, made by a real fault in a run where a run can meet it. A row tells the fault,
//! the kind that it is told as, and how often the call was tried; the run fails with that kind, and the step beside the one
//! that fails does what it should. Kinds that a run cannot meet are listed with the reason and the test that makes them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cofferdam::cli::exit::{Code, of_kind, of_report};
use cofferdam::clock::SystemClock;
use cofferdam::domain::{Budget, Json, Kind, Retry};
use cofferdam::host::{Goal, Host, RunReport, RunState};
use cofferdam::planner::workflow::{Format, WorkflowPlanner};
use cofferdam::policy::Policy;
use cofferdam::sandbox::{NetworkOptions, Options, Runner, WasmRunner};
use cofferdam::store::sqlite::{SqliteLog, SqliteOptions};
use cofferdam_kit::web::{Identity, Reply};
use cofferdam_kit::{Bookings, DnsServer, WebServer};
use serde_json::json;
use tempfile::TempDir;

use crate::guest::{assembled, options};
use crate::hostile::{HOLDING, guest, logging, returning};
use crate::runs::approved;

mod models;

/// Faults that the table must make at least.
const FAULTS_MIN: usize = 100;

/// What all rows share.
struct Table {
    runner: Arc<dyn Runner>,
    web: WebServer,
    tls: WebServer,
    _dns: DnsServer,
    rows: usize,
    /// What was made, by the kind that it is told as.
    seen: BTreeMap<Kind, Vec<String>>,
}

/// A step that fails, and what lets it.
#[derive(Clone)]
struct Fault {
    what: String,
    tool: String,
    /// Where its component is one written as text.
    wat: Option<String>,
    args: Json,
    /// Lines of its rule, beside `allow`.
    rule: String,
    /// Fields of the step.
    step: Json,
    budget: Option<Budget>,
    kind: Kind,
    /// How often it is tried, of two times that it may be.
    attempts: u32,
}

fn fault(what: &str, tool: &str, args: Json, kind: Kind, attempts: u32) -> Fault {
    let (tool, rule, step) = (tool.to_owned(), String::new(), json!({}));
    Fault { what: what.to_owned(), tool, wat: None, args, rule, step, budget: None, kind, attempts }
}

fn written(what: &'static str, wat: String, kind: Kind) -> Fault {
    Fault { wat: Some(wat), ..fault(what, "guest.run", json!({}), kind, 1) }
}

impl Fault {
    fn rule(self, line: impl AsRef<str>) -> Self {
        Self { rule: format!("{}{}\n", self.rule, line.as_ref()), ..self }
    }

    fn limit(self, name: &str, value: u64) -> Self {
        self.rule(format!("[rule.limits]\n{name} = {value}"))
    }

    fn step(self, fields: Json) -> Self {
        Self { step: fields, ..self }
    }
}

impl Table {
    fn new() -> Self {
        let dns = DnsServer::start();
        let network = NetworkOptions { nameservers: vec![dns.address()], ca_file: None };
        let runner = WasmRunner::new(&Options { network, ..options() }, Arc::new(SystemClock::default()));
        let (web, tls) = (WebServer::start(), WebServer::start_tls(&Identity::self_signed("127.0.0.1")));
        let runner = Arc::new(runner.expect("the machine can run guests"));
        Self { runner, web, tls, _dns: dns, rows: 0, seen: BTreeMap::new() }
    }

    fn host(&self, folder: &Path, policy: &str, tools: &[(String, PathBuf)]) -> cofferdam::host::HostBuilder {
        let log = SqliteLog::open(&folder.join("state"), SqliteOptions::default(), Arc::new(SystemClock::default()));
        let policy = Policy::parse(policy, folder).unwrap_or_else(|e| panic!("{e}: {policy}"));
        let builder = Host::builder().event_log(Arc::new(log.expect("the log opens"))).policy(policy);
        tools.iter().fold(builder.runner(self.runner.clone()), |builder, (name, path)| builder.tool(name, path))
    }

    /// Makes the fault in a run of its own.
    async fn make(&mut self, fault: Fault) {
        let folder = TempDir::new().expect("a directory");
        let component = fault.tool.split_once('.').expect("a tool's name has two parts").0.to_owned();
        let path = match &fault.wat {
            None => cofferdam_guests::component(&component),
            Some(wat) => {
                let path = folder.path().join("guest.wasm");
                std::fs::write(&path, assembled(wat)).expect("a file is written");
                path
            }
        };
        let beside = ("math".to_owned(), cofferdam_guests::component("math"));
        let policy = format!(
            "version = 0\n[[rule]]\nname = 'beside'\nwhy = 'A test.'\nallow = ['math.*']\n\n[[rule]]\nname = 'it'\nwhy = 'A test.'\nallow = ['{}']\napproval = 'none'\n{}",
            fault.tool, fault.rule
        );
        let builder = self.host(folder.path(), &policy, &[beside, (component, path)]);
        let builder = fault.budget.clone().into_iter().fold(builder, cofferdam::host::HostBuilder::budget);
        let retry = json!({"attempts_max": 2, "backoff_ms": 1, "backoff_ms_max": 1});
        let mut step = json!({"id": "it", "tool": fault.tool, "args": fault.args, "retry": retry});
        for (name, value) in fault.step.as_object().expect("fields") {
            step[name] = value.clone();
        }
        let beside = json!({"id": "beside", "tool": "math.eval", "args": {"expression": "1 + 1"}});
        let flow = json!({"workflow": "fault", "goal": &fault.what, "steps": [step, beside]}).to_string();
        let flow = WorkflowPlanner::parse(&flow, Format::Json).expect("the workflow reads");
        let host = builder.build().expect("the host is made");
        let handle = host.start(Goal::Workflow(flow), approved()).await.expect("it starts");
        let report = handle.finished().await.expect("it is driven");
        host.verify(&report.run).await.expect("the log is whole");
        self.row(&fault.what, fault.kind, &report);
        let found = |id: &str| report.steps.iter().find(|step| step.step.local() == id);
        assert_eq!(found("it").map_or(0, |step| step.attempts), fault.attempts, "{}: {report:#?}", fault.what);
        // A plan that is refused has no steps.
        if let Some(beside) = found("beside") {
            assert_eq!(beside.output, Some(json!("2")), "{}: the step beside it is none of its business", fault.what);
        }
    }

    fn row(&mut self, what: &str, kind: Kind, report: &RunReport) {
        let told = report.failure.as_ref().map(|failure| failure.kind);
        assert_eq!(told, Some(kind), "{what}: {report:#?}");
        let end = if kind == Kind::PolicyBudget {
            &[RunState::Failed, RunState::BudgetExhausted][..]
        } else {
            &[RunState::Failed]
        };
        assert!(end.contains(&report.state), "{what}: {:?}", report.state);
        println!("{what} | {kind} | {:?} | exit {}", report.state, of_report(report).number());
        assert_eq!(of_report(report).number(), exit(kind, true), "{what}");
        self.rows += 1;
        let causes = self.seen.entry(kind).or_default();
        if !causes.iter().any(|cause| cause == what) {
            causes.push(what.to_owned());
        }
    }
}

fn guests() -> Vec<Fault> {
    let grow =
        |what: &str| format!("(func (export \"run\") (loop (br_if 0 (i32.ne ({what}) (i32.const -1)))) unreachable)");
    let memory = format!("(memory 1) {}", grow("memory.grow (i32.const 16)"));
    let table = format!("(table 1 funcref) {}", grow("table.grow (ref.null func) (i32.const 1000)"));
    let deep = "(func $f (export \"run\") (call $f))";
    let nan = "(memory (export \"memory\") 1) (func (export \"run\") (result f64) (f64.const nan))";
    vec![
        fault("a tool panics", "probe.panic", json!({"message": "x"}), Kind::ToolTrap, 1),
        written("a tool cannot go on", guest("(func (export \"run\") unreachable)"), Kind::ToolTrap),
        written(
            "a tool divides by zero",
            guest("(func (export \"run\") (drop (i32.div_u (i32.const 1) (i32.const 0))))"),
            Kind::ToolTrap,
        ),
        fault("a tool ends the program", "probe.exit", json!({"code": 3}), Kind::ToolExit, 1),
        fault("a tool says no", "probe.refuse", json!({"text": "no"}), Kind::ToolDeclared, 1),
        fault("a tool sleeps longer than its step allows", "probe.sleep", json!({"ms": 60_000}), Kind::ToolDeadline, 2)
            .step(json!({"timeout_ms": 200})),
        fault("a tool sleeps longer than its rule allows", "probe.sleep", json!({"ms": 60_000}), Kind::ToolDeadline, 2)
            .limit("wall_ms_max", 200),
        fault("a tool works without end", "probe.flood", json!({"lines": 100}), Kind::ToolFuel, 1).limit("fuel", 1_000),
        written("a tool's memory grows", guest(&memory), Kind::ToolMemory).limit("memory_bytes_max", 8 << 20),
        written(
            "a tool's memory is too large from the start",
            guest("(memory 512) (func (export \"run\"))"),
            Kind::ToolMemory,
        )
        .limit("memory_bytes_max", 8 << 20),
        written("a tool's table grows", guest(&table), Kind::ToolTable),
        written("a tool calls itself without end", guest(deep), Kind::ToolStack),
        written("a tool opens and never closes", HOLDING.to_owned(), Kind::ToolHandles),
        fault("a tool asks the host too often", "probe.flood", json!({"lines": 100}), Kind::ToolHostCalls, 1)
            .limit("host_calls_max", 20),
        written("a tool passes too much to the host at once", logging(1, 5 << 20), Kind::ToolHostCallBytes)
            .rule("capabilities = ['log']"),
        fault("a tool returns too much", "probe.surroundings", json!({}), Kind::ToolOutput, 1)
            .limit("output_bytes_max", 1),
        written("a tool returns what is no value", returning("(result f64)", nan), Kind::ToolContract),
    ]
}

fn plans() -> Vec<Fault> {
    let sleep = |what, ms: Json, kind| fault(what, "probe.sleep", json!({"ms": ms}), kind, 0);
    let denied = sleep("no rule allows the call", json!(1), Kind::PolicyDenied)
        .step(json!({"tool": "probe.panic", "args": {"message": "x"}}));
    vec![
        sleep("an argument is no number", json!("x"), Kind::DataInput),
        sleep("an argument is missing", json!({"$from": "beside", "path": ""}), Kind::DataInput),
        sleep("a step needs one that is not there", json!(1), Kind::DataReference).step(json!({"needs": ["nobody"]})),
        sleep("a step waits for itself", json!(1), Kind::DataPlan).step(json!({"needs": ["it"]})),
        sleep("a condition cannot be told", json!(1), Kind::DataCondition)
            .step(json!({"when": "1 / (size(steps.beside) - 1) == 1"})),
        fault("arguments are too long", "probe.refuse", json!({"text": "x".repeat(100)}), Kind::DataInputSize, 1)
            .limit("input_bytes_max", 10),
        Fault {
            budget: Some(Budget { calls_max: 1, ..Budget::default() }),
            ..sleep("the plan may take more than the budget", json!(1), Kind::PolicyBudget)
        },
        denied,
    ]
}

fn network(table: &Table) -> Vec<Fault> {
    let gone = WebServer::start().port();
    let at = |port: u16, scheme: &str| format!("{scheme}://127.0.0.1:{port}");
    let get = |what, server: String, path: &str, kind, attempts| {
        let addresses = "addresses = ['127.0.0.1/32']";
        fault(what, "fetch.get", json!({"url": format!("{server}{path}")}), kind, attempts)
            .rule(format!("http = [{{ url = '{server}/*', {addresses} }}]"))
    };
    table.web.on("/cut", Reply::octets("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"));
    table.web.on("/odd", Reply::octets("I am no server\r\n\r\n"));
    table.web.on("/silent", Reply::Silent);
    let web = at(table.web.port(), "http");
    let parts = json!({"parts": {
        "method": "GET", "scheme": "http", "authority": format!("127.0.0.1:{}", table.web.port()), "path": "/silent",
        "headers": [], "body": "", "with_trailer": false, "wait_ms": 100,
    }});
    vec![
        get("nobody listens", at(gone, "http"), "/", Kind::NetworkConnect, 2),
        get("the answer is cut off", web.clone(), "/cut", Kind::NetworkCut, 2),
        get("what answers is no server of the web", web.clone(), "/odd", Kind::NetworkCut, 2),
        get("a server cannot prove who it is", at(table.tls.port(), "https"), "/", Kind::NetworkTls, 1),
        get("there is no such name", "http://nowhere.test".into(), "/", Kind::NetworkDns, 2),
        fault("a server says nothing", "web.send", parts, Kind::NetworkTimeout, 2)
            .rule(format!("http = [{{ url = '{web}/*', addresses = ['127.0.0.1/32'] }}]")),
    ]
}

/// A booking is refused by the service with a status: with a key it is asked for again, where that may help.
async fn statuses(table: &mut Table) {
    for status in [400, 401, 404, 409, 422, 429, 500, 502, 503, 504] {
        for is_keyed in [true, false] {
            if !is_keyed && matches!(status, 500 | 502 | 504) {
                // It may have been done: the run waits for a person, as `doubt.rs` beside this one has it.
                continue;
            }
            let service = Bookings::start();
            service.fail("car", status, u32::MAX);
            let (kind, is_transient) = match status {
                429 => (Kind::NetworkRateLimited, true),
                400..=499 => (Kind::NetworkHttp4xx, false),
                _ => (Kind::NetworkHttp5xx, true),
            };
            let (url, keyed) = (service.url(), if is_keyed { ", keyed = true" } else { "" });
            let attempts = if is_transient && is_keyed { 2 } else { 1 };
            let what = format!("a service answers {status}");
            let row = fault(&what, "bookings.book", json!({"kind": "car", "what": "x"}), kind, attempts)
                .rule(format!(
                    "http = [{{ url = '{url}/*', methods = ['POST'], addresses = ['127.0.0.1/32']{keyed} }}]"
                ))
                .rule(format!("env = {{ BOOKINGS_URL = '{url}' }}"));
            table.make(row).await;
            assert_eq!(service.log().len(), usize::try_from(attempts).unwrap(), "{status} {keyed}");
        }
    }
}

/// Kinds that no run meets, or that need a world of their own: the cause, and the test that makes them.
const ELSEWHERE: &[(Kind, &str, &str, &str)] = &[
    (
        Kind::NetworkCircuitOpen,
        "a server failed five times in a row a moment ago",
        "tests/it/saga.rs",
        "a_service_that_fails_five_times_is_left_alone_and_then_tried_with_one_probe",
    ),
    (
        Kind::PolicyRejected,
        "the person who was asked says no",
        "tests/it/runs.rs",
        "a_rejection_ends_the_run_and_tells_why",
    ),
    (
        Kind::PolicyExpired,
        "nobody answers an approval in time",
        "tests/it/saga.rs",
        "an_approval_that_nobody_gives_is_a_no_and_takes_back_what_was_done",
    ),
    (
        Kind::DataNotFound,
        "there is no run, step or tool of that name",
        "host/src/store/sqlite/tests/upkeep.rs",
        "a_removal_that_died_in_the_middle_is_finished_by_the_next",
    ),
    (
        Kind::DataConflict,
        "the run has ended, or its tools are not those that it began with",
        "tests/it/runs.rs",
        "one_process_at_a_time_drives_a_run",
    ),
    (
        Kind::DataConfig,
        "a line of `cofferdam.toml` or of the policy is wrong",
        "tests/it/notify.rs",
        "a_mistake_is_told_with_its_place_and_without_what_is_written",
    ),
    (Kind::LoadInvalid, "a file is no component, or is damaged", "tests/it/hostile.rs", "c1_damaged_files"),
    (
        Kind::LoadLimit,
        "a component wants more from the start than there may be",
        "tests/it/hostile.rs",
        "b2_memory_starts_too_large",
    ),
    (Kind::LoadAbi, "a component uses what is switched off", "tests/it/hostile.rs", "b3_many_memories"),
    (
        Kind::LoadDenied,
        "a component imports what no host here gives",
        "tests/it/hostile.rs",
        "c8_imports_that_nobody_gives",
    ),
    (
        Kind::LoadPinned,
        "a component is not the one in `cofferdam.lock`",
        "tests/it/contracts.rs",
        "d9_the_library_withholds_as_the_program_does",
    ),
    (
        Kind::HostStorage,
        "the log, or what a tool wrote, cannot be written",
        "tests/it/sandbox.rs",
        "a_commit_is_announced_before_the_file_changes",
    ),
    (
        Kind::HostFull,
        "the disk is nearly full",
        "host/src/store/sqlite/tests/upkeep.rs",
        "a_disk_that_is_nearly_full_takes_no_new_run_and_lets_the_others_end",
    ),
    (
        Kind::HostDiverged,
        "run again after a crash, a call does something else than before",
        "tests/it/journal.rs",
        "a_call_that_does_something_else_than_before_is_stopped",
    ),
    (Kind::HostOwned, "another process drives the run", "tests/it/runs.rs", "one_process_at_a_time_drives_a_run"),
    (
        Kind::HostBusy,
        "another process keeps the files of the log open",
        "host/src/store/sqlite/tests/upkeep.rs",
        "an_erasure_tells_when_another_process_kept_it_from_wiping_the_files",
    ),
    (Kind::HostCancelled, "a person stops the run", "tests/it/sandbox.rs", "whoever_drives_a_call_can_cancel_it"),
    (
        Kind::HostInterrupted,
        "a person says that a step, whose end nobody saw, did not happen",
        "tests/it/saga.rs",
        "a_person_tells_what_became_of_a_booking_that_cannot_be_found",
    ),
    (
        Kind::HostBug,
        "a mistake in Cofferdam",
        "tests/it/state.rs",
        "a_change_is_announced_before_and_a_record_is_not_done_again",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_failure_is_met_and_ends_the_run_as_the_table_says() {
    let mut table = Table::new();
    for fault in guests().into_iter().chain(plans()).chain(network(&table)) {
        table.make(fault).await;
    }
    statuses(&mut table).await;
    models::make(&mut table).await;
    assert!(table.rows >= FAULTS_MIN, "{} faults", table.rows);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (kind, cause, file, test) in ELSEWHERE {
        let text = std::fs::read_to_string(root.join(file)).expect("the file is there");
        let body = text.split_once(&format!("fn {test}(")).map_or("", |(_, after)| after);
        let body = body.split_once("\n}\n").map_or(body, |(body, _)| body);
        assert!(!cause.is_empty() && body.contains(&format!("Kind::{kind:?}")), "{kind}: {file} {test}");
    }
    for kind in Kind::ALL {
        let is_elsewhere = ELSEWHERE.iter().any(|(other, ..)| other == kind);
        assert_ne!(table.seen.contains_key(kind), is_elsewhere, "{kind}: it has one row, here or elsewhere");
    }
    expect_test::expect_file!["../../docs/failures.md"].assert_eq(&page(&table.seen));
}

/// The code that the program ends with: of a run that ends so, or of a command where no run does.
fn exit(kind: Kind, is_of_run: bool) -> u8 {
    match of_kind(kind) {
        // A planner's mistake within a run is not one of the command line.
        Code::USAGE if is_of_run => Code::FAILED.number(),
        code => code.number(),
    }
}

/// What becomes of a run that meets a kind.
fn course(kind: Kind) -> &'static str {
    match kind {
        Kind::ModelInvalidJson | Kind::ModelSchema | Kind::ModelNoAction | Kind::ModelTruncated => {
            "the model is told why, and once more where the reasons are others; then a stronger one, or the run fails"
        }
        Kind::ModelRefusal | Kind::ModelContextOverflow | Kind::ModelLoop => "the run fails",
        Kind::DataPlan | Kind::DataReference => {
            "the plan is refused before its first step, or the step before it starts"
        }
        Kind::DataInput | Kind::DataInputSize | Kind::DataCondition => "the step is rejected before it starts",
        Kind::PolicyDenied | Kind::PolicyRejected | Kind::PolicyExpired => "the step is rejected before it starts",
        Kind::PolicyBudget => "a plan that cannot fit fails; otherwise what is under way ends, and then the run",
        Kind::DataNotFound | Kind::DataConflict | Kind::DataConfig => "no run is begun or changed",
        Kind::LoadInvalid | Kind::LoadLimit | Kind::LoadAbi | Kind::LoadDenied | Kind::LoadPinned => {
            "the component is not loaded; no run is begun"
        }
        Kind::HostFull => "no new run is begun; those under way go on",
        Kind::HostStorage | Kind::HostBug => "the process stops; `resume` goes on from what the log tells",
        Kind::HostOwned | Kind::HostBusy => "nothing changes",
        Kind::HostDiverged => "what became of the step is unknown: its tool is asked, or a person",
        Kind::HostCancelled => "what runs is stopped; with `--undo` what was done is taken back",
        Kind::HostInterrupted => "the step fails",
        Kind::NetworkCircuitOpen => "the step is tried again where that is safe, and then fails",
        _ if kind.code().starts_with("network.") && kind.retry() == Retry::Later => {
            "the step is tried again where that is safe, and then fails; a model's request goes to another one, or again after a while, and then the run fails"
        }
        Kind::NetworkTls | Kind::NetworkHttp4xx => {
            "the step fails; a model's request goes to another one, or the run fails"
        }
        _ if kind.retry() == Retry::Later => "the step is tried again where that is safe, and then fails",
        _ => "the step fails",
    }
}

/// The page for operators, as the table proves it.
fn page(seen: &BTreeMap<Kind, Vec<String>>) -> String {
    let mut page = String::from(PAGE);
    for kind in Kind::ALL {
        let elsewhere = ELSEWHERE.iter().find(|(other, ..)| other == kind).map(|(_, cause, ..)| (*cause).to_owned());
        let causes = elsewhere.unwrap_or_else(|| seen.get(kind).map(|causes| causes.join("; ")).unwrap_or_default());
        let (fault, again) = (format!("{:?}", kind.fault()).to_lowercase(), again(*kind));
        let exit = exit(*kind, seen.contains_key(kind));
        page += &format!("| `{kind}` | {causes} | {} | {fault} | {again} | {exit} |\n", course(*kind));
    }
    page
}

fn again(kind: Kind) -> &'static str {
    match kind.retry() {
        Retry::Never => "never",
        Retry::Later => "later",
        Retry::Changed => "when changed",
    }
}

/// What stands above the table.
const PAGE: &str = "# What can go wrong

Each kind of failure: what causes it, what becomes of the run, whose move it is, whether the same may be tried again, and
the exit code. The table is written by `tests/it/faults.rs`, which makes the faults; it is not edited by hand.

A step that fails decides about its run by `on_failure`; what only looks goes on beside it. A write of which nobody saw the
end is never guessed: a key makes the repeat safe, or the tool is asked what became of it, or the run waits for a person
(exit code 5). A run that could not take something back is stuck (exit code 10). `explain RUN STEP` tells the whole story.

| kind | caused by | what becomes of the run | whose move | again | exit |
|---|---|---|---|---|--:|
";
