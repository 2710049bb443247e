//! The log in files: what is left after a machine stopped while it wrote, and what several processes do to it at once.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use cofferdam::clock::{Clock, SystemClock};
use cofferdam::domain::{
    Digest, Event, Fact, GENESIS, Kind, Principal, RunId, Seq, StateOp, StateQuota, StateScope, StateSpace, Timestamp,
};
use cofferdam::store::sqlite::{SqliteLog, SqliteOptions};
use cofferdam::store::{Batch, Durability, EventLog, Ownership, Payload, Upkeep, Workspaces};

use crate::guest::pause;

/// Where the child process of a test finds the log, and what it is to do there.
const FOLDER: &str = "COFFERDAM_TEST_LOG_FOLDER";
const WORK: &str = "COFFERDAM_TEST_LOG_WORK";

/// Bytes of the header of a write-ahead log, and of that of each frame in it.
const WAL_HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: u64 = 24;

fn open(folder: &Path) -> SqliteLog {
    SqliteLog::open(folder, SqliteOptions::default(), Arc::new(SystemClock::default())).expect("the log opens")
}

fn run(n: u64) -> RunId {
    RunId::from_ulid(&format!("{n:026}"))
}

async fn create(log: &SqliteLog, n: u64) -> Box<dyn Ownership> {
    log.create(&run(n), &Principal::default(), "test", Timestamp(7)).await.unwrap()
}

fn payload(seq: Seq) -> Payload {
    Payload::new(format!("payload {seq}").into_bytes())
}

/// Appends the next event, which names a payload.
async fn append(log: &SqliteLog, owner: &dyn Ownership, after: (Seq, Digest), durability: Durability) -> Event {
    let payload = payload(after.0 + 1);
    let fact = Fact::RunClaimed { owner: format!("owner {}", after.0 + 1), policy: payload.digest() };
    let batch = Batch { after, facts: vec![(Timestamp(after.0), fact)], payloads: vec![payload] };
    log.append(owner, batch, durability).await.unwrap().remove(0)
}

fn end(event: &Event) -> (Seq, Digest) {
    (event.seq, event.hash().unwrap())
}

/// Draws numbers from a seed, which is printed.
struct Dice {
    seed: [u8; 8],
    drawn: u64,
}

impl Dice {
    fn new() -> Self {
        let mut seed = [0; 8];
        SystemClock::default().random(&mut seed).unwrap();
        println!("seed: {seed:?}");
        Self { seed, drawn: 0 }
    }

    /// Returns a number from `from` up to, not including, `to`.
    fn between(&mut self, from: u64, to: u64) -> u64 {
        self.drawn += 1;
        let digest = Digest::of_parts(&[&self.seed, &self.drawn.to_le_bytes()]);
        let number = digest.as_bytes()[..8].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        from + number % (to - from)
    }
}

/// A log as a crash of the machine left it, and what it had promised until then.
struct Crashed<'a> {
    folder: &'a Path,
    events: Vec<Event>,
    /// Of each event, how long the write-ahead log was when its append returned.
    promised: Vec<u64>,
    wal_bytes: u64,
    frame_bytes: u64,
}

impl Crashed<'_> {
    /// Opens a copy of the log whose write-ahead log `damage` has changed. It is whole up to `whole_bytes`.
    async fn check(&self, whole_bytes: u64, what: &str, damage: impl FnOnce(&File)) {
        let torn = tempfile::tempdir_in(self.folder.parent().unwrap()).unwrap();
        copy(self.folder, torn.path());
        damage(&OpenOptions::new().write(true).read(true).open(torn.path().join("log.db-wal")).unwrap());
        let log = open(torn.path());
        let read = log.read(&run(1), 0).await.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(read, self.events[..read.len()], "{what}: no prefix of what was appended");
        let promised = self.promised.iter().filter(|bytes| **bytes <= whole_bytes).count();
        assert!(read.len() >= promised, "{what}: {} of {promised} events are left", read.len());
        // An event without its payload would be half an append; `verify` opens each that is there.
        for event in &read {
            assert!(log.payload(&run(1), &payload(event.seq).digest()).await.unwrap().is_some(), "{what}");
        }
        assert_eq!(log.verify(&run(1)).await.unwrap().events, read.len() as u64, "{what}");
        let owner = log.own(&run(1), "next").await.unwrap();
        let after = read.last().map_or((0, GENESIS), end);
        append(&log, &*owner, after, Durability::Queued).await;
        assert_eq!(log.verify(&run(1)).await.unwrap().events, read.len() as u64 + 1, "{what}: it goes on");
    }

    /// Returns where the frame begins that holds this byte.
    fn frame(&self, byte: u64) -> u64 {
        let frames = (byte - WAL_HEADER_BYTES) / self.frame_bytes;
        WAL_HEADER_BYTES + frames * self.frame_bytes
    }
}

