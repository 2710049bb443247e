//! Runs over real components: data edges, parallel steps, approvals, failures, resume.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use cofferdam::clock::SystemClock;
use cofferdam::domain::{Event, Fact, Kind, Suspension};
use cofferdam::host::{
    Approve, Choice, Goal, Host, Message, RunHandle, RunReport, RunState, Signal, StartOptions, Wait,
};
use cofferdam::planner::workflow::{Format, WorkflowPlanner};
use cofferdam::policy::Policy;
use cofferdam::store::sqlite::{SqliteLog, SqliteOptions};
use tempfile::TempDir;

use crate::guest::{cache_dir, helper};

/// A host over the example tools, with a log and files of its own.
pub struct World {
    pub dir: TempDir,
    policy: String,
}

const POLICY: &str = r#"
version = 0
[[rule]]
name = "compute"
why = "They touch nothing."
allow = ["text.*", "math.*", "template.*"]

[[rule]]
name = "read-data"
why = "The tests' own files."
allow = ["csv.*"]
files = [{ mount = "/data", path = "data", access = "read" }]
capabilities = ["log", "progress"]

[[rule]]
name = "write-reports"
why = "The tests' own files."
allow = ["notes.*"]
files = [{ mount = "/reports", path = "reports", access = "read_write" }]
capabilities = ["log"]
approval = "ask"
"#;

impl World {
    pub fn new() -> Self {
        Self::with_policy(POLICY)
    }

