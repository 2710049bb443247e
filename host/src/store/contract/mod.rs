//! The suite that every log must pass: each test is one promise of [`EventLog`], kept on a fresh log.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::domain::{Digest, Epoch, Event, Fact, Failure, GENESIS, Kind, Principal, RunId, Seq, Timestamp};
use crate::store::{
    Batch, Bounds, Choice, Durability, EventLog, INBOX_MESSAGES_MAX, Message, Ownership, Payload, Received, Settle,
    Verified,
};

mod journals;
mod outcomes;
pub(in crate::store) mod upkeep;
mod workspaces;

/// Checks every promise; `make` makes a fresh log that keeps so much.
pub(super) async fn check_all<L: EventLog + 'static>(make: impl AsyncFn(Bounds) -> L) {
    let few = async || make(SMALL).await;
    let make = async || make(Bounds::default()).await;
    journals::check(&make, &few).await;
    outcomes::check(&make, &few).await;
    workspaces::check(&make).await;
    upkeep::check(&make, &few).await;
    events_are_in_order_and_chained(&make().await).await;
    a_wrong_end_is_a_conflict(&make().await).await;
    queued_appends_come_before_later_synced_ones(&make().await).await;
    a_run_is_created_once(&make().await).await;
    a_run_is_never_there_without_its_first_event(&make().await).await;
    what_came_too_late_begins_no_run(&make().await).await;
    a_run_has_one_owner_until_it_is_dropped(&make().await).await;
    an_owner_that_was_followed_writes_nothing(&make().await).await;
    payloads_come_back_by_their_digest(&make().await).await;
    messages_wait_in_order_until_they_are_received(&make().await).await;
    an_inbox_is_bounded(Arc::new(make().await)).await;
    runs_are_listed_newest_first(&make().await).await;
    what_is_not_there_is_not_found(&make().await).await;
}

async fn events_are_in_order_and_chained(log: &dyn EventLog) {
    let owner = log.create(&run(1), &Principal::default(), "test", Timestamp(7)).await.unwrap();
    let mut events = append(log, &*owner, START, 2, Durability::Synced).await;
    events.extend(append(log, &*owner, end(&events), 1, Durability::Synced).await);
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2, 3]);

    let mut prev = GENESIS;
    for event in &events {
        assert_eq!((event.prev, event.epoch, &event.run), (prev, 1, &run(1)));
        prev = event.hash().unwrap();
    }
    for after in 0..5 {
        let expected = events.get(usize::try_from(after).unwrap()..).unwrap_or_default();
        assert_eq!(log.read(&run(1), after).await.unwrap(), expected, "after {after}");
    }
    assert_eq!(log.verify(&run(1)).await, Ok(Verified { events: 3, head: prev }));
}

async fn a_wrong_end_is_a_conflict(log: &dyn EventLog) {
    let owner = log.create(&run(1), &Principal::default(), "test", Timestamp(7)).await.unwrap();
    let events = append(log, &*owner, START, 2, Durability::Synced).await;
    for after in [START, (1, events[0].hash().unwrap()), (2, GENESIS), (3, end(&events).1)] {
        let refused = log.append(&*owner, batch(after, 1), Durability::Synced).await.unwrap_err();
        assert_eq!(refused.kind, Kind::DataConflict, "after {after:?}");
    }
    // A refusal leaves nothing behind, and does not stop the owner.
    append(log, &*owner, end(&events), 1, Durability::Synced).await;
    assert_eq!(log.verify(&run(1)).await.unwrap().events, 3);
}

async fn queued_appends_come_before_later_synced_ones(log: &dyn EventLog) {
    let owner = log.create(&run(1), &Principal::default(), "test", Timestamp(7)).await.unwrap();
    let mut events = Vec::new();
    for n in 0..20 {
        let durability = if n % 7 == 6 { Durability::Synced } else { Durability::Queued };
        let after = if n == 0 { START } else { end(&events) };
        events.extend(append(log, &*owner, after, 1, durability).await);
        if n % 5 == 0 {
            assert_eq!(log.read(&run(1), 0).await.unwrap(), events, "a read sees what was queued");
        }
    }
    assert_eq!(log.read(&run(1), 0).await.unwrap(), events);
}

