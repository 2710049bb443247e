//! A run is killed (`SIGKILL`) before and after every append, before and after every call, and around the moment at
//! which a call begins to write; then another process goes on. The ledger is a file outside the run: a line stands there
//! for each time that a step truly wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use cofferdam::clock::SystemClock;
use cofferdam::domain::{
    Digest, Event, Fact, Failure, HostCallRecord, JournalEntry, Json, Kind, Outcome, Principal, RunId, Seq, StateOp,
    StateQuota, StateReply, StateScope, StateSpace, StepEnd, StepId, Suspension, Timestamp,
};
use cofferdam::host::{Host, Message, RunReport, RunState, Settle};
use cofferdam::policy::{Call, Policy};
use cofferdam::registry::VerifiedTool;
use cofferdam::sandbox::{Begin, CallLink, HostCall, HostCallEnd, Runner, WasmRunner};
use cofferdam::store::sqlite::{SqliteLog, SqliteOptions};
use cofferdam::store::{
    Batch, CachedOutcome, Claim, Durability, EventLog, HostCalls, KeyedOutcomes, LiveProgress, Message as Sent,
    OutcomeCache, Ownership, Pruned, Received, RunEntry, StepProgress, StoredBytes, Upkeep, Verified, Workspaces,
};

use crate::guest::pause;
use crate::runs::{World, approved, goal};

/// What a child process is told, by variables of its environment.
const POINT: &str = "COFFERDAM_TEST_CRASH_POINT";
const FOLDER: &str = "COFFERDAM_TEST_CRASH_FOLDER";

/// Writes the points that it passed here, if it lives.
const COUNT_FILE: &str = "points";

const POLICY: &str = r#"
version = 0
[[rule]]
name = "compute"
why = "It touches nothing."
allow = ["text.*"]
[[rule]]
name = "write"
why = "The ledger and the report of the test."
allow = ["notes.*"]
files = [{ mount = "/reports", path = "reports", access = "read_write" }]
capabilities = ["log"]
approval = "none"
[[rule]]
name = "hang"
why = "It writes and never returns."
allow = ["probe.*"]
files = [{ mount = "/reports", path = "reports", access = "read_write" }]
capabilities = ["log", "progress", "clock", "random"]
approval = "none"
[rule.limits]
wall_ms_max = 5000
"#;

const FLOW: &str = r#"
workflow = "ledger"
goal = "Write three lines and a report."
[[steps]]
id = "count"
tool = "text.keywords"
args = { text = "sea sea wall", limit = 2 }
[[steps]]
id = "first"
tool = "notes.append"
args = { path = "/reports/ledger.txt", line = "first" }
[[steps]]
id = "second"
tool = "notes.append"
args = { path = "/reports/ledger.txt", line = "second" }
[[steps]]
id = "third"
tool = "notes.append"
needs = ["count"]
args = { path = "/reports/ledger.txt", line = { "$from" = "count", path = "/0/word" } }
[[steps]]
id = "report"
tool = "notes.write"
needs = ["first", "second", "third"]
args = { path = "/reports/out.txt", text = { "$from" = "count", path = "/1/word" } }
"#;

const HANG: &str = r#"
workflow = "hang"
goal = "Write a line, and never return."
[[steps]]
id = "hang"
tool = "probe.files-then"
args = { steps = [{ verb = "write", path = "/reports/ledger.txt", text = "half" }], end = "sleep" }
"#;

const LEDGER: [&str; 3] = ["first", "second", "sea"];

/// Dies at the n-th point that it passes; counts on where n is 0.
#[derive(Default)]
struct Crash(AtomicI64);

impl Crash {
    fn point(&self) {
        if self.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            let me = rustix::process::getpid();
            rustix::process::kill_process(me, rustix::process::Signal::KILL).expect("a process may kill itself");
            loop {
                std::thread::park();
            }
        }
    }
}

struct CrashingLog(SqliteLog, Arc<Crash>);

