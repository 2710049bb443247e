//! The tables of state that tools keep: names and values are sealed, and each space knows what it holds.

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::{Digest, Failure, StateQuota, StateReply, StateSpace};
use crate::store::{
    space::{self, Held},
    sqlite::{
        keys::{self, Owner, SealedRow},
        schema::failed,
        seal::{Label, Master},
    },
};

/// A space that has a row.
pub(super) struct Space<'a> {
    db: &'a Connection,
    master: &'a Master,
    id: i64,
    held: Held,
}

impl<'a> Space<'a> {
    /// Finds the space; `None` where nothing was ever kept in it.
    pub(super) fn find(db: &'a Connection, master: &'a Master, space: &StateSpace) -> Result<Option<Self>, Failure> {
        let (scope, session, run) = space::place(space);
        let sql = "SELECT id, keys, bytes FROM spaces WHERE tenant = ?1 AND user = ?2 AND scope = ?3
                   AND session = ?4 AND run = ?5 AND component = ?6";
        let Owner { tenant, user } = Owner::of(&space.principal);
        let mut statement = db.prepare_cached(sql).map_err(failed("find state"))?;
        let row = statement.query_row(params![tenant, user, scope, session, run, space.component], |row| {
            let (keys, bytes): (i64, i64) = (row.get(1)?, row.get(2)?);
            let held = Held { keys: keys.cast_unsigned(), bytes: bytes.cast_unsigned() };
            Ok(Self { db, master, id: row.get(0)?, held })
        });
        row.optional().map_err(failed("find state"))
    }

    /// Finds the space, and makes it where there is none.
    pub(super) fn make(db: &'a Connection, master: &'a Master, space: &StateSpace) -> Result<Self, Failure> {
        if let Some(found) = Self::find(db, master, space)? {
            return Ok(found);
        }
        let (scope, session, run) = space::place(space);
        let Owner { tenant, user } = Owner::of(&space.principal);
        let sql = "INSERT INTO spaces (tenant, user, scope, session, run, component, keys, bytes)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0) RETURNING id";
        let id = db.query_row(sql, params![tenant, user, scope, session, run, space.component], |row| row.get(0));
        Ok(Self { db, master, id: id.map_err(failed("make a space of state"))?, held: Held::default() })
    }

    /// Returns a value.
    pub(super) fn get(&self, key: &str) -> Result<StateReply, Failure> {
        let columns = SealedRow::COLUMNS;
        let sql = format!(
            "SELECT {columns} FROM state AS found LEFT JOIN keys ON keys.id = found.key
             WHERE found.space = ?1 AND found.name = ?2"
        );
        let mut statement = self.db.prepare_cached(&sql).map_err(failed("read state"))?;
        let name = self.name(key);
        let row = statement.query_row(params![self.id, name.as_bytes()], SealedRow::read).optional();
        let row = row.map_err(failed("read state"))?;
        let value = row.map(|row| row.open(self.master, &self.label("value", &name))).transpose()?;
        Ok(StateReply::Value(value.flatten()))
    }

    /// Keeps a value.
    pub(super) fn set(self, owner: &Owner, key: &str, value: &[u8], quota: &StateQuota) -> Result<StateReply, Failure> {
        let name = self.name(key);
        let before = self.bytes(&name)?;
        let held = self.held.after_set(quota, key, value.len(), before)?;
        let (clock, failed) = (self.master.clock(), failed("keep state"));
        let sealing = keys::of(self.db, self.master, owner)?;
        let value_row = sealing.key.seal(clock, &self.label("value", &name), value)?;
        let name_row = sealing.key.seal(clock, &self.label("name", &name), key.as_bytes())?;
        let sql = "INSERT OR REPLACE INTO state VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let bytes = space::bytes_of(key, value.len()).cast_signed();
        let values = params![
            self.id,
            name.as_bytes(),
            bytes,
            sealing.id,
            value_row.nonce,
            value_row.bytes,
            name_row.nonce,
            name_row.bytes
        ];
        self.db.prepare_cached(sql).and_then(|mut statement| statement.execute(values)).map_err(&failed)?;
        self.hold(held)?;
        Ok(StateReply::Done { was_there: before.is_some() })
    }

    /// Removes a value.
    pub(super) fn delete(self, key: &str) -> Result<StateReply, Failure> {
        let name = self.name(key);
        let Some(bytes) = self.bytes(&name)? else { return Ok(StateReply::Done { was_there: false }) };
        let sql = "DELETE FROM state WHERE space = ?1 AND name = ?2";
        self.db.execute(sql, params![self.id, name.as_bytes()]).map_err(failed("remove state"))?;
        self.hold(self.held.without(bytes))?;
        Ok(StateReply::Done { was_there: true })
    }

    /// Returns keys that begin with `prefix` and come after `after`, in order.
    pub(super) fn keys(&self, prefix: &str, after: Option<&str>, keys_max: u32) -> Result<StateReply, Failure> {
        let failed = failed("list state");
        let sql =
            "SELECT found.name_nonce, found.name_sealed, keys.tenant, keys.user, keys.nonce, keys.sealed, found.name
                   FROM state AS found JOIN keys ON keys.id = found.key WHERE found.space = ?1";
        let mut statement = self.db.prepare_cached(sql).map_err(&failed)?;
        let mut rows = statement.query([self.id]).map_err(&failed)?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next().map_err(&failed)? {
            let name = Digest::from_bytes(row.get(6).map_err(&failed)?);
            let opened = SealedRow::read(row).map_err(&failed)?.open(self.master, &self.label("name", &name))?;
            let key = opened.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            keys.extend(key.filter(|key| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after)));
        }
        keys.sort_unstable();
        keys.truncate(keys_max as usize);
        Ok(StateReply::Keys(keys))
    }

    /// Returns what a key takes that is there.
    fn bytes(&self, name: &Digest) -> Result<Option<u64>, Failure> {
        let sql = "SELECT bytes FROM state WHERE space = ?1 AND name = ?2";
        let bytes = self.db.query_row(sql, params![self.id, name.as_bytes()], |row| row.get::<_, i64>(0));
        Ok(bytes.optional().map_err(failed("read state"))?.map(i64::cast_unsigned))
    }

    fn hold(&self, held: Held) -> Result<(), Failure> {
        let sql = "UPDATE spaces SET keys = ?2, bytes = ?3 WHERE id = ?1";
        let values = params![self.id, held.keys.cast_signed(), held.bytes.cast_signed()];
        self.db.execute(sql, values).map(drop).map_err(failed("keep state"))
    }

    fn name(&self, key: &str) -> Digest {
        Digest::of_parts(&[&self.id.to_le_bytes(), key.as_bytes()])
    }

    fn label(&self, what: &str, name: &Digest) -> Label {
        Label::new(&["state", what, &self.id.to_string(), &name.to_string()])
    }
}
