//! Chooses a model, reserves what asking it may cost, and asks: the one place that sends a request to a planner.

use std::collections::BTreeSet;

use crate::domain::{AskedModel, Cost, Digest, Fact, Failure, Kind, Subject, Timestamp, ToolName, Traceparent};
use crate::orchestrator::ask::{
    REPLY_TOKENS_MAX, Reserved, SoFar, Unanswered, charge, features, has_other, reserve, retry_request, routed,
};
use crate::orchestrator::breaker::Admit;
use crate::orchestrator::check::{GoalMarks, Proposed};
use crate::orchestrator::driver::{Done, Drive, Goal};
use crate::planner::route::{Features, Routed};
use crate::planner::{Allowance, ContextPack, Planned, Quote};
use crate::store::{Durability, Payload};

/// The longest request to a planner, in milliseconds: large models take their time.
const PLANNER_WALL_MS_MAX: u64 = 120_000;

/// The longest wait for the first part of a reply, in milliseconds: models that think say so meanwhile.
const FIRST_TOKEN_MS_MAX: u64 = 60_000;

/// The longest wait between two parts of a reply, in milliseconds.
const IDLE_MS_MAX: u64 = 30_000;

/// Under this name breakers know the servers of models: no tool may bear it.
const MODEL_TOOL: (&str, &str) = ("cofferdam", "model");

/// The request under way.
pub(super) struct Asked {
    pub(super) features: Features,
    pub(super) model: AskedModel,
    quote: Quote,
    reserved: Reserved,
}

/// What is about to be asked.
struct Chosen {
    asked: Asked,
    route: Payload,
    /// Until when the server of every model that may be asked is left alone.
    left_alone: Option<Timestamp>,
}

impl Drive {
    pub(super) async fn ask_planner(&mut self, turn: u32) -> Result<(), Failure> {
        let goal: Goal = self.stored(&self.run.goal.clone()).await?;
        let pack = self.pack(turn, &goal).await?;
        let stored = Payload::of(&pack)?;
        let pack_digest = stored.digest();
        self.asked = None;
        self.goal = GoalMarks::of(&goal);
        self.proposed = (!self.run.is_single_plan).then(|| Proposed::of(&goal, &pack));
        let Some(Chosen { asked, route, left_alone }) = self.chosen(&pack, goal.is_critical)? else {
            let fact = Fact::PlanRequested { turn, pack: pack_digest, asked: None, reserved: Cost::default() };
            self.record(vec![fact], vec![stored], Durability::Synced).await?;
            let allowance = self.allowance(turn, None);
            self.send(turn, pack, allowance);
            return Ok(());
        };
        let model = asked.model.model.clone();
        let requested = |asked: &Asked| Fact::PlanRequested {
            turn,
            pack: pack_digest,
            asked: Some(asked.model.clone()),
            reserved: asked.reserved.cost,
        };
        if let Some(until) = left_alone {
            // Nothing is sent.
            self.record(vec![requested(&asked)], vec![stored, route], Durability::Synced).await?;
            let now = self.driver.parts.clock.now();
            let failure = Failure::new(
                Kind::NetworkCircuitOpen,
                format!("ask model `{model}`: its server failed too often, and is left alone"),
            );
            self.asked = Some(asked);
            return self.unanswered(turn, failure, Some(until.ms_since(now))).await;
        }
        match reserve(&self.run, &model, &asked.quote) {
            Ok(reserved) => {
                let model = AskedModel { reply_tokens_max: reserved.reply_tokens_max, ..asked.model };
                let asked = Asked { model, reserved, ..asked };
                self.record(vec![requested(&asked)], vec![stored, route], Durability::Synced).await?;
                let allowance = self.allowance(turn, Some(&asked));
                self.asked = Some(asked);
                self.send(turn, pack, allowance);
                Ok(())
            }
            // Nothing is sent.
            Err(failure) => {
                let failure_stored = Payload::of(&failure)?;
                let failed =
                    Fact::PlanFailed { turn, kind: failure.kind, failure: failure_stored.digest(), retry: None };
                let payloads = vec![stored, route, failure_stored];
                self.record(vec![requested(&asked), failed], payloads, Durability::Synced).await
            }
        }
    }

    /// Chooses a model; nothing for a planner that has none. With the choice comes what it depends on.
    fn chosen(&self, pack: &ContextPack, is_critical: bool) -> Result<Option<Chosen>, Failure> {
        let planner = &self.driver.planner;
        let Some(routes) = planner.routes() else { return Ok(None) };
        let mut down = BTreeSet::new();
        // One that is left alone for a while gives way to the next; where all are, nothing is sent.
        loop {
            let routed = routed(routes, features(&SoFar::of(&self.run, down.iter().cloned()), pack, is_critical))?;
            let route = Payload::of(&routed)?;
            let asked = self.asked_of(pack, routed, &route)?;
            let left_alone = self.left_alone(&asked.quote.server);
            if left_alone.is_some() && down.insert(asked.model.model.clone()) {
                continue;
            }
            return Ok(Some(Chosen { asked, route, left_alone }));
        }
    }

