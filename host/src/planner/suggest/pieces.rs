//! From plain words to pieces that could be values: quoted texts, addresses, paths, dates, numbers, names.
//!
//! Pure. Each piece knows where it stands, so that a person sees what was taken for what.

/// Bytes of words that are read: a wish is shorter.
pub(super) const WORDS_BYTES_MAX: usize = 8 << 10;

/// What a piece looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Quoted,
    Url,
    Email,
    Path,
    /// A date, or a date with a time, as ISO 8601 writes them.
    Date,
    Number,
    /// Arithmetic.
    Expression,
    /// Capitalised words, `#channel` and `@user`.
    Name,
    Word,
}

/// A part of the words.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    pub sort: Sort,
    /// In bytes.
    pub from: usize,
    pub to: usize,
    /// What it says: a number without what groups its digits, a quotation without its marks.
    pub text: String,
    /// What stands before a `=`.
    pub name: Option<String>,
    /// What a number counts: `kg` of `5kg`, `%` of `5%`.
    pub unit: Option<String>,
}

/// Marks that open a quotation, with those that close it.
const QUOTES: [(char, char); 5] = [('"', '"'), ('“', '”'), ('«', '»'), ('`', '`'), ('\'', '\'')];

/// Numbers that people write as words.
const NUMBER_WORDS: [&str; 11] =
    ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];

/// What people say for the signs of arithmetic.
const SIGN_WORDS: [(&str, &str); 3] = [("plus", "+"), ("minus", "-"), ("times", "*")];

/// Returns the pieces of `words`, in their order. Arithmetic and names of several words are pieces of their own, behind.
pub(super) fn pieces(words: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(c) = words[at..].chars().next() {
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        at = match quoted(words, at).or_else(|| assigned(words, at)) {
            Some((piece, end)) => {
                pieces.push(piece);
                end
            }
            None => {
                let end = words[at..].find(char::is_whitespace).map_or(words.len(), |length| at + length);
                pieces.extend(trimmed(words, at, end));
                end
            }
        };
    }
    let sums = expressions(words);
    let names = names(words, &pieces);
    pieces.extend(sums);
    pieces.extend(names);
    pieces
}

/// Reads a quotation that begins at `at`.
fn quoted(words: &str, at: usize) -> Option<(Piece, usize)> {
    let open = words[at..].chars().next()?;
    let (_, close) = QUOTES.into_iter().find(|(mark, _)| *mark == open)?;
    let from = at + open.len_utf8();
    let is_end = |end: &usize| !words[end + close.len_utf8()..].chars().next().is_some_and(char::is_alphanumeric);
    let mut ends = words[from..].match_indices(close).map(|(offset, _)| from + offset);
    let to = ends.find(is_end).filter(|to| *to > from)?;
    Some((piece(Sort::Quoted, words, from, to), to + close.len_utf8()))
}

/// Reads `name=value` and `name="a value"`.
fn assigned(words: &str, at: usize) -> Option<(Piece, usize)> {
    let (name, _) = words[at..].split_once('=')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if !is_name || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let from = at + name.len() + 1;
    let (value, end) = match quoted(words, from) {
        Some(found) => found,
        None => {
            let end = words[from..].find(char::is_whitespace).map_or(words.len(), |length| from + length);
            (trimmed(words, from, end)?, end)
        }
    };
    Some((Piece { name: Some(name.to_owned()), ..value }, end))
}

/// Takes what stands between two spaces, without the marks of the sentence around it.
fn trimmed(words: &str, from: usize, to: usize) -> Option<Piece> {
    let raw = &words[from..to];
    let is_mark = |c: char| matches!(c, ',' | ';' | ':' | '!' | '?' | '.' | '…');
    let mut text = raw.trim_end_matches(is_mark);
    for (open, close) in [('(', ')'), ('[', ']')] {
        if text.starts_with(open) && !text.contains(close) {
            text = &text[1..];
        } else if text.ends_with(close) && !text.contains(open) {
            text = text.trim_end_matches(close).trim_end_matches(is_mark);
        }
    }
    if text.starts_with('(') && text.ends_with(')') && !text.chars().any(|c| c.is_ascii_digit()) {
        text = &text[1..text.len() - 1];
    }
    let from = from + (text.as_ptr() as usize - raw.as_ptr() as usize);
    (!text.is_empty()).then(|| sorted(words, from, from + text.len()))
}

