//! One thread that writes: a bounded queue, and one commit for all that waits in it.
//!
//! Promises: jobs are performed in the order in which they were queued; each is atomic on its own; nobody is answered
//! before the commit. A commit for which somebody waits is on the disk when it returns, with all before it; one that holds
//! nothing but what was queued is not synced: the next one that is syncs it too. It knows nothing of runs and events: a job is a function of the connection.

use std::sync::Arc;
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::domain::{Failure, Kind};
use crate::store::sqlite::schema::failed;

/// Jobs that one commit may answer: a sync costs as much as some hundred small inserts, so more gains little and
/// makes the first wait for the last.
const GROUP_JOBS_MAX: usize = 256;

/// KiB of payloads that may wait for the writer: a few of the largest outputs, and never the memory of the machine.
const QUEUE_KIB_MAX: u32 = 256 * 1_024;

/// The writer's end that callers hold. Dropping it performs what is queued, then ends the thread.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Queued>>,
    room: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

/// A job and the room it takes up until it was answered.
struct Queued {
    job: Box<dyn Job>,
    _room: OwnedSemaphorePermit,
}

/// Room in the queue for one job.
struct Place<'a> {
    slot: mpsc::Permit<'a, Queued>,
    room: OwnedSemaphorePermit,
}

/// Something to do within a transaction, and somebody to answer.
trait Job: Send {
    /// Does it. After an error its changes are rolled back, and only its own.
    fn perform(&mut self, db: &Connection) -> Result<(), Failure>;
    /// Tells what came of it; `failure` is that of the whole commit.
    fn answer(self: Box<Self>, failure: Option<&Failure>);
    /// Returns what it asks of the commit that it is part of.
    fn asks(&self) -> Asks;
    /// Returns whether it changes something.
    fn is_write(&self) -> bool {
        true
    }
}

/// What a job asks of the commit that it is part of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asks {
    /// Its turn, and nothing else.
    Nothing,
    /// A commit, on the disk some day.
    Commit,
    /// That all until now is on the disk.
    Sync,
}

/// A job whose result goes to `answer`, whatever becomes of the writer.
struct Call<Work, Value, Answer: FnOnce(Result<Value, Failure>)> {
    work: Option<Work>,
    result: Result<Value, Failure>,
    answer: Option<Answer>,
    asks: Asks,
}

impl<Work, Value, Answer> Job for Call<Work, Value, Answer>
where
    Work: FnOnce(&Connection) -> Result<Value, Failure> + Send,
    Answer: FnOnce(Result<Value, Failure>) + Send,
    Value: Send,
{
    fn perform(&mut self, db: &Connection) -> Result<(), Failure> {
        let Some(work) = self.work.take() else { return Ok(()) };
        self.result = work(db);
        self.result.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    fn answer(mut self: Box<Self>, failure: Option<&Failure>) {
        if let Some(failure) = failure {
            self.result = Err(failure.clone());
        }
        self.tell();
    }

    fn asks(&self) -> Asks {
        self.asks
    }
}

impl<Work, Value, Answer: FnOnce(Result<Value, Failure>)> Call<Work, Value, Answer> {
    fn new(work: Work, answer: Answer, asks: Asks) -> Box<Self> {
        Box::new(Self { work: Some(work), result: Err(stopped()), answer: Some(answer), asks })
    }

    fn tell(&mut self) {
        if let Some(answer) = self.answer.take() {
            answer(std::mem::replace(&mut self.result, Err(stopped())));
        }
    }
}

impl<Work, Value, Answer: FnOnce(Result<Value, Failure>)> Drop for Call<Work, Value, Answer> {
    /// Tells that the writer has stopped, where nothing was told: nobody shall wait for it, or build on it.
    fn drop(&mut self) {
        self.result = Err(stopped());
        self.tell();
    }
}

/// Answers when its turn comes: whatever was queued before it is done. That of others may have failed.
struct Flush {
    tell: oneshot::Sender<Result<(), Failure>>,
    asks: Asks,
}

impl Job for Flush {
    fn perform(&mut self, _: &Connection) -> Result<(), Failure> {
        Ok(())
    }

    fn answer(self: Box<Self>, failure: Option<&Failure>) {
        // Who wants to read needs no commit; who wants the disk does. A caller that has gone needs no answer.
        let failure = failure.filter(|_| self.asks == Asks::Sync);
        let _ = self.tell.send(failure.map_or(Ok(()), |failure| Err(failure.clone())));
    }

    fn is_write(&self) -> bool {
        false
    }

    fn asks(&self) -> Asks {
        self.asks
    }
}

impl Writer {
    /// Starts the thread that writes to `db`; `queue_jobs_max` jobs may wait.
    pub(super) fn start(db: Connection, queue_jobs_max: usize) -> Result<Self, Failure> {
        let (queue, jobs) = mpsc::channel(queue_jobs_max.max(1));
        let thread = std::thread::Builder::new()
            .name("cofferdam-log".into())
            .spawn(move || write(&db, jobs))
            .map_err(|e| Failure::new(Kind::HostStorage, "start the writer of the log").detail(e))?;
        let room = Arc::new(Semaphore::new(QUEUE_KIB_MAX as usize));
        Ok(Self { queue: Some(queue), room, thread: Some(thread) })
    }

    /// Does `work` in its turn, and returns what it returned once that is on the disk.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (tell, told) = oneshot::channel();
        // A caller that has gone needs no answer.
        let answer = |result| drop(tell.send(result));
        self.place(bytes).await?.put(Call::new(work, answer, Asks::Sync));
        told.await.map_err(|_| stopped())?
    }

    /// Queues `work`, and waits only for room; `answer` hears of it from the writer's thread.
    pub(super) async fn queue<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
        answer: impl FnOnce(Result<T, Failure>) + Send + 'static,
    ) -> Result<(), Failure> {
        self.place(bytes).await?.put(Call::new(work, answer, Asks::Commit));
        Ok(())
    }

    /// Queues `work` if there is room at once, and returns whether there was.
    pub(super) fn try_queue<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> bool {
        let Some(Ok(slot)) = self.queue.as_ref().map(mpsc::Sender::try_reserve) else { return false };
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else { return false };
        Place { slot, room }.put(Call::new(work, drop, Asks::Commit));
        true
    }

    /// Waits until all that was queued before can be read, or was refused.
    pub(super) async fn turn(&self) -> Result<(), Failure> {
        self.wait(Asks::Nothing).await
    }

    /// Waits until all that was queued before is on the disk, or was refused.
    pub(super) async fn flush(&self) -> Result<(), Failure> {
        self.wait(Asks::Sync).await
    }

    async fn wait(&self, asks: Asks) -> Result<(), Failure> {
        let (tell, told) = oneshot::channel();
        self.place(0).await?.put(Box::new(Flush { tell, asks }));
        told.await.map_err(|_| stopped())?
    }

    /// Waits for room. No job exists before there is some: a caller that gives up meanwhile has queued nothing.
    async fn place(&self, bytes: usize) -> Result<Place<'_>, Failure> {
        let kib = u32::try_from(bytes / 1_024).unwrap_or(QUEUE_KIB_MAX).clamp(1, QUEUE_KIB_MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await.map_err(|_| stopped())?;
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        let slot = queue.reserve().await.map_err(|_| stopped())?;
        Ok(Place { slot, room })
    }
}

