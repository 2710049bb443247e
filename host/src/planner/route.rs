//! Which model is asked: a pure function of what can be counted.
//!
//! Cheap first. What raises a request to a dearer tier is told as a list of reasons, and all that was looked at is in the
//! log, so that anybody can reckon again why a model was asked. Nothing that a model, a tool or a goal says in words has a
//! part in it. A tier that may not propose an effect is not asked where the tools near to the goal have it; that spares a
//! request. What holds the bound is the check of the reply (`Tier::effect_max`).

use serde::{Deserialize, Serialize};

use crate::domain::Effect;

/// The models of a planner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Routes {
    /// From cheap to dear; never empty.
    pub tiers: Vec<Tier>,
    #[serde(default)]
    pub thresholds: Thresholds,
}

/// Models that are as good as each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    pub name: String,
    /// In the order in which they are asked: a later one stands in for those before it. Never empty.
    pub models: Vec<String>,
    /// The worst that a step may do which it proposes.
    pub effect_max: Effect,
}

/// What the cheapest tier is trusted with: each that is passed raises a request by one tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Tools near to the goal.
    pub candidates_max: u32,
    /// How far the best tool is ahead of the second, in thousandths of its score.
    pub margin_permille_min: u32,
    /// Levels of the deepest input schema.
    pub schema_depth_max: u32,
    /// Required arguments of the tool that has most.
    pub required_args_max: u32,
    /// Steps of the run that failed.
    pub failed_steps_max: u32,
    /// Where less of the money is left, none of these raises a request.
    pub budget_permille_min: u32,
}

impl Default for Thresholds {
    /// A plan over eight tools with flat arguments is what small models do well. To be fitted to recorded runs.
    fn default() -> Self {
        Self {
            candidates_max: 8,
            margin_permille_min: 50,
            schema_depth_max: 4,
            required_args_max: 6,
            failed_steps_max: 1,
            budget_permille_min: 200,
        }
    }
}

/// What is counted of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Features {
    /// The worst that a tool near to the goal can do.
    pub effect: Effect,
    pub candidates: u32,
    pub margin_permille: u32,
    pub schema_depth: u32,
    pub required_args: u32,
    pub failed_steps: u32,
    /// The last tier that has shown in this run that it is not up to the goal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<String>,
    /// The person says that it matters more than usual.
    pub is_critical: bool,
    /// Of the money that the run may cost; 1,000 where nobody bounds it.
    pub budget_permille: u32,
    /// Models that did not answer this request, or are left alone for a while.
    pub down: Vec<String>,
}

/// The model that is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    pub tier: String,
    pub model: String,
    /// What raised it above the cheapest, and what it stands in for.
    pub why: Vec<String>,
}

/// A choice with all that it depends on. Kept as a payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Routed {
    pub routes: Routes,
    pub features: Features,
    pub choice: Choice,
}

impl Routes {
    /// Makes the routes of one model, which may propose anything.
    pub fn single(model: impl Into<String>) -> Self {
        let tier = Tier { name: "only".into(), models: vec![model.into()], effect_max: Effect::Once };
        Self { tiers: vec![tier], thresholds: Thresholds::default() }
    }

    /// Returns the tier called `name`.
    pub fn tier(&self, name: &str) -> Option<&Tier> {
        self.tiers.iter().find(|tier| tier.name == name)
    }

    /// Returns whether there is a dearer tier than the one called `name`.
    pub fn has_above(&self, name: &str) -> bool {
        self.tiers.last().is_some_and(|last| last.name != name)
    }
}

/// Chooses; `None` where no tier may propose what the tools near to the goal do, or there are no models.
pub fn choose(routes: &Routes, features: &Features) -> Option<Choice> {
    let last = routes.tiers.len().checked_sub(1)?;
    let floor = routes.tiers.iter().position(|tier| tier.effect_max >= features.effect)?;
    let mut why = Vec::new();
    if floor > 0 {
        why.push(format!("a tool near to the goal is `{}`", features.effect));
    }
    let raised = raises(&routes.thresholds, features);
    let above = features.above.as_ref().and_then(|name| routes.tiers.iter().position(|tier| tier.name == *name));
    // None that was not up to it is asked again, not even to stand in; but for the last there is.
    let floor = above.map_or(floor, |above| floor.max(above + 1).min(last));
    let wanted = if features.is_critical { last } else { raised.len().max(floor) };
    why.extend(raised);
    if features.is_critical {
        why.push("the goal is critical".into());
    }
    if let Some(above) = &features.above {
        why.push(format!("tier `{above}` was not up to it"));
    }
    let wanted = wanted.min(last);
    // Upwards first, as a dearer tier is up to it too; then down to the floor.
    let order = (wanted..=last).chain((floor..wanted).rev());
    let allowed = |at: &usize| routes.tiers.get(*at).is_some_and(|tier| tier.effect_max >= features.effect);
    let is_up = |model: &&String| !features.down.contains(model);
    let up = order.filter(allowed).find_map(|at| Some((at, routes.tiers.get(at)?.models.iter().find(is_up)?)));
    // Where none is up the one that is wanted is asked again.
    let (at, model) = match up {
        Some(up) => up,
        None => {
            let wanted = (wanted..=last).chain((floor..wanted).rev()).find(allowed)?;
            (wanted, routes.tiers.get(wanted)?.models.first()?)
        }
    };
    let tier = routes.tiers.get(at)?;
    let stands_in = tier.models.iter().take_while(|other| *other != model);
    why.extend(stands_in.map(|other| format!("`{other}` is down")));
    if at != wanted {
        why.push(format!("no model of tier `{}` is up", routes.tiers.get(wanted)?.name));
    }
    Some(Choice { tier: tier.name.clone(), model: model.clone(), why })
}