fn piece(sort: Sort, words: &str, from: usize, to: usize) -> Piece {
    Piece { sort, from, to, text: words[from..to].to_owned(), name: None, unit: None }
}

/// Tells what a word looks like.
fn sorted(words: &str, from: usize, to: usize) -> Piece {
    let text = &words[from..to];
    let is_of = |sort| piece(sort, words, from, to);
    if text.split_once("://").is_some_and(|(scheme, rest)| is_scheme(scheme) && !rest.is_empty()) {
        return is_of(Sort::Url);
    }
    if is_email(text) {
        return is_of(Sort::Email);
    }
    if is_date(text) {
        return is_of(Sort::Date);
    }
    if let Some((number, unit)) = number(text) {
        return Piece { text: number, unit, ..is_of(Sort::Number) };
    }
    if is_path(text) {
        return is_of(Sort::Path);
    }
    if text.len() > 1 && text.starts_with(['#', '@']) {
        return is_of(Sort::Name);
    }
    is_of(Sort::Word)
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+')
}

fn is_email(text: &str) -> bool {
    text.split_once('@').is_some_and(|(user, host)| {
        !user.is_empty() && host.contains('.') && !host.contains(['/', '@']) && !host.ends_with('.')
    })
}

/// `2025-07-01`, and what may follow: `T10:30`, `T10:30:00Z`.
fn is_date(text: &str) -> bool {
    let (date, time) = text.split_once('T').map_or((text, None), |(date, time)| (date, Some(time)));
    let parts: Vec<&str> = date.split('-').collect();
    let is_digits = |part: &str, n: usize| part.len() == n && part.bytes().all(|b| b.is_ascii_digit());
    let is_day =
        matches!(parts[..], [year, month, day] if is_digits(year, 4) && is_digits(month, 2) && is_digits(day, 2));
    let is_time = |time: &str| {
        time.len() >= 5
            && time.bytes().all(|b| b.is_ascii_digit() || matches!(b, b':' | b'.' | b'Z' | b'+' | b'-'))
            && time.as_bytes()[2] == b':'
    };
    is_day && time.is_none_or(is_time)
}

/// Returns the digits of a number, and what it counts.
fn number(text: &str) -> Option<(String, Option<String>)> {
    if let Some(at) = NUMBER_WORDS.iter().position(|word| text.eq_ignore_ascii_case(word)) {
        return Some(((at + 2).to_string(), None));
    }
    let bare = text.trim_start_matches(['$', '€', '£', '¥', '+']);
    let is_digit = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '-');
    let end = bare.find(|c| !is_digit(c)).unwrap_or(bare.len());
    let (digits, unit) = bare.split_at(end);
    let is_unit = unit.is_empty() || unit == "%" || (unit.len() <= 3 && unit.chars().all(char::is_alphabetic));
    let plain = ungrouped(digits)?;
    let is_number = plain.parse::<f64>().is_ok_and(f64::is_finite) && plain.chars().next_back()?.is_ascii_digit();
    (is_unit && is_number).then(|| (plain, (!unit.is_empty()).then(|| unit.to_owned())))
}

/// Takes commas out of `1,234,567.8`; nothing where they do not stand between thousands.
fn ungrouped(digits: &str) -> Option<String> {
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, rest)| (whole, Some(rest)));
    let mut groups = whole.split(',');
    let first = groups.next()?;
    let is_group = |group: &str| group.len() == 3 && group.bytes().all(|b| b.is_ascii_digit());
    let is_grouped = whole.contains(',');
    if !groups.all(is_group) || (is_grouped && first.trim_start_matches('-').len() > 3) {
        return None;
    }
    let whole = whole.replace(',', "");
    Some(fraction.map_or(whole.clone(), |fraction| format!("{whole}.{fraction}")))
}

