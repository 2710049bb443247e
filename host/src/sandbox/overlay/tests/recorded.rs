//! Calls that run again: what they saw of a mount is answered, whatever has become of it.

use std::sync::PoisonError;

use async_trait::async_trait;

use super::*;
use crate::domain::{Failure, HostCallRecord, Kind, Recorded, RecordedValue};
use crate::sandbox::journal::Journal;
use crate::sandbox::secrets::Granted;
use crate::sandbox::secrets::tests::{VALUE, grant, granted};
use crate::sandbox::{Begin, CallLink, HostCall, HostCallEnd};

/// Keeps what a call reports, and answers what it is given.
#[derive(Default)]
struct Tape {
    before: BTreeMap<u32, HostCallRecord>,
    kept: Mutex<Vec<HostCallRecord>>,
}

impl Tape {
    fn kept(&self) -> Vec<HostCallRecord> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl CallLink for Tape {
    fn records(&self) -> bool {
        true
    }

    fn peek(&self, n: u32) -> Option<HostCallRecord> {
        self.before.get(&n).cloned()
    }

    async fn begin(&self, host_call: &HostCall) -> Result<Begin, Failure> {
        let Some(record) = self.before.get(&host_call.n) else { return Ok(Begin::Proceed) };
        if (record.what.as_str(), record.args) != (host_call.what, host_call.args) {
            return Err(Failure::new(Kind::HostDiverged, "run the call again: it does something else"));
        }
        Ok(record.done.clone().map_or(Begin::Proceed, Begin::Answer))
    }

    async fn done(&self, host_call: &HostCall, end: HostCallEnd) -> Result<(), Failure> {
        let HostCall { n, what, args, is_write, .. } = host_call.clone();
        let done = Some(Recorded { value: end.value, ms: end.ms });
        let record = HostCallRecord { n, what: what.to_owned(), args, is_write, done };
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(record);
        Ok(())
    }
}

/// A guest whose looks are recorded, or answered from `before`.
struct Watched {
    guest: Guest,
    looks: Looks,
    journal: Arc<Journal>,
    tape: Arc<Tape>,
}

impl Watched {
    fn new(dir: &Path, limits: &Limits, before: Vec<HostCallRecord>) -> Self {
        Self::with(dir, limits, before, &Granted::default())
    }

    fn with(dir: &Path, limits: &Limits, before: Vec<HostCallRecord>, secrets: &Granted) -> Self {
        let before = before.into_iter().map(|record| (record.n, record)).collect();
        let tape = Arc::new(Tape { before, kept: Mutex::default() });
        let journal = Arc::new(Journal::new(tape.clone(), Arc::new(SimClock::at(Timestamp(0))), limits));
        let looks = Looks::new(&journal, secrets);
        Self { guest: Guest::watched(dir, limits, looks.clone()), looks, journal, tape }
    }