async fn a_run_is_created_once(log: &dyn EventLog) {
    let owner = log.create(&run(1), &Principal::default(), "test", Timestamp(7)).await.unwrap();
    let create = async || log.create(&run(1), &Principal::default(), "other", Timestamp(8)).await;
    assert_eq!(kind_of(create().await), Kind::DataConflict);
    append(log, &*owner, START, 1, Durability::Queued).await;
    assert_eq!(kind_of(create().await), Kind::DataConflict);
    drop(owner);
    assert_eq!(kind_of(create().await), Kind::DataConflict);
    assert!(log.own(&run(1), "test").await.is_ok(), "a refused creation takes nothing");
}

async fn a_run_is_never_there_without_its_first_event(log: &dyn EventLog) {
    let owner = log.create(&run(1), &Principal::default(), "test", Timestamp(7)).await.unwrap();
    assert_eq!(log.runs(9).await, Ok(vec![]));
    assert_eq!(kind_of(log.read(&run(1), 0).await), Kind::DataNotFound);
    assert_eq!(kind_of(log.own(&run(1), "other").await), Kind::DataNotFound);
    assert_eq!(kind_of(log.append(&*owner, batch(START, 0), Durability::Synced).await), Kind::HostBug);
    assert_eq!(log.runs(9).await, Ok(vec![]), "a batch without a fact begins no run");
    drop(owner);
    let again = log.create(&run(1), &Principal::default(), "again", Timestamp(8)).await.unwrap();
    let events = append(log, &*again, START, 2, Durability::Synced).await;
    let entries = log.runs(9).await.unwrap();
    let shown = entries.iter().map(|entry| (entry.events, entry.created.0, entry.last.0, entry.owner.is_some()));
    assert_eq!(shown.collect::<Vec<_>>(), [(2, 8, 102, true)]);
    assert_eq!((events[0].epoch, log.read(&run(1), 0).await.unwrap()), (1, events));
}

async fn what_came_too_late_begins_no_run(log: &dyn EventLog) {
    drop(log.create(&run(1), &Principal::default(), "first", Timestamp(7)).await.unwrap());
    let stale = Stale { run: run(1), epoch: 1 };
    assert!(log.append(&stale, batch(START, 1), Durability::Synced).await.is_err());
    assert_eq!(log.runs(9).await, Ok(vec![]));
}

async fn a_run_has_one_owner_until_it_is_dropped(log: &dyn EventLog) {
    let first = log.create(&run(1), &Principal::default(), "first", Timestamp(7)).await.unwrap();
    assert_eq!((first.run(), first.epoch()), (&run(1), 1));
    let events = append(log, &*first, START, 1, Durability::Queued).await;
    let refused = log.own(&run(1), "second").await.map(drop).unwrap_err();
    assert_eq!(refused.kind, Kind::HostOwned);
    assert!(refused.message.contains("first"), "{refused}");
    assert!(log.runs(9).await.unwrap()[0].owner.as_ref().is_some_and(|owner| owner.contains("first")));

    drop(first);
    assert_eq!(log.runs(9).await.unwrap()[0].owner, None);
    let second = log.own(&run(1), "second").await.unwrap();
    assert!(second.epoch() > 1);
    let next = append(log, &*second, end(&events), 1, Durability::Synced).await;
    assert_eq!(next[0].epoch, second.epoch());
    assert_eq!(log.verify(&run(1)).await.unwrap().events, 2);
}

async fn an_owner_that_was_followed_writes_nothing(log: &dyn EventLog) {
    drop(begun_run(log, 1).await);
    let _second = log.own(&run(1), "second").await.unwrap();
    log.send(&run(1), &Message::Cancel { by: "me".into(), undo: false }).await.unwrap();
    let stale = Stale { run: run(1), epoch: 1 };
    for durability in [Durability::Queued, Durability::Synced] {
        assert_eq!(kind_of(log.append(&stale, batch(START, 1), durability).await), Kind::HostOwned);
    }
    assert_eq!(kind_of(log.received(&stale, &[1]).await), Kind::HostOwned);
    assert_eq!(log.read(&run(1), 0).await.unwrap().len(), 1);
    assert_eq!(log.inbox(&run(1)).await.unwrap().len(), 1);
}

