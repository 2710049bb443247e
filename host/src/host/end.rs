//! Ends a run that nobody drives: from its log alone, without its planner and its tools.

use crate::domain::{Fact, Failure, Kind, RunEnd, RunId};
use crate::orchestrator::{Command, Ending, Parts, Run, RunStatus, recover};
use crate::store::{Batch, Durability, Ownership};

/// Takes the run, notes what became of the calls of the process before, and ends it as cancelled.
pub(super) async fn end(parts: &Parts, run: &RunId, by: &str) -> Result<(), Failure> {
    let events = parts.log.read(run, 0).await?;
    if !matches!(events.first().map(|event| &event.fact), Some(Fact::RunCreated { .. })) {
        return Err(
            Failure::new(Kind::DataConflict, format!("end `{run}`: it is not a run")).hint("list runs with `runs`")
        );
    }
    let owner = parts.log.own(run, &parts.owner).await?;
    // Read again: it may have gone on until it was taken.
    let mut state = Run::of(&parts.log.read(run, 0).await?).map_err(parted)?;
    if let RunStatus::Ended(_) = state.status {
        return Err(
            Failure::new(Kind::DataConflict, format!("end run `{run}`: it has ended")).hint("look at it with `show`")
        );
    }
    let claimed = claimed(parts, &state, by);
    append(parts, &*owner, &mut state, claimed).await?;
    match state.next(parts.clock.now()).pop() {
        Some(Command::End { ending: Ending::Cancelled { by }, caveats }) => {
            let ended = Fact::RunEnded { end: RunEnd::Cancelled { by }, caveats };
            append(parts, &*owner, &mut state, vec![ended]).await
        }
        other => Err(Failure::new(Kind::HostBug, format!("end run `{run}`")).detail(format!("it wants {other:?}"))),
    }
}

fn claimed(parts: &Parts, run: &Run, by: &str) -> Vec<Fact> {
    let mut facts = vec![Fact::RunClaimed { owner: parts.owner.clone(), policy: parts.policy.digest() }];
    facts.extend(recover(run));
    if run.cancelled_by.is_none() {
        facts.push(Fact::CancelRequested { by: by.to_owned(), undo: false });
    }
    facts
}

/// Appends to the log, then applies, as the driver does.
async fn append(parts: &Parts, owner: &dyn Ownership, run: &mut Run, facts: Vec<Fact>) -> Result<(), Failure> {
    let at = parts.clock.now();
    let facts = facts.into_iter().map(|fact| (at, fact)).collect();
    let batch = Batch { after: run.last, facts, payloads: Vec::new() };
    for event in parts.log.append(owner, batch, Durability::Synced).await? {
        run.apply(&event).map_err(parted)?;
    }
    Ok(())
}

fn parted(error: crate::orchestrator::IllegalTransition) -> Failure {
    Failure::new(Kind::HostStorage, format!("fold the run's events: {error}")).hint("look for the place with `verify`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Caveat, CaveatKind};
    use crate::host::RunState;
    use crate::host::canned::{Canned, host_of, id, writing};
    use crate::store::memory::MemoryLog;

    #[tokio::test]
    async fn a_write_that_nobody_saw_end_is_unknown_in_the_end_too() {
        let (log, step) = (MemoryLog::default(), id("write"));
        let left = Canned::new().plan(vec![writing("write")]).ready(&step).started(&step, 1);
        let left = left.fact(Fact::WriteBegun { step: step.clone(), attempt: 1 });
        let run = left.run.clone();
        let owner = left.kept(&log).await;

        let host = host_of(&log);
        assert_eq!(host.end(&run, "ann").await.unwrap_err().kind, Kind::HostOwned);
        drop(owner);
        let report = host.end(&run, "ann").await.unwrap();
        assert_eq!(report.state, RunState::Cancelled);
        assert_eq!(
            (report.unknown, report.caveats),
            (vec![step.clone()], vec![Caveat { step, what: CaveatKind::Unknown }])
        );
        assert_eq!(host.end(&run, "ann").await.unwrap_err().kind, Kind::DataConflict);
    }
}
