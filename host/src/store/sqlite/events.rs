//! The table of events: appends records, and checks each as it reads it.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::domain::{Digest, Epoch, Event, Failure, GENESIS, RunId, Seq, Timestamp};
use crate::store::{
    Verified,
    chain::{self, Record},
    refusal,
    sqlite::{ownership::Birth, runs, schema::failed},
    upcast::Versions,
};

/// Events that are read before they are checked together, some on each of a few threads.
const BLOCK_EVENTS: usize = 2_048;

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

/// Appends one record as [`append`] does. After an error nothing is changed, without anybody else's help.
pub(super) fn append_one(
    db: &Connection,
    run: &RunId,
    epoch: Epoch,
    after: (Seq, Digest),
    record: &Record,
) -> Result<(), Failure> {
    let failed = failed("append to a run");
    if put(db, run, record, "ON CONFLICT DO NOTHING").map_err(&failed)? == 0 {
        runs::check_end(db, run, epoch, after)?;
        return Err(refusal::not_the_end(run, record.seq));
    }
    let moved = runs::move_end(db, run, epoch, after, end_of(record));
    if moved.is_err() {
        let taken_back = db
            .execute("DELETE FROM events WHERE run = ?1 AND seq = ?2", params![run.as_str(), record.seq.cast_signed()]);
        if taken_back.is_err() && !db.is_autocommit() {
            // The failure to tell is the one that led here.
            drop(db.execute_batch("ROLLBACK"));
        }
    }
    moved
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
pub(super) fn read(db: &Connection, versions: Versions<'_>, run: &RunId, after: Seq) -> Result<Vec<Event>, Failure> {
    let mut events = Vec::new();
    walk(db, versions, (run, after), |event| events.push(event))?;
    Ok(events)
}

/// Checks all events of the run.
pub(super) fn verify(db: &Connection, versions: Versions<'_>, run: &RunId) -> Result<Verified, Failure> {
    let (events, head) = walk(db, versions, (run, 0), drop)?;
    Ok(Verified { events, head })
}

/// Refuses a run that is not there, or whose last event is of a version that is not read.
pub(super) fn check_version(db: &Connection, versions: Versions<'_>, run: &RunId) -> Result<(), Failure> {
    let (seq, _) = runs::end(db, run)?;
    let sql = "SELECT v FROM events WHERE run = ?1 AND seq = ?2";
    let v = db.query_row(sql, params![run.as_str(), seq.cast_signed()], |row| row.get(0)).optional();
    // One that is missing is for the reader to tell.
    v.map_err(failed("read a run"))?.map_or(Ok(()), |v| chain::check_version(versions, run, seq, v))
}

/// Hands on the checked events after `after`, and returns the end of the run.
fn walk(
    db: &Connection,
    versions: Versions<'_>,
    (run, after): (&RunId, Seq),
    mut each: impl FnMut(Event),
) -> Result<(Seq, Digest), Failure> {
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
    loop {
        let mut records = Vec::new();
        while records.len() < BLOCK_EVENTS
            && let Some(row) = rows.next().map_err(&failed)?
        {
            records.push(record(row).map_err(&failed)?);
        }
        let Some(last) = records.last() else { break };
        let next = (last.seq, last.hash);
        chain::check_all(versions, run, end, &records)?.into_iter().for_each(&mut each);
        end = next;
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
    records.iter().try_for_each(|record| put(db, run, record, "").map(drop))
}

/// Inserts a record; `otherwise` is what is done where there is one of this seq. Returns how many were inserted.
fn put(db: &Connection, run: &RunId, record: &Record, otherwise: &str) -> rusqlite::Result<usize> {
    let Record { v, seq, epoch, at, kind, body, hash } = record;
    let sql = format!("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) {otherwise}");
    let (seq, at, epoch) = (seq.cast_signed(), at.0.cast_signed(), epoch.cast_signed());
    let values = params![run.as_str(), seq, v, at, epoch, kind, body, hash.as_bytes()];
    db.prepare_cached(&sql)?.execute(values)
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
