//! What to make of calls that were running when their process died. Pure.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

use crate::domain::{Effect, Fact, HostCallRecord, Role, StepId};
use crate::orchestrator::machine::{Run, Step, StepStatus};

/// Returns one fact per call that nobody runs any more; `journals` hold what their host calls brought.
///
/// A write is in the log before it begins; so a call without one has changed nothing, and may run again. One whose writes
/// were all seen to end may too, as they are answered from their records and not made again. So may one whose last write
/// was not seen to end, where the same key makes a repeat harmless. Any other may have changed something: that is never
/// guessed.
pub fn recover(run: &Run, journals: &HashMap<StepId, Vec<HostCallRecord>>) -> Vec<Fact> {
    let settled = run.in_order().filter_map(|step| {
        let (id, attempt) = (step.id().clone(), step.attempts);
        match step.status {
            // Its own log tells where it is.
            StepStatus::Running { .. } if step.run.is_some() => None,
            StepStatus::Running { has_written } => {
                let may_run_again = !has_written || is_known(step, journals.get(&id).map_or(&[], Vec::as_slice));
                let is_over = run.cancelled.is_some() && has_written && !is_taking_back(run, step);
                Some(match may_run_again && !is_over {
                    true => Fact::StepInterrupted { step: id, attempt },
                    false => Fact::StepUnknown { step: id, attempt },
                })
            }
            _ => None,
        }
    });
    settled.collect()
}

/// Whether the call goes on though the run was cancelled, as whoever did that wants it.
fn is_taking_back(run: &Run, step: &Step) -> bool {
    let is_wanted = run.undo.is_some() && run.cancelled.as_ref().is_some_and(|cancel| cancel.undo);
    is_wanted && matches!(step.planned.role, Role::Undo { .. })
}

/// Whether it is known what each write did, or does not matter: under the same key it does not, and a crash may have come
/// before the journal had a word of it.
fn is_known(step: &Step, journal: &[HostCallRecord]) -> bool {
    let mut writes = journal.iter().filter(|record| record.is_write).peekable();
    let is_recorded = writes.peek().is_some();
    step.effect <= Effect::Idempotent || (is_recorded && writes.all(|write| write.done.is_some()))
}

/// Returns the calls whose journals [`recover`] wants to see, with the attempts whose records are to be [`joined`].
pub fn to_recover(run: &Run) -> Vec<(StepId, RangeInclusive<u32>)> {
    let is_lost = |step: &&Step| step.status == StepStatus::Running { has_written: true } && step.run.is_none();
    run.in_order().filter(is_lost).map(|step| (step.id().clone(), step.attempts_recorded())).collect()
}

/// Joins the journals of attempts that were interrupted one after the other, the oldest first. Each was answered from those
/// before it, and perhaps not as far: so the newest record of a host call holds, but none that was not seen to end takes
/// the place of one that was.
pub fn joined(journals: impl IntoIterator<Item = Vec<HostCallRecord>>) -> Vec<HostCallRecord> {
    let mut joined: BTreeMap<u32, HostCallRecord> = BTreeMap::new();
    for record in journals.into_iter().flatten() {
        let is_ended = joined.get(&record.n).is_some_and(|before| before.done.is_some());
        if record.done.is_some() || !is_ended {
            joined.insert(record.n, record);
        }
    }
    joined.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Digest, Json, Recorded, RecordedValue};

    fn record(n: u32, brought: Option<u64>) -> HostCallRecord {
        let done = brought.map(|ms| Recorded { value: RecordedValue::Whole { value: Json::Null }, ms });
        HostCallRecord { n, what: "http.send".into(), args: Digest::of(b""), is_write: true, done }
    }

    #[test]
    fn what_an_earlier_attempt_did_is_known_though_the_last_did_not_come_so_far() {
        let first = vec![record(1, Some(1)), record(2, Some(1)), record(3, None)];
        let second = vec![record(1, Some(2)), record(2, None)];
        let told: Vec<_> = joined([first, second, vec![]])
            .into_iter()
            .map(|record| (record.n, record.done.map(|recorded| recorded.ms)))
            .collect();
        assert_eq!(told, [(1, Some(2)), (2, Some(1)), (3, None)]);
    }
}
