//! The table of runs: whose they are, who may append, and where their chain ends.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::domain::{Digest, Epoch, Failure, Principal, RunId, Seq, Timestamp};
use crate::store::{
    RunEntry,
    prune::Fate,
    refusal,
    sqlite::{
        keys::Owner,
        ownership::Birth,
        schema::{column, failed},
    },
};

/// Adds a run that begins with the events up to `end`, in its first epoch.
pub(super) fn create(
    db: &Connection,
    run: &RunId,
    birth: &Birth,
    end: (Seq, Digest, Timestamp),
) -> Result<(), Failure> {
    let failed = failed("create a run");
    let Birth { principal: Principal { tenant, user, session }, created } = birth;
    let sql = "INSERT INTO runs VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8) ON CONFLICT DO NOTHING";
    let mut statement = db.prepare_cached(sql).map_err(&failed)?;
    let (times, last) = ((created.0.cast_signed(), end.2.0.cast_signed()), end.0.cast_signed());
    let values = params![run.as_str(), tenant, user, session, times.0, times.1, last, end.1.as_bytes()];
    if statement.execute(values).map_err(&failed)? == 1 { Ok(()) } else { Err(refusal::run_exists(run)) }
}

/// Refuses the name of a run that exists.
pub(super) fn check_free(db: &Connection, run: &RunId) -> Result<(), Failure> {
    let found = db.query_row("SELECT 1 FROM runs WHERE run = ?1", [run.as_str()], |_| Ok(())).optional();
    found.map_err(failed("find a run"))?.map_or(Ok(()), |()| Err(refusal::run_exists(run)))
}

/// Begins the next epoch: whoever held the one before can append no more.
pub(super) fn next_epoch(db: &Connection, run: &RunId) -> Result<Epoch, Failure> {
    let sql = "UPDATE runs SET epoch = epoch + 1 WHERE run = ?1 RETURNING epoch";
    let epoch: Option<i64> =
        db.query_row(sql, [run.as_str()], |row| row.get(0)).optional().map_err(failed("take a run"))?;
    epoch.map(i64::cast_unsigned).ok_or_else(|| refusal::no_run(run))
}

/// Returns seq and hash of the last event.
pub(super) fn end(db: &Connection, run: &RunId) -> Result<(Seq, Digest), Failure> {
    state(db, run).map(|(_, end)| end)
}

/// Returns the end of the run for the owner of `epoch`, and refuses one whom another has followed.
pub(super) fn owned_end(db: &Connection, run: &RunId, epoch: Epoch) -> Result<(Seq, Digest), Failure> {
    let (current, end) = state(db, run)?;
    if current == epoch { Ok(end) } else { Err(refusal::superseded(run)) }
}

/// Moves the end of the run from `after` to `end`, if that is its end and `epoch` that of its owner.
pub(super) fn move_end(
    db: &Connection,
    run: &RunId,
    epoch: Epoch,
    after: (Seq, Digest),
    end: (Seq, Digest, Timestamp),
) -> Result<(), Failure> {
    let failed = failed("append to a run");
    let sql = "UPDATE runs SET events = ?5, head = ?6, last = ?7
               WHERE run = ?1 AND epoch = ?2 AND events = ?3 AND head = ?4";
    let mut statement = db.prepare_cached(sql).map_err(&failed)?;
    let owned = (run.as_str(), epoch.cast_signed(), after.0.cast_signed(), after.1.as_bytes());
    let next = (end.0.cast_signed(), end.1.as_bytes(), end.2.0.cast_signed());
    let values = params![owned.0, owned.1, owned.2, owned.3, next.0, next.1, next.2];
    if statement.execute(values).map_err(&failed)? == 1 {
        return Ok(());
    }
    check_end(db, run, epoch, after)?;
    Err(refusal::superseded(run))
}

