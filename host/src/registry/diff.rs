//! What changed from one component to another, field by field.
//!
//! Promises: equal contracts have no changes, different ones at least one; a change names the function and the field, and
//! in a schema the place by JSON pointer. Pure. Leaves to others what to do about a change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::domain::{CallTemplate, Contract, Json, Returns, ToolContract, canonical, excerpt};

use super::pin::{Origin, Pin, PinnedFunction};

/// Characters of a value in a change. A text of a manifest has at most 1,000, so that none is cut: who accepts a change has
/// seen every word of it that a model would read.
const VALUE_CHARS_MAX: usize = 4_096;

/// One thing that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The component, or one of its functions: `csv`, `csv.query`.
    pub of: String,
    pub part: Part,
    /// Where in the part: a JSON pointer in a schema, the name of an import, an ask or a function; empty for all of it.
    pub at: String,
    /// What it was; `None` where it was not there.
    pub before: Option<String>,
    /// What it is; `None` where it is gone.
    pub after: Option<String>,
}

/// The part of a contract that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Name,
    Version,
    Digest,
    Manifest,
    Summary,
    Import,
    Function,
    Export,
    Effect,
    Ask,
    Undo,
    Reconcile,
    Internal,
    InputSchema,
    OutputSchema,
    ErrorType,
    LeftOut,
}

/// Returns what differs between two contracts; no two with different bytes are the same.
///
/// ```
/// # use cofferdam::{domain::Failure, registry::{Options, changes, read}};
/// # fn example(old: &[u8], new: &[u8]) -> Result<(), Failure> {
/// let options = Options::default();
/// for change in changes(&read(old, None, &options)?, &read(new, None, &options)?) {
///     println!("{change}"); // csv.query: input schema: /properties/limit: added {"type":"integer"}
/// }
/// # Ok(())
/// # }
/// ```
pub fn changes(before: &Contract, after: &Contract) -> Vec<Change> {
    let mut changes = compare(&Pin::of(before, Origin::File), &Pin::of(after, Origin::File));
    let mut list = List { of: after.component.clone(), changes: &mut changes };
    list.text(Part::Version, &before.version, &after.version);
    list.text(Part::Manifest, presence(before), presence(after));
    let left_out = |contract: &Contract| contract.left_out.iter().cloned().collect();
    list.map(Part::LeftOut, &left_out(before), &left_out(after));
    for tool in &after.tools {
        let was = before.tool(tool.name.function());
        was.into_iter().for_each(|was| unpinned(was, tool, &mut changes));
    }
    changes.sort_by(|a, b| (&a.of, a.part).cmp(&(&b.of, b.part)));
    changes
}

/// Returns what differs between two pins, sorted by function and part.
pub(super) fn compare(before: &Pin, after: &Pin) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut list = List { of: after.component.clone(), changes: &mut changes };
    list.text(Part::Name, &before.component, &after.component);
    list.optional(Part::Digest, before.digest.map(|d| d.to_string()), after.digest.map(|d| d.to_string()));
    list.text(Part::Summary, &before.summary, &after.summary);
    list.set(Part::Import, &before.imports.iter().cloned().collect(), &after.imports.iter().cloned().collect());
    let names: BTreeSet<_> = before.functions.keys().chain(after.functions.keys()).collect();
    for name in names {
        let mut list = List { of: format!("{}.{name}", after.component), changes: &mut changes };
        match (before.functions.get(name), after.functions.get(name)) {
            (Some(before), Some(after)) => list.function(before, after),
            (was, is) => list.push(Part::Function, name, was.map(words), is.map(words)),
        }
    }
    changes
}

/// What a pin leaves out of a function, and a person who compares wants to know.
fn unpinned(before: &ToolContract, after: &ToolContract, changes: &mut Vec<Change>) {
    let interface = |tool: &ToolContract| tool.export.interface.clone().unwrap_or_default();
    let mut list = List { of: after.name.to_string(), changes };
    list.text(Part::Export, &interface(before), &interface(after));
    list.json(Part::ErrorType, "", &error_type(before), &error_type(after));
}

fn error_type(tool: &ToolContract) -> Json {
    match &tool.returns {
        Returns::Fallible { err: Some(err), .. } => serde_json::to_value(err).unwrap_or_default(),
        _ => Json::Null,
    }
}

fn presence(contract: &Contract) -> &'static str {
    if contract.has_manifest { "yes" } else { "no" }
}

/// The changes of one component or function, as they are found.
struct List<'a> {
    of: String,
    changes: &'a mut Vec<Change>,
}

