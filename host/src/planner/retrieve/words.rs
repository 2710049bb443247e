//! From text to the terms that it is found by: words without their endings, small words left out.
//!
//! Pure, and the same on every machine. Names of code fall into their words (`getUserById`, `get_user-by.id`), accents and
//! capitals count for nothing, and scripts that leave no room between words are read in pairs of characters.

use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Words that stand in every second sentence, and tell no tool from another.
const STOP_TEXT: &str = " a about actually all also am an and any anything are as at be because been being but by can \
    could did do does doing done each either for from had has have having he help her here hers him his how however i if \
    in into is it its itself just kindly let lets like ll may me might mine more most much must my myself need needed \
    needs no nor not now of off on once one only onto or other ought our ours out over own per please quite re really s \
    same shall she should so some someone something such t than thank thanks that the their theirs them then there these \
    they this those through thus to too tool tools under until up upon us use used user's using ve very via want wanted \
    wants was way we were what when where whether which while who whom whose why will wish with within without would yes \
    yet you your yours ";

static STOP_WORDS: LazyLock<BTreeSet<&str>> = LazyLock::new(|| STOP_TEXT.split_ascii_whitespace().collect());

/// Letters of a word that an ending may not be taken from: what is left would stand for too much.
const STEM_CHARS_MIN: usize = 3;

/// Bytes of a text that are read: a description of more is no description.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// Returns the terms of a text, in its order.
pub(in crate::planner) fn terms(text: &str) -> Vec<String> {
    words(text).iter().flat_map(|word| terms_of(word)).collect()
}

/// Words that ask for something: they stand in texts as other small words do, and in a goal they tell what is wanted.
const QUESTION_WORDS: [&str; 9] = ["all", "how", "let", "many", "what", "when", "where", "which", "who"];

/// Returns the terms of a text that somebody asks with, in its order.
pub(in crate::planner) fn query_terms(text: &str) -> Vec<String> {
    let of = |word: &String| if QUESTION_WORDS.contains(&word.as_str()) { vec![word.clone()] } else { terms_of(word) };
    words(text).iter().flat_map(of).collect()
}

/// Returns the words of a text in lowercase, stop words and all.
pub(in crate::planner) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut before = None;
    let chars: Vec<char> = head(text).chars().collect();
    for (at, c) in chars.iter().copied().enumerate() {
        let next = chars.get(at + 1).copied();
        let is_apostrophe = matches!(c, '\'' | '’');
        if is_apostrophe && before.is_some_and(char::is_alphanumeric) && is_short(&chars[at + 1..]) {
            // `what's` and `they'll`: what follows tells nothing.
            end(&mut word, &mut words);
            word.push('\'');
        } else if c.is_alphanumeric() || is_mark(c) {
            if is_hump(before, c, next) {
                end(&mut word, &mut words);
            }
            word.extend(c.to_lowercase().map(plain).filter(|c| !is_mark(*c)));
        } else {
            end(&mut word, &mut words);
            joined(before, c, next, &chars, at, &mut words);
        }
        before = Some(c);
    }
    end(&mut word, &mut words);
    words
}

/// Whether one or two letters come first, and no more.
fn is_short(rest: &[char]) -> bool {
    (1..=2).contains(&rest.iter().take_while(|c| c.is_alphanumeric()).count())
}

/// Returns as much of a text as is read.
pub(super) fn head(text: &str) -> &str {
    let end = (0..=text.len().min(TEXT_BYTES_MAX)).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

fn end(word: &mut String, words: &mut Vec<String>) {
    let ended = std::mem::take(word);
    if !ended.is_empty() && !ended.starts_with('\'') {
        words.push(ended);
    }
}

/// A hyphen after one or two letters makes one word too: `e-mail`, `wi-fi`, `to-do`.
fn joined(before: Option<char>, c: char, next: Option<char>, chars: &[char], at: usize, words: &mut Vec<String>) {
    if c != '-' || !before.is_some_and(char::is_alphabetic) || !next.is_some_and(char::is_alphabetic) {
        return;
    }
    let is_part = |c: &&char| c.is_alphanumeric();
    let first: String = chars[..at].iter().rev().take_while(is_part).collect();
    let first: String = first.chars().rev().collect();
    let second: String = chars[at + 1..].iter().take_while(is_part).collect();
    if first.chars().count() <= 2 {
        words.push(format!("{first}{second}").to_lowercase());
    }
}

/// Whether a word of a name begins here, as in `getUser` and `HTTPServer`.
fn is_hump(before: Option<char>, c: char, next: Option<char>) -> bool {
    let Some(before) = before else { return false };
    c.is_uppercase()
        && (before.is_lowercase()
            || before.is_ascii_digit()
            || (before.is_uppercase() && next.is_some_and(char::is_lowercase)))
}

/// Marks that stand above or below the letter before them.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}')
}

/// Returns a letter without its accent.
fn plain(c: char) -> char {
    match c {
        'à'..='å' | 'ā' | 'ă' | 'ą' => 'a',
        'ç' | 'ć' | 'č' | 'ĉ' | 'ċ' => 'c',
        'ď' | 'đ' => 'd',
        'è'..='ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' => 'e',
        'ĝ' | 'ğ' | 'ġ' | 'ģ' => 'g',
        'ì'..='ï' | 'ĩ' | 'ī' | 'ĭ' | 'į' | 'ı' => 'i',
        'ł' | 'ľ' | 'ĺ' | 'ļ' => 'l',
        'ñ' | 'ń' | 'ņ' | 'ň' => 'n',
        'ò'..='ö' | 'ø' | 'ō' | 'ŏ' | 'ő' => 'o',
        'ŕ' | 'ř' => 'r',
        'ś' | 'š' | 'ş' | 'ŝ' => 's',
        'ţ' | 'ť' | 'ț' => 't',
        'ù'..='ü' | 'ũ' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ų' => 'u',
        'ý' | 'ÿ' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        other => other,
    }
}