/// Tells each threshold that is passed.
fn raises(thresholds: &Thresholds, features: &Features) -> Vec<String> {
    if features.budget_permille < thresholds.budget_permille_min {
        return Vec::new();
    }
    let more = |n: u32, max: u32, what: &str| (n > max).then(|| format!("{n} {what}, more than {max}"));
    let margin = (features.margin_permille < thresholds.margin_permille_min).then(|| {
        format!("the best tool is {} ‰ ahead, less than {} ‰", features.margin_permille, thresholds.margin_permille_min)
    });
    [
        more(features.candidates, thresholds.candidates_max, "tools near to the goal"),
        margin,
        more(features.schema_depth, thresholds.schema_depth_max, "levels of a schema"),
        more(features.required_args, thresholds.required_args_max, "required arguments"),
        more(features.failed_steps, thresholds.failed_steps_max, "steps failed"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        let tier = |name: &str, models: &[&str], effect_max| Tier {
            name: name.into(),
            models: models.iter().map(|&model| model.to_owned()).collect(),
            effect_max,
        };
        let tiers = vec![
            tier("small", &["s1", "s2"], Effect::Read),
            tier("medium", &["m1"], Effect::Reversible),
            tier("large", &["l1", "l2"], Effect::Once),
        ];
        Routes { tiers, thresholds: Thresholds::default() }
    }

    fn plain() -> Features {
        Features {
            effect: Effect::Read,
            candidates: 3,
            margin_permille: 400,
            schema_depth: 1,
            required_args: 2,
            failed_steps: 0,
            above: None,
            is_critical: false,
            budget_permille: 1_000,
            down: vec![],
        }
    }

    /// Each row: what is counted, the model that is asked, and how many reasons are told.
    #[test]
    fn the_matrix() {
        let down = |models: &[&str]| models.iter().map(|&model| model.to_owned()).collect::<Vec<_>>();
        let above = |tier: &str| Some(tier.to_owned());
        for (features, model, reasons) in [
            (plain(), "s1", 0),
            (Features { effect: Effect::Idempotent, ..plain() }, "m1", 1),
            (Features { effect: Effect::Once, ..plain() }, "l1", 1),
            (Features { candidates: 9, ..plain() }, "m1", 1),
            (Features { margin_permille: 49, ..plain() }, "m1", 1),
            (Features { schema_depth: 5, required_args: 7, ..plain() }, "l1", 2),
            (Features { failed_steps: 2, ..plain() }, "m1", 1),
            // What raises does not add to what the effect needs anyway; what was tried in vain does.
            (Features { effect: Effect::Idempotent, failed_steps: 2, ..plain() }, "m1", 2),
            (Features { effect: Effect::Idempotent, above: above("medium"), ..plain() }, "l1", 2),
            (Features { above: above("small"), ..plain() }, "m1", 1),
            (Features { above: above("large"), ..plain() }, "l1", 1),
            // Whatever else has changed, the one above the one that failed is asked, and none below stands in.
            (Features { candidates: 99, budget_permille: 1, above: above("medium"), ..plain() }, "l1", 1),
            (Features { above: above("small"), down: down(&["m1", "l1", "l2"]), ..plain() }, "m1", 1),
            (Features { is_critical: true, ..plain() }, "l1", 1),
            // Little money is left: only what must be is dear.
            (Features { candidates: 99, budget_permille: 199, ..plain() }, "s1", 0),
            (Features { effect: Effect::Once, budget_permille: 1, ..plain() }, "l1", 1),
            (Features { down: down(&["s1"]), ..plain() }, "s2", 1),
            (Features { down: down(&["s1", "s2"]), ..plain() }, "m1", 1),
            (Features { down: down(&["s1", "s2", "m1", "l1"]), ..plain() }, "l2", 2),
            (Features { is_critical: true, down: down(&["l1", "l2"]), ..plain() }, "m1", 2),
            // Nothing below the floor stands in; where all are down the one that is wanted is asked again.
            (Features { effect: Effect::Once, down: down(&["l1", "l2"]), ..plain() }, "l1", 1),
        ] {
            let choice = choose(&routes(), &features).unwrap();
            assert_eq!((choice.model.as_str(), choice.why.len()), (model, reasons), "{features:?}: {choice:?}");
            let tier = routes().tier(&choice.tier).cloned().unwrap();
            assert!(tier.models.contains(&choice.model) && tier.effect_max >= features.effect);
        }
    }

    #[test]
    fn where_no_tier_may_propose_it_nobody_is_asked() {
        let mut routes = routes();
        routes.tiers.pop();
        assert_eq!(choose(&routes, &Features { effect: Effect::Once, ..plain() }), None);
        assert_eq!(choose(&Routes { tiers: vec![], ..routes }, &plain()), None);
    }

    #[test]
    fn what_was_chosen_can_be_reckoned_again_from_what_is_kept() {
        let features = Features { effect: Effect::Reversible, failed_steps: 4, ..plain() };
        let choice = choose(&routes(), &features).unwrap();
        let kept = serde_json::to_string(&Routed { routes: routes(), features, choice }).unwrap();
        let read: Routed = serde_json::from_str(&kept).unwrap();
        assert_eq!(choose(&read.routes, &read.features), Some(read.choice));
    }
}
