//! Which of many tools may a goal be about? Ranks them by the words that they share with it (BM25 over fields).
//!
//! Promises: no I/O, no clock, no chance: equal tools and words give an equal ranking, with ties by name, in whatever order
//! the tools come. Words are compared without their endings (`words.rs`); those that mean nearly the same count for less
//! (`kin.rs`). Leaves to others: which tools there are, and whether one may be used. What a tool says of itself can move it
//! up and down in the ranking, and nothing else: policy decides about calls.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{Json, ToolName};

use super::{OfferedTool, Retrieval};

#[cfg(test)]
mod corpus;
mod kin;
#[cfg(test)]
mod tests;
pub(super) mod words;

use words::{query_terms, terms};

/// How soon one more occurrence of a word stops to count: the usual value.
const SATURATION: f64 = 1.2;

/// What a word counts that means nearly what was asked for.
const KIN_WEIGHT: f64 = 0.4;

/// What a word counts that begins like one that was asked for.
const PREFIX_WEIGHT: f64 = 0.5;

/// Letters that two words must share from the beginning to count as relatives.
const PREFIX_CHARS_MIN: usize = 4;

/// Letters that one of them may have more.
const PREFIX_CHARS_MORE_MAX: usize = 5;

/// Words of a goal that are looked at: what comes after so many is detail.
const QUERY_TERMS_MAX: usize = 256;

/// Levels of an input schema whose words are read.
const SCHEMA_DEPTH_MAX: usize = 5;

/// Scores are whole numbers of this part, so that no last digit of a machine decides a tie.
const SCORE_PARTS: f64 = 1e6;

/// Where the names of arguments stand among the fields of a tool: after its name and its summary.
const ARGUMENTS: usize = 2;

/// Where the texts and listed values of arguments stand.
const TEXTS: usize = 3;

/// A field's weight, and how much a long one counts for less. Names are chosen with most care, and texts of arguments
/// repeat themselves.
const FIELDS: [(f64, f64); 4] = [(2.6, 0.35), (2.0, 0.6), (0.9, 0.5), (0.5, 0.7)];

/// Occurrences of a word in one field that count: more is no description.
const OCCURRENCES_MAX: usize = 3;

/// What a tool loses of its score whose function's name says nothing of what was asked for; where half of its words do, it
/// loses half of this. It tells `delete-issue` from `list-issues` where nobody spoke of deleting.
const NAME_SHARE: f64 = 0.35;

/// Tools by the words that they are found by.
pub struct Index {
    names: Vec<ToolName>,
    /// How many words the function of each has in its name.
    name_words: Vec<usize>,
    /// For each word, the tools that have it. Sorted, so that relatives stand together.
    postings: BTreeMap<String, Vec<Posting>>,
}

/// A tool that has a word.
struct Posting {
    at: usize,
    /// How much the word counts in it.
    weight: f64,
    is_in_name: bool,
}

/// A tool and how well it fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranked {
    /// Which of the tools that were indexed.
    pub at: usize,
    /// In millionths; 0 where nothing fits.
    pub score: u64,
}

impl Index {
    /// Makes an index.
    pub fn of(tools: &[OfferedTool]) -> Self {
        let fields: Vec<[Vec<String>; 4]> = tools.iter().map(fields).collect();
        let mean = |field: usize| {
            let words: usize = fields.iter().map(|fields| fields[field].len()).sum();
            (words as f64 / tools.len().max(1) as f64).max(1.0)
        };
        let means = [mean(0), mean(1), mean(2), mean(3)];
        let mut postings: BTreeMap<String, Vec<Posting>> = BTreeMap::new();
        let mut name_words = Vec::new();
        for (at, (fields, tool)) in fields.iter().zip(tools).enumerate() {
            let name = function_words(&tool.name);
            for (term, weight) in weights(fields, &means) {
                let posting = Posting { at, weight, is_in_name: name.contains(term) };
                postings.entry(term.to_owned()).or_default().push(posting);
            }
            name_words.push(name.len());
        }
        Self { names: tools.iter().map(|tool| tool.name.clone()).collect(), name_words, postings }
    }

    /// Returns all tools, the one that fits best first, ties by name.
    pub fn rank(&self, query: &str) -> Vec<Ranked> {
        let mut scores = vec![0.0; self.names.len()];
        let mut named: Vec<BTreeSet<&str>> = vec![BTreeSet::new(); self.names.len()];
        let query = distinct(query_terms(query));
        for term in &query {
            for (at, score) in self.scores_of(term, &mut named) {
                scores[at] += score;
            }
        }
        let share = |at: usize| named[at].len() as f64 / self.name_words[at].max(1) as f64;
        let whole = |(at, score): (usize, f64)| {
            let score = score * (1.0 - NAME_SHARE * (1.0 - share(at)));
            Ranked { at, score: (score * SCORE_PARTS).round() as u64 }
        };
        let mut ranked: Vec<Ranked> = scores.into_iter().enumerate().map(whole).collect();
        ranked.sort_by(|a, b| (Reverse(a.score), &self.names[a.at]).cmp(&(Reverse(b.score), &self.names[b.at])));
        ranked
    }