/// Returns the terms of one word: none for a stop word, pairs for a script without room between words.
fn terms_of(word: &str) -> Vec<String> {
    if word.chars().any(is_unspaced) {
        return pairs(word);
    }
    let is_letter = word.len() == 1 && !word.as_bytes()[0].is_ascii_digit();
    if is_letter || STOP_WORDS.contains(word) { Vec::new() } else { vec![stem(word)] }
}

fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{20000}'..='\u{2ffff}')
}

fn pairs(word: &str) -> Vec<String> {
    let chars: Vec<char> = word.chars().collect();
    match chars.as_slice() {
        [only] => vec![only.to_string()],
        chars => chars.windows(2).map(|pair| pair.iter().collect()).collect(),
    }
}

/// Takes the endings of English from a word in lowercase. What is left is no word, and the same for its relatives.
pub(in crate::planner) fn stem(word: &str) -> String {
    if !word.bytes().all(|b| b.is_ascii_lowercase()) || word.len() <= STEM_CHARS_MIN || word == "news" {
        return word.to_owned();
    }
    let stem = without_plural(word);
    let stem = without_tense(&stem);
    let stem = without_noun(&stem);
    without_last(stem)
}

fn without_plural(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ies").filter(|stem| stem.len() > 1) {
        return format!("{stem}y");
    }
    for ending in ["sses", "shes", "ches", "xes", "zes"] {
        if word.ends_with(ending) {
            return word[..word.len() - 2].to_owned();
        }
    }
    let is_plural = word.ends_with('s') && !["ss", "us", "is"].iter().any(|ending| word.ends_with(ending));
    if is_plural { word[..word.len() - 1].to_owned() } else { word.to_owned() }
}

fn without_tense(word: &str) -> String {
    for ending in ["ing", "ed"] {
        let Some(stem) = word.strip_suffix(ending) else { continue };
        if stem.len() < STEM_CHARS_MIN || !stem.bytes().any(is_vowel) || word.ends_with("eed") {
            continue;
        }
        // `planning` is of `plan`; `calling` and `passing` are of words with two letters.
        let bytes = stem.as_bytes();
        let last = bytes[bytes.len() - 1];
        let is_double = bytes[bytes.len() - 2] == last && !matches!(last, b'l' | b's' | b'z' | b'd' | b'e' | b'o');
        return if is_double { stem[..stem.len() - 1].to_owned() } else { stem.to_owned() };
    }
    word.to_owned()
}

/// `translation`, `translator` and `translate` have one stem, and so have `normalise` and `normalization`.
fn without_noun(word: &str) -> String {
    const ENDINGS: [(&str, &str); 15] = [
        ("isation", "iz"),
        ("ization", "iz"),
        ("iser", "iz"),
        ("izer", "iz"),
        ("ise", "iz"),
        ("ize", "iz"),
        ("ation", "at"),
        ("ator", "at"),
        ("ition", "it"),
        ("ution", "ut"),
        ("ction", "ct"),
        ("ption", "pt"),
        ("ement", ""),
        ("kly", "k"),
        ("thly", "th"),
    ];
    for (ending, kept) in ENDINGS {
        if let Some(stem) = word.strip_suffix(ending).filter(|stem| stem.len() >= STEM_CHARS_MIN) {
            return format!("{stem}{kept}");
        }
    }
    word.to_owned()
}

fn without_last(mut stem: String) -> String {
    if stem.len() > STEM_CHARS_MIN {
        if stem.ends_with('e') {
            stem.pop();
        } else if stem.ends_with('y') {
            stem.pop();
            stem.push('i');
        }
    }
    stem
}

fn is_vowel(b: u8) -> bool {
    matches!(b, b'a' | b'e' | b'i' | b'o' | b'u' | b'y')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fall_into_their_words() {
        assert_eq!(words("getUserById"), ["get", "user", "by", "id"]);
        assert_eq!(words("HTTPServer.start_now-please"), ["http", "server", "start", "now", "please"]);
        assert_eq!(words("s3 PutObject2Bucket"), ["s3", "put", "object2", "bucket"]);
        assert_eq!(words("What's an e-mail?"), ["what", "an", "e", "email", "mail"]);
        assert_eq!(words("Café MÜNCHEN re\u{301}sume\u{301}"), ["cafe", "munchen", "resume"]);
        assert_eq!(words(" --- "), Vec::<String>::new());
    }

    #[test]
    fn relatives_have_one_stem() {
        for family in [
            ["translate", "translation", "translator", "translating"],
            ["query", "queries", "querying", "queried"],
            ["file", "files", "filed", "filing"],
            ["plan", "plans", "planned", "planning"],
            ["normalise", "normalize", "normalization", "normaliser"],
            ["search", "searches", "searched", "searching"],
        ] {
            let stems: Vec<String> = family.iter().map(|word| stem(word)).collect();
            assert!(stems.iter().all(|stem| *stem == stems[0]), "{stems:?}");
        }
        for (one, other) in [("status", "state"), ("address", "add"), ("bus", "bu"), ("news", "newt")] {
            assert_ne!(stem(one), stem(other));
        }
    }

    #[test]
    fn small_words_are_left_out_and_scripts_without_room_are_read_in_pairs() {
        assert_eq!(terms("Please show me the weather in 東京都"), ["show", "weather", "東京", "京都"]);
        assert_eq!(terms("a I of"), Vec::<String>::new());
    }
}
