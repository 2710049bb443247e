//! The models of the settings, as they would be asked. Keys are looked for and never told, and nothing is sent: whether a
//! model answers is not seen from here.

use crate::config::{ModelSettings, Models, Settings};
use crate::domain::Effect;
use crate::host;

use super::finding::{Finding, failed};

/// Looks at each model and each tier, and at what all of them together may propose.
pub(super) fn look(settings: &Settings) -> Vec<Finding> {
    let Some(models) = &settings.model else {
        return vec![Finding::ok("model", "none: workflows run, goals in words do not")];
    };
    let is_bounded = settings.budget.usd_micros_max.is_some();
    let mut found: Vec<Finding> = models.models.iter().map(|each| model(each, models, is_bounded)).collect();
    found.extend(tiers(models));
    found
}

fn model(model: &ModelSettings, models: &Models, is_bounded: bool) -> Finding {
    let view = match host::model_view(model) {
        Ok(view) => view,
        Err(failure) => return failed("model", &failure),
    };
    let key = if view.has_key { "with a key" } else { "without a key" };
    let price = match &view.price {
        Some(price) => format!("its price is from {}", price.source),
        None => "nobody knows its price".to_owned(),
    };
    let says = format!("`{}`, {key}: `{}` by {} at {}; {price}", model.name, model.model, model.protocol, view.server);
    let is_asked = models.routes.tiers.iter().any(|tier| tier.models.contains(&model.name));
    let is_affordable = view.price.is_some() || !is_bounded;
    Finding::new("model", says)
        .warn_unless(
            is_affordable,
            "[budget] bounds money, so it is not asked: write its `price`, 0 for your own server",
        )
        .warn_unless(is_asked, "no tier names it, so it is not asked: add it to the `models` of one of `[[tiers]]`")
}

fn tiers(models: &Models) -> Vec<Finding> {
    let tiers = &models.routes.tiers;
    let says = |tier: &host::Tier| format!("{}; up to `{}`", tier.models.join(", then "), tier.effect_max);
    let several = tiers.iter().filter(|_| tiers.len() > 1);
    let mut found: Vec<_> = several.map(|tier| Finding::ok(&format!("tier {}", tier.name), says(tier))).collect();
    if tiers.iter().all(|tier| tier.effect_max < Effect::Once) {
        found.push(Finding::warn(
            "tiers",
            "none may propose a step of effect `once`: goals that need one are refused",
            "if that is not wanted, write `effects = \"once\"` at the last of `[[tiers]]`",
        ));
    }
    found
}
