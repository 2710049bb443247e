//! Plays a run back: every call is made again from its records, every plan is read and checked again, and each must bring
//! what it brought.
//!
//! Promises: nothing is changed and no server is asked, but for what was too large to be kept: that is read again and
//! compared; sleeps are not slept; rules that have changed since, servers and secrets that are gone make no difference. Leaves to
//! others: what is recorded (`sandbox`), and whether the log is whole (`verify`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use crate::domain::{
    Digest, Effect, Failure, Grant, HostCallRecord, Json, Kind, Limits, Principal, ReadyStep, RecordedValue, RunId,
    StepEnd, StepId, ToolName, excerpt,
};
use crate::host::{Host, Parts};
use crate::orchestrator::{journal_digest, record_digest};
use crate::policy::{Call, Decision, RunGrant, authorize};
use crate::registry::{Candidate, Options as Reading, Trust, VerifiedComponent, VerifiedTool, verify};
use crate::sandbox::CALL_GRANT;
use crate::store::Payload;

mod link;
mod made;
mod turns;

use link::ReplayLink;
use made::{Made, Story};

/// Characters of an output that a report shows.
const EXCERPT_CHARS_MAX: usize = 400;

/// What playing a run back brought.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayReport {
    pub run: RunId,
    /// Plans that were checked again, and steps whose calls were made again, in the order of the run.
    pub parts: Vec<Replayed>,
    /// The first of them that is not as it was.
    pub diverged: Option<String>,
}

/// A turn of the planner, or a step.
#[derive(Clone, Debug, Serialize)]
pub struct Replayed {
    /// `turn 1`, or a step's id.
    pub part: String,
    pub tool: Option<ToolName>,
    /// Whether another component was called than then.
    pub is_other_component: bool,
    /// Host calls that there are records of.
    pub host_calls: usize,
    pub result: Verdict,
}

/// Whether something is as it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "as", rename_all = "snake_case")]
pub enum Verdict {
    Same,
    /// Excerpts of what it brought then and now.
    Differs {
        what: String,
        then: String,
        now: String,
    },
    /// It cannot be told, and why.
    Untold {
        why: String,
    },
}

impl ReplayReport {
    /// Returns whether all that could be played back was as it was.
    pub fn is_same(&self) -> bool {
        self.diverged.is_none()
    }
}

impl Host {
    /// Plays a run back. `with` names components that take the place of those that are there: name → file.
    ///
    /// # Errors
    /// `data.not_found`; `data.conflict` where it is no run; `load.*` for a file of `with`; `host.storage`. What is not as
    /// it was is in the report.
    pub async fn replay(&self, run: &RunId, with: &BTreeMap<String, PathBuf>) -> Result<ReplayReport, Failure> {
        let player = Player { host: self, run: run.clone(), with: loaded(with)? };
        let story = Story::of(&self.events(run).await?, run)?;
        let mut parts = turns::replayed(self, run, &story).await?;
        for made in &story.made {
            parts.push(player.replayed(made, &story.principal).await?);
        }
        let differs = |part: &&Replayed| matches!(part.result, Verdict::Differs { .. });
        let diverged = parts.iter().find(differs).map(|part| part.part.clone());
        Ok(ReplayReport { run: run.clone(), parts, diverged })
    }

    /// Reads a payload that playing back needs.
    async fn kept<T: for<'de> serde::Deserialize<'de>>(&self, run: &RunId, digest: &Digest) -> Result<T, Failure> {
        let erased = || {
            Failure::new(Kind::DataNotFound, format!("play `{run}` back: what its user gave and got is erased"))
                .hint("`verify` still tells whether its log is whole")
        };
        self.json(run, digest).await?.ok_or_else(erased)
    }
}

fn loaded(with: &BTreeMap<String, PathBuf>) -> Result<BTreeMap<String, Arc<VerifiedComponent>>, Failure> {
    let load = |(name, path): (&String, &PathBuf)| {
        let candidate = Candidate { name: name.clone(), path: path.clone() };
        Ok((name.clone(), verify(candidate, &Trust::default(), &Reading::default())?))
    };
    with.iter().map(load).collect()
}

/// Plays the calls of one run back.
struct Player<'a> {
    host: &'a Host,
    run: RunId,
    with: BTreeMap<String, Arc<VerifiedComponent>>,
}

