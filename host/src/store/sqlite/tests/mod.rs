//! What a log in a file promises beyond the suite of every log.

use std::fs;
use std::os::unix::fs::PermissionsExt;

mod golden;
mod upkeep;
mod verify;

use super::*;
use crate::clock::{SimClock, SystemClock};
use crate::store::contract::{self, START, append, batch, end, kind_of, run};

fn open(dir: &Path) -> SqliteLog {
    try_open(dir).unwrap()
}

fn try_open(dir: &Path) -> Result<SqliteLog, Failure> {
    SqliteLog::open(dir, SqliteOptions::default(), Arc::new(SimClock::default()))
}

fn database(dir: &Path) -> Connection {
    Connection::open(dir.join("log.db")).unwrap()
}

/// Makes run `n`, with one event.
async fn begun_run(log: &SqliteLog, n: u64) -> Box<dyn Ownership> {
    contract::begun_run(log, n).await
}

async fn create(log: &SqliteLog, n: u64) -> Box<dyn Ownership> {
    log.create(&run(n), &Principal::default(), "test", Timestamp(7)).await.unwrap()
}

/// Makes a closed log whose run 1 has `count` events.
async fn written(dir: &Path, count: u64) -> Vec<Event> {
    let log = open(dir);
    let owner = create(&log, 1).await;
    append(&log, &*owner, START, count, Durability::Synced).await
}

#[tokio::test]
async fn it_keeps_the_promises_of_every_log() {
    let dir = tempfile::tempdir().unwrap();
    let made = std::sync::atomic::AtomicU32::new(0);
    contract::check_all(async |bounds| {
        let n = made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let options = SqliteOptions { bounds, ..SqliteOptions::default() };
        SqliteLog::open(&dir.path().join(n.to_string()), options, Arc::new(SimClock::default())).unwrap()
    })
    .await;
}

#[tokio::test]
async fn a_log_that_was_closed_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let payload = Payload::new(b"kept".to_vec());
    let events = {
        let log = open(dir.path());
        let owner = create(&log, 1).await;
        let batch = Batch { payloads: vec![payload.clone()], ..batch(START, 3) };
        log.append(&*owner, batch, Durability::Queued).await.unwrap()
    };
    let log = open(dir.path());
    assert_eq!(log.read(&run(1), 0).await.unwrap(), events);
    assert_eq!(log.payload(&run(1), &payload.digest()).await.unwrap(), Some(b"kept".to_vec()));
    assert_eq!(log.runs(9).await.unwrap()[0].owner, None);
    assert_eq!(log.own(&run(1), "test").await.unwrap().epoch(), 2);
}

#[tokio::test]
async fn what_is_there_can_be_used_by_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("a/b");
    let log = open(&home);
    let _owner = begun_run(&log, 1).await;
    let mode = |name: &str| fs::metadata(home.join(name)).unwrap().permissions().mode() & 0o777;
    let lock = format!("locks/{}.lock", run(1));
    let files = ["log.db", "log.db-wal", "log.db-shm", "key", "locks/open.lock", &lock].map(mode);
    assert_eq!(files, [0o600; 6]);
    assert_eq!([mode(""), mode("locks")], [0o700; 2]);
}