/// What has a slash, or an ending of a file.
fn is_path(text: &str) -> bool {
    let has_slash = text.starts_with(['/', '~']) || text.starts_with("./") || text.starts_with("../");
    let is_ending = |ending: &str| {
        (1..=5).contains(&ending.len())
            && ending.bytes().all(|b| b.is_ascii_alphanumeric())
            && ending.bytes().any(|b| b.is_ascii_alphabetic())
    };
    // Not `e.g` and its like.
    let is_file = |stem: &str, ending: &str| stem.len() > 1 || (!stem.is_empty() && ending.len() > 1);
    let has_ending = text
        .rsplit_once('.')
        .is_some_and(|(stem, ending)| is_file(stem, ending) && is_ending(ending) && !stem.ends_with('.'));
    (has_slash && text.len() > 1) || has_ending
}

/// A word as it stands, marks and all.
struct Raw<'a> {
    from: usize,
    text: &'a str,
}

/// Finds arithmetic: numbers with signs between them. Read from the words as they stand, as parentheses belong to it.
fn expressions(words: &str) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut run: Vec<Raw<'_>> = Vec::new();
    for raw in words.split_whitespace() {
        let bare = raw.trim_end_matches([',', ';', ':', '!', '?', '.']);
        let from = raw.as_ptr() as usize - words.as_ptr() as usize;
        let is_part = arithmetic(bare).is_some();
        if is_part {
            run.push(Raw { from, text: bare });
        }
        // A mark ends it: what follows is the next of a list, or another sentence.
        if !is_part || bare.len() < raw.len() {
            found.extend(expression(&std::mem::take(&mut run)));
        }
    }
    found.extend(expression(&run));
    found
}

/// Returns a word as arithmetic writes it.
fn arithmetic(bare: &str) -> Option<String> {
    let is_sign = |c: char| matches!(c, '+' | '-' | '*' | '/' | '%' | '^' | '(' | ')' | '×' | '÷');
    let is_part = !bare.is_empty() && bare.chars().all(|c| c.is_ascii_digit() || c == '.' || is_sign(c));
    if is_part {
        return (!is_date(bare)).then(|| bare.replace('×', "*").replace('÷', "/"));
    }
    SIGN_WORDS.iter().find(|(word, _)| bare.eq_ignore_ascii_case(word)).map(|(_, sign)| (*sign).to_owned())
}

/// Numbers one after the other are a list, and `1-2` is a range: no arithmetic.
fn expression(run: &[Raw<'_>]) -> Option<Piece> {
    let text = run.iter().filter_map(|raw| arithmetic(raw.text)).collect::<Vec<_>>().join(" ");
    let numbers = text.split(|c: char| !c.is_ascii_digit() && c != '.').filter(|part| !part.is_empty()).count();
    let is_plain = |raw: &Raw<'_>| raw.text.parse::<f64>().is_ok();
    let is_listed = run.windows(2).any(|pair| pair.iter().all(is_plain));
    let is_range = run.len() == 1 && !text.contains(['+', '*', '/', '%', '^']);
    let starts_well = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '(' | '-' | '.'));
    let ends_well = text.ends_with(|c: char| c.is_ascii_digit() || matches!(c, ')' | '%'));
    let (first, last) = (run.first()?, run.last()?);
    let to = last.from + last.text.len();
    let whole = Piece { sort: Sort::Expression, from: first.from, to, text, name: None, unit: None };
    (numbers >= 2 && !is_listed && !is_range && starts_well && ends_well).then_some(whole)
}

