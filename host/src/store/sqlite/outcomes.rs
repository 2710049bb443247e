//! The table of outcomes by the key of a caller. The key itself is kept as a digest only.

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::{Digest, Failure, Principal, RunId, Timestamp};
use crate::store::{
    Claim, refusal,
    sqlite::{
        keys::{self, Owner, SealedRow},
        schema::{column, failed},
        seal::{Label, Master, Sealed},
    },
};

/// The key of a caller.
pub(super) struct Name {
    owner: Owner,
    digest: Digest,
}

impl Name {
    /// Returns the name of the key that `principal` gave.
    pub(super) fn new(principal: &Principal, key: &str) -> Self {
        let owner = Owner::of(principal);
        let digest = Digest::of_parts(&[owner.tenant.as_bytes(), owner.user.as_bytes(), key.as_bytes()]);
        Self { owner, digest }
    }

    /// Takes the key, where nobody has.
    pub(super) fn claim(
        &self,
        db: &Connection,
        master: &Master,
        request: &Digest,
        run: &RunId,
        at: Timestamp,
    ) -> Result<Claim, Failure> {
        if let Some(claim) = self.find(db, master, request)? {
            return Ok(claim);
        }
        let key = keys::of(db, master, &self.owner)?;
        let sql = "INSERT OR REPLACE INTO outcomes VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, x'', x'')";
        let Owner { tenant, user } = &self.owner;
        let (name, request, at) = (self.digest.as_bytes(), request.as_bytes(), at.0.cast_signed());
        let values = params![tenant, user, name, request, run.as_str(), at, key.id];
        db.execute(sql, values).map_err(failed("take an idempotency key"))?;
        Ok(Claim::Claimed)
    }

    /// Keeps the outcome, or gives the key back.
    pub(super) fn settle(&self, db: &Connection, master: &Master, outcome: Option<&[u8]>) -> Result<(), Failure> {
        let Owner { tenant, user } = &self.owner;
        let name = self.digest.as_bytes();
        let changed = match outcome {
            None => {
                let sql = "DELETE FROM outcomes WHERE tenant = ?1 AND user = ?2 AND name = ?3";
                db.execute(sql, params![tenant, user, name])
            }
            Some(outcome) => {
                let key = keys::of(db, master, &self.owner)?;
                let Sealed { nonce, bytes } = key.key.seal(master.clock(), &self.label(), outcome)?;
                let sql = "UPDATE outcomes SET is_settled = 1, key = ?4, nonce = ?5, sealed = ?6
                           WHERE tenant = ?1 AND user = ?2 AND name = ?3";
                db.execute(sql, params![tenant, user, name, key.id, nonce, bytes])
            }
        };
        if changed.map_err(failed("settle an idempotency key"))? == 0 { Err(refusal::no_key()) } else { Ok(()) }
    }

    /// Returns what became of the key; `None` where nobody has it, or who had it was erased.
    fn find(&self, db: &Connection, master: &Master, request: &Digest) -> Result<Option<Claim>, Failure> {
        let columns = SealedRow::COLUMNS;
        let sql = format!(
            "SELECT {columns}, found.request, found.run, found.is_settled
             FROM outcomes AS found JOIN keys ON keys.id = found.key
             WHERE found.tenant = ?1 AND found.user = ?2 AND found.name = ?3"
        );
        let values = params![self.owner.tenant, self.owner.user, self.digest.as_bytes()];
        let row = db.query_row(&sql, values, |row| {
            let is_settled: bool = row.get(8)?;
            Ok((SealedRow::read(row)?, row.get::<_, [u8; 32]>(6)?, column(row, 7)?, is_settled))
        });
        let row = row.optional().map_err(failed("find an idempotency key"))?;
        let Some((sealed, asked, run, is_settled)) = row else { return Ok(None) };
        if asked != *request.as_bytes() {
            return Ok(Some(Claim::Other));
        }
        let outcome = if is_settled { sealed.open(master, &self.label())? } else { None };
        Ok(Some(Claim::Taken { run, outcome }))
    }

    fn label(&self) -> Label {
        Label::new(&["outcome", &self.digest.to_string()])
    }
}
