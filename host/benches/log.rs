//! What the log costs, beside a plain writer of the same rows, in one run. All with full sync.
//!
//! `append`: many runs in flight, each of which waits for its event to be on the disk. `plain`: one connection that puts the
//! same rows into the same table, as many to a commit as the log puts there. `resume`: a run of ten thousand events taken, read,
//! checked and folded, as whoever goes on with it does. `runs`: memory after a thousand runs that ended, after ten thousand and
//! after twenty thousand. What grows until then are pages of the file that the connections keep, and these are bounded: the
//! writer's by `CACHE_KIB` (16 MiB), those of each of four readers by what SQLite keeps by itself (2 MiB).

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cofferdam::clock::SystemClock;
use cofferdam::domain::{
    Budget, Cost, Digest, Effect, Event, Fact, GENESIS, PlannedStep, Principal, RunId, Seq, StepEnd, StepId, Timestamp,
    ToolName, Usage,
};
use cofferdam::orchestrator::Run;
use cofferdam::store::sqlite::{SqliteLog, SqliteOptions};
use cofferdam::store::{Batch, Durability, EventLog, Ownership, Payload};
use rusqlite::{Connection, params};
use tokio::runtime::Runtime;

/// Jobs that the log answers with one commit: the plain writer puts as many rows into one.
const GROUP: u64 = 256;

/// The least that the log may bring, as a share of the plain writer.
const APPEND_OVER_PLAIN_MIN: f64 = 0.8;

/// The most that taking a run of ten thousand events may take, in milliseconds.
const RESUME_MS_MAX: u128 = 200;

/// The most that memory may grow from ten thousand runs to twice as many.
const MEMORY_MANY_OVER_FEW_MAX: f64 = 1.1;

/// How much is done.
struct Size {
    appends: u64,
    commits: u64,
    events: u64,
    runs: [u64; 3],
}

fn main() {
    // Under `cargo test` each is done once, small: that it works.
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let size = if is_bench {
        Size { appends: 60, commits: 120, events: 10_000, runs: [1_000, 10_000, 20_000] }
    } else {
        Size { appends: 1, commits: 2, events: 20, runs: [2, 4, 6] }
    };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the bench");
    let runtime = Runtime::new().expect("a runtime");
    append(&runtime, folder.path(), &size);
    resume(&runtime, folder.path(), &size);
    runs(&runtime, folder.path(), &size);
}

fn open(folder: &Path) -> Arc<SqliteLog> {
    let clock = Arc::new(SystemClock::default());
    Arc::new(SqliteLog::open(folder, SqliteOptions::default(), clock).expect("the log opens"))
}

fn run(n: u64) -> RunId {
    RunId::from_ulid(&format!("{n:026}"))
}

/// A fact of the size that most have.
fn fact() -> Fact {
    Fact::StepEnded {
        step: "t1.step".parse::<StepId>().expect("it is a step"),
        attempt: 1,
        end: StepEnd::Succeeded { output: GENESIS },
        usage: Usage { wall_ms: 12, fuel: 123_456, ..Usage::default() },
        cost: Default::default(),
        log: None,
        denials: None,
        has_written: false,
        has_open_write: false,
        host_calls: Some(GENESIS),
        retry: None,
        has_caveats: false,
        within: None,
    }
}

fn batch(after: (Seq, Digest), count: u64) -> Batch {
    let facts = (0..count).map(|n| (Timestamp(after.0 + n), fact())).collect();
    Batch { after, facts, payloads: Vec::new() }
}

fn end(events: &[Event]) -> (Seq, Digest) {
    let last = events.last().expect("there is one");
    (last.seq, last.hash().expect("an event is JSON"))
}

async fn create(log: &SqliteLog, n: u64) -> Box<dyn Ownership> {
    log.create(&run(n), &Principal::default(), "bench", Timestamp(n)).await.expect("the run is made")
}

/// Appends events one by one, each on the disk before the next.
async fn append_one_by_one(log: Arc<SqliteLog>, owner: Box<dyn Ownership>, count: u64) {
    let mut after = (0, GENESIS);
    for _ in 0..count {
        after = end(&log.append(&*owner, batch(after, 1), Durability::Synced).await.expect("it is appended"));
    }
}

fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn append(runtime: &Runtime, folder: &Path, size: &Size) {
    let log = open(&folder.join("append"));
    let in_flight = 2 * GROUP;
    let took = runtime.block_on(async {
        let creating = (0..in_flight).map(|n| {
            let log = Arc::clone(&log);
            tokio::spawn(async move { create(&log, n).await })
        });
        let mut owners = Vec::new();
        for owner in creating.collect::<Vec<_>>() {
            owners.push(owner.await.expect("it is made"));
        }
        let start = now();
        let appending =
            owners.into_iter().map(|owner| tokio::spawn(append_one_by_one(Arc::clone(&log), owner, size.appends)));
        for task in appending.collect::<Vec<_>>() {
            task.await.expect("it is appended");
        }
        start.elapsed()
    });
    drop(log);
    let append = per_second(in_flight * size.appends, took);
    let plain = plain(folder, GROUP, size.commits);
    println!("append = {append:.0} events/s, {in_flight} runs in flight (bound none)");
    println!("plain = {plain:.0} rows/s, {GROUP} to a commit (bound none)");
    println!("append_over_plain = {:.2} times (bound at least {APPEND_OVER_PLAIN_MIN})", append / plain);
    let single = self::plain(folder, 1, size.commits);
    println!("plain_commits = {single:.0} commits/s of one row (bound none)");
}

/// Writes rows as the log does, and nothing else; returns rows a second.
fn plain(folder: &Path, group: u64, commits: u64) -> f64 {
    let path = folder.join(format!("plain-{group}.db"));
    let source = Connection::open(folder.join("append/log.db")).expect("the log opens");
    let row = source.query_row("SELECT v, at, epoch, kind, body, hash FROM events WHERE seq = 1 LIMIT 1", [], |row| {
        Ok((
            row.get::<_, i64>(0)?,
            row.get::<_, i64>(1)?,
            row.get::<_, i64>(2)?,
            row.get::<_, String>(3)?,
            row.get::<_, String>(4)?,
            row.get::<_, Vec<u8>>(5)?,
        ))
    });
    let (v, at, epoch, kind, body, hash) = row.expect("there is an event");
    let db = Connection::open(&path).expect("the file opens");
    let table: String = source
        .query_row("SELECT sql FROM sqlite_schema WHERE name = 'events'", [], |row| row.get(0))
        .expect("it is there");
    let pragmas = "PRAGMA auto_vacuum = incremental; PRAGMA journal_mode = wal; PRAGMA synchronous = full;
                   PRAGMA secure_delete = on; PRAGMA cache_size = -16384;";
    db.execute_batch(pragmas).expect("they are set");
    db.execute_batch(&table).expect("the table is made");
    let start = now();
    for commit in 0..commits {
        db.execute_batch("BEGIN IMMEDIATE").expect("it begins");
        let mut insert =
            db.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)").expect("it is a statement");
        for n in 0..group {
            // As the log does with so many runs in flight: half of them in one commit, half in the next.
            let (run, seq) = (run(n + commit % 2 * group), (commit / 2 + 1).cast_signed());
            insert.execute(params![run.as_str(), seq, v, at, epoch, kind, body, hash]).expect("it is written");
        }
        drop(insert);
        db.execute_batch("COMMIT").expect("it is on the disk");
    }
    per_second(group * commits, start.elapsed())
}

