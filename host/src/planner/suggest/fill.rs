//! Finds values for the arguments of a tool among the pieces of plain words.
//!
//! Pure. A value is taken where it fits the argument's schema and something speaks for it: its name beside it, a word of its
//! kind, its being the only one of its type. Nothing is made up: what no piece says is missing.

use std::collections::BTreeSet;

use serde_json::json;

use crate::domain::Json;

use super::super::retrieve::words::{stem, words as words_of};
use super::FoundValue;
use super::pieces::{Piece, Sort};

/// What must speak for a value before it is taken.
const SCORE_MIN: u32 = 3;

/// Arguments of a tool that are looked at, and pieces: a hostile schema or text is not.
const ARGUMENTS_MAX: usize = 64;
const PIECES_MAX: usize = 400;

/// Words before a value among which its name may stand.
const NEAR_WORDS: usize = 3;

/// Words that turn a switch off.
const NEGATIONS: [&str; 6] = ["no", "not", "without", "never", "dont", "don"];

/// An argument of a tool.
pub(super) struct Argument<'a> {
    pub name: &'a str,
    pub schema: &'a Json,
    pub is_required: bool,
    /// Stems of its name.
    words: BTreeSet<String>,
    types: BTreeSet<String>,
    validator: Option<jsonschema::Validator>,
}

impl<'a> Argument<'a> {
    /// Reads the arguments of an input schema, those that are required first, in the order of the schema.
    pub(super) fn all(schema: &'a Json) -> Vec<Self> {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        let properties = schema["properties"].as_object().into_iter().flatten().take(ARGUMENTS_MAX);
        let mut all: Vec<Self> = properties
            .map(|(name, property)| Self {
                name,
                schema: property,
                is_required: required.contains(&name.as_str()),
                words: words_of(name).iter().map(|word| stem(word)).collect(),
                types: types(property),
                validator: validator(property, schema),
            })
            .collect();
        all.sort_by_key(|argument| !argument.is_required);
        all
    }

    /// Answers whether the argument takes `value`. One whose schema cannot be read takes nothing.
    pub(super) fn takes(&self, value: &Json) -> bool {
        self.validator.as_ref().is_some_and(|validator| validator.is_valid(value))
    }

    fn has(&self, ty: &str) -> bool {
        self.types.contains(ty)
    }

    fn is_called(&self, any: &[&str]) -> bool {
        any.iter().any(|word| self.words.contains(&stem(word)))
    }
}

fn validator(property: &Json, root: &Json) -> Option<jsonschema::Validator> {
    let mut schema = property.clone();
    if let (Some(fields), Some(definitions)) = (schema.as_object_mut(), root.get("$defs")) {
        fields.insert("$defs".into(), definitions.clone());
    }
    let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).should_validate_formats(true);
    options.offline().with_pattern_options(jsonschema::PatternOptions::regex()).build(&schema).ok()
}

/// The types that a schema names, in any of its alternatives.
fn types(schema: &Json) -> BTreeSet<String> {
    let named = match &schema["type"] {
        Json::Array(types) => types.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
        one => one.as_str().map(str::to_owned).into_iter().collect(),
    };
    let mut found: BTreeSet<String> = named;
    for key in ["anyOf", "oneOf"] {
        // One level: what is deeper is for a person.
        schema[key].as_array().into_iter().flatten().for_each(|option| {
            found.extend(option["type"].as_str().map(str::to_owned));
        });
    }
    if found.is_empty() && schema["enum"].is_array() {
        found.insert("string".into());
    }
    found
}

/// A value for an argument, and what speaks for it.
struct Fit {
    score: u32,
    argument: usize,
    piece: usize,
    value: Json,
}