    /// What one word of a query gives each tool: for the word itself, or for the best of its relatives. Notes which words of
    /// their names it found.
    fn scores_of<'a>(&'a self, term: &'a str, named: &mut [BTreeSet<&'a str>]) -> BTreeMap<usize, f64> {
        let own = self.postings.get_key_value(term);
        // A rare relative does not count for more than the word would.
        let rarity_max = own.map_or(f64::INFINITY, |(_, own)| self.rarity(own.len()));
        let own = own.map(|(own, _)| (own.as_str(), 1.0));
        let mut scores = BTreeMap::new();
        for (term, part) in own.into_iter().chain(self.relatives(term)) {
            let Some((term, postings)) = self.postings.get_key_value(term) else { continue };
            let rarity = self.rarity(postings.len()).min(rarity_max);
            for Posting { at, weight, is_in_name } in postings {
                let score = part * rarity * weight * (SATURATION + 1.0) / (weight + SATURATION);
                let best = scores.entry(*at).or_insert(0.0_f64);
                *best = best.max(score);
                if *is_in_name {
                    named[*at].insert(term);
                }
            }
        }
        scores
    }

    fn relatives<'a>(&'a self, term: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        let kin = kin::kin(term).iter().map(|kin| (kin.as_str(), KIN_WEIGHT));
        let length = |text: &str| text.chars().count();
        let is_long = length(term) >= PREFIX_CHARS_MIN;
        let near = move |other: &str| other != term && length(other).abs_diff(length(term)) <= PREFIX_CHARS_MORE_MAX;
        let longer = self.postings.range(term.to_owned()..).map(|(other, _)| other.as_str());
        let longer = longer.take_while(move |other| other.starts_with(term)).filter(move |_| is_long);
        let shorter =
            term.char_indices().map(|(end, _)| &term[..end]).filter(move |part| length(part) >= PREFIX_CHARS_MIN);
        let prefixes = longer.chain(shorter).filter(move |other| near(other));
        kin.chain(prefixes.map(|other| (other, PREFIX_WEIGHT)))
    }

    /// How much a word tells that so many tools have.
    fn rarity(&self, tools: usize) -> f64 {
        let (all, with) = (self.names.len() as f64, tools as f64);
        ((all - with + 0.5) / (with + 0.5)).ln_1p()
    }
}

/// The words of a function's name, without those of its component: whose tool it is, few goals say.
fn function_words(name: &ToolName) -> BTreeSet<String> {
    let of_component = terms(name.component());
    let all: BTreeSet<String> = terms(name.function()).into_iter().collect();
    let own: BTreeSet<String> = all.iter().filter(|term| !of_component.contains(term)).cloned().collect();
    if own.is_empty() { all } else { own }
}

/// What a tool says, in terms, by field.
fn fields(tool: &OfferedTool) -> [Vec<String>; 4] {
    let mut fields = [terms(&tool.name.to_string()), terms(&tool.summary), Vec::new(), Vec::new()];
    describe(&tool.input_schema, SCHEMA_DEPTH_MAX, &mut fields);
    fields
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

/// How much each word of a tool counts in it, over its fields.
fn weights<'a>(fields: &'a [Vec<String>; 4], means: &[f64; 4]) -> BTreeMap<&'a str, f64> {
    let mut weights = BTreeMap::new();
    for ((field, mean), (weight, shortening)) in fields.iter().zip(means).zip(FIELDS) {
        let length = 1.0 - shortening + shortening * field.len() as f64 / mean;
        let mut occurrences: BTreeMap<&str, usize> = BTreeMap::new();
        field.iter().for_each(|term| *occurrences.entry(term).or_default() += 1);
        for (term, count) in occurrences {
            *weights.entry(term).or_insert(0.0) += weight * count.min(OCCURRENCES_MAX) as f64 / length;
        }
    }
    weights
}

fn distinct(terms: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    terms.into_iter().filter(|term| seen.insert(term.clone())).take(QUERY_TERMS_MAX).collect()
}

/// The tools that are offered, and how they were found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Sorted by name.
    pub tools: Vec<OfferedTool>,
    /// Their names, the one that fits best first: whoever must leave some out begins at the end.
    pub order: Vec<ToolName>,
    pub retrieval: Retrieval,
}

/// Chooses the tools that fit `query` best: at most `tools_max`, and all where there are no more. Those in `kept` are among
/// them, even where they are more: a run goes on with what it has used.
pub fn top_k(query: &str, tools: Vec<OfferedTool>, kept: &BTreeSet<ToolName>, tools_max: usize) -> Found {
    let ranked = Index::of(&tools).rank(query);
    let is_kept = |ranked: &Ranked| kept.contains(&tools[ranked.at].name);
    let kept_count = ranked.iter().filter(|ranked| is_kept(ranked)).count();
    let mut room = tools_max.saturating_sub(kept_count);
    let mut chosen: Vec<Ranked> = Vec::new();
    for one in ranked {
        if is_kept(&one) {
            chosen.push(one);
        } else if room > 0 {
            room -= 1;
            chosen.push(one);
        }
    }
    let order: Vec<ToolName> = chosen.iter().map(|one| tools[one.at].name.clone()).collect();
    let retrieval = retrieval(&chosen, &order, tools.len());
    let names: BTreeSet<&ToolName> = order.iter().collect();
    let mut tools: Vec<OfferedTool> = tools.into_iter().filter(|tool| names.contains(&tool.name)).collect();
    tools.sort_by(|a, b| a.name.cmp(&b.name));
    Found { tools, order, retrieval }
}

fn retrieval(chosen: &[Ranked], order: &[ToolName], tools: usize) -> Retrieval {
    let best = chosen.first().map_or(0, |one| one.score);
    let is_near = |one: &&(&Ranked, &ToolName)| one.0.score.saturating_mul(2) >= best;
    let near = chosen.iter().zip(order).collect::<Vec<_>>();
    let near = near.iter().take_while(is_near).map(|(_, name)| (*name).clone()).collect();
    let ahead = |second: u64| (best - second).saturating_mul(1_000).checked_div(best).unwrap_or(0);
    let margin = chosen.get(1).map_or(1_000, |second| ahead(second.score));
    Retrieval {
        tools: u32::try_from(tools).unwrap_or(u32::MAX),
        near,
        margin_permille: u32::try_from(margin).unwrap_or(1_000),
    }
}
