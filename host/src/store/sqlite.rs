//! A log in one SQLite file, shared by the processes of one machine.
//!
//! Promises: one thread writes, and commits together what waits together; a run is owned by the holder of a lock that
//! the kernel frees; payloads and messages are sealed. Reads see all that this process queued before. What can be
//! said of events without a database stands in `chain`; this file puts the parts together.

mod aside;
mod backup;
mod cache;
mod erase;
mod events;
mod inbox;
mod journal;
mod keys;
mod lock;
mod outcomes;
mod ownership;
mod payloads;
mod progress;
mod prune;
mod reader;
mod runs;
mod schema;
mod seal;
mod spaces;
mod stored;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;

use crate::clock::Clock;
use crate::domain::{Digest, Event, Failure, GENESIS, Kind, Principal, RunId, Seq, Timestamp};
use crate::store::{
    Batch, Bounds, Durability, EventLog, Message, Ownership, Payload, Pruned, Received, RunEntry, Verified, chain,
    chain::Record, refusal, upcast::Versions,
};

use lock::{Lock, Locks};
use ownership::{Birth, Lease, Leases};
use progress::Board;
use reader::Readers;
use seal::Master;
use writer::{Load, Writer};

/// How a log is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteOptions {
    /// How long a commit waits for another process that writes, in milliseconds.
    pub busy_ms_max: u64,
    /// Appends that may wait for the writer; the next one waits for room.
    pub queue_jobs_max: usize,
    /// Reads at one time.
    pub readers_max: usize,
    /// How much the log keeps.
    pub bounds: Bounds,
}

impl Default for SqliteOptions {
    /// Five seconds outlast any commit of a healthy disk; 1,024 appends are four commits; four reads keep two cores busy.
    fn default() -> Self {
        Self { busy_ms_max: 5_000, queue_jobs_max: 1_024, readers_max: 4, bounds: Bounds::default() }
    }
}

/// A log in a directory: `log.db`, the `key` that opens its payloads, and `locks`.
pub struct SqliteLog {
    // Readers are dropped first, so that the writer closes the file last and leaves it whole.
    readers: Arc<Readers>,
    writer: Writer,
    locks: Locks,
    leases: Leases,
    master: Arc<Master>,
    board: Board,
    dir: PathBuf,
    busy: Duration,
    bounds: Bounds,
    /// The versions of events that are read.
    versions: Versions<'static>,
    /// The first queued append that was lost: whoever flushes hears of it.
    lost: Arc<OnceLock<Failure>>,
}

/// Returns the version of SQLite that is compiled in.
pub fn version() -> &'static str {
    rusqlite::version()
}

impl SqliteLog {
    /// Opens the log in `dir`, and makes it where there is none.
    ///
    /// # Errors
    /// `host.storage`, also where the file is of another format: then nothing was written. `host.busy` where another
    /// process has been opening the log for ten seconds.
    pub fn open(dir: &Path, options: SqliteOptions, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        let (path, busy) = (dir.join("log.db"), Duration::from_millis(options.busy_ms_max));
        schema::check_format(&path, busy)?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(schema::file_failed("make the directory of the log", dir))?;
        let locks = Locks::open(dir.join("locks"))?;
        let _opening = locks.opening()?;
        let db = schema::writer(&path, busy)?;
        let master = Arc::new(open_master(&db, &dir.join("key"), clock)?);
        let writer = Writer::start(db, options.queue_jobs_max)?;
        let readers = Arc::new(Readers::new(path, busy, options.readers_max));
        let (leases, board, lost) = (Leases::default(), Board::default(), Arc::default());
        let (dir, bounds, versions) = (dir.to_owned(), options.bounds, Versions::KNOWN);
        Ok(Self { readers, writer, locks, leases, master, board, dir, busy, bounds, versions, lost })
    }

    /// Writes what belongs to a run. Where nobody waits for a failure, the next write of this owner tells it.
    async fn write(
        &self,
        lease: Arc<Lease>,
        load: impl Into<Load>,
        durability: Durability,
        work: impl FnOnce(&Connection) -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let (load, writing) = (load.into(), Arc::clone(&lease));
        let checked = move |db: &Connection| writing.check().and_then(|()| work(db));
        if durability == Durability::Synced {
            return self.writer.call(load, checked).await;
        }
        let (lost, broken) = (Arc::clone(&self.lost), Arc::clone(&lease));
        let answer = move |result: Result<(), Failure>| {
            if let Err(failure) = result {
                lease.break_by(&failure);
                lost.get_or_init(|| failure);
            }
        };
        // What follows in the same commit must know already.
        let unseen = move |db: &Connection| checked(db).inspect_err(|failure| broken.break_by(failure));
        self.writer.queue(load, unseen, answer).await
    }

