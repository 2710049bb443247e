//! The tables of journals: what each host call brought, sealed by the key of the run's owner.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};

use crate::domain::{Epoch, Failure, HostCallRecord, RunId, StepId};
use crate::store::{
    journal::Line,
    refusal,
    sqlite::{
        keys::{self, SealedRow},
        runs,
        schema::failed,
        seal::{Label, Master, Sealed},
    },
};

/// The journal of one call, and the most that it may hold.
pub(super) struct Journal {
    pub run: RunId,
    pub step: StepId,
    pub attempt: u32,
}

impl Journal {
    /// Adds lines, if `epoch` is that of the run's owner.
    pub(super) fn write(
        &self,
        db: &Connection,
        master: &Master,
        epoch: Epoch,
        lines: &[Line],
        bytes_max: u64,
    ) -> Result<(), Failure> {
        runs::owned_end(db, &self.run, epoch)?;
        self.reserve(db, lines, bytes_max)?;
        let failed = failed("write the journal of a call");
        let owner = keys::of_owner(db, master, &self.run)?;
        let sql = "INSERT OR REPLACE INTO host_calls VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let mut statement = db.prepare_cached(sql).map_err(&failed)?;
        let (run, step) = (self.run.as_str(), self.step.as_str());
        for line in lines {
            let Sealed { nonce, bytes } =
                owner.key.seal(master.clock(), &self.label(line.n, line.is_done), &line.text)?;
            let values = params![run, step, self.attempt, line.n, line.is_done, owner.id, nonce, bytes];
            statement.execute(values).map_err(&failed)?;
        }
        Ok(())
    }

    /// Returns the records, in order.
    pub(super) fn read(&self, db: &Connection, master: &Master) -> Result<Vec<HostCallRecord>, Failure> {
        runs::end(db, &self.run)?;
        let failed = failed("read the journal of a call");
        let columns = SealedRow::COLUMNS;
        let sql = format!(
            "SELECT {columns}, found.n, found.is_done FROM host_calls AS found JOIN keys ON keys.id = found.key
             WHERE found.run = ?1 AND found.step = ?2 AND found.attempt = ?3 ORDER BY found.n, found.is_done"
        );
        let mut statement = db.prepare_cached(&sql).map_err(&failed)?;
        let values = params![self.run.as_str(), self.step.as_str(), self.attempt];
        let mut rows = statement.query(values).map_err(&failed)?;
        let mut records = BTreeMap::new();
        while let Some(row) = rows.next().map_err(&failed)? {
            let Some(line) = self.line(row, master)? else { continue };
            line.add_to(&mut records).ok_or_else(|| refusal::unfit_journal(&self.run, &self.step, line.n))?;
        }
        Ok(records.into_values().collect())
    }

    fn line(&self, row: &Row<'_>, master: &Master) -> Result<Option<Line>, Failure> {
        let failed = failed("read the journal of a call");
        let (n, is_done) = (row.get(6).map_err(&failed)?, row.get(7).map_err(&failed)?);
        let text = SealedRow::read(row).map_err(&failed)?.open(master, &self.label(n, is_done));
        let text = text.map_err(|failure| refusal::unfit_journal(&self.run, &self.step, n).detail(failure))?;
        Ok(text.map(|text| Line { n, is_done, text }))
    }

    fn reserve(&self, db: &Connection, lines: &[Line], bytes_max: u64) -> Result<(), Failure> {
        let bytes: u64 = lines.iter().map(|line| line.text.len() as u64).sum();
        let sql = "INSERT INTO journals VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes RETURNING bytes";
        let mut statement = db.prepare_cached(sql).map_err(failed("write the journal of a call"))?;
        let values = params![self.run.as_str(), self.step.as_str(), self.attempt, bytes.cast_signed()];
        let held = statement.query_row(values, |row| row.get::<_, i64>(0));
        let held = held.map_err(failed("write the journal of a call"))?.cast_unsigned();
        if held > bytes_max { Err(refusal::journal_full(&self.run, &self.step, bytes_max)) } else { Ok(()) }
    }

    fn label(&self, n: u32, is_done: bool) -> Label {
        let (attempt, n, is_done) = (self.attempt.to_string(), n.to_string(), is_done.to_string());
        Label::new(&["host call", self.run.as_str(), self.step.as_str(), &attempt, &n, &is_done])
    }
}
