//! One thread that writes: a bounded queue, and one commit for all that waits in it.
//!
//! Promises: jobs are performed in the order in which they were queued; each is atomic on its own; nobody is answered
//! before the commit. It knows nothing of runs and events: a job is a function of the connection.

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
    /// Returns whether there is something to commit.
    fn is_write(&self) -> bool {
        true
    }
}

/// A job whose result goes to `answer`, whatever becomes of the writer.
struct Call<Work, Value, Answer: FnOnce(Result<Value, Failure>)> {
    work: Option<Work>,
    result: Result<Value, Failure>,
    answer: Option<Answer>,
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
}

impl<Work, Value, Answer: FnOnce(Result<Value, Failure>)> Call<Work, Value, Answer> {
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
struct Flush(oneshot::Sender<()>);

impl Job for Flush {
    fn perform(&mut self, _: &Connection) -> Result<(), Failure> {
        Ok(())
    }

    fn answer(self: Box<Self>, _: Option<&Failure>) {
        // A caller that has gone needs no answer.
        let _ = self.0.send(());
    }

    fn is_write(&self) -> bool {
        false
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
        self.queue(bytes, work, |result| drop(tell.send(result))).await?;
        told.await.map_err(|_| stopped())?
    }

    /// Queues `work`, and waits only for room; `answer` hears of it from the writer's thread.
    pub(super) async fn queue<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
        answer: impl FnOnce(Result<T, Failure>) + Send + 'static,
    ) -> Result<(), Failure> {
        let place = self.place(bytes).await?;
        place.put(Box::new(Call { work: Some(work), result: Err(stopped()), answer: Some(answer) }));
        Ok(())
    }

    /// Queues `work` if there is room at once, and returns whether there was.
    pub(super) fn try_queue<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> bool {
        let Some(Ok(slot)) = self.queue.as_ref().map(mpsc::Sender::try_reserve) else { return false };
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else { return false };
        Place { slot, room }.put(Box::new(Call { work: Some(work), result: Err(stopped()), answer: Some(drop) }));
        true
    }

    /// Waits until all that was queued before is on the disk, or was refused.
    pub(super) async fn flush(&self) -> Result<(), Failure> {
        let (tell, told) = oneshot::channel();
        self.place(0).await?.put(Box::new(Flush(tell)));
        told.await.map_err(|_| stopped())
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
    while let Some(first) = jobs.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP_JOBS_MAX
            && let Ok(next) = jobs.try_recv()
        {
            group.push(next);
        }
        let failure = commit(db, &mut group).err();
        for queued in group {
            queued.job.answer(failure.as_ref());
        }
    }
}

/// Performs all jobs in one transaction. An error is that of the transaction: nothing of it happened.
fn commit(db: &Connection, group: &mut [Queued]) -> Result<(), Failure> {
    if !group.iter().any(|queued| queued.job.is_write()) {
        return Ok(());
    }
    let run = |sql: &str| db.execute_batch(sql).map_err(failed("write to the log"));
    // What another process does meanwhile waits until this commit, so a check made within it holds.
    run("BEGIN IMMEDIATE")?;
    let result = group.iter_mut().try_for_each(|queued| attempt(db, queued.job.as_mut())).and_then(|()| run("COMMIT"));
    if result.is_err() && !db.is_autocommit() {
        // The failure to tell is the one that led here.
        drop(run("ROLLBACK"));
    }
    result
}

/// Performs one job, and takes back what it changed if it fails.
fn attempt(db: &Connection, job: &mut dyn Job) -> Result<(), Failure> {
    let run = |sql: &str| db.execute_batch(sql).map_err(failed("write to the log"));
    run("SAVEPOINT job")?;
    match job.perform(db) {
        Ok(()) => run("RELEASE job"),
        // A full disk, for one, makes SQLite take back the whole transaction.
        Err(failure) if db.is_autocommit() => Err(failure),
        Err(_) => run("ROLLBACK TO job; RELEASE job"),
    }
}
