//! Makes models of settings: their keys are fetched here, and their prices found.

use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::config::{ModelSettings, Models, PriceSource};
use crate::domain::{Failure, Kind, Price, printable};
use crate::planner::model::{ModelOptions, ModelPlanner};
use crate::planner::{ContextPack, Planner, prices};

/// A model as it would be asked.
#[derive(Clone, Debug)]
pub struct ModelView {
    /// Scheme, host and port; no key, no path.
    pub server: String,
    pub has_key: bool,
    /// `None` where nobody knows it.
    pub price: Option<Price>,
}

/// Tells how a model of the settings would be asked. Its key is fetched; nothing is sent.
///
/// # Errors
/// `data.config` for what would keep it from being asked: a key that is not there, a base URL that is none, a price of a
/// model that nobody knows.
pub fn model_view(settings: &ModelSettings) -> Result<ModelView, Failure> {
    let options = model_options(settings)?;
    let has_key = options.api_key.is_some();
    let quote = ModelPlanner::single(options)?.quote(&ContextPack::default(), &settings.name);
    let bug = || Failure::new(Kind::HostBug, format!("look at model `{}`: it is not there", printable(&settings.name)));
    let quote = quote.ok_or_else(bug)?;
    Ok(ModelView { server: quote.server, has_key, price: quote.price })
}

/// Makes the planner that asks models; their keys are fetched here, and go nowhere else.
pub(super) fn model_planner(models: &Models) -> Result<Arc<dyn Planner>, Failure> {
    let options = models.models.iter().map(model_options).collect::<Result<_, _>>()?;
    Ok(Arc::new(ModelPlanner::new(options, models.routes.clone())?))
}

fn model_options(settings: &ModelSettings) -> Result<ModelOptions, Failure> {
    let what = format!("the key of model `{}`", settings.name);
    let options = ModelOptions::new(settings.protocol, &settings.model).at(&settings.base_url);
    Ok(ModelOptions {
        name: settings.name.clone(),
        api_key: settings.api_key.as_ref().map(|key| key.read(&what)).transpose()?,
        temperature: settings.temperature,
        is_constrained: settings.is_constrained,
        context_tokens_max: settings.context_tokens_max,
        reply_tokens_max: settings.reply_tokens_max.unwrap_or(options.reply_tokens_max),
        price: price(settings)?,
        ..options
    })
}

/// What the settings say that it costs, or what is known of its server. Nobody's guess: `None` is not nothing.
fn price(settings: &ModelSettings) -> Result<Option<Price>, Failure> {
    let now = SystemClock::default().now();
    match &settings.price {
        None => Ok(prices::price_at(&settings.base_url, &settings.model, now)),
        Some(PriceSource::Written(price)) => Ok(Some(price.clone())),
        Some(PriceSource::As(name)) => prices::price_as(name, now).map(Some).ok_or_else(|| {
            let what =
                format!("find the price of model `{}`: nobody knows what `{}` costs", settings.name, printable(name));
            Failure::new(Kind::DataConfig, what)
                .hint("it is a provider and a model of the vendored data, such as `openai/gpt-4.1-mini`")
        }),
    }
}
