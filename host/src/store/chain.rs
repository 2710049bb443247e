//! The chain of a run: makes events that follow one another, and checks that stored ones still do.
//!
//! Pure. What is hashed is the canonical text of the whole event, and that text is what the logs store.

use crate::domain::{Digest, Epoch, Event, Fact, Failure, Kind, RunId, SCHEMA_VERSION, Seq, Timestamp, canonical};

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
        let event = Event { v: SCHEMA_VERSION, run: run.clone(), seq, epoch, at, prev, fact };
        let record = record(&event)?;
        prev = record.hash;
        records.push(record);
        events.push(event);
    }
    Ok((events, records))
}

/// Checks that `record` is event `seq` of `run` and follows `prev`, and returns the event.
pub(super) fn check(run: &RunId, seq: Seq, prev: Digest, stored: &Record) -> Result<Event, Failure> {
    if stored.seq != seq {
        return Err(touched(run, seq, "it is missing"));
    }
    if version(&stored.body).is_some_and(|v| v > SCHEMA_VERSION) {
        return Err(newer(run, seq));
    }
    let event: Event =
        serde_json::from_str(&stored.body).map_err(|e| touched(run, seq, "it is not an event").detail(e))?;
    if record(&event)? != *stored {
        return Err(touched(run, seq, "it is not what was appended"));
    }
    if event.run != *run || event.prev != prev {
        return Err(touched(run, seq, "it does not follow the event before it"));
    }
    Ok(event)
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

/// Returns the version that an event claims, without reading what only that version may understand.
fn version(body: &str) -> Option<u16> {
    #[derive(serde::Deserialize)]
    struct Header {
        v: u16,
    }
    serde_json::from_str::<Header>(body).ok().map(|header| header.v)
}

fn touched(run: &RunId, seq: Seq, why: &str) -> Failure {
    Failure::new(Kind::HostStorage, format!("verify event {seq} of run {run}: {why}"))
        .hint("the log was changed after it was written: restore it from a backup")
}

fn newer(run: &RunId, seq: Seq) -> Failure {
    Failure::new(Kind::HostStorage, format!("read event {seq} of run {run}: a newer version of cofferdam wrote it"))
        .hint("use the version of cofferdam that wrote the run")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::GENESIS;

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
        let mut record = records(1).remove(0);
        record.body = format!("{} ", record.body);
        record.hash = Digest::of(record.body.as_bytes());
        assert_eq!(check(&run(), 1, GENESIS, &record).unwrap_err().kind, Kind::HostStorage);
    }

    #[test]
    fn a_cut_tail_is_named() {
        let records = records(3);
        let failure = check_end(&run(), (2, records[1].hash), (3, records[2].hash)).unwrap_err();
        assert!(failure.message.contains("event 3 of run"), "{failure}");
    }
}
