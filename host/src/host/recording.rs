//! What the planner of a run said, as a recording that can plan again.

use std::collections::BTreeMap;

use crate::domain::{Digest, Event, Fact, Failure, Kind, RunId};
use crate::host::Host;
use crate::orchestrator::Goal as StoredGoal;
use crate::planner::ContextPack;
use crate::planner::recorded::{Head, RECORDING_VERSION, RecordedRefusal, RecordedTurn, Recording};

impl Host {
    /// Makes a recording of what the planner of a run said.
    ///
    /// # Errors
    /// `data.not_found`, also where its user was erased; `data.conflict` where it is no run, or nobody planned it;
    /// `host.storage`.
    pub async fn recording(&self, run: &RunId) -> Result<Recording, Failure> {
        let events = self.events(run).await?;
        let refuse = |why: &str| Failure::new(Kind::DataConflict, format!("record what planned `{run}`: {why}"));
        let Some(Fact::RunCreated { goal, planner, is_single_plan, .. }) = events.first().map(|event| &event.fact)
        else {
            return Err(refuse("it is not a run"));
        };
        let goal: StoredGoal = self.recorded(run, goal).await?;
        let turns = turns_of(&events);
        if turns.is_empty() {
            return Err(refuse("nobody was asked for a plan"));
        }
        let mut recorded = Vec::new();
        let mut prompt = None;
        for (turn, said) in turns {
            let pack: ContextPack = self.recorded(run, &said.pack).await?;
            prompt = prompt.or(pack.prompt);
            let reply = match &said.reply {
                Some(reply) => Some(self.words(run, reply).await?),
                None => None,
            };
            let failure = match said.failed {
                Some(failure) if reply.is_none() => Some(without_detail(self.recorded(run, &failure).await?)),
                _ => None,
            };
            let refused = match said.refused {
                Some((failures, is_escalated)) => {
                    let failures: Vec<Failure> = self.recorded(run, &failures).await?;
                    Some(RecordedRefusal { failures: failures.into_iter().map(without_detail).collect(), is_escalated })
                }
                None => None,
            };
            // A request that is still open, or was left alone, has brought nothing.
            if reply.is_some() || failure.is_some() {
                recorded.push(RecordedTurn { turn, pack: pack.likeness(), reply, failure, refused });
            }
        }
        let StoredGoal { text, inputs, assert, .. } = goal;
        let head = Head {
            recording: RECORDING_VERSION,
            note: Some(format!(
                "a recording of run {run}: what its planner said, and nothing of what its steps brought"
            )),
            goal: text,
            inputs,
            assert,
            planner: planner.trim_start_matches("recording:").to_owned(),
            prompt,
            is_single_plan: *is_single_plan,
        };
        Ok(Recording { head, turns: recorded })
    }

    async fn recorded<T: for<'de> serde::Deserialize<'de>>(&self, run: &RunId, digest: &Digest) -> Result<T, Failure> {
        self.json(run, digest).await?.ok_or_else(|| erased(run))
    }

    async fn words(&self, run: &RunId, digest: &Digest) -> Result<String, Failure> {
        let bytes = self.0.parts.log.payload(run, digest).await?.ok_or_else(|| erased(run))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn erased(run: &RunId) -> Failure {
    Failure::new(Kind::DataNotFound, format!("record what planned `{run}`: what its user gave and got is erased"))
}

/// What is for the operator stays here.
fn without_detail(failure: Failure) -> Failure {
    Failure { detail: None, ..failure }
}

/// What the events tell of one turn.
struct Said {
    pack: Digest,
    reply: Option<Digest>,
    /// Why the planner said nothing, as far as no later request of the turn brought something.
    failed: Option<Digest>,
    /// Why what it said was refused, and whether a dearer model was asked next.
    refused: Option<(Digest, bool)>,
}

fn turns_of(events: &[Event]) -> BTreeMap<u32, Said> {
    let mut turns: BTreeMap<u32, Said> = BTreeMap::new();
    for event in events {
        let (turn, reply) = match &event.fact {
            Fact::PlanRequested { turn, pack, .. } => {
                turns.insert(*turn, Said { pack: *pack, reply: None, failed: None, refused: None });
                continue;
            }
            Fact::PlanFailed { turn, failure, .. } => {
                turns.entry(*turn).and_modify(|said| said.failed = Some(*failure));
                continue;
            }
            Fact::PlanRejected { turn, reply, failures, is_escalated } => {
                let refused = Some((*failures, *is_escalated));
                turns.entry(*turn).and_modify(|said| (said.reply, said.refused) = (Some(*reply), refused));
                continue;
            }
            Fact::PlanAccepted { turn, reply, .. }
            | Fact::Answered { turn, reply, .. }
            | Fact::Asked { turn, reply, .. } => (turn, reply),
            _ => continue,
        };
        // The answer of a plan names the plan as its reply, and comes after the reply itself.
        turns.entry(*turn).and_modify(|said| said.reply = said.reply.or(Some(*reply)));
    }
    turns
}
