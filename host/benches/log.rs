//! What the log costs, beside a plain writer of the same rows, in one run. All with full sync.
//!
//! `append`: many runs in flight, each of which waits for its event to be on the disk. `plain`: one connection that puts the
//! same rows into the same table, as many to a commit as the log puts there. `read`: a run of ten thousand events, read,
//! checked and hashed again, as whoever folds it does. `runs`: memory after a thousand and after ten thousand runs.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cofferdam::clock::SystemClock;
use cofferdam::domain::{Digest, Event, Fact, GENESIS, Principal, RunId, Seq, StepEnd, StepId, Timestamp, Usage};
use cofferdam::store::sqlite::{SqliteLog, SqliteOptions};
use cofferdam::store::{Batch, Durability, EventLog, Ownership, Payload};
use rusqlite::{Connection, params};
use tokio::runtime::Runtime;

/// Jobs that the log answers with one commit: the plain writer puts as many rows into one.
const GROUP: u64 = 256;

/// The least that the log may bring, as a share of the plain writer.
const APPEND_OVER_PLAIN_MIN: f64 = 0.8;

/// The most that reading ten thousand events may take, in milliseconds.
const READ_MS_MAX: u128 = 200;

/// How much is done.
struct Size {
    appends: u64,
    commits: u64,
    events: u64,
    runs: [u64; 2],
}

fn main() {
    // Under `cargo test` each is done once, small: that it works.
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let size = if is_bench {
        Size { appends: 60, commits: 120, events: 10_000, runs: [1_000, 10_000] }
    } else {
        Size { appends: 1, commits: 2, events: 20, runs: [2, 4] }
    };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the bench");
    let runtime = Runtime::new().expect("a runtime");
    append(&runtime, folder.path(), &size);
    read(&runtime, folder.path(), &size);
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

fn read(runtime: &Runtime, folder: &Path, size: &Size) {
    let log = open(&folder.join("read"));
    runtime.block_on(async {
        let owner = create(&log, 1).await;
        let mut after = (0, GENESIS);
        while after.0 < size.events {
            let count = (size.events - after.0).min(500);
            after = end(&log.append(&*owner, batch(after, count), Durability::Queued).await.expect("it is appended"));
        }
        log.flush().await.expect("it is on the disk");
        let start = now();
        let events = log.read(&run(1), 0).await.expect("it is read");
        let read = start.elapsed();
        let heads: Vec<Digest> = events.iter().map(|event| event.hash().expect("an event is JSON")).collect();
        assert_eq!(heads.len() as u64, size.events);
        let both = start.elapsed();
        println!("read = {} ms for {} events (bound none)", read.as_millis(), size.events);
        println!("read_and_hash = {} ms for {} events (bound at most {READ_MS_MAX})", both.as_millis(), size.events);
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
    if let [few, many] = memory[..] {
        println!("memory_many_over_few = {:.2} times (bound none)", many as f64 / few as f64);
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
