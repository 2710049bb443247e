//! The table of keys: each user has one, and erasing it erases all that was sealed with it.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::domain::{Failure, Principal, RunId};
use crate::store::{
    refusal,
    sqlite::{
        schema::failed,
        seal::{Key, Label, Master, Sealed},
    },
};

/// The key of a run's owner, and its number in the table.
pub(super) struct OwnerKey {
    pub id: i64,
    pub key: Key,
}

/// A row of something sealed, joined with the key that sealed it: none where that was erased.
pub(super) struct SealedRow {
    sealed: Sealed,
    key: Option<(Owner, Sealed)>,
}

/// The user to whom a key belongs.
#[derive(Clone)]
pub(super) struct Owner {
    pub tenant: String,
    pub user: String,
}

impl SealedRow {
    /// The columns that [`SealedRow::read`] expects first; `found` is the table that holds what was sealed.
    pub(super) const COLUMNS: &str = "found.nonce, found.sealed, keys.tenant, keys.user, keys.nonce, keys.sealed";

    /// Reads the row.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let sealed = sealed(row, 0)?;
        let Some(tenant) = row.get(2)? else { return Ok(Self { sealed, key: None }) };
        let owner = Owner { tenant, user: row.get(3)? };
        Ok(Self { sealed, key: Some((owner, self::sealed(row, 4)?)) })
    }

    /// Opens what was sealed as what `label` says, `None` where its key was erased.
    pub(super) fn open(&self, master: &Master, label: &Label) -> Result<Option<Vec<u8>>, Failure> {
        let Some((owner, key)) = &self.key else { return Ok(None) };
        master.open_key(&owner.label(), key)?.open(label, &self.sealed).map(Some)
    }
}

impl Owner {
    /// Returns the owner of what is kept for `principal`.
    pub(super) fn of(principal: &Principal) -> Self {
        Self { tenant: principal.tenant.clone(), user: principal.user.clone() }
    }

    /// Returns the owner of a run.
    pub(super) fn of_run(db: &Connection, run: &RunId) -> Result<Self, Failure> {
        let sql = "SELECT tenant, user FROM runs WHERE run = ?1";
        let mut statement = db.prepare_cached(sql).map_err(failed("find a run"))?;
        let owner = statement.query_row([run.as_str()], |row| Ok(Self { tenant: row.get(0)?, user: row.get(1)? }));
        owner.optional().map_err(failed("find a run"))?.ok_or_else(|| refusal::no_run(run))
    }

    fn label(&self) -> Label {
        Label::new(&["key", &self.tenant, &self.user])
    }
}

/// Returns the key of the run's owner, and makes one where there is none.
pub(super) fn of_owner(db: &Connection, master: &Master, run: &RunId) -> Result<OwnerKey, Failure> {
    of(db, master, &Owner::of_run(db, run)?)
}

/// Returns the key of a user, and makes one where there is none.
pub(super) fn of(db: &Connection, master: &Master, owner: &Owner) -> Result<OwnerKey, Failure> {
    let sql = "SELECT nonce, sealed, id FROM keys WHERE tenant = ?1 AND user = ?2";
    let mut statement = db.prepare_cached(sql).map_err(failed("find the key of a user"))?;
    let found = statement.query_row([&owner.tenant, &owner.user], |row| Ok((sealed(row, 0)?, row.get(2)?)));
    match found.optional().map_err(failed("find the key of a user"))? {
        Some((sealed, id)) => Ok(OwnerKey { id, key: master.open_key(&owner.label(), &sealed)? }),
        None => make(db, master, owner),
    }
}

/// Forgets the key of a user: nothing that it sealed can be read any more.
pub(super) fn forget(db: &Connection, owner: &Owner) -> Result<(), Failure> {
    let sql = "DELETE FROM keys WHERE tenant = ?1 AND user = ?2";
    db.execute(sql, [&owner.tenant, &owner.user]).map(drop).map_err(failed("erase the key of a user"))
}

/// Returns whether there is any key: then the master key that opens it must be there too.
pub(super) fn has_any(db: &Connection) -> Result<bool, Failure> {
    db.query_row("SELECT EXISTS (SELECT 1 FROM keys)", [], |row| row.get(0)).map_err(failed("find the keys of users"))
}

fn make(db: &Connection, master: &Master, owner: &Owner) -> Result<OwnerKey, Failure> {
    let (key, Sealed { nonce, bytes }) = master.make_key(&owner.label())?;
    let sql = "INSERT INTO keys (tenant, user, nonce, sealed) VALUES (?1, ?2, ?3, ?4) RETURNING id";
    let id = db.query_row(sql, params![owner.tenant, owner.user, nonce, bytes], |row| row.get(0));
    Ok(OwnerKey { id: id.map_err(failed("keep the key of a user"))?, key })
}

fn sealed(row: &Row<'_>, first: usize) -> rusqlite::Result<Sealed> {
    Ok(Sealed { nonce: row.get(first)?, bytes: row.get(first + 1)? })
}
