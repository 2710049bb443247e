//! The lock: the pins of all components, in a file that its users check in.
//!
//! Promises: equal pins give equal text, in which each thing has its line; a lock that was edited or merged wrongly is
//! refused rather than half believed; what differs from its pin is named field by field. Pure: reading and writing the
//! file is left to `host`, and what happens to a component that differs to whoever holds the catalog.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use toml_edit::{Array, DocumentMut, Item, Table, value};

use crate::domain::{Ask, CallTemplate, Contract, Digest, Effect, Failure, Json, Kind, ToolName, canonical};

use super::diff::{Change, compare};
use super::pin::{Origin, Pin, PinnedFunction};

/// Bytes of a lock: a hundred components of some fifty functions each fit, a data file given by mistake does not.
pub const LOCK_BYTES_MAX: usize = 16 << 20;

/// Components in one lock: more than one host loads.
const PINS_MAX: usize = 1_000;

/// Changes that one failure lists: a person reads no more before looking at `diff`.
const CHANGES_SHOWN_MAX: usize = 8;

/// What stands at the top of the file, for whoever comes upon it.
const HEADER: &str = "# What the tools of the settings beside this file were when somebody accepted them. A tool that differs is not called.\n# `cofferdam lock` writes it, `cofferdam lock --accept` after a change. Check it in.\n";

/// The pins of all components, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lock {
    pins: BTreeMap<String, Pin>,
}

/// How a component stands to its pin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PinState {
    /// It is what was pinned.
    Pinned,
    /// There is a lock, which knows nothing of it.
    Absent,
    /// It is not what was pinned.
    Drifted { changes: Vec<Change> },
}

/// Returns what differs between a component and its pin; nothing where it has none, or is the same.
pub fn drift(lock: &Lock, contract: &Contract, origin: Origin) -> Vec<Change> {
    lock.pins.get(&contract.component).map(|pin| compare(pin, &Pin::of(contract, origin))).unwrap_or_default()
}

impl Lock {
    /// Reads a lock from its text.
    ///
    /// # Errors
    /// `data.config`: too large, another version, an unknown key, a name that is none, a schema that is not the one of its
    /// digest.
    ///
    /// ```
    /// use cofferdam::registry::Lock;
    ///
    /// assert_eq!(Lock::parse("version = 0")?.components().count(), 0);
    /// assert!(Lock::parse("version = 7").is_err());
    /// # Ok::<(), cofferdam::domain::Failure>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, Failure> {
        if text.len() > LOCK_BYTES_MAX {
            return Err(wrong(format!("it has {} bytes, more than the {LOCK_BYTES_MAX} allowed", text.len())));
        }
        let found = toml::from_str::<Version>(text).map_err(|e| wrong(e.to_string()))?.version;
        if found != 0 {
            return Err(wrong(format!("it is of version {found}, and this program knows version 0")));
        }
        let file: File = toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
        if file.component.len() > PINS_MAX {
            return Err(wrong(format!(
                "it pins {} components, more than the {PINS_MAX} allowed",
                file.component.len()
            )));
        }
        let pins = file.component.into_iter().map(|(name, part)| Ok((name.clone(), part.pin(name)?)));
        Ok(Self { pins: pins.collect::<Result<_, String>>().map_err(wrong)? })
    }

    /// Returns the text of the file: components and functions sorted, one thing a line.
    pub fn to_text(&self) -> String {
        let mut document = DocumentMut::new();
        document["version"] = value(0);
        let mut components = Table::new();
        components.set_implicit(true);
        for (name, pin) in &self.pins {
            components.insert(name, Item::Table(component_table(pin)));
        }
        if !self.pins.is_empty() {
            document.insert("component", Item::Table(components));
        }
        format!("{HEADER}{document}")
    }

    /// Returns the names of the pinned components, sorted.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.pins.keys().map(String::as_str)
    }

    /// Pins a component, in place of what was pinned of it.
    pub fn pin(&mut self, contract: &Contract, origin: Origin) {
        self.pins.insert(contract.component.clone(), Pin::of(contract, origin));
    }

    /// Forgets a component.
    pub fn forget(&mut self, component: &str) {
        self.pins.remove(component);
    }

    /// Answers how a component stands to its pin.
    pub fn state(&self, contract: &Contract, origin: Origin) -> PinState {
        if !self.pins.contains_key(&contract.component) {
            return PinState::Absent;
        }
        let changes = drift(self, contract, origin);
        if changes.is_empty() { PinState::Pinned } else { PinState::Drifted { changes } }
    }
}

impl PinState {
    /// Returns why the tools of `component` may not be called; `None` where they may. It names what changed and quotes none of
    /// it: a planner may read it, and a description may have been changed for its eyes.
    pub fn refusal(&self, component: &str) -> Option<Failure> {
        let refused = |what: String| Failure::new(Kind::LoadPinned, format!("call the tools of `{component}`: {what}"));
        match self {
            Self::Pinned => None,
            Self::Absent => Some(refused("the lock does not pin it".into()).hint(format!(
                "look at it with `cofferdam inspect`, then pin it with `cofferdam lock`; what to call of `{component}` is policy's word as before"
            ))),
            Self::Drifted { changes } => {
                let shown = changes.iter().take(CHANGES_SHOWN_MAX).map(|change| format!("\n{}", change.place())).collect::<String>();
                let more = changes.len().saturating_sub(CHANGES_SHOWN_MAX);
                let more = if more > 0 { format!("\n… and {more} more: see `cofferdam lock --check`") } else { String::new() };
                Some(refused(format!("it is not what the lock pins{shown}{more}")).hint(format!(
                    "if the change is wanted, accept it with `cofferdam lock --accept {component}`; else put the pinned component back"
                )))
            }
        }
    }
}