async fn payloads_come_back_by_their_digest(log: &dyn EventLog) {
    let owner = log.create(&run(1), &Principal::default(), "test", Timestamp(7)).await.unwrap();
    let _other = begun_run(log, 2).await;
    let payloads = [Payload::new(b"first".to_vec()), Payload::new(vec![]), Payload::new(vec![0xff; 300_000])];
    let with_payloads = |after| Batch { payloads: payloads.to_vec(), ..batch(after, 1) };
    let events = log.append(&*owner, with_payloads(START), Durability::Queued).await.unwrap();
    log.append(&*owner, with_payloads(end(&events)), Durability::Synced).await.unwrap();
    for payload in &payloads {
        assert_eq!(log.payload(&run(1), &payload.digest()).await, Ok(Some(payload.bytes().to_vec())));
        assert_eq!(kind_of(log.payload(&run(2), &payload.digest()).await), Kind::DataNotFound);
    }
    assert_eq!(kind_of(log.payload(&run(1), &Digest::of(b"other")).await), Kind::DataNotFound);
}

async fn messages_wait_in_order_until_they_are_received(log: &dyn EventLog) {
    let (owner, _other) = (begun_run(log, 1).await, begun_run(log, 2).await);
    let messages = messages();
    for message in &messages {
        log.send(&run(1), message).await.unwrap();
    }
    log.send(&run(2), &messages[0]).await.unwrap();
    let waiting = log.inbox(&run(1)).await.unwrap();
    assert_eq!(waiting.iter().map(|received| received.message.clone()).collect::<Vec<_>>(), messages);

    let of_other = log.inbox(&run(2)).await.unwrap()[0].id;
    log.received(&*owner, &[waiting[0].id, waiting[2].id, of_other]).await.unwrap();
    let kept = [waiting[1].clone(), waiting[3].clone()];
    assert_eq!(log.inbox(&run(1)).await.unwrap(), kept);
    assert_eq!(log.inbox(&run(2)).await.unwrap().len(), 1, "an owner empties its own inbox only");

    log.send(&run(1), &messages[0]).await.unwrap();
    let ids: Vec<_> = log.inbox(&run(1)).await.unwrap().iter().map(|Received { id, .. }| *id).collect();
    assert!(ids.is_sorted() && ids[2] > waiting[3].id, "no id comes twice: {ids:?}");
}

async fn an_inbox_is_bounded(log: Arc<dyn EventLog>) {
    let owner = begun_run(log.as_ref(), 1).await;
    let message = Message::Cancel { by: "me".into(), undo: false };
    let mut sending = JoinSet::new();
    for _ in 0..INBOX_MESSAGES_MAX {
        let (log, message) = (Arc::clone(&log), message.clone());
        sending.spawn(async move { log.send(&run(1), &message).await });
    }
    assert!(sending.join_all().await.iter().all(Result::is_ok));
    assert_eq!(kind_of(log.send(&run(1), &message).await), Kind::HostBusy);
    let first = log.inbox(&run(1)).await.unwrap()[0].id;
    log.received(&*owner, &[first]).await.unwrap();
    assert_eq!(log.send(&run(1), &message).await, Ok(()));
}

async fn runs_are_listed_newest_first(log: &dyn EventLog) {
    for (n, at) in [(2, 20), (3, 20), (1, 30), (4, 10)] {
        let principal = Principal { user: format!("user {n}"), ..Principal::default() };
        let owner = log.create(&run(n), &principal, "test", Timestamp(at)).await.unwrap();
        append(log, &*owner, START, n, Durability::Queued).await;
    }
    let entries = log.runs(3).await.unwrap();
    let shown = entries.iter().map(|entry| (entry.run.clone(), entry.events, entry.created.0, entry.last.0));
    assert_eq!(shown.collect::<Vec<_>>(), [(run(1), 1, 30, 101), (run(3), 3, 20, 103), (run(2), 2, 20, 102)]);
    assert_eq!(entries[1].principal.user, "user 3");
    assert_eq!(log.runs(usize::MAX).await.unwrap().len(), 4);
}

