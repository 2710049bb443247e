//! Requests to models, reckoned again: which model is asked and what is held for that, what the reply took, and what its tier may
//! propose.
//!
//! What the log does not keep is taken from it: which servers were left alone, and the numbers of a price.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::domain::{AskedModel, Cost, Digest, Event, Fact, Failure, Json, PlannedStep, Timestamp, Tokens, usd_micros};
use crate::host::replay::decided::{Decided, Told};
use crate::host::replay::tree::differs;
use crate::host::replay::{Verdict, untold};
use crate::orchestrator::{REPLY_TOKENS_MAX, REQUEST_WAIT_MS_MAX, Run, SoFar, features};
use crate::planner::ContextPack;
use crate::planner::recorded::RecordedPlanner;
use crate::planner::route::{Features, Routed, choose};

/// The last request.
pub(super) struct Request {
    asked: AskedModel,
    /// `None` where it is not kept.
    routed: Option<Routed>,
}

/// What a reply took, as the log tells.
struct Took {
    tokens: Option<Tokens>,
    cost: Cost,
    usd_picos: Option<u64>,
}

/// Something that is not as it must be: what, then and now.
type Unlike = (&'static str, Json, Json);

impl Decided<'_> {
    /// Holds a fact about a request against what must be so; `None` where there is nothing to tell.
    pub(super) async fn planning(&mut self, run: &Run, event: &Event) -> Result<Option<Told>, Failure> {
        match &event.fact {
            Fact::PlanRequested { turn, pack, asked, reserved } => {
                self.requested(run, *turn, (pack, asked.as_ref(), *reserved)).await
            }
            Fact::PlanReplied { turn, tokens, cost, usd_picos, .. } => {
                let took = Took { tokens: *tokens, cost: *cost, usd_picos: *usd_picos };
                Ok(Some(told(*turn, "what its reply took", self.took(run, &took))))
            }
            Fact::PlanFailed { turn, retry: Some(due), .. } => {
                Ok(late(event.at, *due).map(|unlike| told(*turn, "when it is asked again", Some(unlike))))
            }
            Fact::PlanRejected { turn, is_escalated, .. } => {
                let unlike = self.escalated(*turn, *is_escalated);
                Ok(unlike.map(|unlike| told(*turn, "why it is refused", Some(unlike))))
            }
            Fact::PlanAccepted { turn, steps, .. } => {
                let unlike = self.beyond(steps);
                Ok(unlike.map(|unlike| told(*turn, "what its tier may propose", Some(unlike))))
            }
            _ => Ok(None),
        }
    }

    async fn requested(
        &mut self,
        run: &Run,
        turn: u32,
        (pack, asked, reserved): (&Digest, Option<&AskedModel>, Cost),
    ) -> Result<Option<Told>, Failure> {
        self.request = None;
        let Some(asked) = asked.cloned() else {
            let unlike =
                (!reserved.is_nothing()).then(|| ("what is held for it", json!(reserved), json!(Cost::default())));
            return Ok(unlike.map(|unlike| told(turn, "the model that is asked", Some(unlike))));
        };
        let part = format!("turn {turn} (the model that is asked)");
        let kept: Option<Json> = self.host.json(&self.id, &asked.route).await?;
        let routed = kept.as_ref().and_then(|kept| Routed::deserialize(kept).ok());
        let unlike = match (&kept, &routed) {
            (None, _) => None,
            (Some(kept), None) => Some(("why it is asked", kept.clone(), json!("that is no choice"))),
            (_, Some(routed)) => match self.host.json::<ContextPack>(&self.id, pack).await? {
                None => return Ok(Some((part, untold("what the planner was shown is not kept")))),
                Some(pack) => {
                    let down = routed.features.down.iter().cloned();
                    let now = features(&SoFar::of(run, down), &pack, self.goal.is_critical);
                    counted(&routed.features, &now).or_else(|| chosen(&asked, routed))
                }
            },
        };
        let is_kept = kept.is_some();
        let unlike = unlike.or_else(|| held(run, &asked, reserved));
        self.request = Some(Request { asked, routed });
        Ok(Some(match unlike {
            None if !is_kept => (part, untold("why it is asked is not kept")),
            unlike => told(turn, "the model that is asked", unlike),
        }))
    }

    fn took(&self, run: &Run, took: &Took) -> Option<Unlike> {
        let Some(Request { asked, .. }) = &self.request else {
            return Some(("whether a model was asked", json!(took.cost), json!("none was")));
        };
        let reserved = run.planning.reserved;
        let picos = took.usd_picos;
        let now = match took.tokens {
            // Nobody counted: all that was held is spent.
            None => reserved,
            Some(tokens) => {
                let micros = picos.map_or(0, |picos| usd_micros(picos.into()));
                Cost { tokens: tokens.total(), usd_micros: micros, ..Cost::default() }
            }
        };
        let is_priced = asked.price.is_some();
        // A number of picodollars that there is no room for stands at the largest.
        let is_told = picos != Some(u64::MAX);
        if is_told && took.cost != now {
            return Some(("what it cost", json!(took.cost), json!(now)));
        }
        if picos.is_some() && !is_priced {
            return Some(("whether its price was known", json!(picos), Json::Null));
        }
        let is_held = run.budget.tokens_max.is_none() || reserved.tokens >= asked.reply_tokens_max.into();
        (!is_held).then(|| ("whether it was sent", json!(reserved), json!(asked)))
    }

    /// Only where a dearer tier is there one may be asked; a recording says what it says.
    fn escalated(&self, turn: u32, then: bool) -> Option<Unlike> {
        let unlike = |now: bool| ("whether a dearer model is asked next", json!(then), json!(now));
        if let Some(recording) = &self.goal.recording {
            let planner: RecordedPlanner = RecordedPlanner::deserialize(recording).ok()?;
            let turn = planner.recording().turns.iter().find(|recorded| recorded.turn == turn)?;
            let now = turn.refused.as_ref().is_some_and(|refused| refused.is_escalated);
            return (then != now).then(|| unlike(now));
        }
        let may = match &self.request {
            None => false,
            Some(Request { asked, routed }) => routed.as_ref()?.routes.has_above(&asked.tier),
        };
        (then && !may).then(|| unlike(false))
    }

    /// The first step that is worse than the tier that was asked may propose.
    fn beyond(&self, steps: &[PlannedStep]) -> Option<Unlike> {
        let effect_max = self.request.as_ref()?.asked.effect_max;
        let step = steps.iter().find(|step| step.effect > effect_max)?;
        Some(("a step that is beyond its tier", json!({"step": step.id, "effect": step.effect}), json!(effect_max)))
    }
}