    /// Takes the locks of all runs, or none.
    async fn lock_all(&self, runs: Vec<RunId>, owner: &'static str) -> Result<Vec<Lock>, Failure> {
        let locks = self.locks.clone();
        let taking = tokio::task::spawn_blocking(move || runs.iter().map(|run| locks.take(run, owner)).collect());
        taking.await.map_err(|e| Failure::new(Kind::HostStorage, "take the runs").detail(e))?
    }

    /// Removes runs that ended together, unless somebody has taken one of them.
    async fn remove(&self, family: Vec<RunId>, before: Timestamp) -> Result<Pruned, Failure> {
        let removed = match self.lock_all(family.clone(), "prune").await {
            Ok(locks) => self.remove_locked(family, locks, before).await,
            Err(failure) => Err(failure),
        };
        match removed {
            Err(failure) if failure.kind == Kind::HostOwned => Ok(Pruned::default()),
            removed => removed,
        }
    }

    async fn remove_locked(&self, family: Vec<RunId>, locks: Vec<Lock>, before: Timestamp) -> Result<Pruned, Failure> {
        let pruned = self.writer.call(0, move |db| prune::begin(db, &family, before)).await?;
        locks.into_iter().try_for_each(Lock::remove)?;
        Ok(pruned)
    }

    /// Does the next part of something long, until it says that nothing is left; returns the bytes.
    async fn go_on(
        &self,
        part: impl Fn(&Connection) -> Result<Option<u64>, Failure> + Clone + Send + 'static,
    ) -> Result<u64, Failure> {
        let mut bytes = 0;
        while let Some(more) = self.writer.call(0, part.clone()).await? {
            bytes += more;
        }
        Ok(bytes)
    }

    /// Takes the lock of `run`.
    async fn lock(&self, run: &RunId, owner: &str) -> Result<Lock, Failure> {
        let (locks, run, owner) = (self.locks.clone(), run.clone(), owner.to_owned());
        let taking = tokio::task::spawn_blocking(move || locks.take(&run, &owner));
        taking.await.map_err(|e| Failure::new(Kind::HostStorage, "take a run").detail(e))?
    }

    /// Reads, after all that was queued before.
    async fn read_with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.writer.turn().await?;
        self.readers.read(work).await
    }
}

/// Opens the master key; where it is lost, a new one would only hide that.
fn open_master(db: &Connection, path: &Path, clock: Arc<dyn Clock>) -> Result<Master, Failure> {
    if !path.exists() && keys::has_any(db)? {
        let message = format!("open the log: its master key is missing at {}", path.display());
        return Err(Failure::new(Kind::HostStorage, message).hint("restore the file from a backup"));
    }
    Master::open(path, clock)
}

/// What one append writes.
struct Entry {
    lease: Arc<Lease>,
    after: (Seq, Digest),
    records: Vec<Record>,
    payloads: Vec<Payload>,
}

impl Entry {
    fn load(&self) -> Load {
        let records = self.records.iter().map(|record| record.body.len());
        let bytes = records.chain(self.payloads.iter().map(|payload| payload.bytes.len())).sum();
        Load { bytes, is_careful: self.one().is_some() }
    }

    /// The one event to append, where that is all: most appends of runs under way.
    fn one(&self) -> Option<&Record> {
        let is_first = self.after == (0, GENESIS);
        let [record] = self.records.as_slice() else { return None };
        (self.payloads.is_empty() && !is_first).then_some(record)
    }

    fn write(&self, db: &Connection, master: &Master) -> Result<(), Failure> {
        let run = self.lease.run();
        if let Some(record) = self.one() {
            return events::append_one(db, run, self.lease.epoch(), self.after, record);
        }
        match self.lease.birth().filter(|_| self.after == (0, GENESIS)) {
            Some(birth) => self.begin(db, birth)?,
            None => events::append(db, run, self.lease.epoch(), self.after, &self.records)?,
        }
        payloads::keep(db, master, run, &self.payloads)
    }

    fn begin(&self, db: &Connection, birth: &Birth) -> Result<(), Failure> {
        events::begin(db, self.lease.run(), birth, &self.records)?;
        self.lease.born();
        Ok(())
    }
}

