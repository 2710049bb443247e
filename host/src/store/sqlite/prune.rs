//! Removes runs, some rows at a time, so that others can write in between.
//!
//! A run is gone when its row is. What it leaves behind is taken away after that, by this process or, if it dies, by the
//! next that removes runs: the table `removed` names the runs of which something may be left.

use rusqlite::{Connection, params};

use crate::domain::{Failure, RunId, Timestamp};
use crate::store::{
    Pruned, refusal,
    sqlite::{
        runs,
        schema::{column, failed},
    },
};

/// Rows of one table that one transaction removes: less than what a commit of appends writes.
pub(super) const ROWS_MAX: usize = 500;

/// Pages that one transaction gives back to the file system: 8 MiB.
pub(super) const PAGES_MAX: usize = 2_048;

/// The tables that hold rows of a run, and how many bytes one of them takes.
const TABLES: [(&str, &str, &str); 6] = [
    ("events", "(run, seq)", "length(body)"),
    ("payloads", "rowid", "length(sealed)"),
    ("inbox", "rowid", "0"),
    ("host_calls", "rowid", "length(sealed)"),
    ("journals", "(run, step, attempt)", "0"),
    ("progress", "rowid", "0"),
];

/// Removes runs from the list of runs, with the state of sessions that only they belonged to. Where one of them did not end
/// before `before`, all stay: somebody may have gone on with it after it was listed.
pub(super) fn begin(db: &Connection, family: &[RunId], before: Timestamp) -> Result<Pruned, Failure> {
    let failed = failed("remove runs");
    let mut pruned = Pruned::default();
    for run in family {
        if !runs::fate(db, run)?.is_some_and(|fate| fate.has_ended && fate.last < before) {
            return Err(refusal::superseded(run));
        }
        let sql = "DELETE FROM spaces WHERE run = ?1 AND scope = 'workflow' RETURNING id";
        remove_spaces(db, sql, params![run.as_str()])?;
        let sql = "DELETE FROM runs WHERE run = ?1 RETURNING events, tenant, user, session";
        let row = db.query_row(sql, [run.as_str()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, row.get::<_, String>(3)?))
        });
        let (events, tenant, user, session) = row.map_err(&failed)?;
        db.execute("INSERT OR IGNORE INTO removed VALUES (?1)", [run.as_str()]).map_err(&failed)?;
        let sql = "DELETE FROM spaces WHERE tenant = ?1 AND user = ?2 AND scope = 'session' AND session = ?3
                   AND NOT EXISTS (SELECT 1 FROM runs WHERE tenant = ?1 AND user = ?2 AND session = ?3) RETURNING id";
        remove_spaces(db, sql, params![tenant, user, session])?;
        pruned = pruned.plus(Pruned { runs: 1, events: events.cast_unsigned(), bytes: 0 });
    }
    Ok(pruned)
}

/// Returns runs of which something may be left.
pub(super) fn unfinished(db: &Connection) -> Result<Vec<RunId>, Failure> {
    let failed = failed("list removed runs");
    let mut statement = db.prepare("SELECT run FROM removed").map_err(&failed)?;
    let rows = statement.query_map([], |row| column(row, 0)).map_err(&failed)?;
    rows.collect::<Result<_, _>>().map_err(&failed)
}

/// Removes some rows of a removed run; `None` when none was left.
pub(super) fn go_on(db: &Connection, run: &RunId) -> Result<Option<u64>, Failure> {
    let failed = failed("remove the rows of a run");
    for (table, key, size) in TABLES {
        let sql = format!(
            "DELETE FROM {table} WHERE {key} IN (SELECT {} FROM {table} WHERE run = ?1 LIMIT {ROWS_MAX}) RETURNING {size}",
            key.trim_matches(['(', ')'])
        );
        let mut statement = db.prepare_cached(&sql).map_err(&failed)?;
        let sizes = statement.query_map([run.as_str()], |row| row.get::<_, i64>(0)).map_err(&failed)?;
        let sizes = sizes.collect::<Result<Vec<_>, _>>().map_err(&failed)?;
        if !sizes.is_empty() {
            return Ok(Some(sizes.iter().sum::<i64>().cast_unsigned()));
        }
    }
    db.execute("DELETE FROM removed WHERE run = ?1", [run.as_str()]).map_err(&failed)?;
    Ok(None)
}

/// Removes some of the keys of callers and cached outcomes of before `before`; `None` when none was left.
pub(super) fn expire(db: &Connection, before: Timestamp) -> Result<Option<u64>, Failure> {
    let failed = failed("remove old outcomes");
    let before = before.0.cast_signed();
    let keyed = format!(
        "DELETE FROM outcomes WHERE rowid IN (SELECT rowid FROM outcomes WHERE at < ?1
         AND (is_settled OR run NOT IN (SELECT run FROM runs)) LIMIT {ROWS_MAX}) RETURNING length(sealed)"
    );
    let cached = format!(
        "DELETE FROM cached WHERE rowid IN (SELECT rowid FROM cached WHERE at < ?1 LIMIT {ROWS_MAX}) RETURNING length(sealed)"
    );
    let mut sizes = Vec::new();
    for sql in [keyed, cached] {
        let mut statement = db.prepare_cached(&sql).map_err(&failed)?;
        let rows = statement.query_map([before], |row| row.get::<_, i64>(0)).map_err(&failed)?;
        sizes.extend(rows.collect::<Result<Vec<_>, _>>().map_err(&failed)?);
    }
    Ok((!sizes.is_empty()).then(|| sizes.iter().sum::<i64>().cast_unsigned()))
}

/// Gives some free pages back to the file system; `None` when none was left.
pub(super) fn shrink(db: &Connection) -> Result<Option<u64>, Failure> {
    let failed = failed("give back free pages");
    let free = || db.query_row("PRAGMA freelist_count", [], |row| row.get::<_, i64>(0)).map_err(&failed);
    let before = free()?;
    let mut statement = db.prepare(&format!("PRAGMA incremental_vacuum({PAGES_MAX})")).map_err(&failed)?;
    let mut rows = statement.query([]).map_err(&failed)?;
    while rows.next().map_err(&failed)?.is_some() {}
    drop(rows);
    let after = free()?;
    Ok((after > 0 && after < before).then_some(0))
}

fn remove_spaces(db: &Connection, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<(), Failure> {
    let failed = failed("remove state");
    let mut statement = db.prepare_cached(sql).map_err(&failed)?;
    let ids = statement.query_map(values, |row| row.get::<_, i64>(0)).map_err(&failed)?;
    for id in ids.collect::<Result<Vec<_>, _>>().map_err(&failed)? {
        db.execute("DELETE FROM state WHERE space = ?1", [id]).map_err(&failed)?;
    }
    Ok(())
}