fn told(turn: u32, part: &str, unlike: Option<Unlike>) -> Told {
    let verdict = unlike.map_or(Verdict::Same, |(what, then, now)| differs(what, &then, &now));
    (format!("turn {turn} ({part})"), verdict)
}

fn unlike<T: Serialize + PartialEq>(what: &'static str, then: T, now: T) -> Option<Unlike> {
    (then != now).then(|| (what, json!(then), json!(now)))
}

/// Which servers were left alone nothing tells but the log; models that did not answer in this turn are among them.
fn counted(then: &Features, now: &Features) -> Option<Unlike> {
    unlike("what was counted for the choice", then, now)
}

/// The choice is the one that these features make, and the model that was asked is that.
fn chosen(asked: &AskedModel, routed: &Routed) -> Option<Unlike> {
    let Some(now) = choose(&routed.routes, &routed.features) else {
        return Some(("which model is chosen", json!(routed.choice), json!("none may be")));
    };
    let effect_max = routed.routes.tier(&now.tier).map(|tier| tier.effect_max);
    let now_asked = (&now.tier, &now.model);
    unlike("which model is chosen", &routed.choice, &now)
        .or_else(|| unlike("which model is asked", (&asked.tier, &asked.model), now_asked))
        .or_else(|| unlike("what its tier may propose", Some(asked.effect_max), effect_max))
}

/// What is held is of what the budget bounds, and no more than is left of it.
fn held(run: &Run, asked: &AskedModel, reserved: Cost) -> Option<Unlike> {
    let left = |most: Option<u64>, spent: u64, held: u64| {
        most.map_or(0, |most| most.saturating_sub(spent.saturating_add(held)))
    };
    let (spent, held) = (run.spent, run.reserved);
    let most = Cost {
        usd_micros: left(run.budget.usd_micros_max, spent.usd_micros, held.usd_micros),
        tokens: left(run.budget.tokens_max, spent.tokens, held.tokens),
        ..Cost::default()
    };
    if !reserved.minus(most).is_nothing() {
        return Some(("what is held for it", json!(reserved), json!(most)));
    }
    let is_unpriced = reserved.usd_micros > 0 && asked.price.is_none();
    if is_unpriced {
        return Some(("what is held for it", json!(reserved), json!("its price is not known")));
    }
    // Where nothing is held of what is bounded, nothing is sent: what comes of the request tells.
    let is_long = asked.reply_tokens_max > REPLY_TOKENS_MAX
        || (reserved.tokens > 0 && reserved.tokens < asked.reply_tokens_max.into());
    is_long.then(|| ("how long its reply may be", json!(asked.reply_tokens_max), json!(reserved.tokens)))
}

fn late(at: Timestamp, due: Timestamp) -> Option<Unlike> {
    let latest = at.plus_ms(REQUEST_WAIT_MS_MAX);
    (due > latest).then(|| ("when it is asked again", json!(due), json!(latest)))
}
