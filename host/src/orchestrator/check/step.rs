//! One step of a plan: its arguments, its list, its conditions and what it waits for.

use crate::domain::{
    CallTemplate, Cost, Effect, ForEach, Items, Json, Kind, OnFailure, PlanStep, PlannedStep, Reference, RetryRule,
    Role, StepId, ToolName, WitType, references,
};
use crate::orchestrator::check::runs::Within;
use crate::orchestrator::check::scope::Local;
use crate::orchestrator::check::{Check, CheckedRun, CheckedStep, ITEMS_MAX, RUN_TOOL};
use crate::orchestrator::types::{Brought, fit_fields};
use crate::policy::About;
use crate::registry::VerifiedTool;

/// Attempts of one step: a call that has failed so often needs a person.
const ATTEMPTS_MAX: u32 = 20;

/// The longest wait between two attempts, in milliseconds: a day.
const BACKOFF_MS_MAX: u64 = 86_400_000;

/// What a step waits for.
#[derive(Default)]
struct Waits {
    needs: Vec<StepId>,
    after: Vec<StepId>,
}

impl Check<'_> {
    /// Checks one step; nothing where it has no tool or name.
    pub(super) fn step(&mut self, n: usize, step: &PlanStep) -> Option<CheckedStep> {
        let named = self.named.get(&step.id).cloned()?;
        let at = format!("/steps/{n}");
        let item = self.items(&at, step);
        let when = step.when.as_ref().and_then(|text| self.condition(&format!("{at}/when"), text, item.as_deref()));
        if when.as_ref().is_some_and(crate::orchestrator::Condition::uses_answer) {
            self.flaw(Kind::DataCondition, &format!("{at}/when"), "there is no answer before the end of the run");
        }
        let waits = self.waits(&at, step, when.as_ref().map(crate::orchestrator::Condition::steps));
        self.retry(&at, step.retry);
        let local = Local { item, ..Local::steps() };
        let (planned, run) = match (&step.run, named.tool) {
            (Some(run), _) => self.run(&at, step, run, &local)?,
            (None, Some(tool)) => (self.call(&at, step, &tool, &local)?, None),
            (None, None) => return None,
        };
        let waits = waits?;
        let tool = self.named.get(&step.id).and_then(|named| named.tool.as_ref());
        let about = tool.and_then(|tool| (self.known.about)(tool).ok());
        let is_tainted = self.known.proposed.is_some_and(|proposed| proposed.is_tainted);
        let asks =
            about.as_ref().and_then(|about| if is_tainted { about.asks_tainted.clone() } else { about.asks.clone() });
        let (undo, reconcile) = self.templates(&at, step, &planned);
        let items = step.for_each.as_ref().map(|for_each| self.bounds(for_each, planned.effect));
        let planned = PlannedStep {
            id: named.id,
            needs: waits.needs,
            after: waits.after,
            on_failure: self.on_failure(step),
            retry: step.retry,
            role: Role::Do,
            items,
            has_undo: undo.is_some(),
            undo_takes_output: undo.as_ref().is_some_and(CallTemplate::takes_output),
            has_reconcile: reconcile.is_some(),
            is_tainted,
            ..planned
        };
        let risk = self.risk(step, &planned, about.as_ref(), when.as_ref());
        if step.cache_ttl_ms.is_some() && (planned.effect.is_write() || run.is_some()) {
            let what = format!("an outcome of effect `{}` is not taken from the cache", planned.effect);
            self.flaw(Kind::DataPlan, &format!("{at}/cache_ttl_ms"), what);
        }
        Some(CheckedStep {
            planned,
            args: self.renamed(&step.args),
            when: when.map(|condition| self.renamed_condition(&condition)),
            for_each: step
                .for_each
                .as_ref()
                .map(|for_each| ForEach { list: self.renamed(&for_each.list), ..for_each.clone() }),
            undo,
            reconcile,
            run,
            timeout_ms: step.timeout_ms,
            // What its own planner doubts a person looks at.
            approval: step.approval || !step.flags.is_empty(),
            asks,
            cache_ttl_ms: step.cache_ttl_ms,
            risk,
        })
    }

    /// The step of a tool. Its undo and what it waits for are not known yet.
    fn call(&mut self, at: &str, step: &PlanStep, tool: &VerifiedTool, local: &Local<'_>) -> Option<PlannedStep> {
        let about = self.about(&format!("{at}/tool"), tool);
        self.arguments(&format!("{at}/args"), &step.args, tool, local);
        let About { effect, cost, touches, calls_parallel_max, .. } = about?;
        let id = self.named.get(&step.id)?.id.clone();
        let planned = PlannedStep::call(id, tool.name().clone(), Vec::new(), effect);
        Some(PlannedStep { cost, touches, calls_parallel_max, ..planned })
    }

    /// What policy makes of the tool.
    pub(super) fn about(&mut self, at: &str, tool: &VerifiedTool) -> Option<About> {
        (self.known.about)(tool).map_err(|failure| self.failed(at, failure)).ok()
    }

    /// Checks arguments against the types of a tool's parameters.
    pub(super) fn arguments(&mut self, at: &str, args: &Json, tool: &VerifiedTool, local: &Local<'_>) {
        let contract = tool.tool();
        let fields: Vec<_> = contract.params.iter().map(|param| (param.name.as_str(), &param.ty)).collect();
        let mut misfits = Vec::new();
        fit_fields(&fields, args, at, Some(&|value| self.opened(value, local)), &mut misfits);
        if misfits.is_empty() && self.known.checked_by > 1 {
            return self.constraints(at, args, tool, local);
        }
        for misfit in misfits {
            let there = misfit.at.strip_prefix(at).unwrap_or_default();
            let what = format!("`{}`: {}", contract.name, misfit.what);
            self.misfit(&misfit.at, &what, &contract.input_schema, there);
        }
    }

    /// Checks the list of a step that is done for each item, and returns what an item may be.
    fn items(&mut self, at: &str, step: &PlanStep) -> Option<Vec<Brought>> {
        let for_each = step.for_each.as_ref()?;
        let at = format!("{at}/for_each");
        if !(1..=ITEMS_MAX).contains(&for_each.items_max) {
            self.flaw(Kind::DataPlan, &format!("{at}/items_max"), format!("between 1 and {ITEMS_MAX}"));
        }
        if for_each.parallel_max == Some(0) {
            self.flaw(Kind::DataPlan, &format!("{at}/parallel_max"), "none at a time is none at all");
        }
        let at = format!("{at}/in");
        match self.opened(&for_each.list, &Local::steps()) {
            Err(flaw) => {
                self.flaw(Kind::DataReference, &at, flaw);
                Some(vec![Brought::Any])
            }
            Ok(Some(lists)) => Some(lists.into_iter().filter_map(|list| self.item_of(&at, list, for_each)).collect()),
            Ok(None) => {
                let list = crate::domain::literal(&for_each.list).unwrap_or(&for_each.list);
                self.literal_items(&at, list, for_each)
            }
        }
    }

    fn item_of(&mut self, at: &str, list: Brought, for_each: &ForEach) -> Option<Brought> {
        match list {
            Brought::Any => Some(Brought::Any),
            Brought::Type(WitType::List(item)) if *item != WitType::U8 => Some(Brought::Type(*item)),
            Brought::Type(WitType::Option(inner)) => self.item_of(at, Brought::Type(*inner), for_each),
            Brought::Value(Json::Array(items)) => {
                self.count(at, items.len(), for_each);
                // Each item that is written out is one of those that may be.
                (items.len() == 1)
                    .then(|| items.into_iter().next().map(Brought::Value))
                    .flatten()
                    .or(Some(Brought::Any))
            }
            Brought::Type(_) | Brought::Value(_) => {
                self.flaw(Kind::DataInput, at, "what is there is not a list");
                None
            }
        }
    }

    fn literal_items(&mut self, at: &str, list: &Json, for_each: &ForEach) -> Option<Vec<Brought>> {
        let Some(items) = list.as_array() else {
            self.flaw(Kind::DataInput, at, "it is neither a list nor a reference to one");
            return Some(vec![Brought::Any]);
        };
        self.count(at, items.len(), for_each);
        let mut brought = Vec::new();
        for (n, item) in items.iter().enumerate() {
            self.untyped(&format!("{at}/{n}"), item, &Local::steps());
            let is_plain = references(item).is_ok_and(|found| found.is_empty());
            brought.push(if is_plain { Brought::Value(item.clone()) } else { Brought::Any });
        }
        Some(brought)
    }

    fn count(&mut self, at: &str, items: usize, for_each: &ForEach) {
        if usize::try_from(for_each.items_max).is_ok_and(|items_max| items > items_max) {
            self.flaw(Kind::DataPlan, at, format!("{items} items: `items_max` is {}", for_each.items_max));
        }
    }

    fn bounds(&self, for_each: &ForEach, effect: Effect) -> Items {
        // What changes something is done in the order of the list, unless the plan says that the order does not matter.
        let most = if effect.is_write() { 1 } else { self.known.budget.parallel_max };
        let parallel_max = for_each.parallel_max.unwrap_or(most).max(1);
        Items { items_max: for_each.items_max, parallel_max }
    }

    fn retry(&mut self, at: &str, retry: RetryRule) {
        if !(1..=ATTEMPTS_MAX).contains(&retry.attempts_max) {
            self.flaw(Kind::DataPlan, &format!("{at}/retry/attempts_max"), format!("between 1 and {ATTEMPTS_MAX}"));
        }
        if retry.backoff_ms_max > BACKOFF_MS_MAX {
            self.flaw(Kind::DataPlan, &format!("{at}/retry/backoff_ms_max"), format!("at most {BACKOFF_MS_MAX}"));
        }
    }

    /// The steps of this plan that must succeed first, and those that must have ended.
    fn waits(
        &mut self,
        at: &str,
        step: &PlanStep,
        looked_at: Option<&std::collections::BTreeSet<String>>,
    ) -> Option<Waits> {
        let mut waits = Waits::default();
        for (field, names) in [("needs", &step.needs), ("after", &step.after)] {
            for (n, name) in names.iter().enumerate() {
                if !self.wait(&mut waits, name, field == "after") {
                    self.flaw(
                        Kind::DataReference,
                        &format!("{at}/{field}/{n}"),
                        format!("there is no step `{}`", crate::domain::printable(name)),
                    );
                }
            }
        }
        // Those that lead nowhere are told by the check of the arguments and conditions.
        for reference in self.referred(at, step)? {
            self.wait(&mut waits, reference.step, reference.default.is_some());
        }
        for name in looked_at.into_iter().flatten() {
            self.wait(&mut waits, name, true);
        }
        waits.needs.sort();
        waits.needs.dedup();
        waits.after.retain(|id| !waits.needs.contains(id));
        waits.after.sort();
        waits.after.dedup();
        Some(waits)
    }

    fn wait(&self, waits: &mut Waits, name: &str, is_soft: bool) -> bool {
        match self.named.get(name) {
            Some(named) if is_soft => waits.after.push(named.id.clone()),
            Some(named) => waits.needs.push(named.id.clone()),
            // It has succeeded in an earlier turn.
            None => return self.earlier(name).is_some(),
        }
        true
    }

    fn referred<'s>(&mut self, at: &str, step: &'s PlanStep) -> Option<Vec<Reference<'s>>> {
        let mut referred = Vec::new();
        let list = step.for_each.as_ref().map(|for_each| ("for_each/in", &for_each.list));
        for (part, value) in [Some(("args", &step.args)), list].into_iter().flatten() {
            match references(value) {
                Ok(found) => referred.extend(found),
                Err(flaw) => {
                    self.flaw(Kind::DataReference, &format!("{at}/{part}"), flaw);
                    return None;
                }
            }
        }
        Some(referred)
    }

    fn on_failure(&self, step: &PlanStep) -> OnFailure {
        match &step.on_failure {
            OnFailure::Fallback(name) => OnFailure::Fallback(self.full_name(name)),
            other => other.clone(),
        }
    }

    /// The step of a run within the run.
    fn run(
        &mut self,
        at: &str,
        step: &PlanStep,
        run: &crate::domain::SubRun,
        local: &Local<'_>,
    ) -> Option<(PlannedStep, Option<CheckedRun>)> {
        let id = self.named.get(&step.id)?.id.clone();
        let within = self.run_within(at, step, run, local);
        let name = ToolName::new(RUN_TOOL.0, RUN_TOOL.1).ok()?;
        let unknown = Within { effect: Effect::Once, cost: Cost::default(), touches: Vec::new(), asks_model: true };
        let Within { effect, cost, touches, asks_model } = within.unwrap_or(unknown);
        let planned = PlannedStep { cost, touches, asks_model, ..PlannedStep::call(id, name, Vec::new(), effect) };
        let brings = |value: &Json| references(value).is_ok_and(|found| !found.is_empty());
        let is_told = brings(&step.args) || step.for_each.as_ref().is_some_and(|for_each| brings(&for_each.list));
        let is_noted = self.known.checked_by > 1;
        let planned = PlannedStep { asks_model: planned.asks_model && is_noted, ..planned };
        let checked = CheckedRun {
            workflow: run.workflow.clone(),
            goal: run.goal.clone(),
            budget: run.budget.clone(),
            is_tainted: is_noted && (is_told || self.known.goal.is_tainted),
            is_critical: is_noted && self.known.goal.is_critical,
        };
        Some((planned, Some(checked)))
    }
}