#[test]
fn another_format_is_refused_and_nothing_is_written() {
    for (make, message) in [
        ("CREATE TABLE meta (name, value); INSERT INTO meta VALUES ('format', 'v7')", "its format is `v7`"),
        (
            "CREATE TABLE meta (name, value); INSERT INTO meta VALUES ('format', 'v1'), ('events', '9')",
            "its format is `v1 with events of version 9`",
        ),
        (
            "CREATE TABLE meta (name, value); INSERT INTO meta VALUES ('format', 'v0'), ('events', '0')",
            "a version before the first that is kept (`v0`)",
        ),
        ("CREATE TABLE meta (name, value)", "not a log of cofferdam"),
        ("CREATE TABLE photos (name)", "not a log of cofferdam"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.db");
        database(dir.path()).execute_batch(&format!("PRAGMA journal_mode = wal; {make};")).unwrap();
        let before = fs::read(&path).unwrap();
        let failure = try_open(dir.path()).map(drop).unwrap_err();
        assert!(failure.kind == Kind::HostStorage && failure.message.contains(message), "{failure}");
        assert_eq!(fs::read(&path).unwrap(), before);
        assert!(!dir.path().join("key").exists() && !dir.path().join("locks").exists());
    }
}

#[tokio::test]
async fn a_run_of_a_later_version_is_refused_and_the_file_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = open(dir.path());
        drop(begun_run(&log, 1).await);
        drop(begun_run(&log, 2).await);
    }
    let db = database(dir.path());
    let body = format!(r#"{{"dreamt":true,"v":{}}}"#, crate::domain::SCHEMA_VERSION + 1);
    let hash = Digest::of(body.as_bytes());
    let sql = "UPDATE events SET v = ?2, body = ?3, hash = ?4 WHERE run = ?1";
    db.execute(sql, (run(1).as_str(), crate::domain::SCHEMA_VERSION + 1, body, hash.as_bytes())).unwrap();
    db.execute("UPDATE runs SET head = ?2 WHERE run = ?1", (run(1).as_str(), hash.as_bytes())).unwrap();
    db.execute_batch("PRAGMA wal_checkpoint(truncate)").unwrap();
    drop(db);
    let before = fs::read(dir.path().join("log.db")).unwrap();
    {
        let log = open(dir.path());
        for failure in [
            log.read(&run(1), 0).await.map(drop).unwrap_err(),
            log.verify(&run(1)).await.map(drop).unwrap_err(),
            log.own(&run(1), "late").await.map(drop).unwrap_err(),
        ] {
            assert!(failure.kind == Kind::HostStorage && failure.message.contains("newer version"), "{failure}");
        }
        assert_eq!(log.runs(9).await.unwrap().len(), 2, "the list needs no event");
        assert_eq!(log.read(&run(2), 0).await.unwrap().len(), 1, "another run is read");
    }
    // To open a log of this format moves on a counter in the header of the file, its first 100 bytes, and nothing else.
    assert_eq!(fs::read(dir.path().join("log.db")).unwrap()[100..], before[100..]);
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("log.db"), "a letter to my aunt, long enough to have a header").unwrap();
    let failure = try_open(dir.path()).map(drop).unwrap_err();
    assert!(failure.message.contains("damaged"), "{failure}");
}

#[tokio::test]
async fn nothing_that_belongs_to_a_user_is_on_the_disk_unsealed() {
    let dir = tempfile::tempdir().unwrap();
    let canary = "canary-7f3a";
    let log = open(dir.path());
    let owner = create(&log, 1).await;
    let batch = Batch { payloads: vec![Payload::new(canary.repeat(9).into_bytes())], ..batch(START, 1) };
    log.append(&*owner, batch, Durability::Synced).await.unwrap();
    let message = Message::Answer { turn: 1, text: canary.into(), by: "me".into() };
    log.send(&run(1), &message).await.unwrap();
    assert_eq!(log.inbox(&run(1)).await.unwrap()[0].message, message);

    let has = |name: &str, what: &str| {
        fs::read(dir.path().join(name)).unwrap().windows(what.len()).any(|bytes| bytes == what.as_bytes())
    };
    assert!(has("log.db-wal", run(1).as_str()), "the search finds what is there");
    assert!(!has("log.db-wal", canary));
    drop((owner, log));
    assert!(has("log.db", run(1).as_str()) && !has("log.db", canary));
}

