//! What makes a step risky that a planner proposes.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{HostRisk, Json, PlanStep, PlannedStep, PlannerRisk, Risk, references};
use crate::orchestrator::check::Check;
use crate::orchestrator::condition::Condition;
use crate::orchestrator::types::below;
use crate::policy::About;

/// Levels of arguments that are looked at, and named: deeper ones count to the last.
const DEPTH_MAX: usize = 8;

impl Check<'_> {
    /// Returns what is known of a step; nothing where no planner proposed it.
    pub(super) fn risk(
        &self,
        step: &PlanStep,
        planned: &PlannedStep,
        about: Option<&About>,
        when: Option<&Condition>,
    ) -> Option<Risk> {
        let proposed = self.known.proposed?;
        let mut taint = BTreeMap::new();
        find_taint(&self.renamed(&step.args), "", DEPTH_MAX, &mut taint);
        if let Some(for_each) = &step.for_each {
            let list = self.renamed(&for_each.list);
            let sources = sources(&list);
            if !sources.is_empty() {
                find_items(&step.args, "", DEPTH_MAX, &mut taint, &sources);
            }
            find_taint(&list, "/for_each/in", DEPTH_MAX, &mut taint);
        }
        if let Some(condition) = when {
            let steps: BTreeSet<String> = condition.steps().iter().map(|name| self.full_name(name)).collect();
            if !steps.is_empty() {
                taint.insert("/when".to_owned(), steps);
            }
        }
        let planner = PlannerRisk { confidence: step.confidence, flags: step.flags.clone() };
        let host = HostRisk {
            effect: planned.effect,
            is_reversible: !planned.effect.is_write() || planned.has_undo,
            egress: about.map(|about| about.egress.clone()).unwrap_or_default(),
            secrets: about.map(|about| about.secrets.clone()).unwrap_or_default(),
            taint,
            is_tainted: planned.is_tainted,
            is_first_use: !self.known.earlier.values().any(|earlier| earlier.tool == planned.tool),
            is_repaired: proposed.is_repair,
            is_near: proposed.retrieval.as_ref().is_none_or(|found| found.near.contains(&planned.tool)),
            margin_permille: proposed.retrieval.as_ref().map_or(1_000, |found| found.margin_permille),
            worst: planned.cost,
        };
        Some(Risk { planner, host })
    }
}

/// The steps that a value refers to.
fn sources(value: &Json) -> BTreeSet<String> {
    references(value).into_iter().flatten().map(|source| source.step.to_owned()).collect()
}

/// Finds the arguments that hold a part of an item, of a list that steps brought.
fn find_items(
    value: &Json,
    at: &str,
    depth_left: usize,
    found: &mut BTreeMap<String, BTreeSet<String>>,
    sources: &BTreeSet<String>,
) {
    match value {
        Json::Object(fields) if fields.contains_key("$item") => {
            found.entry(at.to_owned()).or_default().extend(sources.iter().cloned());
        }
        Json::Object(fields) if depth_left > 0 && !fields.contains_key("$literal") => {
            fields.iter().for_each(|(key, value)| find_items(value, &below(at, key), depth_left - 1, found, sources));
        }
        Json::Array(items) if depth_left > 0 => {
            let items = items.iter().enumerate();
            items.for_each(|(n, item)| find_items(item, &format!("{at}/{n}"), depth_left - 1, found, sources));
        }
        _ => {}
    }
}

/// Finds the arguments that refer to what steps brought, each as near to its reference as it can be named.
fn find_taint(value: &Json, at: &str, depth_left: usize, found: &mut BTreeMap<String, BTreeSet<String>>) {
    let Ok(sources) = references(value) else { return };
    if sources.is_empty() {
        return;
    }
    let fields: Vec<(String, &Json)> = match value {
        Json::Object(fields) if depth_left > 0 && !fields.contains_key("$from") => {
            fields.iter().map(|(key, value)| (below(at, key), value)).collect()
        }
        Json::Array(items) if depth_left > 0 => {
            items.iter().enumerate().map(|(n, item)| (format!("{at}/{n}"), item)).collect()
        }
        _ => {
            let steps = sources.iter().map(|source| source.step.to_owned());
            found.entry(at.to_owned()).or_default().extend(steps);
            return;
        }
    };
    fields.iter().for_each(|(at, value)| find_taint(value, at, depth_left - 1, found));
}