#[async_trait]
impl EventLog for CrashingLog {
    async fn create(
        &self,
        run: &RunId,
        principal: &Principal,
        owner: &str,
        at: Timestamp,
    ) -> Result<Box<dyn Ownership>, Failure> {
        self.1.point();
        self.0.create(run, principal, owner, at).await
    }
    async fn own(&self, run: &RunId, owner: &str) -> Result<Box<dyn Ownership>, Failure> {
        self.0.own(run, owner).await
    }
    async fn append(&self, owner: &dyn Ownership, batch: Batch, durability: Durability) -> Result<Vec<Event>, Failure> {
        self.1.point();
        let events = self.0.append(owner, batch, durability).await;
        self.1.point();
        events
    }
    async fn read(&self, run: &RunId, after: Seq) -> Result<Vec<Event>, Failure> {
        self.0.read(run, after).await
    }
    async fn payload(&self, run: &RunId, digest: &Digest) -> Result<Option<Vec<u8>>, Failure> {
        self.0.payload(run, digest).await
    }
    async fn runs(&self, runs_max: usize) -> Result<Vec<RunEntry>, Failure> {
        self.0.runs(runs_max).await
    }
    async fn send(&self, run: &RunId, message: &Sent) -> Result<(), Failure> {
        self.0.send(run, message).await
    }
    async fn inbox(&self, run: &RunId) -> Result<Vec<Received>, Failure> {
        self.0.inbox(run).await
    }
    async fn received(&self, owner: &dyn Ownership, ids: &[u64]) -> Result<(), Failure> {
        self.0.received(owner, ids).await
    }
    async fn verify(&self, run: &RunId) -> Result<Verified, Failure> {
        self.0.verify(run).await
    }
    async fn flush(&self) -> Result<(), Failure> {
        self.0.flush().await
    }
}

#[async_trait]
impl HostCalls for CrashingLog {
    async fn write_journal(
        &self,
        owner: &dyn Ownership,
        step: &StepId,
        attempt: u32,
        entries: Vec<JournalEntry>,
        durability: Durability,
    ) -> Result<(), Failure> {
        self.1.point();
        let written = self.0.write_journal(owner, step, attempt, entries, durability).await;
        self.1.point();
        written
    }
    async fn journal(&self, run: &RunId, step: &StepId, attempt: u32) -> Result<Vec<HostCallRecord>, Failure> {
        self.0.journal(run, step, attempt).await
    }
}

#[async_trait]
impl KeyedOutcomes for CrashingLog {
    async fn claim_key(
        &self,
        principal: &Principal,
        key: &str,
        request: &Digest,
        run: &RunId,
        at: Timestamp,
    ) -> Result<Claim, Failure> {
        self.0.claim_key(principal, key, request, run, at).await
    }
    async fn settle_key(&self, principal: &Principal, key: &str, outcome: Option<Vec<u8>>) -> Result<(), Failure> {
        self.0.settle_key(principal, key, outcome).await
    }
}

#[async_trait]
impl OutcomeCache for CrashingLog {
    async fn cached(&self, principal: &Principal, key: &Digest) -> Result<Option<CachedOutcome>, Failure> {
        self.0.cached(principal, key).await
    }
    async fn keep_cached(&self, principal: &Principal, key: &Digest, outcome: CachedOutcome) -> Result<(), Failure> {
        self.0.keep_cached(principal, key, outcome).await
    }
}

#[async_trait]
impl Workspaces for CrashingLog {
    async fn state(&self, space: &StateSpace, op: StateOp, quota: &StateQuota) -> Result<StateReply, Failure> {
        self.0.state(space, op, quota).await
    }
}

#[async_trait]
impl LiveProgress for CrashingLog {
    fn note_progress(&self, owner: &dyn Ownership, progress: StepProgress) {
        self.0.note_progress(owner, progress);
    }
    async fn progress(&self, run: &RunId) -> Result<Vec<StepProgress>, Failure> {
        self.0.progress(run).await
    }
}

#[async_trait]
impl Upkeep for CrashingLog {
    async fn backup(&self, to: &Path) -> Result<(), Failure> {
        self.0.backup(to).await
    }
    async fn prune(&self, before: Timestamp) -> Result<Pruned, Failure> {
        self.0.prune(before).await
    }
    async fn erase(&self, principal: &Principal) -> Result<Pruned, Failure> {
        self.0.erase(principal).await
    }
    async fn stored(&self) -> Result<StoredBytes, Failure> {
        self.0.stored().await
    }
}

