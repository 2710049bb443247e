//! The order of a plan's steps, and those that stand in for others.

use std::collections::HashMap;

use crate::domain::{Kind, OnFailure, Plan, StepId};
use crate::orchestrator::check::{Check, CheckedStep, FALLBACKS_MAX};

impl Check<'_> {
    /// Checks the steps that stand in for others: each is there, stands in for one, and nothing else waits for it.
    pub(super) fn fallbacks(&mut self, plan: &Plan) {
        let mut stands_in: HashMap<&str, &str> = HashMap::new();
        for (n, step) in plan.steps.iter().enumerate() {
            let OnFailure::Fallback(fallback) = &step.on_failure else { continue };
            let at = format!("/steps/{n}/on_failure");
            if !self.named.contains_key(fallback) {
                self.flaw(
                    Kind::DataReference,
                    &at,
                    format!("there is no step `{}`", crate::domain::printable(fallback)),
                );
            } else if let Some(other) = stands_in.insert(fallback, &step.id) {
                self.flaw(Kind::DataPlan, &at, format!("`{fallback}` stands in for `{other}` already"));
            }
            self.chain(plan, &at, &step.id);
        }
        for (n, step) in plan.steps.iter().enumerate() {
            self.waited_for(n, step, &stands_in);
        }
    }

    fn chain(&mut self, plan: &Plan, at: &str, first: &str) {
        let next = |name: &str| match plan.steps.iter().find(|step| step.id == name).map(|step| &step.on_failure) {
            Some(OnFailure::Fallback(next)) => Some(next.as_str()),
            _ => None,
        };
        let mut seen = vec![first];
        while let Some(step) = next(seen.last().copied().unwrap_or_default()) {
            if seen.contains(&step) {
                return self.flaw(Kind::DataPlan, at, format!("`{first}` and `{step}` stand in for each other"));
            }
            seen.push(step);
            if seen.len() > FALLBACKS_MAX + 1 {
                return self.flaw(
                    Kind::DataPlan,
                    at,
                    format!("more than {FALLBACKS_MAX} steps stand in for each other"),
                );
            }
        }
    }

    /// A step that stands in for another may never run: who needs its output needs the other's.
    fn waited_for(&mut self, n: usize, step: &crate::domain::PlanStep, stands_in: &HashMap<&str, &str>) {
        let referred = crate::domain::references(&step.args).unwrap_or_default();
        let list = step.for_each.iter().flat_map(|each| crate::domain::references(&each.list).unwrap_or_default());
        let referred = referred.into_iter().chain(list).map(|reference| reference.step);
        let named = step.needs.iter().chain(&step.after).map(String::as_str);
        for name in named.chain(referred) {
            if let Some(other) = stands_in.get(name) {
                let what = format!("`{name}` runs only where `{other}` fails: name `{other}`, whose place it takes");
                self.flaw(Kind::DataPlan, &format!("/steps/{n}"), what);
            }
            if stands_in.get(step.id.as_str()) == Some(&name) && !step.after.iter().any(|after| after == name) {
                let what = format!("it stands in for `{name}`, and cannot need it");
                self.flaw(Kind::DataPlan, &format!("/steps/{n}"), what);
            }
        }
    }

    /// Puts each step behind those that it waits for, and refuses a circle. Steps that change something run in this order,
    /// so none may stand before one that it waits for. One that stands in for another comes behind it, and before those
    /// that wait for that.
    pub(super) fn ordered(&mut self, mut waiting: Vec<CheckedStep>) -> Vec<CheckedStep> {
        let before = self.before(&waiting);
        let mut ordered: Vec<CheckedStep> = Vec::new();
        loop {
            // A step that was left out for another flaw holds up nobody: that flaw is told.
            let is_free = |step: &CheckedStep| {
                let holds_up = |id: &StepId| waiting.iter().any(|other| other.planned.id == *id);
                !before.get(&step.planned.id).is_some_and(|before| before.iter().any(holds_up))
            };
            let Some(next) = waiting.iter().position(is_free) else { break };
            ordered.push(waiting.remove(next));
        }
        if !waiting.is_empty() {
            let circle: Vec<_> = waiting.iter().map(|step| step.planned.id.local()).collect();
            let at = circle.first().map_or_else(|| "/steps".to_owned(), |first| self.pointer_to(first));
            self.flaw(Kind::DataPlan, &at, format!("these steps wait for each other: {}", circle.join(", ")));
        }
        ordered
    }

    /// For each step those that must have ended before it.
    fn before(&self, steps: &[CheckedStep]) -> HashMap<StepId, Vec<StepId>> {
        let fallback = |id: &StepId| {
            let named = self.named.values().find(|named| named.id == *id)?;
            self.named.get(named.fallback.as_deref()?).map(|named| named.id.clone())
        };
        let mut before: HashMap<StepId, Vec<StepId>> = HashMap::new();
        for step in steps {
            let planned = &step.planned;
            let mut waits: Vec<StepId> = planned.needs.iter().chain(&planned.after).cloned().collect();
            // Also for those that may stand in: the list grows while it is walked.
            let mut n = 0;
            while let Some(id) = waits.get(n).cloned() {
                waits.extend(fallback(&id).filter(|fallback| *fallback != planned.id && !waits.contains(fallback)));
                n += 1;
            }
            before.entry(planned.id.clone()).or_default().extend(waits);
            if let Some(fallback) = fallback(&planned.id) {
                before.entry(fallback).or_default().push(planned.id.clone());
            }
        }
        before
    }
}
