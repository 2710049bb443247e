//! What every log promises of journals and of progress.

use super::*;
use crate::domain::{HostCallRecord, JournalEntry, Recorded, RecordedValue, StepId};
use crate::store::StepProgress;

pub(super) async fn check<L: EventLog>(make: &impl AsyncFn() -> L, few: &impl AsyncFn() -> L) {
    a_journal_comes_back_in_order(&make().await).await;
    a_journal_is_of_one_attempt_of_one_step_of_one_run(&make().await).await;
    only_the_owner_writes_a_journal(&make().await).await;
    a_journal_is_bounded(&few().await).await;
    the_newest_word_of_each_step_is_kept(&make().await).await;
    a_stale_owner_reports_no_progress(&make().await).await;
}

async fn a_journal_comes_back_in_order(log: &dyn EventLog) {
    let owner = begun_run(log, 1).await;
    assert_eq!(log.journal(&run(1), &step("a"), 1).await, Ok(vec![]));
    assert_eq!(kind_of(log.journal(&run(2), &step("a"), 1).await), Kind::DataNotFound);
    let write = async |entries, durability| log.write_journal(&*owner, &step("a"), 1, entries, durability).await;
    write(vec![begun(1), done(1, "one"), begun(2)], Durability::Queued).await.unwrap();
    write(vec![begun(3), done(3, "three")], Durability::Synced).await.unwrap();
    let expected = [record(1, Some("one")), record(2, None), record(3, Some("three"))];
    assert_eq!(log.journal(&run(1), &step("a"), 1).await.unwrap(), expected);

    write(vec![done(2, "two")], Durability::Queued).await.unwrap();
    assert_eq!(log.journal(&run(1), &step("a"), 1).await.unwrap()[1], record(2, Some("two")));
    write(vec![begun(2)], Durability::Synced).await.unwrap();
    write(vec![done(2, "again")], Durability::Synced).await.unwrap();
    assert_eq!(log.journal(&run(1), &step("a"), 1).await.unwrap()[1], record(2, Some("again")));
    assert_eq!(log.verify(&run(1)).await.unwrap().events, 1, "a journal is no event");
}

async fn a_journal_is_of_one_attempt_of_one_step_of_one_run(log: &dyn EventLog) {
    let one = begun_run(log, 1).await;
    let two = begun_run(log, 2).await;
    for (n, owner, name, attempt) in [(1, &one, "a", 1), (2, &one, "a", 2), (3, &one, "b", 1), (4, &two, "a", 1)] {
        let entries = vec![begun(n)];
        log.write_journal(&**owner, &step(name), attempt, entries, Durability::Synced).await.unwrap();
    }
    for (n, of, name, attempt) in [(1, 1, "a", 1), (2, 1, "a", 2), (3, 1, "b", 1), (4, 2, "a", 1)] {
        assert_eq!(log.journal(&run(of), &step(name), attempt).await.unwrap(), [record(n, None)]);
    }
}

async fn only_the_owner_writes_a_journal(log: &dyn EventLog) {
    drop(begun_run(log, 1).await);
    let _second = log.own(&run(1), "second").await.unwrap();
    let stale = Stale { run: run(1), epoch: 1 };
    let refused = log.write_journal(&stale, &step("a"), 1, vec![begun(1)], Durability::Synced).await;
    assert_eq!(kind_of(refused), Kind::HostOwned);
    assert_eq!(log.journal(&run(1), &step("a"), 1).await, Ok(vec![]));
}

async fn a_journal_is_bounded(log: &dyn EventLog) {
    let owner = begun_run(log, 1).await;
    let write = async |name, entries| log.write_journal(&*owner, &step(name), 1, entries, Durability::Synced).await;
    write("a", vec![begun(1), done(1, &"x".repeat(500))]).await.unwrap();
    let full = write("a", vec![begun(2), done(2, &"x".repeat(500))]).await.unwrap_err();
    assert!(full.kind == Kind::HostStorage && full.message.contains("t1.a"), "{full}");
    assert_eq!(log.journal(&run(1), &step("a"), 1).await.unwrap().len(), 1, "all entries or none");
    write("b", vec![begun(1), done(1, &"x".repeat(500))]).await.unwrap();
}

async fn the_newest_word_of_each_step_is_kept(log: &dyn EventLog) {
    let owner = begun_run(log, 1).await;
    assert_eq!(log.progress(&run(1)).await, Ok(vec![]));
    assert_eq!(kind_of(log.progress(&run(2)).await), Kind::DataNotFound);
    for n in 0..50 {
        log.note_progress(&*owner, word("b", n));
    }
    log.note_progress(&*owner, word("a", 3));
    assert_eq!(log.progress(&run(1)).await.unwrap(), [word("a", 3), word("b", 49)]);
    log.note_progress(&*owner, StepProgress { fraction: None, ..word("a", 4) });
    assert_eq!(log.progress(&run(1)).await.unwrap()[0], StepProgress { fraction: None, ..word("a", 4) });
}

async fn a_stale_owner_reports_no_progress(log: &dyn EventLog) {
    drop(begun_run(log, 1).await);
    let _second = log.own(&run(1), "second").await.unwrap();
    log.note_progress(&Stale { run: run(1), epoch: 1 }, word("a", 1));
    assert_eq!(log.progress(&run(1)).await, Ok(vec![]));
}

pub(super) fn step(name: &str) -> StepId {
    StepId::new(1, name).unwrap()
}

pub(super) fn word(name: &str, n: u32) -> StepProgress {
    let message = format!("word {n}");
    StepProgress { step: step(name), fraction: Some(f64::from(n) / 64.0), message, at: Timestamp(n.into()) }
}

pub(super) fn begun(n: u32) -> JournalEntry {
    JournalEntry::Begun { n, what: "http.send".into(), args: GENESIS, is_write: n.is_multiple_of(2) }
}

pub(super) fn done(n: u32, text: &str) -> JournalEntry {
    JournalEntry::Done { n, recorded: recorded(text) }
}

fn recorded(text: &str) -> Recorded {
    Recorded { value: RecordedValue::Whole { value: text.into() }, ms: 3 }
}

fn record(n: u32, text: Option<&str>) -> HostCallRecord {
    HostCallRecord {
        n,
        what: "http.send".into(),
        args: GENESIS,
        is_write: n.is_multiple_of(2),
        done: text.map(recorded),
    }
}