/// Copies what a crash of the machine would leave: file and write-ahead log, and no shared memory.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in ["log.db", "log.db-wal", "key"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_machine_was_writing_a_prefix_is_left_with_all_that_was_promised() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("log");
    let first = begun(&open(&home)).await;
    let log = Arc::new(open(&home));
    let file_bytes = fs::metadata(home.join("log.db")).unwrap().len();
    let writing =
        tokio::spawn(write_until_copied(Arc::clone(&log), first, home.clone(), folder.path().join("crashed")));
    let crashed = folder.path().join("crashed");
    while !crashed.join("copy").exists() {
        pause(1).await;
    }
    // In this order: while the log is this small nothing moves from one to the other.
    copy(&home, &crashed);
    fs::write(crashed.join("copied"), "").unwrap();
    let (events, promised) = writing.await.unwrap();
    assert_eq!(fs::metadata(home.join("log.db")).unwrap().len(), file_bytes, "nothing was moved into the file yet");

    let wal = fs::read(crashed.join("log.db-wal")).unwrap();
    let page_bytes = u64::from(u32::from_be_bytes(wal[8..12].try_into().unwrap()));
    let frame_bytes = FRAME_HEADER_BYTES + page_bytes;
    let crashed = Crashed { folder: &crashed, events, promised, wal_bytes: wal.len() as u64, frame_bytes };
    assert!(crashed.promised.iter().filter(|bytes| **bytes <= crashed.wal_bytes).count() >= 20, "enough was promised");
    check_cuts(&crashed).await;
    check_flips(&crashed).await;
}

/// Makes the run, and returns its first event.
async fn begun(log: &SqliteLog) -> Event {
    let owner = create(log, 1).await;
    append(log, &*owner, (0, GENESIS), Durability::Synced).await
}

/// Appends events after `first` one by one, a few after the log was copied too; returns all with the length that the
/// write-ahead log had then.
async fn write_until_copied(
    log: Arc<SqliteLog>,
    first: Event,
    home: std::path::PathBuf,
    crashed: std::path::PathBuf,
) -> (Vec<Event>, Vec<u64>) {
    let owner = log.own(&run(1), "writer").await.unwrap();
    // What is in the file itself no cut takes away.
    let (mut events, mut promised) = (vec![first], vec![0]);
    let mut left = 3;
    while left > 0 && events.len() < 120 {
        let after = events.last().map_or((0, GENESIS), end);
        events.push(append(&log, &*owner, after, Durability::Synced).await);
        promised.push(fs::metadata(home.join("log.db-wal")).unwrap().len());
        if events.len() == 20 {
            fs::create_dir(&crashed).unwrap();
            fs::write(crashed.join("copy"), "").unwrap();
        }
        left -= i32::from(crashed.join("copied").exists());
    }
    (events, promised)
}

/// Cuts the write-ahead log at every frame, and at random bytes.
async fn check_cuts(crashed: &Crashed<'_>) {
    let frames = (crashed.wal_bytes - WAL_HEADER_BYTES) / crashed.frame_bytes;
    let mut dice = Dice::new();
    let at_frames = (0..=frames).map(|n| WAL_HEADER_BYTES + n * crashed.frame_bytes);
    let cuts: Vec<u64> = at_frames.chain((0..200).map(|_| dice.between(0, crashed.wal_bytes))).collect();
    for cut in cuts {
        crashed.check(cut, &format!("cut at {cut}"), |wal| wal.set_len(cut).unwrap()).await;
    }
}