/// Refuses who knows another end of the run, or is not its owner.
pub(super) fn check_end(db: &Connection, run: &RunId, epoch: Epoch, after: (Seq, Digest)) -> Result<(), Failure> {
    let end = owned_end(db, run, epoch)?;
    if end == after { Ok(()) } else { Err(refusal::conflict(run, after.0, end.0)) }
}

/// Returns the newest runs first, without owners: only the locks know them.
pub(super) fn list(db: &Connection, runs_max: usize) -> Result<Vec<RunEntry>, Failure> {
    let failed = failed("list the runs");
    let sql = "SELECT run, tenant, user, session, created, last, events FROM runs
               ORDER BY created DESC, run DESC LIMIT ?1";
    let mut statement = db.prepare(sql).map_err(&failed)?;
    let rows = statement.query_map([i64::try_from(runs_max).unwrap_or(i64::MAX)], entry).map_err(&failed)?;
    rows.collect::<Result<_, _>>().map_err(&failed)
}

const FATES: &str = "SELECT runs.run, runs.last, first.kind, first.body, final.kind FROM runs
    LEFT JOIN events AS first ON first.run = runs.run AND first.seq = 1
    LEFT JOIN events AS final ON final.run = runs.run AND final.seq = runs.events";

/// Returns what is known of all runs, to judge which may be removed.
pub(super) fn fates(db: &Connection) -> Result<Vec<Fate>, Failure> {
    let failed = failed("list the runs");
    let mut statement = db.prepare(FATES).map_err(&failed)?;
    let rows = statement.query_map([], read_fate).map_err(&failed)?;
    rows.collect::<Result<_, _>>().map_err(&failed)
}

/// Returns what is known of a run, to judge whether it may be removed.
pub(super) fn fate(db: &Connection, run: &RunId) -> Result<Option<Fate>, Failure> {
    let mut statement = db.prepare_cached(&format!("{FATES} WHERE runs.run = ?1")).map_err(failed("find a run"))?;
    statement.query_row([run.as_str()], read_fate).optional().map_err(failed("find a run"))
}

/// Returns the runs of a user.
pub(super) fn of_owner(db: &Connection, owner: &Owner) -> Result<Vec<RunId>, Failure> {
    let failed = failed("list the runs of a user");
    let mut statement = db.prepare("SELECT run FROM runs WHERE tenant = ?1 AND user = ?2").map_err(&failed)?;
    let rows = statement.query_map([&owner.tenant, &owner.user], |row| column(row, 0)).map_err(&failed)?;
    rows.collect::<Result<_, _>>().map_err(&failed)
}

fn read_fate(row: &Row<'_>) -> rusqlite::Result<Fate> {
    let (kind, body, last_kind): (Option<String>, Option<String>, Option<String>) =
        (row.get(2)?, row.get(3)?, row.get(4)?);
    let last = Timestamp(row.get::<_, i64>(1)?.cast_unsigned());
    Ok(Fate::new(column(row, 0)?, last, kind.as_deref().zip(body.as_deref()), last_kind.as_deref()))
}

fn state(db: &Connection, run: &RunId) -> Result<(Epoch, (Seq, Digest)), Failure> {
    let sql = "SELECT epoch, events, head FROM runs WHERE run = ?1";
    let mut statement = db.prepare_cached(sql).map_err(failed("find a run"))?;
    let state = statement.query_row([run.as_str()], |row| {
        let (epoch, events): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok((epoch.cast_unsigned(), (events.cast_unsigned(), Digest::from_bytes(row.get(2)?))))
    });
    state.optional().map_err(failed("find a run"))?.ok_or_else(|| refusal::no_run(run))
}

fn entry(row: &Row<'_>) -> rusqlite::Result<RunEntry> {
    let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
    Ok(RunEntry {
        run: column(row, 0)?,
        principal: Principal { tenant: row.get(1)?, user: row.get(2)?, session: row.get(3)? },
        created: Timestamp(number(4)?),
        last: Timestamp(number(5)?),
        events: number(6)?,
        owner: None,
    })
}