/// Finds a value for each argument where there is one, in the order of the arguments.
pub(super) fn fill(arguments: &[Argument<'_>], pieces: &[Piece]) -> Vec<Option<FoundValue>> {
    let pieces = &pieces[..pieces.len().min(PIECES_MAX)];
    let mut found: Vec<Option<FoundValue>> = arguments.iter().map(|argument| switch(argument, pieces)).collect();
    for (at, argument) in arguments.iter().enumerate() {
        found[at] = found[at].take().or_else(|| listed(argument, pieces));
    }
    let mut taken: BTreeSet<usize> = BTreeSet::new();
    for fit in fits(arguments, pieces) {
        let is_free =
            found[fit.argument].is_none() && !taken.iter().any(|other| overlap(&pieces[*other], &pieces[fit.piece]));
        if is_free {
            taken.insert(fit.piece);
            found[fit.argument] = Some(value_of(fit.value, &pieces[fit.piece..=fit.piece]));
        }
    }
    for (at, argument) in arguments.iter().enumerate().filter(|(_, argument)| argument.has("array")) {
        if found[at].is_none() {
            let free = |n: &usize| !taken.iter().any(|other| overlap(&pieces[*other], &pieces[*n]));
            let free: Vec<usize> = (0..pieces.len()).filter(free).collect();
            let (list, used) = list(argument, pieces, &free);
            taken.extend(used);
            found[at] = list;
        }
    }
    found
}

fn overlap(a: &Piece, b: &Piece) -> bool {
    a.from < b.to && b.from < a.to
}

fn value_of(value: Json, pieces: &[Piece]) -> FoundValue {
    let from = pieces.iter().map(|piece| piece.from).min();
    let to = pieces.iter().map(|piece| piece.to).max();
    FoundValue { value, span: from.zip(to) }
}

/// All pairs of a single value and an argument for which enough speaks, the best first.
fn fits(arguments: &[Argument<'_>], pieces: &[Piece]) -> Vec<Fit> {
    let mut fits = Vec::new();
    for (at, argument) in arguments.iter().enumerate() {
        for (n, piece) in pieces.iter().enumerate() {
            let Some(value) = single(argument, piece) else { continue };
            let score = score(arguments, at, pieces, n);
            if score >= SCORE_MIN && argument.takes(&value) {
                fits.push(Fit { score, argument: at, piece: n, value });
            }
        }
    }
    fits.sort_by_key(|fit| (std::cmp::Reverse(fit.score), fit.argument, fit.piece));
    fits
}

/// What a piece would be as a single value of the argument's type.
fn single(argument: &Argument<'_>, piece: &Piece) -> Option<Json> {
    of_types(piece, |ty| argument.has(ty))
}

fn of_types(piece: &Piece, has: impl Fn(&str) -> bool) -> Option<Json> {
    if piece.sort == Sort::Number {
        if let Some(whole) = piece.text.parse::<i64>().ok().filter(|_| has("integer") || has("number")) {
            return Some(whole.into());
        }
        if let Some(number) = piece.text.parse::<f64>().ok().filter(|_| has("number")) {
            return Some(json!(number));
        }
    }
    has("string").then(|| piece.text.clone().into())
}

/// What speaks for a piece as the value of an argument.
fn score(arguments: &[Argument<'_>], at: usize, pieces: &[Piece], n: usize) -> u32 {
    let (argument, piece) = (&arguments[at], &pieces[n]);
    if let Some(name) = &piece.name {
        let same = |word: &str| word.replace('-', "_").eq_ignore_ascii_case(&argument.name.replace('-', "_"));
        return if same(name) { 100 } else { 0 };
    }
    if piece.sort == Sort::Word {
        return 0;
    }
    let kind = affinity(argument, piece);
    if kind == 0 {
        return 0;
    }
    let is_alone =
        arguments.iter().filter(|other| other.is_required && !other.types.is_disjoint(&argument.types)).count() == 1;
    kind + beside(argument, pieces, piece)
        + u32::from(argument.is_required)
        + 2 * u32::from(is_alone && argument.is_required)
}

/// How well a piece's looks fit an argument's name and format.
fn affinity(argument: &Argument<'_>, piece: &Piece) -> u32 {
    let format = argument.schema["format"].as_str().unwrap_or_default();
    let is = |any: &[&str], of_format: &[&str]| argument.is_called(any) || of_format.contains(&format);
    let is_number = argument.has("integer") || argument.has("number");
    match piece.sort {
        Sort::Number if is_number => 3,
        Sort::Number => {
            3 * u32::from(
                argument.is_called(&["number", "amount", "value", "price", "quantity", "id", "before", "after"]),
            )
        }
        _ if !argument.has("string") => 0,
        Sort::Expression => {
            8 * u32::from(argument.is_called(&["expression", "formula", "calculation", "equation", "term"]))
        }
        Sort::Url => {
            if is(&["url", "uri", "link", "website", "page", "endpoint"], &["uri", "url"]) {
                5
            } else {
                1
            }
        }
        Sort::Email => {
            if is(&["email", "mail", "to", "recipient", "cc", "sender", "from"], &["email"]) {
                5
            } else {
                1
            }
        }
        Sort::Path => {
            if is(&["path", "file", "filename", "folder", "directory", "dir", "source", "destination"], &[]) {
                5
            } else {
                1
            }
        }
        Sort::Date => {
            let names =
                ["date", "day", "time", "since", "until", "start", "end", "from", "to", "before", "after", "due"];
            5 * u32::from(is(&names, &["date", "date-time"]))
        }
        Sort::Quoted => {
            let names = [
                "text", "message", "body", "content", "query", "title", "subject", "search", "phrase", "template",
                "note",
            ];
            if argument.is_called(&names) { 4 } else { 2 }
        }
        Sort::Name => {
            let names = [
                "city", "country", "location", "place", "name", "user", "person", "owner", "channel", "region",
                "artist",
            ];
            3 * u32::from(argument.is_called(&names))
        }
        Sort::Word => 0,
    }
}

/// What the words beside a piece say: its name before it, or what it counts behind it.
fn beside(argument: &Argument<'_>, pieces: &[Piece], piece: &Piece) -> u32 {
    let is_named = |other: &&Piece| {
        other.sort == Sort::Word && words_of(&other.text).iter().any(|word| argument.words.contains(&stem(word)))
    };
    let before: Vec<&Piece> =
        pieces.iter().filter(|other| other.to <= piece.from && other.sort != Sort::Name).collect();
    let near = before.iter().rev().take(NEAR_WORDS).copied().position(|other| is_named(&other));
    let behind = pieces.iter().find(|other| other.from >= piece.to).is_some_and(|other| is_named(&other));
    let of_unit = piece.unit.as_ref().is_some_and(|unit| argument.words.contains(&stem(&unit.to_lowercase())));
    // The nearer the better: two arguments may be named one after the other.
    let before = near.map_or(0, |steps| 6 - 2 * u32::try_from(steps).unwrap_or(2));
    before.max(5 * u32::from(behind || of_unit))
}

/// A switch is on where its name stands among the words, and off where that is denied; or it is told by value.
fn switch(argument: &Argument<'_>, pieces: &[Piece]) -> Option<FoundValue> {
    if !argument.has("boolean") {
        return None;
    }
    let words: Vec<&Piece> = pieces.iter().filter(|piece| matches!(piece.sort, Sort::Word)).collect();
    let named = |piece: &&&Piece| piece.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(argument.name));
    if let Some(piece) = words.iter().find(named) {
        let is_on = ["true", "yes", "on"].iter().any(|word| piece.text.eq_ignore_ascii_case(word));
        let is_off = ["false", "no", "off"].iter().any(|word| piece.text.eq_ignore_ascii_case(word));
        return (is_on || is_off).then(|| value_of(is_on.into(), std::slice::from_ref(*piece)));
    }
    let says = |piece: &Piece| words_of(&piece.text).iter().any(|word| argument.words.contains(&stem(word)));
    let at = words.iter().position(|piece| says(piece))?;
    let is_denied = words[at.saturating_sub(2)..at]
        .iter()
        .any(|piece| words_of(&piece.text).iter().any(|word| NEGATIONS.contains(&word.as_str())));
    Some(value_of((!is_denied).into(), std::slice::from_ref(words[at])))
}

/// One of the values that a schema lists, where the words say it.
fn listed(argument: &Argument<'_>, pieces: &[Piece]) -> Option<FoundValue> {
    let is_list = argument.has("array");
    let of = if is_list { &argument.schema["items"] } else { argument.schema };
    let members = of["enum"].as_array()?.iter().filter_map(Json::as_str);
    let mut found: Vec<(usize, &str, (usize, usize))> =
        members.filter_map(|member| said(member, pieces).map(|span| (span.0, member, span))).collect();
    // The one that says most: `not equal` before `equal`.
    found.sort_by_key(|(from, member, _)| (*from, std::cmp::Reverse(member.len())));
    let covered = |n: usize, (_, _, span): &(usize, &str, (usize, usize))| {
        found
            .iter()
            .enumerate()
            .any(|(m, (_, _, other))| m != n && other.0 <= span.0 && span.1 <= other.1 && other != span)
    };
    let kept: Vec<_> = found.iter().enumerate().filter(|(n, one)| !covered(*n, one)).map(|(_, one)| one).collect();
    let first = kept.first()?;
    if !is_list {
        return Some(FoundValue { value: first.1.into(), span: Some(first.2) });
    }
    let values: Vec<&str> = kept.iter().map(|(_, member, _)| *member).collect();
    let to = kept.iter().map(|(_, _, span)| span.1).max()?;
    Some(FoundValue { value: json!(values), span: Some((first.2.0, to)) })
}

/// Where the words of a listed value stand, one after the other.
fn said(member: &str, pieces: &[Piece]) -> Option<(usize, usize)> {
    let wanted: Vec<String> = words_of(member).iter().map(|word| stem(word)).collect();
    let plain: Vec<&Piece> = pieces.iter().filter(|piece| matches!(piece.sort, Sort::Word | Sort::Quoted)).collect();
    let says =
        |piece: &Piece, stem_of: &String| words_of(&piece.text).iter().map(|word| stem(word)).eq([stem_of.clone()]);
    let windows = plain.windows(wanted.len().max(1));
    let found =
        windows.into_iter().find(|run| !wanted.is_empty() && run.iter().zip(&wanted).all(|(p, w)| says(p, w)))?;
    Some((found.first()?.from, found.last()?.to))
}

/// Values of one kind that stand together, as a list; and which pieces they are.
fn list(argument: &Argument<'_>, pieces: &[Piece], free: &[usize]) -> (Option<FoundValue>, Vec<usize>) {
    let of = types(&argument.schema["items"]);
    let fits = |n: &&usize| {
        let piece = &pieces[**n];
        let is_number = of.contains("integer") || of.contains("number");
        let speaks = match piece.sort {
            Sort::Word | Sort::Expression => false,
            Sort::Number => is_number || argument.is_called(&["number", "value", "amount", "id"]),
            Sort::Name => false,
            _ => of.contains("string") && affinity_of_list(argument, piece),
        };
        speaks && of_types(piece, |ty| of.contains(ty)).is_some()
    };
    let mut used: Vec<usize> = Vec::new();
    for n in free.iter().filter(fits) {
        if used.first().is_none_or(|first| pieces[*first].sort == pieces[*n].sort) {
            used.push(*n);
        }
    }
    let values: Vec<Json> = used.iter().filter_map(|n| of_types(&pieces[*n], |ty| of.contains(ty))).collect();
    let value = Json::from(values);
    if used.is_empty() || !argument.takes(&value) {
        return (None, Vec::new());
    }
    let span = used.iter().map(|n| pieces[*n].from).min().zip(used.iter().map(|n| pieces[*n].to).max());
    (Some(FoundValue { value, span }), used)
}

fn affinity_of_list(argument: &Argument<'_>, piece: &Piece) -> bool {
    let as_one = |names: &[&str]| argument.is_called(names);
    match piece.sort {
        Sort::Url => as_one(&["url", "link", "page"]),
        Sort::Email => as_one(&["to", "email", "recipient", "cc", "attendee", "address"]),
        Sort::Path => as_one(&["path", "file", "folder"]),
        Sort::Date => as_one(&["date", "day"]),
        Sort::Quoted => true,
        _ => false,
    }
}
