//! How a run within a run ended, as the step that it carried out is to tell it.
//!
//! Promises: the same, whoever notes it. Leaves to others: what of it follows from the run alone (`orchestrator::told`), and
//! to append it.

use serde::Deserialize;

use crate::domain::{Digest, Event, Fact, Failure, Json, Kind, RunEnd, RunId, Settlement, StepEnd, StepId};
use crate::orchestrator::driver::Parts;
use crate::orchestrator::machine::{Run, RunStatus, Step, StepStatus};
use crate::orchestrator::told::{Told, told};
use crate::store::Payload;

/// How a run within a run ended.
pub struct EndedRun {
    end: StepEnd,
    stored: Payload,
    told: Told,
    /// The person who said that what it could not take back is to stay.
    given_up_by: Option<String>,
}

impl EndedRun {
    /// Reads how the run that carried out `step` ended; `None` where it has not ended.
    ///
    /// # Errors
    /// `data.not_found` where what it brought is erased; `host.storage`.
    pub async fn of(parts: &Parts, step: &StepId, child: &Run) -> Result<Option<Self>, Failure> {
        let RunStatus::Ended(end) = &child.status else { return Ok(None) };
        let (end, stored) = match end {
            RunEnd::Succeeded { answer: None } => succeeded(&Json::Null)?,
            RunEnd::Succeeded { answer: Some(answer) } => succeeded(&kept(parts, &child.id, answer).await?)?,
            RunEnd::Failed { failure, .. } | RunEnd::BudgetExhausted { failure } => {
                failed(&kept(parts, &child.id, failure).await?)?
            }
            RunEnd::Cancelled { by } => {
                let message = format!("finish `{step}`: its run was cancelled by {by}");
                failed(&Failure::new(Kind::HostCancelled, message))?
            }
        };
        let events = parts.log.read(&child.id, 0).await?;
        let caveats = match events.last().map(|event| &event.fact) {
            Some(Fact::RunEnded { caveats, .. }) => caveats.as_slice(),
            _ => &[],
        };
        let told = told(child, caveats);
        Ok(Some(Self { end, stored, told, given_up_by: given_up_by(child, &events) }))
    }

    /// One that was cancelled before anybody made it.
    ///
    /// # Errors
    /// `host.bug`: the failure cannot be written.
    pub fn unborn(step: &StepId, by: &str) -> Result<Self, Failure> {
        let message = format!("finish `{step}`: the run was cancelled by {by} before it began");
        Self::failed(&Failure::new(Kind::HostCancelled, message), Told::default())
    }

    /// One that could not be driven.
    pub(super) fn failed(failure: &Failure, told: Told) -> Result<Self, Failure> {
        let (end, stored) = failed(failure)?;
        Ok(Self { end, stored, told, given_up_by: None })
    }

    /// Returns the facts that tell it of this attempt at the step, and what they name.
    pub fn facts(self, step: StepId, attempt: u32) -> (Vec<Fact>, Payload) {
        // A person said so within, and is not asked again.
        let given_up = match (&self.end, self.given_up_by) {
            (StepEnd::Failed { failure, .. }, Some(by)) if !self.told.has_written => {
                let settlement = Settlement::Failed { failure: *failure };
                Some(Fact::StepSettled { step: step.clone(), settlement, by })
            }
            _ => None,
        };
        let ended = self.told.ended(step, attempt, self.end);
        (std::iter::once(ended).chain(given_up).collect(), self.stored)
    }
}

/// Returns who said, last, that something a run that takes back could not take back is to stay.
fn given_up_by(child: &Run, events: &[Event]) -> Option<String> {
    // Of what a person said nothing, nobody said that it is to stay.
    let is_settled = |step: &Step| step.is_given_up || matches!(step.status, StepStatus::Succeeded { .. });
    let is_given_up = child.in_order().any(|step| step.is_given_up) && child.in_order().all(is_settled);
    if child.takes_back().is_none() || !is_given_up {
        return None;
    }
    events.iter().rev().find_map(|event| match &event.fact {
        Fact::StepSettled { settlement: Settlement::Failed { .. }, by, .. } => Some(by.clone()),
        _ => None,
    })
}

/// Returns what the log keeps of a run under this digest.
pub(super) async fn kept<T: for<'de> Deserialize<'de>>(
    parts: &Parts,
    run: &RunId,
    digest: &Digest,
) -> Result<T, Failure> {
    let erased = || Failure::new(Kind::DataNotFound, "read a payload of the run: its owner was erased");
    let bytes = parts.log.payload(run, digest).await?.ok_or_else(erased)?;
    serde_json::from_slice(&bytes).map_err(|e| Failure::new(Kind::HostStorage, "read a payload of the run").detail(e))
}

fn succeeded(output: &Json) -> Result<(StepEnd, Payload), Failure> {
    let stored = Payload::of(output)?;
    Ok((StepEnd::Succeeded { output: stored.digest() }, stored))
}

fn failed(failure: &Failure) -> Result<(StepEnd, Payload), Failure> {
    let stored = Payload::of(failure)?;
    Ok((StepEnd::Failed { kind: failure.kind, failure: stored.digest() }, stored))
}
