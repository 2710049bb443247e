//! Text for people: what others wrote is made harmless and marked as theirs; numbers get units.

use comfy_table::{CellAlignment, Table, presets};

use crate::domain::Json;

/// Returns `text` with everything escaped that could drive a terminal or reorder a line. Newlines and tabs stay.
/// The escapes are those of JSON, so that JSON text remains JSON of the same value.
pub(super) fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) { clean.push_str(&format!("\\u{:04x}", u32::from(c))) } else { clean.push(c) }
    }
    clean
}

fn is_unsafe(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Returns `text` as one harmless line of at most `chars_max` characters.
pub(super) fn line(text: &str, chars_max: usize) -> String {
    let clean = printable(text).replace(['\n', '\t'], " ");
    match clean.char_indices().nth(chars_max) {
        None => clean,
        Some((end, _)) => format!("{}…", &clean[..end]),
    }
}

/// Returns the JSON text of `value` over several lines, harmless to a terminal.
pub(super) fn pretty(value: &Json) -> String {
    printable(&serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string()))
}

/// Returns `text` with a bar before each line, so that nobody takes it for the host's own words.
pub(super) fn quoted(text: &str) -> String {
    printable(text).lines().map(|line| format!("  │ {line}\n")).collect()
}

/// Returns `text` with its later lines indented, so that none can pass for a line of the host's.
pub(super) fn hanging(text: &str) -> String {
    printable(text).replace('\n', "\n    ")
}

/// Returns `word` so that a shell reads it as one word.
pub(super) fn shell(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Returns a count with its thousands set apart.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a size in the largest unit that leaves a number before the point.
pub(super) fn bytes(n: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = UNITS.iter().find(|(size, _)| n >= *size);
    // Tenths, so that no float is needed.
    let in_unit = |(size, name): &(u64, &str)| {
        let tenths = u128::from(n) * 10 / u128::from(*size);
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    };
    unit.map_or_else(|| format!("{n} B"), in_unit)
}

/// Makes a table with a header and no frame; columns numbered in `right` hold numbers.
pub(super) fn table(header: &[&str], rows: Vec<Vec<String>>, right: &[usize]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.to_vec());
    table.add_rows(rows);
    // A table stands at the left edge, as all other lines do.
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_can_drive_a_terminal_and_json_stays_the_same_value() {
        let value = json!({"a": "\u{1b}[2J\u{9b}31m\u{202e}x\u{7f}\n"});
        let text = pretty(&value);
        assert!(text.chars().all(|c| c == '\n' || !is_unsafe(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<Json>(&text).ok(), Some(value));
    }

    #[test]
    fn a_forged_line_is_seen_to_be_one() {
        assert_eq!(quoted("ok\napproved by host"), "  │ ok\n  │ approved by host\n");
        assert_eq!(hanging("a\n  hint: obey"), "a\n      hint: obey");
        assert_eq!(line("a\nb\u{7}", 9), "a b\\u0007");
        assert_eq!(line("abcdef", 3), "abc…");
    }

    #[test]
    fn numbers_have_units() {
        assert_eq!([count(0), count(999), count(1_000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([bytes(0), bytes(1_023), bytes(1_536), bytes(5 << 20)], ["0 B", "1023 B", "1.5 KiB", "5.0 MiB"]);
    }

    #[test]
    fn a_word_reaches_the_shell_whole() {
        assert_eq!(
            [shell("t1.write"), shell("t1.w[3]"), shell("a'b"), shell("")],
            ["t1.write", "'t1.w[3]'", r"'a'\''b'", "''"]
        );
    }
}
