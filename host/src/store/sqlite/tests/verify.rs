//! Whoever touches a log is found, and the event is named.

use rusqlite::types::Value;

use super::*;
use crate::domain::Fact;

/// Makes a closed log of two runs, each with `count` events, and payloads in the first.
async fn two_runs(dir: &Path, count: u64) {
    let log = open(dir);
    for n in [1, 2] {
        let owner = create(&log, n).await;
        let payloads = (1..=count).map(|n| Payload::new(format!("payload {n}").into_bytes())).collect();
        let fact = |n| {
            let goal = Digest::of(format!("payload {n}").as_bytes());
            (Timestamp(100 + n), Fact::RunClaimed { owner: format!("owner {n}"), policy: goal })
        };
        let facts = (1..=count).map(fact).collect();
        log.append(&*owner, Batch { after: START, facts, payloads }, Durability::Synced).await.unwrap();
    }
}

/// Returns the message of the failure that verifying run 1 must bring.
async fn verdict(log: &SqliteLog) -> String {
    let failure = log.verify(&run(1)).await.map(drop).unwrap_err();
    assert_eq!(failure.kind, Kind::HostStorage, "{failure}");
    failure.message
}

/// Flips one bit of each byte of a value in turn.
fn flips(value: &Value) -> Vec<Value> {
    let flip = |bytes: &[u8], n: usize| {
        let mut bytes = bytes.to_vec();
        bytes[n] ^= 1 << (n % 7);
        bytes
    };
    match value {
        Value::Integer(number) => (0..63).step_by(7).map(|bit| Value::Integer(number ^ (1 << bit))).collect(),
        Value::Text(text) => {
            (0..text.len()).map(|n| Value::Text(String::from_utf8(flip(text.as_bytes(), n)).unwrap())).collect()
        }
        Value::Blob(bytes) => (0..bytes.len()).map(|n| Value::Blob(flip(bytes, n))).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn whatever_byte_of_an_event_is_touched_the_event_is_named() {
    let dir = tempfile::tempdir().unwrap();
    two_runs(dir.path(), 4).await;
    let (log, db) = (open(dir.path()), database(dir.path()));
    db.execute_batch("PRAGMA synchronous = off; CREATE TEMP TABLE kept AS SELECT * FROM events").unwrap();
    let restore = "BEGIN; DELETE FROM events; INSERT INTO events SELECT * FROM kept; COMMIT";
    let mut touched = 0;
    for seq in 1..=4_i64 {
        for column in ["run", "seq", "v", "at", "epoch", "kind", "body", "hash"] {
            let sql = format!("SELECT {column} FROM events WHERE run = ?1 AND seq = ?2");
            let value: Value = db.query_row(&sql, (run(1).as_str(), seq), |row| row.get(0)).unwrap();
            for flipped in flips(&value) {
                let sql = format!("UPDATE OR IGNORE events SET {column} = ?3 WHERE run = ?1 AND seq = ?2");
                if db.execute(&sql, (run(1).as_str(), seq, &flipped)).unwrap() == 0 {
                    continue; // Another event has this number.
                }
                let found = events::verify(&db, crate::store::upcast::Versions::KNOWN, &run(1)).unwrap_err();
                let named = format!("event {seq} of run {}", run(1));
                assert!(found.message.contains(&named), "{column} {value:?} → {flipped:?}: {found}");
                db.execute_batch(restore).unwrap();
                touched += 1;
            }
        }
    }
    assert!(touched > 1_500, "{touched} bytes were touched");
    assert_eq!(log.verify(&run(1)).await.unwrap().events, 4);
}

#[tokio::test]
async fn rows_that_were_moved_cut_or_added_are_named() {
    for (change, seq) in [
        ("DELETE FROM events WHERE run = :one AND seq = 1", 1),
        ("DELETE FROM events WHERE run = :one AND seq >= 3", 3),
        ("DELETE FROM events WHERE run = :one", 1),
        ("UPDATE events SET seq = seq + 1 WHERE run = :one AND seq = 4", 4),
        ("UPDATE events SET seq = 9 - seq WHERE run = :one AND seq IN (2, 3)", 2),
        (
            "INSERT INTO events SELECT run, 5, v, at, epoch, kind, body, hash FROM events WHERE run = :one AND seq = 4",
            5,
        ),
        (
            "INSERT OR REPLACE INTO events SELECT :one, seq, v, at, epoch, kind, body, hash FROM events
             WHERE run = :two AND seq = 3",
            3,
        ),
        (
            "INSERT OR REPLACE INTO events SELECT run, 2, v, at, epoch, kind, body, hash FROM events
             WHERE run = :one AND seq = 3",
            2,
        ),
        ("UPDATE runs SET events = 3 WHERE run = :one", 4),
        ("UPDATE runs SET events = 5 WHERE run = :one", 5),
        ("UPDATE runs SET head = (SELECT head FROM runs WHERE run = :two) WHERE run = :one", 4),
    ] {
        let dir = tempfile::tempdir().unwrap();
        two_runs(dir.path(), 4).await;
        let change = change.replace(":one", &format!("'{}'", run(1))).replace(":two", &format!("'{}'", run(2)));
        database(dir.path()).execute_batch(&change).unwrap();
        let message = verdict(&open(dir.path())).await;
        assert!(message.contains(&format!("event {seq} of run {}", run(1))), "{change}: {message}");
    }
}

#[tokio::test]
async fn a_payload_that_was_touched_is_named_with_its_event() {
    let changes = [
        "sealed = zeroblob(length(sealed))",
        "sealed = substr(sealed, 2)",
        "sealed = x''",
        "nonce = zeroblob(24)",
        "nonce = x''",
        "digest = CAST(substr(digest, 2) || x'00' AS BLOB)",
        "sealed = (SELECT sealed FROM payloads AS other WHERE other.run <> payloads.run AND other.digest = payloads.digest)",
    ];
    for change in changes {
        let dir = tempfile::tempdir().unwrap();
        two_runs(dir.path(), 4).await;
        let digest = Digest::of(b"payload 3");
        let sql = format!("UPDATE payloads SET {change} WHERE run = ?1 AND digest = ?2");
        assert_eq!(database(dir.path()).execute(&sql, (run(1).as_str(), digest.as_bytes())).unwrap(), 1);
        let message = verdict(&open(dir.path())).await;
        // A payload of another name is named by no event.
        let named = if change.starts_with("digest") { "no event of run" } else { "event 3 of run" };
        assert!(message.contains(named), "{change}: {message}");
        assert_eq!(open(dir.path()).verify(&run(2)).await.unwrap().events, 4);
    }
}

#[tokio::test]
async fn whatever_else_was_touched_is_named_too() {
    for (change, message) in [
        ("UPDATE events SET body = CAST(x'ff' AS TEXT) WHERE seq = 2", "event 2 of run"),
        ("UPDATE events SET hash = x'00' WHERE seq = 2", "event 2 of run"),
        ("UPDATE events SET at = 0 WHERE seq = 2", "event 2 of run"),
        ("UPDATE events SET kind = 'called' WHERE seq = 2", "event 2 of run"),
        ("UPDATE events SET v = 70000 WHERE seq = 2", "event 2 of run"),
        ("DELETE FROM events WHERE seq = 2", "event 2 of run"),
        ("DELETE FROM events WHERE seq = 3", "event 3 of run"),
        ("UPDATE runs SET events = 2", "event 3 of run"),
        ("UPDATE runs SET head = zeroblob(32)", "event 3 of run"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), 3).await;
        database(dir.path()).execute(change, []).unwrap();
        let failure = open(dir.path()).verify(&run(1)).await.unwrap_err();
        assert!(failure.kind == Kind::HostStorage && failure.message.contains(message), "{change}: {failure}");
    }
}

#[tokio::test]
async fn reading_on_from_a_touched_event_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let events = written(dir.path(), 3).await;
    let log = open(dir.path());
    assert_eq!(log.read(&run(1), 2).await.unwrap(), events[2..]);
    database(dir.path()).execute("UPDATE events SET body = body || ' ' WHERE seq = 2", []).unwrap();
    assert!(log.read(&run(1), 2).await.unwrap_err().message.contains("event 3 of run"));
}
