//! One step of a plan, field by field.

use serde::Deserialize;
use serde_json::Map;

use super::flaws::{Flaws, token};
use super::nulls::strip_args;
use crate::domain::{FLAG_CHARS_MAX, FLAGS_MAX, ForEach, Json, OnFailure, PlanStep};
use crate::planner::{ContextPack, strict};

/// Levels of arguments that are written as text: as many as a plan allows.
const ARGS_DEPTH_MAX: usize = 32;

pub(super) fn plan_step(step: Json, place: &str, pack: &ContextPack, flaws: &mut Flaws) -> Option<PlanStep> {
    let Json::Object(fields) = step else { return flaws.none(place, "is not an object") };
    let mut fields = Fields { place, fields, flaws };
    let id = fields.text("id");
    let tool = fields.text("tool");
    let args = fields.args();
    let needs = fields.names("needs");
    let after = fields.names("after");
    let timeout_ms = fields.optional("timeout_ms", "a whole number", Json::as_u64);
    let when = fields.optional("when", "a condition as text", |value| value.as_str().map(str::to_owned));
    let for_each = fields.for_each();
    let on_failure = fields.optional("on_failure", "`fail`, `skip` or `fallback:` with the id of a step", on_failure);
    let approval = fields.optional("approval", "true or false", Json::as_bool);
    let confidence = fields.optional("confidence", "a number from 0 to 1", confidence);
    let flags =
        fields.optional("flags", &format!("a list of at most {FLAGS_MAX} texts of {FLAG_CHARS_MAX} characters"), flags);
    fields.nothing_else();
    let (id, tool, mut args) = (id?, tool?, args?);
    strip_args(&tool, &mut args, pack);
    Some(PlanStep {
        args: Json::Object(args),
        needs: needs?,
        after: after?,
        when: when?,
        for_each: for_each?,
        timeout_ms: timeout_ms?,
        on_failure: on_failure?.unwrap_or_default(),
        approval: approval?.unwrap_or_default(),
        confidence: confidence?,
        flags: flags?.unwrap_or_default(),
        ..bare_step(id, tool)
    })
}

pub(super) fn bare_step(id: String, tool: String) -> PlanStep {
    let args = Json::Object(Map::new());
    PlanStep { id, tool, args, ..PlanStep::default() }
}

/// Whether what was done is taken back is for a person to say.
fn on_failure(value: &Json) -> Option<OnFailure> {
    let on_failure = OnFailure::try_from(value.as_str()?.to_owned()).ok()?;
    (on_failure != OnFailure::Undo).then_some(on_failure)
}

fn confidence(value: &Json) -> Option<f64> {
    value.as_f64().filter(|confidence| (0.0..=1.0).contains(confidence))
}

fn flags(value: &Json) -> Option<Vec<String>> {
    let flags = value.as_array().filter(|flags| flags.len() <= FLAGS_MAX)?;
    let flag = |flag: &Json| {
        Some(flag.as_str()?.trim()).filter(|flag| flag.chars().count() <= FLAG_CHARS_MAX).map(str::to_owned)
    };
    let flags = flags.iter().map(flag).collect::<Option<Vec<String>>>()?;
    Some(flags.into_iter().filter(|flag| !flag.is_empty()).collect())
}

/// The fields of a step, taken one by one. Each method returns nothing where it found a flaw, and noted it.
struct Fields<'a> {
    place: &'a str,
    fields: Map<String, Json>,
    flaws: &'a mut Flaws,
}

impl Fields<'_> {
    fn take(&mut self, key: &str) -> Option<Json> {
        self.fields.remove(key).filter(|value| !value.is_null())
    }

    fn flaw<T>(&mut self, key: &str, what: &str) -> Option<T> {
        self.flaws.none(&format!("{}/{}", self.place, token(key)), what)
    }

    fn text(&mut self, key: &str) -> Option<String> {
        match self.take(key) {
            Some(Json::String(text)) => Some(text),
            Some(_) => self.flaw(key, "is not text"),
            None => self.flaw(key, "is missing"),
        }
    }

    fn args(&mut self) -> Option<Map<String, Json>> {
        match self.take("args") {
            None => Some(Map::new()),
            Some(Json::Object(args)) => Some(args),
            Some(Json::String(text)) => self.written_args(&text),
            Some(_) => self.flaw("args", "is not an object"),
        }
    }

    /// Arguments as JSON text: what a provider is asked for whose schemas have no room for those of the tools.
    fn written_args(&mut self, text: &str) -> Option<Map<String, Json>> {
        match strict::from_json(text, ARGS_DEPTH_MAX) {
            Ok(Json::Object(args)) => Some(args),
            Ok(_) => self.flaw("args", "is not an object"),
            Err(error) => self.flaw("args", &format!("is no JSON object: {error}")),
        }
    }

    fn names(&mut self, key: &str) -> Option<Vec<String>> {
        let Some(names) = self.take(key) else { return Some(vec![]) };
        let names =
            names.as_array().and_then(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect());
        names.or_else(|| self.flaw(key, "is not a list of names of steps"))
    }

    fn for_each(&mut self) -> Option<Option<ForEach>> {
        let Some(value) = self.take("for_each") else { return Some(None) };
        let for_each = ForEach::deserialize(value).ok();
        for_each
            .map(Some)
            .or_else(|| self.flaw("for_each", "is not `{\"in\": list or reference, \"items_max\": number}`"))
    }

    fn optional<T>(&mut self, key: &str, what: &str, read: impl Fn(&Json) -> Option<T>) -> Option<Option<T>> {
        let Some(value) = self.take(key) else { return Some(None) };
        read(&value).map(Some).or_else(|| self.flaw(key, &format!("is not {what}")))
    }

    fn nothing_else(mut self) {
        let unknown: Vec<String> = self.fields.keys().cloned().collect();
        for key in unknown {
            self.flaw::<()>(&key, "is unknown");
        }
    }
}