#[async_trait]
impl EventLog for SqliteLog {
    async fn create(
        &self,
        run: &RunId,
        principal: &Principal,
        owner: &str,
        at: Timestamp,
    ) -> Result<Box<dyn Ownership>, Failure> {
        let lock = match self.lock(run, owner).await {
            // Whoever holds the lock of a run that shall be new has made it, or does so now.
            Err(failure) if failure.kind == Kind::HostOwned => return Err(refusal::run_exists(run)),
            lock => lock?,
        };
        let birth = Birth { principal: principal.clone(), created: at };
        let (lease, name) = (Lease::of_new(run.clone(), birth, lock), run.clone());
        let (dir, bounds) = (self.dir.clone(), self.bounds);
        // The lease goes along: whoever gives up waiting leaves no lock file of a run that is not there.
        let lease = self.read_with(move |db| {
            if let Err(taken) = runs::check_free(db, &name) {
                lease.born();
                return Err(taken);
            }
            stored::check_room(db, &dir, &bounds).map(|()| lease)
        });
        Ok(self.leases.hold(lease.await?))
    }

    async fn own(&self, run: &RunId, owner: &str) -> Result<Box<dyn Ownership>, Failure> {
        let (name, versions) = (run.clone(), self.versions);
        // No lock file is made for a run that is not there; and an ownership that was dropped has written by now.
        self.read_with(move |db| events::check_version(db, versions, &name)).await?;
        let (lock, name) = (self.lock(run, owner).await?, run.clone());
        // The lock travels with the job: even if nobody waits for it any more, no epoch begins without the lock.
        let begin = move |db: &Connection| Ok(Lease::new(name.clone(), runs::next_epoch(db, &name)?, lock));
        Ok(self.leases.hold(self.writer.call(0, begin).await?))
    }

    async fn append(&self, owner: &dyn Ownership, batch: Batch, durability: Durability) -> Result<Vec<Event>, Failure> {
        batch.payloads.iter().try_for_each(|payload| refusal::check_payload(payload, &self.bounds))?;
        let lease = self.leases.of(owner)?;
        lease.check()?;
        let (events, records) = chain::extend(lease.run(), lease.epoch(), batch.after, batch.facts)?;
        let entry = Entry { lease: Arc::clone(&lease), after: batch.after, records, payloads: batch.payloads };
        let (load, master) = (entry.load(), Arc::clone(&self.master));
        self.write(lease, load, durability, move |db| entry.write(db, &master)).await?;
        Ok(events)
    }

    async fn read(&self, run: &RunId, after: Seq) -> Result<Vec<Event>, Failure> {
        let (run, versions) = (run.clone(), self.versions);
        self.read_with(move |db| events::read(db, versions, &run, after)).await
    }

    async fn payload(&self, run: &RunId, digest: &Digest) -> Result<Option<Vec<u8>>, Failure> {
        let (run, digest, master) = (run.clone(), *digest, Arc::clone(&self.master));
        self.read_with(move |db| payloads::find(db, &master, &run, &digest)).await
    }

    async fn runs(&self, runs_max: usize) -> Result<Vec<RunEntry>, Failure> {
        let locks = self.locks.clone();
        self.read_with(move |db| {
            let entries = runs::list(db, runs_max)?.into_iter();
            Ok(entries.map(|entry| RunEntry { owner: locks.owner(&entry.run), ..entry }).collect())
        })
        .await
    }

    async fn send(&self, run: &RunId, message: &Message) -> Result<(), Failure> {
        let message =
            serde_json::to_vec(message).map_err(|e| Failure::new(Kind::HostBug, "write a message").detail(e))?;
        let (run, master) = (run.clone(), Arc::clone(&self.master));
        self.writer.call(message.len(), move |db| inbox::send(db, &master, &run, &message)).await
    }

    async fn inbox(&self, run: &RunId) -> Result<Vec<Received>, Failure> {
        let (run, master) = (run.clone(), Arc::clone(&self.master));
        self.read_with(move |db| inbox::list(db, &master, &run)).await
    }

    async fn received(&self, owner: &dyn Ownership, ids: &[u64]) -> Result<(), Failure> {
        let (lease, ids) = (self.leases.of(owner)?, ids.to_vec());
        self.writer.call(0, move |db| inbox::remove(db, lease.run(), lease.epoch(), &ids)).await
    }

    async fn verify(&self, run: &RunId) -> Result<Verified, Failure> {
        let (run, master, versions) = (run.clone(), Arc::clone(&self.master), self.versions);
        self.read_with(move |db| {
            let verified = events::verify(db, versions, &run)?;
            payloads::verify(db, &master, &run).map(|()| verified)
        })
        .await
    }

    async fn flush(&self) -> Result<(), Failure> {
        self.writer.flush().await?;
        self.lost.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }
}
