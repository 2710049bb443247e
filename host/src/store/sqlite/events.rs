//! The table of events: appends records, and checks each as it reads it.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::domain::{Digest, Epoch, Event, Failure, GENESIS, RunId, Seq, Timestamp};
use crate::store::{
    Verified,
    chain::{self, Record},
    refusal,
    sqlite::{ownership::Birth, runs, schema::failed},
};

const COLUMNS: &str = "SELECT seq, v, at, epoch, kind, body, hash FROM events";

/// Appends records that follow `after`, if that is the end of the run and `epoch` that of its owner.
pub(super) fn append(
    db: &Connection,
    run: &RunId,
    epoch: Epoch,
    after: (Seq, Digest),
    records: &[Record],
) -> Result<(), Failure> {
    match records.last() {
        Some(last) => runs::move_end(db, run, epoch, after, end_of(last))?,
        None => runs::check_end(db, run, epoch, after)?,
    }
    insert(db, run, records).map_err(failed("append to a run"))
}

/// Begins a run with `records`: it is never there without one.
pub(super) fn begin(db: &Connection, run: &RunId, birth: &Birth, records: &[Record]) -> Result<(), Failure> {
    let last = records.last().ok_or_else(|| refusal::no_beginning(run))?;
    runs::create(db, run, birth, end_of(last))?;
    insert(db, run, records).map_err(failed("begin a run"))
}

fn end_of(last: &Record) -> (Seq, Digest, Timestamp) {
    (last.seq, last.hash, last.at)
}

/// Returns the events after `after`, checked up to the end of the run.
pub(super) fn read(db: &Connection, run: &RunId, after: Seq) -> Result<Vec<Event>, Failure> {
    let mut events = Vec::new();
    walk(db, run, after, |event| events.push(event))?;
    Ok(events)
}

/// Checks all events of the run.
pub(super) fn verify(db: &Connection, run: &RunId) -> Result<Verified, Failure> {
    let (events, head) = walk(db, run, 0, drop)?;
    Ok(Verified { events, head })
}

/// Hands on the checked events after `after`, and returns the end of the run.
fn walk(db: &Connection, run: &RunId, after: Seq, mut each: impl FnMut(Event)) -> Result<(Seq, Digest), Failure> {
    let failed = failed("read a run");
    // One view of both tables: another process may append meanwhile.
    let view = db.unchecked_transaction().map_err(&failed)?;
    let known = runs::end(&view, run)?;
    if after > known.0 {
        return Ok(known);
    }
    let mut end = (after, hash_of(&view, run, after)?);
    let mut statement =
        view.prepare_cached(&format!("{COLUMNS} WHERE run = ?1 AND seq > ?2 ORDER BY seq")).map_err(&failed)?;
    let mut rows = statement.query(params![run.as_str(), after.cast_signed()]).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)? {
        let record = record(row).map_err(&failed)?;
        each(chain::check(run, end.0 + 1, end.1, &record)?);
        end = (record.seq, record.hash);
    }
    chain::check_end(run, end, known)?;
    Ok(end)
}

/// Returns the hash of the text of event `seq`; where the event is missing, one that no event names.
fn hash_of(db: &Connection, run: &RunId, seq: Seq) -> Result<Digest, Failure> {
    let sql = "SELECT CAST(body AS BLOB) FROM events WHERE run = ?1 AND seq = ?2";
    let body = db.query_row(sql, params![run.as_str(), seq.cast_signed()], |row| row.get(0)).optional();
    let body: Option<Vec<u8>> = body.map_err(failed("read a run"))?;
    Ok(body.map_or(GENESIS, |body| Digest::of(&body)))
}

fn insert(db: &Connection, run: &RunId, records: &[Record]) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
    for Record { v, seq, epoch, at, kind, body, hash } in records {
        let (seq, at, epoch) = (seq.cast_signed(), at.0.cast_signed(), epoch.cast_signed());
        statement.execute(params![run.as_str(), seq, v, at, epoch, kind, body, hash.as_bytes()])?;
    }
    Ok(())
}

/// Returns what is stored, as well as a record can hold it: what does not fit becomes what no check lets pass.
fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
    let text =
        |column| Ok::<_, rusqlite::Error>(String::from_utf8_lossy(row.get_ref(column)?.as_bytes()?).into_owned());
    let hash = row.get_ref(6)?.as_blob()?.try_into().map_or(GENESIS, Digest::from_bytes);
    let (seq, at, epoch) = (number(0)?, Timestamp(number(2)?), number(3)?);
    let v = u16::try_from(number(1)?).unwrap_or(u16::MAX);
    Ok(Record { v, seq, epoch, at, kind: text(4)?, body: text(5)?, hash })
}
