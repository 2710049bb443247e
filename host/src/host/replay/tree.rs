//! One run and the runs within it, each event and each call in the order of its log.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::json;

use crate::domain::{Caveat, Digest, Event, Fact, Failure, Json, Kind, Principal, RunEnd, RunId, TakesBack, excerpt};
use crate::host::Host;
use crate::host::replay::decided::Decided;
use crate::host::replay::made::{Carrier, Made, Story};
use crate::host::replay::{EXCERPT_CHARS_MAX, Replayed, Verdict, is_run, turns, untold};
use crate::orchestrator::{Command, Goal, Refold, Run, recovered};
use crate::registry::VerifiedComponent;

/// Runs within runs that are followed: more than a budget allows of depth, and an end where a log that was touched leads in a
/// circle.
const RUNS_DEPTH_MAX: usize = 16;

/// Plays runs back.
pub(super) struct Player<'a> {
    pub(super) host: &'a Host,
    pub(super) with: BTreeMap<String, Arc<VerifiedComponent>>,
}

/// A call and whose it was.
pub(super) struct Called<'a> {
    pub(super) run: &'a RunId,
    pub(super) principal: &'a Principal,
    pub(super) made: &'a Made,
    /// The run whose it was, at its end; `None` where its log does not tell of one.
    pub(super) around: Option<&'a Run>,
}

/// A run that was played back.
pub(super) struct Played {
    parts: Vec<Replayed>,
    pub(super) goal: Digest,
    /// How it ended, and what that end does not tell.
    pub(super) end: Option<(RunEnd, Vec<Caveat>)>,
    /// The run as its log tells; `None` where that cannot be.
    pub(super) run: Option<Run>,
}

type Playing<'b> = Pin<Box<dyn Future<Output = Result<Played, Failure>> + Send + 'b>>;

impl<'a> Player<'a> {
    pub(super) fn new(host: &'a Host, with: BTreeMap<String, Arc<VerifiedComponent>>) -> Self {
        Self { host, with }
    }

    /// Plays a run back.
    ///
    /// # Errors
    /// `data.not_found`, also where its user was erased; `data.conflict` where it is no run; `host.storage`.
    pub(super) async fn played(&self, run: &RunId) -> Result<Vec<Replayed>, Failure> {
        self.all(run, 0).await.map(|played| played.parts)
    }

    /// A future that holds itself needs a type of its own.
    fn within<'b>(&'b self, run: &'b RunId, depth: usize) -> Playing<'b> {
        Box::pin(self.all(run, depth))
    }

    async fn all(&self, run: &RunId, depth: usize) -> Result<Played, Failure> {
        let events = self.host.events(run).await?;
        let story = Story::of(&events, run)?;
        let goal: Goal = self.host.kept(run, &story.goal).await?;
        let mut parts = Vec::new();
        for turn in turns::replayed(self.host, run, &goal, &story).await? {
            parts.push((turn.seq, turn));
        }
        let around = Run::of(&events).ok();
        let decided = Decided::new(self.host, run.clone(), goal, policy(&events));
        let mut decided = decided.taking_back(takes_back(&events)).await?;
        for part in self.walked(&events, &mut decided).await? {
            parts.push((part.seq, part));
        }
        for made in &story.made {
            let called = Called { run, principal: &story.principal, made, around: around.as_ref() };
            let played = match &made.run {
                run if run.is_some() != is_run(&made.tool) => vec![mistaken(made)],
                Some(carrier) => self.child(&called, carrier, (&decided, depth)).await?,
                None => vec![self.called(&called).await?],
            };
            parts.extend(played.into_iter().map(|part| (made.seq, part)));
        }
        parts.sort_by_key(|(seq, _)| *seq);
        let end = events.last().and_then(|event| match &event.fact {
            Fact::RunEnded { end, caveats } => Some((end.clone(), caveats.clone())),
            _ => None,
        });
        let parts = parts.into_iter().map(|(_, part)| part).collect();
        Ok(Played { parts, goal: story.goal, end, run: around })
    }

