//! A planner that says one thing after another, as a model would: the same at the same turn, whoever asks. Of its models the
//! first does not answer each third time, the second always does, and all charge.

use async_trait::async_trait;
use cofferdam::domain::{Effect, Failure, Json, Kind, Price, PriceBand, Tokens};
use cofferdam::planner::route::{Routes, Thresholds, Tier};
use cofferdam::planner::{Allowance, ContextPack, Planned, Planner, Proposal, Quote};
use serde_json::json;

use super::fuse::Fuse;

/// What the planner says at one turn.
#[derive(Clone, Debug, PartialEq)]
pub enum Turn {
    /// Steps that check.
    Steps(Vec<Json>),
    /// A plan that does not check.
    Wrong,
    /// No JSON at all.
    Babble,
    Question,
    /// It does not reply, and will not.
    Refuses,
}

/// Says its turns in order, and then that all is done.
pub struct SimPlanner {
    pub turns: Vec<Turn>,
    pub routes: Routes,
    pub fuse: std::sync::Arc<Fuse>,
}

/// Tokens of each request, at the most; and what it takes.
const PROMPT_TOKENS_MAX: u64 = 40;
const TOKENS: Tokens = Tokens { prompt: 30, cached: 0, cache_write_5m: 0, cache_write_1h: 0, reply: 10, reasoning: 0 };

/// Two tiers, so that a reply that is refused twice is asked of the second.
pub fn routes() -> Routes {
    let tier = |name: &str, models: &[&str]| Tier {
        name: name.into(),
        models: models.iter().map(|&model| model.to_owned()).collect(),
        effect_max: Effect::Once,
    };
    Routes { tiers: vec![tier("small", &["a", "b"]), tier("large", &["c"])], thresholds: Thresholds::default() }
}

#[async_trait]
impl Planner for SimPlanner {
    fn name(&self) -> String {
        "model:simulated".into()
    }

    fn is_single_plan(&self) -> bool {
        false
    }

    fn routes(&self) -> Option<&Routes> {
        Some(&self.routes)
    }

    fn quote(&self, _: &ContextPack, model: &str) -> Option<Quote> {
        // A fiftieth of a millionth of a dollar a token: a request costs one or two millionths.
        let band = PriceBand { input: 20_000, reply: 20_000, ..PriceBand::default() };
        let price = Some(Price { source: "simulated".into(), bands: vec![band] });
        let server = format!("https://{model}.example:443");
        Some(Quote { prompt_tokens_max: PROMPT_TOKENS_MAX, reply_tokens_max: 50, price, server })
    }

    async fn plan(&self, pack: &ContextPack, allowance: &Allowance) -> Planned {
        self.fuse.point().await;
        if allowance.model.as_deref() == Some("a") && pack.turn.is_multiple_of(3) {
            return Planned::free(Err(Failure::new(Kind::NetworkHttp5xx, "ask model `a`: it is down")), Vec::new());
        }
        let turn = usize::try_from(pack.turn).unwrap_or(0).saturating_sub(1);
        let plan = |steps: &Json| serde_json::from_value(json!({"steps": steps})).expect("it is a plan");
        let wrong = json!([{"id": "a", "tool": "no.such", "args": {}}]);
        let reply = match self.turns.get(turn) {
            Some(Turn::Steps(steps)) => Ok(Proposal::Plan(plan(&json!(steps)))),
            Some(Turn::Wrong) => Ok(Proposal::Plan(plan(&wrong))),
            Some(Turn::Babble) => Err(Failure::new(Kind::ModelInvalidJson, "read the reply: it is no JSON")),
            Some(Turn::Question) => Ok(Proposal::Question("Which one?".into())),
            Some(Turn::Refuses) => Err(Failure::new(Kind::ModelRefusal, "plan: the model does not want to")),
            None => Ok(Proposal::Answer(json!("done"))),
        };
        let raw = format!("turn {}", pack.turn).into_bytes();
        Planned { tokens: Some(TOKENS), ..Planned::free(reply, raw) }
    }
}
