//! Takes secrets out of a stream of bytes, wherever it is cut into pieces.
//!
//! Every byte that is part of any form of a secret goes, and `[secret:name]` stands in its place; every other byte stays
//! as it is. What cannot be told yet is kept back: less than twice the longest form of a secret.

use std::collections::BTreeSet;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::encodings::{self, ESCAPE_BYTES_MAX, Escapes};
use crate::domain::Secret;

/// Bytes of a longer text that are looked at together: looking takes some twenty times as much memory, and is given back
/// before the next piece.
const PIECE_BYTES: usize = 64 << 10;

/// What is looked for: all forms of all secrets of a call. Clones share the forms.
#[derive(Clone)]
pub(super) struct Patterns {
    /// `None` where the forms cannot be held, so that nothing passes.
    search: Option<AhoCorasick>,
    /// For each form the place of its secret's name; `None` where it is not looked for.
    owners: Vec<Option<usize>>,
    names: Vec<String>,
    /// Bytes of the shortest form. Escapes only make it longer, so no shorter text holds one.
    shortest: usize,
    /// Bytes of the longest form, escaped all over.
    reach: usize,
}

/// Bytes that are part of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: usize,
    end: usize,
    owner: usize,
}

impl Patterns {
    pub(super) fn new<'a>(secrets: impl Iterator<Item = (&'a str, &'a Secret)>) -> Self {
        let (mut names, mut owners, mut texts): (Vec<String>, _, Vec<_>) = (Vec::new(), Vec::new(), Vec::new());
        for (name, secret) in secrets {
            if names.iter().any(|known| known == name) {
                continue;
            }
            let before = texts.len();
            texts.extend(encodings::texts(secret.expose()));
            owners.resize(owners.len() + texts.len() - before, Some(names.len()));
            names.push(name.to_owned());
        }
        let lengths = || texts.iter().map(|text| text.len());
        let (shortest, longest) = (lengths().min().unwrap_or_default(), lengths().max().unwrap_or_default());
        // Long secrets make many states: they are held densely only where that is small.
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(texts.iter().map(|text| text.as_slice()));
        Self { search: search.ok(), owners, names, shortest, reach: longest * ESCAPE_BYTES_MAX }
    }

    /// Returns what looks for all but the secrets called `names`.
    pub(super) fn without(&self, names: &BTreeSet<&str>) -> Self {
        let mut patterns = self.clone();
        for owner in &mut patterns.owners {
            *owner = owner.filter(|owner| !names.contains(self.names[*owner].as_str()));
        }
        patterns
    }

    /// Returns whether `text` is too short to hold a secret.
    pub(super) fn is_too_short(&self, text: &[u8]) -> bool {
        text.len() < self.shortest
    }

    pub(super) fn contained(&self, bytes: &[u8]) -> Option<&str> {
        let mut rest = bytes;
        loop {
            // Whatever begins in a piece ends within reach of it.
            let seen = &rest[..rest.len().min(PIECE_BYTES.saturating_add(self.reach))];
            if let Some(span) = self.spans(seen).first() {
                return Some(self.names[span.owner].as_str());
            }
            if seen.len() == rest.len() {
                return None;
            }
            rest = &rest[encodings::boundary(rest, PIECE_BYTES)..];
        }
    }

    /// Returns what is part of secrets: in order, and apart from each other.
    fn spans(&self, bytes: &[u8]) -> Vec<Span> {
        if self.is_too_short(bytes) {
            return Vec::new();
        }
        let Some(search) = &self.search else {
            return vec![Span { start: 0, end: bytes.len(), owner: 0 }];
        };
        let mut spans = self.found(search, bytes);
        for escapes in Escapes::readings(bytes) {
            let plain = encodings::plain(bytes, escapes);
            let original = |span: Span| {
                let (start, end) = (plain.places[span.start].0, plain.places[span.end - 1].1);
                Span { start, end, ..span }
            };
            spans.extend(self.found(search, &plain.bytes).into_iter().map(original));
        }
        spans.sort_unstable_by_key(|span| (span.start, span.end));
        spans.dedup_by(|next, last| {
            let is_one = next.start < last.end;
            last.end = if is_one { last.end.max(next.end) } else { last.end };
            is_one
        });
        spans
    }

    fn found(&self, search: &AhoCorasick, bytes: &[u8]) -> Vec<Span> {
        let span = |found: aho_corasick::Match| {
            let owner = self.owners[found.pattern().as_usize()]?;
            Some(Span { start: found.start(), end: found.end(), owner })
        };
        search.find_overlapping_iter(bytes).filter_map(span).collect()
    }
}

