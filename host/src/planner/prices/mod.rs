//! What models charge, as pydantic/genai-prices tells it (`NOTICE.md` beside this file; `refresh.py` takes it anew).
//!
//! A price is looked up by the URL that requests go to, or by a provider that the operator names: never by the name of a model
//! alone, as anybody may serve a model under any name. What is not known is `None`, and that is not the same as nothing.
//! Where a price depends on what is not known beforehand (the hour, what a cache holds), the dearest is taken, so that a
//! bound holds; what is told of a request afterwards may therefore be more than the bill, and never less.
//!
//! Left out are other ways of processing (batch, priority, flex), which no request here asks for, and discounts and
//! surcharges of an account: who has such gives the price in `cofferdam.toml`.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::domain::{Price, Timestamp};

use names::{Names, dashed_date, pattern};
use rates::{Rates, bands};

mod names;
mod rates;
#[cfg(test)]
mod tests;

/// The data, as text: parsed once, when a price is first asked for.
const DATA: &str = include_str!("prices.json");

static PRICES: LazyLock<Option<Prices>> = LazyLock::new(|| serde_json::from_str(DATA).ok());

/// Returns what `model` costs at a server of this base URL, for a request about the time `at`; `None` where nobody knows.
pub fn price_at(base_url: &str, model: &str, at: Timestamp) -> Option<Price> {
    let prices = PRICES.as_ref()?;
    let provider = prices.providers.iter().find(|provider| provider.is_at(base_url))?;
    prices.price(provider, model, at)
}

/// Returns what a model costs that the operator says is priced as another one, like `openai/gpt-4.1-mini`: the provider's id
/// in the data, and a name of the model there. `None` where nobody knows.
pub fn price_as(name: &str, at: Timestamp) -> Option<Price> {
    let prices = PRICES.as_ref()?;
    let (id, model) = name.split_once('/')?;
    let provider = prices.provider(id)?;
    prices.price(provider, model, at)
}

/// Returns the day on which the data was published; `None` where it is no data.
pub fn published() -> Option<Timestamp> {
    PRICES.as_ref()?.date.parse().ok()
}

/// The data as `refresh.py` writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Prices {
    #[expect(dead_code, reason = "for whoever reads the file")]
    version: String,
    date: String,
    providers: Vec<Provider>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    id: String,
    /// A regular expression of its URLs, from their beginning.
    url: String,
    /// Providers whose models it offers under their prices, where it has none of its own.
    #[serde(default)]
    offers: Vec<String>,
    models: Vec<Model>,
}

/// A model's id, the names that it goes by, and its prices.
#[derive(Deserialize)]
struct Model(String, Names, Vec<Rates>);

impl Prices {
    fn provider(&self, id: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.id == id)
    }

    fn price(&self, provider: &Provider, model: &str, at: Timestamp) -> Option<Price> {
        let Model(id, _, rates) = self.model(provider, model)?;
        let source = format!("genai-prices {}: {}/{id}", self.date, provider.id);
        Some(Price { source, bands: bands(rates, at)? })
    }

    /// The first model that goes by the name decides, known price or not. A date without dashes is read with them where
    /// nothing goes by it as it is.
    fn model<'a>(&'a self, provider: &'a Provider, name: &str) -> Option<&'a Model> {
        let name = name.to_lowercase();
        let again = dashed_date(&name);
        self.of_name(provider, &name).or_else(|| self.of_name(provider, again.as_deref()?))
    }

    fn of_name<'a>(&'a self, provider: &'a Provider, name: &str) -> Option<&'a Model> {
        let offered = provider.offers.iter().filter_map(|id| self.provider(id));
        std::iter::once(provider).chain(offered).find_map(|provider| provider.of_name(name))
    }
}

impl Provider {
    fn is_at(&self, url: &str) -> bool {
        pattern(&format!("^(?:{})", self.url)).is_some_and(|pattern| pattern.is_match(url))
    }

    fn of_name(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|Model(id, names, _)| names.hold(id, name))
    }
}
