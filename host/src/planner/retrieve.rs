//! Which of many tools may a goal be about? Ranks them by the words that they share with it (BM25 over fields).
//!
//! Promises: no I/O, no clock, no chance: equal tools and words give an equal ranking, with ties by name, in whatever order
//! the tools come. Words are compared without their endings (`words.rs`); those that mean nearly the same count for less
//! (`kin.rs`). What a tool says is read in `fields.rs`, what a goal asks for in `query.rs`. Leaves to others: which tools there are, and whether one may be used. What a tool says of itself can move it
//! up and down in the ranking, and nothing else: policy decides about calls.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::domain::ToolName;

use super::{OfferedTool, Retrieval};

#[cfg(test)]
mod corpus;
mod fields;
mod kin;
mod query;
#[cfg(test)]
mod recall;
#[cfg(test)]
mod tests;
pub(super) mod words;

use fields::{Fields, function_words};
use query::Term;

/// How soon one more occurrence of a word stops to count: a little sooner than usual, as descriptions are short.
const SATURATION: f64 = 0.95;

/// What a word counts that means nearly what was asked for.
const KIN_WEIGHT: f64 = 0.3;

/// What a word counts that begins like one that was asked for.
const PREFIX_WEIGHT: f64 = 0.5;

/// Letters that two words must share from the beginning to count as relatives.
const PREFIX_CHARS_MIN: usize = 4;

/// Letters that one of them may have more.
const PREFIX_CHARS_MORE_MAX: usize = 5;

/// Scores are whole numbers of this part, so that no last digit of a machine decides a tie.
const SCORE_PARTS: f64 = 1e6;

/// What a tool loses of its score whose function's name says nothing of what was asked for; where words do that tell half
/// of what the name tells, it loses half of this. It tells `delete-issue` from `list-issues` where nobody spoke of deleting.
const NAME_SHARE: f64 = 0.35;

/// What the part of a goal counts that a tool fits best, next to the whole goal.
const PART_WEIGHT: f64 = 1.0;

/// Tools by the words that they are found by.
pub struct Index {
    names: Vec<ToolName>,
    /// How much the words of each function's name tell together.
    name_tells: Vec<f64>,
    /// Sorted, so that relatives stand together.
    terms: Vec<String>,
    /// For each term, the tools that have it.
    postings: Vec<Vec<Posting>>,
}

/// A tool that has a word.
struct Posting {
    at: usize,
    /// How much the word counts in it.
    weight: f64,
    is_in_name: bool,
}