/// Takes secrets out of one stream. Without secrets everything passes at once.
pub(in crate::sandbox) struct Scrubber {
    patterns: Option<Arc<Patterns>>,
    kept: Vec<u8>,
    /// Bytes at the beginning of `kept` that are part of a secret whose mark was written already.
    covered: usize,
    has_found: bool,
}

impl Scrubber {
    pub(super) fn new(patterns: Option<Arc<Patterns>>) -> Self {
        Self { patterns, kept: Vec::new(), covered: 0, has_found: false }
    }

    /// Returns how far ahead must be seen to tell whether a byte is part of a secret.
    pub(in crate::sandbox) fn reach(&self) -> usize {
        self.patterns.as_ref().map_or(0, |patterns| patterns.reach)
    }

    /// Takes the next bytes, and returns those that can be told.
    pub(in crate::sandbox) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(patterns) = self.patterns.clone() else { return bytes.to_vec() };
        self.kept.extend_from_slice(bytes);
        // What is kept is looked at again each time: not before as much again has come, so that many small pieces cost no
        // more than one large one.
        if self.kept.len() < 2 * patterns.reach {
            return Vec::new();
        }
        let told = self.kept.len().saturating_sub(patterns.reach.saturating_sub(1));
        // The second half of an escape would be read as something else.
        let told = encodings::boundary(&self.kept, told);
        self.emit(&patterns, told)
    }

    /// Returns the rest: the stream has ended.
    pub(in crate::sandbox) fn finish(&mut self) -> Vec<u8> {
        let Some(patterns) = self.patterns.clone() else { return Vec::new() };
        let all = self.kept.len();
        self.emit(&patterns, all)
    }

    /// Returns whether a secret stood in what was told.
    pub(in crate::sandbox) fn has_found(&self) -> bool {
        self.has_found
    }

    /// Returns a text that is there at once.
    pub(in crate::sandbox) fn whole(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.patterns.is_none() {
            return bytes.to_vec();
        }
        let (pieces, last) = bytes.split_at(bytes.len().saturating_sub(PIECE_BYTES));
        let mut clean = self.pieces(pieces);
        self.kept.extend_from_slice(last);
        clean.extend_from_slice(&self.finish());
        clean
    }

    /// Returns the beginning of a text that is there at once: at least what its first `bytes_max` bytes become. Looks at no
    /// more of it than decides about them, and tells nothing of a secret that goes on behind what it looked at.
    pub(in crate::sandbox) fn head(&mut self, bytes: &[u8], bytes_max: usize) -> Vec<u8> {
        // What was pushed is told but for less than one reach; before two are there nothing is.
        let seen = bytes_max.saturating_add(self.reach().saturating_mul(2));
        if bytes.len() <= seen { self.whole(bytes) } else { self.pieces(&bytes[..seen]) }
    }

    /// Takes the next bytes, however many, and returns those that can be told.
    fn pieces(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut clean = Vec::new();
        for piece in bytes.chunks(PIECE_BYTES) {
            clean.extend_from_slice(&self.push(piece));
        }
        clean
    }

    /// Returns the first `told` bytes of what was kept, with marks in place of secrets.
    fn emit(&mut self, patterns: &Patterns, told: usize) -> Vec<u8> {
        if told == 0 {
            return Vec::new();
        }
        let (mut clean, mut at) = (Vec::with_capacity(told), self.covered);
        for span in patterns.spans(&self.kept) {
            if span.start >= told || span.end <= at {
                continue;
            }
            // One that begins within what a mark stands for already is part of it.
            if span.start >= at {
                clean.extend_from_slice(&self.kept[at..span.start]);
                clean.extend_from_slice(format!("[secret:{}]", patterns.names[span.owner]).as_bytes());
            }
            at = span.end;
            self.has_found = true;
        }
        clean.extend_from_slice(self.kept.get(at..told).unwrap_or_default());
        self.kept.drain(..told);
        self.covered = at.saturating_sub(told);
        clean
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::DecodePaddingMode;
    use base64::engine::general_purpose::{
        GeneralPurpose, GeneralPurposeConfig, STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD,
    };
    use base64::{Engine as _, alphabet};

    use super::*;

    /// A small generator: a failing case prints its seed.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 33).unwrap_or(0) % bound
        }

        fn text(&mut self, bytes: usize, alphabet: &[u8]) -> String {
            (0..bytes).map(|_| char::from(alphabet[self.below(alphabet.len())])).collect()
        }
    }

    fn patterns(secret: &str) -> Arc<Patterns> {
        let secret = Secret::new(secret).expect("it is a secret");
        Arc::new(Patterns::new([("key", &secret)].into_iter()))
    }

    fn whole(patterns: &Arc<Patterns>, text: &[u8]) -> Vec<u8> {
        Scrubber::new(Some(patterns.clone())).whole(text)
    }

    /// Scrubs `text` in pieces as `random` cuts it.
    fn scrubbed(patterns: &Arc<Patterns>, text: &[u8], random: &mut Random) -> Vec<u8> {
        let (mut scrubber, mut clean, mut rest) = (Scrubber::new(Some(patterns.clone())), Vec::new(), text);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + random.below(40)).min(rest.len()));
            clean.extend(scrubber.push(piece));
            assert!(scrubber.kept.len() < 2 * patterns.reach, "too much is kept back");
            rest = after;
        }
        clean.extend(scrubber.finish());
        clean
    }

    fn percent(text: &str, is_escaped: impl Fn(u8) -> bool, upper: bool) -> String {
        let escape = |byte: u8| if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
        text.bytes().map(|byte| if is_escaped(byte) { escape(byte) } else { char::from(byte).to_string() }).collect()
    }

    fn mixed_case(text: &str) -> String {
        let turned = |(n, byte): (usize, u8)| if n % 3 == 0 { byte.to_ascii_uppercase() } else { byte };
        text.bytes().enumerate().map(turned).map(char::from).collect()
    }

    fn wrapped(text: &str) -> String {
        let lines: Vec<_> = text.as_bytes().chunks(7).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        lines.join("\r\n")
    }

    /// The secret as writers of all kinds would write it, with `before` and `after` encoded along with it.
    fn written(secret: &str, before: &str, after: &str) -> Vec<String> {
        let whole = format!("{before}{secret}{after}");
        let is_reserved = |byte: u8| !(byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
        let json = serde_json::Value::from(whole.as_str()).to_string();
        let mut forms = vec![
            whole.clone(),
            hex::encode(&whole),
            hex::encode_upper(&whole),
            mixed_case(&hex::encode(&whole)),
            mixed_case(&whole),
            percent(&whole, |_| true, true),
            percent(&whole, |_| true, false),
            percent(&whole, is_reserved, true),
            percent(&whole, |byte| is_reserved(byte) && byte != b'/', false),
            percent(&whole, is_reserved, true).replace("%20", "+"),
            percent(&whole, |byte| byte.is_ascii_digit() || byte == b'%', false),
            whole.bytes().map(|byte| format!("\\u{byte:04x}")).collect(),
            json.replace('/', "\\/"),
            percent(&STANDARD.encode(&whole), is_reserved, true),
            STANDARD.encode(&whole).replace('/', "\\/"),
            wrapped(&STANDARD.encode(&whole)),
            wrapped(&whole),
            json,
        ];
        forms.extend([STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].map(|engine| engine.encode(&whole)));
        forms
    }

    /// Whether a reader of any kind still finds the secret.
    fn is_found(secret: &str, text: &[u8]) -> bool {
        let has = |text: &[u8], part: &str| text.windows(part.len()).any(|window| window == part.as_bytes());
        let config = GeneralPurposeConfig::new().with_encode_padding(false).with_decode_allow_trailing_bits(true);
        let lenient =
            GeneralPurpose::new(&alphabet::STANDARD, config.with_decode_padding_mode(DecodePaddingMode::RequireNone));
        let decoded = |text: &[u8]| {
            let letters = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'\\');
            let letters: Vec<u8> = letters
                .map(|b| {
                    if b == b'-' {
                        b'+'
                    } else if b == b'_' {
                        b'/'
                    } else {
                        b
                    }
                })
                .collect();
            let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
            letters.split(|byte| !is_letter(byte)).any(|run| {
                (0..4).any(|skip| {
                    let run = run.get(skip..).unwrap_or_default();
                    // One letter alone is no byte.
                    let run = &run[..run.len() - usize::from(run.len() % 4 == 1)];
                    lenient.decode(run).is_ok_and(|bytes| has(&bytes, secret))
                })
            })
        };
        let mut readings: Vec<Vec<u8>> =
            Escapes::readings(text).map(|e| encodings::plain(text, e).bytes.to_vec()).collect();
        readings.push(text.to_vec());
        readings.iter().any(|text| {
            let (lower, secret_lower) = (text.to_ascii_lowercase(), secret.to_ascii_lowercase());
            let is_hex = has(&lower, &hex::encode(secret));
            is_hex || has(&lower, &secret_lower) || has(&lower, &secret_lower.replace(' ', "+")) || decoded(text)
        })
    }

    #[test]
    fn no_encoding_passes_wherever_the_stream_is_cut() {
        for seed in 1..=60_u64 {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let graphic: Vec<u8> = (b'!'..=b'~').collect();
            let alphabets: [&[u8]; 4] =
                [&graphic, b"abcdefghijklmnopqrstuvwxyz0123456789", b"a/+\"\\%=&b", b"ab cd 12"];
            let alphabet = alphabets[random.below(4)];
            let length = 8 + random.below(40);
            let secret = random.text(length, alphabet).replace(' ', "_ ");
            let secret = secret.trim();
            let patterns = patterns(secret);
            let (before, after) = (random.below(9), random.below(9));
            let (before, after) = (random.text(before, alphabet), random.text(after, alphabet));
            for (n, form) in written(secret, &before, &after).into_iter().enumerate() {
                let surrounding = random.below(1_200);
                let text =
                    format!("{}|{form}|{}", random.text(surrounding, b"zyx \n"), random.text(surrounding, b"zyx %"));
                assert!(is_found(secret, text.as_bytes()), "seed {seed}, form {n}: the test sees `{secret}` in {text}");
                let clean = scrubbed(&patterns, text.as_bytes(), &mut random);
                let told = String::from_utf8_lossy(&clean);
                assert!(!is_found(secret, &clean), "seed {seed}, form {n}: `{secret}` in {told}");
                assert!(told.contains("[secret:key]"), "seed {seed}, form {n}: {told}");
                assert_eq!(whole(&patterns, text.as_bytes()), clean, "seed {seed}, form {n}: in one piece");
                assert_eq!(patterns.contained(text.as_bytes()), Some("key"));
            }
        }
    }

    #[test]
    fn what_holds_no_secret_passes_unchanged() {
        for seed in 1..=300_u64 {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let secret = random.text(16, b"abcdefghijklmnopqrstuvwxyz0123456789");
            let text: Vec<u8> = (0..2_000).map(|_| u8::try_from(random.below(256)).unwrap_or(0)).collect();
            let near =
                [&text[..], &secret.as_bytes()[..15], b"%2", &text, b"|", &secret.as_bytes()[1..], b"\\u00"].concat();
            let patterns = patterns(&secret);
            assert!(scrubbed(&patterns, &near, &mut random) == near, "seed {seed}");
            assert_eq!(patterns.contained(&near), None, "seed {seed}");
        }
    }

    #[test]
    fn a_text_of_many_pieces_holds_none_wherever_it_stands() {
        let secret = "hunter2+/\"swordfish\"";
        let patterns = patterns(secret);
        for form in written(secret, "a", "b") {
            let around =
                |before: usize, after: usize| [&"x".repeat(before), form.as_str(), &"y".repeat(after)].concat();
            let clean = String::from_utf8(whole(&patterns, around(9, 9).as_bytes())).expect("it is text");
            assert!(!is_found(secret, clean.as_bytes()), "{clean}");
            // Around the end of the first piece, and within the last.
            for before in [PIECE_BYTES - form.len() - 1, PIECE_BYTES - form.len() / 2, PIECE_BYTES, 3 * PIECE_BYTES] {
                let text = around(before, 4 * PIECE_BYTES - before);
                let expected =
                    ["x".repeat(before - 9), clean.clone(), "y".repeat(4 * PIECE_BYTES - before - 9)].concat();
                assert!(whole(&patterns, text.as_bytes()) == expected.as_bytes(), "{before} bytes before {form}");
                assert_eq!(patterns.contained(text.as_bytes()), Some("key"), "{before} bytes before {form}");
            }
        }
        let none = "\\u0041%41\\\\\n".repeat(PIECE_BYTES / 4);
        assert_eq!(whole(&patterns, none.as_bytes()), none.as_bytes());
        assert_eq!(patterns.contained(none.as_bytes()), None);
    }

    #[test]
    fn the_head_of_a_text_is_that_of_the_whole_without_its_end() {
        let secret = "hunter2+/\"swordfish\"";
        let patterns = patterns(secret);
        let text = format!("{0}{0}{1} and {0}", percent(secret, |_| true, true), hex::encode(secret)).repeat(20);
        let clean = whole(&patterns, text.as_bytes());
        for bytes in 0..text.len() {
            for bytes_max in [0, 1, 200, 1_000] {
                let head = Scrubber::new(Some(patterns.clone())).head(&text.as_bytes()[..bytes], bytes_max);
                // A text that ends within a secret shows what there is of it: nobody can know how it goes on.
                if bytes > bytes_max + 2 * patterns.reach {
                    assert!(clean.starts_with(&head) && head.starts_with(b"[secret:key"), "{bytes} {bytes_max}");
                    assert!(head.len() >= clean.len().min(bytes_max / 12), "{bytes} {bytes_max}");
                }
            }
        }
        let plain = "x".repeat(5_000);
        let head = Scrubber::new(Some(patterns.clone())).head(plain.as_bytes(), 1_000);
        assert!(head.len() >= 1_000 && head.len() <= 1_000 + 2 * patterns.reach, "{}", head.len());
        assert_eq!(Scrubber::new(None).head(plain.as_bytes(), 1_000).len(), 1_000);
    }

    #[test]
    fn a_text_that_is_too_short_is_not_looked_at_and_the_shortest_is_found() {
        let patterns = patterns("12345678");
        assert!(patterns.is_too_short(b"1234567") && !patterns.is_too_short(b"12345678"));
        assert_eq!(
            (whole(&patterns, b"1234567"), whole(&patterns, b"12345678")),
            (b"1234567".into(), b"[secret:key]".into())
        );
    }

    #[test]
    fn only_what_is_not_left_out_is_looked_for() {
        let two = [("one", Secret::new("swordfish").unwrap()), ("two", Secret::new("fishmonger").unwrap())];
        let patterns = Patterns::new(two.iter().map(|(name, secret)| (*name, secret)));
        let without = patterns.without(&BTreeSet::from(["one"]));
        assert_eq!((without.contained(b"swordfish"), without.contained(b"fishmonger")), (None, Some("two")));
        assert_eq!(whole(&Arc::new(without), b"<swordfishmonger>"), b"<sword[secret:two]>");
        assert_eq!(patterns.contained(b"swordfish"), Some("one"));
    }

    #[test]
    fn forms_that_run_into_each_other_go_as_one() {
        let patterns = patterns("aaaaaaaa");
        let run = "a".repeat(5_000);
        let clean = scrubbed(&patterns, format!("<{run}>").as_bytes(), &mut Random(7));
        assert_eq!(String::from_utf8_lossy(&clean), "<[secret:key]>");
        let two = [("one", Secret::new("swordfish").unwrap()), ("two", Secret::new("fishmonger").unwrap())];
        let patterns = Arc::new(Patterns::new(two.iter().map(|(name, secret)| (*name, secret))));
        let clean = scrubbed(&patterns, b"<swordfishmonger|fishmonger>", &mut Random(7));
        assert_eq!(String::from_utf8_lossy(&clean), "<[secret:one]|[secret:two]>");
    }

    #[test]
    fn a_longest_secret_can_be_looked_for() {
        let secret = "0123456789abcdef".repeat(1_024);
        let patterns = patterns(&secret);
        let text = format!("<{}>", STANDARD.encode(&secret));
        let clean = scrubbed(&patterns, text.as_bytes(), &mut Random(7));
        assert!(clean.len() < 40, "{}", clean.len());
    }
}
