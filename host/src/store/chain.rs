//! The chain of a run: makes events that follow one another, and checks that stored ones still do.
//!
//! Pure. What is hashed is the canonical text of the whole event, and that text is what the logs store.

use std::borrow::Cow;

use crate::domain::{Digest, Epoch, Event, Fact, Failure, Kind, RunId, SCHEMA_VERSION, Seq, Timestamp, canonical};
use crate::store::upcast::{Age, Versions};

/// An event as it is stored: its canonical text, and beside it what a query needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub v: u16,
    pub seq: Seq,
    pub epoch: Epoch,
    pub at: Timestamp,
    pub kind: String,
    pub body: String,
    pub hash: Digest,
}

/// Makes the events that carry `facts` and follow `after`, each with its record.
pub(super) fn extend(
    run: &RunId,
    epoch: Epoch,
    after: (Seq, Digest),
    facts: Vec<(Timestamp, Fact)>,
) -> Result<(Vec<Event>, Vec<Record>), Failure> {
    let (mut seq, mut prev) = after;
    let mut events = Vec::with_capacity(facts.len());
    let mut records = Vec::with_capacity(facts.len());
    for (at, fact) in facts {
        seq += 1;
        let mut event = Event { v: SCHEMA_VERSION, run: run.clone(), seq, epoch, at, prev, fact, stored: None };
        let record = record(&event)?;
        prev = record.hash;
        event.stored = Some(prev);
        records.push(record);
        events.push(event);
    }
    Ok((events, records))
}

/// Fewest events for which a thread of their own is worth its start: checking them takes about a millisecond.
const SHARE_EVENTS_MIN: usize = 256;

/// Threads that check one run at one time.
const THREADS_MAX: usize = 4;

/// Checks that `stored` are the events of `run` that follow `after`, and returns them. Each names the one before by its hash,
/// and its own hash is checked too: so every share can be checked alone.
pub(super) fn check_all(
    versions: Versions<'_>,
    run: &RunId,
    after: (Seq, Digest),
    stored: &[Record],
) -> Result<Vec<Event>, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let share = stored.len().div_ceil(threads).max(SHARE_EVENTS_MIN);
    let mut shares = stored.chunks(share).enumerate().map(|(n, share_of)| {
        let before = stored[..n * share].last();
        (before.map_or(after, |before| (before.seq, before.hash)), share_of)
    });
    let Some((first_after, first)) = shares.next() else { return Ok(Vec::new()) };
    std::thread::scope(|scope| {
        // Where the machine gives no thread the share is checked here.
        let begin = |(after, share)| {
            let check = move || check_share(versions, run, after, share);
            std::thread::Builder::new().spawn_scoped(scope, check).map_err(|_| (after, share))
        };
        let others: Vec<_> = shares.map(begin).collect();
        let mut events = check_share(versions, run, first_after, first)?;
        for other in others {
            let checked = match other {
                Ok(thread) => thread.join().map_err(|_| Failure::new(Kind::HostBug, "check the events of a run"))?,
                Err((after, share)) => check_share(versions, run, after, share),
            };
            events.extend(checked?);
        }
        Ok(events)
    })
}

fn check_share(
    versions: Versions<'_>,
    run: &RunId,
    after: (Seq, Digest),
    stored: &[Record],
) -> Result<Vec<Event>, Failure> {
    let mut end = after;
    let mut events = Vec::with_capacity(stored.len());
    for record in stored {
        events.push(check_by(versions, run, (end.0 + 1, end.1), record)?);
        end = (record.seq, record.hash);
    }
    Ok(events)
}

/// Checks that `stored` is event `seq` of `run` and follows `prev`, and returns the event.
pub(super) fn check(run: &RunId, seq: Seq, prev: Digest, stored: &Record) -> Result<Event, Failure> {
    check_by(Versions::KNOWN, run, (seq, prev), stored)
}

fn check_by(
    versions: Versions<'_>,
    run: &RunId,
    (seq, prev): (Seq, Digest),
    stored: &Record,
) -> Result<Event, Failure> {
    if stored.seq != seq {
        return Err(touched(run, seq, "it is missing"));
    }
    let event = match plain(versions, stored) {
        Some(event) => event,
        None => looked_at(versions, run, stored)?,
    };
    if event.run != *run || event.prev != prev {
        return Err(touched(run, seq, "it does not follow the event before it"));
    }
    Ok(Event { stored: Some(stored.hash), ..event })
}

/// Reads an event with which nothing is out of the ordinary, at once; `None` for any other.
fn plain(versions: Versions<'_>, stored: &Record) -> Option<Event> {
    if versions.age(stored.v) != Age::Current {
        return None;
    }
    let event: Event = serde_json::from_str(&stored.body).ok()?;
    let is_whole = (event.v, event.fact.name()) == (stored.v, stored.kind.as_str()) && has_columns(stored, &event);
    is_whole.then_some(event)
}

