//! The models of the settings: `[models.<name>]`, `[[tiers]]` and `[routing]`, or the short form `[model]`.
//!
//! Promises: a mistake is told with its line, and a key is never repeated. Leaves to others: fetching keys, prices that are
//! not written here, and asking (`host`, `planner`).

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use crate::domain::{Effect, Failure, Price};
use crate::planner::model::Protocol;
use crate::planner::route::{Routes, Thresholds, Tier};

use super::SecretSource;
use super::file::Place;
use super::price;

#[cfg(test)]
mod tests;

/// The models that plan, and which of them is asked when.
#[derive(Clone, Debug, PartialEq)]
pub struct Models {
    /// Never empty; no two of one name.
    pub models: Vec<ModelSettings>,
    pub routes: Routes,
}

/// One model: what it is, where it is, and on what terms it is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSettings {
    /// As it is called here.
    pub name: String,
    pub protocol: Protocol,
    /// As the server calls it.
    pub model: String,
    /// Up to and without `/chat/completions`, `/responses`, `/messages` or `/models/…`.
    pub base_url: String,
    /// Where the key is to be found. It belongs to `base_url` and is sent nowhere else.
    pub api_key: Option<SecretSource>,
    /// `None` for the provider's own.
    pub temperature: Option<f64>,
    /// Whether the server is given the schema of the reply.
    pub is_constrained: bool,
    /// `None` where it is not written.
    pub price: Option<PriceSource>,
    pub context_tokens_max: Option<u64>,
    pub reply_tokens_max: Option<u32>,
}

impl Models {
    /// Makes one model out of it, which may propose anything.
    pub fn single(model: ModelSettings) -> Self {
        Self { routes: Routes::single(model.name.clone()), models: vec![model] }
    }
}

impl ModelSettings {
    /// Makes a model at its provider's own server, without a key.
    pub fn new(protocol: Protocol, model: impl Into<String>) -> Self {
        let model = model.into();
        Self {
            name: model.clone(),
            protocol,
            temperature: protocol.temperature(&model),
            base_url: protocol.base_url().to_owned(),
            model,
            api_key: None,
            is_constrained: true,
            price: None,
            context_tokens_max: None,
            reply_tokens_max: None,
        }
    }
}

/// What a model costs, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PriceSource {
    Written(Price),
    /// As another model costs: `openai/gpt-4.1-mini`, a provider and a model of the vendored data.
    As(String),
}

/// A model as it is written, but for its name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelPart {
    /// Of the short form alone: as the server calls the model.
    name: Option<Spanned<String>>,
    model: Option<String>,
    protocol: Option<Spanned<String>>,
    base_url: Option<String>,
    /// Read by hand: it may be the key itself.
    api_key: Option<Spanned<toml::Value>>,
    temperature: Option<Spanned<toml::Value>>,
    schema: Option<bool>,
    price: Option<Spanned<toml::Value>>,
    context_tokens_max: Option<u64>,
    reply_tokens_max: Option<u32>,
}

/// A tier as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TierPart {
    name: Spanned<String>,
    models: Spanned<Vec<Spanned<String>>>,
    effects: Effect,
}

/// All that is written of models.
pub(super) struct ModelsPart {
    pub short: Option<Spanned<ModelPart>>,
    pub models: BTreeMap<Spanned<String>, Spanned<ModelPart>>,
    pub tiers: Vec<TierPart>,
    pub routing: Option<Spanned<Thresholds>>,
}

impl ModelsPart {
    /// Makes settings of it; nothing where there is no model.
    ///
    /// # Errors
    /// `data.config` with line and column.
    pub(super) fn settings(self, root: &Path, place: &Place<'_>) -> Result<Option<Models>, Failure> {
        let Self { short, models, tiers, routing } = self;
        if let Some(short) = short {
            let beside = models.keys().map(|name| name.span()).chain(tiers.iter().map(|tier| tier.name.span()));
            if let Some(span) = beside.chain(routing.as_ref().map(|routing| routing.span())).next() {
                let what = "`[model]` is the short form for one model: leave it out beside `[models]`, `[[tiers]]` and `[routing]`";
                return Err(place.refuse(span.start, what));
            }
            return short_form(short, root, place).map(|model| Some(Models::single(model)));
        }
        let tiered = tiers.iter().map(|tier| tier.name.span()).chain(routing.as_ref().map(|routing| routing.span()));
        if let (true, Some(span)) = (models.is_empty(), tiered.into_iter().next()) {
            return Err(place.refuse(span.start, "there are no models: write `[models.<name>]`"));
        }
        let spans: Vec<usize> = models.keys().map(|name| name.span().start).collect();
        let models = models.into_iter().map(|(name, part)| long_form(name, part, root, place));
        let models: Vec<ModelSettings> = models.collect::<Result<_, _>>()?;
        let routes = match (models.as_slice(), tiers.is_empty(), spans.as_slice()) {
            ([], ..) => return Ok(None),
            ([only], true, _) => Routes::single(only.name.clone()),
            (_, true, [_, second, ..]) => {
                let what = "there are several models and no `[[tiers]]`: these say which is asked, from cheap to dear";
                return Err(place.refuse(*second, what));
            }
            _ => Routes { tiers: checked(tiers, &models, place)?, thresholds: Thresholds::default() },
        };
        let thresholds = routing.map(Spanned::into_inner).unwrap_or_default();
        Ok(Some(Models { models, routes: Routes { thresholds, ..routes } }))
    }
}

