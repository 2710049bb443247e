//! The table of payloads, each sealed by the key of its run's owner.

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::{Digest, Failure, GENESIS, RunId, Seq};
use crate::store::{
    Payload, refusal,
    sqlite::{
        keys::{self, SealedRow},
        schema::failed,
        seal::{Label, Master, Sealed},
    },
};

/// Keeps payloads. Bytes that the run has already are kept once, unless they were erased.
pub(super) fn keep(db: &Connection, master: &Master, run: &RunId, payloads: &[Payload]) -> Result<(), Failure> {
    if payloads.is_empty() {
        return Ok(());
    }
    let owner = keys::of_owner(db, master, run)?;
    let sql = "INSERT INTO payloads VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (run, digest) DO UPDATE
               SET key = excluded.key, nonce = excluded.nonce, sealed = excluded.sealed
               WHERE NOT EXISTS (SELECT 1 FROM keys WHERE id = payloads.key)";
    let mut statement = db.prepare_cached(sql).map_err(failed("keep a payload"))?;
    for Payload { digest, bytes } in payloads {
        let Sealed { nonce, bytes } = owner.key.seal(master.clock(), &label(run, digest), bytes)?;
        let values = params![run.as_str(), digest.as_bytes(), owner.id, nonce, bytes];
        statement.execute(values).map_err(failed("keep a payload"))?;
    }
    Ok(())
}

/// Returns a payload, `None` where the key that sealed it was erased.
pub(super) fn find(db: &Connection, master: &Master, run: &RunId, digest: &Digest) -> Result<Option<Vec<u8>>, Failure> {
    let columns = SealedRow::COLUMNS;
    let sql = format!(
        "SELECT {columns} FROM payloads AS found LEFT JOIN keys ON keys.id = found.key
         WHERE found.run = ?1 AND found.digest = ?2"
    );
    let mut statement = db.prepare_cached(&sql).map_err(failed("read a payload"))?;
    let row = statement.query_row(params![run.as_str(), digest.as_bytes()], SealedRow::read).optional();
    let row = row.map_err(failed("read a payload"))?.ok_or_else(|| refusal::no_payload(run, digest))?;
    let bytes = row.open(master, &label(run, digest))?;
    if bytes.as_ref().is_some_and(|bytes| Digest::of(bytes) != *digest) {
        return Err(refusal::unfit_payload(run, digest));
    }
    Ok(bytes)
}

/// Opens every payload of a run, and names the first event that brought one which was touched. Those of an erased owner are
/// as they should be.
pub(super) fn verify(db: &Connection, master: &Master, run: &RunId) -> Result<(), Failure> {
    let failed = failed("read the payloads of a run");
    let columns = SealedRow::COLUMNS;
    let sql = format!(
        "SELECT {columns}, found.digest FROM payloads AS found LEFT JOIN keys ON keys.id = found.key
         WHERE found.run = ?1"
    );
    let mut statement = db.prepare(&sql).map_err(&failed)?;
    let mut rows = statement.query([run.as_str()]).map_err(&failed)?;
    let mut touched = Vec::new();
    while let Some(row) = rows.next().map_err(&failed)? {
        let digest = row.get(6).map(Digest::from_bytes).unwrap_or(GENESIS);
        let opened = SealedRow::read(row).map_err(&failed)?.open(master, &label(run, &digest));
        if !matches!(opened, Ok(None)) && opened.map_or(true, |bytes| bytes.is_none_or(|b| Digest::of(&b) != digest)) {
            touched.push((event_of(db, run, &digest)?.unwrap_or(Seq::MAX), digest));
        }
    }
    touched.into_iter().min().map_or(Ok(()), |(seq, digest)| Err(refusal::touched_payload(run, seq, &digest)))
}

/// Returns the first event that names a payload.
fn event_of(db: &Connection, run: &RunId, digest: &Digest) -> Result<Option<Seq>, Failure> {
    let sql = "SELECT min(seq) FROM events WHERE run = ?1 AND instr(body, ?2) > 0";
    let seq = db.query_row(sql, params![run.as_str(), digest.to_string()], |row| row.get::<_, Option<i64>>(0));
    Ok(seq.map_err(failed("read a run"))?.map(i64::cast_unsigned))
}

fn label(run: &RunId, digest: &Digest) -> Label {
    Label::new(&["payload", run.as_str(), &digest.to_string()])
}
