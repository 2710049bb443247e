//! Tells which models a run asked, why, and what that took; and whether the same is chosen again from what is kept.

use serde::Serialize;

use crate::domain::{AskedModel, Cost, Event, Fact, Failure, RunId, Seq, Tokens};
use crate::host::{Goal, Host};
use crate::orchestrator::{Foreseen, foresee};
use crate::planner::ContextPack;
use crate::planner::route::{Choice, Routed, choose};

/// One request to a model.
#[derive(Clone, Debug, Serialize)]
pub struct RouteView {
    pub turn: u32,
    pub seq: Seq,
    pub asked: AskedModel,
    /// What the model was shown, and all of it that is of this run; `None` where it was erased.
    pub pack: Option<ContextPack>,
    /// The choice and all that it depends on; `None` where it was erased.
    pub routed: Option<Routed>,
    /// What is chosen from that today.
    pub again: Option<Choice>,
    pub reserved: Cost,
    /// What it took; `None` where no reply is in the log.
    pub replied: Option<Replied>,
    /// What became of it: the name of the event that tells it.
    pub outcome: Option<String>,
}

/// What a reply took.
#[derive(Clone, Debug, Serialize)]
pub struct Replied {
    pub model: Option<String>,
    pub tokens: Option<Tokens>,
    pub cost: Cost,
    pub usd_picos: Option<u64>,
    pub first_token_ms: Option<u64>,
    pub wall_ms: u64,
}

impl RouteView {
    /// Answers whether the same is chosen again, and that is what was asked.
    pub fn is_same(&self) -> bool {
        self.routed.as_ref().is_none_or(|Routed { routes, choice, .. }| {
            let asked = &self.asked;
            let effect_max = routes.tier(&choice.tier).map(|tier| tier.effect_max);
            let is_asked = (&choice.model, &choice.tier) == (&asked.model, &asked.tier);
            is_asked && effect_max == Some(asked.effect_max) && self.again.as_ref() == Some(choice)
        })
    }
}

impl Host {
    /// Tells to which model a goal would be sent first, and why; nothing is sent. `None` where no model plans it.
    ///
    /// # Errors
    /// `data.config` where no model is set, or no tier may propose what the tools near to the goal do.
    pub fn foresee(&self, goal: Goal) -> Result<Option<Foreseen>, Failure> {
        let (goal, planner) = goal.planned(self.0.model.clone())?;
        foresee(&self.0.parts, &*planner, &goal, &self.0.budget)
    }

    /// Tells the requests of a run to models, in order.
    ///
    /// # Errors
    /// `data.not_found`; `host.storage`.
    pub async fn routes(&self, run: &RunId) -> Result<Vec<RouteView>, Failure> {
        let mut views: Vec<RouteView> = Vec::new();
        for event in self.events(run).await? {
            match &event.fact {
                Fact::PlanRequested { turn, pack, asked: Some(asked), reserved } => {
                    let pack = self.json(run, pack).await?;
                    let routed: Option<Routed> = self.json(run, &asked.route).await?;
                    let again = routed.as_ref().and_then(|routed| choose(&routed.routes, &routed.features));
                    let (asked, reserved) = (asked.clone(), *reserved);
                    let (turn, seq, replied, outcome) = (*turn, event.seq, None, None);
                    views.push(RouteView { turn, seq, asked, pack, routed, again, reserved, replied, outcome });
                }
                _ => views.last_mut().into_iter().for_each(|view| follow(view, &event)),
            }
        }
        Ok(views)
    }
}

/// Takes what an event tells of the last request.
fn follow(view: &mut RouteView, event: &Event) {
    match &event.fact {
        Fact::PlanReplied { model, tokens, cost, usd_picos, first_token_ms, wall_ms, .. } => {
            view.replied = Some(Replied {
                model: model.clone(),
                tokens: *tokens,
                cost: *cost,
                usd_picos: *usd_picos,
                first_token_ms: *first_token_ms,
                wall_ms: *wall_ms,
            });
        }
        Fact::PlanAccepted { turn, .. }
        | Fact::PlanRejected { turn, .. }
        | Fact::PlanFailed { turn, .. }
        | Fact::Answered { turn, .. }
        | Fact::Asked { turn, .. }
            if *turn == view.turn && view.outcome.is_none() =>
        {
            view.outcome = Some(event.fact.name().to_owned());
        }
        _ => {}
    }
}