async fn what_is_not_there_is_not_found(log: &dyn EventLog) {
    assert_eq!(kind_of(log.own(&run(1), "test").await), Kind::DataNotFound);
    assert_eq!(kind_of(log.read(&run(1), 0).await), Kind::DataNotFound);
    assert_eq!(kind_of(log.verify(&run(1)).await), Kind::DataNotFound);
    assert_eq!(kind_of(log.payload(&run(1), &GENESIS).await), Kind::DataNotFound);
    assert_eq!(kind_of(log.inbox(&run(1)).await), Kind::DataNotFound);
    assert_eq!(kind_of(log.send(&run(1), &Message::Cancel { by: "me".into(), undo: false }).await), Kind::DataNotFound);
    assert_eq!(log.runs(9).await, Ok(vec![]));
}

/// Bounds that a test can meet.
const SMALL: Bounds = Bounds {
    payload_bytes_max: 1_000,
    journal_bytes_max: 1_000,
    cache_bytes_max: 1_000,
    cached_bytes_max: 400,
    log_bytes_max: 64 << 30,
    disk_free_bytes_min: 0,
};

/// The end of an empty run.
pub(super) const START: (Seq, Digest) = (0, GENESIS);

/// Returns the name of run `n`.
pub(super) fn run(n: u64) -> RunId {
    RunId::from_ulid(&format!("{n:026}"))
}

/// Returns a batch of `count` facts after `after`, without payloads. Event `n` was at time 100 + `n`.
pub(super) fn batch(after: (Seq, Digest), count: u64) -> Batch {
    let fact = |n| (Timestamp(100 + n), Fact::RunClaimed { owner: format!("owner {n}"), policy: GENESIS });
    Batch { after, facts: (after.0 + 1..=after.0 + count).map(fact).collect(), payloads: vec![] }
}

/// Appends `count` facts after `after`.
pub(super) async fn append(
    log: &dyn EventLog,
    owner: &dyn Ownership,
    after: (Seq, Digest),
    count: u64,
    durability: Durability,
) -> Vec<Event> {
    log.append(owner, batch(after, count), durability).await.unwrap()
}

/// Makes run `n`, with one event.
pub(super) async fn begun_run(log: &dyn EventLog, n: u64) -> Box<dyn Ownership> {
    let owner = log.create(&run(n), &Principal::default(), "test", Timestamp(7)).await.unwrap();
    append(log, &*owner, START, 1, Durability::Synced).await;
    owner
}

/// Returns seq and hash of the last of `events`.
pub(super) fn end(events: &[Event]) -> (Seq, Digest) {
    events.last().map_or(START, |event| (event.seq, event.hash().unwrap()))
}

/// Returns the kind of the failure that `result` must be.
pub(super) fn kind_of<T>(result: Result<T, Failure>) -> Kind {
    result.map(drop).unwrap_err().kind
}

fn messages() -> [Message; 4] {
    let by = || "me".to_owned();
    let step = "t1.s1".parse().unwrap();
    [
        Message::Decide { step, binding: GENESIS, choice: Choice::Reject, by: by(), reason: Some("no".into()) },
        Message::Answer { turn: 2, text: "é".into(), by: by() },
        Message::Settle { step: "t1.s2".parse().unwrap(), settle: Settle::Done { output: "{}".into() }, by: by() },
        Message::Cancel { by: by(), undo: false },
    ]
}

/// What a process would hold that was stopped for a while, and followed meanwhile.
struct Stale {
    run: RunId,
    epoch: Epoch,
}

impl Ownership for Stale {
    fn run(&self) -> &RunId {
        &self.run
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }
}