/// Finds capitalised words that stand together, but for one that only begins a sentence.
fn names(words: &str, pieces: &[Piece]) -> Vec<Piece> {
    let is_name = |n: usize, piece: &Piece| {
        let begins = n == 0 || words[..piece.from].trim_end().ends_with(['.', '!', '?']);
        let first = piece.text.chars().next();
        piece.sort == Sort::Word && !begins && piece.text != "I" && first.is_some_and(char::is_uppercase)
    };
    let mut found: Vec<Piece> = Vec::new();
    for (n, piece) in pieces.iter().enumerate().filter(|(n, piece)| is_name(*n, piece)) {
        match found.last_mut() {
            Some(before)
                if n > 0 && before.to == pieces[n - 1].to && words[before.to..piece.from].trim().is_empty() =>
            {
                before.to = piece.to;
                before.text = words[before.from..before.to].to_owned();
            }
            _ => found.push(Piece { sort: Sort::Name, ..piece.clone() }),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &str, expected: &[(Sort, &str)]) {
        let found = pieces(words);
        let found: Vec<(Sort, &str)> = found
            .iter()
            .filter(|piece| piece.sort != Sort::Word)
            .map(|piece| (piece.sort, piece.text.as_str()))
            .collect();
        assert_eq!(found, expected, "{words}");
    }

    #[test]
    fn values_are_told_by_their_looks() {
        check("rows of /data/orders.csv, please", &[(Sort::Path, "/data/orders.csv")]);
        check(
            "mail bob@example.com about \"the launch\".",
            &[(Sort::Email, "bob@example.com"), (Sort::Quoted, "the launch")],
        );
        check("get https://example.com/a?b=1 (soon)", &[(Sort::Url, "https://example.com/a?b=1")]);
        check(
            "since 2025-07-01 until 2025-07-02T10:30",
            &[(Sort::Date, "2025-07-01"), (Sort::Date, "2025-07-02T10:30")],
        );
        check("it's Ann's, don't 'split this' e.g. now", &[(Sort::Quoted, "split this"), (Sort::Name, "Ann's")]);
        check("weather in New York and Oslo", &[(Sort::Name, "New York"), (Sort::Name, "Oslo")]);
        check("post to #ops: done", &[(Sort::Name, "#ops")]);
        check("read notes.txt. Then stop.", &[(Sort::Path, "notes.txt")]);
    }

    #[test]
    fn numbers_lose_what_groups_and_names_them() {
        check(
            "$1,234.50 and 5kg, 12% of -3",
            &[(Sort::Number, "1234.50"), (Sort::Number, "5"), (Sort::Number, "12"), (Sort::Number, "-3")],
        );
        check("three of 1,2", &[(Sort::Number, "3")]);
        check("version 1.2.3 or 1-2", &[]);
    }

    #[test]
    fn arithmetic_is_one_piece_and_a_list_is_none() {
        let numbers = [(Sort::Number, "2"), (Sort::Number, "3"), (Sort::Number, "4")];
        check("what is (2 + 3) * 4?", &[&numbers[..], &[(Sort::Expression, "(2 + 3) * 4")]].concat());
        check("17*23", &[(Sort::Expression, "17*23")]);
        check("17 times 23", &[(Sort::Number, "17"), (Sort::Number, "23"), (Sort::Expression, "17 * 23")]);
        check("add 1, 2 and 3", &[(Sort::Number, "1"), (Sort::Number, "2"), (Sort::Number, "3")]);
    }

    #[test]
    fn a_piece_knows_where_it_stands_and_what_it_is_called() {
        let words = "é limit=5 text=\"a b\" x";
        let found = pieces(words);
        assert_eq!(
            (found[1].name.as_deref(), found[1].text.as_str(), found[1].sort),
            (Some("limit"), "5", Sort::Number)
        );
        assert_eq!((found[2].name.as_deref(), found[2].text.as_str()), (Some("text"), "a b"));
        assert!(found.iter().all(|piece| words.get(piece.from..piece.to).is_some()));
        for odd in ["\"", "''", "=", "a=", "(", "…", "\"a", "“x", "a=\"", "1-", "%", "日本 \"語\""] {
            pieces(odd);
        }
    }
}
