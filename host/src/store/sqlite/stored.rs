//! How much the log keeps, and whether there is room for a new run.

use std::path::Path;

use rusqlite::Connection;

use crate::domain::{Failure, Kind};
use crate::store::{
    Bounds, StoredBytes,
    sqlite::{
        cache,
        schema::{failed, file_failed},
    },
};

/// Counts what is kept; `dir` is that of the log.
pub(super) fn count(db: &Connection, dir: &Path) -> Result<StoredBytes, Failure> {
    let number = |sql: &str| {
        let number = db.query_row(sql, [], |row| row.get::<_, i64>(0));
        number.map(i64::cast_unsigned).map_err(failed("count what is kept"))
    };
    let disk_bytes = ["log.db", "log.db-wal", "log.db-shm", "key"].iter();
    Ok(StoredBytes {
        runs: number("SELECT count(*) FROM runs")?,
        events: number("SELECT coalesce(sum(events), 0) FROM runs")?,
        payload_bytes: number("SELECT coalesce(sum(length(sealed)), 0) FROM payloads")?,
        cache_bytes: cache::bytes_kept(db)?,
        state_bytes: number("SELECT coalesce(sum(bytes), 0) FROM spaces")?,
        disk_bytes: disk_bytes.filter_map(|name| Some(dir.join(name).metadata().ok()?.len())).sum(),
        free_bytes: Some(free_bytes(dir)?),
    })
}

/// Refuses a new run where disk or log are nearly full, so that there is room for those under way to end.
pub(super) fn check_room(db: &Connection, dir: &Path, bounds: &Bounds) -> Result<(), Failure> {
    let free = free_bytes(dir)?;
    if free < bounds.disk_free_bytes_min {
        let message =
            format!("begin a run: the disk of the log has {free} bytes left, less than {}", bounds.disk_free_bytes_min);
        return Err(
            Failure::new(Kind::HostFull, message).hint("free some space, or remove old runs with `cofferdam prune`")
        );
    }
    let used = used_bytes(db)?;
    if used > bounds.log_bytes_max {
        let message = format!("begin a run: the log has {used} bytes, more than {}", bounds.log_bytes_max);
        return Err(Failure::new(Kind::HostFull, message)
            .hint("remove old runs with `cofferdam prune`, or raise `log_bytes_max`"));
    }
    Ok(())
}

/// Returns the bytes of pages in use.
fn used_bytes(db: &Connection) -> Result<u64, Failure> {
    let number = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map(i64::cast_unsigned);
    let pages = number("page_count").and_then(|pages| Ok((pages, number("freelist_count")?, number("page_size")?)));
    let (pages, free, size) = pages.map_err(failed("measure the log"))?;
    Ok(pages.saturating_sub(free).saturating_mul(size))
}

fn free_bytes(dir: &Path) -> Result<u64, Failure> {
    let disk = rustix::fs::statvfs(dir).map_err(|e| file_failed("measure the disk", dir)(e.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
