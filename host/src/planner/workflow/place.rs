//! Where in a text a value stands: from a JSON pointer to line and column, for each of the three formats.
//!
//! The texts were read before, so that they are known to be sound and not too deep. What is not there (a key that is
//! missing, a part of a value that an input brought) is where the nearest value around it is.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use toml::de::{DeTable, DeValue};

use crate::planner::workflow::read::{Format, position};

/// Returns line and column, from 1, of the value at `pointer`; nothing where the text has none.
pub(super) fn place(text: &str, format: Format, pointer: &str) -> Option<(usize, usize)> {
    let path: Vec<String> = pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
    match format {
        Format::Toml => in_toml(text, &path).and_then(|offset| position(text, offset)),
        Format::Json => position(text, in_json(text, &path)),
        Format::Yaml => in_yaml(text, &path),
    }
}

fn in_toml(text: &str, path: &[String]) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut offset = 0;
    let Some((first, rest)) = path.split_first() else { return Some(offset) };
    let Some((_, found)) = table.get_ref().iter().find(|(key, _)| key.get_ref() == first.as_str()) else {
        return Some(offset);
    };
    let mut value = found;
    offset = value.span().start;
    for part in rest {
        let next = match value.get_ref() {
            DeValue::Table(table) => table.iter().find(|(key, _)| key.get_ref() == part.as_str()).map(|(_, next)| next),
            DeValue::Array(items) => part.parse().ok().and_then(|n: usize| items.get(n)),
            _ => None,
        };
        let Some(next) = next else { break };
        value = next;
        offset = value.span().start;
    }
    Some(offset)
}

/// A walk over a JSON text that is known to be sound.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

fn in_json(text: &str, path: &[String]) -> usize {
    let mut scan = Scan { bytes: text.as_bytes(), at: 0 };
    scan.space();
    let mut found = scan.at;
    for part in path {
        let is_there = match scan.peek() {
            b'{' => scan.seek_field(part),
            b'[' => part.parse().is_ok_and(|n| scan.seek_item(n)),
            _ => false,
        };
        if !is_there {
            break;
        }
        found = scan.at;
    }
    found
}