impl Place<'_> {
    fn put(self, job: Box<dyn Job>) {
        self.slot.send(Queued { job, _room: self.room });
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A writer that panicked has failed its callers already.
            drop(thread.join());
        }
    }
}

fn stopped() -> Failure {
    Failure::new(Kind::HostStorage, "reach the writer of the log: it has stopped").hint("start cofferdam again")
}

fn write(db: &Connection, mut jobs: mpsc::Receiver<Queued>) {
    // A new connection syncs.
    let mut disk = Disk { is_synced: true, syncs: true };
    while let Some(first) = jobs.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP_JOBS_MAX
            && let Ok(next) = jobs.try_recv()
        {
            group.push(next);
        }
        let failure = commit(db, &mut disk, &mut group).err();
        for queued in group {
            queued.job.answer(failure.as_ref());
        }
    }
}

/// What the writer knows of the disk.
struct Disk {
    /// Whether all that was committed is on it.
    is_synced: bool,
    /// Whether the connection syncs each commit.
    syncs: bool,
}

/// Performs all jobs in one transaction. An error is that of the transaction: nothing of it happened.
fn commit(db: &Connection, disk: &mut Disk, group: &mut [Queued]) -> Result<(), Failure> {
    let asks = group.iter().map(|queued| queued.job.asks()).max().unwrap_or(Asks::Nothing);
    let is_write = group.iter().any(|queued| queued.job.is_write());
    let must_sync = asks == Asks::Sync && (is_write || !disk.is_synced);
    if !is_write && !must_sync {
        return Ok(());
    }
    disk.prepare(db, must_sync)?;
    // What another process does meanwhile waits until this commit, so a check made within it holds.
    run(db, "BEGIN IMMEDIATE")?;
    let performed = group.iter_mut().try_for_each(|queued| attempt(db, queued.job.as_mut()));
    // A commit that changes nothing syncs nothing, and what was committed before shall be on the disk.
    let marked = performed.and_then(|()| if must_sync && !disk.is_synced { run(db, MARK) } else { Ok(()) });
    let result = marked.and_then(|()| run(db, "COMMIT"));
    if result.is_err() && !db.is_autocommit() {
        // The failure to tell is the one that led here.
        drop(run(db, "ROLLBACK"));
    }
    if result.is_ok() {
        disk.is_synced = must_sync;
    }
    result
}

/// Changes a number, so that there is something to sync.
const MARK: &str = "UPDATE totals SET bytes = bytes + 1 WHERE name = 'syncs'";

impl Disk {
    /// Has the next commit synced, or not. Not to sync loses nothing but the last commits, if the machine stops.
    fn prepare(&mut self, db: &Connection, sync: bool) -> Result<(), Failure> {
        if self.syncs != sync {
            let mode = if sync { "full" } else { "normal" };
            db.pragma_update(None, "synchronous", mode).map_err(failed("write to the log"))?;
            self.syncs = sync;
        }
        Ok(())
    }
}

fn run(db: &Connection, sql: &str) -> Result<(), Failure> {
    let failed = failed("write to the log");
    db.prepare_cached(sql).and_then(|mut statement| statement.execute([])).map(drop).map_err(failed)
}

/// Performs one job, and takes back what it changed if it fails.
fn attempt(db: &Connection, job: &mut dyn Job) -> Result<(), Failure> {
    if !job.is_write() {
        return Ok(());
    }
    run(db, "SAVEPOINT job")?;
    match job.perform(db) {
        Ok(()) => run(db, "RELEASE job"),
        // A full disk, for one, makes SQLite take back the whole transaction.
        Err(failure) if db.is_autocommit() => Err(failure),
        Err(_) => run(db, "ROLLBACK TO job").and_then(|()| run(db, "RELEASE job")),
    }
}