#[tokio::test]
async fn a_user_whose_key_is_gone_is_forgotten_and_the_chain_holds() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let owner = create(&log, 1).await;
    let payload = Payload::new(b"mine".to_vec());
    let with_payload = |after| Batch { payloads: vec![payload.clone()], ..batch(after, 1) };
    let events = log.append(&*owner, with_payload(START), Durability::Synced).await.unwrap();
    log.send(&run(1), &Message::Cancel { by: "me".into(), undo: false }).await.unwrap();

    database(dir.path()).execute("DELETE FROM keys", []).unwrap();
    assert_eq!(log.payload(&run(1), &payload.digest()).await, Ok(None));
    assert_eq!(log.inbox(&run(1)).await, Ok(vec![]));
    assert_eq!(log.verify(&run(1)).await.unwrap().events, 1);

    log.append(&*owner, with_payload(end(&events)), Durability::Synced).await.unwrap();
    assert_eq!(log.payload(&run(1), &payload.digest()).await, Ok(Some(b"mine".to_vec())), "a user may come back");
}

#[tokio::test]
async fn a_payload_moved_to_another_run_or_changed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let (one, _two) = (create(&log, 1).await, begun_run(&log, 2).await);
    let payload = Payload::new(b"mine".to_vec());
    let batch = Batch { payloads: vec![payload.clone()], ..batch(START, 1) };
    log.append(&*one, batch, Durability::Synced).await.unwrap();
    database(dir.path()).execute("UPDATE payloads SET run = ?1", [run(2).as_str()]).unwrap();
    assert_eq!(kind_of(log.payload(&run(2), &payload.digest()).await), Kind::HostStorage);
}

#[tokio::test]
async fn a_lost_master_key_is_told_and_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = open(dir.path());
        begun_run(&log, 1).await;
        log.send(&run(1), &Message::Cancel { by: "me".into(), undo: false }).await.unwrap();
    }
    fs::remove_file(dir.path().join("key")).unwrap();
    assert!(try_open(dir.path()).map(drop).unwrap_err().message.contains("master key is missing"));
    assert!(!dir.path().join("key").exists());
}

#[tokio::test]
async fn two_processes_compete_for_a_run_and_one_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (open(dir.path()), open(dir.path()));
    drop(begun_run(&here, 1).await);
    for round in 2..10 {
        let (run_here, run_there) = (run(1), run(1));
        let (a, b) = tokio::join!(here.own(&run_here, "here"), there.own(&run_there, "there"));
        assert!(a.is_ok() != b.is_ok(), "round {round}: exactly one owns the run");
        let refused = a.as_ref().err().or(b.as_ref().err()).unwrap();
        assert_eq!(refused.kind, Kind::HostOwned);
        assert_eq!(a.or(b).unwrap().epoch(), round, "each round is one epoch");
    }
    let mine = here.own(&run(1), "here").await.unwrap();
    let after = end(&here.read(&run(1), 0).await.unwrap());
    append(&here, &*mine, after, 1, Durability::Synced).await;
    there.send(&run(1), &Message::Cancel { by: "there".into(), undo: false }).await.unwrap();
    assert_eq!(here.inbox(&run(1)).await.unwrap().len(), 1);
    assert_eq!(there.read(&run(1), 0).await.unwrap().len(), 2);
    assert!(there.runs(9).await.unwrap()[0].owner.as_ref().unwrap().starts_with("here (process"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_make_and_write_one_log_at_once_all_succeed() {
    let dir = tempfile::tempdir().unwrap();
    let open_one = || {
        std::thread::spawn({
            let dir = dir.path().to_owned();
            move || Arc::new(open(&dir))
        })
    };
    let logs: Vec<_> = [open_one(), open_one(), open_one()].into_iter().map(|thread| thread.join().unwrap()).collect();
    let writing: Vec<_> =
        (1..).zip(&logs).map(|(n, log)| tokio::spawn(append_all(Arc::clone(log), n, 40, Durability::Synced))).collect();
    for (n, written) in (1..).zip(writing) {
        let events = written.await.unwrap();
        assert_eq!(logs[0].read(&run(n), 0).await.unwrap(), events);
    }
}

#[tokio::test]
async fn an_owner_whose_lock_file_was_removed_is_stopped_by_its_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (open(dir.path()), open(dir.path()));
    let mine = begun_run(&here, 1).await;
    fs::remove_file(dir.path().join(format!("locks/{}.lock", run(1)))).unwrap();
    let theirs = there.own(&run(1), "there").await.unwrap();
    let after = end(&there.read(&run(1), 0).await.unwrap());
    let events = append(&there, &*theirs, after, 1, Durability::Synced).await;
    assert_eq!(kind_of(here.append(&*mine, batch(end(&events), 1), Durability::Synced).await), Kind::HostOwned);
    assert_eq!(kind_of(here.received(&*mine, &[1]).await), Kind::HostOwned);
    assert_eq!(here.verify(&run(1)).await.unwrap().events, 2);
}

#[tokio::test]
async fn after_a_queued_append_failed_its_owner_hears_of_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let (owner, other) = (create(&log, 1).await, create(&log, 2).await);
    let db = database(dir.path());
    db.execute_batch(
        "CREATE TRIGGER full BEFORE INSERT ON events WHEN NEW.run LIKE '%1' AND NEW.seq = 2
                      BEGIN SELECT RAISE(ABORT, 'no room'); END",
    )
    .unwrap();
    let mut events = append(&log, &*owner, START, 1, Durability::Queued).await;
    events.extend(append(&log, &*owner, end(&events), 1, Durability::Queued).await);
    let later = log.append(&*owner, batch(end(&events), 1), Durability::Synced).await.unwrap_err();
    assert_eq!(later.kind, Kind::HostStorage);
    assert!(later.detail.as_ref().unwrap().contains("no room"), "{later:?}");

    db.execute_batch("DROP TRIGGER full").unwrap();
    for (after, durability) in [(end(&events[..1]), Durability::Synced), (end(&events), Durability::Queued)] {
        assert_eq!(log.append(&*owner, batch(after, 1), durability).await.unwrap_err(), later);
    }
    assert_eq!(log.read(&run(1), 0).await.unwrap(), events[..1], "no gap arose");
    append(&log, &*other, START, 1, Durability::Synced).await;
    drop(owner);
    let next = log.own(&run(1), "test").await.unwrap();
    append(&log, &*next, end(&events[..1]), 1, Durability::Synced).await;
}