    fn asked_of(&self, pack: &ContextPack, routed: Routed, route: &Payload) -> Result<Asked, Failure> {
        let Routed { routes, features, choice } = routed;
        let bug = || Failure::new(Kind::HostBug, format!("ask model `{}`: the planner does not have it", choice.model));
        let quote = self.driver.planner.quote(pack, &choice.model).ok_or_else(bug)?;
        let model = AskedModel {
            model: choice.model.clone(),
            tier: choice.tier.clone(),
            effect_max: routes.tier(&choice.tier).ok_or_else(bug)?.effect_max,
            route: route.digest(),
            price: quote.price.as_ref().map(|price| price.source.clone()),
            reply_tokens_max: quote.reply_tokens_max.min(REPLY_TOKENS_MAX),
        };
        Ok(Asked { features, model, quote, reserved: Reserved::default() })
    }

    /// Until when a server is left alone that has failed too often of late. The first request after that is the one that shows
    /// whether it is back; others wait for what it brings.
    fn left_alone(&self, server: &str) -> Option<Timestamp> {
        let parts = &self.driver.parts;
        let tool = model_tool().ok()?;
        match parts.upstreams.admit(&self.run.principal, &tool, server, parts.clock.now()) {
            Admit::Yes => None,
            Admit::No(until) => Some(until),
        }
    }

    fn allowance(&self, turn: u32, asked: Option<&Asked>) -> Allowance {
        Allowance {
            model: asked.map(|asked| asked.model.model.clone()),
            wall_ms_max: self.wall_ms_left().min(PLANNER_WALL_MS_MAX),
            first_token_ms_max: FIRST_TOKEN_MS_MAX,
            idle_ms_max: IDLE_MS_MAX,
            reply_tokens_max: asked.map_or(REPLY_TOKENS_MAX, |asked| asked.reserved.reply_tokens_max),
            traceparent: Some(Traceparent::of(self.run.trace, &self.run.id, Subject::Turn(turn)).to_string()),
        }
    }

    fn send(&mut self, turn: u32, pack: ContextPack, allowance: Allowance) {
        let planner = self.driver.planner.clone();
        self.is_planning = true;
        self.tasks.spawn(async move { Done::Planned { turn, planned: planner.plan(&pack, &allowance).await } });
    }

    /// Returns what the reply took, to be noted together with what it is worth; nothing for a planner without models.
    pub(super) fn replied(&mut self, turn: u32, planned: &Planned) -> Result<Option<(Fact, Option<Payload>)>, Failure> {
        let Some(asked) = &self.asked else { return Ok(None) };
        let (cost, usd_picos) = charge(Some(&asked.quote), asked.reserved.cost, planned.tokens);
        let reasoning = planned.reasoning.as_ref().map(Payload::of).transpose()?;
        self.note_server(&asked.quote.server, planned.reply.as_ref().err().map(|failure| failure.kind));
        let fact = Fact::PlanReplied {
            turn,
            model: planned.model.clone(),
            tokens: planned.tokens,
            cost,
            usd_picos,
            reasoning: reasoning.as_ref().map(Payload::digest),
            first_token_ms: planned.first_token_ms,
            wall_ms: planned.wall_ms,
        };
        Ok(Some((fact, reasoning)))
    }

    /// Only what is the server's own failure counts against it.
    fn note_server(&self, server: &str, failure: Option<Kind>) {
        let parts = &self.driver.parts;
        if let Ok(tool) = model_tool() {
            let of_server = failure.filter(|kind| kind.code().starts_with("network."));
            parts.upstreams.ended(&self.run.principal, &tool, server, of_server, parts.clock.now());
        }
    }

    /// Notes that no reply came, and when the same is asked again.
    pub(super) async fn unanswered(
        &mut self,
        turn: u32,
        failure: Failure,
        retry_after_ms: Option<u64>,
    ) -> Result<(), Failure> {
        let now = self.driver.parts.clock.now();
        let retry = self.asked.as_ref().zip(self.driver.planner.routes()).and_then(|(asked, routes)| {
            let has_other = has_other(routes, &asked.features, &asked.model.model);
            let failures = self.run.planning.down.len();
            retry_request(&Unanswered { kind: failure.kind, retry_after_ms, failures, has_other }, now, self.draw(turn))
        });
        let stored = Payload::of(&failure)?;
        let fact = Fact::PlanFailed { turn, kind: failure.kind, failure: stored.digest(), retry };
        self.tell(vec![fact], vec![stored]).await
    }

    /// A number that nobody chose, the same for the same request: waits of many runs are spread.
    fn draw(&self, turn: u32) -> u64 {
        let failures = self.run.planning.down.len().to_be_bytes();
        let digest = Digest::of_parts(&[self.run.id.as_str().as_bytes(), b"request", &turn.to_be_bytes(), &failures]);
        digest.as_bytes().iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
    }
}

fn model_tool() -> Result<ToolName, String> {
    ToolName::new(MODEL_TOOL.0, MODEL_TOOL.1)
}