    /// Folds the log again: holds each event against what was wanted there, and makes each decision again.
    async fn walked(&self, events: &[Event], decided: &mut Decided<'_>) -> Result<Vec<Replayed>, Failure> {
        let Some((first, rest)) = events.split_first() else { return Ok(Vec::new()) };
        let mut refold = match Refold::of(first) {
            Ok(refold) => refold,
            Err(illegal) => return Ok(vec![unfit(first, illegal.to_string())]),
        };
        let (mut parts, mut is_wanted) = (Vec::new(), true);
        for event in rest {
            if let Fact::RunClaimed { .. } = event.fact {
                refold.expect(recovered(&*self.host.0.parts.log, refold.run()).await?);
            }
            match decided.again(refold.run(), event).await {
                Ok(told) => parts.extend(told.map(|(part, verdict)| Replayed::told(event.seq, part, verdict))),
                // Nobody was erased, as the goal could be read.
                Err(failure) if failure.kind == Kind::DataNotFound => {
                    parts.push(unfit(event, "what it names is not kept, and never was"));
                }
                Err(failure) => return Err(failure),
            }
            match refold.take(event) {
                Ok(Some(wanted)) if is_wanted => {
                    is_wanted = false;
                    parts.push(unfit(event, told(&wanted)));
                }
                Ok(_) => {}
                Err(illegal) => {
                    parts.push(unfit(event, illegal.to_string()));
                    return Ok(parts);
                }
            }
        }
        if is_wanted {
            parts.push(Replayed::told(rest.last().unwrap_or(first).seq, "the log", Verdict::Same));
        }
        Ok(parts)
    }

    /// Plays the run back that carried out a step.
    async fn child(
        &self,
        called: &Called<'_>,
        carrier: &Carrier,
        (decided, depth): (&Decided<'_>, usize),
    ) -> Result<Vec<Replayed>, Failure> {
        let (made, child) = (called.made, &carrier.run);
        let own =
            |result| Replayed { tool: Some(made.tool.clone()), ..Replayed::told(made.seq, made.step.as_str(), result) };
        if depth >= RUNS_DEPTH_MAX {
            return Ok(vec![own(untold(format!("run {child} lies too deep")))]);
        }
        let played = match self.within(child, depth + 1).await {
            Ok(played) => played,
            Err(failure) if failure.kind == Kind::DataNotFound => {
                let why = format!("run {child}, which carried it out, is not kept: {}", failure.message);
                return Ok(vec![own(untold(why))]);
            }
            Err(failure) => return Err(failure),
        };
        let verdict = self.carried_out(called, carrier, (decided, &played)).await?;
        let within = |part: Replayed| Replayed { part: format!("{}/{}", made.step, part.part), ..part };
        let mut parts: Vec<Replayed> = played.parts.into_iter().map(within).collect();
        parts.push(own(verdict));
        Ok(parts)
    }
}

/// A step of which its beginning tells that a run carries it out, and its plan that a call does, or the other way about.
fn mistaken(made: &Made) -> Replayed {
    let (tool, run) = (Json::from(made.tool.to_string()), json!(made.run.as_ref().map(|carrier| &carrier.run)));
    let result = differs("whether a run carries it out", &run, &tool);
    Replayed { tool: Some(made.tool.clone()), ..Replayed::told(made.seq, made.step.as_str(), result) }
}

/// The policy under which a run began.
fn policy(events: &[Event]) -> Digest {
    let of = |event: &Event| match &event.fact {
        Fact::RunCreated { policy, .. } => Some(*policy),
        _ => None,
    };
    events.first().and_then(of).unwrap_or(crate::domain::GENESIS)
}

/// The run that a run was made to take back.
fn takes_back(events: &[Event]) -> Option<&TakesBack> {
    match &events.first()?.fact {
        Fact::RunCreated { parent, .. } => parent.as_ref()?.takes_back.as_ref(),
        _ => None,
    }
}

/// An event that does not belong where it stands.
fn unfit(event: &Event, now: impl Into<String>) -> Replayed {
    let then = excerpt(&json!(event.fact), EXCERPT_CHARS_MAX);
    let what = format!("event {} ({})", event.seq, event.fact.name());
    Replayed::told(event.seq, "the log", Verdict::Differs { what, then, now: now.into() })
}

/// What was wanted, in a few words.
fn told(wanted: &[Command]) -> String {
    let words = wanted.iter().map(|command| format!("{command:?}")).collect::<Vec<_>>().join("; ");
    if words.is_empty() { "nothing is wanted".into() } else { excerpt(&Json::from(words), EXCERPT_CHARS_MAX) }
}

pub(super) fn differs(what: impl Into<String>, then: &Json, now: &Json) -> Verdict {
    let told = |value: &Json| excerpt(value, EXCERPT_CHARS_MAX);
    Verdict::Differs { what: what.into(), then: told(then), now: told(now) }
}
