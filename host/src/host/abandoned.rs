//! A lone call under a key whose process died: what the log of its session tells of it, and what a person says.
//!
//! Promises: a key is given to the next call only where the log tells that nothing was changed under it, or a person says so;
//! two that come for one key at a time do not both get it, as whoever has the session settles. Leaves to others: keys whose
//! calls were seen to end (`keyed.rs`).

use crate::domain::{
    Digest, Effect, Event, Fact, Failure, Json, Kind, Outcome, Principal, RunId, Settlement, StepEnd, ToolName, Usage,
    leaves_open,
};
use crate::host::keyed::{self, Held};
use crate::host::{CallReport, Settled};
use crate::orchestrator::Parts;
use crate::registry::VerifiedTool;
use crate::store::{Batch, Durability, Ownership, Payload, Settle};

/// A call that is asked for under a key which another one holds.
pub(super) struct Asked<'a> {
    pub(super) key: &'a str,
    pub(super) request: Digest,
    /// The session in which it is to be made.
    pub(super) run: &'a RunId,
    pub(super) tool: &'a VerifiedTool,
    /// What a person says became of the call that holds the key.
    pub(super) settled: Option<&'a Settled>,
}

/// Whose the key is now.
pub(super) enum Taken {
    /// This caller's: go on, then settle.
    Mine,
    /// The call of another session has an outcome.
    Before { run: RunId, outcome: Vec<u8> },
}

/// What a session's log tells of the call under a key.
enum Last<'a> {
    /// It was about to change something, and nobody saw it end.
    Begun {
        call: u64,
        effect: Effect,
    },
    Ended(&'a Fact),
    Settled {
        call: u64,
        effect: Effect,
        settlement: &'a Settlement,
    },
}

impl Last<'_> {
    /// The number of the call, and how far it reaches.
    fn call(&self) -> (u64, Effect) {
        match self {
            Self::Begun { call, effect } | Self::Settled { call, effect, .. } => (*call, *effect),
            Self::Ended(Fact::Called { call, effect, .. }) => (*call, *effect),
            // Only calls are told to have ended.
            Self::Ended(_) => (0, Effect::Once),
        }
    }
}

/// Takes the key from the call of session `before`, if that has ended or changed nothing.
///
/// # Errors
/// `data.conflict` where the call is under way; `host.interrupted` where it may have changed something and nobody says what
/// became of it; `tool.contract` for an output that is none of the tool's; `host.storage`.
pub(super) async fn take(
    parts: &Parts,
    principal: &Principal,
    before: &RunId,
    asked: &Asked<'_>,
) -> Result<Taken, Failure> {
    let owner = match parts.log.own(before, &parts.owner).await {
        Err(failure) if failure.kind == Kind::HostOwned => return Err(keyed::under_way(before)),
        // It died before the first event of its session was kept: nothing was begun.
        Err(failure) if failure.kind == Kind::DataNotFound => return freed(parts, principal, asked).await,
        owner => owner?,
    };
    // Somebody may have been faster, until the session was this process's.
    match keyed::claim(parts, principal, asked.key, &asked.request, asked.run).await? {
        Held::Mine => return freed(parts, principal, asked).await,
        Held::Before { run, outcome: Some(outcome) } => return Ok(Taken::Before { run, outcome }),
        Held::Before { run, .. } if run != *before => return Err(keyed::under_way(&run)),
        Held::Before { .. } => {}
    }
    let events = parts.log.read(before, 0).await?;
    let report = match (last(&events, &keyed::digest(principal, asked.key)), asked.settled) {
        (None, _) | (Some(Last::Settled { settlement: Settlement::Retry | Settlement::Unknown, .. }), None) => {
            return freed(parts, principal, asked).await;
        }
        (Some(Last::Ended(called)), settled) if !is_unknown(called) => {
            let report = report(parts, before, called).await?;
            let kept = keyed::kept(&report)?;
            parts.log.settle_key(principal, asked.key, kept.clone()).await?;
            return match (kept, settled) {
                (None, _) => freed(parts, principal, asked).await,
                (Some(_), Some(_)) => Err(keyed::has_ended(before)),
                (Some(outcome), None) => Ok(Taken::Before { run: before.clone(), outcome }),
            };
        }
        (Some(Last::Settled { effect, settlement, .. }), None) => {
            said(parts, before, asked.tool.name(), effect, settlement).await?
        }
        (Some(Last::Settled { settlement: Settlement::Done { .. } | Settlement::Failed { .. }, .. }), Some(_)) => {
            return Err(keyed::has_ended(before));
        }
        (Some(Last::Begun { .. } | Last::Ended(_)), None) => return Err(unknown(before)),
        (Some(told), Some(settled)) => {
            let (call, effect) = told.call();
            match settle(parts, &*owner, &events, call, asked.tool, settled).await? {
                Settlement::Retry => {
                    parts.log.settle_key(principal, asked.key, None).await?;
                    return claimed(parts, principal, asked).await;
                }
                settlement => said(parts, before, asked.tool.name(), effect, &settlement).await?,
            }
        }
    };
    let outcome = keyed::written(&report)?;
    parts.log.settle_key(principal, asked.key, Some(outcome.clone())).await?;
    Ok(Taken::Before { run: before.clone(), outcome })
}

/// Gives the key to this caller, as nothing was begun under it; there is nothing that a person could say of it.
async fn freed(parts: &Parts, principal: &Principal, asked: &Asked<'_>) -> Result<Taken, Failure> {
    parts.log.settle_key(principal, asked.key, None).await?;
    match asked.settled {
        Some(_) => Err(keyed::nothing_to_settle()),
        None => claimed(parts, principal, asked).await,
    }
}

