//! Connections that only read, used on blocking threads.
//!
//! It does not wait for the writer: the log does that first.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::domain::{Failure, Kind};
use crate::store::sqlite::schema;

/// A bounded pool of connections.
pub(super) struct Readers {
    path: PathBuf,
    busy: Duration,
    slots: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    /// Makes a pool of at most `readers_max` connections; each is opened when first needed.
    pub(super) fn new(path: PathBuf, busy: Duration, readers_max: usize) -> Self {
        Self { path, busy, slots: Semaphore::new(readers_max.max(1)), idle: Mutex::default() }
    }

    /// Does `work` with a connection, on a thread that may block.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let unfinished = |e: &dyn std::fmt::Display| Failure::new(Kind::HostStorage, "read the log").detail(e);
        let _slot = self.slots.acquire().await.map_err(|e| unfinished(&e))?;
        let readers = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || readers.with_connection(work));
        reading.await.map_err(|e| unfinished(&e))?
    }

    fn with_connection<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Failure>) -> Result<T, Failure> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let db = idle.map_or_else(|| schema::reader(&self.path, self.busy), Ok)?;
        let value = work(&db)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(db);
        Ok(value)
    }
}