struct CrashingRunner(WasmRunner, Arc<Crash>);

#[async_trait]
impl Runner for CrashingRunner {
    async fn prepare(&self, tool: &VerifiedTool) -> Result<(), Failure> {
        self.0.prepare(tool).await
    }
    async fn run(&self, call: Call, link: Arc<dyn CallLink>) -> Outcome {
        self.1.point();
        let outcome = self.0.run(call, Arc::new(CrashingLink(link, self.1.clone()))).await;
        self.1.point();
        outcome
    }
}

struct CrashingLink(Arc<dyn CallLink>, Arc<Crash>);

#[async_trait]
impl CallLink for CrashingLink {
    fn records(&self) -> bool {
        self.0.records()
    }
    fn peek(&self, n: u32) -> Option<HostCallRecord> {
        self.0.peek(n)
    }
    async fn begin(&self, call: &HostCall) -> Result<Begin, Failure> {
        self.1.point();
        let begin = self.0.begin(call).await;
        // In the log; the file is not touched yet.
        self.1.point();
        begin
    }
    async fn done(&self, call: &HostCall, end: HostCallEnd) -> Result<(), Failure> {
        self.0.done(call, end).await
    }
    async fn state(&self, scope: StateScope, op: StateOp) -> Result<StateReply, Failure> {
        self.0.state(scope, op).await
    }
    fn progress(&self, fraction: Option<f64>, message: &str) {
        self.0.progress(fraction, message);
    }
    async fn cancelled(&self) {
        self.0.cancelled().await;
    }
}

fn runner() -> WasmRunner {
    crate::guest::new_runner()
}

fn host(folder: &Path, log: Arc<dyn EventLog>, runner: Arc<dyn Runner>) -> Host {
    let policy = Policy::parse(POLICY, folder).expect("the policy reads");
    let mut builder = Host::builder().event_log(log).runner(runner).policy(policy);
    for name in ["notes", "probe", "text"] {
        builder = builder.tool(name, cofferdam_guests::component(name));
    }
    builder.build().expect("the host is made")
}

fn open(folder: &Path) -> SqliteLog {
    SqliteLog::open(&folder.join("state"), SqliteOptions::default(), Arc::new(SystemClock::default()))
        .expect("the log opens")
}

/// Not a test of its own: the process that is killed. The tests below start it.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the parent speaks to its child by the environment")]
async fn crash_child() {
    let (Ok(folder), Ok(point)) = (std::env::var(FOLDER), std::env::var(POINT)) else { return };
    let folder = Path::new(&folder);
    let crash = Arc::new(Crash(AtomicI64::new(point.parse().expect("a number"))));
    let log = Arc::new(CrashingLog(open(folder), crash.clone()));
    let host = host(folder, log, Arc::new(CrashingRunner(runner(), crash.clone())));
    let report = host.start(goal(FLOW), approved()).await.unwrap().finished().await.unwrap();
    assert_eq!(report.state, RunState::Succeeded, "{report:#?}");
    fs::write(folder.join(COUNT_FILE), (-crash.0.load(Ordering::SeqCst)).to_string()).unwrap();
}

fn child(folder: &Path, point: i64) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().expect("this test has a file"));
    command.args(["crash::crash_child", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, folder).env(POINT, point.to_string());
    command.output().expect("the child starts").status
}

/// Where calls stage what they write to the reports.
fn staging(folder: &Path) -> PathBuf {
    folder.join("reports/.cofferdam-staging")
}

