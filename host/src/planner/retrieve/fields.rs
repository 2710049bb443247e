//! What a tool says of itself, by field, and how much each word of it counts.

use std::collections::{BTreeSet, HashMap};

use crate::domain::{Json, ToolName};
use crate::planner::OfferedTool;

use super::words::terms;

/// Levels of an input schema whose words are read.
const SCHEMA_DEPTH_MAX: usize = 5;

/// Where the names of arguments stand among the fields of a tool: after its name and its summary.
const ARGUMENTS: usize = 2;

/// Where the texts and listed values of arguments stand.
const TEXTS: usize = 3;

/// A field's weight, and how much a long one counts for less. Names are chosen with most care, and texts of arguments
/// repeat themselves.
const WEIGHTS: [(f64, f64); 4] = [(3.4, 0.35), (1.6, 0.7), (0.8, 0.4), (0.6, 0.65)];

/// Occurrences of a word in one field that count: more is no description.
const OCCURRENCES_MAX: usize = 3;

/// The terms of a tool's name, its summary, the names of its arguments, and their texts.
pub(super) struct Fields([Vec<String>; 4]);

impl Fields {
    pub(super) fn of(tool: &OfferedTool) -> Self {
        let mut fields = [terms(&tool.name.to_string()), terms(&tool.summary), Vec::new(), Vec::new()];
        describe(&tool.input_schema, SCHEMA_DEPTH_MAX, &mut fields);
        Self(fields)
    }

    /// Returns how many terms a tool has in each field, on average; at least 1.
    pub(super) fn means(tools: &[Self]) -> [f64; 4] {
        std::array::from_fn(|field| {
            let words: usize = tools.iter().map(|fields| fields.0[field].len()).sum();
            (words as f64 / tools.len().max(1) as f64).max(1.0)
        })
    }

    /// Returns how much each word counts, and each two that stand together, over all fields. Texts of arguments are too long
    /// for pairs.
    pub(super) fn weights(&self, means: &[f64; 4]) -> HashMap<String, f64> {
        let mut weights = HashMap::new();
        for (at, (weight, shortening)) in WEIGHTS.into_iter().enumerate() {
            let field = &self.0[at];
            let length = 1.0 - shortening + shortening * field.len() as f64 / means[at];
            let pairs = field.windows(if at == TEXTS { usize::MAX } else { 2 }).map(<[String]>::concat);
            let mut occurrences: HashMap<String, usize> = HashMap::new();
            field.iter().cloned().chain(pairs).for_each(|term| *occurrences.entry(term).or_default() += 1);
            for (term, count) in occurrences {
                *weights.entry(term).or_insert(0.0) += weight * count.min(OCCURRENCES_MAX) as f64 / length;
            }
        }
        weights
    }
}

/// The words of a function's name, without those of its component: whose tool it is, few goals say.
pub(super) fn function_words(name: &ToolName) -> BTreeSet<String> {
    let of_component = terms(name.component());
    let all: BTreeSet<String> = terms(name.function()).into_iter().collect();
    let own: BTreeSet<String> = all.iter().filter(|term| !of_component.contains(term)).cloned().collect();
    if own.is_empty() { all } else { own }
}

/// Takes names, texts and listed values from a schema.
fn describe(schema: &Json, depth_left: usize, fields: &mut [Vec<String>; 4]) {
    let Some(depth_left) = depth_left.checked_sub(1) else { return };
    for text in [&schema["title"], &schema["description"]].into_iter().filter_map(Json::as_str) {
        fields[TEXTS].extend(terms(text));
    }
    for value in schema["enum"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        fields[TEXTS].extend(terms(value));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        fields[ARGUMENTS].extend(terms(name));
        describe(property, depth_left, fields);
    }
    for key in ["anyOf", "oneOf", "allOf", "prefixItems"] {
        schema[key].as_array().into_iter().flatten().for_each(|part| describe(part, depth_left, fields));
    }
    if schema["items"].is_object() {
        describe(&schema["items"], depth_left, fields);
    }
}