fn short_form(part: Spanned<ModelPart>, root: &Path, place: &Place<'_>) -> Result<ModelSettings, Failure> {
    let at = part.span().start;
    let mut part = part.into_inner();
    let Some(name) = part.name.take() else { return Err(place.refuse(at, "missing field `name`")) };
    if part.model.is_some() {
        return Err(place.refuse(at, "`[model]` has a `name`, as the server calls it, and no `model`"));
    }
    if part.base_url.is_none() && part.protocol.is_none() {
        return Err(place.refuse(at, "missing field `base_url`, or `protocol` for its provider's own server"));
    }
    part.settings(name.into_inner(), root, place)
}

fn long_form(
    name: Spanned<String>,
    part: Spanned<ModelPart>,
    root: &Path,
    place: &Place<'_>,
) -> Result<ModelSettings, Failure> {
    let part = part.into_inner();
    if let Some(other) = &part.name {
        return Err(
            place.refuse(other.span().start, "the model is named by its table: `model` is what its server calls it")
        );
    }
    let text = name.get_ref();
    let is_plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !is_plain || text.len() > NAME_BYTES_MAX {
        let what = format!("a model's name has letters, digits, `.`, `-` and `_`, at most {NAME_BYTES_MAX}");
        return Err(place.refuse(name.span().start, &what));
    }
    part.settings(name.into_inner(), root, place)
}

/// Bytes of a model's name: it stands in every line about it.
const NAME_BYTES_MAX: usize = 64;

impl ModelPart {
    fn settings(self, name: String, root: &Path, place: &Place<'_>) -> Result<ModelSettings, Failure> {
        let protocol = match &self.protocol {
            None => Protocol::OpenaiChat,
            Some(text) => text.get_ref().parse().map_err(|what: String| place.refuse(text.span().start, &what))?,
        };
        let model = ModelSettings::new(protocol, self.model.unwrap_or_else(|| name.clone()));
        let api_key = self.api_key.map(|key| key_source(&key, root, place)).transpose()?;
        let temperature = match &self.temperature {
            None => model.temperature,
            Some(value) => temperature(value.get_ref()).map_err(|what| place.refuse(value.span().start, what))?,
        };
        let price = self.price.map(|value| {
            price::read(value.get_ref()).map_err(|what| place.refuse(value.span().start, &format!("`price` {what}")))
        });
        Ok(ModelSettings {
            name,
            base_url: self.base_url.unwrap_or(model.base_url),
            api_key,
            temperature,
            is_constrained: self.schema.unwrap_or(true),
            price: price.transpose()?,
            context_tokens_max: self.context_tokens_max,
            reply_tokens_max: self.reply_tokens_max,
            ..model
        })
    }
}

fn key_source(key: &Spanned<toml::Value>, root: &Path, place: &Place<'_>) -> Result<SecretSource, Failure> {
    SecretSource::of_toml(key.get_ref(), root).map_err(|what| {
        place
            .refuse(key.span().start, &format!("`api_key` {what}"))
            .hint("set a variable to the key and write `api_key = \"env:NAME\"`")
    })
}

fn temperature(value: &toml::Value) -> Result<Option<f64>, &'static str> {
    let number = match value {
        toml::Value::String(text) if text == "default" => return Ok(None),
        toml::Value::Float(number) => *number,
        toml::Value::Integer(number) if (0..=2).contains(number) => *number as f64,
        _ => -1.0,
    };
    let is_fine = (0.0..=2.0).contains(&number);
    if is_fine { Ok(Some(number)) } else { Err("`temperature` is a number from 0 to 2, or `\"default\"`") }
}

fn checked(tiers: Vec<TierPart>, models: &[ModelSettings], place: &Place<'_>) -> Result<Vec<Tier>, Failure> {
    let mut checked: Vec<Tier> = Vec::new();
    for tier in tiers {
        let TierPart { name, models: named, effects } = tier;
        if checked.iter().any(|earlier| earlier.name == *name.get_ref()) {
            return Err(place.refuse(name.span().start, "an earlier tier has this name too"));
        }
        if named.get_ref().is_empty() {
            return Err(place.refuse(named.span().start, "a tier names the models that it asks"));
        }
        for model in named.get_ref() {
            if models.iter().all(|known| known.name != *model.get_ref()) {
                let known: Vec<_> = models.iter().map(|known| format!("`{}`", known.name)).collect();
                let what = format!("there is no such model: `[models]` has {}", known.join(", "));
                return Err(place.refuse(model.span().start, &what));
            }
        }
        let models = named.into_inner().into_iter().map(Spanned::into_inner).collect();
        checked.push(Tier { name: name.into_inner(), models, effect_max: effects });
    }
    Ok(checked)
}
