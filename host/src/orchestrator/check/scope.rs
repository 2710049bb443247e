//! What the open parts of a plan stand for: references, items, inputs, and the parts of another call.

use crate::domain::{Json, Kind, Reference, Returns, WitType, literal, reference};
use crate::orchestrator::check::{Check, Earlier, Named, RUN_TOOL};
use crate::orchestrator::condition::{ANSWER, Condition, Place};
use crate::orchestrator::template::{Marker, marker};
use crate::orchestrator::types::{Brought, below};

/// What may stand open in one place of a plan.
#[derive(Clone, Default)]
pub(super) struct Local<'a> {
    /// References to steps.
    pub steps: bool,
    /// What the item of a `for_each` may be.
    pub item: Option<Vec<Brought>>,
    /// Arguments of the call that a template is made of.
    pub input: Option<Brought>,
    /// What it returns.
    pub output: Option<&'a Returns>,
    /// Its idempotency key.
    pub key: bool,
}

impl Local<'_> {
    pub(super) fn steps() -> Self {
        Self { steps: true, ..Self::default() }
    }
}

impl Check<'_> {
    /// Returns what an open part may stand for; nothing for a value that is no open part.
    ///
    /// # Errors
    /// A malformed part, one that has no meaning here, or one that leads nowhere.
    pub(super) fn opened(&self, value: &Json, local: &Local<'_>) -> Result<Option<Vec<Brought>>, String> {
        if let Some(reference) = reference(value)? {
            return if local.steps { self.brought(&reference).map(Some) } else { Err(no_meaning("$from")) };
        }
        if let Some(input) = self.input(value)? {
            return Ok(Some(input));
        }
        let Some((marker, pointer)) = marker(value)? else { return Ok(None) };
        let missing = || no_meaning(marker.name());
        let whole = match marker {
            Marker::Key if local.key => vec![Brought::Type(WitType::String)],
            Marker::Key => return Err(missing()),
            Marker::Item => local.item.clone().ok_or_else(missing)?,
            Marker::In => vec![local.input.clone().ok_or_else(missing)?],
            Marker::Out => vec![Brought::by(local.output.ok_or_else(missing)?)?],
        };
        let name = marker.name();
        let part = |brought: Brought| brought.at(pointer).map_err(|flaw| format!("`{name}` at `{pointer}`: {flaw}"));
        whole.into_iter().map(part).collect::<Result<_, _>>().map(Some)
    }

    /// `{"$input": name}`, within a run within a run.
    fn input(&self, value: &Json) -> Result<Option<Vec<Brought>>, String> {
        let (Some(inputs), Some(fields)) = (&self.inputs, value.as_object()) else { return Ok(None) };
        let Some(name) = fields.get("$input") else { return Ok(None) };
        let (1, Some(name)) = (fields.len(), name.as_str()) else {
            return Err("an input is `{\"$input\": \"name\"}` and nothing beside".to_owned());
        };
        inputs.get(name).cloned().map(Some).ok_or_else(|| format!("input `{name}` is not in `inputs`"))
    }

    /// What a reference may bring: the step's own output, or that of one that stands in for it.
    fn brought(&self, reference: &Reference<'_>) -> Result<Vec<Brought>, String> {
        let at = |brought: Brought| {
            let place = |flaw| format!("reference to `{}{}`: {flaw}", reference.step, reference.path);
            brought.at(reference.path).map_err(place)
        };
        self.outputs(reference.step)?.into_iter().map(at).collect()
    }

    /// What a step may bring, with those that stand in for it.
    pub(super) fn outputs(&self, name: &str) -> Result<Vec<Brought>, String> {
        let Some(named) = self.named.get(name) else {
            let earlier = self.earlier(name).ok_or_else(|| format!("there is no step `{name}`"))?;
            return self.output_of_earlier(name, earlier).map(|output| vec![output]);
        };
        let mut outputs = Vec::new();
        let mut seen = vec![name];
        let mut next = Some(named);
        while let Some(named) = next {
            outputs.push(output_of(named, name)?);
            // A circle is told elsewhere.
            let fallback = named.fallback.as_deref().filter(|fallback| !seen.contains(fallback));
            seen.extend(fallback);
            next = fallback.and_then(|fallback| self.named.get(fallback));
        }
        Ok(outputs)
    }

    pub(super) fn earlier(&self, name: &str) -> Option<&Earlier> {
        name.parse().ok().and_then(|id| self.known.earlier.get(&id))
    }

    fn output_of_earlier(&self, name: &str, earlier: &Earlier) -> Result<Brought, String> {
        if (earlier.tool.component(), earlier.tool.function()) == RUN_TOOL {
            return Ok(Brought::Any);
        }
        let tool = self.known.catalog.tool(&earlier.tool).ok_or_else(|| format!("there is no step `{name}`"))?;
        listed(Brought::by(&tool.tool().returns), earlier.is_list)
    }

    /// Checks a value that no type is expected of: its open parts lead somewhere.
    pub(super) fn untyped(&mut self, at: &str, value: &Json, local: &Local<'_>) {
        if literal(value).is_some() {
            return;
        }
        match self.opened(value, local) {
            Err(flaw) => self.flaw(Kind::DataReference, at, flaw),
            Ok(Some(_)) => {}
            Ok(None) => match value {
                Json::Array(items) => {
                    items.iter().enumerate().for_each(|(n, item)| self.untyped(&format!("{at}/{n}"), item, local));
                }
                Json::Object(fields) => {
                    fields.iter().for_each(|(key, field)| self.untyped(&below(at, key), field, local));
                }
                _ => {}
            },
        }
    }

    /// The same value, its references naming steps by their full ids.
    pub(super) fn renamed(&self, value: &Json) -> Json {
        if literal(value).is_some() {
            return value.clone();
        }
        if let Ok(Some(reference)) = reference(value) {
            let mut fields = value.as_object().cloned().unwrap_or_default();
            fields.insert("$from".into(), self.full_name(reference.step).into());
            return Json::Object(fields);
        }
        match value {
            Json::Array(items) => items.iter().map(|item| self.renamed(item)).collect(),
            Json::Object(fields) => {
                Json::Object(fields.iter().map(|(key, value)| (key.clone(), self.renamed(value))).collect())
            }
            scalar => scalar.clone(),
        }
    }

    /// Returns the JSON pointer to a step.
    pub(super) fn pointer_to(&self, name: &str) -> String {
        self.named.get(name).map_or_else(|| "/steps".to_owned(), |named| format!("/steps/{}", named.n))
    }

    pub(super) fn full_name(&self, name: &str) -> String {
        self.named.get(name).map_or_else(|| name.to_owned(), |named| named.id.to_string())
    }

    /// Reads a condition, and checks that what it looks at is there.
    pub(super) fn condition(&mut self, at: &str, text: &str, item: Option<&[Brought]>) -> Option<Condition> {
        let condition = match Condition::parse(text) {
            Ok(condition) => condition,
            Err(flaw) => {
                self.flaw(Kind::DataCondition, at, format!("condition `{}`: {flaw}", shortened(text)));
                return None;
            }
        };
        for place in condition.places() {
            if let Err(flaw) = self.looked_at(&place, item) {
                self.flaw(Kind::DataReference, at, format!("condition `{}`: {flaw}", shortened(text)));
            }
        }
        Some(condition)
    }

    fn looked_at(&self, place: &Place, item: Option<&[Brought]>) -> Result<(), String> {
        let (whole, name) = match &place.step {
            // What a run answers may be anything, as its steps may bring anything at the place that it names.
            Some(step) if step == ANSWER => return Ok(()),
            Some(step) => (self.found(step)?, format!("steps.{step}")),
            None => (item.ok_or("`item` has a meaning in `for_each` only")?.to_vec(), "item".to_owned()),
        };
        let path: String = place.path.iter().fold(String::new(), |path, part| below(&path, part));
        for brought in whole {
            brought.at(&path).map_err(|flaw| format!("`{name}`: {flaw}"))?;
        }
        Ok(())
    }

    /// What a step that a condition names may bring; nothing is null to it.
    fn found(&self, step: &str) -> Result<Vec<Brought>, String> {
        let is_known = self.named.contains_key(step) || self.earlier(step).is_some();
        match self.outputs(step) {
            Err(flaw) if !is_known => Err(flaw),
            outputs => Ok(outputs.unwrap_or_default()),
        }
    }

    pub(super) fn renamed_condition(&self, condition: &Condition) -> String {
        condition.renamed(&|step| self.full_name(step))
    }
}

fn output_of(named: &Named, name: &str) -> Result<Brought, String> {
    if named.is_run {
        return Ok(Brought::Any);
    }
    let tool = named.tool.as_ref().ok_or_else(|| format!("step `{name}` has no tool"))?;
    listed(Brought::by(&tool.tool().returns), named.is_list)
}

fn listed(brought: Result<Brought, String>, is_list: bool) -> Result<Brought, String> {
    match (brought, is_list) {
        (Ok(Brought::Type(ty)), true) => Ok(Brought::Type(WitType::List(Box::new(ty)))),
        // What each item brings is null.
        (Err(_), true) => Ok(Brought::Any),
        (brought, _) => brought,
    }
}

fn no_meaning(name: &str) -> String {
    format!("`{name}` has no meaning here; data that looks so stands under `$literal`")
}

fn shortened(text: &str) -> String {
    let shown: String = text.chars().take(80).collect();
    if shown.len() < text.len() { format!("{shown}…") } else { shown }
}