/// The version alone: later versions may have keys unknown here.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// The file, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "version")]
    _version: u32,
    #[serde(default)]
    component: BTreeMap<String, ComponentPart>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ComponentPart {
    digest: Option<Digest>,
    #[serde(default)]
    summary: String,
    imports: BTreeSet<String>,
    #[serde(default)]
    function: BTreeMap<String, FunctionPart>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FunctionPart {
    #[serde(default)]
    summary: String,
    effect: Option<Effect>,
    asks: BTreeSet<Ask>,
    input: Digest,
    input_schema: String,
    output: Digest,
    output_schema: String,
    undo: Option<String>,
    reconcile: Option<String>,
    #[serde(default)]
    internal: bool,
}

impl ComponentPart {
    fn pin(self, component: String) -> Result<Pin, String> {
        ToolName::new(&component, "any")?;
        let functions = self.function.into_iter().map(|(name, part)| {
            let place = ToolName::new(&component, &name)?;
            Ok((name, part.pinned(&place)?))
        });
        let functions = functions.collect::<Result<_, String>>()?;
        let imports = self.imports.into_iter().collect();
        Ok(Pin { component, digest: self.digest, summary: self.summary, imports, functions })
    }
}

impl FunctionPart {
    fn pinned(self, place: &ToolName) -> Result<PinnedFunction, String> {
        Ok(PinnedFunction {
            summary: self.summary,
            effect_declared: self.effect,
            asks: self.asks,
            input_schema: schema(&self.input_schema, self.input)
                .map_err(|why| format!("{place}: input schema: {why}"))?,
            output_schema: schema(&self.output_schema, self.output)
                .map_err(|why| format!("{place}: output schema: {why}"))?,
            undo: template(self.undo).map_err(|why| format!("{place}: undo: {why}"))?,
            reconcile: template(self.reconcile).map_err(|why| format!("{place}: reconcile: {why}"))?,
            is_internal: self.internal,
        })
    }
}

/// Reads a schema. Its digest stands beside it so that a bad merge is seen, and one line tells that it changed.
fn schema(text: &str, digest: Digest) -> Result<Json, String> {
    let schema: Json = serde_json::from_str(text).map_err(|e| e.to_string())?;
    if Digest::of_json(&schema) != digest {
        return Err("its digest is that of another one".into());
    }
    Ok(schema)
}

fn template(text: Option<String>) -> Result<Option<CallTemplate>, String> {
    text.map(|text| serde_json::from_str(&text)).transpose().map_err(|error| error.to_string())
}

fn wrong(why: String) -> Failure {
    Failure::new(Kind::DataConfig, format!("read the lock: {why}")).hint(
        "take the file back from version control, or look at the tools and write it anew with `cofferdam lock --accept`",
    )
}

fn component_table(pin: &Pin) -> Table {
    let mut table = Table::new();
    if let Some(digest) = pin.digest {
        table["digest"] = value(digest.to_string());
    }
    table["summary"] = value(&pin.summary);
    table["imports"] = value(lines(pin.imports.iter()));
    let mut functions = Table::new();
    functions.set_implicit(true);
    for (name, function) in &pin.functions {
        functions.insert(name, Item::Table(function_table(function)));
    }
    table.insert("function", Item::Table(functions));
    table
}

fn function_table(pin: &PinnedFunction) -> Table {
    let mut table = Table::new();
    table["summary"] = value(&pin.summary);
    if let Some(effect) = pin.effect_declared {
        table["effect"] = value(effect.to_string());
    }
    table["asks"] = value(pin.asks.iter().map(ToString::to_string).collect::<Array>());
    for (name, template) in [("undo", &pin.undo), ("reconcile", &pin.reconcile)] {
        if let Some(template) = template {
            table[name] = value(template_text(template));
        }
    }
    if pin.is_internal {
        table["internal"] = value(true);
    }
    for (name, schema) in [("input", &pin.input_schema), ("output", &pin.output_schema)] {
        table[name] = value(Digest::of_json(schema).to_string());
        table[&format!("{name}_schema")] = value(sorted_text(schema));
    }
    table
}

/// On one line, as JSON: TOML knows neither null nor the larger numbers.
fn template_text(template: &CallTemplate) -> String {
    canonical(&serde_json::json!({ "tool": template.tool, "args": template.args }))
}

/// An array with a line for each item, so that one more is one line more.
fn lines(items: impl Iterator<Item = impl Into<String>>) -> Array {
    let mut array: Array = items.map(Into::into).collect();
    array.iter_mut().for_each(|item| item.decor_mut().set_prefix("\n    "));
    if !array.is_empty() {
        array.set_trailing("\n");
        array.set_trailing_comma(true);
    }
    array
}

/// The schema over several lines, with its keys in byte order whatever map it was built with.
fn sorted_text(schema: &Json) -> String {
    serde_json::to_string_pretty(&sorted(schema)).map_or_else(|_| schema.to_string(), |text| text + "\n")
}

fn sorted(value: &Json) -> Json {
    match value {
        Json::Array(items) => items.iter().map(sorted).collect(),
        Json::Object(fields) => {
            let ordered: BTreeMap<_, _> = fields.iter().collect();
            ordered.into_iter().map(|(key, field)| (key.clone(), sorted(field))).collect()
        }
        scalar => scalar.clone(),
    }
}
