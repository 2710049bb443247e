//! Whether a run within the run is the one of which its step tells, and left to the run around it what the step says.
//!
//! Promises: nothing that follows from the log of the run within is taken from the log of the run around it. Leaves to others: what
//! the run within did itself, which is played back like any other.

use serde::Serialize;
use serde_json::json;

use crate::domain::{Digest, Failure, Json, Kind, Principal, RunEnd, RunId, StepEnd, StepId, TakesBack};
use crate::host::replay::decided::Decided;
use crate::host::replay::made::Carrier;
use crate::host::replay::tree::{Called, Played, Player, differs};
use crate::host::replay::{Verdict, untold};
use crate::orchestrator::{Run, goal_of, told};
use crate::store::Payload;

/// Whose a run is.
#[derive(PartialEq, Serialize)]
struct Belonging<'a> {
    run: &'a RunId,
    step: &'a StepId,
    depth: u32,
    takes_back: Option<TakesBack>,
    principal: &'a Principal,
}

impl Player<'_> {
    /// Whether a run was begun for its step, for what the step says, and the step brought and left what the run did.
    pub(super) async fn carried_out(
        &self,
        called: &Called<'_>,
        carrier: &Carrier,
        (decided, played): (&Decided<'_>, &Played),
    ) -> Result<Verdict, Failure> {
        let made = called.made;
        let (Some(around), Some(child)) = (called.around, &played.run) else {
            return Ok(untold(format!("the log of run {}, or of the run around it, tells of no run", carrier.run)));
        };
        if let Some(verdict) = foreign(called, around, (carrier, child)) {
            return Ok(verdict);
        }
        if let Some(sub_run) = decided.sub_run(&made.step) {
            let args: Json = self.host.kept(called.run, &made.args).await?;
            let goal = Payload::of(&goal_of(sub_run, &args))?.digest();
            if goal != played.goal {
                return Ok(differs("what its run is for", &json!(played.goal), &json!(goal)));
            }
        }
        let Some((end, caveats)) = &played.end else {
            return Ok(untold(format!("run {} has not come to its end", child.id)));
        };
        let now = self.brought(child, end).await?;
        let is_same = match (&made.end, &now) {
            (StepEnd::Succeeded { output }, Ok(now)) => output == now,
            (StepEnd::Failed { kind, .. }, Err(now)) => kind == now,
            _ => false,
        };
        if !is_same {
            return Ok(differs("what its run brought", &json!(made.end), &json!(end)));
        }
        let left = told(child, caveats);
        Ok(if made.left == left {
            Verdict::Same
        } else {
            differs("what its run left", &json!(made.left), &json!(left))
        })
    }

    /// What a run that ended so brings to the step that it carries out.
    async fn brought(&self, child: &Run, end: &RunEnd) -> Result<Result<Digest, Kind>, Failure> {
        Ok(match end {
            RunEnd::Succeeded { answer: Some(answer) } => Ok(*answer),
            RunEnd::Succeeded { answer: None } => Ok(Payload::of(&Json::Null)?.digest()),
            RunEnd::Failed { failure, .. } | RunEnd::BudgetExhausted { failure } => {
                Err(self.host.kept::<Failure>(&child.id, failure).await?.kind)
            }
            RunEnd::Cancelled { .. } => Err(Kind::HostCancelled),
        })
    }
}

/// Tells where a run is not that of the step: another's, of another person, or there to take something else back.
fn foreign(called: &Called<'_>, around: &Run, (carrier, child): (&Carrier, &Run)) -> Option<Verdict> {
    let own = Belonging {
        run: called.run,
        step: &called.made.step,
        depth: around.parent.as_ref().map_or(0, |parent| parent.depth) + 1,
        takes_back: takes_back(called, around, (carrier, child)),
        principal: called.principal,
    };
    let found = child.parent.as_ref().map(|parent| Belonging {
        run: &parent.run,
        step: &parent.step,
        depth: parent.depth,
        takes_back: parent.takes_back.clone(),
        principal: &child.principal,
    });
    let is_own = found.as_ref() == Some(&own);
    (!is_own).then(|| differs("whose run it is", &json!(found), &json!(own)))
}

/// The run that the run of a step is there to take back.
fn takes_back(called: &Called<'_>, around: &Run, (carrier, child): (&Carrier, &Run)) -> Option<TakesBack> {
    let of = around.step(&called.made.step)?.planned.role.undoes()?;
    match around.step(of) {
        Some(undone) => undone.run.clone().map(|run| TakesBack { run, after: carrier.before.clone() }),
        None => child.takes_back().cloned(),
    }
}