impl Player<'_> {
    async fn replayed(&self, made: &Made, principal: &Principal) -> Result<Replayed, Failure> {
        let records = self.records(made).await?;
        let tool = self.tool(&made.tool);
        let result = match &tool {
            _ if made.is_run => untold("it is a run of its own: play that back"),
            None => untold(format!("no component has `{}` any more", made.tool)),
            Some(_) if !is_whole(made, &records) => Verdict::Differs {
                what: "its journal".into(),
                then: made.host_calls.map_or_else(String::new, |digest| digest.to_string()),
                now: journal_digest(&digests(&records)).map_or_else(String::new, |digest| digest.to_string()),
            },
            Some(tool) => self.verdict(made, tool, records.clone(), principal).await?,
        };
        Ok(Replayed {
            part: made.step.to_string(),
            tool: Some(made.tool.clone()),
            is_other_component: tool.is_some_and(|tool| *tool.digest() != made.component),
            host_calls: records.len(),
            result,
        })
    }

    /// The records of all processes that drove this call to its end.
    async fn records(&self, made: &Made) -> Result<Vec<HostCallRecord>, Failure> {
        let mut records = BTreeMap::new();
        for attempt in &made.attempts {
            let journal = self.parts().log.journal(&self.run, &made.step, *attempt).await?;
            records.extend(journal.into_iter().map(|record| (record.n, record)));
        }
        Ok(records.into_values().collect())
    }

    fn tool(&self, name: &ToolName) -> Option<VerifiedTool> {
        match self.with.get(name.component()) {
            Some(component) => component.tools().find(|tool| tool.name() == name),
            None => self.parts().catalog.tool(name).cloned(),
        }
    }

    async fn verdict(
        &self,
        made: &Made,
        tool: &VerifiedTool,
        records: Vec<HostCallRecord>,
        principal: &Principal,
    ) -> Result<Verdict, Failure> {
        let args: Json = self.host.kept(&self.run, &made.args).await?;
        let then = match &made.end {
            StepEnd::Succeeded { output } => Ok(self.host.kept::<Json>(&self.run, output).await?),
            StepEnd::Failed { failure, .. } => Err(self.host.kept::<Failure>(&self.run, failure).await?),
        };
        if let Err(failure) = tool.check_input(&args) {
            return Ok(verdict(&then, &Err(failure), &[]));
        }
        let step = ReadyStep {
            run: self.run.clone(),
            step: made.step.clone(),
            attempt: made.attempts.last().copied().unwrap_or(1),
            tool: made.tool.clone(),
            args,
            args_digest: made.args,
            key: made.key,
            timeout_ms: None,
            approval: false,
        };
        let grant = self.grant(&step, tool, &records, principal);
        let call = Call::recorded(tool.clone(), step, principal.clone(), grant);
        let link = Arc::new(ReplayLink::new(records, then.as_ref().err().cloned()));
        self.parts().runner.prepare(tool).await?;
        let outcome = self.parts().runner.run(call, link.clone()).await;
        let now = outcome.result.and_then(|output| tool.check_output(&output).map(|()| output));
        Ok(verdict(&then, &now, &link.writes_left()))
    }

    /// What the call was given then. A pure call has no record of it, and needs none: its arguments decide. Its limits are
    /// those of today, or the host's own where no rule gives any.
    fn grant(&self, step: &ReadyStep, tool: &VerifiedTool, records: &[HostCallRecord], principal: &Principal) -> Grant {
        let recorded = records.iter().find(|record| record.what == CALL_GRANT).and_then(|record| record.done.as_ref());
        if let Some(RecordedValue::Whole { value }) = recorded.map(|recorded| &recorded.value)
            && let Ok(grant) = serde_json::from_value(value.clone())
        {
            return grant;
        }
        let run = RunGrant { principal: principal.clone(), ..RunGrant::default() };
        match authorize(&self.parts().policy, &run, step, tool, None) {
            Decision::Allow(call) if call.grant().effect() == Effect::Pure => call.grant().clone(),
            _ => computing(tool),
        }
    }

    fn parts(&self) -> &Parts {
        &self.host.0.parts
    }
}

/// A grant that gives what is no power: what the tool tells goes nowhere.
fn computing(tool: &VerifiedTool) -> Grant {
    use crate::domain::Ask;
    let asks = &tool.tool().asks;
    Grant {
        mounts: Vec::new(),
        http: Vec::new(),
        secrets: Vec::new(),
        env: BTreeMap::new(),
        state: BTreeMap::new(),
        log: asks.contains(&Ask::Log),
        progress: asks.contains(&Ask::Progress),
        clock: false,
        random: false,
        limits: Limits::default(),
        rules: Vec::new(),
    }
}

fn untold(why: impl Into<String>) -> Verdict {
    Verdict::Untold { why: why.into() }
}

fn digests(records: &[HostCallRecord]) -> BTreeMap<u32, Digest> {
    records.iter().map(|record| (record.n, record_digest(record))).collect()
}

/// Whether the journal is the one of which the call's end tells. One that several processes wrote has no single digest.
fn is_whole(made: &Made, records: &[HostCallRecord]) -> bool {
    made.attempts.len() != 1 || made.host_calls.is_none() || journal_digest(&digests(records)) == made.host_calls
}

/// Holds what a call brings now against what it brought then. How it failed is told by the kind alone.
fn verdict(then: &Result<Json, Failure>, now: &Result<Json, Failure>, writes_left: &[String]) -> Verdict {
    let is_same = match (then, now) {
        (Ok(then), Ok(now)) => Payload::of(then).ok().map(|p| p.digest()) == Payload::of(now).ok().map(|p| p.digest()),
        (Err(then), Err(now)) => then.kind == now.kind,
        _ => false,
    };
    if !is_same {
        let is_time = |failure: &Failure| matches!(failure.kind, Kind::ToolDeadline | Kind::HostCancelled);
        if then.as_ref().err().is_some_and(is_time) {
            return untold("it was stopped while it computed, and time is not played back");
        }
        return Verdict::Differs { what: "what it brings".into(), then: told(then), now: told(now) };
    }
    match writes_left.first() {
        Some(write) => Verdict::Differs { what: format!("it does not do `{write}`"), then: told(then), now: told(now) },
        None => Verdict::Same,
    }
}

fn told(result: &Result<Json, Failure>) -> String {
    match result {
        Ok(output) => excerpt(output, EXCERPT_CHARS_MAX),
        Err(failure) => excerpt(&Json::from(failure.to_string()), EXCERPT_CHARS_MAX),
    }
}

/// The id of a step without the number of its item.
fn base(step: &StepId) -> Option<StepId> {
    step.as_str().split('[').next()?.parse().ok()
}
