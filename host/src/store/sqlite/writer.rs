//! One thread that writes: a bounded queue, and one commit for all that waits in it.
//!
//! Promises: jobs are performed in the order in which they were queued; each is atomic on its own; nobody is answered
//! before the commit. A commit for which somebody waits is on the disk when it returns, with all before it; one that holds
//! nothing but what was queued is not synced: the next one that is syncs it too. It knows nothing of runs and events: a job is a function of the connection.

use std::sync::Arc;
use std::sync::mpsc::{SendError, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::domain::{Failure, Kind};
use crate::store::sqlite::schema::failed;

/// Jobs that one commit may answer: a sync costs as much as some hundred small inserts, so more gains little and
/// makes the first wait for the last.
const GROUP_JOBS_MAX: usize = 256;

/// Commits whose jobs may wait to be answered: one while the next is made.
const GROUPS_ANSWERED_MAX: usize = 2;

/// Jobs of a commit for which another thread is woken to answer them: fewer are answered sooner than it wakes.
const ANSWERED_APART_MIN: usize = 16;

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
    /// Returns whether it leaves nothing changed after an error by itself.
    fn is_careful(&self) -> bool {
        false
    }
}

/// What a job weighs, and whether it leaves nothing changed after an error by itself: then no copy is kept of the pages that
/// it changes, which costs as much as a small insert. Where it cannot, it takes back the whole transaction.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub bytes: usize,
    pub is_careful: bool,
}

impl From<usize> for Load {
    fn from(bytes: usize) -> Self {
        Self { bytes, is_careful: false }
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
    is_careful: bool,
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

    fn is_careful(&self) -> bool {
        self.is_careful
    }
}

impl<Work, Value, Answer: FnOnce(Result<Value, Failure>)> Call<Work, Value, Answer> {
    fn new(work: Work, answer: Answer, asks: Asks, load: Load) -> Box<Self> {
        let is_careful = load.is_careful;
        Box::new(Self { work: Some(work), result: Err(stopped()), answer: Some(answer), asks, is_careful })
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
        load: impl Into<Load>,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let load = load.into();
        let (tell, told) = oneshot::channel();
        // A caller that has gone needs no answer.
        let answer = |result| drop(tell.send(result));
        self.place(load.bytes).await?.put(Call::new(work, answer, Asks::Sync, load));
        told.await.map_err(|_| stopped())?
    }

    /// Queues `work`, and waits only for room; `answer` hears of it from the writer's thread.
    pub(super) async fn queue<T: Send + 'static>(
        &self,
        load: impl Into<Load>,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
        answer: impl FnOnce(Result<T, Failure>) + Send + 'static,
    ) -> Result<(), Failure> {
        let load = load.into();
        self.place(load.bytes).await?.put(Call::new(work, answer, Asks::Commit, load));
        Ok(())
    }

    /// Queues `work` if there is room at once, and returns whether there was.
    pub(super) fn try_queue<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> bool {
        let Some(Ok(slot)) = self.queue.as_ref().map(mpsc::Sender::try_reserve) else { return false };
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else { return false };
        Place { slot, room }.put(Call::new(work, drop, Asks::Commit, 0.into()));
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
    let answers = Answers::start();
    while let Some(first) = jobs.blocking_recv() {
        let mut group = Vec::with_capacity(jobs.len().min(GROUP_JOBS_MAX) + 1);
        group.push(first);
        while group.len() < GROUP_JOBS_MAX
            && let Ok(next) = jobs.try_recv()
        {
            group.push(next);
        }
        let failure = commit(db, &mut disk, &mut group).err();
        answers.give(Answered { group, failure });
    }
}

/// Jobs of one commit, and what became of it.
struct Answered {
    group: Vec<Queued>,
    failure: Option<Failure>,
}

impl Answered {
    fn answer(self) {
        for queued in self.group {
            queued.job.answer(self.failure.as_ref());
        }
    }
}

/// A thread that answers: to wake some hundred callers takes as long as a commit, and the next one need not wait for it.
struct Answers {
    groups: Option<SyncSender<Answered>>,
    thread: Option<JoinHandle<()>>,
}

impl Answers {
    /// Starts the thread. Without one, the writer answers by itself.
    fn start() -> Self {
        let (groups, given) = sync_channel::<Answered>(GROUPS_ANSWERED_MAX);
        let thread = std::thread::Builder::new()
            .name("cofferdam-told".into())
            .spawn(move || given.into_iter().for_each(Answered::answer));
        Self { groups: Some(groups), thread: thread.ok() }
    }

    fn give(&self, answered: Answered) {
        match &self.groups {
            // What failed breaks what follows it, and is told before the next group is performed.
            Some(groups) if answered.failure.is_none() && answered.group.len() >= ANSWERED_APART_MIN => {
                if let Err(SendError(answered)) = groups.send(answered) {
                    answered.answer();
                }
            }
            _ => answered.answer(),
        }
    }
}

impl Drop for Answers {
    /// Waits until all are answered.
    fn drop(&mut self) {
        self.groups = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
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
    if job.is_careful() {
        return match job.perform(db) {
            Err(failure) if db.is_autocommit() => Err(failure),
            _ => Ok(()),
        };
    }
    run(db, "SAVEPOINT job")?;
    match job.perform(db) {
        Ok(()) => run(db, "RELEASE job"),
        // A full disk, for one, makes SQLite take back the whole transaction.
        Err(failure) if db.is_autocommit() => Err(failure),
        Err(_) => run(db, "ROLLBACK TO job").and_then(|()| run(db, "RELEASE job")),
    }
}