impl Scan<'_> {
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or_default()
    }

    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\r' | b'\n' | b',' | b':') {
            self.at += 1;
        }
    }

    /// Goes to the value of a field, from the `{` of its object.
    fn seek_field(&mut self, name: &str) -> bool {
        self.at += 1;
        loop {
            self.space();
            let key = self.at;
            if self.peek() != b'"' {
                return false;
            }
            self.skip();
            let key = self.bytes.get(key..self.at).and_then(|key| serde_json::from_slice::<String>(key).ok());
            self.space();
            if key.as_deref() == Some(name) {
                return true;
            }
            self.skip();
        }
    }

    /// Goes to an item, from the `[` of its list.
    fn seek_item(&mut self, n: usize) -> bool {
        self.at += 1;
        self.space();
        for _ in 0..n {
            if matches!(self.peek(), b']' | 0) {
                return false;
            }
            self.skip();
            self.space();
        }
        !matches!(self.peek(), b']' | 0)
    }

    /// Goes behind the value that stands here.
    fn skip(&mut self) {
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                0 if self.at >= self.bytes.len() => return,
                b'"' => self.skip_text(),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    self.at += 1;
                }
                b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' if depth > 0 => self.at += 1,
                _ => self.skip_word(),
            }
            if depth == 0 {
                return;
            }
        }
    }

    fn skip_text(&mut self) {
        self.at += 1;
        while !matches!(self.peek(), b'"' | 0) {
            self.at += if self.peek() == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
    }

    /// A number, `true`, `false` or `null`.
    fn skip_word(&mut self) {
        self.at += 1;
        while !matches!(self.peek(), b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' | b'}' | b']' | b'{' | b'[' | b'"' | 0)
        {
            self.at += 1;
        }
    }
}

/// The parser tells where it is only when something fails: so it is made to fail at the value that is sought.
fn in_yaml(text: &str, path: &[String]) -> Option<(usize, usize)> {
    (0..=path.len()).rev().find_map(|length| located(text, path.get(..length)?))
}

fn located(text: &str, path: &[String]) -> Option<(usize, usize)> {
    let mut found = false;
    let error = Seek { path, found: &mut found }.deserialize(serde_norway::Deserializer::from_str(text)).err()?;
    found.then(|| error.location().map(|location| (location.line(), location.column()))).flatten()
}

/// Fails at the value at `path`, and notes that it got there.
struct Seek<'a> {
    path: &'a [String],
    found: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Seek<'_> {
    fn stop<E: Error>(self) -> Result<(), E> {
        if self.path.is_empty() {
            *self.found = true;
        }
        Err(E::custom("here"))
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.stop()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.stop()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.stop()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.stop()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.stop()
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.stop()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((part, rest)) = self.path.split_first() else { return self.stop() };
        let Ok(n) = part.parse::<usize>() else { return Err(A::Error::custom("here")) };
        for _ in 0..n {
            if seq.next_element::<IgnoredAny>()?.is_none() {
                return Err(A::Error::custom("here"));
            }
        }
        seq.next_element_seed(Seek { path: rest, found: self.found })?;
        Err(A::Error::custom("here"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((part, rest)) = self.path.split_first() else { return self.stop() };
        while let Some(key) = map.next_key::<String>()? {
            if key == *part {
                return map.next_value_seed(Seek { path: rest, found: self.found });
            }
            map.next_value::<IgnoredAny>()?;
        }
        Err(A::Error::custom("here"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks the place of each pointer in the text, which says the same in each format.
    #[track_caller]
    fn check(text: &str, format: Format, pointer: &str, expected: &str) {
        let (line, column) = place(text, format, pointer).unwrap();
        let rest: String = text.lines().nth(line - 1).unwrap().chars().skip(column - 1).collect();
        assert!(rest.starts_with(expected), "{pointer} is at {line}:{column}: `{rest}`");
    }

    #[test]
    fn a_pointer_leads_to_a_line_and_column() {
        let toml = "goal = 'g'\n\n[[steps]]\nid = 'a'\nargs = { \"ü\" = 1, list = [1, { x = 'deep' }] }\n\n[[steps]]\nid = 'b'\n[steps.retry]\nattempts_max = 5\n";
        for (pointer, expected) in [
            ("/goal", "'g'"),
            ("/steps/0/id", "'a'"),
            ("/steps/0/args/list/1/x", "'deep'"),
            ("/steps/0/args/list/7/x", "[1"),
            ("/steps/1/retry/attempts_max", "5"),
            ("/steps/1/id", "'b'"),
            ("/nothing", "goal"),
        ] {
            check(toml, Format::Toml, pointer, expected);
        }
        let yaml = "# A comment.\ngoal: g\nsteps:\n  - id: a\n    args: {ü: 1, list: [1, {x: deep}]}\n  - id: b\n    retry:\n      attempts_max: 5\n    when: >-\n      steps.a\n      == 1\n";
        for (pointer, expected) in [
            ("/goal", "g"),
            ("/steps/0", "id: a"),
            ("/steps/0/args/list/1/x", "deep"),
            ("/steps/0/args/list/7/x", "[1"),
            ("/steps/1/retry/attempts_max", "5"),
            ("/steps/1/when", ">-"),
            ("/steps/1/nothing", "id: b"),
        ] {
            check(yaml, Format::Yaml, pointer, expected);
        }
        let json = "{\n  \"goal\" : \"g \\\"{[\",\n  \"a/b\": [true, null, -1.5e3],\n  \"steps\": [{\"id\": \"a\", \"args\": {\"ü\": [], \"list\": [1, {\"x\": \"deep\"}]}},\n   {\"id\":\"b\"}]\n}\n";
        for (pointer, expected) in [
            ("", "{"),
            ("/goal", "\"g "),
            ("/a~1b/2", "-1.5e3"),
            ("/steps/0/args/list/1/x", "\"deep\""),
            ("/steps/0/args/list/7/x", "[1"),
            ("/steps/1/id", "\"b\""),
            ("/steps/2", "[{"),
        ] {
            check(json, Format::Json, pointer, expected);
        }
    }
}
