//! Answers host calls of a call that runs again from what they brought before.
//!
//! Promises: a host call that was seen to end is answered, or made again and compared, and never made as if it were new;
//! a call that does something else than before is stopped at the first host call that differs, which is named; one that
//! was begun and not seen to end is made again only where that changes nothing more. Pure. Leaves to others: where records
//! are kept (`store`), and what becomes of a call that is stopped (the driver).

use std::collections::BTreeMap;

use crate::domain::{Digest, Failure, HostCallRecord, Json, Kind, Recorded, RecordedValue};
use crate::sandbox::{Begin, HostCall};

/// What the host calls of a call brought before.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// By number; those that were asked for are gone.
    left: BTreeMap<u32, HostCallRecord>,
}

impl Answers {
    /// Makes answers of the journal of a call.
    pub fn new(records: Vec<HostCallRecord>) -> Self {
        Self { left: records.into_iter().map(|record| (record.n, record)).collect() }
    }

    /// Returns what a host call brought before, which is not asked for yet.
    pub fn peek(&self, n: u32) -> Option<&HostCallRecord> {
        self.left.get(&n)
    }

    /// Returns what to do with a host call: proceed where it was never begun. `is_keyed` says that its server takes a
    /// request of a key that it has seen as done, so that a write may be sent again.
    ///
    /// # Errors
    /// `host.diverged` where it is another than was made before at its number; `host.interrupted` where it is a write that was
    /// begun and not seen to end, and may not be repeated: what came of it is unknown.
    pub fn next(&mut self, host_call: &HostCall, is_keyed: bool) -> Result<Begin, Failure> {
        let Some(record) = self.left.remove(&host_call.n) else { return Ok(Begin::Proceed) };
        compare(&record, host_call)?;
        match record.done {
            Some(Recorded { value: RecordedValue::Digest { digest, .. }, ms }) => Ok(Begin::Repeat { digest, ms }),
            Some(Recorded { value: RecordedValue::Refused { kind, message }, .. }) => {
                Ok(Begin::Refuse(Failure::new(kind, message)))
            }
            Some(recorded) => Ok(Begin::Answer(recorded)),
            None if !host_call.is_write || is_keyed => Ok(Begin::Proceed),
            None => Err(interrupted(host_call)),
        }
    }

    /// Returns the records that were not asked for, in order.
    pub fn left(&self) -> impl Iterator<Item = &HostCallRecord> {
        self.left.values()
    }
}

/// Returns the digest of one record.
pub fn record_digest(record: &HostCallRecord) -> Digest {
    Digest::of_json(&serde_json::to_value(record).unwrap_or(Json::Null))
}

/// Returns the digest of the journal of a call, of its records' digests by number; `None` where it is empty.
pub fn digest(records: &BTreeMap<u32, Digest>) -> Option<Digest> {
    let parts: Vec<&[u8]> = records.values().map(|digest| digest.as_bytes().as_slice()).collect();
    (!parts.is_empty()).then(|| Digest::of_parts(&parts))
}

/// Returns the digest of a journal as the end of its call tells it: of the host calls that were seen to end. One that was under
/// way when the call was stopped is none of them.
pub fn journal_digest(records: &[HostCallRecord]) -> Option<Digest> {
    let ended = records.iter().filter(|record| record.done.is_some());
    digest(&ended.map(|record| (record.n, record_digest(record))).collect())
}

fn compare(record: &HostCallRecord, host_call: &HostCall) -> Result<(), Failure> {
    let (before, now) = (record.what.as_str(), host_call.what);
    let n = host_call.n;
    let asked = record.about().zip(host_call.about.as_deref()).filter(|(before, now)| before != now);
    let differs = if let Some((before, now)) = asked {
        format!("host call {n} was `{before}` before, and is `{now}` now")
    } else if before != now {
        format!("host call {n} was `{before}` before, and is `{now}` now")
    } else if record.is_write != host_call.is_write {
        format!("host call {n} (`{now}`) wrote before, or writes now, and not both")
    } else if record.args != host_call.args {
        format!("host call {n} (`{now}`) has other arguments than before")
    } else {
        return Ok(());
    };
    Err(Failure::new(Kind::HostDiverged, format!("run the call again: {differs}"))
        .hint("look at what the step did, then say whether it is done")
        .detail(format!("arguments {} before, {} now", record.args, host_call.args)))
}