/// Reads an event of an older version, or tells what is wrong with one.
fn looked_at(versions: Versions<'_>, run: &RunId, stored: &Record) -> Result<Event, Failure> {
    let seq = stored.seq;
    let head = Head::of(&stored.body).map_err(|e| touched(run, seq, "it is not an event").detail(e))?;
    let event = match versions.age(head.v) {
        Age::Newer => return Err(newer(run, seq)),
        Age::Forgotten => return Err(forgotten(run, seq)),
        Age::Current => current(run, stored)?,
        Age::Older(behind) => older(versions, behind, run, stored)?,
    };
    if !is_as_appended(stored, &head, &event) {
        return Err(touched(run, seq, "it is not what was appended"));
    }
    Ok(event)
}

/// Refuses a run whose last event, `seq`, is of a version `v` that is not read: before anything of it is changed.
pub(super) fn check_version(versions: Versions<'_>, run: &RunId, seq: Seq, v: u16) -> Result<(), Failure> {
    match versions.age(v) {
        Age::Newer => Err(newer(run, seq)),
        Age::Forgotten => Err(forgotten(run, seq)),
        Age::Current | Age::Older(_) => Ok(()),
    }
}

/// Reads an event of the version that is written now.
fn current(run: &RunId, stored: &Record) -> Result<Event, Failure> {
    serde_json::from_str(&stored.body).map_err(|e| touched(run, stored.seq, "it is not an event").detail(e))
}

/// Reads an event of an older version, from step to step.
fn older(versions: Versions<'_>, behind: usize, run: &RunId, stored: &Record) -> Result<Event, Failure> {
    let body = serde_json::from_str(&stored.body).and_then(|body| versions.read(body, behind));
    body.map_err(|e| touched(run, stored.seq, "it is not an event").detail(e))
}

/// Returns whether hash and columns are those of the stored text. The hash is over that text, in whatever version.
fn is_as_appended(stored: &Record, head: &Head, event: &Event) -> bool {
    (head.v, head.fact.fact.as_ref()) == (stored.v, stored.kind.as_str()) && has_columns(stored, event)
}

fn has_columns(stored: &Record, event: &Event) -> bool {
    (event.seq, event.epoch, event.at) == (stored.seq, stored.epoch, stored.at)
        && Digest::of(stored.body.as_bytes()) == stored.hash
}

/// Checks that the last event read is the last one that the log knows of.
pub(super) fn check_end(run: &RunId, read: (Seq, Digest), known: (Seq, Digest)) -> Result<(), Failure> {
    if read.0 < known.0 {
        return Err(touched(run, read.0 + 1, "it is missing"));
    }
    if read != known {
        return Err(touched(run, read.0, "it is not the last that was appended"));
    }
    Ok(())
}

fn record(event: &Event) -> Result<Record, Failure> {
    let value = serde_json::to_value(event).map_err(|e| Failure::new(Kind::HostBug, "write an event").detail(e))?;
    let kind = value["fact"]["fact"].as_str().unwrap_or_default().to_owned();
    let body = canonical(&value);
    let hash = Digest::of(body.as_bytes());
    Ok(Record { v: event.v, seq: event.seq, epoch: event.epoch, at: event.at, kind, body, hash })
}

/// What every version writes the same: read without what only one version may understand.
#[derive(serde::Deserialize)]
struct Head<'a> {
    v: u16,
    #[serde(borrow, default)]
    fact: Name<'a>,
}

#[derive(Default, serde::Deserialize)]
struct Name<'a> {
    #[serde(borrow, default)]
    fact: Cow<'a, str>,
}

impl<'a> Head<'a> {
    fn of(body: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(body)
    }
}

fn touched(run: &RunId, seq: Seq, why: &str) -> Failure {
    Failure::new(Kind::HostStorage, format!("verify event {seq} of run {run}: {why}"))
        .hint("the log was changed after it was written: restore it from a backup")
}

fn newer(run: &RunId, seq: Seq) -> Failure {
    Failure::new(Kind::HostStorage, format!("read event {seq} of run {run}: a newer version of cofferdam wrote it"))
        .hint("use the version of cofferdam that wrote the run")
}