fn ledger(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("reports/ledger.txt")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// What a person does who finds a step of unknown end: looks whether it happened, and says so.
fn settlement(folder: &Path, report: &RunReport, step: &StepId) -> Settle {
    let told = report.steps.iter().find(|told| told.step == *step).expect("the step is told");
    let args = told.args.as_ref().expect("its arguments are kept");
    let has_happened = match args.get("line").and_then(Json::as_str) {
        Some(line) => ledger(folder).iter().any(|written| written == line),
        // Writing the whole report again changes nothing.
        None => false,
    };
    if has_happened { Settle::Done { output: "null".into() } } else { Settle::Retry }
}

/// Goes on until the run ends; returns how often a person had to settle a step.
async fn go_on(folder: &Path, host: &Host) -> usize {
    let Some(run) = host.runs(1).await.unwrap().first().map(|report| report.run.clone()) else {
        // Killed before the run was in the log: nothing had happened, and the goal is started anew.
        assert_eq!(ledger(folder), Vec::<String>::new());
        let report = host.start(goal(FLOW), approved()).await.unwrap().finished().await.unwrap();
        assert_eq!(report.state, RunState::Succeeded);
        return 0;
    };
    if host.show(&run).await.unwrap().state == RunState::Succeeded {
        return 0;
    }
    if host.events(&run).await.unwrap().is_empty() {
        assert_eq!(ledger(folder), Vec::<String>::new());
        let report = host.start(goal(FLOW), approved()).await.unwrap().finished().await.unwrap();
        assert_eq!(report.state, RunState::Succeeded);
        return 0;
    }
    let mut settled = 0;
    loop {
        let report = host.resume(&run, approved()).await.unwrap().finished().await.unwrap();
        match report.state {
            RunState::Succeeded => return settled,
            RunState::Suspended(Suspension::Reconcile) => {
                let [step] = &report.unknown[..] else { panic!("one step is unknown: {report:#?}") };
                let settle = settlement(folder, &report, step);
                host.send(&run, Message::Settle { step: step.clone(), settle, by: "test".into() }).await.unwrap();
                settled += 1;
            }
            state => panic!("{state:?}: {report:#?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_at_any_point_goes_on_and_writes_each_line_once() {
    let whole = World::with_policy(POLICY);
    assert!(child(whole.path(), 0).success());
    let points: i64 = fs::read_to_string(whole.path().join(COUNT_FILE)).unwrap().parse().unwrap();
    let (report, lines) = (whole.report(), ledger(whole.path()));
    assert_eq!((report.as_str(), lines.len()), ("wall", LEDGER.len()));
    assert!(points >= 30, "only {points} points");

    let sandbox: Arc<WasmRunner> = Arc::new(runner());
    let mut settled = 0;
    for point in 1..=points {
        let world = World::with_policy(POLICY);
        let folder = world.path();
        let status = child(folder, point);
        assert!(!status.success(), "point {point} was passed");
        let host = host(folder, Arc::new(open(folder)), sandbox.clone());
        settled += go_on(folder, &host).await;
        let mut lines = ledger(folder);
        lines.sort();
        let mut expected = LEDGER;
        expected.sort_unstable();
        assert_eq!(lines, expected, "point {point}: each line once");
        assert_eq!(world.report(), report, "point {point}: the same report");
        assert!(!staging(folder).exists(), "point {point}: what the dead process staged is removed");
        let run = host.runs(1).await.unwrap()[0].run.clone();
        host.verify(&run).await.unwrap_or_else(|e| panic!("point {point}: {e}"));
    }
    // Each of the four writing steps has four points between its write in the log and its end there; points of the pure
    // step beside them fall into these stretches too, sometimes.
    println!("killed at {points} points; a person settled {settled} steps");
    assert!((4..=24).contains(&settled), "{settled} settled");
}

/// Not a test of its own: the process that is killed while its call has written and does not return.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the parent speaks to its child by the environment")]
async fn hanging_child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = Path::new(&folder);
    let host = host(folder, Arc::new(open(folder)), Arc::new(runner()));
    host.start(goal(HANG), approved()).await.unwrap().finished().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_has_written_and_not_returned_leaves_nothing_to_settle() {
    let world = World::with_policy(POLICY);
    let folder = world.path();
    let mut command = Command::new(std::env::current_exe().expect("this test has a file"));
    command.args(["crash::hanging_child", "--exact", "--test-threads=1"]).env(FOLDER, folder).stdout(Stdio::null());
    let mut child = command.spawn().expect("the child starts");
    // As long as the child may need to compile the tools.
    for _ in 0..6_000 {
        if staging(folder).exists() || child.try_wait().expect("it can be asked").is_some() {
            break;
        }
        pause(10).await;
    }
    child.kill().expect("it still runs");
    child.wait().expect("it ends");
    assert!(staging(folder).exists(), "it was killed with its work in hand");
    assert_eq!(ledger(folder), Vec::<String>::new());

    let host = host(folder, Arc::new(open(folder)), Arc::new(runner()));
    let run = host.runs(1).await.unwrap()[0].run.clone();
    // Run again, the call meets its deadline: that is its end, as it had not begun to change anything.
    let report = host.resume(&run, approved()).await.unwrap().finished().await.unwrap();
    assert_eq!((report.state, report.unknown.len()), (RunState::Failed, 0));
    let facts: Vec<Fact> = host.events(&run).await.unwrap().into_iter().map(|event| event.fact).collect();
    assert!(facts.iter().any(|fact| matches!(fact, Fact::StepInterrupted { .. })), "{facts:#?}");
    let is_late =
        |fact: &Fact| matches!(fact, Fact::StepEnded { end: StepEnd::Failed { kind: Kind::ToolDeadline, .. }, .. });
    assert!(facts.iter().any(is_late), "{facts:#?}");
    assert!(!facts.iter().any(|fact| matches!(fact, Fact::WriteBegun { .. })), "{facts:#?}");
    assert_eq!(ledger(folder), Vec::<String>::new());
    assert!(!staging(folder).exists());
}

const REPLACE: &str = r#"
workflow = "replace"
goal = "Replace a note, and take that back."
[[steps]]
id = "write"
tool = "notes.write"
args = { path = "/reports/note.md", text = "new" }
[[steps]]
id = "fails"
tool = "notes.read"
needs = ["write"]
args = { path = "/reports/none.md" }
on_failure = "undo"
"#;

/// Dies when a call has committed what it wrote, before anybody hears of it.
struct MortalRunner(WasmRunner);

#[async_trait]
impl Runner for MortalRunner {
    async fn prepare(&self, tool: &VerifiedTool) -> Result<(), Failure> {
        self.0.prepare(tool).await
    }
    async fn run(&self, call: Call, link: Arc<dyn CallLink>) -> Outcome {
        let outcome = self.0.run(call, link).await;
        assert!(outcome.has_written, "{outcome:?}");
        Crash(AtomicI64::new(1)).point();
        outcome
    }
}

/// Not a test of its own: the process that is killed between a commit and the end of its step.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the parent speaks to its child by the environment")]
async fn replacing_child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = Path::new(&folder);
    let host = host(folder, Arc::new(open(folder)), Arc::new(MortalRunner(runner())));
    host.start(goal(REPLACE), approved()).await.unwrap().finished().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_step_replaced_is_put_back_though_its_process_died_after_the_commit() {
    let world = World::with_policy(POLICY);
    let (folder, note) = (world.path(), world.path().join("reports/note.md"));
    fs::write(&note, "old").unwrap();
    let mut command = Command::new(std::env::current_exe().expect("this test has a file"));
    command.args(["crash::replacing_child", "--exact", "--test-threads=1"]).env(FOLDER, folder);
    assert!(!command.output().expect("the child starts").status.success());
    assert_eq!(fs::read_to_string(&note).unwrap(), "new", "the commit was done");

    let host = host(folder, Arc::new(open(folder)), Arc::new(runner()));
    let run = host.runs(1).await.unwrap()[0].run.clone();
    let report = host.resume(&run, approved()).await.unwrap().finished().await.unwrap();
    assert_eq!((report.state, report.unknown.len()), (RunState::Failed, 0), "{report:#?}");
    let facts: Vec<Fact> = host.events(&run).await.unwrap().into_iter().map(|event| event.fact).collect();
    assert!(facts.iter().any(|fact| matches!(fact, Fact::StepInterrupted { .. })), "{facts:#?}");
    assert_eq!(fs::read_to_string(&note).unwrap(), "old", "{facts:#?}");
}
