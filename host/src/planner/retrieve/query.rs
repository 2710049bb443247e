//! From a goal to what tools are looked for with: its parts, and in each the words and what they count.
//!
//! Pure. A goal that asks for several things is cut into them: at the end of a sentence or a line, and at `and`, `then` and
//! `also`. Two words that stand together are looked for as one too, so that `zip code` finds `zipcode`. A value tells of what
//! kind it is: who writes a day means a tool that takes a date.

use std::collections::BTreeSet;

use super::words::{head, query_terms, stem};

/// Words of a goal that are looked at: what comes after so many is detail.
const QUERY_TERMS_MAX: usize = 256;

/// Parts of a goal that are looked for on their own; what comes after belongs to the last.
const PARTS_MAX: usize = 16;

/// Words without digits that a part must have: fewer belong to the part before.
const PART_WORDS_MIN: usize = 2;

/// What a word counts that has a digit: it is a value, and tools are seldom called after one.
const VALUE_WEIGHT: f64 = 0.7;

/// What two words count that stand together, on top of what each counts.
const PAIR_WEIGHT: f64 = 0.4;

/// Words that join what may be two things.
const JOINTS: [&str; 3] = ["also", "and", "then"];

/// A word to look for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Term {
    pub text: String,
    /// What it counts; 1 for a common word.
    pub weight: f64,
}

/// One of the things that a goal asks for.
#[derive(Default)]
struct Part {
    words: Vec<Term>,
    /// Of what kinds its values are.
    kinds: BTreeSet<&'static str>,
}

/// Returns the parts of a goal, none of them empty.
pub(super) fn parts(goal: &str) -> Vec<Vec<Term>> {
    let mut parts = vec![Part::default()];
    let mut room = QUERY_TERMS_MAX;
    for line in head(goal).lines() {
        begin(&mut parts);
        for word in line.split_whitespace() {
            if JOINTS.contains(&bare(word).to_lowercase().as_str()) {
                begin(&mut parts);
            }
            if let Some(part) = parts.last_mut() {
                part.read(word, &mut room);
            }
            if word.ends_with(['.', '?', '!', ';']) {
                begin(&mut parts);
            }
        }
    }
    begin(&mut parts);
    parts.into_iter().map(Part::terms).filter(|terms| !terms.is_empty()).collect()
}

/// Begins a new part, where the last one has enough to be looked for.
fn begin(parts: &mut Vec<Part>) {
    let Some(last) = parts.pop() else { return };
    let is_whole = last.words.iter().filter(|term| term.weight >= 1.0).count() >= PART_WORDS_MIN;
    let is_full = parts.len() >= PARTS_MAX;
    match parts.last_mut() {
        Some(before) if !is_whole || is_full => {
            before.words.extend(last.words);
            before.kinds.extend(last.kinds);
        }
        None if last.words.is_empty() => {}
        _ => parts.push(last),
    }
    parts.push(Part::default());
}

fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_alphanumeric())
}

impl Part {
    fn read(&mut self, word: &str, room: &mut usize) {
        let weight = if word.contains(|c: char| c.is_ascii_digit()) { VALUE_WEIGHT } else { 1.0 };
        let terms = query_terms(word);
        let terms = terms.into_iter().take(*room).map(|text| Term { text, weight });
        let before = self.words.len();
        self.words.extend(terms);
        *room -= self.words.len() - before;
        self.kinds.extend(kind_of(bare(word)));
    }

    fn terms(self) -> Vec<Term> {
        let pair = |pair: &[Term]| Term {
            text: pair.iter().map(|term| term.text.as_str()).collect(),
            weight: PAIR_WEIGHT * pair.iter().map(|term| term.weight).fold(1.0, f64::min),
        };
        let pairs: Vec<Term> = self.words.windows(2).map(pair).collect();
        let kinds = self.kinds.into_iter().map(|kind| Term { text: stem(kind), weight: 1.0 });
        self.words.into_iter().chain(pairs).chain(kinds).collect()
    }
}

/// Returns what a value is commonly called.
fn kind_of(value: &str) -> Option<&'static str> {
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let count = |mark: &[char]| value.matches(mark).count();
    let is_year = digits == 4 && value.len() == 4 && (value.starts_with("19") || value.starts_with("20"));
    if value.contains("://") {
        Some("url")
    } else if value.contains('@') {
        Some("email")
    } else if (digits >= 4 && (1..=2).contains(&count(&['-', '/']))) || is_year {
        Some("date")
    } else if digits >= 3 && count(&[':']) == 1 {
        Some("time")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(goal: &str) -> Vec<Vec<String>> {
        parts(goal).into_iter().map(|part| part.into_iter().map(|term| term.text).collect()).collect()
    }

    #[test]
    fn a_goal_falls_into_what_it_asks_for() {
        assert_eq!(
            texts("Sum the sales column and send an email. Thanks!"),
            [vec!["sum", "sal", "column", "sumsal", "salcolumn"], vec!["send", "email", "sendemail"]]
        );
        assert_eq!(texts("salt and pepper"), [["salt", "pepper", "saltpepper"]], "one word is no part");
        assert_eq!(texts(" the of "), Vec::<Vec<String>>::new());
        assert_eq!(texts(&"sum sales. ".repeat(50)).len(), PARTS_MAX);
    }

    #[test]
    fn a_goal_without_end_is_looked_at_so_far() {
        let words = |goal: &str| parts(goal).iter().flatten().filter(|term| term.weight >= 1.0).count();
        assert_eq!(words(&"sum sales. ".repeat(5_000)), QUERY_TERMS_MAX);
        assert_eq!(words(&"東".repeat(9_000)), QUERY_TERMS_MAX);
    }

    #[test]
    fn a_value_tells_its_kind_and_counts_for_less() {
        for (value, kind) in [
            ("2024-05-01", Some("date")),
            ("1/5/2024", Some("date")),
            ("1987", Some("date")),
            ("14:30", Some("time")),
            ("ann@example.com", Some("email")),
            ("https://example.com/2024/05", Some("url")),
            ("5000", None),
            ("e-mail", None),
        ] {
            assert_eq!(kind_of(value), kind, "{value}");
        }
        let part = parts("weather on 2024-05-01?").remove(0);
        let weight = |text: &str| part.iter().find(|term| term.text == text).map(|term| term.weight);
        assert_eq!((weight("weather"), weight("2024"), weight("dat")), (Some(1.0), Some(VALUE_WEIGHT), Some(1.0)));
    }
}
