//! The care of a log in files: what was removed or erased is on no disk, and a crash in between leaves nothing half.

use super::*;
use crate::domain::{StateOp, StateQuota, StateReply, StateScope, StateSpace};
use crate::store::contract::upkeep::{created, end_of_run};
use crate::store::{
    CachedOutcome, HostCalls, KeyedOutcomes, LiveProgress, OutcomeCache, StepProgress, Upkeep, Workspaces,
};

const CANARY: &str = "canary-91c4e0";
const QUOTA: StateQuota = StateQuota { keys_max: 9, bytes_max: 10_000, value_bytes_max: 10_000 };

fn user(name: &str) -> Principal {
    Principal { user: name.to_owned(), ..Principal::default() }
}

fn space(who: &Principal) -> StateSpace {
    StateSpace { scope: StateScope::User, principal: who.clone(), run: run(1), component: "notes".into() }
}

/// Makes a run of `who` in which everything that may hold a canary does.
async fn filled(log: &SqliteLog, n: u64, who: &Principal) -> Box<dyn Ownership> {
    let owner = log.create(&run(n), who, "test", Timestamp(7)).await.unwrap();
    let payloads = (0..9).map(|k| Payload::new(format!("{CANARY} {n} {k} {}", "x".repeat(k * 3_000)).into_bytes()));
    let with_payloads = Batch { payloads: payloads.collect(), ..batch(START, 3) };
    log.append(&*owner, with_payloads, Durability::Synced).await.unwrap();
    let recorded =
        crate::domain::Recorded { value: crate::domain::RecordedValue::Whole { value: CANARY.into() }, ms: 1 };
    let entries = vec![
        crate::domain::JournalEntry::Begun { n: 1, what: CANARY.into(), args: contract::START.1, is_write: true },
        crate::domain::JournalEntry::Done { n: 1, recorded },
    ];
    let step: crate::domain::StepId = "t1.a".parse().unwrap();
    log.write_journal(&*owner, &step, 1, entries, Durability::Synced).await.unwrap();
    log.note_progress(&*owner, StepProgress { step, fraction: None, message: CANARY.into(), at: Timestamp(8) });
    log.send(&run(n), &Message::Answer { turn: 1, text: CANARY.into(), by: CANARY.into() }).await.unwrap();
    log.claim_key(who, CANARY, &Digest::of(b"request"), &run(n), Timestamp(7)).await.unwrap();
    log.settle_key(who, CANARY, Some(CANARY.into())).await.unwrap();
    let cached = CachedOutcome { output: CANARY.into(), run: run(n), at: Timestamp(7) };
    log.keep_cached(who, &Digest::of(b"call"), cached).await.unwrap();
    let op = StateOp::Set { key: CANARY.into(), value: CANARY.into() };
    log.state(&space(who), op, &QUOTA).await.unwrap();
    owner
}

/// Returns whether `what` is in any file of the directory.
fn is_in_files(dir: &Path, what: &[u8]) -> bool {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .any(|path| if path.is_dir() { is_in_files(&path, what) } else { holds(&fs::read(path).unwrap(), what) })
}

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// Returns what a query brings, as bytes.
fn blobs(dir: &Path, sql: &str) -> Vec<Vec<u8>> {
    let db = database(dir);
    let mut statement = db.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// Returns all that is sealed for a user, and the sealed key.
fn sealed_of(dir: &Path, who: &str) -> Vec<Vec<u8>> {
    ["payloads", "host_calls", "inbox", "progress", "outcomes", "cached", "state"]
        .iter()
        .map(|table| {
            format!("SELECT sealed FROM {table} JOIN keys ON keys.id = key WHERE keys.user = '{who}'")
                .replace("SELECT sealed", &format!("SELECT {table}.sealed"))
        })
        .chain([
            format!("SELECT sealed FROM keys WHERE user = '{who}'"),
            format!("SELECT name_sealed FROM state JOIN keys ON keys.id = key WHERE keys.user = '{who}'"),
        ])
        .flat_map(|sql| blobs(dir, &sql))
        .collect()
}

#[tokio::test]
async fn nothing_of_an_erased_user_is_in_any_file_not_even_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for (n, name) in [(1, "x"), (2, "x"), (3, "y")] {
        drop(filled(&log, n, &user(name)).await);
    }
    log.flush().await.unwrap();
    let (gone, kept) = (sealed_of(dir.path(), "x"), sealed_of(dir.path(), "y"));
    assert!(gone.len() > 25 && kept.len() > 15, "{} {}", gone.len(), kept.len());
    assert!(gone.iter().all(|bytes| is_in_files(dir.path(), &bytes[..16])), "the search finds what is there");
    assert!(!is_in_files(dir.path(), CANARY.as_bytes()), "nothing was ever there unsealed");

    log.erase(&user("x")).await.unwrap();
    for bytes in &gone {
        assert!(!is_in_files(dir.path(), &bytes[..16]), "a sealed byte is left");
    }
    assert_eq!(fs::metadata(dir.path().join("log.db-wal")).unwrap().len(), 0);
    for n in 1..=3 {
        assert_eq!(log.verify(&run(n)).await.unwrap().events, 3);
        let payload = Digest::of(format!("{CANARY} {n} 0 ").as_bytes());
        assert_eq!(log.payload(&run(n), &payload).await.unwrap().is_some(), n == 3, "run {n}");
    }
    let there = log.state(&space(&user("y")), StateOp::Get { key: CANARY.into() }, &QUOTA).await;
    assert_eq!(there, Ok(StateReply::Value(Some(CANARY.into()))));
    drop(log);
    assert!(!gone.iter().any(|bytes| is_in_files(dir.path(), &bytes[..16])), "nor after the log was closed");
}