/// The facts of a run of `events` events: a plan, and the steps of it one after the other.
fn long_run(events: u64) -> Vec<Fact> {
    let tool: ToolName = "math.eval".parse().expect("it is a tool");
    let step = |n: u64| StepId::new(1, &format!("step{n}")).expect("it is a step");
    let count = (events - 3).div_ceil(3);
    let steps = (0..count).map(|n| PlannedStep::call(step(n), tool.clone(), Vec::new(), Effect::Pure)).collect();
    let created = Fact::RunCreated {
        principal: Principal::default(),
        goal: GENESIS,
        planner: "workflow".into(),
        policy: GENESIS,
        toolset: GENESIS,
        budget: Budget::default(),
        is_single_plan: true,
        has_assertions: false,
        parent: None,
        trace: None,
    };
    let accepted = Fact::PlanAccepted {
        turn: 1,
        reply: GENESIS,
        plan: GENESIS,
        steps,
        has_answer: false,
        has_assertions: false,
        checked_by: cofferdam::domain::CHECK_VERSION,
    };
    let of_step = |n: u64| {
        let (ready, started) = (step(n), step(n));
        [
            Fact::StepReady { step: ready, args: GENESIS, key: Digest::of(&n.to_le_bytes()), duplicate_of: None },
            Fact::StepStarted {
                step: started,
                attempt: 1,
                component: GENESIS,
                effect: Effect::Pure,
                rules: vec!["compute".into()],
                reserved: Default::default(),
                run: None,
            },
            match fact() {
                Fact::StepEnded { attempt, end, usage, cost, log, denials, has_written, host_calls, retry, .. } => {
                    let step = step(n);
                    Fact::StepEnded {
                        step,
                        attempt,
                        end,
                        usage,
                        cost,
                        log,
                        denials,
                        has_written,
                        host_calls,
                        retry,
                        has_caveats: false,
                        has_open_write: false,
                        within: None,
                    }
                }
                other => other,
            },
        ]
    };
    let begun =
        [created, Fact::PlanRequested { turn: 1, pack: GENESIS, asked: None, reserved: Cost::default() }, accepted];
    begun.into_iter().chain((0..count).flat_map(of_step)).collect()
}

fn resume(runtime: &Runtime, folder: &Path, size: &Size) {
    let log = open(&folder.join("resume"));
    runtime.block_on(async {
        let owner = create(&log, 1).await;
        let mut after = (0, GENESIS);
        for facts in long_run(size.events).chunks(500) {
            let facts = facts.iter().map(|fact| (Timestamp(1), fact.clone())).collect();
            let batch = Batch { after, facts, payloads: Vec::new() };
            after = end(&log.append(&*owner, batch, Durability::Queued).await.expect("it is appended"));
        }
        drop(owner);
        log.flush().await.expect("it is on the disk");
    });
    drop(log);
    // As a new process: nothing is in memory.
    let log = open(&folder.join("resume"));
    runtime.block_on(async {
        let start = now();
        let _owner = log.own(&run(1), "bench").await.expect("it is taken");
        let owned = start.elapsed();
        let events = log.read(&run(1), 0).await.expect("it is read");
        let read = start.elapsed();
        let run = Run::of(&events).expect("they follow");
        let folded = start.elapsed();
        assert_eq!(run.last.0, events.len() as u64);
        println!(
            "resume = {} ms for {} events (bound at most {RESUME_MS_MAX}): {} to take, {} to read and check, {} to fold",
            folded.as_millis(),
            events.len(),
            owned.as_millis(),
            (read - owned).as_millis(),
            (folded - read).as_millis()
        );
    });
}

fn runs(runtime: &Runtime, folder: &Path, size: &Size) {
    let log = open(&folder.join("runs"));
    let mut done = 0;
    let mut memory = Vec::new();
    for until in size.runs {
        runtime.block_on(async {
            while done < until {
                let some = (done..until.min(done + 200)).map(|n| tokio::spawn(short_run(Arc::clone(&log), n)));
                for task in some.collect::<Vec<_>>() {
                    task.await.expect("the run ends");
                    done += 1;
                }
            }
            log.flush().await.expect("it is on the disk");
        });
        memory.push(resident_kib());
        println!("memory_after_{until}_runs = {} KiB (bound none)", resident_kib());
    }
    if let [_, few, many] = memory[..] {
        let times = many as f64 / few as f64;
        println!("memory_many_over_few = {times:.2} times (bound at most {MEMORY_MANY_OVER_FEW_MAX})");
    }
}

async fn short_run(log: Arc<SqliteLog>, n: u64) {
    let owner = create(&log, n).await;
    let with_payload = Batch { payloads: vec![Payload::new(vec![7; 2_000])], ..batch((0, GENESIS), 5) };
    log.append(&*owner, with_payload, Durability::Synced).await.expect("it is appended");
}

/// Returns the memory of this process, in KiB; 0 where the system does not tell.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn now() -> Instant {
    Instant::now()
}