fn interrupted(host_call: &HostCall) -> Failure {
    let HostCall { n, what, .. } = host_call;
    let message = format!("tell what came of host call {n} (`{what}`): it was begun, and nobody saw it end");
    Failure::new(Kind::HostInterrupted, message)
        .hint("look at the place that it writes to, then say whether it is done")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn host_call(n: u32, what: &'static str, args: &str, is_write: bool) -> HostCall {
        HostCall { n, what, args: Digest::of(args.as_bytes()), is_write, upstream: None, about: None }
    }

    fn record(n: u32, what: &str, args: &str, done: Option<RecordedValue>) -> HostCallRecord {
        let args = Digest::of(args.as_bytes());
        let done = done.map(|value| Recorded { value, ms: 7 });
        HostCallRecord { n, what: what.into(), args, is_write: what.ends_with("send"), done }
    }

    fn whole(value: Json) -> Option<RecordedValue> {
        Some(RecordedValue::Whole { value })
    }

    #[test]
    fn what_was_seen_to_end_is_answered_and_the_rest_is_made() {
        let digest = Digest::of(b"large");
        let large = Some(RecordedValue::Digest { digest, bytes: 9 });
        let records = vec![record(1, "http.send", "a", whole(json!(1))), record(2, "http.get", "b", large)];
        let mut answers = Answers::new(records);
        let recorded = Recorded { value: RecordedValue::Whole { value: json!(1) }, ms: 7 };
        assert_eq!(answers.next(&host_call(1, "http.send", "a", true), false).unwrap(), Begin::Answer(recorded));
        assert_eq!(answers.left().map(|record| record.n).collect::<Vec<_>>(), [2]);
        let repeat = Begin::Repeat { digest, ms: 7 };
        assert_eq!(answers.next(&host_call(2, "http.get", "b", false), false).unwrap(), repeat);
        assert_eq!(answers.next(&host_call(3, "http.send", "c", true), false).unwrap(), Begin::Proceed);
    }

    #[test]
    fn requests_under_way_at_one_time_are_told_apart_by_number() {
        let records = vec![record(2, "http.get", "b", whole(json!(2))), record(1, "http.get", "a", whole(json!(1)))];
        let mut answers = Answers::new(records);
        for (n, args) in [(2, "b"), (1, "a")] {
            let answer = answers.next(&host_call(n, "http.get", args, false), false).unwrap();
            assert!(
                matches!(answer, Begin::Answer(Recorded { value: RecordedValue::Whole { value }, .. }) if value == n)
            );
        }
    }

    #[test]
    fn a_call_that_does_something_else_is_stopped_there() {
        let answers = || Answers::new(vec![record(1, "http.send", "a", whole(json!(1)))]);
        for (now, told) in [
            (host_call(1, "http.get", "a", false), "host call 1 was `http.send` before, and is `http.get` now"),
            (host_call(1, "http.send", "b", true), "host call 1 (`http.send`) has other arguments than before"),
            (host_call(1, "http.send", "a", false), "host call 1 (`http.send`) wrote before"),
        ] {
            let failure = answers().next(&now, true).unwrap_err();
            assert_eq!(failure.kind, Kind::HostDiverged);
            assert!(failure.message.contains(told), "{failure}");
        }
    }

    #[test]
    fn a_write_that_nobody_saw_end_is_repeated_only_under_its_key() {
        let answers = || Answers::new(vec![record(1, "http.send", "a", None), record(2, "poll", "", None)]);
        let write = host_call(1, "http.send", "a", true);
        assert_eq!(answers().next(&write, true).unwrap(), Begin::Proceed);
        assert_eq!(answers().next(&write, false).unwrap_err().kind, Kind::HostInterrupted);
        assert_eq!(answers().next(&host_call(2, "poll", "", false), false).unwrap(), Begin::Proceed);
    }

    #[test]
    fn what_was_refused_is_refused_again_and_was_never_a_write() {
        let refused = RecordedValue::Refused { kind: Kind::NetworkCircuitOpen, message: "send to it".into() };
        let record = record(1, "http.send", "a", Some(refused));
        assert!(record.is_refused());
        let begin = Answers::new(vec![record]).next(&host_call(1, "http.send", "a", true), false).unwrap();
        let Begin::Refuse(failure) = begin else { panic!("{begin:?}") };
        assert_eq!((failure.kind, failure.message.as_str()), (Kind::NetworkCircuitOpen, "send to it"));
    }

    #[test]
    fn a_journal_has_a_digest_of_all_that_it_tells() {
        let one = record(1, "http.get", "a", whole(json!(1)));
        let two = record(2, "http.get", "a", whole(json!(2)));
        let of = |records: &[&HostCallRecord]| {
            digest(&records.iter().map(|record| (record.n, record_digest(record))).collect())
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[&one, &two]), of(&[&two, &one]));
        assert_ne!(of(&[&one]), of(&[&one, &two]));
    }
}