fn forgotten(run: &RunId, seq: Seq) -> Failure {
    let message = format!("read event {seq} of run {run}: it is of a version before the first that is kept");
    Failure::new(Kind::HostStorage, message).hint("read it with the version of cofferdam that wrote it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{GENESIS, Json};
    use crate::store::upcast::Step;

    /// A step as a later version may bring it: what is `owner` now was `holder` then.
    const MADE_UP: &[Step] = &[|mut body| {
        let fact = &mut body["fact"];
        if fact["fact"] == "run_claimed"
            && let Some(holder) = fact.as_object_mut().and_then(|fields| fields.remove("holder"))
        {
            fact["owner"] = holder;
        }
        body
    }];

    fn check_later(stored: &Record) -> Result<Event, Failure> {
        check_by(Versions { oldest: SCHEMA_VERSION, steps: MADE_UP }, &run(), (1, GENESIS), stored)
    }

    /// Makes a record as the version before the made-up step wrote it.
    fn old_record() -> Record {
        let new = records(1).remove(0);
        let body = new.body.replace("owner\":", "holder\":");
        let mut value: Json = serde_json::from_str(&body).unwrap();
        value["v"] = SCHEMA_VERSION.into();
        let body = canonical(&value);
        Record { hash: Digest::of(body.as_bytes()), body, ..new }
    }

    #[test]
    fn an_older_event_is_read_as_a_new_one_and_keeps_its_hash() {
        let old = old_record();
        let event = check_later(&old).unwrap();
        let fact = Fact::RunClaimed { owner: "owner 0".into(), policy: GENESIS };
        assert_eq!((event.fact.clone(), event.v), (fact, SCHEMA_VERSION + 1));
        assert_eq!(event.hash().unwrap(), old.hash, "the next event names what is stored");
        assert!(check(&run(), 1, GENESIS, &old).is_err(), "without the step it is no event");
    }

    #[test]
    fn an_older_event_that_was_touched_is_refused() {
        let old = old_record();
        let spelled = format!("{} ", old.body);
        let reversed = old.body.replace("holder", "Holder");
        for touched in [
            Record { body: reversed, ..old.clone() },
            Record { body: spelled, ..old.clone() },
            Record { hash: GENESIS, ..old.clone() },
            Record { v: old.v + 1, ..old.clone() },
            Record { epoch: 9, ..old.clone() },
            Record { at: Timestamp(9), ..old.clone() },
            Record { kind: "called".into(), ..old.clone() },
        ] {
            let failure = check_later(&touched).unwrap_err();
            assert!(failure.message.contains("event 1 of run"), "{failure}");
        }
    }

    #[test]
    fn an_event_of_a_version_that_was_given_up_is_refused() {
        let versions = Versions { oldest: SCHEMA_VERSION + 1, steps: &[] };
        let failure = check_by(versions, &run(), (1, GENESIS), &old_record()).unwrap_err();
        assert!(failure.message.contains("before the first that is kept"), "{failure}");
    }

    fn run() -> RunId {
        RunId::from_ulid("01arz3ndektsv4rrffq69g5fav")
    }

    fn records(count: u64) -> Vec<Record> {
        let fact = |n| (Timestamp(n), Fact::RunClaimed { owner: format!("owner {n}"), policy: GENESIS });
        extend(&run(), 1, (0, GENESIS), (0..count).map(fact).collect()).unwrap().1
    }

    #[test]
    fn the_hash_of_a_record_is_that_of_its_event() {
        let (events, records) = extend(
            &run(),
            1,
            (0, GENESIS),
            vec![(Timestamp(5), Fact::RunClaimed { owner: "é".into(), policy: GENESIS })],
        )
        .unwrap();
        assert_eq!(records[0].hash, events[0].hash().unwrap());
        assert_eq!(records[0].kind, "run_claimed");
        assert_eq!(check(&run(), 1, GENESIS, &records[0]), Ok(events[0].clone()));
    }

    #[test]
    fn an_event_of_a_newer_version_is_refused_even_if_nothing_else_of_it_is_known() {
        let body = format!(r#"{{"dreamt":true,"v":{}}}"#, SCHEMA_VERSION + 1);
        let hash = Digest::of(body.as_bytes());
        let record = Record { body, hash, ..records(1).remove(0) };
        let failure = check(&run(), 1, GENESIS, &record).unwrap_err();
        assert!(failure.message.contains("event 1 of run") && failure.message.contains("newer"), "{failure}");
    }

    #[test]
    fn another_spelling_of_the_same_event_is_refused() {
        let record = records(1).remove(0);
        let spelled = Record { body: format!("{} ", record.body), ..record.clone() };
        assert_eq!(check(&run(), 1, GENESIS, &spelled).unwrap_err().kind, Kind::HostStorage);
        // One that bears the hash of its own spelling is not the event that the next one, or the run, names.
        let hash = Digest::of(spelled.body.as_bytes());
        assert_eq!(check(&run(), 1, GENESIS, &Record { hash, ..spelled }).unwrap().hash().unwrap(), hash);
        assert!(check_end(&run(), (1, hash), (1, record.hash)).unwrap_err().message.contains("event 1 of run"));
    }

    #[test]
    fn a_cut_tail_is_named() {
        let records = records(3);
        let failure = check_end(&run(), (2, records[1].hash), (3, records[2].hash)).unwrap_err();
        assert!(failure.message.contains("event 3 of run"), "{failure}");
    }
}