#[tokio::test]
async fn a_full_disk_is_told_and_takes_nothing_half() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let owner = create(&log, 1).await;
    let events = append(&log, &*owner, START, 1, Durability::Synced).await;
    // The page limit is how SQLite itself simulates a full disk; 8 MiB do not fit into what is left.
    let pages: Result<u32, _> = log
        .writer
        .call(0, |db| {
            db.query_row("PRAGMA max_page_count = 200", [], |row| row.get(0)).map_err(schema::failed("limit"))
        })
        .await;
    assert_eq!(pages, Ok(200));
    let large = Batch { payloads: vec![Payload::new(vec![7; 8 << 20])], ..batch(end(&events), 1) };
    let failure = log.append(&*owner, large, Durability::Synced).await.unwrap_err();
    assert!(failure.message.contains("the disk is full") && failure.hint.is_some(), "{failure}");
    assert_eq!(log.read(&run(1), 0).await.unwrap(), events);
    let more = append(&log, &*owner, end(&events), 1, Durability::Synced).await;
    assert_eq!(log.flush().await, Ok(()));

    let pages: Result<u32, _> = log
        .writer
        .call(0, |db| {
            db.query_row("PRAGMA max_page_count = 20000", [], |row| row.get(0)).map_err(schema::failed("limit"))
        })
        .await;
    assert_eq!(pages, Ok(20_000));
    let large = Payload::new(vec![7; 8 << 20]);
    let with_room = Batch { payloads: vec![large.clone()], ..batch(end(&more), 1) };
    log.append(&*owner, with_room, Durability::Synced).await.unwrap();
    assert_eq!(log.payload(&run(1), &large.digest()).await, Ok(Some(large.bytes().to_vec())), "there is room again");
    assert_eq!(log.verify(&run(1)).await.unwrap().events, 3);
}