    pub fn with_policy(policy: &str) -> Self {
        let dir = TempDir::new().expect("a directory for the test");
        for folder in ["data", "reports"] {
            fs::create_dir(dir.path().join(folder)).expect("a folder for the test");
        }
        Self { dir, policy: policy.into() }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A host as a new process would make it: the log is opened anew.
    pub fn host(&self) -> Host {
        let clock = Arc::new(SystemClock::default());
        let log = SqliteLog::open(&self.path().join("state"), SqliteOptions::default(), clock).expect("the log opens");
        let mut builder = Host::builder().event_log(Arc::new(log)).helper(helper()).cache_dir(cache_dir());
        for name in ["csv", "math", "notes", "template", "text"] {
            builder = builder.tool(name, cofferdam_guests::component(name));
        }
        let policy = Policy::parse(&self.policy, self.path()).expect("the policy reads");
        builder.policy(policy).build().expect("the host is made")
    }

    pub fn report(&self) -> String {
        fs::read_to_string(self.path().join("reports/out.txt")).unwrap_or_default()
    }
}

pub fn goal(toml: &str) -> Goal {
    Goal::Workflow(WorkflowPlanner::parse(toml, Format::Toml).expect("the workflow reads"))
}

pub fn approved() -> StartOptions {
    StartOptions { approve: Approve::All { by: "test".into() }, ..StartOptions::default() }
}

async fn finish(handle: RunHandle) -> RunReport {
    handle.finished().await.expect("the run is driven")
}

const FLOW: &str = r#"
workflow = "three"
goal = "Count, add, write."
answer = { "$from" = "sum", path = "" }

[[steps]]
id = "left"
tool = "text.stats"
args = { text = "one two three" }

[[steps]]
id = "right"
tool = "text.stats"
args = { text = "four five" }

[[steps]]
id = "sum"
tool = "math.eval"
args = { expression = "3 + 2" }

[[steps]]
id = "write"
tool = "notes.write"
needs = ["left", "right"]
args = { path = "/reports/out.txt", text = { "$from" = "sum", path = "" } }
"#;

fn statuses(report: &RunReport) -> Vec<String> {
    report.steps.iter().map(|step| format!("{} {}", step.step, step.status)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_runs_to_its_answer_and_its_log_verifies() {
    let world = World::new();
    let host = world.host();
    let report = finish(host.start(goal(FLOW), approved()).await.unwrap()).await;
    assert_eq!(report.state, RunState::Succeeded, "{report:#?}");
    assert_eq!(
        statuses(&report),
        ["t1.left succeeded", "t1.right succeeded", "t1.sum succeeded", "t1.write succeeded"]
    );
    assert_eq!(report.answer, Some("5".into()));
    assert_eq!(world.report(), "5");
    assert!(report.caveats.is_empty());
    let verified = host.verify(&report.run).await.unwrap();
    assert_eq!(verified.events, host.events(&report.run).await.unwrap().len() as u64);
    let usage = report.steps[0].usage.clone().unwrap();
    assert!(usage.fuel > 0 && usage.memory_bytes_peak > 0);
}

/// The events of a run, as one word each.
fn words(events: &[Event]) -> Vec<&'static str> {
    let word = |event: &Event| match &event.fact {
        Fact::RunCreated { .. } => "created",
        Fact::PlanRequested { .. } => "asked",
        Fact::PlanAccepted { .. } => "planned",
        Fact::StepReady { .. } => "ready",
        Fact::ApprovalRequested { .. } => "approval?",
        Fact::ApprovalDecided { .. } => "approval!",
        Fact::StepStarted { .. } => "started",
        Fact::WriteBegun { .. } => "write",
        Fact::StepEnded { .. } => "ended",
        Fact::RunSuspended { .. } => "suspended",
        Fact::RunClaimed { .. } => "claimed",
        Fact::Answered { .. } => "answered",
        Fact::RunEnded { .. } => "END",
        _ => "other",
    };
    events.iter().map(word).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_approval_is_left_suspended_and_another_process_goes_on() {
    let world = World::new();
    let host = world.host();
    let report = finish(host.start(goal(FLOW), StartOptions::default()).await.unwrap()).await;
    assert_eq!(report.state, RunState::Suspended(Suspension::Approval));
    assert_eq!(world.report(), "", "nothing was written before a person approved");
    let pending = &report.approvals[0];
    assert_eq!((pending.tool.to_string().as_str(), pending.rule.as_str()), ("notes.write", "write-reports"));
    assert_eq!(pending.args["text"], "5");
    let decide = |binding| Message::Decide {
        step: pending.step.clone(),
        binding,
        choice: Choice::Approve,
        by: "ann".into(),
        reason: None,
    };
    // A decision about something else is refused, and changes nothing.
    let forged = host
        .send(
            &report.run,
            decide(
                report.steps[0]
                    .step
                    .as_str()
                    .bytes()
                    .map(|_| 7)
                    .fold(pending.binding, |_, b| cofferdam::domain::Digest::of(&[b])),
            ),
        )
        .await;
    assert_eq!(forged.unwrap_err().kind, Kind::DataConflict);
    drop(host);

    let other = world.host();
    other.send(&report.run, decide(pending.binding)).await.unwrap();
    let resumed = finish(other.resume(&report.run, StartOptions::default()).await.unwrap()).await;
    assert_eq!(resumed.state, RunState::Succeeded, "{resumed:#?}");
    assert_eq!(world.report(), "5");
    let words = words(&other.events(&report.run).await.unwrap());
    assert_eq!(words.iter().filter(|word| **word == "started").count(), 4, "{words:?}");
    assert_eq!(
        &words[words.len() - 9..],
        ["claimed", "approval?", "approval!", "started", "write", "ended", "answered", "END"]
            .iter()
            .fold(vec!["suspended"], |mut all, w| {
                all.push(w);
                all
            })
            .as_slice()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_ends_the_run_and_tells_why() {
    let world = World::new();
    let host = world.host();
    let options = StartOptions { wait: Wait::Forever, ..StartOptions::default() };
    let mut handle = host.start(goal(FLOW), options).await.unwrap();
    let run = handle.run().clone();
    while let Some(signal) = handle.signal().await {
        if let Signal::ApprovalWanted(wanted) = signal {
            let (step, binding) = (wanted.step, wanted.binding);
            let message = Message::Decide {
                step,
                binding,
                choice: Choice::Reject,
                by: "ann".into(),
                reason: Some("not today".into()),
            };
            host.send(&run, message).await.unwrap();
        }
    }
    let report = finish(handle).await;
    assert_eq!(report.state, RunState::Failed);
    let failure = report.failure.unwrap();
    assert_eq!(failure.kind, Kind::PolicyRejected);
    assert!(failure.message.contains("ann rejected it: not today"), "{failure}");
    assert_eq!(world.report(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_cannot_run_fails_before_its_first_step_and_names_every_flaw() {
    let world = World::new();
    let host = world.host();
    let flow = r#"
workflow = "wrong"
goal = "x"
[[steps]]
id = "a"
tool = "text.stat"
args = { text = "x" }
[[steps]]
id = "b"
tool = "math.eval"
args = { expression = { "$from" = "c", path = "/words" }, precision = 3 }
[[steps]]
id = "c"
tool = "text.stats"
args = { text = { "$from" = "b", path = "/no" } }
"#;
    let report = finish(host.start(goal(flow), approved()).await.unwrap()).await;
    assert_eq!(report.state, RunState::Failed);
    let message = report.failure.unwrap().message;
    for expected in ["did you mean `text.stats`", "/steps/1/args/precision", "wait for each other: b, c"] {
        assert!(message.contains(expected), "{expected} in {message}");
    }
    assert!(report.steps.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_spreads_along_data_edges_only() {
    let world = World::new();
    let host = world.host();
    let flow = r#"
workflow = "partly"
goal = "x"
[[steps]]
id = "bad"
tool = "math.eval"
args = { expression = "1 / 0" }
on_failure = "skip"
[[steps]]
id = "after"
tool = "text.stats"
args = { text = { "$from" = "bad", path = "" } }
[[steps]]
id = "good"
tool = "text.stats"
args = { text = "x" }
"#;
    let report = finish(host.start(goal(flow), approved()).await.unwrap()).await;
    assert_eq!(report.state, RunState::Succeeded, "{report:#?}");
    assert_eq!(statuses(&report), ["t1.bad failed", "t1.after skipped", "t1.good succeeded"]);
    assert_eq!(report.caveats.iter().map(|caveat| caveat.step.local()).collect::<Vec<_>>(), ["bad", "after"]);
    let failure = report.steps[0].failure.clone().unwrap();
    assert_eq!(failure.kind, Kind::ToolDeclared);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_leads_nowhere_hides_nothing_of_what_was_skipped() {
    let world = World::new();
    let host = world.host();
    let flow = r#"
workflow = "nowhere"
goal = "x"
answer = { "$from" = "bad" }
[[steps]]
id = "bad"
tool = "math.eval"
args = { expression = "1 / 0" }
on_failure = "skip"
[[steps]]
id = "after"
tool = "text.stats"
args = { text = { "$from" = "bad", path = "" } }
"#;
    let report = finish(host.start(goal(flow), approved()).await.unwrap()).await;
    assert_eq!(report.state, RunState::Failed, "{report:#?}");
    assert_eq!(report.failure.as_ref().map(|failure| failure.kind), Some(Kind::DataReference));
    assert_eq!(report.caveats.iter().map(|caveat| caveat.step.local()).collect::<Vec<_>>(), ["bad", "after"]);
    let replayed = host.replay(&report.run, &BTreeMap::new()).await.unwrap();
    assert!(replayed.is_same(), "{replayed:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_can_be_cancelled_while_a_person_is_asked() {
    let world = World::new();
    let host = world.host();
    let options = StartOptions { wait: Wait::Forever, ..StartOptions::default() };
    let mut handle = host.start(goal(FLOW), options).await.unwrap();
    while let Some(signal) = handle.signal().await {
        if let Signal::ApprovalWanted(_) = signal {
            handle.cancel("ann").await.unwrap();
        }
    }
    let report = finish(handle).await;
    assert_eq!(report.state, RunState::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_at_a_time_drives_a_run() {
    let world = World::new();
    let host = world.host();
    let options = StartOptions { wait: Wait::Forever, ..StartOptions::default() };
    let mut handle = host.start(goal(FLOW), options).await.unwrap();
    let run = handle.run().clone();
    while let Some(signal) = handle.signal().await {
        if let Signal::ApprovalWanted(_) = signal {
            let other = world.host();
            let refused = other.resume(&run, approved()).await.unwrap().finished().await.unwrap_err();
            assert_eq!(refused.kind, Kind::HostOwned);
            assert!(refused.message.contains("process"), "{refused}");
            let drift = other.drift(&run).await.unwrap();
            assert!(drift.owner.as_deref().is_some_and(|owner| refused.message.contains(owner)), "{drift:?}");
            assert!(!drift.goes_on());
            handle.cancel("test").await.unwrap();
        }
    }
    assert_eq!(finish(handle).await.state, RunState::Cancelled);
    let ended = host.resume(&run, approved()).await.unwrap().finished().await.unwrap_err();
    assert_eq!(ended.kind, Kind::DataConflict);
    assert_eq!(host.drift(&run).await.unwrap_err().kind, Kind::DataConflict);
}

/// The same write twice, beside the same reading twice.
const AGAIN: &str = r#"
workflow = "again"
goal = "Write it twice."

[[steps]]
id = "look"
tool = "text.stats"
args = { text = "one" }

[[steps]]
id = "look-again"
tool = "text.stats"
args = { text = "one" }

[[steps]]
id = "write"
tool = "notes.append"
args = { path = "/reports/out.txt", line = "said" }

[[steps]]
id = "write-again"
tool = "notes.append"
args = { path = "/reports/out.txt", line = "said" }
needs = ["write"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_same_write_twice_is_made_twice_and_whoever_approves_is_told() {
    let world = World::new();
    let host = world.host();
    let approve = Approve::Steps { steps: ["write".to_owned()].into(), by: "test".into() };
    let handle = host.start(goal(AGAIN), StartOptions { approve, ..StartOptions::default() }).await.unwrap();
    let run = handle.run().clone();
    let report = finish(handle).await;
    let asked: Vec<_> = report.approvals.iter().map(|view| (view.step.local(), view.duplicate_of.clone())).collect();
    let first = report.steps.iter().find(|step| step.step.local() == "write").map(|step| step.step.clone());
    assert_eq!(asked, [("write-again", first.clone())]);
    let report = finish(host.resume(&run, approved()).await.unwrap()).await;
    assert_eq!(report.state, RunState::Succeeded);
    assert_eq!(world.report(), "said\nsaid\n");
    let told: Vec<_> = report.steps.iter().filter_map(|step| step.duplicate_of.clone()).collect();
    assert_eq!(told, [first.unwrap()], "what changes nothing may be repeated");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_a_run_goes_on_another_policy_is_told_and_then_decides() {
    let mut world = World::new();
    let host = world.host();
    let handle = host.start(goal(FLOW), StartOptions::default()).await.unwrap();
    let run = handle.run().clone();
    assert_eq!(finish(handle).await.state, RunState::Suspended(Suspension::Approval));
    let drift = host.drift(&run).await.unwrap();
    assert!(drift.goes_on() && !drift.has_other_policy && !drift.has_other_tools, "{drift:?}");
    assert_eq!((drift.planner, drift.within.len()), (None, 0));
    drop(host);

    // Nobody may write any more: told beforehand, and the call is denied though a person approves it.
    world.policy = POLICY.replace("allow = [\"notes.*\"]", "allow = [\"notes.list\"]");
    let host = world.host();
    let drift = host.drift(&run).await.unwrap();
    assert!(drift.goes_on() && drift.has_other_policy && drift.tools.is_empty(), "{drift:?}");
    assert_eq!(host.drift(&run).await.unwrap(), drift, "nothing is done");
    let report = finish(host.resume(&run, approved()).await.unwrap()).await;
    assert_eq!(report.state, RunState::Failed);
    assert_eq!(world.report(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_call_is_one_event_of_its_session() {
    let world = World::new();
    let host = world.host();
    let report = host.call("text.stats", serde_json::json!({"text": "one two"})).await.unwrap();
    assert_eq!(report.outcome.result.unwrap()["words"], 2);
    let refused =
        host.call("notes.write", serde_json::json!({"path": "/reports/out.txt", "text": "x"})).await.unwrap_err();
    assert_eq!(refused.kind, Kind::PolicyDenied);
    let wrong = host.call("text.stats", serde_json::json!({"txt": 3})).await.unwrap_err();
    assert_eq!(wrong.kind, Kind::DataInput);
    host.close().await.unwrap();
    let sessions = host.runs(10).await.unwrap();
    assert_eq!(sessions.len(), 1);
    let events = host.events(&sessions[0].run).await.unwrap();
    assert!(matches!(events[0].fact, Fact::SessionStarted { .. }));
    assert!(matches!(events[1].fact, Fact::Called { .. }));
    assert_eq!(events.len(), 2);
}

#[test]
fn inputs_of_a_workflow_are_set_by_name() {
    let flow = "workflow='w'\ngoal='g'\n[inputs]\nname='x'\n[[steps]]\nid='a'\ntool='text.stats'\nargs={text={'$input'='name'}}";
    let planner = WorkflowPlanner::parse(flow, Format::Toml).unwrap();
    let set = planner.with_inputs(BTreeMap::from([("name".into(), "y".into())])).unwrap();
    assert_eq!(set.proposed().unwrap().steps[0].args["text"], "y");
}
