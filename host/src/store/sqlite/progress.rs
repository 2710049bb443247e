//! The table of the newest word of each step, and the words that are on their way to it.
//!
//! However often a tool speaks, one word of a step at most waits for the writer: a newer one takes its place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Row, params};

use crate::domain::{Epoch, Failure, Kind, RunId, StepId, Timestamp, printable};
use crate::store::{
    StepProgress,
    sqlite::{
        keys::{self, SealedRow},
        runs,
        schema::failed,
        seal::{Label, Master, Sealed},
    },
};

/// Words that wait for the writer.
#[derive(Clone, Default)]
pub(super) struct Board {
    waiting: Arc<Mutex<HashMap<(RunId, StepId), StepProgress>>>,
}

impl Board {
    /// Puts a word there, and returns whether none of the step waited.
    pub(super) fn put(&self, run: &RunId, progress: StepProgress) -> bool {
        self.waiting().insert((run.clone(), progress.step.clone()), progress).is_none()
    }

    /// Takes the word of a step away.
    pub(super) fn take(&self, run: &RunId, step: &StepId) -> Option<StepProgress> {
        self.waiting().remove(&(run.clone(), step.clone()))
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<(RunId, StepId), StepProgress>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the newest word of a step, if `epoch` is that of the run's owner.
pub(super) fn keep(
    db: &Connection,
    master: &Master,
    run: &RunId,
    epoch: Epoch,
    progress: &StepProgress,
) -> Result<(), Failure> {
    runs::owned_end(db, run, epoch)?;
    let owner = keys::of_owner(db, master, run)?;
    let StepProgress { step, fraction, message, at } = progress;
    let text = serde_json::to_vec(&(fraction, printable(message)))
        .map_err(|e| Failure::new(Kind::HostBug, "write the progress of a step").detail(e))?;
    let Sealed { nonce, bytes } = owner.key.seal(master.clock(), &label(run, step), &text)?;
    let sql = "INSERT OR REPLACE INTO progress VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let mut statement = db.prepare_cached(sql).map_err(failed("keep the progress of a step"))?;
    let values = params![run.as_str(), step.as_str(), at.0.cast_signed(), owner.id, nonce, bytes];
    statement.execute(values).map(drop).map_err(failed("keep the progress of a step"))
}

/// Returns the newest words, by the name of the step.
pub(super) fn list(db: &Connection, master: &Master, run: &RunId) -> Result<Vec<StepProgress>, Failure> {
    runs::end(db, run)?;
    let failed = failed("read the progress of a run");
    let columns = SealedRow::COLUMNS;
    let sql = format!(
        "SELECT {columns}, found.step, found.at FROM progress AS found JOIN keys ON keys.id = found.key
         WHERE found.run = ?1 ORDER BY found.step"
    );
    let mut statement = db.prepare_cached(&sql).map_err(&failed)?;
    let mut rows = statement.query([run.as_str()]).map_err(&failed)?;
    let mut words = Vec::new();
    while let Some(row) = rows.next().map_err(&failed)? {
        words.extend(word(row, master, run)?);
    }
    Ok(words)
}

fn word(row: &Row<'_>, master: &Master, run: &RunId) -> Result<Option<StepProgress>, Failure> {
    let failed = failed("read the progress of a run");
    let (step, at): (String, i64) = (row.get(6).map_err(&failed)?, row.get(7).map_err(&failed)?);
    let unfit = |e: String| Failure::new(Kind::HostStorage, "read the progress of a run: it was changed").detail(e);
    let step: StepId = step.parse().map_err(unfit)?;
    let sealed = SealedRow::read(row).map_err(&failed)?;
    let Some(text) = sealed.open(master, &label(run, &step))? else { return Ok(None) };
    let (fraction, message) = serde_json::from_slice(&text).map_err(|e| unfit(e.to_string()))?;
    Ok(Some(StepProgress { step, fraction, message, at: Timestamp(at.cast_unsigned()) }))
}

fn label(run: &RunId, step: &StepId) -> Label {
    Label::new(&["progress", run.as_str(), step.as_str()])
}