/// Changes random bytes of the last frames.
async fn check_flips(crashed: &Crashed<'_>) {
    let mut dice = Dice::new();
    for _ in 0..100 {
        let byte = dice.between(crashed.wal_bytes.saturating_sub(6 * crashed.frame_bytes), crashed.wal_bytes);
        let flip = |wal: &File| {
            let mut at = [0];
            wal.read_exact_at(&mut at, byte).unwrap();
            wal.write_all_at(&[at[0] ^ 0x55], byte).unwrap();
        };
        crashed.check(crashed.frame(byte), &format!("byte {byte} was changed"), flip).await;
    }
}

/// Not a test of its own: the other process. The tests below start it.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the parent speaks to its child by the environment")]
async fn other_process() {
    let (Ok(folder), Ok(work)) = (std::env::var(FOLDER), std::env::var(WORK)) else { return };
    let folder = Path::new(&folder);
    let log = open(&folder.join("log"));
    match work.as_str() {
        "append" => append_for_ever(&log).await,
        "state" => fs::write(folder.join("kept"), keep_many(&log, "there").await.to_string()).unwrap(),
        work => panic!("no such work: {work}"),
    }
}

async fn append_for_ever(log: &SqliteLog) {
    let owner = create(log, 2).await;
    let mut after = (0, GENESIS);
    loop {
        after = end(&append(log, &*owner, after, Durability::Synced).await);
    }
}

fn start(folder: &Path, work: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this test has a file"));
    command.args(["log::other_process", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, folder).env(WORK, work).stdout(Stdio::null());
    command.spawn().expect("the child starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_copied_while_a_thread_and_another_process_write_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(open(&folder.path().join("log")));
    let mut child = start(folder.path(), "append");
    let owner = create(&log, 1).await;
    let writer = Arc::clone(&log);
    let writing = tokio::spawn(async move {
        let mut after = (0, GENESIS);
        for n in 0..400 {
            let durability = if n % 5 == 0 { Durability::Synced } else { Durability::Queued };
            after = end(&append(&writer, &*owner, after, durability).await);
        }
    });
    while log.runs(9).await.unwrap().iter().filter(|entry| entry.events >= 20).count() < 2 {
        pause(5).await;
    }
    let mut copies = Vec::new();
    for n in 0..3 {
        let to = folder.path().join(format!("copy-{n}"));
        log.backup(&to).await.unwrap();
        copies.push(to);
        pause(30).await;
    }
    writing.await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();

    for n in [1, 2] {
        let whole = log.read(&run(n), 0).await.unwrap();
        let mut before = 0;
        for copy in &copies {
            let copy = open(copy);
            let events = copy.read(&run(n), 0).await.unwrap();
            assert_eq!(events, whole[..events.len()], "a prefix");
            assert!(events.len() >= 20.max(before), "a later copy has more: {} after {before}", events.len());
            assert_eq!(copy.verify(&run(n)).await.unwrap().events, events.len() as u64);
            assert!(copy.own(&run(n), "there").await.is_ok(), "nobody owns a run of a copy");
            before = events.len();
        }
    }
}

const QUOTA: StateQuota = StateQuota { keys_max: 60, bytes_max: 100_000, value_bytes_max: 100 };

/// Keeps many values, each under a key of its own; returns how many were taken.
async fn keep_many(log: &SqliteLog, whose: &str) -> usize {
    let space = StateSpace {
        scope: StateScope::User,
        principal: Principal::default(),
        run: run(1),
        component: "notes".to_owned(),
    };
    let mut kept = 0;
    for n in 0..50 {
        let op = StateOp::Set { key: format!("{whose} {n}"), value: vec![1] };
        match log.state(&space, op, &QUOTA).await {
            Ok(_) => kept += 1,
            Err(failure) => assert_eq!(failure.kind, Kind::DataConflict, "{failure}"),
        }
    }
    kept
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_cannot_pass_a_quota_together() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&folder.path().join("log"));
    let mut child = start(folder.path(), "state");
    let here = keep_many(&log, "here").await;
    assert!(child.wait().unwrap().success());
    let there: usize = fs::read_to_string(folder.path().join("kept")).unwrap().parse().unwrap();
    assert_eq!(here + there, 60, "{here} here, {there} there");
}