#[tokio::test]
async fn a_flush_tells_of_a_queued_append_that_was_lost() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let owner = create(&log, 1).await;
    let limit = |db: &Connection| {
        db.query_row("PRAGMA max_page_count = 200", [], |row| row.get::<_, u32>(0)).map_err(schema::failed("limit"))
    };
    log.writer.call(0, limit).await.unwrap();
    let large = Batch { payloads: vec![Payload::new(vec![7; 8 << 20])], ..batch(START, 1) };
    log.append(&*owner, large, Durability::Queued).await.unwrap();
    assert_eq!(kind_of(log.flush().await), Kind::HostStorage);
}

#[tokio::test]
async fn a_writer_that_panicked_fails_all_that_comes_after() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let owner = create(&log, 1).await;
    let broken: Result<(), _> = log.writer.call(0, |_| panic!("on purpose")).await;
    assert_eq!(broken.unwrap_err().kind, Kind::HostStorage);
    for durability in [Durability::Synced, Durability::Queued] {
        assert_eq!(kind_of(log.append(&*owner, batch(START, 1), durability).await), Kind::HostStorage);
    }
    assert_eq!(kind_of(log.read(&run(1), 0).await), Kind::HostStorage);
    assert_eq!(kind_of(log.flush().await), Kind::HostStorage);
}

#[tokio::test]
async fn an_append_that_was_given_up_before_there_was_room_never_was() {
    let dir = tempfile::tempdir().unwrap();
    let options = SqliteOptions { queue_jobs_max: 1, ..SqliteOptions::default() };
    let log = SqliteLog::open(dir.path(), options, Arc::new(SimClock::default())).unwrap();
    let owner = create(&log, 1).await;
    let (go, wait) = std::sync::mpsc::channel::<()>();
    log.writer.queue(0, move |_| Ok(wait.recv()), drop).await.unwrap();
    log.writer.queue(0, |_| Ok(()), drop).await.unwrap();
    tokio::select! {
        biased;
        done = log.append(&*owner, batch(START, 1), Durability::Queued) => panic!("there was room: {done:?}"),
        () = tokio::task::yield_now() => (),
    }
    go.send(()).unwrap();
    append(&log, &*owner, START, 2, Durability::Synced).await;
    assert_eq!(log.read(&run(1), 0).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_queued_appends_of_many_tasks_all_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let options = SqliteOptions { queue_jobs_max: 8, ..SqliteOptions::default() };
    let log = Arc::new(SqliteLog::open(dir.path(), options, Arc::new(SimClock::default())).unwrap());
    let tasks: Vec<_> =
        (0..20).map(|n| tokio::spawn(append_all(Arc::clone(&log), n, 50, Durability::Queued))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    for n in 0..20 {
        assert_eq!(log.verify(&run(n)).await.unwrap().events, 50);
    }
}

async fn append_all(log: Arc<SqliteLog>, n: u64, count: u64, durability: Durability) -> Vec<Event> {
    let owner = create(&log, n).await;
    let mut after = START;
    let mut all = Vec::new();
    for _ in 0..count {
        let events = append(&*log, &*owner, after, 1, durability).await;
        after = end(&events);
        all.extend(events);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, and asserts nothing that a busy machine could not break: run it by name"]
async fn events_per_second() {
    for tasks in [1, 20] {
        for (durability, count) in [(Durability::Synced, 200), (Durability::Queued, 1_000)] {
            let dir = tempfile::tempdir_in(".").unwrap();
            let clock = SystemClock::default();
            let log = Arc::new(open(dir.path()));
            let start = clock.monotonic_ms();
            let running: Vec<_> =
                (0..tasks).map(|n| tokio::spawn(append_all(Arc::clone(&log), n, count, durability))).collect();
            for task in running {
                task.await.unwrap();
            }
            log.flush().await.unwrap();
            let ms = (clock.monotonic_ms() - start).max(1);
            println!("{tasks:>2} tasks, {durability:?}: {} events/s", tasks * count * 1_000 / ms);
        }
    }
}
