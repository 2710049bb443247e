//! The table of outcomes by content: of one user each, the least used go first.

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::{Digest, Failure, Principal, Timestamp};
use crate::store::{
    CachedOutcome,
    sqlite::{
        keys::{self, Owner, SealedRow},
        schema::{column, failed},
        seal::{Label, Master, Sealed},
    },
};

/// The place of an outcome.
#[derive(Clone)]
pub(super) struct Slot {
    owner: Owner,
    key: Digest,
}

impl Slot {
    /// Returns the place of the outcome that `key` names, among those of the user.
    pub(super) fn new(principal: &Principal, key: &Digest) -> Self {
        Self { owner: Owner::of(principal), key: *key }
    }

    /// Returns what is kept there.
    pub(super) fn find(&self, db: &Connection, master: &Master) -> Result<Option<CachedOutcome>, Failure> {
        let columns = SealedRow::COLUMNS;
        let sql = format!(
            "SELECT {columns}, found.run, found.at FROM cached AS found JOIN keys ON keys.id = found.key
             WHERE found.tenant = ?1 AND found.user = ?2 AND found.name = ?3"
        );
        let mut statement = db.prepare_cached(&sql).map_err(failed("find a cached outcome"))?;
        let values = params![self.owner.tenant, self.owner.user, self.key.as_bytes()];
        let row = statement.query_row(values, |row| {
            let at: i64 = row.get(7)?;
            Ok((SealedRow::read(row)?, column(row, 6)?, Timestamp(at.cast_unsigned())))
        });
        let Some((sealed, run, at)) = row.optional().map_err(failed("find a cached outcome"))? else { return Ok(None) };
        Ok(sealed.open(master, &self.label())?.map(|output| CachedOutcome { output, run, at }))
    }

    /// Notes that it was used.
    pub(super) fn touch(&self, db: &Connection) -> Result<(), Failure> {
        let sql = "UPDATE cached SET used = (SELECT max(used) + 1 FROM cached)
                   WHERE tenant = ?1 AND user = ?2 AND name = ?3";
        let values = params![self.owner.tenant, self.owner.user, self.key.as_bytes()];
        let mut statement = db.prepare_cached(sql).map_err(failed("use a cached outcome"))?;
        statement.execute(values).map(drop).map_err(failed("use a cached outcome"))
    }

    /// Keeps an outcome there, and drops the least used ones while all take more than `bytes_max`.
    pub(super) fn keep(
        &self,
        db: &Connection,
        master: &Master,
        outcome: &CachedOutcome,
        bytes_max: u64,
    ) -> Result<(), Failure> {
        let failed = failed("keep an outcome");
        let Owner { tenant, user } = &self.owner;
        let name = self.key.as_bytes();
        let sql = "DELETE FROM cached WHERE tenant = ?1 AND user = ?2 AND name = ?3";
        db.execute(sql, params![tenant, user, name]).map_err(&failed)?;
        let key = keys::of(db, master, &self.owner)?;
        let Sealed { nonce, bytes } = key.key.seal(master.clock(), &self.label(), &outcome.output)?;
        let sql = "INSERT INTO cached
                   VALUES (?1, ?2, ?3, ?4, ?5, (SELECT coalesce(max(used), 0) + 1 FROM cached), ?6, ?7, ?8, ?9)";
        let (run, at, size) = (outcome.run.as_str(), outcome.at.0.cast_signed(), outcome.output.len() as u64);
        let size = size.cast_signed();
        db.execute(sql, params![tenant, user, name, run, at, size, key.id, nonce, bytes]).map_err(&failed)?;
        while bytes_kept(db)? > bytes_max && drop_least_used(db).map_err(&failed)? {}
        Ok(())
    }

    fn label(&self) -> Label {
        Label::new(&["cached", &self.owner.tenant, &self.owner.user, &self.key.to_string()])
    }
}

/// Returns the bytes of all cached outcomes.
pub(super) fn bytes_kept(db: &Connection) -> Result<u64, Failure> {
    let bytes = db.query_row("SELECT bytes FROM totals WHERE name = 'cached'", [], |row| row.get::<_, i64>(0));
    bytes.map(i64::cast_unsigned).map_err(failed("count cached outcomes"))
}

/// Returns whether there was one to drop.
fn drop_least_used(db: &Connection) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM cached WHERE rowid = (SELECT rowid FROM cached ORDER BY used LIMIT 1)";
    Ok(db.prepare_cached(sql)?.execute([])? > 0)
}