#[tokio::test]
async fn an_erasure_that_died_after_its_first_step_left_nothing_to_read_and_is_finished_later() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    drop(filled(&log, 1, &user("x")).await);
    log.flush().await.unwrap();
    let gone = sealed_of(dir.path(), "x");
    log.writer.call(0, |db| keys::forget(db, &keys::Owner::of(&user("x")))).await.unwrap();
    drop(log);

    let log = open(dir.path());
    let payload = Digest::of(format!("{CANARY} 1 0 ").as_bytes());
    assert_eq!(log.payload(&run(1), &payload).await, Ok(None));
    assert_eq!(log.journal(&run(1), &"t1.a".parse().unwrap(), 1).await, Ok(vec![]));
    let value = log.state(&space(&user("x")), StateOp::Get { key: CANARY.into() }, &QUOTA).await;
    assert_eq!(value, Ok(StateReply::Value(None)));
    assert!(log.erase(&user("x")).await.unwrap().bytes > 0);
    assert!(!gone.iter().any(|bytes| is_in_files(dir.path(), &bytes[..16])));
    assert_eq!(log.stored().await.unwrap().state_bytes, 0);
}

#[tokio::test]
async fn an_erasure_tells_when_another_process_kept_it_from_wiping_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let options = SqliteOptions { busy_ms_max: 50, ..SqliteOptions::default() };
    let log = SqliteLog::open(dir.path(), options, Arc::new(SimClock::default())).unwrap();
    drop(filled(&log, 1, &user("x")).await);
    let reader = database(dir.path());
    reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    let refused = log.erase(&user("x")).await.unwrap_err();
    assert!(refused.kind == Kind::HostBusy && refused.hint.is_some(), "{refused:?}");
    drop(reader);
    assert_eq!(log.erase(&user("x")).await.unwrap().bytes, 0, "all but the wiping was done");
    assert_eq!(fs::metadata(dir.path().join("log.db-wal")).unwrap().len(), 0);
}

/// Makes a run that ended, with payloads of so many bytes.
async fn ended(log: &SqliteLog, n: u64, bytes: usize) {
    let owner = create(log, n).await;
    let facts = vec![(Timestamp(7), created(None)), (Timestamp(8), end_of_run())];
    let payloads = vec![Payload::new(vec![u8::try_from(n).unwrap(); bytes])];
    log.append(&*owner, Batch { after: START, facts, payloads }, Durability::Synced).await.unwrap();
}

#[tokio::test]
async fn removing_runs_gives_the_disk_its_room_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let size = || fs::metadata(dir.path().join("log.db")).unwrap().len();
    ended(&log, 9, 10).await;
    for n in 1..5 {
        ended(&log, n, 3 << 20).await;
    }
    let waits = create(&log, 6).await;
    append(&log, &*waits, START, 1, Durability::Synced).await;
    drop(waits);
    let _owned = log.own(&run(9), "test").await.unwrap();
    let checkpoint =
        || database(dir.path()).query_row("PRAGMA wal_checkpoint(truncate)", [], |row| row.get::<_, i64>(0));
    checkpoint().unwrap();
    let before = size();
    assert!(before > 12 << 20, "{before}");

    let pruned = log.prune(Timestamp(1_000)).await.unwrap();
    assert_eq!((pruned.runs, pruned.events), (4, 8));
    assert!(pruned.bytes >= 12 << 20);
    checkpoint().unwrap();
    assert!(size() < 1 << 20, "{} of {before} bytes are left", size());
    let left: Vec<_> = fs::read_dir(dir.path().join("locks")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "the lock files of removed runs are gone: {left:?}");
    for n in [6, 9] {
        log.verify(&run(n)).await.unwrap();
    }
    assert_eq!(
        database(dir.path()).query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap(),
        "ok"
    );
}

