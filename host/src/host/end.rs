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
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::domain::{
        Budget, Caveat, CaveatKind, Digest, Effect, GENESIS, PlannedStep, Principal, StepId, Timestamp,
    };
    use crate::host::{Host, RunState};
    use crate::store::memory::MemoryLog;
    use crate::store::{EventLog, Payload};

    const RUN: &str = "r-01arz3ndektsv4rrffq69g5fav";

    /// The facts of a run whose process died in the middle of a write.
    fn left(step: &StepId, stored: Digest) -> Vec<Fact> {
        let planned = PlannedStep::call(step.clone(), "notes.write".parse().unwrap(), vec![], Effect::Once);
        let (step, none) = (step.clone(), Digest::of(b""));
        vec![
            Fact::RunCreated {
                principal: Principal::default(),
                goal: stored,
                planner: "model:gone".into(),
                policy: none,
                toolset: none,
                budget: Budget::default(),
                is_single_plan: false,
                parent: None,
            },
            Fact::PlanRequested { turn: 1, pack: none },
            Fact::PlanAccepted {
                turn: 1,
                reply: none,
                plan: none,
                steps: vec![planned],
                has_answer: false,
                has_assertions: false,
            },
            Fact::StepReady { step: step.clone(), args: stored, key: none },
            Fact::StepStarted {
                step: step.clone(),
                attempt: 1,
                component: none,
                effect: Effect::Once,
                rules: vec![],
                reserved: crate::domain::Cost::default(),
                run: None,
            },
            Fact::WriteBegun { step, attempt: 1 },
        ]
    }

    #[tokio::test]
    async fn a_write_that_nobody_saw_end_is_unknown_in_the_end_too() {
        let (log, run, step) = (MemoryLog::default(), RUN.parse().unwrap(), StepId::new(1, "write").unwrap());
        let stored = Payload::of(&json!({"text": "Write it down", "workflow": null})).unwrap();
        let owner = log.create(&run, &Principal::default(), "another", Timestamp(0)).await.unwrap();
        let facts = left(&step, stored.digest()).into_iter().map(|fact| (Timestamp(0), fact)).collect();
        let batch = Batch { after: (0, GENESIS), facts, payloads: vec![stored] };
        log.append(&*owner, batch, Durability::Synced).await.unwrap();

        let host = Host::builder().event_log(Arc::new(log)).build().unwrap();
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