async fn claimed(parts: &Parts, principal: &Principal, asked: &Asked<'_>) -> Result<Taken, Failure> {
    match keyed::claim(parts, principal, asked.key, &asked.request, asked.run).await? {
        Held::Mine => Ok(Taken::Mine),
        Held::Before { run, .. } => Err(keyed::under_way(&run)),
    }
}

/// Whether a call ended, and nobody knows what it changed.
fn is_unknown(called: &Fact) -> bool {
    let Fact::Called { end: StepEnd::Failed { kind, .. }, has_written: true, has_open_write, .. } = called else {
        return false;
    };
    leaves_open(*kind, *has_open_write)
}

/// Returns the last that the log tells of calls under the key that change something; `None` where there was none.
fn last<'a>(events: &'a [Event], key: &Digest) -> Option<Last<'a>> {
    let mut found: Option<(u64, Effect, Last<'a>)> = None;
    for event in events {
        match (&event.fact, &mut found) {
            (Fact::CallStarted { call, effect, key: Some(of), .. }, _) if of == key => {
                found = Some((*call, *effect, Last::Begun { call: *call, effect: *effect }));
            }
            (called @ Fact::Called { call, .. }, Some((last, _, told))) if call == last => *told = Last::Ended(called),
            (Fact::CallSettled { call, settlement, .. }, Some((last, effect, told))) if call == last => {
                *told = Last::Settled { call: *call, effect: *effect, settlement };
            }
            _ => {}
        }
    }
    found.map(|(_, _, told)| told)
}

/// Writes down what a person says.
async fn settle(
    parts: &Parts,
    owner: &dyn Ownership,
    events: &[Event],
    call: u64,
    tool: &VerifiedTool,
    settled: &Settled,
) -> Result<Settlement, Failure> {
    let (settlement, payloads) = match &settled.settle {
        Settle::Retry => (Settlement::Retry, Vec::new()),
        Settle::Failed => {
            let message = format!("call `{}`: {} says that it did not happen", tool.name(), settled.by);
            let failure = Payload::of(&Failure::new(Kind::HostInterrupted, message))?;
            (Settlement::Failed { failure: failure.digest() }, vec![failure])
        }
        Settle::Done { output } => {
            let output: Json = serde_json::from_str(output)
                .map_err(|e| Failure::new(Kind::DataInput, format!("take the output: it is no JSON: {e}")))?;
            tool.check_output(&output)?;
            let output = Payload::of(&output)?;
            (Settlement::Done { output: output.digest() }, vec![output])
        }
    };
    let bug = |what: &str| Failure::new(Kind::HostBug, what.to_owned());
    let last = events.last().ok_or_else(|| bug("settle a call of a session without events"))?;
    let hash = last.hash().map_err(|e| bug("hash an event").detail(e))?;
    let fact = Fact::CallSettled { call, settlement: settlement.clone(), by: settled.by.clone() };
    let batch = Batch { after: (last.seq, hash), facts: vec![(parts.clock.now(), fact)], payloads };
    parts.log.append(owner, batch, Durability::Synced).await?;
    Ok(settlement)
}

/// Returns how the call ended, as its session tells.
async fn report(parts: &Parts, run: &RunId, called: &Fact) -> Result<CallReport, Failure> {
    let Fact::Called { tool, effect, end, usage, log, denials, has_written, has_open_write, .. } = called else {
        return Err(Failure::new(Kind::HostBug, "read how a call ended: it is something else"));
    };
    let result = match end {
        StepEnd::Succeeded { output } => Ok(stored(parts, run, output).await?),
        StepEnd::Failed { failure, .. } => Err(stored(parts, run, failure).await?),
    };
    let log = match log {
        Some(log) => stored(parts, run, log).await?,
        None => Vec::new(),
    };
    let denials = match denials {
        Some(denials) => stored(parts, run, denials).await?,
        None => Vec::new(),
    };
    let (has_written, has_open_write, usage) = (*has_written, *has_open_write, usage.clone());
    let outcome = Outcome { result, usage, log, denials, has_written, has_open_write, upstream: None };
    Ok(CallReport { tool: tool.clone(), effect: *effect, outcome, repeats: None })
}

/// Returns how the call ended, as a person said.
async fn said(
    parts: &Parts,
    run: &RunId,
    tool: &ToolName,
    effect: Effect,
    settlement: &Settlement,
) -> Result<CallReport, Failure> {
    let (result, has_written) = match settlement {
        Settlement::Done { output } => (Ok(stored(parts, run, output).await?), true),
        Settlement::Failed { failure } => (Err(stored(parts, run, failure).await?), false),
        Settlement::Retry | Settlement::Unknown => return Err(unknown(run)),
    };
    let (usage, log, denials) = (Usage::default(), Vec::new(), Vec::new());
    let outcome = Outcome { result, usage, log, denials, has_written, has_open_write: false, upstream: None };
    Ok(CallReport { tool: tool.clone(), effect, outcome, repeats: None })
}

async fn stored<T: serde::de::DeserializeOwned>(parts: &Parts, run: &RunId, digest: &Digest) -> Result<T, Failure> {
    let gone = || Failure::new(Kind::DataNotFound, "read what a call brought: its owner was erased");
    let bytes = parts.log.payload(run, digest).await?.ok_or_else(gone)?;
    serde_json::from_slice(&bytes).map_err(|e| Failure::new(Kind::HostStorage, "read what a call brought").detail(e))
}

fn unknown(run: &RunId) -> Failure {
    let message = "call under this key: nobody saw how the first call ended, and it may have changed something";
    Failure::new(Kind::HostInterrupted, message).hint(format!(
        "look at `show {run}` and at what the tool changes; then say what became of it, with the same call and `--settle done:JSON`, `--settle retry` or `--settle failed`"
    ))
}
