//! Models are planners: one request each, in the language of their server.
//!
//! Promises: one `plan` is one request to one model, with no retry and no repair hidden in it. Every way to fail has its
//! kind. A reply counts only where the model ended it: what was cut off is no reply, and nothing of it is a plan. A key goes
//! into one header and nowhere else: not into failures, not into what is kept, even where a server sends it back.
//! Redirects are not followed and no proxy is taken from the environment, so that a key reaches the one host that was named.
//! Leaves to others: which model is asked (`route`), what is told (`prompt`), what a reply means (`parse`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::route::Routes;
use super::{Allowance, ContextPack, Planned, Planner, Quote, prompts};
use crate::clock::{Clock, SystemClock};
use crate::domain::{Digest, Failure, Kind, printable};

mod anthropic;
mod asked;
mod ear;
mod faults;
mod gemini;
mod heard;
mod listen;
mod openai_chat;
mod openai_responses;
mod options;
mod protocol;
mod request;
#[cfg(test)]
mod tests;

pub use options::ModelOptions;
pub use protocol::Protocol;

use asked::Model;

/// Longest wait for a connection, in milliseconds: a model server that is up answers a handshake at once.
const CONNECT_MS_MAX: u64 = 10_000;

/// Asks models.
pub struct ModelPlanner {
    // Invariant: never empty, and no two of one name.
    models: Vec<Model>,
    routes: Routes,
    client: genai::Client,
    clock: Arc<dyn Clock>,
}

impl ModelPlanner {
    /// Makes a planner of these models; sends nothing yet.
    ///
    /// # Errors
    /// `data.config` for routes that name other models or none, two models of one name, a base URL that is none or that would
    /// send a key in the clear, or a key with a space; `host.bug` where this machine has no TLS to offer.
    pub fn new(models: Vec<ModelOptions>, routes: Routes) -> Result<Self, Failure> {
        check(&models, &routes)?;
        let models = models.into_iter().map(Model::new).collect::<Result<_, _>>()?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_millis(CONNECT_MS_MAX))
            .build()
            .map_err(|error| Failure::new(Kind::HostBug, "set up the connection to a model").detail(error))?;
        let client = genai::Client::builder().with_reqwest(client).build();
        let client = client.map_err(|error| Failure::new(Kind::HostBug, "set up the models' client").detail(error))?;
        Ok(Self { models, routes, client, clock: Arc::new(SystemClock::default()) })
    }

    /// Makes a planner of one model, which may propose anything.
    ///
    /// # Errors
    /// Those of [`ModelPlanner::new`].
    pub fn single(model: ModelOptions) -> Result<Self, Failure> {
        let routes = Routes::single(model.name.clone());
        Self::new(vec![model], routes)
    }

    fn model(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.options.name == name)
    }

    /// The model that is asked: where nobody says which, the only one.
    fn asked(&self, allowance: &Allowance) -> Option<&Model> {
        match (&allowance.model, self.models.as_slice()) {
            (Some(name), _) => self.model(name),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }
}

/// Each tier has models, and all of them are there once.
fn check(models: &[ModelOptions], routes: &Routes) -> Result<(), Failure> {
    let wrong = |what: String| Err(Failure::new(Kind::DataConfig, format!("set up the models: {what}")));
    for (n, model) in models.iter().enumerate() {
        if models[..n].iter().any(|earlier| earlier.name == model.name) {
            return wrong(format!("two are called `{}`", printable(&model.name)));
        }
    }
    if routes.tiers.is_empty() {
        return wrong("there is no tier".to_owned());
    }
    for tier in &routes.tiers {
        if tier.models.is_empty() {
            return wrong(format!("tier `{}` has none", printable(&tier.name)));
        }
        if let Some(name) = tier.models.iter().find(|name| models.iter().all(|model| model.name != **name)) {
            let (tier, name) = (printable(&tier.name), printable(name));
            return wrong(format!("tier `{tier}` names `{name}`, which is not there"));
        }
    }
    Ok(())
}

#[async_trait]
impl Planner for ModelPlanner {
    /// `model:` and the one model, or `models:` and all that may be asked, from cheap to dear.
    fn name(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for name in self.routes.tiers.iter().flat_map(|tier| &tier.models) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        match names.as_slice() {
            [only] => format!("model:{only}"),
            names => format!("models:{}", names.join(",")),
        }
    }

    fn is_single_plan(&self) -> bool {
        false
    }

    fn routes(&self) -> Option<&Routes> {
        Some(&self.routes)
    }

    fn prompt(&self) -> Option<Digest> {
        Some(prompts::plan().digest)
    }

    fn quote(&self, pack: &ContextPack, model: &str) -> Option<Quote> {
        self.model(model).map(|model| model.quote(pack))
    }

    async fn plan(&self, pack: &ContextPack, allowance: &Allowance) -> Planned {
        let Some(model) = self.asked(allowance) else {
            let what = "ask a model: the one that was chosen is not there";
            return Planned::free(Err(Failure::new(Kind::HostBug, what)), Vec::new());
        };
        model.plan(&self.client, &self.clock, pack, allowance).await
    }
}
