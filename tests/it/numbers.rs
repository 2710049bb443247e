//! `docs/numbers.md`, held: what it names is there, and the limits of a call have the defaults that it tells.

use std::fs;
use std::path::{Path, PathBuf};

use cofferdam::domain::Limits;

use crate::catalogue::sources;

#[test]
fn every_limit_of_a_call_stands_with_its_default() {
    let page = page();
    let limits = serde_json::to_value(Limits::default()).expect("limits are JSON");
    for (name, default) in limits.as_object().expect("limits are an object") {
        let row = format!("| `{name}` | {default} |");
        assert!(page.contains(&row), "docs/numbers.md lacks `{row}`");
    }
}

#[test]
fn every_name_is_one_of_the_code() {
    let code = ["host/src", "host/benches", "tool-sdk"].map(|folder| texts(&root().join(folder))).concat();
    for row in rows(&page()) {
        let name = row.split('`').nth(1).unwrap_or_default();
        assert!(name.is_empty() || code.contains(name), "`{name}` is not in the code: {row}");
    }
}

#[test]
fn every_hostile_test_is_there() {
    let hostile = texts(&root().join("tests/it"));
    let page = page();
    let named: Vec<&str> =
        rows(&page).filter_map(|row| row.rsplit('|').nth(1)).flat_map(|cell| cell.split('`')).collect();
    let named = named.into_iter().filter(|name| is_hostile(name)).collect::<Vec<_>>();
    assert!(named.len() > 10, "the names were found: {named:?}");
    for name in named {
        assert!(hostile.contains(&format!("fn {name}_")), "no hostile test `{name}_…`");
    }
}

/// A letter and a number, like `a17`.
fn is_hostile(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|c| c.is_ascii_lowercase())
        && name.len() > 1
        && characters.all(|c| c.is_ascii_digit())
}

fn rows(page: &str) -> impl Iterator<Item = &str> {
    page.lines().filter(|line| line.starts_with("| `"))
}

fn page() -> String {
    fs::read_to_string(root().join("docs/numbers.md")).expect("the page reads")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All Rust text below a folder.
fn texts(folder: &Path) -> String {
    sources(folder).into_iter().map(|(_, text)| text).collect()
}