impl List<'_> {
    fn push(&mut self, part: Part, at: &str, before: Option<String>, after: Option<String>) {
        self.changes.push(Change { of: self.of.clone(), part, at: at.to_owned(), before, after });
    }

    fn optional(&mut self, part: Part, before: Option<String>, after: Option<String>) {
        if before != after {
            self.push(part, "", before, after);
        }
    }

    fn text(&mut self, part: Part, before: &str, after: &str) {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        self.optional(part, some(before), some(after));
    }

    fn set(&mut self, part: Part, before: &BTreeSet<String>, after: &BTreeSet<String>) {
        for gone in before.difference(after) {
            self.push(part, gone, Some(gone.clone()), None);
        }
        for new in after.difference(before) {
            self.push(part, new, None, Some(new.clone()));
        }
    }

    fn map(&mut self, part: Part, before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) {
        let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        for key in keys.into_iter().filter(|key| before.get(*key) != after.get(*key)) {
            self.push(part, key, before.get(key).cloned(), after.get(key).cloned());
        }
    }

    fn function(&mut self, before: &PinnedFunction, after: &PinnedFunction) {
        self.text(Part::Summary, &before.summary, &after.summary);
        let effect = |pin: &PinnedFunction| pin.effect_declared.map(|effect| effect.to_string());
        self.optional(Part::Effect, effect(before), effect(after));
        self.set(Part::Ask, &asks(before), &asks(after));
        self.template(Part::Undo, before.undo.as_ref(), after.undo.as_ref());
        self.template(Part::Reconcile, before.reconcile.as_ref(), after.reconcile.as_ref());
        let internal = |pin: &PinnedFunction| if pin.is_internal { "yes" } else { "no" };
        self.text(Part::Internal, internal(before), internal(after));
        self.json(Part::InputSchema, "", &before.input_schema, &after.input_schema);
        self.json(Part::OutputSchema, "", &before.output_schema, &after.output_schema);
    }

    fn template(&mut self, part: Part, before: Option<&CallTemplate>, after: Option<&CallTemplate>) {
        let told = |template: &CallTemplate| format!("{} {}", template.tool, shown(&template.args));
        self.optional(part, before.map(told), after.map(told));
    }

    /// Goes down as far as both sides have the same form. Recursion is bounded by whatever parsed or made the values.
    fn json(&mut self, part: Part, at: &str, before: &Json, after: &Json) {
        match (before, after) {
            _ if before == after => {}
            (Json::Object(was), Json::Object(is)) => {
                let keys: BTreeSet<_> = was.keys().chain(is.keys()).collect();
                for key in keys {
                    let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                    match (was.get(key), is.get(key)) {
                        (Some(was), Some(is)) => self.json(part, &at, was, is),
                        (was, is) => self.push(part, &at, was.map(shown), is.map(shown)),
                    }
                }
            }
            (Json::Array(was), Json::Array(is)) if was.len() == is.len() && is.iter().any(is_nested) => {
                for (n, (was, is)) in was.iter().zip(is).enumerate() {
                    self.json(part, &format!("{at}/{n}"), was, is);
                }
            }
            (Json::Array(was), Json::Array(is)) => self.items(part, at, was, is),
            _ => self.push(part, at, Some(shown(before)), Some(shown(after))),
        }
    }

    /// Items of a list, such as the names of what is required, whatever their order.
    fn items(&mut self, part: Part, at: &str, before: &[Json], after: &[Json]) {
        let set = |items: &[Json]| items.iter().map(canonical).collect::<BTreeSet<_>>();
        let (was, is) = (set(before), set(after));
        if was == is {
            let whole = |items: &[Json]| Some(shown(&items.to_vec().into()));
            return self.push(part, at, whole(before), whole(after));
        }
        for gone in was.difference(&is) {
            self.push(part, at, Some(cut(gone)), None);
        }
        for new in is.difference(&was) {
            self.push(part, at, None, Some(cut(new)));
        }
    }
}

fn asks(pin: &PinnedFunction) -> BTreeSet<String> {
    pin.asks.iter().map(ToString::to_string).collect()
}

fn is_nested(value: &Json) -> bool {
    value.is_object() || value.is_array()
}

fn shown(value: &Json) -> String {
    excerpt(value, VALUE_CHARS_MAX)
}

/// What a function that came or went says of itself.
fn words(function: &PinnedFunction) -> String {
    cut(&format!("{} {}", function.summary, canonical(&function.input_schema)))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

impl Change {
    /// Returns where it is and what happened there, without what it was and is: those are a component's own words, which
    /// nobody but the person who compares should read.
    pub fn place(&self) -> String {
        let happened = match (&self.before, &self.after) {
            (Some(_), None) => "removed",
            (None, _) => "added",
            (Some(_), Some(_)) => "changed",
        };
        format!("{}{happened}", self.begin())
    }

    fn begin(&self) -> String {
        match (self.part, self.at.as_str()) {
            (Part::Function, _) => format!("{}: ", self.of),
            (part, "") => format!("{}: {part}: ", self.of),
            (part, at) => format!("{}: {part}: {at}: ", self.of),
        }
    }

    /// A value that came or went, where its place does not tell it already.
    fn told(&self, value: &str) -> String {
        if value == self.at { String::new() } else { format!(" {}", cut(value)) }
    }
}

impl fmt::Display for Change {
    /// One line: `csv.query: input schema: /properties/limit: added {"type":"integer"}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => {
                write!(f, "{}{} → {}", self.begin(), cut(before), cut(after))
            }
            (before, after) => {
                let value = before.as_ref().or(after.as_ref()).map_or(String::new(), |value| self.told(value));
                write!(f, "{}{value}", self.place())
            }
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "name",
            Self::Version => "version",
            Self::Digest => "digest",
            Self::Manifest => "manifest",
            Self::Summary => "summary",
            Self::Import => "import",
            Self::Function => "function",
            Self::Export => "interface",
            Self::Effect => "declared effect",
            Self::Ask => "asks",
            Self::Undo => "undo",
            Self::Reconcile => "reconcile",
            Self::Internal => "internal",
            Self::InputSchema => "input schema",
            Self::OutputSchema => "output schema",
            Self::ErrorType => "error type",
            Self::LeftOut => "not a tool",
        })
    }
}
