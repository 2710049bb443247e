//! What to make of calls that were running when their process died. Pure.

use std::collections::{BTreeMap, HashMap};

use crate::domain::{Effect, Fact, HostCallRecord, Role, StepId};
use crate::orchestrator::machine::{Run, Step};

/// Returns one fact per call that nobody runs any more; `journals` hold what the host calls of its attempts brought,
/// [`merged`].
///
/// A write is in the log before it begins; so a call without one has changed nothing, and may run again. One whose writes
/// were all seen to end may too, as they are answered from their records and not made again. So may one whose last write
/// was not seen to end, where the same key makes a repeat harmless. Any other may have changed something: that is never
/// guessed.
pub fn recover(run: &Run, journals: &HashMap<StepId, Vec<HostCallRecord>>) -> Vec<Fact> {
    let settled = lost(run).map(|step| {
        let (id, attempt) = (step.id().clone(), step.attempts);
        let has_written = step.doubt.has_written();
        let may_run_again = !has_written || is_known(step, journals.get(&id).map_or(&[], Vec::as_slice));
        let is_over = run.cancelled.is_some() && has_written && !is_taking_back(run, step);
        match may_run_again && !is_over {
            true => Fact::StepInterrupted { step: id, attempt },
            false => Fact::StepUnknown { step: id, attempt },
        }
    });
    settled.collect()
}

/// Whether the call goes on though the run was cancelled, as whoever did that wants it.
fn is_taking_back(run: &Run, step: &Step) -> bool {
    let is_wanted = run.undo.is_some() && run.cancelled.as_ref().is_some_and(|cancel| cancel.undo);
    is_wanted && matches!(step.planned.role, Role::Undo { .. })
}

/// Calls whose process died. A run within the run has a log of its own, which tells where it is.
fn lost(run: &Run) -> impl Iterator<Item = &Step> {
    run.in_order().filter(|step| step.status.is_running() && step.run.is_none())
}

/// Whether it is known what each write did, or does not matter. That a write begins is in the events a moment before it is
/// in the journal: a process may die in between.
fn is_known(step: &Step, journal: &[HostCallRecord]) -> bool {
    // What was refused was never made, and tells nothing of what was.
    let mut writes = journal.iter().filter(|record| record.is_write && !record.is_refused()).peekable();
    let is_recorded = writes.peek().is_some();
    step.effect <= Effect::Idempotent || (is_recorded && writes.all(|write| write.done.is_some()))
}

/// Returns the calls whose journals [`recover`] wants to see, each with all attempts that belong together.
pub fn to_recover(run: &Run) -> Vec<(StepId, Vec<u32>)> {
    let attempts = |step: &Step| [step.interrupted.as_slice(), &[step.attempts]].concat();
    let wrote = lost(run).filter(|step| step.doubt.has_written());
    wrote.map(|step| (step.id().clone(), attempts(step))).collect()
}

/// Puts the journals of attempts together that belong to one call: each began anew and answered what the ones before it
/// had done, so that none of them alone need hold it all. What one of them saw end has ended.
pub fn merged(journals: impl IntoIterator<Item = Vec<HostCallRecord>>) -> Vec<HostCallRecord> {
    let mut merged: BTreeMap<u32, HostCallRecord> = BTreeMap::new();
    for record in journals.into_iter().flatten() {
        match merged.get(&record.n) {
            Some(known) if known.done.is_some() || record.done.is_none() => {}
            _ => drop(merged.insert(record.n, record)),
        }
    }
    merged.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Digest, Json, Recorded, RecordedValue};

    #[test]
    fn what_one_attempt_saw_end_has_ended_though_the_next_one_died_before_it_got_there() {
        let record = |n, is_done: bool| {
            let value = RecordedValue::Whole { value: Json::from(n) };
            let done = is_done.then_some(Recorded { value, ms: 1 });
            HostCallRecord { n, what: "http.send".into(), args: Digest::of(b""), is_write: true, done }
        };
        let first = vec![record(1, true), record(2, true), record(3, false)];
        let second = vec![record(1, true), record(2, false)];
        let all = merged([first, second, vec![record(3, true)]]);
        assert_eq!(all, [record(1, true), record(2, true), record(3, true)]);
    }
}
