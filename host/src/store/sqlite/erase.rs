//! Erases a user: first the key, which makes all that it sealed unreadable; then the rows; then the files are wiped.
//!
//! A crash in between leaves nothing that can be read: whoever erases again removes what was left.

use rusqlite::{Connection, params};

use crate::domain::{Failure, Kind};
use crate::store::sqlite::{keys::Owner, prune::ROWS_MAX, schema::failed};

/// What else is kept of a user, by the columns that tell whose it is.
const TABLES: [&str; 2] = ["outcomes", "cached"];

/// Removes some of what the lost keys of a user sealed; returns the bytes, `None` when nothing was left.
pub(super) fn go_on(db: &Connection, owner: &Owner) -> Result<Option<u64>, Failure> {
    let failed = failed("remove what is kept of a user");
    let Owner { tenant, user } = owner;
    let runs = "SELECT run FROM runs WHERE tenant = ?1 AND user = ?2";
    let lost = "key NOT IN (SELECT id FROM keys)";
    let payloads = format!(
        "UPDATE payloads SET nonce = x'', sealed = x'' WHERE rowid IN (SELECT rowid FROM payloads
         WHERE run IN ({runs}) AND sealed <> x'' AND {lost} LIMIT {ROWS_MAX}) RETURNING 0"
    );
    let of_runs = ["host_calls", "inbox", "progress"].map(|table| {
        format!(
            "DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE run IN ({runs}) AND {lost}
             LIMIT {ROWS_MAX}) RETURNING length(sealed)"
        )
    });
    let of_user = TABLES.map(|table| {
        format!(
            "DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE tenant = ?1 AND user = ?2 AND {lost}
             LIMIT {ROWS_MAX}) RETURNING length(sealed)"
        )
    });
    let state = format!(
        "DELETE FROM state WHERE rowid IN (SELECT state.rowid FROM state JOIN spaces ON spaces.id = state.space
         WHERE tenant = ?1 AND user = ?2 AND {lost} LIMIT {ROWS_MAX}) RETURNING length(sealed)"
    );
    for sql in [payloads].into_iter().chain(of_runs).chain(of_user).chain([state]) {
        let mut statement = db.prepare(&sql).map_err(&failed)?;
        let sizes = statement.query_map(params![tenant, user], |row| row.get::<_, i64>(0)).map_err(&failed)?;
        let sizes = sizes.collect::<Result<Vec<_>, _>>().map_err(&failed)?;
        if !sizes.is_empty() {
            return Ok(Some(sizes.iter().sum::<i64>().cast_unsigned()));
        }
    }
    count_spaces(db, owner).map_err(failed)?;
    Ok(None)
}

/// Empties the write-ahead log, in which older pages stand.
pub(super) fn wipe(db: &Connection) -> Result<(), Failure> {
    let is_busy = db.query_row("PRAGMA wal_checkpoint(truncate)", [], |row| row.get::<_, bool>(0));
    if !is_busy.map_err(failed("wipe the write-ahead log"))? {
        return Ok(());
    }
    Err(Failure::new(Kind::HostBusy, "wipe the write-ahead log: another process is reading the log")
        .hint("erase the user again once that process has ended"))
}

/// Counts anew what the spaces of the user hold.
fn count_spaces(db: &Connection, owner: &Owner) -> rusqlite::Result<()> {
    let Owner { tenant, user } = owner;
    db.execute(
        "UPDATE spaces SET keys = (SELECT count(*) FROM state WHERE space = id),
         bytes = (SELECT coalesce(sum(bytes), 0) FROM state WHERE space = id) WHERE tenant = ?1 AND user = ?2",
        [tenant, user],
    )?;
    db.execute("DELETE FROM spaces WHERE tenant = ?1 AND user = ?2 AND keys = 0", [tenant, user]).map(drop)
}
