//! A planner that says one thing after another, as a model would: the same at the same turn, whoever asks.

use async_trait::async_trait;
use cofferdam::domain::{Failure, Json, Kind};
use cofferdam::planner::{Allowance, ContextPack, Planned, Planner, Proposal};
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
    pub fuse: std::sync::Arc<Fuse>,
}

#[async_trait]
impl Planner for SimPlanner {
    fn name(&self) -> String {
        "model:simulated".into()
    }

    fn is_single_plan(&self) -> bool {
        false
    }

    async fn plan(&self, pack: &ContextPack, _: &Allowance) -> Planned {
        self.fuse.point().await;
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
        Planned::free(reply, format!("turn {}", pack.turn).into_bytes())
    }
}