#[tokio::test]
async fn a_removal_that_died_in_the_middle_is_finished_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = open(dir.path());
        ended(&log, 1, 10).await;
        log.writer.call(0, |db| prune::begin(db, &[run(1)], Timestamp(1_000))).await.unwrap();
    }
    let log = open(dir.path());
    let count = |table: &str| -> i64 {
        database(dir.path()).query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    assert_eq!(kind_of(log.read(&run(1), 0).await), Kind::DataNotFound, "the run is gone at once");
    assert_eq!((count("events"), count("payloads")), (2, 1));
    assert!(log.prune(Timestamp(0)).await.unwrap().bytes > 0);
    assert_eq!((count("events"), count("payloads"), count("removed")), (0, 0, 0));
}

#[tokio::test]
async fn a_run_that_was_taken_up_after_it_was_listed_stays() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    ended(&log, 1, 10).await;
    let owner = create(&log, 2).await;
    append(&log, &*owner, START, 1, Durability::Synced).await;
    // One of the family has not ended: neither goes.
    let both = [run(1), run(2)];
    let refused = log.writer.call(0, move |db| prune::begin(db, &both, Timestamp(1_000))).await;
    assert_eq!(kind_of(refused), Kind::HostOwned);
    assert_eq!(log.verify(&run(1)).await.unwrap().events, 2);
}

#[tokio::test]
async fn others_append_while_much_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(open(dir.path()));
    let owner = create(&log, 1).await;
    let mut after = START;
    for _ in 0..30 {
        after = end(&append(&*log, &*owner, after, 100, Durability::Queued).await);
    }
    let last = Batch { facts: vec![(Timestamp(9), end_of_run())], ..batch(after, 0) };
    log.append(&*owner, last, Durability::Synced).await.unwrap();
    drop(owner);
    let writing = tokio::spawn(append_all(Arc::clone(&log), 2, 40, Durability::Synced));
    let pruned = log.prune(Timestamp(100_000)).await.unwrap();
    assert_eq!((pruned.runs, pruned.events), (1, 3_001));
    let events = writing.await.unwrap();
    assert_eq!(log.read(&run(2), 0).await.unwrap(), events);
}

#[tokio::test]
async fn a_copy_is_a_log_of_its_own_and_only_its_owner_may_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir.path().join("log"));
    let owner = filled(&log, 1, &user("x")).await;
    let copy = dir.path().join("copy");
    log.backup(&copy).await.unwrap();
    append(&log, &*owner, end(&log.read(&run(1), 0).await.unwrap()), 1, Durability::Synced).await;

    let mode = |name: &str| fs::metadata(copy.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(["log.db", "key", ""].map(mode), [0o600, 0o600, 0o700]);
    assert_eq!(kind_of(log.backup(&copy).await), Kind::DataConflict);
    assert_eq!(kind_of(log.backup(&dir.path().join("log")).await), Kind::DataConflict);
    let other = open(&copy);
    assert_eq!(other.verify(&run(1)).await.unwrap().events, 3);
    assert_eq!(other.read(&run(1), 0).await.unwrap(), log.read(&run(1), 0).await.unwrap()[..3]);
    let payload = Digest::of(format!("{CANARY} 1 0 ").as_bytes());
    assert!(other.payload(&run(1), &payload).await.unwrap().is_some());
    let theirs = other.own(&run(1), "there").await.unwrap();
    append(&other, &*theirs, end(&other.read(&run(1), 0).await.unwrap()), 2, Durability::Synced).await;
    assert_eq!(other.verify(&run(1)).await.unwrap().events, 5);
    assert_eq!(log.verify(&run(1)).await.unwrap().events, 4, "what is done to the copy is done to the copy only");
    assert!(log.backup(&dir.path().join("no/such/place")).await.is_ok(), "directories above are made");
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_takes_no_new_run_and_lets_the_others_end() {
    let dir = tempfile::tempdir().unwrap();
    drop(begun_run(&open(dir.path()), 1).await);
    for bounds in [
        Bounds { disk_free_bytes_min: u64::MAX, ..Bounds::default() },
        Bounds { log_bytes_max: 1, ..Bounds::default() },
    ] {
        let options = SqliteOptions { bounds, ..SqliteOptions::default() };
        let log = SqliteLog::open(dir.path(), options, Arc::new(SimClock::default())).unwrap();
        let refused = log.create(&run(2), &Principal::default(), "test", Timestamp(7)).await.map(drop).unwrap_err();
        assert!(refused.kind == Kind::HostFull && refused.hint.is_some(), "{refused:?}");
        let owner = log.own(&run(1), "test").await.unwrap();
        let after = log.read(&run(1), 0).await.map(|events| end(&events)).unwrap();
        append(&log, &*owner, after, 1, Durability::Synced).await;
        assert_eq!(log.runs(9).await.unwrap().len(), 1, "a refused run leaves nothing");
    }
}
