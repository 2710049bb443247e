//! The database file: its format, its tables, and how connections to it are made.
//!
//! A file of another format is refused before anything is written to it.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row};

use crate::domain::{Failure, Kind, SCHEMA_VERSION};

/// The format that this program reads and writes: the tables and what their columns mean, how text is sealed and hashed.
/// It is frozen; a table that is new does not change it, a column that means something else does.
const FORMAT: &str = "v1";

/// The format of programs that promised nothing: no log of theirs is read.
const UNPROMISED: &str = "v0";

/// KiB that the write-ahead log keeps on the disk after a checkpoint: enough to be reused, small beside the log.
const WAL_KIB_MAX: u32 = 16 * 1_024;

/// KiB of pages that the writer keeps in memory: what one commit changes fits many times. Where it does not fit, pages are
/// written early, and again when they change again.
const CACHE_KIB: i32 = 16 * 1_024;

/// Statements that a connection keeps prepared: all that are used often.
const STATEMENTS_MAX: usize = 48;

// A column `key` may name a key that is gone: that is what erasing a user means. Rows of a run that was removed are taken
// away after it, so none of them refers to the table of runs.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS meta (
    name TEXT PRIMARY KEY, value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (
    run TEXT PRIMARY KEY, tenant TEXT NOT NULL, user TEXT NOT NULL, session TEXT NOT NULL,
    created INTEGER NOT NULL, last INTEGER NOT NULL,
    epoch INTEGER NOT NULL, events INTEGER NOT NULL, head BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS runs_by_creation ON runs (created, run);
CREATE TABLE IF NOT EXISTS events (
    run TEXT NOT NULL, seq INTEGER NOT NULL, v INTEGER NOT NULL, at INTEGER NOT NULL,
    epoch INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, hash BLOB NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, user TEXT NOT NULL,
    nonce BLOB NOT NULL, sealed BLOB NOT NULL, UNIQUE (tenant, user)
) STRICT;
CREATE TABLE IF NOT EXISTS payloads (
    run TEXT NOT NULL, digest BLOB NOT NULL, key INTEGER NOT NULL,
    nonce BLOB NOT NULL, sealed BLOB NOT NULL, UNIQUE (run, digest)
) STRICT;
CREATE TABLE IF NOT EXISTS inbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL, key INTEGER NOT NULL,
    nonce BLOB NOT NULL, sealed BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS inbox_by_run ON inbox (run, id);
CREATE TABLE IF NOT EXISTS journals (
    run TEXT NOT NULL, step TEXT NOT NULL, attempt INTEGER NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (run, step, attempt)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS host_calls (
    run TEXT NOT NULL, step TEXT NOT NULL, attempt INTEGER NOT NULL, n INTEGER NOT NULL, is_done INTEGER NOT NULL,
    key INTEGER NOT NULL, nonce BLOB NOT NULL, sealed BLOB NOT NULL, UNIQUE (run, step, attempt, n, is_done)
) STRICT;
CREATE TABLE IF NOT EXISTS progress (
    run TEXT NOT NULL, step TEXT NOT NULL, at INTEGER NOT NULL,
    key INTEGER NOT NULL, nonce BLOB NOT NULL, sealed BLOB NOT NULL, UNIQUE (run, step)
) STRICT;
CREATE TABLE IF NOT EXISTS outcomes (
    tenant TEXT NOT NULL, user TEXT NOT NULL, name BLOB NOT NULL, request BLOB NOT NULL, run TEXT NOT NULL,
    at INTEGER NOT NULL, is_settled INTEGER NOT NULL,
    key INTEGER NOT NULL, nonce BLOB NOT NULL, sealed BLOB NOT NULL, UNIQUE (tenant, user, name)
) STRICT;
CREATE TABLE IF NOT EXISTS cached (
    tenant TEXT NOT NULL, user TEXT NOT NULL, name BLOB NOT NULL, run TEXT NOT NULL, at INTEGER NOT NULL,
    used INTEGER NOT NULL, bytes INTEGER NOT NULL,
    key INTEGER NOT NULL, nonce BLOB NOT NULL, sealed BLOB NOT NULL, UNIQUE (tenant, user, name)
) STRICT;
CREATE INDEX IF NOT EXISTS cached_by_use ON cached (used);
CREATE TABLE IF NOT EXISTS spaces (
    id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, user TEXT NOT NULL, scope TEXT NOT NULL,
    session TEXT NOT NULL, run TEXT NOT NULL, component TEXT NOT NULL,
    keys INTEGER NOT NULL, bytes INTEGER NOT NULL, UNIQUE (tenant, user, scope, session, run, component)
) STRICT;
CREATE TABLE IF NOT EXISTS state (
    space INTEGER NOT NULL, name BLOB NOT NULL, bytes INTEGER NOT NULL, key INTEGER NOT NULL,
    nonce BLOB NOT NULL, sealed BLOB NOT NULL, name_nonce BLOB NOT NULL, name_sealed BLOB NOT NULL,
    UNIQUE (space, name)
) STRICT;
CREATE TABLE IF NOT EXISTS totals (
    name TEXT PRIMARY KEY, bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS cached_grows AFTER INSERT ON cached
    BEGIN UPDATE totals SET bytes = bytes + NEW.bytes WHERE name = 'cached'; END;
CREATE TRIGGER IF NOT EXISTS cached_shrinks AFTER DELETE ON cached
    BEGIN UPDATE totals SET bytes = bytes - OLD.bytes WHERE name = 'cached'; END;
INSERT OR IGNORE INTO totals VALUES ('cached', 0), ('syncs', 0);
CREATE TABLE IF NOT EXISTS removed (
    run TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
";

/// Refuses a file of another format. Writes nothing.
pub(super) fn check_format(path: &Path, busy: Duration) -> Result<(), Failure> {
    let is_new = std::fs::metadata(path).map_or(true, |file| file.len() == 0);
    if is_new {
        return Ok(());
    }
    let db = reader(path, busy)?;
    let tables = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0));
    let tables: u32 = tables.map_err(failed("read the log"))?;
    // A process that died while it made the file leaves it without tables.
    if tables == 0 { Ok(()) } else { check_marker(&db, path) }
}

fn check_marker(db: &Connection, path: &Path) -> Result<(), Failure> {
    match marker(db, "format") {
        Ok(Some(format)) if format == FORMAT => check_version(db, path),
        Ok(Some(format)) if format == UNPROMISED => Err(unpromised(path)),
        Ok(Some(format)) => Err(unknown_format(path, &format)),
        Ok(None) => Err(no_log(path)),
        Err(rusqlite::Error::SqliteFailure(e, _)) if e.code == ErrorCode::Unknown => Err(no_log(path)),
        Err(error) => Err(failed("read the format of the log")(error)),
    }
}

/// Refuses a log to which a later program may have written events of a version that this one does not know.
fn check_version(db: &Connection, path: &Path) -> Result<(), Failure> {
    let version = marker(db, "events").map_err(failed("read the format of the log"))?;
    match version.map_or(Ok(0), |version| version.parse::<u16>()) {
        Ok(0) => Err(no_log(path)),
        Ok(version) if version <= SCHEMA_VERSION => Ok(()),
        Ok(version) => Err(unknown_format(path, &format!("{FORMAT} with events of version {version}"))),
        Err(_) => Err(no_log(path)),
    }
}

fn marker(db: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    db.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()
}

/// Opens the connection that writes, and makes file and tables where there are none.
pub(super) fn writer(path: &Path, busy: Duration) -> Result<Connection, Failure> {
    make_private(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = open(path, flags, busy)?;
    prepare(&db).map_err(failed("prepare the log"))?;
    Ok(db)
}

/// Opens a connection that only reads.
pub(super) fn reader(path: &Path, busy: Duration) -> Result<Connection, Failure> {
    open(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX, busy)
}

fn open(path: &Path, flags: OpenFlags, busy: Duration) -> Result<Connection, Failure> {
    let db = Connection::open_with_flags(path, flags).map_err(failed("open the log"))?;
    db.busy_timeout(busy).map_err(failed("open the log"))?;
    db.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(db)
}

fn prepare(db: &Connection) -> rusqlite::Result<()> {
    // Only a file without tables takes this: pages that become free are given back later, some at a time.
    db.pragma_update(None, "auto_vacuum", "incremental")?;
    db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    db.pragma_update(None, "synchronous", "full")?;
    db.pragma_update(None, "cache_size", -CACHE_KIB)?;
    // What a savepoint needs to take a job back goes to memory, and never to a file.
    db.pragma_update(None, "temp_store", "memory")?;
    // What is deleted (keys of erased users, messages) shall not stay in free pages.
    db.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
    db.pragma_update_and_check(None, "journal_size_limit", WAL_KIB_MAX * 1_024, |_| Ok(()))?;
    let marker = format!(
        "INSERT OR IGNORE INTO meta VALUES ('format', '{FORMAT}'), ('events', '{SCHEMA_VERSION}');
         UPDATE meta SET value = '{SCHEMA_VERSION}' WHERE name = 'events' AND CAST(value AS INTEGER) < {SCHEMA_VERSION};"
    );
    db.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} {marker} COMMIT;"))
}

/// Makes the file for its owner only; SQLite gives its companions the same mode.
fn make_private(path: &Path) -> Result<(), Failure> {
    // Only a new file is opened here: closing a file drops every lock that this process holds on it.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(file_failed("make the log", path)(e)),
        _ => Ok(()),
    }
}

fn unknown_format(path: &Path, format: &str) -> Failure {
    let message = format!("open {}: its format is `{format}`, and this program knows `{FORMAT}`", path.display());
    Failure::new(Kind::HostStorage, message).hint("use the version of cofferdam that wrote it")
}

fn unpromised(path: &Path) -> Failure {
    let message = format!("open {}: it is of a version before the first that is kept (`{UNPROMISED}`)", path.display());
    Failure::new(Kind::HostStorage, message)
        .hint("move the directory away to begin a new log, or read it with the version of cofferdam that wrote it")
}

fn no_log(path: &Path) -> Failure {
    Failure::new(Kind::HostStorage, format!("open {}: it is not a log of cofferdam", path.display()))
        .hint("choose another directory")
}

/// Reads a column whose text is the name of something.
pub(super) fn column<T: std::str::FromStr<Err = String>>(row: &Row<'_>, index: usize) -> rusqlite::Result<T> {
    let text: String = row.get(index)?;
    text.parse().map_err(|e: String| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, e.into()))
}

/// Returns how an error of SQLite becomes a failure; `what` fits after "failed to".
pub(super) fn failed(what: &'static str) -> impl Fn(rusqlite::Error) -> Failure {
    move |error| {
        let (why, hint) = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => ("the disk is full", "free some space where the log is kept"),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                ("another process is writing to it for too long", "try again, or look for a process that hangs")
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                ("the file is damaged", "restore it from a backup")
            }
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                ("the file may not be used", "look at the permissions of the directory of the log")
            }
            _ => ("the database refused", "look at the disk where the log is kept"),
        };
        Failure::new(Kind::HostStorage, format!("{what}: {why}")).hint(hint).detail(error)
    }
}

/// Returns how an error of a file becomes a failure; `what` fits after "failed to".
pub(super) fn file_failed(what: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Failure {
    let message = format!("{what} at {}", path.display());
    move |error| {
        let hint = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space where the log is kept",
            _ => "look at the permissions of the directory of the log",
        };
        Failure::new(Kind::HostStorage, message.as_str()).hint(hint).detail(error)
    }
}