/// What looking for one word found.
struct Finds {
    /// What it gives to each tool that has it, or a relative of it.
    scores: Vec<(usize, f64)>,
    /// Tools that have it in their names, and the term that they have there.
    named: Vec<(usize, usize)>,
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
        let fields: Vec<Fields> = tools.iter().map(Fields::of).collect();
        let means = Fields::means(&fields);
        let names: Vec<BTreeSet<String>> = tools.iter().map(|tool| function_words(&tool.name)).collect();
        let mut postings: HashMap<String, Vec<Posting>> = HashMap::new();
        for (at, (fields, name)) in fields.iter().zip(&names).enumerate() {
            for (term, weight) in fields.weights(&means) {
                let posting = Posting { at, weight, is_in_name: name.contains(&term) };
                postings.entry(term).or_default().push(posting);
            }
        }
        let mut postings: Vec<(String, Vec<Posting>)> = postings.into_iter().collect();
        postings.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let (terms, postings) = postings.into_iter().unzip();
        let names_of_tools = tools.iter().map(|tool| tool.name.clone()).collect();
        let index = Self { names: names_of_tools, name_tells: Vec::new(), terms, postings };
        let tells =
            |name: &BTreeSet<String>| name.iter().filter_map(|term| index.find(term)).map(|id| index.rarity(id)).sum();
        let name_tells = names.iter().map(tells).collect();
        Self { name_tells, ..index }
    }

    /// Returns all tools, the one that fits best first, ties by name. A goal that asks for several things finds what fits it
    /// as a whole, and what fits one of them.
    pub fn rank(&self, query: &str) -> Vec<Ranked> {
        let parts = query::parts(query);
        let whole = parts.concat();
        let finds: BTreeMap<&str, Finds> =
            whole.iter().map(|term| (term.text.as_str(), self.look_for(&term.text))).collect();
        let mut scores = self.scores(&whole, &finds);
        if parts.len() > 1 {
            let best = highest(&scores);
            let parts = parts.iter().map(|part| levelled(self.scores(part, &finds), best));
            let of_parts = parts.reduce(|one, other| one.into_iter().zip(other).map(|(a, b)| a.max(b)).collect());
            for (score, of_part) in scores.iter_mut().zip(of_parts.into_iter().flatten()) {
                *score += PART_WEIGHT * of_part;
            }
        }
        let ranked = |(at, score): (usize, f64)| Ranked { at, score: (score * SCORE_PARTS).round() as u64 };
        let mut ranked: Vec<Ranked> = scores.into_iter().enumerate().map(ranked).collect();
        ranked.sort_by(|a, b| (Reverse(a.score), &self.names[a.at]).cmp(&(Reverse(b.score), &self.names[b.at])));
        ranked
    }

    /// What `terms` give each tool.
    fn scores(&self, terms: &[Term], finds: &BTreeMap<&str, Finds>) -> Vec<f64> {
        let mut weights: BTreeMap<&str, f64> = BTreeMap::new();
        for Term { text, weight } in terms {
            let most = weights.entry(text).or_default();
            *most = most.max(*weight);
        }
        let mut scores = vec![0.0; self.names.len()];
        let mut named: BTreeSet<(usize, usize)> = BTreeSet::new();
        for (term, weight) in weights {
            let Some(finds) = finds.get(term) else { continue };
            finds.scores.iter().for_each(|(at, score)| scores[*at] += weight * score);
            named.extend(&finds.named);
        }
        let mut told = vec![0.0; self.names.len()];
        named.into_iter().for_each(|(at, id)| told[at] += self.rarity(id));
        for (at, score) in scores.iter_mut().enumerate() {
            let share = if self.name_tells[at] > 0.0 { told[at] / self.name_tells[at] } else { 0.0 };
            *score *= 1.0 - NAME_SHARE * (1.0 - share.min(1.0));
        }
        scores
    }

    /// What one word of a query gives each tool: for the word itself, or for the best of its relatives.
    fn look_for(&self, term: &str) -> Finds {
        let own = self.find(term);
        // A rare relative does not count for more than the word would.
        let rarity_max = own.map_or(f64::INFINITY, |own| self.rarity(own));
        let mut scores: BTreeMap<usize, f64> = BTreeMap::new();
        let mut named = Vec::new();
        for (id, part) in own.map(|own| (own, 1.0)).into_iter().chain(self.relatives(term)) {
            let rarity = self.rarity(id).min(rarity_max);
            for Posting { at, weight, is_in_name } in &self.postings[id] {
                let score = part * rarity * weight * (SATURATION + 1.0) / (weight + SATURATION);
                let best = scores.entry(*at).or_default();
                *best = best.max(score);
                named.extend(is_in_name.then_some((*at, id)));
            }
        }
        Finds { scores: scores.into_iter().collect(), named }
    }

    fn find(&self, term: &str) -> Option<usize> {
        self.terms.binary_search_by(|other| other.as_str().cmp(term)).ok()
    }

    fn relatives<'a>(&'a self, term: &'a str) -> impl Iterator<Item = (usize, f64)> + 'a {
        let kin = kin::kin(term).iter().filter_map(|kin| self.find(kin)).map(|kin| (kin, KIN_WEIGHT));
        let length = |text: &str| text.chars().count();
        let is_long = length(term) >= PREFIX_CHARS_MIN;
        let near = move |other: &str| other != term && length(other).abs_diff(length(term)) <= PREFIX_CHARS_MORE_MAX;
        let from = self.terms.partition_point(|other| other.as_str() < term);
        let longer = (from..self.terms.len()).take_while(move |id| is_long && self.terms[*id].starts_with(term));
        let beginnings = term.char_indices().map(|(end, _)| &term[..end]);
        let shorter =
            beginnings.filter(move |part| length(part) >= PREFIX_CHARS_MIN).filter_map(|part| self.find(part));
        let prefixes = longer.chain(shorter).filter(move |id| near(&self.terms[*id]));
        kin.chain(prefixes.map(|id| (id, PREFIX_WEIGHT)))
    }

    /// How much a word tells: the less, the more tools have it.
    fn rarity(&self, id: usize) -> f64 {
        let (all, with) = (self.names.len() as f64, self.postings[id].len() as f64);
        ((all - with + 0.5) / (with + 0.5)).ln_1p()
    }
}

fn highest(scores: &[f64]) -> f64 {
    scores.iter().copied().fold(0.0, f64::max)
}

/// Brings the scores of a part nearer to those of the whole, whose best is `best`: half the way, so that a part that nothing
/// fits well does not count for as much as one that something does.
fn levelled(scores: Vec<f64>, best: f64) -> Vec<f64> {
    let highest = highest(&scores);
    let lift = if highest > 0.0 { (best / highest).sqrt() } else { 1.0 };
    scores.into_iter().map(|score| score * lift).collect()
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
