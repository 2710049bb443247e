//! What steps of whole runs cost, beside the commits that the disk allows, in one run. All with full sync.
//!
//! `steps`: sixteen runs at one time through the public face of a host, each of a hundred calls of a real component: planned,
//! checked, allowed, run in an instance of their own, recorded. No two calls are the same, so that none is answered from the
//! cache. `plain_commits`: one connection that commits one row at a time. Sixteen runs that each waited for the disk at each
//! step, and for nothing else, would do sixteen steps for each commit: `steps_over_commits` is the share of that.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use cofferdam::clock::SystemClock;
use cofferdam::host::{Goal, Helper, Host, RunState, StartOptions};
use cofferdam::planner::workflow::{Format, WorkflowPlanner};
use cofferdam::policy::Policy;
use cofferdam::store::sqlite::{SqliteLog, SqliteOptions};
use rusqlite::Connection;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Runs at one time.
const RUNS: usize = 16;

/// The least that the runs may bring, as a share of what as many runs that wait for nothing but the disk would.
const STEPS_OVER_COMMITS_MIN: f64 = 0.5;

const POLICY: &str = "version = 0\n[[rule]]\nname = 'compute'\nwhy = 'It touches nothing.'\nallow = ['math.*']\n";

fn main() {
    // Under `cargo test` each is done once, small: that it works.
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let (rounds, steps, commits) = if is_bench { (4, 100, 400) } else { (1, 2, 2) };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the bench");
    let host = host(folder.path());
    let runtime = Runtime::new().expect("a runtime");
    // The component is compiled by the first call.
    runtime.block_on(runs(&host, 0, 1, 1));
    let before = plain_commits(folder.path(), "before", commits);
    let start = now();
    for round in 1..=rounds {
        runtime.block_on(runs(&host, round, RUNS, steps));
    }
    let took = start.elapsed();
    let after = plain_commits(folder.path(), "after", commits);
    let plain = f64::midpoint(before, after);
    let done = (rounds * RUNS * steps) as f64 / took.as_secs_f64();
    println!("steps = {done:.0} steps/s, {RUNS} runs of {steps} at one time (bound none)");
    println!("plain_commits = {plain:.0} commits/s of one row ({before:.0} before, {after:.0} after; bound none)");
    let share = done / (plain * RUNS as f64);
    println!("steps_over_commits = {share:.2} (bound at least {STEPS_OVER_COMMITS_MIN})");
    runtime.block_on(host.close()).expect("the log is written");
}

fn host(folder: &Path) -> Host {
    let clock = Arc::new(SystemClock::default());
    let log = SqliteLog::open(&folder.join("state"), SqliteOptions::default(), clock).expect("the log opens");
    let policy = Policy::parse(POLICY, folder).expect("the policy reads");
    let helper = Helper::Path(env!("CARGO_BIN_EXE_cofferdam").into());
    let builder = Host::builder().event_log(Arc::new(log)).policy(policy).helper(helper);
    builder.tool("math", cofferdam_guests::component("math")).build().expect("the host is made")
}

/// Starts so many runs at once, and waits until all have succeeded.
async fn runs(host: &Host, round: usize, count: usize, steps: usize) {
    let mut driven = JoinSet::new();
    for run in 0..count {
        let handle = host.start(workflow(round, run, steps), StartOptions::default()).await.expect("it starts");
        driven.spawn(handle.finished());
    }
    while let Some(report) = driven.join_next().await {
        let report = report.expect("it is driven").expect("the log is written");
        assert_eq!(report.state, RunState::Succeeded, "{:?}", report.failure);
    }
}

fn workflow(round: usize, run: usize, steps: usize) -> Goal {
    let steps: Vec<_> = (0..steps)
        .map(|step| {
            let expression = format!("{round} * 1000000 + {run} * 1000 + {step}");
            json!({"id": format!("s{step}"), "tool": "math.eval", "args": {"expression": expression}})
        })
        .collect();
    let text = json!({"workflow": "trivial", "goal": "Add.", "steps": steps}).to_string();
    Goal::Workflow(WorkflowPlanner::parse(&text, Format::Json).expect("the workflow reads"))
}

/// Returns how many commits of one row a second one connection makes.
fn plain_commits(folder: &Path, name: &str, commits: u64) -> f64 {
    let db = Connection::open(folder.join(format!("plain-{name}.db"))).expect("the file opens");
    let pragmas = "PRAGMA journal_mode = wal; PRAGMA synchronous = full; PRAGMA secure_delete = on;";
    db.execute_batch(pragmas).expect("they are set");
    db.execute_batch("CREATE TABLE rows (n INTEGER PRIMARY KEY, body TEXT)").expect("the table is made");
    let body = "x".repeat(500);
    let start = now();
    for n in 0..commits {
        let mut insert = db.prepare_cached("INSERT INTO rows VALUES (?1, ?2)").expect("it is a statement");
        insert.execute((n.cast_signed(), &body)).expect("it is on the disk");
    }
    commits as f64 / start.elapsed().as_secs_f64()
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn now() -> Instant {
    Instant::now()
}