    /// Does operations made up by a seed, and reports in between. Returns all that the guest saw, and what a commit would do.
    async fn play(&mut self, seed: u64) -> Vec<String> {
        let mut random = Random(seed);
        let mut seen = Vec::new();
        for _ in 0..40 {
            let op = Op::random(&mut random);
            seen.push(format!("{op:?} {:?}", op.on_guest(&mut self.guest)));
            if random.below(8) == 0 {
                self.looks.report().await.expect("it sees what it saw");
            }
        }
        seen.push(format!("{:?}", self.guest.tree(".")));
        self.looks.report().await.expect("it sees what it saw");
        seen.extend(self.guest.overlay.planned());
        seen
    }
}

/// Does other things to a directory than any call.
fn disturb(dir: &Path) {
    for name in ["a", "b", "c", "d"] {
        let _ = fs::remove_dir_all(dir.join(name));
        let _ = fs::remove_file(dir.join(name));
    }
    fs::create_dir(dir.join("a")).unwrap();
    fs::write(dir.join("d"), "of somebody else").unwrap();
}

#[tokio::test]
async fn a_call_that_runs_again_sees_what_it_saw_though_its_commit_is_done() {
    let first = RandomState::new().hash_one(0);
    println!("seeds from {first}");
    for seed in (0..100).map(|n| first.wrapping_add(n)) {
        let dir = mount();
        let mut live = Watched::new(dir.path(), &Limits::default(), Vec::new());
        let seen = live.play(seed).await;
        live.guest.commit();
        let records = live.tape.kept();
        drop(live);
        for is_disturbed in [false, true] {
            if is_disturbed {
                disturb(dir.path());
            }
            let before = tree(dir.path());
            let mut again = Watched::new(dir.path(), &Limits::default(), records.clone());
            assert_eq!(again.play(seed).await, seen, "seed {seed}");
            drop(again);
            assert_eq!(tree(dir.path()), before, "seed {seed}: nothing is changed before a commit");
        }
    }
}

#[tokio::test]
async fn a_call_goes_on_where_its_records_end() {
    let first = RandomState::new().hash_one(1);
    println!("seeds from {first}");
    for seed in (0..50).map(|n| first.wrapping_add(n)) {
        let dir = mount();
        let seen = Watched::new(dir.path(), &Limits::default(), Vec::new()).play(seed).await;
        let mut live = Watched::new(dir.path(), &Limits::default(), Vec::new());
        assert_eq!(live.play(seed).await, seen, "seed {seed}");
        let mut records = live.tape.kept();
        drop(live);
        records.truncate(records.len() / 2);
        let mut again = Watched::new(dir.path(), &Limits::default(), records);
        assert_eq!(again.play(seed).await, seen, "seed {seed}");
    }
}

#[tokio::test]
async fn what_is_too_large_to_be_kept_is_compared() {
    let (dir, limits) = (mount(), Limits { record_bytes_max: 1_000, ..Limits::default() });
    fs::write(dir.path().join("large"), "x".repeat(9_000)).unwrap();
    let mut live = Watched::new(dir.path(), &limits, Vec::new());
    live.guest.append("large", "y").unwrap();
    // A small look after it is kept whole.
    assert_eq!(live.guest.read("none").unwrap_err(), ErrorCode::NoEntry);
    live.looks.report().await.unwrap();
    let records = live.tape.kept();
    assert!(serde_json::to_string(&records).unwrap().len() < 2_000);
    drop(live);

    fs::write(dir.path().join("none"), "made since").unwrap();
    let mut again = Watched::new(dir.path(), &limits, records.clone());
    again.guest.append("large", "y").unwrap();
    assert_eq!(again.guest.read("large").unwrap().len(), 9_001);
    assert_eq!(again.guest.read("none").unwrap_err(), ErrorCode::NoEntry);
    again.looks.report().await.unwrap();
    drop(again);

    fs::write(dir.path().join("large"), "z".repeat(9_000)).unwrap();
    let mut changed = Watched::new(dir.path(), &limits, records);
    let _ = changed.guest.append("large", "y");
    assert_eq!(changed.journal.check().unwrap_err().kind, Kind::HostDiverged);
    assert_eq!(changed.looks.report().await.unwrap_err().kind, Kind::HostDiverged);
}

#[tokio::test]
async fn a_call_that_looks_at_something_else_is_stopped_there() {
    let dir = mount();
    let mut live = Watched::new(dir.path(), &Limits::default(), Vec::new());
    assert_eq!(live.guest.read("a").unwrap(), "one");
    live.looks.report().await.unwrap();
    let records = live.tape.kept();
    drop(live);
    for paths in [&["b"][..], &["a", "b"][..]] {
        let mut other = Watched::new(dir.path(), &Limits::default(), records.clone());
        for path in paths {
            let _ = other.guest.read(path);
        }
        assert_eq!(other.looks.report().await.unwrap_err().kind, Kind::HostDiverged, "{paths:?}");
    }
    // Less than before is something else too.
    let less = Watched::new(dir.path(), &Limits::default(), records);
    let _ = less.guest.overlay.stat_at(less.guest.root, "a", true);
    assert_eq!(less.looks.report().await.unwrap_err().kind, Kind::HostDiverged);
}

#[tokio::test]
async fn no_record_holds_a_secret() {
    let dir = mount();
    fs::write(dir.path().join("key"), format!("it is {VALUE}!")).unwrap();
    let secrets = granted(vec![grant("a", "https://a.example/")]);
    let mut live = Watched::with(dir.path(), &Limits::default(), Vec::new(), &secrets);
    let text = live.guest.read("key").unwrap();
    assert!(text.contains(VALUE), "a file is the operator's to grant");
    live.looks.report().await.unwrap();
    let records = live.tape.kept();
    assert!(secrets.contained(serde_json::to_string(&records).unwrap().as_bytes()).is_none());
    drop(live);
    let mut again = Watched::with(dir.path(), &Limits::default(), records, &secrets);
    assert_eq!(again.guest.read("key").unwrap(), text);
    again.looks.report().await.unwrap();
}

#[tokio::test]
async fn looks_that_nobody_records_are_just_made() {
    let dir = mount();
    let mut guest = Guest::new(dir.path(), &Limits::default());
    assert_eq!(guest.read("a").unwrap(), "one");
    assert!(!guest.overlay.view.is_watched());
    Looks::default().report().await.unwrap();
}

#[tokio::test]
async fn a_large_directory_is_listed_again_page_by_page() {
    let dir = mount();
    let names = |n: usize| format!("file-{n:04}");
    for n in 0..600 {
        fs::write(dir.path().join(names(n)), "").unwrap();
    }
    let mut live = Watched::new(dir.path(), &Limits::default(), Vec::new());
    let listed = live.guest.list(".").unwrap();
    assert_eq!(listed.len(), 603);
    live.looks.report().await.unwrap();
    let records = live.tape.kept();
    let Some(RecordedValue::Whole { value }) = records[0].done.clone().map(|done| done.value) else {
        panic!("{records:?}")
    };
    let pages = value.as_array().unwrap().iter().filter(|e| e["about"].as_str().unwrap().starts_with("names"));
    assert_eq!(pages.count(), 4, "three with names, and the end");
    drop(live);
    for n in 0..300 {
        fs::remove_file(dir.path().join(names(n))).unwrap();
    }
    let mut again = Watched::new(dir.path(), &Limits::default(), records);
    assert_eq!(again.guest.list(".").unwrap(), listed);
    again.looks.report().await.unwrap();
}
