//! The table of messages that wait for the owners of runs, sealed like payloads: people write what they like in them.

use rusqlite::{Connection, params};

use crate::domain::{Epoch, Failure, Kind, RunId};
use crate::store::{
    INBOX_MESSAGES_MAX, Message, Received, refusal,
    sqlite::{
        keys::{self, SealedRow},
        runs,
        schema::failed,
        seal::{Label, Master, Sealed},
    },
};

/// Adds a message at the end.
pub(super) fn send(db: &Connection, master: &Master, run: &RunId, message: &[u8]) -> Result<(), Failure> {
    let owner = keys::of_owner(db, master, run)?;
    if waiting(db, run)? >= INBOX_MESSAGES_MAX {
        return Err(refusal::inbox_full(run));
    }
    let Sealed { nonce, bytes } = owner.key.seal(master.clock(), &label(run), message)?;
    let sql = "INSERT INTO inbox (run, key, nonce, sealed) VALUES (?1, ?2, ?3, ?4)";
    db.execute(sql, params![run.as_str(), owner.id, nonce, bytes]).map(drop).map_err(failed("send a message"))
}

/// Returns the messages, oldest first. Those of an erased user are gone.
pub(super) fn list(db: &Connection, master: &Master, run: &RunId) -> Result<Vec<Received>, Failure> {
    runs::end(db, run)?;
    let failed = failed("read the inbox");
    let columns = SealedRow::COLUMNS;
    let sql = format!(
        "SELECT {columns}, found.id FROM inbox AS found JOIN keys ON keys.id = found.key
         WHERE found.run = ?1 ORDER BY found.id"
    );
    let mut statement = db.prepare(&sql).map_err(&failed)?;
    let rows = statement
        .query_map([run.as_str()], |row| Ok((SealedRow::read(row)?, row.get::<_, i64>(6)?)))
        .map_err(&failed)?;
    let mut messages = Vec::new();
    for row in rows {
        let (sealed, id) = row.map_err(&failed)?;
        let Some(bytes) = sealed.open(master, &label(run))? else { continue };
        messages.push(Received { id: id.cast_unsigned(), message: parse(&bytes)? });
    }
    Ok(messages)
}

/// Removes messages, if `epoch` is that of the run's owner.
pub(super) fn remove(db: &Connection, run: &RunId, epoch: Epoch, ids: &[u64]) -> Result<(), Failure> {
    runs::owned_end(db, run, epoch)?;
    let failed = failed("empty the inbox");
    let mut statement = db.prepare("DELETE FROM inbox WHERE run = ?1 AND id = ?2").map_err(&failed)?;
    ids.iter().try_for_each(|id| statement.execute(params![run.as_str(), id.cast_signed()]).map(drop)).map_err(&failed)
}

fn waiting(db: &Connection, run: &RunId) -> Result<usize, Failure> {
    let count = db.query_row("SELECT count(*) FROM inbox WHERE run = ?1", [run.as_str()], |row| row.get::<_, i64>(0));
    count.map(|count| usize::try_from(count).unwrap_or(usize::MAX)).map_err(failed("count the messages"))
}

fn parse(bytes: &[u8]) -> Result<Message, Failure> {
    serde_json::from_slice(bytes).map_err(|e| {
        Failure::new(Kind::HostStorage, "read a message: it is of another form")
            .hint("use the version of cofferdam that sent it")
            .detail(e)
    })
}

fn label(run: &RunId) -> Label {
    Label::new(&["message", run.as_str()])
}
