//! The forms in which a secret is looked for.
//!
//! All are looked for in upper and lower case alike: hexadecimal may be in both, and servers that fold case give the rest
//! of a value away. Some are texts of their own: the value, hexadecimal, base64 in either alphabet, at each of the three
//! places where it can begin within a longer encoded text. Others are ways to write any of these: percent-encoding and
//! JSON's escapes, whichever bytes they are used for, and line breaks in between. Those are undone while looking
//! ([`plain`]), so that no writer's choice of what to escape matters.

use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// Bytes that one byte may be written with: `\u0041`.
pub(super) const ESCAPE_BYTES_MAX: usize = 6;

/// Returns the texts that stand for `secret`.
pub(super) fn texts(secret: &str) -> Vec<Zeroizing<Vec<u8>>> {
    let bytes = secret.as_bytes();
    let mut texts = vec![bytes.to_vec(), hex::encode(bytes).into_bytes()];
    if secret.contains(' ') {
        // As forms write it.
        texts.push(secret.replace(' ', "+").into_bytes());
    }
    for before in 0..3 {
        texts.extend([STANDARD_NO_PAD, URL_SAFE_NO_PAD].map(|engine| base64_after(before, bytes, &engine)));
    }
    texts.sort();
    texts.dedup();
    texts.into_iter().map(Zeroizing::new).collect()
}

/// Returns the characters of base64 that `bytes` alone decide, where `before` bytes stand before them in their group of
/// three. What follows the bytes is in the last character otherwise.
fn base64_after(before: usize, bytes: &[u8], engine: &impl base64::Engine) -> Vec<u8> {
    let padded = Zeroizing::new([&[0; 2][..before], bytes].concat());
    let text = Zeroizing::new(engine.encode(&*padded));
    let (first, end) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
    text.as_bytes()[first..end].to_vec()
}

/// Text with its escapes undone, and where each of its bytes stands in the original.
pub(super) struct Plain {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Beginning and end, for each byte.
    pub(super) places: Vec<(usize, usize)>,
}

/// The escapes that are undone. A secret may itself look like an escape of another kind, so each is undone alone too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Escapes {
    percent: bool,
    json: bool,
}

impl Escapes {
    const ALL: Self = Self { percent: true, json: true };

    /// Returns the readings of `text` that may differ from what stands there.
    pub(super) fn readings(text: &[u8]) -> impl Iterator<Item = Self> {
        let (has_percent, has_backslash) = (text.contains(&b'%'), text.contains(&b'\\'));
        let has_break = text.iter().any(|byte| is_break(*byte));
        let all = [false, true].into_iter().flat_map(|json| [false, true].map(|percent| Self { percent, json }));
        all.filter(move |reading| {
            let is_possible = (has_percent || !reading.percent) && (has_backslash || !reading.json);
            is_possible && (has_break || reading.percent || reading.json)
        })
    }
}

/// Undoes `escapes` once and together, and leaves out line breaks.
pub(super) fn plain(text: &[u8], escapes: Escapes) -> Plain {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut places = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let (byte, length) = unit(&text[at..], escapes);
        if let Some(byte) = byte {
            bytes.push(byte);
            places.push((at, at + length));
        }
        at += length;
    }
    Plain { bytes, places }
}

/// Returns the last place at or before `at` where no escape is cut in two.
pub(super) fn boundary(text: &[u8], at: usize) -> usize {
    let mut boundary = 0;
    while boundary < at {
        let next = boundary + unit(&text[boundary..], Escapes::ALL).1;
        if next > at {
            break;
        }
        boundary = next;
    }
    boundary
}

/// Returns the byte that stands first in `text`, and how many it is written with; no byte for a line break.
fn unit(text: &[u8], escapes: Escapes) -> (Option<u8>, usize) {
    let escape = match text {
        [b'%', rest @ ..] if escapes.percent => hex_byte(rest, 2).map(|byte| (Some(byte), 3)),
        [b'\\', rest @ ..] if escapes.json => json_escape(rest),
        [byte, ..] if is_break(*byte) => Some((None, 1)),
        _ => None,
    };
    escape.unwrap_or((text.first().copied(), 1))
}

fn is_break(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r' | b'\t')
}

/// The same for what stands behind a backslash; JavaScript's `\x41` and `\'` are taken along.
fn json_escape(rest: &[u8]) -> Option<(Option<u8>, usize)> {
    match rest {
        [b'x', rest @ ..] => hex_byte(rest, 2).map(|byte| (Some(byte), 4)),
        [b'u', rest @ ..] => hex_byte(rest, 4).map(|byte| (Some(byte), ESCAPE_BYTES_MAX)),
        [b'n' | b'r' | b't', ..] => Some((None, 2)),
        [plain @ (b'"' | b'\\' | b'/' | b'\''), ..] => Some((Some(*plain), 2)),
        _ => None,
    }
}

/// Returns the byte that `digits` hexadecimal digits tell.
fn hex_byte(text: &[u8], digits: usize) -> Option<u8> {
    let mut digits = text.get(..digits)?.iter().map(|digit| char::from(*digit).to_digit(16));
    let value = digits.try_fold(0, |value, digit| Some(value * 16 + digit?))?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    #[test]
    fn base64_is_known_wherever_it_begins() {
        for before in 0..7 {
            for after in 0..4 {
                let text = [&b"user:xx"[..before], b"swordfish", &b"tail"[..after]].concat();
                let encoded = STANDARD_NO_PAD.encode(text);
                let is_known = texts("swordfish")
                    .iter()
                    .any(|text| encoded.as_bytes().windows(text.len()).any(|window| window == text.as_slice()));
                assert!(is_known, "{before} before, {after} after: {encoded}");
            }
        }
    }

    #[test]
    fn no_text_is_short_enough_to_stand_there_by_chance() {
        assert!(texts("12345678").iter().all(|text| text.len() >= 8));
    }

    #[test]
    fn a_reading_is_left_out_only_where_it_is_the_text_itself() {
        let all = [(false, false), (false, true), (true, false), (true, true)]
            .map(|(percent, json)| Escapes { percent, json });
        for text in ["plain", "%41", "\\u0041", "a\nb", "%41\\n", "%\n", "\\\n", "%\\\n"].map(str::as_bytes) {
            let texts = |readings: &mut dyn Iterator<Item = Escapes>| {
                let mut texts: Vec<_> = readings.map(|reading| plain(text, reading).bytes.to_vec()).collect();
                texts.push(text.to_vec());
                texts.sort();
                texts.dedup();
                texts
            };
            assert_eq!(texts(&mut Escapes::readings(text)), texts(&mut all.into_iter()));
        }
        assert_eq!(Escapes::readings(b"plain").count(), 0);
    }

    #[test]
    fn escapes_are_undone_once() {
        let undone = |text: &str| String::from_utf8(plain(text.as_bytes(), Escapes::ALL).bytes.to_vec()).unwrap();
        assert_eq!(undone(r#"a%2Fb%2fc\/\u0041\x41\"\\n"#), r#"a/b/c/AA"\n"#);
        assert_eq!(undone("%2541 %zz %4 \\u00 \\q"), "%41 %zz %4 \\u00 \\q");
        assert_eq!(undone("one\r\ntwo\\nthree"), "onetwothree");
        let plain = plain(b"a%41\nb", Escapes::ALL);
        assert_eq!((plain.bytes.as_slice(), plain.places), (&b"aAb"[..], vec![(0, 1), (1, 4), (5, 6)]));
    }
}
